//! A packet in words, for `trace`: `tcp 192.0.2.7:40000 > 10.0.0.1:80 flags=S in=wan`.
//!
//! Two ends in the way tcpdump has them, then options in any order. What is left out is what a
//! client's first packet has.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use config::model::Endpoint;

/// What is said about a packet that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it carries.
    pub carries: Carries,
    /// Where it comes from; the port is 0 where there is none.
    pub source: Endpoint,
    /// Where it goes; of the same family.
    pub destination: Endpoint,
    /// `in=`: the port by which it comes in; absent: the one that leads to its source.
    pub port: Option<String>,
    /// `ttl=`: hops left, 64 unless said otherwise.
    pub ttl: u8,
    /// `length=`: octets of the IP packet; absent: as short as it can be.
    pub length: Option<u16>,
    /// `df`: no router may fragment it (IPv4).
    pub dont_fragment: bool,
    /// `fragment=OFFSET` or `fragment=OFFSET+`: the fragment that begins so many octets (a
    /// multiple of 8) into the packet; `+`: more follow.
    pub fragment: Option<(u16, bool)>,
    /// `id=`: its identification.
    pub id: u32,
}

/// What is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// A packet in words.
    Packet(Packet),
    /// `frame=HEX [in=PORT]`: a frame as it came in somewhere, at most [`MAX_FRAME`] octets; without
    /// a port it comes in by the first.
    Frame {
        /// From the Ethernet header on.
        bytes: Vec<u8>,
        /// The port by which it comes in.
        port: Option<String>,
    },
}

/// Octets of a frame that a trace takes: more than fit into any frame, and in hexadecimal digits
/// fewer than a line of text has.
pub const MAX_FRAME: usize = 16 * 1024;

impl FromStr for Traced {
    type Err = PacketError;

    fn from_str(text: &str) -> Result<Self, PacketError> {
        let mut words = text.split_whitespace();
        let Some(digits) = words.next().and_then(|word| word.strip_prefix("frame=")) else {
            return text.parse().map(Self::Packet);
        };
        let bytes = octets(digits)?;
        let port = match (words.next(), words.next()) {
            (None, _) => None,
            (Some(word), None) => match word.strip_prefix("in=") {
                Some("") => return Err(wrong("in", "", "a port's name")),
                Some(port) => Some(port.to_owned()),
                None => return Err(PacketError::FrameOption(word.to_owned())),
            },
            (_, Some(word)) => return Err(PacketError::FrameOption(word.to_owned())),
        };
        Ok(Self::Frame { bytes, port })
    }
}

fn octets(digits: &str) -> Result<Vec<u8>, PacketError> {
    let pairs = digits.as_bytes().chunks(2);
    let octet = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).ok().filter(|it| it.len() == 2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex
            .then(|| u8::from_str_radix(digits, 16).ok())
            .flatten()
    };
    let octets: Option<Vec<u8>> = pairs.map(octet).collect();
    let octets = octets.filter(|all| !all.is_empty() && all.len() <= MAX_FRAME);
    octets.ok_or_else(|| {
        let shown: String = digits.chars().take(16).collect();
        wrong("frame", &shown, "1 to 16384 octets in hexadecimal digits")
    })
}

impl fmt::Display for Traced {
    /// Words that read as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(packet) => packet.fmt(f),
            Self::Frame { bytes, port } => {
                f.write_str("frame=")?;
                bytes
                    .iter()
                    .try_for_each(|octet| write!(f, "{octet:02x}"))?;
                match port {
                    Some(port) => write!(f, " in={port}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// TCP with these control bits; SYN unless said otherwise.
    Tcp(u8),
    /// UDP.
    Udp,
    /// SCTP with one chunk of this type; INIT unless said otherwise.
    Sctp(u8),
    /// An ICMP echo request.
    Echo,
}

/// What is wrong with the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Not two ends.
    #[error(
        "a packet is wanted: tcp|udp|sctp SOURCE:PORT > DESTINATION:PORT or icmp SOURCE > DESTINATION, \
         then flags=, chunk=, in=, ttl=, length=, df, fragment=, id="
    )]
    Shape,
    /// An end that is none.
    #[error("{0:?} is no {1}")]
    End(String, &'static str),
    /// One end is IPv4, the other IPv6.
    #[error("both ends must be of one family")]
    Families,
    /// An option that there is not, or one with another value than it can have.
    #[error(
        "{0:?} is no option of a packet; there are flags=, chunk=, in=, ttl=, length=, df, fragment=, \
         id="
    )]
    Option(String),
    /// A word behind a frame that does not belong there.
    #[error("{0:?} is no option of a frame; there is in=")]
    FrameOption(String),
    /// An option's value.
    #[error("{option}={value}: {wanted} is wanted")]
    Value {
        /// Which option.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        wanted: &'static str,
    },
}

