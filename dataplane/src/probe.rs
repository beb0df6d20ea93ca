//! A look at what the workers know that decides over one packet, for somebody who asks what would
//! become of it.
//!
//! Control puts a [`Probe`] into the snapshot and keeps the [`Hearing`]. A worker that finds one
//! copies a handful of entries and numbers into the probe's ring, once, and goes on: it looks up
//! [`MAX_KEYS`] tuples of each family at most, and changes nothing. With the answers control makes
//! workers of its own ([`Worker::resumed`](crate::worker::Worker::resumed)) that go on from where
//! the real ones are, and gives the packet to those.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::bucket::TokenBucket;
use crate::conn::excerpt::{Excerpt, MAX_KEYS};
use crate::conn::{Key, template};
use crate::counter::Word;
use crate::fragments::Transport;
use crate::fwd::{icmp, nat64};
use crate::parse::{Packet, Parsed, Parses, Whole};
use crate::port::{Frame, PortId, WorkerId};
use crate::sched::Recall;
use crate::services::{RealId, ServiceId, Snapshot};
use crate::state::Stored;
use crate::time::Millis;
use crate::verdict::PuntClass;

/// What is asked of every worker.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Tuples of IPv4, of connections as of templates.
    pub v4: ArrayVec<Key<u32>, MAX_KEYS>,
    /// Tuples of IPv6.
    pub v6: ArrayVec<Key<u128>, MAX_KEYS>,
    /// The service whose scheduler would choose, and the packet's destination in words.
    pub chooses: Option<(ServiceId, [u64; 2])>,
    /// The packet of which a fragment is traced, if only others know its ports.
    pub fragment_of: Option<Whole>,
}

impl Question {
    /// What there is to be asked about the packet in `frame`, which comes in by `port`;
    /// `gathered` is what an earlier answer said of a fragment.
    pub fn of<F: Frame>(
        frame: &F,
        port: PortId,
        snapshot: &Snapshot,
        gathered: Option<Transport>,
    ) -> Self {
        let mut question = Self::default();
        let view = snapshot.ports.get(usize::from(port.0));
        let mut parses = Parses::default();
        parses.push(frame, view, None);
        if let Some(Parsed::Fragment(place)) = parses.frames.first() {
            let part = parses.fragments[usize::from(*place)];
            let transport = part.transport.or(gathered);
            question.fragment_of = part.transport.is_none().then_some(part.of);
            parses.clear();
            parses.push(frame, view, transport);
        }
        match parses.frames.first() {
            Some(Parsed::V4(packet)) => question.flow(packet, port, snapshot),
            Some(Parsed::V6(place)) => {
                question.flow(&parses.v6[usize::from(*place)], port, snapshot);
            }
            Some(Parsed::Other { .. }) => question.quoted(frame.bytes()),
            _ => {}
        }
        question
    }

    fn flow<A: Stored>(&mut self, packet: &Packet<A>, port: PortId, snapshot: &Snapshot) {
        let key = packet.key;
        self.ask(key);
        let mark = snapshot.marks.of(&key, port);
        let (vip, vport) = (key.destination.to_ip(), key.destination_port);
        let found = snapshot.index.find(mark, key.protocol, vip, vport);
        let found = found.and_then(|(id, by)| Some((snapshot.services.get(id.0)?, by)));
        let Some((service, by)) = found else { return };
        self.chooses = Some((service.id, key.destination.words()));
        if let Some(persistence) = service.persistence {
            A::ask(self, template::key(&key, by, persistence.mask));
        }
    }

    /// The flow that an ICMP error is about, and the one in the tunnel that it is about.
    fn quoted(&mut self, frame: &[u8]) {
        if let Some(about) = icmp::embedded::<u32>(frame) {
            self.ask(about.key);
        }
        if let Some(about) = icmp::embedded::<u128>(frame) {
            self.ask(about.key);
        }
        // Between the families more kinds of errors pass.
        if let Some(key) = nat64::about_ours(frame) {
            self.ask(key);
        }
        if let Some(about) = icmp::about_any_tunnel(frame) {
            if let Some((key, _)) = icmp::quoted_flow::<u32>(about.inner) {
                self.ask(key);
            }
            if let Some((key, _)) = icmp::quoted_flow::<u128>(about.inner) {
                self.ask(key);
            }
        }
    }

