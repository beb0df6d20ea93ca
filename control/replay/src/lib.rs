//! The data plane offline: captures go through the very workers and the very control that
//! `sluiced` runs, on a clock taken from the packets. No NIC, no root, no thread.
//!
//! [`Options`] says what to replay, [`run`] does it; [`trace`] follows one packet closely. Inside, [`capture`] reads, `machine` is the
//! director with its workers, `script` holds the operator's commands, `report` says what
//! happened to each packet. `docs/replay.md` is the manual.
//!
//! The same input gives the same bytes, whatever the machine: whatever is random comes from
//! [`Options::seed`], and workers take turns instead of running side by side.
#![forbid(unsafe_code)]

mod arrive;
mod bursts;
pub mod capture;
mod connections;
mod error;
mod files;
mod flow;
mod frame;
mod machine;
mod merge;
mod names;
mod progress;
mod report;
mod run;
mod script;
mod time;
mod trace;

use std::path::PathBuf;

pub use arrive::Arrive;
pub use error::ReplayError;
pub use run::run;
pub use trace::{TraceOptions, Which, captured, trace};

/// What to replay, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configuration, as `sluiced` reads it.
    pub config: PathBuf,
    /// Captures with the port that each came in by; the order decides between equal times.
    pub inputs: Vec<(String, PathBuf)>,
    /// The folder for one `PORT.pcap` each of what the ports send; made if it is not there.
    pub out: PathBuf,
    /// The operator's commands with their times.
    pub commands: Option<PathBuf>,
    /// Workers, 1..=128, whatever the configuration says.
    pub workers: u16,
    /// Which worker a frame comes to.
    pub arrive: Arrive,
    /// Frames of one time that a worker takes at once, 1..=32. Changes nothing in the output.
    pub burst: usize,
    /// Fixes every random choice.
    pub seed: u64,
    /// One line of JSON a packet and command on standard output.
    pub json: bool,
}
