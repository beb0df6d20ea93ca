//! Several workers driven by hand, one turn at a time, in whatever order a test likes.
//!
//! Every worker has a queue of `wan` and one of `lan`; in a fleet of one arm `lan` is a VLAN over
//! `wan` instead. A snapshot is compiled from
//! [`Spec`]s, so that a test changes a service by changing its spec.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dataplane::conn::Key;
use dataplane::exchange::{ControlEnd, exchange};
use dataplane::fwd::{Envelope, Forwarder, Tunnel};
use dataplane::handover::mesh;
use dataplane::memory::{MemoryPort, Recycler};
use dataplane::owner::{Fields, Owners, Steering, Traits};
use dataplane::port::{Frame, PortId, WorkerId};
use dataplane::published::Publisher;
use dataplane::sched::thresholds::Limits;
use dataplane::sched::{self, Backend, Flags, Kind, Scheduler, mh};
use dataplane::services::marks::{Network, Rule};
use dataplane::services::{
    self, Addresses, Blocks, Candidate, Hop, HopId, Marks, NatReals, Owned, Persistence, PortView,
    Real, RealId, Route, Routes, Service, ServiceId, Snapshot, Standing, Target, Telling,
    Unmatched,
};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use dataplane::vlan::{Tagging, Vlans};
use dataplane::worker::{Parts, Worker};
use wire::ipv4::Between;

use super::{GATEWAY_MAC, LAN, LAN_MAC, TCP, UDP, WAN, WAN_MAC, real_mac};

/// Reals that one service may have.
pub const REALS: u32 = 8;
/// The port of a NAT or FULLNAT real.
pub const REAL_PORT: u16 = 8080;
/// A real's as usual: more connections than ovf lets one have otherwise.
const WEIGHT: u32 = 100;
const GATEWAY: HopId = HopId(255);
/// What `lan` is in a fleet of one arm, and how its frames say so: EtherType and identifier.
const VLAN: u16 = 20;
const TAG: [u8; 4] = [0x81, 0, 0, 20];

/// How a real is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Dr,
    Tun4,
    Tun6,
    Nat,
    FullNat,
    /// FULLNAT from IPv6 to IPv4.
    Nat64,
}

impl Mode {
    /// Those of either family.
    pub const ALL: [Self; 5] = [Self::Dr, Self::Tun4, Self::Tun6, Self::Nat, Self::FullNat];

    /// Those of this family's services.
    pub fn of_family(v6: bool) -> Vec<Self> {
        let mut all = Self::ALL.to_vec();
        all.extend(v6.then_some(Self::Nat64));
        all
    }

    pub fn is_two_way(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat | Self::Nat64)
    }

    pub fn has_locals(self) -> bool {
        matches!(self, Self::FullNat | Self::Nat64)
    }

    /// Whether a real server of a service of this family is IPv6.
    pub fn real_is_v6(self, v6: bool) -> bool {
        v6 && self != Self::Nat64
    }

    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::Tun4 | Self::Tun6)
    }
}

/// A service as an operator would say it.
#[derive(Clone, Debug)]
pub struct Spec {
    pub v6: bool,
    pub protocol: u8,
    /// 0 takes all ports.
    pub port: u16,
    pub kind: Kind,
    pub persistence: Option<u128>,
    /// A service by mark: the prefix length of its destinations, the first of them its VIP.
    pub mark: Option<u8>,
    pub one_packet: bool,
    pub mss_clamp: bool,
    /// The upper threshold of each of its reals.
    pub upper: u32,
    /// The weights of its reals, where they are not as usual.
    pub weights: Vec<u32>,
    /// Number and mode, in the order they were added; at most [`REALS`].
    pub reals: Vec<(u8, Mode)>,
    pub locals: Vec<IpAddr>,
    /// How FULLNAT's reals are told of clients.
    pub telling: Telling,
    pub owners: Option<Owners>,
    pub scheduler: Option<Scheduler>,
}

