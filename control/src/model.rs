//! What is configured now: services and real servers, each with its origin.
//!
//! [`Model::apply`] is a pure function of the old model and a request: no clock, no socket,
//! no workers. Its errors are the data plane's errors of ipvsadm, word for word.

use std::collections::HashMap;
use std::net::IpAddr;

use config::built::{self, Feature, NotBuilt};
use config::model::{Endpoint, Family, Listen, Mode, Prefix, Real, Service, is_unicast};
use proto::command::{AccessEntry, AccessList, Clients, Command, LocalAddress};
use proto::errors::Failure;

use crate::reload::Wanted;
use crate::topology::Topology;

/// Who made an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File,
    /// A command.
    Command,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealEntry {
    /// Its settings.
    pub real: Real,
    /// Who added it.
    pub origin: Origin,
    /// When it was added to its service, in a count that only grows.
    pub order: u32,
    /// The last weight above 0 that it had; 0 if there was none.
    pub last_weight: u32,
    /// Whether it is the service's sorry server.
    pub sorry: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its settings; `reals` in there is empty.
    pub settings: Service,
    /// Who added it.
    pub origin: Origin,
    /// When it was added, in a count that only grows.
    pub serial: u64,
    /// Its real servers, oldest first.
    pub reals: Vec<RealEntry>,
    /// Its sorry server, whose weight is above 0 while it serves.
    sorry: Option<RealEntry>,
    next_order: u32,
}

impl RealEntry {
    /// Replaces all settings.
    fn edit(&mut self, real: Real) {
        if real.weight > 0 {
            self.last_weight = real.weight;
        }
        self.real = real;
    }
}

impl ServiceEntry {
    /// It and its real servers, as a file would have it.
    pub fn service(&self) -> Service {
        Service {
            reals: self.reals.iter().map(|entry| entry.real.clone()).collect(),
            ..self.settings.clone()
        }
    }

    fn new(service: &Service, origin: Origin, serial: u64) -> Self {
        let sorry = sorry_entry(service, origin);
        let settings = Service {
            reals: Vec::new(),
            ..service.clone()
        };
        Self {
            settings,
            origin,
            serial,
            reals: Vec::new(),
            sorry,
            next_order: 0,
        }
    }

    /// Every real server that there is now, oldest first: the sorry server too while it serves,
    /// or where it stays for its connections' sake.
    pub fn present(&self) -> impl Iterator<Item = &RealEntry> {
        let stays = |sorry: &&RealEntry| sorry.real.weight > 0 || self.inhibits();
        self.reals.iter().chain(self.sorry.iter().filter(stays))
    }

    /// Those among which the scheduler chooses, oldest first: the sorry server alone while it
    /// serves. Others of weight 0 would take a part of the hashing schedulers' tables.
    pub fn candidates(&self) -> &[RealEntry] {
        match &self.sorry {
            Some(sorry) if sorry.real.weight > 0 => std::slice::from_ref(sorry),
            _ => &self.reals,
        }
    }

    /// Those that there may be: who owns the service's connections must not change with the
    /// sorry server's coming and going.
    pub fn possible(&self) -> impl Iterator<Item = &RealEntry> {
        self.reals.iter().chain(&self.sorry)
    }

    fn inhibits(&self) -> bool {
        let sorry = self.settings.sorry_server.as_ref();
        sorry.is_some_and(|sorry| sorry.inhibit)
    }

    /// To be called after every change: the sorry server serves as soon as no other does, and no
    /// longer.
    fn relieve(&mut self) {
        let nobody = self.reals.iter().all(|entry| entry.real.weight == 0);
        if let Some(sorry) = &mut self.sorry {
            sorry.real.weight = if nobody { sorry.last_weight } else { 0 };
        }
    }

    fn position(&self, endpoint: &Endpoint) -> Option<usize> {
        let mut reals = self.reals.iter();
        reals.position(|entry| entry.real.endpoint == *endpoint)
    }

    /// These are its settings and its real servers from now on.
    fn replace(&mut self, settings: Service, origin: Origin, reals: Vec<(Real, Origin)>) {
        if settings.sorry_server != self.settings.sorry_server {
            self.sorry = sorry_entry(&settings, origin);
        }
        self.settings = settings;
        self.origin = origin;
        let before = std::mem::take(&mut self.reals).into_iter();
        let mut before: HashMap<_, _> = before.map(|it| (it.real.endpoint, it)).collect();
        for (real, origin) in reals {
            match before.remove(&real.endpoint) {
                None => self.push(real, origin),
                Some(mut entry) => {
                    entry.origin = origin;
                    entry.edit(real);
                    self.reals.push(entry);
                }
            }
        }
        self.relieve();
    }

