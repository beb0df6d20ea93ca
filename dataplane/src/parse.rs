//! What a frame is, before anybody asks what to do with it.
//!
//! Every length is checked here, once; each malformation has a reason of its own. Nothing is
//! looked up and nothing changes.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use wire::ethernet::{self, EtherType, Mac};
use wire::{Protocol, ipv4, ipv6, tcp, udp};

use crate::conn::{Hash, Key};
use crate::port::{BURST, Frame, RxFlags};
use crate::services::PortView;
use crate::verdict::{PuntClass, Reason, Verdict};

/// A well-formed packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<A> {
    /// Its tuple.
    pub key: Key<A>,
    /// The tuple's hash, once [`State::locate`](crate::state::State::locate) has set it.
    pub hash: Hash,
    /// What the next link asks about it.
    pub shape: Shape,
    /// TCP's control bits; none for UDP.
    pub flags: tcp::Flags,
}

/// What decides whether a packet may take one more hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Octets of the IP packet, header included.
    pub length: u32,
    /// Hops left.
    pub ttl: u8,
    /// Whether no router may fragment it; always so in IPv6.
    pub dont_fragment: bool,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// TCP or UDP over IPv4.
    V4(Packet<u32>),
    /// TCP or UDP over IPv6: the packet at this place of [`Parses::v6`]. Kept apart, so that
    /// its 64 octets don't travel with every IPv4 packet (measured: 36 instructions).
    V6(u8),
    /// IP that belongs to no flow of its own.
    Other {
        /// Its destination.
        destination: IpAddr,
        /// What it carries.
        protocol: Protocol,
    },
    /// Decided already.
    Decided(Verdict),
}

/// A burst's frames, parsed.
#[derive(Debug, Default)]
pub struct Parses {
    /// One for each frame, in their order.
    pub frames: ArrayVec<Parsed, BURST>,
    /// The packets of IPv6 flows among them.
    pub v6: ArrayVec<Packet<u128>, BURST>,
}

impl Parses {
    /// Forgets the burst before.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.v6.clear();
    }

    /// Parses `frame`, which came by the port of `view`: at most [`BURST`] frames. Without a
    /// view nothing can be for us: no snapshot names the port yet.
    #[inline]
    pub fn push<F: Frame>(&mut self, frame: &F, view: Option<&PortView>) {
        let parsed = match view.map(|view| classify(frame, view, &mut self.v6)) {
            Some(Ok(parsed)) => parsed,
            Some(Err(verdict)) => Parsed::Decided(verdict),
            None => Parsed::Decided(drop(Reason::NoPort)),
        };
        self.frames.push(parsed);
    }
}

type V6 = ArrayVec<Packet<u128>, BURST>;

