//! Sentences for the operator: where, what it says, what it may say.
//!
//! The format has far more ways to be wrong than any caller could tell apart, so an error is
//! its place and its sentence, not an enum: nobody downstream does anything with one but
//! show it.

use std::fmt;
use std::sync::Arc;

/// A line of a file; shows as `lb.toml:12`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// The line, counted from 1; absent if it is about the whole file.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// One line for the operator; shows as `lb.toml:12: weight 70000 is not in 0..=65535`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Where.
    pub at: Place,
    /// What it says, and what it may say. Never more than one line.
    pub text: String,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// Everything that is wrong with a file, in the order of its lines; never empty. Shows as
/// one message a line, without a newline at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Message>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, message) in self.0.iter().enumerate() {
            let newline = if i > 0 { "\n" } else { "" };
            write!(f, "{newline}{message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
