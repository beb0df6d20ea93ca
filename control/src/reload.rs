//! What a reload does: the file that was loaded before, the file as it is now, and what runs,
//! held against each other object by object.
//!
//! The new file is compared with the file before, never with the running state: what the file
//! did not change is left alone, whatever commands made of it. Where a command changed what
//! the file sets, the command's word stays and is reported as drift; `take_file` makes the
//! file win. Pure: nothing is changed here.

mod merge;
mod report;
mod rest;

use serde::Serialize;

pub use merge::{Merged, Wanted, merge};
pub use report::{Report, Way};
pub use rest::{Rest, Restart, rest};

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The file has it and nothing like it runs.
    Add,
    /// It runs and the file doesn't have it.
    Remove,
    /// It runs otherwise than the file says.
    Change,
}

/// One place where the running state is not as the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What would make it so.
    pub action: Action,
    /// The kind of object: `service`, `real`, `vip`, `sysctl`, ...
    pub object: &'static str,
    /// The object's name.
    pub name: String,
    /// The service that a real server or local address belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The key that differs, where both have the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'static str>,
    /// Its value as it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Its value in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A command did this, not the file: a reload leaves it.
    pub drift: bool,
}

impl Difference {
    fn new(action: Action, object: &'static str, name: impl ToString) -> Self {
        Self {
            action,
            object,
            name: name.to_string(),
            service: None,
            key: None,
            running: None,
            file: None,
            drift: false,
        }
    }

    fn of(self, service: impl ToString) -> Self {
        let service = Some(service.to_string());
        Self { service, ..self }
    }

    fn drift(self, drift: bool) -> Self {
        Self { drift, ..self }
    }

    fn values(self, key: &'static str, running: String, file: String) -> Self {
        Self {
            key: Some(key),
            running: Some(running),
            file: Some(file),
            ..self
        }
    }
}
