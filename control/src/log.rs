//! What is logged, as far as control has a say in it: the daemon gives the means.

use std::fmt::Debug;

/// A log whose filter can be changed while it runs.
pub trait Log: Debug {
    /// The filter, as [`Log::set`] takes it.
    fn filter(&self) -> String;

    /// Logs by another filter from now on: a level, or tracing's `target=level,...`.
    ///
    /// # Errors
    /// What is wrong with the filter; nothing changes then.
    fn set(&self, filter: &str) -> Result<(), String>;
}
