//! How a packet is rewritten for its real server, and the real server's for the client: one
//! file a mode.
//!
//! A forwarder changes bytes and nothing else: no lock, no clock, no counter, and it never
//! sends. Every mode makes the packet one hop older, gives it a new envelope and cuts off what
//! Ethernet padded.

mod dr;
mod envelope;
mod family;
mod fullnat;
pub mod icmp;
mod mss;
mod nat;
pub mod nat64;
mod pass;
mod ports;
pub mod told;
mod tun;

use wire::ethernet::{Mac, Macs};
use wire::ipv4;

use crate::conn::Entry;
use crate::port::Frame;
use crate::services::HopId;
use crate::verdict::Reason;

pub use envelope::{Checksum, Envelope, Port};
pub use family::{Family, Ip, IpMut, Said};
pub use tun::Tunnel;

/// How packets reach a real server, with only what that mode needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// Direct routing to a neighbour.
    Dr {
        /// The real server itself: in DR it is on our link.
        hop: HopId,
    },
    /// Tunnelling.
    Tun {
        /// The next hop towards the real server.
        hop: HopId,
        /// The ends of the tunnel.
        tunnel: Tunnel,
        /// What is between the outer header and the packet.
        envelope: Envelope,
        /// Octets by which the path to the real server is known to be narrower than the link
        /// that it begins with.
        narrower: u16,
    },
    /// Destination NAT; replies pass us.
    Nat {
        /// The next hop towards the real server.
        hop: HopId,
    },
    /// NAT of both addresses; replies pass us.
    FullNat {
        /// The next hop towards the real server.
        hop: HopId,
    },
    /// As [`Self::FullNat`], from IPv6 clients to an IPv4 real server. Its packets go by
    /// [`nat64`]: they are another family's as soon as they are rewritten.
    Nat64 {
        /// The next hop towards the real server.
        hop: HopId,
    },
    /// The director is the real server: to the kernel, as the packet is.
    Local,
}

const _: () = assert!(size_of::<Forwarder>() <= 44, "a packet reads all of it");

/// Which kind of [`Forwarder`] it is: what a connection remembers, since its real server's may
/// be another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Method {
    /// [`Forwarder::Local`].
    #[default]
    Local,
    /// [`Forwarder::Dr`].
    Dr,
    /// [`Forwarder::Tun`].
    Tun,
    /// [`Forwarder::Nat`].
    Nat,
    /// [`Forwarder::FullNat`].
    FullNat,
    /// [`Forwarder::Nat64`].
    Nat64,
}

impl Method {
    /// Every one, by its number.
    pub const ALL: [Self; 6] = [
        Self::Local,
        Self::Dr,
        Self::Tun,
        Self::Nat,
        Self::FullNat,
        Self::Nat64,
    ];

    /// Whether the real server's replies pass us, so that connections are found from both sides.
    pub fn is_two_way(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat | Self::Nat64)
    }

    /// Whether the real server sees somebody else in the client's place.
    pub fn hides_client(self) -> bool {
        matches!(self, Self::FullNat | Self::Nat64)
    }
}

/// The two MACs of the link that a frame is sent over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Our port's.
    pub ours: Mac,
    /// The next hop's.
    pub next: Mac,
}

impl Link {
    /// The same as they stand in a frame.
    #[inline(always)]
    pub fn macs(self) -> Macs {
        Macs::new(self.ours, self.next)
    }
}

/// What a tunnel's outer header is told beside the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Identification of an outer IPv4 packet that may be fragmented: another one for each
    /// packet.
    pub id: u16,
    /// Whether DF is copied, so that path MTUs are discovered (`pmtu_disc`).
    pub pmtu_disc: bool,
}

impl Outer {
    /// How an outer IPv4 packet may be cut, around one that says `dont_fragment` or not.
    #[inline(always)]
    fn cut(&self, dont_fragment: bool) -> ipv4::Cut {
        if dont_fragment && self.pmtu_disc {
            ipv4::Cut::NEVER
        } else {
            ipv4::Cut::new(self.id, false)
        }
    }
}

impl Forwarder {
    /// The next hop towards the real server; `None` where that is the director itself.
    #[inline]
    pub fn hop(&self) -> Option<HopId> {
        match *self {
            Self::Dr { hop }
            | Self::Tun { hop, .. }
            | Self::Nat { hop }
            | Self::FullNat { hop }
            | Self::Nat64 { hop } => Some(hop),
            Self::Local => None,
        }
    }

    /// Octets of the link that a packet to the real server may not use: those by which it grows
    /// on its way, and those by which the way is narrower.
    #[inline]
    pub fn overhead(&self) -> u16 {
        match self {
            Self::Tun {
                tunnel,
                envelope,
                narrower,
                ..
            } => tunnel.overhead() + envelope.room() + narrower,
            Self::Dr { .. }
            | Self::Nat { .. }
            | Self::FullNat { .. }
            | Self::Nat64 { .. }
            | Self::Local => 0,
        }
    }

    /// Octets by which the path is known to be narrower than the link.
    pub fn narrower(&self) -> u16 {
        match *self {
            Self::Tun { narrower, .. } => narrower,
            Self::Dr { .. }
            | Self::Nat { .. }
            | Self::FullNat { .. }
            | Self::Nat64 { .. }
            | Self::Local => 0,
        }
    }

