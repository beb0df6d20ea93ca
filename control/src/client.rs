//! One client of the socket: what it sent and what it still has to take.
//!
//! Everything is bounded and nothing waits: a client that is silent, slow or gone holds its
//! own place and nothing else.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::UnixStream;
use proto::message::{self, Framing, MessageError, Reply, Request};

use crate::server::Rest;

/// Octets of a listing of connections that one client may leave untaken before the listing waits
/// for it.
pub(crate) const LISTING_AHEAD: usize = 256 << 10;
/// Octets read from one client before the next one's turn.
const READ_AT_ONCE: usize = 64 * 1024;

/// Who is at the other end, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: i32,
}

/// Changes of one client whose replies wait for the workers at the same time; a client that sends
/// without waiting for replies is behind by no more.
const PIPELINED: usize = 64;

/// A reply that is not sent before every worker runs with the change, or before the replies in
/// front of it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) framing: Framing,
    pub(crate) reply: Reply,
    /// The change's generation; `None` of what only stands behind changes.
    pub(crate) generation: Option<u64>,
    /// When to answer all the same, in milliseconds.
    pub(crate) deadline: u64,
    /// What follows the reply.
    pub(crate) rest: Option<Rest>,
    /// When the request was read.
    pub(crate) asked: Option<Instant>,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) peer: Peer,
    /// In the order of the requests.
    pub(crate) waiting: VecDeque<Waiting>,
    /// What it is still being sent.
    pub(crate) rest: Option<(Framing, Rest)>,
    /// Whether that had more to send when it was looked at last.
    pub(crate) moving: bool,
    /// When the request that is being answered was read.
    pub(crate) asked: Option<Instant>,
    /// How long the last answers took, in nanoseconds, until somebody takes that down.
    pub(crate) took: Vec<u64>,
    /// How the answer goes that is being worked on.
    pub(crate) working: Option<Framing>,
    /// When it last sent or took something, in milliseconds.
    pub(crate) active: u64,
    /// Longest JSON line that it may send.
    limit: usize,
    input: Vec<u8>,
    /// Octets of `input` known to hold no newline.
    scanned: usize,
    output: VecDeque<Vec<u8>>,
    /// Octets of the first part of `output` that were sent.
    sent: usize,
    may_read: bool,
    ended: bool,
    closing: bool,
}

impl Client {
    pub(crate) fn new(stream: UnixStream, peer: Peer, limit: usize, now: u64) -> Self {
        Self {
            stream,
            peer,
            limit,
            active: now,
            waiting: VecDeque::new(),
            rest: None,
            moving: false,
            asked: None,
            took: Vec::new(),
            working: None,
            input: Vec::new(),
            scanned: 0,
            output: VecDeque::new(),
            sent: 0,
            may_read: true,
            ended: false,
            closing: false,
        }
    }

    /// The system says that there is something to read or to write.
    pub(crate) fn wake(&mut self) {
        self.may_read = true;
    }

    /// Octets that it still has to take.
    pub(crate) fn pending(&self) -> usize {
        self.output.iter().map(Vec::len).sum::<usize>() - self.sent
    }

    /// Whether something that it asked for has still to be done or taken.
    fn is_busy(&self) -> bool {
        self.is_waiting() || self.rest.is_some() || !self.output.is_empty()
    }

    /// Whether it waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.working.is_some()
    }

    /// Whether its next request may be begun: behind changes that only wait for the workers it may,
    /// behind anything else that is not over it may not.
    fn may_ask(&self) -> bool {
        let only_changes = |last: &Waiting| last.generation.is_some() && last.rest.is_none();
        self.working.is_none()
            && self.rest.is_none()
            && self.output.is_empty()
            && !self.closing
            && self.waiting.len() < PIPELINED
            && self.waiting.back().is_none_or(only_changes)
    }

    /// Whether nothing can come of it any more.
    pub(crate) fn is_done(&self) -> bool {
        !self.is_busy() && (self.closing || self.ended && self.input.is_empty())
    }

    /// The next request, or what is wrong with its line; `None`: it has not sent one yet, or
    /// those before have to be over first.
    pub(crate) fn request(
        &mut self,
        now: u64,
    ) -> io::Result<Option<Result<Request, MessageError>>> {
        if !self.may_ask() {
            return Ok(None);
        }
        if let Some(line) = self.line() {
            return Ok(Some(self.decode(line)));
        }
        self.read(now)?;
        Ok(self.line().map(|line| self.decode(line)))
    }

    /// Whether [`Client::request`], or its answer, may give more without the system's saying so.
    pub(crate) fn has_more(&self) -> bool {
        if self.rest.is_some() {
            return self.moving && self.pending() < LISTING_AHEAD;
        }
        self.may_ask() && (self.may_read || self.scanned < self.input.len())
    }

    fn read(&mut self, now: u64) -> io::Result<()> {
        let mut chunk = [0; 8192];
        let mut taken = 0;
        while self.may_read && !self.ended && taken < READ_AT_ONCE {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.input.extend_from_slice(&chunk[..n]);
                    self.active = now;
                    taken += n;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.may_read = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ended {
            self.may_read = false;
        }
        Ok(())
    }

    /// Takes the first line out of the input, if there is one. The end of what a client sends
    /// ends a line, too, and so does the limit.
    fn line(&mut self) -> Option<Vec<u8>> {
        let fresh = &self.input[self.scanned..];
        let end = fresh.iter().position(|&octet| octet == b'\n');
        if let Some(end) = end {
            let mut line: Vec<u8> = self.input.drain(..=self.scanned + end).collect();
            self.scanned = 0;
            line.pop();
            return Some(line);
        }
        self.scanned = self.input.len();
        let too_long = self.input.len() > self.allowed();
        if too_long || self.ended && !self.input.is_empty() {
            self.scanned = 0;
            return Some(std::mem::take(&mut self.input));
        }
        None
    }

    fn allowed(&self) -> usize {
        let first = self.input.first().copied().unwrap_or_default();
        message::line_limit(first).min(self.limit)
    }

    /// After a line that can't be cut into the next ones nothing more is read.
    fn decode(&mut self, line: Vec<u8>) -> Result<Request, MessageError> {
        let (length, limit) = (line.len(), self.limit);
        let decoded = if length > limit {
            Err(MessageError::TooLong { length, limit })
        } else {
            message::decode_request(&line)
        };
        if let Err(MessageError::TooLong { .. }) = decoded {
            self.closing = true;
        }
        decoded
    }

    /// Puts a reply behind what is still to be sent.
    pub(crate) fn reply(&mut self, framing: Framing, reply: Reply) {
        let asked = self.asked.take();
        let took = asked.and_then(|at| u64::try_from(at.elapsed().as_nanos()).ok());
        self.took.extend(took);
        let parts = message::encode_reply(framing, reply);
        self.output
            .extend(parts.into_iter().map(String::into_bytes));
    }

    /// Puts a piece of a reply behind what is still to be sent; more will follow.
    pub(crate) fn part(&mut self, framing: Framing, reply: Reply) {
        let parts = message::encode_part(framing, reply);
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        self.output.extend(parts.map(String::into_bytes));
    }

    /// Sends what the client takes now.
    pub(crate) fn flush(&mut self, now: u64) -> io::Result<()> {
        while let Some(part) = self.output.front() {
            match self.stream.write(&part[self.sent..]) {
                Ok(n) => {
                    self.sent += n;
                    self.active = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.sent == part.len() {
                self.output.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }
}
