//! What a trace of the running daemon says, and what then becomes of the packet: the same, step for step, and the
//! question changes nothing. The daemon is a replay's: the real control and real workers.

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use config::model::Config;
use config::toml;
use control::connections::Portion;
use control::trace::{Crew, Made};
use dataplane::port::PortId;
use dataplane::worker::Worker;
use proto::message::{Format, Framing, Reply, Request};
use wire::Protocol;
use wire::build::{Packet, ip, sctp, tcp, udp};
use wire::ethernet::{self, EtherType, Mac};
use wire::sctp::ChunkType;
use wire::segment::Quoted;
use wire::{ipv4, ipv6};

use super::{Machine, OPERATOR};
use crate::connections::list;
use crate::time::{Nanos, millis};
use crate::{Arrive, Options};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const WAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const THEIRS: Mac = Mac([2, 9, 9, 9, 9, 9]);

/// Services of every kind on ports of their own; marks, templates, local addresses, IPv4 real servers of IPv6
/// clients. The real servers' port may be a VLAN over another one.
fn configuration(connections: u32, is_vlan: bool) -> Config {
    let [over, cable] = if is_vlan {
        [
            "parent = \"cable\"\nvlan = 20\n",
            "[[port]]\nname = \"cable\"\n",
        ]
    } else {
        [""; 2]
    };
    let mut text = format!(
        "version = 1\n[dataplane]\nconnections = {connections}\nconnections_v6 = {connections}\n\
         [[port]]\nname = \"wan\"\nmac = \"02:00:00:00:00:01\"\naddresses = [\"192.0.2.2/24\", \"2001:db8::2/64\"]\n\
         [[port]]\nname = \"lan\"\n{over}mac = \"02:00:00:00:00:02\"\naddresses = [\"10.1.0.2/24\", \"2001:db8:1::2/64\"]\n{cable}\
         [[route]]\nto = \"0.0.0.0/0\"\nvia = \"192.0.2.1\"\n\
         [[route]]\nto = \"::/0\"\nvia = \"2001:db8::1\"\n\
         [[mark]]\nmark = 5\nprotocol = \"tcp\"\nto = \"192.0.2.0/24\"\nports = \"8000-8100\"\n"
    );
    let schedulers = [
        "rr", "wrr", "lc", "wlc", "sh", "dh", "lblc", "lblcr", "sed", "nq", "fo", "ovf", "mh",
        "twos",
    ];
    let modes = ["dr", "nat", "tun", "fullnat"];
    for (at, scheduler) in (0u16..).zip(schedulers) {
        let mode = modes[usize::from(at) % 4];
        let listens = ["tcp 192.0.2.10:", "udp [2001:db8::10]:", "sctp 192.0.2.10:"];
        let nat64 = (mode == "fullnat").then_some("tcp [2001:db8::10]:");
        for listen in listens.into_iter().chain(nat64) {
            let v6 = listen == listens[1];
            write!(
                text,
                "[[service]]\nlisten = \"{listen}{}\"\nscheduler = \"{scheduler}\"\n",
                80 + at
            )
            .expect("a string");
            if at % 5 == 3 {
                text += "persistence = 60\n";
            }
            if mode == "fullnat" {
                let local = if v6 { "2001:db8:1::250" } else { "10.1.0.250" };
                writeln!(text, "local_addresses = [\"{local}\"]").expect("a string");
            }
            for (real, weight) in [(11, 3), (12, 1), (13, 2)] {
                let address = if v6 {
                    format!("2001:db8:1::{real}")
                } else {
                    format!("10.1.0.{real}")
                };
                write!(
                    text,
                    "[[service.real]]\naddress = \"{address}\"\nmode = \"{mode}\"\nweight = {weight}\nupper = 40\n"
                )
                .expect("a string");
            }
        }
    }
    text += "[[service]]\nlisten = \"fwm 5\"\nscheduler = \"rr\"\npersistence = 30\n\
             [[service.real]]\naddress = \"10.1.0.11\"\n[[service.real]]\naddress = \"10.1.0.12\"\n";
    toml::read(&text, "lb.toml").expect("good").config
}

/// Random numbers, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn small(&mut self, sides: u16) -> u16 {
        u16::try_from(self.roll(sides.into())).expect("small")
    }
}

struct Lab {
    machine: Machine,
    dice: Dice,
    n: u64,
    /// What was sent last.
    last: Vec<u8>,
}

