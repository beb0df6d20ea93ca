//! Prefetch: ask for a cache line now, read it some 50 ns later.

/// Asks for the cache line that holds the first octet of `*target`.
///
/// A hint: it never faults and changes no value. The pointer may be dangling or null.
#[inline(always)]
pub fn prefetch_read<T>(target: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: PREFETCHT0 is in every x86-64; it reads nothing that the program can see and
        // ignores addresses that are not mapped, so any pointer is fine.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(target.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = target;
}

/// Asks for the line of `slice[index]`; an index past the end does nothing harmful.
#[inline(always)]
pub fn prefetch_slot<T>(slice: &[T], index: usize) {
    // `wrapping_add` makes a pointer that need not be inside; it is only a hint's argument.
    prefetch_read(slice.as_ptr().wrapping_add(index));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_is_harmless() {
        let values = [1u64, 2, 3];
        prefetch_slot(&values, 1);
        prefetch_slot(&values, usize::MAX);
        prefetch_read(std::ptr::null::<u64>());
        assert_eq!(values, [1, 2, 3]);
    }
}
