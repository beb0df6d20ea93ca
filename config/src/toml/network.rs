//! What the director is connected to: `[[port]]`, `[[route]]`, `[[neighbour]]`, `[[vip]]`,
//! `[[mark]]`.

use std::collections::HashMap;
use std::net::IpAddr;

use super::report::Report;
use super::table::{Placed, Table, Value};
use super::value;
use crate::built::{self, Feature};
use crate::model::{
    Held, MarkRule, Neighbour, Port, Prefix, Protocol, ReturnTo, Route, Unmatched, Vip, Vlan,
    digits,
};

pub(super) const PORT: &[&str] = &[
    "name",
    "device",
    "addresses",
    "mac",
    "mtu",
    "return",
    "mbufs",
    "mbuf_size",
    "parent",
    "vlan",
    "members",
    "bond",
];
pub(super) const ROUTE: &[&str] = &["to", "via"];
pub(super) const NEIGHBOUR: &[&str] = &["address", "mac", "port"];
pub(super) const VIP: &[&str] = &["address", "held", "unmatched", "port"];
pub(super) const MARK: &[&str] = &["mark", "protocol", "from", "to", "ports", "port"];

/// The MTU of a port that says nothing.
const DEFAULT_MTU: u16 = 1500;
/// The longest device name that DPDK takes, in octets; a vdev's arguments are part of it.
const LONGEST_DEVICE: usize = 255;
/// The last VLAN identifier (IEEE 802.1Q: 0 and 4095 are reserved).
const LAST_VLAN: i64 = 4094;

pub(super) fn ports<'d>(root: &Table<'d>, report: &mut Report<'_>) -> Vec<Placed<'d, Port>> {
    let tables = root.tables(report, "port", "[[port]]");
    let ports = tables.into_iter().filter_map(|table| port(table, report));
    with_parents_mtu(ports.collect())
}

/// A VLAN's port that says nothing of its MTU has its parent's.
fn with_parents_mtu(mut ports: Vec<Placed<'_, Port>>) -> Vec<Placed<'_, Port>> {
    let mtus: HashMap<_, _> = ports
        .iter()
        .map(|Placed { value, .. }| (value.name.clone(), value.mtu))
        .collect();
    for Placed { value, table } in &mut ports {
        let parent = value.vlan.as_ref().filter(|_| table.get("mtu").is_none());
        let mtu = parent.and_then(|vlan| mtus.get(&vlan.parent));
        value.mtu = mtu.copied().unwrap_or(value.mtu);
    }
    ports
}

fn port<'d>(table: Table<'d>, report: &mut Report<'_>) -> Option<Placed<'d, Port>> {
    table.allow(report, PORT);
    reserved(&table, report);
    let name = table
        .need(report, "name")
        .and_then(|v| value::port_name(&v, report));
    let device = |v: Value<'_>, report: &mut Report<'_>| value::text(&v, report, LONGEST_DEVICE);
    let port = Port {
        device: table.get("device").and_then(|v| device(v, report)),
        addresses: addresses(&table, report),
        mac: table.get("mac").and_then(|v| value::mac(&v, report)),
        mtu: table
            .get("mtu")
            .and_then(|v| v.integer(report, 68..=9198))
            .unwrap_or(DEFAULT_MTU),
        return_to: return_to(&table, report),
        mbufs: table
            .get("mbufs")
            .and_then(|v| v.integer(report, 64..=1 << 24)),
        mbuf_size: table
            .get("mbuf_size")
            .and_then(|v| v.integer(report, 256..=65535)),
        vlan: vlan(&table, report),
        name: name?,
    };
    for feature in built::uses_of_port(&port) {
        report.uses(table.at("addresses"), feature);
    }
    Some(Placed { value: port, table })
}

/// The VLAN whose port the table describes, if it says both who carries it and which it is.
fn vlan(table: &Table<'_>, report: &mut Report<'_>) -> Option<Vlan> {
    let (parent, id) = (table.get("parent"), table.get("vlan"));
    match (&parent, &id) {
        (Some(parent), None) => report.error(parent.at, "parent goes with vlan, an identifier"),
        (None, Some(id)) => report.error(id.at, "vlan goes with parent, the port that carries it"),
        (Some(_), Some(_)) => {
            for key in ["device", "mbufs", "mbuf_size"] {
                if let Some(value) = table.get(key) {
                    let text = format!("{key} is the parent's to say: a VLAN's port has none");
                    report.error(value.at, text);
                }
            }
        }
        (None, None) => {}
    }
    let parent = parent.and_then(|v| value::port_name(&v, report));
    let id = id.and_then(|v| v.integer(report, 1..=LAST_VLAN));
    let (parent, id) = (parent?, id?);
    Some(Vlan { parent, id })
}

fn return_to(table: &Table<'_>, report: &mut Report<'_>) -> ReturnTo {
    let known = [("route", ReturnTo::Route), ("sender", ReturnTo::Sender)];
    let asked = table.get("return");
    let asked = asked.and_then(|v| v.choice(report, &known));
    asked.unwrap_or_default()
}

fn addresses(table: &Table<'_>, report: &mut Report<'_>) -> Vec<Prefix> {
    let entries = table
        .get("addresses")
        .and_then(|v| v.list(report))
        .unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| value::interface(entry, report))
        .collect()
}

