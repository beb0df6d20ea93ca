//! Work that takes more than a turn: a restore, a reload, whatever changes many services.
//!
//! There is one at a time. It goes on in steps of about a millisecond, and between two of them
//! control answers ARP and does everything else but requests, which wait: nobody is shown a
//! model that is half-way. Nothing is published before the last step, and that is one publish.

use config::model::Listen;
use proto::command::Command;
use proto::errors::Failure;
use proto::grammar;
use proto::names::Numeric;
use proto::restore;

use super::reload::{Merging, Reading};
use super::{Engine, PROGRAM, audit};
use crate::client::Peer;
use crate::neigh::Instant;
use crate::server::Answer;
use crate::settings::Tunables;

/// Lines of a restore in one step.
const LINES: usize = 256;
/// Services and real servers compiled, or compared with a file, in one step.
pub(super) const OBJECTS: usize = 256;

/// What is being done.
#[derive(Debug)]
pub(super) enum Job {
    /// A file is being read.
    Reading(Reading),
    /// A file is being compared with what runs.
    Merging(Box<Merging>),
    /// The lines of a restore are being applied to the model.
    Restoring(Box<Restoring>),
    /// What changed is being compiled.
    Compiling(Box<Compiling>),
}

/// What became of a step.
pub(super) enum Step {
    /// There is more to do.
    More(Job),
    /// Nothing more to do but wait for somebody else.
    Wait(Job),
    /// It is done.
    Done(Answer),
}

/// A restore.
#[derive(Debug)]
pub(super) struct Restoring {
    peer: Peer,
    atomic: bool,
    stdin: String,
    /// Octets of `stdin` that are done.
    at: usize,
    /// Lines that are done.
    lines: usize,
    stdout: String,
    stderr: String,
    exit: u8,
    /// The first line that failed.
    failed: Option<usize>,
    done: usize,
    /// As they were before.
    tunables: Tunables,
}

impl Restoring {
    pub(super) fn new(peer: Peer, atomic: bool, stdin: String, tunables: Tunables) -> Self {
        Self {
            peer,
            atomic,
            stdin,
            at: 0,
            lines: 0,
            stdout: String::new(),
            stderr: String::new(),
            exit: 0,
            failed: None,
            done: 0,
            tunables,
        }
    }

    /// The next lines, and how many are before them.
    fn next_lines(&mut self) -> Option<(usize, String)> {
        let rest = &self.stdin[self.at..];
        let mut newlines = rest.match_indices('\n').map(|(at, _)| at + 1);
        let end = newlines.nth(LINES - 1).unwrap_or(rest.len());
        let (before, chunk) = (self.lines, rest[..end].to_owned());
        self.at += end;
        self.lines += LINES;
        (!chunk.is_empty()).then_some((before, chunk))
    }
}

/// What changed, on its way into the snapshot.
#[derive(Debug)]
pub(super) struct Compiling {
    left: Vec<Listen>,
    /// The answer, when it is published.
    answer: Answer,
    /// Who is to be in the log, and with what.
    audit: Option<(Peer, String)>,
}

impl Engine {
    /// Whether there is work for [`Engine::work`]; requests are not to be begun meanwhile.
    pub fn is_working(&self) -> bool {
        self.job.is_some()
    }

    /// One step of what takes more than a turn. An answer is for who asked; the second value
    /// says whether another step can follow at once.
    pub fn work(&mut self, now: Instant) -> (Option<Answer>, bool) {
        let step = match self.job.take() {
            None => return (None, false),
            Some(Job::Reading(reading)) => self.look_at_file(reading),
            Some(Job::Merging(merging)) => self.merge(merging),
            Some(Job::Restoring(restoring)) => self.restore_lines(restoring),
            Some(Job::Compiling(compiling)) => self.compile_some(compiling, now),
        };
        match step {
            Step::More(job) => {
                self.job = Some(job);
                (None, true)
            }
            Step::Wait(job) => {
                self.job = Some(job);
                (None, false)
            }
            Step::Done(answer) => (Some(answer), false),
        }
    }

    /// Many commands, one publish. A call whose words are wrong ends it, one that is refused
    /// is reported and the rest goes on (reference H); an atomic one ends at either, and takes
    /// everything back.
    pub(super) fn begin_restore(&mut self, peer: &Peer, atomic: bool, stdin: String) {
        if atomic {
            self.model.begin();
        }
        let restoring = Restoring::new(*peer, atomic, stdin, self.tunables.clone());
        self.job = Some(Job::Restoring(Box::new(restoring)));
    }

