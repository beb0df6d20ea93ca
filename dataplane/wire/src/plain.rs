//! The common packet in one look: Ethernet, IP without options or extension headers, whole, TCP or
//! UDP.
//!
//! [`Plain::parse`] says yes only where the views of [`ethernet`](crate::ethernet),
//! [`ipv4`](crate::ipv4), [`ipv6`](crate::ipv6), [`tcp`](crate::tcp) and [`udp`](crate::udp) would
//! all say yes and the header checksum is right; a property test holds it to that. A no means
//! nothing: ask the views, they know why. One bounds check for all fixed fields instead of one for
//! each header makes it a third of their cost.

mod rewrite;

use crate::bytes::{get, get16};
use crate::ethernet::Mac;
use crate::tcp::Flags;

pub use rewrite::{Ends, pass, pass_v6, readdress, readdress_v6};

/// Ethernet, IPv4 and UDP, or the start of TCP.
const HEAD: usize = 42;
/// The same of IPv6.
const HEAD_V6: usize = 62;
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
        if get::<3>(head, 12) != [0x08, 0x00, 0x45] {
            return None;
        }
        let (total_len, part) = (get16(head, 16), get16(head, 20));
        let whole = part & 0x3fff == 0 && usize::from(total_len) + ETHERNET <= frame.len();
        if !whole || header_sum(head) != 0xffff {
            return None;
        }
        let room = total_len.checked_sub(IPV4)?;
        let flags = match head[23] {
            TCP => tcp(frame.get(46..48)?.first_chunk()?, room)?,
            UDP => udp(get16(head, 38), room)?,
            _ => return None,
        };
        let [src, dst] = addresses(get(head, 26));
        Some(Self {
            to: Mac(get(head, 0)),
            src,
            dst,
            src_port: get16(head, 34),
            dst_port: get16(head, 36),
            protocol: head[23],
            ttl: head[22],
            dont_fragment: part & 0x4000 != 0,
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
        let room = get16(head, 18);
        let total_len = room.checked_add(IPV6)?;
        if usize::from(total_len) + ETHERNET > frame.len() {
            return None;
        }
        let flags = match head[20] {
            TCP => tcp(frame.get(66..68)?.first_chunk()?, room)?,
            UDP => udp(get16(head, 58), room)?,
            _ => return None,
        };
        Some(Self {
            to: Mac(get(head, 0)),
            src: u128::from_be_bytes(get(head, 22)),
            dst: u128::from_be_bytes(get(head, 38)),
            src_port: get16(head, 54),
            dst_port: get16(head, 56),
            protocol: head[20],
            ttl: head[21],
            dont_fragment: true,
            total_len,
            flags,
        })
    }
}

/// Source and destination of IPv4, in one read.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "each half is one of them")]
fn addresses(bytes: [u8; 8]) -> [u32; 2] {
    let both = u64::from_be_bytes(bytes);
    [(both >> 32) as u32, both as u32]
}

/// TCP's control bits, if its header is whole in `room` octets.
#[inline(always)]
fn tcp(&[offset, flags]: &[u8; 2], room: u16) -> Option<Flags> {
    let header = u16::from(offset >> 4) * 4;
    (header >= 20 && header <= room).then_some(Flags(flags))
}

/// Nothing, if UDP's length fits into `room` octets.
#[inline(always)]
fn udp(length: u16, room: u16) -> Option<Flags> {
    (length >= 8 && length <= room).then_some(Flags(0))
}

/// The folded sum of the header, in the machine's byte order: all ones when it is intact
/// (RFC 1071 section 2 (B)).
#[inline(always)]
fn header_sum(head: &[u8; HEAD]) -> u16 {
    let word = |at| u64::from(u32::from_ne_bytes(get(head, at)));
    let sum = word(14) + word(18) + word(22) + word(26) + word(30);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum & 0xffff).expect("masked") + u16::try_from(sum >> 16).expect("a carry")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{ip, tcp, udp};
    use crate::{Protocol, ethernet, ipv4, ipv6, segment::Segment};

    /// The same by the views.
    fn viewed(frame: &[u8]) -> Option<Plain<u32>> {
        let ethernet = ethernet::Frame::parse(frame).ok()?;
        let to = ethernet.dst();
        if ethernet.ethertype() != crate::EtherType::IPV4 {
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
        if ethernet.ethertype() != crate::EtherType::IPV6 {
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
            prop_assert_eq!(pass(&mut frame, ours, next), aged.then_some(end));
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
