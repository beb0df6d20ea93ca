//! What control tells each worker of the others' connections, some times a second, where
//! there are several workers: for lc, wlc, sed, nq, ovf, lblc, lblcr, twos and thresholds.

use super::thresholds::{Limits, is_overloaded};
use crate::services::{Blocks, Others, RealBlock, RealId};

/// Sums one real server's connections over all workers and gives each worker those of the
/// others, and all of them one judgement about the thresholds. Changes nothing where there
/// is only one worker.
pub fn sum(all: &[Blocks], real: RealId, limits: Limits) {
    if all.len() < 2 {
        return;
    }
    let seats = || all.iter().filter_map(|blocks| seat(blocks, real));
    let (mut active, mut inactive, mut before) = (0u32, 0u32, false);
    for (own, others) in seats() {
        active = active.saturating_add(own.active.get());
        inactive = inactive.saturating_add(own.inactive.get());
        before |= is_overloaded(own, Some(others));
    }
    let total = active.saturating_add(inactive);
    let overloaded = limits.reached(total) || before && !limits.left(total);
    for (own, others) in seats() {
        others.active.set(active.saturating_sub(own.active.get()));
        let inactive = inactive.saturating_sub(own.inactive.get());
        others.inactive.set(inactive);
        others.overloaded.set(u32::from(overloaded));
        others.round.up();
    }
}

/// After a real server's upper threshold was changed from `old_upper`: lets new connections
/// in at once if IPVS does.
pub fn edited(all: &[Blocks], real: RealId, old_upper: u32, limits: Limits) {
    if limits.upper != old_upper && limits.raised_from(old_upper) {
        for (_, others) in all.iter().filter_map(|blocks| seat(blocks, real)) {
            others.overloaded.set(0);
        }
    }
}

fn seat(blocks: &Blocks, real: RealId) -> Option<(&RealBlock, &Others)> {
    Some((blocks.reals.get(real.0)?, blocks.others.get(real.0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::thresholds::{bind, unbind};

    const REAL: RealId = RealId(3);

    fn workers(count: usize) -> Vec<Blocks> {
        let grown = |_| {
            let mut blocks = Blocks::default();
            blocks.reals.grow(4);
            blocks.others.grow(4);
            blocks
        };
        (0..count).map(grown).collect()
    }

    /// A connection comes (1) or goes (-1) at a worker.
    fn step(blocks: &Blocks, by: i32, limits: Limits) {
        let (own, others) = seat(blocks, REAL).expect("grown");
        if by > 0 {
            own.active.up();
            bind(own, Some(others), limits);
        } else {
            own.active.down();
            unbind(own, Some(others), limits);
        }
    }

    fn state(all: &[Blocks]) -> Vec<bool> {
        all.iter()
            .map(|blocks| {
                let (own, others) = seat(blocks, REAL).expect("grown");
                is_overloaded(own, Some(others))
            })
            .collect()
    }

    #[test]
    fn each_worker_learns_of_the_others() {
        let all = workers(3);
        let limits = Limits::default();
        all[0].reals.get(3).expect("grown").active.set(5);
        all[1].reals.get(3).expect("grown").inactive.set(7);
        sum(&all, REAL, limits);
        let told = |blocks: &Blocks| {
            let others = blocks.others.get(3).expect("grown");
            (others.active.get(), others.inactive.get())
        };
        assert_eq!(
            all.iter().map(told).collect::<Vec<_>>(),
            [(0, 7), (5, 0), (5, 7)]
        );
    }

    #[test]
    fn a_threshold_over_two_workers() {
        let all = workers(2);
        let limits = Limits { upper: 4, lower: 0 };
        (0..3).for_each(|_| step(&all[0], 1, limits));
        step(&all[1], 1, limits);
        assert_eq!(state(&all), [false, false], "4 in all, but nobody knows");
        sum(&all, REAL, limits);
        assert_eq!(state(&all), [true, true]);
        step(&all[1], -1, limits);
        sum(&all, REAL, limits);
        assert_eq!(state(&all), [true, true], "3 is not below three quarters");
        step(&all[0], -1, limits);
        sum(&all, REAL, limits);
        assert_eq!(state(&all), [false, false]);
        (0..2).for_each(|_| step(&all[0], 1, limits));
        assert_eq!(state(&all), [true, false], "it knows by itself");
        sum(&all, REAL, limits);
        (0..4).for_each(|_| step(&all[0], -1, limits));
        sum(&all, REAL, limits);
        assert_eq!(state(&all), [false, false], "no mark is left behind");
    }

    #[test]
    fn an_edit_opens_at_once() {
        let all = workers(2);
        let narrow = Limits { upper: 1, lower: 0 };
        step(&all[0], 1, narrow);
        sum(&all, REAL, narrow);
        assert_eq!(state(&all), [true, true]);
        edited(&all, REAL, 1, Limits { upper: 2, lower: 0 });
        assert!(!state(&all)[1]);
    }

    #[test]
    fn one_worker_has_no_sums() {
        let all = workers(1);
        let limits = Limits { upper: 1, lower: 0 };
        step(&all[0], 1, limits);
        sum(&all, REAL, limits);
        assert_eq!(all[0].others.get(3).expect("grown").round.get(), 0);
        assert_eq!(state(&all), [true]);
    }
}
