//! Packets written as one says them: `ip(CLIENT, VIP).ttl(63).with(tcp(31337, 80).syn())`.
//!
//! For tests, benches and frames of control's own making; it allocates, so it has no place on a
//! worker. Checksums are added up here the slow way, 16 bits at a time, with nothing of
//! [`checksum`](crate::checksum) in it: a test that compares a rewritten packet with one built
//! here compares two ways of computing.
//!
//! ```
//! use wire::build::{ip, tcp};
//! use wire::{Mac, ethernet};
//!
//! let frame = ip([192, 0, 2, 7], [10, 0, 0, 1]).with(tcp(40000, 80).syn()).ether(Mac::ZERO, Mac::BROADCAST).bytes();
//! assert_eq!(ethernet::Frame::parse(&frame[..])?.payload().len(), 40);
//! # Ok::<(), ethernet::Error>(())
//! ```

mod body;
mod frame;
mod icmp;
mod packet;
mod sctp;
mod tcp;
mod udp;

pub use body::Body;
pub use frame::{Frame, ether};
pub use icmp::{Icmp, echo_reply, echo_request, icmp};
pub use packet::{Packet, ip};
pub use sctp::{Sctp, sctp};
pub use tcp::{Tcp, tcp};
pub use udp::{Udp, udp};

/// The Internet checksum of `bytes`, as RFC 1071 states it.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded after every addition")
}

/// A length as a header's 16 bits have room for it.
fn len16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
