//! VLAN ports: tagged frames in, tagged frames out, by one device. Clients are in VLAN 10, real
//! servers in VLAN 20 ([`Lab::of_vlans`]); whole frames, tags and all, are compared.

mod common;

use std::net::{IpAddr, Ipv4Addr};

use common::*;
use dataplane::exchange::Exchange;
use dataplane::fwd::{Envelope, Forwarder, Tunnel};
use dataplane::memory::Recycler;
use dataplane::port::{PortId, RxFlags};
use dataplane::services::{Hop, HopId, Route, Routes, Target};
use dataplane::verdict::{PuntClass, Reason};
use wire::build::{Packet, echo_reply, echo_request, ether, icmp, ip, tcp, udp};
use wire::ipv4::Between;
use wire::tcp::Flags;
use wire::{EtherType, Mac};

const HOP: HopId = HopId(1);
const GATEWAY: HopId = HopId(99);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 254);

fn syn(port: u16) -> Packet {
    ip(CLIENT, VIP).with(tcp(port, 80).syn())
}

/// From the gateway to us, in VLAN 10.
fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(GATEWAY_MAC, WAN_MAC).vlan(10).bytes()
}

/// From us to whoever has this MAC, in VLAN 10.
fn back(packet: &Packet, mac: Mac) -> Vec<u8> {
    packet.ether(WAN_MAC, mac).vlan(10).bytes()
}

/// From us to real server 1, in VLAN 20.
fn tx(packet: &Packet) -> Vec<u8> {
    packet.ether(TWENTY_MAC, real_mac(1)).vlan(20).bytes()
}

/// From real server 1 to us, in VLAN 20.
fn from_real(packet: &Packet) -> Vec<u8> {
    packet.ether(real_mac(1), TWENTY_MAC).vlan(20).bytes()
}

/// One service with one real server in VLAN 20, reached so; a gateway to everywhere in VLAN 10.
fn lab(mode: Forwarder) -> Lab {
    let mut lab = Lab::of_vlans();
    lab.service(TCP, VIP, 80, "rr", &[(1, 1)]);
    lab.service(UDP, VIP, 53, "rr", &[(1, 1)]);
    let hop = |port, source, mac| Hop::new(port, source, Some(mac));
    lab.snapshot
        .hops
        .set(HOP.0, hop(TWENTY, TWENTY_MAC, real_mac(1)));
    lab.snapshot
        .hops
        .set(GATEWAY.0, hop(TEN, WAN_MAC, GATEWAY_MAC));
    let everywhere = Route {
        network: [0, 0, 0, 0].into(),
        length: 0,
        target: Target::Via([GATEWAY].into()),
    };
    lab.snapshot.routes = Routes::new(&[everywhere], Vec::new());
    lab.change_real(0, |real| real.forwarder = mode);
    lab
}

fn dr() -> Lab {
    lab(Forwarder::Dr { hop: HOP })
}

/// Makes VLAN 20 as narrow as this.
fn narrow(lab: &mut Lab, mtu: u16) {
    let mut ports = lab.snapshot.ports.to_vec();
    ports[usize::from(TWENTY.0)].mtu = mtu;
    lab.snapshot.ports = ports.into();
    lab.publish();
}

