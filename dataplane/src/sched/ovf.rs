//! Weighted overflow (reference B.2): the one with the highest weight, until it has more
//! active connections than weight; then the next. So each takes its weight and one more.

use super::Pool;
use super::ranks::Ranks;

pub(super) fn pick(pool: &Pool<'_>, ranks: &Ranks) -> Option<usize> {
    ranks.first(|at| !pool.is_overloaded(at) && pool.active(at) <= pool.weight(at))
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Ovf;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Ovf, &[1, 2, 3]).picks(11), "ccccbbbaa--");
        assert_eq!(Letters::new(Ovf, &[0, 0]).picks(2), "--", "nobody left");
    }

    #[test]
    fn loads() {
        assert_eq!(Letters::uneven(Ovf).picks(1), "-");
        assert_eq!(Letters::one_overloaded(Ovf).picks(1), "-");
        assert_eq!(Letters::newest_quiesced(Ovf).picks(1), "b");
    }
}
