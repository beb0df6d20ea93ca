//! IPv6 clients and an IPv4 real server, replayed: `nat64/golden.txt` has every frame to the byte
//! (TCP, UDP, fragments, ICMP errors), and etherparse, which shares no code with us, reads each.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use common::{Bench, MS, Outcome, rx};
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use wire::build::{Packet, icmp, ip, tcp, udp};

const CONFIG: &str = r#"
version = 1
[dataplane]
connections = 1024
connections_v6 = 1024
[[port]]
name = "wan"
addresses = ["192.0.2.2/24", "2001:db8:1::2/64"]
[[port]]
name = "lan"
addresses = ["10.1.0.2/24"]
[[route]]
to = "::/0"
via = "2001:db8:1::1"
[[service]]
listen = "tcp [2001:db8:1::10]:80"
scheduler = "rr"
local_addresses = ["10.1.0.250"]
[[service.real]]
address = "10.1.0.11:8080"
mode = "fullnat"
[[service]]
listen = "udp [2001:db8:1::10]:53"
scheduler = "rr"
local_addresses = ["2001:db8:a::250", "10.1.0.250"]
[[service.real]]
address = "10.1.0.12"
mode = "fullnat"
"#;

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 250);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const DNS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 12);
const SWITCH: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 77);

/// One packet every two milliseconds from `first` on.
fn at(first: u64, packets: &[Packet]) -> Vec<(u64, Vec<u8>)> {
    let times = (0..).map(|n| (first + 2 * n) * MS);
    times.zip(packets.iter().map(rx)).collect()
}

/// What the client's side sends.
fn from_client() -> Vec<Packet> {
    let to_vip = || ip(CLIENT, VIP).flow_label(0x12345).id(0x9_1234);
    let query = udp(4000, 53).payload(vec![0x61; 2000]);
    let mut packets = vec![
        to_vip()
            .tos(0xb8)
            .with(tcp(40_000, 80).seq(1).syn().mss(1440)),
        to_vip().with(
            tcp(40_000, 80)
                .seq(2)
                .acks(10)
                .payload("GET / HTTP/1.0\r\n\r\n"),
        ),
        to_vip().hop_by_hop().with(udp(4000, 53).payload("a?")),
    ];
    packets.extend(to_vip().with(query).fragments(1280));
    let answer = ip(VIP, CLIENT).with(tcp(80, 40_000).seq(10).acks(20).payload([7; 1000]));
    let too_big = icmp(2, 0).rest(1300).quoting(&answer);
    packets.push(ip(ROUTER, VIP).with(too_big));
    packets.push(to_vip().ttl(1).with(udp(4000, 53).payload("a?")));
    packets.push(to_vip().with(udp(4000, 53).payload("a?").unsummed()));
    packets
}

/// What the real servers' side sends to these local ports.
fn from_reals(web: u16, dns: u16) -> Vec<Packet> {
    let answer = udp(53, dns).payload(vec![0x62; 2000]);
    let mut packets = vec![
        ip(WEB, LOCAL)
            .df()
            .with(tcp(8080, web).seq(9).acks(2).syn().ack().mss(1460)),
        ip(DNS, LOCAL)
            .id(5)
            .with(udp(53, dns).payload("a!").unsummed()),
        ip(DNS, LOCAL)
            .id(6)
            .with(udp(53, dns).payload(vec![0x63; 1400])),
    ];
    packets.extend(ip(DNS, LOCAL).id(7).with(answer).fragments(1500));
    let query = ip(LOCAL, DNS).with(udp(dns, 53).payload("a?"));
    packets.push(ip(SWITCH, LOCAL).with(icmp(3, 3).quoting(&query)));
    let query = ip(LOCAL, WEB)
        .df()
        .with(tcp(web, 8080).acks(10).payload([1; 1400]));
    packets.push(ip(SWITCH, LOCAL).with(icmp(3, 4).rest(1400).quoting_first(548, &query)));
    packets.push(
        ip(WEB, LOCAL)
            .df()
            .with(tcp(8080, web).acks(2).ack().payload([1; 1460])),
    );
    packets
}

/// The source port of a frame of IPv4 without options.
fn port(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[34], frame[35]])
}

