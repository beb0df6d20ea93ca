//! IP that belongs to no flow of its own: echoes and errors of ICMP, and what is for the
//! director.

use std::net::IpAddr;

use wire::Protocol;

use super::{Aside, Context, Origin, Refusal, way};
use crate::conn::{Entry, Flags, Found, Key, Side, Slot};
use crate::fwd::icmp::{self, AboutTunnel, Embedded};
use crate::fwd::{Family, Forwarder, Method};
use crate::observe::Event;
use crate::parse::{Shape, class};
use crate::port::Frame;
use crate::reply::{self, Kind};
use crate::services::{Owned, Snapshot, Towards, Unmatched};
use crate::state::Stored;
use crate::verdict::{PuntClass, Reason, Verdict};

impl<'a> Context<'a> {
    /// Decides about a packet without ports.
    #[cold]
    #[inline(never)]
    pub(super) fn other<F: Frame>(
        &mut self,
        frame: &mut F,
        destination: IpAddr,
        protocol: Protocol,
        origin: Origin,
    ) -> Verdict {
        let owned = self.snapshot.addresses.get(destination);
        if let Some(Owned::Vip { held: false, .. }) = owned {
            return Verdict::Drop(Reason::VipNotHeld);
        }
        let about = match protocol {
            Protocol::ICMP => self.error::<u32, F>(frame, origin),
            Protocol::ICMPV6 => self.error::<u128, F>(frame, origin),
            _ => None,
        };
        let about = about.or_else(|| match protocol {
            _ if owned != Some(Owned::Director) => None,
            Protocol::ICMP => self.tunnel_error::<u32, F>(frame, origin),
            Protocol::ICMPV6 => self.tunnel_error::<u128, F>(frame, origin),
            _ => None,
        });
        about.unwrap_or_else(|| self.not_an_error(frame, owned, protocol, origin))
    }

    fn not_an_error<F: Frame>(
        &self,
        frame: &mut F,
        owned: Option<Owned>,
        protocol: Protocol,
        origin: Origin,
    ) -> Verdict {
        let is_icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
        let is_service = matches!(owned, Some(Owned::Vip { .. } | Owned::Local));
        if is_icmp && is_service && reply::echo(frame) {
            return Verdict::Transmit(origin.port);
        }
        match owned {
            Some(Owned::Vip {
                unmatched: Unmatched::Kernel,
                ..
            }) => Verdict::Punt(PuntClass::Unmatched),
            Some(Owned::Vip { .. } | Owned::Local) => Verdict::Drop(Reason::NoService),
            Some(Owned::Director) => Verdict::Punt(class(protocol, true)),
            None => Verdict::Punt(class(protocol, false)),
        }
    }

    /// An ICMP error about a packet of a connection, to whoever sent that packet; `None` if it
    /// is none, or nobody knows the connection.
    fn error<A: Stored, F: Frame>(&mut self, frame: &mut F, origin: Origin) -> Option<Verdict> {
        if self.snapshot.nat64
            && let Some(verdict) = self.error_from_ipv4(frame, origin)
        {
            return Some(verdict);
        }
        let about = icmp::embedded::<A>(frame.bytes())?;
        let table = A::table(self.state);
        let found = table.find(table.hash(&about.key), &about.key, self.now);
        let Found::Live(slot, side) = found else {
            return self.error_elsewhere(frame, &about.key, origin);
        };
        let entry = *table.entry(slot);
        frame.observe(Event::of(&entry, side));
        let passed = match side {
            Side::Client if entry.flags.method() == Method::Nat64 => {
                self.error_as_ipv4(frame, slot, &entry)
            }
            // Only its own family's packets come from an IPv4 real server: this quote is made up.
            Side::Real if entry.flags.method() == Method::Nat64 => {
                Err(Reason::Untranslatable.into())
            }
            Side::Client => self.error_inbound(frame, slot, &entry, &about),
            Side::Real => self.error_outbound(frame, slot, &entry, &about),
        };
        Some(passed.unwrap_or_else(|refusal| self.refused(refusal, &about.key)))
    }

    /// The worker that may know the connection, but never one to make it.
    pub(super) fn error_elsewhere<A: Stored, F: Frame>(
        &self,
        frame: &mut F,
        key: &Key<A>,
        origin: Origin,
    ) -> Option<Verdict> {
        let Origin { port, step, .. } = origin;
        match self.service_of(frame, key, port) {
            Some((service, by)) => super::miss::elsewhere(self.owner(service, by, key, step)),
            None => self.elsewhere(key, step),
        }
    }

