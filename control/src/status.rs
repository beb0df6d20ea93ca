//! What `sluice status` shows: workers, ports, neighbours, VIPs, and how control itself does.

use std::fmt::Write;
use std::sync::Arc;

use dataplane::verdict::Counters;
use serde::Serialize;

use crate::latency::{Latencies, Latency};

/// What a device says of itself when asked. Control knows no DPDK: the daemon gives one of
/// these for each port.
pub trait PortInfo {
    /// The device as it is now.
    fn report(&self) -> DeviceReport;
}

/// A device as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct DeviceReport {
    /// As the configuration names it.
    pub device: String,
    /// Its driver.
    pub driver: String,
    /// Whether frames can pass; absent where the driver doesn't say.
    pub link_up: Option<bool>,
    /// Mb/s, where known.
    pub speed_mbps: Option<u32>,
    /// Queue pairs.
    pub queues: u16,
    /// What spreads packets over the queues.
    pub rss: String,
    /// The device's own counters, by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortStatus {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: String,
    /// Largest IP packet, in octets.
    pub mtu: u16,
    /// The director's addresses on it.
    pub addresses: Vec<String>,
    /// Of a VLAN's port: which, and over which port.
    #[serde(flatten)]
    pub vlan: Option<VlanStatus>,
    /// Its device; of a VLAN's port its parent's, with counters of the VLAN's own.
    #[serde(flatten)]
    pub device: DeviceReport,
}

/// The VLAN of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VlanStatus {
    /// The port that carries it, by name.
    pub parent: String,
    /// Its identifier.
    pub vlan: u16,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerStatus {
    /// Its number.
    pub id: usize,
    /// Its core.
    pub core: u16,
    /// Connections now.
    pub connections: u64,
    /// Share of its cycles of the last second in which it had something to do, in percent.
    pub load_percent: u64,
    /// How long the turns took that found something to do.
    pub turns: Latency,
    /// Its IPv4 table.
    pub table_v4: TableStatus,
    /// Its IPv6 table.
    pub table_v6: TableStatus,
    /// Everything it counts, by name; what is 0 is left out.
    pub counters: Vec<(&'static str, u64)>,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// Connections and templates in it.
    pub entries: u32,
    /// What it has room for.
    pub capacity: u32,
}

impl WorkerStatus {
    fn counter(&self, name: &str) -> u64 {
        let found = self.counters.iter().find(|(n, _)| *n == name);
        found.map_or(0, |&(_, value)| value)
    }
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeighbourStatus {
    /// Its address.
    pub address: String,
    /// The port it is on.
    pub port: String,
    /// Its MAC, where it is known.
    pub mac: Option<String>,
    /// What is known of it.
    pub state: &'static str,
}

/// A path through a tunnel that is narrower than its first link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathStatus {
    /// The tunnel's end: a real server.
    pub address: String,
    /// What goes through in one piece, in octets, outer header included.
    pub mtu: u16,
    /// For how long that is believed, in seconds.
    pub left_s: u64,
}

impl PathStatus {
    fn write(&self, to: &mut String) -> std::fmt::Result {
        let Self {
            address,
            mtu,
            left_s,
        } = self;
        writeln!(
            to,
            "path to {address}: mtu {mtu}, for {}",
            duration(*left_s)
        )
    }
}

/// A VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VipStatus {
    /// The address.
    pub address: String,
    /// The port it is announced on, if any.
    pub port: Option<String>,
    /// Whether we answer for it.
    pub held: bool,
    /// What becomes of traffic that no service takes.
    pub unmatched: &'static str,
    /// Who says that it exists: `file` or `service`.
    pub source: &'static str,
}

/// What workers know of each other's connections: with several workers, and real servers that
/// are chosen by their connections or have thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SumsStatus {
    /// Real servers whose connections are summed over the workers.
    pub reals: usize,
    /// Milliseconds since the oldest of these sums, at most.
    pub age_ms: u64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The program's version.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// The configuration's generation.
    pub generation: u64,
    /// Whether it is about to stop.
    pub stopping: bool,
    /// Services.
    pub services: usize,
    /// Real servers.
    pub reals: usize,
    /// Removed real servers whose connections may not have ended.
    pub reals_in_trash: usize,
    /// What workers know of each other; absent where they need not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sums: Option<SumsStatus>,
    /// The longest turn of the control loop so far, in microseconds.
    pub control_longest_turn_us: u64,
    /// Frames that control couldn't send or pass on to the kernel.
    pub control_frames_lost: u64,
    /// Frames whose next hop did not answer in time.
    pub control_frames_unresolved: u64,
    /// How long commands took, from the request read to the answer written.
    pub commands: Latency,
    /// The workers.
    pub workers: Vec<WorkerStatus>,
    /// The ports.
    pub ports: Vec<PortStatus>,
    /// The VIPs.
    pub vips: Vec<VipStatus>,
    /// The neighbours.
    pub neighbours: Vec<NeighbourStatus>,
    /// Addresses of ours that others claim.
    pub conflicts: Vec<crate::links::ConflictRow>,
    /// Paths through tunnels of which routers told us.
    pub paths: Vec<PathStatus>,
}

