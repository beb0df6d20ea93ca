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
    use crate::sched::{fold, fold_ip};

    #[test]
    fn values() {
        let hashes = CLIENTS.map(|client| hash8(client.to_bits()));
        assert_eq!(hashes, [50, 148, 246, 88, 171, 64, 235, 63]);
    }

    #[test]
    fn an_address_as_one_word() {
        assert_eq!(fold(0xC000_0201u32), 0xC000_0201);
        let v6 = 0x2001_0db8_0000_00f0_0000_0000_0000_0001_u128;
        assert_eq!(fold(v6), 0x2001_0d49);
        assert_eq!(fold_ip(std::net::Ipv6Addr::from_bits(v6).into()), fold(v6));
    }
}
