//! One packet: its connection or its service, the real server, the rewrite.
//!
//! ```text
//!   parsed ──> connection? ── yes ──> state, counters ──> rewrite ──> transmit
//!                  │ no                                      ^
//!                  ▼                                         │
//!              service? ── yes ──> mine? ──> scheduler ──> insert     (miss.rs)
//!                  │ no              └─ no: hand over
//!                  ▼
//!              VIP's rule, director: punt                             (aside.rs)
//! ```
//!
//! A function of the snapshot, the worker's own tables and the time: nothing here sends,
//! waits or allocates.

mod aside;
mod hit;
mod miss;
mod nat64;
mod tell;
mod watch;

pub use hit::Run;

use std::net::IpAddr;
use std::sync::Arc;

use wire::ethernet::{self, Mac};
use wire::{Protocol, tcp as segment};

use crate::conn::tcp::{self, Direction, Event};
use crate::conn::{Address, Entry, Flags, Found, Key, Side, Slot, Table, sctp};
use crate::fragments::Transport;
use crate::fwd::{self, Family, Forwarder, Link};
use crate::isn::Isn;
use crate::local::LocalPorts;
use crate::observe;
use crate::owner::{Steering, Step};
use crate::parse::{Packet, Parsed, Parses, Shape};
use crate::port::{Frame, PortId, WorkerId};
use crate::reply::{Kind, Reply};
use crate::services::{
    Blocks, ConnReuse, Hop, Real, RealBlock, RealId, ServiceId, Snapshot, Standing, Towards,
};
use crate::state::{State, Stored, account_end, recount};
use crate::time::Millis;
use crate::verdict::{Counters, PuntClass, Reason, Verdict};

/// Who a worker is among the others.
#[derive(Debug)]
pub struct Identity {
    /// Its number.
    pub id: WorkerId,
    /// Who owns what.
    pub steering: Arc<Steering>,
    /// The local ports whose replies come to it.
    pub locals: LocalPorts,
    /// Initial sequence numbers for real servers.
    pub isn: Isn,
}

/// What a decision is made with.
#[derive(Debug)]
pub struct Context<'a> {
    /// What control published.
    pub snapshot: &'a Snapshot,
    /// The worker's counters in it.
    pub blocks: &'a Blocks,
    /// Who the worker is.
    pub me: &'a Identity,
    /// The time of this turn.
    pub now: Millis,
    /// The worker's own tables.
    pub state: &'a mut State,
    /// The worker's own totals.
    pub counters: &'a Counters,
    /// What else the frame just decided needs: the worker's to take.
    pub aside: Option<Aside>,
}

/// What a frame needs beside its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// An ICMP error about it.
    Reply(Reply),
    /// To be cut for a link of this MTU in octets.
    Cut(u16),
    /// A packet of the header in [`State::ahead`] alone, sent before it.
    Ahead,
    /// A RST that answers it.
    Reset,
    /// What it says of a tunnel, told to the client whose packet was in there.
    Retell(Kind),
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The port it came by.
    pub port: PortId,
    /// The workers it has been to.
    pub step: Step,
    /// What its packet's first fragment said, once it is known.
    pub gathered: Option<Transport>,
}

