//! What control wants to know: a walk through the connections, a trace's question. A little of it
//! in each turn, and nothing where nobody asks.

use crate::bucket::TokenBucket;
use crate::conn::excerpt::Excerpt;
use crate::gather::Gathering;
use crate::port::WorkerId;
use crate::probe::{Answer, Question};
use crate::services::{ServiceId, Snapshot};
use crate::state::State;
use crate::time::Millis;
use crate::verdict::PuntClass;
use crate::walk::Errand;

/// What a worker can tell of itself.
pub(super) struct Known<'a, F> {
    pub(super) me: WorkerId,
    pub(super) snapshot: &'a Snapshot,
    pub(super) state: &'a State,
    pub(super) gathering: &'a Gathering<F>,
    pub(super) punts: &'a [TokenBucket; PuntClass::ALL.len()],
    pub(super) replies: &'a TokenBucket,
    pub(super) resets: &'a TokenBucket,
    pub(super) fragment_id: u32,
    pub(super) now: Millis,
}

impl<F> Known<'_, F> {
    /// Goes on with one of the errands, each in its turn; says whether there was anything to do.
    #[cold]
    #[inline(never)]
    pub(super) fn run_an_errand(&self, turns: u64) -> bool {
        let errands = &self.snapshot.errands;
        let turn = turns % errands.len() as u64;
        let errand = errands.iter().zip(0..).find(|&(_, at)| at == turn);
        match errand {
            Some((Errand::Walk(walk), _)) => walk.step(self.me, self.state, self.now),
            Some((Errand::Probe(probe), _)) => {
                let asked = probe.asked(self.me);
                asked.is_some_and(|question| {
                    probe.answer(self.me, self.answer(question));
                    true
                })
            }
            None => false,
        }
    }

    /// What it knows that decides over a packet.
    fn answer(&self, question: &Question) -> Answer {
        let chooses = question.chooses.and_then(|(ServiceId(id), address)| {
            let service = self.snapshot.services.get(id)?;
            Some((service.as_ref(), address))
        });
        let fragment_of = question.fragment_of.as_ref();
        Answer {
            now: self.now,
            v4: Excerpt::of(&self.state.v4, &question.v4),
            v6: Excerpt::of(&self.state.v6, &question.v6),
            recall: self.state.sched.recall(chooses),
            gathered: fragment_of.and_then(|of| self.gathering.peek(of, self.now)),
            packets_spared: self.state.packets_spared,
            outer_id: self.state.outer_id,
            fragment_id: self.fragment_id,
            punts: *self.punts,
            replies: *self.replies,
            resets: *self.resets,
        }
    }
}
