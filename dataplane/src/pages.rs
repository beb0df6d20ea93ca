//! Tables of slots that are copied a page at a time.
//!
//! A snapshot holds its tables as [`Pages`]: a change copies the page that it touches and the
//! list of pages, and shares all others with the snapshot before. At 10,000 slots that is
//! one page of 64 values and 157 pointers.

use std::sync::Arc;

/// Slots in a page.
pub const PAGE: usize = 64;

/// A growing table with copy-on-write pages; a slot that was never set is `None`.
#[derive(Clone, Debug)]
pub struct Pages<T> {
    pages: Arc<[Arc<[Option<T>; PAGE]>]>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            pages: Arc::default(),
        }
    }
}

impl<T> Pages<T> {
    /// The value in `slot`.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let slot = slot as usize;
        self.pages.get(slot / PAGE)?[slot % PAGE].as_ref()
    }

    /// Every slot that holds a value, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let values = self.pages.iter().flat_map(|page| page.iter());
        (0u32..)
            .zip(values)
            .filter_map(|(slot, value)| Some((slot, value.as_ref()?)))
    }
}

impl<T: Clone> Pages<T> {
    /// Puts `value` into `slot`, growing the table up to it.
    pub fn set(&mut self, slot: u32, value: T) {
        let slot = slot as usize;
        if self.pages.len() <= slot / PAGE {
            let more = self.pages.len()..=slot / PAGE;
            let more = more.map(|_| Arc::new([const { None }; PAGE]));
            self.pages = self.pages.iter().cloned().chain(more).collect();
        }
        let pages = Arc::make_mut(&mut self.pages);
        Arc::make_mut(&mut pages[slot / PAGE])[slot % PAGE] = Some(value);
    }

    /// Empties `slot`.
    pub fn clear(&mut self, slot: u32) {
        let slot = slot as usize;
        if slot / PAGE < self.pages.len() {
            let pages = Arc::make_mut(&mut self.pages);
            Arc::make_mut(&mut pages[slot / PAGE])[slot % PAGE] = None;
        }
    }
}

/// A growing table of cells that are shared, never copied: one worker's counters.
///
/// Cloning shares the cells; growing a clone leaves the others as they were.
#[derive(Debug)]
pub struct Cells<T> {
    pages: Arc<[Arc<[T; PAGE]>]>,
}

impl<T> Clone for Cells<T> {
    fn clone(&self) -> Self {
        Self {
            pages: self.pages.clone(),
        }
    }
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self {
            pages: Arc::default(),
        }
    }
}

impl<T> Cells<T> {
    /// The cell of `slot`; `None` past what [`Cells::grow`] made.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let slot = slot as usize;
        self.pages.get(slot / PAGE).map(|page| &page[slot % PAGE])
    }
}

impl<T: Default> Cells<T> {
    /// Makes sure that cells for the slots below `slots` exist.
    pub fn grow(&mut self, slots: u32) {
        let pages = (slots as usize).div_ceil(PAGE);
        if self.pages.len() < pages {
            let more = self.pages.len()..pages;
            let more = more.map(|_| Arc::new(std::array::from_fn(|_| T::default())));
            self.pages = self.pages.iter().cloned().chain(more).collect();
        }
    }
}

impl<T: Clone + Default> Cells<T> {
    /// Cells that belong to nobody else: around the `slots` with what these ones show now,
    /// elsewhere blank.
    #[must_use]
    pub fn detached(&self, slots: impl IntoIterator<Item = u32>) -> Self {
        let blank = Arc::new(std::array::from_fn(|_| T::default()));
        let mut pages = vec![blank.clone(); self.pages.len()];
        for slot in slots {
            let at = slot as usize / PAGE;
            if let (Some(page), Some(ours)) = (self.pages.get(at), pages.get_mut(at))
                && Arc::ptr_eq(ours, &blank)
            {
                *ours = Arc::new(std::array::from_fn(|cell| page[cell].clone()));
            }
        }
        Self {
            pages: pages.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_the_older_copy_alone() {
        let mut new = Pages::default();
        new.set(3, 'a');
        new.set(200, 'b');
        let old = new.clone();
        new.set(3, 'c');
        new.clear(200);
        assert_eq!(old.iter().collect::<Vec<_>>(), [(3, &'a'), (200, &'b')]);
        assert_eq!(new.iter().collect::<Vec<_>>(), [(3, &'c')]);
        assert_eq!(new.get(1000), None);
    }

    #[test]
    fn untouched_pages_are_shared() {
        let mut new = Pages::default();
        new.set(0, 1);
        new.set(64, 2);
        let old = new.clone();
        new.set(0, 3);
        assert!(Arc::ptr_eq(&old.pages[1], &new.pages[1]));
        assert!(!Arc::ptr_eq(&old.pages[0], &new.pages[0]));
    }

    #[test]
    fn cells_are_the_same_in_every_clone() {
        let mut cells = Cells::<crate::counter::Counter>::default();
        cells.grow(1);
        let before = cells.clone();
        cells.grow(65);
        cells.get(0).expect("grown").add(7);
        assert_eq!(before.get(0).expect("grown").get(), 7);
        assert!(before.get(64).is_none());
        assert!(cells.get(64).is_some());
    }

    #[test]
    fn detached_cells_show_what_was_and_change_nothing() {
        let mut cells = Cells::<crate::counter::Counter>::default();
        cells.grow(200);
        let add = |cells: &Cells<crate::counter::Counter>, slot| {
            cells.get(slot).expect("grown").add(7);
        };
        [3, 70, 130].iter().for_each(|&slot| add(&cells, slot));
        let own = cells.detached([3, 130, 5, 9999]);
        let shown = |cells: &Cells<crate::counter::Counter>| {
            [3, 70, 130].map(|slot| cells.get(slot).expect("grown").get())
        };
        assert_eq!(shown(&own), [7, 0, 7]);
        [3, 70, 130].iter().for_each(|&slot| add(&own, slot));
        assert_eq!((shown(&own), shown(&cells)), ([14, 7, 14], [7, 7, 7]));
    }
}
