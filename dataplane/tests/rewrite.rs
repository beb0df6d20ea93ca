//! What each mode makes of a packet: whole frames, byte for byte, read back by etherparse.

#[path = "common/intact.rs"]
mod intact;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::conn::{Address, Entry};
use dataplane::fwd::{
    self, Checksum, Envelope, Family, Forwarder, Link, Outer, Tunnel, icmp as translated,
};
use dataplane::memory::{Buffer, Recycler};
use dataplane::port::Frame;
use dataplane::reply::{self, Kind, Reply};
use dataplane::services::HopId;
use dataplane::verdict::Reason;
use etherparse::PacketHeaders;
use proptest::prelude::*;
use wire::build::{Body, Packet, Sctp, echo_reply, echo_request, ether, icmp, ip, sctp, tcp, udp};
use wire::ipv4::Between;
use wire::{Mac, Protocol};

use intact::{crc_is_right, intact, sums};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const REAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 200);
const DIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const REAL6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x11);
const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x200);
const DIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);

const PEER: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);
const CAME: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS: Mac = Mac([2, 0, 0, 0, 0, 2]);
const NEXT: Mac = Mac([2, 0, 0, 1, 0, 11]);
const LINK: Link = Link {
    ours: OURS,
    next: NEXT,
};
const OUTER: Outer = Outer {
    id: 0x1234,
    pmtu_disc: true,
};

const HOP: HopId = HopId(0);
const DR: Forwarder = Forwarder::Dr { hop: HOP };
const NAT: Forwarder = Forwarder::Nat { hop: HOP };
const FULL: Forwarder = Forwarder::FullNat { hop: HOP };
const IN4: Forwarder = Forwarder::Tun {
    hop: HOP,
    tunnel: Tunnel::V4(Between::new(DIP, REAL)),
    envelope: Envelope::Ipip,
    narrower: 0,
};
const IN6: Forwarder = Forwarder::Tun {
    hop: HOP,
    tunnel: Tunnel::V6 {
        source: DIP6,
        destination: REAL6,
    },
    envelope: Envelope::Ipip,
    narrower: 0,
};
const MODES: [Forwarder; 6] = [DR, NAT, FULL, IN4, IN6, Forwarder::Local];

/// A usual link's MTU.
const ETHERNET: u16 = 1500;
const CPORT: u16 = 31337;
const LPORT: u16 = 5001;

/// client:31337 > VIP:80; real:8080; FULLNAT's local:5001, else the client itself.
fn entry<A: Address>(addresses: [A; 4], mode: Forwarder) -> Entry<A> {
    let mut entry = between(addresses, [CPORT, 80, 8080, LPORT]);
    entry.protocol = 6;
    fit(mode, entry)
}

/// A connection of client, VIP, real and local end.
fn between<A: Address>([client, vip, real, local]: [A; 4], ports: [u16; 4]) -> Entry<A> {
    let mut entry = Entry::default();
    (entry.client, entry.client_port) = (client, ports[0]);
    (entry.vip, entry.vip_port) = (vip, ports[1]);
    (entry.real, entry.real_port) = (real, ports[2]);
    (entry.local, entry.local_port) = (local, ports[3]);
    entry
}

/// Only in FULLNAT the local side is not the client.
fn fit<A: Address>(mode: Forwarder, mut entry: Entry<A>) -> Entry<A> {
    if mode != FULL {
        (entry.local, entry.local_port) = (entry.client, entry.client_port);
    }
    entry
}

fn v4(mode: Forwarder) -> Entry<u32> {
    entry([CLIENT, VIP, REAL, LOCAL].map(Ipv4Addr::to_bits), mode)
}

fn v6(mode: Forwarder) -> Entry<u128> {
    entry([CLIENT6, VIP6, REAL6, LOCAL6].map(Ipv6Addr::to_bits), mode)
}

fn rx(packet: &Packet) -> Vec<u8> {
    packet.ether(PEER, CAME).bytes()
}

fn tx(packet: &Packet) -> Vec<u8> {
    packet.ether(OURS, NEXT).bytes()
}

fn frame(bytes: &[u8]) -> Buffer {
    Recycler::default().fill(bytes)
}

fn is_v6(bytes: &[u8]) -> bool {
    bytes.get(12..14) == Some(&[0x86, 0xdd])
}

/// Towards the real server, in the family that the frame is of.
fn to_real(mode: Forwarder, frame: &mut Buffer, outer: Outer) -> Result<(), Reason> {
    if is_v6(frame.bytes()) {
        mode.to_real(frame, &v6(mode), LINK, outer)
    } else {
        mode.to_real(frame, &v4(mode), LINK, outer)
    }
}

fn to_client(mode: Forwarder, frame: &mut Buffer) -> Result<(), Reason> {
    if is_v6(frame.bytes()) {
        mode.to_client(frame, &v6(mode), LINK)
    } else {
        mode.to_client(frame, &v4(mode), LINK)
    }
}

