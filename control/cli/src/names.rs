//! Names of hosts and services as the system knows them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use config::model::Protocol;
use proto::names::{Names, Services};

/// Where services have their names (services(5)).
const SERVICES: &str = "/etc/services";

/// How long one listing may wait for names of hosts, all together. A dead name server costs
/// seconds for each address; what is left then shows as a number.
const NAMING: Duration = Duration::from_secs(10);

/// The system's resolver and its file of services, each asked only when a name is needed.
#[derive(Debug, Default)]
pub(crate) struct System {
    services: OnceCell<Services>,
    /// A listing names the same hosts again and again.
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
    /// Time spent on them.
    spent: Cell<Duration>,
}

impl System {
    /// The file of services; without one every port is a number.
    fn services(&self) -> &Services {
        self.services.get_or_init(|| {
            std::fs::read_to_string(SERVICES)
                .map(|text| Services::parse(&text))
                .unwrap_or_default()
        })
    }
}

impl System {
    /// The name of an address, while there is time to ask.
    fn reverse(&self, address: &IpAddr) -> Option<String> {
        if self.spent.get() >= NAMING {
            return None;
        }
        let start = Instant::now();
        let name = reverse(address);
        self.spent.set(self.spent.get() + start.elapsed());
        name
    }
}

impl Names for System {
    fn host(&self, name: &str) -> Option<IpAddr> {
        let mut found = (name, 0).to_socket_addrs().ok()?;
        found
            .find(|address| address.is_ipv4())
            .map(|address| address.ip())
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        self.services().port(service, protocol)
    }

    fn host_name(&self, address: &IpAddr) -> Option<String> {
        let mut hosts = self.hosts.borrow_mut();
        hosts
            .entry(*address)
            .or_insert_with(|| self.reverse(address))
            .clone()
    }

    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().name(port, protocol).map(str::to_owned)
    }
}

/// The name of an address; an address in place of a name (what the system says where there is
/// none) does not count.
fn reverse(address: &IpAddr) -> Option<String> {
    dns_lookup::lookup_addr(address)
        .ok()
        .filter(|name| name.parse::<IpAddr>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn nobody_is_asked_when_time_is_up() {
        let system = System::default();
        system.spent.set(NAMING);
        assert_eq!(system.host_name(&LOCALHOST), None);
    }

    #[test]
    fn what_was_asked_is_remembered() {
        let system = System::default();
        let first = system.host_name(&LOCALHOST);
        system.spent.set(NAMING);
        assert_eq!(system.host_name(&LOCALHOST), first);
    }
}
