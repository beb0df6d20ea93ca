//! What a trace of the running daemon says, and what then becomes of the packet: the same, step for step, and the
//! question changes nothing. The daemon is a replay's: the real control and real workers.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use config::model::Config;
use config::toml;
use control::connections::Portion;
use control::trace::{Crew, Made, Sent};
use dataplane::port::PortId;
use dataplane::worker::Worker;
use proto::message::{Format, Framing, Reply, Request};
use wire::build::{Body, Packet, Tcp, icmp, ip, sctp, tcp, udp};
use wire::ethernet::{self, EtherType, Mac};
use wire::proxy::Found;
use wire::segment::Quoted;
use wire::tcp::OptionKind;
use wire::{Protocol, ipv4, ipv6};

use super::{Machine, OPERATOR};
use crate::connections::list;
use crate::time::{Nanos, millis};
use crate::{Arrive, Options};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const WAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const THEIRS: Mac = Mac([2, 9, 9, 9, 9, 9]);

/// The port of the services of SCTP, and of IPv6 with an IPv4 real server.
const OTHERS: u16 = 94;

/// How real servers are told who the client is: services on the ports from here on.
const TELLING: [&str; 5] = [
    "toa",
    "proxy-v1",
    "proxy-v2",
    "proxy-v1-insecure",
    "proxy-v2-insecure",
];
const TOLD: u16 = 95;

