//! Persistence templates: where a client's next connection goes (reference B.6).
//!
//! A template is an entry of the table like a connection, found by the client's network without
//! a port. No packet ever finds it: its protocol number stands inverted, which no packet's does.
//! Each connection that it controls is linked to it, so it outlives them all.
//!
//! | service | template |
//! |---|---|
//! | a port | protocol, network, 0 > VIP, port |
//! | all ports; FTP | protocol, network, 0 > VIP, 0 |
//! | a firewall mark | IP, network, 0 > the mark, 0 |

use super::key::{Address, Key};
use crate::services::{By, FTP};

/// How long a template lasts from then on, whose time was up while it controlled connections.
pub const REARMED_MS: u32 = 60_000;

/// Protocol number of a mark's template: all that IP carries.
const IP: u8 = 0;

/// What the client of `packet` is remembered by, in a service found by `by` that keeps client
/// networks of `mask` together.
pub fn key<A: Address>(packet: &Key<A>, by: By, mask: u128) -> Key<A> {
    let (protocol, destination, port) = match by {
        By::Mark(mark) => (IP, A::of_mark(mark), 0),
        By::Port if !is_ftp(packet) => {
            (packet.protocol, packet.destination, packet.destination_port)
        }
        By::Port | By::Ftp | By::AllPorts => (packet.protocol, packet.destination, 0),
    };
    Key {
        source: packet.source.masked(mask),
        destination,
        source_port: 0,
        destination_port: port,
        protocol: !protocol,
    }
}

/// Whether all ports of the VIP go where the control connection went.
fn is_ftp<A>(packet: &Key<A>) -> bool {
    packet.protocol == wire::Protocol::TCP.0 && packet.destination_port == FTP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let packet = |protocol, destination_port| Key {
            source: 0xc000_0207u32,
            destination: 0x0a00_0001,
            source_port: 31337,
            destination_port,
            protocol,
        };
        #[rustfmt::skip]
        let cases = [
            ("a port",         packet(6, 80),  By::Port,     (6, 0x0a00_0001, 80)),
            ("UDP",            packet(17, 21), By::Port,     (17, 0x0a00_0001, 21)),
            ("FTP",            packet(6, 21),  By::Port,     (6, 0x0a00_0001, 0)),
            ("FTP's data",     packet(6, 2000), By::Ftp,     (6, 0x0a00_0001, 0)),
            ("all ports",      packet(6, 80),  By::AllPorts, (6, 0x0a00_0001, 0)),
            ("a mark",         packet(17, 53), By::Mark(5),  (0, 5, 0)),
        ];
        for (name, packet, by, (protocol, destination, port)) in cases {
            let want = Key {
                source: 0xc000_0200,
                destination,
                source_port: 0,
                destination_port: port,
                protocol: !protocol,
            };
            assert_eq!(key(&packet, by, 0xffff_ff00), want, "{name}");
        }
    }

    #[test]
    fn a_mark_stands_where_ipvs_puts_it() {
        let list = |address: std::net::IpAddr| address.to_string();
        assert_eq!(list(u32::of_mark(1).to_ip()), "0.0.0.1");
        assert_eq!(list(u128::of_mark(1).to_ip()), "0:1::");
    }
}
