//! A generator that keeps a pace for a short while, and knows whether the while was ours.
//!
//! Other threads have either core now and then, for milliseconds. A ring lasts for a tenth of one: what
//! is lost, or late, by then says nothing about the forwarder. So there are many short slices, each
//! from empty rings, and the kernel counts how often each of the two threads was put on its core: where
//! one was in between, the slice is not whole. Interrupts, and what a host takes without telling,
//! remain in, but where the generator itself was late by them.

use std::fs::File;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use arch::{Tsc, cycles};
use dataplane::port::{Burst, Frame, Port};
use hdrhistogram::Histogram;

use crate::BUFFERS;
use crate::peer::{HEADROOM, Peer};

/// At its begin a slice's packets are not timed: queues come to their length.
const WARM: Duration = Duration::from_micros(500);
/// A look at the rings takes a microsecond or two. If the generator took so long, it was away.
const LATE: Duration = Duration::from_micros(20);
/// For what is under way when a slice ends.
const DRAIN: Duration = Duration::from_millis(50);
/// More packets under way when a slice ends than this, and they became more all the time: a rate that is
/// too high by 1 % at 25 million a second, in a slice of 2 ms, loses nothing yet.
const BACKLOG: usize = BUFFERS / 8;
/// A second: more than any packet takes that comes back in its slice. Room for it is had before, not in
/// the midst of a slice.
const LONGEST: u64 = 1_000_000_000;
/// Octets of the time, at the end of a frame.
const STAMP: usize = 6;
const MASK: u64 = (1 << (8 * STAMP)) - 1;

/// How often a thread was put on a core.
#[derive(Debug)]
pub(crate) struct Switches(File);

impl Switches {
    /// Those of the calling thread.
    pub(crate) fn own() -> Result<Self, String> {
        let file = "/proc/thread-self/schedstat";
        let opened = File::open(file).map_err(|error| format!("{file}: {error}"))?;
        let mut own = Self(opened);
        own.count().ok_or(format!("{file} does not count"))?;
        Ok(own)
    }

    /// So far.
    fn count(&mut self) -> Option<u64> {
        let mut text = String::new();
        self.0.rewind().ok()?;
        self.0.read_to_string(&mut text).ok()?;
        counted(&text)
    }
}

/// On a core, waiting for one (nanoseconds), how often it was put on one: who reads this was so once.
/// Kernels that don't count say `0 0 0`.
fn counted(text: &str) -> Option<u64> {
    let count = text.split_whitespace().nth(2)?.parse().ok()?;
    (count > 0).then_some(count)
}

/// A generator that keeps a pace.
#[derive(Debug)]
pub(crate) struct Pace {
    peer: Peer,
    tsc: Tsc,
    /// The worker's and our own.
    threads: [Switches; 2],
    /// From write to read in the last slice, in nanoseconds.
    pub(crate) took: Histogram<u64>,
}

/// What one slice came to.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) sent: u64,
    /// No buffer was free, or the ring was full.
    pub(crate) lost: u64,
    /// Under way when the last one was sent.
    backlog: usize,
    /// Sent to what should have been.
    pace: f64,
    /// Both threads were on their cores all the time.
    pub(crate) whole: bool,
}

impl Slice {
    /// Nothing was lost, and nothing would have been later.
    pub(crate) fn is_kept(&self) -> bool {
        self.lost == 0 && self.backlog <= BACKLOG && !self.is_slow()
    }

    /// The generator could not do it.
    pub(crate) fn is_slow(&self) -> bool {
        self.pace < 0.97
    }
}

impl Pace {
    /// With these packets, through a worker on a thread of its own; the calling one generates.
    pub(crate) fn new(peer: Peer, worker: Switches) -> Result<Self, String> {
        Ok(Self {
            peer,
            tsc: Tsc::calibrate(Duration::from_millis(20)),
            threads: [worker, Switches::own()?],
            took: Histogram::new_with_max(LONGEST, 3).expect("three digits are allowed"),
        })
    }

    /// Sends so many packets a second for a while.
    pub(crate) fn slice(&mut self, rate: f64, long: Duration) -> Slice {
        self.took.reset();
        let before = self.switches();
        let fresh = self.peer.free.len() == BUFFERS;
        let since = cycles() + self.cycles(WARM);
        let mut slice = self.send(rate, long, since);
        let until = Instant::now() + DRAIN;
        while self.peer.free.len() < BUFFERS && Instant::now() < until {
            self.take(since);
        }
        let drained = self.peer.free.len() == BUFFERS;
        slice.whole &= fresh && drained && before.is_some() && before == self.switches();
        slice
    }

