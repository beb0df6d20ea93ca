//! SipHash-1-3 of one 32-bit word, as IPVS's `mh` uses it: with keys that everybody knows,
//! so that all directors choose alike. And SipHash-2-4 with a secret key, for what nobody may guess.

/// The lower half of the SipHash-1-3 of `word`'s four octets, least significant first.
/// Both halves of the key are `half`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
pub(super) fn hash(half: u64, word: u32) -> u32 {
    let mut state = State([
        half ^ 0x736f_6d65_7073_6575,
        half ^ 0x646f_7261_6e64_6f6d,
        half ^ 0x6c79_6765_6e65_7261,
        half ^ 0x7465_6462_7974_6573,
    ]);
    // The last block: the length in the top octet, below it what is left of the message.
    let block = 4 << 56 | u64::from(word);
    state.0[3] ^= block;
    state.round();
    state.0[0] ^= block;
    state.0[2] ^= 0xff;
    (0..3).for_each(|_| state.round());
    state.0.into_iter().fold(0, |all, word| all ^ word) as u32
}

/// SipHash-2-4 of these words' octets, least significant first, under a secret key: nobody who
/// does not know that can tell the value for other words.
pub(crate) fn keyed(key: [u64; 2], words: &[u64]) -> u64 {
    let mut state = State([
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ]);
    let last = (8 * words.len() as u64) << 56;
    for &block in words.iter().chain(&[last]) {
        state.0[3] ^= block;
        (0..2).for_each(|_| state.round());
        state.0[0] ^= block;
    }
    state.0[2] ^= 0xff;
    (0..4).for_each(|_| state.round());
    state.0.into_iter().fold(0, |all, word| all ^ word)
}

struct State([u64; 4]);

impl State {
    #[inline]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        self.0 = [a, b, c.rotate_left(32), d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_reference_implementation() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(keyed(key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(keyed(key, &[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn a_known_value() {
        assert_eq!(hash(2_654_435_761, 0xC000_0201), 0x9288_9c88);
    }
}
