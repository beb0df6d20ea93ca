//! Packets of our own making: ICMP errors about a packet that goes nowhere, the reset of a
//! connection that is over, and the answer to an echo request for a VIP.
//!
//! An error about a client's packet comes from the VIP, so that the client knows whom it was
//! about, and goes back the way the packet came: by the same port, to the MAC that sent it.

use std::net::IpAddr;

use wire::ethernet::{self, EtherType};
use wire::{Protocol, icmpv4, icmpv6, ipv4, ipv6, tcp};

use crate::fwd::Link;
use crate::port::Frame;

const TTL: u8 = 64;

/// The least MTU of an IPv6 link in octets: nobody is told of a smaller one (RFC 8200 section 5).
const LEAST_V6_MTU: u16 = 1280;

/// An ICMP error, or a reset, to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub kind: Kind,
    /// Whom it comes from; the family of the packet that it is about.
    pub source: IpAddr,
}

/// What the sender of a packet is told: by ICMP (RFC 792, RFC 4443), or by TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Port unreachable: 3/3, in IPv6 1/4.
    PortUnreachable,
    /// Host or address unreachable: 3/1, in IPv6 1/3.
    HostUnreachable,
    /// Destination unreachable with a code of the reply's family: retold as a tunnel got it.
    Unreachable {
        /// The code.
        code: u8,
    },
    /// Time to live or hop limit exceeded in transit: 11/0, in IPv6 3/0.
    TimeExceeded,
    /// A TCP reset: the packet's connection is over.
    Reset,
    /// Fragmentation needed and DF set, 3/4 (RFC 1191 section 4); packet too big, 2/0.
    FragmentationNeeded {
        /// The largest packet that would pass, in octets.
        mtu: u16,
    },
}

impl Kind {
    fn v4(self) -> Option<icmpv4::Problem> {
        use icmpv4::{Problem, unreachable};
        Some(match self {
            Self::Reset => return None,
            Self::PortUnreachable => Problem::unreachable(unreachable::PORT),
            Self::HostUnreachable => Problem::unreachable(unreachable::HOST),
            Self::Unreachable { code } => Problem::unreachable(code),
            Self::TimeExceeded => Problem::time_exceeded(),
            Self::FragmentationNeeded { mtu } => Problem::fragmentation_needed(mtu),
        })
    }

    fn v6(self) -> Option<icmpv6::Problem> {
        use icmpv6::{Problem, unreachable};
        Some(match self {
            Self::Reset => return None,
            Self::PortUnreachable => Problem::unreachable(unreachable::PORT),
            Self::HostUnreachable => Problem::unreachable(unreachable::ADDRESS),
            Self::Unreachable { code } => Problem::unreachable(code),
            Self::TimeExceeded => Problem::time_exceeded(),
            Self::FragmentationNeeded { mtu } => Problem::too_big(mtu.max(LEAST_V6_MTU).into()),
        })
    }
}

impl Reply {
    /// Writes the error about the frame `about` into the empty frame `made`, back the way it
    /// came, over a link of `mtu` octets; `false` if there is no room for it, or may be no error
    /// about it: it is one itself, a later fragment, or not from one host to another.
    pub fn write<F: Frame>(&self, about: &[u8], mtu: u16, made: &mut F) -> bool {
        let Ok(ethernet) = ethernet::Frame::parse(about) else {
            return false;
        };
        let back = Link {
            ours: ethernet.dst(),
            next: ethernet.src(),
        };
        !back.ours.is_multicast() && self.write_to(ethernet.payload(), back, mtu, made)
    }

    /// As [`write`](Self::write) about the IP packet `about`, which may be cut short, and over
    /// `link`.
    pub fn write_to<F: Frame>(&self, about: &[u8], link: Link, mtu: u16, made: &mut F) -> bool {
        let ethertype = match self.source {
            IpAddr::V4(_) => EtherType::IPV4,
            IpAddr::V6(_) => EtherType::IPV6,
        };
        let length = icmpv6::ERROR_LEN.min(mtu.into());
        let room = made.tailroom().min(ethernet::LEN + length);
        if !made.append(room) {
            return false;
        }
        let Some((head, packet)) = made.bytes_mut().split_first_chunk_mut() else {
            return false;
        };
        ethernet::emit(head, link.ours, link.next, ethertype);
        let Some(length) = self.emit(about, packet) else {
            return false;
        };
        made.truncate(ethernet::LEN + length);
        true
    }

