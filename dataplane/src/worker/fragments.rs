//! Fragments: to the worker that gathers their packet, and on from there by what its first one
//! says.

use std::slice::from_ref;

use super::Turn;
use super::burst::gate;
use crate::decide::{Context, Origin};
use crate::fragments::{Fate, Transport};
use crate::gather::Gathered;
use crate::owner::{Fields, Step};
use crate::parse::{Fragment, Parses, Whole};
use crate::port::{Port, PortId};
use crate::verdict::Verdict;

impl<P: Port> Turn<'_, P> {
    /// Brings a fragment to where its packet is gathered, and to what its first one says.
    #[cold]
    #[inline(never)]
    pub(super) fn gather(
        &mut self,
        frame: P::Frame,
        part: &Fragment,
        port: PortId,
        context: &mut Context<'_>,
    ) {
        let gatherer = match &part.of {
            Whole::V4(of) => context.me.steering.owner(Fields::Addresses, of.key()),
            Whole::V6(of) => context.me.steering.owner(Fields::Addresses, of.key()),
        };
        if gatherer != context.me.id {
            let origin = Origin::of(port);
            return self.finish(frame, origin, Verdict::HandOver(gatherer, Step::default()));
        }
        match self.gathering.add(frame, port, part, self.now) {
            Gathered::Follow(frame, transport) => self.follow(frame, port, transport, context),
            Gathered::Held => self.counters.held.add(1),
            Gathered::Drop(frame, reason) => {
                let origin = Origin::of(port);
                self.finish(frame, origin, Verdict::Drop(reason));
            }
        }
        self.let_go(context);
    }

    /// Sends a fragment the way that its packet's first one showed.
    fn follow(
        &mut self,
        frame: P::Frame,
        port: PortId,
        transport: Transport,
        context: &mut Context<'_>,
    ) {
        let origin = Origin {
            gathered: Some(transport),
            ..Origin::of(port)
        };
        let mut parses = Parses::default();
        let gate = gate(self.snapshot, port);
        parses.push_all(from_ref(&frame), gate, origin.gathered, &*context.state);
        self.decide_one(frame, &parses, 0, origin, context);
    }

    /// Deals with the fragments that are held no longer.
    fn let_go(&mut self, context: &mut Context<'_>) {
        while let Some((frame, port, fate)) = self.gathering.released() {
            self.counters.released.add(1);
            match fate {
                Fate::Follow(transport) => self.follow(frame, port, transport, context),
                Fate::Drop(reason) => self.counters.drop[reason as usize].add(1),
            }
        }
    }

    /// Forgets fragments that waited too long.
    pub(super) fn expire_fragments(&mut self, context: &mut Context<'_>, budget: u32) {
        self.gathering.expire(self.now, budget);
        self.let_go(context);
    }
}
