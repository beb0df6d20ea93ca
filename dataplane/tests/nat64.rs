//! IPv6 clients and IPv4 real servers: whole frames in, whole frames out, read back by etherparse
//! (RFC 7915; docs/rfc.md says which row is for which MUST).

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::fleet::{Fleet, Mode, REAL_PORT, Spec, real_address, vip};
use common::intact::intact;
use common::*;
use dataplane::port::PortId;
use dataplane::sched::Kind;
use dataplane::verdict::Reason;
use proptest::prelude::*;
use wire::build::{Body, Packet, icmp, ip, tcp, udp};
use wire::{Mac, Protocol, ipv4, ipv6, tcp::Flags};

const ETHERNET: usize = 14;
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const CPORT: u16 = 31_337;

/// A connection, seen from both sides.
struct Path {
    fleet: Fleet,
    local: (Ipv4Addr, u16),
    vip: (Ipv6Addr, u16),
    real: (Ipv4Addr, u16),
}

impl Path {
    fn open(protocol: u8) -> Self {
        Self::with(protocol, |_| ())
    }

    fn with(protocol: u8, change: impl FnOnce(&mut Fleet)) -> Self {
        let spec = Spec::new(true, protocol, Kind::Rr, &[(1, Mode::Nat64)]);
        let port = spec.port;
        let mut fleet = Fleet::new(1, vec![spec]);
        change(&mut fleet);
        fleet.compile();
        let (IpAddr::V6(vip), IpAddr::V4(real)) = (vip(0, true), real_address(1, false)) else {
            panic!("the families that were asked for");
        };
        let mut path = Self {
            fleet,
            local: (Ipv4Addr::UNSPECIFIED, 0),
            vip: (vip, port),
            real: (real, REAL_PORT),
        };
        let opening: Body = match protocol {
            TCP => tcp(CPORT, port).syn().into(),
            _ => udp(CPORT, port).into(),
        };
        let sent = path.give(WAN, &ip(CLIENT6, vip).with(opening));
        let (bytes, packet) = (&sent[0].1, ipv4_of(&sent[0].1));
        let port = u16::from_be_bytes([bytes[34], bytes[35]]);
        path.local = (packet.src(), port);
        path
    }

    fn give(&mut self, port: PortId, packet: &Packet) -> Vec<(PortId, Vec<u8>)> {
        let mac = if port == WAN { WAN_MAC } else { LAN_MAC };
        let frame = packet.ether(GATEWAY_MAC, mac).bytes();
        self.fleet.give(0, port, &frame);
        self.fleet.turn(0)
    }

    /// What one frame became; nothing else may be sent.
    fn one(&mut self, name: &str, port: PortId, packet: &Packet) -> Vec<u8> {
        let mut sent = self.give(port, packet);
        assert_eq!(sent.len(), 1, "{name}: {:?}", self.fleet.drops());
        let (out, bytes) = sent.remove(0);
        assert_ne!(out, port, "{name}");
        bytes
    }

    fn to_vip(&self) -> Packet {
        ip(CLIENT6, self.vip.0)
    }

    fn to_real(&self) -> Packet {
        ip(self.local.0, self.real.0)
    }

    fn to_local(&self) -> Packet {
        ip(self.real.0, self.local.0)
    }

    fn to_client(&self) -> Packet {
        ip(self.vip.0, CLIENT6)
    }

    /// Ports of packets of the client's: as it sends them, as the real server gets them.
    fn forth(&self) -> [(u16, u16); 2] {
        [(CPORT, self.vip.1), (self.local.1, self.real.1)]
    }

    /// Of the real server's.
    fn back(&self) -> [(u16, u16); 2] {
        [(self.real.1, self.local.1), (self.vip.1, CPORT)]
    }
}

fn ipv4_of(frame: &[u8]) -> ipv4::Packet<&[u8]> {
    ipv4::Packet::parse(&frame[ETHERNET..]).expect("IPv4")
}

fn ipv6_of(frame: &[u8]) -> ipv6::Packet<&[u8]> {
    ipv6::Packet::parse(&frame[ETHERNET..]).expect("IPv6")
}

fn lan(packet: &Packet) -> Vec<u8> {
    packet.ether(LAN_MAC, real_mac(1)).bytes()
}

fn wan(packet: &Packet) -> Vec<u8> {
    packet.ether(WAN_MAC, GATEWAY_MAC).bytes()
}

