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
        let lead = Lead::new(self.tos, self.payload_len.saturating_add(20));
        let cut = Cut::new(self.id, self.dont_fragment);
        Between::new(self.src, self.dst).emit(out, lead, cut, (self.ttl, self.protocol));
    }
}

/// The first four octets of a header without options, as a number: version and header length,
/// DSCP and ECN, total length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead(u32);

impl Lead {
    /// Of a packet of `length` octets, with these DSCP and ECN.
    #[inline(always)]
    pub const fn new(tos: u8, length: u16) -> Self {
        Self(0x45 << 24 | (tos as u32) << 16 | length as u32)
    }

    /// Those of a header that is known to have no options.
    #[inline(always)]
    pub(crate) const fn read(octets: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(octets))
    }

    /// DSCP and ECN.
    #[inline(always)]
    pub const fn tos(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// Octets of the packet.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub const fn length(self) -> u16 {
        self.0 as u16
    }

    /// With the DSCP and ECN of a tunnel around the packet: congestion that it met before is not
    /// the tunnel's (RFC 3168 section 9.1.1, the full-functionality option), so CE, both bits,
    /// becomes ECT(0), the higher one.
    #[inline(always)]
    #[must_use]
    pub const fn uncongested(self) -> Self {
        const LOWER: u32 = 1 << 16;
        Self(self.0 - (self.0 & self.0 >> 1 & LOWER))
    }

    /// Of a packet that is longer by so many octets, and has room for them.
    #[inline(always)]
    #[must_use]
    pub const fn longer(self, octets: u16) -> Self {
        Self(self.0.wrapping_add(octets as u32))
    }
}

/// The second four octets of a header of a whole packet: how it may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut(u32);

impl Cut {
    /// By no router: then the identification does not matter, and is 0 (RFC 6864 section 4.1).
    pub const NEVER: Self = Self::new(0, true);

    /// With this identification; by no router if `dont_fragment`.
    #[inline(always)]
    pub const fn new(id: u16, dont_fragment: bool) -> Self {
        // As it stands, the first octet the lowest: so it is below 2^23.
        Self(id.swap_bytes() as u32 | (dont_fragment as u32) << (16 + 6))
    }
}

/// Whom packets are between, as it stands in their headers, and the sum of that: what all headers
/// of a tunnel have in common, prepared once. A sum may be made of parts, in any order (RFC 1071
/// section 2 (A)), so each header only adds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Between {
    addresses: [u8; 8],
    /// Of the addresses, folded, in words whose first octet is the lower one.
    sum: u16,
}

impl Between {
    /// From `src` to `dst`.
    #[inline]
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (src.octets(), dst.octets());
        let addresses = [a, b, c, d, e, f, g, h];
        Self {
            addresses,
            sum: checksum::fold(u64::from_le_bytes(addresses)),
        }
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        get::<4>(&self.addresses, 0).into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        get::<4>(&self.addresses, 4).into()
    }

    /// Writes a header between them with its checksum.
    #[inline(always)]
    pub fn emit(&self, out: &mut [u8; LEN], lead: Lead, cut: Cut, (ttl, protocol): (u8, Protocol)) {
        // Words of four octets, the first the lowest, as most processors write them: the sum cares
        // for neither (RFC 1071 section 2 (B) and (C)). It is of the values, not of the octets
        // just written: those would have to be read back.
        let lead = lead.0.swap_bytes();
        let third = u32::from(ttl) | u32::from(protocol.0) << 8;
        // Below 2^24, so the first carry that there can be is that of the lead.
        let rest = cut.0 + third + u32::from(self.sum);
        let (sum, carry) = lead.overflowing_add(rest);
        let sum = sum + u32::from(carry);
        // Folded as `checksum::fold` does, in the upper half: there the checksum stands.
        let checksum = !sum.wrapping_add(sum.rotate_left(16)) & 0xffff_0000;
        put(out, 0, lead.to_le_bytes());
        put(out, 4, cut.0.to_le_bytes());
        put(out, 8, (third | checksum).to_le_bytes());
        put(out, 12, self.addresses);
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

    #[test]
    fn a_tunnels_lead_is_the_packets_but_for_congestion_and_length() {
        let cases = [(0, 0), (0xb9, 0xb9), (0xba, 0xba), (0xbb, 0xba), (3, 2)];
        for (inner, outer) in cases {
            let lead = Lead::new(inner, 1480).uncongested().longer(20);
            assert_eq!(lead, Lead::new(outer, 1500), "{inner:#x}");
            assert_eq!((lead.tos(), lead.length()), (outer, 1500), "{inner:#x}");
        }
    }

    /// Headers at random, and those whose sum is all ones or carries most.
    fn headers() -> impl Strategy<Value = Header> {
        let addresses = prop_oneof![any::<[u32; 2]>(), Just([0; 2]), Just([u32::MAX; 2])];
        let id = prop_oneof![any::<u16>(), Just(0), Just(u16::MAX)];
        let rest = any::<(u8, u8, u8, bool, u16)>();
        (addresses, id, rest).prop_map(|([src, dst], id, rest)| Header {
            src: src.into(),
            dst: dst.into(),
            protocol: Protocol(rest.0),
            ttl: rest.1,
            tos: rest.2,
            id,
            dont_fragment: rest.3,
            payload_len: rest.4,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn emitted_is_what_was_said(header in headers()) {
            let mut bytes = [0; LEN];
            header.emit(&mut bytes);
            let sum: u32 = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
            prop_assert_eq!(sum % 0xffff, 0, "RFC 1071, 16 bits at a time");
            let ends = Between::new(header.src, header.dst);
            prop_assert_eq!((ends.src(), ends.dst()), (header.src, header.dst));
            let packet = Packet::parse_quoted(&bytes[..]).unwrap();
            let read = Header {
                src: packet.src(),
                dst: packet.dst(),
                protocol: packet.protocol(),
                ttl: packet.ttl(),
                tos: packet.tos(),
                id: packet.id(),
                dont_fragment: packet.dont_fragment(),
                payload_len: u16::try_from(packet.total_len() - LEN).unwrap(),
            };
            let payload_len = header.payload_len.min(65_515);
            prop_assert_eq!(read, Header { payload_len, ..header });
            prop_assert!(packet.header_len() == LEN && !packet.is_fragment());
        }

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
