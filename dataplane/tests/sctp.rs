//! SCTP associations through a worker's turns: what opens one, how it lives and ends, and what a
//! full table, a flood, a removed real server and fragments make of it.

mod common;

use std::net::Ipv4Addr;

use common::*;
use dataplane::conn::sctp::State;
use dataplane::conn::{Entry, Flags as Bits};
use dataplane::fwd::Forwarder;
use dataplane::services::marks::{Network, Rule};
use dataplane::services::{
    ConnReuse, Hop, HopId, Key, Marks, NatReals, Owned, Persistence, Route, Routes, ServiceId,
    Standing, Target, Unmatched,
};
use dataplane::verdict::Reason;
use wire::Protocol;
use wire::build::{Packet, icmp, ip, sctp};
use wire::sctp::ChunkType;

const DATA: u8 = ChunkType::DATA.0;
const INIT: u8 = ChunkType::INIT.0;
const INIT_ACK: u8 = ChunkType::INIT_ACK.0;
const ABORT: u8 = ChunkType::ABORT.0;
const SHUTDOWN: u8 = ChunkType::SHUTDOWN.0;
const SHUTDOWN_ACK: u8 = ChunkType::SHUTDOWN_ACK.0;
const COOKIE_ECHO: u8 = ChunkType::COOKIE_ECHO.0;
const COOKIE_ACK: u8 = ChunkType::COOKIE_ACK.0;
const SHUTDOWN_COMPLETE: u8 = ChunkType::SHUTDOWN_COMPLETE.0;

fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(GATEWAY_MAC, WAN_MAC).bytes()
}

/// One chunk between two ports; INIT has no verification tag.
fn chunk(from: u16, to: u16, kind: u8) -> wire::build::Sctp {
    let tag = if kind == INIT { 0 } else { 0x5eed };
    sctp(from, to).tag(tag).chunk(kind, b"cookie")
}

/// A client's packet.
fn packet(client: Ipv4Addr, port: u16, kind: u8) -> Vec<u8> {
    rx(&ip(client, VIP).with(chunk(port, 80, kind)))
}

fn lab(reals: &[(u8, u32)]) -> (Lab, ServiceId) {
    let mut lab = Lab::new();
    let id = lab.service(SCTP, VIP, 80, "rr", reals);
    (lab, id)
}

/// The real server that a frame goes to, or the counter it ends in.
fn goes(lab: &mut Lab, frame: &[u8]) -> String {
    lab.sent(LAN);
    let counted = lab.one(frame);
    match lab.sent(LAN).as_slice() {
        [sent] => sent[5].to_string(),
        _ => counted.join(" "),
    }
}

fn sends(lab: &mut Lab, port: u16, kind: u8) -> String {
    goes(lab, &packet(CLIENT, port, kind))
}

fn establish(lab: &mut Lab, port: u16) -> String {
    sends(lab, port, INIT);
    sends(lab, port, COOKIE_ECHO)
}

/// A packet of real server `n`'s, which passes us.
fn replies(lab: &mut Lab, n: u8, port: u16, kind: u8) {
    let packet = ip(real_ip(n), CLIENT).with(chunk(80, port, kind));
    lab.give(LAN, &packet.ether(real_mac(n), LAN_MAC).bytes());
    lab.turn();
}

fn counts(lab: &Lab, slot: u32) -> (u32, u32) {
    let block = lab.real_block(slot);
    (block.active.get(), block.inactive.get())
}

fn connection(lab: &Lab) -> Entry<u32> {
    let mut all = lab.worker.state().v4.iter();
    let found = all.find(|entry| !entry.flags.has(Bits::TEMPLATE));
    *found.expect("a connection")
}

/// State and timeout in seconds of the only connection.
fn life(lab: &Lab) -> (&'static str, u32) {
    let entry = connection(lab);
    (State::of(entry.state).name(), entry.timeout_ms / 1000)
}

