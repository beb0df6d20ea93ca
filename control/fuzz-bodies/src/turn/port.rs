//! Ports in memory whose every frame is counted while it lives, and that can be made to run
//! short: of buffers, and of room to send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::check;
use dataplane::memory::{Buffer, Note, Noted, Recycler};
use dataplane::port::{Burst, FramePool, Port, RxFlags};

/// Where frames come from. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    recycler: Recycler,
    live: Arc<AtomicUsize>,
    room: Arc<AtomicUsize>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            recycler: Recycler::default(),
            live: Arc::default(),
            room: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    /// Frames that somebody has.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// From now on the pool is dry once `room` more frames live than now.
    pub(crate) fn limit(&self, room: usize) {
        let most = self.live().saturating_add(room);
        self.room.store(most, Ordering::Relaxed);
    }

    /// A received frame.
    pub(crate) fn frame(&self, bytes: &[u8], rss_hash: Option<u32>, flags: RxFlags) -> Tracked {
        let mut buffer = self.recycler.fill(bytes);
        buffer.rss_hash = rss_hash;
        buffer.tci = rss_hash.map_or(0, |hash| u16::from(hash % 2 == 1));
        buffer.flags = flags;
        let mut frame = self.track(buffer, Origin::Received);
        frame.note.is_sound = check::is_sound(bytes);
        frame
    }

    fn track(&self, buffer: Buffer, origin: Origin) -> Tracked {
        self.live.fetch_add(1, Ordering::Relaxed);
        let live = self.live.clone();
        let life = Life {
            origin,
            is_sound: false,
            live,
        };
        Noted::new(buffer, life)
    }

    fn made(&self, origin: Origin) -> Option<Tracked> {
        let has_room = self.live() < self.room.load(Ordering::Relaxed);
        has_room.then(|| self.track(self.recycler.empty(), origin))
    }
}

impl FramePool for Pool {
    type Frame = Tracked;

    fn alloc(&mut self) -> Option<Tracked> {
        self.made(Origin::Control)
    }
}

/// Who made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It came in by a port.
    Received,
    /// A worker made it.
    Worker,
    /// Control wants it sent.
    Control,
}

/// A frame that is counted while it lives.
pub(crate) type Tracked = Noted<Life>;

/// One of those that live.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) origin: Origin,
    /// Whether its checksums were right when it came in.
    pub(crate) is_sound: bool,
    live: Arc<AtomicUsize>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Note for Life {}

/// One worker's end of one port.
#[derive(Debug)]
pub(crate) struct Lane {
    pool: Pool,
    incoming: VecDeque<Tracked>,
    outgoing: Vec<Tracked>,
    /// Frames that one turn may send.
    pub(crate) room: usize,
}

impl Lane {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            room: usize::MAX,
        }
    }

    pub(crate) fn give(&mut self, frame: Tracked) {
        self.incoming.push_back(frame);
    }

    /// Frames that wait to be received.
    pub(crate) fn waiting(&self) -> usize {
        self.incoming.len()
    }

    /// What was sent since the last time.
    pub(crate) fn sent(&mut self) -> Vec<Tracked> {
        std::mem::take(&mut self.outgoing)
    }
}

impl Port for Lane {
    type Frame = Tracked;

    fn rx_burst(&mut self, burst: &mut Burst<Tracked>) -> usize {
        let n = burst.remaining_capacity().min(self.incoming.len());
        burst.extend(self.incoming.drain(..n));
        n
    }

    fn tx_burst(&mut self, burst: &mut Burst<Tracked>) -> usize {
        let room = self.room.saturating_sub(self.outgoing.len());
        let n = burst.len().min(room);
        self.outgoing.extend(burst.drain(..n));
        n
    }

    fn alloc(&mut self) -> Option<Tracked> {
        self.pool.made(Origin::Worker)
    }
}
