//! A packet that is made longer or shorter on its way: what its headers say of its length, and
//! the checksums that cover what was put in.
//!
//! Views never change a length; this is where it is done, on bytes, for both families.

use std::net::IpAddr;

use crate::bytes::{get16, put16};
use crate::checksum::{self, Delta, Sum, for_udp};
use crate::{Protocol, ipv4, ipv6, tcp, udp};

/// Where the parts of a TCP or UDP packet are: a whole one, or a first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where the transport header begins, in octets from the IP header.
    pub transport: usize,
    /// Where its data begin.
    pub data: usize,
    /// Where the packet ends: what follows is Ethernet's padding.
    pub end: usize,
    /// Whether it is no fragment.
    pub whole: bool,
}

impl Layout {
    /// The layout of the packet at the start of `packet`; `None` for one that has no whole TCP or
    /// UDP header.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let (src, dst, protocol, transport, end, whole) = match packet.first()? >> 4 {
            4 => {
                let ip = ipv4::Packet::parse(packet).ok()?;
                let first = ip.fragment_offset() == 0;
                first.then(|| {
                    let ends: (IpAddr, IpAddr) = (ip.src().into(), ip.dst().into());
                    let whole = !ip.is_fragment();
                    (
                        ends.0,
                        ends.1,
                        ip.protocol(),
                        ip.header_len(),
                        ip.total_len(),
                        whole,
                    )
                })?
            }
            6 => {
                let ip = ipv6::Packet::parse(packet).ok()?;
                let upper = ip.upper().ok()?;
                let part = upper.fragment.filter(|part| part.offset != 0 || part.more);
                let first = part.is_none_or(|part| part.offset == 0);
                first.then(|| {
                    let ends: (IpAddr, IpAddr) = (ip.src().into(), ip.dst().into());
                    let transport = ipv6::LEN + upper.offset;
                    let whole = part.is_none();
                    (
                        ends.0,
                        ends.1,
                        upper.protocol,
                        transport,
                        ip.total_len(),
                        whole,
                    )
                })?
            }
            _ => return None,
        };
        let segment = packet.get(transport..end)?;
        let header = match protocol {
            Protocol::TCP => tcp::Packet::parse(segment).ok()?.header_len(),
            Protocol::UDP if whole => {
                let datagram = udp::Packet::parse(segment).ok()?;
                // Data of IP that UDP doesn't count would come to lie elsewhere.
                (datagram.length() == segment.len()).then_some(udp::LEN)?
            }
            Protocol::UDP => udp::Packet::parse_first_fragment(segment)
                .ok()
                .map(|_| udp::LEN)?,
            _ => return None,
        };
        Some(Self {
            src,
            dst,
            protocol,
            transport,
            data: transport + header,
            end,
            whole,
        })
    }

    /// Whether the transport's checksum is right, or absent where it may be.
    pub fn is_intact(&self, packet: &[u8]) -> bool {
        match packet.get(self.transport..self.end) {
            Some(segment) if self.protocol == Protocol::UDP => {
                segment.get(6..8) == Some(&[0, 0]) || self.sum(segment).finish() == 0
            }
            Some(segment) => self.sum(segment).finish() == 0,
            None => false,
        }
    }

    fn sum(&self, segment: &[u8]) -> Sum {
        let len = u32::try_from(segment.len()).unwrap_or(u32::MAX);
        checksum::pseudo(self.src, self.dst, self.protocol, len).add_bytes(segment)
    }
}

/// Has the headers of a packet, whose data or options were exchanged, say what is there: `layout`
/// is how it is now. `None`, if it is longer than a packet may be.
pub fn settle(packet: &mut [u8], layout: &Layout) -> Option<()> {
    let len = u16::try_from(layout.end).ok()?;
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk_mut::<{ ipv4::LEN }>()?;
            let owed = Delta::u16(get16(header, 2), len);
            put16(header, 2, len);
            let checksum = owed.apply(get16(header, 10));
            put16(header, 10, checksum);
        }
        _ => {
            let header = packet.first_chunk_mut::<{ ipv6::LEN }>()?;
            put16(header, 4, len.checked_sub(40)?);
        }
    }
    let segment = packet.get_mut(layout.transport..layout.end)?;
    if layout.protocol == Protocol::UDP {
        let len = u16::try_from(segment.len()).ok()?;
        let header = segment.first_chunk_mut::<{ udp::LEN }>()?;
        put16(header, 4, len);
        if get16(header, 6) != 0 {
            put16(header, 6, 0);
            let checksum = for_udp(layout.sum(segment).finish());
            put16(segment.first_chunk_mut::<{ udp::LEN }>()?, 6, checksum);
        }
    } else {
        let words = u8::try_from((layout.data - layout.transport) / 4).ok()?;
        let header = segment.first_chunk_mut::<{ tcp::LEN }>()?;
        header[12] = words << 4 | header[12] & 0xf;
        put16(header, 16, 0);
        let checksum = layout.sum(segment).finish();
        put16(segment.first_chunk_mut::<{ tcp::LEN }>()?, 16, checksum);
    }
    Some(())
}