impl Origin {
    /// A port, with nobody between.
    #[inline]
    pub fn of(port: PortId) -> Self {
        Self {
            port,
            step: Step::default(),
            gathered: None,
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

/// Decides about `frame`, the one at place `at` of its burst; rewrites it.
#[inline]
pub fn decide<F: Frame>(
    frame: &mut F,
    parses: &Parses,
    at: usize,
    origin: Origin,
    context: &mut Context<'_>,
) -> Verdict {
    match &parses.frames[at] {
        Parsed::V4(packet) => context.flow(frame, packet, &origin),
        Parsed::V6(place) => context.flow(frame, &parses.v6[usize::from(*place)], &origin),
        Parsed::Other {
            destination,
            protocol,
        } => context.other(frame, *destination, *protocol, origin),
        Parsed::Decided(verdict) => *verdict,
        // The worker gathers fragments before it asks.
        Parsed::Fragment(_) => Verdict::Drop(Reason::NoConnection),
    }
}

impl<'a> Context<'a> {
    /// TCP, UDP or SCTP: the one place where a packet meets the connections.
    #[inline(always)]
    fn flow<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        origin: &Origin,
    ) -> Verdict {
        if self.snapshot.addresses.is_not_held(packet.key.destination) {
            return Verdict::Drop(Reason::VipNotHeld);
        }
        let (slot, side) = match self.find(frame, packet) {
            Some(found) => found,
            None => match self.miss(frame, packet, origin) {
                Ok(slot) => (slot, Side::Client),
                Err(verdict) => return verdict,
            },
        };
        let passed = match side {
            Side::Client => self.inbound(frame, packet, slot, origin.port),
            Side::Real => self.outbound(frame, packet, slot),
        };
        match passed {
            Ok(verdict) => verdict,
            Err(refusal) => self.failed(frame, packet, (slot, side), origin, refusal),
        }
    }

    /// What becomes of a packet that its connection could not take along.
    #[cold]
    #[inline(never)]
    fn failed<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        at: (Slot, Side),
        origin: &Origin,
        refusal: Refusal,
    ) -> Verdict {
        match refusal {
            Refusal(Reason::RealRemoved, _) => self.removed(frame, packet, at, origin),
            Refusal(Reason::Quiescent, _) => self.quiescent(frame, packet, at.0, origin),
            refusal => self.refused(refusal, &packet.key),
        }
    }

    /// A packet of a connection whose real server was removed (reference B.5, H): silence, or
    /// another one with `expire_nodest_conn`. Without any service we are as if we were not there.
    fn removed<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        (slot, side): (Slot, Side),
        origin: &Origin,
    ) -> Verdict {
        if self.snapshot.index.is_empty() {
            return self.unclaimed(packet);
        }
        if side == Side::Real || !self.snapshot.settings.expire_nodest_conn {
            return Verdict::Drop(Reason::RealRemoved);
        }
        self.anew(frame, packet, slot, observe::Ended::RealRemoved, origin)
    }