/// Services of every kind on ports of their own; marks, templates, local addresses.
/// With one arm `lan` is a VLAN over `wan`, and replies go back to whoever sent the client's packets.
fn configuration(connections: u32, one_arm: bool) -> Config {
    let (back, vlan) = if one_arm {
        ("return = \"sender\"\n", "parent = \"wan\"\nvlan = 20\n")
    } else {
        ("", "")
    };
    let mut text = format!(
        "version = 1\n[dataplane]\nconnections = {connections}\nconnections_v6 = {connections}\n\
         [[port]]\nname = \"wan\"\nmac = \"02:00:00:00:00:01\"\naddresses = [\"192.0.2.2/24\", \"2001:db8::2/64\"]\n{back}\
         [[port]]\nname = \"lan\"\nmac = \"02:00:00:00:00:02\"\naddresses = [\"10.1.0.2/24\", \"2001:db8:1::2/64\"]\n{vlan}\
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
        for listen in ["tcp 192.0.2.10:", "udp [2001:db8::10]:"] {
            let v6 = listen.contains('[');
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
    for listen in ["udp [2001:db8::10]", "sctp 192.0.2.10"] {
        write!(
            text,
            "[[service]]\nlisten = \"{listen}:{OTHERS}\"\nscheduler = \"rr\"\nlocal_addresses = [\"10.1.0.250\"]\n\
             [[service.real]]\naddress = \"10.1.0.11:9000\"\nmode = \"fullnat\"\n"
        )
        .expect("a string");
    }
    for (port, way) in (TOLD..).zip(TELLING) {
        let listens = ["tcp 192.0.2.10", "tcp [2001:db8::10]", "udp [2001:db8::10]"];
        for (at, listen) in listens.into_iter().enumerate() {
            // Each has a port of its own: which local ports are free is asked a few times only.
            write!(
                text,
                "[[service]]\nlisten = \"{listen}:{port}\"\nscheduler = \"rr\"\nclient_address = \"{way}\"\n\
                 local_addresses = [\"10.1.0.250\"]\n\
                 [[service.real]]\naddress = \"10.1.0.11:9{at}{port}\"\nmode = \"fullnat\"\n"
            )
            .expect("a string");
        }
    }
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
    fn new(workers: u16, connections: u32, seed: u64, one_arm: bool) -> Self {
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
        let config = configuration(connections, one_arm);
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
            && let Some(made) = answer(&self.last, dice.roll(6))
        {
            return made;
        }
        let (client, port) = (dice.small(6) + 1, 40_000 + dice.small(3));
        let service = match dice.roll(10) {
            0 => 8000 + dice.small(3),
            1 => 79,
            2 | 3 => OTHERS,
            4 => TOLD + dice.small(5),
            _ => 80 + dice.small(14),
        };
        let ttl = if dice.roll(20) == 0 { 1 } else { 64 };
        let length = if dice.roll(20) == 0 { 1480 } else { 10 };
        let v6 = dice.roll(2) == 0;
        let packet: Packet = if v6 {
            let client = Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, client);
            let vip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
            ip(client, vip).with(udp(port, service).payload(vec![0; length.min(1400)]))
        } else {
            let [_, last] = client.to_be_bytes();
            let flags = dice.roll(8);
            let segment = tcp(port, service);
            let segment = match flags {
                0 => segment.ack().fin(),
                1 => segment.rst(),
                2..=4 => segment.ack(),
                _ => segment.syn(),
            };
            let segment = segment.payload(vec![0; length.min(1460)]);
            let chunk = [11, 6, 0, 10, 3, 1, 1, 1][usize::try_from(flags).expect("few")];
            let association = sctp(port, service).tag(u32::from(chunk != 1));
            let body: Body = match service {
                OTHERS => association.chunk(chunk, &[0; 16]).into(),
                _ => segment.into(),
            };
            ip(
                Ipv4Addr::new(203, 0, 113, last),
                Ipv4Addr::new(192, 0, 2, 10),
            )
            .with(body)
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
        let (became, sent) = self.follow(&made);
        let sent = sent.into_iter().find(|frame| frame.port == LAN);
        self.last = sent.map_or_else(Vec::new, |frame| frame.bytes);
        became["verdict"].as_str().expect("a word").to_owned()
    }

    /// The same for one packet; what became of it.
    fn follow(&mut self, made: &Made) -> (serde_json::Value, Vec<Sent>) {
        let before = self.state();
        let told = self.asked(made);
        assert_eq!(self.state(), before, "a question changes nothing");
        assert_eq!((told.exit, told.stderr.as_str()), (0, ""));
        self.n += 1;
        let (became, sent) = self.machine.traced(self.n, made);
        let became = became.json();
        let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
        let became: serde_json::Value = serde_json::from_str(&became).expect("JSON");
        assert_eq!(told, became, "packet {}", self.n);
        (became, sent)
    }
}

/// A client of a service whose real server is told of it, and that server.
struct Dialogue<'a> {
    lab: &'a mut Lab,
    service: u16,
    v6: bool,
    /// What the client sends next, and what it has of the server's.
    numbers: (u32, u32),
    /// The last that the server got.
    got: Vec<u8>,
}

impl Dialogue<'_> {
    /// The client sends this; says what the server gets.
    fn client(&mut self, segment: Tcp) -> Vec<u8> {
        let (seq, ack) = self.numbers;
        let segment = segment.ports(40_009, self.service).seq(seq);
        let segment = if ack == 0 { segment } else { segment.acks(ack) };
        let packet: Packet = if self.v6 {
            let client = Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 9);
            let vip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
            ip(client, vip).with(segment)
        } else {
            let (client, vip) = ([203, 0, 113, 9], [192, 0, 2, 10]);
            ip(Ipv4Addr::from(client), Ipv4Addr::from(vip)).with(segment)
        };
        let bytes = packet.ether(THEIRS, WAN_MAC).bytes();
        let (became, sent) = self.lab.follow(&Made { port: WAN, bytes });
        assert_eq!(became["verdict"], "transmit", "{became}");
        let frame = sent.into_iter().next().expect("one packet").bytes;
        self.got = segment_of(&frame);
        self.got.clone()
    }

    /// The server answers with this, which acknowledges all that it got.
    fn server(&mut self, segment: Tcp) {
        let got = parsed(&self.got);
        let len = got.payload().len() + usize::from(got.flags().syn());
        let ack = got.seq().wrapping_add(u32::try_from(len).expect("small"));
        let segment = segment.ports(got.dst_port(), got.src_port()).acks(ack);
        let (real, us) = ([10, 1, 0, 11], [10, 1, 0, 250]);
        let packet = ip(Ipv4Addr::from(real), Ipv4Addr::from(us)).with(segment);
        let bytes = packet.ether(THEIRS, LAN_MAC).bytes();
        let (became, _) = self.lab.follow(&Made { port: LAN, bytes });
        assert_eq!(became["verdict"], "transmit", "{became}");
    }
}

/// The TCP segment in a frame of IPv4.
fn segment_of(frame: &[u8]) -> Vec<u8> {
    let frame = ethernet::Frame::parse(frame).expect("a frame");
    let ip4 = ipv4::Packet::parse(frame.payload()).expect("IPv4");
    ip4.payload().to_vec()
}

