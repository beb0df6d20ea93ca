//! `[[service]]` and `[[service.real]]`.
//!
//! What must hold within one service is checked here, as `ipvsadm` would; what must hold
//! between services, or against the ports, is in `check`.

use std::net::{IpAddr, Ipv4Addr};

use super::report::Report;
use super::sorry::sorry_server;
use super::table::{Table, Value};
use super::value::{self, family_name};
use crate::built;
use crate::model::{
    ClientAddress, Endpoint, Family, Listen, MAX_TIMEOUT, MAX_WEIGHT, Mode, Persistence,
    PersistenceMask, Prefix, Protocol, Real, SchedulerFlags, SchedulerKind, Service, Tunnel,
    TunnelChecksum, address_and_port, is_unicast,
};

pub(super) const SERVICE: &[&str] = &[
    "listen",
    "scheduler",
    "flags",
    "persistence",
    "persistence_mask",
    "persistence_engine",
    "one_packet",
    "local_addresses",
    "client_address",
    "mss_clamp",
    "block",
    "allow",
    "connection_timeout",
    "expire_quiescent",
    "synproxy",
    "sorry_server",
    "sorry_server_mode",
    "sorry_server_inhibit",
    "real",
];
pub(super) const REAL: &[&str] = &["address", "weight", "mode", "tunnel", "upper", "lower"];
pub(super) const TUNNEL: &[&str] = &["type", "port", "checksum"];

/// The largest connection threshold.
const MAX_THRESHOLD: i64 = i32::MAX as i64;

/// A service, with its table and those of its reals (in the same order).
pub(super) struct PlacedService<'d> {
    pub(super) service: Service,
    pub(super) table: Table<'d>,
    pub(super) reals: Vec<Table<'d>>,
}

pub(super) fn services<'d>(root: &Table<'d>, report: &mut Report<'_>) -> Vec<PlacedService<'d>> {
    let tables = root.tables(report, "service", "[[service]]");
    tables
        .into_iter()
        .filter_map(|table| service(table, report))
        .collect()
}

fn service<'d>(table: Table<'d>, report: &mut Report<'_>) -> Option<PlacedService<'d>> {
    table.allow(report, SERVICE);
    let listen = table
        .need(report, "listen")
        .and_then(|v| listen(&v, report));
    // Without a key to hang on to, the rest is still read for its own mistakes.
    let known = listen.is_some();
    let placeholder = Listen::Mark {
        mark: 1,
        family: Family::V4,
    };
    let mut service = Service::new(listen.unwrap_or(placeholder));
    scheduler(&table, report, &mut service);
    options(&table, report, &mut service, known);
    let (reals, tables) = reals(&table, report, &service, known);
    service.reals = reals;
    service.sorry_server = sorry_server(&table, report, &service);
    if !known {
        return None;
    }
    own_rules(&table, report, &service);
    for feature in built::uses_of_service(&service) {
        let key = if feature.key() == "address" {
            "listen"
        } else {
            feature.key()
        };
        report.uses(table.at(key), feature);
    }
    Some(PlacedService {
        service,
        table,
        reals: tables,
    })
}

fn listen(value: &Value<'_>, report: &mut Report<'_>) -> Option<Listen> {
    let unicast = |listen: &Listen| listen.address().is_none_or(|address| is_unicast(&address));
    let read = |text: &str| text.parse().ok().filter(unicast);
    let expected = "a service, as tcp 192.0.2.10:80, udp [2001:db8::10]:53, fwm 5 or fwm 5 ipv6";
    value.parse(report, expected, read)
}

fn scheduler(table: &Table<'_>, report: &mut Report<'_>, service: &mut Service) {
    let names = SchedulerKind::ALL.map(|kind| (kind.name(), kind));
    let kind = match table.get("scheduler") {
        Some(value) => value.choice(report, &names),
        None => Some(SchedulerKind::default()),
    };
    service.scheduler = kind.unwrap_or_default();
    let flags = table
        .get("flags")
        .and_then(|v| v.list(report))
        .unwrap_or_default();
    for value in flags {
        // A scheduler that is no scheduler says nothing about its flags.
        if let Some(kind) = kind {
            service.flags.0 |= flag(&value, report, kind).unwrap_or_default();
        }
    }
}

