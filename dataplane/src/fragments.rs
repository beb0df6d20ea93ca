//! Fragments that follow their packet's first one, without putting the packet together.
//!
//! Only the first fragment carries ports. They are remembered, and all later fragments follow
//! them; later fragments that come first are held until it comes, in bounded number and for a
//! bounded time. Each fragment keeps its size: IPVS too sends what it reassembled in the sizes
//! in which it came.
//!
//! ```text
//!            first comes               all came, or too late
//!   waiting -------------> following ------------------------> forgotten
//!      |  \                    |                                  ^ ^
//!      |   `-- overlap --------+--> refused -- too late ----------' |
//!      `-- the first did not come in time: what is held is dropped -'
//! ```
//!
//! Overlap is never forwarded: the packet is refused as a whole from then on (RFC 5722 §4; for
//! IPv4 as well, as Linux does), so what was sent of it before can't be completed either. A
//! fragment that was there before is dropped, and nothing else happens (RFC 8200 §4.5).
//!
//! A full table forgets its oldest packet, of those that wait or of all others, whichever are
//! more: a flood of one kind costs the other little.

mod held;
mod piece;

pub use piece::{Extent, MAX_PIECES, Piece};

use held::{Chain, Held};
use piece::{Fit, Pieces};

use crate::conn::{Address, Hasher, Key};
use crate::time::Millis;
use crate::verdict::Reason;

/// No slot.
const NIL: u32 = u32::MAX;

/// What the fragments of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Datagram<A>(Key<A>);

impl Datagram<u32> {
    /// IPv4 (RFC 791 §3.2).
    pub fn v4(source: u32, destination: u32, protocol: u8, id: u16) -> Self {
        Self(Key {
            source,
            destination,
            source_port: 0,
            destination_port: id,
            protocol,
        })
    }
}

impl Datagram<u128> {
    /// IPv6: the next header does not count (RFC 8200 §4.5).
    pub fn v6(source: u128, destination: u128, id: u32) -> Self {
        let [a, b, c, d] = id.to_be_bytes();
        Self(Key {
            source,
            destination,
            source_port: u16::from_be_bytes([a, b]),
            destination_port: u16::from_be_bytes([c, d]),
            protocol: 0,
        })
    }
}

impl<A> Datagram<A> {
    /// The addresses, as a tuple whose ports mean nothing.
    pub fn key(&self) -> &Key<A> {
        &self.0
    }
}

/// What only the first fragment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Transport {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Upper-layer protocol: in IPv6 a later fragment need not tell it.
    pub protocol: u8,
}

/// What becomes of a later fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Later<F> {
    /// It goes where these lead.
    Follow(F, Transport),
    /// It is kept, and comes back from [`Fragments::take`].
    Held,
    /// It is dropped.
    Drop(F, Reason),
}

/// What becomes of a fragment that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes where these lead.
    Follow(Transport),
    /// It is dropped.
    Drop(Reason),
}

/// How much may be kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Packets remembered, at least 1.
    pub datagrams: u32,
    /// Frames held.
    pub frames: u32,
    /// Of these, of one packet; fewer than [`MAX_PIECES`].
    pub frames_per_datagram: u32,
    /// How long a frame waits for the first fragment, in milliseconds.
    pub hold_ms: u32,
    /// How long the first fragment's ports are remembered, and an overlap held against its
    /// packet, in milliseconds.
    pub life_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            datagrams: 2048,
            frames: 256,
            frames_per_datagram: 60,
            hold_ms: 500,
            life_ms: 30_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Following(Transport),
    Refused,
}

/// A packet of which a fragment came.
#[derive(Debug)]
struct Entry<A> {
    datagram: Datagram<A>,
    stage: Stage,
    /// When it came to this stage.
    since: Millis,
    held: Chain,
    /// Neighbours in the order of age.
    younger: u32,
    older: u32,
    /// The next in the same bucket, or the next free one.
    next: u32,
    pieces: Pieces,
}

/// Slots in the order of age. As each list has one lifetime, it is also that of deadlines.
#[derive(Clone, Copy, Debug)]
struct Ages {
    oldest: u32,
    youngest: u32,
    len: u32,
}

const NOBODY: Ages = Ages {
    oldest: NIL,
    youngest: NIL,
    len: 0,
};

/// One worker's packets of one family that come in fragments. Frames go in by
/// [`Fragments::later`] and come out, each once, from it or from [`Fragments::take`].
#[derive(Debug)]
pub struct Fragments<A: Address, F> {
    entries: Box<[Entry<A>]>,
    /// First slots of the buckets.
    buckets: Box<[u32]>,
    free: u32,
    waiting: Ages,
    /// Following or refused.
    settled: Ages,
    frames: Held<F>,
    hasher: Hasher,
    limits: Limits,
}

