//! Peers of our own, where no usual tool does: this program, started once more inside a
//! namespace with [`FLAG`] and one of
//!
//! ```text
//! udp-server ADDRESS NAME     answers each datagram with NAME and the sender's address
//! udp-client ADDRESS COUNT    that many datagrams, each from a port of its own; prints answers
//! udp-echo ADDRESS NAME       sends each datagram back
//! udp-large ADDRESS COUNT     that many datagrams of up to 4,000 octets; prints how many came back
//! udp-proxied ADDRESS NAME    answers each datagram with what a PROXY header said; see [`datagrams`]
//! udp-asker ADDRESS HOW       asks those, in flows of several datagrams each
//! udp-flow ADDRESS COUNT      that many flows that were answered once, then a datagram every 2 ms on
//!                             one after the other until its input ends: prints how many were sent, how many answered, and how
//!                             many answers came from another server than the flow's first
//! decapsulate ADDRESS TUN     unwraps what comes from ADDRESS and gives it to that device; see
//!                             [`tunnel`]
//! tcp-hold ADDRESS COUNT      opens that many connections and keeps them until killed
//! tcp-ask ADDRESS COUNT       the same; a request on each when its input ends: prints how many
//!                             were answered
//! toa ADDRESS PORT            reads TCP to that port of its own until its input ends; see [`told`]
//! sctp-server ADDRESS NAME    answers associations with NAME and the client's address; see [`sctp`]
//! sctp-client ADDRESS COUNT   opens that many; when its input ends asks on each, and prints the answers
//! relay NEAR FAR              a bad cable between two TAPs that it makes; see [`relay`]
//! switch TRUNK IDS            a switch with these VLANs, of TAPs that it makes; see [`switch`]
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, ExitCode};
use std::time::Duration;

use crate::runner::Failure;
use crate::{datagrams, relay, sctp, switch, told, tunnel};

/// The first argument of a peer.
pub(crate) const FLAG: &str = "--peer";
const READY: &str = "ready";

