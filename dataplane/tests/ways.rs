//! The way of a connection's packets where that is not the ordinary one: a real server whose mode
//! was edited, replies that go back to whoever sent, tunnels whose paths are narrow, segments of
//! no connection.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::*;
use dataplane::exchange::Exchange;
use dataplane::fwd::{Envelope, Forwarder, Tunnel};
use dataplane::services::{Hop, HopId, Route, Routes, Standing, Target};
use dataplane::verdict::PuntClass;
use wire::build::{Packet, icmp, ip, tcp, udp};
use wire::ipv4::Between;
use wire::tcp::Flags;
use wire::{EtherType, Mac, ipv4, ipv6};

const DIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const REAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 254);
const HOP: HopId = HopId(1);
const GATEWAY: HopId = HopId(99);

fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(GATEWAY_MAC, WAN_MAC).bytes()
}

fn tx(packet: &Packet) -> Vec<u8> {
    packet.ether(LAN_MAC, real_mac(1)).bytes()
}

fn segment(port: u16, flags: Flags) -> Packet {
    ip(CLIENT, VIP).with(tcp(port, 80).flags(flags))
}

fn tunnel(narrower: u16) -> Forwarder {
    let (source, destination) = (DIP, real_ip(1));
    Forwarder::Tun {
        hop: HOP,
        tunnel: Tunnel::V4(Between::new(source, destination)),
        envelope: Envelope::Ipip,
        narrower,
    }
}

fn tunnel6(narrower: u16) -> Forwarder {
    let (source, destination) = (DIP6, REAL6);
    Forwarder::Tun {
        hop: HOP,
        tunnel: Tunnel::V6 {
            source,
            destination,
        },
        envelope: Envelope::Ipip,
        narrower,
    }
}

/// One service with one real server in this mode, a gateway to everywhere on `wan`.
fn lab(mode: Forwarder) -> Lab {
    ready(Lab::new(), mode)
}

fn ready(mut lab: Lab, mode: Forwarder) -> Lab {
    lab.service(TCP, VIP, 80, "rr", &[(1, 1)]);
    let gateway = Hop::new(WAN, WAN_MAC, Some(GATEWAY_MAC));
    lab.snapshot.hops.set(GATEWAY.0, gateway);
    let everywhere = |network: IpAddr| Route {
        network,
        length: 0,
        target: Target::Via([GATEWAY].into()),
    };
    let routes = [[0, 0, 0, 0].into(), Ipv6Addr::UNSPECIFIED.into()].map(everywhere);
    lab.snapshot.routes = Routes::new(&routes, Vec::new());
    lab.change_real(0, |real| real.forwarder = mode);
    lab
}

/// What is sent towards the real server for a client's packet.
fn forwarded(lab: &mut Lab, packet: &Packet) -> Vec<Vec<u8>> {
    lab.give(WAN, &rx(packet));
    lab.turn();
    lab.sent(LAN)
}

#[test]
fn connections_keep_the_mode_that_they_were_made_with() {
    let (dr, nat) = (Forwarder::Dr { hop: HOP }, Forwarder::Nat { hop: HOP });
    let as_dr = |port| tx(&segment(port, Flags::ACK).ttl(63));
    let as_nat = |port| {
        let packet = ip(CLIENT, real_ip(1)).ttl(63);
        tx(&packet.with(tcp(port, 80).flags(Flags::ACK)))
    };
    let as_tun = |port| {
        let inner = segment(port, Flags::ACK).df().ttl(63);
        tx(&ip(DIP, real_ip(1)).df().id(0).ttl(63).with(inner))
    };
    let mut lab = lab(nat);
    forwarded(&mut lab, &segment(1, Flags::SYN));
    lab.snapshot.formers.set(0, [nat].into());
    lab.change_real(0, |real| {
        real.forwarder = dr;
        real.standing = Standing::Edited;
    });
    forwarded(&mut lab, &segment(2, Flags::SYN));
    lab.snapshot.formers.set(0, [nat, dr].into());
    lab.change_real(0, |real| real.forwarder = tunnel(0));
    forwarded(&mut lab, &segment(3, Flags::SYN));
    let ack = |port| segment(port, Flags::ACK);
    assert_eq!(forwarded(&mut lab, &ack(1)), [as_nat(1)]);
    assert_eq!(forwarded(&mut lab, &ack(2)), [as_dr(2)]);
    assert_eq!(forwarded(&mut lab, &ack(3).df()), [as_tun(3)]);

    let reply = |port| ip(real_ip(1), CLIENT).with(tcp(80, port).syn().ack());
    lab.give(LAN, &reply(1).ether(real_mac(1), LAN_MAC).bytes());
    lab.turn();
    let translated = ip(VIP, CLIENT).ttl(63).with(tcp(80, 1).syn().ack());
    assert_eq!(
        lab.sent(WAN),
        [translated.ether(WAN_MAC, GATEWAY_MAC).bytes()]
    );

    let error = ip(ROUTER, VIP).with(icmp(3, 1).quoting(&ip(VIP, CLIENT).with(tcp(80, 1))));
    let wanted = icmp(3, 1).quoting(&ip(real_ip(1), CLIENT).with(tcp(80, 1)));
    let wanted = ip(ROUTER, real_ip(1)).ttl(63).with(wanted);
    assert_eq!(forwarded(&mut lab, &error), [tx(&wanted)], "its errors too");

    lab.change_real(0, |real| real.standing = Standing::Removed);
    assert_eq!(lab.one(&rx(&ack(1))), ["drop-real-removed"]);
    assert_eq!(lab.one(&rx(&ack(2))), ["drop-real-removed"]);
}

