//! `control/`: what traffic notices of 10,000 changes a second, sent on one connection without waiting
//! for the answers, each of which comes when every worker runs with the change.
//!
//! Daemons with changes and daemons without take turns, each a fresh one: `status` counts turns from
//! the start. A turn takes in a burst, and sends it: nothing is in the forwarder for longer than its turn.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::clock::Figures;
use benches::{Case, Mode, Source, trace};
use serde_json::{Value, json};

use crate::Options;
use crate::daemon::{Daemon, Setup, counter, drops};
use crate::process::{Folder, cores};
use crate::report::{Report, Row};

const FLOWS: u32 = 1_000;
const CASE: Case = Case {
    mode: Mode::Nat,
    ..Case::PLAIN
};
/// Changes a second that are to be taken.
const RATE: u32 = 10_000;
/// How often a share of them is sent.
const SHARES: u32 = 200;
const MBUFS: u32 = 16_384;

/// Measures a NAT service; says why, where it can't.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(reason) = all(options, report) {
        report.left_out("control", &reason);
    }
}

/// What a while of traffic came to.
struct While {
    ns_per_packet: f64,
    lost: u64,
    packets: u64,
    /// Of turns: the median, and so on, in nanoseconds.
    turns: [f64; 4],
    /// Changes acknowledged a second.
    changes: f64,
}

fn all(options: &Options, report: &mut Report) -> Result<(), String> {
    let [control, .., worker] = cores()[..] else {
        return Err("it needs two cores".to_owned());
    };
    let folder = Folder::new("control")?;
    let file = folder.file("in.pcap");
    let packets = trace::forward(FLOWS, FLOWS);
    trace::write(&file, &Source::new(CASE, FLOWS), &packets).map_err(|error| error.to_string())?;
    let setup = Setup {
        case: CASE,
        device: format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display()),
        connections: 100_000,
        mbufs: MBUFS,
        mbuf_size: 384,
        core: worker,
        hugepages: MBUFS / 2800 + 128,
    };
    let (pairs, seconds) = if options.quick { (2, 2) } else { (5, 4) };
    println!(
        "\ncontrol: sluiced on net_pcap, NAT, {FLOWS} flows, without and with {RATE} changes a second \
         (control on core {control})\n{:<34} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>6}",
        "", "changes/s", "ns/packet", "p50", "p99", "p99.9", "max", "packets", "lost"
    );
    let mut whiles = [Vec::new(), Vec::new()];
    for _ in 0..pairs {
        for (rate, whiles) in [0, RATE].into_iter().zip(&mut whiles) {
            let daemon = Daemon::start(&setup, &folder)?;
            whiles.push(one(&daemon, rate, seconds)?);
        }
    }
    let [without, with] = &whiles;
    for (name, whiles) in [
        ("control/without-changes", without),
        ("control/10000-changes", with),
    ] {
        say(
            name,
            whiles,
            (name != "control/without-changes").then_some(without),
            report,
        );
    }
    let daemon = Daemon::start(&setup, &folder)?;
    let most = one(&daemon, u32::MAX, seconds)?;
    say(
        "control/as-many-as-it-takes",
        &[most],
        Some(without),
        report,
    );
    Ok(())
}

fn say(name: &str, whiles: &[While], without: Option<&Vec<While>>, report: &mut Report) {
    let median = |whiles: &[While], of: &dyn Fn(&While) -> f64| {
        Figures::of(whiles.iter().map(of).collect()).median
    };
    let turn = |at: usize| median(whiles, &|it: &While| it.turns[at]);
    let lost: u64 = whiles.iter().map(|it| it.lost).sum();
    let packets: u64 = whiles.iter().map(|it| it.packets).sum();
    let changes = median(whiles, &|it: &While| it.changes);
    let took = Figures::of(whiles.iter().map(|it| it.ns_per_packet).collect());
    let before = without.map(|it| Figures::of(it.iter().map(|it| it.ns_per_packet).collect()));
    let mut row = Row::of(name, CASE, FLOWS).timed(took, before);
    println!(
        "{:<34} {changes:>9.0} {:>9.1} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {packets:>9} {lost:>6}",
        row.label(),
        took.median,
        turn(0),
        turn(1),
        turn(2),
        turn(3),
    );
    let added =
        |at: usize| without.map(|without| turn(at) - median(without, &|it: &While| it.turns[at]));
    let more: [(&str, Value); 11] = [
        ("changes_per_second", json!(changes.round())),
        ("packets", json!(packets)),
        ("lost_packets", json!(lost)),
        ("turn_p50_ns", json!(turn(0))),
        ("turn_p99_ns", json!(turn(1))),
        ("turn_p999_ns", json!(turn(2))),
        ("turn_max_ns", json!(turn(3))),
        ("added_p50_ns", json!(added(0))),
        ("added_p99_ns", json!(added(1))),
        ("added_p999_ns", json!(added(2))),
        ("added_max_ns", json!(added(3))),
    ];
    let more = more.into_iter();
    row.more
        .extend(more.map(|(name, value)| (name.to_owned(), value)));
    report.rows.push(row);
}

