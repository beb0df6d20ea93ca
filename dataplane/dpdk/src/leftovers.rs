//! What a dead `sluiced` left: runtime folders of EAL, and files on hugepages.
//!
//! Each carries its maker's name, `sluice-PID-STARTED`; with the time of the process's start in
//! it, a process number that was given out again does not look like a living owner.

use std::fs;
use std::path::{Path, PathBuf};

const NAME: &str = "sluice-";

/// A process, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// Clock ticks from boot to the start of the process.
    pub(crate) started: u64,
}

impl Owner {
    pub(crate) fn this_process() -> Owner {
        let pid = std::process::id();
        Owner {
            pid,
            started: start_of(pid).unwrap_or(0),
        }
    }

    /// EAL's file prefix for it.
    pub(crate) fn prefix(&self) -> String {
        format!("{NAME}{}-{}", self.pid, self.started)
    }

    /// The owner of `sluice-PID-STARTED`, or of a file whose name begins so (`...map_0`).
    fn parse(name: &str) -> Option<Owner> {
        let (pid, rest) = name.strip_prefix(NAME)?.split_once('-')?;
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        Some(Owner {
            pid: pid.parse().ok()?,
            started: rest[..digits].parse().ok()?,
        })
    }

    fn alive(&self) -> bool {
        start_of(self.pid).is_some_and(|started| started == self.started)
    }
}

/// Field 22 of `/proc/PID/stat`; the second field is in brackets and may hold anything.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Removes what dead `sluiced` processes left, and says what that was.
///
/// What is not ours to remove (another user's) stays.
pub fn remove() -> Vec<PathBuf> {
    let mut removed: Vec<PathBuf> = hugepage_mounts()
        .iter()
        .flat_map(|mount| remove_dead(mount))
        .collect();
    for base in runtime_bases() {
        let dead = remove_dead(&base);
        if !dead.is_empty() {
            // EAL made this one too; it goes if nobody else is in it.
            let _ = fs::remove_dir(&base);
        }
        removed.extend(dead);
    }
    removed
}

/// Where EAL keeps its runtime folders, as this user.
pub(crate) fn runtime_bases() -> Vec<PathBuf> {
    // SAFETY: asks the kernel for a number; nothing else happens.
    if unsafe { libc::getuid() } == 0 {
        return vec!["/var/run/dpdk".into()];
    }
    // EAL takes XDG_RUNTIME_DIR, and /tmp where that is not set.
    let folder = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| "/tmp".into());
    vec![Path::new(&folder).join("dpdk")]
}

fn hugepage_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let folder = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (folder, kind) = (words.next()?, words.next()?);
        (kind == "hugetlbfs").then(|| PathBuf::from(folder))
    };
    mounts.lines().filter_map(folder).collect()
}

fn remove_dead(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let dead = |name: &str| Owner::parse(name).is_some_and(|owner| !owner.alive());
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(dead))
        .map(|entry| entry.path())
        .filter(|path| remove_one(path))
        .collect()
}

fn remove_one(path: &Path) -> bool {
    // Neither follows a symbolic link.
    fs::remove_file(path)
        .or_else(|_| fs::remove_dir_all(path))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_are_removed() {
        let folder = std::env::temp_dir().join(format!("leftovers-{}", std::process::id()));
        let alive = Owner::this_process();
        let reborn = Owner {
            started: alive.started.wrapping_add(1),
            ..alive
        };
        let stays = [
            alive.prefix(),
            "rte".into(),
            "sluice-x".into(),
            "sluice-1".into(),
        ];
        let map_file = format!("{}map_0", reborn.prefix());
        for name in stays.iter().chain([&reborn.prefix()]) {
            fs::create_dir_all(folder.join(name).join("inside")).expect("a temporary folder");
        }
        fs::write(folder.join(&map_file), "").expect("a temporary file");
        let mut removed = remove_dead(&folder);
        removed.sort();
        assert_eq!(
            removed,
            [folder.join(reborn.prefix()), folder.join(map_file)]
        );
        assert!(stays.iter().all(|name| folder.join(name).exists()));
        fs::remove_dir_all(&folder).expect("made above");
    }
}
