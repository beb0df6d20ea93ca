//! What a worker keeps for all schedulers together, apart from the two words it has for each
//! service: who it is, random numbers, and what it remembers of destinations.

use super::Known;
use super::cache::Cache;
use super::lblcr::Sets;
use super::random::{Random, mix};
use crate::port::WorkerId;
use crate::time::Millis;

/// How long `lblc` and `lblcr` remember, in milliseconds (`lblc_expiration` and
/// `lblcr_expiration` of IPVS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expirations {
    /// A destination that nobody asked for so long is forgotten.
    pub lblc_ms: u32,
    /// The same for `lblcr`; and a set that stayed the same for so long shrinks.
    pub lblcr_ms: u32,
}

impl Default for Expirations {
    /// A day.
    fn default() -> Self {
        const DAY_MS: u32 = 24 * 60 * 60 * 1000;
        Self {
            lblc_ms: DAY_MS,
            lblcr_ms: DAY_MS,
        }
    }
}

/// One worker's memory. All of it is taken at the start.
#[derive(Debug)]
pub struct Memory {
    pub(super) worker: WorkerId,
    pub(super) random: Random,
    pub(super) lblc: Cache<Known>,
    pub(super) lblcr: Sets,
    pub(super) expirations: Expirations,
}

impl Memory {
    /// The memory of `worker`. The same `seed`, which all workers may share, makes the same
    /// random choices.
    pub fn new(worker: WorkerId, seed: u64, now: Millis) -> Self {
        let seed = mix(seed ^ mix(u64::from(worker.0)));
        Self {
            worker,
            random: Random::new(seed),
            lblc: Cache::new(seed, now),
            lblcr: Sets::new(seed, now),
            expirations: Expirations::default(),
        }
    }

    /// Forgets what is due, at most `budget` destinations of each scheduler: once a turn.
    pub fn expire(&mut self, now: Millis, expirations: Expirations, budget: u32) {
        self.expirations = expirations;
        self.lblc.expire(now, expirations.lblc_ms, budget, drop);
        self.lblcr.expire(now, expirations.lblcr_ms, budget);
    }
}
