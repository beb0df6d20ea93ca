//! A file as a window that moves on: never more of it in memory than one record needs.

use std::io::{self, ErrorKind, Read};

/// Octets read at a time.
const CHUNK: usize = 1 << 18;

pub(super) struct Stream<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    position: u64,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            position: 0,
        }
    }

    /// Octets of the file before the window.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// What of the file is in memory.
    pub(super) fn ready(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The next `n` octets, or as many as the file still has.
    #[inline]
    pub(super) fn want(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.end - self.start < n {
            self.fill(n)?;
        }
        let ready = &self.buffer[self.start..self.end];
        Ok(&ready[..n.min(ready.len())])
    }

    #[cold]
    fn fill(&mut self, n: usize) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < n {
            self.buffer.resize(n, 0);
        }
        while self.end < n {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves on by `n` octets, at most to the end; says by how many.
    #[inline]
    pub(super) fn skip(&mut self, n: u64) -> io::Result<u64> {
        let mut left = n;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let step = step.min(self.want(step)?.len());
            if step == 0 {
                break;
            }
            self.start += step;
            self.position += step as u64;
            left -= step as u64;
        }
        Ok(n - left)
    }
}

/// Integers in the byte order of the machine that wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    #[inline]
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let octets = octets(bytes, at);
        match self {
            Self::Little => u16::from_le_bytes(octets),
            Self::Big => u16::from_be_bytes(octets),
        }
    }

    #[inline]
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let octets = octets(bytes, at);
        match self {
            Self::Little => u32::from_le_bytes(octets),
            Self::Big => u32::from_be_bytes(octets),
        }
    }

    pub(super) fn i64(self, bytes: &[u8], at: usize) -> i64 {
        let octets = octets(bytes, at);
        match self {
            Self::Little => i64::from_le_bytes(octets),
            Self::Big => i64::from_be_bytes(octets),
        }
    }
}

#[inline]
fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N octets were cut out")
}