    fn push(&mut self, real: Real, origin: Origin) {
        let order = self.next_order;
        self.next_order = self.next_order.wrapping_add(1);
        let last_weight = real.weight;
        self.reals.push(RealEntry {
            real,
            origin,
            order,
            last_weight,
            sorry: false,
        });
        self.relieve();
    }

    /// Whether there is, or may be, a real server of this address.
    fn knows(&self, endpoint: &Endpoint) -> bool {
        self.possible()
            .any(|entry| entry.real.endpoint == *endpoint)
    }
}

/// The sorry server that the settings name.
fn sorry_entry(service: &Service, origin: Origin) -> Option<RealEntry> {
    let sorry = service.sorry_server.as_ref()?;
    Some(RealEntry {
        real: sorry.real.clone(),
        origin,
        order: 0,
        last_weight: sorry.real.weight,
        sorry: true,
    })
}

/// Why the model refused a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// `-A` of a service that exists.
    #[error("Service already exists")]
    ServiceExists,
    /// `-E` or `-D` of a service that doesn't exist.
    #[error("No such service")]
    NoSuchService,
    /// `-a`, `-e` or `-d` of a service that doesn't exist.
    #[error("Service not defined")]
    ServiceNotDefined,
    /// `-a` of a real server that exists.
    #[error("Destination already exists")]
    DestinationExists,
    /// `-e` or `-d` of a real server that doesn't exist.
    #[error("No such destination")]
    NoSuchDestination,
    /// A persistence engine that nobody knows.
    #[error("Scheduler or persistence engine not found")]
    EngineNotFound,
    /// A lower threshold above the upper one.
    #[error("Numerical result out of range")]
    OutOfRange,
    /// `-P` of an address that the service has.
    #[error("Local address already exists")]
    LocalExists,
    /// `-Q` of an address that the service doesn't have.
    #[error("No such local address")]
    NoSuchLocal,
    /// A local address that is the director's own: replies would go to the kernel.
    #[error("local address {0} is the director's own address")]
    LocalIsOwn(IpAddr),
    /// `-U` or `-O` of clients that are on the list.
    #[error("List entry already exists")]
    ClientsExist,
    /// `-V` or `-Y` of clients that are not on the list.
    #[error("No such list entry")]
    NoSuchClients,
    /// Clients, or a real server that nothing translates to, of another family than the
    /// service's.
    #[error("Operation not supported with specified address family")]
    OtherFamily,
    /// A NAT or FULLNAT real server that is the director itself: the kernel's replies would leave
    /// as they are, and no client knows them.
    #[error("real server {0} is the director's own address: only -g reaches it")]
    RealIsOwn(IpAddr),
    /// `-F` names no port.
    #[error("No such device")]
    NoSuchDevice,
    /// An address that no host can have.
    #[error("Invalid operation.  Possibly wrong module version, address not unicast, ...")]
    Invalid,
    /// Something for a later version.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::NotBuilt(_) => Self::usage(error.to_string()),
            _ => Self::refused(error.to_string()),
        }
    }
}

/// What a request changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A service appeared, changed or went, its real servers included.
    Service(Listen),
    /// What packets of a service's clients have to ask changed, and nothing else.
    Asks(Listen),
    /// Every one of these services went.
    Flushed(Vec<Listen>),
}

/// All services.
#[derive(Clone, Debug, Default)]
pub struct Model {
    services: HashMap<Listen, ServiceEntry>,
    next_serial: u64,
    /// What changed since [`Model::begin`], as it was before; absent: nobody may take it back.
    journal: Option<HashMap<Listen, Option<ServiceEntry>>>,
}

impl Model {
    /// One service.
    pub fn get(&self, listen: &Listen) -> Option<&ServiceEntry> {
        self.services.get(listen)
    }

    /// Every service, in the order in which they were added.
    pub fn services(&self) -> Vec<&ServiceEntry> {
        let mut all: Vec<_> = self.services.values().collect();
        all.sort_by_key(|entry| entry.serial);
        all
    }

    /// How many services there are.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether there is no service.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// From here on changes can be taken back.
    pub fn begin(&mut self) {
        self.journal = Some(HashMap::new());
    }

    /// They stay.
    pub fn commit(&mut self) {
        self.journal = None;
    }

