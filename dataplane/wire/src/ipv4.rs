//! IPv4 header (RFC 791 section 3.1).
//!
//! A [`Packet`] is a window on bytes somebody else owns. Holding one is the proof that it is well
//! formed: [`Packet::parse`] checked version, IHL and Total Length against the buffer, and no
//! setter can change a length. The header checksum is not verified on the way in (call
//! [`verify_checksum`](Packet::verify_checksum)); every setter patches it, so a wrong one stays
//! wrong and is found by whoever checks.

use std::net::Ipv4Addr;

use crate::bytes::{Bytes, get, get16, put, put16};
use crate::checksum::{self, Delta, Sum};
use crate::ip::{Expired, Protocol};

/// Octets of a header without options.
pub const LEN: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

errors! {
    /// Why bytes are not an IPv4 packet.
    pub enum Error {
        /// Fewer than 20 octets.
        Truncated => "the packet is shorter than an IPv4 header",
        /// The version is not 4.
        Version => "the version is not 4",
        /// The header length is below 20 octets.
        HeaderLength => "the IPv4 header length is below 20 octets",
        /// The total length does not even cover the header.
        TotalLength => "the IPv4 total length is shorter than the header",
        /// The packet claims more octets than the frame has.
        PastFrame => "the IPv4 total length runs past the frame",
    }
}

/// A well-formed IPv4 packet.
#[derive(Debug)]
pub struct Packet<B: Bytes> {
    head: B::Array<LEN>,
    options: B,
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
    /// Checks version and lengths. Octets past the total length (Ethernet's padding) are cut off.
    ///
    /// # Errors
    /// One [`Error`] for each malformation.
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        Self::cut(bytes, false)
    }

    /// As [`parse`](Self::parse) for the packet quoted in an ICMP error, which may be cut short:
    /// the header must be whole, the payload is what is there.
    ///
    /// # Errors
    /// One [`Error`] for each malformation.
    #[inline]
    pub fn parse_quoted(bytes: B) -> Result<Self, Error> {
        Self::cut(bytes, true)
    }

    #[inline]
    fn cut(bytes: B, quoted: bool) -> Result<Self, Error> {
        let (head, rest) = bytes.split_array::<LEN>().ok_or(Error::Truncated)?;
        if head[0] >> 4 != 4 {
            return Err(Error::Version);
        }
        let options = (usize::from(head[0] & 0xf) * 4)
            .checked_sub(LEN)
            .ok_or(Error::HeaderLength)?;
        let body = usize::from(get16(&head, 2))
            .checked_sub(LEN)
            .ok_or(Error::TotalLength)?;
        if body < options {
            return Err(Error::TotalLength);
        }
        let body = if quoted { body.min(rest.len()) } else { body };
        let (rest, _padding) = rest.split(body).ok_or(Error::PastFrame)?;
        let (options, payload) = rest.split(options).ok_or(Error::PastFrame)?;
        Ok(Self {
            head,
            options,
            payload,
        })
    }

    /// Octets of the header, options included: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// Octets of the packet, as its header says.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(get16(&self.head, 2))
    }

    /// The type of service octet: DSCP and ECN (RFC 2474, RFC 3168).
    #[inline]
    pub fn tos(&self) -> u8 {
        self.head[1]
    }

    /// The six bits of DSCP.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.tos() >> 2
    }

    /// The two bits of ECN.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.tos() & 3
    }

    /// The identification that the fragments of a packet share.
    #[inline]
    pub fn id(&self) -> u16 {
        get16(&self.head, 4)
    }

    /// May no router fragment it?
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & DONT_FRAGMENT != 0
    }

    /// Do more fragments follow?
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.flags_and_offset() & MORE_FRAGMENTS != 0
    }

    /// Where in the original payload this fragment begins, in octets.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.flags_and_offset() & OFFSET) * 8
    }

    /// Is this a fragment, first or later?
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_and_offset() & (MORE_FRAGMENTS | OFFSET) != 0
    }

    /// Time to live: the hops left.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.head[8]
    }

    /// What it carries.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        Protocol(self.head[9])
    }

    /// The header checksum, as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(&self.head, 10)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        get::<4>(&*self.head, 12).into()
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        get::<4>(&*self.head, 16).into()
    }

    /// The options, as they stand.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.options
    }

    /// Copies the header, options included, to the front of `out`.
    pub fn copy_header(&self, out: &mut [u8; 60]) {
        out[..LEN].copy_from_slice(&*self.head);
        out[LEN..self.header_len()].copy_from_slice(&self.options);
    }

    /// What the total length says follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload for as long as the packet was borrowed.
    #[inline]
    pub fn into_payload(self) -> B {
        self.payload
    }

    /// All octets of the packet: header, options, payload.
    pub fn bytes(&self) -> impl Iterator<Item = &u8> {
        self.head
            .iter()
            .chain(self.options.iter())
            .chain(self.payload.iter())
    }

    /// Is the header intact?
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        self.header_sum().finish() == 0
    }

    #[inline]
    fn header_sum(&self) -> Sum {
        let fixed = Sum::ZERO.add_bytes(&*self.head);
        if self.options.is_empty() {
            fixed
        } else {
            self.add_options(fixed)
        }
    }

    /// Out of line: hardly any packet has options, and the loop over them is long.
    #[cold]
    #[inline(never)]
    fn add_options(&self, sum: Sum) -> Sum {
        sum.add_bytes(&self.options)
    }

    #[inline]
    fn flags_and_offset(&self) -> u16 {
        get16(&self.head, 6)
    }
}

