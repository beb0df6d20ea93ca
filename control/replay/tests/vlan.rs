//! Ports of VLANs in a replay: a capture of the wire under them, or of one of them.

mod common;

use common::{Bench, CLIENT, CLIENT_MAC, MS, Outcome, PORTS, VIP, WAN_MAC, real_mac, rx, service};
use replay::{Arrive, TraceOptions, Which, trace};
use wire::build::{Packet, ip, tcp, udp};
use wire::ethernet::Mac;

const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x20]);

/// The same two ports, as VLANs 10 and 20 over `trunk`, and a service of each way.
fn config() -> String {
    let over = |config: &str, name: &str, more: &str| {
        let was = format!("name = \"{name}\"\n");
        let is = format!("{was}parent = \"trunk\"\n{more}");
        config.replacen(&was, &is, 1)
    };
    let config = over(PORTS, "wan", "vlan = 10\n");
    let mac = format!("vlan = 20\nmac = \"{LAN_MAC}\"\n");
    over(&config, "lan", &mac)
        + "[[port]]\nname = \"trunk\"\n"
        + &service("tcp 192.0.2.10:80", "rr", 2)
        + &service("udp 192.0.2.10:53", "rr", 2).replace("10.1.0.11", "10.1.0.21")
        + "mode = \"nat\"\n"
}

/// Clients' packets and a real server's answers: the port, and the frame without its tag.
fn traffic() -> Vec<(&'static str, Vec<u8>)> {
    let client = |packet: Packet| ("wan", rx(&packet));
    let real = |packet: Packet| ("lan", packet.ether(real_mac(12), LAN_MAC).bytes());
    let whole = ip(CLIENT, VIP)
        .id(7)
        .with(udp(9, 53).payload(vec![5; 3000]));
    let mut all = Vec::new();
    for port in 40_000..40_040 {
        all.push(client(ip(CLIENT, VIP).with(tcp(port, 80).syn())));
        all.push(client(ip(CLIENT, VIP).with(tcp(port, 80).ack())));
        all.push(client(ip(CLIENT, VIP).with(udp(port, 53))));
        all.push(real(ip([10, 1, 0, 12], CLIENT).with(udp(53, port))));
    }
    all.extend(whole.fragments(1500).into_iter().rev().map(client));
    all.push(client(ip(CLIENT, VIP).ttl(1).with(tcp(1, 80).syn())));
    all.push(("wan", vec![0; 13]));
    all
}

/// With a tag, as the wire has it.
fn tagged((port, frame): &(&str, Vec<u8>), priority: u8) -> Vec<u8> {
    let (macs, rest) = frame.split_at(frame.len().min(12));
    let id = if *port == "wan" { 10 } else { 20 };
    [macs, &[0x81, 0, priority << 5, id], rest].concat()
}

