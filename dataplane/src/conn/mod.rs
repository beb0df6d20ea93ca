//! Connections of one worker.

pub mod tcp;
pub mod timeout;
