//! What a reload does, row by row: the file before, what commands did, the file now; what the
//! report says, and what runs then.

use std::collections::BTreeSet;

use config::toml;
use control::client::Peer;
use control::engine::Engine;
use control::topology::Topology;
use dataplane::published::Reader;
use dataplane::services::Snapshot;
use proto::message::{Format, Framing, Reply, Request};

const ROOT: Peer = Peer { uid: 0, pid: 1 };

/// An engine with no ports, and one worker that is nothing but its reader.
struct Daemon {
    engine: Engine,
    reader: Reader<Snapshot>,
}

impl Daemon {
    fn with(file: &str) -> Self {
        let loaded = toml::read(file, "lb.toml").expect("a good file");
        let topology = Topology::new(Vec::new(), &loaded.config);
        let made = Engine::new(&loaded.config, topology, 1, ROOT.uid);
        let (engine, mut readers) = made.expect("what commands would take, too");
        let reader = readers.pop().expect("one for each worker");
        Self { engine, reader }
    }

    fn ask(&mut self, argv: &[&str], stdin: &str) -> Reply {
        let request = Request {
            framing: Framing::Json { id: 1 },
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            stdin: stdin.to_owned(),
            format: Format::Text,
        };
        let answer = self.engine.handle(&ROOT, request, 0, |_, _| String::new());
        answer.reply
    }

    fn run(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let reply = self.ask(&words, "");
        assert_eq!((reply.stderr.as_str(), reply.exit), ("", 0), "{line}");
    }

    fn saved(&mut self) -> String {
        self.ask(&["-S", "-n"], "").stdout
    }

    fn generation(&mut self) -> u64 {
        self.reader.edition().1
    }
}

fn file(rest: &str) -> String {
    format!("version = 1\n{rest}")
}

/// A web service with these real servers and weights.
fn web(scheduler: &str, reals: &[(u8, u32)]) -> String {
    let mut text =
        format!("[[service]]\nlisten = \"tcp 10.0.0.1:80\"\nscheduler = \"{scheduler}\"\n");
    for (last, weight) in reals {
        text += &format!("[[service.real]]\naddress = \"10.1.0.{last}\"\nweight = {weight}\n");
    }
    text
}

const DNS: &str = "[[service]]\nlisten = \"udp 10.0.0.1:53\"\nscheduler = \"rr\"\n";
const DRAIN: &str = "-e -t 10.0.0.1:80 -r 10.1.0.1 -w 0";

