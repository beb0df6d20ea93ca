//! A plain packet, one hop further: in a new envelope, and between new ends.
//!
//! Sums are taken of what stands in the frame, in the machine's byte order: one's complement does
//! not care (RFC 1071 section 2 (B)). Where a packet is not plain or has no hops left, nothing
//! changes and the answer is `None`.

use super::{ETHERNET, HEAD, HEAD_V6, IPV4, IPV6, TCP, UDP};
use crate::bytes::{get, get16, put};
use crate::checksum::{end_around, fold, for_udp};
use crate::ethernet::Macs;
use crate::ipv4::Lead;

/// Who a packet is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<A> {
    /// Source address, in host order.
    pub src: A,
    /// Destination address, in host order.
    pub dst: A,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl<A> Ends<A> {
    /// The ports as they stand in a frame.
    #[inline(always)]
    fn ports(&self) -> [u8; 4] {
        (u32::from(self.src_port) << 16 | u32::from(self.dst_port)).to_be_bytes()
    }
}

/// What one hop less owes to the header's checksum: the octet before the protocol is one less.
const ONE_HOP: u64 = u16::from_ne_bytes([0xfe, 0xff]) as u64;

/// A plain packet that is one hop older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aged {
    /// DSCP and ECN, and the octets of the packet: as IPv4 has them, in IPv6 too.
    pub lead: Lead,
    /// Hops that are left.
    pub hops: u8,
}

impl Aged {
    /// Octets of the frame, without what Ethernet padded.
    #[inline(always)]
    pub fn end(&self) -> usize {
        ETHERNET + usize::from(self.lead.length())
    }
}

/// Sends a plain IPv4 frame one hop further in a new envelope and says where its packet ends.
#[inline(always)]
pub fn pass(frame: &mut [u8], macs: &Macs) -> Option<usize> {
    let aged = age(frame)?;
    let head: &mut [u8; 34] = frame.first_chunk_mut()?;
    macs.put(head);
    Some(aged.end())
}

/// The same in the envelope that it has; says what the packet is then.
#[inline(always)]
pub fn age(frame: &mut [u8]) -> Option<Aged> {
    let head: &mut [u8; 34] = frame.first_chunk_mut()?;
    if !may_pass(head) {
        return None;
    }
    let hops = head[22] - 1;
    head[22] = hops;
    let sum = one_hop_less(u16::from_ne_bytes(get(head, 24)));
    put(head, 24, sum.to_ne_bytes());
    Some(Aged {
        lead: Lead::read(get(head, 14)),
        hops,
    })
}

/// A header's checksum once its packet has a hop less: the octet before the protocol is one less,
/// so the checksum is one more there, and the carry comes in from below (RFC 1624 section 3).
/// Never 65535, as eqn. 3 there has it.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the carry is in already")]
fn one_hop_less(old: u16) -> u16 {
    let sum = u32::from(old) + u32::from(u16::from_ne_bytes([1, 0]));
    (sum + u32::from(sum >= 0xffff)) as u16
}

/// As [`pass`], for IPv6, which has no checksum of its own.
#[inline(always)]
pub fn pass_v6(frame: &mut [u8], macs: &Macs) -> Option<usize> {
    let aged = age_v6(frame)?;
    let head: &mut [u8; 54] = frame.first_chunk_mut()?;
    macs.put(head);
    Some(aged.end())
}

/// As [`age`], for IPv6; one whose length is past 65,535 octets is not plain.
#[inline(always)]
pub fn age_v6(frame: &mut [u8]) -> Option<Aged> {
    let head: &mut [u8; 54] = frame.first_chunk_mut()?;
    let length = get16(head, 18).checked_add(IPV6)?;
    if !may_pass_v6(head) {
        return None;
    }
    let hops = head[21] - 1;
    head[21] = hops;
    let [_, tos] = (get16(head, 14) >> 4).to_be_bytes();
    Some(Aged {
        lead: Lead::new(tos, length),
        hops,
    })
}

/// As [`pass`], between new ends.
#[inline(always)]
pub fn readdress(frame: &mut [u8], macs: &Macs, ends: Ends<u32>) -> Option<usize> {
    let head: &mut [u8; HEAD] = frame.first_chunk_mut()?;
    let protocol = head[23];
    if !may_pass(head) || !is_summed(protocol) {
        return None;
    }
    let new = (u64::from(ends.src) << 32 | u64::from(ends.dst)).to_be_bytes();
    let addresses = narrowed(owed_64(get(head, 26), new));
    let ports = owed_32(get(head, 34), ends.ports());
    head[22] -= 1;
    let sum = u64::from(!u16::from_ne_bytes(get(head, 24))) + addresses + ONE_HOP;
    put(head, 24, (!fold(sum)).to_ne_bytes());
    put(head, 26, new);
    put(head, 34, ends.ports());
    macs.put(head);
    settle(head, usize::from(IPV4), protocol, addresses + ports);
    Some(ETHERNET + usize::from(get16(head, 16)))
}

