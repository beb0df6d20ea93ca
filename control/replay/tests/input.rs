//! What may come in: good captures of every kind, bad ones, and bad words.

mod common;

use std::fs;

use common::{Bench, CLIENT, MS, PORTS, SECOND, VIP, rx, service};
use wire::build::{ip, tcp};

fn syn(port: u16) -> Vec<u8> {
    rx(&ip(CLIENT, VIP).with(tcp(port, 80).syn()))
}

fn web() -> Bench {
    Bench::new(&(PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 2)))
}

/// A classic capture, written by hand: magic, then records of (seconds, part, captured length,
/// original length, bytes), all in one byte order.
fn classic(magic: u32, big: bool, records: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
    let word = |word: u32| {
        if big {
            word.to_be_bytes()
        } else {
            word.to_le_bytes()
        }
    };
    let mut file: Vec<u8> = [magic, 0, 0, 0, 64, 1].into_iter().flat_map(word).collect();
    for &(seconds, part, original, bytes) in records {
        let captured = u32::try_from(bytes.len()).expect("short");
        file.extend(
            [seconds, part, captured, original]
                .into_iter()
                .flat_map(word),
        );
        file.extend(bytes);
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = body.len().next_multiple_of(4) - body.len();
    let length = u32::try_from(body.len() + padding + 12)
        .expect("short")
        .to_le_bytes();
    [
        &kind.to_le_bytes()[..],
        &length,
        body,
        &[0; 3][..padding],
        &length,
    ]
    .concat()
}

fn section() -> Vec<u8> {
    let body = [
        0x1a2b_3c4d_u32.to_le_bytes(),
        [1, 0, 0, 0],
        [0xff; 4],
        [0xff; 4],
    ]
    .concat();
    block(0x0a0d_0d0a, &body)
}

/// An Ethernet interface with this `if_tsresol`, if any.
fn interface(resolution: Option<u8>) -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
    if let Some(resolution) = resolution {
        body.extend([9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0]);
    }
    block(1, &body)
}

fn packet(interface: u32, units: u64, original: u32, bytes: &[u8]) -> Vec<u8> {
    let [high, low] =
        [units >> 32, units & 0xffff_ffff].map(|half| u32::try_from(half).expect("32 bits"));
    let captured = u32::try_from(bytes.len()).expect("short");
    let words = [interface, high, low, captured, original].map(u32::to_le_bytes);
    block(6, &[&words.concat()[..], bytes].concat())
}

#[test]
fn captures_of_every_kind_give_the_same() {
    let frame = syn(1);
    let len = u32::try_from(frame.len()).expect("short");
    let record = |part| [(5, part, len, &frame[..])];
    let ng = |resolution, units| {
        let noise = block(0x0bad, &[7; 40]);
        [
            section(),
            noise,
            interface(None),
            interface(resolution),
            packet(1, units, len, &frame),
        ]
        .concat()
    };
    let simple = [&len.to_le_bytes()[..], &frame].concat();
    #[rustfmt::skip]
    let cases = [
        ("microseconds",          classic(0xa1b2_c3d4, false, &record(250)),     "5.00025"),
        ("big-endian",            classic(0xa1b2_c3d4, true, &record(250)),      "5.00025"),
        ("nanoseconds",           classic(0xa1b2_3c4d, false, &record(250)),     "5.00000025"),
        ("pcapng, microseconds",  ng(None, 5_000_250),                           "5.00025"),
        ("pcapng, nanoseconds",   ng(Some(9), 5_000_000_250),                    "5.00000025"),
        ("pcapng, 2^-10 seconds", ng(Some(0x8a), 5 * 1024 + 512),                "5.5"),
        ("pcapng without times",  [section(), interface(None), block(3, &simple)].concat(), "0"),
    ];
    for (name, bytes, at) in cases {
        let mut bench = web();
        fs::write(bench.path("in"), bytes).expect("room");
        let outcome = bench.file("wan", "in").run();
        assert_eq!(outcome.error, None, "{name}");
        let line = format!(r#"{{"n":0,"t":{at},"in":"wan","verdict":"transmit""#);
        assert!(
            outcome.stdout.starts_with(&line),
            "{name}: {}",
            outcome.stdout
        );
    }
}

#[test]
fn a_frame_cut_short_or_longer_than_it_says_is_a_packet_like_any_other() {
    let frame = syn(1);
    let len = u32::try_from(frame.len()).expect("short");
    let records = [
        (0, 0, 1500, &frame[..40]),
        (1, 0, 7, &frame[..]),
        (2, 0, len, &frame[..]),
    ];
    let mut bench = web();
    fs::write(bench.path("in"), classic(0xa1b2_c3d4, false, &records)).expect("room");
    let outcome = bench.file("wan", "in").run();
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.field("verdict"), ["drop", "transmit", "transmit"]);
    assert_eq!(outcome.field("reason")[0], "drop-bad-length");
}

#[test]
fn inputs_merge_by_time_and_ties_by_their_order() {
    let mut bench = web();
    bench.input("lan", &[(MS, syn(1)), (3 * MS, syn(2))]);
    bench.input(
        "wan",
        &[(0, syn(3)), (MS, syn(4)), (MS, syn(5)), (9 * MS, syn(6))],
    );
    let outcome = bench.run();
    assert_eq!(
        outcome.field("in"),
        ["wan", "lan", "wan", "wan", "lan", "wan"]
    );
    let times: Vec<_> = outcome.lan.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, MS, MS, MS, 3 * MS, 9 * MS]);
}