#[test]
#[rustfmt::skip]
fn towards_the_real_server() {
    let web = || tcp(CPORT, 80).syn().payload(*b"GET /");
    let real = || tcp(CPORT, 8080).syn().payload(*b"GET /");
    let local = || tcp(LPORT, 8080).syn().payload(*b"GET /");
    let tunnelled = |packet: Packet| packet.ttl(63);
    let cases = [
        ("DR: a new envelope, one hop older",  DR,   ip(CLIENT, VIP).with(web()),           ip(CLIENT, VIP).ttl(63).with(web())),
        ("DR: options, TOS, DF and id stay",   DR,   ip(CLIENT, VIP).options(&[1; 8]).tos(0xb9).df().id(7).with(web()),
                                                     ip(CLIENT, VIP).options(&[1; 8]).tos(0xb9).df().id(7).ttl(63).with(web())),
        ("DR: IPv6",                           DR,   ip(CLIENT6, VIP6).with(web()),         ip(CLIENT6, VIP6).ttl(63).with(web())),
        ("NAT: destination address and port",  NAT,  ip(CLIENT, VIP).with(web()),           ip(CLIENT, REAL).ttl(63).with(real())),
        ("NAT: UDP",                           NAT,  ip(CLIENT, VIP).with(udp(CPORT, 80).payload(*b"q")),
                                                     ip(CLIENT, REAL).ttl(63).with(udp(CPORT, 8080).payload(*b"q"))),
        ("NAT: an absent UDP checksum stays absent", NAT, ip(CLIENT, VIP).with(udp(CPORT, 80).unsummed()),
                                                     ip(CLIENT, REAL).ttl(63).with(udp(CPORT, 8080).unsummed())),
        ("NAT: IPv6",                          NAT,  ip(CLIENT6, VIP6).with(web()),         ip(CLIENT6, REAL6).ttl(63).with(real())),
        ("NAT: behind extension headers",      NAT,  ip(CLIENT6, VIP6).hop_by_hop().destination().with(udp(CPORT, 80)),
                                                     ip(CLIENT6, REAL6).hop_by_hop().destination().ttl(63).with(udp(CPORT, 8080))),
        ("NAT: IPv4 options stay",             NAT,  ip(CLIENT, VIP).options(&[1; 4]).with(web()), ip(CLIENT, REAL).options(&[1; 4]).ttl(63).with(real())),
        ("FULLNAT: both ends",                 FULL, ip(CLIENT, VIP).with(web()),           ip(LOCAL, REAL).ttl(63).with(local())),
        ("FULLNAT: UDP",                       FULL, ip(CLIENT, VIP).with(udp(CPORT, 80)),  ip(LOCAL, REAL).ttl(63).with(udp(LPORT, 8080))),
        ("FULLNAT: an absent UDP checksum",    FULL, ip(CLIENT, VIP).with(udp(CPORT, 80).unsummed()), ip(LOCAL, REAL).ttl(63).with(udp(LPORT, 8080).unsummed())),
        ("FULLNAT: IPv6",                      FULL, ip(CLIENT6, VIP6).with(web()),         ip(LOCAL6, REAL6).ttl(63).with(local())),
        ("FULLNAT: IPv6 UDP",                  FULL, ip(CLIENT6, VIP6).with(udp(CPORT, 80).payload([1, 2, 3])), ip(LOCAL6, REAL6).ttl(63).with(udp(LPORT, 8080).payload([1, 2, 3]))),
        ("TUN: 4in4, may be fragmented",       IN4,  ip(CLIENT, VIP).id(9).with(web()),     ip(DIP, REAL).ttl(63).id(0x1234).with(tunnelled(ip(CLIENT, VIP).id(9).with(web())))),
        ("TUN: 4in4, DF copied, no id",        IN4,  ip(CLIENT, VIP).df().id(9).with(web()), ip(DIP, REAL).ttl(63).df().with(tunnelled(ip(CLIENT, VIP).df().id(9).with(web())))),
        ("TUN: DSCP and ECT copied",           IN4,  ip(CLIENT, VIP).tos(0xb9).df().with(web()), ip(DIP, REAL).ttl(63).tos(0xb9).df().with(tunnelled(ip(CLIENT, VIP).tos(0xb9).df().with(web())))),
        ("TUN: CE becomes ECT(0) outside",     IN4,  ip(CLIENT, VIP).tos(0x2b).df().with(web()), ip(DIP, REAL).ttl(63).tos(0x2a).df().with(tunnelled(ip(CLIENT, VIP).tos(0x2b).df().with(web())))),
        ("TUN: 6in4",                          IN4,  ip(CLIENT6, VIP6).tos(3).with(web()),  ip(DIP, REAL).ttl(63).tos(2).df().with(tunnelled(ip(CLIENT6, VIP6).tos(3).with(web())))),
        ("TUN: 4in6",                          IN6,  ip(CLIENT, VIP).tos(0xb9).with(web()), ip(DIP6, REAL6).ttl(63).tos(0xb9).with(tunnelled(ip(CLIENT, VIP).tos(0xb9).with(web())))),
        ("TUN: 6in6, no flow label outside",   IN6,  ip(CLIENT6, VIP6).flow_label(5).with(web()), ip(DIP6, REAL6).ttl(63).with(tunnelled(ip(CLIENT6, VIP6).flow_label(5).with(web())))),
        ("DR: SCTP",                           DR,   ip(CLIENT, VIP).with(message(CPORT, 80)), ip(CLIENT, VIP).ttl(63).with(message(CPORT, 80))),
        ("NAT: SCTP's CRC is patched",         NAT,  ip(CLIENT, VIP).with(message(CPORT, 80)), ip(CLIENT, REAL).ttl(63).with(message(CPORT, 8080))),
        ("NAT: SCTP over IPv6",                NAT,  ip(CLIENT6, VIP6).with(message(CPORT, 80)), ip(CLIENT6, REAL6).ttl(63).with(message(CPORT, 8080))),
        ("NAT: SCTP behind extension headers", NAT,  ip(CLIENT6, VIP6).hop_by_hop().with(message(CPORT, 80)), ip(CLIENT6, REAL6).hop_by_hop().ttl(63).with(message(CPORT, 8080))),
        ("FULLNAT: SCTP, both ports",          FULL, ip(CLIENT, VIP).with(message(CPORT, 80)), ip(LOCAL, REAL).ttl(63).with(message(LPORT, 8080))),
        ("FULLNAT: SCTP over IPv6",            FULL, ip(CLIENT6, VIP6).with(message(CPORT, 80)), ip(LOCAL6, REAL6).ttl(63).with(message(LPORT, 8080))),
        ("TUN: SCTP, 4in4",                    IN4,  ip(CLIENT, VIP).df().with(message(CPORT, 80)), ip(DIP, REAL).ttl(63).df().with(tunnelled(ip(CLIENT, VIP).df().with(message(CPORT, 80))))),
        ("TUN: SCTP, 6in6",                    IN6,  ip(CLIENT6, VIP6).with(message(CPORT, 80)), ip(DIP6, REAL6).ttl(63).with(tunnelled(ip(CLIENT6, VIP6).with(message(CPORT, 80))))),
    ];
    for (name, mode, given, want) in cases {
        let mut frame = frame(&given.ether(PEER, CAME).padded().bytes());
        assert_eq!(to_real(mode, &mut frame, OUTER), Ok(()), "{name}");
        assert_eq!(frame.bytes(), tx(&want), "{name}");
        intact(name, &frame.bytes()[14..]);
    }
}

#[test]
fn without_path_mtu_discovery_a_tunnel_may_be_fragmented() {
    let outer = Outer {
        pmtu_disc: false,
        ..OUTER
    };
    for given in [
        ip(CLIENT, VIP).df().with(tcp(CPORT, 80)),
        ip(CLIENT6, VIP6).with(tcp(CPORT, 80)),
    ] {
        let mut frame = frame(&rx(&given));
        assert_eq!(to_real(IN4, &mut frame, outer), Ok(()));
        let want = ip(DIP, REAL).ttl(63).id(0x1234).with(given.ttl(63));
        assert_eq!(frame.bytes(), tx(&want));
    }
}

fn enveloped(mode: Forwarder, envelope: Envelope) -> Forwarder {
    match mode {
        Forwarder::Tun { hop, tunnel, .. } => Forwarder::Tun {
            hop,
            tunnel,
            envelope,
            narrower: 0,
        },
        other => other,
    }
}

/// Octets of a tunnel's outer IP header.
fn tunnel_header(mode: Forwarder) -> u16 {
    enveloped(mode, Envelope::Ipip).overhead()
}