impl Status {
    /// For programs: one JSON object and a newline.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("strings and numbers are always JSON");
        text.push('\n');
        text
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes everything");
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let stopping = if self.stopping { ", stopping" } else { "" };
        writeln!(
            to,
            "sluiced {}, up {}, generation {}{stopping}",
            self.version,
            duration(self.uptime_s),
            self.generation
        )?;
        writeln!(
            to,
            "{} services, {} real servers ({} removed ones not freed yet)",
            self.services, self.reals, self.reals_in_trash
        )?;
        if let Some(SumsStatus { reals, age_ms }) = self.sums {
            writeln!(
                to,
                "connections summed over the workers for {reals} real servers, {age_ms} ms ago at most"
            )?;
        }
        writeln!(
            to,
            "control: longest turn {} us, {} frames lost, {} for a neighbour that didn't answer",
            self.control_longest_turn_us, self.control_frames_lost, self.control_frames_unresolved
        )?;
        if self.commands.count > 0 {
            writeln!(to, "{} commands: {}", self.commands.count, self.commands)?;
        }
        self.workers
            .iter()
            .try_for_each(|worker| worker.write(to))?;
        self.ports.iter().try_for_each(|port| port.write(to))?;
        self.vips.iter().try_for_each(|vip| vip.write(to))?;
        self.neighbours.iter().try_for_each(|n| n.write(to))?;
        self.conflicts.iter().try_for_each(|row| row.write(to))?;
        self.paths.iter().try_for_each(|path| path.write(to))
    }
}

impl WorkerStatus {
    fn write(&self, to: &mut String) -> std::fmt::Result {
        writeln!(
            to,
            "worker {} on core {}: {} connections, load {}%, rx {}, tx {}",
            self.id,
            self.core,
            self.connections,
            self.load_percent,
            self.counter("rx"),
            self.counter("transmit")
        )?;
        let [v4, v6] = [self.table_v4, self.table_v6];
        writeln!(
            to,
            "  table {} of {}, IPv6 {} of {}",
            v4.entries, v4.capacity, v6.entries, v6.capacity
        )?;
        if self.turns.count > 0 {
            writeln!(to, "  turns: {}", self.turns)?;
        }
        let shown = |name: &str| name.starts_with("drop-") || name.starts_with("punt-");
        let rows = self.counters.iter().filter(|(name, _)| shown(name));
        for (name, value) in rows {
            writeln!(to, "  {name} {value}")?;
        }
        Ok(())
    }
}

impl PortStatus {
    fn write(&self, to: &mut String) -> std::fmt::Result {
        let link = match self.device.link_up {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        let speed = self.device.speed_mbps.map(|mbps| format!(" {mbps} Mb/s"));
        let (name, mac, mtu) = (&self.name, &self.mac, self.mtu);
        match &self.vlan {
            Some(VlanStatus { parent, vlan }) => writeln!(
                to,
                "port {name}: vlan {vlan} of {parent}, {mac}, link {link}, mtu {mtu}"
            )?,
            None => writeln!(
                to,
                "port {name}: {} ({}), {mac}, link {link}{}, mtu {mtu}, {} queues, rss: {}",
                self.device.device,
                self.device.driver,
                speed.unwrap_or_default(),
                self.device.queues,
                self.device.rss
            )?,
        }
        for address in &self.addresses {
            writeln!(to, "  address {address}")?;
        }
        for (name, value) in &self.device.counters {
            writeln!(to, "  {name} {value}")?;
        }
        Ok(())
    }
}

impl VipStatus {
    fn write(&self, to: &mut String) -> std::fmt::Result {
        let held = if self.held { "held" } else { "not held" };
        let port = self.port.as_ref().map(|port| format!(" on {port}"));
        let port = port.unwrap_or_else(|| " on no port's subnet".to_owned());
        writeln!(
            to,
            "vip {}: {held}{port}, unmatched {}, from {}",
            self.address, self.unmatched, self.source
        )
    }
}

impl NeighbourStatus {
    fn write(&self, to: &mut String) -> std::fmt::Result {
        let mac = self.mac.as_deref().unwrap_or("-");
        let Self {
            address,
            port,
            state,
            ..
        } = self;
        writeln!(to, "neighbour {address} on {port}: {mac} {state}")
    }
}

/// `3d 4h`, `4h 5m`, `5m 6s`, `6s`.
fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A worker as control sees it: its core, its counters, and what they were a second ago.
#[derive(Debug)]
pub struct WorkerView {
    core: u16,
    counters: Arc<Counters>,
    before: (u64, u64),
    load_percent: u64,
    /// When it was sampled first, in milliseconds, and its cycles then.
    first: Option<(u64, u64)>,
    /// Nanoseconds since then, and the cycles that went by.
    clock: (u64, u64),
}

impl WorkerView {
    /// A worker on `core`.
    pub fn new(core: u16, counters: Arc<Counters>) -> Self {
        Self {
            core,
            counters,
            before: (0, 0),
            load_percent: 0,
            first: None,
            clock: (0, 0),
        }
    }

