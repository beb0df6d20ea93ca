//! Time, as far as it can be had on a machine that others use too.
//!
//! Rounds are short, so that most are disturbed by nobody, and of each thing there are many, in
//! turns with the others: what slows the machine down for a while slows them all. The clock is that
//! of the thread: it stands while another has the processor.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The time that this thread has had the processor.
///
/// # Panics
/// Where the system has no such clock.
pub fn on_cpu() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    Duration::from(clock_gettime(clock).expect("Linux has one for each thread"))
}

/// What the rounds of one thing came to, in nanoseconds a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Half of the rounds were faster.
    pub median: f64,
    /// A tenth of the rounds were faster.
    pub p10: f64,
    /// The fastest round.
    pub min: f64,
    /// A tenth of the rounds were slower.
    pub p90: f64,
}

impl Figures {
    /// Those of these rounds.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let last = rounds.len() - 1;
        Self {
            // Of an even number of rounds what lies between the two in the middle.
            median: f64::midpoint(rounds[last / 2], rounds[last.div_ceil(2)]),
            p10: rounds[last * 10 / 100],
            min: rounds[0],
            p90: rounds[(last * 90).div_ceil(100)],
        }
    }

    /// These without what `other` is a part of each: its median, so that the order stays.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            median: self.median - other.median,
            p10: self.p10 - other.median,
            min: self.min - other.median,
            p90: self.p90 - other.median,
        }
    }
}

/// However busy the machine is.
const LONGEST: Duration = Duration::from_secs(10);
/// Rounds that are done all the same: a median of fewer says little.
const FEWEST: usize = 20;

/// Does `rounds` rounds of each of these in turn, after two that do not count, or fewer in ten
/// seconds; each does as many packets a round as it says.
pub fn interleaved(rounds: usize, things: &mut [&mut dyn FnMut() -> u32]) -> Vec<Figures> {
    let mut all = vec![Vec::with_capacity(rounds); things.len()];
    let until = Instant::now() + LONGEST;
    for round in 0..rounds + 2 {
        if round >= FEWEST + 2 && Instant::now() > until {
            break;
        }
        for (thing, all) in things.iter_mut().zip(&mut all) {
            let start = on_cpu();
            let packets = thing();
            let spent = on_cpu() - start;
            if round >= 2 {
                all.push(spent.as_secs_f64() * 1e9 / f64::from(packets));
            }
        }
    }
    all.into_iter().map(Figures::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_places_in_the_order() {
        let figures = Figures::of((0..=100).rev().map(f64::from).collect());
        let Figures {
            median,
            p10,
            min,
            p90,
        } = figures;
        assert_eq!([min, p10, median, p90], [0.0, 10.0, 50.0, 90.0]);
        let few = Figures::of(vec![4.0, 1.0, 3.0, 2.0]);
        let Figures {
            median,
            p10,
            min,
            p90,
        } = few;
        assert_eq!([min, p10, median, p90], [1.0, 1.0, 2.5, 4.0]);
    }

    #[test]
    fn what_is_taken_off_keeps_the_order() {
        let turns = Figures::of((100..200).map(f64::from).collect());
        let idle = Figures::of((0..100).map(|n| f64::from(n) / 2.0).collect());
        let Figures {
            median,
            p10,
            min,
            p90,
        } = turns.without(idle);
        assert!(min < p10 && p10 < median && median < p90);
        assert_eq!(median, turns.median - idle.median);
    }

    #[test]
    fn rounds_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let thing = |name: char, packets: u32| {
            order.borrow_mut().push(name);
            packets
        };
        let found = interleaved(3, &mut [&mut || thing('a', 1), &mut || thing('b', 2)]);
        assert_eq!(found.len(), 2);
        assert_eq!(*order.borrow(), "ababababab");
    }
}
