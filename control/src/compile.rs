//! From the operator's nouns to the workers' tables.
//!
//! [`compile_service`] is pure. [`Compiler`] keeps the snapshot that is being prepared and
//! the slots; a change touches the pages it concerns, and publishing clones a handful of
//! pointers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use config::model::{Endpoint, Listen, Mode, SchedulerFlags, SchedulerKind};
use dataplane::fwd::Forwarder;
use dataplane::sched::mh::Size;
use dataplane::sched::sums;
use dataplane::sched::thresholds::Limits;
use dataplane::sched::{Backend, Flags, Kind, Scheduler, Spec};
use dataplane::services::{Candidate, Hop, HopId, Key, Real, RealId, Service, ServiceId, Snapshot};
use proto::listing::Totals;
use wire::ethernet::Mac;

use crate::arena::{Arena, Taken};
use crate::model::{RealEntry, ServiceEntry};
use crate::stats;
use crate::topology::{Neighbour, Topology};

/// What a real server is known by: its service and its address.
pub type RealKey = (Listen, Endpoint);

/// Prepares a service for the workers: its real servers newest first, and what its scheduler
/// wants computed. `slots` are those of the entry's real servers, in the entry's order;
/// `previous` is the service as it was, unless it is new.
pub fn compile_service(
    entry: &ServiceEntry,
    id: ServiceId,
    revision: u64,
    workers: u16,
    slots: &[RealId],
    previous: Option<&Scheduler>,
) -> Service {
    let newest_first = || entry.reals.iter().zip(slots).rev();
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
        ..Service::new(id, revision, scheduler, candidates.collect())
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
    service_base: Vec<Totals>,
    real_base: Vec<Totals>,
    /// The slot whose counts were shared last.
    shared: u32,
}

impl Compiler {
    /// Starts from a snapshot that has everything but services.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            ..Self::default()
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

    /// What a service had counted when it began.
    pub fn service_base(&self, id: ServiceId) -> Totals {
        base(&self.service_base, id.0)
    }

    /// What a real server's slot had counted when it was taken.
    pub fn real_base(&self, id: RealId) -> Totals {
        base(&self.real_base, id.0)
    }

    /// Slots of real servers: in use, and in the trash.
    pub fn real_counts(&self) -> (usize, usize) {
        (self.reals.live(), self.reals.trashed())
    }

    /// Tells each worker what the others count for up to `limit` real servers, from where the
    /// last call ended.
    pub fn share_counts(&mut self, limit: u32) {
        let (blocks, size) = (&self.snapshot.blocks, self.reals.size());
        for _ in 0..limit.min(size) {
            self.shared = (self.shared + 1) % size;
            if let Some(real) = self.snapshot.reals.get(self.shared) {
                sums::sum(blocks, RealId(self.shared), real.limits);
            }
        }
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
        self.revision += 1;
        let old = self.made.remove(listen).unwrap_or_default();
        let Some(entry) = entry else {
            self.remove_service(listen, &old, generation);
            return;
        };
        let (id, kept) = self.take_service(listen);
        let mut new = Vec::with_capacity(entry.reals.len());
        for real in &entry.reals {
            let slot = self.take_real(listen, &real.real, topology);
            new.push((real.real.endpoint, slot));
        }
        let still: HashSet<RealId> = new.iter().map(|&(_, slot)| slot).collect();
        let gone = old.iter().filter(|(_, slot)| !still.contains(slot));
        for &(endpoint, slot) in gone {
            self.remove_real(&(*listen, endpoint), slot, generation);
        }
        let slots: Vec<RealId> = new.iter().map(|&(_, slot)| slot).collect();
        let workers = u16::try_from(self.snapshot.blocks.len()).expect("counted in 16 bits");
        let before = self.snapshot.services.get(id.0).filter(|_| kept);
        let before = before.map(|service| &service.scheduler);
        let service = compile_service(entry, id, self.revision, workers, &slots, before);
        self.snapshot.services.set(id.0, Arc::new(service));
        self.made.insert(*listen, new);
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
        let already = stats::service_totals(&self.snapshot.blocks, id);
        set_base(&mut self.service_base, id.0, already);
        self.snapshot.index.insert(key(listen), id);
        (id, false)
    }

    fn take_real(
        &mut self,
        listen: &Listen,
        real: &config::model::Real,
        topology: &Topology,
    ) -> RealId {
        let taken = self.reals.take(&(*listen, real.endpoint));
        let id = RealId(taken.slot());
        if let Taken::Fresh(_) = taken {
            *self.slots_of.entry(*listen).or_default() += 1;
            self.begin_real(id);
        }
        let (upper, lower) = (real.upper, real.lower);
        let limits = Limits { upper, lower };
        let quiescent = real.weight == 0;
        let before = self.snapshot.reals.get(id.0).copied();
        if let Some(before) = before
            && before.limits == limits
            && before.quiescent == quiescent
            && same_mode(&before, real.mode)
        {
            return id;
        }
        let hop = self.take_hop(topology.on_link(real.endpoint.address), topology);
        if let Some(before) = before {
            self.release_hop_of(&before);
            sums::edited(&self.snapshot.blocks, id, before.limits.upper, limits);
        }
        let (forwarder, available) = forwarder(real.mode, hop);
        let compiled = Real {
            address: real.endpoint.address,
            port: real.endpoint.port,
            available,
            quiescent,
            forwarder,
            limits,
        };
        self.snapshot.reals.set(id.0, compiled);
        id
    }

