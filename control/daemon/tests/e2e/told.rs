//! FULLNAT's real servers are told who their clients are: nginx by the PROXY protocol, a reader of
//! our own by TOA; over good cables and over bad ones; IPv4 ones of IPv6 clients too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use socket2::{Domain, Protocol, Socket, Type};

use crate::daemon::Daemon;
use crate::lab::{Asking, Lab, has_ipv6};
use crate::modes::{REALS, serves, service, toml};
use crate::relay;
use crate::routed::{self, Family};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("told::proxy_v1", || proxy("proxy-v1", V4, 1, false)),
    ("told::proxy_v2", || proxy("proxy-v2", V4, 1, false)),
    ("told::proxy_v1_ipv6_two_workers", || {
        proxy("proxy-v1", V6, 2, false)
    }),
    ("told::proxy_v2_ipv6", || proxy("proxy-v2", V6, 1, false)),
    ("told::proxy_v1_lossy", || proxy("proxy-v1", V4, 1, true)),
    ("told::proxy_v2_lossy_two_workers", || {
        proxy("proxy-v2", V4, 2, true)
    }),
    ("told::proxy_v1_6to4_two_workers", || {
        proxy("proxy-v1", ACROSS, 2, false)
    }),
    ("told::proxy_v2_6to4", || {
        proxy("proxy-v2", ACROSS, 1, false)
    }),
    ("told::proxy_v2_6to4_lossy", || {
        proxy("proxy-v2", ACROSS, 1, true)
    }),
    ("told::proxy_by_commands", proxy_by_commands),
    ("told::toa", || toa(V4, 1, false)),
    ("told::toa_ipv6_two_workers", || toa(V6, 2, false)),
    ("told::toa_lossy", || toa(V4, 1, true)),
    ("told::toa_6to4", || toa(ACROSS, 1, false)),
];

/// The clients' family and the real servers'.
type Families = (Family, Family);

const V4: Families = (Family::V4, Family::V4);
const V6: Families = (Family::V6, Family::V6);
const ACROSS: Families = (Family::V6, Family::V4);

/// Where it is lossy, that is the client's cable (in IPv4) and one real server's.
fn lab((outside, inside): Families, lossy: bool) -> Result<Lab, Failure> {
    if outside == Family::V6 && !has_ipv6() {
        return Err(Failure::CannotRun("the kernel has no IPv6".to_owned()));
    }
    let mut lab = routed::lab(REALS)?;
    if lossy {
        if outside == Family::V4 {
            relay::between(&mut lab, &format!("{}/24", outside.client()))?;
        }
        let address = format!("{}/24", inside.real(1));
        let real = lab.real(1);
        relay::before(&mut lab, &real, ["near-1", "far-1"], &address)?;
    }
    Ok(lab)
}

fn told((outside, inside): Families, way: &str) -> String {
    let locals = inside.locals();
    let more = format!("local_addresses = {locals:?}\nclient_address = \"{way}\"");
    service(outside, "fullnat", inside, &more, "")
}

/// Web servers that take nobody without the header, and log who it says that it was.
fn proxy(way: &str, families: Families, workers: usize, lossy: bool) -> Outcome {
    let lab = lab(families, lossy)?;
    for index in 1..=REALS {
        lab.demand_proxy_protocol(index)?;
    }
    let daemon = Daemon::start(&lab, &toml(workers, told(families, way))?)?;
    let (outside, _) = families;
    serves(&lab, &daemon, outside, workers, &[outside.client()])?;
    let seen: usize = (1..=REALS).map(|index| lab.visitors(index).len()).sum();
    ensure!(seen >= 42, "{seen} requests were logged");
    Ok(())
}

/// DPVS's option, in a listing and in a save, and another one for new connections.
fn proxy_by_commands() -> Outcome {
    let family = Family::V4;
    let lab = lab(V4, false)?;
    lab.demand_proxy_protocol(1)?;
    let daemon = Daemon::start(&lab, &toml(1, String::new())?)?;
    let vip = format!("{}:80", family.vip());
    let real = format!("{}:80", family.real(1));
    let [local, _] = family.locals();
    let url = format!("http://{}/", family.vip());
    daemon.ask(&["-A", "-t", &vip, "-s", "rr", "--proxy-protocol", "v2"])?;
    daemon.ask(&["-a", "-t", &vip, "-r", &real, "-b"])?;
    daemon.ask(&["--add-laddr", "-z", local, "-t", &vip, "-F", "lan"])?;
    ensure!(
        lab.fetch(&url, 3).len() == 3,
        "{}",
        daemon.ask(&["status"])?
    );
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(
        listing.contains(&format!("TCP  {vip} rr ppv2\n")),
        "{listing}"
    );
    let saved = daemon.ask(&["-Sn"])?;
    ensure!(saved.contains("--proxy-protocol v2"), "{saved}");
    daemon.ask(&["-E", "-t", &vip, "-s", "rr", "--proxy-protocol", "v1"])?;
    ensure!(lab.fetch(&url, 3).len() == 3, "version 1 is not understood");
    ensure!(
        lab.visitors(1) == [family.client(); 6],
        "saw {:?}",
        lab.visitors(1)
    );
    daemon.ask(&["-E", "-t", &vip, "-s", "rr"])?;
    ensure!(
        lab.fetch(&url, 1).is_empty(),
        "nobody tells, and it answers"
    );
    daemon.ask(&["-C"])?;
    let file = lab.file("saved");
    std::fs::write(&file, &saved)?;
    daemon.restore(&file)?;
    ensure!(daemon.ask(&["-Sn"])? == saved, "another save");
    ensure!(lab.fetch(&url, 3).len() == 3, "restored, and not answered");
    Ok(())
}

