//! Destination hashing (reference B.2): 256 buckets filled with the list over and over,
//! whatever the weights; an unavailable real server's buckets answer nothing.

use super::Pool;
use super::hash8::hash8;

/// Filled in that way, bucket `b` of `n` real servers holds number `b % n`: no table needed,
/// and an edit, which IPVS does not refill for, can change nothing.
pub(super) fn pick(pool: &Pool<'_>, destination: u32) -> Option<usize> {
    let at = holder(pool, hash8(destination))?;
    pool.is_available(at).then_some(at)
}

/// Who has a bucket.
#[inline]
pub(super) fn holder(pool: &Pool<'_>, bucket: u8) -> Option<usize> {
    usize::from(bucket).checked_rem(pool.len())
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Dh;
    use crate::sched::testing::Letters;

    #[test]
    fn sequences() {
        let mut letters = Letters::new(Dh, &[1, 2, 1]);
        assert_eq!(letters.by_destination(), "abcbcbbc");
        letters.set_weight(b'b', 0);
        assert_eq!(letters.by_destination(), "a-c-c--c", "nobody moves");
        letters.remove(b'b');
        assert_eq!(letters.by_destination(), "ccccacaa");
        assert_eq!(Letters::new(Dh, &[]).by_destination(), "--------");
    }
}
