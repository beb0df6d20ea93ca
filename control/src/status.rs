//! What `sluice status` shows: workers, ports, neighbours, VIPs, and how control itself does.

use std::fmt::Write;
use std::sync::Arc;

use dataplane::verdict::Counters;
use serde::Serialize;

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
    /// Its device.
    #[serde(flatten)]
    pub device: DeviceReport,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// Its number.
    pub id: usize,
    /// Its core.
    pub core: u16,
    /// Connections now.
    pub connections: u64,
    /// Share of its cycles of the last second in which it had something to do, in percent.
    pub load_percent: u64,
    /// Everything it counts, by name; what is 0 is left out.
    pub counters: Vec<(&'static str, u64)>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
        self.workers
            .iter()
            .try_for_each(|worker| worker.write(to))?;
        self.ports.iter().try_for_each(|port| port.write(to))?;
        self.vips.iter().try_for_each(|vip| vip.write(to))?;
        self.neighbours.iter().try_for_each(|n| n.write(to))?;
        self.conflicts.iter().try_for_each(|row| row.write(to))
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
        writeln!(
            to,
            "port {}: {} ({}), {}, link {link}{}, mtu {}, {} queues, rss: {}",
            self.name,
            self.device.device,
            self.device.driver,
            self.mac,
            speed.unwrap_or_default(),
            self.mtu,
            self.device.queues,
            self.device.rss
        )?;
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
}

impl WorkerView {
    /// A worker on `core`.
    pub fn new(core: u16, counters: Arc<Counters>) -> Self {
        Self {
            core,
            counters,
            before: (0, 0),
            load_percent: 0,
        }
    }

    /// A second went by.
    pub fn sample(&mut self) {
        let now = (self.counters.busy_cycles.get(), self.counters.cycles.get());
        let busy = now.0.wrapping_sub(self.before.0);
        let all = now.1.wrapping_sub(self.before.1);
        self.before = now;
        self.load_percent = (busy.saturating_mul(100) / all.max(1)).min(100);
    }

    /// Entries of its tables in use: IPv4, IPv6.
    pub fn entries(&self) -> [u32; 2] {
        [0, 1].map(|family| self.counters.entries[family].get())
    }

    /// The worker as it is now.
    pub fn status(&self, id: usize) -> WorkerStatus {
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
            counters: counters.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            view.sample();
            assert_eq!(view.status(0).load_percent, want);
        }
    }

    #[test]
    fn a_worker_shows_what_it_dropped() {
        let counters = Arc::new(Counters::default());
        counters.rx.add(9);
        counters.connections_made.add(5);
        counters.connections_ended.add(2);
        counters.drop[dataplane::verdict::Reason::NoService as usize].add(4);
        let status = WorkerView::new(3, counters).status(1);
        let mut text = String::new();
        status.write(&mut text).expect("a String takes everything");
        let want = "worker 1 on core 3: 3 connections, load 0%, rx 9, tx 0\n  drop-no-service 4\n";
        assert_eq!(text, want);
    }
}
