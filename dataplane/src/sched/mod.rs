//! How a service chooses a real server for a new connection: one file a scheduler.
//!
//! The choices are IPVS's, to the letter with one worker (reference B.2): real servers stand
//! newest first, and ties go to the first. What control can prepare is in the snapshot; what
//! a choice changes (a place in the list, a falling threshold) is in the two words that each
//! worker has for each service.

pub mod rr;
pub mod wlc;
pub mod wrr;

use crate::services::{Blocks, Candidate, Service, ServiceBlock};

/// The schedulers, with what control prepared for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr(wrr::Wrr),
    /// Weighted least connections.
    Wlc,
}

/// Chooses a real server of `service` for a new connection; `None` if none is available.
///
/// `own` is the service's block of the worker that asks, and `blocks` all of that worker's.
#[inline]
pub fn pick<'a>(
    service: &'a Service,
    own: &ServiceBlock,
    blocks: &Blocks,
) -> Option<&'a Candidate> {
    let pool = Pool {
        candidates: &service.candidates,
        blocks,
    };
    let edited = own.revision.get() != service.revision;
    if edited {
        own.revision.set(service.revision);
    }
    let [place, threshold] = &own.words;
    let at = match &service.scheduler {
        Scheduler::Rr => rr::pick(&pool, place),
        Scheduler::Wrr(wrr) => {
            if edited {
                wrr.start_over(place, threshold);
            }
            wrr.pick(&pool, place, threshold)
        }
        Scheduler::Wlc => wlc::pick(&pool),
    };
    at.map(|at| &service.candidates[at])
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    candidates: &'a [Candidate],
    blocks: &'a Blocks,
}

impl Pool<'_> {
    /// Real servers, available or not.
    #[inline]
    fn len(&self) -> usize {
        self.candidates.len()
    }

    #[inline]
    fn weight(&self, at: usize) -> u32 {
        self.candidates[at].weight
    }

    /// Whether a threshold keeps new connections away.
    #[inline]
    fn is_overloaded(&self, at: usize) -> bool {
        let block = self.blocks.reals.get(self.candidates[at].real.0);
        block.is_some_and(|block| block.overloaded.get() != 0)
    }

    #[inline]
    fn is_available(&self, at: usize) -> bool {
        self.weight(at) > 0 && !self.is_overloaded(at)
    }

    /// Active and inactive connections, those of the other workers as of their last sum.
    #[inline]
    fn connections(&self, at: usize) -> (u32, u32) {
        let slot = self.candidates[at].real.0;
        let own = self.blocks.reals.get(slot);
        let own = own.map_or((0, 0), |own| (own.active.get(), own.inactive.get()));
        let others = self.blocks.others.get(slot);
        let others = others.map_or((0, 0), |sum| (sum.active.get(), sum.inactive.get()));
        (
            own.0.saturating_add(others.0),
            own.1.saturating_add(others.1),
        )
    }

    /// Where the walk goes on after the candidate whose order is `place`; 0 is before the
    /// first. A place that is gone falls to its predecessor.
    #[inline]
    fn after(&self, place: u32) -> usize {
        if place == 0 {
            0
        } else {
            self.candidates.partition_point(|c| c.order >= place)
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A service whose real servers are letters, and its picks as a word.

    use super::*;
    use crate::services::{RealId, ServiceId};

    pub(crate) struct Letters {
        service: Service,
        own: ServiceBlock,
        pub(crate) blocks: Blocks,
    }

    impl Letters {
        /// Real servers a, b, c... added in that order.
        pub(crate) fn new(kind: Scheduler, weights: &[u32]) -> Self {
            let mut blocks = Blocks::default();
            blocks.reals.grow(26);
            let service = Service {
                id: ServiceId(0),
                revision: 0,
                scheduler: kind,
                candidates: [].into(),
            };
            let mut letters = Self {
                service,
                own: ServiceBlock::default(),
                blocks,
            };
            for (slot, &weight) in (0..).zip(weights) {
                letters.add(slot, weight);
            }
            letters
        }

        pub(crate) fn add(&mut self, slot: u32, weight: u32) {
            let order = 1 + self
                .service
                .candidates
                .first()
                .map_or(0, |newest| newest.order);
            let candidate = Candidate {
                real: RealId(slot),
                weight,
                order,
            };
            self.edit(|all| all.insert(0, candidate));
        }

        pub(crate) fn set_weight(&mut self, letter: u8, weight: u32) {
            let slot = u32::from(letter - b'a');
            self.edit(|all| {
                all.iter_mut()
                    .filter(|c| c.real.0 == slot)
                    .for_each(|c| c.weight = weight)
            });
        }

        pub(crate) fn remove(&mut self, letter: u8) {
            self.edit(|all| all.retain(|c| c.real.0 != u32::from(letter - b'a')));
        }

        fn edit(&mut self, change: impl FnOnce(&mut Vec<Candidate>)) {
            let mut all = std::mem::take(&mut self.service.candidates).into_vec();
            change(&mut all);
            self.service.candidates = all.into();
            self.service.revision += 1;
            if let Scheduler::Wrr(wrr) = &mut self.service.scheduler {
                *wrr = wrr::Wrr::of(self.service.candidates.iter().map(|c| c.weight));
            }
        }

        /// Each pick becomes an active connection; `-` is none.
        pub(crate) fn picks(&mut self, n: usize) -> String {
            let pick = |_| match pick(&self.service, &self.own, &self.blocks) {
                Some(candidate) => {
                    self.blocks
                        .reals
                        .get(candidate.real.0)
                        .expect("grown")
                        .active
                        .up();
                    char::from(b'a' + u8::try_from(candidate.real.0).expect("a letter"))
                }
                None => '-',
            };
            (0..n).map(pick).collect()
        }

        pub(crate) fn load(&self, letter: u8, active: u32, inactive: u32) {
            let block = self
                .blocks
                .reals
                .get(u32::from(letter - b'a'))
                .expect("grown");
            block.active.set(active);
            block.inactive.set(inactive);
        }

        pub(crate) fn overload(&self, letter: u8, on: bool) {
            let block = self
                .blocks
                .reals
                .get(u32::from(letter - b'a'))
                .expect("grown");
            block.overloaded.set(u32::from(on));
        }
    }
}