/// Keys that are promised and not yet part of the model: their values are checked, so that
/// a file written for a later version is told only that.
fn reserved(table: &Table<'_>, report: &mut Report<'_>) {
    if let Some(members) = table.get("members") {
        for member in members.list(report).unwrap_or_default() {
            value::port_name(&member, report);
        }
        report.uses(members.at, Feature::Bond);
    }
    if let Some(bond) = table.get("bond") {
        value::text(&bond, report, LONGEST_DEVICE);
        report.uses(bond.at, Feature::Bond);
    }
}

pub(super) fn routes<'d>(root: &Table<'d>, report: &mut Report<'_>) -> Vec<Placed<'d, Route>> {
    let tables = root.tables(report, "route", "[[route]]");
    tables
        .into_iter()
        .filter_map(|table| route(table, report))
        .collect()
}

fn route<'d>(table: Table<'d>, report: &mut Report<'_>) -> Option<Placed<'d, Route>> {
    table.allow(report, ROUTE);
    let to = table
        .need(report, "to")
        .and_then(|v| value::network(&v, report));
    let via = table
        .need(report, "via")
        .and_then(|v| next_hops(&v, report));
    let route = Route { to: to?, via: via? };
    for feature in built::uses_of_route(&route) {
        report.uses(table.at("via"), feature);
    }
    Some(Placed {
        value: route,
        table,
    })
}

fn next_hops(value: &Value<'_>, report: &mut Report<'_>) -> Option<Vec<IpAddr>> {
    let entries = value.one_or_list();
    if entries.is_empty() {
        return value.refuse(report, "an address or a list of at least one");
    }
    Some(value::hosts(&entries, report))
}

pub(super) fn neighbours<'d>(
    root: &Table<'d>,
    report: &mut Report<'_>,
) -> Vec<Placed<'d, Neighbour>> {
    let tables = root.tables(report, "neighbour", "[[neighbour]]");
    tables
        .into_iter()
        .filter_map(|table| neighbour(table, report))
        .collect()
}

fn neighbour<'d>(table: Table<'d>, report: &mut Report<'_>) -> Option<Placed<'d, Neighbour>> {
    table.allow(report, NEIGHBOUR);
    let address = table
        .need(report, "address")
        .and_then(|v| value::host(&v, report));
    let mac = table
        .need(report, "mac")
        .and_then(|v| value::mac(&v, report));
    let port = table
        .need(report, "port")
        .and_then(|v| value::port_name(&v, report));
    let neighbour = Neighbour {
        address: address?,
        mac: mac?,
        port: port?,
    };
    report.uses(table.at("address"), built::family(neighbour.address));
    Some(Placed {
        value: neighbour,
        table,
    })
}

pub(super) fn vips<'d>(root: &Table<'d>, report: &mut Report<'_>) -> Vec<Placed<'d, Vip>> {
    let tables = root.tables(report, "vip", "[[vip]]");
    tables
        .into_iter()
        .filter_map(|table| vip(table, report))
        .collect()
}

fn vip<'d>(table: Table<'d>, report: &mut Report<'_>) -> Option<Placed<'d, Vip>> {
    table.allow(report, VIP);
    let address = table
        .need(report, "address")
        .and_then(|v| value::host(&v, report));
    let held = [("always", Held::Always), ("never", Held::Never)];
    let held = table.get("held").and_then(|v| v.choice(report, &held));
    let unmatched = [
        ("drop", Unmatched::Drop),
        ("reject", Unmatched::Reject),
        ("kernel", Unmatched::Kernel),
    ];
    let unmatched = table
        .get("unmatched")
        .and_then(|v| v.choice(report, &unmatched));
    let port = table.get("port").and_then(|v| value::port_name(&v, report));
    let vip = Vip {
        address: address?,
        held: held.unwrap_or_default(),
        unmatched: unmatched.unwrap_or_default(),
        port,
    };
    report.uses(table.at("address"), built::family(vip.address));
    Some(Placed { value: vip, table })
}

pub(super) fn marks<'d>(root: &Table<'d>, report: &mut Report<'_>) -> Vec<Placed<'d, MarkRule>> {
    let tables = root.tables(report, "mark", "[[mark]]");
    tables
        .into_iter()
        .filter_map(|table| mark(table, report))
        .collect()
}

fn mark<'d>(table: Table<'d>, report: &mut Report<'_>) -> Option<Placed<'d, MarkRule>> {
    table.allow(report, MARK);
    let number = table
        .need(report, "mark")
        .and_then(|v| v.integer(report, 1..=0xffff_ffff));
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|p| (p.name(), p));
    let protocol = table
        .get("protocol")
        .and_then(|v| v.choice(report, &protocols));
    let from = table.get("from").and_then(|v| value::network(&v, report));
    let to = table
        .need(report, "to")
        .and_then(|v| value::network(&v, report));
    let ports = table.get("ports").and_then(|v| port_range(&v, report));
    let port = table.get("port").and_then(|v| value::port_name(&v, report));
    let rule = MarkRule {
        mark: number?,
        protocol,
        from,
        to: to?,
        ports,
        port,
    };
    report.uses(table.at("mark"), Feature::MarkRule);
    Some(Placed { value: rule, table })
}

/// `"80-443"`, `"80"` or `80`.
fn port_range(value: &Value<'_>, report: &mut Report<'_>) -> Option<(u16, u16)> {
    if !value.is_text() {
        return value.integer(report, 0..=65535).map(|port| (port, port));
    }
    let read = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = (digits(first)?, digits(last)?);
        (range.0 <= range.1).then_some(range)
    };
    value.parse(report, "a port or a range of ports, as 80-443", read)
}
