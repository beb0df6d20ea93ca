//! What control prepares of a scheduler, away from the workers.

use std::net::IpAddr;

use super::mh::{Member, Mh, Size};
use super::ranks::Ranks;
use super::rr::Rr;
use super::sh::Sh;
use super::twos::Twos;
use super::wrr::Wrr;
use super::{Rule, Scheduler};

/// The schedulers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    Wlc,
    /// Source hashing.
    Sh,
    /// Destination hashing.
    Dh,
    /// Locality-based least connections.
    Lblc,
    /// Locality-based least connections with replication.
    Lblcr,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Maglev hashing.
    Mh,
    /// Power of two choices.
    Twos,
}

impl Kind {
    /// Every scheduler.
    pub const ALL: [Self; 14] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sh,
        Self::Dh,
        Self::Lblc,
        Self::Lblcr,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Mh,
        Self::Twos,
    ];
}

/// What `sh` and `mh` can be told; the others pay no attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags {
    /// `sh-fallback`, `mh-fallback`: an unavailable real server's clients go to others.
    pub fallback: bool,
    /// `sh-port`, `mh-port`: the client's port counts too.
    pub port: bool,
}

/// A real server, as the preparation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port, as configured.
    pub port: u16,
    /// 0..=65535.
    pub weight: u32,
    /// The last weight above 0 that it was given, whatever the scheduler was then; 0 if
    /// there was none.
    pub last_weight: u32,
}

/// What a scheduler is prepared from.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// Which scheduler.
    pub kind: Kind,
    /// Its flags.
    pub flags: Flags,
    /// How many slots `mh` has.
    pub mh_size: Size,
    /// How many workers there are, at least 1.
    pub workers: u16,
    /// The revision of the service that this is for: above 0, and higher than those before.
    pub revision: u64,
    /// The real servers in the order of the service's candidates: newest first.
    pub backends: &'a [Backend],
}

impl Scheduler {
    /// Prepares the scheduler of a service: after the service or one of its real servers was
    /// added, removed or edited. `previous` is what the service had before; `None` if it is
    /// new, even where an older service had the same slot.
    pub fn prepare(previous: Option<&Self>, spec: &Spec<'_>) -> Self {
        let same = previous.filter(|previous| previous.kind == spec.kind);
        Self {
            since: same.map_or(spec.revision, |previous| previous.since),
            kind: spec.kind,
            flags: spec.flags,
            rule: rule(spec),
        }
    }

    /// Which scheduler it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Octets of the table that all workers share; 0 if there is none.
    pub fn table_octets(&self) -> usize {
        match &self.rule {
            Rule::Mh(mh) => mh.octets(),
            _ => 0,
        }
    }
}

fn rule(spec: &Spec<'_>) -> Rule {
    match spec.kind {
        Kind::Rr => Rule::Rr(Rr {
            workers: spec.workers,
        }),
        Kind::Wrr => Rule::Wrr(Wrr::of(&weights(spec), spec.workers)),
        Kind::Lc => Rule::Lc,
        Kind::Wlc => Rule::Wlc,
        Kind::Sh => Rule::Sh(Sh::of(&weights(spec))),
        Kind::Dh => Rule::Dh,
        Kind::Lblc => Rule::Lblc,
        Kind::Lblcr => Rule::Lblcr,
        Kind::Sed => Rule::Sed,
        Kind::Nq => Rule::Nq,
        Kind::Fo => Rule::Fo(Ranks::of(&weights(spec))),
        Kind::Ovf => Rule::Ovf(Ranks::of(&weights(spec))),
        Kind::Mh => Rule::Mh(Mh::of(&members(spec), spec.mh_size)),
        Kind::Twos => Rule::Twos(Twos::of(&weights(spec))),
    }
}

fn weights(spec: &Spec<'_>) -> Vec<u32> {
    spec.backends.iter().map(|backend| backend.weight).collect()
}

fn members(spec: &Spec<'_>) -> Vec<Member> {
    let member = |backend: &Backend| Member {
        address: backend.address,
        port: backend.port,
        last_weight: backend.last_weight,
    };
    spec.backends.iter().map(member).collect()
}
