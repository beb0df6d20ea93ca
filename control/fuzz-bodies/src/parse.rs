//! The parser: a frame under each kind of port, by the short way and by the long one; and every
//! view of `wire` on the same bytes.

use dataplane::memory::Recycler;
use dataplane::parse::{Parsed, Parses};
use dataplane::port::{Frame, RxFlags};
use dataplane::services::PortView;
use dataplane::vlan::Tagging;
use wire::arp::Arp;
use wire::ethernet::{self, EtherType, Mac, Macs};
use wire::ndp::Message;
use wire::plain::{self, Plain};
use wire::segment::{Quoted, Segment};
use wire::{Protocol, display, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp, vlan};

use crate::input::Input;

/// What a port's buffer holds.
const LONGEST: usize = 10_000;
/// A flag that no device sets: it only keeps the parser from the short way.
const LONG_WAY: u8 = 0x80;

/// Parses the bytes behind the first two, which say by what port and with what flags they came.
///
/// # Panics
/// If the short way and the long one differ, or a view breaks its word.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let view = view(input.byte());
    let flags = input.byte() & !LONG_WAY;
    let mut bytes = input.bytes(LONGEST).to_vec();
    ways(&view, flags, &bytes);
    assert!(!display::Frame(&bytes).to_string().contains('\n'));
    views(&mut bytes);
}

fn view(choice: u8) -> PortView {
    PortView {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        any_mac: choice & 1 == 0,
        to_sender: choice & 8 != 0,
        mtu: [1500, 68, 576, 9198][usize::from(choice >> 1 & 3)],
        groups: [Mac([1, 0, 0x5e, 0, 0, 0x12])].into(),
        tagging: Tagging::default(),
    }
}

fn ways(view: &PortView, flags: u8, bytes: &[u8]) {
    let parse = |flags| {
        let mut frame = Recycler::default().fill(bytes);
        frame.flags = RxFlags(flags);
        let mut parses = Parses::default();
        parses.push(&frame, Some(view), None);
        only_the_way_differs(&mut parses);
        (frame.bytes().len(), parses)
    };
    let (_, parses) = parse(flags);
    let (length, long) = parse(flags | LONG_WAY);
    assert_eq!(format!("{parses:?}"), format!("{long:?}"), "the two ways");
    if let Parsed::V4(packet) = parses.frames[0] {
        let inside = length - ethernet::LEN;
        assert!(packet.shape.length as usize <= inside.min(view.mtu.into()));
    }
    for packet in &parses.v6 {
        assert!(packet.shape.length as usize <= usize::from(view.mtu));
    }
}

fn views(bytes: &mut [u8]) {
    let passed = plain::pass(&mut bytes.to_vec(), &Macs::new(Mac::ZERO, Mac::BROADCAST));
    one_hop(Plain::<u32>::parse(bytes), passed);
    let passed = plain::pass_v6(&mut bytes.to_vec(), &Macs::new(Mac::ZERO, Mac::BROADCAST));
    one_hop(Plain::<u128>::parse(bytes), passed);
    let Ok(mut frame) = ethernet::Frame::parse(bytes) else {
        return;
    };
    let kind = frame.ethertype();
    let payload = frame.payload_mut();
    match kind {
        EtherType::ARP => arp(payload),
        EtherType::VLAN => {
            let _ = vlan::Tag::parse(&*payload).map(|tag| (tag.vid(), tag.ethertype()));
        }
        _ => {}
    }
    v4(payload);
    v6(payload);
}

/// A packet may remember which way it was read.
fn only_the_way_differs(parses: &mut Parses) {
    for parsed in &mut parses.frames {
        if let Parsed::V4(packet) = parsed {
            packet.plain = false;
        }
    }
    for packet in &mut parses.v6 {
        packet.plain = false;
    }
}

/// A plain packet that goes one hop further ends where it said.
fn one_hop<A>(plain: Option<Plain<A>>, end: Option<usize>) {
    if let (Some(plain), Some(end)) = (plain, end) {
        assert_eq!(end, ethernet::LEN + usize::from(plain.total_len));
    }
}

