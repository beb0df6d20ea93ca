//! Weighted least connections (reference B.2): the smallest (active * 256 + inactive) per
//! weight. An active connection counts as 256 inactive ones.

use super::Pool;

/// Compares products, not quotients: exact, and no division.
pub(super) fn pick(pool: &Pool<'_>) -> Option<usize> {
    let overhead = |at| {
        let (active, inactive) = pool.connections(at);
        (u64::from(active) << 8) + u64::from(inactive)
    };
    let mut best: Option<(usize, u64)> = None;
    for at in (0..pool.len()).filter(|&at| pool.is_available(at)) {
        let load = overhead(at);
        let better = best.is_none_or(|(best, least)| {
            least * u64::from(pool.weight(at)) > load * u64::from(pool.weight(best))
        });
        if better {
            best = Some((at, load));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use crate::sched::Scheduler::Wlc;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Wlc, &[1, 2, 3]).picks(12), "cbacbccbacbc");
        assert_eq!(Letters::new(Wlc, &[0, 0]).picks(2), "--", "nobody left");
    }

    #[test]
    fn a_tie_goes_to_the_newest() {
        let mut letters = Letters::new(Wlc, &[1, 1, 2]);
        letters.load(b'a', 10, 0);
        letters.load(b'b', 9, 300);
        letters.load(b'c', 20, 0);
        assert_eq!(letters.picks(1), "c");
    }

    #[test]
    fn the_overloaded_and_the_quiesced_stay_out() {
        let mut letters = Letters::new(Wlc, &[1, 1, 1]);
        letters.load(b'a', 5, 0);
        letters.load(b'c', 6, 0);
        letters.overload(b'b', true);
        assert_eq!(letters.picks(1), "a");
        letters.set_weight(b'a', 0);
        assert_eq!(letters.picks(1), "c");
    }

    #[test]
    fn other_workers_connections_count() {
        let mut letters = Letters::new(Wlc, &[1, 1]);
        letters.blocks.others.grow(26);
        letters.blocks.others.get(1).expect("grown").active.set(2);
        assert_eq!(letters.picks(4), "aaba");
    }
}
