//! The snapshot that workers read: what listens where, which real servers there are, and how
//! to reach them.
//!
//! Control compiles it and publishes it whole ([`crate::published`]); a worker only looks
//! things up. Nothing in it changes except the counters in [`Blocks`], each of which belongs
//! to one worker.

mod access;
mod index;
pub mod marks;
mod nat;
mod routes;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use wire::ethernet::{Mac, Macs};

use crate::conn::Address;
use crate::conn::timeout::Timeouts;
use crate::counter::{Counter, Gauge, Word};
use crate::fwd::{Forwarder, Method};
use crate::local::LocalAddresses;
use crate::owner::{Fields, MAX_FIELDS, Owners};
use crate::pages::{Cells, Pages};
use crate::port::PortId;
use crate::sched::thresholds::Limits;
use crate::sched::{Expirations, Kind, Scheduler};
use crate::verdict::PuntClass;
use crate::vlan::Tagging;
use crate::walk::Errand;

pub use crate::conn::stream::Telling;
pub use access::Access;
pub use index::{By, FTP, Key, ServiceIndex};
pub use marks::Marks;
pub use nat::{NatReal, NatReals};
pub use routes::{MakeUp, Route, Routed, Routes, Target, Towards};

/// A service's slot. Control reuses a slot only when no worker has a connection on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ServiceId(pub u32);

/// A real server's slot, reused as a service's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RealId(pub u32);

/// A next hop's slot: one port and one neighbour on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct HopId(pub u32);

/// Everything that a worker needs to know, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Which service takes a packet.
    pub index: ServiceIndex,
    /// Which packets have a firewall mark.
    pub marks: Marks,
    /// Services by [`ServiceId`].
    pub services: Pages<Arc<Service>>,
    /// Real servers by [`RealId`]; removed ones stay while connections are on them.
    pub reals: Pages<Real>,
    /// By [`RealId`], where that is [`Standing::Edited`]: how packets of its older connections
    /// get there, one of each method.
    pub formers: Pages<Arc<[Forwarder]>>,
    /// Next hops by [`HopId`].
    pub hops: Pages<Hop>,
    /// Whose MAC a next hop's is, by [`HopId`]: only asked for while that is not known.
    pub next_hops: Pages<IpAddr>,
    /// The addresses that are ours.
    pub addresses: Addresses,
    /// How clients are reached.
    pub routes: Routes,
    /// Whose a NAT real server's packets are.
    pub nat_reals: NatReals,
    /// Whether some connection may be one of IPv6 clients with an IPv4 real server: only then is
    /// an IPv4 packet that nobody knows looked for among IPv6's connections.
    pub nat64: bool,
    /// Ports by [`PortId`]: those that have queues, in the order in which the workers have them,
    /// and then those of VLANs.
    pub ports: Arc<[PortView]>,
    /// Timeouts, limits and switches.
    pub settings: Arc<Settings>,
    /// Counters: one [`Blocks`] for each worker.
    pub blocks: Arc<[Blocks]>,
    /// What somebody wants to know of the workers' connections.
    pub errands: Arc<[Errand]>,
}

/// A virtual service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its slot.
    pub id: ServiceId,
    /// Changes whenever the service or one of its real servers is added, removed or edited:
    /// schedulers start over as IPVS's do. Only grows, from 1.
    pub revision: u64,
    /// Its virtual address; a mark has none.
    pub address: Option<IpAddr>,
    /// Which worker owns its connections.
    pub owners: Owners,
    /// FULLNAT's source addresses.
    pub locals: LocalAddresses,
    /// How FULLNAT's real servers are told who the client is.
    pub telling: Telling,
    /// Whether the MSS of a SYN is lowered to what a real server's tunnel leaves.
    pub mss_clamp: bool,
    /// Whether, and for how long, a client stays with its real server. Such a service's
    /// `owners` go by [`Fields::ClientNetwork`] of the same mask, so that one worker has the
    /// client's template.
    pub persistence: Option<Persistence>,
    /// Whether each UDP packet is scheduled on its own and no connection kept.
    pub one_packet: bool,
    /// What every packet of a client's has to ask it.
    pub asks: Asks,
    /// How it chooses.
    pub scheduler: Scheduler,
    /// The real servers, newest first: the order in which IPVS walks them.
    pub candidates: Box<[Candidate]>,
}

