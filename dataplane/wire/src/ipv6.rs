//! IPv6 header and its extension headers (RFC 8200 sections 3 and 4).
//!
//! There is no header checksum, so an address change is owed to the transport alone. Where the
//! transport header begins is a walk: [`Packet::upper`].

use std::net::Ipv6Addr;

use crate::bytes::{Bytes, get, get16, get32, put, put16, put32};
use crate::checksum::Delta;
use crate::ip::{Expired, Protocol};

/// Octets of the fixed header.
pub const LEN: usize = 40;

/// Octets of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// Extension headers walked before a packet is refused. Real ones have at most three or four;
/// a longer chain only costs the worker its time.
pub const MAX_EXTENSIONS: usize = 8;

errors! {
    /// Why bytes are not an IPv6 packet.
    pub enum Error {
        /// Fewer than 40 octets.
        Truncated => "the packet is shorter than an IPv6 header",
        /// The version is not 6.
        Version => "the version is not 6",
        /// The packet claims more octets than the frame has.
        PastFrame => "the IPv6 payload length runs past the frame",
        /// An extension header runs past the packet.
        ExtensionTruncated => "an IPv6 extension header runs past the packet",
        /// More than [`MAX_EXTENSIONS`] extension headers.
        ChainTooLong => "the IPv6 packet has more than 8 extension headers",
        /// A fragment of a fragment.
        SecondFragment => "the IPv6 packet has two fragment headers",
    }
}

/// A well-formed IPv6 packet. Its extension headers are checked by [`upper`](Self::upper).
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

/// Where the extension headers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The protocol of what follows them.
    pub protocol: Protocol,
    /// Where it begins, in octets from the end of the fixed header. Never past the payload. In a
    /// later fragment no header of `protocol` is there, but the middle of its data.
    pub offset: usize,
    /// What the fragment header says, where there is one.
    pub fragment: Option<FragmentInfo>,
}

/// What a fragment header says (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// Where in the original payload this fragment begins, in octets.
    pub offset: usize,
    /// Do more fragments follow?
    pub more: bool,
    /// The identification that the fragments of a packet share.
    pub id: u32,
    /// Where the fragment header is, in octets from the end of the fixed header.
    pub header_offset: usize,
}

impl<B: Bytes> Packet<B> {
    /// Checks version and length. Octets past the payload length are cut off.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Version`] or [`Error::PastFrame`].
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        Self::cut(bytes, false)
    }

    /// As [`parse`](Self::parse) for the packet quoted in an ICMPv6 error, which may be cut
    /// short: the header must be whole, the payload is what is there.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Version`].
    #[inline]
    pub fn parse_quoted(bytes: B) -> Result<Self, Error> {
        Self::cut(bytes, true)
    }

    #[inline]
    fn cut(bytes: B, quoted: bool) -> Result<Self, Error> {
        let (head, rest) = bytes.split_array::<LEN>().ok_or(Error::Truncated)?;
        if head[0] >> 4 != 6 {
            return Err(Error::Version);
        }
        let len = usize::from(get16(&head, 4));
        let len = if quoted { len.min(rest.len()) } else { len };
        let (payload, _padding) = rest.split(len).ok_or(Error::PastFrame)?;
        Ok(Self { head, payload })
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.head[0] << 4 | self.head[1] >> 4
    }

    /// The flow label's 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        get32(&self.head, 0) & 0xf_ffff
    }

    /// Octets after the fixed header, as it says.
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(get16(&self.head, 4))
    }

    /// Octets of the packet, as its header says.
    #[inline]
    pub fn total_len(&self) -> usize {
        LEN + self.payload_len()
    }

    /// What follows the fixed header: an extension header or the upper protocol.
    #[inline]
    pub fn next_header(&self) -> Protocol {
        Protocol(self.head[6])
    }

    /// The hops left.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.head[7]
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        get::<16>(&*self.head, 8).into()
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        get::<16>(&*self.head, 24).into()
    }

    /// What follows the fixed header, extension headers included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload for as long as the packet was borrowed.
    #[inline]
    pub fn into_payload(self) -> B {
        self.payload
    }

    /// All octets of the packet: header and payload.
    pub fn bytes(&self) -> impl Iterator<Item = &u8> {
        self.head.iter().chain(self.payload.iter())
    }

    /// Walks the extension headers to the upper protocol. In a later fragment the walk ends at
    /// the fragment header, since what follows is data.
    ///
    /// # Errors
    /// [`Error::ExtensionTruncated`], [`Error::ChainTooLong`] or [`Error::SecondFragment`].
    #[inline]
    pub fn upper(&self) -> Result<Upper, Error> {
        let protocol = self.next_header();
        if matches!(protocol, Protocol::TCP | Protocol::UDP) {
            return Ok(Upper {
                protocol,
                offset: 0,
                fragment: None,
            });
        }
        walk(protocol, &self.payload)
    }

    /// The extension headers before `upper`, each with its kind and where it begins, in octets
    /// from the end of the fixed header.
    pub fn extensions(&self, upper: &Upper) -> impl Iterator<Item = (Protocol, usize)> {
        let (end, payload) = (upper.offset, &*self.payload);
        let mut next = (self.next_header(), 0);
        std::iter::from_fn(move || {
            let (kind, at) = next;
            let rest = payload.get(at..end).filter(|rest| !rest.is_empty())?;
            let len = extension_len(kind, rest).ok().flatten()?;
            next = (Protocol(rest[0]), at + len);
            Some((kind, at))
        })
    }

    /// What begins at `upper`.
    #[inline]
    pub fn upper_payload(&self, upper: &Upper) -> &[u8] {
        self.payload.get(upper.offset..).unwrap_or_default()
    }
}

