//! Reload, diff and save: the file and the running state, held against each other and brought
//! together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use config::message::Errors;
use config::model::{Config, Listen, Service};
use config::toml::{self, Loaded};
use proto::command::Reload;
use proto::errors::{EXIT_NEGATIVE, Failure};

use super::job::{Job, OBJECTS, Step};
use super::{Engine, marks};
use crate::client::Peer;
use crate::reload::{Difference, Report, Wanted, Way, merge, rest};
use crate::server::Answer;
use crate::settings::Tunables;

/// Lines about a reload that go into the log.
const LOGGED: usize = 100;

/// Where a file's text comes from.
#[derive(Debug)]
enum Source {
    /// It is on disk.
    Path(PathBuf),
    /// Somebody sent it.
    Text(String),
}

impl Source {
    fn read(self, name: &str) -> Result<Loaded, Errors> {
        match self {
            Self::Path(path) => toml::read_file(&path),
            Self::Text(text) => toml::read(&text, name),
        }
    }
}

/// Who asked for what.
#[derive(Debug)]
struct Asked {
    way: Way,
    /// Absent: a signal.
    peer: Option<Peer>,
    file: String,
    take_file: bool,
    json: bool,
}

/// A file that another thread reads: a disk may be slow, and a long file takes its time.
#[derive(Debug)]
pub(super) struct Reading {
    asked: Asked,
    read: Receiver<Result<Loaded, Errors>>,
}

/// A file that is being compared with what runs.
#[derive(Debug)]
pub(super) struct Merging {
    asked: Asked,
    before: Arc<Config>,
    file: Arc<Config>,
    /// Where each service stands in either file.
    places: [HashMap<Listen, usize>; 2],
    /// Services that are still to be compared, the next one last.
    left: Vec<Listen>,
    tunables: Tunables,
    report: Report,
}

impl Merging {
    fn new(asked: Asked, before: Arc<Config>, loaded: Loaded, engine: &Engine) -> Self {
        let Loaded {
            config: file,
            warnings,
            ..
        } = loaded;
        let running = &engine.tunables;
        let rest = rest(&before, &file, running, asked.take_file);
        let places = [places(&before.services), places(&file.services)];
        let in_file = file.services.iter().map(|service| service.listen);
        let others = engine.model.services().into_iter();
        let others = others.map(|entry| entry.settings.listen);
        let others = others.filter(|listen| !places[1].contains_key(listen));
        let mut left: Vec<_> = in_file.chain(others).collect();
        left.reverse();
        let report = Report {
            way: asked.way,
            file: asked.file.clone(),
            applied: false,
            differences: rest.differences,
            restart: rest.restart,
            warnings: warnings.iter().map(ToString::to_string).collect(),
        };
        Self {
            asked,
            before,
            file: Arc::new(file),
            places,
            left,
            tunables: rest.tunables,
            report,
        }
    }

    fn in_files(&self, listen: &Listen) -> [Option<&Service>; 2] {
        let [before, file] = &self.places;
        let find = |config: &'_ Arc<Config>, places: &HashMap<Listen, usize>| {
            places
                .get(listen)
                .copied()
                .filter(|&at| at < config.services.len())
        };
        let before = find(&self.before, before).map(|at| &self.before.services[at]);
        let file = find(&self.file, file).map(|at| &self.file.services[at]);
        [before, file]
    }

    /// Whether it is to be done, not only shown.
    fn applies(&self) -> bool {
        self.asked.way == Way::Reload && self.report.restart.is_empty()
    }
}

fn places(services: &[Service]) -> HashMap<Listen, usize> {
    let listens = services.iter().map(|service| service.listen);
    listens.zip(0..).collect()
}

impl Engine {
    /// The file that the daemon was started with, for reloads that name none.
    pub fn set_file(&mut self, path: &Path) {
        self.file = Some(path.to_owned());
    }

    /// The file that was loaded last.
    pub fn loaded(&self) -> &Config {
        &self.loaded
    }

    /// Reads the file again, as nobody but a signal asks for it. Without effect while something
    /// else goes on.
    ///
    /// # Errors
    /// There is no file, or no time.
    pub fn reload(&mut self) -> Result<(), Failure> {
        if self.is_working() {
            return Err(Failure::refused("another change is going on"));
        }
        if self.stopping {
            return Err(Failure::refused("sluiced is stopping and takes no changes"));
        }
        self.begin_reading(Way::Reload, None, &Reload::default(), String::new(), false)
    }

    /// Begins a reload or a comparison. `stdin` is the file's text, if the request names one;
    /// `framed` says whether it could have one.
    ///
    /// # Errors
    /// There is no file to read.
    pub(super) fn begin_reading(
        &mut self,
        way: Way,
        peer: Option<Peer>,
        asked: &Reload,
        stdin: String,
        framed: bool,
    ) -> Result<(), Failure> {
        let (file, source) = match (&asked.file, &self.file) {
            (Some(_), _) if !framed => {
                let text = "a file's text comes as stdin of a JSON request; `sluice` does that";
                return Err(Failure::usage(format!("sluice: {text}")));
            }
            (Some(name), _) => (name.clone(), Source::Text(stdin)),
            (None, Some(path)) => (path.display().to_string(), Source::Path(path.clone())),
            (None, None) => {
                let text = "sluice: this daemon was started without a file; name one";
                return Err(Failure::usage(text));
            }
        };
        let (send, read) = channel();
        let name = file.clone();
        let reader = std::thread::Builder::new().name("reload".to_owned());
        // Who no longer wants to know is no longer there: then nobody is told.
        let spawned = reader.spawn(move || drop(send.send(source.read(&name))));
        spawned.map_err(|error| Failure::refused(format!("{file} can't be read now: {error}")))?;
        let asked = Asked {
            way,
            peer,
            file,
            take_file: asked.take_file,
            json: asked.json,
        };
        self.job = Some(Job::Reading(Reading { asked, read }));
        Ok(())
    }

