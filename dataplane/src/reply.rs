//! Packets of our own making: ICMP errors about a packet that goes nowhere, and the answer to
//! an echo request for a VIP.
//!
//! An error comes from the VIP, so that the client knows whom it was about, and goes back the
//! way the packet came: by the same port, to the MAC that sent it.

use std::net::Ipv4Addr;

use wire::ethernet::{self, EtherType};
use wire::{Protocol, checksum, ipv4};

use crate::port::Frame;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const ICMP_HEADER: usize = 8;
/// The largest ICMP error (RFC 1812 §4.3.2.3), in octets of IP.
const LARGEST: usize = 576;
const TTL: u8 = 64;

/// An ICMP error to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub kind: Kind,
    /// Whom it comes from.
    pub source: Ipv4Addr,
}

/// What an ICMP error says (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Port unreachable, 3/3.
    PortUnreachable,
    /// Time to live exceeded in transit, 11/0.
    TimeExceeded,
    /// Fragmentation needed and DF set, 3/4 (RFC 1191 §4).
    FragmentationNeeded {
        /// The next link's MTU.
        mtu: u16,
    },
}

impl Kind {
    /// Type, code and the second word of the header.
    fn header(self) -> (u8, u8, u32) {
        match self {
            Self::PortUnreachable => (UNREACHABLE, 3, 0),
            Self::TimeExceeded => (TIME_EXCEEDED, 0, 0),
            Self::FragmentationNeeded { mtu } => (UNREACHABLE, 4, u32::from(mtu)),
        }
    }
}

impl Reply {
    /// Writes the error about the IPv4 frame `about` into the empty frame `made`; `false` if
    /// there is no room for it.
    pub fn write<F: Frame>(&self, about: &[u8], made: &mut F) -> bool {
        let Ok(ethernet) = ethernet::Frame::parse(about) else {
            return false;
        };
        let Ok(packet) = ipv4::Packet::parse(ethernet.payload()) else {
            return false;
        };
        let quoted = packet.total_len().min(LARGEST - ipv4::LEN - ICMP_HEADER);
        let quote = &ethernet.payload()[..quoted];
        let length = ipv4::LEN + ICMP_HEADER + quoted;
        if !made.append(ethernet::LEN + length) {
            return false;
        }
        let Some((head, rest)) = made.bytes_mut().split_first_chunk_mut() else {
            return false;
        };
        ethernet::emit(head, ethernet.dst(), ethernet.src(), EtherType::IPV4);
        let Some((head, message)) = rest.split_first_chunk_mut() else {
            return false;
        };
        self.header(packet.src(), ICMP_HEADER + quoted).emit(head);
        let (kind, code, word) = self.kind.header();
        message[..4].copy_from_slice(&[kind, code, 0, 0]);
        message[4..ICMP_HEADER].copy_from_slice(&word.to_be_bytes());
        message[ICMP_HEADER..].copy_from_slice(quote);
        let sum = checksum::of(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        true
    }

    fn header(&self, to: Ipv4Addr, octets: usize) -> ipv4::Header {
        ipv4::Header {
            src: self.source,
            dst: to,
            protocol: Protocol::ICMP,
            ttl: TTL,
            tos: 0,
            id: 0,
            dont_fragment: true,
            payload_len: u16::try_from(octets).expect("at most 576"),
        }
    }
}

/// Turns an ICMP echo request into its answer, in place; `false`, and no change, if it is
/// none. A fragment is none: it can't be answered alone.
pub fn echo<F: Frame>(frame: &mut F) -> bool {
    let Ok(mut ethernet) = ethernet::Frame::parse(frame.bytes_mut()) else {
        return false;
    };
    let (from, to) = (ethernet.src(), ethernet.dst());
    let Ok(mut ip) = ipv4::Packet::parse(ethernet.payload_mut()) else {
        return false;
    };
    let whole = !ip.is_fragment() && ip.payload().len() >= ICMP_HEADER;
    if !whole || ip.payload()[..2] != [ECHO_REQUEST, 0] || checksum::of(ip.payload()) != 0 {
        return false;
    }
    let (client, vip) = (ip.src(), ip.dst());
    // ICMP's checksum covers no address: nothing is owed.
    let _ = ip.set_src(vip).and(ip.set_dst(client));
    ip.set_ttl(TTL);
    let message = ip.payload_mut();
    message[0] = ECHO_REPLY;
    message[2..4].fill(0);
    let sum = checksum::of(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let end = ethernet::LEN + ip.total_len();
    ethernet.set_macs(to, from);
    frame.truncate(end);
    true
}
