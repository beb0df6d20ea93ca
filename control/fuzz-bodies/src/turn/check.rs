//! What must hold whatever came in and whatever was asked for.

use std::collections::HashMap;
use std::net::IpAddr;

use control::link::Packet as LinkPacket;
use dataplane::conn::{Address, Entry, Flags, Side, Table};
use dataplane::port::Frame;
use dataplane::state::State;
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use wire::ethernet::{self, EtherType, Mac};
use wire::{Protocol, ipv4, ipv6};

use super::port::{Origin, Tracked};

/// Every frame has one verdict, of one worker.
pub(crate) fn equations(counters: &Counters, state: &State) {
    let (came, went) = counters.balance();
    assert_eq!(came, went, "frames in and verdicts");
    let made = counters.made_sent.get() + counters.made_dropped.get();
    assert_eq!(counters.made.get(), made, "packets of our own making");
    let held = (counters.held.get(), counters.released.get());
    assert!(held.0 >= held.1, "{} held, {} released", held.0, held.1);
    let entries = counters.entries.each_ref().map(|gauge| gauge.get());
    assert_eq!(entries, [state.v4.len(), state.v6.len()], "entries");
    let ended = counters.connections_ended.get();
    assert!(counters.connections_made.get() >= ended, "{ended} ended");
}

/// A tuple is one worker's and one connection's, whichever service took it, and so is a local port.
pub(crate) fn owners<'a>(states: impl Iterator<Item = &'a State>, now: Millis) {
    let mut known = HashMap::new();
    for (worker, state) in states.enumerate() {
        of_table(&state.v4, worker, now, &mut known);
        of_table(&state.v6, worker, now, &mut known);
    }
}

type Tuple = (Side, u8, IpAddr, IpAddr, (u16, u16));

fn of_table<A: Address>(
    table: &Table<A>,
    worker: usize,
    now: Millis,
    known: &mut HashMap<Tuple, usize>,
) {
    let live = |entry: &&Entry<A>| !entry.is_over(now) && !entry.flags.has(Flags::TEMPLATE);
    let entries: Vec<_> = table.iter().filter(live).collect();
    assert!(entries.len() <= table.len() as usize);
    for entry in entries {
        note(entry, Side::Client, worker, known);
        if entry.flags.has(Flags::TWO_WAY) && entry.local != entry.client {
            note(entry, Side::Real, worker, known);
        }
    }
}

fn note<A: Address>(
    entry: &Entry<A>,
    side: Side,
    worker: usize,
    known: &mut HashMap<Tuple, usize>,
) {
    let key = entry.key(side);
    // An IPv4 real server's reply is one connection's, of whichever family its client is.
    let (from, to) = (key.source.shown(), key.destination.shown());
    let ports = (key.source_port, key.destination_port);
    let tuple = (side, key.protocol, from, to, ports);
    if let Some(other) = known.insert(tuple, worker) {
        panic!("{tuple:?} belongs to worker {other} and to worker {worker}: {entry:?}");
    }
}

/// What a frame says of itself is true, and it fits its link.
pub(crate) fn sent(frame: &Tracked, mtu: u16) {
    if frame.note.origin == Origin::Control {
        return;
    }
    let bytes = frame.bytes();
    let packet = ethernet::Frame::parse(bytes).expect("a whole Ethernet header");
    let length = match packet.ethertype() {
        EtherType::IPV4 => ipv4::Packet::parse(packet.payload())
            .map(|ip| ip.total_len())
            .ok(),
        EtherType::IPV6 => ipv6::Packet::parse(packet.payload())
            .map(|ip| ip.total_len())
            .ok(),
        other => panic!("a worker sent a frame of {other:?}"),
    };
    let length = length.unwrap_or_else(|| panic!("a worker sent a broken packet: {bytes:02x?}"));
    assert_eq!(
        bytes.len(),
        ethernet::LEN + length,
        "octets behind the packet"
    );
    assert!(
        length <= usize::from(mtu),
        "{length} octets for a link of {mtu}: {bytes:02x?}"
    );
    if frame.note.is_sound || frame.note.origin == Origin::Worker {
        let sums = transport(packet.ethertype(), packet.payload());
        assert_ne!(
            sums,
            Some(false),
            "a transport checksum is wrong: {bytes:02x?}"
        );
    }
}

