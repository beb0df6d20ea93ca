//! A plain packet, one hop further: in a new envelope, and between new ends.
//!
//! Sums are taken of what stands in the frame, in the machine's byte order: one's complement does
//! not care (RFC 1071 section 2 (B)). Where a packet is not plain or has no hops left, nothing
//! changes and the answer is `None`.

use std::num::NonZeroU16;

use super::{ETHERNET, HEAD, HEAD_V6, IPV4, IPV6, TCP, UDP};
use crate::bytes::{get, get16, put};
use crate::checksum::{Delta, end_around_32, fold_32, for_udp};
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

impl Ends<u32> {
    /// The addresses as they stand in a frame.
    #[inline(always)]
    fn addresses(&self) -> [u8; 8] {
        (u64::from(self.src) << 32 | u64::from(self.dst)).to_be_bytes()
    }
}

impl<A> Ends<A> {
    /// The ports as they stand in a frame.
    #[inline(always)]
    fn ports(&self) -> [u8; 4] {
        (u32::from(self.src_port) << 16 | u32::from(self.dst_port)).to_be_bytes()
    }
}

/// What new ends owe to the checksums of a connection's packets: the same for all that go one way,
/// so a table can keep it, in 16 bits for both ways.
///
/// The folded sum of RFC 1624 section 3, eqn. 3, over both addresses, in the machine's byte order;
/// in IPv6, whose header has no checksum, over the ports too. One's complement has two zeros; here
/// it is 65535, as in the sum of any change: by it a patch makes the zero that eqn. 3 makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange(NonZeroU16);

/// Of the same ends.
impl Default for Exchange {
    fn default() -> Self {
        Self(NonZeroU16::MAX)
    }
}

impl Exchange {
    /// Of IPv4 packets between `old` that leave between `new`, and of those the other way.
    #[inline]
    pub fn v4(old: &Ends<u32>, new: &Ends<u32>) -> Self {
        Self::of(Delta::u32(old.src, new.src).and(Delta::u32(old.dst, new.dst)))
    }

    /// The same of IPv6.
    #[inline]
    pub fn v6(old: &Ends<u128>, new: &Ends<u128>) -> Self {
        let addresses = Delta::u128(old.src, new.src).and(Delta::u128(old.dst, new.dst));
        let source = Delta::u16(old.src_port, new.src_port);
        let destination = Delta::u16(old.dst_port, new.dst_port);
        Self::of(addresses.and(source).and(destination))
    }

    /// Only where nothing but ones gives way to nothing but zeros, the sum is the other zero.
    #[inline]
    fn of(delta: Delta) -> Self {
        NonZeroU16::new(delta.folded().to_be()).map_or(Self::default(), Self)
    }

    /// What a packet from `old` owes once it has `new`.
    #[inline(always)]
    pub fn there(self) -> Owed {
        Owed(u32::from(self.0.get()))
    }

    /// What a packet between `new`, the other way round, owes once it is as if between `old`.
    #[inline(always)]
    pub fn back(self) -> Owed {
        Owed(!u32::from(self.0.get()))
    }
}

/// What a packet's new ends owe, as its [`Exchange`] has it: never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed(u32);

impl Owed {
    /// The same in 16 bits, of which the upper ones are then all zeros or all ones; never 0 either.
    #[inline(always)]
    fn folded(self) -> u16 {
        let low = self.low();
        low.wrapping_sub(u16::from(low == 0))
    }

    /// The same, but 0 for 65535.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the rest is a zero, or one"
    )]
    fn low(self) -> u16 {
        self.0 as u16
    }
}

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

/// As [`pass`], between the new `ends`, which owe what `owed` says of the frame's old ones.
///
/// Both are asked for each field anew, so that what they read is read where it is written: all of it
/// at once takes the registers of whatever this is compiled into (measured: 5 to 7 instructions).
#[inline(always)]
pub fn readdress(
    frame: &mut [u8],
    macs: &Macs,
    ends: impl Fn() -> Ends<u32>,
    owed: impl Fn() -> Owed,
) -> Option<usize> {
    let head: &mut [u8; HEAD] = frame.first_chunk_mut()?;
    let protocol = head[23];
    if !may_pass(head) || !is_summed(protocol) {
        return None;
    }
    macs.put(head);
    head[22] -= 1;
    // A hop less makes the right zero of either.
    let sum = paid(u16::from_ne_bytes(get(head, 24)), owed().low());
    put(head, 24, one_hop_less(sum).to_ne_bytes());
    put(head, 26, ends().addresses());
    let ports = owed_32(get(head, 34), ends().ports());
    put(head, 34, ends().ports());
    let owed = fold_32(end_around_32(ports, owed().0));
    settle(head, usize::from(IPV4), protocol, owed);
    Some(ETHERNET + usize::from(get16(head, 16)))
}

