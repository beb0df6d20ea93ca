//! Captures (pcap, microseconds, Ethernet): a packet of each flow in random order, and reading what
//! came out.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use dataplane::port::Frame;
use wire::tcp::Flags;

use crate::case::Family;
use crate::flows::{Ends, Template};
use crate::frame::BenchFrame;

const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
/// Octets before the first packet, and before each.
const FILE_HEADER: usize = 24;
const HEADER: usize = 16;

/// All flows below `flows`, in an order that no prefetcher learns.
pub fn order(flows: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..flows).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for left in (1..order.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = random % (left as u64 + 1);
        order.swap(left, usize::try_from(other).expect("an index"));
    }
    order
}

/// Writes a segment of each of these flows, from their clients, over IPv4.
///
/// # Errors
/// The system's.
pub fn write(file: &Path, flows: &[u32]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for word in [MAGIC, 4 << 16 | 2, 0, 0, 65_535, ETHERNET] {
        out.write_all(&word.to_ne_bytes())?;
    }
    let template = Template::new(Family::V4, Ends::of_client(0), Flags::ACK);
    let mut frame = BenchFrame::empty();
    for &flow in flows {
        template.write(&mut frame, Ends::of_client(flow));
        let bytes = frame.bytes();
        let len = u32::try_from(bytes.len()).expect("short");
        for word in [0, 0, len, len] {
            out.write_all(&word.to_ne_bytes())?;
        }
        out.write_all(bytes)?;
    }
    out.flush()
}

/// The frames of a capture that this machine wrote.
///
/// # Errors
/// The system's, or it is none.
pub fn read(file: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    BufReader::new(File::open(file)?).read_to_end(&mut bytes)?;
    let word = |at: usize| -> Option<u32> {
        let four = bytes.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_ne_bytes(*four))
    };
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "no whole capture");
    let magic = word(0).ok_or_else(cut)?;
    // The same with nanoseconds, which DPDK writes.
    if magic != MAGIC && magic != 0xa1b2_3c4d {
        return Err(cut());
    }
    let (mut at, mut frames) = (FILE_HEADER, Vec::new());
    while let Some(len) = word(at + 8) {
        let start = at + HEADER;
        at = start + usize::try_from(len).map_err(|_| cut())?;
        frames.push(bytes.get(start..at).ok_or_else(cut)?.to_vec());
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let folder = std::env::temp_dir().join(format!("bench-trace-{}", std::process::id()));
        let order = order(100);
        write(&folder, &order).expect("a temporary file");
        let frames = read(&folder).expect("the same file");
        std::fs::remove_file(&folder).expect("it is there");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(order, sorted);
        assert!(frames.len() == 100 && frames.iter().all(|frame| frame.len() == 60));
        let port = 1024 + u16::try_from(order[7]).expect("below 100");
        assert_eq!(frames[7][34..36], port.to_be_bytes());
    }
}
