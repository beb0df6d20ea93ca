//! Captures as nobody should write them, and some that are only rare: each in both byte orders.

mod common;

use std::fs;

use common::{Bench, CLIENT, MS, Outcome, PORTS, SECOND, VIP, rx, service};
use wire::build::{ip, tcp};

fn syn(port: u16) -> Vec<u8> {
    rx(&ip(CLIENT, VIP).with(tcp(port, 80).syn()))
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("short")
}

/// What a writer does on a machine of one byte order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Machine {
    Little,
    Big,
}

impl Machine {
    fn word(self, word: u32) -> [u8; 4] {
        match self {
            Self::Little => word.to_le_bytes(),
            Self::Big => word.to_be_bytes(),
        }
    }

    fn half(self, half: u16) -> [u8; 2] {
        match self {
            Self::Little => half.to_le_bytes(),
            Self::Big => half.to_be_bytes(),
        }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|&word| self.word(word)).collect()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let length = len(body) + len(&padding) + 12;
        let head = self.words(&[kind, length]);
        [&head[..], body, &padding, &self.word(length)].concat()
    }

    fn section(self) -> Vec<u8> {
        let body = [self.words(&[0x1a2b_3c4d]), vec![0xff; 12]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    /// An Ethernet interface with this limit and these options.
    fn interface(self, snap_len: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [&self.half(1)[..], &[0; 2], &self.word(snap_len)].concat();
        for (code, value) in options {
            let size = u16::try_from(value.len()).expect("short");
            body.extend([self.half(*code), self.half(size)].concat());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    fn packet(self, interface: u32, units: u64, bytes: &[u8]) -> Vec<u8> {
        let [high, low] = [units >> 32, units & 0xffff_ffff];
        let half = |half: u64| u32::try_from(half).expect("32 bits");
        let head = [interface, half(high), half(low), len(bytes), len(bytes)];
        self.block(6, &[&self.words(&head)[..], bytes].concat())
    }

    /// An old packet block: a 16-bit interface, and drops.
    fn old_packet(self, interface: u16, units: u32, bytes: &[u8]) -> Vec<u8> {
        let head = [self.half(interface), self.half(9)].concat();
        let rest = self.words(&[0, units, len(bytes), len(bytes)]);
        self.block(2, &[&head[..], &rest, bytes].concat())
    }

    fn simple(self, original: u32, bytes: &[u8]) -> Vec<u8> {
        self.block(3, &[&self.word(original)[..], bytes].concat())
    }

    fn classic(self, magic: u32, records: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut file = self.words(&[magic]);
        file.extend([self.half(2), self.half(4)].concat());
        file.extend(self.words(&[0, 0, 64, 1]));
        for &(seconds, part, bytes) in records {
            file.extend(self.words(&[seconds, part, len(bytes), len(bytes)]));
            if magic == 0xa1b2_cd34 {
                file.extend([0xee; 8]);
            }
            file.extend(bytes);
        }
        file
    }
}

fn bench() -> Bench {
    Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 2)))
}

fn replayed(bytes: &[u8]) -> (Bench, Outcome) {
    let mut bench = bench();
    fs::write(bench.path("in"), bytes).expect("room");
    let outcome = bench.file("wan", "in").run();
    (bench, outcome)
}

fn times(outcome: &Outcome) -> Vec<String> {
    outcome.field("t").iter().map(ToString::to_string).collect()
}

