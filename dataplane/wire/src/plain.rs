//! The common packet in one look: Ethernet, IP without options or extension headers, whole, TCP or
//! UDP.
//!
//! [`Plain::parse`] says yes only where the views of [`ethernet`](crate::ethernet),
//! [`ipv4`](crate::ipv4), [`ipv6`](crate::ipv6), [`tcp`](crate::tcp) and [`udp`](crate::udp) would
//! all say yes, the header checksum is right and the frame is as long as one with TCP; a property
//! test holds it to that. A no means nothing: ask the views, they know why. One bounds check for all
//! fixed fields instead of one for each header makes it a quarter of their cost.

mod rewrite;

use crate::bytes::{get, get16};
use crate::checksum::end_around;
use crate::ethernet::Mac;
use crate::tcp::Flags;

pub use rewrite::{
    Aged, Ends, Exchange, Owed, age, age_v6, pass, pass_v6, readdress, readdress_v6,
};

/// Ethernet, IPv4 and TCP: what is shorter is left to the views.
const HEAD: usize = 54;
/// The same of IPv6.
const HEAD_V6: usize = 74;
const ETHERNET: usize = 14;
const IPV4: u16 = 20;
const IPV6: u16 = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a plain packet says. `A` is `u32` or `u128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<A> {
    /// Destination MAC.
    pub to: Mac,
    /// Source address, in host order.
    pub src: A,
    /// Destination address, in host order.
    pub dst: A,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// Hops left.
    pub ttl: u8,
    /// May no router fragment it? Never, in IPv6.
    pub dont_fragment: bool,
    /// Octets of the IP packet.
    pub total_len: u16,
    /// TCP's control bits; none for UDP.
    pub flags: Flags,
}

impl Plain<u32> {
    /// The IPv4 packet in `frame`, if it is a plain one.
    #[inline(always)]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = frame.first_chunk()?;
        // Version to fragment offset, TTL to source, destination: each read once.
        let (first, second) = (word(head, 14), word(head, 22));
        let third = u32::from_le_bytes(get(head, 30));
        let whole = first & 0xff3f_0000_0000_00ff == 0x45;
        if !whole || get::<2>(head, 12) != [0x08, 0x00] || !is_intact(first, second, third) {
            return None;
        }
        let total_len = get16(head, 16);
        if usize::from(total_len) + ETHERNET > frame.len() {
            return None;
        }
        let [ttl, protocol, ..] = second.to_le_bytes();
        let flags = transport(protocol, get(head, 46), get16(head, 38), total_len, IPV4)?;
        let [src, dst] = addresses(get(head, 26));
        let [src_port, dst_port] = ports(get(head, 34));
        Some(Self {
            to: mac(get(head, 0)),
            src,
            dst,
            src_port,
            dst_port,
            protocol,
            ttl,
            dont_fragment: first & 1 << 54 != 0,
            total_len,
            flags,
        })
    }
}

impl Plain<u128> {
    /// The IPv6 packet in `frame`, if it is a plain one.
    #[inline(always)]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_V6] = frame.first_chunk()?;
        if get::<2>(head, 12) != [0x86, 0xdd] || head[14] >> 4 != 6 {
            return None;
        }
        let total_len = get16(head, 18).checked_add(IPV6)?;
        if usize::from(total_len) + ETHERNET > frame.len() {
            return None;
        }
        let protocol = head[20];
        let flags = transport(protocol, get(head, 66), get16(head, 58), total_len, IPV6)?;
        let [src_port, dst_port] = ports(get(head, 54));
        Some(Self {
            to: mac(get(head, 0)),
            src: u128::from_be_bytes(get(head, 22)),
            dst: u128::from_be_bytes(get(head, 38)),
            src_port,
            dst_port,
            protocol,
            ttl: head[21],
            dont_fragment: true,
            total_len,
            flags,
        })
    }
}

/// The MAC that eight octets begin with: one read, where six octets would be two.
#[inline(always)]
fn mac([a, b, c, d, e, f, ..]: [u8; 8]) -> Mac {
    Mac([a, b, c, d, e, f])
}

/// Source and destination of IPv4, in one read.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "each half is one of them")]
fn addresses(bytes: [u8; 8]) -> [u32; 2] {
    let both = u64::from_be_bytes(bytes);
    [(both >> 32) as u32, both as u32]
}

/// Source and destination port, in one read.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "each half is one of them")]
fn ports(bytes: [u8; 4]) -> [u16; 2] {
    let both = u32::from_be_bytes(bytes);
    [(both >> 16) as u16, both as u16]
}

/// TCP's control bits, if the transport's header is whole behind an IP header of `header` octets;
/// none for UDP. `offset` is TCP's header length and control bits, `length` UDP's.
#[inline(always)]
fn transport(
    protocol: u8,
    [offset, flags]: [u8; 2],
    length: u16,
    total_len: u16,
    header: u16,
) -> Option<Flags> {
    if protocol == TCP {
        let end = header + u16::from(offset >> 4) * 4;
        return (offset >= 5 << 4 && end <= total_len).then_some(Flags(flags));
    }
    let fits = length >= 8 && u32::from(header) + u32::from(length) <= u32::from(total_len);
    (protocol == UDP && fits).then_some(Flags(0))
}

#[inline(always)]
fn word(head: &[u8; HEAD], at: usize) -> u64 {
    u64::from_le_bytes(get(head, at))
}

/// Whether the header is intact: as 2^16 is 1 modulo 65535, its sum in one's complement is the
/// rest that its words leave, whatever their size and order (RFC 1071 section 2 (B)); and a
/// header that begins with a version is not all zeros.
#[inline(always)]
fn is_intact(first: u64, second: u64, third: u32) -> bool {
    end_around(end_around(first, second), u64::from(third)).is_multiple_of(0xffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{ip, tcp, udp};
    use crate::ethernet::Macs;
    use crate::{Protocol, ethernet, ipv4, ipv6, segment::Segment};

    /// The same by the views.
    fn viewed(frame: &[u8]) -> Option<Plain<u32>> {
        let ethernet = ethernet::Frame::parse(frame).ok()?;
        let to = ethernet.dst();
        if ethernet.ethertype() != crate::EtherType::IPV4 || frame.len() < HEAD {
            return None;
        }
        let ip = ipv4::Packet::parse(ethernet.into_payload()).ok()?;
        let plain = ip.header_len() == 20 && !ip.is_fragment() && ip.verify_checksum();
        let segment = Segment::parse(ip.protocol(), ip.payload()).ok()?;
        let flags = match segment {
            Segment::Tcp(tcp) => tcp.flags(),
            Segment::Udp(_) => Flags(0),
            Segment::Sctp(_) => return None,
        };
        plain.then(|| Plain {
            to,
            src: ip.src().to_bits(),
            dst: ip.dst().to_bits(),
            src_port: segment.src_port(),
            dst_port: segment.dst_port(),
            protocol: ip.protocol().0,
            ttl: ip.ttl(),
            dont_fragment: ip.dont_fragment(),
            total_len: u16::try_from(ip.total_len()).expect("16 bits"),
            flags,
        })
    }

    /// The same by the views.
    fn viewed_v6(frame: &[u8]) -> Option<Plain<u128>> {
        let ethernet = ethernet::Frame::parse(frame).ok()?;
        let to = ethernet.dst();
        if ethernet.ethertype() != crate::EtherType::IPV6 || frame.len() < HEAD_V6 {
            return None;
        }
        let ip = ipv6::Packet::parse(ethernet.into_payload()).ok()?;
        let segment = Segment::parse(ip.next_header(), ip.payload()).ok()?;
        let flags = match segment {
            Segment::Tcp(tcp) => tcp.flags(),
            Segment::Udp(_) => Flags(0),
            Segment::Sctp(_) => return None,
        };
        Some(Plain {
            to,
            src: ip.src().to_bits(),
            dst: ip.dst().to_bits(),
            src_port: segment.src_port(),
            dst_port: segment.dst_port(),
            protocol: ip.next_header().0,
            ttl: ip.hop_limit(),
            dont_fragment: true,
            total_len: u16::try_from(ip.total_len()).ok()?,
            flags,
        })
    }

    fn frames(v6: bool) -> impl Strategy<Value = Vec<u8>> {
        let body = (any::<bool>(), any::<[u16; 2]>(), 0usize..40, any::<u8>());
        body.prop_map(move |(is_tcp, [from, to], octets, flags)| {
            let packet = match v6 {
                true => ip([7; 16], [8; 16]),
                false => ip([192, 0, 2, 7], [10, 0, 0, 1]).df().id(u32::from(from)),
            };
            let packet = if is_tcp {
                packet.with(tcp(from, to).flags(Flags(flags)).payload(vec![1; octets]))
            } else {
                packet.with(udp(from, to).payload(vec![1; octets]))
            };
            packet.ether(Mac([2; 6]), Mac([4; 6])).bytes()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn agrees_with_the_views(
            mut frame in frames(false),
            damage in prop::option::of((0usize..60, any::<u8>())),
            cut in prop::option::of(0usize..60),
        ) {
            if let Some((at, value)) = damage && let Some(octet) = frame.get_mut(at) {
                *octet = value;
            }
            frame.truncate(cut.unwrap_or(usize::MAX));
            prop_assert_eq!(Plain::<u32>::parse(&frame), viewed(&frame));
        }

        #[test]
        fn agrees_with_the_views_of_v6(
            mut frame in frames(true),
            damage in prop::option::of((0usize..80, any::<u8>())),
            cut in prop::option::of(0usize..80),
        ) {
            if let Some((at, value)) = damage && let Some(octet) = frame.get_mut(at) {
                *octet = value;
            }
            frame.truncate(cut.unwrap_or(usize::MAX));
            prop_assert_eq!(Plain::<u128>::parse(&frame), viewed_v6(&frame));
        }

        #[test]
        fn passing_is_what_the_views_do(mut frame in frames(false), ttl in any::<u8>()) {
            let (ours, next) = (Mac([6; 6]), Mac([8; 6]));
            {
                let mut ethernet = ethernet::Frame::parse(&mut frame[..]).expect("built");
                ipv4::Packet::parse(ethernet.payload_mut()).expect("built").set_ttl(ttl);
            }
            let mut want = frame.clone();
            let mut ethernet = ethernet::Frame::parse(&mut want[..]).expect("built");
            let mut ip = ipv4::Packet::parse(ethernet.payload_mut()).expect("built");
            let aged = ip.decrement_ttl().is_ok();
            let end = ETHERNET + ip.total_len();
            if aged {
                ethernet.set_macs(ours, next);
            }
            prop_assert_eq!(pass(&mut frame, &Macs::new(ours, next)), aged.then_some(end));
            // One's complement has two zeros; the header is intact by either.
            let intact = ipv4::Packet::parse(&frame[ETHERNET..]).expect("built").verify_checksum();
            prop_assert!(intact);
            frame[24..26].fill(0);
            want[24..26].fill(0);
            prop_assert_eq!(frame, want);
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_views() {
        let base = ip([192, 0, 2, 7], [10, 0, 0, 1]);
        let frame = |packet: crate::build::Packet| packet.ether(Mac::ZERO, Mac::ZERO).bytes();
        let others = [
            frame(base.clone().options(&[1, 1, 1, 1]).with(tcp(1, 2))),
            frame(
                base.clone()
                    .fragment(0, true)
                    .with(udp(1, 2).payload([0; 8])),
            ),
            frame(base.clone().bad_checksum().with(tcp(1, 2))),
            frame(base.clone().raw(Protocol::ICMP, [8, 0, 0, 0, 0, 0, 0, 0])),
            frame(ip([0; 16], [1; 16]).hop_by_hop().with(tcp(1, 2))),
        ];
        for other in others {
            assert_eq!(Plain::<u32>::parse(&other), None);
            assert_eq!(Plain::<u128>::parse(&other), None);
        }
        assert!(Plain::<u32>::parse(&frame(base.with(tcp(1, 2)))).is_some());
    }
}