fn walk(first: Protocol, payload: &[u8]) -> Result<Upper, Error> {
    let mut upper = Upper {
        protocol: first,
        offset: 0,
        fragment: None,
    };
    for _ in 0..=MAX_EXTENSIONS {
        let rest = payload
            .get(upper.offset..)
            .ok_or(Error::ExtensionTruncated)?;
        let Some(len) = extension_len(upper.protocol, rest)? else {
            return Ok(upper);
        };
        if upper.protocol == Protocol::FRAGMENT {
            if upper.fragment.is_some() {
                return Err(Error::SecondFragment);
            }
            upper.fragment = Some(Fragment::parse(rest)?.info(upper.offset));
        }
        upper.protocol = Protocol(rest[0]);
        upper.offset += len;
        if upper.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return Ok(upper);
        }
    }
    Err(Error::ChainTooLong)
}

/// Octets of the extension header of kind `protocol` at the start of `rest`, all of them there;
/// `None` where `protocol` is no extension header that can be stepped over.
fn extension_len(protocol: Protocol, rest: &[u8]) -> Result<Option<usize>, Error> {
    let words = || {
        rest.get(1)
            .map(|&words| usize::from(words))
            .ok_or(Error::ExtensionTruncated)
    };
    let len = match protocol {
        Protocol::HOP_BY_HOP | Protocol::ROUTING | Protocol::DESTINATION => (words()? + 1) * 8,
        Protocol::FRAGMENT => FRAGMENT_LEN,
        Protocol::AH => (words()? + 2) * 4, // RFC 4302 section 2.2
        _ => return Ok(None),
    };
    if len > rest.len() {
        Err(Error::ExtensionTruncated)
    } else {
        Ok(Some(len))
    }
}

impl Packet<&mut [u8]> {
    /// Replaces the source; the transport checksum covers it (RFC 8200 section 8.1).
    #[inline]
    pub fn set_src(&mut self, src: Ipv6Addr) -> Delta {
        let delta = Delta::v6(self.src(), src);
        put(self.head, 8, src.octets());
        delta
    }

    /// Replaces the destination; the transport checksum covers it (RFC 8200 section 8.1).
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv6Addr) -> Delta {
        let delta = Delta::v6(self.dst(), dst);
        put(self.head, 24, dst.octets());
        delta
    }

    /// Sends the packet back. A sum does not care for order, so no checksum changes.
    #[inline]
    pub fn swap_addresses(&mut self) {
        let (src, dst) = (self.src(), self.dst());
        put(self.head, 8, dst.octets());
        put(self.head, 24, src.octets());
    }

    /// One hop further.
    ///
    /// # Errors
    /// [`Expired`] where the hop limit is 1 or 0; the packet is then unchanged.
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> Result<(), Expired> {
        let hops = self.hop_limit();
        if hops <= 1 {
            return Err(Expired);
        }
        self.set_hop_limit(hops - 1);
        Ok(())
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hops: u8) {
        self.head[7] = hops;
    }

    /// Sets DSCP and ECN.
    #[inline]
    pub fn set_traffic_class(&mut self, class: u8) {
        let word = get32(self.head, 0) & 0xf00f_ffff | u32::from(class) << 20;
        put32(self.head, 0, word);
    }

    /// Sets the flow label (the low 20 bits of `label`).
    #[inline]
    pub fn set_flow_label(&mut self, label: u32) {
        let word = get32(self.head, 0) & 0xfff0_0000 | label & 0xf_ffff;
        put32(self.head, 0, word);
    }

    /// What follows the fixed header, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// What begins at `upper`, to rewrite.
    #[inline]
    pub fn upper_payload_mut(&mut self, upper: &Upper) -> &mut [u8] {
        self.payload.get_mut(upper.offset..).unwrap_or_default()
    }
}

