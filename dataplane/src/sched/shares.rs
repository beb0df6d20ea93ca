//! What holds for every scheduler, and for several workers together.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::testing::{CLIENTS, Letters};
use super::{Flags, Kind, sums, thresholds::Limits};
use crate::services::{Blocks, RealBlock, RealId, ServiceBlock};
use crate::verdict::Counters;

const PICKS: u32 = 10_000;

/// How many of 10,000 each gets of `workers` that take turns. Every 80 connections, which is
/// 10 ms at 8000 a second, the sums are told.
fn shares(kind: Kind, weights: &[u32], workers: u16) -> HashMap<char, f64> {
    let worker = |n| Letters::of_worker(n, workers, kind, weights);
    let mut all: Vec<_> = (0..workers).map(worker).collect();
    let blocks: Vec<_> = all.iter().map(|letters| letters.blocks.clone()).collect();
    let mut shares = HashMap::new();
    for n in 0..PICKS {
        if n.is_multiple_of(80) {
            (0..26).for_each(|slot| sums::sum(&blocks, RealId(slot), Limits::default()));
        }
        let turn = n as usize % all.len();
        let letter = all[turn].picks(1).remove(0);
        *shares.entry(letter).or_default() += 100.0 / f64::from(PICKS);
    }
    shares
}

fn assert_same(kind: Kind, weights: &[u32]) {
    let (one, eight) = (shares(kind, weights, 1), shares(kind, weights, 8));
    for letter in one.keys().chain(eight.keys()) {
        let share = |of: &HashMap<char, f64>| of.get(letter).copied().unwrap_or(0.0);
        let points = (share(&one) - share(&eight)).abs();
        assert!(
            points <= 0.5,
            "{kind:?} {weights:?} {letter}: {points} points"
        );
    }
}

/// What a worker writes for a real server or a service fills a cache line, or more, alone.
#[test]
fn no_line_has_two_writers() {
    assert_eq!((size_of::<RealBlock>(), align_of::<RealBlock>()), (64, 64));
    assert_eq!(
        (size_of::<ServiceBlock>(), align_of::<ServiceBlock>()),
        (128, 64)
    );
}

/// Where everything lies that eight workers write, growing as control grows it: no line is in
/// two workers' memory.
#[test]
fn no_line_is_in_the_memory_of_two() {
    const LINE: usize = 64;
    fn lines<T>(of: &T) -> std::ops::RangeInclusive<usize> {
        let start = std::ptr::from_ref(of).addr();
        start / LINE..=(start + size_of::<T>() - 1) / LINE
    }
    let mut blocks: Vec<_> = (0..8).map(|_| Blocks::default()).collect();
    let counters: Vec<Arc<Counters>> = blocks.iter().map(|_| Arc::default()).collect();
    for slots in [1, 65, 200] {
        for worker in &mut blocks {
            worker.reals.grow(slots);
            worker.services.grow(slots);
        }
    }
    let mut writer = HashMap::new();
    for (worker, (blocks, counters)) in blocks.iter().zip(&counters).enumerate() {
        let reals = (0..200).flat_map(|slot| lines(blocks.reals.get(slot).expect("grown")));
        let services = (0..200).flat_map(|slot| lines(blocks.services.get(slot).expect("grown")));
        for line in reals.chain(services).chain(lines(&**counters)) {
            assert_eq!(*writer.entry(line).or_insert(worker), worker);
        }
    }
}

#[test]
fn eight_workers_share_as_one_does() {
    for kind in [Kind::Rr, Kind::Wrr, Kind::Wlc] {
        for weights in [
            &[1, 1, 1][..],
            &[1, 2, 3, 4],
            &[5, 1, 1],
            &[100, 50, 25],
            &[100, 1],
            &[3, 0, 7],
            &[64, 32, 16, 8, 4, 2, 1],
            &[13; 26],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        ] {
            assert_same(kind, weights);
        }
    }
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..=3u32, 1..=65535u32]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Over a small period the shares of eight workers are also those of the weights.
    #[test]
    fn shares_of_any_small_weights(weights in prop::collection::vec(0..=20u32, 1..20)) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let total: u32 = weights.iter().sum();
        let eight = shares(Kind::Wrr, &weights, 8);
        for (letter, &weight) in ('a'..).zip(&weights) {
            let want = 100.0 * f64::from(weight) / f64::from(total);
            let points = (eight.get(&letter).copied().unwrap_or(0.0) - want).abs();
            prop_assert!(points <= 0.5, "{}: {} points", letter, points);
        }
    }

    /// Whatever the weights, loads and thresholds, and whatever happens in between: only
    /// available real servers are chosen, and there is an answer.
    #[test]
    fn only_the_available(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        fallback: bool,
        port: bool,
        weights in prop::collection::vec(weight(), 0..12),
        events in prop::collection::vec((0..4u8, 0..12u8, weight()), 0..20),
    ) {
        let flags = Flags { fallback, port };
        let mut letters = Letters::with(kind, flags, &weights);
        let mut now = weights.clone();
        let mut overloaded = vec![false; now.len()];
        for (event, at, value) in events {
            let at = usize::from(at) % now.len().max(1);
            let letter = b'a' + u8::try_from(at).expect("few");
            match event {
                _ if now.is_empty() => {}
                0 => {
                    letters.set_weight(letter, value);
                    now[at] = value;
                }
                1 => {
                    overloaded[at] = !overloaded[at];
                    letters.overload(letter, overloaded[at]);
                }
                2 => letters.load(letter, value, value / 3),
                _ => letters.pass_minutes(value % 40),
            }
            let is_available = |at: usize| now[at] > 0 && !overloaded[at];
            for client in CLIENTS {
                let letter = letters.ask(client, 1234, client);
                if letter == '-' {
                    // Even with a fallback somebody may have no bucket.
                    let may_refuse = matches!(kind, Kind::Ovf | Kind::Dh | Kind::Sh | Kind::Mh);
                    let somebody = (0..now.len()).any(is_available);
                    prop_assert!(may_refuse || !somebody, "{:?} refuses", kind);
                } else {
                    prop_assert!(is_available(usize::from(letter as u8 - b'a')), "{kind:?}");
                }
            }
        }
    }
}
