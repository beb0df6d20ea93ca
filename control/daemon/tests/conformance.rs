//! ipvsadm to the letter: transcripts of calls of `sluice` under its names, against a daemon with no
//! ports, which needs neither hugepages nor namespaces.
//!
//! A transcript (`conformance/*.txt`) is a row of cases, each behind a line `## name` and from an empty
//! daemon:
//!
//! ```text
//! $ ipvsadm -A -t 10.0.0.1:80        a call
//! < -A -t 10.0.0.1:81                a line of its standard input
//! TCP  10.0.0.1:80 wlc               standard output; a dot behind blanks at the end
//! ! No such service                  standard error
//! ? 255                              the exit code, if it is not 0
//! ```

use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(30);

/// A daemon, ended when dropped, and `sluice` under its names.
struct Daemon {
    folder: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sluiced = Path::new(env!("CARGO_BIN_EXE_sluiced"));
        let sluice = sluiced.with_file_name("sluice");
        assert!(sluice.exists(), "cargo build -p sluice comes first");
        for name in ["sluice", "ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            symlink(&sluice, folder.path().join(name)).expect("a fresh folder");
        }
        let file = folder.path().join("lb.toml");
        let socket = socket_in(folder.path());
        let text = format!(
            "version = 1\n[dataplane]\nworkers = [0]\nconnections = 1000\nidle = \"sleep\"\n\
             hugepages = \"off\"\n[control]\nsocket = \"{}\"\n",
            socket.display()
        );
        std::fs::write(&file, text).expect("a fresh folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a fresh folder");
        let process = Command::new(sluiced)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("an open file"))
            .stderr(log)
            .spawn()
            .expect("it is built");
        let daemon = Self { folder, process };
        let patience = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            let log = std::fs::read_to_string(daemon.folder.path().join("log"));
            assert!(patience.elapsed() < START, "{}", log.unwrap_or_default());
            thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// Runs one call; what it said, as a transcript has it.
    fn call(&self, line: &str, input: &str) -> String {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a program");
        let mut child = Command::new(self.folder.path().join(name))
            .args(words)
            .env("SLUICE_SOCKET", socket_in(self.folder.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        // A call that reads no input may be gone already.
        let _ = child
            .stdin
            .take()
            .expect("it is piped")
            .write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        let folder = format!("{}/", self.folder.path().display());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&folder, "");
        let mut said = String::new();
        for line in text(&output.stdout).lines() {
            said += &format!("{}\n", visible(line));
        }
        for line in text(&output.stderr).lines() {
            said += &format!("! {line}\n");
        }
        match output.status.code().expect("no signal") {
            0 => said,
            code => said + &format!("? {code}\n"),
        }
    }

    /// An empty daemon with the timeouts that it started with.
    fn clear(&self) {
        for line in ["ipvsadm -C", "ipvsadm --set 900 120 300"] {
            assert_eq!(self.call(line, ""), "", "{line}");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // There is nothing to give up: no port, no VIP that anybody sees.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// With a dot behind blanks at the end, which nobody would see.
fn visible(line: &str) -> String {
    let dot = if line.ends_with(' ') { "·" } else { "" };
    format!("{line}{dot}")
}

/// Changes are root's.
fn may_change() -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        eprintln!("skipped: only root may change a daemon's services");
    }
    root
}

/// A call of a transcript, and what it says.
struct Row<'a> {
    line: &'a str,
    input: String,
    want: String,
}

/// The cases of a transcript: name and calls.
fn cases(text: &str) -> Vec<(&str, Vec<Row<'_>>)> {
    let mut cases: Vec<(&str, Vec<Row<'_>>)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            cases.push((name, Vec::new()));
            continue;
        }
        let Some((name, rows)) = cases.last_mut() else {
            continue;
        };
        if let Some(line) = line.strip_prefix("$ ") {
            let (input, want) = Default::default();
            rows.push(Row { line, input, want });
        } else if let Some(row) = rows.last_mut() {
            match line.strip_prefix('<') {
                Some(input) => {
                    row.input += &format!("{}\n", input.strip_prefix(' ').unwrap_or(input))
                }
                None if line.is_empty() => {}
                None => row.want += &format!("{line}\n"),
            }
        } else {
            panic!("{name}: {line:?} stands before the first call");
        }
    }
    cases
}

/// Runs a transcript; says how many calls it had.
fn play(text: &str) -> usize {
    let all = cases(text);
    let calls = all.iter().map(|(_, rows)| rows.len()).sum();
    if !may_change() {
        return calls;
    }
    let daemon = Daemon::start();
    let mut wrong = String::new();
    for (name, rows) in all {
        daemon.clear();
        for Row { line, input, want } in rows {
            let got = daemon.call(line, &input);
            if got != want {
                wrong += &format!("## {name}\n$ {line}\n{got}--- instead of\n{want}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    calls
}

#[test]
fn the_conformance_table() {
    let text = include_str!("conformance/table.txt");
    let names: Vec<_> = cases(text).into_iter().map(|(name, _)| name).collect();
    // A19 is about large counts, which a daemon without traffic has none of: see the tests of
    // `proto::layout`.
    for n in (1..=20).filter(|&n| n != 19) {
        let wanted = format!("A{n} ");
        let has = |name: &&str| name.starts_with(&wanted);
        assert_eq!(names.iter().filter(|name| has(name)).count(), 1, "A{n}");
    }
    play(text);
}

macro_rules! transcripts {
    ($($name:ident: $file:literal, $least:literal calls;)+) => {
        $(#[test]
        fn $name() {
            let calls = play(include_str!(concat!("conformance/", $file, ".txt")));
            assert!(calls >= $least, "{calls} calls");
        })+
    };
}

transcripts! {
    invocation: "invocation", 20 calls;
    addresses: "addresses", 20 calls;
    edits: "edits", 10 calls;
    messages: "messages", 40 calls;
    saves_and_restores: "save", 10 calls;
    listings: "listings", 10 calls;
    dpvs: "dpvs", 30 calls;
}
