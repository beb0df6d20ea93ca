//! What a frame is, before anybody asks what to do with it.
//!
//! Every length is checked here, once; each malformation has a reason of its own. Nothing is
//! looked up and nothing changes.

use wire::ethernet::{self, EtherType, Mac};
use wire::{Protocol, ipv4, tcp, udp};

use crate::conn::Key;
use crate::port::{Frame, RxFlags};
use crate::services::PortView;
use crate::verdict::{PuntClass, Reason, Verdict};

/// A well-formed packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<A> {
    /// Its tuple.
    pub key: Key<A>,
    /// Octets of the IP packet.
    pub length: u16,
    /// Hops left.
    pub ttl: u8,
    /// Whether no router may fragment it.
    pub dont_fragment: bool,
    /// TCP's control bits; none for UDP.
    pub flags: tcp::Flags,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// TCP or UDP over IPv4.
    Flow(Packet<u32>),
    /// IPv4 that no service can take.
    Other {
        /// Its destination, in host order.
        destination: u32,
        /// What it carries.
        protocol: Protocol,
    },
    /// Decided already.
    Decided(Verdict),
}

/// Parses `frame`, which came by the port of `view`.
#[inline]
pub fn parse<F: Frame>(frame: &F, view: &PortView) -> Parsed {
    match classify(frame, view) {
        Ok(parsed) => parsed,
        Err(verdict) => Parsed::Decided(verdict),
    }
}

#[inline]
fn classify<F: Frame>(frame: &F, view: &PortView) -> Result<Parsed, Verdict> {
    let ethernet = ethernet::Frame::parse(frame.bytes());
    let ethernet = ethernet.map_err(|_| Verdict::Drop(Reason::ShortFrame))?;
    let destination = ethernet.dst();
    if destination != view.mac && !is_shared(destination, view) {
        return Err(Verdict::Drop(Reason::NotOurMac));
    }
    if frame.rx_flags().any(RxFlags::VLAN_STRIPPED) {
        return Err(Verdict::Drop(Reason::Vlan));
    }
    match ethernet.ethertype() {
        EtherType::IPV4 => {
            if frame.rx_flags().any(RxFlags::SEGMENTED) {
                return Err(Verdict::Drop(Reason::Oversize));
            }
            ipv4(ethernet.into_payload(), view, destination)
        }
        EtherType::ARP => Err(Verdict::Punt(PuntClass::Neighbour)),
        EtherType::VLAN | EtherType::QINQ => Err(Verdict::Drop(Reason::Vlan)),
        _ => Err(Verdict::Punt(PuntClass::Other)),
    }
}

/// Whether frames for this MAC are for us and others: broadcast, and the groups we joined.
#[cold]
fn is_shared(destination: Mac, view: &PortView) -> bool {
    destination.is_broadcast() || view.groups.binary_search(&destination).is_ok()
}

#[inline]
fn ipv4(bytes: &[u8], view: &PortView, to: Mac) -> Result<Parsed, Verdict> {
    let ip = ipv4::Packet::parse(bytes).map_err(|error| Verdict::Drop(malformed(error)))?;
    if ip.total_len() > usize::from(view.mtu) {
        return Err(Verdict::Drop(Reason::Oversize));
    }
    if !ip.verify_checksum() {
        return Err(Verdict::Drop(Reason::BadChecksum));
    }
    if is_nobody(ip.src().octets()) {
        return Err(Verdict::Drop(Reason::BadSource));
    }
    if to != view.mac {
        // Shared frames never belong to a service (RFC 1122 §3.2.1.3, §4.1.3.6, §4.2.3.10).
        return Err(Verdict::Punt(class(ip.protocol(), false)));
    }
    if ip.is_fragment() && matches!(ip.protocol(), Protocol::TCP | Protocol::UDP) {
        return Err(Verdict::Drop(Reason::Fragment));
    }
    match ip.protocol() {
        Protocol::TCP => tcp(&ip),
        Protocol::UDP => udp(&ip),
        protocol => Ok(Parsed::Other {
            destination: ip.dst().to_bits(),
            protocol,
        }),
    }
}

#[inline]
fn tcp(ip: &ipv4::Packet<&[u8]>) -> Result<Parsed, Verdict> {
    let segment = tcp::Packet::parse(ip.payload());
    let segment = segment.map_err(|_| Verdict::Drop(Reason::ShortTransport))?;
    Ok(flow(
        ip,
        (segment.src_port(), segment.dst_port()),
        segment.flags(),
    ))
}

#[inline]
fn udp(ip: &ipv4::Packet<&[u8]>) -> Result<Parsed, Verdict> {
    let datagram = udp::Packet::parse(ip.payload());
    let datagram = datagram.map_err(|_| Verdict::Drop(Reason::ShortTransport))?;
    Ok(flow(
        ip,
        (datagram.src_port(), datagram.dst_port()),
        tcp::Flags::default(),
    ))
}

#[inline]
fn flow(ip: &ipv4::Packet<&[u8]>, ports: (u16, u16), flags: tcp::Flags) -> Parsed {
    Parsed::Flow(Packet {
        key: Key {
            source: ip.src().to_bits(),
            destination: ip.dst().to_bits(),
            source_port: ports.0,
            destination_port: ports.1,
            protocol: ip.protocol().0,
        },
        length: u16::try_from(ip.total_len()).expect("the field has 16 bits"),
        ttl: ip.ttl(),
        dont_fragment: ip.dont_fragment(),
        flags,
    })
}

fn malformed(error: ipv4::Error) -> Reason {
    match error {
        ipv4::Error::Truncated => Reason::ShortHeader,
        ipv4::Error::Version => Reason::BadVersion,
        ipv4::Error::HeaderLength => Reason::BadIhl,
        ipv4::Error::TotalLength => Reason::ShortLength,
        ipv4::Error::PastFrame => Reason::BadLength,
    }
}

/// Whether no host may send from this address: "this network", loopback, multicast, class E
/// and broadcast (RFC 1122 §3.2.1.3).
#[inline]
fn is_nobody(source: [u8; 4]) -> bool {
    matches!(source[0], 0 | 127 | 224..)
}

/// The class of a packet for an address of ours (`ours`) or for a group.
pub fn class(protocol: Protocol, ours: bool) -> PuntClass {
    match protocol {
        Protocol::VRRP => PuntClass::Vrrp,
        Protocol::OSPF => PuntClass::Routing,
        _ if ours => PuntClass::Local,
        _ => PuntClass::Other,
    }
}
