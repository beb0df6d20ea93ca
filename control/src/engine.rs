//! One request, one new model, one publish: the operator's side of control, with no socket,
//! no device and no clock in it.

mod job;
mod reload;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use config::model::{Config, Endpoint, Listen, MarkRule, Mode, Prefix};
use dataplane::fwd::icmp;
use dataplane::port::PortId;
use dataplane::probe::{Hearing, Question};
use dataplane::published::{Publisher, Reader};
use dataplane::services::marks::{Network, Rule};
use dataplane::services::{Blocks, Marks, PortView, RealId, ServiceId, Snapshot};
use proto::command::{AccessList, Ask, Command, ListOptions, Reload};
use proto::errors::{EXIT_NEGATIVE, EXIT_USAGE, Failure};
use proto::grammar;
use proto::listing::{Listing, ListingReal, ListingService};
use proto::message::{Format, Framing, Reply, Request};
use proto::names::Numeric;
use proto::packet::Traced;
use proto::proc::ProcFile;
use proto::{help, layout, proc};
use wire::ethernet::Mac;
use wire::ndp::solicited_node;

use crate::client::Peer;
use crate::compile::{Compiler, is_local};
use crate::connections::{Connections, Portion, View, Walks};
use crate::cut;
use crate::defence::{Capacity, shortage};
use crate::link::Packet;
use crate::links::{self, Links, NeighbourRow};
use crate::locals::Locals;
use crate::log::Log;
use crate::model::{ApplyError, Change, Model, ServiceEntry};
use crate::neigh::{Action, Instant, Neighbours, State};
use crate::reload::Way;
use crate::server::{Answer, Rest};
use crate::settings::{self, Tunables};
use crate::status::PathStatus;
use crate::sums::AT_ONCE;
use crate::topology::{Neighbour, PortSetup, Topology};
use crate::trace::{self, Crew, Inquiry, Made, Progress};
use crate::vip::{Turn, Vips};
use crate::waiting::Waiting;

use job::Job;

/// The name that messages about a call's words use.
const PROGRAM: &str = "ipvsadm";
/// Trashed slots of each kind looked at in one go.
const SWEEP: usize = 1024;
/// Services and real servers whose rates are estimated in one go.
const ESTIMATE: u32 = 4096;

/// Everything that is configured, and the snapshot made of it.
#[derive(Debug)]
pub struct Engine {
    topology: Topology,
    model: Model,
    compiler: Compiler,
    publisher: Publisher<Snapshot>,
    vips: Vips,
    neighbours: Neighbours,
    locals: Locals,
    /// Whether the addresses that are ours changed.
    addresses_changed: bool,
    /// Whether the groups that ports listen to may be others.
    groups_changed: bool,
    waiting: Waiting,
    /// What the IPv6 packets that were cut last are known by.
    fragment_id: u32,
    /// Frames that have their neighbour's MAC now.
    ready: Vec<(PortId, Vec<u8>)>,
    tunables: Tunables,
    /// The file as it was loaded last: what a reload compares the next one with.
    loaded: Arc<Config>,
    /// Where it is.
    file: Option<PathBuf>,
    /// Trashed slots that this round still has to look at.
    to_sweep: usize,
    /// What takes more than a turn.
    job: Option<Job>,
    /// Of each worker's tables.
    capacity: Capacity,
    /// Who logs.
    log: Option<Box<dyn Log>>,
    /// Walks over the connections that somebody reads, and questions about packets.
    walks: Walks,
    /// What the workers were started with; absent where there are none.
    crew: Option<Crew>,
    /// Services that the snapshot in preparation doesn't show yet as the model has them.
    dirty: HashSet<Listen>,
    /// Those of which only what their packets ask may be behind.
    asks_changed: HashSet<Listen>,
    /// Whose counters begin anew with the next snapshot; `None` is everybody's.
    zeroes: Vec<Option<Listen>>,
    /// Whether the snapshot in preparation differs from the one published last.
    unpublished: bool,
    /// Who may change things.
    administrator: u32,
    stopping: bool,
}

impl crate::server::Progress for Engine {
    fn laggards(&self, generation: u64) -> Vec<u16> {
        let behind = self.publisher.laggards(generation);
        behind.map(|worker| worker.0).collect()
    }
}

impl Engine {
    /// Makes the model of the file and its first snapshot; gives a reader for each worker.
    /// `administrator` is the user id that may change things.
    ///
    /// # Errors
    /// A service or real server of the file that commands would refuse, too.
    pub fn new(
        config: &Config,
        topology: Topology,
        workers: u16,
        administrator: u32,
    ) -> Result<(Self, Vec<Reader<Snapshot>>), LoadError> {
        let snapshot = first_snapshot(config, &topology, workers);
        let (publisher, readers) = Publisher::new(snapshot.clone(), workers);
        let mut engine = Self {
            model: Model::default(),
            compiler: Compiler::new(snapshot),
            publisher,
            vips: Vips::from_file(&config.vips, &topology),
            neighbours: Neighbours::new(&topology),
            locals: Locals::default(),
            addresses_changed: true,
            groups_changed: false,
            waiting: Waiting::default(),
            fragment_id: 0,
            ready: Vec::new(),
            tunables: Tunables::of(config),
            walks: Walks::default(),
            crew: None,
            log: None,
            zeroes: Vec::new(),
            loaded: Arc::new(config.clone()),
            file: None,
            to_sweep: 0,
            job: None,
            capacity: Capacity([
                config.dataplane.connections,
                config.dataplane.connections_v6,
            ]),
            dirty: HashSet::new(),
            asks_changed: HashSet::new(),
            unpublished: true,
            administrator,
            stopping: false,
            topology,
        };
        for service in &config.services {
            let listen = service.listen;
            let loaded = engine.model.load(service, &engine.topology);
            let change = loaded.map_err(|error| LoadError { listen, error })?;
            engine.note(change);
        }
        engine.compiler.route(&engine.topology);
        if engine.topology.make_up().is_some() {
            // Those of the file come before those that are made up.
            let pinned: Vec<_> = engine.topology.pinned().map(|(one, _)| one).collect();
            pinned.into_iter().for_each(|one| engine.know(one));
        }
        engine.publish(0);
        Ok((engine, readers))
    }

