//! The control thread: one loop over clients, kernel interfaces, punted frames, signals and
//! timers. Nothing in it waits for anybody, and a turn is short.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::model::Config;
use dataplane::exchange::Exchange;
use dataplane::port::PortId;
use dataplane::published::Reader;
use dataplane::services::{Snapshot, Unmatched};
use dataplane::verdict::{Counters, PuntClass};
use mio::{Events, Poll, Token};
use proto::message::Request;
use wire::arp::Operation;
use wire::ethernet::Mac;

use crate::account::TICK_MS;
use crate::client::Peer;
use crate::connections::Portion;
use crate::engine::{Engine, LoadError};
use crate::kernel::Kernel;
use crate::latency::Latencies;
use crate::link::{Heard, Packet};
use crate::links;
use crate::log::Log;
use crate::neigh::Action;
use crate::server::{Answer, Answers, Rest, Server};
use crate::signals::{Signals, Wish};
use crate::socket::Socket;
use crate::stats;
use crate::status::{
    DeviceReport, NeighbourStatus, PortInfo, PortStatus, Status, SumsStatus, VipStatus, VlanStatus,
    WorkerView,
};
use crate::topology::Topology;
use crate::trace::Crew;
use crate::vip::Turn;

const SIGNALS: usize = 0;
const TAPS: usize = 1;
/// How long the loop sleeps at most with ports: what workers punt makes no event.
const WITH_PORTS: Duration = Duration::from_millis(1);
/// The same without ports.
const WITHOUT_PORTS: Duration = Duration::from_millis(500);
/// Punted frames taken in one turn.
const PUNTED_AT_ONCE: usize = 256;
/// Frames taken from one kernel interface in one turn.
const TAP_AT_ONCE: usize = 64;
/// Between two sums over the workers.
const SHARE_EVERY_MS: u64 = 10;
/// Between two looks at what rarely changes.
const HOUSEKEEPING_MS: u64 = 1_000;
/// Messages about addresses that others claim, in as many milliseconds.
const CONFLICTS_LOGGED: u32 = 20;
const CONFLICTS_EVERY_MS: u64 = 10_000;

/// What control is made of.
pub struct Parts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The file that it came from, to be read again at a reload.
    pub file: Option<&'a Path>,
    /// The ports as they came out.
    pub topology: Topology,
    /// Their kernel interfaces.
    pub kernel: Kernel,
    /// The socket, claimed.
    pub socket: Socket,
    /// The workers' rings; absent without ports.
    pub exchange: Option<Box<dyn Exchange>>,
    /// Each worker's core and counters.
    pub workers: Vec<(u16, Arc<Counters>)>,
    /// What each port's device says of itself, in the order of the ports that have one.
    pub devices: Vec<Box<dyn PortInfo>>,
    /// The process's signals; absent where somebody else looks after them.
    pub signals: Option<Signals>,
    /// The user id that may change things: root's in production.
    pub administrator: u32,
}

/// Why control did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file asks for a service that can't be had.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The system refused.
    #[error("the control thread could not be set up: {0}")]
    System(#[from] io::Error),
}

/// Control.
pub struct Control {
    // Fields go in this order: clients and socket last, as the stop order has it.
    exchange: Option<Box<dyn Exchange>>,
    devices: Vec<Box<dyn PortInfo>>,
    kernel: Kernel,
    engine: Engine,
    workers: Vec<WorkerView>,
    signals: Option<Signals>,
    server: Server,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    started: Instant,
    /// A signal asked for a reload.
    reload: bool,
    stop_at: Option<u64>,
    /// A bounded look left something behind: no waiting before the next.
    more: bool,
    longest_us: u64,
    frames_lost: u64,
    share_at: u64,
    housekeeping_at: u64,
    estimate_at: u64,
    conflict_at: u64,
    conflicts_logged: u32,
}

