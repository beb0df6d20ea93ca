//! From the operator's nouns to the workers' tables.
//!
//! [`compile_service`] is pure. [`Compiler`] keeps the snapshot that is being prepared and
//! the slots; a change touches the pages it concerns, and publishing clones a handful of
//! pointers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use config::model::{
    self, ClientAddress, Endpoint, Family, Listen, Mode, PersistenceMask, Prefix, Protocol,
    SchedulerFlags, SchedulerKind, Tunnel, TunnelChecksum,
};
use dataplane::fwd::icmp::AboutTunnel;
use dataplane::fwd::{self, Envelope, Forwarder};
use dataplane::owner::{Fields, FieldsSlot, Owners, TooManyFields, Traits};
use dataplane::sched::mh::Size;
use dataplane::sched::sums;
use dataplane::sched::thresholds::Limits;
use dataplane::sched::{Backend, Flags, Kind, Scheduler, Spec};
use dataplane::services::marks::Network;
use dataplane::services::{
    Access, Asks, Blocks, Candidate, Hop, HopId, Key, Marks, NatReal, Persistence, Real, RealId,
    Route, Routes, Service, ServiceId, Snapshot, Standing, Target, Telling,
};
use proto::listing::{Rates, Totals};
use wire::ethernet::Mac;
use wire::proxy::Version;

use crate::account::{self, Account, Accounts};
use crate::arena::{Arena, Taken};
use crate::model::{RealEntry, ServiceEntry, is_ours};
use crate::neigh::Instant;
use crate::overlap::Overlaps;
use crate::paths::{Paths, Told};
use crate::stats::{self, RealNumbers};
use crate::sums::{Sums, goes_by_connections};
use crate::topology::{By, Neighbour, Path, Topology};

/// What a real server is known by: its service and its address.
pub type RealKey = (Listen, Endpoint);

/// Prepares a service for the workers: its real servers newest first, and what its scheduler
/// wants computed. `slots` are those of the entry's candidates, in the entry's order;
/// `previous` is the service as it was, unless it is new.
pub fn compile_service(
    entry: &ServiceEntry,
    id: ServiceId,
    revision: u64,
    owners: Owners,
    workers: u16,
    slots: &[RealId],
    previous: Option<&Scheduler>,
) -> Service {
    let newest_first = || entry.candidates().iter().zip(slots).rev();
    let candidates = newest_first().map(|(real, &slot)| Candidate {
        real: slot,
        weight: real.real.weight,
        order: real.order,
    });
    let backends: Vec<Backend> = newest_first().map(|(real, _)| backend(real)).collect();
    let spec = Spec {
        kind: kind(entry.settings.scheduler),
        flags: flags(entry.settings.flags),
        mh_size: Size::DEFAULT,
        workers: workers.max(1),
        revision,
        backends: &backends,
    };
    let scheduler = Scheduler::prepare(previous, &spec);
    Service {
        address: entry.settings.listen.address(),
        owners,
        locals: entry.settings.local_addresses.iter().copied().collect(),
        telling: telling(entry.settings.client_address),
        mss_clamp: entry.settings.mss_clamp,
        persistence: entry.settings.persistence.as_ref().map(persistence),
        one_packet: entry.settings.one_packet,
        ..Service::new(id, revision, scheduler, candidates.collect())
    }
}

/// How the service's real servers are told who a client is.
fn telling(way: ClientAddress) -> Telling {
    let proxy = |version, insecure| Telling::Proxy { version, insecure };
    match way {
        ClientAddress::None => Telling::None,
        ClientAddress::Toa => Telling::Toa,
        ClientAddress::ProxyV1 => proxy(Version::V1, false),
        ClientAddress::ProxyV2 => proxy(Version::V2, false),
        ClientAddress::ProxyV1Insecure => proxy(Version::V1, true),
        ClientAddress::ProxyV2Insecure => proxy(Version::V2, true),
    }
}

/// What packets of the service's clients have to ask.
fn asks(settings: &model::Service) -> Asks {
    let networks = |list: &[Prefix]| {
        let network = |prefix: &Prefix| Network::new(prefix.address, prefix.length);
        list.iter().map(network).collect::<Vec<_>>()
    };
    Asks {
        access: Access::new(networks(&settings.block), networks(&settings.allow)),
        established_ms: settings.connection_timeout.map(|seconds| seconds * 1000),
        expire_quiescent: settings.expire_quiescent,
    }
}

/// What decides over who owns a service's connections.
fn traits(entry: &ServiceEntry) -> Traits {
    let settings = &entry.settings;
    Traits {
        persistence: settings.persistence.as_ref().map(|p| mask(p.mask)),
        by_destination: matches!(
            settings.scheduler,
            SchedulerKind::Lblc | SchedulerKind::Lblcr
        ),
        nat: entry.possible().any(|real| real.real.mode == Mode::Nat),
        mark: settings.listen.address().is_none(),
    }
}

fn persistence(asked: &model::Persistence) -> Persistence {
    Persistence {
        timeout_ms: asked.timeout * 1000,
        mask: mask(asked.mask),
    }
}

fn mask(mask: PersistenceMask) -> u128 {
    match mask {
        PersistenceMask::V4(mask) => u128::from(mask.to_bits()),
        PersistenceMask::V6(length) => {
            let rest = 128 - u32::from(length.min(128));
            u128::MAX.checked_shl(rest).unwrap_or(0)
        }
    }
}

/// What a NAT real server's replies look like: one for each protocol that the service may
/// have, from the service's port where it has none of its own.
fn replies(listen: &Listen, endpoint: &Endpoint) -> Vec<NatReal> {
    let own = Some(endpoint.port).filter(|&port| port != 0);
    match *listen {
        Listen::Address { protocol, port, .. } => {
            vec![(protocol.number(), endpoint.address, own.unwrap_or(port))]
        }
        Listen::Mark { .. } => [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .map(|protocol| (protocol.number(), endpoint.address, own.unwrap_or(0)))
            .to_vec(),
    }
}

fn backend(real: &RealEntry) -> Backend {
    Backend {
        address: real.real.endpoint.address,
        port: real.real.endpoint.port,
        weight: real.real.weight,
        last_weight: real.last_weight,
    }
}

fn flags(flags: SchedulerFlags) -> Flags {
    Flags {
        fallback: flags.0 & SchedulerFlags::FALLBACK != 0,
        port: flags.0 & SchedulerFlags::PORT != 0,
    }
}

#[rustfmt::skip]
fn kind(kind: SchedulerKind) -> Kind {
    match kind {
        SchedulerKind::Rr    => Kind::Rr,
        SchedulerKind::Wrr   => Kind::Wrr,
        SchedulerKind::Lc    => Kind::Lc,
        SchedulerKind::Wlc   => Kind::Wlc,
        SchedulerKind::Sh    => Kind::Sh,
        SchedulerKind::Dh    => Kind::Dh,
        SchedulerKind::Lblc  => Kind::Lblc,
        SchedulerKind::Lblcr => Kind::Lblcr,
        SchedulerKind::Sed   => Kind::Sed,
        SchedulerKind::Nq    => Kind::Nq,
        SchedulerKind::Fo    => Kind::Fo,
        SchedulerKind::Ovf   => Kind::Ovf,
        SchedulerKind::Mh    => Kind::Mh,
        SchedulerKind::Twos  => Kind::Twos,
    }
}

/// A next hop and how many real servers go there.
#[derive(Debug)]
struct Next {
    slot: HopId,
    users: usize,
}

/// A neighbour that is wanted from now on, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub neighbour: Neighbour,
    /// Whether it is wanted.
    pub wanted: bool,
}

/// A pass over all accounts.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    /// The next slot: services first, real servers behind them.
    next: u32,
    /// What the services before it counted.
    counted: Totals,
}

