//! Frames that wait for the first fragment of their packet, and those that wait no longer.
//!
//! All are in one array of fixed length, in chains: one per packet, one of those to be taken
//! out, one of free places.

use super::{Fate, NIL};
use crate::verdict::Reason;

/// Frames in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    head: u32,
    tail: u32,
    pub(super) len: u32,
}

impl Chain {
    pub(super) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };
}

#[derive(Debug)]
struct Place<F> {
    frame: Option<F>,
    /// What becomes of it, once it may go.
    fate: Fate,
    next: u32,
}

/// The array.
#[derive(Debug)]
pub(super) struct Held<F> {
    places: Box<[Place<F>]>,
    free: u32,
    out: Chain,
    len: u32,
}

impl<F> Held<F> {
    /// Room for `capacity` frames.
    pub(super) fn new(capacity: u32) -> Self {
        let place = |next| Place {
            frame: None,
            fate: Fate::Drop(Reason::FragmentTimeout),
            next: if next == capacity { NIL } else { next },
        };
        Self {
            places: (1..=capacity).map(place).collect(),
            free: if capacity == 0 { NIL } else { 0 },
            out: Chain::EMPTY,
            len: 0,
        }
    }

    /// Octets that it takes, without the frames' own.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.places)
    }

    /// Frames in it.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Whether another frame finds a place.
    pub(super) fn has_room(&self) -> bool {
        self.free != NIL
    }

    /// Adds `frame` to `chain`; gives it back if there is no room.
    pub(super) fn push(&mut self, chain: &mut Chain, frame: F) -> Result<(), F> {
        let at = self.free;
        if at == NIL {
            return Err(frame);
        }
        let place = &mut self.places[at as usize];
        self.free = std::mem::replace(&mut place.next, NIL);
        place.frame = Some(frame);
        self.link(
            chain,
            Chain {
                head: at,
                tail: at,
                len: 1,
            },
        );
        self.len += 1;
        Ok(())
    }

    /// Lets all of `chain` go, with this fate.
    pub(super) fn let_go(&mut self, chain: &mut Chain, fate: Fate) {
        let chain = std::mem::replace(chain, Chain::EMPTY);
        let mut at = chain.head;
        while at != NIL {
            let place = &mut self.places[at as usize];
            place.fate = fate;
            at = place.next;
        }
        let mut out = self.out;
        self.link(&mut out, chain);
        self.out = out;
    }

    /// The next frame that was let go.
    pub(super) fn pop(&mut self) -> Option<(F, Fate)> {
        let at = self.out.head;
        let place = self.places.get_mut(at as usize)?;
        let frame = place.frame.take().expect("a chain holds frames");
        self.out.head = std::mem::replace(&mut place.next, self.free);
        self.out.len -= 1;
        if self.out.head == NIL {
            self.out.tail = NIL;
        }
        self.free = at;
        self.len -= 1;
        Some((frame, place.fate))
    }

    /// Hangs `more` behind `chain`.
    fn link(&mut self, chain: &mut Chain, more: Chain) {
        if more.head == NIL {
            return;
        }
        match self.places.get_mut(chain.tail as usize) {
            Some(tail) => tail.next = more.head,
            None => chain.head = more.head,
        }
        chain.tail = more.tail;
        chain.len += more.len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP: Fate = Fate::Drop(Reason::FragmentFull);

    #[test]
    fn chains_keep_their_order_and_places_are_used_again() {
        let mut held = Held::new(3);
        let (mut a, mut b) = (Chain::EMPTY, Chain::EMPTY);
        assert_eq!(held.push(&mut a, 1), Ok(()));
        assert_eq!(held.push(&mut b, 2), Ok(()));
        assert_eq!(held.push(&mut a, 3), Ok(()));
        assert_eq!(held.push(&mut b, 4), Err(4));
        assert!(!held.has_room());
        assert_eq!(held.pop(), None);
        held.let_go(&mut a, DROP);
        held.let_go(&mut b, DROP);
        held.let_go(&mut b, DROP);
        assert_eq!((a.len, b.len, held.len()), (0, 0, 3));
        assert_eq!(held.pop(), Some((1, DROP)));
        assert_eq!(held.push(&mut b, 4), Ok(()));
        held.let_go(&mut b, DROP);
        let rest: Vec<_> = std::iter::from_fn(|| held.pop()).collect();
        assert_eq!(rest, [(3, DROP), (2, DROP), (4, DROP)]);
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn no_room_at_all() {
        let mut held = Held::new(0);
        let mut chain = Chain::EMPTY;
        assert_eq!(held.push(&mut chain, 1), Err(1));
        assert_eq!(held.pop(), None);
    }
}