fn arp(bytes: &[u8]) {
    let Ok(arp) = Arp::parse(bytes) else { return };
    let mut out = [0; wire::arp::LEN];
    arp.emit(&mut out);
    assert_eq!(Arp::parse(&out), Ok(arp));
}

fn v4(bytes: &mut [u8]) {
    if let Ok(quoted) = ipv4::Packet::parse_quoted(&*bytes) {
        let mut out = [0; 576];
        icmpv4::Problem::time_exceeded().emit(&mut out, [10, 0, 0, 1].into(), &quoted);
    }
    let Ok(mut packet) = ipv4::Packet::parse(bytes) else {
        return;
    };
    assert_eq!(
        packet.header_len() + packet.payload().len(),
        packet.total_len()
    );
    let was_right = packet.verify_checksum();
    let _ = packet.set_dst([10, 1, 0, 11].into());
    assert_eq!(packet.verify_checksum(), was_right, "a patched checksum");
    let protocol = packet.protocol();
    let payload = packet.payload_mut();
    if let Ok(mut icmp) = icmpv4::Packet::parse(&mut *payload) {
        let _ = icmp.quoted().map(<[u8]>::len);
        if icmp.verify_checksum() && icmp.answer_echo() {
            assert!(icmp.verify_checksum(), "an answered echo");
        }
    }
    transport(protocol, payload);
}

fn v6(bytes: &mut [u8]) {
    if let Ok(quoted) = ipv6::Packet::parse_quoted(&*bytes) {
        let mut out = [0; 1280];
        let source = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into();
        icmpv6::Problem::time_exceeded().emit(&mut out, source, &quoted);
    }
    if let Ok(packet) = ipv6::Packet::parse(&*bytes)
        && let Ok(message) = Message::parse(&packet)
    {
        let emitted = message.emit();
        let again = ipv6::Packet::parse(&emitted[..]).map(|packet| Message::parse(&packet));
        assert_eq!(again, Ok(Ok(message)), "discovery, written and read");
    }
    let Ok(mut packet) = ipv6::Packet::parse(bytes) else {
        return;
    };
    let Ok(upper) = packet.upper() else { return };
    assert!(upper.offset <= packet.payload().len());
    let (src, dst) = (packet.src(), packet.dst());
    let payload = packet.upper_payload_mut(&upper);
    if let Ok(mut icmp) = icmpv6::Packet::parse(&mut *payload) {
        let _ = icmp.quoted().map(<[u8]>::len);
        if icmp.verify_checksum(src, dst) && icmp.answer_echo() {
            assert!(icmp.verify_checksum(src, dst), "an answered echo");
        }
    }
    transport(upper.protocol, payload);
}

fn transport(protocol: Protocol, bytes: &mut [u8]) {
    // An SCTP packet can only be rewritten whole.
    if protocol != Protocol::SCTP
        && let Ok(segment) = Segment::parse(protocol, &*bytes)
    {
        let ports = segment.ports();
        let first = Segment::parse_first_fragment(protocol, &*bytes);
        assert_eq!(first.map(|segment| segment.ports()), Ok(ports));
    }
    if let Ok(tcp) = tcp::Packet::parse(&*bytes) {
        assert!(tcp.options().count() <= 40);
        let _ = (tcp.mss(), tcp.sack_blocks().count());
    }
    if let Ok(mut tcp) = tcp::Packet::parse(&mut *bytes) {
        let owed = tcp.clamp_mss(1400).and(tcp.shift_sack(7));
        tcp.settle(owed);
    }
    if let Ok(udp) = udp::Packet::parse(&*bytes) {
        assert_eq!(udp.length(), udp::LEN + udp.payload().len());
    }
    if let Ok(sctp) = sctp::Packet::parse(&*bytes) {
        assert!(sctp.chunks().count() <= bytes.len());
    }
    if let Ok(mut quoted) = Quoted::parse(protocol, bytes) {
        let owed = quoted.set_dst_port(1);
        quoted.settle(owed);
    }
}