#[test]
#[rustfmt::skip]
fn towards_the_real_server() {
    let mut tcp_path = Path::open(TCP);
    let mut udp_path = Path::open(UDP);
    let [c, r] = tcp_path.forth();
    let [uc, ur] = udp_path.forth();
    let (to_vip, to_real) = (tcp_path.to_vip(), tcp_path.to_real().ttl(63));
    let (u_vip, u_real) = (udp_path.to_vip(), udp_path.to_real().ttl(63));
    let segment = |(from, to): (u16, u16), n: usize| tcp(from, to).ack().payload(vec![7; n]);
    let datagram = |(from, to): (u16, u16), n: usize| udp(from, to).payload(vec![7; n]);
    let vip = || to_vip.clone();
    let real = || to_real.clone();
    let cases = [
        ("hop limit, class, no label",     vip().ttl(9).tos(0xb9).flow_label(0xabcde).with(segment(c, 3)), real().ttl(8).tos(0xb9).with(segment(r, 3))),
        ("no data",                        vip().with(segment(c, 0)),                                     real().with(segment(r, 0))),
        ("headers that say nothing",       vip().hop_by_hop().destination().routing().with(segment(c, 3)), real().with(segment(r, 3))),
        ("1280 octets: may be fragmented", vip().with(segment(c, 1220)),                                  real().with(segment(r, 1220))),
        ("1281 octets: may not",           vip().with(segment(c, 1221)),                                  real().df().with(segment(r, 1221))),
        ("1500 octets",                    vip().with(segment(c, 1440)),                                  real().df().with(segment(r, 1440))),
        ("a fragment that is all",         vip().fragment(0, false).id(0xdead_beef).with(segment(c, 3)),  real().id(0xbeef).with(segment(r, 3))),
        ("a large fragment that is all",   vip().fragment(0, false).id(0xdead_beef).with(segment(c, 1400)), real().id(0xbeef).with(segment(r, 1400))),
    ];
    for (name, given, want) in cases {
        let sent = tcp_path.one(name, WAN, &given);
        let id = ipv4_of(&sent).id();
        if ipv6::Packet::parse(&given.bytes()[..]).is_ok_and(|it| it.upper().unwrap().fragment.is_some()) {
            assert_eq!(id, 0xbeef, "{name}");
        }
        assert_eq!(sent, lan(&want.id(id.into())), "{name}");
        intact(name, &sent[ETHERNET..]);
    }
    let cases = [
        ("an odd datagram", u_vip.clone().with(datagram(uc, 5)),       u_real.clone().with(datagram(ur, 5))),
        ("an empty one",    u_vip.clone().with(datagram(uc, 0)),       u_real.clone().with(datagram(ur, 0))),
    ];
    let mut ids = Vec::new();
    for (name, given, want) in cases {
        let sent = udp_path.one(name, WAN, &given);
        ids.push(ipv4_of(&sent).id());
        assert_eq!(sent, lan(&want.id(ids[ids.len() - 1].into())), "{name}");
        intact(name, &sent[ETHERNET..]);
    }
    assert_eq!(ids[1], ids[0] + 1, "each packet has another identification");
}

#[test]
#[rustfmt::skip]
fn towards_the_client() {
    let mut tcp_path = Path::open(TCP);
    let mut udp_path = Path::open(UDP);
    let [r, c] = tcp_path.back();
    let [ur, uc] = udp_path.back();
    let (to_local, to_client) = (tcp_path.to_local(), tcp_path.to_client().ttl(63));
    let (u_local, u_client) = (udp_path.to_local(), udp_path.to_client().ttl(63));
    let segment = |(from, to): (u16, u16), n: usize| tcp(from, to).flags(Flags::SYN.and(Flags::ACK)).payload(vec![7; n]);
    let datagram = |(from, to): (u16, u16), n: usize| udp(from, to).payload(vec![7; n]);
    let (local, client) = (|| to_local.clone(), || to_client.clone());
    // A loose source route whose pointer is past its end, and a record route.
    let (used_up, record) = ([131, 7, 8, 10, 1, 0, 9, 0], [7, 7, 4, 0, 0, 0, 0, 0]);
    let cases = [
        ("TTL, TOS, no label",        local().ttl(9).tos(0xb9).id(77).with(segment(r, 3)),   client().ttl(8).tos(0xb9).with(segment(c, 3))),
        ("DF is no header's affair",  local().df().with(segment(r, 3)),                      client().with(segment(c, 3))),
        ("options are left out",      local().options(&record).with(segment(r, 3)),          client().with(segment(c, 3))),
        ("a source route, used up",   local().options(&used_up).with(segment(r, 3)),         client().with(segment(c, 3))),
        ("40 octets of options",      local().options(&[1; 40]).with(segment(r, 3)),         client().with(segment(c, 3))),
        ("1480 octets, DF",           local().df().with(segment(r, 1440)),                   client().with(segment(c, 1440))),
        ("1260 octets, no DF",        local().with(segment(r, 1220)),                        client().with(segment(c, 1220))),
    ];
    for (name, given, want) in cases {
        let sent = tcp_path.one(name, LAN, &given);
        assert_eq!(sent, wan(&want), "{name}");
        intact(name, &sent[ETHERNET..]);
    }
    let cases = [
        ("a datagram",              u_local.clone().with(datagram(ur, 5)),                     u_client.clone().with(datagram(uc, 5))),
        ("an absent checksum",      u_local.clone().with(datagram(ur, 5).unsummed()),          u_client.clone().with(datagram(uc, 5))),
        ("and of an even one",      u_local.clone().with(datagram(ur, 6).unsummed()),          u_client.clone().with(datagram(uc, 6))),
        ("fragments: the first",    u_local.clone().id(0x77).fragment(0, true).with(datagram(ur, 8)), u_client.clone().fragment(0, true).id(0x77).with(datagram(uc, 8))),
    ];
    for (name, given, want) in cases {
        let sent = udp_path.one(name, LAN, &given);
        assert_eq!(sent, wan(&want), "{name}");
    }
}

