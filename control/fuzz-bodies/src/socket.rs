//! The socket's bytes: lines of text and of JSON, one after the other, into the control engine of
//! a director without ports.

use config::model::Config;
use control::client::Peer;
use control::engine::Engine;
use control::topology::Topology;
use proto::errors::EXIT_USAGE;
use proto::grammar;
use proto::message::{self, Format, Framing, Reply, Request};
use proto::names::Numeric;

/// Lines of one input at most.
const LINES: usize = 64;
const ROOT: Peer = Peer { uid: 0, pid: 1 };

/// Answers every line as the server does.
///
/// # Panics
/// If an answer can't be read, a command's words say something else than it, or what is saved
/// restores to something else.
pub fn run(data: &[u8]) {
    let mut engine = engine();
    for (now, line) in (0u64..).zip(data.split(|&octet| octet == b'\n').take(LINES)) {
        answer(&mut engine, line, now * 1000);
        engine.sweep(now * 1000);
        while engine.sweep_trash() {}
    }
    restores(&mut engine);
}

fn engine() -> Engine {
    let config = Config::default();
    let topology = Topology::new(Vec::new(), &config);
    let (engine, _) = Engine::new(&config, topology, 1, ROOT.uid).expect("an empty file is legal");
    engine
}

fn answer(engine: &mut Engine, line: &[u8], now: u64) {
    let (framing, reply) = match message::decode_request(line) {
        Ok(request) => {
            let framing = request.framing;
            same_words(&request.argv);
            let status = |_: &Engine, _| "status\n".to_owned();
            let answer = engine.handle(&ROOT, request, now, status);
            (framing, answer.reply)
        }
        Err(error) => {
            let reply = Reply {
                exit: EXIT_USAGE,
                stderr: format!("{error}\n"),
                ..Reply::default()
            };
            (Framing::of(line), reply)
        }
    };
    readable(framing, reply);
}

/// The words that a command is sent on with mean the same command.
fn same_words(argv: &[String]) {
    let Ok(command) = grammar::parse("ipvsadm", argv, &Numeric) else {
        return;
    };
    let words = command.words();
    let again = grammar::parse("ipvsadm", &words, &Numeric);
    assert_eq!(again.as_ref(), Ok(&command), "{argv:?} became {words:?}");
}

/// A client can read the reply, and nothing of it is lost.
fn readable(framing: Framing, reply: Reply) {
    let parts = message::encode_reply(framing, reply.clone());
    let Framing::Json { id } = framing else {
        let end = format!("exit {}\n", reply.exit);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].ends_with(&end), "{:?}", parts[0]);
        return;
    };
    let mut stdout = String::new();
    for (at, part) in parts.iter().enumerate() {
        let line = part.strip_suffix('\n').expect("a line");
        assert!(!line.contains('\n'), "one line");
        let read = message::decode_reply(line.as_bytes()).expect("our own reply");
        assert_eq!(read.id, id);
        assert_eq!(read.more, at + 1 < parts.len());
        stdout += &read.reply.stdout;
    }
    assert_eq!(stdout, reply.stdout);
}

/// What is saved makes the same services anew.
fn restores(engine: &mut Engine) {
    let saved = ask(engine, "-Sn", "");
    assert_eq!(saved.exit, 0, "-Sn");
    let mut other = self::engine();
    let restored = ask(&mut other, "-R", &saved.stdout);
    assert_eq!((restored.exit, &restored.stderr[..]), (0, ""), "-R");
    let again = ask(&mut other, "-Sn", "");
    assert_eq!(again.stdout, saved.stdout, "saved, restored and saved");
}

fn ask(engine: &mut Engine, word: &str, stdin: &str) -> Reply {
    let request = Request {
        framing: Framing::Text,
        argv: vec![word.to_owned()],
        stdin: stdin.to_owned(),
        format: Format::Text,
    };
    engine.handle(&ROOT, request, 0, |_, _| String::new()).reply
}