    fn restore_lines(&mut self, mut it: Box<Restoring>) -> Step {
        let Some((before, chunk)) = it.next_lines() else {
            return self.restored(*it);
        };
        for call in restore::calls(&chunk) {
            let Err(failure) = self.restore_call(&call.argv, &mut it) else {
                it.done += 1;
                continue;
            };
            let line = before + call.line;
            if it.atomic {
                return Step::Done(self.take_back(&it, line, &failure));
            }
            it.failed.get_or_insert(line);
            it.stderr.push_str(&format!("{}\n", failure.text));
            if !failure.refusal {
                it.exit = failure.exit;
                return self.restored(*it);
            }
        }
        Step::More(Job::Restoring(it))
    }

    fn restore_call(&mut self, argv: &[String], it: &mut Restoring) -> Result<(), Failure> {
        let command = grammar::parse(PROGRAM, argv, &Numeric)?;
        if let Some(text) = command.not_built() {
            return Err(Failure::usage(text));
        }
        if matches!(&command, Command::List(options) if options.connections) {
            return Err(Failure::malformed("-c: not allowed inside a restore"));
        }
        if !command.changes() {
            let shown = self.show(&command).reply.stdout;
            it.stdout.push_str(&shown);
            return Ok(());
        }
        let own = matches!(
            command,
            Command::Restore { .. } | Command::Reload(_) | Command::Sysctl { .. } | Command::Log(_)
        );
        if own {
            let text = format!("{}: not allowed inside a restore", argv[0]);
            return Err(Failure::malformed(text));
        }
        self.apply(&command)?;
        let (uid, pid) = (it.peer.uid, it.peer.pid);
        tracing::debug!(uid, pid, "restore: {}", argv.join(" "));
        Ok(())
    }

    /// Nothing of an atomic restore stays.
    fn take_back(&mut self, it: &Restoring, line: usize, failure: &Failure) -> Answer {
        self.model.roll_back();
        self.forget_changes();
        self.zeroes.clear();
        if self.tunables.become_like(&it.tunables) {
            self.tune();
        }
        let text = format!("line {line}: {}; nothing was changed", failure.text);
        let mut answer = self.failed(&Failure {
            text,
            ..failure.clone()
        });
        answer.reply.line = Some(line);
        answer
    }

    fn restored(&mut self, it: Restoring) -> Step {
        self.model.commit();
        let mut answer = self.answer(it.exit, it.stdout, it.stderr);
        answer.reply.line = it.failed;
        if !self.is_behind() {
            return Step::Done(answer);
        }
        answer.after = Some(0); // which, is known when it is published
        let text = format!("-R ({} commands)", it.done);
        self.compile_all(answer, Some((it.peer, text)))
    }

    /// `-C`: there may be much to take away.
    pub(super) fn begin_flush(&mut self, peer: &Peer) -> Option<Answer> {
        if let Err(failure) = self.apply(&Command::Flush) {
            return Some(self.failed(&failure));
        }
        let answer = self.answer(0, String::new(), String::new());
        match self.compile_all(answer, Some((*peer, "-C".to_owned()))) {
            Step::More(job) | Step::Wait(job) => self.job = Some(job),
            Step::Done(answer) => return Some(answer),
        }
        None
    }

    /// Compiles what changed, in steps, and publishes it.
    pub(super) fn compile_all(&mut self, answer: Answer, audit: Option<(Peer, String)>) -> Step {
        self.plan();
        let left = self.dirty.drain().collect();
        Step::More(Job::Compiling(Box::new(Compiling {
            left,
            answer,
            audit,
        })))
    }

    fn compile_some(&mut self, mut it: Box<Compiling>, now: Instant) -> Step {
        let next = self.publisher.generation() + 1;
        let mut objects = 0;
        while objects < OBJECTS
            && let Some(listen) = it.left.pop()
        {
            let reals = self.model.get(&listen).map_or(0, |entry| entry.reals.len());
            objects += 1 + reals.max(self.compiler.real_slots(&listen).len());
            self.compile(&listen, next);
        }
        self.follow_wants(now);
        self.compiler.settle_nat();
        if !it.left.is_empty() {
            return Step::More(Job::Compiling(it));
        }
        let generation = self.publish(now);
        it.answer.reply.generation = generation;
        it.answer.after = Some(generation);
        if let Some((peer, text)) = &it.audit {
            audit(peer, text, generation);
        }
        Step::Done(it.answer)
    }
}
