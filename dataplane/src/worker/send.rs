//! The way out: frames wait in a lane for each port that has queues, and go once a turn or when
//! a burst is full. What the queue refuses is dropped and counted.
//!
//! VLANs' ports stand behind those that have queues, so they find no lane by their number: their
//! frames get their tag and go by their parent's. Others pay nothing for that.

use super::Turn;
use crate::decide::Run;
use crate::observe::Event;
use crate::port::{Burst, Frame, Port, PortId};
use crate::services::PortView;
use crate::verdict::{Counters, Reason, Verdict};
use crate::vlan::{self, Tagging};

/// A port with what waits to be sent by it.
#[derive(Debug)]
pub(super) struct Lane<P: Port> {
    pub(super) port: P,
    out: Burst<P::Frame>,
    /// Octets in `out`.
    octets: u64,
    /// Of our making.
    made: Burst<P::Frame>,
}

impl<P: Port> Turn<'_, P> {
    /// Sends what the common way has rewritten: a burst, whole. A full one goes as it lies.
    #[inline(always)]
    pub(super) fn transmit_burst(&mut self, frames: &mut Burst<P::Frame>, run: Run) {
        match self.lanes.get_mut(usize::from(run.port.0)) {
            Some(lane) if lane.out.is_empty() && frames.is_full() => {
                lane.send(frames, run.octets, self.counters);
            }
            _ => self.transmit_run(frames.drain(..), run),
        }
    }

    /// The same of a part of one.
    #[inline(never)]
    pub(super) fn transmit_run(
        &mut self,
        frames: impl ExactSizeIterator<Item = P::Frame>,
        run: Run,
    ) {
        // VLANs' ports stand behind those that have queues: what goes by one costs nothing here.
        match self.lanes.get_mut(usize::from(run.port.0)) {
            Some(lane) => lane.push_all(frames, run.octets, self.counters),
            None => frames.for_each(|frame| self.transmit_tagged(frame, run.port)),
        }
    }

    #[inline]
    pub(super) fn transmit(&mut self, frame: P::Frame, port: PortId) {
        let Some(lane) = self.lanes.get_mut(usize::from(port.0)) else {
            return self.transmit_tagged(frame, port);
        };
        lane.push(frame, self.counters);
    }

    /// Sends by a VLAN's port.
    #[inline(never)]
    fn transmit_tagged(&mut self, mut frame: P::Frame, port: PortId) {
        let counters = self.counters;
        match self.dress(&mut frame, port) {
            Ok(lane) => lane.push(frame, counters),
            Err(reason) => {
                frame.observe(Event::Decided(Verdict::Drop(reason)));
                counters.drop[reason as usize].add(1);
            }
        }
    }

    /// Makes a frame what goes on the wire when `port` sends it, and says where it is sent.
    pub(super) fn dress(
        &mut self,
        frame: &mut P::Frame,
        port: PortId,
    ) -> Result<&mut Lane<P>, Reason> {
        let (queues, vlan) = self.way_out(port).ok_or(Reason::NoPort)?;
        let lane = self.lanes.get_mut(usize::from(queues.0));
        let lane = lane.ok_or(Reason::NoPort)?;
        if let Some(id) = vlan {
            let octets = frame.bytes().len() as u64;
            vlan::put_on(frame, id)?;
            if let Some(block) = self.blocks.ports.get(port.0.into()) {
                block.tx.add(1);
                block.tx_bytes.add(octets);
            }
        }
        Ok(lane)
    }

    /// The port whose queues `port` uses, and the VLAN whose it is.
    pub(super) fn way_out(&self, port: PortId) -> Option<(PortId, Option<u16>)> {
        match self.view(port)?.tagging {
            Tagging::Vlan { parent, id } => Some((parent, Some(id))),
            Tagging::Plain | Tagging::Parent(_) => Some((port, None)),
        }
    }

    pub(super) fn view(&self, port: PortId) -> Option<&PortView> {
        self.snapshot.ports.get(usize::from(port.0))
    }

    pub(super) fn flush(&mut self) {
        let flushed = self.peers.flush();
        self.count_handed(flushed);
        for lane in &mut *self.lanes {
            lane.flush(self.counters);
            lane.flush_made(self.counters);
        }
    }
}

impl<P: Port> Lane<P> {
    /// Nothing waits.
    pub(super) fn new(port: P) -> Self {
        Self {
            port,
            out: Burst::new(),
            octets: 0,
            made: Burst::new(),
        }
    }

    /// Has a frame wait to be sent.
    #[inline(always)]
    fn push(&mut self, frame: P::Frame, counters: &Counters) {
        let octets = frame.bytes().len() as u64;
        if let Err(full) = self.out.try_push(frame) {
            self.flush(counters);
            self.out.push(full.element());
        }
        self.octets += octets;
    }

    /// The same for several, which have so many octets.
    fn push_all(
        &mut self,
        frames: impl ExactSizeIterator<Item = P::Frame>,
        octets: u64,
        counters: &Counters,
    ) {
        if self.out.remaining_capacity() < frames.len() {
            self.flush(counters);
        }
        self.out.extend(frames);
        self.octets += octets;
    }

    /// The same for what we made ourselves.
    pub(super) fn push_made(&mut self, frame: P::Frame, counters: &Counters) {
        if self.made.is_full() {
            self.flush_made(counters);
        }
        self.made.push(frame);
    }

    /// Sends what waits.
    fn flush(&mut self, counters: &Counters) {
        if !self.out.is_empty() {
            let octets = std::mem::take(&mut self.octets);
            send(&mut self.port, &mut self.out, octets, counters);
        }
    }

    /// Sends a burst of so many octets, which nothing waits to go before.
    fn send(&mut self, frames: &mut Burst<P::Frame>, octets: u64, counters: &Counters) {
        send(&mut self.port, frames, octets, counters);
    }

    /// The same for what we made ourselves.
    pub(super) fn flush_made(&mut self, counters: &Counters) {
        if self.made.is_empty() {
            return;
        }
        let octets = octets(&self.made);
        let sent = self.port.tx_burst(&mut self.made);
        counters.made_sent.add(sent as u64);
        counters
            .transmit_bytes
            .add(octets - self::octets(&self.made));
        counters.made_dropped.add(self.made.len() as u64);
        self.made.clear();
    }
}

/// Sends frames of so many octets; what the queue refuses is dropped and counted.
#[inline]
fn send<P: Port>(port: &mut P, frames: &mut Burst<P::Frame>, octets: u64, counters: &Counters) {
    let sent = port.tx_burst(frames);
    counters.transmit.add(sent as u64);
    counters.transmit_bytes.add(octets - self::octets(frames));
    if !frames.is_empty() {
        counters.drop[Reason::TxFull as usize].add(frames.len() as u64);
        frames.clear();
    }
}

fn octets<F: Frame>(burst: &Burst<F>) -> u64 {
    burst.iter().map(|frame| frame.bytes().len() as u64).sum()
}
