//! Tunnelling: the whole packet inside another one, by IPIP, or by GRE or GUE
//! ([`Envelope`](super::Envelope)). The real server unwraps it and answers the client itself.
//!
//! in   [ client MAC > ours | client > VIP:vport  ttl n | .. ]
//! out  [ ours > next       | director > real     ttl n-1 | client > VIP:vport  ttl n-1 | .. ]
//!
//! Any family in any other (RFC 2003, RFC 2473, RFC 4213). The outer header as IPVS writes it:
//! the inner TTL, DSCP and ECN, but ECT(0) where the inner packet met congestion before us; DF
//! of the inner packet where path MTUs are discovered at all.

use std::net::{IpAddr, Ipv6Addr};

use wire::ethernet::{self, EtherType, Macs};
use wire::plain::Aged;
use wire::{Protocol, ipv4, ipv6};

use super::envelope::{Envelope, Seal};
use super::family::{Family, Ip, IpMut};
use super::{Link, Outer};
use crate::conn::Entry;
use crate::port::Frame;
use crate::verdict::Reason;

/// The two ends of a tunnel, which name the outer family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// Inside IPv4: from the director's own address to the real server.
    V4(ipv4::Between),
    /// Inside IPv6.
    V6 {
        /// The director's own address.
        source: Ipv6Addr,
        /// The real server.
        destination: Ipv6Addr,
    },
}

impl Tunnel {
    /// From the director's own address to the real server; `None` between two families.
    pub fn between(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some(Self::V4(ipv4::Between::new(source, destination)))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6 {
                source,
                destination,
            }),
            _ => None,
        }
    }

    /// Where it begins and where it ends.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        match *self {
            Self::V4(ends) => (ends.src().into(), ends.dst().into()),
            Self::V6 {
                source,
                destination,
            } => (source.into(), destination.into()),
        }
    }

    /// Octets of the outer IP header.
    #[inline]
    pub fn overhead(&self) -> u16 {
        match self {
            Self::V4(_) => u32::HEADER,
            Self::V6 { .. } => u128::HEADER,
        }
    }

    /// Puts a plain packet, which has room in the link, into the tunnel without an envelope, and
    /// says where that ends in the frame: padding may follow. `None`, and no change, without room
    /// in the buffer or hops left.
    #[inline(always)]
    pub fn wrap_plain<A: Family, F: Frame>(
        &self,
        frame: &mut F,
        dont_fragment: bool,
        macs: &Macs,
        outer: Outer,
    ) -> Option<usize> {
        match self {
            Self::V4(ends) => {
                let cut = outer.cut(dont_fragment);
                grow::<A, F, { ipv4::LEN }, _>(frame, macs, &In4 { ends, cut })
            }
            Self::V6 {
                source,
                destination,
            } => {
                let ends = (source, destination);
                grow::<A, F, { ipv6::LEN }, _>(frame, macs, &In6 { ends })
            }
        }
    }
}

/// How an outer header of `N` octets is written around what it carries. (A closure would do, but
/// can't be said to be always inlined.)
trait Around<const N: usize> {
    const ETHERTYPE: EtherType;

    fn write(&self, carried: Aged, protocol: Protocol, out: &mut [u8; N]);
}

/// Inside IPv4.
struct In4<'a> {
    ends: &'a ipv4::Between,
    cut: ipv4::Cut,
}

impl Around<{ ipv4::LEN }> for In4<'_> {
    const ETHERTYPE: EtherType = EtherType::IPV4;

    #[inline(always)]
    fn write(&self, carried: Aged, protocol: Protocol, out: &mut [u8; ipv4::LEN]) {
        let lead = carried.lead.uncongested().longer(u32::HEADER);
        self.ends
            .emit(out, lead, self.cut, (carried.hops, protocol));
    }
}

/// Inside IPv6.
struct In6<'a> {
    ends: (&'a Ipv6Addr, &'a Ipv6Addr),
}

impl Around<{ ipv6::LEN }> for In6<'_> {
    const ETHERTYPE: EtherType = EtherType::IPV6;

    #[inline(always)]
    fn write(&self, carried: Aged, protocol: Protocol, out: &mut [u8; ipv6::LEN]) {
        let header = ipv6::Header {
            src: *self.ends.0,
            dst: *self.ends.1,
            next_header: protocol,
            hop_limit: carried.hops,
            traffic_class: carried.lead.uncongested().tos(),
            flow_label: 0,
            payload_len: carried.lead.length(),
        };
        header.emit(out);
    }
}

