//! One golden replay for each mode: what comes in, what goes out, to the byte.

mod common;

use std::net::Ipv4Addr;

use common::{Bench, CLIENT, CLIENT_MAC, LAN_MAC, MS, PORTS, SECOND, VIP, WAN_MAC, real_mac, rx};
use wire::Protocol;
use wire::build::{Packet, icmp, ip, tcp};
use wire::ethernet::Mac;
use wire::tcp::OptionKind;

const REAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 250);
const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const PINNED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 78);
const GATEWAY_MAC: Mac = Mac([2, 1, 192, 0, 2, 1]);
const NEAR_MAC: Mac = Mac([2, 1, 192, 0, 2, 77]);
const PINNED_MAC: Mac = Mac([2, 7, 7, 7, 7, 7]);

fn bench(service: &str, real: &str) -> Bench {
    let rest = format!(
        r#"
[[neighbour]]
address = "192.0.2.78"
mac = "02:07:07:07:07:07"
port = "wan"
[[service]]
listen = "tcp 192.0.2.10:80"
scheduler = "rr"
{service}
[[service.real]]
{real}
"#
    );
    Bench::new(&(PORTS.to_owned() + &rest))
}

fn syn(client: Ipv4Addr) -> Packet {
    ip(client, VIP).with(tcp(40000, 80).syn())
}

fn to_real(packet: &Packet) -> Vec<u8> {
    packet.ether(LAN_MAC, real_mac(11)).bytes()
}

#[test]
fn nat_goes_and_comes_back_to_clients_near_and_far() {
    let mut bench = bench("", "address = \"10.1.0.11:8080\"\nmode = \"nat\"");
    let answer = |client| rx(&ip(REAL, client).with(tcp(8080, 40000).syn().ack()));
    let clients = [
        (CLIENT, GATEWAY_MAC),
        (NEAR, NEAR_MAC),
        (PINNED, PINNED_MAC),
    ];
    let from_wan = clients.map(|(client, _)| (MS, rx(&syn(client))));
    let from_lan = clients.map(|(client, _)| (2 * MS, answer(client)));
    bench.input("wan", &from_wan).input("lan", &from_lan);
    for workers in [1, 4] {
        bench.options.workers = workers;
        let outcome = bench.run();
        let there = clients.map(|(client, _)| {
            let packet = ip(client, REAL).ttl(63).with(tcp(40000, 8080).syn());
            (MS, to_real(&packet))
        });
        let back = clients.map(|(client, mac)| {
            let packet = ip(VIP, client).ttl(63).with(tcp(80, 40000).syn().ack());
            (2 * MS, packet.ether(WAN_MAC, mac).bytes())
        });
        assert_eq!(outcome.lan, there, "{workers}");
        assert_eq!(outcome.wan, back, "{workers}");
        assert!(
            outcome
                .field("verdict")
                .iter()
                .all(|verdict| verdict == "transmit")
        );
        assert_eq!(
            outcome.field("direction"),
            ["in", "in", "in", "out", "out", "out"]
        );
        assert!(outcome.field("mode").iter().all(|mode| mode == "nat"));
        assert!(
            outcome
                .field("real")
                .iter()
                .all(|real| real == "10.1.0.11:8080")
        );
        assert_eq!(outcome.field("out")[3], "wan");
    }
}

/// As IPVS has it, a real server is local if its address is the director's, the VIP among them.
#[test]
fn the_directors_kernel_is_a_real_server() {
    for address in ["127.0.0.1", "10.1.0.2", "192.0.2.10"] {
        for mode in ["dr", "tun"] {
            let real = format!("address = \"{address}\"\nmode = \"{mode}\"");
            let mut bench = bench("", &real);
            bench.input("wan", &[(MS, rx(&syn(CLIENT)))]);
            bench.commands("1 -Ln\n");
            let outcome = bench.run();
            assert_eq!(outcome.field("reason")[0], "punt-local", "{address}");
            assert_eq!(outcome.field("mode")[0], "local", "{address}");
            let listed = outcome.lines()[1]["stdout"].clone();
            let name = format!("{address}:80");
            let row = format!("  -> {name:<28} Local   1      1          0         \n");
            let text = listed.as_str().expect("text");
            assert!(text.ends_with(&row), "{text}");
        }
    }
}

#[test]
fn tun_wraps() {
    let mut bench = bench("", "address = \"10.1.0.11\"\nmode = \"tun\"");
    bench.input("wan", &[(MS, rx(&syn(CLIENT)))]);
    let outcome = bench.run();
    let inner = syn(CLIENT).ttl(63).bytes();
    let (at, frame) = &outcome.lan[0];
    assert_eq!(*at, MS);
    assert_eq!(frame[..14], to_real(&syn(CLIENT))[..14]);
    assert_eq!(frame[14 + 20..], inner);
    let outer = wire::ipv4::Packet::parse(&frame[14..]).expect("an IP packet");
    assert_eq!((outer.protocol(), outer.dst()), (Protocol::IPIP, REAL));
    assert_eq!(outcome.field("mode"), ["tun"]);
}

