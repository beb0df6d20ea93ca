//! The virtual clock: nanoseconds since 1970, as the captures have them.

use std::fmt;

use dataplane::time::Millis;

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// An instant. Shows as seconds with as many decimals as it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Whole milliseconds, as control counts.
    pub(crate) fn ms(self) -> u64 {
        self.0 / MILLISECOND
    }

    /// Seconds, and nanoseconds of the second.
    pub(crate) fn split(self) -> (u64, u64) {
        (self.0 / SECOND, self.0 % SECOND)
    }

    /// Reads seconds in decimal: `2`, `2.5`. What is finer than a nanosecond is cut off.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(part) {
            return None;
        }
        let nanos: u64 = format!("{part:0<9}").get(..9)?.parse().ok()?;
        let whole: u64 = whole.parse().ok()?;
        whole.checked_mul(SECOND)?.checked_add(nanos).map(Self)
    }
}

/// The data plane's clock, which wraps.
#[expect(clippy::cast_possible_truncation, reason = "the clock wraps")]
pub(crate) fn millis(ms: u64) -> Millis {
    Millis(ms as u32)
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, mut part) = self.split();
        if part == 0 {
            return write!(f, "{seconds}");
        }
        let mut width = 9;
        while part.is_multiple_of(10) {
            part /= 10;
            width -= 1;
        }
        write!(f, "{seconds}.{part:0width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_they_are_written() {
        for (text, nanos) in [
            ("0", 0),
            ("2.5", 2_500_000_000),
            ("0.000000001", 1),
            ("1700000000.123456789", 1_700_000_000_123_456_789),
        ] {
            assert_eq!(Nanos::parse(text), Some(Nanos(nanos)), "{text}");
            assert_eq!(Nanos(nanos).to_string(), text);
        }
        assert_eq!(Nanos::parse("1.0000000019"), Some(Nanos(1_000_000_001)));
        for text in ["", "-1", "1.", ".5", "1e3", "now", "+1", "99999999999999"] {
            assert_eq!(Nanos::parse(text), None, "{text}");
        }
    }
}
