//! ICMP errors between the families, made anew: RFC 7915 sections 4.2 to 4.5 and 5.2 to 5.5.
//!
//! from the client's side, about what the real server sent
//! in   [ IPv6 router > VIP  | ICMPv6 error | VIP:vport  > client:cport .. ]
//! out  [ IPv4 local > real  | ICMP error   | real:rport > local:lport  .. ]
//!
//! from the real server's side, about what we sent it
//! in   [ IPv4 router > local | ICMP error   | local:lport  > real:rport .. ]
//! out  [ IPv6 VIP > client   | ICMPv6 error | client:cport > VIP:vport  .. ]
//!
//! The quoted packet is translated like any other, as far as it is there. What a message has
//! behind it (RFC 4884) is left out, and the message shortened to what an error may be long.

use std::net::{IpAddr, Ipv4Addr};

use wire::segment::Quoted;
use wire::{Delta, EtherType, Protocol, checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6};

use super::{
    GROWTH, LEAST_V6_MTU, MAY_BE_CUT, Part, as_v6, check_extensions, ends_v4, low_half, place,
    split, write_fragment,
};
use crate::conn::{Address, Entry, Key};
use crate::fwd::Link;
use crate::fwd::icmp::quoted_flow;
use crate::parse::Shape;
use crate::port::Frame;
use crate::verdict::Reason;

/// Octets of an ICMP header of either family.
const ICMP_LEN: usize = 8;
const _: () = assert!(ICMP_LEN == icmpv4::LEN && ICMP_LEN == icmpv6::LEN);

/// Path MTUs that old routers, which don't tell, are taken to mean (RFC 1191 section 7.1).
const PLATEAUS: [u16; 10] = [
    32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68,
];

/// What an error says, in either family: type, code and the four octets behind the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message(u8, u8, u32);

/// The tuple of the packets that go the other way than the one that the ICMP error in the IPv4
/// packet in `frame` is about: that of a real server's packets, if the error is about ours. Of
/// any type that RFC 7915 knows, where the checksum is right and the ports are quoted.
pub fn about_ours(frame: &[u8]) -> Option<Key<u32>> {
    let (_, message) = carried_v4(frame)?;
    let icmp = icmpv4::Packet::parse(message).ok()?;
    if !icmp.kind().is_error() || !icmp.verify_checksum() {
        return None;
    }
    let (key, _) = quoted_flow::<u32>(icmp.into_payload())?;
    Some(key.reversed())
}

/// An ICMP error in the other family, whole.
#[derive(Clone, Debug)]
pub struct Error {
    packet: [u8; icmpv6::ERROR_LEN],
    len: usize,
    ethertype: EtherType,
    /// Hops that were left when it came.
    hops: u8,
}

impl Error {
    /// A real server's side's error in `frame` for the connection's client; `mtu` is that of the
    /// link towards him in octets.
    ///
    /// # Errors
    /// [`Reason::Untranslatable`] where IPv6 has no such error.
    pub fn to_client<A: Address>(frame: &[u8], entry: &Entry<A>, mtu: u16) -> Result<Self, Reason> {
        let none = Reason::Untranslatable;
        let (ip, message) = carried_v4(frame).ok_or(none)?;
        let icmp = icmpv4::Packet::parse(message).map_err(|_| none)?;
        let said = Message(icmp.kind().0, icmp.code(), icmp.rest());
        let quoted = without_extensions(icmp.into_payload(), said.2 >> 16, 4);
        let quoted = ipv4::Packet::parse_quoted(quoted).map_err(|_| none)?;
        let told = to_v6(said, quoted.total_len(), mtu).ok_or(none)?;
        let (src, dst) = (as_v6(entry.vip.to_ip()), as_v6(entry.client.to_ip()));
        let mut out = [0; icmpv6::ERROR_LEN];
        let (head, body) = out.split_first_chunk_mut::<{ ipv6::LEN }>().ok_or(none)?;
        let len = {
            let (_, quote) = body.split_at_mut_checked(ICMP_LEN).ok_or(none)?;
            ICMP_LEN + quote_v6(quote, &quoted, entry).ok_or(none)?
        };
        let message = body.get_mut(..len).ok_or(none)?;
        told.write(message, |message| {
            checksum::transport(src.into(), dst.into(), Protocol::ICMPV6, message)
        });
        ipv6::Header {
            src,
            dst,
            next_header: Protocol::ICMPV6,
            hop_limit: ip.ttl().saturating_sub(1),
            traffic_class: ip.tos(),
            flow_label: 0,
            payload_len: u16::try_from(len).map_err(|_| none)?,
        }
        .emit(head);
        Ok(Self {
            packet: out,
            len: ipv6::LEN + len,
            ethertype: EtherType::IPV6,
            hops: ip.ttl(),
        })
    }

