//! The director: the real control, and the real workers taking turns on a virtual clock.

use std::borrow::Cow;
use std::sync::Arc;

use config::model::Config;
use control::account::TICK_MS;
use control::client::Peer;
use control::engine::Engine;
use control::trace::{self, Made, Recorder, Trace};
use dataplane::exchange::{ControlEnd, Exchange, exchange};
use dataplane::handover::mesh;
use dataplane::owner::Steering;
use dataplane::port::{Frame, PortId, WorkerId};
use dataplane::verdict::{Counters, PuntClass};
use dataplane::worker::{Parts, Worker};
use proto::command::Command;
use proto::errors::EXIT_USAGE;
use proto::grammar;
use proto::layout;
use proto::listing::Listing;
use proto::message::{Format, Framing, Reply, Request};
use proto::names::Numeric;

use crate::Options;
use crate::arrive::Arrive;
use crate::connections;
use crate::error::ReplayError;
use crate::flow::Flow;
use crate::frame::{self, Lane, Pool, Record, Seen, Watch};
use crate::names;
use crate::time::{Nanos, millis};

/// Entries of the table that names the owner of a hash: as many as the daemon's.
const STEERING_TABLE: usize = 512;
/// Who gives the commands.
const OPERATOR: Peer = Peer { uid: 0, pid: 0 };
/// Milliseconds between two looks at what is no longer used, and the connections' tick.
const TICK: u64 = 1000;
/// Milliseconds between two times that each worker is told what the others count.
const SHARE: u64 = 10;
/// Milliseconds that a worker's clock may move on at once.
const STRIDE: u64 = 1 << 30;
/// Milliseconds after which a worker's clock shows the same again.
const ROUND: u64 = 1 << 32;

/// Frames kept to be used again, at most.
const SPARES: usize = 64;

/// Said of a restore.
const NO_STDIN: &str =
    "-R: a replay's command has no standard input: give the restore's lines a time each";

/// Control and workers.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    workers: Vec<Worker<Lane>>,
    counters: Vec<Arc<Counters>>,
    punted: ControlEnd<Pool>,
    steering: Arc<Steering>,
    pool: Pool,
    /// Frames to be used again.
    spare: Vec<Seen>,
    arrive: Arrive,
    /// Milliseconds on the virtual clock, for which every timer has fired.
    now: u64,
    /// When the next second's timers fire.
    tick: u64,
    share: u64,
    /// Until when rates are estimated.
    estimated: u64,
}

/// A frame that was sent.
pub(crate) struct Sent {
    pub(crate) port: PortId,
    pub(crate) frame: Seen,
}

