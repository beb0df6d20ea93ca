//! `trace`: what it says about packets of every kind, and after what came before them.

mod common;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use common::{Bench, CLIENT, LAN_MAC, MS, PORTS, SECOND, VIP, rx, service};
use control::trace::Trace;
use replay::{Arrive, ReplayError, TraceOptions, Which, trace};
use serde_json::Value;
use wire::build::{Packet, icmp, ip, tcp, udp};
use wire::ethernet::Mac;

const REAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);

/// Which packet of `inputs`, or which made one, under the configuration of `bench`.
fn options(bench: &Bench, which: Which) -> TraceOptions {
    let named = |(port, path): &(String, PathBuf)| (Some(port.clone()), path.clone());
    TraceOptions {
        config: bench.options.config.clone(),
        inputs: bench.options.inputs.iter().map(named).collect(),
        which,
        commands: bench.options.commands.clone(),
        workers: bench.options.workers,
        arrive: bench.options.arrive,
        seed: 0,
    }
}

fn made(text: &str) -> Which {
    Which::Made(text.parse().expect(text))
}

fn traced(bench: &Bench, which: Which) -> Trace {
    trace(&options(bench, which), std::io::sink()).expect("a packet")
}

fn json(trace: &Trace) -> Value {
    serde_json::from_str(&trace.json()).expect("JSON")
}

/// The step of this name that comes first.
fn step<'a>(whole: &'a Value, name: &str) -> &'a Value {
    let steps = whole["steps"].as_array().expect("steps");
    let found = steps.iter().find(|step| step["step"] == name);
    found.unwrap_or_else(|| panic!("no step {name} in {whole:#}"))
}

fn steps(whole: &Value) -> Vec<&str> {
    let steps = whole["steps"].as_array().expect("steps").iter();
    steps
        .map(|step| step["step"].as_str().expect("a name"))
        .collect()
}

/// A packet from the client to the VIP.
fn syn(port: u16) -> Packet {
    ip(CLIENT, VIP).with(tcp(port, 80).syn())
}

#[test]
fn the_golden_traces() {
    let golden = include_str!("trace/golden.txt");
    let bench = Bench::new(include_str!("trace/lb.toml"));
    let mut rows = 0;
    for row in golden.split("\n$ ").skip(1) {
        let (packet, want) = row.split_once('\n').expect("a packet's line");
        let text = traced(&bench, made(packet)).text();
        assert_eq!(text.trim_end(), want.trim_end(), "{packet}");
        rows += 1;
    }
    assert_eq!(rows, 35);
}

#[test]
fn a_trace_as_json_says_what_the_text_does() {
    let bench = Bench::new(include_str!("trace/lb.toml"));
    let whole = json(&traced(
        &bench,
        made("tcp 203.0.113.7:40000 > 192.0.2.10:80"),
    ));
    assert_eq!(
        steps(&whole),
        [
            "packet",
            "parse",
            "connection",
            "lookup",
            "service",
            "schedule",
            "open",
            "connection",
            "state",
            "route",
            "rewrite",
            "verdict",
            "sent"
        ]
    );
    let expected = [
        ("verdict", Value::from("transmit")),
        ("reason", Value::Null),
        ("out", "lan".into()),
        ("service", "tcp 192.0.2.10:80".into()),
        ("real", "10.1.0.13:80".into()),
        ("mode", "dr".into()),
        ("direction", "in".into()),
        ("new", true.into()),
        ("worker", 0.into()),
    ];
    for (field, want) in expected {
        assert_eq!(whole[field], want, "{field}");
    }
    let reals = &step(&whole, "schedule")["reals"];
    assert_eq!(reals[1]["why-not"], "weight 0: no new connections");
    assert_eq!(reals[1]["eligible"], false);
    assert_eq!(reals[0]["chosen"], true);
    let rewrite = step(&whole, "rewrite");
    assert_eq!(
        (&rewrite["before"]["ttl"], &rewrite["after"]["ttl"]),
        (&"64".into(), &"63".into())
    );
    assert_eq!(step(&whole, "route")["next-hop"], "10.1.0.13");
}

