//! How a packet is rewritten for its real server: one file a mode.
//!
//! A forwarder changes bytes and nothing else: no lock, no clock, no counter, and it never
//! sends.

mod dr;

use wire::ethernet::Mac;

use crate::port::Frame;
use crate::services::HopId;
use crate::verdict::Reason;

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

    /// Rewrites `frame`, to be sent from the MAC `ours` to the MAC `next`.
    ///
    /// # Errors
    /// Why it can't be sent; the frame may only be dropped then.
    #[inline]
    pub fn forward<F: Frame>(&self, frame: &mut F, ours: Mac, next: Mac) -> Result<(), Reason> {
        match *self {
            Self::Dr { .. } => dr::forward(frame, ours, next),
        }
    }
}
