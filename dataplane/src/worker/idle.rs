//! What a worker does between turns that had nothing to do.

use std::time::Duration;

/// What a worker does when there was nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Looks again at once.
    Spin,
    /// Looks again after the processor's pause hint.
    Pause,
    /// Sleeps: 50 us at first, up to a millisecond.
    Sleep,
}

/// Empty turns before a sleeper sleeps: a burst is rarely alone.
const PATIENCE: u32 = 64;
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(1);

/// How long it has been idle.
#[derive(Debug)]
pub(super) struct Pause {
    idle: Idle,
    empty: u32,
    next: Duration,
}

impl Pause {
    pub(super) fn new(idle: Idle) -> Self {
        Self {
            idle,
            empty: 0,
            next: SHORTEST,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.idle);
    }

    pub(super) fn wait(&mut self) {
        match self.idle {
            Idle::Spin => {}
            Idle::Pause => arch::pause(),
            Idle::Sleep if self.empty < PATIENCE => self.empty += 1,
            Idle::Sleep => {
                std::thread::sleep(self.next);
                self.next = (self.next * 2).min(LONGEST);
            }
        }
    }
}
