//! The notes in words: lines for people, objects for programs.

use config::model::{Listen, SchedulerKind};
use dataplane::observe::{Declined, Ended, Shown};
use dataplane::owner::Fields;
use dataplane::port::PortId;
use dataplane::sched::{Bucket, Standing};
use dataplane::services::{By, RealId, ServiceId, Towards};
use dataplane::verdict::Verdict;
use serde_json::{Map, Value, json};
use wire::{Protocol, display};

use super::fields;
use super::record::{Read, Recorder, Remembered, Step};
use super::words::{self, connection_data, connection_words, end, endpoint, meaning, mode, state};
use crate::engine::Engine;

/// A frame that was sent because of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// By which port.
    pub port: PortId,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// What was found out about one packet.
#[derive(Clone, Debug)]
pub struct Trace {
    lines: Vec<Line>,
    summary: Map<String, Value>,
}

/// One step: its name, what it says to people, what to programs.
#[derive(Clone, Debug)]
struct Line {
    step: &'static str,
    /// The first stands beside the name, the others below.
    text: Vec<String>,
    data: Map<String, Value>,
}

impl Line {
    fn new(step: &'static str, text: impl Into<String>, data: Value) -> Self {
        let Value::Object(data) = data else {
            unreachable!("steps are made of objects");
        };
        Self {
            step,
            text: vec![text.into()],
            data,
        }
    }
}

/// Octets of a step's name in the text.
const MARGIN: usize = 12;

impl Trace {
    /// For people.
    pub fn text(&self) -> String {
        let mut all = String::new();
        for Line { step, text, .. } in &self.lines {
            for (at, line) in text.iter().enumerate() {
                let head = if at == 0 { step } else { "" };
                let line = format!("{head:MARGIN$}{line}");
                all.push_str(line.trim_end());
                all.push('\n');
            }
        }
        all
    }

    /// For programs: one line.
    pub fn json(&self) -> String {
        let steps = self.lines.iter().map(|line| {
            let mut data = line.data.clone();
            data.insert("step".to_owned(), line.step.into());
            Value::Object(data)
        });
        let mut whole = self.summary.clone();
        whole.insert("steps".to_owned(), steps.collect());
        format!("{}\n", Value::Object(whole))
    }
}

/// Puts into words what `recorder` noted and what was `sent` because of it.
pub fn tell(recorder: &Recorder, engine: &Engine, sent: &[Sent]) -> Trace {
    let mut teller = Teller {
        engine,
        lines: Vec::new(),
        arrived: Vec::new(),
        entry: recorder.port(),
        about: None,
        opened: false,
        service: None,
    };
    for step in &recorder.steps {
        teller.step(step);
    }
    teller.finish(recorder, sent)
}

/// Names for numbers, and what was said so far.
struct Teller<'a> {
    engine: &'a Engine,
    lines: Vec<Line>,
    /// The frame as it came in.
    arrived: Vec<u8>,
    entry: PortId,
    /// The connection, and whether its real server sent the packet.
    about: Option<(Shown, bool)>,
    service: Option<ServiceId>,
    opened: bool,
}

