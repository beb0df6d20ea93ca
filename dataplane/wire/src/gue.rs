//! Generic UDP encapsulation, version 0 (draft-ietf-intarea-gue-09), as Linux speaks it.
//!
//! ```text
//!  0                   1                   2                   3
//! | 0 |C|  hlen   |   protocol    |            flags            |P|
//! |R|                     private flags, if P                     |
//! |        start, if R            |         field, if R           |
//! ```
//!
//! `hlen` counts 32-bit words after the first. The private flag R is remote checksum offload
//! (draft-herbert-remotecsumoffload): the receiver computes the checksum of what begins at
//! `start` in the inner packet and stores it at `field`; until then the sum of the
//! pseudo-header is there. The outer UDP checksum covers it all.

use crate::ip::Protocol;

/// Octets of the header without options.
pub const LEN: usize = 4;
/// Octets of the header with a remote checksum.
pub const REMOTE_LEN: usize = 12;

const PRIVATE: u16 = 1;
const REMOTE: u32 = 1 << 31;

/// Where a receiver finds what it is to sum, and where to store that: octets from the start of
/// the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The transport header.
    pub start: u16,
    /// Its checksum.
    pub field: u16,
}

errors! {
    /// Why bytes are no GUE packet that we could have sent.
    pub enum Error {
        /// Fewer octets than the header has.
        Truncated => "the packet is shorter than its GUE header",
        /// Another version, a control message, or options that we don't write.
        Unknown => "the GUE header is none of ours",
    }
}

/// The start of a GUE packet; what is in it may be cut short, as ICMP errors quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What is inside.
    pub protocol: Protocol,
    /// Whether a checksum is left to the receiver.
    pub remote: Option<Remote>,
    /// The packet inside.
    pub inner: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let ([hlen, protocol, high, low], rest) =
            bytes.split_first_chunk().ok_or(Error::Truncated)?;
        let (remote, inner) = match (*hlen, u16::from_be_bytes([*high, *low])) {
            (0, 0) => (None, rest),
            (2, PRIVATE) => remote(rest)?,
            _ => return Err(Error::Unknown),
        };
        Ok(Self {
            protocol: Protocol(*protocol),
            remote,
            inner,
        })
    }
}

fn remote(bytes: &[u8]) -> Result<(Option<Remote>, &[u8]), Error> {
    let (flags, rest) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
    let ([a, b, c, d], inner) = rest.split_first_chunk().ok_or(Error::Truncated)?;
    if u32::from_be_bytes(*flags) != REMOTE {
        return Err(Error::Unknown);
    }
    let remote = Remote {
        start: u16::from_be_bytes([*a, *b]),
        field: u16::from_be_bytes([*c, *d]),
    };
    Ok((Some(remote), inner))
}

/// Writes the header at the start of `packet`; `None` where there is no room for it.
#[inline]
pub fn write(packet: &mut [u8], protocol: Protocol, remote: Option<Remote>) -> Option<()> {
    let Some(remote) = remote else {
        *packet.first_chunk_mut()? = [0, protocol.0, 0, 0];
        return Some(());
    };
    let [a, b] = remote.start.to_be_bytes();
    let [c, d] = remote.field.to_be_bytes();
    *packet.first_chunk_mut()? = [2, protocol.0, 0, 1, 0x80, 0, 0, 0, a, b, c, d];
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain() {
        let mut packet = [9, 9, 9, 9, 0x45];
        write(&mut packet, Protocol::IPIP, None).unwrap();
        assert_eq!(packet, [0, 4, 0, 0, 0x45]);
        let read = Packet::parse(&packet).unwrap();
        assert_eq!((read.protocol, read.remote), (Protocol::IPIP, None));
        assert_eq!(read.inner, [0x45]);
    }

    #[test]
    fn remote_checksum() {
        let mut packet = [0; 13];
        let remote = Some(Remote {
            start: 20,
            field: 36,
        });
        write(&mut packet, Protocol::IPV6, remote).unwrap();
        assert_eq!(packet, [2, 41, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36, 0]);
        let read = Packet::parse(&packet).unwrap();
        assert_eq!((read.remote, read.inner), (remote, &[0][..]));
    }

    #[test]
    fn malformed() {
        let cases: [(&[u8], Error); 7] = [
            (&[0, 4, 0], Error::Truncated),
            (&[2, 4, 0, 1, 0x80, 0, 0], Error::Truncated),
            (&[2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0], Error::Truncated),
            (&[2, 4, 0, 1, 0xc0, 0, 0, 0, 0, 20, 0, 36], Error::Unknown),
            (&[0x40, 4, 0, 0], Error::Unknown),
            (&[0x20, 4, 0, 0], Error::Unknown),
            (&[0, 4, 0, 2], Error::Unknown),
        ];
        for (bytes, want) in cases {
            assert_eq!(Packet::parse(bytes).unwrap_err(), want, "{bytes:?}");
        }
        assert_eq!(write(&mut [0; 3], Protocol::IPIP, None), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Packet::parse(&bytes);
        }
    }
}