/// A client's datagram in pieces, and the real server's: each is one of the other family.
#[test]
fn fragments_stay_fragments() {
    let mut path = Path::open(UDP);
    let ([uc, ur], [br, bc]) = (path.forth(), path.back());
    let body = |(from, to): (u16, u16)| udp(from, to).payload(vec![9; 3000]);
    let given = path.to_vip().id(0x1_2345).with(body(uc)).fragments(1260);
    let want = path
        .to_real()
        .id(0x2345)
        .ttl(63)
        .with(body(ur))
        .fragments(1232);
    assert_eq!(given.len(), want.len());
    let (first, later) = given.split_first().expect("three");
    for part in later.iter().rev() {
        assert_eq!(path.give(WAN, part), [], "it waits for the first one");
    }
    let mut sent = path.give(WAN, first);
    sent.sort();
    let mut want: Vec<_> = want.iter().map(|part| (LAN, lan(part))).collect();
    want.sort();
    assert_eq!(sent, want);
    let given = path.to_local().id(0x2345).with(body(br)).fragments(1252);
    let want = path
        .to_client()
        .id(0x2345)
        .ttl(63)
        .with(body(bc))
        .fragments(1280);
    assert_eq!(given.len(), want.len());
    for (given, want) in given.iter().zip(&want) {
        assert_eq!(path.one("back", LAN, given), wan(want));
    }
}

/// What the real server lets be fragmented leaves in pieces that fit any IPv6 link.
#[test]
fn what_may_be_fragmented_is_cut_to_1280_octets() {
    let mut path = Path::open(UDP);
    let [br, bc] = path.back();
    let body = |(from, to): (u16, u16)| udp(from, to).payload(vec![9; 1400]);
    let sent = path.give(LAN, &path.to_local().id(5).with(body(br)));
    let whole = path.to_client().id(5).ttl(63).with(body(bc));
    let want: Vec<_> = whole
        .fragments(1280)
        .iter()
        .map(|part| (WAN, wan(part)))
        .collect();
    assert_eq!((sent, want.len()), (want, 2));
    // Fragments of the largest size, cut once more.
    let body = |(from, to): (u16, u16)| udp(from, to).payload(vec![9; 4000]);
    let parts = path.to_local().id(6).with(body(br)).fragments(1500);
    let sent: Vec<_> = parts.iter().flat_map(|part| path.give(LAN, part)).collect();
    assert_eq!(sent.len(), 5);
    let whole = path.to_client().with(body(bc)).bytes();
    let mut data = vec![0; whole.len() - 40];
    let mut last = 0;
    for (port, frame) in &sent {
        assert_eq!(*port, WAN);
        let packet = ipv6_of(frame);
        assert!(packet.total_len() <= 1280);
        let upper = packet.upper().unwrap();
        let part = upper.fragment.unwrap();
        let bytes = packet.upper_payload(&upper);
        assert_eq!(part.id, 6);
        assert!(part.more || part.offset + bytes.len() == data.len());
        last += usize::from(!part.more);
        data[part.offset..][..bytes.len()].copy_from_slice(bytes);
    }
    assert_eq!((last, &data[..]), (1, &whole[40..]), "put together again");
}

