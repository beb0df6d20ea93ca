//! Counters with one writer.
//!
//! A worker counts with a plain load and a plain store: no locked instruction, no line that
//! two workers write. Anybody may read at any time and sees a value that was true a moment
//! ago.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A 64-bit total. Only its one owner may call [`Counter::add`].
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`, wrapping.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The total so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A 32-bit level that goes up and down. Only its one owner may change it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// One more.
    #[inline]
    pub fn up(&self) {
        self.set(self.get().wrapping_add(1));
    }

    /// One less.
    #[inline]
    pub fn down(&self) {
        debug_assert!(self.get() > 0, "a gauge never goes below zero");
        self.set(self.get().wrapping_sub(1));
    }

    /// Replaces the level.
    #[inline]
    pub fn set(&self, level: u32) {
        self.0.store(level, Relaxed);
    }

    /// The level now.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// A 64-bit value that its one owner replaces.
#[derive(Debug, Default)]
pub struct Word(AtomicU64);

impl Word {
    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A cell of its own, which begins with what the other shows now.
impl Clone for Counter {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.get()))
    }
}

/// A cell of its own, which begins with what the other shows now.
impl Clone for Gauge {
    fn clone(&self) -> Self {
        Self(AtomicU32::new(self.get()))
    }
}

/// A cell of its own, which begins with what the other shows now.
impl Clone for Word {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.get()))
    }
}
