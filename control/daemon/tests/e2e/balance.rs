//! Real clients balanced over real servers: every request answered, each server its share.

use std::fs;

use crate::daemon::{Daemon, Toml, service, web};
use crate::lab::{CLIENT, Lab, VIP, cores, run};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("balance::rr_gives_equal_shares", rr_gives_equal_shares),
    (
        "balance::wrr_gives_shares_by_weight",
        wrr_gives_shares_by_weight,
    ),
    (
        "balance::weight_zero_gets_nothing",
        weight_zero_gets_nothing,
    ),
    (
        "balance::wlc_avoids_the_busy_server",
        wlc_avoids_the_busy_server,
    ),
    (
        "balance::two_workers_keep_the_shares",
        two_workers_keep_the_shares,
    ),
    (
        "balance::udp_datagrams_are_shared",
        udp_datagrams_are_shared,
    ),
    (
        "balance::large_upload_and_download",
        large_upload_and_download,
    ),
];

const REQUESTS: usize = 1000;

fn url() -> String {
    format!("http://{VIP}/")
}

/// 1,000 requests give these shares, and the servers saw the client itself.
fn shares_are(lab: &Lab, want: &[usize]) -> Outcome {
    let answers = lab.fetch(&url(), REQUESTS);
    ensure!(
        answers.len() == REQUESTS,
        "{} of {REQUESTS} requests answered",
        answers.len()
    );
    let shares = lab.shares(&answers);
    ensure!(shares == want, "shares are {shares:?}, not {want:?}");
    for (index, want) in want.iter().enumerate() {
        let visitors = lab.visitors(index + 1);
        let known = visitors.iter().filter(|visitor| *visitor == CLIENT).count();
        ensure!(
            visitors.len() == known,
            "real {}: not the client: {visitors:?}",
            index + 1
        );
        ensure!(
            known == *want,
            "real {} logged {known} requests, not {want}",
            index + 1
        );
    }
    Ok(())
}

fn rr_gives_equal_shares() -> Outcome {
    let lab = Lab::with_web(4)?;
    let _daemon = Daemon::start(&lab, &Toml::with(web("rr", &[1, 1, 1, 1])))?;
    shares_are(&lab, &[250, 250, 250, 250])
}

fn wrr_gives_shares_by_weight() -> Outcome {
    let lab = Lab::with_web(3)?;
    let daemon = Daemon::start(&lab, &Toml::with(web("wrr", &[5, 1, 4])))?;
    shares_are(&lab, &[500, 100, 400])?;
    let listing = daemon.ask(&["-Ln"])?;
    let head = "IP Virtual Server version 1.2.1 (size=4096)\n\
                Prot LocalAddress:Port Scheduler Flags\n  \
                -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
                TCP  10.83.0.100:80 wrr\n  \
                -> 10.83.0.21:80                Route   5      ";
    ensure!(listing.starts_with(head), "the listing is\n{listing}");
    Ok(())
}

fn weight_zero_gets_nothing() -> Outcome {
    let lab = Lab::with_web(2)?;
    let daemon = Daemon::start(&lab, &Toml::with(web("rr", &[1, 1])))?;
    daemon.ask(&[
        "-e",
        "-t",
        &format!("{VIP}:80"),
        "-r",
        "10.83.0.21:80",
        "-g",
        "-w",
        "0",
    ])?;
    let shares = lab.shares(&lab.fetch(&url(), 50));
    ensure!(shares == [0, 50], "shares are {shares:?}");
    Ok(())
}

