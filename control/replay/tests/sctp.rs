//! Golden replays of an SCTP association in each mode and family: `sctp/golden.txt` has every
//! frame to the byte and how the connection is listed. CRCs are checked by the crate crc.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{Bench, MS, rx};
use crc::{CRC_32_ISCSI, Crc};
use etherparse::{IpNumber, NetSlice, SlicedPacket};
use wire::build::{Packet, ip, sctp};
use wire::sctp::ChunkType;

const PORTS: &str = r#"
version = 1
[dataplane]
connections = 1024
connections_v6 = 1024
[[port]]
name = "wan"
addresses = ["192.0.2.2/24", "2001:db8:1::2/64"]
[[port]]
name = "lan"
addresses = ["10.1.0.2/24", "2001:db8:a::2/64"]
[[route]]
to = "0.0.0.0/0"
via = "192.0.2.1"
[[route]]
to = "::/0"
via = "2001:db8:1::1"
"#;

/// Who takes part, in one family.
#[derive(Clone, Copy)]
struct Ends {
    client: IpAddr,
    vip: IpAddr,
    real: IpAddr,
    local: IpAddr,
}

fn ends(v6: bool) -> Ends {
    let v4 = |d: [u8; 4]| IpAddr::from(Ipv4Addr::from(d));
    let v6_of = |net: u16, n: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, n));
    if v6 {
        Ends {
            client: v6_of(7, 7),
            vip: v6_of(1, 0x10),
            real: v6_of(0xa, 0x11),
            local: v6_of(0xa, 0x250),
        }
    } else {
        Ends {
            client: v4([203, 0, 113, 7]),
            vip: v4([192, 0, 2, 10]),
            real: v4([10, 1, 0, 11]),
            local: v4([10, 1, 0, 250]),
        }
    }
}

fn listed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn bench(ends: Ends, mode: &str) -> Bench {
    let port = if mode.contains("nat") { 5905 } else { 2905 };
    let (vip, real) = (listed(ends.vip), listed(ends.real));
    let service = format!(
        "[[service]]\nlisten = \"sctp {vip}:2905\"\nscheduler = \"rr\"\n\
         local_addresses = [\"{}\"]\n[[service.real]]\naddress = \"{real}:{port}\"\n{mode}\n",
        ends.local
    );
    let mut bench = Bench::new(&(PORTS.to_owned() + &service));
    bench.commands("1 -Lnc\n");
    bench
}

fn chunk(from: (IpAddr, u16), to: (IpAddr, u16), kind: ChunkType, data: &[u8]) -> Packet {
    let tag = if kind == ChunkType::INIT {
        0
    } else {
        0x0bad_cafe
    };
    let body = sctp(from.1, to.1).tag(tag).chunk(kind.0, data);
    ip(from.0, to.0).id(7).with(body)
}

/// What the client sends, at 1, 3 and 5 ms.
fn from_client(ends: Ends) -> Vec<(u64, Vec<u8>)> {
    let (client, vip) = ((ends.client, 40_000), (ends.vip, 2905));
    let steps: [(ChunkType, &[u8]); 3] = [
        (ChunkType::INIT, &[9; 16]),
        (ChunkType::COOKIE_ECHO, b"cookie"),
        (ChunkType::DATA, b"hello, real server"),
    ];
    let frame = |(n, (kind, data)): (u64, (ChunkType, &[u8]))| {
        ((2 * n + 1) * MS, rx(&chunk(client, vip, kind, data)))
    };
    (0..).zip(steps).map(frame).collect()
}

/// The real server's answers, at 2 and 4 ms, to whoever it saw.
fn from_real(ends: Ends, seen: (IpAddr, u16)) -> Vec<(u64, Vec<u8>)> {
    let real = (ends.real, 5905);
    let steps: [(ChunkType, &[u8]); 2] = [
        (ChunkType::INIT_ACK, &[8; 24]),
        (ChunkType::COOKIE_ACK, &[]),
    ];
    let frame = |(n, (kind, data)): (u64, (ChunkType, &[u8]))| {
        ((2 * n + 2) * MS, rx(&chunk(real, seen, kind, data)))
    };
    (0..).zip(steps).map(frame).collect()
}

