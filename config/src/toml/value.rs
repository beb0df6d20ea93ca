//! Values that several tables have: addresses, networks, MACs, names.

use std::net::IpAddr;

use super::report::Report;
use super::table::Value;
use crate::model::{Family, MacAddress, Prefix, is_unicast};

/// The longest name that Linux gives an interface, in octets.
const LONGEST_NAME: usize = 15;

/// The address of one host.
pub(super) fn host(value: &Value<'_>, report: &mut Report<'_>) -> Option<IpAddr> {
    let read = |text: &str| text.parse().ok().filter(is_unicast);
    value.parse(report, "an IPv4 or IPv6 address of one host", read)
}

/// Addresses of hosts, none twice.
pub(super) fn hosts(entries: &[Value<'_>], report: &mut Report<'_>) -> Vec<IpAddr> {
    let mut hosts = Vec::new();
    for entry in entries {
        match host(entry, report) {
            Some(address) if hosts.contains(&address) => {
                report.error(
                    entry.at,
                    format!("{} {address} is there twice", entry.key()),
                );
            }
            address => hosts.extend(address),
        }
    }
    hosts
}

/// Addresses and networks of clients, none twice.
pub(super) fn clients(entries: &[Value<'_>], report: &mut Report<'_>) -> Vec<Prefix> {
    let mut clients = Vec::new();
    for entry in entries {
        match client(entry, report) {
            Some(client) if clients.contains(&client) => {
                report.error(
                    entry.at,
                    format!("{} {} is there twice", entry.key(), client.short()),
                );
            }
            client => clients.extend(client),
        }
    }
    clients
}

fn client(value: &Value<'_>, report: &mut Report<'_>) -> Option<Prefix> {
    let expected = "an address, or a network with its prefix length, as 192.0.2.0/24";
    whole(
        value.parse(report, expected, Prefix::or_host)?,
        value,
        report,
    )
}

/// An address of our own with the length of its subnet.
pub(super) fn interface(value: &Value<'_>, report: &mut Report<'_>) -> Option<Prefix> {
    let read = |text: &str| {
        text.parse()
            .ok()
            .filter(|p: &Prefix| is_unicast(&p.address))
    };
    value.parse(
        report,
        "an address of one host with its prefix length, as 192.0.2.2/24",
        read,
    )
}

/// A network: no bits outside the prefix.
pub(super) fn network(value: &Value<'_>, report: &mut Report<'_>) -> Option<Prefix> {
    let expected = "a network with its prefix length, as 192.0.2.0/24";
    let prefix = value.parse(report, expected, |text| text.parse().ok())?;
    whole(prefix, value, report)
}

/// The prefix, if it is a network's.
fn whole(prefix: Prefix, value: &Value<'_>, report: &mut Report<'_>) -> Option<Prefix> {
    let network = Prefix {
        address: prefix.network(),
        length: prefix.length,
    };
    if prefix.is_network() {
        return Some(prefix);
    }
    value.refuse(
        report,
        &format!("a network: bits outside its prefix are set; write {network}"),
    )
}

/// A MAC address of one station.
pub(super) fn mac(value: &Value<'_>, report: &mut Report<'_>) -> Option<MacAddress> {
    const GROUP: u8 = 1;
    let single = |mac: &MacAddress| mac.0[0] & GROUP == 0 && mac.0 != [0; 6];
    let read = |text: &str| text.parse().ok().filter(single);
    value.parse(
        report,
        "the MAC address of one station, as 02:00:00:00:00:01",
        read,
    )
}

/// Any text but an empty one, of at most `longest` octets.
pub(super) fn text(value: &Value<'_>, report: &mut Report<'_>, longest: usize) -> Option<String> {
    let good = |text: &str| !text.is_empty() && text.len() <= longest && !text.contains('\0');
    let read = |text: &str| good(text).then(|| text.to_owned());
    value.parse(
        report,
        &format!("a text of 1 to {longest} characters"),
        read,
    )
}

/// A name that can be that of a kernel interface.
pub(super) fn port_name(value: &Value<'_>, report: &mut Report<'_>) -> Option<String> {
    let legal = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    let good = |name: &str| {
        (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(legal) && !is_dots(name)
    };
    let expected = "a name of 1 to 15 characters without blanks, / and :";
    value.parse(report, expected, |text| good(text).then(|| text.to_owned()))
}

fn is_dots(name: &str) -> bool {
    name == "." || name == ".."
}

/// `IPv4` or `IPv6`.
pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
