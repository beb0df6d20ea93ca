//! The common way of a packet and the long one: the same bytes, counts and connections.
//!
//! A VIP that is not held makes the worker ask about packets for addresses that end like it. Two
//! workers, one with such VIPs of every ending beside its services, so that none of its packets
//! takes the common way, get the same packets: of all modes, both families, TCP and UDP, from
//! clients and real servers, with all kinds of flags, hops, padding, checksums and room in their
//! buffers, while the real servers, links and timeouts change. And a burst is what its frames are
//! one by one.

mod common;

use std::net::IpAddr;

use common::fleet::{Fleet, Mode, REALS, Spec, forwarder, real_address, vip};
use common::*;
use dataplane::fwd::{Checksum, Envelope, Forwarder, Port};
use dataplane::memory::HEADROOM;
use dataplane::port::{BURST, PortId};
use dataplane::sched::Kind;
use dataplane::services::{Addresses, Owned, Standing, Unmatched};
use proptest::prelude::*;
use wire::build::{Packet, ip, tcp, udp};
use wire::tcp::Flags;

const TCP: u8 = 6;
const UDP: u8 = 17;
const CLIENTS: u8 = 2;
/// Of all services, those that a case is about: few, so that their connections get many packets.
const SERVICES: usize = 3;

/// One packet of a connection, after a wait and a change.
#[derive(Clone, Debug)]
struct Step {
    /// Which of the case's.
    service: usize,
    client: u8,
    back: bool,
    flags: u8,
    ttl: u8,
    octets: usize,
    df: bool,
    dress: Dress,
    /// Frames between it and the same once more.
    between: usize,
    wait_ms: u32,
    change: Option<Change>,
    /// Octets of the buffer in front of it.
    room: usize,
    /// By the port that it would leave by: then a burst's frames leave by both.
    astray: bool,
    /// Whether the next one may come in the same burst.
    waits: bool,
}

/// What else a packet may look like.
#[derive(Clone, Copy, Debug)]
struct Dress {
    /// Octets behind the packet.
    padding: usize,
    tos: u8,
    sum: Sum,
}

/// The transport's checksum.
#[derive(Clone, Copy, Debug)]
enum Sum {
    Right,
    Wrong,
    /// In UDP.
    Absent,
}

/// What control publishes before a packet comes.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Of the link to the real servers.
    Mtu(u16),
    /// Of TCP and UDP, in seconds.
    Timeouts(u32, u32),
    /// How things stand with the service's real server, and whether it is quiescent.
    Stands(Standing, bool),
    /// That has another mode, which new connections have.
    Edited(Mode),
    /// Its tunnel's envelope, and how much narrower that has become.
    Wrapped(Envelope, u16),
    /// Whether its MAC is known.
    Known(bool),
}

fn dress() -> impl Strategy<Value = Dress> {
    let padding = prop_oneof![3 => Just(0usize), 2 => 1usize..30];
    let tos = prop_oneof![2 => Just(0u8), 1 => any::<u8>()];
    let sum = prop_oneof![6 => Just(Sum::Right), 1 => Just(Sum::Wrong), 2 => Just(Sum::Absent)];
    (padding, tos, sum).prop_map(|(padding, tos, sum)| Dress { padding, tos, sum })
}