/// Makes a real server's slot one of NAT, with a way back to the clients.
fn nat(lab: &mut Lab, slot: u32, n: u8) {
    let hop = HopId(u32::from(n));
    lab.change_real(slot, |real| real.forwarder = Forwarder::Nat { hop });
    let gateway = HopId(200);
    let to_gateway = Hop::new(WAN, WAN_MAC, Some(GATEWAY_MAC));
    lab.snapshot.hops.set(gateway.0, to_gateway);
    let everywhere = Route {
        network: Ipv4Addr::UNSPECIFIED.into(),
        length: 0,
        target: Target::Via([gateway].into()),
    };
    lab.snapshot.routes = Routes::new(&[everywhere], Vec::new());
    lab.publish();
}

fn persist(lab: &mut Lab, id: ServiceId) {
    lab.change_service(id, |service| {
        let (timeout_ms, mask) = (50_000, 0xffff_ff00);
        service.persistence = Some(Persistence { timeout_ms, mask });
    });
}

/// Lets time pass in steps of a second, as it does.
fn pass(lab: &mut Lab, seconds: u32) {
    for _ in 0..seconds {
        lab.wait(1000);
        lab.turn();
    }
}

#[test]
fn a_life_under_dr() {
    let (mut lab, _) = lab(&[(1, 1)]);
    #[rustfmt::skip]
    let rows = [
        (INIT,              ("INIT1",       4),   (0, 1)),
        (INIT,              ("INIT",        61),  (0, 1)),
        (COOKIE_ECHO,       ("ESTABLISHED", 900), (1, 0)),
        (DATA,              ("ESTABLISHED", 900), (1, 0)),
        (SHUTDOWN,          ("S-RECEIVED",  61),  (0, 1)),
        (SHUTDOWN_COMPLETE, ("CLOSED",      61),  (0, 1)),
    ];
    for (kind, state, gauges) in rows {
        assert_eq!(sends(&mut lab, 1, kind), "1");
        assert_eq!((life(&lab), counts(&lab, 0)), (state, gauges), "{kind}");
    }
    pass(&mut lab, 60);
    assert_eq!(lab.worker.state().v4.len(), 1);
    pass(&mut lab, 3);
    assert!(lab.worker.state().v4.is_empty(), "61 s after CLOSED");
    assert_eq!(counts(&lab, 0), (0, 0));
}

