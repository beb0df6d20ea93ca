//! Slots that outlive what they were made for.
//!
//! A connection remembers a real server by its slot. So a slot whose object was removed goes
//! to the trash, and is free again only when no worker counts a connection on it and every
//! worker is past the last snapshot that could have made one. Until then the same object,
//! added again, finds its old slot: that is IPVS's trash.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot<K> {
    Free,
    Live(K),
    /// Unused since the snapshot of this generation.
    Trashed(K, u64),
}

/// Slots by key.
#[derive(Clone, Debug)]
pub struct Arena<K> {
    slots: Vec<Slot<K>>,
    by_key: HashMap<K, u32>,
    free: Vec<u32>,
    trash: VecDeque<u32>,
}

/// How a slot was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was in use for this key already.
    Kept(u32),
    /// It came back from the trash, counters and connections with it.
    Revived(u32),
    /// It is new or was free.
    Fresh(u32),
}

impl Taken {
    /// The slot.
    pub fn slot(self) -> u32 {
        match self {
            Self::Kept(slot) | Self::Revived(slot) | Self::Fresh(slot) => slot,
        }
    }
}

impl<K> Default for Arena<K> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            by_key: HashMap::new(),
            free: Vec::new(),
            trash: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Arena<K> {
    /// The slot for `key`: the one it has, its own from the trash, or another.
    pub fn take(&mut self, key: &K) -> Taken {
        if let Some(&slot) = self.by_key.get(key) {
            let old = std::mem::replace(&mut self.slots[slot as usize], Slot::Live(key.clone()));
            return match old {
                Slot::Live(_) => Taken::Kept(slot),
                _ => Taken::Revived(slot),
            };
        }
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        self.slots[slot as usize] = Slot::Live(key.clone());
        self.by_key.insert(key.clone(), slot);
        Taken::Fresh(slot)
    }

    fn grow(&mut self) -> u32 {
        self.slots.push(Slot::Free);
        u32::try_from(self.slots.len() - 1).expect("memory ends before 2^32 slots")
    }

    /// The slot in use for `key`.
    pub fn get(&self, key: &K) -> Option<u32> {
        let slot = *self.by_key.get(key)?;
        matches!(self.slots[slot as usize], Slot::Live(_)).then_some(slot)
    }

    /// The slot of `key`, in use or in the trash.
    pub fn find(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Whose a slot is, in use or in the trash.
    pub fn key(&self, slot: u32) -> Option<&K> {
        match self.slots.get(slot as usize)? {
            Slot::Free => None,
            Slot::Live(key) | Slot::Trashed(key, _) => Some(key),
        }
    }

    /// Puts the slot of `key` into the trash: from the snapshot of `generation` on nobody can
    /// make anything new on it.
    pub fn trash(&mut self, key: &K, generation: u64) -> Option<u32> {
        let slot = self.get(key)?;
        self.slots[slot as usize] = Slot::Trashed(key.clone(), generation);
        self.trash.push_back(slot);
        Some(slot)
    }

    /// Looks at up to `limit` trashed slots and frees those that are `unused(slot,
    /// generation)`; says which.
    pub fn sweep(
        &mut self,
        limit: usize,
        mut unused: impl FnMut(u32, &K, u64) -> bool,
    ) -> Vec<(u32, K)> {
        let mut freed = Vec::new();
        for _ in 0..limit.min(self.trash.len()) {
            let Some(slot) = self.trash.pop_front() else {
                break;
            };
            let Slot::Trashed(key, generation) = &self.slots[slot as usize] else {
                continue; // revived since, or freed through an older place in the queue
            };
            if !unused(slot, key, *generation) {
                self.trash.push_back(slot);
                continue;
            }
            let key = key.clone();
            self.by_key.remove(&key);
            self.slots[slot as usize] = Slot::Free;
            self.free.push(slot);
            freed.push((slot, key));
        }
        freed
    }

    /// Slots in use.
    pub fn live(&self) -> usize {
        self.slots.len() - self.free.len() - self.trashed()
    }

    /// Slots in the trash.
    pub fn trashed(&self) -> usize {
        let trashed = |slot: &&Slot<K>| matches!(slot, Slot::Trashed(..));
        self.slots.iter().filter(trashed).count()
    }

    /// Places in the queue of the trash, those of slots that were revived too: after so many
    /// looks of [`Arena::sweep`] everything was looked at.
    pub fn queued(&self) -> usize {
        self.trash.len()
    }

    /// How many slots there are, of every kind: all slots are below this.
    pub fn size(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("memory ends before 2^32 slots")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_removed_key_finds_its_slot_until_it_is_unused() {
        let mut arena = Arena::default();
        assert_eq!(arena.take(&'a'), Taken::Fresh(0));
        assert_eq!(arena.take(&'b'), Taken::Fresh(1));
        assert_eq!(arena.take(&'a'), Taken::Kept(0));
        assert_eq!(arena.trash(&'a', 5), Some(0));
        assert_eq!(
            (arena.get(&'a'), arena.live(), arena.trashed()),
            (None, 1, 1)
        );
        assert_eq!(
            arena.take(&'c'),
            Taken::Fresh(2),
            "a trashed slot is not free"
        );
        assert_eq!(arena.take(&'a'), Taken::Revived(0));
        assert_eq!(
            arena.sweep(9, |_, _, _| true),
            [],
            "a revived slot is in use"
        );
        arena.trash(&'a', 6);
        assert_eq!(arena.sweep(9, |_, _, generation| generation < 6), []);
        assert_eq!(
            arena.sweep(9, |_, _, generation| generation <= 6),
            [(0, 'a')]
        );
        assert_eq!(arena.take(&'d'), Taken::Fresh(0));
        assert_eq!(arena.size(), 3);
    }

    #[test]
    fn a_sweep_goes_round() {
        let mut arena = Arena::default();
        for key in 0..10u32 {
            arena.take(&key);
            arena.trash(&key, 0);
        }
        assert_eq!(arena.sweep(4, |_, _, _| false), []);
        let freed = arena.sweep(4, |slot, _, _| slot >= 4);
        assert_eq!(freed, [(4, 4), (5, 5), (6, 6), (7, 7)]);
        assert_eq!(arena.trashed(), 6);
    }

    proptest! {
        #[test]
        fn no_two_keys_share_a_slot(steps in prop::collection::vec((0u8..3, 0u8..12), 0..200)) {
            let mut arena = Arena::default();
            let mut live = HashMap::new();
            for (what, key) in steps {
                match what {
                    0 => { live.insert(key, arena.take(&key).slot()); }
                    1 => { arena.trash(&key, 0); live.remove(&key); }
                    _ => { arena.sweep(3, |slot, _, _| slot % 2 == 0); }
                }
                let mut slots: Vec<_> = live.values().copied().collect();
                slots.sort_unstable();
                slots.dedup();
                prop_assert_eq!(slots.len(), live.len());
                for (key, slot) in &live {
                    prop_assert_eq!(arena.get(key), Some(*slot));
                }
            }
        }
    }
}
