//! `-Lc` over a real socket, from a real worker: complete, in pieces, and in nobody's way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use config::model::{Config, Prefix};
use control::kernel::Kernel;
use control::run::{Control, Parts};
use control::socket::Socket;
use control::topology::{PortSetup, Topology};
use dataplane::exchange::exchange;
use dataplane::handover::mesh;
use dataplane::memory::{MemoryPort, Recycler};
use dataplane::owner::Steering;
use dataplane::port::{PortId, WorkerId};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use dataplane::worker::{self, Worker};
use wire::build::{ip, udp};
use wire::ethernet::Mac;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const WAN: PortId = PortId(0);
/// The longest turn of the worker, in microseconds, since somebody set it to 0.
type Longest = Arc<AtomicU16>;

/// Control and one worker with some connections.
struct Director {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    /// Whether the worker stands still.
    stuck: Arc<AtomicBool>,
    longest: Longest,
    threads: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Director {
    fn start(connections: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("sluice.sock");
        let socket = Socket::claim(&path, None).expect("a free path");
        let stop = Arc::new(AtomicBool::new(false));
        let (stuck, longest) = (Arc::default(), Longest::default());
        let ended = stop.clone();
        let (ready, made) = channel();
        let controls = thread::spawn(move || {
            let (mut control, worker) = parts(socket, connections);
            ready.send(worker).expect("somebody waits");
            while !ended.load(Ordering::Relaxed) {
                control.turn().expect("the event queue works");
            }
        });
        let worker = made.recv().expect("it was made");
        let mut director = Self {
            path,
            stop,
            stuck,
            longest,
            threads: vec![controls],
            _folder: folder,
        };
        let made = director.work(worker, connections);
        director.ask("-A -u 192.0.2.10:53 -s rr");
        director.ask("-a -u 192.0.2.10:53 -r 192.0.2.21:53");
        made.store(true, Ordering::Relaxed);
        director
    }

    /// Has the worker make its connections when the flag is set, and turn until the end.
    fn work(&mut self, mut worker: Worker<MemoryPort>, connections: u32) -> Arc<AtomicBool> {
        let begin = Arc::new(AtomicBool::new(false));
        let go = begin.clone();
        let (stop, stuck, longest) = (self.stop.clone(), self.stuck.clone(), self.longest.clone());
        self.threads.push(thread::spawn(move || {
            let mut made = 0;
            while !stop.load(Ordering::Relaxed) {
                if stuck.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                if go.load(Ordering::Relaxed) && made < connections {
                    give(&mut worker, made..connections.min(made + 32));
                    made = connections.min(made + 32);
                }
                let began = Instant::now();
                worker.turn(Millis(0));
                let spent = u16::try_from(began.elapsed().as_micros()).unwrap_or(u16::MAX);
                longest.fetch_max(spent, Ordering::Relaxed);
                while worker.port_mut(WAN).expect("a port").take().is_some() {}
            }
        }));
        begin
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("it listens");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a timeout");
        stream
    }

    /// Sends a line and gives what comes back.
    fn send(&self, line: &str) -> BufReader<UnixStream> {
        let mut stream = self.connect();
        writeln!(stream, "{line}").expect("it reads");
        BufReader::new(stream)
    }

    /// What a call prints, and its exit line.
    fn ask(&self, line: &str) -> Vec<String> {
        let mut lines = self
            .send(line)
            .lines()
            .map(|line| line.expect("an answer in time"));
        let mut all = Vec::new();
        for line in &mut lines {
            all.push(line);
            if all.last().is_some_and(|line| line.starts_with("exit ")) {
                break;
            }
        }
        all
    }

    fn wait_for(&self, connections: u32) {
        let want = format!("\"entries-v4\",{connections}]");
        for _ in 0..2_000 {
            if self.ask("status --json").concat().contains(&want) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the connections were not made: {:?}", self.ask("status"));
    }
}

/// Control, and a worker with room for so many connections.
fn parts(socket: Socket, connections: u32) -> (Control, Worker<MemoryPort>) {
    let counters: Arc<Counters> = Arc::default();
    let config = Config::default();
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
    let (ring, mut ends) = exchange(1, pool.clone());
    let parts = Parts {
        config: &config,
        topology: Topology::new(vec![setup], &config),
        kernel: Kernel::default(),
        socket,
        file: None,
        exchange: Some(Box::new(ring)),
        workers: vec![(0, counters.clone())],
        devices: Vec::new(),
        signals: None,
        administrator: nix::unistd::getuid().as_raw(),
    };
    let (control, mut readers) = Control::new(parts).expect("nothing is refused");
    let worker = Worker::new(worker::Parts {
        id: WorkerId(0),
        ports: vec![MemoryPort::new(pool)],
        reader: readers.remove(0),
        exchange: ends.remove(0),
        peers: mesh(1).remove(0),
        steering: Arc::new(Steering::seeded(1, 128, 1).expect("one worker")),
        counters,
        connections: connections + connections / 8,
        connections_v6: 1000,
        pages: Default::default(),
        hash_key: [1, 2],
        seed: 1,
        now: Millis(0),
    });
    (control, worker.expect("memory for the table"))
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

/// Datagrams of so many clients.
fn give(worker: &mut Worker<MemoryPort>, clients: std::ops::Range<u32>) {
    let port = worker.port_mut(WAN).expect("a port");
    for n in clients {
        let [high, low] = [n / 50_000, n % 50_000].map(|part| u16::try_from(part).expect("small"));
        let [_, a] = high.to_be_bytes();
        let packet = ip(Ipv4Addr::new(198, 51, 100, a), VIP).with(udp(1024 + low, 53));
        port.give(&packet.ether(Mac([2, 0, 0, 0, 0, 9]), MAC).bytes());
    }
}

const TITLE: [&str; 2] = [
    "IPVS connection entries",
    "pro expire state       source             virtual            destination",
];

#[test]
fn every_connection_in_text() {
    let director = Director::start(3_000);
    director.wait_for(3_000);
    let lines = director.ask("-Lnc");
    assert_eq!(lines[..2], TITLE);
    assert_eq!(lines.last().map(String::as_str), Some("exit 0"));
    assert_eq!(lines.len(), 3_000 + 3);
    let first = "UDP 05:00  UDP         198.51.100.0:1024  192.0.2.10:53      192.0.2.21:53";
    assert_eq!(lines[2], first);
    let mut clients: Vec<_> = lines[2..3_002].iter().map(|line| &line[23..41]).collect();
    clients.sort_unstable();
    clients.dedup();
    assert_eq!(clients.len(), 3_000, "each once");
}

#[test]
fn json_comes_in_several_objects() {
    let director = Director::start(2_000);
    director.wait_for(2_000);
    let request = r#"{"v":1,"id":7,"argv":["-L","-c"],"format":"data"}"#;
    let (mut rows, mut objects) = (0, 0);
    for line in director.send(request).lines() {
        let object: serde_json::Value =
            serde_json::from_str(&line.expect("in time")).expect("JSON");
        objects += 1;
        rows += object["data"]["connections"].as_array().map_or(0, Vec::len);
        assert_eq!(object["id"], 7);
        if object["more"] != true {
            assert_eq!(object["exit"], 0);
            break;
        }
    }
    assert_eq!(rows, 2_000);
    assert!(objects >= 2_000 / 256, "{objects}");
}

#[test]
fn numbers_are_kept_across_edits_and_begin_anew_with_zero() {
    let director = Director::start(2_000);
    director.wait_for(2_000);
    let stats = |director: &Director| director.ask("-Ln --stats --exact")[3..5].to_vec();
    let want = [
        "UDP  192.0.2.10:53                    2000     2000        0    56000        0",
        "  -> 192.0.2.21:53                    2000     2000        0    56000        0",
    ];
    assert_eq!(stats(&director), want);
    director.ask("-E -u 192.0.2.10:53 -s wrr");
    director.ask("-e -u 192.0.2.10:53 -r 192.0.2.21:53 -w 9");
    assert_eq!(stats(&director), want, "an edit changes no number");
    // Within four seconds at least one whole tick has seen them come.
    let rate = |director: &Director| director.ask("-Ln --rate")[4].clone();
    let began = Instant::now();
    while rate(&director).ends_with(" 0        0        0        0        0") {
        assert!(began.elapsed() < Duration::from_secs(5), "no rate");
        thread::sleep(Duration::from_millis(50));
    }
    let shown = rate(&director);
    let columns: Vec<u64> = shown[33..]
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert_eq!(columns[0], columns[1], "a packet each: {shown}");
    assert!(
        (1..=250).contains(&columns[0]),
        "2000 in 2 s, a quarter of it: {shown}"
    );
    assert_eq!(columns[2], 0);
    assert_eq!(
        director.ask("-Z -u 192.0.2.10:54"),
        ["No such service", "exit 255"]
    );
    assert_eq!(director.ask("-Z -u 192.0.2.10:53"), ["exit 0"]);
    let zero = stats(&director);
    assert!(
        zero.iter()
            .all(|row| row.ends_with(" 0        0        0        0        0")),
        "{zero:?}"
    );
    assert!(rate(&director).ends_with(" 0        0        0        0        0"));
    let normal = &director.ask("-Ln")[4];
    assert_eq!(
        normal,
        "  -> 192.0.2.21:53                Route   9      0          2000      "
    );
    assert_eq!(director.ask("-L --daemon"), ["exit 0"]);
    let services = director.ask("proc ip_vs");
    let want = [
        "UDP  C000020A:0035 wrr  ",
        "  -> C0000215:0035      Route   9      0          2000      ",
    ];
    assert_eq!(services[3..5], want);
    let all = director.ask("proc ip_vs_stats");
    let seen = "     7D0      7D0        0             DAC0                0";
    assert_eq!(all[2], seen, "-Z of one service leaves everybody's alone");
    assert_eq!(
        director.ask("proc ip_vs_stats_percpu")[2],
        format!("  0 {seen}")
    );
    assert_eq!(director.ask("-Z"), ["exit 0"]);
    let none = "       0        0        0                0                0";
    assert_eq!(director.ask("proc ip_vs_stats")[2], none);
    let connections = director.ask("proc ip_vs_conn");
    assert_eq!(connections.len(), 2_002);
    let row = "UDP C6336400 0400 C000020A 0035 C0000215 0035 UDP             300";
    assert_eq!(connections[1], row);
    assert_eq!(
        director.ask("proc ip_vs_app").last().map(String::as_str),
        Some("exit 2")
    );
}

/// How long a change takes, at the median.
fn a_command(director: &Director) -> Duration {
    let mut taken: Vec<_> = (0..31)
        .map(|n| {
            let began = Instant::now();
            let scheduler = ["wrr", "rr"][n % 2];
            let line = format!("-E -u 192.0.2.10:53 -s {scheduler}");
            assert_eq!(director.ask(&line), ["exit 0"]);
            began.elapsed()
        })
        .collect();
    taken.sort_unstable();
    taken[15]
}

/// Ten clients ask for everything and take nothing; commands and another listing go on.
#[test]
fn slow_readers_delay_nobody() {
    let director = Director::start(30_000);
    director.wait_for(30_000);
    let before = a_command(&director);
    let slow: Vec<_> = (0..10).map(|_| director.send("-Lnc")).collect();
    thread::sleep(Duration::from_millis(300));
    let beside = a_command(&director);
    // Against itself, not against the clock: the machine may be busy with other things.
    let most = before * 4 + Duration::from_millis(20);
    assert!(
        beside < most,
        "{before:?} a command without them, {beside:?} with"
    );
    assert_eq!(director.ask("-Lnc").len(), 30_003);
    // And each of them still gets all of it.
    for mut reader in slow.into_iter().take(2) {
        reader
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .expect("open");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("all of it in time");
        assert_eq!(text.lines().count(), 30_003);
        assert!(text.ends_with("exit 0\n"));
    }
}

#[test]
fn a_worker_that_stands_still_ends_the_listing() {
    let director = Director::start(100);
    director.wait_for(100);
    director.stuck.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(20));
    let lines = director.ask("-Lnc");
    assert_eq!(lines[..2], TITLE);
    let want = [
        "worker 0 does not answer; the listing is not complete",
        "exit 1",
    ];
    assert_eq!(lines[2..], want);
    director.stuck.store(false, Ordering::Relaxed);
    assert_eq!(director.ask("-Lnc").len(), 103, "the next one is whole");
}

/// For a measurement: `cargo test --release -p control --features measure --test listing -- --nocapture`.
#[test]
#[cfg(feature = "measure")]
fn a_million_connections() {
    let director = Director::start(1_000_000);
    director.wait_for(1_000_000);
    director.longest.store(0, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(500));
    let idle = director.longest.swap(0, Ordering::Relaxed);
    let began = Instant::now();
    let lines = director.ask("-Lnc");
    let took = began.elapsed();
    assert_eq!(lines.len(), 1_000_003);
    let longest = director.longest.load(Ordering::Relaxed);
    println!("{took:?}; the worker's longest turn: {longest} us, without: {idle} us");
}
