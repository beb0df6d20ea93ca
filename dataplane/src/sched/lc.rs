//! Least connections (reference B.2): the smallest (active * 256 + inactive), whatever the
//! weights.

use super::Pool;

pub(super) fn pick(pool: &Pool<'_>) -> Option<usize> {
    let available = (0..pool.len()).filter(|&at| pool.is_available(at));
    // Of equal ones `min_by_key` takes the first.
    available.min_by_key(|&at| pool.counts(at).overhead())
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Lc;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Lc, &[1, 2, 3]).picks(9), "cbacbacba");
        assert_eq!(Letters::new(Lc, &[0, 0]).picks(2), "--", "nobody left");
    }

    #[test]
    fn loads() {
        assert_eq!(Letters::uneven(Lc).picks(1), "a");
        assert_eq!(Letters::one_overloaded(Lc).picks(1), "a");
        assert_eq!(Letters::newest_quiesced(Lc).picks(1), "b");
    }
}
