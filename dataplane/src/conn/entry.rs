//! One connection: one 64-byte line for IPv4, two for IPv6.

use super::key::{Address, Key};
use super::table::{Side, Slot};
use crate::owner::{FieldsSlot, MAX_FIELDS};
use crate::services::{RealId, ServiceId};
use crate::time::Millis;

/// Bits about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// The slot holds a connection.
    pub const LIVE: u8 = 1;
    /// Counted under ActiveConn, else under InActConn.
    pub const ACTIVE: u8 = 2;
    /// Replies pass us: the connection is found from both sides.
    pub const TWO_WAY: u8 = 4;
    /// A persistence template ([`super::template`]), and no connection.
    pub const TEMPLATE: u8 = 8;
    /// A template one of whose connections was established (TCP) or answered (UDP).
    pub const ASSURED: u8 = 16;
    /// A template whose real server is not to be had any more: new connections don't find it.
    pub const INVALID: u8 = 32;

    const FIELDS_SHIFT: u32 = 6;

    /// Which of its service's listed fields the connection was made under.
    pub fn fields(self) -> FieldsSlot {
        FieldsSlot(self.0 >> Self::FIELDS_SHIFT)
    }

    /// Says which of its service's listed fields the connection was made under.
    #[must_use]
    pub fn made_under(self, slot: FieldsSlot) -> Self {
        Self(self.0 | slot.0 << Self::FIELDS_SHIFT)
    }

    /// Exactly these bits.
    pub fn new(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether `bit` is set.
    #[inline]
    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Sets or clears `bit`.
    #[inline]
    pub fn put(&mut self, bit: u8, on: bool) {
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
    /// TCP: a [`super::tcp::State`] as a number.
    pub state: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// Its place in [`super::fifo`] plus 1; 0 if it has none.
    pub(super) queued: u32,
}

const _: () = assert!(MAX_FIELDS == 4, "a slot fits two bits of the flags");
const _: () = assert!(size_of::<Entry<u32>>() == 64 && size_of::<Entry<u128>>() == 128);

impl<A: Address> Entry<A> {
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
        (from.0 == key.source)
            & (to.0 == key.destination)
            & (from.1 == key.source_port)
            & (to.1 == key.destination_port)
            & (self.protocol == key.protocol)
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