/// Traffic for some seconds, and so many changes in each of them.
fn one(daemon: &Daemon, rate: u32, seconds: u64) -> Result<While, String> {
    let before = (daemon.process.on_cpu("worker-0")?, daemon.status()?);
    let window = Duration::from_secs(seconds);
    let changes = match rate {
        0 => {
            thread::sleep(window);
            0.0
        }
        _ => change(daemon, rate, window)?,
    };
    let after = (daemon.process.on_cpu("worker-0")?, daemon.status()?);
    let packets = counter(&after.1, "rx") - counter(&before.1, "rx");
    let turns = &after.1["workers"][0]["turns"];
    let of = |name: &str| turns[name].as_f64().unwrap_or(0.0) * 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    let ns_per_packet = (after.0 - before.0) as f64 / packets.max(1) as f64;
    Ok(While {
        ns_per_packet,
        lost: drops(&after.1).iter().map(|(_, count)| count).sum(),
        packets,
        turns: ["p50_us", "p99_us", "p999_us", "max_us"].map(of),
        changes,
    })
}

/// Sends changes at this rate and reads the answers beside; each must be there, in order, and say that
/// it was done. Says how many came a second.
fn change(daemon: &Daemon, rate: u32, window: Duration) -> Result<f64, String> {
    let stream = daemon.connect()?;
    let answers = stream.try_clone().map_err(|error| error.to_string())?;
    let wanted = Arc::new(AtomicU64::new(u64::MAX));
    let last = wanted.clone();
    let reading = thread::spawn(move || -> Result<(u64, Instant), String> {
        let mut lines = BufReader::new(answers).lines();
        for next in 0.. {
            let line = lines.next().ok_or("the daemon hung up")?;
            let line = line.map_err(|error| format!("no answer {next}: {error}"))?;
            let reply: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            if reply["id"] != json!(next) || reply["exit"] != json!(0) {
                return Err(format!("answer {next} is {line}"));
            }
            if next + 1 == last.load(Ordering::Acquire) {
                return Ok((next + 1, Instant::now()));
            }
        }
        unreachable!("numbers don't end")
    });
    let start = Instant::now();
    let sent = send(&stream, rate, start, window, &wanted)?;
    let done = reading.join();
    let (answered, at) = done.map_err(|_| "the reader panicked".to_owned())??;
    assert_eq!(answered, sent, "every change is acknowledged");
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    Ok(answered as f64 / at.duration_since(start).as_secs_f64())
}

fn send(
    mut stream: &std::os::unix::net::UnixStream,
    rate: u32,
    start: Instant,
    window: Duration,
    wanted: &AtomicU64,
) -> Result<u64, String> {
    let share = (rate / SHARES).clamp(1, 1000);
    let every = if rate == u32::MAX {
        Duration::ZERO
    } else {
        Duration::from_secs(1) / SHARES
    };
    let mut id = 0;
    let mut due = start;
    let mut more = true;
    while more {
        more = start.elapsed() < window;
        let lines: String = (id..id + u64::from(share)).map(line).collect();
        id += u64::from(share);
        if !more {
            // Before the last of them is sent, so that its answer is known for the last one.
            wanted.store(id, Ordering::Release);
        }
        stream
            .write_all(lines.as_bytes())
            .map_err(|error| error.to_string())?;
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(id)
}

/// Weights, and now and then a service that comes or goes.
fn line(id: u64) -> String {
    let round = id % 20;
    let other = "10.0.9.9:90";
    let argv: Vec<String> = match round {
        0 => vec![
            "-A".into(),
            "-t".into(),
            other.into(),
            "-s".into(),
            "wrr".into(),
        ],
        10 => vec!["-D".into(), "-t".into(), other.into()],
        _ => vec![
            "-e".into(),
            "-t".into(),
            "10.0.0.1:80".into(),
            "-r".into(),
            format!("10.1.0.{}:80", id % 16),
            "-m".into(),
            "-w".into(),
            (1 + id % 9).to_string(),
        ],
    };
    format!("{}\n", json!({"v": 1, "id": id, "argv": argv}))
}
