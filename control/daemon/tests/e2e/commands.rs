//! `sluice` and the socket: what an operator types, and what the daemon makes of it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::daemon::{Daemon, Toml, sluice, web};
use crate::lab::{Lab, VIP, wait_for, words};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("commands::services_come_and_go", services_come_and_go),
    (
        "commands::traffic_follows_a_command",
        traffic_follows_a_command,
    ),
    ("commands::save_clear_restore", save_clear_restore),
    (
        "commands::refusals_say_what_ipvsadm_says",
        refusals_say_what_ipvsadm_says,
    ),
    (
        "commands::later_work_is_not_imitated",
        later_work_is_not_imitated,
    ),
    ("commands::no_daemon", no_daemon),
    (
        "commands::text_and_json_on_the_socket",
        text_and_json_on_the_socket,
    ),
    ("commands::changes_need_root", changes_need_root),
    (
        "commands::a_mute_client_delays_nobody",
        a_mute_client_delays_nobody,
    ),
    (
        "commands::every_change_is_in_the_log",
        every_change_is_in_the_log,
    ),
    ("commands::status_counts_packets", status_counts_packets),
    ("commands::check_reads_a_file", check_reads_a_file),
    (
        "commands::the_log_is_set_at_run_time",
        the_log_is_set_at_run_time,
    ),
];

const HEAD: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
                    Prot LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n";

fn empty() -> Result<(Lab, Daemon), Failure> {
    let lab = Lab::new(0)?;
    let daemon = Daemon::start(&lab, &Toml::default())?;
    Ok((lab, daemon))
}

fn services_come_and_go() -> Outcome {
    let (_lab, daemon) = empty()?;
    let listing = |rows: &str| -> Outcome {
        let got = daemon.ask(&["-Ln"])?;
        ensure!(
            got == format!("{HEAD}{rows}"),
            "listing is\n{got}not\n{HEAD}{rows}"
        );
        Ok(())
    };
    listing("")?;
    daemon.ask(&["-A", "-t", "10.83.0.101:80", "-s", "wrr"])?;
    daemon.ask(&[
        "-a",
        "-t",
        "10.83.0.101:80",
        "-r",
        "10.83.0.21:80",
        "-g",
        "-w",
        "3",
    ])?;
    daemon.ask(&["-a", "-t", "10.83.0.101:80", "-r", "10.83.0.22:80"])?;
    let web = "TCP  10.83.0.101:80 wrr\n  \
               -> 10.83.0.21:80                Route   3      0          0         \n";
    let second = "  -> 10.83.0.22:80                Route   1      0          0         \n";
    listing(&format!("{web}{second}"))?;
    daemon.ask(&["-d", "-t", "10.83.0.101:80", "-r", "10.83.0.22:80"])?;
    listing(web)?;
    daemon.ask(&["-E", "-t", "10.83.0.101:80", "-s", "rr"])?;
    listing(&web.replace("wrr", "rr"))?;
    daemon.ask(&["-D", "-t", "10.83.0.101:80"])?;
    listing("")
}

/// An acknowledged command is what the next packet meets.
fn traffic_follows_a_command() -> Outcome {
    let lab = Lab::with_web(2)?;
    let daemon = Daemon::start(&lab, &Toml::default())?;
    let vip = format!("{VIP}:80");
    daemon.ask(&["-A", "-t", &vip, "-s", "rr"])?;
    daemon.ask(&["-a", "-t", &vip, "-r", "10.83.0.21:80", "-g"])?;
    let url = format!("http://{VIP}/");
    let first = lab.shares(&lab.fetch(&url, 10));
    ensure!(first == [10, 0], "with one real: {first:?}");
    daemon.ask(&["-a", "-t", &vip, "-r", "10.83.0.22:80", "-g"])?;
    let both = lab.shares(&lab.fetch(&url, 10));
    ensure!(both == [5, 5], "with two: {both:?}");
    daemon.ask(&["-d", "-t", &vip, "-r", "10.83.0.21:80"])?;
    let second = lab.shares(&lab.fetch(&url, 10));
    ensure!(second == [0, 10], "without the first: {second:?}");
    Ok(())
}

