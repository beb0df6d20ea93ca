//! How long things took: counts by duration, with one writer.
//!
//! Buckets grow with the duration, eight for each power of two, so that a count is never further
//! than an eighth from the truth. One is added with a plain load and store; anybody may read.

use crate::counter::Counter;

/// Buckets for each power of two.
const PARTS: u64 = 8;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// The longest that is told apart: 2^40 cycles, some minutes.
const BITS: u32 = 40;
const BUCKETS: usize = ((BITS - PART_BITS + 1) << PART_BITS) as usize;

/// Counts by duration, in whatever unit.
#[derive(Debug)]
pub struct Durations([Counter; BUCKETS]);

impl Default for Durations {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Durations {
    /// Counts one. Only their one owner may call this.
    #[inline]
    pub fn record(&self, duration: u64) {
        self.0[bucket(duration)].add(1);
    }

    /// What was counted, shortest first: the middle of a bucket, and how many.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.0.iter().map(Counter::get).enumerate();
        counts
            .filter(|&(_, count)| count > 0)
            .map(|(at, count)| (middle(at as u64), count))
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "below BUCKETS")]
fn bucket(duration: u64) -> usize {
    let duration = duration.min((1 << BITS) - 1);
    let power = (duration | PARTS).ilog2() - PART_BITS;
    // Below `PARTS` each has its own; above, the leading bit stands for the power.
    (u64::from(power) * PARTS + (duration >> power)) as usize
}

fn middle(bucket: u64) -> u64 {
    let power = (bucket / PARTS).saturating_sub(1);
    let first = (bucket - power * PARTS) << power;
    first + (1 << power) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_middle_is_never_far_from_what_was_counted() {
        let cases = (0..200).chain((8..BITS).flat_map(|bit| {
            let power = 1u64 << bit;
            [power - 1, power, power + power / 3]
        }));
        let mut before = 0;
        for duration in cases {
            let at = bucket(duration);
            assert!(at >= before && at < BUCKETS, "{duration}: {at}");
            before = at;
            let off = middle(at as u64).abs_diff(duration);
            assert!(
                off * 8 <= duration,
                "{duration} is shown as {}",
                middle(at as u64)
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_counted_is_shown() {
        let durations = Durations::default();
        [3, 1000, 1000]
            .into_iter()
            .for_each(|one| durations.record(one));
        let counts: Vec<_> = durations.counts().collect();
        assert_eq!(counts, [(3, 1), (992, 2)]);
    }
}
