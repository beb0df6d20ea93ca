//! What ipvsadm has no word for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use proto::command::{Ask, Command, Reload};
use proto::errors::{EXIT_OK, EXIT_USAGE, Failure};
use proto::names::Numeric;

use crate::call::send;
use crate::check;
use crate::invocation::Invocation;
use crate::output::{err, out};
use crate::{replay, trace};

/// What the help of ipvsadm's grammar does not say.
pub(crate) const HELP: &str = "
Beside ipvsadm's grammar
  sluice status [--json]  workers, ports, neighbours, counters
  sluice neigh [--json]   who is where on our links, and address conflicts
  sluice proc FILE        what the kernel shows in /proc/net: ip_vs, ip_vs_conn,
                          ip_vs_stats, ip_vs_stats_percpu
  sluice log [FILTER]     what sluiced logs, shown or set
  sluice sysctl [NAME[=VALUE]] [--json]
                          IPVS's tunables, shown or set
  sluice check FILE       whether a configuration is good
  sluice reload [FILE] [--dry-run] [--take-file] [--json]
                          the file's changes, without a restart
  sluice diff [FILE]      where the running state and the file differ
  sluice save             the running state as a file
  sluice replay --config FILE --in PORT=CAPTURE --out DIR
                          what would become of these packets, offline
  sluice trace [--config FILE] PACKET
                          what would become of this packet, and why: with the
                          running sluiced, or offline with a configuration
  sluice --socket PATH ...  where sluiced listens (also SLUICE_SOCKET;
                          /run/sluice/sluice.sock)
";

/// Sluice's subcommands; ipvsadm's grammar is read elsewhere.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    about = "Talks to sluiced, the load balancer",
    after_help = "ipvsadm's options work as they are: sluice -Ln, sluice -A -t 10.0.0.1:80 -s rr. \
                  `sluice -h` lists them."
)]
pub(crate) struct Line {
    /// Where sluiced listens.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    subcommand: Chosen,
}