fn save_clear_restore() -> Outcome {
    let lab = Lab::new(0)?;
    let daemon = Daemon::start(&lab, &Toml::with(web("wrr", &[2, 1])))?;
    let saved = daemon.ask(&["-S", "-n"])?;
    let want = "-A -t 10.83.0.100:80 -s wrr\n\
                -a -t 10.83.0.100:80 -r 10.83.0.21:80 -g -w 2\n\
                -a -t 10.83.0.100:80 -r 10.83.0.22:80 -g -w 1\n";
    ensure!(saved == want, "-S gave\n{saved}");
    let before = daemon.ask(&["-Ln"])?;
    daemon.ask(&["-C"])?;
    let cleared = daemon.ask(&["-Ln"])?;
    ensure!(cleared == HEAD, "after -C:\n{cleared}");
    let mut restore = Command::new(sluice())
        .arg("--socket")
        .arg(daemon.socket())
        .arg("-R")
        .stdin(Stdio::piped())
        .spawn()?;
    restore
        .stdin
        .take()
        .expect("it was asked for")
        .write_all(saved.as_bytes())?;
    ensure!(restore.wait()?.success(), "-R failed");
    let after = daemon.ask(&["-Ln"])?;
    ensure!(after == before, "after -R:\n{after}before:\n{before}");
    Ok(())
}

fn refusals_say_what_ipvsadm_says() -> Outcome {
    let (_lab, daemon) = empty()?;
    daemon.ask(&["-A", "-t", "10.83.0.101:80"])?;
    let cases: [(&[&str], i32, &str); 5] = [
        (
            &["-A", "-t", "10.83.0.101:80"],
            255,
            "Service already exists",
        ),
        (&["-D", "-t", "10.83.0.109:80"], 255, "No such service"),
        (
            &["-d", "-t", "10.83.0.101:80", "-r", "10.83.0.21:80"],
            255,
            "No such destination",
        ),
        (&["-Ln", "-t", "10.83.0.109:80"], 1, "No such service"),
        (
            &["-A", "-t", "10.83.0.101:80", "-w", "1"],
            2,
            "Illegal 'weight' option",
        ),
    ];
    for (arguments, code, part) in cases {
        let output = daemon.sluice(arguments);
        let text = words(&output);
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?}: {}: {text}",
            output.status
        );
        ensure!(
            text.to_lowercase().contains(&part.to_lowercase()),
            "{arguments:?}: {text}"
        );
    }
    Ok(())
}

fn later_work_is_not_imitated() -> Outcome {
    let (_lab, daemon) = empty()?;
    let cases: [&[&str]; 3] = [
        &["-A", "-t", "10.83.0.101:80", "-j", "enable"],
        &["-A", "-t", "10.83.0.101:80", "-p", "60", "--pe", "sip"],
        &["--start-daemon", "master"],
    ];
    for arguments in cases {
        let output = daemon.sluice(arguments);
        let text = words(&output);
        ensure!(
            output.status.code() == Some(2),
            "{arguments:?}: {}: {text}",
            output.status
        );
        ensure!(text.contains("not built yet"), "{arguments:?}: {text}");
    }
    ensure!(
        daemon.ask(&["-Ln"])? == HEAD,
        "a refused command did something"
    );
    Ok(())
}

fn no_daemon() -> Outcome {
    let output = Command::new(sluice())
        .args(["--socket", "/nowhere/sluice.sock", "-Ln"])
        .output()?;
    let text = words(&output);
    ensure!(output.status.code() == Some(2), "{}: {text}", output.status);
    ensure!(text.contains("/nowhere/sluice.sock"), "it said: {text}");
    let output = Command::new(sluice())
        .env("SLUICE_SOCKET", "/elsewhere/sluice.sock")
        .arg("-Ln")
        .output()?;
    ensure!(
        words(&output).contains("/elsewhere/sluice.sock"),
        "it said: {}",
        words(&output)
    );
    Ok(())
}

