//! Names of hosts and services, looked up by whoever calls.

use std::net::IpAddr;

use config::model::Protocol;

/// The way from names to numbers and back.
///
/// The command line asks the system; the daemon, which may not wait for a name server, knows
/// only what is written as a number.
pub trait Names {
    /// The address of a host, of IPv4 only (as ipvsadm).
    fn host(&self, name: &str) -> Option<IpAddr>;
    /// The port of a service such as `http`.
    fn port(&self, service: &str, protocol: Protocol) -> Option<u16>;
    /// The name of a host.
    fn host_name(&self, address: &IpAddr) -> Option<String>;
    /// The name of a service.
    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// No names at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numeric;

impl Names for Numeric {
    fn host(&self, _: &str) -> Option<IpAddr> {
        None
    }

    fn port(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }

    fn host_name(&self, _: &IpAddr) -> Option<String> {
        None
    }

    fn service_name(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// The services of a file in the form of `/etc/services` (services(5)).
#[derive(Clone, Debug, Default)]
pub struct Services {
    rows: Vec<(String, u16, Protocol)>,
}

impl Services {
    /// Reads the file's text. Lines that say nothing useful here are skipped; of several names
    /// for one port the first is the one shown.
    pub fn parse(text: &str) -> Self {
        Self {
            rows: text.lines().flat_map(service_rows).collect(),
        }
    }

    /// The port of a name or an alias.
    pub fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.rows
            .iter()
            .find(|row| row.0 == name && row.2 == protocol)
            .map(|row| row.1)
    }

    /// The name of a port.
    pub fn name(&self, port: u16, protocol: Protocol) -> Option<&str> {
        self.rows
            .iter()
            .find(|row| row.1 == port && row.2 == protocol)
            .map(|row| row.0.as_str())
    }
}

fn service_rows(line: &str) -> Vec<(String, u16, Protocol)> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let (Some(name), Some((port, protocol))) = (words.next(), words.next().and_then(port_of))
    else {
        return Vec::new();
    };
    std::iter::once(name)
        .chain(words)
        .map(|name| (name.to_owned(), port, protocol))
        .collect()
}

fn port_of(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/')?;
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|known| known.name() == protocol)?;
    Some((port.parse().ok()?, protocol))
}

#[cfg(test)]
pub(crate) mod fixed {
    use super::*;

    /// The names that tests know: `web1` and `http`.
    pub(crate) struct Fixed;

    impl Names for Fixed {
        fn host(&self, name: &str) -> Option<IpAddr> {
            (name == "web1").then_some([10, 0, 0, 11].into())
        }

        fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
            (service == "http" && protocol == Protocol::Tcp).then_some(80)
        }

        fn host_name(&self, address: &IpAddr) -> Option<String> {
            (*address == IpAddr::from([10, 0, 0, 11])).then(|| "web1".to_owned())
        }

        fn service_name(&self, port: u16, protocol: Protocol) -> Option<String> {
            (port == 80 && protocol == Protocol::Tcp).then(|| "http".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_a_file() {
        let services = Services::parse(
            "# Network services\n\
             http\t\t80/tcp\t\twww\t# WorldWideWeb HTTP\n\
             domain 53/udp\n\
             m2ua 2904/sctp\n\
             odd 12/ddp\nbroken line\nhuge 99999/tcp\n",
        );
        assert_eq!(services.port("www", Protocol::Tcp), Some(80));
        assert_eq!(services.port("http", Protocol::Udp), None);
        assert_eq!(services.port("huge", Protocol::Tcp), None);
        assert_eq!(services.name(80, Protocol::Tcp), Some("http"));
        assert_eq!(services.name(53, Protocol::Udp), Some("domain"));
        assert_eq!(services.name(2904, Protocol::Sctp), Some("m2ua"));
    }
}
