//! The Internet checksum (RFC 1071), whole and patched (RFC 1624).
//!
//! One's complement addition does not care in which size of word it is done: 2^16, 2^32 and 2^64
//! are all 1 modulo 65535. So everything here adds wide and folds to 16 bits once, at the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::Protocol;

/// A one's complement sum in progress, in host order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Self(0);

    /// Adds bytes that begin at an even offset of what is covered. An odd last octet counts as if
    /// a zero followed, so only the last piece may be odd.
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        self.plus(u64::from(raw(bytes)))
    }

    /// Adds a 16-bit value.
    #[inline]
    pub fn add_u16(self, value: u16) -> Self {
        self.plus(u64::from(value))
    }

    /// Adds a 32-bit value.
    #[inline]
    pub fn add_u32(self, value: u32) -> Self {
        self.plus(u64::from(value))
    }

    /// The sum in 16 bits, not complemented: what a checksum offload wants in the field.
    #[inline]
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the complement of the folded sum. 0 says that the covered bytes,
    /// checksum included, are intact.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.folded()
    }

    #[inline]
    fn plus(self, value: u64) -> Self {
        Self(end_around(self.0, value))
    }
}

/// Adds with the carry brought back in, so the sum is right modulo 65535 however long it grows.
#[inline]
pub(crate) fn end_around(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// The same in 32 bits.
#[inline]
pub(crate) fn end_around_32(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u32::from(carry)
}

/// Folds to 16 bits. 0 comes out only for 0 in: a sum of 65535 stays 65535.
///
/// A word plus itself with its halves exchanged has in its upper half the sum of both, and the
/// carry of that comes in from below: half of the instructions of masks and shifts.
#[inline]
pub(crate) const fn fold(sum: u64) -> u16 {
    fold_32((sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32)
}

/// The same of half as wide a sum.
#[inline]
pub(crate) const fn fold_32(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The folded sum of `bytes`: added in the machine's own byte order, put right once at the end
/// (RFC 1071 section 2 (B)).
#[inline]
fn raw(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    u16::from_be(fold(sum + u64::from(u32::from_ne_bytes(last))))
}

/// The checksum of `bytes`.
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::ZERO.add_bytes(bytes).finish()
}

/// The pseudo-header of IPv4 (RFC 9293 section 3.1). `len` is that of the transport header and
/// its payload in octets.
#[inline]
pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: Protocol, len: u32) -> Sum {
    Sum::ZERO
        .add_u32(src.to_bits())
        .add_u32(dst.to_bits())
        .add_u16(u16::from(protocol.0))
        .add_u32(len)
}

/// The pseudo-header of IPv6 (RFC 8200 section 8.1). `protocol` is that of the upper layer, not
/// of an extension header before it.
#[inline]
pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: Protocol, len: u32) -> Sum {
    Sum::ZERO
        .add_bytes(&src.octets())
        .add_bytes(&dst.octets())
        .add_u32(len)
        .add_u16(u16::from(protocol.0))
}

/// The pseudo-header of whichever family `src` and `dst` are of; a v4 address beside a v6 one
/// counts as v4-mapped.
#[inline]
pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: Protocol, len: u32) -> Sum {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => pseudo_v4(src, dst, protocol, len),
        (src, dst) => pseudo_v6(as_v6(src), as_v6(dst), protocol, len),
    }
}

fn as_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// The checksum of a TCP segment, UDP datagram or ICMPv6 message under a pseudo-header. With the
/// checksum field zero in `bytes` it is the value to store (for UDP through [`for_udp`]); with
/// the field filled, 0 says intact.
#[inline]
pub fn transport(src: IpAddr, dst: IpAddr, protocol: Protocol, bytes: &[u8]) -> u16 {
    // A packet is never longer than 32 bits can say; saturating only keeps the types honest.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    pseudo(src, dst, protocol, len).add_bytes(bytes).finish()
}