#[test]
fn rare_captures_are_captures() {
    let (a, b) = (syn(1), syn(2));
    for machine in [Machine::Little, Machine::Big] {
        let m = machine;
        let resolution = |of: u8| m.interface(0, &[(9, &[of])]);
        let offset = match m {
            Machine::Little => 7_i64.to_le_bytes(),
            Machine::Big => 7_i64.to_be_bytes(),
        };
        let shifted = m.interface(0, &[(2, b"eth0"), (9, &[3]), (14, &offset), (0, &[])]);
        #[rustfmt::skip]
        let cases: [(&str, Vec<u8>, &[&str]); 13] = [
            ("microseconds",  m.classic(0xa1b2_c3d4, &[(5, 250, &a), (6, 0, &b)]), &["5.00025", "6"]),
            ("nanoseconds",   m.classic(0xa1b2_3c4d, &[(5, 250, &a), (6, 0, &b)]), &["5.00000025", "6"]),
            ("modified",      m.classic(0xa1b2_cd34, &[(5, 250, &a), (6, 0, &b)]), &["5.00025", "6"]),
            ("no packet",     m.classic(0xa1b2_c3d4, &[]),                         &[]),
            ("time goes back", m.classic(0xa1b2_c3d4, &[(5, 0, &a), (4, 0, &b), (6, 0, &a)]), &["5", "5", "6"]),
            ("no frame",      m.classic(0xa1b2_c3d4, &[(5, 0, &[]), (6, 0, &b)]), &["5", "6"]),
            ("only a section", m.section(), &[]),
            ("10^-9, 10^-0",  [m.section(), resolution(9), resolution(0), m.packet(0, 5_000_000_001, &a), m.packet(1, 6, &b)].concat(), &["5.000000001", "6"]),
            ("2^-1, 2^-30, 2^-0", [m.section(), resolution(0x81), resolution(0x9e), resolution(0x80), m.packet(0, 3, &a), m.packet(1, 5 << 30 | 1 << 28, &a), m.packet(2, 9, &b)].concat(), &["1.5", "5.25", "9"]),
            ("finer than can be", [m.section(), resolution(0x7f), resolution(0xff), m.packet(0, 3, &a), m.packet(1, u64::MAX, &b)].concat(), &["0", "0"]),
            ("an offset and names", [m.section(), shifted, m.packet(0, 1500, &a)].concat(), &["8.5"]),
            ("sections of both orders", [
                m.section(), m.interface(0, &[]), m.packet(0, 1_000_000, &a),
                Machine::Big.section(), Machine::Big.interface(0, &[]), Machine::Big.packet(0, 2_000_000, &a),
                Machine::Little.section(), Machine::Little.interface(0, &[]), Machine::Little.packet(0, 3_000_000, &b),
            ].concat(), &["1", "2", "3"]),
            ("blocks of all kinds", [
                m.section(), m.block(0x0bad, &[]), m.interface(0, &[]), m.block(4, &[1; 16]), m.packet(0, 1_000_000, &a),
                m.block(5, &[2; 300_000]), m.old_packet(0, 2_000_000, &a), m.simple(len(&b), &b), m.block(0x8000_0bad, &[9; 8]),
            ].concat(), &["1", "2", "2"]),
        ];
        for (name, bytes, want) in cases {
            let (_, outcome) = replayed(&bytes);
            assert_eq!(outcome.error, None, "{machine:?}: {name}");
            assert_eq!(times(&outcome), want, "{machine:?}: {name}");
            if want.len() > 1 {
                let last = outcome.field("verdict").pop();
                assert_eq!(last, Some("transmit".into()), "{machine:?}: {name}");
            }
        }
    }
}

#[test]
fn a_simple_packet_ends_where_its_interface_cut_it() {
    let frame = [syn(1), vec![7; 99]].concat();
    for machine in [Machine::Little, Machine::Big] {
        let cut = &frame[..40];
        let file = [
            machine.section(),
            machine.interface(40, &[]),
            machine.simple(len(&frame), cut),
            machine.simple(len(&syn(2)), &syn(2)[..40]),
        ];
        let (_, outcome) = replayed(&file.concat());
        assert_eq!(outcome.error, None);
        assert_eq!(
            outcome.field("reason"),
            ["drop-bad-length", "drop-bad-length"]
        );
        assert_eq!(outcome.total("rx-bytes"), 80);
    }
}