    fn begin_real(&mut self, id: RealId) {
        let size = self.reals.size();
        for blocks in Arc::make_mut(&mut self.snapshot.blocks) {
            blocks.reals.grow(size);
            blocks.others.grow(size);
        }
        let already = stats::real_numbers(&self.snapshot.blocks, id).totals;
        set_base(&mut self.real_base, id.0, already);
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
        if let Some(service) = self.snapshot.services.get(slot) {
            let empty = Service {
                revision: self.revision,
                candidates: Box::default(),
                ..Service::clone(service)
            };
            self.snapshot.services.set(slot, Arc::new(empty));
        }
    }

    fn remove_real(&mut self, key: &RealKey, id: RealId, generation: u64) {
        self.reals.trash(key, generation);
        if let Some(&real) = self.snapshot.reals.get(id.0) {
            let available = false;
            self.snapshot.reals.set(id.0, Real { available, ..real });
        }
    }

    /// Frees slots whose connections are all gone, looking at up to `limit` of each kind.
    /// `seen` is the oldest generation that some worker runs with.
    pub fn sweep(&mut self, limit: usize, seen: u64) {
        let blocks = self.snapshot.blocks.clone();
        let unused = |slot, _: &RealKey, generation| {
            generation <= seen && stats::real_numbers(&blocks, RealId(slot)).is_idle()
        };
        for (slot, (listen, _)) in self.reals.sweep(limit, unused) {
            self.forget_real(slot, &listen);
        }
        // A service's connections are its real servers', so its slot waits for theirs.
        let slots_of = &self.slots_of;
        let unused =
            |_, listen: &Listen, generation| generation <= seen && !slots_of.contains_key(listen);
        for (slot, _) in self.services.sweep(limit, unused) {
            self.snapshot.services.clear(slot);
        }
    }

    fn forget_real(&mut self, slot: u32, listen: &Listen) {
        if let Some(&real) = self.snapshot.reals.get(slot) {
            real.forwarder
                .hop()
                .into_iter()
                .for_each(|hop| self.release_hop(hop));
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
        let destination = None;
        let hop = Hop {
            port,
            source,
            destination,
        };
        self.snapshot.hops.set(slot.0, hop);
        if let Some(neighbour) = to {
            let wanted = true;
            self.wants.push(Want { neighbour, wanted });
        }
        slot
    }

    fn release_hop_of(&mut self, real: &Real) {
        if let Some(hop) = real.forwarder.hop() {
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
            Some(hop) if hop.destination != mac => {
                let destination = mac;
                self.snapshot
                    .hops
                    .set(next.slot.0, Hop { destination, ..hop });
                true
            }
            _ => false,
        }
    }
}

/// How packets get to a real server of this mode, and whether they do: the model lets in only
/// what is built, and what isn't (tunnels) gets no packet.
fn forwarder(mode: Mode, hop: HopId) -> (Forwarder, bool) {
    match mode {
        Mode::Dr => (Forwarder::Dr { hop }, true),
        Mode::Nat => (Forwarder::Nat { hop }, true),
        Mode::FullNat => (Forwarder::FullNat { hop }, true),
        Mode::Tun(_) => (Forwarder::Dr { hop }, false),
    }
}

/// Whether a compiled real server is what `mode` would compile to; address and port are its
/// slot's key.
fn same_mode(before: &Real, mode: Mode) -> bool {
    let hop = before.forwarder.hop();
    hop.is_some_and(|hop| forwarder(mode, hop) == (before.forwarder, before.available))
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

fn base(all: &[Totals], slot: u32) -> Totals {
    all.get(slot as usize).copied().unwrap_or_default()
}

fn set_base(all: &mut Vec<Totals>, slot: u32, totals: Totals) {
    let slot = slot as usize;
    if all.len() <= slot {
        all.resize(slot + 1, Totals::default());
    }
    all[slot] = totals;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::topology::tests::two_ports;
    use config::model::{self, Protocol};
    use dataplane::port::PortId;
    use dataplane::services::Blocks;
    use proto::command::Command;
    use std::net::IpAddr;

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
        assert!(!removed.expect("kept for its connections").available);
        both.compiler.sweep(100, u64::MAX);
        both.add(real(2, 1));
        assert_ne!(both.slot(2), slot, "it has connections");
        both.add(real(1, 1));
        assert_eq!(both.slot(1), slot, "it found its connections again");
        let numbers = stats::real_numbers(&both.compiler.snapshot().blocks, slot);
        let since = stats::since(numbers.totals, both.compiler.real_base(slot));
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
            both.compiler.real_base(slot).connections,
            3,
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
        assert_eq!(
            hop,
            Some(Hop {
                port,
                source,
                destination: Some(mac)
            })
        );
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
        assert_eq!(hop.destination, None);
        assert_eq!(both.compiler.take_wants(), []);
    }
}