impl Spec {
    pub fn new(v6: bool, protocol: u8, kind: Kind, reals: &[(u8, Mode)]) -> Self {
        let ipv4 = [200, 201].map(|n| IpAddr::V4(Ipv4Addr::new(10, 1, 0, n)));
        let ipv6 = [1, 2].map(|n| IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 2, n)));
        let locals = match v6 {
            true => [ipv6, ipv4].concat(),
            false => ipv4.to_vec(),
        };
        Self {
            v6,
            protocol,
            port: if protocol == UDP { 53 } else { 80 },
            kind,
            persistence: None,
            mark: None,
            one_packet: false,
            mss_clamp: false,
            upper: 0,
            weights: Vec::new(),
            reals: reals.to_vec(),
            locals,
            telling: Telling::None,
            owners: None,
            scheduler: None,
        }
    }

    /// 0: the one that the client asked for.
    pub fn real_port(&self, mode: Mode) -> u16 {
        if mode.is_two_way() && self.port != 0 {
            REAL_PORT
        } else {
            self.port
        }
    }

    pub fn mode_of(&self, n: u8) -> Mode {
        let found = self.reals.iter().find(|&&(real, _)| real == n);
        found.expect("one of its reals").1
    }

    /// What its new connections are owned by.
    pub fn fields(&self) -> Fields {
        Fields::of(Traits {
            persistence: self.persistence,
            by_destination: matches!(self.kind, Kind::Lblc | Kind::Lblcr),
            nat: self.reals.iter().any(|&(_, mode)| mode == Mode::Nat),
            mark: self.mark.is_some(),
        })
    }
}

pub fn vip(service: usize, v6: bool) -> IpAddr {
    let n = u16::try_from(service + 1).expect("a few services");
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n).into()
    } else {
        Ipv4Addr::new(10, 0, 0, u8::try_from(n).expect("a few services")).into()
    }
}

pub fn real_address(n: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(10, 1, 0, n).into()
    }
}

/// The director's own end of tunnels.
pub fn tunnel(n: u8, mode: Mode) -> Option<Tunnel> {
    match mode {
        Mode::Tun4 => Some(Tunnel::V4(Between::new(
            Ipv4Addr::new(10, 1, 0, 2),
            Ipv4Addr::new(10, 1, 0, n),
        ))),
        Mode::Tun6 => Some(Tunnel::V6 {
            source: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2),
            destination: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, n.into()),
        }),
        _ => None,
    }
}

pub struct Fleet {
    pub workers: Vec<Worker<MemoryPort>>,
    pub counters: Vec<Arc<Counters>>,
    pub steering: Arc<Steering>,
    pub now: Millis,
    pub specs: Vec<Spec>,
    pub snapshot: Snapshot,
    pub control: ControlEnd<Recycler>,
    /// Of `wan` and `lan`, in octets.
    pub mtus: [u16; 2],
    /// What is ours beside the services' own.
    pub also_owned: Vec<(IpAddr, Owned)>,
    one_arm: bool,
    publisher: Publisher<Snapshot>,
    revision: u64,
}

impl Fleet {
    pub fn new(workers: u16, specs: Vec<Spec>) -> Self {
        Self::with_connections(workers, specs, 512)
    }

    pub fn with_connections(workers: u16, specs: Vec<Spec>, connections: u32) -> Self {
        Self::made(workers, specs, connections, false)
    }

    /// One whose `lan` is a VLAN over `wan`.
    pub fn of_one_arm(workers: u16, specs: Vec<Spec>) -> Self {
        Self::made(workers, specs, 512, true)
    }

