//! A fixed slice on 2 MiB pages where there are any.
//!
//! A table of a million connections touches a new page with each look-up; on 4 KiB pages the
//! walk through the page tables costs as much as the cache miss. Three ways are tried: pages
//! that the operator reserved (`MAP_HUGETLB`), pages that the kernel joins on its own
//! (`MADV_HUGEPAGE`), ordinary ones. Which it was is reported, because it explains the speed.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

const HUGE: usize = 2 << 20;

/// Octets of a cache line.
const LINE: usize = 64;

/// Below this a huge page would be mostly waste.
const WORTH: usize = HUGE / 2;

/// What the caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pages {
    /// The largest there are.
    #[default]
    Auto,
    /// Reserved 2 MiB pages or an error.
    Require,
    /// Ordinary pages, reserved ones left to others.
    Off,
}

/// What the memory lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Reserved 2 MiB pages.
    Huge,
    /// Transparent huge pages were asked for; the kernel gives them as it can.
    Transparent,
    /// The machine's ordinary pages.
    Ordinary,
}

/// Why there is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PagesError {
    /// No reserved pages.
    #[error(
        "{mib} MiB of 2 MiB hugepages are not free; reserve them (scripts/setup --hugepages {}) \
         or do not require them", .mib.div_ceil(2)
    )]
    NoHugepages {
        /// Memory asked for.
        mib: usize,
    },
    /// The kernel refuses.
    #[error(
        "the kernel has no {mib} MiB of memory for a table; ask for fewer entries (where \
         vm.overcommit_memory is 2 it may have promised all; vm.overcommit_ratio lets it promise more)"
    )]
    NoMemory {
        /// Memory asked for.
        mib: usize,
    },
}

/// A slice of fixed length on its own pages, at least cache-line aligned.
#[derive(Debug)]
pub struct HugeSlice<T> {
    data: NonNull<T>,
    len: usize,
    map: Option<Map>,
}

// SAFETY: the slice owns its elements and its mapping, and hands them out by the borrow rules
// only: it is as shareable as a `Box<[T]>`.
unsafe impl<T: Send> Send for HugeSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for HugeSlice<T> {}

impl<T: Copy> HugeSlice<T> {
    /// `len` copies of `value`. Every page is touched here, none later.
    ///
    /// # Errors
    /// No memory, or no hugepages where they are required.
    ///
    /// # Panics
    /// When `T` asks for more alignment than a page has.
    pub fn filled(len: usize, value: T, pages: Pages) -> Result<Self, PagesError> {
        Self::from_fn(len, pages, |_| value)
    }
}

impl<const N: usize> HugeSlice<[u32; N]> {
    /// `len` elements of zeros whose memory the kernel gives when it is written first, a page at
    /// a time, on ordinary pages: for what most users of a large table never need. The kernel
    /// promises it all at once, though (no `MAP_NORESERVE`): where it promises no more than it has
    /// (`vm.overcommit_memory = 2`) it says no here, and never kills somebody for it later.
    ///
    /// # Errors
    /// No address space.
    pub fn zeroed(len: usize) -> Result<Self, PagesError> {
        let mut slice = Self::empty(len, Pages::Off)?;
        if let Some(map) = &slice.map {
            madvise_small(map.start, map.len);
        }
        // Zeros, which the mapping consists of, are an array of integers.
        slice.len = len;
        Ok(slice)
    }
}

impl<T> HugeSlice<T> {
    /// `len` elements that `make` gives for the indices from 0.
    ///
    /// # Errors
    /// As for [`HugeSlice::filled`].
    ///
    /// # Panics
    /// As for [`HugeSlice::filled`], and where `make` does.
    pub fn from_fn(
        len: usize,
        pages: Pages,
        mut make: impl FnMut(usize) -> T,
    ) -> Result<Self, PagesError> {
        let mut slice = Self::empty(len, pages)?;
        for index in 0..len {
            let element = make(index);
            // SAFETY: `empty` mapped room for `len` elements at `data`, or `T` has no size;
            // `index < len`.
            let slot = unsafe { slice.data.add(index) };
            // SAFETY: the slot is inside the mapping, aligned, and nothing is in it yet.
            unsafe { slot.write(element) };
            // Counts what is there: a panic in `make` drops these and no more.
            slice.len = index + 1;
        }
        Ok(slice)
    }

    /// What the memory lies on.
    pub fn page_kind(&self) -> PageKind {
        self.map.as_ref().map_or(PageKind::Ordinary, |map| map.kind)
    }

