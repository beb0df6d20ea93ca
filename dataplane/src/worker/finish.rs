//! What is done with a frame once it is decided, and the one counter that it ends in.

use std::net::IpAddr;

use wire::ethernet::{self, EtherType};
use wire::proxy::Header;
use wire::{ipv4, ipv6};

use super::Turn;
use crate::decide::{Aside, Origin};
use crate::exchange::{Injected, Punted};
use crate::handover::{Flushed, Handed};
use crate::observe::Event;
use crate::port::{BURST, Frame, Port, PortId};
use crate::services::{HopId, Towards};
use crate::verdict::{PuntClass, Reason, Verdict};

/// Frames that one turn sends for control.
const INJECT_PER_TURN: usize = BURST;

impl<P: Port> Turn<'_, P> {
    /// Does with a frame what was decided, and counts it.
    #[inline(always)]
    pub(super) fn finish(&mut self, mut frame: P::Frame, origin: Origin, verdict: Verdict) {
        frame.observe(Event::Decided(verdict));
        match verdict {
            Verdict::Transmit(port) => self.transmit(frame, port),
            Verdict::Punt(class) => self.punt(frame, origin.port, class, None),
            Verdict::Resolve(towards) => self.resolve(frame, origin.port, towards),
            Verdict::HandOver(to, step) => {
                let Origin { port, gathered, .. } = origin;
                let flushed = self.peers.hand(
                    to,
                    Handed {
                        frame,
                        port,
                        step,
                        generation: self.generation,
                        gathered,
                    },
                );
                self.count_handed(flushed);
            }
            Verdict::Drop(reason) => self.counters.drop[reason as usize].add(1),
        }
    }

    /// Does what a frame needs beside its verdict, and then that.
    #[cold]
    #[inline(never)]
    pub(super) fn finish_with(
        &mut self,
        aside: Aside,
        ahead: &Header,
        frame: P::Frame,
        origin: Origin,
        verdict: Verdict,
    ) {
        match (aside, verdict) {
            (Aside::Cut(mtu), Verdict::Transmit(port)) => {
                return self.send_in_pieces(frame, origin, port, mtu);
            }
            // One that waits for a neighbour control cuts when it sends it.
            (Aside::Cut(_), _) => {}
            (Aside::Ahead, _) => self.send_ahead(&frame, ahead, verdict),
            (Aside::Reply(reply), _) => self.reply(&frame, origin.port, &reply),
            (Aside::Reset, _) => self.reset(&frame, origin.port),
            (Aside::Retell(kind), _) => self.retell(&frame, kind),
        }
        self.finish(frame, origin, verdict);
    }

    fn punt(
        &mut self,
        mut frame: P::Frame,
        port: PortId,
        class: PuntClass,
        next: Option<(PortId, IpAddr)>,
    ) {
        let at = class as usize;
        let limit = self.snapshot.settings.punt_limits.per_second[at];
        if !self.punts[at].take(limit, self.now) {
            frame.observe(Event::Decided(Verdict::Drop(Reason::PuntLimit)));
            self.counters.drop[Reason::PuntLimit as usize].add(1);
            return;
        }
        let punted = Punted {
            frame,
            port,
            class,
            next,
        };
        match self.exchange.punt(punted) {
            Ok(()) => self.counters.punt[at].add(1),
            Err(_) => self.counters.drop[Reason::PuntFull as usize].add(1),
        }
    }

    /// Has control find the MAC that a rewritten frame goes to.
    #[cold]
    fn resolve(&mut self, frame: P::Frame, port: PortId, towards: Towards) {
        let next = match towards {
            Towards::Hop(HopId(hop)) => {
                let port = self.snapshot.hops.get(hop).map(|hop| hop.port);
                port.zip(self.snapshot.next_hops.get(hop).copied())
            }
            Towards::Unknown(port) | Towards::At(port, _) => {
                destination(frame.bytes()).map(|address| (port, address))
            }
        };
        match next {
            Some(_) => self.punt(frame, port, PuntClass::Unresolved, next),
            None => self.counters.drop[Reason::NoNeighbour as usize].add(1),
        }
    }

    pub(super) fn count_handed(&self, Flushed { sent, refused }: Flushed) {
        self.counters.handed_out.add(sent);
        self.counters.drop[Reason::HandOverFull as usize].add(refused);
    }

    /// Sends what control asked for.
    pub(super) fn inject(&mut self) -> bool {
        let mut sent = 0;
        while sent < INJECT_PER_TURN
            && let Some(Injected { frame, port }) = self.exchange.injected()
        {
            self.counters.injected.add(1);
            let origin = Origin::of(port);
            self.finish(frame, origin, Verdict::Transmit(port));
            sent += 1;
        }
        sent > 0
    }
}

/// Whom an IP packet is for.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    let ethernet = ethernet::Frame::parse(frame).ok()?;
    match ethernet.ethertype() {
        EtherType::IPV4 => Some(ipv4::Packet::parse(ethernet.payload()).ok()?.dst().into()),
        EtherType::IPV6 => Some(ipv6::Packet::parse(ethernet.payload()).ok()?.dst().into()),
        _ => None,
    }
}