/// The snapshot in preparation and every slot in it.
#[derive(Debug, Default)]
pub struct Compiler {
    snapshot: Snapshot,
    services: Arena<Listen>,
    reals: Arena<RealKey>,
    /// What each service is made of, as compiled.
    made: HashMap<Listen, Vec<(Endpoint, RealId)>>,
    /// Slots of real servers by service, those in the trash included.
    slots_of: HashMap<Listen, usize>,
    hops: HashMap<Option<Neighbour>, Next>,
    /// Whose each hop's slot is; those of free slots are stale.
    hop_keys: Vec<Option<Neighbour>>,
    free_hops: Vec<HopId>,
    wants: Vec<Want>,
    revision: u64,
    accounts: Accounts,
    /// How far the pass over all accounts has come; absent between two passes.
    pass: Option<Pass>,
    /// NAT real servers, those in the trash included.
    nat_reals: BTreeSet<(NatReal, ServiceId)>,
    /// Those of which the snapshot's table is behind.
    nat_changes: BTreeSet<NatReal>,
    /// IPv4 real servers that are or were FULLNAT's for IPv6 clients, those in the trash included:
    /// while there are any, workers look for such connections.
    nat64: HashSet<RealId>,
    /// Services with connections made under older fields, and the snapshot that changed them.
    changing: HashMap<Listen, u64>,
    /// Services whose change waits until connections under some older fields have ended.
    waiting: HashSet<Listen>,
    /// Neighbours that were asked for by packets, and their hops.
    met: HashMap<Neighbour, HopId>,
    /// The gateways' hops.
    gateways: HashMap<Neighbour, HopId>,
    /// Whether the snapshot's routes are behind.
    routes_changed: bool,
    /// Whose counts are shared between the workers.
    sums: Sums,
    /// What is known of the paths to tunnels' ends.
    paths: Paths,
    /// Real servers with connections made in another mode, and the snapshot that edited them.
    edited: HashMap<RealId, u64>,
    /// Which services may have connections of the same tuples.
    overlaps: Overlaps,
}

impl Compiler {
    /// Starts from a snapshot that has everything but services.
    pub fn new(snapshot: Snapshot) -> Self {
        let mut overlaps = Overlaps::default();
        overlaps.set_rules(snapshot.marks.rules(), 0);
        Self {
            snapshot,
            overlaps,
            ..Self::default()
        }
    }

    /// Marks are given by these rules from the snapshot of `generation` on.
    pub fn set_marks(&mut self, marks: Marks, generation: u64) {
        self.overlaps.set_rules(marks.rules(), generation);
        self.snapshot.marks = marks;
    }

    /// Takes note of what a service is going to be; `None`: removed. To be called for all that one
    /// snapshot changes before [`Compiler::update`] is called for any, because services that
    /// overlap may have to agree about who owns their connections.
    pub fn plan(&mut self, listen: &Listen, entry: Option<&ServiceEntry>) {
        let own = entry.map(|entry| Fields::of(traits(entry)));
        self.overlaps.want(listen, own);
    }

    /// Takes up the routes. To be called once, before anything is published.
    pub fn route(&mut self, topology: &Topology) {
        for path in topology.routes() {
            if let By::Gateways(gateways) = &path.by {
                for &gateway in gateways {
                    if !self.gateways.contains_key(&gateway) {
                        let hop = self.take_hop(Some(gateway), topology);
                        self.gateways.insert(gateway, hop);
                    }
                }
            }
        }
        self.routes_changed = true;
    }

    /// Packets go to this neighbour, which no route or real server names: a client.
    pub fn meet(&mut self, neighbour: Neighbour, topology: &Topology) {
        if !self.met.contains_key(&neighbour) {
            let hop = self.take_hop(Some(neighbour), topology);
            self.met.insert(neighbour, hop);
            self.routes_changed = true;
        }
    }

    /// No packets go to this neighbour any more, or none gets there.
    /// Says whether that changes the routes.
    pub fn part(&mut self, neighbour: &Neighbour) -> bool {
        let Some(hop) = self.met.remove(neighbour) else {
            return false;
        };
        self.release_hop(hop);
        self.routes_changed = true;
        true
    }

    /// What goes to this neighbour: how many real servers' packets, whether a route's, and
    /// whether those of clients that only packets asked for.
    pub fn users(&self, neighbour: &Neighbour) -> (usize, bool, bool) {
        let all = self
            .hops
            .get(&Some(*neighbour))
            .map_or(0, |next| next.users);
        let gateway = self.gateways.contains_key(neighbour);
        let client = self.met.contains_key(neighbour);
        let others = usize::from(gateway) + usize::from(client);
        (all.saturating_sub(others), gateway, client)
    }

    /// Whether packets find the way to this neighbour by themselves: through a real server or
    /// a route, or because it was met.
    pub fn leads_to(&self, neighbour: &Neighbour) -> bool {
        self.hops.contains_key(&Some(*neighbour))
    }

    /// Brings the tables up to date that are made of many objects: to be called before the
    /// snapshot of `generation` is published.
    pub fn settle(&mut self, topology: &Topology, generation: u64) {
        self.settle_nat();
        self.settle_owners(generation);
        if std::mem::take(&mut self.routes_changed) {
            let routes: Vec<_> = topology.routes().iter().map(|p| self.path(p)).collect();
            let met = self.met.iter().map(|(&(_, address), &hop)| (address, hop));
            let routes = Routes::new(&routes, met.collect());
            self.snapshot.routes = routes.with_made_up_neighbours(topology.make_up());
        }
    }

    /// Services that overlap know of each other, and go by common fields where they have to.
    fn settle_owners(&mut self, generation: u64) {
        self.overlaps.settle();
        for listen in self.overlaps.changed() {
            self.follow_fields(&listen, generation);
        }
        for listen in self.overlaps.take_changed() {
            let rivals = self.overlaps.rivals(&listen);
            if let Some(id) = self.service_slot(&listen)
                && let Some(service) = self.snapshot.services.get(id.0)
                && service.owners.rivals() != rivals
            {
                let owners = service.owners.with_rivals(rivals);
                self.set_owners(&listen, id, owners);
            }
        }
    }

    /// Has a service go by what it has to go by, unless its whole change waits.
    fn follow_fields(&mut self, listen: &Listen, generation: u64) {
        let found = self
            .service_slot(listen)
            .filter(|_| !self.waiting.contains(listen));
        let found = found.and_then(|id| Some((id, self.snapshot.services.get(id.0)?)));
        let (Some((id, service)), Some(fields)) = (found, self.overlaps.fields(listen)) else {
            return;
        };
        if service.owners.current().1 == fields {
            return self.overlaps.done(listen);
        }
        match service.owners.changed_to(fields) {
            Ok(owners) => {
                self.overlaps.done(listen);
                self.changing.insert(*listen, generation);
                self.set_owners(listen, id, owners);
            }
            Err(error) => {
                if self.overlaps.retry(listen) {
                    tracing::warn!("{listen}: services that take the same packets wait: {error}");
                }
            }
        }
    }

    fn set_owners(&mut self, listen: &Listen, ServiceId(slot): ServiceId, owners: Owners) {
        self.overlaps.list(listen, fields_of(&owners));
        if let Some(service) = self.snapshot.services.get(slot) {
            let service = Service {
                owners,
                ..Service::clone(service)
            };
            self.snapshot.services.set(slot, Arc::new(service));
        }
    }

    /// Whether services that overlap wait to be told of each other.
    pub fn owners_changed(&self) -> bool {
        self.overlaps.is_changed()
    }

    /// Forgets the rules of former days whose marks have no connections left. `seen` is the oldest
    /// generation that some worker runs with.
    pub fn forget_rules(&mut self, seen: u64) {
        let (services, snapshot) = (&self.services, &self.snapshot);
        let is_idle = |mark| {
            [Family::V4, Family::V6].iter().all(|&family| {
                let slot = services.find(&Listen::Mark { mark, family });
                slot.is_none_or(|slot| made_under(&snapshot.blocks, slot) == 0)
            })
        };
        self.overlaps.forget_rules(seen, is_idle);
    }

    /// Brings the table of NAT real servers up to date, where it changed.
    pub fn settle_nat(&mut self) {
        let all = ServiceId(0)..=ServiceId(u32::MAX);
        for real in std::mem::take(&mut self.nat_changes) {
            let services = self
                .nat_reals
                .range((real, *all.start())..=(real, *all.end()));
            let services = services.map(|&(_, service)| service).collect();
            self.snapshot.nat_reals.set(real, services);
        }
    }

