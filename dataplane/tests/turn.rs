//! A worker's turns: whole frames in, whole frames and counters out.

mod common;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use common::fleet::{Fleet, Mode, Spec, vip};
use common::*;
use dataplane::exchange::Exchange;
use dataplane::fwd::Forwarder;
use dataplane::handover::Handed;
use dataplane::memory::Recycler;
use dataplane::owner::Step;
use dataplane::port::{BURST, Frame, WorkerId};
use dataplane::sched::Kind;
use dataplane::services::marks::Network;
use dataplane::services::{Access, HopId, ServiceId, Standing, Telling, Unmatched};
use dataplane::verdict::{PuntClass, Reason};
use wire::build::{Packet, echo_reply, echo_request, ether, icmp, ip, sctp, tcp, udp};
use wire::tcp::Flags;
use wire::{EtherType, Mac, Protocol};

/// From the gateway to us.
fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(GATEWAY_MAC, WAN_MAC).bytes()
}

/// From us to real server `n`.
fn tx(n: u8, packet: &Packet) -> Vec<u8> {
    packet.ether(LAN_MAC, real_mac(n)).bytes()
}

const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

fn syn(port: u16) -> Packet {
    ip(CLIENT, VIP).with(tcp(port, 80).syn())
}

fn lab(scheduler: &str, reals: &[(u8, u32)]) -> Lab {
    let mut lab = Lab::new();
    lab.service(TCP, VIP, 80, scheduler, reals);
    lab
}

#[test]
fn dr_is_a_new_envelope_one_hop_older() {
    let mut lab = lab("rr", &[(1, 1)]);
    lab.service(UDP, VIP, 53, "rr", &[(2, 1)]);
    let cases = [
        ("TCP", 1, syn(31337).ttl(64), syn(31337).ttl(63)),
        (
            "TCP data",
            1,
            ip(CLIENT, VIP).with(tcp(31337, 80).ack().payload(*b"GET")),
            {
                ip(CLIENT, VIP)
                    .ttl(63)
                    .with(tcp(31337, 80).ack().payload(*b"GET"))
            },
        ),
        (
            "UDP",
            2,
            ip(CLIENT, VIP).with(udp(9, 53)),
            ip(CLIENT, VIP).ttl(63).with(udp(9, 53)),
        ),
        (
            "an absent UDP checksum stays absent",
            2,
            ip(CLIENT, VIP).with(udp(9, 53).unsummed()),
            ip(CLIENT, VIP).ttl(63).with(udp(9, 53).unsummed()),
        ),
        (
            "TOS, DF, id and options stay",
            2,
            ip(CLIENT, VIP)
                .tos(0xb9)
                .df()
                .id(7)
                .options(&[1, 1, 1, 1])
                .with(udp(9, 53)),
            ip(CLIENT, VIP)
                .tos(0xb9)
                .df()
                .id(7)
                .options(&[1, 1, 1, 1])
                .ttl(63)
                .with(udp(9, 53)),
        ),
    ];
    for (name, n, given, want) in cases {
        lab.give(WAN, &rx(&given));
        lab.turn();
        assert_eq!(lab.sent(LAN), [tx(n, &want)], "{name}");
    }
}

#[test]
fn ethernets_padding_is_cut() {
    let mut lab = lab("rr", &[(1, 1)]);
    let padded = syn(1).ether(GATEWAY_MAC, WAN_MAC).padded().bytes();
    assert_eq!(padded.len(), 60);
    assert_eq!(lab.one(&padded), ["transmit"]);
    assert_eq!(lab.sent(LAN), [tx(1, &syn(1).ttl(63))]);
}

/// A full burst goes to its queue as it lies, but not past what waits for that queue.
#[test]
fn a_full_burst_overtakes_nobody() {
    let mut lab = lab("rr", &[(1, 1)]);
    lab.one(&rx(&syn(31337)));
    lab.one(&rx(&ip(CLIENT, VIP).with(tcp(31337, 80).ack())));
    lab.sent(LAN);
    for before in [0, 1, BURST - 1, BURST] {
        let numbers = 0..u8::try_from(before + BURST).expect("a few");
        for n in numbers.clone() {
            let segment = ip(CLIENT, VIP).with(tcp(31337, 80).ack().payload([n]));
            match usize::from(n) < before {
                true => lab.give(WAN, &rx(&segment)),
                false => lab.give(LAN, &segment.ether(GATEWAY_MAC, LAN_MAC).bytes()),
            }
        }
        lab.turn();
        let sent = lab.sent(LAN);
        let last = sent.iter().map(|frame| *frame.last().expect("a payload"));
        assert!(last.eq(numbers), "{before} by the other port before");
    }
}