    /// They are taken back. Without [`Model::begin`] nothing is.
    pub fn roll_back(&mut self) {
        for (listen, before) in self.journal.take().unwrap_or_default() {
            match before {
                Some(entry) => self.services.insert(listen, entry),
                None => self.services.remove(&listen),
            };
        }
    }

    /// A service is about to change.
    fn note(&mut self, listen: &Listen) {
        if let Some(journal) = &mut self.journal {
            let before = self.services.get(listen);
            journal.entry(*listen).or_insert_with(|| before.cloned());
        }
    }

    /// A service to be changed.
    fn change(&mut self, listen: &Listen) -> Option<&mut ServiceEntry> {
        self.note(listen);
        self.services.get_mut(listen)
    }

    /// Makes a service what a reload wants of it. Real servers that are there keep their
    /// places; new ones come behind them.
    ///
    /// # Errors
    /// As for the commands that would make it.
    pub fn make(
        &mut self,
        listen: &Listen,
        wanted: Wanted,
        topology: &Topology,
    ) -> Result<Change, ApplyError> {
        let Wanted::Is {
            settings,
            origin,
            reals,
        } = wanted
        else {
            return self.delete_service(listen);
        };
        check_service(&settings)?;
        for local in &settings.local_addresses {
            check_local(local, topology)?;
        }
        let sorry = settings.sorry_server.as_ref().map(|sorry| &sorry.real);
        for real in reals.iter().map(|(real, _)| real).chain(sorry) {
            check_real(&settings, real, topology)?;
        }
        let twice = |sorry: &Real| reals.iter().any(|it| it.0.endpoint == sorry.endpoint);
        if sorry.is_some_and(twice) {
            return Err(ApplyError::DestinationExists);
        }
        if !self.services.contains_key(listen) {
            self.add_service(&settings, origin)?;
        }
        let entry = self.change(listen).ok_or(ApplyError::NoSuchService)?;
        entry.replace(*settings, origin, reals);
        Ok(Change::Service(*listen))
    }

    /// Adds a service of the file with its real servers.
    ///
    /// # Errors
    /// As for the commands that would add it.
    pub fn load(&mut self, service: &Service, topology: &Topology) -> Result<Change, ApplyError> {
        for local in &service.local_addresses {
            check_local(local, topology)?;
        }
        if let Some(sorry) = &service.sorry_server {
            check_real(service, &sorry.real, topology)?;
        }
        self.add_service(service, Origin::File)?;
        for real in &service.reals {
            self.add_real(&service.listen, real, Origin::File, topology)?;
        }
        Ok(Change::Service(service.listen))
    }

    /// Applies one command that changes services or real servers; on an error nothing changes.
    /// `None`: the command is not of that kind.
    pub fn apply(
        &mut self,
        command: &Command,
        topology: &Topology,
    ) -> Option<Result<Change, ApplyError>> {
        Some(match command {
            Command::AddService(service) => self.add_service(service, Origin::Command),
            Command::EditService(service) => self.edit_service(service),
            Command::DeleteService { listen } => self.delete_service(listen),
            Command::Flush => Ok(self.flush()),
            Command::AddReal { listen, real } => {
                self.add_real(listen, real, Origin::Command, topology)
            }
            Command::EditReal { listen, real } => self.edit_real(listen, real, topology),
            Command::DeleteReal { listen, endpoint } => self.delete_real(listen, endpoint),
            Command::AddLocalAddress(local) => self.add_local(local, topology),
            Command::DeleteLocalAddress(local) => self.delete_local(local),
            Command::AddAccess(entry) => self.add_clients(entry),
            Command::DeleteAccess(entry) => self.delete_clients(entry),
            _ => return None,
        })
    }

    fn add_service(&mut self, service: &Service, origin: Origin) -> Result<Change, ApplyError> {
        check_service(service)?;
        let listen = service.listen;
        if self.services.contains_key(&listen) {
            return Err(ApplyError::ServiceExists);
        }
        self.note(&listen);
        let serial = self.next_serial;
        self.next_serial += 1;
        let mut entry = ServiceEntry::new(service, origin, serial);
        entry.relieve();
        self.services.insert(listen, entry);
        Ok(Change::Service(listen))
    }

