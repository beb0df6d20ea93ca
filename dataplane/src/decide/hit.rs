//! The common packet: plain, of an established connection that goes on as it was.
//!
//! [`Context::hit`] does for it what [`decide`](super::decide) would, byte for byte and count for
//! count, at less than half of the cost: nothing here opens, ends, refuses, answers, cuts or
//! waits. Whatever is not so common gets `None`, with nothing changed, and is decided at length. A
//! test runs the same packets both ways.

use wire::plain::Ends;
use wire::{Protocol, tcp as segment};

use super::{Context, flow_of};
use crate::conn::tcp::State as Tcp;
use crate::conn::timeout::Timeouts;
use crate::conn::{Entry, Flags, Side, Slot};
use crate::fwd::{Envelope, Forwarder, Link};
use crate::observe::Event;
use crate::parse::Packet;
use crate::port::{Frame, PortId};
use crate::services::{Blocks, Hop, HopId, Real, Snapshot, Standing, Towards, Traffic};
use crate::state::Stored;
use crate::time::Millis;

/// TCP's control bits that say something of the connection's state.
const TELLING: u8 =
    segment::Flags::FIN.0 | segment::Flags::SYN.0 | segment::Flags::RST.0 | segment::Flags::ACK.0;

impl Context<'_> {
    /// Takes a common packet through its connection and says which port it leaves by.
    #[inline(never)]
    pub fn hit<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
    ) -> Option<PortId> {
        let last = packet.key.destination.last();
        if !packet.plain || self.snapshot.addresses.may_be_not_held(last) {
            return None;
        }
        match packet.guess.place() {
            (slot, Side::Client) => self.hit_by_client(frame, packet, slot),
            (slot, Side::Real) => self.hit_by_real(frame, packet, slot),
        }
    }

    /// The same for IPv6, kept apart so that IPv4's packets have the processor's registers.
    #[inline(never)]
    pub fn hit_v6<F: Frame>(&mut self, frame: &mut F, packet: &Packet<u128>) -> Option<PortId> {
        self.hit(frame, packet)
    }

    #[inline(always)]
    fn hit_by_client<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
    ) -> Option<PortId> {
        let at = (slot, Side::Client);
        let entry = A::table(self.state).guessed(at, &packet.key, self.now)?;
        if !goes_on(entry, at.1, packet, &self.snapshot.settings.timeouts) {
            return None;
        }
        let (real, traffic) = behind(self.snapshot, self.blocks, entry)?;
        if matches!(real.forwarder, Forwarder::Tun { .. }) {
            return self.hit_tunnel(frame, packet, slot, (real, traffic));
        }
        if matches!(real.forwarder, Forwarder::Nat64 { .. }) {
            return None;
        }
        let hop = real.forwarder.hop()?;
        let (port, link) = road(self.snapshot, frame, hop, packet, 0)?;
        let macs = link.macs();
        let end = match real.forwarder {
            Forwarder::Dr { .. } => A::pass_plain(frame.bytes_mut(), macs)?,
            _ => A::readdress_plain(frame.bytes_mut(), macs, ends(entry, at.1))?,
        };
        frame.truncate(end);
        count(frame, entry, at.1, packet, traffic, self.now);
        Some(port)
    }

    #[inline(always)]
    fn hit_by_real<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
    ) -> Option<PortId> {
        let at = (slot, Side::Real);
        let entry = A::table(self.state).guessed(at, &packet.key, self.now)?;
        if !goes_on(entry, at.1, packet, &self.snapshot.settings.timeouts) {
            return None;
        }
        let (real, traffic) = behind(self.snapshot, self.blocks, entry)?;
        if !matches!(
            real.forwarder,
            Forwarder::Nat { .. } | Forwarder::FullNat { .. }
        ) {
            return None;
        }
        let flow = flow_of(&packet.key);
        let Towards::Hop(hop) = self.snapshot.routes.towards(entry.client, flow)? else {
            return None;
        };
        let (port, link) = road(self.snapshot, frame, hop, packet, 0)?;
        let end = A::readdress_plain(frame.bytes_mut(), link.macs(), ends(entry, at.1))?;
        frame.truncate(end);
        count(frame, entry, at.1, packet, traffic, self.now);
        Some(port)
    }

    /// A client's packet into a tunnel: apart, for the others need none of it.
    #[inline(never)]
    fn hit_tunnel<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        (real, traffic): (&Real, Traffics<'_>),
    ) -> Option<PortId> {
        let Forwarder::Tun {
            hop,
            ref tunnel,
            envelope,
            narrower,
        } = real.forwarder
        else {
            return None;
        };
        let overhead = match envelope {
            Envelope::Ipip => tunnel.overhead() + narrower,
            _ => real.forwarder.overhead(),
        };
        let (port, link) = road(self.snapshot, frame, hop, packet, overhead)?;
        let outer = self.outer(&real.forwarder, false);
        let entry = A::table(self.state).entry_mut(slot);
        match envelope {
            Envelope::Ipip => tunnel.wrap_plain::<A, F>(frame, packet.shape, link, outer)?,
            _ => real.forwarder.to_real(frame, entry, link, outer).ok()?,
        }
        count(frame, entry, Side::Client, packet, traffic, self.now);
        Some(port)
    }
}

