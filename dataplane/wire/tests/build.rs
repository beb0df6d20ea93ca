//! What `wire::build` writes, read by somebody else: etherparse.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{NetHeaders, PacketHeaders, SlicedPacket, TransportHeader, TransportSlice};
use wire::arp::Arp;
use wire::build::{Body, Packet, echo_request, ether, icmp, ip, tcp, udp};
use wire::{EtherType, Mac};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(10, 0, 0, 1));
const V6: (Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10),
);

/// Both families of the same.
fn both(body: impl Into<Body>) -> [Packet; 2] {
    let body = body.into();
    [ip(V4.0, V4.1).with(body.clone()), ip(V6.0, V6.1).with(body)]
}

/// Reads a packet to the end and checks each checksum there is, with etherparse's arithmetic.
fn check(packet: &Packet) {
    let bytes = packet.bytes();
    let read = PacketHeaders::from_ip_slice(&bytes).expect("etherparse reads it");
    let payload = read.payload.slice();
    match (
        read.net.expect("an IP header"),
        read.transport.expect("a transport header"),
    ) {
        (NetHeaders::Ipv4(header, _), transport) => {
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            match transport {
                TransportHeader::Tcp(tcp) => {
                    assert_eq!(Ok(tcp.checksum), tcp.calc_checksum_ipv4(&header, payload))
                }
                TransportHeader::Udp(udp) => {
                    assert_eq!(Ok(udp.checksum), udp.calc_checksum_ipv4(&header, payload))
                }
                TransportHeader::Icmpv4(icmp) => {
                    assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload))
                }
                other => panic!("not of IPv4: {other:?}"),
            }
        }
        (NetHeaders::Ipv6(header, _), transport) => match transport {
            TransportHeader::Tcp(tcp) => {
                assert_eq!(Ok(tcp.checksum), tcp.calc_checksum_ipv6(&header, payload))
            }
            TransportHeader::Udp(udp) => {
                assert_eq!(Ok(udp.checksum), udp.calc_checksum_ipv6(&header, payload))
            }
            TransportHeader::Icmpv6(icmp) => assert_eq!(
                Ok(icmp.checksum),
                icmp.icmp_type
                    .calc_checksum(header.source, header.destination, payload)
            ),
            other => panic!("not of IPv6: {other:?}"),
        },
        (NetHeaders::Arp(_), _) => panic!("no IP"),
    }
}

#[test]
fn checksums() {
    let quoted = ip(V4.1, V4.0).with(udp(53, 9).payload("what was sent"));
    let bodies: [Body; 7] = [
        tcp(40000, 80).syn().mss(1460).into(),
        tcp(40000, 80)
            .nop()
            .mss(1460)
            .acks(7)
            .seq(9)
            .payload("odd")
            .into(),
        udp(40000, 53).payload("four").into(),
        udp(40000, 53).payload("three").into(),
        udp(0, 0).into(),
        echo_request(7, 1).payload("ping").into(),
        icmp(3, 4).rest(1400).quoting(&quoted).into(),
    ];
    for packet in bodies.into_iter().flat_map(both) {
        check(&packet);
        check(&packet.clone().tos(0xb9).ttl(1).id(7).df());
        check(&packet.options(&[1, 1, 1, 1]).hop_by_hop().destination());
    }
}

#[test]
fn a_udp_checksum_that_would_be_zero() {
    // The payload is chosen so that the sum comes out as 0xffff.
    let base = ip(V4.0, V4.1).with(udp(1, 2).payload([0, 0])).bytes();
    let sum = [base[26], base[27]];
    let packet = ip(V4.0, V4.1).with(udp(1, 2).payload(sum));
    assert_eq!(packet.bytes()[26..28], [0xff, 0xff]);
    check(&packet);
}

#[test]
fn tcp_fields() {
    let bytes = ip(V4.0, V4.1)
        .with(
            tcp(40000, 80)
                .seq(1)
                .acks(2)
                .psh()
                .window(512)
                .payload("hi"),
        )
        .bytes();
    let read = SlicedPacket::from_ip(&bytes).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = read.transport else {
        panic!("no TCP")
    };
    assert_eq!(
        (tcp.source_port(), tcp.destination_port(), tcp.window_size()),
        (40000, 80, 512)
    );
    assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (1, 2));
    assert_eq!(
        (tcp.ack(), tcp.psh(), tcp.syn(), tcp.fin(), tcp.rst()),
        (true, true, false, false, false)
    );
    assert_eq!(tcp.payload(), b"hi");
}

#[test]
fn frames() {
    let packet = ip(V4.0, V4.1).with(udp(1, 2));
    let bytes = packet
        .ether(A, B)
        .vlan(5)
        .tag(EtherType::QINQ, 6)
        .padded()
        .bytes();
    assert_eq!(bytes.len(), 60);
    let read = SlicedPacket::from_ethernet(&bytes).unwrap();
    let ids: Vec<u16> = read.vlan_ids().iter().map(|id| id.value()).collect();
    assert_eq!(ids, [5, 6]);
    assert!(matches!(read.transport, Some(TransportSlice::Udp(_))));

    let bytes = ether(A, Mac::BROADCAST)
        .arp(&Arp::request(A, V4.0, V4.1))
        .bytes();
    let read = PacketHeaders::from_ethernet_slice(&bytes).unwrap();
    let Some(NetHeaders::Arp(arp)) = read.net else {
        panic!("no ARP")
    };
    assert_eq!(
        (arp.sender_hw_addr(), arp.target_protocol_addr()),
        (&A.0[..], &V4.1.octets()[..])
    );
    assert_eq!(
        read.link
            .and_then(|link| link.ethernet2())
            .map(|link| link.destination),
        Some([0xff; 6])
    );
}

#[test]
fn fragments_come_together_again() {
    let data: Vec<u8> = (0..=255).cycle().take(3000).collect();
    for packet in both(udp(40000, 53).payload(data)) {
        let whole = packet.bytes();
        let header = if packet.is_v6() { 40 } else { 20 };
        let mut gathered = Vec::new();
        let fragments = packet.clone().id(77).fragments(1500);
        for (index, fragment) in fragments.iter().enumerate() {
            let bytes = fragment.bytes();
            assert!(bytes.len() <= 1500);
            let read = SlicedPacket::from_ip(&bytes).unwrap();
            let payload = read.ip_payload().expect("IP");
            assert!(payload.fragmented);
            let (offset, more) = position(&bytes);
            assert_eq!(
                (offset, more),
                (gathered.len(), index + 1 < fragments.len())
            );
            gathered.extend_from_slice(payload.payload);
        }
        assert_eq!(gathered, whole[header..]);
    }
}

/// Offset and "more" as our own views see them.
fn position(bytes: &[u8]) -> (usize, bool) {
    if let Ok(packet) = wire::ipv4::Packet::parse(bytes) {
        return (packet.fragment_offset(), packet.more_fragments());
    }
    let packet = wire::ipv6::Packet::parse(bytes).expect("one of the two families");
    let upper = packet.upper().expect("extension headers of our own making");
    let fragment = upper.fragment.expect("a fragment header");
    assert_eq!(fragment.id, 77);
    (fragment.offset, fragment.more)
}
