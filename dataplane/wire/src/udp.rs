//! UDP header (RFC 768).

use std::net::IpAddr;

use crate::bytes::{Bytes, get16, put16};
use crate::checksum::{self, Delta};
use crate::ip::Protocol;

/// Octets of the header.
pub const LEN: usize = 8;

errors! {
    /// Why bytes are not a UDP datagram.
    pub enum Error {
        /// Fewer than 8 octets.
        Truncated => "the datagram is shorter than a UDP header",
        /// The length does not even cover the header. Zero, a jumbogram's (RFC 2675), is one.
        Length => "the UDP length is shorter than the header",
        /// The datagram claims more octets than the packet has.
        PastPacket => "the UDP length runs past the packet",
    }
}

/// A well-formed UDP datagram.
#[derive(Debug)]
pub struct Packet<B: Bytes> {
    head: B::Array<LEN>,
    payload: B,
}

impl Clone for Packet<&[u8]> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Packet<&[u8]> {}

impl<B: Bytes> Packet<B> {
    /// Checks the length against the packet. Octets past it are cut off.
    ///
    /// # Errors
    /// One [`Error`] for each malformation.
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        let (packet, len) = Self::head(bytes)?;
        let (payload, _surplus) = packet.payload.split(len).ok_or(Error::PastPacket)?;
        Ok(Self {
            head: packet.head,
            payload,
        })
    }

    /// As [`parse`](Self::parse) for a first fragment, whose length counts what later fragments
    /// carry: the payload is what is there.
    ///
    /// # Errors
    /// One [`Error`] for each malformation.
    #[inline]
    pub fn parse_first_fragment(bytes: B) -> Result<Self, Error> {
        Self::head(bytes).map(|(packet, _)| packet)
    }

    /// The packet with all that follows its header, and how much should follow.
    #[inline]
    fn head(bytes: B) -> Result<(Self, usize), Error> {
        let (head, payload) = bytes.split_array::<LEN>().ok_or(Error::Truncated)?;
        let len = usize::from(get16(&head, 4))
            .checked_sub(LEN)
            .ok_or(Error::Length)?;
        Ok((Self { head, payload }, len))
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        get16(&self.head, 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        get16(&self.head, 2)
    }

    /// Octets of the datagram, header included, as it says.
    #[inline]
    pub fn length(&self) -> usize {
        usize::from(get16(&self.head, 4))
    }

    /// The checksum, as it stands; 0 where there is none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(&self.head, 6)
    }

    /// The data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

impl Packet<&mut [u8]> {
    /// Replaces the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) -> Delta {
        self.put_word(0, port)
    }

    /// Replaces the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) -> Delta {
        self.put_word(2, port)
    }

    /// Pays what rewrites owe to the checksum. One that was absent stays absent.
    #[inline]
    pub fn settle(&mut self, owed: Delta) {
        let checksum = self.checksum();
        if checksum != 0 {
            self.set_checksum(checksum::for_udp(owed.apply(checksum)));
        }
    }

    /// Stores a checksum computed elsewhere; 0 takes it away.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put16(self.head, 6, checksum);
    }

    /// The data, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    #[inline]
    fn put_word(&mut self, at: usize, value: u16) -> Delta {
        let delta = Delta::u16(get16(self.head, at), value);
        put16(self.head, at, value);
        delta
    }
}

/// A header to put before a payload: what a tunnel of ours writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Header {
    /// Writes the header at the start of `datagram`, whose length it takes; without a checksum.
    /// `None` where there is no room for it, or a datagram can't be as long.
    #[inline]
    pub fn write(self, datagram: &mut [u8]) -> Option<()> {
        let length = u16::try_from(datagram.len()).ok()?;
        let head: &mut [u8; LEN] = datagram.first_chunk_mut()?;
        put16(head, 0, self.src_port);
        put16(head, 2, self.dst_port);
        put16(head, 4, length);
        put16(head, 6, 0);
        Some(())
    }
}

