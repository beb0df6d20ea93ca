//! One packet: its connection or its service, the real server, the rewrite.
//!
//! ```text
//!   parsed ──> connection? ── yes ──> state, counters ──> rewrite ──> transmit
//!                  │ no
//!                  ▼
//!              service? ── yes ──> may it open one? ──> scheduler ──> insert ──┘
//!                  │ no
//!                  ▼
//!              ours? VIP's rule, director: punt
//! ```
//!
//! A function of the snapshot, the worker's own tables and the time: nothing here sends,
//! waits or allocates.

use std::net::{IpAddr, Ipv4Addr};

use wire::{Protocol, tcp as segment};

use crate::conn::table::New;
use crate::conn::tcp::{self, Direction, Event};
use crate::conn::{Address, Entry, Flags, Found, Slot, Table};
use crate::fwd::{Link, Outer};
use crate::pages::Pages;
use crate::parse::{Packet, Parsed, class};
use crate::port::{Frame, PortId};
use crate::reply::{Kind, Reply};
use crate::sched::{self, thresholds};
use crate::services::{Blocks, Owned, Real, RealBlock, Service, ServiceBlock, Snapshot, Unmatched};
use crate::time::Millis;
use crate::verdict::{Counters, PuntClass, Reason, Verdict};

/// A client's source port that IPVS never schedules: active FTP's data (reference B.1).
const FTP_DATA: u16 = 20;
/// Ports whose traffic to the director is a routing protocol's: BGP, and BFD over UDP.
const BGP: u16 = 179;
const BFD: [u16; 3] = [3784, 3785, 4784];

/// What a worker's decisions change.
#[derive(Debug)]
pub struct State {
    /// IPv4 connections.
    pub v4: Table<u32>,
    /// What the schedulers remember.
    pub sched: sched::Memory,
}

impl State {
    /// Fetches the bucket that the look-up will begin with.
    #[inline]
    pub fn prefetch_bucket(&self, parsed: &Parsed) {
        if let Parsed::Flow(packet) = parsed {
            self.v4.prefetch_bucket(self.v4.hash(&packet.key));
        }
    }

    /// Fetches the entry that the look-up will most likely end at.
    #[inline]
    pub fn prefetch_entry(&self, parsed: &Parsed) {
        if let Parsed::Flow(packet) = parsed {
            self.v4.prefetch_entry(self.v4.hash(&packet.key));
        }
    }
}

/// What a decision is made with.
#[derive(Debug)]
pub struct Context<'a> {
    /// What control published.
    pub snapshot: &'a Snapshot,
    /// The worker's counters in it.
    pub blocks: &'a Blocks,
    /// The time of this turn.
    pub now: Millis,
    /// The worker's own tables.
    pub state: &'a mut State,
    /// The worker's own totals.
    pub counters: &'a Counters,
}

/// What becomes of a frame, and what else is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The frame's own fate.
    pub verdict: Verdict,
    /// An ICMP error to make about it.
    pub reply: Option<Reply>,
}

impl From<Verdict> for Decision {
    #[inline]
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            reply: None,
        }
    }
}

/// Why a packet goes nowhere, and what its sender is told.
#[derive(Clone, Copy, Debug)]
struct Refusal(Reason, Option<Kind>);

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self(reason, None)
    }
}

/// Decides about `frame`, which came by `port`, and rewrites it.
#[inline]
pub fn decide<F: Frame>(
    frame: &mut F,
    parsed: Parsed,
    port: PortId,
    context: &mut Context<'_>,
) -> Decision {
    match parsed {
        Parsed::Flow(packet) => context.flow(frame, &packet),
        Parsed::Other {
            destination,
            protocol,
        } => context
            .other(frame, Ipv4Addr::from_bits(destination), protocol, port)
            .into(),
        Parsed::Decided(verdict) => verdict.into(),
    }
}

