//! FULLNAT from IPv6 clients to IPv4 real servers: addresses, ports and the header itself
//! (RFC 7915, whose sections the comments name).
//!
//! to the real
//! in   [ IPv6 client:cport > VIP:vport  hops n | extensions | TCP/UDP/SCTP .. ]
//! out  [ IPv4 local:lport  > real:rport ttl n-1             | TCP/UDP/SCTP .. ]   20 octets less
//!
//! back
//! in   [ IPv4 real:rport > local:lport  ttl n  | options | TCP/UDP/SCTP .. ]
//! out  [ IPv6 VIP:vport  > client:cport hops n-1         | TCP/UDP/SCTP .. ]      20 octets more
//!
//! fragments, either way
//! in   [ IPv6 | fragment header: id, place, more | data ]
//! out  [ IPv4   id (lower 16 bits), place, more  | data ]
//!
//! The pseudo-headers of both families add up to the same but for the addresses: protocol and
//! upper-layer length are the same numbers at even places, and zeros count nothing. So TCP's and
//! UDP's checksums are patched by the difference of addresses and ports alone; a test computes
//! them anew. Only a UDP checksum that an IPv4 real server left out is computed in full.
//! SCTP's CRC covers no address; none of its fragments passes, as in FULLNAT.
//!
//! The connection is of the client's family and in its table; the real server's and the local
//! address stand there in the form of [`Address::of_ipv4`]. A packet is looked at first
//! ([`ToReal::of`], [`ToClient::of`]), since its length and whether it may be cut are another
//! family's then; it is rewritten when it is known to leave.

mod error;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::ethernet::{self, EtherType};
use wire::segment::Segment;
use wire::{Delta, Protocol, ipv4, ipv6, tcp, udp};

use super::Link;
use super::ports::set_both;
use crate::conn::{Address, Entry};
use crate::parse::Shape;
use crate::port::Frame;
use crate::reply::Kind;
use crate::verdict::Reason;

pub use error::{Error, about_ours};

/// Octets by which a packet without extensions, options and fragments is longer in IPv6.
pub const GROWTH: u16 = 20;
/// The longest IPv4 packet that may be fragmented on its way: in IPv6 it fits any link
/// (section 5.1).
const MAY_BE_CUT: u32 = 1260;
/// The MTU that every IPv6 link has (RFC 8200 section 5).
const LEAST_V6_MTU: u16 = 1280;

const V4_AT: usize = ethernet::LEN + ipv4::LEN;
const V6_AT: usize = ethernet::LEN + ipv6::LEN;

/// Why a packet is not translated, and what its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub Reason, pub Option<Kind>);

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self(reason, None)
    }
}

/// Which part of a packet a fragment is.
#[derive(Clone, Copy, Debug)]
struct Part {
    offset: usize,
    more: bool,
}

/// What both headers say, and where the transport header, or a later fragment's data, is.
#[derive(Clone, Copy, Debug)]
struct Common {
    tos: u8,
    /// Hops left when it came.
    hops: u8,
    protocol: Protocol,
    /// Where it begins in the frame.
    at: usize,
    len: u16,
    id: u16,
    part: Option<Part>,
}

/// A client's packet, as IPv4 will have it.
#[derive(Clone, Copy, Debug)]
pub struct ToReal(Common);

impl ToReal {
    /// Looks at a client's packet of TCP, UDP or SCTP.
    ///
    /// # Errors
    /// Why it can't be translated.
    pub fn of(frame: &[u8]) -> Result<Self, Refused> {
        let packet = frame.get(ethernet::LEN..).ok_or(Reason::ShortFrame)?;
        let ip = ipv6::Packet::parse(packet).map_err(|_| Reason::ShortHeader)?;
        let upper = ip.upper().map_err(|_| Reason::HeaderChain)?;
        check_extensions(&ip, &upper)?;
        let payload = ip.upper_payload(&upper);
        let common = Common {
            tos: ip.traffic_class(),
            hops: ip.hop_limit(),
            protocol: upper.protocol,
            at: V6_AT + upper.offset,
            len: u16::try_from(payload.len()).map_err(|_| Reason::Oversize)?,
            id: upper.fragment.map_or(0, |part| low_half(part.id)),
            part: upper.fragment.map(|part| Part {
                offset: part.offset,
                more: part.more,
            }),
        };
        if common.checksum(payload)? == Checksum::Absent {
            return Err(Reason::NoUdpChecksum.into());
        }
        Ok(Self(common))
    }

