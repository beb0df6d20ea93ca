//! ICMP messages of either family; the packet around them says which.

use std::net::IpAddr;

use super::body::transport_checksum;
use super::{Packet, checksum};
use crate::ip::Protocol;

/// An ICMP message to be.
#[derive(Clone, Debug)]
pub struct Icmp {
    kind: Kind,
    rest: u32,
    payload: Vec<u8>,
    spoil: u16,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Exact(u8, u8),
    EchoRequest,
    EchoReply,
}

/// A message of this type and code.
pub fn icmp(kind: u8, code: u8) -> Icmp {
    Icmp {
        kind: Kind::Exact(kind, code),
        rest: 0,
        payload: Vec::new(),
        spoil: 0,
    }
}

/// An echo request, of the family of the packet it is put into.
pub fn echo_request(id: u16, seq: u16) -> Icmp {
    Icmp {
        kind: Kind::EchoRequest,
        ..icmp(0, 0).rest(u32::from(id) << 16 | u32::from(seq))
    }
}

/// An echo reply, of the family of the packet it is put into.
pub fn echo_reply(id: u16, seq: u16) -> Icmp {
    Icmp {
        kind: Kind::EchoReply,
        ..echo_request(id, seq)
    }
}

impl Icmp {
    /// With these four octets after the checksum: MTU, identifier and sequence, pointer.
    pub fn rest(mut self, rest: u32) -> Self {
        self.rest = rest;
        self
    }

    /// With data.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// About this packet: all of it is quoted.
    pub fn quoting(self, packet: &Packet) -> Self {
        self.payload(packet.bytes())
    }

    /// About this packet: its first `len` octets are quoted.
    pub fn quoting_first(self, len: usize, packet: &Packet) -> Self {
        let mut bytes = packet.bytes();
        bytes.truncate(len);
        self.payload(bytes)
    }

    /// With a checksum that is wrong.
    pub fn bad_checksum(mut self) -> Self {
        self.spoil = 0x0101;
        self
    }

    /// The message, for a packet from `src` to `dst`.
    pub fn bytes(&self, src: IpAddr, dst: IpAddr) -> Vec<u8> {
        let v6 = src.is_ipv6() || dst.is_ipv6();
        let (kind, code) = match (self.kind, v6) {
            (Kind::Exact(kind, code), _) => (kind, code),
            (Kind::EchoRequest, false) => (8, 0),
            (Kind::EchoReply, false) => (0, 0),
            (Kind::EchoRequest, true) => (128, 0),
            (Kind::EchoReply, true) => (129, 0),
        };
        let mut out = vec![kind, code, 0, 0];
        out.extend(self.rest.to_be_bytes());
        out.extend(&self.payload);
        let sum = if v6 {
            transport_checksum(src, dst, Protocol::ICMPV6, &out)
        } else {
            checksum(&out)
        };
        out[2..4].copy_from_slice(&(sum ^ self.spoil).to_be_bytes());
        out
    }
}

pub(super) fn protocol(v6: bool) -> Protocol {
    if v6 { Protocol::ICMPV6 } else { Protocol::ICMP }
}