    /// A client's side's error in `frame` for the connection's real server; `mtu` is that of the
    /// link towards it in octets, `id` what the packet is known by.
    ///
    /// # Errors
    /// [`Reason::Untranslatable`] where IPv4 has no such error, or the real server is not IPv4.
    pub fn to_real<A: Address>(
        frame: &[u8],
        entry: &Entry<A>,
        mtu: u16,
        id: u16,
    ) -> Result<Self, Reason> {
        let none = Reason::Untranslatable;
        let (local, real) = ends_v4(entry).ok_or(none)?;
        let packet = frame.get(ethernet::LEN..).ok_or(none)?;
        let ip = ipv6::Packet::parse(packet).map_err(|_| none)?;
        let upper = ip.upper().map_err(|_| none)?;
        let icmp = icmpv6::Packet::parse(ip.upper_payload(&upper)).map_err(|_| none)?;
        let said = Message(icmp.kind().0, icmp.code(), icmp.rest());
        let told = to_v4(said, mtu).ok_or(none)?;
        let length = match icmp.kind() {
            icmpv6::Type::UNREACHABLE | icmpv6::Type::TIME_EXCEEDED => said.2 >> 24,
            _ => 0,
        };
        let quoted = without_extensions(icmp.into_payload(), length, 8);
        let quoted = ipv6::Packet::parse_quoted(quoted).map_err(|_| none)?;
        let mut out = [0; icmpv6::ERROR_LEN];
        let room = out.get_mut(..icmpv4::ERROR_LEN).ok_or(none)?;
        let (head, body) = room.split_first_chunk_mut::<{ ipv4::LEN }>().ok_or(none)?;
        let len = {
            let (_, quote) = body.split_at_mut_checked(ICMP_LEN).ok_or(none)?;
            ICMP_LEN + quote_v4(quote, &quoted, entry).ok_or(none)?
        };
        let message = body.get_mut(..len).ok_or(none)?;
        told.write(message, checksum::of);
        ipv4::Header {
            src: local,
            dst: real,
            protocol: Protocol::ICMP,
            ttl: ip.hop_limit().saturating_sub(1),
            tos: ip.traffic_class(),
            id,
            dont_fragment: false,
            payload_len: u16::try_from(len).map_err(|_| none)?,
        }
        .emit(head);
        Ok(Self {
            packet: out,
            len: ipv4::LEN + len,
            ethertype: EtherType::IPV4,
            hops: ip.hop_limit(),
        })
    }

    /// What the next link asks.
    pub fn shape(&self) -> Shape {
        Shape {
            length: u32::try_from(self.len).expect("1280 at most"),
            ttl: self.hops,
            dont_fragment: self.ethertype == EtherType::IPV6,
        }
    }

    /// Puts it in the place of the packet in `frame`.
    ///
    /// # Errors
    /// [`Reason::Oversize`] where there is no room; the frame is then good for nothing.
    pub fn write<F: Frame>(&self, frame: &mut F, link: Link) -> Result<(), Reason> {
        let want = ethernet::LEN + self.len;
        let have = frame.bytes().len();
        frame.truncate(want);
        if want > have && !frame.append(want - have) {
            return Err(Reason::Oversize);
        }
        let (head, rest) = split(frame.bytes_mut())?;
        ethernet::emit(head, link.ours, link.next, self.ethertype);
        let packet = self.packet.get(..self.len).unwrap_or_default();
        for (to, from) in rest.iter_mut().zip(packet) {
            *to = *from;
        }
        Ok(())
    }
}

impl Message {
    /// Writes the header of `message`; the rest of it is there.
    fn write(self, message: &mut [u8], checksum: impl FnOnce(&[u8]) -> u16) {
        let Message(kind, code, rest) = self;
        if let Some(head) = message.first_chunk_mut::<ICMP_LEN>() {
            let [a, b, c, d] = rest.to_be_bytes();
            *head = [kind, code, 0, 0, a, b, c, d];
        }
        let sum = checksum(message);
        if let Some(head) = message.first_chunk_mut::<4>() {
            let [high, low] = sum.to_be_bytes();
            (head[2], head[3]) = (high, low);
        }
    }
}

