//! What a packet is recognised by: its tuple, and a keyed hash of it.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::plain::{Ends, Exchange};

/// An address of one family, as the tables store it: host order.
pub trait Address: Copy + Eq + Debug + Default + Send + 'static {
    /// Two words that differ for different addresses.
    fn words(self) -> [u64; 2];
    /// The address for everybody outside the tables.
    fn to_ip(self) -> IpAddr;
    /// Its last octet.
    fn last(self) -> u8;
    /// Whether two pairs are equal, at as few looks as it takes.
    fn are(pair: [Self; 2], other: [Self; 2]) -> bool;
    /// What packets owe to their checksums that come between `old` and leave between `new`.
    fn exchange(old: &Ends<Self>, new: &Ends<Self>) -> Exchange;
    /// What `mask` leaves of it; IPv4 goes by the mask's lower 32 bits.
    fn masked(self, mask: u128) -> Self;
    /// A firewall mark in the place of an address, as IPVS lists it.
    fn of_mark(mark: u32) -> Self;
    /// An IPv4 address in a table of this family: in IPv6's, where the real server of an IPv6
    /// client's connection is IPv4, one of `ff00::ffff:0:0/96`, where no packet may come from.
    fn of_ipv4(address: u32) -> Self;
    /// The IPv4 address that it is or stands for ([`of_ipv4`](Self::of_ipv4)).
    fn ipv4_inside(self) -> Option<u32>;
    /// The address for people: [`to_ip`](Self::to_ip), but IPv4 where it stands for that.
    fn shown(self) -> IpAddr {
        match self.ipv4_inside() {
            Some(address) => IpAddr::V4(Ipv4Addr::from_bits(address)),
            None => self.to_ip(),
        }
    }
}

/// The upper 96 bits of what stands for an IPv4 address in IPv6's tables: `ff00::ffff:0:0/96`, of
/// the group scope that is reserved and never sent (RFC 4291 section 2.7). No packet is taken in
/// from a group ([`crate::parse`]), so no IPv6 packet is ever found to be the reply of an IPv4
/// real server, whatever its sender writes. The usual form for such addresses, `::ffff:0:0/96`,
/// would want a check of its own in every packet.
const INSIDE: u128 = 0xff00_0000_0000_0000_0000_ffff << 32;

impl Address for u32 {
    #[inline]
    fn words(self) -> [u64; 2] {
        [u64::from(self), 0]
    }

    #[inline]
    fn last(self) -> u8 {
        self.to_le_bytes()[0]
    }

    #[inline(always)]
    fn are([a, b]: [Self; 2], [c, d]: [Self; 2]) -> bool {
        let both = |first: u32, second| u64::from(first) | u64::from(second) << 32;
        both(a, b) == both(c, d)
    }

    #[inline]
    fn exchange(old: &Ends<Self>, new: &Ends<Self>) -> Exchange {
        Exchange::v4(old, new)
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(self))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the rest is IPv6's")]
    fn masked(self, mask: u128) -> Self {
        self & mask as u32
    }

    fn of_mark(mark: u32) -> Self {
        mark
    }

    fn of_ipv4(address: u32) -> Self {
        address
    }

    fn ipv4_inside(self) -> Option<u32> {
        Some(self)
    }
}

impl Address for u128 {
    #[inline]
    fn words(self) -> [u64; 2] {
        halves(self)
    }

    #[inline]
    fn last(self) -> u8 {
        self.to_le_bytes()[0]
    }

    #[inline(always)]
    fn are([a, b]: [Self; 2], [c, d]: [Self; 2]) -> bool {
        (a ^ c) | (b ^ d) == 0
    }

    #[inline]
    fn exchange(old: &Ends<Self>, new: &Ends<Self>) -> Exchange {
        Exchange::v6(old, new)
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self))
    }

    fn masked(self, mask: u128) -> Self {
        self & mask
    }

    fn of_mark(mark: u32) -> Self {
        u128::from(mark) << 96
    }

    fn of_ipv4(address: u32) -> Self {
        INSIDE | u128::from(address)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower 32 bits are meant"
    )]
    fn ipv4_inside(self) -> Option<u32> {
        (self & !u128::from(u32::MAX) == INSIDE).then_some(self as u32)
    }
}

/// The tuple of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Key<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl<A> Key<A> {
    /// The tuple of the packets that go the other way.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

impl<A: Address> Key<A> {
    /// As IPv6's table knows the packet of an IPv4 real server, if it is one's.
    pub fn from_ipv4(self) -> Option<Key<u128>> {
        (size_of::<A>() == size_of::<u32>()).then_some(Key {
            source: u128::of_ipv4(self.source.ipv4_inside()?),
            destination: u128::of_ipv4(self.destination.ipv4_inside()?),
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.protocol,
        })
    }
}

/// A tuple's hash: the upper half picks the bucket, the lowest byte is the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Hash(pub u64);

impl Hash {
    /// The tag that stands for it in a bucket: never 0, which means empty, and 1 for both.
    #[inline]
    pub fn tag(self) -> u8 {
        ((self.0 & 0xff) as u8).max(1)
    }

