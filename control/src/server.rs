//! The Unix socket: many clients, each answered in the order of its requests, and nobody waits for
//! another.
//!
//! What a request means is the caller's: [`Server::work`] hands it over with the peer that
//! sent it and takes an [`Answer`]. An answer to a change is held until every worker runs
//! with it, or for a second. Meanwhile the same client's next changes are carried out, so that one
//! who sends them without waiting is not bound to one a turn.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use proto::errors::{EXIT_REFUSED, EXIT_USAGE};
use proto::message::{Framing, MAX_JSON_LINE, MAX_TEXT_LINE, MessageError, Reply, Request};

use crate::client::{Client, LISTING_AHEAD, Peer, Waiting};
use crate::connections::{Connections, Portion};
use crate::latency::Latencies;
use crate::socket::Socket;
use crate::trace::Inquiry;

/// Clients at once; one more, and the one that has been silent longest goes.
const MAX_CLIENTS: usize = 512;
/// Octets that all clients together may leave untaken; more, and the slowest goes.
const MAX_PENDING: usize = 64 << 20;
/// How long a client may leave its reply untaken.
const SLOWEST_MS: u64 = 30_000;
/// How long a change may take to reach every worker before its client is told.
const ACKNOWLEDGE_MS: u64 = 1_000;
/// Requests of one client in one round, and the time after which no other is begun.
const SERVED_AT_ONCE: usize = 32;
const SERVED_FOR: Duration = Duration::from_micros(500);
/// Clients taken in before the other work goes on.
const ACCEPT_AT_ONCE: usize = 64;

/// What a request came to.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// Not to be sent before every worker runs with this generation.
    pub after: Option<u64>,
    /// What follows the reply.
    pub rest: Option<Rest>,
}

/// What comes only when the workers have said something.
#[derive(Debug)]
pub enum Rest {
    /// Connections; the reply is only their title.
    Listing(Box<Connections>),
    /// What would become of a packet; the reply says nothing, and is not sent.
    Trace(Box<Inquiry>),
}

/// Who answers.
pub trait Answers {
    /// Carries out what a client asks for, or begins to; see [`Server::finish`].
    fn answer(&mut self, peer: &Peer, request: Request) -> Option<Answer>;

    /// What comes next of an answer that workers take part in.
    fn more(&mut self, rest: &mut Rest) -> Portion;
}

/// What the server needs to know of the workers' progress.
pub trait Progress {
    /// The workers that don't run with `generation` yet.
    fn laggards(&self, generation: u64) -> Vec<u16>;
}

/// The server.
#[derive(Debug)]
pub struct Server {
    /// Declared before the socket: nobody is talked to after it went.
    clients: BTreeMap<usize, Client>,
    listener: UnixListener,
    _socket: Socket,
    first_token: usize,
    next: usize,
    /// Where the round over the clients goes on.
    turn: usize,
    /// How long commands took.
    latencies: Rc<RefCell<Latencies>>,
}

