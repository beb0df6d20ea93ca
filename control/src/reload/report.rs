//! What a reload did, or would do, in words and as JSON.

use std::fmt::{self, Display, Formatter, Write};

use serde::Serialize;

use super::{Action, Difference, Restart};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// To do it.
    Reload,
    /// To say what it would do.
    DryRun,
    /// To say where the running state and the file differ.
    Diff,
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was asked for.
    pub way: Way,
    /// The file.
    pub file: String,
    /// Whether it was applied.
    pub applied: bool,
    /// Where the running state is, or was, not as the file says.
    pub differences: Vec<Difference>,
    /// What only a restart can change. If there is any, nothing is applied.
    pub restart: Vec<Restart>,
    /// What in the file is legal and probably not meant, with its line.
    pub warnings: Vec<String>,
}

impl Report {
    /// What a reload changes.
    pub fn changes(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|it| !it.drift)
    }

    /// What commands changed and a reload leaves.
    pub fn drift(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|it| it.drift)
    }

    /// Whether the running state is as the file says.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.restart.is_empty()
    }

    /// For programs: one JSON object and a newline.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("strings and switches are always JSON");
        text.push('\n');
        text
    }

    /// For people: a line for each difference, and one that sums up.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for difference in &self.differences {
            writeln!(text, "{difference}").expect("a String takes everything");
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// The lines about what only a restart can change.
    pub fn complaint(&self) -> String {
        let mut text = String::new();
        for key in &self.restart {
            writeln!(text, "{}: {key}", self.file).expect("a String takes everything");
        }
        if !text.is_empty() && self.way == Way::Reload {
            text.push_str("nothing was changed\n");
        }
        text
    }

    /// One line without its end.
    pub fn summary(&self) -> String {
        let (changes, drift) = (self.changes().count(), self.drift().count());
        let verb = match self.way {
            Way::Reload if self.applied => "changed",
            Way::Reload | Way::DryRun => "to change",
            Way::Diff => "to reload",
        };
        let mut text = format!("{}: {changes} {verb}", self.file);
        if drift > 0 {
            let kept = format_args!(", {drift} left as commands made it");
            write!(text, "{kept}").expect("a String takes everything");
        }
        text
    }
}

/// `+` comes with the file, `-` goes, `~` changes; `!` is left because a command did it.
impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            _ if self.drift => '!',
            Action::Add => '+',
            Action::Remove => '-',
            Action::Change => '~',
        };
        write!(f, "{sign} {}", self.object.replace('_', " "))?;
        // There is one `[timeouts]`, and many services.
        if self.name != self.object {
            write!(f, " {}", self.name)?;
        }
        if let Some(service) = &self.service {
            write!(f, " of {service}")?;
        }
        if let (Some(key), Some(running), Some(file)) = (self.key, &self.running, &self.file) {
            write!(f, ": {key} {running} -> {file}")?;
        }
        f.write_str(match self.action {
            _ if !self.drift => "",
            Action::Add => ": a command removed it",
            Action::Remove => ": a command added it",
            Action::Change => ": a command changed it",
        })
    }
}
