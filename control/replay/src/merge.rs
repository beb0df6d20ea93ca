//! All captures as one stream, by time.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use dataplane::port::PortId;

use crate::capture::{Capture, CaptureError};
use crate::error::ReplayError;
use crate::time::Nanos;

/// One capture and where its packets come in.
struct Input {
    path: PathBuf,
    port: PortId,
    capture: Capture<File>,
}

/// The next packet of all captures.
pub(crate) struct Merge {
    inputs: Vec<Input>,
    /// The input whose packet is next.
    next: Option<usize>,
    /// Captures never go back in time: a packet that claims to be older than the one before it
    /// counts as of the same time.
    clock: Nanos,
    /// The first thing that could not be read.
    pub(crate) broken: Option<ReplayError>,
    /// Octets of all captures.
    pub(crate) size: u64,
}

impl Merge {
    /// Opens the captures: for each its file and its port.
    ///
    /// # Errors
    /// One that can't be opened. One that is no capture breaks at its beginning.
    pub(crate) fn open(files: Vec<(PathBuf, PortId)>) -> Result<Self, ReplayError> {
        let mut merge = Self {
            inputs: Vec::new(),
            next: None,
            clock: Nanos(0),
            broken: None,
            size: 0,
        };
        for (path, port) in files {
            let (file, size) = match open(&path) {
                Ok(opened) => opened,
                Err(error) => {
                    let error = error.into();
                    return Err(ReplayError::Capture { path, error });
                }
            };
            merge.size += size;
            match Capture::new(file) {
                Ok(capture) => merge.inputs.push(Input {
                    path,
                    port,
                    capture,
                }),
                Err(error) => merge.breaks(path, error),
            }
        }
        for at in (0..merge.inputs.len()).rev() {
            merge.advance(at);
        }
        merge.choose();
        Ok(merge)
    }

    /// When the next packet comes; none after the last.
    #[inline]
    pub(crate) fn at(&self) -> Option<Nanos> {
        let at = self.inputs[self.next?].capture.at()?;
        Some(at.max(self.clock))
    }

    /// The next packet: where it comes in, and its frame.
    #[inline]
    pub(crate) fn packet(&self) -> Option<(PortId, &[u8])> {
        let input = &self.inputs[self.next?];
        Some((input.port, input.capture.bytes()))
    }

    /// Goes on behind the next packet.
    pub(crate) fn pass(&mut self) {
        self.clock = self.at().unwrap_or(self.clock);
        if let Some(at) = self.next {
            self.advance(at);
        }
        self.choose();
    }

    /// Octets read so far.
    pub(crate) fn position(&self) -> u64 {
        let positions = self.inputs.iter().map(|input| input.capture.position());
        positions.sum()
    }

    /// The earliest; of equal ones the first.
    fn choose(&mut self) {
        if let ([only], true) = (&self.inputs[..], self.next.is_some()) {
            self.next = only.capture.at().map(|_| 0);
            return;
        }
        let times = self.inputs.iter().enumerate();
        let times = times.filter_map(|(at, input)| Some((input.capture.at()?, at)));
        self.next = times.min().map(|(_, at)| at);
    }

    /// Reads one capture on. One that breaks is over.
    fn advance(&mut self, at: usize) {
        let Input { path, capture, .. } = &mut self.inputs[at];
        if let Err(error) = capture.advance() {
            let path = path.clone();
            self.breaks(path, error);
        }
    }

    /// Notes what can't be read, unless something could not be before.
    fn breaks(&mut self, path: PathBuf, error: CaptureError) {
        self.broken
            .get_or_insert(ReplayError::Capture { path, error });
    }
}

fn open(path: &PathBuf) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