#[test]
#[rustfmt::skip]
fn every_tag_has_its_verdict() {
    let to = |mac| syn(1).ether(GATEWAY_MAC, mac);
    let forwarded = tx(&syn(1).ttl(63));
    let arp = ether(GATEWAY_MAC, Mac::BROADCAST).raw(EtherType::ARP, vec![0; 28]);
    let nobody = ip(CLIENT, VIP).with(tcp(1, 81).syn()).ether(GATEWAY_MAC, WAN_MAC);
    let large = ip(CLIENT, VIP).with(tcp(1, 80).syn().payload(vec![0; 1461]));
    let cases = [
        ("VLAN 10",                       to(WAN_MAC).vlan(10).bytes(),                    "transmit"),
        ("with a priority, drop eligible",to(WAN_MAC).vlan(0xf00a).bytes(),                "transmit"),
        ("by VLAN 20, to its MAC",        to(TWENTY_MAC).vlan(20).bytes(),                 "transmit"),
        ("no tag",                        to(WAN_MAC).bytes(),                             "transmit"),
        ("a priority alone",              to(WAN_MAC).vlan(0xe000).bytes(),                "transmit"),
        ("by VLAN 20, to another's MAC",  to(WAN_MAC).vlan(20).bytes(),                    "drop-not-our-mac"),
        ("by VLAN 10, to another's MAC",  to(TWENTY_MAC).vlan(10).bytes(),                 "drop-not-our-mac"),
        ("no tag, to a VLAN's MAC",       to(TWENTY_MAC).bytes(),                          "drop-not-our-mac"),
        ("a VLAN without a port",         to(WAN_MAC).vlan(11).bytes(),                    "drop-vlan"),
        ("the reserved one",              to(WAN_MAC).vlan(0xfff).bytes(),                 "drop-vlan"),
        ("two tags",                      to(WAN_MAC).vlan(10).vlan(20).bytes(),           "drop-vlan"),
        ("a priority, then a VLAN",       to(WAN_MAC).vlan(0).vlan(10).bytes(),            "drop-vlan"),
        ("a provider's tag",              to(WAN_MAC).tag(EtherType::QINQ, 10).bytes(),    "drop-vlan"),
        ("a provider's, then ours",       to(WAN_MAC).tag(EtherType::QINQ, 1).vlan(10).bytes(), "drop-vlan"),
        ("ours, then a provider's",       to(WAN_MAC).vlan(10).tag(EtherType::QINQ, 1).bytes(), "drop-vlan"),
        ("cut inside its tag",            to(WAN_MAC).vlan(10).bytes()[..17].to_vec(),     "drop-vlan"),
        ("nothing behind its tag",        to(WAN_MAC).vlan(10).bytes()[..18].to_vec(),     "drop-short-header"),
        ("another port",                  nobody.vlan(10).bytes(),                         "drop-no-service"),
        ("larger than the VLAN's MTU",    rx(&large),                                      "drop-oversize"),
        ("ARP",                           arp.vlan(20).bytes(),                            "punt-neighbour"),
        ("to the director",               rx(&ip(CLIENT, DIP).with(tcp(1, 22).syn())),     "punt-local"),
    ];
    for (name, frame, want) in cases {
        let mut lab = dr();
        assert_eq!(lab.one(&frame), [want], "{name}");
        let sent = if want == "transmit" { vec![forwarded.clone()] } else { vec![] };
        assert_eq!(lab.sent(WAN), sent, "{name}");
        assert_eq!(lab.sent(LAN), [[0; 0]; 0], "{name}");
    }
}

#[test]
fn another_ports_frames_have_no_tags() {
    let mut lab = dr();
    for tag in [0, 10] {
        lab.give(LAN, &syn(1).ether(GATEWAY_MAC, LAN_MAC).vlan(tag).bytes());
    }
    lab.turn();
    assert_eq!(lab.counters.drop[Reason::Vlan as usize].get(), 2);
}

#[test]
fn a_device_may_have_taken_the_tag() {
    let bytes = syn(1).ether(GATEWAY_MAC, WAN_MAC);
    let twice = bytes.clone().vlan(10).bytes();
    let bytes = bytes.bytes();
    let cases = [
        ("ours", 0xe00a, &bytes, "transmit"),
        ("a priority", 0x2000, &bytes, "transmit"),
        ("nobody's", 11, &bytes, "drop-vlan"),
        ("one of two", 10, &twice, "drop-vlan"),
    ];
    for (name, tci, bytes, want) in cases {
        let mut lab = dr();
        let mut frame = Recycler::default().fill(bytes);
        (frame.flags, frame.tci) = (RxFlags(RxFlags::VLAN_STRIPPED), tci);
        lab.worker.port_mut(WAN).expect("wan").give_frame(frame);
        lab.turn();
        let counted = lab.counters.named().find(|(name, _)| *name == want);
        assert_eq!(counted, Some((want, 1)), "{name}");
        let sent = lab.sent(WAN);
        assert!(sent.iter().all(|sent| *sent == tx(&syn(1).ttl(63))));
        assert_eq!(sent.len(), usize::from(want == "transmit"), "{name}");
    }
}