    /// A route for workers: by those of its gateways that answer, or by all if none does.
    fn path(&self, path: &Path) -> Route {
        let hop = |gateway| self.gateways.get(gateway).copied();
        let answers = |hop: &HopId| {
            let hop = self.snapshot.hops.get(hop.0);
            hop.is_some_and(|hop| hop.destination().is_some())
        };
        let target = match &path.by {
            By::Link(port) => Target::OnLink(*port),
            By::Gateways(gateways) => {
                let all: Vec<HopId> = gateways.iter().filter_map(hop).collect();
                let good: Vec<HopId> = all.iter().copied().filter(answers).collect();
                Target::Via(if good.is_empty() { all } else { good }.into())
            }
        };
        Route {
            network: path.to.address,
            length: path.to.length,
            target,
        }
    }

    /// The snapshot as it stands.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Access to what is not compiled from services: addresses, ports, settings.
    pub fn snapshot_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    /// The slot of a service.
    pub fn service_slot(&self, listen: &Listen) -> Option<ServiceId> {
        self.services.get(listen).map(ServiceId)
    }

    /// The service that a slot is or was for, while connections may be on it.
    pub fn service_of(&self, id: ServiceId) -> Option<&Listen> {
        self.services.key(id.0)
    }

    /// The real server that a slot is or was for, while connections may be on it.
    pub fn real_of(&self, id: RealId) -> Option<&RealKey> {
        self.reals.key(id.0)
    }

    /// The slots of a service's real servers, oldest first.
    pub fn real_slots(&self, listen: &Listen) -> &[(Endpoint, RealId)] {
        self.made.get(listen).map_or(&[], Vec::as_slice)
    }

    /// What a service counted since it began, and its rates.
    pub fn service_account(&self, id: ServiceId) -> (Totals, Rates) {
        let counted = stats::service_totals(&self.snapshot.blocks, id);
        let account = account::of(&self.accounts.services, id.0);
        (account.totals(counted), account.rates())
    }

    /// A real server's numbers, its totals since its slot was taken, and its rates.
    pub fn real_account(&self, id: RealId) -> (RealNumbers, Rates) {
        let numbers = stats::real_numbers(&self.snapshot.blocks, id);
        let account = account::of(&self.accounts.reals, id.0);
        let totals = account.totals(numbers.totals);
        (RealNumbers { totals, ..numbers }, account.rates())
    }

    /// What everybody counted, and the rates of that.
    pub fn account_of_all(&self) -> (Totals, Rates) {
        let account = &self.accounts.all;
        (account.totals(self.counted()), account.rates())
    }

    /// What all services together counted since the start, those that are gone included: the
    /// counters of a slot go on with the next service.
    fn counted(&self) -> Totals {
        let mut sum = Totals::default();
        for slot in 0..self.services.size() {
            let blocks = &self.snapshot.blocks;
            stats::add(&mut sum, &stats::service_totals(blocks, ServiceId(slot)));
        }
        sum
    }

    /// What each worker counted since the start.
    pub fn counted_by_worker(&self) -> Vec<Totals> {
        let blocks = self.snapshot.blocks.iter();
        let sum = |blocks: &Blocks| {
            let mut sum = Totals::default();
            for slot in 0..self.services.size() {
                let one = std::slice::from_ref(blocks);
                stats::add(&mut sum, &stats::service_totals(one, ServiceId(slot)));
            }
            sum
        };
        blocks.map(sum).collect()
    }

    /// Counters begin anew (`-Z`): those of a service and its real servers, or all.
    pub fn zero(&mut self, listen: Option<&Listen>) {
        let all: Vec<Listen> = match listen {
            Some(listen) => vec![*listen],
            None => self.made.keys().copied().collect(),
        };
        for listen in &all {
            if let Some(id) = self.service_slot(listen) {
                self.begin_service(id);
            }
            for at in 0..self.real_slots(listen).len() {
                self.begin_real(self.real_slots(listen)[at].1);
            }
        }
        if listen.is_none() {
            self.accounts.all = Account::new(self.counted());
        }
    }

    /// Begins a pass over all accounts: two seconds went by.
    pub fn begin_estimate(&mut self) {
        self.pass.get_or_insert_default();
    }

    /// Goes on with the pass for up to `limit` slots; says whether more is to be done.
    pub fn estimate(&mut self, limit: u32) -> bool {
        let Some(mut pass) = self.pass.take() else {
            return false;
        };
        let (services, reals) = (self.services.size(), self.reals.size());
        let blocks = &self.snapshot.blocks;
        for _ in 0..limit {
            if pass.next < services {
                let counted = stats::service_totals(blocks, ServiceId(pass.next));
                stats::add(&mut pass.counted, &counted);
                account::tick(&mut self.accounts.services, pass.next, counted);
            } else if pass.next - services < reals {
                let slot = pass.next - services;
                let counted = stats::real_numbers(blocks, RealId(slot)).totals;
                account::tick(&mut self.accounts.reals, slot, counted);
            } else {
                self.accounts.all.tick(pass.counted);
                return false;
            }
            pass.next += 1;
        }
        self.pass = Some(pass);
        true
    }

    /// Slots of real servers: in use, and in the trash.
    pub fn real_counts(&self) -> (usize, usize) {
        (self.reals.live(), self.reals.trashed())
    }

    /// Tells each worker what the others count for up to `limit` real servers, from where the
    /// last call ended.
    pub fn share_counts(&mut self, limit: usize, now: Instant) {
        let (blocks, reals) = (&self.snapshot.blocks, &self.snapshot.reals);
        self.sums.step(limit, now, |id| {
            if let Some(real) = reals.get(id.0) {
                sums::sum(blocks, id, real.limits);
            }
        });
    }

