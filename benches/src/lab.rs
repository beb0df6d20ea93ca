//! A worker with one service of 16 real servers on one port, and its flows.

use std::ops::Range;
use std::sync::Arc;

use dataplane::exchange::exchange;
use dataplane::fwd::{Envelope, Forwarder, Tunnel};
use dataplane::handover::mesh;
use dataplane::local::LocalAddresses;
use dataplane::owner::{Fields, Owners, Steering, Traits};
use dataplane::port::{Frame, Port, PortId, WorkerId};
use dataplane::published::Publisher;
use dataplane::sched::{Backend, Flags, Kind, Scheduler, Spec, mh};
use dataplane::services::{
    Addresses, Blocks, Candidate, Hop, HopId, Key, NatReals, Owned, PortView, Real, RealId, Route,
    Routes, Service, ServiceId, Snapshot, Target, Unmatched,
};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use dataplane::vlan::Tagging;
use dataplane::worker::{Parts, Worker};

use crate::case::{Case, Family, Mode};
use crate::flows::{GATEWAY, Host, LOCALS, OUR_MAC, PORT, REALS, real_mac};
use crate::generator::Generator;
use crate::source::Segments;

/// The hop towards the clients; those towards the real servers have their numbers.
const TO_CLIENTS: u32 = 100;
const PROTOCOL: u8 = 6;

/// A worker under test.
#[derive(Debug)]
pub struct Lab {
    /// The worker.
    pub worker: Worker<Generator>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Octets of its tables.
    pub table_octets: usize,
    _publisher: Publisher<Snapshot>,
}

impl Lab {
    /// A worker with room for `connections`, and a generator of `flows` flows.
    ///
    /// # Panics
    /// Without memory for the table.
    pub fn new(case: Case, flows: u32, connections: u32) -> Self {
        let port = Generator::new(case, flows);
        let (worker, counters, publisher) = worker_on(case, connections, port);
        let state = worker.state();
        Self {
            table_octets: state.v4.memory().0 + state.v6.memory().0,
            worker,
            counters,
            _publisher: publisher,
        }
    }

    /// A worker on which `flows` connections are established.
    ///
    /// # Panics
    /// If not every one got its connection.
    pub fn established(case: Case, flows: u32) -> Self {
        let mut lab = Self::new(case, flows, flows + flows / 4 + 1024);
        lab.each(0..flows, Segments::Syn);
        lab.each(0..flows, Segments::Ack);
        let made = lab.counters.connections_made.get();
        assert_eq!(made, u64::from(flows), "every flow is there");
        lab
    }

    /// A worker whose table `flows` established connections fill.
    ///
    /// # Panics
    /// Without memory for the table.
    pub fn full(case: Case, flows: u32) -> Self {
        let mut lab = Self::new(case, flows, flows);
        lab.each(0..flows, Segments::Syn);
        lab.each(0..flows, Segments::Ack);
        lab
    }

    /// The worker's port.
    pub fn port(&mut self) -> &mut Generator {
        self.worker.port_mut(PortId(0)).expect("one port")
    }

    /// One segment of each of these flows through the worker itself.
    pub fn each(&mut self, flows: Range<u32>, segments: Segments) {
        let mut first = flows.start;
        while first < flows.end {
            first += self.port().next(first..flows.end, segments);
            self.worker.turn(Millis(0));
        }
    }

    /// Turns whose every frame is compared with what it should be.
    ///
    /// # Panics
    /// If one is not, or one was lost.
    pub fn check(&mut self, turns: u32) {
        self.port().check(true);
        self.turns(turns, Millis(0));
        self.port().check(false);
        self.assert_lossless();
    }

    /// So many turns.
    #[inline(never)]
    pub fn turns(&mut self, turns: u32, now: Millis) {
        for _ in 0..turns {
            assert!(self.worker.turn(now), "the generator never runs dry");
        }
    }

    /// Any work, under a name by which callgrind finds what it is to count.
    #[inline(never)]
    pub fn counted(&mut self, work: &mut dyn FnMut(&mut Self)) {
        work(self);
    }