#[test]
fn a_burst_is_sorted_in_its_order() {
    let mut lab = dr();
    let plain = |port| syn(port).ether(GATEWAY_MAC, WAN_MAC);
    let frames: Vec<_> = (100..124u16)
        .map(|n| match n % 4 {
            0 => plain(n).bytes(),
            1 => plain(n).vlan(10).bytes(),
            2 => plain(n).vlan(12).bytes(),
            _ => syn(n).ether(GATEWAY_MAC, TWENTY_MAC).vlan(20).bytes(),
        })
        .collect();
    frames.iter().for_each(|frame| lab.give(WAN, frame));
    lab.turn();
    let want = (100..124)
        .filter(|n| n % 4 != 2)
        .map(|n| tx(&syn(n).ttl(63)));
    assert_eq!(lab.sent(WAN), want.collect::<Vec<_>>());
    assert_eq!(lab.counters.drop[Reason::Vlan as usize].get(), 6);
    let received: usize = frames.iter().map(Vec::len).sum();
    assert_eq!(
        lab.counters.rx_bytes.get(),
        received as u64,
        "tags are octets"
    );
    assert_eq!(lab.counters.transmit_bytes.get(), 18 * 58);
    let count = |port: PortId| {
        let block = lab.snapshot.blocks[0].ports.get(port.0.into());
        let block = block.expect("grown");
        let counters = [&block.rx, &block.rx_bytes, &block.tx, &block.tx_bytes];
        counters.map(|counter| counter.get())
    };
    let name = "a VLAN's own frames, without tags";
    assert_eq!(count(WAN), [0; 4], "its device counts");
    assert_eq!(count(TEN), [6, 6 * 54, 0, 0], "{name}");
    assert_eq!(count(TWENTY), [6, 6 * 54, 18, 18 * 54], "{name}");
}

#[test]
fn nat_goes_there_and_back() {
    let (first, second) = (Mac([2, 7, 0, 0, 0, 1]), Mac([2, 7, 0, 0, 0, 2]));
    let client = |mac, flags| {
        let segment = ip(CLIENT, VIP).with(tcp(1, 80).flags(flags));
        segment.ether(mac, WAN_MAC).vlan(10).bytes()
    };
    let reply = ip(real_ip(1), CLIENT).with(tcp(80, 1).syn().ack());
    let answered = ip(VIP, CLIENT).ttl(63).with(tcp(80, 1).syn().ack());
    let mut lab = lab(Forwarder::Nat { hop: HOP });
    for (mac, flags) in [(first, Flags::SYN), (second, Flags::ACK)] {
        lab.give(WAN, &client(mac, flags));
        lab.turn();
        let there = ip(CLIENT, real_ip(1)).ttl(63);
        let there = there.with(tcp(1, 80).flags(flags));
        assert_eq!(lab.sent(WAN), [tx(&there)]);
        lab.give(WAN, &from_real(&reply));
        lab.turn();
        let name = "to whoever sent, in his VLAN";
        assert_eq!(lab.sent(WAN), [back(&answered, mac)], "{name}");
    }
}

#[test]
fn what_is_refused_is_told_in_the_clients_vlan() {
    let told = |kind, code, rest, about: &Packet| {
        let message = icmp(kind, code).rest(rest).quoting(about);
        back(&ip(VIP, CLIENT).tos(0xc0).df().with(message), GATEWAY_MAC)
    };
    let mut lab = dr();
    let old = syn(1).ttl(1);
    assert_eq!(lab.one(&rx(&old)), ["drop-ttl-exceeded"]);
    assert_eq!(lab.sent(WAN), [told(11, 0, 0, &old)]);

    lab.service(TCP, VIP, 82, "rr", &[]);
    let nobody = ip(CLIENT, VIP).with(tcp(1, 82).syn());
    assert_eq!(lab.one(&rx(&nobody)), ["drop-no-real"]);
    assert_eq!(lab.sent(WAN), [told(3, 3, 0, &nobody)]);

    narrow(&mut lab, 100);
    let large = ip(CLIENT, VIP).df();
    let large = large.with(tcp(2, 80).syn().payload(vec![7; 61]));
    assert_eq!(lab.one(&rx(&large)), ["drop-needs-fragmentation"]);
    assert_eq!(lab.sent(WAN), [told(3, 4, 100, &large)], "the VLAN's MTU");

    lab.set(|settings| settings.tcp_reset = true);
    let stray = ip(CLIENT, VIP).with(tcp(3, 80).ack());
    assert_eq!(lab.one(&rx(&stray)), ["drop-no-connection"]);
    let reset = &lab.sent(WAN)[0];
    let head = back(&ip(VIP, CLIENT).with(tcp(80, 3)), GATEWAY_MAC);
    assert_eq!(reset[..18], head[..18]);
    assert_eq!(reset[18 + 33] & 0x3f, 0x04, "RST");

    let ask = ip(CLIENT, VIP).with(echo_request(5, 6));
    assert_eq!(lab.one(&rx(&ask)), ["transmit"]);
    let answer = ip(VIP, CLIENT).with(echo_reply(5, 6));
    assert_eq!(lab.sent(WAN), [back(&answer, GATEWAY_MAC)]);
    assert_eq!(lab.counters.made_sent.get(), 4);
}

