//! What somebody who follows a frame through the pipeline is told.
//!
//! A frame that cares implements [`Frame::observe`](crate::port::Frame::observe); for all
//! others it is nothing, and compiles to nothing: the frames of production pay no instruction
//! for what a replay shows.

use crate::conn::{Entry, Side};
use crate::services::{RealId, ServiceId};
use crate::verdict::Verdict;

/// One thing that happened to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker took it in: whatever happens until the next such event happens because of it.
    Begins,
    /// A service takes it; it belongs to no connection yet.
    Service(ServiceId),
    /// It opened a connection.
    Opened,
    /// It belongs to a connection.
    Connection {
        /// The connection's service.
        service: ServiceId,
        /// The connection's real server.
        real: RealId,
        /// Where it came from.
        side: Side,
    },
    /// What becomes of it; of several the last one counts. A frame that is kept for a while
    /// hears none until it is let go.
    Decided(Verdict),
}

impl Event {
    /// A packet of this connection came from `side`.
    #[inline]
    pub fn of<A>(entry: &Entry<A>, side: Side) -> Self {
        Self::Connection {
            service: entry.service,
            real: entry.real_id,
            side,
        }
    }
}
