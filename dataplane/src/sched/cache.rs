//! What a worker remembers of destinations, for `lblc` and `lblcr` (reference B.4): a bounded
//! hash table whose entries also stand in the order of their last use.
//!
//! IPVS has such a table for each service and lets it grow; this one serves all services of a
//! worker, takes its memory at the start, and when it is full the longest unused entry makes
//! room. Maintenance runs by IPVS's rules.

use super::random::mix;
use crate::services::ServiceId;
use crate::time::Millis;

/// Entries above which maintenance looks for idle ones.
const LIMIT: u32 = 16_384;
/// Entries that there is room for.
const CAPACITY: u32 = 2 * LIMIT;
const BUCKETS: usize = 4096;
/// Time between two runs of maintenance.
const INTERVAL_MS: u32 = 60_000;
/// A run that looks at all entries comes after so many that found the table small enough.
const QUIET_RUNS: u32 = 30;
/// How long an entry is idle before a run that makes room takes it.
const IDLE_MS: u32 = 6 * 60_000;
/// No entry.
const NONE: u32 = u32::MAX;

/// A destination of a service; `since` tells two services apart that had the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) service: ServiceId,
    pub(super) since: u64,
    pub(super) address: [u64; 2],
}

#[derive(Debug)]
struct Entry<V> {
    key: Key,
    value: V,
    last_use: Millis,
    /// The next one in the same bucket, or the next free one.
    next: u32,
    newer: u32,
    older: u32,
}

/// What maintenance still has to do.
#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
    /// Entries to remove at most.
    goal: u32,
    /// How long they must have been idle.
    idle_ms: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct Cache<V> {
    seed: u64,
    buckets: Box<[u32]>,
    entries: Vec<Entry<V>>,
    /// The first of the entries that were removed.
    free: u32,
    live: u32,
    newest: u32,
    oldest: u32,
    last_run: Millis,
    runs: u32,
    sweep: Sweep,
}

impl<V: Copy> Cache<V> {
    pub(super) fn new(seed: u64, now: Millis) -> Self {
        Self {
            seed,
            buckets: vec![NONE; BUCKETS].into(),
            entries: Vec::with_capacity(CAPACITY as usize),
            free: NONE,
            live: 0,
            newest: NONE,
            oldest: NONE,
            last_run: now,
            runs: 1,
            sweep: Sweep::default(),
        }
    }

    /// What is remembered, which now counts as used.
    pub(super) fn get(&mut self, key: &Key, now: Millis) -> Option<&mut V> {
        let at = self.find(key)?;
        self.unlink_use(at);
        self.link_use(at);
        let entry = self.entry_mut(at);
        entry.last_use = now;
        Some(&mut entry.value)
    }

    /// The same for who may only look.
    pub(super) fn peek(&self, key: &Key) -> Option<&V> {
        let at = self.find(key)?;
        self.entries.get(at as usize).map(|entry| &entry.value)
    }

    /// Remembers something that is not there yet, and returns what had to make room.
    pub(super) fn insert(&mut self, key: Key, value: V, now: Millis) -> Option<V> {
        debug_assert!(self.find(&key).is_none(), "an entry is inserted once");
        let gone = (self.live == CAPACITY).then(|| self.remove(self.oldest));
        let bucket = self.bucket(&key);
        let entry = Entry {
            key,
            value,
            last_use: now,
            next: self.buckets[bucket],
            newer: NONE,
            older: NONE,
        };
        let at = self.place(entry);
        self.buckets[bucket] = at;
        self.link_use(at);
        self.live += 1;
        gone
    }

    /// Does up to `budget` removals of what maintenance is due, and hands each value to `end`.
    pub(super) fn expire(
        &mut self,
        now: Millis,
        expiration_ms: u32,
        budget: u32,
        mut end: impl FnMut(V),
    ) {
        if self.sweep.goal == 0 {
            if now.since(self.last_run) < INTERVAL_MS {
                return;
            }
            self.last_run = now;
            self.sweep = self.next_sweep(expiration_ms);
        }
        for _ in 0..budget.min(self.sweep.goal) {
            let idle = |at: &u32| self.idle_ms(*at, now) >= self.sweep.idle_ms;
            let Some(at) = Some(self.oldest).filter(|&at| at != NONE).filter(idle) else {
                self.sweep.goal = 0;
                return;
            };
            end(self.remove(at));
            self.sweep.goal -= 1;
        }
    }

    /// What this minute's run is to do.
    fn next_sweep(&mut self, expiration_ms: u32) -> Sweep {
        if self.runs.is_multiple_of(QUIET_RUNS) {
            self.runs = 1;
            return Sweep {
                goal: u32::MAX,
                idle_ms: expiration_ms,
            };
        }
        let excess = self.live.saturating_sub(LIMIT);
        if excess == 0 {
            self.runs += 1;
        }
        Sweep {
            goal: (excess * 4 / 3).min(LIMIT / 2),
            idle_ms: IDLE_MS,
        }
    }

