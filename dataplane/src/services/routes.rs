//! Where an address is reached: longest prefix first, then the neighbour.

use std::net::IpAddr;
use std::ops::BitAnd;
use std::sync::Arc;

use wire::ethernet::Mac;

use super::HopId;
use crate::conn::Address;
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
    v4: Table<u32>,
    v6: Table<u128>,
    neighbours: Arc<[(IpAddr, HopId)]>,
    made_up: Option<MakeUp>,
}

/// A family that has routes.
pub trait Routed: Address + Ord + BitAnd<Output = Self> {
    /// Its routes.
    fn of(routes: &Routes) -> &Table<Self>;
}

impl Routed for u32 {
    #[inline(always)]
    fn of(routes: &Routes) -> &Table<Self> {
        &routes.v4
    }
}

impl Routed for u128 {
    #[inline(always)]
    fn of(routes: &Routes) -> &Table<Self> {
        &routes.v6
    }
}

/// The routes of one family, whose addresses are `B`.
#[derive(Clone, Debug)]
pub struct Table<B> {
    /// All of them, longest first, if they are few: then to look at each costs a reply a third of
    /// a search by length (measured: 25 instructions to 85).
    few: Arc<[(Network<B>, Next)]>,
    lengths: Arc<[Length<B>]>,
}

/// So many routes are few.
const FEW: usize = 6;

/// The routes of one prefix length, sorted by network.
#[derive(Clone, Debug)]
struct Length<B> {
    mask: B,
    routes: Vec<(B, Next)>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug)]
struct Network<B> {
    mask: B,
    address: B,
}

/// A [`Target`], with its gateway at hand where there is only one.
#[derive(Clone, Debug)]
enum Next {
    Hop(HopId),
    Any(Arc<[HopId]>),
    OnLink(PortId),
}

impl From<&Target> for Next {
    fn from(target: &Target) -> Self {
        match target {
            Target::OnLink(port) => Self::OnLink(*port),
            Target::Via(hops) => match **hops {
                [only] => Self::Hop(only),
                _ => Self::Any(hops.clone()),
            },
        }
    }
}

impl Routes {
    /// The table of these routes; of two to one network the first counts.
    pub fn new(routes: &[Route], mut neighbours: Vec<(IpAddr, HopId)>) -> Self {
        neighbours.sort_unstable_by_key(|&(address, _)| address);
        neighbours.dedup_by_key(|&mut (address, _)| address);
        Self {
            v4: Table::new(lengths(routes, v4_bits, |length| {
                u32::MAX.checked_shl(32 - length).unwrap_or(0)
            })),
            v6: Table::new(lengths(routes, v6_bits, |length| {
                u128::MAX.checked_shl(128 - length).unwrap_or(0)
            })),
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
    pub fn find(&self, address: IpAddr, flow: u32) -> Option<Towards> {
        match address {
            IpAddr::V4(v4) => self.towards(v4.to_bits(), flow),
            IpAddr::V6(v6) => self.towards(v6.to_bits(), flow),
        }
    }

    /// The same for an address of a known family.
    #[inline(always)]
    pub fn towards<A: Routed>(&self, address: A, flow: u32) -> Option<Towards> {
        match A::of(self).find(address)? {
            Next::Hop(only) => Some(Towards::Hop(*only)),
            Next::Any(hops) => {
                let at = flow as usize % hops.len().max(1);
                hops.get(at).copied().map(Towards::Hop)
            }
            Next::OnLink(port) => Some(self.neighbour(address.to_ip(), *port)),
        }
    }

    #[inline(never)]
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

impl<B> Default for Table<B> {
    fn default() -> Self {
        Self {
            few: Arc::default(),
            lengths: Arc::default(),
        }
    }
}

impl<B: Copy + Ord + BitAnd<Output = B>> Table<B> {
    fn new(lengths: Vec<Length<B>>) -> Self {
        let all = lengths.iter().flat_map(|length| {
            let network = |&(address, ref next): &(B, Next)| {
                let mask = length.mask;
                (Network { mask, address }, next.clone())
            };
            length.routes.iter().map(network)
        });
        let all: Vec<_> = all.collect();
        let few = if all.len() <= FEW { all } else { Vec::new() };
        Self {
            few: few.into(),
            lengths: lengths.into(),
        }
    }

    #[inline(always)]
    fn find(&self, bits: B) -> Option<&Next> {
        if self.few.is_empty() {
            return self.lengths.iter().find_map(|length| length.find(bits));
        }
        let there = |(network, _): &&(Network<B>, Next)| bits & network.mask == network.address;
        self.few.iter().find(there).map(|(_, next)| next)
    }
}

impl<B: Copy + Ord + BitAnd<Output = B>> Length<B> {
    fn find(&self, bits: B) -> Option<&Next> {
        let network = bits & self.mask;
        let at = self
            .routes
            .binary_search_by_key(&network, |&(network, _)| network)
            .ok()?;
        Some(&self.routes[at].1)
    }
}

/// The routes of one family by length, longest first. `bits` gives the address of one that is of
/// the family, `mask` what a prefix of this length leaves of it.
fn lengths<B: Copy + Ord + BitAnd<Output = B>>(
    routes: &[Route],
    bits: impl Fn(IpAddr) -> Option<B>,
    mask: impl Fn(u32) -> B,
) -> Vec<Length<B>> {
    let mut groups: Vec<Length<B>> = Vec::new();
    for length in (0..=8 * u8::try_from(size_of::<B>()).expect("an address")).rev() {
        let mask = mask(length.into());
        let of_length = routes.iter().filter(|route| route.length == length);
        let pair = |route: &Route| Some((bits(route.network)? & mask, Next::from(&route.target)));
        let mut group: Vec<_> = of_length.filter_map(pair).collect();
        if !group.is_empty() {
            group.sort_by_key(|&(network, _)| network);
            group.dedup_by_key(|&mut (network, _)| network);
            groups.push(Length {
                mask,
                routes: group,
            });
        }
    }
    groups
}

fn v4_bits(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(v4) => Some(v4.to_bits()),
        IpAddr::V6(_) => None,
    }
}

fn v6_bits(address: IpAddr) -> Option<u128> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6.to_bits()),
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
