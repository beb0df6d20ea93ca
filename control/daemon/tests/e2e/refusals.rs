//! Starts that cannot work: one clear message, the exit code that says whose fault it is, and
//! nothing left behind.

use std::fs;

use crate::daemon::{Daemon, Toml, sluiced, web};
use crate::lab::{Lab, VIP};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("refusals::usage", usage),
    ("refusals::no_configuration", no_configuration),
    ("refusals::malformed_configuration", malformed_configuration),
    ("refusals::what_is_not_built_yet", what_is_not_built_yet),
    ("refusals::unknown_devices", unknown_devices),
    ("refusals::no_memory_for_the_pools", no_memory_for_the_pools),
    (
        "refusals::hugepages_required_but_none",
        hugepages_required_but_none,
    ),
    ("refusals::no_such_core", no_such_core),
    ("refusals::no_permission", no_permission),
    (
        "refusals::a_second_daemon_on_the_socket",
        a_second_daemon_on_the_socket,
    ),
    ("refusals::a_port_in_use", a_port_in_use),
    (
        "refusals::a_socket_that_cannot_be_made",
        a_socket_that_cannot_be_made,
    ),
];

const USAGE: i32 = 64;
const DEVICE: i32 = 71;
const CONFIGURATION: i32 = 78;

/// The daemon has ended with `code`, and its last words contain each of `parts`.
fn refused(daemon: &mut Daemon, code: i32, parts: &[&str]) -> Outcome {
    let status = daemon.wait()?;
    let words = daemon.words();
    ensure!(
        status.code() == Some(code),
        "it ended with {status}, not {code}:\n{words}"
    );
    let last = words.lines().last().unwrap_or_default();
    for part in parts {
        ensure!(
            last.contains(part),
            "the last line does not say {part:?}:\n{words}"
        );
    }
    ensure!(!words.contains("panicked"), "it panicked:\n{words}");
    Ok(())
}

/// Starts with this configuration in a fresh lab, which must be refused and leave no trace.
fn refuses(toml: &Toml, code: i32, parts: &[&str]) -> Outcome {
    let lab = Lab::new(0)?;
    let before = lab.traces();
    let mut daemon = Daemon::spawn(&lab, toml, "sluiced")?;
    refused(&mut daemon, code, parts)?;
    ensure!(
        lab.traces().is_subset(&before),
        "left behind: {:?}",
        lab.traces().difference(&before)
    );
    ensure!(
        !lab.file("sluice.sock").exists(),
        "the socket is left behind"
    );
    Ok(())
}

fn usage() -> Outcome {
    let lab = Lab::new(0)?;
    let mut daemon = Daemon::spawn_with(&lab, &["--nonsense"], "sluiced")?;
    let status = daemon.wait()?;
    ensure!(
        status.code() == Some(USAGE),
        "it ended with {status}:\n{}",
        daemon.words()
    );
    ensure!(
        daemon.words().contains("--nonsense"),
        "it said:\n{}",
        daemon.words()
    );
    Ok(())
}

fn no_configuration() -> Outcome {
    let lab = Lab::new(0)?;
    let mut daemon = Daemon::spawn_with(&lab, &["--config", "/nowhere/lb.toml"], "sluiced")?;
    refused(&mut daemon, CONFIGURATION, &["/nowhere/lb.toml"])
}

fn malformed_configuration() -> Outcome {
    let cases = [
        (
            "[[service]]\nlisten = \"tcp 10.83.0.100:80\"\nsheduler = \"rr\"",
            "sheduler",
        ),
        (
            "[[service]]\nlisten = \"tcp 10.83.0.300:80\"",
            "10.83.0.300",
        ),
        ("[[service\n", "sluiced.toml:"),
        (
            "[[route]]\nto = \"10.0.0.0/40\"\nvia = \"10.83.0.1\"",
            "10.0.0.0/40",
        ),
    ];
    for (rest, part) in cases {
        let lab = Lab::new(0)?;
        let mut daemon = Daemon::spawn(&lab, &Toml::with(rest), "sluiced")?;
        let status = daemon.wait()?;
        let words = daemon.words();
        ensure!(
            status.code() == Some(CONFIGURATION),
            "{rest:?} gave {status}:\n{words}"
        );
        ensure!(
            words.contains("sluiced.toml:"),
            "{rest:?}: no line number in\n{words}"
        );
        ensure!(words.contains(part), "{rest:?}: no {part:?} in\n{words}");
    }
    Ok(())
}

fn what_is_not_built_yet() -> Outcome {
    refuses(
        &Toml::with(web("rr", &[]).replace("\"rr\"", "\"rr\"\nsynproxy = true")),
        CONFIGURATION,
        &["synproxy", "not built yet"],
    )
}

fn unknown_devices() -> Outcome {
    for device in ["net_nonsense0", "0000:ff:1f.7"] {
        let toml = Toml {
            device: device.to_owned(),
            ..Toml::default()
        };
        refuses(&toml, DEVICE, &[device])?;
    }
    Ok(())
}