#[test]
fn one_connection_one_real_server() {
    let mut lab = lab("rr", &[(1, 1), (2, 1)]);
    for _ in 0..3 {
        for port in [1000, 1001] {
            lab.give(WAN, &rx(&syn(port)));
            lab.give(WAN, &rx(&ip(CLIENT, VIP).with(tcp(port, 80).ack())));
        }
    }
    lab.turn();
    let reals: Vec<u8> = lab.sent(LAN).iter().map(|frame| frame[5]).collect();
    assert_eq!(reals, [2, 2, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1]);
    assert_eq!(lab.counters.connections_made.get(), 2);
}

#[test]
fn counts_are_ipvss() {
    let mut lab = lab("rr", &[(1, 1)]);
    let counts = |lab: &Lab| {
        let block = lab.real_block(0);
        (block.active.get(), block.inactive.get())
    };
    #[rustfmt::skip]
    let life: [(&str, Flags, (u32, u32), u32); 3] = [
        ("half open counts as active", Flags::SYN, (1, 0), 60),
        ("established",                Flags::ACK, (1, 0), 900),
        ("closing counts as inactive", Flags::FIN.and(Flags::ACK), (0, 1), 120),
    ];
    for (name, flags, want, seconds) in life {
        lab.one(&rx(&ip(CLIENT, VIP).with(tcp(1, 80).flags(flags))));
        assert_eq!(counts(&lab), want, "{name}");
        let entry = *lab.worker.state().v4.iter().next().expect("the connection");
        assert_eq!(entry.timeout_ms, seconds * 1000, "{name}");
    }
    lab.wait(119_999);
    lab.turn();
    assert_eq!(counts(&lab), (0, 1));
    lab.wait(1001);
    (0..200).for_each(|_| lab.turn());
    assert_eq!(counts(&lab), (0, 0));
    assert_eq!(lab.counters.connections_ended.get(), 1);
    let traffic = &lab.real_block(0).traffic;
    assert_eq!(
        (traffic.connections.get(), traffic.packets_in.get()),
        (1, 3)
    );
    assert_eq!(
        (traffic.bytes_in.get(), traffic.packets_out.get()),
        (120, 0)
    );
    assert_eq!(lab.service_block(0).traffic.bytes_in.get(), 120);
}

#[test]
fn udp_counts_as_inactive_for_300_seconds() {
    let mut lab = Lab::new();
    lab.service(UDP, VIP, 53, "rr", &[(1, 1)]);
    for _ in 0..3 {
        lab.one(&rx(&ip(CLIENT, VIP).with(udp(1, 53))));
    }
    let block = lab.real_block(0);
    assert_eq!((block.active.get(), block.inactive.get()), (0, 1));
    assert_eq!(
        lab.worker.state().v4.iter().next().expect("one").timeout_ms,
        300_000
    );
}

#[test]
fn a_closed_connection_starts_over_with_a_syn() {
    let mut lab = lab("rr", &[(1, 1), (2, 1)]);
    let flags = |flags| rx(&ip(CLIENT, VIP).with(tcp(1, 80).flags(flags)));
    let real = |lab: &mut Lab| lab.sent(LAN).pop().map(|frame| frame[5]);
    lab.one(&flags(Flags::SYN));
    assert_eq!(real(&mut lab), Some(2));
    lab.one(&flags(Flags::ACK));
    lab.one(&flags(Flags::FIN));
    lab.one(&flags(Flags::SYN));
    assert_eq!(real(&mut lab), Some(2), "FIN_WAIT keeps its server");
    lab.one(&flags(Flags::ACK));
    lab.one(&flags(Flags::RST));
    lab.one(&flags(Flags::SYN));
    assert_eq!(real(&mut lab), Some(1), "CLOSE does not");
}