/// The transport checksum as a sender leaves it to a device: the sum of the pseudo-header.
fn unfinished(mut packet: Vec<u8>, field: usize) -> Vec<u8> {
    let (start, src, dst): (usize, IpAddr, IpAddr) = if packet[0] >> 4 == 4 {
        (20, CLIENT.into(), VIP.into())
    } else {
        (40, CLIENT6.into(), VIP6.into())
    };
    let protocol = if field == 16 {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let len = u32::try_from(packet.len() - start).expect("short");
    let sum = wire::checksum::pseudo(src, dst, protocol, len).folded();
    packet[start + field..start + field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What becomes of the packet inside.
type Left = fn(Vec<u8>) -> Vec<u8>;

/// Outer header, envelope, packet: the outer one read back by etherparse, the rest by the byte.
#[test]
#[rustfmt::skip]
fn through_gre_and_gue() {
    const GRE: Envelope = Envelope::Gre { summed: false };
    const GRE_SUM: Envelope = Envelope::Gre { summed: true };
    let gue = |port: u16, checksum| Envelope::Gue { port: port.into(), checksum };
    let (plain, sum, remote) = (gue(6080, Checksum::None), gue(6081, Checksum::Sum), gue(6082, Checksum::Remote));
    let web = || tcp(CPORT, 80).syn().payload(*b"GET /");
    let (v4, v6) = (ip(CLIENT, VIP).df().with(web()), ip(CLIENT6, VIP6).with(web()));
    let absent = ip(CLIENT, VIP).df().with(udp(CPORT, 80).payload(*b"q").unsummed());
    let old = |packet: &Packet| packet.clone().ttl(63).bytes();
    let no: Left = |packet| packet;
    let tcp_left: Left = |packet| unfinished(packet, 16);
    type Case<'a> = (&'a str, Forwarder, Envelope, &'a Packet, &'a [u8], Left);
    let cases: [Case<'_>; 12] = [
        ("4 in GRE in 4",             IN4, GRE,     &v4,     &[0, 0, 8, 0], no),
        ("6 in GRE in 4",             IN4, GRE,     &v6,     &[0, 0, 0x86, 0xdd], no),
        ("4 in GRE in 6",             IN6, GRE,     &v4,     &[0, 0, 8, 0], no),
        ("6 in GRE in 6, summed",     IN6, GRE_SUM, &v6,     &[0x80, 0, 0x86, 0xdd], no),
        ("4 in GRE in 4, summed",     IN4, GRE_SUM, &v4,     &[0x80, 0, 8, 0], no),
        ("4 in GUE in 4",             IN4, plain,   &v4,     &[0, 4, 0, 0], no),
        ("6 in GUE in 6",             IN6, plain,   &v6,     &[0, 41, 0, 0], no),
        ("4 in GUE in 6, summed",     IN6, sum,     &v4,     &[0, 4, 0, 0], no),
        ("4 in GUE, remote",          IN4, remote,  &v4,     &[2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36], tcp_left),
        ("6 in GUE in 6, remote",     IN6, remote,  &v6,     &[2, 41, 0, 1, 0x80, 0, 0, 0, 0, 40, 0, 56], tcp_left),
        ("no checksum to leave",      IN4, remote,  &absent, &[0, 4, 0, 0], no),
        ("a summed one in GUE in 6",  IN6, sum,     &v6,     &[0, 41, 0, 0], no),
    ];
    for (name, mode, envelope, given, header, change) in cases {
        let mut frame = frame(&given.clone().ether(PEER, CAME).padded().bytes());
        assert_eq!(to_real(enveloped(mode, envelope), &mut frame, OUTER), Ok(()), "{name}");
        let bytes = frame.bytes();
        assert_eq!((&bytes[..6], &bytes[6..12]), (&NEXT.0[..], &OURS.0[..]), "{name}");
        let outer = etherparse::IpSlice::from_slice(&bytes[14..]).expect(name);
        assert_eq!(bytes.len(), 14 + usize::from(tunnel_header(mode)) + outer.payload().payload.len(), "{name}: the length");
        let carried = outer.payload().payload;
        let carried = match envelope {
            Envelope::Gre { .. } => carried,
            _ => &carried[udp_seen(name, &outer, envelope)..],
        };
        assert_eq!(carried[..header.len()], *header, "{name}: the header");
        let summed = matches!(envelope, Envelope::Gre { summed: true });
        if summed {
            assert_eq!(wire::checksum::of(carried), 0, "{name}: the checksum");
        }
        let skip = header.len() + if summed { 4 } else { 0 };
        assert_eq!(carried[skip..], change(old(given)), "{name}: the packet");
    }
}

/// Checks the outer UDP header; says how long it is.
fn udp_seen(name: &str, outer: &etherparse::IpSlice<'_>, envelope: Envelope) -> usize {
    let Envelope::Gue { port, checksum } = envelope else {
        panic!("{name}: no UDP");
    };
    let bytes = outer.payload().payload;
    let udp = etherparse::UdpHeader::from_slice(bytes).expect(name).0;
    assert_eq!(udp.destination_port, u16::from(port), "{name}");
    assert!((49_152..61_000).contains(&udp.source_port), "{name}");
    assert_eq!(usize::from(udp.length), bytes.len(), "{name}");
    let want = match (checksum, outer) {
        (Checksum::None, _) => Ok(0),
        (_, etherparse::IpSlice::Ipv4(v4)) => {
            udp.calc_checksum_ipv4(&v4.header().to_header(), &bytes[8..])
        }
        (_, etherparse::IpSlice::Ipv6(v6)) => {
            udp.calc_checksum_ipv6(&v6.header().to_header(), &bytes[8..])
        }
    };
    assert_eq!(Ok(udp.checksum), want, "{name}");
    udp.header_len()
}

/// A packet whose checksum is wrong stays wrong, and a fragment's can't be known.
#[test]
fn a_remote_checksum_makes_no_damage_good() {
    let remote = Envelope::Gue {
        port: 6080.into(),
        checksum: Checksum::Remote,
    };
    let damaged = {
        let mut bytes = ip(CLIENT, VIP)
            .with(tcp(CPORT, 80).payload(*b"GET /"))
            .bytes();
        *bytes.last_mut().expect("a payload") ^= 1;
        bytes
    };
    let fragment = {
        let mut bytes = ip(CLIENT, VIP).with(udp(CPORT, 80).payload([7; 8])).bytes();
        bytes[6] = 0x20; // more fragments
        let sum = wire::checksum::of(&[&bytes[..10], &[0, 0], &bytes[12..20]].concat());
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    for packet in [damaged, fragment] {
        let mut frame = frame(&[&CAME.0[..], &PEER.0, &[8, 0], &packet].concat());
        assert_eq!(to_real(enveloped(IN4, remote), &mut frame, OUTER), Ok(()));
        let inner = &frame.bytes()[14 + 20 + 8 + 4..];
        assert_eq!(frame.bytes()[14 + 20 + 8..][..4], [0, 4, 0, 0]);
        assert_eq!(inner[20..], packet[20..]);
    }
}

#[test]
#[rustfmt::skip]
fn back_to_the_client() {
    let cases = [
        ("NAT: source address and port", NAT,  ip(REAL, CLIENT).with(tcp(8080, CPORT).syn().ack()),   ip(VIP, CLIENT).ttl(63).with(tcp(80, CPORT).syn().ack())),
        ("NAT: UDP",                     NAT,  ip(REAL, CLIENT).with(udp(8080, CPORT)),               ip(VIP, CLIENT).ttl(63).with(udp(80, CPORT))),
        ("NAT: absent stays absent",     NAT,  ip(REAL, CLIENT).with(udp(8080, CPORT).unsummed()),    ip(VIP, CLIENT).ttl(63).with(udp(80, CPORT).unsummed())),
        ("NAT: IPv6",                    NAT,  ip(REAL6, CLIENT6).with(tcp(8080, CPORT).ack()),       ip(VIP6, CLIENT6).ttl(63).with(tcp(80, CPORT).ack())),
        ("FULLNAT: both ends",           FULL, ip(REAL, LOCAL).with(tcp(8080, LPORT).payload([7; 9])), ip(VIP, CLIENT).ttl(63).with(tcp(80, CPORT).payload([7; 9]))),
        ("FULLNAT: UDP",                 FULL, ip(REAL, LOCAL).with(udp(8080, LPORT)),                ip(VIP, CLIENT).ttl(63).with(udp(80, CPORT))),
        ("FULLNAT: IPv6",                FULL, ip(REAL6, LOCAL6).with(tcp(8080, LPORT)),              ip(VIP6, CLIENT6).ttl(63).with(tcp(80, CPORT))),
        ("NAT: SCTP",                    NAT,  ip(REAL, CLIENT).with(message(8080, CPORT)),           ip(VIP, CLIENT).ttl(63).with(message(80, CPORT))),
        ("NAT: SCTP over IPv6",          NAT,  ip(REAL6, CLIENT6).with(message(8080, CPORT)),         ip(VIP6, CLIENT6).ttl(63).with(message(80, CPORT))),
        ("FULLNAT: SCTP",                FULL, ip(REAL, LOCAL).with(message(8080, LPORT)),            ip(VIP, CLIENT).ttl(63).with(message(80, CPORT))),
        ("FULLNAT: SCTP over IPv6",      FULL, ip(REAL6, LOCAL6).with(message(8080, LPORT)),          ip(VIP6, CLIENT6).ttl(63).with(message(80, CPORT))),
    ];
    for (name, mode, given, want) in cases {
        let mut frame = frame(&rx(&given));
        assert_eq!(to_client(mode, &mut frame), Ok(()), "{name}");
        assert_eq!(frame.bytes(), tx(&want), "{name}");
        intact(name, &frame.bytes()[14..]);
    }
}

/// SCTP with two chunks, the first padded.
fn message(src: u16, dst: u16) -> Sctp {
    let cookie = sctp(src, dst).tag(0x1234_5678).chunk(10, b"cookie!");
    cookie.chunk(0, &[7; 1003])
}

/// A CRC covers what a fragment lacks; nothing is rewritten, nothing changes.
#[test]
fn fragments_of_sctp_pass_no_nat() {
    for packet in [ip(CLIENT, VIP).id(7), ip(CLIENT6, VIP6).id(7)] {
        let parts = packet.with(message(CPORT, 80)).fragments(512);
        assert_eq!(parts.len(), 3);
        for part in parts.iter().map(rx) {
            for mode in MODES {
                let mut frame = frame(&part);
                let done = to_real(mode, &mut frame, OUTER);
                if mode.is_two_way() {
                    assert_eq!(done, Err(Reason::SctpFragment), "{mode:?}");
                    assert_eq!(frame.bytes(), part, "{mode:?}");
                } else {
                    assert_eq!(done, Ok(()), "{mode:?}");
                }
            }
        }
    }
    for packet in [ip(REAL, CLIENT).id(7), ip(REAL6, CLIENT6).id(7)] {
        for part in packet.with(message(8080, CPORT)).fragments(512) {
            let mut frame = frame(&rx(&part));
            assert_eq!(to_client(NAT, &mut frame), Err(Reason::SctpFragment));
            assert_eq!(frame.bytes(), rx(&part));
        }
    }
}

/// What was damaged before us is as damaged behind us.
#[test]
fn a_wrong_crc_stays_wrong() {
    let damaged = || message(CPORT, 80).bad_checksum();
    let rows = [
        (NAT, ip(CLIENT, VIP), ip(CLIENT, REAL), CPORT),
        (FULL, ip(CLIENT, VIP), ip(LOCAL, REAL), LPORT),
        (NAT, ip(CLIENT6, VIP6), ip(CLIENT6, REAL6), CPORT),
        (FULL, ip(CLIENT6, VIP6), ip(LOCAL6, REAL6), LPORT),
    ];
    for (mode, given, want, port) in rows {
        let mut frame = frame(&rx(&given.with(damaged())));
        assert_eq!(to_real(mode, &mut frame, OUTER), Ok(()));
        let want = want.ttl(63).with(message(port, 8080).bad_checksum());
        assert_eq!(frame.bytes(), tx(&want), "{mode:?}");
        let headers = PacketHeaders::from_ip_slice(&frame.bytes()[14..]).expect("a packet");
        assert!(!crc_is_right(headers.payload.slice()), "{mode:?}");
    }
}

/// Cut first and rewritten then, or the other way round: the same fragments.
#[test]
fn fragments_are_rewritten_one_by_one() {
    let pairs = [
        (NAT, ip(CLIENT, VIP).id(7), ip(CLIENT, REAL).id(7), CPORT),
        (FULL, ip(CLIENT, VIP).id(7), ip(LOCAL, REAL).id(7), LPORT),
        (
            NAT,
            ip(CLIENT6, VIP6).id(7),
            ip(CLIENT6, REAL6).id(7),
            CPORT,
        ),
        (
            FULL,
            ip(CLIENT6, VIP6).id(7),
            ip(LOCAL6, REAL6).id(7),
            LPORT,
        ),
        (DR, ip(CLIENT6, VIP6).id(7), ip(CLIENT6, VIP6).id(7), CPORT),
    ];
    for (mode, given, want, port) in pairs {
        let to = if mode == DR { 80 } else { 8080 };
        let bodies: [(Body, Body); 2] = [
            (
                udp(CPORT, 80).payload([7; 300]).into(),
                udp(port, to).payload([7; 300]).into(),
            ),
            (
                tcp(CPORT, 80).payload([7; 300]).into(),
                tcp(port, to).payload([7; 300]).into(),
            ),
        ];
        for (before, after) in bodies {
            let given = given.clone().with(before).fragments(128);
            let want = want.clone().ttl(63).with(after).fragments(128);
            assert!(given.len() > 2 && given.len() == want.len());
            for (given, want) in given.iter().zip(&want) {
                let mut frame = frame(&rx(given));
                assert_eq!(to_real(mode, &mut frame, OUTER), Ok(()));
                assert_eq!(frame.bytes(), tx(want), "{mode:?}");
            }
        }
    }
}

#[test]
fn the_last_hop_is_refused_and_nothing_changes() {
    for ttl in [0, 1] {
        for packet in [
            ip(CLIENT, VIP).ttl(ttl).with(tcp(CPORT, 80)),
            ip(CLIENT6, VIP6).ttl(ttl).with(tcp(CPORT, 80)),
        ] {
            let given = rx(&packet);
            for mode in [DR, NAT, FULL, IN4, IN6] {
                let mut frame = frame(&given);
                let refused = to_real(mode, &mut frame, OUTER);
                assert_eq!(refused, Err(Reason::TtlExceeded), "{mode:?}");
                assert_eq!(frame.bytes(), given, "{mode:?}");
            }
            for mode in [NAT, FULL] {
                let mut frame = frame(&given);
                assert_eq!(to_client(mode, &mut frame), Err(Reason::TtlExceeded));
                assert_eq!(frame.bytes(), given, "{mode:?}");
            }
        }
    }
}

/// A patch keeps an error, so that whoever checks finds it.
#[test]
fn a_wrong_checksum_stays_wrong() {
    let given = ip(CLIENT, VIP).with(tcp(CPORT, 80).bad_checksum());
    for mode in [NAT, FULL] {
        let mut frame = frame(&rx(&given));
        assert_eq!(to_real(mode, &mut frame, OUTER), Ok(()));
        let headers = PacketHeaders::from_ip_slice(&frame.bytes()[14..]).expect("a packet");
        let (net, transport) = (headers.net.expect("IPv4"), headers.transport.expect("TCP"));
        let (stored, computed) = sums(&net, transport, headers.payload.slice());
        assert_ne!(stored, computed, "{mode:?}");
    }
}

/// A frame with this much room in front of it.
fn with_headroom(room: usize, bytes: &[u8]) -> Buffer {
    let mut frame = frame(bytes);
    assert!(frame.prepend(frame.headroom() - room));
    frame.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    frame.truncate(bytes.len());
    frame
}

#[test]
fn a_tunnel_needs_room_in_front() {
    let given = rx(&ip(CLIENT, VIP).with(tcp(CPORT, 80)));
    for (mode, room) in [(IN4, 20), (IN6, 40)] {
        let mut short = with_headroom(room - 1, &given);
        assert_eq!(to_real(mode, &mut short, OUTER), Err(Reason::Oversize));
        assert_eq!(short.bytes(), given);
        let mut enough = with_headroom(room, &given);
        assert_eq!(to_real(mode, &mut enough, OUTER), Ok(()));
        assert_eq!(enough.bytes().len(), given.len() + room);
    }
}

#[test]
fn what_passes_us_one_way_only() {
    for mode in MODES {
        let given = rx(&ip(REAL, CLIENT).with(tcp(8080, CPORT)));
        let mut frame = frame(&given);
        let found = to_client(mode, &mut frame);
        assert_eq!(found.is_ok(), mode.is_two_way(), "{mode:?}");
        if !mode.is_two_way() {
            assert_eq!(found, Err(Reason::NoConnection));
            assert_eq!(frame.bytes(), given);
        }
    }
    assert_eq!([NAT, FULL].map(|mode| mode.is_two_way()), [true; 2]);
}

#[test]
fn the_directors_own_packets_stay_as_they_are() {
    let given = rx(&ip(CLIENT, VIP).ttl(1).with(tcp(CPORT, 80)));
    let mut frame = frame(&given);
    assert_eq!(to_real(Forwarder::Local, &mut frame, OUTER), Ok(()));
    assert_eq!(frame.bytes(), given);
    assert_eq!(Forwarder::Local.hop(), None);
    assert!(MODES[..5].iter().all(|mode| mode.hop() == Some(HOP)));
}

#[test]
fn only_tunnels_add_octets() {
    let overheads = MODES.map(|mode| mode.overhead());
    assert_eq!(overheads, [0, 0, 0, 20, 40, 0]);
    let mss = [DR, IN4, IN6].map(|mode| (mode.mss::<u32>(1500), mode.mss::<u128>(1500)));
    assert_eq!(mss, [(1460, 1440), (1440, 1420), (1420, 1400)]);
    assert_eq!(IN6.mss::<u128>(50), 0);
}

#[test]
#[rustfmt::skip]
fn a_syns_mss_is_clamped() {
    let cases = [
        ("lowered",                   ip(CLIENT, VIP).with(tcp(1, 80).syn().mss(1460)),        ip(CLIENT, VIP).with(tcp(1, 80).syn().mss(1440))),
        ("at an odd offset",          ip(CLIENT, VIP).with(tcp(1, 80).syn().nop().mss(1460)),  ip(CLIENT, VIP).with(tcp(1, 80).syn().nop().mss(1440))),
        ("IPv6",                      ip(CLIENT6, VIP6).with(tcp(1, 80).syn().mss(1441)),      ip(CLIENT6, VIP6).with(tcp(1, 80).syn().mss(1440))),
        ("less stays",                ip(CLIENT, VIP).with(tcp(1, 80).syn().mss(536)),         ip(CLIENT, VIP).with(tcp(1, 80).syn().mss(536))),
        ("none is added",             ip(CLIENT, VIP).with(tcp(1, 80).syn()),                  ip(CLIENT, VIP).with(tcp(1, 80).syn())),
        ("only in a SYN",             ip(CLIENT, VIP).with(tcp(1, 80).ack().mss(1460)),        ip(CLIENT, VIP).with(tcp(1, 80).ack().mss(1460))),
        ("UDP has none",              ip(CLIENT, VIP).with(udp(1, 80).payload([2, 4, 5, 180])), ip(CLIENT, VIP).with(udp(1, 80).payload([2, 4, 5, 180]))),
        ("nor has a later fragment",  ip(CLIENT, VIP).with(tcp(1, 80).syn().mss(1460)).fragment(8, false), ip(CLIENT, VIP).with(tcp(1, 80).syn().mss(1460)).fragment(8, false)),
    ];
    for (name, given, want) in cases {
        let mut frame = frame(&rx(&given));
        if is_v6(frame.bytes()) { fwd::clamp_mss::<u128, _>(&mut frame, 1440) } else { fwd::clamp_mss::<u32, _>(&mut frame, 1440) }
        assert_eq!(frame.bytes(), rx(&want), "{name}");
    }
}

/// Finds the connection that the error is about, says on which side, and translates it.
fn translate(mode: Forwarder, frame: &mut Buffer) -> Option<&'static str> {
    if is_v6(frame.bytes()) {
        translate_in(mode, frame, &v6(mode))
    } else {
        translate_in(mode, frame, &v4(mode))
    }
}

fn translate_in<A: Family>(
    mode: Forwarder,
    frame: &mut Buffer,
    entry: &Entry<A>,
) -> Option<&'static str> {
    use dataplane::conn::Side;
    let found = translated::embedded::<A>(frame.bytes())?;
    let mut entry = *entry;
    entry.protocol = found.key.protocol;
    let entry = &entry;
    if found.key == entry.key(Side::Client) {
        assert_eq!(mode.error_to_real(frame, entry, LINK, OUTER), Ok(()));
        Some("to the real")
    } else if found.key == entry.key(Side::Real) {
        assert_eq!(mode.error_to_client(frame, entry, LINK), Ok(()));
        Some("to the client")
    } else {
        Some("to nobody")
    }
}

#[test]
#[rustfmt::skip]
fn errors_are_translated_outside_and_inside() {
    const TO_REAL: &str = "to the real";
    const TO_CLIENT: &str = "to the client";
    let answer = || tcp(80, CPORT).ack().payload(*b"page");
    let answered = || tcp(8080, CPORT).ack().payload(*b"page");
    let answered_full = || tcp(8080, LPORT).ack().payload(*b"page");
    let cases = [
        ("NAT: too large for the client's path", NAT, TO_REAL,
            ip(ROUTER, VIP).with(icmp(3, 4).rest(1400).quoting(&ip(VIP, CLIENT).df().with(answer()))),
            ip(ROUTER, REAL).ttl(63).with(icmp(3, 4).rest(1400).quoting(&ip(REAL, CLIENT).df().with(answered())))),
        ("NAT: only 28 octets quoted", NAT, TO_REAL,
            ip(ROUTER, VIP).with(icmp(11, 0).quoting_first(28, &ip(VIP, CLIENT).with(answer()))),
            ip(ROUTER, REAL).ttl(63).with(icmp(11, 0).quoting_first(28, &ip(REAL, CLIENT).with(answered())))),
        ("NAT: quoted up to TCP's checksum", NAT, TO_REAL,
            ip(ROUTER, VIP).with(icmp(4, 0).quoting_first(38, &ip(VIP, CLIENT).with(answer()))),
            ip(ROUTER, REAL).ttl(63).with(icmp(4, 0).quoting_first(38, &ip(REAL, CLIENT).with(answered())))),
        ("NAT: UDP, with options in the quote", NAT, TO_REAL,
            ip(CLIENT, VIP).with(icmp(3, 3).quoting(&ip(VIP, CLIENT).options(&[1; 4]).with(udp(80, CPORT)))),
            ip(CLIENT, REAL).ttl(63).with(icmp(3, 3).quoting(&ip(REAL, CLIENT).options(&[1; 4]).with(udp(8080, CPORT))))),
        ("NAT: IPv6", NAT, TO_REAL,
            ip(ROUTER6, VIP6).with(icmp(2, 0).rest(1400).quoting(&ip(VIP6, CLIENT6).with(answer()))),
            ip(ROUTER6, REAL6).ttl(63).with(icmp(2, 0).rest(1400).quoting(&ip(REAL6, CLIENT6).with(answered())))),
        ("NAT: the real server's port is closed", NAT, TO_CLIENT,
            ip(REAL, CLIENT).with(icmp(3, 3).quoting(&ip(CLIENT, REAL).ttl(63).with(udp(CPORT, 8080)))),
            ip(VIP, CLIENT).ttl(63).with(icmp(3, 3).quoting(&ip(CLIENT, VIP).ttl(63).with(udp(CPORT, 80))))),
        ("NAT: a router before the real server", NAT, TO_CLIENT,
            ip(ROUTER, CLIENT).with(icmp(11, 0).quoting_first(28, &ip(CLIENT, REAL).with(tcp(CPORT, 8080)))),
            ip(VIP, CLIENT).ttl(63).with(icmp(11, 0).quoting_first(28, &ip(CLIENT, VIP).with(tcp(CPORT, 80))))),
        ("NAT: IPv6, to the client", NAT, TO_CLIENT,
            ip(REAL6, CLIENT6).with(icmp(1, 4).quoting(&ip(CLIENT6, REAL6).with(udp(CPORT, 8080)))),
            ip(VIP6, CLIENT6).ttl(63).with(icmp(1, 4).quoting(&ip(CLIENT6, VIP6).with(udp(CPORT, 80))))),
        ("NAT: SCTP, ports and tag quoted", NAT, TO_REAL,
            ip(ROUTER, VIP).with(icmp(3, 4).rest(1400).quoting_first(28, &ip(VIP, CLIENT).df().with(message(80, CPORT)))),
            ip(ROUTER, REAL).ttl(63).with(icmp(3, 4).rest(1400).quoting_first(28, &ip(REAL, CLIENT).df().with(message(8080, CPORT))))),
        ("NAT: SCTP, to the client", NAT, TO_CLIENT,
            ip(REAL, CLIENT).with(icmp(3, 2).quoting_first(28, &ip(CLIENT, REAL).with(message(CPORT, 8080)))),
            ip(VIP, CLIENT).ttl(63).with(icmp(3, 2).quoting_first(28, &ip(CLIENT, VIP).with(message(CPORT, 80))))),
        ("FULLNAT: SCTP over IPv6", FULL, TO_REAL,
            ip(ROUTER6, VIP6).with(icmp(2, 0).rest(1400).quoting_first(48, &ip(VIP6, CLIENT6).with(message(80, CPORT)))),
            ip(LOCAL6, REAL6).ttl(63).with(icmp(2, 0).rest(1400).quoting_first(48, &ip(REAL6, LOCAL6).with(message(8080, LPORT))))),
        ("FULLNAT: to the real server, from a local address", FULL, TO_REAL,
            ip(ROUTER, VIP).with(icmp(3, 4).rest(1400).quoting(&ip(VIP, CLIENT).with(answer()))),
            ip(LOCAL, REAL).ttl(63).with(icmp(3, 4).rest(1400).quoting(&ip(REAL, LOCAL).with(answered_full())))),
        ("FULLNAT: IPv6", FULL, TO_REAL,
            ip(ROUTER6, VIP6).with(icmp(3, 0).quoting(&ip(VIP6, CLIENT6).with(answer()))),
            ip(LOCAL6, REAL6).ttl(63).with(icmp(3, 0).quoting(&ip(REAL6, LOCAL6).with(answered_full())))),
        ("FULLNAT: to the client", FULL, TO_CLIENT,
            ip(REAL, LOCAL).with(icmp(3, 3).quoting(&ip(LOCAL, REAL).with(udp(LPORT, 8080).unsummed()))),
            ip(VIP, CLIENT).ttl(63).with(icmp(3, 3).quoting(&ip(CLIENT, VIP).with(udp(CPORT, 80).unsummed())))),
        ("FULLNAT: IPv6, to the client", FULL, TO_CLIENT,
            ip(ROUTER6, LOCAL6).hop_by_hop().with(icmp(1, 0).quoting(&ip(LOCAL6, REAL6).destination().with(tcp(LPORT, 8080)))),
            ip(VIP6, CLIENT6).hop_by_hop().ttl(63).with(icmp(1, 0).quoting(&ip(CLIENT6, VIP6).destination().with(tcp(CPORT, 80))))),
        ("DR: a packet like any other", DR, TO_REAL,
            ip(ROUTER, VIP).with(icmp(3, 4).rest(1400).quoting(&ip(VIP, CLIENT).with(answer()))),
            ip(ROUTER, VIP).ttl(63).with(icmp(3, 4).rest(1400).quoting(&ip(VIP, CLIENT).with(answer())))),
        ("TUN: through the tunnel", IN4, TO_REAL,
            ip(ROUTER, VIP).df().with(icmp(3, 4).rest(1400).quoting(&ip(VIP, CLIENT).with(answer()))),
            ip(DIP, REAL).ttl(63).df().with(ip(ROUTER, VIP).df().ttl(63).with(icmp(3, 4).rest(1400).quoting(&ip(VIP, CLIENT).with(answer()))))),
    ];
    for (name, mode, way, given, want) in cases {
        let mut frame = frame(&rx(&given));
        assert_eq!(translate(mode, &mut frame), Some(way), "{name}");
        assert_eq!(frame.bytes(), tx(&want), "{name}");
        intact(name, &frame.bytes()[14..]);
    }
}

#[test]
#[rustfmt::skip]
fn what_is_no_error_of_a_connection() {
    let quoted = || ip(VIP, CLIENT).with(udp(80, CPORT));
    let quoted6 = || ip(VIP6, CLIENT6).with(udp(80, CPORT));
    let cases = [
        ("an echo",                     ip(CLIENT, VIP).with(echo_request(1, 2).payload(quoted().bytes()))),
        ("a redirect",                  ip(CLIENT, VIP).with(icmp(5, 0).quoting(&quoted()))),
        ("a parameter problem",         ip(CLIENT, VIP).with(icmp(12, 0).quoting(&quoted()))),
        ("a wrong checksum",            ip(CLIENT, VIP).with(icmp(3, 3).quoting(&quoted()).bad_checksum())),
        ("27 octets quoted",            ip(CLIENT, VIP).with(icmp(3, 3).quoting_first(27, &quoted()))),
        ("nothing quoted",              ip(CLIENT, VIP).with(icmp(3, 3))),
        ("a later fragment quoted",     ip(CLIENT, VIP).with(icmp(3, 3).quoting(&ip(VIP, CLIENT).with(udp(80, CPORT)).fragment(8, false)))),
        ("ICMP quoted",                 ip(CLIENT, VIP).with(icmp(3, 3).quoting(&ip(VIP, CLIENT).with(echo_reply(1, 1))))),
        ("a later fragment itself",     ip(CLIENT, VIP).with(icmp(3, 3).quoting(&quoted())).fragment(8, false)),
        ("the other family quoted",     ip(CLIENT, VIP).with(icmp(3, 3).quoting(&quoted6()))),
        ("UDP",                         ip(CLIENT, VIP).with(udp(3, 3))),
        ("an echo, IPv6",               ip(CLIENT6, VIP6).with(echo_request(1, 2).payload(quoted6().bytes()))),
        ("a wrong checksum, IPv6",      ip(CLIENT6, VIP6).with(icmp(1, 4).quoting(&quoted6()).bad_checksum())),
        ("47 octets quoted",            ip(CLIENT6, VIP6).with(icmp(1, 4).quoting_first(47, &quoted6()))),
    ];
    for (name, given) in cases {
        let mut frame = frame(&rx(&given));
        assert_eq!(translate(NAT, &mut frame), None, "{name}");
        assert_eq!(frame.bytes(), rx(&given), "{name}");
    }
}

#[test]
#[rustfmt::skip]
fn errors_about_a_tunnels_header() {
    let inner = || ip(CLIENT, VIP).df().with(tcp(CPORT, 80).payload([7; 40]));
    let inner6 = || ip(CLIENT6, VIP6).with(tcp(CPORT, 80));
    let outer = |inner: Packet| ip(DIP, REAL).df().with(inner);
    let outer6 = |inner: Packet| ip(DIP6, REAL6).with(inner);
    let cases = [
        ("a smaller path",        ip(ROUTER, DIP).with(icmp(3, 4).rest(1400).quoting(&outer(inner()))),   Some(1400), inner().bytes(), Kind::FragmentationNeeded { mtu: 1380 }),
        ("nothing but 8 octets",  ip(ROUTER, DIP).with(icmp(3, 4).rest(1400).quoting_first(28, &outer(inner()))), Some(1400), inner().bytes()[..8].to_vec(), Kind::FragmentationNeeded { mtu: 1380 }),
        ("host unreachable",      ip(ROUTER, DIP).with(icmp(3, 1).quoting(&outer(inner()))),              None, inner().bytes(), Kind::Unreachable { code: 1 }),
        ("time exceeded",         ip(ROUTER, DIP).with(icmp(11, 0).quoting(&outer(inner()))),             None, inner().bytes(), Kind::TimeExceeded),
        ("6in4: codes differ",    ip(ROUTER, DIP).with(icmp(3, 3).quoting(&outer(inner6()))),             None, inner6().bytes(), Kind::HostUnreachable),
        ("6in6: a smaller path",  ip(ROUTER6, DIP6).with(icmp(2, 0).rest(1400).quoting(&outer6(inner6()))), Some(1400), inner6().bytes(), Kind::FragmentationNeeded { mtu: 1360 }),
        ("6in6: no route",        ip(ROUTER6, DIP6).with(icmp(1, 0).quoting(&outer6(inner6()))),          None, inner6().bytes(), Kind::Unreachable { code: 0 }),
        ("4in6: no route",        ip(ROUTER6, DIP6).with(icmp(1, 0).quoting(&outer6(inner()))),           None, inner().bytes(), Kind::HostUnreachable),
    ];
    for (name, given, mtu, inner, kind) in cases {
        let bytes = rx(&given);
        let (found, ends): (_, [IpAddr; 2]) = if is_v6(&bytes) {
            assert_eq!(translated::embedded::<u128>(&bytes), None, "{name}");
            (translated::about_tunnel::<u128>(&bytes), [DIP6.into(), REAL6.into()])
        } else {
            assert_eq!(translated::embedded::<u32>(&bytes), None, "{name}");
            (translated::about_tunnel::<u32>(&bytes), [DIP.into(), REAL.into()])
        };
        let found = found.expect(name);
        assert_eq!([found.source, found.destination], ends, "{name}");
        assert_eq!((found.mtu, found.inner, found.kind), (mtu, &inner[..], kind), "{name}");
    }
    let data = rx(&ip(ROUTER, DIP).with(icmp(3, 4).quoting(&ip(DIP, REAL).with(tcp(1, 2)))));
    assert_eq!(translated::about_tunnel::<u32>(&data), None);
}

#[test]
#[rustfmt::skip]
fn errors_of_our_own() {
    let long = || udp(CPORT, 80).payload([7; 1400]);
    let v4 = |kind, packet| (Reply { kind, source: VIP.into() }, packet);
    let v6 = |kind, packet| (Reply { kind, source: VIP6.into() }, packet);
    let about = || ip(CLIENT, VIP).tos(0x10).with(udp(CPORT, 80));
    let about6 = || ip(CLIENT6, VIP6).with(udp(CPORT, 80));
    let says = |message| ip(VIP, CLIENT).tos(0xd0).df().with(message);
    let says6 = |message| ip(VIP6, CLIENT6).with(message);
    let cases = [
        (v4(Kind::PortUnreachable, about()),                     says(icmp(3, 3).quoting(&about()))),
        (v4(Kind::HostUnreachable, about()),                     says(icmp(3, 1).quoting(&about()))),
        (v4(Kind::Unreachable { code: 13 }, about()),            says(icmp(3, 13).quoting(&about()))),
        (v4(Kind::TimeExceeded, about()),                        says(icmp(11, 0).quoting(&about()))),
        (v4(Kind::ErroneousField { pointer: 20 }, about()),      says(icmp(12, 0).rest(20 << 24).quoting(&about()))),
        (v6(Kind::ErroneousField { pointer: 43 }, about6()),     says6(icmp(4, 0).rest(43).quoting(&about6()))),
        (v4(Kind::FragmentationNeeded { mtu: 1480 }, about()),   says(icmp(3, 4).rest(1480).quoting(&about()))),
        (v4(Kind::TimeExceeded, ip(CLIENT, VIP).with(long())),   ip(VIP, CLIENT).tos(0xc0).df().with(icmp(11, 0).quoting_first(548, &ip(CLIENT, VIP).with(long())))),
        (v6(Kind::PortUnreachable, about6()),                    says6(icmp(1, 4).quoting(&about6()))),
        (v6(Kind::HostUnreachable, about6()),                    says6(icmp(1, 3).quoting(&about6()))),
        (v6(Kind::Unreachable { code: 1 }, about6()),            says6(icmp(1, 1).quoting(&about6()))),
        (v6(Kind::TimeExceeded, about6()),                       says6(icmp(3, 0).quoting(&about6()))),
        (v6(Kind::FragmentationNeeded { mtu: 1460 }, about6()),  says6(icmp(2, 0).rest(1460).quoting(&about6()))),
        (v6(Kind::FragmentationNeeded { mtu: 1240 }, about6()),  says6(icmp(2, 0).rest(1280).quoting(&about6()))),
        (v6(Kind::TimeExceeded, ip(CLIENT6, VIP6).with(long())), says6(icmp(3, 0).quoting_first(1232, &ip(CLIENT6, VIP6).with(long())))),
    ];
    for ((reply, given), want) in cases {
        let mut made = Recycler::default().empty();
        assert!(reply.write(&rx(&given), ETHERNET, &mut made), "{reply:?}");
        assert_eq!(made.bytes(), want.ether(CAME, PEER).bytes(), "{reply:?}");
        intact("reply", &made.bytes()[14..]);
    }
}

/// Found by fuzzing: on a link of 68 octets an error was 72 long.
#[test]
fn an_error_fits_its_link() {
    let about = ip(CLIENT, VIP)
        .options(&[1; 20])
        .with(udp(CPORT, 80).payload([7; 40]));
    let reply = Reply {
        kind: Kind::PortUnreachable,
        source: VIP.into(),
    };
    for (mtu, want) in [
        (76, Some(76)),
        (75, None),
        (80, Some(80)),
        (1500, Some(116)),
    ] {
        let mut made = Recycler::default().empty();
        let written = reply.write(&rx(&about), mtu, &mut made);
        assert_eq!(written.then(|| made.bytes().len() - 14), want, "{mtu}");
    }
}

#[test]
#[rustfmt::skip]
fn what_gets_no_error() {
    let reply = Reply { kind: Kind::PortUnreachable, source: VIP.into() };
    let reply6 = Reply { kind: Kind::PortUnreachable, source: VIP6.into() };
    let datagram = || udp(1, 2);
    let cases = [
        ("an error",              reply,  rx(&ip(CLIENT, VIP).with(icmp(3, 3)))),
        ("a later fragment",      reply,  rx(&ip(CLIENT, VIP).with(datagram()).fragment(8, true))),
        ("to a group",            reply,  rx(&ip(CLIENT, [224, 0, 0, 1]).with(datagram()))),
        ("to everybody",          reply,  rx(&ip(CLIENT, [255; 4]).with(datagram()))),
        ("to all on the link",    reply,  ip(CLIENT, VIP).with(datagram()).ether(PEER, Mac::BROADCAST).bytes()),
        ("the other family",      reply,  rx(&ip(CLIENT6, VIP6).with(datagram()))),
        ("an error, IPv6",        reply6, rx(&ip(CLIENT6, VIP6).with(icmp(1, 4)))),
        ("a later fragment",      reply6, rx(&ip(CLIENT6, VIP6).with(datagram()).fragment(8, true))),
        ("from a group",          reply6, rx(&ip(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), VIP6).with(datagram()))),
        ("to a group, IPv6",      reply6, rx(&ip(CLIENT6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)).with(datagram()))),
        ("no packet",             reply,  vec![0; 20]),
        ("no frame",              reply,  vec![0; 3]),
    ];
    for (name, reply, given) in cases {
        assert!(!reply.write(&given, ETHERNET, &mut Recycler::default().empty()), "{name}");
    }
}

