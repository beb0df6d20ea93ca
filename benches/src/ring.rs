//! What `bench-ring` measures: a worker on DPDK's `net_ring`, with a generator on another core.

use std::process::Command;
use std::time::Duration;

use benches::Case;
use benches::clock::Figures;
use serde_json::Value;

use crate::daemon::built;
use crate::process::cores;
use crate::report::{Report, Row};
use crate::{Options, new};

/// One run of it; what it prints.
fn run(what: &str, case: Case, flows: u32, more: &[&str]) -> Result<Value, String> {
    let cores = cores();
    let (Some(control), Some(worker)) = (cores.first(), cores.last()) else {
        return Err("no core".to_owned());
    };
    if control == worker {
        return Err("it needs two cores".to_owned());
    }
    let (flows, worker, control) = (flows.to_string(), worker.to_string(), control.to_string());
    let out = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(built("bench-ring")?)
        .args([what, &case.to_string(), &flows, &worker, &control])
        .args(more)
        .output()
        .map_err(|error| format!("bench-ring: {error}"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(said
            .lines()
            .last()
            .unwrap_or("bench-ring failed")
            .to_owned());
    }
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(text.trim()).map_err(|error| format!("bench-ring: {error}"))
}

fn figures(value: &Value) -> Option<Figures> {
    let of = |name: &str| value[name].as_f64();
    Some(Figures {
        median: of("median")?,
        p10: of("p10")?,
        min: of("min")?,
        p90: of("p90")?,
    })
}

/// `core/net-ring`: every case at each of these numbers of flows.
pub(crate) fn core(cases: &[Case], flows: &[u32], latest: Duration, report: &mut Report) {
    report
        .title("core: the same through net_ring, a generator on the other core; all of it counts");
    let mut starved = 0.0_f64;
    for &flows in flows {
        for &case in cases {
            if report.is_late(&format!("core/net-ring {case} {flows}"), latest) {
                continue;
            }
            if !new::fits(case, flows) {
                continue; // said by those on the memory port
            }
            let done = run("core", case, flows, &[]);
            let found = done.and_then(|done| {
                let ours = figures(&done["ours"]).ok_or("no figures")?;
                Ok((done, ours))
            });
            match found {
                Err(reason) => report.left_out(&format!("core/net-ring {case} {flows}"), &reason),
                Ok((done, ours)) => {
                    let floor = figures(&done["floor"]);
                    let row = Row::of("core/net-ring", case, flows);
                    report.add(row.timed(ours, floor));
                    starved = starved.max(done["starved"].as_f64().unwrap_or(0.0));
                    report.limit("generator_mpps", &done);
                    report.limit("ring_mpps", &done);
                    report.limit("apart_ns", &done);
                }
            }
        }
    }
    report.say_limits();
    println!(
        "rounds left out because the generator had not kept up: {:.1} % of a figure's at most",
        starved * 100.0
    );
}

/// Milliseconds for all loads of a case, and fewer.
const WINDOW: &str = "6000";
const SHORTER: &str = "1000";

/// `latency/`: every mode.
pub(crate) fn latency(options: &Options, report: &mut Report) {
    println!(
        "\nlatency: nanoseconds in the forwarder (two rings and a turn) at 10, 50 and 90 % of the \
         highest\nrate without loss, in slices of 2 ms in which nobody else had a core\n\
         {:<34} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>6} {:>5}",
        "", "flows", "Mpps", "p50", "p90", "p99", "p99.9", "max", "packets", "lost", "slices", "of"
    );
    let window = if options.quick { SHORTER } else { WINDOW };
    let flows: &[u32] = if options.quick {
        &[1_000]
    } else {
        &[1_000, 1_000_000]
    };
    for mode in benches::Mode::ALL {
        let case = Case {
            mode,
            ..Case::PLAIN
        };
        for &flows in flows {
            match run("latency", case, flows, &[window]) {
                Err(reason) => report.left_out(&format!("latency {case} {flows}"), &reason),
                Ok(done) => loads(case, flows, &done, report),
            }
        }
    }
}

fn loads(case: Case, flows: u32, done: &Value, report: &mut Report) {
    let highest = done["highest_mpps"].as_f64().unwrap_or(0.0);
    println!(
        "{case}: highest rate without loss {highest:.2} Mpps, confirmed for {} ms; more is more than the \
         {} can do",
        done["confirmed_ms"].as_u64().unwrap_or(0),
        done["limited_by"].as_str().unwrap_or("forwarder"),
    );
    for load in done["loads"].as_array().into_iter().flatten() {
        let percent = load["load_percent"].as_u64().unwrap_or(0);
        let name = format!("latency/{percent}-percent");
        let number = |name: &str| load[name].as_u64().unwrap_or(0);
        let mpps = load["offered_mpps"].as_f64().unwrap_or(0.0);
        let mut row = Row {
            mpps: Some((mpps * 100.0).round() / 100.0),
            ..Row::of(&name, case, flows)
        };
        println!(
            "{:<34} {flows:>9} {mpps:>8.2} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>6} {:>5}",
            row.label(),
            number("p50_ns"),
            number("p90_ns"),
            number("p99_ns"),
            number("p999_ns"),
            number("max_ns"),
            number("packets"),
            number("lost_packets"),
            number("slices"),
            number("slices") + number("left_out_slices"),
        );
        for field in [
            "load_percent",
            "packets",
            "lost_packets",
            "slices",
            "left_out_slices",
            "left_out_packets",
            "left_out_lost_packets",
            "p50_ns",
            "p90_ns",
            "p99_ns",
            "p999_ns",
            "max_ns",
        ] {
            row.more.insert(field.to_owned(), load[field].clone());
        }
        for field in ["highest_mpps", "limited_by", "confirmed_ms"] {
            row.more.insert(field.to_owned(), done[field].clone());
        }
        report.rows.push(row);
    }
}
