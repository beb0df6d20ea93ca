//! Whose connections are summed over the workers, and how old the sums are.
//!
//! Only real servers that somebody asks about: those of a scheduler that goes by connections, and
//! those with thresholds. A bounded number of them at a time, in turn; the more there are, the
//! older the sums become, and `status` says how old.

use std::collections::BTreeSet;

use config::model::SchedulerKind;
use dataplane::services::RealId;

use crate::neigh::Instant;

/// Real servers whose connections are summed in one go.
pub const AT_ONCE: usize = 10_000;

/// Whether a scheduler goes by connections.
pub fn goes_by_connections(kind: SchedulerKind) -> bool {
    match kind {
        SchedulerKind::Lc
        | SchedulerKind::Wlc
        | SchedulerKind::Sed
        | SchedulerKind::Nq
        | SchedulerKind::Ovf
        | SchedulerKind::Lblc
        | SchedulerKind::Lblcr
        | SchedulerKind::Twos => true,
        SchedulerKind::Rr
        | SchedulerKind::Wrr
        | SchedulerKind::Sh
        | SchedulerKind::Dh
        | SchedulerKind::Fo
        | SchedulerKind::Mh => false,
    }
}

/// What is summed, and where the walk over it stands.
#[derive(Debug, Default)]
pub struct Sums {
    wanted: BTreeSet<RealId>,
    /// Where the walk goes on; `None` between two walks.
    next: Option<RealId>,
    /// When this walk began, and the one before it.
    began: Instant,
    before: Instant,
}

impl Sums {
    /// A real server's connections are to be summed, or not any more.
    pub fn want(&mut self, real: RealId, wanted: bool) {
        if wanted {
            self.wanted.insert(real);
        } else {
            self.wanted.remove(&real);
        }
    }

    /// How many real servers are summed.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether there is nothing to sum.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Sums the next `limit` of them at most.
    pub fn step(&mut self, limit: usize, now: Instant, sum: impl FnMut(RealId)) {
        let from = self.next.unwrap_or_default();
        if self.next.is_none() {
            self.before = self.began;
            self.began = now;
        }
        let mut due = self.wanted.range(from..).copied();
        due.by_ref().take(limit).for_each(sum);
        self.next = due.next();
    }

    /// How many milliseconds ago the oldest sum was made, at most.
    pub fn age_ms(&self, now: Instant) -> u64 {
        let oldest = match self.next {
            None => self.began,
            Some(_) => self.before,
        };
        now.saturating_sub(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(count: u32) -> Sums {
        let mut sums = Sums::default();
        (0..count).for_each(|slot| sums.want(RealId(2 * slot), true));
        sums
    }

    fn step(sums: &mut Sums, limit: usize, now: u64) -> Vec<u32> {
        let mut summed = Vec::new();
        sums.step(limit, now, |real| summed.push(real.0));
        summed
    }

    #[test]
    fn a_few_are_summed_every_time() {
        let mut sums = sums(3);
        for now in [10, 20, 30] {
            assert_eq!(step(&mut sums, 3, now), [0, 2, 4]);
            assert_eq!((sums.age_ms(now), sums.age_ms(now + 9)), (0, 9));
        }
    }

    #[test]
    fn many_take_turns_and_age() {
        let mut sums = sums(5);
        let walk = [10, 20, 30, 40, 50, 60].map(|now| {
            let summed = step(&mut sums, 2, now);
            (summed, sums.age_ms(now))
        });
        let want = [
            (vec![0, 2], 10),
            (vec![4, 6], 20),
            (vec![8], 20),
            (vec![0, 2], 30),
            (vec![4, 6], 40),
            (vec![8], 20),
        ];
        assert_eq!(walk, want);
    }

    #[test]
    fn who_comes_or_goes_meanwhile_has_its_place() {
        let mut sums = sums(4);
        assert_eq!(step(&mut sums, 2, 10), [0, 2]);
        sums.want(RealId(4), false);
        sums.want(RealId(5), true);
        assert_eq!(step(&mut sums, 2, 20), [5, 6]);
        assert_eq!(step(&mut sums, 9, 30), [0, 2, 5, 6]);
        (0..9).for_each(|slot| sums.want(RealId(slot), false));
        assert!(sums.is_empty());
        assert_eq!(step(&mut sums, 9, 40), Vec::<u32>::new());
    }
}