#[test]
fn a_first_segment_needs_a_syn_and_no_rst() {
    let mut lab = lab("rr", &[(1, 1)]);
    #[rustfmt::skip]
    let cases: [(&str, u16, Flags, &str); 7] = [
        ("ACK",         1, Flags::ACK,                      "drop-no-connection"),
        ("RST",         2, Flags::RST,                      "drop-no-connection"),
        ("SYN and RST", 3, Flags::SYN.and(Flags::RST),      "drop-no-connection"),
        ("none",        4, Flags::default(),                "drop-no-connection"),
        ("SYN",         5, Flags::SYN,                      "transmit"),
        ("SYN and ACK", 6, Flags::SYN.and(Flags::ACK),      "transmit"),
        ("SYN and FIN", 7, Flags::SYN.and(Flags::FIN),      "transmit"),
    ];
    for (name, port, flags, want) in cases {
        let frame = rx(&ip(CLIENT, VIP).with(tcp(port, 80).flags(flags)));
        assert_eq!(lab.one(&frame), [want], "{name}");
    }
    assert_eq!(
        lab.one(&rx(&syn(20))),
        ["drop-no-service"],
        "port 20 is never scheduled"
    );
}

/// What comes, and the counter it ends in, and what is answered: the table of DESIGN.
#[test]
fn every_frame_has_its_verdict() {
    let mut seen = BTreeSet::new();
    for (name, frame, want) in frames() {
        let mut lab = verdict_lab();
        let counted = lab.one(&frame);
        assert_eq!(counted, [want], "{name}");
        seen.insert(want);
    }
    seen.extend(special_cases());
    seen.extend(between_families());
    let all = Reason::ALL.iter().map(|reason| reason.name());
    let all = all.chain(PuntClass::ALL.iter().map(|class| class.name()));
    // Reached by tests of their own.
    let all = all.filter(|name| !name.starts_with("drop-fragment-"));
    let missing: Vec<_> = all.filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no row reaches {missing:?}");
}

/// A service with one real server, one with none, a VIP that is not held, and one each for
/// the other rules.
fn verdict_lab() -> Lab {
    let mut lab = lab("rr", &[(1, 1)]);
    lab.service(TCP, VIP, 81, "rr", &[(2, 0)]);
    lab.service(TCP, OTHER_VIP, 80, "rr", &[(3, 1)]);
    lab.vip(OTHER_VIP, false, Unmatched::Drop);
    lab.vip(Ipv4Addr::new(10, 0, 0, 3), true, Unmatched::Kernel);
    lab.vip(Ipv4Addr::new(10, 0, 0, 4), true, Unmatched::Reject);
    lab
}

