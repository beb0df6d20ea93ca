//! Time as the packet path knows it: one reading a turn, in wrapping milliseconds.

/// Milliseconds on a clock that wraps after 49.7 days.
///
/// Only differences mean anything. The longest timeout (31 days) is shorter than the wrap,
/// so an elapsed time is always taken as unsigned: never compare two instants with `<`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Millis(pub u32);

impl Millis {
    /// Milliseconds from `earlier` to `self`.
    #[inline]
    pub fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The instant `ms` later.
    #[inline]
    pub fn plus(self, ms: u32) -> Self {
        Self(self.0.wrapping_add(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_survives_the_wrap() {
        let before = Millis(u32::MAX - 400);
        let after = before.plus(1000);
        assert_eq!(after, Millis(599));
        assert_eq!(after.since(before), 1000);
    }
}