#[test]
#[rustfmt::skip]
fn what_does_not_fit_is_told_in_its_senders_octets() {
    let narrow = |mtus| move |fleet: &mut Fleet| fleet.mtus = mtus;
    let said = |path: &mut Path, port, given: &Packet, want: &Packet, name: &str| {
        let sent = path.give(port, given);
        let mac = if port == WAN { WAN_MAC } else { LAN_MAC };
        assert_eq!(sent, [(port, want.ether(mac, GATEWAY_MAC).bytes())], "{name}");
        intact(name, &sent[0].1[ETHERNET..]);
    };
    let mut path = Path::open(TCP);
    let [br, _] = path.back();
    let given = path.to_local().df().with(tcp(br.0, br.1).ack().payload(vec![1; 1441]));
    let want = ip(path.local.0, path.real.0).tos(0xc0).df().with(icmp(3, 4).rest(1480).quoting_first(548, &given));
    said(&mut path, LAN, &given, &want, "1481 octets with DF");

    // A fragment grows by its fragment header, too: what is told fits with it.
    let mut path = Path::open(UDP);
    let [br, bc] = path.back();
    let part = |id, n| path.to_local().df().id(id).fragment(0, true).with(udp(br.0, br.1).payload(vec![1; n]));
    let (given, fits) = (part(7, 1448), part(8, 1440));
    let want = ip(path.local.0, path.real.0).tos(0xc0).df().with(icmp(3, 4).rest(1472).quoting_first(548, &given));
    said(&mut path, LAN, &given, &want, "a fragment of 1476 octets with DF");
    let want = path.to_client().ttl(63).fragment(0, true).id(8).with(udp(bc.0, bc.1).payload(vec![1; 1440]));
    assert_eq!(path.one("of 1468 octets", LAN, &fits), wan(&want));

    let mut path = Path::with(TCP, narrow([1500, 1400]));
    let [cp, rp] = path.forth();
    let given = path.to_vip().with(tcp(cp.0, cp.1).ack().payload(vec![1; 1361]));
    let want = path.to_client().with(icmp(2, 0).rest(1420).quoting_first(1232, &given));
    said(&mut path, WAN, &given, &want, "1421 octets");
    let fits = path.to_vip().with(tcp(cp.0, cp.1).ack().payload(vec![1; 1360]));
    assert_eq!(ipv4_of(&path.one("1420 octets", WAN, &fits)).total_len(), 1400);

    let mut path = Path::with(TCP, narrow([1500, 1000]));
    let given = path.to_vip().with(tcp(cp.0, cp.1).ack().payload(vec![1; 1221]));
    let want = path.to_client().with(icmp(2, 0).rest(1280).quoting_first(1232, &given));
    said(&mut path, WAN, &given, &want, "never less than 1280");
    let given = path.to_vip().with(tcp(cp.0, cp.1).ack().payload(vec![1; 1220]));
    let sent = path.give(WAN, &given);
    let id = ipv4_of(&sent[0].1).id();
    let local = path.to_real().ttl(63).id(id.into()).with(tcp(path.local.1, rp.1).ack().payload(vec![1; 1220]));
    let want: Vec<_> = local.fragments(1000).iter().map(|part| (LAN, lan(part))).collect();
    assert_eq!((sent, want.len()), (want, 2), "what fits 1280 is cut");
}

#[test]
#[rustfmt::skip]
fn what_is_not_translated_has_its_reason() {
    let mut path = Path::open(UDP);
    let ([c, _], [r, _]) = (path.forth(), path.back());
    let data = |(from, to): (u16, u16)| udp(from, to).payload([1; 16]);
    let (vip, local) = (path.to_vip(), path.to_local());
    let segments_left = vip.clone().hop_by_hop().extension(Protocol::ROUTING, &[0, 1, 0, 0, 0, 0]).with(data(c));
    let far = vip.clone().extension(Protocol::DESTINATION, &[0; 8 * 30 - 2]).extension(Protocol::ROUTING, &[0, 1, 0, 0, 0, 0]).with(data(c));
    let loose = local.clone().options(&[1, 131, 7, 4, 10, 1, 0, 9]).with(data(r));
    let strict = local.clone().options(&[137, 7, 4, 10, 1, 0, 9, 0]).with(data(r));
    let cases = [
        ("segments left",              WAN, segments_left.clone(), Reason::SourceRoute, Some(path.to_client().with(icmp(4, 0).rest(40 + 8 + 3).quoting(&segments_left)))),
        ("segments left, far behind",  WAN, far.clone(),           Reason::SourceRoute, Some(path.to_client().with(icmp(4, 0).rest(40 + 240 + 3).quoting(&far)))),
        ("a loose source route",       LAN, loose.clone(),         Reason::SourceRoute, Some(path.to_real().tos(0xc0).df().with(icmp(3, 5).quoting(&loose)))),
        ("a strict one",               LAN, strict.clone(),        Reason::SourceRoute, Some(path.to_real().tos(0xc0).df().with(icmp(3, 5).quoting(&strict)))),
        ("no UDP checksum over IPv6",  WAN, vip.clone().with(data(c).unsummed()),                              Reason::NoUdpChecksum,  None),
        ("none in a fragment",         LAN, local.clone().id(3).fragment(0, true).with(data(r).unsummed()),    Reason::NoUdpChecksum,  None),
        ("an authentication header",   WAN, vip.clone().extension(Protocol::AH, &[0; 22]).with(data(c)),       Reason::Untranslatable, None),
        ("a header in the fragments",  WAN, vip.clone().fragment(0, true).destination().id(4).with(data(c)),   Reason::Untranslatable, None),
        ("no hop left, client's",      WAN, vip.clone().ttl(1).with(data(c)),                                  Reason::TtlExceeded,    Some(path.to_client().with(icmp(3, 0).quoting(&vip.clone().ttl(1).with(data(c)))))),
        ("no hop left, real server's", LAN, local.clone().ttl(1).with(data(r)),                                Reason::TtlExceeded,    Some(path.to_real().tos(0xc0).df().with(icmp(11, 0).quoting(&local.clone().ttl(1).with(data(r)))))),
    ];
    for (name, port, given, reason, reply) in cases {
        let before = path.fleet.sum(|it| it.drop[reason as usize].get());
        let sent = path.give(port, &given);
        assert_eq!(path.fleet.sum(|it| it.drop[reason as usize].get()), before + 1, "{name}: {:?}", path.fleet.drops());
        let mac = if port == WAN { WAN_MAC } else { LAN_MAC };
        let want: Vec<_> = reply.iter().map(|it| (port, it.ether(mac, GATEWAY_MAC).bytes())).collect();
        assert_eq!(sent, want, "{name}");
    }
}