    /// The ports and what is on them.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The services.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The VIPs.
    pub fn vips(&self) -> &Vips {
        &self.vips
    }

    /// The paths to real servers that are known to be narrow.
    pub fn paths(&self, now: Instant) -> Vec<PathStatus> {
        let paths = self.compiler.paths().iter(now).into_iter();
        let status = |(end, mtu, left_ms): (IpAddr, u16, u64)| PathStatus {
            address: end.to_string(),
            mtu,
            left_s: left_ms / 1000,
        };
        paths.map(status).collect()
    }

    /// The neighbours.
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The snapshot as it was published last, or will be next.
    pub fn snapshot(&self) -> &Snapshot {
        self.compiler.snapshot()
    }

    /// The name of a service that workers know, or knew while a connection is left.
    pub fn service_name(&self, id: ServiceId) -> Option<Listen> {
        self.compiler.service_of(id).copied()
    }

    /// The name of a real server that workers know, or knew while a connection is left.
    pub fn real_name(&self, id: RealId) -> Option<Endpoint> {
        self.compiler.real_of(id).map(|&(_, endpoint)| endpoint)
    }

    /// How full the workers' tables are, in entries of IPv4 and of IPv6: once a second. The
    /// automatic modes of `drop_entry` and `drop_packet` go by it.
    pub fn watch_tables(&mut self, in_use: impl IntoIterator<Item = [u32; 2]>) {
        let shortage = shortage(self.capacity, self.tunables.amemthresh(), in_use);
        if self.tunables.set_shortage(shortage) {
            match shortage {
                Some(_) => tracing::warn!("connection tables are short of room: defending them"),
                None => tracing::info!("connection tables have room again"),
            }
            self.tune();
        }
    }

    fn tune(&mut self) {
        self.compiler.snapshot_mut().settings = self.tunables.compile().into();
        self.unpublished = true;
    }

    /// The generation published last.
    pub fn generation(&self) -> u64 {
        self.publisher.generation()
    }

    /// Slots of real servers: in use, and in the trash.
    pub fn real_counts(&self) -> (usize, usize) {
        self.compiler.real_counts()
    }

    /// Whether changes are refused because the end is near.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Refuses changes from now on, and answers for no VIP any more. Workers forward on:
    /// what was on its way when somebody else took over still arrives.
    pub fn stop(&mut self) -> Vec<Turn> {
        self.stopping = true;
        let mut given_up = Vec::new();
        for (address, vip) in self.vips.iter() {
            if let (Some(port), true) = (vip.port, vip.held) {
                let held = false;
                given_up.push(Turn {
                    address,
                    port,
                    held,
                });
                self.neighbours.silence(port, address);
            }
        }
        given_up
    }

    /// Carries one request out, to its end. A reply that is marked so is for when every worker
    /// runs with its change.
    pub fn handle(
        &mut self,
        peer: &Peer,
        request: Request,
        now: Instant,
        status: impl FnOnce(&Self, bool) -> String,
    ) -> Answer {
        if let Some(answer) = self.begin(peer, request, now, status) {
            return answer;
        }
        loop {
            if let (Some(answer), _) = self.work(now) {
                return answer;
            }
        }
    }

    /// Carries one request out, or begins to: `None`, and [`Engine::work`] has the answer in the
    /// end. Not to be called while there is such work.
    pub fn begin(
        &mut self,
        peer: &Peer,
        request: Request,
        now: Instant,
        status: impl FnOnce(&Self, bool) -> String,
    ) -> Option<Answer> {
        let command = match grammar::parse(PROGRAM, &request.argv, &Numeric) {
            Ok(command) => command,
            Err(failure) => return Some(self.failed(&failure)),
        };
        if let Some(failure) = self.refusal(peer, &command) {
            return Some(self.failed(&failure));
        }
        let (way, asked) = match &command {
            Command::Restore { atomic } => {
                self.begin_restore(peer, *atomic, request.stdin);
                return None;
            }
            Command::Flush => return self.begin_flush(peer),
            Command::Diff(asked) => (Way::Diff, asked),
            Command::Reload(asked @ Reload { dry_run: true, .. }) => (Way::DryRun, asked),
            Command::Reload(asked) => (Way::Reload, asked),
            _ => return Some(self.at_once(peer, &command, &request, now, status)),
        };
        let framed = request.framing != Framing::Text;
        let begun = self.begin_reading(way, Some(*peer), asked, request.stdin, framed);
        begun.err().map(|failure| self.failed(&failure))
    }

