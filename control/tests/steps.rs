//! A long restore goes on in bounded steps: nothing is published before the last, and what came
//! of itself meanwhile waits for it.

use std::time::{Duration, Instant};

use config::model::Config;
use control::client::Peer;
use control::engine::Engine;
use control::topology::Topology;
use dataplane::published::Reader;
use dataplane::services::Snapshot;
use proto::message::{Format, Framing, Request};

const ROOT: Peer = Peer { uid: 0, pid: 1 };
const REALS: usize = 10;

fn engine() -> (Engine, Reader<Snapshot>) {
    let config = Config::default();
    let topology = Topology::new(Vec::new(), &config);
    let made = Engine::new(&config, topology, 1, ROOT.uid);
    let (engine, mut readers) = made.expect("nothing is refused");
    (engine, readers.pop().expect("one for each worker"))
}

fn request(argv: &[&str], stdin: String) -> Request {
    Request {
        framing: Framing::Json { id: 1 },
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        stdin,
        format: Format::Text,
    }
}

/// So many services, each with ten NAT real servers.
fn lines(services: usize) -> String {
    let mut text = String::new();
    for at in 0..services {
        let vip = format!("10.{}.{}.1:80", at / 250, at % 250);
        text += &format!("-A -t {vip} -s wrr\n");
        for real in 0..REALS {
            text += &format!("-a -t {vip} -r 172.16.{}.{real}:80 -m -w 3\n", at % 200);
        }
    }
    text
}

/// Steps, and the longest of them.
fn work(engine: &mut Engine, each: impl Fn(&mut Engine)) -> (usize, Duration) {
    let (mut steps, mut longest) = (0, Duration::ZERO);
    loop {
        let began = Instant::now();
        let (answer, _) = engine.work(0);
        longest = longest.max(began.elapsed());
        steps += 1;
        if let Some(answer) = answer {
            assert_eq!((answer.reply.stderr.as_str(), answer.reply.exit), ("", 0));
            return (steps, longest);
        }
        each(engine);
    }
}

#[test]
fn a_restore_is_many_steps_and_one_publish() {
    let (mut engine, mut reader) = engine();
    let before = reader.edition().1;
    let asked = request(&["-R"], lines(300));
    let begun = engine.begin(&ROOT, asked, 0, |_, _| String::new());
    assert!(begun.is_none(), "it takes more than a turn");
    let half_way = |engine: &mut Engine| {
        engine.publish_news(0);
        assert_eq!(engine.generation(), before, "nothing half-way is published");
    };
    let (steps, _) = work(&mut engine, half_way);
    let lines = 300 * (1 + REALS);
    assert!(steps >= 2 * lines / 256, "{steps} steps for {lines} lines");
    let (snapshot, generation) = reader.edition();
    assert_eq!((generation, snapshot.index.len()), (before + 1, 300));
    let begun = engine.begin(&ROOT, request(&["-C"], String::new()), 0, |_, _| {
        String::new()
    });
    assert!(begun.is_none());
    let (steps, _) = work(&mut engine, |_| {});
    assert!(steps >= lines / 512, "{steps} steps to take all away");
    assert!(reader.refresh().index.is_empty());
}

/// However much was taken away, the next look at the trash frees it, a bounded part at a time.
#[test]
fn the_trash_is_emptied_in_one_round_of_many_steps() {
    let (mut engine, mut reader) = engine();
    for (words, stdin) in [("-R", lines(300)), ("-C", String::new())] {
        let begun = engine.begin(&ROOT, request(&[words], stdin), 0, |_, _| String::new());
        assert!(begun.is_none(), "it takes more than a turn");
        work(&mut engine, |_| {});
    }
    let reals = 300 * REALS;
    assert_eq!(engine.real_counts(), (0, reals));
    engine.sweep(1_000);
    assert!(engine.sweep_trash(), "it takes more than a step");
    assert_eq!(
        engine.real_counts(),
        (0, reals),
        "a worker may still use it"
    );
    while engine.sweep_trash() {}
    reader.refresh();
    engine.sweep(2_000);
    let mut steps = 1;
    while engine.sweep_trash() {
        let left = engine.real_counts().1;
        assert_eq!(left, reals - steps * 1024, "after {steps} steps");
        steps += 1;
    }
    assert_eq!((engine.real_counts(), steps), ((0, 0), 3));
    assert!(!engine.sweep_trash(), "nothing more until the next look");
}

/// `cargo test --release -p control --features measure --test steps -- --nocapture`
#[test]
#[cfg(feature = "measure")]
fn ten_thousand_services() {
    let (mut engine, mut reader) = engine();
    let begin = |engine: &mut Engine, words: &[&str], stdin: String| {
        let began = Instant::now();
        let asked = request(words, stdin);
        let (steps, longest) = match engine.begin(&ROOT, asked, 0, |_, _| String::new()) {
            None => work(engine, |_| {}),
            Some(answer) => {
                assert_eq!(answer.reply.stderr, "");
                (1, began.elapsed())
            }
        };
        let all = began.elapsed();
        println!(
            "{}: {all:?} in {steps} steps, the longest {longest:?}",
            words.join(" ")
        );
        all
    };
    begin(&mut engine, &["-R"], lines(10_000));
    begin(&mut engine, &["-Ln"], String::new());
    begin(&mut engine, &["save"], String::new());
    let mut each: Vec<_> = (0..101)
        .map(|at| {
            let weight = (at % 7).to_string();
            let edit = [
                "-e",
                "-t",
                "10.3.7.1:80",
                "-r",
                "172.16.157.3:80",
                "-m",
                "-w",
                &weight,
            ];
            let began = Instant::now();
            let asked = request(&edit, String::new());
            let answer = engine.begin(&ROOT, asked, 0, |_, _| String::new());
            assert_eq!(answer.expect("it is short").reply.stderr, "");
            reader.refresh();
            began.elapsed()
        })
        .collect();
    each.sort_unstable();
    println!("one change: {:?} at the median", each[50]);
    begin(&mut engine, &["-C"], String::new());
}