#[test]
fn a_life_under_nat() {
    let (mut lab, _) = lab(&[(1, 1)]);
    nat(&mut lab, 0, 1);
    let client = |lab: &mut Lab, kind| drop(sends(lab, 1, kind));
    let real = |lab: &mut Lab, kind| replies(lab, 1, 1, kind);
    type Side<'a> = &'a dyn Fn(&mut Lab, u8);
    #[rustfmt::skip]
    let rows: [(Side<'_>, u8, _, _); 8] = [
        (&client, INIT,         ("INIT1",       4),   (0, 1)),
        (&real,   INIT_ACK,     ("C-SENT",      61),  (0, 1)),
        (&client, COOKIE_ECHO,  ("C-REPLIED",   61),  (0, 1)),
        (&real,   COOKIE_ACK,   ("ESTABLISHED", 900), (1, 0)),
        (&client, DATA,         ("ESTABLISHED", 900), (1, 0)),
        (&real,   SHUTDOWN,     ("S-SENT",      61),  (0, 1)),
        (&client, SHUTDOWN_ACK, ("CLOSED",      61),  (0, 1)),
        (&real,   SHUTDOWN_COMPLETE, ("CLOSED", 61),  (0, 1)),
    ];
    for (side, kind, state, gauges) in rows {
        side(&mut lab, kind);
        assert_eq!((life(&lab), counts(&lab, 0)), (state, gauges), "{kind}");
    }
    assert_eq!(lab.sent(WAN).len(), 4, "every reply went back");
}

#[test]
fn an_abort_and_its_timeouts() {
    let (mut lab, _) = lab(&[(1, 1)]);
    nat(&mut lab, 0, 1);
    sends(&mut lab, 1, INIT);
    replies(&mut lab, 1, 1, ABORT);
    assert_eq!(life(&lab), ("REJECTED", 4));
    pass(&mut lab, 6);
    assert!(lab.worker.state().v4.is_empty());
    let behind_cookie = sctp(1, 80)
        .tag(9)
        .chunk(COOKIE_ECHO, b"cookie")
        .chunk(ABORT, &[]);
    sends(&mut lab, 1, INIT);
    goes(&mut lab, &rx(&ip(CLIENT, VIP).with(behind_cookie)));
    assert_eq!(life(&lab), ("CLOSED", 61));
}

#[test]
fn what_opens_an_association() {
    let refused = "drop-no-connection";
    let with = |tag: u32, kinds: &[u8]| {
        let chunks = kinds
            .iter()
            .fold(sctp(1, 80).tag(tag), |all, &kind| all.chunk(kind, b"data"));
        rx(&ip(CLIENT, VIP).with(chunks))
    };
    #[rustfmt::skip]
    let rows = [
        ("INIT",                     with(0, &[INIT]),               "1",     "1"),
        ("INIT with a tag",          with(7, &[INIT]),               refused, refused),
        ("INIT, and DATA behind it", with(0, &[INIT, DATA]),         refused, refused),
        ("no chunk at all",          with(7, &[]),                   refused, refused),
        ("DATA",                     with(7, &[DATA]),               refused, "1"),
        ("INIT ACK",                 with(7, &[INIT_ACK]),           refused, "1"),
        ("COOKIE ECHO",              with(7, &[COOKIE_ECHO, DATA]),  refused, "1"),
        ("SHUTDOWN COMPLETE",        with(7, &[SHUTDOWN_COMPLETE]),  refused, "1"),
        ("ABORT",                    with(7, &[ABORT]),              refused, refused),
    ];
    for (name, frame, strict, sloppy) in rows {
        for (is_sloppy, want) in [(false, strict), (true, sloppy)] {
            let (mut lab, _) = lab(&[(1, 1)]);
            lab.set(|settings| settings.sloppy_sctp = is_sloppy);
            assert_eq!(goes(&mut lab, &frame), want, "{name}, sloppy: {is_sloppy}");
            let made = u32::from(want == "1");
            assert_eq!(lab.worker.state().v4.len(), made, "{name}");
            assert_eq!(lab.sent(WAN).len(), 0, "{name}: SCTP gets no reset");
        }
    }
    let (mut lab, _) = lab(&[(1, 1)]);
    lab.set(|settings| settings.tcp_reset = true);
    assert_eq!(goes(&mut lab, &with(7, &[DATA])), refused);
    assert_eq!(lab.sent(WAN).len(), 0, "tcp_reset is TCP's");
}

/// What every receiver discards changes nothing here either: it passes, as whatever else comes.
#[test]
fn an_init_that_is_none_moves_nothing() {
    let (mut lab, _) = lab(&[(1, 1), (2, 1)]);
    sends(&mut lab, 1, INIT);
    sends(&mut lab, 1, ABORT);
    assert_eq!(life(&lab), ("CLOSED", 61));
    let tagged = rx(&ip(CLIENT, VIP).with(sctp(1, 80).tag(7).chunk(INIT, b"data")));
    assert_eq!(
        goes(&mut lab, &tagged),
        "2",
        "it goes where the others went"
    );
    assert_eq!(life(&lab), ("CLOSED", 61));
    assert_eq!(sends(&mut lab, 1, INIT), "1", "a true one starts over");
}

#[test]
fn an_init_starts_a_closed_association_over() {
    #[rustfmt::skip]
    let rows: [(_, _, &[u8], _, _, _); 5] = [
        ("CLOSED",                  1, &[INIT, ABORT],       false, "1", "INIT1"),
        ("mode 0",                  0, &[INIT, ABORT],       false, "2", "INIT"),
        ("S-RECEIVED keeps it",     3, &[INIT, COOKIE_ECHO, SHUTDOWN], false, "2", "S-RECEIVED"),
        ("ESTABLISHED keeps it",    3, &[INIT, COOKIE_ECHO], false, "2", "ESTABLISHED"),
        ("CLOSED under a template", 1, &[INIT, ABORT],       true,  "2", "INIT"),
    ];
    for (name, mode, kinds, persistent, real, state) in rows {
        let (mut lab, id) = lab(&[(1, 1), (2, 1)]);
        if persistent {
            persist(&mut lab, id);
        }
        lab.set(|settings| settings.conn_reuse = ConnReuse::mode(mode));
        for &kind in kinds {
            assert_eq!(sends(&mut lab, 1, kind), "2", "{name}");
        }
        assert_eq!(sends(&mut lab, 1, INIT), real, "{name}");
        assert_eq!(life(&lab).0, state, "{name}");
    }
}

#[test]
fn a_removed_or_quiescent_real_server() {
    let (mut lab, id) = lab(&[(1, 1), (2, 1)]);
    establish(&mut lab, 1);
    lab.change_real(1, |real| real.standing = Standing::Removed);
    lab.change_service(id, |service| {
        service.candidates = Box::new([service.candidates[1]]);
        service.revision += 1;
    });
    assert_eq!(sends(&mut lab, 1, DATA), "drop-real-removed");
    lab.set(|settings| settings.expire_nodest_conn = true);
    assert_eq!(sends(&mut lab, 1, DATA), "drop-no-connection");
    assert_eq!(counts(&lab, 1), (0, 0), "gone at once");
    assert_eq!(sends(&mut lab, 1, INIT), "1", "INIT is scheduled anew");

    lab.change_real(0, |real| real.quiescent = true);
    lab.change_real(1, |real| real.standing = Standing::Settled);
    lab.service(SCTP, VIP, 80, "rr", &[(2, 1)]);
    assert_eq!(sends(&mut lab, 1, DATA), "1", "what is open stays");
    assert_eq!(
        sends(&mut lab, 1, INIT),
        "2",
        "expire_nodest_conn, weight 0"
    );
}

#[test]
fn persistence_is_assured_by_established() {
    let (mut lab, id) = lab(&[(1, 1), (2, 1)]);
    persist(&mut lab, id);
    let assured = |lab: &Lab| {
        let mut all = lab.worker.state().v4.iter();
        let found = all.find(|entry| entry.flags.has(Bits::TEMPLATE));
        found.expect("a template").flags.has(Bits::ASSURED)
    };
    assert_eq!(sends(&mut lab, 1, INIT), "2");
    assert!(!assured(&lab), "half open");
    sends(&mut lab, 1, COOKIE_ECHO);
    assert!(assured(&lab));
    let neighbour = Ipv4Addr::new(192, 0, 2, 99);
    assert_eq!(goes(&mut lab, &packet(neighbour, 5, INIT)), "2");
}

#[test]
fn a_service_has_a_timeout_of_its_own_in_established() {
    let (mut lab, id) = lab(&[(1, 1)]);
    lab.change_service(id, |service| service.asks.established_ms = Some(90_000));
    lab.change_real(0, |real| real.standing = Standing::Watched);
    sends(&mut lab, 1, INIT);
    assert_eq!(life(&lab), ("INIT1", 4));
    sends(&mut lab, 1, COOKIE_ECHO);
    assert_eq!(life(&lab), ("ESTABLISHED", 90));
    sends(&mut lab, 1, SHUTDOWN);
    assert_eq!(life(&lab), ("S-RECEIVED", 61));
}

#[test]
fn a_mark_takes_sctp_too() {
    let mut lab = Lab::new();
    let id = lab.service(TCP, OTHER_VIP, 9, "rr", &[(1, 1)]);
    lab.snapshot.index.insert(Key::mark(5, false), id);
    lab.vip(VIP, true, Unmatched::Drop);
    let rule = |protocol| Rule {
        mark: 5,
        protocol,
        from: None,
        to: Some(Network::new(VIP.into(), 32)),
        ports: 80..=443,
        entry: Some(WAN),
    };
    for (protocol, want) in [
        (None, "1"),
        (Some(SCTP), "1"),
        (Some(TCP), "drop-no-service"),
    ] {
        lab.snapshot.marks = Marks::new(vec![rule(protocol)]);
        lab.publish();
        assert_eq!(sends(&mut lab, u16::from(want == "1"), INIT), want);
    }
}

#[test]
fn a_service_of_another_protocol_is_not_asked() {
    let mut lab = Lab::new();
    lab.service(TCP, VIP, 80, "rr", &[(1, 1)]);
    lab.service(UDP, VIP, 80, "rr", &[(2, 1)]);
    assert_eq!(sends(&mut lab, 1, INIT), "drop-no-service");
    lab.service(SCTP, VIP, 80, "rr", &[(3, 1)]);
    assert_eq!(sends(&mut lab, 1, INIT), "3");
    assert_eq!(sends(&mut lab, 20, INIT), "drop-no-service", "from port 20");
    let short = rx(&ip(CLIENT, VIP).raw(Protocol::SCTP, vec![0; 11]));
    assert_eq!(goes(&mut lab, &short), "drop-short-transport");
    let ours = rx(&ip(CLIENT, DIP).with(chunk(179, 3784, INIT)));
    assert_eq!(goes(&mut lab, &ours), "punt-local", "no routing protocol");
}

#[test]
fn associations_that_nobody_agreed_to_make_room_first() {
    let mut lab = Lab::with_connections(4);
    lab.service(SCTP, VIP, 80, "rr", &[(1, 1)]);
    establish(&mut lab, 1);
    establish(&mut lab, 2);
    sends(&mut lab, 3, INIT);
    sends(&mut lab, 4, INIT);
    for port in 5..9 {
        assert_eq!(sends(&mut lab, port, INIT), "1");
        lab.wait(2000);
        lab.turn();
    }
    for port in [1, 2] {
        assert_eq!(sends(&mut lab, port, DATA), "1", "established: never");
    }
    assert_eq!(sends(&mut lab, 3, DATA), "drop-no-connection", "the oldest");
}

#[test]
fn drop_entry_takes_what_is_half_open() {
    let (mut lab, _) = lab(&[(1, 1)]);
    sends(&mut lab, 1, INIT);
    sends(&mut lab, 1, INIT);
    assert_eq!(life(&lab), ("INIT", 61));
    establish(&mut lab, 2);
    (0..9).for_each(|_| drop(sends(&mut lab, 2, DATA)));
    sends(&mut lab, 3, INIT);
    sends(&mut lab, 3, ABORT);
    lab.set(|settings| settings.drop_entry = true);
    pass(&mut lab, 33);
    let mut ports: Vec<_> = lab
        .worker
        .state()
        .v4
        .iter()
        .map(|it| it.client_port)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [2, 3], "INIT goes; ESTABLISHED and CLOSED stay");
}

