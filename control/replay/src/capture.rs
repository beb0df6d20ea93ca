//! Captures: pcap and pcapng, read as a stream in bounded memory.
//!
//! This is a reader of our own because a replay takes what other readers refuse: frames longer
//! than they say they were, lengths beyond the file's own limit, the timestamps of pcapng in the
//! resolution that its interface names. And it says at which byte a damaged file is damaged.

mod pcap;
mod pcapng;
mod stream;

use std::io::{self, Read};

use crate::time::Nanos;
use pcapng::Section;
use stream::Stream;

/// Octets of one frame at most: what tcpdump, too, takes for damage beyond that.
const LONGEST: usize = 262_144;
/// The link type of Ethernet.
const ETHERNET: u32 = 1;

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system can't read it.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// Neither pcap nor pcapng.
    #[error("not a capture: it begins neither as pcap nor as pcapng")]
    Unknown,
    /// It ends in the middle of something.
    #[error("packet {packet}, at byte {at}: the capture is cut short here")]
    Truncated {
        /// The packet that is not all there, from 0.
        packet: u64,
        /// Where in the file it, or its block, begins.
        at: u64,
    },
    /// It contradicts itself.
    #[error("packet {packet}, at byte {at}: the capture is damaged: {what}")]
    Damaged {
        /// The packet that can't be read, from 0.
        packet: u64,
        /// Where in the file it, or its block, begins.
        at: u64,
        /// What can't be.
        what: String,
    },
    /// Frames of another kind of network.
    #[error("packet {packet}: its link type is {link}; only Ethernet (1) can be replayed")]
    NotEthernet {
        /// The first such packet, from 0.
        packet: u64,
        /// The link type (tcpdump's registry).
        link: u32,
    },
}

/// A packet's place in the stream's buffer, and its time.
#[derive(Clone, Copy, Debug)]
struct Head {
    at: Nanos,
    /// Octets from the buffer's first to the frame's first.
    from: usize,
    len: usize,
    /// Octets of the whole record.
    record: usize,
}

enum Format {
    Pcap(pcap::Header),
    Ng(Section),
}

/// One capture, at one of its packets.
pub struct Capture<R: Read> {
    stream: Stream<R>,
    format: Format,
    packets: u64,
    head: Option<Head>,
}

impl<R: Read> Capture<R> {
    /// Reads up to the first packet.
    ///
    /// # Errors
    /// It is no capture of Ethernet frames; or see [`CaptureError`].
    pub fn new(reader: R) -> Result<Self, CaptureError> {
        let mut stream = Stream::new(reader);
        let format = match stream.want(4)? {
            [0x0a, 0x0d, 0x0d, 0x0a] => Format::Ng(Section::default()),
            _ => Format::Pcap(pcap::Header::read(&mut stream)?),
        };
        Ok(Self {
            stream,
            format,
            packets: 0,
            head: None,
        })
    }

    /// Goes on to the next packet; `false`: there is none.
    ///
    /// # Errors
    /// The file ends inside it, or is damaged. Nothing can be read from then on.
    pub fn advance(&mut self) -> Result<bool, CaptureError> {
        if let Some(head) = self.head.take() {
            self.stream.skip(head.record as u64)?;
            self.packets += 1;
        }
        self.head = match &mut self.format {
            Format::Pcap(header) => header.packet(&mut self.stream, self.packets)?,
            Format::Ng(section) => section.packet(&mut self.stream, self.packets)?,
        };
        Ok(self.head.is_some())
    }

    /// When the packet came.
    pub fn at(&self) -> Option<Nanos> {
        self.head.map(|head| head.at)
    }

    /// The packet's frame, as much of it as was captured.
    pub fn bytes(&self) -> &[u8] {
        match self.head {
            Some(Head { from, len, .. }) => &self.stream.ready()[from..from + len],
            None => &[],
        }
    }

    /// Octets of the file up to the packet.
    pub fn position(&self) -> u64 {
        self.stream.position()
    }
}
