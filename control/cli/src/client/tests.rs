use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::Instant;

use proto::message::{Framing, Reply, Request, decode_request, encode_reply};
use tempfile::TempDir;

use super::*;

const SHORT: Duration = Duration::from_millis(200);

/// A daemon for one connection, which does `then` with it.
struct Fake {
    folder: TempDir,
    thread: JoinHandle<()>,
}

impl Fake {
    fn new(then: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the socket");
        let listener = UnixListener::bind(folder.path().join("s")).expect("a fresh folder");
        let thread = thread::spawn(move || then(listener.accept().expect("somebody comes").0));
        Self { folder, thread }
    }

    fn client(&self) -> Client {
        Client::connect(&self.folder.path().join("s"), SHORT).expect("somebody listens")
    }

    /// What a client gets, and the daemon's end awaited.
    fn ask(self) -> Result<Vec<Part>, ClientError> {
        let mut parts = Vec::new();
        let argv = ["-L".to_owned()];
        let result = self
            .client()
            .ask(&argv, "input", Format::Data, |part| parts.push(part));
        self.thread.join().expect("the fake daemon ends well");
        result.map(|()| parts)
    }
}

fn read_request(stream: &UnixStream) -> Request {
    let mut line = Vec::new();
    BufReader::new(stream)
        .read_until(b'\n', &mut line)
        .expect("a line");
    line.pop();
    decode_request(&line).expect("a request")
}

/// A daemon that sends this once it has read the request.
fn saying(bytes: Vec<u8>) -> Fake {
    Fake::new(move |mut stream| {
        read_request(&stream);
        stream.write_all(&bytes).expect("the client reads");
    })
}

fn complaint(fake: Fake) -> String {
    let path = fake.folder.path().join("s").display().to_string();
    let text = fake.ask().expect_err("it can't be understood").to_string();
    text.replace(&path, "PATH")
}

#[test]
fn a_long_reply_arrives_in_parts() {
    let stdout = "x".repeat(600_000);
    let sent = Reply {
        exit: 1,
        stdout: stdout.clone(),
        generation: 4,
        ..Reply::default()
    };
    let parts = Fake::new(move |mut stream| {
        let request = read_request(&stream);
        assert_eq!(request.framing, Framing::Json { id: ID });
        assert_eq!(
            (request.stdin.as_str(), request.format),
            ("input", Format::Data)
        );
        for line in encode_reply(request.framing, sent) {
            stream.write_all(line.as_bytes()).expect("the client reads");
        }
    })
    .ask()
    .expect("a good reply");
    assert_eq!(parts.len(), 3);
    assert_eq!(
        parts
            .iter()
            .map(|part| part.reply.stdout.as_str())
            .collect::<String>(),
        stdout
    );
    assert_eq!(parts[2].reply.exit, 1);
}

#[test]
fn silence_ends() {
    let start = Instant::now();
    let text = complaint(Fake::new(|mut stream| {
        read_request(&stream);
        let _ = stream.read(&mut [0]);
    }));
    assert!(
        text.starts_with("PATH: sluiced has not answered for"),
        "{text}"
    );
    assert!(start.elapsed() < SHORT * 10);
}

#[test]
fn a_daemon_that_reads_nothing_is_silence_too() {
    let (done, wait) = mpsc::channel::<()>();
    let fake = Fake::new(move |_stream| assert!(wait.recv().is_err(), "the test is over"));
    let mut client = fake.client();
    let stdin = "x".repeat(8 << 20);
    let error = client
        .ask(&[], &stdin, Format::Text, |_| {})
        .expect_err("nobody reads");
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    drop(done);
    fake.thread.join().expect("the fake daemon ends well");
}

#[test]
fn what_is_no_reply_is_refused() {
    #[rustfmt::skip]
    let cases = [
        ("exit 0\n",                  "PATH: malformed message: expected value at line 1 column 1; is this the socket of a sluiced of this version?"),
        ("{\"v\":2,\"exit\":0}\n",    "PATH: message version 2 is not supported (this is version 1); is this the socket of a sluiced of this version?"),
        ("{\"v\":1,\"id\":5,\"exit\":0}\n", "PATH: malformed message: an answer to request 5, which was not made; is this the socket of a sluiced of this version?"),
        ("",                          "PATH: sluiced closed the connection before it answered; see its log"),
        ("{\"v\":1,\"id\":1,\"more\":true}\n", "PATH: sluiced closed the connection before it answered; see its log"),
        ("{\"v\":1,\"id\":1,\"exit\":0}", "PATH: sluiced closed the connection before it answered; see its log"),
    ];
    for (bytes, want) in cases {
        assert_eq!(complaint(saying(bytes.into())), want, "{bytes}");
    }
    let text = complaint(saying(b"\xff\xfe\n".to_vec()));
    assert!(text.starts_with("PATH: malformed message"), "{text}");
}

#[test]
fn nobody_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("s");
    let gone = |error: ClientError| {
        error
            .to_string()
            .replace(&nowhere.display().to_string(), "S")
    };
    let error = Client::connect(&nowhere, SHORT).expect_err("there is no socket");
    let advice = "start sluiced, or name its socket with --socket PATH or SLUICE_SOCKET";
    assert_eq!(
        gone(error),
        format!("S: No such file or directory: {advice}")
    );
    drop(UnixListener::bind(&nowhere).expect("a fresh folder"));
    let error = Client::connect(&nowhere, SHORT).expect_err("its daemon is dead");
    assert_eq!(gone(error), format!("S: Connection refused: {advice}"));
}

#[test]
fn too_much_is_not_even_sent() {
    let fake = Fake::new(|mut stream| {
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).expect("the client goes away");
        assert!(seen.is_empty());
    });
    let stdin = "x".repeat(MAX_JSON_LINE);
    let mut client = fake.client();
    let error = client
        .ask(&[], &stdin, Format::Text, |_| {})
        .expect_err("too long");
    assert!(error.to_string().contains("split the input"), "{error}");
    drop(client);
    fake.thread.join().expect("nothing came");
}
