//! Control with no ports, over a real Unix socket: what ipvsadm prints, and clients of every
//! kind of bad behaviour.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use config::model::Config;
use control::kernel::Kernel;
use control::run::{Control, Parts};
use control::socket::Socket;
use control::topology::Topology;
use dataplane::published::Reader;
use dataplane::services::Snapshot;

/// A control thread, ended when dropped.
struct Instance {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Instance {
    /// Control whose administrator is whoever runs the test.
    fn start() -> Self {
        Self::with_administrator(me())
    }

    fn with_administrator(administrator: u32) -> Self {
        Self::with(administrator, 0, |control, _| {
            control.turn().expect("the event queue works");
        })
    }

    /// Control with `workers` workers that are nothing but their readers, run by `step`.
    fn with(
        administrator: u32,
        workers: usize,
        mut step: impl FnMut(&mut Control, &mut [Reader<Snapshot>]) + Send + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("sluice.sock");
        let socket = Socket::claim(&path, None).expect("a free path");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut config = Config::default();
            config.control.stop_delay = 60;
            let parts = Parts {
                config: &config,
                file: None,
                topology: Topology::new(Vec::new(), &config),
                kernel: Kernel::default(),
                socket,
                exchange: None,
                workers: (0..workers).map(|_| (0, Arc::default())).collect(),
                devices: Vec::new(),
                signals: None,
                administrator,
            };
            let (mut control, mut readers) = Control::new(parts).expect("nothing is refused");
            while !stopped.load(Ordering::Relaxed) {
                step(&mut control, &mut readers);
            }
        });
        Self {
            path,
            stop,
            thread: Some(thread),
            _folder: folder,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("it listens");
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).expect("a timeout");
        stream
    }

    /// One call in text: what it prints, and its exit code.
    fn call(&self, words: &str) -> (String, u8) {
        let mut stream = self.connect();
        writeln!(stream, "{words}").expect("it reads");
        answer(&mut BufReader::new(stream))
    }

    /// One call as JSON.
    fn json(&self, argv: &[&str], stdin: &str) -> serde_json::Value {
        let mut stream = self.connect();
        let request = serde_json::json!({"v": 1, "id": 7, "argv": argv, "stdin": stdin});
        writeln!(stream, "{request}").expect("it reads");
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it, if it still listens.
        let _ = UnixStream::connect(&self.path);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking());
        assert!(
            !self.path.exists() || thread::panicking(),
            "the socket goes with control"
        );
    }
}

fn answer(reader: &mut impl BufRead) -> (String, u8) {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        let n = reader.read_line(&mut line).expect("an answer in time");
        assert!(n > 0, "cut off behind {text:?}");
        if let Some(code) = line.strip_prefix("exit ") {
            return (text, code.trim().parse().expect("a number"));
        }
        text.push_str(&line);
    }
}

const LISTING: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
    Prot LocalAddress:Port Scheduler Flags\n\
    \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n";

#[test]
fn conformance() {
    let daemon = Instance::start();
    #[rustfmt::skip]
    let steps = [
        ("A1",  "-A -t 10.0.0.1:80",                      "", 0),
        ("A1",  "-A -t 10.0.0.1:80",                      "Service already exists\n", 255),
        ("A4",  "-a -t 10.0.0.9:80 -r 1.1.1.1",           "Service not defined\n", 255),
        ("A5",  "-a -t 10.0.0.1:80 -r 1.1.1.1:8080",      "", 0),
        ("A5",  "-Sn",                                    "-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 1.1.1.1:80 -g -w 1\n", 0),
        ("H",   "-a -t 10.0.0.1:80 -r 1.1.1.1:81",        "Destination already exists\n", 255),
        ("A6",  "-e -t 10.0.0.1:80 -r 1.1.1.3:8080 -w 5", "No such destination\n", 255),
        ("A12", "-L -t 9.9.9.9:80",                       "No such service\n", 1),
        ("A4",  "-D -t 9.9.9.9:80",                       "No such service\n", 255),
        ("A4",  "-E -t 9.9.9.9:80",                       "No such service\n", 255),
        ("A16", "-E -t 10.0.0.1:80 -s rr",                "", 0),
        ("A16", "-Sn",                                    "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 1.1.1.1:80 -g -w 1\n", 0),
        ("A.3", "-e -t 10.0.0.1:80 -r 1.1.1.1 -w 7",      "", 0),
        ("A.3", "-a -t 10.0.0.1:80 -r 1.1.1.2",           "", 0),
        ("A.3", "-e -t 10.0.0.1:80 -r 1.1.1.1",           "", 0),
        ("A.5", "-Sn",                                    "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 1.1.1.1:80 -g -w 1\n-a -t 10.0.0.1:80 -r 1.1.1.2:80 -g -w 1\n", 0),
        ("A2",  "-A -t 10.0.0.2",                         "Zero port specified for non-persistent service\n", 2),
        ("A15", "-x",                                     "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n", 255),
        ("A.6", "-d -t 10.0.0.1:80 -r 1.1.1.2",           "", 0),
        ("A.6", "-d -t 10.0.0.1:80 -r 1.1.1.2",           "No such destination\n", 255),
        ("A.6", "-C",                                     "", 0),
        ("A.7", "-Ln",                                    LISTING, 0),
        ("A.4", "-D -t 10.0.0.1:80",                      "No such service\n", 255),
    ];
    for (case, words, text, exit) in steps {
        assert_eq!(
            daemon.call(words),
            (text.to_owned(), exit),
            "{case}: {words}"
        );
    }
}