/// As [`readdress`], for IPv6.
#[inline(always)]
pub fn readdress_v6(frame: &mut [u8], macs: &Macs, ends: Ends<u128>) -> Option<usize> {
    let head: &mut [u8; HEAD_V6] = frame.first_chunk_mut()?;
    let protocol = head[20];
    if !may_pass_v6(head) || !is_summed(protocol) {
        return None;
    }
    let (from, to) = (ends.src.to_be_bytes(), ends.dst.to_be_bytes());
    let addresses = end_around(
        end_around(
            owed_64(get(head, 22), get(&from, 0)),
            owed_64(get(head, 30), get(&from, 8)),
        ),
        end_around(
            owed_64(get(head, 38), get(&to, 0)),
            owed_64(get(head, 46), get(&to, 8)),
        ),
    );
    let ports = owed_32(get(head, 54), ends.ports());
    head[21] -= 1;
    put(head, 22, from);
    put(head, 38, to);
    put(head, 54, ends.ports());
    macs.put(head);
    settle(
        head,
        usize::from(IPV6),
        protocol,
        narrowed(addresses) + ports,
    );
    Some(ETHERNET + usize::from(IPV6) + usize::from(get16(head, 18)))
}

/// Whether it is IPv4 without options and has hops left.
#[inline(always)]
fn may_pass(head: &[u8]) -> bool {
    // EtherType and version in one look; the octet behind them says something else.
    u32::from_le_bytes(get(head, 12)) & 0x00ff_ffff == 0x0045_0008 && head[22] > 1
}

/// The same for IPv6.
#[inline(always)]
fn may_pass_v6(head: &[u8]) -> bool {
    get::<2>(head, 12) == [0x86, 0xdd] && head[21] > 1
}

/// Whether the transport's checksum is patched here.
#[inline(always)]
fn is_summed(protocol: u8) -> bool {
    protocol == TCP || protocol == UDP
}

/// Pays what is owed to the transport's checksum behind an IP header of so many octets; one that
/// is absent in UDP stays so. Always called with a frame that has it.
#[inline(always)]
fn settle(head: &mut [u8], header: usize, protocol: u8, owed: u64) {
    let paid = |old: [u8; 2]| !fold(u64::from(!u16::from_ne_bytes(old)) + owed);
    if protocol == TCP {
        let at = ETHERNET + header + 16;
        return put(head, at, paid(get(head, at)).to_ne_bytes());
    }
    let at = ETHERNET + header + 6;
    let old = get(head, at);
    if old != [0, 0] {
        put(head, at, for_udp(paid(old)).to_ne_bytes());
    }
}

/// What a change owes (RFC 1624 section 3, eqn. 3).
#[inline(always)]
fn owed_64(old: [u8; 8], new: [u8; 8]) -> u64 {
    end_around(!u64::from_ne_bytes(old), u64::from_ne_bytes(new))
}

/// The same of 32 bits: less than 2^33.
#[inline(always)]
fn owed_32(old: [u8; 4], new: [u8; 4]) -> u64 {
    u64::from(!u32::from_ne_bytes(old)) + u64::from(u32::from_ne_bytes(new))
}

