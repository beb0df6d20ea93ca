//! What of the grammar does nothing yet. Which services and real servers the data plane can
//! carry is the configuration's to say; here are whole commands and options.

use crate::command::{AccessList, Command, ServiceExtras};

impl Command {
    /// The complaint about a call that is understood and does nothing yet; exit code 2.
    pub fn not_built(&self) -> Option<String> {
        self.missing()
            .map(|option| format!("sluice: {option}: not built yet"))
    }

    fn missing(&self) -> Option<&'static str> {
        match self {
            Self::AddService(it) | Self::EditService(it) => missing_extra(&it.extras),
            Self::Trace { .. } => Some("trace without --config"),
            Self::StartDaemon(_) => Some("--start-daemon"),
            Self::StopDaemon { .. } => Some("--stop-daemon"),
            Self::AddAccess(it) => Some(either(it.list, "--add-blklst", "--add-whtlst")),
            Self::DeleteAccess(it) => Some(either(it.list, "--del-blklst", "--del-whtlst")),
            Self::ListAccess { list, .. } => Some(either(*list, "--get-blklst", "--get-whtlst")),
            _ => None,
        }
    }
}

fn either(list: AccessList, block: &'static str, allow: &'static str) -> &'static str {
    match list {
        AccessList::Block => block,
        AccessList::Allow => allow,
    }
}

fn missing_extra(extras: &ServiceExtras) -> Option<&'static str> {
    first([
        (extras.synproxy.is_some(), "--synproxy"),
        (extras.connection_timeout.is_some(), "--conn-timeout"),
        (extras.proxy_protocol.is_some(), "--proxy-protocol"),
        (extras.expire_quiescent, "--expire-quiescent"),
    ])
}

fn first<const N: usize>(options: [(bool, &'static str); N]) -> Option<&'static str> {
    options
        .into_iter()
        .find(|(used, _)| *used)
        .map(|(_, name)| name)
}
