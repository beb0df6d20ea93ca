//! How long things took, for `status`.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Decimal digits that are right.
const DIGITS: u8 = 3;

/// What is said of some durations, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// Half of them were not longer.
    pub p50_us: f64,
    /// 99 of 100 were not longer.
    pub p99_us: f64,
    /// 999 of 1000 were not longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Durations, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are allowed"))
    }
}

impl Latencies {
    /// `count` of them took so long.
    pub fn record(&mut self, nanos: u64, count: u64) {
        self.0
            .record_n(nanos, count)
            .expect("it grows as far as needed");
    }

    /// What is to be said of them.
    pub fn latency(&self) -> Latency {
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        Latency {
            count: self.0.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(self.0.max()),
        }
    }
}

/// With one decimal.
fn micros(nanos: u64) -> f64 {
    let tenths = u32::try_from(nanos / 100).unwrap_or(u32::MAX);
    f64::from(tenths) / 10.0
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            p50_us,
            p99_us,
            p999_us,
            max_us,
            ..
        } = self;
        write!(
            f,
            "half in {p50_us} us, 99% in {p99_us}, 99.9% in {p999_us}, longest {max_us}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let mut latencies = Latencies::default();
        latencies.record(1_000, 989);
        latencies.record(20_000, 10);
        latencies.record(3_000_000, 1);
        let latency = latencies.latency();
        assert_eq!(latency.count, 1000);
        assert_eq!((latency.p50_us, latency.p99_us), (1.0, 20.0));
        assert!((latency.max_us - 3_000.0).abs() < 3.0);
        assert_eq!(Latencies::default().latency(), Latency::default());
    }
}
