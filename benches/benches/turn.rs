//! What a worker's turn costs a packet: established flows in random order, the generator's own
//! cost measured in the same run and taken off. Rounds alternate; medians are reported. What a
//! flow's first and second packets cost, which open and establish it in order, stands beside, and what a SYN costs for which a full table has no room.
//!
//! `cargo bench -p benches --bench turn [CASE...] [FLOWS...]`, as in `nat4-reverse 1000`

use std::cell::RefCell;
use std::ops::Range;
use std::time::Instant;

use benches::clock::{Figures, interleaved, on_cpu};
use benches::{Case, Lab, Segments};
use dataplane::time::Millis;
use dataplane::verdict::Reason;

const ROUNDS: usize = 600;
/// Of a round: some 0.1 ms.
const TURNS: u32 = 64;
/// Of a flood.
const SYNS: u32 = 100_000;

fn main() {
    let flows: Vec<u32> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let cases: Vec<Case> = std::env::args()
        .filter_map(|arg| Case::named(&arg))
        .collect();
    let flows = match flows.is_empty() {
        true => vec![1_000, 60_000, 1_000_000],
        false => flows,
    };
    let cases = match cases.is_empty() {
        true => vec![Case::PLAIN],
        false => cases,
    };
    println!(
        "{:>16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "case", "flows", "ns/packet", "p10", "min", "generator", "first", "second", "flood"
    );
    for case in cases {
        flows.iter().for_each(|&flows| measure(case, flows));
    }
}

fn measure(case: Case, flows: u32) {
    let mut lab = Lab::new(case, flows, flows + flows / 4 + 1024);
    let clock = Instant::now();
    let first = each(&mut lab, 0..flows, Segments::Syn);
    let second = each(&mut lab, 0..flows, Segments::Ack);
    let made = lab.counters.connections_made.get();
    assert_eq!(made, u64::from(flows), "every flow is there");
    lab.check(256);
    let lab = RefCell::new(lab);
    let figures = interleaved(
        ROUNDS,
        &mut [
            &mut || {
                let now = clock.elapsed().as_millis();
                let now = Millis(u32::try_from(now).unwrap_or(0));
                lab.borrow_mut().turns(TURNS, now);
                TURNS * 32
            },
            &mut || {
                lab.borrow_mut().idle(TURNS);
                TURNS * 32
            },
        ],
    );
    let lab = lab.into_inner();
    lab.assert_lossless();
    report(
        (case, flows),
        figures[0],
        figures[1],
        [first, second, flood(case, flows)],
    );
}

/// One segment of each of these flows through the worker itself: what one costs in nanoseconds,
/// the generator's own work included.
fn each(lab: &mut Lab, flows: Range<u32>, segments: Segments) -> f64 {
    let count = f64::from(flows.end - flows.start);
    let start = on_cpu();
    lab.each(flows, segments);
    (on_cpu() - start).as_secs_f64() * 1e9 / count
}

/// What a SYN costs that finds a table full of established connections, none of which is given
/// up.
fn flood(case: Case, flows: u32) -> f64 {
    let mut lab = Lab::new(case, flows, flows);
    lab.each(0..flows, Segments::Syn);
    lab.each(0..flows, Segments::Ack);
    let syns = flows.min(SYNS);
    lab.port().restock(syns);
    let cost = each(&mut lab, flows..flows + syns, Segments::Syn);
    let full = lab.counters.drop[Reason::TableFull as usize].get();
    assert_eq!(full, u64::from(syns), "no place for any");
    assert_eq!(lab.counters.connections_ended.get(), 0, "none was lost");
    cost
}

fn report((case, flows): (Case, u32), turns: Figures, idles: Figures, opening: [f64; 3]) {
    let Figures {
        median, p10, min, ..
    } = turns.without(idles);
    let idle = idles.median;
    println!(
        "{:>16} {flows:>10} {median:>10.1} {p10:>10.1} {min:>10.1} {idle:>10.1} {:>10.1} {:>10.1} {:>10.1}",
        case.to_string(),
        opening[0] - idle,
        opening[1] - idle,
        opening[2] - idle
    );
}
