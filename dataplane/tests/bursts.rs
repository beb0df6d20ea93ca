//! A burst does what its frames do one by one.
//!
//! While one frame is decided, memory is fetched that later ones of the burst will likely ask for:
//! guesses, from the burst as it came. Two workers with the same services get the same frames, one
//! in bursts and the other one frame a turn, while weights and thresholds change: of every
//! scheduler, all modes and both families, openings of several services among each other and among
//! packets of connections that there are, and more than once in a burst. Guesses are wrong there
//! as often as right.

mod common;

use std::net::IpAddr;

use common::fleet::{Fleet, Mode, Spec, real_address, vip};
use common::*;
use dataplane::port::{BURST, PortId};
use dataplane::sched::Kind;
use proptest::prelude::*;
use wire::build::{Packet, ip, tcp, udp};
use wire::tcp::Flags;

/// Services of a case.
const SERVICES: usize = 3;
const REALS: u8 = 4;
const CLIENTS: u8 = 3;
const PORTS: u16 = 12;

const KINDS: [Kind; 14] = [
    Kind::Rr,
    Kind::Wrr,
    Kind::Lc,
    Kind::Wlc,
    Kind::Sh,
    Kind::Dh,
    Kind::Lblc,
    Kind::Lblcr,
    Kind::Sed,
    Kind::Nq,
    Kind::Fo,
    Kind::Ovf,
    Kind::Mh,
    Kind::Twos,
];

/// A client's packet, or a real server's.
#[derive(Clone, Copy, Debug)]
struct Sent {
    service: usize,
    client: u8,
    port: u16,
    syn: bool,
    /// The real server that answers, at its place in the list.
    real: u8,
}

/// A burst, after a wait and a change.
#[derive(Clone, Debug)]
struct Round {
    frames: Vec<Sent>,
    back: bool,
    wait_ms: u32,
    change: Option<Change>,
}

/// What control publishes about a service.
#[derive(Clone, Debug)]
enum Change {
    Weights(Vec<u32>),
    /// The upper threshold of each of its real servers.
    Upper(u32),
    Kind(Kind),
}

fn spec() -> impl Strategy<Value = Spec> {
    let mode = |v6| prop::sample::select(Mode::of_family(v6));
    // NAT most of all, and mostly one mode throughout.
    let modes = any::<bool>().prop_flat_map(move |v6| {
        let all = usize::from(REALS);
        let same = prop_oneof![1 => Just(Mode::Nat), 1 => mode(v6)];
        let same = same.prop_map(move |mode| vec![mode; all]);
        let mixed = prop::collection::vec(mode(v6), all);
        (Just(v6), prop_oneof![3 => same, 1 => mixed])
    });
    let kind = prop::sample::select(&KINDS[..]);
    let rest = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    (modes, kind, rest).prop_map(|((v6, modes), kind, (tcp, persists, once))| {
        let reals: Vec<_> = (1..=REALS).zip(modes).collect();
        let mut spec = Spec::new(v6, if tcp { TCP } else { UDP }, kind, &reals);
        spec.persistence = persists.then_some(u128::MAX);
        spec.one_packet = once;
        spec
    })
}

