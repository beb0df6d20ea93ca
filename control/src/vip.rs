//! Virtual addresses as objects of their own: where each belongs, whether it is held, what
//! becomes of traffic that no service takes, and who says so.
//!
//! The file's `[[vip]]` says it for good; a service's address makes a held VIP by default,
//! which goes with its last service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::model;
use dataplane::port::PortId;
use dataplane::services::{Addresses, Owned, Unmatched};

use crate::locals::Locals;
use crate::topology::Topology;

/// One VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The port it is announced on; `None`: no port's subnet contains it, so nobody asks for
    /// it, and its traffic comes by a router.
    pub port: Option<PortId>,
    /// Whether we answer for it.
    pub held: bool,
    /// What becomes of traffic that no service takes.
    pub unmatched: Unmatched,
    /// The file has a `[[vip]]` for it.
    pub from_file: bool,
    /// Services that listen on it.
    pub services: usize,
}

impl Vip {
    /// Who says that it exists, in a word.
    pub fn source(&self) -> &'static str {
        if self.from_file { "file" } else { "service" }
    }
}

/// A VIP that became held or is no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The address.
    pub address: IpAddr,
    /// The port it is announced on.
    pub port: PortId,
    /// Held now.
    pub held: bool,
}

/// All VIPs.
#[derive(Clone, Debug, Default)]
pub struct Vips {
    all: BTreeMap<IpAddr, Vip>,
    turns: Vec<Turn>,
    /// Whether [`Vips::addresses`] would give something else than last time.
    changed: bool,
}

impl Vips {
    /// The VIPs that the file names.
    pub fn from_file(vips: &[model::Vip], topology: &Topology) -> Self {
        let mut all = Self {
            changed: true,
            ..Self::default()
        };
        for vip in vips {
            all.put(vip.address, of_file(vip, 0, topology));
        }
        all
    }

    /// The file names these from now on, and no others. One that it names no more is what it
    /// would be without the file.
    pub fn reload(&mut self, vips: &[model::Vip], topology: &Topology) {
        let file: BTreeMap<IpAddr, &model::Vip> = vips.iter().map(|it| (it.address, it)).collect();
        let known: Vec<IpAddr> = self.all.keys().copied().collect();
        for address in known {
            let Some(before) = self.all.get(&address).cloned() else {
                continue;
            };
            let services = before.services;
            let now = match file.get(&address) {
                Some(vip) => Some(of_file(vip, services, topology)),
                None if services > 0 => Some(of_services(address, services, topology)),
                None => None,
            };
            self.replace(address, &before, now);
        }
        for (address, vip) in file {
            if !self.all.contains_key(&address) {
                self.put(address, of_file(vip, 0, topology));
            }
        }
    }

    /// What changes for the network is told; what doesn't, not.
    fn replace(&mut self, address: IpAddr, before: &Vip, now: Option<Vip>) {
        let place = |vip: &Vip| vip.port.filter(|_| vip.held);
        let (old, new) = (place(before), now.as_ref().and_then(place));
        if old != new {
            let turn = |port, held| Turn {
                address,
                port,
                held,
            };
            self.turns.extend(old.map(|port| turn(port, false)));
            self.turns.extend(new.map(|port| turn(port, true)));
        }
        self.changed |= now.as_ref() != Some(before);
        match now {
            Some(now) => self.all.insert(address, now),
            None => self.all.remove(&address),
        };
    }

    /// A service listens on `address` now.
    pub fn service_added(&mut self, address: IpAddr, topology: &Topology) {
        if let Some(vip) = self.all.get_mut(&address) {
            vip.services += 1;
            return;
        }
        let vip = of_services(address, 1, topology);
        self.put(address, vip);
    }

    /// One service fewer listens on `address`; the last takes along a VIP that the file
    /// doesn't name.
    pub fn service_removed(&mut self, address: IpAddr) {
        let Some(vip) = self.all.get_mut(&address) else {
            return;
        };
        vip.services = vip.services.saturating_sub(1);
        if vip.services > 0 || vip.from_file {
            return;
        }
        let gone = self.all.remove(&address);
        self.changed = true;
        if let Some(Vip {
            port: Some(port),
            held: true,
            ..
        }) = gone
        {
            let held = false;
            self.turns.push(Turn {
                address,
                port,
                held,
            });
        }
    }

    fn put(&mut self, address: IpAddr, vip: Vip) {
        if let (Some(port), true) = (vip.port, vip.held) {
            let held = true;
            self.turns.push(Turn {
                address,
                port,
                held,
            });
        }
        self.all.insert(address, vip);
        self.changed = true;
    }

