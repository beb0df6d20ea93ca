//! Every checksum of a packet, computed anew by an independent implementation.

use crc::{CRC_32_ISCSI, Crc};
use etherparse::{IpNumber, NetHeaders, PacketHeaders, PayloadSlice, TransportHeader};

/// CRC32c, of no relation to ours.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Demands that etherparse finds every checksum of the packet right, in tunnels too.
pub(crate) fn intact(name: &str, packet: &[u8]) {
    let headers = PacketHeaders::from_ip_slice(packet).expect(name);
    let (payload, net) = (headers.payload.slice(), headers.net.expect(name));
    if let NetHeaders::Ipv4(ip, _) = &net {
        assert_eq!(ip.calc_header_checksum(), ip.header_checksum, "{name}: IP");
        if ip.protocol.0 == 4 || ip.protocol.0 == 41 {
            return intact(name, payload);
        }
    }
    if let NetHeaders::Ipv6(ip, _) = &net
        && matches!(ip.next_header.0, 4 | 41)
    {
        return intact(name, payload);
    }
    if let PayloadSlice::Ip(carried) = &headers.payload
        && carried.ip_number == IpNumber::SCTP
        && !carried.fragmented
    {
        assert!(crc_is_right(payload), "{name}: SCTP");
    }
    if let Some(transport) = headers.transport {
        let (stored, computed) = sums(&net, transport, payload);
        assert_eq!(stored, computed, "{name}: transport");
    }
}

/// Whether an SCTP packet's CRC is right.
pub(crate) fn crc_is_right(packet: &[u8]) -> bool {
    let (head, rest) = packet.split_at(8);
    let (stored, chunks) = rest.split_at(4);
    let mut digest = CRC32C.digest();
    for part in [head, &[0; 4], chunks] {
        digest.update(part);
    }
    digest.finalize().to_le_bytes() == *stored
}

/// The transport's checksum as it stands and as it should be.
pub(crate) fn sums(net: &NetHeaders, transport: TransportHeader, payload: &[u8]) -> (u16, u16) {
    let want = match (net, &transport) {
        (_, TransportHeader::Udp(udp)) if udp.checksum == 0 => Ok(0),
        (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => tcp.calc_checksum_ipv4(ip, payload),
        (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => udp.calc_checksum_ipv4(ip, payload),
        (_, TransportHeader::Icmpv4(icmp)) => Ok(icmp.icmp_type.calc_checksum(payload)),
        (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => tcp.calc_checksum_ipv6(ip, payload),
        (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => udp.calc_checksum_ipv6(ip, payload),
        (NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
            icmp.icmp_type
                .calc_checksum(ip.source, ip.destination, payload)
        }
        _ => unreachable!("no such transport over this family"),
    };
    let stored = match transport {
        TransportHeader::Tcp(tcp) => tcp.checksum,
        TransportHeader::Udp(udp) => udp.checksum,
        TransportHeader::Icmpv4(icmp) => icmp.checksum,
        TransportHeader::Icmpv6(icmp) => icmp.checksum,
        TransportHeader::Igmp(_) => unreachable!("refused above"),
    };
    (stored, want.expect("a payload of any length"))
}
