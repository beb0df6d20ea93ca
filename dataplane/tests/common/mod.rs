//! A worker driven by hand: two memory ports, a snapshot written out, time as one likes.
//!
//! `wan` is port 0, `lan` port 1. Real servers live on `lan`.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod fleet;
pub mod intact;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dataplane::exchange::{ControlEnd, exchange};
use dataplane::fwd::Forwarder;
use dataplane::handover::{Peers, mesh};
use dataplane::memory::{Buffer, HEADROOM, MemoryPort, Recycler};
use dataplane::owner::Steering;
use dataplane::port::{Frame, PortId, WorkerId};
use dataplane::published::Publisher;
use dataplane::sched::{Backend, Flags, Kind, Scheduler, Spec, mh};
use dataplane::services::{
    Addresses, Blocks, Candidate, Hop, HopId, Key, Owned, PortView, Real, RealBlock, RealId,
    Service, ServiceBlock, ServiceId, Settings, Snapshot, Standing, Unmatched,
};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use dataplane::vlan::{Tagging, Vlans};
use dataplane::worker::{Parts, Worker};
use wire::Mac;

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const DIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);
pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub const GROUP: Mac = Mac([1, 0, 0x5e, 0, 0, 0x12]);
pub const WAN: PortId = PortId(0);
pub const LAN: PortId = PortId(1);
pub const TEN: PortId = PortId(2);
pub const TWENTY: PortId = PortId(3);
pub const TWENTY_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x20]);

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// A frame with so many octets of its buffer in front of it, at most [`HEADROOM`].
pub fn with_room(room: usize, bytes: &[u8]) -> Buffer {
    let mut frame = Recycler::default().empty();
    assert!(frame.prepend(HEADROOM - room));
    frame.truncate(0);
    assert!(frame.append(bytes.len()));
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

/// Address and MAC of real server number `n`.
pub fn real_ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, n)
}

pub fn real_mac(n: u8) -> Mac {
    Mac([2, 0, 0, 1, 0, n])
}

pub struct Lab {
    pub worker: Worker<MemoryPort>,
    pub control: ControlEnd<Recycler>,
    pub counters: Arc<Counters>,
    pub now: Millis,
    pub snapshot: Snapshot,
    /// The other workers' ends of the rings: nobody turns them.
    pub others: Vec<Peers<Buffer>>,
    addresses: Vec<(IpAddr, Owned)>,
    reals: u32,
    publisher: Publisher<Snapshot>,
}

impl Lab {
    /// Ports, an empty snapshot, room for `connections`.
    pub fn with_connections(connections: u32) -> Self {
        Self::among(1, connections)
    }

    /// The first of so many workers.
    pub fn among(workers: u16, connections: u32) -> Self {
        Self::made(workers, connections, empty())
    }

    /// One worker whose `wan` has replies go back to whoever sent the client's packets.
    pub fn returning() -> Self {
        let mut snapshot = empty();
        let mut ports = snapshot.ports.to_vec();
        ports[usize::from(WAN.0)].to_sender = true;
        snapshot.ports = ports.into();
        let mut lab = Self::made(1, 1024, snapshot);
        lab.own(DIP, Owned::Director);
        lab
    }

    /// One worker with two VLANs over `wan`: [`TEN`], where the clients are, with `wan`'s MAC, and
    /// [`TWENTY`] with one of its own and the real servers. Replies of what begins at [`TEN`] go
    /// back to whoever sent.
    pub fn of_vlans() -> Self {
        let mut snapshot = empty();
        let over = |id, mac| PortView {
            mac,
            to_sender: id == 10,
            tagging: Tagging::Vlan { parent: WAN, id },
            ..snapshot.ports[0].clone()
        };
        let vlans = [over(10, WAN_MAC), over(20, TWENTY_MAC)];
        let mut ports = [&snapshot.ports[..], &vlans].concat();
        ports[0].tagging = Tagging::Parent(Vlans::new(WAN, vec![(20, TWENTY), (10, TEN)]));
        snapshot.ports = ports.into();
        let mut lab = Self::made(1, 1024, snapshot);
        lab.own(DIP, Owned::Director);
        lab
    }

    fn made(workers: u16, connections: u32, snapshot: Snapshot) -> Self {
        let mut peers = mesh(workers);
        let recycler = Recycler::default();
        let (control, mut ends) = exchange(1, recycler.clone());
        let (publisher, mut readers) = Publisher::new(snapshot.clone(), 1);
        let counters = Arc::new(Counters::default());
        let now = Millis(u32::MAX - 1000);
        let worker = Worker::new(Parts {
            id: WorkerId(0),
            ports: vec![MemoryPort::new(recycler.clone()), MemoryPort::new(recycler)],
            reader: readers.remove(0),
            exchange: ends.remove(0),
            counters: counters.clone(),
            peers: peers.remove(0),
            steering: Arc::new(Steering::seeded(1, 128, workers).expect("few workers")),
            connections,
            connections_v6: connections,
            pages: arch::Pages::Off,
            hash_key: [1, 2],
            seed: 1,
            now,
        });
        Self {
            worker: worker.expect("memory for a small table"),
            control,
            counters,
            now,
            snapshot,
            others: peers,
            addresses: Vec::new(),
            reals: 0,
            publisher,
        }
    }

    pub fn new() -> Self {
        let mut lab = Self::with_connections(1024);
        lab.own(DIP, Owned::Director);
        lab
    }

    /// Makes an address ours.
    pub fn own(&mut self, address: Ipv4Addr, owned: Owned) {
        self.addresses
            .retain(|&(known, _)| known != IpAddr::V4(address));
        self.addresses.push((address.into(), owned));
        self.snapshot.addresses = Addresses::new(self.addresses.clone());
        self.publish();
    }

