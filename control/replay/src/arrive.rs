//! Which worker a frame comes to, as a NIC with receive-side scaling would have it.

use control::trace::by_addresses;
use dataplane::owner::{Fields, Steering};
use dataplane::port::WorkerId;

use crate::flow::Flow;

/// Which worker a frame comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Arrive {
    /// The one that a NIC chooses by the hash of addresses and ports.
    #[default]
    Rss,
    /// Frame n to worker n mod workers: everything is handed over that can be.
    Spread,
}

impl Arrive {
    /// The worker of packet `n`.
    pub(crate) fn worker(self, steering: &Steering, n: u64, bytes: &[u8]) -> u16 {
        let workers = steering.workers();
        match self {
            _ if workers == 1 => 0,
            Self::Spread => u16::try_from(n % u64::from(workers)).expect("below 2^16"),
            Self::Rss => hashed(steering, bytes).map_or(0, |worker| worker.0),
        }
    }
}

fn hashed(steering: &Steering, bytes: &[u8]) -> Option<WorkerId> {
    match Flow::of(bytes) {
        Some(Flow::V4(key)) => Some(steering.owner(Fields::Tuple, &key)),
        Some(Flow::V6(key)) => Some(steering.owner(Fields::Tuple, &key)),
        None => by_addresses(steering, bytes),
    }
}
