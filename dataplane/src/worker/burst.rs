//! A burst of frames, from where they come in to where each is decided.
//!
//! ```text
//!   receive, take_over ──> process: parse, look up, hits ──> all common: the burst goes as it is
//!                                                       └─> decide_each: runs of common frames,
//!                                                           the others one by one
//! ```

use std::slice::from_ref;

use arrayvec::ArrayVec;

use super::Turn;
use crate::decide::{Context, Origin, Run, decide};
use crate::observe::Event;
use crate::parse::{Gate, Parsed, Parses};
use crate::port::{BURST, Burst, Frame, Port, PortId};
use crate::services::Snapshot;
use crate::state::State;
use crate::vlan::Vlans;

/// Frames of a burst that are parsed together, and looked up together.
const PART: usize = 16;

/// A burst: frames, where they come from, what they are. Empty between bursts.
#[derive(Debug)]
pub(super) struct Batch<F> {
    frames: Burst<F>,
    /// Only where they are from here and there.
    origins: ArrayVec<Origin, BURST>,
    parses: Parses,
}

impl<F> Batch<F> {
    /// No frames.
    pub(super) fn new() -> Self {
        Self {
            frames: Burst::new(),
            origins: ArrayVec::new(),
            parses: Parses::default(),
        }
    }
}

