//! Services that can take the same packets: whichever takes one, its connection is found, and there is only one.
//! What the fuzzer found (docs/fuzzing.md), and what is alike.

mod common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use common::*;
use replay::Arrive;
use serde_json::Value;
use wire::build::{Packet, ip, tcp, udp};

/// The outcome with one worker, and with several where each frame comes to the next one.
fn one_and_many(
    config: &str,
    commands: &str,
    wan: &[(u64, Vec<u8>)],
    lan: &[(u64, Vec<u8>)],
) -> Outcome {
    let run = |workers| {
        let mut bench = Bench::new(config);
        bench.options.workers = workers;
        bench.options.arrive = Arrive::Spread;
        bench.input("wan", wan).input("lan", lan).commands(commands);
        bench.run()
    };
    let one = run(1);
    for workers in [2, 3, 4, 7] {
        let many = run(workers);
        for field in ["verdict", "reason", "real", "new", "direction"] {
            assert_eq!(
                many.field(field),
                one.field(field),
                "{workers} workers: {field}"
            );
        }
        assert_eq!(listed(&many), listed(&one), "{workers} workers");
    }
    one
}

/// The tuples of the last listing; none of them twice.
fn listed(outcome: &Outcome) -> BTreeSet<String> {
    let lines = outcome.lines();
    let listing = lines.iter().rev().find(|line| line["command"] == "-Lnc");
    let text = listing.expect("one was asked for")["stdout"]
        .as_str()
        .expect("text");
    let mut all = BTreeSet::new();
    for row in text.lines().skip(2).filter(|row| !row.contains(":0 ")) {
        let words: Vec<_> = row.split_whitespace().collect();
        let tuple = format!("{} {} {}", words[0], words[3], words[4]);
        assert!(all.insert(tuple), "twice: {row}");
    }
    all
}

/// A client's packets, one every ten milliseconds from `from` on.
fn every(from: u64, packets: impl IntoIterator<Item = Packet>) -> Vec<(u64, Vec<u8>)> {
    let at = |n: u64| from + n * 10 * MS;
    (0..)
        .map(at)
        .zip(packets.into_iter().map(|packet| rx(&packet)))
        .collect()
}

fn opening(client: u16, service: u16) -> Packet {
    ip(CLIENT, VIP).with(tcp(30_000 + client, service).syn())
}

fn going_on(client: u16, service: u16) -> Packet {
    ip(CLIENT, VIP).with(tcp(30_000 + client, service).ack())
}

#[test]
fn a_tuple_that_has_a_mark_of_each_port_has_one_owner() {
    let config = format!(
        "{PORTS}\
         [[mark]]\nmark = 1\nto = \"192.0.2.0/24\"\nport = \"wan\"\n\
         [[mark]]\nmark = 2\nto = \"192.0.2.0/24\"\nport = \"lan\"\n\
         [[vip]]\naddress = \"192.0.2.10\"\n\
         {}persistence = 60\n{}",
        service("fwm 1", "rr", 0),
        String::new()
            + "[[service.real]]\naddress = \"10.1.0.11\"\n[[service.real]]\naddress = \"10.1.0.12\"\n"
            + &service("fwm 2", "wlc", 3),
    );
    // Some open by one port and go on by the other, some the other way round.
    let wan = every(0, (0..24).map(|n| opening(n, 80)))
        .into_iter()
        .chain(every(2 * SECOND, (24..48).map(|n| going_on(n, 80))))
        .chain(every(4 * SECOND, (0..48).map(|n| opening(n, 80))));
    let lan = every(0, (24..48).map(|n| opening(n, 80)))
        .into_iter()
        .chain(every(2 * SECOND, (0..24).map(|n| going_on(n, 80))))
        .chain(every(4 * SECOND, (0..48).map(|n| opening(n, 80))));
    let (wan, lan): (Vec<_>, Vec<_>) = (wan.collect(), lan.collect());
    // Which real server each gets may differ: schedulers of several workers begin apart.
    for workers in [1, 2, 3, 4, 7] {
        let mut bench = Bench::new(&config);
        bench.options.workers = workers;
        bench.options.arrive = Arrive::Spread;
        bench
            .input("wan", &wan)
            .input("lan", &lan)
            .commands("6 -Lnc\n");
        let outcome = bench.run();
        assert_eq!(outcome.error, None);
        assert_eq!(listed(&outcome).len(), 48, "{workers} workers");
        let new = outcome
            .field("new")
            .iter()
            .filter(|new| **new == true)
            .count();
        assert_eq!(new, 48, "{workers} workers");
        assert!(outcome.field("verdict").iter().all(|it| it == "transmit"));
    }
}

#[test]
fn a_service_on_one_port_beside_one_on_all_leaves_connections_where_they_are() {
    let config = format!(
        "{PORTS}[[service]]\nlisten = \"tcp 192.0.2.10:0\"\nscheduler = \"sh\"\npersistence = 60\n\
         [[service.real]]\naddress = \"10.1.0.11\"\n[[service.real]]\naddress = \"10.1.0.12\"\n"
    );
    let commands = "1 -A -t 192.0.2.10:8080 -s sh\n\
                    1 -a -t 192.0.2.10:8080 -r 10.1.0.13:8080\n\
                    3.5 -D -t 192.0.2.10:8080\n\
                    6 -Lnc\n";
    let wan = every(0, (0..16).map(|n| opening(n, 8080)))
        .into_iter()
        // They stay; others are the narrow service's, with another real server.
        .chain(every(2 * SECOND, (0..16).map(|n| going_on(n, 8080))))
        .chain(every(3 * SECOND, (16..32).map(|n| opening(n, 8080))))
        // It went: its connections are there still, and the wide service makes no others.
        .chain(every(4 * SECOND, (16..32).map(|n| opening(n, 8080))))
        .collect::<Vec<_>>();
    let outcome = one_and_many(&config, commands, &wan, &[]);
    let reals = outcome.field("real");
    assert_eq!(reals[..16], reals[16..32]);
    assert!(
        reals[32..48].iter().all(|real| real == "10.1.0.13:8080"),
        "{reals:?}"
    );
    let reasons = outcome.field("reason");
    assert!(
        reasons[48..].iter().all(|it| it == "drop-real-removed"),
        "{reasons:?}"
    );
    assert_eq!(listed(&outcome).len(), 32);
}

