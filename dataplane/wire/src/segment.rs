//! The transport header as the rewriters see it: ports, and a checksum that is owed.

use crate::bytes::{Bytes, get16, get32, put16, put32};
use crate::checksum::{Delta, for_udp};
use crate::ip::Protocol;
use crate::{sctp, tcp, udp};

/// Why a payload is not a segment of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// Malformed TCP.
    Tcp(tcp::Error),
    /// Malformed UDP.
    Udp(udp::Error),
    /// Malformed SCTP.
    Sctp(sctp::Error),
    /// A quoted segment without its first eight octets.
    QuoteTruncated,
    /// A protocol without ports that we rewrite.
    Protocol(Protocol),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(error) => error.fmt(f),
            Self::Udp(error) => error.fmt(f),
            Self::Sctp(error) => error.fmt(f),
            Self::QuoteTruncated => f.write_str("the quoted segment is shorter than 8 octets"),
            Self::Protocol(protocol) => write!(f, "{protocol} has no ports to rewrite"),
        }
    }
}

impl std::error::Error for Error {}

impl From<tcp::Error> for Error {
    fn from(error: tcp::Error) -> Self {
        Self::Tcp(error)
    }
}

impl From<udp::Error> for Error {
    fn from(error: udp::Error) -> Self {
        Self::Udp(error)
    }
}

impl From<sctp::Error> for Error {
    fn from(error: sctp::Error) -> Self {
        Self::Sctp(error)
    }
}

/// A well-formed segment of a protocol with ports.
#[derive(Debug)]
pub enum Segment<B: Bytes> {
    /// TCP.
    Tcp(tcp::Packet<B>),
    /// UDP.
    Udp(udp::Packet<B>),
    /// SCTP.
    Sctp(sctp::Packet<B>),
}

impl<B: Bytes> Segment<B> {
    /// Checks `bytes`, the payload of an unfragmented packet, as `protocol` says.
    ///
    /// # Errors
    /// The protocol's own error, or [`Error::Protocol`].
    #[inline]
    pub fn parse(protocol: Protocol, bytes: B) -> Result<Self, Error> {
        match protocol {
            Protocol::TCP => Ok(Self::Tcp(tcp::Packet::parse(bytes)?)),
            Protocol::UDP => Ok(Self::Udp(udp::Packet::parse(bytes)?)),
            Protocol::SCTP => Ok(Self::Sctp(sctp::Packet::parse(bytes)?)),
            other => Err(Error::Protocol(other)),
        }
    }

    /// As [`parse`](Self::parse) for the payload of a first fragment: the header must be whole,
    /// the data may be continued elsewhere. SCTP is refused: its checksum covers the whole packet
    /// and can't be patched from a part.
    ///
    /// # Errors
    /// The protocol's own error, or [`Error::Protocol`].
    #[inline]
    pub fn parse_first_fragment(protocol: Protocol, bytes: B) -> Result<Self, Error> {
        match protocol {
            Protocol::UDP => Ok(Self::Udp(udp::Packet::parse_first_fragment(bytes)?)),
            Protocol::SCTP => Err(sctp::Error::Fragment.into()),
            other => Self::parse(other, bytes),
        }
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        match self {
            Self::Tcp(tcp) => tcp.src_port(),
            Self::Udp(udp) => udp.src_port(),
            Self::Sctp(sctp) => sctp.src_port(),
        }
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        match self {
            Self::Tcp(tcp) => tcp.dst_port(),
            Self::Udp(udp) => udp.dst_port(),
            Self::Sctp(sctp) => sctp.dst_port(),
        }
    }

    /// Source and destination port.
    #[inline]
    pub fn ports(&self) -> (u16, u16) {
        (self.src_port(), self.dst_port())
    }
}

impl Segment<&mut [u8]> {
    /// Replaces the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) -> Delta {
        match self {
            Self::Tcp(tcp) => tcp.set_src_port(port),
            Self::Udp(udp) => udp.set_src_port(port),
            Self::Sctp(sctp) => {
                sctp.set_src_port(port);
                Delta::NONE
            }
        }
    }

    /// Replaces the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) -> Delta {
        match self {
            Self::Tcp(tcp) => tcp.set_dst_port(port),
            Self::Udp(udp) => udp.set_dst_port(port),
            Self::Sctp(sctp) => {
                sctp.set_dst_port(port);
                Delta::NONE
            }
        }
    }

    /// Pays what rewrites of addresses and ports owe to the checksum.
    #[inline]
    pub fn settle(&mut self, owed: Delta) {
        match self {
            Self::Tcp(tcp) => tcp.settle(owed),
            Self::Udp(udp) => udp.settle(owed),
            Self::Sctp(_) => {} // covers no address, and paid for its ports at once
        }
    }
}