    /// What the link towards the real server asks. Where it must not be cut, the client is told
    /// of a path [`GROWTH`] octets wider.
    pub fn shape(&self) -> Shape {
        let length = u32::from(u16::saturating_add(self.0.len, GROWTH));
        Shape {
            length,
            ttl: self.0.hops,
            dont_fragment: self.0.part.is_none() && length > MAY_BE_CUT,
        }
    }

    /// Rewrites the packet in `frame` between the connection's local address and its real server;
    /// one that is no fragment is known by `id`.
    ///
    /// # Errors
    /// [`Reason::Untranslatable`] where the real server is not IPv4. The frame is then as it was.
    pub fn apply<A: Address, F: Frame>(
        &self,
        frame: &mut F,
        entry: &Entry<A>,
        link: Link,
        id: u16,
    ) -> Result<(), Reason> {
        let ToReal(common) = *self;
        let (local, real) = ends_v4(entry).ok_or(Reason::Untranslatable)?;
        let total = common.len.checked_add(20).ok_or(Reason::Oversize)?;
        debug_assert_eq!(usize::from(total - common.len), ipv4::LEN);
        let end = common.at + usize::from(common.len);
        let upper = frame.bytes_mut().get_mut(common.at..end);
        let owed = Delta::addr(entry.client.to_ip(), local.into())
            .and(Delta::addr(entry.vip.to_ip(), real.into()));
        common.reseat(
            upper.ok_or(Reason::ShortFrame)?,
            owed,
            (entry.local_port, entry.real_port),
        )?;
        frame.truncate(end);
        frame.trim_front(common.at - V4_AT);
        let (head, rest) = split(frame.bytes_mut())?;
        ethernet::emit(head, link.ours, link.next, EtherType::IPV4);
        self.emit(rest, local, real, id)
    }

    fn emit(&self, out: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr, id: u16) -> Result<(), Reason> {
        let ToReal(common) = *self;
        let head = out.first_chunk_mut().ok_or(Reason::ShortFrame)?;
        ipv4::Header {
            src,
            dst,
            protocol: common.protocol,
            ttl: common.hops.saturating_sub(1),
            tos: common.tos,
            id: common.part.map_or(id, |_| common.id),
            dont_fragment: self.shape().dont_fragment,
            payload_len: common.len,
        }
        .emit(head);
        if let Some(part) = common.part {
            place(&mut head[..], part);
        }
        Ok(())
    }
}

/// A real server's packet, as IPv6 will have it.
#[derive(Clone, Copy, Debug)]
pub struct ToClient {
    common: Common,
    dont_fragment: bool,
    checksum: Checksum,
}

impl ToClient {
    /// Looks at a real server's packet of TCP, UDP or SCTP.
    ///
    /// # Errors
    /// Why it can't be translated.
    pub fn of(frame: &[u8]) -> Result<Self, Refused> {
        let packet = frame.get(ethernet::LEN..).ok_or(Reason::ShortFrame)?;
        let ip = ipv4::Packet::parse(packet).map_err(|_| Reason::ShortHeader)?;
        if is_source_routed(ip.options()) {
            let code = wire::icmpv4::unreachable::SOURCE_ROUTE_FAILED;
            let kind = Kind::Unreachable { code };
            return Err(Refused(Reason::SourceRoute, Some(kind)));
        }
        let common = Common {
            tos: ip.tos(),
            hops: ip.ttl(),
            protocol: ip.protocol(),
            at: ethernet::LEN + ip.header_len(),
            len: u16::try_from(ip.payload().len()).map_err(|_| Reason::Oversize)?,
            id: ip.id(),
            part: ip.is_fragment().then(|| Part {
                offset: ip.fragment_offset(),
                more: ip.more_fragments(),
            }),
        };
        let checksum = common.checksum(ip.payload())?;
        if checksum == Checksum::Absent && common.part.is_some() {
            return Err(Reason::NoUdpChecksum.into());
        }
        Ok(Self {
            common,
            dont_fragment: ip.dont_fragment(),
            checksum,
        })
    }

    /// What the link towards the client asks. Where it must not be cut, the real server is told
    /// of a path [`growth`](Self::growth) octets narrower.
    pub fn shape(&self) -> Shape {
        Shape {
            length: u32::from(self.common.len) + u32::from(size(ipv4::LEN) + self.growth()),
            ttl: self.common.hops,
            dont_fragment: self.dont_fragment,
        }
    }

