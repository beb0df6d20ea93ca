//! One line for people about a frame or packet, as trace and logs show it:
//! `192.0.2.7:40000 > 10.0.0.1:80 tcp S ttl 64 len 60`.
//!
//! It never fails: what cannot be read is shown as far as it can, then why not.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use crate::arp::{Arp, Operation};
use crate::ethernet::{self, EtherType};
use crate::ip::Protocol;
use crate::segment::{Quoted, Segment};
use crate::{icmpv4, icmpv6, ipv4, ipv6, vlan};

/// Shows an Ethernet frame: what it carries, with the VLAN before it where there is one.
///
/// ```
/// use wire::build::{ip, tcp};
/// use wire::{Mac, display};
///
/// let frame = ip([192, 0, 2, 7], [10, 0, 0, 1]).with(tcp(40000, 80).syn()).ether(Mac::ZERO, Mac::ZERO).bytes();
/// assert_eq!(display::Frame(&frame).to_string(), "192.0.2.7:40000 > 10.0.0.1:80 tcp S ttl 64 len 40");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>(pub &'a [u8]);

/// Shows an IP packet of either family.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a>(pub &'a [u8]);

impl Display for Frame<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match ethernet::Frame::parse(self.0) {
            Ok(frame) => carried(f, frame.ethertype(), frame.into_payload()),
            Err(error) => malformed(f, &error),
        }
    }
}

impl Display for Packet<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        show(f, self.0, false)
    }
}

fn malformed(f: &mut Formatter<'_>, error: &dyn Display) -> fmt::Result {
    write!(f, "malformed: {error}")
}

/// Tags are few: a frame is as long as it is, and each takes four octets off it.
fn carried(f: &mut Formatter<'_>, mut ethertype: EtherType, mut payload: &[u8]) -> fmt::Result {
    while matches!(ethertype, EtherType::VLAN | EtherType::QINQ) {
        let tag = match vlan::Tag::parse(payload) {
            Ok(tag) => tag,
            Err(error) => return malformed(f, &error),
        };
        write!(f, "vlan {} ", tag.vid())?;
        ethertype = tag.ethertype();
        payload = tag.into_payload();
    }
    match ethertype {
        EtherType::IPV4 | EtherType::IPV6 => show(f, payload, false),
        EtherType::ARP => arp(f, payload),
        other => write!(f, "ethertype {other} len {}", payload.len()),
    }
}

fn arp(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    match Arp::parse(bytes) {
        Ok(arp) if arp.is_probe() => write!(f, "arp does anybody have {}", arp.target_ip),
        Ok(arp) if arp.operation == Operation::Request => {
            write!(f, "arp who has {} tell {}", arp.target_ip, arp.sender_ip)
        }
        Ok(arp) => write!(f, "arp {} is at {}", arp.sender_ip, arp.sender_mac),
        Err(error) => malformed(f, &error),
    }
}

/// What both families have in their headers.
struct Line<'a> {
    src: IpAddr,
    dst: IpAddr,
    protocol: Protocol,
    /// Offset in octets, "more", identification.
    fragment: Option<(usize, bool, u32)>,
    ttl: u8,
    len: usize,
    payload: &'a [u8],
    /// Is this the packet that an ICMP error quotes?
    quoted: bool,
}

fn show(f: &mut Formatter<'_>, bytes: &[u8], quoted: bool) -> fmt::Result {
    let line = if bytes.first().is_some_and(|first| first >> 4 == 6) {
        v6(bytes, quoted)
    } else {
        v4(bytes, quoted)
    };
    match line {
        Ok(line) => line.fmt(f),
        Err(error) => malformed(f, &*error),
    }
}

