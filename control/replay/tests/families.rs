//! One golden replay for each mode and each pair of families: `families/golden.txt` has every
//! frame to the byte, and etherparse, which shares no code with us, reads each.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{Bench, LAN_MAC, MS, rx};
use etherparse::{IpSlice, NetSlice, SlicedPacket, TransportSlice, UdpHeader};
use wire::build::{Packet, ip, tcp};

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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    V4,
    V6,
}
use Family::{V4, V6};

impl Family {
    fn of(self, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
        match self {
            V4 => Ipv4Addr::from(v4).into(),
            V6 => Ipv6Addr::from(v6).into(),
        }
    }

    fn client(self) -> IpAddr {
        self.of([203, 0, 113, 7], [0x2001, 0xdb8, 0x7, 0, 0, 0, 0, 7])
    }

    fn vip(self) -> IpAddr {
        self.of([192, 0, 2, 10], [0x2001, 0xdb8, 0x1, 0, 0, 0, 0, 0x10])
    }

    fn real(self) -> IpAddr {
        self.of([10, 1, 0, 11], [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x11])
    }

    fn director(self) -> IpAddr {
        self.of([10, 1, 0, 2], [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 2])
    }

    fn local(self) -> IpAddr {
        self.of([10, 1, 0, 250], [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x250])
    }
}

fn listed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn bench(client: Family, real: IpAddr, mode: &str) -> Bench {
    let vip = listed(client.vip());
    let local = client.local();
    let service = format!(
        "[[service]]\nlisten = \"tcp {vip}:80\"\nscheduler = \"rr\"\n\
         local_addresses = [\"{local}\"]\n[[service.real]]\naddress = \"{real}\"\n{mode}\n"
    );
    Bench::new(&(PORTS.to_owned() + &service))
}

fn request(client: Family) -> Packet {
    let packet = ip(client.client(), client.vip()).id(7);
    packet.with(tcp(40000, 80).seq(1).syn().mss(1460))
}

/// A client's packet and, where answers pass us, the real server's; all that was sent.
fn replayed(bench: &mut Bench, client: Family, two_way: bool) -> Vec<(String, u64, Vec<u8>)> {
    bench.input("wan", &[(MS, rx(&request(client)))]);
    let first = bench.run();
    assert_eq!(first.error, None);
    if two_way {
        let seen = SlicedPacket::from_ethernet(&first.lan[0].1).expect("a packet");
        let (from, to) = ends(seen.net.as_ref().expect("IP"));
        let Some(TransportSlice::Tcp(segment)) = seen.transport else {
            panic!("no TCP");
        };
        let ports = (segment.destination_port(), segment.source_port());
        let answer = tcp(ports.0, ports.1).seq(9).acks(2).syn().ack();
        bench.input("lan", &[(2 * MS, rx(&ip(to, from).id(8).with(answer)))]);
    }
    let outcome = bench.run();
    assert_eq!(outcome, bench.run(), "the same once more");
    let named = |name: &str, frames: &[(u64, Vec<u8>)]| {
        let row = |(at, bytes): &(u64, Vec<u8>)| (name.to_owned(), *at, bytes.clone());
        frames.iter().map(row).collect::<Vec<_>>()
    };
    [named("lan", &outcome.lan), named("wan", &outcome.wan)].concat()
}

