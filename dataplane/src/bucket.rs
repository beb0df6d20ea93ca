//! A token bucket: so many a second, and a burst after a pause.

use crate::time::Millis;

/// Tokens in thousandths, so that a slow rate fills evenly.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    millitokens: u64,
    filled: Millis,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u32, now: Millis) -> Self {
        Self {
            millitokens: capacity(per_second),
            filled: now,
        }
    }

    /// Takes one token, if there is one. The rate may differ from call to call.
    pub fn take(&mut self, per_second: u32, now: Millis) -> bool {
        let gained = u64::from(now.since(self.filled)) * u64::from(per_second);
        self.filled = now;
        self.millitokens = (self.millitokens + gained).min(capacity(per_second));
        let enough = self.millitokens >= 1000;
        if enough {
            self.millitokens -= 1000;
        }
        enough
    }
}

/// A tenth of a second's tokens, but at least 32.
fn capacity(per_second: u32) -> u64 {
    1000 * u64::from(if per_second == 0 {
        0
    } else {
        (per_second / 10).max(32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Millis(u32::MAX);
        let mut bucket = TokenBucket::new(1000, start);
        let mut taken = |now, tries| (0..tries).filter(|_| bucket.take(1000, now)).count();
        assert_eq!(taken(start, 1000), 100, "a tenth of a second at once");
        assert_eq!(taken(start.plus(10), 1000), 10);
        assert_eq!(
            taken(start.plus(60_000), 1000),
            100,
            "no more after any pause"
        );
    }

    #[test]
    fn zero_is_never() {
        let mut bucket = TokenBucket::new(0, Millis(0));
        assert!(!bucket.take(0, Millis(100_000)));
    }
}
