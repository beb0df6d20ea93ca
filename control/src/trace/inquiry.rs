//! A trace of the running daemon: the workers are asked what they know ([`dataplane::probe`]), and the
//! packet goes through copies of them ([`super::twin`]). Nothing of theirs changes.
//!
//! ```text
//!   packet -> question -> answers of all workers -> copies -> notes -> words
//!                 ^                                   |
//!                 `---- is that local port taken? ----'
//! ```
//!
//! What only the copies bring up (the tuple of a FULLNAT answer, the ports of a fragment) is asked
//! in another round; all answers are then given anew, so that they belong to one moment.

use std::sync::Weak;

use dataplane::probe::{Answer, Hearing, Question};
use dataplane::services::Snapshot;
use dataplane::worker::PagesError;

use super::twin::{self, Crew};
use super::{Made, Recorder, Sent};
use crate::neigh::Instant;

/// How long a worker may take to answer, in milliseconds.
const LATE_MS: u64 = 1_000;
/// Rounds of questions for one packet. Each local port that turns out to be taken is another.
const MOST_ROUNDS: usize = 3;

/// Why there is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// Somebody does not answer.
    #[error("{}; there is no trace", silent(.0))]
    Late(Vec<u16>),
    /// Too many ask at once.
    #[error("too many ask the workers at once; this trace, the oldest, has to be asked for again")]
    Pushed,
    /// The copies found no memory.
    #[error("the packet's copies of the workers: {0}")]
    Memory(#[from] PagesError),
}

fn silent(workers: &[u16]) -> String {
    let names: Vec<_> = workers.iter().map(u16::to_string).collect();
    match workers {
        [one] => format!("worker {one} does not answer"),
        _ => format!("workers {} do not answer", names.join(", ")),
    }
}

/// How far it has come.
#[derive(Debug)]
pub enum Progress {
    /// Nothing yet.
    Later,
    /// Something else has to be asked.
    Ask(Box<Question>),
    /// The packet's notes, and what was sent because of it.
    Done(Box<Recorder>, Vec<Sent>),
}

/// A packet that is asked about.
#[derive(Debug)]
pub struct Inquiry {
    made: Made,
    /// Whether the answer is for programs.
    pub(crate) json: bool,
    question: Question,
    hearing: Hearing,
    /// Nobody holds it any more: the probe had to make room.
    open: Weak<()>,
    /// Since when a worker's answer is waited for, in milliseconds.
    waiting_since: Option<Instant>,
    round: usize,
}

impl Inquiry {
    /// What has to be asked first.
    pub fn first(made: &Made, snapshot: &Snapshot) -> Question {
        Question::of(&twin::frame(&made.bytes), made.port, snapshot, None)
    }

    /// Begins to wait for what the workers answer.
    pub fn new(
        made: Made,
        json: bool,
        question: Question,
        (hearing, open): (Hearing, Weak<()>),
    ) -> Self {
        Self {
            made,
            json,
            question,
            hearing,
            open,
            waiting_since: None,
            round: 1,
        }
    }

    /// Waits for the answers to another question.
    pub fn again(&mut self, question: Question, (hearing, open): (Hearing, Weak<()>)) {
        (self.question, self.hearing, self.open) = (question, hearing, open);
        self.waiting_since = None;
        self.round += 1;
    }

    /// Goes on, with the snapshot that workers run with.
    ///
    /// # Errors
    /// See [`InquiryError`].
    pub fn go_on(
        &mut self,
        crew: &Crew,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Progress, InquiryError> {
        if self.open.strong_count() == 0 {
            return Err(InquiryError::Pushed);
        }
        let answers = match self.hearing.hear() {
            Ok(answers) => answers,
            Err(missing) => {
                let since = *self.waiting_since.get_or_insert(now);
                if now.saturating_sub(since) >= LATE_MS {
                    return Err(InquiryError::Late(missing.iter().map(|it| it.0).collect()));
                }
                return Ok(Progress::Later);
            }
        };
        if let Some(question) = self.fragments(&answers, snapshot) {
            return Ok(Progress::Ask(Box::new(question)));
        }
        let asked = (&self.question, answers.as_slice());
        let (recorder, sent) = twin::run(crew, snapshot, &self.made, asked)?;
        match self.reply(&recorder) {
            Some(question) => Ok(Progress::Ask(Box::new(question))),
            None => Ok(Progress::Done(Box::new(recorder), sent)),
        }
    }

    /// What to ask once it is known which flow a fragment is of.
    fn fragments(&self, answers: &[Answer], snapshot: &Snapshot) -> Option<Question> {
        self.question.fragment_of.filter(|_| self.round == 1)?;
        let gathered = answers.iter().find_map(|answer| answer.gathered)?;
        let frame = twin::frame(&self.made.bytes);
        let port = self.made.port;
        Some(Question::of(&frame, port, snapshot, Some(gathered)))
    }

    /// What to ask once the copies have lent a local port: whether it is free.
    fn reply(&self, recorder: &Recorder) -> Option<Question> {
        let (protocol, from, to) = recorder.reply_expected()?;
        let mut question = self.question.clone();
        let more = self.round < MOST_ROUNDS && question.also(protocol, from, to);
        more.then_some(question)
    }
}