/// Four held connections on each of two servers; then one drains, the other gets four more,
/// and on its return the first gets the next ones: it has fewer.
fn wlc_avoids_the_busy_server() -> Outcome {
    let mut lab = Lab::with_web(2)?;
    let daemon = Daemon::start(&lab, &Toml::with(web("wlc", &[1, 1])))?;
    let address = format!("{VIP}:80");
    let client = lab.client();
    let weight = |real: &str, weight: &str| {
        daemon
            .ask(&["-e", "-t", &address, "-r", real, "-g", "-w", weight])
            .map(drop)
    };
    weight("10.83.0.21:80", "0")?;
    lab.start_peer(&client, &["tcp-hold", &address, "8"])?;
    weight("10.83.0.21:80", "1")?;
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(
        active(&listing) == [0, 8],
        "after 8 held connections:\n{listing}"
    );
    lab.start_peer(&client, &["tcp-hold", &address, "6"])?;
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(
        active(&listing) == [6, 8],
        "6 more should go to the idle server:\n{listing}"
    );
    Ok(())
}

/// The ActiveConn column of the reals, by address.
fn active(listing: &str) -> Vec<u32> {
    let mut rows: Vec<(&str, u32)> = listing
        .lines()
        .filter_map(|line| line.strip_prefix("  -> 10."))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            Some((*fields.first()?, fields.get(3)?.parse().ok()?))
        })
        .collect();
    rows.sort_unstable();
    rows.into_iter().map(|(_, count)| count).collect()
}

/// Each worker goes round by itself, so each may be off by one at its end.
fn two_workers_keep_the_shares() -> Outcome {
    let cores = cores();
    let [first, second, ..] = cores[..] else {
        return Err(Failure::CannotRun("one processor only".to_owned()));
    };
    let lab = Lab::with_web(4)?;
    let toml = Toml {
        workers: vec![first, second],
        ..Toml::with(web("rr", &[1, 1, 1, 1]))
    };
    let _daemon = Daemon::start(&lab, &toml)?;
    let answers = lab.fetch(&url(), REQUESTS);
    let shares = lab.shares(&answers);
    ensure!(
        answers.len() == REQUESTS,
        "{} of {REQUESTS} requests answered",
        answers.len()
    );
    ensure!(
        shares.iter().all(|share| share.abs_diff(250) <= 2),
        "shares are {shares:?}"
    );
    Ok(())
}

fn udp_datagrams_are_shared() -> Outcome {
    let mut lab = Lab::new(2)?;
    let address = format!("{VIP}:5300");
    for index in [1, 2] {
        lab.start_peer(
            &lab.real(index),
            &["udp-server", &address, &format!("real-{index}")],
        )?;
    }
    let rest = service(&format!("udp {address}"), "rr", &[1, 1]);
    let _daemon = Daemon::start(&lab, &Toml::with(rest))?;
    let text = run(&mut lab.peer(&lab.client(), &["udp-client", &address, "100"])?)?;
    for index in [1, 2] {
        let want = format!("real-{index} {CLIENT}");
        let count = text.lines().filter(|line| *line == want).count();
        ensure!(count == 50, "{count} of 50 answers are {want:?}:\n{text}");
    }
    Ok(())
}

/// Uploads pass through the director in full-sized frames; downloads only their ACKs.
fn large_upload_and_download() -> Outcome {
    let lab = Lab::with_web(1)?;
    let body: Vec<u8> = (0..10_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let file = lab.file("body");
    let back = lab.file("back");
    fs::write(&file, &body)?;
    let _daemon = Daemon::start(&lab, &Toml::with(web("rr", &[1])))?;
    let there = format!("{}files/stored", url());
    let curl = |arguments: [&str; 2]| {
        let mut command = Lab::inside(&lab.client(), "curl");
        run(command
            .args(["-sS", "--fail", "--max-time", "30"])
            .args(arguments)
            .arg(&there))
    };
    curl(["--upload-file", &file.to_string_lossy()])?;
    ensure!(
        fs::read(lab.file("files/stored"))? == body,
        "the server stored something else"
    );
    curl(["--output", &back.to_string_lossy()])?;
    ensure!(
        fs::read(&back)? == body,
        "the download differs from the file"
    );
    Ok(())
}
