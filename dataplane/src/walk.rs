//! A walk over every worker's connections, for somebody who has time.
//!
//! Control puts a [`Walk`] into the snapshot and keeps the [`Reading`]. A worker that finds one
//! looks at a few slots of its tables each turn and leaves what is alive in the walk's ring;
//! where the ring is full it leaves the walk alone. So a reader, however slow, costs a worker one
//! look a turn, and nothing is lost. Where a worker stands is written in the walk, which control
//! allocated: a worker keeps nothing of it.
//!
//! A walk sees each slot once. What begins or ends meanwhile is in it or not, as in the kernel's.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::conn::export::Exported;
use crate::conn::{Address, Flags, Slot, Table};
use crate::counter::Word;
use crate::port::WorkerId;
use crate::probe::Probe;
use crate::state::State;
use crate::time::Millis;

/// Slots that a worker looks at in one turn, for all walks together.
pub const SLOTS_PER_TURN: u32 = 64;
/// Connections that it hands over in one turn at most.
pub const ROWS_PER_TURN: usize = 16;
/// Answers that one worker's ring holds.
pub const RING: usize = 256;

/// A worker is through with a walk.
const DONE: u64 = u64::MAX;

/// What a worker found in one turn.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Live connections and templates.
    pub rows: ArrayVec<Exported, ROWS_PER_TURN>,
    /// Whether this is all of that worker's.
    pub last: bool,
}

/// What somebody wants to know of the workers' connections.
#[derive(Clone, Debug)]
pub enum Errand {
    /// All of them.
    Walk(Arc<Walk>),
    /// What decides over one packet.
    Probe(Arc<Probe>),
}

/// The workers' side of a walk: part of the snapshot.
#[derive(Debug)]
pub struct Walk {
    desks: Box<[Desk]>,
}

/// One worker's place in a walk, written by that worker alone.
#[derive(Debug)]
struct Desk {
    /// The next slot: those of IPv4 first, IPv6's behind them; or [`DONE`].
    next: Word,
    ring: Sender<Found>,
}

/// Control's side of a walk.
#[derive(Debug)]
pub struct Reading {
    rings: Vec<Receiver<Found>>,
    /// The worker whose connections come now.
    at: usize,
}

/// What there is to read.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be one allocation for every 16 rows"
)]
#[derive(Clone, Debug)]
pub enum Read {
    /// Connections, at least one.
    Rows(ArrayVec<Exported, ROWS_PER_TURN>),
    /// Nothing yet: this worker is at work.
    Later(WorkerId),
    /// Nothing more.
    End,
}

/// A walk over the connections of `workers` workers.
pub fn walk(workers: usize) -> (Walk, Reading) {
    let (senders, rings): (Vec<_>, Vec<_>) = (0..workers).map(|_| bounded(RING)).unzip();
    let desk = |ring| Desk {
        next: Word::default(),
        ring,
    };
    let desks = senders.into_iter().map(desk).collect();
    (Walk { desks }, Reading { rings, at: 0 })
}

impl Reading {
    /// The next connections: one worker's after the other's, in the order of their tables. Never
    /// waits.
    pub fn read(&mut self) -> Read {
        while let Some(ring) = self.rings.get(self.at) {
            let found = match ring.try_recv() {
                Ok(found) => found,
                Err(TryRecvError::Empty) => return Read::Later(self.worker()),
                Err(TryRecvError::Disconnected) => return Read::End,
            };
            self.at += usize::from(found.last);
            if !found.rows.is_empty() {
                return Read::Rows(found.rows);
            }
        }
        Read::End
    }

    fn worker(&self) -> WorkerId {
        WorkerId(u16::try_from(self.at).expect("workers are numbered in 16 bits"))
    }
}

impl Walk {
    /// One turn's share of a worker's answer; says whether there was anything to do.
    #[cold]
    pub(crate) fn step(&self, worker: WorkerId, state: &State, now: Millis) -> bool {
        let desk = self.desks.get(usize::from(worker.0));
        desk.is_some_and(|desk| desk.step(state, now))
    }

    /// Slots that the worker has looked at, of both families; `None` once it is through.
    pub fn progress(&self, worker: WorkerId) -> Option<u64> {
        let desk = self.desks.get(usize::from(worker.0))?;
        Some(desk.next.get()).filter(|&next| next != DONE)
    }
}

impl Desk {
    fn step(&self, state: &State, now: Millis) -> bool {
        let from = self.next.get();
        if from == DONE || self.ring.is_full() {
            return false;
        }
        let (found, next) = look(state, from, now);
        let last = found.last;
        // Only this worker fills the ring, and it had room; nobody may read it any more, though.
        let read = (found.rows.is_empty() && !last) || self.ring.try_send(found).is_ok();
        self.next.set(if last || !read { DONE } else { next });
        true
    }
}

/// Looks at a few slots from `from` on; gives the next one, too.
fn look(state: &State, from: u64, now: Millis) -> (Found, u64) {
    let (v4, v6) = (u64::from(state.v4.capacity()), state.v6.capacity());
    let mut found = Found::default();
    let mut budget = SLOTS_PER_TURN;
    let mut next = from;
    if next < v4 {
        next += take(&state.v4, next, &mut budget, now, &mut found);
    }
    if next >= v4 {
        next += take(&state.v6, next - v4, &mut budget, now, &mut found);
    }
    found.last = next >= v4 + u64::from(v6);
    (found, next)
}

/// Takes what is alive, until the budget or the room is used up; gives the slots looked at.
fn take<A: Address>(
    table: &Table<A>,
    from: u64,
    budget: &mut u32,
    now: Millis,
    found: &mut Found,
) -> u64 {
    let from = u32::try_from(from).expect("a slot of this table, or its end");
    let mut slot = from;
    while slot < table.capacity() && *budget > 0 && !found.rows.is_full() {
        let entry = table.entry(Slot(slot));
        if entry.flags.has(Flags::LIVE) && !entry.is_over(now) {
            found.rows.push(Exported::new(entry, now));
        }
        slot += 1;
        *budget -= 1;
    }
    u64::from(slot - from)
}
