//! The workers' threads: each pinned, known to DPDK, and with tables of its own.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arch::{PageKind, Pages, Tsc};
use config::model::{Config, Dataplane, Hugepages};
use control::trace::Crew;
use dataplane::exchange::WorkerEnd;
use dataplane::handover::Peers;
use dataplane::port::WorkerId;
use dataplane::published::Reader;
use dataplane::services::Snapshot;
use dataplane::time::Clock;
use dataplane::verdict::Counters;
use dataplane::worker::{Idle, Parts, Worker};
use dpdk::{Handle, Mbuf, Queue};

use crate::cores;
use crate::exit::Exit;

/// How long the processor's clock is measured.
const CALIBRATION: Duration = Duration::from_millis(20);

/// What one worker's thread starts from.
struct Seed {
    core: u16,
    idle: Idle,
    clock: Clock,
    handle: Handle,
    parts: Parts<Queue>,
}

/// The running workers.
pub(crate) struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One worker's share of what control made.
pub(crate) struct Share {
    pub(crate) core: u16,
    pub(crate) queues: Vec<Queue>,
    pub(crate) reader: Reader<Snapshot>,
    pub(crate) exchange: WorkerEnd<Mbuf>,
    pub(crate) peers: Peers<Mbuf>,
    pub(crate) counters: Arc<Counters>,
}

impl Workers {
    /// Starts one thread for each share; comes back when all run, or one can't.
    pub(crate) fn start(
        config: &Config,
        handle: &Handle,
        Crew { steering, seed }: &Crew,
        shares: Vec<Share>,
    ) -> Result<Self, Exit> {
        let hash_key = [random()?, random()?];
        let seed = *seed;
        let clock = Clock::start(Tsc::calibrate(CALIBRATION).hz());
        let seeds = (0u16..).zip(shares).map(|(id, share)| Seed {
            core: share.core,
            idle: cores::idle(config.dataplane.idle, share.core),
            clock,
            handle: handle.clone(),
            parts: Parts {
                id: WorkerId(id),
                ports: share.queues,
                reader: share.reader,
                exchange: share.exchange,
                peers: share.peers,
                steering: steering.clone(),
                counters: share.counters,
                connections: config.dataplane.connections,
                connections_v6: config.dataplane.connections_v6,
                pages: pages(&config.dataplane),
                hash_key,
                seed,
                now: clock.now(),
            },
        });
        let mut workers = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let started = workers.spawn(seeds);
        started.inspect_err(|_| workers.end())?;
        Ok(workers)
    }

    fn spawn(&mut self, seeds: impl Iterator<Item = Seed>) -> Result<(), Exit> {
        let (ready, news) = channel();
        for seed in seeds {
            let (ready, stop) = (ready.clone(), self.stop.clone());
            let named = thread::Builder::new().name(format!("worker-{}", seed.parts.id.0));
            let thread = named.spawn(move || work(seed, &stop, &ready));
            self.threads.push(thread.map_err(Exit::device)?);
        }
        drop(ready);
        for _ in 0..self.threads.len() {
            let said = news.recv().map_err(Exit::internal)?;
            tracing::info!("{}", said.map_err(Exit::device)?);
        }
        Ok(())
    }

    /// Ends all workers and waits for them.
    pub(crate) fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker's thread panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}

fn pages(dataplane: &Dataplane) -> Pages {
    match dataplane.hugepages {
        Hugepages::Auto => Pages::Auto,
        Hugepages::Require => Pages::Require,
        Hugepages::Off => Pages::Off,
    }
}

/// One worker's life.
fn work(seed: Seed, stop: &AtomicBool, ready: &Sender<Result<String, String>>) {
    let Seed {
        core,
        idle,
        clock,
        handle,
        parts,
    } = seed;
    let id = parts.id.0;
    let say = |said| {
        // Whoever waits for it may have given up already.
        let _ = ready.send(said);
    };
    if !cores::pin(core) {
        return say(Err(format!("worker {id} can't run on core {core}")));
    }
    let registration = match handle.register_thread() {
        Ok(registration) => registration,
        Err(error) => return say(Err(format!("worker {id}: {error}"))),
    };
    let mut worker = match Worker::new(parts) {
        Ok(worker) => worker,
        Err(error) => return say(Err(format!("worker {id}: {error}"))),
    };
    let (v4, kind) = worker.state().v4.memory();
    let (v6, _) = worker.state().v6.memory();
    let bytes = v4 + v6;
    say(Ok(format!(
        "worker {id} on core {core} (lcore {}): {} MiB of connection tables on {}, idle: {idle:?}",
        registration.lcore(),
        bytes >> 20,
        pages_named(kind)
    )));
    dpdk::worker::run(&mut worker, stop, idle, &clock);
}

fn pages_named(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Huge => "hugepages",
        PageKind::Transparent => "transparent hugepages, as the kernel has them",
        PageKind::Ordinary => "ordinary pages (hugepages make look-ups about 1.3x faster)",
    }
}

/// A number that nobody can guess.
pub(crate) fn random() -> Result<u64, Exit> {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Exit::device(format_args!("/dev/urandom: {error}")))?;
    Ok(u64::from_ne_bytes(bytes))
}
