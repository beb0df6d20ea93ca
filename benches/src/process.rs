//! A program under test: started in a network namespace of its own, stopped and let go on, and the
//! time that one of its threads had on a processor.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A child that is gone when this is dropped, or when we are.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `program` with these words; what it says goes to `log`.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        log: &Path,
        stdin: Stdio,
    ) -> io::Result<Self> {
        let root = nix::unistd::geteuid().is_root();
        let out = File::create(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net"]);
        if !root {
            command.arg("--map-root-user");
        }
        let child = command
            .args(["stdbuf", "--output=L"])
            .arg(program)
            .args(args)
            .stdin(stdin)
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()?;
        Ok(Self {
            child,
            name: program.display().to_string(),
        })
    }

    /// Its standard input.
    pub(crate) fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"))
    }

    /// Stops it, or lets it go on.
    pub(crate) fn pause(&self, pause: bool) -> Result<(), String> {
        let signal = if pause {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        kill(self.pid(), signal).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", self.name);
        kill(self.pid(), Signal::SIGTERM).map_err(|error| said(&error))?;
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if self
                .child
                .try_wait()
                .map_err(|error| said(&error))?
                .is_some()
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{} does not end", self.name))
    }

    /// Waits until `ready`, for a minute at most.
    pub(crate) fn wait_for<T>(
        &mut self,
        log: &Path,
        mut ready: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, String> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let said = fs::read_to_string(log).unwrap_or_default();
            if let Some(ready) = ready(&said) {
                return Ok(ready);
            }
            let gone = self.child.try_wait().map_err(|error| error.to_string())?;
            if gone.is_some() || Instant::now() > until {
                let lines: Vec<_> = said.lines().rev().take(5).collect();
                return Err(format!(
                    "{} did not start: {}",
                    self.name,
                    lines.join(" | ")
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The time that its thread of this name had on a processor, in nanoseconds.
    pub(crate) fn on_cpu(&self, thread: &str) -> Result<u64, String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let folders = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
        for folder in folders.flatten() {
            let read = |file: &str| fs::read_to_string(folder.path().join(file));
            if read("comm").is_ok_and(|comm| comm.trim() == thread) {
                let text = read("schedstat").map_err(|error| error.to_string())?;
                let first = text.split_whitespace().next();
                let time = first.and_then(|word| word.parse().ok());
                return time.ok_or(format!("schedstat of {thread} says {text:?}"));
            }
        }
        Err(format!("{} has no thread {thread}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    /// Makes one; in memory, where there is such a place: nothing is to be written to a disk.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        remove_leftovers(&base);
        let path = base.join(format!("{PREFIX}{}-{name}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

const PREFIX: &str = "sluice-bench-";

/// Removes the folders of runs that were killed.
fn remove_leftovers(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let gone = |pid: &str| !Path::new("/proc").join(pid).exists();
        if pid.is_some_and(gone) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Free reserved hugepages of 2 MiB.
pub(crate) fn free_hugepages() -> u32 {
    let text = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// The cores that this process may use: the first one is for control, the second for a worker.
pub(crate) fn cores() -> Vec<u16> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default();
    let range = |range: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}
