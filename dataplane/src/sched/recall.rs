//! What a worker's schedulers remember that matters for one packet, copied out of their
//! [`Memory`]: for whoever wants to know what they would choose without having them choose.

use arrayvec::ArrayVec;

use super::cache::Key;
use super::random::Random;
use super::{Expirations, Known, Memory, key_of};
use crate::services::Service;
use crate::time::Millis;

/// Members of one destination's set that are copied; there are rarely more than two.
pub(super) const MEMBERS: usize = 32;

/// A destination's set of real servers.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) modified: Millis,
    /// The last one added first.
    pub(super) all: ArrayVec<Known, MEMBERS>,
}

/// The copy.
#[derive(Clone, Debug)]
pub struct Recall {
    random: Random,
    expirations: Expirations,
    lblc: Option<(Key, Known)>,
    lblcr: Option<(Key, Members)>,
}

impl Memory {
    /// What there is for packets of `service` to the destination, an address in words. Changes
    /// nothing, allocates nothing.
    pub fn recall(&self, of: Option<(&Service, [u64; 2])>) -> Recall {
        let key = of.map(|(service, address)| key_of(service, address));
        Recall {
            random: self.random.clone(),
            expirations: self.expirations,
            lblc: key.and_then(|key| Some((key, *self.lblc.peek(&key)?))),
            lblcr: key.and_then(|key| Some((key, self.lblcr.peek(&key)?))),
        }
    }

    /// Remembers what was copied.
    pub fn adopt(&mut self, recall: &Recall, now: Millis) {
        self.random = recall.random.clone();
        self.expirations = recall.expirations;
        if let Some((key, known)) = recall.lblc {
            self.lblc.insert(key, known, now);
        }
        if let Some((key, members)) = &recall.lblcr {
            self.lblcr.insert(*key, members, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::port::WorkerId;
    use crate::sched::Kind::{Lblc, Lblcr, Twos};
    use crate::sched::testing::Letters;
    use crate::sched::{Kind, Memory};
    use crate::time::Millis;

    /// The next choices of a copy, and then those of the original.
    fn both(kind: Kind, n: usize) -> (String, String) {
        let mut letters = Letters::new(kind, &[2, 2, 2]);
        letters.picks(5);
        let mut twin = letters.detached();
        let copied = twin.picks(n);
        (copied, letters.picks(n))
    }

    #[test]
    fn a_copy_chooses_what_the_original_would() {
        for kind in Kind::ALL {
            let (copied, chosen) = both(kind, 7);
            assert_eq!(copied, chosen, "{kind:?}");
        }
    }

    #[test]
    fn without_a_destination_nothing_but_the_numbers_is_copied() {
        let memory = Memory::new(WorkerId(0), 7, Millis(0));
        let recall = memory.recall(None);
        assert!(recall.lblc.is_none() && recall.lblcr.is_none());
        for kind in [Lblc, Lblcr, Twos] {
            let (copied, _) = both(kind, 1);
            assert_ne!(copied, "-", "{kind:?}");
        }
    }
}
