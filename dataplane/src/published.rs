//! How configuration reaches the workers: whole, and without waiting.
//!
//! One [`Publisher`] (control) replaces a snapshot; each worker holds a [`Reader`] and looks
//! once a turn. A worker never waits here and never frees: the publisher keeps every old
//! snapshot until all workers were seen past it, so the last reference always goes on the
//! control core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Cache};

use crate::port::WorkerId;

/// A value with the number of its publication, which only grows.
#[derive(Debug)]
struct Edition<T> {
    generation: u64,
    value: T,
}

/// The generation that one worker runs with, on a line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seen(AtomicU64);

/// Control's end.
#[derive(Debug)]
pub struct Publisher<T> {
    current: Arc<ArcSwap<Edition<T>>>,
    seen: Vec<Arc<Seen>>,
    old: VecDeque<Arc<Edition<T>>>,
    generation: u64,
}

impl<T> Publisher<T> {
    /// Publishes `value` as generation 0 and makes one reader for each of `workers`.
    pub fn new(value: T, workers: u16) -> (Self, Vec<Reader<T>>) {
        let current = Arc::new(ArcSwap::from_pointee(Edition {
            generation: 0,
            value,
        }));
        let seen: Vec<_> = (0..workers).map(|_| Arc::new(Seen::default())).collect();
        let readers = seen
            .iter()
            .map(|seen| Reader {
                cache: Cache::new(current.clone()),
                seen: seen.clone(),
            })
            .collect();
        (
            Self {
                current,
                seen,
                old: VecDeque::new(),
                generation: 0,
            },
            readers,
        )
    }

    /// Replaces the value and returns its generation. Never waits.
    pub fn publish(&mut self, value: T) -> u64 {
        self.generation += 1;
        let edition = Arc::new(Edition {
            generation: self.generation,
            value,
        });
        self.old.push_back(self.current.swap(edition));
        self.reclaim();
        self.generation
    }

    /// What was published last.
    pub fn latest(&self) -> T
    where
        T: Clone,
    {
        self.current.load().value.clone()
    }

    /// Frees the editions that every worker is past.
    pub fn reclaim(&mut self) {
        let slowest = self.slowest();
        while self
            .old
            .front()
            .is_some_and(|edition| edition.generation < slowest)
        {
            self.old.pop_front();
        }
    }

    /// The generation published last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The oldest generation that some worker still runs with; the newest without workers.
    pub fn slowest(&self) -> u64 {
        let seen = self.seen.iter().map(|seen| seen.0.load(Ordering::Acquire));
        seen.min().unwrap_or(self.generation)
    }

    /// The workers that don't run with `generation` yet.
    pub fn laggards(&self, generation: u64) -> impl Iterator<Item = WorkerId> {
        (0u16..)
            .zip(&self.seen)
            .filter(move |(_, seen)| seen.0.load(Ordering::Acquire) < generation)
            .map(|(worker, _)| WorkerId(worker))
    }

    /// Old editions that are still kept.
    pub fn kept(&self) -> usize {
        self.old.len()
    }
}

/// One worker's end.
#[derive(Debug)]
pub struct Reader<T> {
    cache: Cache<Arc<ArcSwap<Edition<T>>>, Arc<Edition<T>>>,
    seen: Arc<Seen>,
}

impl<T> Reader<T> {
    /// The value to use until the next call: once a turn, not once a packet.
    ///
    /// The worker is counted as past all older values from here on, so it may hold nothing
    /// that it took from them.
    #[inline]
    pub fn refresh(&mut self) -> &T {
        self.edition().0
    }

    /// As [`Reader::refresh`], with the value's generation.
    #[inline]
    pub fn edition(&mut self) -> (&T, u64) {
        let edition = self.cache.load();
        self.seen.0.store(edition.generation, Ordering::Release);
        (&edition.value, edition.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_value_stays_until_every_reader_is_past_it() {
        let (mut publisher, mut readers) = Publisher::new("a", 2);
        assert_eq!(publisher.publish("b"), 1);
        assert_eq!(
            publisher.laggards(1).collect::<Vec<_>>(),
            [WorkerId(0), WorkerId(1)]
        );
        assert_eq!(*readers[0].refresh(), "b");
        publisher.reclaim();
        assert_eq!((publisher.slowest(), publisher.kept()), (0, 1));
        assert_eq!(*readers[1].refresh(), "b");
        publisher.reclaim();
        assert_eq!((publisher.slowest(), publisher.kept()), (1, 0));
        assert_eq!(publisher.laggards(1).count(), 0);
    }

    #[test]
    fn the_last_reference_goes_with_the_publisher() {
        let first = Arc::new(());
        let (mut publisher, mut readers) = Publisher::new(first.clone(), 1);
        readers[0].refresh();
        publisher.publish(Arc::new(()));
        readers[0].refresh();
        assert_eq!(
            Arc::strong_count(&first),
            2,
            "the reader's drop was not the last"
        );
        publisher.reclaim();
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn without_workers_every_generation_is_seen_at_once() {
        let (mut publisher, _) = Publisher::new(0, 0);
        let generation = publisher.publish(1);
        assert_eq!((publisher.slowest(), publisher.kept()), (generation, 0));
    }
}
