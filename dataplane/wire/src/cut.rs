//! Cutting a packet for a link that is too narrow for it: IPv4 (RFC 791 section 3.2), and IPv6
//! where the packet is the cutter's own (RFC 8200 section 4.5), a tunnel's outer one say.
//!
//! ```text
//!   [ header | data ........................ ]
//!   [ header, more | data ... ] [ header, more | ... ] [ header | ... ]
//! ```
//!
//! Each piece but the last carries a multiple of 8 octets. In IPv4 later pieces keep the room of
//! the options; those that are not to be copied become no-operations. In IPv6 each piece's header
//! has a fragment header behind it.

use crate::bytes::{get16, put, put16, put32};
use crate::checksum;
use crate::{Protocol, ipv4, ipv6};

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
const COPIED: u8 = 0x80;
const NO_OPERATION: u8 = 1;

/// The plan of a cut: what each piece's header is and where its data are.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    header: [u8; 60],
    header_len: usize,
    /// Where the packet's data begin.
    data_at: usize,
    data_len: usize,
    per_piece: usize,
}

impl Cut {
    /// The plan for the packet at the start of `bytes`, of either family, as [`Cut::v4`] and
    /// [`Cut::v6`] have it.
    pub fn of(bytes: &[u8], mtu: usize, id: u32) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(&ipv4::Packet::parse(bytes).ok()?, mtu),
            6 => Self::v6(&ipv6::Packet::parse(bytes).ok()?, mtu, id),
            _ => None,
        }
    }

    /// The plan for an IPv6 packet of our own on a link of `mtu` octets, whose pieces are known
    /// by `id`; `None` where it fits, has extension headers already, or the link has no room. One
    /// that begins with a fragment header is a fragment of ours: its pieces go on with that
    /// header's identification and from its offset.
    pub fn v6(packet: &ipv6::Packet<&[u8]>, mtu: usize, id: u32) -> Option<Self> {
        const HEADER: usize = ipv6::LEN + ipv6::FRAGMENT_LEN;
        let per_piece = mtu.checked_sub(HEADER)? / 8 * 8;
        let fits = packet.total_len() <= mtu;
        if fits || per_piece == 0 {
            return None;
        }
        if packet.next_header() == Protocol::FRAGMENT {
            let mut header = [0; 60];
            let head = packet.bytes().zip(&mut header[..HEADER]);
            head.for_each(|(from, to)| *to = *from);
            return Some(Self {
                header,
                header_len: HEADER,
                data_at: HEADER,
                data_len: packet.payload().len().checked_sub(ipv6::FRAGMENT_LEN)?,
                per_piece,
            });
        }
        if packet.upper().ok()?.offset != 0 {
            return None;
        }
        let mut header = [0; 60];
        let head = packet.bytes().zip(&mut header[..ipv6::LEN]);
        head.for_each(|(from, to)| *to = *from);
        put(&mut header, ipv6::LEN, [packet.next_header().0, 0]);
        put(&mut header, 6, [Protocol::FRAGMENT.0]);
        put32(&mut header, ipv6::LEN + 4, id);
        Some(Self {
            header,
            header_len: HEADER,
            data_at: ipv6::LEN,
            data_len: packet.payload().len(),
            per_piece,
        })
    }

    /// The plan for an IPv4 packet on a link of `mtu` octets; `None` where it fits, forbids it, or the
    /// link has no room for a header and 8 octets.
    pub fn v4(packet: &ipv4::Packet<&[u8]>, mtu: usize) -> Option<Self> {
        let header_len = packet.header_len();
        let per_piece = mtu.checked_sub(header_len)? / 8 * 8;
        let fits = packet.total_len() <= mtu;
        if packet.dont_fragment() || fits || per_piece == 0 {
            return None;
        }
        let mut header = [0; 60];
        packet.copy_header(&mut header);
        let data_len = packet.payload().len();
        Some(Self {
            header,
            header_len,
            data_at: header_len,
            data_len,
            per_piece,
        })
    }

    /// How many pieces there are: at least 2.
    pub fn pieces(&self) -> usize {
        self.data_len.div_ceil(self.per_piece)
    }

    /// Octets of piece `n`, header included.
    pub fn len(&self, n: usize) -> usize {
        self.header_len + self.range(n).len()
    }

    /// Whether there is nothing to cut: never so.
    pub fn is_empty(&self) -> bool {
        self.data_len == 0
    }

    /// Octets of every piece's header.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Where the data begin in the packet as it is: in IPv6 before a piece's do.
    pub fn data_at(&self) -> usize {
        self.data_at
    }

    /// Which octets of the packet's payload piece `n` carries.
    pub fn range(&self, n: usize) -> std::ops::Range<usize> {
        let start = (n * self.per_piece).min(self.data_len);
        start..(start + self.per_piece).min(self.data_len)
    }

    /// The header of piece `n`, its checksum included: the first [`Cut::header_len`] octets.
    pub fn header(&self, n: usize) -> [u8; 60] {
        if self.header[0] >> 4 == 6 {
            return self.header_v6(n);
        }
        let mut header = self.header;
        let range = self.range(n);
        let word = get16(&header, 6);
        let offset = usize::from(word & OFFSET) + range.start / 8;
        let last = range.end == self.data_len;
        let more = if last {
            word & MORE_FRAGMENTS
        } else {
            MORE_FRAGMENTS
        };
        put16(
            &mut header,
            2,
            u16::try_from(self.len(n)).unwrap_or(u16::MAX),
        );
        put16(
            &mut header,
            6,
            more | u16::try_from(offset).unwrap_or(OFFSET) & OFFSET,
        );
        if n > 0 {
            blank_options(&mut header[20..self.header_len]);
        }
        put16(&mut header, 10, 0);
        let sum = checksum::of(&header[..self.header_len]);
        put16(&mut header, 10, sum);
        header
    }
}