/// The same bytes for ever: sequence numbers and local ports come of the seed and the captures' time.
#[test]
fn fullnat_tells_who_the_client_is() {
    const SEEN: u32 = 0x41d1_8bd0;
    const PORT: u16 = 29_212;
    let cases: [(&str, &[u8], &[u8]); 3] = [
        ("toa", &[0xfe, 8, 0x9c, 0x40, 203, 0, 113, 7], b""),
        (
            "proxy-v1",
            b"",
            b"PROXY TCP4 203.0.113.7 192.0.2.10 40000 80\r\n",
        ),
        (
            "proxy-v2",
            b"",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x0a\x9c\x40\0\x50",
        ),
    ];
    for (way, option, header) in cases {
        let service = format!("local_addresses = [\"10.1.0.250\"]\nclient_address = \"{way}\"");
        let real = "address = \"10.1.0.11:8080\"\nmode = \"fullnat\"";
        let mut bench = bench(&service, real);
        let from_client = |body| rx(&ip(CLIENT, VIP).with(body));
        let get = tcp(40000, 80).seq(8).acks(71).payload("GET /");
        let syn = tcp(40000, 80)
            .seq(7)
            .syn()
            .option(OptionKind::TIMESTAMPS, &[1; 8]);
        let answer = tcp(8080, PORT).seq(70).acks(SEEN + 1).syn().mss(1460);
        let there = [(MS, from_client(syn)), (3 * MS, from_client(get))];
        bench.input("wan", &there);
        bench.input("lan", &[(2 * MS, rx(&ip(REAL, LOCAL).with(answer)))]);
        let outcome = bench.run();
        let from_us = |body| to_real(&ip(LOCAL, REAL).ttl(63).with(body));
        let nops = (0..10).fold(tcp(PORT, 8080).seq(SEEN).syn(), |syn, _| syn.nop());
        assert_eq!(outcome.lan[0], (MS, from_us(nops)), "{way}");
        let told = tcp(PORT, 8080).seq(SEEN + 1).acks(71);
        let told = match option {
            [kind, _, rest @ ..] => told.option(OptionKind(*kind), rest),
            _ => told,
        };
        let told = told.payload([header, b"GET /"].concat());
        assert_eq!(outcome.lan[1], (3 * MS, from_us(told)), "{way}");
        let mss = if way == "toa" { 1452 } else { 1460 };
        let answer = tcp(80, 40000).seq(70).acks(8).syn().mss(mss);
        let answer = ip(VIP, CLIENT).ttl(63).with(answer);
        assert_eq!(outcome.wan[0].1[14..], answer.bytes(), "{way}");
    }
}

#[test]
fn fullnat_speaks_from_a_local_address() {
    let service = "local_addresses = [\"10.1.0.250\"]";
    let mut bench = bench(service, "address = \"10.1.0.11:8080\"\nmode = \"fullnat\"");
    bench.input("wan", &[(MS, rx(&syn(CLIENT)))]);
    for workers in [1, 8] {
        bench.options.workers = workers;
        let first = bench.run();
        let (_, frame) = &first.lan[0];
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        let packet = ip(LOCAL, REAL).ttl(63).with(tcp(port, 8080).syn());
        assert_eq!(*frame, to_real(&packet), "{workers}");
        let answer = rx(&ip(REAL, LOCAL).with(tcp(8080, port).syn().ack()));
        bench.options.inputs.truncate(1);
        bench.input("lan", &[(2 * MS, answer)]);
        let outcome = bench.run();
        let back = ip(VIP, CLIENT).ttl(63).with(tcp(80, 40000).syn().ack());
        let back = back.ether(WAN_MAC, GATEWAY_MAC).bytes();
        assert_eq!(outcome.wan, [(2 * MS, back)], "{workers}");
        assert_eq!(outcome.field("mode"), ["fullnat", "fullnat"]);
        bench.options.inputs.truncate(1);
        bench.options.seed = 0;
    }
}

#[test]
fn the_seed_chooses_the_local_port() {
    let service = "local_addresses = [\"10.1.0.250\"]";
    let mut bench = bench(service, "address = \"10.1.0.11:8080\"\nmode = \"fullnat\"");
    bench.input("wan", &[(MS, rx(&syn(CLIENT)))]);
    let port = |bench: &Bench| bench.run().lan[0].1[34..36].to_vec();
    let first = port(&bench);
    assert_eq!(port(&bench), first);
    let others = (1..8).map(|seed| {
        bench.options.seed = seed;
        port(&bench)
    });
    assert!(others.into_iter().any(|other| other != first));
}

