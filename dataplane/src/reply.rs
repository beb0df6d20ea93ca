//! Packets of our own making: ICMP errors about a packet that goes nowhere, the RST for a segment
//! of no connection, and the answer to an echo request for a VIP.
//!
//! An error about a client's packet comes from the VIP, so that the client knows whom it was
//! about, and goes back the way the packet came: by the same port, to the MAC that sent it.

use std::net::IpAddr;

use wire::ethernet::{self, EtherType};
use wire::{Protocol, checksum, icmpv4, icmpv6, ipv4, ipv6, tcp};

use crate::fwd::Link;
use crate::port::Frame;

const TTL: u8 = 64;

/// The least MTU of an IPv6 link in octets: nobody is told of a smaller one (RFC 8200 section 5).
const LEAST_V6_MTU: u16 = 1280;

/// An ICMP error to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub kind: Kind,
    /// Whom it comes from; the family of the packet that it is about.
    pub source: IpAddr,
}

/// What an ICMP error says (RFC 792, RFC 4443).
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
    /// A header field that can't be obeyed, 12/0, in IPv6 4/0.
    ErroneousField {
        /// Where the field is, in octets from the start of the packet.
        pointer: u16,
    },
    /// Fragmentation needed and DF set, 3/4 (RFC 1191 section 4); packet too big, 2/0.
    FragmentationNeeded {
        /// The largest packet that would pass, in octets.
        mtu: u16,
    },
}

impl Kind {
    fn v4(self) -> icmpv4::Problem {
        use icmpv4::{Problem, unreachable};
        match self {
            Self::PortUnreachable => Problem::unreachable(unreachable::PORT),
            Self::HostUnreachable => Problem::unreachable(unreachable::HOST),
            Self::Unreachable { code } => Problem::unreachable(code),
            Self::TimeExceeded => Problem::time_exceeded(),
            Self::ErroneousField { pointer } => {
                // Behind the 60 octets that a header has at most there is no field.
                Problem::erroneous_field(u8::try_from(pointer).unwrap_or(u8::MAX))
            }
            Self::FragmentationNeeded { mtu } => Problem::fragmentation_needed(mtu),
        }
    }

    fn v6(self) -> icmpv6::Problem {
        use icmpv6::{Problem, unreachable};
        match self {
            Self::PortUnreachable => Problem::unreachable(unreachable::PORT),
            Self::HostUnreachable => Problem::unreachable(unreachable::ADDRESS),
            Self::Unreachable { code } => Problem::unreachable(code),
            Self::TimeExceeded => Problem::time_exceeded(),
            Self::ErroneousField { pointer } => Problem::erroneous_field(pointer.into()),
            Self::FragmentationNeeded { mtu } => Problem::too_big(mtu.max(LEAST_V6_MTU).into()),
        }
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

    /// Writes the error as an IP packet; how long it became.
    fn emit(&self, about: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.source {
            IpAddr::V4(source) => {
                let about = ipv4::Packet::parse_quoted(about).ok()?;
                self.kind.v4().emit(out, source, &about)
            }
            IpAddr::V6(source) => {
                let about = ipv6::Packet::parse_quoted(about).ok()?;
                self.kind.v6().emit(out, source, &about)
            }
        }
    }
}

/// Writes the RST that answers the TCP segment in the frame `about` into the empty frame `made`,
/// back the way it came (RFC 9293 section 3.5.2); `false` if there is none to be: it is a RST
/// itself, a fragment, not whole, or not from one host to another.
pub fn reset<F: Frame>(about: &[u8], made: &mut F) -> bool {
    let Ok(ethernet) = ethernet::Frame::parse(about) else {
        return false;
    };
    let written = match ethernet.ethertype() {
        EtherType::IPV4 => reset_v4(ethernet.payload()),
        EtherType::IPV6 => reset_v6(ethernet.payload()),
        _ => None,
    };
    let Some(packet) = written.filter(|_| !ethernet.dst().is_multicast()) else {
        return false;
    };
    if !made.append(ethernet::LEN + packet.len()) {
        return false;
    }
    let Some((head, room)) = made.bytes_mut().split_first_chunk_mut() else {
        return false;
    };
    ethernet::emit(head, ethernet.dst(), ethernet.src(), ethernet.ethertype());
    room.copy_from_slice(&packet);
    true
}

/// A RST as a packet.
type Reset = arrayvec::ArrayVec<u8, { ipv6::LEN + tcp::LEN }>;

/// Octets of a RST's segment.
const RESET_LEN: u16 = 20;

const _: () = assert!(tcp::LEN == RESET_LEN as usize);

fn reset_v4(about: &[u8]) -> Option<Reset> {
    let ip = ipv4::Packet::parse(about).ok()?;
    if ip.is_fragment() || ip.protocol() != Protocol::TCP {
        return None;
    }
    let header = ipv4::Header {
        src: ip.dst(),
        dst: ip.src(),
        protocol: Protocol::TCP,
        ttl: TTL,
        tos: 0,
        id: 0,
        dont_fragment: true,
        payload_len: RESET_LEN,
    };
    let mut head = [0; ipv4::LEN];
    header.emit(&mut head);
    reset_of(&head, ip.payload(), ip.src().into(), ip.dst().into())
}

fn reset_v6(about: &[u8]) -> Option<Reset> {
    let ip = ipv6::Packet::parse(about).ok()?;
    let upper = ip.upper().ok()?;
    if upper.fragment.is_some() || upper.protocol != Protocol::TCP {
        return None;
    }
    let header = ipv6::Header {
        src: ip.dst(),
        dst: ip.src(),
        next_header: Protocol::TCP,
        hop_limit: TTL,
        traffic_class: 0,
        flow_label: 0,
        payload_len: RESET_LEN,
    };
    let mut head = [0; ipv6::LEN];
    header.emit(&mut head);
    let segment = ip.upper_payload(&upper);
    reset_of(&head, segment, ip.src().into(), ip.dst().into())
}

/// A RST with this IP header, about a `segment` from `src` to `dst` that arrived intact.
fn reset_of(head: &[u8], segment: &[u8], src: IpAddr, dst: IpAddr) -> Option<Reset> {
    let length = u32::try_from(segment.len()).ok()?;
    let sum = checksum::pseudo(src, dst, Protocol::TCP, length).add_bytes(segment);
    if sum.finish() != 0 {
        return None;
    }
    let header = tcp::Header::reset(&tcp::Packet::parse(segment).ok()?)?;
    let mut written = [0; tcp::LEN];
    header.emit(&mut written, dst, src);
    let mut packet = Reset::new();
    packet.try_extend_from_slice(head).ok()?;
    packet.try_extend_from_slice(&written).ok()?;
    Some(packet)
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