#[rustfmt::skip]
fn frames() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let ip4 = |bytes: Vec<u8>| ether(GATEWAY_MAC, WAN_MAC).raw(EtherType::IPV4, bytes).bytes();
    let edit = |at: usize, value: u8| { let mut bytes = syn(1).bytes(); bytes[at] = value; ip4(bytes) };
    let from = |source: [u8; 4]| rx(&ip(source, VIP).with(tcp(1, 80).syn()));
    let to_dip = |packet: Packet| rx(&packet);
    let vip3 = Ipv4Addr::new(10, 0, 0, 3);
    let vip4 = Ipv4Addr::new(10, 0, 0, 4);
    vec![
        ("a flooded frame",        syn(1).ether(GATEWAY_MAC, Mac([2, 9, 9, 9, 9, 9])).bytes(), "drop-not-our-mac"),
        ("a group not joined",     syn(1).ether(GATEWAY_MAC, Mac([1, 0, 0x5e, 1, 1, 1])).bytes(), "drop-not-our-mac"),
        ("thirteen octets",        vec![0; 13],                                            "drop-short-frame"),
        ("a tag",                  syn(1).ether(GATEWAY_MAC, WAN_MAC).vlan(5).bytes(),      "drop-vlan"),
        ("larger than the MTU",    rx(&ip(CLIENT, VIP).with(tcp(1, 80).syn().payload(vec![0; 1461]))), "drop-oversize"),
        ("version 5",              edit(0, 0x55),                                          "drop-bad-version"),
        ("nineteen octets",        ip4(vec![0x45; 19]),                                    "drop-short-header"),
        ("IHL 4",                  edit(0, 0x44),                                          "drop-bad-ihl"),
        ("total length 19",        edit(3, 19),                                            "drop-short-length"),
        ("total length 41 of 40",  edit(3, 41),                                            "drop-bad-length"),
        ("a flipped TTL",          edit(8, 1),                                             "drop-bad-checksum"),
        ("TCP of 19 octets",       rx(&ip(CLIENT, VIP).raw(Protocol::TCP, vec![0; 19])),   "drop-short-transport"),
        ("UDP of 7 octets",        rx(&ip(CLIENT, VIP).raw(Protocol::UDP, vec![0; 7])),    "drop-short-transport"),
        ("from loopback",          from([127, 0, 0, 1]),                                   "drop-bad-source"),
        ("from a group",           from([224, 0, 0, 1]),                                   "drop-bad-source"),
        ("from everybody",         from([255, 255, 255, 255]),                             "drop-bad-source"),
        ("IPv6, from loopback",    rx(&ip(Ipv6Addr::LOCALHOST, VIP6).with(tcp(1, 80).syn())), "drop-bad-source"),
        ("IPv6, from a group",     rx(&ip([0xff02u16, 0, 0, 0, 0, 0, 0, 1], VIP6).with(tcp(1, 80).syn())), "drop-bad-source"),
        ("an endless chain",       rx(&ip(CLIENT6, VIP6).raw(Protocol::HOP_BY_HOP, vec![0, 9])), "drop-header-chain"),
        ("IPv6, another port",     rx(&ip(CLIENT6, VIP6).with(tcp(1, 80).syn())),          "punt-other"),
        ("somebody else's VIP",    rx(&ip(CLIENT, OTHER_VIP).with(tcp(1, 80).syn())),      "drop-vip-not-held"),
        ("echo to it",             rx(&ip(CLIENT, OTHER_VIP).with(echo_request(1, 1))),    "drop-vip-not-held"),
        ("another port",           rx(&ip(CLIENT, VIP).with(tcp(1, 82).syn())),            "drop-no-service"),
        ("another protocol",       rx(&ip(CLIENT, VIP).with(udp(1, 80))),                  "drop-no-service"),
        ("a rejected port",        rx(&ip(CLIENT, vip4).with(udp(1, 80))),                 "drop-no-service"),
        ("ICMP that is no echo",   rx(&ip(CLIENT, VIP).with(echo_reply(1, 1))),            "drop-no-service"),
        ("nobody left",            rx(&ip(CLIENT, VIP).with(tcp(1, 81).syn())),            "drop-no-real"),
        ("mid-stream",             rx(&ip(CLIENT, VIP).with(tcp(1, 80).ack())),            "drop-no-connection"),
        ("TTL 1",                  rx(&syn(1).ttl(1)),                                     "drop-ttl-exceeded"),
        ("echo",                   rx(&ip(CLIENT, VIP).with(echo_request(1, 1))),          "transmit"),
        ("a SYN",                  rx(&syn(1)),                                            "transmit"),
        ("ARP",                    ether(GATEWAY_MAC, Mac::BROADCAST).raw(EtherType::ARP, vec![0; 28]).bytes(), "punt-neighbour"),
        ("VRRP",                   ip(CLIENT, [224, 0, 0, 18]).raw(Protocol::VRRP, vec![0; 20]).ether(GATEWAY_MAC, GROUP).bytes(), "punt-vrrp"),
        ("OSPF to us",             to_dip(ip(CLIENT, DIP).raw(Protocol::OSPF, vec![0; 20])), "punt-routing"),
        ("BGP to us",              to_dip(ip(CLIENT, DIP).with(tcp(40000, 179).syn())),    "punt-routing"),
        ("BFD to us",              to_dip(ip(CLIENT, DIP).with(udp(40000, 3784))),         "punt-routing"),
        ("ssh to us",              to_dip(ip(CLIENT, DIP).with(tcp(40000, 22).syn())),     "punt-local"),
        ("echo to us",             to_dip(ip(CLIENT, DIP).with(echo_request(1, 1))),       "punt-local"),
        ("a VIP's other traffic",  rx(&ip(CLIENT, vip3).with(tcp(1, 22).syn())),           "punt-unmatched"),
        ("and its ICMP",           rx(&ip(CLIENT, vip3).with(icmp(3, 1))),                 "punt-unmatched"),
        ("somebody's address",     rx(&ip(CLIENT, [198, 51, 100, 1]).with(tcp(1, 80).syn())), "punt-other"),
        ("broadcast",              ip(CLIENT, VIP).with(udp(1, 80)).ether(GATEWAY_MAC, Mac::BROADCAST).bytes(), "punt-other"),
        ("a tunnel's error",       to_dip(ip(CLIENT, DIP).with(icmp(3, 4).rest(1400).quoting(&ip(DIP, real_ip(1)).with(syn(1))))), "punt-tunnel"),
        ("LLDP to us",             ether(GATEWAY_MAC, WAN_MAC).raw(EtherType(0x88cc), vec![0; 40]).bytes(), "punt-other"),
    ]
}