    fn idle_ms(&self, at: u32, now: Millis) -> u32 {
        now.since(self.entries[at as usize].last_use)
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let mut at = self.buckets[self.bucket(key)];
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.key == *key {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder of BUCKETS")]
    fn bucket(&self, key: &Key) -> usize {
        let [low, high] = key.address;
        let name = key.since ^ u64::from(key.service.0).rotate_left(32);
        let hash = mix(mix(self.seed ^ low).wrapping_add(high) ^ name);
        (hash % BUCKETS as u64) as usize
    }

    /// Puts an entry where one is free; its caller made sure that there is room.
    fn place(&mut self, entry: Entry<V>) -> u32 {
        if self.free != NONE {
            let at = self.free;
            self.free = self.entries[at as usize].next;
            self.entries[at as usize] = entry;
            return at;
        }
        let at = u32::try_from(self.entries.len()).expect("at most CAPACITY");
        self.entries.push(entry);
        at
    }

    fn remove(&mut self, at: u32) -> V {
        self.unlink_use(at);
        let Entry {
            key, next, value, ..
        } = self.entries[at as usize];
        let bucket = self.bucket(&key);
        if self.buckets[bucket] == at {
            self.buckets[bucket] = next;
        } else {
            let mut before = self.buckets[bucket];
            while self.entries[before as usize].next != at {
                before = self.entries[before as usize].next;
            }
            self.entry_mut(before).next = next;
        }
        self.entry_mut(at).next = self.free;
        self.free = at;
        self.live -= 1;
        value
    }

    fn entry_mut(&mut self, at: u32) -> &mut Entry<V> {
        &mut self.entries[at as usize]
    }

    fn unlink_use(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.entry_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entry_mut(older).newer = newer,
        }
    }

    fn link_use(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        match before {
            NONE => self.oldest = at,
            before => self.entry_mut(before).newer = at,
        }
        let entry = self.entry_mut(at);
        entry.newer = NONE;
        entry.older = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u32 = 3_600_000;
    const DAY_MS: u32 = 24 * HOUR_MS;

    fn key(address: u64) -> Key {
        Key {
            service: ServiceId(1),
            since: 1,
            address: [address, 0],
        }
    }

    fn filled(entries: u64, now: Millis) -> Cache<u64> {
        let mut cache = Cache::new(7, Millis(0));
        (0..entries).for_each(|n| assert_eq!(cache.insert(key(n), n, now), None));
        cache
    }

    /// Runs maintenance as a worker's turns do, until it has nothing more to do.
    fn minutes(cache: &mut Cache<u64>, from: Millis, minutes: u32) -> (Millis, usize) {
        let (mut now, mut gone) = (from, 0);
        for _ in 0..minutes {
            now = now.plus(INTERVAL_MS);
            (0..2000).for_each(|_| cache.expire(now, DAY_MS, 16, |_| gone += 1));
        }
        (now, gone)
    }

    #[test]
    fn finds_what_it_was_told() {
        let mut cache = filled(20_000, Millis(0));
        for n in 0..20_000 {
            assert_eq!(cache.get(&key(n), Millis(1)), Some(&mut { n }));
        }
        assert_eq!(cache.get(&key(20_000), Millis(1)), None);
        let other = Key { since: 2, ..key(3) };
        assert_eq!(cache.get(&other, Millis(1)), None, "another service");
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let mut cache = filled(u64::from(CAPACITY), Millis(0));
        let room = cache.entries.capacity();
        cache.get(&key(0), Millis(1)).expect("there");
        assert_eq!(cache.insert(key(u64::MAX), 5, Millis(2)), Some(1));
        assert_eq!(cache.live, CAPACITY);
        assert_eq!(cache.entries.capacity(), room, "nothing was allocated");
        assert_eq!(cache.get(&key(1), Millis(2)), None);
        assert!(cache.get(&key(0), Millis(2)).is_some());
    }

    #[test]
    fn a_day_unused_and_then_the_next_long_run() {
        let mut cache = filled(3, Millis(0));
        let (now, gone) = minutes(&mut cache, Millis(0), 24 * 60 - 1);
        assert_eq!(gone, 0);
        cache.get(&key(2), now).expect("there");
        assert_eq!(minutes(&mut cache, now, 31).1, 2);
        assert!(cache.get(&key(2), now).is_some());
        assert_eq!(cache.live, 1);
    }

    #[test]
    fn too_many_make_room_by_the_third_more_but_only_idle_ones() {
        let mut cache = filled(u64::from(LIMIT) + 300, Millis(0));
        let (now, gone) = minutes(&mut cache, Millis(0), 5);
        assert_eq!(gone, 0, "none is idle for six minutes");
        let (now, gone) = minutes(&mut cache, now, 1);
        assert_eq!(gone, 400);
        assert_eq!(minutes(&mut cache, now, 5).1, 0, "few enough now");
    }

    #[test]
    fn a_turn_removes_no_more_than_its_budget() {
        let mut cache = filled(100, Millis(0));
        cache.runs = QUIET_RUNS;
        let mut gone = 0;
        cache.expire(Millis(DAY_MS), DAY_MS, 16, |_| gone += 1);
        assert_eq!(gone, 16);
        (0..100).for_each(|_| cache.expire(Millis(DAY_MS), DAY_MS, 16, |_| gone += 1));
        assert_eq!(gone, 100);
        assert_eq!((cache.live, cache.oldest, cache.newest), (0, NONE, NONE));
    }
}
