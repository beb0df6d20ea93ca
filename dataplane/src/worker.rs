//! A worker: one core, its own queues, its own connections.
//!
//! It runs to completion, turn after turn: take a burst from each port, decide each frame,
//! send. It never locks, waits, allocates, logs or formats, and reads the clock once a turn.
//! Everything it changes is its own; what it is told comes as a snapshot.
//!
//! ```text
//!   run     turn after turn, and what to do where nothing comes                    idle
//!   turn    frames that control sends                                              finish
//!           frames that other workers hand over, then those of each port:          burst
//!               common ones go on in runs, the others are decided one by one
//!               fragments wait for their first one                                 fragments
//!               the verdict is carried out and counted                             finish
//!               what else we have to say about a frame                             made, pieces
//!           all that waits is sent                                                 send
//!           connections end; a little is done of what control wants to know        errands
//! ```

mod burst;
mod errands;
mod finish;
mod fragments;
mod idle;
mod made;
mod parts;
mod pieces;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use arch::{Pages, PagesError};

use crate::bucket::TokenBucket;
use crate::decide::{Context, Foreseen, Identity};
use crate::exchange::WorkerEnd;
use crate::gather::Gathering;
use crate::handover::Peers;
use crate::port::{Port, PortId};
use crate::published::Reader;
use crate::services::{Blocks, Snapshot};
use crate::state::{State, account_end};
use crate::time::{Clock, Millis};
use crate::verdict::{Counters, PuntClass};

use burst::Batch;
use errands::Known;
use idle::Pause;
use send::Lane;

pub use idle::Idle;
pub use parts::Parts;

/// Entries and ticks that one turn looks at to end connections.
const EXPIRE_PER_TURN: u32 = 64;

/// One worker.
#[derive(Debug)]
pub struct Worker<P: Port> {
    me: Identity,
    reader: Reader<Snapshot>,
    exchange: WorkerEnd<P::Frame>,
    peers: Peers<P::Frame>,
    counters: Arc<Counters>,
    lanes: Vec<Lane<P>>,
    gathering: Gathering<P::Frame>,
    batch: Batch<P::Frame>,
    state: State,
    punts: [TokenBucket; PuntClass::ALL.len()],
    replies: TokenBucket,
    resets: TokenBucket,
    fragment_id: u32,
}

impl<P: Port> Worker<P> {
    /// Turns until `stop` is set; then sends nothing more.
    pub fn run(&mut self, stop: &AtomicBool, idle: Idle, clock: &Clock) {
        let mut pause = Pause::new(idle);
        let mut before = arch::cycles();
        while !stop.load(Ordering::Relaxed) {
            let busy = self.turn(clock.at(before));
            let after = arch::cycles();
            let spent = after.wrapping_sub(before);
            self.counters.cycles.add(spent);
            if busy {
                self.counters.busy_cycles.add(spent);
                self.counters.turn_cycles.record(spent);
                pause.reset();
                before = after;
            } else {
                pause.wait();
                before = arch::cycles();
                self.counters.cycles.add(before.wrapping_sub(after));
            }
        }
    }

    /// One turn: at most [`BURST`](crate::port::BURST) frames from each port, from wire to wire.
    /// Says whether there was anything to do.
    pub fn turn(&mut self, now: Millis) -> bool {
        self.work(now, EXPIRE_PER_TURN)
    }

    /// A turn that ends all that is due, however much that is: for a driver with a clock of its
    /// own, between packets.
    pub fn settle(&mut self, now: Millis) {
        self.work(now, u32::MAX);
    }

    /// A turn that looks at so many entries and ticks to end what is over.
    #[inline]
    fn work(&mut self, now: Millis, expire: u32) -> bool {
        let (snapshot, generation) = self.reader.edition();
        let Some(blocks) = snapshot.blocks.get(usize::from(self.me.id.0)) else {
            return false;
        };
        let mut turn = Turn {
            snapshot,
            blocks,
            generation,
            exchange: &self.exchange,
            peers: &mut self.peers,
            gathering: &mut self.gathering,
            counters: &self.counters,
            lanes: &mut self.lanes,
            punts: &mut self.punts,
            replies: &mut self.replies,
            resets: &mut self.resets,
            fragment_id: &mut self.fragment_id,
            now,
        };
        let mut context = Context {
            snapshot,
            blocks,
            me: &self.me,
            now,
            state: &mut self.state,
            counters: &self.counters,
            aside: None,
            foreseen: Foreseen::default(),
        };
        let mut busy = turn.take_in(&mut self.batch, &mut context);
        turn.expire_fragments(&mut context, expire);
        turn.flush();
        context.expire(expire);
        gauge(&self.counters, &self.state);
        if !snapshot.errands.is_empty() {
            let known = Known {
                me: self.me.id,
                snapshot,
                state: &self.state,
                gathering: &self.gathering,
                punts: &self.punts,
                replies: &self.replies,
                resets: &self.resets,
                fragment_id: self.fragment_id,
                now,
            };
            busy |= known.run_an_errand(self.counters.turns.get());
        }
        self.counters.turns.add(1);
        self.counters.busy_turns.add(u64::from(busy));
        busy
    }

    /// Ends what is over at `now`, to the millisecond: so that who asks now is told of nothing
    /// that has ended. For a driver with a clock of its own, as [`settle`](Self::settle).
    pub fn end_overdue(&mut self, now: Millis) {
        let (snapshot, _) = self.reader.edition();
        let Some(blocks) = snapshot.blocks.get(usize::from(self.me.id.0)) else {
            return;
        };
        let (reals, counters) = (&snapshot.reals, &self.counters);
        let State { v4, v6, .. } = &mut self.state;
        v4.expire_exactly(now, |entry| account_end(entry, reals, blocks, counters));
        v6.expire_exactly(now, |entry| account_end(entry, reals, blocks, counters));
        gauge(counters, &self.state);
    }

    /// Its connections.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A port's queue pair: tests and replays feed it between turns. A VLAN's port has none.
    pub fn port_mut(&mut self, port: PortId) -> Option<&mut P> {
        self.lanes
            .get_mut(usize::from(port.0))
            .map(|lane| &mut lane.port)
    }
}

/// What one turn works with.
struct Turn<'a, P: Port> {
    snapshot: &'a Snapshot,
    blocks: &'a Blocks,
    generation: u64,
    exchange: &'a WorkerEnd<P::Frame>,
    peers: &'a mut Peers<P::Frame>,
    gathering: &'a mut Gathering<P::Frame>,
    counters: &'a Counters,
    lanes: &'a mut [Lane<P>],
    punts: &'a mut [TokenBucket; PuntClass::ALL.len()],
    replies: &'a mut TokenBucket,
    resets: &'a mut TokenBucket,
    /// Of the next IPv6 packet of ours that is cut.
    fragment_id: &'a mut u32,
    now: Millis,
}

impl<P: Port> Turn<'_, P> {
    /// Takes frames through from everywhere that they come from; says whether there were any.
    #[inline(always)]
    fn take_in(&mut self, batch: &mut Batch<P::Frame>, context: &mut Context<'_>) -> bool {
        let mut busy = self.inject();
        for source in 0..self.peers.sources() {
            busy |= self.take_over(source, batch, context);
        }
        for port in 0..self.lanes.len() {
            busy |= self.receive(port, batch, context);
        }
        busy
    }
}

/// Says how many connections there are.
fn gauge(counters: &Counters, state: &State) {
    let entries = [state.v4.len(), state.v6.len()];
    let gauges = counters.entries.iter().zip(entries);
    gauges.for_each(|(gauge, entries)| gauge.set(entries));
}
