//! Tunnelling: the whole packet inside another one, by IPIP, or by GRE or GUE
//! ([`Envelope`](super::Envelope)). The real server unwraps it and answers the client itself.
//!
//! in   [ client MAC > ours | client > VIP:vport  ttl n | .. ]
//! out  [ ours > next       | director > real     ttl n-1 | client > VIP:vport  ttl n-1 | .. ]
//!
//! Any family in any other (RFC 2003, RFC 2473, RFC 4213). The outer header as IPVS writes it:
//! the inner TTL, DSCP and ECN, but ECT(0) where the inner packet met congestion before us; DF
//! of the inner packet where path MTUs are discovered at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// Inside IPv4.
    V4 {
        /// The director's own address.
        source: Ipv4Addr,
        /// The real server.
        destination: Ipv4Addr,
    },
    /// Inside IPv6.
    V6 {
        /// The director's own address.
        source: Ipv6Addr,
        /// The real server.
        destination: Ipv6Addr,
    },
}

impl Tunnel {
    /// Where it begins and where it ends.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        match *self {
            Self::V4 {
                source,
                destination,
            } => (source.into(), destination.into()),
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
            Self::V4 { .. } => u32::HEADER,
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
        match *self {
            Self::V4 {
                source,
                destination,
            } => grow::<A, F, { ipv4::LEN }>(frame, |aged, head, header| {
                macs.emit(head, EtherType::IPV4);
                let inner = inner::<A>(&aged, dont_fragment);
                v4(&inner, outer, source, destination).emit(header);
            }),
            Self::V6 {
                source,
                destination,
            } => grow::<A, F, { ipv6::LEN }>(frame, |aged, head, header| {
                macs.emit(head, EtherType::IPV6);
                let inner = inner::<A>(&aged, dont_fragment);
                v6(&inner, source, destination).emit(header);
            }),
        }
    }
}

/// Makes a plain packet one hop older and its frame larger in front by an outer header of `N` octets,
/// which `write` writes with Ethernet's, and says where that ends. `None`, and no change, without
/// room in the buffer or hops left. The buffer is looked at once: each look costs as much
/// as a word of the header.
#[inline(always)]
fn grow<A: Family, F: Frame, const N: usize>(
    frame: &mut F,
    write: impl FnOnce(Aged, &mut [u8; ethernet::LEN], &mut [u8; N]),
) -> Option<usize> {
    if !frame.prepend(N) {
        return None;
    }
    let bytes = frame.bytes_mut();
    let Some(aged) = bytes.get_mut(N..).and_then(A::age_plain) else {
        frame.trim_front(N);
        return None;
    };
    let (head, rest) = bytes.split_first_chunk_mut()?;
    write(aged, head, rest.first_chunk_mut()?);
    Some(aged.end() + N)
}

#[inline(always)]
fn inner<A: Family>(aged: &Aged, dont_fragment: bool) -> Inner {
    Inner {
        protocol: A::TUNNELLED,
        hops: aged.hops,
        tos: outer_tos(aged.tos),
        dont_fragment,
        length: aged.length,
    }
}

/// What the outer header takes from the inner one.
#[derive(Clone, Copy)]
struct Inner {
    protocol: Protocol,
    hops: u8,
    tos: u8,
    dont_fragment: bool,
    length: u16,
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
    frame.truncate(ethernet::LEN + usize::from(inner.length));
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
        protocol: A::TUNNELLED,
        hops: ip.hops(),
        tos: outer_tos(ip.tos()),
        dont_fragment: ip.dont_fragment(),
        length,
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
    let carried = Inner {
        protocol: seal.protocol(inner.protocol),
        length: inner.length + seal.room(),
        ..inner
    };
    let (head, rest) = frame.split_first_chunk_mut()?;
    match *tunnel {
        Tunnel::V4 {
            source,
            destination,
        } => {
            ethernet::emit(head, link.ours, link.next, EtherType::IPV4);
            let (header, rest) = rest.split_first_chunk_mut()?;
            v4(&carried, outer, source, destination).emit(header);
            seal.write(rest, inner.protocol, [source.into(), destination.into()])
        }
        Tunnel::V6 {
            source,
            destination,
        } => {
            ethernet::emit(head, link.ours, link.next, EtherType::IPV6);
            let (header, rest) = rest.split_first_chunk_mut()?;
            v6(&carried, source, destination).emit(header);
            seal.write(rest, inner.protocol, [source.into(), destination.into()])
        }
    }
}

#[inline(always)]
fn v4(inner: &Inner, outer: Outer, src: Ipv4Addr, dst: Ipv4Addr) -> ipv4::Header {
    let dont_fragment = inner.dont_fragment && outer.pmtu_disc;
    ipv4::Header {
        src,
        dst,
        protocol: inner.protocol,
        ttl: inner.hops,
        tos: inner.tos,
        id: if dont_fragment { 0 } else { outer.id },
        dont_fragment,
        payload_len: inner.length,
    }
}

#[inline(always)]
fn v6(inner: &Inner, src: Ipv6Addr, dst: Ipv6Addr) -> ipv6::Header {
    ipv6::Header {
        src,
        dst,
        next_header: inner.protocol,
        hop_limit: inner.hops,
        traffic_class: inner.tos,
        flow_label: 0,
        payload_len: inner.length,
    }
}

/// DSCP and ECN of the outer header: congestion that the inner packet met is not the tunnel's
/// (RFC 3168 section 9.1.1, the full-functionality option).
#[inline]
fn outer_tos(inner: u8) -> u8 {
    const ECN: u8 = 3;
    const CONGESTED: u8 = 3;
    const CAPABLE: u8 = 2;
    inner - u8::from(inner & ECN == CONGESTED) * (CONGESTED - CAPABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_congestion_is_not_copied() {
        let cases = [(0, 0), (0xb9, 0xb9), (0xba, 0xba), (0xbb, 0xba), (3, 2)];
        for (inner, outer) in cases {
            assert_eq!(outer_tos(inner), outer, "{inner:#x}");
        }
    }
}
