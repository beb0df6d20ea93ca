//! Weighted round robin (reference B.2): a threshold falls from the largest weight in steps
//! of the greatest common divisor, and each walk down the list takes whoever reaches it.

use super::{Pool, gcd};
use crate::counter::Gauge;

/// What control prepares: the steps of the falling threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrr {
    /// Greatest common divisor of the positive weights, 1 if there are none.
    step: u32,
    /// Where the threshold starts: the largest weight less (step - 1).
    top: u32,
    /// Where each worker begins, if there are several: worker `i` of `W` at `i/W` of the
    /// period.
    starts: Box<[Start]>,
}

/// A place in the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    /// The last one chosen; `None` is the beginning.
    last: Option<usize>,
    threshold: u32,
}

impl Wrr {
    /// The steps for these weights, newest real server first.
    pub(super) fn of(weights: &[u32], workers: u16) -> Self {
        let step = weights.iter().copied().fold(0, gcd).max(1);
        let largest = weights.iter().copied().max().unwrap_or(0);
        let top = largest.saturating_sub(step - 1);
        let period: u64 = weights.iter().map(|&weight| u64::from(weight / step)).sum();
        let begin = |worker| {
            let picks = period * u64::from(worker) / u64::from(workers);
            start(weights, step, top, picks)
        };
        let starts = if workers > 1 { 0..workers } else { 0..0 };
        Self {
            step,
            top,
            starts: starts.map(begin).collect(),
        }
    }

    /// After any edit: one worker goes back to the head of the list, and its threshold stays
    /// if it still fits; several begin apart.
    pub(super) fn start_over(
        &self,
        pool: &Pool<'_>,
        worker: u16,
        place: &Gauge,
        threshold: &Gauge,
    ) {
        if let Some(start) = self.starts.get(usize::from(worker)) {
            place.set(start.last.map_or(0, |at| pool.place(at)));
            threshold.set(start.threshold);
            return;
        }
        place.set(0);
        let now = threshold.get();
        if now == 0 || now > self.top {
            threshold.set(self.top);
        } else if self.step > 1 {
            threshold.set(now / self.step * self.step + 1);
        }
    }

    /// `place` is that of the last one chosen, `threshold` the weight to reach.
    pub(super) fn pick(&self, pool: &Pool<'_>, place: &Gauge, threshold: &Gauge) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        let mut start = pool.after(place.get());
        loop {
            let level = threshold.get();
            let reaches = |&at: &usize| pool.weight(at) >= level && !pool.is_overloaded(at);
            if let Some(at) = (start..pool.len()).find(reaches) {
                place.set(pool.place(at));
                return Some(at);
            }
            // Only a walk that found nobody asks who is the heaviest; at the next level that
            // one is found.
            let heaviest = pool.heaviest(|at| !pool.is_overloaded(at))?;
            threshold.set(self.below(level, pool.weight(heaviest)));
            start = 0;
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

/// Where the sequence stands after `picks`, fewer than a period. On level `n`, which the
/// threshold reaches `n - 1` steps above its end, everybody of `n` steps' weight or more is
/// chosen, in the order of the list.
fn start(weights: &[u32], step: u32, top: u32, picks: u64) -> Start {
    if picks == 0 {
        return Start {
            last: None,
            threshold: top,
        };
    }
    let levels = |weight: &u32| weight / step;
    let above = |level: u32| -> u64 {
        let higher = |weight| u64::from(levels(weight).saturating_sub(level));
        weights.iter().map(higher).sum()
    };
    let highest = weights.iter().map(levels).max().unwrap_or(0);
    let (mut low, mut high) = (1, highest.max(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if above(middle) < picks {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let mut on_level = (0..weights.len()).filter(|&at| levels(&weights[at]) >= low);
    let earlier = usize::try_from(picks - above(low) - 1).unwrap_or(usize::MAX);
    Start {
        last: on_level.nth(earlier),
        threshold: step * (low - 1) + 1,
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind;
    use crate::sched::testing::Letters;

    fn letters(weights: &[u32]) -> Letters {
        Letters::new(Kind::Wrr, weights)
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

    #[test]
    fn workers_start_apart_and_again_after_an_edit() {
        let whole = picks(&[4, 3, 2], 18);
        for worker in 0..4 {
            let mut letters = Letters::of_worker(worker, 4, Kind::Wrr, &[4, 3, 2]);
            let from = 9 * usize::from(worker) / 4;
            assert_eq!(letters.picks(9), whole[from..from + 9], "worker {worker}");
            letters.set_weight(b'a', 4);
            assert_eq!(letters.picks(9), whole[from..from + 9], "worker {worker}");
        }
    }

    #[test]
    fn every_start_is_a_place_in_the_sequence() {
        for weights in [&[6, 2, 4][..], &[1, 0, 5, 5], &[7], &[100, 50, 25]] {
            let divisor = weights.iter().copied().fold(0, super::gcd);
            let period = usize::try_from(weights.iter().sum::<u32>() / divisor).expect("small");
            let whole = picks(weights, 2 * period);
            let workers = u16::try_from(period).expect("small");
            for worker in 0..workers {
                let at = usize::from(worker);
                let word = Letters::of_worker(worker, workers, Kind::Wrr, weights).picks(period);
                assert_eq!(word, whole[at..at + period], "{weights:?} from {worker}");
            }
        }
    }
}
