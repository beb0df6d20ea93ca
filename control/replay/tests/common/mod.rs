//! A place to replay in: a folder of its own, packets written as one says them.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::TsResolution;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use replay::{Arrive, Options, ReplayError};
use tempfile::TempDir;
use wire::build::Packet;
use wire::ethernet::Mac;

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const CLIENT_MAC: Mac = Mac([2, 9, 9, 9, 9, 9]);
/// Of the replay's first and second port, if the file names none.
pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

pub const SECOND: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;

/// The MAC that a replay makes up for real server n.
pub fn real_mac(n: u8) -> Mac {
    Mac([2, 1, 10, 1, 0, n])
}

/// Two ports and a small table; services follow.
pub const PORTS: &str = r#"
version = 1
[dataplane]
connections = 4096
connections_v6 = 1024
[[port]]
name = "wan"
addresses = ["192.0.2.2/24"]
[[port]]
name = "lan"
addresses = ["10.1.0.2/24"]
[[route]]
to = "0.0.0.0/0"
via = "192.0.2.1"
"#;

/// A service with real servers 10.1.0.1, 10.1.0.2, ...; all of them DR.
pub fn service(listen: &str, scheduler: &str, reals: u8) -> String {
    let head = format!("[[service]]\nlisten = \"{listen}\"\nscheduler = \"{scheduler}\"\n");
    let real = |n: u8| format!("[[service.real]]\naddress = \"10.1.0.{n}\"\n");
    head + &(11..11 + reals).map(real).collect::<String>()
}

/// What came of a replay.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// Time and bytes of each frame that `wan` and `lan` sent.
    pub wan: Vec<(u64, Vec<u8>)>,
    pub lan: Vec<(u64, Vec<u8>)>,
    /// The message and exit code of a replay that ended badly.
    pub error: Option<(String, u8)>,
}

impl Outcome {
    /// The lines of standard output as JSON.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a line is JSON"))
            .collect()
    }

    /// One field of each packet's line.
    pub fn field(&self, name: &str) -> Vec<serde_json::Value> {
        let lines = self.lines().into_iter();
        let packets = lines.filter(|line| line.get("n").is_some());
        packets.map(|line| line[name].clone()).collect()
    }

    /// A counter of the totals.
    pub fn total(&self, name: &str) -> u64 {
        let last = self.lines().pop().expect("the totals");
        last["totals"][name].as_u64().expect("a counter")
    }
}

/// A folder with a configuration and captures.
pub struct Bench {
    pub folder: TempDir,
    pub options: Options,
}

impl Bench {
    pub fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("lb.toml"), config).expect("room");
        let options = Options {
            config: at("lb.toml"),
            inputs: Vec::new(),
            out: at("out"),
            commands: None,
            workers: 1,
            arrive: Arrive::Rss,
            burst: 1,
            seed: 0,
            json: true,
        };
        Self { folder, options }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A capture of these frames, with nanoseconds, that came in by `port`.
    pub fn input(&mut self, port: &str, frames: &[(u64, Vec<u8>)]) -> &mut Self {
        let name = format!("{}-{port}.pcap", self.options.inputs.len());
        let file = File::create(self.path(&name)).expect("room");
        let header = PcapHeader {
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(file, header).expect("room");
        for (at, bytes) in frames {
            let len = u32::try_from(bytes.len()).expect("short");
            let packet = PcapPacket::new(Duration::from_nanos(*at), len, bytes);
            writer.write_packet(&packet).expect("room");
        }
        self.file(port, &name)
    }

    /// A file that is there already.
    pub fn file(&mut self, port: &str, name: &str) -> &mut Self {
        let path = self.path(name);
        self.options.inputs.push((port.to_owned(), path));
        self
    }

    pub fn commands(&mut self, text: &str) -> &mut Self {
        let path = self.path("commands");
        fs::write(&path, text).expect("room");
        self.options.commands = Some(path);
        self
    }

    pub fn run(&self) -> Outcome {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let result = replay::run(&self.options, &mut stdout, &mut stderr);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let failed = |error: ReplayError| (error.to_string(), error.exit());
        Outcome {
            stdout: text(stdout),
            stderr: text(stderr),
            wan: sent(&self.options.out.join("wan.pcap")),
            lan: sent(&self.options.out.join("lan.pcap")),
            error: result.err().map(failed),
        }
    }
}

fn sent(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let mut reader = PcapReader::new(file).expect("what we wrote");
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.expect("what we wrote");
        let at = u64::try_from(packet.timestamp.as_nanos()).expect("this century");
        frames.push((at, packet.data.into_owned()));
    }
    frames
}

/// The frame of a client's packet, as it comes in.
pub fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(CLIENT_MAC, Mac::ZERO).bytes()
}
