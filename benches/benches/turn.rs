//! What a worker's turn costs a packet: established flows in random order, the generator's own
//! cost measured in the same run and taken off. Rounds alternate; medians are reported.
//!
//! `cargo bench -p benches --bench turn [FLOWS...]`

use std::time::{Duration, Instant};

use benches::{Generator, worker};
use dataplane::port::PortId;
use dataplane::time::Millis;

const ROUNDS: usize = 15;
const BURSTS: u32 = 4096;

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
        "{:>10} {:>10} {:>10} {:>10}",
        "flows", "ns/packet", "p10", "generator"
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
    open(&mut worker, flows);
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
    let forwarded = counters.transmit.get() - u64::from(flows);
    let offered = counters.rx.get() - u64::from(flows);
    assert_eq!(forwarded, offered, "nothing was lost");
    report(flows, &mut turns, &mut idles);
}

fn drop_busy(busy: bool) {
    assert!(busy, "the generator never runs dry");
}

/// Opens every flow through the worker itself.
fn open(worker: &mut dataplane::worker::Worker<Generator>, flows: u32) {
    let mut first = 0;
    while first < flows {
        first += worker
            .port_mut(PortId(0))
            .expect("one port")
            .open_next(first);
        worker.turn(Millis(0));
    }
}

fn time(mut burst: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..BURSTS).for_each(|_| burst());
    start.elapsed()
}

fn report(flows: u32, turns: &mut [Duration], idles: &mut [Duration]) {
    turns.sort();
    idles.sort();
    let packets = f64::from(BURSTS) * 32.0;
    let ns = |d: Duration| d.as_secs_f64() * 1e9 / packets;
    let (median, idle) = (ns(turns[ROUNDS / 2]), ns(idles[ROUNDS / 2]));
    let low = ns(turns[ROUNDS / 10]) - ns(idles[ROUNDS / 10]);
    println!(
        "{flows:>10} {:>10.1} {low:>10.1} {idle:>10.1}",
        median - idle
    );
}
