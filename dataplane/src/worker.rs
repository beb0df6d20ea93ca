//! A worker: one core, its own queues, its own connections.
//!
//! It runs to completion, turn after turn: take a burst from each port, decide each frame,
//! send. It never locks, waits, allocates, logs or formats, and reads the clock once a turn.
//! Everything it changes is its own; what it is told comes as a snapshot.

use std::net::IpAddr;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use arch::{Pages, PagesError};
use arrayvec::ArrayVec;
use wire::cut::Cut;
use wire::ethernet::{self, EtherType};
use wire::proxy::Header;
use wire::{ipv4, ipv6};

use crate::bucket::TokenBucket;
use crate::conn::defence::Sweep;
use crate::conn::excerpt::Excerpt;
use crate::conn::{Address, Hasher, Table};
use crate::decide::{Aside, Context, Foreseen, Identity, Origin, Run, at, decide};
use crate::exchange::{Injected, Punted, WorkerEnd};
use crate::fragments::{Fate, Transport};
use crate::fwd::{Link, icmp, told};
use crate::gather::{Gathered, Gathering};
use crate::handover::{Flushed, Handed, Peers};
use crate::isn::Isn;
use crate::local::{LocalPorts, ReplyHash};
use crate::observe::Event;
use crate::owner::{Fields, Steering, Step};
use crate::parse::{Fragment, Gate, Parsed, Parses, Whole};
use crate::port::{BURST, Burst, Frame, Port, PortId, WorkerId};
use crate::probe::{Answer, Question};
use crate::published::Reader;
use crate::reply::{self, Kind, Reply};
use crate::sched;
use crate::services::{Blocks, HopId, PortView, PuntLimits, ServiceId, Snapshot, Towards};
use crate::state::{State, account_end};
use crate::time::{Clock, Millis};
use crate::verdict::{Counters, PuntClass, Reason, Verdict};
use crate::vlan::{self, Tagging, Vlans};
use crate::walk::Errand;

/// Entries and ticks that one turn looks at to end connections.
const EXPIRE_PER_TURN: u32 = 64;
/// Frames that one turn sends for control.
const INJECT_PER_TURN: usize = BURST;
/// Frames of a burst that are parsed together, and looked up together.
const PART: usize = 16;
/// ICMP errors a second that one worker makes (RFC 1812 §4.3.2.8), and resets.
const REPLIES_PER_SECOND: u32 = 1000;

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

/// One worker.
#[derive(Debug)]
pub struct Worker<P: Port> {
    me: Identity,
    reader: Reader<Snapshot>,
    exchange: WorkerEnd<P::Frame>,
    peers: Peers<P::Frame>,
    counters: Arc<Counters>,
    lanes: Vec<Lane<P>>,
    gathering: Gathering<P::Frame>,
    burst: Burst<P::Frame>,
    origins: ArrayVec<Origin, BURST>,
    parses: Parses,
    state: State,
    punts: [TokenBucket; PuntClass::ALL.len()],
    replies: TokenBucket,
    resets: TokenBucket,
    fragment_id: u32,
}

/// A port with what waits to be sent by it.
#[derive(Debug)]
struct Lane<P: Port> {
    port: P,
    out: Burst<P::Frame>,
    /// Octets in `out`.
    octets: u64,
    made: Burst<P::Frame>,
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
        let lane = |port| Lane {
            port,
            out: Burst::new(),
            octets: 0,
            made: Burst::new(),
        };
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
            lanes: parts.ports.into_iter().map(lane).collect(),
            gathering: Gathering::new(hasher),
            burst: Burst::new(),
            origins: ArrayVec::new(),
            parses: Parses::default(),
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

    /// Its connections.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A port's queue pair: tests and replays feed it between turns. A VLAN's port has none.
    pub fn port_mut(&mut self, port: PortId) -> Option<&mut P> {
        self.lanes
            .get_mut(usize::from(port.0))
            .map(|lane| &mut lane.port)
    }

    /// One turn: at most [`BURST`] frames from each port, from wire to wire. Says whether
    /// there was anything to do.
    pub fn turn(&mut self, now: Millis) -> bool {
        self.work(now, EXPIRE_PER_TURN)
    }

    /// A turn that ends all that is due, however much that is: for a driver with a clock of its
    /// own, between packets.
    pub fn settle(&mut self, now: Millis) {
        self.work(now, u32::MAX);
    }

    /// Ends what is over at `now`, to the millisecond: so that who asks now is told of nothing
    /// that has ended. For a driver with a clock of its own, as [`settle`](Self::settle).
    pub fn end_overdue(&mut self, now: Millis) {
        let (snapshot, _) = self.reader.edition();
        let Some(blocks) = snapshot.blocks.get(usize::from(self.me.id.0)) else {
            return;
        };
        let (reals, counters) = (&snapshot.reals, &self.counters);
        let State { v4, v6, .. } = &mut self.state;
        v4.expire_exactly(now, |entry| account_end(entry, reals, blocks, counters));
        v6.expire_exactly(now, |entry| account_end(entry, reals, blocks, counters));
        let gauges = counters.entries.iter().zip([v4.len(), v6.len()]);
        gauges.for_each(|(gauge, entries)| gauge.set(entries));
    }