fn v4(bytes: &[u8], quoted: bool) -> Result<Line<'_>, Box<dyn Display>> {
    let parse = if quoted {
        ipv4::Packet::parse_quoted
    } else {
        ipv4::Packet::parse
    };
    let packet = parse(bytes).map_err(|error| Box::new(error) as Box<dyn Display>)?;
    Ok(Line {
        src: packet.src().into(),
        dst: packet.dst().into(),
        protocol: packet.protocol(),
        fragment: packet.is_fragment().then(|| {
            (
                packet.fragment_offset(),
                packet.more_fragments(),
                u32::from(packet.id()),
            )
        }),
        ttl: packet.ttl(),
        len: packet.total_len(),
        payload: packet.into_payload(),
        quoted,
    })
}

fn v6(bytes: &[u8], quoted: bool) -> Result<Line<'_>, Box<dyn Display>> {
    let parse = if quoted {
        ipv6::Packet::parse_quoted
    } else {
        ipv6::Packet::parse
    };
    let packet = parse(bytes).map_err(|error| Box::new(error) as Box<dyn Display>)?;
    let upper = packet
        .upper()
        .map_err(|error| Box::new(error) as Box<dyn Display>)?;
    Ok(Line {
        src: packet.src().into(),
        dst: packet.dst().into(),
        protocol: upper.protocol,
        fragment: upper
            .fragment
            .map(|fragment| (fragment.offset, fragment.more, fragment.id)),
        ttl: packet.hop_limit(),
        len: packet.total_len(),
        payload: packet
            .into_payload()
            .get(upper.offset..)
            .unwrap_or_default(),
        quoted,
    })
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let later = self.fragment.is_some_and(|(offset, ..)| offset > 0);
        match self.protocol {
            _ if later => self.portless(f)?,
            Protocol::TCP | Protocol::UDP | Protocol::SCTP => self.ported(f)?,
            Protocol::ICMP => self.icmpv4(f)?,
            Protocol::ICMPV6 => self.icmpv6(f)?,
            Protocol::IPIP | Protocol::IPV6 => self.tunnel(f)?,
            _ => self.portless(f)?,
        }
        if let Some((offset, more, id)) = self.fragment {
            write!(
                f,
                " fragment {id} at {offset}{}",
                if more { "+" } else { "" }
            )?;
        }
        write!(f, " ttl {} len {}", self.ttl, self.len)
    }
}

