//! How a service chooses a real server for a new connection: one file a scheduler.
//!
//! The choices are IPVS's, to the letter with one worker (reference B.2): real servers stand
//! newest first, and ties go to the first. What control can prepare is in the snapshot; what
//! a choice changes (a place in the list, a falling threshold) is in the two words that each
//! worker has for each service, or in the worker's [`Memory`].

mod bucket;
mod cache;
mod dh;
mod fo;
mod hash8;
mod lblc;
mod lblcr;
mod lc;
mod likely;
mod memory;
pub mod mh;
mod nq;
mod ovf;
mod prepare;
mod random;
mod ranks;
mod recall;
mod rr;
mod sed;
mod sh;
pub(crate) mod siphash;
mod standing;
pub mod sums;
pub mod thresholds;
mod twos;
mod wlc;
mod wrr;

#[cfg(test)]
mod shares;
#[cfg(test)]
pub(crate) mod testing;

use std::net::IpAddr;

use crate::conn::{Address, Key};
use crate::pages::Pages;
use crate::services::{Blocks, Candidate, Others, Real, RealBlock, RealId, Service, ServiceBlock};
use crate::time::Millis;

pub use bucket::{Bucket, buckets};
pub use likely::Likely;
pub use memory::{Expirations, Memory};
pub use prepare::{Backend, Flags, Kind, Spec};
pub use recall::Recall;
pub use standing::{Standing, standings};

/// A service's scheduler, with what control prepared for it ([`Scheduler::prepare`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// The revision in which the service got it: what a worker remembers from before was
    /// another scheduler's, or another service's.
    since: u64,
    kind: Kind,
    flags: Flags,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Rr(rr::Rr),
    Wrr(wrr::Wrr),
    Lc,
    Wlc,
    Sh(sh::Sh),
    Dh,
    Lblc,
    Lblcr,
    Sed,
    Nq,
    Fo(ranks::Ranks),
    Ovf(ranks::Ranks),
    Mh(mh::Mh),
    Twos(twos::Twos),
}

/// What a scheduler may look at of the packet that opens a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ask<A> {
    /// The client's address.
    pub source: A,
    /// The client's port.
    pub source_port: u16,
    /// The address that the client asked for.
    pub destination: A,
    /// The time of this turn.
    pub now: Millis,
}

impl<A: Address> Ask<A> {
    /// What the packet with this tuple asks.
    #[inline]
    pub fn of(key: &Key<A>, now: Millis) -> Self {
        Self {
            source: key.source,
            source_port: key.source_port,
            destination: key.destination,
            now,
        }
    }

    /// The client as one word.
    #[inline]
    fn client(&self, flags: Flags) -> u32 {
        let port = if flags.port { self.source_port } else { 0 };
        fold(self.source).wrapping_add(u32::from(port))
    }
}

/// An address as one word: IPv6's four are combined by exclusive or.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "one half, then the other")]
fn fold<A: Address>(address: A) -> u32 {
    let [low, high] = address.words();
    let both = low ^ high;
    both as u32 ^ (both >> 32) as u32
}

/// The same, where the family is known only now.
fn fold_ip(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => fold(address.to_bits()),
        IpAddr::V6(address) => fold(address.to_bits()),
    }
}

/// The greatest common divisor; that of nothing and a number is the number.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Chooses a real server of `service` for a new connection; `None` if none is available.
///
/// `own` is the service's block of the worker that asks, and `blocks` all of that worker's;
/// `reals` is the snapshot's table.
#[inline]
pub fn pick<'a, A: Address>(
    service: &'a Service,
    own: &ServiceBlock,
    blocks: &Blocks,
    reals: &Pages<Real>,
    ask: &Ask<A>,
    memory: &mut Memory,
) -> Option<&'a Candidate> {
    let pool = Pool {
        candidates: &service.candidates,
        blocks,
    };
    if own.revision.get() != service.revision {
        start_over(service, own, &pool, reals, memory);
    }
    let [place, threshold] = &own.words;
    let Scheduler { flags, rule, .. } = &service.scheduler;
    let at = match rule {
        Rule::Rr(_) => rr::pick(&pool, place),
        Rule::Wrr(wrr) => wrr.pick(&pool, place, threshold),
        Rule::Wlc => wlc::pick(&pool),
        Rule::Lc => lc::pick(&pool),
        Rule::Sh(sh) => sh.pick(&pool, ask.client(*flags), flags.fallback),
        Rule::Dh => dh::pick(&pool, fold(ask.destination)),
        Rule::Lblc => lblc::pick(&pool, &mut memory.lblc, key(service, ask), ask.now),
        Rule::Lblcr => {
            let expiration_ms = memory.expirations.lblcr_ms;
            let sets = &mut memory.lblcr;
            sets.pick(&pool, key(service, ask), expiration_ms, ask.now)
        }
        Rule::Sed => sed::pick(&pool),
        Rule::Nq => nq::pick(&pool),
        Rule::Fo(ranks) => fo::pick(&pool, ranks),
        Rule::Ovf(ranks) => ovf::pick(&pool, ranks),
        Rule::Mh(mh) => mh.pick(&pool, ask.client(*flags), flags.fallback),
        Rule::Twos(twos) => twos.pick(&pool, &mut memory.random),
    };
    at.map(|at| &service.candidates[at])
}

