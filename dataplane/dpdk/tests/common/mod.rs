//! What the tests of devices share. EAL starts once per process, so each file has one test.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::process::Command;

use dataplane::port::{Burst, Frame};
use dpdk::{Eal, EalConfig, Hugepages, Mbuf, Pool, PoolConfig};

/// EAL as it runs anywhere: no hugepages, no hardware.
pub(crate) fn eal() -> Eal {
    let config = EalConfig {
        hugepages: Hugepages::Off,
        ..EalConfig::default()
    };
    Eal::init(&config).expect("EAL needs nothing of the machine")
}

/// A small pool.
pub(crate) fn pool(eal: &Eal) -> Pool {
    let config = PoolConfig {
        buffers: 4095,
        buffer_size: 2048,
        socket: None,
    };
    Pool::new(&eal.handle(), config).expect("10 MiB of 64")
}

/// A frame with these bytes.
pub(crate) fn frame(pool: &Pool, bytes: &[u8]) -> Mbuf {
    let mut frame = pool.take().expect("a buffer is left");
    assert!(frame.append(bytes.len()));
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

/// Frame number `n`: its own content, its own length.
pub(crate) fn content(n: usize) -> Vec<u8> {
    (0..60 + n * 7 % 1400)
        .map(|i| u8::try_from((i * 31 + n) % 251).expect("below 251"))
        .collect()
}

/// The bytes of each frame.
pub(crate) fn all_bytes(burst: &Burst<Mbuf>) -> Vec<Vec<u8>> {
    burst.iter().map(|frame| frame.bytes().to_vec()).collect()
}

/// This process's runtime folder, wherever it would be.
pub(crate) fn runtime_folders() -> Vec<PathBuf> {
    folders_of(std::process::id())
}

/// The same of another process.
pub(crate) fn folders_of(pid: u32) -> Vec<PathBuf> {
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let bases = [Some("/var/run".into()), Some("/tmp".into()), xdg];
    let entries = bases
        .into_iter()
        .flatten()
        .filter_map(|base| base.join("dpdk").read_dir().ok());
    let ours = format!("sluice-{pid}-");
    entries
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours))
        .map(|entry| entry.path())
        .collect()
}

/// Says why a test can't run; with CI=true that is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "in CI every test must run: {reason}"
    );
    println!("skipped: {reason}");
}

/// Whether this is root.
pub(crate) fn root() -> bool {
    let me = std::fs::metadata("/proc/self").expect("Linux");
    std::os::unix::fs::MetadataExt::uid(&me) == 0
}

/// Set in the process that a test starts from itself.
pub(crate) const CHILD: &str = "SLUICE_TEST_CHILD";

/// This very test again, in a process of its own.
pub(crate) fn child(program: &std::path::Path, test: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1");
    command
}

/// Whether this is that process.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}