#[test]
fn a_local_real_server_is_the_kernel_and_there_is_none() {
    let mut bench = bench("", "address = \"10.1.0.2\"");
    bench.input("wan", &[(MS, rx(&syn(CLIENT)))]);
    let outcome = bench.run();
    assert_eq!(outcome.field("verdict"), ["punt"]);
    assert_eq!(outcome.field("reason"), ["punt-local"]);
    assert_eq!(outcome.field("mode"), ["local"]);
    assert!(outcome.lan.is_empty() && outcome.wan.is_empty());
}

#[test]
fn without_a_route_there_is_no_way() {
    let mut bench = bench("", "address = \"10.1.0.11:8080\"\nmode = \"nat\"");
    let config = std::fs::read_to_string(&bench.options.config).expect("written");
    let config = config.replace("[[route]]\nto = \"0.0.0.0/0\"\nvia = \"192.0.2.1\"\n", "");
    std::fs::write(&bench.options.config, config).expect("room");
    let answer = rx(&ip(REAL, CLIENT).with(tcp(8080, 40000).syn().ack()));
    bench.input("wan", &[(MS, rx(&syn(CLIENT)))]);
    bench.input("lan", &[(2 * MS, answer)]);
    bench.commands("3 -a -t 192.0.2.10:80 -r 172.16.0.1:80 -m\n");
    let second = ip(NEAR, VIP).with(tcp(1, 80).syn());
    bench.input("wan", &[(4_000 * MS, rx(&second))]);
    let outcome = bench.run();
    let reasons = outcome.field("reason");
    assert_eq!(reasons[1..], ["drop-no-route", "drop-no-route"]);
}

#[test]
fn a_mark_has_a_service_and_a_client_his_template() {
    let rest = r#"
[[mark]]
mark = 5
to = "192.0.2.0/28"
ports = "80-443"
[[service]]
listen = "fwm 5"
scheduler = "rr"
persistence = 300
[[service.real]]
address = "10.1.0.11"
[[service.real]]
address = "10.1.0.12"
"#;
    let mut bench = Bench::new(&(PORTS.to_owned() + rest));
    let other = ip(CLIENT, VIP).with(tcp(40001, 443).syn());
    bench.input("wan", &[(MS, rx(&syn(CLIENT))), (2 * MS, rx(&other))]);
    bench.commands("1 -Lnc\n");
    let outcome = bench.run();
    assert_eq!(outcome.field("service"), ["fwm 5", "fwm 5"]);
    assert_eq!(outcome.field("real")[0], outcome.field("real")[1]);
    assert_eq!(outcome.lan.len(), 2);
    let listing = outcome.lines()[2]["stdout"].to_string();
    let template = "IP  04:59  NONE        203.0.113.7:0      0.0.0.5:0          10.1.0.1";
    assert!(listing.contains(template), "{listing}");
}

#[test]
fn a_tunnels_path_is_learned_and_forgotten() {
    const DIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
    let mut bench = bench("", "address = \"10.1.0.11\"\nmode = \"tun\"");
    let large = || {
        ip(CLIENT, VIP)
            .df()
            .with(tcp(40000, 80).ack().payload([7; 1400]))
    };
    let through = |packet: Packet| {
        let outer = ip(DIP, REAL).df().id(0).ttl(63);
        to_real(&outer.with(packet.ttl(63)))
    };
    let error = icmp(3, 4)
        .rest(1400)
        .quoting_first(28, &ip(DIP, REAL).df().with(large()));
    let error = ip([10, 1, 0, 254], DIP).with(error);
    let from_wan = [
        (MS, rx(&syn(CLIENT).df())),
        (2 * MS, rx(&large())),
        (4 * MS, rx(&large())),
        (605 * SECOND, rx(&large())),
    ];
    bench
        .input("wan", &from_wan)
        .input("lan", &[(3 * MS, rx(&error))]);
    for workers in [1, 4] {
        bench.options.workers = workers;
        let outcome = bench.run();
        let there = [
            (MS, through(syn(CLIENT).df())),
            (2 * MS, through(large())),
            (605 * SECOND, through(large())),
        ];
        assert_eq!(outcome.lan, there, "{workers}");
        let told = icmp(3, 4).rest(1380).quoting_first(548, &large());
        let told = ip(VIP, CLIENT).tos(0xc0).df().with(told);
        let told = told.ether(WAN_MAC, CLIENT_MAC).bytes();
        assert_eq!(outcome.wan, [(4 * MS, told)], "{workers}");
        assert_eq!(outcome.total("punt-tunnel"), 1);
    }
}