/// What a connection's real server and service count of packets.
type Traffics<'a> = [&'a Traffic; 2];

/// The connection's real server and what is counted, where that server has nothing more to say.
#[inline(always)]
fn behind<'a, A>(
    snapshot: &'a Snapshot,
    blocks: &'a Blocks,
    entry: &Entry<A>,
) -> Option<(&'a Real, Traffics<'a>)> {
    let real = snapshot.reals.get(entry.real_id.0)?;
    let block = blocks.reals.get(entry.real_id.0)?;
    let own = blocks.services.get(entry.service.0)?;
    let settled = real.standing == Standing::Settled;
    settled.then_some((real, [&block.traffic, &own.traffic]))
}

/// The way there, if its MAC is known and the packet may take it whole with `overhead` more
/// octets.
#[inline(always)]
fn road<A, F: Frame>(
    snapshot: &Snapshot,
    frame: &mut F,
    hop: HopId,
    packet: &Packet<A>,
    overhead: u16,
) -> Option<(PortId, Link)> {
    let Some(&Hop {
        destination: Some(next),
        source,
        port,
    }) = snapshot.hops.get(hop.0)
    else {
        return None;
    };
    let view = snapshot.ports.get(usize::from(port.0))?;
    let room = u32::from(view.mtu.saturating_sub(overhead));
    let goes = packet.shape.length <= room && packet.shape.ttl > 1;
    if goes {
        let (towards, mtu) = (Towards::Hop(hop), view.mtu);
        frame.observe(Event::Way { towards, mtu });
    }
    goes.then_some((port, Link { ours: source, next }))
}

/// Counts the packet, everywhere, once nothing can stop it any more.
#[inline(always)]
fn count<A: Stored, F: Frame>(
    frame: &mut F,
    entry: &mut Entry<A>,
    side: Side,
    packet: &Packet<A>,
    traffics: Traffics<'_>,
    now: Millis,
) {
    for traffic in traffics {
        match side {
            Side::Client => traffic.inbound(packet.shape.length),
            Side::Real => traffic.outbound(packet.shape.length),
        }
    }
    frame.observe(Event::of(entry, side));
    entry.last_seen = now;
    entry.packets = entry.packets.saturating_add(1);
    frame.observe(Event::Moved(entry));
}

/// Whether the packet leaves its connection's state and timeout as they are, goes where the
/// routes say, and with new ends alone.
#[inline(always)]
fn goes_on<A: Stored>(
    entry: &Entry<A>,
    side: Side,
    packet: &Packet<A>,
    timeouts: &Timeouts,
) -> bool {
    if entry.flags.has(Flags::TO_SENDER | Flags::TOLD) {
        return false;
    }
    if packet.key.protocol == Protocol::TCP.0 {
        let established = entry.state == Tcp::Established as u8;
        let tells = packet.flags.0 & TELLING;
        let stays = entry.timeout_ms == timeouts.tcp(Tcp::Established);
        established & (tells == segment::Flags::ACK.0) & stays
    } else {
        let known = entry.packets >= 2 && entry.timeout_ms == timeouts.udp;
        known && (side == Side::Client || entry.template().is_none())
    }
}

/// Who a packet that arrives on `side` is between when it leaves, where the mode changes that.
#[inline(always)]
fn ends<A: Stored>(entry: &Entry<A>, side: Side) -> Ends<A> {
    match side {
        Side::Client => Ends {
            src: entry.local,
            dst: entry.real,
            src_port: entry.local_port,
            dst_port: entry.real_port,
        },
        Side::Real => Ends {
            src: entry.vip,
            dst: entry.client,
            src_port: entry.vip_port,
            dst_port: entry.client_port,
        },
    }
}
