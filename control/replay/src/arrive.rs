//! Which worker a frame comes to, as a NIC with receive-side scaling would have it.

use dataplane::conn::{Address, Key};
use dataplane::owner::{Fields, Steering};
use wire::ethernet::{self, EtherType};
use wire::{Protocol, ipv4, ipv6};

/// Which worker a frame comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Arrive {
    /// The one that a NIC chooses by the hash of addresses and ports.
    #[default]
    Rss,
    /// Frame n to worker n mod workers: everything is handed over that can be.
    Spread,
}

impl Arrive {
    /// The worker of packet `n`.
    pub(crate) fn worker(self, steering: &Steering, n: u64, bytes: &[u8]) -> u16 {
        let workers = steering.workers();
        match self {
            _ if workers == 1 => 0,
            Self::Spread => u16::try_from(n % u64::from(workers)).expect("below 2^16"),
            Self::Rss => hashed(steering, bytes).unwrap_or(0),
        }
    }
}

fn hashed(steering: &Steering, bytes: &[u8]) -> Option<u16> {
    let frame = ethernet::Frame::parse(bytes).ok()?;
    match frame.ethertype() {
        EtherType::IPV4 => {
            let ip = ipv4::Packet::parse(frame.payload()).ok()?;
            let ports = ports(ip.protocol(), ip.payload()).filter(|_| !ip.is_fragment());
            Some(owner(
                steering,
                ip.src().to_bits(),
                ip.dst().to_bits(),
                ports,
            ))
        }
        EtherType::IPV6 => {
            let ip = ipv6::Packet::parse(frame.payload()).ok()?;
            let upper = ip.upper().ok()?;
            let ports = ports(upper.protocol, ip.upper_payload(&upper));
            let ports = ports.filter(|_| upper.fragment.is_none());
            Some(owner(
                steering,
                ip.src().to_bits(),
                ip.dst().to_bits(),
                ports,
            ))
        }
        _ => None,
    }
}

fn ports(protocol: Protocol, payload: &[u8]) -> Option<(u16, u16)> {
    let has_ports = matches!(protocol, Protocol::TCP | Protocol::UDP);
    let [a, b, c, d] = *payload.first_chunk().filter(|_| has_ports)?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn owner<A: Address>(
    steering: &Steering,
    source: A,
    destination: A,
    ports: Option<(u16, u16)>,
) -> u16 {
    let fields = match ports {
        Some(_) => Fields::Tuple,
        None => Fields::Addresses,
    };
    let (source_port, destination_port) = ports.unwrap_or_default();
    let key = Key {
        source,
        destination,
        source_port,
        destination_port,
        protocol: 0,
    };
    steering.owner(fields, &key).0
}
