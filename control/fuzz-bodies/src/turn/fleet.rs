//! The director: the real control, and the real workers, turned one at a time in any order.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash};
use std::sync::Arc;

use config::model::Config;
use control::client::Peer;
use control::engine::Engine;
use control::link::{Heard, Packet};
use control::neigh::Action;
use control::topology::Topology;
use dataplane::exchange::{ControlEnd, Exchange, exchange};
use dataplane::handover::mesh;
use dataplane::owner::Steering;
use dataplane::port::{Frame, PortId, RxFlags, WorkerId};
use dataplane::time::Millis;
use dataplane::verdict::{Counters, PuntClass};
use dataplane::vlan;
use dataplane::worker::{Parts, Worker};
use proto::message::{Format, Framing, Request};

use super::check;
use super::port::{Lane, Origin, Pool};

/// Milliseconds from which on nobody is late, but has turned often.
const LONG: u64 = 100_000;
/// Frames remembered, to be answered.
const REMEMBERED: usize = 16;
const ROOT: Peer = Peer { uid: 0, pid: 1 };
const PORTS: [PortId; 2] = [PortId(0), PortId(1)];

/// Control and workers.
pub(crate) struct Fleet {
    pub(crate) engine: Engine,
    pub(crate) workers: Vec<Worker<Lane>>,
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) pool: Pool,
    /// What was sent last, and by which port.
    pub(crate) sent: VecDeque<(PortId, Vec<u8>)>,
    /// The frame that came in last, and the port it came by.
    pub(crate) last: Option<(PortId, Vec<u8>)>,
    /// Flags of every frame that comes in, beside its own.
    pub(crate) flags: u8,
    /// Stands for everything that workers sent.
    pub(crate) digest: DefaultHasher,
    /// Whether neighbours answer who is asked for.
    pub(crate) neighbours_answer: bool,
    punted: ControlEnd<Pool>,
    /// Frames that control gave to workers.
    given: u64,
    /// Milliseconds on control's clock.
    now: u64,
}

impl Fleet {
    /// Everything as the file says; `None` if the file can't be had.
    pub(crate) fn new(config: &Config, topology: Topology, count: u16, seed: u64) -> Option<Self> {
        let steering = Steering::seeded(seed, 128, count).expect("few workers");
        let steering = Arc::new(steering);
        let ports = topology.with_queues();
        let (engine, readers) = Engine::new(config, topology, count, ROOT.uid).ok()?;
        let pool = Pool::new();
        let (punted, ends) = exchange(count, pool.clone());
        let counters: Vec<Arc<Counters>> = (0..count).map(|_| Arc::default()).collect();
        // Soon the workers' clock goes round.
        let now = (1 << 32) - 5000;
        let mut workers = Vec::new();
        let rings = ends.into_iter().zip(mesh(count));
        let each = readers.into_iter().zip(rings).zip(&counters);
        for (id, ((reader, (exchange, peers)), counters)) in (0u16..).zip(each) {
            let parts = Parts {
                id: WorkerId(id),
                ports: (0..ports).map(|_| Lane::new(pool.clone())).collect(),
                reader,
                exchange,
                peers,
                steering: steering.clone(),
                counters: counters.clone(),
                connections: config.dataplane.connections,
                connections_v6: config.dataplane.connections_v6,
                pages: arch::Pages::Off,
                hash_key: [seed, !seed],
                seed,
                now: millis(now),
            };
            workers.push(Worker::new(parts).expect("memory for a small table"));
        }
        Some(Self {
            engine,
            workers,
            counters,
            pool,
            sent: VecDeque::new(),
            last: None,
            flags: 0,
            digest: DefaultHasher::new(),
            neighbours_answer: true,
            punted,
            given: 0,
            now,
        })
    }

    pub(crate) fn millis(&self) -> Millis {
        millis(self.now)
    }

    /// Lets a worker receive a frame.
    pub(crate) fn give(
        &mut self,
        worker: usize,
        port: PortId,
        bytes: &[u8],
        hash: Option<u32>,
        flags: RxFlags,
    ) {
        self.last = Some((port, bytes.to_vec()));
        let flags = RxFlags(flags.0 | self.flags);
        let mut frame = self.pool.frame(bytes, hash, flags);
        if let Some((_, id)) = self.engine.topology().vlan(port) {
            // One too short for a tag comes as it is.
            let _ = vlan::put_on(&mut frame, id);
        }
        self.lane(worker, port).give(frame);
    }

    /// The queues of a port: a VLAN's are its parent's.
    fn lane(&mut self, worker: usize, port: PortId) -> &mut Lane {
        let vlan = self.engine.topology().vlan(port);
        let port = vlan.map_or(port, |(parent, _)| parent);
        let lane = self.workers[worker].port_mut(port);
        lane.expect("every worker has every port with queues")
    }

    /// How many frames each port of a worker takes in one turn.
    pub(crate) fn limit(&mut self, worker: usize, room: usize) {
        for port in PORTS {
            self.lane(worker, port).room = room;
        }
    }

    /// One turn of one worker; whatever must hold after each holds.
    pub(crate) fn turn(&mut self, worker: usize) {
        self.workers[worker].turn(millis(self.now));
        self.look(worker);
    }

    fn settle(&mut self, worker: usize) {
        self.workers[worker].settle(millis(self.now));
        self.look(worker);
    }