/// Reasons that need more than one frame to come about.
/// What an IPv6 client's packet ends in on its way to an IPv4 real server.
fn between_families() -> Vec<&'static str> {
    let to_vip = || ip(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7), vip(0, true));
    let data = || udp(9, 53).payload([1; 8]);
    let routed = to_vip().extension(Protocol::ROUTING, &[0, 1, 0, 0, 0, 0]);
    let sealed = to_vip().extension(Protocol::AH, &[0; 22]);
    let rows = [
        (routed.with(data()), "drop-source-route"),
        (to_vip().with(data().unsummed()), "drop-no-udp-checksum"),
        (sealed.with(data()), "drop-untranslatable"),
    ];
    for (packet, want) in &rows {
        let spec = Spec::new(true, UDP, Kind::Rr, &[(1, Mode::Nat64)]);
        let mut fleet = Fleet::new(1, vec![spec]);
        fleet.give(0, WAN, &rx(packet));
        fleet.drain();
        assert_eq!(fleet.drops(), [(*want, 1)]);
    }
    rows.map(|(_, want)| want).to_vec()
}

fn special_cases() -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut expect = |counted: Vec<&'static str>, want: &'static str| {
        assert_eq!(counted, [want]);
        seen.push(want);
    };
    let mut lab = verdict_lab();
    lab.one(&rx(&syn(1)));
    lab.change_real(0, |real| real.standing = Standing::Removed);
    expect(lab.one(&rx(&syn(1))), "drop-real-removed");

    let standing = Standing::Watched;
    let net = Network::new([203, 0, 113, 0].into(), 0);
    for (access, want) in [
        (Access::new([net], []), "drop-blocked"),
        (
            Access::new([], [Network::new(DIP.into(), 32)]),
            "drop-not-allowed",
        ),
    ] {
        let mut listed = verdict_lab();
        listed.change_service(ServiceId(0), |service| service.asks.access = access);
        expect(listed.one(&rx(&syn(1))), want);
    }
    let mut ending = verdict_lab();
    ending.one(&rx(&syn(1)));
    ending.change_service(ServiceId(0), |service| service.asks.expire_quiescent = true);
    ending.change_real(0, |real| (real.quiescent, real.standing) = (true, standing));
    let ack = rx(&ip(CLIENT, VIP).with(tcp(1, 80).ack()));
    expect(ending.one(&ack), "drop-quiescent");

    let mut full = Lab::with_connections(1);
    full.service(TCP, VIP, 80, "rr", &[(1, 1)]);
    full.one(&rx(&syn(1)));
    full.one(&rx(&ip(CLIENT, VIP).with(tcp(1, 80).ack())));
    expect(full.one(&rx(&syn(2))), "drop-table-full");

    let mut defended = verdict_lab();
    defended.set(|settings| settings.drop_packet = std::num::NonZeroU16::new(2));
    expect(defended.one(&rx(&syn(1))), "drop-defence");

    let mut unresolved = verdict_lab();
    let hop = *unresolved.snapshot.hops.get(1).expect("real server 1");
    unresolved.snapshot.hops.set(1, hop.with_destination(None));
    unresolved.publish();
    expect(unresolved.one(&rx(&syn(1))), "drop-no-route");
    let real = std::net::IpAddr::from([10, 1, 0, 1]);
    unresolved.snapshot.next_hops.set(1, real);
    unresolved.publish();
    expect(unresolved.one(&rx(&syn(1))), "punt-unresolved");
    let mut waiting = Vec::new();
    unresolved.control.receive(10, &mut |arrived| {
        waiting.push((arrived.next, arrived.bytes.to_vec()));
    });
    let rewritten = syn(1).ttl(63).ether(LAN_MAC, Mac([0; 6])).bytes();
    assert_eq!(waiting, [(Some((LAN, real)), rewritten)]);
    unresolved.snapshot.hops.clear(1);
    unresolved.publish();
    expect(unresolved.one(&rx(&syn(1))), "drop-no-neighbour");

    let mut narrow = verdict_lab();
    let mut ports = narrow.snapshot.ports.to_vec();
    ports[1].mtu = 1400;
    narrow.snapshot.ports = ports.into();
    narrow.publish();
    let large = |df: bool| {
        let packet = ip(CLIENT, VIP).with(tcp(1, 80).syn().payload(vec![0; 1400]));
        rx(&if df { packet.df() } else { packet })
    };
    expect(narrow.one(&large(true)), "drop-needs-fragmentation");
    assert_eq!(narrow.one(&large(false)), ["transmit"], "cut, see below");
    let mut ports = narrow.snapshot.ports.to_vec();
    ports[1].mtu = 27;
    narrow.snapshot.ports = ports.into();
    narrow.publish();
    expect(narrow.one(&large(false)), "drop-cannot-fragment");

    let mut slow = verdict_lab();
    slow.worker.port_mut(LAN).expect("lan").limit(0);
    expect(slow.one(&rx(&syn(1))), "drop-tx-full");

    let mut nowhere = verdict_lab();
    let hop = HopId(1);
    nowhere.change_real(0, |real| real.forwarder = Forwarder::FullNat { hop });
    expect(nowhere.one(&rx(&syn(1))), "drop-no-local-port");
    nowhere.change_real(0, |real| real.forwarder = Forwarder::Nat { hop });
    nowhere.one(&rx(&syn(1)));
    let reply = ip(real_ip(1), CLIENT).with(tcp(80, 1).syn().ack());
    expect(nowhere.one(&rx(&reply)), "drop-no-route");

    let mut told = verdict_lab();
    told.change_real(0, |real| real.forwarder = Forwarder::FullNat { hop });
    told.change_service(ServiceId(0), |service| {
        service.locals = [std::net::IpAddr::from([10, 1, 0, 250])]
            .into_iter()
            .collect();
        service.telling = Telling::Proxy {
            version: wire::proxy::Version::V2,
            insecure: false,
        };
    });
    told.one(&rx(&ip(CLIENT, VIP).with(tcp(1, 80).syn().seq(7))));
    let second = tcp(1, 80).seq(9).acks(1).payload("later");
    expect(
        told.one(&rx(&ip(CLIENT, VIP).with(second))),
        "drop-unplaced",
    );

    let mut parted = verdict_lab();
    parted.service(SCTP, VIP, 80, "rr", &[(1, 1)]);
    let slot = parted
        .snapshot
        .services
        .get(parted.snapshot.index.len() - 1);
    let real = slot.expect("the newest service").candidates[0].real.0;
    parted.change_real(real, |real| real.forwarder = Forwarder::Nat { hop });
    let init = ip(CLIENT, VIP).with(sctp(1, 80).chunk(1, &[0; 600]));
    expect(
        parted.one(&rx(&init.fragments(512)[0])),
        "drop-sctp-fragment",
    );

    seen.extend(between_workers());
    seen.extend(punt_limits());
    seen.extend(injection_to_nowhere());
    seen
}