/// One row: what happened, and what comes of it.
struct Row {
    name: &'static str,
    before: String,
    commands: &'static [&'static str],
    after: String,
    take_file: bool,
    report: &'static [&'static str],
    saved: &'static [&'static str],
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let one = || web("rr", &[(1, 1)]);
    vec![
        Row { name: "nothing changed",
            before: one(), commands: &[], after: one(), take_file: false,
            report: &["lb.toml: 0 changed"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 1"] },
        Row { name: "the file changed",
            before: one() + DNS, commands: &[], after: web("wlc", &[(1, 5), (2, 1)]), take_file: false,
            report: &["~ service tcp 10.0.0.1:80: scheduler rr -> wlc",
                      "~ real 10.1.0.1:80 of tcp 10.0.0.1:80: weight 1 -> 5",
                      "+ real 10.1.0.2:80 of tcp 10.0.0.1:80",
                      "- service udp 10.0.0.1:53",
                      "lb.toml: 4 changed"],
            saved: &["-A -t 10.0.0.1:80 -s wlc", "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 5",
                     "-a -t 10.0.0.1:80 -r 10.1.0.2:80 -g -w 1"] },
        Row { name: "what commands made stays",
            before: one(), commands: &["-A -u 10.0.0.9:53", "-a -t 10.0.0.1:80 -r 10.1.0.7"], after: one() + DNS, take_file: false,
            report: &["! real 10.1.0.7:80 of tcp 10.0.0.1:80: a command added it",
                      "+ service udp 10.0.0.1:53",
                      "! service udp 10.0.0.9:53: a command added it",
                      "lb.toml: 1 changed, 2 left as commands made it"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 1", "-a -t 10.0.0.1:80 -r 10.1.0.7:80 -g -w 1",
                     "-A -u 10.0.0.1:53 -s rr", "-A -u 10.0.0.9:53 -s wlc"] },
        Row { name: "a drained server stays drained, whatever the file says of its weight",
            before: one(), commands: &[DRAIN], after: web("rr", &[(1, 3)]), take_file: false,
            report: &["! real 10.1.0.1:80 of tcp 10.0.0.1:80: weight 0 -> 3: a command changed it",
                      "lb.toml: 0 changed, 1 left as commands made it"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 0"] },
        Row { name: "drained, then taken out of the file",
            before: web("rr", &[(1, 1), (2, 1)]), commands: &[DRAIN], after: web("rr", &[(2, 1)]), take_file: false,
            report: &["- real 10.1.0.1:80 of tcp 10.0.0.1:80", "lb.toml: 1 changed"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.2:80 -g -w 1"] },
        Row { name: "what commands removed stays away",
            before: web("rr", &[(1, 1), (2, 1)]) + DNS, commands: &["-d -t 10.0.0.1:80 -r 10.1.0.1", "-D -u 10.0.0.1:53"],
            after: web("rr", &[(1, 9), (2, 2)]) + DNS, take_file: false,
            report: &["~ real 10.1.0.2:80 of tcp 10.0.0.1:80: weight 1 -> 2",
                      "! real 10.1.0.1:80 of tcp 10.0.0.1:80: a command removed it",
                      "! service udp 10.0.0.1:53: a command removed it",
                      "lb.toml: 1 changed, 2 left as commands made it"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.2:80 -g -w 2"] },
        Row { name: "the file takes away a service of which commands made a part",
            before: one(), commands: &["-a -t 10.0.0.1:80 -r 10.1.0.7"], after: String::new(), take_file: false,
            report: &["! service tcp 10.0.0.1:80: a command added it", "- real 10.1.0.1:80 of tcp 10.0.0.1:80",
                      "lb.toml: 1 changed, 1 left as commands made it"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.7:80 -g -w 1"] },
        Row { name: "the file names what a command made already",
            before: String::new(), commands: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1 -w 4"], after: one(), take_file: false,
            report: &["! real 10.1.0.1:80 of tcp 10.0.0.1:80: weight 4 -> 1: a command changed it",
                      "lb.toml: 0 changed, 1 left as commands made it"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 4"] },
        Row { name: "--take-file: the file wins everywhere",
            before: web("rr", &[(1, 1), (2, 1)]),
            commands: &[DRAIN, "-E -t 10.0.0.1:80 -s wlc -p 60", "-d -t 10.0.0.1:80 -r 10.1.0.2", "-A -u 10.0.0.9:53", "--set 7 0 0"],
            after: web("rr", &[(1, 1), (2, 1)]), take_file: true,
            report: &["~ timeouts: tcp 7 -> 900",
                      "~ service tcp 10.0.0.1:80: scheduler wlc -> rr",
                      "~ service tcp 10.0.0.1:80: persistence 60 s -> none",
                      "~ real 10.1.0.1:80 of tcp 10.0.0.1:80: weight 0 -> 1",
                      "+ real 10.1.0.2:80 of tcp 10.0.0.1:80",
                      "- service udp 10.0.0.9:53",
                      "lb.toml: 6 changed"],
            saved: &["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 1", "-a -t 10.0.0.1:80 -r 10.1.0.2:80 -g -w 1"] },
        Row { name: "VIPs, marks, timeouts and tunables",
            before: "[[vip]]\naddress = \"10.0.0.1\"\nheld = \"never\"\n[timeouts]\ntcp = 100\nudp = 50\n".to_owned(),
            commands: &["--set 0 0 60"],
            after: "[[vip]]\naddress = \"10.0.0.1\"\n[[vip]]\naddress = \"10.0.0.2\"\n[[mark]]\nmark = 1\nto = \"10.0.0.0/24\"\n\
                    [timeouts]\ntcp = 200\nudp = 70\n[sysctl]\nsloppy_tcp = 1\n".to_owned(), take_file: false,
            report: &["~ vip 10.0.0.1: held never -> always", "+ vip 10.0.0.2", "~ mark: rules 0 -> 1",
                      "~ timeouts: tcp 100 -> 200", "! timeouts: udp 60 -> 70: a command changed it",
                      "~ sysctl sloppy_tcp: value 0 -> 1",
                      "lb.toml: 5 changed, 1 left as commands made it"],
            saved: &[] },
    ]
}

#[test]
fn every_row() {
    for row in rows() {
        let mut daemon = Daemon::with(&file(&row.before));
        row.commands.iter().for_each(|line| daemon.run(line));
        let (after, before) = (file(&row.after), daemon.saved());
        let mut words = vec!["reload", "--dry-run", "lb.toml"];
        words.extend(row.take_file.then_some("--take-file"));
        let dry = daemon.ask(&words, &after);
        assert_eq!(
            daemon.saved(),
            before,
            "{}: a dry run changes nothing",
            row.name
        );
        words.remove(1);
        let reply = daemon.ask(&words, &after);
        assert_eq!((reply.stderr.as_str(), reply.exit), ("", 0), "{}", row.name);
        let lines: Vec<_> = reply.stdout.lines().collect();
        assert_eq!(lines, row.report, "{}", row.name);
        let would: Vec<_> = dry.stdout.lines().collect();
        assert_eq!(
            would[..would.len() - 1],
            lines[..lines.len() - 1],
            "{}",
            row.name
        );
        let saved = daemon.saved();
        assert_eq!(saved.lines().collect::<Vec<_>>(), row.saved, "{}", row.name);
        // A second time there is nothing to do but what commands made.
        let again = daemon.ask(&words, &after).stdout;
        let kept = row
            .report
            .iter()
            .filter(|line| line.starts_with('!'))
            .count();
        assert_eq!(again.lines().count(), 1 + kept, "{}: {again}", row.name);
        assert_eq!(
            daemon.ask(&["diff", "lb.toml"], &after).exit,
            u8::from(kept > 0)
        );
    }
}

#[test]
fn what_did_not_change_is_not_touched() {
    let two = |weight| file(&(web("rr", &[(1, 1), (2, weight)]) + DNS));
    let mut daemon = Daemon::with(&two(1));
    let revisions = |daemon: &mut Daemon| -> Vec<u64> {
        let services = daemon.reader.refresh().services.iter();
        services.map(|(_, service)| service.revision).collect()
    };
    let slots = |daemon: &mut Daemon| -> BTreeSet<u32> {
        daemon
            .reader
            .refresh()
            .reals
            .iter()
            .map(|(slot, _)| slot)
            .collect()
    };
    let before = (
        daemon.generation(),
        revisions(&mut daemon),
        slots(&mut daemon),
    );
    assert_eq!(daemon.ask(&["reload", "f"], &two(1)).exit, 0);
    let after = (
        daemon.generation(),
        revisions(&mut daemon),
        slots(&mut daemon),
    );
    assert_eq!(before, after, "not even a publish");
    assert_eq!(daemon.ask(&["reload", "f"], &two(2)).exit, 0);
    assert_eq!(daemon.generation(), before.0 + 1, "one publish");
    assert_eq!(
        slots(&mut daemon),
        before.2,
        "a connection keeps its real server"
    );
    let changed = revisions(&mut daemon);
    let same = changed
        .iter()
        .filter(|revision| before.1.contains(revision));
    assert_eq!(
        same.count(),
        1,
        "the other service's scheduler goes on where it was"
    );
}

#[test]
fn what_needs_a_restart_is_named_and_nothing_is_changed() {
    let before =
        "[dataplane]\nworkers = [1]\n[[port]]\nname = \"wan\"\naddresses = [\"192.0.2.2/24\"]\n";
    let after = "[dataplane]\nworkers = [1, 2]\nconnections = 5\n[control]\nsocket = \"/s\"\n\
                 [[port]]\nname = \"wan\"\nmtu = 9000\naddresses = [\"192.0.2.2/24\"]\n";
    let mut daemon = Daemon::with(&file(before));
    let service = "[[service]]\nlisten = \"tcp 192.0.2.10:80\"\n";
    let reply = daemon.ask(&["reload", "lb.toml"], &file(&format!("{after}{service}")));
    let want = "lb.toml: [dataplane] workers: [1] -> [1, 2]: needs a restart\n\
                lb.toml: [dataplane] connections: 1000000 -> 5: needs a restart\n\
                lb.toml: [dataplane] connections_v6: 250000 -> 1: needs a restart\n\
                lb.toml: [control] socket: /run/sluice/sluice.sock -> /s: needs a restart\n\
                lb.toml: [[port]] wan mtu: 1500 -> 9000: needs a restart\n\
                nothing was changed\n";
    assert_eq!((reply.stderr.as_str(), reply.exit), (want, 255));
    assert_eq!(daemon.saved(), "");
}

#[test]
fn a_vlan_needs_a_restart_too() {
    let with = |id: &str| {
        let ports = "[[port]]\nname = \"wan.10\"\nparent = \"wan\"\nvlan = 10\n\
                     [[port]]\nname = \"wan\"\n";
        file(&ports.replace("vlan = 10", &format!("vlan = {id}")))
    };
    let mut daemon = Daemon::with(&with("10"));
    let reply = daemon.ask(&["reload", "lb.toml"], &with("11"));
    let want = "lb.toml: [[port]] wan.10 vlan: 10 of wan -> 11 of wan: needs a restart\n\
                nothing was changed\n";
    assert_eq!((reply.stderr.as_str(), reply.exit), (want, 255));
}

#[test]
fn a_bad_file_changes_nothing() {
    let mut daemon = Daemon::with(&file(&web("rr", &[(1, 1)])));
    let before = daemon.saved();
    let cases = [
        ("version = 1\n[dataplan]\n", "lb.toml:2: unknown key"),
        (
            "version = 1\n[[service]]\nlisten = \"tcp 10.0.0.1:80\"\nsynproxy = true\n",
            "lb.toml:4: synproxy: not built yet",
        ),
        ("", "lb.toml: the file needs the key version"),
    ];
    for (text, want) in cases {
        let reply = daemon.ask(&["reload", "lb.toml"], text);
        assert!(reply.stderr.starts_with(want), "{}", reply.stderr);
        assert!(reply.stderr.ends_with("nothing was changed\n"));
        assert_eq!(reply.exit, 255);
        assert_eq!(daemon.saved(), before);
    }
    let nameless = daemon.ask(&["reload"], "");
    assert_eq!(nameless.exit, 2, "{}", nameless.stderr);
}

#[test]
fn what_is_saved_loads_and_lists_the_same() {
    let mut daemon = Daemon::with(&file(&web("wrr", &[(1, 3)])));
    for line in [
        "-A -t 10.0.0.2:443 -s sh -b sh-port,sh-fallback -p 300 -M 255.255.255.0",
        "-a -t 10.0.0.2:443 -r 10.1.0.2:8443 -m -w 7 -x 100 -y 50",
        "-A -t [2001:db8::1]:80 -s mh",
        "-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -i",
        "-A -f 7 -s lc",
        "-a -f 7 -r 10.1.0.3",
        "-A -u 10.0.0.2:53 -o",
        "-A -t 10.0.0.3:80",
        "-P -t 10.0.0.3:80 -z 10.1.0.250 -F lo",
        "-a -t 10.0.0.3:80 -r 10.1.0.4:8080 -b",
        "--set 700 0 0",
        "sysctl expire_nodest_conn=1",
    ] {
        daemon.run(line);
    }
    let text = daemon.ask(&["save"], "").stdout;
    let mut other = Daemon::with(&text);
    assert_eq!(other.saved(), daemon.saved());
    assert_eq!(other.ask(&["save"], "").stdout, text);
    let thresholds = |daemon: &mut Daemon| daemon.ask(&["-Ln", "--thresholds"], "").stdout;
    assert_eq!(thresholds(&mut other), thresholds(&mut daemon));
    let diff = daemon.ask(&["diff", "saved.toml"], &text);
    assert_eq!(
        (diff.stdout.as_str(), diff.exit),
        ("saved.toml: 0 to reload\n", 0)
    );
    let json = daemon.ask(&["save", "--json"], "").stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["services"].as_array().map(Vec::len), Some(6));
}

#[test]
fn json_says_the_same() {
    let mut daemon = Daemon::with(&file(&web("rr", &[(1, 1)])));
    daemon.run(DRAIN);
    let after = file(&web("rr", &[(1, 2), (2, 1)]));
    let reply = daemon.ask(&["reload", "--json", "lb.toml"], &after);
    let json: serde_json::Value = serde_json::from_str(&reply.stdout).expect("JSON");
    let want = serde_json::json!({
    "way": "reload", "file": "lb.toml", "applied": true, "restart": [], "warnings": [],
    "differences": [
        {"action": "change", "object": "real", "name": "10.1.0.1:80", "service": "tcp 10.0.0.1:80",
         "key": "weight", "running": "0", "file": "2", "drift": true},
        {"action": "add", "object": "real", "name": "10.1.0.2:80", "service": "tcp 10.0.0.1:80", "drift": false},
    ]});
    assert_eq!(json, want);
    let restart = file("[dataplane]\nworkers = [3]\n");
    let reply = daemon.ask(&["reload", "--json", "lb.toml"], &restart);
    let json: serde_json::Value = serde_json::from_str(&reply.stdout).expect("JSON");
    assert_eq!((&json["applied"], reply.exit), (&false.into(), 255));
    assert_eq!(json["restart"][0]["key"], "[dataplane] workers");
}

#[test]
fn an_atomic_restore_is_all_or_nothing() {
    let mut daemon = Daemon::with(&file(&web("rr", &[(1, 1)])));
    let before = daemon.saved();
    let cases = [
        (
            "-C\n# new\n-A -t 10.0.0.5:80\n-A -t 10.0.0.5:80\n",
            "line 4: Service already exists; nothing was changed\n",
            255,
        ),
        (
            "--set 5 5 5\n-D -t 10.0.0.1:80\n-A -t x\n",
            "line 3: illegal virtual server address[:port] specified; nothing was changed\n",
            2,
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.2\n-R\n",
            "line 2: -R: not allowed inside a restore; nothing was changed\n",
            255,
        ),
    ];
    for (lines, want, exit) in cases {
        let generation = daemon.generation();
        let reply = daemon.ask(&["-R", "--atomic"], lines);
        assert_eq!((reply.stderr.as_str(), reply.exit), (want, exit));
        let line = reply.line.map(|line| format!("line {line}: "));
        assert!(want.starts_with(&line.expect("it has one")), "{want}");
        assert_eq!(daemon.saved(), before, "{lines}");
        assert_eq!(daemon.generation(), generation, "nothing is published");
        let timeouts = daemon.ask(&["-L", "--timeout"], "").stdout;
        assert!(timeouts.contains("900 120 300"), "{timeouts}");
    }
    let good = daemon.ask(&["-R", "--atomic"], "-C\n-A -t 10.0.0.5:80\n");
    assert_eq!((good.stderr.as_str(), good.exit), ("", 0));
    assert_eq!(daemon.saved(), "-A -t 10.0.0.5:80 -s wlc\n");
}
