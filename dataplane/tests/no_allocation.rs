//! A turn allocates nothing: neither for established traffic nor for new connections, drops,
//! punts or answers.

mod common;

use std::sync::Arc;

use common::*;
use dataplane::memory::Recycler;
use dataplane::port::WorkerId;
use dataplane::probe::{Question, probe};
use dataplane::services::Hop;
use dataplane::walk::Errand;
use wire::build::{echo_request, ip, tcp};

/// Allocations that `what` makes on this thread.
fn allocations(what: impl FnOnce()) -> u64 {
    allocation_counter::measure(what).count_total
}

#[test]
fn a_turn_allocates_nothing() {
    nothing_is_allocated(Lab::new(), &[]);
    nothing_is_allocated(Lab::of_vlans(), &[10]);
}

fn nothing_is_allocated(mut lab: Lab, tags: &[u16]) {
    lab.service(TCP, VIP, 80, "wlc", &[(1, 1), (2, 1)]);
    if !tags.is_empty() {
        let hop = *lab.snapshot.hops.get(2).expect("of real server 2");
        lab.snapshot
            .hops
            .set(2, Hop::new(TWENTY, hop.source(), hop.destination()));
        lab.publish();
    }
    let rx = |packet: wire::build::Packet| {
        let frame = packet.ether(GATEWAY_MAC, WAN_MAC);
        tags.iter().fold(frame, |frame, &id| frame.vlan(id)).bytes()
    };
    let mut frames: Vec<_> = (0..24)
        .map(|n| rx(ip(CLIENT, VIP).with(tcp(n, 80).syn())))
        .collect();
    frames.push(rx(ip(CLIENT, VIP).with(tcp(1, 80).ack())));
    frames.push(rx(ip(CLIENT, VIP).with(tcp(99, 80).ack())));
    frames.push(rx(ip(CLIENT, VIP).ttl(1).with(tcp(98, 80).syn())));
    frames.push(rx(ip(CLIENT, VIP).with(echo_request(1, 1))));
    frames.push(rx(ip(CLIENT, DIP).with(tcp(1, 22).syn())));
    let turn = |lab: &mut Lab| {
        frames.iter().for_each(|frame| lab.give(WAN, frame));
        let allocated = allocations(|| {
            lab.worker.turn(lab.now);
        });
        lab.sent(WAN);
        lab.sent(LAN);
        allocated
    };
    // The first turns make the memory port's buffers and its lists.
    for _ in 0..3 {
        turn(&mut lab);
    }
    assert_eq!(turn(&mut lab), 0);
    lab.wait(61_000);
    let mut turns = 0;
    while !lab.worker.state().v4.is_empty() && turns < 100 {
        lab.now = lab.now.plus(1000);
        let allocated = allocations(|| {
            lab.worker.turn(lab.now);
        });
        assert_eq!(allocated, 0, "nor does ending connections");
        turns += 1;
    }
}

#[test]
fn a_full_table_allocates_nothing() {
    let mut lab = Lab::with_connections(16);
    lab.service(TCP, VIP, 80, "rr", &[(1, 1)]);
    let mut port = 0;
    let mut flood = |lab: &mut Lab| {
        for _ in 0..24 {
            port += 1;
            let syn = ip(CLIENT, VIP).with(tcp(port, 81 - port % 2).syn());
            lab.give(WAN, &syn.ether(GATEWAY_MAC, WAN_MAC).bytes());
        }
        let allocated = allocations(|| {
            lab.worker.turn(lab.now);
        });
        lab.sent(LAN);
        allocated
    };
    for _ in 0..3 {
        flood(&mut lab);
    }
    lab.wait(1000);
    assert_eq!(flood(&mut lab), 0);
    assert!(lab.counters.evicted.get() > 0);
}

/// Whoever asks about a packet costs the worker a look, once, and nothing is another's afterwards.
#[test]
fn an_answer_about_a_packet_allocates_and_changes_nothing() {
    let mut lab = Lab::new();
    lab.service(TCP, VIP, 80, "wlc", &[(1, 1), (2, 1)]);
    let syn = ip(CLIENT, VIP)
        .with(tcp(1, 80).syn())
        .ether(GATEWAY_MAC, WAN_MAC)
        .bytes();
    for _ in 0..3 {
        lab.give(WAN, &syn);
        lab.turn();
        lab.sent(LAN);
    }
    let frame = Recycler::default().fill(&syn);
    let question = Question::of(&frame, WAN, &lab.snapshot, None);
    assert_eq!(question.v4.len(), 1);
    let (probe, mut hearing) = probe(1, question);
    lab.snapshot.errands = [Errand::Probe(Arc::new(probe))].into();
    lab.publish();
    assert_eq!(hearing.hear().expect_err("not yet"), [WorkerId(0)]);
    let before = format!("{:?}", lab.worker.state().v4.iter().collect::<Vec<_>>());
    let mut busy = false;
    let allocated = allocations(|| busy = lab.worker.turn(lab.now));
    assert_eq!((allocated, busy), (0, true), "it is work, once");
    assert!(!lab.worker.turn(lab.now));
    let answers = hearing.hear().expect("all have answered");
    assert_eq!(
        (answers.len(), answers[0].v4.len(), answers[0].v6.len()),
        (1, 1, 0)
    );
    let after = format!("{:?}", lab.worker.state().v4.iter().collect::<Vec<_>>());
    assert_eq!(before, after);
}
