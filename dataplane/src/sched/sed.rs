//! Shortest expected delay (reference B.2): the smallest (active + 1) per weight, the new
//! connection counted in.

use super::Pool;

pub(super) fn pick(pool: &Pool<'_>) -> Option<usize> {
    pool.lightest(0..pool.len(), |counts| u64::from(counts.active()) + 1)
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Sed;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Sed, &[1, 2, 3]).picks(12), "cbccbacbccba");
        assert_eq!(Letters::new(Sed, &[0, 0]).picks(2), "--", "nobody left");
    }

    #[test]
    fn loads() {
        assert_eq!(Letters::uneven(Sed).picks(1), "b");
        assert_eq!(Letters::one_overloaded(Sed).picks(1), "a");
        assert_eq!(Letters::newest_quiesced(Sed).picks(1), "b");
    }
}