/// The first choice after the service or one of its real servers was added, removed or
/// edited.
#[cold]
#[inline(never)]
fn start_over(
    service: &Service,
    own: &ServiceBlock,
    pool: &Pool<'_>,
    reals: &Pages<Real>,
    memory: &Memory,
) {
    let [place, threshold] = &own.words;
    let scheduler = &service.scheduler;
    if own.revision.get() < scheduler.since {
        place.set(0);
        threshold.set(0);
    }
    own.revision.set(service.revision);
    match &scheduler.rule {
        Rule::Rr(rr) => rr.start_over(pool, memory.worker.0, place),
        Rule::Wrr(wrr) => wrr.start_over(pool, memory.worker.0, place, threshold),
        _ => {}
    }
    for candidate in &service.candidates {
        let slot = candidate.real.0;
        if let (Some(block), Some(real)) = (pool.blocks.reals.get(slot), reals.get(slot)) {
            thresholds::edited(block, real.limits);
        }
    }
}

/// What the worker remembers a destination by.
#[inline]
fn key<A: Address>(service: &Service, ask: &Ask<A>) -> cache::Key {
    key_of(service, ask.destination.words())
}

#[inline]
fn key_of(service: &Service, address: [u64; 2]) -> cache::Key {
    cache::Key {
        service: service.id,
        since: service.scheduler.since,
        address,
    }
}

/// A real server to be found again later, even if others came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    real: RealId,
    order: u32,
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
struct Pool<'a> {
    candidates: &'a [Candidate],
    blocks: &'a Blocks,
}

impl<'a> Pool<'a> {
    /// Real servers, available or not.
    #[inline]
    fn len(&self) -> usize {
        self.candidates.len()
    }

    #[inline]
    fn weight(&self, at: usize) -> u32 {
        self.candidates[at].weight
    }

    /// Whether a threshold keeps new connections away.
    #[inline]
    fn is_overloaded(&self, at: usize) -> bool {
        self.counts(at).is_overloaded()
    }

    #[inline]
    fn is_available(&self, at: usize) -> bool {
        self.weight(at) > 0 && !self.is_overloaded(at)
    }

    #[inline]
    fn active(&self, at: usize) -> u32 {
        self.counts(at).active()
    }

    #[inline]
    fn counts(&self, at: usize) -> Counts<'a> {
        let slot = self.candidates[at].real.0;
        Counts {
            own: self.blocks.reals.get(slot),
            others: self.blocks.others.get(slot),
        }
    }

    /// The available one with the smallest load per weight, the first of equal ones.
    /// Compares products, not quotients: exact, and no division.
    #[inline]
    fn lightest(
        &self,
        among: impl IntoIterator<Item = usize>,
        load: impl Fn(Counts<'a>) -> u64,
    ) -> Option<usize> {
        let mut best = None;
        let (mut least, mut its_weight) = (0, 0);
        for at in among {
            let (weight, counts) = (u64::from(self.weight(at)), self.counts(at));
            if weight == 0 || counts.is_overloaded() {
                continue;
            }
            let own = load(counts);
            if best.is_none() || least * weight > own * its_weight {
                (best, least, its_weight) = (Some(at), own, weight);
            }
        }
        best
    }

    /// Whether one real server has more load per weight than another.
    fn is_heavier(&self, at: usize, than: usize) -> bool {
        self.counts(than).overhead() * u64::from(self.weight(at))
            < self.counts(at).overhead() * u64::from(self.weight(than))
    }

    /// The one with the highest weight above 0 that `may` be it, the first of equal ones.
    #[inline]
    fn heaviest(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best = None;
        let mut highest = 0;
        for (at, candidate) in self.candidates.iter().enumerate() {
            // The weight first: it is at hand, and most are not the highest.
            if candidate.weight > highest && may(at) {
                (best, highest) = (Some(at), candidate.weight);
            }
        }
        best
    }

    /// What a walk down the list remembers of its last one: above 0, which is the head.
    #[inline]
    fn place(&self, at: usize) -> u32 {
        self.candidates[at].order.wrapping_add(1)
    }

    /// Where the walk goes on after `place`. One that is gone falls to its predecessor.
    #[inline]
    fn after(&self, place: u32) -> usize {
        match place.checked_sub(1) {
            None => 0,
            Some(order) => self.candidates.partition_point(|c| c.order >= order),
        }
    }

    #[inline]
    fn known(&self, at: usize) -> Known {
        let Candidate { real, order, .. } = self.candidates[at];
        Known { real, order }
    }

    /// Where it stands now; `None` if it does not belong to the service any more. One that
    /// was removed and came back has another order, which costs a walk.
    #[inline]
    fn find(&self, known: Known) -> Option<usize> {
        let at = self.candidates.partition_point(|c| c.order > known.order);
        let is_it = |candidate: &Candidate| candidate.real == known.real;
        match self.candidates.get(at) {
            Some(candidate) if is_it(candidate) => Some(at),
            _ => self.candidates.iter().position(is_it),
        }
    }
}

/// What is counted for a real server: by the worker itself, and by the others as of their
/// last sum.
#[derive(Clone, Copy, Debug)]
struct Counts<'a> {
    own: Option<&'a RealBlock>,
    others: Option<&'a Others>,
}

impl Counts<'_> {
    /// Whether a threshold keeps new connections away.
    #[inline]
    fn is_overloaded(self) -> bool {
        let Self { own, others } = self;
        own.is_some_and(|own| thresholds::is_overloaded(own, others))
    }

    /// Active connections.
    #[inline]
    fn active(self) -> u32 {
        let own = self.own.map_or(0, |own| own.active.get());
        own.saturating_add(self.others.map_or(0, |sum| sum.active.get()))
    }

    /// The other connections.
    #[inline]
    fn inactive(self) -> u32 {
        let own = self.own.map_or(0, |own| own.inactive.get());
        own.saturating_add(self.others.map_or(0, |sum| sum.inactive.get()))
    }

    /// What `lc` and `wlc` go by: an active connection counts as 256 inactive ones.
    #[inline]
    fn overhead(self) -> u64 {
        (u64::from(self.active()) << 8) + u64::from(self.inactive())
    }
}
