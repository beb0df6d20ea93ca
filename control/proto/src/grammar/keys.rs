//! What the command line can set of a service or a real server, the file can hold, and the other
//! way round: one row for each, and a check that none is missing.

use std::collections::BTreeSet;

use config::model::Service;

use super::*;
use crate::names::Numeric;

/// Options of `-A`, and the keys that mean the same.
#[rustfmt::skip]
const SERVICE: &[(&str, &str)] = &[
    ("-s wrr",                                    "scheduler = \"wrr\""),
    ("-s mh -b mh-port,mh-fallback",              "scheduler = \"mh\"\nflags = [\"mh-port\", \"mh-fallback\"]"),
    ("-p 50",                                     "persistence = 50"),
    ("-p 50 -M 255.255.255.0",                    "persistence = 50\npersistence_mask = \"255.255.255.0\""),
    ("-p 50 --pe sip",                            "persistence = 50\npersistence_engine = \"sip\""),
    ("-o",                                        "one_packet = true"),
    ("-j enable",                                 "synproxy = true"),
    ("--conn-timeout 90",                         "connection_timeout = 90"),
    ("--proxy-protocol v1",                       "client_address = \"proxy-v1\""),
    ("--proxy-protocol v2",                       "client_address = \"proxy-v2\""),
    ("--proxy-protocol v1-insecure",              "client_address = \"proxy-v1-insecure\""),
    ("--proxy-protocol v2-insecure",              "client_address = \"proxy-v2-insecure\""),
    ("--client-address toa",                      "client_address = \"toa\""),
    ("--proxy-protocol disable",                  "client_address = \"none\""),
    ("--expire-quiescent",                        "expire_quiescent = true"),
    ("--mss-clamp",                               "mss_clamp = true"),
];

/// Options of `-a`, and the keys that mean the same.
#[rustfmt::skip]
const REAL: &[(&str, &str)] = &[
    ("-g",                                        "mode = \"dr\""),
    ("-m",                                        "mode = \"nat\""),
    ("-b",                                        "mode = \"fullnat\""),
    ("-i",                                        "mode = \"tun\""),
    ("-i --tun-type ipip",                        "mode = \"tun\"\ntunnel = { type = \"ipip\" }"),
    ("-i --tun-type gue --tun-port 9 --tun-remcsum", "mode = \"tun\"\ntunnel = { type = \"gue\", port = 9, checksum = \"remcsum\" }"),
    ("-i --tun-type gue --tun-port 9 --tun-nocsum", "mode = \"tun\"\ntunnel = { type = \"gue\", port = 9, checksum = \"none\" }"),
    ("-i --tun-type gre --tun-csum",              "mode = \"tun\"\ntunnel = { type = \"gre\", checksum = \"csum\" }"),
    ("-w 7",                                      "weight = 7"),
    ("-x 9 -y 4",                                 "upper = 9\nlower = 4"),
];

/// Keys of a service that have commands of their own, with those.
const COMMANDS_OF_KEYS: &[(&str, Verb, Verb)] = &[
    ("local_addresses", Verb::AddLocal, Verb::DeleteLocal),
    ("block", Verb::AddBlock, Verb::DeleteBlock),
    ("allow", Verb::AddAllow, Verb::DeleteAllow),
    ("real", Verb::AddReal, Verb::DeleteReal),
];

/// keepalived's words, which neither ipvsadm nor DPVS has an option for; the file and a reload
/// set them.
const OF_THE_FILE: &[&str] = &["sorry_server", "sorry_server_mode", "sorry_server_inhibit"];

fn call(line: &str) -> Command {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    ipvsadm("ipvsadm", &words, &Numeric).expect(line)
}

fn file(service: &str, real: &str) -> Service {
    let text = format!(
        "version = 1\n[[port]]\nname = \"lan\"\naddresses = [\"10.1.0.2/24\"]\n[[service]]\n\
         listen = \"udp 10.0.0.1:53\"\nlocal_addresses = [\"10.1.0.250\"]\n{service}\n\
         [[service.real]]\naddress = \"10.1.0.9\"\n{real}\n"
    );
    let loaded = config::toml::read(&text, "lb.toml");
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    loaded.config.services.into_iter().next().expect("one")
}

#[test]
fn an_option_and_a_key_mean_the_same() {
    for (options, keys) in SERVICE {
        let Command::AddService(called) = call(&format!("-A -u 10.0.0.1:53 {options}")) else {
            unreachable!("-A adds a service")
        };
        let written = Service {
            reals: Vec::new(),
            local_addresses: Vec::new(),
            ..file(keys, "")
        };
        assert_eq!(called, written, "{options}");
    }
    for (options, keys) in REAL {
        let Command::AddReal { real, .. } =
            call(&format!("-a -u 10.0.0.1:53 -r 10.1.0.9 {options}"))
        else {
            unreachable!("-a adds a real server")
        };
        assert_eq!([real], file("", keys).reals[..], "{options}");
    }
}

/// The keys of a table, as the message about a wrong one lists them.
fn keys_of(text: &str) -> BTreeSet<String> {
    let errors = config::toml::read(text, "lb.toml").expect_err("nonsense is no key");
    let text = errors.to_string();
    let line = text.lines().find(|line| line.contains("\"nonsense\""));
    let (_, list) = line.expect(&text).split_once("allowed: ").expect(&text);
    list.split(", ").map(str::to_owned).collect()
}

fn written(rows: &[(&str, &str)]) -> BTreeSet<String> {
    let lines = rows.iter().flat_map(|(_, keys)| keys.lines());
    let keys = lines.filter_map(|line| line.split_once(" = "));
    keys.map(|(key, _)| key.to_owned()).collect()
}

#[test]
fn every_key_has_an_option() {
    let head = "version = 1\n[[service]]\nlisten = \"udp 10.0.0.1:53\"\n";
    let keys = keys_of(&format!("{head}nonsense = 1\n"));
    let mut known = written(SERVICE);
    known.insert("listen".to_owned());
    known.extend(OF_THE_FILE.iter().map(|&key| key.to_owned()));
    for &(key, add, delete) in COMMANDS_OF_KEYS {
        assert!(COMMANDS.iter().any(|row| row.verb == add), "{key}");
        assert!(COMMANDS.iter().any(|row| row.verb == delete), "{key}");
        known.insert(key.to_owned());
    }
    assert_eq!(keys, known, "of a service");
    let keys = keys_of(&format!(
        "{head}[[service.real]]\naddress = \"10.1.0.9\"\nnonsense = 1\n"
    ));
    let mut known = written(REAL);
    known.insert("address".to_owned());
    assert_eq!(keys, known, "of a real server");
}

#[test]
fn every_option_has_a_key() {
    for (verb, rows) in [(Verb::AddService, SERVICE), (Verb::AddReal, REAL)] {
        let command = COMMANDS.iter().find(|row| row.verb == verb);
        let used: BTreeSet<Group> = rows
            .iter()
            .flat_map(|(options, _)| options.split_whitespace())
            .filter_map(|word| option(verb, word)?.group)
            .collect();
        for group in command.expect("in the table").allowed {
            assert!(used.contains(group), "no key for --{}", group.name());
        }
    }
}

/// The option that a word names.
fn option(verb: Verb, word: &str) -> Option<&'static OptionRow> {
    let spelling = match word.strip_prefix("--") {
        Some(long) => Spelling::Long(long),
        None => Spelling::Short(word.strip_prefix('-')?.chars().next()?),
    };
    match look_up(verb, spelling)?.0 {
        Any::Option(row) => Some(row),
        Any::Command => None,
    }
}
