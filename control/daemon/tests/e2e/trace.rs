//! `sluice trace` of a daemon that runs: it says what the next packet gets, and changes nothing.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Daemon, Toml, web};
use crate::lab::{CLIENT, Lab, VIP, cores, real_address};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("trace::the_next_real_is_named", the_next_real_is_named),
    (
        "trace::two_workers_know_their_connections",
        two_workers_know_their_connections,
    ),
];

fn json(daemon: &Daemon, packet: &str) -> Result<Value, Failure> {
    let text = daemon.ask(&["trace", "--json", packet])?;
    serde_json::from_str(&text).map_err(|error| Failure::Wrong(format!("{error}:\n{text}")))
}

/// Everything that a question might change.
fn state(daemon: &Daemon) -> Result<String, Failure> {
    let numbers = daemon.ask(&["-Ln", "--stats", "--exact"])?;
    Ok(numbers + &daemon.ask(&["-Ln"])?)
}

/// The same once the last request's closing is through.
fn quiet(daemon: &Daemon) -> Result<String, Failure> {
    let mut before = state(daemon)?;
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(200));
        let now = state(daemon)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(Failure::Wrong(format!(
        "there is always something:\n{before}"
    )))
}

fn step<'a>(whole: &'a Value, name: &str) -> &'a Value {
    let steps = whole["steps"].as_array().into_iter().flatten();
    steps
        .into_iter()
        .find(|step| step["step"] == name)
        .unwrap_or(&Value::Null)
}

/// The traces are asked in between; clients get what these say.
fn the_next_real_is_named() -> Outcome {
    let lab = Lab::with_web(3)?;
    let daemon = Daemon::start(&lab, &Toml::with(web("rr", &[1, 1, 1])))?;
    let packet = format!("tcp {CLIENT}:50000 > {VIP}:80");
    for _ in 0..7 {
        let before = quiet(&daemon)?;
        let whole = json(&daemon, &packet)?;
        let again = json(&daemon, &packet)?;
        ensure!(whole == again, "another answer:\n{whole:#}\n{again:#}");
        let after = state(&daemon)?;
        ensure!(before == after, "before\n{before}\nafter\n{after}");
        let answers = lab.fetch(&format!("http://{VIP}/"), 1);
        let index = lab.shares(&answers).iter().position(|&share| share == 1);
        let index = index.ok_or_else(|| Failure::Wrong(format!("no answer: {answers:?}")))?;
        let real = format!("{}:80", real_address(index + 1));
        ensure!(whole["real"] == real, "{real} answered:\n{whole:#}");
        ensure!(whole["new"] == true, "{whole:#}");
    }
    let text = daemon.ask(&["trace", &packet])?;
    let chosen = text.lines().filter(|line| line.ends_with("chosen")).count();
    ensure!(
        chosen == 1 && text.contains("\nverdict     transmit by lan\n"),
        "{text}"
    );
    Ok(())
}

/// Each worker has some of the connections; a trace finds each with whoever has it.
fn two_workers_know_their_connections() -> Outcome {
    let cores = cores();
    let [first, second, ..] = cores[..] else {
        return Err(Failure::CannotRun("one processor only".to_owned()));
    };
    let mut lab = Lab::with_web(2)?;
    let toml = Toml {
        workers: vec![first, second],
        ..Toml::with(web("sh", &[1, 1]))
    };
    let daemon = Daemon::start(&lab, &toml)?;
    let client = lab.client();
    lab.start_peer(&client, &["tcp-hold", &format!("{VIP}:80"), "8"])?;
    let before = daemon.ask(&["-Lnc"])?;
    let rows: Vec<Vec<&str>> = before
        .lines()
        .filter(|line| line.contains("ESTABLISHED"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    ensure!(rows.len() == 8, "{before}");
    let numbers = quiet(&daemon)?;
    let mut workers = Vec::new();
    for row in &rows {
        let whole = json(&daemon, &format!("tcp {} > {} flags=A", row[3], row[4]))?;
        let known = step(&whole, "connection");
        let right = known["found"] == true && known["state"] == "ESTABLISHED";
        ensure!(right && whole["real"] == row[5], "{row:?}:\n{whole:#}");
        workers.push(whole["worker"].as_u64());
    }
    workers.sort_unstable();
    workers.dedup();
    ensure!(workers.len() == 2, "one worker has all eight: {workers:?}");
    let after = state(&daemon)?;
    ensure!(numbers == after, "before\n{numbers}\nafter\n{after}");
    Ok(())
}
