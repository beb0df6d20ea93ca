//! A connection as it goes out: for listings, for whoever has to go on with it elsewhere.
//!
//! One form for both families and for every reader. Times are spans, not instants: the clock is
//! the worker's own.

use std::net::IpAddr;

use super::entry::{Entry, Flags};
use super::key::Address;
use crate::services::{RealId, ServiceId};
use crate::time::Millis;

/// The version of the form: grows with each change of [`Exported`]'s fields.
pub const VERSION: u16 = 1;

/// A connection or a persistence template at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The client; its port is 0 in a template.
    pub client: (IpAddr, u16),
    /// The virtual address.
    pub vip: (IpAddr, u16),
    /// The real server.
    pub real: (IpAddr, u16),
    /// Who the real server thinks it talks to: the client itself except in FULLNAT.
    pub local: (IpAddr, u16),
    /// Milliseconds that are left if no packet comes.
    pub remaining_ms: u32,
    /// Milliseconds that it may be silent.
    pub timeout_ms: u32,
    /// Where its packets go.
    pub real_id: RealId,
    /// Whose it is.
    pub service: ServiceId,
    /// Packets seen, up to 65535.
    pub packets: u16,
    /// IP protocol number; 0 for a firewall mark's template.
    pub protocol: u8,
    /// TCP and SCTP: a [`super::tcp::State`] or [`super::sctp::State`] as a number.
    pub state: u8,
    /// See [`Flags`].
    pub flags: Flags,
}

impl Exported {
    /// The entry as it is at `now`.
    pub fn new<A: Address>(entry: &Entry<A>, now: Millis) -> Self {
        Self {
            client: (entry.client.to_ip(), entry.client_port),
            vip: (entry.vip.to_ip(), entry.vip_port),
            real: (entry.real.shown(), entry.real_port),
            local: (entry.local.shown(), entry.local_port),
            remaining_ms: entry.remaining_ms(now),
            timeout_ms: entry.timeout_ms,
            real_id: entry.real_id,
            service: entry.service,
            packets: entry.packets,
            protocol: entry.ip_protocol(),
            state: entry.state,
            flags: entry.flags,
        }
    }
}
