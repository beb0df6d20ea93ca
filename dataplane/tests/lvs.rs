//! Connections live as IPVS's do: the rows of its conformance table that are about
//! persistence, marks, one-packet scheduling, thresholds and removal, on a worker driven by
//! hand.

mod common;

use std::net::Ipv4Addr;

use common::*;
use dataplane::conn::tcp::State;
use dataplane::conn::{Entry, Flags as Bits};
use dataplane::fwd::Forwarder;
use dataplane::sched::thresholds::Limits;
use dataplane::services::marks::{Network, Rule};
use dataplane::services::{
    Access, Asks, ConnReuse, HopId, Key, Marks, NatReals, Owned, Persistence, Route, Routes,
    ServiceId, Standing, Target, Unmatched,
};
use proptest::prelude::*;
use wire::build::{Packet, icmp, ip, tcp, udp};
use wire::tcp::Flags;

const SYN: Flags = Flags::SYN;
const ACK: Flags = Flags::ACK;
const FIN: Flags = Flags::FIN;
const RST: Flags = Flags::RST;
const SLASH_24: u128 = 0xffff_ff00;

fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(GATEWAY_MAC, WAN_MAC).bytes()
}

fn segment(client: Ipv4Addr, port: u16, to: u16, flags: Flags) -> Vec<u8> {
    rx(&ip(client, VIP).with(tcp(port, to).flags(flags)))
}

/// Client number `n` of the network 192.0.2.0/24.
fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn lab(scheduler: &str, reals: &[(u8, u32)]) -> (Lab, ServiceId) {
    let mut lab = Lab::new();
    let id = lab.service(TCP, VIP, 80, scheduler, reals);
    (lab, id)
}

/// The same with persistence of 50 seconds by /24.
fn sticky(reals: &[(u8, u32)]) -> (Lab, ServiceId) {
    let (mut lab, id) = lab("rr", reals);
    persist(&mut lab, id, 50_000);
    (lab, id)
}

