//! Packets that change their family: between IPv6 clients and IPv4 real servers
//! ([`crate::fwd::nat64`]).
//!
//! ```text
//!   client's packet ──> its connection (IPv6) ──> way (IPv4) ──> rewritten
//!   IPv4 packet ──> unknown ──> a connection (IPv6)? ── yes ──> way (IPv6) ──> rewritten
//!                                   └─ no: as any unknown packet
//! ```

use super::tell::Tell;
use super::{Aside, Context, Origin, Refusal, Way, way};
use crate::conn::{Address, Entry, Flags, Found, Guess, Hash, Key, Side, Slot};
use crate::fwd::nat64::{self, Error, GROWTH, Refused, ToClient, ToReal};
use crate::fwd::{self, Forwarder, icmp};
use crate::observe::{Ended, Event};
use crate::parse::Packet;
use crate::port::{Frame, PortId};
use crate::reply::Kind;
use crate::services::{HopId, ServiceId, Towards};
use crate::state::Stored;
use crate::verdict::{Reason, Verdict};

impl From<Refused> for Refusal {
    fn from(Refused(reason, kind): Refused) -> Self {
        Self(reason, kind)
    }
}

impl Context<'_> {
    /// Sends a client's packet, which came by `port`, to an IPv4 real server.
    #[cold]
    #[inline(never)]
    pub(super) fn send_as_ipv4<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        (tell, entry): (Tell, &Entry<A>),
        hop: HopId,
        port: PortId,
    ) -> Result<Verdict, Refusal> {
        let mut plan = ToReal::of(frame.bytes())?;
        let towards = Towards::Hop(hop);
        let way = way::<u32>(self.snapshot, plan.shape(), towards, 0)
            .map_err(|refusal| refusal.seen_from(|mtu| mtu.saturating_add(GROWTH)))?;
        frame.observe(way.event(towards));
        let mut ahead = None;
        if tell != Tell::Nothing {
            ahead = self.tell_as_ipv4(frame, packet, (tell, entry), way)?;
            plan = ToReal::of(frame.bytes())?;
        }
        let id = self.state.outer(true).id;
        plan.apply(frame, entry, way.link, id)?;
        if packet.flags.syn() && self.clamps(entry.service) {
            let view = self.snapshot.ports.get(usize::from(port.0));
            let mtu = view.map_or(u16::MAX, |view| view.mtu);
            fwd::clamp_mss::<u32, F>(frame, nat64::mss_to_client(mtu));
        }
        self.aside = ahead.or(way.cut.then_some(Aside::Cut(way.mtu)));
        Ok(way.verdict)
    }

    /// Tells the real server by a client's packet, as it is in IPv6, for whose link there is so much
    /// more room; says what else is to be sent.
    fn tell_as_ipv4<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        (tell, entry): (Tell, &Entry<A>),
        way: Way,
    ) -> Result<Option<Aside>, Refusal> {
        let mtu = way.mtu.saturating_add(GROWTH);
        let mut room = Way { mtu, ..way };
        match tell {
            Tell::Nothing => {}
            Tell::Stream(slot) => self.told_to_real(frame, packet, slot, &mut room)?,
            Tell::Datagram(telling) => {
                self.tell_datagram(frame, packet, entry, telling, &mut room);
            }
        }
        Ok(self.aside.take())
    }

    /// Sends an IPv4 real server's packet, which came over the link of `from`, to the client.
    #[cold]
    #[inline(never)]
    pub(super) fn send_as_ipv6<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        (slot, entry): (Slot, &Entry<A>),
        towards: Towards,
        from: HopId,
    ) -> Result<Verdict, Refusal> {
        let plan = ToClient::of(frame.bytes())?;
        let way = way::<u128>(self.snapshot, plan.shape(), towards, 0)
            .map_err(|refusal| refusal.seen_from(|mtu| mtu.saturating_sub(plan.growth())))?;
        frame.observe(way.event(towards));
        let cut = plan.cut(way.mtu);
        if entry.flags.has(Flags::TOLD) {
            self.told_to_client(frame, packet, slot);
        }
        plan.apply(frame, entry, way.link, cut.is_some())?;
        if packet.flags.syn() && self.clamps(entry.service) {
            let mtu = self.mtu_towards(Towards::Hop(from));
            fwd::clamp_mss::<u128, F>(frame, nat64::mss_to_real(mtu));
        }
        self.aside = cut.map(Aside::Cut);
        Ok(way.verdict)
    }

    /// Takes an IPv4 packet through the connection of an IPv6 client, if it is one's.
    #[cold]
    #[inline(never)]
    pub(super) fn reply_from_ipv4<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
    ) -> Option<Verdict> {
        let key = packet.key.from_ipv4()?;
        let (slot, hash) = self.find_reply(frame, &key)?;
        let reply = Packet {
            key,
            hash,
            shape: packet.shape,
            flags: packet.flags,
            guess: Guess::NONE,
            plain: false,
            later: packet.later,
        };
        Some(match self.outbound::<u128, F>(frame, &reply, slot) {
            Ok(verdict) => verdict,
            Err(Refusal(Reason::RealRemoved, _)) if self.snapshot.index.is_empty() => {
                self.unclaimed(packet)
            }
            Err(refusal) => self.refused(refusal, &packet.key),
        })
    }

    /// The connection that an IPv4 real server's packet belongs to.
    fn find_reply<F: Frame>(&mut self, frame: &mut F, key: &Key<u128>) -> Option<(Slot, Hash)> {
        let table = &self.state.v6;
        let hash = table.hash(key);
        match table.find(hash, key, self.now) {
            Found::Live(slot, Side::Real) => Some((slot, hash)),
            Found::Over(slot) => {
                frame.observe(Event::Ended(Ended::Over, table.entry(slot)));
                self.end::<u128>(slot);
                None
            }
            Found::Live(_, Side::Client) | Found::Nothing => None,
        }
    }

    /// An ICMP error about what we sent to an IPv4 real server, told to the client; `None` if it
    /// is none, or nobody here knows the connection.
    pub(super) fn error_from_ipv4<F: Frame>(
        &mut self,
        frame: &mut F,
        origin: Origin,
    ) -> Option<Verdict> {
        let about = nat64::about_ours(frame.bytes())?;
        let Some((slot, _)) = self.find_reply(frame, &about.from_ipv4()?) else {
            // One of a kind that passes between the families alone: nobody else asks whose it is.
            let is_ours_alone = icmp::embedded::<u32>(frame.bytes()).is_none();
            let elsewhere = is_ours_alone.then(|| self.error_elsewhere(frame, &about, origin));
            return elsewhere.flatten();
        };
        let entry = *self.state.v6.entry(slot);
        frame.observe(Event::of(&entry, Side::Real));
        let passed = self.error_as_ipv6(frame, slot, &entry);
        Some(passed.unwrap_or_else(|refusal| self.refused(refusal, &about)))
    }

    fn error_as_ipv6<F: Frame>(
        &mut self,
        frame: &mut F,
        slot: Slot,
        entry: &Entry<u128>,
    ) -> Result<Verdict, Refusal> {
        let back = entry.flags.has(Flags::TO_SENDER);
        let towards = match back.then(|| self.back_to_sender::<u128>(slot)).flatten() {
            Some(sender) => sender,
            None => self.towards(entry.client.to_ip(), u32::from(entry.client_port))?,
        };
        let mtu = self.mtu_towards(towards);
        if entry.flags.has(Flags::TOLD) {
            self.told_error::<u128, u32, F>(frame, slot, Side::Real)?;
        }
        let error = Error::to_client(frame.bytes(), entry, mtu)?;
        let way = way::<u128>(self.snapshot, error.shape(), towards, 0)?;
        frame.observe(way.event(towards));
        error.write(frame, way.link)?;
        Ok(way.verdict)
    }

    /// An ICMP error about what we sent to the client, told to the IPv4 real server.
    pub(super) fn error_as_ipv4<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        slot: Slot,
        entry: &Entry<A>,
    ) -> Result<Verdict, Refusal> {
        let Forwarder::Nat64 { hop } = *self.forwarder(entry)? else {
            return Err(Reason::Untranslatable.into());
        };
        if entry.flags.has(Flags::TOLD) {
            self.told_error::<A, A, F>(frame, slot, Side::Client)?;
        }
        let towards = Towards::Hop(hop);
        let (mtu, id) = (self.mtu_towards(towards), self.state.outer(true).id);
        let error = Error::to_real(frame.bytes(), entry, mtu, id)?;
        let way = way::<u32>(self.snapshot, error.shape(), towards, 0)?;
        frame.observe(way.event(towards));
        error.write(frame, way.link)?;
        self.aside = way.cut.then_some(Aside::Cut(way.mtu));
        Ok(way.verdict)
    }

    /// Whether the service wants the MSS of SYNs lowered to what the links take.
    fn clamps(&self, service: ServiceId) -> bool {
        let service = self.snapshot.services.get(service.0);
        service.is_some_and(|service| service.mss_clamp)
    }

    /// The MTU of the link on the way there, in octets.
    fn mtu_towards(&self, towards: Towards) -> u16 {
        let port = match towards {
            Towards::Hop(hop) => self.snapshot.hops.get(hop.0).map(|hop| hop.port),
            Towards::Unknown(port) | Towards::At(port, _) => Some(port),
        };
        let view = port.and_then(|port| self.snapshot.ports.get(usize::from(port.0)));
        view.map_or(u16::MAX, |view| view.mtu)
    }
}

impl Refusal {
    /// As it is told in the sender's family, whose packets have another length.
    fn seen_from(self, mtu: impl FnOnce(u16) -> u16) -> Self {
        match self {
            Self(reason, Some(Kind::FragmentationNeeded { mtu: told })) => {
                let mtu = mtu(told);
                Self(reason, Some(Kind::FragmentationNeeded { mtu }))
            }
            other => other,
        }
    }
}