    /// A place in `0..places`, even where that is no power of two (Lemire's multiply-shift).
    #[inline]
    pub fn place(self, places: u32) -> u32 {
        (((self.0 >> 32) * u64::from(places)) >> 32) as u32
    }
}

/// Hashes tuples under a random key, so that nobody outside can make many fall into one
/// bucket.
#[derive(Clone, Copy)]
pub struct Hasher([u64; 2]);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(secret)")
    }
}

impl Hasher {
    /// A hasher with this key, which should be random and secret.
    pub fn new(key: [u64; 2]) -> Self {
        Self(key)
    }

    /// The hash of `key`.
    #[inline]
    pub fn hash<A: Address>(&self, key: &Key<A>) -> Hash {
        let [source, source_high] = key.source.words();
        let [destination, destination_high] = key.destination.words();
        let ports = u64::from(key.source_port) << 16 | u64::from(key.destination_port);
        let rest = ports << 8 | u64::from(key.protocol);
        if size_of::<A>() == size_of::<u32>() {
            let inner = fold((source << 32 | destination) ^ self.0[0], rest ^ self.0[1]);
            return Hash(fold(inner ^ self.0[1], self.0[0] ^ 0x9e37_79b9_7f4a_7c15));
        }
        // No two fields share bits of a factor: what overlaps collides under every key.
        let low = fold(source ^ self.0[0], destination ^ self.0[1]);
        let high = fold(source_high ^ self.0[1], destination_high ^ self.0[0]);
        let inner = fold(low ^ self.0[0], rest ^ self.0[1]);
        Hash(fold(
            inner ^ self.0[1],
            high ^ self.0[0] ^ 0x9e37_79b9_7f4a_7c15,
        ))
    }
}

/// The two halves of a 128-bit product, folded: every bit of the result depends on every bit
/// of both factors.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let [low, high] = halves(u128::from(a) * u128::from(b));
    low ^ high
}

/// The lower and the upper 64 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the cut is what is wanted")]
pub(crate) fn halves(value: u128) -> [u64; 2] {
    [value as u64, (value >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(n: u32) -> Key<u32> {
        Key {
            source: 0xc000_0200 + n / 60_000,
            destination: 0x0a00_0001,
            source_port: (n % 60_000) as u16,
            destination_port: 80,
            protocol: 6,
        }
    }

    #[test]
    fn neighbouring_flows_spread_evenly() {
        const PLACES: u32 = 1000;
        let hasher = Hasher::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
        let (mut places, mut tags) = ([0u32; PLACES as usize], [0u32; 256]);
        for n in 0..100_000 {
            let hash = hasher.hash(&flow(n));
            places[hash.place(PLACES) as usize] += 1;
            tags[hash.tag() as usize] += 1;
        }
        // 100 expected in each place, standard deviation 10; 391 of each tag, deviation 20.
        assert!(places.iter().all(|&n| (45..165).contains(&n)), "{places:?}");
        assert!(
            tags[2..].iter().all(|&n| (280..500).contains(&n)),
            "{tags:?}"
        );
        assert!(tags[0] == 0 && (650..920).contains(&tags[1]), "{tags:?}");
    }

    #[test]
    fn an_address_cannot_undo_a_port() {
        let hasher = Hasher::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
        let one = flow(0x1234);
        let other = Key {
            destination: one.destination ^ 3,
            source_port: one.source_port ^ 0x300,
            ..one
        };
        assert_ne!(hasher.hash(&one), hasher.hash(&other));
    }

    #[test]
    fn an_ipv4_address_among_ipv6_ones() {
        let inside = u128::of_ipv4(0x0a01_000b);
        assert_eq!(inside.to_ip().to_string(), "ff00::ffff:a01:b");
        assert_eq!(inside.shown().to_string(), "10.1.0.11");
        for other in [inside ^ 1 << 32, inside ^ 1 << 127, 0x0a01_000b, 0] {
            assert_eq!(other.ipv4_inside(), None, "{other:#x}");
        }
        assert_eq!(0x2001u128.shown(), 0x2001u128.to_ip());
        assert_eq!(flow(1).from_ipv4().map(|key| key.from_ipv4()), Some(None));
    }

    #[test]
    fn every_field_and_the_key_matter() {
        let base = Key {
            source: 1u128 << 70,
            destination: 2,
            source_port: 3,
            destination_port: 4,
            protocol: 6,
        };
        let hasher = Hasher::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
        let others = [
            Key {
                source: 1 << 71,
                ..base
            },
            Key {
                source: (1 << 70) + 1,
                ..base
            },
            Key {
                destination: 2 + (1 << 100),
                ..base
            },
            Key {
                destination: 3,
                ..base
            },
            Key {
                source_port: 4,
                ..base
            },
            Key {
                destination_port: 5,
                ..base
            },
            Key {
                protocol: 17,
                ..base
            },
            base.reversed(),
        ];
        for other in others {
            assert_ne!(hasher.hash(&base), hasher.hash(&other), "{other:?}");
        }
        assert_ne!(
            hasher.hash(&base),
            Hasher::new([1 << 40, 3 << 50]).hash(&base)
        );
    }
}