/// Runs as a peer, if the arguments say so.
pub(crate) fn run(arguments: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [FLAG, kind, address, last] = words[..] else {
        return None;
    };
    let done = match kind {
        "udp-server" => udp_server(address, last),
        "udp-client" => udp_client(address, last.parse().unwrap_or(0)),
        "udp-echo" => udp_echo(address),
        "udp-large" => udp_large(address, last.parse().unwrap_or(0)),
        "udp-flow" => udp_flow(address, last.parse().unwrap_or(0)),
        "udp-proxied" => datagrams::serve(address, last, say_ready),
        "udp-asker" => datagrams::ask_all(address, last),
        "tcp-ask" => tcp_ask(address, last.parse().unwrap_or(0)),
        "decapsulate" => tunnel::decapsulate(address, last, say_ready),
        "toa" => told::read(address, last, say_ready),
        "relay" => relay::run(address, last, say_ready),
        "sctp-server" => sctp::serve(address, last, say_ready),
        "sctp-client" => sctp::ask(address, last.parse().unwrap_or(0), say_ready),
        "switch" => switch::run(address, last, say_ready),
        "tcp-hold" => tcp_hold(address, last.parse().unwrap_or(0)),
        _ => Err(std::io::Error::other(format!("no peer of kind {kind}"))),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{kind} {address}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Waits until a peer that was just started says that it is ready; gives what it says next.
///
/// # Errors
///
/// It ended instead.
pub(crate) fn wait_ready(child: &mut Child) -> Result<BufReader<ChildStdout>, Failure> {
    let missing = || Failure::Wrong("a peer did not start".to_owned());
    let mut said = BufReader::new(child.stdout.take().ok_or_else(missing)?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    if line.trim() == READY {
        Ok(said)
    } else {
        Err(missing())
    }
}

fn say_ready() -> std::io::Result<()> {
    println!("{READY}");
    std::io::stdout().flush()
}

fn udp_server(address: &str, name: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    say_ready()?;
    let mut buffer = [0; 2048];
    loop {
        let (_, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from)?;
    }
}

fn udp_client(address: &str, count: usize) -> std::io::Result<()> {
    let mut buffer = [0; 2048];
    for port in (20_000..).take(count) {
        let socket = UdpSocket::bind((any(address), port))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(address)?;
        socket.send(b"who")?;
        match socket.recv(&mut buffer) {
            Ok(length) => println!("{}", String::from_utf8_lossy(&buffer[..length])),
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}

/// What a socket towards this address is bound to.
fn any(address: &str) -> IpAddr {
    match address.starts_with('[') {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn udp_echo(address: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    say_ready()?;
    let mut buffer = [0; 8192];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}

fn udp_large(address: &str, count: usize) -> std::io::Result<()> {
    let mut buffer = [0; 8192];
    let mut back = 0;
    for n in 1..=count {
        let data: Vec<u8> = (0..n * 4000 / count)
            .map(|at| at.to_le_bytes()[0])
            .collect();
        let socket = UdpSocket::bind((any(address), 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(address)?;
        socket.send(&data)?;
        let length = socket.recv(&mut buffer).unwrap_or(0);
        back += usize::from(buffer[..length] == data[..]);
    }
    println!("{back}");
    Ok(())
}

/// One port, the server that answered it first, and what came of it.
struct Flow {
    socket: UdpSocket,
    server: Option<Vec<u8>>,
    sent: u64,
    answered: u64,
    moved: u64,
}

impl Flow {
    fn open(address: &str) -> std::io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            server: None,
            sent: 0,
            answered: 0,
            moved: 0,
        })
    }

    fn send(&mut self) -> std::io::Result<()> {
        self.sent += 1;
        self.socket.send(b"who").map(drop)
    }

    /// Waits for the first answer, so that there is a connection.
    fn establish(&mut self) -> std::io::Result<()> {
        self.send()?;
        for _ in 0..2_000 {
            self.receive();
            if self.server.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(std::io::Error::other("a flow's first datagram is lost"))
    }

    /// Takes the answers that are there.
    fn receive(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let name = &buffer[..length];
            self.answered += 1;
            let first = self.server.get_or_insert_with(|| name.to_vec());
            self.moved += u64::from(first != name);
        }
    }
}

fn udp_flow(address: &str, count: usize) -> std::io::Result<()> {
    let open = |_| Flow::open(address);
    let mut flows = (0..count).map(open).collect::<Result<Vec<_>, _>>()?;
    for flow in &mut flows {
        flow.establish()?;
    }
    say_ready()?;
    let told = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    for at in (0..count).cycle() {
        if told.is_finished() {
            break;
        }
        flows[at].send()?;
        flows[at].receive();
        std::thread::sleep(Duration::from_millis(2));
    }
    // What is under way may still come.
    std::thread::sleep(Duration::from_secs(1));
    flows.iter_mut().for_each(Flow::receive);
    let sum = |each: fn(&Flow) -> u64| flows.iter().map(each).sum::<u64>();
    let (sent, answered) = (sum(|flow| flow.sent), sum(|flow| flow.answered));
    println!("{sent} {answered} {}", sum(|flow| flow.moved));
    Ok(())
}

fn tcp_hold(address: &str, count: usize) -> std::io::Result<()> {
    let _held: Vec<TcpStream> = (0..count)
        .map(|_| TcpStream::connect(address))
        .collect::<Result<_, _>>()?;
    say_ready()?;
    loop {
        std::thread::park();
    }
}

fn tcp_ask(address: &str, count: usize) -> std::io::Result<()> {
    let open = |_| TcpStream::connect(address);
    let all = (0..count).map(open).collect::<Result<Vec<_>, _>>()?;
    say_ready()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    println!("{}", all.into_iter().filter_map(answer).count());
    Ok(())
}

/// What a web server answers on this connection, if it does.
fn answer(mut stream: TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains(" 200 ").then_some(text)
}
