//! The real servers by weight, for those schedulers that ask for the heaviest first.

/// Places in the list of those with a weight above 0, the heaviest first and equal ones in the
/// order of the list: 4 octets each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranks(Box<[u32]>);

impl Ranks {
    /// For these weights, newest real server first.
    pub(super) fn of(weights: &[u32]) -> Self {
        let weighed = (0u32..).zip(weights).filter(|&(_, &weight)| weight > 0);
        let mut ranks: Vec<_> = weighed.collect();
        ranks.sort_by_key(|&(_, &weight)| std::cmp::Reverse(weight));
        Self(ranks.into_iter().map(|(at, _)| at).collect())
    }

    /// The heaviest that `may` be it.
    #[inline]
    pub(super) fn first(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut places = self.0.iter().map(|&at| at as usize);
        places.find(|&at| may(at))
    }
}