/// A process that may not have the memory that its buffers take.
fn no_memory_for_the_pools() -> Outcome {
    let lab = Lab::new(0)?;
    let before = lab.traces();
    let toml = Toml {
        port: "mbufs = 1_000_000".to_owned(),
        ..Toml::default()
    };
    let file = lab.file("lb.toml");
    fs::write(&file, toml.text(&lab.file("sluice.sock")))?;
    let output = Lab::inside(&lab.director(), "prlimit")
        .arg("--as=1500000000")
        .arg(sluiced())
        .arg("--config")
        .arg(&file)
        .output()?;
    let words = crate::lab::words(&output);
    ensure!(
        output.status.code() == Some(DEVICE),
        "it ended with {}:\n{words}",
        output.status
    );
    let last = words.lines().last().unwrap_or_default();
    ensure!(last.contains("memory"), "it said:\n{words}");
    ensure!(
        lab.traces().is_subset(&before),
        "left behind: {:?}",
        lab.traces().difference(&before)
    );
    ensure!(
        !lab.file("sluice.sock").exists(),
        "the socket is left behind"
    );
    Ok(())
}

fn hugepages_required_but_none() -> Outcome {
    let total = fs::read_to_string("/proc/meminfo")?;
    let none = total
        .lines()
        .any(|l| l.starts_with("HugePages_Total:") && l.ends_with(" 0"));
    if !none {
        return Err(Failure::CannotRun("this machine has hugepages".to_owned()));
    }
    refuses(
        &Toml {
            hugepages: "require",
            ..Toml::default()
        },
        DEVICE,
        &["hugepages"],
    )
}

fn no_such_core() -> Outcome {
    let lab = Lab::new(0)?;
    let toml = Toml {
        workers: vec![4095],
        ..Toml::default()
    };
    let mut daemon = Daemon::spawn(&lab, &toml, "sluiced")?;
    let status = daemon.wait()?;
    let words = daemon.words();
    ensure!(
        [DEVICE, CONFIGURATION].contains(&status.code().unwrap_or(0)),
        "{status}:\n{words}"
    );
    ensure!(
        words.lines().last().is_some_and(|l| l.contains("4095")),
        "it said:\n{words}"
    );
    Ok(())
}

/// An ordinary user cannot make a TAP.
fn no_permission() -> Outcome {
    let lab = Lab::new(0)?;
    let before = lab.traces();
    let program = lab.file("sluiced");
    fs::copy(sluiced(), &program)?;
    let file = lab.file("nobody.toml");
    fs::write(&file, Toml::default().text(&lab.file("sluice.sock")))?;
    crate::lab::run(
        std::process::Command::new("chmod")
            .args(["-R", "777"])
            .arg(lab.file("")),
    )?;
    let output = Lab::inside(&lab.director(), "setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .arg("--config")
        .arg(&file)
        .output()?;
    let words = crate::lab::words(&output);
    ensure!(
        output.status.code() == Some(DEVICE),
        "it ended with {}:\n{words}",
        output.status
    );
    let last = words.lines().last().unwrap_or_default();
    let clear = ["root", "permission", "Permission", "not permitted"];
    ensure!(
        clear.iter().any(|part| last.contains(part)),
        "it said:\n{words}"
    );
    ensure!(
        lab.traces().is_subset(&before),
        "left behind: {:?}",
        lab.traces().difference(&before)
    );
    Ok(())
}

/// The first one is not disturbed.
fn still_works(lab: &Lab, first: &Daemon) -> Outcome {
    first.ask(&["-Ln"])?;
    let answers = lab.fetch(&format!("http://{VIP}/"), 4);
    ensure!(
        answers.len() == 4,
        "the first daemon no longer forwards: {answers:?}"
    );
    Ok(())
}

fn a_second_daemon_on_the_socket() -> Outcome {
    let lab = Lab::with_web(1)?;
    let first = Daemon::start(&lab, &Toml::with(web("rr", &[1])))?;
    let before = lab.traces();
    let toml = Toml {
        device: "net_tap1,iface=dtap1".to_owned(),
        ..Toml::default()
    };
    let mut second = Daemon::spawn(&lab, &toml, "second")?;
    let socket = lab.file("sluice.sock");
    refused(&mut second, DEVICE, &[&socket.to_string_lossy()])?;
    ensure!(
        lab.traces().is_subset(&before),
        "left behind: {:?}",
        lab.traces().difference(&before)
    );
    still_works(&lab, &first)
}

fn a_port_in_use() -> Outcome {
    let lab = Lab::with_web(1)?;
    let first = Daemon::start(&lab, &Toml::with(web("rr", &[1])))?;
    let before = lab.traces();
    let file = lab.file("second.toml");
    fs::write(&file, Toml::default().text(&lab.file("second.sock")))?;
    let mut second = Daemon::spawn_with(&lab, &["--config", &file.to_string_lossy()], "second")?;
    refused(&mut second, DEVICE, &["lan"])?;
    ensure!(
        lab.traces().is_subset(&before),
        "left behind: {:?}",
        lab.traces().difference(&before)
    );
    ensure!(
        !lab.file("second.sock").exists(),
        "the second socket is left behind"
    );
    still_works(&lab, &first)
}

fn a_socket_that_cannot_be_made() -> Outcome {
    let lab = Lab::new(0)?;
    let before = lab.traces();
    let file = lab.file("lb.toml");
    // A file is no folder.
    fs::write(
        &file,
        Toml::default().text(&lab.file("lb.toml/sluice.sock")),
    )?;
    let mut daemon = Daemon::spawn_with(&lab, &["--config", &file.to_string_lossy()], "sluiced")?;
    let status = daemon.wait()?;
    let words = daemon.words();
    ensure!(
        status.code().is_some_and(|code| code != 0),
        "it ended with {status}:\n{words}"
    );
    ensure!(
        words.lines().last().is_some_and(|l| l.contains("lb.toml/")),
        "it said:\n{words}"
    );
    ensure!(
        lab.traces().is_subset(&before),
        "left behind: {:?}",
        lab.traces().difference(&before)
    );
    Ok(())
}