    /// Replaces what the command can say; keeps what has commands of its own: real servers, local
    /// addresses, lists of clients (reference A.3).
    fn edit_service(&mut self, new: &Service) -> Result<Change, ApplyError> {
        let entry = self.change(&new.listen);
        let entry = entry.ok_or(ApplyError::NoSuchService)?;
        check_service(new)?;
        let old = &mut entry.settings;
        old.scheduler = new.scheduler;
        old.flags = new.flags;
        old.persistence = new.persistence.clone();
        old.one_packet = new.one_packet;
        old.client_address = new.client_address;
        old.mss_clamp = new.mss_clamp;
        old.connection_timeout = new.connection_timeout;
        old.expire_quiescent = new.expire_quiescent;
        old.synproxy = new.synproxy;
        Ok(Change::Service(new.listen))
    }

    fn delete_service(&mut self, listen: &Listen) -> Result<Change, ApplyError> {
        self.note(listen);
        match self.services.remove(listen) {
            Some(_) => Ok(Change::Service(*listen)),
            None => Err(ApplyError::NoSuchService),
        }
    }

    fn flush(&mut self) -> Change {
        let all: Vec<Listen> = self.services.keys().copied().collect();
        let gone = self.services.drain();
        if let Some(journal) = &mut self.journal {
            for (listen, entry) in gone {
                journal.entry(listen).or_insert(Some(entry));
            }
        }
        Change::Flushed(all)
    }

    fn add_real(
        &mut self,
        listen: &Listen,
        real: &Real,
        origin: Origin,
        topology: &Topology,
    ) -> Result<Change, ApplyError> {
        let entry = self.for_real(listen)?;
        check_real(&entry.settings, real, topology)?;
        if entry.knows(&real.endpoint) {
            return Err(ApplyError::DestinationExists);
        }
        entry.push(real.clone(), origin);
        Ok(Change::Service(*listen))
    }

    /// Replaces all settings; its place in the list stays.
    fn edit_real(
        &mut self,
        listen: &Listen,
        real: &Real,
        topology: &Topology,
    ) -> Result<Change, ApplyError> {
        let entry = self.for_real(listen)?;
        check_real(&entry.settings, real, topology)?;
        let at = entry.position(&real.endpoint);
        let at = at.ok_or(ApplyError::NoSuchDestination)?;
        entry.reals[at].edit(real.clone());
        entry.relieve();
        Ok(Change::Service(*listen))
    }

    fn delete_real(&mut self, listen: &Listen, gone: &Endpoint) -> Result<Change, ApplyError> {
        let entry = self.for_real(listen)?;
        let at = entry.position(gone).ok_or(ApplyError::NoSuchDestination)?;
        entry.reals.remove(at);
        entry.relieve();
        Ok(Change::Service(*listen))
    }

    fn add_local(
        &mut self,
        local: &LocalAddress,
        topology: &Topology,
    ) -> Result<Change, ApplyError> {
        let entry = self.change(&local.listen);
        let entry = entry.ok_or(ApplyError::NoSuchService)?;
        check_local(&local.address, topology)?;
        let ports = topology.ports().next().is_some();
        if ports && topology.port_named(&local.interface).is_none() {
            return Err(ApplyError::NoSuchDevice);
        }
        if entry.settings.local_addresses.contains(&local.address) {
            return Err(ApplyError::LocalExists);
        }
        entry.settings.local_addresses.push(local.address);
        Ok(Change::Service(local.listen))
    }

    /// Connections from it go on; new ones are made from the others.
    fn delete_local(&mut self, local: &LocalAddress) -> Result<Change, ApplyError> {
        let entry = self.change(&local.listen);
        let all = &mut entry
            .ok_or(ApplyError::NoSuchService)?
            .settings
            .local_addresses;
        let at = all.iter().position(|address| *address == local.address);
        all.remove(at.ok_or(ApplyError::NoSuchLocal)?);
        Ok(Change::Service(local.listen))
    }

    fn add_clients(&mut self, entry: &AccessEntry) -> Result<Change, ApplyError> {
        let (list, network) = self.clients(entry)?;
        if list.contains(&network) {
            return Err(ApplyError::ClientsExist);
        }
        list.push(network);
        Ok(Change::Asks(entry.listen))
    }

    fn delete_clients(&mut self, entry: &AccessEntry) -> Result<Change, ApplyError> {
        let (list, network) = self.clients(entry)?;
        let at = list.iter().position(|one| *one == network);
        list.remove(at.ok_or(ApplyError::NoSuchClients)?);
        Ok(Change::Asks(entry.listen))
    }

