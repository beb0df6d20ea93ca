//! What a file has beside services: VIPs, marks, tunables, timeouts; and what only a restart
//! can change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};

use config::model::{Config, Control, Dataplane, Port, Timeouts, Vip, Vlan};
use config::{sysctl, words};
use serde::Serialize;

use super::{Action, Difference};
use crate::settings::Tunables;

/// A key that a reload can't change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// The key with its table: `[dataplane] workers`.
    pub key: String,
    /// Its value as it runs.
    pub running: String,
    /// Its value in the file.
    pub file: String,
}

impl Display for Restart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, running, file } = self;
        write!(f, "{key}: {running} -> {file}: needs a restart")
    }
}

/// What becomes of everything but services.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rest {
    /// Where it is not as the file says.
    pub differences: Vec<Difference>,
    /// What can't be reloaded; if there is any, nothing may be.
    pub restart: Vec<Restart>,
    /// Timeouts and tunables from now on.
    pub tunables: Tunables,
}

/// Holds everything but services against each other.
pub fn rest(before: &Config, file: &Config, running: &Tunables, take_file: bool) -> Rest {
    let mut rest = Rest {
        tunables: running.clone(),
        ..Rest::default()
    };
    rest.dataplane(&before.dataplane, &file.dataplane);
    rest.control(&before.control, &file.control);
    rest.ports(&before.ports, &file.ports);
    rest.vips(&before.vips, &file.vips);
    rest.list("[[route]]", &before.routes, &file.routes, |route| {
        let via: Vec<_> = route.via.iter().map(ToString::to_string).collect();
        format!("{} via {}", route.to, via.join(" "))
    });
    rest.list(
        "[[neighbour]]",
        &before.neighbours,
        &file.neighbours,
        |it| format!("{} is {} on {}", it.address, it.mac, it.port),
    );
    if before.marks != file.marks {
        let count = |config: &Config| config.marks.len().to_string();
        let marks = Difference::new(Action::Change, "mark", "mark");
        rest.differences
            .push(marks.values("rules", count(before), count(file)));
    }
    rest.timeouts(before.timeouts, file.timeouts, take_file);
    rest.sysctls(before, file, take_file);
    rest
}

impl Rest {
    fn fixed<T: PartialEq>(
        &mut self,
        key: &str,
        before: &T,
        file: &T,
        show: impl Fn(&T) -> String,
    ) {
        if before != file {
            self.restart.push(Restart {
                key: key.to_owned(),
                running: show(before),
                file: show(file),
            });
        }
    }

    fn dataplane(&mut self, before: &Dataplane, file: &Dataplane) {
        // Named one by one, so that the compiler asks about a new key.
        let Dataplane {
            workers,
            connections,
            connections_v6,
            steering,
            idle,
            hugepages,
        } = before;
        let debug = |it: &Vec<u16>| format!("{it:?}");
        self.fixed("[dataplane] workers", workers, &file.workers, debug);
        let (key, now) = ("[dataplane] connections", &file.connections);
        self.fixed(key, connections, now, ToString::to_string);
        let (key, now) = ("[dataplane] connections_v6", &file.connections_v6);
        self.fixed(key, connections_v6, now, ToString::to_string);
        let (key, now) = ("[dataplane] steering", &file.steering);
        self.fixed(key, steering, now, |&it| words::steering(it).to_owned());
        self.fixed("[dataplane] idle", idle, &file.idle, |&it| {
            words::idle(it).to_owned()
        });
        let (key, now) = ("[dataplane] hugepages", &file.hugepages);
        self.fixed(key, hugepages, now, |&it| words::hugepages(it).to_owned());
    }

    fn control(&mut self, before: &Control, file: &Control) {
        let Control {
            socket,
            group,
            stop_delay,
        } = before;
        self.fixed("[control] socket", socket, &file.socket, Clone::clone);
        self.fixed("[control] group", group, &file.group, |it| {
            it.clone().unwrap_or_else(|| "none".to_owned())
        });
        if *stop_delay != file.stop_delay {
            let it = Difference::new(Action::Change, "control", "control");
            let (running, file) = (stop_delay.to_string(), file.stop_delay.to_string());
            self.differences
                .push(it.values("stop_delay", running, file));
        }
    }

    fn ports(&mut self, before: &[Port], file: &[Port]) {
        let names = |ports: &[Port]| {
            let names: Vec<_> = ports.iter().map(|port| port.name.clone()).collect();
            names
        };
        let (old, new) = (names(before), names(file));
        self.fixed("[[port]]", &old, &new, |it| format!("{it:?}"));
        if old == new {
            for (before, file) in before.iter().zip(file) {
                self.port(before, file);
            }
        }
    }

