//! The binary under its four names, against a small daemon of our own in a thread.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use proto::command;
use proto::grammar;
use proto::listing::{Listing, ListingReal, ListingService};
use proto::message::{Format, Reply, Request, decode_request, encode_reply};
use proto::names::Numeric;
use tempfile::TempDir;

/// A folder with the binary's names, a socket, and what the daemon was asked.
struct Place {
    folder: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What the daemon answers: it has one service, and refuses to delete.
fn answer(request: &Request) -> Reply {
    let service = "-A -t 127.0.0.1:80 -s rr"
        .split(' ')
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let real = "-a -t 127.0.0.1:80 -r 10.0.0.2"
        .split(' ')
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let parse = |argv: &[String]| grammar::parse("ipvsadm", argv, &Numeric);
    match parse(&request.argv).expect("the command line sends good calls") {
        command::Command::List(_) | command::Command::Save { .. } => {
            assert_eq!(request.format, Format::Data);
            let Ok(command::Command::AddService(it)) = parse(&service) else {
                unreachable!()
            };
            let Ok(command::Command::AddReal { real, .. }) = parse(&real) else {
                unreachable!()
            };
            let reals = vec![ListingReal::new(&real)];
            let service = ListingService {
                reals,
                ..ListingService::new(&it)
            };
            let data = Some(Listing {
                services: vec![service],
                ..Listing::default()
            });
            Reply {
                data,
                ..Reply::default()
            }
        }
        command::Command::DeleteService { .. } => Reply {
            exit: 255,
            stderr: "No such service\n".to_owned(),
            ..Reply::default()
        },
        command::Command::Status { json } => Reply {
            stdout: format!("json: {json}\n"),
            ..Reply::default()
        },
        _ => Reply::default(),
    }
}

fn serve(stream: &UnixStream, asked: &Mutex<Vec<String>>) {
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let request = decode_request(&line).expect("the command line sends requests");
        let said = format!("{} < {:?}", request.argv.join(" "), request.stdin);
        asked.lock().expect("no test panics with it").push(said);
        for line in encode_reply(request.framing, answer(&request)) {
            let mut stream = stream;
            stream.write_all(line.as_bytes()).expect("the client reads");
        }
    }
}

impl Place {
    fn without_daemon() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["sluice", "ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            symlink(env!("CARGO_BIN_EXE_sluice"), folder.path().join(name))
                .expect("a fresh folder");
        }
        Self {
            folder,
            asked: Arc::default(),
        }
    }

    fn with_daemon() -> Self {
        let place = Self::without_daemon();
        let listener = UnixListener::bind(place.socket()).expect("a fresh folder");
        let asked = Arc::clone(&place.asked);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(&stream, &asked);
            }
        });
        place
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("socket")
    }

    fn run(&self, line: &str, stdin: &str) -> Output {
        let mut words = line.split_whitespace();
        let name = words.next().expect("the tables have a program everywhere");
        let mut child = Command::new(self.folder.path().join(name))
            .args(words.map(|word| word.replace("SOCKET", &self.socket().display().to_string())))
            .env("SLUICE_SOCKET", self.socket())
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
            .write_all(stdin.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// Exit code, standard output and standard error, with the folder's name taken out.
    fn said(&self, line: &str, stdin: &str) -> (i32, String, String) {
        let output = self.run(line, stdin);
        let text = |bytes: &[u8]| {
            let folder = format!("{}/", self.folder.path().display());
            String::from_utf8_lossy(bytes).replace(&folder, "")
        };
        let exit = output.status.code().expect("no signal");
        (exit, text(&output.stdout), text(&output.stderr))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("a folder of its own");
        path
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("no test panics with it"))
    }
}

const TITLE: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
";

