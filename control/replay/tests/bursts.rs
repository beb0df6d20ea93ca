//! Bursts: whatever meets in them, and on however many workers, no byte changes.

mod common;

use std::net::Ipv4Addr;

use common::{Bench, CLIENT, MS, PORTS, SECOND, VIP, rx};
use replay::Arrive;
use wire::build::{Packet, echo_request, icmp, ip, tcp, udp};

const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 250);

/// A service of each kind of ownership, real servers of each mode.
const SERVICES: &str = r#"
[[service]]
listen = "tcp 192.0.2.10:80"
scheduler = "wlc"
[[service.real]]
address = "10.1.0.11"
[[service.real]]
address = "10.1.0.12"
mode = "tun"
[[service]]
listen = "udp 192.0.2.10:53"
scheduler = "rr"
[[service.real]]
address = "10.1.0.11"
mode = "nat"
[[service.real]]
address = "10.1.0.12:5353"
mode = "nat"
[[service]]
listen = "tcp 192.0.2.10:443"
scheduler = "rr"
local_addresses = ["10.1.0.250"]
[[service.real]]
address = "10.1.0.11"
mode = "fullnat"
[[service]]
listen = "tcp 192.0.2.10:25"
scheduler = "rr"
persistence = 300
[[service.real]]
address = "10.1.0.11"
[[service.real]]
address = "10.1.0.12"
[[service]]
listen = "tcp 192.0.2.10:8080"
scheduler = "lblc"
[[service.real]]
address = "10.1.0.13"
mode = "tun"
"#;

/// Clients far away, and on the port's own network, whom nobody asked for their MAC.
fn client(n: u16) -> Ipv4Addr {
    let last = u8::try_from(n % 100).expect("small") + 100;
    match n % 5 {
        0 => Ipv4Addr::new(192, 0, 2, last),
        _ => Ipv4Addr::new(203, 0, 113, last),
    }
}

fn to_vip(n: u16) -> Packet {
    let (from, port) = (ip(client(n), VIP), 2000 + n / 2);
    match n % 9 {
        0 | 1 => from.with(tcp(port, 80).syn()),
        2 => from.with(udp(port, 53).payload(vec![7; 20])),
        3 => from.with(tcp(port, 443).syn()),
        4 => from.with(tcp(port, 25).syn()),
        5 => from
            .with(tcp(port, 8080).syn())
            .ttl(1 + u8::from(n.is_multiple_of(2))),
        6 => from.with(echo_request(1, n)),
        7 => from.with(tcp(20, 81).syn()),
        _ => from
            .with(tcp(port - 1, 80).ack().payload(vec![7; 1300]))
            .df(),
    }
}

/// What a router on the way to the real server of a tunnel says.
fn too_large(real: u8) -> Packet {
    let outer = ip(Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, real));
    let inner = ip(CLIENT, VIP).with(tcp(1, 80).payload(vec![0; 1300]));
    let outer = outer.df().raw(wire::Protocol::IPIP, inner.bytes());
    let error = icmp(3, 4).rest(1000).quoting(&outer);
    ip(Ipv4Addr::new(10, 1, 0, 77), Ipv4Addr::new(10, 1, 0, 2)).with(error)
}

fn crowd() -> Bench {
    let mut bench = Bench::new(&(PORTS.to_owned() + SERVICES));
    let at = |n: u16| u64::from(n / 60) * MS;
    let mut wan = Vec::new();
    for n in 0..360 {
        wan.push((at(n), rx(&to_vip(n))));
        if n % 40 == 0 {
            let whole = ip(client(n), VIP).id(u32::from(n));
            let whole = whole.with(udp(7, 53).payload(vec![1; 3000]));
            wan.extend(
                whole
                    .fragments(1500)
                    .iter()
                    .rev()
                    .map(|part| (at(n), rx(part))),
            );
        }
    }
    let mut lan = Vec::new();
    for n in (0..360u16).step_by(3) {
        let real = Ipv4Addr::new(10, 1, 0, 11 + u8::from(n.is_multiple_of(2)));
        let answer = ip(real, client(n)).with(udp(53, 2000 + n / 2));
        lan.push((at(n), rx(&answer)));
        if n == 150 {
            lan.push((at(n), rx(&too_large(12))));
        }
    }
    bench.input("wan", &wan).input("lan", &lan);
    bench.commands("0.002 -E -t 192.0.2.10:80 -s wlc -p 60\n0.003 -Lnc\n0.004 -Ln --stats\n");
    bench
}

/// Answers to the local address go where their connections are.
fn with_answers(mut bench: Bench) -> Bench {
    let sent = bench.run().lan;
    let local = |frame: &Vec<u8>| frame.get(26..30) == Some(&LOCAL.octets()[..]);
    let answers = sent
        .iter()
        .filter(|(_, frame)| local(frame))
        .map(|(_, frame)| {
            let port = u16::from_be_bytes([frame[34], frame[35]]);
            let answer = ip(Ipv4Addr::new(10, 1, 0, 11), LOCAL);
            (SECOND, rx(&answer.with(tcp(443, port).syn().ack())))
        });
    let answers: Vec<_> = answers.collect();
    assert!(answers.len() > 20, "{}", answers.len());
    bench.input("lan", &answers);
    bench
}

#[test]
fn bursts_change_no_byte_whoever_takes_them() {
    for workers in [1, 2, 4, 8] {
        for arrive in [Arrive::Rss, Arrive::Spread] {
            let mut bench = crowd();
            (bench.options.workers, bench.options.arrive) = (workers, arrive);
            let mut bench = with_answers(bench);
            let one = bench.run();
            assert_eq!(one.error, None);
            assert!(one.total("transmit") > 250 && one.total("made-sent") > 10);
            assert_eq!(one.total("handed-out") > 0, workers > 1);
            for burst in [2, 32] {
                bench.options.burst = burst;
                let many = bench.run();
                for (n, (a, b)) in one.stdout.lines().zip(many.stdout.lines()).enumerate() {
                    assert_eq!(a, b, "line {n}, {workers} workers, {arrive:?}, {burst}");
                }
                assert!(
                    many == one,
                    "{workers} workers, {arrive:?}, bursts of {burst}"
                );
            }
        }
    }
}
