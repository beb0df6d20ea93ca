//! The network around the director: few addresses, so that packets, services and real servers
//! meet.
//!
//! ```text
//!   clients, 192.0.2.1 the router -- wan (192.0.2.2) DIRECTOR (10.1.0.2) lan -- real servers
//! ```

use std::net::IpAddr;

use config::model::{
    Config, Endpoint, Held, Listen, MacAddress, MarkRule, Mode, Neighbour, Port, Prefix, Protocol,
    Real, ReturnTo, Route, Service, Tunnel, Unmatched, Vip, Vlan,
};
use control::topology::{PortSetup, Topology};
use wire::ethernet::Mac;

use crate::input::Input;

pub(crate) const CLIENTS: [&str; 6] = [
    "192.0.2.7",
    "192.0.2.8",
    "198.51.100.1",
    "198.51.100.2",
    "203.0.113.77",
    "192.0.2.200",
];
pub(crate) const CLIENTS_V6: [&str; 5] = [
    "2001:db8::7",
    "2001:db8::8",
    "2001:db8:9::1",
    "2001:db8:9::2",
    "2001:db8::200",
];
pub(crate) const VIPS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "192.0.2.10"];
pub(crate) const VIPS_V6: [&str; 2] = ["2001:db8:1::1", "2001:db8::10"];
pub(crate) const REALS: [&str; 7] = [
    "10.1.0.11",
    "10.1.0.12",
    "10.1.0.13",
    "10.1.0.14",
    "172.16.0.5",
    "10.1.0.2",
    "192.0.2.77",
];
pub(crate) const REALS_V6: [&str; 6] = [
    "fd01::11", "fd01::12", "fd01::13", "fd02::5", "fd01::2", "fd01::14",
];
pub(crate) const LOCALS: [&str; 3] = ["10.1.0.250", "10.1.0.251", "192.0.2.250"];
pub(crate) const LOCALS_V6: [&str; 2] = ["fd01::250", "fd01::251"];
pub(crate) const PORTS: [u16; 5] = [80, 53, 443, 0, 8080];
pub(crate) const MARKS: [u32; 2] = [5, 6];
/// The VLAN that `lan` is, if it is one.
pub(crate) const VLAN: u16 = 1;
const MTUS: [u16; 5] = [1500, 576, 1280, 9198, 68];

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("the tables hold addresses")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("the tables hold prefixes")
}

/// The file that the director starts with. With one `arm`, `lan` is a VLAN over `wan`.
pub(crate) fn config(one_arm: bool, input: &mut Input<'_>) -> Config {
    let wan = port("wan", &["192.0.2.2/24", "2001:db8::2/64"], input);
    let lan = Port {
        vlan: one_arm.then(|| Vlan {
            parent: wan.name.clone(),
            id: VLAN,
        }),
        ..port("lan", &["10.1.0.2/16", "fd01::2/64"], input)
    };
    let mut config = Config {
        ports: vec![wan, lan],
        routes: vec![
            route("0.0.0.0/0", &["192.0.2.1", "192.0.2.3"]),
            route("::/0", &["2001:db8::1"]),
            route("172.16.0.0/16", &["10.1.0.1"]),
            route("fd02::/64", &["fd01::1"]),
        ],
        neighbours: neighbours(),
        ..Config::default()
    };
    config.dataplane.connections = input.pick(&[64, 4, 16, 1]);
    config.dataplane.connections_v6 = input.pick(&[64, 4, 16, 1]);
    for _ in 0..input.below(3) {
        config.marks.push(mark(input));
    }
    if input.one_in(2) {
        config.vips.push(vip(input));
    }
    if input.one_in(4) {
        config.services.push(clamped(input));
    }
    config
}

fn port(name: &str, addresses: &[&str], input: &mut Input<'_>) -> Port {
    Port {
        name: name.to_owned(),
        device: None,
        addresses: addresses.iter().map(|text| prefix(text)).collect(),
        mac: None,
        mtu: input.pick(&MTUS),
        return_to: input.pick(&[ReturnTo::Route, ReturnTo::Sender]),
        mbufs: None,
        mbuf_size: None,
        vlan: None,
    }
}

fn route(to: &str, via: &[&str]) -> Route {
    Route {
        to: prefix(to),
        via: via.iter().map(|text| address(text)).collect(),
    }
}

fn neighbours() -> Vec<Neighbour> {
    let known = [
        ("192.0.2.1", "wan"),
        ("192.0.2.7", "wan"),
        ("2001:db8::1", "wan"),
        ("10.1.0.1", "lan"),
        ("10.1.0.11", "lan"),
        ("10.1.0.12", "lan"),
        ("fd01::1", "lan"),
        ("fd01::11", "lan"),
    ];
    let one = |(n, (text, port)): (u8, (&str, &str))| Neighbour {
        address: address(text),
        mac: MacAddress([2, 0, 0, 0, 1, n]),
        port: port.to_owned(),
    };
    (0u8..).zip(known).map(one).collect()
}

fn mark(input: &mut Input<'_>) -> MarkRule {
    let to = ["10.0.0.0/8", "10.0.0.1/32", "2001:db8::/32", "0.0.0.0/0"];
    let protocols = [Some(Protocol::Tcp), None, Some(Protocol::Udp)];
    MarkRule {
        mark: input.pick(&MARKS),
        protocol: input.pick(&protocols),
        from: None,
        to: prefix(input.pick(&to)),
        ports: input.pick(&[None, Some((80, 443))]),
        port: input.one_in(4).then(|| "wan".to_owned()),
    }
}

fn vip(input: &mut Input<'_>) -> Vip {
    let texts = [VIPS[0], VIPS[1], VIPS_V6[0]];
    Vip {
        address: address(input.pick(&texts)),
        held: input.pick(&[Held::Always, Held::Never]),
        unmatched: input.pick(&[Unmatched::Drop, Unmatched::Reject, Unmatched::Kernel]),
        port: None,
    }
}

/// A service that only a file can ask for: one that clamps.
fn clamped(input: &mut Input<'_>) -> Service {
    let real = Real {
        endpoint: Endpoint {
            address: address(REALS[0]),
            port: 80,
        },
        mode: Mode::Tun(input.pick(&[Tunnel::Ipip, Tunnel::default()])),
        weight: 1,
        upper: 0,
        lower: 0,
    };
    let listen = Listen::Address {
        protocol: Protocol::Tcp,
        address: address(VIPS[0]),
        port: 80,
    };
    Service {
        mss_clamp: true,
        reals: vec![real],
        ..Service::new(listen)
    }
}

/// The director's ports as they came up.
pub(crate) fn topology(config: &Config, any_mac: bool, made_up: bool) -> Topology {
    let setup = |(port, n): (&Port, u8)| PortSetup {
        name: port.name.clone(),
        mac: Mac([2, 0, 0, 0, 0, n]),
        any_mac,
        mtu: port.mtu,
        to_sender: port.return_to == ReturnTo::Sender,
        addresses: port.addresses.clone(),
    };
    let with_queues = config.ports.iter().filter(|port| port.vlan.is_none());
    let ports = with_queues.zip(1u8..).map(setup).collect();
    let topology = Topology::new(ports, config);
    if made_up {
        topology.with_made_up_neighbours(|_| Mac([2, 1, 0, 0, 0, 1]))
    } else {
        topology
    }
}