    #[inline]
    fn work(&mut self, now: Millis, expire: u32) -> bool {
        let (snapshot, generation) = self.reader.edition();
        let Some(blocks) = snapshot.blocks.get(usize::from(self.me.id.0)) else {
            return false;
        };
        let mut turn = Turn {
            snapshot,
            blocks,
            generation,
            exchange: &self.exchange,
            peers: &mut self.peers,
            gathering: &mut self.gathering,
            counters: &self.counters,
            lanes: &mut self.lanes,
            punts: &mut self.punts,
            replies: &mut self.replies,
            resets: &mut self.resets,
            fragment_id: &mut self.fragment_id,
            now,
        };
        let mut context = Context {
            snapshot,
            blocks,
            me: &self.me,
            now,
            state: &mut self.state,
            counters: &self.counters,
            aside: None,
            foreseen: Foreseen::default(),
        };
        let mut burst = BurstOf {
            frames: &mut self.burst,
            origins: &mut self.origins,
            parses: &mut self.parses,
        };
        let mut busy = turn.inject();
        for source in 0..turn.peers.sources() {
            busy |= turn.take_over(source, &mut burst, &mut context);
        }
        for port in 0..turn.lanes.len() {
            busy |= turn.receive(port, &mut burst, &mut context);
        }
        turn.expire_fragments(&mut context, expire);
        turn.flush();
        context.expire(expire);
        let entries = [self.state.v4.len(), self.state.v6.len()];
        let gauges = self.counters.entries.iter().zip(entries);
        gauges.for_each(|(gauge, entries)| gauge.set(entries));
        if !snapshot.errands.is_empty() {
            let known = Known {
                me: self.me.id,
                snapshot,
                state: &self.state,
                gathering: &self.gathering,
                punts: &self.punts,
                replies: &self.replies,
                resets: &self.resets,
                fragment_id: self.fragment_id,
                now,
            };
            busy |= known.run_an_errand(self.counters.turns.get());
        }
        self.counters.turns.add(1);
        self.counters.busy_turns.add(u64::from(busy));
        busy
    }

    /// Turns until `stop` is set; then sends nothing more.
    pub fn run(&mut self, stop: &AtomicBool, idle: Idle, clock: &Clock) {
        let mut pause = Pause::new(idle);
        let mut before = arch::cycles();
        while !stop.load(Ordering::Relaxed) {
            let busy = self.turn(clock.at(before));
            let after = arch::cycles();
            let spent = after.wrapping_sub(before);
            self.counters.cycles.add(spent);
            if busy {
                self.counters.busy_cycles.add(spent);
                self.counters.turn_cycles.record(spent);
                pause.reset();
                before = after;
            } else {
                pause.wait();
                before = arch::cycles();
                self.counters.cycles.add(before.wrapping_sub(after));
            }
        }
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

/// What a worker can tell of itself.
struct Known<'a, F> {
    me: WorkerId,
    snapshot: &'a Snapshot,
    state: &'a State,
    gathering: &'a Gathering<F>,
    punts: &'a [TokenBucket; PuntClass::ALL.len()],
    replies: &'a TokenBucket,
    resets: &'a TokenBucket,
    fragment_id: u32,
    now: Millis,
}

impl<F> Known<'_, F> {
    /// Goes on with one of the errands, each in its turn; says whether there was anything to do.
    #[cold]
    #[inline(never)]
    fn run_an_errand(&self, turns: u64) -> bool {
        let errands = &self.snapshot.errands;
        let turn = turns % errands.len() as u64;
        let errand = errands.iter().zip(0..).find(|&(_, at)| at == turn);
        match errand {
            Some((Errand::Walk(walk), _)) => walk.step(self.me, self.state, self.now),
            Some((Errand::Probe(probe), _)) => {
                let asked = probe.asked(self.me);
                asked.is_some_and(|question| {
                    probe.answer(self.me, self.answer(question));
                    true
                })
            }
            None => false,
        }
    }

    /// What it knows that decides over a packet.
    fn answer(&self, question: &Question) -> Answer {
        let chooses = question.chooses.and_then(|(ServiceId(id), address)| {
            let service = self.snapshot.services.get(id)?;
            Some((service.as_ref(), address))
        });
        let fragment_of = question.fragment_of.as_ref();
        Answer {
            now: self.now,
            v4: Excerpt::of(&self.state.v4, &question.v4),
            v6: Excerpt::of(&self.state.v6, &question.v6),
            recall: self.state.sched.recall(chooses),
            gathered: fragment_of.and_then(|of| self.gathering.peek(of, self.now)),
            packets_spared: self.state.packets_spared,
            outer_id: self.state.outer_id,
            fragment_id: self.fragment_id,
            punts: *self.punts,
            replies: *self.replies,
            resets: *self.resets,
        }
    }
}