/// A fragment header and what follows it (RFC 8200 section 4.5).
#[derive(Debug)]
pub struct Fragment<B: Bytes> {
    head: B::Array<FRAGMENT_LEN>,
    payload: B,
}

impl<B: Bytes> Fragment<B> {
    /// Checks that the header is whole.
    ///
    /// # Errors
    /// [`Error::ExtensionTruncated`].
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        let (head, payload) = bytes.split_array().ok_or(Error::ExtensionTruncated)?;
        Ok(Self { head, payload })
    }

    /// What follows it.
    #[inline]
    pub fn next_header(&self) -> Protocol {
        Protocol(self.head[0])
    }

    /// Where in the original payload this fragment begins, in octets.
    #[inline]
    pub fn offset(&self) -> usize {
        usize::from(get16(&self.head, 2) & 0xfff8)
    }

    /// Do more fragments follow?
    #[inline]
    pub fn more(&self) -> bool {
        self.head[3] & 1 != 0
    }

    /// The identification that the fragments of a packet share.
    #[inline]
    pub fn id(&self) -> u32 {
        get32(&self.head, 4)
    }

    /// The fragment's data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn info(&self, header_offset: usize) -> FragmentInfo {
        FragmentInfo {
            offset: self.offset(),
            more: self.more(),
            id: self.id(),
            header_offset,
        }
    }
}

impl Fragment<&mut [u8]> {
    /// Sets the identification.
    #[inline]
    pub fn set_id(&mut self, id: u32) {
        put32(self.head, 4, id);
    }

    /// Sets where the fragment begins (`octets` rounded down to eight) and whether more follow.
    #[inline]
    pub fn set_position(&mut self, octets: u16, more: bool) {
        put16(self.head, 2, octets & 0xfff8 | u16::from(more));
    }
}

