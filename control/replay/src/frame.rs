//! Frames that remember which packet they are, and the memory ports that carry them.
//!
//! A frame hears from the pipeline what becomes of it ([`Event`]) and notes it down in the
//! [`Watch`] of the packets that are being processed. A frame also knows because of which
//! packet it was sent: an ICMP error because of the one that it is about, a held fragment
//! because of the one that released it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control::trace::Recorder;
use dataplane::conn::Side;
use dataplane::memory::{Buffer, Note, Noted, Recycler};
use dataplane::observe::Event;
use dataplane::port::{Burst, Frame, FramePool, Port};
use dataplane::services::{RealId, ServiceId};
use dataplane::verdict::Verdict;
use dataplane::vlan;

/// What happened to one packet so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its end; none for a held fragment.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) service: Option<ServiceId>,
    pub(crate) real: Option<RealId>,
    pub(crate) side: Option<Side>,
    pub(crate) opened: bool,
    /// The worker that had it last.
    pub(crate) worker: u16,
}

/// The packets that are being processed.
#[derive(Debug, Default)]
struct Watched {
    /// Number of the first of them.
    first: u64,
    records: Vec<Record>,
    /// The one because of which everything happens now.
    cause: u64,
    /// The worker whose turn it is.
    worker: u16,
    /// The packet that is traced, and its notes.
    traced: Option<(u64, Recorder)>,
}

impl Watched {
    fn note(&mut self, n: u64, event: Event<'_>) {
        if let Event::Begins = event {
            self.cause = n;
        }
        // A fragment that another packet lets go had its line already.
        if n != self.cause {
            return;
        }
        let worker = self.worker;
        let at = n
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        let Some(record) = at.and_then(|at| self.records.get_mut(at)) else {
            return;
        };
        record.worker = worker;
        match event {
            Event::Service(service) => {
                record.service = Some(service);
                record.side = Some(Side::Client);
            }
            Event::Opened => record.opened = true,
            Event::Connection {
                service,
                real,
                side,
                ..
            } => {
                record.service = Some(service);
                record.real = Some(real);
                record.side = Some(side);
            }
            Event::Decided(Verdict::HandOver(..)) => {}
            Event::Decided(verdict) => record.verdict = Some(verdict),
            // What only a trace tells.
            Event::Begins
            | Event::Ended(..)
            | Event::Tried { .. }
            | Event::Declined(_)
            | Event::Template(_)
            | Event::Choosing { .. }
            | Event::Chosen(_)
            | Event::Moved(_)
            | Event::Way { .. } => {}
        }
    }
}

/// Nobody wants to know.
const NOTHING: u8 = 0;
/// What a line of JSON says, and because of which packet a frame was sent.
const RECORDS: u8 = 1;
/// Everything.
const TRACE: u8 = 2;

/// A clone watches the same packets. Nobody else ever holds the lock: it is there because frames
/// may have to travel between threads. Taking it for each event is a fifth of a replay's time, so
/// what is not wanted does without.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    watched: Mutex<Watched>,
    wanted: AtomicU8,
}

