//! The control thread: model, socket, neighbours, kernel path, publishing.
//!
//! Everything that may wait, allocate or fail lives here, so that workers need not. See the
//! README beside this crate for how a request and a frame pass through it.
#![forbid(unsafe_code)]

pub mod account;
pub mod arena;
pub mod client;
pub mod compile;
pub mod conflict;
pub mod connections;
pub mod cut;
pub mod defence;
pub mod engine;
pub mod kernel;
pub mod latency;
pub mod link;
pub mod links;
pub mod locals;
pub mod log;
pub mod model;
pub mod neigh;
mod netlink;
mod overlap;
pub mod paths;
pub mod reload;
pub mod run;
pub mod server;
pub mod settings;
pub mod signals;
pub mod socket;
pub mod stats;
pub mod status;
pub mod sums;
pub mod topology;
pub mod trace;
pub mod vip;
pub mod waiting;