impl Service {
    /// A service whose connections any worker may own by their tuple, without local addresses.
    pub fn new(
        id: ServiceId,
        revision: u64,
        scheduler: Scheduler,
        candidates: Box<[Candidate]>,
    ) -> Self {
        Self {
            id,
            revision,
            address: None,
            owners: Owners::new(Fields::Tuple),
            locals: LocalAddresses::default(),
            telling: Telling::None,
            mss_clamp: false,
            persistence: None,
            one_packet: false,
            asks: Asks::default(),
            scheduler,
            candidates,
        }
    }
}

impl Service {
    /// Whether a client's next packet goes to the same real server even where nothing is
    /// remembered of it, for as long as the real servers stay the same.
    pub fn is_stateless(&self) -> bool {
        let by_hash = matches!(self.scheduler.kind(), Kind::Sh | Kind::Dh | Kind::Mh);
        by_hash && self.persistence.is_none()
    }

    /// Whether it takes a packet that came to it so: without persistence it takes no port but
    /// its own (reference B.1).
    pub fn takes(&self, by: By) -> bool {
        self.persistence.is_some() || !matches!(by, By::Ftp | By::AllPorts)
    }
}

/// What a service asks of every packet of a client's, hits included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Whom it takes packets from.
    pub access: Access,
    /// How long a TCP connection in ESTABLISHED may be silent, in milliseconds, where that is
    /// not the timeout of all services.
    pub established_ms: Option<u32>,
    /// Whether a connection ends at its next packet, once its real server has weight 0 or was
    /// removed.
    pub expire_quiescent: bool,
}

impl Asks {
    /// Whether packets for a real server, which has weight 0 or not, have anything to ask: to be
    /// kept in its [`Real`].
    pub fn standing(&self, quiescent: bool) -> Standing {
        let by_weight = quiescent && self.expire_quiescent;
        if by_weight || self.established_ms.is_some() || !self.access.is_open() {
            Standing::Watched
        } else {
            Standing::Settled
        }
    }
}

/// How a persistent service keeps its clients (reference B.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// How long after a client's last new connection, in milliseconds, up to 31 days.
    pub timeout_ms: u32,
    /// What of the address makes a client; IPv4 goes by the lower 32 bits.
    pub mask: u128,
}

/// One real server, as a scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub real: RealId,
    /// 0..=65535; 0 takes no new connections.
    pub weight: u32,
    /// When it was added, in a count that only grows; candidates stand in descending order
    /// of it. A scheduler that walks the list remembers the last one by this number, so the
    /// place survives any edit, and a removed one's place falls to its predecessor.
    pub order: u32,
}

/// A real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it still belongs to a service, all its connections go one way, and the service asks
    /// nothing of every packet.
    pub standing: Standing,
    /// Whether its weight is 0, so that no scheduler chooses it.
    pub quiescent: bool,
    /// How packets of new connections get there.
    pub forwarder: Forwarder,
    /// When it takes no new connections.
    pub limits: Limits,
}

/// How things stand with a real server. A packet of a connection asks only whether this is
/// [`Standing::Settled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Standing {
    /// All its connections go by its forwarder, and its service asks nothing.
    #[default]
    Settled,
    /// All its connections go by its forwarder, but its service has something to ask every packet
    /// of a client's: see [`Asks`].
    Watched,
    /// It had another mode, which its older connections keep as long as they last, as IPVS's
    /// do: theirs are among [`Snapshot::formers`]. What its service asks is asked, too.
    Edited,
    /// It belongs to no service any more: packets of its connections are dropped.
    Removed,
}

impl Real {
    /// Whether it still belongs to a service.
    pub fn is_available(&self) -> bool {
        self.standing != Standing::Removed
    }
}

impl Snapshot {
    /// How packets of a connection that was made by `method` get to its real server: as they
    /// did when it was made.
    pub fn forwarder_of<'a>(&'a self, id: RealId, real: &'a Real, method: Method) -> &'a Forwarder {
        let formers = self.formers.get(id.0).map_or(&[][..], |formers| formers);
        let former = formers.iter().find(|former| former.method() == method);
        match former {
            Some(former) if real.forwarder.method() != method => former,
            _ => &real.forwarder,
        }
    }
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The port's MAC and the neighbour's.
    macs: Macs,
    /// The port to send by.
    pub port: PortId,
    /// Whether the neighbour's MAC is known: else it stands as zeros.
    known: bool,
}

