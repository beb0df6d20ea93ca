//! Weighted failover (reference B.2): the one with the highest weight takes everything while
//! it is available.

use super::Pool;
use super::ranks::Ranks;

pub(super) fn pick(pool: &Pool<'_>, ranks: &Ranks) -> Option<usize> {
    ranks.first(|at| !pool.is_overloaded(at))
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Fo;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Fo, &[1, 2, 3]).picks(6), "cccccc");
        assert_eq!(
            Letters::new(Fo, &[3, 3, 1]).picks(2),
            "bb",
            "the newer of two"
        );
        assert_eq!(Letters::new(Fo, &[0, 0]).picks(2), "--", "nobody left");
    }

    #[test]
    fn loads() {
        assert_eq!(Letters::uneven(Fo).picks(1), "c");
        assert_eq!(Letters::one_overloaded(Fo).picks(1), "c");
        assert_eq!(Letters::newest_quiesced(Fo).picks(1), "b");
    }
}