fn parsed(segment: &[u8]) -> wire::tcp::Packet<&[u8]> {
    wire::tcp::Packet::parse(segment).expect("TCP")
}

/// A connection from its begin on: its first data are sent twice, and it goes on after them.
fn stream(lab: &mut Lab, at: u16, v6: bool) {
    let numbers = (u32::MAX - 3, 0);
    let mut talk = Dialogue {
        lab,
        service: TOLD + at,
        v6,
        numbers,
        got: Vec::new(),
    };
    talk.client(tcp(0, 0).syn().mss(1460));
    talk.server(tcp(0, 0).syn().seq(70).mss(1460));
    talk.numbers = (numbers.0.wrapping_add(1), 71);
    let greeted = talk.client(tcp(0, 0));
    let told = talk.client(tcp(0, 0).payload("GET /"));
    let again = talk.client(tcp(0, 0).payload("GET /"));
    assert_eq!(told, again, "{at} {v6}");
    let is_toa = at == 0;
    let has_option = parsed(&greeted).options().next().map(|it| it.kind);
    assert_eq!(has_option == Some(OptionKind::TOA), is_toa, "{at} {v6}");
    let found = Found::at_start_of(parsed(&told).payload());
    assert_eq!(found.is_none(), is_toa, "{at} {v6}");
    talk.server(tcp(0, 0).seq(71).payload("200"));
    talk.numbers = (numbers.0.wrapping_add(6), 74);
    talk.client(tcp(0, 0).payload("GET /again"));
    talk.server(tcp(0, 0).seq(74).fin());
    talk.numbers.0 = numbers.0.wrapping_add(16);
    talk.client(tcp(0, 0).fin());
}

/// What the real server answers to a frame that was sent to it, or a router says of that; `None` if
/// it went through a tunnel, or nowhere.
fn answer(sent: &[u8], which: u64) -> Option<Made> {
    let frame = ethernet::Frame::parse(sent).ok()?;
    let body = |protocol, (from, to)| -> Body {
        match protocol {
            Protocol::TCP => tcp(to, from).syn().ack().into(),
            Protocol::UDP => udp(to, from).into(),
            _ => sctp(to, from).tag(1).chunk(2, &[0; 16]).into(),
        }
    };
    let packet = match frame.ethertype() {
        EtherType::IPV4 => {
            let ip4 = ipv4::Packet::parse(frame.payload()).ok()?;
            let ports = Quoted::parse(ip4.protocol(), ip4.payload()).ok()?.ports();
            let (kind, code) = [(3, 3), (11, 0), (12, 0)][usize::try_from(which % 3).expect("few")];
            let error = || icmp(kind, code).payload(frame.payload());
            match which {
                0..3 => ip(Ipv4Addr::new(10, 1, 0, 77), ip4.src()).with(error()),
                _ => ip(ip4.dst(), ip4.src()).with(body(ip4.protocol(), ports)),
            }
        }
        EtherType::IPV6 => {
            let ip6 = ipv6::Packet::parse(frame.payload()).ok()?;
            let ports = Quoted::parse(ip6.next_header(), ip6.payload())
                .ok()?
                .ports();
            ip(ip6.dst(), ip6.src()).with(body(ip6.next_header(), ports))
        }
        _ => return None,
    };
    Some(Made {
        port: LAN,
        bytes: packet.ether(THEIRS, LAN_MAC).bytes(),
    })
}

/// What became of so many packets, by verdict.
fn compare(mut lab: Lab, steps: u32) -> Vec<(String, u32)> {
    let mut verdicts = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..steps {
        *verdicts.entry(lab.step()).or_default() += 1;
    }
    verdicts.into_iter().collect()
}

#[test]
fn what_one_worker_would_do_is_what_it_does() {
    let verdicts = compare(Lab::new(1, 256, 1, false), 400);
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
    compare(Lab::new(5, 256, 2, true), 400);
}

#[test]
fn tables_that_are_full() {
    compare(Lab::new(2, 8, 3, false), 300);
}

#[test]
fn streams_whose_real_server_is_told() {
    for (workers, one_arm) in [(1, false), (4, true)] {
        for at in 0..5 {
            for v6 in [false, true] {
                stream(&mut Lab::new(workers, 256, 4, one_arm), at, v6);
            }
        }
    }
}