    fn port(&mut self, before: &Port, file: &Port) {
        let Port {
            name,
            device,
            addresses,
            mac,
            mtu,
            return_to,
            mbufs,
            mbuf_size,
            vlan,
        } = before;
        let key = |key: &str| format!("[[port]] {name} {key}");
        self.fixed(&key("device"), device, &file.device, maybe);
        self.fixed(&key("addresses"), addresses, &file.addresses, |it| {
            let all: Vec<_> = it.iter().map(ToString::to_string).collect();
            format!("[{}]", all.join(", "))
        });
        self.fixed(&key("mac"), mac, &file.mac, maybe);
        self.fixed(&key("mtu"), mtu, &file.mtu, ToString::to_string);
        self.fixed(&key("return"), return_to, &file.return_to, |&it| {
            words::return_to(it).to_owned()
        });
        self.fixed(&key("mbufs"), mbufs, &file.mbufs, maybe);
        self.fixed(&key("mbuf_size"), mbuf_size, &file.mbuf_size, maybe);
        self.fixed(&key("vlan"), vlan, &file.vlan, |it| match it {
            Some(Vlan { parent, id }) => format!("{id} of {parent}"),
            None => "none".to_owned(),
        });
    }

    /// A list that is compared row by row.
    fn list<T: PartialEq>(
        &mut self,
        key: &str,
        before: &[T],
        file: &[T],
        show: impl Fn(&T) -> String,
    ) {
        let none = || "none".to_owned();
        for gone in before.iter().filter(|row| !file.contains(row)) {
            self.restart.push(Restart {
                key: key.to_owned(),
                running: show(gone),
                file: none(),
            });
        }
        for new in file.iter().filter(|row| !before.contains(row)) {
            self.restart.push(Restart {
                key: key.to_owned(),
                running: none(),
                file: show(new),
            });
        }
    }

    /// No command changes what a VIP is, so the file's is what runs.
    fn vips(&mut self, before: &[Vip], file: &[Vip]) {
        let find =
            |all: &[Vip], vip: &Vip| all.iter().find(|it| it.address == vip.address).cloned();
        for gone in before.iter().filter(|vip| find(file, vip).is_none()) {
            let it = Difference::new(Action::Remove, "vip", gone.address);
            self.differences.push(it);
        }
        for new in file {
            match find(before, new) {
                None => {
                    let it = Difference::new(Action::Add, "vip", new.address);
                    self.differences.push(it);
                }
                Some(old) => self.vip(&old, new),
            }
        }
    }

    fn vip(&mut self, before: &Vip, file: &Vip) {
        let Vip {
            address,
            held,
            unmatched,
            port,
        } = before;
        let object = Difference::new(Action::Change, "vip", address);
        let mut differ = |key, running: String, file: String| {
            if running != file {
                self.differences
                    .push(object.clone().values(key, running, file));
            }
        };
        differ(
            "held",
            words::held(*held).to_owned(),
            words::held(file.held).to_owned(),
        );
        let (old, new) = (
            words::unmatched(*unmatched),
            words::unmatched(file.unmatched),
        );
        differ("unmatched", old.to_owned(), new.to_owned());
        differ("port", maybe(port), maybe(&file.port));
    }

    fn timeouts(&mut self, before: Timeouts, file: Timeouts, take_file: bool) {
        let Timeouts { tcp, tcp_fin, udp } = &mut self.tunables.timeouts;
        let rows = [
            ("tcp", before.tcp, file.tcp, tcp),
            ("tcp_fin", before.tcp_fin, file.tcp_fin, tcp_fin),
            ("udp", before.udp, file.udp, udp),
        ];
        for (key, before, file, running) in rows {
            if *running == file {
                continue;
            }
            let drift = !take_file && *running != before;
            let it = Difference::new(Action::Change, "timeouts", "timeouts").drift(drift);
            self.differences
                .push(it.values(key, running.to_string(), file.to_string()));
            if !drift {
                *running = file;
            }
        }
    }

    fn sysctls(&mut self, before: &Config, file: &Config, take_file: bool) {
        let of = |config: &Config| -> BTreeMap<&'static str, i64> {
            let known = |(name, value): &(String, i64)| Some((sysctl::find(name)?.name, *value));
            config.sysctl.iter().filter_map(known).collect()
        };
        let (before, file) = (of(before), of(file));
        let running: BTreeMap<_, _> = self.tunables.sysctls().collect();
        let all = [&before, &file, &running]
            .into_iter()
            .flat_map(BTreeMap::keys);
        let all: BTreeSet<_> = all.copied().collect();
        for name in all {
            let default = sysctl::find(name).and_then(|it| it.default);
            let of = |all: &BTreeMap<&'static str, i64>| all.get(name).copied().or(default);
            let (before, wanted, now) = (of(&before), of(&file), of(&running));
            if now == wanted {
                continue;
            }
            let drift = !take_file && now != before;
            let it = Difference::new(Action::Change, "sysctl", name).drift(drift);
            self.differences
                .push(it.values("value", maybe(&now), maybe(&wanted)));
            if !drift {
                self.tunables.assign(name, file.get(name).copied());
            }
        }
    }
}

fn maybe<T: Display + Debug>(value: &Option<T>) -> String {
    value
        .as_ref()
        .map_or_else(|| "none".to_owned(), ToString::to_string)
}