#[test]
#[rustfmt::skip]
fn errors_for_the_client() {
    let mut path = Path::open(TCP);
    let [c, r] = path.forth();
    let sent = path.to_real().df().ttl(61).tos(8).with(tcp(r.0, r.1).ack().payload([5; 24]));
    let about = path.to_vip().ttl(61).tos(8).with(tcp(c.0, c.1).ack().payload([5; 24]));
    let long = path.to_real().df().with(tcp(r.0, r.1).ack().payload([5; 1400]));
    let long_about = path.to_vip().with(tcp(c.0, c.1).ack().payload([5; 1400]));
    let part = path.to_real().id(0x99).fragment(0, true).with(tcp(r.0, r.1).ack().payload([5; 24]));
    let part_about = path.to_vip().fragment(0, true).id(0x99).with(tcp(c.0, c.1).ack().payload([5; 24]));
    let from = ip(ROUTER, path.local.0);
    let to = path.to_client().ttl(63);
    // An ICMP extension behind 128 octets of the packet (RFC 4884).
    let mut extended = long.bytes()[..128].to_vec();
    extended.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]);
    let cases = [
        ("port unreachable",         from.clone().with(icmp(3, 3).quoting(&sent)),                      Some(to.clone().with(icmp(1, 4).quoting(&about)))),
        ("8 octets of it",           from.clone().with(icmp(3, 1).quoting_first(28, &sent)),            Some(to.clone().with(icmp(1, 0).quoting_first(48, &about)))),
        ("17 octets of it",          from.clone().with(icmp(3, 1).quoting_first(36, &sent)),            Some(to.clone().with(icmp(1, 0).quoting_first(56, &about)))),
        ("hops and class are kept",  from.clone().ttl(20).tos(0xc0).with(icmp(11, 0).quoting(&sent)),   Some(to.clone().ttl(19).tos(0xc0).with(icmp(3, 0).quoting(&about)))),
        ("a smaller path",           from.clone().with(icmp(3, 4).rest(1400).quoting(&sent)),           Some(to.clone().with(icmp(2, 0).rest(1420).quoting(&about)))),
        ("no protocol",              from.clone().with(icmp(3, 2).quoting(&sent)),                      Some(to.clone().with(icmp(4, 1).rest(6).quoting(&about)))),
        ("a field",                  from.clone().with(icmp(12, 0).rest(8 << 24).quoting(&sent)),       Some(to.clone().with(icmp(4, 0).rest(7).quoting(&about)))),
        ("about a fragment",         from.clone().with(icmp(3, 3).quoting(&part)),                      Some(to.clone().with(icmp(1, 4).quoting(&part_about)))),
        ("no longer than 1280",      from.clone().with(icmp(3, 3).quoting(&long)),                      Some(to.clone().with(icmp(1, 4).quoting_first(1232, &long_about)))),
        ("extensions are left out",  from.clone().with(icmp(3, 3).rest(32 << 16).payload(extended)),    Some(to.clone().with(icmp(1, 4).quoting_first(148, &long_about)))),
        ("a source quench",          from.clone().with(icmp(4, 0).quoting(&sent)),                      None),
        ("a redirect",               from.clone().with(icmp(5, 1).quoting(&sent)),                      None),
        ("an option's pointer",      from.clone().with(icmp(12, 0).rest(20 << 24).quoting(&sent)),      None),
    ];
    for (name, given, want) in cases {
        let sent = path.give(LAN, &given);
        let want: Vec<_> = want.iter().map(|it| (WAN, wan(it))).collect();
        assert_eq!(sent, want, "{name}");
        sent.iter().for_each(|(_, frame)| intact(name, &frame[ETHERNET..]));
    }
    assert_eq!(path.fleet.drops(), [(Reason::Untranslatable.name(), 3)]);
}