/// Damaged and odd frames, each with the reason that its trace names.
#[test]
fn every_drop_that_a_frame_alone_brings_about() {
    let good = || rx(&syn(1));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good();
        change(&mut bytes);
        bytes
    };
    let ether = |packet: Packet| rx(&packet);
    let payload = |len: usize| udp(1, 80).payload(vec![0; len]);
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("drop-short-frame",      good()[..10].to_vec()),
        ("drop-short-header",     good()[..30].to_vec()),
        ("drop-bad-version",      with(&|b| b[14] = 0x65)),
        ("drop-bad-ihl",          with(&|b| b[14] = 0x44)),
        ("drop-short-length",     with(&|b| b[17] = 10)),
        ("drop-bad-length",       with(&|b| b[17] = 200)),
        ("drop-bad-checksum",     with(&|b| b[24] ^= 1)),
        ("drop-short-transport",  ether(ip(CLIENT, VIP).raw(wire::Protocol::TCP, [0; 8]))),
        ("drop-vlan",             with(&|b| b[12..14].copy_from_slice(&[0x81, 0]))),
        ("drop-bad-source",       ether(ip([224, 0, 0, 1], VIP).with(tcp(1, 80).syn()))),
        ("drop-oversize",         ether(ip(CLIENT, VIP).with(payload(1500)))),
        ("drop-oversize",         ether(ip(CLIENT, VIP).with(payload(20_000)))),
        ("drop-fragment-tiny",    ether(ip(CLIENT, VIP).raw(wire::Protocol::TCP, [0; 8]).fragment(0, true))),
        ("drop-fragment-length",  ether(ip(CLIENT, VIP).with(payload(3)).fragment(0, true))),
        ("drop-no-service",       ether(ip(CLIENT, VIP).with(tcp(1, 81).syn()))),
        ("drop-no-connection",    ether(ip(CLIENT, VIP).with(tcp(1, 80).ack()))),
        ("drop-ttl-exceeded",     ether(syn(1).ttl(1))),
    ];
    let mut bench = Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 2)));
    let frames: Vec<_> = (0u64..)
        .zip(&cases)
        .map(|(n, (_, bytes))| (n * MS, bytes.clone()))
        .collect();
    bench.input("wan", &frames);
    for (n, (want, _)) in (0u64..).zip(&cases) {
        let trace = traced(&bench, Which::Captured(n));
        let whole = json(&trace);
        assert_eq!(whole["reason"], *want, "{n}: {}", trace.text());
        assert_eq!(whole["verdict"], "drop", "{n}");
        assert!(
            !step(&whole, "verdict")["why"]
                .as_str()
                .expect(want)
                .is_empty()
        );
        assert!(trace.text().contains(want), "{n}");
    }
}

#[test]
fn what_came_before_is_replayed_first() {
    let mut bench = Bench::new(
        &(PORTS.to_owned()
            + "[[service]]\nlisten = \"tcp 192.0.2.10:80\"\nscheduler = \"wlc\"\n\
               [[service.real]]\naddress = \"10.1.0.11:8080\"\nmode = \"nat\"\nupper = 1\n\
               [[service.real]]\naddress = \"10.1.0.12:8080\"\nmode = \"nat\"\n"),
    );
    let client = |packet: Packet| rx(&packet);
    bench.input(
        "wan",
        &[
            (0, client(syn(1))),
            (SECOND, client(syn(2))),
            (2 * SECOND, client(syn(3))),
            (3 * SECOND, client(ip(CLIENT, VIP).with(tcp(1, 80).ack()))),
            (70 * SECOND, client(ip(CLIENT, VIP).with(tcp(2, 80).ack()))),
        ],
    );
    let third = json(&traced(&bench, Which::Captured(2)));
    let reals = &step(&third, "schedule")["reals"];
    let old = reals
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["real"] == "10.1.0.11:8080");
    let old = old.expect("the one with a threshold");
    assert_eq!(old["why-not"], "overloaded: its threshold was reached");
    assert_eq!(
        (&old["active"], &old["eligible"]),
        (&1.into(), &false.into())
    );
    let hit = json(&traced(&bench, Which::Captured(3)));
    assert_eq!(step(&hit, "connection")["state"], "SYN_RECV");
    assert_eq!(step(&hit, "connection")["left"], 57);
    assert_eq!(step(&hit, "state")["after"], "ESTABLISHED");
    assert_eq!((&hit["new"], &hit["mode"]), (&false.into(), &"nat".into()));
    let late = json(&traced(&bench, Which::Captured(4)));
    assert_eq!(late["reason"], "drop-no-connection", "its time was up");
    assert_eq!(step(&late, "declined")["why"], "opens-nothing");
}

