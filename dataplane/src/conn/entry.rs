//! One connection: one 64-byte line for IPv4, two for IPv6.

use wire::plain::{Ends, Exchange, Owed};

use super::key::{Address, Key};
use super::table::{Side, Slot};
use crate::fwd::Method;
use crate::owner::{FieldsSlot, MAX_FIELDS};
use crate::services::{RealId, ServiceId};
use crate::time::Millis;

/// Bits about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    /// The slot holds a connection.
    pub const LIVE: u16 = 1;
    /// Counted under ActiveConn, else under InActConn.
    pub const ACTIVE: u16 = 2;
    /// Replies pass us: the connection is found from both sides.
    pub const TWO_WAY: u16 = 4;
    /// A persistence template ([`super::template`]), and no connection.
    pub const TEMPLATE: u16 = 8;
    /// A template one of whose connections was established (TCP, SCTP) or answered (UDP).
    pub const ASSURED: u16 = 16;
    /// A template whose real server is not to be had any more: new connections don't find it.
    pub const INVALID: u16 = 32;
    /// Replies leave by the port and to the MAC that the client's packets come by and from
    /// ([`super::sender`]).
    pub const TO_SENDER: u16 = 64;
    /// The real server is told who the client is ([`super::stream`]).
    pub const TOLD: u16 = 128;

    const FIELDS_SHIFT: u32 = 8;
    const METHOD_SHIFT: u32 = 10;

    /// Which of its service's listed fields the connection was made under.
    pub fn fields(self) -> FieldsSlot {
        FieldsSlot(self.from(Self::FIELDS_SHIFT) & 3)
    }

    /// Says which of its service's listed fields the connection was made under.
    #[must_use]
    pub fn made_under(self, slot: FieldsSlot) -> Self {
        Self(self.0 | u16::from(slot.0) << Self::FIELDS_SHIFT)
    }

    /// How the connection's packets reach their real server, whatever mode that has by now.
    pub fn method(self) -> Method {
        let at = self.from(Self::METHOD_SHIFT) & 7;
        Method::ALL
            .get(usize::from(at))
            .copied()
            .unwrap_or_default()
    }

    /// Eight bits from this one on.
    fn from(self, bit: u32) -> u8 {
        let [low, _] = (self.0 >> bit).to_le_bytes();
        low
    }

    /// Says how the connection's packets reach their real server.
    #[must_use]
    pub fn made_as(self, method: Method) -> Self {
        Self(self.0 | (method as u16) << Self::METHOD_SHIFT)
    }

    /// Exactly these bits.
    pub fn new(bits: u16) -> Self {
        Self(bits)
    }

    /// Whether `bit` is set.
    #[inline]
    pub fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// Sets or clears `bit`.
    #[inline]
    pub fn put(&mut self, bit: u16, on: bool) {
        if on { self.0 |= bit } else { self.0 &= !bit }
    }
}

/// A connection.
///
/// ```text
///   client:client_port > vip:vip_port          as the client sees it
///   local:local_port   > real:real_port        as the real server sees it
/// ```
///
/// In DR, TUN and NAT the local side is the client itself.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Entry<A> {
    /// The client.
    pub client: A,
    /// The virtual address.
    pub vip: A,
    /// The real server's address.
    pub real: A,
    /// Who the real server thinks it talks to.
    pub local: A,
    /// The client's port.
    pub client_port: u16,
    /// The virtual port.
    pub vip_port: u16,
    /// The real server's port.
    pub real_port: u16,
    /// The local port.
    pub local_port: u16,
    /// When its last packet came.
    pub last_seen: Millis,
    /// How long it may be silent from then on, in milliseconds.
    pub timeout_ms: u32,
    /// Where its packets go.
    pub real_id: RealId,
    /// Whose it is.
    pub service: ServiceId,
    /// The wheel's links; the free list's in a slot that is not live.
    pub(super) next: u32,
    /// See [`super::wheel`].
    pub(super) previous: u32,
    /// Of a connection: the slot of the template that controls it, plus 1; 0 if none does.
    /// Of a template: the connections that it controls.
    pub(super) control: u32,
    /// Packets seen, up to 65535.
    pub packets: u16,
    /// IP protocol number; of a template inverted, see [`Entry::ip_protocol`].
    pub protocol: u8,
    /// TCP and SCTP: a [`super::tcp::State`] or [`super::sctp::State`] as a number.
    pub state: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// What the ends owe to the packets' checksums, kept right by [`Entry::between`], which alone
    /// sets it: a table takes no entry where it is not.
    pub(super) exchange: Exchange,
    /// Its place in [`super::fifo`] plus 1; 0 if it has none.
    pub(super) queued: u32,
}