/// TCP's control bits by letter, from the lowest on; `.` is ACK, as tcpdump shows it.
const FLAGS: [(char, u8); 9] = [
    ('F', 0x01),
    ('S', 0x02),
    ('R', 0x04),
    ('P', 0x08),
    ('A', 0x10),
    ('.', 0x10),
    ('U', 0x20),
    ('E', 0x40),
    ('W', 0x80),
];
const SYN: u8 = 0x02;

/// SCTP's chunks by name (RFC 9260 section 3.2).
const CHUNKS: [(&str, u8); 13] = [
    ("DATA", 0),
    ("INIT", 1),
    ("INIT-ACK", 2),
    ("SACK", 3),
    ("HEARTBEAT", 4),
    ("HEARTBEAT-ACK", 5),
    ("ABORT", 6),
    ("SHUTDOWN", 7),
    ("SHUTDOWN-ACK", 8),
    ("ERROR", 9),
    ("COOKIE-ECHO", 10),
    ("COOKIE-ACK", 11),
    ("SHUTDOWN-COMPLETE", 14),
];
const INIT: u8 = 1;

impl FromStr for Packet {
    type Err = PacketError;

    fn from_str(text: &str) -> Result<Self, PacketError> {
        let mut words = text.split_whitespace();
        let mut next = || words.next().ok_or(PacketError::Shape);
        let (protocol, source, arrow, destination) = (next()?, next()?, next()?, next()?);
        let carries = carries(protocol)?;
        if arrow != ">" {
            return Err(PacketError::Shape);
        }
        let mut packet = Self {
            carries,
            source: end(source, carries)?,
            destination: end(destination, carries)?,
            port: None,
            ttl: 64,
            length: None,
            dont_fragment: false,
            fragment: None,
            id: 1,
        };
        if packet.source.address.is_ipv4() != packet.destination.address.is_ipv4() {
            return Err(PacketError::Families);
        }
        words.try_for_each(|word| packet.option(word))?;
        Ok(packet)
    }
}

fn carries(protocol: &str) -> Result<Carries, PacketError> {
    match protocol {
        "tcp" => Ok(Carries::Tcp(SYN)),
        "udp" => Ok(Carries::Udp),
        "icmp" | "icmp6" => Ok(Carries::Echo),
        "sctp" => Ok(Carries::Sctp(INIT)),
        _ => Err(PacketError::Shape),
    }
}

fn end(text: &str, carries: Carries) -> Result<Endpoint, PacketError> {
    let bad = |wanted| PacketError::End(text.to_owned(), wanted);
    if carries == Carries::Echo {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let address: IpAddr = bare.parse().map_err(|_| bad("address"))?;
        return Ok(Endpoint { address, port: 0 });
    }
    let socket: SocketAddr = text.parse().map_err(|_| bad("ADDRESS:PORT"))?;
    Ok(Endpoint {
        address: socket.ip(),
        port: socket.port(),
    })
}