#[test]
fn what_ftp_and_a_service_on_a_high_port_both_take() {
    let config = format!(
        "{PORTS}[[service]]\nlisten = \"tcp 192.0.2.10:21\"\nscheduler = \"sh\"\npersistence = 60\n\
         [[service.real]]\naddress = \"10.1.0.11\"\n"
    );
    let commands = "1 -A -t 192.0.2.10:3000 -s sh\n1 -a -t 192.0.2.10:3000 -r 10.1.0.13\n6 -Lnc\n";
    let wan = every(0, (0..16).map(|n| opening(n, 3000)))
        .into_iter()
        .chain(every(2 * SECOND, (0..32).map(|n| opening(n, 3000))))
        .collect::<Vec<_>>();
    let outcome = one_and_many(&config, commands, &wan, &[]);
    let reals = outcome.field("real");
    assert!(
        reals[..32].iter().all(|real| real == "10.1.0.11:21"),
        "{reals:?}"
    );
    assert!(
        reals[32..].iter().all(|real| real == "10.1.0.13:3000"),
        "{reals:?}"
    );
    assert_eq!(listed(&outcome).len(), 32);
}

const REAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);

/// The answers to what left by `lan`, one a millisecond from `from` on.
fn answers(sent: &[(u64, Vec<u8>)], from: u64) -> Vec<(u64, Vec<u8>)> {
    let answer = |frame: &Vec<u8>| {
        let octets = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).expect("four");
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (source, port) = (Ipv4Addr::from(octets(26)), (port(34), port(36)));
        rx(&ip(REAL, source).with(udp(port.1, port.0)))
    };
    let at = |n: u64| from + n * MS;
    (0..)
        .map(at)
        .zip(sent.iter().map(|(_, frame)| answer(frame)))
        .collect()
}

#[test]
fn a_mark_that_takes_everything_leaves_real_servers_answers_alone() {
    for mode in ["nat", "fullnat"] {
        let config = format!(
            "{PORTS}[[mark]]\nmark = 9\nto = \"0.0.0.0/0\"\n\
             [[service]]\nlisten = \"fwm 9\"\n[[service.real]]\naddress = \"10.1.0.12\"\n\
             [[service]]\nlisten = \"udp 192.0.2.10:53\"\nlocal_addresses = [\"10.1.0.250\"]\n\
             [[service.real]]\naddress = \"10.1.0.11:5353\"\nmode = \"{mode}\"\n"
        );
        // The mark comes first: its service is removed while the other one's connections begin.
        let commands = "0 -D -f 9\n1 -A -f 9 -s rr\n1 -a -f 9 -r 10.1.0.12\n3 -Lnc\n";
        let config = match mode {
            "nat" => config.replace("local_addresses = [\"10.1.0.250\"]\n", ""),
            _ => config,
        };
        let asked = (0..40u16).map(|n| ip(CLIENT, VIP).with(udp(20_000 + n, 53)));
        let wan = every(1, asked);
        for workers in [1, 2, 4, 7] {
            let mut bench = Bench::new(&config);
            bench.options.workers = workers;
            bench.options.arrive = Arrive::Spread;
            bench.input("wan", &wan).commands(commands);
            let first = bench.run();
            assert_eq!(first.lan.len(), 40, "{mode}");
            bench.input("lan", &answers(&first.lan, 2 * SECOND));
            let outcome = bench.run();
            let directions = outcome.field("direction");
            assert_eq!(directions.len(), 80);
            assert!(
                directions[40..].iter().all(|it| it == "out"),
                "{mode}, {workers}: {directions:?}"
            );
            assert_eq!(outcome.wan.len(), 40, "{mode}, {workers} workers");
            assert_eq!(listed(&outcome).len(), 40, "{mode}, {workers} workers");
        }
    }
}

#[test]
fn a_packet_by_the_port_without_a_mark_finds_the_marks_connection() {
    let config = format!(
        "{PORTS}[[mark]]\nmark = 1\nto = \"192.0.2.0/24\"\nport = \"wan\"\n\
         [[vip]]\naddress = \"192.0.2.10\"\n{}",
        service("fwm 1", "sh", 2)
    );
    let wan = every(0, (0..16).map(|n| opening(n, 80)));
    let lan = every(2 * SECOND, (0..16).map(|n| going_on(n, 80)));
    let outcome = one_and_many(&config, "6 -Lnc\n", &wan, &lan);
    assert!(outcome.field("verdict").iter().all(|it| it == "transmit"));
    assert_eq!(listed(&outcome).len(), 16);
    assert_eq!(outcome.field("real")[..16], outcome.field("real")[16..]);
    assert_ne!(outcome.field("real")[0], Value::Null);
}