/// A checksum as UDP stores it: 0 means "absent" there, so a computed 0 is sent as 0xffff
/// (RFC 768).
#[inline]
pub fn for_udp(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// What a rewrite owes to every checksum that covered the old value
/// (RFC 1624 section 3, eqn. 3: `HC' = ~(~HC + ~m + m')`).
///
/// It is a sum of differences, so debts of several fields add up with [`and`](Self::and) and are
/// paid at once.
#[must_use = "the transport checksum still covers the old value"]
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// Nothing is owed.
    pub const NONE: Self = Self(0);

    /// A 16-bit value at an even offset changed.
    #[inline]
    pub fn u16(old: u16, new: u16) -> Self {
        Self(u64::from(!old) + u64::from(new))
    }

    /// A 32-bit value at an even offset changed.
    #[inline]
    pub fn u32(old: u32, new: u32) -> Self {
        Self(u64::from(!old) + u64::from(new))
    }

    /// A 128-bit value at an even offset changed.
    #[inline]
    pub fn u128(old: u128, new: u128) -> Self {
        Self::u64(high(old), high(new)).and(Self::u64(low(old), low(new)))
    }

    /// An IPv4 address changed.
    #[inline]
    pub fn v4(old: Ipv4Addr, new: Ipv4Addr) -> Self {
        Self::u32(old.to_bits(), new.to_bits())
    }

    /// An IPv6 address changed.
    #[inline]
    pub fn v6(old: Ipv6Addr, new: Ipv6Addr) -> Self {
        Self::u128(old.to_bits(), new.to_bits())
    }

    /// An address was put in the place of another, of the other family even: what a pseudo-header
    /// owes when a segment moves from one to the other.
    #[inline]
    pub fn addr(old: IpAddr, new: IpAddr) -> Self {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => Self::v4(old, new),
            (IpAddr::V6(old), IpAddr::V6(new)) => Self::v6(old, new),
            (IpAddr::V4(old), IpAddr::V6(new)) => {
                Self::u128(u128::from(old.to_bits()), new.to_bits())
            }
            (IpAddr::V6(old), IpAddr::V4(new)) => {
                Self::u128(old.to_bits(), u128::from(new.to_bits()))
            }
        }
    }

    /// Bytes of one length changed, both at an even offset.
    pub fn bytes(old: &[u8], new: &[u8]) -> Self {
        Self::u16(raw(old), raw(new))
    }

    /// The same change, seen by a checksum for which it lies `offset` octets further: at an odd
    /// offset the two halves of each word change places.
    #[inline]
    pub fn at(self, offset: usize) -> Self {
        if offset.is_multiple_of(2) {
            self
        } else {
            Self(u64::from(fold(self.0).swap_bytes()))
        }
    }

    /// Both debts as one.
    #[inline]
    pub fn and(self, other: Self) -> Self {
        Self(end_around(self.0, other.0))
    }

    /// The debt in 16 bits, as [`fold`] has it.
    #[inline]
    pub(crate) fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum after the change.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(end_around(self.0, u64::from(!checksum)))
    }

    #[inline]
    fn u64(old: u64, new: u64) -> Self {
        Self(end_around(!old, new))
    }
}

#[inline]
fn high(value: u128) -> u64 {
    (value >> 64) as u64
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn low(value: u128) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 read aloud: 16 bits at a time.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::ZERO.add_bytes(&bytes).folded(), 0xddf2);
        assert_eq!(of(&bytes), 0x220d);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: the case that RFC 1141's equation gets wrong.
        assert_eq!(Delta::u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn a_computed_zero_is_not_absent() {
        assert_eq!(
            [for_udp(0), for_udp(1), for_udp(0xffff)],
            [0xffff, 1, 0xffff]
        );
    }

    #[test]
    fn corners_of_the_fold() {
        let cases = [
            (0, 0),
            (0xffff, 0xffff),
            (0x1_0000, 1),
            (u64::MAX, 0xffff),
            (u64::MAX - 1, 0xfffe),
        ];
        for (sum, want) in cases {
            assert_eq!(fold(sum), want, "{sum:#x}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn fast_is_slow(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(of(&bytes), slow(&bytes));
        }

        #[test]
        fn pieces_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
            let cut = (cut * 2).min(bytes.len() & !1);
            prop_assert_eq!(Sum::ZERO.add_bytes(&bytes[..cut]).add_bytes(&bytes[cut..]).finish(), of(&bytes));
        }

        #[test]
        fn a_segment_moves_between_families(v4 in any::<[u32; 2]>(), v6 in any::<[u128; 2]>(), bytes in any::<[u8; 20]>()) {
            let at = |src: IpAddr, dst: IpAddr| transport(src, dst, Protocol::TCP, &bytes);
            let [src4, dst4] = v4.map(|addr| IpAddr::from(Ipv4Addr::from(addr)));
            let [src6, dst6] = v6.map(|addr| IpAddr::from(Ipv6Addr::from(addr)));
            let there = Delta::addr(src4, src6).and(Delta::addr(dst4, dst6));
            let back = Delta::addr(src6, src4).and(Delta::addr(dst6, dst4));
            prop_assert_eq!(there.apply(at(src4, dst4)), at(src6, dst6));
            prop_assert_eq!(back.apply(at(src6, dst6)), at(src4, dst4));
        }

        #[test]
        fn patched_is_recomputed(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..90),
            new in any::<[u8; 16]>(),
            odd in 0usize..2,
            width in prop::sample::select(vec![2usize, 4, 16]),
        ) {
            bytes[0] = 0x45; // a sum of all zeros has two names; no real header is all zeros
            let before = of(&bytes);
            let at = 4 + odd;
            let old: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
            bytes[at..at + width].copy_from_slice(&new[..width]);
            let delta = match width {
                2 => Delta::u16(u16::from_be_bytes([old[0], old[1]]), u16::from_be_bytes([new[0], new[1]])),
                4 => Delta::u32(u32::from_be_bytes(old[..4].try_into().unwrap()), u32::from_be_bytes(new[..4].try_into().unwrap())),
                _ => Delta::u128(u128::from_be_bytes(old), u128::from_be_bytes(new)),
            };
            prop_assert_eq!(delta.at(at).apply(before), of(&bytes));
            prop_assert_eq!(Delta::bytes(&old[..width], &new[..width]).at(at).apply(before), of(&bytes));
        }
    }
}