    pub(super) fn look_at_file(&mut self, it: Reading) -> Step {
        match it.read.try_recv() {
            Err(TryRecvError::Empty) => Step::Wait(Job::Reading(it)),
            Err(TryRecvError::Disconnected) => {
                Step::Done(self.failed(&Failure::refused("reading the file failed")))
            }
            Ok(Err(errors)) => Step::Done(self.bad_file(&errors.to_string())),
            Ok(Ok(loaded)) if !loaded.not_built.is_empty() => {
                let lines: Vec<_> = loaded.not_built.iter().map(ToString::to_string).collect();
                Step::Done(self.bad_file(&lines.join("\n")))
            }
            Ok(Ok(loaded)) => {
                let merging = Merging::new(it.asked, self.loaded.clone(), loaded, self);
                if merging.applies() {
                    self.model.begin();
                }
                Step::More(Job::Merging(Box::new(merging)))
            }
        }
    }

    /// The running state stays as it is, and the log says so, for nobody reads the answer to a
    /// signal.
    fn bad_file(&mut self, lines: &str) -> Answer {
        for line in lines.lines().take(LOGGED) {
            tracing::warn!("reload: {line}");
        }
        self.failed(&Failure::refused(format!("{lines}\nnothing was changed")))
    }

    /// Some services more.
    pub(super) fn merge(&mut self, mut it: Box<Merging>) -> Step {
        let mut objects = 0;
        while objects < OBJECTS
            && let Some(listen) = it.left.pop()
        {
            let [before, file] = it.in_files(&listen);
            objects += 1 + file.map_or(0, |service| service.reals.len());
            let running = self.model.get(&listen);
            let merged = merge(&listen, before, file, running, it.asked.take_file);
            it.report.differences.extend(merged.differences);
            if let Some(wanted) = merged.wanted.filter(|_| it.applies())
                && let Err(failure) = self.make(&listen, wanted)
            {
                self.model.roll_back();
                self.forget_changes();
                return Step::Done(self.bad_file(&format!("{}: {failure}", it.asked.file)));
            }
        }
        if it.left.is_empty() {
            self.merged(*it)
        } else {
            Step::More(Job::Merging(it))
        }
    }

    fn make(&mut self, listen: &Listen, wanted: Wanted) -> Result<(), Failure> {
        let made = self.model.make(listen, wanted, &self.topology);
        let change =
            made.map_err(|error| Failure::refused(format!("service {listen}: {error}")))?;
        self.note(change);
        Ok(())
    }

    fn merged(&mut self, mut it: Merging) -> Step {
        if !it.applies() {
            return Step::Done(self.reported(&it.report, it.asked.json));
        }
        self.model.commit();
        self.take_rest(&it);
        self.loaded = it.file;
        it.report.applied = true;
        log(&it.report);
        let mut answer = self.reported(&it.report, it.asked.json);
        if !self.is_behind() {
            return Step::Done(answer);
        }
        answer.after = Some(0); // which, is known when it is published
        let audit = it.asked.peer.map(|peer| (peer, it.report.summary()));
        self.compile_all(
            answer,
            audit.map(|(peer, text)| (peer, format!("reload {text}"))),
        )
    }

    /// What is beside services.
    fn take_rest(&mut self, it: &Merging) {
        if it.before.vips != it.file.vips {
            self.vips.reload(&it.file.vips, &self.topology);
            self.unpublished = true;
        }
        if it.before.marks != it.file.marks {
            let next = self.publisher.generation() + 1;
            let marks = marks(&it.file.marks, &self.topology);
            self.compiler.set_marks(marks, next);
            self.unpublished = true;
        }
        if self.tunables.become_like(&it.tunables) {
            self.tune();
        }
    }

    fn reported(&self, report: &Report, json: bool) -> Answer {
        let exit = match report.way {
            Way::Reload if !report.applied => proto::errors::EXIT_REFUSED,
            Way::Diff if !report.is_same() => EXIT_NEGATIVE,
            _ => 0,
        };
        if json {
            return self.answer(exit, report.json(), String::new());
        }
        let warnings: String = report
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}\n"))
            .collect();
        let complaint = warnings + &report.complaint();
        let refused = exit == proto::errors::EXIT_REFUSED;
        let text = if refused {
            String::new()
        } else {
            report.text()
        };
        self.answer(exit, text, complaint)
    }

    /// The running state as a file: what the file loaded last says of everything that commands
    /// can't change, and the rest as it is.
    pub(super) fn as_file(&self) -> Config {
        let Config {
            dataplane,
            control,
            ports,
            routes,
            neighbours,
            vips,
            marks,
            ..
        } = &*self.loaded;
        let sysctls = self.tunables.sysctls();
        let services = self.model.services().into_iter();
        Config {
            dataplane: dataplane.clone(),
            control: control.clone(),
            ports: ports.clone(),
            routes: routes.clone(),
            neighbours: neighbours.clone(),
            vips: vips.clone(),
            marks: marks.clone(),
            sysctl: sysctls
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            timeouts: self.tunables.timeouts,
            services: services.map(|entry| entry.service()).collect(),
        }
    }
}

fn log(report: &Report) {
    tracing::info!("reload: {}", report.summary());
    let line = |it: &Difference| it.to_string();
    for it in report.changes().take(LOGGED) {
        tracing::info!("reload: {}", line(it));
    }
    for it in report.drift().take(LOGGED) {
        tracing::warn!("reload: {}", line(it));
    }
    for warning in report.warnings.iter().take(LOGGED) {
        tracing::warn!("reload: {warning}");
    }
}
