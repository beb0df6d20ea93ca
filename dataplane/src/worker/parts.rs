//! How a worker is made: all the memory that it will ever use.

use std::sync::Arc;

use arch::{Pages, PagesError};
use wire::proxy::Header;

use super::Worker;
use super::burst::Batch;
use super::made::REPLIES_PER_SECOND;
use super::send::Lane;
use crate::bucket::TokenBucket;
use crate::conn::defence::Sweep;
use crate::conn::{Address, Hasher, Table};
use crate::decide::Identity;
use crate::exchange::WorkerEnd;
use crate::gather::Gathering;
use crate::handover::Peers;
use crate::isn::Isn;
use crate::local::{LocalPorts, ReplyHash};
use crate::owner::Steering;
use crate::parse::Whole;
use crate::port::{Port, WorkerId};
use crate::probe::Answer;
use crate::published::Reader;
use crate::sched;
use crate::services::{PuntLimits, Snapshot};
use crate::state::State;
use crate::time::Millis;
use crate::verdict::Counters;

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts<P: Port> {
    /// Its number.
    pub id: WorkerId,
    /// Its queue pair of each port that has queues, in the order of the ports.
    pub ports: Vec<P>,
    /// Where snapshots come from.
    pub reader: Reader<Snapshot>,
    /// The way to control and back.
    pub exchange: WorkerEnd<P::Frame>,
    /// The way to the other workers and back.
    pub peers: Peers<P::Frame>,
    /// Who owns what: the same for all workers.
    pub steering: Arc<Steering>,
    /// What it counts into.
    pub counters: Arc<Counters>,
    /// IPv4 connections.
    pub connections: u32,
    /// IPv6 connections.
    pub connections_v6: u32,
    /// What pages the tables should lie on.
    pub pages: Pages,
    /// Key of the connection hash: random, secret, the same for all workers.
    pub hash_key: [u64; 2],
    /// Fixes whatever else is chosen at random and shows: local ports, identifications.
    pub seed: u64,
    /// The time now.
    pub now: Millis,
}

impl<P: Port> Worker<P> {
    /// Makes a worker; takes all the memory that it will ever use.
    ///
    /// # Errors
    /// No memory for the tables.
    pub fn new(parts: Parts<P>) -> Result<Self, PagesError> {
        let hasher = Hasher::new(parts.hash_key);
        let limits = PuntLimits::default().per_second;
        let mut reader = parts.reader;
        let (snapshot, _) = reader.edition();
        let to_sender = snapshot.ports.iter().any(|port| port.to_sender);
        Ok(Self {
            me: Identity {
                id: parts.id,
                locals: LocalPorts::new(
                    parts.steering.clone(),
                    parts.id,
                    ReplyHash::Tuple,
                    parts.seed,
                ),
                steering: parts.steering,
                isn: Isn::new(parts.seed),
            },
            reader,
            exchange: parts.exchange,
            peers: parts.peers,
            counters: parts.counters,
            lanes: parts.ports.into_iter().map(Lane::new).collect(),
            gathering: Gathering::new(hasher),
            batch: Batch::new(),
            state: State {
                v4: table(parts.connections, parts.pages, hasher, parts.now, to_sender)?,
                v6: table(
                    parts.connections_v6,
                    parts.pages,
                    hasher,
                    parts.now,
                    to_sender,
                )?,
                sweeps: [Sweep::new(parts.now), Sweep::new(parts.now)],
                packets_spared: 0,
                sched: sched::Memory::new(parts.id, parts.seed, parts.now),
                outer_id: seeded_id(parts.seed, parts.id),
                ahead: Header::EMPTY,
            },
            punts: limits.map(|per_second| TokenBucket::new(per_second, parts.now)),
            replies: TokenBucket::new(REPLIES_PER_SECOND, parts.now),
            resets: TokenBucket::new(REPLIES_PER_SECOND, parts.now),
            fragment_id: seeded_fragment_id(parts.seed, parts.id),
        })
    }

    /// A worker that goes on at `parts.now` from where another one was when it gave `answer`, for
    /// as much as that says. Its tables have no other connections, whatever `parts` asks for.
    ///
    /// # Errors
    /// No memory for the tables.
    pub fn resumed(
        parts: Parts<P>,
        answer: &Answer,
        fragment_of: Option<&Whole>,
    ) -> Result<Self, PagesError> {
        let (hasher, now) = (Hasher::new(parts.hash_key), parts.now);
        let mut worker = Self::new(Parts {
            connections: 0,
            connections_v6: 0,
            ..parts
        })?;
        worker.state.v4 = answer.v4.table(hasher, now)?;
        worker.state.v6 = answer.v6.table(hasher, now)?;
        worker.state.sched.adopt(&answer.recall, now);
        worker.state.packets_spared = answer.packets_spared;
        worker.state.outer_id = answer.outer_id;
        worker.fragment_id = answer.fragment_id;
        worker.punts = answer.punts;
        (worker.replies, worker.resets) = (answer.replies, answer.resets);
        if let (Some(of), Some(transport)) = (fragment_of, answer.gathered) {
            worker.gathering.know(of, transport, now);
        }
        Ok(worker)
    }
}

fn table<A: Address>(
    capacity: u32,
    pages: Pages,
    hasher: Hasher,
    now: Millis,
    to_sender: bool,
) -> Result<Table<A>, PagesError> {
    let table = Table::new(capacity, pages, hasher, now)?;
    match to_sender {
        true => table.with_senders(pages),
        false => Ok(table),
    }
}

/// The first identification of a worker's outer packets.
#[expect(clippy::cast_possible_truncation, reason = "16 bits of many")]
fn seeded_id(seed: u64, id: WorkerId) -> u16 {
    (seed >> 16) as u16 ^ id.0.rotate_right(4)
}

/// The first identification of a worker's IPv6 packets that are cut.
fn seeded_fragment_id(seed: u64, id: WorkerId) -> u32 {
    (seed >> 32) as u32 ^ u32::from(id.0).rotate_right(8)
}
