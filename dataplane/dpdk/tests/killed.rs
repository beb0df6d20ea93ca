//! A process that was killed leaves a runtime folder; the next start removes it.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use dpdk::{Eal, EalConfig};

#[test]
fn killed() {
    if common::is_child() {
        let config = EalConfig {
            telemetry: true,
            ..EalConfig::default()
        };
        let _eal = Eal::init(&config).expect("EAL needs nothing of the machine");
        println!("EAL runs");
        loop {
            std::thread::park();
        }
    }
    let this = std::env::current_exe().expect("Linux");
    let mut child = common::child(&this, "killed");
    let mut child = child.stdout(Stdio::piped()).spawn().expect("ourselves");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = lines.any(|line| line.is_ok_and(|line| line.contains("EAL runs")));
    assert!(ready, "the child started EAL");
    let folders = common::folders_of(child.id());
    let sockets = folders
        .iter()
        .filter(|folder| folder.join("dpdk_telemetry.v2").exists());
    assert_eq!(
        sockets.count(),
        1,
        "EAL makes a folder, and in it what was asked for"
    );
    dpdk::leftovers::remove();
    assert_eq!(common::folders_of(child.id()), folders, "its owner lives");
    child.kill().expect("ours");
    child.wait().expect("ours");
    let removed = dpdk::leftovers::remove();
    assert!(
        folders.iter().all(|folder| removed.contains(folder)),
        "{removed:?}"
    );
    assert!(common::folders_of(child.id()).is_empty());
}
