//! A port that makes what it receives and recycles what it sends.

use std::collections::VecDeque;
use std::ops::Range;

use dataplane::port::{BURST, Burst, Frame, Port};
use wire::plain::Ends;
use wire::segment::Segment;
use wire::tcp::Flags;
use wire::{EtherType, Mac, checksum, ethernet, ipv4, ipv6};

use crate::case::{Case, Direction, Family};
use crate::flows::{
    self, GATEWAY, Learned, Template, expected_forward, expected_reverse, real_mac,
};
use crate::frame::BenchFrame;

/// Distinct buffers under way: a few hot ones would flatter.
pub const BUFFERS: u32 = 4096;

/// What a flow's client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// The first one.
    Syn,
    /// The ones after it.
    Ack,
}

/// What comes next.
#[derive(Clone, Debug)]
enum Next {
    /// Segments of flows drawn at random.
    Random,
    /// One segment of each of these, from their clients.
    Each(Range<u32>, Segments),
}

/// A flow and whose packet it is.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    flow: u32,
    reverse: bool,
}

/// The port.
#[derive(Debug)]
pub struct Generator {
    case: Case,
    flows: u32,
    free: VecDeque<BenchFrame>,
    /// Those of a SYN, of the client's segments and of the real server's.
    templates: [Template; 3],
    learned: Vec<Learned>,
    next: Next,
    /// The flows whose first packets are under way.
    opening: Option<Range<u32>>,
    random: u64,
    /// What is under way, while each answer is checked.
    checking: Option<VecDeque<Drawn>>,
    /// Frames that came back.
    pub sent: u64,
}

impl Generator {
    /// A generator of segments of `flows` flows, at most 2^28.
    pub fn new(case: Case, flows: u32) -> Self {
        let template = |ends, flags| Template::new(case.family, ends, flags);
        let client = flows::Ends::of_client(0);
        let real = flows::Ends::of_real(case.mode, 0, Learned::default());
        Self {
            case,
            flows,
            free: (0..BUFFERS).map(|_| BenchFrame::empty()).collect(),
            templates: [
                template(client, Flags::SYN),
                template(client, Flags::ACK),
                template(real, Flags::ACK),
            ],
            learned: vec![Learned::default(); flows as usize],
            next: Next::Random,
            opening: None,
            random: 1,
            checking: None,
            sent: 0,
        }
    }

    /// Adds `frames` buffers: those of frames that the worker drops don't come back.
    pub fn restock(&mut self, frames: u32) {
        self.free.extend((0..frames).map(|_| BenchFrame::empty()));
    }

    /// Makes the next burst one segment each of the first of these flows; says of how many.
    pub fn next(&mut self, flows: Range<u32>, segments: Segments) -> u32 {
        let last = flows.end.min(flows.start.saturating_add(32));
        self.next = Next::Each(flows.start..last, segments);
        last - flows.start
    }

    /// Compares, from now on, every frame that comes back with what it should be.
    pub fn check(&mut self, check: bool) {
        self.checking = check.then(VecDeque::new);
    }

    /// What a turn makes the generator do, without the turn.
    pub fn idle_burst(&mut self) {
        let mut burst = Burst::new();
        self.rx_burst(&mut burst);
        for frame in &mut burst {
            // The worker reads every frame; so must the base line.
            std::hint::black_box(frame.bytes()[12]);
        }
        self.tx_burst(&mut burst);
    }

    #[inline]
    fn draw(&mut self) -> Drawn {
        // xorshift64*: the order must not be one that a prefetcher learns.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let flow = ((drawn >> 32) * u64::from(self.flows)) >> 32;
        Drawn {
            flow: u32::try_from(flow).expect("below a 32-bit number"),
            reverse: match self.case.direction {
                Direction::Forward => false,
                Direction::Reverse => true,
                Direction::Both => drawn & 1 << 16 != 0,
            },
        }
    }

    fn each(&mut self, burst: &mut Burst<BenchFrame>, flows: Range<u32>, segments: Segments) {
        let template = &self.templates[segments as usize];
        let count = flows.len();
        for (flow, mut frame) in flows.zip(self.free.drain(..count)) {
            template.write(&mut frame, flows::Ends::of_client(flow));
            burst.push(frame);
        }
    }

    #[inline]
    fn random(&mut self, burst: &mut Burst<BenchFrame>) {
        let mut drawn = [Drawn {
            flow: 0,
            reverse: false,
        }; BURST];
        for drawn in &mut drawn {
            *drawn = self.draw();
            if drawn.reverse {
                arch::prefetch_slot(&self.learned, drawn.flow as usize);
            }
        }
        for drawn in drawn.iter().take(burst.remaining_capacity()) {
            let Some(mut frame) = self.free.pop_front() else {
                break;
            };
            self.write(&mut frame, *drawn);
            burst.push(frame);
        }
        if let Some(under_way) = &mut self.checking {
            under_way.extend(&drawn[..burst.len()]);
        }
    }

