//! Why the daemon ends, and with which code (those of sysexits.h).

use std::fmt::Display;
use std::process::ExitCode;

/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;
const INTERNAL: u8 = 70;
const DEVICE: u8 = 71;
const CONFIGURATION: u8 = 78;

/// Why the daemon ends before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    /// The configuration can't be used.
    #[error("{0}")]
    Configuration(String),
    /// A device, memory or a right is missing.
    #[error("sluiced: {0}")]
    Device(String),
    /// Something that should not happen.
    #[error("sluiced: {0}")]
    Internal(String),
}

impl Exit {
    pub(crate) fn configuration(reason: impl Display) -> Self {
        Self::Configuration(reason.to_string())
    }

    pub(crate) fn device(reason: impl Display) -> Self {
        Self::Device(reason.to_string())
    }

    pub(crate) fn internal(reason: impl Display) -> Self {
        Self::Internal(reason.to_string())
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Configuration(_) => CONFIGURATION,
            Self::Device(_) => DEVICE,
            Self::Internal(_) => INTERNAL,
        })
    }
}
