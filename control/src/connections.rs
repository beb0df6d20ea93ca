//! The workers' connections as `-Lc` shows them: a portion at a time, as fast as the client takes
//! them and the workers find them.
//!
//! A listing is a walk ([`dataplane::walk`]) in the snapshot for as long as somebody reads it.
//! There are only so many at once: one more, and the one that began first ends with an error.

use std::sync::{Arc, Weak};

use config::model::Endpoint;
use dataplane::conn::export::Exported;
use dataplane::conn::{Flags, sctp, tcp};
use dataplane::pages::Pages;
use dataplane::probe::{Hearing, Question, probe};
use dataplane::services::Real;
use dataplane::walk::{Errand, Read, Reading, walk};
use proto::command::ListOptions;
use proto::errors::EXIT_NEGATIVE;
use proto::layout;
use proto::listing::{Listing, ListingConnection};
use proto::message::{Format, Reply};
use proto::names::Numeric;
use proto::proc;
use wire::Protocol;

use crate::neigh::Instant;

/// Listings and traces at once.
const MAX_WALKS: usize = 16;
/// Connections in one portion, about: control has other work.
const PORTION: usize = 256;
/// How long a worker may find nothing before the listing ends, in milliseconds.
const LATE_MS: u64 = 1_000;

/// The walks that somebody reads, and the questions that somebody asked.
#[derive(Debug, Default)]
pub struct Walks {
    open: Vec<(Arc<()>, Errand)>,
}

impl Walks {
    /// Begins a walk over the connections of so many workers.
    pub fn begin(&mut self, workers: usize) -> Source {
        let (walk, reading) = walk(workers);
        let open = self.open(Errand::Walk(Arc::new(walk)));
        Source {
            reading,
            open,
            waiting_since: None,
        }
    }

    /// Asks so many workers something. What comes beside the answers dies if the question has to
    /// make room for a younger one.
    pub fn ask(&mut self, workers: usize, question: Question) -> (Hearing, Weak<()>) {
        let (probe, hearing) = probe(workers, question);
        (hearing, self.open(Errand::Probe(Arc::new(probe))))
    }

    fn open(&mut self, errand: Errand) -> Weak<()> {
        if self.open.len() == MAX_WALKS {
            self.open.remove(0);
        }
        let token = Arc::new(());
        let open = Arc::downgrade(&token);
        self.open.push((token, errand));
        open
    }

    /// Forgets the walks that nobody reads any more; says whether there were any.
    pub fn prune(&mut self) -> bool {
        let before = self.open.len();
        self.open.retain(|(token, _)| Arc::weak_count(token) > 0);
        self.open.len() < before
    }

    /// All of them, for the snapshot.
    pub fn all(&self) -> Arc<[Errand]> {
        self.open.iter().map(|(_, errand)| errand.clone()).collect()
    }
}

/// Where a listing's connections come from.
#[derive(Debug)]
pub struct Source {
    reading: Reading,
    /// Nobody holds it any more: the walk had to make room.
    open: Weak<()>,
    /// Since when a worker has found nothing, in milliseconds.
    waiting_since: Option<Instant>,
}

/// Why a listing ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// A worker does not go on.
    #[error("worker {0} does not answer; the listing is not complete")]
    Late(u16),
    /// Too many listings at once.
    #[error("more than {MAX_WALKS} listings at once; this one, the oldest, is not complete")]
    Pushed,
}

impl Source {
    /// Puts the connections that are there behind `rows`, about `limit` at most; says whether
    /// these were the last.
    ///
    /// # Errors
    /// See [`ListingError`].
    fn read(
        &mut self,
        limit: usize,
        now: Instant,
        rows: &mut Vec<Exported>,
    ) -> Result<bool, ListingError> {
        if self.open.strong_count() == 0 {
            return Err(ListingError::Pushed);
        }
        while rows.len() < limit {
            match self.reading.read() {
                Read::Rows(more) => rows.extend(more),
                Read::End => return Ok(true),
                Read::Later(worker) => {
                    let since = *self.waiting_since.get_or_insert(now);
                    if !rows.is_empty() {
                        break;
                    }
                    if now.saturating_sub(since) >= LATE_MS {
                        return Err(ListingError::Late(worker.0));
                    }
                    return Ok(false);
                }
            }
        }
        self.waiting_since = None;
        Ok(false)
    }
}

/// How connections are shown.
#[derive(Clone, Debug)]
pub enum View {
    /// As `-Lc` does.
    List(ListOptions),
    /// As the kernel does in `/proc/net/ip_vs_conn`.
    Proc,
}

/// A listing that is on its way to a client.
#[derive(Debug)]
pub struct Connections {
    source: Source,
    view: View,
    format: Format,
    generation: u64,
}

/// What comes next of a listing. What a reply says is to be put behind what came before.
#[derive(Debug)]
pub enum Portion {
    /// Some of it.
    Part(Reply),
    /// Nothing yet.
    Later,
    /// The end of it.
    Last(Reply),
}