/// The first of two workers, and the second one's end of the rings in our hands.
fn between_workers() -> [&'static str; 2] {
    let mut lab = Lab::among(2, 1024);
    lab.service(TCP, VIP, 80, "rr", &[(1, 1)]);
    let strangers = |lab: &mut Lab| (1..).find(|&port| lab.one(&rx(&syn(port))).is_empty());
    let port = strangers(&mut lab).expect("half of all flows are the second worker's");
    let handed = Handed {
        frame: Recycler::default().fill(&rx(&syn(port))),
        port: WAN,
        step: Step {
            hops: u8::MAX,
            ..Step::default()
        },
        generation: 0,
        gathered: None,
    };
    lab.others[0].hand(WorkerId(0), handed);
    lab.others[0].flush();
    lab.turn();
    assert_eq!(lab.counters.drop[Reason::Astray as usize].get(), 1);

    let mut counted = Vec::new();
    while counted.is_empty() {
        counted = lab.one(&rx(&syn(port)));
        assert!(lab.counters.rx.get() < 10_000, "the ring is bounded");
    }
    assert_eq!(counted, ["drop-hand-over-full"]);
    ["drop-astray", "drop-hand-over-full"]
}

fn punt_limits() -> [&'static str; 2] {
    let to_dip = rx(&ip(CLIENT, DIP).with(udp(1, 9)));
    let mut lab = verdict_lab();
    let mut counted = Vec::new();
    while counted != ["drop-punt-full"] {
        counted = lab.one(&to_dip);
        lab.wait(1);
        assert!(lab.counters.rx.get() < 10_000, "the ring is bounded");
    }
    let mut lab = verdict_lab();
    while counted != ["drop-punt-limit"] {
        counted = lab.one(&rx(&ip(CLIENT, [198, 51, 100, 1]).with(udp(1, 9))));
        assert!(lab.counters.rx.get() < 10_000, "the bucket is bounded");
    }
    ["drop-punt-full", "drop-punt-limit"]
}

