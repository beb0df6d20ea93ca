use config::model::{Endpoint, Listen, Mode, Protocol, Real, Service, Tunnel, TunnelChecksum};
use proptest::prelude::*;

use super::*;
use crate::listing::{ListingReal, ListingService};

fn service(host: u32, reals: u16) -> ListingService {
    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into();
    let listen = Listen::Address {
        protocol: Protocol::Tcp,
        address,
        port: 80,
    };
    let mut service = ListingService::new(&Service::new(listen));
    for port in 0..reals {
        let mode = Mode::Tun(Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::Remote,
        });
        let endpoint = Endpoint { address, port };
        let real = Real {
            endpoint,
            mode,
            weight: 1,
            upper: 0,
            lower: 0,
        };
        service.reals.push(ListingReal::new(&real));
    }
    service
}

/// What a client makes of the lines.
fn put_together(lines: &[String]) -> Reply {
    let mut whole = Reply::default();
    for (at, line) in lines.iter().enumerate() {
        let part = decode_reply(line.trim_end_matches('\n').as_bytes()).expect("we wrote it");
        assert_eq!(
            part.more,
            at + 1 < lines.len(),
            "all but the last say that there is more"
        );
        assert_eq!(part.id, 7);
        whole.stdout += &part.reply.stdout;
        whole.stderr += &part.reply.stderr;
        whole.exit = part.reply.exit;
        whole.generation = part.reply.generation;
        whole.line = part.reply.line;
        if let Some(data) = part.reply.data {
            whole.data.get_or_insert_default().append(data);
        }
    }
    whole
}

