//! One service with its real servers: before, in the file, running.

use std::collections::HashMap;

use config::model::{Endpoint, Listen, Prefix, Real, Service};
use config::words;

use super::{Action, Difference};
use crate::model::{Origin, RealEntry, ServiceEntry};

/// What a service is to become, and why.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Merged {
    /// Where it is not as the file says.
    pub differences: Vec<Difference>,
    /// What it becomes; `None`: it is left alone.
    pub wanted: Option<Wanted>,
}

/// What a service becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It goes.
    Gone,
    /// It is this from now on.
    Is {
        /// Its settings, without real servers.
        settings: Box<Service>,
        /// Who made it.
        origin: Origin,
        /// Its real servers: those that are there already in their order, then the new ones.
        reals: Vec<(Real, Origin)>,
    },
}

/// What becomes of an object that may be in either file and may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody has it any more.
    Absent,
    /// The file brings it.
    Comes,
    /// A command took away what the file has.
    StaysAway,
    /// Both have it.
    Both,
    /// The file had it and has it no more.
    Goes,
    /// A command made it, and the file doesn't have it.
    Stays,
}

fn fate(before: bool, file: bool, running: Option<Origin>, take_file: bool) -> Fate {
    match (file, running) {
        (true, Some(_)) => Fate::Both,
        (true, None) if before && !take_file => Fate::StaysAway,
        (true, None) => Fate::Comes,
        (false, Some(Origin::Command)) if !take_file => Fate::Stays,
        (false, Some(_)) => Fate::Goes,
        (false, None) => Fate::Absent,
    }
}

/// Holds the three states of one service against each other.
pub fn merge(
    listen: &Listen,
    before: Option<&Service>,
    file: Option<&Service>,
    running: Option<&ServiceEntry>,
    take_file: bool,
) -> Merged {
    let origin = running.map(|entry| entry.origin);
    let fate = fate(before.is_some(), file.is_some(), origin, take_file);
    match (fate, file, running) {
        (Fate::Both, Some(file), Some(running)) => both(before, file, running, take_file),
        (Fate::Comes, Some(file), _) => comes(file),
        (Fate::StaysAway, ..) => {
            let difference = Difference::new(Action::Add, "service", listen).drift(true);
            Merged {
                differences: vec![difference],
                wanted: None,
            }
        }
        (Fate::Goes, _, Some(running)) if take_file => gone(running),
        (Fate::Goes | Fate::Stays, _, Some(running)) => without_file(running),
        _ => Merged::default(),
    }
}

fn gone(running: &ServiceEntry) -> Merged {
    let listen = running.settings.listen;
    Merged {
        differences: vec![Difference::new(Action::Remove, "service", listen)],
        wanted: Some(Wanted::Gone),
    }
}

fn comes(file: &Service) -> Merged {
    let listen = file.listen;
    let mut differences = vec![Difference::new(Action::Add, "service", listen)];
    let reals = file.reals.iter();
    differences
        .extend(reals.map(|it| Difference::new(Action::Add, "real", it.endpoint).of(listen)));
    let reals = file.reals.iter().cloned();
    let wanted = Some(Wanted::Is {
        settings: Box::new(without_reals(file)),
        origin: Origin::File,
        reals: reals.map(|real| (real, Origin::File)).collect(),
    });
    Merged {
        differences,
        wanted,
    }
}

/// The file has nothing of this service: what commands made of it stays, and the service for
/// as long as there is any of that.
fn without_file(running: &ServiceEntry) -> Merged {
    let listen = running.settings.listen;
    let (kept, going): (Vec<&RealEntry>, Vec<_>) = running
        .reals
        .iter()
        .partition(|real| real.origin == Origin::Command);
    if running.origin == Origin::File && kept.is_empty() {
        return gone(running);
    }
    let mut differences = vec![Difference::new(Action::Remove, "service", listen).drift(true)];
    let removed = going.iter().map(|it| it.real.endpoint);
    differences.extend(removed.map(|it| Difference::new(Action::Remove, "real", it).of(listen)));
    let changes = !going.is_empty() || running.origin == Origin::File;
    let reals = kept.into_iter().map(|it| (it.real.clone(), it.origin));
    let wanted = changes.then(|| Wanted::Is {
        settings: Box::new(running.settings.clone()),
        origin: Origin::Command,
        reals: reals.collect(),
    });
    Merged {
        differences,
        wanted,
    }
}