    /// Octets by which a packet like this, without options, is longer in IPv6: [`GROWTH`], and a
    /// fragment header's if it is a fragment.
    pub fn growth(&self) -> u16 {
        match self.common.part {
            Some(_) => GROWTH + size(ipv6::FRAGMENT_LEN),
            None => GROWTH,
        }
    }

    /// To what length it has to be cut for a link of `mtu` octets, if it has: what its sender let
    /// be fragmented must fit any link beyond, where nobody fragments (section 4).
    pub fn cut(&self, mtu: u16) -> Option<u16> {
        let least = mtu.min(LEAST_V6_MTU);
        let shape = self.shape();
        (!shape.dont_fragment && shape.length > u32::from(least)).then_some(least)
    }

    /// Rewrites the packet in `frame` between the VIP and the connection's client; with `cut` so
    /// that it may be cut, that is with a fragment header.
    ///
    /// # Errors
    /// [`Reason::Oversize`] where the frame's buffer has no room in front. It is then as it was.
    pub fn apply<A: Address, F: Frame>(
        &self,
        frame: &mut F,
        entry: &Entry<A>,
        link: Link,
        cut: bool,
    ) -> Result<(), Reason> {
        let common = self.common;
        let (local, real) = ends_v4(entry).ok_or(Reason::Untranslatable)?;
        let (vip, client) = (as_v6(entry.vip.to_ip()), as_v6(entry.client.to_ip()));
        let whole = Part {
            offset: 0,
            more: false,
        };
        let part = common.part.or(cut.then_some(whole));
        let at = V6_AT + part.map_or(0, |_| ipv6::FRAGMENT_LEN);
        let len = usize::from(common.len);
        let more = u16::try_from(at - V6_AT).expect("8 at most");
        let payload_len = common.len.checked_add(more).ok_or(Reason::Oversize)?;
        frame.truncate(common.at + len);
        if !frame.prepend(at.saturating_sub(common.at)) {
            return Err(Reason::Oversize);
        }
        frame.trim_front(common.at.saturating_sub(at));
        let owed =
            Delta::addr(real.into(), vip.into()).and(Delta::addr(local.into(), client.into()));
        let (head, rest) = split(frame.bytes_mut())?;
        ethernet::emit(head, link.ours, link.next, EtherType::IPV6);
        let (head, rest) = rest.split_first_chunk_mut().ok_or(Reason::ShortFrame)?;
        ipv6::Header {
            src: vip,
            dst: client,
            next_header: part.map_or(common.protocol, |_| Protocol::FRAGMENT),
            hop_limit: common.hops.saturating_sub(1),
            traffic_class: common.tos,
            flow_label: 0,
            payload_len,
        }
        .emit(head);
        let (header, upper) = rest
            .split_at_mut_checked(at - V6_AT)
            .ok_or(Reason::ShortFrame)?;
        if let Some(part) = part {
            write_fragment(header, common.protocol, part, common.id);
        }
        common.reseat(upper, owed, (entry.vip_port, entry.client_port))?;
        if self.checksum == Checksum::Absent {
            compute(upper, vip, client);
        }
        Ok(())
    }
}

/// How things stand with a UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksum {
    /// It is there, or none is in this part, or the protocol always has one.
    Kept,
    /// There is none.
    Absent,
}

impl Common {
    /// Whether the transport header is in this packet.
    fn begins(&self) -> bool {
        self.part.is_none_or(|part| part.offset == 0)
    }

    fn segment<B: wire::Bytes>(&self, upper: B) -> Result<Segment<B>, Reason> {
        let parsed = match self.part {
            Some(Part { more: true, .. }) => Segment::parse_first_fragment(self.protocol, upper),
            _ => Segment::parse(self.protocol, upper),
        };
        parsed.map_err(|_| Reason::ShortTransport)
    }

    fn checksum(&self, upper: &[u8]) -> Result<Checksum, Reason> {
        let is_part = self.part.is_some_and(|part| part.more || part.offset > 0);
        if is_part && self.protocol == Protocol::SCTP {
            return Err(Reason::SctpFragment);
        }
        if !self.begins() {
            return Ok(Checksum::Kept);
        }
        Ok(match self.segment(upper)? {
            Segment::Udp(datagram) if datagram.checksum() == 0 => Checksum::Absent,
            _ => Checksum::Kept,
        })
    }