/// The same sum in less than 2^33, so that others can be added.
#[inline(always)]
fn narrowed(sum: u64) -> u64 {
    (sum >> 32) + (sum & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{ip, tcp, udp};
    use crate::ethernet::Mac;

    const OURS: Mac = Mac([6; 6]);
    const NEXT: Mac = Mac([8; 6]);

    /// The packet of a case between two ends, its hops given, in an envelope.
    fn built<A: Into<std::net::IpAddr>>(
        (from, to): (A, A),
        (from_port, to_port): (u16, u16),
        ttl: u8,
        body: &(bool, bool, Vec<u8>),
    ) -> crate::build::Packet {
        let (is_tcp, summed, data) = body;
        let packet = ip(from, to).ttl(ttl);
        match (is_tcp, summed) {
            (true, _) => packet.with(tcp(from_port, to_port).ack().payload(data.clone())),
            (false, true) => packet.with(udp(from_port, to_port).payload(data.clone())),
            (false, false) => packet.with(udp(from_port, to_port).unsummed().payload(data.clone())),
        }
    }

    /// The packet's frame, as long as one with TCP: what is shorter is not plain.
    fn padded(packet: crate::build::Packet) -> Vec<u8> {
        let mut frame = packet.ether(Mac::ZERO, Mac::ZERO).bytes();
        frame.resize(frame.len().max(HEAD_V6), 0);
        frame
    }

    /// One's complement has two zeros: the frame without the checksums that were verified.
    fn normal(frame: &[u8], header: usize, is_tcp: bool) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if header == 20 {
            let ip = crate::ipv4::Packet::parse(&frame[ETHERNET..]).expect("built");
            assert!(ip.verify_checksum());
            frame[24..26].fill(0);
        }
        let at = ETHERNET + header + if is_tcp { 16 } else { 6 };
        if frame[at..at + 2] == [0xff, 0xff] {
            frame[at..at + 2].fill(0);
        }
        frame
    }

    fn body() -> impl Strategy<Value = (bool, bool, Vec<u8>)> {
        (
            any::<bool>(),
            any::<bool>(),
            prop::collection::vec(any::<u8>(), 0..30),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn new_ends_are_as_if_built_so(
            old in any::<([u8; 4], [u8; 4], u16, u16)>(),
            new in any::<([u8; 4], [u8; 4], u16, u16)>(),
            ttl in 2u8..,
            body in body(),
        ) {
            let mut frame = padded(built((old.0, old.1), (old.2, old.3), ttl, &body));
            let want = built((new.0, new.1), (new.2, new.3), ttl - 1, &body)
                .ether(OURS, NEXT).bytes();
            let ends = Ends {
                src: u32::from_be_bytes(new.0),
                dst: u32::from_be_bytes(new.1),
                src_port: new.2,
                dst_port: new.3,
            };
            let end = readdress(&mut frame, &Macs::new(OURS, NEXT), ends);
            prop_assert_eq!(end, Some(want.len()));
            frame.truncate(want.len());
            prop_assert_eq!(normal(&frame, 20, body.0), normal(&want, 20, body.0));
        }

        #[test]
        fn the_same_in_v6(
            old in any::<([u8; 16], [u8; 16], u16, u16)>(),
            new in any::<([u8; 16], [u8; 16], u16, u16)>(),
            ttl in 2u8..,
            body in body(),
        ) {
            let mut frame = padded(built((old.0, old.1), (old.2, old.3), ttl, &body));
            let mut passed = frame.clone();
            let same = built((old.0, old.1), (old.2, old.3), ttl - 1, &body)
                .ether(OURS, NEXT).bytes();
            prop_assert_eq!(pass_v6(&mut passed, &Macs::new(OURS, NEXT)), Some(same.len()));
            prop_assert_eq!(&passed[..same.len()], same);
            let want = built((new.0, new.1), (new.2, new.3), ttl - 1, &body)
                .ether(OURS, NEXT).bytes();
            let ends = Ends {
                src: u128::from_be_bytes(new.0),
                dst: u128::from_be_bytes(new.1),
                src_port: new.2,
                dst_port: new.3,
            };
            let end = readdress_v6(&mut frame, &Macs::new(OURS, NEXT), ends);
            prop_assert_eq!(end, Some(want.len()));
            frame.truncate(want.len());
            prop_assert_eq!(normal(&frame, 40, body.0), normal(&want, 40, body.0));
        }
    }

    #[test]
    fn a_hop_less_is_what_the_equation_says() {
        for old in 0..=u16::MAX {
            let want = !fold(u64::from(!old) + ONE_HOP);
            assert_eq!(one_hop_less(old), want, "{old:#06x}");
        }
    }

    #[test]
    fn without_hops_nothing_changes() {
        let body = (true, true, vec![]);
        let ends = |src, dst| Ends {
            src,
            dst,
            src_port: 3,
            dst_port: 4,
        };
        let v4 = built(([1; 4], [2; 4]), (1, 2), 1, &body)
            .ether(OURS, NEXT)
            .bytes();
        let mut frame = v4.clone();
        assert_eq!(
            readdress(&mut frame, &Macs::new(NEXT, OURS), ends(1, 2)),
            None
        );
        assert_eq!(frame, v4);
        let v6 = built(([1; 16], [2; 16]), (1, 2), 1, &body)
            .ether(OURS, NEXT)
            .bytes();
        let mut frame = v6.clone();
        let ends = Ends {
            src: 1,
            dst: 2,
            src_port: 3,
            dst_port: 4,
        };
        assert_eq!(readdress_v6(&mut frame, &Macs::new(NEXT, OURS), ends), None);
        assert_eq!(pass_v6(&mut frame, &Macs::new(NEXT, OURS)), None);
        assert_eq!(frame, v6);
    }
}
