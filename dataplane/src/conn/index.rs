//! From a hash to the slots that may be meant: buckets of one line each.
//!
//! ```text
//!   tags   12 bytes, 0 = empty | spill 2 bytes | -
//!   slots  12 x (slot, side)
//! ```
//!
//! A full bucket spills into the next and remembers how many it sent on; a search goes on
//! only past a bucket that did. Twelve places at a load of 5/7 make a spill rare enough that,
//! when everything is full, who looks for what is there reads 1.03 buckets, and who looks for what
//! is not 1.18 (at 0.8: 1.08 and 1.58); at half, 1.00.

use arch::{HugeSlice, Pages, PagesError};

use super::key::Hash;
use super::table::{Side, Slot};

const PLACES: usize = 12;
/// Buckets that one search may visit; a key that finds no place within them is refused.
const REACH: u32 = 32;
const REAL_SIDE: u32 = 1 << 31;

/// The slot and the side that a look-up will most likely end at. It may be wrong, and the slot may
/// have got another connection since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess(u32);

impl Guess {
    /// No idea: a slot that no table has.
    pub const NONE: Self = Self(u32::MAX);

    /// That slot and that side.
    #[inline]
    pub fn of(slot: Slot, side: Side) -> Self {
        Self(pack(slot, side))
    }

    /// The slot and the side.
    #[inline(always)]
    pub fn place(self) -> (Slot, Side) {
        unpack(self.0)
    }
}

impl Default for Guess {
    fn default() -> Self {
        Self::NONE
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    /// 12 tags, then the spill count in little-endian order, then nothing.
    tags: [u8; 16],
    slots: [u32; PLACES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    #[inline]
    fn matches(&self, tag: u8) -> u32 {
        u32::from(arch::match_tags(&self.tags, tag)) & ((1 << PLACES) - 1)
    }

    #[inline]
    fn spill(&self) -> u16 {
        u16::from_le_bytes([self.tags[12], self.tags[13]])
    }

    fn set_spill(&mut self, spill: u16) {
        [self.tags[12], self.tags[13]] = spill.to_le_bytes();
    }
}

/// The buckets.
#[derive(Debug)]
pub struct Index {
    buckets: HugeSlice<Bucket>,
    count: u32,
}

impl Index {
    /// An index for `keys` keys, at a load of at most 5/7.
    ///
    /// # Errors
    /// No memory.
    pub fn new(keys: usize, pages: Pages) -> Result<Self, PagesError> {
        let count = (keys * 7).div_ceil(5 * PLACES).max(1);
        let buckets = HugeSlice::filled(count, Bucket::default(), pages)?;
        Ok(Self {
            buckets,
            count: u32::try_from(count).expect("a table has at most 2^31 keys"),
        })
    }

    /// Octets that it takes.
    pub fn memory(&self) -> usize {
        self.buckets.mapped_bytes()
    }

    /// Fetches the bucket that a search for `hash` starts with.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        self.buckets.prefetch(hash.place(self.count) as usize);
    }

    /// Fetches the buckets that [`insert`](Self::insert) will most likely look at: in a nearly full
    /// table the first is often full, and the one behind it takes what belongs there.
    #[inline]
    pub fn prefetch_both(&self, hash: Hash) {
        let at = hash.place(self.count);
        self.buckets.prefetch(at as usize);
        self.buckets.prefetch(self.after(at) as usize);
    }

    /// The first slot in the first bucket that may be meant: what to fetch next, and to look at
    /// first. Of others that may be meant `also` hears; where none is and the search goes on, or
    /// what is new has no place here, the next bucket is fetched.
    #[inline(always)]
    pub fn guess(&self, hash: Hash, mut also: impl FnMut(Slot)) -> Option<Guess> {
        let at = hash.place(self.count);
        let bucket = &self.buckets[at as usize];
        let found = bucket.matches(hash.tag());
        let mut others = found & found.wrapping_sub(1);
        while others != 0 {
            also(unpack(bucket.slots[others.trailing_zeros() as usize]).0);
            others &= others - 1;
        }
        match bucket.slots.get(found.trailing_zeros() as usize) {
            Some(&word) => Some(Guess(word)),
            None => {
                if bucket.spill() != 0 || bucket.matches(0) == 0 {
                    self.buckets.prefetch(self.after(at) as usize);
                }
                None
            }
        }
    }

    /// The first slot that has this hash's tag and that `is_it` accepts.
    #[inline(always)]
    pub fn find(
        &self,
        hash: Hash,
        mut is_it: impl FnMut(Slot, Side) -> bool,
    ) -> Option<(Slot, Side)> {
        let (tag, mut at) = (hash.tag(), hash.place(self.count));
        for _ in 0..REACH {
            let bucket = &self.buckets[at as usize];
            let mut found = bucket.matches(tag);
            while found != 0 {
                let (slot, side) = unpack(bucket.slots[found.trailing_zeros() as usize]);
                if is_it(slot, side) {
                    return Some((slot, side));
                }
                found &= found - 1;
            }
            if bucket.spill() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Adds a slot under `hash`; `false`, and no change, if there is no place within reach.
    #[must_use]
    pub fn insert(&mut self, hash: Hash, slot: Slot, side: Side) -> bool {
        let home = hash.place(self.count);
        let Some((distance, place)) = self.first_empty(home) else {
            return false;
        };
        let mut at = home;
        for _ in 0..distance {
            let bucket = &mut self.buckets[at as usize];
            bucket.set_spill(bucket.spill() + 1);
            at = self.after(at);
        }
        let bucket = &mut self.buckets[at as usize];
        bucket.tags[place] = hash.tag();
        bucket.slots[place] = pack(slot, side);
        true
    }

    /// Removes what [`Index::insert`] added.
    pub fn remove(&mut self, hash: Hash, slot: Slot, side: Side) {
        let home = hash.place(self.count);
        let word = pack(slot, side);
        let mut at = home;
        for distance in 0..REACH {
            let bucket = &mut self.buckets[at as usize];
            let place = (0..PLACES).find(|&p| bucket.tags[p] != 0 && bucket.slots[p] == word);
            if let Some(place) = place {
                bucket.tags[place] = 0;
                self.unspill(home, distance);
                return;
            }
            at = self.after(at);
        }
        debug_assert!(false, "only what was inserted is removed");
    }

    /// How far from `home` the first empty place is, and which it is.
    fn first_empty(&self, home: u32) -> Option<(u32, usize)> {
        let mut at = home;
        for distance in 0..REACH.min(self.count) {
            let empty = self.buckets[at as usize].matches(0);
            if empty != 0 {
                return Some((distance, empty.trailing_zeros() as usize));
            }
            at = self.after(at);
        }
        None
    }

    /// Takes one spill off each of the `distance` buckets from `home` on.
    fn unspill(&mut self, home: u32, distance: u32) {
        let mut at = home;
        for _ in 0..distance {
            let bucket = &mut self.buckets[at as usize];
            bucket.set_spill(bucket.spill() - 1);
            at = self.after(at);
        }
    }

    #[inline]
    fn after(&self, at: u32) -> u32 {
        if at + 1 == self.count { 0 } else { at + 1 }
    }
}

#[inline]
fn pack(slot: Slot, side: Side) -> u32 {
    match side {
        Side::Client => slot.0,
        Side::Real => slot.0 | REAL_SIDE,
    }
}

#[inline]
fn unpack(word: u32) -> (Slot, Side) {
    let side = if word & REAL_SIDE == 0 {
        Side::Client
    } else {
        Side::Real
    };
    (Slot(word & !REAL_SIDE), side)
}