#[test]
fn damage_has_its_place_and_what_came_before_it_is_done() {
    let frame = syn(1);
    for m in [Machine::Little, Machine::Big] {
        let head = [m.section(), m.interface(0, &[]), m.packet(0, 0, &frame)].concat();
        let at = head.len();
        let edited = |block: Vec<u8>, place: usize, word: u32| {
            let mut file = [&head[..], &block].concat();
            file[at + place..][..4].copy_from_slice(&m.word(word));
            file
        };
        let packet = || m.packet(0, 0, &frame);
        let last = packet().len() - 4;
        let option = [&m.half(1)[..], &[0; 6], &m.half(9), &m.half(9), &[0; 4]].concat();
        let other = [&m.half(101)[..], &[0; 6]].concat();
        let damage = |what: &str| format!("packet 1, at byte {at}: the capture is damaged: {what}");
        let cut = format!("packet 1, at byte {at}: the capture is cut short here");
        #[rustfmt::skip]
        let cases = [
            ("a short block",     edited(packet(), 4, 8),               damage("a block of 8 octets")),
            ("an odd block",      edited(packet(), 4, 93),              damage("a block of 93 octets")),
            ("a huge block",      edited(packet(), 4, 0xffff_fff0),     damage("a block of 4294967280 octets")),
            ("two lengths",       edited(packet(), last, 16),           damage("a block whose two lengths differ")),
            ("too long a frame",  edited(packet(), 20, 4000),           damage("a frame of 4000 octets")),
            ("a strange interface", edited(packet(), 8, 77),            damage("interface 77, which was not described")),
            ("a packet's block without a header", [&head[..], &m.block(6, &[0; 16])].concat(),
                                                                        damage("a packet's block without room for its header")),
            ("a simple packet's", [&head[..], &m.block(3, &[])].concat(), damage("a packet's block without room for its header")),
            ("an interface's",    [&head[..], &m.block(1, &[0; 4])].concat(), damage("an interface's block without room for its header")),
            ("an option",         [&head[..], &m.block(1, &option)].concat(), damage("an option longer than its block")),
            ("no order",          edited(m.section(), 8, 5),            damage("a section of no known byte order")),
            ("a name's block of no length",     edited(m.block(4, &[1; 8]), 4, 0),    damage("a block of 0 octets")),
            ("a name's block of an odd length", edited(m.block(4, &[1; 8]), 4, 18),   damage("a block of 18 octets")),
            ("a name's block's two lengths",    edited(m.block(4, &[1; 8]), 16, 24),  damage("a block whose two lengths differ")),
            ("a name's block past the end",     edited(m.block(4, &[1; 8]), 4, 4000), cut.clone()),
            ("a name's block without its end",  { let mut file = [&head[..], &m.block(4, &[1; 8])].concat(); file.truncate(at + 17); file }, cut.clone()),
            ("half a header",     [&head[..], &packet()[..7]].concat(), cut),
            ("another network",   [&head[..], &m.block(1, &other), &m.packet(1, 0, &frame)].concat(),
                                  "packet 1: its link type is 101; only Ethernet (1) can be replayed".to_owned()),
        ];
        for (name, bytes, want) in cases {
            let (bench, outcome) = replayed(&bytes);
            let path = bench.path("in").display().to_string();
            let want = Some((format!("{path}: {want}"), 1));
            assert_eq!(outcome.error, want, "{m:?}: {name}");
            assert_eq!(outcome.lan.len(), 1, "{m:?}: {name}");
            assert_eq!(outcome.total("transmit"), 1, "{m:?}: {name}");
        }
    }
}

/// Wherever it is cut, a capture gives the packets that are whole, and one line.
#[test]
fn every_cut_gives_what_came_before_it() {
    let (m, frame) = (Machine::Little, syn(1));
    let records: Vec<_> = (0..3).map(|n| (n, 0, &frame[..])).collect();
    let classic = m.classic(0xa1b2_c3d4, &records);
    let mut ng = [m.section(), m.interface(0, &[])].concat();
    let (starts, step) = (
        (24, ng.len()),
        (16 + frame.len(), m.packet(0, 0, &frame).len()),
    );
    (0..3).for_each(|n| ng.extend(m.packet(0, n, &frame)));
    let files = [(classic, starts.0, step.0), (ng, starts.1, step.1)];
    for (bytes, first, step) in files {
        for cut in (first..=bytes.len())
            .step_by(7)
            .chain([first + step, bytes.len()])
        {
            let (_, outcome) = replayed(&bytes[..cut]);
            let (whole, rest) = ((cut - first) / step, (cut - first) % step);
            assert_eq!(outcome.lan.len(), whole, "{cut}");
            let at = first + whole * step;
            let line = format!("packet {whole}, at byte {at}: the capture is cut short here");
            match outcome.error {
                None => assert_eq!(rest, 0, "{cut}"),
                Some((text, exit)) => {
                    assert!(rest > 0 && exit == 1 && text.ends_with(&line), "{text}")
                }
            }
        }
    }
}

/// No byte that is changed, and no two, make more than an error of it.
#[test]
fn whatever_is_changed_nothing_breaks() {
    let (m, frame) = (Machine::Big, syn(1));
    let ng = [
        m.section(),
        m.interface(0, &[(9, &[9])]),
        m.packet(0, 7, &frame),
        m.simple(54, &frame),
    ];
    let files = [
        ng.concat(),
        m.classic(0xa1b2_cd34, &[(1, 0, &frame), (2, 0, &frame)]),
    ];
    for bytes in files {
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let mut capture = match replay::capture::Capture::new(&changed[..]) {
                    Ok(capture) => capture,
                    Err(error) => {
                        assert!(!error.to_string().contains('\n'));
                        continue;
                    }
                };
                let mut packets = 0;
                while let Ok(true) = capture.advance() {
                    packets += 1;
                    assert!(capture.bytes().len() <= changed.len());
                }
                assert!(packets <= 4, "{at}: {packets}");
            }
        }
    }
}

