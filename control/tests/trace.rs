//! `trace` over a real socket, with workers that run: what it says comes true, and it changes nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use config::model::Prefix;
use config::toml;
use control::kernel::Kernel;
use control::run::{Control, Parts};
use control::socket::Socket;
use control::topology::{PortSetup, Topology};
use control::trace::Crew;
use dataplane::exchange::exchange;
use dataplane::handover::mesh;
use dataplane::memory::{MemoryPort, Recycler};
use dataplane::owner::Steering;
use dataplane::port::{Frame, PortId, WorkerId};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use dataplane::worker::{self, Worker};
use serde_json::Value;
use wire::build::{Packet, ip, tcp};
use wire::ethernet::Mac;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 9]);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const WAN: PortId = PortId(0);
const WORKERS: u16 = 3;
/// No worker.
const NOBODY: u16 = u16::MAX;

const FILE: &str = r#"
version = 1
[[port]]
name = "wan"
addresses = ["192.0.2.2/24"]
[[route]]
to = "0.0.0.0/0"
via = "192.0.2.1"
[[neighbour]]
address = "192.0.2.1"
mac = "02:00:00:00:00:09"
port = "wan"
[[neighbour]]
address = "192.0.2.21"
mac = "02:00:00:00:02:21"
port = "wan"
[[neighbour]]
address = "192.0.2.22"
mac = "02:00:00:00:02:22"
port = "wan"
[[service]]
listen = "tcp 192.0.2.10:80"
scheduler = "rr"
persistence = 300
[[service.real]]
address = "192.0.2.21"
[[service.real]]
address = "192.0.2.22"
[[service]]
listen = "tcp 192.0.2.10:443"
scheduler = "rr"
local_addresses = ["192.0.2.250"]
[[service.real]]
address = "192.0.2.21:8443"
mode = "fullnat"
[[service.real]]
address = "192.0.2.22:8443"
mode = "fullnat"
"#;

/// Control and three workers, each with a thread of its own.
struct Director {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    /// The worker that stands still.
    stuck: Arc<AtomicU16>,
    give: Sender<Vec<u8>>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Director {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("sluice.sock");
        let socket = Socket::claim(&path, None).expect("a free path");
        let stop = Arc::new(AtomicBool::new(false));
        let stuck = Arc::new(AtomicU16::new(NOBODY));
        let ended = stop.clone();
        let (ready, made) = channel();
        let controls = thread::spawn(move || {
            let (mut control, workers) = parts(socket);
            ready.send(workers).expect("somebody waits");
            while !ended.load(Ordering::Relaxed) {
                control.turn().expect("the event queue works");
            }
        });
        let (give, taken) = channel();
        let mut director = Self {
            path,
            stop,
            stuck,
            give,
            sent: Arc::default(),
            threads: vec![controls],
            _folder: folder,
        };
        let mut taken = Some(taken);
        for (at, worker) in (0u16..).zip(made.recv().expect("they were made")) {
            director.work(at, worker, taken.take());
        }
        director
    }

    /// Has a worker turn until the end; the first one receives what is given.
    fn work(&mut self, at: u16, mut worker: Worker<MemoryPort>, taken: Option<Receiver<Vec<u8>>>) {
        let (stop, stuck, sent) = (self.stop.clone(), self.stuck.clone(), self.sent.clone());
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if stuck.load(Ordering::Relaxed) == at {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let port = worker.port_mut(WAN).expect("a port");
                if let Some(bytes) = taken.as_ref().and_then(|taken| taken.try_recv().ok()) {
                    port.give(&bytes);
                }
                if !worker.turn(Millis(7)) {
                    thread::sleep(Duration::from_micros(50));
                }
                let port = worker.port_mut(WAN).expect("a port");
                while let Some(frame) = port.take() {
                    // Announcements are control's.
                    if frame.bytes()[12..14] == [8, 0] {
                        let mut sent = sent.lock().expect("nobody panics with it");
                        sent.push(frame.bytes().to_vec());
                    }
                }
            }
        }));
    }

    /// Sends a packet through, and gives what was sent because of it.
    fn pass(&self, packet: &Packet) -> Vec<u8> {
        self.give.send(frame(packet)).expect("the worker runs");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if let Some(sent) = self.sent.lock().expect("sound").pop() {
                return sent;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("nothing was sent");
    }

    /// What a line is answered, up to the reply's end.
    fn lines(&self, line: &str) -> Vec<String> {
        let mut stream = UnixStream::connect(&self.path).expect("it listens");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a timeout");
        writeln!(stream, "{line}").expect("it reads");
        let mut all = Vec::new();
        for line in BufReader::new(stream).lines() {
            all.push(line.expect("an answer in time"));
            let last = all.last().expect("just pushed");
            if last.starts_with("exit ") || last.starts_with('{') && last.contains("\"exit\"") {
                break;
            }
        }
        all
    }

    fn trace(&self, packet: &str) -> Value {
        let lines = self.lines(&format!("trace --json {packet}"));
        assert_eq!(lines[1..], ["exit 0"], "{lines:?}");
        serde_json::from_str(&lines[0]).expect("JSON")
    }

    fn stats(&self) -> Vec<String> {
        let mut all = self.lines("-Ln --stats --exact");
        all.extend(self.lines("-Ln"));
        all.extend(self.lines("-Ln --persistent-conn"));
        all.extend(self.lines("-Lnc"));
        all
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path); // wakes control
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking());
        }
    }
}