#[test]
fn what_cannot_be_read_has_one_line_that_says_where() {
    let frame = syn(1);
    let len = u32::try_from(frame.len()).expect("short");
    let good = classic(
        0xa1b2_c3d4,
        false,
        &[(0, 0, len, &frame), (1, 0, len, &frame)],
    );
    let second = 24 + 16 + frame.len();
    let head = [section(), interface(None), packet(0, 0, len, &frame)].concat();
    let huge = [&good[..second], &[0; 8], &[0xff; 8]].concat();
    let raw_ip = [&good[..20], &[101, 0, 0, 0]].concat();
    let stranger = [&head[..], &packet(3, 0, len, &frame)].concat();
    #[rustfmt::skip]
    let cases = [
        ("cut in a frame",   good[..good.len() - 1].to_vec(), 1, format!("packet 1, at byte {second}: the capture is cut short here")),
        ("cut in a header",  good[..second + 3].to_vec(),     1, format!("packet 1, at byte {second}: the capture is cut short here")),
        ("damaged",          huge,                            1, format!("packet 1, at byte {second}: the capture is damaged: a frame of 4294967295 octets")),
        ("pcapng, cut",      [&head[..], &packet(0, 0, len, &frame)[..30]].concat(),
                                                              1, format!("packet 1, at byte {}: the capture is cut short here", head.len())),
        ("pcapng, stranger", stranger,                        1, format!("packet 1, at byte {}: the capture is damaged: interface 3, which was not described", head.len())),
        ("not Ethernet",     raw_ip,                          0, "packet 0: its link type is 101; only Ethernet (1) can be replayed".to_owned()),
        ("no capture",       b"hello, world".to_vec(),        0, "not a capture: it begins neither as pcap nor as pcapng".to_owned()),
        ("empty",            Vec::new(),                      0, "not a capture: it begins neither as pcap nor as pcapng".to_owned()),
    ];
    for (name, bytes, packets, want) in cases {
        let mut bench = web();
        fs::write(bench.path("in"), bytes).expect("room");
        let path = bench.path("in").display().to_string();
        let outcome = bench.file("wan", "in").run();
        assert_eq!(
            outcome.error,
            Some((format!("{path}: {want}"), 1)),
            "{name}"
        );
        assert_eq!(outcome.lan.len(), packets, "{name}");
    }
}

#[test]
fn one_that_is_no_capture_leaves_the_others_packets_alone() {
    let frame = syn(1);
    let len = u32::try_from(frame.len()).expect("short");
    let good = classic(0xa1b2_c3d4, false, &[(1, 0, len, &frame)]);
    #[rustfmt::skip]
    let cases = [
        (&good[..10], "packet 0, at byte 0: the capture is cut short here"),
        (&b"hello"[..], "not a capture: it begins neither as pcap nor as pcapng"),
    ];
    for (bad, want) in cases {
        let mut bench = web();
        fs::write(bench.path("bad"), bad).expect("room");
        fs::write(bench.path("good"), &good).expect("room");
        let path = bench.path("bad").display().to_string();
        let outcome = bench.file("wan", "bad").file("wan", "good").run();
        assert_eq!(outcome.error, Some((format!("{path}: {want}"), 1)));
        assert_eq!(outcome.field("verdict"), ["transmit"]);
        assert_eq!(outcome.total("transmit"), 1);
    }
}

#[test]
fn words_that_make_no_replay_are_refused() {
    let refused = |bench: &Bench| bench.run().error.expect("refused");
    let mut bench = web();
    bench.input("dmz", &[]);
    let text = "--in dmz: there is no such port; there are: wan, lan";
    assert_eq!(refused(&bench), (text.to_owned(), 2));

    let mut bench = web();
    bench.commands("1 -C\n0 -C\n");
    let (text, exit) = refused(&bench);
    assert!(
        text.ends_with("commands:2: time goes back, from 1 to 0"),
        "{text}"
    );
    assert_eq!(exit, 2);

    let later = PORTS.to_owned() + "[[service]]\nlisten = \"tcp 192.0.2.10:80\"\nsynproxy = true\n";
    let (text, exit) = refused(&Bench::new(&later));
    assert!(text.ends_with(": not built yet"), "{text}");
    assert_eq!(exit, 2);

    let mut bench = web();
    bench.input("wan", &[(0, syn(1))]);
    let input = bench.options.inputs[0].1.clone();
    fs::create_dir(&bench.options.out).expect("room");
    fs::copy(&input, bench.options.out.join("wan.pcap")).expect("room");
    bench.options.inputs[0].1 = bench.options.out.join("wan.pcap");
    let (text, exit) = refused(&bench);
    assert!(
        text.ends_with("the replay itself would overwrite it"),
        "{text}"
    );
    assert_eq!(exit, 2);

    let mut bench = web();
    bench.file("wan", "nowhere");
    assert_eq!(refused(&bench).1, 1);
}

#[test]
fn commands_may_begin_fifty_years_before_the_packets() {
    let mut bench = web();
    let now = 1_700_000_000 * SECOND + 1;
    bench.commands("0 -Ln\n");
    bench.input("wan", &[(now, syn(1)), (now + 200 * SECOND, syn(1))]);
    let outcome = bench.run();
    let times: Vec<_> = outcome.lan.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [now, now + 200 * SECOND]);
    assert_eq!(outcome.field("new"), [true, true], "half open for 60 s");
    assert!(outcome.stdout.contains(r#""t":1700000000.000000001,"#));
}
