//! Where the packets of a connection's client come from: the port, and who sent the frame.
//!
//! A port with `return = "sender"` has replies go back there, whatever the routes say: to the
//! one of several gateways that the client's packets come through, say. It stands beside the
//! table, and takes memory only where some port asks for it. What is noted belongs to one
//! connection and ends with it: no frame makes anybody a neighbour.

use arch::{HugeSlice, Pages, PagesError};
use wire::ethernet::Mac;

use super::table::Slot;
use crate::port::PortId;

/// Nobody.
const NOBODY: Mac = Mac([0; 6]);

/// Where one client's packets come from.
#[derive(Clone, Copy, Debug)]
struct Sender {
    port: PortId,
    mac: Mac,
}

/// The senders of a table's connections, by their slots.
#[derive(Debug)]
pub struct Senders(HugeSlice<Sender>);

impl Senders {
    /// Room for so many; none takes no memory.
    ///
    /// # Errors
    /// As for [`HugeSlice::filled`].
    pub fn new(capacity: usize, pages: Pages) -> Result<Self, PagesError> {
        let nobody = Sender {
            port: PortId(0),
            mac: NOBODY,
        };
        HugeSlice::filled(capacity, nobody, pages).map(Self)
    }

    /// Octets that it takes.
    pub fn memory(&self) -> usize {
        self.0.mapped_bytes()
    }

    /// Whether there is room for them at all.
    pub fn are_kept(&self) -> bool {
        !self.0.is_empty()
    }

    /// Notes where the client's packets come from now. A group sends nothing.
    pub fn note(&mut self, Slot(slot): Slot, port: PortId, mac: Mac) {
        if let Some(sender) = self.0.get_mut(slot as usize)
            && !mac.is_multicast()
        {
            *sender = Sender { port, mac };
        }
    }

    /// Forgets whose the slot was.
    pub fn forget(&mut self, Slot(slot): Slot) {
        if let Some(sender) = self.0.get_mut(slot as usize) {
            sender.mac = NOBODY;
        }
    }

    /// Where the client's packets come from, if that is known.
    pub fn get(&self, Slot(slot): Slot) -> Option<(PortId, Mac)> {
        let sender = self.0.get(slot as usize)?;
        (sender.mac != NOBODY).then_some((sender.port, sender.mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts_until_it_is_forgotten() {
        let mut senders = Senders::new(2, Pages::Off).expect("memory");
        let (one, other) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        assert_eq!(senders.get(Slot(1)), None);
        senders.note(Slot(1), PortId(0), one);
        senders.note(Slot(1), PortId(3), other);
        senders.note(Slot(1), PortId(4), Mac([1, 0, 0x5e, 0, 0, 1]));
        assert_eq!(senders.get(Slot(1)), Some((PortId(3), other)));
        assert_eq!(senders.get(Slot(0)), None);
        senders.forget(Slot(1));
        assert_eq!(senders.get(Slot(1)), None);
    }

    #[test]
    fn without_room_nothing_is_noted() {
        let mut senders = Senders::new(0, Pages::Off).expect("nothing");
        assert!(!senders.are_kept() && senders.memory() == 0);
        senders.note(Slot(0), PortId(0), Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(senders.get(Slot(0)), None);
    }
}
