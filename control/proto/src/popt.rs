//! Words into options, by popt's rules: clusters, glued values, `--option=value`.
//!
//! Knows nothing of what the options mean: the caller looks each one up.

use crate::options::Takes;

/// How an option was spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling<'a> {
    /// `-x`
    Short(char),
    /// `--example`
    Long(&'a str),
}

/// An option that was read.
#[derive(Debug)]
pub(crate) struct Found<'a, T> {
    /// What the look-up gave.
    pub(crate) option: T,
    /// Its value, if there is one.
    pub(crate) value: Option<&'a str>,
}

/// What popt complains about, with the word it stumbled over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordError<'a> {
    #[error("{0}: unknown option")]
    Unknown(&'a str),
    #[error("{0}: missing argument")]
    Missing(&'a str),
    #[error("{0}: option does not take an argument")]
    Unwanted(&'a str),
}

/// The words of a call, read from the left.
pub(crate) struct Words<'a> {
    argv: &'a [String],
    next: usize,
    /// What is left of a cluster of short options.
    cluster: &'a str,
    /// After `--`, nothing is an option.
    options_end: bool,
    /// Words that are no options and no values.
    pub(crate) leftovers: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(argv: &'a [String]) -> Self {
        Self {
            argv,
            next: 0,
            cluster: "",
            options_end: false,
            leftovers: Vec::new(),
        }
    }

    /// The word that the last option stood in.
    pub(crate) fn word(&self) -> &'a str {
        self.next.checked_sub(1).map_or("", |at| &self.argv[at])
    }

    /// The next option, skipping words that are none.
    pub(crate) fn option<T>(
        &mut self,
        look_up: impl Fn(Spelling<'_>) -> Option<(T, Takes)>,
    ) -> Result<Option<Found<'a, T>>, WordError<'a>> {
        if !self.cluster.is_empty() {
            return self.short(look_up).map(Some);
        }
        while let Some(word) = self.argv.get(self.next) {
            self.next += 1;
            match word.strip_prefix('-') {
                _ if self.options_end => self.leftovers.push(word),
                None | Some("") => self.leftovers.push(word),
                Some("-") => self.options_end = true,
                Some(rest) => return self.dashed(rest, look_up).map(Some),
            }
        }
        Ok(None)
    }

    fn dashed<T>(
        &mut self,
        rest: &'a str,
        look_up: impl Fn(Spelling<'_>) -> Option<(T, Takes)>,
    ) -> Result<Found<'a, T>, WordError<'a>> {
        let Some(long) = rest.strip_prefix('-') else {
            self.cluster = rest;
            return self.short(look_up);
        };
        let (name, glued) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let (option, takes) =
            look_up(Spelling::Long(name)).ok_or(WordError::Unknown(self.word()))?;
        if takes == Takes::Nothing && glued.is_some() {
            return Err(WordError::Unwanted(self.word()));
        }
        Ok(Found {
            option,
            value: self.value(takes, glued)?,
        })
    }

    fn short<T>(
        &mut self,
        look_up: impl Fn(Spelling<'_>) -> Option<(T, Takes)>,
    ) -> Result<Found<'a, T>, WordError<'a>> {
        let mut letters = self.cluster.chars();
        let letter = letters.next().ok_or(WordError::Unknown(self.word()))?;
        let rest = letters.as_str();
        self.cluster = rest.strip_prefix('=').unwrap_or(rest);
        let (option, takes) =
            look_up(Spelling::Short(letter)).ok_or(WordError::Unknown(self.word()))?;
        if takes == Takes::Nothing {
            return Ok(Found {
                option,
                value: None,
            });
        }
        let glued = Some(std::mem::take(&mut self.cluster)).filter(|_| !rest.is_empty());
        Ok(Found {
            option,
            value: self.value(takes, glued)?,
        })
    }

    fn value(
        &mut self,
        takes: Takes,
        glued: Option<&'a str>,
    ) -> Result<Option<&'a str>, WordError<'a>> {
        if takes == Takes::Nothing || glued.is_some() {
            return Ok(glued);
        }
        let next = self.argv.get(self.next).map(String::as_str);
        match (takes, next) {
            (Takes::Maybe, Some(word)) if word.starts_with('-') => Ok(None),
            (Takes::Maybe, None) => Ok(None),
            (_, Some(word)) => {
                self.next += 1;
                Ok(Some(word))
            }
            (_, None) => Err(WordError::Missing(self.word())),
        }
    }
}
