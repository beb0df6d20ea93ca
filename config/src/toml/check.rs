//! What must hold between tables: names that are named exist, nothing is there twice, next
//! hops and real servers can be reached.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::report::Report;
use super::service::PlacedService;
use super::table::{Placed, Table};
use crate::built::Feature;
use crate::model::{
    ClientAddress, Endpoint, Family, Listen, MarkRule, Mode, Neighbour, Port, Prefix, Real, Route,
    Service, SorryServer, Vip,
};

type Ports<'a, 'd> = &'a [Placed<'d, Port>];

/// RFC 8200 section 5, in octets.
const LEAST_MTU_V6: u16 = 1280;

/// Remembers where each thing was seen first.
struct Seen<K>(HashMap<K, usize>);

impl<K: Hash + Eq> Seen<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Reports `what` at `at` if `key` was there before.
    fn once(&mut self, report: &mut Report<'_>, at: usize, key: K, what: impl FnOnce() -> String) {
        match self.0.get(&key) {
            Some(&first) => {
                let line = report.line(first);
                report.error(at, format!("{} is already there in line {line}", what()));
            }
            None => {
                self.0.insert(key, at);
            }
        }
    }
}

pub(super) fn ports(ports: Ports<'_, '_>, report: &mut Report<'_>) {
    let (mut names, mut devices, mut addresses) = (Seen::new(), Seen::new(), Seen::new());
    for Placed { value: port, table } in ports {
        names.once(report, table.at("name"), &port.name, || {
            format!("port {}", port.name)
        });
        if let Some(device) = &port.device {
            devices.once(report, table.at("device"), device, || {
                format!("device {device}")
            });
        }
        for address in port.addresses.iter().map(|prefix| prefix.address) {
            let at = table.at("addresses");
            addresses.once(report, at, address, || format!("address {address}"));
        }
        let is_v6 = |prefix: &Prefix| prefix.address.is_ipv6();
        if let Some(prefix) = port.addresses.iter().find(|prefix| is_v6(prefix))
            && port.mtu < LEAST_MTU_V6
        {
            let (own, address) = (port.mtu, prefix.address);
            let text = format!("mtu {own} is less than the {LEAST_MTU_V6} that {address} needs");
            report.error(table.at("mtu"), text);
        }
    }
    vlans(ports, report);
}

/// Each VLAN is there once, over a port with a device, and what it sends fits through.
fn vlans(ports: Ports<'_, '_>, report: &mut Report<'_>) {
    let mut seen = Seen::new();
    for Placed { value: port, table } in ports {
        let Some(vlan) = &port.vlan else {
            continue;
        };
        let (name, at) = (&vlan.parent, table.at("parent"));
        seen.once(report, table.at("vlan"), vlan, || {
            format!("vlan {} of {name}", vlan.id)
        });
        match ports.iter().find(|port| port.value.name == *name) {
            None => no_such_port(("parent", at), name, ports, report),
            Some(parent) if parent.value.vlan.is_some() => {
                let text = format!("parent {name:?} is a VLAN's port itself, and carries no other");
                report.error(at, text);
            }
            Some(Placed { value: parent, .. }) if parent.mtu < port.mtu => {
                let (own, most) = (port.mtu, parent.mtu);
                let text = format!("mtu {own} is more than the {most} of its parent {name}");
                report.error(table.at("mtu"), text);
            }
            Some(_) => {}
        }
    }
}