fn change() -> impl Strategy<Value = Change> {
    let weights = prop::collection::vec(0u32..4, usize::from(REALS));
    prop_oneof![
        3 => weights.prop_map(Change::Weights),
        2 => (0u32..6).prop_map(Change::Upper),
        1 => prop::sample::select(&KINDS[..]).prop_map(Change::Kind),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    // Mostly of one service.
    let service = prop_oneof![3 => Just(0), 1 => 0..SERVICES];
    let sent = (
        service,
        0..CLIENTS,
        0..PORTS,
        prop::bool::weighted(0.8),
        0..REALS,
    );
    let sent = sent.prop_map(|(service, client, port, syn, real)| Sent {
        service,
        client,
        port,
        syn,
        real,
    });
    let frames = prop::collection::vec(sent, 1..=BURST);
    let wait_ms = prop_oneof![3 => Just(0u32), 1 => 0u32..200_000];
    let change = prop_oneof![3 => Just(None), 1 => change().prop_map(Some)];
    (frames, prop::bool::weighted(0.2), wait_ms, change).prop_map(
        |(frames, back, wait_ms, change)| Round {
            frames,
            back,
            wait_ms,
            change,
        },
    )
}

fn apply(fleet: &mut Fleet, service: usize, change: Change) {
    let spec = &mut fleet.specs[service];
    match change {
        Change::Weights(weights) => spec.weights = weights,
        Change::Upper(upper) => spec.upper = upper,
        Change::Kind(kind) => spec.kind = kind,
    }
    fleet.compile();
}

fn client(n: u8, v6: bool) -> IpAddr {
    match v6 {
        false => [8, 8, 8, n].into(),
        true => [0x2001, 0xdb8, 9, 0, 0, 0, 0, u16::from(n)].into(),
    }
}

/// The frame, and the port by which it comes. What a real server sends to a client is NAT's.
fn frame(spec: &Spec, sent: Sent, back: bool) -> (PortId, Vec<u8>) {
    let client = (client(sent.client, spec.v6), 1000 + sent.port);
    let (n, mode) = spec.reals[usize::from(sent.real)];
    let (from, to) = match back && mode.real_is_v6(spec.v6) == spec.v6 {
        true => ((real_address(n, spec.v6), spec.real_port(mode)), client),
        false => (client, (vip(sent.service, spec.v6), spec.port)),
    };
    let flags = match (sent.syn, back) {
        (false, _) => Flags::ACK,
        (true, false) => Flags::SYN,
        (true, true) => Flags(Flags::SYN.0 | Flags::ACK.0),
    };
    let packet: Packet = match spec.protocol {
        TCP => ip(from.0, to.0).with(tcp(from.1, to.1).flags(flags)),
        _ => ip(from.0, to.0).with(udp(from.1, to.1).payload(vec![7; 9])),
    };
    match back {
        true => (LAN, packet.ether(GATEWAY_MAC, LAN_MAC).bytes()),
        false => (WAN, packet.ether(GATEWAY_MAC, WAN_MAC).bytes()),
    }
}

/// What was sent, by port and there in its order; ICMP errors, which we make, go after a turn's
/// frames.
fn by_port(mut sent: Vec<(PortId, Vec<u8>)>) -> Vec<(PortId, Vec<u8>)> {
    let is_made = |frame: &[u8]| match frame[12..14] {
        [8, 0] => frame[23] == 1,
        _ => frame[20] == 58,
    };
    sent.sort_by_key(|(port, frame)| (port.0, is_made(frame)));
    sent
}

fn counts(fleet: &Fleet) -> Vec<(&'static str, u64)> {
    let named = fleet.counters[0].named();
    named
        .filter(|(name, _)| !name.contains("cycles") && !name.contains("turns"))
        .collect()
}

/// All connections, and what is counted of services and real servers.
fn known(fleet: &Fleet) -> Vec<String> {
    let state = fleet.workers[0].state();
    let v4 = state.v4.iter().map(|entry| format!("{entry:?}"));
    let v6 = state.v6.iter().map(|entry| format!("{entry:?}"));
    let blocks = &fleet.snapshot.blocks[0];
    let services = (0..3).map(|id| format!("{:?}", blocks.services.get(id)));
    let reals = (0..3 * common::fleet::REALS).map(|id| format!("{:?}", blocks.reals.get(id)));
    v4.chain(v6).chain(services).chain(reals).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_burst_is_its_frames(
        specs in prop::collection::vec(spec(), SERVICES),
        rounds in prop::collection::vec(round(), 1..16),
        connections in prop_oneof![Just(24u32), Just(512)],
    ) {
        let fleet = || Fleet::with_connections(1, specs.clone(), connections);
        let (mut at_once, mut single) = (fleet(), fleet());
        for Round { frames, back, wait_ms, change } in rounds {
            for fleet in [&mut at_once, &mut single] {
                if let Some(change) = change.clone() {
                    apply(fleet, frames[0].service, change);
                }
                fleet.now = fleet.now.plus(wait_ms);
                // What has ended meanwhile is gone for both, however many turns they take.
                fleet.workers[0].settle(fleet.now);
            }
            let mut one_by_one = Vec::new();
            for &sent in &frames {
                let (port, bytes) = frame(&specs[sent.service], sent, back);
                at_once.give(0, port, &bytes);
                single.give(0, port, &bytes);
                one_by_one.extend(single.turn(0));
            }
            prop_assert_eq!(by_port(at_once.turn(0)), by_port(one_by_one));
        }
        prop_assert_eq!(counts(&at_once), counts(&single));
        prop_assert_eq!(known(&at_once), known(&single));
    }
}

/// The property above would hold, too, if nothing was ever opened.
#[test]
fn a_burst_of_openings_opens_each_once() {
    for kind in [Kind::Rr, Kind::Wlc, Kind::Sh, Kind::Mh] {
        for mode in [Mode::Nat, Mode::FullNat, Mode::Dr] {
            for v6 in [false, true] {
                let reals: Vec<_> = (1..=REALS).map(|n| (n, mode)).collect();
                let specs = [0, 1].map(|_| Spec::new(v6, TCP, kind, &reals));
                let mut fleet = Fleet::new(1, specs.to_vec());
                for n in 0..32 {
                    // Eight of each of two clients and two services; each twice.
                    let sent = Sent {
                        service: usize::from(n / 8 % 2),
                        client: u8::from(n % 2 == 0),
                        port: n % 8,
                        syn: true,
                        real: 0,
                    };
                    let (port, bytes) = frame(&specs[sent.service], sent, false);
                    fleet.give(0, port, &bytes);
                }
                assert_eq!(fleet.turn(0).len(), 32, "{kind:?} {mode:?}");
                let counters = &fleet.counters[0];
                assert_eq!(counters.connections_made.get(), 16, "{kind:?} {mode:?}");
            }
        }
    }
}
