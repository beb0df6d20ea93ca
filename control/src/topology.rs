//! Where addresses are: the ports with their subnets, static neighbours and routes.
//!
//! Made once at start from the configuration and what the devices say; nothing here changes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use config::model::{Config, Port, Prefix, ReturnTo, Vlan};
use dataplane::port::PortId;
use dataplane::services::MakeUp;
use dataplane::vlan::{Tagging, Vlans};
use wire::ethernet::Mac;

/// What control knows of a port.
#[derive(Clone, Debug)]
pub struct PortSetup {
    /// Its name in the configuration, also that of its kernel interface.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// Whether it takes frames for any MAC, as a replayed capture's does.
    pub any_mac: bool,
    /// Largest IP packet, in octets.
    pub mtu: u16,
    /// Whether replies of connections that begin here go back to whoever sent the client's
    /// packets.
    pub to_sender: bool,
    /// The director's own addresses with their subnets.
    pub addresses: Vec<Prefix>,
}

impl PortSetup {
    /// The port of a VLAN: what the file doesn't say of it is as its parent has it.
    fn over(parent: &Self, port: &Port) -> Self {
        Self {
            name: port.name.clone(),
            mac: port.mac.map_or(parent.mac, |mac| Mac(mac.0)),
            any_mac: parent.any_mac && port.mac.is_none(),
            mtu: port.mtu.min(parent.mtu),
            to_sender: port.return_to == ReturnTo::Sender,
            addresses: port.addresses.clone(),
        }
    }
}

/// One neighbour on one port.
pub type Neighbour = (PortId, IpAddr);

/// A network and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The network.
    pub to: Prefix,
    /// How it is reached.
    pub by: By,
}

/// How a network is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// It is on this port's link.
    Link(PortId),
    /// Through these gateways, each on a link; never empty.
    Gateways(Vec<Neighbour>),
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    ports: Vec<PortSetup>,
    /// The ports of VLANs, which are the last ones: parent and identifier of each.
    vlans: Vec<(PortId, u16)>,
    pinned: HashMap<IpAddr, (PortId, Mac)>,
    routes: Vec<Path>,
    own: HashSet<IpAddr>,
    made_up: Option<MakeUp>,
}

impl Topology {
    /// Puts together the ports that have queues, in the order of their numbers, and what the
    /// file says of VLANs over them, neighbours and routes. What names a port that doesn't exist
    /// is left out: the file's reader refuses it.
    pub fn new(mut ports: Vec<PortSetup>, config: &Config) -> Self {
        let mut vlans = Vec::new();
        for port in &config.ports {
            let Some(Vlan { parent, id }) = &port.vlan else {
                continue;
            };
            let parents = (0u16..).map(PortId).zip(&ports);
            let mut named = parents.filter(|(_, port)| port.name == *parent);
            if let Some((parent, setup)) = named.next() {
                vlans.push((parent, *id));
                let setup = PortSetup::over(setup, port);
                ports.push(setup);
            }
        }
        let own = ports
            .iter()
            .flat_map(|port| port.addresses.iter().map(|prefix| prefix.address))
            .collect();
        let mut topology = Self {
            ports,
            vlans,
            own,
            ..Self::default()
        };
        for neighbour in &config.neighbours {
            if let Some(port) = topology.port_named(&neighbour.port) {
                let there = (port, Mac(neighbour.mac.0));
                topology.pinned.insert(neighbour.address, there);
            }
        }
        topology.routes = topology.paths(config);
        topology
    }

    /// The same with a MAC for every neighbour that the file does not name: nobody is asked for
    /// his. For a network that is not there, as in a replay.
    #[must_use]
    pub fn with_made_up_neighbours(self, mac: MakeUp) -> Self {
        let made_up = Some(mac);
        Self { made_up, ..self }
    }

    /// How neighbours' MACs are made up, if they are.
    pub fn make_up(&self) -> Option<MakeUp> {
        self.made_up
    }

    /// The MAC of a neighbour that needs no asking because all are made up.
    pub fn made_up(&self, address: &IpAddr) -> Option<Mac> {
        self.made_up.map(|mac| mac(address))
    }