impl Lab {
    fn new(workers: u16, connections: u32, is_vlan: bool, seed: u64) -> Self {
        let options = Options {
            config: PathBuf::new(),
            inputs: Vec::new(),
            out: PathBuf::new(),
            commands: None,
            workers,
            arrive: Arrive::Rss,
            burst: 1,
            seed,
            json: false,
        };
        let config = configuration(connections, is_vlan);
        let mut machine = Machine::new(&config, &options, Nanos::default()).expect("memory");
        machine.engine.set_crew(Crew {
            steering: machine.steering.clone(),
            seed,
        });
        Self {
            machine,
            dice: Dice(seed),
            n: 0,
            last: Vec::new(),
        }
    }

    /// What the running workers are asked, as a client of the socket would.
    fn asked(&mut self, made: &Made) -> Reply {
        let machine = &mut self.machine;
        let port = if made.port == WAN { "wan" } else { "lan" };
        let digits: String = made
            .bytes
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        let request = Request {
            framing: Framing::Text,
            argv: [
                "trace",
                "--json",
                &format!("frame={digits}"),
                &format!("in={port}"),
            ]
            .map(str::to_owned)
            .to_vec(),
            stdin: String::new(),
            format: Format::Text,
        };
        let answer = machine
            .engine
            .begin(&OPERATOR, request, machine.now, |_, _| String::new());
        let answer = answer.expect("a trace begins at once");
        let mut rest = answer.rest.unwrap_or_else(|| panic!("{:?}", answer.reply));
        for _ in 0..9 {
            for worker in &mut machine.workers {
                worker.turn(millis(machine.now));
            }
            match machine.engine.more(&mut rest, machine.now) {
                Portion::Last(reply) => return reply,
                _ => machine.engine.publish_news(machine.now),
            }
        }
        panic!("no answer");
    }

    /// All that a question might change, in words.
    fn state(&self) -> String {
        let machine = &self.machine;
        let snapshot = machine.engine.snapshot();
        let states = machine.workers.iter().map(Worker::state);
        let mut all = format!("{:?}", list(states, &machine.engine, millis(machine.now)));
        for blocks in snapshot.blocks.iter() {
            for slot in 0..200 {
                write!(
                    all,
                    "{:?}{:?}{:?}",
                    blocks.reals.get(slot),
                    blocks.services.get(slot),
                    blocks.others.get(slot)
                )
                .expect("a string");
            }
        }
        for worker in &machine.workers {
            let state = worker.state();
            write!(
                all,
                "{} {} {:?}",
                state.packets_spared,
                state.outer_id,
                state.sched.recall(None)
            )
            .expect("a string");
        }
        write!(all, "{:?}", machine.totals()).expect("a string");
        all
    }