#[test]
#[rustfmt::skip]
fn errors_for_the_real_server() {
    let mut path = Path::open(TCP);
    let [r, c] = path.back();
    let sent = path.to_client().ttl(61).tos(8).with(tcp(c.0, c.1).ack().payload([5; 24]));
    let about = path.to_local().ttl(61).tos(8).with(tcp(r.0, r.1).ack().payload([5; 24]));
    let long = path.to_client().with(tcp(c.0, c.1).ack().payload([5; 1400]));
    let long_about = path.to_local().df().with(tcp(r.0, r.1).ack().payload([5; 1400]));
    let part = path.to_client().fragment(0, true).id(0x99).with(tcp(c.0, c.1).ack().payload([5; 24]));
    let part_about = path.to_local().id(0x99).fragment(0, true).with(tcp(r.0, r.1).ack().payload([5; 24]));
    let from = ip(ROUTER6, path.vip.0);
    let to = path.to_real().ttl(63);
    let mut extended = long.bytes()[..128].to_vec();
    extended.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]);
    let cases = [
        ("port unreachable",         from.clone().with(icmp(1, 4).quoting(&sent)),                     Some(to.clone().with(icmp(3, 3).quoting(&about)))),
        ("8 octets of it",           from.clone().with(icmp(1, 0).quoting_first(48, &sent)),           Some(to.clone().with(icmp(3, 1).quoting_first(28, &about)))),
        ("hops and class are kept",  from.clone().ttl(20).tos(0xc0).with(icmp(3, 0).quoting(&sent)),   Some(to.clone().ttl(19).tos(0xc0).with(icmp(11, 0).quoting(&about)))),
        ("packet too big",           from.clone().with(icmp(2, 0).rest(1400).quoting(&sent)),          Some(to.clone().with(icmp(3, 4).rest(1380).quoting(&about)))),
        ("and not below 1280",       from.clone().with(icmp(2, 0).rest(600).quoting(&sent)),           Some(to.clone().with(icmp(3, 4).rest(1260).quoting(&about)))),
        ("no header",                from.clone().with(icmp(4, 1).rest(6).quoting(&sent)),             Some(to.clone().with(icmp(3, 2).quoting(&about)))),
        ("a field",                  from.clone().with(icmp(4, 0).rest(7).quoting(&sent)),             Some(to.clone().with(icmp(12, 0).rest(8 << 24).quoting(&about)))),
        ("about a fragment",         from.clone().with(icmp(1, 4).quoting(&part)),                     Some(to.clone().with(icmp(3, 3).quoting(&part_about)))),
        ("no longer than 576",       from.clone().with(icmp(1, 4).quoting_first(1232, &long)),         Some(to.clone().with(icmp(3, 3).quoting_first(548, &long_about)))),
        ("extensions are left out",  from.clone().with(icmp(1, 4).rest(16 << 24).payload(extended)),   Some(to.clone().with(icmp(3, 3).quoting_first(108, &long_about)))),
        ("an option's pointer",      from.clone().with(icmp(4, 2).rest(50).quoting(&sent)),            None),
        ("of an unknown type",       from.clone().with(icmp(100, 0).quoting(&sent)),                   None),
    ];
    for (name, given, want) in cases {
        let sent = path.give(WAN, &given);
        let id = sent.first().map_or(0, |(_, frame)| ipv4_of(frame).id());
        let want: Vec<_> = want.into_iter().map(|it| (LAN, lan(&it.id(id.into())))).collect();
        assert_eq!(sent, want, "{name}");
        sent.iter().for_each(|(_, frame)| intact(name, &frame[ETHERNET..]));
    }
    assert_eq!(path.fleet.drops(), [(Reason::Untranslatable.name(), 2)]);
}

