//! A walk over a worker's connections: complete, a few slots a turn, and never in the way.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::*;
use dataplane::conn::export::Exported;
use dataplane::port::WorkerId;
use dataplane::walk::{Errand, RING, ROWS_PER_TURN, Read, Reading, SLOTS_PER_TURN, Walk, walk};
use wire::build::{ip, tcp, udp};

const WORKER: WorkerId = WorkerId(0);

/// A lab with room for `capacity` connections of each family, `made` of them in use.
fn lab(capacity: u32, made: u16) -> Lab {
    let mut lab = Lab::with_connections(capacity);
    lab.service(TCP, VIP, 80, "rr", &[(1, 1)]);
    lab.service(UDP, VIP, 53, "rr", &[(2, 1)]);
    for port in 1001..=1000 + made {
        let packet = match port % 2 {
            0 => ip(CLIENT, VIP).with(udp(port, 53)),
            _ => ip(CLIENT, VIP).with(tcp(port, 80).syn()),
        };
        lab.give(WAN, &packet.ether(GATEWAY_MAC, WAN_MAC).bytes());
        if port % 24 == 0 {
            lab.turn();
            lab.sent(LAN);
        }
    }
    (0..2).for_each(|_| lab.turn());
    lab.sent(LAN);
    assert_eq!(lab.worker.state().v4.len(), u32::from(made));
    lab
}

fn begin(lab: &mut Lab) -> (Arc<Walk>, Reading) {
    let (walk, reading) = walk(1);
    let walk = Arc::new(walk);
    lab.snapshot.errands = [Errand::Walk(walk.clone())].into();
    lab.publish();
    (walk, reading)
}

/// Everything that is there to be read, and whether that was all.
fn drain(reading: &mut Reading) -> (Vec<Exported>, bool) {
    let mut rows = Vec::new();
    loop {
        match reading.read() {
            Read::Rows(more) => rows.extend(more),
            Read::Later(worker) => {
                assert_eq!(worker, WORKER);
                return (rows, false);
            }
            Read::End => return (rows, true),
        }
    }
}

#[test]
fn every_connection_is_seen_once_in_bounded_steps() {
    let mut lab = lab(1000, 300);
    let (walk, mut reading) = begin(&mut lab);
    let (mut rows, mut turns, mut before) = (Vec::new(), 0, 0);
    loop {
        assert!(lab.worker.turn(lab.now), "a walk is work: nobody sleeps");
        turns += 1;
        let (more, all) = drain(&mut reading);
        assert!(more.len() <= ROWS_PER_TURN);
        rows.extend(more);
        if all {
            break;
        }
        let now = walk.progress(WORKER).expect("not through");
        assert!(now - before <= u64::from(SLOTS_PER_TURN), "turn {turns}");
        before = now;
    }
    // 300 slots with connections, 700 + 1000 without.
    assert_eq!(turns, 300u32.div_ceil(16) + 1700 / SLOTS_PER_TURN);
    let ports: BTreeSet<_> = rows.iter().map(|row| row.client.1).collect();
    assert_eq!((rows.len(), ports.len()), (300, 300));
    let udp = rows.iter().find(|row| row.client.1 == 1002).expect("made");
    assert_eq!(
        (udp.protocol, udp.vip.1, udp.real.0),
        (17, 53, real_ip(2).into())
    );
    assert_eq!((udp.remaining_ms, udp.packets), (300_000, 1));
    assert!(!lab.worker.turn(lab.now), "and then there is none");
    assert_eq!(walk.progress(WORKER), None);
}

#[test]
fn what_is_over_is_not_shown() {
    let mut lab = lab(200, 100);
    let (_walk, mut reading) = begin(&mut lab);
    lab.wait(60_000);
    let mut rows = Vec::new();
    (0..20).for_each(|_| lab.turn());
    rows.extend(drain(&mut reading).0);
    assert_eq!(rows.len(), 50, "a SYN waits for 60 s");
    assert!(
        rows.iter()
            .all(|row| row.protocol == 17 && row.remaining_ms == 240_000)
    );
}

#[test]
fn a_reader_that_reads_nothing_holds_up_nobody() {
    let mut lab = lab(9000, 8000);
    let (walk, mut reading) = begin(&mut lab);
    (0..2 * RING).for_each(|_| lab.turn());
    let stopped = walk.progress(WORKER).expect("not through");
    assert_eq!(stopped, (RING * ROWS_PER_TURN) as u64, "the ring is full");
    assert!(!lab.worker.turn(lab.now), "a full ring is no work");
    // Another reader is served meanwhile.
    let (second, mut other) = walk_beside(&mut lab, &walk);
    let mut seen = 0;
    while second.progress(WORKER).is_some() {
        lab.turn();
        seen += drain(&mut other).0.len();
    }
    assert_eq!(seen, 8000);
    assert_eq!(walk.progress(WORKER), Some(stopped));
    // And it finds everything when it comes back.
    let mut rows = drain(&mut reading).0;
    while walk.progress(WORKER).is_some() {
        lab.turn();
        rows.extend(drain(&mut reading).0);
    }
    assert_eq!(rows.len(), 8000);
}

fn walk_beside(lab: &mut Lab, first: &Arc<Walk>) -> (Arc<Walk>, Reading) {
    let (second, reading) = walk(1);
    let second = Arc::new(second);
    let both = [first.clone(), second.clone()];
    lab.snapshot.errands = both.map(Errand::Walk).into();
    lab.publish();
    (second, reading)
}

#[test]
fn a_reader_that_is_gone_ends_the_walk() {
    let mut lab = lab(200, 100);
    let (walk, reading) = begin(&mut lab);
    drop(reading);
    lab.turn();
    assert_eq!(walk.progress(WORKER), None);
}

#[test]
fn a_walk_allocates_nothing() {
    let mut lab = lab(400, 300);
    let (walk, _reading) = begin(&mut lab);
    while walk.progress(WORKER).is_some() {
        let allocated = allocation_counter::measure(|| {
            lab.worker.turn(lab.now);
        });
        assert_eq!(allocated.count_total, 0);
    }
}

#[test]
fn without_workers_there_is_nothing_to_read() {
    assert!(matches!(walk(0).1.read(), Read::End));
}
