//! The regression gate: instructions a packet, counted by callgrind, which no neighbour disturbs.
//!
//! A count holds for one compiler and one target processor; where others are, it is printed and
//! compared with nothing. What is counted is the worker's turn without the generator's two
//! functions: 1,000 established flows, every case; and of IPv4 every mode's new connections, those
//! that find a place and those that find none.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use benches::{Case, Direction, Family, Lab, Mode, Segments};
use dataplane::time::Millis;
use dataplane::verdict::Reason;

use crate::machine::compiler;
use crate::process::Folder;

const FLOWS: u32 = 1000;
const TURNS: u32 = 256;
/// More than so many percent above what is recorded fail.
const TOLERANCE_PERCENT: f64 = 2.0;
/// What callgrind is to collect, and what of it is not the worker's.
const COUNTED: &str = "benches::lab::Lab::counted";
const GENERATOR: [&str; 2] = ["Port>::rx_burst", "Port>::tx_burst"];
/// Frames here are the C library's memory: what giving one back takes is that one's.
const FREE: &str = "free";

/// What is counted of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Packets of established connections.
    Established,
    /// Connections' first packets: those of a table that they fill by half.
    Openings,
    /// The same where a table is full, and none of its connections may go.
    Refusals,
}

impl Work {
    /// The case, and what of it: `nat4-forward`, `nat4-openings`, `nat4-refusals`.
    fn named(name: &str) -> Option<(Case, Self)> {
        let opening = [("-openings", Self::Openings), ("-refusals", Self::Refusals)];
        let suffix = |&(suffix, work): &(&str, Self)| Some((name.strip_suffix(suffix)?, work));
        match opening.iter().find_map(suffix) {
            Some((case, work)) => Some((Case::named(&format!("{case}-forward"))?, work)),
            None => Some((Case::named(name)?, Self::Established)),
        }
    }
}

/// Work for callgrind to count.
pub(crate) fn count(name: &str) -> Result<(), String> {
    let (case, work) = Work::named(name).ok_or(format!("no case is called {name}"))?;
    let packets = TURNS * 32;
    match work {
        Work::Established => {
            let mut lab = Lab::established(case, FLOWS);
            lab.check(64);
            lab.counted(&mut |lab| lab.turns(TURNS, Millis(0)));
        }
        Work::Openings => {
            let mut lab = Lab::new(case, packets, 2 * packets);
            lab.counted(&mut |lab| lab.each(0..packets, Segments::Syn));
            lab.assert_lossless();
        }
        Work::Refusals => {
            let mut lab = Lab::full(case, packets);
            lab.port().restock(packets);
            lab.counted(&mut |lab| lab.each(packets..2 * packets, Segments::Syn));
            let refused = lab.counters.drop[Reason::TableFull as usize].get();
            assert_eq!(refused, u64::from(packets), "no SYN found a place");
        }
    }
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

fn is_generators(function: &str) -> bool {
    function == FREE || GENERATOR.iter().any(|own| function.contains(own))
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
            if is_generators(name) {
                generator.insert(id);
            }
            of_generator = generator.contains(id);
        } else if let Some(name) = line.strip_prefix("fn=") {
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if is_generators(name) {
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

/// What is counted: one direction at a time.
fn names() -> impl Iterator<Item = String> {
    let all = Case::all(&Family::ALL).into_iter();
    let established = all.filter(|case| case.direction != Direction::Both);
    let modes = Mode::ALL.iter().map(|mode| mode.name());
    let opening = modes.flat_map(|mode| [format!("{mode}4-openings"), format!("{mode}4-refusals")]);
    established.map(|case| case.to_string()).chain(opening)
}

/// Counts, and writes what was counted to `file`.
pub(crate) fn record(file: &Path) -> Result<(), String> {
    let mut text = format!("# {}\n", compiler());
    for name in names() {
        let count = instructions(&name)?;
        println!("{name:<18} {count:>7.1}");
        writeln!(text, "{name} {count:.1}").expect("text has room");
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
    for name in names() {
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
    fn what_is_counted_has_a_name_each() {
        let all: Vec<_> = names().collect();
        assert_eq!(all.len(), 20);
        assert!(all.iter().all(|name| Work::named(name).is_some()));
        let nat = Work::named("nat4-refusals").map(|(case, work)| (case.mode, work));
        assert_eq!(nat, Some((Mode::Nat, Work::Refusals)));
        assert_eq!(Work::named("nat4"), None);
    }

    #[test]
    fn the_generator_is_not_the_worker() {
        let text = "fn=(1) turn\n10 5\ncfn=(2) <Generator as dataplane::port::Port>::rx_burst\n\
                    calls=1 9\n11 30\n12 1\ncfn=(3) other\ncalls=2 9\n13 7\ncfn=(2)\ncalls=1 9\n\
                    14 20\ncfn=(4) free\ncalls=1 9\n15 3\ncfn=(5) is_free\ncalls=1 9\n16 2\n\
                    totals: 105\n";
        assert_eq!(collected(text), Some(52.0));
        assert_eq!(collected("fn=(1) turn\n"), None);
    }
}