fn persist(lab: &mut Lab, id: ServiceId, timeout_ms: u32) {
    lab.change_service(id, |service| {
        let mask = SLASH_24;
        service.persistence = Some(Persistence { timeout_ms, mask });
    });
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

/// Where a new connection of a client goes.
fn opens(lab: &mut Lab, client: Ipv4Addr, port: u16) -> String {
    goes(lab, &segment(client, port, 80, SYN))
}

/// Active, inactive and persistent of a real server's slot.
fn counts(lab: &Lab, slot: u32) -> (u32, u32, u32) {
    let block = lab.real_block(slot);
    let levels = [&block.active, &block.inactive, &block.persistent];
    let [active, inactive, persistent] = levels.map(|level| level.get());
    (active, inactive, persistent)
}

fn templates(lab: &Lab) -> Vec<Entry<u32>> {
    let all = lab.worker.state().v4.iter();
    all.filter(|entry| entry.flags.has(Bits::TEMPLATE))
        .copied()
        .collect()
}

fn template(lab: &Lab) -> Entry<u32> {
    let all = templates(lab);
    assert_eq!(all.len(), 1, "one template");
    all[0]
}

/// State and timeout in seconds of the only connection.
fn life(lab: &Lab) -> (&'static str, u32) {
    let mut all = lab.worker.state().v4.iter();
    let is_connection = |entry: &&Entry<u32>| !entry.flags.has(Bits::TEMPLATE);
    let entry = all.find(is_connection).expect("a connection");
    let state = State::ALL[usize::from(entry.state)].name();
    (state, entry.timeout_ms / 1000)
}

/// Lets time pass in steps of a second, as it does.
fn pass(lab: &mut Lab, seconds: u32) {
    for _ in 0..seconds {
        lab.wait(1000);
        lab.turn();
    }
}

/// Makes a real server's slot one of NAT, with a way back to the clients.
fn nat(lab: &mut Lab, slot: u32, n: u8) {
    let hop = HopId(u32::from(n));
    lab.change_real(slot, |real| real.forwarder = Forwarder::Nat { hop });
    let gateway = HopId(200);
    lab.snapshot.hops.set(
        gateway.0,
        dataplane::services::Hop::new(WAN, WAN_MAC, Some(GATEWAY_MAC)),
    );
    let everywhere = Route {
        network: Ipv4Addr::UNSPECIFIED.into(),
        length: 0,
        target: Target::Via([gateway].into()),
    };
    lab.snapshot.routes = Routes::new(&[everywhere], Vec::new());
    lab.publish();
}

/// A frame from real server `n`.
fn from_real(n: u8, packet: &Packet) -> Vec<u8> {
    packet.ether(real_mac(n), LAN_MAC).bytes()
}

fn reply(lab: &mut Lab, n: u8, port: u16, flags: Flags) {
    let packet = ip(real_ip(n), CLIENT).with(tcp(80, port).flags(flags));
    lab.give(LAN, &from_real(n, &packet));
    lab.turn();
}

#[test]
fn b27_a_life_under_dr() {
    let (mut lab, _) = lab("rr", &[(1, 1)]);
    #[rustfmt::skip]
    let rows = [
        (SYN, ("SYN_RECV",    60),  (1, 0, 0)),
        (RST, ("SYN_RECV",    60),  (1, 0, 0)),
        (ACK, ("ESTABLISHED", 900), (1, 0, 0)),
        (FIN, ("FIN_WAIT",    120), (0, 1, 0)),
        (ACK, ("FIN_WAIT",    120), (0, 1, 0)),
        (RST, ("CLOSE",       10),  (0, 1, 0)),
    ];
    for (flags, state, gauges) in rows {
        lab.one(&segment(CLIENT, 1, 80, flags));
        assert_eq!((life(&lab), counts(&lab, 0)), (state, gauges), "{flags:?}");
    }
}

#[test]
fn b28_a_life_under_nat() {
    let (mut lab, _) = lab("rr", &[(1, 1)]);
    nat(&mut lab, 0, 1);
    lab.one(&segment(CLIENT, 1, 80, SYN));
    reply(&mut lab, 1, 1, SYN.and(ACK));
    lab.one(&segment(CLIENT, 1, 80, ACK));
    assert_eq!(
        (life(&lab), counts(&lab, 0)),
        (("ESTABLISHED", 900), (1, 0, 0))
    );
    lab.one(&segment(CLIENT, 1, 80, FIN));
    assert_eq!(
        (life(&lab), counts(&lab, 0)),
        (("CLOSE_WAIT", 60), (0, 1, 0))
    );
    reply(&mut lab, 1, 1, FIN);
    assert_eq!(life(&lab), ("TIME_WAIT", 120));
}

#[test]
fn b29_udp() {
    let mut lab = Lab::new();
    lab.service(UDP, VIP, 53, "rr", &[(1, 1)]);
    for _ in 0..3 {
        lab.one(&rx(&ip(CLIENT, VIP).with(udp(1, 53))));
    }
    assert_eq!(counts(&lab, 0), (0, 1, 0));
    assert_eq!(life(&lab).1, 300);
    assert_eq!(lab.counters.connections_made.get(), 1);
}

#[test]
fn b30_an_upper_threshold() {
    let (mut lab, _) = lab("rr", &[(1, 1), (2, 1)]);
    lab.change_real(1, |real| real.limits = Limits { upper: 2, lower: 0 });
    let picks: String = (1..=5).map(|port| opens(&mut lab, CLIENT, port)).collect();
    assert_eq!(picks, "21211", "two are enough for the second");
    for flags in [ACK, FIN, RST] {
        lab.one(&segment(CLIENT, 1, 80, flags));
    }
    assert_eq!(opens(&mut lab, CLIENT, 6), "1", "closed is not gone");
    pass(&mut lab, 12);
    assert_eq!(opens(&mut lab, CLIENT, 7), "2", "1 * 4 < 2 * 3");
}

#[test]
fn b31_weight_0_keeps_its_clients() {
    for expire in [false, true] {
        let (mut lab, id) = sticky(&[(1, 1), (2, 1)]);
        lab.set(|settings| settings.expire_quiescent_template = expire);
        assert_eq!(opens(&mut lab, client(1), 1), "2");
        lab.change_real(1, |real| real.quiescent = true);
        lab.change_service(id, |service| {
            service.candidates[0].weight = 0;
            service.revision += 1;
        });
        let next = if expire { "1" } else { "2" };
        assert_eq!(opens(&mut lab, client(2), 2), next);
        assert_eq!(opens(&mut lab, client(3), 3), next, "and again");
        assert_eq!(goes(&mut lab, &segment(client(1), 1, 80, ACK)), "2");
        let made = templates(&lab).len();
        assert_eq!(made, if expire { 2 } else { 1 });
        let persistent = (counts(&lab, 0).2, counts(&lab, 1).2);
        assert_eq!(persistent, if expire { (1, 1) } else { (0, 1) });
    }
}

#[test]
fn b32_nobody_left() {
    for persistent in [false, true] {
        let (mut lab, id) = lab("rr", &[(1, 0), (2, 0)]);
        if persistent {
            persist(&mut lab, id, 50_000);
        }
        assert_eq!(opens(&mut lab, CLIENT, 1), "drop-no-real");
        assert_eq!(lab.sent(WAN)[0][34..36], [3, 3], "port unreachable");
        assert!(lab.worker.state().v4.is_empty(), "nor a template");
    }
}

#[test]
fn b37_mid_stream_is_not_scheduled() {
    let (mut lab, _) = sticky(&[(1, 1)]);
    let ack = segment(CLIENT, 1, 80, ACK);
    assert_eq!(goes(&mut lab, &ack), "drop-no-connection");
    assert!(lab.worker.state().v4.is_empty());
    lab.set(|settings| settings.sloppy_tcp = true);
    let rst = segment(CLIENT, 1, 80, RST.and(ACK));
    assert_eq!(goes(&mut lab, &rst), "drop-no-connection");
    assert_eq!(goes(&mut lab, &ack), "1", "sloppy_tcp");
    assert_eq!(life(&lab), ("ESTABLISHED", 900));
}

#[test]
fn b38_a_removed_real_server() {
    let (mut lab, id) = lab("rr", &[(1, 1), (2, 1)]);
    assert_eq!(opens(&mut lab, CLIENT, 1), "2");
    assert_eq!(opens(&mut lab, CLIENT, 2), "1");
    assert_eq!(opens(&mut lab, CLIENT, 3), "2");
    lab.change_real(1, |real| real.standing = Standing::Removed);
    lab.change_service(id, |service| {
        service.candidates = Box::new([service.candidates[1]]);
        service.revision += 1;
    });
    for flags in [ACK, SYN] {
        let frame = segment(CLIENT, 1, 80, flags);
        assert_eq!(goes(&mut lab, &frame), "drop-real-removed");
        assert_eq!(lab.sent(WAN).len(), 0, "silently");
    }
    assert_eq!(counts(&lab, 1), (2, 0, 0));
    lab.set(|settings| settings.expire_nodest_conn = true);
    let ack = segment(CLIENT, 1, 80, ACK);
    assert_eq!(goes(&mut lab, &ack), "drop-no-connection");
    assert_eq!(counts(&lab, 1), (1, 0, 0), "gone at once");
    assert_eq!(opens(&mut lab, CLIENT, 3), "1", "a SYN is scheduled anew");
    assert_eq!((counts(&lab, 0), counts(&lab, 1)), ((2, 0, 0), (0, 0, 0)));
}

#[test]
fn a_real_server_comes_back_to_its_connections() {
    let (mut lab, _) = lab("rr", &[(1, 1)]);
    opens(&mut lab, CLIENT, 1);
    lab.change_real(0, |real| real.standing = Standing::Removed);
    let ack = segment(CLIENT, 1, 80, ACK);
    assert_eq!(goes(&mut lab, &ack), "drop-real-removed");
    lab.change_real(0, |real| real.standing = Standing::Settled);
    assert_eq!(goes(&mut lab, &ack), "1");
    assert_eq!(lab.real_block(0).traffic.packets_in.get(), 2);
}

#[test]
fn without_any_service_traffic_is_the_kernels() {
    let (mut lab, _) = lab("rr", &[(1, 1)]);
    nat(&mut lab, 0, 1);
    opens(&mut lab, CLIENT, 1);
    lab.change_real(0, |real| real.standing = Standing::Removed);
    lab.vip(VIP, true, Unmatched::Kernel);
    let ack = segment(CLIENT, 1, 80, ACK);
    assert_eq!(goes(&mut lab, &ack), "drop-real-removed", "others are left");
    let answer = ip(real_ip(1), CLIENT).with(tcp(80, 1).ack());
    lab.give(LAN, &from_real(1, &answer));
    lab.turn();
    assert_eq!(lab.sent(WAN).len(), 1, "its replies pass");
    lab.snapshot
        .index
        .remove(&Key::address(TCP, VIP.into(), 80));
    lab.publish();
    assert_eq!(goes(&mut lab, &ack), "punt-unmatched");
    lab.give(LAN, &from_real(1, &answer));
    lab.turn();
    assert_eq!(lab.sent(WAN).len(), 0, "nor do replies concern us");
    assert_eq!(lab.worker.state().v4.len(), 1, "the connection survives");
}

/// `conn_reuse_mode`, the segments before the SYN, whether replies are seen, whether a template
/// is in control; and whether another real server gets the SYN.
type StartOver = (&'static str, u32, &'static [Flags], bool, bool, bool);

#[test]
fn when_a_syn_starts_over() {
    #[rustfmt::skip]
    let rows: [StartOver; 9] = [
        ("CLOSE",                   1, &[SYN, ACK, RST], false, false, true),
        ("FIN_WAIT keeps it",       1, &[SYN, ACK, FIN], false, false, false),
        ("FIN_WAIT, mode 2",        2, &[SYN, ACK, FIN], false, false, true),
        ("FIN_WAIT, mode 3",        3, &[SYN, ACK, FIN], false, false, true),
        ("CLOSE_WAIT of NAT",       3, &[SYN, ACK, FIN], true,  false, false),
        ("mode 0",                  0, &[SYN, ACK, RST], false, false, false),
        ("ESTABLISHED",             3, &[SYN, ACK],      false, false, false),
        ("CLOSE under a template",  1, &[SYN, ACK, RST], false, true,  false),
        ("NAT, CLOSE",              1, &[SYN, ACK, RST], true,  false, true),
    ];
    for (name, mode, segments, two_way, persistent, anew) in rows {
        let (mut lab, id) = lab("rr", &[(1, 1), (2, 1)]);
        if two_way {
            nat(&mut lab, 1, 2);
        }
        if persistent {
            persist(&mut lab, id, 50_000);
        }
        lab.set(|settings| settings.conn_reuse = ConnReuse::mode(mode));
        for &flags in segments {
            assert_eq!(
                goes(&mut lab, &segment(CLIENT, 1, 80, flags)),
                "2",
                "{name}"
            );
        }
        let want = if anew { "1" } else { "2" };
        assert_eq!(opens(&mut lab, CLIENT, 1), want, "{name}");
        let state = if name == "ESTABLISHED" {
            name
        } else {
            "SYN_RECV"
        };
        assert_eq!(life(&lab).0, state, "{name}");
    }
}

#[test]
fn a_syn_leaves_a_quiescent_real_server_only_if_told_so() {
    for (nodest, mode, want) in [(false, 1, "2"), (true, 0, "2"), (true, 1, "1")] {
        let (mut lab, id) = lab("rr", &[(1, 1), (2, 1)]);
        opens(&mut lab, CLIENT, 1);
        lab.change_real(1, |real| real.quiescent = true);
        lab.change_service(id, |service| {
            service.candidates[0].weight = 0;
            service.revision += 1;
        });
        lab.set(|settings| {
            settings.expire_nodest_conn = nodest;
            settings.conn_reuse = ConnReuse::mode(mode);
        });
        assert_eq!(goes(&mut lab, &segment(CLIENT, 1, 80, ACK)), "2");
        assert_eq!(opens(&mut lab, CLIENT, 1), want);
    }
}

#[test]
fn a_network_has_one_real_server() {
    let (mut lab, _) = sticky(&[(1, 1), (2, 1)]);
    let first: Vec<_> = (1..=3).map(|n| opens(&mut lab, client(n), 7)).collect();
    assert_eq!(first, ["2", "2", "2"]);
    assert_eq!(opens(&mut lab, Ipv4Addr::new(198, 51, 100, 1), 7), "1");
    assert_eq!((counts(&lab, 0), counts(&lab, 1)), ((1, 0, 1), (3, 0, 1)));
    let all = templates(&lab);
    let found = all.iter().find(|entry| entry.real_id.0 == 1);
    let found = found.expect("a template for the second");
    assert_eq!(Ipv4Addr::from_bits(found.client), client(0));
    assert_eq!(
        (found.client_port, found.vip_port, found.real_port),
        (0, 80, 80)
    );
    assert_eq!(Ipv4Addr::from_bits(found.vip), VIP);
    assert_eq!((found.ip_protocol(), found.controls()), (TCP, 3));
    assert_eq!(found.timeout_ms, 50_000);
}

#[test]
fn thresholds_do_not_keep_a_client_away() {
    let (mut lab, _) = sticky(&[(1, 1), (2, 1)]);
    lab.change_real(1, |real| real.limits = Limits { upper: 1, lower: 0 });
    for port in 1..=4 {
        assert_eq!(opens(&mut lab, CLIENT, port), "2");
    }
    assert_eq!(counts(&lab, 1), (4, 0, 1));
    let others = Ipv4Addr::new(198, 51, 100, 1);
    assert_eq!(opens(&mut lab, others, 1), "1", "but others");
}

#[test]
fn a_template_is_never_taken_for_a_connection() {
    let (mut lab, _) = sticky(&[(1, 1)]);
    opens(&mut lab, client(9), 1);
    // The template's own tuple: the network's address, port 0.
    let ack = segment(client(0), 0, 80, ACK);
    assert_eq!(goes(&mut lab, &ack), "drop-no-connection");
    assert_eq!(opens(&mut lab, client(0), 0), "1");
    assert_eq!(counts(&lab, 0), (2, 0, 1));
}

#[test]
fn each_new_connection_starts_a_templates_time_anew() {
    let (mut lab, _) = sticky(&[(1, 1), (2, 1)]);
    for port in [1, 2] {
        opens(&mut lab, CLIENT, port);
        for flags in [ACK, RST] {
            lab.one(&segment(CLIENT, port, 80, flags));
        }
        pass(&mut lab, 40);
    }
    assert_eq!(template(&lab).remaining_ms(lab.now), 10_000);
    assert_eq!(template(&lab).controls(), 0, "CLOSE lasts 10 seconds");
    lab.one(&segment(CLIENT, 2, 80, ACK));
    assert_eq!(
        template(&lab).remaining_ms(lab.now),
        10_000,
        "a packet does not"
    );
    pass(&mut lab, 12);
    assert_eq!(templates(&lab).len(), 0);
    assert_eq!(counts(&lab, 1), (0, 0, 0));
    assert_eq!(
        opens(&mut lab, CLIENT, 3),
        "1",
        "the network is scheduled anew"
    );
}

#[test]
fn a_template_in_use_gets_60_seconds_and_keeps_them() {
    let (mut lab, _) = sticky(&[(1, 1), (2, 1)]);
    opens(&mut lab, CLIENT, 1);
    lab.one(&segment(CLIENT, 1, 80, ACK));
    lab.wait(49_999);
    lab.turn();
    assert_eq!(template(&lab).timeout_ms, 50_000);
    pass(&mut lab, 2);
    let of = |lab: &Lab| {
        let found = template(lab);
        (found.timeout_ms, found.remaining_ms(lab.now))
    };
    assert_eq!(of(&lab), (60_000, 58_001), "60 seconds from its end on");
    pass(&mut lab, 30);
    opens(&mut lab, CLIENT, 2);
    assert_eq!(of(&lab), (60_000, 60_000), "not 50 again");
    pass(&mut lab, 62);
    assert_eq!(of(&lab), (60_000, 58_000), "the first is still there");
    for port in [1, 2] {
        for flags in [ACK, RST] {
            lab.one(&segment(CLIENT, port, 80, flags));
        }
    }
    pass(&mut lab, 70);
    assert_eq!(templates(&lab).len(), 0);
    assert_eq!((counts(&lab, 0), counts(&lab, 1)), ((0, 0, 0), (0, 0, 0)));
}

#[test]
fn a_template_in_use_holds_even_before_the_wheel_comes_by() {
    let (mut lab, _) = sticky(&[(1, 1), (2, 1)]);
    assert_eq!(opens(&mut lab, CLIENT, 1), "2");
    lab.one(&segment(CLIENT, 1, 80, ACK));
    lab.wait(50_500);
    assert_eq!(opens(&mut lab, CLIENT, 2), "2");
    assert_eq!(template(&lab).timeout_ms, 60_000);
    let (mut idle, _) = sticky(&[(1, 1), (2, 1)]);
    opens(&mut idle, CLIENT, 1);
    for flags in [ACK, RST] {
        idle.one(&segment(CLIENT, 1, 80, flags));
    }
    pass(&mut idle, 20);
    idle.wait(30_500);
    assert_eq!(opens(&mut idle, CLIENT, 2), "1", "nobody used it");
}

#[test]
fn what_assures_a_template() {
    let assured = |lab: &Lab| template(lab).flags.has(Bits::ASSURED);
    let (mut lab, _) = sticky(&[(1, 1)]);
    opens(&mut lab, CLIENT, 1);
    assert!(!assured(&lab), "half open");
    lab.one(&segment(CLIENT, 1, 80, ACK));
    assert!(assured(&lab));

    let mut dns = Lab::new();
    let id = dns.service(UDP, VIP, 53, "rr", &[(1, 1)]);
    persist(&mut dns, id, 50_000);
    nat(&mut dns, 0, 1);
    let ask = rx(&ip(CLIENT, VIP).with(udp(7, 53)));
    dns.one(&ask);
    dns.one(&ask);
    assert!(!assured(&dns), "no answer yet");
    let answer = ip(real_ip(1), CLIENT).with(udp(53, 7));
    dns.give(LAN, &from_real(1, &answer));
    dns.turn();
    assert!(assured(&dns));
}

#[test]
fn all_ports_of_a_persistent_service() {
    let mut lab = Lab::new();
    let id = lab.service(TCP, VIP, 0, "rr", &[(1, 1), (2, 1)]);
    let to = |lab: &mut Lab, n, port| goes(lab, &segment(client(n), 9, port, SYN));
    assert_eq!(to(&mut lab, 1, 80), "drop-no-service", "only if persistent");
    persist(&mut lab, id, 50_000);
    assert_eq!(
        [80, 443, 8080].map(|port| to(&mut lab, 1, port)),
        ["2", "2", "2"]
    );
    let found = template(&lab);
    assert_eq!(
        (found.vip_port, found.real_port, found.controls()),
        (0, 0, 3)
    );
    lab.service(TCP, VIP, 443, "rr", &[(3, 1)]);
    assert_eq!(to(&mut lab, 2, 443), "3", "an exact port beats all ports");
}

#[test]
fn a_persistent_nat_service_translates_only_its_own_port() {
    let mut lab = Lab::new();
    let id = lab.service(TCP, VIP, 0, "rr", &[(1, 1)]);
    persist(&mut lab, id, 50_000);
    nat(&mut lab, 0, 1);
    lab.change_real(0, |real| real.port = 8080);
    lab.one(&segment(CLIENT, 1, 443, SYN));
    assert_eq!(lab.sent(LAN)[0][36..38], 443u16.to_be_bytes());
    let exact = lab.service(TCP, VIP, 80, "rr", &[(2, 1)]);
    persist(&mut lab, exact, 50_000);
    nat(&mut lab, 1, 2);
    lab.change_real(1, |real| real.port = 8080);
    lab.one(&segment(CLIENT, 1, 80, SYN));
    assert_eq!(lab.sent(LAN)[0][36..38], 8080u16.to_be_bytes());
}

#[test]
fn ftps_data_goes_where_its_control_connection_went() {
    let mut lab = Lab::new();
    let id = lab.service(TCP, VIP, 21, "rr", &[(1, 1), (2, 1)]);
    let passive = segment(CLIENT, 9, 50_000, SYN);
    assert_eq!(
        goes(&mut lab, &passive),
        "drop-no-service",
        "only if persistent"
    );
    persist(&mut lab, id, 50_000);
    assert_eq!(goes(&mut lab, &segment(CLIENT, 8, 21, SYN)), "2");
    assert_eq!(goes(&mut lab, &passive), "2");
    let low = segment(CLIENT, 9, 1023, SYN);
    assert_eq!(goes(&mut lab, &low), "drop-no-service");
    let found = template(&lab);
    assert_eq!(
        (found.vip_port, found.real_port, found.controls()),
        (0, 0, 2)
    );
}

/// A service for mark 5, and one rule: what goes to the VIP's network by ports 80 to 443.
fn marked(reals: &[(u8, u32)]) -> (Lab, ServiceId) {
    let mut lab = Lab::new();
    // The address serves the lab to make the service; no packet of these tests goes there.
    let id = lab.service(TCP, OTHER_VIP, 9, "rr", reals);
    lab.snapshot.index.insert(Key::mark(5, false), id);
    lab.vip(VIP, true, Unmatched::Drop);
    let rule = Rule {
        mark: 5,
        protocol: None,
        from: None,
        to: Some(Network::new(VIP.into(), 32)),
        ports: 80..=443,
        entry: Some(WAN),
    };
    lab.snapshot.marks = Marks::new(vec![rule]);
    lab.publish();
    (lab, id)
}

#[test]
fn a_mark_beats_an_address() {
    let (mut lab, _) = marked(&[(1, 1), (2, 1)]);
    lab.service(TCP, VIP, 80, "rr", &[(3, 1)]);
    lab.service(TCP, VIP, 8080, "rr", &[(3, 1)]);
    let mut to = |port| goes(&mut lab, &segment(CLIENT, 1, port, SYN));
    assert_eq!(
        [80, 443, 8080, 79].map(&mut to),
        ["2", "1", "3", "drop-no-service"]
    );
    let udp_too = rx(&ip(CLIENT, VIP).with(udp(1, 443)));
    assert_eq!(goes(&mut lab, &udp_too), "2");
    let entry = lab
        .worker
        .state()
        .v4
        .iter()
        .find(|entry| entry.protocol == UDP);
    let entry = entry.expect("the connection");
    assert_eq!(
        Ipv4Addr::from_bits(entry.vip),
        VIP,
        "the packet's destination"
    );
    lab.snapshot.marks = Marks::default();
    lab.publish();
    assert_eq!(goes(&mut lab, &segment(CLIENT, 2, 80, SYN)), "3");
}

#[test]
fn a_marks_template_is_for_all_ports_and_protocols() {
    let (mut lab, id) = marked(&[(1, 1), (2, 1)]);
    persist(&mut lab, id, 50_000);
    assert_eq!(goes(&mut lab, &segment(client(1), 1, 80, SYN)), "2");
    assert_eq!(goes(&mut lab, &segment(client(2), 1, 443, SYN)), "2");
    let datagram = rx(&ip(client(3), VIP).with(udp(1, 100)));
    assert_eq!(goes(&mut lab, &datagram), "2");
    let found = template(&lab);
    assert_eq!(found.ip_protocol(), 0);
    assert_eq!(Ipv4Addr::from_bits(found.vip), Ipv4Addr::new(0, 0, 0, 5));
    assert_eq!(
        (found.vip_port, found.real_port, found.controls()),
        (0, 0, 3)
    );
    assert_eq!(counts(&lab, 1), (2, 1, 1));
}

#[test]
fn one_packet_scheduling_keeps_nothing() {
    let mut lab = Lab::new();
    let id = lab.service(UDP, VIP, 53, "rr", &[(1, 1), (2, 1)]);
    lab.change_service(id, |service| service.one_packet = true);
    let ask = rx(&ip(CLIENT, VIP).with(udp(7, 53)));
    let picks: String = (0..4).map(|_| goes(&mut lab, &ask)).collect();
    assert_eq!(picks, "2121", "each on its own");
    assert!(lab.worker.state().v4.is_empty());
    for slot in [0, 1] {
        assert_eq!(counts(&lab, slot), (0, 0, 0));
        let traffic = &lab.real_block(slot).traffic;
        assert_eq!(
            (traffic.connections.get(), traffic.packets_in.get()),
            (2, 2)
        );
    }
    assert_eq!(lab.service_block(0).traffic.connections.get(), 4);
    let counted = &lab.counters;
    assert_eq!(
        counted.connections_made.get(),
        counted.connections_ended.get()
    );
    lab.change_real(0, |real| real.limits = Limits { upper: 1, lower: 0 });
    let picks: String = (0..4).map(|_| goes(&mut lab, &ask)).collect();
    assert_eq!(picks, "2121", "nobody fills up");
}

#[test]
fn one_packet_scheduling_with_persistence_follows_the_template() {
    let mut lab = Lab::new();
    let id = lab.service(UDP, VIP, 53, "rr", &[(1, 1), (2, 1)]);
    lab.change_service(id, |service| service.one_packet = true);
    persist(&mut lab, id, 50_000);
    let ask = rx(&ip(CLIENT, VIP).with(udp(7, 53)));
    let picks: String = (0..3).map(|_| goes(&mut lab, &ask)).collect();
    assert_eq!(picks, "222");
    assert_eq!(template(&lab).controls(), 0);
    assert_eq!(counts(&lab, 1), (0, 0, 1));
    pass(&mut lab, 40);
    goes(&mut lab, &ask);
    assert_eq!(template(&lab).remaining_ms(lab.now), 50_000);
    pass(&mut lab, 52);
    assert!(lab.worker.state().v4.is_empty());
    assert_eq!(counts(&lab, 1), (0, 0, 0));
}

#[test]
fn one_packet_scheduling_is_for_udp() {
    let (mut lab, id) = marked(&[(1, 1), (2, 1)]);
    lab.change_service(id, |service| service.one_packet = true);
    let syn = segment(CLIENT, 1, 80, SYN);
    assert_eq!(goes(&mut lab, &syn), goes(&mut lab, &syn), "a connection");
    let datagram = rx(&ip(CLIENT, VIP).with(udp(1, 80)));
    assert_ne!(goes(&mut lab, &datagram), goes(&mut lab, &datagram));
    assert_eq!(lab.worker.state().v4.len(), 1);
}

#[test]
fn a_nat_real_server_without_a_connection() {
    let (mut lab, id) = lab("rr", &[(1, 1)]);
    nat(&mut lab, 0, 1);
    let dip = Ipv4Addr::new(10, 1, 0, 254);
    lab.own(dip, Owned::Director);
    lab.snapshot.nat_reals = NatReals::new(vec![((TCP, real_ip(1).into(), 80), id)]);
    lab.publish();
    let stray = ip(real_ip(1), CLIENT).with(tcp(80, 9).ack());
    let ends = |lab: &mut Lab, packet: &Packet| {
        let before: Vec<_> = lab.counters.named().collect();
        lab.give(LAN, &from_real(1, packet));
        lab.turn();
        let now = lab.counters.named().zip(before);
        let changed: Vec<_> = now.filter(|(now, then)| now.1 != then.1).collect();
        let names = changed.into_iter().map(|((name, _), _)| name);
        names
            .filter(|name| name.starts_with("drop-") || name.starts_with("punt-"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ends(&mut lab, &stray),
        ["punt-other"],
        "the kernel routes it"
    );
    lab.set(|settings| settings.nat_icmp_send = true);
    assert_eq!(ends(&mut lab, &stray), ["drop-no-connection"]);
    let told = ip(dip, real_ip(1))
        .tos(0xc0)
        .df()
        .with(icmp(3, 3).quoting(&stray));
    assert_eq!(lab.sent(LAN), [told.ether(LAN_MAC, real_mac(1)).bytes()]);
    let reset = ip(real_ip(1), CLIENT).with(tcp(80, 9).flags(RST));
    assert_eq!(ends(&mut lab, &reset), ["punt-other"], "not a RST");
    let other = ip(real_ip(2), CLIENT).with(tcp(80, 9).ack());
    assert_eq!(ends(&mut lab, &other), ["punt-other"], "no real server");
}

#[test]
fn drop_packet_lets_every_third_go() {
    let (mut lab, _) = lab("rr", &[(1, 1)]);
    lab.set(|settings| settings.drop_packet = std::num::NonZeroU16::new(3));
    let ends: Vec<_> = (1..=4).map(|port| opens(&mut lab, CLIENT, port)).collect();
    assert_eq!(ends, ["drop-defence", "1", "1", "drop-defence"]);
    let ack = segment(CLIENT, 2, 80, ACK);
    assert_eq!(goes(&mut lab, &ack), "1", "what is known passes");
    assert_eq!(goes(&mut lab, &ack), "1");
}

#[test]
fn drop_entry_sweeps_out_what_a_flood_leaves() {
    let (mut lab, id) = lab("rr", &[(1, 1)]);
    let dns = lab.service(UDP, VIP, 53, "rr", &[(2, 1)]);
    let nine = |lab: &mut Lab, frame: &[u8]| (0..9).for_each(|_| drop(lab.one(frame)));
    opens(&mut lab, CLIENT, 1);
    for flags in [SYN, ACK] {
        lab.one(&segment(CLIENT, 2, 80, flags));
    }
    lab.one(&segment(CLIENT, 3, 80, SYN));
    nine(&mut lab, &segment(CLIENT, 3, 80, ACK));
    lab.one(&rx(&ip(CLIENT, VIP).with(udp(4, 53))));
    nine(&mut lab, &rx(&ip(CLIENT, VIP).with(udp(5, 53))));
    persist(&mut lab, id, 900_000);
    persist(&mut lab, dns, 900_000);
    let far = Ipv4Addr::new(198, 51, 100, 1);
    opens(&mut lab, far, 6);
    for flags in [SYN, ACK] {
        lab.one(&segment(client(8), 7, 80, flags));
    }
    assert_eq!(lab.worker.state().v4.len(), 9);
    lab.set(|settings| settings.drop_entry = true);
    pass(&mut lab, 33);
    let left = |lab: &Lab| {
        let all = lab.worker.state().v4.iter();
        let mut ports: Vec<_> = all.map(|entry| entry.client_port).collect();
        ports.sort_unstable();
        ports
    };
    // Half open: gone, and with it the template that nothing else vouched for.
    assert_eq!(left(&lab), [0, 2, 3, 4, 5, 7]);
    pass(&mut lab, 60);
    // Idle: what had one packet goes, of two with two packets one; many packets stay.
    assert_eq!(left(&lab), [0, 3, 5, 7]);
    assert_eq!((counts(&lab, 0), counts(&lab, 1)), ((2, 0, 1), (0, 1, 0)));
}

/// What happens to a lab in the property below.
#[derive(Clone, Debug)]
enum Step {
    Segment(u8, u16, bool, u8),
    Datagram(u8, u16),
    Reply(u16, bool),
    Wait(u32),
    Quiesce(bool),
    Remove(bool),
    Persist(Option<u32>),
    Switches(bool, bool, u32, bool),
    Defend(bool, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![Just(2u8), Just(16), Just(17), Just(20)];
    prop_oneof![
        6 => (0..20u8, 1..4u16, any::<bool>(), flags)
            .prop_map(|(n, port, to, flags)| Step::Segment(n, port, to, flags)),
        3 => (0..20u8, 1..4u16).prop_map(|(n, port)| Step::Datagram(n, port)),
        2 => (1..4u16, any::<bool>()).prop_map(|(port, fin)| Step::Reply(port, fin)),
        2 => (0..70_000u32).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Quiesce),
        1 => any::<bool>().prop_map(Step::Remove),
        1 => prop::option::of(1_000..100_000u32).prop_map(Step::Persist),
        1 => (any::<bool>(), any::<bool>(), 0..4u32, any::<bool>())
            .prop_map(|(a, b, mode, once)| Step::Switches(a, b, mode, once)),
        1 => (any::<bool>(), 0..3u16).prop_map(|(entry, n)| Step::Defend(entry, n)),
    ]
}

fn play(lab: &mut Lab, [web, dns]: [ServiceId; 2], step: &Step) {
    match *step {
        Step::Segment(n, port, to_web, flags) => {
            let to = if to_web { 80 } else { 81 };
            lab.one(&segment(client(n), port, to, Flags(flags)));
        }
        Step::Datagram(n, port) => {
            lab.one(&rx(&ip(client(n), VIP).with(udp(port, 53))));
        }
        Step::Reply(port, fin) => reply(lab, 1, port, if fin { FIN } else { ACK }),
        Step::Wait(ms) => {
            lab.wait(ms);
            lab.turn();
        }
        Step::Quiesce(on) => {
            lab.change_real(0, |real| real.quiescent = on);
            lab.change_service(web, |service| {
                service.candidates[1].weight = u32::from(!on);
                service.revision += 1;
            });
        }
        Step::Remove(gone) => lab.change_real(1, |real| real.standing = standing(gone)),
        Step::Persist(ms) => {
            for id in [web, dns] {
                lab.change_service(id, |service| {
                    service.persistence = ms.map(|timeout_ms| Persistence {
                        timeout_ms,
                        mask: 0xffff_fff0,
                    });
                });
            }
        }
        Step::Defend(entry, n) => lab.set(|settings| {
            settings.drop_entry = entry;
            settings.drop_packet = std::num::NonZeroU16::new(n);
        }),
        Step::Switches(nodest, quiescent, mode, once) => {
            lab.set(|settings| {
                settings.expire_nodest_conn = nodest;
                settings.expire_quiescent_template = quiescent;
                settings.conn_reuse = ConnReuse::mode(mode);
            });
            lab.change_service(dns, |service| service.one_packet = once);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn gauges_tell_what_is_there_and_return_to_zero(steps in prop::collection::vec(step(), 0..120)) {
        let (mut lab, web) = lab("wlc", &[(1, 1), (2, 1)]);
        let dns = lab.service(UDP, VIP, 53, "rr", &[(3, 1), (4, 1)]);
        nat(&mut lab, 0, 1);
        nat(&mut lab, 2, 3);
        for step in &steps {
            play(&mut lab, [web, dns], step);
            for slot in 0..4 {
                let of = |wanted: fn(&Entry<u32>) -> bool| {
                    let all = lab.worker.state().v4.iter();
                    all.filter(|entry| entry.real_id.0 == slot && wanted(entry)).count()
                };
                let persistent = of(|entry| entry.flags.has(Bits::TEMPLATE));
                let active = of(|entry| entry.flags.has(Bits::ACTIVE));
                let inactive = of(|_| true) - persistent - active;
                let (a, i, p) = counts(&lab, slot);
                prop_assert_eq!((a as usize, i as usize, p as usize), (active, inactive, persistent));
            }
            let all: Vec<_> = lab.worker.state().v4.iter().collect();
            let controlled = all.iter().filter(|entry| entry.template().is_some()).count();
            let controls: u32 = all.iter().map(|entry| entry.controls()).sum();
            prop_assert_eq!(controls as usize, controlled);
        }
        for _ in 0..40 {
            pass(&mut lab, 1);
            lab.wait(40_000);
        }
        (0..64).for_each(|_| lab.turn());
        prop_assert_eq!(lab.worker.state().v4.len(), 0);
        for slot in 0..4 {
            prop_assert_eq!(counts(&lab, slot), (0, 0, 0));
        }
        let made_under = [0, 1].map(|slot| lab.service_block(slot).made_under[0].get());
        prop_assert_eq!(made_under, [0, 0]);
        let counted = &lab.counters;
        prop_assert_eq!(counted.connections_made.get(), counted.connections_ended.get());
    }
}

/// Lists of clients, by words as in `-U` and `-O`.
fn lists(lab: &mut Lab, id: ServiceId, block: &[&str], allow: &[&str]) {
    let network = |text: &&str| {
        let (address, length) = text.split_once('/').expect("a prefix");
        let address = address.parse().expect("an address");
        Network::new(address, length.parse().expect("a length"))
    };
    let networks = |list: &[&str]| list.iter().map(network).collect::<Vec<_>>();
    let access = Access::new(networks(block), networks(allow));
    ask(lab, id, |asks| asks.access = access);
}

/// Changes what packets ask of a service, as control does: in its real servers, too.
fn ask(lab: &mut Lab, id: ServiceId, change: impl FnOnce(&mut Asks)) {
    lab.change_service(id, |service| change(&mut service.asks));
    let service = lab.snapshot.services.get(id.0).expect("a service").clone();
    for candidate in &service.candidates {
        lab.change_real(candidate.real.0, |real| {
            if real.standing != Standing::Removed {
                real.standing = service.asks.standing(real.quiescent);
            }
        });
    }
}

/// A case: name, block list, allow list, and where three packets go.
type Listed = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    [&'static str; 3],
);

#[test]
fn lists_are_asked_on_every_packet() {
    let (mut lab, id) = lab("rr", &[(1, 1)]);
    let to_dns = |port| rx(&ip(CLIENT, VIP).with(udp(port, 53)));
    lab.service(UDP, VIP, 53, "rr", &[(2, 1)]);
    assert_eq!(opens(&mut lab, client(1), 1), "1");
    assert_eq!(opens(&mut lab, client(2), 1), "1");
    let ack = |n| segment(client(n), 1, 80, ACK);
    #[rustfmt::skip]
    let rows: [Listed; 7] = [
        // A new connection of client 3, a packet of 1's connection and of 2's.
        ("no list",        &[],               &[],               ["1", "1", "1"]),
        ("one is blocked", &["192.0.2.1/32"], &[],               ["1", "drop-blocked", "1"]),
        ("all are",        &["192.0.2.0/24"], &[],               ["drop-blocked"; 3]),
        ("one is allowed", &[],               &["192.0.2.1/32"], ["drop-not-allowed", "1", "drop-not-allowed"]),
        ("and blocked",    &["192.0.2.1/32"], &["192.0.2.1/32"], ["drop-not-allowed", "drop-blocked", "drop-not-allowed"]),
        ("another family", &["2001:db8::/32"], &[],              ["1", "1", "1"]),
        ("no list again",  &[],               &[],               ["1", "1", "1"]),
    ];
    for (port, (name, block, allow, want)) in (10u16..).zip(rows) {
        lists(&mut lab, id, block, allow);
        let before = lab.counters.connections_made.get();
        let got = [
            opens(&mut lab, client(3), port),
            goes(&mut lab, &ack(1)),
            goes(&mut lab, &ack(2)),
        ];
        assert_eq!(got, want, "{name}");
        let made = lab.counters.connections_made.get() - before;
        assert_eq!(made, u64::from(want[0] == "1"), "{name}: {want:?}");
        assert_eq!(
            goes(&mut lab, &to_dns(port)),
            "2",
            "{name}: another service"
        );
    }
}

#[test]
fn a_packet_that_is_taken_leaves_as_without_lists() {
    let (mut lab, id) = lab("rr", &[(1, 1)]);
    lab.sent(LAN);
    let frame = segment(client(1), 7, 80, SYN);
    lab.one(&frame);
    let plain = lab.sent(LAN);
    lists(&mut lab, id, &["198.51.100.0/24"], &["192.0.2.0/28"]);
    lab.one(&frame);
    assert_eq!(lab.sent(LAN), plain, "byte for byte");
    let passed = ip(client(1), VIP).ttl(63).with(tcp(7, 80).flags(SYN));
    assert_eq!(plain, [passed.ether(LAN_MAC, real_mac(1)).bytes()]);
    lists(&mut lab, id, &["192.0.2.1/32"], &[]);
    assert_eq!(lab.one(&frame), ["drop-blocked"]);
    assert!(
        lab.sent(LAN).is_empty() && lab.sent(WAN).is_empty(),
        "silence"
    );
}

#[test]
fn lists_of_a_persistent_service_of_all_ports_and_of_a_mark() {
    let mut lab = Lab::new();
    let all = lab.service(TCP, VIP, 0, "rr", &[(1, 1)]);
    lists(&mut lab, all, &["192.0.2.1/32"], &[]);
    let others = goes(&mut lab, &segment(client(1), 1, 81, SYN));
    assert_eq!(
        others, "drop-no-service",
        "without persistence port 81 is not its"
    );
    persist(&mut lab, all, 50_000);
    assert_eq!(
        goes(&mut lab, &segment(client(1), 1, 81, SYN)),
        "drop-blocked"
    );
    assert!(templates(&lab).is_empty());
    assert_eq!(goes(&mut lab, &segment(client(2), 1, 81, SYN)), "1");
    assert_eq!(template(&lab).controls(), 1);
    lists(&mut lab, all, &["192.0.2.0/24"], &[]);
    assert_eq!(
        goes(&mut lab, &segment(client(2), 1, 81, ACK)),
        "drop-blocked"
    );
}

#[test]
fn a_service_has_a_timeout_of_its_own_in_established() {
    let (mut lab, id) = lab("rr", &[(1, 1)]);
    let step = |lab: &mut Lab, flags| {
        lab.one(&segment(CLIENT, 1, 80, flags));
        life(lab)
    };
    ask(&mut lab, id, |asks| asks.established_ms = Some(90_000));
    assert_eq!(step(&mut lab, SYN), ("SYN_RECV", 60));
    assert_eq!(step(&mut lab, ACK), ("ESTABLISHED", 90));
    assert_eq!(step(&mut lab, ACK), ("ESTABLISHED", 90));
    ask(&mut lab, id, |asks| asks.established_ms = Some(1_800_000));
    assert_eq!(
        step(&mut lab, ACK),
        ("ESTABLISHED", 1800),
        "at its next packet"
    );
    ask(&mut lab, id, |asks| asks.established_ms = None);
    assert_eq!(step(&mut lab, ACK), ("ESTABLISHED", 900));
    ask(&mut lab, id, |asks| asks.established_ms = Some(30_000));
    assert_eq!(
        step(&mut lab, ACK),
        ("ESTABLISHED", 30),
        "from the general one"
    );
    assert_eq!(
        step(&mut lab, FIN),
        ("FIN_WAIT", 120),
        "other states have theirs"
    );
    assert_eq!(step(&mut lab, ACK), ("FIN_WAIT", 120));
    let (mut lab, id) = self::lab("rr", &[(1, 1)]);
    ask(&mut lab, id, |asks| asks.established_ms = Some(30_000));
    step(&mut lab, SYN);
    step(&mut lab, ACK);
    pass(&mut lab, 29);
    assert_eq!(life(&lab), ("ESTABLISHED", 30));
    pass(&mut lab, 3);
    assert!(lab.worker.state().v4.is_empty(), "gone by itself");
}

#[test]
fn udp_knows_no_established() {
    let mut lab = Lab::new();
    let id = lab.service(UDP, VIP, 53, "rr", &[(1, 1)]);
    ask(&mut lab, id, |asks| asks.established_ms = Some(30_000));
    lab.one(&rx(&ip(CLIENT, VIP).with(udp(1, 53))));
    assert_eq!(life(&lab).1, 300);
}

#[test]
fn a_connection_ends_with_its_real_server_where_the_service_says_so() {
    for standing in [Standing::Settled, Standing::Removed] {
        let (mut lab, id) = lab("rr", &[(1, 1), (2, 1)]);
        ask(&mut lab, id, |asks| asks.expire_quiescent = true);
        assert_eq!(opens(&mut lab, CLIENT, 1), "2");
        assert_eq!(opens(&mut lab, CLIENT, 2), "1");
        assert_eq!(goes(&mut lab, &segment(CLIENT, 1, 80, ACK)), "2");
        lab.change_real(1, |real| {
            real.quiescent = true;
            real.standing = standing;
        });
        lab.change_service(id, |service| {
            service.candidates[0].weight = 0;
            service.revision += 1;
        });
        ask(&mut lab, id, |_| {});
        lab.sent(WAN);
        let data = tcp(1, 80).flags(ACK).seq(1000).acks(2000);
        let frame = rx(&ip(CLIENT, VIP).with(data));
        assert_eq!(goes(&mut lab, &frame), "drop-quiescent", "{standing:?}");
        let reset = ip(VIP, CLIENT)
            .df()
            .with(tcp(80, 1).flags(RST).seq(2000).window(0));
        let told = reset.ether(WAN_MAC, GATEWAY_MAC).bytes();
        assert_eq!(lab.sent(WAN), [told], "{standing:?}");
        assert_eq!(goes(&mut lab, &frame), "drop-no-connection", "it is over");
        assert_eq!(opens(&mut lab, CLIENT, 1), "1", "a new one goes elsewhere");
        assert_eq!(
            goes(&mut lab, &segment(CLIENT, 2, 80, ACK)),
            "1",
            "the other's lives"
        );
    }
}

fn standing(gone: bool) -> Standing {
    match gone {
        true => Standing::Removed,
        false => Standing::Settled,
    }
}