pub(super) fn routes(routes: &[Placed<'_, Route>], ports: Ports<'_, '_>, report: &mut Report<'_>) {
    let mut seen = Seen::new();
    for Placed {
        value: route,
        table,
    } in routes
    {
        seen.once(report, table.at("to"), route.to, || {
            format!("route to {}", route.to)
        });
        for via in &route.via {
            next_hop(route, via, ports, (table.at("via"), report));
        }
    }
}

fn next_hop(
    route: &Route,
    via: &IpAddr,
    ports: Ports<'_, '_>,
    (at, report): (usize, &mut Report<'_>),
) {
    if Family::of(via) != Family::of(&route.to.address) {
        report.error(
            at,
            format!("via {via} is not of the address family of {}", route.to),
        );
    } else if is_own(ports, via) {
        report.error(at, format!("via {via} is the director's own address"));
    } else if !ports.is_empty() && !on_link(ports, via) {
        report.warn(
            at,
            format!("via {via} is on no port's subnet: the route is not usable"),
        );
    }
}

pub(super) fn neighbours(
    neighbours: &[Placed<'_, Neighbour>],
    ports: Ports<'_, '_>,
    report: &mut Report<'_>,
) {
    let mut seen = Seen::new();
    for Placed { value, table } in neighbours {
        let at = table.at("address");
        seen.once(report, at, value.address, || {
            format!("neighbour {}", value.address)
        });
        port_exists(&value.port, ports, table, report);
    }
}

pub(super) fn vips(vips: &[Placed<'_, Vip>], ports: Ports<'_, '_>, report: &mut Report<'_>) {
    let mut seen = Seen::new();
    for Placed { value: vip, table } in vips {
        seen.once(report, table.at("address"), vip.address, || {
            format!("vip {}", vip.address)
        });
        if let Some(name) = &vip.port {
            port_exists(name, ports, table, report);
        }
    }
}

pub(super) fn marks(marks: &[Placed<'_, MarkRule>], ports: Ports<'_, '_>, report: &mut Report<'_>) {
    for Placed { value: rule, table } in marks {
        if let Some(name) = &rule.port {
            port_exists(name, ports, table, report);
        }
        let family = Family::of(&rule.to.address);
        if rule
            .from
            .is_some_and(|from| Family::of(&from.address) != family)
        {
            report.error(
                table.at("from"),
                "from and to are not of one address family",
            );
        }
    }
}

fn port_exists(name: &str, ports: Ports<'_, '_>, table: &Table<'_>, report: &mut Report<'_>) {
    if !ports.iter().any(|port| port.value.name == name) {
        no_such_port(("port", table.at("port")), name, ports, report);
    }
}

fn no_such_port(
    (key, at): (&str, usize),
    name: &str,
    ports: Ports<'_, '_>,
    report: &mut Report<'_>,
) {
    let names: Vec<_> = ports.iter().map(|port| port.value.name.as_str()).collect();
    let known = if names.is_empty() {
        "there are none".to_owned()
    } else {
        names.join(", ")
    };
    report.error(
        at,
        format!("{key} {name:?} is not the name of a port: {known}"),
    );
}

pub(super) fn services(
    services: &[PlacedService<'_>],
    ports: Ports<'_, '_>,
    report: &mut Report<'_>,
) {
    let mut seen = Seen::new();
    for PlacedService {
        service,
        table,
        reals,
    } in services
    {
        let listen = service.listen;
        seen.once(report, table.at("listen"), listen, || {
            format!("service {listen}")
        });
        for local in service
            .local_addresses
            .iter()
            .filter(|one| is_own(ports, one))
        {
            // Their replies would be the kernel's.
            let text = format!("{local} is the director's own address");
            report.error(table.at("local_addresses"), text);
        }
        told_in_vain(service, table, report);
        let mut endpoints = Seen::<Endpoint>::new();
        for (real, table) in service.reals.iter().zip(reals) {
            let at = table.at("address");
            let key = real.endpoint;
            endpoints.once(report, at, key, || format!("real server {key} of {listen}"));
            local_address(service, real, table.at("mode"), report);
            directly_reached(service, real, ports, at, report);
            not_ourselves(service, real, ports, at, report);
        }
        if let Some(SorryServer { real, .. }) = &service.sorry_server {
            let at = table.at("sorry_server");
            let key = real.endpoint;
            endpoints.once(report, at, key, || format!("real server {key} of {listen}"));
            local_address(service, real, at, report);
            directly_reached(service, real, ports, at, report);
            not_ourselves(service, real, ports, at, report);
        }
    }
}

/// FULLNAT needs an address of its own to speak from.
fn local_address(service: &Service, real: &Real, at: usize, report: &mut Report<'_>) {
    let family = Family::of(&real.endpoint.address);
    let usable = service
        .local_addresses
        .iter()
        .any(|address| Family::of(address) == family);
    if real.mode == Mode::FullNat && !usable {
        let family = super::value::family_name(family);
        let text = format!("mode fullnat needs {family} local_addresses in its service");
        report.error(at, text);
    }
}

/// Nobody is told of a client where no real server's mode hides it, or without a way to.
fn told_in_vain(service: &Service, table: &Table<'_>, report: &mut Report<'_>) {
    let told = service.client_address;
    if told == ClientAddress::None {
        return;
    }
    let text = match service.listen {
        Listen::Address { protocol, .. } if !told.tells_of(protocol) => {
            format!("client_address {} tells nothing of {protocol}", told.name())
        }
        _ => {
            let mut reals = service.reals.iter();
            let hidden = |real: &Real| real.mode == Mode::FullNat;
            if service.reals.is_empty() || reals.any(hidden) {
                return;
            }
            "client_address is for mode fullnat, which no real server has".to_owned()
        }
    };
    report.warn(table.at("client_address"), text);
}

/// A NAT real that is the director itself would have its replies sent by the kernel, as they are.
fn not_ourselves(
    service: &Service,
    real: &Real,
    ports: Ports<'_, '_>,
    at: usize,
    report: &mut Report<'_>,
) {
    let address = real.endpoint.address;
    let translated = matches!(real.mode, Mode::Nat | Mode::FullNat);
    if translated && (address.is_loopback() || is_ours(service, ports, &address)) {
        let text = format!("{address} is the director's own address, which only mode dr reaches");
        report.error(at, text);
    }
}

/// A DR real gets the packet by its MAC, so it must be on a port's own subnet, or be us.
fn directly_reached(
    service: &Service,
    real: &Real,
    ports: Ports<'_, '_>,
    at: usize,
    report: &mut Report<'_>,
) {
    let address = real.endpoint.address;
    if real.mode != Mode::Dr || address.is_loopback() {
        return;
    }
    if is_ours(service, ports, &address) {
        report.uses(at, Feature::Local);
    } else if !ports.is_empty() && !on_link(ports, &address) {
        let text = format!("{address} is on no port's subnet, where mode dr needs it");
        report.error(at, text);
    }
}

/// Whether it is a port's address or the service's own.
fn is_ours(service: &Service, ports: Ports<'_, '_>, address: &IpAddr) -> bool {
    is_own(ports, address) || service.listen.address() == Some(*address)
}

fn is_own(ports: Ports<'_, '_>, address: &IpAddr) -> bool {
    let mut own = ports.iter().flat_map(|port| &port.value.addresses);
    own.any(|prefix| prefix.address == *address)
}

fn on_link(ports: Ports<'_, '_>, address: &IpAddr) -> bool {
    let mut own = ports.iter().flat_map(|port| &port.value.addresses);
    own.any(|prefix| prefix.contains(address))
}