    /// Carries out what takes no longer than a turn.
    fn at_once(
        &mut self,
        peer: &Peer,
        command: &Command,
        request: &Request,
        now: Instant,
        status: impl FnOnce(&Self, bool) -> String,
    ) -> Answer {
        match command {
            Command::List(options) if options.connections => {
                self.connections(View::List(options.clone()), request.format, now)
            }
            Command::List(options) => self.list(options, request.format),
            Command::Save { numeric } => self.save(*numeric, request.format),
            Command::SaveFile { json } => self.save_file(*json),
            Command::Neighbours { json } => {
                let links = self.links(now);
                self.said(if *json { links.json() } else { links.text() })
            }
            Command::ListLocalAddresses(listen) => {
                self.local_addresses(listen.as_ref(), request.format)
            }
            Command::ListAccess { list, listen } => {
                self.access_lists(*list, listen.as_ref(), request.format)
            }
            Command::Help => self.said(help::help(PROGRAM)),
            Command::Version => self.said(help::version(PROGRAM)),
            Command::Proc(file) => self.proc(*file, now),
            Command::Log(filter) => self.log(peer, filter.as_deref()),
            Command::Trace { packet, json } => self.trace(packet, *json, now),
            Command::Status { json } => self.said(status(self, *json)),
            Command::Sysctl { ask, json } => self.sysctl(peer, ask, *json, &request.argv, now),
            change => self.change(peer, change, &request.argv, now),
        }
    }

    /// Why the command is not even tried.
    fn refusal(&self, peer: &Peer, command: &Command) -> Option<Failure> {
        if let Some(text) = command.not_built() {
            return Some(Failure::usage(text));
        }
        if !command.changes() {
            return None;
        }
        if peer.uid != self.administrator {
            return Some(Failure::refused("Permission denied (you must be root)"));
        }
        self.stopping
            .then(|| Failure::refused("sluiced is stopping and takes no changes"))
    }

    fn failed(&self, failure: &Failure) -> Answer {
        self.answer(failure.exit, String::new(), format!("{}\n", failure.text))
    }

    fn said(&self, stdout: String) -> Answer {
        self.answer(0, stdout, String::new())
    }

    fn answer(&self, exit: u8, stdout: String, stderr: String) -> Answer {
        let reply = Reply {
            exit,
            stdout,
            stderr,
            data: None,
            generation: self.generation(),
            line: None,
        };
        Answer {
            reply,
            after: None,
            rest: None,
        }
    }

    fn list(&self, options: &ListOptions, format: Format) -> Answer {
        let Some(services) = self.chosen(options.service.as_ref()) else {
            return self.no_such_service();
        };
        let mut listing = self.listing(&services);
        if options.timeout {
            listing.timeouts = Some(self.tunables.timeouts.into());
        }
        match format {
            Format::Text => self.said(layout::list(&listing, options, &Numeric)),
            Format::Data => self.data(listing),
        }
    }

    /// A listing that the workers' connections follow.
    fn connections(&mut self, view: View, format: Format, now: Instant) -> Answer {
        let workers = self.compiler.snapshot().blocks.len();
        let source = self.walks.begin(workers);
        self.show_walks();
        let generation = self.publish(now);
        let listing = Connections::new(source, view, format, generation);
        Answer {
            reply: listing.title(),
            after: None,
            rest: Some(Rest::Listing(Box::new(listing))),
        }
    }

    /// What the kernel would show.
    fn proc(&mut self, file: ProcFile, now: Instant) -> Answer {
        let (totals, rates) = self.compiler.account_of_all();
        let text = match file {
            ProcFile::Connections => return self.connections(View::Proc, Format::Text, now),
            ProcFile::Services => proc::services(&self.listing(&self.model.services())),
            ProcFile::Stats => proc::stats(&totals, &rates),
            ProcFile::StatsPerCpu => {
                proc::stats_per_cpu(&self.compiler.counted_by_worker(), &totals, &rates)
            }
        };
        self.said(text)
    }

    /// From now on `log` says and changes what is logged.
    pub fn set_log(&mut self, log: Box<dyn Log>) {
        self.log = Some(log);
    }

    fn log(&self, peer: &Peer, filter: Option<&str>) -> Answer {
        let Some(log) = &self.log else {
            return self.failed(&Failure::usage("log: nothing is logged here"));
        };
        let Some(filter) = filter else {
            return self.said(format!("{}\n", log.filter()));
        };
        match log.set(filter) {
            Err(error) => self.failed(&Failure::usage(format!("log: {filter}: {error}"))),
            Ok(()) => {
                audit(peer, &format!("log {filter}"), self.generation());
                self.said(String::new())
            }
        }
    }

    /// How many entries each worker's tables hold: IPv4, IPv6.
    pub fn capacity(&self) -> [u32; 2] {
        self.capacity.0
    }

    /// From now on the workers that were started with this can be asked what would become of a
    /// packet.
    pub fn set_crew(&mut self, crew: Crew) {
        self.crew = Some(crew);
    }

    /// What comes next of an answer that workers take part in.
    pub fn more(&mut self, rest: &mut Rest, now: Instant) -> Portion {
        match rest {
            Rest::Listing(listing) => listing.next(&self.compiler.snapshot().reals, now),
            Rest::Trace(inquiry) => self.inquire(inquiry, now),
        }
    }

