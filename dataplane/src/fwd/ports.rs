//! New ports in a transport header.
//!
//! TCP and UDP owe their checksum for them, beside what addresses owe. SCTP's CRC covers no
//! address and is patched here, in a few instructions where the processor has them: it is linear, so
//! a packet that was damaged before us is so behind us. (Measured: 4.4 ns whatever the length; 70
//! to 140 ns without the instructions; 2.8 us to compute 1,400 octets anew by a table.)

use wire::Delta;
use wire::sctp::{self, shift};
use wire::segment::Segment;

/// A new source port, and what it owes.
#[inline(always)]
pub(super) fn set_src(segment: &mut Segment<&mut [u8]>, port: u16) -> Delta {
    match segment {
        Segment::Sctp(sctp) => patched(sctp, port, sctp.dst_port()),
        other => other.set_src_port(port),
    }
}

/// A new destination port, and what it owes.
#[inline(always)]
pub(super) fn set_dst(segment: &mut Segment<&mut [u8]>, port: u16) -> Delta {
    match segment {
        Segment::Sctp(sctp) => patched(sctp, sctp.src_port(), port),
        other => other.set_dst_port(port),
    }
}

/// New ports on both sides, and what they owe.
#[inline(always)]
pub(super) fn set_both(segment: &mut Segment<&mut [u8]>, src: u16, dst: u16) -> Delta {
    match segment {
        Segment::Sctp(sctp) => patched(sctp, src, dst),
        other => other.set_src_port(src).and(other.set_dst_port(dst)),
    }
}

#[cold]
#[inline(never)]
fn patched(sctp: &mut sctp::Packet<&mut [u8]>, src: u16, dst: u16) -> Delta {
    sctp.set_ports((src, dst), |crc, len| {
        arch::crc32c_shift(crc, len).unwrap_or_else(|| shift(crc, len))
    });
    Delta::NONE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::build;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_instruction_agrees_with_the_table(crc: u32, len in 0..70_000usize) {
            let by_table = shift(crc, len);
            prop_assert_eq!(arch::crc32c_shift(crc, len).unwrap_or(by_table), by_table);
        }

        /// Patched is built anew, by code that computes a CRC bit by bit; damage stays.
        #[test]
        fn patched_is_built_anew(
            ports in any::<[u16; 4]>(), tag: u32, which in 0..3,
            data in proptest::collection::vec(any::<u8>(), 0..300), damaged: bool,
        ) {
            let built = |src, dst| {
                let packet = build::sctp(src, dst).tag(tag).chunk(0, &data);
                if damaged { packet.bad_checksum() } else { packet }.bytes()
            };
            let mut bytes = built(ports[0], ports[1]);
            let mut segment = Segment::parse(wire::Protocol::SCTP, &mut bytes[..]).expect("whole");
            let (src, dst) = match which {
                0 => (ports[2], ports[1]),
                1 => (ports[0], ports[3]),
                _ => (ports[2], ports[3]),
            };
            let owed = match which {
                0 => set_src(&mut segment, src),
                1 => set_dst(&mut segment, dst),
                _ => set_both(&mut segment, src, dst),
            };
            segment.settle(owed);
            prop_assert_eq!(&bytes, &built(src, dst));
            let intact = sctp::Packet::parse(&bytes[..]).expect("whole").verify_checksum();
            prop_assert_eq!(intact, !damaged);
        }
    }
}
