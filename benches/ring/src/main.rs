//! `bench-ring`: a worker and a generator on two cores, joined by DPDK's `net_ring`. `bench` runs it
//! once for each figure (DPDK starts once a process) and reads the one JSON object that it prints.
#![forbid(unsafe_code)]

mod apart;
mod core;
mod latency;
mod pace;
mod peer;

use std::process::ExitCode;
use std::time::Duration;

use benches::Case;
use dpdk::{Device, DeviceConfig, Eal, EalConfig, Hugepages, Pool, PoolConfig, Queue, ring};

const USAGE: &str = "usage: bench-ring core CASE FLOWS CORE CORE
       bench-ring latency CASE FLOWS CORE CORE MILLISECONDS";

/// Frame buffers under way between a worker and its generator: a few hot ones would flatter.
const BUFFERS: usize = 4096;
/// Places in a ring: all of them.
const SLOTS: u32 = 8192;

/// All frames are short: buffers lie closer together, as those of `dpdk/` do.
const MTU: u16 = 300;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) case: Case,
    pub(crate) flows: u32,
    /// The worker's and the generator's.
    pub(crate) cores: [usize; 2],
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["core", case, flows, worker, generator] => {
            asked(case, flows, [worker, generator]).and_then(core::measure)
        }
        ["latency", case, flows, worker, generator, milliseconds] => {
            let window = milliseconds.parse().map(Duration::from_millis);
            let asked = asked(case, flows, [worker, generator]);
            let window = window.map_err(|_| USAGE.to_owned());
            asked.and_then(|asked| latency::measure(asked, window?))
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bench-ring: {message}");
            ExitCode::FAILURE
        }
    }
}

fn asked(case: &str, flows: &str, cores: [&str; 2]) -> Result<Asked, String> {
    let number = |word: &str| word.parse().map_err(|_| USAGE.to_owned());
    let [worker, generator] = cores.map(number);
    let flows = flows.parse().ok().filter(|flows| *flows > 0);
    Ok(Asked {
        case: Case::named(case).ok_or(format!("no case is called {case}"))?,
        flows: flows.ok_or(USAGE)?,
        cores: [worker?, generator?],
    })
}

/// Both ends of a pair of rings. Fields go in this order.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) near: Queue,
    pub(crate) far: Queue,
    _devices: [Device; 2],
}

/// DPDK, a pool, and pairs of rings on it.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) pool: Pool,
    pub(crate) eal: Eal,
}

impl Room {
    /// For `pairs` pairs; the calling thread stays on `core`.
    pub(crate) fn new(pairs: usize, core: usize) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let held = u32::try_from(pairs * BUFFERS).map_err(|error| text(&error))?;
        let pool = PoolConfig {
            buffers: held + 2048,
            buffer_size: MTU + 84,
            socket: None,
        };
        let config = EalConfig {
            hugepages: Hugepages::Auto,
            pools: vec![pool],
            cores: vec![u16::try_from(core).map_err(|error| text(&error))?],
            ..EalConfig::default()
        };
        let eal = Eal::init(&config).map_err(|error| text(&error))?;
        let pool = Pool::new(&eal.handle(), pool).map_err(|error| text(&error))?;
        Ok(Self { pool, eal })
    }

    /// One pair.
    pub(crate) fn pair(&self) -> Result<Pair, String> {
        let handle = self.eal.handle();
        let ends = ring::pair(&handle, 1, SLOTS).map_err(|error| error.to_string())?;
        let open = |end, name| -> Result<(Queue, Device), String> {
            let config = DeviceConfig {
                mtu: MTU,
                ..DeviceConfig::new(name, &self.pool)
            };
            let device = Device::open_ring(&handle, end, config);
            let mut device = device.map_err(|error| error.to_string())?;
            device.start().map_err(|error| error.to_string())?;
            let queue = device.queue(0).map_err(|error| error.to_string())?;
            Ok((queue, device))
        };
        let (near, near_device) = open(ends.0, "near")?;
        let (far, far_device) = open(ends.1, "far")?;
        Ok(Pair {
            near,
            far,
            _devices: [near_device, far_device],
        })
    }
}

/// Puts the calling thread on a core.
pub(crate) fn pin(core: usize) -> Result<(), String> {
    let id = core_affinity::CoreId { id: core };
    match core_affinity::set_for_current(id) {
        true => Ok(()),
        false => Err(format!("this process may not run on core {core}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let good = asked("fullnat4-both", "1000", ["1", "0"]).expect("a case");
        assert_eq!((good.flows, good.cores), (1000, [1, 0]));
        for (case, flows, core) in [
            ("nat5-both", "1", "1"),
            ("nat4-both", "0", "1"),
            ("nat4-both", "1", "x"),
        ] {
            assert!(
                asked(case, flows, [core, "0"]).is_err(),
                "{case} {flows} {core}"
            );
        }
    }
}