/// A17, A18: what is saved, restores.
#[test]
fn a_save_restores() {
    let daemon = Instance::start();
    let lines = "-A -t 10.0.0.1:80 -s rr\n\n# a comment\n-a -t 10.0.0.1:80 -r 1.1.1.1:80\n\
                 -A -u 10.0.0.2:53 -s wrr\nipvsadm -a -u 10.0.0.2:53 -r 1.1.1.2:53 -w 100\n";
    let restored = daemon.json(&["-R"], lines);
    assert_eq!(
        (&restored["exit"], &restored["stderr"]),
        (&0.into(), &"".into())
    );
    let (saved, _) = daemon.call("-Sn");
    assert_eq!(
        saved,
        "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 1.1.1.1:80 -g -w 1\n\
         -A -u 10.0.0.2:53 -s wrr\n-a -u 10.0.0.2:53 -r 1.1.1.2:53 -g -w 100\n"
    );
    assert_eq!(daemon.call("-C").1, 0);
    assert_eq!(daemon.json(&["-R"], &saved)["exit"], 0);
    assert_eq!(daemon.call("-Sn"), (saved, 0));
}

#[test]
fn a_restore_goes_on_behind_a_refusal_and_ends_at_a_wrong_word() {
    let daemon = Instance::start();
    let refused = "-A -t 10.0.0.1:80\n-A -t 10.0.0.1:80\n-A -t 10.0.0.2:80\n";
    let reply = daemon.json(&["-R"], refused);
    assert_eq!(reply["stderr"], "Service already exists\n");
    assert_eq!(
        (&reply["exit"], &reply["generation"]),
        (&0.into(), &2.into()),
        "one publish"
    );
    let wrong = daemon.json(
        &["-R"],
        "-A -t 10.0.0.3:80\n-A -t 10.0.0.4:80 x\n-A -t 10.0.0.5:80\n",
    );
    assert_eq!(wrong["stderr"], "unexpected argument x\n");
    assert_eq!(wrong["exit"], 2);
    let (saved, _) = daemon.call("-Sn");
    let services: Vec<_> = saved
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert_eq!(services, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(daemon.json(&["-R"], "")["exit"], 0);
    let nested = daemon.json(&["-R"], "-R\n");
    assert_eq!(nested["exit"], 255);
}

#[test]
fn a_long_restore_is_one_publish() {
    let daemon = Instance::start();
    let mut lines = String::new();
    for service in 0..2_000 {
        let vip = format!("10.{}.{}.1:80", service / 250, service % 250);
        lines.push_str(&format!("-A -t {vip} -s wrr\n"));
        for real in 0..10 {
            lines.push_str(&format!("-a -t {vip} -r 1.1.1.{real} -w {real}\n"));
        }
    }
    let reply = daemon.json(&["-R"], &lines);
    assert_eq!(
        (&reply["exit"], &reply["generation"]),
        (&0.into(), &2.into())
    );
    let (saved, _) = daemon.call("-Sn");
    assert_eq!(saved.lines().count(), 22_000);
}

#[test]
fn only_the_administrator_changes_things() {
    let daemon = Instance::with_administrator(me() + 1);
    for words in ["-A -t 10.0.0.1:80", "-C", "-D -t 10.0.0.1:80", "-R"] {
        let refused = ("Permission denied (you must be root)\n".to_owned(), 255);
        assert_eq!(daemon.call(words), refused, "{words}");
    }
    assert_eq!(daemon.call("-Ln"), (LISTING.to_owned(), 0));
    assert_eq!(daemon.call("status").1, 0);
}

#[test]
fn what_is_not_built_says_so() {
    let daemon = Instance::start();
    for words in ["--start-daemon master", "-A -t 10.0.0.1:80 -j enable"] {
        let (text, exit) = daemon.call(words);
        assert!(text.ends_with(": not built yet\n"), "{words}: {text}");
        assert_eq!(exit, 2, "{words}");
    }
    assert_eq!(daemon.call("-Ln"), (LISTING.to_owned(), 0));
}

#[test]
fn timeouts_are_set_for_all_workers() {
    let daemon = Instance::start();
    let shown = |seconds: &str| (format!("Timeout (tcp tcpfin udp): {seconds}\n"), 0);
    assert_eq!(daemon.call("-L --timeout"), shown("900 120 300"));
    assert_eq!(daemon.call("--set 0 0 60"), (String::new(), 0));
    assert_eq!(daemon.call("-L --timeout"), shown("900 120 60"));
}

#[test]
fn requests_in_one_stream_are_answered_in_order() {
    let daemon = Instance::start();
    let stream = daemon.connect();
    let mut writer = &stream;
    writer
        .write_all(b"-A -t 10.0.0.1:80\n-A -t 10.0.0.1:80\n-Sn\n-C")
        .expect("it reads");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut reader = BufReader::new(&stream);
    let answers: Vec<_> = (0..4).map(|_| answer(&mut reader)).collect();
    assert_eq!(answers[1], ("Service already exists\n".to_owned(), 255));
    assert_eq!(answers[2], ("-A -t 10.0.0.1:80 -s wlc\n".to_owned(), 0));
    assert_eq!(answers[3], (String::new(), 0), "the end ends a line, too");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("closed");
    assert_eq!(rest, "");
}

#[test]
fn garbage_is_answered_and_ends_nothing_but_itself() {
    let daemon = Instance::start();
    let long = vec![b'x'; 200 * 1024];
    let cases: [(&[u8], &str); 5] = [
        (b"\xff\xfe\n", "not UTF-8"),
        (b"{\"v\":1,\n", "malformed"),
        (b"{\"v\":9,\"argv\":[]}\n", "version 9"),
        (b"{}\n", "malformed"),
        (&long, "longer than"),
    ];
    for (bytes, want) in cases {
        let mut stream = daemon.connect();
        // It may hang up before it has read everything.
        let _ = stream.write_all(bytes);
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("an answer");
        assert!(line.contains(want), "{want}: {line}");
    }
    assert_eq!(daemon.call("-Ln").1, 0);
}

/// What one command takes, at the median of a few.
fn median(daemon: &Instance) -> Duration {
    let mut each: Vec<_> = (0..21)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(daemon.call("-Ln -t 10.0.0.1:7").1, 0);
            began.elapsed()
        })
        .collect();
    each.sort_unstable();
    each[10]
}

