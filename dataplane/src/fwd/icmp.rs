//! ICMP errors about a packet of a connection: translated outside and inside, so that whoever
//! gets one recognises the packet that it is about.
//!
//! from the client's side, about what the real server sent (NAT; FULLNAT in brackets)
//! in   [ router > VIP          | error | VIP:vport > client:cport  .. ]
//! out  [ router (local) > real | error | real:rport > client:cport (local:lport) .. ]
//!
//! from the real server's side, about what we sent it
//! in   [ router > client (local) | error | client:cport (local:lport) > real:rport .. ]
//! out  [ VIP > client            | error | client:cport > VIP:vport .. ]
//!
//! Patched: the outer and the quoted IPv4 header checksum, the quoted transport's where the
//! quote reaches it, and ICMP's, which covers the quote. In DR and TUN an error from the
//! client's side is a packet for the real server like any other.

use std::net::IpAddr;

use wire::ethernet::EtherType;
use wire::segment::Quoted;
use wire::{Delta, Protocol, ethernet, gre, gue, udp};

use super::family::{Family, Ip, IpMut, Said};
use super::pass::pass;
use super::{Envelope, Link, Tunnel};
use crate::conn::Key;
use crate::port::Frame;
use crate::reply::Kind;
use crate::verdict::Reason;

/// An ICMP error about a packet with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded<A> {
    /// The tuple of the packets that go the other way than the one quoted: the connection that
    /// is found by it from the client's side wants the error at the real server
    /// ([`Forwarder::error_to_real`](super::Forwarder::error_to_real)), one that is found from
    /// the real server's side at the client.
    pub key: Key<A>,
    /// Octets of the packet that carries the error.
    pub length: u16,
    /// Its hops left.
    pub ttl: u8,
    /// Whether no router may fragment it.
    pub dont_fragment: bool,
}

/// The ICMP error in `frame`, if it is one that is translated and quotes the ports of a packet
/// of its own family: 3, 4 and 11 in IPv4, types below 128 in IPv6, with a checksum that is
/// right.
pub fn embedded<A: Family>(frame: &[u8]) -> Option<Embedded<A>> {
    let (packet, quoted) = (carrier::<A>(frame)?, said::<A>(frame)?.quoted);
    let (key, _) = quoted_flow::<A>(quoted)?;
    Some(Embedded {
        key: key.reversed(),
        length: u16::try_from(packet.total_len()).ok()?,
        ttl: packet.hops(),
        dont_fragment: packet.dont_fragment(),
    })
}

/// An ICMP error about the outer header of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboutTunnel<'a> {
    /// Whom the tunnelled packet came from: the director.
    pub source: IpAddr,
    /// Whom it was for: the real server.
    pub destination: IpAddr,
    /// The path MTU towards the real server in octets, outer header included, if the error is
    /// about that; at least what every path has ([`Family::LEAST_PATH`]).
    pub mtu: Option<u16>,
    /// What is between the outer header and the packet.
    pub carrier: Carrier,
    /// Of which protocol the packet in the tunnel is, as IPIP calls it.
    pub protocol: Protocol,
    /// The packet in the tunnel, as much of it as is quoted; often nothing.
    pub inner: &'a [u8],
    /// What its sender is to be told, by a [`Reply`](crate::reply::Reply) about `inner`.
    pub kind: Kind,
}

impl AboutTunnel<'_> {
    /// Whether it is about this tunnel.
    pub fn is_through(&self, tunnel: &Tunnel, envelope: Envelope) -> bool {
        let carrier = match envelope {
            Envelope::Ipip => Carrier::Ipip,
            Envelope::Gre { .. } => Carrier::Gre,
            Envelope::Gue { port, .. } => Carrier::Gue { port: port.into() },
        };
        tunnel.ends() == (self.source, self.destination) && self.carrier == carrier
    }
}

/// What is between a tunnel's outer header and the packet, as far as a quote shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Nothing.
    Ipip,
    /// GRE.
    Gre,
    /// GUE to this UDP port: so is any UDP between the same ends.
    Gue {
        /// The port.
        port: u16,
    },
}

