//! Captures: pcap and pcapng, read at once and in morsels.

use std::io::{self, Read};

use replay::capture::Capture;

/// Octets of one frame at most.
const LONGEST: usize = 262_144;

/// Reads a capture to its end, or to where it is damaged.
///
/// # Panics
/// If that never comes, or if it matters how much the system gives at a time.
pub fn run(data: &[u8]) {
    let whole = read(data, data.len());
    let morsels = read(Morsels(data), data.len());
    assert_eq!(whole, morsels, "at once and in morsels");
}

/// Gives seven octets at a time.
struct Morsels<'a>(&'a [u8]);

impl Read for Morsels<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = out.len().min(7);
        self.0.read(&mut out[..room])
    }
}

/// A line for each packet, and one for the error if there is one.
fn read(reader: impl Read, size: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut capture = match Capture::new(reader) {
        Ok(capture) => capture,
        Err(error) => return vec![error.to_string()],
    };
    let mut position = 0;
    loop {
        match capture.advance() {
            Ok(true) => {
                let bytes = capture.bytes();
                assert!(bytes.len() <= LONGEST.min(size));
                assert!(lines.is_empty() || capture.position() > position);
                position = capture.position();
                lines.push(format!("{:?} {bytes:?}", capture.at()));
                assert!(lines.len() <= size, "more packets than octets");
            }
            Ok(false) => return lines,
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains('\n'), "{text:?}");
                lines.push(text);
                return lines;
            }
        }
    }
}
