//! A frame as somebody described it.

use std::borrow::Cow;
use std::net::IpAddr;

use dataplane::port::PortId;
use dataplane::services::Snapshot;
use dataplane::vlan;
use proto::packet::{Carries, Packet};
use wire::build::{self, Body, echo_request, ip, sctp, tcp, udp};
use wire::ethernet::Mac;
use wire::{Protocol, sctp::ChunkType, tcp::Flags};

use crate::topology::Topology;

/// Where the frame comes from, where nobody is known there: locally administered.
const SOMEBODY: Mac = Mac([2, 0xff, 0, 0, 0, 1]);

/// Octets of a later fragment's data, at least.
const LEAST_DATA: usize = 8;

/// A frame, and the port by which it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The port.
    pub port: PortId,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// Why there is no such packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// No port of that name.
    #[error("in={name}: there is no such port; there are: {known}")]
    NoPort {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Nothing can come in.
    #[error("there is no port by which a packet could come in")]
    NoPorts,
    /// It can't be so short.
    #[error("length={length}: such a packet has at least {least} octets")]
    TooShort {
        /// What was asked for.
        length: u16,
        /// What it takes.
        least: usize,
    },
}

/// Makes the frame of `packet`, to the MAC of the port by which it comes in.
///
/// # Errors
/// See [`MakeError`].
pub fn make(packet: &Packet, topology: &Topology) -> Result<Made, MakeError> {
    let port = entry(packet, topology)?;
    let mac = topology.port(port).ok_or(MakeError::NoPorts)?.mac;
    let packet = sized(packet)?;
    let bytes = packet.ether(SOMEBODY, mac).bytes();
    Ok(Made { port, bytes })
}

/// The port at which a frame is received that comes by `port`, and how it looks there: with the
/// tag of a VLAN that has a port it is that one's, without the tag.
pub fn locate<'b>(snapshot: &Snapshot, port: PortId, bytes: &'b [u8]) -> (PortId, Cow<'b, [u8]>) {
    let view = snapshot.ports.get(usize::from(port.0));
    let vlans = view.and_then(|view| view.tagging.vlans());
    let own = vlans.zip(vlan::id(bytes)).filter(|&(_, id)| id != 0);
    match own.and_then(|(vlans, id)| vlans.port(id)) {
        Some(port) => {
            let (macs, rest) = bytes.split_at(12);
            (port, [macs, &rest[4..]].concat().into())
        }
        None => (port, bytes.into()),
    }
}

/// A frame that came in somewhere: by the port that is named, else the first.
///
/// # Errors
/// There is no such port.
pub fn taken(bytes: &[u8], port: Option<&str>, topology: &Topology) -> Result<Made, MakeError> {
    let port = match port {
        Some(name) => named(name, topology)?,
        None => topology
            .ports()
            .map(|(port, _)| port)
            .next()
            .ok_or(MakeError::NoPorts)?,
    };
    let bytes = bytes.to_vec();
    Ok(Made { port, bytes })
}

fn named(name: &str, topology: &Topology) -> Result<PortId, MakeError> {
    let known = || {
        let names = topology.ports().map(|(_, setup)| setup.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    topology.port_named(name).ok_or_else(|| MakeError::NoPort {
        name: name.to_owned(),
        known: known(),
    })
}

/// The port that was named; else the one that leads to the source; else the first.
fn entry(packet: &Packet, topology: &Topology) -> Result<PortId, MakeError> {
    if let Some(name) = &packet.port {
        return named(name, topology);
    }
    let towards = topology.next_hop(packet.source.address);
    let first = || topology.ports().map(|(port, _)| port).next();
    let port = towards.map(|(port, _)| port).or_else(first);
    port.ok_or(MakeError::NoPorts)
}

/// The packet with a payload that makes it as long as it is to be.
fn sized(packet: &Packet) -> Result<build::Packet, MakeError> {
    let least = outline(packet, 0).bytes().len();
    let payload = match packet.length {
        Some(length) => usize::from(length)
            .checked_sub(least)
            .ok_or(MakeError::TooShort { length, least })?,
        // What a fragment carries that is not the last is a multiple of eight octets.
        None if packet.fragment == Some((0, true)) => padding(packet),
        None => 0,
    };
    Ok(outline(packet, payload))
}

/// Octets that make a first fragment's body a multiple of eight.
fn padding(packet: &Packet) -> usize {
    match packet.carries {
        Carries::Tcp(_) => 4,
        Carries::Udp | Carries::Sctp(_) | Carries::Echo => 0,
    }
}

fn outline(packet: &Packet, payload: usize) -> build::Packet {
    let (source, destination) = (packet.source, packet.destination);
    let mut made = ip(source.address, destination.address)
        .ttl(packet.ttl)
        .id(packet.id);
    if packet.dont_fragment {
        made = made.df();
    }
    match packet.fragment {
        // What a later fragment has is data, and no header.
        Some((offset, more)) if offset > 0 => made
            .raw(protocol(packet), vec![0; LEAST_DATA + payload])
            .fragment(offset, more),
        Some((_, more)) => made.with(body(packet, payload)).fragment(0, more),
        None => made.with(body(packet, payload)),
    }
}

fn body(packet: &Packet, payload: usize) -> Body {
    let (from, to) = (packet.source.port, packet.destination.port);
    let payload = vec![0; payload];
    match packet.carries {
        Carries::Tcp(bits) => tcp(from, to).flags(Flags(bits)).payload(payload).into(),
        Carries::Udp => udp(from, to).payload(payload).into(),
        Carries::Sctp(chunk) => sctp(from, to)
            .tag(u32::from(chunk != ChunkType::INIT.0))
            .chunk(chunk, &payload)
            .into(),
        Carries::Echo => echo_request(1, 1).payload(payload).into(),
    }
}

fn protocol(packet: &Packet) -> Protocol {
    match (packet.carries, packet.source.address) {
        (Carries::Tcp(_), _) => Protocol::TCP,
        (Carries::Udp, _) => Protocol::UDP,
        (Carries::Sctp(_), _) => Protocol::SCTP,
        (Carries::Echo, IpAddr::V4(_)) => Protocol::ICMP,
        (Carries::Echo, IpAddr::V6(_)) => Protocol::ICMPV6,
    }
}