#[inline]
fn classify<F: Frame>(frame: &F, view: &PortView, v6: &mut V6) -> Result<Parsed, Verdict> {
    let ethernet = ethernet::Frame::parse(frame.bytes());
    let ethernet = ethernet.map_err(|_| drop(Reason::ShortFrame))?;
    let destination = ethernet.dst();
    if destination != view.mac && !is_shared(destination, view) {
        return Err(drop(Reason::NotOurMac));
    }
    let flags = frame.rx_flags();
    if flags.any(RxFlags::VLAN_STRIPPED) {
        return Err(drop(Reason::Vlan));
    }
    let is_ip = matches!(ethernet.ethertype(), EtherType::IPV4 | EtherType::IPV6);
    if is_ip && flags.any(RxFlags::SEGMENTED) {
        return Err(drop(Reason::Oversize));
    }
    match ethernet.ethertype() {
        EtherType::IPV4 => ipv4(ethernet.into_payload(), view, destination),
        EtherType::IPV6 => ipv6(ethernet.into_payload(), view, destination, v6),
        EtherType::ARP => Err(Verdict::Punt(PuntClass::Neighbour)),
        EtherType::VLAN | EtherType::QINQ => Err(drop(Reason::Vlan)),
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
    let ip = ipv4::Packet::parse(bytes).map_err(|error| drop(malformed_v4(error)))?;
    if ip.total_len() > usize::from(view.mtu) {
        return Err(drop(Reason::Oversize));
    }
    if !ip.verify_checksum() {
        return Err(drop(Reason::BadChecksum));
    }
    if is_nobody_v4(ip.src().octets()) {
        return Err(drop(Reason::BadSource));
    }
    let protocol = ip.protocol();
    if to != view.mac {
        // Shared frames never belong to a service (RFC 1122 §3.2.1.3, §4.1.3.6, §4.2.3.10).
        return Err(Verdict::Punt(class(protocol, false)));
    }
    if !matches!(protocol, Protocol::TCP | Protocol::UDP) {
        return Ok(Parsed::Other {
            destination: ip.dst().into(),
            protocol,
        });
    }
    if ip.is_fragment() {
        return Err(drop(Reason::Fragment));
    }
    let (ports, flags) = transport(protocol, ip.payload())?;
    Ok(Parsed::V4(Packet {
        key: Key {
            source: ip.src().to_bits(),
            destination: ip.dst().to_bits(),
            source_port: ports.0,
            destination_port: ports.1,
            protocol: protocol.0,
        },
        hash: Hash::default(),
        shape: Shape {
            length: len32(ip.total_len()),
            ttl: ip.ttl(),
            dont_fragment: ip.dont_fragment(),
        },
        flags,
    }))
}

fn ipv6(bytes: &[u8], view: &PortView, to: Mac, v6: &mut V6) -> Result<Parsed, Verdict> {
    let ip = ipv6::Packet::parse(bytes).map_err(|error| drop(malformed_v6(error)))?;
    if ip.total_len() > usize::from(view.mtu) {
        return Err(drop(Reason::Oversize));
    }
    if ip.src().is_multicast() || ip.src().is_loopback() {
        return Err(drop(Reason::BadSource));
    }
    let upper = ip.upper().map_err(|error| drop(malformed_v6(error)))?;
    let protocol = upper.protocol;
    if to != view.mac {
        return Err(Verdict::Punt(shared_v6(protocol, ip.upper_payload(&upper))));
    }
    let is_flow = matches!(protocol, Protocol::TCP | Protocol::UDP);
    if is_flow && upper.fragment.is_some() {
        return Err(drop(Reason::Fragment));
    }
    if !is_flow {
        if is_discovery(protocol, ip.upper_payload(&upper)) {
            return Err(Verdict::Punt(PuntClass::Neighbour));
        }
        return Ok(Parsed::Other {
            destination: ip.dst().into(),
            protocol,
        });
    }
    let (ports, flags) = transport(protocol, ip.upper_payload(&upper))?;
    let place = u8::try_from(v6.len()).expect("a burst is small");
    v6.push(Packet {
        key: Key {
            source: ip.src().to_bits(),
            destination: ip.dst().to_bits(),
            source_port: ports.0,
            destination_port: ports.1,
            protocol: protocol.0,
        },
        hash: Hash::default(),
        shape: Shape {
            length: len32(ip.total_len()),
            ttl: ip.hop_limit(),
            dont_fragment: true,
        },
        flags,
    });
    Ok(Parsed::V6(place))
}

/// Ports, and TCP's control bits.
#[inline]
fn transport(protocol: Protocol, bytes: &[u8]) -> Result<((u16, u16), tcp::Flags), Verdict> {
    if protocol == Protocol::TCP {
        let segment = tcp::Packet::parse(bytes).map_err(|_| drop(Reason::ShortTransport))?;
        Ok(((segment.src_port(), segment.dst_port()), segment.flags()))
    } else {
        let datagram = udp::Packet::parse(bytes).map_err(|_| drop(Reason::ShortTransport))?;
        Ok((
            (datagram.src_port(), datagram.dst_port()),
            tcp::Flags::default(),
        ))
    }
}

#[inline]
fn drop(reason: Reason) -> Verdict {
    Verdict::Drop(reason)
}

#[inline]
fn len32(octets: usize) -> u32 {
    u32::try_from(octets).expect("an IP packet has at most 65575 octets")
}

fn malformed_v4(error: ipv4::Error) -> Reason {
    match error {
        ipv4::Error::Truncated => Reason::ShortHeader,
        ipv4::Error::Version => Reason::BadVersion,
        ipv4::Error::HeaderLength => Reason::BadIhl,
        ipv4::Error::TotalLength => Reason::ShortLength,
        ipv4::Error::PastFrame => Reason::BadLength,
    }
}

fn malformed_v6(error: ipv6::Error) -> Reason {
    match error {
        ipv6::Error::Truncated => Reason::ShortHeader,
        ipv6::Error::Version => Reason::BadVersion,
        ipv6::Error::PastFrame => Reason::BadLength,
        ipv6::Error::ExtensionTruncated
        | ipv6::Error::ChainTooLong
        | ipv6::Error::SecondFragment => Reason::HeaderChain,
    }
}

/// Whether no host may send from this address: "this network", loopback, multicast, class E
/// and broadcast (RFC 1122 §3.2.1.3).
#[inline]
fn is_nobody_v4(source: [u8; 4]) -> bool {
    matches!(source[0], 0 | 127 | 224..)
}

/// Neighbour and router discovery: ICMPv6 types 133 to 137 (RFC 4861 §4).
#[inline]
fn is_discovery(protocol: Protocol, message: &[u8]) -> bool {
    protocol == Protocol::ICMPV6 && matches!(message.first(), Some(133..=137))
}

fn shared_v6(protocol: Protocol, message: &[u8]) -> PuntClass {
    if is_discovery(protocol, message) {
        PuntClass::Neighbour
    } else {
        class(protocol, false)
    }
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
