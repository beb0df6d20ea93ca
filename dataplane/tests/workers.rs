//! Several workers, in any order and whatever queue a packet comes by: clients and real
//! servers of a model talk through them, and each frame that leaves is compared with the one
//! that the model says it must be.
//!
//! Connections of all modes and both families; packets, replies and ICMP errors. Demanded:
//! one real server for a connection's whole life, the one that a single worker would have
//! chosen where the scheduler keeps no state; equal counts; one owner; nothing lost.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::fleet::{Fleet, Mode, REALS, Spec, real_address, tunnel, vip};
use common::intact::intact;
use common::*;
use dataplane::conn::{Address, Entry, Key, Side, Table};
use dataplane::fwd::Tunnel;
use dataplane::owner::Fields;
use dataplane::port::PortId;
use dataplane::sched::{Kind, sums};
use dataplane::services::RealId;
use dataplane::verdict::Reason;
use etherparse::{IpHeaders, IpSlice};
use wire::build::{Packet, icmp, ip, sctp, tcp, udp};
use wire::sctp::ChunkType;
use wire::tcp::Flags;

const ETHERNET: usize = 14;
/// Octets of the number that ends every packet of the model's.
const NUMBER: usize = 4;

/// A number's successor in a sequence without pattern (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) >> 33).expect("31 bits") % sides
    }
}

/// How frames come to the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// To the owner, as by a device that hashes as we do.
    Owner,
    /// To any worker.
    Random,
    /// A flow has its queue and its port, until these change midway.
    Roaming,
    /// To any worker, by one port: the real servers are in a VLAN over it.
    OneArm,
}

/// What the model does with a connection next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// The client opens, or asks once more.
    Open,
    /// The client sends.
    Send,
    /// The real server sends, if its packets pass us.
    Reply,
    /// A router tells the real server about a packet of its.
    TellReal,
    /// A router tells the client, if the packet passes us.
    TellClient,
    /// The client closes.
    Close,
    /// Nothing, until all that was sent has arrived.
    Wait,
}

/// A connection, as its two ends know it.
#[derive(Clone, Debug)]
struct Flow {
    service: usize,
    client: (IpAddr, u16),
    real: Option<u8>,
    local: Option<(IpAddr, u16)>,
    under_way: usize,
    /// In reverse.
    to_do: Vec<Move>,
    queue: usize,
    port: PortId,
}

struct Model {
    fleet: Fleet,
    flows: Vec<Flow>,
    given: HashMap<u32, (usize, Move)>,
    next: u32,
    dice: Dice,
    delivery: Delivery,
    /// Says which run it was.
    name: String,
}

/// What a flow of a plan will do.
fn plan(dice: &mut Dice) -> Vec<Move> {
    let middle = [
        Move::Send,
        Move::Send,
        Move::Reply,
        Move::Reply,
        Move::TellReal,
        Move::TellClient,
    ];
    let mut moves = vec![Move::Open; 1 + dice.roll(2)];
    moves.push(Move::Wait);
    for _ in 0..dice.roll(12) {
        moves.push(middle[dice.roll(middle.len())]);
    }
    moves.push(Move::Wait);
    if dice.roll(2) == 0 {
        moves.push(Move::Close);
    }
    moves.reverse();
    moves
}