fn parts(socket: Socket) -> (Control, Vec<Worker<MemoryPort>>) {
    let config = toml::read(FILE, "lb.toml").expect("good").config;
    let setup = PortSetup {
        name: "wan".to_owned(),
        mac: MAC,
        any_mac: false,
        mtu: 1500,
        to_sender: false,
        addresses: vec![Prefix {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
            length: 24,
        }],
    };
    let pool = Recycler::default();
    let (ring, ends) = exchange(WORKERS, pool.clone());
    let counters: Vec<Arc<Counters>> = (0..WORKERS).map(|_| Arc::default()).collect();
    let parts = Parts {
        config: &config,
        topology: Topology::new(vec![setup], &config),
        kernel: Kernel::default(),
        socket,
        file: None,
        exchange: Some(Box::new(ring)),
        workers: (0..).zip(counters.iter().cloned()).collect(),
        devices: Vec::new(),
        signals: None,
        administrator: 12345,
    };
    let (mut control, readers) = Control::new(parts).expect("nothing is refused");
    let steering = Arc::new(Steering::seeded(1, 128, WORKERS).expect("few workers"));
    let seed = 1;
    control.set_crew(Crew {
        steering: steering.clone(),
        seed,
    });
    let rings = ends.into_iter().zip(mesh(WORKERS)).zip(counters);
    let each = (0u16..).zip(readers.into_iter().zip(rings));
    let worker = |(id, (reader, ((exchange, peers), counters)))| {
        let parts = worker::Parts {
            id: WorkerId(id),
            ports: vec![MemoryPort::new(pool.clone())],
            reader,
            exchange,
            peers,
            steering: steering.clone(),
            counters,
            connections: 1000,
            connections_v6: 1000,
            pages: Default::default(),
            hash_key: [1, 2],
            seed,
            now: Millis(0),
        };
        Worker::new(parts).expect("memory for the table")
    };
    (control, each.map(worker).collect())
}

fn frame(packet: &Packet) -> Vec<u8> {
    packet.ether(GATEWAY, MAC).bytes()
}

fn syn(client: u8, port: u16, service: u16) -> Packet {
    ip([198, 51, 100, client], VIP).with(tcp(port, service).syn())
}

fn step<'a>(whole: &'a Value, name: &str) -> Option<&'a Value> {
    let steps = whole["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["step"] == name)
}

/// The address and port in a frame's IPv4 destination.
fn destination(frame: &[u8]) -> String {
    let address = Ipv4Addr::new(frame[30], frame[31], frame[32], frame[33]);
    format!("{address}:{}", u16::from_be_bytes([frame[36], frame[37]]))
}