    /// The ports with their numbers.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortSetup)> {
        (0u16..).map(PortId).zip(&self.ports)
    }

    /// The ports that have queues: all but those of VLANs.
    pub fn with_queues(&self) -> usize {
        self.ports.len() - self.vlans.len()
    }

    /// The parent of a VLAN's port, and the VLAN's identifier.
    pub fn vlan(&self, port: PortId) -> Option<(PortId, u16)> {
        let at = usize::from(port.0).checked_sub(self.with_queues())?;
        self.vlans.get(at).copied()
    }

    /// What tags mean to a port.
    pub fn tagging(&self, port: PortId) -> Tagging {
        if let Some((parent, id)) = self.vlan(port) {
            return Tagging::Vlan { parent, id };
        }
        let ports = self.ports().map(|(id, _)| id);
        let over = ports.filter_map(|vlan| match self.vlan(vlan)? {
            (parent, id) if parent == port => Some((id, vlan)),
            _ => None,
        });
        match over.collect::<Vec<_>>() {
            none if none.is_empty() => Tagging::Plain,
            over => Tagging::Parent(Vlans::new(port, over)),
        }
    }

    /// One port.
    pub fn port(&self, port: PortId) -> Option<&PortSetup> {
        self.ports.get(usize::from(port.0))
    }

    /// A port by its name.
    pub fn port_named(&self, name: &str) -> Option<PortId> {
        let mut ports = self.ports();
        ports.find(|(_, port)| port.name == name).map(|(id, _)| id)
    }

    /// The static neighbours.
    pub fn pinned(&self) -> impl Iterator<Item = (Neighbour, Mac)> {
        self.pinned
            .iter()
            .map(|(&address, &(port, mac))| ((port, address), mac))
    }

    /// Whether `address` is the director's own.
    pub fn is_own(&self, address: &IpAddr) -> bool {
        self.own.contains(address)
    }

    /// The port whose subnet contains `address`, by the longest prefix; of equal ones the
    /// first port.
    pub fn port_of(&self, address: &IpAddr) -> Option<PortId> {
        let mut best: Option<(u8, PortId)> = None;
        for (id, port) in self.ports() {
            for prefix in port.addresses.iter().filter(|p| p.contains(address)) {
                if best.is_none_or(|(length, _)| prefix.length > length) {
                    best = Some((prefix.length, id));
                }
            }
        }
        best.map(|(_, port)| port)
    }

    /// The neighbour that `address` is itself: a static one, or one on a port's subnet.
    pub fn on_link(&self, address: IpAddr) -> Option<Neighbour> {
        let pinned = self.pinned.get(&address).map(|&(port, _)| port);
        pinned
            .or_else(|| self.port_of(&address))
            .map(|port| (port, address))
    }

    /// Every network that is known to lie somewhere: static neighbours, the ports' subnets and
    /// the routes, in this order; of two to one network the first counts.
    pub fn routes(&self) -> &[Path] {
        &self.routes
    }

    /// A route with no gateway on a link leads nowhere, and is left out.
    fn paths(&self, config: &Config) -> Vec<Path> {
        let pinned = self.pinned.iter().map(|(&address, &(port, _))| Path {
            to: whole(address),
            by: By::Link(port),
        });
        let subnets = self.ports().flat_map(|(id, port)| {
            let link = move |&to: &Prefix| Path {
                to,
                by: By::Link(id),
            };
            port.addresses.iter().map(link)
        });
        let routes = config.routes.iter().filter_map(|route| {
            let gateways: Vec<_> = route.via.iter().filter_map(|&v| self.on_link(v)).collect();
            let (to, by) = (route.to, By::Gateways(gateways));
            (by != By::Gateways(Vec::new())).then_some(Path { to, by })
        });
        pinned.chain(subnets).chain(routes).collect()
    }

    /// The neighbour that packets for `address` go to: itself, or a gateway by the longest
    /// prefix. Of several gateways each address keeps one.
    pub fn next_hop(&self, address: IpAddr) -> Option<Neighbour> {
        let fitting = self.routes.iter().filter(|path| path.to.contains(&address));
        // The last of equal ones is found, and the first counts.
        let path = fitting.rev().max_by_key(|path| path.to.length)?;
        match &path.by {
            By::Link(port) => Some((*port, address)),
            By::Gateways(gateways) => {
                let at = spread(address) % gateways.len();
                gateways.get(at).copied()
            }
        }
    }

    /// The director's own address that a tunnel to `end` begins at: one on the port towards it,
    /// of the next hop's subnet if possible, else one on any port.
    pub fn source_towards(&self, end: IpAddr) -> Option<IpAddr> {
        let (port, next) = self.next_hop(end)?;
        let here = &self.port(port)?.addresses;
        let all = self.ports.iter().flat_map(|port| &port.addresses);
        let near = here.iter().filter(|prefix| prefix.contains(&next));
        let ordered = near.chain(here).chain(all);
        let mut sources = ordered.map(|prefix| prefix.address);
        sources.find(|source| source.is_ipv4() == end.is_ipv4())
    }

    /// The address to ask from on `port` for the MAC of `target`: the director's own on the
    /// same subnet, else its first of the family there.
    pub fn source_for(&self, port: PortId, target: IpAddr) -> Option<IpAddr> {
        let addresses = self.port(port).map_or(&[][..], |port| &port.addresses);
        let near = addresses.iter().find(|prefix| prefix.contains(&target));
        let same = |prefix: &&Prefix| prefix.address.is_ipv4() == target.is_ipv4();
        let any = addresses.iter().find(same);
        near.or(any).map(|prefix| prefix.address)
    }
}