impl Server {
    /// Serves on `socket`. Its clients get the tokens from `first_token + 1` on, itself
    /// `first_token`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(socket: Socket, registry: &Registry, first_token: usize) -> io::Result<Self> {
        let mut listener = UnixListener::from_std(socket.listener()?);
        registry.register(&mut listener, Token(first_token), Interest::READABLE)?;
        Ok(Self {
            clients: BTreeMap::new(),
            listener,
            _socket: socket,
            first_token,
            next: first_token + 1,
            turn: 0,
            latencies: Rc::default(),
        })
    }

    /// The system has news about a token of ours.
    pub fn event(&mut self, token: usize, registry: &Registry, now: u64) {
        if token == self.first_token {
            self.accept(registry, now);
        } else if let Some(client) = self.clients.get_mut(&token) {
            client.wake();
        }
    }

    fn accept(&mut self, registry: &Registry, now: u64) {
        for _ in 0..ACCEPT_AT_ONCE {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream, registry, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!("a client could not be taken in: {error}");
                    return;
                }
            }
        }
        // The system tells only once: look again in the next turn.
        let _ = registry.reregister(
            &mut self.listener,
            Token(self.first_token),
            Interest::READABLE,
        );
    }

    fn welcome(&mut self, mut stream: UnixStream, registry: &Registry, now: u64) {
        let Ok(credentials) = getsockopt(&stream, PeerCredentials) else {
            return;
        };
        let peer = Peer {
            uid: credentials.uid(),
            pid: credentials.pid(),
        };
        if self.clients.len() >= MAX_CLIENTS {
            self.drop_quietest();
        }
        let token = self.next;
        self.next += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        if registry.register(&mut stream, Token(token), both).is_err() {
            return;
        }
        let limit = if peer.uid == 0 {
            MAX_JSON_LINE
        } else {
            MAX_TEXT_LINE
        };
        let client = Client::new(stream, peer, limit, now);
        self.clients.insert(token, client);
    }

    /// The client that has done nothing for longest goes; one that waits for us stays, as
    /// long as there is another.
    fn drop_quietest(&mut self) {
        let quietest = |(_, client): &(&usize, &Client)| (client.is_waiting(), client.active);
        let token = self.clients.iter().min_by_key(quietest).map(|(&t, _)| t);
        if let Some(token) = token {
            self.clients.remove(&token);
        }
    }

    /// One round: each client reads a little, asks for one thing or for a few changes, takes what it
    /// can. An answer that is not there yet comes by [`Server::finish`]; until then, and while `busy`,
    /// nobody is asked what he wants.
    pub fn work(&mut self, now: u64, mut busy: bool, answers: &mut impl Answers) {
        let (before, after): (Vec<usize>, Vec<usize>) =
            self.clients.keys().partition(|&&token| token < self.turn);
        for token in after.into_iter().chain(before) {
            let Some(client) = self.clients.get_mut(&token) else {
                continue;
            };
            go_on(client, answers);
            let served = if busy {
                client.flush(now)
            } else {
                self.turn = token + 1;
                serve(client, now, answers)
            };
            busy |= client.working.is_some();
            let slow = client.pending() > 0 && now.saturating_sub(client.active) > SLOWEST_MS;
            if served.is_err() || slow || client.is_done() {
                self.clients.remove(&token);
            }
        }
        self.take_down();
        while self.clients.values().map(Client::pending).sum::<usize>() > MAX_PENDING {
            self.drop_slowest();
        }
    }

    /// The answer to what took longer is there; who asked may have gone.
    pub fn finish(&mut self, answer: Answer, now: u64) {
        let asked = |client: &&mut Client| client.working.is_some();
        let Some(client) = self.clients.values_mut().find(asked) else {
            return;
        };
        if let Some(framing) = client.working.take() {
            give(client, framing, answer, now);
            if client.flush(now).is_err() {
                client.wake(); // its next look at the stream finds that it is gone
            }
        }
    }

    fn drop_slowest(&mut self) {
        let loaded = self.clients.iter().filter(|(_, c)| c.pending() > 0);
        let slowest = loaded.min_by_key(|(_, client)| client.active);
        if let Some(token) = slowest.map(|(&token, _)| token) {
            self.clients.remove(&token);
        }
    }

    /// Sends the replies whose change every worker has, and those that waited too long.
    pub fn settle(&mut self, progress: &impl Progress, now: u64) {
        for client in self.clients.values_mut() {
            if client.waiting.is_empty() {
                continue;
            }
            while let Some(waiting) = due(client, progress, now) {
                settle_one(client, waiting);
            }
            if client.flush(now).is_err() {
                client.wake(); // its next look at the stream finds that it is gone
            }
        }
    }

    /// Whether there is work that no event will announce.
    pub fn has_more(&self) -> bool {
        self.clients.values().any(Client::has_more)
    }

    /// Whether a reply waits for the workers.
    pub fn is_waiting(&self) -> bool {
        let waits = |client: &Client| !client.waiting.is_empty() || client.rest.is_some();
        self.clients.values().any(waits)
    }

    /// How long commands took, from the request read to the answer ready.
    pub fn latencies(&self) -> Rc<RefCell<Latencies>> {
        self.latencies.clone()
    }

    fn take_down(&mut self) {
        let mut latencies = self.latencies.borrow_mut();
        let took = self.clients.values_mut().flat_map(|it| it.took.drain(..));
        took.for_each(|nanos| latencies.record(nanos, 1));
    }

    /// Clients connected now.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }
}

/// The first reply that waits, if it need not any longer; with a complaint where a worker still
/// doesn't run with the change.
fn due(client: &mut Client, progress: &impl Progress, now: u64) -> Option<Waiting> {
    let first = client.waiting.front()?;
    let behind = first.generation.map(|it| progress.laggards(it));
    let behind = behind.unwrap_or_default();
    if !behind.is_empty() && now < first.deadline {
        return None;
    }
    let mut waiting = client.waiting.pop_front()?;
    if !behind.is_empty() {
        complain(&mut waiting.reply, &behind);
    }
    Some(waiting)
}

