//! `scale/`: two workers of one process beside two processes of one worker each; and, for as many
//! queues as this machine has no cores for, how even the spread over them is and how often a worker has
//! to hand a packet over.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use benches::clock::{Figures, on_cpu};
use benches::lab::{Counted, fields, steering, workers_on};
use benches::{Case, Family, Generator, Mode, Segments};
use dataplane::conn::Key;
use dataplane::local::{LocalPorts, ReplyHash};
use dataplane::owner::Fields;
use dataplane::port::{PortId, WorkerId};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use serde_json::json;

use crate::Options;
use crate::process::cores;
use crate::report::{Report, Row};

/// Turns of a round, and the time that one side of a comparison runs.
const TURNS: u32 = 64;
const PACKETS: u32 = TURNS * 32;
const WINDOW: Duration = Duration::from_millis(100);

/// Measures both.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(reason) = two(options, report) {
        report.left_out("scale/two-workers", &reason);
    }
    spread(options, report);
}

/// A worker whose flows are open, and which draws from its own alone.
struct Ready {
    worker: dataplane::worker::Worker<Generator>,
    counters: Arc<Counters>,
}

/// Workers of one process, each with `flows` flows that belong to it.
fn ready(case: Case, flows: u32, workers: u16) -> Vec<Ready> {
    let all = flows * u32::from(workers);
    // Spread by chance: some room.
    let room = flows + flows / 3 + 1024;
    let ports = (0..workers).map(|_| Generator::new(case, all)).collect();
    let (made, publisher) = workers_on(case, room, ports);
    // What was published stays.
    std::mem::forget(publisher);
    let steering = steering(workers);
    let fields = fields(case.mode);
    let ready = |(id, (mut worker, counters)): (u16, Counted<Generator>)| {
        let is_own = |flow: &u32| steering.owner(fields, &key(*flow)) == WorkerId(id);
        let own: Vec<u32> = (0..all).filter(is_own).collect();
        for segments in [Segments::Syn, Segments::Ack] {
            for chunk in own.chunks(32) {
                let port = worker.port_mut(PortId(0)).expect("one port");
                port.next_of(chunk, segments);
                worker.turn(Millis(0));
            }
        }
        let made = counters.connections_made.get();
        assert_eq!(
            made,
            own.len() as u64,
            "every flow is there, where it belongs"
        );
        let port = worker.port_mut(PortId(0)).expect("one port");
        port.source_mut().draw_from(own);
        port.check(true);
        for _ in 0..64 {
            worker.turn(Millis(0));
        }
        worker.port_mut(PortId(0)).expect("one port").check(false);
        assert_eq!(
            counters.rx.get(),
            counters.transmit.get(),
            "nothing was lost"
        );
        assert_eq!(counters.handed_out.get(), 0, "nothing was another's");
        Ready { worker, counters }
    };
    (0..workers).zip(made).map(ready).collect()
}

fn key(flow: u32) -> Key<u32> {
    let ends = benches::flows::Ends::of_client(flow).low();
    Key {
        source: ends.src,
        destination: ends.dst,
        source_port: ends.src_port,
        destination_port: ends.dst_port,
        protocol: 6,
    }
}