    /// Which counts are shared, and how old what was told is.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The neighbours that became wanted or unwanted since the last call.
    pub fn take_wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants)
    }

    /// Brings one service up to date with the model; `None`: it went. What is removed is in
    /// the trash from the snapshot of `generation` on, the one published next.
    pub fn update(
        &mut self,
        listen: &Listen,
        entry: Option<&ServiceEntry>,
        topology: &Topology,
        generation: u64,
    ) {
        let owners = match entry.map(|entry| self.owners(listen, entry, generation)) {
            Some(Err(TooManyFields)) => {
                if self.waiting.insert(*listen) {
                    tracing::warn!("{listen}: its change waits: {TooManyFields}");
                }
                return;
            }
            Some(Ok(owners)) => Some(owners),
            None => None,
        };
        self.waiting.remove(listen);
        self.revision += 1;
        let old = self.made.remove(listen).unwrap_or_default();
        let (Some(entry), Some(owners)) = (entry, owners) else {
            self.remove_service(listen, &old, generation);
            return;
        };
        let (id, kept) = self.take_service(listen);
        let asks = asks(&entry.settings);
        let mut new = Vec::with_capacity(entry.reals.len());
        for real in entry.present() {
            let slot = self.take_real(listen, id, &real.real, &asks, topology, generation);
            let by_count = goes_by_connections(entry.settings.scheduler);
            let limited = real.real.upper > 0;
            self.sums.want(slot, by_count || limited);
            new.push((real.real.endpoint, slot));
        }
        let still: HashSet<RealId> = new.iter().map(|&(_, slot)| slot).collect();
        let gone = old.iter().filter(|(_, slot)| !still.contains(slot));
        for &(endpoint, slot) in gone {
            self.remove_real(&(*listen, endpoint), slot, generation);
        }
        let slots = candidates_slots(entry, &new);
        let workers = u16::try_from(self.snapshot.blocks.len()).expect("counted in 16 bits");
        let before = self.snapshot.services.get(id.0).filter(|_| kept);
        let before = before.map(|service| &service.scheduler);
        let service = Service {
            asks,
            ..compile_service(entry, id, self.revision, owners, workers, &slots, before)
        };
        self.overlaps.list(listen, fields_of(&service.owners));
        self.snapshot.services.set(id.0, Arc::new(service));
        self.made.insert(*listen, new);
    }

    /// Brings what packets ask of a service up to date, and nothing else: its scheduler goes on
    /// from where it was.
    pub fn ask(&mut self, settings: &model::Service) {
        let slot = self.services.find(&settings.listen);
        let found = slot.and_then(|slot| Some((slot, self.snapshot.services.get(slot)?)));
        let Some((slot, service)) = found else {
            return;
        };
        let asks = asks(settings);
        let reals = self.made.get(&settings.listen).into_iter().flatten();
        for &(_, RealId(at)) in reals {
            let real = self.snapshot.reals.get(at).copied();
            // An edited one's connections ask anyway.
            let asks_little =
                |real: &Real| real.is_available() && real.standing != Standing::Edited;
            if let Some(real) = real.filter(asks_little) {
                let standing = asks.standing(real.quiescent);
                self.snapshot.reals.set(at, Real { standing, ..real });
            }
        }
        let service = Service {
            asks,
            ..Service::clone(service)
        };
        self.snapshot.services.set(slot, Arc::new(service));
    }

    /// Who owns the service's connections from the snapshot of `generation` on.
    fn owners(
        &mut self,
        listen: &Listen,
        entry: &ServiceEntry,
        generation: u64,
    ) -> Result<Owners, TooManyFields> {
        let own = Fields::of(traits(entry));
        self.overlaps.want(listen, Some(own));
        self.overlaps.settle();
        let fields = self.overlaps.fields(listen).unwrap_or(own);
        let slot = self.services.find(listen);
        let Some(before) = slot.and_then(|slot| self.snapshot.services.get(slot)) else {
            return Ok(Owners::new(fields));
        };
        if before.owners.current().1 == fields {
            return Ok(before.owners.clone());
        }
        let changed = before.owners.changed_to(fields)?;
        self.changing.insert(*listen, generation);
        Ok(changed)
    }

    /// Strikes off older fields under which no connection is left; `seen` is the oldest
    /// generation that some worker runs with. Gives the services whose change needs not wait
    /// any longer, and says whether the snapshot changed.
    pub fn forget_fields(&mut self, seen: u64) -> (Vec<Listen>, bool) {
        let due = self.changing.iter().filter(|&(_, &since)| since <= seen);
        let due: Vec<Listen> = due.map(|(&listen, _)| listen).collect();
        let mut changed = Vec::new();
        for listen in due {
            let Some(slot) = self.services.find(&listen) else {
                self.changing.remove(&listen);
                continue;
            };
            let Some(service) = self.snapshot.services.get(slot).cloned() else {
                self.changing.remove(&listen);
                continue;
            };
            let owners = without_unused(&service.owners, &self.snapshot.blocks, slot);
            if owners.older().is_empty() {
                self.changing.remove(&listen);
            }
            if owners != service.owners {
                self.set_owners(&listen, ServiceId(slot), owners);
                changed.push(listen);
            }
        }
        let any = !changed.is_empty() || self.owners_changed();
        changed.retain(|listen| self.waiting.contains(listen));
        (changed, any)
    }

    /// Finds the service's slot, or takes one and enters it in the index; says whether it was
    /// there. A new service counts from nothing.
    fn take_service(&mut self, listen: &Listen) -> (ServiceId, bool) {
        let taken = self.services.take(listen);
        let id = ServiceId(taken.slot());
        if let Taken::Kept(_) = taken {
            return (id, true);
        }
        for blocks in Arc::make_mut(&mut self.snapshot.blocks) {
            blocks.services.grow(self.services.size());
        }
        self.begin_service(id);
        self.snapshot.index.insert(key(listen), id);
        (id, false)
    }

    fn take_real(
        &mut self,
        listen: &Listen,
        service: ServiceId,
        real: &config::model::Real,
        asks: &Asks,
        topology: &Topology,
        generation: u64,
    ) -> RealId {
        let taken = self.reals.take(&(*listen, real.endpoint));
        let id = RealId(taken.slot());
        if let Taken::Fresh(_) = taken {
            *self.slots_of.entry(*listen).or_default() += 1;
            self.make_room();
            self.begin_real(id);
        }
        let (forwarder, is_reachable) = self.forwarder(listen, real, topology);
        let (upper, lower) = (real.upper, real.lower);
        let quiescent = real.weight == 0;
        let before = self.snapshot.reals.get(id.0).copied();
        if let Some(before) = before {
            self.keep_former(id, &before.forwarder, &forwarder, generation);
        }
        let standing = match is_reachable {
            false => Standing::Removed,
            true if self.edited.contains_key(&id) => Standing::Edited,
            true => asks.standing(quiescent),
        };
        let compiled = Real {
            address: real.endpoint.address,
            port: real.endpoint.port,
            standing,
            quiescent,
            forwarder,
            limits: Limits { upper, lower },
        };
        if let Forwarder::Tun { .. } = forwarder {
            self.paths.add(real.endpoint.address, id);
        }
        if let Some(before) = before {
            if before == compiled {
                return id;
            }
            if before.limits != compiled.limits {
                let upper = before.limits.upper;
                sums::edited(&self.snapshot.blocks, id, upper, compiled.limits);
            }
        }
        match forwarder {
            Forwarder::Nat { .. } => self.expect_replies(listen, service, &real.endpoint),
            Forwarder::Nat64 { .. } => {
                self.nat64.insert(id);
                self.snapshot.nat64 = true;
            }
            _ => {}
        }
        self.snapshot.reals.set(id.0, compiled);
        id
    }

    /// Lets a real server's forwarder go, which another one follows. Where that is of another
    /// mode, older connections keep the one that they were made with, as IPVS's do.
    fn keep_former(&mut self, id: RealId, before: &Forwarder, after: &Forwarder, generation: u64) {
        if before.method() == after.method() {
            return self.release_hop_of(before);
        }
        let formers = self.snapshot.formers.get(id.0);
        let mut formers = formers.map_or_else(Vec::new, |formers| formers.to_vec());
        if let Some(at) = formers.iter().position(|it| it.method() == after.method()) {
            self.release_hop_of(&formers.remove(at));
        }
        formers.push(*before);
        self.snapshot.formers.set(id.0, formers.into());
        self.edited.insert(id, generation);
    }

    /// Forgets how a real server's older connections went: there are none.
    fn forget_formers(&mut self, id: RealId) {
        self.edited.remove(&id);
        let formers = self.snapshot.formers.get(id.0).cloned();
        self.snapshot.formers.clear(id.0);
        for former in formers.iter().flat_map(|formers| formers.iter()) {
            self.release_hop_of(former);
        }
    }

    /// Real servers whose connections all went the same way at one moment are as any others
    /// again; says whether there are some. `seen` is the oldest generation that some worker
    /// runs with.
    pub fn settle_edited(&mut self, seen: u64) -> bool {
        let blocks = &self.snapshot.blocks;
        let is_due = |&(&id, &since): &(&RealId, &u64)| {
            since <= seen && stats::real_numbers(blocks, id).is_idle()
        };
        let due: Vec<RealId> = self
            .edited
            .iter()
            .filter(is_due)
            .map(|(&id, _)| id)
            .collect();
        for &id in &due {
            self.forget_formers(id);
            if let Some(&real) = self.snapshot.reals.get(id.0)
                && real.standing == Standing::Edited
            {
                let standing = self.asks_of(id).standing(real.quiescent);
                self.snapshot.reals.set(id.0, Real { standing, ..real });
            }
        }
        !due.is_empty()
    }

    /// What packets of a real server's clients have to ask its service.
    fn asks_of(&self, id: RealId) -> Asks {
        let service = self
            .reals
            .key(id.0)
            .and_then(|(listen, _)| self.services.find(listen));
        let service = service.and_then(|slot| self.snapshot.services.get(slot));
        service
            .map(|service| service.asks.clone())
            .unwrap_or_default()
    }

    /// What is known of the paths to tunnels' ends.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// An ICMP error about a tunnel came in. If it says how wide the path is, the
    /// real servers whose tunnels go there are told, if it is less than was known. `None` if no
    /// tunnel goes there; else whether the snapshot changed.
    pub fn narrow(
        &mut self,
        about: &AboutTunnel<'_>,
        topology: &Topology,
        now: Instant,
    ) -> Option<bool> {
        let reals = &self.snapshot.reals;
        let ours = |id: &RealId| match reals.get(id.0)?.forwarder {
            Forwarder::Tun {
                hop,
                tunnel,
                envelope,
                ..
            } => about.is_through(&tunnel, envelope).then_some(hop),
            _ => None,
        };
        let hop = self.paths.reals(&about.destination).find_map(ours)?;
        let link = self.link_mtu(hop, topology);
        let Some(mtu) = about.mtu.filter(|&mtu| mtu < link) else {
            return Some(false);
        };
        let told = self.paths.tell(about.destination, mtu, now);
        if told == Told::Nothing {
            return Some(false);
        }
        self.follow_path(about.destination, topology);
        Some(true)
    }

    /// Forgets what is too old to be believed of paths; says whether the snapshot changed.
    pub fn widen(&mut self, topology: &Topology, now: Instant) -> bool {
        let gone = self.paths.expire(now);
        gone.iter().for_each(|&end| self.follow_path(end, topology));
        !gone.is_empty()
    }

    /// Tells every real server whose tunnel ends there how wide the path is.
    fn follow_path(&mut self, end: IpAddr, topology: &Topology) {
        let reals: Vec<RealId> = self.paths.reals(&end).copied().collect();
        for id in reals {
            if let Some(&real) = self.snapshot.reals.get(id.0) {
                let forwarder = self.along_path(real.forwarder, end, topology);
                self.snapshot.reals.set(id.0, Real { forwarder, ..real });
            }
            if let Some(formers) = self.snapshot.formers.get(id.0).cloned() {
                let formers = formers.iter().map(|&it| self.along_path(it, end, topology));
                let formers: Arc<[Forwarder]> = formers.collect();
                self.snapshot.formers.set(id.0, formers);
            }
        }
    }

    fn along_path(&self, forwarder: Forwarder, end: IpAddr, topology: &Topology) -> Forwarder {
        match forwarder {
            Forwarder::Tun {
                hop,
                tunnel,
                envelope,
                ..
            } => Forwarder::Tun {
                hop,
                tunnel,
                envelope,
                narrower: self.narrower(hop, end, topology),
            },
            other => other,
        }
    }

    /// Octets by which the path to `end` is narrower than the link that it begins with.
    fn narrower(&self, hop: HopId, end: IpAddr, topology: &Topology) -> u16 {
        let link = self.link_mtu(hop, topology);
        link.saturating_sub(self.paths.mtu(&end).unwrap_or(link))
    }

    fn link_mtu(&self, hop: HopId, topology: &Topology) -> u16 {
        let port = self.snapshot.hops.get(hop.0).map(|hop| hop.port);
        let setup = port.and_then(|port| topology.port(port));
        setup.map_or(0, |setup| setup.mtu)
    }

    /// How packets get to a real server, and whether they do: the model lets in only what is
    /// built, and what can't be reached gets no packet.
    fn forwarder(
        &mut self,
        listen: &Listen,
        real: &config::model::Real,
        topology: &Topology,
    ) -> (Forwarder, bool) {
        let address = real.endpoint.address;
        let next = match real.mode {
            _ if is_local(listen, real, topology) => return (Forwarder::Local, true),
            Mode::Dr => topology.on_link(address),
            Mode::Tun(_) | Mode::Nat | Mode::FullNat => topology.next_hop(address),
        };
        let hop = self.take_hop(next, topology);
        match real.mode {
            Mode::Dr => (Forwarder::Dr { hop }, true),
            Mode::Nat => (Forwarder::Nat { hop }, true),
            Mode::FullNat if listen.family() == Family::of(&address) => {
                (Forwarder::FullNat { hop }, true)
            }
            Mode::FullNat => (Forwarder::Nat64 { hop }, true),
            Mode::Tun(tunnel) => match ends(address, topology) {
                Some(ends) => {
                    let narrower = self.narrower(hop, address, topology);
                    (through(hop, ends, tunnel, narrower), true)
                }
                None => (Forwarder::Dr { hop }, false),
            },
        }
    }

    /// Replies from a NAT real server belong to this service from now on.
    fn expect_replies(&mut self, listen: &Listen, service: ServiceId, endpoint: &Endpoint) {
        for reply in replies(listen, endpoint) {
            if self.nat_reals.insert((reply, service)) {
                self.nat_changes.insert(reply);
            }
        }
    }

    fn begin_service(&mut self, id: ServiceId) {
        let already = stats::service_totals(&self.snapshot.blocks, id);
        account::begin(&mut self.accounts.services, id.0, already);
    }

    fn begin_real(&mut self, id: RealId) {
        let already = stats::real_numbers(&self.snapshot.blocks, id).totals;
        account::begin(&mut self.accounts.reals, id.0, already);
    }

    /// Every worker has counters for the real servers that there are.
    fn make_room(&mut self) {
        let size = self.reals.size();
        for blocks in Arc::make_mut(&mut self.snapshot.blocks) {
            blocks.reals.grow(size);
            blocks.others.grow(size);
        }
    }

    /// Takes the service out of the index. Its slot stays, with nobody to choose from, until
    /// nothing can refer to it.
    fn remove_service(&mut self, listen: &Listen, reals: &[(Endpoint, RealId)], generation: u64) {
        let Some(slot) = self.services.trash(listen, generation) else {
            return;
        };
        for &(endpoint, id) in reals {
            self.remove_real(&(*listen, endpoint), id, generation);
        }
        self.snapshot.index.remove(&key(listen));
        self.overlaps.want(listen, None);
        if let Some(service) = self.snapshot.services.get(slot) {
            let empty = Service {
                revision: self.revision,
                candidates: Box::default(),
                asks: Asks::default(),
                ..Service::clone(service)
            };
            self.snapshot.services.set(slot, Arc::new(empty));
        }
    }

    fn remove_real(&mut self, key: &RealKey, id: RealId, generation: u64) {
        self.sums.want(id, false);
        self.reals.trash(key, generation);
        if let Some(&real) = self.snapshot.reals.get(id.0) {
            let standing = Standing::Removed;
            self.snapshot.reals.set(id.0, Real { standing, ..real });
        }
    }

    /// Frees slots whose connections are all gone, looking at up to `limit` of each kind.
    /// `seen` is the oldest generation that some worker runs with.
    pub fn sweep(&mut self, limit: usize, seen: u64) {
        let blocks = self.snapshot.blocks.clone();
        let unused = |slot, _: &RealKey, generation| {
            generation <= seen && stats::real_numbers(&blocks, RealId(slot)).is_idle()
        };
        for (slot, (listen, endpoint)) in self.reals.sweep(limit, unused) {
            self.forget_real(slot, &listen, &endpoint);
        }
        // A service's connections are its real servers', so its slot waits for theirs.
        let slots_of = &self.slots_of;
        let unused =
            |_, listen: &Listen, generation| generation <= seen && !slots_of.contains_key(listen);
        for (slot, listen) in self.services.sweep(limit, unused) {
            self.snapshot.services.clear(slot);
            self.overlaps.forget(&listen);
        }
    }

    /// How many looks at slots of each kind are a whole round of [`Compiler::sweep`].
    pub fn trash_queued(&self) -> usize {
        self.reals.queued().max(self.services.queued())
    }

    fn forget_real(&mut self, slot: u32, listen: &Listen, endpoint: &Endpoint) {
        if let Some(&real) = self.snapshot.reals.get(slot) {
            self.release_hop_of(&real.forwarder);
        }
        self.forget_formers(RealId(slot));
        self.nat64.remove(&RealId(slot));
        self.snapshot.nat64 = !self.nat64.is_empty();
        self.paths.remove(&endpoint.address, RealId(slot));
        if let Some(service) = self.services.find(listen).map(ServiceId) {
            for reply in replies(listen, endpoint) {
                if self.nat_reals.remove(&(reply, service)) {
                    self.nat_changes.insert(reply);
                }
            }
        }
        self.snapshot.reals.clear(slot);
        if let Some(count) = self.slots_of.get_mut(listen) {
            *count -= 1;
            if *count == 0 {
                self.slots_of.remove(listen);
            }
        }
    }

    /// The slot of a next hop; `None` is the one that leads nowhere.
    fn take_hop(&mut self, to: Option<Neighbour>, topology: &Topology) -> HopId {
        if let Some(next) = self.hops.get_mut(&to) {
            next.users += 1;
            return next.slot;
        }
        let slot = self.free_hops.pop().unwrap_or_else(|| {
            self.hop_keys.push(None);
            HopId(u32::try_from(self.hop_keys.len() - 1).expect("one per real server at most"))
        });
        self.hop_keys[slot.0 as usize] = to;
        self.hops.insert(to, Next { slot, users: 1 });
        let port = to.map_or(dataplane::port::PortId(0), |(port, _)| port);
        let source = topology.port(port).map_or(Mac([0; 6]), |setup| setup.mac);
        self.snapshot.hops.set(slot.0, Hop::new(port, source, None));
        if let Some(neighbour) = to {
            self.snapshot.next_hops.set(slot.0, neighbour.1);
            let wanted = true;
            self.wants.push(Want { neighbour, wanted });
        }
        slot
    }

    fn release_hop_of(&mut self, forwarder: &Forwarder) {
        if let Some(hop) = forwarder.hop() {
            self.release_hop(hop);
        }
    }

    /// One user fewer. A hop's slot is free at once: workers reach it only through a real of
    /// the same snapshot.
    fn release_hop(&mut self, slot: HopId) {
        let to = self.hop_keys[slot.0 as usize];
        let Some(next) = self.hops.get_mut(&to) else {
            return;
        };
        next.users -= 1;
        if next.users > 0 {
            return;
        }
        self.hops.remove(&to);
        self.free_hops.push(slot);
        self.snapshot.hops.clear(slot.0);
        self.snapshot.next_hops.clear(slot.0);
        if let Some(neighbour) = to {
            let wanted = false;
            self.wants.push(Want { neighbour, wanted });
        }
    }

    /// Enters what is known of a neighbour's MAC; `false` if that changes nothing.
    pub fn set_mac(&mut self, neighbour: Neighbour, mac: Option<Mac>) -> bool {
        let Some(next) = self.hops.get(&Some(neighbour)) else {
            return false;
        };
        match self.snapshot.hops.get(next.slot.0).copied() {
            Some(hop) if hop.destination() != mac => {
                self.routes_changed |= self.gateways.contains_key(&neighbour);
                let hop = hop.with_destination(mac);
                self.snapshot.hops.set(next.slot.0, hop);
                true
            }
            _ => false,
        }
    }
}

