//! Control at work while traffic flows: no packet is lost, no connection moves, ARP is answered.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::arp;
use crate::daemon::{Daemon, Toml, service, web};
use crate::lab::{Asking, DIP, Lab, VIP, wait_for};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    (
        "undisturbed::ten_thousand_services_are_restored",
        ten_thousand_services_are_restored,
    ),
    ("undisturbed::a_file_is_reloaded", a_file_is_reloaded),
];

/// TCP connections that are held.
const HELD: usize = 16;
/// UDP flows, each of one port.
const FLOWS: usize = 16;
/// Changes that are timed.
const CHANGES: usize = 101;

/// How much is restored, and how fast it has to be. A daemon without optimisation is ten times as
/// slow, and tests of one run beside whole builds.
struct Size {
    services: usize,
    reals: usize,
    restore: Duration,
    /// The median.
    change: Duration,
}

const SIZE: Size = if cfg!(debug_assertions) {
    Size {
        services: 2_000,
        reals: 5,
        restore: Duration::from_secs(15),
        change: Duration::from_millis(50),
    }
} else {
    Size {
        services: 10_000,
        reals: 10,
        restore: Duration::from_secs(1),
        change: Duration::from_millis(5),
    }
};
/// The longest that one ARP request may wait.
const ARP: Duration = Duration::from_millis(500);

/// The traffic that must not notice.
struct Traffic {
    held: Asking,
    flows: Asking,
}

impl Traffic {
    fn toml() -> Toml {
        let udp = service(&udp_address("udp "), "rr", &[1, 1]);
        Toml::with(web("rr", &[1, 1]) + &udp)
    }

    fn lab() -> Result<Lab, Failure> {
        let mut lab = Lab::with_web(2)?;
        for index in [1, 2] {
            let arguments = ["udp-server", &udp_address(""), &format!("real-{index}")];
            lab.start_peer(&lab.real(index), &arguments)?;
        }
        Ok(lab)
    }

    fn start(lab: &Lab) -> Result<Self, Failure> {
        let client = lab.client();
        let flows = ["udp-flow", &udp_address(""), &FLOWS.to_string()];
        Ok(Self {
            held: lab.start_asking(&client, &format!("{VIP}:80"), HELD)?,
            flows: lab.start_until_told(&client, &flows)?,
        })
    }

    /// It noticed nothing.
    fn end_unharmed(mut self) -> Outcome {
        // What the last change did is to be seen, too.
        std::thread::sleep(Duration::from_millis(300));
        let said = self.flows.end()?;
        let counts: Vec<u64> = said.split(' ').filter_map(|it| it.parse().ok()).collect();
        let [sent, answered, moved] = counts[..] else {
            return Err(Failure::Wrong(format!("the flows said {said:?}")));
        };
        println!("    {sent} datagrams, {answered} answered, {moved} moved");
        let least = 3 * u64::try_from(FLOWS).expect("a few");
        ensure!(sent >= least, "only {sent} datagrams were sent");
        ensure!(answered == sent, "{answered} of {sent} datagrams answered");
        ensure!(moved == 0, "{moved} answers from another server");
        let held = self.held.ask()?;
        ensure!(held == HELD, "{held} of {HELD} held connections answer");
        Ok(())
    }
}

fn udp_address(before: &str) -> String {
    format!("{before}{VIP}:5300")
}

/// Many services on ten VIPs, each with NAT servers.
fn many(lab: &Lab) -> Result<PathBuf, Failure> {
    let mut text = String::new();
    for at in 0..SIZE.services {
        let vip = vip(at);
        let _ = writeln!(text, "-A -t {vip} -s wrr");
        for real in 0..SIZE.reals {
            let real = real_of(at, real);
            let _ = writeln!(text, "-a -t {vip} -r {real} -m -w 3");
        }
    }
    let file = lab.file("many");
    fs::write(&file, text)?;
    Ok(file)
}

fn vip(at: usize) -> String {
    format!("10.83.0.{}:{}", 101 + at % 10, 1_000 + at / 10)
}

fn real_of(at: usize, real: usize) -> String {
    let number = at * SIZE.reals + real;
    format!(
        "10.83.0.{}:{}",
        21 + number % 2,
        2_000 + number / 2 % 60_000
    )
}