#[test]
fn listings_are_put_into_words_here() {
    let place = Place::with_daemon();
    let rows = "TCP  127.0.0.1:80 rr\n  -> 10.0.0.2:80                  Route   1      0          0         \n";
    let want = (0, format!("{TITLE}{rows}"), String::new());
    for line in ["sluice -Ln", "ipvsadm -L -n", "sluice --socket SOCKET -Ln"] {
        assert_eq!(place.said(line, ""), want, "{line}");
    }
    let saved = "-A -t 127.0.0.1:80 -s rr\n-a -t 127.0.0.1:80 -r 10.0.0.2:80 -g -w 1\n";
    for line in ["sluice -Sn", "ipvsadm -S -n", "ipvsadm-save -n"] {
        assert_eq!(
            place.said(line, ""),
            (0, saved.to_owned(), String::new()),
            "{line}"
        );
    }
}

#[test]
fn the_daemon_sees_numbers_and_its_code_is_ours() {
    let place = Place::with_daemon();
    #[rustfmt::skip]
    let cases = [
        ("sluice -A -t 10.0.0:80",          "-A -t 10.0.0.0:80 -s wlc < \"\"", 0, "", ""),
        ("sluice -a -t 10.0.0.1:80 -r 1.1.1.1:8 -m", "-a -t 10.0.0.1:80 -r 1.1.1.1:8 -m -w 1 -x 0 -y 0 < \"\"", 0, "", ""),
        ("ipvsadm -D -t 10.0.0.1:80",       "-D -t 10.0.0.1:80 < \"\"", 255, "", "No such service\n"),
        ("sluice status",                   "status < \"\"", 0, "json: false\n", ""),
        ("sluice sysctl",                   "sysctl < \"\"", 0, "", ""),
        ("sluice sysctl pmtu_disc --json",  "sysctl pmtu_disc --json < \"\"", 0, "", ""),
        ("sluice sysctl pmtu_disc=0",       "sysctl pmtu_disc=0 < \"\"", 0, "", ""),
        ("sluice status --json --socket SOCKET", "status --json < \"\"", 0, "json: true\n", ""),
    ];
    for (line, asked, exit, stdout, stderr) in cases {
        assert_eq!(
            place.said(line, ""),
            (exit, stdout.to_owned(), stderr.to_owned()),
            "{line}"
        );
        assert_eq!(place.asked(), [asked], "{line}");
    }
}

