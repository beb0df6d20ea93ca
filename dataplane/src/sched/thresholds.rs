//! When a real server has enough connections (reference B.5): `-x` keeps new ones away from
//! the upper threshold on, `-y` lets them in again below the lower one.
//!
//! Each worker decides for itself, by its own connections and what the others had at the last
//! sum ([`super::sums`]). With one worker there are no sums and it is exact; with more, what
//! arrives between two sums is let in.

use crate::services::{Others, RealBlock};

/// A real server's thresholds on active and inactive connections together; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// From so many connections on it takes no new ones.
    pub upper: u32,
    /// Below so many it takes new ones again; if 0, below three quarters of `upper`.
    pub lower: u32,
}

impl Limits {
    pub(super) fn reached(self, total: u32) -> bool {
        self.upper != 0 && total >= self.upper
    }

    pub(super) fn left(self, total: u32) -> bool {
        if self.lower != 0 {
            total < self.lower
        } else if self.upper != 0 {
            u64::from(total) * 4 < u64::from(self.upper) * 3
        } else {
            true
        }
    }

    /// Whether a change of the upper threshold from `old` lets new connections in at once.
    pub(super) fn raised_from(self, old: u32) -> bool {
        self.upper == 0 || self.upper > old
    }
}

/// Whether a threshold keeps new connections away. A worker's own judgement holds until the
/// next sum, which judges by everybody's connections.
#[inline]
pub fn is_overloaded(own: &RealBlock, others: Option<&Others>) -> bool {
    let mark = own.overloaded.get();
    match others {
        None => mark != 0,
        Some(others) => others.overloaded.get() != 0 || (mark != 0 && mark == current(others)),
    }
}

/// What a worker marks a real server with that it finds overloaded now.
fn current(others: &Others) -> u32 {
    others.round.get().wrapping_add(1).max(1)
}

/// After a connection was counted (a template is none).
#[inline]
pub fn bind(own: &RealBlock, others: Option<&Others>, limits: Limits) {
    edited(own, limits);
    if limits.reached(total(own, others)) {
        own.overloaded.set(others.map_or(1, current));
    }
}

/// After a connection was counted out.
#[inline]
pub fn unbind(own: &RealBlock, others: Option<&Others>, limits: Limits) {
    if own.overloaded.get() != 0 && limits.left(total(own, others)) {
        own.overloaded.set(0);
    }
}

/// After the real server was perhaps edited. The worker remembers the upper threshold that it
/// saw last.
#[inline]
pub fn edited(own: &RealBlock, limits: Limits) {
    let seen = own.upper.get();
    if seen != limits.upper {
        own.upper.set(limits.upper);
        if limits.raised_from(seen) {
            own.overloaded.set(0);
        }
    }
}

fn total(own: &RealBlock, others: Option<&Others>) -> u32 {
    let others = others.map_or(0, |o| o.active.get().saturating_add(o.inactive.get()));
    own.active
        .get()
        .saturating_add(own.inactive.get())
        .saturating_add(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-`: a connection comes or goes; `*`: everything comes that may. Says after
    /// each whether the real server is overloaded.
    fn story(upper: u32, lower: u32, events: &str) -> String {
        let (own, limits) = (RealBlock::default(), Limits { upper, lower });
        let step = |event| {
            match event {
                '+' => {
                    own.inactive.up();
                    bind(&own, None, limits);
                }
                '-' => {
                    own.inactive.down();
                    unbind(&own, None, limits);
                }
                other => panic!("no event {other}"),
            }
            if is_overloaded(&own, None) { 'x' } else { '.' }
        };
        events.chars().map(step).collect()
    }

    #[test]
    fn stories() {
        assert_eq!(story(0, 0, "++++----"), "........", "no threshold");
        assert_eq!(story(2, 0, "++--"), ".x..", "1 * 4 < 2 * 3");
        assert_eq!(
            story(4, 0, "++++--"),
            "...xx.",
            "3 is not below three quarters of 4"
        );
        assert_eq!(story(4, 2, "++++---"), "...xxx.", "below the lower one");
        assert_eq!(
            story(2, 0, "+++-+-"),
            ".xxxxx",
            "persistent clients come all the same"
        );
        assert_eq!(story(1, 1, "+-+-"), "x.x.");
    }

    #[test]
    fn edits() {
        let own = RealBlock::default();
        own.active.set(10);
        let edit = |upper| {
            edited(&own, Limits { upper, lower: 0 });
            is_overloaded(&own, None)
        };
        assert!(!edit(5), "an edit never closes");
        bind(&own, None, Limits { upper: 5, lower: 0 });
        assert!(edit(5), "unchanged");
        assert!(edit(3), "lowered");
        assert!(!edit(4), "raised, though still reached");
        bind(&own, None, Limits { upper: 4, lower: 0 });
        assert!(!edit(0), "none any more");
    }
}