/// The message of the ICMP error in the IPv4 packet in `frame`.
fn carried_v4(frame: &[u8]) -> Option<(ipv4::Packet<&[u8]>, &[u8])> {
    let ip = ipv4::Packet::parse(frame.get(ethernet::LEN..)?).ok()?;
    let is_icmp = ip.protocol() == Protocol::ICMP && !ip.is_fragment();
    is_icmp.then(|| (ip, ip.into_payload()))
}

/// A quote without the extensions behind it: `length` says in words of `word` octets how long it
/// is, or in an older message nothing (RFC 4884 section 4).
fn without_extensions(quoted: &[u8], length: u32, word: usize) -> &[u8] {
    match usize::from(length.to_be_bytes()[3]) * word {
        0 => quoted,
        end => quoted.get(..end).unwrap_or(quoted),
    }
}

/// Section 4.2. `length` is that of the packet that the error is about.
fn to_v6(Message(kind, code, rest): Message, length: usize, mtu: u16) -> Option<Message> {
    const NEXT_HEADER: u32 = 6;
    Some(match (kind, code) {
        (3, 0 | 1 | 5..=8 | 11 | 12) => Message(1, 0, 0),
        (3, 2) => Message(4, 1, NEXT_HEADER),
        (3, 3) => Message(1, 4, 0),
        (3, 4) => Message(2, 0, path_v6(rest & 0xffff, length, mtu)),
        (3, 9 | 10 | 13 | 15) => Message(1, 1, 0),
        (11, code) => Message(3, code, 0),
        (12, 0 | 2) => Message(4, 0, pointer_v6(rest >> 24)?),
        _ => return None,
    })
}

/// The path MTU that the client is told: as much wider as its packets are longer, and never less
/// than what he has to be content with.
fn path_v6(told: u32, length: usize, mtu: u16) -> u32 {
    let guessed = || {
        let below = PLATEAUS
            .iter()
            .find(|&&plateau| usize::from(plateau) < length);
        below.map_or(0, |&plateau| u32::from(plateau))
    };
    let told = if told == 0 { guessed() } else { told };
    let wide = (told + u32::from(GROWTH)).min(mtu.into());
    wide.max(LEAST_V6_MTU.into())
}