fn both(
    before: Option<&Service>,
    file: &Service,
    running: &ServiceEntry,
    take_file: bool,
) -> Merged {
    let mut merge = Merge {
        listen: file.listen,
        take_file,
        differences: Vec::new(),
    };
    let settings = merge.settings(before, file, &running.settings);
    let reals = merge.reals(before, file, running);
    // What the new file names for the first time is the file's from now on.
    let origin = if before.is_none() || take_file {
        Origin::File
    } else {
        running.origin
    };
    let is = Wanted::Is {
        settings: Box::new(settings),
        origin,
        reals,
    };
    Merged {
        wanted: (is != as_it_is(running)).then_some(is),
        differences: merge.differences,
    }
}

fn as_it_is(running: &ServiceEntry) -> Wanted {
    let reals = running.reals.iter();
    Wanted::Is {
        settings: Box::new(running.settings.clone()),
        origin: running.origin,
        reals: reals.map(|it| (it.real.clone(), it.origin)).collect(),
    }
}

fn without_reals(service: &Service) -> Service {
    Service {
        reals: Vec::new(),
        ..service.clone()
    }
}

/// A service that both have.
struct Merge {
    listen: Listen,
    take_file: bool,
    differences: Vec<Difference>,
}

impl Merge {
    /// One value: the file's, unless a command changed it.
    fn value<T: PartialEq + Clone>(
        &mut self,
        object: &Difference,
        key: &'static str,
        (before, file, running): (Option<&T>, &T, &mut T),
        show: impl Fn(&T) -> String,
    ) {
        if running == file {
            return;
        }
        let drift = !self.take_file && before != Some(&*running);
        let difference = object.clone().drift(drift);
        let difference = difference.values(key, show(running), show(file));
        self.differences.push(difference);
        if !drift {
            *running = file.clone();
        }
    }

