//! The transport header as the rewriters see it: ports, and a checksum that is owed.

use crate::bytes::Bytes;
use crate::checksum::Delta;
use crate::ip::Protocol;
use crate::{tcp, udp};

/// Why a payload is not a segment of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// Malformed TCP.
    Tcp(tcp::Error),
    /// Malformed UDP.
    Udp(udp::Error),
    /// A protocol without ports that we rewrite.
    Protocol(Protocol),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(error) => error.fmt(f),
            Self::Udp(error) => error.fmt(f),
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

/// A well-formed segment of a protocol with ports.
#[derive(Debug)]
pub enum Segment<B: Bytes> {
    /// TCP.
    Tcp(tcp::Packet<B>),
    /// UDP.
    Udp(udp::Packet<B>),
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
            other => Err(Error::Protocol(other)),
        }
    }

    /// As [`parse`](Self::parse) for the payload of a first fragment: the header must be whole,
    /// the data may be continued elsewhere.
    ///
    /// # Errors
    /// The protocol's own error, or [`Error::Protocol`].
    #[inline]
    pub fn parse_first_fragment(protocol: Protocol, bytes: B) -> Result<Self, Error> {
        match protocol {
            Protocol::UDP => Ok(Self::Udp(udp::Packet::parse_first_fragment(bytes)?)),
            other => Self::parse(other, bytes),
        }
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        match self {
            Self::Tcp(tcp) => tcp.src_port(),
            Self::Udp(udp) => udp.src_port(),
        }
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        match self {
            Self::Tcp(tcp) => tcp.dst_port(),
            Self::Udp(udp) => udp.dst_port(),
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
        }
    }

    /// Replaces the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) -> Delta {
        match self {
            Self::Tcp(tcp) => tcp.set_dst_port(port),
            Self::Udp(udp) => udp.set_dst_port(port),
        }
    }

    /// Pays what rewrites of addresses and ports owe to the checksum.
    #[inline]
    pub fn settle(&mut self, owed: Delta) {
        match self {
            Self::Tcp(tcp) => tcp.settle(owed),
            Self::Udp(udp) => udp.settle(owed),
        }
    }
}