/// The bit of a flag, if the scheduler has it.
fn flag(value: &Value<'_>, report: &mut Report<'_>, kind: SchedulerKind) -> Option<u8> {
    const OWN: &[(SchedulerKind, &str, u8)] = &[
        (SchedulerKind::Sh, "sh-fallback", SchedulerFlags::FALLBACK),
        (SchedulerKind::Sh, "sh-port", SchedulerFlags::PORT),
        (SchedulerKind::Mh, "mh-fallback", SchedulerFlags::FALLBACK),
        (SchedulerKind::Mh, "mh-port", SchedulerFlags::PORT),
    ];
    const ANY: [(&str, u8); 3] = [
        ("flag-1", SchedulerFlags::FALLBACK),
        ("flag-2", SchedulerFlags::PORT),
        ("flag-3", SchedulerFlags::THIRD),
    ];
    let own = OWN
        .iter()
        .filter(|(owner, ..)| *owner == kind)
        .map(|&(_, name, bit)| (name, bit));
    let flags: Vec<_> = own.chain(ANY).collect();
    let names: Vec<_> = flags.iter().map(|(name, _)| *name).collect();
    let expected = format!("a flag of scheduler {kind}: {}", names.join(", "));
    value.parse(report, &expected, |text| {
        flags
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, bit)| *bit)
    })
}

fn options(table: &Table<'_>, report: &mut Report<'_>, service: &mut Service, known: bool) {
    service.persistence = persistence(table, report, known.then_some(service.listen.family()));
    let boolean = |key, report: &mut Report<'_>| table.get(key).and_then(|v| v.boolean(report));
    service.one_packet = boolean("one_packet", report).unwrap_or_default();
    service.mss_clamp = boolean("mss_clamp", report).unwrap_or_default();
    service.expire_quiescent = boolean("expire_quiescent", report).unwrap_or_default();
    service.synproxy = boolean("synproxy", report).unwrap_or_default();
    let local = table
        .get("local_addresses")
        .and_then(|v| v.list(report))
        .unwrap_or_default();
    service.local_addresses = value::hosts(&local, report);
    let client = table
        .get("client_address")
        .and_then(|v| v.choice(report, ClientAddress::NAMES));
    service.client_address = client.unwrap_or_default();
    let seconds = 1..=i64::from(MAX_TIMEOUT);
    let timeout = table.get("connection_timeout");
    service.connection_timeout = timeout.and_then(|v| v.integer(report, seconds));
    let family = known.then_some(service.listen.family());
    service.block = clients(table, report, "block", family);
    service.allow = clients(table, report, "allow", family);
}

/// A list of clients, of the service's family.
fn clients(
    table: &Table<'_>,
    report: &mut Report<'_>,
    key: &str,
    family: Option<Family>,
) -> Vec<Prefix> {
    let entries = table.get(key).and_then(|v| v.list(report));
    let entries = entries.unwrap_or_default();
    let clients = value::clients(&entries, report);
    if let (Some(family), Some(value)) = (family, table.get(key)) {
        let foreign = clients.iter().find(|p| Family::of(&p.address) != family);
        if let Some(foreign) = foreign {
            let (name, foreign) = (family_name(family), foreign.short());
            report.error(
                value.at,
                format!("{key} {foreign}: the service's clients are {name}"),
            );
        }
    }
    clients
}

fn persistence(
    table: &Table<'_>,
    report: &mut Report<'_>,
    family: Option<Family>,
) -> Option<Persistence> {
    let seconds = 1..=i64::from(MAX_TIMEOUT);
    let timeout = table.get("persistence").map(|v| v.integer(report, seconds));
    for key in ["persistence_mask", "persistence_engine"] {
        if let (None, Some(value)) = (timeout, table.get(key)) {
            report.error(value.at, format!("{key} needs the key persistence"));
        }
    }
    let value = table.get("persistence_mask");
    let mask = match (value, family) {
        (Some(value), Some(family)) => mask(&value, report, family),
        _ => None,
    };
    let engines = [("sip", "sip")];
    let engine = table
        .get("persistence_engine")
        .and_then(|v| v.choice(report, &engines));
    Some(Persistence {
        timeout: timeout??,
        mask: mask.unwrap_or(PersistenceMask::full(family.unwrap_or(Family::V4))),
        engine: engine.map(str::to_owned),
    })
}

