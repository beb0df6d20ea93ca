//! One packet, watched closely: after whatever comes before it.

use std::io::Write;
use std::path::PathBuf;

use control::trace::{Made, Trace, make};
use dataplane::port::PortId;
use proto::packet::Packet;

use crate::error::ReplayError;
use crate::machine::Machine;
use crate::merge::Merge;
use crate::run::{Steps, inputs, read, say, steps};
use crate::time::Nanos;
use crate::{Arrive, Options};

/// Which packet to trace, and after what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// The configuration, as `sluiced` reads it.
    pub config: PathBuf,
    /// Captures with the port that each came in by, merged as a replay does; an absent port is the
    /// first of the configuration.
    pub inputs: Vec<(Option<String>, PathBuf)>,
    /// Which packet.
    pub which: Which,
    /// The operator's commands with their times.
    pub commands: Option<PathBuf>,
    /// Workers, 1..=128.
    pub workers: u16,
    /// Which worker a frame comes to.
    pub arrive: Arrive,
    /// Fixes every random choice.
    pub seed: u64,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this number in the captures, from 0, after those before it and the commands
    /// until then.
    Captured(u64),
    /// This one, after all captures and commands.
    Made(Packet),
}

/// Replays what comes before the packet, and tells what becomes of it. `stderr` gets warnings, and
/// what commands print.
///
/// # Errors
/// See [`ReplayError`]: among others, a packet that there is not.
pub fn trace<E: Write>(options: &TraceOptions, stderr: E) -> Result<Trace, ReplayError> {
    let mut stderr = stderr;
    let config = read(&options.config, &mut stderr)?;
    let first = config.ports.first().map(|port| port.name.clone());
    let named = options.inputs.iter().map(|(port, path)| {
        let port = port.clone().or_else(|| first.clone());
        (port.unwrap_or_default(), path.clone())
    });
    let inputs = inputs(&named.collect::<Vec<_>>(), &[], &config)?;
    let steps = match &options.commands {
        Some(path) => steps(path)?,
        None => Vec::new(),
    };
    let merge = Merge::open(inputs)?;
    let began = steps.first().map(|step| step.at);
    let start = [merge.at(), began].into_iter().flatten().min();
    let machine = Machine::new(&config, &options.machine(), start.unwrap_or_default())?;
    let mut before = Before {
        machine,
        merge,
        steps: steps.into_iter().peekable(),
        stderr,
        n: 0,
    };
    match &options.which {
        Which::Captured(wanted) => before.captured(*wanted),
        Which::Made(packet) => before.made(packet),
    }
}

/// Packet `n` (from 0) of the captures, merged as a replay does: of which capture it is, and its frame.
///
/// # Errors
/// There is no such packet, or a capture can't be read that far.
pub fn captured(captures: &[PathBuf], n: u64) -> Result<(usize, Vec<u8>), ReplayError> {
    let numbered = captures.iter().cloned().zip((0u16..).map(PortId));
    let mut merge = Merge::open(numbered.collect())?;
    let mut passed = 0;
    while let Some((PortId(at), bytes)) = merge.packet() {
        if passed == n {
            return Ok((usize::from(at), bytes.to_vec()));
        }
        merge.pass();
        passed += 1;
    }
    Err(missing(&mut merge, n, passed))
}

/// Why there is no packet `wanted` in captures that have so many.
fn missing(merge: &mut Merge, wanted: u64, packets: u64) -> ReplayError {
    let text = format!("--packet {wanted}: the captures have {packets} packets");
    merge.broken.take().unwrap_or(ReplayError::Usage(text))
}

impl TraceOptions {
    /// What the machine asks for.
    fn machine(&self) -> Options {
        Options {
            config: self.config.clone(),
            inputs: Vec::new(),
            out: PathBuf::new(),
            commands: None,
            workers: self.workers,
            arrive: self.arrive,
            burst: 1,
            seed: self.seed,
            json: false,
        }
    }
}

/// What comes before the packet.
struct Before<E> {
    machine: Machine,
    merge: Merge,
    steps: Steps,
    stderr: E,
    /// Number of the next packet.
    n: u64,
}

impl<E: Write> Before<E> {
    fn captured(&mut self, wanted: u64) -> Result<Trace, ReplayError> {
        while let Some(at) = self.merge.at() {
            self.until(at);
            if self.n == wanted {
                let (port, bytes) = self.merge.packet().expect("there is one at this time");
                let (port, bytes) = self.machine.locate(port, bytes);
                let bytes = bytes.into_owned();
                return Ok(self.machine.trace(wanted, &Made { port, bytes }));
            }
            self.pass();
        }
        Err(missing(&mut self.merge, wanted, self.n))
    }

    fn made(&mut self, packet: &Packet) -> Result<Trace, ReplayError> {
        let made = make(packet, self.machine.engine.topology());
        let made = made.map_err(|error| ReplayError::Usage(error.to_string()))?;
        while let Some(at) = self.merge.at() {
            self.until(at);
            self.pass();
        }
        if let Some(broken) = self.merge.broken.take() {
            return Err(broken);
        }
        while let Some(at) = self.steps.peek().map(|step| step.at) {
            self.until(at);
        }
        Ok(self.machine.trace(self.n, &made))
    }

    /// Commands and timers up to this time.
    fn until(&mut self, at: Nanos) {
        while let Some(step) = self.steps.next_if(|step| step.at <= at) {
            self.machine.advance(step.at);
            let reply = self.machine.command(&step.words);
            say(&mut self.stderr, &step, &reply);
        }
        self.machine.advance(at);
    }

    /// Takes the next packet through, and forgets what it sends.
    fn pass(&mut self) {
        if let Some((port, bytes)) = self.merge.packet() {
            let (port, bytes) = self.machine.locate(port, bytes);
            let worker = self.machine.arrival(self.n, &bytes);
            self.machine.give(worker, port, self.n, &bytes);
            self.merge.pass();
            self.machine.watch(self.n, 1);
            self.machine.turn(&[worker], &mut Vec::new());
            self.n += 1;
        }
    }
}
