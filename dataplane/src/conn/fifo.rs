//! What goes first when the table is full: a queue of slots, oldest first.
//!
//! In it are connections that nobody has answered yet (TCP before ESTABLISHED, UDP with one
//! packet seen), and templates that are not assured and control none.
//!
//! ```text
//!   head                          head + len
//!    ▼                                ▼
//!    7   -   12  -   -   -   3   9    .    .    .
//! ```
//!
//! Who leaves before its turn leaves a hole, found by the place that its entry remembers. So a
//! new connection writes one cell after the one before, and an answer one cell that was written
//! a round trip ago (measured: 5 ns and 1 ns of 105 and 47); links through the slots cost an
//! answer three cache misses. Holes are passed over when they come to the front.

use arch::{HugeSlice, Pages, PagesError};

use super::wheel::NIL;

/// In a cell whose slot has left.
const HOLE: u32 = NIL;

/// Cells for each slot: behind one that nobody answers there is room for the holes of as many
/// others.
const CELLS_PER_SLOT: usize = 2;

/// Cells in a line, which are looked at together.
const LINE: u32 = 16;
/// Holes that one look at the front passes over: four lines.
const BY_LOOK: u32 = 4 * LINE;
/// Holes that a newcomer passes over, so that few are left for a look.
const BY_PUSH: u32 = 4;

/// The queue.
#[derive(Debug)]
pub struct Fifo {
    cells: HugeSlice<u32>,
    head: u32,
    /// Cells in use, holes among them.
    len: u32,
}

impl Fifo {
    /// An empty queue for slots below `slots`, at most 2^30.
    ///
    /// # Errors
    /// No memory.
    pub fn new(slots: usize, pages: Pages) -> Result<Self, PagesError> {
        Ok(Self {
            cells: HugeSlice::filled(slots * CELLS_PER_SLOT, HOLE, pages)?,
            head: 0,
            len: 0,
        })
    }

    /// Octets that it takes.
    pub fn memory(&self) -> usize {
        self.cells.mapped_bytes()
    }

    /// Cells that are free.
    #[inline]
    pub fn room(&self) -> u32 {
        self.count() - self.len
    }

    /// Puts a slot behind all others; its place, if there is room.
    #[inline]
    pub fn push(&mut self, slot: u32) -> Option<u32> {
        self.pass_over(BY_PUSH);
        if self.room() == 0 {
            return None;
        }
        let place = self.after(self.head, self.len);
        self.cells[place as usize] = slot;
        self.len += 1;
        Some(place)
    }

    /// Puts a slot before all others; its place, if there is room.
    pub fn push_first(&mut self, slot: u32) -> Option<u32> {
        if self.room() == 0 {
            return None;
        }
        self.head = self.after(self.head, self.count() - 1);
        self.cells[self.head as usize] = slot;
        self.len += 1;
        Some(self.head)
    }

    /// Takes the slot at `place` out.
    #[inline]
    pub fn remove(&mut self, place: u32) {
        self.cells[place as usize] = HOLE;
    }

    /// The slot that goes next; `None` also where too many holes come first, and then less
    /// the next time.
    pub fn oldest(&mut self) -> Option<u32> {
        self.pass_over(BY_LOOK);
        let front = (self.len > 0).then(|| self.cells[self.head as usize])?;
        (front != HOLE).then_some(front)
    }

    /// The slots that go next, as [`Fifo::oldest`] would say, for who may only look: those of
    /// the first few cells.
    pub fn first(&self) -> impl Iterator<Item = u32> {
        let places = (0..self.len.min(BY_LOOK + 1)).map(|n| self.after(self.head, n));
        let slots = places.map(|place| self.cells[place as usize]);
        slots.filter(|&slot| slot != HOLE)
    }

    /// Forgets up to so many holes at the front.
    #[inline]
    fn pass_over(&mut self, mut most: u32) {
        while most > 0 && self.len > 0 && self.cells[self.head as usize] == HOLE {
            let holes = if most >= LINE && self.is_line_of_holes() {
                LINE
            } else {
                1
            };
            self.head = self.after(self.head, holes);
            self.len -= holes;
            most -= holes;
        }
    }

    /// Whether the front is where a line begins, with nothing in there but holes: a flood that
    /// fills a table of established connections meets many such lines.
    fn is_line_of_holes(&self) -> bool {
        let (from, cells) = (self.head as usize, LINE as usize);
        if !from.is_multiple_of(cells) || self.len < LINE {
            return false;
        }
        let line = self.cells.get(from..from + cells);
        // All of them, without a branch each.
        line.is_some_and(|line| line.iter().fold(true, |all, &cell| all & (cell == HOLE)))
    }

    #[inline]
    fn count(&self) -> u32 {
        u32::try_from(self.cells.len()).expect("at most 2^31 cells")
    }

    /// The place `cells`, at most their count, after `place`.
    #[inline]
    fn after(&self, place: u32, cells: u32) -> u32 {
        let (at, count) = (place + cells, self.count());
        if at >= count { at - count } else { at }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_queue(steps in prop::collection::vec((0..4u8, 0..30u32), 0..600)) {
            let mut fifo = Fifo::new(30, Pages::Off).expect("memory");
            let mut model = VecDeque::new();
            let mut places = HashMap::new();
            for (step, slot) in steps {
                match (step, places.contains_key(&slot)) {
                    (0 | 1, false) => {
                        let place = if step == 0 { fifo.push(slot) } else { fifo.push_first(slot) };
                        if let Some(place) = place {
                            places.insert(slot, place);
                            if step == 0 { model.push_back(slot) } else { model.push_front(slot) }
                        }
                    }
                    (2, true) => {
                        fifo.remove(places.remove(&slot).expect("it is there"));
                        model.retain(|&other| other != slot);
                    }
                    _ => prop_assert_eq!(fifo.oldest(), model.front().copied()),
                }
                prop_assert!(fifo.len as usize >= model.len());
            }
            while let Some(slot) = fifo.oldest() {
                prop_assert_eq!(Some(slot), model.pop_front());
                fifo.remove(places[&slot]);
            }
            prop_assert!(model.is_empty() && fifo.len == 0);
        }
    }

    #[test]
    fn many_holes_are_passed_over_in_steps() {
        let mut fifo = Fifo::new(100, Pages::Off).expect("memory");
        let places: Vec<_> = (0..150)
            .map(|slot| fifo.push(slot).expect("room"))
            .collect();
        places[..149].iter().for_each(|&place| fifo.remove(place));
        let looks = (0..4).map(|_| fifo.oldest());
        assert!(looks.eq([None, None, Some(149), Some(149)]));
        assert_eq!(fifo.room(), 199);
        fifo.remove(places[149]);
        fifo.push(0);
        assert_eq!(fifo.room(), 199, "a newcomer passes over holes too");
    }
}
