//! Whom a scheduler likely chooses next: a guess, for who wants to bring memory closer.

use super::hash8::hash8;
use super::{Ask, Rule};
use crate::conn::Address;
use crate::services::{Candidate, Service};

/// The choices that likely follow one: never more than guesses, for thresholds are not looked at,
/// nor loads.
#[derive(Clone, Debug)]
pub struct Likely<'a> {
    service: &'a Service,
    /// Where a walk down the list goes on; it may be the end.
    at: usize,
}

impl<'a> Likely<'a> {
    /// Those that follow the choice of `last`.
    #[inline]
    pub fn after(service: &'a Service, last: &Candidate) -> Self {
        let at = service
            .candidates
            .partition_point(|c| c.order >= last.order);
        Self { service, at }
    }

    /// The real server that the service's next connection likely goes to, where that asks this;
    /// where nobody knows yet what it asks, `None` is for the client, or chance, to say.
    ///
    /// Who takes turns goes down the list, and where loads and weights are equal so does who looks
    /// for the least loaded one.
    #[inline]
    pub fn next<A: Address>(&mut self, ask: Option<&Ask<A>>) -> Option<&'a Candidate> {
        let scheduler = &self.service.scheduler;
        let client = || Some(ask?.client(scheduler.flags));
        let at = match &scheduler.rule {
            Rule::Rr(_) | Rule::Wrr(_) | Rule::Lc | Rule::Wlc | Rule::Sed | Rule::Nq => {
                return self.in_turn();
            }
            // The last one, which stands before this place, once more.
            Rule::Fo(_) | Rule::Ovf(_) => self.at.checked_sub(1),
            Rule::Sh(sh) => sh.holder(hash8(client()?)),
            Rule::Mh(mh) => mh.slot(client()?).map(|slot| mh.holder(slot)),
            Rule::Dh | Rule::Lblc | Rule::Lblcr | Rule::Twos(_) => None,
        };
        self.service.candidates.get(at?)
    }

    /// The next in the list that takes connections, from its head behind its end.
    #[inline]
    fn in_turn(&mut self) -> Option<&'a Candidate> {
        let all = &self.service.candidates;
        for _ in 0..all.len() {
            let at = if self.at < all.len() { self.at } else { 0 };
            self.at = at + 1;
            if all[at].weight > 0 {
                return Some(&all[at]);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind;
    use crate::sched::testing::Letters;

    /// How many of 60 choices were guessed, each after the one before; and how many where the
    /// client was not known.
    fn guessed(kind: Kind, weights: &[u32]) -> (usize, usize) {
        let mut letters = Letters::new(kind, weights);
        let mut last = letters.picks(1);
        let (mut right, mut blindly) = (0, 0);
        for _ in 0..60 {
            let [known, unknown] = [true, false].map(|known| letters.likely_next(&last, known));
            last = letters.picks(1);
            right += usize::from(known == last.chars().next());
            blindly += usize::from(unknown == last.chars().next());
        }
        (right, blindly)
    }

    #[test]
    fn turns_are_foreseen_and_clients_where_they_are_known() {
        use Kind::{Dh, Fo, Lblc, Lblcr, Lc, Mh, Nq, Ovf, Rr, Sed, Sh, Twos, Wlc, Wrr};
        for kind in [Rr, Wrr, Lc, Wlc, Sed, Nq, Fo] {
            assert_eq!(guessed(kind, &[2, 2, 2]), (60, 60), "{kind:?}");
        }
        assert_eq!(guessed(Ovf, &[100, 100]), (60, 60), "there is room");
        for kind in [Sh, Mh] {
            assert_eq!(guessed(kind, &[2, 2, 2]), (60, 0), "{kind:?}");
        }
        for kind in [Dh, Lblc, Lblcr, Twos] {
            assert_eq!(guessed(kind, &[2, 2, 2]), (0, 0), "{kind:?}");
        }
    }

    #[test]
    fn who_takes_nothing_is_passed_over() {
        assert_eq!(guessed(Kind::Rr, &[1, 0, 1]), (60, 60));
        assert_eq!(guessed(Kind::Rr, &[0, 1, 0]), (60, 60), "itself again");
    }

    #[test]
    fn a_round_is_foreseen_from_one_choice() {
        for kind in [Kind::Rr, Kind::Sh] {
            let mut letters = Letters::new(kind, &[1, 0, 3, 1]);
            let last = letters.picks(1);
            assert_eq!(letters.likely(&last, 9), letters.picks(9), "{kind:?}");
        }
    }

    #[test]
    fn of_nobody_nobody_is_foreseen() {
        let mut letters = Letters::new(Kind::Rr, &[1, 1]);
        let last = letters.picks(1);
        letters.set_weight(b'a', 0);
        letters.set_weight(b'b', 0);
        assert_eq!(letters.likely_next(&last, true), None);
    }
}
