//! Whose a NAT real server's packets are.

use std::net::IpAddr;
use std::sync::Arc;

use super::ServiceId;
use super::index::{Key, Table};

/// Protocol, address and port of a NAT real server; port 0 of a service on all ports.
pub type NatReal = (u8, IpAddr, u16);

/// The services that have a NAT real server, by that server's protocol, address and port: the
/// only ones whose reply may be waiting on another worker.
///
/// Cloning shares the pages; a change copies one, and the list of one real server's services.
#[derive(Clone, Debug, Default)]
pub struct NatReals(Table<Arc<[ServiceId]>>);

impl NatReals {
    /// Takes them in any order; a real server may belong to several services.
    pub fn new(mut all: Vec<(NatReal, ServiceId)>) -> Self {
        all.sort_unstable();
        let mut nat_reals = Self::default();
        for services in all.chunk_by(|one, next| one.0 == next.0) {
            let ids = services.iter().map(|&(_, service)| service);
            nat_reals.set(services[0].0, ids.collect());
        }
        nat_reals
    }

    /// These services have this real server, and no others.
    pub fn set(&mut self, (protocol, address, port): NatReal, services: Arc<[ServiceId]>) {
        let key = Key::address(protocol, address, port);
        if services.is_empty() {
            self.0.remove(&key);
        } else {
            self.0.insert(key, services);
        }
    }

    /// The services that have this real server, on this port or on any: a service on all
    /// ports asks its real servers for the port that the client asked for.
    pub fn find(
        &self,
        protocol: u8,
        address: IpAddr,
        port: u16,
    ) -> impl Iterator<Item = ServiceId> {
        let any = (port != 0).then_some(0);
        let ports = std::iter::once(port).chain(any);
        let on = move |port| self.0.get(&Key::address(protocol, address, port));
        ports.filter_map(on).flat_map(|all| all.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_server_is_found_on_its_port_and_on_any() {
        let real = |last| IpAddr::from([10, 1, 0, last]);
        let id = ServiceId;
        let mut all = NatReals::new(vec![
            ((6, real(1), 80), id(2)),
            ((6, real(2), 80), id(3)),
            ((6, real(1), 80), id(1)),
            ((6, real(1), 0), id(9)),
        ]);
        let older = all.clone();
        let found = |all: &NatReals, last, port| -> Vec<u32> {
            all.find(6, real(last), port).map(|it| it.0).collect()
        };
        assert_eq!(found(&all, 1, 80), [1, 2, 9]);
        assert_eq!(found(&all, 1, 81), [9]);
        assert_eq!(found(&all, 2, 80), [3]);
        assert_eq!(found(&all, 3, 80), [0; 0]);
        all.set((6, real(1), 80), [id(7)].into());
        all.set((6, real(1), 0), [].into());
        assert_eq!(found(&all, 1, 80), [7]);
        assert_eq!(found(&all, 1, 81), [0; 0]);
        assert_eq!(
            found(&older, 1, 80),
            [1, 2, 9],
            "a snapshot stays as it was"
        );
    }
}
