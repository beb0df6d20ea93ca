//! How long packets are in the forwarder at a part of the highest rate at which none is lost.
//!
//! The generator writes the time into the last octets of each packet and reads it when the packet comes
//! back: two rings and the worker's turn lie between. What there is no buffer for, or no place in the
//! ring, is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::lab::worker_on;
use benches::{Family, Source};
use dataplane::time::Millis;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::pace::{Pace, Slice, Switches};
use crate::peer::{Both, Peer};
use crate::{Asked, Room, pin};

const CHECKED: u32 = 64;
/// Short enough that some are whole where others use the machine.
const SLICE: Duration = Duration::from_millis(2);
/// Of so many whole slices most keep a rate up, or it is too high.
const TRIES: usize = 5;
/// Halvings of what is not known yet about the highest rate.
const STEPS: u32 = 8;
/// More than the generator can do, in packets a second.
const MOST: f64 = 80e6;
/// In none of so many anything is lost at a rate that is confirmed.
const CONFIRMED: usize = 50;
/// A rate that is not confirmed is that much too high.
const LOWER: f64 = 0.98;
const LOADS: [u32; 3] = [10, 50, 90];
/// A rate that is not kept up any more, since the machine became slower, is looked for so often.
const TIMES: u32 = 2;

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
    let (stop, own) = (AtomicBool::new(false), Switches::own()?);
    let found = std::thread::scope(|scope| {
        let generating = scope.spawn(|| -> Result<Value, String> {
            pin(cores[1])?;
            let _known = handle
                .register_thread()
                .map_err(|error| error.to_string())?;
            let found = Pace::new(peer, own).and_then(|mut pace| found(&mut pace, window));
            stop.store(true, Ordering::Relaxed);
            found
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

/// The highest rate, and what is had at parts of it.
fn found(pace: &mut Pace, window: Duration) -> Result<Value, String> {
    for _ in 0..TIMES {
        let highest = highest(pace, window / 2)?;
        let loads = rounds(pace, highest.rate, window);
        if loads.iter().all(|load| load.slices > 0) {
            return Ok(json!({
                "highest_mpps": highest.rate / 1e6,
                "limited_by": highest.limited_by,
                "confirmed_ms": highest.confirmed.as_millis(),
                "loads": loads.iter().map(Load::said).collect::<Vec<_>>(),
            }));
        }
    }
    Err("others had the cores, or changed their speed, all the time".to_owned())
}

/// The highest rate without loss.
struct Highest {
    rate: f64,
    /// Who can't do more.
    limited_by: &'static str,
    /// How long it was tried, in whole slices.
    confirmed: Duration,
}

/// Finds it and confirms it, for so long each at most, however busy the machine is.
fn highest(pace: &mut Pace, longest: Duration) -> Result<Highest, String> {
    let until = Instant::now() + longest;
    let (mut rate, mut above, mut limited_by) = (0.0, MOST, "generator");
    for _ in 0..STEPS {
        let middle = f64::midpoint(rate, above);
        let slices = whole(pace, middle, TRIES, until);
        if slices.is_empty() {
            return Err("others had the cores all the time".to_owned());
        } else if most(&slices, Slice::is_kept) {
            rate = middle;
        } else {
            above = middle;
            limited_by = match most(&slices, Slice::is_slow) {
                true => "generator",
                false => "forwarder",
            };
        }
    }
    let until = Instant::now() + longest;
    loop {
        let slices = whole(pace, rate, CONFIRMED, until);
        let lost: u64 = slices.iter().map(|slice| slice.lost).sum();
        if slices.is_empty() {
            return Err("others had the cores all the time".to_owned());
        } else if lost == 0 && most(&slices, Slice::is_kept) {
            let confirmed = SLICE * u32::try_from(slices.len()).expect("some");
            return Ok(Highest {
                rate,
                limited_by,
                confirmed,
            });
        }
        rate *= LOWER;
    }
}

/// So many whole slices, or those that there were until then.
fn whole(pace: &mut Pace, rate: f64, count: usize, until: Instant) -> Vec<Slice> {
    let mut slices = Vec::new();
    while slices.len() < count {
        let slice = pace.slice(rate, SLICE);
        if slice.whole {
            slices.push(slice);
        }
        if Instant::now() > until {
            break;
        }
    }
    slices
}

fn most(slices: &[Slice], so: fn(&Slice) -> bool) -> bool {
    2 * slices.iter().filter(|slice| so(slice)).count() > slices.len()
}

/// What was had at one load.
struct Load {
    percent: u32,
    rate: f64,
    slices: u32,
    sent: u64,
    lost: u64,
    /// Slices that did not count, and what was lost in them of what was sent.
    left_out: u32,
    left_out_sent: u64,
    left_out_lost: u64,
    took: Histogram<u64>,
}

/// Slices at each load in turns, and at the whole rate: while that is not kept up the machine is slower
/// than it was when the rate was found, and none counts.
fn rounds(pace: &mut Pace, highest: f64, window: Duration) -> [Load; 3] {
    let mut loads = LOADS.map(|percent| Load::new(percent, highest));
    let (until, mut holds) = (Instant::now() + window, false);
    while Instant::now() < until {
        let all = pace.slice(highest, SLICE);
        if all.whole {
            holds = all.is_kept();
        }
        for load in &mut loads {
            let slice = pace.slice(load.rate, SLICE);
            load.add(&slice, holds, &pace.took);
        }
    }
    loads
}

impl Load {
    fn new(percent: u32, highest: f64) -> Self {
        Self {
            percent,
            rate: highest * f64::from(percent) / 100.0,
            slices: 0,
            sent: 0,
            lost: 0,
            left_out: 0,
            left_out_sent: 0,
            left_out_lost: 0,
            took: Histogram::new(3).expect("three digits are allowed"),
        }
    }

    fn add(&mut self, slice: &Slice, holds: bool, took: &Histogram<u64>) {
        if !(slice.whole && holds) {
            self.left_out += 1;
            self.left_out_sent += slice.sent;
            self.left_out_lost += slice.lost;
            return;
        }
        self.slices += 1;
        self.sent += slice.sent;
        self.lost += slice.lost;
        self.took.add(took).expect("it grows as far as needed");
    }

    fn said(&self) -> Value {
        let at = |quantile| self.took.value_at_quantile(quantile);
        json!({
            "load_percent": self.percent,
            "offered_mpps": self.rate / 1e6,
            "packets": self.sent,
            "lost_packets": self.lost,
            "slices": self.slices,
            "left_out_slices": self.left_out,
            "left_out_packets": self.left_out_sent,
            "left_out_lost_packets": self.left_out_lost,
            "p50_ns": at(0.5),
            "p90_ns": at(0.9),
            "p99_ns": at(0.99),
            "p999_ns": at(0.999),
            "max_ns": self.took.max(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_slices_count_and_only_while_the_rate_holds() {
        let mut took = Histogram::new(3).expect("three digits are allowed");
        took.record(700).expect("it grows");
        let mut load = Load::new(50, 40e6);
        for (whole, holds) in [(true, true), (false, true), (true, false)] {
            load.add(&Slice::of(100, 3, whole), holds, &took);
        }
        let said = load.said();
        assert_eq!(said["offered_mpps"], json!(20.0));
        for (field, value) in [
            ("packets", 100),
            ("lost_packets", 3),
            ("slices", 1),
            ("left_out_slices", 2),
            ("left_out_packets", 200),
            ("left_out_lost_packets", 6),
            ("p50_ns", 700),
        ] {
            assert_eq!(said[field], json!(value), "{field}");
        }
    }

    #[test]
    fn most_is_more_than_half() {
        let slices = [0, 0, 1, 1].map(|lost| Slice::of(100, lost, true));
        assert!(!most(&slices, Slice::is_kept));
        assert!(most(&slices[..3], Slice::is_kept));
        assert!(!most(&[], Slice::is_kept));
    }
}