impl<A: Address, F> Fragments<A, F> {
    /// An empty table; all its memory is taken here.
    pub fn new(limits: Limits, hasher: Hasher) -> Self {
        let datagrams = limits.datagrams.clamp(1, 1 << 24);
        let most = u32::try_from(MAX_PIECES).expect("64") - 1;
        let entry = |next| Entry {
            datagram: Datagram::default(),
            stage: Stage::Waiting,
            since: Millis(0),
            held: Chain::EMPTY,
            younger: NIL,
            older: NIL,
            next: if next == datagrams { NIL } else { next },
            pieces: Pieces::default(),
        };
        Self {
            entries: (1..=datagrams).map(entry).collect(),
            buckets: vec![NIL; 2 * datagrams as usize].into(),
            free: 0,
            waiting: NOBODY,
            settled: NOBODY,
            frames: Held::new(limits.frames.min(1 << 24)),
            hasher,
            limits: Limits {
                datagrams,
                frames_per_datagram: limits.frames_per_datagram.min(most),
                ..limits
            },
        }
    }

    /// Octets that it takes, without the frames' own.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.buckets) + self.frames.memory()
    }

    /// Packets remembered.
    pub fn len(&self) -> u32 {
        self.waiting.len + self.settled.len
    }

    /// Whether it remembers none. There may still be frames to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames in it: held, or let go and not yet taken.
    pub fn frames(&self) -> u32 {
        self.frames.len()
    }

    /// A first fragment. If it may go on, what was held of its packet now comes from
    /// [`Fragments::take`], to follow it.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn first(
        &mut self,
        datagram: &Datagram<A>,
        transport: Transport,
        piece: Piece,
        now: Millis,
    ) -> Result<(), Reason> {
        debug_assert!(piece.is_first(), "only the first knows the ports");
        let slot = self.find(datagram, now);
        let slot = slot.unwrap_or_else(|| self.open(datagram, now));
        self.place(slot, piece, now)?;
        self.settle(slot, Stage::Following(transport), now);
        let entry = &mut self.entries[slot as usize];
        self.frames.let_go(&mut entry.held, Fate::Follow(transport));
        self.close_if_complete(slot);
        Ok(())
    }

    /// What a packet's first fragment said, for who may only look.
    pub fn peek(&self, datagram: &Datagram<A>, now: Millis) -> Option<Transport> {
        let mut slot = self.buckets[self.bucket(datagram)];
        while slot != NIL {
            let entry = &self.entries[slot as usize];
            if entry.datagram == *datagram {
                return match entry.stage {
                    Stage::Following(transport) if !self.is_over(slot, now) => Some(transport),
                    _ => None,
                };
            }
            slot = entry.next;
        }
        None
    }

    /// From now on the packet's later fragments follow what its first one said elsewhere.
    pub fn know(&mut self, datagram: &Datagram<A>, transport: Transport, now: Millis) {
        let slot = self.find(datagram, now);
        let slot = slot.unwrap_or_else(|| self.open(datagram, now));
        self.settle(slot, Stage::Following(transport), now);
    }

    /// A later fragment.
    pub fn later(
        &mut self,
        datagram: &Datagram<A>,
        piece: Piece,
        frame: F,
        now: Millis,
    ) -> Later<F> {
        debug_assert!(!piece.is_first(), "the first never waits");
        let found = self.find(datagram, now);
        if let Some(slot) = found
            && self.entries[slot as usize].stage != Stage::Waiting
        {
            return self.follow(slot, piece, frame, now);
        }
        let waiting = found.map_or(0, |slot| self.entries[slot as usize].held.len);
        if !self.frames.has_room() || waiting >= self.limits.frames_per_datagram {
            return Later::Drop(frame, Reason::FragmentFull);
        }
        let slot = found.unwrap_or_else(|| self.open(datagram, now));
        match self.place(slot, piece, now) {
            Ok(()) => self.hold(slot, frame),
            Err(reason) => Later::Drop(frame, reason),
        }
    }

    /// Forgets what is too old, at most `budget` packets; what was held of them comes from
    /// [`Fragments::take`].
    pub fn expire(&mut self, now: Millis, budget: u32) {
        for _ in 0..budget {
            let due = [self.waiting.oldest, self.settled.oldest]
                .into_iter()
                .find(|&slot| slot != NIL && self.is_over(slot, now));
            let Some(slot) = due else { return };
            self.close(slot, Reason::FragmentTimeout);
        }
    }

    /// The next frame that was held and is no longer, and what becomes of it.
    #[inline]
    pub fn take(&mut self) -> Option<(F, Fate)> {
        self.frames.pop()
    }

    fn follow(&mut self, slot: u32, piece: Piece, frame: F, now: Millis) -> Later<F> {
        if let Err(reason) = self.place(slot, piece, now) {
            return Later::Drop(frame, reason);
        }
        let stage = self.entries[slot as usize].stage;
        self.close_if_complete(slot);
        match stage {
            Stage::Following(transport) => Later::Follow(frame, transport),
            Stage::Waiting | Stage::Refused => Later::Drop(frame, Reason::FragmentOverlap),
        }
    }

    fn hold(&mut self, slot: u32, frame: F) -> Later<F> {
        let entry = &mut self.entries[slot as usize];
        match self.frames.push(&mut entry.held, frame) {
            Ok(()) => Later::Held,
            Err(frame) => Later::Drop(frame, Reason::FragmentFull),
        }
    }

    /// Takes a piece's place in its packet; the packet is refused if it can't have it.
    fn place(&mut self, slot: u32, piece: Piece, now: Millis) -> Result<(), Reason> {
        let entry = &mut self.entries[slot as usize];
        if entry.stage == Stage::Refused {
            return Err(Reason::FragmentOverlap);
        }
        match entry.pieces.add(piece) {
            Fit::New => Ok(()),
            Fit::Duplicate => Err(Reason::FragmentDuplicate),
            Fit::TooMany => Err(Reason::FragmentFull),
            Fit::Contradiction => {
                let refused = Fate::Drop(Reason::FragmentOverlap);
                self.frames.let_go(&mut entry.held, refused);
                self.settle(slot, Stage::Refused, now);
                Err(Reason::FragmentOverlap)
            }
        }
    }

    /// Brings a packet to another stage, from which on it has all its lifetime.
    fn settle(&mut self, slot: u32, stage: Stage, now: Millis) {
        self.unlist(slot);
        let entry = &mut self.entries[slot as usize];
        (entry.stage, entry.since) = (stage, now);
        self.list(slot);
    }

    /// The slot of a packet that is remembered and not too old.
    fn find(&mut self, datagram: &Datagram<A>, now: Millis) -> Option<u32> {
        let mut slot = self.buckets[self.bucket(datagram)];
        while slot != NIL {
            let entry = &self.entries[slot as usize];
            if entry.datagram == *datagram {
                if !self.is_over(slot, now) {
                    return Some(slot);
                }
                self.close(slot, Reason::FragmentTimeout);
                return None;
            }
            slot = entry.next;
        }
        None
    }

    fn is_over(&self, slot: u32, now: Millis) -> bool {
        let entry = &self.entries[slot as usize];
        let limit = match entry.stage {
            Stage::Waiting => self.limits.hold_ms,
            Stage::Following(_) | Stage::Refused => self.limits.life_ms,
        };
        now.since(entry.since) >= limit
    }

    /// A slot for a packet that is not remembered.
    fn open(&mut self, datagram: &Datagram<A>, now: Millis) -> u32 {
        if self.free == NIL {
            let crowd = if self.waiting.len > self.settled.len {
                self.waiting
            } else {
                self.settled
            };
            self.close(crowd.oldest, Reason::FragmentFull);
        }
        let (slot, bucket) = (self.free, self.bucket(datagram));
        let entry = &mut self.entries[slot as usize];
        self.free = std::mem::replace(&mut entry.next, self.buckets[bucket]);
        self.buckets[bucket] = slot;
        (entry.datagram, entry.stage, entry.since) = (*datagram, Stage::Waiting, now);
        entry.pieces.clear();
        self.list(slot);
        slot
    }

    fn close_if_complete(&mut self, slot: u32) {
        if self.entries[slot as usize].pieces.is_complete() {
            self.close(slot, Reason::FragmentTimeout);
        }
    }

    /// Forgets a packet; what is held of it is dropped for `reason`.
    fn close(&mut self, slot: u32, reason: Reason) {
        self.unlist(slot);
        let entry = &mut self.entries[slot as usize];
        self.frames.let_go(&mut entry.held, Fate::Drop(reason));
        let (datagram, next) = (entry.datagram, entry.next);
        let bucket = self.bucket(&datagram);
        if self.buckets[bucket] == slot {
            self.buckets[bucket] = next;
        } else {
            let mut before = self.buckets[bucket];
            while self.entries[before as usize].next != slot {
                before = self.entries[before as usize].next;
            }
            self.entries[before as usize].next = next;
        }
        self.entries[slot as usize].next = self.free;
        self.free = slot;
    }

    #[inline]
    fn bucket(&self, datagram: &Datagram<A>) -> usize {
        let buckets = u32::try_from(self.buckets.len()).expect("at most 2^25");
        self.hasher.hash(&datagram.0).place(buckets) as usize
    }

    fn ages(&mut self, slot: u32) -> &mut Ages {
        match self.entries[slot as usize].stage {
            Stage::Waiting => &mut self.waiting,
            Stage::Following(_) | Stage::Refused => &mut self.settled,
        }
    }

    /// Adds a slot to the list of its stage, as the youngest.
    fn list(&mut self, slot: u32) {
        let ages = self.ages(slot);
        let older = std::mem::replace(&mut ages.youngest, slot);
        ages.len += 1;
        if older == NIL {
            ages.oldest = slot;
        } else {
            self.entries[older as usize].younger = slot;
        }
        let entry = &mut self.entries[slot as usize];
        (entry.older, entry.younger) = (older, NIL);
    }

    /// Takes a slot out of the list of its stage.
    fn unlist(&mut self, slot: u32) {
        let Entry { older, younger, .. } = self.entries[slot as usize];
        let ages = self.ages(slot);
        ages.len -= 1;
        if older == NIL {
            ages.oldest = younger;
        }
        if younger == NIL {
            ages.youngest = older;
        }
        if older != NIL {
            self.entries[older as usize].younger = younger;
        }
        if younger != NIL {
            self.entries[younger as usize].older = older;
        }
    }
}

#[cfg(test)]
mod tests;