/// Nobody here is the administrator: listings, and this, are for all that may connect.
#[test]
fn the_next_packet_fares_as_it_was_said_and_nothing_changed() {
    let director = Director::start();
    let mut reals = Vec::new();
    for client in 1..=12u8 {
        let words = format!("tcp 198.51.100.{client}:40000 > 192.0.2.10:443");
        let before = director.stats();
        let whole = director.trace(&words);
        assert_eq!(
            director.trace(&words),
            whole,
            "the same question, the same answer"
        );
        assert_eq!(director.stats(), before, "nothing changed");
        assert_eq!(
            (&whole["new"], &whole["verdict"]),
            (&true.into(), &"transmit".into())
        );
        let sent = director.pass(&syn(client, 40_000, 443));
        let rewritten = &step(&whole, "rewrite").expect("sent")["after"];
        assert_eq!(whole["real"], Value::from(destination(&sent)));
        let port = u16::from_be_bytes([sent[34], sent[35]]).to_string();
        assert_eq!(
            rewritten["source-port"],
            Value::from(port),
            "the very local port"
        );
        reals.push(whole["real"].clone());
        let again = director.trace(&words);
        let known = step(&again, "connection").expect("there is one now");
        assert_eq!(
            (&known["found"], &known["state"]),
            (&true.into(), &"SYN_RECV".into())
        );
        assert_eq!(again["new"], false);
    }
    assert_ne!(
        reals.first(),
        reals.iter().find(|real| **real != reals[0]),
        "both are chosen"
    );
}

#[test]
fn a_client_that_is_known_stays_where_it_was() {
    let director = Director::start();
    let sent = director.pass(&syn(7, 40_000, 80));
    let whole = director.trace("tcp 198.51.100.7:40001 > 192.0.2.10:80");
    assert_eq!(
        step(&whole, "template").expect("persistent")["found"],
        "live"
    );
    assert!(step(&whole, "schedule").is_none());
    let mac = Mac(sent[..6].try_into().expect("six")).to_string();
    assert_eq!(
        step(&whole, "route").expect("sent")["mac"],
        Value::from(mac)
    );
    let text = director.lines("trace tcp 198.51.100.7:40001 > 192.0.2.10:80");
    assert_eq!(text.last().map(String::as_str), Some("exit 0"));
    assert!(
        text.iter()
            .any(|line| line.starts_with("template    198.51.100.7:0 > ")),
        "{text:#?}"
    );
}

#[test]
fn a_frame_and_the_json_form() {
    let director = Director::start();
    let digits: String = frame(&syn(7, 40_000, 443))
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    let by_frame = director.trace(&format!("frame={digits} in=wan"));
    let named = "tcp 198.51.100.7:40000 > 192.0.2.10:443";
    let in_words = director.trace(&format!("{named} in=wan"));
    for field in ["real", "service", "verdict", "worker", "new", "frames"] {
        assert_eq!(by_frame[field], in_words[field], "{field}");
    }
    let argv: Vec<Value> = ["trace", "--json", named].map(Value::from).to_vec();
    let request = serde_json::json!({"v": 1, "id": 7, "argv": argv}).to_string();
    let lines = director.lines(&request);
    let [line] = lines.as_slice() else {
        panic!("one object: {lines:?}");
    };
    let object: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&object["id"], &object["exit"]), (&7.into(), &0.into()));
    let inner: Value =
        serde_json::from_str(object["stdout"].as_str().expect("text")).expect("JSON");
    assert_eq!(inner["real"], in_words["real"]);
}

#[test]
fn a_worker_that_stands_still_is_named() {
    let director = Director::start();
    director.stuck.store(1, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(20));
    let question = "trace tcp 198.51.100.7:40000 > 192.0.2.10:443";
    let want = [
        "trace: worker 1 does not answer; there is no trace",
        "exit 1",
    ];
    assert_eq!(director.lines(question), want);
    director.stuck.store(NOBODY, Ordering::Relaxed);
    assert_eq!(
        director.lines(question).last().map(String::as_str),
        Some("exit 0")
    );
}

#[test]
fn what_makes_no_packet_is_refused() {
    let director = Director::start();
    for (question, want) in [
        ("trace", "trace: a packet is wanted: "),
        (
            "trace tcp 1.2.3.4:5 > 192.0.2.10:80 in=lan",
            "trace: in=lan: there is no such port; there are: wan",
        ),
        (
            "trace frame=00 in=lan",
            "trace: in=lan: there is no such port; there are: wan",
        ),
        ("trace frame=xy", "trace: frame=xy: "),
    ] {
        let lines = director.lines(question);
        assert!(lines[0].starts_with(want), "{lines:?}");
        assert_eq!(lines[1..], ["exit 2"]);
    }
    let short = director.trace("frame=0102");
    assert_eq!(short["reason"], "drop-short-frame");
}