/// What a service's connections may have been made under.
fn fields_of(owners: &Owners) -> Vec<Fields> {
    let current = std::iter::once(owners.current());
    let listed = owners.older().iter().copied().chain(current);
    listed.map(|(_, fields)| fields).collect()
}

/// The slots of those that the scheduler chooses among. `present` are those of all that are
/// there: the sorry server, if it is, comes last, and while it serves it is the only candidate.
fn candidates_slots(entry: &ServiceEntry, present: &[(Endpoint, RealId)]) -> Vec<RealId> {
    let candidates = entry.candidates();
    let serves = candidates.first().is_some_and(|real| real.sorry);
    let slots = if serves {
        &present[entry.reals.len()..]
    } else {
        &present[..entry.reals.len()]
    };
    slots.iter().map(|&(_, slot)| slot).collect()
}

/// Whether a real server is the director itself, which its service's VIP is, too.
pub fn is_local(listen: &Listen, real: &config::model::Real, topology: &Topology) -> bool {
    let ours = is_ours(listen, &real.endpoint.address, topology);
    ours && matches!(real.mode, Mode::Dr | Mode::Tun(_))
}

/// The ends of a tunnel to `end`; `None` if nothing of ours can begin it.
fn ends(end: IpAddr, topology: &Topology) -> Option<fwd::Tunnel> {
    fwd::Tunnel::between(topology.source_towards(end)?, end)
}

