//! SCTP through the daemon, in every mode. The kernel has no SCTP: the two ends are peers of our
//! own that speak enough of it over raw sockets, with a CRC that is computed bit by bit.
//!
//! ```text
//! client                              server
//!    INIT                  >
//!                          <   INIT ACK (cookie)
//!    COOKIE ECHO           >
//!                          <   COOKIE ACK
//!    DATA                  >
//!                          <   SACK, DATA: its name and who it talks to
//!    SACK                  >
//!    SHUTDOWN              >
//!                          <   SHUTDOWN ACK
//!    SHUTDOWN COMPLETE     >
//! ```

use std::collections::HashMap;
use std::io::{self, BufRead, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::daemon::Daemon;
use crate::modes::{REALS, toml};
use crate::routed::{self, Family, hold_vip, route_back, unwrap};
use crate::runner::{Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("sctp::dr", || passes("dr", 1)),
    ("sctp::tun", || passes("tun", 1)),
    ("sctp::nat", || passes("nat", 1)),
    ("sctp::nat_two_workers", || passes("nat", 2)),
    ("sctp::fullnat", || passes("fullnat", 1)),
    ("sctp::fullnat_two_workers", || passes("fullnat", 2)),
];

const VPORT: u16 = 2905;
/// Another one than the service's, so that the CRC has to change.
const RPORT: u16 = 5905;
const ASSOCIATIONS: usize = 20;

/// Associations that are listed as established while they are, are spread over the servers, and
/// end; the servers see who the mode lets them see.
fn passes(mode: &str, workers: usize) -> Outcome {
    let family = Family::V4;
    let mut lab = routed::lab(REALS)?;
    let is_nat = mode.ends_with("nat");
    let port = if is_nat { RPORT } else { VPORT };
    for index in 1..=REALS {
        match mode {
            "dr" => hold_vip(&lab, index, family)?,
            "tun" => unwrap(&mut lab, index, family, family)?,
            "nat" => route_back(&lab, index, family)?,
            _ => {}
        }
        let at = if is_nat {
            family.real(index)
        } else {
            family.vip().to_owned()
        };
        let namespace = lab.real(index);
        let name = format!("real-{index}");
        lab.start_peer(&namespace, &["sctp-server", &format!("{at}:{port}"), &name])?;
    }
    let vip = format!("{}:{VPORT}", family.vip());
    let reals: String = (1..=REALS)
        .map(|index| {
            let address = family.real(index);
            format!("[[service.real]]\naddress = \"{address}:{port}\"\nmode = \"{mode}\"\n")
        })
        .collect();
    let rest = format!(
        "[[service]]\nlisten = \"sctp {vip}\"\nscheduler = \"rr\"\nlocal_addresses = {:?}\n{reals}",
        family.locals()
    );
    let daemon = Daemon::start(&lab, &toml(workers, rest)?)?;
    let count = ASSOCIATIONS.to_string();
    let mut client = lab.start_until_told(&lab.client(), &["sctp-client", &vip, &count])?;
    let listed = |state: &str| -> Result<usize, crate::runner::Failure> {
        let text = daemon.ask(&["-Lnc"])?;
        let rows = text.lines().filter(|line| line.starts_with("SCTP "));
        Ok(rows
            .filter(|row| row.contains(&format!(" {state} ")))
            .count())
    };
    let established = listed("ESTABLISHED")?;
    let all = daemon.ask(&["-Lnc"])?;
    ensure!(
        established == ASSOCIATIONS,
        "{established} are established:\n{all}"
    );
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(
        listing.contains(&format!("SCTP {vip} rr")),
        "the listing is\n{listing}"
    );
    let said = client.end()?;
    let names: Vec<&str> = said.split(',').collect();
    let visitor = |name: &&str| match mode {
        "fullnat" => family.locals().iter().any(|local| name.ends_with(local)),
        _ => name.ends_with(family.client()),
    };
    let status = || daemon.ask(&["status"]).unwrap_or_default();
    ensure!(
        names.len() == ASSOCIATIONS,
        "answered: {said}\n{}",
        status()
    );
    ensure!(names.iter().all(visitor), "the servers saw others: {said}");
    for index in 1..=REALS {
        let own = format!("real-{index} ");
        let share = names.iter().filter(|name| name.starts_with(&own)).count();
        let fair = share.abs_diff(ASSOCIATIONS / REALS) < workers;
        ensure!(fair, "real {index} has {share}: {said}");
    }
    let closed = listed("CLOSED")?;
    let all = daemon.ask(&["-Lnc"])?;
    ensure!(closed == ASSOCIATIONS, "{closed} are closed:\n{all}");
    Ok(())
}

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// Octets of DATA before what the user said: TSN, stream, sequence number, protocol.
const DATA_HEAD: usize = 12;
/// The type of a state cookie among an INIT ACK's parameters.
const STATE_COOKIE: u16 = 7;

/// A chunk's type, and what follows its first four octets.
type Chunk = (u8, Vec<u8>);

/// A packet that came whole.
struct Message {
    from: SocketAddrV4,
    to: u16,
    tag: u32,
    chunks: Vec<Chunk>,
}

impl Message {
    /// The packet behind an IPv4 header; `None` if its CRC is wrong or it ends too early.
    fn read(packet: &[u8]) -> Option<Self> {
        let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        let sctp = packet.get(usize::from(packet.first()? & 15) * 4..)?;
        let (head, mut rest) = sctp.split_first_chunk::<12>()?;
        let mut zeroed = sctp.to_vec();
        zeroed[8..12].fill(0);
        if crc32c(&zeroed).to_le_bytes() != head[8..12] {
            return None;
        }
        let mut chunks = Vec::new();
        while let Some(&[kind, _, high, low]) = rest.first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            chunks.push((kind, rest.get(4..length)?.to_vec()));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        Some(Self {
            from: SocketAddrV4::new(source.into(), port(0)),
            to: port(2),
            tag: word(head, 4)?,
            chunks,
        })
    }

    fn chunk(&self, kind: u8) -> Option<&[u8]> {
        let found = self.chunks.iter().find(|(known, _)| *known == kind);
        found.map(|(_, data)| &data[..])
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// CRC32c, as RFC 9260 appendix A defines it.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78);
    let octet = |crc: u32, octet: &u8| (0..8).fold(crc ^ u32::from(*octet), bit);
    !bytes.iter().fold(u32::MAX, octet)
}

fn written(from: u16, to: u16, tag: u32, chunks: &[Chunk]) -> io::Result<Vec<u8>> {
    let mut packet = [
        &from.to_be_bytes()[..],
        &to.to_be_bytes(),
        &tag.to_be_bytes(),
    ]
    .concat();
    packet.extend([0; 4]);
    for (kind, data) in chunks {
        let length = u16::try_from(4 + data.len()).map_err(io::Error::other)?;
        // DATA begins and ends in its chunk.
        packet.extend([*kind, if *kind == DATA { 3 } else { 0 }]);
        packet.extend(length.to_be_bytes());
        packet.extend(data);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    let crc = crc32c(&packet);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    Ok(packet)
}

/// What INIT and INIT ACK begin with.
fn opening(tag: u32) -> Vec<u8> {
    [tag, 65_535, 0x0001_0001, 1]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

fn data(number: u32, said: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0; DATA_HEAD - 4], said].concat()
}

fn sack(number: u32) -> Vec<u8> {
    [number, 65_535, 0]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

fn raw(at: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(132)))?;
    socket.bind(&SocketAddrV4::new(at, 0).into())?;
    Ok(socket)
}

fn send(
    socket: &Socket,
    from: u16,
    to: SocketAddrV4,
    tag: u32,
    chunks: &[Chunk],
) -> io::Result<()> {
    let packet = written(from, to.port(), tag, chunks)?;
    let to = SocketAddrV4::new(*to.ip(), 0);
    socket.send_to(&packet, &to.into()).map(drop)
}

/// Answers associations at `address` until killed.
///
/// # Errors
///
/// The socket can't be had.
pub(crate) fn serve(address: &str, name: &str, ready: fn() -> io::Result<()>) -> io::Result<()> {
    let at: SocketAddrV4 = address.parse().map_err(io::Error::other)?;
    let mut socket = raw(*at.ip())?;
    ready()?;
    let mut clients = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let length = socket.read(&mut buffer)?;
        let Some(message) = Message::read(&buffer[..length]).filter(|it| it.to == at.port()) else {
            continue;
        };
        if let Some((tag, chunks)) = answer(&message, name, &mut clients) {
            send(&socket, at.port(), message.from, tag, &chunks)?;
        }
    }
}