impl Watch {
    /// Of records, if they are wanted.
    pub(crate) fn new(records: bool) -> Self {
        Self(Arc::new(Shared {
            watched: Mutex::default(),
            wanted: AtomicU8::new(if records { RECORDS } else { NOTHING }),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        let watched = &self.0.watched;
        watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody wants to know of such an event.
    #[inline]
    fn wants(&self, event: &Event<'_>) -> bool {
        match self.0.wanted.load(Ordering::Relaxed) {
            NOTHING => false,
            RECORDS => matches!(
                event,
                Event::Begins
                    | Event::Service(_)
                    | Event::Opened
                    | Event::Connection { .. }
                    | Event::Decided(_)
            ),
            _ => true,
        }
    }

    /// Watches `count` packets from number `first` on, and no longer those before.
    pub(crate) fn begin(&self, first: u64, count: usize) {
        if self.0.wanted.load(Ordering::Relaxed) == NOTHING {
            return;
        }
        let mut watched = self.lock();
        watched.first = first;
        watched.records.clear();
        watched.records.resize(count, Record::default());
    }

    /// From now on it is this worker's turn.
    pub(crate) fn turn_of(&self, worker: u16) {
        let mut watched = self.lock();
        watched.worker = worker;
        if let Some((_, recorder)) = &mut watched.traced {
            recorder.turn_of(worker);
        }
    }

    /// From now on `recorder` notes what packet `n` hears.
    pub(crate) fn trace(&self, n: u64, recorder: Recorder) {
        self.0.wanted.fetch_max(TRACE, Ordering::Relaxed);
        self.lock().traced = Some((n, recorder));
    }

    /// The notes of the packet that was traced.
    pub(crate) fn traced(&self) -> Option<Recorder> {
        self.lock().traced.take().map(|(_, recorder)| recorder)
    }

    /// What happened to the packet at this place among those that are watched.
    pub(crate) fn record(&self, at: usize) -> Record {
        self.lock().records.get(at).copied().unwrap_or_default()
    }
}

/// A frame that knows which packet it is.
pub(crate) type Seen = Noted<Origin>;

/// Where a frame comes from, and who watches it.
#[derive(Debug)]
pub(crate) struct Origin {
    watch: Watch,
    /// Its packet's number; none if it is of our own making.
    pub(crate) n: Option<u64>,
    /// The packet because of which it was sent.
    pub(crate) cause: u64,
}

impl Note for Origin {
    fn observe(&mut self, event: Event<'_>, frame: &Buffer) {
        let Self {
            watch,
            n: Some(n),
            cause,
        } = self
        else {
            return;
        };
        if !watch.wants(&event) {
            return;
        }
        let mut watched = watch.lock();
        if let Some((traced, recorder)) = &mut watched.traced
            && *traced == *n
        {
            recorder.note(event, frame);
        }
        watched.note(*n, event);
        *cause = watched.cause;
    }
}

/// Replaces a frame's Ethernet source.
pub(crate) fn set_source(frame: &mut Seen, mac: [u8; 6]) {
    if let Some(source) = frame.buffer.bytes_mut().get_mut(6..12) {
        source.copy_from_slice(&mac);
    }
}

/// Where frames come from.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    recycler: Recycler,
    pub(crate) watch: Watch,
}

impl Pool {
    /// Of frames that are watched so.
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            recycler: Recycler::default(),
            watch,
        }
    }

    /// The frame of packet `n`, in one that is `spare` if there is. What is longer than a buffer is cut,
    /// and says so.
    fn frame(&self, n: u64, bytes: &[u8], spare: Option<Seen>) -> Seen {
        let mut seen = spare.unwrap_or_else(|| self.seen(None, n));
        seen.buffer.receive(bytes);
        (seen.note.n, seen.note.cause) = (Some(n), n);
        seen
    }

    /// An empty frame.
    fn seen(&self, n: Option<u64>, cause: u64) -> Seen {
        let watch = self.watch.clone();
        Noted::new(self.recycler.empty(), Origin { watch, n, cause })
    }
}

impl FramePool for Pool {
    type Frame = Seen;

    fn alloc(&mut self) -> Option<Seen> {
        let cause = self.watch.lock().cause;
        Some(self.seen(None, cause))
    }
}

/// One worker's end of one port: what it is to receive, and what it sent.
#[derive(Debug)]
pub(crate) struct Lane {
    pool: Pool,
    incoming: Vec<Seen>,
    outgoing: Vec<Seen>,
}

impl Lane {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            incoming: Vec::new(),
            outgoing: Vec::new(),
        }
    }

    /// Puts the frame of packet `n`, with the tag of this VLAN, where the worker takes it; in one that is
    /// `spare`, if there is.
    pub(crate) fn give(&mut self, n: u64, bytes: &[u8], vlan: Option<u16>, spare: Option<Seen>) {
        let mut frame = self.pool.frame(n, bytes, spare);
        if let Some(id) = vlan {
            // One too short for a tag is too short for everything.
            let _ = vlan::put_on(&mut frame, id);
        }
        self.incoming.push(frame);
    }

    /// What was sent since the last time.
    pub(crate) fn sent(&mut self) -> std::vec::Drain<'_, Seen> {
        self.outgoing.drain(..)
    }
}

impl Port for Lane {
    type Frame = Seen;

    fn rx_burst(&mut self, burst: &mut Burst<Seen>) -> usize {
        let n = burst.remaining_capacity().min(self.incoming.len());
        burst.extend(self.incoming.drain(..n));
        n
    }

    fn tx_burst(&mut self, burst: &mut Burst<Seen>) -> usize {
        let sent = burst.len();
        self.outgoing.extend(burst.drain(..));
        sent
    }

    fn alloc(&mut self) -> Option<Seen> {
        self.pool.alloc()
    }
}