    /// Asks the workers what would become of a packet.
    fn trace(&mut self, traced: &Traced, json: bool, now: Instant) -> Answer {
        let made = match traced {
            Traced::Packet(packet) => trace::make(packet, &self.topology),
            Traced::Frame { bytes, port } => {
                let taken = trace::taken(bytes, port.as_deref(), &self.topology);
                taken.map(|made| self.located(&made))
            }
        };
        let made = match made {
            Ok(made) if self.crew.is_some() => made,
            Ok(_) => return self.failed(&Failure::usage("trace: no worker runs here")),
            Err(error) => return self.failed(&Failure::usage(format!("trace: {error}"))),
        };
        let question = Inquiry::first(&made, self.compiler.snapshot());
        let asked = self.ask(question.clone());
        self.publish(now);
        let inquiry = Inquiry::new(made, json, question, asked);
        let mut answer = self.said(String::new());
        answer.rest = Some(Rest::Trace(Box::new(inquiry)));
        answer
    }

    /// A frame as the port has it at which it is received.
    fn located(&self, made: &Made) -> Made {
        let snapshot = self.compiler.snapshot();
        let (port, bytes) = trace::locate(snapshot, made.port, &made.bytes);
        let bytes = bytes.into_owned();
        Made { port, bytes }
    }

    /// Puts a question to all workers, which see it with the next snapshot.
    fn ask(&mut self, question: Question) -> (Hearing, Weak<()>) {
        let workers = self.compiler.snapshot().blocks.len();
        let asked = self.walks.ask(workers, question);
        self.show_walks();
        asked
    }

    /// Goes on with a trace.
    fn inquire(&mut self, inquiry: &mut Inquiry, now: Instant) -> Portion {
        let Some(crew) = &self.crew else {
            return Portion::Later;
        };
        match inquiry.go_on(crew, &self.publisher.latest(), now) {
            Ok(Progress::Later) => Portion::Later,
            Ok(Progress::Ask(question)) => {
                let asked = self.ask((*question).clone());
                inquiry.again(*question, asked);
                Portion::Later
            }
            Ok(Progress::Done(recorder, sent)) => {
                let told = trace::tell(&recorder, self, &sent);
                let text = if inquiry.json {
                    told.json()
                } else {
                    told.text()
                };
                Portion::Last(self.said(text).reply)
            }
            Err(error) => {
                let text = format!("trace: {error}\n");
                Portion::Last(self.answer(EXIT_NEGATIVE, String::new(), text).reply)
            }
        }
    }

    fn show_walks(&mut self) {
        self.compiler.snapshot_mut().errands = self.walks.all();
        self.unpublished = true;
    }

    /// The services that a listing is about: one, or all.
    fn chosen(&self, listen: Option<&Listen>) -> Option<Vec<&ServiceEntry>> {
        match listen {
            None => Some(self.model.services()),
            Some(listen) => self.model.get(listen).map(|entry| vec![entry]),
        }
    }

    fn no_such_service(&self) -> Answer {
        let text = format!("{}\n", ApplyError::NoSuchService);
        self.answer(EXIT_NEGATIVE, String::new(), text)
    }

    fn local_addresses(&self, listen: Option<&Listen>, format: Format) -> Answer {
        let Some(services) = self.chosen(listen) else {
            return self.no_such_service();
        };
        let listing = self.listing(&services);
        match format {
            Format::Text => self.said(layout::local_addresses(&listing, &Numeric)),
            Format::Data => self.data(listing),
        }
    }

    fn access_lists(&self, list: AccessList, listen: Option<&Listen>, format: Format) -> Answer {
        let Some(services) = self.chosen(listen) else {
            return self.no_such_service();
        };
        let listing = self.listing(&services);
        match format {
            Format::Text => self.said(layout::access_lists(&listing, list)),
            Format::Data => self.data(listing),
        }
    }

    fn save(&self, numeric: bool, format: Format) -> Answer {
        let listing = self.listing(&self.model.services());
        match format {
            Format::Text => self.said(layout::save(&listing, numeric, &Numeric)),
            Format::Data => self.data(listing),
        }
    }

    fn save_file(&self, json: bool) -> Answer {
        if json {
            let listing = self.listing(&self.model.services());
            let text = serde_json::to_string(&listing).expect("a listing is always JSON");
            return self.said(text + "\n");
        }
        self.said(config::toml::write(&self.as_file()))
    }

    /// Who is where on our links.
    fn links(&self, now: Instant) -> Links {
        let row = |(neighbour, state): (Neighbour, State)| {
            let (real_servers, gateway, client) = self.compiler.users(&neighbour);
            let confirmed = self.neighbours.confirmed_at(&neighbour);
            NeighbourRow {
                address: neighbour.1.to_string(),
                mac: state.mac().map(|mac| mac.to_string()),
                port: links::port_name(&self.topology, neighbour.0),
                state: state.name(),
                age_s: confirmed.map(|at| now.saturating_sub(at) / 1000),
                held_frames: self.waiting.held(&neighbour),
                real_servers,
                gateway,
                // Asked for by a packet, and not there yet.
                client: client || self.waiting.has_met(&neighbour),
            }
        };
        Links {
            neighbours: self.neighbours.iter().map(row).collect(),
            conflicts: links::conflicts(self, now),
        }
    }

    fn data(&self, listing: Listing) -> Answer {
        let mut answer = self.said(String::new());
        answer.reply.data = Some(listing);
        answer
    }

    fn listing(&self, services: &[&ServiceEntry]) -> Listing {
        Listing {
            services: services.iter().map(|entry| self.service(entry)).collect(),
            ..Listing::default()
        }
    }

