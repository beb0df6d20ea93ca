//! A table without room: who goes, who stays, and what is served without a place.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use common::fleet::{Fleet, Mode, Spec, vip};
use common::*;
use dataplane::conn::Flags as EntryFlags;
use dataplane::sched::Kind;
use wire::build::{ip, sctp, tcp, udp};
use wire::sctp::ChunkType;
use wire::tcp::Flags;

const PLACES: u32 = 256;

fn client(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc633_0000 + n).into()
}

fn service(protocol: u8, kind: Kind, mode: Mode) -> Spec {
    Spec::new(false, protocol, kind, &[(1, mode), (2, mode), (3, mode)])
}

/// One worker with one service.
struct Lab {
    fleet: Fleet,
}

impl Lab {
    fn new(spec: Spec) -> Self {
        Self {
            fleet: Fleet::with_connections(1, vec![spec], PLACES),
        }
    }

    /// A segment or datagram of client `n`: the MAC that it left for, if it left.
    fn from(&mut self, n: u32, flags: Flags) -> Option<u8> {
        let spec = &self.fleet.specs[0];
        let (vip, port) = (vip(0, false), spec.port);
        let packet = match spec.protocol {
            TCP => ip(client(n), vip).with(tcp(1024, port).flags(flags)),
            SCTP => ip(client(n), vip).with(sctp_for(flags, port)),
            _ => ip(client(n), vip).with(udp(1024, port)),
        };
        let frame = packet.ether(GATEWAY_MAC, WAN_MAC).bytes();
        self.fleet.give(0, WAN, &frame);
        let sent = self.fleet.turn(0);
        sent.first().map(|(_, bytes)| bytes[5])
    }

    /// Client `n` opens, and goes on.
    fn establish(&mut self, n: u32) -> Option<u8> {
        self.from(n, Flags::SYN)?;
        self.from(n, Flags::ACK)
    }

    /// All of these open.
    fn flood(&mut self, clients: Range<u32>) {
        for n in clients {
            self.from(n, Flags::SYN);
        }
    }

    /// All of these open, and go on.
    fn fill(&mut self, clients: Range<u32>) {
        for n in clients {
            self.establish(n);
        }
    }

    fn count(&self, name: &str) -> u64 {
        let mut named = self.fleet.counters[0].named();
        named.find(|&(known, _)| known == name).expect(name).1
    }

    fn clients(&self) -> Vec<u32> {
        let table = &self.fleet.workers[0].state().v4;
        let connections = table
            .iter()
            .filter(|entry| !entry.flags.has(EntryFlags::TEMPLATE));
        let mut clients: Vec<_> = connections.map(|entry| entry.client & 0xffff).collect();
        clients.sort_unstable();
        clients
    }

    fn wait(&mut self, ms: u32) {
        self.fleet.now = self.fleet.now.plus(ms);
    }

    /// Lets time pass as turns would.
    fn idle(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.wait(1000);
            (0..8).for_each(|_| drop(self.fleet.turn(0)));
        }
    }
}

/// What of SCTP does what a segment with these flags does.
fn sctp_for(flags: Flags, port: u16) -> wire::build::Sctp {
    let kind = if flags.rst() {
        ChunkType::ABORT
    } else if flags.syn() {
        ChunkType::INIT
    } else {
        ChunkType::COOKIE_ECHO
    };
    let tag = u32::from(kind != ChunkType::INIT);
    sctp(1024, port).tag(tag).chunk(kind.0, &[1; 16])
}

/// Whether a table that is full of one half established connections and of one half SYNs lost
/// any of the former to a flood.
#[test]
fn a_flood_takes_no_established_connection() {
    for (protocol, kind, mode) in [
        (TCP, Kind::Rr, Mode::Dr),
        (TCP, Kind::Mh, Mode::Dr),
        (TCP, Kind::Wlc, Mode::Nat),
        (TCP, Kind::Rr, Mode::FullNat),
        (SCTP, Kind::Rr, Mode::Dr),
        (SCTP, Kind::Mh, Mode::Tun4),
    ] {
        let mut lab = Lab::new(service(protocol, kind, mode));
        let established: Vec<_> = (0..PLACES / 2).map(|n| (n, lab.establish(n))).collect();
        for n in 1000..11_000 {
            lab.from(n, Flags::SYN);
            if n % 64 == 0 {
                lab.wait(1);
            }
        }
        assert_eq!(lab.fleet.workers[0].state().v4.len(), PLACES);
        assert!(
            lab.count("evicted") > 32,
            "{kind:?}: {}",
            lab.count("evicted")
        );
        for (n, real) in established {
            assert_eq!(lab.from(n, Flags::ACK), real, "{kind:?}: client {n}");
        }
        let own = lab.fleet.counters[0].connections_made.get()
            - lab.fleet.counters[0].connections_ended.get();
        assert_eq!(
            own,
            u64::from(PLACES),
            "{kind:?}: what was evicted is counted as ended"
        );
        assert_eq!(lab.count("entries-v4"), u64::from(PLACES));
    }
}

#[test]
fn who_came_first_goes_first_unless_answered() {
    for protocol in [TCP, UDP, SCTP] {
        let mut lab = Lab::new(service(protocol, Kind::Rr, Mode::Dr));
        lab.flood(0..PLACES);
        // A second SYN or INIT is no answer, a second datagram is one.
        lab.from(0, Flags::SYN);
        lab.from(2, Flags::ACK);
        lab.flood(1000..1003);
        let gone: Vec<_> = (0..PLACES).filter(|n| !lab.clients().contains(n)).collect();
        let want: &[u32] = if protocol == UDP {
            &[1, 3, 4]
        } else {
            &[0, 1, 3]
        };
        assert_eq!(gone, want, "protocol {protocol}");
        assert_eq!(lab.count("evicted"), 3);
    }
}

