//! Frames of our making, each counted as `made` and then as sent or dropped: ICMP errors, resets,
//! the header that tells who a client is, and what else goes beside a packet.

use wire::ethernet;
use wire::proxy::Header;

use super::Turn;
use crate::decide::at;
use crate::fwd::{Link, icmp, told};
use crate::port::{Frame, Port, PortId};
use crate::reply::{self, Kind, Reply};
use crate::services::{HopId, Towards};
use crate::verdict::Verdict;

/// ICMP errors a second that one worker makes (RFC 1812 §4.3.2.8), and resets.
pub(super) const REPLIES_PER_SECOND: u32 = 1000;

impl<P: Port> Turn<'_, P> {
    /// Makes an ICMP error about `frame` and sends it back where that came from.
    pub(super) fn reply(&mut self, frame: &P::Frame, port: PortId, reply: &Reply) {
        self.counters.made.add(1);
        match self.make(frame, port, reply) {
            Some(made) => self.send_made(made, port),
            None => self.counters.made_dropped.add(1),
        }
    }

    fn make(&mut self, frame: &P::Frame, port: PortId, reply: &Reply) -> Option<P::Frame> {
        if !self.replies.take(REPLIES_PER_SECOND, self.now) {
            return None;
        }
        let mtu = self.view(port)?.mtu;
        let mut made = self.alloc(port)?;
        reply.write(frame.bytes(), mtu, &mut made).then_some(made)
    }

    /// Answers a segment with a RST, back where it came from.
    #[cold]
    pub(super) fn reset(&mut self, frame: &P::Frame, port: PortId) {
        self.counters.made.add(1);
        let may = self.resets.take(REPLIES_PER_SECOND, self.now);
        let made = may.then(|| self.alloc(port)).flatten();
        let made = made.and_then(|mut made| reply::reset(frame.bytes(), &mut made).then_some(made));
        match made {
            Some(made) => self.send_made(made, port),
            None => self.counters.made_dropped.add(1),
        }
    }

    /// Tells the client of the packet inside what the ICMP error in `frame` says of a tunnel.
    #[cold]
    pub(super) fn retell(&mut self, frame: &P::Frame, kind: Kind) {
        self.counters.made.add(1);
        match self.make_retold(frame.bytes(), kind) {
            Some((made, port)) => self.send_made(made, port),
            None => self.counters.made_dropped.add(1),
        }
    }

    /// From the VIP, by the way to the client; `None` too where that waits for a neighbour.
    fn make_retold(&mut self, frame: &[u8], kind: Kind) -> Option<(P::Frame, PortId)> {
        let about = icmp::about_any_tunnel(frame)?;
        let (client, source) = icmp::quoted_ends(about.inner)?;
        if !self.replies.take(REPLIES_PER_SECOND, self.now) {
            return None;
        }
        let hop = match self.snapshot.routes.find(client, 0)? {
            Towards::Hop(HopId(hop)) => *self.snapshot.hops.get(hop)?,
            Towards::At(port, mac) => at(self.snapshot, port, mac)?,
            Towards::Unknown(_) => return None,
        };
        let link = Link {
            ours: hop.source(),
            next: hop.destination()?,
        };
        let mtu = self.view(hop.port)?.mtu;
        let mut made = self.alloc(hop.port)?;
        let reply = Reply { kind, source };
        let written = reply.write_to(about.inner, link, mtu, &mut made);
        written.then_some((made, hop.port))
    }

    /// Sends a packet of `header` alone, at once: it goes before the one in `frame`. With one that
    /// waits for its neighbour it can't go.
    #[cold]
    #[inline(never)]
    pub(super) fn send_ahead(&mut self, frame: &P::Frame, header: &Header, verdict: Verdict) {
        self.counters.made.add(1);
        let port = match verdict {
            Verdict::Transmit(port) => port,
            _ => return self.counters.made_dropped.add(1),
        };
        let mtu = self.view(port).map_or(0, |view| usize::from(view.mtu));
        let made = self.alloc(port).and_then(|mut made| {
            let written = told::ahead(frame, header, &mut made);
            (written && made.bytes().len() <= ethernet::LEN + mtu).then_some(made)
        });
        match made {
            Some(made) => self.send_made(made, port),
            None => return self.counters.made_dropped.add(1),
        }
        let queues = self.way_out(port).map(|(queues, _)| usize::from(queues.0));
        if let Some(lane) = queues.and_then(|queues| self.lanes.get_mut(queues)) {
            lane.flush_made(self.counters);
        }
    }

    /// Sends what we made ourselves.
    pub(super) fn send_made(&mut self, mut made: P::Frame, port: PortId) {
        let counters = self.counters;
        match self.dress(&mut made, port) {
            Ok(lane) => lane.push_made(made, counters),
            Err(_) => counters.made_dropped.add(1),
        }
    }

    /// An empty frame, to be sent by `port`.
    pub(super) fn alloc(&mut self, port: PortId) -> Option<P::Frame> {
        let (queues, _) = self.way_out(port)?;
        let lane = self.lanes.get_mut(usize::from(queues.0))?;
        lane.port.alloc()
    }
}