    /// The list that an entry is for, and what stands on it.
    fn clients(&mut self, entry: &AccessEntry) -> Result<(&mut Vec<Prefix>, Prefix), ApplyError> {
        let service = self.change(&entry.listen);
        let settings = &mut service.ok_or(ApplyError::NoSuchService)?.settings;
        let Clients::Network(network) = entry.clients else {
            return Err(NotBuilt(Feature::AddressSets).into());
        };
        if Family::of(&network.address) != entry.listen.family() {
            return Err(ApplyError::OtherFamily);
        }
        let list = match entry.list {
            AccessList::Block => &mut settings.block,
            AccessList::Allow => &mut settings.allow,
        };
        Ok((list, network))
    }

    fn for_real(&mut self, listen: &Listen) -> Result<&mut ServiceEntry, ApplyError> {
        self.change(listen).ok_or(ApplyError::ServiceNotDefined)
    }
}

fn check_service(service: &Service) -> Result<(), ApplyError> {
    let engine = service
        .persistence
        .as_ref()
        .and_then(|p| p.engine.as_deref());
    if engine.is_some_and(|engine| engine != "sip") {
        return Err(ApplyError::EngineNotFound);
    }
    if service
        .listen
        .address()
        .is_some_and(|vip| !is_unicast(&vip))
    {
        return Err(ApplyError::Invalid);
    }
    Ok(built::service(service)?)
}

fn check_local(address: &IpAddr, topology: &Topology) -> Result<(), ApplyError> {
    if !is_unicast(address) {
        return Err(ApplyError::Invalid);
    }
    if topology.is_own(address) {
        return Err(ApplyError::LocalIsOwn(*address));
    }
    Ok(())
}

/// Whether an address is the director's, as a service sees it.
pub fn is_ours(listen: &Listen, address: &IpAddr, topology: &Topology) -> bool {
    address.is_loopback() || topology.is_own(address) || listen.address() == Some(*address)
}