/// 64 a second is the least that a table allows, 32 of them at once.
#[test]
fn a_flood_renews_the_table_no_faster_than_the_budget_allows() {
    let mut lab = Lab::new(service(TCP, Kind::Rr, Mode::Dr));
    lab.flood(0..PLACES);
    lab.flood(1000..2000);
    assert_eq!(lab.count("evicted"), 32);
    assert_eq!(lab.count("drop-table-full"), 1000 - 32);
    lab.wait(250);
    lab.flood(2000..3000);
    assert_eq!(lab.count("evicted"), 32 + 16);
}

/// A table full of established connections: what the hashing schedulers do without a place.
#[test]
fn where_nothing_need_be_remembered_a_full_table_loses_nothing() {
    for (protocol, kind) in [
        (TCP, Kind::Mh),
        (TCP, Kind::Sh),
        (TCP, Kind::Dh),
        (SCTP, Kind::Mh),
    ] {
        for mode in [Mode::Dr, Mode::Tun4, Mode::Tun6] {
            let mut lab = Lab::new(service(protocol, kind, mode));
            lab.fill(0..PLACES);
            let mut reals = Vec::new();
            for n in 1000..1100 {
                let real = lab.from(n, Flags::SYN);
                assert!(real.is_some(), "{kind:?} {mode:?}: client {n}");
                assert_eq!(
                    lab.from(n, Flags::ACK),
                    real,
                    "{kind:?} {mode:?}: client {n}"
                );
                reals.push(real);
            }
            assert_eq!(lab.count("unkept"), 200);
            assert_eq!(lab.fleet.drops(), []);
            assert_eq!(lab.clients(), (0..PLACES).collect::<Vec<_>>());
            let traffic = &lab.fleet.snapshot.blocks[0]
                .services
                .get(0)
                .expect("grown")
                .traffic;
            assert_eq!(traffic.packets_in.get(), u64::from(2 * PLACES + 200));
        }
    }
}

#[test]
fn a_stranger_is_let_by_for_a_minute_after_the_table_was_full() {
    let mut lab = Lab::new(service(TCP, Kind::Mh, Mode::Dr));
    assert_eq!(lab.from(1000, Flags::ACK), None, "never full");
    lab.fill(0..PLACES);
    let real = lab.from(1000, Flags::SYN);
    assert_eq!(lab.from(1000, Flags::ACK), real);
    assert_eq!(
        lab.from(1000, Flags::SYN.and(Flags::RST)),
        None,
        "opens nothing, ever"
    );
    lab.from(0, Flags::RST);
    lab.idle(12);
    assert_eq!(
        lab.clients(),
        (1..PLACES).collect::<Vec<_>>(),
        "closed for 10 s"
    );
    lab.idle(45);
    assert_eq!(lab.from(1000, Flags::ACK), real, "57 s");
    lab.idle(20);
    assert_eq!(lab.from(1000, Flags::ACK), None, "77 s, full for 11");
    assert_eq!(lab.count("drop-no-connection"), 3);
}

#[test]
#[rustfmt::skip]
fn elsewhere_what_finds_no_place_is_dropped() {
    let sticky = Spec { persistence: Some(!0), ..service(TCP, Kind::Mh, Mode::Dr) };
    let cases = [
        ("a scheduler that remembers", service(TCP, Kind::Rr, Mode::Dr)),
        ("replies pass us: NAT",       service(TCP, Kind::Mh, Mode::Nat)),
        ("replies pass us: FULLNAT",   service(TCP, Kind::Sh, Mode::FullNat)),
        ("persistence",                sticky),
    ];
    for (name, spec) in cases {
        let mut lab = Lab::new(spec);
        lab.fill(0..PLACES);
        let before = (lab.count("drop-table-full"), lab.count("drop-no-connection"));
        assert_eq!(lab.from(5000, Flags::SYN), None, "{name}");
        assert_eq!(lab.from(5000, Flags::ACK), None, "{name}");
        let after = (lab.count("drop-table-full"), lab.count("drop-no-connection"));
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{name}");
        assert_eq!(lab.count("unkept"), 0, "{name}");
    }
}

/// Each forged client of a persistent service takes two places: its template goes as well.
#[test]
fn a_flood_of_a_persistent_service_leaves_no_templates_behind() {
    let mut spec = service(TCP, Kind::Rr, Mode::Dr);
    spec.persistence = Some(!0);
    let mut lab = Lab::new(spec);
    lab.fill(0..PLACES / 4);
    let before = lab.clients();
    for n in 1000..4000 {
        lab.from(n, Flags::SYN);
        lab.wait(40);
    }
    let templates = lab.fleet.snapshot.blocks[0]
        .reals
        .get(0)
        .expect("grown")
        .persistent
        .get();
    assert!(templates > 0);
    assert!(before.iter().all(|n| lab.clients().contains(n)));
    assert!(lab.count("evicted") > 1000);
    assert!(
        lab.clients().contains(&3999),
        "there is always room for the next"
    );
    assert_eq!(lab.count("drop-table-full"), 0);
    let real = lab.from(7, Flags::SYN);
    assert!(real.is_some() && real == lab.from(7, Flags::ACK));
}