impl Control {
    /// Sets everything up; gives a reader for each worker. Nothing runs yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(parts: Parts<'_>) -> Result<(Self, Vec<Reader<Snapshot>>), StartError> {
        let count = u16::try_from(parts.workers.len()).expect("workers are numbered in 16 bits");
        let (mut engine, readers) =
            Engine::new(parts.config, parts.topology, count, parts.administrator)?;
        if let Some(file) = parts.file {
            engine.set_file(file);
        }
        let poll = Poll::new()?;
        if let Some(signals) = &parts.signals {
            signals.register(poll.registry(), Token(SIGNALS))?;
        }
        parts.kernel.register(poll.registry(), TAPS)?;
        let ports = engine.topology().ports().count();
        let server = Server::new(parts.socket, poll.registry(), TAPS + ports)?;
        let views = parts.workers.into_iter();
        let control = Self {
            workers: views
                .map(|(core, counters)| WorkerView::new(core, counters))
                .collect(),
            exchange: parts.exchange,
            devices: parts.devices,
            kernel: parts.kernel,
            engine,
            signals: parts.signals,
            server,
            poll,
            events: Events::with_capacity(256),
            buffer: vec![0; usize::from(u16::MAX)],
            started: Instant::now(),
            reload: false,
            stop_at: None,
            more: false,
            longest_us: 0,
            frames_lost: 0,
            share_at: 0,
            housekeeping_at: 0,
            estimate_at: TICK_MS,
            conflict_at: 0,
            conflicts_logged: 0,
        };
        Ok((control, readers))
    }

    /// From now on `log` says and changes what is logged.
    pub fn set_log(&mut self, log: Box<dyn Log>) {
        self.engine.set_log(log);
    }

    /// From now on the workers that were started with this can be asked what would become of a
    /// packet.
    pub fn set_crew(&mut self, crew: Crew) {
        self.engine.set_crew(crew);
    }

    /// Runs until it was told to stop and the time to forward on is over.
    ///
    /// # Errors
    /// The system's event queue fails.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_done() {
            self.turn()?;
        }
        Ok(())
    }

    /// Whether the time to stop has come.
    pub fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|at| at <= self.now())
    }

    /// Lets go of the workers' rings and of the devices: to be called when the workers have
    /// ended, before the devices are closed.
    pub fn release_ports(&mut self) {
        self.exchange = None;
        self.devices.clear();
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One turn: waits a little for something to happen, and deals with it.
    ///
    /// # Errors
    /// The system's event queue fails.
    pub fn turn(&mut self) -> io::Result<()> {
        let wait = self.patience();
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        let began = Instant::now();
        let now = self.now();
        self.more = false;
        self.heed_events(now);
        self.heed_workers(now);
        self.heed_kernel();
        self.heed_clients(now);
        self.work(now);
        self.heed_timers(now);
        self.follow(now);
        let spent = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest_us = self.longest_us.max(spent);
        Ok(())
    }

    /// How long the next turn may wait.
    fn patience(&self) -> Duration {
        let working = self.engine.is_working();
        if self.more || !working && self.server.has_more() {
            return Duration::ZERO;
        }
        let most = if self.exchange.is_some() || self.server.is_waiting() || working {
            WITH_PORTS
        } else {
            WITHOUT_PORTS
        };
        let now = self.now();
        let until = |at: u64| Duration::from_millis(at.saturating_sub(now));
        let neighbours = self
            .engine
            .neighbours()
            .wait(now)
            .map(Duration::from_millis);
        let others = [self.stop_at.map(until), neighbours];
        others.into_iter().flatten().fold(most, Duration::min).max(
            // What is overdue waits for its rate, not for us.
            Duration::from_micros(100),
        )
    }

    fn heed_events(&mut self, now: u64) {
        let first_client = TAPS + self.engine.topology().ports().count();
        for event in &self.events {
            let Token(token) = event.token();
            if token >= first_client {
                self.server.event(token, self.poll.registry(), now);
            }
        }
        while let Some(wish) = self.signals.as_mut().and_then(Signals::read) {
            self.obey(wish);
        }
    }

    fn obey(&mut self, wish: Wish) {
        match wish {
            Wish::Reload => self.reload = true,
            Wish::Stop if self.stop_at.is_some() => {
                tracing::info!("told to stop again: stopping at once");
                self.stop_at = Some(0);
            }
            Wish::Stop => self.stop(),
        }
    }

    /// Begins to stop: no more changes, no VIP is ours, and workers forward on for a while.
    pub fn stop(&mut self) {
        let delay_ms = u64::from(self.engine.loaded().control.stop_delay) * 1000;
        tracing::info!("stopping; forwarding on for {} s", delay_ms / 1000);
        for turn in self.engine.stop() {
            self.kernel.hold(turn.port, turn.address, turn.held);
        }
        while self.kernel.work() {}
        self.stop_at = Some(self.now() + delay_ms);
    }

    /// Takes what the workers punted.
    fn heed_workers(&mut self, now: u64) {
        let Self {
            exchange,
            engine,
            kernel,
            frames_lost,
            ..
        } = self;
        let Some(exchange) = exchange else {
            return;
        };
        let taken = exchange.receive(PUNTED_AT_ONCE, &mut |arrived| {
            let (port, frame) = (arrived.port, arrived.bytes);
            let for_kernel = match arrived.class {
                PuntClass::Neighbour => heed_neighbour(engine, port, frame, now),
                PuntClass::Unresolved => {
                    if let Some(next) = arrived.next {
                        engine.hold(next, frame, now);
                    }
                    false
                }
                PuntClass::Tunnel => !engine.tunnel_failed(frame, now),
                _ => true,
            };
            if for_kernel && !kernel.write(port, frame) {
                *frames_lost += 1;
            }
        });
        self.more |= taken == PUNTED_AT_ONCE;
    }

    /// Sends what the kernel wants sent.
    fn heed_kernel(&mut self) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        for port in self.kernel.ports() {
            for turn in 1..=TAP_AT_ONCE {
                let Some(len) = self.kernel.read(port, &mut self.buffer) else {
                    break;
                };
                self.more |= turn == TAP_AT_ONCE;
                let frame = &self.buffer[..len];
                if may_leave(&self.engine, port, frame) && exchange.send(port, frame).is_err() {
                    self.frames_lost += 1;
                }
            }
        }
    }

    fn heed_clients(&mut self, now: u64) {
        let view = StatusView {
            workers: &self.workers,
            devices: &self.devices,
            now,
            longest_us: self.longest_us,
            frames_lost: self.frames_lost,
            commands: self.server.latencies(),
        };
        let busy = self.engine.is_working();
        let mut desk = Desk {
            engine: &mut self.engine,
            view,
            now,
        };
        self.server.work(now, busy, &mut desk);
    }

    /// A step of what takes more than a turn.
    fn work(&mut self, now: u64) {
        if self.engine.is_working() {
            let (answer, more) = self.engine.work(now);
            self.more |= more;
            if let Some(answer) = answer {
                self.server.finish(answer, now);
            }
        } else if std::mem::take(&mut self.reload) {
            match self.engine.reload() {
                Ok(()) => self.more = true,
                Err(failure) => tracing::warn!("reload: {failure}"),
            }
        }
    }

    fn heed_timers(&mut self, now: u64) {
        if now >= self.share_at {
            self.share_at = now + SHARE_EVERY_MS;
            self.engine.share_counts(now);
        }
        if now >= self.estimate_at {
            // From when it was due, so that a tick is two seconds; unless we were away for long.
            self.estimate_at = (self.estimate_at + TICK_MS).max(now);
            self.engine.begin_estimate();
        }
        self.more |= self.engine.estimate();
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING_MS;
            self.workers.iter_mut().for_each(|view| view.sample(now));
            self.engine.sweep(now);
            let tables = self.workers.iter().map(WorkerView::entries);
            self.engine.watch_tables(tables);
            if self.exchange.is_some() {
                self.engine.set_groups(self.kernel.groups());
            }
        }
        self.more |= self.engine.sweep_trash();
        self.engine.tick(now);
    }

    /// Does what the turn's events led to.
    fn follow(&mut self, now: u64) {
        for Turn {
            address,
            port,
            held,
        } in self.engine.take_turns(now)
        {
            self.kernel
                .hold(port, address, held && !self.engine.is_stopping());
        }
        if self.engine.take_groups_changed() && self.exchange.is_some() {
            self.engine.set_groups(self.kernel.groups());
        }
        self.more |= self.kernel.work();
        while let Some(action) = self.engine.neighbour_action() {
            self.act(action, now);
        }
        self.engine.publish_news(now);
        for (port, frame) in self.engine.take_ready() {
            let sent = self.exchange.as_mut().map(|e| e.send(port, &frame));
            if matches!(sent, Some(Err(_))) {
                self.frames_lost += 1;
            }
        }
        self.server.settle(&self.engine, now);
    }

    fn act(&mut self, action: Action, now: u64) {
        match action {
            Action::Send { port, to, packet } => {
                let frame = packet.frame(to);
                let sent = self.exchange.as_mut().map(|e| e.send(port, &frame));
                if matches!(sent, Some(Err(_))) {
                    self.frames_lost += 1;
                }
            }
            Action::Conflict { port, address, mac } => {
                self.conflict((port, address), mac, now);
            }
            Action::Learned { .. } => {}
        }
    }
}

