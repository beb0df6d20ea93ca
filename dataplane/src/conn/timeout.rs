//! How long a connection may be silent, by state (reference B.8).

use super::{sctp, tcp::State};

/// Timeouts in milliseconds. The three that `--set` changes have setters' names of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By TCP [`State`].
    pub tcp: [u32; State::ALL.len()],
    /// UDP.
    pub udp: u32,
    /// By [`sctp::State`].
    pub sctp: [u32; sctp::State::ALL.len()],
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: State::ALL.map(State::default_timeout_ms),
            udp: 300_000,
            sctp: sctp::State::ALL.map(sctp::State::default_timeout_ms),
        }
    }
}

impl Timeouts {
    /// IPVS's timeouts with ESTABLISHED, FIN_WAIT and UDP as `--set` gives them, in seconds
    /// of at most 2678400.
    pub fn with_set(tcp: u32, tcp_fin: u32, udp: u32) -> Self {
        let mut timeouts = Self::default();
        timeouts.tcp[State::Established as usize] = tcp * 1000;
        timeouts.tcp[State::FinWait as usize] = tcp_fin * 1000;
        timeouts.udp = udp * 1000;
        timeouts
    }

    /// The timeout of a TCP connection in `state`, in milliseconds.
    #[inline]
    pub fn tcp(&self, state: State) -> u32 {
        self.tcp[state as usize]
    }

    /// The timeout of an SCTP association in `state`, in milliseconds.
    #[inline]
    pub fn sctp(&self, state: sctp::State) -> u32 {
        self.sctp[state as usize]
    }
}
