//! What a replay promises: the same bytes for the same packets, in whatever way they come.

mod common;

use common::{
    Bench, CLIENT, LAN_MAC, MS, Outcome, PORTS, SECOND, VIP, WAN_MAC, real_mac, rx, service,
};
use replay::Arrive;
use wire::build::{Packet, echo_request, ip, tcp, udp};

fn syn(port: u16) -> Packet {
    ip(CLIENT, VIP).with(tcp(port, 80).syn())
}

fn ack(port: u16) -> Packet {
    ip(CLIENT, VIP).with(tcp(port, 80).ack())
}

fn web() -> String {
    PORTS.to_owned() + &service("tcp 192.0.2.10:80", "rr", 2)
}

#[test]
fn every_packet_has_its_line_and_every_frame_its_place() {
    let mut bench = Bench::new(&web());
    let padded = [rx(&ack(40000)), vec![0; 6]].concat();
    bench.input(
        "wan",
        &[
            (MS, rx(&syn(40000))),
            (2 * MS, padded),
            (2 * MS + 1, rx(&ack(40001))),
            (3 * MS, rx(&ip(CLIENT, VIP).with(udp(1, 53)))),
            (4 * MS, rx(&ip(CLIENT, VIP).with(echo_request(1, 1)))),
            (5 * MS, rx(&syn(40002).ttl(1))),
            (6 * MS, vec![0; 10]),
        ],
    );
    let outcome = bench.run();
    let want = r#"{"n":0,"t":0.001,"in":"wan","verdict":"transmit","reason":null,"out":"lan","frames":[{"out":"lan","bytes":54}],"service":"tcp 192.0.2.10:80","real":"10.1.0.12:80","mode":"dr","direction":"in","worker":0,"new":true}
{"n":1,"t":0.002,"in":"wan","verdict":"transmit","reason":null,"out":"lan","frames":[{"out":"lan","bytes":54}],"service":"tcp 192.0.2.10:80","real":"10.1.0.12:80","mode":"dr","direction":"in","worker":0,"new":false}
{"n":2,"t":0.002000001,"in":"wan","verdict":"drop","reason":"drop-no-connection","out":null,"frames":[],"service":"tcp 192.0.2.10:80","real":null,"mode":null,"direction":"in","worker":0,"new":false}
{"n":3,"t":0.003,"in":"wan","verdict":"drop","reason":"drop-no-service","out":null,"frames":[],"service":null,"real":null,"mode":null,"direction":null,"worker":0,"new":false}
{"n":4,"t":0.004,"in":"wan","verdict":"transmit","reason":null,"out":"wan","frames":[{"out":"wan","bytes":42}],"service":null,"real":null,"mode":null,"direction":null,"worker":0,"new":false}
{"n":5,"t":0.005,"in":"wan","verdict":"drop","reason":"drop-ttl-exceeded","out":null,"frames":[{"out":"wan","bytes":82}],"service":"tcp 192.0.2.10:80","real":"10.1.0.11:80","mode":"dr","direction":"in","worker":0,"new":true}
{"n":6,"t":0.006,"in":"wan","verdict":"drop","reason":"drop-short-frame","out":null,"frames":[],"service":null,"real":null,"mode":null,"direction":null,"worker":0,"new":false}
"#;
    let (packets, totals) = outcome.stdout.split_at(want.len());
    assert_eq!(packets, want);
    assert!(totals.starts_with(r#"{"totals":{"rx":7,"#), "{totals}");
    for (name, count) in [("transmit", 3), ("drop-no-connection", 1), ("made-sent", 1)] {
        assert_eq!(outcome.total(name), count, "{name}");
    }
    let forwarded = |packet: Packet| packet.ttl(63).ether(LAN_MAC, real_mac(12)).bytes();
    let lan = [(MS, forwarded(syn(40000))), (2 * MS, forwarded(ack(40000)))];
    assert_eq!(outcome.lan, lan);
    let (times, sources): (Vec<_>, Vec<_>) = outcome
        .wan
        .iter()
        .map(|(at, bytes)| (*at, bytes[6..12].to_vec()))
        .unzip();
    assert_eq!(times, [4 * MS, 5 * MS]);
    assert!(sources.iter().all(|mac| mac[..] == WAN_MAC.0));
    assert_eq!((outcome.stderr, outcome.error), (String::new(), None));
}

#[test]
fn at_one_time_timers_fire_then_commands_come_then_packets() {
    let mut bench = Bench::new(PORTS);
    bench.commands(
        "# a director made by hand\n\
         0 -A -t 192.0.2.10:80 -s rr\n\
         1 -a -t 192.0.2.10:80 -r 10.1.0.11 -g\n\
         1 -a -t 192.0.2.10:80 -r 10.1.0.11 -g\n\
         1 -Lnc\n\
         61 -Lnc # half open for 60 s\n\
         60061 -Ln\n",
    );
    bench.input("wan", &[(0, rx(&syn(1))), (SECOND, rx(&syn(1)))]);
    let outcome = bench.run();
    let head = "IPVS connection entries\n\
                pro expire state       source             virtual            destination\n";
    let shown: Vec<_> = outcome
        .lines()
        .into_iter()
        .map(|line| match line.get("command") {
            Some(command) => format!(
                "{command} {} {}{}",
                line["t"], line["stdout"], line["stderr"]
            ),
            None => line["reason"].to_string(),
        })
        .collect();
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let listing = quoted(
        "IP Virtual Server version 1.2.1 (size=4096)\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
         TCP  192.0.2.10:80 rr\n  \
         -> 10.1.0.11:80                 Route   1      0          0         \n",
    );
    let want = [
        r#""-A -t 192.0.2.10:80 -s rr" 0 """""#.to_owned(),
        r#""drop-no-real""#.to_owned(),
        r#""-a -t 192.0.2.10:80 -r 10.1.0.11 -g" 1 """""#.to_owned(),
        r#""-a -t 192.0.2.10:80 -r 10.1.0.11 -g" 1 """Destination already exists\n""#.to_owned(),
        format!("\"-Lnc\" 1 {}\"\"", quoted(head)),
        "null".to_owned(),
        format!("\"-Lnc\" 61 {}\"\"", quoted(head)),
        format!("\"-Ln\" 60061 {listing}\"\""),
        "null".to_owned(),
    ];
    assert_eq!(shown, want);
    assert_eq!(outcome.total("connections-ended"), 1);
}

#[test]
fn a_command_speaks_on_standard_error_where_no_json_is_wanted() {
    let mut bench = Bench::new(&web());
    bench.options.json = false;
    bench.commands(
        "0 --set 0 0 60\n2.5 -L --timeout\n3 sysctl conn_reuse_mode=0\n3 sysctl nonsense=1\n3 -Z -x\n",
    );
    let outcome = bench.run();
    assert_eq!(outcome.stdout, "");
    let want = "2.5 -L --timeout\nTimeout (tcp tcpfin udp): 900 120 60\n\
                3 sysctl conn_reuse_mode=0\nconn_reuse_mode = 0\n\
                3 sysctl nonsense=1\nsluice: sysctl nonsense: there is no such tunable; ";
    assert!(outcome.stderr.starts_with(want), "{}", outcome.stderr);
    assert_eq!(outcome.error, None, "a command that fails is no end");
}

#[test]
fn timeouts_count_from_the_next_packet() {
    let dns = PORTS.to_owned() + &service("udp 192.0.2.10:53", "rr", 1);
    let mut bench = Bench::new(&dns);
    let query = rx(&ip(CLIENT, VIP).with(udp(5000, 53)));
    bench.input(
        "wan",
        &[
            (0, query.clone()),
            (10 * SECOND, query.clone()),
            (100 * SECOND, query),
        ],
    );
    bench.commands("5 --set 0 0 60\n5 -Lnc\n15 -Lnc\n69.999 -Lnc\n70 -Lnc\n");
    let outcome = bench.run();
    let rows: Vec<_> = outcome
        .lines()
        .iter()
        .filter(|line| line["command"] == "-Lnc")
        .map(|line| {
            line["stdout"]
                .as_str()
                .map_or(0, |text| text.lines().count() - 2)
        })
        .collect();
    assert_eq!(rows, [1, 1, 1, 0]);
    assert!(
        outcome
            .stdout
            .contains("UDP 04:55  UDP         203.0.113.7:5000   192.0.2.10:53      10.1.0.11:53")
    );
    assert!(outcome.stdout.contains("UDP 00:55  UDP"));
    let new: Vec<_> = outcome.field("new");
    assert_eq!(new, [true, false, true]);
}

/// A flood that fills the table of 4096: with mode 1 packets are dropped while it is full.
#[test]
fn automatic_defence_acts_while_a_table_is_full() {
    let mut bench = Bench::new(&web());
    let client = |n: u32| std::net::Ipv4Addr::from_bits(0xcb00_7200 + n);
    let flood = |at: u64, from: u32, to: u32| {
        let syn = |n| rx(&ip(client(n), VIP).with(tcp(1024, 80).syn()));
        (from..to).map(move |n| (at, syn(n))).collect::<Vec<_>>()
    };
    let frames = [
        flood(0, 0, 4096),
        flood(1_500 * MS, 5000, 5100),
        flood(80 * SECOND, 6000, 6100),
    ];
    bench.input("wan", &frames.concat());
    bench.commands(
        "0 sysctl drop_packet=1\n1.5 sysctl drop_packet\n75 sysctl drop_packet\n75 sysctl drop_packet=3\n",
    );
    let outcome = bench.run();
    let lines = outcome.lines();
    let said = lines.iter().filter_map(|line| line["stdout"].as_str());
    let want = ["1", "2", "1", "3"].map(|value| format!("drop_packet = {value}\n"));
    assert_eq!(said.collect::<Vec<_>>(), want);
    let dropped = |from: usize, to: usize| {
        let reasons = outcome.field("reason");
        reasons[from..to]
            .iter()
            .filter(|reason| *reason == "drop-defence")
            .count()
    };
    assert_eq!(dropped(0, 4096), 0);
    assert_eq!(dropped(4096, 4196), 100, "no page is free: every packet");
    assert_eq!(dropped(4196, 4296), 10, "one of am_droprate");
}

/// Packets of everything at few times, so that bursts find something to group.
fn crowd() -> Vec<(u64, Vec<u8>)> {
    let mut frames = Vec::new();
    for n in 0..300u16 {
        let at = u64::from(n / 50) * MS;
        let client = [203, 0, 113, u8::try_from(n % 250).expect("small")];
        let port = 1024 + n / 3;
        let packet = match n % 6 {
            0 | 1 => ip(client, VIP).with(tcp(port, 80).syn()),
            2 => ip(client, VIP).with(tcp(port, 80).syn()).ttl(1),
            3 => ip(client, VIP).with(tcp(port, 80).ack()),
            4 => ip(client, VIP).with(tcp(port, 81).syn()),
            _ => ip(client, VIP).with(echo_request(1, n)),
        };
        frames.push((at, rx(&packet)));
        if n % 20 == 0 {
            let whole = ip(CLIENT, VIP)
                .id(u32::from(n))
                .with(udp(7, 53).payload(vec![1; 3000]));
            let mut parts = whole.fragments(1500);
            parts.reverse();
            frames.extend(parts.iter().map(|part| (at, rx(part))));
        }
    }
    frames
}

fn mixed(scheduler: &str) -> Bench {
    let services = [("tcp 192.0.2.10:80", 4), ("udp 192.0.2.10:53", 2)];
    let services = services.map(|(listen, reals)| service(listen, scheduler, reals));
    let mut bench = Bench::new(&(PORTS.to_owned() + &services.concat()));
    bench.input("wan", &crowd());
    bench
}

#[test]
fn bursts_and_repetitions_change_no_byte() {
    for workers in [1, 4] {
        let mut bench = mixed("wrr");
        bench.options.workers = workers;
        let first = bench.run();
        assert!(first.total("transmit") > 100 && first.total("made-sent") > 10);
        assert_eq!(bench.run(), first);
        for burst in [2, 7, 32] {
            bench.options.burst = burst;
            let grouped = bench.run();
            assert!(grouped == first, "{workers} workers, bursts of {burst}");
        }
    }
}

#[test]
fn a_held_fragment_is_listed_where_it_is_let_go() {
    let mut bench = mixed("rr");
    let parts = {
        let whole = ip(CLIENT, VIP)
            .id(9)
            .with(udp(7, 53).payload(vec![1; 2000]));
        whole.fragments(1500)
    };
    assert_eq!(parts.len(), 2);
    bench.options.inputs.clear();
    bench.input(
        "wan",
        &[
            (0, rx(&parts[1])),
            (MS, rx(&parts[0])),
            (2 * MS, rx(&parts[1])),
        ],
    );
    let outcome = bench.run();
    let lines = outcome.lines();
    let (len, last) = (rx(&parts[0]).len(), rx(&parts[1]).len());
    assert_eq!(lines[0]["verdict"], "held");
    assert_eq!(lines[0]["frames"], serde_json::json!([]));
    assert_eq!(lines[1]["verdict"], "transmit");
    let frames =
        serde_json::json!([{"out": "lan", "bytes": len}, {"out": "lan", "bytes": last, "n": 0}]);
    assert_eq!(lines[1]["frames"], frames);
    let written: Vec<_> = outcome
        .lan
        .iter()
        .map(|(at, bytes)| (*at, bytes.len()))
        .collect();
    assert_eq!(written[..2], [(MS, len), (MS, last)]);
}
fn reals(outcome: &Outcome) -> Vec<(serde_json::Value, serde_json::Value)> {
    let verdicts = outcome.field("verdict");
    verdicts.into_iter().zip(outcome.field("real")).collect()
}

#[test]
fn workers_agree_where_the_scheduler_has_no_memory() {
    for scheduler in ["sh", "dh", "mh"] {
        let mut bench = mixed(scheduler);
        let one = reals(&bench.run());
        assert!(
            one.iter().any(|(verdict, _)| verdict == "transmit"),
            "{scheduler}"
        );
        for workers in [2, 4, 8] {
            for arrive in [Arrive::Rss, Arrive::Spread] {
                bench.options.workers = workers;
                bench.options.arrive = arrive;
                let many = bench.run();
                assert!(
                    reals(&many) == one,
                    "{scheduler}, {workers} workers, {arrive:?}"
                );
                assert_eq!(many.total("handed-in"), many.total("handed-out"));
            }
        }
    }
}

/// Half open for 60 s, gone at 60.5 s to the millisecond: not only with the second's tick.
#[test]
fn a_listing_counts_nothing_that_has_ended() {
    let lists = PORTS.to_owned()
        + &service("tcp 192.0.2.10:80", "rr", 1)
        + "[[service]]\nlisten = \"tcp 192.0.2.10:25\"\npersistence = 90\n\
           [[service.real]]\naddress = \"10.1.0.12\"\n";
    let mut bench = Bench::new(&lists);
    let mail = ip(CLIENT, VIP).with(tcp(9, 25).syn());
    bench.input("wan", &[(500 * MS, rx(&syn(1))), (700 * MS, rx(&mail))]);
    bench.commands(
        "0 -Ln\n60.499 -Ln\n60.5 -Ln\n60.5 -Lnc\n60.699 -Ln\n60.7 -Ln\n90.699 -Ln --persistent-conn\n90.7 -Ln --persistent-conn\n",
    );
    for workers in [1, 4] {
        bench.options.workers = workers;
        let outcome = bench.run();
        let lines = outcome.lines().into_iter();
        let said = lines.filter_map(|line| line["stdout"].as_str().map(str::to_owned));
        let counts = |text: String| {
            let rows = text.lines().filter(|row| row.contains("-> 10.1.0."));
            let last = |row: &str| row.split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
            rows.map(last).collect::<Vec<_>>().join(", ")
        };
        let counts: Vec<_> = said.map(counts).collect();
        // Behind the forwarding method: weight, or templates; active, inactive.
        let want = [
            "1 0 0, 1 0 0",
            "1 1 0, 1 1 0",
            "1 1 0, 1 0 0",
            "",
            "1 1 0, 1 0 0",
            "1 0 0, 1 0 0",
            "1 0 0, 0 0 0",
            "0 0 0, 0 0 0",
        ];
        assert_eq!(counts, want, "{workers}");
    }
}

#[test]
fn what_a_replay_has_no_use_for_is_refused_in_one_line() {
    let mut bench = Bench::new(&web());
    let no_stdin = "sluice: -R: a replay's command has no standard input: \
                    give the restore's lines a time each\n";
    let no_names = "illegal virtual server address[:port] specified\n";
    let cases = [
        ("-R", no_stdin),
        ("--restore --atomic", no_stdin),
        ("status", "sluice: status: only a running sluiced has one\n"),
        ("trace x", "sluice: trace: not among a replay's commands\n"),
        ("-A -t localhost:80", no_names),
        ("-A -t 192.0.2.9:http", no_names),
        (
            "sysctl drop_entry=7",
            "sluice: sysctl drop_entry: 7 is not in 0..=3\n",
        ),
    ];
    let script: String = cases
        .iter()
        .map(|(words, _)| format!("0 {words}\n"))
        .collect();
    bench.commands(&script);
    let outcome = bench.run();
    for (line, (words, want)) in outcome.lines().iter().zip(cases) {
        assert_eq!(line["command"], words);
        assert_eq!(line["stderr"], want, "{words}");
        assert_eq!(line["exit"], 2, "{words}");
    }
    assert_eq!(outcome.error, None);
}