const _: () = assert!(size_of::<Option<Hop>>() == 16, "four in a line");

impl Hop {
    /// By `port`, whose MAC is `source`, to the neighbour whose MAC is `destination`; `None` while
    /// that is not known.
    pub fn new(port: PortId, source: Mac, destination: Option<Mac>) -> Self {
        Self {
            macs: Macs::new(source, destination.unwrap_or(Mac::ZERO)),
            port,
            known: destination.is_some(),
        }
    }

    /// The same with another MAC of the neighbour's.
    #[must_use]
    pub fn with_destination(self, destination: Option<Mac>) -> Self {
        Self::new(self.port, self.source(), destination)
    }

    /// The port's MAC.
    pub fn source(&self) -> Mac {
        self.macs.src()
    }

    /// The neighbour's MAC; `None` while it is not known.
    pub fn destination(&self) -> Option<Mac> {
        self.known.then(|| self.macs.dst())
    }

    /// Both MACs, once the neighbour's is known.
    #[inline(always)]
    pub fn macs(&self) -> Option<&Macs> {
        self.known.then_some(&self.macs)
    }
}

/// What a worker knows of a port.
#[derive(Clone, Debug)]
pub struct PortView {
    /// Its MAC.
    pub mac: Mac,
    /// Whether it takes frames for any host's MAC or group, not only for its own: a replayed
    /// capture's.
    pub any_mac: bool,
    /// Largest IP packet, in octets.
    pub mtu: u16,
    /// Whether replies of connections that begin here leave by this port too, to the MAC that
    /// the client's packets come from, whatever the routes say.
    pub to_sender: bool,
    /// Multicast groups whose frames are punted (VRRP, OSPF, what the kernel joined); sorted.
    pub groups: Arc<[Mac]>,
    /// What 802.1Q tags mean to it.
    pub tagging: Tagging,
}

/// What an address of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// The director's own address on a port.
    Director,
    /// A source address of FULLNAT.
    Local,
    /// A VIP.
    Vip {
        /// Whether we answer for it now.
        held: bool,
        /// What becomes of traffic that no service takes.
        unmatched: Unmatched,
    },
}

/// What becomes of a VIP's traffic that no service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// Dropped.
    Drop,
    /// Answered with port unreachable.
    Reject,
    /// Given to the kernel.
    Kernel,
}

/// The addresses that are ours, sorted for a binary search.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    sorted: Arc<[(IpAddr, Owned)]>,
    directors: Arc<[IpAddr]>,
    /// Which VIPs are not held: only packets for what is in it ask.
    not_held: Sieve,
}

/// Addresses by their last octet: what is not in it is certainly none of them.
#[derive(Clone, Copy, Debug, Default)]
struct Sieve {
    any: bool,
    octets: [u32; 8],
}

impl Sieve {
    fn add(&mut self, address: IpAddr) {
        let last = match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        self.any = true;
        self.octets[usize::from(last >> 5)] |= 1 << (last & 31);
    }

    #[inline(always)]
    fn has(&self, last: u8) -> bool {
        self.any && self.octets[usize::from(last >> 5)] >> (last & 31) & 1 != 0
    }
}

impl Addresses {
    /// Takes the addresses in any order; of two equal ones the first counts.
    pub fn new(mut all: Vec<(IpAddr, Owned)>) -> Self {
        all.sort_by_key(|&(address, _)| address);
        all.dedup_by_key(|&mut (address, _)| address);
        let mut not_held = Sieve::default();
        for &(address, owned) in &all {
            if matches!(owned, Owned::Vip { held: false, .. }) {
                not_held.add(address);
            }
        }
        let directors = all.iter().filter(|&&(_, owned)| owned == Owned::Director);
        Self {
            directors: directors.map(|&(address, _)| address).collect(),
            sorted: all.into(),
            not_held,
        }
    }

    /// What `address` is to us; `None`: nothing.
    pub fn get(&self, address: IpAddr) -> Option<Owned> {
        let found = self
            .sorted
            .binary_search_by_key(&address, |&(address, _)| address);
        found.ok().map(|at| self.sorted[at].1)
    }

    /// Whether an address with this last octet may be a VIP that somebody else holds now.
    #[inline(always)]
    pub fn may_be_not_held(&self, last: u8) -> bool {
        self.not_held.has(last)
    }