/// Pieces that one packet is cut into at most: one of 9,218 octets on a path of 552.
const MAX_PIECES: usize = 18;

/// How the packet in `frame` is cut for a link of `mtu` octets; `None` if it can't be.
fn plan(frame: &[u8], mtu: u16, id: u32) -> Option<Cut> {
    let packet = ethernet::Frame::parse(frame).ok()?.into_payload();
    Cut::of(packet, usize::from(mtu), id).filter(|cut| cut.pieces() <= MAX_PIECES)
}

/// Makes a frame the first piece of its packet; `false`, and no change, if it has no room for
/// that one's header.
fn become_first<F: Frame>(frame: &mut F, plan: &Cut) -> bool {
    let Some(envelope) = frame.bytes().first_chunk::<{ ethernet::LEN }>().copied() else {
        return false;
    };
    if !frame.prepend(plan.header_len() - plan.data_at()) {
        return false;
    }
    let (head, rest) = frame.bytes_mut().split_at_mut(ethernet::LEN);
    head.copy_from_slice(&envelope);
    rest[..plan.header_len()].copy_from_slice(&plan.header(0)[..plan.header_len()]);
    frame.truncate(ethernet::LEN + plan.len(0));
    true
}

/// Piece `n` of the packet in `frame`, in the empty frame `made`.
fn piece<F: Frame>(frame: &F, plan: &Cut, n: usize, mut made: F) -> Option<F> {
    let range = plan.range(n);
    let (envelope, packet) = frame.bytes().split_at_checked(ethernet::LEN)?;
    let data = packet.get(plan.data_at()..)?.get(range)?;
    made.append(ethernet::LEN + plan.len(n)).then_some(())?;
    let (head, rest) = made.bytes_mut().split_at_mut_checked(ethernet::LEN)?;
    head.copy_from_slice(envelope);
    let (header, body) = rest.split_at_mut_checked(plan.header_len())?;
    header.copy_from_slice(&plan.header(n)[..plan.header_len()]);
    body.copy_from_slice(data);
    Some(made)
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

/// The scratch memory of a burst: frames, where they come from, what they are.
struct BurstOf<'a, F> {
    frames: &'a mut Burst<F>,
    origins: &'a mut ArrayVec<Origin, BURST>,
    parses: &'a mut Parses,
}

/// What one turn works with.
struct Turn<'a, P: Port> {
    snapshot: &'a Snapshot,
    blocks: &'a Blocks,
    generation: u64,
    exchange: &'a WorkerEnd<P::Frame>,
    peers: &'a mut Peers<P::Frame>,
    gathering: &'a mut Gathering<P::Frame>,
    counters: &'a Counters,
    lanes: &'a mut [Lane<P>],
    punts: &'a mut [TokenBucket; PuntClass::ALL.len()],
    replies: &'a mut TokenBucket,
    resets: &'a mut TokenBucket,
    /// Of the next IPv6 packet of ours that is cut.
    fragment_id: &'a mut u32,
    now: Millis,
}