fn mask(value: &Value<'_>, report: &mut Report<'_>, family: Family) -> Option<PersistenceMask> {
    if family == Family::V6 {
        return value.integer(report, 1..=128).map(PersistenceMask::V6);
    }
    let read = |text: &str| text.parse::<Ipv4Addr>().ok().map(PersistenceMask::V4);
    value.parse(report, "an IPv4 mask, as \"255.255.255.0\"", read)
}

fn reals<'d>(
    table: &Table<'d>,
    report: &mut Report<'_>,
    service: &Service,
    known: bool,
) -> (Vec<Real>, Vec<Table<'d>>) {
    let tables = table.tables(report, "real", "[[service.real]]").into_iter();
    tables
        .filter_map(|table| Some((real(&table, report, service, known)?, table)))
        .unzip()
}

fn real(
    table: &Table<'_>,
    report: &mut Report<'_>,
    service: &Service,
    known: bool,
) -> Option<Real> {
    table.allow(report, REAL);
    let address = table
        .need(report, "address")
        .and_then(|v| real_address(&v, report));
    let weight = table
        .get("weight")
        .and_then(|v| v.integer(report, 0..=i64::from(MAX_WEIGHT)));
    let mode = mode(table, report);
    let mut threshold = |key| -> u32 {
        table
            .get(key)
            .and_then(|v| v.integer(report, 0..=MAX_THRESHOLD))
            .unwrap_or_default()
    };
    let (upper, lower) = (threshold("upper"), threshold("lower"));
    if lower > upper {
        report.error(
            table.at("lower"),
            format!("lower {lower} is above upper {upper}"),
        );
    }
    if !known {
        return None;
    }
    let ((address, port), mode) = (address?, mode?);
    let port = real_port(table.at("address"), report, service, (mode, port));
    let endpoint = Endpoint { address, port };
    let real = Real {
        endpoint,
        mode,
        weight: weight.unwrap_or(1),
        upper,
        lower,
    };
    families(table.at("address"), report, service, &real);
    for feature in built::uses_of_real(service, &real) {
        let key = feature.key();
        let key = if key == "tunnel" && table.get(key).is_none() {
            "mode"
        } else {
            key
        };
        report.uses(table.at(key), feature);
    }
    Some(real)
}

pub(super) fn real_address(
    value: &Value<'_>,
    report: &mut Report<'_>,
) -> Option<(IpAddr, Option<u16>)> {
    let read = |text: &str| address_and_port(text).filter(|(address, _)| is_unicast(address));
    let expected = "a real server, as 10.1.0.11, 10.1.0.11:8080, 2001:db8::11 or [2001:db8::11]:80";
    value.parse(report, expected, read)
}

/// The port of a real: the service's if it has none of its own, and always in DR and TUN,
/// where the packet that arrives is the client's own (reference A.3).
pub(super) fn real_port(
    at: usize,
    report: &mut Report<'_>,
    service: &Service,
    (mode, port): (Mode, Option<u16>),
) -> u16 {
    let own = service.listen.port();
    let Some(port) = port else { return own };
    let forced = matches!(mode, Mode::Dr | Mode::Tun(_)) && service.listen.address().is_some();
    if !forced || port == own {
        return port;
    }
    let name = if mode == Mode::Dr { "dr" } else { "tun" };
    let text = format!("port {port} becomes {own}: mode {name} can't change the service's port");
    report.warn(at, text);
    own
}

/// The modes by name.
pub(super) const MODES: &[(&str, Mode)] = &[
    ("dr", Mode::Dr),
    ("tun", Mode::Tun(Tunnel::Ipip)),
    ("nat", Mode::Nat),
    ("fullnat", Mode::FullNat),
];