#[test]
fn what_is_cut_is_tagged_piece_by_piece() {
    let mut lab = dr();
    narrow(&mut lab, 600);
    let large = ip(CLIENT, VIP).id(5);
    let large = large.with(tcp(1, 80).syn().payload(vec![7; 1300]));
    assert_eq!(lab.one(&rx(&large)), ["transmit"]);
    let pieces = large.ttl(63).fragments(600);
    let want: Vec<_> = pieces.iter().map(tx).collect();
    assert_eq!(lab.sent(WAN), want);
    assert_eq!(lab.counters.made_sent.get(), 2);
}

#[test]
fn fragments_wait_for_their_first_one() {
    let whole = ip(CLIENT, VIP)
        .id(7)
        .with(udp(9, 53).payload(vec![5; 4000]));
    let parts = whole.fragments(1500);
    let mut lab = dr();
    parts.iter().rev().for_each(|part| lab.give(WAN, &rx(part)));
    lab.turn();
    let mut sent = lab.sent(WAN);
    sent.sort();
    let mut want: Vec<_> = parts.iter().map(|part| tx(&part.clone().ttl(63))).collect();
    want.sort();
    assert_eq!(sent, want);
    assert_eq!(lab.counters.held.get(), 2);
}

#[test]
fn what_a_tunnel_lost_is_retold_in_the_clients_vlan() {
    let tunnel = Tunnel::V4(Between::new(DIP, real_ip(1)));
    let mut lab = lab(Forwarder::Tun {
        hop: HOP,
        tunnel,
        envelope: Envelope::Ipip,
        narrower: 0,
    });
    let lost = || ip(CLIENT, VIP).df().with(tcp(1, 80).syn());
    lab.give(WAN, &rx(&lost()));
    lab.turn();
    let outer = ip(DIP, real_ip(1)).df().id(0).ttl(63);
    let outer = outer.with(lost().ttl(63));
    assert_eq!(lab.sent(WAN), [tx(&outer)]);
    let error = icmp(3, 4).rest(1400).quoting(&outer);
    assert_eq!(
        lab.one(&from_real(&ip(ROUTER, DIP).with(error))),
        ["punt-tunnel"]
    );
    let told = icmp(3, 4).rest(1380).quoting(&lost().ttl(63));
    let told = ip(VIP, CLIENT).tos(0xc0).df().with(told);
    assert_eq!(lab.sent(WAN), [back(&told, GATEWAY_MAC)]);
}

#[test]
fn control_is_told_the_vlans_port_and_sends_by_it() {
    let mut lab = dr();
    let punted = |lab: &mut Lab, frame: &[u8]| {
        lab.one(frame);
        let mut got = Vec::new();
        lab.control.receive(10, &mut |arrived| {
            got.push((arrived.port, arrived.class, arrived.bytes.to_vec()));
        });
        got
    };
    let arp = ether(GATEWAY_MAC, Mac::BROADCAST).raw(EtherType::ARP, vec![0; 28]);
    for (frame, port) in [
        (arp.clone().bytes(), WAN),
        (arp.clone().vlan(10).bytes(), TEN),
        (arp.clone().vlan(20).bytes(), TWENTY),
    ] {
        let want = (port, PuntClass::Neighbour, arp.bytes());
        assert_eq!(punted(&mut lab, &frame), [want], "without its tag");
    }
    let frame = arp.bytes();
    for port in [WAN, TEN, TWENTY, PortId(4)] {
        lab.control.send(port, &frame).expect("room in the ring");
    }
    lab.control.send(TEN, &[9; 13]).expect("room in the ring");
    lab.turn();
    let sent = [arp.clone(), arp.clone().vlan(10), arp.vlan(20)];
    assert_eq!(lab.sent(WAN), sent.map(|frame| frame.bytes()));
    let dropped = |reason| lab.counters.drop[reason as usize].get();
    assert_eq!(
        (dropped(Reason::NoPort), dropped(Reason::ShortFrame)),
        (1, 1)
    );
}