    fn made(workers: u16, specs: Vec<Spec>, connections: u32, one_arm: bool) -> Self {
        let recycler = Recycler::default();
        let (control, ends) = exchange(workers, recycler.clone());
        let (publisher, readers) = Publisher::new(Snapshot::default(), workers);
        let steering = Arc::new(Steering::seeded(5, 512, workers).expect("few workers"));
        let now = Millis(u32::MAX - 1000);
        let parts = readers.into_iter().zip(ends).zip(mesh(workers));
        let (workers, counters) = (0..)
            .map(WorkerId)
            .zip(parts)
            .map(|(id, ((reader, exchange), peers))| {
                let counters = Arc::new(Counters::default());
                let worker = Worker::new(Parts {
                    id,
                    ports: (0..if one_arm { 1 } else { 2 })
                        .map(|_| MemoryPort::new(recycler.clone()))
                        .collect(),
                    reader,
                    exchange,
                    peers,
                    steering: steering.clone(),
                    counters: counters.clone(),
                    connections,
                    connections_v6: connections,
                    pages: arch::Pages::Off,
                    hash_key: [1, 2],
                    seed: 1,
                    now,
                });
                (worker.expect("memory for small tables"), counters)
            })
            .unzip();
        let mut fleet = Self {
            workers,
            counters,
            steering,
            now,
            specs,
            snapshot: Snapshot::default(),
            control,
            mtus: [1500; 2],
            also_owned: Vec::new(),
            one_arm,
            publisher,
            revision: 0,
        };
        fleet.snapshot.blocks = fleet.workers.iter().map(|_| blocks()).collect();
        fleet.compile();
        fleet
    }

    /// Compiles the specs as they are now and publishes; workers see it when they turn next.
    pub fn compile(&mut self) {
        self.revision += 1;
        let view = |mac, mtu| PortView {
            any_mac: false,
            mac,
            mtu,
            to_sender: false,
            groups: [].into(),
            tagging: match (self.one_arm, mac == WAN_MAC) {
                (false, _) => Tagging::Plain,
                (true, true) => Tagging::Parent(Vlans::new(WAN, vec![(VLAN, LAN)])),
                (true, false) => Tagging::Vlan {
                    parent: WAN,
                    id: VLAN,
                },
            },
        };
        let mut snapshot = Snapshot {
            ports: [view(WAN_MAC, self.mtus[0]), view(LAN_MAC, self.mtus[1])].into(),
            routes: default_routes(),
            blocks: self.snapshot.blocks.clone(),
            settings: self.snapshot.settings.clone(),
            ..Snapshot::default()
        };
        snapshot.hops.set(GATEWAY.0, hop(WAN));
        let (mut owned, mut nat) = (self.also_owned.clone(), Vec::new());
        let rules = self.specs.iter().enumerate().filter_map(mark_rule);
        snapshot.marks = Marks::new(rules.collect());
        for at in 0..self.specs.len() {
            self.compile_service(at, &mut snapshot, &mut owned, &mut nat);
        }
        snapshot.addresses = Addresses::new(owned);
        snapshot.nat_reals = NatReals::new(nat);
        let mut modes = self.specs.iter().flat_map(|spec| &spec.reals);
        snapshot.nat64 = modes.any(|&(_, mode)| mode == Mode::Nat64);
        self.snapshot = snapshot;
        self.publish();
    }

    /// Publishes the snapshot as it is now.
    pub fn publish(&mut self) {
        self.publisher.publish(self.snapshot.clone());
    }