#[test]
fn replies_go_back_to_whoever_sent() {
    let (first, second) = (Mac([2, 7, 0, 0, 0, 1]), Mac([2, 7, 0, 0, 0, 2]));
    let client = |mac, flags| segment(1, flags).ether(mac, WAN_MAC).bytes();
    let reply = ip(real_ip(1), CLIENT).with(tcp(80, 1).syn().ack());
    let reply = reply.ether(real_mac(1), LAN_MAC).bytes();
    let translated = ip(VIP, CLIENT).ttl(63).with(tcp(80, 1).syn().ack());
    let back = |mac| translated.ether(WAN_MAC, mac).bytes();
    let mut lab = ready(Lab::returning(), Forwarder::Nat { hop: HOP });
    lab.give(WAN, &client(first, Flags::SYN));
    lab.give(LAN, &reply);
    lab.turn();
    assert_eq!(lab.sent(WAN), [back(first)], "not to the gateway");
    lab.give(WAN, &client(second, Flags::ACK));
    lab.give(LAN, &reply);
    lab.turn();
    assert_eq!(lab.sent(WAN), [back(second)], "the other gateway took over");
    for _ in 0..2 {
        // What nothing but its connection decides about, in either direction.
        for mac in [first, second] {
            lab.give(WAN, &client(mac, Flags::ACK));
            let reply = ip(real_ip(1), CLIENT).with(tcp(80, 1).ack());
            lab.give(LAN, &reply.ether(real_mac(1), LAN_MAC).bytes());
            lab.turn();
            let want = ip(VIP, CLIENT).ttl(63).with(tcp(80, 1).ack());
            assert_eq!(lab.sent(WAN), [want.ether(WAN_MAC, mac).bytes()]);
        }
    }

    let error = icmp(3, 4)
        .rest(1400)
        .quoting(&ip(CLIENT, real_ip(1)).with(tcp(1, 80)));
    lab.give(
        LAN,
        &ip(ROUTER, CLIENT)
            .with(error)
            .ether(real_mac(1), LAN_MAC)
            .bytes(),
    );
    lab.turn();
    let error = icmp(3, 4)
        .rest(1400)
        .quoting(&ip(CLIENT, VIP).with(tcp(1, 80)));
    let error = ip(VIP, CLIENT).ttl(63).with(error);
    assert_eq!(lab.sent(WAN), [error.ether(WAN_MAC, second).bytes()]);

    let group = Mac([3, 7, 0, 0, 0, 1]);
    lab.give(WAN, &segment(9, Flags::SYN).ether(group, WAN_MAC).bytes());
    lab.turn();
    let stray = ip(real_ip(1), CLIENT).with(tcp(80, 9).syn().ack());
    lab.give(LAN, &stray.ether(real_mac(1), LAN_MAC).bytes());
    lab.turn();
    let routed = ip(VIP, CLIENT).ttl(63).with(tcp(80, 9).syn().ack());
    let routed = routed.ether(WAN_MAC, GATEWAY_MAC).bytes();
    assert_eq!(lab.sent(WAN), [routed], "a group is nobody to answer");
}

#[test]
fn a_client_is_told_of_a_tunnels_narrow_path() {
    let large = || segment(1, Flags::ACK).with(tcp(1, 80).ack().payload(vec![7; 1350]));
    let mut lab = lab(tunnel(0));
    assert_eq!(forwarded(&mut lab, &segment(1, Flags::SYN)).len(), 1);
    assert_eq!(forwarded(&mut lab, &large().df()).len(), 1, "1410 of 1500");
    lab.change_real(0, |real| real.forwarder = tunnel(100));
    assert_eq!(lab.one(&rx(&large().df())), ["drop-needs-fragmentation"]);
    let told = icmp(3, 4).rest(1380).quoting_first(548, &large().df());
    let told = ip(VIP, CLIENT).tos(0xc0).df().with(told);
    assert_eq!(lab.sent(WAN), [told.ether(WAN_MAC, GATEWAY_MAC).bytes()]);

    let pieces = forwarded(&mut lab, &large());
    let lengths: Vec<_> = pieces.iter().map(|piece| piece.len() - 14).collect();
    assert_eq!(lengths, [1396, 34], "the outer packet is cut for the path");
    lab.set(|settings| settings.pmtu_disc = false);
    let pieces = forwarded(&mut lab, &large().df());
    assert_eq!(pieces.len(), 2, "whatever the inner one says");
}