    /// Writes what is said as an IP packet; how long it became.
    fn emit(&self, about: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.source {
            IpAddr::V4(source) => {
                let Some(problem) = self.kind.v4() else {
                    return reset_v4(about, out);
                };
                let about = ipv4::Packet::parse_quoted(about).ok()?;
                problem.emit(out, source, &about)
            }
            IpAddr::V6(source) => {
                let Some(problem) = self.kind.v6() else {
                    return reset_v6(about, out);
                };
                let about = ipv6::Packet::parse_quoted(about).ok()?;
                problem.emit(out, source, &about)
            }
        }
    }
}

/// Writes the reset that answers a TCP segment, from whom that was for; how long it became.
fn reset_v4(about: &[u8], out: &mut [u8]) -> Option<usize> {
    let about = ipv4::Packet::parse(about).ok()?;
    if about.is_fragment() || about.protocol() != Protocol::TCP {
        return None;
    }
    let reset = tcp::Header::reset(&tcp::Packet::parse(about.payload()).ok()?)?;
    let (src, dst) = (about.dst(), about.src());
    let (head, rest) = out.split_first_chunk_mut()?;
    reset.emit(rest.first_chunk_mut()?, src.into(), dst.into());
    ipv4::Header {
        src,
        dst,
        protocol: Protocol::TCP,
        ttl: TTL,
        tos: 0,
        id: 0,
        dont_fragment: true,
        payload_len: u16::try_from(tcp::LEN).ok()?,
    }
    .emit(head);
    Some(ipv4::LEN + tcp::LEN)
}

/// As [`reset_v4`].
fn reset_v6(about: &[u8], out: &mut [u8]) -> Option<usize> {
    let about = ipv6::Packet::parse(about).ok()?;
    let upper = about.upper().ok()?;
    if upper.fragment.is_some() || upper.protocol != Protocol::TCP {
        return None;
    }
    let segment = tcp::Packet::parse(about.upper_payload(&upper)).ok()?;
    let reset = tcp::Header::reset(&segment)?;
    let (src, dst) = (about.dst(), about.src());
    let (head, rest) = out.split_first_chunk_mut()?;
    reset.emit(rest.first_chunk_mut()?, src.into(), dst.into());
    ipv6::Header {
        src,
        dst,
        next_header: Protocol::TCP,
        hop_limit: TTL,
        traffic_class: 0,
        flow_label: 0,
        payload_len: u16::try_from(tcp::LEN).ok()?,
    }
    .emit(head);
    Some(ipv6::LEN + tcp::LEN)
}

/// Turns an ICMP echo request of either family into its answer, in place; `false`, and no
/// change, if it is none. A fragment is none: it can't be answered alone.
pub fn echo<F: Frame>(frame: &mut F) -> bool {
    let Ok(mut ethernet) = ethernet::Frame::parse(frame.bytes_mut()) else {
        return false;
    };
    let answered = match ethernet.ethertype() {
        EtherType::IPV4 => echo_v4(ethernet.payload_mut()),
        EtherType::IPV6 => echo_v6(ethernet.payload_mut()),
        _ => None,
    };
    let Some(length) = answered else {
        return false;
    };
    let (from, to) = (ethernet.src(), ethernet.dst());
    ethernet.set_macs(to, from);
    frame.truncate(ethernet::LEN + length);
    true
}

/// Octets of the answer.
fn echo_v4(packet: &mut [u8]) -> Option<usize> {
    let mut ip = ipv4::Packet::parse(packet).ok()?;
    if ip.is_fragment() || ip.protocol() != Protocol::ICMP {
        return None;
    }
    let mut icmp = icmpv4::Packet::parse(ip.payload_mut()).ok()?;
    if !icmp.verify_checksum() || !icmp.answer_echo() {
        return None;
    }
    ip.swap_addresses();
    ip.set_ttl(TTL);
    Some(ip.total_len())
}

/// Octets of the answer.
fn echo_v6(packet: &mut [u8]) -> Option<usize> {
    let mut ip = ipv6::Packet::parse(packet).ok()?;
    let (src, dst) = (ip.src(), ip.dst());
    let upper = ip.upper().ok()?;
    if upper.fragment.is_some() || upper.protocol != Protocol::ICMPV6 {
        return None;
    }
    let mut icmp = icmpv6::Packet::parse(ip.upper_payload_mut(&upper)).ok()?;
    if !icmp.verify_checksum(src, dst) || !icmp.answer_echo() {
        return None;
    }
    ip.swap_addresses();
    ip.set_hop_limit(TTL);
    Some(ip.total_len())
}
