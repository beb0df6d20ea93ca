//! What an IP packet carries.

use std::net::IpAddr;

use super::{Icmp, Packet, Sctp, Tcp, Udp, checksum, icmp, len16};
use crate::ip::Protocol;

/// What an IP packet carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp(Udp),
    /// An SCTP packet.
    Sctp(Sctp),
    /// An ICMP message of the packet's own family.
    Icmp(Icmp),
    /// Another IP packet: IPIP.
    Ip(Box<Packet>),
    /// Anything else, as it is.
    Raw(Protocol, Vec<u8>),
}

impl Body {
    pub(super) fn protocol(&self, v6: bool) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::TCP,
            Self::Udp(_) => Protocol::UDP,
            Self::Sctp(_) => Protocol::SCTP,
            Self::Icmp(_) => icmp::protocol(v6),
            Self::Ip(inner) if inner.is_v6() => Protocol::IPV6,
            Self::Ip(_) => Protocol::IPIP,
            Self::Raw(protocol, _) => *protocol,
        }
    }

    pub(super) fn bytes(&self, src: IpAddr, dst: IpAddr) -> Vec<u8> {
        match self {
            Self::Tcp(tcp) => tcp.bytes(src, dst),
            Self::Udp(udp) => udp.bytes(src, dst),
            Self::Sctp(sctp) => sctp.bytes(),
            Self::Icmp(icmp) => icmp.bytes(src, dst),
            Self::Ip(inner) => inner.bytes(),
            Self::Raw(_, bytes) => bytes.clone(),
        }
    }
}

impl From<Tcp> for Body {
    fn from(tcp: Tcp) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<Udp> for Body {
    fn from(udp: Udp) -> Self {
        Self::Udp(udp)
    }
}

impl From<Sctp> for Body {
    fn from(sctp: Sctp) -> Self {
        Self::Sctp(sctp)
    }
}

impl From<Icmp> for Body {
    fn from(icmp: Icmp) -> Self {
        Self::Icmp(icmp)
    }
}

impl From<Packet> for Body {
    fn from(packet: Packet) -> Self {
        Self::Ip(Box::new(packet))
    }
}

/// The checksum of a segment under its pseudo-header.
pub(super) fn transport_checksum(
    src: IpAddr,
    dst: IpAddr,
    protocol: Protocol,
    segment: &[u8],
) -> u16 {
    let mut covered = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
        (src, dst) => [v6(src), v6(dst)].concat(),
    };
    covered.extend([0, protocol.0]);
    covered.extend(len16(segment.len()).to_be_bytes());
    covered.extend(segment);
    checksum(&covered)
}

fn v6(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}