/// The client's tag and the chunks that answer its packet.
fn answer(
    message: &Message,
    name: &str,
    clients: &mut HashMap<SocketAddrV4, u32>,
) -> Option<(u32, Vec<Chunk>)> {
    if let Some(init) = message.chunk(INIT) {
        let theirs = word(init, 0).filter(|_| message.tag == 0)?;
        let mut acknowledged = opening(!theirs);
        acknowledged.extend(STATE_COOKIE.to_be_bytes());
        acknowledged.extend(8u16.to_be_bytes());
        acknowledged.extend(theirs.to_be_bytes());
        return Some((theirs, vec![(INIT_ACK, acknowledged)]));
    }
    if let Some(cookie) = message.chunk(COOKIE_ECHO) {
        let theirs = word(cookie, 0).filter(|theirs| message.tag == !theirs)?;
        clients.insert(message.from, theirs);
        return Some((theirs, vec![(COOKIE_ACK, Vec::new())]));
    }
    let theirs = *clients
        .get(&message.from)
        .filter(|theirs| message.tag == !**theirs)?;
    if let Some(asked) = message.chunk(DATA) {
        let said = format!("{name} {}", message.from.ip());
        let chunks = vec![
            (SACK, sack(word(asked, 0)?)),
            (DATA, data(1, said.as_bytes())),
        ];
        return Some((theirs, chunks));
    }
    if message.chunk(SHUTDOWN).is_some() {
        return Some((theirs, vec![(SHUTDOWN_ACK, Vec::new())]));
    }
    if message.chunk(SHUTDOWN_COMPLETE).is_some() {
        clients.remove(&message.from);
    }
    None
}

