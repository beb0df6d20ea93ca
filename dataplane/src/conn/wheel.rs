//! The timer wheel: 4096 slots of one second, lists through the entries.
//!
//! An entry hangs in the slot of its deadline as it was when somebody last looked. When the
//! slot comes up the entry is looked at again: over, or hung up anew. A timeout longer than a
//! round of 68 minutes just comes up more than once.

use super::entry::Entry;
use crate::time::Millis;

const SLOTS: u32 = 4096;
const TICK_MS: u32 = 1000;
/// No entry.
pub(super) const NIL: u32 = u32::MAX;
/// Set in `previous` of a list's first entry; the rest is the wheel's slot.
const FIRST: u32 = 1 << 31;

/// The wheel's lists and its place.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32]>,
    /// The slot that comes up next, and when it does.
    at: u32,
    due: Millis,
}

impl Wheel {
    /// An empty wheel whose first tick is one second after `now`.
    pub fn new(now: Millis) -> Self {
        Self {
            heads: vec![NIL; SLOTS as usize].into(),
            at: 0,
            due: now.plus(TICK_MS),
        }
    }

    /// Hangs the entry in `slot`, which must hang nowhere, up for `delay_ms` after `now`.
    pub fn arm<A>(&mut self, entries: &mut [Entry<A>], slot: u32, now: Millis, delay_ms: u32) {
        // The slot at `at` comes up at `due`; round up, so that it is never early.
        let ahead = self.ahead(now, delay_ms);
        let list = (self.at + ahead) % SLOTS;
        let first = std::mem::replace(&mut self.heads[list as usize], slot);
        entries[slot as usize].next = first;
        entries[slot as usize].previous = FIRST | list;
        if first != NIL {
            entries[first as usize].previous = slot;
        }
    }

    /// Slots from the next to come up to the first that is not before the deadline.
    fn ahead(&self, now: Millis, delay_ms: u32) -> u32 {
        // Behind by up to a few ticks when a turn's budget ran out; never ahead of the clock
        // by more than one tick.
        let behind = now.plus(TICK_MS).since(self.due);
        let until = u64::from(delay_ms) + u64::from(behind);
        let ticks = until.div_ceil(u64::from(TICK_MS)).saturating_sub(1);
        u32::try_from(ticks).unwrap_or(SLOTS).min(SLOTS - 1)
    }

    /// Takes the entry in `slot` off its list.
    pub fn disarm<A>(&mut self, entries: &mut [Entry<A>], slot: u32) {
        let (next, previous) = (entries[slot as usize].next, entries[slot as usize].previous);
        if previous & FIRST != 0 {
            self.heads[(previous & !FIRST) as usize] = next;
        } else {
            entries[previous as usize].next = next;
        }
        if next != NIL {
            entries[next as usize].previous = previous;
        }
    }

    /// The entries of the slot that comes up next: whatever is over before its tick is among
    /// them, once [`due`](Self::due) has nothing more.
    pub fn coming<'e, A>(&self, entries: &'e [Entry<A>]) -> impl Iterator<Item = u32> + 'e {
        let some = |slot| (slot != NIL).then_some(slot);
        let next = move |&slot: &u32| some(entries[slot as usize].next);
        std::iter::successors(some(self.heads[self.at as usize]), next)
    }

    /// The next entry whose slot has come up by `now`, still on its list; `None` when there
    /// is none for now. Moves on by at most `ticks` empty slots and takes them off the budget.
    pub fn due(&mut self, now: Millis, ticks: &mut u32) -> Option<u32> {
        while now.since(self.due) < u32::MAX / 2 {
            let head = self.heads[self.at as usize];
            if head != NIL {
                return Some(head);
            }
            if *ticks == 0 {
                return None;
            }
            *ticks -= 1;
            self.at = (self.at + 1) % SLOTS;
            self.due = self.due.plus(TICK_MS);
        }
        None
    }
}