    /// Whether an address is a VIP that somebody else holds now.
    #[inline]
    pub fn is_not_held<A: Address>(&self, address: A) -> bool {
        let held = || self.get(address.to_ip());
        self.may_be_not_held(address.last())
            && matches!(held(), Some(Owned::Vip { held: false, .. }))
    }

    /// The director's own address of the same family that has most leading bits in common with
    /// `neighbour`: the one on its link.
    pub fn director_near(&self, neighbour: IpAddr) -> Option<IpAddr> {
        let common = |own: IpAddr| match (own, neighbour) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                Some((own.to_bits() ^ other.to_bits()).leading_zeros())
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                Some((own.to_bits() ^ other.to_bits()).leading_zeros())
            }
            _ => None,
        };
        let near = self
            .directors
            .iter()
            .filter_map(|&own| Some((common(own)?, own)));
        near.max_by_key(|&(bits, _)| bits).map(|(_, own)| own)
    }

    /// Every address, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, Owned)> {
        self.sorted.iter().copied()
    }
}

/// Timeouts, limits and switches.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connection timeouts by state.
    pub timeouts: Timeouts,
    /// Limits on what is punted.
    pub punt_limits: PuntLimits,
    /// Whether a tunnel's outer header copies DF, so that path MTUs are discovered
    /// (`pmtu_disc`).
    pub pmtu_disc: bool,
    /// How long schedulers remember destinations.
    pub expirations: Expirations,
    /// Whether a connection ends with its real server: at its next packet, if that server was
    /// removed, and at a SYN, if its weight is 0 (`expire_nodest_conn`).
    pub expire_nodest_conn: bool,
    /// Whether persistence ends with a weight of 0 (`expire_quiescent_template`).
    pub expire_quiescent_template: bool,
    /// When a SYN opens a connection anew (`conn_reuse_mode`).
    pub conn_reuse: ConnReuse,
    /// Whether any TCP segment but a RST may open a connection (`sloppy_tcp`).
    pub sloppy_tcp: bool,
    /// Whether any SCTP packet but an ABORT may open a connection (`sloppy_sctp`).
    pub sloppy_sctp: bool,
    /// Whether a NAT real server is told that nobody knows the connection of its packet
    /// (`nat_icmp_send`).
    pub nat_icmp_send: bool,
    /// Whether a TCP segment that may not open a connection is answered with a RST
    /// (`tcp_reset`).
    pub tcp_reset: bool,
    /// Whether a flood's traces are swept out of the table (`drop_entry = 3`).
    pub drop_entry: bool,
    /// Every how many packets that would open a connection one is dropped (`drop_packet = 3`:
    /// `am_droprate`).
    pub drop_packet: Option<NonZeroU16>,
}

/// When a SYN on a known connection is scheduled anew, unless a template controls that
/// (`conn_reuse_mode`, reference B.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnReuse {
    /// After TIME_WAIT and CLOSE (the mode is not 0).
    pub closed: bool,
    /// After FIN_WAIT too, where replies don't pass us (2 in the mode).
    pub closing: bool,
}

impl ConnReuse {
    /// As the value of `conn_reuse_mode` says.
    pub fn mode(mode: u32) -> Self {
        Self {
            closed: mode != 0,
            closing: mode & 2 != 0,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            punt_limits: PuntLimits::default(),
            pmtu_disc: true,
            expirations: Expirations::default(),
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            conn_reuse: ConnReuse::mode(1),
            sloppy_tcp: false,
            sloppy_sctp: false,
            nat_icmp_send: false,
            tcp_reset: false,
            drop_entry: false,
            drop_packet: None,
        }
    }
}

/// Frames a second that one worker may punt, by class; a tenth of a second's worth may come
/// at once, but at least 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PuntLimits {
    /// In the order of [`PuntClass::ALL`].
    pub per_second: [u32; PuntClass::ALL.len()],
}

impl Default for PuntLimits {
    fn default() -> Self {
        Self {
            per_second: [10_000, 1_000, 20_000, 100_000, 20_000, 2_000, 1_000, 2_000],
        }
    }
}

/// One worker's counters for every service and real server.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// By [`RealId`].
    pub reals: Cells<RealBlock>,
    /// By [`ServiceId`].
    pub services: Cells<ServiceBlock>,
    /// By [`RealId`]: what all other workers together count. Written by control.
    pub others: Cells<Others>,
    /// By [`PortId`], where there are VLANs: what went through their ports. What other ports carry
    /// their devices count.
    pub ports: Cells<PortBlock>,
}