fn change() -> impl Strategy<Value = Change> {
    let standing = prop_oneof![
        Just(Standing::Settled),
        Just(Standing::Watched),
        Just(Standing::Removed),
    ];
    let envelope = prop_oneof![
        2 => Just(Envelope::Ipip),
        1 => Just(Envelope::Gre { summed: true }),
        1 => Just(Envelope::Gue { port: Port::from(6080), checksum: Checksum::None }),
    ];
    let mtu = prop_oneof![Just(1500u16), 1400u16..1500];
    let mode = prop::sample::select(&Mode::ALL[..]);
    prop_oneof![
        mtu.prop_map(Change::Mtu),
        (1u32..1000, 1u32..400).prop_map(|(tcp, udp)| Change::Timeouts(tcp, udp)),
        (standing, any::<bool>()).prop_map(|(how, idle)| Change::Stands(how, idle)),
        mode.prop_map(Change::Edited),
        (envelope, 0u16..40).prop_map(|(how, less)| Change::Wrapped(how, less)),
        any::<bool>().prop_map(Change::Known),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let usual = Flags::ACK.0;
    let flags = prop_oneof![
        6 => Just(usual),
        2 => Just(Flags::SYN.0),
        2 => any::<u8>(),
    ];
    let ttl = prop_oneof![8 => Just(64u8), 1 => 0u8..4];
    let octets = prop_oneof![8 => 0usize..20, 1 => 1430usize..1480];
    let wait_ms = prop_oneof![30 => 0u32..50, 1 => 0u32..400_000];
    let who = (0..SERVICES, 0..CLIENTS, any::<bool>());
    let change = prop_oneof![20 => Just(None), 1 => change().prop_map(Some)];
    let between = prop_oneof![Just(0usize), 1usize..30];
    let when = (between, wait_ms, change);
    let room = prop_oneof![8 => Just(HEADROOM), 1 => 0..HEADROOM];
    let how = (prop::bool::weighted(0.2), prop::bool::weighted(0.7), room);
    (who, flags, ttl, octets, any::<bool>(), dress(), when, how).prop_map(
        |((service, client, back), flags, ttl, octets, df, dress, when, how)| {
            let (between, wait_ms, change) = when;
            let (astray, waits, room) = how;
            Step {
                service,
                client,
                back,
                flags,
                ttl,
                octets,
                df,
                dress,
                between,
                wait_ms,
                change,
                room,
                astray,
                waits,
            }
        },
    )
}

/// A service of every mode, family and protocol, each with a real server of its own.
fn specs() -> Vec<Spec> {
    let mut specs = Vec::new();
    for v6 in [false, true] {
        for protocol in [TCP, UDP] {
            for mode in Mode::ALL {
                let n = u8::try_from(specs.len() % 5 + 1).expect("small");
                specs.push(Spec::new(v6, protocol, Kind::Rr, &[(n, mode)]));
            }
        }
    }
    for v6 in [false, true] {
        for protocol in [TCP, UDP] {
            for mode in [Mode::Dr, Mode::FullNat] {
                let mut spec = Spec::new(v6, protocol, Kind::Rr, &[(5, mode)]);
                spec.persistence = Some(u128::MAX);
                specs.push(spec);
            }
        }
    }
    specs
}

/// Publishes what the specs say, and the changes since.
fn publish(fleet: &mut Fleet, changes: &[(usize, Change)]) {
    fleet.mtus = [1500; 2];
    for (_, change) in changes {
        match *change {
            Change::Mtu(mtu) => fleet.mtus[1] = mtu,
            Change::Timeouts(tcp, udp) => {
                let timeouts = dataplane::conn::timeout::Timeouts::with_set(tcp, 120, udp);
                std::sync::Arc::make_mut(&mut fleet.snapshot.settings).timeouts = timeouts;
            }
            _ => {}
        }
    }
    fleet.compile();
    let snapshot = &mut fleet.snapshot;
    for &(service, change) in changes {
        let id = u32::try_from(service).expect("few") * REALS;
        let (n, v6) = (fleet.specs[service].reals[0].0, fleet.specs[service].v6);
        let mut real = *snapshot.reals.get(id).expect("it was compiled");
        match change {
            Change::Stands(standing, quiescent) => {
                // One with another mode is not as it was before its older connections are gone.
                if real.standing != Standing::Edited || standing == Standing::Removed {
                    real.standing = standing;
                }
                real.quiescent = quiescent;
            }
            Change::Edited(mode) => {
                let former = [real.forwarder].into();
                snapshot.formers.set(id, former);
                real.standing = Standing::Edited;
                real.forwarder = forwarder(n, mode);
                real.address = real_address(n, v6);
            }
            Change::Wrapped(how, less) => {
                if let Forwarder::Tun {
                    envelope, narrower, ..
                } = &mut real.forwarder
                {
                    (*envelope, *narrower) = (how, less);
                }
            }
            Change::Known(known) => {
                let hop = *snapshot.hops.get(n.into()).expect("compiled");
                let hop = hop.with_destination(known.then_some(GATEWAY_MAC));
                snapshot.hops.set(n.into(), hop);
            }
            Change::Mtu(_) | Change::Timeouts(..) => {}
        }
        snapshot.reals.set(id, real);
    }
    fleet.publish();
}

fn client(n: u8, v6: bool) -> IpAddr {
    match v6 {
        false => [8, 8, 8, n].into(),
        true => [0x2001, 0xdb8, 9, 0, 0, 0, 0, u16::from(n)].into(),
    }
}

/// The packet of a step; a reply goes to where FULLNAT's last packet came from.
fn packet(spec: &Spec, at: usize, step: &Step, seen: Option<(IpAddr, u16)>) -> Packet {
    let (n, mode) = spec.reals[0];
    let from = (client(step.client, spec.v6), 1000);
    let ((from, from_port), (to, to_port)) = if step.back {
        let real = (real_address(n, spec.v6), spec.real_port(mode));
        (real, seen.unwrap_or(from))
    } else {
        (from, (vip(at, spec.v6), spec.port))
    };
    let packet = ip(from, to).ttl(step.ttl).tos(step.dress.tos);
    let packet = if step.df { packet.df() } else { packet };
    let data = vec![7; step.octets];
    let segment = tcp(from_port, to_port).flags(Flags(step.flags));
    let datagram = udp(from_port, to_port);
    match (spec.protocol, step.dress.sum) {
        (TCP, Sum::Wrong) => packet.with(segment.payload(data).bad_checksum()),
        (TCP, _) => packet.with(segment.payload(data)),
        (_, Sum::Right) => packet.with(datagram.payload(data)),
        (_, Sum::Wrong) => packet.with(datagram.payload(data).bad_checksum()),
        (_, Sum::Absent) => packet.with(datagram.payload(data).unsummed()),
    }
}

/// The source of a frame that goes to a real server.
fn source(frame: &[u8], v6: bool) -> Option<(IpAddr, u16)> {
    let port = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    if v6 {
        let address: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
        Some((address.into(), port(54)?))
    } else {
        let address: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
        Some((address.into(), port(34)?))
    }
}

/// A frame in which an IPv4 checksum has one zero: one's complement has two.
fn one_zero((port, frame): &(PortId, Vec<u8>)) -> (PortId, Vec<u8>) {
    let mut frame = frame.clone();
    if frame[12..14] == [8, 0] && frame[24..26] == [0xff, 0xff] {
        frame[24..26].fill(0);
    }
    (*port, frame)
}

/// The same without the identification of an outer packet: one that found no room in its buffer may
/// have taken one.
fn unnumbered(sent: &(PortId, Vec<u8>)) -> (PortId, Vec<u8>) {
    let (port, mut frame) = one_zero(sent);
    if frame[12..14] == [8, 0] && frame[26..30] == [10, 1, 0, 2] {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    (port, frame)
}

fn counts(fleet: &Fleet) -> Vec<(&'static str, u64)> {
    let named = fleet.counters[0].named();
    named.filter(|(name, _)| !name.contains("cycles")).collect()
}

/// Every connection of a worker, as it would be listed.
fn connections(fleet: &Fleet) -> Vec<String> {
    let state = fleet.workers[0].state();
    let v4 = state.v4.iter().map(|entry| format!("{entry:?}"));
    let v6 = state.v6.iter().map(|entry| format!("{entry:?}"));
    let mut all: Vec<_> = v4.chain(v6).collect();
    all.sort();
    all
}

fn traffic(fleet: &Fleet, service: u32) -> String {
    let blocks = &fleet.snapshot.blocks[0];
    let own = blocks.services.get(service).expect("a service");
    format!("{own:?}")
}

/// Two workers with the same services: packets of the second take the long way.
fn both_ways(specs: &[Spec]) -> [Fleet; 2] {
    let [mut common, mut long] = [(); 2].map(|()| Fleet::new(1, specs.to_vec()));
    let held = Owned::Vip {
        held: false,
        unmatched: Unmatched::Drop,
    };
    let endings = (0..=255).map(|last| ([203, 0, 113, last].into(), held));
    long.also_owned.extend(endings);
    long.compile();
    common.compile();
    [common, long]
}

/// So many connections that tuples of one bucket share tags: first guesses are wrong.
#[test]
fn the_same_where_guesses_are_wrong() {
    const CONNECTIONS: u16 = 480;
    for v6 in [false, true] {
        let specs = [Spec::new(v6, TCP, Kind::Rr, &[(1, Mode::Nat)])];
        let [mut common, mut long] = both_ways(&specs);
        let (client, vip, real) = (client(1, v6), vip(0, v6), real_address(1, v6));
        let real_port = specs[0].real_port(Mode::Nat);
        let ports: Vec<_> = (1000..1000 + CONNECTIONS).collect();
        let to_vip = |port, flags| ip(client, vip).with(tcp(port, specs[0].port).flags(flags));
        let back = |port| ip(real, client).with(tcp(real_port, port).ack());
        for round in 0..5 {
            for ports in ports.chunks(BURST) {
                for &port in ports {
                    let (packet, by, mac) = match round {
                        0 => (to_vip(port, Flags::SYN), WAN, WAN_MAC),
                        1 | 3 => (to_vip(port, Flags::ACK), WAN, WAN_MAC),
                        _ => (back(port), LAN, LAN_MAC),
                    };
                    let frame = packet.ether(GATEWAY_MAC, mac).bytes();
                    common.give(0, by, &frame);
                    long.give(0, by, &frame);
                }
                let (short, other) = (common.turn(0), long.turn(0));
                assert_eq!(short.len(), ports.len(), "round {round}");
                let equal = short.iter().map(one_zero).eq(other.iter().map(one_zero));
                assert!(equal, "round {round}");
            }
        }
        assert_eq!(counts(&common), counts(&long));
        assert_eq!(connections(&common), connections(&long));
        assert_eq!(traffic(&common, 0), traffic(&long, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_common_way_is_the_long_way(
        services in prop::array::uniform3(0..specs().len()),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let [mut common, mut long] = both_ways(&specs());
        let mut seen = std::collections::HashMap::new();
        let mut changes = Vec::new();
        let mut waiting = 0;
        let mut cramped = false;
        for step in steps {
            cramped |= step.room < HEADROOM;
            if let Some(change) = step.change {
                changes.push((services[step.service], change));
                publish(&mut common, &changes);
                publish(&mut long, &changes);
            }
            let service = services[step.service];
            let spec = common.specs[service].clone();
            let of = (service, step.client);
            let packet = packet(&spec, service, &step, seen.get(&of).copied());
            let inside = step.back != step.astray;
            let port = PortId(u16::from(inside));
            let mac = if inside { LAN_MAC } else { WAN_MAC };
            let mut frame = packet.ether(GATEWAY_MAC, mac).bytes();
            frame.extend(vec![0xaa; step.dress.padding]);
            for fleet in [&mut common, &mut long] {
                fleet.now = fleet.now.plus(step.wait_ms);
                // Twice in one burst: the second finds the table as the first left it, also where it
                // was looked up before the first was decided.
                fleet.give_with_room(0, port, &frame, step.room);
                (0..step.between).for_each(|_| fleet.give(0, port, &[0; 20]));
                fleet.give_with_room(0, port, &frame, step.room);
            }
            waiting += 2 + step.between;
            if step.waits && waiting < BURST {
                continue;
            }
            let mut sent = Vec::new();
            for _ in 0..waiting.div_ceil(BURST) {
                let (short, other) = (common.turn(0), long.turn(0));
                let alike = if cramped { unnumbered } else { one_zero };
                let equal = short.iter().map(alike).eq(other.iter().map(alike));
                prop_assert!(equal, "{step:?}\n{short:02x?}\n{other:02x?}");
                sent.extend(short);
            }
            let alone = std::mem::take(&mut waiting) == 2 + step.between;
            if alone && let Some((_, sent)) = sent.last() && !step.back && spec.reals[0].1.is_two_way() {
                seen.insert(of, source(sent, spec.v6).unwrap_or((client(9, spec.v6), 9)));
            }
        }
        prop_assert_eq!(counts(&common), counts(&long));
        prop_assert_eq!(connections(&common), connections(&long));
        for service in 0..u32::try_from(specs().len()).expect("few") {
            prop_assert_eq!(traffic(&common, service), traffic(&long, service));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// A table that is soon full, frames of every kind between, perhaps all by one device: what one
    /// frame changes, all behind it in its burst find changed.
    #[test]
    fn a_burst_is_its_frames_one_by_one(
        services in prop::array::uniform3(0..specs().len()),
        steps in prop::collection::vec(step(), 1..150),
        places in prop::option::of(1u32..8),
    ) {
        let fleet = || match places {
            Some(places) => Fleet::with_connections(1, specs(), places),
            None => Fleet::of_one_arm(1, specs()),
        };
        let (mut bursts, mut single) = (fleet(), fleet());
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        for step in steps {
            if let Some(change) = step.change {
                changes.push((services[step.service], change));
                publish(&mut bursts, &changes);
                publish(&mut single, &changes);
            }
            let service = services[step.service];
            let spec = bursts.specs[service].clone();
            let packet = packet(&spec, service, &step, None);
            let inside = step.back != step.astray;
            let mac = if inside { LAN_MAC } else { WAN_MAC };
            let frame = packet.ether(GATEWAY_MAC, mac).bytes();
            let port = PortId(u16::from(inside));
            waiting.extend(vec![(port, frame); 1 + step.between % 3]);
            if step.waits && waiting.len() < BURST - 2 {
                continue;
            }
            if places.is_some() {
                // As they are taken in: one device after the other.
                waiting.sort_by_key(|&(port, _)| port);
            }
            let mut one_by_one = Vec::new();
            for (port, frame) in waiting.drain(..) {
                bursts.give(0, port, &frame);
                single.give(0, port, &frame);
                one_by_one.extend(single.turn(0));
            }
            let mut at_once = bursts.turn(0);
            // Frames of our making go last in a turn.
            at_once.sort();
            one_by_one.sort();
            prop_assert_eq!(at_once, one_by_one, "{:?}", step);
            for fleet in [&mut bursts, &mut single] {
                fleet.now = fleet.now.plus(step.wait_ms);
                fleet.workers[0].settle(fleet.now);
            }
        }
        let verdicts = |fleet| {
            let mut counts = counts(fleet);
            counts.retain(|(name, _)| !name.contains("turns"));
            counts
        };
        prop_assert_eq!(verdicts(&bursts), verdicts(&single));
        prop_assert_eq!(connections(&bursts), connections(&single));
    }
}

/// What makes the long way long in the test above is that the common one leaves packets to VIPs of
/// others alone; which is tested by itself.
#[test]
fn established_connections_of_a_vip_that_is_anothers_now_are_refused() {
    for (at, spec) in specs().into_iter().enumerate() {
        let mut fleet = Fleet::new(1, specs());
        let step = Step {
            service: at,
            client: 1,
            back: false,
            flags: Flags::SYN.0,
            ttl: 64,
            octets: 20,
            df: true,
            dress: Dress {
                padding: 0,
                tos: 0,
                sum: Sum::Right,
            },
            between: 0,
            wait_ms: 0,
            change: None,
            room: HEADROOM,
            astray: false,
            waits: false,
        };
        let frame = |flags| {
            let step = Step { flags, ..step };
            let packet = packet(&spec, at, &step, None);
            packet.ether(GATEWAY_MAC, WAN_MAC).bytes()
        };
        for flags in [Flags::SYN, Flags::ACK, Flags::ACK, Flags::ACK] {
            fleet.give(0, WAN, &frame(flags.0));
            assert_eq!(fleet.turn(0).len(), 1, "{at} is forwarded");
        }
        let held = Owned::Vip {
            held: false,
            unmatched: Unmatched::Drop,
        };
        fleet.snapshot.addresses = Addresses::new(vec![(vip(at, spec.v6), held)]);
        fleet.publish();
        fleet.give(0, WAN, &frame(Flags::ACK.0));
        assert!(fleet.turn(0).is_empty(), "{at} is not");
        assert_eq!(fleet.drops(), [("drop-vip-not-held", 1)], "{at}");
    }
}
