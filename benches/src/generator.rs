//! A port that makes what it receives and recycles what it sends.

use std::collections::VecDeque;
use std::ops::Range;

use dataplane::port::{BURST, Burst, Frame, Port};

use crate::case::Case;
use crate::frame::BenchFrame;
use crate::source::{Drawn, Segments, Source};

/// Distinct buffers under way: a few hot ones would flatter.
pub const BUFFERS: u32 = 4096;

/// What comes next.
#[derive(Clone, Debug)]
enum Next {
    /// Segments of flows drawn at random.
    Random,
    /// One segment of each of these, from their clients.
    Each(Range<u32>, Segments),
    /// The same of flows that are not neighbours.
    Of(Vec<u32>, Segments),
}

/// Flows that are being opened.
#[derive(Debug)]
enum Opening {
    Each(Range<u32>),
    Of(Vec<u32>),
}

/// The port.
#[derive(Debug)]
pub struct Generator {
    source: Source,
    free: VecDeque<BenchFrame>,
    next: Next,
    /// The flows whose first packets are under way.
    opening: Option<Opening>,
    /// What is under way, while each answer is checked.
    checking: Option<VecDeque<Drawn>>,
    sent: u64,
}

impl Generator {
    /// A port with packets of `flows` flows.
    pub fn new(case: Case, flows: u32) -> Self {
        Self::of(Source::new(case, flows))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            free: (0..BUFFERS).map(|_| BenchFrame::empty()).collect(),
            next: Next::Random,
            opening: None,
            checking: None,
            sent: 0,
        }
    }

    /// What it generates.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The same, to be changed.
    pub fn source_mut(&mut self) -> &mut Source {
        &mut self.source
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

    /// Makes the next burst one segment each of these flows, a burst's at most.
    pub fn next_of(&mut self, flows: &[u32], segments: Segments) {
        self.next = Next::Of(flows.iter().copied().take(BURST).collect(), segments);
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

    fn each(
        &mut self,
        burst: &mut Burst<BenchFrame>,
        flows: impl ExactSizeIterator<Item = u32>,
        segments: Segments,
    ) {
        let count = flows.len();
        for (flow, mut frame) in flows.zip(self.free.drain(..count)) {
            let (template, ends) = self.source.of_client(flow, segments);
            template.write(&mut frame, ends);
            burst.push(frame);
        }
    }

    #[inline]
    fn random(&mut self, burst: &mut Burst<BenchFrame>) {
        let mut drawn = [Drawn::default(); BURST];
        for drawn in &mut drawn {
            *drawn = self.source.draw();
            self.source.prefetch(*drawn);
        }
        for drawn in drawn.iter().take(burst.remaining_capacity()) {
            let Some(mut frame) = self.free.pop_front() else {
                break;
            };
            self.source.write(&mut frame, *drawn);
            burst.push(frame);
        }
        if let Some(under_way) = &mut self.checking {
            under_way.extend(&drawn[..burst.len()]);
        }
    }

    #[cold]
    fn compare(&mut self, burst: &[BenchFrame]) {
        let Some(under_way) = &mut self.checking else {
            return;
        };
        for frame in burst {
            let drawn = under_way.pop_front().expect("one for each");
            self.source.assert_right(drawn, frame.bytes());
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
                self.opening = (segments == Segments::Syn).then_some(Opening::Each(flows));
            }
            Next::Of(flows, segments) => {
                self.each(burst, flows.iter().copied(), segments);
                self.opening = (segments == Segments::Syn).then_some(Opening::Of(flows));
            }
        }
        burst.len()
    }

    #[inline(never)]
    fn tx_burst(&mut self, burst: &mut Burst<BenchFrame>) -> usize {
        let sent = burst.len();
        self.sent += sent as u64;
        if let Some(flows) = self.opening.take() {
            let frames = burst.iter().map(Frame::bytes);
            match flows {
                Opening::Each(flows) => self.source.learn(flows, frames),
                Opening::Of(flows) => self.source.learn(flows, frames),
            }
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
    /// Another of the same flows, which has learned the same.
    #[must_use]
    pub fn alike(&self) -> Self {
        Self::of(self.source.clone())
    }
}