/// Whoever listens in a real server's namespace sees the option on each connection.
fn toa(families: Families, workers: usize, lossy: bool) -> Outcome {
    let lab = lab(families, lossy)?;
    let (outside, inside) = families;
    let wildcard = inside.of("0.0.0.0", "::");
    let listen = |index| lab.start_until_told(&lab.real(index), &["toa", wildcard, "80"]);
    let mut readers = (1..=REALS)
        .map(listen)
        .collect::<Result<Vec<Asking>, _>>()?;
    let daemon = Daemon::start(&lab, &toml(workers, told(families, "toa"))?)?;
    serves(&lab, &daemon, outside, workers, &inside.locals())?;
    for reader in &mut readers {
        let said = reader.end()?;
        let words: Vec<&str> = said.split(' ').collect();
        let [connections, first, every, stamped, clients] = words[..] else {
            return Err(Failure::Wrong(format!("the reader said {said:?}")));
        };
        let many = connections.parse().unwrap_or(0) >= 20;
        let all = first == connections && every == connections;
        ensure!(many && all && stamped == "0", "of all, told: {said}");
        ensure!(clients == outside.client(), "told of {clients}");
    }
    Ok(())
}

/// What is seen of one connection.
#[derive(Default)]
struct Seen {
    /// Whether what followed the SYN first was told of the client.
    first: Option<bool>,
    /// Segments that acknowledge nothing of ours but the SYN, and have no option.
    silent: usize,
    /// The first such acknowledgement.
    ack: u32,
}

#[derive(Default)]
struct All {
    connections: BTreeMap<(IpAddr, u16), Seen>,
    clients: BTreeSet<IpAddr>,
    /// SYNs with timestamps or the option, which no SYN should have.
    stamped: usize,
}

/// Reads TCP to `port` until its input ends; then says how many connections there were, on how many
/// the first segment after the SYN told of the client, on how many all those did that should,
/// how many SYNs promised timestamps, and the clients.
///
/// # Errors
///
/// No raw socket.
pub(crate) fn read(address: &str, port: &str, ready: fn() -> io::Result<()>) -> io::Result<()> {
    let any: IpAddr = address.parse().map_err(io::Error::other)?;
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let domain = Domain::for_address(SocketAddr::new(any, 0));
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(8 << 20)?;
    let all = Arc::new(Mutex::new(All::default()));
    // Nothing of UDP: a socket of the library that says whom a packet is from.
    let socket = UdpSocket::from(socket);
    let seen = all.clone();
    std::thread::spawn(move || listen(&socket, port, &seen));
    ready()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let all = all.lock().map_err(|_| io::Error::other("a reader died"))?;
    let count =
        |told: fn(&Seen) -> bool| all.connections.values().filter(|seen| told(seen)).count();
    let first = count(|seen| seen.first == Some(true));
    let every = count(|seen| seen.silent == 0);
    let clients: Vec<String> = all.clients.iter().map(ToString::to_string).collect();
    let (connections, stamped) = (all.connections.len(), all.stamped);
    println!(
        "{connections} {first} {every} {stamped} {}",
        clients.join(",")
    );
    Ok(())
}

fn listen(socket: &UdpSocket, port: u16, all: &Mutex<All>) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let packet = &buffer[..length];
        // The IP header comes with each packet in IPv4 only.
        let header = match from {
            SocketAddr::V4(_) => usize::from(packet[0] & 15) * 4,
            SocketAddr::V6(_) => 0,
        };
        let segment = packet.get(header..).unwrap_or_default();
        if let Ok(mut all) = all.lock() {
            note(&mut all, from.ip(), segment, port);
        }
    }
}

fn note(all: &mut All, from: IpAddr, segment: &[u8], port: u16) {
    let word = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    if segment.len() < 20 || word(2) != port {
        return;
    }
    let (options, flags) = (usize::from(segment[12] >> 4) * 4, segment[13]);
    let options = segment.get(20..options).unwrap_or_default();
    let ack = u32::from(word(8)) << 16 | u32::from(word(10));
    let key = (from, word(0));
    if flags & 0x02 != 0 {
        all.stamped += usize::from(promises(options));
        all.connections.entry(key).or_default();
        return;
    }
    let client = client(options);
    all.clients.extend(client);
    let Some(seen) = all.connections.get_mut(&key) else {
        return;
    };
    if seen.first.is_none() {
        seen.first = Some(client.is_some());
        seen.ack = ack;
    }
    let is_reset = flags & 0x04 != 0;
    if ack == seen.ack && !is_reset && client.is_none() {
        seen.silent += 1;
    }
}

/// The client that the first option tells of.
fn client(options: &[u8]) -> Option<IpAddr> {
    match *options {
        [254, 8, _, _, a, b, c, d, ..] => Some(Ipv4Addr::new(a, b, c, d).into()),
        [254, 20, _, _, ref rest @ ..] => Some(Ipv6Addr::from(*rest.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Whether a SYN has timestamps or tells of a client.
fn promises(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match (kind, rest.first()) {
            (0, _) => return false,
            (1, _) => options = rest,
            (8 | 254, _) => return true,
            (_, Some(&length)) if length >= 2 => {
                options = options.get(usize::from(length)..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}