    fn settings(&mut self, before: Option<&Service>, file: &Service, running: &Service) -> Service {
        let mut now = running.clone();
        let object = Difference::new(Action::Change, "service", self.listen);
        let object = &object;
        // Named one by one, so that the compiler asks about a new key.
        let Service {
            listen: _,
            scheduler,
            flags: _,
            persistence,
            one_packet,
            local_addresses,
            client_address,
            mss_clamp,
            block,
            allow,
            connection_timeout,
            expire_quiescent,
            synproxy,
            sorry_server,
            reals: _,
        } = file;
        // Flags mean something only with their scheduler.
        let chosen = |it: &Service| (it.scheduler, it.flags);
        let (old, mut new) = (before.map(chosen), chosen(&now));
        let asked = (*scheduler, file.flags);
        self.value(
            object,
            "scheduler",
            (old.as_ref(), &asked, &mut new),
            |it| words::scheduler(it.0, it.1),
        );
        (now.scheduler, now.flags) = new;
        let old = before.map(|it| &it.persistence);
        let values = (old, persistence, &mut now.persistence);
        self.value(object, "persistence", values, |it| {
            words::persistence(it.as_ref())
        });
        let old = before.map(|it| &it.one_packet);
        let values = (old, one_packet, &mut now.one_packet);
        self.value(object, "one_packet", values, ToString::to_string);
        let old = before.map(|it| &it.client_address);
        let values = (old, client_address, &mut now.client_address);
        self.value(object, "client_address", values, |&it| {
            words::client_address(it).to_owned()
        });
        let old = before.map(|it| &it.mss_clamp);
        let values = (old, mss_clamp, &mut now.mss_clamp);
        self.value(object, "mss_clamp", values, ToString::to_string);
        let old = before.map(|it| &it.connection_timeout);
        let values = (old, connection_timeout, &mut now.connection_timeout);
        self.value(object, "connection_timeout", values, |it| {
            it.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds} s"))
        });
        let old = before.map(|it| &it.expire_quiescent);
        let values = (old, expire_quiescent, &mut now.expire_quiescent);
        self.value(object, "expire_quiescent", values, ToString::to_string);
        let old = before.map(|it| &it.synproxy);
        let values = (old, synproxy, &mut now.synproxy);
        self.value(object, "synproxy", values, ToString::to_string);
        let old = before.map(|it| &it.sorry_server);
        let values = (old, sorry_server, &mut now.sorry_server);
        self.value(object, "sorry_server", values, |it| {
            words::sorry_server(it.as_ref())
        });
        let old = before.map_or(&[][..], |it| &it.local_addresses);
        let running_ones = &running.local_addresses;
        let lists = (old, &local_addresses[..], &running_ones[..]);
        now.local_addresses = self.items("local_address", lists, ToString::to_string);
        let old = before.map_or(&[][..], |it| &it.block);
        let lists = (old, &block[..], &running.block[..]);
        now.block = self.items("block", lists, Prefix::short);
        let old = before.map_or(&[][..], |it| &it.allow);
        let lists = (old, &allow[..], &running.allow[..]);
        now.allow = self.items("allow", lists, Prefix::short);
        now
    }

    /// Local addresses and clients on lists are objects: commands add and remove them one by one.
    fn items<T: Copy + PartialEq>(
        &mut self,
        kind: &'static str,
        (before, file, running): (&[T], &[T], &[T]),
        show: impl Fn(&T) -> String,
    ) -> Vec<T> {
        let mut now = Vec::new();
        for item in running {
            let drift = !self.take_file && !before.contains(item);
            if file.contains(item) {
                now.push(*item);
                continue;
            }
            self.item(kind, Action::Remove, show(item), drift);
            if drift {
                now.push(*item);
            }
        }
        for item in file.iter().filter(|it| !running.contains(it)) {
            let drift = !self.take_file && before.contains(item);
            self.item(kind, Action::Add, show(item), drift);
            if !drift {
                now.push(*item);
            }
        }
        now
    }

    fn item(&mut self, kind: &'static str, action: Action, item: String, drift: bool) {
        let difference = Difference::new(action, kind, item);
        self.differences
            .push(difference.of(self.listen).drift(drift));
    }

    fn reals(
        &mut self,
        before: Option<&Service>,
        file: &Service,
        running: &ServiceEntry,
    ) -> Vec<(Real, Origin)> {
        let old = by_endpoint(before.map_or(&[][..], |service| &service.reals));
        let new = by_endpoint(&file.reals);
        let mut now = Vec::with_capacity(file.reals.len());
        let mut here = HashMap::with_capacity(running.reals.len());
        for entry in &running.reals {
            let endpoint = entry.real.endpoint;
            here.insert(endpoint, ());
            let old = old.get(&endpoint).copied();
            match new.get(&endpoint) {
                Some(file) => now.push(self.real(old, file, entry)),
                None => now.extend(self.not_in_file(old.is_some(), entry)),
            }
        }
        for real in &file.reals {
            if here.contains_key(&real.endpoint) {
                continue;
            }
            let drift = !self.take_file && old.contains_key(&real.endpoint);
            self.differ(Action::Add, &real.endpoint, drift);
            if !drift {
                now.push((real.clone(), Origin::File));
            }
        }
        now
    }

    fn not_in_file(&mut self, before: bool, entry: &RealEntry) -> Option<(Real, Origin)> {
        let origin = Some(entry.origin);
        let stays = fate(before, false, origin, self.take_file) == Fate::Stays;
        self.differ(Action::Remove, &entry.real.endpoint, stays);
        stays.then(|| (entry.real.clone(), entry.origin))
    }

    fn differ(&mut self, action: Action, endpoint: &Endpoint, drift: bool) {
        let difference = Difference::new(action, "real", endpoint);
        self.differences
            .push(difference.of(self.listen).drift(drift));
    }

    fn real(&mut self, before: Option<&Real>, file: &Real, running: &RealEntry) -> (Real, Origin) {
        let Real {
            endpoint,
            mode,
            weight,
            upper,
            lower,
        } = file;
        let mut now = running.real.clone();
        if now != *file {
            let object = Difference::new(Action::Change, "real", endpoint).of(self.listen);
            let old = before.map(|it| &it.weight);
            let values = (old, weight, &mut now.weight);
            self.value(&object, "weight", values, ToString::to_string);
            let old = before.map(|it| &it.mode);
            self.value(&object, "mode", (old, mode, &mut now.mode), |&it| {
                words::mode(it)
            });
            // One without the other may make no sense.
            let limits = |it: &Real| (it.upper, it.lower);
            let (old, mut new) = (before.map(limits), limits(&now));
            let values = (old.as_ref(), &(*upper, *lower), &mut new);
            self.value(&object, "upper, lower", values, |(upper, lower)| {
                format!("{upper}, {lower}")
            });
            (now.upper, now.lower) = new;
        }
        let adopted = before.is_none() || self.take_file;
        let origin = if adopted {
            Origin::File
        } else {
            running.origin
        };
        (now, origin)
    }
}

fn by_endpoint(reals: &[Real]) -> HashMap<Endpoint, &Real> {
    reals.iter().map(|real| (real.endpoint, real)).collect()
}
