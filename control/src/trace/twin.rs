//! Workers of our own that stand where the real ones do, for one packet.
//!
//! Each is made from what a real worker answered ([`dataplane::probe`]), when the packet comes to it, with copies of
//! the counters that matter; the packet goes through its very turn. What they count, open and send is gone afterwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataplane::conn::{Address, Key};
use dataplane::exchange::{ControlEnd, exchange};
use dataplane::handover::{Around, alone};
use dataplane::memory::{Buffer, Note, Noted, Recycler};
use dataplane::observe::Event;
use dataplane::owner::{Fields, Steering};
use dataplane::parse::{Parsed, Parses};
use dataplane::port::{Burst, Frame, FramePool, Port, PortId, WorkerId};
use dataplane::probe::{Answer, Question};
use dataplane::published::Publisher;
use dataplane::services::{Blocks, PortView, RealId, ServiceId, Snapshot};
use dataplane::time::Millis;
use dataplane::vlan::{self, Tagging};
use dataplane::worker::{Pages, PagesError, Parts, Worker};
use wire::ethernet::{self, EtherType};
use wire::{ipv4, ipv6};

use super::{Made, Recorder, Sent};

/// Hand-overs that are followed: more than any packet's.
const MOST_TURNS: usize = 256;

/// What the real workers were started with, as far as that shows.
#[derive(Clone, Debug)]
pub struct Crew {
    /// Who owns what.
    pub steering: Arc<Steering>,
    /// What fixes their random choices.
    pub seed: u64,
}

/// Takes the packet through copies of the workers, whose answers are given in their order.
///
/// # Errors
/// There was no memory for the copies.
pub(super) fn run(
    crew: &Crew,
    snapshot: &Snapshot,
    made: &Made,
    (question, answers): (&Question, &[Answer]),
) -> Result<(Recorder, Vec<Sent>), PagesError> {
    let now = latest(answers);
    let snapshot = detached(snapshot, question, answers);
    let recorder = Recorder::new(snapshot.clone(), made.port, now);
    let pool = Pool::new(recorder);
    let mut twins = Twins {
        crew,
        pool: pool.clone(),
        snapshot,
        question,
        answers,
        now,
        all: BTreeMap::new(),
    };
    let mut at = arrival(crew, &twins.snapshot, made);
    twins.twin(at)?.give(pool.frame(&made.bytes), made.port);
    for _ in 0..MOST_TURNS {
        pool.lock().turn_of(at.0);
        let twin = twins.twin(at)?;
        twin.worker.turn(now);
        let Some((to, handed)) = twin.around.take() else {
            break;
        };
        twins.twin(to)?.around.give(handed);
        at = to;
    }
    let sent = twins.all.values_mut().flat_map(Twin::sent).collect();
    drop(twins);
    Ok((pool.into_recorder(), sent))
}

/// The frame that a packet's bytes make: one that is longer than a buffer is cut, and says so.
pub(super) fn frame(bytes: &[u8]) -> Buffer {
    let mut buffer = Recycler::default().empty();
    buffer.receive(bytes);
    buffer
}

/// The latest of the workers' times.
fn latest(answers: &[Answer]) -> Millis {
    let times = answers.iter().map(|answer| answer.now);
    let later = |one: Millis, other: Millis| {
        let ahead = other.since(one) < 1 << 31;
        if ahead { other } else { one }
    };
    times.reduce(later).unwrap_or_default()
}

/// The snapshot with counters of its own, and no errands.
fn detached(snapshot: &Snapshot, question: &Question, answers: &[Answer]) -> Snapshot {
    let mut services: Vec<ServiceId> = question.chooses.iter().map(|&(id, _)| id).collect();
    let mut reals: Vec<RealId> = Vec::new();
    for (service, real) in answers.iter().flat_map(Answer::concerns) {
        services.push(service);
        reals.push(real);
    }
    for id in &services {
        if let Some(service) = snapshot.services.get(id.0) {
            reals.extend(service.candidates.iter().map(|candidate| candidate.real));
        }
    }
    let own = |blocks: &Blocks| blocks.detached(&services, &reals);
    Snapshot {
        blocks: snapshot.blocks.iter().map(own).collect(),
        errands: Arc::default(),
        ..snapshot.clone()
    }
}