/// The network of one address alone.
fn whole(address: IpAddr) -> Prefix {
    let length = if address.is_ipv4() { 32 } else { 128 };
    Prefix { address, length }
}

/// A number of the address's own, for a choice that stays.
fn spread(address: IpAddr) -> usize {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    octets.into_iter().map(usize::from).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use config::model::{MacAddress, Route};

    /// Port 0 `wan` with 192.0.2.2/24, port 1 `lan` with 10.1.0.2/16, 10.1.1.2/24 and fd01::2/64.
    pub(crate) fn two_ports() -> Topology {
        let port = |name: &str, last, addresses: &[&str]| PortSetup {
            name: name.to_owned(),
            mac: Mac([2, 0, 0, 0, 0, last]),
            any_mac: false,
            mtu: 1500,
            to_sender: false,
            addresses: addresses
                .iter()
                .map(|text| text.parse().expect("a prefix"))
                .collect(),
        };
        let ports = vec![
            port("wan", 1, &["192.0.2.2/24"]),
            port("lan", 2, &["10.1.0.2/16", "10.1.1.2/24", "fd01::2/64"]),
        ];
        let config = Config {
            neighbours: vec![config::model::Neighbour {
                address: IpAddr::from([172, 16, 0, 1]),
                mac: MacAddress([2, 9, 9, 9, 9, 9]),
                port: "lan".to_owned(),
            }],
            routes: vec![Route {
                to: "0.0.0.0/0".parse().expect("a prefix"),
                via: vec![IpAddr::from([192, 0, 2, 1])],
            }],
            ..Config::default()
        };
        Topology::new(ports, &config)
    }

    #[test]
    fn an_address_is_on_the_port_with_the_longest_prefix_or_where_it_is_pinned() {
        let topology = two_ports();
        let cases = [
            ([192, 0, 2, 77], Some(0)),
            ([10, 1, 0, 9], Some(1)),
            ([10, 1, 1, 9], Some(1)),
            ([172, 16, 0, 1], Some(1)),
            ([172, 16, 0, 2], None),
        ];
        for (address, want) in cases {
            let found = topology.on_link(IpAddr::from(address));
            assert_eq!(found.map(|(port, _)| port.0), want, "{address:?}");
        }
    }

    #[test]
    fn vlans_ports_are_as_their_parents_where_nothing_else_is_said() {
        let text = r#"
            version = 1
            port = [
                { name = "ten", parent = "wan", vlan = 10, return = "sender" },
                { name = "twenty", parent = "wan", vlan = 20, mac = "02:00:00:00:00:20", mtu = 1400 },
                { name = "wan", addresses = ["192.0.2.2/24"] },
                { name = "lan" },
            ]
        "#;
        let config = config::toml::read(text, "lb.toml").expect("good").config;
        let device = |name: &str, last| PortSetup {
            name: name.to_owned(),
            mac: Mac([2, 0, 0, 0, 0, last]),
            any_mac: true,
            mtu: 1450,
            to_sender: false,
            addresses: Vec::new(),
        };
        let topology = Topology::new(vec![device("wan", 1), device("lan", 2)], &config);
        assert_eq!(topology.with_queues(), 2);
        let shown = |(_, port): (PortId, &PortSetup)| {
            let PortSetup { name, mac, .. } = port;
            (
                name.clone(),
                mac.0[5],
                port.any_mac,
                port.mtu,
                port.to_sender,
            )
        };
        let ports: Vec<_> = topology.ports().skip(2).map(shown).collect();
        let (ten, twenty) = ("ten".to_owned(), "twenty".to_owned());
        let want = [
            (ten, 1, true, 1450, true),
            (twenty, 0x20, false, 1400, false),
        ];
        assert_eq!(ports, want);
        let (wan, vlan) = (PortId(0), |id| Tagging::Vlan {
            parent: PortId(0),
            id,
        });
        let over = vec![(10, PortId(2)), (20, PortId(3))];
        let tagging = [
            Tagging::Parent(Vlans::new(wan, over)),
            Tagging::Plain,
            vlan(10),
            vlan(20),
        ];
        for (port, want) in (0u16..).zip(tagging) {
            assert_eq!(topology.tagging(PortId(port)), want, "{port}");
        }
    }

    #[test]
    fn we_ask_from_the_nearest_address() {
        let topology = two_ports();
        let cases = [
            (1, [10, 1, 1, 9], Some([10, 1, 0, 2])),
            (1, [172, 16, 0, 1], Some([10, 1, 0, 2])),
            (0, [192, 0, 2, 9], Some([192, 0, 2, 2])),
            (7, [192, 0, 2, 9], None),
        ];
        for (port, target, want) in cases {
            let source = topology.source_for(PortId(port), IpAddr::from(target));
            assert_eq!(source, want.map(IpAddr::from), "{target:?}");
        }
    }
}