/// The forwarder through a tunnel.
fn through(hop: HopId, ends: fwd::Tunnel, tunnel: Tunnel, narrower: u16) -> Forwarder {
    let envelope = match tunnel {
        Tunnel::Ipip => Envelope::Ipip,
        Tunnel::Gre { checksum } => Envelope::Gre {
            summed: checksum != TunnelChecksum::None,
        },
        Tunnel::Gue { port, checksum } => Envelope::Gue {
            port: port.into(),
            checksum: match checksum {
                TunnelChecksum::None => fwd::Checksum::None,
                TunnelChecksum::Sum => fwd::Checksum::Sum,
                TunnelChecksum::Remote => fwd::Checksum::Remote,
            },
        },
    };
    Forwarder::Tun {
        hop,
        tunnel: ends,
        envelope,
        narrower,
    }
}

/// Connections of a service, of all workers.
fn made_under(blocks: &[Blocks], service: u32) -> u32 {
    let all = blocks
        .iter()
        .filter_map(|blocks| blocks.services.get(service));
    let made = all.flat_map(|block| &block.made_under);
    made.fold(0, |sum, gauge| sum.saturating_add(gauge.get()))
}

/// The list without older fields under which no worker has a connection.
fn without_unused(owners: &Owners, blocks: &[Blocks], service: u32) -> Owners {
    let used = |slot: FieldsSlot| {
        let mut all = blocks.iter().filter_map(|b| b.services.get(service));
        all.any(|block| block.made_under[usize::from(slot.0)].get() != 0)
    };
    let unused = owners.older().iter().filter(|&&(slot, _)| !used(slot));
    unused.fold(owners.clone(), |left, &(slot, _)| left.without(slot))
}

