//! Why a call failed, and the exit code that ipvsadm has for it.

/// Everything went well.
pub const EXIT_OK: u8 = 0;
/// A negative answer: no such service to list.
pub const EXIT_NEGATIVE: u8 = 1;
/// An option that is wrong, or a daemon that is down.
pub const EXIT_USAGE: u8 = 2;
/// The daemon refused, or the words make no call at all.
pub const EXIT_REFUSED: u8 = 255;

/// A call that failed: what ipvsadm prints on standard error, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The message, without a final newline.
    pub text: String,
    /// The exit code.
    pub exit: u8,
    /// Whether it is the daemon's refusal of a well-formed call: a restore goes on behind such a
    /// line, and stops at any other.
    pub refusal: bool,
}

impl Failure {
    /// An option error: exit code 2.
    pub fn usage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: EXIT_USAGE,
            refusal: false,
        }
    }

    /// Words that make no call: exit code 255.
    pub fn malformed(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: EXIT_REFUSED,
            refusal: false,
        }
    }

    /// A refusal by the daemon: exit code 255.
    pub fn refused(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: EXIT_REFUSED,
            refusal: true,
        }
    }
}
