//! What a worker's turn costs a packet: established flows in random order, the generator's own
//! cost measured in the same run and taken off. Rounds alternate; medians are reported. What a
//! flow's first and second packets cost, which open and establish it in order, stands beside, and what a SYN costs for which a full table has no room.
//!
//! `cargo bench -p benches --bench turn [FLOWS...]`

use std::ops::Range;
use std::time::{Duration, Instant};

use benches::{Generator, Segments, worker};
use dataplane::port::PortId;
use dataplane::time::Millis;
use dataplane::verdict::Reason;
use dataplane::worker::Worker;

const ROUNDS: usize = 15;
const BURSTS: u32 = 4096;
/// Of a flood.
const SYNS: u32 = 100_000;

fn main() {
    let asked: Vec<u32> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let flows = if asked.is_empty() {
        vec![1_000, 60_000, 1_000_000]
    } else {
        asked
    };
    println!(
        "{:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "flows", "ns/packet", "p10", "generator", "first", "second", "flood"
    );
    for flows in flows {
        measure(flows);
    }
}

fn measure(flows: u32) {
    let connections = flows + flows / 4 + 1024;
    let (mut worker, counters, _publisher) =
        worker(Generator::new(flows), connections, arch::Pages::Auto);
    let clock = Instant::now();
    let first = each(&mut worker, 0..flows, Segments::Syn);
    let second = each(&mut worker, 0..flows, Segments::Ack);
    assert_eq!(
        counters.connections_made.get(),
        u64::from(flows),
        "every flow is there"
    );
    let (mut turns, mut idles) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let now = Millis(u32::try_from(clock.elapsed().as_millis()).unwrap_or(0));
        let turn = time(|| drop_busy(worker.turn(now)));
        let port = worker.port_mut(PortId(0)).expect("one port");
        let idle = time(|| port.idle_burst());
        if round > 0 {
            turns.push(turn);
            idles.push(idle);
        }
    }
    assert_eq!(
        counters.transmit.get(),
        counters.rx.get(),
        "nothing was lost"
    );
    report(flows, &mut turns, &mut idles, [first, second, flood(flows)]);
}

fn drop_busy(busy: bool) {
    assert!(busy, "the generator never runs dry");
}

/// One segment of each of these flows through the worker itself: what one costs in nanoseconds,
/// the generator's own work included.
fn each(worker: &mut Worker<Generator>, flows: Range<u32>, segments: Segments) -> f64 {
    let start = Instant::now();
    let mut first = flows.start;
    while first < flows.end {
        let port = worker.port_mut(PortId(0)).expect("one port");
        first += port.next(first..flows.end, segments);
        worker.turn(Millis(0));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(flows.end - flows.start)
}

/// What a SYN costs that finds a table full of established connections, none of which is given
/// up.
fn flood(flows: u32) -> f64 {
    let (mut worker, counters, _publisher) =
        worker(Generator::new(flows), flows, arch::Pages::Auto);
    each(&mut worker, 0..flows, Segments::Syn);
    each(&mut worker, 0..flows, Segments::Ack);
    let syns = flows.min(SYNS);
    let port = worker.port_mut(PortId(0)).expect("one port");
    port.restock(syns);
    let cost = each(&mut worker, flows..flows + syns, Segments::Syn);
    let full = counters.drop[Reason::TableFull as usize].get();
    assert_eq!(full, u64::from(syns), "no place for any");
    assert_eq!(counters.connections_ended.get(), 0, "none was lost");
    cost
}

fn time(mut burst: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..BURSTS).for_each(|_| burst());
    start.elapsed()
}

fn report(flows: u32, turns: &mut [Duration], idles: &mut [Duration], opening: [f64; 3]) {
    turns.sort();
    idles.sort();
    let packets = f64::from(BURSTS) * 32.0;
    let ns = |d: Duration| d.as_secs_f64() * 1e9 / packets;
    let (median, idle) = (ns(turns[ROUNDS / 2]), ns(idles[ROUNDS / 2]));
    let low = ns(turns[ROUNDS / 10]) - ns(idles[ROUNDS / 10]);
    println!(
        "{flows:>10} {:>10.1} {low:>10.1} {idle:>10.1} {:>10.1} {:>10.1} {:>10.1}",
        median - idle,
        opening[0] - idle,
        opening[1] - idle,
        opening[2] - idle
    );
}