    /// What became held or is no longer since the last call, in order.
    pub fn take_turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }

    /// Whether the addresses changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The addresses that are answered for on a port.
    pub fn held_on(&self, port: PortId) -> impl Iterator<Item = IpAddr> {
        let held = move |vip: &Vip| vip.held && vip.port == Some(port);
        let all = self.all.iter();
        all.filter(move |(_, vip)| held(vip))
            .map(|(&address, _)| address)
    }

    /// All VIPs, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Vip)> {
        self.all.iter().map(|(&address, vip)| (address, vip))
    }

    /// Whether `address` is a VIP.
    pub fn is_known(&self, address: &IpAddr) -> bool {
        self.all.contains_key(address)
    }

    /// Whether whoever asks for `address` on `port` is answered.
    pub fn answers(&self, port: PortId, address: IpAddr) -> bool {
        let vip = self.all.get(&address);
        vip.is_some_and(|vip| vip.held && vip.port == Some(port))
    }

    /// The addresses that are ours, for the snapshot: an address of the director is that
    /// even when a service listens on it, and so is a local address.
    pub fn addresses(&self, locals: &Locals, topology: &Topology) -> Addresses {
        let own = topology
            .ports()
            .flat_map(|(_, port)| &port.addresses)
            .map(|prefix| (prefix.address, Owned::Director));
        let vips = self.all.iter().map(|(&address, vip)| {
            let (held, unmatched) = (vip.held, vip.unmatched);
            (address, Owned::Vip { held, unmatched })
        });
        let locals = locals.iter().map(|address| (address, Owned::Local));
        Addresses::new(own.chain(locals).chain(vips).collect())
    }
}

/// A VIP as a `[[vip]]` says.
fn of_file(vip: &model::Vip, services: usize, topology: &Topology) -> Vip {
    let named = vip.port.as_deref();
    let named = named.and_then(|name| topology.port_named(name));
    Vip {
        port: named.or_else(|| topology.port_of(&vip.address)),
        held: vip.held == model::Held::Always,
        unmatched: unmatched(vip.unmatched),
        from_file: true,
        services,
    }
}

/// A VIP that only services name.
fn of_services(address: IpAddr, services: usize, topology: &Topology) -> Vip {
    Vip {
        port: topology.port_of(&address),
        held: true,
        unmatched: Unmatched::Drop,
        from_file: false,
        services,
    }
}

fn unmatched(unmatched: model::Unmatched) -> Unmatched {
    match unmatched {
        model::Unmatched::Drop => Unmatched::Drop,
        model::Unmatched::Reject => Unmatched::Reject,
        model::Unmatched::Kernel => Unmatched::Kernel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::two_ports;
    use config::model::Held;

    const WAN: PortId = PortId(0);
    const LAN: PortId = PortId(1);

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn in_file(address: IpAddr, held: Held, port: Option<&str>) -> model::Vip {
        model::Vip {
            address,
            held,
            unmatched: model::Unmatched::Kernel,
            port: port.map(str::to_owned),
        }
    }

    fn turn(address: IpAddr, port: PortId, held: bool) -> Turn {
        Turn {
            address,
            port,
            held,
        }
    }

    #[test]
    fn a_service_makes_a_held_vip_and_the_last_takes_it_along() {
        let topology = two_ports();
        let mut vips = Vips::default();
        vips.service_added(vip(10), &topology);
        vips.service_added(vip(10), &topology);
        assert_eq!(vips.take_turns(), [turn(vip(10), WAN, true)]);
        assert!(vips.take_changed());
        vips.service_removed(vip(10));
        assert!(vips.answers(WAN, vip(10)));
        assert!(!vips.answers(LAN, vip(10)));
        assert!(!vips.take_changed());
        vips.service_removed(vip(10));
        assert_eq!(vips.take_turns(), [turn(vip(10), WAN, false)]);
        assert_eq!(vips.iter().count(), 0);
    }

    #[test]
    fn the_file_decides_where_it_says_something() {
        let topology = two_ports();
        let elsewhere = IpAddr::from([203, 0, 113, 5]);
        let file = [
            in_file(vip(10), Held::Never, None),
            in_file(elsewhere, Held::Always, Some("lan")),
        ];
        let mut vips = Vips::from_file(&file, &topology);
        vips.service_added(vip(10), &topology);
        assert_eq!(vips.take_turns(), [turn(elsewhere, LAN, true)]);
        assert!(!vips.answers(WAN, vip(10)));
        vips.service_removed(vip(10));
        assert_eq!(vips.iter().count(), 2, "what the file names stays");
    }

    #[test]
    fn workers_see_director_before_vip() {
        let topology = two_ports();
        let file = [in_file(vip(10), Held::Never, None)];
        let mut vips = Vips::from_file(&file, &topology);
        vips.service_added(vip(2), &topology);
        let addresses = vips.addresses(&Locals::default(), &topology);
        assert_eq!(addresses.get(vip(2)), Some(Owned::Director));
        let silent = Owned::Vip {
            held: false,
            unmatched: Unmatched::Kernel,
        };
        assert_eq!(addresses.get(vip(10)), Some(silent));
        assert_eq!(addresses.get(vip(11)), None);
    }

    #[test]
    fn a_vip_on_no_subnet_is_loaded_and_announced_nowhere() {
        let mut vips = Vips::default();
        vips.service_added(IpAddr::from([203, 0, 113, 5]), &two_ports());
        assert_eq!(vips.take_turns(), []);
        assert_eq!(vips.iter().count(), 1);
    }
}
