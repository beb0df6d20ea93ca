//! Every scheduler while an operator adds, edits, quiesces and removes real servers: who gets
//! the next new connection. Real servers are letters, a is 10.1.0.1; `-` is nobody.
//!
//! The words are those of reference B.16 where it has them, and follow from the rules of B.2
//! where it doesn't; with one worker the kernel's, to the letter.

mod common;

use std::net::Ipv4Addr;

use common::{Bench, MS, SECOND, rx};
use wire::build::{ip, tcp};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The clients, and for `dh` the destinations, of reference B.16.
const PEOPLE: [Ipv4Addr; 8] = [
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv4Addr::new(192, 0, 2, 3),
    Ipv4Addr::new(192, 0, 2, 4),
    Ipv4Addr::new(198, 51, 100, 7),
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv4Addr::new(172, 16, 5, 5),
    Ipv4Addr::new(10, 99, 1, 2),
];
/// Addresses that no client and no real server has.
const PORTS: &str = r#"
version = 1
[dataplane]
connections = 4096
connections_v6 = 64
[[port]]
name = "wan"
addresses = ["198.18.0.2/24"]
[[port]]
name = "lan"
addresses = ["10.1.0.254/24"]
[[route]]
to = "0.0.0.0/0"
via = "198.18.0.1"
[[mark]]
mark = 1
to = "0.0.0.0/0"
"#;

/// Commands, in short, and who gets the connections behind them.
type Phase = (&'static str, &'static str);

/// `+c3` adds c with weight 3, `=b0` edits b, `-b` removes it; all else is the rest of an `-E`.
fn command(word: &str) -> String {
    let (verb, rest) = word.split_at(1);
    let (letter, weight) = rest.split_at(1);
    let real = || letter.as_bytes()[0] - b'a' + 1;
    match verb {
        "+" => format!("-a -f 1 -r 10.1.0.{}:80 -g -w {weight}", real()),
        "=" => format!("-e -f 1 -r 10.1.0.{}:80 -g -w {weight}", real()),
        "-" => format!("-d -f 1 -r 10.1.0.{}:80", real()),
        _ => format!("-E -f 1 -s {}", word.replace('/', " -b ")),
    }
}

/// The words of a scheduler's phases. Phase n begins at second n; each connection is a new one.
fn words(scheduler: &str, phases: &[Phase]) -> Vec<String> {
    let (name, flags) = scheduler.split_once('/').unwrap_or((scheduler, ""));
    let flags = match flags {
        "" => String::new(),
        flag => format!("flags = [\"{flag}\"]\n"),
    };
    let service = format!("[[service]]\nlisten = \"fwm 1\"\nscheduler = \"{name}\"\n{flags}");
    let mut bench = Bench::new(&(PORTS.to_owned() + &service));
    let (mut script, mut frames) = (String::new(), Vec::new());
    for (second, (commands, picks)) in (1u16..).zip(phases) {
        for word in commands.split_whitespace() {
            script += &format!("{second} {}\n", command(word));
        }
        for (n, person) in (0u16..).zip(PEOPLE.iter().cycle()).take(picks.len()) {
            let (from, to) = match name {
                "dh" => (Ipv4Addr::new(172, 31, 0, 1), *person),
                _ => (*person, VIP),
            };
            let syn = ip(from, to).with(tcp(1024 + second * 100 + n, 80).syn());
            let at = u64::from(second) * SECOND + u64::from(n + 1) * MS;
            frames.push((at, rx(&syn)));
        }
    }
    bench.commands(&script).input("wan", &frames);
    let outcome = bench.run();
    assert_eq!(outcome.error, None);
    let mistakes = outcome
        .lines()
        .into_iter()
        .filter(|line| line["exit"].as_u64() > Some(0));
    assert_eq!(mistakes.collect::<Vec<_>>(), [] as [serde_json::Value; 0]);
    let letters: String = outcome.field("real").iter().map(letter).collect();
    let mut rest = letters.as_str();
    let cut = phases.iter().map(|(_, picks)| {
        let (word, behind) = rest.split_at(picks.len());
        rest = behind;
        word.to_owned()
    });
    cut.collect()
}

