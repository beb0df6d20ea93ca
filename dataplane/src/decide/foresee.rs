//! Memory that openings to come will ask for, fetched before their turn.
//!
//! Which bucket has room for the reply of a NAT connection, its client and the real server that is
//! chosen for it say together, and FULLNAT's the local port and the real server: before the
//! choice nobody knows, and what is left to do after it takes less time than memory. But
//! what a scheduler will choose can be guessed ([`Likely`]). So an opening fetches what the next
//! ones will likely want. A wrong guess costs time and nothing else: the table is only read here.

use arrayvec::ArrayVec;
use wire::Protocol;

use super::Context;
use super::miss::Opening;
use crate::conn::{Guess, Key};
use crate::fwd::Forwarder;
use crate::parse::{Packet, Parsed, Parses};
use crate::sched::{Ask, Likely};
use crate::services::{Candidate, Real, Service, ServiceId};
use crate::state::Stored;

/// Frames behind an opening whose replies are foreseen. The more, the fewer begin without; but the
/// later is noticed that a guess was wrong.
const WINDOW: usize = 16;
/// Services whose openings are foreseen within a window.
const SERVICES: usize = 4;

/// How far into a burst NAT's openings are foreseen.
#[derive(Clone, Debug, Default)]
pub struct Foreseen {
    /// What the frame just decided opened a connection of, and whom that went to.
    opened: Option<(ServiceId, Candidate)>,
    /// Frames of the burst before this place are.
    end: usize,
    /// Where they open connections of these services.
    services: ArrayVec<ServiceId, SERVICES>,
}

impl Foreseen {
    /// Notes that a connection is being opened whose reply comes to the client's own address.
    #[inline]
    pub(super) fn opens(&mut self, service: &Service, chosen: &Candidate) {
        self.opened = Some((service.id, *chosen));
    }

    /// Notes that it is not kept after all: then the next will hardly be, either.
    #[inline]
    pub(super) fn opens_nothing(&mut self) {
        self.opened = None;
    }

    /// Whether an opening at `at` is the one that looks ahead for its service.
    #[inline]
    fn begins(&mut self, at: usize, service: ServiceId) -> bool {
        if at + 1 >= self.end {
            self.services.clear();
            self.end = at + 1 + WINDOW;
        }
        !self.services.contains(&service) && self.services.try_push(service).is_ok()
    }
}

impl Context<'_> {
    /// Forgets the burst before.
    #[inline]
    pub fn begin_burst(&mut self) {
        self.foreseen.end = 0;
    }

    /// Fetches where the replies of the burst's next NAT connections will stand, once the frame at
    /// `at` has opened one.
    #[inline]
    pub(super) fn foresee(&mut self, parses: &Parses, at: usize) {
        if let Some((service, chosen)) = self.foreseen.opened.take()
            && self.foreseen.begins(at, service)
        {
            self.foresee_replies(parses, at, service, &chosen);
        }
    }

    #[inline(never)]
    fn foresee_replies(&self, parses: &Parses, at: usize, service: ServiceId, chosen: &Candidate) {
        let Some(service) = self.snapshot.services.get(service.0) else {
            return;
        };
        let likely = Likely::after(service, chosen);
        let frames = &parses.frames[at..];
        let behind = frames.get(1..self.foreseen.end - at).or(frames.get(1..));
        let behind = behind.unwrap_or_default();
        match &frames[0] {
            Parsed::V4(first) => {
                let others = behind.iter().filter_map(|parsed| match parsed {
                    Parsed::V4(packet) => Some(packet),
                    _ => None,
                });
                self.foresee_each(first, others, likely);
            }
            Parsed::V6(place) => {
                let others = behind.iter().filter_map(|parsed| match parsed {
                    Parsed::V6(place) => parses.v6.get(usize::from(*place)),
                    _ => None,
                });
                self.foresee_each(&parses.v6[usize::from(*place)], others, likely);
            }
            _ => {}
        }
    }

    #[inline]
    fn foresee_each<'p, A: Stored>(
        &self,
        first: &Packet<A>,
        others: impl Iterator<Item = &'p Packet<A>>,
        mut likely: Likely<'_>,
    ) {
        for packet in others.filter(|other| opens_alike(first, other)) {
            let Some(chosen) = likely.next(Some(&Ask::of(&packet.key, self.now))) else {
                return;
            };
            if let Some(real) = self.snapshot.reals.get(chosen.real.0)
                && let Forwarder::Nat { .. } = real.forwarder
                && let Some(reply) = reply(real, &packet.key)
            {
                A::seen(self.state).prefetch_insertion(&reply);
            }
        }
    }

    /// Fetches what the service's next connection will ask for: whether its first local port is
    /// free, towards the real server that the scheduler likely chooses after `chosen`.
    pub(super) fn foresee_local<A: Stored, B: Stored>(
        &self,
        opening: &Opening<'_, A>,
        chosen: Option<&Candidate>,
    ) {
        let service = opening.service;
        let next = chosen.and_then(|chosen| Likely::after(service, chosen).next::<A>(None));
        let Some(real) = next.and_then(|next| self.snapshot.reals.get(next.real.0)) else {
            return;
        };
        let Some(address) = B::from_ip(real.address) else {
            return;
        };
        let key = &opening.packet.key;
        let port = port(real, key);
        let turn = opening.own.local_turn.get();
        let (locals, addresses) = (&self.me.locals, B::locals(&service.locals));
        if let Some(reply) = locals.first(addresses, turn, (address, port), key.protocol) {
            self.state.prefetch_reply(&reply, self.snapshot.nat64);
        }
    }
}

/// Whether a packet likely opens a connection of the service of which `first` opened one.
#[inline]
fn opens_alike<A: Stored>(first: &Packet<A>, packet: &Packet<A>) -> bool {
    let (key, other) = (&first.key, &packet.key);
    let is_tcp = other.protocol == Protocol::TCP.0;
    packet.guess == Guess::NONE
        && other.destination == key.destination
        && other.destination_port == key.destination_port
        && other.protocol == key.protocol
        && (packet.flags.syn() || !is_tcp)
}

/// What a NAT real server answers the packet with this tuple by, if it is of that one's family.
#[inline]
fn reply<A: Stored>(real: &Real, key: &Key<A>) -> Option<Key<A>> {
    Some(Key {
        source: A::from_ip(real.address)?,
        destination: key.source,
        source_port: port(real, key),
        destination_port: key.source_port,
        protocol: key.protocol,
    })
}

/// The port that a real server has for a packet that no template speaks for.
#[inline]
fn port<A>(real: &Real, key: &Key<A>) -> u16 {
    match real.port {
        0 => key.destination_port,
        port => port,
    }
}
