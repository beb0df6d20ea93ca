//! PROXY protocol (HAProxy's `proxy-protocol.txt`): who a connection is between, told in front of
//! its data.
//!
//! ```text
//!   version 1   PROXY TCP4 192.0.2.7 10.0.0.1 40000 80\r\n
//!   version 2   signature (12) | 2, command | family, transport | length (2) | addresses | ports
//! ```
//!
//! Version 2 takes 28 octets for IPv4 and 52 for IPv6, version 1 at most 107. What nobody knows
//! is `UNKNOWN` in version 1, and the command `LOCAL` in version 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::Protocol;

/// Octets of the longest header that is written.
pub const MAX_LEN: usize = 107;

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const FIXED: usize = 16;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const INET: u8 = 0x10;
const INET6: u8 = 0x20;
const STREAM: u8 = 0x01;
const DATAGRAM: u8 = 0x02;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text; TCP only.
    V1,
    /// Binary.
    V2,
}

/// Who a connection is between; both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's address and port.
    pub source: (IpAddr, u16),
    /// The address and port that the client connected to.
    pub destination: (IpAddr, u16),
}

/// A header to send.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Header {
    /// Of no octets.
    pub const EMPTY: Self = Self {
        bytes: [0; MAX_LEN],
        len: 0,
    };

    /// The header of this version for a connection of `protocol` between these ends; `None` where
    /// they are not known.
    pub fn new(version: Version, protocol: Protocol, ends: Option<Ends>) -> Self {
        let mut header = Self::EMPTY;
        match version {
            Version::V1 => header.v1(ends),
            Version::V2 => header.v2(protocol, ends),
        }
        header
    }

    /// What is sent.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn v1(&mut self, ends: Option<Ends>) {
        let Some(Ends {
            source,
            destination,
        }) = ends
        else {
            return self.put(b"PROXY UNKNOWN\r\n");
        };
        self.put(match source.0 {
            IpAddr::V4(_) => b"PROXY TCP4 ",
            IpAddr::V6(_) => b"PROXY TCP6 ",
        });
        for address in [source.0, destination.0] {
            match address {
                IpAddr::V4(v4) => self.dotted(v4),
                IpAddr::V6(v6) => self.colons(v6),
            }
            self.put(b" ");
        }
        self.decimal(source.1);
        self.put(b" ");
        self.decimal(destination.1);
        self.put(b"\r\n");
    }

    fn v2(&mut self, protocol: Protocol, ends: Option<Ends>) {
        let transport = match protocol {
            Protocol::UDP => DATAGRAM,
            _ => STREAM,
        };
        self.put(&SIGNATURE);
        let Some(ends) = ends else {
            return self.put(&[LOCAL, UNSPEC, 0, 0]);
        };
        match (ends.source.0, ends.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.put(&[PROXY, INET | transport, 0, 12]);
                self.put(&source.octets());
                self.put(&destination.octets());
            }
            (source, destination) => {
                self.put(&[PROXY, INET6 | transport, 0, 36]);
                self.put(&as_v6(source).octets());
                self.put(&as_v6(destination).octets());
            }
        }
        self.put(&ends.source.1.to_be_bytes());
        self.put(&ends.destination.1.to_be_bytes());
    }

    /// Every header that is made fits.
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn dotted(&mut self, address: Ipv4Addr) {
        let [first, rest @ ..] = address.octets();
        self.decimal(first.into());
        for octet in rest {
            self.put(b".");
            self.decimal(octet.into());
        }
    }

    /// As RFC 5952 section 4 wants it: the longest run of two zero groups or more is `::`.
    fn colons(&mut self, address: Ipv6Addr) {
        let groups = address.segments();
        let run = zeros(&groups);
        for (at, &group) in groups.iter().enumerate() {
            if run.contains(&at) {
                if at == run.start {
                    self.put(b"::");
                }
                continue;
            }
            if at > 0 && at != run.end {
                self.put(b":");
            }
            self.digits(group, 16);
        }
    }

    fn decimal(&mut self, value: u16) {
        self.digits(value, 10);
    }

    fn digits(&mut self, value: u16, base: u16) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if value >= base {
            self.digits(value / base, base);
        }
        let at = usize::from(value % base);
        self.put(&DIGITS[at..=at]);
    }
}

