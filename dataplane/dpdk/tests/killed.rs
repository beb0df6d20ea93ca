//! A process that was killed leaves a runtime folder; the next start removes it.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn killed() {
    if common::is_child() {
        let _eal = common::eal();
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
    assert!(!folders.is_empty(), "EAL makes one");
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