/// Clients from anywhere: neighbouring ones are spread more evenly than by chance.
fn scattered(flow: u32) -> Key<u32> {
    let mut random = u64::from(flow + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    random = (random ^ random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    random = (random ^ random >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let address = u32::try_from(random >> 40).expect("24 bits");
    let port = u16::try_from(random % 64_512).expect("16 bits");
    Key {
        source: 0x0b00_0000 | address,
        source_port: 1024 + port,
        ..key(0)
    }
}

impl Ready {
    /// Rounds for so long: nanoseconds a packet of each, the generator's share taken off.
    fn run(&mut self, window: Duration) -> Vec<f64> {
        let until = Instant::now() + window;
        let (mut turns, mut idle) = (Vec::new(), Vec::new());
        while Instant::now() < until {
            let start = on_cpu();
            for _ in 0..TURNS {
                self.worker.turn(Millis(0));
            }
            let middle = on_cpu();
            let port = self.worker.port_mut(PortId(0)).expect("one port");
            (0..TURNS).for_each(|_| port.idle_burst());
            let end = on_cpu();
            let each = |spent: Duration| spent.as_secs_f64() * 1e9 / f64::from(PACKETS);
            turns.push(each(middle - start));
            idle.push(each(end - middle));
        }
        let idle = Figures::of(idle).median;
        turns.iter().map(|turn| turn - idle).collect()
    }
}

/// The other side: a process with one worker that runs when it is told to.
#[derive(Debug)]
struct Other {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(case: Case, flows: u32, core: u16) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(own)
            .args([
                "scale",
                "--of",
                &case.to_string(),
                &flows.to_string(),
                &core.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let answers = child.stdout.take().ok_or("no output")?;
        let mut other = Self {
            child,
            answers: BufReader::new(answers),
        };
        other.answer()?; // it is ready
        Ok(other)
    }

    fn tell(&mut self) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("no input")?;
        writeln!(stdin, "go").map_err(|error| error.to_string())
    }

    fn answer(&mut self) -> Result<Vec<f64>, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        serde_json::from_str(&line).map_err(|error| format!("a worker's process: {error}"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process with one worker: runs for a while whenever a line comes.
pub(crate) fn one_of_two(case: &str, flows: &str, core: &str) -> Result<(), String> {
    let case = Case::named(case).ok_or(format!("no case is called {case}"))?;
    let number = |word: &str| word.parse().map_err(|_| format!("{word} is no number"));
    pin(number(core)?)?;
    let flows = flows.parse().map_err(|_| format!("{flows} is no number"))?;
    let mut ready = ready(case, flows, 1);
    println!("[]");
    for line in std::io::stdin().lines() {
        line.map_err(|error| error.to_string())?;
        println!("{}", json!(ready[0].run(WINDOW)));
    }
    Ok(())
}

fn pin(core: usize) -> Result<(), String> {
    let id = core_affinity::CoreId { id: core };
    match core_affinity::set_for_current(id) {
        true => Ok(()),
        false => Err(format!("this process may not run on core {core}")),
    }
}

fn two(options: &Options, report: &mut Report) -> Result<(), String> {
    let [first, .., last] = cores()[..] else {
        return Err("it needs two cores".to_owned());
    };
    report.title(
        "scale: two workers of one process; floor: of two processes; ratio: of theirs to ours, 1 is all",
    );
    let flows: &[u32] = if options.quick {
        &[1_000]
    } else {
        &[1_000, 1_000_000]
    };
    let windows = if options.quick { 5 } else { 20 };
    for mode in Mode::ALL {
        let case = Case {
            mode,
            ..Case::PLAIN
        };
        for &flows in flows {
            side_by_side(case, flows, [first, last], windows, report)?;
        }
    }
    Ok(())
}

fn side_by_side(
    case: Case,
    flows: u32,
    cores: [u16; 2],
    windows: u32,
    report: &mut Report,
) -> Result<(), String> {
    let others = cores.map(|core| Other::start(case, flows, core));
    let [one, other] = others;
    let mut others = [one?, other?];
    let (mut together, mut apart) = (Vec::new(), Vec::new());
    let mut ours = ready(case, flows, 2);
    let barrier = Barrier::new(2);
    for _ in 0..windows {
        let found = thread::scope(|scope| {
            let run = |(ready, core): (_, u16)| {
                let (ready, barrier): (&mut Ready, _) = (ready, &barrier);
                scope.spawn(move || -> Result<Vec<f64>, String> {
                    pin(core.into())?;
                    barrier.wait();
                    Ok(ready.run(WINDOW))
                })
            };
            let threads: Vec<_> = ours.iter_mut().zip(cores).map(run).collect();
            let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|done| done.map_err(|_| "a worker panicked".to_owned())?)
                .collect::<Result<Vec<_>, String>>()
        })?;
        together.extend(found.into_iter().flatten());
        for other in &mut others {
            other.tell()?;
        }
        for other in &mut others {
            apart.extend(other.answer()?);
        }
    }
    for worker in &ours {
        let (rx, tx) = (worker.counters.rx.get(), worker.counters.transmit.get());
        assert_eq!(rx, tx, "nothing was lost");
    }
    let (together, apart) = (Figures::of(together), Figures::of(apart));
    let row = Row {
        workers: Some(2),
        mpps: Some((2.0e5 / together.median).round() / 100.0),
        // As much of two processes' rate as this: 1 would be all of it.
        ratio: Some((apart.median / together.median * 1000.0).round() / 1000.0),
        ..Row::of("scale/two-workers", case, flows).timed(together, Some(apart))
    };
    report.add(row);
    Ok(())
}

/// Flows of which the spread is computed.
const SPREAD: u32 = 200_000;
const QUEUES: [u16; 5] = [4, 8, 16, 32, 64];

/// What receive-side scaling does with so many queues, computed by the functions that the workers use.
fn spread(options: &Options, report: &mut Report) {
    println!(
        "\nscale: computed: queues by the device's hash, owners by ours; packets handed over, and the \
         fullest queue to the mean\n{:<44} {:>6} {:>11} {:>11} {:>9}",
        "", "queues", "forward, %", "reverse, %", "fullest"
    );
    let flows = if options.quick { SPREAD / 4 } else { SPREAD };
    for mode in Mode::ALL {
        for source_only in [false, true] {
            for queues in QUEUES {
                simulate(mode, source_only, queues, flows, report);
            }
        }
    }
}

/// `steering = "tuple"`, or `"client"`: source-only hashing outside, destination-only inside.
fn simulate(mode: Mode, source_only: bool, queues: u16, flows: u32, report: &mut Report) {
    let steering = Arc::new(steering(queues));
    let owned_by = fields(mode);
    let hash = if source_only {
        ReplyHash::Destination
    } else {
        ReplyHash::Tuple
    };
    let mut ports: Vec<_> = (0..queues)
        .map(|id| (LocalPorts::new(steering.clone(), WorkerId(id), hash, 7), 0))
        .collect();
    let locals: Vec<u32> = (0..benches::flows::LOCALS)
        .map(|n| benches::flows::Host::Local(n).low())
        .collect();
    let (mut loads, mut forward, mut reverse) = (vec![0u32; usize::from(queues)], 0, 0);
    for flow in 0..flows {
        let key = scattered(flow);
        let by_device = if source_only {
            Fields::Client
        } else {
            Fields::Tuple
        };
        let arrives = steering.owner(by_device, &key);
        // With source-only hashing every service's connections are owned by what the device hashes.
        let owner = if source_only {
            arrives
        } else {
            steering.owner(owned_by, &key)
        };
        loads[usize::from(arrives.0)] += 1;
        forward += u32::from(arrives != owner);
        if !mode.is_two_way() {
            continue;
        }
        let real = benches::flows::Host::Real(u8::try_from(flow % 16).expect("below 16")).low();
        let back = match mode {
            Mode::Nat => Some((key.source, key.source_port)),
            _ => {
                let (ports, turn) = &mut ports[usize::from(owner.0)];
                ports.choose(&locals, turn, (real, 80), 6, |_| true)
            }
        };
        let (address, port) = back.expect("a free port");
        let reply = Key {
            source: real,
            destination: address,
            source_port: 80,
            destination_port: port,
            protocol: 6,
        };
        reverse += u32::from(hash.owner(&steering, &reply) != owner);
    }
    let percent = |part: u32| f64::from(part) * 100.0 / f64::from(flows);
    let mean = f64::from(flows) / f64::from(queues);
    let fullest = loads.iter().copied().max().map_or(0.0, f64::from) / mean;
    let name = if source_only {
        "scale/handed-over-client-steering"
    } else {
        "scale/handed-over-tuple-steering"
    };
    let reverse = mode.is_two_way().then(|| percent(reverse));
    let shown = reverse.map_or("-".to_owned(), |reverse| format!("{reverse:.1}"));
    let mut row = Row {
        name: name.to_owned(),
        mode: Some(mode.name()),
        family: Some(Family::V4.number()),
        workers: Some(queues.into()),
        flows: Some(flows),
        ..Row::default()
    };
    println!(
        "{:<44} {queues:>6} {:>11.1} {shown:>11} {fullest:>9.3}",
        row.label(),
        percent(forward)
    );
    for (name, value) in [
        ("handed_over_forward_percent", json!(percent(forward))),
        ("handed_over_reverse_percent", json!(reverse)),
        ("fullest_queue_to_mean", json!(fullest)),
    ] {
        row.more.insert(name.to_owned(), value);
    }
    report.rows.push(row);
}