impl Cut {
    fn header_v6(&self, n: usize) -> [u8; 60] {
        let mut header = self.header;
        let range = self.range(n);
        let whole = get16(&header, ipv6::LEN + 2);
        let more = u16::from(range.end < self.data_len) | whole & 1;
        let length = ipv6::FRAGMENT_LEN + range.len();
        put16(&mut header, 4, u16::try_from(length).unwrap_or(u16::MAX));
        let offset = usize::from(whole & !7) + range.start;
        let offset = u16::try_from(offset).unwrap_or(u16::MAX);
        put16(&mut header, ipv6::LEN + 2, offset & !7 | more);
        header
    }
}

/// Replaces the options that only the first piece carries.
fn blank_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at).filter(|&&kind| kind != 0) {
        let len = match kind {
            NO_OPERATION => 1,
            _ => usize::from(options.get(at + 1).copied().unwrap_or(0)).max(1),
        };
        let end = (at + len).min(options.len());
        if kind & COPIED == 0 {
            options[at..end].fill(NO_OPERATION);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{ip, udp};

    /// The pieces, whole.
    fn cut(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let packet = ipv4::Packet::parse(packet).expect("built");
        let cut = Cut::v4(&packet, mtu).expect("too large");
        let piece = |n| {
            let data = &packet.payload()[cut.range(n)];
            [&cut.header(n)[..cut.header_len()], data].concat()
        };
        (0..cut.pieces()).map(piece).collect()
    }

    #[test]
    fn pieces_are_what_the_builder_makes() {
        let whole = ip([192, 0, 2, 7], [10, 0, 0, 1]).id(9).ttl(7).tos(0xb8);
        let whole = whole.with(udp(1, 2).payload(vec![3; 4000]));
        for mtu in [68, 576, 1400, 1500, 4000] {
            let want: Vec<_> = whole
                .fragments(mtu)
                .iter()
                .map(|part| part.bytes())
                .collect();
            assert_eq!(cut(&whole.bytes(), mtu), want, "{mtu}");
        }
    }

    #[test]
    fn a_fragment_is_cut_again() {
        let whole = ip([192, 0, 2, 7], [10, 0, 0, 1])
            .id(9)
            .with(udp(1, 2).payload(vec![3; 4000]));
        let coarse = whole.fragments(1500);
        let fine: Vec<_> = coarse
            .iter()
            .flat_map(|part| cut(&part.bytes(), 600))
            .collect();
        let data: usize = fine.iter().map(|piece| piece.len() - 20).sum();
        assert_eq!(data, 4008);
        let mut next = 0;
        for (n, piece) in fine.iter().enumerate() {
            let piece = ipv4::Packet::parse(&piece[..]).expect("a packet");
            assert!(piece.verify_checksum());
            assert_eq!(piece.fragment_offset(), next, "piece {n}");
            assert_eq!(piece.more_fragments(), n + 1 < fine.len());
            next += piece.payload().len();
        }
    }

    #[test]
    fn only_options_to_be_copied_go_with_later_pieces() {
        let record_route = [7, 3, 4, 0];
        let security = [0x82, 4, 1, 2];
        let options = [record_route, security].concat();
        let whole = ip([192, 0, 2, 7], [10, 0, 0, 1]).options(&options);
        let whole = whole.with(udp(1, 2).payload(vec![3; 100])).bytes();
        let pieces = cut(&whole, 76);
        assert_eq!(pieces[0][20..28], options);
        // The record route ends at its end-of-options octet, where reading stops.
        assert_eq!(pieces[1][20..23], [1, 1, 1]);
    }

    #[test]
    fn what_fits_or_forbids_it_is_not_cut() {
        let packet = ip([192, 0, 2, 7], [10, 0, 0, 1]).with(udp(1, 2).payload(vec![3; 100]));
        let plan = |packet: &crate::build::Packet, mtu| {
            Cut::v4(
                &ipv4::Packet::parse(&packet.bytes()[..]).expect("built"),
                mtu,
            )
            .is_some()
        };
        assert!(plan(&packet, 100));
        assert!(!plan(&packet, 128) && !plan(&packet, 27));
        assert!(!plan(&packet.df(), 100));
    }

    #[test]
    fn a_fragment_of_ipv6_is_cut_again() {
        let address = |last| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let rows = [(0, false), (0, true), (2960, true), (2960, false)];
        for (offset, more) in rows {
            let whole = ip(address(2), address(9)).with(udp(1, 2).payload(vec![3; 1992]));
            let whole = whole.fragment(offset, more).id(0xbeef).bytes();
            let plan = Cut::of(&whole, 1280, 77).expect("too large");
            assert_eq!((plan.pieces(), plan.data_at()), (2, 48));
            let mut next = usize::from(offset);
            let mut data = Vec::new();
            for n in 0..plan.pieces() {
                let body = &whole[48..][plan.range(n)];
                let piece = [&plan.header(n)[..48], body].concat();
                assert!(piece.len() <= 1280 && piece.len() == plan.len(n));
                let parsed = ipv6::Packet::parse(&piece[..]).expect("a packet");
                let fragment = parsed.upper().expect("a chain").fragment;
                let fragment = fragment.expect("a fragment header");
                assert_eq!((fragment.id, fragment.offset), (0xbeef, next));
                assert_eq!(fragment.more, n == 0 || more, "{offset}, piece {n}");
                next += body.len();
                data.extend_from_slice(body);
            }
            assert_eq!(data, whole[48..]);
        }
    }

    #[test]
    fn a_tunnels_outer_packet_is_cut_behind_its_header() {
        let address = |last| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let (from, to) = (address(2), address(9));
        let inner = ip([192, 0, 2, 7], [10, 0, 0, 1]).with(udp(1, 2).payload(vec![3; 3000]));
        let whole = ip(from, to).with(inner).bytes();
        for mtu in [1280, 1500, 3000] {
            let plan = Cut::of(&whole, mtu, 77).expect("too large");
            let mut data = Vec::new();
            for n in 0..plan.pieces() {
                let range = plan.range(n);
                let piece = [&plan.header(n)[..48], &whole[40..][range.clone()]].concat();
                assert_eq!((plan.len(n), plan.data_at()), (piece.len(), 40));
                assert!(piece.len() <= mtu);
                let parsed = ipv6::Packet::parse(&piece[..]).expect("a packet");
                assert_eq!((parsed.total_len(), parsed.src()), (piece.len(), from));
                let upper = parsed.upper().expect("one fragment header");
                let fragment = upper.fragment.expect("a fragment");
                assert_eq!((upper.protocol, fragment.id), (crate::Protocol::IPIP, 77));
                assert_eq!(fragment.offset, data.len());
                assert_eq!(fragment.more, n + 1 < plan.pieces());
                data.extend_from_slice(parsed.upper_payload(&upper));
            }
            assert_eq!(data, whole[40..], "{mtu}");
        }
        assert!(Cut::of(&whole, whole.len(), 77).is_none(), "it fits");
        let extended = ip(from, to).hop_by_hop();
        let extended = extended.with(udp(1, 2).payload(vec![3; 3000])).bytes();
        assert!(Cut::of(&extended, 1500, 77).is_none());
    }
}
