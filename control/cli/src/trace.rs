//! `sluice trace`: what would become of a packet, and why: here, or with the running daemon.

use std::path::PathBuf;

use clap::Args;
use proto::command::Command;
use proto::errors::{EXIT_OK, Failure};
use proto::names::Numeric;
use proto::packet::{MAX_FRAME, Packet, Traced};
use replay::{Arrive, ReplayError, TraceOptions, Which};

use crate::call::send;
use crate::invocation::Invocation;
use crate::output::{err, out};

/// The words of a trace.
#[derive(Debug, Args)]
pub(crate) struct Words {
    /// The configuration, as sluiced reads it; without one the running sluiced is asked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A capture that is replayed first, and the port that it comes in by (the first, if none is
    /// named). The running sluiced is only shown the packet asked for.
    #[arg(long = "in", value_name = "[PORT=]CAPTURE", value_parser = input)]
    inputs: Vec<(Option<String>, PathBuf)>,
    /// The packet of the captures to trace, counted from 0.
    #[arg(long, value_name = "N", requires = "inputs", conflicts_with = "words")]
    packet: Option<u64>,
    /// Lines `SECONDS arguments`, as replay takes them.
    #[arg(long, value_name = "FILE", requires = "config")]
    commands: Option<PathBuf>,
    /// Workers, whatever the configuration says.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "config",
          value_parser = clap::value_parser!(u16).range(1..=128))]
    workers: u16,
    /// Fixes every random choice.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "config")]
    seed: u64,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
    /// The packet: `tcp|udp|sctp SOURCE:PORT > DESTINATION:PORT` or `icmp SOURCE > DESTINATION`,
    /// then flags=SA, chunk=DATA, in=PORT, ttl=N, length=OCTETS, df, fragment=OFFSET[+], id=N as wanted.
    #[arg(value_name = "PACKET", required_unless_present = "packet")]
    words: Vec<String>,
}

/// A capture, perhaps behind the port's name. A path may have `=` in it behind a `/`.
fn input(text: &str) -> Result<(Option<String>, PathBuf), String> {
    match text.split_once('=') {
        Some((port, path)) if !port.contains('/') => {
            if port.is_empty() || path.is_empty() {
                return Err("[PORT=]CAPTURE is wanted".to_owned());
            }
            Ok((Some(port.to_owned()), path.into()))
        }
        _ => Ok((None, text.into())),
    }
}

/// Traces; gives the exit code.
///
/// # Errors
/// Words that make no packet, or no daemon.
pub(crate) fn run(words: Words, invocation: &Invocation) -> Result<u8, Failure> {
    let Some(config) = &words.config else {
        return ask(&words, invocation);
    };
    let which = match words.packet {
        Some(n) => Which::Captured(n),
        None => Which::Made(read(&words.words)?),
    };
    let options = TraceOptions {
        config: config.clone(),
        inputs: words.inputs,
        which,
        commands: words.commands,
        workers: words.workers,
        arrive: Arrive::Rss,
        seed: words.seed,
    };
    Ok(offline(&options, words.json))
}

/// Asks the running daemon.
fn ask(words: &Words, invocation: &Invocation) -> Result<u8, Failure> {
    let packet = match words.packet {
        Some(n) => match captured(&words.inputs, n) {
            Ok(frame) => frame,
            Err(error) => {
                err(&format!("sluice: {error}\n"));
                return Ok(error.exit());
            }
        },
        None if words.inputs.is_empty() => Traced::Packet(read(&words.words)?),
        None => {
            let text = "sluice: trace: --in without --config takes --packet: nothing is replayed \
                        into the running sluiced";
            return Err(Failure::usage(text));
        }
    };
    let json = words.json;
    send(invocation, &Command::Trace { packet, json }, "", &Numeric)
}

/// A packet of the captures. What is longer than any frame is cut: it is refused all the same.
fn captured(inputs: &[(Option<String>, PathBuf)], n: u64) -> Result<Traced, ReplayError> {
    let paths: Vec<_> = inputs.iter().map(|(_, path)| path.clone()).collect();
    let (at, mut bytes) = replay::captured(&paths, n)?;
    bytes.truncate(MAX_FRAME);
    let port = inputs[at].0.clone();
    Ok(Traced::Frame { bytes, port })
}

fn read(words: &[String]) -> Result<Packet, Failure> {
    let packet = words.join(" ").parse();
    packet.map_err(|error| Failure::usage(format!("sluice: trace: {error}")))
}

fn offline(options: &TraceOptions, json: bool) -> u8 {
    match replay::trace(options, std::io::stderr()) {
        Ok(trace) => {
            out(&if json { trace.json() } else { trace.text() });
            EXIT_OK
        }
        Err(error) => {
            err(&format!("sluice: {error}\n"));
            error.exit()
        }
    }
}
