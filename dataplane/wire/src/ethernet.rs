//! Ethernet II header (IEEE 802.3 section 3.1.1, the type interpretation).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::bytes::{Bytes, get, get16, put, put16};

/// Octets of the header.
pub const LEN: usize = 14;

/// A MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// No address: the target of an ARP request.
    pub const ZERO: Self = Self([0; 6]);

    /// The six octets as a number, the first the lowest: what is quickest to compare.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Where an IPv4 group's frames go (RFC 1112 section 6.4).
    pub const fn multicast_v4(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// Where an IPv6 group's frames go (RFC 2464 section 7).
    pub const fn multicast_v6(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// A group address; broadcast is one of them.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The broadcast address.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// An address that one station may own: not a group, not zero.
    #[inline]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

errors! {
    /// Why a text is not a MAC address.
    pub enum MacError {
        /// Not six pairs of hexadecimal digits with colons between.
        Form => "a MAC address is six pairs of hexadecimal digits, as in 02:00:00:00:00:01",
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().ok_or(MacError::Form)?;
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacError::Form);
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| MacError::Form)?;
        }
        if pairs.next().is_none() {
            Ok(Self(octets))
        } else {
            Err(MacError::Form)
        }
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// 802.1Q tag.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// 802.1ad service tag.
    pub const QINQ: Self = Self(0x88a8);
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

errors! {
    /// Why bytes are not an Ethernet frame.
    pub enum Error {
        /// Fewer than 14 octets.
        Truncated => "the frame is shorter than an Ethernet header",
    }
}

/// A frame with a whole header. The frame check sequence is not part of it.
#[derive(Debug)]
pub struct Frame<B: Bytes> {
    head: B::Array<LEN>,
    payload: B,
}

impl<B: Bytes> Frame<B> {
    /// Checks that the header is whole.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        let (head, payload) = bytes.split_array().ok_or(Error::Truncated)?;
        Ok(Self { head, payload })
    }

    /// Who it is for.
    #[inline]
    pub fn dst(&self) -> Mac {
        Mac(get(&*self.head, 0))
    }

    /// Who sent it.
    #[inline]
    pub fn src(&self) -> Mac {
        Mac(get(&*self.head, 6))
    }

    /// What it carries.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(get16(&self.head, 12))
    }

    /// What follows the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload for as long as the frame was borrowed.
    #[inline]
    pub fn into_payload(self) -> B {
        self.payload
    }
}

impl Frame<&mut [u8]> {
    /// Sets who it is for.
    #[inline]
    pub fn set_dst(&mut self, dst: Mac) {
        put(self.head, 0, dst.0);
    }

    /// Sets who sends it.
    #[inline]
    pub fn set_src(&mut self, src: Mac) {
        put(self.head, 6, src.0);
    }

    /// A new envelope, from `src` to `dst`.
    #[inline]
    pub fn set_macs(&mut self, src: Mac, dst: Mac) {
        self.set_dst(dst);
        self.set_src(src);
    }

    /// Sets what it carries.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) {
        put16(self.head, 12, ethertype.0);
    }

    /// What follows the header, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }
}

/// Writes a header.
#[inline]
pub fn emit(out: &mut [u8; LEN], src: Mac, dst: Mac, ethertype: EtherType) {
    Macs::new(src, dst).emit(out, ethertype);
}

/// Both MACs as they stand in a frame: read and written by two words, where six octets take two each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Macs([u8; 12]);

impl Macs {
    /// Those of a frame from `src` to `dst`.
    #[inline]
    pub const fn new(src: Mac, dst: Mac) -> Self {
        let [a, b, c, d, e, f] = dst.0;
        let [g, h, i, j, k, l] = src.0;
        Self([a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// Who sends.
    #[inline]
    pub const fn src(&self) -> Mac {
        let [.., a, b, c, d, e, f] = self.0;
        Mac([a, b, c, d, e, f])
    }

    /// To whom.
    #[inline]
    pub const fn dst(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.0;
        Mac([a, b, c, d, e, f])
    }

    /// Writes a header between them.
    #[inline(always)]
    pub fn emit(&self, out: &mut [u8; LEN], ethertype: EtherType) {
        self.put(out);
        put16(out, 12, ethertype.0);
    }

    /// Writes them at the start of a frame. Always called with one that has them.
    #[inline(always)]
    pub(crate) fn put(&self, frame: &mut [u8]) {
        put(frame, 0, get::<8>(&self.0, 0));
        put(frame, 8, get::<4>(&self.0, 8));
    }
}

impl fmt::Debug for Macs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.src(), self.dst())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn reads_and_rewrites() {
        let mut bytes = [0u8; 16];
        emit(bytes.first_chunk_mut().unwrap(), A, B, EtherType::IPV4);
        bytes[14] = 7;
        let mut frame = Frame::parse(&mut bytes[..]).unwrap();
        assert_eq!(
            (frame.src(), frame.dst(), frame.ethertype()),
            (A, B, EtherType::IPV4)
        );
        assert_eq!(frame.payload(), [7, 0]);
        frame.set_macs(B, Mac::BROADCAST);
        frame.set_ethertype(EtherType::ARP);
        frame.payload_mut()[1] = 9;
        let want = [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 2, 8, 6, 7, 9];
        assert_eq!(bytes, want);
    }

    #[test]
    fn short_frames() {
        for len in 0..LEN {
            assert_eq!(
                Frame::parse(&[0u8; LEN][..len]).unwrap_err(),
                Error::Truncated,
                "{len}"
            );
        }
        assert!(Frame::parse(&[0u8; LEN][..]).is_ok());
    }

    #[test]
    fn macs() {
        assert_eq!("02:00:00:00:00:01".parse(), Ok(A));
        assert_eq!(A.to_string().parse(), Ok(A));
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "+2:00:00:00:00:01",
            "zz:00:00:00:00:01",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(MacError::Form), "{bad}");
        }
        assert!(
            Mac::BROADCAST.is_multicast()
                && Mac::BROADCAST.is_broadcast()
                && !Mac::BROADCAST.is_unicast()
        );
        assert!(
            Mac([1, 0, 0x5e, 0, 0, 1]).is_multicast() && A.is_unicast() && !Mac::ZERO.is_unicast()
        );
    }
}