fn ten_thousand_services_are_restored() -> Outcome {
    let lab = Traffic::lab()?;
    let daemon = Daemon::start(&lab, &Traffic::toml())?;
    let file = many(&lab)?;
    let traffic = Traffic::start(&lab)?;
    let (took, asked, longest) = restore_and_ask(&lab, &daemon, &file)?;
    println!(
        "    {} services x {} restored in {took:?}; {asked} ARP requests, the longest {longest:?}",
        SIZE.services, SIZE.reals
    );
    let services = daemon.ask(&["-Ln"])?.matches("TCP ").count();
    ensure!(
        services == SIZE.services + 1,
        "{services} TCP services are there"
    );
    ensure!(took <= SIZE.restore, "the restore took {took:?}");
    ensure!(longest <= ARP, "an ARP request waited {longest:?}");
    let median = median_change(&daemon)?;
    println!("    one change: {median:?} at the median");
    ensure!(median <= SIZE.change, "one change takes {median:?}");
    traffic.end_unharmed()
}

/// A restore, and beside it a neighbour that asks for the DIP all the time: how long the restore
/// took, how many requests there were, and how long the slowest waited.
fn restore_and_ask(
    lab: &Lab,
    daemon: &Daemon,
    file: &Path,
) -> Result<(Duration, usize, Duration), Failure> {
    let done = AtomicBool::new(false);
    let client = lab.client();
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| ask_until(&client, &done));
        let began = Instant::now();
        let restored = daemon.restore(file);
        let took = began.elapsed();
        done.store(true, Ordering::Relaxed);
        let (asked, longest) = asker.join().expect("it does not panic")?;
        restored.map(|()| (took, asked, longest))
    })
}

fn ask_until(client: &str, done: &AtomicBool) -> Result<(usize, Duration), Failure> {
    let (mut asked, mut longest) = (0, Duration::ZERO);
    while asked == 0 || !done.load(Ordering::Relaxed) {
        let after = arp::answered_after(client, DIP);
        longest = longest.max(after.ok_or("no answer to ARP for the DIP".to_owned())?);
        asked += 1;
    }
    Ok((asked, longest))
}

/// How long a change of a weight takes, from the request to the acknowledgement.
fn median_change(daemon: &Daemon) -> Result<Duration, Failure> {
    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut said = BufReader::new(stream.try_clone()?);
    let mut each = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let at = change * 17 % SIZE.services;
        let (vip, real) = (vip(at), real_of(at, change % SIZE.reals));
        let began = Instant::now();
        stream.write_all(format!("-e -t {vip} -r {real} -m -w 5\n").as_bytes())?;
        let mut line = String::new();
        said.read_line(&mut line)?;
        each.push(began.elapsed());
        ensure!(line == "exit 0\n", "a change was answered with {line:?}");
    }
    each.sort_unstable();
    Ok(each[CHANGES / 2])
}

/// By `sluice reload` and by HUP: weights, a scheduler and services change under traffic.
fn a_file_is_reloaded() -> Outcome {
    let lab = Traffic::lab()?;
    let daemon = Daemon::start(&lab, &Traffic::toml())?;
    let traffic = Traffic::start(&lab)?;
    let file = lab.file("sluiced.toml");
    let udp = service(&udp_address("udp "), "wrr", &[0, 3]);
    let more = service("tcp 10.83.0.101:81", "wlc", &[2]);
    let text = |rest: String| Toml::with(rest).text(daemon.socket());
    fs::write(&file, text(web("wrr", &[0, 3]) + &udp + &more))?;
    daemon.ask(&["reload"])?;
    let listing = daemon.ask(&["-Ln"])?;
    for part in ["10.83.0.100:80 wrr", "Route   0", "10.83.0.101:81 wlc"] {
        ensure!(listing.contains(part), "no {part:?} in\n{listing}");
    }
    let shares = lab.shares(&lab.fetch(&format!("http://{VIP}/"), 10));
    ensure!(shares == [0, 10], "after the reload: {shares:?}");
    fs::write(&file, text(web("wlc", &[0, 4]) + &udp))?;
    daemon.signal(Signal::SIGHUP)?;
    let mut listing = String::new();
    let obeyed = wait_for(5, || {
        listing = daemon.ask(&["-Ln"]).unwrap_or_default();
        listing.contains("10.83.0.100:80 wlc") && !listing.contains("10.83.0.101:81")
    });
    ensure!(obeyed, "after HUP:\n{listing}{}", daemon.words());
    fs::write(&file, "version = 1\nnonsense = 1\n")?;
    daemon.signal(Signal::SIGHUP)?;
    let told = wait_for(5, || daemon.words().contains("nonsense"));
    ensure!(told, "a bad file is not in the log:\n{}", daemon.words());
    let after = daemon.ask(&["-Ln"])?;
    ensure!(after.contains("10.83.0.100:80 wlc"), "after it:\n{after}");
    traffic.end_unharmed()
}
