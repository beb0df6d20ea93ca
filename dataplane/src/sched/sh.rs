//! Source hashing (reference B.2): 256 buckets, of which each real server takes as many in a
//! row as its weight says, over and over. One of weight 0 still takes one.

use std::iter::repeat_n;
use std::sync::Arc;

use super::Pool;
use super::hash8::hash8;

const BUCKETS: usize = 256;

/// What control prepares, anew after every change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sh {
    /// Places in the list; only the first 256 real servers can have a bucket. `None` if
    /// there are no real servers.
    buckets: Option<Arc<[u8; BUCKETS]>>,
}

impl Sh {
    /// Fills the buckets for these weights, newest real server first.
    pub(super) fn of(weights: &[u32]) -> Self {
        let list = (0u8..=u8::MAX).zip(weights);
        let round = list.flat_map(|(at, &weight)| repeat_n(at, weight.max(1) as usize));
        let mut filling = round.cycle();
        let first = filling.next();
        let buckets = first.map(|first| {
            let mut buckets = [first; BUCKETS];
            for bucket in &mut buckets[1..] {
                *bucket = filling.next().unwrap_or(first);
            }
            Arc::new(buckets)
        });
        Self { buckets }
    }

    /// The real server of a client; `word` is its address, plus its port with `sh-port`.
    pub(super) fn pick(&self, pool: &Pool<'_>, word: u32, fallback: bool) -> Option<usize> {
        let home = hash8(word);
        let first = self.holder(home)?;
        if pool.is_available(first) {
            return Some(first);
        }
        let other = fallback.then(|| self.other(pool, home));
        self.holder(other.flatten()?)
    }

    /// Who has a bucket.
    #[inline]
    pub(super) fn holder(&self, bucket: u8) -> Option<usize> {
        let buckets = self.buckets.as_deref()?;
        Some(usize::from(buckets[usize::from(bucket)]))
    }

    /// The bucket that stands in for `home`, whose real server is not available.
    pub(super) fn other(&self, pool: &Pool<'_>, home: u8) -> Option<u8> {
        // IPVS adds the hash twice on its way round.
        let mut round = (0..=u8::MAX).map(|offset| offset.wrapping_add(home).wrapping_add(home));
        round.find(|&bucket| {
            let holder = self.holder(bucket);
            holder.is_some_and(|at| pool.is_available(at))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Sh;
    use crate::sched::testing::{FALLBACK, Letters, PORT};

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Sh, &[1, 2, 1]).by_source(), "bcbcacaa");
        let mut by_port = Letters::with(Sh, PORT, &[1, 2, 1]);
        assert_eq!(by_port.by_source(), "bbbbbbba");
        assert_eq!(Letters::new(Sh, &[]).by_source(), "--------");
    }

    #[test]
    fn quiesced_without_a_refill() {
        let mut letters = Letters::new(Sh, &[1, 2, 1]);
        letters.overload(b'b', true);
        assert_eq!(letters.by_source(), "-c-cacaa");
        let mut letters = Letters::with(Sh, FALLBACK, &[1, 2, 1]);
        letters.overload(b'b', true);
        assert_eq!(letters.by_source(), "ccccacaa");
    }

    #[test]
    fn an_edit_refills() {
        let mut letters = Letters::new(Sh, &[1, 2, 1]);
        letters.set_weight(b'b', 0);
        assert_eq!(letters.by_source(), "a-c-c--c", "other clients move");
        let mut letters = Letters::with(Sh, FALLBACK, &[1, 2, 1]);
        letters.set_weight(b'b', 0);
        assert_eq!(letters.by_source(), "aacacaac");
    }

    #[test]
    fn the_first_256_places() {
        let mut giant_first = Letters::new(Sh, &[1, 65535]);
        assert_eq!(
            giant_first.by_source(),
            "bbbbbbbb",
            "no bucket is left for a"
        );
    }
}