/// The payloads of the pieces of an outer packet, put together.
fn whole(pieces: &[Vec<u8>]) -> Vec<u8> {
    let payload = |piece: &Vec<u8>| match EtherType(u16::from_be_bytes([piece[12], piece[13]])) {
        EtherType::IPV6 => {
            let packet = ipv6::Packet::parse(&piece[14..]).expect("a packet");
            let upper = packet.upper().expect("a fragment");
            packet.upper_payload(&upper).to_vec()
        }
        _ => {
            let packet = ipv4::Packet::parse(&piece[14..]).expect("a packet");
            assert!(packet.verify_checksum());
            packet.payload().to_vec()
        }
    };
    pieces.iter().flat_map(payload).collect()
}

#[test]
#[rustfmt::skip]
fn what_a_tunnel_has_no_room_for_is_cut_outside_where_it_may_be() {
    let v4 = |octets| ip(CLIENT, VIP).with(tcp(1, 80).syn().payload(vec![7; octets]));
    let v6 = |octets| ip(CLIENT6, VIP6).with(tcp(1, 80).syn().payload(vec![7; octets]));
    // The path's MTU, the inner packet, the sizes of the outer pieces: IPv6 has 8 octets more.
    let cases = [
        ("4in6, fits",              tunnel6(0),   v4(1400), vec![1480]),
        ("4in6, too large",         tunnel6(0),   v4(1440), vec![1496, 80]),
        ("4in6, a narrow path",     tunnel6(220), v4(1300), vec![1280, 156]),
        ("6in6, every link's size", tunnel6(220), v6(1220), vec![1280, 96]),
        ("6in4, every link's size", tunnel(300),  v6(1220), vec![1196, 124]),
        ("4in4, too large",         tunnel(0),    v4(1460), vec![1500, 40]),
    ];
    for (name, mode, packet, want) in cases {
        let mut lab = lab(mode);
        service_v6(&mut lab);
        let sent = forwarded(&mut lab, &packet);
        let lengths: Vec<_> = sent.iter().map(|piece| piece.len() - 14).collect();
        assert_eq!(lengths, want, "{name}");
        assert!(sent.iter().all(|piece| piece[..12] == tx(&packet)[..12]), "{name}");
        let inner = packet.ttl(63).bytes();
        assert_eq!(whole(&sent), inner, "{name}");
    }
    let mut lab = lab(tunnel6(220));
    service_v6(&mut lab);
    assert_eq!(lab.one(&rx(&v6(1221))), ["drop-needs-fragmentation"], "IPv6 is told");
    let told = icmp(2, 0).rest(1280).quoting_first(1232, &v6(1221));
    let told = ip(VIP6, CLIENT6).with(told);
    assert_eq!(lab.sent(WAN), [told.ether(WAN_MAC, GATEWAY_MAC).bytes()]);
}

/// The same service on an IPv6 address, of the same real server.
fn service_v6(lab: &mut Lab) {
    let id = lab.service(TCP, OTHER_VIP, 80, "rr", &[(1, 1)]);
    let forwarder = lab.snapshot.reals.get(0).expect("the first").forwarder;
    let key = dataplane::services::Key::address(TCP, VIP6.into(), 80);
    lab.snapshot.index.insert(key, id);
    lab.change_real(1, |real| real.forwarder = forwarder);
}

