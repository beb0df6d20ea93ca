//! One packet: its connection or its service, the real server, the rewrite.
//!
//! ```text
//!   parsed ──> connection? ── yes ──> state, counters ──> rewrite ──> transmit   (through.rs)
//!                  │ no                                      ^
//!                  ▼                                         │
//!              service? ── yes ──> mine? ──> scheduler ──> insert               (miss.rs)
//!                  │ no              └─ no: hand over
//!                  ▼
//!              VIP's rule, director: punt                                       (aside.rs)
//! ```
//!
//! That is the long way. Packets of established connections that go on as they were take a
//! shorter one (`hit.rs`), and only what that leaves comes here.
//!
//! A function of the snapshot, the worker's own tables and the time: nothing here sends,
//! waits or allocates.

mod advance;
mod aside;
mod expire;
mod foresee;
mod hit;
mod miss;
mod nat64;
mod tell;
mod through;
mod watch;
mod way;

pub use foresee::Foreseen;
pub use hit::Run;
pub(crate) use way::at;

use std::sync::Arc;

use crate::conn::{Found, Key, Side, Slot};
use crate::fragments::Transport;
use crate::isn::Isn;
use crate::local::LocalPorts;
use crate::observe;
use crate::owner::{Steering, Step};
use crate::parse::{Packet, Parsed, Parses};
use crate::port::{Frame, PortId, WorkerId};
use crate::reply::{Kind, Reply};
use crate::services::{Blocks, Snapshot};
use crate::state::{State, Stored};
use crate::time::Millis;
use crate::verdict::{Counters, Reason, Verdict};

use advance::starts_over;
use way::{Way, flow_of, way};

/// Who a worker is among the others.
#[derive(Debug)]
pub struct Identity {
    /// Its number.
    pub id: WorkerId,
    /// Who owns what.
    pub steering: Arc<Steering>,
    /// The local ports whose replies come to it.
    pub locals: LocalPorts,
    /// Initial sequence numbers for real servers.
    pub isn: Isn,
}

/// What a decision is made with.
#[derive(Debug)]
pub struct Context<'a> {
    /// What control published.
    pub snapshot: &'a Snapshot,
    /// The worker's counters in it.
    pub blocks: &'a Blocks,
    /// Who the worker is.
    pub me: &'a Identity,
    /// The time of this turn.
    pub now: Millis,
    /// The worker's own tables.
    pub state: &'a mut State,
    /// The worker's own totals.
    pub counters: &'a Counters,
    /// What else the frame just decided needs: the worker's to take.
    pub aside: Option<Aside>,
    /// What of the burst's openings was fetched ahead.
    pub foreseen: Foreseen,
}

/// What a frame needs beside its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// An ICMP error about it.
    Reply(Reply),
    /// To be cut for a link of this MTU in octets.
    Cut(u16),
    /// A packet of the header in [`State::ahead`] alone, sent before it.
    Ahead,
    /// A RST that answers it.
    Reset,
    /// What it says of a tunnel, told to the client whose packet was in there.
    Retell(Kind),
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The port it came by.
    pub port: PortId,
    /// The workers it has been to.
    pub step: Step,
    /// What its packet's first fragment said, once it is known.
    pub gathered: Option<Transport>,
}

impl Origin {
    /// A port, with nobody between.
    #[inline]
    pub fn of(port: PortId) -> Self {
        Self {
            port,
            step: Step::default(),
            gathered: None,
        }
    }
}

/// Why a packet goes nowhere, and what its sender is told.
#[derive(Clone, Copy, Debug)]
struct Refusal(Reason, Option<Kind>);

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self(reason, None)
    }
}

/// Decides about `frame`, the one at place `at` of its burst; rewrites it.
#[inline]
pub fn decide<F: Frame>(
    frame: &mut F,
    parses: &Parses,
    at: usize,
    origin: Origin,
    context: &mut Context<'_>,
) -> Verdict {
    let verdict = match &parses.frames[at] {
        Parsed::V4(packet) => context.flow(frame, packet, &origin),
        Parsed::V6(place) => context.flow(frame, &parses.v6[usize::from(*place)], &origin),
        Parsed::Other {
            destination,
            protocol,
        } => context.other(frame, *destination, *protocol, origin),
        Parsed::Decided(verdict) => *verdict,
        // The worker gathers fragments before it asks.
        Parsed::Fragment(_) => Verdict::Drop(Reason::NoConnection),
    };
    context.foresee(parses, at);
    verdict
}

