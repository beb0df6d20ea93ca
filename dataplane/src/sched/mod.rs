//! How a service chooses a real server for a new connection: one file a scheduler.

/// The schedulers, with what control prepared for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr(wrr::Wrr),
    /// Weighted least connections.
    Wlc,
}

pub mod wrr;
