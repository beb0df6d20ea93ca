//! Locality-based least connections with replication (reference B.4): a destination address
//! has a set of real servers, of which the least loaded is taken. The set grows when that one
//! is overloaded, and shrinks when it was the same for a long time.

use super::cache::{Cache, Key};
use super::recall::{self, MEMBERS as COPIED};
use super::{Counts, Known, Pool, lblc, wlc};
use crate::time::Millis;

/// Members of all sets together.
const MEMBERS: u32 = 131_072;
/// No member.
const NONE: u32 = u32::MAX;

/// The real servers of one destination, the last one added first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    first: u32,
    size: u32,
    modified: Millis,
}

#[derive(Debug)]
struct Member {
    known: Known,
    next: u32,
}

/// What a worker remembers for all `lblcr` services.
#[derive(Debug)]
pub(super) struct Sets {
    cache: Cache<Set>,
    members: Members,
}

impl Sets {
    pub(super) fn new(seed: u64, now: Millis) -> Self {
        Self {
            cache: Cache::new(seed, now),
            members: Members {
                all: Vec::with_capacity(MEMBERS as usize),
                free: NONE,
            },
        }
    }

    pub(super) fn expire(&mut self, now: Millis, expiration_ms: u32, budget: u32) {
        let Self { cache, members } = self;
        cache.expire(now, expiration_ms, budget, |set| members.free_all(&set));
    }

    /// A destination's set, for who may only look: as much of it as a copy takes.
    pub(super) fn peek(&self, key: &Key) -> Option<recall::Members> {
        let set = self.cache.peek(key)?;
        Some(recall::Members {
            modified: set.modified,
            all: self.members.iter(set).take(COPIED).collect(),
        })
    }

    /// Remembers a set that was copied.
    pub(super) fn insert(&mut self, key: Key, copied: &recall::Members, now: Millis) {
        let mut set = Set {
            first: NONE,
            size: 0,
            modified: copied.modified,
        };
        for &known in copied.all.iter().rev() {
            self.members.add(&mut set, known, copied.modified);
        }
        if let Some(gone) = self.cache.insert(key, set, now) {
            self.members.free_all(&gone);
        }
    }

    /// `expiration_ms` is how long a set stays as it is before it shrinks.
    pub(super) fn pick(
        &mut self,
        pool: &Pool<'_>,
        key: Key,
        expiration_ms: u32,
        now: Millis,
    ) -> Option<usize> {
        let Self { cache, members } = self;
        let Some(set) = cache.get(&key, now) else {
            let at = wlc::pick(pool)?;
            let mut set = Set {
                first: NONE,
                size: 0,
                modified: now,
            };
            members.add(&mut set, pool.known(at), now);
            if let Some(gone) = cache.insert(key, set, now) {
                members.free_all(&gone);
            }
            return Some(at);
        };
        let places = members.iter(set).filter_map(|known| pool.find(known));
        let least = pool.lightest(places, Counts::overhead);
        if set.size > 1 && now.since(set.modified) > expiration_ms {
            members.remove_heaviest(set, pool, now);
        }
        if let Some(at) = least.filter(|&at| !lblc::is_crowded(pool, at)) {
            return Some(at);
        }
        let at = wlc::pick(pool)?;
        members.add(set, pool.known(at), now);
        Some(at)
    }
}

/// The members of all sets, each set a chain.
#[derive(Debug)]
struct Members {
    all: Vec<Member>,
    free: u32,
}

impl Members {
    fn iter(&self, set: &Set) -> impl Iterator<Item = Known> {
        let member = |at: u32| self.all.get(at as usize);
        std::iter::successors(member(set.first), move |m| member(m.next)).map(|m| m.known)
    }

    /// Adds a member that is not there yet. With no room the set stays as it is.
    fn add(&mut self, set: &mut Set, known: Known, now: Millis) {
        if self.iter(set).any(|member| member.real == known.real) {
            return;
        }
        let member = Member {
            known,
            next: set.first,
        };
        let Some(at) = self.place(member) else { return };
        set.first = at;
        set.size += 1;
        set.modified = now;
    }

    fn place(&mut self, member: Member) -> Option<u32> {
        if self.free != NONE {
            let at = self.free;
            self.free = self.all[at as usize].next;
            self.all[at as usize] = member;
            return Some(at);
        }
        let at = u32::try_from(self.all.len())
            .ok()
            .filter(|&at| at < MEMBERS)?;
        self.all.push(member);
        Some(at)
    }