/// Whatever worker an error comes to, it gets to its connection's: of every kind that is told.
#[test]
fn errors_find_their_connections_worker() {
    let spec = Spec::new(true, UDP, Kind::Rr, &[(1, Mode::Nat64)]);
    let mut fleet = Fleet::new(2, vec![spec]);
    let opening = ip(CLIENT6, vip(0, true)).with(udp(CPORT, 53));
    fleet.give(0, WAN, &opening.ether(GATEWAY_MAC, WAN_MAC).bytes());
    let sent = fleet.drain();
    let about = ipv4_of(&sent[0].1);
    let error = |kind, code, rest| {
        let message = icmp(kind, code).rest(rest);
        let packet = ip(ROUTER, about.src()).with(message.payload(&sent[0].1[ETHERNET..]));
        packet.ether(GATEWAY_MAC, LAN_MAC).bytes()
    };
    for (kind, code, rest, want) in [
        (3, 3, 0, (1, 4)),
        (3, 4, 1400, (2, 0)),
        (11, 0, 0, (3, 0)),
        (12, 0, 8 << 24, (4, 0)),
    ] {
        for worker in 0..2 {
            fleet.give(worker, LAN, &error(kind, code, rest));
            let told = fleet.drain();
            assert_eq!(told.len(), 1, "{kind}/{code}: {:?}", fleet.drops());
            let message = &told[0].1[ETHERNET + 40..];
            assert_eq!((message[0], message[1]), want, "{kind}/{code}");
        }
    }
    assert!(fleet.sum(|it| it.handed_out.get()) >= 4);
}

/// The MSS is lowered where the service says so, to what the link of whoever will send takes.
#[test]
fn a_syns_mss() {
    for (clamp, forth, back) in [(false, 1460, 1460), (true, 1340, 1160)] {
        let mut path = Path::with(TCP, |fleet| {
            fleet.mtus = [1400, 1200];
            fleet.specs[0].mss_clamp = clamp;
        });
        let ([c, r], [br, bc]) = (path.forth(), path.back());
        let given = path.to_vip().with(tcp(c.0, c.1).syn().mss(1460));
        let sent = path.one("SYN", WAN, &given);
        let want = path.to_real().ttl(63).id(ipv4_of(&sent).id().into());
        assert_eq!(sent, lan(&want.with(tcp(r.0, r.1).syn().mss(forth))));
        let both = |(from, to): (u16, u16)| tcp(from, to).flags(Flags::SYN.and(Flags::ACK));
        let given = path.to_local().with(both(br).mss(1460));
        let sent = path.one("SYN and ACK", LAN, &given);
        assert_eq!(
            sent,
            wan(&path.to_client().ttl(63).with(both(bc).mss(back)))
        );
    }
}

/// An IPv6 packet from what stands for an IPv4 address in the tables is nobody's reply, and an
/// ICMPv6 error that quotes such a packet tells nobody anything.
#[test]
fn a_reply_cannot_be_forged_over_ipv6() {
    use dataplane::conn::Address;
    let mut path = Path::open(UDP);
    let [r, _] = path.back();
    let inside = |address: Ipv4Addr| Ipv6Addr::from_bits(u128::of_ipv4(address.to_bits()));
    let (real, local) = (inside(path.real.0), inside(path.local.0));
    let forged = ip(real, local).with(udp(r.0, r.1));
    assert_eq!(path.give(LAN, &forged), []);
    let mapped = ip(path.real.0.to_ipv6_mapped(), path.local.0.to_ipv6_mapped());
    path.give(LAN, &mapped.with(udp(r.0, r.1)));
    let quoted = ip(local, real).with(udp(r.1, r.0));
    let error = ip(ROUTER6, path.vip.0).with(icmp(1, 4).quoting(&quoted));
    assert_eq!(path.give(WAN, &error), []);
    let drops = [
        (Reason::BadSource.name(), 1),
        (Reason::Untranslatable.name(), 1),
    ];
    assert_eq!(path.fleet.drops(), drops);
    assert_eq!(
        path.fleet.sum(|it| it.transmit.get()),
        1,
        "the first packet"
    );
}

