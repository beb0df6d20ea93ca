//! Prefetch, the cycle counter, tag match, CRC32c and huge-page memory behind safe signatures.
//!
//! What the packet path wants of the machine and the language only gives as `unsafe`. Each
//! module proves its own; nothing here knows of packets. Where a machine has no such thing (or
//! we have not written it), the portable twin does the same more slowly.

mod crc32c;
mod pages;
mod prefetch;
mod tags;
mod tsc;

pub use crc32c::{CRC32C_SHIFT_MAX, crc32c_shift};
pub use pages::{HugeSlice, PageKind, Pages, PagesError};
pub use prefetch::{prefetch_read, prefetch_slot};
pub use tags::{TAGS, match_tags, match_tags_scalar};
pub use tsc::{Tsc, cycles};

/// Tells the processor that this thread spins: its twin on the core gets more, power use less.
#[inline]
pub fn pause() {
    std::hint::spin_loop();
}