    /// Ends a connection at a client's packet, and lets that open another.
    fn anew<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        why: observe::Ended,
        origin: &Origin,
    ) -> Verdict {
        let entry = A::table(self.state).entry(slot);
        frame.observe(observe::Event::Ended(why, entry));
        self.end::<A>(slot);
        match self.miss(frame, packet, origin) {
            Ok(slot) => {
                let passed = self.inbound(frame, packet, slot, origin.port);
                passed.unwrap_or_else(|refusal| self.refused(refusal, &packet.key))
            }
            Err(verdict) => verdict,
        }
    }

    /// The packet's connection, if it has one that may still be used.
    #[inline]
    fn find<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
    ) -> Option<(Slot, Side)> {
        use observe::{Ended, Event};
        let table = A::table(self.state);
        match table.find(packet.hash, &packet.key, self.now) {
            Found::Live(slot, Side::Client)
                if packet.flags.syn() && starts_over(table.entry(slot), self.snapshot) =>
            {
                frame.observe(Event::Ended(Ended::StartsOver, table.entry(slot)));
                self.end::<A>(slot);
                None
            }
            Found::Live(slot, side) => Some((slot, side)),
            Found::Over(slot) => {
                frame.observe(Event::Ended(Ended::Over, table.entry(slot)));
                self.end::<A>(slot);
                None
            }
            Found::Nothing => None,
        }
    }

    /// Takes a client's packet through its connection: state, counters, rewrite.
    #[inline(always)]
    fn inbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        port: PortId,
    ) -> Result<Verdict, Refusal> {
        let entry = A::table(self.state).entry(slot);
        let (real_id, service, flags) = (entry.real_id, entry.service, entry.flags);
        frame.observe(observe::Event::of(entry, Side::Client));
        let real = self
            .snapshot
            .reals
            .get(real_id.0)
            .ok_or(Reason::RealRemoved)?;
        let forwarder = match real.standing {
            Standing::Settled => &real.forwarder,
            _ => self.forwarder_to_real(packet, slot, real)?,
        };
        let block = self
            .blocks
            .reals
            .get(real_id.0)
            .ok_or(Reason::RealRemoved)?;
        if flags.has(Flags::TOLD) {
            self.told_where(frame.bytes(), packet, slot)?;
        }
        self.advance(slot, Side::Client, packet, block);
        // No check that could fail: an observer that is not there costs nothing.
        if let Some(entry) = A::table(self.state).peek(slot) {
            frame.observe(observe::Event::Moved(entry));
        }
        block.traffic.inbound(packet.shape.length);
        if let Some(own) = self.blocks.services.get(service.0) {
            own.traffic.inbound(packet.shape.length);
        }
        if flags.has(Flags::TO_SENDER) {
            self.note_sender::<A>(slot, port, frame.bytes());
        }
        let Some(hop) = forwarder.hop() else {
            return Ok(Verdict::Punt(PuntClass::Local));
        };
        if let Forwarder::Nat64 { .. } = forwarder {
            let entry = *A::table(self.state).entry(slot);
            let tell = match flags.has(Flags::TOLD) {
                true => tell::Tell::Stream(slot),
                false => tell::Tell::Nothing,
            };
            return self.send_as_ipv4(frame, packet, (tell, &entry), hop, port);
        }
        let hop = Towards::Hop(hop);
        let mut way = way::<A>(self.snapshot, packet.shape, hop, forwarder.overhead())?;
        frame.observe(way.event(hop));
        if packet.flags.syn() {
            self.clamp::<A, F>(frame, service, forwarder, way.mtu);
        }
        if flags.has(Flags::TOLD) {
            self.told_to_real(frame, packet, slot, &mut way)?;
        }
        let outer = self.outer(forwarder, way.cut);
        let entry = A::table(self.state).entry(slot);
        forwarder.to_real(frame, entry, way.link, outer)?;
        Ok(self.by(&way, forwarder))
    }

    /// How a client's packet gets to a real server that is not, or not only, as it was when the
    /// connection was made, or whose service asks something of every packet.
    #[cold]
    #[inline(never)]
    fn forwarder_to_real<'s, A: Stored>(
        &mut self,
        packet: &Packet<A>,
        slot: Slot,
        real: &'s Real,
    ) -> Result<&'s Forwarder, Refusal>
    where
        'a: 's,
    {
        self.watch(packet, slot, real)?;
        let entry = A::table(self.state).entry(slot);
        let (id, method) = (entry.real_id, entry.flags.method());
        Ok(self.snapshot.forwarder_of(id, real, method))
    }

    /// The same for a real server's packet: those of removed ones still pass, unless we are as if
    /// we were not there.
    #[cold]
    #[inline(never)]
    fn forwarder_to_client<'s>(
        &self,
        id: RealId,
        real: &'s Real,
        flags: Flags,
    ) -> Result<&'s Forwarder, Refusal>
    where
        'a: 's,
    {
        if !real.is_available() && self.snapshot.index.is_empty() {
            return Err(Reason::RealRemoved.into());
        }
        Ok(self.snapshot.forwarder_of(id, real, flags.method()))
    }

    /// Notes where a client's packet came from.
    #[cold]
    #[inline(never)]
    fn note_sender<A: Stored>(&mut self, slot: Slot, port: PortId, frame: &[u8]) {
        if let Ok(ethernet) = ethernet::Frame::parse(frame) {
            let senders = &mut A::table(self.state).senders;
            senders.note(slot, port, ethernet.src());
        }
    }

    /// The way back to where a client's packets come from.
    #[cold]
    #[inline(never)]
    fn back_to_sender<A: Stored>(&mut self, slot: Slot) -> Option<Towards> {
        let sender = A::table(self.state).senders.get(slot);
        sender.map(|(port, mac)| Towards::At(port, mac))
    }

    /// Takes a real server's packet back through its connection.
    #[inline]
    fn outbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
    ) -> Result<Verdict, Refusal> {
        let entry = A::table(self.state).entry(slot);
        let (real_id, service, client) = (entry.real_id, entry.service, entry.client.to_ip());
        let flags = entry.flags;
        frame.observe(observe::Event::of(entry, Side::Real));
        let real = self
            .snapshot
            .reals
            .get(real_id.0)
            .ok_or(Reason::RealRemoved)?;
        let forwarder = match real.standing {
            Standing::Settled => &real.forwarder,
            _ => self.forwarder_to_client(real_id, real, flags)?,
        };
        let block = self
            .blocks
            .reals
            .get(real_id.0)
            .ok_or(Reason::RealRemoved)?;
        self.advance(slot, Side::Real, packet, block);
        // No check that could fail: an observer that is not there costs nothing.
        if let Some(entry) = A::table(self.state).peek(slot) {
            frame.observe(observe::Event::Moved(entry));
        }
        block.traffic.outbound(packet.shape.length);
        if let Some(own) = self.blocks.services.get(service.0) {
            own.traffic.outbound(packet.shape.length);
        }
        let back = match flags.has(Flags::TO_SENDER) {
            true => self.back_to_sender::<A>(slot),
            false => None,
        };
        let hop = match back {
            Some(sender) => sender,
            None => self.towards(client, flow_of(&packet.key))?,
        };
        if let Forwarder::Nat64 { hop: from } = *forwarder {
            let entry = *A::table(self.state).entry(slot);
            return self.send_as_ipv6(frame, packet, (slot, &entry), hop, from);
        }
        let way = way::<A>(self.snapshot, packet.shape, hop, 0)?;
        frame.observe(way.event(hop));
        if flags.has(Flags::TOLD) {
            self.told_to_client(frame, packet, slot);
        }
        forwarder.to_client(frame, A::table(self.state).entry(slot), way.link)?;
        Ok(self.by(&way, forwarder))
    }

    /// Moves the connection's state on and restarts its time.
    #[inline(always)]
    fn advance<A: Stored>(
        &mut self,
        slot: Slot,
        side: Side,
        packet: &Packet<A>,
        block: &RealBlock,
    ) {
        let timeouts = &self.snapshot.settings.timeouts;
        let table = A::table(self.state);
        let entry = table.entry_mut(slot);
        entry.last_seen = self.now;
        entry.packets = entry.packets.saturating_add(u16::from(!packet.later));
        let before_ms = entry.timeout_ms;
        let timeout_ms = if packet.later {
            before_ms
        } else if packet.key.protocol == Protocol::TCP.0 {
            let before = tcp::State::ALL[usize::from(entry.state)];
            let state = tcp::next(before, direction(entry, side), event(packet.flags));
            if state != before {
                entry.state = state as u8;
                recount(entry, state.is_active(), block);
                if state == tcp::State::Established {
                    table.keep(slot);
                    table.assure_template(slot);
                }
            }
            timeouts.tcp(state)
        } else if packet.key.protocol == Protocol::SCTP.0 {
            advance_sctp(table, slot, side, packet.flags, block);
            let entry = table.entry(slot);
            match sctp::Event::in_signals(packet.flags) {
                Some(_) => timeouts.sctp(sctp::State::of(entry.state)),
                None => before_ms,
            }
        } else {
            if entry.packets == 2 {
                table.keep(slot);
            }
            if side == Side::Real {
                table.assure_template(slot);
            }
            timeouts.udp
        };
        if timeout_ms != before_ms {
            let timeout_ms = watch::own_timeout(self.snapshot, table.entry(slot), timeout_ms);
            table.set_timeout(slot, self.now, timeout_ms);
        }
    }

    /// The way towards a client.
    #[inline]
    fn towards(&self, client: IpAddr, flow: u32) -> Result<Towards, Refusal> {
        let found = self.snapshot.routes.find(client, flow);
        found.ok_or(Refusal(Reason::NoRoute, None))
    }

    /// Lowers the MSS of a SYN where its service says so and the mode takes room.
    #[cold]
    fn clamp<A: Stored, F: Frame>(
        &self,
        frame: &mut F,
        service: ServiceId,
        forwarder: &Forwarder,
        mtu: u16,
    ) {
        let service = self.snapshot.services.get(service.0);
        if forwarder.overhead() > 0 && service.is_some_and(|service| service.mss_clamp) {
            fwd::clamp_mss::<A, F>(frame, forwarder.mss::<A>(mtu));
        }
    }

    /// Sends the rewritten packet, in pieces where the link or the path wants it.
    #[inline]
    fn by(&mut self, way: &Way, forwarder: &Forwarder) -> Verdict {
        if way.cut {
            self.aside = Some(Aside::Cut(way.mtu - forwarder.narrower()));
        }
        way.verdict
    }

    /// What a tunnel needs beside the packet. What has to be cut outside may be.
    #[inline]
    fn outer(&mut self, forwarder: &Forwarder, cut: bool) -> fwd::Outer {
        let pmtu_disc = self.snapshot.settings.pmtu_disc;
        match forwarder {
            Forwarder::Tun { .. } => self.state.outer(pmtu_disc && !cut),
            _ => fwd::Outer { id: 0, pmtu_disc },
        }
    }

    /// Ends connections whose time is up, looking at no more than `budget` of each family.
    pub fn expire(&mut self, budget: u32) {
        let (reals, blocks, counters) = (&self.snapshot.reals, self.blocks, self.counters);
        let state = &mut *self.state;
        state.v4.expire(self.now, budget, |entry| {
            account_end(entry, reals, blocks, counters)
        });
        state.v6.expire(self.now, budget, |entry| {
            account_end(entry, reals, blocks, counters)
        });
        state
            .sched
            .expire(self.now, self.snapshot.settings.expirations, budget);
        self.thin_out(budget);
    }

    /// Ends what a flood left, where `drop_entry` says so.
    fn thin_out(&mut self, budget: u32) {
        let State { v4, v6, sweeps, .. } = &mut *self.state;
        if !self.snapshot.settings.drop_entry {
            sweeps.iter_mut().for_each(|sweep| sweep.rest(self.now));
            return;
        }
        let (reals, blocks, counters) = (&self.snapshot.reals, self.blocks, self.counters);
        let services = &self.snapshot.services;
        // The template of single packets has no connection that could vouch for it.
        let spared = |service: ServiceId, flags: Flags| {
            let service = services.get(service.0);
            flags.has(Flags::TEMPLATE) && service.is_some_and(|service| service.one_packet)
        };
        let [first, second] = sweeps;
        v4.thin_out(
            first,
            self.now,
            budget,
            |entry| spared(entry.service, entry.flags),
            |entry| account_end(entry, reals, blocks, counters),
        );
        v6.thin_out(
            second,
            self.now,
            budget,
            |entry| spared(entry.service, entry.flags),
            |entry| account_end(entry, reals, blocks, counters),
        );
    }

    /// What is said comes from whom the packet was for: the VIP.
    #[cold]
    fn refused<A: Stored>(&mut self, Refusal(reason, kind): Refusal, key: &Key<A>) -> Verdict {
        let source = key.destination.to_ip();
        self.aside = kind.map(|kind| Aside::Reply(Reply { kind, source }));
        Verdict::Drop(reason)
    }

    fn end<A: Stored>(&mut self, slot: Slot) {
        let entry = A::table(self.state).remove(slot);
        account_end(&entry, &self.snapshot.reals, self.blocks, self.counters);
    }
}

