//! The 8-bit hash of `sh` and `dh` (reference B.2): the upper byte of a multiplication.

/// 2^32 less 2^32 divided by the golden ratio.
const GOLDEN: u32 = 0x61C8_8647;

/// One of 256 buckets for an address as one word, with a port added if that counts.
#[inline]
pub(super) fn hash8(word: u32) -> u8 {
    word.wrapping_mul(GOLDEN).to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::testing::CLIENTS;

    #[test]
    fn values() {
        let hashes = CLIENTS.map(|client| hash8(client.to_bits()));
        assert_eq!(hashes, [50, 148, 246, 88, 171, 64, 235, 63]);
    }
}