#[test]
fn who_waits_for_a_neighbour_waits_in_its_vlan() {
    let mut lab = dr();
    let hop = *lab.snapshot.hops.get(HOP.0).expect("of real server 1");
    lab.snapshot.hops.set(HOP.0, hop.with_destination(None));
    let real = IpAddr::from(real_ip(1));
    lab.snapshot.next_hops.set(HOP.0, real);
    lab.publish();
    assert_eq!(lab.one(&rx(&syn(1))), ["punt-unresolved"]);
    let mut waiting = Vec::new();
    lab.control.receive(10, &mut |arrived| {
        waiting.push((arrived.next, arrived.bytes.to_vec()));
    });
    let rewritten = syn(1).ttl(63).ether(TWENTY_MAC, Mac([0; 6])).bytes();
    assert_eq!(waiting, [(Some((TWENTY, real)), rewritten)]);
}

#[test]
fn a_frame_without_room_for_a_tag_is_counted() {
    let mut lab = dr();
    let frame = with_room(3, &syn(1).ether(GATEWAY_MAC, WAN_MAC).bytes());
    lab.worker.port_mut(WAN).expect("wan").give_frame(frame);
    lab.turn();
    assert_eq!(lab.counters.drop[Reason::Oversize as usize].get(), 1);
}

#[test]
fn a_full_queue_is_the_parents() {
    let mut lab = dr();
    lab.worker.port_mut(WAN).expect("wan").limit(20);
    (0..40).for_each(|port| lab.give(WAN, &rx(&syn(port + 100))));
    lab.turn();
    lab.turn();
    assert_eq!(lab.counters.transmit.get(), 20);
    assert_eq!(lab.counters.drop[Reason::TxFull as usize].get(), 20);
    assert_eq!(lab.counters.transmit_bytes.get(), 20 * 58);
}

/// Frames of one burst that leave by several ports, and some that do not leave: in the order in which
/// they came, each once, however many come together.
#[test]
fn bursts_of_any_size_give_the_same_by_each_port() {
    let frames: Vec<_> = (0..640u16)
        .map(|n| {
            let mixed = n.wrapping_mul(40503) >> 7;
            let segment = tcp(1000 + mixed % 5, 80).payload(n.to_be_bytes().repeat(10));
            let packet = match mixed % 16 {
                0 => ip(CLIENT, VIP).ttl(1).with(segment.ack()),
                1 => ip(CLIENT, VIP).with(segment.syn()),
                2 => ip(CLIENT, VIP).with(tcp(9, 81).payload(n.to_be_bytes())),
                3 => ip(CLIENT, VIP)
                    .df()
                    .with(segment.payload(vec![0; 1400]).ack()),
                _ => ip(CLIENT, VIP).with(segment.ack()),
            };
            rx(&packet)
        })
        .collect();
    let run = |burst: usize| {
        let mut lab = Lab::of_vlans();
        lab.service(TCP, VIP, 80, "rr", &[(1, 1), (2, 1)]);
        let hop = Hop::new(TWENTY, TWENTY_MAC, Some(real_mac(1)));
        lab.snapshot.hops.set(HOP.0, hop);
        narrow(&mut lab, 1400);
        for port in 1000..1005 {
            assert_eq!(lab.one(&rx(&syn(port))), ["transmit"]);
            let ack = ip(CLIENT, VIP).with(tcp(port, 80).ack());
            assert_eq!(lab.one(&rx(&ack)), ["transmit"]);
        }
        let mut sent = [vec![], vec![]];
        for chunk in frames.chunks(burst) {
            chunk.iter().for_each(|frame| lab.give(WAN, frame));
            lab.turn();
            sent[0].extend(lab.sent(WAN));
            sent[1].extend(lab.sent(LAN));
        }
        // Errors, of our making, leave behind the others of a turn.
        let errors = sent[0].extract_if(.., |frame| frame[18 + 9] == 1).count();
        let balance = (lab.counters.balance(), lab.counters.transmit_bytes.get());
        let block = lab.snapshot.blocks[0].ports.get(TWENTY.0.into());
        let tagged = block.map(|block| (block.tx.get(), block.tx_bytes.get()));
        (sent, errors, balance, tagged)
    };
    let one = run(1);
    let (sent, errors, ..) = &one;
    assert!(sent.iter().all(|sent| sent.len() > 200) && *errors > 50);
    for burst in [2, 7, 31, 32] {
        assert!(run(burst) == one, "{burst}");
    }
}