#[test]
fn what_a_tunnel_lost_is_retold_to_the_client() {
    let inner = ip(CLIENT, VIP).df().with(tcp(CPORT, 80).payload([7; 40]));
    let outer = ip(DIP, REAL).df().with(inner.clone());
    let given = rx(&ip(ROUTER, DIP).with(icmp(3, 4).rest(1400).quoting_first(60, &outer)));
    let found = translated::about_tunnel::<u32>(&given).expect("about a tunnel");
    let reply = Reply {
        kind: found.kind,
        source: VIP.into(),
    };
    let mut made = Recycler::default().empty();
    assert!(reply.write_to(found.inner, LINK, ETHERNET, &mut made));
    let message = icmp(3, 4).rest(1380).quoting_first(40, &inner);
    let want = ip(VIP, CLIENT).tos(0xc0).df().with(message);
    assert_eq!(made.bytes(), tx(&want));
}

#[test]
#[rustfmt::skip]
fn echoes_are_answered_in_place() {
    let cases = [
        ("IPv4",             ip(CLIENT, VIP).ttl(3).with(echo_request(7, 1).payload(*b"ping")),   Some(ip(VIP, CLIENT).with(echo_reply(7, 1).payload(*b"ping")))),
        ("IPv6",             ip(CLIENT6, VIP6).ttl(3).with(echo_request(7, 1).payload(*b"ping")), Some(ip(VIP6, CLIENT6).with(echo_reply(7, 1).payload(*b"ping")))),
        ("with a header between", ip(CLIENT6, VIP6).destination().with(echo_request(7, 1)),       Some(ip(VIP6, CLIENT6).destination().with(echo_reply(7, 1)))),
        ("an answer",        ip(CLIENT, VIP).with(echo_reply(7, 1)),                              None),
        ("an answer, IPv6",  ip(CLIENT6, VIP6).with(echo_reply(7, 1)),                            None),
        ("a wrong checksum", ip(CLIENT, VIP).with(echo_request(7, 1).bad_checksum()),             None),
        ("IPv6, wrong",      ip(CLIENT6, VIP6).with(echo_request(7, 1).bad_checksum()),           None),
        ("a fragment",       ip(CLIENT, VIP).with(echo_request(7, 1)).fragment(0, true),          None),
        ("IPv6, a fragment", ip(CLIENT6, VIP6).with(echo_request(7, 1)).fragment(0, true),        None),
        ("another code",     ip(CLIENT, VIP).with(icmp(8, 1)),                                    None),
        ("other protocols",  ip(CLIENT, VIP).raw(Protocol::UDP, [8, 0, 0xf7, 0xff, 0, 0, 0, 0]),  None),
    ];
    for (name, given, want) in cases {
        let mut frame = frame(&given.ether(PEER, CAME).padded().bytes());
        assert_eq!(reply::echo(&mut frame), want.is_some(), "{name}");
        let want = want.map_or(given.ether(PEER, CAME).padded(), |want| want.ether(CAME, PEER));
        assert_eq!(frame.bytes(), want.bytes(), "{name}");
    }
}

