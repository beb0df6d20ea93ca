//! A sorry server: it serves while no other does, and no longer.

mod common;

use common::{Bench, CLIENT, MS, Outcome, PORTS, SECOND, VIP, rx};
use wire::build::{ip, tcp};

/// A service of two real servers and a sorry server.
fn bench(scheduler: &str, sorry: &str) -> Bench {
    let service = format!(
        "[[service]]\nlisten = \"tcp 192.0.2.10:80\"\nscheduler = \"{scheduler}\"\n{sorry}\n\
         [[service.real]]\naddress = \"10.1.0.11\"\n[[service.real]]\naddress = \"10.1.0.12\"\n"
    );
    Bench::new(&(PORTS.to_owned() + &service))
}

fn syn(port: u16) -> Vec<u8> {
    rx(&ip(CLIENT, VIP).with(tcp(port, 80).syn()))
}

fn ack(port: u16) -> Vec<u8> {
    rx(&ip(CLIENT, VIP).with(tcp(port, 80).ack()))
}

/// Weights of both at 1 s and at 3 s; new connections before, between and after, and what
/// becomes then of the one in between.
fn story(bench: &mut Bench) -> Outcome {
    bench.commands(
        "1 -e -t 192.0.2.10:80 -r 10.1.0.11 -g -w 0\n\
         1 -e -t 192.0.2.10:80 -r 10.1.0.12 -g -w 0\n\
         2 -Ln\n\
         2 -S -n\n\
         3 -e -t 192.0.2.10:80 -r 10.1.0.12 -g -w 1\n\
         4 -Ln\n",
    );
    bench.input(
        "wan",
        &[
            (100 * MS, syn(1000)),
            (1_500 * MS, syn(2000)),
            (1_500 * MS, ack(1000)),
            (3_500 * MS, syn(3000)),
            (3_500 * MS, ack(2000)),
        ],
    );
    bench.run()
}

fn shown(outcome: &Outcome, command: &str) -> Vec<String> {
    let lines = outcome.lines();
    let of = lines.iter().filter(|line| line["command"] == command);
    of.map(|line| line["stdout"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn it_serves_only_while_no_other_does() {
    for scheduler in ["rr", "wrr", "wlc", "sh", "dh", "mh", "fo"] {
        for workers in [1, 4] {
            let mut bench = bench(scheduler, "sorry_server = \"10.1.0.99\"");
            bench.options.workers = workers;
            let outcome = story(&mut bench);
            let reals = outcome.field("real");
            let name = format!("{scheduler}, {workers} workers");
            assert_ne!(reals[0], "10.1.0.99:80", "{name}");
            assert_eq!(reals[1], "10.1.0.99:80", "{name}");
            assert_eq!(reals[2], reals[0], "{name}: what is quiesced goes on");
            assert_ne!(reals[3], "10.1.0.99:80", "{name}");
            assert_eq!(outcome.field("reason")[4], "drop-real-removed", "{name}");
        }
    }
}

#[test]
fn inhibited_it_keeps_its_connections() {
    let mut bench = bench(
        "rr",
        "sorry_server = \"10.1.0.99\"\nsorry_server_inhibit = true",
    );
    let outcome = story(&mut bench);
    assert_eq!(
        outcome.field("reason"),
        [(); 5].map(|()| serde_json::Value::Null)
    );
    assert_eq!(outcome.field("real")[4], "10.1.0.99:80");
    assert_eq!(outcome.field("real")[3], "10.1.0.12:80");
    let listed = shown(&outcome, "-Ln");
    let row = |weight| format!("-> 10.1.0.99:80                 Route   {weight} ");
    assert!(listed[0].contains(&row(1)), "{}", listed[0]);
    assert!(listed[1].contains(&row(0)), "{}", listed[1]);
}

#[test]
fn it_is_listed_while_it_serves_and_never_saved() {
    let mut bench = bench("wlc", "sorry_server = \"127.0.0.1:80\"");
    let outcome = story(&mut bench);
    let listed = shown(&outcome, "-Ln");
    let row = "-> 127.0.0.1:80                 Local   1 ";
    assert!(listed[0].contains(row), "{}", listed[0]);
    assert!(!listed[1].contains("127.0.0.1"), "{}", listed[1]);
    let saved = shown(&outcome, "-S -n");
    let reals = "-a -t 192.0.2.10:80 -r 10.1.0.11:80 -g -w 0\n\
                 -a -t 192.0.2.10:80 -r 10.1.0.12:80 -g -w 0\n";
    assert!(saved[0].ends_with(reals), "{}", saved[0]);
    assert_eq!(outcome.field("reason")[1], "punt-local");
}

#[test]
fn without_any_other_it_serves_from_the_start() {
    let service = "[[service]]\nlisten = \"tcp 192.0.2.10:80\"\nsorry_server = \"10.1.0.99:8080\"\n\
                   sorry_server_mode = \"nat\"\n";
    let mut bench = Bench::new(&(PORTS.to_owned() + service));
    bench.input(
        "wan",
        &[(0, syn(1)), (2 * SECOND, syn(2)), (4 * SECOND, syn(3))],
    );
    bench.commands(
        "1 -a -t 192.0.2.10:80 -r 10.1.0.11:80 -g\n\
         1 -a -t 192.0.2.10:80 -r 10.1.0.99:8080 -m\n\
         3 -d -t 192.0.2.10:80 -r 10.1.0.11:80\n",
    );
    let outcome = bench.run();
    let want = ["10.1.0.99:8080", "10.1.0.11:80", "10.1.0.99:8080"];
    assert_eq!(outcome.field("real"), want);
    assert_eq!(outcome.lines()[2]["stderr"], "Destination already exists\n");
}
