//! Which of 16 one-octet tags equal a given one: the look into an index bucket.

/// Tags in a group.
pub const TAGS: usize = 16;

/// Bit `i` is set when `tags[i] == tag`.
#[inline(always)]
pub fn match_tags(tags: &[u8; TAGS], tag: u8) -> u16 {
    #[cfg(target_arch = "x86_64")]
    {
        match_tags_sse2(tags, tag)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        match_tags_scalar(tags, tag)
    }
}

/// The same without SIMD: the definition that the fast one is tested against, and what other
/// machines use.
#[inline]
pub fn match_tags_scalar(tags: &[u8; TAGS], tag: u8) -> u16 {
    tags.iter()
        .enumerate()
        .fold(0, |mask, (i, &t)| mask | (u16::from(t == tag) << i))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "MOVMSKB of 16 octets sets 16 bits"
)]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one proof for four instructions"
)]
fn match_tags_sse2(tags: &[u8; TAGS], tag: u8) -> u16 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    // SAFETY: SSE2 is part of x86-64. The load reads 16 octets without asking for alignment,
    // and `tags` is a reference to exactly 16.
    let mask = unsafe {
        let group = _mm_loadu_si128(tags.as_ptr().cast());
        _mm_movemask_epi8(_mm_cmpeq_epi8(group, _mm_set1_epi8(tag.cast_signed())))
    };
    mask as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bit_i_is_tag_i() {
        let mut tags = [0u8; TAGS];
        (tags[0], tags[3], tags[15]) = (0xff, 0xff, 0xff);
        assert_eq!(match_tags(&tags, 0xff), 0b1000_0000_0000_1001);
        assert_eq!(match_tags(&tags, 1), 0);
    }

    proptest! {
        #[test]
        fn simd_equals_scalar(mut tags: [u8; TAGS], tag: u8, copies: u16) {
            for (i, slot) in tags.iter_mut().enumerate() {
                if copies >> i & 1 == 1 {
                    *slot = tag;
                }
            }
            prop_assert_eq!(match_tags(&tags, tag), match_tags_scalar(&tags, tag));
            prop_assert_eq!(match_tags(&tags, tag) & copies, copies);
        }
    }
}