fn letter(real: &serde_json::Value) -> char {
    let Some(real) = real.as_str() else {
        return '-';
    };
    let last = real.trim_start_matches("10.1.0.").trim_end_matches(":80");
    char::from(b'a' - 1 + last.parse::<u8>().expect("a real server's"))
}

#[test]
fn who_is_next_while_real_servers_come_and_go() {
    #[rustfmt::skip]
    let cases: [(&str, &[Phase]); 15] = [
        // B20d; the place of one that is removed falls to its predecessor.
        ("rr",  &[("+a1 +b1", "bab"), ("+c1", "acbacb"), ("=b0", "aca"), ("=b1", "cba"), ("-a", "cbcb")]),
        // B20c
        ("wrr", &[("+a4 +b3 +c2", "abacb"), ("=b0", "acaacaacaaca"), ("=b3", "cbaabacbacba"), ("-a -b", "ccc")]),
        // One that comes back has its connections again: 3, and a has 5.
        ("lc",  &[("+a1 +b2 +c3", "cba"), ("=b0", "caca"), ("-c", "aa"), ("+c1", "ccca")]),
        ("wlc", &[("+a1 +b2 +c3", "cbacbc"), ("=b0", "caccca")]),
        // 2/6, 3/6, ... 7/6 are below 4/3 of c, 8/6 is not.
        ("sed", &[("+a1 +b2 +c3", "cbccba"), ("=a6", "aaaaaac")]),
        ("nq",  &[("+a1 +b2 +c3", "cba"), ("+d1", "dc")]),
        ("fo",  &[("+a1 +b2 +c3", "ccc"), ("=c0", "bb"), ("-b", "a"), ("=c1 =a2", "aa"), ("-a", "c")]),
        ("ovf", &[("+a1 +b2 +c3", "ccccb"), ("-b", "aa-"), ("+d1", "dd-")]),
        // B18, B20b; a refilled table of two.
        ("sh",  &[("+a1 +b2 +c1", "bcbcacaa"), ("=b0", "a-c-c--c"), ("=b2", "bcbcacaa"), ("-b", "ccccacaa")]),
        ("sh/sh-fallback", &[("+a1 +b2 +c1", "bcbcacaa"), ("=b0", "aacacaac")]),
        // B21: not refilled by an edit.
        ("dh",  &[("+a1 +b2 +c1", "abcbcbbc"), ("=b0", "a-c-c--c"), ("=b1", "abcbcbbc"), ("-b", "ccccacaa")]),
        // B22, B24: the table goes by the last weight above 0.
        ("mh",  &[("+a1 +b2 +c1", "abcbbbba"), ("=b0", "a-c----a"), ("mh/mh-fallback", "aaccacaa"), ("=b2", "abcbbbba")]),
        // All ask for one address.
        ("lblc",  &[("+a9 +b9 +c9", "ccc"), ("=c0", "bbb"), ("-b", "aa"), ("=c9", "aa")]),
        ("lblcr", &[("+a9 +b9 +c9", "ccc"), ("=c0", "bbb"), ("-b", "aa")]),
        // Another scheduler begins at the head.
        ("rr",  &[("+a1 +b2 +c3", "cb"), ("fo", "cc"), ("rr", "cba")]),
    ];
    for (scheduler, phases) in cases {
        let want: Vec<_> = phases.iter().map(|(_, picks)| *picks).collect();
        assert_eq!(words(scheduler, phases), want, "{scheduler}");
    }
}

#[test]
fn twos_draws_among_those_that_are_there() {
    let many = "abcdefghijabcdefghijabcdefghij";
    let phases = [
        ("+a1 +b1 +c1", many),
        ("=b0", many),
        ("-a", many),
        ("=c0", many),
    ];
    let drawn = words("twos", &phases);
    let only = |word: &str, letters: &str| word.chars().all(|letter| letters.contains(letter));
    assert!(
        only(&drawn[0], "abc") && drawn[0].contains('b'),
        "{drawn:?}"
    );
    assert!(only(&drawn[1], "ac"), "{drawn:?}");
    assert!(only(&drawn[2], "c") && only(&drawn[3], "-"), "{drawn:?}");
}