/// As [`readdress`], for IPv6.
#[inline(always)]
pub fn readdress_v6(
    frame: &mut [u8],
    macs: &Macs,
    ends: impl Fn() -> Ends<u128>,
    owed: impl Fn() -> Owed,
) -> Option<usize> {
    let head: &mut [u8; HEAD_V6] = frame.first_chunk_mut()?;
    let protocol = head[20];
    if !may_pass_v6(head) || !is_summed(protocol) {
        return None;
    }
    macs.put(head);
    head[21] -= 1;
    put(head, 22, ends().src.to_be_bytes());
    put(head, 38, ends().dst.to_be_bytes());
    put(head, 54, ends().ports());
    settle(head, usize::from(IPV6), protocol, owed().folded());
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
fn settle(head: &mut [u8], header: usize, protocol: u8, owed: u16) {
    let is_tcp = protocol == TCP;
    let at = ETHERNET + header + if is_tcp { 16 } else { 6 };
    let old = u16::from_ne_bytes(get(head, at));
    if is_tcp {
        put(head, at, paid(old, owed).to_ne_bytes());
    } else if old != 0 {
        put(head, at, for_udp(paid(old, owed)).to_ne_bytes());
    }
}

/// A checksum once what is owed to it is paid. It is eqn. 3 without its complements: where the sum
/// of `!old` and `owed` carries, their difference `old - owed` borrows.
#[inline(always)]
fn paid(old: u16, owed: u16) -> u16 {
    let (new, borrow) = old.overflowing_sub(owed);
    new.wrapping_sub(u16::from(borrow))
}

/// What a change owes (RFC 1624 section 3, eqn. 3).
#[inline(always)]
fn owed_32(old: [u8; 4], new: [u8; 4]) -> u32 {
    end_around_32(!u32::from_ne_bytes(old), u32::from_ne_bytes(new))
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

    /// What `new` owes, by what is kept of this way or of the other.
    fn owed<A>(
        back: bool,
        exchange: impl Fn(&Ends<A>, &Ends<A>) -> Exchange,
        old: Ends<A>,
        new: Ends<A>,
    ) -> Owed {
        if back {
            exchange(&new, &old).back()
        } else {
            exchange(&old, &new).there()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn new_ends_are_as_if_built_so(
            old in any::<([u8; 4], [u8; 4], u16, u16)>(),
            new in any::<([u8; 4], [u8; 4], u16, u16)>(),
            back in any::<bool>(),
            ttl in 2u8..,
            body in body(),
        ) {
            let mut frame = padded(built((old.0, old.1), (old.2, old.3), ttl, &body));
            let want = built((new.0, new.1), (new.2, new.3), ttl - 1, &body)
                .ether(OURS, NEXT).bytes();
            let [old, new] = [old, new].map(|(src, dst, src_port, dst_port)| {
                let [src, dst] = [src, dst].map(u32::from_be_bytes);
                Ends { src, dst, src_port, dst_port }
            });
            let owed = owed(back, Exchange::v4, old, new);
            let end = readdress(&mut frame, &Macs::new(OURS, NEXT), || new, || owed);
            prop_assert_eq!(end, Some(want.len()));
            frame.truncate(want.len());
            prop_assert_eq!(normal(&frame, 20, body.0), normal(&want, 20, body.0));
        }

        #[test]
        fn the_same_in_v6(
            old in any::<([u8; 16], [u8; 16], u16, u16)>(),
            new in any::<([u8; 16], [u8; 16], u16, u16)>(),
            back in any::<bool>(),
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
            let [old, new] = [old, new].map(|(src, dst, src_port, dst_port)| {
                let [src, dst] = [src, dst].map(u128::from_be_bytes);
                Ends { src, dst, src_port, dst_port }
            });
            let owed = owed(back, Exchange::v6, old, new);
            let end = readdress_v6(&mut frame, &Macs::new(OURS, NEXT), || new, || owed);
            prop_assert_eq!(end, Some(want.len()));
            frame.truncate(want.len());
            prop_assert_eq!(normal(&frame, 40, body.0), normal(&want, 40, body.0));
        }
    }

    /// What RFC 1624 says of new ends and, in the header, of a hop less.
    fn by_the_equation([old, new]: [Ends<u32>; 2], sum: u16) -> [u16; 2] {
        let addresses = Delta::u32(old.src, new.src).and(Delta::u32(old.dst, new.dst));
        let from = Delta::u16(old.src_port, new.src_port);
        let ports = from.and(Delta::u16(old.dst_port, new.dst_port));
        let hop = Delta::u16(0x4006, 0x3f06);
        [hop.and(addresses), ports.and(addresses)].map(|delta| delta.apply(sum))
    }

    /// Exchanges whose sum is 0, or nearly, and every checksum, even those that are never right.
    #[test]
    fn zeros_are_those_of_the_equation() {
        let ends = |(src, dst, src_port, dst_port)| Ends {
            src,
            dst,
            src_port,
            dst_port,
        };
        let wide = |ends: Ends<u32>| Ends {
            src: ends.src.into(),
            dst: ends.dst.into(),
            src_port: ends.src_port,
            dst_port: ends.dst_port,
        };
        let cases = [
            ((1, 2, 3, 4), (1, 2, 3, 4)),
            ((1, 2, 3, 4), (2, 1, 4, 3)),
            ((1, 2, 3, 4), (1, 2, 3, 5)),
            ((1, 2, 3, 4), (1, 3, 3, 4)),
            ((1, 2, 0xffff, 0xffff), (1, 2, 0, 0)),
            ((!0, 2, 7, 7), (0, 2, 7, 7)),
        ];
        let macs = Macs::new(OURS, NEXT);
        for (old, new) in cases.map(|(old, new)| (ends(old), ends(new))) {
            let (v4, v6) = (
                Exchange::v4(&old, &new),
                Exchange::v6(&wide(old), &wide(new)),
            );
            let ways = [
                ([old, new], v4.there(), v6.there()),
                ([new, old], v4.back(), v6.back()),
            ];
            for ([from, to], owed_v4, owed_v6) in ways {
                let body = (true, true, vec![]);
                let mut v4 = padded(built(([0; 4], [0; 4]), (0, 0), 64, &body));
                let mut v6 = padded(built(([0; 16], [0; 16]), (0, 0), 64, &body));
                for sum in 0..=u16::MAX {
                    let want = by_the_equation([from, to], sum);
                    put(&mut v4, 22, [64]);
                    put(&mut v4, 24, sum.to_be_bytes());
                    put(&mut v4, 34, from.ports());
                    put(&mut v4, 50, sum.to_be_bytes());
                    readdress(&mut v4, &macs, || to, || owed_v4).expect("plain");
                    let is = [get(&v4, 24), get(&v4, 50)].map(u16::from_be_bytes);
                    assert_eq!(is, want, "{from:?} {to:?} {sum:#x}");
                    put(&mut v6, 21, [64]);
                    put(&mut v6, 70, sum.to_be_bytes());
                    readdress_v6(&mut v6, &macs, || wide(to), || owed_v6).expect("plain");
                    let is = u16::from_be_bytes(get(&v6, 70));
                    assert_eq!(is, want[1], "{from:?} {to:?} {sum:#x}");
                }
            }
        }
    }

    #[test]
    fn a_hop_less_is_what_the_equation_says() {
        let owed = u16::from_ne_bytes([0xfe, 0xff]);
        for old in 0..=u16::MAX {
            let want = !fold_32(u32::from(!old) + u32::from(owed));
            assert_eq!(one_hop_less(old), want, "{old:#06x}");
        }
    }

    #[test]
    fn without_hops_nothing_changes() {
        let body = (true, true, vec![]);
        let owed = Exchange::default().there();
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
            readdress(&mut frame, &Macs::new(NEXT, OURS), || ends(1, 2), || owed),
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
        assert_eq!(
            readdress_v6(&mut frame, &Macs::new(NEXT, OURS), || ends, || owed),
            None
        );
        assert_eq!(pass_v6(&mut frame, &Macs::new(NEXT, OURS)), None);
        assert_eq!(frame, v6);
    }
}
