//! A port that receives from one capture and sends into another.
//!
//! A capture carries its own time. The port delivers the frames up to an instant that its
//! owner sets, and stamps what it sends with that instant: so a turn driven by hand sees the
//! packets as they came, on any machine, as fast as it can.

use std::io::{Read, Write};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};

use crate::memory::{BUFFER, Buffer, HEADROOM, Recycler};
use crate::port::{Burst, Frame, Port, RxFlags};

/// Why a capture can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Not a capture, or damaged.
    #[error("packet {packet}: {source}")]
    Bad {
        /// Which packet, from 0; 0 also for the file's header.
        packet: u64,
        /// What is wrong with it.
        source: PcapError,
    },
    /// Not frames.
    #[error("the capture holds {0:?} packets; it must hold Ethernet frames")]
    NotEthernet(DataLink),
}

/// Reads one capture, writes another.
pub struct PcapPort<R: Read, W: Write> {
    incoming: PcapReader<R>,
    outgoing: PcapWriter<W>,
    next: Option<(Duration, Buffer)>,
    read: u64,
    now: Duration,
    recycler: Recycler,
    failed: Option<CaptureError>,
}

impl<R: Read, W: Write> PcapPort<R, W> {
    /// A port that reads `incoming` and writes `outgoing`, both in pcap format.
    ///
    /// # Errors
    /// `incoming` is no capture of Ethernet frames, or `outgoing` can't be written.
    pub fn new(incoming: R, outgoing: W) -> Result<Self, CaptureError> {
        let bad = |source| CaptureError::Bad { packet: 0, source };
        let incoming = PcapReader::new(incoming).map_err(bad)?;
        if incoming.header().datalink != DataLink::ETHERNET {
            return Err(CaptureError::NotEthernet(incoming.header().datalink));
        }
        let header = PcapHeader {
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let mut port = Self {
            incoming,
            outgoing: PcapWriter::with_header(outgoing, header).map_err(bad)?,
            next: None,
            read: 0,
            now: Duration::ZERO,
            recycler: Recycler::default(),
            failed: None,
        };
        port.read_ahead();
        Ok(port)
    }

    /// When the next frame came; `None` after the last one, or after the last one that could
    /// be read.
    pub fn next_at(&self) -> Option<Duration> {
        self.next.as_ref().map(|(at, _)| *at)
    }

    /// Lets the frames that came up to `now` be received.
    pub fn advance(&mut self, now: Duration) {
        self.now = now;
    }

    /// What went wrong while reading or writing, once.
    pub fn error(&mut self) -> Option<CaptureError> {
        self.failed.take()
    }

    fn read_ahead(&mut self) {
        let bad = |source| CaptureError::Bad {
            packet: self.read,
            source,
        };
        self.next = match self
            .incoming
            .next_packet()
            .map(|packet| packet.map_err(bad))
        {
            Some(Ok(packet)) => {
                self.read += 1;
                Some((packet.timestamp, fill(&self.recycler, &packet)))
            }
            Some(Err(error)) => {
                self.failed = Some(error);
                None
            }
            None => None,
        };
    }
}

/// A frame longer than a buffer is cut, and says so.
fn fill(recycler: &Recycler, packet: &PcapPacket<'_>) -> Buffer {
    let room = BUFFER - HEADROOM;
    let mut frame = recycler.fill(&packet.data[..packet.data.len().min(room)]);
    if packet.data.len() > room {
        frame.flags = RxFlags(RxFlags::SEGMENTED);
    }
    frame
}

impl<R: Read, W: Write> Port for PcapPort<R, W> {
    type Frame = Buffer;

    fn rx_burst(&mut self, burst: &mut Burst<Buffer>) -> usize {
        let before = burst.len();
        while !burst.is_full() && self.next_at().is_some_and(|at| at <= self.now) {
            burst.extend(self.next.take().map(|(_, frame)| frame));
            self.read_ahead();
        }
        burst.len() - before
    }

    fn tx_burst(&mut self, burst: &mut Burst<Buffer>) -> usize {
        let sent = burst.len();
        for frame in burst.drain(..) {
            let len = u32::try_from(frame.bytes().len()).expect("a buffer is small");
            let packet = PcapPacket::new(self.now, len, frame.bytes());
            if let Err(source) = self.outgoing.write_packet(&packet) {
                self.failed = Some(CaptureError::Bad { packet: 0, source });
            }
        }
        sent
    }

    fn alloc(&mut self) -> Option<Buffer> {
        Some(self.recycler.empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(frames: &[(u64, &[u8])]) -> Vec<u8> {
        let mut writer = PcapWriter::new(Vec::new()).expect("memory takes all");
        for &(ms, bytes) in frames {
            let len = u32::try_from(bytes.len()).expect("short");
            let packet = PcapPacket::new(Duration::from_millis(ms), len, bytes);
            writer.write_packet(&packet).expect("memory takes all");
        }
        writer.into_writer()
    }

    #[test]
    fn frames_come_when_their_time_has_come() {
        let file = capture(&[(1, &[1]), (1, &[2]), (5, &[3])]);
        let mut out = Vec::new();
        let mut port = PcapPort::new(&file[..], &mut out).expect("a good capture");
        let mut burst = Burst::new();
        assert_eq!(port.rx_burst(&mut burst), 0);
        port.advance(Duration::from_millis(1));
        assert_eq!(port.rx_burst(&mut burst), 2);
        assert_eq!(port.next_at(), Some(Duration::from_millis(5)));
        assert_eq!(port.tx_burst(&mut burst), 2);
        drop(port);
        let mut reader = PcapReader::new(&out[..]).expect("what we wrote");
        let first = reader.next_packet().expect("two frames").expect("whole");
        assert_eq!(
            (first.timestamp, &first.data[..]),
            (Duration::from_millis(1), &[1][..])
        );
    }

    #[test]
    fn a_cut_capture_gives_what_came_before() {
        let mut file = capture(&[(1, &[1, 2, 3, 4]), (2, &[5, 6, 7, 8])]);
        file.truncate(file.len() - 2);
        let mut port = PcapPort::new(&file[..], Vec::new()).expect("a good header");
        port.advance(Duration::from_secs(1));
        let mut burst = Burst::new();
        assert_eq!(port.rx_burst(&mut burst), 1);
        let error = port.error().expect("a complaint").to_string();
        assert!(error.starts_with("packet 1: "), "{error}");
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        assert!(PcapPort::new(&b"hello, world, hello, world"[..], Vec::new()).is_err());
    }
}
