//! What the figures were taken on.

use std::fs::read_to_string;
use std::process::Command;

use crate::daemon::built;

/// Processor, caches, system, what was built by what, and memory pages, a line each.
pub(crate) fn describe() -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let field = |file: &str, name: &str| -> Option<String> {
        let text = read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| unknown());
    let free = field("/proc/meminfo", "HugePages_Free").unwrap_or_else(unknown);
    let thp = read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    vec![
        format!("processor: {processor}, {cores} of its threads for us"),
        format!(
            "last-level cache: {}",
            last_level_cache().unwrap_or_else(unknown)
        ),
        format!("Linux {}", kernel.trim()),
        format!("commit: {}", commit().unwrap_or_else(unknown)),
        format!("compiler: {}", compiler()),
        daemon().unwrap_or_else(|| format!("DPDK {}", dpdk().unwrap_or_else(unknown))),
        format!(
            "2 MiB pages: {free} reserved and free; transparent ones {}",
            thp.unwrap_or_else(|_| unknown()).trim()
        ),
        format!("load when it began: {}", load().unwrap_or_else(unknown)),
    ]
}

/// The compiler's version and the target's processor: what an instruction count depends on.
pub(crate) fn compiler() -> String {
    let version = said("rustc", &["--version"]).unwrap_or_else(|| "rustc unknown".to_owned());
    let cpu = std::env::var("RUSTFLAGS").unwrap_or_default();
    let cpu = cpu.split_whitespace().find_map(|flag| {
        let at = flag.find("target-cpu=")?;
        Some(flag[at + "target-cpu=".len()..].to_owned())
    });
    // Said elsewhere than in the environment, as in cargo's files: at least not taken for the default.
    let is_default = !cfg!(all(target_arch = "x86_64", target_feature = "sse3"));
    let unsaid = if is_default { "default" } else { "unknown" };
    let cpu = cpu.unwrap_or_else(|| unsaid.to_owned());
    format!("{}, target-cpu {cpu}, {}", version, std::env::consts::ARCH)
}

/// What one line of a program says.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (out.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// Which of the repository's it is, if it is not a copy without history.
fn commit() -> Option<String> {
    let hash = said("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    Some(match changed {
        Some(_) => format!("{hash}, and changes that are not in it"),
        None => hash,
    })
}

/// The daemon's version, and DPDK's with where that is.
fn daemon() -> Option<String> {
    let program = built("sluiced").ok()?;
    said(program.to_str()?, &["--version"])
}

fn dpdk() -> Option<String> {
    said("pkg-config", &["--modversion", "libdpdk"])
}

fn last_level_cache() -> Option<String> {
    let size = |index: u32| {
        let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let read = |name: &str| read_to_string(format!("{folder}/{name}")).ok();
        Some(format!(
            "L{} {}",
            read("level")?.trim(),
            read("size")?.trim()
        ))
    };
    (0..8).rev().find_map(size)
}

fn load() -> Option<String> {
    let text = read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next().map(str::to_owned)
}