/// Sends lines and reads until `last` says that a line ends the answer.
fn converse(
    daemon: &Daemon,
    line: &str,
    last: fn(&str) -> bool,
) -> Result<Vec<String>, std::io::Error> {
    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        lines.push(line?);
        if lines.last().is_some_and(|line| last(line)) {
            break;
        }
    }
    Ok(lines)
}

fn text_and_json_on_the_socket() -> Outcome {
    let (_lab, daemon) = empty()?;
    let mode = fs::metadata(daemon.socket())?.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "the socket's mode is {mode:o}");
    let is_exit: fn(&str) -> bool = |line| line.starts_with("exit ");
    let answer = converse(&daemon, "-A -t 10.83.0.101:80 -s rr", is_exit)?;
    ensure!(answer == ["exit 0"], "a change gave {answer:?}");
    let answer = converse(&daemon, "-Ln", is_exit)?;
    ensure!(
        answer.iter().any(|line| line == "TCP  10.83.0.101:80 rr"),
        "-Ln gave {answer:?}"
    );
    ensure!(
        answer.last().is_some_and(|line| line == "exit 0"),
        "-Ln gave {answer:?}"
    );
    let request = r#"{"v":1,"id":7,"argv":["-Ln"],"stdin":""}"#;
    let answer = converse(&daemon, request, |line| !line.contains("\"more\":true"))?;
    let object: serde_json::Value =
        serde_json::from_str(answer.last().map_or("", String::as_str)).unwrap_or_default();
    ensure!(
        object["v"] == 1 && object["id"] == 7 && object["exit"] == 0,
        "JSON gave {answer:?}"
    );
    let text = object["stdout"].as_str().unwrap_or_default();
    ensure!(
        text.contains("TCP  10.83.0.101:80 rr\n"),
        "JSON gave {answer:?}"
    );
    ensure!(object["generation"].is_u64(), "no generation in {answer:?}");
    Ok(())
}

/// Who may write to the socket may read; only root changes anything.
fn changes_need_root() -> Outcome {
    let (lab, daemon) = empty()?;
    let program = lab.file("sluice");
    fs::copy(sluice(), &program)?;
    for path in [lab.file(""), program.clone(), daemon.socket().to_path_buf()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    let as_nobody = |arguments: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg("--socket")
            .arg(daemon.socket())
            .args(arguments)
            .output()
    };
    let output = as_nobody(&["-A", "-t", "10.83.0.101:80"])?;
    ensure!(!output.status.success(), "an ordinary user added a service");
    ensure!(
        daemon.ask(&["-Ln"])? == HEAD,
        "an ordinary user added a service"
    );
    Ok(())
}

fn a_mute_client_delays_nobody() -> Outcome {
    let (_lab, daemon) = empty()?;
    let mut mute = Vec::new();
    for half in ["", "-A -t 10.83.0", "{\"v\":1"] {
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.write_all(half.as_bytes())?;
        mute.push(stream);
    }
    let start = std::time::Instant::now();
    for _ in 0..10 {
        daemon.ask(&["-Ln"])?;
    }
    let took = start.elapsed();
    ensure!(
        took < Duration::from_secs(2),
        "10 listings beside {} mute clients: {took:?}",
        mute.len()
    );
    Ok(())
}

fn every_change_is_in_the_log() -> Outcome {
    let (_lab, daemon) = empty()?;
    daemon.ask(&["-A", "-t", "10.83.0.101:80", "-s", "rr"])?;
    let log = daemon.words();
    let line = log.lines().find(|line| line.contains("10.83.0.101:80"));
    ensure!(
        line.is_some_and(|l| l.contains("uid=0") || l.contains("uid 0")),
        "the log is\n{log}"
    );
    Ok(())
}