#[test]
#[rustfmt::skip]
fn an_error_about_a_tunnel_goes_to_control_and_to_the_client_inside() {
    let inner = || segment(1, Flags::ACK).df();
    let outer = |inner: Packet| ip(DIP, real_ip(1)).df().with(inner);
    let needed = |mtu| icmp(3, 4).rest(mtu);
    let says = |message| Some(ip(VIP, CLIENT).tos(0xc0).df().with(message));
    let stranger = || segment(2, Flags::ACK).df();
    let cases = [
        ("a narrow path",         needed(1400).quoting(&outer(inner())),                says(needed(1380).quoting(&inner()))),
        ("not believed",          needed(100).quoting(&outer(inner())),                 says(needed(532).quoting(&inner()))),
        ("which none asked for",  needed(1400).quoting(&outer(segment(1, Flags::ACK))), None),
        ("no route",              icmp(3, 0).quoting(&outer(inner())),                  says(icmp(3, 0).quoting(&inner()))),
        ("a loop",                icmp(11, 0).quoting(&outer(inner())),                 says(icmp(11, 0).quoting(&inner()))),
        ("only 8 octets inside",  needed(1400).quoting_first(28, &outer(inner())),      None),
        ("of no connection",      needed(1400).quoting(&outer(stranger())),             None),
        ("another tunnel",        needed(1400).quoting(&ip(DIP, real_ip(9)).with(inner())), None),
    ];
    for (name, message, told) in cases {
        let mut lab = lab(tunnel(0));
        forwarded(&mut lab, &segment(1, Flags::SYN));
        let error = ip(ROUTER, DIP).with(message).ether(real_mac(1), LAN_MAC).bytes();
        lab.give(LAN, &error);
        lab.turn();
        let want: Vec<_> = told.iter().map(|it| it.ether(WAN_MAC, GATEWAY_MAC).bytes()).collect();
        assert_eq!(lab.sent(WAN), want, "{name}");
        let mut got = Vec::new();
        lab.control.receive(10, &mut |punted| got.push((punted.class, punted.bytes.to_vec())));
        assert_eq!(got, [(PuntClass::Tunnel, error)], "{name}");
    }
}

#[test]
#[rustfmt::skip]
fn a_segment_of_no_connection_is_reset_where_that_is_wanted() {
    let ack = Flags::ACK;
    let sent = |flags: Flags| match flags.ack() {
        true => tcp(7, 80).seq(1000).acks(2000).flags(flags),
        false => tcp(7, 80).seq(1000).flags(flags),
    };
    let from = |flags| ip(CLIENT, VIP).with(sent(flags));
    let data = |flags| ip(CLIENT, VIP).with(sent(flags).payload([1; 12]));
    let reset = |seq| Some(tcp(80, 7).seq(seq).rst().window(0));
    let refuse = |acks| Some(tcp(80, 7).seq(0).acks(acks).rst().window(0));
    let cases = [
        ("an ACK: from where it says we are", from(ack),                              reset(2000)),
        ("with data too",                     data(ack),                              reset(2000)),
        ("no ACK: what it sent is told",      data(Flags::default()),                 refuse(1012)),
        ("a FIN counts",                      data(Flags::FIN),                       refuse(1013)),
        ("a RST gets no answer",              from(Flags::RST),                       None),
        ("RST and ACK neither",               from(Flags::RST.and(ack)),              None),
        ("nor does a fragment",               data(ack).fragment(0, true),            None),
        ("nor a broken one",                  ip(CLIENT, VIP).with(tcp(7, 80).ack().bad_checksum()), None),
    ];
    for (name, given, want) in cases {
        let mut lab = self::lab(Forwarder::Dr { hop: HOP });
        lab.set(|settings| settings.tcp_reset = true);
        assert_eq!(lab.one(&rx(&given)), ["drop-no-connection"], "{name}");
        let want = want.map(|tcp| ip(VIP, CLIENT).df().with(tcp).ether(WAN_MAC, GATEWAY_MAC).bytes());
        assert_eq!(lab.sent(WAN), Vec::from_iter(want), "{name}");
        let mut lab = self::lab(Forwarder::Dr { hop: HOP });
        assert_eq!(lab.one(&rx(&given)), ["drop-no-connection"], "{name}");
        assert_eq!(lab.sent(WAN).len(), 0, "{name}: unless it is");
    }
    let mut lab = lab(Forwarder::Dr { hop: HOP });
    service_v6(&mut lab);
    lab.set(|settings| settings.tcp_reset = true);
    lab.one(&rx(&ip(CLIENT6, VIP6).with(tcp(7, 80).acks(5))));
    let want = ip(VIP6, CLIENT6).with(tcp(80, 7).seq(5).rst().window(0));
    assert_eq!(lab.sent(WAN), [want.ether(WAN_MAC, GATEWAY_MAC).bytes()]);
}

#[test]
fn resets_have_a_rate() {
    let mut lab = lab(Forwarder::Dr { hop: HOP });
    lab.set(|settings| settings.tcp_reset = true);
    for _ in 0..200 {
        lab.one(&rx(&segment(1, Flags::ACK)));
    }
    let counters = &lab.counters;
    let counts = [&counters.made, &counters.made_sent, &counters.made_dropped];
    assert_eq!(counts.map(|counter| counter.get()), [200, 100, 100]);
    assert_eq!(
        lab.one(&rx(&ip(CLIENT, VIP).with(udp(1, 80)))),
        ["drop-no-service"]
    );
}