    fn service(&self, entry: &ServiceEntry) -> ListingService {
        let listen = entry.settings.listen;
        let mut service = ListingService::new(&entry.settings);
        let locals = entry.settings.local_addresses.iter();
        service.local_interfaces = locals.map(|one| self.interface_of(one)).collect();
        if let Some(id) = self.compiler.service_slot(&listen) {
            (service.totals, service.rates) = self.compiler.service_account(id);
        }
        let slots = self.compiler.real_slots(&listen);
        // A change that waits is in the model and not yet in the slots.
        let slot = |at: usize, endpoint| match slots.get(at) {
            Some(&(known, id)) if known == endpoint => Some(id),
            _ => slots
                .iter()
                .find(|slot| slot.0 == endpoint)
                .map(|slot| slot.1),
        };
        for (at, real) in entry.present().enumerate() {
            let row = ListingReal {
                local: is_local(&listen, &real.real, &self.topology),
                sorry: real.sorry,
                ..ListingReal::new(&real.real)
            };
            let row = match slot(at, real.real.endpoint) {
                Some(id) => self.real(row, id),
                None => row,
            };
            service.reals.push(row);
        }
        service
    }

    /// The name of the port that an address is on; of one that is on none, the first port's:
    /// the command that adds it names some port.
    fn interface_of(&self, address: &IpAddr) -> String {
        let port = self.topology.port_of(address).unwrap_or(PortId(0));
        let setup = self.topology.port(port);
        setup.map_or_else(|| "lo".to_owned(), |setup| setup.name.clone())
    }

    fn real(&self, row: ListingReal, id: RealId) -> ListingReal {
        let (numbers, rates) = self.compiler.real_account(id);
        ListingReal {
            active: numbers.active,
            inactive: numbers.inactive,
            persistent: numbers.persistent,
            totals: numbers.totals,
            rates,
            ..row
        }
    }

    /// One command that changes services or real servers.
    fn change(&mut self, peer: &Peer, command: &Command, argv: &[String], now: Instant) -> Answer {
        match self.apply(command) {
            Err(failure) => self.failed(&failure),
            Ok(()) => {
                let generation = self.publish(now);
                audit(peer, &argv.join(" "), generation);
                self.acknowledged(0, String::new())
            }
        }
    }

    /// Shows or sets tunables.
    fn sysctl(
        &mut self,
        peer: &Peer,
        ask: &Ask,
        json: bool,
        argv: &[String],
        now: Instant,
    ) -> Answer {
        let rows = match ask {
            Ask::All => Ok(self.tunables.all()),
            Ask::One(name) => self.tunables.show(name).map(|row| vec![row]),
            Ask::Set { name, value } => self.tunables.set(name, value).map(|row| vec![row]),
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return self.failed(&error.into()),
        };
        let text = if json { settings::json } else { settings::text };
        let Ask::Set { .. } = ask else {
            return self.said(text(&rows));
        };
        self.tune();
        let generation = self.publish(now);
        audit(peer, &argv.join(" "), generation);
        let mut answer = self.acknowledged(0, String::new());
        answer.reply.stdout = text(&rows);
        answer
    }

    fn acknowledged(&self, exit: u8, stderr: String) -> Answer {
        let mut answer = self.answer(exit, String::new(), stderr);
        answer.after = Some(self.generation());
        answer
    }

    fn apply(&mut self, command: &Command) -> Result<(), Failure> {
        if let Command::Zero(listen) = command {
            return self.zero(listen.as_ref()).map_err(Failure::from);
        }
        if let &Command::SetTimeouts { tcp, tcp_fin, udp } = command {
            self.tunables.set_timeouts(tcp, tcp_fin, udp);
            self.tune();
            return Ok(());
        }
        match self.model.apply(command, &self.topology) {
            Some(applied) => {
                let change = applied?;
                self.note(change);
                self.warn(command);
                Ok(())
            }
            // Every command has its arm in `handle` or its word in `not_built`.
            None => Err(Failure::usage("this command is not built yet")),
        }
    }

    fn zero(&mut self, listen: Option<&Listen>) -> Result<(), ApplyError> {
        if listen.is_some_and(|listen| self.model.get(listen).is_none()) {
            return Err(ApplyError::NoSuchService);
        }
        self.zeroes.push(listen.copied());
        self.unpublished = true;
        Ok(())
    }

    fn note(&mut self, change: Change) {
        match change {
            Change::Service(listen) => {
                self.dirty.insert(listen);
            }
            Change::Asks(listen) => {
                self.asks_changed.insert(listen);
            }
            Change::Flushed(all) => self.dirty.extend(all),
        }
    }

    /// A command of a restore that only shows something.
    fn show(&self, command: &Command) -> Answer {
        match command {
            Command::List(options) => self.list(options, Format::Text),
            Command::Save { numeric } => self.save(*numeric, Format::Text),
            Command::ListLocalAddresses(listen) => {
                self.local_addresses(listen.as_ref(), Format::Text)
            }
            Command::ListAccess { list, listen } => {
                self.access_lists(*list, listen.as_ref(), Format::Text)
            }
            _ => self.answer(EXIT_USAGE, String::new(), String::new()),
        }
    }

    /// Whether workers don't run yet with what the model says.
    fn is_behind(&self) -> bool {
        !self.dirty.is_empty() || !self.asks_changed.is_empty() || self.unpublished
    }

    /// The model is as it was.
    fn forget_changes(&mut self) {
        self.dirty.clear();
        self.asks_changed.clear();
    }

