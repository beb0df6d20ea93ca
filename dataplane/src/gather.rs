//! A worker's fragments, both families, each with the port it came by.

use crate::conn::Hasher;
use crate::fragments::{Fate, Fragments, Later, Limits, Transport};
use crate::parse::{Fragment, Whole};
use crate::port::PortId;
use crate::time::Millis;
use crate::verdict::Reason;

/// The fragments that one worker gathers.
#[derive(Debug)]
pub struct Gathering<F> {
    v4: Fragments<u32, (F, PortId)>,
    v6: Fragments<u128, (F, PortId)>,
}

/// What becomes of a fragment.
#[derive(Debug)]
pub enum Gathered<F> {
    /// It goes where these lead.
    Follow(F, Transport),
    /// It waits for its packet's first one.
    Held,
    /// Gone.
    Drop(F, Reason),
}

impl<F> Gathering<F> {
    /// Empty; takes all the memory that it will ever use.
    pub fn new(hasher: Hasher) -> Self {
        let limits = Limits::default();
        Self {
            v4: Fragments::new(limits, hasher),
            v6: Fragments::new(limits, hasher),
        }
    }

    /// Octets that it takes, frames aside.
    pub fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }

    /// What a packet's first fragment said, for who may only look.
    pub fn peek(&self, of: &Whole, now: Millis) -> Option<Transport> {
        match of {
            Whole::V4(datagram) => self.v4.peek(datagram, now),
            Whole::V6(datagram) => self.v6.peek(datagram, now),
        }
    }

    /// From now on a packet's later fragments follow what its first one said elsewhere.
    pub fn know(&mut self, of: &Whole, transport: Transport, now: Millis) {
        match of {
            Whole::V4(datagram) => self.v4.know(datagram, transport, now),
            Whole::V6(datagram) => self.v6.know(datagram, transport, now),
        }
    }

    /// Takes a fragment in.
    pub fn add(&mut self, frame: F, from: PortId, part: &Fragment, now: Millis) -> Gathered<F> {
        let Fragment {
            of,
            piece,
            transport,
        } = *part;
        match (of, transport) {
            (Whole::V4(datagram), Some(transport)) => first(
                self.v4.first(&datagram, transport, piece, now),
                frame,
                transport,
            ),
            (Whole::V6(datagram), Some(transport)) => first(
                self.v6.first(&datagram, transport, piece, now),
                frame,
                transport,
            ),
            (Whole::V4(datagram), None) => {
                later(self.v4.later(&datagram, piece, (frame, from), now))
            }
            (Whole::V6(datagram), None) => {
                later(self.v6.later(&datagram, piece, (frame, from), now))
            }
        }
    }

    /// The next held frame that is let go, and why. To be asked until there is none, after
    /// each [`Gathering::add`] and [`Gathering::expire`].
    pub fn released(&mut self) -> Option<(F, PortId, Fate)> {
        let next = self.v4.take().or_else(|| self.v6.take());
        next.map(|((frame, from), fate)| (frame, from, fate))
    }

    /// Forgets what is too old, looking at no more than `budget` of each family.
    pub fn expire(&mut self, now: Millis, budget: u32) {
        self.v4.expire(now, budget);
        self.v6.expire(now, budget);
    }
}

fn first<F>(taken: Result<(), Reason>, frame: F, transport: Transport) -> Gathered<F> {
    match taken {
        Ok(()) => Gathered::Follow(frame, transport),
        Err(reason) => Gathered::Drop(frame, reason),
    }
}

fn later<F>(taken: Later<(F, PortId)>) -> Gathered<F> {
    match taken {
        Later::Follow((frame, _), transport) => Gathered::Follow(frame, transport),
        Later::Held => Gathered::Held,
        Later::Drop((frame, _), reason) => Gathered::Drop(frame, reason),
    }
}
