//! Which worker a frame comes to, as a NIC with receive-side scaling would have it.

use dataplane::conn::{Address, Key};
use dataplane::owner::{Fields, Steering};
use wire::ethernet::{self, EtherType};
use wire::{ipv4, ipv6};

use crate::flow::Flow;

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
    let owner = match Flow::of(bytes) {
        Some(Flow::V4(key)) => steering.owner(Fields::Tuple, &key),
        Some(Flow::V6(key)) => steering.owner(Fields::Tuple, &key),
        None => return by_addresses(steering, bytes),
    };
    Some(owner.0)
}

fn by_addresses(steering: &Steering, bytes: &[u8]) -> Option<u16> {
    let frame = ethernet::Frame::parse(bytes).ok()?;
    match frame.ethertype() {
        EtherType::IPV4 => {
            let ip = ipv4::Packet::parse(frame.payload()).ok()?;
            Some(between(steering, ip.src().to_bits(), ip.dst().to_bits()))
        }
        EtherType::IPV6 => {
            let ip = ipv6::Packet::parse(frame.payload()).ok()?;
            ip.upper().ok()?;
            Some(between(steering, ip.src().to_bits(), ip.dst().to_bits()))
        }
        _ => None,
    }
}

fn between<A: Address>(steering: &Steering, source: A, destination: A) -> u16 {
    let key = Key {
        source,
        destination,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
    };
    steering.owner(Fields::Addresses, &key).0
}