    /// Compiles what changed and publishes it.
    pub fn publish(&mut self, now: Instant) -> u64 {
        let next = self.publisher.generation() + 1;
        self.plan();
        for listen in std::mem::take(&mut self.dirty) {
            self.asks_changed.remove(&listen);
            self.compile(&listen, next);
        }
        for listen in std::mem::take(&mut self.asks_changed) {
            if let Some(entry) = self.model.get(&listen) {
                self.compiler.ask(&entry.settings);
            }
        }
        for zero in std::mem::take(&mut self.zeroes) {
            self.compiler.zero(zero.as_ref());
        }
        self.follow_wants(now);
        self.compiler.settle(&self.topology, next);
        if self.vips.take_changed() || std::mem::take(&mut self.addresses_changed) {
            let addresses = self.vips.addresses(&self.locals, &self.topology);
            self.compiler.snapshot_mut().addresses = addresses;
        }
        self.unpublished = false;
        self.publisher.publish(self.compiler.snapshot().clone())
    }

    /// Services that overlap hear of each other before any of them is compiled.
    fn plan(&mut self) {
        for listen in &self.dirty {
            self.compiler.plan(listen, self.model.get(listen));
        }
    }

    fn compile(&mut self, listen: &Listen, generation: u64) {
        let entry = self.model.get(listen);
        let before = self.compiler.service_slot(listen).is_some();
        self.compiler
            .update(listen, entry, &self.topology, generation);
        let locals = entry.map_or(&[][..], |entry| &entry.settings.local_addresses);
        self.addresses_changed |= self.locals.set(listen, locals, &self.topology);
        let Some(address) = listen.address() else {
            return;
        };
        match (before, entry.is_some()) {
            (false, true) => self.vips.service_added(address, &self.topology),
            (true, false) => self.vips.service_removed(address),
            _ => {}
        }
    }

    /// Says what is legal and of no use: addresses that no port's subnet contains.
    fn warn(&self, command: &Command) {
        if self.topology.ports().next().is_none() {
            return;
        }
        match command {
            Command::AddService(service) => {
                let vip = service.listen.address();
                let lost = vip.filter(|vip| !self.vips.is_known(vip));
                if let Some(vip) = lost.filter(|vip| self.topology.port_of(vip).is_none()) {
                    tracing::warn!("VIP {vip} is on no port's subnet: nobody is told of it");
                }
            }
            Command::AddReal { listen, real } => {
                let address = real.endpoint.address;
                let near = self.topology.on_link(address).is_some();
                let local = is_local(listen, real, &self.topology);
                if real.mode == Mode::Dr && !near && !local {
                    tracing::warn!(
                        "{listen}: real server {address} is on no port's subnet: nothing reaches it"
                    );
                } else if self.topology.next_hop(address).is_none() && !local {
                    tracing::warn!("{listen}: no route to real server {address}");
                }
            }
            _ => {}
        }
    }

    /// Tells the neighbours who is wanted; a MAC that is known already goes into the snapshot.
    fn follow_wants(&mut self, now: Instant) {
        for want in self.compiler.take_wants() {
            let neighbour = want.neighbour;
            if !want.wanted {
                self.neighbours.unwant(neighbour);
            } else if let Some(mac) = self.known(neighbour, now) {
                self.compiler.set_mac(neighbour, Some(mac));
            }
        }
    }

    /// The MAC of a neighbour that is wanted from now on, if nobody need be asked.
    fn known(&mut self, neighbour: Neighbour, now: Instant) -> Option<Mac> {
        let known = self.neighbours.want(neighbour, now);
        known.or_else(|| self.topology.made_up(&neighbour.1))
    }

    /// VIPs that became ours or are no more.
    pub fn take_turns(&mut self, now: Instant) -> Vec<Turn> {
        let turns = self.vips.take_turns();
        let locals = self.locals.take_turns();
        self.groups_changed |= turns
            .iter()
            .chain(&locals)
            .any(|turn| turn.address.is_ipv6());
        for turn in turns.iter().chain(&locals) {
            if turn.held && !self.stopping {
                self.neighbours.announce(turn.port, turn.address, now);
            } else {
                self.neighbours.silence(turn.port, turn.address);
            }
        }
        turns
    }

    /// Whether we answer for `address` on `port`: an address of the director there, a VIP held
    /// there, or a local address.
    pub fn is_ours(&self, port: PortId, address: IpAddr) -> bool {
        let setup = self.topology.port(port);
        let own = |setup: &PortSetup| setup.addresses.iter().any(|own| own.address == address);
        let lent = self.vips.answers(port, address) || self.locals.answers(port, address);
        setup.is_some_and(own) || !self.stopping && lent
    }

    /// A packet of ARP or neighbour discovery came in.
    pub fn heard(&mut self, port: PortId, packet: &Packet, now: Instant) {
        let (topology, vips, locals) = (&self.topology, &self.vips, &self.locals);
        let stopping = self.stopping;
        let own = topology
            .port(port)
            .map_or(&[][..], |setup| &setup.addresses);
        let ours = |address| {
            let lent = vips.answers(port, address) || locals.answers(port, address);
            own.iter().any(|own| own.address == address) || !stopping && lent
        };
        self.neighbours.received(port, packet, topology, ours, now);
    }