/// A patch that ends in 0 is stored as 0xffff for UDP: 0 would read as absent.
#[test]
fn a_patched_zero_is_no_absent_checksum() {
    let mut zeros = 0;
    for filler in 0..=u16::MAX {
        let want = ip(CLIENT, REAL)
            .with(udp(CPORT, 8080).payload(filler.to_be_bytes()))
            .bytes();
        if want[26..28] == [0xff, 0xff] {
            zeros += 1;
            let given = ip(CLIENT, VIP).with(udp(CPORT, 80).payload(filler.to_be_bytes()));
            let mut frame = frame(&rx(&given));
            assert_eq!(to_real(NAT, &mut frame, OUTER), Ok(()));
            assert_eq!(frame.bytes()[40..42], [0xff, 0xff]);
        }
    }
    assert!(zeros > 0, "some filler sums to zero");
}

/// What a peer sends: TCP or UDP, summed or not, between any ports.
fn body(which: usize, ports: (u16, u16), data: &[u8]) -> Body {
    match which {
        0 => tcp(ports.0, ports.1).acks(1).payload(data).into(),
        1 => udp(ports.0, ports.1).payload(data).into(),
        _ => udp(ports.0, ports.1).payload(data).unsummed().into(),
    }
}

/// A connection between any ends, and a packet of the client on it.
fn packet<A: Address>(entry: &Entry<A>, which: usize, data: &[u8], ttl: u8) -> Packet {
    ip(entry.client.to_ip(), entry.vip.to_ip())
        .ttl(ttl)
        .with(body(which, (entry.client_port, entry.vip_port), data))
}