/// The worker that the packet comes to where receive queues spread as computed.
fn arrival(crew: &Crew, snapshot: &Snapshot, made: &Made) -> WorkerId {
    let steering = &crew.steering;
    let frame = frame(&made.bytes);
    let view = snapshot.ports.get(usize::from(made.port.0));
    let mut parses = Parses::default();
    parses.push(&frame, view, None);
    match parses.frames.first() {
        Some(Parsed::V4(packet)) => steering.owner(Fields::Tuple, &packet.key),
        Some(Parsed::V6(place)) => {
            let key = &parses.v6[usize::from(*place)].key;
            steering.owner(Fields::Tuple, key)
        }
        _ => by_addresses(steering, &made.bytes).unwrap_or(WorkerId(0)),
    }
}

/// The worker that a frame comes to of which a receive queue's hash sees no ports; `None` if there
/// are no addresses either.
pub fn by_addresses(steering: &Steering, bytes: &[u8]) -> Option<WorkerId> {
    fn between<A: Address>(steering: &Steering, source: A, destination: A) -> WorkerId {
        let key = Key {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol: 0,
        };
        steering.owner(Fields::Addresses, &key)
    }
    let frame = ethernet::Frame::parse(bytes).ok()?;
    match frame.ethertype() {
        EtherType::IPV4 => {
            let ip = ipv4::Packet::parse(frame.payload()).ok()?;
            Some(between(steering, ip.src().to_bits(), ip.dst().to_bits()))
        }
        EtherType::IPV6 => {
            let ip = ipv6::Packet::parse(frame.payload()).ok()?;
            ip.upper().ok()?;
            Some(between(steering, ip.src().to_bits(), ip.dst().to_bits()))
        }
        _ => None,
    }
}

/// The copies that there are so far.
struct Twins<'a> {
    crew: &'a Crew,
    pool: Pool,
    snapshot: Snapshot,
    question: &'a Question,
    answers: &'a [Answer],
    now: Millis,
    all: BTreeMap<u16, Twin>,
}

/// One worker's copy.
struct Twin {
    worker: Worker<Lane>,
    around: Around<Traced>,
    /// Where it puts what it punts.
    _control: ControlEnd<Pool>,
    /// Of the snapshot that it runs with.
    _publisher: Publisher<Snapshot>,
    /// The ports, by which it is known which have queues.
    ports: Arc<[PortView]>,
}

impl Twins<'_> {
    /// The copy of a worker.
    fn twin(&mut self, id: WorkerId) -> Result<&mut Twin, PagesError> {
        if !self.all.contains_key(&id.0) {
            let twin = self.make(id)?;
            self.all.insert(id.0, twin);
        }
        Ok(self.all.get_mut(&id.0).expect("made if it was not there"))
    }

    fn make(&self, id: WorkerId) -> Result<Twin, PagesError> {
        let ports = self.snapshot.ports.clone();
        let with_queues = ports.iter().filter(|view| vlan_of(view).is_none());
        let workers = self.crew.steering.workers();
        let (publisher, mut readers) = Publisher::new(self.snapshot.clone(), 1);
        let (control, mut ends) = exchange(1, self.pool.clone());
        let (peers, around) = alone(workers);
        let parts = Parts {
            id,
            ports: with_queues.map(|_| Lane::new(self.pool.clone())).collect(),
            reader: readers.pop().expect("one was asked for"),
            exchange: ends.pop().expect("one was asked for"),
            peers,
            steering: self.crew.steering.clone(),
            counters: Arc::default(),
            connections: 0,
            connections_v6: 0,
            pages: Pages::Off,
            hash_key: [0, 1],
            seed: self.crew.seed,
            now: self.now,
        };
        let answer = &self.answers[usize::from(id.0)];
        Ok(Twin {
            worker: Worker::resumed(parts, answer, self.question.fragment_of.as_ref())?,
            around,
            _control: control,
            _publisher: publisher,
            ports,
        })
    }
}

