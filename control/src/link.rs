//! Frames of ARP and IPv6 neighbour discovery: what the link itself is asked and told.

use wire::arp::{self, Arp, Operation};
use wire::ethernet::{self, EtherType, Mac};
use wire::ipv6;
use wire::ndp::{self, Kind, Message};

/// Octets of a frame without padding at least (IEEE 802.3 section 3.2.8, without the FCS).
const SHORTEST_FRAME: usize = 60;

/// A packet about who has which MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// IPv4.
    Arp(Arp),
    /// IPv6, with the MAC of the frame's sender.
    Discovery(Mac, Message),
}

/// What a frame of these classes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A question or an answer.
    Packet(Packet),
    /// Something else, for the kernel if it likes: router discovery, say.
    Other,
    /// Malformed: for nobody.
    Malformed,
}

impl Heard {
    /// Reads a frame.
    pub fn read(frame: &[u8]) -> Self {
        let Ok(frame) = ethernet::Frame::parse(frame) else {
            return Self::Malformed;
        };
        match frame.ethertype() {
            EtherType::ARP => match Arp::parse(frame.payload()) {
                Ok(arp) => Self::Packet(Packet::Arp(arp)),
                Err(_) => Self::Malformed,
            },
            EtherType::IPV6 => match discovery(frame.payload()) {
                Ok(message) => Self::Packet(Packet::Discovery(frame.src(), message)),
                Err(ndp::Error::Other) => Self::Other,
                Err(_) => Self::Malformed,
            },
            _ => Self::Other,
        }
    }
}

fn discovery(bytes: &[u8]) -> Result<Message, ndp::Error> {
    let packet = ipv6::Packet::parse(bytes).map_err(|_| ndp::Error::Other)?;
    Message::parse(&packet)
}

impl Packet {
    /// Whether it asks for an address, rather than tells of one.
    pub fn is_question(&self) -> bool {
        match self {
            Self::Arp(arp) => arp.operation == Operation::Request,
            Self::Discovery(_, message) => matches!(message.kind, Kind::Solicitation { .. }),
        }
    }

    /// The address that it asks for or is sent to, or tells of in discovery.
    pub fn target(&self) -> std::net::IpAddr {
        match self {
            Self::Arp(arp) => arp.target_ip.into(),
            Self::Discovery(_, message) => message.target.into(),
        }
    }

    /// The frame that carries it to `to`.
    pub fn frame(&self, to: Mac) -> Vec<u8> {
        let mut frame = vec![0; ethernet::LEN];
        let (from, kind, body) = match self {
            Self::Arp(arp) => {
                let mut body = [0; arp::LEN];
                arp.emit(&mut body);
                (arp.sender_mac, EtherType::ARP, body.to_vec())
            }
            Self::Discovery(from, message) => (*from, EtherType::IPV6, message.emit()),
        };
        if let Some(head) = frame.first_chunk_mut() {
            ethernet::emit(head, from, to, kind);
        }
        frame.extend(body);
        frame.resize(frame.len().max(SHORTEST_FRAME), 0);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEM: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_is_sent_is_read_again() {
        let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let packets = [
            (Packet::Arp(Arp::probe(US, [10, 0, 0, 1].into())), true),
            (
                Packet::Discovery(US, Message::solicitation(US, v6(1), v6(2))),
                true,
            ),
            (
                Packet::Discovery(US, Message::announcement(US, v6(1), false)),
                false,
            ),
        ];
        for (packet, question) in packets {
            let frame = packet.frame(THEM);
            assert!(frame.len() >= 60);
            assert_eq!(frame[..6], THEM.0);
            assert_eq!(Heard::read(&frame), Heard::Packet(packet));
            assert_eq!(packet.is_question(), question);
        }
    }

    #[test]
    fn what_is_neither_is_told_apart_from_what_is_broken() {
        let solicitation = Message::probe(Ipv6Addr::LOCALHOST);
        let mut broken = Packet::Discovery(US, solicitation).frame(THEM);
        broken[60] ^= 1;
        let ipv4 = |kind: EtherType| [&[0; 12][..], &kind.0.to_be_bytes(), &[0; 46]].concat();
        assert_eq!(Heard::read(&broken), Heard::Malformed);
        assert_eq!(Heard::read(&ipv4(EtherType::ARP)), Heard::Malformed);
        assert_eq!(Heard::read(&ipv4(EtherType::IPV4)), Heard::Other);
        assert_eq!(Heard::read(&[0; 13]), Heard::Malformed);
    }
}