fn any_entry<A: Address + Arbitrary>() -> impl Strategy<Value = Entry<A>> {
    any::<([A; 4], [u16; 4])>().prop_map(|(addresses, ports)| between(addresses, ports))
}

/// There, and the same octets back: each as built anew between the ends that it then has.
fn there_and_back<A: Family>(mode: Forwarder, entry: Entry<A>, which: usize, data: &[u8]) {
    let entry = fit(mode, entry);
    let given = packet(&entry, which, data, 64);
    let mut there = frame(&rx(&given));
    assert_eq!(mode.to_real(&mut there, &entry, LINK, OUTER), Ok(()));
    let want = ip(entry.local.to_ip(), entry.real.to_ip())
        .ttl(63)
        .with(body(which, (entry.local_port, entry.real_port), data));
    assert_eq!(there.bytes(), tx(&want), "patched is recomputed");
    let answer = ip(entry.real.to_ip(), entry.local.to_ip()).with(body(
        which,
        (entry.real_port, entry.local_port),
        data,
    ));
    let mut back = frame(&rx(&answer));
    assert_eq!(mode.to_client(&mut back, &entry, LINK), Ok(()));
    let want = ip(entry.vip.to_ip(), entry.client.to_ip())
        .ttl(63)
        .with(body(which, (entry.vip_port, entry.client_port), data));
    assert_eq!(back.bytes(), tx(&want), "the reply undoes it");
}

