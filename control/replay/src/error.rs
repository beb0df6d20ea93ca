//! Why a replay ends badly.

use std::io;
use std::path::{Path, PathBuf};

use proto::errors::{EXIT_NEGATIVE, EXIT_USAGE};

use crate::capture::CaptureError;

/// Why a replay ends badly. Shows as what the user is told, mostly one line.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// What was asked for makes no replay: configuration, commands, arguments.
    #[error("{0}")]
    Usage(String),
    /// A capture that can't be read, or not to its end.
    #[error("{}: {error}", .path.display())]
    Capture {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        error: CaptureError,
    },
    /// A result that can't be written.
    #[error("{}: {error}", .path.display())]
    Output {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No memory for the workers' tables.
    #[error("{0}")]
    Memory(String),
}

impl ReplayError {
    /// The exit code: 2 for what could not begin, 1 for what did not come to its end.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            _ => EXIT_NEGATIVE,
        }
    }

    pub(crate) fn output(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Output { path, error }
    }
}