/// Whether the checksums of the packet in a frame are right: those of IP, TCP, UDP, SCTP and
/// ICMP.
pub(crate) fn is_sound(bytes: &[u8]) -> bool {
    let Ok(frame) = ethernet::Frame::parse(bytes) else {
        return false;
    };
    transport(frame.ethertype(), frame.payload()) == Some(true)
}

/// Whether the transport's checksum is right; `None` where there is none to be seen.
fn transport(kind: EtherType, bytes: &[u8]) -> Option<bool> {
    match kind {
        EtherType::IPV4 => {
            let ip = ipv4::Packet::parse(bytes).ok()?;
            if ip.is_fragment() {
                return None;
            }
            let addresses = [ip.src().octets(), ip.dst().octets()].concat();
            segment(ip.protocol(), &addresses, ip.payload())
        }
        EtherType::IPV6 => {
            let ip = ipv6::Packet::parse(bytes).ok()?;
            let upper = ip.upper().ok()?;
            if upper.fragment.is_some() {
                return None;
            }
            let addresses = [ip.src().octets(), ip.dst().octets()].concat();
            segment(upper.protocol, &addresses, ip.upper_payload(&upper))
        }
        _ => None,
    }
}

fn segment(protocol: Protocol, addresses: &[u8], bytes: &[u8]) -> Option<bool> {
    let length = u32::try_from(bytes.len()).ok()?;
    let pseudo = [addresses, &length.to_be_bytes(), &[0, 0, 0, protocol.0]].concat();
    match protocol {
        Protocol::ICMP if bytes.len() >= 8 => Some(sum(&[bytes]) == 0xffff),
        Protocol::TCP if bytes.len() >= 20 => Some(sum(&[&pseudo, bytes]) == 0xffff),
        Protocol::ICMPV6 if bytes.len() >= 8 => Some(sum(&[&pseudo, bytes]) == 0xffff),
        Protocol::SCTP if bytes.len() >= 12 => {
            let stored = [bytes[8], bytes[9], bytes[10], bytes[11]];
            let parts = [&bytes[..8], &[0; 4], &bytes[12..]];
            Some(crc32c(&parts).to_le_bytes() == stored)
        }
        Protocol::UDP if bytes.len() >= 8 => {
            let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
            if bytes[6..8] == [0, 0] || length != bytes.len() {
                return None;
            }
            Some(sum(&[&pseudo, bytes]) == 0xffff)
        }
        _ => None,
    }
}

/// The one's complement sum, 16 bits at a time, as RFC 1071 states it. All parts but the last
/// are even.
fn sum(parts: &[&[u8]]) -> u32 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// CRC32c, bit by bit, as RFC 9260 appendix A defines it.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78);
    let octet = |crc: u32, octet: &u8| (0..8).fold(crc ^ u32::from(*octet), bit);
    !parts.iter().copied().flatten().fold(u32::MAX, octet)
}

/// The answer of a neighbour that `asked` asks for; `None` if it asks for nobody.
pub(crate) fn neighbour(asked: &LinkPacket) -> Option<Vec<u8>> {
    const THEIRS: Mac = Mac([2, 0, 0, 0, 2, 2]);
    match asked {
        LinkPacket::Arp(arp) if !arp.is_probe() && !arp.is_gratuitous() => {
            Some(LinkPacket::Arp(arp.reply(THEIRS)).frame(arp.sender_mac))
        }
        LinkPacket::Discovery(mac, message) if !message.src.is_unspecified() => {
            let reply = message.reply(THEIRS, false);
            Some(LinkPacket::Discovery(THEIRS, reply).frame(*mac))
        }
        _ => None,
    }
}
