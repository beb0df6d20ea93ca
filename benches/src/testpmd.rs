//! DPDK's own forwarder, to compare with.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Folder, Process, free_hugepages};

/// The thread that forwards.
pub(crate) const THREAD: &str = "rte-worker-";

/// What it is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// `macswap` and its like.
    pub(crate) forward: &'static str,
    pub(crate) device: String,
    pub(crate) mbufs: u32,
    /// Octets of each; headroom not included.
    pub(crate) mbuf_size: u16,
    /// Its own, and the one that forwards.
    pub(crate) cores: [u16; 2],
    /// 2 MiB pages that it needs; without them all lies on ordinary ones.
    pub(crate) hugepages: u32,
    /// More words.
    pub(crate) more: Vec<String>,
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Testpmd {
    /// The process.
    pub(crate) process: Process,
    stdin: ChildStdin,
    log: PathBuf,
    thread: String,
}

impl Testpmd {
    /// Starts it; it forwards at once.
    pub(crate) fn start(setup: &Setup, folder: &Folder) -> Result<Self, String> {
        let log = folder.file("testpmd.log");
        let [main, worker] = setup.cores;
        let mut words = vec![
            "--lcores".to_owned(),
            format!("{main},{worker}"),
            "--main-lcore".to_owned(),
            main.to_string(),
            "--no-pci".to_owned(),
            "--no-telemetry".to_owned(),
            format!("--file-prefix={}", prefix()),
            format!("--vdev={}", setup.device),
        ];
        if free_hugepages() >= setup.hugepages {
            words.push("--in-memory".to_owned());
        } else {
            // As for the daemon: a buffer may not cross a page.
            let room = u32::from(setup.mbuf_size) + 128 + 192;
            let memory = setup.mbufs.div_ceil((4096 / room).max(1)) / 256 + 128;
            words.extend(["--no-huge".to_owned(), "-m".to_owned(), memory.to_string()]);
            // Who is not root looks like it in the namespace: what DPDK wants to share then lies in a
            // folder of root's.
            words.push("--no-shconf".to_owned());
        }
        let size = setup.mbuf_size + 128;
        words.extend([
            "--".to_owned(),
            "-i".to_owned(),
            "--auto-start".to_owned(),
            format!("--forward-mode={}", setup.forward),
            format!("--mbuf-size={size}"),
            format!("--total-num-mbufs={}", setup.mbufs),
            "--burst=32".to_owned(),
            "--no-flush-rx".to_owned(),
        ]);
        words.extend(setup.more.iter().cloned());
        let mut process = Process::start(
            "/usr/bin/dpdk-testpmd".as_ref(),
            &words,
            &log,
            Stdio::piped(),
        )
        .map_err(|error| format!("dpdk-testpmd: {error}"))?;
        let stdin = process.stdin().ok_or("dpdk-testpmd has no input")?;
        process.wait_for(&log, |said| said.contains("RX queue: 0").then_some(()))?;
        Ok(Self {
            process,
            stdin,
            log,
            thread: format!("{THREAD}{worker}"),
        })
    }

    /// Its port's counter of this name, such as `RX-packets`.
    pub(crate) fn counter(&mut self, name: &str) -> Result<u64, String> {
        let said = |log: &PathBuf| std::fs::read_to_string(log).unwrap_or_default();
        let before = said(&self.log).len();
        writeln!(self.stdin, "show port stats 0").map_err(|error| error.to_string())?;
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let text = said(&self.log);
            let fresh = text.get(before..).unwrap_or_default();
            let value = fresh.split_once(&format!("{name}:")).and_then(|(_, rest)| {
                let (line, _) = rest.split_once('\n')?;
                line.split_whitespace().next()?.parse().ok()
            });
            if let Some(value) = value {
                return Ok(value);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Err(format!("dpdk-testpmd does not tell {name}"))
    }

    /// The time that it forwarded, in nanoseconds.
    pub(crate) fn on_cpu(&self) -> Result<u64, String> {
        self.process.on_cpu(&self.thread)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        self.process.kill();
        // Where DPDK keeps what belongs to a process, root's and others'.
        for base in ["/var/run/dpdk", "/tmp/dpdk"] {
            let _ = std::fs::remove_dir_all(std::path::Path::new(base).join(prefix()));
        }
    }
}

fn prefix() -> String {
    format!("sluice-bench-{}", std::process::id())
}
