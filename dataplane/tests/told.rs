//! A FULLNAT real server is told who its client is: packet by packet, and whole streams.

mod common;

use std::net::IpAddr;

use common::fleet::{Fleet, Mode, Spec, vip};
use common::intact::intact;
use common::*;
use dataplane::port::PortId;
use dataplane::sched::Kind;
use dataplane::services::Telling;
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use wire::Protocol;
use wire::build::{Body, Packet, Tcp, icmp, ip, tcp, udp};
use wire::proxy::{Ends, Header, Version};
use wire::tcp::OptionKind;

const CPORT: u16 = 40_000;
const REAL: u8 = 11;
/// The client's initial sequence number, the real server's, and their first data's.
const ISN: u32 = u32::MAX - 100;
const FIRST: u32 = ISN.wrapping_add(1);
const REAL_ISN: u32 = 0x7000_0000;
const REAL_FIRST: u32 = REAL_ISN + 1;

const V1: Telling = proxy(Version::V1, false);
const V2: Telling = proxy(Version::V2, false);

const fn proxy(version: Version, insecure: bool) -> Telling {
    Telling::Proxy { version, insecure }
}

/// A packet that was sent, read by etherparse.
#[derive(Debug)]
struct Got {
    frame: Vec<u8>,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    urgent: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

fn read(name: &str, frame: &[u8]) -> Got {
    let packet = &frame[14..];
    let headers = PacketHeaders::from_ip_slice(packet).expect(name);
    let (src, dst): (IpAddr, IpAddr) = match headers.net.expect(name) {
        NetHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
        NetHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
        NetHeaders::Arp(_) => panic!("{name}: ARP"),
    };
    let data = headers.payload.slice().to_vec();
    match headers.transport.expect(name) {
        TransportHeader::Tcp(tcp) => {
            let bits = [tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg];
            let flags = bits
                .iter()
                .zip(0..)
                .map(|(&on, bit)| u8::from(on) << bit)
                .sum();
            Got {
                frame: frame.to_vec(),
                src: (src, tcp.source_port),
                dst: (dst, tcp.destination_port),
                seq: tcp.sequence_number,
                ack: tcp.acknowledgment_number,
                flags,
                urgent: tcp.urgent_pointer,
                options: tcp.options.as_slice().to_vec(),
                data,
            }
        }
        TransportHeader::Udp(udp) => Got {
            frame: frame.to_vec(),
            src: (src, udp.source_port),
            dst: (dst, udp.destination_port),
            seq: 0,
            ack: 0,
            flags: 0,
            urgent: 0,
            options: Vec::new(),
            data,
        },
        other => panic!("{name}: {other:?}"),
    }
}

/// One client and one real server, each a port of the director away.
struct Talk {
    fleet: Fleet,
    v6: bool,
    client: IpAddr,
    vip: IpAddr,
    /// Whom the real server sees.
    local: (IpAddr, u16),
    /// What it sees the client's first data as.
    seen: u32,
}

impl Talk {
    fn new(telling: Telling, protocol: u8, v6: bool) -> Self {
        let mut spec = Spec::new(v6, protocol, Kind::Rr, &[(REAL, Mode::FullNat)]);
        spec.telling = telling;
        let client = match v6 {
            true => "2001:db8::7".parse().expect("an address"),
            false => CLIENT.into(),
        };
        Self {
            fleet: Fleet::new(1, vec![spec]),
            v6,
            client,
            vip: vip(0, v6),
            local: (client, 0),
            seen: 0,
        }
    }

    /// A TCP connection that is open: SYN and SYN-ACK have passed.
    fn open(telling: Telling, v6: bool) -> Self {
        let mut talk = Self::new(telling, TCP, v6);
        talk.shake();
        talk
    }

    fn shake(&mut self) {
        let syn = self.client_sends(syn().mss(1460));
        let [syn] = &syn[..] else { panic!("{syn:?}") };
        (self.local, self.seen) = (syn.src, syn.seq.wrapping_add(1));
        let answer = tcp(0, 0).syn().seq(REAL_ISN).acks(self.seen).mss(1460);
        let answer = self.real_sends(answer);
        assert_eq!((answer[0].seq, answer[0].ack), (REAL_ISN, FIRST));
    }

    fn ends(&self) -> Ends {
        let port = if self.fleet.specs[0].protocol == TCP {
            80
        } else {
            53
        };
        Ends {
            source: (self.client, CPORT),
            destination: (self.vip, port),
        }
    }

    fn header(&self, version: Version, protocol: Protocol) -> Vec<u8> {
        Header::new(version, protocol, Some(self.ends()))
            .bytes()
            .to_vec()
    }

    fn packet_of_client(&self, body: impl Into<Body>) -> Packet {
        ip(self.client, self.vip).with(body)
    }

    /// What the director makes of a client's segment.
    fn client_sends(&mut self, segment: Tcp) -> Vec<Got> {
        let packet = self.packet_of_client(segment.ports(CPORT, 80));
        self.pass(WAN, &packet)
    }

    /// The same for one of the real server's.
    fn real_sends(&mut self, segment: Tcp) -> Vec<Got> {
        let real = common::fleet::real_address(REAL, self.v6);
        let segment = segment.ports(common::fleet::REAL_PORT, self.local.1);
        let packet = ip(real, self.local.0).with(segment);
        self.pass(LAN, &packet)
    }

    fn pass(&mut self, port: PortId, packet: &Packet) -> Vec<Got> {
        self.pass_raw(port, packet)
            .iter()
            .map(|frame| {
                intact("sent", &frame[14..]);
                read("sent", frame)
            })
            .collect()
    }

    fn pass_raw(&mut self, port: PortId, packet: &Packet) -> Vec<Vec<u8>> {
        let mac = if port == WAN { WAN_MAC } else { LAN_MAC };
        self.fleet
            .give(0, port, &packet.ether(GATEWAY_MAC, mac).bytes());
        let sent = self.fleet.turn(0);
        sent.into_iter().map(|(_, frame)| frame).collect()
    }