/// Clients that are mute, that never take their replies, that stopped half-way, that are
/// gone: a hundred of them, and commands take no longer.
#[test]
fn bad_clients_delay_nobody() {
    let daemon = Instance::start();
    let many: String = (1..200)
        .map(|port| format!("-A -t 10.0.0.1:{port}\n"))
        .collect();
    assert_eq!(daemon.json(&["-R"], &many)["exit"], 0);
    let alone = median(&daemon);
    let mut bad = Vec::new();
    for kind in 0..100 {
        let mut stream = daemon.connect();
        let sent = match kind % 4 {
            0 => Ok(()),
            1 => stream.write_all(&b"-Ln\n".repeat(2_000)),
            2 => stream.write_all(b"-Ln without an end"),
            _ => stream
                .write_all(b"{\"v\":1,\"argv\":")
                .and_then(|()| stream.shutdown(Shutdown::Read)),
        };
        sent.expect("the system takes it");
        bad.push(stream);
    }
    // What they asked for before their buffers were full is answered first.
    let bound = 3 * alone + Duration::from_millis(20);
    let mut last = Duration::MAX;
    let settled = (0..20).any(|_| {
        last = median(&daemon);
        last < bound
    });
    assert!(settled, "{last:?} at the median, {alone:?} alone");
}

