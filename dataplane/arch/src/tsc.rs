//! The cycle counter and how fast it counts.

use std::time::{Duration, Instant};

/// The time stamp counter: constant rate on every x86-64 of the last decade, not ordered with
/// the instructions around it. About 7 ns.
///
/// On other machines: nanoseconds of the monotonic clock.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: RDTSC is in every x86-64 and touches no memory. A process forbidden it
        // (PR_SET_TSC) dies by a signal; it does not misbehave.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        let ns = START.get_or_init(Instant::now).elapsed().as_nanos();
        u64::try_from(ns).expect("a process runs less than 584 years")
    }
}

/// How fast [`cycles`] counts, measured once at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsc {
    hz: u64,
}

impl Tsc {
    /// Measures against the monotonic clock for `over` (10 ms give about 0.1 per mille); blocks
    /// that long.
    pub fn calibrate(over: Duration) -> Tsc {
        let (clock, first) = (Instant::now(), cycles());
        std::thread::sleep(over);
        let (elapsed, last) = (clock.elapsed(), cycles());
        let counted = u128::from(last.wrapping_sub(first));
        let hz = counted * 1_000_000_000 / elapsed.as_nanos().max(1);
        Tsc {
            hz: u64::try_from(hz).unwrap_or(u64::MAX).max(1),
        }
    }

    /// Cycles in a second, at least 1.
    pub fn hz(self) -> u64 {
        self.hz
    }

    /// Nanoseconds that `cycles` take.
    pub fn nanos(self, cycles: u64) -> u64 {
        let ns = u128::from(cycles) * 1_000_000_000 / u128::from(self.hz);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_agrees_with_the_clock() {
        let tsc = Tsc::calibrate(Duration::from_millis(10));
        let (clock, first) = (Instant::now(), cycles());
        std::thread::sleep(Duration::from_millis(20));
        let (elapsed, last) = (clock.elapsed(), cycles());
        let measured = Duration::from_nanos(tsc.nanos(last - first));
        let error = measured.abs_diff(elapsed);
        assert!(
            error < elapsed / 20,
            "{measured:?} by the counter, {elapsed:?} by the clock"
        );
    }
}
