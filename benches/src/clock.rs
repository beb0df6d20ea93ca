//! Time, as far as it can be had on a machine that others use too.
//!
//! Rounds are short, so that most are disturbed by nobody, and of each thing there are many, in
//! turns with the others: what slows the machine down for a while slows them all. The clock is that
//! of the thread: it stands while another has the processor.

use std::time::Duration;

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
        let at = |percent: usize| rounds[(rounds.len() - 1) * percent / 100];
        Self {
            median: at(50),
            p10: at(10),
            min: at(0),
            p90: at(90),
        }
    }

    /// These without what `other` is a part of each.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            median: self.median - other.median,
            p10: self.p10 - other.p10,
            min: self.min - other.min,
            p90: self.p90 - other.median,
        }
    }
}

/// Does `rounds` rounds of each of these in turn, after two that do not count; each does as many
/// packets a round as it says.
pub fn interleaved(rounds: usize, things: &mut [&mut dyn FnMut() -> u32]) -> Vec<Figures> {
    let mut all = vec![Vec::with_capacity(rounds); things.len()];
    for round in 0..rounds + 2 {
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
    }
}