    fn switches(&mut self) -> Option<[u64; 2]> {
        let [worker, own] = &mut self.threads;
        Some([worker.count()?, own.count()?])
    }

    fn send(&mut self, rate: f64, long: Duration, since: u64) -> Slice {
        let (mut sent, mut lost, mut whole) = (0, 0, true);
        let [long, late] = [long, LATE].map(|time| self.cycles(time));
        #[expect(clippy::cast_precision_loss, reason = "cycles of a second")]
        let each = self.tsc.hz() as f64 / rate;
        let start = cycles();
        let (mut due, mut last) = (0.0, 0);
        loop {
            let now = cycles() - start;
            whole &= now - last < late;
            last = now;
            if now > long {
                break;
            }
            #[expect(clippy::cast_precision_loss, reason = "cycles of a second")]
            let passed = now as f64;
            let mut burst = Burst::new();
            while due <= passed && !burst.is_full() {
                due += each;
                match self.peer.free.pop_front() {
                    Some(frame) => burst.push(frame),
                    None => lost += 1,
                }
            }
            for frame in &mut burst {
                let drawn = self.peer.source.draw();
                self.peer.source.write_any(frame, HEADROOM, drawn);
                stamp(frame);
            }
            sent += self.peer.queue.tx_burst(&mut burst) as u64;
            lost += burst.len() as u64;
            self.peer.free.extend(burst.drain(..));
            self.take(since);
        }
        #[expect(clippy::cast_precision_loss, reason = "cycles of a second")]
        let pace = due / long as f64;
        Slice {
            sent,
            lost,
            backlog: BUFFERS - self.peer.free.len(),
            pace,
            whole,
        }
    }

    fn cycles(&self, time: Duration) -> u64 {
        let hz = u128::from(self.tsc.hz());
        let cycles = hz * time.as_nanos() / 1_000_000_000;
        u64::try_from(cycles).expect("a short time")
    }

    /// Takes a burst back, and times what was sent since.
    fn take(&mut self, since: u64) {
        let mut burst = Burst::new();
        self.peer.queue.rx_burst(&mut burst);
        let now = cycles();
        for frame in burst.drain(..) {
            let passed = now.wrapping_sub(stamped(&frame)) & MASK;
            if now - passed >= since {
                self.took.saturating_record(self.tsc.nanos(passed));
            }
            self.peer.free.push_back(frame);
        }
    }
}

fn stamp(frame: &mut impl Frame) {
    let time = (cycles() & MASK).to_be_bytes();
    if let Some(last) = frame.bytes_mut().last_chunk_mut::<STAMP>() {
        last.copy_from_slice(&time[8 - STAMP..]);
    }
}

fn stamped(frame: &impl Frame) -> u64 {
    let mut time = [0; 8];
    if let Some(last) = frame.bytes().last_chunk::<STAMP>() {
        time[8 - STAMP..].copy_from_slice(last);
    }
    u64::from_be_bytes(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Slice {
        pub(crate) fn of(sent: u64, lost: u64, whole: bool) -> Self {
            Self {
                sent,
                lost,
                backlog: BACKLOG,
                pace: 1.0,
                whole,
            }
        }
    }

    fn slice() -> Slice {
        Slice::of(1000, 0, true)
    }

    #[test]
    fn a_rate_is_kept_without_loss_backlog_or_a_slow_generator() {
        assert!(slice().is_kept());
        for wrong in [
            Slice { lost: 1, ..slice() },
            Slice {
                backlog: BACKLOG + 1,
                ..slice()
            },
            Slice {
                pace: 0.96,
                ..slice()
            },
        ] {
            assert!(!wrong.is_kept(), "{wrong:?}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_count_is_told() {
        assert_eq!(counted("912345 678 9\n"), Some(9));
        for text in ["0 0 0\n", "912345 678\n", ""] {
            assert_eq!(counted(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_thread_that_was_away_is_told() {
        let mut own = Switches::own().expect("Linux counts them");
        let before = own.count().expect("a number");
        std::thread::sleep(Duration::from_millis(1));
        assert!(own.count().expect("a number") > before);
    }
}