/// What passed is counted, and no frame is without a verdict.
fn status_counts_packets() -> Outcome {
    let lab = Lab::with_web(1)?;
    let daemon = Daemon::start(&lab, &Toml::with(web("rr", &[1])))?;
    let answers = lab.fetch(&format!("http://{VIP}/"), 25);
    ensure!(answers.len() == 25, "{} of 25 answered", answers.len());
    // A frame may be under way while the counters are read.
    let mut seen = (0, 0, String::new());
    let equal = wait_for(3, || match frames_in_and_out(&daemon) {
        Ok(sums) => {
            seen = sums;
            seen.0 == seen.1
        }
        Err(_) => false,
    });
    let (taken, ended, text) = seen;
    ensure!(
        equal,
        "{taken} frames taken, {ended} with a verdict:\n{text}"
    );
    // At the very least SYN, ACK, request and FIN of each.
    ensure!(taken >= 100, "only {taken} frames taken:\n{text}");
    Ok(())
}

/// Over all workers: frames taken, and frames that ended in a verdict; and what status said.
fn frames_in_and_out(daemon: &Daemon) -> Result<(u64, u64, String), Failure> {
    let text = daemon.ask(&["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| format!("status --json is no JSON ({error}):\n{text}"))?;
    let (mut taken, mut ended) = (0, 0);
    for worker in status["workers"].as_array().into_iter().flatten() {
        for counter in worker["counters"].as_array().into_iter().flatten() {
            let (name, count) = (
                counter[0].as_str().unwrap_or(""),
                counter[1].as_u64().unwrap_or(0),
            );
            match name {
                "rx" | "handed-in" | "injected" | "released" => taken += count,
                "transmit" | "handed-out" | "held" => ended += count,
                _ if name.starts_with("drop-") || name.starts_with("punt-") => ended += count,
                _ => {}
            }
        }
    }
    Ok((taken, ended, text))
}

fn check_reads_a_file() -> Outcome {
    let lab = Lab::new(0)?;
    let check = |text: &str| -> Result<(Option<i32>, String), std::io::Error> {
        let file = lab.file("check.toml");
        fs::write(&file, text)?;
        let output = Command::new(sluice()).arg("check").arg(&file).output()?;
        Ok((output.status.code(), words(&output)))
    };
    let good = Toml::with(web("rr", &[1, 1])).text(&lab.file("sluice.sock"));
    let (code, text) = check(&good)?;
    ensure!(code == Some(0), "a good file gave {code:?}: {text}");
    let (code, text) = check(&good.replace("weight = 1", "weight = 70000"))?;
    ensure!(
        code.is_some_and(|code| code != 0),
        "a bad file gave {code:?}: {text}"
    );
    ensure!(
        text.contains("check.toml:") && text.contains("70000"),
        "a bad file gave: {text}"
    );
    Ok(())
}

fn the_log_is_set_at_run_time() -> Outcome {
    let (_lab, daemon) = empty()?;
    daemon.ask(&["log", "warn"])?;
    let shown = daemon.ask(&["log"])?;
    ensure!(shown == "warn\n", "the filter is {shown:?}");
    daemon.ask(&["-A", "-t", "10.83.0.101:80"])?;
    daemon.ask(&["log", "info"])?;
    daemon.ask(&["-A", "-t", "10.83.0.101:81"])?;
    let log = daemon.words();
    ensure!(
        !log.contains("10.83.0.101:80"),
        "logged below its level:\n{log}"
    );
    ensure!(log.contains("10.83.0.101:81"), "not logged:\n{log}");
    let output = daemon.sluice(&["log", "infoo"]);
    ensure!(output.status.code() == Some(2), "{}", words(&output));
    let shown = daemon.ask(&["log"])?;
    ensure!(shown == "info\n", "a refused filter stays: {shown:?}");
    Ok(())
}
