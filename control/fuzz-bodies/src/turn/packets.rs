//! Frames that may come in: mostly well formed and about the few addresses of the
//! [`world`](super::world), each with something wrong now and then.

use std::net::IpAddr;

use wire::arp::Arp;
use wire::build::{self, Body, Packet, ip};
use wire::ethernet::{self, EtherType, Mac};
use wire::tcp::{Flags, OptionKind};
use wire::{Protocol, ipv4, ipv6};

use super::world::{
    CLIENTS, CLIENTS_V6, LOCALS, LOCALS_V6, PORTS, REALS, REALS_V6, VIPS, VIPS_V6, VLAN, address,
};
use crate::input::Input;

/// TCP's flags in the order in which they are tried.
const TCP: [u8; 9] = [0x02, 0x10, 0x12, 0x18, 0x11, 0x04, 0x14, 0x01, 0xff];
/// SCTP's chunks, INIT first.
const CHUNKS: [u8; 13] = [1, 10, 0, 2, 11, 7, 8, 14, 9, 6, 3, 4, 255];
/// Octets of payload.
const SIZES: [usize; 9] = [0, 1, 8, 100, 1400, 1460, 1480, 3000, 9000];
/// The most that fits into one buffer.
const LONGEST: usize = 10_000;

/// One frame, or the pieces of one.
pub(crate) fn frames(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let to = Mac([2, 0, 0, 0, 0, 1 + u8::from(input.one_in(8))]);
    let from = Mac([2, 0, 0, 0, 9, 9]);
    match input.below(32) {
        0 => vec![arp(input)],
        1 => vec![input.bytes(usize::from(input.clone().byte())).to_vec()],
        n => {
            let packet = packet(input);
            let pieces = match n {
                2..=5 => pieces(&packet, input),
                _ => vec![packet],
            };
            let frame = |packet: &Packet| framed(packet, from, to, input);
            let mut frames: Vec<_> = pieces.iter().map(frame).collect();
            frames.retain(|frame| frame.len() <= LONGEST);
            frames
        }
    }
}

fn framed(packet: &Packet, from: Mac, to: Mac, input: &mut Input<'_>) -> Vec<u8> {
    let mut frame = packet.ether(from, to);
    match input.below(32) {
        1 => frame = frame.padded(),
        2 => frame = frame.vlan(VLAN),
        3 => frame = frame.vlan(input.pick(&[0xe000 | VLAN, 0, 2, 0xfff])),
        4 => frame = frame.vlan(VLAN).vlan(VLAN),
        _ => {}
    }
    let mut bytes = frame.bytes();
    spoil(&mut bytes, input);
    bytes
}

/// Changes some octets, or cuts the frame.
pub(crate) fn spoil(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    match input.below(16) {
        1 if !bytes.is_empty() => {
            for _ in 0..1 + input.below(3) {
                let at = usize::from(input.byte()) % bytes.len();
                bytes[at] = input.byte();
            }
        }
        2 => bytes.truncate(usize::from(input.byte())),
        3 => bytes.extend(input.bytes(8)),
        _ => {}
    }
}

fn arp(input: &mut Input<'_>) -> Vec<u8> {
    let sender = Mac([2, 0, 0, 7, 7, 7]);
    let v4 = |text: &str| match address(text) {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => std::net::Ipv4Addr::UNSPECIFIED,
    };
    let from = v4(input.pick(&[CLIENTS[0], CLIENTS[5], REALS[2], VIPS[2]]));
    let to = v4(input.pick(&["192.0.2.2", VIPS[2], "10.1.0.2", LOCALS[0]]));
    let arp = match input.one_in(2) {
        false => Arp::request(sender, from, to),
        true => Arp::request(Mac([2, 0, 0, 0, 0, 2]), to, from).reply(sender),
    };
    build::ether(sender, Mac::BROADCAST).arp(&arp).bytes()
}

/// Who sends to whom.
struct Way {
    from: IpAddr,
    to: IpAddr,
    ports: (u16, u16),
}

fn client_port(input: &mut Input<'_>) -> u16 {
    match input.byte() {
        255 => 20,
        n => 40_000 + u16::from(n % 4),
    }
}