impl Machine {
    /// Everything as the configuration says, at `start`.
    pub(crate) fn new(
        config: &Config,
        options: &Options,
        start: Nanos,
    ) -> Result<Self, ReplayError> {
        let usage = |error: &dyn std::fmt::Display| ReplayError::Usage(error.to_string());
        let count = options.workers;
        let steering = Steering::seeded(options.seed, STEERING_TABLE, count);
        let steering = Arc::new(steering.map_err(|error| usage(&error))?);
        let topology = names::topology(config);
        let ports = topology.with_queues();
        let (engine, readers) =
            Engine::new(config, topology, count, OPERATOR.uid).map_err(|error| usage(&error))?;
        // Frames that come in bursts are put in order by their packets.
        let watch = Watch::new(options.json || options.burst > 1);
        let pool = Pool::new(watch);
        let (punted, ends) = exchange(count, pool.clone());
        let counters: Vec<Arc<Counters>> = (0..count).map(|_| Arc::default()).collect();
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
                pages: arch::Pages::Auto,
                hash_key: [options.seed, !options.seed],
                seed: options.seed,
                now: millis(start.ms()),
            };
            let worker = Worker::new(parts);
            workers.push(worker.map_err(|error| ReplayError::Memory(error.to_string()))?);
        }
        Ok(Self {
            engine,
            workers,
            counters,
            punted,
            steering,
            pool,
            spare: Vec::new(),
            arrive: options.arrive,
            now: start.ms(),
            tick: start.ms() + TICK,
            share: start.ms(),
            estimated: start.ms(),
        })
    }

    /// Fires every timer that is due until `at`, each second's in its second.
    #[inline]
    pub(crate) fn advance(&mut self, at: Nanos) {
        if at.ms() > self.now {
            self.fire_until(at.ms());
        }
    }

    fn fire_until(&mut self, target: u64) {
        while self.tick <= target {
            if self.is_idle() {
                self.leap(target);
                break;
            }
            self.settle(self.tick);
            self.engine.sweep(self.tick);
            while self.engine.sweep_trash() {}
            self.watch_tables();
            self.engine.publish_news(self.tick);
            self.tick += TICK;
            self.estimate_until(self.tick);
        }
        self.settle(target);
    }

    /// Ends what is over at `now`.
    fn settle(&mut self, now: u64) {
        self.now = now;
        for worker in &mut self.workers {
            worker.settle(millis(now));
        }
        if now >= self.share {
            self.engine.share_counts(now);
            self.share = now + SHARE;
        }
    }

    /// Estimates rates for every two seconds until `target`; after the first hundred of a long
    /// silence there are none left.
    fn estimate_until(&mut self, target: u64) {
        let due = target.saturating_sub(self.estimated) / TICK_MS;
        self.estimated += due * TICK_MS;
        for _ in 0..due.min(100) {
            self.engine.begin_estimate();
            while self.engine.estimate() {}
        }
    }

    /// Tells control, once a second, how full the tables are.
    fn watch_tables(&mut self) {
        let entries = |counters: &Arc<Counters>| [0, 1].map(|at| counters.entries[at].get());
        self.engine.watch_tables(self.counters.iter().map(entries));
        self.engine.publish_news(self.now);
    }

    /// Whether nothing waits for a timer.
    fn is_idle(&self) -> bool {
        let held = |counters: &Arc<Counters>| counters.held.get() - counters.released.get();
        let is_empty =
            |worker: &Worker<Lane>| worker.state().v4.is_empty() && worker.state().v6.is_empty();
        self.workers.iter().all(is_empty) && self.counters.iter().all(|c| held(c) == 0)
    }

    /// Moves the clocks on while nothing waits: a commands file may begin at 0 and the captures
    /// fifty years later. The workers' clock goes round, and whole rounds change nothing.
    fn leap(&mut self, target: u64) {
        let mut left = (target - self.now) % ROUND;
        let mut now = target - left;
        while left > 0 {
            let step = left.min(STRIDE);
            (now, left) = (now + step, left - step);
            self.settle(now);
        }
        self.engine.sweep(target);
        while self.engine.sweep_trash() {}
        self.watch_tables();
        self.engine.publish_news(target);
        self.tick += ((target - self.tick) / TICK + 1) * TICK;
        self.estimate_until(target);
    }

    /// Whether the frame, which comes to this worker by this port, meets no other worker and
    /// changes nothing that control knows: then it makes no difference whether others come in
    /// the same burst.
    pub(crate) fn may_share_a_burst(&self, worker: u16, port: PortId, bytes: &[u8]) -> bool {
        Flow::of(bytes).is_some_and(|flow| {
            let alone = self.workers.len() == 1;
            alone
                || flow.stays(
                    self.engine.snapshot(),
                    &self.steering,
                    WorkerId(worker),
                    port,
                )
        })
    }

    /// The port at which a frame is received that comes by `port`, and how it looks there: with
    /// the tag of a VLAN that has a port it is that one's, without the tag.
    pub(crate) fn locate<'b>(&self, port: PortId, bytes: &'b [u8]) -> (PortId, Cow<'b, [u8]>) {
        trace::locate(self.engine.snapshot(), port, bytes)
    }

    /// The worker that packet `n` comes to.
    #[inline]
    pub(crate) fn arrival(&self, n: u64, bytes: &[u8]) -> u16 {
        self.arrive.worker(&self.steering, n, bytes)
    }

    /// From now on the `count` packets from number `first` on are watched.
    pub(crate) fn watch(&self, first: u64, count: usize) {
        self.pool.watch.begin(first, count);
    }

    /// Puts packet `n` where its worker receives it.
    pub(crate) fn give(&mut self, worker: u16, port: PortId, n: u64, bytes: &[u8]) {
        let (queues, vlan) = match self.engine.topology().vlan(port) {
            Some((parent, id)) => (parent, Some(id)),
            None => (port, None),
        };
        let spare = self.spare.pop();
        let lane = self.workers[usize::from(worker)].port_mut(queues);
        lane.expect("every port with queues has a lane")
            .give(n, bytes, vlan, spare);
    }

    /// Takes back what was sent.
    pub(crate) fn take_back(&mut self, sent: &mut Vec<Sent>) {
        let room = SPARES - self.spare.len().min(SPARES);
        let frames = sent.drain(..).map(|sent| sent.frame);
        self.spare.extend(frames.take(room));
    }

    /// Takes packet `n` through, watched closely, and says what happened.
    pub(crate) fn trace(&mut self, n: u64, made: &Made) -> Trace {
        self.traced(n, made).0
    }

    /// The same, with the frames that were sent.
    fn traced(&mut self, n: u64, made: &Made) -> (Trace, Vec<trace::Sent>) {
        let Made { port, bytes } = made;
        let worker = self.arrival(n, bytes);
        let now = millis(self.now);
        let recorder = Recorder::new(self.engine.snapshot().clone(), *port, now);
        self.watch(n, 1);
        self.pool.watch.trace(n, recorder);
        self.give(worker, *port, n, bytes);
        let mut sent = Vec::new();
        self.turn(&[worker], &mut sent);
        let recorder = self.pool.watch.traced();
        let recorder = recorder.expect("put there above, and nobody else takes it");
        let topology = self.engine.topology();
        let of = |sent: &mut Sent| {
            let setup = topology.port(sent.port).filter(|setup| setup.any_mac);
            if let Some(setup) = setup {
                frame::set_source(&mut sent.frame, setup.mac.0);
            }
            trace::Sent {
                port: sent.port,
                bytes: sent.frame.bytes().to_vec(),
            }
        };
        let sent: Vec<_> = sent.iter_mut().map(of).collect();
        (trace::tell(&recorder, &self.engine, &sent), sent)
    }

    /// One turn of each of these workers, and of all until nothing is between them. What is sent
    /// goes to `sent`, in order.
    pub(crate) fn turn(&mut self, workers: &[u16], sent: &mut Vec<Sent>) {
        for &worker in workers {
            self.turn_of(usize::from(worker), sent);
        }
        while self.is_between() {
            for worker in 0..self.workers.len() {
                self.turn_of(worker, sent);
            }
        }
        self.resolve(sent);
    }

    /// Finds the neighbours that frames wait for, and sends those, and hears what is said of
    /// tunnels. Nobody listens to what else was punted.
    fn resolve(&mut self, sent: &mut Vec<Sent>) {
        let (engine, now) = (&mut self.engine, self.now);
        self.punted.receive(usize::MAX, &mut |arrived| {
            if let Some(next) = arrived.next {
                engine.hold(next, arrived.bytes, now);
            }
            if arrived.class == PuntClass::Tunnel {
                engine.tunnel_failed(arrived.bytes, now);
            }
        });
        let ready = self.engine.take_ready();
        self.engine.publish_news(now);
        for (port, frame) in ready {
            // The first worker sends what control wants sent; its ring is empty here.
            if self.punted.send(port, &frame).is_ok() {
                self.turn_of(0, sent);
            }
        }
    }

    fn turn_of(&mut self, at: usize, sent: &mut Vec<Sent>) {
        let worker = &mut self.workers[at];
        if self.counters.len() > 1 {
            self.pool
                .watch
                .turn_of(u16::try_from(at).expect("counted in 16 bits"));
        }
        worker.turn(millis(self.now));
        let ports = &self.engine.snapshot().ports;
        for (port, view) in (0u16..).map(PortId).zip(&**ports) {
            let Some(lane) = worker.port_mut(port) else {
                break;
            };
            let vlans = view.tagging.vlans();
            sent.extend(lane.sent().map(|mut frame| Sent {
                port: vlans.map_or(port, |vlans| vlans.sort(&mut frame)),
                frame,
            }));
        }
    }

    /// Whether a frame is on its way from one worker to another.
    fn is_between(&self) -> bool {
        let sum = |of: fn(&Counters) -> u64| self.counters.iter().map(|c| of(c)).sum::<u64>();
        self.counters.len() > 1 && sum(|c| c.handed_out.get()) != sum(|c| c.handed_in.get())
    }

    /// What happened to a watched packet.
    pub(crate) fn record(&self, at: usize) -> Record {
        self.pool.watch.record(at)
    }

    /// Every counter by its name, over all workers. What only says how the workers were driven
    /// (turns, cycles) is left out.
    pub(crate) fn totals(&self) -> Vec<(&'static str, u64)> {
        let mut totals: Vec<(&'static str, u64)> = Vec::new();
        for counters in &self.counters {
            for (at, (name, count)) in counters.named().enumerate() {
                match totals.get_mut(at) {
                    Some(total) => total.1 += count,
                    None => totals.push((name, count)),
                }
            }
        }
        totals.retain(|(name, _)| !name.ends_with("turns") && !name.ends_with("cycles"));
        totals
    }

    /// Carries a command out. What is over by now has ended before it.
    pub(crate) fn command(&mut self, words: &[String]) -> Reply {
        let now = millis(self.now);
        for worker in &mut self.workers {
            worker.end_overdue(now);
        }
        match words {
            [first, ..] if first == "status" => failed("status: only a running sluiced has one"),
            [first, ..] if first == "trace" => failed("trace: not among a replay's commands"),
            _ => match grammar::ipvsadm("ipvsadm", words, &Numeric) {
                Ok(Command::List(options)) if options.connections => {
                    let states = self.workers.iter().map(Worker::state);
                    let listing = Listing {
                        connections: connections::list(states, &self.engine, millis(self.now)),
                        ..Listing::default()
                    };
                    Reply {
                        stdout: layout::list(&listing, &options, &Numeric),
                        ..Reply::default()
                    }
                }
                Ok(Command::Restore { .. }) => failed(NO_STDIN),
                _ => self.ask(words),
            },
        }
    }

    fn ask(&mut self, words: &[String]) -> Reply {
        let request = Request {
            framing: Framing::Text,
            argv: words.to_vec(),
            stdin: String::new(),
            format: Format::Text,
        };
        let answer = self
            .engine
            .handle(&OPERATOR, request, self.now, |_, _| String::new());
        answer.reply
    }
}

fn failed(text: &str) -> Reply {
    Reply {
        exit: EXIT_USAGE,
        stderr: format!("sluice: {text}\n"),
        ..Reply::default()
    }
}

#[cfg(test)]
#[path = "twin_tests.rs"]
mod twin_tests;