impl Connections {
    /// A listing of what `source` finds.
    pub fn new(source: Source, view: View, format: Format, generation: u64) -> Self {
        Self {
            source,
            view,
            format,
            generation,
        }
    }

    /// What stands before the first connection.
    pub fn title(&self) -> Reply {
        match (&self.view, self.format) {
            (View::List(options), Format::Text) => {
                self.reply(layout::connections_title(options), None)
            }
            (View::List(_), Format::Data) => self.reply(String::new(), Some(Listing::default())),
            (View::Proc, _) => self.reply(proc::CONNECTIONS_TITLE.to_owned(), None),
        }
    }

    /// The next portion; `reals` are those of the snapshot.
    pub fn next(&mut self, reals: &Pages<Real>, now: Instant) -> Portion {
        let mut rows = Vec::with_capacity(PORTION);
        match self.source.read(PORTION, now, &mut rows) {
            Ok(false) if rows.is_empty() => Portion::Later,
            Ok(false) => Portion::Part(self.shown(&rows, reals)),
            Ok(true) => Portion::Last(self.shown(&rows, reals)),
            Err(error) => Portion::Last(Reply {
                exit: EXIT_NEGATIVE,
                stderr: format!("{error}\n"),
                ..self.shown(&rows, reals)
            }),
        }
    }

    fn shown(&self, rows: &[Exported], reals: &Pages<Real>) -> Reply {
        let rows: Vec<_> = rows.iter().map(|one| row(one, reals)).collect();
        match (&self.view, self.format) {
            (View::Proc, _) => self.reply(proc::connections(&rows), None),
            (View::List(options), Format::Text) => {
                self.reply(layout::connections(&rows, options, &Numeric), None)
            }
            (View::List(_), Format::Data) => {
                let data = Listing {
                    connections: rows,
                    ..Listing::default()
                };
                self.reply(String::new(), Some(data))
            }
        }
    }

    fn reply(&self, stdout: String, data: Option<Listing>) -> Reply {
        Reply {
            stdout,
            data,
            generation: self.generation,
            ..Reply::default()
        }
    }
}

/// A connection as a listing names it; `reals` are those of the snapshot.
pub fn row(one: &Exported, reals: &Pages<Real>) -> ListingConnection {
    let endpoint = |(address, port)| Endpoint { address, port };
    let real = reals.get(one.real_id.0);
    let protocol = Protocol(one.protocol);
    ListingConnection {
        protocol: name(protocol).into(),
        expires: one.remaining_ms / 1000,
        state: state(one, protocol).into(),
        client: endpoint(one.client),
        vip: endpoint(one.vip),
        // A tunnel may lead to a real server of the other family, which an entry has no room for.
        real: Endpoint {
            address: real.map_or(one.real.0, |real| real.address),
            port: one.real.1,
        },
        engine: None,
        engine_data: None,
    }
}

/// The template of a firewall mark has no protocol but IP.
fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
        Protocol::SCTP => "SCTP",
        _ => "IP",
    }
}

fn state(one: &Exported, protocol: Protocol) -> &'static str {
    match protocol {
        _ if one.flags.has(Flags::ASSURED) => "ASSURED",
        _ if one.flags.has(Flags::TEMPLATE) => "NONE",
        Protocol::TCP => tcp::State::ALL[usize::from(one.state)].name(),
        Protocol::SCTP => sctp::State::of(one.state).name(),
        Protocol::UDP => "UDP",
        _ => "NONE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_listing_too_many_ends_the_oldest() {
        let mut walks = Walks::default();
        let mut sources: Vec<_> = (0..=MAX_WALKS).map(|_| walks.begin(1)).collect();
        assert_eq!(walks.all().len(), MAX_WALKS);
        let read = |source: &mut Source, now| source.read(9, now, &mut Vec::new());
        assert_eq!(read(&mut sources[0], 0), Err(ListingError::Pushed));
        assert_eq!(read(&mut sources[1], 0), Ok(false));
        drop(sources);
        assert!(walks.prune());
        assert!(walks.all().is_empty() && !walks.prune());
    }

    #[test]
    fn a_worker_that_finds_nothing_for_a_second_is_late() {
        let mut walks = Walks::default();
        let mut source = walks.begin(1);
        let mut read = |now| source.read(9, now, &mut Vec::new());
        assert_eq!(read(5_000), Ok(false), "the time before does not count");
        assert_eq!(read(5_999), Ok(false));
        assert_eq!(read(6_000), Err(ListingError::Late(0)));
    }

    #[test]
    fn without_workers_a_listing_is_its_title() {
        let mut walks = Walks::default();
        let view = View::List(ListOptions::default());
        let mut listing = Connections::new(walks.begin(0), view, Format::Text, 7);
        let want = "IPVS connection entries\n\
                    pro expire state       source             virtual            destination\n";
        assert_eq!(listing.title().stdout, want);
        let Portion::Last(reply) = listing.next(&Pages::default(), 0) else {
            panic!("nothing to wait for");
        };
        assert_eq!(
            (reply.exit, reply.stdout, reply.generation),
            (0, String::new(), 7)
        );
    }
}
