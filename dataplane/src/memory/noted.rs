//! A buffer with a note of its owner's beside it, for whoever follows frames through a turn.

use std::ops::{Deref, DerefMut};

use super::Buffer;
use crate::observe::Event;
use crate::port::{Frame, RxFlags};

/// What stands beside a buffer.
pub trait Note: Send {
    /// Hears what happens to the frame.
    #[inline]
    fn observe(&mut self, _event: Event<'_>, _frame: &Buffer) {}
}

/// A frame in a buffer, and what its owner wants to know of it. In a box, for turns move whole
/// bursts about.
#[derive(Debug)]
pub struct Noted<T>(Box<Both<T>>);

/// What is in the box.
#[derive(Debug)]
pub struct Both<T> {
    /// The frame.
    pub buffer: Buffer,
    /// What stands beside it.
    pub note: T,
}

impl<T> Noted<T> {
    /// This frame with this note.
    pub fn new(buffer: Buffer, note: T) -> Self {
        Self(Box::new(Both { buffer, note }))
    }
}

impl<T> Deref for Noted<T> {
    type Target = Both<T>;

    fn deref(&self) -> &Both<T> {
        &self.0
    }
}

impl<T> DerefMut for Noted<T> {
    fn deref_mut(&mut self) -> &mut Both<T> {
        &mut self.0
    }
}

impl<T: Note> Frame for Noted<T> {
    fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.bytes_mut()
    }

    fn headroom(&self) -> usize {
        self.buffer.headroom()
    }

    fn tailroom(&self) -> usize {
        self.buffer.tailroom()
    }

    fn prepend(&mut self, n: usize) -> bool {
        self.buffer.prepend(n)
    }

    fn append(&mut self, n: usize) -> bool {
        self.buffer.append(n)
    }

    fn trim_front(&mut self, n: usize) {
        self.buffer.trim_front(n);
    }

    fn truncate(&mut self, len: usize) {
        self.buffer.truncate(len);
    }

    fn rss_hash(&self) -> Option<u32> {
        self.buffer.rss_hash()
    }

    fn rx_flags(&self) -> RxFlags {
        self.buffer.rx_flags()
    }

    fn stripped_tag(&self) -> Option<u16> {
        self.buffer.stripped_tag()
    }

    fn forget_stripped_tag(&mut self) {
        self.buffer.forget_stripped_tag();
    }

    fn observe(&mut self, event: Event<'_>) {
        let Both { buffer, note } = &mut *self.0;
        note.observe(event, buffer);
    }
}
