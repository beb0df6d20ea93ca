//! The common way of a packet and the long one: the same bytes, counts and connections.
//!
//! A VIP that is not held makes the worker ask about packets for addresses that end like it. Two
//! workers, one with such VIPs of every ending beside its services, so that none of its packets
//! takes the common way, get the same packets: of all modes, both families, TCP and UDP, from
//! clients and real servers, with all kinds of flags and hops.

mod common;

use std::net::IpAddr;

use common::fleet::{Fleet, Mode, Spec, real_address, vip};
use common::*;
use dataplane::port::{BURST, PortId};
use dataplane::sched::Kind;
use dataplane::services::{Owned, Unmatched};
use proptest::prelude::*;
use wire::build::{Packet, ip, tcp, udp};
use wire::tcp::Flags;

const TCP: u8 = 6;
const UDP: u8 = 17;
const CLIENTS: u8 = 3;
/// Services that one run's packets are for: of more each connection would have too few.
const PICKED: usize = 3;

/// One packet of a connection, or a wait.
#[derive(Clone, Debug)]
struct Step {
    service: usize,
    client: u8,
    back: bool,
    flags: u8,
    ttl: u8,
    octets: usize,
    df: bool,
    wait_ms: u32,
    /// By the port that it would leave by: then a burst's frames leave by both.
    astray: bool,
    /// Whether it shares the next one's burst.
    waits: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let usual = Flags::ACK.0;
    let flags = prop_oneof![
        6 => Just(usual),
        2 => Just(Flags::SYN.0),
        1 => any::<u8>(),
    ];
    let ttl = prop_oneof![8 => Just(64u8), 1 => 0u8..4];
    let octets = prop_oneof![8 => 0usize..20, 1 => 1430usize..1480];
    let wait_ms = prop_oneof![30 => 0u32..50, 1 => 0u32..400_000];
    let who = (0..PICKED, 0..CLIENTS, any::<bool>());
    let how = (prop::bool::weighted(0.2), prop::bool::weighted(0.7));
    (who, flags, ttl, octets, any::<bool>(), wait_ms, how).prop_map(
        |((service, client, back), flags, ttl, octets, df, wait_ms, (astray, waits))| Step {
            service,
            client,
            back,
            flags,
            ttl,
            octets,
            df,
            wait_ms,
            astray,
            waits,
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
    specs
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
    let packet = ip(from, to).ttl(step.ttl);
    let packet = if step.df { packet.df() } else { packet };
    let data = vec![7; step.octets];
    match spec.protocol {
        TCP => packet.with(
            tcp(from_port, to_port)
                .flags(Flags(step.flags))
                .payload(data),
        ),
        _ => packet.with(udp(from_port, to_port).payload(data)),
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
        picked in [0..specs().len(), 0..specs().len(), 0..specs().len()],
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let [mut common, mut long] = both_ways(&specs());
        let mut seen = std::collections::HashMap::new();
        let mut together = 0;
        for mut step in steps {
            step.service = picked[step.service];
            let spec = common.specs[step.service].clone();
            let of = (step.service, step.client);
            let packet = packet(&spec, step.service, &step, seen.get(&of).copied());
            let inside = step.back != step.astray;
            let port = PortId(u16::from(inside));
            let mac = if inside { LAN_MAC } else { WAN_MAC };
            let frame = packet.ether(GATEWAY_MAC, mac).bytes();
            for fleet in [&mut common, &mut long] {
                fleet.now = fleet.now.plus(step.wait_ms);
                // Twice in one burst: the second finds the table as the first left it.
                fleet.give(0, port, &frame);
                fleet.give(0, port, &frame);
            }
            together += 1;
            if step.waits && together < BURST / 2 {
                continue;
            }
            let alone = std::mem::take(&mut together) == 1;
            let (short, other) = (common.turn(0), long.turn(0));
            let equal = short.iter().map(one_zero).eq(other.iter().map(one_zero));
            prop_assert!(equal, "{step:?}\n{short:02x?}\n{other:02x?}");
            if alone && let Some((_, sent)) = short.last() && !step.back && spec.reals[0].1.is_two_way() {
                seen.insert(of, source(sent, spec.v6).expect("whole"));
            }
        }
        prop_assert_eq!(counts(&common), counts(&long));
        prop_assert_eq!(connections(&common), connections(&long));
        for service in 0..20 {
            prop_assert_eq!(traffic(&common, service), traffic(&long, service));
        }
    }
}
