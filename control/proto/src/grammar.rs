//! ipvsadm's grammar: the words of a call become a [`Command`], or ipvsadm's own complaint.
//!
//! `options` is the table, `popt` cuts words into options, `draft` understands the
//! options one by one, `finish` checks what belongs together.

use crate::command::Command;
use crate::draft::Draft;
use crate::errors::Failure;
use crate::finish::finish;
use crate::names::Names;
use crate::options::{self, COMMANDS, CommandRow, Flag, Group, OPTIONS, OptionRow, Takes, Verb};
use crate::popt::{Found, Spelling, WordError, Words};
use crate::subcommand;

/// Understands one call that came over the socket: ipvsadm's grammar, and Sluice's
/// own words beside it.
///
/// `program` is what the user called, for messages; `argv` the words behind it. Nothing at all
/// lists everything, as ipvsadm does.
///
/// # Errors
/// What ipvsadm prints and the code that it exits with.
pub fn parse(program: &str, argv: &[String], names: &dyn Names) -> Result<Command, Failure> {
    match subcommand::parse(argv) {
        Some(command) => command,
        None => ipvsadm(program, argv, names),
    }
}

/// Understands one call of ipvsadm; see [`parse`].
///
/// # Errors
/// What ipvsadm prints and the code that it exits with.
pub fn ipvsadm(program: &str, argv: &[String], names: &dyn Names) -> Result<Command, Failure> {
    if argv.is_empty() {
        return Ok(Command::List(Default::default()));
    }
    call(program, argv, names)
}

fn call(program: &str, argv: &[String], names: &dyn Names) -> Result<Command, Failure> {
    let mut words = Words::new(argv);
    let (row, value) = first(&mut words).ok_or_else(|| try_help(program))?;
    match row.verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        _ => {}
    }
    let mut draft = Draft::new(row.verb, value)?;
    while let Some(found) = words.option(|spelling| look_up(row.verb, spelling))? {
        match found.option {
            Any::Command => {
                return Err(Failure::usage(format!("invalid option `{}'", words.word())));
            }
            Any::Option(option) => take(&mut draft, option, found.value, names)?,
        }
    }
    let rest = draft.positionals(&words.leftovers)?;
    if let Some(word) = rest.first() {
        return Err(Failure::usage(format!("unexpected argument {word}")));
    }
    check(row, &draft)?;
    finish(draft)
}

/// The message for words that do not begin with a command.
fn try_help(program: &str) -> Failure {
    Failure::malformed(format!(
        "Try `{program} -h' or '{program} --help' for more information."
    ))
}

fn first<'a>(words: &mut Words<'a>) -> Option<(&'static CommandRow, Option<&'a str>)> {
    let Found { option, value } = words
        .option(|spelling| command_row(spelling).map(|row| (row, row.takes)))
        .ok()??;
    words.leftovers.is_empty().then_some((option, value))
}

fn command_row(spelling: Spelling<'_>) -> Option<&'static CommandRow> {
    COMMANDS.iter().find(|row| match spelling {
        Spelling::Short(letter) => row.short.contains(&letter),
        Spelling::Long(name) => row.long == name,
    })
}

/// What a word behind the command may be.
enum Any {
    Command,
    Option(&'static OptionRow),
}

fn look_up(verb: Verb, spelling: Spelling<'_>) -> Option<(Any, Takes)> {
    if let Some(row) = command_row(spelling) {
        return Some((Any::Command, row.takes));
    }
    let row = OPTIONS.iter().find(|row| match spelling {
        Spelling::Short('b') if verb.describes_real() => row.flag == Flag::FullNat,
        Spelling::Short(letter) => row.short == Some(letter),
        Spelling::Long(name) => row.long == name,
    })?;
    Some((Any::Option(row), row.takes))
}

fn take(
    draft: &mut Draft,
    row: &OptionRow,
    value: Option<&str>,
    names: &dyn Names,
) -> Result<(), Failure> {
    if let Some(group) = row.group
        && !draft.used.insert(group)
    {
        return Err(Failure::usage(format!(
            "multiple '{}' options specified",
            group.name()
        )));
    }
    draft.take(row.flag, value, names)
}

/// Whether the options used go with the command, in the order in which ipvsadm looks.
fn check(row: &CommandRow, draft: &Draft) -> Result<(), Failure> {
    let mut exclusive: Option<Group> = None;
    for &(group, name) in options::GROUPS {
        let used = draft.used.has(group);
        if row.required.contains(&group) {
            if !used {
                return Err(Failure::usage(format!(
                    "You need to supply the '{name}' option for the '{}' command",
                    row.name
                )));
            }
        } else if used && row.exclusive.contains(&group) {
            if let Some(other) = exclusive {
                return Err(conflict(name, other.name(), row.name));
            }
            exclusive = Some(group);
        } else if used && !row.allowed.contains(&group) {
            return Err(Failure::usage(format!(
                "Illegal '{name}' option with the '{}' command",
                row.name
            )));
        }
    }
    Ok(())
}

fn conflict(option: &str, other: &str, command: &str) -> Failure {
    Failure::usage(format!(
        "The option '{option}' conflicts with the '{other}' option in the '{command}' command"
    ))
}

impl From<WordError<'_>> for Failure {
    fn from(error: WordError<'_>) -> Self {
        Self::malformed(error.to_string())
    }
}

/// One option of ipvsadm's grammar, commands included: for shells that complete it and pages that
/// list it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its letters.
    pub short: &'static [char],
    /// Its name.
    pub long: &'static str,
    /// Whether a value belongs to it.
    pub value: Value,
    /// Whether it is a command, of which a call has one.
    pub is_command: bool,
}

/// Whether a word has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// None.
    Never,
    /// Maybe.
    Optional,
    /// Always.
    Needed,
}

impl From<Takes> for Value {
    fn from(takes: Takes) -> Self {
        match takes {
            Takes::Nothing => Self::Never,
            Takes::Maybe => Self::Optional,
            Takes::Value => Self::Needed,
        }
    }
}

/// Every word of the grammar: the commands, then the options.
pub fn words() -> impl Iterator<Item = Word> {
    let commands = COMMANDS.iter().map(|row| Word {
        short: row.short,
        long: row.long,
        value: row.takes.into(),
        is_command: true,
    });
    commands.chain(OPTIONS.iter().map(|row| Word {
        short: row.short.as_slice(),
        long: row.long,
        value: row.takes.into(),
        is_command: false,
    }))
}

#[cfg(test)]
mod keys;
#[cfg(test)]
mod tests;
