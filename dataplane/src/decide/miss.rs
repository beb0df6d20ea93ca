//! A packet that the worker's own table does not know: whose is it, and may it open a
//! connection?
//!
//! Only the current owner creates. Everybody else passes the frame on, so there are never two
//! connections of one tuple, whatever queue its packets came by.

use std::net::IpAddr;

use wire::Protocol;

use super::tell::Tell;
use super::{Aside, Context, Origin, Refusal, way};
use crate::conn::defence::every;
use crate::conn::table::New;
use crate::conn::{Control, Flags, Found, Full, Key, Side, Slot, tcp, template};
use crate::fwd::{Forwarder, Method};
use crate::observe::{self, Declined, Event};
use crate::owner::{Next, Step, Stops};
use crate::parse::Packet;
use crate::port::{Frame, PortId};
use crate::reply::{Kind, Reply};
use crate::sched::{self, Ask, thresholds};
use crate::services::{self, Towards};
use crate::services::{
    By, Candidate, Owned, Persistence, Real, RealId, Service, ServiceBlock, ServiceId, Settings,
    Snapshot, Unmatched,
};
use crate::state::Stored;
use crate::verdict::{PuntClass, Reason, Verdict};

/// A client's source port that IPVS never schedules: active FTP's data (reference B.1).
const FTP_DATA: u16 = 20;
/// Ports whose traffic to the director is a routing protocol's: BGP, and BFD over UDP.
const BGP: u16 = 179;
const BFD: [u16; 3] = [3784, 3785, 4784];

/// No real server is available: the client is told, TCP's too (reference B.1).
const NOBODY: Refusal = Refusal(Reason::NoReal, Some(Kind::PortUnreachable));

