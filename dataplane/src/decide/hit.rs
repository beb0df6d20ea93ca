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
use crate::services::{Hop, HopId, Real, Standing, Towards};
use crate::state::Stored;

/// TCP's control bits that say something of the connection's state.
const TELLING: u8 =
    segment::Flags::FIN.0 | segment::Flags::SYN.0 | segment::Flags::RST.0 | segment::Flags::ACK.0;

impl Context<'_> {
    /// Takes a common packet through its connection and says which port it leaves by.
    #[inline(always)]
    pub fn hit<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
    ) -> Option<PortId> {
        if !packet.plain || self.snapshot.addresses.any_not_held() {
            return None;
        }
        let table = A::table(self.state);
        let (slot, side) = table.guessed(packet.guess, &packet.key, self.now)?;
        let entry = table.entry(slot);
        let timeouts = &self.snapshot.settings.timeouts;
        if !goes_on(entry, side, packet, timeouts) {
            return None;
        }
        let (real_id, service, ends) = (entry.real_id.0, entry.service.0, ends(entry, side));
        let real = self.snapshot.reals.get(real_id)?;
        let traffic = &self.blocks.reals.get(real_id)?.traffic;
        let own = &self.blocks.services.get(service)?.traffic;
        if real.standing != Standing::Settled {
            return None;
        }
        let port = match side {
            Side::Client => {
                let port = self.send_to_real(frame, packet, slot, real, ends)?;
                traffic.inbound(packet.shape.length);
                own.inbound(packet.shape.length);
                port
            }
            Side::Real => {
                let port = self.send_to_client(frame, packet, real, ends)?;
                traffic.outbound(packet.shape.length);
                own.outbound(packet.shape.length);
                port
            }
        };
        let entry = A::table(self.state).entry_mut(slot);
        frame.observe(Event::of(entry, side));
        entry.last_seen = self.now;
        entry.packets = entry.packets.saturating_add(1);
        frame.observe(Event::Moved(entry));
        Some(port)
    }

    #[inline(always)]
    fn send_to_real<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        real: &Real,
        ends: Ends<A>,
    ) -> Option<PortId> {
        let (hop, overhead) = match real.forwarder {
            Forwarder::Dr { hop } | Forwarder::Nat { hop } | Forwarder::FullNat { hop } => (hop, 0),
            Forwarder::Tun { hop, .. } => (hop, real.forwarder.overhead()),
            Forwarder::Nat64 { .. } | Forwarder::Local => return None,
        };
        let (port, link) = self.open_road(frame, hop, packet, overhead)?;
        match real.forwarder {
            Forwarder::Dr { .. } => pass::<A, F>(frame, link)?,
            Forwarder::Tun {
                envelope: Envelope::Ipip,
                ..
            } => {
                let outer = self.outer(&real.forwarder, false);
                let shape = packet.shape;
                let tunnelled = real
                    .forwarder
                    .tunnel_plain::<A, F>(frame, shape, link, outer);
                tunnelled?;
            }
            Forwarder::Tun { .. } => {
                let outer = self.outer(&real.forwarder, false);
                let entry = A::table(self.state).entry(slot);
                real.forwarder.to_real(frame, entry, link, outer).ok()?;
            }
            _ => readdress(frame, link, ends)?,
        }
        Some(port)
    }

    #[inline(always)]
    fn send_to_client<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        real: &Real,
        ends: Ends<A>,
    ) -> Option<PortId> {
        if !matches!(
            real.forwarder,
            Forwarder::Nat { .. } | Forwarder::FullNat { .. }
        ) {
            return None;
        }
        let flow = flow_of(&packet.key);
        let Towards::Hop(hop) = self.snapshot.routes.find(ends.dst.to_ip(), flow)? else {
            return None;
        };
        let (port, link) = self.open_road(frame, hop, packet, 0)?;
        readdress(frame, link, ends)?;
        Some(port)
    }

    /// The way there, if its MAC is known and the packet may take it whole with `overhead` more
    /// octets.
    #[inline(always)]
    fn open_road<A, F: Frame>(
        &self,
        frame: &mut F,
        hop: HopId,
        packet: &Packet<A>,
        overhead: u16,
    ) -> Option<(PortId, Link)> {
        let &Hop {
            port,
            source,
            destination,
        } = self.snapshot.hops.get(hop.0)?;
        let next = destination?;
        let view = self.snapshot.ports.get(usize::from(port.0))?;
        let room = u32::from(view.mtu.saturating_sub(overhead));
        let goes = packet.shape.length <= room && packet.shape.ttl > 1;
        if goes {
            let (towards, mtu) = (Towards::Hop(hop), view.mtu);
            frame.observe(Event::Way { towards, mtu });
        }
        goes.then_some((port, Link { ours: source, next }))
    }
}

/// Whether the packet leaves its connection's state and timeout as they are, and goes where the
/// routes say.
#[inline(always)]
fn goes_on<A: Stored>(
    entry: &Entry<A>,
    side: Side,
    packet: &Packet<A>,
    timeouts: &Timeouts,
) -> bool {
    if entry.flags.has(Flags::TO_SENDER) {
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

#[inline(always)]
fn pass<A: Stored, F: Frame>(frame: &mut F, link: Link) -> Option<()> {
    let end = A::pass_plain(frame.bytes_mut(), link)?;
    frame.truncate(end);
    Some(())
}

#[inline(always)]
fn readdress<A: Stored, F: Frame>(frame: &mut F, link: Link, ends: Ends<A>) -> Option<()> {
    let end = A::readdress_plain(frame.bytes_mut(), link, ends)?;
    frame.truncate(end);
    Some(())
}