    /// A packet of some client, or the answer to what was sent last.
    fn packet(&mut self) -> Made {
        let dice = &mut self.dice;
        if dice.roll(4) == 0
            && let Some(made) = answer(&self.last)
        {
            return made;
        }
        let (client, port) = (dice.small(6) + 1, 40_000 + dice.small(3));
        let service = match dice.roll(10) {
            0 => 8000 + dice.small(3),
            1 => 79,
            _ => 80 + dice.small(14),
        };
        let ttl = if dice.roll(20) == 0 { 1 } else { 64 };
        let length = if dice.roll(20) == 0 { 1480 } else { 10 };
        let segment = |to, flags| match flags {
            0 => tcp(port, to).ack().fin(),
            1 => tcp(port, to).rst(),
            2..=4 => tcp(port, to).ack(),
            _ => tcp(port, to).syn(),
        };
        let [_, last] = client.to_be_bytes();
        let v4 = ip([203, 0, 113, last], [192, 0, 2, 10]);
        let vip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
        let v6 = ip(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, client), vip);
        let packet: Packet = match dice.roll(6) {
            0 | 1 => v6.with(udp(port, service).payload(vec![0; length.min(1400)])),
            2 => {
                let to = [83, 87, 91][usize::from(dice.small(3))];
                v6.with(segment(to, dice.roll(8)).payload(vec![0; length.min(1400)]))
            }
            3 => {
                let chunks = [
                    ChunkType::INIT,
                    ChunkType::INIT,
                    ChunkType::COOKIE_ECHO,
                    ChunkType::DATA,
                    ChunkType::SHUTDOWN,
                    ChunkType::ABORT,
                ];
                let chunk = chunks[usize::from(dice.small(6))];
                let tag = if chunk == ChunkType::INIT { 0 } else { 7 };
                v4.with(sctp(port, service).tag(tag).chunk(chunk.0, &[0; 16]))
            }
            _ => v4.with(segment(service, dice.roll(8)).payload(vec![0; length.min(1460)])),
        };
        Made {
            port: WAN,
            bytes: packet.ttl(ttl).ether(THEIRS, WAN_MAC).bytes(),
        }
    }

    /// A command or two, or some time.
    fn meddle(&mut self) {
        let (service, real) = (80 + self.dice.small(14), 11 + self.dice.small(3));
        let words = match self.dice.roll(60) {
            0 => format!(
                "-e -t 192.0.2.10:{service} -r 10.1.0.{real} -w {}",
                self.dice.roll(4)
            ),
            1 => format!("-d -t 192.0.2.10:{service} -r 10.1.0.{real}"),
            2 => format!("-a -t 192.0.2.10:{service} -r 10.1.0.{real} -w 2"),
            3 => "sysctl drop_packet=3".to_owned(),
            4 => "sysctl drop_packet=0".to_owned(),
            5 => "sysctl expire_nodest_conn=1".to_owned(),
            6 => format!("-e -t 192.0.2.10:{service} -r 10.1.0.{real} -m -w 2"),
            7..=9 => {
                let later = self.machine.now + self.dice.roll(40_000);
                self.machine.advance(Nanos(later * 1_000_000));
                return;
            }
            _ => return,
        };
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        self.machine.command(&words);
    }

    /// Asks about a packet, takes it through, and compares.
    fn step(&mut self) -> String {
        self.meddle();
        let made = self.packet();
        let before = self.state();
        let told = self.asked(&made);
        assert_eq!(self.state(), before, "a question changes nothing");
        assert_eq!((told.exit, told.stderr.as_str()), (0, ""));
        self.n += 1;
        let (became, sent) = self.machine.traced(self.n, &made);
        let became = became.json();
        let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
        let became: serde_json::Value = serde_json::from_str(&became).expect("JSON");
        assert_eq!(told, became, "packet {}", self.n);
        let sent = sent.into_iter().find(|frame| frame.port == LAN);
        self.last = sent.map_or_else(Vec::new, |frame| frame.bytes);
        became["verdict"].as_str().expect("a word").to_owned()
    }
}

/// What the real server answers to a frame that was sent to it; `None` if that went through a tunnel,
/// or nowhere.
fn answer(sent: &[u8]) -> Option<Made> {
    let frame = ethernet::Frame::parse(sent).ok()?;
    let packet = match frame.ethertype() {
        EtherType::IPV4 => {
            let ip4 = ipv4::Packet::parse(frame.payload()).ok()?;
            let (from, to) = Quoted::parse(ip4.protocol(), ip4.payload()).ok()?.ports();
            let back = ip(ip4.dst(), ip4.src());
            match ip4.protocol() {
                Protocol::SCTP => {
                    back.with(sctp(to, from).tag(9).chunk(ChunkType::INIT_ACK.0, &[0; 24]))
                }
                _ => back.with(tcp(to, from).syn().ack()),
            }
        }
        EtherType::IPV6 => {
            let ip6 = ipv6::Packet::parse(frame.payload()).ok()?;
            let (from, to) = Quoted::parse(ip6.next_header(), ip6.payload())
                .ok()?
                .ports();
            ip(ip6.dst(), ip6.src()).with(udp(to, from))
        }
        _ => return None,
    };
    Some(Made {
        port: LAN,
        bytes: packet.ether(THEIRS, LAN_MAC).bytes(),
    })
}

/// What became of so many packets, by verdict.
fn compare(workers: u16, connections: u32, is_vlan: bool, steps: u32) -> Vec<(String, u32)> {
    let mut lab = Lab::new(workers, connections, is_vlan, workers.into());
    let mut verdicts = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..steps {
        *verdicts.entry(lab.step()).or_default() += 1;
    }
    verdicts.into_iter().collect()
}

#[test]
fn what_one_worker_would_do_is_what_it_does() {
    let verdicts = compare(1, 256, false, 500);
    assert!(
        verdicts
            .iter()
            .any(|(verdict, n)| verdict == "transmit" && *n > 150),
        "{verdicts:?}"
    );
    assert!(
        verdicts
            .iter()
            .any(|(verdict, n)| verdict == "drop" && *n > 20),
        "{verdicts:?}"
    );
}

#[test]
fn what_five_workers_would_do_is_what_they_do() {
    compare(5, 256, true, 500);
}

#[test]
fn tables_that_are_full() {
    compare(2, 8, false, 300);
}
