//! ARP for IPv4 on Ethernet (RFC 826; probes and announcements RFC 5227).
//!
//! Twenty-eight octets that are read once and answered from control, so this is a plain value
//! and no view.

use std::net::Ipv4Addr;

use crate::bytes::{get, get16, put, put16};
use crate::ethernet::Mac;

/// Octets of the packet; Ethernet pads it to 46.
pub const LEN: usize = 28;

const ETHERNET: u16 = 1;
const IPV4: u16 = 0x0800;

/// What an ARP packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has.
    Reply,
}

errors! {
    /// Why bytes are not ARP for IPv4 on Ethernet.
    pub enum Error {
        /// Fewer than 28 octets.
        Truncated => "the ARP packet is shorter than 28 octets",
        /// Another hardware or protocol type, or other address lengths.
        Kind => "the ARP packet is not about IPv4 on Ethernet",
        /// Neither request nor reply (RARP, for one).
        Operation => "the ARP operation is neither request nor reply",
    }
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's MAC.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe.
    pub sender_ip: Ipv4Addr,
    /// The target's MAC; zero in a request, as nobody looks at it.
    pub target_mac: Mac,
    /// The target's address.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Reads a packet; what follows its 28 octets is padding.
    ///
    /// # Errors
    /// One [`Error`] for each way of not being one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let head: &[u8; LEN] = bytes.first_chunk().ok_or(Error::Truncated)?;
        if get16(head, 0) != ETHERNET || get16(head, 2) != IPV4 || head[4..6] != [6, 4] {
            return Err(Error::Kind);
        }
        let operation = match get16(head, 6) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Error::Operation),
        };
        Ok(Self {
            operation,
            sender_mac: Mac(get(head, 8)),
            sender_ip: get::<4>(head, 14).into(),
            target_mac: Mac(get(head, 18)),
            target_ip: get::<4>(head, 24).into(),
        })
    }

    /// Writes the packet.
    pub fn emit(&self, out: &mut [u8; LEN]) {
        put16(out, 0, ETHERNET);
        put16(out, 2, IPV4);
        put(out, 4, [6, 4]);
        put16(
            out,
            6,
            match self.operation {
                Operation::Request => 1,
                Operation::Reply => 2,
            },
        );
        put(out, 8, self.sender_mac.0);
        put(out, 14, self.sender_ip.octets());
        put(out, 18, self.target_mac.0);
        put(out, 24, self.target_ip.octets());
    }

    /// Asks for the MAC of `target_ip`.
    pub fn request(sender_mac: Mac, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac,
            sender_ip,
            target_mac: Mac::ZERO,
            target_ip,
        }
    }

    /// Asks whether anybody uses `target_ip`, claiming nothing (RFC 5227 section 2.1.1).
    pub fn probe(sender_mac: Mac, target_ip: Ipv4Addr) -> Self {
        Self::request(sender_mac, Ipv4Addr::UNSPECIFIED, target_ip)
    }

    /// Tells everybody that `ip` is at `mac` (RFC 5227 section 2.3): a request for one's own
    /// address, which stacks that ignore stray replies heed too.
    pub fn announcement(mac: Mac, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// The answer to this request, from `mac`, which has the address asked for.
    #[must_use]
    pub fn reply(&self, mac: Mac) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Is this a probe: a request from nobody?
    pub fn is_probe(&self) -> bool {
        self.operation == Operation::Request && self.sender_ip.is_unspecified()
    }

    /// Is this gratuitous: about the sender's own address?
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEM: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[rustfmt::skip]
    const REQUEST: [u8; LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1,
        2, 0, 0, 0, 0, 2, 192, 0, 2, 7,
        0, 0, 0, 0, 0, 0, 192, 0, 2, 10,
    ];

    #[test]
    fn a_request_and_its_answer() {
        let request = Arp::parse(&REQUEST).unwrap();
        assert_eq!(request, Arp::request(THEM, CLIENT, VIP));
        let mut out = [0xaa; LEN];
        request.emit(&mut out);
        assert_eq!(out, REQUEST);
        let reply = request.reply(US);
        reply.emit(&mut out);
        #[rustfmt::skip]
        assert_eq!(out, [
            0, 1, 8, 0, 6, 4, 0, 2,
            2, 0, 0, 0, 0, 1, 192, 0, 2, 10,
            2, 0, 0, 0, 0, 2, 192, 0, 2, 7,
        ]);
        assert_eq!(Arp::parse(&out), Ok(reply));
    }

    #[test]
    fn probes_and_announcements() {
        let (probe, announcement) = (Arp::probe(US, VIP), Arp::announcement(US, VIP));
        assert!(probe.is_probe() && !probe.is_gratuitous());
        assert!(announcement.is_gratuitous() && !announcement.is_probe());
    }

    #[test]
    fn malformed() {
        for len in 0..LEN {
            assert_eq!(Arp::parse(&REQUEST[..len]), Err(Error::Truncated));
        }
        let cases = [
            (1, 6, Error::Kind),
            (2, 0x86, Error::Kind),
            (4, 8, Error::Kind),
            (5, 16, Error::Kind),
            (7, 3, Error::Operation),
            (7, 0, Error::Operation),
        ];
        for (at, value, want) in cases {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert_eq!(Arp::parse(&bytes), Err(want), "octet {at} = {value}");
        }
    }
}