impl Model {
    /// `flows` flows over all services; equal seeds make equal plans, whatever the number of
    /// workers.
    fn new(seed: u64, workers: u16, specs: Vec<Spec>, flows: usize, delivery: Delivery) -> Self {
        let mut dice = Dice(seed);
        let flows = (0..flows).map(|n| {
            let service = dice.roll(specs.len());
            let n = u16::try_from(n).expect("few flows");
            let client: IpAddr = if specs[service].v6 {
                Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, n % 37).into()
            } else {
                Ipv4Addr::from_bits(0xc633_6400 + u32::from(n % 37)).into()
            };
            Flow {
                service,
                client: (client, 1024 + n),
                real: None,
                local: None,
                under_way: 0,
                to_do: plan(&mut dice),
                queue: 0,
                port: WAN,
            }
        });
        Self {
            flows: flows.collect(),
            fleet: match delivery {
                Delivery::OneArm => Fleet::of_one_arm(workers, specs),
                _ => Fleet::new(workers, specs),
            },
            given: HashMap::new(),
            next: 0,
            dice: Dice(seed ^ u64::from(workers) << 32 | 1 << 63),
            delivery,
            name: format!("seed {seed}, {workers} workers, {delivery:?}"),
        }
    }

    /// Runs until every flow is done and every ring empty. `meanwhile` is called before each
    /// step with the steps so far.
    fn run(&mut self, mut meanwhile: impl FnMut(&mut Self, u32)) {
        let mut steps = 0;
        while self.flows.iter().any(|flow| !flow.to_do.is_empty()) {
            meanwhile(self, steps);
            steps += 1;
            assert!(
                steps < 50_000,
                "{}: stuck: {:?}",
                self.name,
                self.fleet.drops()
            );
            if self.dice.roll(3) < 2 {
                let flow = self.dice.roll(self.flows.len());
                self.step(flow);
            } else {
                let worker = self.dice.roll(self.fleet.workers.len());
                self.turn(worker);
            }
        }
        self.settle();
        assert_eq!(
            self.given.len(),
            0,
            "{}: {:?}",
            self.name,
            self.fleet.drops()
        );
    }

    /// Turns everybody until nothing is under way.
    fn settle(&mut self) {
        for _ in 0..40 {
            (0..self.fleet.workers.len()).for_each(|worker| self.turn(worker));
        }
        let out = self.fleet.sum(|counters| counters.handed_out.get());
        let taken = self.fleet.sum(|counters| counters.handed_in.get());
        assert_eq!(out, taken, "{}: the rings are idle", self.name);
    }

    fn step(&mut self, at: usize) {
        let flow = &mut self.flows[at];
        let waits = flow.to_do.last() == Some(&Move::Wait);
        if waits && flow.under_way > 0 {
            return;
        }
        match flow.to_do.pop() {
            None | Some(Move::Wait) => {}
            Some(todo) => self.act(at, todo),
        }
    }

    fn act(&mut self, at: usize, todo: Move) {
        let flow = &self.flows[at];
        let spec = &self.fleet.specs[flow.service];
        let passes = flow.real.is_some_and(|n| spec.mode_of(n).is_two_way());
        // What does not pass us in this mode the client does instead.
        let todo = match todo {
            Move::Reply | Move::TellClient if !passes => Move::Send,
            todo => todo,
        };
        let number = self.next;
        self.next += 1;
        let packet = self.given_packet(at, todo, number);
        let (worker, port) = self.deliver(at, todo);
        let mac = if port == WAN { WAN_MAC } else { LAN_MAC };
        self.fleet
            .give(worker, port, &packet.ether(GATEWAY_MAC, mac).bytes());
        self.flows[at].under_way += 1;
        self.given.insert(number, (at, todo));
    }

    /// The worker and the port that a packet comes by.
    fn deliver(&mut self, at: usize, todo: Move) -> (usize, PortId) {
        let any = self.dice.roll(self.fleet.workers.len());
        let moves_on = self.dice.roll(4) == 0;
        let other_port = if self.dice.roll(2) == 0 { WAN } else { LAN };
        let flow = &mut self.flows[at];
        let from_real = matches!(todo, Move::Reply | Move::TellClient);
        let usual = if from_real { LAN } else { WAN };
        match self.delivery {
            Delivery::Random | Delivery::OneArm => (any, usual),
            Delivery::Roaming => {
                if moves_on {
                    (flow.queue, flow.port) = (any, other_port);
                }
                (flow.queue, flow.port)
            }
            Delivery::Owner => {
                let flow = &self.flows[at];
                let worker = match flow.local.filter(|_| from_real) {
                    Some(local) => self.reply_owner(at, local),
                    None => self
                        .fleet
                        .owner(flow.service, flow.client, self.ends(at).vip),
                };
                (worker, usual)
            }
        }
    }

    fn reply_owner(&self, at: usize, local: (IpAddr, u16)) -> usize {
        let protocol = self.fleet.specs[self.flows[at].service].protocol;
        let real = self.ends(at).real;
        self.fleet.steer(Fields::Tuple, protocol, real, local)
    }

    fn turn(&mut self, worker: usize) {
        let ms = u32::try_from(self.dice.roll(2)).expect("0 or 1");
        self.fleet.now = self.fleet.now.plus(ms);
        for (port, bytes) in self.fleet.turn(worker) {
            self.arrived(port, &bytes);
        }
    }

    /// Compares what was sent with what it must be.
    fn arrived(&mut self, port: PortId, bytes: &[u8]) {
        let number = bytes.last_chunk::<NUMBER>().expect("a number at the end");
        let number = u32::from_be_bytes(*number);
        let (at, todo) = self.given.remove(&number).expect("given, and not sent yet");
        let name = format!("{}: packet {number}, {todo:?}", self.name);
        intact(&name, &bytes[ETHERNET..]);
        self.flows[at].under_way -= 1;
        if matches!(todo, Move::Reply | Move::TellClient) {
            assert_eq!(port, WAN, "{name}");
            let want = self.wanted_packet(at, todo, number);
            assert_eq!(bytes, want.ether(WAN_MAC, GATEWAY_MAC).bytes(), "{name}");
            return;
        }
        assert_eq!(port, LAN, "{name}");
        let n = bytes[5];
        let real = *self.flows[at].real.get_or_insert(n);
        assert_eq!(real, n, "{name}: one real server for the whole life");
        let spec = &self.fleet.specs[self.flows[at].service];
        let (mode, v6) = (spec.mode_of(n), spec.v6);
        if mode.has_locals() && todo == Move::Open {
            self.learn_local(at, bytes, &name);
        }
        let mut want = self.wanted_packet(at, todo, number);
        if mode == Mode::Nat64 {
            // Nobody foretells a translated packet's identification.
            want = want.id(u32::from(u16::from_be_bytes([bytes[18], bytes[19]])));
        }
        let want = want.ether(LAN_MAC, real_mac(n)).bytes();
        match tunnel(n, mode) {
            None => assert_eq!(bytes, want, "{name}"),
            Some(tunnel) => {
                assert_eq!(bytes[..12], want[..12], "{name}");
                assert_eq!(untunnelled(bytes, tunnel, v6), &want[ETHERNET..], "{name}");
            }
        }
    }

    /// FULLNAT's local end: one of the service's, the same for the whole life.
    fn learn_local(&mut self, at: usize, bytes: &[u8], name: &str) {
        let (address, port) = source(&bytes[ETHERNET..]);
        let flow = &mut self.flows[at];
        let locals = &self.fleet.specs[flow.service].locals;
        assert!(locals.contains(&address) && port > 1024, "{name}");
        assert_eq!(
            *flow.local.get_or_insert((address, port)),
            (address, port),
            "{name}"
        );
    }

    /// What is put into a worker's queue.
    fn given_packet(&self, at: usize, todo: Move, number: u32) -> Packet {
        let ends = self.ends(at);
        match todo {
            Move::TellReal => {
                let about = self.packet(at, ends.vip, ends.client, Move::Reply, number);
                error(router(ends.vip.0), ends.vip.0, &about, number)
            }
            Move::TellClient => {
                let about = self.packet(at, ends.local, ends.real, Move::Send, number);
                error(router(ends.local.0), ends.local.0, &about, number)
            }
            Move::Reply => self.packet(at, ends.real, ends.local, todo, number),
            _ => self.packet(at, ends.client, ends.vip, todo, number),
        }
    }

    /// What must come out of it, but for a tunnel's header.
    fn wanted_packet(&self, at: usize, todo: Move, number: u32) -> Packet {
        let ends = self.ends(at);
        let flow = &self.flows[at];
        let n = flow.real.expect("it has arrived there");
        let mode = self.fleet.specs[flow.service].mode_of(n);
        if !mode.is_two_way() {
            return self.given_packet(at, todo, number).ttl(63);
        }
        let packet = match todo {
            Move::TellReal => {
                let about = self.packet(at, ends.real, ends.local, Move::Reply, number);
                let from = match mode {
                    mode if mode.has_locals() => ends.local.0,
                    _ => router(ends.vip.0),
                };
                error(from, ends.real.0, &about, number)
            }
            Move::TellClient => {
                let about = self.packet(at, ends.client, ends.vip, Move::Send, number);
                error(ends.vip.0, ends.client.0, &about, number)
            }
            Move::Reply => self.packet(at, ends.vip, ends.client, todo, number),
            _ => self.packet(at, ends.local, ends.real, todo, number),
        };
        packet.ttl(63)
    }

    fn ends(&self, at: usize) -> Ends {
        let flow = &self.flows[at];
        let spec = &self.fleet.specs[flow.service];
        let n = flow.real.unwrap_or_default();
        let mode = flow.real.map_or(Mode::Dr, |n| spec.mode_of(n));
        // What a service on all ports is asked for, and what its reals then are.
        let any = 7000 + u16::try_from(at % 5).expect("small");
        let or_any = |port| if port == 0 { any } else { port };
        Ends {
            client: flow.client,
            vip: (vip(flow.service, spec.v6), or_any(spec.port)),
            // Asked for only in the modes that have this port.
            real: (
                real_address(n, mode.real_is_v6(spec.v6)),
                or_any(spec.real_port(Mode::Nat)),
            ),
            local: flow.local.unwrap_or(flow.client),
        }
    }

    fn packet(
        &self,
        at: usize,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        todo: Move,
        number: u32,
    ) -> Packet {
        let protocol = self.fleet.specs[self.flows[at].service].protocol;
        // As long in every run, for the octets are counted. A chunk is padded to four.
        let unit = if protocol == SCTP { 4 } else { 1 };
        let mut payload = vec![0x5a; at % 7 * unit];
        payload.extend(number.to_be_bytes());
        let flags = match todo {
            Move::Open => Flags::SYN,
            Move::Close => Flags::FIN.and(Flags::ACK),
            _ => Flags::ACK,
        };
        if protocol == SCTP {
            let kind = match todo {
                Move::Open => ChunkType::INIT,
                Move::Close => ChunkType::SHUTDOWN,
                Move::Reply => ChunkType::COOKIE_ACK,
                _ => ChunkType::COOKIE_ECHO,
            };
            let tag = u32::from(todo != Move::Open);
            let message = sctp(from.1, to.1).tag(tag).chunk(kind.0, &payload);
            ip(from.0, to.0).with(message)
        } else if protocol == TCP {
            let segment = tcp(from.1, to.1).flags(flags).payload(payload);
            ip(from.0, to.0).with(segment)
        } else {
            ip(from.0, to.0).with(udp(from.1, to.1).payload(payload))
        }
    }

    /// Every connection is in one table, once, and is counted where it should be.
    fn one_owner_each(&self) {
        let mut v4 = HashSet::new();
        let mut v6 = HashSet::new();
        let mut connections = 0;
        for worker in &self.fleet.workers {
            connections += tuples(&worker.state().v4, &mut v4, &self.name);
            connections += tuples(&worker.state().v6, &mut v6, &self.name);
        }
        // A reply of an IPv4 real server is for one client, of whichever family.
        for &(source, destination, from, to, protocol) in &v6 {
            if let (Some(source), Some(destination)) =
                (source.ipv4_inside(), destination.ipv4_inside())
            {
                let tuple = (source, destination, from, to, protocol);
                assert!(v4.insert(tuple), "{}: two clients' {tuple:?}", self.name);
            }
        }
        assert_eq!(connections, self.flows.len(), "{}", self.name);
        let made = self.fleet.sum(|counters| counters.connections_made.get());
        assert_eq!(made, self.flows.len() as u64, "{}", self.name);
    }

    /// The clients of a persistent service stay with their real servers.
    fn persistence_is_kept(&self) {
        let mut kept = HashMap::new();
        for flow in &self.flows {
            let Some(mask) = self.fleet.specs[flow.service].persistence else {
                continue;
            };
            let network = match flow.client.0 {
                IpAddr::V4(v4) => u128::from(v4.to_bits()) & mask,
                IpAddr::V6(v6) => v6.to_bits() & mask,
            };
            let real = *kept.entry((flow.service, network)).or_insert(flow.real);
            assert_eq!(real, flow.real, "{}: {flow:?}", self.name);
        }
    }

    /// Counts that don't depend on who counted.
    fn totals(&self) -> BTreeMap<String, u64> {
        let mut totals = vec![
            ("transmit".into(), self.fleet.sum(|c| c.transmit.get())),
            (
                "connections".into(),
                self.fleet.sum(|c| c.connections_made.get()),
            ),
            (
                "ended".into(),
                self.fleet.sum(|c| c.connections_ended.get()),
            ),
            ("rx".into(), self.fleet.sum(|c| c.rx.get())),
        ];
        for (at, spec) in (0u32..).zip(&self.fleet.specs) {
            let blocks = &self.fleet.snapshot.blocks;
            let own = blocks
                .iter()
                .map(|b| &b.services.get(at).expect("grown").traffic);
            totals.extend(traffic(&format!("service {at}"), own));
            if !is_stateless(spec.kind) {
                continue;
            }
            for real in at * REALS..(at + 1) * REALS {
                let all = blocks.iter().map(|b| b.reals.get(real).expect("grown"));
                totals.extend(traffic(
                    &format!("real {real}"),
                    all.clone().map(|b| &b.traffic),
                ));
                let count = |of: fn(&dataplane::services::RealBlock) -> u32| {
                    all.clone().map(|block| u64::from(of(block))).sum()
                };
                totals.push((format!("real {real} active"), count(|b| b.active.get())));
                totals.push((format!("real {real} inactive"), count(|b| b.inactive.get())));
            }
        }
        totals.into_iter().filter(|&(_, count)| count > 0).collect()
    }
}

