//! Where an address is reached: longest prefix first, then the neighbour.

use std::net::IpAddr;
use std::sync::Arc;

use wire::ethernet::Mac;

use super::HopId;
use crate::port::PortId;

/// A network and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its address; host bits don't matter.
    pub network: IpAddr,
    /// Its prefix length: 0..=32 or 0..=128.
    pub length: u8,
    /// What is there.
    pub target: Target,
}

/// What a route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The hosts themselves, on a port's link.
    OnLink(PortId),
    /// Gateways; several share the flows by their hash.
    Via(Arc<[HopId]>),
}

/// How one address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// By this hop.
    Hop(HopId),
    /// It is a neighbour on this port whose MAC nobody asked for yet.
    Unknown(PortId),
    /// It is a neighbour on this port, and this is its MAC: all are made up, or a frame of the
    /// connection came from there.
    At(PortId, Mac),
}

/// Says a neighbour's MAC without asking anybody.
pub type MakeUp = fn(&IpAddr) -> Mac;

/// Routes and the neighbours that are known. Cloning shares both.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    v4: Table,
    v6: Table,
    neighbours: Arc<[(IpAddr, HopId)]>,
    made_up: Option<MakeUp>,
}

/// The routes of one family.
#[derive(Clone, Debug, Default)]
struct Table {
    /// All of them as mask, network and target, longest first, if they are few: then to look at
    /// each costs a reply a third of a search by length (measured: 25 instructions to 85).
    few: Arc<[(u128, u128, Target)]>,
    lengths: Arc<[Length]>,
}

/// So many routes are few.
const FEW: usize = 6;

/// The routes of one prefix length, sorted by network.
#[derive(Clone, Debug)]
struct Length {
    mask: u128,
    routes: Vec<(u128, Target)>,
}

impl Routes {
    /// The table of these routes; of two to one network the first counts.
    pub fn new(routes: &[Route], mut neighbours: Vec<(IpAddr, HopId)>) -> Self {
        neighbours.sort_unstable_by_key(|&(address, _)| address);
        neighbours.dedup_by_key(|&mut (address, _)| address);
        Self {
            v4: Table::new(lengths(routes, true)),
            v6: Table::new(lengths(routes, false)),
            neighbours: neighbours.into(),
            made_up: None,
        }
    }

    /// The same routes where a neighbour that nobody named has a MAC all the same: for a
    /// network that is not there, as in a replay.
    #[must_use]
    pub fn with_made_up_neighbours(self, made_up: Option<MakeUp>) -> Self {
        Self { made_up, ..self }
    }

    /// How `address` is reached by a flow with this hash; `None`: by no route.
    #[inline]
    pub fn find(&self, address: IpAddr, flow: u32) -> Option<Towards> {
        let (table, bits) = match address {
            IpAddr::V4(v4) => (&self.v4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (&self.v6, v6.to_bits()),
        };
        match table.find(bits)? {
            Target::Via(hops) => {
                if let [only] = **hops {
                    return Some(Towards::Hop(only));
                }
                let at = flow as usize % hops.len().max(1);
                hops.get(at).copied().map(Towards::Hop)
            }
            Target::OnLink(port) => Some(self.neighbour(address, *port)),
        }
    }

    fn neighbour(&self, address: IpAddr, port: PortId) -> Towards {
        match self
            .neighbours
            .binary_search_by_key(&address, |&(address, _)| address)
        {
            Ok(at) => Towards::Hop(self.neighbours[at].1),
            Err(_) => match self.made_up {
                Some(mac) => Towards::At(port, mac(&address)),
                None => Towards::Unknown(port),
            },
        }
    }
}

impl Table {
    fn new(lengths: Arc<[Length]>) -> Self {
        let all = lengths.iter().flat_map(|length| {
            let routes = length.routes.iter();
            routes.map(|(network, target)| (length.mask, *network, target.clone()))
        });
        let all: Vec<_> = all.collect();
        let few = if all.len() <= FEW { all } else { Vec::new() };
        Self {
            few: few.into(),
            lengths,
        }
    }

    #[inline]
    fn find(&self, bits: u128) -> Option<&Target> {
        if self.few.is_empty() {
            return self.lengths.iter().find_map(|length| length.find(bits));
        }
        let there = |&&(mask, network, _): &&(u128, u128, Target)| bits & mask == network;
        self.few.iter().find(there).map(|(_, _, target)| target)
    }
}

impl Length {
    fn find(&self, bits: u128) -> Option<&Target> {
        let network = bits & self.mask;
        let at = self
            .routes
            .binary_search_by_key(&network, |&(network, _)| network)
            .ok()?;
        Some(&self.routes[at].1)
    }
}

/// Groups the routes of one family by length, longest first.
fn lengths(routes: &[Route], v4: bool) -> Arc<[Length]> {
    let width = if v4 { 32 } else { 128 };
    let mut groups: Vec<Length> = Vec::new();
    for length in (0..=width).rev() {
        let mask = u128::MAX.checked_shl(width - length).unwrap_or(0);
        let of_length =
            |route: &&Route| route.network.is_ipv4() == v4 && u32::from(route.length) == length;
        let pair = |route: &Route| (bits(route.network) & mask, route.target.clone());
        let mut group: Vec<_> = routes.iter().filter(of_length).map(pair).collect();
        if !group.is_empty() {
            group.sort_by_key(|&(network, _)| network);
            group.dedup_by_key(|&mut (network, _)| network);
            groups.push(Length {
                mask,
                routes: group,
            });
        }
    }
    groups.into()
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: &str, length: u8, target: Target) -> Route {
        Route {
            network: network.parse().expect("an address"),
            length,
            target,
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let via = |hops: &[u32]| Target::Via(hops.iter().copied().map(HopId).collect());
        let routes = [
            route("0.0.0.0", 0, via(&[1, 2])),
            route("10.0.0.0", 8, via(&[3])),
            route("10.1.0.2", 24, Target::OnLink(PortId(1))),
            route("2001:db8::", 32, via(&[4])),
        ];
        let known = vec![("10.1.0.11".parse().expect("an address"), HopId(7))];
        let routes = Routes::new(&routes, known);
        let cases = [
            ("8.8.8.8", 0, Some(Towards::Hop(HopId(1)))),
            ("8.8.8.8", 1, Some(Towards::Hop(HopId(2)))),
            ("10.2.0.1", 1, Some(Towards::Hop(HopId(3)))),
            ("10.1.0.11", 0, Some(Towards::Hop(HopId(7)))),
            ("10.1.0.12", 0, Some(Towards::Unknown(PortId(1)))),
            ("2001:db8::1", 5, Some(Towards::Hop(HopId(4)))),
            ("2001:db9::1", 5, None),
        ];
        for (address, flow, want) in cases {
            assert_eq!(
                routes.find(address.parse().expect("one"), flow),
                want,
                "{address}"
            );
        }
        assert_eq!(
            Routes::default().find("8.8.8.8".parse().expect("one"), 0),
            None
        );
    }
}
