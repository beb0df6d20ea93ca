//! Power of two choices (reference B.2): two draws by weight, and the less loaded of them.

use super::random::Random;
use super::{Counts, Pool};

/// What control prepares: for each real server the weights up to it and with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twos {
    sums: Box<[u64]>,
}

impl Twos {
    /// For these weights, newest real server first.
    pub(super) fn of(weights: &[u32]) -> Self {
        let add = |sum: &mut u64, &weight: &u32| {
            *sum += u64::from(weight);
            Some(*sum)
        };
        Self {
            sums: weights.iter().scan(0, add).collect(),
        }
    }

    pub(super) fn pick(&self, pool: &Pool<'_>, random: &mut Random) -> Option<usize> {
        let drawn = [self.draw(pool, random)?, self.draw(pool, random)?];
        pool.lightest(drawn, Counts::overhead)
    }

    /// One draw among the available. A draw among all that hits an overloaded one is done
    /// again among the rest, which leaves everybody's chance as if it had been so at first.
    fn draw(&self, pool: &Pool<'_>, random: &mut Random) -> Option<usize> {
        let total = self.sums.last().copied().filter(|&total| total > 0)?;
        // IPVS draws from 0 to the sum, both included: 0 is the first one's too.
        let draw = random.up_to(total).max(1);
        let at = self.sums.partition_point(|&sum| sum < draw);
        if pool.is_overloaded(at) {
            draw_available(pool, random)
        } else {
            Some(at)
        }
    }
}

fn draw_available(pool: &Pool<'_>, random: &mut Random) -> Option<usize> {
    let mut available = (0..pool.len()).filter(|&at| pool.is_available(at));
    let weights = available.clone().map(|at| u64::from(pool.weight(at)));
    let mut left = random.up_to(weights.sum());
    available.find(|&at| {
        left = left.saturating_sub(u64::from(pool.weight(at)));
        left == 0
    })
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Twos;
    use crate::sched::testing::Letters;

    #[test]
    fn the_lighter_of_two_draws() {
        let mut letters = Letters::new(Twos, &[1, 1]);
        letters.load(b'a', 1_000_000, 0);
        let word = letters.picks(10_000);
        let loaded = word.chars().filter(|&c| c == 'a').count();
        // a is the last: both draws must be the 2 of 0..=2, which is one time in nine.
        assert!((1000..1230).contains(&loaded), "{loaded}");
    }

    #[test]
    fn shares_follow_the_weights() {
        let word = Letters::new(Twos, &[1, 3]).picks(4000);
        let share = word.chars().filter(|&c| c == 'b').count();
        assert!((2960..=3040).contains(&share), "{share}");
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let word = || Letters::new(Twos, &[1, 2, 3]).picks(100);
        assert_eq!(word(), word());
    }

    #[test]
    fn nobody_left() {
        assert_eq!(Letters::new(Twos, &[0, 0]).picks(2), "--");
        let mut letters = Letters::new(Twos, &[1, 1]);
        letters.overload(b'b', true);
        assert_eq!(letters.picks(8), "aaaaaaaa");
        letters.overload(b'a', true);
        assert_eq!(letters.picks(2), "--");
    }

    #[test]
    fn the_overloaded_leave_their_share_to_the_others() {
        let mut letters = Letters::new(Twos, &[1, 3, 5]);
        letters.overload(b'c', true);
        let word = letters.picks(4000);
        let share = word.chars().filter(|&c| c == 'b').count();
        assert!((2960..=3040).contains(&share), "{share}");
    }
}