fn on_the_wire(frames: &[(&'static str, Vec<u8>)]) -> Bench {
    let mut bench = Bench::new(&config());
    let frames: Vec<_> = (1..)
        .zip(frames)
        .map(|(n, frame)| (n * MS, tagged(frame, 3)))
        .collect();
    bench.input("trunk", &frames);
    bench
}

fn frames(outcome: &Outcome) -> usize {
    outcome.wan.len() + outcome.lan.len()
}

#[test]
fn the_wires_capture_is_as_the_ports_captures() {
    let mut traffic = traffic();
    // One too short for a tag is the wire's own.
    traffic.retain(|(_, frame)| frame.len() > 13);
    let wire = on_the_wire(&traffic).run();
    let mut ports = Bench::new(&config());
    for name in ["wan", "lan"] {
        let own = (1..).zip(&traffic).filter(|(_, (port, _))| *port == name);
        let own: Vec<_> = own.map(|(n, (_, frame))| (n * MS, frame.clone())).collect();
        ports.input(name, &own);
    }
    let ports = ports.run();
    assert_eq!(wire, ports);
    assert_eq!(frames(&wire), 144, "20 answers were of no connection");
    let bytes = wire.total("rx-bytes");
    let given: usize = traffic.iter().map(|(_, frame)| frame.len() + 4).sum();
    assert_eq!(bytes, given as u64, "the tags are counted");
    assert_eq!(wire.total("drop-vlan"), 0);
}

#[test]
fn each_frame_is_its_vlans_and_has_no_tag() {
    let syn = || ip(CLIENT, VIP).with(tcp(40000, 80).syn());
    let traffic = [
        ("wan", rx(&syn())),
        ("lan", rx(&syn())),
        ("wan", rx(&syn().ttl(1))),
        ("wan", vec![0; 13]),
    ];
    let outcome = on_the_wire(&traffic).run();
    let strings = |name| -> Vec<String> {
        let values = outcome.field(name).into_iter();
        values
            .map(|value| value.as_str().unwrap_or("-").to_owned())
            .collect()
    };
    assert_eq!(strings("in"), ["wan", "lan", "wan", "trunk"]);
    assert_eq!(strings("out"), ["lan", "-", "-", "-"]);
    let reasons = ["-", "drop-not-our-mac", "drop-ttl-exceeded", "drop-vlan"];
    assert_eq!(strings("reason"), reasons);
    let forwarded = syn().ttl(63).ether(LAN_MAC, real_mac(12)).bytes();
    assert_eq!(outcome.lan, [(MS, forwarded)]);
    let [(_, error)] = &outcome.wan[..] else {
        panic!("one ICMP error: {:?}", outcome.wan)
    };
    assert_eq!(error[..6], CLIENT_MAC.0);
    assert_eq!(error[6..14], [&WAN_MAC.0[..], &[8, 0]].concat());
}

#[test]
fn what_says_no_vlan_of_ours_is_the_wires() {
    let mut bench = Bench::new(&config());
    let frame = ip(CLIENT, VIP).with(tcp(40000, 80).syn());
    let frame = || frame.ether(CLIENT_MAC, Mac::ZERO);
    let frames = [
        frame().vlan(11).bytes(),
        frame().vlan(10).vlan(10).bytes(),
        frame().vlan(0xe000).bytes(),
        frame().bytes(),
    ];
    let frames: Vec<_> = (1..).map(|n| n * MS).zip(frames).collect();
    bench.input("trunk", &frames);
    let outcome = bench.run();
    assert_eq!(outcome.field("in"), ["trunk", "wan", "trunk", "trunk"]);
    let reasons = outcome.field("reason");
    assert_eq!(reasons[..2], ["drop-vlan", "drop-vlan"]);
    assert_eq!(outcome.field("out")[2..], ["lan", "lan"], "a priority only");
}

#[test]
fn workers_and_bursts_change_nothing() {
    let mut traffic = traffic();
    // Fragments wait for each other on one worker.
    traffic.retain(|(_, frame)| frame.len() < 1000);
    let run = |workers, arrive, burst| {
        let mut bench = on_the_wire(&traffic);
        bench.options.workers = workers;
        bench.options.arrive = arrive;
        bench.options.burst = burst;
        bench.options.json = false;
        let Outcome {
            mut wan, mut lan, ..
        } = bench.run();
        wan.sort();
        lan.sort();
        // Which real server has which is each worker's own; how many frames there are is not.
        (wan.len(), lan.len())
    };
    let one = run(1, Arrive::Rss, 1);
    assert_eq!(one, run(1, Arrive::Rss, 32));
    assert_eq!(one, run(4, Arrive::Rss, 32));
    assert_eq!(one, run(4, Arrive::Spread, 1));
}

#[test]
fn a_trace_follows_a_frame_of_the_wire() {
    let bench = on_the_wire(&[("wan", rx(&ip(CLIENT, VIP).with(tcp(40000, 80).syn())))]);
    let options = TraceOptions {
        config: bench.options.config.clone(),
        inputs: vec![(None, bench.options.inputs[0].1.clone())],
        which: Which::Captured(0),
        commands: None,
        workers: 1,
        arrive: Arrive::Rss,
        seed: 0,
    };
    let text = trace(&options, Vec::new()).expect("a trace").text();
    for line in [
        "len 40, by port wan to worker 0\n",
        "route       by port lan to 10.1.0.12 at 02:01:0a:01:00:0c; MTU 1500\n",
        "verdict     transmit by lan\n",
        "sent        by lan, 54 octets: ",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains("vlan"), "no tag is rewritten:\n{text}");
}