    /// Octets of memory, whole pages.
    pub fn mapped_bytes(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.len)
    }

    /// Asks for the cache lines of element `index`, at most two; harmless past the end.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        let element = self.data.as_ptr().wrapping_add(index);
        crate::prefetch_read(element);
        if size_of::<T>() > LINE {
            crate::prefetch_read(element.wrapping_byte_add(LINE));
        }
    }

    /// Room for `capacity` elements, none there.
    fn empty(capacity: usize, pages: Pages) -> Result<Self, PagesError> {
        assert!(align_of::<T>() <= 4096, "a page is the largest alignment");
        let Some(bytes) = capacity.checked_mul(size_of::<T>()) else {
            return Err(PagesError::NoMemory {
                mib: usize::MAX >> 20,
            });
        };
        if bytes == 0 {
            return Ok(Self {
                data: NonNull::dangling(),
                len: 0,
                map: None,
            });
        }
        let map = Map::new(bytes, pages)?;
        Ok(Self {
            data: map.start.cast(),
            len: 0,
            map: Some(map),
        })
    }
}

impl<T> Deref for HugeSlice<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `from_fn` wrote the first `len` elements, or `zeroed` mapped them as the zeros
        // that they are, and nobody takes them out before `Drop`; the borrow of `self` covers them.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for HugeSlice<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl<T> Drop for HugeSlice<T> {
    fn drop(&mut self) {
        // SAFETY: the first `len` elements are there and nobody sees them after this; `map`,
        // which holds their memory, is dropped after this function.
        unsafe { ptr::drop_in_place(&raw mut **self) };
    }
}

/// A mapping of our own, zeroed, unmapped when dropped.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    len: usize,
    kind: PageKind,
}

impl Map {
    fn new(bytes: usize, pages: Pages) -> Result<Map, PagesError> {
        let mib = bytes.div_ceil(1 << 20);
        let worth = bytes >= WORTH || pages == Pages::Require;
        if pages != Pages::Off && worth {
            if let Some(map) = Map::huge(bytes) {
                return Ok(map);
            }
            if pages == Pages::Require {
                return Err(PagesError::NoHugepages { mib });
            }
            return Map::transparent(bytes).ok_or(PagesError::NoMemory { mib });
        }
        Map::ordinary(bytes).ok_or(PagesError::NoMemory { mib })
    }

    fn huge(bytes: usize) -> Option<Map> {
        let len = bytes.checked_next_multiple_of(HUGE)?;
        let start = mmap(len, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB)?;
        Some(Map {
            start,
            len,
            kind: PageKind::Huge,
        })
    }

    /// One huge page more than needed: what lies before and after the aligned part goes back.
    fn transparent(bytes: usize) -> Option<Map> {
        let len = bytes.checked_next_multiple_of(HUGE)?;
        let start = mmap(len.checked_add(HUGE)?, 0)?;
        let before = start.as_ptr().align_offset(HUGE);
        // SAFETY: the mapping is `len + HUGE` long and `before < HUGE`.
        let aligned = unsafe { start.add(before) };
        // SAFETY: `before + len < len + HUGE`.
        let end = unsafe { aligned.add(len) };
        munmap(start, before);
        munmap(end, HUGE - before);
        let asked = madvise_huge(aligned, len) && transparent_allowed();
        let kind = if asked {
            PageKind::Transparent
        } else {
            PageKind::Ordinary
        };
        Some(Map {
            start: aligned,
            len,
            kind,
        })
    }

    fn ordinary(bytes: usize) -> Option<Map> {
        let len = bytes.checked_next_multiple_of(4096)?;
        Some(Map {
            start: mmap(len, 0)?,
            len,
            kind: PageKind::Ordinary,
        })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        munmap(self.start, self.len);
    }
}

fn mmap(len: usize, flags: libc::c_int) -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping where the kernel likes: it takes nobody's memory.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        None
    } else {
        NonNull::new(start.cast())
    }
}

/// Gives `len` octets at `start` back; the callers pass only parts of mappings that they made
/// and no longer use.
fn munmap(start: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: page-aligned and inside a mapping of ours without users, by the rule above.
        unsafe { libc::munmap(start.as_ptr().cast(), len) };
    }
}

fn madvise_huge(start: NonNull<u8>, len: usize) -> bool {
    // SAFETY: MADV_HUGEPAGE changes no content, and the range is one mapping of ours.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) == 0 }
}

