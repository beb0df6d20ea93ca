//! How a packet is rewritten for its real server: one file a mode.
//!
//! A forwarder changes bytes and nothing else: no lock, no clock, no counter, and it never
//! sends.

pub mod dr;

use crate::services::HopId;

/// How packets reach a real server, with only what that mode needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// Direct routing to a neighbour.
    Dr {
        /// The real server itself: in DR it is on our link.
        hop: HopId,
    },
}

impl Forwarder {
    /// The next hop towards the real server.
    #[inline]
    pub fn hop(&self) -> HopId {
        match *self {
            Self::Dr { hop } => hop,
        }
    }
}
