//! FULLNAT's local addresses as they are seen from outside: whoever asks for one on its port's
//! subnet is answered, and it is announced when the first service takes it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::model::Listen;
use dataplane::port::PortId;

use crate::topology::Topology;
use crate::vip::Turn;

/// One local address.
#[derive(Clone, Copy, Debug)]
struct Local {
    /// The port whose subnet contains it.
    port: Option<PortId>,
    /// Services that have it.
    services: usize,
}

/// All local addresses.
#[derive(Clone, Debug, Default)]
pub struct Locals {
    all: BTreeMap<IpAddr, Local>,
    of: std::collections::HashMap<Listen, Vec<IpAddr>>,
    turns: Vec<Turn>,
}

impl Locals {
    /// A service has these from now on; says whether that changes which there are.
    pub fn set(&mut self, listen: &Listen, addresses: &[IpAddr], topology: &Topology) -> bool {
        let before = self.of.remove(listen).unwrap_or_default();
        if before == addresses {
            if !before.is_empty() {
                self.of.insert(*listen, before);
            }
            return false;
        }
        let taken = addresses.iter().filter(|&&one| self.take(one, topology));
        let taken = taken.collect::<Vec<_>>().len();
        let given = before.iter().filter(|&&one| self.give_up(one)).count();
        if !addresses.is_empty() {
            self.of.insert(*listen, addresses.to_vec());
        }
        taken + given > 0
    }

    fn take(&mut self, address: IpAddr, topology: &Topology) -> bool {
        if let Some(local) = self.all.get_mut(&address) {
            local.services += 1;
            return false;
        }
        let (port, services) = (topology.port_of(&address), 1);
        self.all.insert(address, Local { port, services });
        self.turn(address, port, true);
        true
    }

    fn give_up(&mut self, address: IpAddr) -> bool {
        let Some(local) = self.all.get_mut(&address) else {
            return false;
        };
        local.services -= 1;
        if local.services > 0 {
            return false;
        }
        let port = local.port;
        self.all.remove(&address);
        self.turn(address, port, false);
        true
    }

    fn turn(&mut self, address: IpAddr, port: Option<PortId>, held: bool) {
        let turn = port.map(|port| Turn {
            address,
            port,
            held,
        });
        self.turns.extend(turn);
    }

    /// What became ours or is no longer since the last call, in order.
    pub fn take_turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }

    /// All of them, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.all.keys().copied()
    }

    /// Those that are on a port's subnet, with that port.
    pub fn on_ports(&self) -> impl Iterator<Item = (PortId, IpAddr)> {
        let all = self.all.iter();
        all.filter_map(|(&address, local)| Some((local.port?, address)))
    }

    /// Whether whoever asks for `address` on `port` is answered.
    pub fn answers(&self, port: PortId, address: IpAddr) -> bool {
        let local = self.all.get(&address);
        local.is_some_and(|local| local.port == Some(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::two_ports;
    use config::model::Protocol;

    const LAN: PortId = PortId(1);

    fn local(last: u8) -> IpAddr {
        IpAddr::from([10, 1, 0, last])
    }

    fn listen(port: u16) -> Listen {
        Listen::Address {
            protocol: Protocol::Tcp,
            address: IpAddr::from([192, 0, 2, 10]),
            port,
        }
    }

    #[test]
    fn the_first_service_takes_an_address_and_the_last_gives_it_up() {
        let topology = two_ports();
        let mut locals = Locals::default();
        let turn = |address, held| Turn {
            address,
            port: LAN,
            held,
        };
        assert!(locals.set(&listen(80), &[local(250)], &topology));
        assert!(!locals.set(&listen(81), &[local(250)], &topology));
        assert_eq!(locals.take_turns(), [turn(local(250), true)]);
        assert!(locals.answers(LAN, local(250)));
        assert!(!locals.answers(PortId(0), local(250)));
        assert!(!locals.set(&listen(80), &[], &topology));
        assert!(locals.set(&listen(81), &[local(251)], &topology));
        let turns = [turn(local(251), true), turn(local(250), false)];
        assert_eq!(locals.take_turns(), turns);
        assert_eq!(locals.iter().collect::<Vec<_>>(), [local(251)]);
    }

    #[test]
    fn one_that_is_routed_to_us_is_announced_nowhere() {
        let topology = two_ports();
        let mut locals = Locals::default();
        let far = IpAddr::from([198, 51, 100, 1]);
        assert!(locals.set(&listen(80), &[far], &topology));
        assert_eq!(locals.take_turns(), []);
        assert_eq!(locals.iter().collect::<Vec<_>>(), [far]);
        assert_eq!(locals.on_ports().count(), 0);
    }
}