fn way(input: &mut Input<'_>) -> Way {
    let v6 = input.one_in(3);
    let (clients, vips, reals, locals) = if v6 {
        (&CLIENTS_V6[..], &VIPS_V6[..], &REALS_V6[..], &LOCALS_V6[..])
    } else {
        (&CLIENTS[..], &VIPS[..], &REALS[..], &LOCALS[..])
    };
    let own = if v6 { "2001:db8::2" } else { "192.0.2.2" };
    let (from, to) = match input.below(16) {
        0 => (input.pick(reals), input.pick(clients)),
        1 => (input.pick(reals), input.pick(locals)),
        2 => (input.pick(clients), own),
        3 => (input.pick(clients), input.pick(reals)),
        _ => (input.pick(clients), input.pick(vips)),
    };
    let ports = (client_port(input), input.pick(&PORTS));
    let swapped = input.one_in(16);
    Way {
        from: address(from),
        to: address(to),
        ports: if swapped { (ports.1, ports.0) } else { ports },
    }
}

fn packet(input: &mut Input<'_>) -> Packet {
    let way = way(input);
    let body = body(&way, input);
    dressed(ip(way.from, way.to).with(body), input)
}

/// With what an IP header may say.
fn dressed(mut packet: Packet, input: &mut Input<'_>) -> Packet {
    if packet.is_v6() {
        packet = match input.below(16) {
            1 => packet.hop_by_hop(),
            2 => packet.destination().routing(),
            3 => packet.flow_label(input.word().into()),
            4 => packet.extension(Protocol::ROUTING, input.bytes(6)),
            5 => packet.fragment(0, false).id(input.word().into()),
            _ => packet,
        };
    } else {
        packet = match input.below(16) {
            1 => packet.options(&[0x94, 4, 0, 0]),
            2 => packet.df(),
            3 => packet.bad_checksum(),
            4 => packet.df().options(input.bytes(40)),
            5 => packet.options(&[131, 7, input.byte(), 10, 1, 0, 9]),
            _ => packet,
        };
    }
    match input.below(16) {
        1 => packet.ttl(1),
        2 => packet.ttl(0),
        3 => packet.ttl(2),
        4 => packet.tos(input.byte()),
        _ => packet,
    }
}

fn payload(input: &mut Input<'_>) -> Vec<u8> {
    vec![input.byte(); input.pick(&SIZES)]
}

fn body(way: &Way, input: &mut Input<'_>) -> Body {
    match input.below(16) {
        0..=6 => tcp(way.ports, input),
        7 => sctp(way.ports, input),
        8..=11 => udp(way.ports, input),
        12 => build::echo_request(1, 1).payload(payload(input)).into(),
        13 | 14 => error(way, input),
        _ => odd(way.ports, input),
    }
}

fn tcp(ports: (u16, u16), input: &mut Input<'_>) -> Body {
    let mut tcp = build::tcp(ports.0, ports.1).flags(Flags(input.pick(&TCP)));
    tcp = match input.below(8) {
        1 => tcp.mss(input.word()),
        2 => tcp.mss(9000).nop(),
        3 => tcp.option(OptionKind(input.byte()), input.bytes(8)),
        _ => tcp,
    };
    tcp = tcp.payload(payload(input));
    if input.one_in(32) {
        tcp.bad_checksum()
    } else {
        tcp
    }
    .into()
}

fn udp(ports: (u16, u16), input: &mut Input<'_>) -> Body {
    let udp = build::udp(ports.0, ports.1).payload(payload(input));
    match input.below(32) {
        1 => udp.unsummed(),
        2 => udp.bad_checksum(),
        _ => udp,
    }
    .into()
}

fn sctp(ports: (u16, u16), input: &mut Input<'_>) -> Body {
    let kind = input.pick(&CHUNKS);
    let tag = u32::from(kind != CHUNKS[0] || input.one_in(16));
    let data = payload(input);
    let mut sctp = build::sctp(ports.0, ports.1).tag(tag).chunk(kind, &data);
    sctp = match input.below(16) {
        1 => sctp.chunk(6, &[]),
        2 => sctp.chunk(input.byte(), input.bytes(20)),
        3 => sctp.bad_checksum(),
        _ => sctp,
    };
    sctp.into()
}

fn odd(ports: (u16, u16), input: &mut Input<'_>) -> Body {
    match input.below(4) {
        0 => build::sctp(ports.0, ports.1).into(),
        1 => Body::Raw(Protocol(input.byte()), input.bytes(32).to_vec()),
        2 => build::icmp(input.byte(), input.byte())
            .payload(input.bytes(32))
            .into(),
        _ => Body::Raw(Protocol(input.byte()), payload(input)),
    }
}

/// Type, code and "rest of header" of an ICMP error.
fn error_kind(v6: bool, input: &mut Input<'_>) -> (u8, u8, u32) {
    let mtu = u32::from(input.pick(&[1400u16, 0, 68, 576, 1280, 65535]));
    if v6 {
        let field = u32::from(input.clone().byte());
        let kinds = [(2, 0, mtu), (1, 4, 0), (3, 0, 0), (4, 1, 40), (4, 0, field)];
        input.pick(&kinds)
    } else {
        input.pick(&[(3, 4, mtu), (3, 3, 0), (11, 0, 0), (12, 0, 0), (5, 1, 0)])
    }
}