/// What shares a real server's packets out among several gateways.
#[inline]
fn flow_of<A>(reply: &Key<A>) -> u32 {
    u32::from(reply.destination_port)
}

/// How a packet leaves, once it is rewritten.
#[derive(Clone, Copy, Debug)]
struct Way {
    verdict: Verdict,
    link: Link,
    mtu: u16,
    /// The packet is too large, and may be cut once it is rewritten.
    cut: bool,
}

impl Way {
    #[inline]
    fn event(&self, towards: Towards) -> observe::Event<'static> {
        let mtu = self.mtu;
        observe::Event::Way { towards, mtu }
    }
}

/// The way there, after the checks that every mode needs: hops left, and room in the link for
/// the packet and `overhead` more octets.
#[inline(always)]
fn way<A: Family>(
    snapshot: &Snapshot,
    shape: Shape,
    towards: Towards,
    overhead: u16,
) -> Result<Way, Refusal> {
    if shape.ttl <= 1 {
        return Err(Refusal(Reason::TtlExceeded, Some(Kind::TimeExceeded)));
    }
    let resolved = match towards {
        Towards::Hop(hop) => snapshot.hops.get(hop.0).copied(),
        Towards::Unknown(_) => None,
        Towards::At(port, mac) => at(snapshot, port, mac),
    };
    let resolved = resolved.and_then(|hop| Some((hop, hop.destination()?)));
    let (hop, next) = match resolved {
        Some(resolved) => resolved,
        None => (unresolved(snapshot, towards)?, UNKNOWN),
    };
    let view = snapshot
        .ports
        .get(usize::from(hop.port.0))
        .ok_or(Reason::NoPort)?;
    let room = view.mtu.saturating_sub(overhead);
    let cut = shape.length > u32::from(room);
    if cut && shape.dont_fragment && !is_cut_outside::<A>(snapshot, shape, room, overhead) {
        return Err(too_large(room));
    }
    Ok(Way {
        verdict: match resolved {
            Some(_) => Verdict::Transmit(hop.port),
            None => Verdict::Resolve(towards),
        },
        link: Link {
            ours: hop.source(),
            next,
        },
        mtu: view.mtu,
        cut,
    })
}

