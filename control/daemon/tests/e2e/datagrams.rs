//! The PROXY protocol for UDP: a server that knows each client from the header in front of its first
//! datagram, and answers there as long as the client goes on.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::daemon::Daemon;
use crate::lab::{has_ipv6, run};
use crate::modes::{REALS, toml};
use crate::routed::{self, Family};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("datagrams::proxied", || proxied(Family::V4, Family::V4, 1)),
    ("datagrams::proxied_ipv6_two_workers", || {
        proxied(Family::V6, Family::V6, 2)
    }),
    ("datagrams::proxied_6to4_two_workers", || {
        proxied(Family::V6, Family::V4, 2)
    }),
    ("datagrams::proxied_by_a_client_too", forged),
];

/// The service's port and the real servers'.
const PORT: u16 = 5300;
/// Flows of each test, the first from port 20,000.
const FLOWS: u16 = 20;
/// What a client sends in each flow, one after the answer to the other.
const ASKED: [&str; 3] = ["one", "two", "three"];
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn service(outside: Family, inside: Family) -> String {
    let (vip, locals) = (outside.host(outside.vip()), inside.locals());
    let reals: String = (1..=REALS)
        .map(|index| {
            let address = inside.host(&inside.real(index));
            format!("[[service.real]]\naddress = \"{address}:{PORT}\"\nmode = \"fullnat\"\n")
        })
        .collect();
    format!(
        "[[service]]\nlisten = \"udp {vip}:{PORT}\"\nscheduler = \"rr\"\n\
         local_addresses = {locals:?}\nclient_address = \"proxy-v2\"\n{reals}"
    )
}

/// Everything of a flow comes from one server; it was told of the client and the VIP, once.
fn proxied(outside: Family, inside: Family, workers: usize) -> Outcome {
    let said = ask(outside, inside, workers, "plain")?;
    for port in (20_000..).take(FLOWS.into()) {
        let client = SocketAddr::new(address(outside.client())?, port);
        let vip = SocketAddr::new(address(outside.vip())?, PORT);
        let told = format!("{client} > {vip}");
        let of = |name: &str| ASKED.map(|word| format!("{name}: {told} by 1: {word}"));
        let [first, second] = ["real-1", "real-2"].map(|name| has(&said, &of(name)));
        ensure!(first != second, "nobody was told {told}:\n{said}");
    }
    Ok(())
}

/// A header that the client claims in front of its first datagram is replaced by the true one.
fn forged() -> Outcome {
    let said = ask(Family::V4, Family::V4, 1, "forged")?;
    let count = |of: &str| said.lines().filter(|line| line.contains(of)).count();
    let told = format!(": {}:", Family::V4.client());
    let all = usize::from(FLOWS) * ASKED.len();
    ensure!(
        count(&told) == all && count(" by 1: ") == all && count(" by 1: one") == all / ASKED.len(),
        "the answers were\n{said}"
    );
    Ok(())
}

/// Whether these lines follow each other.
fn has(said: &str, lines: &[String]) -> bool {
    said.contains(&format!("{}\n", lines.join("\n")))
}

fn address(text: &str) -> Result<IpAddr, Failure> {
    text.parse()
        .map_err(|_| Failure::Wrong(format!("{text} is no address")))
}

/// What the client is answered, a line each.
fn ask(outside: Family, inside: Family, workers: usize, how: &str) -> Result<String, Failure> {
    if outside == Family::V6 && !has_ipv6() {
        return Err(Failure::CannotRun("the kernel has no IPv6".to_owned()));
    }
    let mut lab = routed::lab(REALS)?;
    for index in 1..=REALS {
        let listen = format!("{}:{PORT}", inside.host(&inside.real(index)));
        let name = format!("real-{index}");
        lab.start_peer(&lab.real(index), &["udp-proxied", &listen, &name])?;
    }
    let daemon = Daemon::start(&lab, &toml(workers, service(outside, inside))?)?;
    let vip = format!("{}:{PORT}", outside.host(outside.vip()));
    let said = run(&mut lab.peer(&lab.client(), &["udp-asker", &vip, how])?)?;
    let expected = usize::from(FLOWS) * ASKED.len();
    ensure!(
        said.lines().count() == expected && said.contains("real-1: ") && said.contains("real-2: "),
        "{said}\n{}",
        daemon.ask(&["status"])?
    );
    Ok(said)
}

/// Answers each datagram with the name, what the header of its sender said, how many headers came
/// from there, and what stood behind.
///
/// # Errors
///
/// The address can't be had.
pub(crate) fn serve(listen: &str, name: &str, ready: fn() -> io::Result<()>) -> io::Result<()> {
    let socket = UdpSocket::bind(listen)?;
    let mut known: HashMap<SocketAddr, (String, usize)> = HashMap::new();
    ready()?;
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let (told, data) = match header(&buffer[..length]) {
            Some((client, vip, data)) => (Some(format!("{client} > {vip}")), data),
            None => (None, &buffer[..length]),
        };
        let (who, headers) = known.entry(from).or_default();
        if let Some(told) = told {
            *who = told;
            *headers += 1;
        }
        let data = String::from_utf8_lossy(data);
        socket.send_to(
            format!("{name}: {who} by {headers}: {data}").as_bytes(),
            from,
        )?;
    }
}

/// Client, VIP and what follows the header of version 2 (PROXY protocol, section 2.2) for UDP.
fn header(datagram: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])> {
    let rest = datagram.strip_prefix(SIGNATURE)?;
    match *rest {
        [0x21, 0x12, 0, 12, ref rest @ ..] => {
            let (both, rest) = rest.split_first_chunk::<8>()?;
            let [a, b, c, d, e, f, g, h] = *both;
            let client = Ipv4Addr::new(a, b, c, d).into();
            ports(client, Ipv4Addr::new(e, f, g, h).into(), rest)
        }
        [0x21, 0x22, 0, 36, ref rest @ ..] => {
            let (client, rest) = rest.split_first_chunk::<16>()?;
            let (vip, rest) = rest.split_first_chunk::<16>()?;
            ports(
                Ipv6Addr::from(*client).into(),
                Ipv6Addr::from(*vip).into(),
                rest,
            )
        }
        _ => None,
    }
}

fn ports(client: IpAddr, vip: IpAddr, rest: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])> {
    let (ports, data) = rest.split_first_chunk::<4>()?;
    let [a, b, c, d] = *ports;
    let client = SocketAddr::new(client, u16::from_be_bytes([a, b]));
    Some((
        client,
        SocketAddr::new(vip, u16::from_be_bytes([c, d])),
        data,
    ))
}

/// Asks in each flow; with `forged`, behind a header of its own that claims to be another. Prints
/// the answers.
///
/// # Errors
///
/// A port is taken.
pub(crate) fn ask_all(vip: &str, how: &str) -> io::Result<()> {
    let any = match vip.starts_with('[') {
        true => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        false => IpAddr::from(Ipv4Addr::UNSPECIFIED),
    };
    let mut buffer = [0; 2048];
    for port in (20_000..).take(FLOWS.into()) {
        let socket = UdpSocket::bind((any, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(vip)?;
        for (at, word) in ASKED.iter().enumerate() {
            let claim = if how == "forged" && at == 0 {
                [SIGNATURE, &[0x21, 0x12, 0, 12], &[9; 12]].concat()
            } else {
                Vec::new()
            };
            socket.send(&[&claim, word.as_bytes()].concat())?;
            match socket.recv(&mut buffer) {
                Ok(length) => println!("{}", String::from_utf8_lossy(&buffer[..length])),
                Err(error) => println!("{error}"),
            }
        }
    }
    Ok(())
}
