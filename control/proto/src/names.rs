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