    /// New ports, and what the pseudo-header owes.
    fn reseat(&self, upper: &mut [u8], owed: Delta, ports: (u16, u16)) -> Result<(), Reason> {
        if !self.begins() {
            return Ok(());
        }
        let mut segment = self.segment(upper)?;
        let ports = set_both(&mut segment, ports.0, ports.1);
        segment.settle(owed.and(ports));
        Ok(())
    }
}

/// The largest segment that reaches a client whole over a link of `mtu` octets.
pub fn mss_to_client(mtu: u16) -> u16 {
    mtu.saturating_sub(size(ipv6::LEN) + size(tcp::LEN))
}

/// The largest segment that reaches a real server whole over a link of `mtu` octets.
pub fn mss_to_real(mtu: u16) -> u16 {
    mtu.saturating_sub(size(ipv4::LEN) + size(tcp::LEN))
}

fn size(header: usize) -> u16 {
    u16::try_from(header).expect("a small constant")
}

/// The extension headers that are left out must not matter: a routing header is used up, nothing
/// is authenticated, and none is behind a fragment header, where it would be part of what the
/// fragments' places count (sections 5.1 and 5.1.1).
fn check_extensions(ip: &ipv6::Packet<&[u8]>, upper: &ipv6::Upper) -> Result<(), Refused> {
    const SEGMENTS_LEFT: usize = 3;
    let mut in_fragment = false;
    for (kind, at) in ip.extensions(upper) {
        let left = ip.payload().get(at + SEGMENTS_LEFT);
        if kind == Protocol::ROUTING && left.is_some_and(|&left| left != 0) {
            let pointer = u16::try_from(ipv6::LEN + at + SEGMENTS_LEFT).unwrap_or(u16::MAX);
            let kind = Kind::ErroneousField { pointer };
            return Err(Refused(Reason::SourceRoute, Some(kind)));
        }
        if kind == Protocol::AH || in_fragment {
            return Err(Reason::Untranslatable.into());
        }
        in_fragment = kind == Protocol::FRAGMENT;
    }
    Ok(())
}

/// Whether IPv4 options have a source route that is not used up (section 4.1); one that is cut
/// short is taken for one.
fn is_source_routed(mut options: &[u8]) -> bool {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    while let Some((&kind, rest)) = options.split_first() {
        let len = match kind {
            END => return false,
            NO_OPERATION => 1,
            _ => usize::from(rest.first().copied().unwrap_or(0)).max(2),
        };
        if matches!(kind, LOOSE | STRICT) {
            let pointer = rest.get(1).map_or(0, |&pointer| usize::from(pointer));
            return pointer <= len;
        }
        options = options.get(len..).unwrap_or_default();
    }
    false
}

fn ends_v4<A: Address>(entry: &Entry<A>) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (local, real) = (entry.local.ipv4_inside()?, entry.real.ipv4_inside()?);
    Some((Ipv4Addr::from_bits(local), Ipv4Addr::from_bits(real)))
}

/// An address of the client's side.
fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    }
}

fn split(frame: &mut [u8]) -> Result<(&mut [u8; ethernet::LEN], &mut [u8]), Reason> {
    frame.split_first_chunk_mut().ok_or(Reason::ShortFrame)
}

fn low_half(id: u32) -> u16 {
    let [_, _, high, low] = id.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Says in an IPv4 header which part of its packet this is; it may be fragmented further.
fn place(header: &mut [u8], part: Part) {
    if let Ok(mut ip) = ipv4::Packet::parse_quoted(header) {
        ip.set_dont_fragment(false);
        ip.set_position(part.offset, part.more);
    }
}

/// Writes an IPv6 fragment header; the upper half of its identification is 0 (section 4).
fn write_fragment(header: &mut [u8], protocol: Protocol, part: Part, id: u16) {
    if let Some(header) = header.first_chunk_mut::<{ ipv6::FRAGMENT_LEN }>() {
        *header = [protocol.0, 0, 0, 0, 0, 0, 0, 0];
        if let Ok(mut fragment) = ipv6::Fragment::parse(&mut header[..]) {
            let offset = u16::try_from(part.offset).unwrap_or(u16::MAX);
            fragment.set_position(offset, part.more);
            fragment.set_id(id.into());
        }
    }
}

/// Computes the checksum that a UDP datagram lacks.
fn compute(upper: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let length = udp::Packet::parse(&*upper).map(|datagram| datagram.length());
    if let Some(datagram) = length.ok().and_then(|length| upper.get_mut(..length)) {
        udp::write_checksum(datagram, src.into(), dst.into());
    }
}