impl Context<'_> {
    /// TCP or UDP: the one place where a packet meets the connections.
    #[inline]
    fn flow<F: Frame>(&mut self, frame: &mut F, packet: &Packet<u32>) -> Decision {
        let destination = IpAddr::V4(Ipv4Addr::from_bits(packet.key.destination));
        if self.snapshot.addresses.is_not_held(destination) {
            return Verdict::Drop(Reason::VipNotHeld).into();
        }
        let slot = match self.find(packet) {
            Some(slot) => slot,
            None => match self.open(packet, destination) {
                Ok(Some(slot)) => slot,
                Ok(None) => return self.unclaimed(packet, destination),
                Err(refusal) => return refused(refusal, packet),
            },
        };
        match self.pass(frame, packet, slot) {
            Ok(port) => Verdict::Transmit(port).into(),
            Err(refusal) => refused(refusal, packet),
        }
    }

    /// The packet's connection, if it has one that may still be used.
    #[inline]
    fn find(&mut self, packet: &Packet<u32>) -> Option<Slot> {
        let hash = self.state.v4.hash(&packet.key);
        match self.state.v4.find(hash, &packet.key, self.now) {
            Found::Live(slot, _) if starts_over(self.state.v4.entry(slot), packet) => {
                self.end(slot);
                None
            }
            Found::Live(slot, _) => Some(slot),
            Found::Over(slot) => {
                self.end(slot);
                None
            }
            Found::Nothing => None,
        }
    }

    /// Opens a connection for a packet that has none; `Ok(None)` if no service wants it.
    #[cold]
    #[inline(never)]
    fn open(&mut self, packet: &Packet<u32>, vip: IpAddr) -> Result<Option<Slot>, Refusal> {
        let key = &packet.key;
        if key.source_port == FTP_DATA {
            return Ok(None);
        }
        let found = self
            .snapshot
            .index
            .find(0, key.protocol, vip, key.destination_port);
        let Some(id) = found else { return Ok(None) };
        if key.protocol == Protocol::TCP.0 && (!packet.flags.syn() || packet.flags.rst()) {
            return Err(Reason::NoConnection.into());
        }
        let service = self.snapshot.services.get(id.0).ok_or(Reason::NoService)?;
        let own = self.blocks.services.get(id.0).ok_or(Reason::NoService)?;
        self.schedule(packet, service, own).map(Some)
    }

    /// Chooses a real server and makes the connection.
    fn schedule(
        &mut self,
        packet: &Packet<u32>,
        service: &Service,
        own: &ServiceBlock,
    ) -> Result<Slot, Refusal> {
        let nobody = Refusal(Reason::NoReal, Some(Kind::PortUnreachable));
        let ask = sched::Ask::of(&packet.key, self.now);
        let (reals, memory) = (&self.snapshot.reals, &mut self.state.sched);
        let chosen = sched::pick(service, own, self.blocks, reals, &ask, memory).ok_or(nobody)?;
        let real = self.snapshot.reals.get(chosen.real.0).ok_or(nobody)?;
        let block = self.blocks.reals.get(chosen.real.0).ok_or(nobody)?;
        let IpAddr::V4(address) = real.address else {
            return Err(nobody);
        };
        let new = New {
            key: packet.key,
            real: (address.to_bits(), real.port),
            local: (packet.key.source, packet.key.source_port),
            two_way: false,
            real_id: chosen.real,
            service: service.id,
            timeout_ms: self.snapshot.settings.timeouts.tcp(tcp::State::None),
        };
        let slot = self
            .state
            .v4
            .insert(&new, self.now)
            .map_err(|_| Reason::TableFull)?;
        block.inactive.up();
        thresholds::bind(block, self.blocks.others.get(chosen.real.0), real.limits);
        block.traffic.connections.add(1);
        own.traffic.connections.add(1);
        self.counters.connections_made.add(1);
        Ok(slot)
    }

    /// Takes a packet through its connection: state, counters, rewrite.
    #[inline]
    fn pass<F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<u32>,
        slot: Slot,
    ) -> Result<PortId, Refusal> {
        let entry = self.state.v4.entry(slot);
        let (real_id, service) = (entry.real_id, entry.service);
        let real = self
            .snapshot
            .reals
            .get(real_id.0)
            .ok_or(Reason::RealRemoved)?;
        if !real.available {
            return Err(Reason::RealRemoved.into());
        }
        let block = self
            .blocks
            .reals
            .get(real_id.0)
            .ok_or(Reason::RealRemoved)?;
        self.advance(slot, packet, block);
        block.traffic.packets_in.add(1);
        block.traffic.bytes_in.add(u64::from(packet.length));
        if let Some(own) = self.blocks.services.get(service.0) {
            own.traffic.packets_in.add(1);
            own.traffic.bytes_in.add(u64::from(packet.length));
        }
        self.forward(frame, packet, real, slot)
    }

    /// Moves the connection's state on and restarts its time.
    #[inline]
    fn advance(&mut self, slot: Slot, packet: &Packet<u32>, block: &RealBlock) {
        let timeouts = &self.snapshot.settings.timeouts;
        let entry = self.state.v4.entry_mut(slot);
        entry.last_seen = self.now;
        entry.packets = entry.packets.saturating_add(1);
        let timeout_ms = if packet.key.protocol == Protocol::TCP.0 {
            let before = tcp::State::ALL[usize::from(entry.state)];
            let state = tcp::next(before, Direction::InputOnly, event(packet.flags));
            if state != before {
                entry.state = state as u8;
                recount(entry, state.is_active(), block);
            }
            timeouts.tcp(state)
        } else {
            timeouts.udp
        };
        if timeout_ms != entry.timeout_ms {
            self.state.v4.set_timeout(slot, self.now, timeout_ms);
        }
    }

    /// Checks what every mode checks, then rewrites the frame for the real server.
    #[inline]
    fn forward<F: Frame>(
        &self,
        frame: &mut F,
        packet: &Packet<u32>,
        real: &Real,
        slot: Slot,
    ) -> Result<PortId, Refusal> {
        if packet.ttl <= 1 {
            return Err(Refusal(Reason::TtlExceeded, Some(Kind::TimeExceeded)));
        }
        let hop = self
            .snapshot
            .hops
            .get(real.forwarder.hop().ok_or(Reason::NoNeighbour)?.0)
            .ok_or(Reason::NoNeighbour)?;
        let next = hop.destination.ok_or(Reason::NoNeighbour)?;
        let view = self
            .snapshot
            .ports
            .get(usize::from(hop.port.0))
            .ok_or(Reason::NoPort)?;
        if packet.length > view.mtu {
            return Err(too_large(packet, view.mtu));
        }
        let link = Link {
            ours: hop.source,
            next,
        };
        let outer = Outer {
            id: 0,
            pmtu_disc: true,
        };
        let entry = self.state.v4.entry(slot);
        real.forwarder.to_real(frame, entry, link, outer)?;
        Ok(hop.port)
    }

    /// A flow that no service takes: the VIP's rule, or the director's own business.
    #[cold]
    #[inline(never)]
    fn unclaimed(&self, packet: &Packet<u32>, destination: IpAddr) -> Decision {
        match self.snapshot.addresses.get(destination) {
            Some(Owned::Vip {
                unmatched: Unmatched::Kernel,
                ..
            }) => Verdict::Punt(PuntClass::Unmatched).into(),
            Some(Owned::Vip {
                unmatched: Unmatched::Reject,
                ..
            }) => refused(
                Refusal(Reason::NoService, Some(Kind::PortUnreachable)),
                packet,
            ),
            Some(Owned::Vip {
                unmatched: Unmatched::Drop,
                ..
            }) => Verdict::Drop(Reason::NoService).into(),
            Some(Owned::Director) => Verdict::Punt(local_class(packet)).into(),
            None => Verdict::Punt(PuntClass::Other).into(),
        }
    }

    /// IPv4 that no service can take.
    #[cold]
    #[inline(never)]
    fn other<F: Frame>(
        &self,
        frame: &mut F,
        destination: Ipv4Addr,
        protocol: Protocol,
        port: PortId,
    ) -> Verdict {
        match self.snapshot.addresses.get(IpAddr::V4(destination)) {
            Some(Owned::Vip { held: false, .. }) => Verdict::Drop(Reason::VipNotHeld),
            Some(Owned::Vip { unmatched, .. }) => {
                if protocol == Protocol::ICMP && crate::reply::echo(frame) {
                    return Verdict::Transmit(port);
                }
                match unmatched {
                    Unmatched::Kernel => Verdict::Punt(PuntClass::Unmatched),
                    Unmatched::Drop | Unmatched::Reject => Verdict::Drop(Reason::NoService),
                }
            }
            Some(Owned::Director) => Verdict::Punt(class(protocol, true)),
            None => Verdict::Punt(class(protocol, false)),
        }
    }

    /// Ends connections whose time is up, looking at no more than `budget`.
    pub fn expire(&mut self, budget: u32) {
        let (reals, blocks, counters) = (&self.snapshot.reals, self.blocks, self.counters);
        self.state.v4.expire(self.now, budget, |entry| {
            account_end(entry, reals, blocks, counters)
        });
        let expirations = self.snapshot.settings.expirations;
        self.state.sched.expire(self.now, expirations, budget);
    }

    fn end(&mut self, slot: Slot) {
        let (reals, blocks) = (&self.snapshot.reals, self.blocks);
        account_end(&self.state.v4.remove(slot), reals, blocks, self.counters);
    }
}