    /// What so many turns make the generator do.
    #[inline(never)]
    pub fn idle(&mut self, turns: u32) {
        (0..turns).for_each(|_| self.port().idle_burst());
    }

    /// # Panics
    /// If a packet was lost.
    pub fn assert_lossless(&self) {
        let (rx, tx) = (self.counters.rx.get(), self.counters.transmit.get());
        assert_eq!(rx, tx, "nothing was lost");
    }
}

/// A worker on any port, alone, with room for `connections`; and what publishes to it.
///
/// # Panics
/// Without memory for the table.
pub fn worker_on<P: Port>(
    case: Case,
    connections: u32,
    port: P,
) -> (Worker<P>, Arc<Counters>, Publisher<Snapshot>) {
    let (mut workers, publisher) = workers_on(case, connections, vec![port]);
    let (worker, counters) = workers.remove(0);
    (worker, counters, publisher)
}

/// A worker and what it counts.
pub type Counted<P> = (Worker<P>, Arc<Counters>);

/// What says whose a connection is.
pub fn fields(mode: Mode) -> Fields {
    Fields::of(Traits {
        nat: mode == Mode::Nat,
        ..Traits::default()
    })
}

/// How packets are spread over so many workers here.
///
/// # Panics
/// With none, or more than 128.
pub fn steering(workers: u16) -> Steering {
    Steering::seeded(1, 128, workers).expect("a few workers")
}

/// Workers of one process, each on its port; and what publishes to them.
///
/// # Panics
/// Without memory for the tables.
pub fn workers_on<P: Port>(
    case: Case,
    connections: u32,
    ports: Vec<P>,
) -> (Vec<Counted<P>>, Publisher<Snapshot>) {
    let count = u16::try_from(ports.len()).expect("a few");
    let mut snapshot = snapshot(case);
    snapshot.blocks = (0..count).map(|_| blocks()).collect();
    let (publisher, readers) = Publisher::new(snapshot, count);
    let (_, ends) = exchange(count, NoPool::<P::Frame>::default());
    let steering = Arc::new(steering(count));
    let (v4, v6) = match case.family {
        Family::V4 => (connections, 1),
        Family::V6 => (1, connections),
    };
    let peers = mesh(count).into_iter();
    let parts = ports.into_iter().zip(readers).zip(ends).zip(peers);
    let worker = |(id, (((port, reader), exchange), peers))| {
        let counters = Arc::new(Counters::default());
        let worker = Worker::new(Parts {
            id: WorkerId(id),
            ports: vec![port],
            reader,
            exchange,
            counters: counters.clone(),
            connections: v4,
            connections_v6: v6,
            peers,
            steering: steering.clone(),
            seed: 1,
            pages: arch::Pages::Auto,
            hash_key: [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321],
            now: Millis(0),
        });
        (worker.expect("memory for the table"), counters)
    };
    ((0..count).zip(parts).map(worker).collect(), publisher)
}

/// A pool that gives nothing: no control sends here.
#[derive(Debug)]
struct NoPool<F>(std::marker::PhantomData<F>);

impl<F> Default for NoPool<F> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<F: Frame> dataplane::port::FramePool for NoPool<F> {
    type Frame = F;

    fn alloc(&mut self) -> Option<F> {
        None
    }
}

fn snapshot(case: Case) -> Snapshot {
    let address = |host: Host| host.address(case.family);
    let vip = address(Host::Vip);
    let id = ServiceId(0);
    let mut snapshot = Snapshot::default();
    snapshot.index.insert(Key::address(PROTOCOL, vip, PORT), id);
    let hop = |destination| Hop::new(PortId(0), OUR_MAC, Some(destination));
    snapshot.hops.set(TO_CLIENTS, hop(GATEWAY));
    for n in 0..REALS {
        snapshot.hops.set(u32::from(n), hop(real_mac(n)));
        snapshot.reals.set(u32::from(n), real(case, n));
    }
    snapshot.services.set(0, Arc::new(service(case, id)));
    if case.mode.is_two_way() {
        let real = |n| ((PROTOCOL, address(Host::Real(n)), PORT), id);
        snapshot.nat_reals = NatReals::new((0..REALS).map(real).collect());
    }
    snapshot.addresses = addresses(case);
    snapshot.routes = routes(case);
    snapshot.ports = [PortView {
        any_mac: false,
        mac: OUR_MAC,
        mtu: 1500,
        to_sender: false,
        groups: [].into(),
        tagging: Tagging::default(),
    }]
    .into();
    snapshot
}