/// One association of the client's.
struct Association {
    port: u16,
    /// What the server's packets carry, and what ours do.
    tags: (u32, u32),
}

struct Client {
    socket: Socket,
    server: SocketAddrV4,
}

impl Client {
    fn send(&self, to: &Association, chunks: &[Chunk]) -> io::Result<()> {
        send(&self.socket, to.port, self.server, to.tags.1, chunks)
    }

    /// The chunk of this kind in the next packet for the association.
    fn receive(&mut self, at: &Association, kind: u8) -> io::Result<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(3);
        let mut buffer = vec![0; 65_536];
        while Instant::now() < end {
            let length = self.socket.read(&mut buffer)?;
            let message = Message::read(&buffer[..length]);
            let ours =
                message.filter(|it| (it.from, it.to, it.tag) == (self.server, at.port, at.tags.0));
            if let Some(data) = ours.as_ref().and_then(|it| it.chunk(kind)) {
                return Ok(data.to_vec());
            }
        }
        Err(io::Error::other(format!(
            "port {}: no chunk {kind}",
            at.port
        )))
    }

    fn open(&mut self, port: u16) -> io::Result<Association> {
        let own = 0x5eed_0000 + u32::from(port);
        let mut association = Association {
            port,
            tags: (own, 0),
        };
        self.send(&association, &[(INIT, opening(own))])?;
        let acknowledged = self.receive(&association, INIT_ACK)?;
        let short = || io::Error::other("a short INIT ACK");
        association.tags.1 = word(&acknowledged, 0).ok_or_else(short)?;
        let cookie = acknowledged.get(20..).ok_or_else(short)?.to_vec();
        self.send(&association, &[(COOKIE_ECHO, cookie)])?;
        self.receive(&association, COOKIE_ACK)?;
        Ok(association)
    }

    /// Asks once with so many octets: what the server said.
    fn ask(&mut self, at: &Association, octets: usize) -> io::Result<String> {
        self.send(at, &[(DATA, data(1, &vec![0x5a; octets]))])?;
        let said = self.receive(at, DATA)?;
        self.send(at, &[(SACK, sack(1))])?;
        let said = said.get(DATA_HEAD..).unwrap_or_default();
        Ok(String::from_utf8_lossy(said).into_owned())
    }

    fn close(&mut self, at: &Association) -> io::Result<()> {
        self.send(at, &[(SHUTDOWN, 1u32.to_be_bytes().to_vec())])?;
        self.receive(at, SHUTDOWN_ACK)?;
        self.send(at, &[(SHUTDOWN_COMPLETE, Vec::new())])
    }
}

/// Opens so many associations; when its input ends, asks on each, closes it, and prints what was
/// answered, in one line.
///
/// # Errors
///
/// One of them gets no answer.
pub(crate) fn ask(address: &str, count: usize, ready: fn() -> io::Result<()>) -> io::Result<()> {
    let server: SocketAddrV4 = address.parse().map_err(io::Error::other)?;
    let socket = raw(Ipv4Addr::UNSPECIFIED)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut client = Client { socket, server };
    let ports = (20_000..).take(count);
    let opened: io::Result<Vec<_>> = ports.map(|port| client.open(port)).collect();
    let opened = opened?;
    ready()?;
    io::stdin().lock().lines().for_each(drop);
    let mut names = Vec::new();
    for association in &opened {
        let mut said = String::new();
        for octets in [1, 1000, 1400] {
            said = client.ask(association, octets)?;
        }
        client.close(association)?;
        names.push(said);
    }
    println!("{}", names.join(","));
    Ok(())
}