fn traffic<'a>(
    name: &str,
    all: impl Iterator<Item = &'a dataplane::services::Traffic>,
) -> Vec<(String, u64)> {
    let names = [
        "connections",
        "packets in",
        "packets out",
        "bytes in",
        "bytes out",
    ];
    let mut sums = [0; 5];
    for t in all {
        let each = [
            &t.connections,
            &t.packets_in,
            &t.packets_out,
            &t.bytes_in,
            &t.bytes_out,
        ];
        each.iter()
            .zip(&mut sums)
            .for_each(|(counter, sum)| *sum += counter.get());
    }
    let named = names.iter().zip(sums);
    named
        .map(|(what, sum)| (format!("{name} {what}"), sum))
        .collect()
}

/// Both ends of both sides of a connection.
struct Ends {
    client: (IpAddr, u16),
    vip: (IpAddr, u16),
    real: (IpAddr, u16),
    local: (IpAddr, u16),
}

fn is_stateless(kind: Kind) -> bool {
    matches!(kind, Kind::Sh | Kind::Dh | Kind::Mh)
}

/// A router's address of the family of `like`.
fn router(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::new(203, 0, 113, 9).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9).into(),
    }
}

/// "Port unreachable", about this packet. Every other one quotes only the ports and four octets
/// more of what is in it, and then the number; all do about SCTP, whose CRC is not patched there.
fn error(from: IpAddr, to: IpAddr, about: &Packet, number: u32) -> Packet {
    let (kind, code, header) = if from.is_ipv6() {
        (1, 4, 40)
    } else {
        (3, 3, 20)
    };
    let message = icmp(kind, code);
    let bytes = about.bytes();
    let is_sctp = bytes[if header == 40 { 6 } else { 9 }] == SCTP;
    if number.is_multiple_of(2) && !is_sctp {
        return ip(from, to).with(message.quoting(about));
    }
    let mut quote = bytes;
    quote.truncate(header + 8);
    quote.extend(number.to_be_bytes());
    ip(from, to).with(message.payload(quote))
}