/// Octets of a segment that an ICMP error must at least quote (RFC 792).
const QUOTED: usize = 8;

/// The beginning of the segment that an ICMP error quotes: its ports, and its checksum where the
/// quote reaches that far.
#[derive(Debug)]
pub struct Quoted<B: Bytes> {
    protocol: Protocol,
    head: B::Array<QUOTED>,
    rest: B,
}

impl<B: Bytes> Quoted<B> {
    /// Checks that `protocol` has ports and that the first eight octets are there.
    ///
    /// # Errors
    /// [`Error::Protocol`] or [`Error::QuoteTruncated`].
    #[inline]
    pub fn parse(protocol: Protocol, bytes: B) -> Result<Self, Error> {
        if !matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
            return Err(Error::Protocol(protocol));
        }
        let (head, rest) = bytes.split_array().ok_or(Error::QuoteTruncated)?;
        Ok(Self {
            protocol,
            head,
            rest,
        })
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        get16(&self.head, 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        get16(&self.head, 2)
    }

    /// Source and destination port.
    #[inline]
    pub fn ports(&self) -> (u16, u16) {
        (self.src_port(), self.dst_port())
    }
}

impl Quoted<&mut [u8]> {
    /// Replaces the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) -> Delta {
        self.put_port(0, port)
    }

    /// Replaces the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) -> Delta {
        self.put_port(2, port)
    }

    /// Puts TCP's sequence number, and its acknowledgement number if the quote has that, where
    /// `seq` and `ack` say.
    pub fn renumber(&mut self, seq: impl Fn(u32) -> u32, ack: impl Fn(u32) -> u32) -> Delta {
        if self.protocol != Protocol::TCP {
            return Delta::NONE;
        }
        let old = get32(self.head, 4);
        let new = seq(old);
        put32(self.head, 4, new);
        let owed = Delta::u32(old, new);
        let Some(rest) = self.rest.first_chunk_mut::<4>() else {
            return owed;
        };
        let old = get32(rest, 0);
        let new = ack(old);
        put32(rest, 0, new);
        owed.and(Delta::u32(old, new))
    }

    /// Pays what rewrites owe to the quoted checksum, where the quote has it: UDP's always, TCP's
    /// at its octet 16. SCTP's covers what the quote may lack and is left alone, as nobody can
    /// check it.
    pub fn settle(&mut self, owed: Delta) {
        match self.protocol {
            Protocol::UDP => {
                let checksum = get16(self.head, 6);
                if checksum != 0 {
                    put16(self.head, 6, for_udp(owed.apply(checksum)));
                }
            }
            Protocol::TCP => {
                if let Some(head) = self.rest.first_chunk_mut::<10>() {
                    let checksum = get16(head, 8);
                    put16(head, 8, owed.apply(checksum));
                }
            }
            _ => {}
        }
    }

    #[inline]
    fn put_port(&mut self, at: usize, port: u16) -> Delta {
        let delta = Delta::u16(get16(self.head, at), port);
        put16(self.head, at, port);
        delta
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::build::{self, Body, ip};
    use crate::{ipv4, ipv6};
    use proptest::prelude::*;

    /// One body of each protocol between two ports.
    fn body(which: usize, src: u16, dst: u16, data: &[u8]) -> Body {
        match which {
            0 => build::tcp(src, dst).acks(1).payload(data).into(),
            1 => build::udp(src, dst).payload(data).into(),
            2 => build::udp(src, dst).payload(data).unsummed().into(),
            _ => build::sctp(src, dst).chunk(0, data).into(),
        }
    }

    #[test]
    fn what_has_no_ports() {
        let error = Segment::parse(Protocol::ICMP, &[0; 40][..]).unwrap_err();
        assert_eq!(
            (error, error.to_string()),
            (
                Error::Protocol(Protocol::ICMP),
                "icmp has no ports to rewrite".into()
            )
        );
        assert_eq!(
            Quoted::parse(Protocol::GRE, &[0; 8][..]).unwrap_err(),
            Error::Protocol(Protocol::GRE)
        );
        assert_eq!(
            Quoted::parse(Protocol::TCP, &[0; 7][..]).unwrap_err(),
            Error::QuoteTruncated
        );
    }

    #[test]
    fn first_fragments() {
        let udp = ip([1; 4], [2; 4])
            .with(build::udp(1, 2).payload([7; 100]))
            .bytes();
        let first = &udp[20..60];
        assert_eq!(
            Segment::parse(Protocol::UDP, first).unwrap_err(),
            udp::Error::PastPacket.into()
        );
        assert_eq!(
            Segment::parse_first_fragment(Protocol::UDP, first)
                .unwrap()
                .ports(),
            (1, 2)
        );
        let sctp = Segment::parse_first_fragment(Protocol::SCTP, &[0; 20][..]);
        assert_eq!(sctp.unwrap_err(), sctp::Error::Fragment.into());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Rewritten in place, then built anew: the same bytes. And back again.
        #[test]
        fn rewritten_is_rebuilt_v4(
            which in 0..4usize, addrs in any::<[u32; 4]>(), ports in any::<[u16; 4]>(),
            data in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let [src, dst, src2, dst2] = addrs.map(Ipv4Addr::from);
            let given = ip(src, dst).with(body(which, ports[0], ports[1], &data)).bytes();
            let want = ip(src2, dst2).with(body(which, ports[2], ports[3], &data)).bytes();
            let mut bytes = given.clone();
            let rewrite = |bytes: &mut [u8], src, dst, sport, dport| {
                let mut ip = ipv4::Packet::parse(bytes).unwrap();
                let protocol = ip.protocol();
                let addr = ip.set_src(src).and(ip.set_dst(dst));
                let mut segment = Segment::parse(protocol, ip.payload_mut()).unwrap();
                let port = segment.set_src_port(sport).and(segment.set_dst_port(dport));
                segment.settle(addr.and(port));
            };
            rewrite(&mut bytes, src2, dst2, ports[2], ports[3]);
            prop_assert_eq!(&bytes, &want);
            rewrite(&mut bytes, src, dst, ports[0], ports[1]);
            prop_assert_eq!(&bytes, &given);
        }

        #[test]
        fn rewritten_is_rebuilt_v6(
            which in 0..4usize, addrs in any::<[u128; 4]>(), ports in any::<[u16; 4]>(),
            data in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let [src, dst, src2, dst2] = addrs.map(Ipv6Addr::from);
            let mut bytes = ip(src, dst).hop_by_hop().with(body(which, ports[0], ports[1], &data)).bytes();
            let want = ip(src2, dst2).hop_by_hop().with(body(which, ports[2], ports[3], &data)).bytes();
            let mut packet = ipv6::Packet::parse(&mut bytes[..]).unwrap();
            let upper = packet.upper().unwrap();
            let addr = packet.set_src(src2).and(packet.set_dst(dst2));
            let mut segment = Segment::parse(upper.protocol, packet.upper_payload_mut(&upper)).unwrap();
            let port = segment.set_src_port(ports[2]).and(segment.set_dst_port(ports[3]));
            segment.settle(addr.and(port));
            prop_assert_eq!(bytes, want);
        }

        #[test]
        fn a_quote_is_rewritten_as_far_as_it_goes(
            which in 0..3usize, addrs in any::<[u32; 2]>(), ports in any::<[u16; 3]>(), len in 8usize..40,
        ) {
            let [src, dst] = addrs.map(Ipv4Addr::from);
            let given = ip(src, src).with(body(which, ports[0], ports[1], b"data")).bytes();
            let want = ip(dst, src).with(body(which, ports[2], ports[1], b"data")).bytes();
            let len = len.min(given.len() - 20) + 20;
            let mut bytes = given[..len].to_vec();
            let mut ip = ipv4::Packet::parse_quoted(&mut bytes[..]).unwrap();
            let protocol = ip.protocol();
            let addr = ip.set_src(dst);
            let mut quoted = Quoted::parse(protocol, ip.payload_mut()).unwrap();
            let port = quoted.set_src_port(ports[2]);
            quoted.settle(addr.and(port));
            // A quote that ends in the first half of a TCP checksum cannot carry it.
            let end = if len == 37 { 36 } else { len };
            prop_assert_eq!(&bytes[..end], &want[..end]);
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..60), protocol in any::<u8>()) {
            for protocol in [Protocol(protocol), Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
                let _ = Segment::parse(protocol, &bytes[..]).map(|segment| segment.ports());
                let _ = Segment::parse_first_fragment(protocol, &bytes[..]);
                if let Ok(mut quoted) = Quoted::parse(protocol, &mut bytes[..]) {
                    let owed = quoted.set_dst_port(1);
                    quoted.settle(owed);
                }
            }
        }
    }
}
