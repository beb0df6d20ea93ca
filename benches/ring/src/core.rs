//! Turns of a worker whose packets another core writes, in turns with the floor on rings of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::clock::{Figures, on_cpu};
use benches::lab::worker_on;
use benches::{Floor, Source};
use dataplane::port::{Burst, Port};
use dataplane::time::Millis;
use dpdk::Queue;
use serde_json::{Value, json};

use crate::apart::apart;
use crate::peer::{Both, Peer};
use crate::{Asked, Room, pin};

const CHECKED: u32 = 128;
/// Rounds, of so many full bursts each: some 0.05 ms.
const ROUNDS: usize = 800;
const TURNS: u32 = 48;
/// However busy the machine is.
const LONGEST: Duration = Duration::from_secs(4);

/// Measures one case.
pub(crate) fn measure(asked: Asked) -> Result<Value, String> {
    let Asked { case, flows, cores } = asked;
    let apart = apart(cores)?;
    let room = Room::new(3, cores[0])?;
    let (pair, bare, alone) = (room.pair()?, room.pair()?, room.pair()?);
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
    let source = both.peer.source.clone();
    let mut floor = Floor::on(&source, || bare.near);
    let mut bare = Peer::new(bare.far, source.clone(), &room.pool)?;
    let mut alone_peer = Peer::new(alone.far, source, &room.pool)?;
    let written = both.peer.written();
    both.peer.fill();
    bare.fill();
    alone_peer.fill();

    let handle = room.eal.handle();
    let stop = AtomicBool::new(false);
    let Both {
        mut worker,
        counters,
        mut peer,
    } = both;
    let (figures, ring) = std::thread::scope(|scope| {
        let generating = scope.spawn(|| -> Result<(), String> {
            pin(cores[1])?;
            let _known = handle
                .register_thread()
                .map_err(|error| error.to_string())?;
            Peer::run(&mut [&mut peer, &mut bare, &mut alone_peer], &stop);
            Ok(())
        });
        let ring = passed_on(alone.near);
        let start = Instant::now();
        let mut turns = || {
            let now = u32::try_from(start.elapsed().as_millis()).unwrap_or(0);
            let before = counters.rx.get();
            for _ in 0..TURNS {
                dpdk::worker::turn(&mut worker, Millis(now));
            }
            u32::try_from(counters.rx.get() - before).expect("a round's")
        };
        let mut bursts = || floor.as_mut().map_or(0, |floor| floor.bursts(TURNS));
        let rounds = rounds(&mut turns, &mut bursts);
        stop.store(true, Ordering::Relaxed);
        let generated = generating
            .join()
            .map_err(|_| "the generator panicked".to_owned());
        generated.and_then(|done| done).map(|()| (rounds, ring))
    })?;
    peer.gather();
    let (rx, tx) = (counters.rx.get(), counters.transmit.get());
    assert_eq!(rx, tx, "nothing was lost");
    let [ours, floor, starved] = figures;
    let rounds = ours.len();
    Ok(json!({
        "ours": said(ours).ok_or("the generator never kept up")?,
        "floor": said(floor),
        "rounds": rounds,
        "starved": starved[0],
        "generator_mpps": written,
        "ring_mpps": ring,
        "apart_ns": apart,
    }))
}

/// Rounds of both in turns: nanoseconds a packet of each, where the generator had kept up, and the
/// share of ours where it had not.
fn rounds(turns: &mut dyn FnMut() -> u32, bursts: &mut dyn FnMut() -> u32) -> [Vec<f64>; 3] {
    let until = Instant::now() + LONGEST;
    let (mut ours, mut floor, mut starved) = (Vec::new(), Vec::new(), 0u32);
    let mut all = 0u32;
    while ours.len() < ROUNDS && Instant::now() < until {
        all += 1;
        let round = |thing: &mut dyn FnMut() -> u32, figures: &mut Vec<f64>| {
            let start = on_cpu();
            let packets = thing();
            let spent = on_cpu() - start;
            let full = packets == TURNS * 32;
            // The first ones warm up.
            if full && all > 4 {
                figures.push(spent.as_secs_f64() * 1e9 / f64::from(packets));
            }
            full
        };
        starved += u32::from(!round(turns, &mut ours));
        round(bursts, &mut floor);
    }
    [ours, floor, vec![f64::from(starved) / f64::from(all)]]
}

/// How many packets a second come, in millions, when nothing is done with them: what the rings and the
/// generator can do, in the best of some short whiles, since others may have had its core in the rest.
fn passed_on(mut queue: Queue) -> f64 {
    let mut burst = Burst::new();
    let mut best = 0.0_f64;
    for _ in 0..40 {
        let (mut packets, start) = (0u32, Instant::now());
        while start.elapsed() < Duration::from_millis(4) {
            packets += u32::try_from(queue.rx_burst(&mut burst)).expect("a burst");
            queue.tx_burst(&mut burst);
        }
        best = best.max(f64::from(packets) / start.elapsed().as_secs_f64() / 1e6);
    }
    best
}

fn said(rounds: Vec<f64>) -> Option<Value> {
    if rounds.is_empty() {
        return None;
    }
    let Figures {
        median,
        p10,
        min,
        p90,
    } = Figures::of(rounds);
    Some(json!({"median": median, "p10": p10, "min": min, "p90": p90}))
}
