//! Whom a scheduler likely chooses next: a guess, for who wants to bring memory closer.

use super::{Rule, Scheduler};
use crate::services::{Candidate, Service};

impl Scheduler {
    /// The real server that the service's next connection likely goes to, where the last went to
    /// `last`; `None` where that is for the client's address or chance to say.
    ///
    /// Who takes turns goes down the list, and where loads and weights are equal so does who looks
    /// for the least loaded one. Never more than a guess: thresholds are not looked at, nor loads.
    pub fn likely_next<'a>(&self, service: &'a Service, last: &Candidate) -> Option<&'a Candidate> {
        let all = &service.candidates;
        let behind = match self.rule {
            Rule::Rr(_) | Rule::Wrr(_) | Rule::Lc | Rule::Wlc | Rule::Sed | Rule::Nq => 0,
            Rule::Fo(_) | Rule::Ovf(_) => 1,
            Rule::Sh(_) | Rule::Dh | Rule::Lblc | Rule::Lblcr | Rule::Mh(_) | Rule::Twos(_) => {
                return None;
            }
        };
        let start = all.partition_point(|other| other.order >= last.order + behind);
        let (before, after) = all.split_at(start);
        after.iter().chain(before).find(|other| other.weight > 0)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind;
    use crate::sched::testing::Letters;

    /// How many of 60 choices were guessed.
    fn guessed(kind: Kind, weights: &[u32]) -> usize {
        let mut letters = Letters::new(kind, weights);
        let mut last = letters.picks(1);
        let mut right = 0;
        for _ in 0..60 {
            let guess = letters.likely_next(last.as_bytes()[0]);
            last = letters.picks(1);
            right += usize::from(guess == last.chars().next());
        }
        right
    }

    #[test]
    fn turns_are_foreseen_and_clients_are_not() {
        use Kind::{Dh, Fo, Lblc, Lblcr, Lc, Mh, Nq, Ovf, Rr, Sed, Sh, Twos, Wlc, Wrr};
        for kind in [Rr, Wrr, Lc, Wlc, Sed, Nq, Fo] {
            assert_eq!(guessed(kind, &[2, 2, 2]), 60, "{kind:?}");
        }
        assert_eq!(guessed(Ovf, &[100, 100]), 60, "there is room");
        for kind in [Sh, Dh, Lblc, Lblcr, Mh, Twos] {
            assert_eq!(guessed(kind, &[2, 2, 2]), 0, "{kind:?}");
        }
    }

    #[test]
    fn who_takes_nothing_is_passed_over() {
        assert_eq!(guessed(Kind::Rr, &[1, 0, 1]), 60);
        assert_eq!(guessed(Kind::Rr, &[0, 1, 0]), 60, "itself again");
    }
}
