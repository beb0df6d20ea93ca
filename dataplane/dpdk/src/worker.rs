//! Workers on DPDK's queues.
//!
//! The packet path is generic over its port. It is compiled for [`Queue`] here, once, and not in each
//! program that runs it: the benchmarks time the same machine code that the daemon runs, and a profile
//! taken of one holds for the other.

use std::sync::atomic::AtomicBool;

use dataplane::time::{Clock, Millis};
use dataplane::worker::{Idle, Worker};

use crate::queue::Queue;

/// [`Worker::run`]: turns until `stop` is set.
#[inline(never)]
pub fn run(worker: &mut Worker<Queue>, stop: &AtomicBool, idle: Idle, clock: &Clock) {
    worker.run(stop, idle, clock);
}

/// [`Worker::turn`]: one look at each queue; whether there was anything to do.
#[inline(never)]
pub fn turn(worker: &mut Worker<Queue>, now: Millis) -> bool {
    worker.turn(now)
}
