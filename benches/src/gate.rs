//! The regression gate: instructions a packet, counted by callgrind, which no neighbour disturbs.
//!
//! A count holds for one compiler and one target processor; where others are, it is printed and
//! compared with nothing. What is counted is the worker's turn without the generator's two
//! functions: 1,000 established flows, every case.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use benches::{Case, Direction, Family, Lab};

use crate::machine::compiler;
use crate::process::Folder;

const FLOWS: u32 = 1000;
const TURNS: u32 = 256;
/// More than so many percent above what is recorded fail.
const TOLERANCE_PERCENT: f64 = 2.0;
/// What callgrind is to collect, and what of it is not the worker's.
const COUNTED: &str = "benches::lab::Lab::counted";
const GENERATOR: [&str; 2] = ["Port>::rx_burst", "Port>::tx_burst"];

/// Turns for callgrind to count.
pub(crate) fn count(name: &str) -> Result<(), String> {
    let case = Case::named(name).ok_or(format!("no case is called {name}"))?;
    let mut lab = Lab::established(case, FLOWS);
    lab.check(64);
    lab.counted(TURNS);
    Ok(())
}

/// Instructions a packet of a worker's turn.
pub(crate) fn instructions(name: &str) -> Result<f64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = Folder::new("callgrind")?;
    let out = folder.file(name);
    let done = Command::new("valgrind")
        .arg("--tool=callgrind")
        // Without its pipes for a debugger, which one that is killed leaves behind.
        .arg("--vgdb=no")
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["count", name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    let text = std::fs::read_to_string(&out);
    let text = text.map_err(|error| format!("{}: {error}", out.display()))?;
    let total = collected(&text).ok_or("callgrind counted nothing")?;
    Ok(total / f64::from(TURNS * 32))
}

/// What callgrind collected, without the generator's.
fn collected(text: &str) -> Option<f64> {
    let (mut total, mut others) = (None, 0.0);
    let mut generator: HashSet<&str> = HashSet::new();
    let (mut of_generator, mut is_call) = (false, false);
    for line in text.lines() {
        if let Some(callee) = line.strip_prefix("cfn=") {
            // "(12) name" at first, "(12)" from then on.
            let (id, name) = callee.split_once(' ').unwrap_or((callee, ""));
            if GENERATOR.iter().any(|own| name.contains(own)) {
                generator.insert(id);
            }
            of_generator = generator.contains(id);
        } else if let Some(name) = line.strip_prefix("fn=") {
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if GENERATOR.iter().any(|own| name.contains(own)) {
                generator.insert(id);
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if is_call {
            is_call = false;
            if of_generator {
                others += line.split_whitespace().nth(1)?.parse::<f64>().ok()?;
            }
        } else if let Some(sum) = line.strip_prefix("totals:") {
            total = sum.trim().parse::<f64>().ok();
        }
    }
    Some(total? - others)
}

/// The cases that are counted: one direction at a time.
fn cases() -> impl Iterator<Item = Case> {
    let all = Case::all(&Family::ALL).into_iter();
    all.filter(|case| case.direction != Direction::Both)
}

/// Counts, and writes what was counted to `file`.
pub(crate) fn record(file: &Path) -> Result<(), String> {
    let mut text = format!("# {}\n", compiler());
    for case in cases() {
        let count = instructions(&case.to_string())?;
        println!("{case:<18} {count:>7.1}");
        writeln!(text, "{case} {count:.1}").expect("text has room");
    }
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Counts, and compares with what `file` says.
pub(crate) fn compare(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
    let mut lines = text.lines();
    let recorded = lines.next().and_then(|line| line.strip_prefix("# "));
    let here = compiler();
    let comparable = recorded == Some(here.as_str());
    let before: Vec<_> = lines.filter_map(|line| line.split_once(' ')).collect();
    let mut worse = Vec::new();
    for case in cases() {
        let name = case.to_string();
        let count = instructions(&name)?;
        let before = before.iter().find(|(case, _)| *case == name);
        let before: Option<f64> = before.and_then(|(_, count)| count.parse().ok());
        let change = before.map(|before| (count / before - 1.0) * 100.0);
        let shown = change.map_or("new".to_owned(), |change| format!("{change:+.1} %"));
        println!("{name:<18} {count:>7.1} {shown:>9}");
        if change.is_none_or(|change| change > TOLERANCE_PERCENT) {
            worse.push(name);
        }
    }
    if !comparable {
        let recorded = recorded.unwrap_or("nothing");
        println!("not compared: recorded with {recorded}, here is {here}");
        return Ok(());
    }
    match worse.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "more instructions a packet than {} says, by over {TOLERANCE_PERCENT} %, in {}; if that \
             is worth it, record it: scripts/bench --gate --record",
            file.display(),
            worse.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_not_the_worker() {
        let text = "fn=(1) turn\n10 5\ncfn=(2) <Generator as dataplane::port::Port>::rx_burst\n\
                    calls=1 9\n11 30\n12 1\ncfn=(3) other\ncalls=2 9\n13 7\ncfn=(2)\ncalls=1 9\n\
                    14 20\ntotals: 100\n";
        assert_eq!(collected(text), Some(50.0));
        assert_eq!(collected("fn=(1) turn\n"), None);
    }
}