    /// The connection as it is kept.
    fn kept(&self) -> String {
        let state = self.fleet.workers[0].state();
        let v4 = state.v4.iter().map(|entry| format!("{entry:?}"));
        let v6 = state.v6.iter().map(|entry| format!("{entry:?}"));
        v4.chain(v6).collect()
    }

    fn untold(&self) -> u64 {
        self.fleet.sum(|counters| counters.untold.get())
    }
}

fn syn() -> Tcp {
    tcp(CPORT, 80).syn().seq(ISN)
}

/// A client's segment `offset` octets into its stream, which has nothing of the real's yet.
fn data(offset: u32, octets: &[u8]) -> Tcp {
    let seq = FIRST.wrapping_add(offset);
    tcp(CPORT, 80).seq(seq).acks(REAL_FIRST).payload(octets)
}

fn one(mut got: Vec<Got>) -> Got {
    assert_eq!(got.len(), 1, "{got:?}");
    got.remove(0)
}

fn toa(client: IpAddr) -> Vec<u8> {
    let octets = match client {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let len = u8::try_from(octets.len() + 4).expect("8 or 20");
    [&[254, len][..], &CPORT.to_be_bytes(), &octets].concat()
}

#[test]
fn a_syn_is_new_and_promises_less() {
    // Reference C1.
    for (telling, v6) in [
        (Telling::Toa, false),
        (V1, false),
        (V2, true),
        (Telling::Toa, true),
    ] {
        let mut talk = Talk::new(telling, TCP, v6);
        let options = syn()
            .mss(1460)
            .option(OptionKind::SACK_PERMITTED, &[])
            .option(OptionKind::TIMESTAMPS, &[1; 8])
            .nop()
            .option(OptionKind::WINDOW_SCALE, &[7]);
        let got = one(talk.client_sends(options.clone()));
        #[rustfmt::skip]
        let want = [2, 4, 5, 180, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7];
        assert_eq!(got.options, want);
        assert_ne!(got.seq, ISN);
        assert!(got.src.0 != talk.client && got.data.is_empty());
        let again = one(talk.client_sends(options));
        assert_eq!((again.seq, again.src), (got.seq, got.src), "repeated");
        // Reference C5.
        (talk.local, talk.seen) = (got.src, got.seq.wrapping_add(1));
        let answer = tcp(0, 0).syn().seq(REAL_ISN).acks(talk.seen).mss(1460);
        let answer = one(talk.real_sends(answer));
        let mss = match (telling, v6) {
            (Telling::Toa, false) => 1452u16,
            (Telling::Toa, true) => 1440,
            _ => 1460,
        };
        assert_eq!(answer.options[2..4], mss.to_be_bytes());
        assert_eq!((answer.seq, answer.ack), (REAL_ISN, FIRST));
    }
}

#[test]
fn a_syn_brings_no_data() {
    for telling in [Telling::Toa, V2] {
        let mut talk = Talk::new(telling, TCP, false);
        let early = syn()
            .mss(1460)
            .option(OptionKind::FAST_OPEN, &[7; 8])
            .option(OptionKind::TOA, &[1; 6])
            .payload("GET");
        let got = one(talk.client_sends(early));
        assert_eq!(
            got.options,
            [vec![2, 4, 5, 180], vec![1; 18], vec![0, 0]].concat()
        );
        assert!(got.data.is_empty(), "it is sent again");
    }
}

#[test]
fn isn_grows_with_time_and_is_the_same_for_ever() {
    let number = |wait| {
        let mut talk = Talk::new(V2, TCP, false);
        talk.fleet.now = talk.fleet.now.plus(wait);
        let got = one(talk.client_sends(syn()));
        (got.seq, got.src.1)
    };
    let (first, port) = number(0);
    assert_eq!(number(0), (first, port));
    assert_eq!(number(2), (first.wrapping_add(31_250), port));
}

#[test]
fn the_option_comes_until_data_are_acknowledged() {
    // Reference C2, C3, C4, C6.
    for v6 in [false, true] {
        let mut talk = Talk::open(Telling::Toa, v6);
        let option = toa(talk.client);
        let seen = talk.seen;
        let got = one(talk.client_sends(data(0, b"")));
        assert_eq!(
            (&got.options, got.seq, got.ack),
            (&option, seen, REAL_FIRST)
        );
        for _ in 0..2 {
            let got = one(talk.client_sends(data(0, &[7; 99]).psh()));
            assert_eq!((&got.options, got.seq), (&option, seen));
            assert_eq!(got.data, [7; 99]);
        }
        let sack = [9; 8];
        let got =
            one(talk.client_sends(data(99, b"x").nop().nop().option(OptionKind::SACK, &sack)));
        let rest = [vec![1, 1, 5, 10], vec![9; 8]].concat();
        assert_eq!(
            got.options,
            [option.clone(), rest].concat(),
            "before the others"
        );
        let got = one(talk.client_sends(data(100, b"").fin()));
        assert_eq!(
            (got.options, got.seq),
            (option, seen + 100),
            "a FIN has it too"
        );
        let got = one(talk.client_sends(data(100, b"").rst()));
        assert!(got.options.is_empty(), "a RST has not");
        let later = tcp(0, 0)
            .seq(FIRST.wrapping_add(100))
            .acks(REAL_FIRST + 1)
            .payload("more");
        let got = one(talk.client_sends(later));
        assert_eq!((got.options.len(), got.seq), (0, seen + 100));
        assert_eq!(talk.untold(), 0);
    }
}

#[test]
fn an_option_without_room_is_left_out() {
    // Reference C7, and what C.4 says of options.
    let option = toa(CLIENT.into());
    let sack = |blocks: usize| vec![9; 8 * blocks];
    let one_block = [vec![5, 10], sack(1)].concat();
    let forged = [vec![254, 8], vec![6; 6]].concat();
    #[rustfmt::skip]
    let cases = [
        // name, octets of data, NOPs, then an option; what comes after the client's address
        ("just fits",             1452, 0, vec![],           Some(vec![])),
        ("too large",             1453, 0, vec![],           None),
        ("padding makes room",    1440, 6, one_block.clone(), Some([one_block.clone(), vec![0, 0]].concat())),
        ("SACK makes room",       1448, 2, one_block,        Some(vec![])),
        ("a header is full",      10,   2, [vec![5, 34], sack(4)].concat(), Some(vec![])),
        ("one of the client's own comes second", 10, 0, forged.clone(), Some(forged.clone())),
        ("one of the client's own makes room",   1452, 0, forged,       Some(vec![])),
    ];
    for (name, len, nops, options, want) in cases {
        let mut talk = Talk::open(Telling::Toa, false);
        let segment = (0..nops).fold(data(0, &vec![1; len]), |segment, _| segment.nop());
        let segment = match options.get(2..) {
            Some(rest) => segment.option(OptionKind(options[0]), rest),
            None => segment,
        };
        let got = one(talk.client_sends(segment));
        let told = want.is_some();
        let want = want.map(|rest| [option.clone(), rest].concat());
        assert_eq!(got.options, want.unwrap_or_default(), "{name}");
        assert_eq!(
            (talk.untold(), got.data.len()),
            (u64::from(!told), len),
            "{name}"
        );
    }
}

#[test]
fn a_header_goes_before_the_first_data() {
    // Reference C12.
    for (version, telling) in [(Version::V1, V1), (Version::V2, V2)] {
        for v6 in [false, true] {
            let mut talk = Talk::open(telling, v6);
            let seen = talk.seen;
            let header = talk.header(version, Protocol::TCP);
            let got = one(talk.client_sends(data(0, b"")));
            assert_eq!((got.seq, got.data.len(), got.options.len()), (seen, 0, 0));
            let first = one(talk.client_sends(data(0, b"GET /").psh()));
            assert_eq!((first.seq, first.ack), (seen, REAL_FIRST));
            assert_eq!(first.data, [&header[..], b"GET /"].concat());
            let again = one(talk.client_sends(data(0, b"GET /").psh()));
            assert_eq!(again.frame, first.frame, "byte for byte");
            let shorter = one(talk.client_sends(data(0, b"GE")));
            assert_eq!(
                (shorter.seq, &shorter.data),
                (seen, &[&header[..], b"GE"].concat())
            );
            let len = u32::try_from(header.len()).expect("short");
            let overlapping = one(talk.client_sends(data(3, b" / HTTP")));
            assert_eq!(
                (overlapping.seq, &overlapping.data[..]),
                (seen + 3 + len, &b" / HTTP"[..])
            );
            let fin = one(talk.client_sends(data(10, b"").fin()));
            assert_eq!(fin.seq, seen + 10 + len);
            let rst = one(talk.client_sends(data(10, b"").rst()));
            assert_eq!(rst.seq, seen + 10 + len);

            let ack = |talk: &mut Talk, octets: u32| {
                let segment = tcp(0, 0).seq(REAL_FIRST).acks(seen + octets);
                one(talk.real_sends(segment)).ack.wrapping_sub(FIRST)
            };
            let acks = [0, 1, len - 1].map(|octets| ack(&mut talk, octets));
            assert_eq!(acks, [0, 0, 0], "only the header");
            assert_eq!(
                [len, len + 5, len + 10].map(|octets| ack(&mut talk, octets)),
                [0, 5, 10]
            );
            let past = one(talk.client_sends(data(0, b"GET /")));
            assert_eq!(
                (past.seq, &past.data[..]),
                (seen + len, &b"GET /"[..]),
                "the real has it"
            );
        }
    }
}

#[test]
fn reordered_and_forged_begins() {
    let mut talk = Talk::open(V2, false);
    assert!(talk.client_sends(data(5, b"later")).is_empty());
    assert_eq!(talk.fleet.drops(), [("drop-unplaced", 1)]);
    assert_eq!(
        one(talk.client_sends(data(5, b""))).seq,
        talk.seen + 5,
        "an ACK passes"
    );
    // In front of the stream nothing can be smuggled in.
    let header = talk.header(Version::V2, Protocol::TCP);
    let probe = one(talk.client_sends(data(u32::MAX, b"x")));
    assert_eq!((probe.seq, probe.data.len()), (talk.seen - 1, 1), "a probe");
    let smuggled = one(talk.client_sends(data(u32::MAX - 3, b"...PROXY")));
    assert_eq!(smuggled.seq, talk.seen);
    assert_eq!(smuggled.data, [&header[..], b"ROXY"].concat());
    let later = one(talk.client_sends(data(5, b"later")));
    assert_eq!(later.seq, talk.seen + 5 + 28);
}

#[test]
fn a_damaged_segment_decides_nothing() {
    let mut talk = Talk::new(V2, TCP, false);
    let damaged = talk.packet_of_client(syn().bad_checksum());
    let sent = talk.pass_raw(WAN, &damaged);
    assert_eq!(read("SYN", &sent[0]).seq, ISN, "nobody takes it");
    talk.shake();
    let own = talk.header(Version::V1, Protocol::TCP);
    let damaged = talk.packet_of_client(data(0, &own).bad_checksum());
    let sent = talk.pass_raw(WAN, &damaged);
    assert_eq!(read("data", &sent[0]).data, own);
    let got = one(talk.client_sends(data(0, b"GET")));
    assert_eq!(
        got.data,
        [&talk.header(Version::V2, Protocol::TCP)[..], b"GET"].concat()
    );
    let real = common::fleet::real_address(REAL, false);
    let ack = tcp(common::fleet::REAL_PORT, talk.local.1)
        .seq(REAL_FIRST)
        .acks(talk.seen + 28 + 3);
    talk.pass_raw(LAN, &ip(real, talk.local.0).with(ack.bad_checksum()));
    let again = one(talk.client_sends(data(0, b"GET")));
    assert_eq!(again.data.len(), 28 + 3, "a damaged ACK is no ACK");
}

#[test]
fn a_header_without_room_goes_ahead() {
    for v6 in [false, true] {
        let mut talk = Talk::open(V2, v6);
        let header = talk.header(Version::V2, Protocol::TCP);
        let len = u32::try_from(header.len()).expect("short");
        let room = if v6 { 1500 - 60 } else { 1500 - 40 };
        let fits = one(talk.client_sends(data(0, &vec![3; room - header.len()])));
        assert_eq!(fits.frame.len(), 1514);
        for _ in 0..2 {
            let got = talk.client_sends(data(0, &vec![3; room]).psh());
            let [ahead, rest] = &got[..] else {
                panic!("{}", got.len())
            };
            assert_eq!(
                (ahead.seq, &ahead.data, ahead.flags),
                (talk.seen, &header, 0x10)
            );
            assert_eq!(
                (ahead.src, ahead.dst, ahead.ack),
                (rest.src, rest.dst, rest.ack)
            );
            assert_eq!(
                (rest.seq, rest.data.len(), rest.flags),
                (talk.seen + len, room, 0x18)
            );
        }
        assert_eq!(talk.fleet.sum(|counters| counters.made_sent.get()), 2);
    }
}

#[test]
fn a_header_of_the_clients_own() {
    let forged = Ends {
        source: (IpAddr::from([1, 2, 3, 4]), 5),
        destination: (IpAddr::from([6, 7, 8, 9]), 10),
    };
    let own = |version, ends| Header::new(version, Protocol::TCP, ends).bytes().to_vec();
    let cases = [
        (
            "replaced",
            proxy(Version::V2, false),
            Version::V2,
            Some(forged),
            None,
        ),
        (
            "replaced by the other",
            proxy(Version::V1, false),
            Version::V2,
            Some(forged),
            None,
        ),
        (
            "believed",
            proxy(Version::V1, true),
            Version::V1,
            Some(forged),
            Some(own(Version::V1, Some(forged))),
        ),
        (
            "believed as it is",
            proxy(Version::V2, true),
            Version::V2,
            None,
            Some(own(Version::V2, None)),
        ),
        (
            "made new",
            proxy(Version::V2, true),
            Version::V1,
            Some(forged),
            Some(own(Version::V2, Some(forged))),
        ),
        (
            "made new, shorter",
            proxy(Version::V1, true),
            Version::V2,
            Some(forged),
            Some(own(Version::V1, Some(forged))),
        ),
        (
            "made new of nothing",
            proxy(Version::V1, true),
            Version::V2,
            None,
            Some(own(Version::V1, None)),
        ),
    ];
    for (name, telling, version, ends, want) in cases {
        let mut talk = Talk::open(telling, false);
        let Telling::Proxy { version: ours, .. } = telling else {
            panic!("{name}")
        };
        let theirs = own(version, ends);
        let header = want.unwrap_or_else(|| talk.header(ours, Protocol::TCP));
        let stream = [&theirs[..], b"GET /"].concat();
        for _ in 0..2 {
            let got = one(talk.client_sends(data(0, &stream)));
            assert_eq!(got.seq, talk.seen, "{name}");
            assert_eq!(got.data, [&header[..], b"GET /"].concat(), "{name}");
        }
        let (theirs_len, ours_len) = (len32(&theirs), len32(&header));
        let more = one(talk.client_sends(data(len32(&stream), b"more")));
        assert_eq!(more.seq, talk.seen.wrapping_add(ours_len + 5), "{name}");
        if theirs != header {
            let part = one(talk.client_sends(data(3, &stream[3..])));
            assert_eq!(
                (part.seq, &part.data[..]),
                (talk.seen + ours_len, &b"GET /"[..]),
                "{name}"
            );
        }
        let acks = [
            (0, 0),
            (ours_len, theirs_len),
            (ours_len + 5, theirs_len + 5),
        ];
        for (seen, want) in acks {
            let got = one(talk.real_sends(tcp(0, 0).seq(REAL_FIRST).acks(talk.seen + seen)));
            assert_eq!(got.ack.wrapping_sub(FIRST), want, "{name}: {seen}");
        }
    }
    let mut none = Talk::open(proxy(Version::V2, true), false);
    let got = one(none.client_sends(data(0, b"GET /")));
    assert_eq!(
        got.data,
        [&none.header(Version::V2, Protocol::TCP)[..], b"GET /"].concat()
    );
}

fn len32(octets: &[u8]) -> u32 {
    u32::try_from(octets.len()).expect("short")
}

#[test]
fn sack_edges_are_the_clients_own() {
    // Reference C8.
    let sack = |blocks: &[(u32, u32)]| -> Vec<u8> {
        let words = blocks.iter().flat_map(|&(left, right)| [left, right]);
        words.flat_map(u32::to_be_bytes).collect()
    };
    for (telling, len) in [(Telling::Toa, 0), (V2, 28)] {
        let mut talk = Talk::open(telling, false);
        talk.client_sends(data(0, &[1; 100]));
        let seen = talk.seen;
        // A duplicate of the header and the first data, and what came after a gap.
        let blocks = sack(&[
            (seen, seen + len + 50),
            (seen + len + 200, seen + len + 300),
        ]);
        let segment = tcp(0, 0).seq(REAL_FIRST).acks(seen + len + 100).nop().nop();
        let got = one(talk.real_sends(segment.option(OptionKind::SACK, &blocks)));
        assert_eq!(got.ack.wrapping_sub(FIRST), 100);
        let at = |offset: u32| FIRST.wrapping_add(offset);
        let want = sack(&[(at(0), at(50)), (at(200), at(300))]);
        assert_eq!(got.options, [vec![1, 1, 5, 18], want].concat());
    }
    // A duplicate of the header alone is nothing that the client knows of.
    let mut talk = Talk::open(V2, false);
    talk.client_sends(data(0, &[1; 100]));
    let seen = talk.seen;
    let blocks = sack(&[(seen, seen + 20), (seen + 78, seen + 128)]);
    let segment = tcp(0, 0).seq(REAL_FIRST).acks(seen + 10).nop().nop();
    let got = one(talk.real_sends(segment.option(OptionKind::SACK, &blocks)));
    let want = sack(&[(FIRST.wrapping_add(50), FIRST.wrapping_add(100))]);
    assert_eq!(got.options, [vec![1, 1, 5, 10], want, vec![1; 8]].concat());
}

#[test]
fn an_urgent_pointer_moves_with_its_data() {
    let mut talk = Talk::open(V2, false);
    let urgent = |talk: &Talk, octets: usize| {
        let mut packet = talk
            .packet_of_client(data(0, &vec![1; octets]).urg())
            .bytes();
        packet[38..40].copy_from_slice(&3u16.to_be_bytes());
        let sum = u16::from_be_bytes([packet[36], packet[37]]);
        packet[36..38].copy_from_slice(&wire::Delta::u16(0, 3).apply(sum).to_be_bytes());
        packet
    };
    let packet = urgent(&talk, 10);
    let frame = [&WAN_MAC.0[..], &GATEWAY_MAC.0, &[8, 0], &packet].concat();
    talk.fleet.give(0, WAN, &frame);
    let sent = talk.fleet.turn(0);
    intact("urgent", &sent[0].1[14..]);
    assert_eq!(read("urgent", &sent[0].1).urgent, 31);
}

#[test]
fn a_fragmented_begin() {
    // The header goes ahead, and the fragments have their places.
    let mut talk = Talk::open(V2, false);
    let header = talk.header(Version::V2, Protocol::TCP);
    let body: Vec<u8> = (0..2000u32).map(|n| n.to_be_bytes()[3]).collect();
    let parts = talk.packet_of_client(data(0, &body)).id(9).fragments(1500);
    let mut sent = talk.pass_raw(WAN, &parts[0]);
    sent.extend(talk.pass_raw(WAN, &parts[1]));
    let ahead = read("ahead", &sent[0]);
    assert_eq!((ahead.seq, ahead.data), (talk.seen, header));
    assert_eq!(sent.len(), 3);
    let segment = [&sent[1][34..], &sent[2][34..]].concat();
    let mut whole = sent[1][14..34].to_vec();
    let total = u16::try_from(20 + segment.len()).expect("short");
    whole[2..4].copy_from_slice(&total.to_be_bytes());
    whole[6..8].copy_from_slice(&[0, 0]);
    whole[10..12].copy_from_slice(&[0, 0]);
    let sum = wire::checksum::of(&whole);
    whole[10..12].copy_from_slice(&sum.to_be_bytes());
    whole.extend(segment);
    intact("whole", &whole);
    let got = read("whole", &[vec![0; 14], whole].concat());
    assert_eq!((got.seq, &got.data), (talk.seen + 28, &body));

    // A SYN in fragments would begin a stream that is not told of; TOA has no place in one.
    let mut talk = Talk::new(V2, TCP, false);
    let parts = talk
        .packet_of_client(syn().payload(vec![0; 2000]))
        .id(3)
        .fragments(1500);
    assert!(talk.pass_raw(WAN, &parts[0]).is_empty());
    assert_eq!(talk.fleet.drops(), [("drop-unplaced", 1)]);
    let mut talk = Talk::open(Telling::Toa, false);
    let forged = data(0, &body).option(OptionKind::TOA, &[6; 6]);
    let parts = talk.packet_of_client(forged).id(9).fragments(1500);
    let sent = talk.pass_raw(WAN, &parts[0]);
    assert_eq!(sent[0][54..62], [1; 8], "no forged address either");
    assert_eq!(talk.untold(), 1);
}

#[test]
fn what_has_no_place_moves_nothing() {
    let modes = [
        (false, Mode::FullNat),
        (true, Mode::FullNat),
        (true, Mode::Nat64),
    ];
    for (v6, mode) in modes {
        let open = || {
            let mut talk = Talk::new(V1, TCP, v6);
            let mut spec = Spec::new(v6, TCP, Kind::Rr, &[(REAL, mode)]);
            spec.telling = V1;
            talk.fleet = Fleet::new(1, vec![spec]);
            let sent = one(talk.client_sends(syn()));
            talk.local = sent.src;
            let answer = tcp(0, 0).syn().seq(REAL_ISN);
            let answer = answer.acks(sent.seq.wrapping_add(1));
            let v6 = std::mem::replace(&mut talk.v6, mode.real_is_v6(v6));
            talk.real_sends(answer);
            talk.v6 = v6;
            talk
        };
        let early = [
            ("data", data(7, b"x")),
            ("a FIN", data(7, b"").fin()),
            ("data and a FIN", data(1, b"x").fin()),
        ];
        for (name, segment) in early {
            let mut talk = open();
            let before = talk.kept();
            talk.fleet.now = talk.fleet.now.plus(500);
            assert!(talk.client_sends(segment).is_empty(), "{name}");
            assert_eq!(talk.fleet.drops(), [("drop-unplaced", 1)], "{name}");
            assert_eq!(talk.kept(), before, "{name}");
            // What has one does.
            assert_eq!(talk.client_sends(data(0, b"GET")).len(), 1, "{name}");
            assert_ne!(talk.kept(), before, "{name}");
        }
        let mut talk = open();
        let before = talk.kept();
        let large = syn().payload(vec![0; 2000]);
        let first = talk.packet_of_client(large).id(3).fragments(1500).remove(0);
        assert!(talk.pass_raw(WAN, &first).is_empty());
        assert_eq!(talk.fleet.drops(), [("drop-unplaced", 1)]);
        assert_eq!(talk.kept(), before, "a SYN in fragments");
    }
}

#[test]
fn what_opens_without_a_syn_is_not_past_its_header() {
    let mut talk = Talk::new(V2, TCP, false);
    let opened = one(talk.client_sends(tcp(0, 0).syn().seq(ISN).acks(1)));
    talk.local = opened.src;
    talk.seen = one(talk.client_sends(syn())).seq.wrapping_add(1);
    talk.real_sends(tcp(0, 0).syn().seq(REAL_ISN).acks(talk.seen));
    let got = one(talk.client_sends(data(0, b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n")));
    assert_eq!(got.data, talk.header(Version::V2, Protocol::TCP));
}

#[test]
fn a_second_stream_of_the_same_tuple() {
    let mut talk = Talk::open(V2, false);
    talk.client_sends(data(0, b"GET"));
    talk.real_sends(tcp(0, 0).seq(REAL_FIRST).acks(talk.seen + 31));
    let again = ISN.wrapping_add(5_000_000);
    let seen = one(talk.client_sends(tcp(0, 0).syn().seq(again))).seq;
    // Forged or not: until the real server takes it, the old one goes on.
    let old = one(talk.client_sends(data(3, b" /")));
    assert_eq!(old.seq, talk.seen + 31);
    talk.real_sends(tcp(0, 0).syn().seq(9).acks(seen.wrapping_add(1)));
    let first = tcp(0, 0).seq(again.wrapping_add(1)).acks(10).payload("GET");
    let got = one(talk.client_sends(first));
    assert_eq!(got.seq, seen.wrapping_add(1));
    assert_eq!(
        got.data,
        [&talk.header(Version::V2, Protocol::TCP)[..], b"GET"].concat()
    );
}

#[test]
fn a_syn_that_acknowledges_tells_nothing() {
    for telling in [Telling::Toa, V2] {
        let mut talk = Talk::open(telling, false);
        let seen = talk.seen;
        let odd = data(0, b"xGET").seq(ISN).syn();
        let got = one(talk.client_sends(odd));
        assert_eq!((got.seq, &got.data[..]), (seen - 1, &b"xGET"[..]));
        assert!(got.options.is_empty(), "{telling:?}");
        let got = one(talk.client_sends(data(0, b"GET")));
        let header = match telling {
            Telling::Toa => Vec::new(),
            _ => talk.header(Version::V2, Protocol::TCP),
        };
        assert_eq!(got.seq, seen);
        assert_eq!(got.data, [&header[..], b"GET"].concat());
    }
}

/// The place of one whose time is up is the next one's: nothing of its stream is.
#[test]
fn a_place_is_taken_over_without_its_stream() {
    let mut talk = Talk::new(V2, TCP, false);
    talk.fleet = Fleet::with_connections(1, talk.fleet.specs.clone(), 1);
    let send = |talk: &mut Talk, port: u16, segment: Tcp| {
        let packet = talk.packet_of_client(segment.ports(port, 80));
        one(talk.pass(WAN, &packet))
    };
    for port in CPORT..CPORT + 3 {
        let isn = ISN.wrapping_add(1000 * u32::from(port));
        talk.fleet.now = talk.fleet.now.plus(2_000_000);
        // Each looks at a part of the time that passed.
        for _ in 0..1_000 {
            talk.fleet.turn(0);
        }
        let seen = send(&mut talk, port, tcp(0, 0).syn().seq(isn)).seq;
        assert_eq!(send(&mut talk, port, tcp(0, 0).syn().seq(isn)).seq, seen);
        for offset in [0, 3] {
            let segment = tcp(0, 0).seq(isn.wrapping_add(1 + offset)).acks(1);
            let got = send(&mut talk, port, segment.payload("GET"));
            let ends = Ends {
                source: (talk.client, port),
                ..talk.ends()
            };
            let header = Header::new(Version::V2, Protocol::TCP, Some(ends));
            let (header, before) = match offset {
                0 => (header.bytes(), 1),
                _ => (&[][..], 1 + 28 + offset),
            };
            assert_eq!(got.seq, seen.wrapping_add(before), "{port}");
            assert_eq!(got.data, [header, b"GET"].concat(), "{port}");
        }
    }
    let ended = talk.fleet.sum(|counters| counters.connections_ended.get());
    assert_eq!(ended, 2);
}

#[test]
fn errors_are_about_what_their_sender_knows() {
    for v6 in [false, true] {
        let router: IpAddr = match v6 {
            true => "fd00:1::fe".parse().expect("an address"),
            false => IpAddr::from([10, 1, 0, 254]),
        };
        let too_large = |mtu| match v6 {
            true => icmp(2, 0).rest(mtu),
            false => icmp(3, 4).rest(mtu),
        };
        for (telling, len, less) in [
            (Telling::Toa, 0, if v6 { 20 } else { 8 }),
            (V2, if v6 { 52 } else { 28 }, 0),
        ] {
            let mut talk = Talk::open(telling, v6);
            talk.client_sends(data(0, &[1; 100]));
            let real = common::fleet::real_address(REAL, v6);
            let (local, seen) = (talk.local, talk.seen);
            // From a router on the way to the real server, about what came of the client's.
            let ours = tcp(local.1, common::fleet::REAL_PORT)
                .seq(seen + len + 40)
                .acks(REAL_FIRST)
                .payload([1; 60]);
            let error = ip(router, local.0)
                .with(too_large(1400).quoting(&ip(local.0, real).df().with(ours.clone())));
            let sent = talk.pass_raw(LAN, &error);
            intact("error", &sent[0][14..]);
            let theirs = data(40, &[1; 60]);
            let want_mtu = 1400 - less - if telling == V2 { len } else { 0 };
            let want = ip(talk.vip, talk.client)
                .ttl(63)
                .with(too_large(want_mtu).quoting(&talk.packet_of_client(theirs).df()));
            assert_eq!(sent[0][14..], want.bytes(), "{telling:?}");
            // In the header itself: about where the client's data begin.
            let early = tcp(local.1, common::fleet::REAL_PORT)
                .seq(seen + len / 2)
                .acks(REAL_FIRST)
                .payload([1; 60]);
            let error =
                ip(router, local.0).with(icmp(3, 1).quoting(&ip(local.0, real).with(early)));
            if !v6 && telling == V2 {
                let sent = talk.pass_raw(LAN, &error);
                assert_eq!(sent[0][14 + 20 + 8 + 20 + 4..][..4], FIRST.to_be_bytes());
            }
            // From a router on the way to the client, about what came of the real server's.
            let back = tcp(80, CPORT)
                .seq(REAL_FIRST)
                .acks(FIRST.wrapping_add(100))
                .payload([2; 50]);
            let error = ip(router, talk.vip)
                .with(too_large(1400).quoting(&ip(talk.vip, talk.client).df().with(back)));
            let sent = talk.pass_raw(WAN, &error);
            intact("error", &sent[0][14..]);
            let known = tcp(common::fleet::REAL_PORT, local.1)
                .seq(REAL_FIRST)
                .acks(seen + len + 100)
                .payload([2; 50]);
            let want = ip(local.0, real)
                .ttl(63)
                .with(too_large(1400).quoting(&ip(real, local.0).df().with(known)));
            assert_eq!(sent[0][14..], want.bytes(), "{telling:?}");
            // Octets of the header that everybody quotes are enough.
            let short = ip(router, talk.vip).with(
                too_large(1400).quoting_first(
                    if v6 { 48 } else { 28 },
                    &ip(talk.vip, talk.client)
                        .df()
                        .with(tcp(80, CPORT).seq(REAL_FIRST)),
                ),
            );
            assert_eq!(talk.pass_raw(WAN, &short).len(), 1);
        }
    }
}

#[test]
fn several_workers_tell_the_same() {
    // Whatever queue a packet comes by: the owner has the stream.
    let mut spec = Spec::new(false, TCP, Kind::Rr, &[(REAL, Mode::FullNat)]);
    spec.telling = V2;
    let mut fleet = Fleet::new(3, vec![spec]);
    for client_port in 40_000..40_020 {
        let from = |body: Tcp| {
            ip(CLIENT, VIP)
                .with(body.ports(client_port, 80))
                .ether(GATEWAY_MAC, WAN_MAC)
                .bytes()
        };
        let mut sent = |worker: usize, port, frame: &[u8]| {
            fleet.give(worker, port, frame);
            fleet
                .drain()
                .iter()
                .map(|(_, frame)| read("sent", frame))
                .collect::<Vec<_>>()
        };
        let at = usize::from(client_port);
        let syn = one(sent(at % 3, WAN, &from(tcp(0, 0).syn().seq(ISN))));
        let seen = syn.seq.wrapping_add(1);
        let answer = tcp(common::fleet::REAL_PORT, syn.src.1)
            .syn()
            .seq(REAL_ISN)
            .acks(seen);
        let real = common::fleet::real_address(REAL, false);
        let answer = ip(real, syn.src.0)
            .with(answer)
            .ether(GATEWAY_MAC, LAN_MAC)
            .bytes();
        assert_eq!(one(sent((at + 1) % 3, LAN, &answer)).ack, FIRST);
        let got = one(sent((at + 2) % 3, WAN, &from(data(0, b"GET"))));
        let ends = Ends {
            source: (CLIENT.into(), client_port),
            destination: (VIP.into(), 80),
        };
        let header = Header::new(Version::V2, Protocol::TCP, Some(ends));
        assert_eq!(
            (got.seq, got.data),
            (seen, [header.bytes(), b"GET"].concat())
        );
    }
}

#[test]
fn datagrams() {
    let ask = |octets: &[u8]| udp(CPORT, 53).payload(octets);
    let forged = Ends {
        source: (IpAddr::from([1, 2, 3, 4]), 5),
        destination: (IpAddr::from([6, 7, 8, 9]), 10),
    };
    for v6 in [false, true] {
        let mut talk = Talk::new(V2, UDP, v6);
        let header = talk.header(Version::V2, Protocol::UDP);
        let first = talk.pass(WAN, &talk.packet_of_client(ask(b"who?")));
        assert_eq!(one(first).data, [&header[..], b"who?"].concat());
        let second = talk.pass(WAN, &talk.packet_of_client(ask(b"who?")));
        assert_eq!(
            one(second).data,
            b"who?",
            "lost with the first, if that is lost"
        );

        // Without room: in pieces where that is allowed, else ahead.
        let mut talk = Talk::new(V2, UDP, v6);
        let full = if v6 { 1500 - 48 } else { 1500 - 28 };
        let packet = talk.packet_of_client(ask(&vec![7; full])).df();
        let got = talk.pass(WAN, &packet);
        let datas: Vec<_> = got.iter().map(|got| got.data.clone()).collect();
        assert_eq!(datas, [header, vec![7; full]]);
    }
    let mut talk = Talk::new(V2, UDP, false);
    let packet = talk.packet_of_client(ask(&[7; 1472])).id(5);
    let pieces = talk.pass_raw(WAN, &packet);
    assert_eq!(
        pieces.iter().map(Vec::len).collect::<Vec<_>>(),
        [1514, 34 + 28]
    );

    let mut talk = Talk::new(V2, UDP, false);
    let header = talk.header(Version::V2, Protocol::UDP);
    let unsummed = talk.pass(WAN, &talk.packet_of_client(ask(b"who?").unsummed()));
    let got = one(unsummed);
    assert_eq!(
        (got.data, &got.frame[40..42]),
        ([&header[..], b"who?"].concat(), &[0, 0][..])
    );

    let own = Header::new(Version::V2, Protocol::UDP, Some(forged));
    for (insecure, want) in [(false, &header[..]), (true, own.bytes())] {
        let mut talk = Talk::new(proxy(Version::V2, insecure), UDP, false);
        let got = talk.pass(
            WAN,
            &talk.packet_of_client(ask(&[own.bytes(), b"who?"].concat())),
        );
        assert_eq!(one(got).data, [want, b"who?"].concat());
    }

    // In pieces already: the header goes ahead.
    let mut talk = Talk::new(V2, UDP, false);
    let parts = talk.packet_of_client(ask(&[7; 2000])).id(5).fragments(1500);
    let sent = talk.pass_raw(WAN, &parts[0]);
    assert_eq!((sent.len(), &read("ahead", &sent[0]).data), (2, &header));

    for telling in [V1, Telling::Toa] {
        let mut talk = Talk::new(telling, UDP, false);
        let got = talk.pass(WAN, &talk.packet_of_client(ask(b"who?")));
        assert_eq!(one(got).data, b"who?", "neither knows of UDP");
    }

    // Without connections each datagram is the first of its own.
    let mut talk = Talk::new(V2, UDP, false);
    talk.fleet.specs[0].one_packet = true;
    talk.fleet.compile();
    for _ in 0..2 {
        let got = talk.pass(WAN, &talk.packet_of_client(ask(b"who?")));
        assert_eq!(one(got).data, [&header[..], b"who?"].concat());
    }
}

#[test]
fn an_ipv4_real_server_is_told_of_ipv6_clients() {
    // Reference C6, and C5's last.
    for telling in [Telling::Toa, V1, V2] {
        let mut spec = Spec::new(true, TCP, Kind::Rr, &[(REAL, Mode::Nat64)]);
        spec.telling = telling;
        let mut talk = Talk::new(telling, TCP, true);
        talk.fleet = Fleet::new(1, vec![spec]);
        let sent = one(talk.client_sends(syn().mss(1440)));
        assert!(sent.src.0.is_ipv4() && sent.seq != ISN);
        (talk.local, talk.seen, talk.v6) = (sent.src, sent.seq.wrapping_add(1), false);
        let answer = tcp(0, 0).syn().seq(REAL_ISN).acks(talk.seen).mss(1440);
        let answer = one(talk.real_sends(answer));
        let mss = if telling == Telling::Toa {
            1420u16
        } else {
            1440
        };
        assert_eq!(answer.options[2..4], mss.to_be_bytes());
        assert_eq!((answer.ack, answer.dst.0), (FIRST, talk.client));
        let got = one(talk.client_sends(data(0, b"GET")));
        let (header, option) = match telling {
            Telling::Proxy { version, .. } => (talk.header(version, Protocol::TCP), Vec::new()),
            _ => (Vec::new(), toa(talk.client)),
        };
        assert_eq!((got.seq, &got.options), (talk.seen, &option));
        assert_eq!(got.data, [&header[..], b"GET"].concat());
        assert!(got.dst.0.is_ipv4());
        let len = len32(&header);
        // The IPv4 packet may be as large as its link; the client's was 20 octets larger.
        let full = 1440;
        let sent = talk.client_sends(data(0, &vec![1; full]));
        match telling {
            Telling::Toa => assert_eq!(one(sent).frame.len(), 14 + 40 + 20 + full),
            _ => {
                let [ahead, rest] = &sent[..] else {
                    panic!("{}", sent.len())
                };
                assert_eq!((ahead.seq, &ahead.data), (talk.seen, &header));
                assert_eq!((rest.seq, rest.data.len()), (talk.seen + len, full));
            }
        }
        let ack = tcp(0, 0).seq(REAL_FIRST).acks(talk.seen + len + 3);
        assert_eq!(one(talk.real_sends(ack)).ack, FIRST.wrapping_add(3));
        // What a router says of what came of the client's packet.
        let router = IpAddr::from([10, 1, 0, 254]);
        let real = common::fleet::real_address(REAL, false);
        let ours = tcp(talk.local.1, common::fleet::REAL_PORT)
            .seq(talk.seen + len + 40)
            .acks(REAL_FIRST);
        let quoted = ip(talk.local.0, real).df().with(ours.payload([1; 60]));
        let error = ip(router, talk.local.0).with(icmp(3, 4).rest(1400).quoting(&quoted));
        let sent = talk.pass_raw(LAN, &error);
        intact("error", &sent[0][14..]);
        let seq = &sent[0][14 + 40 + 8 + 40 + 4..][..4];
        assert_eq!(seq, FIRST.wrapping_add(40).to_be_bytes());
    }
    let mut spec = Spec::new(true, UDP, Kind::Rr, &[(REAL, Mode::Nat64)]);
    spec.telling = V2;
    for once in [false, true] {
        spec.one_packet = once;
        let mut talk = Talk::new(V2, UDP, true);
        talk.fleet = Fleet::new(1, vec![spec.clone()]);
        let header = talk.header(Version::V2, Protocol::UDP);
        let ask = talk.packet_of_client(udp(CPORT, 53).payload("who?"));
        let got = one(talk.pass(WAN, &ask));
        assert_eq!(got.data, [&header[..], b"who?"].concat());
        let second = one(talk.pass(WAN, &ask));
        assert_eq!(second.data.len(), if once { header.len() + 4 } else { 4 });
    }
}