/// What one worker counts for the port of a VLAN: a line of its own. Octets are those of frames without their tags.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
pub struct PortBlock {
    /// Frames received.
    pub rx: Counter,
    /// Octets received.
    pub rx_bytes: Counter,
    /// Frames given to the parent's queue, those of our own making included.
    pub tx: Counter,
    /// Octets of these.
    pub tx_bytes: Counter,
}

impl Blocks {
    /// Counters that belong to no worker: those of these services and real servers as they are
    /// now.
    #[must_use]
    pub fn detached(&self, services: &[ServiceId], reals: &[RealId]) -> Self {
        let reals = || reals.iter().map(|id| id.0);
        Self {
            reals: self.reals.detached(reals()),
            services: self.services.detached(services.iter().map(|id| id.0)),
            others: self.others.detached(reals()),
            ports: self.ports.detached([]),
        }
    }
}

/// What one worker counts for one real server: a line of its own.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
pub struct RealBlock {
    /// Connections that count as active (TCP established and half open).
    pub active: Gauge,
    /// The other connections.
    pub inactive: Gauge,
    /// Persistence templates.
    pub persistent: Gauge,
    /// Not 0 while a threshold keeps new connections away; more of it in
    /// [`crate::sched::thresholds`].
    pub overloaded: Gauge,
    /// The upper threshold that the worker saw last.
    pub upper: Gauge,
    /// Connections, packets and octets since the start.
    pub traffic: Traffic,
}

/// What one worker counts for one service: lines of its own. A packet touches the first.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
pub struct ServiceBlock {
    /// Connections, packets and octets since the start.
    pub traffic: Traffic,
    /// The revision that the scheduler's words belong to.
    pub revision: Word,
    /// The scheduler's own words.
    pub words: [Gauge; 2],
    /// Connections by the listed fields that they were made under.
    pub made_under: [Gauge; MAX_FIELDS],
    /// FULLNAT's place in the rotation of local addresses.
    pub local_turn: Gauge,
}

/// What the other workers count for one real server, as of the last sum.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Others {
    /// Active connections.
    pub active: Gauge,
    /// Inactive connections.
    pub inactive: Gauge,
    /// How many sums there were; none with one worker.
    pub round: Gauge,
    /// Not 0 if the connections of all workers together reached a threshold.
    pub overloaded: Gauge,
}

/// Totals since the start. Octets are those of IP packets, headers included.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Traffic {
    /// New connections.
    pub connections: Counter,
    /// Packets from clients.
    pub packets_in: Counter,
    /// Packets to clients; 0 where replies don't pass us.
    pub packets_out: Counter,
    /// Octets from clients.
    pub bytes_in: Counter,
    /// Octets to clients.
    pub bytes_out: Counter,
}

impl Traffic {
    /// Counts a packet from a client.
    #[inline]
    pub fn inbound(&self, octets: u32) {
        self.packets_in.add(1);
        self.bytes_in.add(u64::from(octets));
    }

    /// Counts a packet to a client.
    #[inline]
    pub fn outbound(&self, octets: u32) {
        self.packets_out.add(1);
        self.bytes_out.add(u64::from(octets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_end_like_a_vip_not_held_are_looked_up() {
        let vip = |address: &str, held| {
            let unmatched = Unmatched::Drop;
            let address = address.parse().expect("an address");
            (address, Owned::Vip { held, unmatched })
        };
        let addresses = Addresses::new(vec![
            vip("192.0.2.9", false),
            vip("192.0.2.10", true),
            vip("198.51.100.9", true),
            vip("2001:db8::ff", false),
        ]);
        let asked = (0..=255).filter(|&last| addresses.may_be_not_held(last));
        assert!(asked.eq([9, 255]));
        let cases = [
            (0xc000_0209u32, true),
            (0xc000_020a, false),
            (0xc633_6409, false),
            (0xc000_02ff, false),
        ];
        for (address, want) in cases {
            assert_eq!(addresses.is_not_held(address), want, "{address:#x}");
        }
        assert!(addresses.is_not_held(0x2001_0db8_u128 << 96 | 0xff));
        assert!(!addresses.is_not_held(0x2001_0db8_u128 << 96 | 9));
    }
}