/// Source address and port of a packet.
fn source(packet: &[u8]) -> (IpAddr, u16) {
    let (headers, _) = IpHeaders::from_slice(packet).expect("a packet");
    let slice = IpSlice::from_slice(packet).expect("a packet");
    let payload = slice.payload().payload;
    let address = match headers {
        IpHeaders::Ipv4(v4, _) => Ipv4Addr::from(v4.source).into(),
        IpHeaders::Ipv6(v6, _) => Ipv6Addr::from(v6.source).into(),
    };
    (address, u16::from_be_bytes([payload[0], payload[1]]))
}

/// What a tunnel carries, after a look at its ends.
fn untunnelled(frame: &[u8], tunnel: Tunnel, v6: bool) -> &[u8] {
    let outer = IpSlice::from_slice(&frame[ETHERNET..]).expect("a packet");
    assert_eq!(
        (outer.source_addr(), outer.destination_addr()),
        tunnel.ends()
    );
    let carried = if v6 { 41 } else { 4 };
    assert_eq!(outer.payload_ip_number().0, carried);
    let header = if outer.source_addr().is_ipv6() {
        40
    } else {
        20
    };
    &frame[ETHERNET + header..]
}

/// Adds every tuple of a table, which nobody may have had before; how many connections.
fn tuples<A: Address + std::hash::Hash>(
    table: &Table<A>,
    seen: &mut HashSet<(A, A, u16, u16, u8)>,
    name: &str,
) -> usize {
    let mut add = |key: Key<A>| {
        let tuple = (
            key.source,
            key.destination,
            key.source_port,
            key.destination_port,
            key.protocol,
        );
        assert!(seen.insert(tuple), "{name}: two owners of {key:?}");
    };
    let is_template = |entry: &&Entry<A>| entry.flags.has(dataplane::conn::Flags::TEMPLATE);
    table
        .iter()
        .filter(|entry| !is_template(entry))
        .map(|entry: &Entry<A>| {
            add(entry.key(Side::Client));
            if entry.flags.has(dataplane::conn::Flags::TWO_WAY) {
                add(entry.key(Side::Real));
            }
        })
        .count()
}