fn ends(net: &NetSlice<'_>) -> (IpAddr, IpAddr) {
    match net {
        NetSlice::Ipv4(v4) => {
            let header = v4.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        NetSlice::Ipv6(v6) => {
            let header = v6.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        NetSlice::Arp(_) => panic!("no IP"),
    }
}

/// Addresses and ports of an IP packet whose every length and checksum is right.
fn tcp_seen(packet: &[u8]) -> (IpAddr, u16, IpAddr, u16) {
    let seen = SlicedPacket::from_ip(packet).expect("a packet");
    let net = seen.net.expect("IP");
    let Some(TransportSlice::Tcp(segment)) = seen.transport else {
        panic!("no TCP");
    };
    let header = segment.to_header();
    let sum = match &net {
        NetSlice::Ipv4(v4) => {
            let ip = v4.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(usize::from(ip.total_len), packet.len());
            assert_eq!(ip.time_to_live, 63);
            header.calc_checksum_ipv4(&ip, segment.payload())
        }
        NetSlice::Ipv6(v6) => {
            let ip = v6.header().to_header();
            assert_eq!(usize::from(ip.payload_length) + 40, packet.len());
            assert_eq!(ip.hop_limit, 63);
            header.calc_checksum_ipv6(&ip, segment.payload())
        }
        NetSlice::Arp(_) => panic!("no IP"),
    };
    assert_eq!(Ok(header.checksum), sum);
    let (from, to) = ends(&net);
    (from, segment.source_port(), to, segment.destination_port())
}

/// The packet that a tunnel's carries: from the director to the real server, in an envelope of
/// this kind whose lengths and checksums are right.
fn unwrapped(frame: &[u8], client: Family, real: Family, kind: &str) -> Vec<u8> {
    let outer = IpSlice::from_slice(&frame[14..]).expect("an outer header");
    assert_eq!(outer.source_addr(), real.director(), "{kind}");
    assert_eq!(outer.destination_addr(), real.real(), "{kind}");
    if let IpSlice::Ipv4(v4) = &outer {
        let header = v4.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(usize::from(header.total_len), frame.len() - 14);
    }
    let payload = outer.payload();
    let (number, header) = match (kind, client) {
        ("ipip", V4) => (4, 0),
        ("ipip", V6) => (41, 0),
        ("gre", _) => (47, 4),
        _ => (17, 8 + 4),
    };
    assert_eq!(payload.ip_number.0, number, "{kind}");
    if kind == "gre" {
        let want: &[u8] = if client == V4 {
            &[0, 0, 8, 0]
        } else {
            &[0, 0, 0x86, 0xdd]
        };
        assert_eq!(&payload.payload[..4], want);
    }
    if kind == "gue" {
        let (udp, rest) = UdpHeader::from_slice(payload.payload).expect("UDP");
        assert_eq!(udp.destination_port, 6080);
        assert_eq!(usize::from(udp.length), rest.len() + 8);
        assert_eq!(rest[..4], [0, if client == V4 { 4 } else { 41 }, 0, 0]);
    }
    payload.payload[header..].to_vec()
}

fn golden(name: &str, sent: &[(String, u64, Vec<u8>)]) -> String {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect::<String>()
    };
    let row = |(port, at, bytes): &(String, u64, Vec<u8>)| format!("{at} {port} {}\n", hex(bytes));
    format!("{name}\n{}\n", sent.iter().map(row).collect::<String>())
}

#[test]
fn each_mode_and_family_is_golden() {
    let mut text = String::new();
    for (mode, family) in [
        ("dr", V4),
        ("dr", V6),
        ("nat", V4),
        ("nat", V6),
        ("fullnat", V4),
        ("fullnat", V6),
    ] {
        let name = format!("{mode} {family:?}");
        let mut bench = bench(family, family.real(), &format!("mode = \"{mode}\""));
        let sent = replayed(&mut bench, family, mode != "dr");
        let (client, vip, real) = (family.client(), family.vip(), family.real());
        assert_eq!(sent[0].2[6..12], LAN_MAC.0, "{name}");
        let there = tcp_seen(&sent[0].2[14..]);
        match mode {
            "dr" => assert_eq!(there, (client, 40000, vip, 80), "{name}"),
            "nat" => assert_eq!(there, (client, 40000, real, 80), "{name}"),
            _ => assert_eq!(
                (there.0, there.2, there.3),
                (family.local(), real, 80),
                "{name}"
            ),
        }
        for (_, _, back) in &sent[1..] {
            assert_eq!(tcp_seen(&back[14..]), (vip, 80, client, 40000), "{name}");
        }
        assert_eq!(sent.len(), if mode == "dr" { 1 } else { 2 }, "{name}");
        text += &golden(&name, &sent);
    }
    for kind in ["ipip", "gre", "gue"] {
        for (client, real) in [(V4, V4), (V6, V6), (V4, V6), (V6, V4)] {
            let name = format!("tun {kind} {client:?} in {real:?}");
            let port = if kind == "gue" { ", port = 6080" } else { "" };
            let mode = format!("mode = \"tun\"\ntunnel = {{ type = \"{kind}\"{port} }}");
            let mut bench = bench(client, real.real(), &mode);
            let sent = replayed(&mut bench, client, false);
            assert_eq!(sent.len(), 1, "{name}");
            let inner = unwrapped(&sent[0].2, client, real, kind);
            let ends = (client.client(), 40000, client.vip(), 80);
            assert_eq!(tcp_seen(&inner), ends, "{name}");
            assert_eq!(inner, request(client).ttl(63).bytes(), "{name}");
            text += &golden(&name, &sent);
        }
    }
    let golden = include_str!("families/golden.txt");
    assert!(text.trim_end() == golden.trim_end(), "now it is:\n{text}");
}

#[test]
fn a_local_real_server_is_the_kernels_in_either_family() {
    for family in [V4, V6] {
        let mut bench = bench(family, family.director(), "");
        let sent = replayed(&mut bench, family, false);
        assert_eq!(sent, [], "{family:?}");
        let outcome = bench.run();
        assert_eq!(outcome.field("reason"), ["punt-local"]);
        assert_eq!(outcome.field("mode"), ["local"]);
    }
}