/// The first of the longest runs of zeros, if that has two at least.
fn zeros(groups: &[u16; 8]) -> std::ops::Range<usize> {
    let mut best = 8..8;
    let mut start = 0;
    for at in 0..=groups.len() {
        if groups.get(at) == Some(&0) {
            continue;
        }
        if at - start > best.len().max(1) {
            best = start..at;
        }
        start = at + 1;
    }
    best
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A header that was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// In which format.
    pub version: Version,
    /// Its octets.
    pub len: usize,
    /// What it says of a TCP or UDP connection, if that.
    pub ends: Option<Ends>,
}

impl Found {
    /// The header that `data` begin with, if all of it is there.
    pub fn at_start_of(data: &[u8]) -> Option<Self> {
        if data.starts_with(&SIGNATURE) {
            find_v2(data)
        } else {
            find_v1(data)
        }
    }
}

fn find_v2(data: &[u8]) -> Option<Found> {
    let fixed: &[u8; FIXED] = data.first_chunk()?;
    let rest = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let body = data.get(FIXED..FIXED + rest)?;
    let ends = match (fixed[12], fixed[13] & 0xf0) {
        (PROXY, INET) => body.first_chunk::<12>().map(|body| {
            let [a, b, c, d, e, f, g, h, rest @ ..] = *body;
            ends(
                [[a, b, c, d], [e, f, g, h]].map(|octets| Ipv4Addr::from(octets).into()),
                rest,
            )
        }),
        (PROXY, INET6) => body.first_chunk::<36>().map(|body| {
            let address = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&body[at..at + 16]);
                Ipv6Addr::from(octets).into()
            };
            ends(
                [address(0), address(16)],
                [body[32], body[33], body[34], body[35]],
            )
        }),
        (PROXY | LOCAL, _) => None,
        _ => return None,
    };
    Some(Found {
        version: Version::V2,
        len: FIXED + rest,
        ends,
    })
}

fn ends([source, destination]: [IpAddr; 2], [a, b, c, d]: [u8; 4]) -> Ends {
    Ends {
        source: (source, u16::from_be_bytes([a, b])),
        destination: (destination, u16::from_be_bytes([c, d])),
    }
}

