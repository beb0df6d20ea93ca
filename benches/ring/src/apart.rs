//! How far two cores are from each other: what a cache line takes from one's caches to the other's.
//!
//! Everything on a ring crosses that way twice, the mbuf's line and the packet's. Two cores of one
//! complex of an AMD EPYC are some 20 ns apart, two of different complexes 100 to 200: a virtual
//! machine's host may put its processors either way, and elsewhere a minute later.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::pin;

/// Alone on its line, and on the one that is fetched with it.
#[repr(align(128))]
struct Line(AtomicU32);

/// There and back, so often between two looks at the clock.
const ROUND: u32 = 200;
/// Altogether; in the best of its rounds nobody else had one of the cores.
const LONGEST: Duration = Duration::from_millis(20);

/// Nanoseconds from one to the other, in the best of many rounds.
///
/// # Errors
/// This process may not run on one of them.
pub(crate) fn apart([here, there]: [usize; 2]) -> Result<f64, String> {
    let (line, until) = (Line(AtomicU32::new(0)), Instant::now() + LONGEST);
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            pin(there)?;
            let mut turn = 1;
            while wait(&line, turn, until) {
                line.0.store(turn + 1, Ordering::Release);
                turn += 2;
            }
            Ok::<(), String>(())
        });
        pin(here)?;
        let (mut turn, mut best) = (0, f64::INFINITY);
        let mut start = Instant::now();
        while wait(&line, turn, until) {
            line.0.store(turn + 1, Ordering::Release);
            turn += 2;
            if turn % (2 * ROUND) == 0 {
                let now = Instant::now();
                let each = (now - start).as_secs_f64() * 1e9 / f64::from(2 * ROUND);
                (best, start) = (best.min(each), now);
            }
        }
        let done = answering.join().map_err(|_| "it panicked".to_owned());
        done.and_then(|done| done).map(|()| best)
    })
}

/// Waits for `turn` on the line; `false` once it is too late.
fn wait(line: &Line, turn: u32, until: Instant) -> bool {
    let mut looks = 0u32;
    while line.0.load(Ordering::Acquire) != turn {
        looks += 1;
        if looks.is_multiple_of(4096) && Instant::now() > until {
            return false;
        }
    }
    // Whoever is answered always: once in a while it looks at the clock, too.
    !turn.is_multiple_of(2 * ROUND) || Instant::now() < until
}