/// The ICMP error in `frame`, of the family `A`, if it is about a tunnel's outer header. The
/// caller makes sure that the tunnel is ours.
pub fn about_tunnel<A: Family>(frame: &[u8]) -> Option<AboutTunnel<'_>> {
    let said = said::<A>(frame)?;
    let ip = A::see(said.quoted, true).ok()?;
    let (protocol, carried) = ip.upper()?;
    let carried = &said.quoted[said.quoted.len() - carried.len()..];
    let (carrier, protocol, inner) = open(protocol, carried)?;
    let mtu = said.mtu.map(path::<A>);
    let overhead = said.quoted.len() - inner.len();
    Some(AboutTunnel {
        source: ip.src().to_ip(),
        destination: ip.dst().to_ip(),
        mtu,
        carrier,
        protocol,
        inner,
        kind: match mtu {
            Some(mtu) => Kind::FragmentationNeeded {
                mtu: mtu.saturating_sub(u16::try_from(overhead).unwrap_or(u16::MAX)),
            },
            None => retold::<A>(&said, protocol),
        },
    })
}

/// What a tunnel's outer header is followed by: the packet is empty where the quote ends before.
fn open(protocol: Protocol, carried: &[u8]) -> Option<(Carrier, Protocol, &[u8])> {
    match protocol {
        Protocol::IPIP | Protocol::IPV6 => Some((Carrier::Ipip, protocol, carried)),
        Protocol::GRE => {
            let gre = gre::Packet::parse(carried).ok()?;
            let inner = match gre.protocol {
                EtherType::IPV4 => Protocol::IPIP,
                EtherType::IPV6 => Protocol::IPV6,
                _ => return None,
            };
            Some((Carrier::Gre, inner, gre.inner))
        }
        Protocol::UDP => {
            let (head, rest) = carried.split_at_checked(udp::LEN)?;
            let port = u16::from_be_bytes([head[2], head[3]]);
            let carrier = Carrier::Gue { port };
            Some(match gue::Packet::parse(rest) {
                Ok(gue) => (carrier, gue.protocol, gue.inner),
                Err(_) => (carrier, Protocol::IPIP, &[]),
            })
        }
        _ => None,
    }
}

/// What the sender of a packet is told when its tunnel of the family `A` failed: the same type
/// and code, as far as `inner`, the packet's own family, has them.
fn retold<A: Family>(said: &Said<'_>, inner: Protocol) -> Kind {
    let same = inner == A::TUNNELLED;
    let is_v4 = A::ICMP == Protocol::ICMP;
    match (is_v4, said.kind) {
        (true, 11) | (false, 3) => Kind::TimeExceeded,
        (true, 3) | (false, 1) if same => Kind::Unreachable { code: said.code },
        _ => Kind::HostUnreachable,
    }
}

/// The path MTU that an error tells of, as far as that is believed.
fn path<A: Family>(said: u32) -> u16 {
    u16::try_from(said).unwrap_or(u16::MAX).max(A::LEAST_PATH)
}

/// The ICMP error in `frame`, of either family, if it is about a tunnel's outer header.
pub fn about_any_tunnel(frame: &[u8]) -> Option<AboutTunnel<'_>> {
    about_tunnel::<u32>(frame).or_else(|| about_tunnel::<u128>(frame))
}

/// Source and destination of a quoted packet of either family.
pub fn quoted_ends(quoted: &[u8]) -> Option<(IpAddr, IpAddr)> {
    fn ends<A: Family>(quoted: &[u8]) -> Option<(IpAddr, IpAddr)> {
        let ip = A::see(quoted, true).ok()?;
        Some((ip.src().to_ip(), ip.dst().to_ip()))
    }
    ends::<u32>(quoted).or_else(|| ends::<u128>(quoted))
}

/// The tuple of a quoted packet, and whether no router may fragment it; `None` where the quote
/// ends before its ports.
pub fn quoted_flow<A: Family>(quoted: &[u8]) -> Option<(Key<A>, bool)> {
    let ip = A::see(quoted, true).ok()?;
    let (protocol, bytes) = ip.upper()?;
    let segment = Quoted::parse(protocol, bytes).ok()?;
    let key = Key {
        source: ip.src(),
        destination: ip.dst(),
        source_port: segment.src_port(),
        destination_port: segment.dst_port(),
        protocol: protocol.0,
    };
    Some((key, ip.dont_fragment()))
}

fn carrier<A: Family>(frame: &[u8]) -> Option<A::Seen<'_>> {
    A::see(frame.get(ethernet::LEN..)?, false).ok()
}

/// What the ICMP error in `frame` says. Found by length, since views keep what they see.
fn said<A: Family>(frame: &[u8]) -> Option<Said<'_>> {
    let packet = frame.get(ethernet::LEN..)?;
    let ip = A::see(packet, false).ok()?;
    let (protocol, message) = ip.upper()?;
    if protocol != A::ICMP {
        return None;
    }
    let end = ip.total_len();
    let message = packet.get(end - message.len()..end)?;
    A::error(message, ip.src(), ip.dst())
}