    /// Removes the most loaded member; one that is no real server of the service any more
    /// goes first.
    fn remove_heaviest(&mut self, set: &mut Set, pool: &Pool<'_>, now: Millis) {
        let mut most: Option<(u32, usize)> = None;
        let (mut before, mut at) = (NONE, set.first);
        while at != NONE {
            let Member { known, next } = self.all[at as usize];
            let Some(place) = pool.find(known) else {
                return self.remove_after(set, before, now);
            };
            let heavier = |(_, most)| pool.is_heavier(place, most);
            if pool.weight(place) > 0 && most.is_none_or(heavier) {
                most = Some((before, place));
            }
            (before, at) = (at, next);
        }
        if let Some((before, _)) = most {
            self.remove_after(set, before, now);
        }
    }

    /// Takes the member that comes after `before` out of the set.
    fn remove_after(&mut self, set: &mut Set, before: u32, now: Millis) {
        let at = match before {
            NONE => set.first,
            before => self.all[before as usize].next,
        };
        let next = self.all[at as usize].next;
        match before {
            NONE => set.first = next,
            before => self.all[before as usize].next = next,
        }
        set.size -= 1;
        set.modified = now;
        self.all[at as usize].next = self.free;
        self.free = at;
    }

    fn free_all(&mut self, set: &Set) {
        let mut at = set.first;
        while at != NONE {
            let next = std::mem::replace(&mut self.all[at as usize].next, self.free);
            self.free = at;
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Lblcr;
    use crate::sched::testing::Letters;

    #[test]
    fn a_set_grows_when_its_least_loaded_is_crowded() {
        let mut letters = Letters::new(Lblcr, &[2, 2]);
        assert_eq!(
            letters.picks(4),
            "bbba",
            "b has 3 for a weight of 2, a none"
        );
        assert_eq!(letters.picks(4), "aaab", "the less loaded of both");
    }

    #[test]
    fn destinations_have_sets_of_their_own() {
        let mut letters = Letters::new(Lblcr, &[4, 4, 4]);
        assert_eq!(letters.by_destination(), "cbacbacb");
        assert_eq!(letters.by_destination(), "cbacbacb");
    }

    #[test]
    fn a_set_shrinks_by_its_most_loaded_after_a_day_unchanged() {
        let mut letters = Letters::new(Lblcr, &[2, 2]);
        assert_eq!(letters.picks(4), "bbba");
        letters.load(b'a', 0, 0);
        letters.load(b'b', 1, 0);
        for _ in 0..25 {
            letters.pass_minutes(60);
            assert_eq!(letters.picks(1), "a", "still both, and b has more");
            letters.load(b'a', 0, 0);
        }
        letters.load(b'a', 2, 0);
        assert_eq!(
            letters.picks(1),
            "a",
            "b has less but is no member any more"
        );
    }

    #[test]
    fn the_unavailable_are_passed_over() {
        let mut letters = Letters::new(Lblcr, &[100, 100, 100]);
        assert_eq!(letters.picks(1), "c");
        letters.overload(b'c', true);
        assert_eq!(letters.picks(1), "b");
        letters.set_weight(b'b', 0);
        assert_eq!(letters.picks(1), "a");
        letters.remove(b'a');
        assert_eq!(letters.picks(1), "-");
        letters.overload(b'c', false);
        assert_eq!(letters.picks(1), "c");
    }

    #[test]
    fn members_are_reused() {
        use super::*;
        use crate::services::RealId;
        let mut members = Members {
            all: Vec::with_capacity(3),
            free: NONE,
        };
        let now = Millis(0);
        for _ in 0..5 {
            let mut set = Set {
                first: NONE,
                size: 0,
                modified: now,
            };
            for n in [1, 2, 3, 2] {
                let known = Known {
                    real: RealId(n),
                    order: n,
                };
                members.add(&mut set, known, now);
            }
            let reals: Vec<_> = members.iter(&set).map(|known| known.real.0).collect();
            assert_eq!(reals, [3, 2, 1]);
            let first = set.first;
            members.remove_after(&mut set, first, now);
            assert_eq!((set.size, members.iter(&set).count()), (2, 2));
            members.free_all(&set);
        }
        assert_eq!(members.all.len(), 3);
    }
}