#[test]
fn more_clients_than_there_is_room_for_push_out_the_silent_ones() {
    let daemon = Instance::start();
    let silent: Vec<_> = (0..600).map(|_| daemon.connect()).collect();
    assert_eq!(daemon.call("-Ln").1, 0);
    drop(silent);
}

#[test]
fn status_is_text_and_json() {
    let daemon = Instance::start();
    assert_eq!(daemon.call("-A -t 10.0.0.1:80 -s rr").1, 0);
    let (text, exit) = daemon.call("status");
    assert_eq!(exit, 0);
    assert!(text.contains("1 services, 0 real servers"), "{text}");
    let (json, _) = daemon.call("status --json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["services"], 1);
    assert_eq!(json["vips"][0]["address"], "10.0.0.1");
    assert_eq!(json["workers"], serde_json::json!([]));
}

#[test]
fn tunables_are_shown_and_set() {
    let daemon = Instance::start();
    let (all, exit) = daemon.call("sysctl");
    assert_eq!(exit, 0);
    assert!(all.contains("\nconn_reuse_mode = 1\n"), "{all}");
    let said = |text: &str, exit| (text.to_owned(), exit);
    #[rustfmt::skip]
    let cases = [
        ("sysctl conn_reuse_mode=2",          said("conn_reuse_mode = 2\n", 0)),
        ("sysctl conn_reuse_mode",            said("conn_reuse_mode = 2\n", 0)),
        ("sysctl net.ipv4.vs.pmtu_disc=0",    said("pmtu_disc = 0\n", 0)),
        ("sysctl pmtu_disc=2",                said("sluice: sysctl pmtu_disc: 2 is not in 0..=1\n", 2)),
        ("sysctl conntrack",                  said("sluice: sysctl conntrack: not built yet\n", 2)),
        ("sysctl pmtu_disc",                  said("pmtu_disc = 0\n", 0)),
    ];
    for (call, want) in cases {
        assert_eq!(daemon.call(call), want, "{call}");
    }
    let (unknown, exit) = daemon.call("sysctl nonsense");
    let start = "sluice: sysctl nonsense: there is no such tunable; there are: amemthresh, ";
    assert!(unknown.starts_with(start) && exit == 2, "{unknown}");
    let (json, _) = daemon.call("sysctl conn_reuse_mode --json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let row = &json["tunables"][0];
    assert_eq!((&row["value"], &row["default"]), (&2.into(), &1.into()));
    assert_eq!(
        (&row["max"], &row["origin"]),
        (&3.into(), &"command".into())
    );
}

#[test]
fn who_may_only_read_sets_no_tunable() {
    let daemon = Instance::with_administrator(me() + 1);
    assert_eq!(daemon.call("sysctl pmtu_disc").0, "pmtu_disc = 1\n");
    let (text, exit) = daemon.call("sysctl pmtu_disc=0");
    assert_eq!(text, "Permission denied (you must be root)\n");
    assert_eq!(exit, 255);
    assert_eq!(daemon.call("sysctl pmtu_disc").0, "pmtu_disc = 1\n");
}

fn me() -> u32 {
    nix::unistd::getuid().as_raw()
}

#[test]
fn a_change_is_acknowledged_when_every_worker_runs_with_it() {
    let mut turns = 0;
    let daemon = Instance::with(me(), 2, move |control, readers| {
        control.turn().expect("the event queue works");
        turns += 1;
        readers[0].refresh();
        if turns % 50 == 0 {
            readers[1].refresh();
        }
    });
    assert_eq!(daemon.call("-A -t 10.0.0.1:80"), (String::new(), 0));
}

#[test]
fn changes_sent_without_waiting_are_acknowledged_in_order_when_a_worker_runs_with_them() {
    let (runs, looks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen, looked) = (runs.clone(), looks.clone());
    let mut turns = 0;
    let daemon = Instance::with(me(), 1, move |control, readers| {
        control.turn().expect("the event queue works");
        turns += 1;
        if turns % 8 == 0 {
            seen.store(readers[0].edition().1, Ordering::Release);
            looked.fetch_add(1, Ordering::Relaxed);
        }
    });
    daemon.call("-A -t 10.0.0.1:80");
    let stream = daemon.connect();
    let before = looks.load(Ordering::Relaxed);
    let changes = 400;
    let ask = |id: u32| match id % 100 {
        99 => serde_json::json!({"v": 1, "id": id, "argv": ["-Sn"]}),
        n => {
            let real = format!("10.1.0.{n}:80");
            serde_json::json!({"v": 1, "id": id, "argv":
                [if id < 100 { "-a" } else { "-e" }, "-t", "10.0.0.1:80", "-r", real, "-w", id.to_string()]})
        }
    };
    let lines: String = (0..changes).map(|id| format!("{}\n", ask(id))).collect();
    (&stream).write_all(lines.as_bytes()).expect("it reads");
    let mut reader = BufReader::new(&stream);
    for id in 0..changes {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer in time");
        let reply: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&reply["id"], &reply["exit"]),
            (&id.into(), &0.into()),
            "{line}"
        );
        let generation = reply["generation"].as_u64().expect("a number");
        assert!(runs.load(Ordering::Acquire) >= generation, "{line}");
        let listed = reply["stdout"].as_str().unwrap_or_default();
        let own = format!("-w {}\n", id.saturating_sub(1));
        assert!(
            id % 100 != 99 || listed.contains(&own),
            "behind the change before: {line}"
        );
    }
    let looked = looks.load(Ordering::Relaxed) - before;
    assert!(
        looked < u64::from(changes) / 4,
        "the worker looked {looked} times"
    );
}