#[test]
fn replies_and_errors_of_the_real_server() {
    let mut bench = Bench::new(
        &(PORTS.to_owned()
            + "[[service]]\nlisten = \"tcp 192.0.2.10:80\"\n\
               [[service.real]]\naddress = \"10.1.0.11:8080\"\nmode = \"nat\"\n"),
    );
    bench.input("wan", &[(0, rx(&syn(7)))]);
    let real = Mac([2, 1, 10, 1, 0, 11]);
    let reply = ip(REAL, CLIENT).with(tcp(8080, 7).syn().ack());
    let about = ip(CLIENT, REAL).with(tcp(7, 8080).syn());
    let error = ip([10, 1, 0, 99], CLIENT).with(icmp(3, 1).quoting(&about));
    let stray = ip(REAL, CLIENT).with(tcp(8080, 8).syn().ack());
    bench.input(
        "lan",
        &[
            (MS, reply.ether(real, LAN_MAC).bytes()),
            (2 * MS, error.ether(real, LAN_MAC).bytes()),
            (3 * MS, stray.ether(real, LAN_MAC).bytes()),
        ],
    );
    let reply = json(&traced(&bench, Which::Captured(1)));
    assert_eq!(
        (&reply["direction"], &reply["out"]),
        (&"out".into(), &"wan".into())
    );
    assert_eq!(step(&reply, "connection")["from"], "real");
    assert_eq!(step(&reply, "rewrite")["after"]["source"], "192.0.2.10");
    let error = json(&traced(&bench, Which::Captured(2)));
    assert_eq!(
        (&error["verdict"], &error["direction"]),
        (&"transmit".into(), &"out".into())
    );
    let stray = json(&traced(&bench, Which::Captured(3)));
    assert_eq!(stray["reason"], "punt-other");
}

#[test]
fn templates_and_commands() {
    let mut bench = Bench::new(
        &(PORTS.to_owned()
            + "[[service]]\nlisten = \"tcp 192.0.2.10:80\"\nscheduler = \"rr\"\npersistence = 100\n\
               [[service.real]]\naddress = \"10.1.0.11\"\n[[service.real]]\naddress = \"10.1.0.12\"\n"),
    );
    bench.input("wan", &[(0, rx(&syn(1)))]);
    let next = "tcp 203.0.113.7:2 > 192.0.2.10:80";
    let whole = json(&traced(&bench, made(next)));
    assert_eq!(step(&whole, "template")["found"], "live");
    assert!(!steps(&whole).contains(&"schedule"), "the template decides");
    bench.commands("1 -d -t 192.0.2.10:80 -r 10.1.0.12\n");
    let whole = json(&traced(&bench, made(next)));
    assert_eq!(step(&whole, "template")["found"], "invalid");
    assert_eq!(whole["real"], "10.1.0.11:80");
    bench.commands("1 -e -t 192.0.2.10:80 -r 10.1.0.11 -w 0\n1 -e -t 192.0.2.10:80 -r 10.1.0.12 -w 0\n1 sysctl expire_quiescent_template=1\n");
    let whole = json(&traced(&bench, made(next)));
    assert_eq!(whole["reason"], "drop-no-real");
    let known = json(&traced(
        &bench,
        made("tcp 203.0.113.7:1 > 192.0.2.10:80 flags=A"),
    ));
    assert_eq!(known["verdict"], "transmit", "weight 0 ends no connection");
}

