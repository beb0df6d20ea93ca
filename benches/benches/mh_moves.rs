//! How many clients move when one of N real servers is removed from an `mh` service, at each
//! size of the table: prints a table for the docs.

use std::net::Ipv4Addr;

use dataplane::pages::Pages;
use dataplane::port::WorkerId;
use dataplane::sched::{Ask, Backend, Flags, Kind, Memory, Scheduler, Spec, mh, pick};
use dataplane::services::{Blocks, Candidate, RealId, Service, ServiceBlock, ServiceId};
use dataplane::time::Millis;

const CLIENTS: u32 = 100_000;

/// The real server of each client.
fn choices(size: mh::Size, reals: &[u32]) -> Vec<u32> {
    let backend = |&slot| Backend {
        address: Ipv4Addr::from_bits(0x0a01_0000 + slot).into(),
        port: 80,
        weight: 1,
        last_weight: 1,
    };
    let backends: Vec<_> = reals.iter().map(backend).collect();
    let spec = Spec {
        kind: Kind::Mh,
        flags: Flags::default(),
        mh_size: size,
        workers: 1,
        revision: 1,
        backends: &backends,
    };
    let candidate = |&slot: &u32| Candidate {
        real: RealId(slot),
        weight: 1,
        order: slot,
    };
    let candidates = reals.iter().map(candidate).collect();
    let service = Service::new(ServiceId(0), 1, Scheduler::prepare(None, &spec), candidates);
    let (own, blocks, table) = (ServiceBlock::default(), Blocks::default(), Pages::default());
    let mut memory = Memory::new(WorkerId(0), 1, Millis(0));
    let mut choose = |client| {
        let ask = Ask {
            source: client,
            source_port: 0,
            destination: 1,
            now: Millis(0),
        };
        let chosen = pick(&service, &own, &blocks, &table, &ask, &mut memory);
        chosen.expect("all are available").real.0
    };
    (0..CLIENTS).map(|n| choose(0xC000_0000 + n)).collect()
}

/// Clients in a thousand that move although their real server stayed.
fn moved(size: mh::Size, count: u32) -> f64 {
    let all: Vec<_> = (0..count).rev().collect();
    let gone = count / 2;
    let rest: Vec<_> = all.iter().copied().filter(|&slot| slot != gone).collect();
    let (before, after) = (choices(size, &all), choices(size, &rest));
    assert!(after.iter().all(|&slot| slot != gone));
    let stayed = before
        .iter()
        .zip(&after)
        .filter(|&(&before, _)| before != gone);
    let moved = stayed.filter(|(before, after)| before != after).count();
    moved as f64 * 1000.0 / f64::from(CLIENTS)
}

fn main() {
    println!("| slots | 1 of 3 | 1 of 10 | 1 of 100 | 1 of 200 |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for slots in mh::Size::SLOTS {
        let size = mh::Size::of(slots).expect("one of the sizes");
        let cells = [3, 10, 100, 200].map(|count| format!("{:.1} ‰", moved(size, count)));
        println!("| {slots} | {} |", cells.join(" | "));
    }
}
