//! What memory alone costs: lines at random, as many at a time as a burst has packets, and one after the
//! other. A look-up in a table that no cache holds reads two of them; docs/performance.md compares.
//!
//! `cargo bench -p benches --bench lines`

use std::hint::black_box;

use arch::{HugeSlice, Pages};
use benches::clock::{Figures, interleaved};

/// MiB of the arrays.
const SIZES: [usize; 5] = [1, 16, 64, 256, 1024];
/// Lines that are fetched before the first of them is read.
const BURST: usize = 32;
const ROUNDS: usize = 300;
const BURSTS: u32 = 64;
/// Of a round that waits for each line.
const STEPS: u32 = 512;

/// A line of memory: where the next one is.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line(u32);

fn main() {
    println!(
        "{:>6} {:>12} {:>12}   ns a line, median (p10)",
        "MiB", "in bursts", "in turn"
    );
    for mib in SIZES {
        measure(mib);
    }
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 16
}

fn place(state: &mut u64, count: usize) -> usize {
    usize::try_from(random(state) % count as u64).expect("an index")
}

fn measure(mib: usize) {
    let count = mib << 14;
    let lines = HugeSlice::filled(count, Line::default(), Pages::Auto);
    let mut lines = lines.expect("memory for the array");
    // One cycle through all of them, in random order (Sattolo).
    let mut order: Vec<u32> = (0..).take(count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for left in (1..count).rev() {
        order.swap(left, place(&mut state, left));
    }
    for at in 0..count {
        lines[at] = Line(order[at]);
    }
    let mut bursts = || {
        for _ in 0..BURSTS {
            let mut places = [0; BURST];
            for to in &mut places {
                *to = place(&mut state, count);
                lines.prefetch(*to);
            }
            places.iter().for_each(|&at| {
                black_box(lines[at].0);
            });
        }
        BURSTS * u32::try_from(BURST).expect("few")
    };
    let mut at = 0;
    let mut in_turn = || {
        for _ in 0..STEPS {
            at = usize::try_from(lines[at].0).expect("an index");
        }
        black_box(at);
        STEPS
    };
    let figures = interleaved(ROUNDS, &mut [&mut bursts, &mut in_turn]);
    let shown = |Figures { median, p10, .. }: Figures| format!("{median:.1} ({p10:.1})");
    println!(
        "{mib:>6} {:>12} {:>12}",
        shown(figures[0]),
        shown(figures[1])
    );
}