/// A fixed header, to put before a payload: what a tunnel or a reply of ours writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// What follows.
    pub next_header: Protocol,
    /// Hops it may take.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label; its low 20 bits are written.
    pub flow_label: u32,
    /// Octets that follow this header.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header.
    #[inline]
    pub fn emit(&self, out: &mut [u8; LEN]) {
        put32(
            out,
            0,
            6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff,
        );
        put16(out, 4, self.payload_len);
        put(out, 6, [self.next_header.0, self.hop_limit]);
        put(out, 8, self.src.octets());
        put(out, 24, self.dst.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{ip, tcp};
    use proptest::prelude::*;

    const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

    #[test]
    fn reads_what_was_written() {
        let header = Header {
            src: CLIENT,
            dst: VIP,
            next_header: Protocol::UDP,
            hop_limit: 64,
            traffic_class: 0xb9,
            flow_label: 0xabcde,
            payload_len: 2,
        };
        let mut head = [0; LEN];
        header.emit(&mut head);
        let mut bytes = [&head[..], &[1, 2, 0]].concat();
        let mut packet = Packet::parse(&mut bytes[..]).unwrap();
        assert_eq!(
            (packet.src(), packet.dst(), packet.next_header()),
            (CLIENT, VIP, Protocol::UDP)
        );
        assert_eq!(
            (
                packet.hop_limit(),
                packet.traffic_class(),
                packet.flow_label()
            ),
            (64, 0xb9, 0xabcde)
        );
        assert_eq!((packet.payload(), packet.total_len()), (&[1, 2][..], 42));
        packet.set_traffic_class(0x12);
        packet.set_flow_label(0xfff0_0001);
        assert_eq!((packet.traffic_class(), packet.flow_label()), (0x12, 1));
        assert_eq!(packet.decrement_hop_limit(), Ok(()));
        assert_eq!(packet.hop_limit(), 63);
        packet.set_hop_limit(1);
        assert_eq!(packet.decrement_hop_limit(), Err(Expired));
    }

    #[test]
    fn each_malformation_has_its_name() {
        let good = ip(CLIENT, VIP).with(tcp(1, 2)).bytes();
        let mut other = good.clone();
        other[0] = 0x45;
        let mut long = good.clone();
        long[5] += 1;
        assert_eq!(Packet::parse(&good[..39]).unwrap_err(), Error::Truncated);
        assert_eq!(Packet::parse(&other[..]).unwrap_err(), Error::Version);
        assert_eq!(Packet::parse(&long[..]).unwrap_err(), Error::PastFrame);
        assert_eq!(Packet::parse_quoted(&long[..]).unwrap().payload().len(), 20);
    }

    #[test]
    fn the_walk() {
        let base = || ip(CLIENT, VIP).with(tcp(31337, 80));
        let fragment = |offset, more, header_offset| {
            Some(FragmentInfo {
                offset,
                more,
                id: 9,
                header_offset,
            })
        };
        #[rustfmt::skip]
        let cases = [
            ("no extension",             base(),                                                  0,  None),
            ("hop-by-hop",               base().hop_by_hop(),                                     8,  None),
            ("one of each",              base().hop_by_hop().routing().destination(),             24, None),
            ("AH counts in fours",       base().extension(Protocol::AH, &[0; 22]),                24, None),
            ("a first fragment",         base().hop_by_hop().fragment(0, true).id(9),             16, fragment(0, true, 8)),
            ("a whole one (RFC 6946)",   base().fragment(0, false).id(9).destination(),           16, fragment(0, false, 0)),
            ("a later one ends it",      base().hop_by_hop().fragment(1480, true).id(9),          16, fragment(1480, true, 8)),
        ];
        for (name, packet, offset, fragment) in cases {
            let bytes = packet.bytes();
            let packet = Packet::parse(&bytes[..]).unwrap();
            let upper = packet.upper().unwrap();
            assert_eq!(
                upper,
                Upper {
                    protocol: Protocol::TCP,
                    offset,
                    fragment
                },
                "{name}"
            );
            assert_eq!(
                packet.upper_payload(&upper)[..4],
                [0x7a, 0x69, 0, 80],
                "{name}"
            );
        }
    }

    #[test]
    fn the_extensions_one_by_one() {
        use Protocol as P;
        let packet = ip(CLIENT, VIP).with(tcp(1, 2));
        let packet = packet.hop_by_hop().routing().fragment(0, true);
        let bytes = packet.destination().bytes();
        let packet = Packet::parse(&bytes[..]).unwrap();
        let upper = packet.upper().unwrap();
        let all: Vec<_> = packet.extensions(&upper).collect();
        let want = [
            (P::HOP_BY_HOP, 0),
            (P::ROUTING, 8),
            (P::FRAGMENT, 16),
            (P::DESTINATION, 24),
        ];
        assert_eq!((all, upper.offset), (want.to_vec(), 32));
    }

    #[test]
    fn a_later_fragment_is_not_walked_into() {
        let bytes = ip(CLIENT, VIP)
            .with(tcp(1, 2))
            .fragment(8, false)
            .destination()
            .bytes();
        let upper = Packet::parse(&bytes[..]).unwrap().upper().unwrap();
        assert_eq!((upper.protocol, upper.offset), (Protocol::DESTINATION, 8));
    }

    #[test]
    fn chains_that_are_refused() {
        let chain = |n| {
            (0..n).fold(ip(CLIENT, VIP).with(tcp(1, 2)), |packet, _| {
                packet.destination()
            })
        };
        let walked = |bytes: &[u8]| {
            Packet::parse(bytes)
                .unwrap()
                .upper()
                .map(|upper| upper.offset)
        };
        assert_eq!(walked(&chain(8).bytes()), Ok(64));
        assert_eq!(walked(&chain(9).bytes()), Err(Error::ChainTooLong));
        let twice = ip(CLIENT, VIP)
            .fragment(0, true)
            .fragment(0, true)
            .with(tcp(1, 2))
            .bytes();
        assert_eq!(walked(&twice), Err(Error::SecondFragment));
        let mut long = chain(1).bytes();
        long[41] = 9;
        assert_eq!(walked(&long), Err(Error::ExtensionTruncated));
    }

    #[test]
    fn fragment_headers_rewrite() {
        let mut bytes = [6, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut fragment = Fragment::parse(&mut bytes[..]).unwrap();
        fragment.set_position(1485, true);
        fragment.set_id(0xdead_beef);
        assert_eq!(
            (fragment.offset(), fragment.more(), fragment.id()),
            (1480, true, 0xdead_beef)
        );
        assert_eq!(
            (fragment.next_header(), fragment.payload()),
            (Protocol::TCP, &[1][..])
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn an_address_and_back(addr in any::<u128>()) {
            let mut bytes = ip(CLIENT, VIP).with(tcp(1, 2)).bytes();
            let given = bytes.clone();
            let mut packet = Packet::parse(&mut bytes[..]).unwrap();
            let there = packet.set_src(addr.into()).and(packet.set_dst(addr.into()));
            let back = packet.set_src(CLIENT).and(packet.set_dst(VIP));
            prop_assert_eq!(there.and(back).apply(0x1234), 0x1234);
            prop_assert_eq!(bytes, given);
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..160), next in prop::sample::select(vec![0u8, 43, 44, 51, 60, 6])) {
            if bytes.len() >= LEN { bytes[0] = 0x60; bytes[4] = 0; bytes[6] = next; }
            if let Ok(packet) = Packet::parse_quoted(&bytes[..])
                && let Ok(upper) = packet.upper() {
                prop_assert!(upper.offset <= packet.payload().len());
            }
            let _ = Packet::parse(&bytes[..]);
        }
    }
}
