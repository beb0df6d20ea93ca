//! What somebody who follows a frame through the pipeline is told.
//!
//! A frame that cares implements [`Frame::observe`](crate::port::Frame::observe); for all
//! others it is nothing, and compiles to nothing: the frames of production pay no instruction
//! for what a replay or a trace shows.

use std::fmt::Debug;
use std::net::IpAddr;

use crate::conn::{Address, Entry, Flags, Side};
use crate::services::{By, RealId, ServiceId, Towards};
use crate::time::Millis;
use crate::verdict::Verdict;

/// One thing that happened to a frame.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A worker took it in: whatever happens until the next such event happens because of it.
    Begins,
    /// Its connection is ended first, and it is treated as one of none.
    Ended(Ended, &'a dyn Known),
    /// It belongs to no connection; a service was looked for by this, and perhaps found.
    Tried {
        /// By what.
        by: By,
        /// IP protocol number.
        protocol: u8,
        /// The address and port that the packet is for.
        destination: (IpAddr, u16),
        /// What was found.
        found: Option<ServiceId>,
    },
    /// A service was found, but has no use for it.
    Declined(Declined),
    /// A service takes it; it belongs to no connection yet.
    Service(ServiceId),
    /// Its client's template was looked for.
    Template(Template<'a>),
    /// The service's scheduler is about to choose.
    Choosing {
        /// For which.
        service: ServiceId,
        /// The client.
        client: (IpAddr, u16),
        /// The address that the client asked for.
        destination: IpAddr,
    },
    /// It chose.
    Chosen(Option<RealId>),
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
        /// The connection as it was before the packet.
        known: &'a dyn Known,
    },
    /// The connection is as the packet left it.
    Moved(&'a dyn Known),
    /// This is the way that it takes; nothing is rewritten yet.
    Way {
        /// The next hop.
        towards: Towards,
        /// The largest IP packet that the link takes, in octets.
        mtu: u16,
    },
    /// What becomes of it; of several the last one counts. A frame that is kept for a while
    /// hears none until it is let go.
    Decided(Verdict),
}

impl<'a> Event<'a> {
    /// A packet of this connection came from `side`.
    #[inline]
    pub fn of<A: Address>(entry: &'a Entry<A>, side: Side) -> Self {
        Self::Connection {
            service: entry.service,
            real: entry.real_id,
            side,
            known: entry,
        }
    }
}

/// Why a packet ends the connection that it was found to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its time was up.
    Over,
    /// A SYN or an INIT begins anew (`conn_reuse_mode`).
    StartsOver,
    /// Its real server was removed (`expire_nodest_conn`).
    RealRemoved,
    /// Its real server has weight 0 or was removed (`--expire-quiescent`).
    Quiescent,
}

/// Why a service that was found by its address does not take a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It comes from port 20: active FTP's data, which is never scheduled.
    FtpData,
    /// The service takes other ports than its own only from its persistent clients.
    OtherPort,
    /// It opens no connection: no SYN, or a RST.
    OpensNothing,
    /// `drop_packet` does not let it.
    Defence,
    /// The table has no room.
    NoRoom,
}

/// What became of the search for a client's template.
#[derive(Clone, Copy, Debug)]
pub enum Template<'a> {
    /// There is none.
    None,
    /// There was one, whose time was up.
    Over,
    /// There is one whose real server may not be had any more.
    Invalid(&'a dyn Known),
    /// There is one.
    Live(&'a dyn Known),
}

/// A connection or template of either family, to look at.
pub trait Known: Debug {
    /// The connection now.
    fn show(&self, now: Millis) -> Shown;
}

/// A connection or template for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// IP protocol number; 0 for a firewall mark's template.
    pub protocol: u8,
    /// The client.
    pub client: (IpAddr, u16),
    /// The virtual address.
    pub vip: (IpAddr, u16),
    /// The real server.
    pub real: (IpAddr, u16),
    /// Who the real server thinks it talks to.
    pub local: (IpAddr, u16),
    /// Where its packets go.
    pub real_id: RealId,
    /// Whose it is.
    pub service: ServiceId,
    /// TCP and SCTP: a [`tcp::State`](crate::conn::tcp::State) or
    /// [`sctp::State`](crate::conn::sctp::State) as a number.
    pub state: u8,
    /// How long it may be silent, in milliseconds.
    pub timeout_ms: u32,
    /// How much of that is left.
    pub remaining_ms: u32,
    /// Packets seen, up to 65535.
    pub packets: u16,
    /// Bits about it.
    pub flags: Flags,
    /// Whether a template controls it.
    pub controlled: bool,
    /// Connections that it controls.
    pub controls: u32,
}

impl<A: Address> Known for Entry<A> {
    fn show(&self, now: Millis) -> Shown {
        Shown {
            protocol: self.ip_protocol(),
            client: (self.client.to_ip(), self.client_port),
            vip: (self.vip.to_ip(), self.vip_port),
            real: (self.real.shown(), self.real_port),
            local: (self.local.shown(), self.local_port),
            real_id: self.real_id,
            service: self.service,
            state: self.state,
            timeout_ms: self.timeout_ms,
            remaining_ms: self.remaining_ms(now),
            packets: self.packets,
            flags: self.flags,
            controlled: self.template().is_some(),
            controls: self.controls(),
        }
    }
}