fn find_v1(data: &[u8]) -> Option<Found> {
    let line = data.get(..data.len().min(MAX_LEN))?;
    let line = line.strip_prefix(b"PROXY ")?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&line[..end]).ok()?;
    let len = b"PROXY ".len() + end + 2;
    let version = Version::V1;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        let ends = None;
        return Some(Found { version, len, ends });
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut address = || words.next()?.parse::<IpAddr>().ok();
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next()?.parse::<u16>().ok();
    let ports = (port()?, port()?);
    let right = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    let ends = Some(Ends {
        source: (source, ports.0),
        destination: (destination, ports.1),
    });
    let whole = right && words.next().is_none();
    whole.then_some(Found { version, len, ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4() -> Ends {
        Ends {
            source: (IpAddr::from([192, 0, 2, 7]), 40000),
            destination: (IpAddr::from([10, 0, 0, 1]), 80),
        }
    }

    fn v6() -> Ends {
        Ends {
            source: ("2001:db8::7".parse().unwrap(), 40000),
            destination: ("2001:db8:1::1".parse().unwrap(), 443),
        }
    }

    #[test]
    fn lines() {
        let line = |ends| Header::new(Version::V1, Protocol::TCP, ends);
        let cases = [
            (Some(v4()), "PROXY TCP4 192.0.2.7 10.0.0.1 40000 80\r\n"),
            (
                Some(v6()),
                "PROXY TCP6 2001:db8::7 2001:db8:1::1 40000 443\r\n",
            ),
            (None, "PROXY UNKNOWN\r\n"),
        ];
        for (ends, want) in cases {
            assert_eq!(line(ends).bytes(), want.as_bytes());
        }
        let widest = (IpAddr::from([0xffff_u16; 8]), 65535);
        let widest = Ends {
            source: widest,
            destination: widest,
        };
        // 107 has room for a mapped address in its longest form, which nobody writes.
        assert_eq!(line(Some(widest)).bytes().len(), 104);
    }

    #[test]
    fn binary() {
        #[rustfmt::skip]
        let head = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
        #[rustfmt::skip]
        let cases: [(_, _, &[u8]); 3] = [
            (Protocol::TCP, Some(v4()), &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 80]),
            (Protocol::UDP, Some(v4()), &[0x21, 0x12, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 80]),
            (Protocol::TCP, None,       &[0x20, 0x00, 0, 0]),
        ];
        for (protocol, ends, want) in cases {
            let header = Header::new(Version::V2, protocol, ends);
            assert_eq!(header.bytes(), [&head, want].concat());
        }
        let tcp6 = Header::new(Version::V2, Protocol::TCP, Some(v6()));
        assert_eq!((tcp6.bytes().len(), tcp6.bytes()[13]), (52, 0x21));
        let udp6 = Header::new(Version::V2, Protocol::UDP, Some(v6()));
        assert_eq!(udp6.bytes()[12..16], [0x21, 0x22, 0, 36]);
    }

    #[test]
    fn what_is_no_header() {
        let v2 = Header::new(Version::V2, Protocol::TCP, Some(v4()));
        let mut wrong_version = v2.bytes().to_vec();
        wrong_version[12] = 0x11;
        let cases: [&[u8]; 12] = [
            b"",
            b"GET / HTTP/1.1\r\n",
            b"PROXY ",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 80\r",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 80 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 40000\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 40000 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 65536\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 40000 80\r\n",
            b"PROXY UNKNOWNS\r\n",
            &v2.bytes()[..27],
            &wrong_version,
        ];
        for data in cases {
            assert_eq!(Found::at_start_of(data), None, "{data:?}");
        }
    }

    #[test]
    fn what_says_nothing_of_ends() {
        let local = Header::new(Version::V2, Protocol::TCP, None);
        let unix = [&SIGNATURE[..], &[PROXY, 0x31, 0, 2, 1, 2], b"data"].concat();
        let long = [b"PROXY UNKNOWN ffff::1 ".as_slice(), b"any\r\nGET"].concat();
        let cases = [(local.bytes(), 16), (&unix, 18), (&long, 27)];
        for (data, len) in cases {
            let found = Found::at_start_of(data).expect("a header");
            assert_eq!((found.len, found.ends), (len, None));
        }
    }

    proptest! {
        #[test]
        fn written_is_found(
            v4 in any::<Option<[u32; 2]>>(), v6 in any::<[[bool; 8]; 2]>(), ports in any::<[u16; 2]>(),
            data in proptest::collection::vec(any::<u8>(), 0..40), first in any::<bool>(),
        ) {
            let sparse = |groups: [bool; 8]| Ipv6Addr::from(groups.map(|is| if is { 0xa0 } else { 0 }));
            let [source, destination] = match v4 {
                Some(v4) => v4.map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
                None => v6.map(|groups| IpAddr::from(sparse(groups))),
            };
            let ends = Ends { source: (source, ports[0]), destination: (destination, ports[1]) };
            let version = if first { Version::V1 } else { Version::V2 };
            let header = Header::new(version, Protocol::TCP, Some(ends));
            let want = Found { version, len: header.bytes().len(), ends: Some(ends) };
            prop_assert_eq!(Found::at_start_of(&[header.bytes(), &data].concat()), Some(want));
            if first && v4.is_none() && v6.iter().all(|groups| groups.iter().any(|&is| is)) {
                // The library writes addresses by the same rules, but for mapped ones.
                let text = format!("PROXY TCP6 {source} {destination} {} {}\r\n", ports[0], ports[1]);
                prop_assert_eq!(std::str::from_utf8(header.bytes()).unwrap(), text);
            }
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..120), prefix in 0..3usize) {
            let prefix: &[u8] = [&b""[..], b"PROXY ", &SIGNATURE][prefix];
            let data = [prefix, &data].concat();
            if let Some(found) = Found::at_start_of(&data) {
                prop_assert!(found.len <= data.len());
            }
        }
    }
}
