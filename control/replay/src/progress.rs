//! One line on a terminal that says how far it is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::time::Nanos;

/// Packets between two looks at the real clock.
const EVERY: u64 = 8192;
/// Between two changes of the line.
const PAUSE: Duration = Duration::from_millis(200);
const BAR: usize = 30;

/// The line. Where there is no terminal, nothing.
pub(crate) struct Progress {
    shown: bool,
    on: bool,
    began: Instant,
    last: Instant,
    /// The number of packets from which on the real clock is looked at again.
    next: u64,
    size: u64,
}

impl Progress {
    /// Of captures that have `size` octets together.
    pub(crate) fn new(size: u64) -> Self {
        Self {
            shown: false,
            on: std::io::stderr().is_terminal(),
            began: Instant::now(),
            last: Instant::now(),
            next: EVERY,
            size,
        }
    }

    /// `packets` are through, `octets` are read, and the virtual clock shows `at`.
    #[inline]
    pub(crate) fn tell(&mut self, packets: u64, octets: impl FnOnce() -> u64, at: Nanos) {
        if self.on && packets >= self.next {
            self.next = packets + EVERY;
            if self.last.elapsed() >= PAUSE {
                self.show(packets, octets(), at);
            }
        }
    }

    fn show(&mut self, packets: u64, octets: u64, at: Nanos) {
        (self.shown, self.last) = (true, Instant::now());
        let percent = octets.min(self.size) * 100 / self.size.max(1);
        let full = usize::try_from(percent).unwrap_or(0) * BAR / 100;
        let (bar, rest) = ("#".repeat(full), " ".repeat(BAR - full));
        let ms = self.began.elapsed().as_millis().max(1);
        let rate = u128::from(packets) / ms;
        let line =
            format!("\r[{bar}{rest}] {percent:3} %  {packets} packets, {rate} k/s, t={at}\x1b[K");
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    /// Takes the line away, before something else is said.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = std::io::stderr().lock().write_all(b"\r\x1b[K");
        }
    }
}
