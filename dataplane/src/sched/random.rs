//! A small generator of random numbers: SplitMix64. The same seed yields the same numbers on
//! every machine, so that a replay chooses as the original did.

/// A worker's own generator.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..=last`, each as likely as the others but for one part in 2^32.
    #[inline]
    pub(super) fn up_to(&mut self, last: u64) -> u64 {
        let numbers = u128::from(last) + 1;
        ((u128::from(self.next()) * numbers) >> 64) as u64
    }
}

/// Spreads every bit over all others.
#[inline]
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn no_number_is_out_of_range_or_left_out() {
        let mut random = Random::new(1);
        let mut seen = [0; 3];
        (0..3000).for_each(|_| seen[usize::try_from(random.up_to(2)).expect("0..=2")] += 1);
        assert!(seen.iter().all(|&n| (900..1100).contains(&n)), "{seen:?}");
        assert_eq!(random.up_to(0), 0);
    }
}
