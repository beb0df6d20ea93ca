//! What the ports send: one capture each, with nanoseconds.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::ReplayError;
use crate::time::Nanos;

/// Octets gathered before they are written.
const CHUNK: usize = 1 << 18;
/// The classic format with nanoseconds, version 2.4, Ethernet, little-endian everywhere: the same
/// bytes on every machine.
const HEADER: [u32; 6] = [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 262_144, 1];

/// One `PORT.pcap`.
#[derive(Debug)]
pub(crate) struct Sent {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl Sent {
    /// Makes `name.pcap` in `folder`.
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self, ReplayError> {
        let path = path(folder, name);
        let file = File::create(&path).map_err(|error| ReplayError::output(&path, error))?;
        let mut sent = Self {
            path,
            writer: BufWriter::with_capacity(CHUNK, file),
        };
        let header: Vec<u8> = HEADER.iter().flat_map(|word| word.to_le_bytes()).collect();
        sent.put(&header)?;
        Ok(sent)
    }

    /// Adds a frame.
    pub(crate) fn write(&mut self, at: Nanos, bytes: &[u8]) -> Result<(), ReplayError> {
        let (seconds, part) = at.split();
        let (Ok(seconds), Ok(part)) = (u32::try_from(seconds), u32::try_from(part)) else {
            let text = format!("{at} s is past what a capture can say");
            return Err(ReplayError::output(&self.path, io::Error::other(text)));
        };
        let len = u32::try_from(bytes.len()).expect("a buffer is small");
        let mut head = [0; 16];
        for (place, word) in head.chunks_exact_mut(4).zip([seconds, part, len, len]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.put(&head)?;
        self.put(bytes)
    }

    /// Writes what is still in memory.
    pub(crate) fn finish(mut self) -> Result<(), ReplayError> {
        let flushed = self.writer.flush();
        flushed.map_err(|error| ReplayError::output(&self.path, error))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ReplayError> {
        let written = self.writer.write_all(bytes);
        written.map_err(|error| ReplayError::output(&self.path, error))
    }
}

/// The file of the port `name`.
pub(crate) fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pcap"))
}
