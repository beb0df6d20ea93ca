//! Time as the packet path knows it: one reading a turn, in wrapping milliseconds.

/// Milliseconds on a clock that wraps after 49.7 days.
///
/// Only differences mean anything. The longest timeout (31 days) is shorter than the wrap,
/// so an elapsed time is always taken as unsigned: never compare two instants with `<`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Millis(pub u32);

impl Millis {
    /// Milliseconds from `earlier` to `self`.
    #[inline]
    pub fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The instant `ms` later.
    #[inline]
    pub fn plus(self, ms: u32) -> Self {
        Self(self.0.wrapping_add(ms))
    }
}

/// Turns cycles into [`Millis`]: the clock of production. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    cycles_per_ms: u64,
}

impl Clock {
    /// A clock that starts now, for a counter that counts `hz` a second.
    pub fn start(hz: u64) -> Self {
        Self {
            start: arch::cycles(),
            cycles_per_ms: (hz / 1000).max(1),
        }
    }

    /// The time at which the counter showed `cycles`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the clock wraps")]
    pub fn at(&self, cycles: u64) -> Millis {
        Millis((cycles.wrapping_sub(self.start) / self.cycles_per_ms) as u32)
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        self.at(arch::cycles())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_follows_the_counter() {
        let clock = Clock::start(3_000_000_000);
        let later = clock.start.wrapping_add(3_000_000 * 1500);
        assert_eq!(clock.at(later), Millis(1500));
    }

    #[test]
    fn a_difference_survives_the_wrap() {
        let before = Millis(u32::MAX - 400);
        let after = before.plus(1000);
        assert_eq!(after, Millis(599));
        assert_eq!(after.since(before), 1000);
    }
}