    /// Asks about packets of this tuple, too; `false` if that was asked already, or can't be.
    pub fn also(&mut self, protocol: u8, from: (IpAddr, u16), to: (IpAddr, u16)) -> bool {
        self.tuple::<u32>(protocol, from, to) || self.tuple::<u128>(protocol, from, to)
    }

    fn tuple<A: Stored>(&mut self, protocol: u8, from: (IpAddr, u16), to: (IpAddr, u16)) -> bool {
        let (Some(source), Some(destination)) = (A::from_ip(from.0), A::from_ip(to.0)) else {
            return false;
        };
        self.ask(Key {
            source,
            destination,
            source_port: from.1,
            destination_port: to.1,
            protocol,
        })
    }

    /// Asks about a tuple, also as the table of IPv6 clients knows an IPv4 real server's packet.
    fn ask<A: Stored>(&mut self, key: Key<A>) -> bool {
        if let Some(inside) = key.from_ipv4() {
            u128::ask(self, inside);
        }
        A::ask(self, key)
    }
}

/// What one worker knows of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The worker's time.
    pub now: Millis,
    /// What it has in its tables.
    pub v4: Excerpt<u32>,
    /// What it has in its tables.
    pub v6: Excerpt<u128>,
    /// What its schedulers remember.
    pub recall: Recall,
    /// What a fragment's first one said.
    pub gathered: Option<Transport>,
    /// Packets that `drop_packet` still spares.
    pub packets_spared: u16,
    /// The identification of its last outer packet that may be fragmented.
    pub outer_id: u16,
    /// That of its last IPv6 packet that was cut.
    pub fragment_id: u32,
    /// How much of each kind may still be punted.
    pub punts: [TokenBucket; PuntClass::ALL.len()],
    /// How many ICMP errors it may still make.
    pub replies: TokenBucket,
    /// The same of resets.
    pub resets: TokenBucket,
}

impl Answer {
    /// The services and real servers of the connections and templates in it.
    pub fn concerns(&self) -> impl Iterator<Item = (ServiceId, RealId)> {
        self.v4.concerns().chain(self.v6.concerns())
    }
}

/// The workers' side of a probe: part of the snapshot.
#[derive(Debug)]
pub struct Probe {
    question: Question,
    desks: Box<[Desk]>,
}

/// One worker's place, written by that worker alone.
#[derive(Debug)]
struct Desk {
    /// 0 until it has answered.
    answered: Word,
    ring: Sender<Answer>,
}

/// Control's side of a probe.
#[derive(Debug)]
pub struct Hearing {
    rings: Vec<Receiver<Answer>>,
    answers: Vec<Option<Answer>>,
}

/// A probe of `workers` workers.
pub fn probe(workers: usize, question: Question) -> (Probe, Hearing) {
    let (senders, rings): (Vec<_>, Vec<_>) = (0..workers).map(|_| bounded(1)).unzip();
    let desk = |ring| Desk {
        answered: Word::default(),
        ring,
    };
    let desks = senders.into_iter().map(desk).collect();
    let answers = vec![None; workers];
    (Probe { question, desks }, Hearing { rings, answers })
}

impl Hearing {
    /// The answers of all workers, in their order, once all are there; until then the workers
    /// that have not answered. Never waits.
    ///
    /// # Errors
    /// Somebody has not answered yet.
    pub fn hear(&mut self) -> Result<Vec<Answer>, Vec<WorkerId>> {
        let mut missing = Vec::new();
        for ((at, ring), answer) in (0u16..).zip(&self.rings).zip(&mut self.answers) {
            if answer.is_some() {
                continue;
            }
            match ring.try_recv() {
                Ok(heard) => *answer = Some(heard),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    missing.push(WorkerId(at));
                }
            }
        }
        if missing.is_empty() {
            return Ok(self.answers.iter_mut().filter_map(Option::take).collect());
        }
        Err(missing)
    }
}

impl Probe {
    /// What is asked, if this worker has not answered yet.
    #[cold]
    pub(crate) fn asked(&self, worker: WorkerId) -> Option<&Question> {
        let desk = self.desks.get(usize::from(worker.0))?;
        (desk.answered.get() == 0).then_some(&self.question)
    }

    /// Takes the worker's answer, once.
    #[cold]
    pub(crate) fn answer(&self, worker: WorkerId, answer: Answer) {
        if let Some(desk) = self.desks.get(usize::from(worker.0)) {
            desk.answered.set(1);
            // Whoever asked may be gone, and the ring has room for the only answer.
            let _ = desk.ring.try_send(answer);
        }
    }
}