/// Local ports of both families' clients towards one real server don't meet.
#[test]
fn families_share_local_addresses() {
    let v4 = Spec::new(false, UDP, Kind::Rr, &[(1, Mode::FullNat)]);
    let v6 = Spec::new(true, UDP, Kind::Rr, &[(1, Mode::Nat64)]);
    let mut fleet = Fleet::new(2, vec![v4, v6]);
    let mut seen = std::collections::HashSet::new();
    for n in 0..100u16 {
        for (service, client) in [
            (0, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
            (1, IpAddr::V6(CLIENT6)),
        ] {
            let packet = ip(client, vip(service, service == 1)).with(udp(2000 + n, 53));
            fleet.give(0, WAN, &packet.ether(GATEWAY_MAC, WAN_MAC).bytes());
            let sent = fleet.drain();
            let packet = ipv4_of(&sent[0].1);
            let port = [sent[0].1[34], sent[0].1[35]];
            assert!(seen.insert((packet.src(), port)), "{n}: a port given twice");
        }
    }
}

/// Without a local address of the real server's family there is none to speak from.
#[test]
fn no_local_address_of_the_family() {
    let mut spec = Spec::new(true, UDP, Kind::Rr, &[(1, Mode::Nat64)]);
    spec.locals.retain(IpAddr::is_ipv6);
    let mut fleet = Fleet::new(1, vec![spec]);
    let packet = ip(CLIENT6, vip(0, true)).with(udp(1, 53));
    fleet.give(0, WAN, &packet.ether(GATEWAY_MAC, WAN_MAC).bytes());
    assert_eq!(fleet.drain(), []);
    assert_eq!(fleet.drops(), [(Reason::NoLocalPort.name(), 1)]);
}

/// A service of single packets keeps no connection.
#[test]
fn single_packets() {
    let mut spec = Spec::new(true, UDP, Kind::Rr, &[(1, Mode::Nat64)]);
    spec.one_packet = true;
    let mut fleet = Fleet::new(1, vec![spec]);
    let packet = ip(CLIENT6, vip(0, true)).with(udp(1, 53).payload([1; 9]));
    fleet.give(0, WAN, &packet.ether(GATEWAY_MAC, WAN_MAC).bytes());
    let sent = fleet.drain();
    intact("once", &sent[0].1[ETHERNET..]);
    assert_eq!(ipv4_of(&sent[0].1).dst(), Ipv4Addr::new(10, 1, 0, 1));
    assert_eq!(fleet.workers[0].state().v6.len(), 0);
}

/// Sends an IPv4 packet back: its ends change places, which no checksum notices.
fn mirrored(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let [ours, next] = [LAN_MAC, GATEWAY_MAC].map(|Mac(mac)| mac);
    frame[..6].copy_from_slice(&ours);
    frame[6..12].copy_from_slice(&next);
    let mut ip = ipv4::Packet::parse(&mut frame[ETHERNET..]).expect("IPv4");
    ip.swap_addresses();
    ip.payload_mut()[..4].rotate_left(2);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// There and back: what the client gets back is what it sent, its ends changed over, the
    /// checksum too.
    #[test]
    fn there_and_back(
        data in proptest::collection::vec(any::<u8>(), 0..1400), class: u8, hops in 3u8..,
        is_tcp: bool, extended: bool,
    ) {
        let mut path = Path::open(if is_tcp { TCP } else { UDP });
        let [c, _] = path.forth();
        let body: Body = match is_tcp {
            true => tcp(c.0, c.1).ack().payload(data).into(),
            false => udp(c.0, c.1).payload(data).into(),
        };
        let given = path.to_vip().tos(class).ttl(hops).with(body.clone());
        let given = if extended { given.hop_by_hop() } else { given };
        let there = path.one("there", WAN, &given);
        intact("there", &there[ETHERNET..]);
        path.fleet.give(0, LAN, &mirrored(&there));
        let back = path.fleet.turn(0);
        prop_assert_eq!(back.len(), 1);
        let mut want = path.to_vip().tos(class).ttl(hops - 2).with(body).bytes();
        let mut ip = ipv6::Packet::parse(&mut want[..]).expect("IPv6");
        ip.swap_addresses();
        ip.payload_mut()[..4].rotate_left(2);
        prop_assert_eq!(&back[0].1[ETHERNET..], &want[..]);
    }

    /// Nothing that a client or a real server sends does harm: each frame has its verdict.
    #[test]
    fn anything(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200), from_client: bool, kind in 0..4usize,
    ) {
        let mut path = Path::open(UDP);
        let ([c, _], [r, _]) = (path.forth(), path.back());
        let ports = if from_client { c } else { r };
        let protocol = [17, 17, 6, if from_client { 58 } else { 1 }][kind];
        if kind < 2 && bytes.len() >= 4 {
            bytes[..2].copy_from_slice(&ports.0.to_be_bytes());
            bytes[2..4].copy_from_slice(&ports.1.to_be_bytes());
        }
        let (port, packet) = match from_client {
            true => (WAN, path.to_vip()),
            false => (LAN, path.to_local()),
        };
        let packet = match kind {
            1 if from_client => packet.extension(Protocol::ROUTING, &bytes),
            1 => packet.options(&bytes),
            _ => packet,
        };
        for (_, frame) in path.give(port, &packet.raw(Protocol(protocol), bytes)) {
            prop_assert!(frame.len() >= ETHERNET + 20);
        }
    }
}
