//! `sluice replay`: captures through the data plane, without a daemon.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use proto::errors::EXIT_OK;
use replay::{Arrive, Options};

use crate::output::err;

/// The words of a replay.
#[derive(Debug, Args)]
pub(crate) struct Words {
    /// The configuration, as sluiced reads it; devices are ignored.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A capture (pcap or pcapng) and the port that it comes in by; of equal times the first
    /// capture's packets come first.
    #[arg(long = "in", value_name = "PORT=CAPTURE", required = true, value_parser = input)]
    inputs: Vec<(String, PathBuf)>,
    /// The folder for PORT.pcap of each port.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Lines `SECONDS arguments` in ipvsadm's syntax, or `SECONDS sysctl [NAME[=VALUE]]`.
    #[arg(long, value_name = "FILE")]
    commands: Option<PathBuf>,
    /// Workers, whatever the configuration says.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=128))]
    workers: u16,
    /// Which worker a frame comes to: the one that a NIC's hash chooses, or each in turn.
    #[arg(long, value_enum, default_value = "rss")]
    arrive: Arrival,
    /// Frames of one time that are taken at once, 32 at most; changes nothing in the output.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    burst: u16,
    /// Fixes every random choice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A line of JSON for each packet and command, on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arrival {
    Rss,
    Spread,
}

fn input(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((port, path)) if !port.is_empty() && !path.is_empty() => {
            Ok((port.to_owned(), path.into()))
        }
        _ => Err("PORT=CAPTURE is wanted".to_owned()),
    }
}

/// Replays; gives the exit code.
pub(crate) fn run(words: Words) -> u8 {
    let options = Options {
        config: words.config,
        inputs: words.inputs,
        out: words.out,
        commands: words.commands,
        workers: words.workers,
        arrive: match words.arrive {
            Arrival::Rss => Arrive::Rss,
            Arrival::Spread => Arrive::Spread,
        },
        burst: words.burst.into(),
        seed: words.seed,
        json: words.json,
    };
    match replay::run(&options, std::io::stdout().lock(), std::io::stderr()) {
        Ok(()) => EXIT_OK,
        Err(error) => {
            err(&format!("sluice: {error}\n"));
            error.exit()
        }
    }
}
