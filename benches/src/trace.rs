//! Captures (pcap, microseconds, Ethernet): packets of flows in random order, and reading what came
//! out.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use dataplane::port::Frame;

use crate::frame::BenchFrame;
use crate::source::{Drawn, Source};

const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
/// Octets before the first packet, and before each.
const FILE_HEADER: usize = 24;
const HEADER: usize = 16;

/// So many frames, in turn of `flows` flows' clients, in an order that no prefetcher learns.
pub fn forward(flows: u32, frames: u32) -> Vec<Drawn> {
    let drawn = |number| Drawn {
        flow: number % flows,
        reverse: false,
    };
    order(frames).into_iter().map(drawn).collect()
}

/// A frame of each flow's client and one of its real server, in an order that no prefetcher learns,
/// but that a flow's client comes first: who reads it opens a flow before its reply.
pub fn both(flows: u32) -> Vec<Drawn> {
    let mut open = vec![false; flows as usize];
    let drawn = |number| {
        let flow = number / 2;
        let reverse = std::mem::replace(&mut open[flow as usize], true);
        Drawn { flow, reverse }
    };
    order(2 * flows).into_iter().map(drawn).collect()
}

/// All numbers below `count`.
fn order(count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
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

/// Writes these packets of `source`.
///
/// # Errors
/// The system's.
pub fn write(file: &Path, source: &Source, packets: &[Drawn]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for word in [MAGIC, 4 << 16 | 2, 0, 0, 65_535, ETHERNET] {
        out.write_all(&word.to_ne_bytes())?;
    }
    let mut frame = BenchFrame::empty();
    for &drawn in packets {
        source.write(&mut frame, drawn);
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
    use crate::case::{Case, Direction, Family, Mode};
    use crate::flows::Learned;

    fn written(name: &str, source: &Source, packets: &[Drawn]) -> Vec<Vec<u8>> {
        let name = format!("bench-trace-{name}-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        write(&file, source, packets).expect("a temporary file");
        let frames = read(&file).expect("the same file");
        std::fs::remove_file(&file).expect("it is there");
        frames
    }

    #[test]
    fn what_was_written_is_read() {
        for (family, len, port) in [(Family::V4, 60, 34), (Family::V6, 74, 54)] {
            let case = Case {
                family,
                ..Case::PLAIN
            };
            let packets = forward(100, 200);
            let source = Source::new(case, 100);
            let frames = written(&format!("{family:?}"), &source, &packets);
            let mut flows: Vec<_> = packets.iter().map(|drawn| drawn.flow).collect();
            let own = 1024 + u16::try_from(flows[7]).expect("below 100");
            assert!(frames.len() == 200 && frames.iter().all(|frame| frame.len() == len));
            assert_eq!(frames[7][port..port + 2], own.to_be_bytes());
            assert!(!flows.is_sorted());
            flows.sort_unstable();
            let twice = (0..100).flat_map(|flow| [flow, flow]);
            assert!(flows.into_iter().eq(twice));
        }
    }

    #[test]
    fn a_flow_is_open_before_its_reply_comes() {
        let case = Case {
            mode: Mode::Nat,
            direction: Direction::Both,
            ..Case::PLAIN
        };
        let mut source = Source::new(case, 100);
        for flow in 0..100 {
            let real = u8::try_from(flow % 16).expect("below 16");
            let learned = Learned {
                real,
                ..Learned::default()
            };
            source.know(flow, learned);
        }
        let packets = both(100);
        let frames = written("both", &source, &packets);
        let mut open = [0; 100];
        for (drawn, frame) in packets.iter().zip(&frames) {
            let before = &mut open[drawn.flow as usize];
            assert_eq!(
                *before,
                u32::from(drawn.reverse),
                "the client's comes first"
            );
            *before += 1;
            if drawn.reverse {
                let real = u8::try_from(drawn.flow % 16).expect("below 16");
                assert_eq!(frame[26..30], [10, 1, 0, real]);
            }
        }
        assert_eq!(open, [2; 100]);
        // Neither kind in a run: a flow's two packets are anywhere.
        let first = packets[..100].iter().filter(|drawn| drawn.reverse);
        assert!((10..40).contains(&first.count()));
    }
}