fn settle_one(client: &mut Client, waiting: Waiting) {
    client.asked = waiting.asked;
    match waiting.rest {
        None => client.reply(waiting.framing, waiting.reply),
        Some(rest) => begin(client, waiting.framing, waiting.reply, rest),
    }
}

/// The change stays, but somebody doesn't run with it.
fn complain(reply: &mut Reply, behind: &[u16]) {
    let names: Vec<_> = behind.iter().map(u16::to_string).collect();
    let (s, verb) = if behind.len() == 1 {
        ("", "does")
    } else {
        ("s", "do")
    };
    reply.stderr.push_str(&format!(
        "worker{s} {} {verb} not run with generation {} yet; the change stays\n",
        names.join(", "),
        reply.generation
    ));
    reply.exit = EXIT_REFUSED;
    tracing::warn!(workers = ?behind, generation = reply.generation, "workers lag behind");
}

fn serve(client: &mut Client, now: u64, answers: &mut impl Answers) -> io::Result<()> {
    client.flush(now)?;
    let began = Instant::now();
    for _ in 0..SERVED_AT_ONCE {
        let more = serve_one(client, now, answers)?;
        if !more || began.elapsed() > SERVED_FOR {
            break;
        }
    }
    client.flush(now)
}

/// One request; says whether there may be another.
fn serve_one(client: &mut Client, now: u64, answers: &mut impl Answers) -> io::Result<bool> {
    match client.request(now)? {
        None => return Ok(false),
        Some(Err(error)) => {
            let framing = framing_of(&error);
            let answer = Answer {
                reply: refusal(&error),
                after: None,
                rest: None,
            };
            give(client, framing, answer, now);
        }
        Some(Ok(request)) => {
            let framing = request.framing;
            client.asked = Some(Instant::now());
            match answers.answer(&client.peer, request) {
                None => client.working = Some(framing),
                Some(answer) => give(client, framing, answer, now),
            }
        }
    }
    Ok(client.working.is_none())
}

/// Puts the next portion of an answer behind what the client still has to take, if that is
/// little.
fn go_on(client: &mut Client, answers: &mut impl Answers) {
    if client.pending() >= LISTING_AHEAD {
        return;
    }
    let Some((framing, mut rest)) = client.rest.take() else {
        return;
    };
    let portion = answers.more(&mut rest);
    client.moving = matches!(portion, Portion::Part(_));
    match portion {
        Portion::Last(reply) => client.reply(framing, reply),
        Portion::Part(reply) => {
            client.part(framing, reply);
            client.rest = Some((framing, rest));
        }
        Portion::Later => client.rest = Some((framing, rest)),
    }
}

/// Sends the answer, or puts it behind those that wait for the workers.
fn give(client: &mut Client, framing: Framing, answer: Answer, now: u64) {
    let Answer { reply, after, rest } = answer;
    // A title doesn't wait for its own generation: the walk over the tables does.
    let after = after.filter(|_| rest.is_none());
    let asked = client.asked.take();
    let waiting = Waiting {
        framing,
        reply,
        generation: after,
        deadline: now + ACKNOWLEDGE_MS,
        rest,
        asked,
    };
    if after.is_none() && client.waiting.is_empty() {
        settle_one(client, waiting);
    } else {
        client.waiting.push_back(waiting);
    }
}

/// Begins an answer that workers take part in: a listing's title goes ahead.
fn begin(client: &mut Client, framing: Framing, reply: Reply, rest: Rest) {
    if let Rest::Listing(_) = rest {
        client.part(framing, reply);
        client.moving = true;
    }
    client.rest = Some((framing, rest));
}

/// Only JSON can be malformed or of another version; all else is answered as text, which
/// shows in any client.
fn framing_of(error: &MessageError) -> Framing {
    match error {
        MessageError::Malformed(_) | MessageError::Version(_) => Framing::Json { id: 0 },
        MessageError::TooLong { .. } | MessageError::Encoding => Framing::Text,
    }
}

fn refusal(error: &MessageError) -> Reply {
    Reply {
        exit: EXIT_USAGE,
        stderr: format!("{error}\n"),
        ..Reply::default()
    }
}
