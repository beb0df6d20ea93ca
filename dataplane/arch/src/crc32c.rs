//! CRC32c (Castagnoli's polynomial) with the processor's own instruction: moving a register past
//! octets that are known to be zeros, which is all that a patch of a checksum needs.
//!
//! The register stands for a polynomial, its highest power in the lowest bit. n octets of zeros
//! multiply it by x^(8n). PCLMULQDQ multiplies, but stands one power off; the CRC instruction
//! reduces 64 bits, and multiplies by x^32 on the way. So the factors in the tables are x^(8n-33),
//! and any n takes two steps: its low octet, and the rest.

/// Octets of zeros that [`crc32c_shift`] goes past at most.
pub const CRC32C_SHIFT_MAX: usize = 0xffff;

/// The register of a CRC32c `crc` after `len` more octets of zeros, in the same few instructions
/// for any `len`. `None` where the processor has no instruction for it, or `len` is more than
/// [`CRC32C_SHIFT_MAX`].
#[inline]
pub fn crc32c_shift(crc: u32, len: usize) -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    {
        // The standard library asks the processor once and remembers.
        let has_both = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq");
        if has_both && len <= CRC32C_SHIFT_MAX {
            // SAFETY: the processor has both features, as was asked just before.
            return Some(unsafe { x86::shift(crc, len) });
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (crc, len);
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64,
    };

    /// Castagnoli's polynomial, its lowest power in the highest bit.
    const POLYNOMIAL: u32 = 0x82f6_3b78;

    /// x^(8n-33): n octets of zeros.
    const LOW: [u32; 256] = factors(1);
    /// x^(8n-33) for n of 256 octets of zeros each.
    const HIGH: [u32; 256] = factors(256);

    const fn factors(octets: usize) -> [u32; 256] {
        let mut table = [0; 256];
        // x^-33: 33 powers below 1, whose bit is the highest.
        let mut factor = 1 << 31;
        let mut power = 0;
        while power < 33 {
            factor = over_x(factor);
            power += 1;
        }
        let mut n = 0;
        while n < 256 {
            table[n] = factor;
            let mut power = 0;
            while power < 8 * octets {
                factor = times_x(factor);
                power += 1;
            }
            n += 1;
        }
        table
    }

    const fn times_x(value: u32) -> u32 {
        (value >> 1) ^ ((value & 1) * POLYNOMIAL)
    }

    /// What [`times_x`] made the value of. The polynomial has the power 0, so its highest bit is
    /// set where it was added.
    const fn over_x(value: u32) -> u32 {
        let added = value >> 31;
        ((value ^ (added * POLYNOMIAL)) << 1) | added
    }

    /// See [`super::crc32c_shift`]; `len` is at most 65535.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn shift(crc: u32, len: usize) -> u32 {
        let past = times(crc, LOW[len & 0xff]);
        times(past, HIGH[len >> 8 & 0xff])
    }

    /// `a` times `b` times x^33.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn times(a: u32, b: u32) -> u32 {
        let [a, b] = [a, b].map(|value| _mm_cvtsi64_si128(i64::from(value)));
        let product = _mm_cvtsi128_si64(_mm_clmulepi64_si128::<0>(a, b));
        let [a, b, c, d, ..] = _mm_crc32_u64(0, product.cast_unsigned()).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, as the polynomial is defined.
    fn slowly(crc: u32, bytes: impl IntoIterator<Item = u8>) -> u32 {
        bytes.into_iter().fold(crc, |crc, byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        })
    }

    #[test]
    fn known_values() {
        // RFC 3720 appendix B.4: 32 octets of zeros.
        assert_eq!(!slowly(u32::MAX, [0; 32]), 0x8a91_36aa);
        if let Some(crc) = crc32c_shift(u32::MAX, 32) {
            assert_eq!(!crc, 0x8a91_36aa);
            assert_eq!(crc32c_shift(7, 0), Some(7));
            assert_eq!(crc32c_shift(7, CRC32C_SHIFT_MAX + 1), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn as_one_octet_after_the_other(crc: u32, len in 0..=CRC32C_SHIFT_MAX) {
            if let Some(shifted) = crc32c_shift(crc, len) {
                prop_assert_eq!(shifted, slowly(crc, std::iter::repeat_n(0, len)));
            }
        }
    }
}
