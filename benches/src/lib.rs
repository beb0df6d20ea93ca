//! Workloads: flows in random order through a worker's own `turn`, on a port whose cost is
//! known.
//!
//! [`Generator`] is a port that writes the next flow's addresses into a recycled frame and
//! takes back what is sent. It keeps thousands of distinct buffers under way, because a few
//! hot ones flatter. [`Generator::idle_burst`] does its work without a worker: the difference
//! is the worker's. [`Lab::check`] compares whole frames before anything is timed.
#![forbid(unsafe_code)]

pub mod case;
pub mod clock;
pub mod floor;
pub mod flows;
pub mod frame;
pub mod generator;
pub mod lab;
pub mod source;
pub mod trace;

pub use case::{Case, Direction, Family, Mode};
pub use floor::Floor;
pub use frame::BenchFrame;
pub use generator::{BUFFERS, Generator};
pub use lab::Lab;
pub use source::{Segments, Source};
