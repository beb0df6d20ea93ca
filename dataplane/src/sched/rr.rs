//! Round robin (reference B.2): the next available one after the last.

use super::Pool;
use crate::counter::Gauge;

/// What control prepares: how many workers share the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rr {
    pub(super) workers: u16,
}

impl Rr {
    /// After any edit, if there are several workers: worker `i` of `W` starts `i/W` of the
    /// list from its head. With one the place stays.
    pub(super) fn start_over(self, pool: &Pool<'_>, worker: u16, place: &Gauge) {
        if self.workers > 1 {
            let skipped = pool.len() * usize::from(worker) / usize::from(self.workers);
            let last = skipped.checked_sub(1).filter(|&at| at < pool.len());
            place.set(last.map_or(0, |at| pool.place(at)));
        }
    }
}

/// `place` is that of the last one chosen.
pub(super) fn pick(pool: &Pool<'_>, place: &Gauge) -> Option<usize> {
    let start = pool.after(place.get());
    let at = (start..pool.len())
        .chain(0..start)
        .find(|&at| pool.is_available(at))?;
    place.set(pool.place(at));
    Some(at)
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::{Fo, Rr};
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

    #[test]
    fn another_scheduler_in_between_starts_at_the_head() {
        let mut letters = Letters::new(Rr, &[1, 1, 1]);
        assert_eq!(letters.picks(2), "cb");
        letters.change_to(Fo);
        letters.change_to(Rr);
        assert_eq!(letters.picks(2), "cb");
    }

    #[test]
    fn workers_start_apart_and_again_after_an_edit() {
        let word = |worker| Letters::of_worker(worker, 4, Rr, &[1; 8]).picks(3);
        assert_eq!([0, 1, 2, 3].map(word), ["hgf", "fed", "dcb", "bah"]);
        let mut last = Letters::of_worker(2, 4, Rr, &[1; 8]);
        assert_eq!(last.picks(1), "d");
        last.set_weight(b'h', 2);
        assert_eq!(last.picks(1), "d");
    }
}