/// Writes the checksum of a whole datagram that has none, between these addresses.
#[inline]
pub fn write_checksum(datagram: &mut [u8], src: IpAddr, dst: IpAddr) {
    let sum = checksum::transport(src, dst, Protocol::UDP, datagram);
    if let Some(head) = datagram.first_chunk_mut::<LEN>() {
        put16(head, 6, checksum::for_udp(sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATAGRAM: [u8; 12] = [0x7a, 0x69, 0, 53, 0, 10, 0xab, 0xcd, b'h', b'i', 0, 0];

    #[test]
    fn reads() {
        let udp = Packet::parse(&DATAGRAM[..]).unwrap();
        assert_eq!(
            (udp.src_port(), udp.dst_port(), udp.length(), udp.checksum()),
            (31337, 53, 10, 0xabcd)
        );
        assert_eq!(udp.payload(), b"hi", "surplus is not payload");
    }

    #[test]
    fn writes() {
        let mut bytes = *b"........hi";
        let header = Header {
            src_port: 49_152,
            dst_port: 6080,
        };
        header.write(&mut bytes).unwrap();
        assert_eq!(bytes, *b"\xc0\0\x17\xc0\0\x0a\0\0hi");
        let [src, dst] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        write_checksum(&mut bytes, src, dst);
        let sum = checksum::transport(src, dst, Protocol::UDP, &bytes);
        assert_eq!(sum, 0, "the pseudo-header is in it");
        assert_eq!(header.write(&mut [0; 7]), None);
    }

    #[test]
    fn malformed() {
        let cases = [
            (7, 10, Error::Truncated),
            (12, 0, Error::Length),
            (12, 7, Error::Length),
            (12, 13, Error::PastPacket),
        ];
        for (len, length, want) in cases {
            let mut bytes = DATAGRAM;
            bytes[5] = length;
            assert_eq!(Packet::parse(&bytes[..len]).unwrap_err(), want);
        }
    }

    #[test]
    fn a_first_fragment_may_promise_more() {
        let mut bytes = DATAGRAM;
        bytes[5] = 200;
        let udp = Packet::parse_first_fragment(&bytes[..]).unwrap();
        assert_eq!((udp.length(), udp.payload().len()), (200, 4));
        bytes[5] = 7;
        assert_eq!(
            Packet::parse_first_fragment(&bytes[..]).unwrap_err(),
            Error::Length
        );
    }

    #[test]
    fn absent_stays_absent_and_zero_becomes_ones() {
        let mut bytes = DATAGRAM;
        let mut udp = Packet::parse(&mut bytes[..]).unwrap();
        udp.set_checksum(0);
        let owed = udp.set_dst_port(5353);
        udp.settle(owed);
        assert_eq!(udp.checksum(), 0);
        udp.set_checksum(0x0001);
        udp.settle(Delta::u16(0, 1));
        assert_eq!(udp.checksum(), 0xffff, "a computed 0 would read as absent");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn patched_is_recomputed(mut bytes in any::<[u8; 24]>(), port in 1u16.., src in any::<bool>()) {
            put16(&mut bytes, 4, 24);
            put16(&mut bytes, 6, 0);
            let full = checksum::for_udp(checksum::of(&bytes));
            put16(&mut bytes, 6, full);
            let mut udp = Packet::parse(&mut bytes[..]).unwrap();
            let owed = if src { udp.set_src_port(port) } else { udp.set_dst_port(port) };
            udp.settle(owed);
            let patched = udp.checksum();
            put16(&mut bytes, 6, 0);
            prop_assert_eq!(patched, checksum::for_udp(checksum::of(&bytes)));
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(udp) = Packet::parse(&bytes[..]) {
                prop_assert_eq!(udp.length(), LEN + udp.payload().len());
            }
            let _ = Packet::parse_first_fragment(&bytes[..]);
        }
    }
}
