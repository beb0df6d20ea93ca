//! Who answers for which address, as a neighbour on the same wire hears it.

use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, Toml, web};
use crate::lab::{DIP, Lab, PORT_MAC, VIP, wait_for, words};
use crate::runner::{Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    (
        "arp::only_the_daemon_answers_for_the_vip",
        only_the_daemon_answers_for_the_vip,
    ),
    (
        "arp::only_the_daemon_answers_for_the_dip",
        only_the_daemon_answers_for_the_dip,
    ),
    (
        "arp::a_vip_never_held_is_silent",
        a_vip_never_held_is_silent,
    ),
    ("arp::a_new_vip_is_announced", a_new_vip_is_announced),
    (
        "arp::a_dropped_vip_falls_silent",
        a_dropped_vip_falls_silent,
    ),
    (
        "arp::the_dip_reaches_the_kernel",
        the_dip_reaches_the_kernel,
    ),
];

const ASKED: usize = 3;

/// The program with which the client asks for addresses, told to ask everybody each time.
fn arping(client: &str) -> (Command, Arping) {
    let mut arping = Lab::inside(client, "arping");
    let help = Command::new("arping")
        .arg("--help")
        .output()
        .map(|output| words(&output));
    if help.unwrap_or_default().contains("Habets") {
        arping.args(["-i", "eth0"]);
        (arping, Arping::Habets)
    } else {
        arping.args(["-b", "-I", "eth0"]);
        (arping, Arping::Iputils)
    }
}

/// Two programs have this name.
enum Arping {
    Habets,
    Iputils,
}

/// The MACs of all answers to three requests, in the order in which they came.
fn answers(lab: &Lab, address: &str) -> Vec<String> {
    let (mut arping, _) = arping(&lab.client());
    macs(arping.args(["-c", &ASKED.to_string(), "-w", "4", address]))
}

/// The MACs of all answers to one request.
pub(crate) fn macs_of(client: &str, address: &str) -> Vec<String> {
    let (mut arping, _) = arping(client);
    macs(arping.args(["-c", "1", "-w", "2", address]))
}

/// One request for an address: how long the daemon took to answer, by the clock of who asked;
/// `None` if it did not within a second.
pub(crate) fn answered_after(client: &str, address: &str) -> Option<Duration> {
    let (mut arping, which) = arping(client);
    match which {
        Arping::Habets => arping.args(["-C", "1"]),
        Arping::Iputils => arping.arg("-f"),
    };
    let text = words(&arping.args(["-c", "1", address]).output().ok()?);
    let line = text
        .lines()
        .find(|line| mac_in(line).is_some_and(|mac| mac == PORT_MAC))?;
    time_in(line)
}

/// The time in a line about an answer: `time=7.567 msec`, or `0.812ms` at its end.
fn time_in(line: &str) -> Option<Duration> {
    let text = match line.split_once("time=") {
        Some((_, time)) => time,
        None => line.split_whitespace().last()?,
    };
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit.trim_start().chars().next()? {
        'u' => 1e-6,
        'm' => 1e-3,
        'n' => 1e-9,
        _ => 1.0,
    };
    Some(Duration::from_secs_f64(
        number.parse::<f64>().ok()? * seconds,
    ))
}

fn macs(arping: &mut Command) -> Vec<String> {
    let text = arping
        .output()
        .map(|output| words(&output))
        .unwrap_or_default();
    text.lines().filter_map(mac_in).collect()
}

/// The MAC in a line about an answer.
fn mac_in(line: &str) -> Option<String> {
    if !line.contains("from") {
        return None;
    }
    line.split(|c: char| !(c.is_ascii_hexdigit() || c == ':'))
        .find(|word| word.len() == 17 && word.matches(':').count() == 5)
        .map(str::to_lowercase)
}

/// Each request has one answer, the daemon's. A busy machine may lose a frame, so the count may
/// need another try; a stranger's answer, or one too many, needs none.
fn is_answered_once(lab: &Lab, address: &str) -> Outcome {
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard = answers(lab, address);
        let strange = heard.iter().any(|mac| mac != PORT_MAC) || heard.len() > ASKED;
        if strange || heard.len() == ASKED {
            break;
        }
    }
    ensure!(
        heard == [PORT_MAC; ASKED],
        "{ASKED} requests for {address} gave {heard:?}"
    );
    Ok(())
}