/// Makes a plain packet one hop older and its frame larger in front by an outer header of `N` octets,
/// which it writes with Ethernet's, and says where that ends. `None`, and no change, without
/// room in the buffer or hops left. The buffer is looked at once: each look costs as much
/// as a word of the header.
#[inline(always)]
fn grow<A: Family, F: Frame, const N: usize, O: Around<N>>(
    frame: &mut F,
    macs: &Macs,
    outer: &O,
) -> Option<usize> {
    if !frame.prepend(N) {
        return None;
    }
    let bytes = frame.bytes_mut();
    let Some(aged) = bytes.get_mut(N..).and_then(A::age_plain) else {
        frame.trim_front(N);
        return None;
    };
    put(outer, (aged, A::TUNNELLED), macs, bytes)?;
    Some(aged.end() + N)
}

/// What the outer header takes from the inner one.
#[derive(Clone, Copy)]
struct Inner {
    aged: Aged,
    protocol: Protocol,
    dont_fragment: bool,
}

/// To the real server, through the tunnel. A packet that fails is left as it was.
#[inline]
pub(super) fn to_real<A: Family, F: Frame>(
    frame: &mut F,
    (tunnel, envelope): (&Tunnel, Envelope),
    entry: &Entry<A>,
    link: Link,
    outer: Outer,
) -> Result<(), Reason> {
    let overhead = tunnel.overhead() + envelope.room();
    let room = frame.headroom() >= usize::from(overhead);
    let inner = age::<A>(frame.bytes_mut(), room, overhead)?;
    frame.truncate(inner.aged.end());
    let seal = match frame.bytes_mut().get_mut(ethernet::LEN..) {
        Some(packet) => envelope.seal(packet, entry),
        None => return Err(Reason::ShortFrame),
    };
    let grown = frame.prepend(usize::from(tunnel.overhead() + seal.room()));
    debug_assert!(grown, "there was headroom");
    wrap(frame.bytes_mut(), tunnel, link, (inner, seal), outer).ok_or(Reason::Oversize)
}

/// Makes the inner packet one hop older, once nothing can fail any more.
#[inline]
fn age<A: Family>(frame: &mut [u8], room: bool, overhead: u16) -> Result<Inner, Reason> {
    let mut ethernet = ethernet::Frame::parse(frame).map_err(|_| Reason::ShortFrame)?;
    let mut ip = A::open(ethernet.payload_mut(), false)?;
    if ip.hops() <= 1 {
        return Err(Reason::TtlExceeded);
    }
    let length = u16::try_from(ip.total_len()).map_err(|_| Reason::Oversize)?;
    length.checked_add(overhead).ok_or(Reason::Oversize)?;
    if !room {
        return Err(Reason::Oversize);
    }
    ip.age();
    Ok(Inner {
        aged: Aged {
            lead: ipv4::Lead::new(ip.tos(), length),
            hops: ip.hops(),
        },
        protocol: A::TUNNELLED,
        dont_fragment: ip.dont_fragment(),
    })
}

/// Writes the Ethernet and the outer header, and what follows that; `None` where they don't
/// fit.
#[inline]
fn wrap(
    frame: &mut [u8],
    tunnel: &Tunnel,
    link: Link,
    (inner, seal): (Inner, Seal),
    outer: Outer,
) -> Option<()> {
    let carried = Aged {
        lead: inner.aged.lead.longer(seal.room()),
        ..inner.aged
    };
    let protocol = seal.protocol(inner.protocol);
    let macs = link.macs();
    let rest = match tunnel {
        Tunnel::V4(ends) => {
            let cut = outer.cut(inner.dont_fragment);
            put(&In4 { ends, cut }, (carried, protocol), &macs, frame)?
        }
        Tunnel::V6 {
            source,
            destination,
        } => {
            let ends = (source, destination);
            put(&In6 { ends }, (carried, protocol), &macs, frame)?
        }
    };
    let (source, destination) = tunnel.ends();
    seal.write(rest, inner.protocol, [source, destination])
}

/// Writes the Ethernet and the outer header, and says what is behind them.
#[inline(always)]
fn put<'a, O: Around<N>, const N: usize>(
    outer: &O,
    (carried, protocol): (Aged, Protocol),
    macs: &Macs,
    frame: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    let (head, rest) = frame.split_first_chunk_mut()?;
    let (header, rest) = rest.split_first_chunk_mut()?;
    macs.emit(head, O::ETHERTYPE);
    outer.write(carried, protocol, header);
    Some(rest)
}