    /// A second went by; it is `now_ms` since the start.
    pub fn sample(&mut self, now_ms: u64) {
        let now = (self.counters.busy_cycles.get(), self.counters.cycles.get());
        let busy = now.0.wrapping_sub(self.before.0);
        let all = now.1.wrapping_sub(self.before.1);
        self.before = now;
        let (at, cycles) = *self.first.get_or_insert((now_ms, now.1));
        let nanos = now_ms.saturating_sub(at).saturating_mul(1_000_000);
        self.clock = (nanos, now.1.wrapping_sub(cycles));
        self.load_percent = (busy.saturating_mul(100) / all.max(1)).min(100);
    }

    /// Entries of its tables in use: IPv4, IPv6.
    pub fn entries(&self) -> [u32; 2] {
        [0, 1].map(|family| self.counters.entries[family].get())
    }

    fn table(&self, at: usize, capacity: [u32; 2]) -> TableStatus {
        TableStatus {
            entries: self.counters.entries[at].get(),
            capacity: capacity[at],
        }
    }

    /// How long turns took. The worker counts cycles; a worker's cycles and our clock since the
    /// first sample say how long one is.
    fn turns(&self) -> Latency {
        let (nanos, cycles) = self.clock;
        let mut turns = Latencies::default();
        if cycles > 0 {
            for (taken, count) in self.counters.turn_cycles.counts() {
                let nanos = u128::from(taken) * u128::from(nanos) / u128::from(cycles);
                turns.record(u64::try_from(nanos).unwrap_or(u64::MAX), count);
            }
        }
        turns.latency()
    }

    /// The worker as it is now; its tables have room for `capacity` entries of each family.
    pub fn status(&self, id: usize, capacity: [u32; 2]) -> WorkerStatus {
        let (made, ended) = (
            &self.counters.connections_made,
            &self.counters.connections_ended,
        );
        let counters = self.counters.named().filter(|&(_, value)| value > 0);
        WorkerStatus {
            id,
            core: self.core,
            connections: made.get().wrapping_sub(ended.get()),
            load_percent: self.load_percent,
            turns: self.turns(),
            table_v4: self.table(0, capacity),
            table_v6: self.table(1, capacity),
            counters: counters.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turns_cycles_are_told_as_time() {
        let counters = Arc::new(Counters::default());
        let mut view = WorkerView::new(0, counters.clone());
        view.sample(1_000);
        counters.cycles.add(3_000_000_000);
        counters.turn_cycles.record(3_000_000);
        view.sample(2_000);
        let turns = view.status(0, [1, 1]).turns;
        assert_eq!(turns.count, 1);
        assert!((turns.p50_us - 1_000.0).abs() < 125.0, "{turns:?}");
    }

    #[test]
    fn a_narrow_path_is_a_line() {
        let path = PathStatus {
            address: "10.1.0.11".to_owned(),
            mtu: 1400,
            left_s: 590,
        };
        let mut text = String::new();
        path.write(&mut text).expect("a String takes everything");
        assert_eq!(text, "path to 10.1.0.11: mtu 1400, for 9m 50s\n");
    }

    #[test]
    fn durations() {
        let cases = [
            (6, "6s"),
            (306, "5m 6s"),
            (14_700, "4h 5m"),
            (273_600, "3d 4h"),
        ];
        for (seconds, want) in cases {
            assert_eq!(duration(seconds), want);
        }
    }

    #[test]
    fn load_is_that_of_the_last_second() {
        let counters = Arc::new(Counters::default());
        let mut view = WorkerView::new(3, counters.clone());
        for (busy, all, want) in [(50, 100, 50), (0, 100, 0), (25, 100, 25), (0, 0, 0)] {
            counters.busy_cycles.add(busy);
            counters.cycles.add(all);
            view.sample(0);
            assert_eq!(view.status(0, [1, 1]).load_percent, want);
        }
    }

    #[test]
    fn a_worker_shows_what_it_dropped() {
        let counters = Arc::new(Counters::default());
        counters.rx.add(9);
        counters.connections_made.add(5);
        counters.connections_ended.add(2);
        counters.drop[dataplane::verdict::Reason::NoService as usize].add(4);
        let status = WorkerView::new(3, counters).status(1, [10, 5]);
        let mut text = String::new();
        status.write(&mut text).expect("a String takes everything");
        let want = "worker 1 on core 3: 3 connections, load 0%, rx 9, tx 0\n  \
                    table 0 of 10, IPv6 0 of 5\n  drop-no-service 4\n";
        assert_eq!(text, want);
    }
}
