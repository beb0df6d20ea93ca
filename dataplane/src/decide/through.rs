//! A packet through its connection: state, counters, rewrite, in either direction.

use wire::ethernet;

use super::way::{Way, flow_of, way};
use super::{Aside, Context, Refusal, tell};
use crate::conn::{Flags, Side, Slot};
use crate::fwd::{self, Forwarder};
use crate::observe;
use crate::parse::Packet;
use crate::port::{Frame, PortId};
use crate::services::{Real, RealBlock, RealId, ServiceId, Standing, Towards};
use crate::state::Stored;
use crate::verdict::{PuntClass, Reason, Verdict};

impl<'a> Context<'a> {
    /// Takes a client's packet through its connection: state, counters, rewrite.
    #[inline(always)]
    pub(super) fn inbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        port: PortId,
    ) -> Result<Verdict, Refusal> {
        let entry = A::table(self.state).entry(slot);
        let (real_id, service, flags) = (entry.real_id, entry.service, entry.flags);
        frame.observe(observe::Event::of(entry, Side::Client));
        let (real, block) = self.real(real_id)?;
        let forwarder = match real.standing {
            Standing::Settled => &real.forwarder,
            _ => self.forwarder_to_real(packet, slot, real)?,
        };
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

    /// A connection's real server and what is counted of it.
    #[inline(always)]
    fn real(&self, RealId(id): RealId) -> Result<(&'a Real, &'a RealBlock), Reason> {
        let real = self.snapshot.reals.get(id).ok_or(Reason::RealRemoved)?;
        let block = self.blocks.reals.get(id).ok_or(Reason::RealRemoved)?;
        Ok((real, block))
    }

    /// How a client's packet gets to a real server that is not, or not only, as it was when the
    /// connection was made, or whose service asks something of every packet.
    #[cold]
    #[inline(never)]
    pub(super) fn forwarder_to_real<'s, A: Stored>(
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

    /// Notes where a client's packet came from.
    #[cold]
    #[inline(never)]
    pub(super) fn note_sender<A: Stored>(&mut self, slot: Slot, port: PortId, frame: &[u8]) {
        if let Ok(ethernet) = ethernet::Frame::parse(frame) {
            let senders = &mut A::table(self.state).senders;
            senders.note(slot, port, ethernet.src());
        }
    }

    /// Lowers the MSS of a SYN where its service says so and the mode takes room.
    #[cold]
    pub(super) fn clamp<A: Stored, F: Frame>(
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

    /// What a tunnel needs beside the packet. What has to be cut outside may be.
    #[inline]
    pub(super) fn outer(&mut self, forwarder: &Forwarder, cut: bool) -> fwd::Outer {
        let pmtu_disc = self.snapshot.settings.pmtu_disc;
        match forwarder {
            Forwarder::Tun { .. } => self.state.outer(pmtu_disc && !cut),
            _ => fwd::Outer { id: 0, pmtu_disc },
        }
    }

    /// Sends the rewritten packet, in pieces where the link or the path wants it.
    #[inline]
    pub(super) fn by(&mut self, way: &Way, forwarder: &Forwarder) -> Verdict {
        if way.cut {
            self.aside = Some(Aside::Cut(way.mtu - forwarder.narrower()));
        }
        way.verdict
    }

    /// Takes a real server's packet back through its connection.
    #[inline]
    pub(super) fn outbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
    ) -> Result<Verdict, Refusal> {
        let entry = A::table(self.state).entry(slot);
        let (real_id, service, client) = (entry.real_id, entry.service, entry.client.to_ip());
        let flags = entry.flags;
        frame.observe(observe::Event::of(entry, Side::Real));
        let (real, block) = self.real(real_id)?;
        let forwarder = match real.standing {
            Standing::Settled => &real.forwarder,
            _ => self.forwarder_to_client(real_id, real, flags)?,
        };
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

    /// The same for a real server's packet: those of removed ones still pass, unless we are as if
    /// we were not there.
    #[cold]
    #[inline(never)]
    pub(super) fn forwarder_to_client<'s>(
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

    /// The way back to where a client's packets come from.
    #[cold]
    #[inline(never)]
    pub(super) fn back_to_sender<A: Stored>(&mut self, slot: Slot) -> Option<Towards> {
        let sender = A::table(self.state).senders.get(slot);
        sender.map(|(port, mac)| Towards::At(port, mac))
    }
}