/// An error about any packet of a connection, quoted to any length: as built anew.
fn error_to_real<A: Family>(mode: Forwarder, entry: Entry<A>, which: usize, cut: usize) {
    let entry = fit(mode, entry);
    let (kind, header) = if A::HEADER == 20 { (3, 20) } else { (1, 40) };
    let cut = header + if which == 0 && cut == 17 { 18 } else { cut };
    let quote = |from: (A, u16), to: (A, u16)| {
        let data = body(which, (from.1, to.1), b"data");
        icmp(kind, 1).quoting_first(cut, &ip(from.0.to_ip(), to.0.to_ip()).with(data))
    };
    let [client, vip, real, local] = [
        (entry.client, entry.client_port),
        (entry.vip, entry.vip_port),
        (entry.real, entry.real_port),
        (entry.local, entry.local_port),
    ];
    let given = ip(client.0.to_ip(), vip.0.to_ip()).with(quote(vip, client));
    let mut frame = frame(&rx(&given));
    assert_eq!(mode.error_to_real(&mut frame, &entry, LINK, OUTER), Ok(()));
    let want = ip(local.0.to_ip(), real.0.to_ip())
        .ttl(63)
        .with(quote(real, local));
    assert_eq!(frame.bytes(), tx(&want));
}

fn untouched_on_error(frame: &Buffer, before: &[u8], result: Result<(), Reason>) {
    if result.is_err() {
        assert_eq!(frame.bytes(), before);
    }
}