impl Packet<&mut [u8]> {
    /// Replaces the source and patches the header checksum.
    ///
    /// The TCP/UDP checksum covers this address too (RFC 9293 section 3.1, pseudo-header); hand
    /// the returned [`Delta`] to the transport header.
    #[inline]
    pub fn set_src(&mut self, src: Ipv4Addr) -> Delta {
        let delta = Delta::v4(self.src(), src);
        put(self.head, 12, src.octets());
        self.patch(delta);
        delta
    }

    /// Replaces the destination and patches the header checksum; for the [`Delta`] see
    /// [`set_src`](Self::set_src).
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv4Addr) -> Delta {
        let delta = Delta::v4(self.dst(), dst);
        put(self.head, 16, dst.octets());
        self.patch(delta);
        delta
    }

    /// Sends the packet back. A sum does not care for order, so no checksum changes.
    #[inline]
    pub fn swap_addresses(&mut self) {
        let (src, dst) = (self.src(), self.dst());
        put(self.head, 12, dst.octets());
        put(self.head, 16, src.octets());
    }

    /// One hop further.
    ///
    /// # Errors
    /// [`Expired`] where the TTL is 1 or 0; the packet is then unchanged.
    #[inline]
    pub fn decrement_ttl(&mut self) -> Result<(), Expired> {
        let ttl = self.ttl();
        if ttl <= 1 {
            return Err(Expired);
        }
        self.set_ttl(ttl - 1);
        Ok(())
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.put_word(8, u16::from_be_bytes([ttl, self.head[9]]));
    }

    /// Sets the type of service octet.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.put_word(0, u16::from_be_bytes([self.head[0], tos]));
    }

    /// Sets the identification.
    #[inline]
    pub fn set_id(&mut self, id: u16) {
        self.put_word(4, id);
    }

    /// Allows or forbids fragmenting.
    #[inline]
    pub fn set_dont_fragment(&mut self, on: bool) {
        let rest = self.flags_and_offset() & !DONT_FRAGMENT;
        self.put_word(6, if on { rest | DONT_FRAGMENT } else { rest });
    }

    /// Makes it the part of a packet that begins at `octets` (rounded down to eight), with more
    /// to follow or not; whether it may be fragmented stays as it is.
    #[inline]
    pub fn set_position(&mut self, octets: usize, more: bool) {
        let offset = u16::try_from(octets / 8).unwrap_or(OFFSET) & OFFSET;
        let more = if more { MORE_FRAGMENTS } else { 0 };
        let rest = self.flags_and_offset() & DONT_FRAGMENT;
        self.put_word(6, rest | more | offset);
    }

    /// What follows the header, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// Computes the header checksum anew, whatever it was.
    pub fn fill_checksum(&mut self) {
        put16(self.head, 10, 0);
        let checksum = self.header_sum().finish();
        put16(self.head, 10, checksum);
    }

    #[inline]
    fn put_word(&mut self, at: usize, value: u16) {
        let delta = Delta::u16(get16(self.head, at), value);
        put16(self.head, at, value);
        self.patch(delta);
    }

    #[inline]
    fn patch(&mut self, delta: Delta) {
        let checksum = delta.apply(self.checksum());
        put16(self.head, 10, checksum);
    }
}

