//! Locality-based least connections (reference B.4): a destination address keeps its real
//! server until that is overloaded; then it gets the one that `wlc` chooses.

use super::cache::{Cache, Key};
use super::{Known, Pool, wlc};
use crate::time::Millis;

pub(super) fn pick(
    pool: &Pool<'_>,
    cache: &mut Cache<Known>,
    key: Key,
    now: Millis,
) -> Option<usize> {
    let remembered = cache.get(&key, now);
    let at = remembered.as_deref().and_then(|&known| pool.find(known));
    if let Some(at) = at.filter(|&at| pool.is_available(at) && !is_crowded(pool, at)) {
        return Some(at);
    }
    let at = wlc::pick(pool)?;
    match remembered {
        Some(remembered) => *remembered = pool.known(at),
        None => {
            cache.insert(key, pool.known(at), now);
        }
    }
    Some(at)
}

/// Whether it has more active connections than weight while another has fewer than half of
/// its own.
pub(super) fn is_crowded(pool: &Pool<'_>, at: usize) -> bool {
    let half_empty = |at| u64::from(pool.active(at)) * 2 < u64::from(pool.weight(at));
    pool.active(at) > pool.weight(at) && (0..pool.len()).any(half_empty)
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Lblc;
    use crate::sched::testing::Letters;

    #[test]
    fn a_destination_keeps_its_real_server() {
        let mut letters = Letters::new(Lblc, &[4, 4, 4]);
        assert_eq!(letters.by_destination(), "cbacbacb");
        assert_eq!(letters.by_destination(), "cbacbacb");
    }

    #[test]
    fn a_crowded_one_is_left_for_a_half_empty_one() {
        let mut letters = Letters::new(Lblc, &[2, 2]);
        // b takes one more than its weight; then a, with nothing, is half empty.
        assert_eq!(letters.picks(6), "bbbaaa");
        letters.load(b'b', 0, 0);
        assert_eq!(
            letters.picks(4),
            "bbbb",
            "to b while it was empty; a with 3 is no better"
        );
    }

    #[test]
    fn the_unavailable_are_left() {
        let mut letters = Letters::new(Lblc, &[1, 100, 100]);
        assert_eq!(letters.picks(2), "cc");
        letters.set_weight(b'c', 0);
        assert_eq!(letters.picks(2), "bb");
        letters.overload(b'b', true);
        assert_eq!(letters.picks(1), "a");
        letters.remove(b'a');
        assert_eq!(letters.picks(1), "-");
        letters.overload(b'b', false);
        assert_eq!(letters.picks(1), "b");
    }

    #[test]
    fn a_real_server_that_comes_back_finds_its_destinations_again() {
        let mut letters = Letters::new(Lblc, &[100, 100]);
        assert_eq!(letters.picks(2), "bb");
        letters.remove(b'b');
        letters.add(1, 100);
        letters.add(2, 100);
        assert_eq!(
            letters.picks(2),
            "bb",
            "c has nothing, but b was here first"
        );
    }

    #[test]
    fn another_scheduler_in_between_forgets() {
        let mut letters = Letters::new(Lblc, &[100, 100]);
        assert_eq!(letters.picks(2), "bb");
        letters.change_to(crate::sched::Kind::Rr);
        letters.change_to(Lblc);
        assert_eq!(letters.picks(2), "aa");
    }

    #[test]
    fn a_day_without_use_forgets() {
        let mut letters = Letters::new(Lblc, &[100, 100]);
        assert_eq!(letters.picks(2), "bb");
        letters.pass_minutes(24 * 60 - 5);
        assert_eq!(letters.picks(1), "b");
        letters.pass_minutes(24 * 60 + 31);
        assert_eq!(letters.picks(1), "a");
    }
}