/// Has the kernel give ordinary pages only, one at a time. Where it knows no others it refuses, to
/// no harm.
fn madvise_small(start: NonNull<u8>, len: usize) {
    // SAFETY: MADV_NOHUGEPAGE changes no content, and the range is one mapping of ours.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
}

/// `madvise` succeeds where the operator turned transparent pages off; this knows better.
fn transparent_allowed() -> bool {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| !modes.contains("[never]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn filled_and_written() {
        for (len, pages) in [
            (0, Pages::Auto),
            (5, Pages::Auto),
            (1 << 19, Pages::Auto),
            (1 << 19, Pages::Off),
        ] {
            let mut slice = HugeSlice::filled(len, 7u64, pages).expect("a few MiB");
            assert_eq!(slice.len(), len);
            assert!(slice.iter().all(|&v| v == 7), "{len} {pages:?}");
            if let Some(last) = slice.last_mut() {
                *last = 9;
            }
            assert_eq!(slice.iter().filter(|&&v| v == 9).count(), len.min(1));
            slice.prefetch(len + 1);
        }
    }

    #[test]
    fn aligned_and_of_a_known_kind() {
        let small = HugeSlice::filled(3, 0u8, Pages::Auto).expect("one page");
        assert_eq!(
            (small.page_kind(), small.mapped_bytes()),
            (PageKind::Ordinary, 4096)
        );
        let large = HugeSlice::filled(3 << 20, 0u8, Pages::Auto).expect("4 MiB");
        assert_eq!(large.as_ptr().align_offset(HUGE), 0);
        assert_eq!(large.mapped_bytes(), 4 << 20);
        let off = HugeSlice::filled(3 << 20, 0u8, Pages::Off).expect("3 MiB");
        assert_eq!(off.page_kind(), PageKind::Ordinary);
    }

    #[test]
    fn elements_are_dropped_once() {
        let witness = Rc::new(());
        let slice = HugeSlice::from_fn(10, Pages::Off, |_| Rc::clone(&witness)).expect("one page");
        assert_eq!(Rc::strong_count(&witness), 11);
        drop(slice);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn zeros_take_memory_when_they_are_written() {
        let mut slice = HugeSlice::<[u32; 16]>::zeroed(1 << 20).expect("64 MiB of addresses");
        assert_eq!((slice.len(), slice.mapped_bytes()), (1 << 20, 64 << 20));
        let start = slice.as_ptr().addr();
        assert_eq!(resident_kib(start), 0, "nothing is there yet");
        slice[1 << 19] = [7; 16];
        assert_eq!(slice[1 << 19], [7; 16]);
        assert_eq!(slice[(1 << 20) - 1], [0; 16]);
        let page = resident_kib(start);
        assert!((4..=64).contains(&page), "a page, not {page} KiB");
        assert!(
            HugeSlice::<[u32; 16]>::zeroed(0)
                .expect("nothing")
                .is_empty()
        );
    }

    /// What the mapping of 64 MiB at `start` has of memory; other threads' are none of its.
    fn resident_kib(start: usize) -> u64 {
        let maps = fs::read_to_string("/proc/self/smaps").expect("Linux");
        let head = format!("{start:x}-{:x} ", start + (64 << 20));
        let (_, map) = maps.split_once(&head).expect("a mapping of its own");
        let line = map.lines().find(|line| line.starts_with("Rss:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|kib| kib.parse().ok()).expect("a number")
    }

    #[test]
    fn elements_without_size() {
        assert_eq!(
            HugeSlice::filled(1000, (), Pages::Auto)
                .expect("nothing")
                .len(),
            1000
        );
    }

    #[test]
    fn too_much_is_an_error() {
        let absurd = HugeSlice::filled(usize::MAX / 2, 0u8, Pages::Auto).map(|_| ());
        assert!(matches!(absurd, Err(PagesError::NoMemory { .. })));
        let overflow = HugeSlice::filled(usize::MAX / 2, 0u64, Pages::Auto).map(|_| ());
        assert!(matches!(overflow, Err(PagesError::NoMemory { .. })));
        let required = HugeSlice::filled(1 << 45, 0u8, Pages::Require).map(|_| ());
        assert_eq!(required, Err(PagesError::NoHugepages { mib: 1 << 25 }));
        assert!(
            required
                .expect_err("checked")
                .to_string()
                .contains("scripts/setup --hugepages")
        );
    }
}