/// Everything that reads or rewrites, on any bytes: no panic, and nothing half done.
fn anything<A: Family>(bytes: &[u8], entry: &Entry<A>) {
    for mode in MODES {
        let mut buffer = frame(bytes);
        let result = mode.to_real(&mut buffer, entry, LINK, OUTER);
        untouched_on_error(&buffer, bytes, result);
        let mut buffer = frame(bytes);
        let result = mode.to_client(&mut buffer, entry, LINK);
        untouched_on_error(&buffer, bytes, result);
        let mut buffer = frame(bytes);
        let result = mode.error_to_real(&mut buffer, entry, LINK, OUTER);
        untouched_on_error(&buffer, bytes, result);
        let mut buffer = frame(bytes);
        let result = mode.error_to_client(&mut buffer, entry, LINK);
        untouched_on_error(&buffer, bytes, result);
    }
    let _ = (
        translated::embedded::<A>(bytes),
        translated::about_tunnel::<A>(bytes),
    );
    fwd::clamp_mss::<A, _>(&mut frame(bytes), 1000);
    let reply = Reply {
        kind: Kind::PortUnreachable,
        source: entry.vip.to_ip(),
    };
    reply.write(bytes, ETHERNET, &mut Recycler::default().empty());
    reply::echo(&mut frame(bytes));
}

/// Bytes that are likely to be half right: a packet with some octets changed, cut short.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let quoted = ip(VIP, CLIENT).with(tcp(80, CPORT));
    let quoted6 = ip(VIP6, CLIENT6).with(udp(80, CPORT));
    let good = vec![
        rx(&ip(CLIENT, VIP).with(tcp(CPORT, 80).syn().mss(1460))),
        rx(&ip(CLIENT, VIP).options(&[1; 8]).with(udp(CPORT, 80))),
        rx(&ip(CLIENT6, VIP6)
            .hop_by_hop()
            .fragment(0, true)
            .with(udp(CPORT, 80))),
        rx(&ip(CLIENT, VIP).with(icmp(3, 3).quoting(&quoted))),
        rx(&ip(CLIENT6, VIP6).with(icmp(1, 4).quoting(&quoted6))),
        rx(&ip(ROUTER, DIP).with(icmp(3, 4).quoting(&ip(DIP, REAL).with(quoted)))),
        ether(PEER, CAME).bytes(),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (
        prop::sample::select(good),
        edits,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut bytes, edits, end, cut)| {
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn there_and_back_v4(
        entry in any_entry::<u32>(), full in any::<bool>(), which in 0..3usize,
        data in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        there_and_back(if full { FULL } else { NAT }, entry, which, &data);
    }

    #[test]
    fn there_and_back_v6(
        entry in any_entry::<u128>(), full in any::<bool>(), which in 0..3usize,
        data in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        there_and_back(if full { FULL } else { NAT }, entry, which, &data);
    }

    #[test]
    fn errors_as_built_anew(
        entry in any_entry::<u32>(), entry6 in any_entry::<u128>(), full in any::<bool>(),
        which in 0..3usize, cut in 8usize..30,
    ) {
        let mode = if full { FULL } else { NAT };
        error_to_real(mode, entry, which, cut);
        error_to_real(mode, entry6, which, cut);
    }

    #[test]
    fn any_bytes_and_nothing_half_done(bytes in mangled()) {
        anything(&bytes, &v4(FULL));
        anything(&bytes, &v6(FULL));
    }

    #[test]
    fn noise(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        anything(&bytes, &v4(NAT));
        anything(&bytes, &v6(NAT));
    }
}

/// An error is about the tunnel that it quotes, and about no other between the same ends.
#[test]
#[rustfmt::skip]
fn errors_about_gre_and_gue() {
    const GRE: Envelope = Envelope::Gre { summed: false };
    const GRE_SUM: Envelope = Envelope::Gre { summed: true };
    let gue = |port: u16, checksum| Envelope::Gue { port: port.into(), checksum };
    let gue_sum = gue(6080, Checksum::Sum);
    let remote = gue(6080, Checksum::Remote);
    let cases = [
        ("ipip",         Envelope::Ipip, 20, Some(GRE)),
        ("gre",          GRE,            24, Some(Envelope::Ipip)),
        ("gre, summed",  GRE_SUM,        28, Some(gue_sum)),
        ("gue",          gue_sum,        32, Some(gue(6081, Checksum::Sum))),
        ("gue, remote",  remote,         40, None),
    ];
    let given = ip(CLIENT, VIP).df().with(tcp(CPORT, 80).syn());
    for (name, envelope, overhead, other) in cases {
        let mode = enveloped(IN4, envelope);
        let mut sent = frame(&rx(&given));
        assert_eq!(to_real(mode, &mut sent, OUTER), Ok(()), "{name}");
        let message = icmp(3, 4).rest(1400).payload(&sent.bytes()[14..]);
        let error = rx(&ip(ROUTER, DIP).with(message));
        let about = translated::about_any_tunnel(&error).expect(name);
        assert_eq!(about.kind, Kind::FragmentationNeeded { mtu: 1400 - overhead }, "{name}");
        let Forwarder::Tun { tunnel, .. } = mode else { panic!("{name}") };
        assert!(about.is_through(&tunnel, envelope), "{name}");
        assert!(other.is_none_or(|other| !about.is_through(&tunnel, other)), "{name}");
        let flow = translated::quoted_flow::<u32>(about.inner).map(|(key, df)| (key.source_port, df));
        assert_eq!(flow, Some((CPORT, true)), "{name}");
    }
}