/// The ends of the packet that carries an error, after the translation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends<A> {
    /// `None`: as it is.
    pub(super) source: Option<A>,
    pub(super) destination: A,
}

/// The ends of the packet that an error quotes, after the translation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote<A> {
    pub(super) source: (A, u16),
    pub(super) destination: (A, u16),
}

/// Rewrites the ICMP error in `frame`.
pub(super) fn translate<A: Family, F: Frame>(
    frame: &mut F,
    link: Link,
    ends: Ends<A>,
    quote: Quote<A>,
) -> Result<(), Reason> {
    pass::<A, F>(frame, link, |ip| {
        let source = ends.source.unwrap_or(ip.src());
        let owed = A::owed(ip.src(), source).and(A::owed(ip.dst(), ends.destination));
        match ip.upper_mut() {
            Some((protocol, message)) if protocol == A::ICMP => {
                A::requote(message, owed, |quoted| requote(quoted, quote))?;
            }
            _ => return Err(Reason::ShortTransport),
        }
        ip.set_src(source);
        ip.set_dst(ends.destination);
        Ok(())
    })
}

/// Puts the numbers of the TCP segment that the ICMP error in `frame` quotes where `seq` and `ack`
/// say, as far as it quotes them; an error about its size asks for one smaller by `less` octets.
pub fn renumber<A: Family>(
    frame: &mut [u8],
    seq: impl Fn(u32) -> u32,
    ack: impl Fn(u32) -> u32,
    less: u16,
) -> Result<(), Reason> {
    let packet = frame.get_mut(ethernet::LEN..).ok_or(Reason::ShortFrame)?;
    let mut ip = A::open(packet, false)?;
    match ip.upper_mut() {
        Some((protocol, message)) if protocol == A::ICMP => {
            if less > 0 {
                A::narrow(message, less);
            }
            A::requote(message, Delta::NONE, |quoted| {
                let mut ip = A::open(quoted, true)?;
                let (protocol, bytes) = ip.upper_mut().ok_or(Reason::ShortTransport)?;
                touch(protocol, bytes, |segment| segment.renumber(seq, ack))
            })
        }
        _ => Err(Reason::ShortTransport),
    }
}

/// The part of a quoted transport header that a rewrite changes: up to TCP's checksum.
const TOUCHED: usize = 18;

/// Rewrites a quoted packet; says what that owes to the message around it.
fn requote<A: Family>(quoted: &mut [u8], quote: Quote<A>) -> Result<Delta, Reason> {
    let mut ip = A::open(quoted, true)?;
    let addresses = A::owed(ip.src(), quote.source.0).and(A::owed(ip.dst(), quote.destination.0));
    let header = ip.checksum();
    let (protocol, bytes) = ip.upper_mut().ok_or(Reason::ShortTransport)?;
    let transport = reseat(protocol, bytes, addresses, quote)?;
    ip.set_src(quote.source.0);
    ip.set_dst(quote.destination.0);
    let header = Delta::u16(header, ip.checksum());
    Ok(addresses.and(header).and(transport))
}

/// New ports in a quoted transport header; says what that owes to the message around it.
fn reseat<A: Copy>(
    protocol: Protocol,
    bytes: &mut [u8],
    addresses: Delta,
    quote: Quote<A>,
) -> Result<Delta, Reason> {
    touch(protocol, bytes, |segment| {
        let ports = segment
            .set_src_port(quote.source.1)
            .and(segment.set_dst_port(quote.destination.1));
        addresses.and(ports)
    })
}

/// Lets `change` rewrite a quoted transport header, and pays what it owes to that one's checksum;
/// says what both owe to the message around it.
fn touch(
    protocol: Protocol,
    bytes: &mut [u8],
    change: impl FnOnce(&mut Quoted<&mut [u8]>) -> Delta,
) -> Result<Delta, Reason> {
    let touched = bytes.len().min(TOUCHED);
    let mut before = [0; TOUCHED];
    before[..touched].copy_from_slice(&bytes[..touched]);
    let mut segment = Quoted::parse(protocol, &mut *bytes).map_err(|_| Reason::ShortTransport)?;
    let owed = change(&mut segment);
    segment.settle(owed);
    Ok(Delta::bytes(&before[..touched], &bytes[..touched]))
}
