//! Generic routing encapsulation (RFC 2784), as far as a tunnel of IP needs it: no key, no
//! sequence number (RFC 2890), no routing.
//!
//! ```text
//!  0                   1                   2                   3
//! |C|      reserved       | version |        protocol type        |
//! |        checksum, if C           |          reserved           |
//! ```

use crate::checksum;
use crate::ethernet::EtherType;

/// Octets of the header without a checksum.
pub const LEN: usize = 4;
/// Octets of the header with one.
pub const SUMMED_LEN: usize = 8;

const CHECKSUM_PRESENT: u16 = 0x8000;

errors! {
    /// Why bytes are no GRE packet that we could have sent.
    pub enum Error {
        /// Fewer octets than the header has.
        Truncated => "the packet is shorter than its GRE header",
        /// A version, or parts of a header, that a plain tunnel has not.
        Unknown => "the GRE header has more than a checksum",
    }
}

/// The start of a GRE packet; what is in it may be cut short, as ICMP errors quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Whether the header has a checksum. It is not compared: a quoted packet is not whole.
    pub summed: bool,
    /// What is inside.
    pub protocol: EtherType,
    /// The packet inside.
    pub inner: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let ([flags, version, high, low], rest) =
            bytes.split_first_chunk().ok_or(Error::Truncated)?;
        let summed = match u16::from_be_bytes([*flags, *version]) {
            0 => false,
            CHECKSUM_PRESENT => true,
            _ => return Err(Error::Unknown),
        };
        let skip = if summed { SUMMED_LEN - LEN } else { 0 };
        Ok(Self {
            summed,
            protocol: EtherType(u16::from_be_bytes([*high, *low])),
            inner: rest.get(skip..).ok_or(Error::Truncated)?,
        })
    }
}

/// Writes the header at the start of `packet`, before the packet of `protocol` that is there;
/// with `summed` its checksum, over all of `packet`. `None` where it has no room for that.
#[inline]
pub fn write(packet: &mut [u8], protocol: EtherType, summed: bool) -> Option<()> {
    let [high, low] = protocol.0.to_be_bytes();
    if !summed {
        *packet.first_chunk_mut()? = [0, 0, high, low];
        return Some(());
    }
    *packet.first_chunk_mut()? = [0x80, 0, high, low, 0, 0, 0, 0];
    let sum = checksum::of(packet).to_be_bytes();
    packet.get_mut(4..6)?.copy_from_slice(&sum);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain() {
        let mut packet = [1, 2, 3, 4, 0x45, 0];
        write(&mut packet, EtherType::IPV4, false).unwrap();
        assert_eq!(packet, [0, 0, 8, 0, 0x45, 0]);
        let read = Packet::parse(&packet).unwrap();
        assert_eq!((read.summed, read.protocol), (false, EtherType::IPV4));
        assert_eq!(read.inner, [0x45, 0]);
    }

    #[test]
    fn summed() {
        let mut packet = [0; 11];
        packet[8..].copy_from_slice(&[0x60, 1, 2]);
        write(&mut packet, EtherType::IPV6, true).unwrap();
        assert_eq!(packet[..4], [0x80, 0, 0x86, 0xdd]);
        assert_eq!(checksum::of(&packet), 0, "what it covers is intact");
        let read = Packet::parse(&packet).unwrap();
        assert_eq!((read.summed, read.inner), (true, &[0x60, 1, 2][..]));
    }

    #[test]
    fn malformed() {
        let cases: [(&[u8], Error); 6] = [
            (&[0, 0, 8], Error::Truncated),
            (&[0x80, 0, 8, 0, 0, 0, 0], Error::Truncated),
            (&[0x20, 0, 8, 0, 0, 0, 0, 0], Error::Unknown),
            (&[0x10, 0, 8, 0, 0, 0, 0, 0], Error::Unknown),
            (&[0x40, 0, 8, 0, 0, 0, 0, 0], Error::Unknown),
            (&[0, 1, 8, 0, 0, 0, 0, 0], Error::Unknown),
        ];
        for (bytes, want) in cases {
            assert_eq!(Packet::parse(bytes).unwrap_err(), want, "{bytes:?}");
        }
        assert_eq!(write(&mut [0; 3], EtherType::IPV4, false), None);
        assert_eq!(write(&mut [0; 7], EtherType::IPV4, true), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = Packet::parse(&bytes);
        }
    }
}
