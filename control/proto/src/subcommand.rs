//! Sluice's own words, for what ipvsadm has none: `status`, `reload`, ...
//!
//! Each is a word and a few switches. The CLI reads them with clap, for its help; this is what
//! goes over the socket.

use std::str::FromStr;

use crate::command::{Ask, Command, Reload};
use crate::errors::Failure;
use crate::packet::PacketError;

/// Understands a call that begins with one of Sluice's own words; `None`: it doesn't.
pub(crate) fn parse(argv: &[String]) -> Option<Result<Command, Failure>> {
    let (word, rest) = argv.split_first()?;
    Some(match word.as_str() {
        "status" => json(word, rest).map(|json| Command::Status { json }),
        "proc" => proc(word, rest),
        "log" => log(word, rest),
        "save" => json(word, rest).map(|json| Command::SaveFile { json }),
        "neigh" => json(word, rest).map(|json| Command::Neighbours { json }),
        "reload" => reload(word, rest).map(Command::Reload),
        "sysctl" => sysctl(word, rest),
        "trace" => trace(rest),
        "diff" => reload(word, rest).and_then(diff),
        _ => return None,
    })
}

/// `FILE`.
fn proc(word: &str, rest: &[String]) -> Result<Command, Failure> {
    match rest {
        [file] => file.parse().map(Command::Proc),
        [] => Err(Failure::usage("proc: which file?")),
        [_, other, ..] => Err(unexpected(word, other)),
    }
}

/// `[FILTER]`.
fn log(word: &str, rest: &[String]) -> Result<Command, Failure> {
    match rest {
        [] => Ok(Command::Log(None)),
        [filter] => Ok(Command::Log(Some(filter.clone()))),
        [_, other, ..] => Err(unexpected(word, other)),
    }
}

/// `trace [--json] PACKET`, the packet in one word or in many.
fn trace(rest: &[String]) -> Result<Command, Failure> {
    let (json, words) = match rest {
        [first, rest @ ..] if first == "--json" => (true, rest),
        _ => (false, rest),
    };
    let packet = words.join(" ").parse();
    let packet = packet.map_err(|error: PacketError| Failure::usage(format!("trace: {error}")))?;
    Ok(Command::Trace { packet, json })
}

/// `--json` and nothing else.
fn json(word: &str, rest: &[String]) -> Result<bool, Failure> {
    match rest {
        [] => Ok(false),
        [option] if option == "--json" => Ok(true),
        [other, ..] => Err(unexpected(word, other)),
    }
}

fn reload(word: &str, rest: &[String]) -> Result<Reload, Failure> {
    let mut asked = Reload::default();
    for option in rest {
        match option.as_str() {
            "--dry-run" => asked.dry_run = true,
            "--take-file" => asked.take_file = true,
            "--json" => asked.json = true,
            file if !file.starts_with('-') && asked.file.is_none() => {
                asked.file = Some(file.to_owned());
            }
            other => return Err(unexpected(word, other)),
        }
    }
    Ok(asked)
}

/// It changes nothing anyway, and shows what the file has.
fn diff(asked: Reload) -> Result<Command, Failure> {
    match asked {
        Reload { dry_run: true, .. } => Err(unexpected("diff", "--dry-run")),
        Reload {
            take_file: true, ..
        } => Err(unexpected("diff", "--take-file")),
        _ => Ok(Command::Diff(asked)),
    }
}

/// `[NAME[=VALUE]] [--json]`.
fn sysctl(command: &str, rest: &[String]) -> Result<Command, Failure> {
    let (options, words): (Vec<_>, Vec<_>) = rest.iter().partition(|word| *word == "--json");
    let ask = match words.as_slice() {
        [] => Ask::All,
        [word] if word.starts_with('-') => return Err(unexpected(command, word)),
        [word] => word.parse()?,
        [_, word, ..] => return Err(unexpected(command, word)),
    };
    let json = !options.is_empty();
    Ok(Command::Sysctl { ask, json })
}

impl FromStr for Ask {
    type Err = Failure;

    /// Reads `NAME` or `NAME=VALUE`.
    fn from_str(word: &str) -> Result<Self, Failure> {
        match word.split_once('=') {
            None => Ok(Self::One(word.to_owned())),
            Some(("", _)) => Err(Failure::usage(format!("sysctl: {word}: a name is missing"))),
            Some((name, "")) => Err(Failure::usage(format!(
                "sysctl: {name}=: a value is missing"
            ))),
            Some((name, value)) => Ok(Self::Set {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
        }
    }
}

fn unexpected(word: &str, other: &str) -> Failure {
    Failure::usage(format!("{word}: unexpected argument {other}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_are_read_back() {
        let all = [
            "status",
            "status --json",
            "save",
            "save --json",
            "neigh --json",
            "reload",
            "reload --dry-run --take-file --json lb.toml",
            "diff --json",
            "diff lb.toml",
        ];
        for line in all {
            let command = parse(&words(line)).expect("a word of ours");
            assert_eq!(command.expect("legal").words(), words(line));
        }
    }

    #[test]
    fn what_does_not_belong_is_named() {
        let cases = [
            ("status x", "status: unexpected argument x"),
            ("reload a b", "reload: unexpected argument b"),
            ("reload --force", "reload: unexpected argument --force"),
            ("diff --dry-run", "diff: unexpected argument --dry-run"),
        ];
        for (line, want) in cases {
            let refused = parse(&words(line)).expect("a word of ours");
            assert_eq!(refused.expect_err("illegal").text, want);
        }
        assert!(parse(&words("-L -n")).is_none());
        assert!(parse(&[]).is_none());
    }
}