#[test]
fn requests() {
    #[rustfmt::skip]
    let cases = [
        ("ipvsadm -A -t 10.0.0.1:80", Framing::Text, "-A|-t|10.0.0.1:80", "", Format::Text),
        ("-Ln",                       Framing::Text, "-Ln",               "", Format::Text),
        ("  -L   -n\r",               Framing::Text, "-L|-n",             "", Format::Text),
        ("",                          Framing::Text, "",                  "", Format::Text),
        (r#"{"v":1,"id":7,"argv":["-Ln"],"stdin":""}"#, Framing::Json { id: 7 }, "-Ln", "", Format::Text),
        (r#"{"v":1,"argv":["-R"],"stdin":"-C\n"}"#,     Framing::Json { id: 0 }, "-R", "-C\n", Format::Text),
        (r#"{"v":1,"id":8,"argv":["-L"],"format":"data","later":true}"#,
                                                        Framing::Json { id: 8 }, "-L", "", Format::Data),
    ];
    for (line, framing, argv, stdin, format) in cases {
        let got = decode_request(line.as_bytes()).expect(line);
        assert_eq!(got.framing, framing, "{line}");
        assert_eq!(got.argv.join("|"), argv, "{line}");
        assert_eq!((got.stdin.as_str(), got.format), (stdin, format), "{line}");
    }
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let long = "x".repeat(MAX_TEXT_LINE + 1);
    #[rustfmt::skip]
    let cases: [(&[u8], &str); 6] = [
        (br#"{"v":2,"argv":[]}"#,    "message version 2 is not supported (this is version 1)"),
        (br#"{"v":1}"#,              "missing field `argv`"),
        (br#"{"v":1,"argv":"-L"}"#,  "expected a sequence"),
        (b"{",                       "malformed message: EOF"),
        (b"-L \xff",                 "a line is not UTF-8 text"),
        (long.as_bytes(),            "a line of 65537 octets is longer than the 65536 allowed"),
    ];
    for (line, want) in cases {
        let got = decode_request(line).expect_err(want).to_string();
        assert!(got.contains(want), "{got}");
    }
}

#[test]
fn a_bad_request_is_answered_in_its_own_framing() {
    assert_eq!(Framing::of(b"-L \xff"), Framing::Text);
    assert_eq!(
        Framing::of(br#"{"v":9,"id":4,"argv":[]}"#),
        Framing::Json { id: 4 }
    );
    assert_eq!(Framing::of(b"{"), Framing::Json { id: 0 });
}

#[test]
fn text_replies_end_with_the_exit_code() {
    let text = |stdout: &str, stderr: &str, exit| {
        let (stdout, stderr) = (stdout.to_owned(), stderr.to_owned());
        encode_reply(
            Framing::Text,
            Reply {
                exit,
                stdout,
                stderr,
                ..Reply::default()
            },
        )
        .concat()
    };
    assert_eq!(text("", "", 0), "exit 0\n");
    assert_eq!(text("a\n", "b\n", 2), "a\nb\nexit 2\n");
    assert_eq!(text("a", "", 0), "a\nexit 0\n");
}

#[test]
fn a_short_reply_is_one_object_as_documented() {
    let reply = Reply {
        stdout: "x\n".to_owned(),
        generation: 42,
        ..Reply::default()
    };
    assert_eq!(
        encode_reply(Framing::Json { id: 7 }, reply),
        ["{\"v\":1,\"id\":7,\"exit\":0,\"stdout\":\"x\\n\",\"stderr\":\"\",\"generation\":42}\n"]
    );
}

#[test]
fn the_line_that_failed_is_a_field() {
    let reply = Reply {
        exit: 255,
        line: Some(3),
        ..Reply::default()
    };
    assert_eq!(
        encode_reply(Framing::Json { id: 7 }, reply),
        [
            "{\"v\":1,\"id\":7,\"exit\":255,\"stdout\":\"\",\"stderr\":\"\",\"generation\":0,\"line\":3}\n"
        ]
    );
}

#[test]
fn data_reads_like_the_configuration() {
    let data = Some(Listing {
        services: vec![service(1, 1)],
        ..Listing::default()
    });
    let lines = encode_reply(
        Framing::Json { id: 7 },
        Reply {
            data,
            ..Reply::default()
        },
    );
    let [line] = lines.as_slice() else {
        panic!("one object")
    };
    for piece in [
        r#""listen":"tcp 10.0.0.1:80""#,
        r#""endpoint":"10.0.0.1:0""#,
        r#""mode":{"tun":{"type":"gue","port":6080,"checksum":"remcsum"}}"#,
    ] {
        assert!(line.contains(piece), "{piece} in {line}");
    }
}

#[test]
fn a_long_listing_comes_in_parts() {
    let services: Vec<_> = (0..900).map(|host| service(host, 10)).collect();
    let reply = Reply {
        data: Some(Listing {
            services,
            ..Listing::default()
        }),
        exit: 1,
        generation: 3,
        ..Reply::default()
    };
    let lines = encode_reply(Framing::Json { id: 7 }, reply.clone());
    assert!(lines.len() >= 9, "{} parts", lines.len());
    assert!(lines.iter().all(|line| line.len() < 1 << 20));
    assert_eq!(put_together(&lines), reply);
}

#[test]
fn an_empty_listing_is_still_a_listing() {
    let reply = Reply {
        data: Some(Listing::default()),
        ..Reply::default()
    };
    let lines = encode_reply(Framing::Json { id: 7 }, reply.clone());
    assert_eq!(put_together(&lines), reply);
}

#[test]
fn bad_replies_say_what_is_wrong() {
    #[rustfmt::skip]
    let cases = [
        ("hello",          "malformed message: expected value"),
        (r#"{"v":3}"#,     "message version 3"),
        (r#"{"v":1}"#,     "the last object has no exit code"),
        (r#"{"v":1,"exit":0,"data":{"services":[{"listen":"tcp x:1","scheduler":"rr"}]}}"#, "\"tcp x:1\" is not understood"),
    ];
    for (line, want) in cases {
        let got = decode_reply(line.as_bytes()).expect_err(want).to_string();
        assert!(got.contains(want), "{got}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error(line: Vec<u8>) {
        let _ = decode_request(&line);
        let _ = decode_reply(&line);
        Framing::of(&line);
    }

    #[test]
    fn any_json_request_arrives(argv: Vec<String>, stdin: String, id: u64) {
        let line = encode_request(id, &argv, &stdin, Format::Data);
        prop_assert_eq!(line.matches('\n').count(), 1, "one line");
        let got = decode_request(line.trim_end_matches('\n').as_bytes()).expect("we wrote it");
        let framing = Framing::Json { id };
        prop_assert_eq!(got, Request { framing, argv, stdin, format: Format::Data });
    }

    #[test]
    fn long_texts_are_cut_between_characters(piece in "[a-zäöü€]{1,40}", times in 1usize..40_000) {
        let (stdout, stderr) = (piece.repeat(times), piece);
        let reply = Reply { stdout, stderr, exit: 2, line: Some(7), ..Reply::default() };
        let lines = encode_reply(Framing::Json { id: 7 }, reply.clone());
        prop_assert_eq!(put_together(&lines), reply);
    }
}