/// Whether a SYN finds its connection closed, so that a new one is scheduled
/// (`conn_reuse_mode = 1`, reference B.7).
#[inline]
fn starts_over(entry: &Entry<u32>, packet: &Packet<u32>) -> bool {
    const OVER: [u8; 2] = [tcp::State::TimeWait as u8, tcp::State::Close as u8];
    packet.flags.syn() && OVER.contains(&entry.state)
}

/// What moves the state: RST, else SYN, else FIN, else ACK.
#[inline]
fn event(flags: segment::Flags) -> Option<Event> {
    if flags.rst() {
        Some(Event::Rst)
    } else if flags.syn() {
        Some(Event::Syn)
    } else if flags.fin() {
        Some(Event::Fin)
    } else if flags.ack() {
        Some(Event::Ack)
    } else {
        None
    }
}

/// Counts a connection as active or inactive, if that changed.
fn recount<A>(entry: &mut Entry<A>, active: bool, block: &RealBlock) {
    if entry.flags.has(Flags::ACTIVE) == active {
        return;
    }
    entry.flags.put(Flags::ACTIVE, active);
    let (up, down) = if active {
        (&block.active, &block.inactive)
    } else {
        (&block.inactive, &block.active)
    };
    up.up();
    down.down();
}

fn account_end<A>(entry: &Entry<A>, reals: &Pages<Real>, blocks: &Blocks, counters: &Counters) {
    counters.connections_ended.add(1);
    if let Some(block) = blocks.reals.get(entry.real_id.0) {
        if entry.flags.has(Flags::ACTIVE) {
            block.active.down()
        } else {
            block.inactive.down()
        }
        let limits = reals.get(entry.real_id.0).map(|real| real.limits);
        let others = blocks.others.get(entry.real_id.0);
        thresholds::unbind(block, others, limits.unwrap_or_default());
    }
}

#[cold]
fn refused(Refusal(reason, kind): Refusal, packet: &Packet<u32>) -> Decision {
    let source = packet.key.destination.to_ip();
    Decision {
        verdict: Verdict::Drop(reason),
        reply: kind.map(|kind| Reply { kind, source }),
    }
}

#[cold]
fn too_large(packet: &Packet<u32>, mtu: u16) -> Refusal {
    if packet.dont_fragment {
        Refusal(
            Reason::NeedsFragmentation,
            Some(Kind::FragmentationNeeded { mtu }),
        )
    } else {
        Reason::CannotFragment.into()
    }
}

fn local_class(packet: &Packet<u32>) -> PuntClass {
    let Packet { key, .. } = packet;
    let ports = [key.source_port, key.destination_port];
    let routing = match Protocol(key.protocol) {
        Protocol::TCP => ports.contains(&BGP),
        _ => BFD.contains(&key.destination_port),
    };
    if routing {
        PuntClass::Routing
    } else {
        PuntClass::Local
    }
}
