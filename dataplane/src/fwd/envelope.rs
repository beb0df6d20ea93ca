//! What stands between a tunnel's outer header and the packet in it.
//!
//! ipip  [ outer                                     | packet ]
//! gre   [ outer | GRE, with a checksum if asked     | packet ]
//! gue   [ outer | UDP ephemeral > port | GUE        | packet ]
//!
//! GUE's source port comes from the connection's tuple, so that the network between spreads
//! connections over its links and real servers over their queues, and keeps each in order. With
//! a remote checksum the packet's own is left to the real server, which computes it from the
//! outer one; that is only done for a packet whose checksum was right, so that no damage is
//! made good on the way.

use std::net::IpAddr;

use wire::ethernet::EtherType;
use wire::gue::Remote;
use wire::{Protocol, checksum, gre, gue, udp};

use super::family::{Family, Ip, IpMut};
use crate::conn::{Address, Entry};

/// The encapsulation of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// None: the packet follows the outer header (RFC 2003, RFC 2473, RFC 4213).
    #[default]
    Ipip,
    /// Generic routing encapsulation (RFC 2784).
    Gre {
        /// Whether with a checksum.
        summed: bool,
    },
    /// Generic UDP encapsulation.
    Gue {
        /// The real server's UDP port.
        port: Port,
        /// What is summed.
        checksum: Checksum,
    },
}

/// What protects a packet in GUE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// The outer UDP checksum is absent, also over IPv6 (RFC 6935).
    #[default]
    None,
    /// The outer UDP checksum.
    Sum,
    /// The outer UDP checksum, and the packet's own is left to the receiver.
    Remote,
}

/// A UDP port, in two octets of no alignment: so a real server fits its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port([u8; 2]);

impl From<u16> for Port {
    fn from(port: u16) -> Self {
        Self(port.to_ne_bytes())
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        Self::from_ne_bytes(port.0)
    }
}

impl Envelope {
    /// Octets that it takes at most.
    #[inline]
    pub fn room(self) -> u16 {
        match self {
            Self::Ipip => 0,
            Self::Gre { summed: false } => 4,
            Self::Gre { summed: true } => 8,
            Self::Gue {
                checksum: Checksum::Remote,
                ..
            } => 8 + 12,
            Self::Gue { .. } => 8 + 4,
        }
    }

    /// The envelope for `packet`, of the connection `entry`. With a remote checksum the packet's
    /// own becomes the sum of its pseudo-header.
    #[inline]
    pub(super) fn seal<A: Family>(self, packet: &mut [u8], entry: &Entry<A>) -> Seal {
        match self {
            Self::Ipip => Seal::Ipip,
            Self::Gre { summed } => Seal::Gre { summed },
            Self::Gue { port, checksum } => Seal::Gue {
                header: udp::Header {
                    src_port: flow_port(entry),
                    dst_port: port.into(),
                },
                summed: checksum != Checksum::None,
                remote: (checksum == Checksum::Remote)
                    .then(|| leave_checksum::<A>(packet))
                    .flatten(),
            },
        }
    }
}

/// The envelope of one packet.
#[derive(Clone, Copy)]
pub(super) enum Seal {
    Ipip,
    Gre {
        summed: bool,
    },
    Gue {
        header: udp::Header,
        summed: bool,
        remote: Option<Remote>,
    },
}

impl Seal {
    /// Octets that it takes.
    #[inline]
    pub(super) fn room(self) -> u16 {
        match self {
            Self::Ipip => 0,
            Self::Gre { summed: false } => 4,
            Self::Gre { summed: true } => 8,
            Self::Gue { remote: None, .. } => 8 + 4,
            Self::Gue { .. } => 8 + 12,
        }
    }

    /// What the outer header says that follows it, around a packet that is `inner` to IPIP.
    #[inline]
    pub(super) fn protocol(self, inner: Protocol) -> Protocol {
        match self {
            Self::Ipip => inner,
            Self::Gre { .. } => Protocol::GRE,
            Self::Gue { .. } => Protocol::UDP,
        }
    }