/// What of an address makes a persistent client: a network of four, or the host where it must
/// not matter who of them comes first.
fn network(kind: Kind) -> u128 {
    if is_stateless(kind) { !0 } else { !0 << 2 }
}

/// A service of each mode, protocol and family, and some with mixed real servers.
fn services(kind: Kind) -> Vec<Spec> {
    let mut specs = Vec::new();
    let mut n = 0;
    for v6 in [false, true] {
        for protocol in [TCP, UDP, SCTP] {
            for mode in Mode::of_family(v6) {
                // Neighbours share a real server, NAT's too.
                let reals = [(n + 1, mode), (n + 2, mode), (n + 3, mode)];
                specs.push(Spec::new(v6, protocol, kind, &reals));
                n = (n + 1) % 20;
            }
        }
        let mut mixed = vec![
            (5, Mode::Dr),
            (6, Mode::Nat),
            (7, Mode::FullNat),
            (8, Mode::Tun6),
        ];
        mixed.extend(v6.then_some((9, Mode::Nat64)));
        specs.push(Spec::new(v6, TCP, kind, &mixed));
        specs.push(Spec::new(v6, TCP, kind, &[(4, Mode::Nat), (6, Mode::Nat)]));
        let mut all_ports = Spec::new(v6, UDP, kind, &[(4, Mode::Nat), (9, Mode::FullNat)]);
        all_ports.port = 0;
        all_ports.persistence = Some(network(kind));
        specs.push(all_ports);
        let mut sticky = Spec::new(v6, TCP, kind, &[(4, Mode::Nat), (9, Mode::Dr)]);
        sticky.persistence = Some(network(kind));
        specs.push(sticky);
        let mut marked = Spec::new(v6, TCP, kind, &[(10, Mode::Dr), (11, Mode::FullNat)]);
        (marked.port, marked.mark) = (0, Some(if v6 { 128 } else { 32 }));
        specs.push(marked.clone());
        let translated = if v6 { Mode::Nat64 } else { Mode::FullNat };
        marked.reals = vec![(4, Mode::Nat), (12, Mode::Dr), (13, translated)];
        (marked.protocol, marked.persistence) = (UDP, Some(network(kind)));
        specs.push(marked);
    }
    specs
}

fn finished(seed: u64, workers: u16, kind: Kind, delivery: Delivery) -> Model {
    let mut model = Model::new(seed, workers, services(kind), 150, delivery);
    model.run(|_, _| ());
    model.one_owner_each();
    model.persistence_is_kept();
    assert_eq!(model.fleet.drops(), [], "{}", model.name);
    model
}

/// Demands equal counts, and names those that are not.
fn same(many: &Model, one: &Model) {
    let (many_totals, one_totals) = (many.totals(), one.totals());
    let names: BTreeSet<_> = many_totals.keys().chain(one_totals.keys()).collect();
    let differ = names
        .into_iter()
        .map(|name| (name, many_totals.get(name), one_totals.get(name)));
    let differ: Vec<_> = differ.filter(|(_, many, one)| many != one).collect();
    assert!(differ.is_empty(), "{}: {differ:?}", many.name);
}

#[test]
fn any_number_of_workers_is_as_one() {
    for (seed, kind) in (1..).zip([Kind::Sh, Kind::Dh, Kind::Mh]) {
        let one = finished(seed, 1, kind, Delivery::Random);
        for workers in [2, 4, 8] {
            for delivery in [
                Delivery::Owner,
                Delivery::Random,
                Delivery::Roaming,
                Delivery::OneArm,
            ] {
                let many = finished(seed, workers, kind, delivery);
                same(&many, &one);
                let real = |model: &Model| -> Vec<_> {
                    model.flows.iter().map(|flow| flow.real).collect()
                };
                assert_eq!(real(&many), real(&one), "{}", many.name);
            }
        }
    }
}