#[test]
fn a_restore_sends_its_input() {
    let place = Place::with_daemon();
    let input = "# comment\n-A -t 10.0.0:80\n-C\n";
    assert_eq!(place.said("sluice -R", input).0, 0);
    assert_eq!(
        place.asked(),
        [r#"-R < "\n-A -t 10.0.0.0:80 -s wlc\n-C\n""#]
    );
    assert_eq!(place.said("ipvsadm-restore", input).0, 0);
    assert_eq!(
        place.asked(),
        [r#"-R < "-C\n\n-A -t 10.0.0.0:80 -s wlc\n-C\n""#]
    );
    let (exit, _, stderr) = place.said("ipvsadm-save -x", "");
    assert_eq!((exit, stderr.as_str()), (1, "Usage: ipvsadm-save [-n]\n"));
    assert!(place.asked().is_empty());
}

#[test]
fn wrong_options_do_not_reach_the_daemon() {
    let place = Place::with_daemon();
    #[rustfmt::skip]
    let cases = [
        ("sluice -D -t 10.0.0.1:80 -s rr",  2,   "Illegal 'scheduler' option with the 'delete-service' command\n"),
        ("ipvsadm -A -t",                   255, "-t: missing argument\n"),
        ("ipvsadm -x",                      255, "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n"),
        ("ipvsadm status",                  255, "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n"),
        ("sluice --socket",                 2,   "sluice: --socket: missing path\n"),
    ];
    for (line, exit, stderr) in cases {
        let got = place.said(line, "");
        assert_eq!((got.0, got.2.as_str()), (exit, stderr), "{line}");
    }
    let (exit, _, stderr) = place.said("sluice frobnicate", "");
    assert_eq!(exit, 2);
    assert!(
        stderr.contains("unrecognized subcommand 'frobnicate'"),
        "{stderr}"
    );
    assert!(place.asked().is_empty());
}

#[test]
fn without_a_daemon() {
    let place = Place::without_daemon();
    let ours = "sluice: socket: No such file or directory: start sluiced, or name its socket with --socket PATH or SLUICE_SOCKET\n";
    let theirs = "Can't initialize ipvs: socket: No such file or directory\nAre you sure that IP Virtual Server is built in the kernel or as module?\n";
    #[rustfmt::skip]
    let cases = [
        ("sluice -Ln", ours), ("sluice", ours), ("sluice status", ours), ("sluice -R", ours),
        ("ipvsadm -Ln", theirs), ("ipvsadm", theirs), ("ipvsadm -h", theirs), ("ipvsadm -v", theirs),
        ("ipvsadm -A -t", theirs), ("ipvsadm-save", theirs), ("ipvsadm-restore", theirs),
    ];
    for (line, stderr) in cases {
        assert_eq!(
            place.said(line, ""),
            (2, String::new(), stderr.to_owned()),
            "{line}"
        );
    }
}

#[test]
fn help_and_version() {
    let place = Place::with_daemon();
    let ipvsadm = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";
    assert_eq!(
        place.said("ipvsadm -v", ""),
        (0, ipvsadm.to_owned(), String::new())
    );
    let alone = Place::without_daemon();
    let sluice = format!("sluice {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        alone.said("sluice -v", ""),
        (0, sluice.clone(), String::new())
    );
    assert_eq!(
        alone.said("sluice --version", ""),
        (0, sluice, String::new())
    );
    let (exit, stdout, _) = alone.said("sluice -h", "");
    assert_eq!(exit, 0);
    assert!(
        stdout.contains("--add-service") && stdout.contains("check FILE"),
        "{stdout}"
    );
    let (exit, stdout, _) = alone.said("sluice status --help", "");
    assert_eq!(exit, 0);
    assert!(stdout.contains("--json"), "{stdout}");
}

const GOOD: &str = r#"version = 1

[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.2/24"]

[[service]]
listen = "tcp 192.0.2.10:80"
scheduler = "rr"

[[service.real]]
address = "192.0.2.11"
weight = 1
mode = "dr"
"#;

fn check(text: &str) -> (i32, String, String) {
    let place = Place::without_daemon();
    let file = place.folder.path().join("lb.toml");
    std::fs::write(&file, text).expect("a fresh folder");
    place.said(&format!("sluice check {}", Path::new(&file).display()), "")
}

#[test]
fn configurations_are_checked() {
    let (exit, stdout, stderr) = check(GOOD);
    assert_eq!(
        (exit, stdout.as_str(), stderr.as_str()),
        (
            0,
            "lb.toml: good: 1 ports, 1 services, 1 real servers\n",
            ""
        )
    );
    let (exit, stdout, stderr) = check(&GOOD.replace("weight = 1", "weight = 70000"));
    assert_eq!((exit, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("lb.toml:14: "), "{stderr}");
    let (exit, stdout, stderr) = check(&GOOD.replace("\"rr\"", "\"rr\"\nsynproxy = true"));
    assert_eq!((exit, stdout.as_str()), (2, ""));
    assert!(stderr.contains("not built yet"), "{stderr}");
    let device = GOOD.replace("\ndevice = \"", "\ndevice = \"x");
    assert_ne!(device, GOOD, "it has a device");
    let (exit, stdout, stderr) = check(&device);
    assert_eq!((exit, stdout.as_str()), (1, ""));
    assert!(stderr.contains("no PCI address"), "{stderr}");
    let place = Place::without_daemon();
    let (exit, _, stderr) = place.said("sluice check nowhere.toml", "");
    assert_eq!(exit, 1);
    assert!(stderr.contains("nowhere.toml"), "{stderr}");
}

#[test]
fn a_reload_takes_the_files_text_along() {
    let place = Place::with_daemon();
    let file = place.folder.path().join("lb.toml");
    std::fs::write(&file, "version = 1\n").expect("a fresh folder");
    let file = file.display().to_string();
    for (line, want) in [
        (
            format!("sluice reload --dry-run {file}"),
            format!("reload --dry-run {file} < \"version = 1\\n\""),
        ),
        (
            "sluice reload --take-file --json".to_owned(),
            "reload --take-file --json < \"\"".to_owned(),
        ),
        (
            format!("sluice diff {file}"),
            format!("diff {file} < \"version = 1\\n\""),
        ),
    ] {
        assert_eq!(place.said(&line, "").0, 0, "{line}");
        let asked = place.asked.lock().expect("no test panics with it");
        assert_eq!(asked.last(), Some(&want));
    }
    let (exit, _, stderr) = place.said("sluice reload nowhere.toml", "");
    assert_eq!(exit, 2);
    assert!(
        stderr.starts_with("sluice: nowhere.toml: No such file"),
        "{stderr}"
    );
}

#[test]
fn an_unknown_word_is_refused() {
    let place = Place::without_daemon();
    let (exit, _, stderr) = place.said("sluice nonsense", "");
    assert_eq!(exit, 2);
    assert!(stderr.contains("unrecognized subcommand"), "{stderr}");
}

#[test]
fn a_trace_is_of_a_configuration_or_of_the_daemon() {
    let place = Place::with_daemon();
    let packet = "tcp 198.51.100.7:40000 > 192.0.2.10:80";
    for (options, want) in [
        ("--seed 1", "--config <FILE>"),
        ("--workers 2", "--config <FILE>"),
        ("--commands drain", "--config <FILE>"),
        ("--packet 1", "--in <[PORT=]CAPTURE>"),
        ("--in x.pcap", "takes --packet"),
    ] {
        let (exit, stdout, stderr) = place.said(&format!("sluice trace {options} {packet}"), "");
        assert_eq!((exit, stdout.as_str()), (2, ""), "{options}");
        assert!(stderr.contains(want), "{options}: {stderr}");
    }
    for options in ["--config nowhere", "--packet 0 --in"] {
        let words = if options.ends_with("--in") {
            "nowhere"
        } else {
            packet
        };
        let (exit, _, stderr) = place.said(&format!("sluice trace {options} {words}"), "");
        assert_ne!(exit, 0);
        assert!(stderr.starts_with("sluice: nowhere: "), "{stderr}");
    }
    assert_eq!(place.asked(), [""; 0]);
    place.said(&format!("sluice trace {packet}"), "");
    place.said(&format!("sluice trace --json {packet} flags=A"), "");
    let capture = place.file("one.pcap", &capture(&[&[1, 2, 3], &[0xab, 0xcd]]));
    let capture = capture.display();
    place.said(&format!("sluice trace --in {capture} --packet 0"), "");
    place.said(
        &format!("sluice trace --json --in wan={capture} --packet 1"),
        "",
    );
    assert_eq!(
        place.asked(),
        [
            "trace tcp 198.51.100.7:40000 > 192.0.2.10:80 flags=S ttl=64 id=1 < \"\"",
            "trace --json tcp 198.51.100.7:40000 > 192.0.2.10:80 flags=A ttl=64 id=1 < \"\"",
            "trace frame=010203 < \"\"",
            "trace --json frame=abcd in=wan < \"\"",
        ]
    );
    let (exit, _, stderr) = place.said(&format!("sluice trace --in {capture} --packet 2"), "");
    assert_eq!(
        (exit, stderr.as_str()),
        (2, "sluice: --packet 2: the captures have 2 packets\n")
    );
}

/// A pcap file of these frames.
fn capture(frames: &[&[u8]]) -> Vec<u8> {
    let word = |n: usize| u32::try_from(n).expect("small").to_le_bytes();
    let mut all = [
        word(0xa1b2_c3d4),
        [2, 0, 4, 0],
        word(0),
        word(0),
        word(65_535),
        word(1),
    ]
    .concat();
    for frame in frames {
        let len = word(frame.len());
        all.extend([word(1), word(0), len, len].concat());
        all.extend_from_slice(frame);
    }
    all
}