fn injection_to_nowhere() -> [&'static str; 1] {
    let mut lab = verdict_lab();
    lab.control
        .send(dataplane::port::PortId(7), &[0; 60])
        .expect("room in the ring");
    lab.turn();
    assert_eq!(lab.counters.drop[Reason::NoPort as usize].get(), 1);
    ["drop-no-port"]
}

#[test]
fn what_is_refused_is_told() {
    let back = |kind: u8, code: u8, rest: u32, about: &Packet| {
        let message = icmp(kind, code).rest(rest).quoting(about);
        ip(VIP, CLIENT)
            .tos(0xc0)
            .df()
            .with(message)
            .ether(WAN_MAC, GATEWAY_MAC)
            .bytes()
    };
    let mut lab = verdict_lab();
    let old = syn(1).ttl(1);
    lab.one(&rx(&old));
    assert_eq!(lab.sent(WAN), [back(11, 0, 0, &old)]);
    assert_eq!(
        lab.counters.connections_made.get(),
        1,
        "it still opens a connection"
    );

    let nobody = ip(CLIENT, VIP).with(tcp(1, 81).syn());
    lab.one(&rx(&nobody));
    assert_eq!(
        lab.sent(WAN),
        [back(3, 3, 0, &nobody)],
        "TCP too, and never a RST"
    );

    let mut ports = lab.snapshot.ports.to_vec();
    ports[1].mtu = 1400;
    lab.snapshot.ports = ports.into();
    lab.publish();
    let large = ip(CLIENT, VIP)
        .df()
        .with(tcp(2, 80).syn().payload(vec![7; 1400]));
    lab.one(&rx(&large));
    let sent = lab.sent(WAN);
    assert_eq!(sent[0].len(), 14 + 576, "no more than 576 octets");
    assert_eq!(
        sent[0][34..42],
        [3, 4, sent[0][36], sent[0][37], 0, 0, 5, 120],
        "MTU 1400"
    );
    assert_eq!(lab.counters.made_sent.get(), 3);
}

#[test]
fn what_is_too_large_and_may_be_cut_goes_in_pieces() {
    let mut lab = verdict_lab();
    let mut ports = lab.snapshot.ports.to_vec();
    ports[1].mtu = 600;
    lab.snapshot.ports = ports.into();
    lab.publish();
    let large = ip(CLIENT, VIP)
        .id(5)
        .with(tcp(1, 80).syn().payload(vec![7; 1300]));
    assert_eq!(lab.one(&rx(&large)), ["transmit"]);
    let pieces = large.ttl(63).fragments(600);
    let want: Vec<_> = pieces.iter().map(|piece| tx(1, piece)).collect();
    assert_eq!(lab.sent(LAN), want);
    assert_eq!(
        (lab.counters.transmit.get(), lab.counters.made_sent.get()),
        (1, 2)
    );
}

#[test]
fn an_echo_is_answered_in_place() {
    let mut lab = verdict_lab();
    let ask = ip(CLIENT, VIP)
        .ttl(9)
        .id(77)
        .with(echo_request(5, 6).payload(*b"are you there?"));
    assert_eq!(lab.one(&rx(&ask)), ["transmit"]);
    let answer = ip(VIP, CLIENT)
        .id(77)
        .with(echo_reply(5, 6).payload(*b"are you there?"));
    assert_eq!(lab.sent(WAN), [answer.ether(WAN_MAC, GATEWAY_MAC).bytes()]);
    let damaged = ip(CLIENT, VIP).with(echo_request(5, 6).bad_checksum());
    assert_eq!(lab.one(&rx(&damaged)), ["drop-no-service"]);
}

