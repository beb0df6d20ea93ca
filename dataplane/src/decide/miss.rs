//! A packet that the worker's own table does not know: whose is it, and may it open a
//! connection?
//!
//! Only the current owner creates. Everybody else passes the frame on, so there are never two
//! connections of one tuple, whatever queue its packets came by.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use wire::Protocol;

use super::{Context, Refusal};
use crate::conn::table::New;
use crate::conn::{Found, Key, Slot, tcp};
use crate::fwd::Forwarder;
use crate::owner::{Next, Step, next_stop};
use crate::parse::Packet;
use crate::port::WorkerId;
use crate::reply::Kind;
use crate::sched::{self, Ask, thresholds};
use crate::services::{Owned, Service, ServiceBlock, ServiceId, Snapshot, Unmatched};
use crate::state::Stored;
use crate::verdict::{PuntClass, Reason, Verdict};

/// A client's source port that IPVS never schedules: active FTP's data (reference B.1).
const FTP_DATA: u16 = 20;
/// Ports whose traffic to the director is a routing protocol's: BGP, and BFD over UDP.
const BGP: u16 = 179;
const BFD: [u16; 3] = [3784, 3785, 4784];
/// Workers that one frame may have to ask, over all services that share a NAT real server.
const MAX_STOPS: usize = 16;

impl<'a> Context<'a> {
    /// The connection that the packet opens, or what becomes of it instead.
    #[cold]
    #[inline(never)]
    pub(super) fn miss<A: Stored>(
        &mut self,
        packet: &Packet<A>,
        step: Step,
    ) -> Result<Slot, Verdict> {
        let key = &packet.key;
        let found = self.service_of(key).filter(|_| key.source_port != FTP_DATA);
        let Some(service) = found else {
            return Err(match self.elsewhere(key, step) {
                Some(verdict) => verdict,
                None => self.unclaimed(packet),
            });
        };
        if let Some(verdict) = elsewhere(service.owners.next(
            &self.me.steering,
            key,
            self.me.id,
            step,
        )) {
            return Err(verdict);
        }
        self.open(packet, service)
            .map_err(|refusal| self.refused(refusal, key))
    }

    /// The service that takes the client's packet with this tuple.
    pub(super) fn service_of<A: Stored>(&self, key: &Key<A>) -> Option<&'a Service> {
        let vip = key.destination.to_ip();
        let id = self
            .snapshot
            .index
            .find(0, key.protocol, vip, key.destination_port)?;
        let snapshot: &'a Snapshot = self.snapshot;
        snapshot.services.get(id.0).map(AsRef::as_ref)
    }

    /// Where a packet of no service's goes that a real server may have sent; `None`: nowhere,
    /// or everybody was asked.
    pub(super) fn elsewhere<A: Stored>(&self, key: &Key<A>, step: Step) -> Option<Verdict> {
        if let Some(Owned::Local) = self.snapshot.addresses.get(key.destination.to_ip()) {
            let owner = self.me.locals.reply_hash().owner(&self.me.steering, key);
            return elsewhere(next_stop(&[owner], self.me.id, step));
        }
        let stops = self.stops_of_reply(key);
        elsewhere(next_stop(&stops, self.me.id, step))
    }

    /// The workers that may own the connection of a NAT real server's packet.
    fn stops_of_reply<A: Stored>(&self, reply: &Key<A>) -> ArrayVec<WorkerId, MAX_STOPS> {
        let mut stops = ArrayVec::new();
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
                // What finds no place is not asked; only services that share a real server
                // under more than 16 kinds of ownership lose replies over it.
                let _ = stops.try_push(self.me.steering.owner(fields, &key));
            }
        }
        stops
    }

    /// Opens a connection, if a packet like this may.
    fn open<A: Stored>(&mut self, packet: &Packet<A>, service: &Service) -> Result<Slot, Refusal> {
        let is_tcp = packet.key.protocol == Protocol::TCP.0;
        if packet.later || is_tcp && (!packet.flags.syn() || packet.flags.rst()) {
            return Err(Reason::NoConnection.into());
        }
        let own = self
            .blocks
            .services
            .get(service.id.0)
            .ok_or(Reason::NoService)?;
        self.schedule(packet, service, own)
    }

    /// Chooses a real server and makes the connection.
    fn schedule<A: Stored>(
        &mut self,
        packet: &Packet<A>,
        service: &Service,
        own: &ServiceBlock,
    ) -> Result<Slot, Refusal> {
        let nobody = Refusal(Reason::NoReal, Some(Kind::PortUnreachable));
        let reals = &self.snapshot.reals;
        let ask = Ask::of(&packet.key, self.now);
        let chosen = sched::pick(
            service,
            own,
            self.blocks,
            reals,
            &ask,
            &mut self.state.sched,
        );
        let chosen = chosen.ok_or(nobody)?.real;
        let real = reals.get(chosen.0).ok_or(nobody)?;
        let block = self.blocks.reals.get(chosen.0).ok_or(nobody)?;
        let port = if real.port == 0 {
            packet.key.destination_port
        } else {
            real.port
        };
        // The tables find a tunnelled connection by the client's side alone: where the real
        // server is of the other family, its address stands in the forwarder.
        let address = A::from_ip(real.address).unwrap_or_default();
        let client = (packet.key.source, packet.key.source_port);
        let local = match real.forwarder {
            Forwarder::FullNat { .. } => self.local(packet, service, own, (address, port))?,
            _ => client,
        };
        let (fields, _) = service.owners.current();
        let new = New {
            key: packet.key,
            real: (address, port),
            local,
            two_way: real.forwarder.is_two_way(),
            real_id: chosen,
            service: service.id,
            fields,
            timeout_ms: self.snapshot.settings.timeouts.tcp(tcp::State::None),
        };
        let slot = A::table(self.state)
            .insert(&new, self.now)
            .map_err(|_| Reason::TableFull)?;
        block.inactive.up();
        thresholds::bind(block, self.blocks.others.get(chosen.0), real.limits);
        own.made_under[usize::from(fields.0)].up();
        block.traffic.connections.add(1);
        own.traffic.connections.add(1);
        self.counters.connections_made.add(1);
        Ok(slot)
    }

    /// A local address and port whose replies come to this worker.
    fn local<A: Stored>(
        &mut self,
        packet: &Packet<A>,
        service: &Service,
        own: &ServiceBlock,
        real: (A, u16),
    ) -> Result<(A, u16), Refusal> {
        let (table, now) = (A::table(self.state), self.now);
        let is_free =
            |reply: &Key<A>| matches!(table.find(table.hash(reply), reply, now), Found::Nothing);
        let mut turn = own.local_turn.get();
        let addresses = A::locals(&service.locals);
        let protocol = packet.key.protocol;
        let chosen = self
            .me
            .locals
            .choose(addresses, &mut turn, real, protocol, is_free);
        own.local_turn.set(turn);
        chosen.ok_or(Reason::NoLocalPort.into())
    }

    /// A flow that no service takes: the VIP's rule, or the director's own business.
    fn unclaimed<A: Stored>(&mut self, packet: &Packet<A>) -> Verdict {
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
        _ => BFD.contains(&key.destination_port),
    };
    if routing {
        PuntClass::Routing
    } else {
        PuntClass::Local
    }
}
