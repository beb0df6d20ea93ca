//! What a scheduler sees of each real server, for people: off the packet path.

use super::{Kind, Pool};
use crate::services::{Blocks, RealId, Service};

/// What a service's scheduler sees of one real server now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub real: RealId,
    /// 0..=65535; 0 takes no new connections.
    pub weight: u32,
    /// Active connections of all workers, those of the others as of the last sum.
    pub active: u32,
    /// The other connections.
    pub inactive: u32,
    /// Whether a threshold keeps new connections away.
    pub is_overloaded: bool,
    /// What the scheduler compares (before it divides by the weight, where it does); `None` if
    /// connections don't matter to it.
    pub load: Option<u64>,
}

impl Standing {
    /// Whether it may be chosen for a new connection at all.
    pub fn is_available(&self) -> bool {
        self.weight > 0 && !self.is_overloaded
    }
}

/// The real servers of `service` as the worker of `blocks` sees them, newest first.
pub fn standings<'a>(
    service: &'a Service,
    blocks: &'a Blocks,
) -> impl Iterator<Item = Standing> + 'a {
    let pool = Pool {
        candidates: &service.candidates,
        blocks,
    };
    let kind = service.scheduler.kind();
    (0..pool.len()).map(move |at| Standing {
        real: pool.candidates[at].real,
        weight: pool.weight(at),
        active: pool.active(at),
        inactive: pool.counts(at).inactive(),
        is_overloaded: pool.is_overloaded(at),
        load: load(kind, &pool, at),
    })
}

fn load(kind: Kind, pool: &Pool<'_>, at: usize) -> Option<u64> {
    let counts = pool.counts(at);
    match kind {
        Kind::Lc | Kind::Wlc | Kind::Lblc | Kind::Lblcr | Kind::Twos => Some(counts.overhead()),
        Kind::Sed | Kind::Nq => Some(u64::from(counts.active()) + 1),
        Kind::Ovf => Some(counts.active().into()),
        Kind::Rr | Kind::Wrr | Kind::Sh | Kind::Dh | Kind::Fo | Kind::Mh => None,
    }
}