impl Packet {
    fn option(&mut self, word: &str) -> Result<(), PacketError> {
        let unknown = || PacketError::Option(word.to_owned());
        if word == "df" {
            self.dont_fragment = true;
            return Ok(());
        }
        let (name, value) = word.split_once('=').ok_or_else(unknown)?;
        match name {
            "flags" => self.carries = Carries::Tcp(self.flags(value)?),
            "chunk" => self.carries = Carries::Sctp(self.chunk(value)?),
            "in" if !value.is_empty() => self.port = Some(value.to_owned()),
            "in" => return Err(wrong("in", value, "a port's name")),
            "ttl" => self.ttl = number("ttl", value, "0..=255")?,
            "length" => self.length = Some(number("length", value, "a length in octets")?),
            "fragment" => self.fragment = Some(fragment(value)?),
            "id" => self.id = number("id", value, "a number of 32 bits")?,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn chunk(&self, value: &str) -> Result<u8, PacketError> {
        if !matches!(self.carries, Carries::Sctp(_)) {
            return Err(wrong("chunk", value, "an SCTP packet"));
        }
        let chunk = named(value).or_else(|| value.parse().ok());
        chunk.ok_or_else(|| wrong("chunk", value, "a chunk's name (INIT, DATA, ...) or type"))
    }

    fn flags(&self, letters: &str) -> Result<u8, PacketError> {
        if !matches!(self.carries, Carries::Tcp(_)) {
            return Err(wrong("flags", letters, "a TCP packet"));
        }
        let bit = |letter: char| {
            let found = FLAGS.iter().find(|(known, _)| *known == letter);
            found.map(|&(_, bit)| bit)
        };
        let mut bits = letters
            .chars()
            .map(|letter| bit(letter.to_ascii_uppercase()));
        bits.try_fold(0, |all, bit| Some(all | bit?))
            .ok_or_else(|| wrong("flags", letters, "some of F S R P A U E W"))
    }
}

fn named(name: &str) -> Option<u8> {
    let found = CHUNKS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|&(_, chunk)| chunk)
}

fn wrong(option: &'static str, value: &str, wanted: &'static str) -> PacketError {
    let value = value.to_owned();
    PacketError::Value {
        option,
        value,
        wanted,
    }
}

fn number<T: FromStr>(
    option: &'static str,
    value: &str,
    wanted: &'static str,
) -> Result<T, PacketError> {
    value.parse().map_err(|_| wrong(option, value, wanted))
}

fn fragment(value: &str) -> Result<(u16, bool), PacketError> {
    let (offset, more) = match value.strip_suffix('+') {
        Some(offset) => (offset, true),
        None => (value, false),
    };
    let good = offset
        .parse()
        .ok()
        .filter(|offset: &u16| offset.is_multiple_of(8));
    let wanted = "a multiple of 8 octets, with + if more follow,";
    Ok((good.ok_or_else(|| wrong("fragment", value, wanted))?, more))
}

impl fmt::Display for Packet {
    /// Words that read as the same packet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (self.source, self.destination);
        match self.carries {
            Carries::Tcp(bits) => {
                let letters: String = FLAGS
                    .iter()
                    .filter(|&&(letter, bit)| bits & bit != 0 && letter != '.')
                    .map(|&(letter, _)| letter)
                    .collect();
                write!(f, "tcp {source} > {destination} flags={letters}")?;
            }
            Carries::Udp => write!(f, "udp {source} > {destination}")?,
            Carries::Sctp(chunk) => {
                write!(f, "sctp {source} > {destination} chunk=")?;
                match CHUNKS.iter().find(|(_, known)| *known == chunk) {
                    Some((name, _)) => f.write_str(name)?,
                    None => write!(f, "{chunk}")?,
                }
            }
            Carries::Echo => write!(f, "icmp {} > {}", source.address, destination.address)?,
        }
        if let Some(port) = &self.port {
            write!(f, " in={port}")?;
        }
        write!(f, " ttl={} id={}", self.ttl, self.id)?;
        if let Some(length) = self.length {
            write!(f, " length={length}")?;
        }
        if self.dont_fragment {
            f.write_str(" df")?;
        }
        match self.fragment {
            Some((offset, more)) => write!(f, " fragment={offset}{}", if more { "+" } else { "" }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Packet, String> {
        text.parse().map_err(|error: PacketError| error.to_string())
    }

    #[test]
    fn packets_read_as_they_are_shown() {
        for text in [
            "tcp 192.0.2.7:40000 > 10.0.0.1:80 flags=S ttl=64 id=1",
            "tcp [2001:db8::7]:1 > [2001:db8::1]:80 flags=SA in=wan ttl=1 id=9 length=1500 df",
            "tcp 192.0.2.7:40000 > 10.0.0.1:80 flags= ttl=64 id=1",
            "udp 192.0.2.7:40000 > 10.0.0.1:53 ttl=64 id=1 fragment=1480",
            "udp 192.0.2.7:40000 > 10.0.0.1:53 ttl=64 id=1 length=1500 fragment=0+",
            "icmp 192.0.2.7 > 10.0.0.1 ttl=64 id=1",
            "sctp 192.0.2.7:40000 > 10.0.0.1:80 chunk=INIT ttl=64 id=1",
            "sctp [2001:db8::7]:1 > [2001:db8::1]:80 chunk=COOKIE-ECHO ttl=64 id=1",
            "sctp 192.0.2.7:40000 > 10.0.0.1:80 chunk=192 ttl=64 id=1",
        ] {
            assert_eq!(read(text).expect("good").to_string(), text);
        }
        let short = read("tcp 192.0.2.7:40000 > 10.0.0.1:80").expect("good");
        assert_eq!((short.carries, short.ttl), (Carries::Tcp(SYN), 64));
        assert_eq!(
            read("tcp 192.0.2.7:1 > 10.0.0.1:80 flags=s."),
            read("tcp 192.0.2.7:1 > 10.0.0.1:80 flags=SA")
        );
        let init = read("sctp 192.0.2.7:1 > 10.0.0.1:80").expect("good");
        assert_eq!(init.carries, Carries::Sctp(INIT));
    }

    #[test]
    fn frames_read_as_they_are_shown() {
        for text in ["frame=00ff10", "frame=ab in=wan"] {
            let traced: Traced = text.parse().expect("good");
            assert_eq!(traced.to_string(), text);
        }
        let packet = "udp 192.0.2.7:1 > 10.0.0.1:53 ttl=64 id=1";
        assert_eq!(packet.parse::<Traced>().expect("good").to_string(), packet);
        let long = format!("frame={}", "00".repeat(MAX_FRAME + 1));
        #[rustfmt::skip]
        let cases = [
            ("frame=",           "frame=: 1 to 16384 octets in hexadecimal digits is wanted"),
            ("frame=0",          "frame=0: 1 to 16384 octets"),
            ("frame=0x",         "frame=0x: 1 to 16384 octets"),
            ("frame=+1",         "frame=+1: 1 to 16384 octets"),
            (long.as_str(),      "frame=0000000000000000: 1 to 16384 octets"),
            ("frame=00 in=",     "in=: a port's name is wanted"),
            ("frame=00 ttl=1",   "\"ttl=1\" is no option of a frame; there is in="),
            ("frame=00 in=a df", "\"df\" is no option of a frame; there is in="),
        ];
        for (text, want) in cases {
            let error = text.parse::<Traced>().expect_err(text).to_string();
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        #[rustfmt::skip]
        let cases = [
            ("", "a packet is wanted: "),
            ("tcp 192.0.2.7:1 10.0.0.1:80", "a packet is wanted: "),
            ("ip 192.0.2.7 > 10.0.0.1", "a packet is wanted: "),
            ("sctp 192.0.2.7 > 10.0.0.1:80", "\"192.0.2.7\" is no ADDRESS:PORT"),
            ("sctp 192.0.2.7:1 > 10.0.0.1:80 flags=S", "flags=S: a TCP packet is wanted"),
            ("sctp 192.0.2.7:1 > 10.0.0.1:80 chunk=HELLO", "chunk=HELLO: a chunk's name "),
            ("sctp 192.0.2.7:1 > 10.0.0.1:80 chunk=256", "chunk=256: a chunk's name "),
            ("udp 192.0.2.7:1 > 10.0.0.1:80 chunk=DATA", "chunk=DATA: an SCTP packet is wanted"),
            ("tcp 192.0.2.7 > 10.0.0.1:80", "\"192.0.2.7\" is no ADDRESS:PORT"),
            ("tcp www:1 > 10.0.0.1:80", "\"www:1\" is no ADDRESS:PORT"),
            ("icmp 192.0.2.7:1 > 10.0.0.1", "\"192.0.2.7:1\" is no address"),
            ("tcp 192.0.2.7:1 > [2001:db8::1]:80", "both ends must be of one family"),
            ("tcp 192.0.2.7:1 > 10.0.0.1:80 mark=5", "\"mark=5\" is no option of a packet; "),
            ("tcp 192.0.2.7:1 > 10.0.0.1:80 flags=X", "flags=X: some of F S R P A U E W"),
            ("tcp 192.0.2.7:1 > 10.0.0.1:80 ttl=256", "ttl=256: 0..=255 is wanted"),
            ("udp 192.0.2.7:1 > 10.0.0.1:80 flags=S", "flags=S: a TCP packet is wanted"),
            ("udp 192.0.2.7:1 > 10.0.0.1:80 fragment=4", "fragment=4: a multiple of 8 octets"),
            ("udp 192.0.2.7:1 > 10.0.0.1:80 in=", "in=: a port's name is wanted"),
        ];
        for (text, want) in cases {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }
}