#[derive(Debug, Subcommand)]
enum Chosen {
    /// Shows workers, ports, neighbours and counters.
    Status {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Shows what the kernel's IPVS shows in its files of /proc/net.
    Proc {
        /// ip_vs, ip_vs_conn, ip_vs_stats or ip_vs_stats_percpu
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Shows or sets what sluiced logs.
    ///
    /// Setting it needs root, and lasts until the daemon ends: its option --log is for longer.
    Log {
        /// error, warn, info, debug, trace, off, or tracing's filters (control=debug,info)
        filter: Option<String>,
    },
    /// Shows or sets IPVS's tunables while the daemon runs.
    ///
    /// Without words all that do something, as `name = value`. Setting one needs root, and lasts until the
    /// daemon ends: the file's `[sysctl]` is for good.
    Sysctl {
        /// Which tunable, as the kernel names it (with or without `net.ipv4.vs.`), and its new value.
        #[arg(value_name = "NAME[=VALUE]")]
        setting: Option<String>,
        /// As JSON, with default, range, meaning, and who set it.
        #[arg(long)]
        json: bool,
    },
    /// Reads a configuration and says what is wrong with it.
    ///
    /// Exits with 0 if it is good, 1 if it has errors, 2 if it needs what this version does not do.
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Loads the changes of the configuration, touching nothing that did not change.
    ///
    /// The file is compared with the one that was loaded before; what commands made or changed
    /// stays as it is and is listed with a `!`. If the file asks for what only a restart can
    /// change, nothing is done. HUP does the same with the daemon's own file.
    ///
    /// Exits with 0; 255 if the file can't be loaded.
    Reload {
        #[command(flatten)]
        file: FileWords,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// What commands made or changed becomes as the file has it
        #[arg(long)]
        take_file: bool,
    },
    /// Shows where the running state and the file differ.
    ///
    /// `+` only the file has it, `-` only the running state, `~` both, but not alike; `!` a
    /// command did it, and a reload would leave it. Exits with 0 if there is no difference, else 1.
    Diff(FileWords),
    /// Shows who is where on our links: MAC, state, age, frames that wait, who sends there.
    Neigh {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Prints the running state as a configuration.
    Save {
        /// The services as JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Takes captures through the data plane, offline: no NIC, no root, the same result each time.
    ///
    /// Exits with 0; 1 if a capture can't be read to its end; 2 if what was asked for makes no
    /// replay.
    Replay(replay::Words),
    /// Follows one packet step by step, and says why each is taken: `sluice trace
    /// 'tcp 192.0.2.7:40000 > 10.0.0.1:80'`.
    ///
    /// The running sluiced says what it would do with the packet if it came now, and changes nothing.
    /// With --config it is offline, like replay. Exits with 0; 1 if a capture can't be read that far,
    /// or a worker does not answer; 2 if there is no such packet, or no sluiced.
    Trace(trace::Words),
}

/// A file for the daemon.
#[derive(Debug, Args)]
struct FileWords {
    /// The configuration; absent: the file that the daemon was started with
    file: Option<PathBuf>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl FileWords {
    /// The daemon may not see our files, or not under the same name: it gets the text.
    fn read(self) -> Result<(Reload, String), Failure> {
        let json = self.json;
        let Some(path) = self.file else {
            let asked = Reload {
                json,
                ..Reload::default()
            };
            return Ok((asked, String::new()));
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| Failure::usage(format!("sluice: {name}: {error}")))?;
        let file = Some(name);
        let asked = Reload {
            file,
            json,
            ..Reload::default()
        };
        Ok((asked, text))
    }
}

/// Whether the words are a subcommand and not ipvsadm's grammar.
pub(crate) fn asked(argv: &[String]) -> bool {
    argv.first().is_some_and(|first| !first.starts_with('-'))
}

/// Carries out a subcommand; gives the exit code.
///
/// # Errors
/// No daemon, or what the subcommand says.
pub(crate) fn run(invocation: &Invocation) -> Result<u8, Failure> {
    let words = std::iter::once("sluice").chain(invocation.argv.iter().map(String::as_str));
    let line = match Line::try_parse_from(words) {
        Ok(line) => line,
        Err(error) => return Ok(usage(&error)),
    };
    let socket = line.socket.as_ref().unwrap_or(&invocation.socket).clone();
    let invocation = Invocation {
        socket,
        ..invocation.clone()
    };
    match line.subcommand {
        Chosen::Status { json } => send(&invocation, &Command::Status { json }, "", &Numeric),
        Chosen::Proc { file } => send(&invocation, &Command::Proc(file.parse()?), "", &Numeric),
        Chosen::Log { filter } => send(&invocation, &Command::Log(filter), "", &Numeric),
        Chosen::Sysctl { setting, json } => {
            let ask = setting.map_or(Ok(Ask::All), |setting| setting.parse())?;
            send(&invocation, &Command::Sysctl { ask, json }, "", &Numeric)
        }
        Chosen::Check { file } => Ok(check::run(&file)),
        Chosen::Reload {
            file,
            dry_run,
            take_file,
        } => {
            let (asked, text) = file.read()?;
            let asked = Reload {
                dry_run,
                take_file,
                ..asked
            };
            send(&invocation, &Command::Reload(asked), &text, &Numeric)
        }
        Chosen::Diff(file) => {
            let (asked, text) = file.read()?;
            send(&invocation, &Command::Diff(asked), &text, &Numeric)
        }
        Chosen::Neigh { json } => send(&invocation, &Command::Neighbours { json }, "", &Numeric),
        Chosen::Save { json } => send(&invocation, &Command::SaveFile { json }, "", &Numeric),
        Chosen::Replay(words) => Ok(replay::run(words)),
        Chosen::Trace(words) => trace::run(words, &invocation),
    }
}

fn usage(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if error.use_stderr() {
        err(&text);
        EXIT_USAGE
    } else {
        out(&text);
        EXIT_OK
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_parser_is_sound() {
        Line::command().debug_assert();
    }
}
