//! The header fields of a frame, by name: what a rewrite changes.

use std::net::{IpAddr, SocketAddr};

use wire::ethernet::{self, EtherType};
use wire::proxy::{Ends, Found, Version};
use wire::segment::Quoted;
use wire::tcp::OptionKind;
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
    match protocol {
        Protocol::TCP => {
            if let Ok(segment) = tcp::Packet::parse(payload) {
                self::segment(fields, &segment);
            }
        }
        Protocol::UDP => {
            let data = payload.get(udp::LEN..).unwrap_or_default();
            fields.extend(proxy_header(data));
        }
        Protocol::SCTP => {
            if let Ok(packet) = sctp::Packet::parse(payload) {
                let crc = packet.checksum();
                fields.push(("transport-checksum", format!("{crc:#010x}")));
            }
        }
        _ => {}
    }
}

fn segment(fields: &mut Fields, segment: &tcp::Packet<&[u8]>) {
    let mss = segment.mss().map(|mss| ("mss", mss.to_string()));
    fields.extend(mss);
    fields.push(("sequence", segment.seq().to_string()));
    if segment.flags().ack() {
        fields.push(("acknowledgement", segment.ack().to_string()));
    }
    let kinds = |kind| segment.options().find(|option| option.kind == kind);
    if kinds(OptionKind::TIMESTAMPS).is_some() {
        fields.push(("timestamps", "offered".to_owned()));
    }
    let toa = kinds(OptionKind::TOA).and_then(|option| client(option.data));
    fields.extend(toa.map(|client| ("toa", client)));
    fields.extend(proxy_header(segment.payload()));
}

/// The client that a TOA option tells of.
fn client(data: &[u8]) -> Option<String> {
    let (port, address) = data.split_first_chunk::<2>()?;
    let address = match (address.first_chunk::<4>(), address.first_chunk::<16>()) {
        (_, Some(v6)) => IpAddr::from(*v6),
        (Some(v4), None) => IpAddr::from(*v4),
        (None, None) => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*port)).to_string())
}

/// Who the PROXY protocol header at the start of `data` says that the client is.
fn proxy_header(data: &[u8]) -> Option<(&'static str, String)> {
    let found = Found::at_start_of(data)?;
    let client = match found.ends {
        Some(Ends { source, .. }) => SocketAddr::from(source).to_string(),
        None => "unknown".to_owned(),
    };
    let version = match found.version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    };
    Some(("proxy-header", format!("{version} {client}")))
}

/// Fields of a segment that only say something beside its ports.
const IN_TCP: [&str; 5] = [
    "sequence",
    "acknowledgement",
    "timestamps",
    "toa",
    "proxy-header",
];

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
        // In a tunnel they stay what they are: the packet inside is shown whole.
        let inside = IN_TCP.contains(&name) && get(after, "source-port").is_empty();
        if old != new && !inside && !seen.iter().any(|(known, ..)| *known == name) {
            seen.push((name, old, new));
        }
    }
    seen
}