impl Line<'_> {
    fn portless(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} {}", self.src, self.dst, self.protocol)
    }

    fn between(&self, f: &mut Formatter<'_>, ports: (u16, u16)) -> fmt::Result {
        let (src, dst) = (
            SocketAddr::new(self.src, ports.0),
            SocketAddr::new(self.dst, ports.1),
        );
        write!(f, "{src} > {dst} {}", self.protocol)
    }

    fn ported(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.quoted || self.fragment.is_some() {
            return match Quoted::parse(self.protocol, self.payload) {
                Ok(head) => self.between(f, head.ports()),
                Err(error) => self.cut(f, &error),
            };
        }
        match Segment::parse(self.protocol, self.payload) {
            Ok(segment) => {
                self.between(f, segment.ports())?;
                details(f, &segment)
            }
            Err(error) => self.cut(f, &error),
        }
    }

    fn cut(&self, f: &mut Formatter<'_>, error: &dyn Display) -> fmt::Result {
        self.portless(f)?;
        write!(f, " ({error})")
    }

    fn tunnel(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // The inner packet is named, not opened: nesting would have no end.
        self.portless(f)
    }

    fn icmpv4(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.portless(f)?;
        let icmp = match icmpv4::Packet::parse(self.payload) {
            Ok(icmp) => icmp,
            Err(error) => return write!(f, " ({error})"),
        };
        use icmpv4::{Type, unreachable};
        match (icmp.kind(), icmp.code()) {
            (Type::ECHO_REQUEST, 0) => write!(f, " echo request {} {}", icmp.id(), icmp.seq())?,
            (Type::ECHO_REPLY, 0) => write!(f, " echo reply {} {}", icmp.id(), icmp.seq())?,
            (Type::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => {
                write!(f, " fragmentation needed mtu {}", icmp.mtu())?;
            }
            (Type::UNREACHABLE, unreachable::PORT) => f.write_str(" port unreachable")?,
            (Type::UNREACHABLE, unreachable::HOST) => f.write_str(" host unreachable")?,
            (Type::UNREACHABLE, code) => write!(f, " unreachable {code}")?,
            (Type::TIME_EXCEEDED, _) => f.write_str(" time exceeded")?,
            (Type(kind), code) => write!(f, " {kind}/{code}")?,
        }
        self.about(f, icmp.quoted())
    }

    fn icmpv6(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.portless(f)?;
        let icmp = match icmpv6::Packet::parse(self.payload) {
            Ok(icmp) => icmp,
            Err(error) => return write!(f, " ({error})"),
        };
        use icmpv6::{Type, unreachable};
        match (icmp.kind(), icmp.code()) {
            (Type::ECHO_REQUEST, 0) => write!(f, " echo request {} {}", icmp.id(), icmp.seq())?,
            (Type::ECHO_REPLY, 0) => write!(f, " echo reply {} {}", icmp.id(), icmp.seq())?,
            (Type::PACKET_TOO_BIG, _) => write!(f, " packet too big mtu {}", icmp.mtu())?,
            (Type::UNREACHABLE, unreachable::PORT) => f.write_str(" port unreachable")?,
            (Type::UNREACHABLE, unreachable::ADDRESS) => f.write_str(" address unreachable")?,
            (Type::UNREACHABLE, code) => write!(f, " unreachable {code}")?,
            (Type::TIME_EXCEEDED, _) => f.write_str(" time exceeded")?,
            (Type::NEIGHBOUR_SOLICITATION, _) => f.write_str(" neighbour solicitation")?,
            (Type::NEIGHBOUR_ADVERTISEMENT, _) => f.write_str(" neighbour advertisement")?,
            (Type(kind), code) => write!(f, " {kind}/{code}")?,
        }
        self.about(f, icmp.quoted())
    }

    /// The packet that an error is about; one that is itself quoted is not opened further.
    fn about(&self, f: &mut Formatter<'_>, quoted: Option<&[u8]>) -> fmt::Result {
        let Some(quoted) = quoted.filter(|_| !self.quoted) else {
            return Ok(());
        };
        f.write_str(" (")?;
        show(f, quoted, true)?;
        f.write_str(")")
    }
}