    #[inline]
    fn write(&self, frame: &mut BenchFrame, Drawn { flow, reverse }: Drawn) {
        let [_, forward, backward] = &self.templates;
        if reverse {
            let learned = self.learned[flow as usize];
            backward.write(frame, flows::Ends::of_real(self.case.mode, flow, learned));
        } else {
            forward.write(frame, flows::Ends::of_client(flow));
        }
    }

    /// Remembers where these flows' first packets went.
    fn learn(&mut self, flows: Range<u32>, burst: &[BenchFrame]) {
        for (flow, frame) in flows.zip(burst) {
            if let Some(learned) = self.learned.get_mut(flow as usize) {
                *learned = read_learned(self.case.family, frame.bytes());
            }
        }
    }

    #[cold]
    fn compare(&mut self, burst: &[BenchFrame]) {
        let case = self.case;
        let Some(under_way) = &mut self.checking else {
            return;
        };
        for frame in burst {
            let Drawn { flow, reverse } = under_way.pop_front().expect("one for each");
            let expected = match reverse {
                true => expected_reverse(case, flow),
                false => expected_forward(case, flow, self.learned[flow as usize]),
            };
            let (is, want) = (normal(frame.bytes()), normal(&expected));
            assert_eq!(is, want, "{case}, flow {flow}");
        }
    }
}

/// What the rewritten first packet of a flow says.
pub fn read_learned(family: Family, frame: &[u8]) -> Learned {
    let (source, ports) = match family {
        Family::V4 => (29, 34),
        Family::V6 => (37, 54),
    };
    Learned {
        real: frame[5],
        local: frame[source],
        port: u16::from_be_bytes([frame[ports], frame[ports + 1]]),
    }
}

/// The frame with its checksums verified and, as one's complement has two zeros, taken out.
///
/// # Panics
/// If a header is cut or a checksum is wrong.
#[must_use]
pub fn normal(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut ethernet = ethernet::Frame::parse(&mut frame[..]).expect("a frame");
    let ethertype = ethernet.ethertype();
    normal_packet(ethertype == EtherType::IPV6, ethernet.payload_mut());
    frame
}

fn normal_packet(is_v6: bool, bytes: &mut [u8]) {
    let (src, dst, protocol, header) = if is_v6 {
        let ip = ipv6::Packet::parse(&bytes[..]).expect("IPv6");
        (ip.src().into(), ip.dst().into(), ip.next_header(), 40)
    } else {
        let ip = ipv4::Packet::parse(&bytes[..]).expect("IPv4");
        assert!(ip.verify_checksum(), "an intact header");
        (ip.src().into(), ip.dst().into(), ip.protocol(), 20)
    };
    if !is_v6 {
        bytes[10..12].fill(0);
    }
    let payload = &mut bytes[header..];
    match protocol {
        wire::Protocol::IPIP => normal_packet(false, payload),
        wire::Protocol::IPV6 => normal_packet(true, payload),
        protocol => {
            Segment::parse(protocol, &payload[..]).expect("a segment");
            let sum = checksum::transport(src, dst, protocol, payload);
            assert_eq!(sum, 0, "an intact segment");
            payload[16..18].fill(0);
        }
    }
}

impl Port for Generator {
    type Frame = BenchFrame;

    #[inline(never)]
    fn rx_burst(&mut self, burst: &mut Burst<BenchFrame>) -> usize {
        self.opening = None;
        match std::mem::replace(&mut self.next, Next::Random) {
            Next::Random => self.random(burst),
            Next::Each(flows, segments) => {
                self.each(burst, flows.clone(), segments);
                self.opening = (segments == Segments::Syn).then_some(flows);
            }
        }
        burst.len()
    }

    #[inline(never)]
    fn tx_burst(&mut self, burst: &mut Burst<BenchFrame>) -> usize {
        let sent = burst.len();
        self.sent += sent as u64;
        if let Some(flows) = self.opening.take() {
            self.learn(flows, burst);
        }
        if self.checking.is_some() {
            self.compare(burst);
        }
        self.free.extend(burst.drain(..));
        sent
    }

    fn alloc(&mut self) -> Option<BenchFrame> {
        self.free.pop_front()
    }
}

impl Generator {
    /// What is generated.
    pub fn case(&self) -> Case {
        self.case
    }

    /// How many flows there are.
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Another of the same flows, which has learned the same.
    #[must_use]
    pub fn alike(&self) -> Self {
        Self {
            learned: self.learned.clone(),
            ..Self::new(self.case, self.flows)
        }
    }

    /// What becomes of a flow's packets in IPv4, from each side that they come from: the ends
    /// before, those after, and the next hop.
    pub fn ways(&self, flow: u32) -> impl Iterator<Item = (Ends<u32>, Ends<u32>, Mac)> {
        let (mode, learned) = (self.case.mode, self.learned[flow as usize]);
        let client = flows::Ends::of_client(flow);
        let real = flows::Ends::of_real(mode, flow, learned);
        let ends = |of: flows::Ends| of.low();
        let forward = (ends(client), ends(real.reversed()), real_mac(learned.real));
        let back = (ends(real), ends(client.reversed()), GATEWAY);
        let back = mode.is_two_way().then_some(back);
        std::iter::once(forward).chain(back)
    }
}
