//! What of the grammar does nothing yet. Which services and real servers the data plane can
//! carry is the configuration's to say; here are whole commands and options.

use crate::command::{Command, ListOptions};

impl Command {
    /// The complaint about a call that is understood and does nothing yet; exit code 2.
    pub fn not_built(&self) -> Option<String> {
        self.missing()
            .map(|option| format!("sluice: {option}: not built yet"))
    }

    fn missing(&self) -> Option<&'static str> {
        match self {
            Self::List(options) => missing_view(options),
            Self::Neighbours { .. } => Some("neigh"),
            Self::Zero(_) => Some("--zero"),
            Self::StartDaemon(_) => Some("--start-daemon"),
            Self::StopDaemon { .. } => Some("--stop-daemon"),
            _ => None,
        }
    }
}

fn missing_view(options: &ListOptions) -> Option<&'static str> {
    first([
        (options.connections, "--connection"),
        (options.rate, "--rate"),
        (options.daemon, "--daemon"),
        (options.sync_id.is_some(), "--syncid"),
    ])
}

fn first<const N: usize>(options: [(bool, &'static str); N]) -> Option<&'static str> {
    options
        .into_iter()
        .find(|(used, _)| *used)
        .map(|(_, name)| name)
}
