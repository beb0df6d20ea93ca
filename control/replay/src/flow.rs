//! Whose flow a frame is, and whether that needs more than one worker.

use dataplane::conn::{Address, Key};
use dataplane::owner::{Fields, Steering};
use dataplane::port::{PortId, WorkerId};
use dataplane::services::{By, Owned, Service, Snapshot};
use wire::ethernet::{self, EtherType};
use wire::{Protocol, ipv4, ipv6};

/// Active FTP's data: no service takes it, but a real server may answer to it.
const FTP_DATA: u16 = 20;

/// The tuple of a frame that has ports to see.
pub(crate) enum Flow {
    V4(Key<u32>),
    V6(Key<u128>),
}

impl Flow {
    /// Of TCP, UDP and SCTP; none for a fragment, and for whatever else may tell control something.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let frame = ethernet::Frame::parse(bytes).ok()?;
        match frame.ethertype() {
            EtherType::IPV4 => {
                let ip = ipv4::Packet::parse(frame.payload()).ok()?;
                let ends = (ip.src().to_bits(), ip.dst().to_bits());
                let key = key(ends, ip.protocol(), ip.payload());
                key.filter(|_| !ip.is_fragment()).map(Self::V4)
            }
            EtherType::IPV6 => {
                let ip = ipv6::Packet::parse(frame.payload()).ok()?;
                let upper = ip.upper().ok()?;
                let ends = (ip.src().to_bits(), ip.dst().to_bits());
                let key = key(ends, upper.protocol, ip.upper_payload(&upper));
                key.filter(|_| upper.fragment.is_none()).map(Self::V6)
            }
            _ => None,
        }
    }

    /// Whether its frames stay with the worker `me` that they come to by `port`. Where that is
    /// not certain the answer is no.
    pub(crate) fn stays(
        &self,
        snapshot: &Snapshot,
        steering: &Steering,
        me: WorkerId,
        port: PortId,
    ) -> bool {
        match self {
            Self::V4(key) => stays(key, snapshot, steering, me, port),
            Self::V6(key) => stays(key, snapshot, steering, me, port),
        }
    }
}

fn key<A>((source, destination): (A, A), protocol: Protocol, payload: &[u8]) -> Option<Key<A>> {
    let has_ports = matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP);
    let [a, b, c, d] = *payload.first_chunk().filter(|_| has_ports)?;
    Some(Key {
        source,
        destination,
        source_port: u16::from_be_bytes([a, b]),
        destination_port: u16::from_be_bytes([c, d]),
        protocol: protocol.0,
    })
}

/// The owner of a client's packet to a service that overlaps with no other is the only one who was
/// ever asked; so is that of an answer to a local address. A NAT real server's answers go the round
/// of whoever may know them, and so does what may be one.
fn stays<A: Address>(
    key: &Key<A>,
    snapshot: &Snapshot,
    steering: &Steering,
    me: WorkerId,
    port: PortId,
) -> bool {
    let (from, to) = (key.source.to_ip(), key.destination.to_ip());
    if key.source_port == FTP_DATA {
        return false;
    }
    if let Some((service, by)) = service(key, snapshot, port) {
        let (_, fields) = service.owners.current();
        let alone = service.owners.older().is_empty() && service.owners.rivals().is_empty();
        return by == By::Port && alone && steering.owner(fields, key) == me;
    }
    if snapshot.marks.by_port(key).next().is_some() {
        return false;
    }
    if let Some(Owned::Local) = snapshot.addresses.get(to) {
        return steering.owner(Fields::Tuple, key) == me;
    }
    let mut asked = snapshot.nat_reals.find(key.protocol, from, key.source_port);
    asked.next().is_none()
}

fn service<'s, A: Address>(
    key: &Key<A>,
    snapshot: &'s Snapshot,
    port: PortId,
) -> Option<(&'s Service, By)> {
    let mark = snapshot.marks.of(key, port);
    let to = key.destination.to_ip();
    let (id, by) = snapshot
        .index
        .find(mark, key.protocol, to, key.destination_port)?;
    Some((snapshot.services.get(id.0)?.as_ref(), by))
}