fn key(listen: &Listen) -> Key {
    match *listen {
        Listen::Address {
            protocol,
            address,
            port,
        } => Key::address(protocol.number(), address, port),
        Listen::Mark { mark, family } => Key::mark(mark, family == config::model::Family::V6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::topology::tests::two_ports;
    use config::model;
    use dataplane::fwd::Method;
    use dataplane::port::PortId;
    use proto::command::Command;

    const WEB: Listen = Listen::Address {
        protocol: Protocol::Tcp,
        address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)),
        port: 80,
    };

    fn real(last: u8, weight: u32) -> model::Real {
        let endpoint = Endpoint {
            address: IpAddr::from([10, 1, 2, last]),
            port: 80,
        };
        let (mode, upper, lower) = (Mode::Dr, 0, 0);
        model::Real {
            endpoint,
            mode,
            weight,
            upper,
            lower,
        }
    }

    /// A model and a compiler that follow commands, as control does.
    struct Both {
        model: Model,
        compiler: Compiler,
        topology: Topology,
        generation: u64,
    }

    impl Both {
        fn new() -> Self {
            let snapshot = Snapshot {
                blocks: vec![Blocks::default(), Blocks::default()].into(),
                ..Snapshot::default()
            };
            let mut both = Self {
                model: Model::default(),
                compiler: Compiler::new(snapshot),
                topology: two_ports(),
                generation: 0,
            };
            let service = model::Service {
                scheduler: SchedulerKind::Wrr,
                ..model::Service::new(WEB)
            };
            both.model.load(&service, &both.topology).expect("legal");
            both.publish();
            both
        }

        fn publish(&mut self) {
            self.generation += 1;
            let entry = self.model.get(&WEB).cloned();
            let generation = self.generation;
            self.compiler
                .update(&WEB, entry.as_ref(), &self.topology, generation);
        }

        fn run(&mut self, command: Command) {
            let done = self.model.apply(&command, &self.topology);
            done.expect("it changes something").expect("it is legal");
            self.publish();
        }

        fn add(&mut self, real: model::Real) {
            self.run(Command::AddReal { listen: WEB, real });
        }

        fn delete(&mut self, last: u8) {
            let endpoint = real(last, 1).endpoint;
            self.run(Command::DeleteReal {
                listen: WEB,
                endpoint,
            });
        }

        fn service(&self) -> Arc<Service> {
            let id = self
                .compiler
                .snapshot()
                .index
                .get(&key(&WEB))
                .expect("in the index");
            self.compiler
                .snapshot()
                .services
                .get(id.0)
                .expect("compiled")
                .clone()
        }

        fn slot(&self, last: u8) -> RealId {
            let endpoint = real(last, 1).endpoint;
            let slots = self.compiler.real_slots(&WEB);
            slots
                .iter()
                .find(|slot| slot.0 == endpoint)
                .expect("a real of it")
                .1
        }

        fn count(&self, slot: RealId, inactive: u32) {
            let blocks = &self.compiler.snapshot().blocks[1];
            let block = blocks.reals.get(slot.0).expect("grown before it was named");
            block.inactive.set(inactive);
            block.traffic.connections.add(u64::from(inactive));
        }
    }

    #[test]
    fn what_is_the_director_itself() {
        let (own, vip) = ([10, 1, 0, 2], [192, 0, 2, 10]);
        let tun = Mode::Tun(Tunnel::Ipip);
        let cases = [
            ("of another", [10, 1, 2, 1], Mode::Dr, Ok(Method::Dr)),
            ("loopback", [127, 0, 0, 1], Mode::Dr, Ok(Method::Local)),
            ("a port's", own, Mode::Dr, Ok(Method::Local)),
            ("a port's, tunnel", own, tun, Ok(Method::Local)),
            ("a port's, NAT", own, Mode::Nat, Err(())),
            ("the VIP", vip, Mode::Dr, Ok(Method::Local)),
            ("the VIP, tunnel", vip, tun, Ok(Method::Local)),
            ("the VIP, NAT", vip, Mode::Nat, Err(())),
            ("the VIP, FULLNAT", vip, Mode::FullNat, Err(())),
        ];
        for (name, address, mode, want) in cases {
            let mut both = Both::new();
            let mut real = real(0, 1);
            real.endpoint.address = IpAddr::from(address);
            real.mode = mode;
            let command = Command::AddReal { listen: WEB, real };
            let done = both.model.apply(&command, &both.topology);
            let done = done.expect("it adds something").map_err(|_| ());
            both.publish();
            let got = done.map(|_| {
                let slot = both.compiler.real_slots(&WEB)[0].1;
                let reals = &both.compiler.snapshot().reals;
                reals.get(slot.0).expect("compiled").forwarder.method()
            });
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn the_newest_stands_first() {
        let mut both = Both::new();
        for (last, weight) in [(1, 4), (2, 0), (3, 6)] {
            both.add(real(last, weight));
        }
        let service = both.service();
        let orders: Vec<_> = service
            .candidates
            .iter()
            .map(|c| (c.order, c.weight))
            .collect();
        assert_eq!(orders, [(2, 6), (1, 0), (0, 4)]);
        assert_eq!(service.scheduler.kind(), Kind::Wrr);
        let before = service.revision;
        both.delete(2);
        assert!(both.service().revision > before);
    }

    #[test]
    fn a_removed_real_keeps_its_slot_while_connections_are_on_it() {
        let mut both = Both::new();
        both.add(real(1, 1));
        let slot = both.slot(1);
        both.count(slot, 2);
        both.delete(1);
        let removed = both.compiler.snapshot().reals.get(slot.0).copied();
        assert!(!removed.expect("kept for its connections").is_available());
        both.compiler.sweep(100, u64::MAX);
        both.add(real(2, 1));
        assert_ne!(both.slot(2), slot, "it has connections");
        both.add(real(1, 1));
        assert_eq!(both.slot(1), slot, "it found its connections again");
        let numbers = stats::real_numbers(&both.compiler.snapshot().blocks, slot);
        let since = both.compiler.real_account(slot).0.totals;
        assert_eq!((numbers.inactive, since.connections), (2, 2));
    }

    #[test]
    fn an_idle_slot_is_reused_only_when_every_worker_is_past_it() {
        let mut both = Both::new();
        both.add(real(1, 1));
        let slot = both.slot(1);
        both.count(slot, 3);
        both.count(slot, 0);
        both.delete(1);
        both.compiler.sweep(100, both.generation - 1);
        both.add(real(2, 1));
        assert_ne!(both.slot(2), slot);
        both.compiler.sweep(100, both.generation);
        assert!(both.compiler.snapshot().reals.get(slot.0).is_none());
        both.add(real(3, 1));
        assert_eq!(both.slot(3), slot);
        assert_eq!(
            both.compiler.real_account(slot).0.totals.connections,
            0,
            "it counts from nothing"
        );
    }

    #[test]
    fn a_removed_service_leaves_the_index_and_comes_back_to_its_reals() {
        let mut both = Both::new();
        both.add(real(1, 1));
        let slot = both.slot(1);
        both.count(slot, 1);
        both.run(Command::DeleteService { listen: WEB });
        assert!(both.compiler.snapshot().index.get(&key(&WEB)).is_none());
        both.compiler.sweep(100, u64::MAX);
        let service = model::Service::new(WEB);
        both.model.load(&service, &both.topology).expect("it went");
        both.publish();
        both.add(real(1, 1));
        assert_eq!(both.slot(1), slot);
    }

    #[test]
    fn a_hop_is_wanted_as_long_as_somebody_goes_there() {
        let mut both = Both::new();
        both.add(real(1, 1));
        let neighbour = (PortId(1), real(1, 1).endpoint.address);
        let want = |wanted| Want { neighbour, wanted };
        assert_eq!(both.compiler.take_wants(), [want(true)]);
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        assert!(both.compiler.set_mac(neighbour, Some(mac)));
        assert!(!both.compiler.set_mac(neighbour, Some(mac)), "nothing new");
        let slot = both.slot(1);
        let hop = both
            .compiler
            .snapshot()
            .reals
            .get(slot.0)
            .expect("set")
            .forwarder
            .hop()
            .expect("DR has one");
        let hop = both.compiler.snapshot().hops.get(hop.0).copied();
        let source = Mac([2, 0, 0, 0, 0, 2]);
        let port = PortId(1);
        assert_eq!(hop, Some(Hop::new(port, source, Some(mac))));
        both.delete(1);
        assert_eq!(both.compiler.take_wants(), [], "connections may be on it");
        both.compiler.sweep(100, u64::MAX);
        assert_eq!(both.compiler.take_wants(), [want(false)]);
    }

    #[test]
    fn a_real_on_no_link_has_a_hop_that_leads_nowhere() {
        let mut both = Both::new();
        let endpoint = Endpoint {
            address: IpAddr::from([1, 1, 1, 1]),
            port: 80,
        };
        both.add(model::Real {
            endpoint,
            ..real(1, 1)
        });
        let (_, slot) = both.compiler.real_slots(&WEB)[0];
        let hop = both
            .compiler
            .snapshot()
            .reals
            .get(slot.0)
            .expect("set")
            .forwarder
            .hop()
            .expect("DR has one");
        let hop = both.compiler.snapshot().hops.get(hop.0).expect("set");
        assert_eq!(hop.destination(), None);
        assert_eq!(both.compiler.take_wants(), []);
    }

    fn edited(last: u8, mode: Mode) -> Command {
        let real = model::Real {
            mode,
            ..real(last, 1)
        };
        Command::EditReal { listen: WEB, real }
    }

    fn compiled(both: &Both, slot: RealId) -> Real {
        let real = both.compiler.snapshot().reals.get(slot.0);
        *real.expect("set")
    }

    #[test]
    fn an_edited_mode_leaves_older_connections_theirs() {
        let mut both = Both::new();
        both.add(model::Real {
            mode: Mode::Nat,
            ..real(1, 1)
        });
        let slot = both.slot(1);
        both.count(slot, 2);
        both.run(edited(1, Mode::Dr));
        assert_eq!(both.slot(1), slot, "counts and connections stay");
        let now = compiled(&both, slot);
        assert_eq!(now.standing, Standing::Edited);
        let snapshot = both.compiler.snapshot();
        let method = |method| snapshot.forwarder_of(slot, &now, method).method();
        assert_eq!(method(Method::Nat), Method::Nat);
        assert_eq!(method(Method::Dr), Method::Dr);

        let generation = both.generation;
        assert!(!both.compiler.settle_edited(generation), "two are left");
        both.count(slot, 0);
        assert!(!both.compiler.settle_edited(generation - 1), "one may come");
        assert!(both.compiler.settle_edited(generation));
        assert_eq!(compiled(&both, slot).standing, Standing::Settled);
        assert!(both.compiler.snapshot().formers.get(slot.0).is_none());

        both.count(slot, 1);
        both.run(edited(1, Mode::Nat));
        both.run(edited(1, Mode::Dr));
        both.delete(1);
        both.add(real(1, 1));
        let back = compiled(&both, slot);
        assert_eq!(back.standing, Standing::Edited, "removed and added again");
        let formers = both.compiler.snapshot().formers.get(slot.0);
        let formers: Vec<_> = formers
            .expect("one")
            .iter()
            .map(Forwarder::method)
            .collect();
        assert_eq!(formers, [Method::Nat]);
        both.count(slot, 0);
        both.delete(1);
        both.compiler.sweep(100, u64::MAX);
        let hop = (PortId(1), real(1, 1).endpoint.address);
        assert!(!both.compiler.leads_to(&hop), "no hop is forgotten");
    }

    /// An ICMP error that says how wide the path from us to real server 1 is.
    fn error(source: [u8; 4], mtu: u32) -> Vec<u8> {
        use wire::build::{icmp, ip, tcp};
        let inner = ip([198, 51, 100, 7], [192, 0, 2, 10]).with(tcp(1, 80));
        let outer = ip(source, [10, 1, 2, 1]).df().with(inner);
        let error = ip([10, 1, 9, 9], source).with(icmp(3, 4).rest(mtu).quoting(&outer));
        error
            .ether(Mac([2, 0, 0, 0, 0, 9]), Mac([2, 0, 0, 0, 0, 2]))
            .bytes()
    }

    fn tell(both: &mut Both, error: &[u8], now: Instant) -> Option<bool> {
        let about = fwd::icmp::about_any_tunnel(error).expect("about a tunnel");
        both.compiler.narrow(&about, &both.topology, now)
    }

    #[test]
    fn an_error_about_a_tunnel_narrows_its_path_for_ten_minutes() {
        const US: [u8; 4] = [10, 1, 0, 2];
        let mut both = Both::new();
        both.add(real(2, 1));
        assert_eq!(tell(&mut both, &error(US, 1400), 0), None, "no tunnel");
        both.add(model::Real {
            mode: Mode::Tun(Tunnel::Ipip),
            ..real(1, 1)
        });
        let slot = both.slot(1);
        let narrower = |both: &Both| compiled(both, slot).forwarder.narrower();
        let strange = error([10, 1, 0, 77], 1400);
        assert_eq!(tell(&mut both, &strange, 0), None, "not from us");
        let rows = [
            (1400, Some(true), 100),
            (1450, Some(false), 100),
            (1300, Some(true), 200),
            (1500, Some(false), 200),
            (68, Some(true), 948),
        ];
        for (mtu, want, by) in rows {
            assert_eq!(tell(&mut both, &error(US, mtu), 1_000), want, "{mtu}");
            assert_eq!(narrower(&both), by, "{mtu}");
        }
        both.run(edited(1, Mode::Tun(Tunnel::Ipip)));
        assert_eq!(narrower(&both), 948, "an edit forgets nothing");
        let Both {
            compiler, topology, ..
        } = &mut both;
        assert!(!compiler.widen(topology, 600_999));
        assert!(compiler.widen(topology, 601_000));
        assert_eq!(narrower(&both), 0);
    }

    /// Workers look for IPv6 clients' connections with IPv4 real servers as long as there may be
    /// one, that is until the last such server's slot is free.
    #[test]
    fn fullnat_across_families_is_looked_for_while_it_may_be() {
        let listen = Listen::Address {
            protocol: Protocol::Tcp,
            address: IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
            port: 80,
        };
        let mut both = Both::new();
        let service = model::Service::new(listen);
        both.model.load(&service, &both.topology).expect("legal");
        let publish = |both: &mut Both| {
            both.generation += 1;
            let entry = both.model.get(&listen).cloned();
            let generation = both.generation;
            both.compiler
                .update(&listen, entry.as_ref(), &both.topology, generation);
        };
        let run = |both: &mut Both, command| {
            let done = both.model.apply(&command, &both.topology);
            done.expect("it changes something").expect("it is legal");
            publish(both);
        };
        let with = |mode| model::Real { mode, ..real(1, 1) };
        let (tun, full) = (with(Mode::Tun(Tunnel::Ipip)), with(Mode::FullNat));
        run(&mut both, Command::AddReal { listen, real: tun });
        assert!(!both.compiler.snapshot().nat64, "a tunnel is none");
        let endpoint = full.endpoint;
        run(&mut both, Command::EditReal { listen, real: full });
        let slot = both.compiler.real_slots(&listen)[0].1;
        assert_eq!(compiled(&both, slot).forwarder.method(), Method::Nat64);
        assert!(both.compiler.snapshot().nat64);
        both.count(slot, 1);
        run(&mut both, Command::DeleteReal { listen, endpoint });
        both.compiler.sweep(100, u64::MAX);
        assert!(both.compiler.snapshot().nat64, "a connection is left");
        both.count(slot, 0);
        both.compiler.sweep(100, u64::MAX);
        assert!(!both.compiler.snapshot().nat64);
        for mode in [Mode::Nat, Mode::Dr] {
            let real = with(mode);
            let command = Command::AddReal { listen, real };
            let done = both.model.apply(&command, &both.topology);
            let refused = done
                .expect("it would change something")
                .expect_err("illegal");
            assert_eq!(refused, crate::model::ApplyError::OtherFamily);
        }
    }

    #[test]
    fn a_change_of_owners_waits_for_a_place_and_is_made_up_for() {
        let mut both = Both::new();
        both.add(real(1, 1));
        // Connections stay under each of the fields that an edit leaves behind.
        let mut masks = (1u8..=32).rev();
        let mut refused = None;
        while refused.is_none() {
            let id = both.compiler.service_slot(&WEB).expect("there");
            let used = usize::from(both.service().owners.current().0.0);
            let blocks = &both.compiler.snapshot().blocks;
            blocks[0].services.get(id.0).expect("grown").made_under[used].set(1);
            let before = both.service().revision;
            let entry = both.model.get(&WEB).expect("there").clone();
            let mut entry = entry;
            let mask = PersistenceMask::V4(
                u32::MAX
                    .wrapping_shl(32 - u32::from(masks.next().expect("few")))
                    .into(),
            );
            entry.settings.persistence = Some(model::Persistence {
                timeout: 60,
                mask,
                engine: None,
            });
            both.generation += 1;
            both.compiler
                .update(&WEB, Some(&entry), &both.topology, both.generation);
            if both.service().revision == before {
                refused = Some(entry);
            }
        }
        let (ready, _) = both.compiler.forget_fields(both.generation);
        assert_eq!(ready, [], "every place is in use");
        let id = both.compiler.service_slot(&WEB).expect("there");
        let blocks = &both.compiler.snapshot().blocks;
        let oldest = both.service().owners.older()[0].0;
        let block = blocks[0].services.get(id.0).expect("grown");
        block.made_under[usize::from(oldest.0)].set(0);
        let (ready, changed) = both.compiler.forget_fields(both.generation);
        assert_eq!((ready, changed), (vec![WEB], true), "its turn has come");
        let before = both.service().revision;
        both.generation += 1;
        both.compiler
            .update(&WEB, refused.as_ref(), &both.topology, both.generation);
        assert!(both.service().revision > before);
        let (ready, _) = both.compiler.forget_fields(both.generation);
        assert_eq!(ready, [], "and it waits no longer");
    }
}