#[test]
fn any_scheduler_keeps_one_real_server_for_life() {
    let kinds = [
        Kind::Rr,
        Kind::Wrr,
        Kind::Lc,
        Kind::Wlc,
        Kind::Sed,
        Kind::Nq,
        Kind::Lblc,
        Kind::Lblcr,
        Kind::Fo,
        Kind::Ovf,
        Kind::Twos,
    ];
    for (seed, kind) in (20..).zip(kinds) {
        let one = finished(seed, 1, kind, Delivery::Random);
        for (workers, delivery) in [
            (2, Delivery::Random),
            (4, Delivery::Roaming),
            (4, Delivery::OneArm),
            (8, Delivery::Random),
        ] {
            let many = finished(seed, workers, kind, delivery);
            let total = |model: &Model| model.totals().remove("transmit");
            assert_eq!(total(&many), total(&one), "{kind:?} {}", many.name);
        }
    }
}

#[test]
fn a_device_that_hashes_as_we_do_saves_every_hand_over() {
    for workers in [1, 2, 4, 8] {
        let model = finished(9, workers, Kind::Rr, Delivery::Owner);
        assert_eq!(model.fleet.sum(|c| c.handed_out.get()), 0, "{}", model.name);
    }
}

/// A service's first NAT real: `Tuple` becomes `Client`. Then persistence, and all of it back.
#[test]
fn a_service_whose_fields_change_loses_no_connection() {
    for seed in 100..110 {
        for workers in [2, 4, 8] {
            let specs = [false, true].map(|v6| {
                Spec::new(
                    v6,
                    TCP,
                    Kind::Rr,
                    &[(1, Mode::Dr), (2, Mode::Tun4), (3, Mode::FullNat)],
                )
            });
            let mut model = Model::new(seed, workers, specs.into(), 120, Delivery::Random);
            model.run(|model, step| {
                let change: fn(&mut Spec) = match step {
                    150 => |spec| spec.reals.push((4, Mode::Nat)),
                    300 => |spec| spec.persistence = Some(!0 << 8),
                    450 => |spec| spec.persistence = None,
                    _ => return,
                };
                model.fleet.specs.iter_mut().for_each(change);
                model.fleet.compile();
            });
            model.one_owner_each();
            assert_eq!(model.fleet.drops(), [], "{}", model.name);
        }
    }
}

/// The same, back and forth, while frames are between workers.
#[test]
fn a_service_whose_fields_change_all_the_time_has_one_owner_for_each() {
    for seed in 200..230 {
        let reals = [(1, Mode::Dr), (2, Mode::FullNat), (4, Mode::Nat)];
        let specs = vec![Spec::new(false, TCP, Kind::Rr, &reals)];
        let mut model = Model::new(seed, 4, specs, 200, Delivery::Random);
        model.run(|model, step| {
            if step % 40 == 0 {
                let spec = &mut model.fleet.specs[0];
                spec.persistence = match spec.persistence {
                    None => Some(!0 << 8),
                    Some(_) => None,
                };
                model.fleet.compile();
            }
        });
        model.one_owner_each();
        assert_eq!(model.fleet.drops(), [], "{}", model.name);
    }
}

#[test]
fn a_nat_real_of_a_service_on_all_ports_is_known_by_any() {
    let mut spec = Spec::new(false, TCP, Kind::Rr, &[(4, Mode::Nat)]);
    spec.port = 0;
    spec.persistence = Some(!0);
    let mut model = Model::new(1, 4, vec![spec], 40, Delivery::Random);
    model.run(|_, _| ());
    model.one_owner_each();
    assert_eq!(model.fleet.drops(), []);
    let replies = model.fleet.snapshot.blocks.iter();
    let replies = replies.map(|b| b.services.get(0).expect("grown").traffic.packets_out.get());
    assert!(
        replies.sum::<u64>() > 40,
        "replies came back by whichever worker"
    );
}

/// Ends of a flow that a test drives by hand.
fn client(n: u16, v6: bool) -> (IpAddr, u16) {
    let address: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, n).into()
    } else {
        Ipv4Addr::from_bits(0xcb00_7100 + u32::from(n)).into()
    };
    (address, 2000 + n)
}

/// Each fragment of a packet may come to another worker, and in any order: all of them go where the
/// connection goes, in every mode.
#[test]
fn fragments_from_anywhere_go_one_way() {
    let mut dice = Dice(77);
    for (v6, make) in [
        (false, Fleet::new as fn(u16, Vec<Spec>) -> Fleet),
        (true, Fleet::new),
        (false, Fleet::of_one_arm),
        (true, Fleet::of_one_arm),
    ] {
        for mode in Mode::of_family(v6) {
            for workers in [1, 2, 4, 8] {
                let reals = [(1, mode), (2, mode), (3, mode)];
                let mut fleet = make(workers, vec![Spec::new(v6, UDP, Kind::Rr, &reals)]);
                for n in 0..12 {
                    scattered(&mut fleet, &mut dice, mode, n);
                }
                assert_eq!(fleet.drops(), [], "{mode:?}, {workers} workers");
                assert_eq!(fleet.sum(|c| c.connections_made.get()), 12);
                let held = fleet.sum(|c| c.held.get());
                assert_eq!(held, fleet.sum(|c| c.released.get()));
                assert!(held > 0, "some came before their first one");
            }
        }
    }
}