#[test]
fn status_says_how_old_the_sums_are() {
    let daemon = Instance::with(me(), 2, |control, readers| {
        control.turn().expect("the event queue works");
        readers.iter_mut().for_each(|reader| {
            reader.refresh();
        });
    });
    for call in [
        "-A -t 10.0.0.1:80 -s wlc",
        "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g",
        "-a -t 10.0.0.1:80 -r 10.1.0.2:80 -g",
        "-A -t 10.0.0.1:81 -s rr",
        "-a -t 10.0.0.1:81 -r 10.1.0.1:81 -g -x 5",
        "-a -t 10.0.0.1:81 -r 10.1.0.2:81 -g",
    ] {
        assert_eq!(daemon.call(call), (String::new(), 0), "{call}");
    }
    let (text, _) = daemon.call("status");
    assert!(
        text.contains("summed over the workers for 3 real servers, "),
        "{text}"
    );
    let sums = |json: &str| -> serde_json::Value {
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        json["sums"].clone()
    };
    let (json, _) = daemon.call("status --json");
    let age = sums(&json)["age_ms"].as_u64().expect("a number");
    assert!(age < 10_000, "{json}");
    assert_eq!(daemon.call("-C").1, 0);
    let (json, _) = daemon.call("status --json");
    assert!(sums(&json).is_null(), "nothing is summed: {json}");
}

#[test]
fn a_worker_that_lags_is_named_and_the_change_stays() {
    let daemon = Instance::with(me(), 3, |control, readers| {
        control.turn().expect("the event queue works");
        readers[1].refresh();
    });
    let began = Instant::now();
    let (text, exit) = daemon.call("-A -t 10.0.0.1:80");
    let want = "workers 0, 2 do not run with generation 2 yet; the change stays\n";
    assert_eq!((text.as_str(), exit), (want, 255));
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
    assert_eq!(daemon.call("-Sn").0, "-A -t 10.0.0.1:80 -s wlc\n");
}

#[test]
fn who_stops_takes_no_changes_but_shows_what_there_is() {
    let mut told = false;
    let daemon = Instance::with(me(), 0, move |control, _| {
        if !std::mem::replace(&mut told, true) {
            control.stop();
            assert!(!control.is_done(), "it forwards on for a minute");
        }
        control.turn().expect("the event queue works");
    });
    let (text, exit) = daemon.call("-A -t 10.0.0.1:80");
    assert_eq!(
        (text.as_str(), exit),
        ("sluiced is stopping and takes no changes\n", 255)
    );
    assert_eq!(daemon.call("-Ln"), (LISTING.to_owned(), 0));
    assert!(daemon.call("status").0.contains("stopping"));
}