    fn look(&mut self, worker: usize) {
        check::equations(&self.counters[worker], self.workers[worker].state());
        for port in PORTS {
            let tagging = self.engine.topology().tagging(port);
            for mut frame in self.lane(worker, port).sent() {
                let vlans = tagging.vlans();
                let port = vlans.map_or(port, |vlans| vlans.sort(&mut frame));
                let setup = self.engine.topology().port(port);
                check::sent(&frame, setup.map_or(0, |setup| setup.mtu));
                // Control asks and announces in no particular order.
                if frame.note.origin != Origin::Control {
                    (worker, port, frame.bytes()).hash(&mut self.digest);
                }
                self.remember(port, frame.bytes());
            }
        }
    }

    fn remember(&mut self, port: PortId, bytes: &[u8]) {
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((port, bytes.to_vec()));
    }

    /// Turns everybody until nothing waits for anybody.
    pub(crate) fn drain(&mut self) {
        for _ in 0..10_000 {
            for worker in 0..self.workers.len() {
                self.turn(worker);
            }
            if !self.is_busy() {
                return;
            }
        }
        panic!("frames go round and round between the workers");
    }

    fn is_busy(&mut self) -> bool {
        let sum = |of: fn(&Counters) -> u64| self.counters.iter().map(|c| of(c)).sum::<u64>();
        let (out, taken) = (sum(|c| c.handed_out.get()), sum(|c| c.handed_in.get()));
        assert!(taken <= out, "{taken} frames were taken over of {out}");
        let lanes = (0..self.workers.len()).flat_map(|worker| PORTS.map(|port| (worker, port)));
        let mut lanes = lanes.collect::<Vec<_>>().into_iter();
        // A worker takes a burst of control's a turn.
        let injected = sum(|c| c.injected.get());
        taken < out
            || injected < self.given
            || lanes.any(|(worker, port)| self.lane(worker, port).waiting() > 0)
    }

    /// Moves the clock on. A short while is a turn that came late; after a long one everything
    /// that was due in the meantime has happened.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now += ms;
        for worker in 0..self.workers.len() {
            if ms < LONG {
                self.turn(worker);
            } else {
                self.settle(worker);
            }
        }
    }

    /// Whether workers remember nothing any more.
    pub(crate) fn is_empty(&self) -> bool {
        let states = self.workers.iter().map(Worker::state);
        let held = |counters: &Arc<Counters>| counters.held.get() - counters.released.get();
        states.fold(true, |all, state| {
            all && state.v4.is_empty() && state.v6.is_empty()
        }) && self.counters.iter().map(held).sum::<u64>() == 0
    }

    /// One call of an operator's; says how it ended.
    pub(crate) fn ask(&mut self, argv: Vec<String>, stdin: String, format: Format) -> u8 {
        let request = Request {
            framing: Framing::Text,
            argv,
            stdin,
            format,
        };
        let status = |_: &Engine, _| String::new();
        let answer = self.engine.handle(&ROOT, request, self.now, status);
        answer.reply.exit
    }

    /// One turn of control: what was punted, timers, neighbours.
    pub(crate) fn control(&mut self) {
        self.take_punted();
        self.engine.tick(self.now);
        drop(self.engine.take_turns(self.now));
        if self.engine.take_groups_changed() {
            self.engine.set_groups(vec![Vec::new(); PORTS.len()]);
        }
        while let Some(action) = self.engine.neighbour_action() {
            if let Action::Send { port, to, packet } = action {
                self.send(port, &packet.frame(to));
                self.reply(port, &packet);
            }
        }
        self.engine.publish_news(self.now);
        for (port, frame) in self.engine.take_ready() {
            self.send(port, &frame);
        }
    }

    fn take_punted(&mut self) {
        let (engine, now) = (&mut self.engine, self.now);
        self.punted
            .receive(256, &mut |arrived| match arrived.class {
                PuntClass::Neighbour => {
                    if let Heard::Packet(packet) = Heard::read(arrived.bytes) {
                        engine.heard(arrived.port, &packet, now);
                    }
                }
                PuntClass::Unresolved => {
                    let next = arrived.next.expect("only such frames wait for a neighbour");
                    engine.hold(next, arrived.bytes, now);
                }
                _ => {}
            });
    }

    pub(crate) fn send(&mut self, port: PortId, frame: &[u8]) {
        // A full ring, or an empty pool, loses it.
        self.given += u64::from(self.punted.send(port, frame).is_ok());
    }

    /// A neighbour that is asked for answers.
    fn reply(&mut self, port: PortId, asked: &Packet) {
        if !self.neighbours_answer || !asked.is_question() || self.pool.live() > 1000 {
            return;
        }
        if let Some(frame) = check::neighbour(asked) {
            self.give(0, port, &frame, None, RxFlags::default());
        }
    }

    /// Tells each worker what the others count.
    pub(crate) fn share_counts(&mut self) {
        self.engine.share_counts(self.now);
    }

    /// Control's housekeeping.
    pub(crate) fn sweep(&mut self) {
        let entries = |counters: &Arc<Counters>| counters.entries.each_ref().map(|one| one.get());
        self.engine.watch_tables(self.counters.iter().map(entries));
        self.engine.sweep(self.now);
        while self.engine.sweep_trash() {}
        self.engine.publish_news(self.now);
    }

    /// Takes frames that are for control from the rings, and forgets them.
    pub(crate) fn discard_punted(&mut self) {
        self.punted.receive(usize::MAX, &mut |_| {});
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the workers' clock goes round"
)]
fn millis(now: u64) -> Millis {
    Millis(now as u32)
}