/// A next hop that is known by its MAC alone.
#[cold]
pub(crate) fn at(snapshot: &Snapshot, port: PortId, mac: Mac) -> Option<Hop> {
    let view = snapshot.ports.get(usize::from(port.0))?;
    Some(Hop::new(port, view.mac, Some(mac)))
}

/// What stands for a MAC until control has found it.
const UNKNOWN: Mac = Mac([0; 6]);

/// A next hop whose MAC control has to find; there is none where nothing says whose that is.
#[cold]
fn unresolved(snapshot: &Snapshot, towards: Towards) -> Result<Hop, Reason> {
    match towards {
        Towards::Hop(hop) => {
            snapshot.next_hops.get(hop.0).ok_or(Reason::NoRoute)?;
            let hop = snapshot.hops.get(hop.0).ok_or(Reason::NoNeighbour)?;
            Ok(*hop)
        }
        Towards::Unknown(port) | Towards::At(port, _) => {
            let view = snapshot.ports.get(usize::from(port.0));
            let source = view.ok_or(Reason::NoPort)?.mac;
            Ok(Hop::new(port, source, None))
        }
    }
}

/// Whether a SYN or an INIT is scheduled anew, though there is a connection (reference B.5, B.7): because
/// that is closed, or its real server is to take no more.
fn starts_over<A: Stored>(entry: &Entry<A>, snapshot: &Snapshot) -> bool {
    let ConnReuse { closed, closing } = snapshot.settings.conn_reuse;
    if !closed {
        return false;
    }
    let real = snapshot.reals.get(entry.real_id.0);
    if snapshot.settings.expire_nodest_conn && real.is_some_and(|real| real.quiescent) {
        return true;
    }
    if entry.template().is_some() {
        return false;
    }
    if entry.protocol == Protocol::SCTP.0 {
        return entry.state == sctp::State::Closed as u8;
    }
    match tcp::State::ALL[usize::from(entry.state)] {
        tcp::State::TimeWait | tcp::State::Close => true,
        tcp::State::FinWait => closing && !entry.flags.has(Flags::TWO_WAY),
        _ => false,
    }
}

