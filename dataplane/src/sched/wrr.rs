//! Weighted round robin.

/// What control prepares: the steps of the falling threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrr {
    /// Greatest common divisor of the positive weights, 1 if there are none.
    pub step: u32,
    /// Where the threshold starts: the largest weight less (step - 1).
    pub top: u32,
}
