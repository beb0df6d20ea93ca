//! Whom a service takes packets from (reference C.8): a block list and an allow list of
//! networks, each prepared as ranges that don't overlap, for a binary search.

use std::net::IpAddr;
use std::sync::Arc;

use super::marks::Network;
use crate::verdict::Reason;

/// The lists of one service. Cloning shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(Option<Arc<Lists>>);

#[derive(Debug, PartialEq, Eq)]
struct Lists {
    block: Ranges,
    /// Empty: everybody.
    allow: Ranges,
}

impl Access {
    /// Takes the networks in any order; they may overlap. An empty `allow` takes everybody.
    pub fn new(
        block: impl IntoIterator<Item = Network>,
        allow: impl IntoIterator<Item = Network>,
    ) -> Self {
        let lists = Lists {
            block: Ranges::new(block),
            allow: Ranges::new(allow),
        };
        let any = !lists.block.is_empty() || !lists.allow.is_empty();
        Self(any.then(|| Arc::new(lists)))
    }

    /// Whether everybody is taken.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Why a packet from `source` is not taken, if it isn't. A block beats an allowance.
    #[inline]
    pub fn refusal(&self, source: impl FnOnce() -> IpAddr) -> Option<Reason> {
        self.0.as_ref()?.refusal(source())
    }
}

impl Lists {
    #[cold]
    fn refusal(&self, source: IpAddr) -> Option<Reason> {
        if self.block.contains(source) {
            Some(Reason::Blocked)
        } else if !self.allow.is_empty() && !self.allow.contains(source) {
            Some(Reason::NotAllowed)
        } else {
            None
        }
    }
}

/// Addresses of both families, first and last of each range; ascending, none in two of them.
#[derive(Debug, PartialEq, Eq)]
struct Ranges {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Ranges {
    fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.ends() {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
                _ => unreachable!("both ends of a network are of its family"),
            }
        }
        Self {
            v4: merged(v4),
            v6: merged(v6),
        }
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => is_in(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => is_in(&self.v6, v6.to_bits()),
        }
    }
}

/// One range for each stretch of ranges that overlap.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|&(first, _)| first <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn networks(text: &str) -> Vec<Network> {
        let network = |word: &str| {
            let (address, length) = word.split_once('/').expect("a prefix");
            let address = address.parse().expect("an address");
            Network::new(address, length.parse().expect("a length"))
        };
        text.split_whitespace().map(network).collect()
    }

    fn access(block: &str, allow: &str) -> Access {
        Access::new(networks(block), networks(allow))
    }

    #[test]
    fn who_is_taken() {
        let blocked = Some(Reason::Blocked);
        let stranger = Some(Reason::NotAllowed);
        #[rustfmt::skip]
        let cases = [
            ("no list",           "", "",                              "192.0.2.7",    None),
            ("blocked",           "192.0.2.7/32", "",                  "192.0.2.7",    blocked),
            ("the one below",     "192.0.2.7/32", "",                  "192.0.2.6",    None),
            ("the one above",     "192.0.2.7/32", "",                  "192.0.2.8",    None),
            ("first of a net",    "192.0.2.0/24", "",                  "192.0.2.0",    blocked),
            ("last of a net",     "192.0.2.0/24", "",                  "192.0.2.255",  blocked),
            ("behind a net",      "192.0.2.0/24", "",                  "192.0.3.0",    None),
            ("a net in a net",    "192.0.2.0/24 192.0.2.8/32", "",     "192.0.2.200",  blocked),
            ("everybody",         "0.0.0.0/0", "",                     "8.8.8.8",      blocked),
            ("allowed",           "", "192.0.2.0/24",                  "192.0.2.9",    None),
            ("not allowed",       "", "192.0.2.0/24",                  "198.51.100.1", stranger),
            ("both",              "192.0.2.9/32", "192.0.2.0/24",      "192.0.2.9",    blocked),
            ("IPv6",              "2001:db8::/32", "",                 "2001:db8::1",  blocked),
            ("IPv6, beside",      "2001:db8::/32", "",                 "2001:db9::1",  None),
            ("IPv6, everybody",   "::/0", "",                          "2001:db9::1",  blocked),
            ("IPv6, not allowed", "", "2001:db8::7/128",               "2001:db8::8",  stranger),
        ];
        for (name, block, allow, source, want) in cases {
            let access = access(block, allow);
            let source: IpAddr = source.parse().expect("an address");
            assert_eq!(access.refusal(|| source), want, "{name}");
            assert_eq!(access.is_open(), block.is_empty() && allow.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn agrees_with_one_look_at_each(
            list in prop::collection::vec((0u8..64, 24u8..=32), 0..12), source in 0u8..80
        ) {
            let v4 = |n: u8| IpAddr::from(Ipv4Addr::new(10, 0, 0, n));
            let v6 = |n: u8| IpAddr::from(Ipv6Addr::from_bits(n.into()));
            let all = |address: &dyn Fn(u8) -> IpAddr, more: u8| -> Vec<Network> {
                let network = |&(n, length): &(u8, u8)| Network::new(address(n), length + more);
                list.iter().map(network).collect()
            };
            for (networks, source) in [(all(&v4, 0), v4(source)), (all(&v6, 96), v6(source))] {
                let listed = networks.iter().any(|network| network.contains(source));
                let block = Access::new(networks.clone(), []);
                prop_assert_eq!(block.refusal(|| source), listed.then_some(Reason::Blocked));
                let allow = Access::new([], networks);
                let kept_out = !list.is_empty() && !listed;
                prop_assert_eq!(allow.refusal(|| source), kept_out.then_some(Reason::NotAllowed));
            }
        }
    }
}