    /// Which kind it is.
    pub fn method(&self) -> Method {
        match self {
            Self::Local => Method::Local,
            Self::Dr { .. } => Method::Dr,
            Self::Tun { .. } => Method::Tun,
            Self::Nat { .. } => Method::Nat,
            Self::FullNat { .. } => Method::FullNat,
            Self::Nat64 { .. } => Method::Nat64,
        }
    }

    /// Whether the real server's replies pass us, so that connections are found from both sides.
    #[inline]
    pub fn is_two_way(&self) -> bool {
        self.method().is_two_way()
    }

    /// Rewrites a packet of the client for the real server. In [`Self::Local`] nothing changes:
    /// the kernel takes the frame as it came.
    ///
    /// # Errors
    /// Why it can't be sent: in [`Self::Nat64`] never this way. The frame is then as it was.
    #[inline]
    pub fn to_real<A: Family, F: Frame>(
        &self,
        frame: &mut F,
        entry: &Entry<A>,
        link: Link,
        outer: Outer,
    ) -> Result<(), Reason> {
        match self {
            Self::Dr { .. } => dr::to_real::<A, F>(frame, link),
            Self::Tun {
                tunnel, envelope, ..
            } => tun::to_real(frame, (tunnel, *envelope), entry, link, outer),
            Self::Nat { .. } => nat::to_real(frame, real(entry), link),
            Self::FullNat { .. } => fullnat::to_real(frame, local(entry), real(entry), link),
            Self::Nat64 { .. } => Err(Reason::Untranslatable),
            Self::Local => Ok(()),
        }
    }

    /// Rewrites a packet of the real server for the client.
    ///
    /// # Errors
    /// Why it can't be sent: [`Reason::NoConnection`] where the mode's replies don't pass us.
    /// The frame is then as it was.
    #[inline]
    pub fn to_client<A: Family, F: Frame>(
        &self,
        frame: &mut F,
        entry: &Entry<A>,
        link: Link,
    ) -> Result<(), Reason> {
        match self {
            Self::Nat { .. } => nat::to_client(frame, vip(entry), link),
            Self::FullNat { .. } => fullnat::to_client(frame, vip(entry), client(entry), link),
            Self::Nat64 { .. } => Err(Reason::Untranslatable),
            Self::Dr { .. } | Self::Tun { .. } | Self::Local => Err(Reason::NoConnection),
        }
    }

    /// Rewrites an ICMP error about a packet of the real server's, from the client's side, for
    /// the real server. `frame` is what [`icmp::embedded`] found one in.
    ///
    /// # Errors
    /// As [`to_real`](Self::to_real).
    pub fn error_to_real<A: Family, F: Frame>(
        &self,
        frame: &mut F,
        entry: &Entry<A>,
        link: Link,
        outer: Outer,
    ) -> Result<(), Reason> {
        let source = match self {
            Self::Nat { .. } => None,
            Self::FullNat { .. } => Some(entry.local),
            Self::Dr { .. } | Self::Tun { .. } | Self::Nat64 { .. } | Self::Local => {
                return self.to_real(frame, entry, link, outer);
            }
        };
        icmp::translate(
            frame,
            link,
            icmp::Ends {
                source,
                destination: entry.real,
            },
            icmp::Quote {
                source: real(entry),
                destination: local(entry),
            },
        )
    }

    /// Rewrites an ICMP error about a packet of the client's, from the real server's side, for
    /// the client: it comes from the VIP then, whoever sent it.
    ///
    /// # Errors
    /// As [`to_client`](Self::to_client).
    pub fn error_to_client<A: Family, F: Frame>(
        &self,
        frame: &mut F,
        entry: &Entry<A>,
        link: Link,
    ) -> Result<(), Reason> {
        match self {
            Self::Nat { .. } | Self::FullNat { .. } => {}
            Self::Nat64 { .. } => return Err(Reason::Untranslatable),
            Self::Dr { .. } | Self::Tun { .. } | Self::Local => return Err(Reason::NoConnection),
        }
        icmp::translate(
            frame,
            link,
            icmp::Ends {
                source: Some(entry.vip),
                destination: entry.client,
            },
            icmp::Quote {
                source: client(entry),
                destination: vip(entry),
            },
        )
    }

    /// The largest segment that reaches the real server whole over a link of `mtu` octets.
    pub fn mss<A: Family>(&self, mtu: u16) -> u16 {
        const TCP: u16 = 20;
        mtu.saturating_sub(self.overhead() + A::HEADER + TCP)
    }
}

/// Lowers the MSS that a SYN offers to `mss`; any other packet stays as it is.
pub fn clamp_mss<A: Family, F: Frame>(frame: &mut F, mss: u16) {
    mss::clamp::<A, F>(frame, mss);
}

#[inline]
fn client<A: Copy>(entry: &Entry<A>) -> (A, u16) {
    (entry.client, entry.client_port)
}

#[inline]
fn vip<A: Copy>(entry: &Entry<A>) -> (A, u16) {
    (entry.vip, entry.vip_port)
}

#[inline]
fn local<A: Copy>(entry: &Entry<A>) -> (A, u16) {
    (entry.local, entry.local_port)
}

#[inline]
fn real<A: Copy>(entry: &Entry<A>) -> (A, u16) {
    (entry.real, entry.real_port)
}