/// A header without options, to put before a payload: what a tunnel or a reply of ours writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What follows.
    pub protocol: Protocol,
    /// Hops it may take.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification; matters only without `dont_fragment` (RFC 6864).
    pub id: u16,
    /// May no router fragment it?
    pub dont_fragment: bool,
    /// Octets that follow this header: at most 65,515.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header with its checksum. A `payload_len` past 65,515 is written as 65,515.
    #[inline(always)]
    pub fn emit(&self, out: &mut [u8; LEN]) {
        // Three words of eight, eight and four octets, their first octet the lowest, as most
        // processors write them. Sums are of the values, not of the octets just written: those
        // would have to be read back.
        let length = self.payload_len.saturating_add(20);
        let first = 0x45
            | u64::from(self.tos) << 8
            | u64::from(length.swap_bytes()) << 16
            | u64::from(self.id.swap_bytes()) << 32
            | u64::from(self.dont_fragment) << (48 + 6);
        let second = u64::from(self.ttl)
            | u64::from(self.protocol.0) << 8
            | u64::from(u32::from_le_bytes(self.src.octets())) << 32;
        let third = u32::from_le_bytes(self.dst.octets());
        let sum = checksum::end_around(first, second);
        let sum = checksum::end_around(sum, u64::from(third));
        let checksum = u64::from(!checksum::fold(sum)) << 16;
        put(out, 0, first.to_le_bytes());
        put(out, 8, (second | checksum).to_le_bytes());
        put(out, 16, third.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header {
        src: Ipv4Addr::new(192, 0, 2, 7),
        dst: Ipv4Addr::new(10, 0, 0, 1),
        protocol: Protocol::TCP,
        ttl: 64,
        tos: 0xb9,
        id: 0x1234,
        dont_fragment: true,
        payload_len: 4,
    };

    /// HEADER, four octets of payload, two of padding.
    fn sample() -> Vec<u8> {
        let mut head = [0; LEN];
        HEADER.emit(&mut head);
        [&head[..], &[1, 2, 3, 4, 0, 0]].concat()
    }

    #[test]
    fn reads_what_was_written() {
        let bytes = sample();
        let packet = Packet::parse(&bytes[..]).unwrap();
        assert_eq!((packet.src(), packet.dst()), (HEADER.src, HEADER.dst));
        assert_eq!(
            (packet.ttl(), packet.protocol(), packet.id()),
            (64, Protocol::TCP, 0x1234)
        );
        assert_eq!((packet.tos(), packet.dscp(), packet.ecn()), (0xb9, 46, 1));
        assert_eq!((packet.header_len(), packet.total_len()), (20, 24));
        assert!(packet.dont_fragment() && !packet.more_fragments() && !packet.is_fragment());
        assert_eq!(packet.payload(), [1, 2, 3, 4], "padding is not payload");
        assert!(packet.verify_checksum());
    }

    #[test]
    fn each_malformation_has_its_name() {
        type Edits = &'static [(usize, u8)];
        #[rustfmt::skip]
        let cases: [(&str, usize, Edits, Error); 7] = [
            ("nothing",                         0,  &[],                   Error::Truncated),
            ("a header cut short",              19, &[],                   Error::Truncated),
            ("version 6",                       26, &[(0, 0x65)],          Error::Version),
            ("IHL 4",                           26, &[(0, 0x44)],          Error::HeaderLength),
            ("total length 19",                 26, &[(3, 19)],            Error::TotalLength),
            ("total length below IHL",          26, &[(0, 0x46), (3, 20)], Error::TotalLength),
            ("total length past the frame",     26, &[(3, 27)],            Error::PastFrame),
        ];
        for (name, len, edits, want) in cases {
            let mut bytes = sample();
            for &(at, value) in edits {
                bytes[at] = value;
            }
            assert_eq!(Packet::parse(&bytes[..len]).unwrap_err(), want, "{name}");
        }
    }

    #[test]
    fn options_are_not_payload() {
        let mut bytes = sample();
        bytes[0] = 0x46;
        let mut packet = Packet::parse(&mut bytes[..]).unwrap();
        assert_eq!(
            (packet.options(), packet.payload().len()),
            (&[1, 2, 3, 4][..], 0)
        );
        packet.fill_checksum();
        assert!(packet.verify_checksum());
        assert_eq!(checksum::of(&bytes[..24]), 0, "options are covered");
    }

    #[test]
    fn a_quoted_packet_may_be_cut_short() {
        let bytes = sample();
        assert_eq!(Packet::parse(&bytes[..22]).unwrap_err(), Error::PastFrame);
        let quoted = Packet::parse_quoted(&bytes[..22]).unwrap();
        assert_eq!((quoted.payload(), quoted.total_len()), (&[1, 2][..], 24));
        assert_eq!(
            Packet::parse_quoted(&bytes[..19]).unwrap_err(),
            Error::Truncated
        );
    }

    #[test]
    fn the_last_hop() {
        for (ttl, want) in [(0, Err(Expired)), (1, Err(Expired)), (2, Ok(()))] {
            let mut bytes = sample();
            let mut packet = Packet::parse(&mut bytes[..]).unwrap();
            packet.set_ttl(ttl);
            assert_eq!(packet.decrement_ttl(), want);
            assert_eq!(packet.ttl(), if want.is_ok() { 1 } else { ttl });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn patched_is_recomputed(
            head in any::<[u8; LEN]>(), addr in any::<u32>().prop_map(Ipv4Addr::from), octet in any::<u8>(), word in any::<u16>(), which in 0..8,
        ) {
            let mut bytes = head;
            bytes[..4].copy_from_slice(&[0x45, head[1], 0, 20]);
            let mut packet = Packet::parse(&mut bytes[..]).unwrap();
            packet.fill_checksum();
            match which {
                0 => { let _ = packet.set_src(addr); prop_assert_eq!(packet.src(), addr) }
                1 => { let _ = packet.set_dst(addr); prop_assert_eq!(packet.dst(), addr) }
                2 => { packet.set_ttl(octet); prop_assert_eq!(packet.ttl(), octet) }
                3 => { packet.set_tos(octet); prop_assert_eq!(packet.tos(), octet) }
                4 => { packet.set_id(word); prop_assert_eq!(packet.id(), word) }
                5 => { packet.set_dont_fragment(true); prop_assert!(packet.dont_fragment()) }
                6 => { packet.set_dont_fragment(false); prop_assert!(!packet.dont_fragment()) }
                _ => { let _ = packet.decrement_ttl(); }
            }
            let patched = packet.checksum();
            packet.fill_checksum();
            prop_assert_eq!(patched, packet.checksum());
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), tame in any::<bool>()) {
            if tame && bytes.len() > 3 { bytes[0] = 0x40 | bytes[0] & 0xf; bytes[2] = 0; }
            if let Ok(packet) = Packet::parse(&bytes[..]) {
                prop_assert_eq!(packet.header_len() + packet.payload().len(), packet.total_len());
                let _ = packet.verify_checksum();
            }
            let _ = Packet::parse_quoted(&mut bytes[..]).map(|mut packet| packet.fill_checksum());
        }
    }
}
