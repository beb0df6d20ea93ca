//! The generator: whatever comes back becomes the packet of another flow, and goes again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use benches::clock::on_cpu;
use benches::source::Drawn;
use benches::{Segments, Source};
use dataplane::port::{BURST, Burst, Frame, Port};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use dataplane::worker::Worker;
use dpdk::{Mbuf, Pool, Queue, pool};

use crate::BUFFERS;

/// Octets in front of a frame.
pub(crate) const HEADROOM: usize = pool::HEADROOM as usize;

/// One end of a ring, and the buffers that are not under way.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) queue: Queue,
    pub(crate) source: Source,
    pub(crate) free: VecDeque<Mbuf>,
    /// What the ring had no room for.
    pub(crate) rest: Burst<Mbuf>,
}

impl Peer {
    /// A generator of `source`, with its buffers.
    pub(crate) fn new(queue: Queue, source: Source, pool: &Pool) -> Result<Self, String> {
        let free: VecDeque<_> = std::iter::repeat_with(|| pool.take())
            .take(BUFFERS)
            .map_while(|frame| frame)
            .collect();
        if free.len() < BUFFERS {
            return Err("the pool is too small".to_owned());
        }
        Ok(Self {
            queue,
            source,
            free,
            rest: Burst::new(),
        })
    }

    /// One look at the ring: a burst back, rewritten, and out again; says how many.
    #[inline]
    pub(crate) fn bounce(&mut self) -> usize {
        let mut drawn = [Drawn::default(); BURST];
        let kept = self.rest.len();
        let got = self.queue.rx_burst(&mut self.rest);
        for (drawn, frame) in drawn.iter_mut().zip(&mut self.rest[kept..]) {
            *drawn = self.source.draw();
            self.source.prefetch(*drawn);
            // What is fetched is the line that is written, not that of a tunnel's outer header: to
            // take that away from the worker each time is nothing that a device does.
            let grown = HEADROOM.saturating_sub(frame.headroom());
            if grown > 0 {
                frame.trim_front(grown);
            }
            frame.prefetch();
        }
        for (frame, drawn) in self.rest[kept..].iter_mut().zip(drawn) {
            self.source.write_any(frame, HEADROOM, drawn);
        }
        if !self.rest.is_empty() {
            self.queue.tx_burst(&mut self.rest);
        }
        got
    }

    /// Sends packets at random into all the buffers that it has.
    pub(crate) fn fill(&mut self) {
        while let Some(mut frame) = self.free.pop_front() {
            let drawn = self.source.draw();
            self.source.write_any(&mut frame, HEADROOM, drawn);
            self.rest.push(frame);
            if self.rest.is_full() || self.free.is_empty() {
                self.queue.tx_burst(&mut self.rest);
                assert!(self.rest.is_empty(), "a ring has room for all");
            }
        }
    }

    /// How many packets a second it can write, in millions, with no ring in its way.
    pub(crate) fn written(&mut self) -> f64 {
        let mut best = 0.0_f64;
        let few = u32::try_from(self.free.len()).expect("a few thousand");
        for _ in 0..100 {
            let start = on_cpu();
            for frame in &mut self.free {
                let drawn = self.source.draw();
                self.source.write_any(frame, HEADROOM, drawn);
            }
            let spent = (on_cpu() - start).as_secs_f64();
            best = best.max(f64::from(few) / spent / 1e6);
        }
        best
    }

    /// Takes back all that is under way; what the worker has must have been sent.
    pub(crate) fn gather(&mut self) {
        let mut burst = Burst::new();
        while self.queue.rx_burst(&mut burst) > 0 {
            self.free.extend(burst.drain(..));
        }
    }

    /// Bounces until told to stop.
    pub(crate) fn run(peers: &mut [&mut Self], stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            for peer in &mut *peers {
                peer.bounce();
            }
        }
    }
}

/// A worker and its generator, so far on one thread.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) worker: Worker<Queue>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) peer: Peer,
}

impl Both {
    /// Opens every flow.
    pub(crate) fn open(&mut self, flows: u32) {
        self.each(0..flows, Segments::Syn);
        self.each(0..flows, Segments::Ack);
        let made = self.counters.connections_made.get();
        assert_eq!(made, u64::from(flows), "every flow is there");
    }

    fn each(&mut self, flows: Range<u32>, segments: Segments) {
        let mut first = flows.start;
        while first < flows.end {
            let last = flows.end.min(first + 32);
            let mut burst = Burst::new();
            for flow in first..last {
                let mut frame = self.peer.free.pop_front().expect("thousands are free");
                let (template, ends) = self.peer.source.of_client(flow, segments);
                template.write_any(&mut frame, HEADROOM, ends);
                burst.push(frame);
            }
            self.exchange(&mut burst);
            if segments == Segments::Syn {
                let frames = burst.iter().map(Frame::bytes);
                self.peer.source.learn(first..last, frames);
            }
            self.peer.free.extend(burst.drain(..));
            first = last;
        }
    }

    /// What becomes of these.
    fn exchange(&mut self, burst: &mut Burst<Mbuf>) {
        let sent = self.peer.queue.tx_burst(burst);
        assert!(burst.is_empty(), "a ring has room for a burst");
        dpdk::worker::turn(&mut self.worker, Millis(0));
        let back = self.peer.queue.rx_burst(burst);
        assert_eq!(back, sent, "what goes in comes out");
    }

    /// Compares whole frames with what they should be.
    pub(crate) fn check(&mut self, bursts: u32) {
        for _ in 0..bursts {
            let (mut burst, mut drawn) = (Burst::new(), Burst::<Drawn>::new());
            while !burst.is_full() {
                let one = self.peer.source.draw();
                let mut frame = self.peer.free.pop_front().expect("thousands are free");
                self.peer.source.write_any(&mut frame, HEADROOM, one);
                burst.push(frame);
                drawn.push(one);
            }
            self.exchange(&mut burst);
            for (frame, drawn) in burst.drain(..).zip(drawn) {
                self.peer.source.assert_right(drawn, frame.bytes());
                self.peer.free.push_back(frame);
            }
        }
        self.assert_lossless();
    }

    /// # Panics
    /// If a packet was lost.
    pub(crate) fn assert_lossless(&self) {
        let (rx, tx) = (self.counters.rx.get(), self.counters.transmit.get());
        assert_eq!(rx, tx, "nothing was lost");
    }
}
