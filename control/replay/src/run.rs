//! From options to results.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use config::model::Config;
use config::toml::{self, Loaded};
use dataplane::port::{Frame, PortId};
use proto::message::Reply;

use crate::Options;
use crate::bursts::Bursts;
use crate::error::ReplayError;
use crate::files::{self, Sent as Output};
use crate::frame;
use crate::machine::{Machine, Sent};
use crate::merge::Merge;
use crate::progress::Progress;
use crate::report::{Packet, Report};
use crate::script::{self, Step};
use crate::time::Nanos;

/// Replays, and writes one capture for each port. `stdout` gets the lines of JSON if they are
/// wanted, `stderr` warnings, and what commands print otherwise.
///
/// # Errors
/// See [`ReplayError`]. What came before an unreadable packet is done all the same.
pub fn run<O: Write, E: Write>(options: &Options, stdout: O, stderr: E) -> Result<(), ReplayError> {
    let mut stderr = stderr;
    let config = read(&options.config, &mut stderr)?;
    let targets = config.ports.iter().map(|port| port.name.as_str());
    let targets = targets.filter_map(|name| fs::canonicalize(files::path(&options.out, name)).ok());
    let inputs = inputs(&options.inputs, &targets.collect::<Vec<_>>(), &config)?;
    let steps = match &options.commands {
        Some(path) => steps(path)?,
        None => Vec::new(),
    };
    let merge = Merge::open(inputs)?;
    let first = steps.first().map(|step| step.at);
    let start = [merge.at(), first].into_iter().flatten().min();
    let machine = Machine::new(&config, options, start.unwrap_or_default())?;
    let names = || config.ports.iter().map(|port| port.name.as_str());
    fs::create_dir_all(&options.out).map_err(|error| ReplayError::output(&options.out, error))?;
    let outputs = names().map(|name| Output::create(&options.out, name));
    let outputs: Vec<Output> = outputs.collect::<Result<_, _>>()?;
    let report = options
        .json
        .then(|| Report::new(BufWriter::with_capacity(1 << 16, stdout), names()));
    let macs = machine.engine.topology().ports();
    let macs = macs.map(|(_, setup)| setup.any_mac.then_some(setup.mac.0));
    let mut replay = Replay {
        macs: macs.collect(),
        progress: Progress::new(merge.size),
        machine,
        merge,
        outputs,
        report,
        stderr,
        burst: options.burst.clamp(1, dataplane::port::BURST),
        n: 0,
        sent: Vec::new(),
        group: Vec::new(),
        bursts: Bursts::default(),
    };
    replay.all(&steps)?;
    replay.end()
}

/// Reads the configuration; whatever is wrong with it goes into one answer.
pub(crate) fn read(file: &Path, stderr: &mut impl Write) -> Result<Config, ReplayError> {
    let usage = |text: String| ReplayError::Usage(text);
    let Loaded {
        config,
        warnings,
        not_built,
        ..
    } = toml::read_file(file).map_err(|errors| usage(errors.to_string()))?;
    for warning in &warnings {
        let _ = writeln!(stderr, "{}: warning: {}", warning.at, warning.text);
    }
    if !not_built.is_empty() {
        let lines: Vec<_> = not_built.iter().map(ToString::to_string).collect();
        return Err(usage(lines.join("\n")));
    }
    if config.ports.is_empty() {
        let path = file.display();
        return Err(usage(format!("{path}: no [[port]]: nothing can come in")));
    }
    Ok(config)
}

/// The captures and the ports that they come in by; none may be among the `targets`.
pub(crate) fn inputs(
    named: &[(String, PathBuf)],
    targets: &[PathBuf],
    config: &Config,
) -> Result<Vec<(PathBuf, PortId)>, ReplayError> {
    let names: Vec<_> = config.ports.iter().map(|port| port.name.as_str()).collect();
    let mut inputs = Vec::new();
    for (name, path) in named {
        let Some(at) = names.iter().position(|known| known == name) else {
            let known = names.join(", ");
            let text = format!("--in {name}: there is no such port; there are: {known}");
            return Err(ReplayError::Usage(text));
        };
        if fs::canonicalize(path).is_ok_and(|path| targets.contains(&path)) {
            let path = path.display();
            let text = format!("--in {path}: the replay itself would overwrite it");
            return Err(ReplayError::Usage(text));
        }
        let port = PortId(u16::try_from(at).expect("ports are numbered in 16 bits"));
        inputs.push((path.clone(), port));
    }
    Ok(inputs)
}

/// Commands that are still to come.
pub(crate) type Steps = Peekable<std::vec::IntoIter<Step>>;

pub(crate) fn steps(path: &PathBuf) -> Result<Vec<Step>, ReplayError> {
    let name = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|error| ReplayError::Usage(format!("{name}: {error}")))?;
    script::read(&text, &name)
}

