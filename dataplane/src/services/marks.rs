//! Firewall marks: the operator's rules, in their order. The first that a packet meets gives
//! its mark, and the mark its service.
//!
//! Only a packet of no connection is asked for its mark, and only where there are rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::conn::{Address, Key};
use crate::port::PortId;

/// Which packets get a mark. What is absent does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The mark, above 0.
    pub mark: u32,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Where the packet comes from.
    pub from: Option<Network>,
    /// Where it goes.
    pub to: Option<Network>,
    /// The port that it goes to.
    pub ports: RangeInclusive<u16>,
    /// The port of ours that it came by.
    pub entry: Option<PortId>,
}

/// The addresses of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    v6: bool,
    bits: u128,
    mask: u128,
}

impl Network {
    /// The network of `address` with a prefix of `length` bits, 0..=32 or 0..=128; host bits
    /// don't matter.
    pub fn new(address: IpAddr, length: u8) -> Self {
        let (v6, bits, width) = bits(address);
        let host_bits = width.saturating_sub(u32::from(length));
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        let bits = bits & mask;
        Self { v6, bits, mask }
    }

    /// Whether some address is in both.
    pub fn meets(&self, other: &Self) -> bool {
        let mask = self.mask & other.mask;
        self.v6 == other.v6 && self.bits & mask == other.bits & mask
    }

    /// The first and the last address in it.
    pub(super) fn ends(&self) -> (IpAddr, IpAddr) {
        let last = self.bits | !self.mask;
        if self.v6 {
            let [first, last] = [self.bits, last].map(Ipv6Addr::from_bits);
            return (first.into(), last.into());
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "IPv4 has the lower 32 bits"
        )]
        let [first, last] = [self.bits as u32, last as u32].map(Ipv4Addr::from_bits);
        (first.into(), last.into())
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (v6, bits, _) = bits(address);
        self.v6 == v6 && bits & self.mask == self.bits
    }
}

impl Rule {
    /// Whether some packet that came by some port is given this mark as well as the other
    /// rule's, or another packet of its tuple is.
    pub fn meets(&self, other: &Self) -> bool {
        let alike = |one: Option<Network>, other: Option<Network>| match (one, other) {
            (Some(one), Some(other)) => one.meets(&other),
            _ => true,
        };
        let protocols = [self.protocol, other.protocol];
        let ports = self.ports.start() <= other.ports.end();
        (protocols.contains(&None) || self.protocol == other.protocol)
            && ports
            && other.ports.start() <= self.ports.end()
            && alike(self.to, other.to)
            && alike(self.from, other.from)
    }

    /// Whether it fits a packet with this tuple, whichever port that came by.
    fn fits<A: Address>(&self, packet: &Key<A>, from: IpAddr, to: IpAddr) -> bool {
        self.protocol.is_none_or(|wanted| wanted == packet.protocol)
            && self.ports.contains(&packet.destination_port)
            && self.to.is_none_or(|network| network.contains(to))
            && self.from.is_none_or(|network| network.contains(from))
    }
}

/// Whether it is IPv6, its bits, and how many it has.
fn bits(address: IpAddr) -> (bool, u128, u32) {
    match address {
        IpAddr::V4(v4) => (false, v4.to_bits().into(), u32::BITS),
        IpAddr::V6(v6) => (true, v6.to_bits(), u128::BITS),
    }
}

/// The rules. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<[Rule]>);

impl Marks {
    /// Takes the rules in the order in which they are tried.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules.into())
    }

    /// The mark of a packet with this tuple that came by `entry`; 0 is none.
    pub fn of<A: Address>(&self, packet: &Key<A>, entry: PortId) -> u32 {
        if self.0.is_empty() {
            return 0;
        }
        let (from, to) = (packet.source.to_ip(), packet.destination.to_ip());
        let meets = |rule: &&Rule| {
            rule.entry.is_none_or(|wanted| wanted == entry) && rule.fits(packet, from, to)
        };
        self.0.iter().find(meets).map_or(0, |rule| rule.mark)
    }

    /// The marks that packets with this tuple are given by some ports and not by others.
    pub fn by_port<A: Address>(&self, packet: &Key<A>) -> impl Iterator<Item = u32> {
        let by_port = self.0.iter().filter(|rule| rule.entry.is_some());
        let (from, to) = (packet.source.to_ip(), packet.destination.to_ip());
        by_port
            .filter(move |rule| rule.fits(packet, from, to))
            .map(|rule| rule.mark)
    }

    /// The rules, in the order in which they are tried.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(protocol: u8, destination: u32, destination_port: u16) -> Key<u32> {
        Key {
            source: 0xc000_0207,
            destination,
            source_port: 1,
            destination_port,
            protocol,
        }
    }

    fn network(text: &str, length: u8) -> Option<Network> {
        Some(Network::new(text.parse().expect("an address"), length))
    }

    #[test]
    fn the_first_that_fits() {
        let any = Rule {
            mark: 0,
            protocol: None,
            from: None,
            to: None,
            ports: 0..=u16::MAX,
            entry: None,
        };
        let rule = |mark, change: &dyn Fn(&mut Rule)| {
            let mut rule = Rule {
                mark,
                ..any.clone()
            };
            change(&mut rule);
            rule
        };
        let marks = Marks::new(vec![
            rule(1, &|r| r.to = network("2001:db8::", 0)),
            rule(2, &|r| r.from = network("198.51.100.0", 24)),
            rule(3, &|r| r.entry = Some(PortId(1))),
            rule(4, &|r| {
                r.protocol = Some(6);
                r.ports = 80..=443;
                r.to = network("10.0.0.9", 28);
            }),
            rule(5, &|r| r.to = network("10.0.0.1", 32)),
            rule(6, &|r| {
                r.from = network("192.0.2.0", 24);
                r.ports = 53..=53;
            }),
        ]);
        #[rustfmt::skip]
        let cases = [
            ("the port of entry",         key(6, 0x0a00_0001, 80),  1, 3),
            ("protocol, ports, network",  key(6, 0x0a00_0001, 80),  0, 4),
            ("the last port",             key(6, 0x0a00_000f, 443), 0, 4),
            ("past the ports",            key(6, 0x0a00_0001, 444), 0, 5),
            ("another protocol",          key(17, 0x0a00_0001, 80), 0, 5),
            ("past the network",          key(6, 0x0a00_0010, 80),  0, 0),
            ("the source",                key(17, 7, 53),           0, 6),
        ];
        for (name, key, entry, want) in cases {
            assert_eq!(marks.of(&key, PortId(entry)), want, "{name}");
        }
        let v6 = Key {
            source: 1u128,
            destination: 2,
            source_port: 3,
            destination_port: 4,
            protocol: 6,
        };
        assert_eq!(
            marks.of(&v6, PortId(1)),
            1,
            "a prefix of no bits has a family"
        );
    }
}