impl Control {
    /// Two have one address, which breaks connections at random: an alarm, but not a flood of
    /// them if somebody claims all that we have.
    fn conflict(&mut self, (port, address): (PortId, std::net::IpAddr), mac: Mac, now: u64) {
        if now >= self.conflict_at {
            self.conflict_at = now + CONFLICTS_EVERY_MS;
            self.conflicts_logged = 0;
        }
        self.conflicts_logged += 1;
        let port = port_name(&self.engine, port);
        match self.conflicts_logged {
            1..=CONFLICTS_LOGGED => tracing::error!(
                port,
                "address conflict: {mac} says that {address} is his; it is ours, and announced again"
            ),
            n if n == CONFLICTS_LOGGED + 1 => {
                tracing::error!("address conflicts: there are more; `sluice neigh` shows them");
            }
            _ => {}
        }
    }
}

/// A frame of ARP or neighbour discovery came in; says whether the kernel may see it: answers,
/// and questions that are not for us.
fn heed_neighbour(engine: &mut Engine, port: PortId, frame: &[u8], now: u64) -> bool {
    match Heard::read(frame) {
        Heard::Packet(packet) => {
            let for_us = engine.is_ours(port, packet.target());
            engine.heard(port, &packet, now);
            !packet.is_question() || !for_us
        }
        Heard::Other => true,
        Heard::Malformed => false,
    }
}

