//! From the configuration file to running workers and back, in one order and its reverse.

use std::path::Path;
use std::sync::Arc;

use config::model::Config;
use config::toml::{self, Loaded};
use control::kernel::Kernel;
use control::run::{Control, Parts, StartError};
use control::signals::Signals;
use control::socket::{Socket, SocketError};
use control::topology::Topology;
use control::trace::Crew;
use dataplane::exchange::{Exchange, exchange};
use dataplane::handover::mesh;
use dataplane::owner::Steering;

use crate::cores;
use crate::exit::Exit;
use crate::log::Filter;
use crate::ports::Ports;
use crate::workers::{Share, Workers, random};

/// Entries of the table that names the owner of a hash: as many as the smaller NICs have (82599,
/// ENA, virtio), because theirs must be a multiple of it to do the same.
const STEERING_TABLE: usize = 128;
/// Who may change things.
const ROOT: u32 = 0;

/// What the process brings with it.
pub(crate) struct Host {
    pub(crate) signals: Signals,
    pub(crate) log: Filter,
}

/// Runs the daemon until it is told to stop.
pub(crate) fn run(file: &Path, host: Host) -> Result<(), Exit> {
    let config = read(file)?;
    let path = Path::new(&config.control.socket);
    let socket = Socket::claim(path, config.control.group.as_deref()).map_err(socket_exit)?;
    if config.ports.is_empty() {
        return without_ports(&config, file, socket, host);
    }
    check_cores(&config)?;
    for path in dpdk::leftovers::remove() {
        tracing::info!(
            "removed {}, left by a sluiced that was killed",
            path.display()
        );
    }
    let steering = Arc::new(steering(&config)?);
    let ports = Ports::open(&config, &steering)?;
    let ran = with_ports((&config, file), &ports, &steering, socket, host);
    ports.close();
    ran.map(drop) // kernel interfaces, then the socket
}

/// Reads the file; whatever is wrong with it goes into one answer.
fn read(file: &Path) -> Result<Config, Exit> {
    let Loaded {
        config,
        warnings,
        not_built,
        ..
    } = toml::read_file(file).map_err(Exit::configuration)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if not_built.is_empty() {
        return Ok(config);
    }
    let lines: Vec<_> = not_built.iter().map(ToString::to_string).collect();
    Err(Exit::Configuration(lines.join("\n")))
}

fn socket_exit(error: SocketError) -> Exit {
    match error {
        SocketError::NoGroup { .. } | SocketError::NoSocket { .. } => {
            Exit::configuration(format_args!("sluiced: {error}"))
        }
        SocketError::InUse { .. } | SocketError::Refused { .. } => Exit::device(error),
    }
}

/// A worker's core must be one that this process may use.
fn check_cores(config: &Config) -> Result<(), Exit> {
    let mut workers = config.dataplane.workers.iter();
    match workers.find(|&&core| !cores::usable(core)) {
        None => Ok(()),
        Some(core) => Err(Exit::configuration(format_args!(
            "sluiced: workers: core {core} is not one of those that this process may use \
             (`nproc --all` counts the machine's; a cpuset may allow fewer)"
        ))),
    }
}

/// Who owns what: one random key and one table for every port and worker.
fn steering(config: &Config) -> Result<Steering, Exit> {
    let workers = u16::try_from(config.dataplane.workers.len()).map_err(Exit::configuration)?;
    Steering::seeded(random()?, STEERING_TABLE, workers).map_err(Exit::configuration)
}

/// Control alone: nothing of DPDK is touched, and no right is needed.
fn without_ports(config: &Config, file: &Path, socket: Socket, host: Host) -> Result<(), Exit> {
    let parts = Parts {
        config,
        file: Some(file),
        topology: Topology::new(Vec::new(), config),
        kernel: Kernel::default(),
        socket,
        exchange: None,
        workers: Vec::new(),
        devices: Vec::new(),
        signals: Some(host.signals),
        administrator: ROOT,
    };
    let (mut control, _) = Control::new(parts).map_err(start_exit)?;
    control.set_log(Box::new(host.log));
    tracing::info!("ready, with no ports: no packet will come in");
    control.run().map_err(Exit::internal)
}

/// Control with workers, which have ended when it comes back. Control is given back so that
/// devices are closed before kernel interfaces and socket go.
fn with_ports(
    (config, file): (&Config, &Path),
    ports: &Ports,
    steering: &Arc<Steering>,
    socket: Socket,
    host: Host,
) -> Result<Control, Exit> {
    let topology = ports.topology(config);
    let kernel = Kernel::make(&topology).map_err(Exit::device)?;
    let count = steering.workers();
    let pool = ports.pool().ok_or_else(no_pool)?;
    let (ring, ends) = exchange(count, pool);
    let ring: Box<dyn Exchange> = Box::new(ring);
    let cores = config.dataplane.workers.iter();
    let workers: Vec<_> = cores.map(|&core| (core, Arc::default())).collect();
    let parts = Parts {
        config,
        file: Some(file),
        topology,
        kernel,
        socket,
        exchange: Some(ring),
        workers: workers.clone(),
        devices: ports.info(),
        signals: Some(host.signals),
        administrator: ROOT,
    };
    let (mut control, readers) = Control::new(parts).map_err(start_exit)?;
    control.set_log(Box::new(host.log));
    let crew = Crew {
        steering: steering.clone(),
        seed: random()?,
    };
    control.set_crew(crew.clone());
    let rings = ends.into_iter().zip(mesh(count));
    let mut shares = Vec::new();
    let each = workers.into_iter().zip(readers).zip(rings);
    for (worker, (((core, counters), reader), (exchange, peers))) in (0u16..).zip(each) {
        shares.push(Share {
            core,
            queues: ports.queues(worker)?,
            reader,
            exchange,
            peers,
            counters,
        });
    }
    let mut workers = Workers::start(config, &ports.handle(), &crew, shares)?;
    tracing::info!("ready");
    let ran = control.run().map_err(Exit::internal);
    workers.end();
    control.release_ports();
    ran.map(|()| control)
}

fn no_pool() -> Exit {
    Exit::internal("there are ports, but no pool of frame buffers")
}

fn start_exit(error: StartError) -> Exit {
    match error {
        StartError::Load(error) => Exit::configuration(error),
        StartError::System(error) => Exit::internal(error),
    }
}