    /// The next thing that neighbour discovery wants done, after what is due by `now`. MACs
    /// learned go into the snapshot in preparation.
    pub fn neighbour_action(&mut self) -> Option<Action> {
        loop {
            match self.neighbours.action()? {
                Action::Learned { neighbour, mac } => {
                    self.unpublished |= self.compiler.set_mac(neighbour, mac);
                    if let Some(mac) = mac {
                        if self.waiting.has_met(&neighbour) {
                            self.know(neighbour);
                        }
                        self.release(neighbour, mac);
                    }
                    log_neighbour(&self.topology, neighbour, mac);
                }
                action => return Some(action),
            }
        }
    }

    /// Does what neighbour discovery has due.
    pub fn tick(&mut self, now: Instant) {
        self.waiting.expire(now);
        self.neighbours.tick(&self.topology, now);
    }

    /// Publishes what came of itself (a MAC, a group), if anything did.
    pub fn publish_news(&mut self, now: Instant) {
        if self.walks.prune() {
            self.show_walks();
        }
        // What is half-way is not for workers; what came of itself goes with it at its end.
        if self.unpublished && !self.is_working() {
            self.publish(now);
        }
    }

    /// Whether the addresses that IPv6 neighbours ask for changed since the last call.
    pub fn take_groups_changed(&mut self) -> bool {
        std::mem::take(&mut self.groups_changed)
    }

    /// The multicast groups that each port listens to: those that the kernel wants, and the
    /// solicited-node groups of what we answer for.
    pub fn set_groups(&mut self, mut groups: Vec<Vec<Mac>>) {
        for (port, groups) in (0u16..).map(PortId).zip(&mut groups) {
            groups.extend(self.solicited_groups(port));
            groups.sort_unstable();
            groups.dedup();
        }
        let ports = &self.compiler.snapshot().ports;
        let same = |(port, groups): (&PortView, &Vec<Mac>)| port.groups[..] == groups[..];
        if ports.iter().zip(&groups).all(same) {
            return;
        }
        let with = |(port, groups): (&PortView, Vec<Mac>)| PortView {
            groups: groups.into(),
            ..port.clone()
        };
        let ports = ports.iter().zip(groups).map(with).collect();
        self.compiler.snapshot_mut().ports = ports;
        self.unpublished = true;
    }

    /// A worker's frame waits for a neighbour: it is sent as soon as its MAC is known, which
    /// may be at once.
    pub fn hold(&mut self, neighbour: Neighbour, frame: &[u8], now: Instant) {
        let known = self.neighbours.state(&neighbour).and_then(|it| it.mac());
        let known = known.or_else(|| self.topology.made_up(&neighbour.1));
        // Workers that don't know what control does have no hop for it as a client.
        if known.is_some() || !self.compiler.leads_to(&neighbour) {
            self.meet(neighbour, now);
        }
        for piece in self.pieces(neighbour.0, frame) {
            self.waiting.hold(neighbour, &piece, now);
        }
        if let Some(mac) = known {
            self.release(neighbour, mac);
        }
    }

    /// A frame as it can leave by a port: cut where it is too large for the link, or for the path
    /// through a tunnel.
    fn pieces(&mut self, port: PortId, frame: &[u8]) -> Vec<Vec<u8>> {
        let link = self.topology.port(port).map_or(u16::MAX, |setup| setup.mtu);
        let path = cut::destination(frame).and_then(|end| self.compiler.paths().mtu(&end));
        let mtu = path.map_or(link, |path| path.min(link));
        self.fragment_id = self.fragment_id.wrapping_add(1);
        cut::pieces(frame, mtu, self.fragment_id)
    }

    /// An ICMP error about the outer header of some tunnel came in: if it is one of ours, its
    /// real server's path may be narrower from now on. Says whether it is.
    pub fn tunnel_failed(&mut self, frame: &[u8], now: Instant) -> bool {
        let Some(about) = icmp::about_any_tunnel(frame) else {
            return false;
        };
        let changed = self.compiler.narrow(&about, &self.topology, now);
        if let (Some(true), Some(mtu)) = (changed, about.mtu) {
            tracing::info!("path to real server {}: {mtu} octets", about.destination);
            self.unpublished = true;
        }
        changed.is_some()
    }

    /// Asks for a neighbour that no route or real server names.
    fn meet(&mut self, neighbour: Neighbour, now: Instant) {
        let (met, gone) = self.waiting.meet(neighbour);
        if let Some(gone) = gone {
            self.part(&gone);
        }
        if met && self.known(neighbour, now).is_some() {
            self.know(neighbour);
        }
    }

    /// Workers may send to a neighbour that packets asked for.
    fn know(&mut self, neighbour: Neighbour) {
        self.compiler.meet(neighbour, &self.topology);
        self.unpublished = true;
    }

    fn part(&mut self, neighbour: &Neighbour) {
        self.neighbours.unwant(*neighbour);
        self.unpublished |= self.compiler.part(neighbour);
    }

    fn release(&mut self, neighbour: Neighbour, mac: Mac) {
        let frames = self.waiting.release(&neighbour, mac);
        let frames = frames.into_iter().map(|frame| (neighbour.0, frame));
        self.ready.extend(frames);
    }

    /// The frames that can be sent now, with the ports to send them by.
    pub fn take_ready(&mut self) -> Vec<(PortId, Vec<u8>)> {
        std::mem::take(&mut self.ready)
    }

    /// Frames whose neighbour did not answer in time.
    pub fn frames_unresolved(&self) -> u64 {
        self.waiting.lost()
    }

