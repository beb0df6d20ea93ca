//! Taking keys out of a TOML table, strictly: every key is known and every value has the
//! type and range that it may have, or the report says so and the caller gets `None`.

use std::ops::RangeInclusive;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::report::Report;

/// A table of the file, by the name that messages give it: `[[port]]`.
#[derive(Clone, Copy)]
pub(super) struct Table<'d> {
    title: &'static str,
    at: usize,
    entries: &'d DeTable<'d>,
}

/// A value, with its key and where it is.
#[derive(Clone, Copy)]
pub(super) struct Value<'d> {
    key: &'d str,
    /// Where it is, as an offset into the text.
    pub(super) at: usize,
    value: &'d DeValue<'d>,
}

/// Something read from a table, with the table for later messages.
pub(super) struct Placed<'d, T> {
    pub(super) value: T,
    pub(super) table: Table<'d>,
}

/// What was read, without the places.
pub(super) fn values<T>(placed: Vec<Placed<'_, T>>) -> Vec<T> {
    placed.into_iter().map(|placed| placed.value).collect()
}

impl<'d> Table<'d> {
    /// The table that is the whole file.
    pub(super) fn root(entries: &'d DeTable<'d>) -> Self {
        Self {
            title: "the file",
            at: 0,
            entries,
        }
    }

    /// Reports each key that is not among `keys`.
    pub(super) fn allow(&self, report: &mut Report<'_>, keys: &[&str]) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if !keys.contains(&name) {
                let allowed = keys.join(", ");
                let title = self.title;
                let text = format!("unknown key {} in {title}; allowed: {allowed}", shown(name));
                report.error(key.span().start, text);
            }
        }
    }

    /// The names of all keys, in the order of the file.
    pub(super) fn keys(&self) -> Vec<Value<'d>> {
        let mut values: Vec<_> = self.entries.iter().map(|entry| value_of(entry)).collect();
        values.sort_by_key(|value| value.at);
        values
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Value<'d>> {
        self.entries.get_key_value(key).map(value_of)
    }

    /// The value of a key that must be there.
    pub(super) fn need(&self, report: &mut Report<'_>, key: &str) -> Option<Value<'d>> {
        let value = self.get(key);
        if value.is_none() {
            report.error(self.at, format!("{} needs the key {key}", self.title));
        }
        value
    }

    /// Where a key is; where the table begins if it is not there.
    pub(super) fn at(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.at)
    }

    /// The table under a key, called `title` in messages.
    pub(super) fn table(
        &self,
        report: &mut Report<'_>,
        key: &str,
        title: &'static str,
    ) -> Option<Table<'d>> {
        let value = self.get(key)?;
        match value.value {
            DeValue::Table(entries) => Some(Table {
                title,
                at: value.at,
                entries,
            }),
            _ => value.refuse(report, "a table"),
        }
    }

    /// The tables of an array of tables, called `title` in messages.
    pub(super) fn tables(
        &self,
        report: &mut Report<'_>,
        key: &str,
        title: &'static str,
    ) -> Vec<Table<'d>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.value else {
            report.error(
                value.at,
                format!("{key} is not an array of tables: write {title}"),
            );
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| element(report, item, title))
            .collect()
    }
}

fn element<'d>(
    report: &mut Report<'_>,
    item: &'d Spanned<DeValue<'d>>,
    title: &'static str,
) -> Option<Table<'d>> {
    let at = item.span().start;
    match item.get_ref() {
        DeValue::Table(entries) => Some(Table { title, at, entries }),
        _ => {
            report.error(at, format!("an entry of {title} is not a table"));
            None
        }
    }
}

fn value_of<'d>(
    (key, value): (
        &'d Spanned<std::borrow::Cow<'d, str>>,
        &'d Spanned<DeValue<'d>>,
    ),
) -> Value<'d> {
    Value {
        key: key.get_ref(),
        at: key.span().start,
        value: value.get_ref(),
    }
}

impl<'d> Value<'d> {
    /// The key.
    pub(super) fn key(&self) -> &'d str {
        self.key
    }

    /// Reports that this is not `expected`, and returns nothing.
    pub(super) fn refuse<T>(&self, report: &mut Report<'_>, expected: &str) -> Option<T> {
        report.error(
            self.at,
            format!("{} {} is not {expected}", self.key, said(self.value)),
        );
        None
    }

    /// A number in `range`, which must fit `T`.
    pub(super) fn integer<T: TryFrom<i64>>(
        &self,
        report: &mut Report<'_>,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let expected = match (range.start(), range.end()) {
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("in {start}..={end}"),
        };
        let DeValue::Integer(written) = self.value else {
            return self.refuse(report, &format!("a whole number {expected}"));
        };
        let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
        let legal = number.filter(|number| range.contains(number));
        let fitting = legal.and_then(|number| T::try_from(number).ok());
        fitting.or_else(|| self.refuse(report, &expected))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, report: &mut Report<'_>) -> Option<bool> {
        self.value
            .as_bool()
            .or_else(|| self.refuse(report, "true or false"))
    }

    /// A text that `read` makes something of; `expected` says what it may be.
    pub(super) fn parse<T>(
        &self,
        report: &mut Report<'_>,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.value
            .as_str()
            .and_then(read)
            .or_else(|| self.refuse(report, expected))
    }

    /// One of the names.
    pub(super) fn choice<T: Copy>(
        &self,
        report: &mut Report<'_>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let expected = match names[..] {
            [name] => name.to_owned(),
            _ => format!("one of {}", names.join(", ")),
        };
        let read = |text: &str| {
            choices
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, t)| *t)
        };
        self.parse(report, &expected, read)
    }

    /// The entries of a list; each goes by the list's key.
    pub(super) fn list(&self, report: &mut Report<'_>) -> Option<Vec<Value<'d>>> {
        self.entries().or_else(|| self.refuse(report, "a list"))
    }

    /// The entries of a list, or the single value that stands for a list of one.
    pub(super) fn one_or_list(&self) -> Vec<Value<'d>> {
        self.entries().unwrap_or_else(|| vec![*self])
    }

    /// Whether it is written as text.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    fn entries(&self) -> Option<Vec<Value<'d>>> {
        let items = self.value.as_array()?;
        let entry = |item: &'d Spanned<DeValue<'d>>| Value {
            key: self.key,
            at: item.span().start,
            value: item.get_ref(),
        };
        Some(items.iter().map(entry).collect())
    }
}

/// What the file says, short enough for a message.
fn said(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => shown(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(items) if items.is_empty() => "(an empty list)".to_owned(),
        DeValue::Array(_) => "(a list)".to_owned(),
        DeValue::Table(_) => "(a table)".to_owned(),
    }
}

/// A text of the file in quotes, on one line and cut if it is long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("{:?}", short + dots)
}
