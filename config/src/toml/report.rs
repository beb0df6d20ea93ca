//! Collects what there is to say about a file, and puts lines to it.

use std::fmt::Display;
use std::sync::Arc;

use super::Loaded;
use crate::built::{Feature, NotBuilt};
use crate::message::{Errors, Message, Place};
use crate::model::Config;

/// What was found so far. A position is an offset into the text, in octets.
pub(super) struct Report<'t> {
    text: &'t str,
    file: Arc<str>,
    /// Where each line begins.
    lines: Vec<usize>,
    errors: Vec<(usize, String)>,
    warnings: Vec<(usize, String)>,
    not_built: Vec<(usize, String)>,
    devices: Vec<(usize, String)>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str, origin: &str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            file: Arc::from(origin),
            lines: std::iter::once(0).chain(after_newlines).collect(),
            errors: Vec::new(),
            warnings: Vec::new(),
            not_built: Vec::new(),
            devices: Vec::new(),
        }
    }

    pub(super) fn error(&mut self, at: usize, text: impl Display) {
        self.errors.push((at, text.to_string()));
    }

    pub(super) fn warn(&mut self, at: usize, text: impl Display) {
        self.warnings.push((at, text.to_string()));
    }

    /// Something about a device that DPDK will say, too.
    pub(super) fn doubt(&mut self, at: usize, text: impl Display) {
        self.devices.push((at, text.to_string()));
    }

    /// Notes the feature at this place if this version does not do it.
    pub(super) fn uses(&mut self, at: usize, feature: Feature) {
        if !feature.is_built() {
            self.not_built.push((at, NotBuilt(feature).to_string()));
        }
    }

    /// The line of a position, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&start| start <= at)
    }

    /// The result: the configuration, if nothing was wrong.
    pub(super) fn finish(mut self, config: Config) -> Result<Loaded, Errors> {
        let errors = std::mem::take(&mut self.errors);
        if !errors.is_empty() {
            return Err(Errors(self.messages(errors)));
        }
        let warnings = std::mem::take(&mut self.warnings);
        let not_built = std::mem::take(&mut self.not_built);
        let devices = std::mem::take(&mut self.devices);
        Ok(Loaded {
            config,
            warnings: self.messages(warnings),
            not_built: self.messages(not_built),
            devices: self.messages(devices),
        })
    }

    fn messages(&self, mut found: Vec<(usize, String)>) -> Vec<Message> {
        found.sort_by_key(|(at, _)| *at);
        let messages = found.into_iter().map(|(at, text)| self.message(at, text));
        let mut messages: Vec<_> = messages.collect();
        messages.dedup();
        messages
    }

    fn message(&self, at: usize, text: String) -> Message {
        let line = if self.text.is_empty() {
            None
        } else {
            Some(self.line(at))
        };
        Message {
            at: Place {
                file: Arc::clone(&self.file),
                line,
            },
            text,
        }
    }
}