/// Moves an SCTP association's state on.
#[cold]
#[inline(never)]
fn advance_sctp<A: Address>(
    table: &mut Table<A>,
    slot: Slot,
    side: Side,
    signals: segment::Flags,
    block: &RealBlock,
) {
    let Some(event) = sctp::Event::in_signals(signals) else {
        return;
    };
    let entry = table.entry_mut(slot);
    let before = sctp::State::of(entry.state);
    let state = sctp::next(before, direction(entry, side), event);
    if state == before {
        return;
    }
    entry.state = state as u8;
    recount(entry, state.is_active(), block);
    if state == sctp::State::Established {
        table.keep(slot);
        table.assure_template(slot);
    }
}

/// Which of IPVS's tables a segment moves the state by.
#[inline]
fn direction<A>(entry: &Entry<A>, side: Side) -> Direction {
    match side {
        Side::Real => Direction::Output,
        Side::Client if entry.flags.has(Flags::TWO_WAY) => Direction::Input,
        Side::Client => Direction::InputOnly,
    }
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

/// Whether a packet in a tunnel that may not be cut itself goes all the same, in an outer packet
/// that is: IPv4 where path MTUs are not discovered (reference B.9), IPv6 where every link would
/// have taken it (RFC 2473 section 7.1, RFC 4213 section 3.2.1).
#[cold]
fn is_cut_outside<A: Family>(snapshot: &Snapshot, shape: Shape, room: u16, overhead: u16) -> bool {
    let small = shape.length <= u32::from(A::LEAST_MTU);
    let is_v4 = A::ICMP == Protocol::ICMP;
    overhead > 0 && (small || is_v4 && !snapshot.settings.pmtu_disc) && room > 0
}

#[cold]
fn too_large(mtu: u16) -> Refusal {
    Refusal(
        Reason::NeedsFragmentation,
        Some(Kind::FragmentationNeeded { mtu }),
    )
}