impl Twin {
    fn give(&mut self, mut frame: Traced, port: PortId) {
        let view = self.ports.get(usize::from(port.0));
        let queues = match view.and_then(vlan_of) {
            Some((parent, id)) => {
                // One too short for a tag is too short for everything.
                let _ = vlan::put_on(&mut frame, id);
                parent
            }
            None => port,
        };
        if let Some(lane) = self.worker.port_mut(queues) {
            lane.incoming = Some(frame);
        }
    }

    /// What it sent, by port.
    fn sent(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        for (port, view) in (0u16..).map(PortId).zip(&*self.ports) {
            let lane = self.worker.port_mut(port);
            let sent = lane.map(|lane| std::mem::take(&mut lane.outgoing));
            let vlans = view.tagging.vlans();
            all.extend(sent.into_iter().flatten().map(|mut frame| Sent {
                port: vlans.map_or(port, |vlans| vlans.sort(&mut frame)),
                bytes: frame.buffer.bytes().to_vec(),
            }));
        }
        all
    }
}

/// The port whose queues a VLAN's port uses, and its identifier.
fn vlan_of(view: &PortView) -> Option<(PortId, u16)> {
    match view.tagging {
        Tagging::Vlan { parent, id } => Some((parent, id)),
        _ => None,
    }
}

/// A frame that tells what it hears, if it is the packet's.
type Traced = Noted<Ear>;

/// Where what a frame hears is noted.
#[derive(Debug)]
struct Ear(Option<Arc<Mutex<Recorder>>>);

impl Note for Ear {
    fn observe(&mut self, event: Event<'_>, frame: &Buffer) {
        if let Some(recorder) = &self.0 {
            lock(recorder).note(event, frame);
        }
    }
}

/// Nobody else ever holds the lock: it is there because frames may have to travel between threads.
fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where frames come from.
#[derive(Clone, Debug)]
struct Pool {
    recycler: Recycler,
    recorder: Arc<Mutex<Recorder>>,
}

impl Pool {
    fn new(recorder: Recorder) -> Self {
        Self {
            recycler: Recycler::default(),
            recorder: Arc::new(Mutex::new(recorder)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recorder> {
        lock(&self.recorder)
    }

    /// The packet's frame.
    fn frame(&self, bytes: &[u8]) -> Traced {
        Noted::new(frame(bytes), Ear(Some(self.recorder.clone())))
    }

    /// The notes, once no worker is left that could add to them.
    fn into_recorder(self) -> Recorder {
        let recorder = Arc::into_inner(self.recorder).expect("all frames are gone");
        recorder
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl FramePool for Pool {
    type Frame = Traced;

    fn alloc(&mut self) -> Option<Traced> {
        Some(Noted::new(self.recycler.empty(), Ear(None)))
    }
}

/// A copy's end of a port.
#[derive(Debug)]
struct Lane {
    pool: Pool,
    incoming: Option<Traced>,
    outgoing: Vec<Traced>,
}

impl Lane {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            incoming: None,
            outgoing: Vec::new(),
        }
    }
}

impl Port for Lane {
    type Frame = Traced;

    fn rx_burst(&mut self, burst: &mut Burst<Traced>) -> usize {
        let taken = self.incoming.take();
        let n = usize::from(taken.is_some());
        burst.extend(taken);
        n
    }

    fn tx_burst(&mut self, burst: &mut Burst<Traced>) -> usize {
        let sent = burst.len();
        self.outgoing.extend(burst.drain(..));
        sent
    }

    fn alloc(&mut self) -> Option<Traced> {
        self.pool.alloc()
    }
}