impl<'a> Context<'a> {
    /// TCP, UDP or SCTP: the one place where a packet meets the connections.
    #[inline(always)]
    fn flow<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        origin: &Origin,
    ) -> Verdict {
        if self.snapshot.addresses.is_not_held(packet.key.destination) {
            return Verdict::Drop(Reason::VipNotHeld);
        }
        let (slot, side) = match self.find(frame, packet) {
            Some(found) => found,
            None => match self.miss(frame, packet, origin) {
                Ok(slot) => (slot, Side::Client),
                Err(verdict) => return verdict,
            },
        };
        let passed = match side {
            Side::Client => self.inbound(frame, packet, slot, origin.port),
            Side::Real => self.outbound(frame, packet, slot),
        };
        match passed {
            Ok(verdict) => verdict,
            Err(refusal) => self.failed(frame, packet, (slot, side), origin, refusal),
        }
    }

    /// The packet's connection, if it has one that may still be used.
    #[inline]
    fn find<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
    ) -> Option<(Slot, Side)> {
        use observe::{Ended, Event};
        let table = A::table(self.state);
        match table.find(packet.hash, &packet.key, self.now) {
            Found::Live(slot, Side::Client)
                if packet.flags.syn() && starts_over(table.entry(slot), self.snapshot) =>
            {
                frame.observe(Event::Ended(Ended::StartsOver, table.entry(slot)));
                self.end::<A>(slot);
                None
            }
            Found::Live(slot, side) => Some((slot, side)),
            Found::Over(slot) => {
                frame.observe(Event::Ended(Ended::Over, table.entry(slot)));
                self.end::<A>(slot);
                None
            }
            Found::Nothing => None,
        }
    }

    /// What becomes of a packet that its connection could not take along.
    #[cold]
    #[inline(never)]
    fn failed<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        at: (Slot, Side),
        origin: &Origin,
        refusal: Refusal,
    ) -> Verdict {
        match refusal {
            Refusal(Reason::RealRemoved, _) => self.removed(frame, packet, at, origin),
            Refusal(Reason::Quiescent, _) => self.quiescent(frame, packet, at.0, origin),
            refusal => self.refused(refusal, &packet.key),
        }
    }

    /// A packet of a connection whose real server was removed (reference B.5, H): silence, or
    /// another one with `expire_nodest_conn`. Without any service we are as if we were not there.
    fn removed<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        (slot, side): (Slot, Side),
        origin: &Origin,
    ) -> Verdict {
        if self.snapshot.index.is_empty() {
            return self.unclaimed(packet);
        }
        if side == Side::Real || !self.snapshot.settings.expire_nodest_conn {
            return Verdict::Drop(Reason::RealRemoved);
        }
        self.anew(frame, packet, slot, observe::Ended::RealRemoved, origin)
    }

    /// Ends a connection at a client's packet, and lets that open another.
    fn anew<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        why: observe::Ended,
        origin: &Origin,
    ) -> Verdict {
        let entry = A::table(self.state).entry(slot);
        frame.observe(observe::Event::Ended(why, entry));
        self.end::<A>(slot);
        match self.miss(frame, packet, origin) {
            Ok(slot) => {
                let passed = self.inbound(frame, packet, slot, origin.port);
                passed.unwrap_or_else(|refusal| self.refused(refusal, &packet.key))
            }
            Err(verdict) => verdict,
        }
    }

    /// What is said comes from whom the packet was for: the VIP.
    #[cold]
    fn refused<A: Stored>(&mut self, Refusal(reason, kind): Refusal, key: &Key<A>) -> Verdict {
        let source = key.destination.to_ip();
        self.aside = kind.map(|kind| Aside::Reply(Reply { kind, source }));
        Verdict::Drop(reason)
    }
}
