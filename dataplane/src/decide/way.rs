//! The way that a packet leaves by, if there is one.

use std::net::IpAddr;

use wire::Protocol;
use wire::ethernet::Mac;

use super::{Context, Refusal};
use crate::conn::Key;
use crate::fwd::{Family, Link};
use crate::observe;
use crate::parse::Shape;
use crate::port::PortId;
use crate::reply::Kind;
use crate::services::{Hop, Snapshot, Towards};
use crate::verdict::{Reason, Verdict};

/// How a packet leaves, once it is rewritten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) verdict: Verdict,
    pub(super) link: Link,
    /// Of the link, in octets.
    pub(super) mtu: u16,
    /// The packet is too large, and may be cut once it is rewritten.
    pub(super) cut: bool,
}

impl Way {
    #[inline]
    pub(super) fn event(&self, towards: Towards) -> observe::Event<'static> {
        let mtu = self.mtu;
        observe::Event::Way { towards, mtu }
    }
}

/// The way there, after the checks that every mode needs: hops left, and room in the link for
/// the packet and `overhead` more octets.
#[inline(always)]
pub(super) fn way<A: Family>(
    snapshot: &Snapshot,
    shape: Shape,
    towards: Towards,
    overhead: u16,
) -> Result<Way, Refusal> {
    if shape.ttl <= 1 {
        return Err(Refusal(Reason::TtlExceeded, Some(Kind::TimeExceeded)));
    }
    let resolved = match towards {
        Towards::Hop(hop) => snapshot.hops.get(hop.0).copied(),
        Towards::Unknown(_) => None,
        Towards::At(port, mac) => at(snapshot, port, mac),
    };
    let resolved = resolved.and_then(|hop| Some((hop, hop.destination()?)));
    let (hop, next) = match resolved {
        Some(resolved) => resolved,
        None => (unresolved(snapshot, towards)?, UNKNOWN),
    };
    let view = snapshot
        .ports
        .get(usize::from(hop.port.0))
        .ok_or(Reason::NoPort)?;
    let room = view.mtu.saturating_sub(overhead);
    let cut = shape.length > u32::from(room);
    if cut && shape.dont_fragment && !is_cut_outside::<A>(snapshot, shape, room, overhead) {
        return Err(too_large(room));
    }
    Ok(Way {
        verdict: match resolved {
            Some(_) => Verdict::Transmit(hop.port),
            None => Verdict::Resolve(towards),
        },
        link: Link {
            ours: hop.source(),
            next,
        },
        mtu: view.mtu,
        cut,
    })
}

/// A next hop whose MAC control has to find; there is none where nothing says whose that is.
#[cold]
fn unresolved(snapshot: &Snapshot, towards: Towards) -> Result<Hop, Reason> {
    match towards {
        Towards::Hop(hop) => {
            snapshot.next_hops.get(hop.0).ok_or(Reason::NoRoute)?;
            let hop = snapshot.hops.get(hop.0).ok_or(Reason::NoNeighbour)?;
            Ok(*hop)
        }
        Towards::Unknown(port) | Towards::At(port, _) => {
            let view = snapshot.ports.get(usize::from(port.0));
            let source = view.ok_or(Reason::NoPort)?.mac;
            Ok(Hop::new(port, source, None))
        }
    }
}

/// What stands for a MAC until control has found it.
const UNKNOWN: Mac = Mac([0; 6]);

/// A next hop that is known by its MAC alone.
#[cold]
pub(crate) fn at(snapshot: &Snapshot, port: PortId, mac: Mac) -> Option<Hop> {
    let view = snapshot.ports.get(usize::from(port.0))?;
    Some(Hop::new(port, view.mac, Some(mac)))
}

/// Whether a packet in a tunnel that may not be cut itself goes all the same, in an outer packet
/// that is: IPv4 where path MTUs are not discovered (reference B.9), IPv6 where every link would
/// have taken it (RFC 2473 section 7.1, RFC 4213 section 3.2.1).
#[cold]
fn is_cut_outside<A: Family>(snapshot: &Snapshot, shape: Shape, room: u16, overhead: u16) -> bool {
    let small = shape.length <= u32::from(A::LEAST_MTU);
    let is_v4 = A::ICMP == Protocol::ICMP;
    overhead > 0 && (small || is_v4 && !snapshot.settings.pmtu_disc) && room > 0
}

#[cold]
fn too_large(mtu: u16) -> Refusal {
    Refusal(
        Reason::NeedsFragmentation,
        Some(Kind::FragmentationNeeded { mtu }),
    )
}

impl Context<'_> {
    /// The way towards a client.
    #[inline]
    pub(super) fn towards(&self, client: IpAddr, flow: u32) -> Result<Towards, Refusal> {
        let found = self.snapshot.routes.find(client, flow);
        found.ok_or(Refusal(Reason::NoRoute, None))
    }
}

/// What shares a real server's packets out among several gateways.
#[inline]
pub(super) fn flow_of<A>(reply: &Key<A>) -> u32 {
    u32::from(reply.destination_port)
}