    /// An ICMP error of the family `A` about a tunnel's outer header (reference B.11): control
    /// hears of it, and the client of the packet inside is told at once, where enough of that is
    /// quoted. `None` if it is none.
    fn tunnel_error<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        origin: Origin,
    ) -> Option<Verdict> {
        let about = icmp::about_tunnel::<A>(frame.bytes())?;
        let elsewhere = if about.protocol == Protocol::IPIP {
            let unknown = self.retell::<u32>(&about);
            unknown.and_then(|key| self.error_elsewhere(frame, &key, origin))
        } else {
            let unknown = self.retell::<u128>(&about);
            unknown.and_then(|key| self.error_elsewhere(frame, &key, origin))
        };
        Some(elsewhere.unwrap_or(Verdict::Punt(PuntClass::Tunnel)))
    }

    /// Has the client told, if its packet is of a connection through this very tunnel. Gives the
    /// packet's tuple, if another worker may know that connection.
    fn retell<B: Stored>(&mut self, about: &AboutTunnel<'_>) -> Option<Key<B>> {
        let (key, dont_fragment) = icmp::quoted_flow::<B>(about.inner)?;
        let table = B::table(self.state);
        let found = table.find(table.hash(&key), &key, self.now);
        let Found::Live(slot, Side::Client) = found else {
            return Some(key);
        };
        let entry = *table.entry(slot);
        let is_told = dont_fragment || !matches!(about.kind, Kind::FragmentationNeeded { .. });
        if is_told && self.goes_through(&entry, about) {
            self.aside = Some(Aside::Retell(about.kind));
        }
        None
    }

    fn goes_through<B: Family>(&self, entry: &Entry<B>, about: &AboutTunnel<'_>) -> bool {
        let Some(real) = self.snapshot.reals.get(entry.real_id.0) else {
            return false;
        };
        let method = entry.flags.method();
        match self.snapshot.forwarder_of(entry.real_id, real, method) {
            Forwarder::Tun {
                tunnel, envelope, ..
            } => about.is_through(tunnel, *envelope),
            _ => false,
        }
    }

    fn error_inbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        slot: Slot,
        entry: &Entry<A>,
        about: &Embedded<A>,
    ) -> Result<Verdict, Refusal> {
        let forwarder = self.forwarder(entry)?;
        let Some(hop) = forwarder.hop() else {
            return Ok(Verdict::Punt(PuntClass::Local));
        };
        let hop = Towards::Hop(hop);
        let way = way::<A>(self.snapshot, shape(about), hop, forwarder.overhead())?;
        frame.observe(way.event(hop));
        if entry.flags.has(Flags::TOLD) {
            self.told_error::<A, A, F>(frame, slot, Side::Client)?;
        }
        let outer = self.outer(forwarder, way.cut);
        forwarder.error_to_real(frame, entry, way.link, outer)?;
        Ok(self.by(&way, forwarder))
    }

    fn error_outbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        slot: Slot,
        entry: &Entry<A>,
        about: &Embedded<A>,
    ) -> Result<Verdict, Refusal> {
        let forwarder = self.forwarder(entry)?;
        let back = entry.flags.has(Flags::TO_SENDER);
        let hop = match back.then(|| self.back_to_sender::<A>(slot)).flatten() {
            Some(sender) => sender,
            None => self.towards(entry.client.to_ip(), u32::from(entry.client_port))?,
        };
        let way = way::<A>(self.snapshot, shape(about), hop, 0)?;
        frame.observe(way.event(hop));
        if entry.flags.has(Flags::TOLD) {
            self.told_error::<A, A, F>(frame, slot, Side::Real)?;
        }
        forwarder.error_to_client(frame, entry, way.link)?;
        Ok(self.by(&way, forwarder))
    }

    /// How the connection's packets get to its real server.
    pub(super) fn forwarder<A>(&self, entry: &Entry<A>) -> Result<&'a Forwarder, Refusal> {
        let snapshot: &'a Snapshot = self.snapshot;
        let id = entry.real_id;
        let real = snapshot.reals.get(id.0).ok_or(Reason::RealRemoved)?;
        Ok(snapshot.forwarder_of(id, real, entry.flags.method()))
    }
}

fn shape<A>(about: &Embedded<A>) -> Shape {
    Shape {
        length: u32::from(about.length),
        ttl: about.ttl,
        dont_fragment: about.dont_fragment,
    }
}