#[test]
fn control_gets_what_is_punted_and_sends_what_it_likes() {
    let mut lab = verdict_lab();
    let ssh = rx(&ip(CLIENT, DIP).with(tcp(40000, 22).syn()));
    lab.one(&ssh);
    let mut got = Vec::new();
    lab.control.receive(10, &mut |arrived| {
        got.push((arrived.port, arrived.class, arrived.bytes.to_vec()))
    });
    assert_eq!(got, [(WAN, PuntClass::Local, ssh)]);
    lab.control.send(LAN, &[9; 60]).expect("room in the ring");
    lab.turn();
    assert_eq!(lab.sent(LAN), [vec![9; 60]]);
    assert_eq!(lab.counters.injected.get(), 1);
}

#[test]
fn bursts_of_any_size_give_the_same_bytes() {
    let frames: Vec<_> = (0..64u16).map(|n| rx(&syn(n % 7))).collect();
    let run = |burst: usize| {
        let mut lab = lab("wrr", &[(1, 3), (2, 1)]);
        let mut sent = Vec::new();
        for chunk in frames.chunks(burst) {
            chunk.iter().for_each(|frame| lab.give(WAN, frame));
            lab.turn();
            sent.extend(lab.sent(LAN));
        }
        sent
    };
    assert_eq!(run(1), run(32));
}

#[test]
fn a_full_transmit_queue_is_counted() {
    let mut lab = lab("rr", &[(1, 1)]);
    lab.worker.port_mut(LAN).expect("lan").limit(20);
    (0..32).for_each(|port| lab.give(WAN, &rx(&syn(port + 100))));
    lab.turn();
    assert_eq!(lab.counters.transmit.get(), 20);
    assert_eq!(lab.counters.drop[Reason::TxFull as usize].get(), 12);
    assert_eq!(lab.counters.transmit_bytes.get(), 20 * 54);
}

#[test]
fn a_full_transmit_queue_is_counted_of_established_connections_too() {
    let by = |mac, payload: usize| {
        let segment = tcp(1000, 80).ack().payload(vec![7; payload]);
        ip(CLIENT, VIP).with(segment).ether(GATEWAY_MAC, mac)
    };
    for (first, second, room) in [(32, 0, 20), (20, 20, 30), (20, 20, 10), (32, 32, 40)] {
        let mut lab = lab("rr", &[(1, 1)]);
        lab.give(WAN, &rx(&syn(1000)));
        lab.give(WAN, &by(WAN_MAC, 0).bytes());
        lab.turn();
        assert_eq!(lab.sent(LAN).len(), 2);
        let before = lab.counters.transmit_bytes.get();
        lab.worker.port_mut(LAN).expect("lan").limit(room);
        (0..first).for_each(|n| lab.give(WAN, &by(WAN_MAC, n).padded().bytes()));
        (0..second).for_each(|n| lab.give(LAN, &by(LAN_MAC, n).padded().bytes()));
        lab.turn();
        let sent = lab.sent(LAN);
        let octets: Vec<_> = (0..first).chain(0..second).map(|n| 54 + n).collect();
        let got: Vec<_> = sent.iter().map(Vec::len).collect();
        assert_eq!(got, octets[..room]);
        let refused = lab.counters.drop[Reason::TxFull as usize].get();
        assert_eq!(usize::try_from(refused), Ok(first + second - room));
        let counted = lab.counters.transmit_bytes.get() - before;
        assert_eq!(usize::try_from(counted), Ok(got.iter().sum()));
    }
}

#[test]
fn a_frame_beyond_one_buffer_is_oversize() {
    let mut lab = lab("rr", &[(1, 1)]);
    let mut frame = dataplane::memory::Recycler::default().fill(&rx(&syn(1)));
    frame.flags = dataplane::port::RxFlags(dataplane::port::RxFlags::SEGMENTED);
    assert!(!frame.bytes().is_empty());
    lab.worker.port_mut(WAN).expect("wan").give_frame(frame);
    lab.turn();
    assert_eq!(lab.counters.drop[Reason::Oversize as usize].get(), 1);
}
