//! Round robin (reference B.2): the next available one after the last.

use super::Pool;
use crate::counter::Gauge;

/// `place` is the order of the last one chosen.
pub(super) fn pick(pool: &Pool<'_>, place: &Gauge) -> Option<usize> {
    let start = pool.after(place.get());
    let at = (start..pool.len())
        .chain(0..start)
        .find(|&at| pool.is_available(at))?;
    place.set(pool.candidates[at].order);
    Some(at)
}

#[cfg(test)]
mod tests {
    use crate::sched::Scheduler::Rr;
    use crate::sched::testing::Letters;

    fn picks(weights: &[u32], n: usize) -> String {
        Letters::new(Rr, weights).picks(n)
    }

    #[test]
    fn sequences() {
        assert_eq!(picks(&[1, 1, 1], 9), "cbacbacba");
        assert_eq!(picks(&[1, 0, 1], 6), "cacaca", "weight 0 drains");
        assert_eq!(picks(&[5, 1, 1], 6), "cbacba", "weights don't matter");
        assert_eq!(picks(&[0, 0], 2), "--", "nobody left");
        assert_eq!(picks(&[], 1), "-");
    }

    #[test]
    fn the_place_survives_edits() {
        let mut letters = Letters::new(Rr, &[1, 1]);
        assert_eq!(letters.picks(3), "bab");
        letters.add(2, 1);
        assert_eq!(letters.picks(6), "acbacb");
        letters.remove(b'b');
        assert_eq!(letters.picks(3), "aca", "the place of b fell to c");
        letters.overload(b'c', true);
        assert_eq!(letters.picks(2), "aa");
    }
}