impl Teller<'_> {
    fn say(&mut self, step: &'static str, text: impl Into<String>, data: Value) {
        self.lines.push(Line::new(step, text, data));
    }

    fn more(&mut self, text: impl Into<String>) {
        if let Some(last) = self.lines.last_mut() {
            last.text.push(text.into());
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Begins { worker, frame } => self.begins(*worker, frame),
            Step::Parsed(read) => self.parsed(read),
            Step::Ended(why, shown) => self.ended(*why, shown),
            Step::NoConnection => self.say("connection", "none", json!({"found": false})),
            Step::Tried {
                by,
                protocol,
                destination,
                found,
            } => self.tried(*by, &words::key(*by, *protocol, *destination), *found),
            Step::Declined(why) => self.declined(*why),
            Step::Service { id, fields } => self.service(*id, *fields),
            Step::Template(remembered) => self.template(remembered),
            Step::Scheduled {
                service,
                standings,
                buckets,
                chosen,
            } => self.scheduled(*service, standings, buckets, *chosen),
            Step::Opened => {
                self.opened = true;
                self.say("open", "a new connection", json!({}));
            }
            Step::Connection { from_real, shown } => self.connection(*from_real, shown),
            Step::Moved(shown) => self.moved(shown),
            Step::Way { towards, mtu } => self.way(*towards, *mtu),
            Step::Decided { verdict, frame } => self.decided(*verdict, frame),
        }
    }

    fn begins(&mut self, worker: u16, frame: &[u8]) {
        if !self.arrived.is_empty() {
            let text = format!("worker {worker} takes it over");
            return self.say("worker", text, json!({"worker": worker}));
        }
        frame.clone_into(&mut self.arrived);
        let shown = display::Frame(frame).to_string();
        let port = self.port(self.entry);
        let text = format!("{shown}, by port {port} to worker {worker}");
        let bytes = frame.len();
        let data = json!({"frame": shown, "bytes": bytes, "in": port, "worker": worker});
        self.say("packet", text, data);
    }

    fn parsed(&mut self, read: &Read) {
        match *read {
            Read::Flow {
                protocol,
                source,
                destination,
                flags,
                owned,
                mark,
            } => {
                let (from, to) = (endpoint(source), endpoint(destination));
                let (name, what) = (Protocol(protocol).to_string(), words::owned(owned));
                let address = destination.0;
                let mut text = format!("the flow {name} {from} > {to}; {address} is {what}");
                if mark != 0 {
                    text += &format!("; firewall mark {mark}");
                }
                let flags = (protocol == Protocol::TCP.0).then(|| flags.to_string());
                let data = json!({
                    "is": "flow", "protocol": name, "source": from, "destination": to,
                    "flags": flags, "address": words::owned_data(owned), "mark": mark,
                });
                self.say("parse", text, data);
            }
            Read::Fragment => {
                let text = "a fragment: it goes where its packet's first one goes";
                self.say("parse", text, json!({"is": "fragment"}));
            }
            Read::Other { destination, owned } => {
                let what = words::owned(owned);
                let text = format!("a packet of no flow of its own; {destination} is {what}");
                let data = words::owned_data(owned);
                let data = json!({"is": "other", "destination": destination, "address": data});
                self.say("parse", text, data);
            }
            Read::Decided(verdict) => {
                let text = meaning(Some(verdict)).unwrap_or_default();
                let (_, reason, _) = end(Some(verdict));
                self.say("parse", text, json!({"is": "decided", "reason": reason}));
            }
        }
    }

    fn ended(&mut self, why: Ended, shown: &Shown) {
        let (word, text) = match why {
            Ended::Over => ("over", "its time was up"),
            Ended::StartsOver => ("starts-over", "a SYN or INIT begins anew (conn_reuse_mode)"),
            Ended::RealRemoved => (
                "real-removed",
                "its real server was removed (expire_nodest_conn)",
            ),
            Ended::Quiescent => (
                "quiescent",
                "its real server has weight 0 or was removed (expire_quiescent)",
            ),
        };
        let mut data = connection_data(shown);
        data.insert("ended".to_owned(), word.into());
        let text = format!("{}; it ends here: {text}", connection_words(shown));
        self.say("connection", text, Value::Object(data));
    }

    fn tried(&mut self, by: By, key: &str, found: Option<ServiceId>) {
        let kind = match by {
            By::Mark(_) => "mark",
            By::Port => "port",
            By::Ftp => "ftp",
            By::AllPorts => "all-ports",
        };
        let name = found.map(|id| self.service_name(id));
        let text = match &name {
            Some(_) if kind == "ftp" => format!("{key}: the service, as FTP's data"),
            Some(_) => format!("{key}: the service"),
            None => format!("{key}: no service"),
        };
        let data = json!({"by": kind, "key": key, "service": name});
        self.say("lookup", text, data);
    }

    fn declined(&mut self, why: Declined) {
        let (word, text) = match why {
            Declined::FtpData => (
                "ftp-data",
                "from port 20: active FTP's data is never scheduled",
            ),
            Declined::OtherPort => (
                "other-port",
                "without persistence a service takes no port but its own",
            ),
            Declined::OpensNothing => (
                "opens-nothing",
                "only a SYN without RST, or SCTP's INIT, opens a connection",
            ),
            Declined::Defence => ("defence", "drop_packet does not let it open a connection"),
            Declined::NoRoom => ("no-room", "the table has no room for a connection"),
        };
        self.say("declined", text, json!({"why": word}));
    }

    fn service(&mut self, id: ServiceId, fields: Fields) {
        self.service = Some(id);
        let name = self.service_name(id);
        let settings = self.settings(id);
        let scheduler = settings.map(|(kind, _)| kind.name());
        let persistence = settings.and_then(|(_, seconds)| seconds);
        let owner = words::owner_fields(fields);
        let mut text = name.clone();
        if let Some(scheduler) = scheduler {
            text += &format!(", scheduler {scheduler}");
        }
        if let Some(seconds) = persistence {
            text += &format!(", persistent for {seconds} s");
        }
        let workers = self.engine.snapshot().blocks.len();
        if workers > 1 {
            text += &format!("; its worker follows from {owner}");
        }
        let data = json!({
            "service": name, "scheduler": scheduler, "persistence": persistence, "owner-by": owner,
        });
        self.say("service", text, data);
    }

    fn template(&mut self, remembered: &Remembered) {
        let (word, shown, text) = match remembered {
            Remembered::None => ("none", None, "none: the client is new here"),
            Remembered::Over => ("over", None, "its time was up"),
            Remembered::Invalid(shown) => (
                "invalid",
                Some(shown),
                "its real server may not be had any more",
            ),
            Remembered::Live(shown) => ("live", Some(shown), "the client stays there"),
        };
        let mut data = shown.map(connection_data).unwrap_or_default();
        data.insert("found".to_owned(), word.into());
        let text = match shown {
            Some(shown) => format!("{}: {text}", connection_words(shown)),
            None => text.to_owned(),
        };
        self.say("template", text, Value::Object(data));
    }

    fn scheduled(
        &mut self,
        service: ServiceId,
        standings: &[Standing],
        buckets: &[Bucket],
        chosen: Option<RealId>,
    ) {
        let kind = self.settings(service).map(|(kind, _)| kind);
        let rule = kind.map_or("", words::rule);
        let name = kind.map_or("", SchedulerKind::name);
        let rows: Vec<_> = standings.iter().map(|s| self.standing(s, chosen)).collect();
        let data = json!({
            "scheduler": name, "rule": rule,
            "chosen": chosen.map(|id| self.real_name(id)),
            "reals": rows.iter().map(|row| row.1.clone()).collect::<Value>(),
            "buckets": buckets.iter().map(|bucket| self.bucket_data(bucket)).collect::<Value>(),
        });
        self.say("schedule", format!("{name}: {rule}"), data);
        for bucket in buckets {
            let text = self.bucket(kind, bucket);
            self.more(text);
        }
        for (text, _) in aligned(rows) {
            self.more(text);
        }
        if chosen.is_none() {
            self.more("nobody is available");
        }
    }

    /// A bucket that led to a real server, or would have.
    fn bucket(&self, kind: Option<SchedulerKind>, bucket: &Bucket) -> String {
        let word = match kind {
            Some(SchedulerKind::Mh) => "slot",
            _ => "bucket",
        };
        let Bucket { number, of, .. } = bucket;
        let why = if bucket.stands_in { "instead " } else { "" };
        let real = self.real_name(bucket.real);
        format!("{why}{word} {number} of {of}: {real}")
    }

    fn bucket_data(&self, bucket: &Bucket) -> Value {
        json!({
            "number": bucket.number, "of": bucket.of, "real": self.real_name(bucket.real),
            "stands-in": bucket.stands_in,
        })
    }

    /// A real server's row: cells for people, an object for programs.
    fn standing(&self, standing: &Standing, chosen: Option<RealId>) -> ([String; 6], Value) {
        let name = self.real_name(standing.real);
        let is_chosen = chosen == Some(standing.real);
        let not = match standing {
            Standing { weight: 0, .. } => Some("weight 0: no new connections"),
            s if s.is_overloaded => Some("overloaded: its threshold was reached"),
            _ => None,
        };
        let remark = if is_chosen {
            "chosen"
        } else {
            not.unwrap_or_default()
        };
        let cells = [
            format!("{} {name}", if is_chosen { '>' } else { ' ' }),
            format!("weight {}", standing.weight),
            format!("active {}", standing.active),
            format!("inactive {}", standing.inactive),
            standing
                .load
                .map_or_else(String::new, |load| format!("load {load}")),
            remark.to_owned(),
        ];
        let data = json!({
            "real": name, "weight": standing.weight, "active": standing.active,
            "inactive": standing.inactive, "load": standing.load,
            "eligible": standing.is_available(), "why-not": not, "chosen": is_chosen,
        });
        (cells, data)
    }

    fn connection(&mut self, from_real: bool, shown: &Shown) {
        self.about = Some((*shown, from_real));
        self.service = Some(shown.service);
        let real = self.real_name(shown.real_id);
        let forwarder = self.engine.snapshot().reals.get(shown.real_id.0);
        let mode = forwarder.map(|real| mode(&real.forwarder));
        let side = if from_real { "real server" } else { "client" };
        let mut data = connection_data(shown);
        data.insert("found".to_owned(), true.into());
        data.insert(
            "from".to_owned(),
            if from_real { "real" } else { "client" }.into(),
        );
        data.insert(
            "service".to_owned(),
            self.service_name(shown.service).into(),
        );
        data.insert("mode".to_owned(), mode.into());
        let text = format!(
            "{}; real server {real} ({}); the packet is the {side}'s",
            connection_words(shown),
            mode.unwrap_or("removed"),
        );
        self.say("connection", text, Value::Object(data));
    }

    fn moved(&mut self, shown: &Shown) {
        let before = self.about.map(|(before, _)| state(&before));
        let after = state(shown);
        let seconds = shown.timeout_ms / 1000;
        let text = match before.filter(|before| *before != after) {
            Some(before) => format!("{before} to {after}, for {seconds} s from now on"),
            None => format!("{after}, for {seconds} s from now on"),
        };
        let data = json!({"before": before, "after": after, "timeout": seconds});
        self.say("state", text, data);
    }

    fn way(&mut self, towards: Towards, mtu: u16) {
        let snapshot = self.engine.snapshot();
        let (port, mac, address) = match towards {
            Towards::Hop(id) => {
                let hop = snapshot.hops.get(id.0);
                let address = snapshot.next_hops.get(id.0).copied();
                (
                    hop.map(|h| h.port),
                    hop.and_then(|h| h.destination()),
                    address,
                )
            }
            Towards::Unknown(port) => (Some(port), None, None),
            Towards::At(port, mac) => (Some(port), Some(mac), None),
        };
        let port = port.map_or_else(String::new, |port| self.port(port));
        let next = address.map_or_else(|| "the neighbour itself".to_owned(), |a| a.to_string());
        let mac = mac.map(|mac| mac.to_string());
        let at = mac.as_deref().unwrap_or("a MAC that is not known yet");
        let text = format!("by port {port} to {next} at {at}; MTU {mtu}");
        let data = json!({"port": port, "next-hop": address, "mac": mac, "mtu": mtu});
        self.say("route", text, data);
    }

    fn decided(&mut self, verdict: Verdict, frame: &[u8]) {
        if let Verdict::HandOver(worker, _) = verdict {
            let worker = worker.0;
            let text = format!("worker {worker} may own its connection: handed over");
            return self.say("hand-over", text, json!({"to": worker}));
        }
        if matches!(verdict, Verdict::Transmit(_) | Verdict::Resolve(_)) && frame != self.arrived {
            self.rewrite(frame);
        }
    }

    fn rewrite(&mut self, frame: &[u8]) {
        let (before, after) = (fields::of(&self.arrived), fields::of(frame));
        let changes = fields::changes(&before, &after);
        let object = |fields: &fields::Fields| {
            let pairs = fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value)));
            Value::Object(pairs.collect())
        };
        let changed: Vec<_> = changes.iter().map(|(name, ..)| *name).collect();
        let data = json!({
            "before": object(&before), "after": object(&after), "changed": changed,
        });
        self.say("rewrite", display::Frame(&self.arrived).to_string(), data);
        self.more(display::Frame(frame).to_string());
        let width = changed.iter().map(|name| name.len()).max().unwrap_or(0);
        for (name, old, new) in changes {
            let old = if old.is_empty() { "-" } else { &old };
            let new = if new.is_empty() { "-" } else { &new };
            self.more(format!("  {name:width$}  {old} > {new}"));
        }
    }

    fn finish(mut self, recorder: &Recorder, sent: &[Sent]) -> Trace {
        let verdict = recorder.verdict;
        let (word, reason, out) = end(verdict);
        let out = out.map(|port| self.port(port));
        let why = meaning(verdict);
        let text = match (&out, reason) {
            (Some(port), _) => format!("{word} by {port}"),
            (None, Some(reason)) => format!("{word}, {reason}: {}", why.unwrap_or_default()),
            (None, None) => format!("{word}: {}", why.unwrap_or_default()),
        };
        let data = json!({"verdict": word, "reason": reason, "why": why, "out": out});
        self.say("verdict", text, data);
        let mut frames = Vec::new();
        for Sent { port, bytes } in sent {
            let (port, shown) = (self.port(*port), display::Frame(bytes).to_string());
            let octets = bytes.len();
            let data = json!({"out": port, "bytes": octets, "frame": shown});
            frames.push(data.clone());
            self.say("sent", format!("by {port}, {octets} octets: {shown}"), data);
        }
        let summary = json!({
            "in": self.port(self.entry), "worker": recorder.worker(),
            "verdict": word, "reason": reason, "out": out, "frames": frames,
            "service": self.service.map(|id| self.service_name(id)),
            "real": self.about.map(|(shown, _)| self.real_name(shown.real_id)),
            "mode": self.about.and_then(|(shown, _)| self.mode_of(shown.real_id)),
            "direction": self.about.map(|(_, from_real)| if from_real { "out" } else { "in" }),
            "new": self.opened,
        });
        let Value::Object(summary) = summary else {
            unreachable!("written as an object");
        };
        let lines = self.lines;
        Trace { lines, summary }
    }

    fn mode_of(&self, id: RealId) -> Option<&'static str> {
        let real = self.engine.snapshot().reals.get(id.0)?;
        Some(mode(&real.forwarder))
    }

    fn port(&self, port: PortId) -> String {
        let setup = self.engine.topology().port(port);
        setup.map_or_else(|| port.0.to_string(), |setup| setup.name.clone())
    }

    fn service_name(&self, id: ServiceId) -> String {
        let name = self.engine.service_name(id);
        name.map_or_else(|| "a removed service".to_owned(), |name| name.to_string())
    }

    fn real_name(&self, id: RealId) -> String {
        let name = self.engine.real_name(id);
        name.map_or_else(
            || "a removed real server".to_owned(),
            |name| name.to_string(),
        )
    }

    /// A service's scheduler, and its persistence in seconds.
    fn settings(&self, id: ServiceId) -> Option<(SchedulerKind, Option<u32>)> {
        let listen: Listen = self.engine.service_name(id)?;
        let settings = &self.engine.model().get(&listen)?.settings;
        let seconds = settings.persistence.as_ref().map(|p| p.timeout);
        Some((settings.scheduler, seconds))
    }
}

/// Rows whose cells stand below each other.
fn aligned(rows: Vec<([String; 6], Value)>) -> Vec<(String, Value)> {
    let width = |at: usize| {
        rows.iter()
            .map(|(cells, _)| cells[at].len())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |(cells, data): ([String; 6], Value)| {
        let padded = cells.iter().zip(widths).filter(|&(_, width)| width > 0);
        let padded: Vec<_> = padded
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        (padded.join("  "), data)
    };
    rows.into_iter().map(line).collect()
}