impl<P: Port> Turn<'_, P> {
    /// Takes one burst from a port.
    pub(super) fn receive(
        &mut self,
        port: usize,
        batch: &mut Batch<P::Frame>,
        context: &mut Context<'_>,
    ) -> bool {
        let taken = self.lanes[port].port.rx_burst(&mut batch.frames);
        if taken == 0 {
            return false;
        }
        let port = PortId(u16::try_from(port).expect("ports are numbered in 16 bits"));
        let origin = Origin::of(port);
        batch.frames.iter().for_each(Frame::prefetch);
        self.count_received(&batch.frames);
        let snapshot = self.snapshot;
        let view = snapshot.ports.get(usize::from(port.0));
        if let Some(vlans) = view.and_then(|view| view.tagging.vlans()) {
            self.receive_tagged(vlans, batch, context);
            return true;
        }
        let gate = view.map(Gate::of);
        let parse = |parses: &mut Parses, frames: &[P::Frame], _, state: &State| {
            parses.push_all(frames, gate, None, state);
        };
        let Batch { frames, parses, .. } = batch;
        self.process(frames, parses, parse, |_| origin, context);
        true
    }

    fn count_received(&self, burst: &Burst<P::Frame>) {
        let octets: usize = burst.iter().map(|frame| frame.bytes().len()).sum();
        self.counters.rx.add(burst.len() as u64);
        self.counters.rx_bytes.add(octets as u64);
    }

    /// Takes a burst through the passes: parse, look up, decide. The first two only bring
    /// memory closer; each frame is decided in its order against the table as it then is, so
    /// two packets of one new flow in a burst make one connection.
    ///
    /// ```text
    ///   parse    0  1
    ///   look up     0  1       parts of a burst, from left to right
    ///   decide         0..
    /// ```
    ///
    /// While one part is parsed the buckets of the one before are on their way, and while that is
    /// decided the entries of the next.
    fn process(
        &mut self,
        frames: &mut Burst<P::Frame>,
        parses: &mut Parses,
        parse: impl Fn(&mut Parses, &[P::Frame], usize, &State),
        origin: impl Fn(usize) -> Origin,
        context: &mut Context<'_>,
    ) {
        parses.clear();
        let mut parsed = 0..0;
        for part in frames.chunks(PART) {
            let next = parsed.end..parsed.end + part.len();
            parse(parses, part, next.start, context.state);
            context.state.prefetch_entries(parses, parsed);
            parsed = next;
        }
        context.state.prefetch_entries(parses, parsed);
        let run = context.hits(frames, parses, 0, false);
        if run.frames == frames.len() {
            return self.transmit_burst(frames, run);
        }
        self.decide_each(frames.take().into_iter(), run, parses, origin, context);
    }

    /// Decides about frames among which not all are common, or that leave by several ports; the
    /// first of them are in `run` already.
    #[inline(never)]
    fn decide_each(
        &mut self,
        mut frames: arrayvec::IntoIter<P::Frame, BURST>,
        mut run: Run,
        parses: &Parses,
        origin: impl Fn(usize) -> Origin,
        context: &mut Context<'_>,
    ) {
        let mut at = 0;
        context.begin_burst();
        loop {
            at += run.frames;
            if run.frames > 0 {
                self.transmit_run(frames.by_ref().take(run.frames), run);
            }
            if !run.forked {
                loop {
                    let Some(frame) = frames.next() else { return };
                    self.decide_or_gather(frame, parses, at, origin(at), context);
                    at += 1;
                    // None is common of which no table knew when the burst came.
                    match frames.as_mut_slice().first_mut() {
                        Some(next) if parses.is_unknown(at) => next.observe(Event::Begins),
                        _ => break,
                    }
                }
            }
            run = context.hits(frames.as_mut_slice(), parses, at, run.forked);
        }
    }

    /// Does with a frame what is less common.
    #[inline(never)]
    fn decide_or_gather(
        &mut self,
        frame: P::Frame,
        parses: &Parses,
        at: usize,
        origin: Origin,
        context: &mut Context<'_>,
    ) {
        match parses.frames[at] {
            Parsed::Fragment(place) => {
                let part = parses.fragments[usize::from(place)];
                self.gather(frame, &part, origin.port, context);
            }
            _ => self.decide_one(frame, parses, at, origin, context),
        }
    }

    /// Decides about a frame and does it.
    #[inline(always)]
    pub(super) fn decide_one(
        &mut self,
        mut frame: P::Frame,
        parses: &Parses,
        at: usize,
        origin: Origin,
        context: &mut Context<'_>,
    ) {
        let verdict = decide(&mut frame, parses, at, origin, context);
        match context.aside.take() {
            None => self.finish(frame, origin, verdict),
            Some(aside) => {
                let ahead = &context.state.ahead;
                self.finish_with(aside, ahead, frame, origin, verdict);
            }
        }
    }

    /// Takes a burst through that came by a port with VLANs over it: to each what is its own.
    #[inline(never)]
    fn receive_tagged(
        &mut self,
        vlans: &Vlans,
        batch: &mut Batch<P::Frame>,
        context: &mut Context<'_>,
    ) {
        for frame in &mut batch.frames {
            let port = vlans.sort(frame);
            if port != vlans.parent()
                && let Some(block) = self.blocks.ports.get(port.0.into())
            {
                block.rx.add(1);
                block.rx_bytes.add(frame.bytes().len() as u64);
            }
            batch.origins.push(Origin::of(port));
        }
        self.process_each(batch, context);
    }

    /// Takes over what another worker found to be ours, or at least not its own.
    pub(super) fn take_over(
        &mut self,
        source: usize,
        batch: &mut Batch<P::Frame>,
        context: &mut Context<'_>,
    ) -> bool {
        let Batch {
            frames, origins, ..
        } = batch;
        let generation = self.generation;
        self.peers.take(source, |handed| {
            let step = match handed.generation == generation {
                true => handed.step,
                false => handed.step.again(),
            };
            frames.push(handed.frame);
            origins.push(Origin {
                port: handed.port,
                step,
                gathered: handed.gathered,
            });
        });
        if frames.is_empty() {
            return false;
        }
        self.counters.handed_in.add(frames.len() as u64);
        self.process_each(batch, context);
        true
    }

    /// Takes a burst through whose frames are from here and there, as `origins` has it.
    fn process_each(&mut self, batch: &mut Batch<P::Frame>, context: &mut Context<'_>) {
        let Batch {
            frames,
            origins,
            parses,
        } = batch;
        let snapshot = self.snapshot;
        let parse = |parses: &mut Parses, frames: &[P::Frame], first: usize, state: &State| {
            for (frame, &Origin { port, gathered, .. }) in frames.iter().zip(&origins[first..]) {
                parses.push_all(from_ref(frame), gate(snapshot, port), gathered, state);
            }
        };
        self.process(frames, parses, parse, |at| origins[at], context);
        origins.clear();
    }
}

/// Where frames of a port come in; nothing where no snapshot names it yet.
#[inline]
pub(super) fn gate(snapshot: &Snapshot, port: PortId) -> Option<Gate<'_>> {
    snapshot.ports.get(usize::from(port.0)).map(Gate::of)
}
