//! IP that belongs to no flow of its own: echoes and errors of ICMP, and what is for the
//! director.

use std::net::IpAddr;

use wire::Protocol;

use super::{Context, Origin, Refusal, real_of, way};
use crate::conn::{Found, Side};
use crate::fwd::icmp::{self, Embedded};
use crate::observe::Event;
use crate::parse::{Shape, class};
use crate::port::Frame;
use crate::reply;
use crate::services::{Owned, Towards, Unmatched};
use crate::state::Stored;
use crate::verdict::{PuntClass, Reason, Verdict};

impl Context<'_> {
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
        let about = icmp::embedded::<A>(frame.bytes())?;
        let table = A::table(self.state);
        let found = table.find(table.hash(&about.key), &about.key, self.now);
        let Found::Live(slot, side) = found else {
            return self.error_elsewhere(frame, &about, origin);
        };
        let entry = *table.entry(slot);
        frame.observe(Event::of(&entry, side));
        let passed = match side {
            Side::Client => self.error_inbound(frame, &entry, &about),
            Side::Real => self.error_outbound(frame, &entry, &about),
        };
        Some(passed.unwrap_or_else(|refusal| self.refused(refusal, &about.key)))
    }

    /// The worker that may know the connection, but never one to make it.
    fn error_elsewhere<A: Stored, F: Frame>(
        &self,
        frame: &mut F,
        about: &Embedded<A>,
        origin: Origin,
    ) -> Option<Verdict> {
        let Origin { port, step, .. } = origin;
        match self.service_of(frame, &about.key, port) {
            Some((service, _)) => {
                let next = service
                    .owners
                    .next(&self.me.steering, &about.key, self.me.id, step);
                super::miss::elsewhere(next)
            }
            None => self.elsewhere(&about.key, step),
        }
    }

    fn error_inbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        entry: &crate::conn::Entry<A>,
        about: &Embedded<A>,
    ) -> Result<Verdict, Refusal> {
        let real = real_of(self.snapshot, entry)?;
        let Some(hop) = real.forwarder.hop() else {
            return Ok(Verdict::Punt(PuntClass::Local));
        };
        let hop = Towards::Hop(hop);
        let way = way(self.snapshot, shape(about), hop, real.forwarder.overhead())?;
        frame.observe(way.event(hop));
        let outer = self.outer(&real.forwarder);
        real.forwarder
            .error_to_real(frame, entry, way.link, outer)?;
        Ok(self.by(&way))
    }

    fn error_outbound<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        entry: &crate::conn::Entry<A>,
        about: &Embedded<A>,
    ) -> Result<Verdict, Refusal> {
        let real = real_of(self.snapshot, entry)?;
        let hop = self.towards(entry.client.to_ip(), u32::from(entry.client_port))?;
        let way = way(self.snapshot, shape(about), hop, 0)?;
        frame.observe(way.event(hop));
        real.forwarder.error_to_client(frame, entry, way.link)?;
        Ok(self.by(&way))
    }
}

fn shape<A>(about: &Embedded<A>) -> Shape {
    Shape {
        length: u32::from(about.length),
        ttl: about.ttl,
        dont_fragment: about.dont_fragment,
    }
}