fn check_real(service: &Service, real: &Real, topology: &Topology) -> Result<(), ApplyError> {
    if real.lower > real.upper {
        return Err(ApplyError::OutOfRange);
    }
    if !is_unicast(&real.endpoint.address) {
        return Err(ApplyError::Invalid);
    }
    let families = (service.listen.family(), Family::of(&real.endpoint.address));
    let goes_across = match real.mode {
        Mode::Tun(_) => true,
        Mode::FullNat => families == (Family::V6, Family::V4),
        Mode::Dr | Mode::Nat => false,
    };
    if families.0 != families.1 && !goes_across {
        return Err(ApplyError::OtherFamily);
    }
    built::real(service, real)?;
    let translated = matches!(real.mode, Mode::Nat | Mode::FullNat);
    let address = real.endpoint.address;
    if translated && is_ours(&service.listen, &address, topology) {
        return Err(ApplyError::RealIsOwn(address));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::{Persistence, PersistenceMask, Protocol, SchedulerKind};
    use std::net::Ipv4Addr;

    fn listen(port: u16) -> Listen {
        Listen::Address {
            protocol: Protocol::Tcp,
            address: IpAddr::from([10, 0, 0, 1]),
            port,
        }
    }

    fn settings(listen: Listen, scheduler: SchedulerKind) -> Service {
        Service {
            scheduler,
            ..Service::new(listen)
        }
    }

    fn add(port: u16) -> Command {
        Command::AddService(settings(listen(port), SchedulerKind::Rr))
    }

    fn edit(port: u16) -> Command {
        Command::EditService(settings(listen(port), SchedulerKind::Wlc))
    }

    fn real(last: u8, weight: u32) -> Real {
        Real {
            endpoint: Endpoint {
                address: IpAddr::from([10, 1, 2, last]),
                port: 80,
            },
            mode: Mode::Dr,
            weight,
            upper: 0,
            lower: 0,
        }
    }

    fn add_real(port: u16, real: Real) -> Command {
        let listen = listen(port);
        Command::AddReal { listen, real }
    }

    fn edit_real(port: u16, real: Real) -> Command {
        let listen = listen(port);
        Command::EditReal { listen, real }
    }

    fn delete_real(port: u16, last: u8) -> Command {
        Command::DeleteReal {
            listen: listen(port),
            endpoint: real(last, 1).endpoint,
        }
    }

    fn delete(port: u16) -> Command {
        let listen = listen(port);
        Command::DeleteService { listen }
    }

    fn answer(model: &mut Model, command: &Command) -> (String, u8) {
        let topology = crate::topology::tests::two_ports();
        match model
            .apply(command, &topology)
            .expect("it changes something")
        {
            Ok(_) => (String::new(), 0),
            Err(error) => {
                let failure = Failure::from(error);
                (failure.text, failure.exit)
            }
        }
    }

    #[test]
    fn every_refusal_has_ipvsadms_words_and_changes_nothing() {
        let nowhere = Real {
            endpoint: Endpoint {
                address: IpAddr::V4(Ipv4Addr::BROADCAST),
                port: 80,
            },
            ..real(1, 1)
        };
        let own = Real {
            endpoint: Endpoint {
                address: IpAddr::from([10, 1, 0, 2]),
                port: 80,
            },
            ..real(1, 1)
        };
        let odd = Real {
            lower: 50,
            ..real(3, 1)
        };
        let own = Real {
            mode: Mode::Nat,
            ..own
        };
        #[rustfmt::skip]
        let cases = [
            ("-A twice",              add(80),                         "Service already exists", 255),
            ("-E of nothing",         edit(81),                        "No such service", 255),
            ("-D of nothing",         delete(81),                      "No such service", 255),
            ("-a, no service",        add_real(81, real(1, 1)),        "Service not defined", 255),
            ("-e, no service",        edit_real(81, real(1, 1)),       "Service not defined", 255),
            ("-d, no service",        delete_real(81, 1),              "Service not defined", 255),
            ("-a twice",              add_real(80, real(1, 1)),        "Destination already exists", 255),
            ("-e of nothing",         edit_real(80, real(9, 1)),       "No such destination", 255),
            ("-d of nothing",         delete_real(80, 9),              "No such destination", 255),
            ("-y alone",              add_real(80, odd),               "Numerical result out of range", 255),
            ("-r broadcast",          add_real(80, nowhere),
             "Invalid operation.  Possibly wrong module version, address not unicast, ...", 255),
            ("-m -r the director",    add_real(80, own),
             "real server 10.1.0.2 is the director's own address: only -g reaches it", 255),
        ];
        let mut model = Model::default();
        for command in [add(80), add_real(80, real(1, 1))] {
            assert_eq!(answer(&mut model, &command), (String::new(), 0));
        }
        let before = model.services().into_iter().cloned().collect::<Vec<_>>();
        for (name, command, text, exit) in cases {
            assert_eq!(
                answer(&mut model, &command),
                (text.to_owned(), exit),
                "{name}"
            );
        }
        let after = model.services().into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(before, after);
    }

    #[test]
    fn an_unknown_engine_is_not_found() {
        let mut model = Model::default();
        let mut new = settings(listen(80), SchedulerKind::Rr);
        new.persistence = Some(Persistence {
            timeout: 1,
            mask: PersistenceMask::V4(Ipv4Addr::BROADCAST),
            engine: Some("quic".to_owned()),
        });
        let (text, exit) = answer(&mut model, &Command::AddService(new));
        assert_eq!(text, "Scheduler or persistence engine not found");
        assert_eq!(exit, 255);
    }

    #[test]
    fn an_edit_keeps_the_place_and_what_it_has_no_word_for() {
        let mut model = Model::default();
        for command in [
            add(80),
            add_real(80, real(1, 1)),
            add_real(80, real(2, 2)),
            edit_real(80, real(1, 7)),
            edit(80),
        ] {
            assert_eq!(answer(&mut model, &command), (String::new(), 0));
        }
        let entry = model.get(&listen(80)).expect("added");
        assert_eq!(entry.settings.scheduler, SchedulerKind::Wlc);
        let rows: Vec<_> = entry
            .reals
            .iter()
            .map(|r| (r.order, r.real.weight, r.origin))
            .collect();
        assert_eq!(rows, [(0, 7, Origin::Command), (1, 2, Origin::Command)]);
    }

    #[test]
    fn a_real_that_comes_back_is_the_newest() {
        let mut model = Model::default();
        for command in [
            add(80),
            add_real(80, real(1, 1)),
            add_real(80, real(2, 1)),
            delete_real(80, 1),
            add_real(80, real(1, 1)),
        ] {
            assert_eq!(answer(&mut model, &command), (String::new(), 0));
        }
        let entry = model.get(&listen(80)).expect("added");
        let orders: Vec<_> = entry.reals.iter().map(|r| r.order).collect();
        assert_eq!(orders, [1, 2]);
        assert_eq!(answer(&mut model, &Command::Flush).1, 0);
        assert!(model.is_empty());
    }
}