#[test]
fn a_nat_real_server_without_an_association() {
    let (mut lab, id) = lab(&[(1, 1)]);
    nat(&mut lab, 0, 1);
    let dip = Ipv4Addr::new(10, 1, 0, 254);
    lab.own(dip, Owned::Director);
    lab.snapshot.nat_reals = NatReals::new(vec![((SCTP, real_ip(1).into(), 80), id)]);
    lab.set(|settings| settings.nat_icmp_send = true);
    replies(&mut lab, 1, 9, DATA);
    let stray = ip(real_ip(1), CLIENT).with(chunk(80, 9, DATA));
    let told = ip(dip, real_ip(1))
        .tos(0xc0)
        .df()
        .with(icmp(3, 3).quoting(&stray));
    assert_eq!(lab.sent(LAN), [told.ether(LAN_MAC, real_mac(1)).bytes()]);
    replies(&mut lab, 1, 9, ABORT);
    assert_eq!(lab.sent(LAN), [] as [Vec<u8>; 0], "not about an ABORT");
}

/// An INIT of 2,000 octets in two fragments, and one of DATA.
fn in_fragments(kind: u8, id: u32) -> Vec<Packet> {
    let tag = u32::from(kind != INIT);
    let whole = ip(CLIENT, VIP)
        .id(id)
        .with(sctp(1, 80).tag(tag).chunk(kind, &[5; 2000]));
    let parts = whole.fragments(1500);
    assert_eq!(parts.len(), 2);
    parts
}

