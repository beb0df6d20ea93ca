//! Weighted least connections (reference B.2): the smallest (active * 256 + inactive) per
//! weight. An active connection counts as 256 inactive ones.

use super::{Counts, Pool};

pub(super) fn pick(pool: &Pool<'_>) -> Option<usize> {
    pool.lightest(0..pool.len(), Counts::overhead)
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Wlc;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Wlc, &[1, 2, 3]).picks(12), "cbacbccbacbc");
        assert_eq!(Letters::new(Wlc, &[0, 0]).picks(2), "--", "nobody left");
    }

    #[test]
    fn loads() {
        assert_eq!(
            Letters::uneven(Wlc).picks(1),
            "c",
            "a tie goes to the newest"
        );
        assert_eq!(Letters::one_overloaded(Wlc).picks(1), "a");
        assert_eq!(Letters::newest_quiesced(Wlc).picks(1), "b");
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
