//! Never queue (reference B.2): the first with nothing active, however slow; if there is
//! none, as `sed`.

use super::{Pool, sed};

pub(super) fn pick(pool: &Pool<'_>) -> Option<usize> {
    let idle = |&at: &usize| pool.is_available(at) && pool.active(at) == 0;
    (0..pool.len()).find(idle).or_else(|| sed::pick(pool))
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Nq;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Nq, &[1, 2, 3]).picks(18), "cbaccbcbccbacbccba");
        assert_eq!(Letters::new(Nq, &[0, 0]).picks(2), "--", "nobody left");
    }

    #[test]
    fn loads() {
        assert_eq!(Letters::uneven(Nq).picks(1), "b");
        assert_eq!(Letters::one_overloaded(Nq).picks(1), "a");
        assert_eq!(Letters::newest_quiesced(Nq).picks(1), "b");
    }
}