#[test]
fn fragments_follow_their_first_one_where_nothing_is_rewritten() {
    let (mut lab, _) = lab(&[(1, 1), (2, 1)]);
    let parts = in_fragments(INIT, 7);
    lab.give(WAN, &rx(&parts[1]));
    lab.turn();
    lab.give(WAN, &rx(&parts[0]));
    lab.turn();
    let aged = |part: &Packet| part.clone().ttl(63).ether(LAN_MAC, real_mac(2)).bytes();
    let mut sent = lab.sent(LAN);
    sent.sort();
    let mut want: Vec<_> = parts.iter().map(aged).collect();
    want.sort();
    assert_eq!(sent, want);
    assert_eq!(life(&lab), ("INIT1", 4));
    let tiny = ip(CLIENT, VIP)
        .fragment(0, true)
        .raw(Protocol::SCTP, vec![0; 8]);
    assert_eq!(goes(&mut lab, &rx(&tiny)), "drop-fragment-tiny");
}

#[test]
fn no_fragment_passes_nat() {
    let (mut lab, _) = lab(&[(1, 1)]);
    nat(&mut lab, 0, 1);
    establish(&mut lab, 1);
    lab.sent(LAN);
    for (n, order) in [[0, 1], [1, 0]].into_iter().enumerate() {
        let parts = in_fragments(DATA, 8 + u32::try_from(n).expect("two"));
        for at in order {
            lab.give(WAN, &rx(&parts[at]));
            lab.turn();
        }
        let dropped = lab.counters.drop[Reason::SctpFragment as usize].get();
        assert_eq!(dropped, 2 * (n as u64 + 1));
    }
    let back = ip(real_ip(1), CLIENT)
        .id(9)
        .with(sctp(80, 1).tag(1).chunk(DATA, &[5; 2000]));
    for part in back.fragments(1500) {
        lab.give(LAN, &part.ether(real_mac(1), LAN_MAC).bytes());
        lab.turn();
    }
    assert_eq!(lab.counters.drop[Reason::SctpFragment as usize].get(), 6);
    assert_eq!((lab.sent(LAN).len(), lab.sent(WAN).len()), (0, 0));
    assert_eq!(sends(&mut lab, 1, DATA), "1", "whole packets do");
}

/// What is too large for the link and may be cut is patched first and cut then.
#[test]
fn a_whole_packet_is_patched_and_then_cut() {
    let (mut lab, _) = lab(&[(1, 1)]);
    nat(&mut lab, 0, 1);
    lab.change_real(0, |real| real.port = 8080);
    establish(&mut lab, 1);
    lab.sent(LAN);
    let mut ports = lab.snapshot.ports.to_vec();
    ports[1].mtu = 600;
    lab.snapshot.ports = ports.into();
    lab.publish();
    let data = |to, port| {
        ip(CLIENT, to)
            .id(5)
            .with(sctp(1, port).tag(1).chunk(DATA, &[7; 1000]))
    };
    lab.one(&rx(&data(VIP, 80)));
    let rewritten = data(real_ip(1), 8080).ttl(63);
    let want: Vec<_> = rewritten
        .fragments(600)
        .iter()
        .map(|part| part.ether(LAN_MAC, real_mac(1)).bytes())
        .collect();
    assert_eq!(want.len(), 2);
    assert_eq!(lab.sent(LAN), want);
}
