//! `core/`: a worker's turn on established connections in random order.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use benches::clock::interleaved;
use benches::{Case, Family, Floor, Lab};
use dataplane::time::Millis;

use crate::gate;
use crate::report::{Report, Row};
use crate::{Options, new, ring};

/// Rounds, and turns of a round: some 0.1 ms.
const ROUNDS: usize = 600;
const TURNS: u32 = 64;
const PACKETS: u32 = TURNS * 32;
/// So long after the run began nothing more is begun here, so that the other groups have their time:
/// millions of flows take a while to open.
const LATEST: Duration = Duration::from_secs(7 * 60);
const LATEST_ON_RINGS: Duration = Duration::from_secs(14 * 60);
/// Turns whose every frame is compared with what it should be.
const CHECKED: u32 = 128;

/// Measures every case.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (families, flows): (&[_], &[_]) = match options.quick {
        true => (&[Family::V4], &[1_000, 1_000_000]),
        false => (
            &Family::ALL,
            &[1, 1_000, 65_536, 1_000_000, 4_000_000, 16_000_000],
        ),
    };
    report.title("core: established connections, ns a packet, the generator's cost taken off");
    let cases = Case::all(families);
    let counted = cases
        .iter()
        .map(|case| gate::instructions(&case.to_string()).ok());
    let counted: Vec<_> = counted.collect();
    for &flows in flows {
        for (&case, &instructions) in cases.iter().zip(&counted) {
            if report.is_late(&format!("core/turn {case} {flows}"), LATEST) {
                continue;
            }
            if !new::fits(case, flows) {
                println!("{case}: {flows} flows do not fit into this machine's memory");
                continue;
            }
            one(case, flows, instructions, report);
        }
    }
    ring::core(&cases, flows, LATEST_ON_RINGS, report);
}

/// Turns, the generator alone, and the floor, in turns.
fn one(case: Case, flows: u32, instructions: Option<f64>, report: &mut Report) {
    let mut lab = Lab::established(case, flows);
    lab.check(CHECKED);
    let mut floor = Floor::new(lab.port());
    if let Some(floor) = &mut floor {
        floor.check(CHECKED);
    }
    let lab = RefCell::new(lab);
    let clock = Instant::now();
    let mut turns = || {
        let now = u32::try_from(clock.elapsed().as_millis()).unwrap_or(0);
        lab.borrow_mut().turns(TURNS, Millis(now));
        PACKETS
    };
    let mut idle = || {
        lab.borrow_mut().idle(TURNS);
        PACKETS
    };
    let mut bare = || floor.as_mut().map_or(1, |floor| floor.bursts(TURNS));
    let figures = interleaved(ROUNDS, &mut [&mut turns, &mut idle, &mut bare]);
    let took = figures[0].without(figures[1]);
    let bare = floor.is_some().then(|| figures[2].without(figures[1]));
    lab.borrow().assert_lossless();
    let row = Row {
        instructions_per_packet: instructions,
        ..Row::of("core/turn", case, flows).timed(took, bare)
    };
    report.add(row);
}