fn mode(table: &Table<'_>, report: &mut Report<'_>) -> Option<Mode> {
    let mode = match table.get("mode") {
        Some(value) => value.choice(report, MODES),
        None => Some(Mode::Dr),
    };
    let tunnel = table.table(report, "tunnel", "tunnel");
    let envelope = tunnel.map(|tunnel| envelope(&tunnel, report));
    match (mode, envelope) {
        (Some(Mode::Tun(_)), Some(tunnel)) => tunnel.map(Mode::Tun),
        (Some(_), Some(_)) => {
            report.error(table.at("tunnel"), "tunnel is only for mode tun");
            None
        }
        (mode, _) => mode,
    }
}

fn envelope(table: &Table<'_>, report: &mut Report<'_>) -> Option<Tunnel> {
    const CHECKSUMS: &[(&str, TunnelChecksum)] = &[
        ("none", TunnelChecksum::None),
        ("csum", TunnelChecksum::Sum),
        ("remcsum", TunnelChecksum::Remote),
    ];
    table.allow(report, TUNNEL);
    let types = [("ipip", "ipip"), ("gue", "gue"), ("gre", "gre")];
    let kind = table
        .need(report, "type")
        .and_then(|v| v.choice(report, &types))?;
    // GRE has no remote checksum, IPIP no checksum at all.
    let choices = if kind == "gre" {
        &CHECKSUMS[..2]
    } else {
        CHECKSUMS
    };
    let checksum = match table.get("checksum") {
        Some(value) => value.choice(report, choices),
        None => Some(TunnelChecksum::None),
    };
    if kind == "gue" {
        let port = table
            .need(report, "port")
            .and_then(|v| v.integer(report, 1..=65535));
        return Some(Tunnel::Gue {
            port: port?,
            checksum: checksum?,
        });
    }
    refuse_key(table, report, "port", kind);
    if kind == "gre" {
        return Some(Tunnel::Gre {
            checksum: checksum?,
        });
    }
    refuse_key(table, report, "checksum", kind);
    Some(Tunnel::Ipip)
}

fn refuse_key(table: &Table<'_>, report: &mut Report<'_>, key: &str, kind: &str) {
    if let Some(value) = table.get(key) {
        report.error(value.at, format!("a tunnel of type {kind} has no {key}"));
    }
}

/// Another family than the service's needs an envelope, or a translation from IPv6 clients
/// to IPv4 reals.
pub(super) fn families(at: usize, report: &mut Report<'_>, service: &Service, real: &Real) {
    let (from, to) = (service.listen.family(), Family::of(&real.endpoint.address));
    let nat64 = real.mode == Mode::FullNat && from == Family::V6;
    if from == to || nat64 || matches!(real.mode, Mode::Tun(_)) {
        return;
    }
    let modes = match from {
        Family::V4 => "tun",
        Family::V6 => "tun or fullnat",
    };
    let (from, to) = (family_name(from), family_name(to));
    let text = format!("an {to} real server of an {from} service needs mode {modes}");
    report.error(at, text);
}

/// What the service's keys demand of each other.
fn own_rules(table: &Table<'_>, report: &mut Report<'_>, service: &Service) {
    let udp = match service.listen {
        Listen::Mark { .. } => true,
        Listen::Address { protocol, .. } => protocol == Protocol::Udp,
    };
    let at = table.at("listen");
    if service.listen.address().is_some()
        && service.listen.port() == 0
        && table.get("persistence").is_none()
    {
        report.error(
            at,
            format!(
                "{}: port 0 (all ports) needs the key persistence",
                service.listen
            ),
        );
    }
    if service.one_packet && !udp {
        let text = "one_packet is only for UDP services and services by mark";
        report.error(table.at("one_packet"), text);
    }
    let engine = service
        .persistence
        .as_ref()
        .and_then(|p| p.engine.as_deref());
    if let Some(engine) = engine.filter(|_| !udp) {
        let text = format!("persistence_engine {engine} is only for UDP services");
        report.error(table.at("persistence_engine"), text);
    }
}