impl<'a> Context<'a> {
    /// The connection that the packet opens, or what becomes of it instead.
    #[cold]
    #[inline(never)]
    pub(super) fn miss<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        &Origin { port, step, .. }: &Origin,
    ) -> Result<Slot, Verdict> {
        let key = &packet.key;
        if self.snapshot.nat64
            && let Some(verdict) = self.reply_from_ipv4(frame, packet)
        {
            return Err(verdict);
        }
        let mut found = self.service_of(frame, key, port);
        if found.is_some() && key.source_port == FTP_DATA {
            frame.observe(Event::Declined(Declined::FtpData));
            found = None;
        }
        let Some((service, by)) = found else {
            return Err(match self.elsewhere(key, step) {
                Some(verdict) => verdict,
                None => self.unclaimed(packet),
            });
        };
        let refused = refusal(service, by, key);
        // Where nobody else may have the tuple, the owner would only say the same.
        if (refused.is_none() || !is_alone(service, by))
            && let Some(verdict) = elsewhere(self.owner(service, by, key, step))
        {
            return Err(verdict);
        }
        frame.observe(Event::Service(service.id));
        if let Some(reason) = refused {
            return Err(Verdict::Drop(reason));
        }
        let Some(own) = self.blocks.services.get(service.id.0) else {
            return Err(Verdict::Drop(Reason::NoService));
        };
        let opening = Opening {
            packet,
            service,
            own,
            by,
            port,
        };
        let slot = self.open(frame, &opening)?;
        frame.observe(Event::Opened);
        Ok(slot)
    }

    /// The service that takes the client's packet with this tuple, which came by `entry`, and
    /// by what it does.
    pub(super) fn service_of<A: Stored, F: Frame>(
        &self,
        frame: &mut F,
        key: &Key<A>,
        entry: PortId,
    ) -> Option<(&'a Service, By)> {
        let snapshot: &'a Snapshot = self.snapshot;
        let mark = snapshot.marks.of(key, entry);
        let vip = key.destination.to_ip();
        let index = &snapshot.index;
        let tell = |by, found| {
            frame.observe(Event::Tried {
                by,
                protocol: key.protocol,
                destination: (vip, key.destination_port),
                found,
            });
        };
        let (id, by) = index.find_telling(mark, key.protocol, vip, key.destination_port, tell)?;
        Some((snapshot.services.get(id.0)?.as_ref(), by))
    }

    /// Where a packet goes that this worker does not know and that `service` takes by `by`.
    #[inline]
    pub(super) fn owner<A: Stored>(
        &self,
        service: &Service,
        by: By,
        key: &Key<A>,
        step: Step,
    ) -> Next {
        let (steering, me) = (&self.me.steering, self.me.id);
        if steering.workers() == 1 {
            return Next::Here;
        }
        match is_alone(service, by) {
            true => service.owners.next(steering, key, me, step),
            false => self.owner_of_many(service, by, key, step),
        }
    }

    /// The same where other services may have the packet's connection, or where it may be a real
    /// server's: all that may know it are asked before the service's current owner opens another.
    #[cold]
    #[inline(never)]
    fn owner_of_many<A: Stored>(
        &self,
        service: &Service,
        by: By,
        key: &Key<A>,
        step: Step,
    ) -> Next {
        let mut stops = Stops::default();
        // What was sent to a single port of a VIP is no answer to a client.
        if by != By::Port {
            self.stops_of_reply(key, &mut stops);
        }
        service.owners.stops(&self.me.steering, key, &mut stops);
        stops.next(self.me.id, step)
    }

    /// Where a packet of no service's goes that a real server may have sent, or that would have a
    /// mark if it had come by another port; `None`: nowhere, or everybody was asked.
    pub(super) fn elsewhere<A: Stored>(&self, key: &Key<A>, step: Step) -> Option<Verdict> {
        let mut stops = Stops::default();
        for mark in self.snapshot.marks.by_port(key) {
            let v6 = key.destination.to_ip().is_ipv6();
            let service = self.snapshot.index.get(&services::Key::mark(mark, v6));
            if let Some(service) = service.and_then(|id| self.snapshot.services.get(id.0)) {
                service.owners.stops(&self.me.steering, key, &mut stops);
            }
        }
        self.stops_of_reply(key, &mut stops);
        elsewhere(stops.next(self.me.id, step))
    }

    /// The workers that may own the connection of a packet, if a real server sent it: by the local
    /// address that it is for, or by its source in the table of NAT real servers.
    fn stops_of_reply<A: Stored>(&self, reply: &Key<A>, stops: &mut Stops) {
        if let Some(Owned::Local) = self.snapshot.addresses.get(reply.destination.to_ip()) {
            return stops.add(self.me.locals.reply_hash().owner(&self.me.steering, reply));
        }
        let real = reply.source.to_ip();
        let services = self
            .snapshot
            .nat_reals
            .find(reply.protocol, real, reply.source_port);
        for service in services.filter_map(|ServiceId(id)| self.snapshot.services.get(id)) {
            let mut key = reply.reversed();
            key.destination = service
                .address
                .and_then(A::from_ip)
                .unwrap_or(key.destination);
            let current = std::iter::once(service.owners.current());
            for (_, fields) in service.owners.older().iter().copied().chain(current) {
                stops.add(self.me.steering.owner(fields, &key));
            }
        }
    }

    /// Opens a connection, if a packet like this may.
    fn open<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
    ) -> Result<Slot, Verdict> {
        let Opening {
            packet,
            service,
            by,
            ..
        } = *opening;
        if !service.takes(by) {
            frame.observe(Event::Declined(Declined::OtherPort));
            return Err(self.unclaimed(packet));
        }
        if !may_open(packet, &self.snapshot.settings) {
            frame.observe(Event::Declined(Declined::OpensNothing));
            return Err(self.stranger(frame, opening));
        }
        if let Some(n) = self.snapshot.settings.drop_packet
            && every(&mut self.state.packets_spared, n.get())
        {
            frame.observe(Event::Declined(Declined::Defence));
            return Err(Verdict::Drop(Reason::Defence));
        }
        let once = service.one_packet && packet.key.protocol == Protocol::UDP.0;
        let room = once || self.make_room::<A>(service);
        if !room && !service.is_stateless() {
            frame.observe(Event::Declined(Declined::NoRoom));
            return Err(Verdict::Drop(Reason::TableFull));
        }
        let new = match self.new_connection(frame, opening) {
            Err(Refusal(Reason::NoReal, _)) if by == By::Ftp => {
                return Err(self.unclaimed(packet));
            }
            new => new.map_err(|refusal| self.refused(refusal, &packet.key))?,
        };
        if once {
            let passed = self.once(frame, opening, &new);
            return Err(passed.unwrap_or_else(|refusal| self.refused(refusal, &packet.key)));
        }
        match self.keep(opening, &new) {
            Ok(slot) => Ok(slot),
            Err(Full) => Err(self.unkept(frame, opening, &new, Reason::TableFull)),
        }
    }

    /// A packet that opens nothing, and no connection. While the table is full, and for a while
    /// after, it may be of one that found no place: the scheduler knows its real server.
    fn stranger<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
    ) -> Verdict {
        let (now, packet) = (self.now, opening.packet);
        let may_be = opening.service.is_stateless()
            && !packet.flags.syn()
            && A::table(self.state).was_full(now);
        match may_be.then(|| self.new_connection(frame, opening)) {
            Some(Ok(new)) => self.unkept(frame, opening, &new, Reason::NoConnection),
            _ => self.reset(packet),
        }
    }

    /// Drops a segment of no connection; with `tcp_reset` its sender is told. What may not be
    /// answered (RFC 9293 section 3.5.2), the answer's maker sees.
    fn reset<A>(&mut self, packet: &Packet<A>) -> Verdict {
        let is_tcp = packet.key.protocol == Protocol::TCP.0;
        if self.snapshot.settings.tcp_reset && is_tcp && !packet.later && !packet.flags.rst() {
            self.aside = Some(Aside::Reset);
        }
        Verdict::Drop(Reason::NoConnection)
    }

    /// Sends a packet whose connection finds no place, where the next one finds the same real
    /// server without it; else drops it for this reason.
    fn unkept<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
        new: &New<A>,
        reason: Reason,
    ) -> Verdict {
        self.foreseen.opens_nothing();
        if new.method.is_two_way() || !opening.service.is_stateless() {
            return Verdict::Drop(reason);
        }
        self.counters.unkept.add(1);
        let passed = self.pass(frame, opening, new);
        passed.unwrap_or_else(|refusal| self.refused(refusal, &opening.packet.key))
    }

    /// Makes room for a connection of the service, and for its template, if it has them; says
    /// whether there is.
    fn make_room<A: Stored>(&mut self, service: &Service) -> bool {
        let wanted = 1 + u32::from(service.persistence.is_some());
        let now = self.now;
        while let Some(slot) = A::table(self.state).next_to_go(wanted, now) {
            self.end::<A>(slot);
            self.counters.evicted.add(1);
        }
        A::table(self.state).room() > 0
    }

    /// The connection to be: the client's own real server, or the scheduler's choice.
    fn new_connection<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
    ) -> Result<New<A>, Refusal> {
        let Opening {
            packet,
            service,
            by,
            ..
        } = *opening;
        let (real_id, control, chosen) = match service.persistence {
            Some(persistence) => {
                let (real, control) = self.remembered(frame, opening, persistence)?;
                (real, control, None)
            }
            None => {
                let chosen = self.choose(frame, opening)?;
                (chosen.real, Control::Free, Some(chosen))
            }
        };
        let real = self.snapshot.reals.get(real_id.0).ok_or(NOBODY)?;
        let is_persistent = control != Control::Free;
        let port = if real.port == 0 || is_persistent && by != By::Port {
            packet.key.destination_port
        } else {
            real.port
        };
        // The tables find a tunnelled connection by the client's side alone: where the real
        // server is of the other family, its address stands in the forwarder.
        let own = A::from_ip(real.address).unwrap_or_default();
        let client = (packet.key.source, packet.key.source_port);
        let (address, local) = match (real.forwarder, real.address) {
            (Forwarder::FullNat { .. }, _) => {
                let local = self.local(opening, (own, port))?;
                self.foresee_local::<A, A>(opening, chosen);
                (own, local)
            }
            (Forwarder::Nat64 { .. }, IpAddr::V4(ipv4)) => {
                let local = self.local(opening, (ipv4.to_bits(), port))?;
                self.foresee_local::<A, u32>(opening, chosen);
                (A::of_ipv4(ipv4.to_bits()), (A::of_ipv4(local.0), local.1))
            }
            (Forwarder::Nat { .. }, _) => {
                if let Some(chosen) = chosen {
                    self.foreseen.opens(service, chosen);
                }
                (own, client)
            }
            _ => (own, client),
        };
        let (fields, _) = service.owners.current();
        Ok(New {
            key: packet.key,
            real: (address, port),
            local,
            method: real.forwarder.method(),
            real_id,
            service: service.id,
            fields,
            timeout_ms: self.snapshot.settings.timeouts.tcp(tcp::State::None),
            control,
        })
    }

    /// The scheduler's choice.
    fn choose<'o, A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'o, A>,
    ) -> Result<&'o Candidate, Refusal> {
        let key = &opening.packet.key;
        frame.observe(Event::Choosing {
            service: opening.service.id,
            client: (key.source.to_ip(), key.source_port),
            destination: key.destination.to_ip(),
        });
        let chosen = sched::pick(
            opening.service,
            opening.own,
            self.blocks,
            &self.snapshot.reals,
            &Ask::of(&opening.packet.key, self.now),
            &mut self.state.sched,
        );
        frame.observe(Event::Chosen(chosen.map(|candidate| candidate.real)));
        chosen.ok_or(NOBODY)
    }

    /// The client's real server, as its template says; the client has a template afterwards, and
    /// its time begins anew. Weight and thresholds don't matter (reference B.6).
    fn remembered<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
        persistence: Persistence,
    ) -> Result<(RealId, Control), Refusal> {
        let key = template::key(&opening.packet.key, opening.by, persistence.mask);
        let slot = match self.template(frame, &key, opening.service) {
            Some(slot) => slot,
            None => self.remember(frame, opening, key, persistence.timeout_ms)?,
        };
        let entry = A::table(self.state).entry_mut(slot);
        entry.last_seen = self.now;
        Ok((entry.real_id, Control::By(slot)))
    }

    /// The template with this key whose real server may still be had.
    fn template<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        key: &Key<A>,
        service: &Service,
    ) -> Option<Slot> {
        use observe::Template;
        let table = A::table(self.state);
        match table.find_template(key, self.now) {
            Found::Live(slot, _) => {
                let entry = table.entry_mut(slot);
                let real = self.snapshot.reals.get(entry.real_id.0);
                let ends_at_0 = service.asks.expire_quiescent
                    || self.snapshot.settings.expire_quiescent_template;
                let stays = |real: &Real| real.is_available() && !(ends_at_0 && real.quiescent);
                if real.is_some_and(stays) {
                    frame.observe(Event::Template(Template::Live(entry)));
                    return Some(slot);
                }
                entry.flags.put(Flags::INVALID, true);
                frame.observe(Event::Template(Template::Invalid(entry)));
                None
            }
            Found::Over(slot) => {
                frame.observe(Event::Template(Template::Over));
                self.end::<A>(slot);
                None
            }
            Found::Nothing => {
                frame.observe(Event::Template(Template::None));
                None
            }
        }
    }

    /// Makes a template for the scheduler's choice.
    fn remember<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
        key: Key<A>,
        timeout_ms: u32,
    ) -> Result<Slot, Refusal> {
        let real_id = self.choose(frame, opening)?.real;
        let real = self.snapshot.reals.get(real_id.0).ok_or(NOBODY)?;
        let block = self.blocks.reals.get(real_id.0).ok_or(NOBODY)?;
        let address = A::from_ip(real.address).unwrap_or_default();
        let port = if key.destination_port == 0 {
            0
        } else {
            real.port
        };
        let (fields, _) = opening.service.owners.current();
        let new = New {
            key,
            real: (address, port),
            local: (key.source, 0),
            method: Method::Local,
            real_id,
            service: opening.service.id,
            fields,
            timeout_ms,
            control: Control::Template,
        };
        let slot = A::table(self.state)
            .insert(&new, self.now)
            .map_err(|_| Reason::TableFull)?;
        block.persistent.up();
        Ok(slot)
    }

    /// Makes the connection.
    fn keep<A: Stored>(&mut self, opening: &Opening<'_, A>, new: &New<A>) -> Result<Slot, Full> {
        let slot = A::table(self.state).insert(new, self.now)?;
        self.return_to_sender::<A>(slot, opening.port, new.method);
        if new.method.hides_client() {
            let protocol = opening.packet.key.protocol;
            self.begin_telling::<A>(slot, protocol, opening.service.telling);
        }
        self.count_new(opening, new.real_id);
        opening.own.made_under[usize::from(new.fields.0)].up();
        Ok(slot)
    }

    /// Has the connection's replies go where its packets come from, if the port wants that: the
    /// packet that opens it is the first to be noted.
    fn return_to_sender<A: Stored>(&mut self, slot: Slot, port: PortId, method: Method) {
        let view = self.snapshot.ports.get(usize::from(port.0));
        let table = A::table(self.state);
        let wanted = view.is_some_and(|view| view.to_sender);
        if wanted && method.is_two_way() && table.senders.are_kept() {
            table.senders.forget(slot);
            table.entry_mut(slot).flags.put(Flags::TO_SENDER, true);
        }
    }

    fn count_new<A>(&self, opening: &Opening<'_, A>, real_id: RealId) {
        let reals = &self.snapshot.reals;
        if let (Some(block), Some(real)) = (self.blocks.reals.get(real_id.0), reals.get(real_id.0))
        {
            block.inactive.up();
            thresholds::bind(block, self.blocks.others.get(real_id.0), real.limits);
            block.traffic.connections.add(1);
        }
        opening.own.traffic.connections.add(1);
        self.counters.connections_made.add(1);
    }

    /// Sends a packet by a connection that is not kept: it is counted, and counted out again.
    fn once<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
        new: &New<A>,
    ) -> Result<Verdict, Refusal> {
        self.foreseen.opens_nothing();
        let real = self.snapshot.reals.get(new.real_id.0).ok_or(NOBODY)?;
        let block = self.blocks.reals.get(new.real_id.0).ok_or(NOBODY)?;
        frame.observe(Event::Opened);
        self.count_new(opening, new.real_id);
        block.inactive.down();
        thresholds::unbind(block, self.blocks.others.get(new.real_id.0), real.limits);
        self.counters.connections_ended.add(1);
        self.pass(frame, opening, new)
    }

    /// Sends a client's packet to a real server without a connection.
    fn pass<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        opening: &Opening<'_, A>,
        new: &New<A>,
    ) -> Result<Verdict, Refusal> {
        let packet = opening.packet;
        let entry = new.entry(self.now);
        frame.observe(Event::of(&entry, Side::Client));
        let real = self.snapshot.reals.get(new.real_id.0).ok_or(NOBODY)?;
        let block = self.blocks.reals.get(new.real_id.0).ok_or(NOBODY)?;
        block.traffic.inbound(packet.shape.length);
        opening.own.traffic.inbound(packet.shape.length);
        let Some(hop) = real.forwarder.hop() else {
            return Ok(Verdict::Punt(PuntClass::Local));
        };
        let telling = opening.service.telling;
        let told = new.method.hides_client() && telling.applies(packet.key.protocol);
        if let Forwarder::Nat64 { .. } = real.forwarder {
            let tell = match told && !packet.later {
                true => Tell::Datagram(telling),
                false => Tell::Nothing,
            };
            return self.send_as_ipv4(frame, packet, (tell, &entry), hop, opening.port);
        }
        let hop = Towards::Hop(hop);
        let mut way = way::<A>(self.snapshot, packet.shape, hop, real.forwarder.overhead())?;
        frame.observe(way.event(hop));
        if packet.flags.syn() {
            self.clamp::<A, F>(frame, new.service, &real.forwarder, way.mtu);
        }
        if told && !packet.later {
            // Each datagram is the first of its connection.
            self.tell_datagram(frame, packet, &entry, telling, &mut way);
        }
        let outer = self.outer(&real.forwarder, way.cut);
        real.forwarder.to_real(frame, &entry, way.link, outer)?;
        Ok(self.by(&way, &real.forwarder))
    }

    /// A local address of the real server's family, and a port, whose replies come to this
    /// worker.
    fn local<A: Stored, B: Stored>(
        &mut self,
        opening: &Opening<'_, A>,
        real: (B, u16),
    ) -> Result<(B, u16), Refusal> {
        let (state, nat64, now) = (&*self.state, self.snapshot.nat64, self.now);
        let is_free = |reply: &Key<B>| state.is_free(reply, nat64, now);
        let mut turn = opening.own.local_turn.get();
        let addresses = B::locals(&opening.service.locals);
        let protocol = opening.packet.key.protocol;
        let chosen = self
            .me
            .locals
            .choose(addresses, &mut turn, real, protocol, is_free);
        opening.own.local_turn.set(turn);
        chosen.ok_or(Reason::NoLocalPort.into())
    }

    /// A flow that no service takes: the VIP's rule, or the director's own business.
    pub(super) fn unclaimed<A: Stored>(&mut self, packet: &Packet<A>) -> Verdict {
        if let Some(verdict) = self.tell_real(packet) {
            return verdict;
        }
        let destination: IpAddr = packet.key.destination.to_ip();
        match self.snapshot.addresses.get(destination) {
            Some(Owned::Vip {
                unmatched: Unmatched::Kernel,
                ..
            }) => Verdict::Punt(PuntClass::Unmatched),
            Some(Owned::Vip {
                unmatched: Unmatched::Reject,
                ..
            }) => self.refused(
                Refusal(Reason::NoService, Some(Kind::PortUnreachable)),
                &packet.key,
            ),
            Some(Owned::Vip {
                unmatched: Unmatched::Drop,
                ..
            }) => Verdict::Drop(Reason::NoService),
            Some(Owned::Local) => Verdict::Drop(Reason::NoConnection),
            Some(Owned::Director) => Verdict::Punt(local_class(&packet.key)),
            None => Verdict::Punt(PuntClass::Other),
        }
    }

    /// With `nat_icmp_send`: what becomes of a NAT real server's packet whose connection nobody
    /// knows. A RST, and SCTP's ABORT, are let by.
    fn tell_real<A: Stored>(&mut self, packet: &Packet<A>) -> Option<Verdict> {
        let Key {
            source,
            source_port,
            protocol,
            ..
        } = packet.key;
        let real = source.to_ip();
        let is_known = || {
            let services = self.snapshot.nat_reals.find(protocol, real, source_port);
            services.count() > 0
        };
        if !self.snapshot.settings.nat_icmp_send || packet.flags.rst() || !is_known() {
            return None;
        }
        let source = self.snapshot.addresses.director_near(real);
        let kind = Kind::PortUnreachable;
        self.aside = source.map(|source| Aside::Reply(Reply { kind, source }));
        Some(Verdict::Drop(Reason::NoConnection))
    }
}