impl<P: Port> Turn<'_, P> {
    /// Sends what control asked for.
    fn inject(&mut self) -> bool {
        let mut sent = 0;
        while sent < INJECT_PER_TURN
            && let Some(Injected { frame, port }) = self.exchange.injected()
        {
            self.counters.injected.add(1);
            let origin = Origin {
                port,
                step: Step::default(),
                gathered: None,
            };
            self.finish(frame, origin, Verdict::Transmit(port));
            sent += 1;
        }
        sent > 0
    }

    /// Takes over what another worker found to be ours, or at least not its own.
    fn take_over(
        &mut self,
        source: usize,
        burst: &mut BurstOf<'_, P::Frame>,
        context: &mut Context<'_>,
    ) -> bool {
        let BurstOf {
            frames, origins, ..
        } = burst;
        let generation = self.generation;
        self.peers.take(source, |handed| {
            let step = match handed.generation == generation {
                true => handed.step,
                false => handed.step.again(),
            };
            frames.push(handed.frame);
            origins.push(Origin {
                port: handed.port,
                step,
                gathered: handed.gathered,
            });
        });
        if frames.is_empty() {
            return false;
        }
        self.counters.handed_in.add(frames.len() as u64);
        self.process_each(burst, context);
        true
    }

    /// Takes a burst through whose frames are from here and there, as `origins` has it.
    fn process_each(&mut self, burst: &mut BurstOf<'_, P::Frame>, context: &mut Context<'_>) {
        let BurstOf {
            frames,
            origins,
            parses,
        } = burst;
        let snapshot = self.snapshot;
        let parse = |parses: &mut Parses, frames: &[P::Frame], first: usize, state: &State| {
            for (frame, &Origin { port, gathered, .. }) in frames.iter().zip(&origins[first..]) {
                parses.push_all(from_ref(frame), gate(snapshot, port), gathered, state);
            }
        };
        self.process(frames, parses, parse, |at| origins[at], context);
        origins.clear();
    }

    /// Takes one burst from a port.
    fn receive(
        &mut self,
        port: usize,
        burst: &mut BurstOf<'_, P::Frame>,
        context: &mut Context<'_>,
    ) -> bool {
        let taken = self.lanes[port].port.rx_burst(burst.frames);
        if taken == 0 {
            return false;
        }
        let port = PortId(u16::try_from(port).expect("ports are numbered in 16 bits"));
        let origin = Origin {
            port,
            step: Step::default(),
            gathered: None,
        };
        burst.frames.iter().for_each(Frame::prefetch);
        self.count_received(burst.frames);
        let snapshot = self.snapshot;
        let view = snapshot.ports.get(usize::from(port.0));
        if let Some(vlans) = view.and_then(|view| view.tagging.vlans()) {
            self.receive_tagged(vlans, burst, context);
            return true;
        }
        let gate = view.map(Gate::of);
        let parse = |parses: &mut Parses, frames: &[P::Frame], _, state: &State| {
            parses.push_all(frames, gate, None, state);
        };
        self.process(burst.frames, burst.parses, parse, |_| origin, context);
        true
    }

    /// Takes a burst through that came by a port with VLANs over it: to each what is its own.
    #[inline(never)]
    fn receive_tagged(
        &mut self,
        vlans: &Vlans,
        burst: &mut BurstOf<'_, P::Frame>,
        context: &mut Context<'_>,
    ) {
        for frame in &mut *burst.frames {
            let port = vlans.sort(frame);
            if port != vlans.parent()
                && let Some(block) = self.blocks.ports.get(port.0.into())
            {
                block.rx.add(1);
                block.rx_bytes.add(frame.bytes().len() as u64);
            }
            burst.origins.push(Origin {
                port,
                step: Step::default(),
                gathered: None,
            });
        }
        self.process_each(burst, context);
    }

    /// Takes a burst through the passes: parse, look up, decide. The first two only bring
    /// memory closer; each frame is decided in its order against the table as it then is, so
    /// two packets of one new flow in a burst make one connection.
    ///
    /// ```text
    ///   parse    0  1
    ///   look up     0  1       parts of a burst, from left to right
    ///   decide         0..
    /// ```
    ///
    /// While one part is parsed the buckets of the one before are on their way, and while that is
    /// decided the entries of the next.
    fn process(
        &mut self,
        frames: &mut Burst<P::Frame>,
        parses: &mut Parses,
        parse: impl Fn(&mut Parses, &[P::Frame], usize, &State),
        origin: impl Fn(usize) -> Origin,
        context: &mut Context<'_>,
    ) {
        parses.clear();
        let mut parsed = 0..0;
        for part in frames.chunks(PART) {
            let next = parsed.end..parsed.end + part.len();
            parse(parses, part, next.start, context.state);
            context.state.prefetch_entries(parses, parsed);
            parsed = next;
        }
        context.state.prefetch_entries(parses, parsed);
        let run = context.hits(frames, parses, 0, false);
        if run.frames == frames.len() {
            return self.pass_on_all(frames, run);
        }
        self.decide_each(frames.take().into_iter(), run, parses, origin, context);
    }

    /// Decides about frames among which not all are common, or that leave by several ports; the
    /// first of them are in `run` already.
    #[inline(never)]
    fn decide_each(
        &mut self,
        mut frames: arrayvec::IntoIter<P::Frame, BURST>,
        mut run: Run,
        parses: &Parses,
        origin: impl Fn(usize) -> Origin,
        context: &mut Context<'_>,
    ) {
        let mut at = 0;
        context.begin_burst();
        loop {
            at += run.frames;
            if run.frames > 0 {
                self.pass_on(frames.by_ref().take(run.frames), run);
            }
            if !run.parts {
                loop {
                    let Some(frame) = frames.next() else { return };
                    self.settle_or_gather(frame, parses, at, origin(at), context);
                    at += 1;
                    // None is common of which no table knew when the burst came.
                    match frames.as_mut_slice().first_mut() {
                        Some(next) if parses.is_unknown(at) => next.observe(Event::Begins),
                        _ => break,
                    }
                }
            }
            run = context.hits(frames.as_mut_slice(), parses, at, run.parts);
        }
    }

    /// Sends what the common way has rewritten: a burst, whole.
    #[inline(always)]
    fn pass_on_all(&mut self, frames: &mut Burst<P::Frame>, run: Run) {
        match self.lanes.get_mut(usize::from(run.port.0)) {
            Some(lane) if lane.out.is_empty() => {
                std::mem::swap(&mut lane.out, frames);
                lane.octets += run.octets;
            }
            _ => self.pass_on(frames.drain(..), run),
        }
    }

    /// The same of a part of one.
    #[inline(never)]
    fn pass_on(&mut self, frames: impl ExactSizeIterator<Item = P::Frame>, run: Run) {
        // VLANs' ports stand behind those that have queues: what goes by one costs nothing here.
        match self.lanes.get_mut(usize::from(run.port.0)) {
            Some(lane) => lane.push_all(frames, run.octets, self.counters),
            None => frames.for_each(|frame| self.transmit_tagged(frame, run.port)),
        }
    }

    /// Does with a frame what is less common.
    #[inline(never)]
    fn settle_or_gather(
        &mut self,
        frame: P::Frame,
        parses: &Parses,
        at: usize,
        origin: Origin,
        context: &mut Context<'_>,
    ) {
        match parses.frames[at] {
            Parsed::Fragment(place) => {
                let part = parses.fragments[usize::from(place)];
                self.gather(frame, &part, origin.port, context);
            }
            _ => self.settle(frame, parses, at, origin, context),
        }
    }

    fn view(&self, port: PortId) -> Option<&PortView> {
        self.snapshot.ports.get(usize::from(port.0))
    }

    /// Decides about a frame and does it.
    #[inline(always)]
    fn settle(
        &mut self,
        mut frame: P::Frame,
        parses: &Parses,
        at: usize,
        origin: Origin,
        context: &mut Context<'_>,
    ) {
        let verdict = decide(&mut frame, parses, at, origin, context);
        match (context.aside.take(), verdict) {
            (None, _) => self.finish(frame, origin, verdict),
            (Some(Aside::Cut(mtu)), Verdict::Transmit(port)) => {
                self.send_in_pieces(frame, origin, port, mtu);
            }
            (Some(Aside::Ahead), _) => {
                self.send_ahead(&frame, &context.state.ahead, verdict);
                self.finish(frame, origin, verdict);
            }
            (Some(Aside::Reply(reply)), _) => {
                self.reply(&frame, origin.port, &reply);
                self.finish(frame, origin, verdict);
            }
            (Some(Aside::Reset), _) => {
                self.reset(&frame, origin.port);
                self.finish(frame, origin, verdict);
            }
            (Some(Aside::Retell(kind)), _) => {
                self.retell(&frame, kind);
                self.finish(frame, origin, verdict);
            }
            // One that waits for a neighbour control cuts when it sends it.
            (Some(Aside::Cut(_)), _) => self.finish(frame, origin, verdict),
        }
    }

    /// Cuts a packet for a link of `mtu` octets. The frame becomes the first piece; the
    /// others are of our making.
    #[cold]
    #[inline(never)]
    fn send_in_pieces(&mut self, mut frame: P::Frame, origin: Origin, port: PortId, mtu: u16) {
        *self.fragment_id = self.fragment_id.wrapping_add(1);
        let Some(plan) = plan(frame.bytes(), mtu, *self.fragment_id) else {
            return self.finish(frame, origin, Verdict::Drop(Reason::CannotFragment));
        };
        let mut rest = ArrayVec::<P::Frame, MAX_PIECES>::new();
        for n in 1..plan.pieces().min(MAX_PIECES) {
            self.counters.made.add(1);
            match self.alloc(port).and_then(|to| piece(&frame, &plan, n, to)) {
                Some(piece) => rest.push(piece),
                None => self.counters.made_dropped.add(1),
            }
        }
        let verdict = match become_first(&mut frame, &plan) {
            true => Verdict::Transmit(port),
            false => Verdict::Drop(Reason::CannotFragment),
        };
        self.finish(frame, origin, verdict);
        rest.drain(..).for_each(|piece| self.send_made(piece, port));
    }

    /// Sends a packet of `header` alone, at once: it goes before the one in `frame`. With one that
    /// waits for its neighbour it can't go.
    #[cold]
    #[inline(never)]
    fn send_ahead(&mut self, frame: &P::Frame, header: &Header, verdict: Verdict) {
        self.counters.made.add(1);
        let port = match verdict {
            Verdict::Transmit(port) => port,
            _ => return self.counters.made_dropped.add(1),
        };
        let mtu = self.view(port).map_or(0, |view| usize::from(view.mtu));
        let made = self.alloc(port).and_then(|mut made| {
            let written = told::ahead(frame, header, &mut made);
            (written && made.bytes().len() <= ethernet::LEN + mtu).then_some(made)
        });
        match made {
            Some(made) => self.send_made(made, port),
            None => return self.counters.made_dropped.add(1),
        }
        let queues = self.way_out(port).map(|(queues, _)| usize::from(queues.0));
        if let Some(lane) = queues.and_then(|queues| self.lanes.get_mut(queues)) {
            lane.flush_made(self.counters);
        }
    }

    /// Sends what we made ourselves.
    fn send_made(&mut self, mut made: P::Frame, port: PortId) {
        let counters = self.counters;
        let Ok(lane) = self.dress(&mut made, port) else {
            return counters.made_dropped.add(1);
        };
        if lane.made.is_full() {
            lane.flush_made(counters);
        }
        lane.made.push(made);
    }

    /// An empty frame, to be sent by `port`.
    fn alloc(&mut self, port: PortId) -> Option<P::Frame> {
        let (queues, _) = self.way_out(port)?;
        let lane = self.lanes.get_mut(usize::from(queues.0))?;
        lane.port.alloc()
    }

    /// The port whose queues `port` uses, and the VLAN whose it is.
    fn way_out(&self, port: PortId) -> Option<(PortId, Option<u16>)> {
        match self.view(port)?.tagging {
            Tagging::Vlan { parent, id } => Some((parent, Some(id))),
            Tagging::Plain | Tagging::Parent(_) => Some((port, None)),
        }
    }

    /// Makes a frame what goes on the wire when `port` sends it, and says where it is sent.
    fn dress(&mut self, frame: &mut P::Frame, port: PortId) -> Result<&mut Lane<P>, Reason> {
        let (queues, vlan) = self.way_out(port).ok_or(Reason::NoPort)?;
        let lane = self.lanes.get_mut(usize::from(queues.0));
        let lane = lane.ok_or(Reason::NoPort)?;
        if let Some(id) = vlan {
            let octets = frame.bytes().len() as u64;
            vlan::put_on(frame, id)?;
            if let Some(block) = self.blocks.ports.get(port.0.into()) {
                block.tx.add(1);
                block.tx_bytes.add(octets);
            }
        }
        Ok(lane)
    }

    /// Brings a fragment to where its packet is gathered, and to what its first one says.
    #[cold]
    #[inline(never)]
    fn gather(
        &mut self,
        frame: P::Frame,
        part: &Fragment,
        port: PortId,
        context: &mut Context<'_>,
    ) {
        let gatherer = match &part.of {
            Whole::V4(of) => context.me.steering.owner(Fields::Addresses, of.key()),
            Whole::V6(of) => context.me.steering.owner(Fields::Addresses, of.key()),
        };
        if gatherer != context.me.id {
            let origin = Origin {
                port,
                step: Step::default(),
                gathered: None,
            };
            return self.finish(frame, origin, Verdict::HandOver(gatherer, Step::default()));
        }
        match self.gathering.add(frame, port, part, self.now) {
            Gathered::Follow(frame, transport) => self.follow(frame, port, transport, context),
            Gathered::Held => self.counters.held.add(1),
            Gathered::Drop(frame, reason) => {
                let origin = Origin {
                    port,
                    step: Step::default(),
                    gathered: None,
                };
                self.finish(frame, origin, Verdict::Drop(reason));
            }
        }
        self.let_go(context);
    }

    /// Sends a fragment the way that its packet's first one showed.
    fn follow(
        &mut self,
        frame: P::Frame,
        port: PortId,
        transport: Transport,
        context: &mut Context<'_>,
    ) {
        let origin = Origin {
            port,
            step: Step::default(),
            gathered: Some(transport),
        };
        let mut parses = Parses::default();
        let gate = gate(self.snapshot, port);
        parses.push_all(from_ref(&frame), gate, origin.gathered, &*context.state);
        self.settle(frame, &parses, 0, origin, context);
    }

    /// Deals with the fragments that are held no longer.
    fn let_go(&mut self, context: &mut Context<'_>) {
        while let Some((frame, port, fate)) = self.gathering.released() {
            self.counters.released.add(1);
            match fate {
                Fate::Follow(transport) => self.follow(frame, port, transport, context),
                Fate::Drop(reason) => self.counters.drop[reason as usize].add(1),
            }
        }
    }

    /// Forgets fragments that waited too long.
    fn expire_fragments(&mut self, context: &mut Context<'_>, budget: u32) {
        self.gathering.expire(self.now, budget);
        self.let_go(context);
    }

    fn count_received(&self, burst: &Burst<P::Frame>) {
        let octets: usize = burst.iter().map(|frame| frame.bytes().len()).sum();
        self.counters.rx.add(burst.len() as u64);
        self.counters.rx_bytes.add(octets as u64);
    }

    /// Does with a frame what was decided, and counts it.
    #[inline(always)]
    fn finish(&mut self, mut frame: P::Frame, origin: Origin, verdict: Verdict) {
        frame.observe(Event::Decided(verdict));
        match verdict {
            Verdict::Transmit(port) => self.transmit(frame, port),
            Verdict::Punt(class) => self.punt(frame, origin.port, class, None),
            Verdict::Resolve(towards) => self.resolve(frame, origin.port, towards),
            Verdict::HandOver(to, step) => {
                let Origin { port, gathered, .. } = origin;
                let flushed = self.peers.hand(
                    to,
                    Handed {
                        frame,
                        port,
                        step,
                        generation: self.generation,
                        gathered,
                    },
                );
                self.count_handed(flushed);
            }
            Verdict::Drop(reason) => self.counters.drop[reason as usize].add(1),
        }
    }

    #[inline]
    fn transmit(&mut self, frame: P::Frame, port: PortId) {
        let Some(lane) = self.lanes.get_mut(usize::from(port.0)) else {
            return self.transmit_tagged(frame, port);
        };
        lane.push(frame, self.counters);
    }

    /// Sends by a VLAN's port.
    #[inline(never)]
    fn transmit_tagged(&mut self, mut frame: P::Frame, port: PortId) {
        let counters = self.counters;
        match self.dress(&mut frame, port) {
            Ok(lane) => lane.push(frame, counters),
            Err(reason) => {
                frame.observe(Event::Decided(Verdict::Drop(reason)));
                counters.drop[reason as usize].add(1);
            }
        }
    }

    /// Has control find the MAC that a rewritten frame goes to.
    #[cold]
    fn resolve(&mut self, frame: P::Frame, port: PortId, towards: Towards) {
        let next = match towards {
            Towards::Hop(HopId(hop)) => {
                let port = self.snapshot.hops.get(hop).map(|hop| hop.port);
                port.zip(self.snapshot.next_hops.get(hop).copied())
            }
            Towards::Unknown(port) | Towards::At(port, _) => {
                destination(frame.bytes()).map(|address| (port, address))
            }
        };
        match next {
            Some(_) => self.punt(frame, port, PuntClass::Unresolved, next),
            None => self.counters.drop[Reason::NoNeighbour as usize].add(1),
        }
    }

    fn punt(
        &mut self,
        mut frame: P::Frame,
        port: PortId,
        class: PuntClass,
        next: Option<(PortId, IpAddr)>,
    ) {
        let at = class as usize;
        let limit = self.snapshot.settings.punt_limits.per_second[at];
        if !self.punts[at].take(limit, self.now) {
            frame.observe(Event::Decided(Verdict::Drop(Reason::PuntLimit)));
            self.counters.drop[Reason::PuntLimit as usize].add(1);
            return;
        }
        let punted = Punted {
            frame,
            port,
            class,
            next,
        };
        match self.exchange.punt(punted) {
            Ok(()) => self.counters.punt[at].add(1),
            Err(_) => self.counters.drop[Reason::PuntFull as usize].add(1),
        }
    }

    /// Makes an ICMP error about `frame` and sends it back where that came from.
    fn reply(&mut self, frame: &P::Frame, port: PortId, reply: &Reply) {
        self.counters.made.add(1);
        match self.make(frame, port, reply) {
            Some(made) => self.send_made(made, port),
            None => self.counters.made_dropped.add(1),
        }
    }

    fn make(&mut self, frame: &P::Frame, port: PortId, reply: &Reply) -> Option<P::Frame> {
        if !self.replies.take(REPLIES_PER_SECOND, self.now) {
            return None;
        }
        let mtu = self.view(port)?.mtu;
        let mut made = self.alloc(port)?;
        reply.write(frame.bytes(), mtu, &mut made).then_some(made)
    }

    /// Answers a segment with a RST, back where it came from.
    #[cold]
    fn reset(&mut self, frame: &P::Frame, port: PortId) {
        self.counters.made.add(1);
        let may = self.resets.take(REPLIES_PER_SECOND, self.now);
        let made = may.then(|| self.alloc(port)).flatten();
        let made = made.and_then(|mut made| reply::reset(frame.bytes(), &mut made).then_some(made));
        match made {
            Some(made) => self.send_made(made, port),
            None => self.counters.made_dropped.add(1),
        }
    }

    /// Tells the client of the packet inside what the ICMP error in `frame` says of a tunnel.
    #[cold]
    fn retell(&mut self, frame: &P::Frame, kind: Kind) {
        self.counters.made.add(1);
        match self.make_retold(frame.bytes(), kind) {
            Some((made, port)) => self.send_made(made, port),
            None => self.counters.made_dropped.add(1),
        }
    }

    /// From the VIP, by the way to the client; `None` too where that waits for a neighbour.
    fn make_retold(&mut self, frame: &[u8], kind: Kind) -> Option<(P::Frame, PortId)> {
        let about = icmp::about_any_tunnel(frame)?;
        let (client, source) = icmp::quoted_ends(about.inner)?;
        if !self.replies.take(REPLIES_PER_SECOND, self.now) {
            return None;
        }
        let hop = match self.snapshot.routes.find(client, 0)? {
            Towards::Hop(HopId(hop)) => *self.snapshot.hops.get(hop)?,
            Towards::At(port, mac) => at(self.snapshot, port, mac)?,
            Towards::Unknown(_) => return None,
        };
        let link = Link {
            ours: hop.source(),
            next: hop.destination()?,
        };
        let mtu = self.view(hop.port)?.mtu;
        let mut made = self.alloc(hop.port)?;
        let reply = Reply { kind, source };
        let written = reply.write_to(about.inner, link, mtu, &mut made);
        written.then_some((made, hop.port))
    }

    fn count_handed(&self, Flushed { sent, refused }: Flushed) {
        self.counters.handed_out.add(sent);
        self.counters.drop[Reason::HandOverFull as usize].add(refused);
    }

    fn flush(&mut self) {
        let flushed = self.peers.flush();
        self.count_handed(flushed);
        for lane in &mut *self.lanes {
            lane.flush(self.counters);
            lane.flush_made(self.counters);
        }
    }
}