/// A replay under way.
struct Replay<O: Write, E> {
    machine: Machine,
    merge: Merge,
    outputs: Vec<Output>,
    /// The source MAC of what a port sends, where the file names none.
    macs: Vec<Option<[u8; 6]>>,
    report: Option<Report<BufWriter<O>>>,
    stderr: E,
    progress: Progress,
    burst: usize,
    /// Number of the next packet.
    n: u64,
    // Kept to be used again.
    sent: Vec<Sent>,
    /// The ports by which the packets that are being processed came in.
    group: Vec<PortId>,
    bursts: Bursts,
}

impl<O: Write, E: Write> Replay<O, E> {
    /// Everything in order. At one time: timers, then commands, then packets.
    fn all(&mut self, steps: &[Step]) -> Result<(), ReplayError> {
        let mut steps = steps.iter().peekable();
        while let Some(at) = self.merge.at() {
            while let Some(step) = steps.next_if(|step| step.at <= at) {
                self.step(step)?;
            }
            self.machine.advance(at);
            self.packets(at)?;
            self.progress.tell(self.n, || self.merge.position(), at);
        }
        steps.try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), ReplayError> {
        self.machine.advance(step.at);
        let reply = self.machine.command(&step.words);
        match &mut self.report {
            Some(report) => report.command(step.at, &step.words, &reply).or_else(ignore),
            None => {
                self.progress.clear();
                say(&mut self.stderr, step, &reply);
                Ok(())
            }
        }
    }

    /// Takes the next packets through: one, or those of one time that come in bursts, one for each
    /// worker. What might meet another worker, or make control act, goes alone: the packets
    /// behind it have to see what became of it.
    fn packets(&mut self, at: Nanos) -> Result<(), ReplayError> {
        let first = self.n;
        self.group.clear();
        self.bursts.clear();
        while let Some((port, bytes)) = self.merge.packet() {
            let (port, bytes) = self.machine.locate(port, bytes);
            let worker = self.machine.arrival(self.n, &bytes);
            let is_shared = self.burst > 1 && self.machine.may_share_a_burst(worker, port, &bytes);
            let has_room = is_shared && self.bursts.take(worker, port, self.burst);
            if !has_room && !self.group.is_empty() {
                break;
            }
            self.machine.give(worker, port, self.n, &bytes);
            self.n += 1;
            self.group.push(port);
            self.merge.pass();
            if !is_shared {
                self.bursts.alone(worker);
                break;
            }
            if self.merge.at() != Some(at) {
                break;
            }
        }
        self.machine.watch(first, self.group.len());
        self.machine.turn(self.bursts.workers(), &mut self.sent);
        self.write(at, first)
    }

    /// Writes what was sent, in the order of the packets because of which it was.
    fn write(&mut self, at: Nanos, first: u64) -> Result<(), ReplayError> {
        let mut sent = std::mem::take(&mut self.sent);
        if self.group.len() > 1 {
            sent.sort_by_key(|sent| sent.frame.note.cause);
        }
        for Sent { port, frame } in &mut sent {
            let place = usize::from(port.0);
            if let Some(mac) = self.macs[place] {
                frame::set_source(frame, mac);
            }
            self.outputs[place].write(at, frame.bytes())?;
        }
        if let Some(report) = &mut self.report {
            let mut rest = &sent[..];
            for (place, (&port, n)) in self.group.iter().zip(first..).enumerate() {
                let count = rest.partition_point(|sent| sent.frame.note.cause <= n);
                let (own, others) = rest.split_at(count);
                rest = others;
                let packet = Packet {
                    n,
                    at,
                    port,
                    record: self.machine.record(place),
                    sent: own,
                };
                report
                    .packet(&packet, &self.machine.engine)
                    .or_else(ignore)?;
            }
        }
        self.machine.take_back(&mut sent);
        self.sent = sent;
        Ok(())
    }

    fn end(mut self) -> Result<(), ReplayError> {
        self.progress.clear();
        for output in self.outputs {
            output.finish()?;
        }
        if let Some(report) = &mut self.report {
            report.totals(&self.machine.totals()).or_else(ignore)?;
        }
        self.merge.broken.map_or(Ok(()), Err)
    }
}

/// What a command printed, with its time.
pub(crate) fn say(stderr: &mut impl Write, step: &Step, reply: &Reply) {
    if reply.stdout.is_empty() && reply.stderr.is_empty() {
        return;
    }
    let (at, words) = (step.at, step.words.join(" "));
    let _ = write!(stderr, "{at} {words}\n{}{}", reply.stdout, reply.stderr);
}

/// A reader of the lines who has gone away (`| head`) is no error.
fn ignore(error: io::Error) -> Result<(), ReplayError> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(ReplayError::output("standard output".as_ref(), error)),
    }
}
