//! How long packets are in the forwarder at a part of the highest rate at which none is lost.
//!
//! The generator writes the time into the last octets of each packet and reads it when the packet comes
//! back: two rings and the worker's turn lie between. What a ring has no room for is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arch::{Tsc, cycles};
use benches::lab::worker_on;
use benches::{Family, Source};
use dataplane::port::{Burst, Frame, Port};
use dataplane::time::Millis;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::peer::{Both, HEADROOM, Peer};
use crate::{Asked, Room, pin};

const CHECKED: u32 = 64;
/// A rate is kept up if one of so many tries loses nothing: on a shared machine somebody else takes the
/// core for a millisecond now and then.
const TRIES: u32 = 24;
const TRY: Duration = Duration::from_millis(10);
/// Halvings of what is not known yet about the highest rate.
const STEPS: u32 = 8;
/// More than the generator can do, in packets a second.
const MOST: f64 = 80e6;
const LOADS: [u32; 3] = [10, 50, 90];
/// Octets of the time, at the end of a frame.
const STAMP: usize = 6;
const MASK: u64 = (1 << (8 * STAMP)) - 1;

/// Measures one case.
pub(crate) fn measure(asked: Asked, window: Duration) -> Result<Value, String> {
    let Asked { case, flows, cores } = asked;
    if case.family != Family::V4 {
        return Err("a 64-byte frame of IPv6 has no room for the time".to_owned());
    }
    let room = Room::new(1, cores[0])?;
    let pair = room.pair()?;
    let peer = Peer::new(pair.far, Source::new(case, flows), &room.pool)?;
    let connections = flows + flows / 4 + 1024;
    let (worker, counters, _publisher) = worker_on(case, connections, pair.near);
    let mut both = Both {
        worker,
        counters,
        peer,
    };
    both.open(flows);
    both.check(CHECKED);
    let Both {
        mut worker,
        counters,
        peer,
    } = both;
    let handle = room.eal.handle();
    let stop = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let generating = scope.spawn(|| -> Result<Value, String> {
            pin(cores[1])?;
            let _known = handle
                .register_thread()
                .map_err(|error| error.to_string())?;
            let found = Pace::new(peer).found(window);
            stop.store(true, Ordering::Relaxed);
            Ok(found)
        });
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) && !generating.is_finished() {
            let now = u32::try_from(start.elapsed().as_millis()).unwrap_or(0);
            for _ in 0..1024 {
                dpdk::worker::turn(&mut worker, Millis(now));
            }
        }
        generating
            .join()
            .map_err(|_| "the generator panicked".to_owned())
    })??;
    let (rx, tx) = (counters.rx.get(), counters.transmit.get());
    assert_eq!(rx, tx, "nothing was lost in the worker");
    Ok(found)
}

/// A generator that keeps a pace.
struct Pace {
    peer: Peer,
    tsc: Tsc,
}

/// What one pace came to.
struct Run {
    sent: u64,
    lost: u64,
    took: Histogram<u64>,
}

impl Pace {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            tsc: Tsc::calibrate(Duration::from_millis(20)),
        }
    }

    fn found(&mut self, window: Duration) -> Value {
        let highest = self.highest();
        let run = |load: u32| {
            let rate = highest * f64::from(load) / 100.0;
            let run = self.run(rate, window);
            let at = |quantile| run.took.value_at_quantile(quantile);
            json!({
                "load_percent": load,
                "offered_mpps": rate / 1e6,
                "packets": run.sent,
                "lost_packets": run.lost,
                "p50_ns": at(0.5),
                "p90_ns": at(0.9),
                "p99_ns": at(0.99),
                "p999_ns": at(0.999),
                "max_ns": run.took.max(),
            })
        };
        let loads: Vec<_> = LOADS.into_iter().map(run).collect();
        json!({"highest_mpps": highest / 1e6, "loads": loads})
    }

    /// The highest rate without loss.
    fn highest(&mut self) -> f64 {
        let (mut kept, mut lost) = (0.0, MOST);
        for _ in 0..STEPS {
            let rate = (kept + lost) / 2.0;
            match (0..TRIES).any(|_| self.keeps(rate)) {
                true => kept = rate,
                false => lost = rate,
            }
        }
        kept
    }

    fn keeps(&mut self, rate: f64) -> bool {
        let run = self.run(rate, TRY);
        let wanted = rate * TRY.as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of a fraction of a second"
        )]
        let sent = run.sent as f64;
        run.lost == 0 && sent > 0.97 * wanted
    }

    /// Sends at this rate for a while.
    fn run(&mut self, rate: f64, window: Duration) -> Run {
        let mut took = Histogram::new(3).expect("three digits are allowed");
        let (mut sent, mut lost) = (0, 0);
        #[expect(clippy::cast_precision_loss, reason = "cycles of a second")]
        let each = self.tsc.hz() as f64 / rate;
        let start = cycles();
        let mut due = 0.0;
        loop {
            let now = cycles() - start;
            #[expect(clippy::cast_precision_loss, reason = "cycles of a second")]
            let passed = now as f64;
            if self.tsc.nanos(now) > u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) {
                break;
            }
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
            self.take(&mut took);
        }
        // What is still under way.
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            self.take(&mut took);
        }
        Run { sent, lost, took }
    }

    fn take(&mut self, took: &mut Histogram<u64>) {
        let mut burst = Burst::new();
        self.peer.queue.rx_burst(&mut burst);
        let now = cycles();
        for frame in burst.drain(..) {
            let nanos = self.tsc.nanos(now.wrapping_sub(stamped(&frame)) & MASK);
            took.record(nanos).expect("it grows as far as needed");
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
