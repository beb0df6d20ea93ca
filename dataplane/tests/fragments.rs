//! Fragments through a worker's turns: they follow their packet's first one, whole frames out.

mod common;

use common::*;
use dataplane::verdict::Reason;
use wire::build::{Packet, ip, tcp, udp};

fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(GATEWAY_MAC, WAN_MAC).bytes()
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.service(UDP, VIP, 53, "rr", &[(1, 1), (2, 1)]);
    lab.service(TCP, VIP, 80, "rr", &[(1, 1), (2, 1)]);
    lab
}

/// A datagram of 4,000 octets, in three.
fn parts() -> Vec<Packet> {
    let whole = ip(CLIENT, VIP)
        .id(7)
        .with(udp(9, 53).payload(vec![5; 4000]));
    let parts = whole.fragments(1500);
    assert_eq!(parts.len(), 3);
    parts
}

fn aged(packet: &Packet, real: u8) -> Vec<u8> {
    packet
        .clone()
        .ttl(63)
        .ether(LAN_MAC, real_mac(real))
        .bytes()
}

fn dropped(lab: &Lab, reason: Reason) -> u64 {
    lab.counters.drop[reason as usize].get()
}

#[test]
fn in_any_order_all_reach_the_one_real_server() {
    let parts = parts();
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let mut lab = lab();
        for at in order {
            lab.give(WAN, &rx(&parts[at]));
            lab.turn();
        }
        let mut sent = lab.sent(LAN);
        let mut want: Vec<_> = parts.iter().map(|part| aged(part, 2)).collect();
        sent.sort();
        want.sort();
        assert_eq!(sent, want, "{order:?}");
        let before_first = order.iter().take_while(|&&at| at != 0).count() as u64;
        assert_eq!(lab.counters.held.get(), before_first);
        assert_eq!(lab.counters.released.get(), before_first);
        assert_eq!(lab.counters.connections_made.get(), 1);
    }
}

#[test]
fn one_burst_is_as_good_as_three() {
    let mut lab = lab();
    parts()
        .iter()
        .rev()
        .for_each(|part| lab.give(WAN, &rx(part)));
    lab.turn();
    assert_eq!(lab.sent(LAN).len(), 3);
}

#[test]
fn the_first_never_comes() {
    let mut lab = lab();
    lab.one(&rx(&parts()[1]));
    assert_eq!(lab.counters.held.get(), 1);
    lab.wait(501);
    lab.turn();
    assert_eq!(lab.counters.released.get(), 1);
    assert_eq!(dropped(&lab, Reason::FragmentTimeout), 1);
}

#[test]
fn a_later_fragment_opens_nothing_and_moves_no_state() {
    let mut lab = lab();
    let whole = ip(CLIENT, VIP)
        .id(8)
        .with(tcp(9, 80).syn().payload(vec![5; 2000]));
    for part in whole.fragments(1500) {
        assert_eq!(lab.one(&rx(&part)), ["transmit"]);
    }
    let entry = *lab.worker.state().v4.iter().next().expect("one connection");
    assert_eq!(entry.state, dataplane::conn::tcp::State::SynRecv as u8);
    let ack = ip(CLIENT, VIP)
        .id(9)
        .with(tcp(10, 80).ack().payload(vec![5; 2000]));
    for part in ack.fragments(1500) {
        assert_eq!(lab.one(&rx(&part)), ["drop-no-connection"]);
    }
}

#[test]
fn what_is_not_a_proper_fragment_has_its_reason() {
    let parts = parts();
    let raw = |offset, more, octets: usize| {
        ip(CLIENT, VIP)
            .id(11)
            .fragment(offset, more)
            .raw(wire::Protocol::UDP, vec![0; octets])
    };
    let mut lab = lab();
    let short_tcp = ip(CLIENT, VIP)
        .fragment(0, true)
        .raw(wire::Protocol::TCP, vec![0; 16]);
    assert_eq!(lab.one(&rx(&short_tcp)), ["drop-fragment-tiny"]);
    assert_eq!(lab.one(&rx(&raw(0, true, 13))), ["drop-fragment-length"]);
    lab.one(&rx(&parts[0]));
    assert_eq!(lab.one(&rx(&parts[0])), ["drop-fragment-duplicate"]);
    let over = ip(CLIENT, VIP)
        .id(7)
        .fragment(1472, true)
        .raw(wire::Protocol::UDP, vec![0; 64]);
    assert_eq!(lab.one(&rx(&over)), ["drop-fragment-overlap"]);
    assert_eq!(
        lab.one(&rx(&parts[1])),
        ["drop-fragment-overlap"],
        "the packet is lost"
    );
    let mut held = 0;
    while lab.one(&rx(&raw(8 + 8 * held, true, 8))).is_empty() {
        held += 1;
        assert!(held < 1000, "what is held is bounded");
    }
    assert_eq!(dropped(&lab, Reason::FragmentFull), 1);
}

#[test]
fn ipv6_has_its_fragments_too() {
    let vip = std::net::Ipv6Addr::LOCALHOST;
    let client = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    let mut lab = lab();
    let whole = ip(client, vip)
        .id(7)
        .with(udp(9, 53).payload(vec![5; 2000]));
    for part in whole.fragments(1500).iter().rev() {
        lab.give(WAN, &rx(part));
        lab.turn();
    }
    // Nobody listens there; but both were gathered, and took the same way.
    assert_eq!(
        (lab.counters.held.get(), lab.counters.released.get()),
        (1, 1)
    );
    assert_eq!(
        lab.counters.punt.iter().map(|punt| punt.get()).sum::<u64>(),
        2
    );
}