/// Sends one packet in three pieces, and looks at what comes out.
fn scattered(fleet: &mut Fleet, dice: &mut Dice, mode: Mode, n: u16) {
    let v6 = fleet.specs[0].v6;
    let whole = |from: (IpAddr, u16), to: (IpAddr, u16), mtu| {
        let datagram = udp(from.1, to.1).payload(vec![0x5a; 3000]);
        let packet = ip(from.0, to.0).id(u32::from(n) + 1).with(datagram);
        packet.fragments(mtu)
    };
    let (from, to) = (client(n, v6), (vip(0, v6), 53));
    let mut pieces = whole(from, to, 1400);
    while !pieces.is_empty() {
        let piece = pieces.swap_remove(dice.roll(pieces.len()));
        let worker = dice.roll(fleet.workers.len());
        fleet.give(worker, WAN, &piece.ether(GATEWAY_MAC, WAN_MAC).bytes());
    }
    let sent = fleet.drain();
    let name = format!("{mode:?}, {} workers, packet {n}", fleet.workers.len());
    let real = sent.first().expect("something is sent").1[5];
    let tunnel = tunnel(real, mode);
    let mut got: Vec<Vec<u8>> = Vec::new();
    for (port, bytes) in &sent {
        assert_eq!((*port, bytes[5]), (LAN, real), "{name}: one real server");
        let carried = tunnel.map(|tunnel| untunnelled(bytes, tunnel, v6));
        got.push(carried.unwrap_or(&bytes[ETHERNET..]).to_vec());
    }
    let v6 = mode.real_is_v6(v6);
    let (from, to) = if mode.is_two_way() {
        let port = fleet.specs[0].real_port(mode);
        let first = got.iter().find(|bytes| is_first(bytes, v6));
        let local = ports(first.expect("one of them"), v6);
        let source = IpSlice::from_slice(&got[0])
            .expect("a packet")
            .source_addr();
        let from = if mode.has_locals() {
            (source, local)
        } else {
            from
        };
        (from, (real_address(real, v6), port))
    } else {
        (from, to)
    };
    // From IPv6 to IPv4 each shrinks by 20 octets, and by the fragment header's 8.
    let mtu = if mode == Mode::Nat64 { 1400 - 28 } else { 1400 };
    let mut want: Vec<_> = whole(from, to, mtu)
        .into_iter()
        .map(|p| p.ttl(63).bytes())
        .collect();
    got.sort_unstable();
    want.sort_unstable();
    assert_eq!(got, want, "{name}");
}

/// Whether a fragment is its packet's first, and the source port that it then has.
fn is_first(packet: &[u8], v6: bool) -> bool {
    let at = if v6 { 42 } else { 6 };
    let offset = u16::from_be_bytes([packet[at], packet[at + 1]]);
    if v6 {
        offset & !7 == 0
    } else {
        offset & 0x1fff == 0
    }
}