/// Whether a frame of the kernel's goes out: all but answers for what is ours to answer for.
fn may_leave(engine: &Engine, port: PortId, frame: &[u8]) -> bool {
    match Heard::read(frame) {
        Heard::Packet(Packet::Arp(arp)) => arp.operation == Operation::Request,
        Heard::Packet(packet) => packet.is_question() || !engine.is_ours(port, packet.target()),
        Heard::Other | Heard::Malformed => true,
    }
}

/// Answers clients in one turn.
struct Desk<'a> {
    engine: &'a mut Engine,
    view: StatusView<'a>,
    /// Milliseconds since the start.
    now: u64,
}

impl Answers for Desk<'_> {
    fn answer(&mut self, peer: &Peer, request: Request) -> Option<Answer> {
        let status = |engine: &Engine, json: bool| {
            let status = self.view.status(engine);
            if json { status.json() } else { status.text() }
        };
        self.engine.begin(peer, request, self.now, status)
    }

    fn more(&mut self, rest: &mut Rest) -> Portion {
        self.engine.more(rest, self.now)
    }
}

/// What `status` shows beside what the engine knows.
struct StatusView<'a> {
    workers: &'a [WorkerView],
    devices: &'a [Box<dyn PortInfo>],
    now: u64,
    longest_us: u64,
    frames_lost: u64,
    commands: Rc<RefCell<Latencies>>,
}

impl StatusView<'_> {
    fn status(&self, engine: &Engine) -> Status {
        let (reals, reals_in_trash) = engine.real_counts();
        let workers = self.workers.iter().enumerate();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.now / 1000,
            generation: engine.generation(),
            stopping: engine.is_stopping(),
            services: engine.model().len(),
            reals,
            reals_in_trash,
            sums: engine
                .sums(self.now)
                .map(|(reals, age_ms)| SumsStatus { reals, age_ms }),
            control_longest_turn_us: self.longest_us,
            control_frames_lost: self.frames_lost,
            control_frames_unresolved: engine.frames_unresolved(),
            commands: self.commands.borrow().latency(),
            workers: workers
                .map(|(id, view)| view.status(id, engine.capacity()))
                .collect(),
            ports: self.ports(engine),
            vips: vips(engine),
            neighbours: neighbours(engine),
            conflicts: links::conflicts(engine, self.now),
            paths: engine.paths(self.now),
        }
    }

    fn ports(&self, engine: &Engine) -> Vec<PortStatus> {
        let topology = engine.topology();
        let device = |port: PortId| {
            let device = self.devices.get(usize::from(port.0));
            device.map_or_else(DeviceReport::default, |device| device.report())
        };
        let device = |port: PortId| match topology.vlan(port) {
            None => device(port),
            Some((parent, _)) => DeviceReport {
                counters: stats::port_totals(&engine.snapshot().blocks, port),
                ..device(parent)
            },
        };
        let vlan = |port: PortId| {
            let (parent, vlan) = topology.vlan(port)?;
            let parent = topology.port(parent)?.name.clone();
            Some(VlanStatus { parent, vlan })
        };
        let status = |(id, setup): (PortId, &crate::topology::PortSetup)| PortStatus {
            name: setup.name.clone(),
            mac: setup.mac.to_string(),
            mtu: setup.mtu,
            addresses: setup.addresses.iter().map(ToString::to_string).collect(),
            vlan: vlan(id),
            device: device(id),
        };
        topology.ports().map(status).collect()
    }
}

fn port_name(engine: &Engine, port: PortId) -> String {
    let setup = engine.topology().port(port);
    setup.map_or_else(String::new, |setup| setup.name.clone())
}

fn vips(engine: &Engine) -> Vec<VipStatus> {
    let unmatched = |unmatched| match unmatched {
        Unmatched::Drop => "drop",
        Unmatched::Reject => "reject",
        Unmatched::Kernel => "kernel",
    };
    let all = engine.vips().iter();
    all.map(|(address, vip)| VipStatus {
        address: address.to_string(),
        port: vip.port.map(|port| port_name(engine, port)),
        held: vip.held && !engine.is_stopping(),
        unmatched: unmatched(vip.unmatched),
        source: vip.source(),
    })
    .collect()
}

fn neighbours(engine: &Engine) -> Vec<NeighbourStatus> {
    let all = engine.neighbours().iter();
    all.map(|((port, address), state)| NeighbourStatus {
        address: address.to_string(),
        port: port_name(engine, port),
        mac: state.mac().map(|mac| mac.to_string()),
        state: state.name(),
    })
    .collect()
}