    pub fn vip(&mut self, address: Ipv4Addr, held: bool, unmatched: Unmatched) {
        self.own(address, Owned::Vip { held, unmatched });
    }

    /// A service on a held VIP whose DR reals are the numbers given, with their weights.
    pub fn service(
        &mut self,
        protocol: u8,
        vip: Ipv4Addr,
        port: u16,
        scheduler: &str,
        reals: &[(u8, u32)],
    ) -> ServiceId {
        let id = ServiceId(self.snapshot.index.len());
        self.snapshot
            .index
            .insert(Key::address(protocol, vip.into(), port), id);
        let mut candidates: Vec<_> = reals
            .iter()
            .map(|&(n, weight)| self.real(n, port, weight))
            .collect();
        candidates.reverse();
        let kind = match scheduler {
            "rr" => Kind::Rr,
            "wrr" => Kind::Wrr,
            "wlc" => Kind::Wlc,
            other => panic!("no scheduler {other} here"),
        };
        let backend = |&(n, weight): &(u8, u32)| Backend {
            address: real_ip(n).into(),
            port,
            weight,
            last_weight: weight,
        };
        let backends: Vec<_> = reals.iter().rev().map(backend).collect();
        let spec = Spec {
            kind,
            flags: Flags::default(),
            mh_size: mh::Size::DEFAULT,
            workers: 1,
            revision: 1,
            backends: &backends,
        };
        let scheduler = Scheduler::prepare(None, &spec);
        let service = Service::new(id, 1, scheduler, candidates.into_boxed_slice());
        self.snapshot.services.set(id.0, Arc::new(service));
        self.vip(vip, true, Unmatched::Drop);
        id
    }

    fn real(&mut self, n: u8, port: u16, weight: u32) -> Candidate {
        let slot = self.reals;
        self.reals += 1;
        let hop = HopId(u32::from(n));
        self.snapshot
            .hops
            .set(hop.0, Hop::new(LAN, LAN_MAC, Some(real_mac(n))));
        let forwarder = Forwarder::Dr { hop };
        let real = Real {
            address: real_ip(n).into(),
            port,
            standing: Standing::Settled,
            quiescent: weight == 0,
            forwarder,
            limits: Default::default(),
        };
        self.snapshot.reals.set(slot, real);
        Candidate {
            real: RealId(slot),
            weight,
            order: slot + 1,
        }
    }

    /// Changes a real server's entry.
    pub fn change_real(&mut self, slot: u32, change: impl FnOnce(&mut Real)) {
        let mut real = *self.snapshot.reals.get(slot).expect("a real server");
        change(&mut real);
        self.snapshot.reals.set(slot, real);
        self.publish();
    }

    /// Changes a service's entry.
    pub fn change_service(&mut self, id: ServiceId, change: impl FnOnce(&mut Service)) {
        let service = self.snapshot.services.get(id.0).expect("a service");
        let mut service = Service::clone(service);
        change(&mut service);
        self.snapshot.services.set(id.0, Arc::new(service));
        self.publish();
    }

    /// Changes the settings.
    pub fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = Settings::clone(&self.snapshot.settings);
        change(&mut settings);
        self.snapshot.settings = Arc::new(settings);
        self.publish();
    }

    pub fn publish(&mut self) {
        self.publisher.publish(self.snapshot.clone());
    }

    pub fn real_block(&self, slot: u32) -> &RealBlock {
        self.snapshot.blocks[0].reals.get(slot).expect("grown")
    }

    pub fn service_block(&self, slot: u32) -> &ServiceBlock {
        self.snapshot.blocks[0].services.get(slot).expect("grown")
    }

    pub fn give(&mut self, port: PortId, bytes: &[u8]) {
        self.worker.port_mut(port).expect("two ports").give(bytes);
    }

    /// Everything that was sent by a port since the last time.
    pub fn sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let port = self.worker.port_mut(port).expect("two ports");
        std::iter::from_fn(|| port.take())
            .map(|frame| frame.bytes().to_vec())
            .collect()
    }

    /// One turn, and the equation that every turn keeps.
    pub fn turn(&mut self) {
        self.worker.turn(self.now);
        let (came, went) = self.counters.balance();
        assert_eq!(came, went, "every frame has one verdict");
        let made = &self.counters;
        assert_eq!(
            made.made.get(),
            made.made_sent.get() + made.made_dropped.get()
        );
    }

    /// Gives one frame to `wan`, turns, and says what counted: the names of the counters of
    /// verdicts that went up.
    pub fn one(&mut self, bytes: &[u8]) -> Vec<&'static str> {
        let before: Vec<_> = self.counters.named().collect();
        self.give(WAN, bytes);
        self.turn();
        let verdict = |name: &str| {
            name == "transmit" || name.starts_with("drop-") || name.starts_with("punt-")
        };
        let changed = self
            .counters
            .named()
            .zip(before)
            .filter(|(now, then)| now.1 != then.1);
        changed
            .map(|((name, _), _)| name)
            .filter(|name| verdict(name))
            .collect()
    }

    pub fn wait(&mut self, ms: u32) {
        self.now = self.now.plus(ms);
    }
}

fn empty() -> Snapshot {
    let view = |mac, groups: &[Mac]| PortView {
        any_mac: false,
        mac,
        mtu: 1500,
        to_sender: false,
        groups: groups.into(),
        tagging: Tagging::default(),
    };
    let mut blocks = Blocks::default();
    blocks.reals.grow(256);
    blocks.services.grow(256);
    blocks.others.grow(256);
    blocks.ports.grow(4);
    Snapshot {
        ports: [view(WAN_MAC, &[GROUP]), view(LAN_MAC, &[])].into(),
        blocks: [blocks].into(),
        ..Snapshot::default()
    }
}