fn ports(packet: &[u8], v6: bool) -> u16 {
    let at = if v6 { 48 } else { 20 };
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// RFC 792 lets an error quote only 8 octets of what was in the packet: whichever worker
/// it comes to, it reaches the real server once.
#[test]
fn an_error_of_eight_octets_reaches_the_connections_real() {
    for mode in Mode::ALL {
        for workers in [1, 2, 4, 8] {
            for protocol in [TCP, UDP] {
                let spec = Spec::new(false, protocol, Kind::Rr, &[(1, mode), (2, mode)]);
                let to = (vip(0, false), spec.port);
                let mut fleet = Fleet::new(workers, vec![spec]);
                for n in 0..8u16 {
                    let from = client(n, false);
                    let first = segment(protocol, from, to);
                    fleet.give(0, WAN, &first.ether(GATEWAY_MAC, WAN_MAC).bytes());
                    let real = fleet.drain()[0].1[5];
                    let about = segment(protocol, to, from);
                    let message = icmp(3, 3).quoting_first(28, &about);
                    let error = ip(router(to.0), to.0).with(message);
                    let anybody = usize::from(n % workers);
                    fleet.give(anybody, WAN, &error.ether(GATEWAY_MAC, WAN_MAC).bytes());
                    let sent = fleet.drain();
                    assert_eq!(sent.len(), 1, "{mode:?}, {workers} workers, flow {n}");
                    assert_eq!((sent[0].0, sent[0].1[5]), (LAN, real));
                    intact("error", &sent[0].1[ETHERNET..]);
                }
                assert_eq!(fleet.drops(), []);
            }
        }
    }
}

/// A packet that may open a connection.
fn segment(protocol: u8, from: (IpAddr, u16), to: (IpAddr, u16)) -> Packet {
    if protocol == TCP {
        ip(from.0, to.0).with(tcp(from.1, to.1).syn())
    } else {
        ip(from.0, to.0).with(udp(from.1, to.1))
    }
}

/// One-packet services keep nothing, wherever the packets come; where the scheduler keeps no
/// state, and where a template decides, each goes where a single worker would have sent it.
#[test]
fn single_packets_are_as_with_one_worker() {
    let run = |workers: u16, kind, persistence| {
        let mut spec = Spec::new(
            false,
            UDP,
            kind,
            &[(1, Mode::Dr), (2, Mode::Tun4), (3, Mode::Dr)],
        );
        (spec.one_packet, spec.persistence) = (true, persistence);
        let mut fleet = Fleet::new(workers, vec![spec]);
        let mut dice = Dice(u64::from(workers));
        let mut reals = Vec::new();
        for n in 0..200u16 {
            let packet = segment(UDP, client(n % 40, false), (vip(0, false), 53));
            let worker = dice.roll(fleet.workers.len());
            fleet.give(worker, WAN, &packet.ether(GATEWAY_MAC, WAN_MAC).bytes());
            let sent = fleet.drain();
            assert_eq!(sent.len(), 1);
            reals.push(sent[0].1[5]);
        }
        assert_eq!(fleet.drops(), []);
        assert_eq!(fleet.sum(|c| c.connections_made.get()), 200);
        assert_eq!(fleet.sum(|c| c.connections_ended.get()), 200);
        let templates: u32 = fleet.workers.iter().map(|w| w.state().v4.len()).sum();
        assert_eq!(templates > 0, persistence.is_some());
        for real in 0..3 {
            let all = fleet.snapshot.blocks.iter();
            let blocks = all.map(|blocks| blocks.reals.get(real).expect("grown"));
            blocks.for_each(|it| assert_eq!((it.active.get(), it.inactive.get()), (0, 0)));
        }
        reals
    };
    for (kind, persistence) in [(Kind::Sh, None), (Kind::Mh, None), (Kind::Sh, Some(!0))] {
        let one = run(1, kind, persistence);
        for workers in [2, 4, 8] {
            assert_eq!(
                run(workers, kind, persistence),
                one,
                "{kind:?}, {workers} workers"
            );
        }
    }
    for workers in [1, 2, 4, 8] {
        let reals = run(workers, Kind::Rr, Some(!0));
        let kept = (40..200).all(|n| reals[n] == reals[n % 40]);
        assert!(
            kept,
            "{workers} workers: a client never gets two real servers"
        );
    }
}

/// With one worker a threshold is exact; with more it is passed by no more connections than come
/// between two sums.
#[test]
fn a_threshold_is_passed_by_what_comes_between_two_sums() {
    const UPPER: u32 = 50;
    for (workers, between) in [(1, 1000), (2, 16), (8, 16), (8, 40)] {
        let mut spec = Spec::new(false, UDP, Kind::Rr, &[(1, Mode::Dr), (2, Mode::Dr)]);
        spec.upper = UPPER;
        let mut fleet = Fleet::new(workers, vec![spec]);
        let mut dice = Dice(u64::from(workers));
        for n in 0..400u16 {
            let packet = segment(UDP, client(n, false), (vip(0, false), 53));
            let worker = dice.roll(fleet.workers.len());
            fleet.give(worker, WAN, &packet.ether(GATEWAY_MAC, WAN_MAC).bytes());
            fleet.drain();
            if n % between == 0 {
                let reals = &fleet.snapshot.reals;
                for (id, real) in reals.iter() {
                    sums::sum(&fleet.snapshot.blocks, RealId(id), real.limits);
                }
            }
        }
        let count = |real| -> u32 {
            let all = fleet.snapshot.blocks.iter();
            all.map(|blocks| blocks.reals.get(real).expect("grown").inactive.get())
                .sum()
        };
        let (most, counts) = (UPPER + u32::from(between), [count(0), count(1)]);
        let name = format!("{workers} workers, {between} between two sums: {counts:?}");
        if workers == 1 {
            assert_eq!(counts, [UPPER; 2], "{name}");
        }
        assert!(
            counts.iter().all(|count| (UPPER..=most).contains(count)),
            "{name}"
        );
        let refused = fleet.sum(|c| c.drop[Reason::NoReal as usize].get());
        assert_eq!(refused, 400 - u64::from(counts[0] + counts[1]), "{name}");
    }
}

/// What `lblc` and `lblcr` remember of a destination one worker remembers: its owner.
#[test]
fn a_destination_has_one_memory() {
    for kind in [Kind::Lblc, Kind::Lblcr] {
        for workers in [1, 2, 4, 8] {
            let reals = [1, 2, 3, 4, 5, 6].map(|n| (n, Mode::Dr));
            let mut spec = Spec::new(false, UDP, kind, &reals);
            (spec.port, spec.mark) = (0, Some(24));
            let mut fleet = Fleet::new(workers, vec![spec]);
            let mut dice = Dice(3);
            let mut known = HashMap::new();
            for n in 0..300u16 {
                let destination = Ipv4Addr::new(10, 0, 0, 1 + u8::try_from(n % 20).expect("few"));
                let packet = segment(UDP, client(n, false), (destination.into(), 53));
                let worker = dice.roll(fleet.workers.len());
                fleet.give(worker, WAN, &packet.ether(GATEWAY_MAC, WAN_MAC).bytes());
                let real = fleet.drain()[0].1[5];
                let first = *known.entry(destination).or_insert(real);
                assert_eq!(real, first, "{kind:?}, {workers} workers, to {destination}");
            }
            let different: HashSet<_> = known.values().collect();
            assert!(different.len() > 1, "{kind:?}, {workers} workers");
        }
    }
}
