//! Calls in ipvsadm's grammar: understood here, with the system's names; carried out by the
//! daemon, which sees numbers only; listings put into words here again.

use std::io::Read;

use proto::command::Command;
use proto::errors::{EXIT_NEGATIVE, EXIT_OK, EXIT_USAGE, Failure};
use proto::grammar;
use proto::listing::Listing;
use proto::message::Format;
use proto::names::Names;
use proto::{help, layout, restore};

use crate::client::{Client, ClientError, PATIENCE};
use crate::invocation::Invocation;
use crate::names::System;
use crate::output::{err, out};

/// What follows the reason when ipvsadm finds no IPVS.
const ARE_YOU_SURE: &str =
    "Are you sure that IP Virtual Server is built in the kernel or as module?";

/// Carries out the call; gives the exit code.
///
/// ipvsadm looks for its kernel before it looks at its options, so the drop-in knocks first.
///
/// # Errors
/// Words that make no call, or no daemon.
pub(crate) fn run(invocation: &Invocation) -> Result<u8, Failure> {
    if invocation.program.is_drop_in() {
        connect(invocation)?;
    }
    let names = System::default();
    let command = grammar::ipvsadm(&invocation.called, &invocation.argv, &names)?;
    match command {
        Command::Help => out(&help_text(invocation)),
        Command::Version => out(&help::version(&invocation.called)),
        Command::Restore { .. } => {
            let stdin = read_stdin(&names)?;
            return send(invocation, &command, &stdin, &names);
        }
        _ => return send(invocation, &command, "", &names),
    }
    Ok(EXIT_OK)
}

/// `ipvsadm-save [-n]`.
///
/// # Errors
/// No daemon.
pub(crate) fn save(invocation: &Invocation) -> Result<u8, Failure> {
    let numeric = match invocation.argv.as_slice() {
        [] => false,
        [option] if option == "-n" => true,
        _ => return Ok(wrapper_usage("ipvsadm-save [-n]")),
    };
    let command = Command::Save { numeric };
    send(invocation, &command, "", &System::default())
}

/// `ipvsadm-restore`: what is there goes, standard input comes, as one change.
///
/// # Errors
/// No daemon.
pub(crate) fn restore(invocation: &Invocation) -> Result<u8, Failure> {
    if !invocation.argv.is_empty() {
        return Ok(wrapper_usage("ipvsadm-restore < FILE"));
    }
    connect(invocation)?;
    let names = System::default();
    let stdin = format!("-C\n{}", read_stdin(&names)?);
    let command = Command::Restore { atomic: false };
    send(invocation, &command, &stdin, &names)
}

fn wrapper_usage(usage: &str) -> u8 {
    err(&format!("Usage: {usage}\n"));
    EXIT_NEGATIVE
}

fn connect(invocation: &Invocation) -> Result<Client, Failure> {
    Client::connect(&invocation.socket, PATIENCE).map_err(|error| unreachable(invocation, &error))
}

/// The failure for a daemon that does not answer: ipvsadm's words where we stand in for it.
fn unreachable(invocation: &Invocation, error: &ClientError) -> Failure {
    if invocation.program.is_drop_in() && matches!(error, ClientError::Connect { .. }) {
        let reason = error.reason();
        return Failure::usage(format!("Can't initialize ipvs: {reason}\n{ARE_YOU_SURE}"));
    }
    Failure::usage(format!("sluice: {error}"))
}

fn help_text(invocation: &Invocation) -> String {
    let help = help::help(&invocation.called);
    if invocation.program.is_drop_in() {
        help
    } else {
        help + crate::subcommands::HELP
    }
}

/// Sends a call and prints its reply; gives the exit code.
///
/// It connects only now: whoever types the standard input of a restore may take his time, and
/// the daemon waits for nobody.
pub(crate) fn send(
    invocation: &Invocation,
    command: &Command,
    stdin: &str,
    names: &dyn Names,
) -> Result<u8, Failure> {
    let format = match command {
        // Numbers need nothing of ours: what comes is printed as it comes.
        Command::List(options) if options.connections && options.numeric => Format::Text,
        Command::List(_) | Command::Save { .. } => Format::Data,
        _ => Format::Text,
    };
    let mut shown = Shown::new(command, names);
    let mut exit = EXIT_USAGE;
    let mut client = connect(invocation)?;
    let sent = client.ask(&command.words(), stdin, format, |part| {
        if let Some(data) = part.reply.data {
            shown.take(data);
        }
        out(&part.reply.stdout);
        err(&part.reply.stderr);
        exit = part.reply.exit;
    });
    sent.map_err(|error| unreachable(invocation, &error))?;
    shown.finish();
    Ok(exit)
}

/// A listing on its way to standard output: connections as they come, services when all are
/// there, because those are sorted.
struct Shown<'a> {
    command: &'a Command,
    names: &'a dyn Names,
    data: Option<Listing>,
}

impl<'a> Shown<'a> {
    fn new(command: &'a Command, names: &'a dyn Names) -> Self {
        Self {
            command,
            names,
            data: None,
        }
    }

    fn take(&mut self, part: Listing) {
        let first = self.data.is_none();
        let data = self.data.get_or_insert_default();
        match self.command {
            Command::List(options) if options.connections => {
                if first {
                    out(&layout::connections_title(options));
                }
                out(&layout::connections(&part.connections, options, self.names));
            }
            _ => data.append(part),
        }
    }

    fn finish(self) {
        match (self.command, self.data) {
            (Command::List(options), Some(data)) if !options.connections => {
                out(&layout::list(&data, options, self.names));
            }
            (Command::Save { numeric }, Some(data)) => {
                out(&layout::save(&data, *numeric, self.names));
            }
            _ => {}
        }
    }
}

fn read_stdin(names: &dyn Names) -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("sluice: standard input: {error}")))?;
    Ok(numeric(&text, names))
}

/// The lines of a restore with numbers for names, each on the line that it was on. A line that is
/// no call goes as it is: the daemon complains when its turn comes, behind what stands before it.
fn numeric(text: &str, names: &dyn Names) -> String {
    let mut numeric = String::with_capacity(text.len());
    let mut at = 1;
    for call in restore::calls(text) {
        while at < call.line {
            numeric.push('\n');
            at += 1;
        }
        let words = match grammar::ipvsadm("ipvsadm", &call.argv, names) {
            Ok(command) => command.words(),
            Err(_) => call.argv,
        };
        numeric.push_str(&words.join(" "));
    }
    numeric.push('\n');
    numeric
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::names::Numeric;

    #[test]
    fn a_restore_keeps_its_lines() {
        let text = "# saved\nipvsadm -A -t 10.0.0:80\n\n-A -t nowhere:80\n-C";
        let want = "\n-A -t 10.0.0.0:80 -s wlc\n\n-A -t nowhere:80\n-C\n";
        assert_eq!(numeric(text, &Numeric), want);
        assert_eq!(numeric("", &Numeric), "\n");
    }
}