/// What one worker counts, for itself.
fn blocks() -> Blocks {
    let mut blocks = Blocks::default();
    blocks.reals.grow(64);
    blocks.services.grow(64);
    blocks
}

fn real(case: Case, n: u8) -> Real {
    let hop = HopId(u32::from(n));
    let address = Host::Real(n).address(case.family);
    Real {
        address,
        port: PORT,
        standing: dataplane::services::Standing::Settled,
        quiescent: false,
        forwarder: match case.mode {
            Mode::Dr => Forwarder::Dr { hop },
            Mode::Nat => Forwarder::Nat { hop },
            Mode::FullNat => Forwarder::FullNat { hop },
            Mode::Tun => Forwarder::Tun {
                hop,
                tunnel: tunnel(case.family, n),
                envelope: Envelope::Ipip,
                narrower: 0,
            },
        },
        limits: Default::default(),
    }
}

fn tunnel(family: Family, n: u8) -> Tunnel {
    let (director, real) = (
        Host::Director.address(family),
        Host::Real(n).address(family),
    );
    Tunnel::between(director, real).expect("both are of one family")
}

fn service(case: Case, id: ServiceId) -> Service {
    let candidate = |n: u8| Candidate {
        real: RealId(u32::from(n)),
        weight: 1,
        order: u32::from(n) + 1,
    };
    let candidates: Vec<_> = (0..REALS).rev().map(candidate).collect();
    let backend = |candidate: &Candidate| Backend {
        address: Host::Real(0).address(case.family),
        port: PORT,
        weight: candidate.weight,
        last_weight: candidate.weight,
    };
    let backends: Vec<_> = candidates.iter().map(backend).collect();
    let spec = Spec {
        kind: Kind::Rr,
        flags: Flags::default(),
        mh_size: mh::Size::DEFAULT,
        workers: 1,
        revision: 1,
        backends: &backends,
    };
    let scheduler = Scheduler::prepare(None, &spec);
    let mut service = Service::new(id, 1, scheduler, candidates.into());
    service.owners = Owners::new(fields(case.mode));
    if case.mode == Mode::FullNat {
        let locals = (0..LOCALS).map(|n| Host::Local(n).address(case.family));
        service.locals = LocalAddresses::from_iter(locals);
    }
    service
}

fn addresses(case: Case) -> Addresses {
    let vip = Owned::Vip {
        held: true,
        unmatched: Unmatched::Drop,
    };
    let own = |host: Host, what| (host.address(case.family), what);
    let mut all = vec![own(Host::Vip, vip), own(Host::Director, Owned::Director)];
    all.extend((0..LOCALS).map(|n| own(Host::Local(n), Owned::Local)));
    Addresses::new(all)
}

/// What a director's table looks like: its links, and a gateway for all others.
fn routes(case: Case) -> Routes {
    let (short, long) = match case.family {
        Family::V4 => (16, 24),
        Family::V6 => (112, 120),
    };
    let on_link = |host: Host, length| Route {
        network: host.address(case.family),
        length,
        target: Target::OnLink(PortId(0)),
    };
    let default = Route {
        network: Host::Client(0).address(case.family),
        length: 0,
        target: Target::Via([HopId(TO_CLIENTS)].into()),
    };
    let known = |n| (Host::Real(n).address(case.family), HopId(u32::from(n)));
    let links = [on_link(Host::Real(0), short), on_link(Host::Vip, long)];
    Routes::new(
        &[&links[..], &[default]].concat(),
        (0..REALS).map(known).collect(),
    )
}