#[test]
fn connections_that_end_first() {
    let mut bench = Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 2)));
    let client = |packet: Packet| rx(&packet);
    let closed = [
        (0, client(syn(1))),
        (MS, client(ip(CLIENT, VIP).with(tcp(1, 80).ack()))),
        (2 * MS, client(ip(CLIENT, VIP).with(tcp(1, 80).rst()))),
    ];
    bench.input("wan", &closed);
    let again = json(&traced(&bench, made("tcp 203.0.113.7:1 > 192.0.2.10:80")));
    assert_eq!(step(&again, "connection")["ended"], "starts-over");
    assert_eq!(again["new"], true);
    bench.commands("0.5 sysctl expire_nodest_conn=1\n0.5 -d -t 192.0.2.10:80 -r 10.1.0.12\n0.5 -d -t 192.0.2.10:80 -r 10.1.0.11\n0.5 -a -t 192.0.2.10:80 -r 10.1.0.13\n");
    let moved = json(&traced(
        &bench,
        made("tcp 203.0.113.7:1 > 192.0.2.10:80 flags=A"),
    ));
    let mut all = moved["steps"].as_array().expect("steps").iter();
    assert!(all.any(|step| step["ended"] == "real-removed"), "{moved:#}");
    assert_eq!(moved["reason"], "drop-no-connection");
    bench.commands("0.5 -D -t 192.0.2.10:80\n0.5 -A -t 192.0.2.10:81\n");
    let removed = json(&traced(
        &bench,
        made("tcp 203.0.113.7:1 > 192.0.2.10:80 flags=A"),
    ));
    assert_eq!(removed["reason"], "drop-real-removed");
}

#[test]
fn an_established_connection() {
    let mut bench = Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 1)));
    let ack = || rx(&ip(CLIENT, VIP).with(tcp(1, 80).ack()));
    bench.input("wan", &[(0, rx(&syn(1))), (MS, ack()), (9 * SECOND, ack())]);
    let whole = json(&traced(&bench, Which::Captured(2)));
    let want = [
        "packet",
        "parse",
        "connection",
        "state",
        "route",
        "rewrite",
        "verdict",
        "sent",
    ];
    assert_eq!(steps(&whole), want);
    assert_eq!(step(&whole, "connection")["left"], 891);
    let state = step(&whole, "state");
    assert_eq!(
        (&state["after"], &state["timeout"]),
        (&"ESTABLISHED".into(), &900.into())
    );
    assert_eq!(step(&whole, "route")["next-hop"], "10.1.0.11");
}

#[test]
fn a_frame_that_is_handed_over() {
    let mut bench = Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 2)));
    bench.options.workers = 4;
    bench.options.arrive = Arrive::Spread;
    let packets: Vec<_> = (0..8u16)
        .map(|n| (u64::from(n) * MS, rx(&syn(n + 1))))
        .collect();
    bench.input("wan", &packets);
    let handed = (0..8).map(|n| json(&traced(&bench, Which::Captured(n))));
    let handed: Vec<_> = handed
        .filter(|whole| steps(whole).contains(&"hand-over"))
        .collect();
    assert!(handed.len() >= 3, "three of four come to another worker");
    for whole in &handed {
        assert_eq!(step(whole, "hand-over")["to"], whole["worker"]);
        assert_eq!(step(whole, "worker")["worker"], whole["worker"]);
        assert_eq!(whole["verdict"], "transmit");
    }
}

#[test]
fn a_trace_and_a_replay_agree() {
    let mut bench = Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "wrr", 3)));
    let ttls = [1, 2, 3, 64];
    let packets: Vec<_> = (0..9u16)
        .map(|n| {
            (
                u64::from(n) * MS,
                rx(&syn(n % 5 + 1).ttl(ttls[usize::from(n) % 4])),
            )
        })
        .collect();
    bench.input("wan", &packets);
    let outcome = bench.run();
    let fields = [
        "verdict",
        "reason",
        "out",
        "service",
        "real",
        "mode",
        "direction",
        "worker",
        "new",
    ];
    for n in 0..9 {
        let whole = json(&traced(&bench, Which::Captured(n)));
        let line = &outcome.lines()[usize::try_from(n).expect("small")];
        for field in fields {
            assert_eq!(whole[field], line[field], "packet {n}: {field}");
        }
    }
}

#[test]
fn packets_that_there_are_not() {
    let mut bench = Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 1)));
    bench.input("wan", &[(0, rx(&syn(1)))]);
    let fails = |which| {
        let error: ReplayError = trace(&options(&bench, which), std::io::sink()).expect_err("none");
        (error.to_string(), error.exit())
    };
    assert_eq!(
        fails(Which::Captured(1)),
        ("--packet 1: the captures have 1 packets".to_owned(), 2)
    );
    assert_eq!(
        fails(made("tcp 203.0.113.7:1 > 192.0.2.10:80 in=dmz")).0,
        "in=dmz: there is no such port; there are: wan, lan"
    );
    assert_eq!(
        fails(made("tcp 203.0.113.7:1 > 192.0.2.10:80 length=39")).0,
        "length=39: such a packet has at least 40 octets"
    );
}
