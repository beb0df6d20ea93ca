//! Starting, stopping, crashing: what the daemon leaves behind is nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Toml, web};
use crate::lab::{Lab, VIP};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("life::stopped_and_restarted", stopped_and_restarted),
    ("life::killed_and_restarted", killed_and_restarted),
    (
        "life::killed_and_restarted_on_hugepages",
        killed_and_restarted_on_hugepages,
    ),
    ("life::int_stops_too", int_stops_too),
    (
        "life::a_second_term_stops_at_once",
        a_second_term_stops_at_once,
    ),
    (
        "life::it_forwards_on_for_stop_delay",
        it_forwards_on_for_stop_delay,
    ),
];

fn answers_requests(lab: &Lab) -> Outcome {
    let answers = lab.fetch(&format!("http://{VIP}/"), 20);
    let shares = lab.shares(&answers);
    ensure!(shares == [10, 10], "20 requests gave {shares:?}");
    Ok(())
}

fn nothing_left(lab: &Lab, before: &std::collections::BTreeSet<String>) -> Outcome {
    let after = lab.traces();
    let left: Vec<&String> = after.difference(before).collect();
    // (What an older crash left may go, and does.)
    let gone = before
        .difference(&after)
        .filter(|trace| trace.contains("interface"));
    let gone: Vec<&String> = gone.collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    ensure!(gone.is_empty(), "no longer there: {gone:?}");
    ensure!(
        !lab.file("sluice.sock").exists(),
        "the socket is left behind"
    );
    Ok(())
}

fn stops_cleanly(daemon: &mut Daemon) -> Outcome {
    let status = daemon.stop()?;
    ensure!(
        status.code() == Some(0),
        "a stop gave {status}:\n{}",
        daemon.words()
    );
    Ok(())
}

fn stopped_and_restarted() -> Outcome {
    let lab = Lab::with_web(2)?;
    let toml = Toml::with(web("rr", &[1, 1]));
    let before = lab.traces();
    for _ in 0..2 {
        let mut daemon = Daemon::start(&lab, &toml)?;
        answers_requests(&lab)?;
        stops_cleanly(&mut daemon)?;
        nothing_left(&lab, &before)?;
    }
    Ok(())
}

/// Killed twice, so that a second crash finds what the first left; then stopped properly.
fn killed_and_restarted_with(hugepages: &'static str) -> Outcome {
    let lab = Lab::with_web(2)?;
    let toml = Toml {
        hugepages,
        ..Toml::with(web("rr", &[1, 1]))
    };
    let before = lab.traces();
    let free = free_hugepages();
    for _ in 0..2 {
        let mut daemon = Daemon::start(&lab, &toml)?;
        answers_requests(&lab)?;
        daemon.crash()?;
    }
    let mut daemon = Daemon::start(&lab, &toml)?;
    answers_requests(&lab)?;
    stops_cleanly(&mut daemon)?;
    nothing_left(&lab, &before)?;
    ensure!(
        free_hugepages() == free,
        "free hugepages: {free} before, {} after",
        free_hugepages()
    );
    Ok(())
}

fn killed_and_restarted() -> Outcome {
    killed_and_restarted_with("off")
}

const HUGEPAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

fn free_hugepages() -> u64 {
    let text = fs::read_to_string(format!("{HUGEPAGES}/free_hugepages")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// How often hugepages are asked for: a machine that was busy has its memory in pieces.
const ATTEMPTS: u32 = 5;

/// Lets the kernel put the pieces of free memory together, files that it only keeps at hand among
/// them. Where it may not be told to, time alone has to help.
fn mend_memory() {
    for file in ["drop_caches", "compact_memory"] {
        let _ = fs::write(format!("/proc/sys/vm/{file}"), "1");
    }
    std::thread::sleep(Duration::from_millis(200));
}

/// Hugepages that this test reserved; given back when dropped.
struct Reserved {
    before: String,
}

impl Reserved {
    /// Sees to it that this many pages of 2 MiB are free.
    fn at_least(pages: u64) -> Result<Self, Failure> {
        let path = format!("{HUGEPAGES}/nr_hugepages");
        let before = fs::read_to_string(&path)
            .map_err(|_| Failure::CannotRun("the kernel has no hugepages".to_owned()))?;
        let reserved = Self {
            before: before.trim().to_owned(),
        };
        let total = reserved.before.parse::<u64>().unwrap_or(0) + pages;
        for attempt in 0..ATTEMPTS {
            if free_hugepages() >= pages {
                return Ok(reserved);
            }
            if attempt > 0 {
                mend_memory();
            }
            fs::write(&path, total.to_string())
                .map_err(|_| Failure::CannotRun("hugepages cannot be reserved".to_owned()))?;
        }
        if free_hugepages() < pages {
            return Err(Failure::CannotRun(format!(
                "{pages} hugepages cannot be had"
            )));
        }
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = fs::write(format!("{HUGEPAGES}/nr_hugepages"), &self.before);
    }
}

fn killed_and_restarted_on_hugepages() -> Outcome {
    let _reserved = Reserved::at_least(256)?;
    killed_and_restarted_with("require")
}

fn int_stops_too() -> Outcome {
    let lab = Lab::new(0)?;
    let before = lab.traces();
    let mut daemon = Daemon::start(&lab, &Toml::default())?;
    daemon.signal(Signal::SIGINT)?;
    let status = daemon.wait()?;
    ensure!(
        status.code() == Some(0),
        "INT gave {status}:\n{}",
        daemon.words()
    );
    nothing_left(&lab, &before)
}

fn a_second_term_stops_at_once() -> Outcome {
    let lab = Lab::new(0)?;
    let before = lab.traces();
    let toml = Toml {
        control: "stop_delay = 60".to_owned(),
        ..Toml::default()
    };
    let mut daemon = Daemon::start(&lab, &toml)?;
    daemon.signal(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(
        !daemon.ended(),
        "it did not wait for stop_delay:\n{}",
        daemon.words()
    );
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.wait()?;
    let took = start.elapsed();
    ensure!(
        took < Duration::from_secs(5),
        "the second TERM took {took:?}"
    );
    ensure!(
        status.signal().is_none(),
        "the second TERM ended it by a signal: {status}"
    );
    nothing_left(&lab, &before)
}

/// Its VIPs are given up at once, but who has the way to it still gets through.
fn it_forwards_on_for_stop_delay() -> Outcome {
    let lab = Lab::with_web(2)?;
    let before = lab.traces();
    let toml = Toml {
        control: "stop_delay = 4".to_owned(),
        ..Toml::with(web("rr", &[1, 1]))
    };
    let mut daemon = Daemon::start(&lab, &toml)?;
    answers_requests(&lab)?;
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_millis(500));
    let refused = daemon.sluice(&["-A", "-t", "10.83.0.101:80"]);
    ensure!(
        !refused.status.success(),
        "a change was accepted while stopping"
    );
    answers_requests(&lab)?;
    let status = daemon.wait()?;
    ensure!(
        status.code() == Some(0),
        "the stop gave {status}:\n{}",
        daemon.words()
    );
    ensure!(
        start.elapsed() >= Duration::from_secs(4),
        "it stopped after {:?}",
        start.elapsed()
    );
    nothing_left(&lab, &before)
}