/// Every checksum of the frame, computed anew.
fn intact(frame: &[u8]) {
    let headers = PacketHeaders::from_ethernet_slice(frame).expect("a frame");
    let (net, payload) = (headers.net.expect("IP"), headers.payload.slice());
    if let NetHeaders::Ipv4(ip, _) = &net {
        assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
    }
    let (stored, computed) = match (&net, headers.transport) {
        (_, None) => return,
        (NetHeaders::Ipv4(ip, _), Some(TransportHeader::Tcp(it))) => {
            (it.checksum, it.calc_checksum_ipv4(ip, payload))
        }
        (NetHeaders::Ipv4(ip, _), Some(TransportHeader::Udp(it))) => {
            (it.checksum, it.calc_checksum_ipv4(ip, payload))
        }
        (NetHeaders::Ipv6(ip, _), Some(TransportHeader::Tcp(it))) => {
            (it.checksum, it.calc_checksum_ipv6(ip, payload))
        }
        (NetHeaders::Ipv6(ip, _), Some(TransportHeader::Udp(it))) => {
            (it.checksum, it.calc_checksum_ipv6(ip, payload))
        }
        (_, Some(TransportHeader::Icmpv4(it))) => {
            (it.checksum, Ok(it.icmp_type.calc_checksum(payload)))
        }
        (NetHeaders::Ipv6(ip, _), Some(TransportHeader::Icmpv6(it))) => {
            let sum = it
                .icmp_type
                .calc_checksum(ip.source, ip.destination, payload);
            (it.checksum, sum)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(Ok(stored), computed);
}

fn replayed(bench: &mut Bench) -> Outcome {
    bench.input("wan", &at(1, &from_client()));
    let first = bench.run();
    assert_eq!(first.error, None);
    let (web, dns) = (port(&first.lan[0].1), port(&first.lan[2].1));
    bench.input("lan", &at(100, &from_reals(web, dns)));
    bench.run()
}

fn text(outcome: &Outcome) -> String {
    let hex =
        |bytes: &[u8]| -> String { bytes.iter().map(|octet| format!("{octet:02x}")).collect() };
    let rows = |name: &str, frames: &[(u64, Vec<u8>)]| -> String {
        let row = |(at, bytes): &(u64, Vec<u8>)| format!("{at} {name} {}\n", hex(bytes));
        frames.iter().map(row).collect()
    };
    let fields = ["verdict", "reason", "mode", "direction", "real"];
    let mut said = String::new();
    for line in outcome
        .lines()
        .iter()
        .filter(|line| line.get("n").is_some())
    {
        let field = |name| line[name].as_str().unwrap_or("-").to_owned();
        said += &format!("{} {}\n", line["n"], fields.map(field).join(" "));
    }
    said + &rows("lan", &outcome.lan) + &rows("wan", &outcome.wan)
}

#[test]
fn every_frame_is_golden() {
    let mut bench = Bench::new(CONFIG);
    let outcome = replayed(&mut bench);
    // In fragments, only what is put together again has a checksum to look at.
    let whole = |frame: &&(u64, Vec<u8>)| {
        let v6 = frame.1[12..14] == [0x86, 0xdd];
        let in_v4 = u16::from_be_bytes([frame.1[20], frame.1[21]]) & 0x3fff == 0;
        if v6 { frame.1[20] != 44 } else { in_v4 }
    };
    let frames = outcome.lan.iter().chain(&outcome.wan).filter(whole);
    frames.for_each(|(_, frame)| intact(frame));
    let got = text(&outcome);
    let golden = include_str!("nat64/golden.txt");
    assert!(got.trim_end() == golden.trim_end(), "now it is:\n{got}");
    bench.options.burst = 32;
    assert_eq!(text(&bench.run()), got, "bursts of 32 give the same");
}

/// Several workers give the same frames, but for what each counts for itself: identifications,
/// local ports.
#[test]
fn more_workers_lose_nothing() {
    for workers in [2, 8] {
        let mut bench = Bench::new(CONFIG);
        bench.options.workers = workers;
        let outcome = replayed(&mut bench);
        let lengths = |frames: &[(u64, Vec<u8>)]| -> Vec<_> {
            frames
                .iter()
                .map(|(at, frame)| (*at, frame.len()))
                .collect()
        };
        let mut alone = Bench::new(CONFIG);
        let one = replayed(&mut alone);
        assert_eq!(lengths(&outcome.lan), lengths(&one.lan), "{workers}");
        assert_eq!(lengths(&outcome.wan), lengths(&one.wan), "{workers}");
        assert_eq!(outcome.field("verdict"), one.field("verdict"));
    }
}

/// Listings show both families as they are, and a save brings everything back.
#[test]
fn listings_and_saves() {
    let mut bench = Bench::new(CONFIG);
    let commands = "0.050 -Ln\n0.050 -Lnc\n0.050 -Sn\n0.050 -Ln --stats\n0.060 -C\n\
                    0.061 -A -t [2001:db8:1::10]:80 -s rr\n\
                    0.062 -P -t [2001:db8:1::10]:80 -z 10.1.0.250 -F lan\n\
                    0.063 -a -t [2001:db8:1::10]:80 -r 10.1.0.11:8080 -b\n0.064 -Sn\n\
                    0.065 -a -t [2001:db8:1::10]:80 -r 10.1.0.13 -m\n";
    bench.options.json = false;
    bench.commands(commands);
    bench.input("wan", &at(1, &from_client()[..3]));
    let outcome = bench.run();
    let golden = include_str!("nat64/listings.txt");
    assert!(outcome.stderr == golden, "now it is:\n{}", outcome.stderr);
}