#[test]
fn frames_of_every_size_are_packets() {
    let whole = |size: usize| rx(&ip(CLIENT, VIP).with(tcp(9, 80).syn().payload(vec![0; size])));
    let jumbo = [whole(9000), vec![0; 65_536 - 9054]].concat();
    let frames = [0, 1, 13, 14, 33, 54].map(|size| syn(1)[..size].to_vec());
    let frames: Vec<_> = frames
        .into_iter()
        .chain([jumbo, vec![0xff; 262_144], syn(3)])
        .collect();
    let records: Vec<_> = frames.iter().map(|frame| (1, 0, &frame[..])).collect();
    let file = Machine::Little.classic(0xa1b2_c3d4, &records);
    let mut bench = bench();
    fs::write(bench.path("in"), file).expect("room");
    bench.file("wan", "in");
    for (workers, burst) in [(1, 1), (4, 32)] {
        (bench.options.workers, bench.options.burst) = (workers, burst);
        let outcome = bench.run();
        assert_eq!(outcome.error, None);
        let want = serde_json::json!([
            "drop-short-frame",
            "drop-short-frame",
            "drop-short-frame",
            "drop-short-header",
            "drop-short-header",
            null,
            "drop-oversize",
            "punt-other",
            null
        ]);
        assert_eq!(serde_json::json!(outcome.field("reason")), want);
    }
}

#[test]
fn one_port_may_have_several_captures() {
    let mut bench = bench();
    bench.input("wan", &[(MS, syn(1)), (3 * MS, syn(2))]);
    bench.input("wan", &[(MS, syn(3)), (2 * MS, syn(4))]);
    let outcome = bench.run();
    assert_eq!(outcome.error, None);
    assert_eq!(times(&outcome), ["0.001", "0.001", "0.002", "0.003"]);
    let ports: Vec<_> = outcome.lan.iter().map(|(_, frame)| frame[35]).collect();
    assert_eq!(ports, [1, 3, 4, 2]);
}

#[test]
fn results_that_cannot_be_written_are_one_line() {
    let mut bench = bench();
    bench.input("wan", &[(MS, syn(1))]);
    let folder = bench.path("folder");
    fs::create_dir_all(folder.join("lan.pcap")).expect("room");
    fs::write(bench.path("file"), "").expect("room");
    let lan = folder.join("lan.pcap").display().to_string();
    let under = bench.path("file").join("under");
    let cases = [
        (folder, format!("{lan}: Is a directory (os error 21)")),
        (
            under.clone(),
            format!("{}: Not a directory (os error 20)", under.display()),
        ),
    ];
    for (out, want) in cases {
        bench.options.out = out;
        let error = replay::run(&bench.options, Vec::new(), Vec::new()).expect_err("nowhere");
        assert_eq!((error.to_string(), error.exit()), (want, 1));
    }
}

#[test]
fn bad_commands_have_their_line() {
    let cases = [
        ("now -C", "\"now\" is no time in seconds"),
        ("-1 -C", "\"-1\" is no time in seconds"),
        ("1e3 -C", "\"1e3\" is no time in seconds"),
        ("sysctl drop_entry=1", "\"sysctl\" is no time in seconds"),
        ("99999999999 -C", "\"99999999999\" is no time in seconds"),
        ("1.999999999 -C", "time goes back, from 2 to 1.999999999"),
    ];
    for (line, what) in cases {
        let mut bench = bench();
        bench.commands(&format!("# a comment\r\n2 -Ln\r\n\r\n{line}\n"));
        let path = bench.path("commands").display().to_string();
        let want = (format!("{path}:4: {what}"), 2);
        assert_eq!(bench.run().error, Some(want), "{line}");
    }
}

/// The line of a damaged capture comes last: what another has after it is replayed too.
#[test]
fn a_damaged_capture_does_not_end_another() {
    let (m, frame) = (Machine::Little, syn(1));
    let mut bytes = m.classic(0xa1b2_c3d4, &[(1, 0, &frame), (2, 0, &frame)]);
    bytes.truncate(bytes.len() - 1);
    let mut bench = bench();
    fs::write(bench.path("in"), bytes).expect("room");
    bench
        .file("wan", "in")
        .input("wan", &[(9 * SECOND, syn(2))]);
    let outcome = bench.run();
    assert_eq!(times(&outcome), ["1", "9"]);
    assert_eq!(outcome.error.map(|(_, exit)| exit), Some(1));
}