/// An error about a packet that went the other way.
fn error(way: &Way, input: &mut Input<'_>) -> Body {
    let about = ip(way.to, way.from);
    let ports = (way.ports.1, way.ports.0);
    let about = match input.below(4) {
        0 => about.with(build::tcp(ports.0, ports.1).ack().payload([0; 20])),
        1 => about.with(build::sctp(ports.0, ports.1).tag(1).chunk(0, &[0; 20])),
        2 => about.with(build::udp(ports.0, ports.1).payload([0; 20])),
        _ => about.fragment(8, true).raw(Protocol::UDP, [0; 24]),
    };
    let (kind, code, rest) = error_kind(way.from.is_ipv6(), input);
    let error = build::icmp(kind, code).rest(rest);
    match input.one_in(8) {
        true => error.quoting_first(input.below(64), &about),
        false => error.quoting(&about),
    }
    .into()
}

/// A packet cut for some narrow link, with pieces lost, doubled and out of order.
fn pieces(packet: &Packet, input: &mut Input<'_>) -> Vec<Packet> {
    let id = input.below(4);
    let whole = packet.clone().id(u32::try_from(id).expect("below 4"));
    let mut pieces = whole.fragments(input.pick(&[1300, 576, 296, 68, 28]));
    pieces.truncate(40);
    if pieces.is_empty() {
        return pieces;
    }
    match input.below(8) {
        1 => pieces.reverse(),
        2 => pieces.rotate_left(1),
        3 => drop(pieces.pop()),
        4 => drop(pieces.remove(0)),
        5 => pieces.extend(pieces.clone()),
        6 => {
            let shifted = pieces[0].clone().fragment(8, true);
            pieces.push(shifted);
        }
        _ => {}
    }
    pieces
}

/// What whoever got a frame that the director sent may say to it, as a frame for its port.
pub(crate) fn answer(frame: &[u8], input: &mut Input<'_>) -> Option<Vec<u8>> {
    let frame = ethernet::Frame::parse(frame).ok()?;
    let inside = frame.payload();
    let heard = heard(frame.ethertype(), inside)?;
    let packet = match input.below(8) {
        0 => {
            let (kind, code, rest) = error_kind(heard.from.is_ipv6(), input);
            let quoted = &inside[..inside.len().min(28 + input.below(256))];
            let error = build::icmp(kind, code).rest(rest).payload(quoted);
            let router = input.one_in(2);
            let sender = match (router, heard.from.is_ipv6()) {
                (false, _) => heard.to,
                (true, false) => address("198.51.100.254"),
                (true, true) => address("2001:db8:9::254"),
            };
            ip(sender, heard.from).with(error)
        }
        _ => {
            let ports = (heard.ports.1, heard.ports.0);
            let body = match heard.protocol {
                Protocol::TCP => tcp(ports, input),
                Protocol::UDP => udp(ports, input),
                Protocol::SCTP => sctp(ports, input),
                Protocol(other) => Body::Raw(Protocol(other), payload(input)),
            };
            ip(heard.to, heard.from).with(body)
        }
    };
    let mut bytes = dressed(packet, input)
        .ether(frame.dst(), frame.src())
        .bytes();
    spoil(&mut bytes, input);
    (bytes.len() <= LONGEST).then_some(bytes)
}

struct Heard {
    from: IpAddr,
    to: IpAddr,
    ports: (u16, u16),
    protocol: Protocol,
}

fn heard(kind: EtherType, bytes: &[u8]) -> Option<Heard> {
    let (from, to, protocol, data): (IpAddr, IpAddr, _, _) = match kind {
        EtherType::IPV4 => {
            let packet = ipv4::Packet::parse(bytes).ok()?;
            let at = bytes.len() - packet.payload().len();
            (
                packet.src().into(),
                packet.dst().into(),
                packet.protocol(),
                at,
            )
        }
        EtherType::IPV6 => {
            let packet = ipv6::Packet::parse(bytes).ok()?;
            let upper = packet.upper().ok()?;
            let at = bytes.len() - packet.upper_payload(&upper).len();
            (packet.src().into(), packet.dst().into(), upper.protocol, at)
        }
        _ => return None,
    };
    let [a, b, c, d] = *bytes.get(data..)?.first_chunk()?;
    Some(Heard {
        from,
        to,
        ports: (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        protocol,
    })
}