    /// Writes it at the start of what the outer header carries between these ends.
    #[inline]
    pub(super) fn write(
        self,
        carried: &mut [u8],
        inner: Protocol,
        [src, dst]: [IpAddr; 2],
    ) -> Option<()> {
        match self {
            Self::Ipip => Some(()),
            Self::Gre { summed } => gre::write(carried, ethertype(inner), summed),
            Self::Gue {
                header,
                summed,
                remote,
            } => {
                header.write(carried)?;
                gue::write(carried.get_mut(udp::LEN..)?, inner, remote)?;
                if summed {
                    udp::write_checksum(carried, src, dst);
                }
                Some(())
            }
        }
    }
}

fn ethertype(inner: Protocol) -> EtherType {
    if inner == Protocol::IPIP {
        EtherType::IPV4
    } else {
        EtherType::IPV6
    }
}

/// A source port for the connection's outer packets: of those that both IANA (RFC 6335) and
/// Linux's default range call ephemeral. The same on every worker and in every run.
#[inline]
fn flow_port<A: Address>(entry: &Entry<A>) -> u16 {
    const FIRST: u16 = 49_152;
    const COUNT: u64 = 60_999 - 49_152 + 1;
    let ports = u64::from(entry.client_port) << 32 | u64::from(entry.vip_port);
    let ([a, b], [c, d]) = (entry.client.words(), entry.vip.words());
    let words = [a, b, c, d, ports | u64::from(entry.protocol) << 16];
    let hash = words.iter().fold(0, |hash, word| mix(hash ^ word));
    let nth = ((hash >> 32) * COUNT) >> 32;
    FIRST + u16::try_from(nth).expect("less than COUNT")
}

/// Every bit of the result depends on every bit of the word (Steele and others, "Fast splittable
/// pseudorandom number generators": the finaliser of splitmix64).
#[inline]
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Puts the sum of the pseudo-header where a TCP or UDP packet has its checksum, if that is
/// right; says where that is.
fn leave_checksum<A: Family>(packet: &mut [u8]) -> Option<Remote> {
    let (start, protocol, pseudo) = intact::<A>(packet)?;
    let at = match protocol {
        Protocol::TCP => 16,
        _ => 6,
    };
    let remote = Remote {
        start: u16::try_from(start).ok()?,
        field: u16::try_from(start + at).ok()?,
    };
    let field = packet.get_mut(start + at..)?.first_chunk_mut()?;
    *field = pseudo.to_be_bytes();
    Some(remote)
}

/// Where the transport header of a whole packet begins, its protocol and the sum of its
/// pseudo-header, if it has a checksum and that is right.
fn intact<A: Family>(packet: &mut [u8]) -> Option<(usize, Protocol, u16)> {
    let mut ip = A::open(packet, false).ok()?;
    if !ip.is_whole() {
        return None;
    }
    let (src, dst, end) = (ip.src().to_ip(), ip.dst().to_ip(), ip.total_len());
    let (protocol, bytes) = ip.upper_mut()?;
    let has_checksum = match protocol {
        Protocol::TCP => bytes.len() >= 18,
        Protocol::UDP => bytes.get(6..8).is_some_and(|sum| sum != [0, 0]),
        _ => false,
    };
    let len = u32::try_from(bytes.len()).ok()?;
    let pseudo = checksum::pseudo(src, dst, protocol, len);
    let right = has_checksum && pseudo.add_bytes(bytes).finish() == 0;
    right.then(|| (end - bytes.len(), protocol, pseudo.folded()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_connection_has_one_port_and_many_have_many() {
        let port = |client_port| {
            let mut entry = Entry::<u32>::default();
            (entry.client, entry.client_port) = (0xc000_0207, client_port);
            (entry.vip, entry.vip_port, entry.protocol) = (0x0a00_0001, 80, 6);
            flow_port(&entry)
        };
        assert_eq!(port(40_000), port(40_000));
        let ports: Vec<u16> = (1..=4096).map(port).collect();
        assert!(ports.iter().all(|port| (49_152..61_000).contains(port)));
        let different: HashSet<&u16> = ports.iter().collect();
        assert!(different.len() > 3400, "{} of 4096", different.len());
    }

    #[test]
    fn a_port_is_itself() {
        assert_eq!(u16::from(Port::from(6080)), 6080);
    }
}