/// Where frames of a port come in; nothing where no snapshot names it yet.
#[inline]
fn gate(snapshot: &Snapshot, port: PortId) -> Option<Gate<'_>> {
    snapshot.ports.get(usize::from(port.0)).map(Gate::of)
}

/// Whom an IP packet is for.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    let ethernet = ethernet::Frame::parse(frame).ok()?;
    match ethernet.ethertype() {
        EtherType::IPV4 => Some(ipv4::Packet::parse(ethernet.payload()).ok()?.dst().into()),
        EtherType::IPV6 => Some(ipv6::Packet::parse(ethernet.payload()).ok()?.dst().into()),
        _ => None,
    }
}

impl<P: Port> Lane<P> {
    /// Has a frame wait to be sent.
    #[inline(always)]
    fn push(&mut self, frame: P::Frame, counters: &Counters) {
        let octets = frame.bytes().len() as u64;
        if let Err(full) = self.out.try_push(frame) {
            self.flush(counters);
            self.out.push(full.element());
        }
        self.octets += octets;
    }

    /// The same for several, which have so many octets.
    fn push_all(
        &mut self,
        frames: impl ExactSizeIterator<Item = P::Frame>,
        octets: u64,
        counters: &Counters,
    ) {
        if self.out.remaining_capacity() < frames.len() {
            self.flush(counters);
        }
        self.out.extend(frames);
        self.octets += octets;
    }