fn details(f: &mut Formatter<'_>, segment: &Segment<&[u8]>) -> fmt::Result {
    match segment {
        Segment::Tcp(tcp) => write!(f, " {}", tcp.flags()),
        Segment::Sctp(sctp) => match sctp.first_chunk() {
            Some(chunk) => write!(f, " {chunk}"),
            None => Ok(()),
        },
        Segment::Udp(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::build::{echo_request, ether, icmp, ip, sctp, tcp, udp};
    use crate::ethernet::Mac;
    use proptest::prelude::*;

    const CLIENT: [u8; 4] = [192, 0, 2, 7];
    const VIP: [u8; 4] = [10, 0, 0, 1];
    const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

    #[test]
    fn packets() {
        let sent = ip(VIP, CLIENT).with(udp(80, 40000));
        let sent6 = ip(VIP6, CLIENT6).with(tcp(80, 40000));
        #[rustfmt::skip]
        let cases = [
            (ip(CLIENT, VIP).with(tcp(40000, 80).syn()),                 "192.0.2.7:40000 > 10.0.0.1:80 tcp S ttl 64 len 40"),
            (ip(CLIENT, VIP).with(udp(40000, 53).payload("hi")).ttl(9),  "192.0.2.7:40000 > 10.0.0.1:53 udp ttl 9 len 30"),
            (ip(CLIENT, VIP).with(sctp(1, 2).chunk(1, &[])),             "192.0.2.7:1 > 10.0.0.1:2 sctp INIT ttl 64 len 36"),
            (ip(CLIENT6, VIP6).with(tcp(40000, 80).acks(1)),             "[2001:db8::7]:40000 > [2001:db8::10]:80 tcp . ttl 64 len 60"),
            (ip(CLIENT, VIP).with(echo_request(7, 1)),                   "192.0.2.7 > 10.0.0.1 icmp echo request 7 1 ttl 64 len 28"),
            (ip(CLIENT, VIP).with(icmp(3, 4).rest(1400).quoting(&sent)), "192.0.2.7 > 10.0.0.1 icmp fragmentation needed mtu 1400 (10.0.0.1:80 > 192.0.2.7:40000 udp ttl 64 len 28) ttl 64 len 56"),
            (ip(CLIENT6, VIP6).with(icmp(1, 4).quoting_first(48, &sent6)), "2001:db8::7 > 2001:db8::10 icmp6 port unreachable ([2001:db8::10]:80 > [2001:db8::7]:40000 tcp ttl 64 len 60) ttl 64 len 96"),
            (ip(CLIENT, VIP).raw(Protocol::UDP, [0; 16]).id(7).fragment(1480, true), "192.0.2.7 > 10.0.0.1 udp fragment 7 at 1480+ ttl 64 len 36"),
            (ip(CLIENT, VIP).with(sent.clone()),                         "192.0.2.7 > 10.0.0.1 ipip ttl 64 len 48"),
            (ip(CLIENT, VIP).raw(Protocol::TCP, [0; 4]),                 "192.0.2.7 > 10.0.0.1 tcp (the segment is shorter than a TCP header) ttl 64 len 24"),
            (ip(CLIENT, VIP).raw(Protocol(200), []),                     "192.0.2.7 > 10.0.0.1 proto 200 ttl 64 len 20"),
        ];
        for (packet, want) in cases {
            assert_eq!(Packet(&packet.bytes()).to_string(), want);
        }
    }

    #[test]
    fn frames() {
        let frame = || ether(Mac([2, 0, 0, 0, 0, 1]), Mac::BROADCAST);
        let request = Arp::request(Mac([2, 0, 0, 0, 0, 1]), CLIENT.into(), VIP.into());
        let probe = Arp::probe(request.sender_mac, VIP.into());
        #[rustfmt::skip]
        let cases = [
            (frame().arp(&request),                                   "arp who has 10.0.0.1 tell 192.0.2.7"),
            (frame().arp(&probe),                                     "arp does anybody have 10.0.0.1"),
            (frame().arp(&request.reply(Mac([2, 0, 0, 0, 0, 2]))),    "arp 10.0.0.1 is at 02:00:00:00:00:02"),
            (frame().vlan(5).with(ip(CLIENT, VIP).with(udp(1, 2))),   "vlan 5 192.0.2.7:1 > 10.0.0.1:2 udp ttl 64 len 28"),
            (frame().raw(EtherType(0x88cc), [0; 46]),                 "ethertype 0x88cc len 46"),
            (frame().raw(EtherType::IPV4, [0x45]),                    "malformed: the packet is shorter than an IPv4 header"),
        ];
        for (frame, want) in cases {
            assert_eq!(Frame(&frame.bytes()).to_string(), want);
        }
        assert_eq!(
            Frame(&[]).to_string(),
            "malformed: the frame is shorter than an Ethernet header"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100), ethertype in prop::sample::select(vec![0x800u16, 0x806, 0x86dd, 0x8100])) {
            let frame = ether(Mac::ZERO, Mac::ZERO).raw(EtherType(ethertype), bytes.clone()).bytes();
            prop_assert!(!Frame(&frame).to_string().is_empty());
            for protocol in [1, 6, 17, 58, 132] {
                let packet = ip(CLIENT, VIP).raw(Protocol(protocol), bytes.clone()).bytes();
                prop_assert!(Packet(&packet).to_string().starts_with("192.0.2.7"));
            }
        }
    }
}
