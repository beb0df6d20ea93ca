//! What `sluice neigh` shows: who is where on our links, who sends there, and who claims what
//! is ours.

use std::fmt::Write;
use std::net::IpAddr;

use dataplane::port::PortId;
use serde::Serialize;

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeighbourRow {
    /// Its address.
    pub address: String,
    /// Its MAC, if it is known.
    pub mac: Option<String>,
    /// The port.
    pub port: String,
    /// `reachable`, `probe`, `search`, `incomplete`, `failed` or `static`.
    pub state: &'static str,
    /// Seconds since it answered last; absent if it never did.
    pub age_s: Option<u64>,
    /// Frames that wait for its MAC.
    pub held_frames: usize,
    /// Real servers that are reached through it, those that were removed and still have
    /// connections included.
    pub real_servers: usize,
    /// It is the gateway of a route.
    pub gateway: bool,
    /// Only packets asked for it.
    pub client: bool,
}

/// An address of ours that somebody else claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConflictRow {
    /// The address.
    pub address: String,
    /// The port.
    pub port: String,
    /// Who claims it.
    pub mac: String,
    /// How often he did.
    pub times: u64,
    /// Seconds since the last time.
    pub age_s: u64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Links {
    /// The neighbours, by port and address.
    pub neighbours: Vec<NeighbourRow>,
    /// Conflicts of the last ten minutes, by port and address.
    pub conflicts: Vec<ConflictRow>,
}

impl Links {
    /// For programs: one JSON object and a newline.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("strings and numbers are always JSON");
        text.push('\n');
        text
    }

    /// For people: a table, and the conflicts below it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes everything");
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let widest = self.neighbours.iter().map(|row| row.address.len()).max();
        let width = widest.unwrap_or(0).max("Address".len());
        writeln!(
            to,
            "{:width$}  {:17}  {:15}  {:10}  {:>6}  {:>4}  Used by",
            "Address", "MAC", "Port", "State", "Age", "Held"
        )?;
        for row in &self.neighbours {
            let age = row
                .age_s
                .map_or_else(|| "-".to_owned(), |age| format!("{age}s"));
            writeln!(
                to,
                "{:width$}  {:17}  {:15}  {:10}  {age:>6}  {:>4}  {}",
                row.address,
                row.mac.as_deref().unwrap_or("-"),
                row.port,
                row.state,
                row.held_frames,
                row.users()
            )?;
        }
        self.conflicts.iter().try_for_each(|row| row.write(to))
    }
}

impl NeighbourRow {
    fn users(&self) -> String {
        let mut users = Vec::new();
        match self.real_servers {
            0 => {}
            1 => users.push("1 real server".to_owned()),
            several => users.push(format!("{several} real servers")),
        }
        users.extend(self.gateway.then(|| "gateway".to_owned()));
        users.extend(self.client.then(|| "client".to_owned()));
        if users.is_empty() {
            users.push("-".to_owned());
        }
        users.join(", ")
    }
}

impl ConflictRow {
    /// As `status` shows it, too.
    pub(crate) fn write(&self, to: &mut String) -> std::fmt::Result {
        let Self {
            address,
            port,
            mac,
            times,
            age_s,
        } = self;
        writeln!(
            to,
            "CONFLICT {address} on {port}: {mac} says that it is his, {times} times, last {age_s}s ago"
        )
    }
}

/// A port's name, or nothing.
pub(crate) fn port_name(topology: &crate::topology::Topology, port: PortId) -> String {
    let setup = topology.port(port);
    setup.map_or_else(String::new, |setup| setup.name.clone())
}

/// Conflicts as they are shown.
pub(crate) fn conflicts(engine: &crate::engine::Engine, now: u64) -> Vec<ConflictRow> {
    let row = |((port, address), it): ((PortId, IpAddr), crate::conflict::Conflict)| ConflictRow {
        address: address.to_string(),
        port: port_name(engine.topology(), port),
        mac: it.mac.to_string(),
        times: it.times,
        age_s: now.saturating_sub(it.last) / 1000,
    };
    engine.neighbours().conflicts().iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_what_is_wrong() {
        let row = |address: &str, mac: Option<&str>, age_s| NeighbourRow {
            address: address.to_owned(),
            mac: mac.map(str::to_owned),
            port: "wan".to_owned(),
            state: "reachable",
            age_s,
            held_frames: 0,
            real_servers: 0,
            gateway: false,
            client: false,
        };
        let links = Links {
            neighbours: vec![
                NeighbourRow {
                    real_servers: 2,
                    gateway: true,
                    ..row("10.1.0.1", Some("02:00:00:00:00:01"), Some(3))
                },
                NeighbourRow {
                    state: "incomplete",
                    held_frames: 4,
                    client: true,
                    ..row("2001:db8::7", None, None)
                },
            ],
            conflicts: vec![ConflictRow {
                address: "192.0.2.10".to_owned(),
                port: "wan".to_owned(),
                mac: "02:00:00:00:00:09".to_owned(),
                times: 5,
                age_s: 7,
            }],
        };
        let want = "\
Address      MAC                Port             State          Age  Held  Used by
10.1.0.1     02:00:00:00:00:01  wan              reachable       3s     0  2 real servers, gateway
2001:db8::7  -                  wan              incomplete       -     4  client
CONFLICT 192.0.2.10 on wan: 02:00:00:00:00:09 says that it is his, 5 times, last 7s ago
";
        assert_eq!(links.text(), want);
        let json: serde_json::Value = serde_json::from_str(&links.json()).expect("JSON");
        assert_eq!(json["neighbours"][0]["gateway"], true);
        assert_eq!(json["conflicts"][0]["times"], 5);
    }
}