const _: () = assert!(MAX_FIELDS == 4, "a slot fits two bits of the flags");
const _: () = assert!(
    Method::ALL.len() <= 8,
    "a method fits three bits of the flags"
);
const _: () = assert!(size_of::<Entry<u32>>() == 64 && size_of::<Entry<u128>>() == 128);

impl<A: Address> Entry<A> {
    /// A connection between these addresses and ports, nothing else about it said. What changes
    /// any of them makes another: patches of checksums are computed here for all its packets.
    #[inline(always)]
    pub(super) fn between(
        client: (A, u16),
        vip: (A, u16),
        real: (A, u16),
        local: (A, u16),
    ) -> Self {
        let mut entry = Self {
            client: client.0,
            vip: vip.0,
            real: real.0,
            local: local.0,
            client_port: client.1,
            vip_port: vip.1,
            real_port: real.1,
            local_port: local.1,
            ..Self::default()
        };
        entry.exchange = entry.summed();
        entry
    }

    /// The exchange of the ends that it has.
    #[inline]
    fn summed(&self) -> Exchange {
        let back = self.leaving(Side::Real);
        let old = Ends {
            src: back.dst,
            dst: back.src,
            src_port: back.dst_port,
            dst_port: back.src_port,
        };
        A::exchange(&old, &self.leaving(Side::Client))
    }

    /// Whether [`owed`](Self::owed) says what the ends owe.
    pub(super) fn is_summed(&self) -> bool {
        self.exchange == self.summed()
    }

    /// Who a packet that arrives on `side` is between when it leaves, where the mode changes that.
    #[inline(always)]
    pub fn leaving(&self, side: Side) -> Ends<A> {
        match side {
            Side::Client => Ends {
                src: self.local,
                dst: self.real,
                src_port: self.local_port,
                dst_port: self.real_port,
            },
            Side::Real => Ends {
                src: self.vip,
                dst: self.client,
                src_port: self.vip_port,
                dst_port: self.client_port,
            },
        }
    }

    /// What a packet that arrives on `side` owes to its checksums then.
    #[inline(always)]
    pub fn owed(&self, side: Side) -> Owed {
        match side {
            Side::Client => self.exchange.there(),
            Side::Real => self.exchange.back(),
        }
    }

    /// The tuple of packets that arrive on `side`.
    #[inline]
    pub fn key(&self, side: Side) -> Key<A> {
        let (source, source_port, destination, destination_port) = match side {
            Side::Client => (self.client, self.client_port, self.vip, self.vip_port),
            Side::Real => (self.real, self.real_port, self.local, self.local_port),
        };
        Key {
            source,
            destination,
            source_port,
            destination_port,
            protocol: self.protocol,
        }
    }

    /// Whether packets with this tuple arrive on `side`. All fields at once: a tag rarely
    /// lies, so there is nothing to save by stopping early.
    #[inline]
    pub(super) fn matches(&self, side: Side, key: &Key<A>) -> bool {
        let (from, to) = match side {
            Side::Client => ((self.client, self.client_port), (self.vip, self.vip_port)),
            Side::Real => ((self.real, self.real_port), (self.local, self.local_port)),
        };
        let ports = |from: u16, to| u32::from(from) | u32::from(to) << 16;
        A::are([from.0, to.0], [key.source, key.destination])
            && ports(from.1, to.1) == ports(key.source_port, key.destination_port)
            && self.protocol == key.protocol
    }

    /// The template that controls it, if it is a connection that one does.
    #[inline]
    pub fn template(&self) -> Option<Slot> {
        let of_connection = !self.flags.has(Flags::TEMPLATE);
        let slot = self.control.checked_sub(1).map(Slot);
        slot.filter(|_| of_connection)
    }

    /// Connections that it controls, if it is a template.
    pub fn controls(&self) -> u32 {
        if self.flags.has(Flags::TEMPLATE) {
            self.control
        } else {
            0
        }
    }

    /// IP protocol number; 0 for a firewall mark's template.
    pub fn ip_protocol(&self) -> u8 {
        if self.flags.has(Flags::TEMPLATE) {
            !self.protocol
        } else {
            self.protocol
        }
    }

    /// Whether its deadline has come.
    #[inline]
    pub fn is_over(&self, now: Millis) -> bool {
        now.since(self.last_seen) >= self.timeout_ms
    }

    /// Milliseconds left, 0 if none.
    pub fn remaining_ms(&self, now: Millis) -> u32 {
        self.timeout_ms.saturating_sub(now.since(self.last_seen))
    }
}
