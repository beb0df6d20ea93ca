//! What is generated: flows drawn at random, their packets, and what should become of them.

use dataplane::port::Frame;
use wire::plain::Ends as PlainEnds;
use wire::segment::Segment;
use wire::tcp::Flags;
use wire::{EtherType, Mac, checksum, ethernet, ipv4, ipv6};

use crate::case::{Case, Direction, Family};
use crate::flows::{
    Ends, GATEWAY, Learned, Template, expected_forward, expected_reverse, real_mac,
};
use crate::frame::BenchFrame;

/// What a flow's client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// The first one.
    Syn,
    /// The ones after it.
    Ack,
}

/// A flow and whose packet it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drawn {
    /// The flow.
    pub flow: u32,
    /// The real server's.
    pub reverse: bool,
}

/// The flows of a case.
#[derive(Clone, Debug)]
pub struct Source {
    case: Case,
    flows: u32,
    /// Those of a SYN, of the client's segments and of the real server's.
    templates: [Template; 3],
    learned: Vec<Learned>,
    /// The flows that are drawn from, where they are not all.
    own: Option<Box<[u32]>>,
    random: u64,
}

impl Source {
    /// So many flows, none of them open.
    pub fn new(case: Case, flows: u32) -> Self {
        let template = |ends, flags| Template::new(case.family, ends, flags);
        let client = Ends::of_client(0);
        let real = Ends::of_real(case.mode, 0, Learned::default());
        Self {
            case,
            flows,
            templates: [
                template(client, Flags::SYN),
                template(client, Flags::ACK),
                template(real, Flags::ACK),
            ],
            learned: vec![Learned::default(); flows as usize],
            own: None,
            random: 1,
        }
    }

    /// What is generated.
    pub fn case(&self) -> Case {
        self.case
    }

    /// How many flows there are.
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Draws from these alone, from now on.
    ///
    /// # Panics
    /// If there are none.
    pub fn draw_from(&mut self, own: Vec<u32>) {
        assert!(!own.is_empty(), "some flows");
        self.own = Some(own.into());
    }

    /// A packet at random.
    #[inline]
    pub fn draw(&mut self) -> Drawn {
        // xorshift64*: the order must not be one that a prefetcher learns.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let below = |most: u64| ((drawn >> 32) * most) >> 32;
        let flow = match &self.own {
            None => u32::try_from(below(self.flows.into())).expect("below a 32-bit number"),
            Some(own) => {
                let place = below(own.len() as u64);
                own[usize::try_from(place).expect("an index")]
            }
        };
        Drawn {
            flow,
            reverse: match self.case.direction {
                Direction::Forward => false,
                Direction::Reverse => true,
                Direction::Both => drawn & 1 << 16 != 0,
            },
        }
    }

    /// Fetches what [`Source::segment`] needs of it.
    #[inline]
    pub fn prefetch(&self, drawn: Drawn) {
        if drawn.reverse {
            arch::prefetch_slot(&self.learned, drawn.flow as usize);
        }
    }

    /// The segment that was drawn.
    #[inline]
    pub fn segment(&self, Drawn { flow, reverse }: Drawn) -> (&Template, Ends) {
        let [_, forward, backward] = &self.templates;
        if reverse {
            let learned = self.learned[flow as usize];
            (backward, Ends::of_real(self.case.mode, flow, learned))
        } else {
            (forward, Ends::of_client(flow))
        }
    }

    /// A segment of the client's of one flow.
    #[inline]
    pub fn of_client(&self, flow: u32, segments: Segments) -> (&Template, Ends) {
        (&self.templates[segments as usize], Ends::of_client(flow))
    }

    /// Writes what was drawn into a frame of ours.
    #[inline]
    pub fn write(&self, frame: &mut BenchFrame, drawn: Drawn) {
        let (template, ends) = self.segment(drawn);
        template.write(frame, ends);
    }

    /// Writes what was drawn into any frame, whatever it was before.
    #[inline]
    pub fn write_any(&self, frame: &mut impl Frame, headroom: usize, drawn: Drawn) {
        let (template, ends) = self.segment(drawn);
        template.write_any(frame, headroom, ends);
    }

    /// Remembers where these flows' first packets went.
    pub fn learn<'a>(
        &mut self,
        flows: impl IntoIterator<Item = u32>,
        frames: impl IntoIterator<Item = &'a [u8]>,
    ) {
        for (flow, frame) in flows.into_iter().zip(frames) {
            if let Some(learned) = self.learned.get_mut(flow as usize) {
                *learned = read_learned(self.case.family, frame);
            }
        }
    }

    /// Remembers where a flow's first packet will go, if that is known before.
    ///
    /// # Panics
    /// If there is no such flow.
    pub fn know(&mut self, flow: u32, learned: Learned) {
        self.learned[flow as usize] = learned;
    }

    /// Whether `frame` is what should have become of what was drawn.
    ///
    /// # Panics
    /// If it isn't.
    #[cold]
    pub fn assert_right(&self, Drawn { flow, reverse }: Drawn, frame: &[u8]) {
        let case = self.case;
        let expected = match reverse {
            true => expected_reverse(case, flow),
            false => expected_forward(case, flow, self.learned[flow as usize]),
        };
        let (is, want) = (normal(frame), normal(&expected));
        assert_eq!(is, want, "{case}, flow {flow}");
    }

    /// What becomes of a flow's packets in IPv4, from each side that they come from: the ends
    /// before, those after, and the next hop.
    pub fn ways(
        &self,
        flow: u32,
    ) -> impl Iterator<Item = (PlainEnds<u32>, PlainEnds<u32>, Mac)> + use<> {
        let (mode, learned) = (self.case.mode, self.learned[flow as usize]);
        let client = Ends::of_client(flow);
        let real = Ends::of_real(mode, flow, learned);
        let ends = |of: Ends| of.low();
        let forward = (ends(client), ends(real.reversed()), real_mac(learned.real));
        let back = (ends(real), ends(client.reversed()), GATEWAY);
        let back = mode.is_two_way().then_some(back);
        std::iter::once(forward).chain(back)
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
