//! Block and allow lists, and the other things that a service asks of every packet: from the
//! file, from commands in the midst of connections, with any number of workers.

mod common;

use std::net::Ipv4Addr;

use common::{
    Bench, CLIENT, CLIENT_MAC, LAN_MAC, MS, PORTS, SECOND, VIP, WAN_MAC, real_mac, rx, service,
};
use replay::Arrive;
use wire::build::{Packet, ip, tcp, udp};
use wire::tcp::Flags;

/// A neighbour of the client's, on no list.
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);

fn segment(client: Ipv4Addr, port: u16, flags: Flags) -> Packet {
    ip(client, VIP).with(tcp(port, 80).flags(flags))
}

fn web(lists: &str) -> String {
    let service = service("tcp 192.0.2.10:80", "rr", 2);
    PORTS.to_owned() + &service.replace("scheduler", &format!("{lists}\nscheduler"))
}

/// Runs it with one worker and with four, wherever frames arrive: the reason of each packet, the
/// same every time.
fn reasons(bench: &mut Bench) -> Vec<String> {
    let mut all = Vec::new();
    for (workers, arrive) in [
        (1, Arrive::Rss),
        (4, Arrive::Rss),
        (4, Arrive::Spread),
        (3, Arrive::Spread),
    ] {
        (bench.options.workers, bench.options.arrive) = (workers, arrive);
        let outcome = bench.run();
        assert_eq!(outcome.error, None);
        let reasons = outcome.field("reason").into_iter();
        let reasons = reasons.map(|reason| reason.as_str().unwrap_or("sent").to_owned());
        all.push(reasons.collect::<Vec<_>>());
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    all.swap_remove(0)
}

#[test]
fn lists_of_the_file() {
    let (syn, ack) = (Flags::SYN, Flags::ACK);
    let frames = [
        (MS, rx(&segment(CLIENT, 1, syn))),
        (2 * MS, rx(&segment(CLIENT, 1, ack))),
        (3 * MS, rx(&segment(OTHER, 1, syn))),
        (4 * MS, rx(&segment(OTHER, 1, ack))),
    ];
    #[rustfmt::skip]
    let cases = [
        ("block = [\"203.0.113.0/24\"]",                          ["drop-blocked", "drop-blocked", "sent", "sent"]),
        ("allow = [\"203.0.113.7\"]",                             ["sent", "sent", "drop-not-allowed", "drop-not-allowed"]),
        ("block = [\"203.0.113.7\"]\nallow = [\"0.0.0.0/0\"]",    ["drop-blocked", "drop-blocked", "sent", "sent"]),
        ("persistence = 60\nblock = [\"203.0.113.7\"]",           ["drop-blocked", "drop-blocked", "sent", "sent"]),
        ("",                                                      ["sent"; 4]),
    ];
    for (lists, want) in cases {
        let mut bench = Bench::new(&web(lists));
        bench.input("wan", &frames);
        assert_eq!(reasons(&mut bench), want, "{lists}");
    }
}

#[test]
fn a_list_cuts_into_connections_and_lets_them_go_on() {
    let mut bench = Bench::new(&web(""));
    let ack = |n: u64| (n * SECOND + MS, rx(&segment(CLIENT, 1, Flags::ACK)));
    let frames = [
        (0, rx(&segment(CLIENT, 1, Flags::SYN))),
        ack(0),
        ack(1),
        ack(2),
        ack(3),
        ack(4),
    ];
    bench.input("wan", &frames);
    bench.commands(
        "1 -U -t 192.0.2.10:80 -k 203.0.113.0/24\n2 -V -t 192.0.2.10:80 -k 203.0.113.0/24\n\
         3 -O -t 192.0.2.10:80 -2 198.51.100.8\n4 -O -t 192.0.2.10:80 -2 203.0.113.7\n",
    );
    let want = [
        "sent",
        "sent",
        "drop-blocked",
        "sent",
        "drop-not-allowed",
        "sent",
    ];
    assert_eq!(reasons(&mut bench), want);
    let outcome = bench.run();
    assert_eq!(outcome.total("connections-made"), 1, "one for all its life");
    let passed = |flags| segment(CLIENT, 1, flags).ttl(63);
    let real = &outcome.lan[0].1[..6];
    let bytes: Vec<_> = outcome.lan.iter().map(|(_, bytes)| bytes.clone()).collect();
    let want = [Flags::SYN, Flags::ACK, Flags::ACK, Flags::ACK].map(|flags| {
        let mut frame = passed(flags).ether(LAN_MAC, real_mac(12)).bytes();
        frame[..6].copy_from_slice(real);
        frame
    });
    assert_eq!(bytes, want);
}

#[test]
fn a_list_does_not_start_the_scheduler_anew() {
    let mut bench = Bench::new(&web(""));
    let syn = |at: u64, port| (at * SECOND, rx(&segment(OTHER, port, Flags::SYN)));
    bench.input("wan", &[syn(0, 1), syn(2, 2), syn(4, 3), syn(6, 4)]);
    let quiet = bench.run().field("real");
    bench.commands(
        "1 -U -t 192.0.2.10:80 -k 203.0.113.7\n3 -O -t 192.0.2.10:80 -2 198.51.100.0/24\n",
    );
    assert_eq!(bench.run().field("real"), quiet);
    assert_ne!(quiet[0], quiet[1]);
}

#[test]
fn every_fragment_of_a_blocked_client_is_dropped() {
    let service = service("udp 192.0.2.10:53", "rr", 1)
        .replace("scheduler", "block = [\"203.0.113.7\"]\nscheduler");
    let mut bench = Bench::new(&(PORTS.to_owned() + &service));
    let whole = |client| {
        ip(client, VIP)
            .id(7)
            .with(udp(7, 53).payload(vec![1; 3000]))
    };
    let mut frames = Vec::new();
    for client in [CLIENT, OTHER] {
        frames.extend(
            whole(client)
                .fragments(1500)
                .iter()
                .map(|part| (MS, rx(part))),
        );
    }
    let half = frames.len() / 2;
    bench.input("wan", &frames);
    let got = reasons(&mut bench);
    assert!(
        got[..half].iter().all(|reason| reason == "drop-blocked"),
        "{got:?}"
    );
    assert!(got[half..].iter().all(|reason| reason == "sent"), "{got:?}");
}

#[test]
fn lists_of_a_mark_and_of_ipv6() {
    let rest = r#"
[[mark]]
mark = 5
to = "192.0.2.10/32"
[[vip]]
address = "192.0.2.10"
[[service]]
listen = "fwm 5"
scheduler = "rr"
block = ["203.0.113.7"]
[[service.real]]
address = "10.1.0.11"
"#;
    let mut bench = Bench::new(&(PORTS.to_owned() + rest));
    let dns = |client| ip(client, VIP).with(udp(7, 53));
    bench.input("wan", &[(MS, rx(&dns(CLIENT))), (2 * MS, rx(&dns(OTHER)))]);
    assert_eq!(reasons(&mut bench), ["drop-blocked", "sent"]);
}

#[test]
fn a_timeout_of_its_own_and_the_end_of_a_real_server() {
    let lists = "connection_timeout = 20\nexpire_quiescent = true";
    let mut bench = Bench::new(&web(lists));
    let at = |seconds: u64, flags| (seconds * SECOND, rx(&segment(CLIENT, 1, flags)));
    let data = ip(CLIENT, VIP).with(tcp(1, 80).ack().seq(5).acks(77));
    bench.input(
        "wan",
        &[
            at(0, Flags::SYN),
            at(1, Flags::ACK),
            at(20, Flags::ACK),
            // 21 seconds of silence.
            at(41, Flags::ACK),
            at(42, Flags::SYN),
            at(43, Flags::ACK),
            (45 * SECOND, rx(&data)),
            at(46, Flags::ACK),
            at(47, Flags::SYN),
        ],
    );
    bench.commands("44 -e -t 192.0.2.10:80 -r 10.1.0.11 -w 0\n44 -e -t 192.0.2.10:80 -r 10.1.0.12 -w 0\n46.5 -e -t 192.0.2.10:80 -r 10.1.0.12 -w 1\n");
    let want = [
        "sent",
        "sent",
        "sent",
        "drop-no-connection",
        "sent",
        "sent",
        "drop-quiescent",
        "drop-no-connection",
        "sent",
    ];
    assert_eq!(reasons(&mut bench), want);
    let outcome = bench.run();
    let back: Vec<_> = outcome.wan.iter().map(|(at, bytes)| (*at, bytes)).collect();
    let reset = ip(VIP, CLIENT)
        .df()
        .with(tcp(80, 1).flags(Flags::RST).seq(77).window(0));
    let told = reset.ether(WAN_MAC, CLIENT_MAC).bytes();
    assert_eq!(back, [(45 * SECOND, &told)], "back the way it came");
}