fn only_the_daemon_answers_for_the_vip() -> Outcome {
    let lab = Lab::with_web(2)?;
    let _daemon = Daemon::start(&lab, &Toml::with(web("rr", &[1, 1])))?;
    is_answered_once(&lab, VIP)
}

fn only_the_daemon_answers_for_the_dip() -> Outcome {
    let lab = Lab::new(0)?;
    let _daemon = Daemon::start(&lab, &Toml::default())?;
    is_answered_once(&lab, DIP)
}

/// Silence on the wire; and who sends to it all the same finds it closed, and counted.
fn a_vip_never_held_is_silent() -> Outcome {
    let lab = Lab::with_web(1)?;
    let vip = format!("[[vip]]\naddress = \"{VIP}\"\nheld = \"never\"\n\n");
    let daemon = Daemon::start(&lab, &Toml::with(vip + &web("rr", &[1])))?;
    is_answered_once(&lab, DIP)?;
    let heard = answers(&lab, VIP);
    ensure!(
        heard.is_empty(),
        "a VIP that is never held was answered for: {heard:?}"
    );
    ensure!(
        daemon.ask(&["-Ln"])?.contains("10.83.0.100:80 rr"),
        "its service is not loaded"
    );
    Lab::ip(
        &lab.client(),
        &format!("neigh replace {VIP} lladdr {PORT_MAC} dev eth0"),
    )?;
    let output = Lab::inside(&lab.client(), "curl")
        .args(["-s", "--max-time", "2", &format!("http://{VIP}/")])
        .output()?;
    ensure!(
        !output.status.success(),
        "a VIP that is never held gave {}",
        words(&output)
    );
    let status = daemon.ask(&["status"])?;
    ensure!(
        status.contains("drop-vip-not-held"),
        "its drops are not in\n{status}"
    );
    Ok(())
}

/// A neighbour that knew the address elsewhere learns of the move without asking.
fn a_new_vip_is_announced() -> Outcome {
    let lab = Lab::new(0)?;
    let daemon = Daemon::start(&lab, &Toml::default())?;
    is_answered_once(&lab, DIP)?;
    let (vip, elsewhere) = ("10.83.0.101", "02:00:00:00:de:ad");
    let client = lab.client();
    Lab::ip(
        &client,
        &format!("neigh replace {vip} lladdr {elsewhere} dev eth0 nud stale"),
    )?;
    daemon.ask(&["-A", "-t", &format!("{vip}:80"), "-s", "rr"])?;
    let learned = wait_for(5, || {
        Lab::ip(&client, &format!("neigh show {vip}")).is_ok_and(|text| text.contains(PORT_MAC))
    });
    let known = Lab::ip(&client, &format!("neigh show {vip}"))?;
    ensure!(
        learned,
        "5 s after the service was added a neighbour still has {known:?}"
    );
    is_answered_once(&lab, vip)
}

fn a_dropped_vip_falls_silent() -> Outcome {
    let lab = Lab::with_web(1)?;
    let daemon = Daemon::start(&lab, &Toml::with(web("rr", &[1])))?;
    is_answered_once(&lab, VIP)?;
    daemon.ask(&["-D", "-t", &format!("{VIP}:80")])?;
    let heard = answers(&lab, VIP);
    ensure!(
        heard.is_empty(),
        "without its service the VIP was answered for: {heard:?}"
    );
    Ok(())
}

/// What is no service's goes to the kernel and back: an ordinary server on the director.
fn the_dip_reaches_the_kernel() -> Outcome {
    let mut lab = Lab::new(0)?;
    let _daemon = Daemon::start(&lab, &Toml::default())?;
    let address = format!("{DIP}:5300");
    lab.start_peer(&lab.director(), &["udp-server", &address, "director"])?;
    let mut client = lab.peer(&lab.client(), &["udp-client", &address, "5"])?;
    let text = crate::lab::run(&mut client)?;
    let want = format!("director {}\n", crate::lab::CLIENT).repeat(5);
    ensure!(
        text == want,
        "5 questions to the director's own address gave {text:?}"
    );
    Ok(())
}
