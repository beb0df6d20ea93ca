//! The MACs of a network that is not there.

use std::net::IpAddr;

use config::model::{Config, Port, ReturnTo};
use control::topology::{PortSetup, Topology};
use wire::ethernet::Mac;

/// The director's ports as the file has them, and neighbours whose MACs follow from their
/// addresses.
pub(crate) fn topology(config: &Config) -> Topology {
    let with_queues = config.ports.iter().filter(|port| port.vlan.is_none());
    let ports = (1u16..).zip(with_queues).map(|(k, port)| setup(k, port));
    Topology::new(ports.collect(), config).with_made_up_neighbours(neighbour)
}

fn setup(k: u16, port: &Port) -> PortSetup {
    let [high, low] = k.to_be_bytes();
    let made_up = Mac([2, 0, 0, 0, high, low]);
    PortSetup {
        name: port.name.clone(),
        mac: port.mac.map_or(made_up, |mac| Mac(mac.0)),
        any_mac: port.mac.is_none(),
        mtu: port.mtu,
        to_sender: port.return_to == ReturnTo::Sender,
        addresses: port.addresses.clone(),
    }
}

/// `02:01:` and the IPv4 address, `02:02:` and the last four octets of an IPv6 one.
fn neighbour(address: &IpAddr) -> Mac {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Mac([2, 1, a, b, c, d])
        }
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            Mac([2, 2, a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_follow_from_numbers_and_addresses() {
        let macs = ["10.0.0.11", "2001:db8::a:b"].map(|text| {
            let address: IpAddr = text.parse().expect("an address");
            neighbour(&address).to_string()
        });
        assert_eq!(macs, ["02:01:0a:00:00:0b", "02:02:00:0a:00:0b"]);
    }
}