    fn compile_service(
        &mut self,
        at: usize,
        snapshot: &mut Snapshot,
        owned: &mut Vec<(IpAddr, Owned)>,
        nat: &mut Vec<(services::NatReal, ServiceId)>,
    ) {
        let workers = u16::try_from(self.workers.len()).expect("few");
        let spec = &mut self.specs[at];
        let id = ServiceId(u32::try_from(at).expect("few"));
        let address = vip(at, spec.v6);
        let mut candidates = Vec::new();
        let mut backends = Vec::new();
        let weights = spec
            .weights
            .iter()
            .copied()
            .chain(std::iter::repeat(WEIGHT));
        for ((order, &(n, mode)), weight) in (1u32..).zip(&spec.reals).zip(weights) {
            let real = RealId(id.0 * REALS + order - 1);
            set_real(snapshot, real, spec, n, mode);
            if mode == Mode::Nat {
                let from = |protocol| (protocol, real_address(n, spec.v6), spec.real_port(mode));
                let protocols = if spec.mark.is_some() {
                    &[TCP, UDP][..]
                } else {
                    &[spec.protocol]
                };
                nat.extend(protocols.iter().map(|&protocol| (from(protocol), id)));
            }
            candidates.insert(
                0,
                Candidate {
                    real,
                    weight,
                    order,
                },
            );
            backends.insert(
                0,
                Backend {
                    address: real_address(n, mode.real_is_v6(spec.v6)),
                    port: spec.real_port(mode),
                    weight,
                    last_weight: weight,
                },
            );
        }
        let scheduler = Scheduler::prepare(
            spec.scheduler.as_ref(),
            &sched::Spec {
                kind: spec.kind,
                flags: Flags::default(),
                mh_size: mh::Size::DEFAULT,
                workers,
                revision: self.revision,
                backends: &backends,
            },
        );
        spec.scheduler = Some(scheduler.clone());
        let fields = spec.fields();
        let owners = spec.owners.take().unwrap_or_else(|| Owners::new(fields));
        let owners = owners.changed_to(fields).expect("few kinds of ownership");
        spec.owners = Some(owners.clone());
        let mut service = Service::new(id, self.revision, scheduler, candidates.into());
        service.address = spec.mark.is_none().then_some(address);
        service.one_packet = spec.one_packet;
        service.telling = spec.telling;
        service.mss_clamp = spec.mss_clamp;
        service.owners = owners;
        service.persistence = spec.persistence.map(|mask| Persistence {
            timeout_ms: 300_000,
            mask,
        });
        service.locals = spec.locals.iter().copied().collect();
        let key = match spec.mark {
            None => services::Key::address(spec.protocol, address, spec.port),
            Some(_) => services::Key::mark(id.0 + 1, spec.v6),
        };
        snapshot.index.insert(key, id);
        snapshot.services.set(id.0, Arc::new(service));
        let held = Owned::Vip {
            held: true,
            unmatched: Unmatched::Drop,
        };
        owned.push((address, held));
        owned.extend(spec.locals.iter().map(|&local| (local, Owned::Local)));
    }

    /// The worker that owns a connection of this service by what is current.
    pub fn owner(&self, service: usize, client: (IpAddr, u16), vip: (IpAddr, u16)) -> usize {
        let spec = &self.specs[service];
        self.steer(spec.fields(), spec.protocol, client, vip)
    }

    /// The worker that these fields of a packet lead to.
    pub fn steer(
        &self,
        fields: Fields,
        protocol: u8,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
    ) -> usize {
        let worker = match (from.0, to.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.steering.owner(
                fields,
                &Key {
                    source: source.to_bits(),
                    destination: destination.to_bits(),
                    source_port: from.1,
                    destination_port: to.1,
                    protocol,
                },
            ),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.steering.owner(
                fields,
                &Key {
                    source: source.to_bits(),
                    destination: destination.to_bits(),
                    source_port: from.1,
                    destination_port: to.1,
                    protocol,
                },
            ),
            _ => panic!("two families in one packet"),
        };
        usize::from(worker.0)
    }

    pub fn give(&mut self, worker: usize, port: PortId, bytes: &[u8]) {
        if self.one_arm && port == LAN {
            let tagged = [&bytes[..12], &TAG, &bytes[12..]].concat();
            return self.give(worker, WAN, &tagged);
        }
        let port = self.workers[worker].port_mut(port).expect("two ports");
        port.give(bytes);
    }

    /// The same of a frame with so many octets of its buffer in front of it.
    pub fn give_with_room(&mut self, worker: usize, port: PortId, bytes: &[u8], room: usize) {
        let port = self.workers[worker].port_mut(port).expect("two ports");
        port.give_frame(super::with_room(room, bytes));
    }