/// Where in an IPv6 header the field is that an IPv4 header has at `pointer` (figure 3).
fn pointer_v6(pointer: u32) -> Option<u32> {
    Some(match pointer {
        0 | 1 => pointer,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}

/// Section 5.2.
fn to_v4(Message(kind, code, rest): Message, mtu: u16) -> Option<Message> {
    Some(match (kind, code) {
        (1, 0 | 2 | 3) => Message(3, 1, 0),
        (1, 1) => Message(3, 10, 0),
        (1, 4) => Message(3, 3, 0),
        (2, _) => Message(3, 4, path_v4(rest, mtu)),
        (3, code) => Message(11, code, 0),
        (4, 0) => Message(12, 0, pointer_v4(rest)? << 24),
        (4, 1) => Message(3, 2, 0),
        _ => return None,
    })
}

/// The path MTU that the real server is told: as much narrower as its packets become longer. What
/// no IPv6 link may be (less than 1280 octets) is not believed.
fn path_v4(told: u32, mtu: u16) -> u32 {
    let told = told.clamp(LEAST_V6_MTU.into(), u16::MAX.into());
    (told - u32::from(GROWTH)).min(mtu.into())
}

/// Where in an IPv4 header the field is that an IPv6 header has at `pointer` (figure 6).
fn pointer_v4(pointer: u32) -> Option<u32> {
    Some(match pointer {
        0 | 1 => pointer,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

/// The quoted packet, which we sent to the real server, as the client sent it.
fn quote_v6<A: Address>(
    out: &mut [u8],
    quoted: &ipv4::Packet<&[u8]>,
    entry: &Entry<A>,
) -> Option<usize> {
    let (src, dst) = (as_v6(entry.client.to_ip()), as_v6(entry.vip.to_ip()));
    let part = quoted.is_fragment().then(|| Part {
        offset: quoted.fragment_offset(),
        more: quoted.more_fragments(),
    });
    let fragment_len = part.map_or(0, |_| ipv6::FRAGMENT_LEN);
    let carried = quoted.total_len().checked_sub(quoted.header_len())?;
    let (head, rest) = out.split_first_chunk_mut::<{ ipv6::LEN }>()?;
    ipv6::Header {
        src,
        dst,
        next_header: part.map_or(quoted.protocol(), |_| Protocol::FRAGMENT),
        hop_limit: quoted.ttl(),
        traffic_class: quoted.tos(),
        flow_label: 0,
        payload_len: u16::try_from(carried + fragment_len).ok()?,
    }
    .emit(head);
    let (header, rest) = rest.split_at_mut_checked(fragment_len)?;
    if let Some(part) = part {
        write_fragment(header, quoted.protocol(), part, quoted.id());
    }
    let (old, new) = ((quoted.src(), quoted.dst()), (src, dst));
    let owed = owed((old.0.into(), old.1.into()), (new.0.into(), new.1.into()));
    let ports = (entry.client_port, entry.vip_port);
    let len = transport(rest, (quoted.protocol(), quoted.payload()), owed, ports)?;
    Some(ipv6::LEN + fragment_len + len)
}

/// The quoted packet, which we sent to the client, as the real server sent it.
fn quote_v4<A: Address>(
    out: &mut [u8],
    quoted: &ipv6::Packet<&[u8]>,
    entry: &Entry<A>,
) -> Option<usize> {
    let (dst, src): (Ipv4Addr, Ipv4Addr) = ends_v4(entry)?;
    let upper = quoted.upper().ok()?;
    check_extensions(quoted, &upper).ok()?;
    let carried = quoted.payload_len().checked_sub(upper.offset)?;
    let payload_len = u16::try_from(carried).ok()?;
    let (head, rest) = out.split_first_chunk_mut::<{ ipv4::LEN }>()?;
    ipv4::Header {
        src,
        dst,
        protocol: upper.protocol,
        ttl: quoted.hop_limit(),
        tos: quoted.traffic_class(),
        id: upper.fragment.map_or(0, |part| low_half(part.id)),
        dont_fragment: upper.fragment.is_none() && carried + ipv4::LEN > MAY_BE_CUT as usize,
        payload_len,
    }
    .emit(head);
    if let Some(part) = upper.fragment {
        let (offset, more) = (part.offset, part.more);
        place(&mut head[..], Part { offset, more });
    }
    let (old, new) = ((quoted.src(), quoted.dst()), (src, dst));
    let owed = owed((old.0.into(), old.1.into()), (new.0.into(), new.1.into()));
    let ports = (entry.real_port, entry.local_port);
    let payload = quoted.upper_payload(&upper);
    let len = transport(rest, (upper.protocol, payload), owed, ports)?;
    Some(ipv4::LEN + len)
}

fn owed(old: (IpAddr, IpAddr), new: (IpAddr, IpAddr)) -> Delta {
    Delta::addr(old.0, new.0).and(Delta::addr(old.1, new.1))
}

/// Copies as much of a quoted segment as there is room for, and rewrites its ports and checksum.
fn transport(
    out: &mut [u8],
    (protocol, quoted): (Protocol, &[u8]),
    owed: Delta,
    ports: (u16, u16),
) -> Option<usize> {
    let len = quoted.len().min(out.len());
    let out = out.get_mut(..len)?;
    out.copy_from_slice(quoted.get(..len)?);
    let mut segment = Quoted::parse(protocol, &mut *out).ok()?;
    let from = segment.set_src_port(ports.0);
    let to = segment.set_dst_port(ports.1);
    segment.settle(owed.and(from).and(to));
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn types_and_codes_towards_the_client() {
        let (unreachable, prohibited, port) = (Message(1, 0, 0), Message(1, 1, 0), Message(1, 4, 0));
        let cases = [
            (Message(3, 0, 0),          Some(unreachable)),
            (Message(3, 1, 0),          Some(unreachable)),
            (Message(3, 2, 0),          Some(Message(4, 1, 6))),
            (Message(3, 3, 0),          Some(port)),
            (Message(3, 4, 1400),       Some(Message(2, 0, 1420))),
            (Message(3, 4, 9000),       Some(Message(2, 0, 1500))),
            (Message(3, 4, 68),         Some(Message(2, 0, 1280))),
            (Message(3, 4, 0),          Some(Message(2, 0, 1280))),
            (Message(3, 5, 0),          Some(unreachable)),
            (Message(3, 8, 0),          Some(unreachable)),
            (Message(3, 9, 0),          Some(prohibited)),
            (Message(3, 10, 0),         Some(prohibited)),
            (Message(3, 11, 0),         Some(unreachable)),
            (Message(3, 12, 0),         Some(unreachable)),
            (Message(3, 13, 0),         Some(prohibited)),
            (Message(3, 14, 0),         None),
            (Message(3, 15, 0),         Some(prohibited)),
            (Message(3, 16, 0),         None),
            (Message(4, 0, 0),          None),
            (Message(5, 0, 0),          None),
            (Message(11, 0, 0),         Some(Message(3, 0, 0))),
            (Message(11, 1, 0),         Some(Message(3, 1, 0))),
            (Message(12, 0, 1 << 24),   Some(Message(4, 0, 1))),
            (Message(12, 0, 3 << 24),   Some(Message(4, 0, 4))),
            (Message(12, 0, 4 << 24),   None),
            (Message(12, 0, 8 << 24),   Some(Message(4, 0, 7))),
            (Message(12, 0, 9 << 24),   Some(Message(4, 0, 6))),
            (Message(12, 0, 10 << 24),  None),
            (Message(12, 2, 13 << 24),  Some(Message(4, 0, 8))),
            (Message(12, 2, 19 << 24),  Some(Message(4, 0, 24))),
            (Message(12, 1, 0),         None),
            (Message(12, 0, 20 << 24),  None),
        ];
        for (said, want) in cases {
            assert_eq!(to_v6(said, 1300, 1500), want, "{said:?}");
        }
        assert_eq!(to_v6(Message(3, 4, 0), 1493, 1500), Some(Message(2, 0, 1500)), "a plateau");
    }

    #[test]
    #[rustfmt::skip]
    fn types_and_codes_towards_the_real_server() {
        let cases = [
            (Message(1, 0, 0),      Some(Message(3, 1, 0))),
            (Message(1, 1, 0),      Some(Message(3, 10, 0))),
            (Message(1, 2, 0),      Some(Message(3, 1, 0))),
            (Message(1, 3, 0),      Some(Message(3, 1, 0))),
            (Message(1, 4, 0),      Some(Message(3, 3, 0))),
            (Message(1, 5, 0),      None),
            (Message(2, 0, 1400),   Some(Message(3, 4, 1380))),
            (Message(2, 0, 100),    Some(Message(3, 4, 1260))),
            (Message(2, 0, 1 << 30), Some(Message(3, 4, 1500))),
            (Message(3, 0, 0),      Some(Message(11, 0, 0))),
            (Message(3, 1, 0),      Some(Message(11, 1, 0))),
            (Message(4, 0, 0),      Some(Message(12, 0, 0))),
            (Message(4, 0, 1),      Some(Message(12, 0, 1 << 24))),
            (Message(4, 0, 2),      None),
            (Message(4, 0, 5),      Some(Message(12, 0, 2 << 24))),
            (Message(4, 0, 6),      Some(Message(12, 0, 9 << 24))),
            (Message(4, 0, 7),      Some(Message(12, 0, 8 << 24))),
            (Message(4, 0, 23),     Some(Message(12, 0, 12 << 24))),
            (Message(4, 0, 24),     Some(Message(12, 0, 16 << 24))),
            (Message(4, 0, 40),     None),
            (Message(4, 1, 0),      Some(Message(3, 2, 0))),
            (Message(4, 2, 0),      None),
            (Message(100, 0, 0),    None),
        ];
        for (said, want) in cases {
            assert_eq!(to_v4(said, 1500), want, "{said:?}");
        }
    }

    #[test]
    fn extensions_are_left_out() {
        let quoted = [7; 200];
        assert_eq!(without_extensions(&quoted, 0, 4).len(), 200);
        assert_eq!(without_extensions(&quoted, 32, 4).len(), 128);
        assert_eq!(without_extensions(&quoted, 16, 8).len(), 128);
        assert_eq!(without_extensions(&quoted, 255, 8).len(), 200);
    }
}