/// What opens a connection.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a, A> {
    pub(super) packet: &'a Packet<A>,
    pub(super) service: &'a Service,
    pub(super) own: &'a ServiceBlock,
    by: By,
    /// The port that it came by.
    port: PortId,
}

/// Whether nobody but the service's own owners can have a packet's connection that it takes by `by`:
/// a mark's packet, or one for any port of a VIP, may be a real server's answer.
#[inline]
fn is_alone(service: &Service, by: By) -> bool {
    by == By::Port && service.owners.rivals().is_empty()
}

/// Why the service takes nothing from the packet's client, if it doesn't (reference C.8).
fn refusal<A: Stored>(service: &Service, by: By, key: &Key<A>) -> Option<Reason> {
    let reason = service.asks.access.refusal(|| key.source.to_ip())?;
    service.takes(by).then_some(reason)
}

/// Whether a packet may open a connection (reference B.1).
fn may_open<A>(packet: &Packet<A>, settings: &Settings) -> bool {
    let flags = packet.flags;
    let opens = match Protocol(packet.key.protocol) {
        Protocol::TCP => settings.sloppy_tcp || flags.syn(),
        Protocol::SCTP => settings.sloppy_sctp && flags.0 != 0 || flags.syn(),
        _ => true,
    };
    !packet.later && opens && !flags.rst()
}

/// Where the frame goes, if it is not for this worker.
pub(super) fn elsewhere(next: Next) -> Option<Verdict> {
    match next {
        Next::Go(worker, step) => Some(Verdict::HandOver(worker, step)),
        Next::Astray => Some(Verdict::Drop(Reason::Astray)),
        Next::Here => None,
    }
}

fn local_class<A>(key: &Key<A>) -> PuntClass {
    let ports = [key.source_port, key.destination_port];
    let routing = match Protocol(key.protocol) {
        Protocol::TCP => ports.contains(&BGP),
        Protocol::SCTP => false,
        _ => BFD.contains(&key.destination_port),
    };
    if routing {
        PuntClass::Routing
    } else {
        PuntClass::Local
    }
}
