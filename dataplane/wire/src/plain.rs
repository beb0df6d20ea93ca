//! The common packet in one look: Ethernet, IPv4 without options, whole, TCP or UDP.
//!
//! [`Plain::parse`] says yes only where the views of [`ethernet`](crate::ethernet),
//! [`ipv4`](crate::ipv4), [`tcp`](crate::tcp) and [`udp`](crate::udp) would all say yes and the
//! header checksum is right; a property test holds it to that. A no means nothing: ask the views,
//! they know why. One bounds check for 42 octets instead of one for each header makes it a third
//! of their cost.

use crate::bytes::{get, get16, put};
use crate::ethernet::Mac;
use crate::tcp::Flags;

/// Ethernet, IPv4 and UDP, or the start of TCP.
const HEAD: usize = 42;
const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a plain packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Destination MAC.
    pub to: Mac,
    /// Source address, in host order.
    pub src: u32,
    /// Destination address, in host order.
    pub dst: u32,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// Hops left.
    pub ttl: u8,
    /// May no router fragment it?
    pub dont_fragment: bool,
    /// Octets of the IP packet.
    pub total_len: u16,
    /// TCP's control bits; none for UDP.
    pub flags: Flags,
}

impl Plain {
    /// The packet in `frame`, if it is a plain one.
    #[inline]
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
        let flags = match head[23] {
            TCP => tcp(frame, total_len)?,
            UDP => udp(get16(head, 38), total_len)?,
            _ => return None,
        };
        Some(Self {
            to: Mac(get(head, 0)),
            src: u32::from_be_bytes(get(head, 26)),
            dst: u32::from_be_bytes(get(head, 30)),
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

/// TCP's control bits, if its header is whole.
#[inline]
fn tcp(frame: &[u8], total_len: u16) -> Option<Flags> {
    let &[offset, flags] = frame.get(46..48)?.first_chunk()?;
    let header = u16::from(offset >> 4) * 4;
    (header >= 20 && 20 + header <= total_len).then_some(Flags(flags))
}

/// Nothing, if UDP's length fits.
#[inline]
fn udp(length: u16, total_len: u16) -> Option<Flags> {
    (length >= 8 && 20 + u32::from(length) <= u32::from(total_len)).then_some(Flags(0))
}

/// The folded sum of the header, in the machine's byte order: all ones when it is intact
/// (RFC 1071 section 2 (B)).
#[inline]
fn header_sum(head: &[u8; HEAD]) -> u16 {
    let word = |at| u64::from(u32::from_ne_bytes(get(head, at)));
    let sum = word(14) + word(18) + word(22) + word(26) + word(30);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum & 0xffff).expect("masked") + u16::try_from(sum >> 16).expect("a carry")
}

/// Sends a plain frame one hop further in a new envelope and says where its packet ends; `None`,
/// and no change, where it is none or has no hops left.
#[inline]
pub fn pass(frame: &mut [u8], src: Mac, dst: Mac) -> Option<usize> {
    let head: &mut [u8; 34] = frame.first_chunk_mut()?;
    if get::<3>(head, 12) != [0x08, 0x00, 0x45] || head[22] <= 1 {
        return None;
    }
    head[22] -= 1;
    // RFC 1141: one less in the upper octet is 0x0100 more in the checksum, carry brought round.
    let (sum, carry) = get16(head, 24).overflowing_add(0x0100);
    put(head, 24, (sum + u16::from(carry)).to_be_bytes());
    put(head, 0, dst.0);
    put(head, 6, src.0);
    Some(ETHERNET + usize::from(get16(head, 16)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{ip, tcp, udp};
    use crate::{Protocol, ethernet, ipv4, segment::Segment};

    /// The same by the views.
    fn viewed(frame: &[u8]) -> Option<Plain> {
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

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let body = (any::<bool>(), any::<[u16; 2]>(), 0usize..40, any::<u8>());
        body.prop_map(|(is_tcp, [from, to], octets, flags)| {
            let packet = ip([192, 0, 2, 7], [10, 0, 0, 1]).df().id(u32::from(from));
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
            mut frame in frames(),
            damage in prop::option::of((0usize..60, any::<u8>())),
            cut in prop::option::of(0usize..60),
        ) {
            if let Some((at, value)) = damage && let Some(octet) = frame.get_mut(at) {
                *octet = value;
            }
            frame.truncate(cut.unwrap_or(usize::MAX));
            prop_assert_eq!(Plain::parse(&frame), viewed(&frame));
        }

        #[test]
        fn passing_is_what_the_views_do(mut frame in frames(), ttl in any::<u8>()) {
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
            frame(ip([0; 16], [1; 16]).with(tcp(1, 2))),
        ];
        for other in others {
            assert_eq!(Plain::parse(&other), None);
        }
        assert!(Plain::parse(&frame(base.with(tcp(1, 2)))).is_some());
    }
}
