//! What of the grammar does nothing yet. Which services and real servers the data plane can
//! carry is the configuration's to say; here are whole commands and options.

use crate::command::Command;

impl Command {
    /// The complaint about a call that is understood and does nothing yet; exit code 2.
    pub fn not_built(&self) -> Option<String> {
        self.missing()
            .map(|option| format!("sluice: {option}: not built yet"))
    }

    fn missing(&self) -> Option<&'static str> {
        match self {
            Self::StartDaemon(_) => Some("--start-daemon"),
            Self::StopDaemon { .. } => Some("--stop-daemon"),
            _ => None,
        }
    }
}