    /// Where IPv6 neighbours ask for what we answer for on a port.
    fn solicited_groups(&self, port: PortId) -> Vec<Mac> {
        let setup = self.topology.port(port);
        let own = setup.map_or(&[][..], |setup| &setup.addresses);
        let own = own.iter().map(|prefix| prefix.address);
        let locals = self.locals.on_ports().filter(|&(on, _)| on == port);
        let locals = locals.map(|(_, address)| address);
        let all = own.chain(self.vips.held_on(port)).chain(locals);
        let group = |address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(Mac::multicast_v6(solicited_node(v6))),
        };
        all.filter_map(group).collect()
    }

    /// Frees what nobody needs any more: old snapshots, fields that no connection was made under,
    /// clients that don't answer; and begins a round through the trash, which
    /// [`Engine::sweep_trash`] goes on with.
    pub fn sweep(&mut self, now: Instant) {
        self.publisher.reclaim();
        let seen = self.publisher.slowest();
        self.to_sweep = self.compiler.trash_queued();
        self.unpublished |= self.compiler.settle_edited(seen);
        self.unpublished |= self.compiler.widen(&self.topology, now);
        self.compiler.forget_rules(seen);
        let (ready, changed) = self.compiler.forget_fields(seen);
        self.dirty.extend(ready);
        self.unpublished |= changed;
        let neighbours = &self.neighbours;
        let gone = self.waiting.forget(|who| {
            let state = neighbours.state(who);
            matches!(state, None | Some(State::Failed { .. }))
        });
        gone.iter().for_each(|neighbour| self.part(neighbour));
        self.follow_wants(now);
    }

    /// Frees slots without connections, looking at a bounded number of them; says whether this
    /// round has more to look at.
    pub fn sweep_trash(&mut self) -> bool {
        let some = self.to_sweep.min(SWEEP);
        if some > 0 {
            self.compiler.sweep(some, self.publisher.slowest());
            self.to_sweep -= some;
        }
        self.to_sweep > 0
    }

    /// Two seconds went by: rates are to be estimated anew, by [`Engine::estimate`].
    pub fn begin_estimate(&mut self) {
        self.compiler.begin_estimate();
    }

    /// Estimates the rates of a bounded number of services and real servers; says whether more
    /// are to be done.
    pub fn estimate(&mut self) -> bool {
        self.compiler.estimate(ESTIMATE)
    }

    /// Tells each worker what the others count, for a bounded number of real servers.
    pub fn share_counts(&mut self, now: Instant) {
        if self.shares_counts() {
            self.compiler.share_counts(AT_ONCE, now);
        }
    }

    /// With one worker there is nothing to tell: its own counts are exact.
    fn shares_counts(&self) -> bool {
        self.compiler.snapshot().blocks.len() > 1
    }

    /// The real servers whose counts are shared between workers, and how many milliseconds ago
    /// the oldest of them was; `None` if there are none.
    pub fn sums(&self, now: Instant) -> Option<(usize, u64)> {
        let sums = self.compiler.sums();
        let any = self.shares_counts() && !sums.is_empty();
        any.then(|| (sums.len(), sums.age_ms(now)))
    }
}

/// A service of the file that can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("service {listen}: {error}")]
pub struct LoadError {
    /// The service.
    pub listen: Listen,
    /// Why.
    pub error: ApplyError,
}

/// One worker's counters: those of VLANs' ports stay as many as there are.
fn blocks(topology: &Topology) -> Blocks {
    let mut blocks = Blocks::default();
    let ports = topology.ports().count();
    if ports > topology.with_queues() {
        let ports = u32::try_from(ports).expect("ports are numbered in 16 bits");
        blocks.ports.grow(ports);
    }
    blocks
}

fn first_snapshot(config: &Config, topology: &Topology, workers: u16) -> Snapshot {
    let view = |(id, setup): (PortId, &PortSetup)| PortView {
        any_mac: setup.any_mac,
        mac: setup.mac,
        mtu: setup.mtu,
        to_sender: setup.to_sender,
        groups: [].into(),
        tagging: topology.tagging(id),
    };
    Snapshot {
        ports: topology.ports().map(view).collect(),
        settings: Tunables::of(config).compile().into(),
        marks: marks(&config.marks, topology),
        blocks: (0..workers).map(|_| blocks(topology)).collect(),
        ..Snapshot::default()
    }
}

fn marks(rules: &[MarkRule], topology: &Topology) -> Marks {
    Marks::new(rules.iter().map(|rule| mark(rule, topology)).collect())
}

/// A rule of the file, for the workers.
fn mark(rule: &MarkRule, topology: &Topology) -> Rule {
    let network = |prefix: Prefix| Network::new(prefix.address, prefix.length);
    let (first, last) = rule.ports.unwrap_or((0, u16::MAX));
    Rule {
        mark: rule.mark,
        protocol: rule.protocol.map(config::model::Protocol::number),
        from: rule.from.map(network),
        to: Some(network(rule.to)),
        ports: first..=last,
        entry: rule
            .port
            .as_deref()
            .and_then(|name| topology.port_named(name)),
    }
}

fn audit(peer: &Peer, command: &str, generation: u64) {
    tracing::info!(
        uid = peer.uid,
        pid = peer.pid,
        generation,
        "change: {command}"
    );
}

fn log_neighbour(topology: &Topology, (port, address): (PortId, IpAddr), mac: Option<Mac>) {
    let port = topology.port(port).map_or("", |setup| setup.name.as_str());
    match mac {
        Some(mac) => tracing::info!(port, "neighbour {address} is at {mac}"),
        None => tracing::warn!(port, "neighbour {address} does not answer any more"),
    }
}
