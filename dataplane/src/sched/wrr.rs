//! Weighted round robin (reference B.2): a threshold falls from the largest weight in steps
//! of the greatest common divisor, and each walk down the list takes whoever reaches it.

use super::Pool;
use crate::counter::Gauge;

/// What control prepares: the steps of the falling threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrr {
    /// Greatest common divisor of the positive weights, 1 if there are none.
    step: u32,
    /// Where the threshold starts: the largest weight less (step - 1).
    top: u32,
}

impl Wrr {
    /// The steps for these weights.
    pub fn of(weights: impl Iterator<Item = u32>) -> Self {
        let (divisor, largest) = weights.fold((0, 0), |(d, l), w| (gcd(d, w), l.max(w)));
        let step = divisor.max(1);
        Self {
            step,
            top: largest.saturating_sub(step - 1),
        }
    }

    /// After any edit: back to the head of the list; the threshold stays if it still fits.
    pub(super) fn start_over(&self, place: &Gauge, threshold: &Gauge) {
        place.set(0);
        let now = threshold.get();
        if now == 0 || now > self.top {
            threshold.set(self.top);
        } else if self.step > 1 {
            threshold.set(now / self.step * self.step + 1);
        }
    }

    /// `place` is the order of the last one chosen, `threshold` the weight to reach.
    pub(super) fn pick(&self, pool: &Pool<'_>, place: &Gauge, threshold: &Gauge) -> Option<usize> {
        let able = |at| !pool.is_overloaded(at);
        let heaviest = (0..pool.len())
            .filter(|&at| able(at))
            .map(|at| pool.weight(at))
            .max();
        let heaviest = heaviest.filter(|&weight| weight > 0)?;
        let mut start = pool.after(place.get());
        loop {
            let reaches = |&at: &usize| able(at) && pool.weight(at) >= threshold.get();
            if let Some(at) = (start..pool.len()).find(reaches) {
                place.set(pool.candidates[at].order);
                return Some(at);
            }
            start = 0;
            threshold.set(self.below(threshold.get(), heaviest));
        }
    }

    /// The next threshold below `now` that somebody of weight `heaviest` reaches; the steps
    /// in between would find nobody, however many there are.
    fn below(&self, now: u32, heaviest: u32) -> u32 {
        let next = if now > self.step {
            now - self.step
        } else {
            self.top
        };
        let excess = next.saturating_sub(heaviest);
        let skipped = next.saturating_sub(excess.div_ceil(self.step) * self.step);
        if skipped > 0 { skipped } else { self.top }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::Scheduler;
    use crate::sched::testing::Letters;

    fn letters(weights: &[u32]) -> Letters {
        Letters::new(Scheduler::Wrr(Wrr::of(std::iter::empty())), weights)
    }

    fn picks(weights: &[u32], n: usize) -> String {
        letters(weights).picks(n)
    }

    #[test]
    fn sequences() {
        assert_eq!(picks(&[4, 3, 2], 18), "abacbacbaabacbacba");
        assert_eq!(picks(&[3, 1, 0], 8), "aabaaaba");
        assert_eq!(picks(&[5, 1, 1], 14), "aaaacbaaaaacba");
        assert_eq!(picks(&[4, 2, 2], 8), "acbaacba");
        assert_eq!(picks(&[100, 50, 25], 14), "aabacbaaabacba");
        assert_eq!(picks(&[1, 2, 3, 4], 20), "ddcdcbdcbaddcdcbdcba");
        assert_eq!(picks(&[0, 0], 2), "--", "nobody left");
        assert_eq!(picks(&[], 1), "-");
    }

    #[test]
    fn an_edit_starts_over_at_the_head_but_keeps_the_threshold() {
        let mut letters = letters(&[4, 3, 2]);
        assert_eq!(letters.picks(5), "abacb");
        letters.set_weight(b'b', 0);
        assert_eq!(letters.picks(12), "acaacaacaaca");
        letters.set_weight(b'b', 3);
        assert_eq!(letters.picks(12), "cbaabacbacba");
    }

    #[test]
    fn an_overloaded_giant_costs_no_65535_walks() {
        let mut letters = letters(&[65535, 1]);
        letters.overload(b'a', true);
        assert_eq!(letters.picks(3), "bbb");
        letters.overload(b'a', false);
        assert_eq!(letters.picks(3), "aaa");
    }

    #[test]
    fn shares_follow_the_weights() {
        let word = picks(&[7, 13, 29], 49 * 4);
        let share = |letter| word.chars().filter(|&c| c == letter).count();
        assert_eq!((share('a'), share('b'), share('c')), (28, 52, 116));
    }
}
