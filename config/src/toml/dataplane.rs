//! The tables that stand once: `[dataplane]`, `[control]`, `[timeouts]`, `[sysctl]`.

use super::report::Report;
use super::table::{Table, Value};
use super::value;
use crate::built::{self, Feature};
use crate::model::{Control, Dataplane, Hugepages, Idle, MAX_TIMEOUT, Steering, Timeouts};
use crate::sysctl::{self as tunables, Sysctl};

pub(super) const DATAPLANE: &[&str] = &[
    "workers",
    "connections",
    "connections_v6",
    "steering",
    "idle",
    "hugepages",
];
pub(super) const CONTROL: &[&str] = &["socket", "group", "stop_delay"];
pub(super) const TIMEOUTS: &[&str] = &["tcp", "tcp_fin", "udp"];

/// More connections than any machine has memory for: catches a slip of the finger.
const MAX_CONNECTIONS: i64 = 1_000_000_000;
/// The longest path of a Unix socket, in octets (`sun_path` less its final zero).
const LONGEST_SOCKET: usize = 107;
/// The longest group name, in octets (`useradd` allows no more).
const LONGEST_GROUP: usize = 32;
/// The longest `stop_delay`: one hour, in seconds.
const MAX_STOP_DELAY: i64 = 3600;

/// Where a file names no cache of its own, IPv6 gets this part of the IPv4 connections.
const V6_SHARE: u32 = 4;

pub(super) fn dataplane(root: &Table<'_>, report: &mut Report<'_>) -> Dataplane {
    let mut dataplane = Dataplane::default();
    let Some(table) = root.table(report, "dataplane", "[dataplane]") else {
        return dataplane;
    };
    table.allow(report, DATAPLANE);
    if let Some(value) = table.get("workers") {
        dataplane.workers = workers(&value, report);
    }
    sizes(&table, report, &mut dataplane);
    let steering = [("tuple", Steering::Tuple), ("client", Steering::Client)];
    set(
        &mut dataplane.steering,
        table
            .get("steering")
            .and_then(|v| v.choice(report, &steering)),
    );
    set(
        &mut dataplane.idle,
        table.get("idle").and_then(|v| v.choice(report, IDLE)),
    );
    set(
        &mut dataplane.hugepages,
        table.get("hugepages").and_then(|v| v.choice(report, HUGE)),
    );
    for feature in built::uses_of_dataplane(&dataplane) {
        report.uses(table.at(feature.key()), feature);
    }
    dataplane
}

const IDLE: &[(&str, Idle)] = &[
    ("auto", Idle::Auto),
    ("spin", Idle::Spin),
    ("pause", Idle::Pause),
    ("sleep", Idle::Sleep),
];
const HUGE: &[(&str, Hugepages)] = &[
    ("auto", Hugepages::Auto),
    ("require", Hugepages::Require),
    ("off", Hugepages::Off),
];

fn sizes(table: &Table<'_>, report: &mut Report<'_>, dataplane: &mut Dataplane) {
    if let Some(value) = table.get("connections") {
        set(
            &mut dataplane.connections,
            value.integer(report, 1..=MAX_CONNECTIONS),
        );
        dataplane.connections_v6 = dataplane.connections / V6_SHARE;
    }
    if let Some(value) = table.get("connections_v6") {
        set(
            &mut dataplane.connections_v6,
            value.integer(report, 0..=MAX_CONNECTIONS),
        );
    }
}

fn workers(value: &Value<'_>, report: &mut Report<'_>) -> Vec<u16> {
    let mut cores = Vec::new();
    let Some(entries) = value.list(report) else {
        return cores;
    };
    for entry in &entries {
        match entry.integer(report, 0..=i64::from(u16::MAX)) {
            Some(core) if cores.contains(&core) => {
                report.error(entry.at, format!("workers: core {core} is there twice"));
            }
            core => cores.extend(core),
        }
    }
    if entries.is_empty() {
        report.error(
            value.at,
            "workers is empty: it needs one core for each worker",
        );
    }
    cores
}

pub(super) fn control(root: &Table<'_>, report: &mut Report<'_>) -> Control {
    let mut control = Control::default();
    let Some(table) = root.table(report, "control", "[control]") else {
        return control;
    };
    table.allow(report, CONTROL);
    let socket = table
        .get("socket")
        .and_then(|v| value::text(&v, report, LONGEST_SOCKET));
    set(&mut control.socket, socket);
    control.group = table
        .get("group")
        .and_then(|v| value::text(&v, report, LONGEST_GROUP));
    let delay = table
        .get("stop_delay")
        .and_then(|v| v.integer(report, 0..=MAX_STOP_DELAY));
    set(&mut control.stop_delay, delay);
    control
}

pub(super) fn timeouts(root: &Table<'_>, report: &mut Report<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(table) = root.table(report, "timeouts", "[timeouts]") else {
        return timeouts;
    };
    table.allow(report, TIMEOUTS);
    let mut seconds = |key| -> Option<u32> {
        table
            .get(key)
            .and_then(|v| v.integer(report, 1..=i64::from(MAX_TIMEOUT)))
    };
    set(&mut timeouts.tcp, seconds("tcp"));
    set(&mut timeouts.tcp_fin, seconds("tcp_fin"));
    set(&mut timeouts.udp, seconds("udp"));
    timeouts
}

pub(super) fn sysctl(root: &Table<'_>, report: &mut Report<'_>) -> Vec<(String, i64)> {
    let mut settings = Vec::new();
    let Some(table) = root.table(report, "sysctl", "[sysctl]") else {
        return settings;
    };
    for value in table.keys() {
        if let Some(sysctl) = tunables::find(value.key()) {
            report.uses(value.at, Feature::Sysctl(sysctl.name));
        }
        match tunables::find(value.key()) {
            Some(sysctl) if sysctl.name == tunables::SYNC_THRESHOLD => {
                settings.extend(sync_threshold(&value, report));
            }
            Some(sysctl) if sysctl.name != tunables::SYNC_PERIOD => {
                settings.extend(tunable(&value, sysctl, report));
            }
            _ => unknown_tunable(&value, report),
        }
    }
    settings
}

fn unknown_tunable(value: &Value<'_>, report: &mut Report<'_>) {
    let names = tunables::ALL.iter().map(|sysctl| sysctl.name);
    let names: Vec<_> = names
        .filter(|&name| name != tunables::SYNC_PERIOD)
        .collect();
    let key = super::table::shown(value.key());
    report.error(
        value.at,
        format!(
            "unknown key {key} in [sysctl]; allowed: {}",
            names.join(", ")
        ),
    );
}

fn tunable(
    value: &Value<'_>,
    sysctl: &'static Sysctl,
    report: &mut Report<'_>,
) -> Option<(String, i64)> {
    let number: i64 = value.integer(report, sysctl.range())?;
    if !sysctl.allows(number) {
        return value.refuse(report, "a power of two");
    }
    Some((sysctl.name.to_owned(), number))
}

/// `sync_threshold = [3, 50]`: the one tunable of two numbers.
fn sync_threshold(value: &Value<'_>, report: &mut Report<'_>) -> Vec<(String, i64)> {
    let entries = value.one_or_list();
    let names = [tunables::SYNC_THRESHOLD, tunables::SYNC_PERIOD];
    if entries.len() != names.len() {
        value.refuse::<()>(report, "two numbers, as [3, 50]");
        return Vec::new();
    }
    let pairs = entries
        .iter()
        .zip(names.iter().filter_map(|name| tunables::find(name)));
    pairs
        .filter_map(|(entry, sysctl)| tunable(entry, sysctl, report))
        .collect()
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