/// Ends and ports of an SCTP packet whose CRC is right.
fn seen(packet: &[u8]) -> ((IpAddr, u16), (IpAddr, u16)) {
    let sliced = SlicedPacket::from_ip(packet).expect("a packet");
    let (from, to): (IpAddr, IpAddr) = match sliced.net.as_ref().expect("IP") {
        NetSlice::Ipv4(v4) => (
            v4.header().source_addr().into(),
            v4.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(v6) => (
            v6.header().source_addr().into(),
            v6.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => panic!("no IP"),
    };
    let carried = sliced.ip_payload().expect("a payload");
    assert_eq!(carried.ip_number, IpNumber::SCTP);
    let mut zeroed = carried.payload.to_vec();
    zeroed[8..12].fill(0);
    let crc = Crc::<u32>::new(&CRC_32_ISCSI).checksum(&zeroed);
    assert_eq!(crc.to_le_bytes(), carried.payload[8..12], "CRC32c");
    let port = |at: usize| u16::from_be_bytes([zeroed[at], zeroed[at + 1]]);
    ((from, port(0)), (to, port(2)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn each_mode_and_family_is_golden() {
    let mut text = String::new();
    for (name, mode) in [
        ("dr", "mode = \"dr\""),
        ("tun", "mode = \"tun\""),
        (
            "gue",
            "mode = \"tun\"\ntunnel = { type = \"gue\", port = 6080 }",
        ),
        ("nat", "mode = \"nat\""),
        ("fullnat", "mode = \"fullnat\""),
    ] {
        for v6 in [false, true] {
            text += &associated(name, mode, v6);
        }
    }
    let golden = include_str!("sctp/golden.txt");
    assert!(text.trim_end() == golden.trim_end(), "now it is:\n{text}");
}

/// An association in one mode and family, as golden text.
fn associated(name: &str, mode: &str, v6: bool) -> String {
    let ends = ends(v6);
    let mut bench = bench(ends, mode);
    bench.input("wan", &from_client(ends));
    if mode.contains("nat") {
        let first = bench.run();
        let (from, to) = seen(&first.lan[0].1[14..]);
        let who = if name == "nat" {
            ends.client
        } else {
            ends.local
        };
        assert_eq!((from.0, to), (who, (ends.real, 5905)), "{name}");
        bench.input("lan", &from_real(ends, from));
    }
    let outcome = bench.run();
    assert_eq!(outcome.error, None, "{name}");
    assert_eq!(outcome.lan.len(), 3, "{name}");
    for (_, back) in &outcome.wan {
        let want = ((ends.vip, 2905), (ends.client, 40_000));
        assert_eq!(seen(&back[14..]), want, "{name}");
    }
    if name == "dr" {
        for (_, there) in &outcome.lan {
            let want = ((ends.client, 40_000), (ends.vip, 2905));
            assert_eq!(seen(&there[14..]), want, "{name}");
        }
    }
    for workers in [1, 4] {
        bench.options.workers = workers;
        for burst in [1, 32] {
            bench.options.burst = burst;
            let again = bench.run();
            if workers == 1 {
                assert_eq!(again, outcome, "{name}: bursts of {burst}");
            } else {
                assert_eq!(again.lan.len(), 3, "{name}: {workers} workers");
            }
        }
    }
    let lines = outcome.lines().into_iter();
    let listing = lines.filter(|line| line.get("command").is_some());
    let listing: Vec<_> = listing.map(|line| line["stdout"].clone()).collect();
    let rows = listing[0].as_str().expect("text").lines().skip(2);
    let family = if v6 { "V6" } else { "V4" };
    let mut text = format!("{name} {family}\n");
    for row in rows {
        text += &format!("{row}\n");
    }
    for (port, frames) in [("lan", &outcome.lan), ("wan", &outcome.wan)] {
        for (at, bytes) in frames {
            text += &format!("{at} {port} {}\n", hex(bytes));
        }
    }
    text + "\n"
}

/// Both fragments of a packet end in one reason where ports are translated.
#[test]
fn a_fragment_says_why_it_goes_nowhere() {
    let ends = ends(false);
    let mut bench = bench(ends, "mode = \"nat\"");
    let (client, vip) = ((ends.client, 40_000), (ends.vip, 2905));
    let init = rx(&chunk(client, vip, ChunkType::INIT, &[9; 16]));
    let parts = chunk(client, vip, ChunkType::DATA, &[5; 2000]).fragments(1500);
    let mut frames = vec![(MS, init)];
    frames.extend((2..).zip(&parts).map(|(n, part)| (n * MS, rx(part))));
    bench.input("wan", &frames);
    let outcome = bench.run();
    let reasons = outcome.field("reason");
    let sctp_fragment = serde_json::Value::from("drop-sctp-fragment");
    assert_eq!(reasons[1..], [sctp_fragment.clone(), sctp_fragment]);
    assert_eq!(outcome.total("drop-sctp-fragment"), 2);
}
