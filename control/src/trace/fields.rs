//! The header fields of a frame, by name: what a rewrite changes.

use wire::ethernet::{self, EtherType};
use wire::segment::Quoted;
use wire::{Protocol, display, ipv4, ipv6, sctp, tcp, udp};

/// Names and values, in the order in which they stand in the frame.
pub(super) type Fields = Vec<(&'static str, String)>;

/// What can be read of the frame's headers.
pub(super) fn of(frame: &[u8]) -> Fields {
    let mut fields = Fields::new();
    let Ok(ethernet) = ethernet::Frame::parse(frame) else {
        return fields;
    };
    fields.push(("destination-mac", ethernet.dst().to_string()));
    fields.push(("source-mac", ethernet.src().to_string()));
    match ethernet.ethertype() {
        EtherType::IPV4 => v4(&mut fields, ethernet.payload()),
        EtherType::IPV6 => v6(&mut fields, ethernet.payload()),
        other => fields.push(("ethertype", other.to_string())),
    }
    fields
}

fn v4(fields: &mut Fields, bytes: &[u8]) {
    let Ok(ip) = ipv4::Packet::parse(bytes) else {
        return;
    };
    fields.extend([
        ("source", ip.src().to_string()),
        ("destination", ip.dst().to_string()),
        ("protocol", ip.protocol().to_string()),
        ("ttl", ip.ttl().to_string()),
        ("tos", ip.tos().to_string()),
        ("length", ip.total_len().to_string()),
        ("id", ip.id().to_string()),
        ("df", ip.dont_fragment().to_string()),
        ("checksum", format!("{:#06x}", ip.checksum())),
    ]);
    upper(fields, ip.protocol(), ip.fragment_offset(), ip.payload());
}

fn v6(fields: &mut Fields, bytes: &[u8]) {
    let Ok(ip) = ipv6::Packet::parse(bytes) else {
        return;
    };
    let upper = ip.upper().ok();
    let protocol = upper.map_or(ip.next_header(), |upper| upper.protocol);
    fields.extend([
        ("source", ip.src().to_string()),
        ("destination", ip.dst().to_string()),
        ("protocol", protocol.to_string()),
        ("ttl", ip.hop_limit().to_string()),
        ("tos", ip.traffic_class().to_string()),
        ("length", ip.total_len().to_string()),
    ]);
    if let Some(upper) = upper {
        let offset = upper.fragment.map_or(0, |fragment| fragment.offset);
        self::upper(fields, protocol, offset, ip.upper_payload(&upper));
    }
}

/// Ports, or the packet inside.
fn upper(fields: &mut Fields, protocol: Protocol, offset: usize, payload: &[u8]) {
    if offset > 0 {
        return;
    }
    if matches!(protocol, Protocol::IPIP | Protocol::IPV6) {
        fields.push(("inner", display::Packet(payload).to_string()));
        return;
    }
    if let Ok(ports) = Quoted::parse(protocol, payload).map(|head| head.ports()) {
        fields.push(("source-port", ports.0.to_string()));
        fields.push(("destination-port", ports.1.to_string()));
    }
    let sum = match protocol {
        Protocol::TCP => tcp::Packet::parse(payload).ok().map(|it| it.checksum()),
        Protocol::UDP => udp::Packet::parse(payload).ok().map(|it| it.checksum()),
        _ => None,
    };
    fields.extend(sum.map(|sum| ("transport-checksum", format!("{sum:#06x}"))));
    if protocol == Protocol::SCTP
        && let Ok(packet) = sctp::Packet::parse(payload)
    {
        let crc = packet.checksum();
        fields.push(("transport-checksum", format!("{crc:#010x}")));
    }
    let tcp = tcp::Packet::parse(payload).ok();
    let mss = tcp
        .filter(|_| protocol == Protocol::TCP)
        .and_then(|it| it.mss());
    fields.extend(mss.map(|mss| ("mss", mss.to_string())));
}

/// Every field that is another one afterwards: name, before, after; nothing for one that is not
/// there.
pub(super) fn changes(before: &Fields, after: &Fields) -> Vec<(&'static str, String, String)> {
    let get = |fields: &Fields, name: &str| {
        let found = fields.iter().find(|(known, _)| *known == name);
        found.map_or_else(String::new, |(_, value)| value.clone())
    };
    let mut names: Vec<_> = before.iter().map(|&(name, _)| name).collect();
    names.extend(after.iter().map(|&(name, _)| name));
    let mut seen: Vec<(&'static str, String, String)> = Vec::new();
    for name in names {
        let (old, new) = (get(before, name), get(after, name));
        if old != new && !seen.iter().any(|(known, ..)| *known == name) {
            seen.push((name, old, new));
        }
    }
    seen
}