    /// Sends what waits; what the queue refuses is dropped and counted.
    fn flush(&mut self, counters: &Counters) {
        if self.out.is_empty() {
            return;
        }
        let sent = self.port.tx_burst(&mut self.out);
        let refused = octets(&self.out);
        counters.transmit.add(sent as u64);
        counters.transmit_bytes.add(self.octets - refused);
        self.octets = 0;
        if !self.out.is_empty() {
            counters.drop[Reason::TxFull as usize].add(self.out.len() as u64);
            self.out.clear();
        }
    }

    /// The same for what we made ourselves.
    fn flush_made(&mut self, counters: &Counters) {
        if self.made.is_empty() {
            return;
        }
        let octets = octets(&self.made);
        let sent = self.port.tx_burst(&mut self.made);
        counters.made_sent.add(sent as u64);
        counters
            .transmit_bytes
            .add(octets - self::octets(&self.made));
        counters.made_dropped.add(self.made.len() as u64);
        self.made.clear();
    }
}

fn octets<F: Frame>(burst: &Burst<F>) -> u64 {
    burst.iter().map(|frame| frame.bytes().len() as u64).sum()
}

/// What a worker does when there was nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Looks again at once.
    Spin,
    /// Looks again after the processor's pause hint.
    Pause,
    /// Sleeps: 50 us at first, up to a millisecond.
    Sleep,
}

/// Empty turns before a sleeper sleeps: a burst is rarely alone.
const PATIENCE: u32 = 64;
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(1);

/// How long it has been idle.
#[derive(Debug)]
struct Pause {
    idle: Idle,
    empty: u32,
    next: Duration,
}

impl Pause {
    fn new(idle: Idle) -> Self {
        Self {
            idle,
            empty: 0,
            next: SHORTEST,
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.idle);
    }

    fn wait(&mut self) {
        match self.idle {
            Idle::Spin => {}
            Idle::Pause => arch::pause(),
            Idle::Sleep if self.empty < PATIENCE => self.empty += 1,
            Idle::Sleep => {
                std::thread::sleep(self.next);
                self.next = (self.next * 2).min(LONGEST);
            }
        }
    }
}