    /// One turn of one worker, and the equations that every turn keeps; what it sent.
    pub fn turn(&mut self, worker: usize) -> Vec<(PortId, Vec<u8>)> {
        self.workers[worker].turn(self.now);
        let counters = &self.counters[worker];
        let (came, went) = counters.balance();
        assert_eq!(came, went, "every frame has one verdict");
        let made = counters.made_sent.get() + counters.made_dropped.get();
        assert_eq!(counters.made.get(), made);
        let mut sent = Vec::new();
        for id in [WAN, LAN] {
            let Some(port) = self.workers[worker].port_mut(id) else {
                continue;
            };
            while let Some(frame) = port.take() {
                let mut bytes = frame.bytes().to_vec();
                if bytes[12..16] == TAG {
                    bytes.drain(12..16);
                    sent.push((LAN, bytes));
                } else {
                    sent.push((id, bytes));
                }
            }
        }
        assert!(sent.iter().all(|(_, bytes)| bytes[12..14] != TAG[..2]));
        sent
    }

    /// Turns everybody until nothing is between them; what they sent.
    pub fn drain(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let mut sent = Vec::new();
        for _ in 0..4 {
            for worker in 0..self.workers.len() {
                sent.extend(self.turn(worker));
            }
        }
        let out = self.sum(|counters| counters.handed_out.get());
        assert_eq!(out, self.sum(|counters| counters.handed_in.get()));
        sent
    }

    /// The sum of a counter over all workers.
    pub fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(|counters| of(counters)).sum()
    }

    /// Drops of all workers, by name.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let named = self.counters.iter().flat_map(|counters| counters.named());
        named
            .filter(|(name, count)| name.starts_with("drop-") && *count > 0)
            .collect()
    }
}

/// The rule of a service by mark: everything to its VIP's network.
fn mark_rule((at, spec): (usize, &Spec)) -> Option<Rule> {
    Some(Rule {
        mark: u32::try_from(at + 1).expect("few"),
        protocol: None,
        from: None,
        to: Some(Network::new(vip(at, spec.v6), spec.mark?)),
        ports: 0..=u16::MAX,
        entry: None,
    })
}

fn blocks() -> Blocks {
    let mut blocks = Blocks::default();
    blocks.reals.grow(512);
    blocks.services.grow(512);
    blocks.others.grow(512);
    blocks
}

fn hop(port: PortId) -> Hop {
    let source = if port == WAN { WAN_MAC } else { LAN_MAC };
    Hop::new(port, source, Some(GATEWAY_MAC))
}

fn default_routes() -> Routes {
    let to = |network: IpAddr| Route {
        network,
        length: 0,
        target: Target::Via([GATEWAY].into()),
    };
    let any = [
        to(Ipv4Addr::UNSPECIFIED.into()),
        to(Ipv6Addr::UNSPECIFIED.into()),
    ];
    Routes::new(&any, Vec::new())
}

/// The way to a real server.
pub fn forwarder(n: u8, mode: Mode) -> Forwarder {
    let hop = HopId(n.into());
    match tunnel(n, mode) {
        Some(tunnel) => Forwarder::Tun {
            hop,
            tunnel,
            envelope: Envelope::Ipip,
            narrower: 0,
        },
        None if mode == Mode::Nat => Forwarder::Nat { hop },
        None if mode == Mode::FullNat => Forwarder::FullNat { hop },
        None if mode == Mode::Nat64 => Forwarder::Nat64 { hop },
        None => Forwarder::Dr { hop },
    }
}

fn set_real(snapshot: &mut Snapshot, id: RealId, spec: &Spec, n: u8, mode: Mode) {
    let hop = HopId(n.into());
    let destination = Some(real_mac(n));
    snapshot
        .hops
        .set(hop.0, self::hop(LAN).with_destination(destination));
    let forwarder = forwarder(n, mode);
    let address = match mode {
        Mode::Tun4 => real_address(n, false),
        Mode::Tun6 => real_address(n, true),
        _ => real_address(n, mode.real_is_v6(spec.v6)),
    };
    let real = Real {
        address,
        port: spec.real_port(mode),
        standing: Standing::Settled,
        quiescent: false,
        forwarder,
        limits: Limits {
            upper: spec.upper,
            lower: 0,
        },
    };
    snapshot.reals.set(id.0, real);
}
