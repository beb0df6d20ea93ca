//! The common packet: plain, of an established connection that goes on as it was.
//!
//! ```text
//!   parsed, its entry guessed ──> the guess is right, and so on ──> rewritten, one more of the run
//!                                     │ no: the run ends before it
//!                                     ▼
//!                                 the long way (decide.rs), then another run
//! ```
//!
//! [`Context::hit`] does for it what [`decide`](super::decide) would, byte for byte and count for
//! count, at less than half of the cost: nothing here opens, ends, refuses, answers, cuts or
//! waits. Whatever is not so common gets `None`, with nothing changed, and is decided at length;
//! only a tunnel's packet that finds no room in its buffer leaves an outer identification unused
//! (to give it back would cost every packet 3 instructions). A test runs the same packets both
//! ways.
//!
//! A [`Run`] stays where it is in its burst and is handed to its port as it stands: with frames
//! decided and handed on one by one a packet cost 30 to 160 instructions more. Which helper is
//! inlined where was measured, too: another shape of the same code can cost 10 (`scripts/bench
//! --gate`).

use wire::ethernet::Macs;
use wire::{Protocol, tcp as segment};

use super::{Context, flow_of};
use crate::conn::tcp::State as Tcp;
use crate::conn::timeout::Timeouts;
use crate::conn::{Entry, Flags, Found, Guess, Side, Slot};
use crate::fwd::{Envelope, Forwarder, Link, Outer};
use crate::observe::Event;
use crate::parse::{Packet, Parsed, Parses};
use crate::port::{Frame, PortId};
use crate::services::{Blocks, HopId, Real, Snapshot, Standing, Towards, Traffic};
use crate::state::Stored;
use crate::time::Millis;
use crate::verdict::Verdict;

/// TCP's control bits that say something of the connection's state.
const TELLING: u8 =
    segment::Flags::FIN.0 | segment::Flags::SYN.0 | segment::Flags::RST.0 | segment::Flags::ACK.0;

/// Frames, one behind the other, that leave by one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which port; of no frames it says nothing.
    pub port: PortId,
    /// The port's MTU, in octets.
    mtu: u16,
    /// Whether the next frame may be a common one too, but would leave by another port.
    pub forked: bool,
    /// How many.
    pub frames: usize,
    /// Their octets, as they leave.
    pub octets: u64,
}

/// A port that there is not: nobody has so many.
const NOWHERE: PortId = PortId(u16::MAX);

impl Run {
    /// No frames.
    const NONE: Self = Self {
        port: NOWHERE,
        mtu: 0,
        forked: false,
        frames: 0,
        octets: 0,
    };

    /// Lets the next frame know that it begins, unless it is the first and knows.
    #[inline(always)]
    fn begin<F: Frame>(&self, frame: &mut F, begun: bool) {
        if !begun || self.frames > 0 {
            frame.observe(Event::Begins);
        }
    }

    /// One frame more.
    #[inline(always)]
    fn add(&mut self, octets: usize) {
        self.frames += 1;
        self.octets += octets as u64;
    }

    /// The MTU of `port`, if a frame that leaves by that belongs to the run.
    #[inline(always)]
    fn mtu_by(&mut self, port: PortId, snapshot: &Snapshot) -> Option<u16> {
        if port != self.port && !self.turns_to(port, snapshot) {
            return None;
        }
        Some(self.mtu)
    }

    /// Begins with `port`.
    #[cold]
    #[inline(never)]
    fn turns_to(&mut self, port: PortId, snapshot: &Snapshot) -> bool {
        self.forked = self.frames > 0;
        match snapshot.ports.get(usize::from(port.0)) {
            Some(view) if !self.forked => {
                (self.port, self.mtu) = (port, view.mtu);
                true
            }
            _ => false,
        }
    }
}

impl Context<'_> {
    /// Takes common packets through their connections, from the frame that was parsed as number
    /// `from` on, for as long as one behind the other leaves by the same port. The first that does
    /// not is as it was, but has heard that it begins: who goes on with it by this says so, by
    /// `begun`. (No frame may hear so before its turn comes: observers take what happens for the
    /// doing of the one that began last.)
    #[inline(never)]
    pub fn hits<F: Frame>(
        &mut self,
        frames: &mut [F],
        parses: &Parses,
        from: usize,
        begun: bool,
    ) -> Run {
        let mut run = Run::NONE;
        let parsed = parses.frames.get(from..).unwrap_or_default();
        while self.hits_v4(frames, parsed, begun, &mut run)
            && self.hits_v6(frames, (parsed, &parses.v6), begun, &mut run)
        {}
        run
    }

    /// Those of IPv4 that come next; whether one of IPv6 is behind them.
    #[inline(always)]
    fn hits_v4<F: Frame>(
        &mut self,
        frames: &mut [F],
        parsed: &[Parsed],
        begun: bool,
        run: &mut Run,
    ) -> bool {
        for (frame, parsed) in from(run.frames, frames, parsed) {
            match parsed {
                Parsed::V4(packet) => {
                    run.begin(frame, begun);
                    if self.hit_in_the_end(frame, packet, run).is_none() {
                        return false;
                    }
                }
                Parsed::V6(_) => return true,
                _ => {
                    run.begin(frame, begun);
                    return false;
                }
            }
        }
        false
    }

    /// Those of IPv6 that come next; whether another is behind them. Kept apart, so that IPv4's
    /// packets have the processor's registers.
    #[inline(never)]
    fn hits_v6<F: Frame>(
        &mut self,
        frames: &mut [F],
        (parsed, packets): (&[Parsed], &[Packet<u128>]),
        begun: bool,
        run: &mut Run,
    ) -> bool {
        for (frame, parsed) in from(run.frames, frames, parsed) {
            let Parsed::V6(place) = parsed else {
                return true;
            };
            let packet = &packets[usize::from(*place)];
            run.begin(frame, begun);
            if self.hit_in_the_end(frame, packet, run).is_none() {
                return false;
            }
        }
        false
    }

    /// Takes a common packet through the connection that is guessed, or through its own if that is
    /// another.
    #[inline(always)]
    fn hit_in_the_end<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        run: &mut Run,
    ) -> Option<()> {
        let hit = self.hit(frame, packet, packet.guess, run);
        hit.or_else(|| self.hit_after_all(frame, packet, run))?;
        frame.observe(Event::Decided(Verdict::Transmit(run.port)));
        Some(())
    }

    /// Takes a common packet through the connection that is guessed and adds its frame to the run.
    #[inline(always)]
    fn hit<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        guess: Guess,
        run: &mut Run,
    ) -> Option<()> {
        let last = packet.key.destination.last();
        if !packet.plain || self.snapshot.addresses.may_be_not_held(last) {
            return None;
        }
        match guess.place() {
            (slot, Side::Client) => self.hit_by_client(frame, packet, slot, run),
            (slot, Side::Real) => self.hit_by_real(frame, packet, slot, run),
        }
    }

    /// From a client to its real server.
    #[inline(always)]
    fn hit_by_client<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        run: &mut Run,
    ) -> Option<()> {
        let (table, outer_id) = A::table_and_id(self.state);
        let entry = table.guessed((slot, Side::Client), &packet.key, self.now)?;
        if !goes_on(
            entry,
            Side::Client,
            packet,
            &self.snapshot.settings.timeouts,
        ) {
            return None;
        }
        let (real, traffic) = behind(self.snapshot, self.blocks, entry)?;
        let end = match real.forwarder {
            Forwarder::Tun {
                hop,
                ref tunnel,
                envelope: Envelope::Ipip,
                narrower,
            } => {
                let overhead = tunnel.overhead() + narrower;
                let macs = road(self.snapshot, frame, hop, packet, overhead, run)?;
                *outer_id = outer_id.wrapping_add(1);
                let outer = Outer {
                    id: *outer_id,
                    pmtu_disc: self.snapshot.settings.pmtu_disc,
                };
                tunnel.wrap_plain::<A, F>(frame, packet.shape.dont_fragment, macs, outer)?
            }
            Forwarder::Tun { .. } => {
                return self.hit_tunnel(frame, packet, slot, (real, traffic), run);
            }
            Forwarder::Nat64 { .. } => return None,
            _ => {
                let hop = real.forwarder.hop()?;
                let macs = road(self.snapshot, frame, hop, packet, 0, run)?;
                match real.forwarder {
                    Forwarder::Dr { .. } => A::pass_plain(frame.bytes_mut(), macs)?,
                    _ => readdress(frame.bytes_mut(), macs, entry, Side::Client)?,
                }
            }
        };
        frame.truncate(end);
        run.add(end);
        count(frame, entry, Side::Client, packet, traffic, self.now);
        Some(())
    }

    /// A client's packet into a tunnel with an envelope.
    #[inline(never)]
    fn hit_tunnel<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        (real, traffic): (&Real, Traffics<'_>),
        run: &mut Run,
    ) -> Option<()> {
        let hop = real.forwarder.hop()?;
        let overhead = real.forwarder.overhead();
        let macs = road(self.snapshot, frame, hop, packet, overhead, run)?;
        let link = Link {
            ours: macs.src(),
            next: macs.dst(),
        };
        let outer = self.outer(&real.forwarder, false);
        let entry = A::table(self.state).entry_mut(slot);
        real.forwarder.to_real(frame, entry, link, outer).ok()?;
        run.add(frame.bytes().len());
        count(frame, entry, Side::Client, packet, traffic, self.now);
        Some(())
    }

    /// From a real server to its client.
    #[inline(always)]
    fn hit_by_real<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        run: &mut Run,
    ) -> Option<()> {
        let table = A::table(self.state);
        let entry = table.guessed((slot, Side::Real), &packet.key, self.now)?;
        if !goes_on(entry, Side::Real, packet, &self.snapshot.settings.timeouts) {
            return None;
        }
        let (real, traffic) = behind(self.snapshot, self.blocks, entry)?;
        if !matches!(
            real.forwarder,
            Forwarder::Nat { .. } | Forwarder::FullNat { .. }
        ) {
            return None;
        }
        let flow = flow_of(&packet.key);
        let Towards::Hop(hop) = self.snapshot.routes.towards(entry.client, flow)? else {
            return None;
        };
        let macs = road(self.snapshot, frame, hop, packet, 0, run)?;
        let end = readdress(frame.bytes_mut(), macs, entry, Side::Real)?;
        frame.truncate(end);
        run.add(end);
        count(frame, entry, Side::Real, packet, traffic, self.now);
        Some(())
    }

    /// As [`hit`](Self::hit), where the guess was wrong, if it was: two tuples of a bucket had the same tag, as
    /// those of every thirtieth packet have in a full table. Measured at 1,000 flows: the long way
    /// instead costs 7 to 16 instructions more a packet, all counted.
    #[cold]
    #[inline(never)]
    fn hit_after_all<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        run: &mut Run,
    ) -> Option<()> {
        if run.forked || packet.guess == Guess::NONE {
            return None;
        }
        let table = A::table(self.state);
        let guess = packet.guess.place();
        if table.guessed(guess, &packet.key, self.now).is_some() {
            return None;
        }
        let Found::Live(slot, side) = table.find(packet.hash, &packet.key, self.now) else {
            return None;
        };
        self.hit(frame, packet, Guess::of(slot, side), run)
    }
}

/// The frames from the one with this number on.
#[inline(always)]
fn from<'a, F>(
    at: usize,
    frames: &'a mut [F],
    parsed: &'a [Parsed],
) -> impl Iterator<Item = (&'a mut F, &'a Parsed)> {
    let frames = frames.get_mut(at..).unwrap_or_default();
    frames.iter_mut().zip(parsed.get(at..).unwrap_or_default())
}

/// Whether the packet leaves its connection's state and timeout as they are, goes where the
/// routes say, and with new ends alone.
#[inline(always)]
fn goes_on<A: Stored>(
    entry: &Entry<A>,
    side: Side,
    packet: &Packet<A>,
    timeouts: &Timeouts,
) -> bool {
    if entry.flags.has(Flags::TO_SENDER | Flags::TOLD) {
        return false;
    }
    if packet.key.protocol == Protocol::TCP.0 {
        let established = entry.state == Tcp::Established as u8;
        let tells = packet.flags.0 & TELLING;
        let stays = entry.timeout_ms == timeouts.tcp(Tcp::Established);
        established & (tells == segment::Flags::ACK.0) & stays
    } else {
        let known = entry.packets >= 2 && entry.timeout_ms == timeouts.udp;
        known && (side == Side::Client || entry.template().is_none())
    }
}

/// What a connection's real server and service count of packets.
type Traffics<'a> = [&'a Traffic; 2];

/// The connection's real server and what is counted, where that server has nothing more to say.
#[inline(always)]
fn behind<'a, A>(
    snapshot: &'a Snapshot,
    blocks: &'a Blocks,
    entry: &Entry<A>,
) -> Option<(&'a Real, Traffics<'a>)> {
    let real = snapshot.reals.get(entry.real_id.0)?;
    let block = blocks.reals.get(entry.real_id.0)?;
    let own = blocks.services.get(entry.service.0)?;
    let settled = real.standing == Standing::Settled;
    settled.then_some((real, [&block.traffic, &own.traffic]))
}

/// The way there, if its MAC is known and the packet may take it whole with `overhead` more
/// octets.
#[inline(always)]
fn road<'a, A, F: Frame>(
    snapshot: &'a Snapshot,
    frame: &mut F,
    hop: HopId,
    packet: &Packet<A>,
    overhead: u16,
    run: &mut Run,
) -> Option<&'a Macs> {
    let next = snapshot.hops.get(hop.0)?;
    let macs = next.macs()?;
    let mtu = run.mtu_by(next.port, snapshot)?;
    let length = packet.shape.length + u32::from(overhead);
    let goes = length <= u32::from(mtu) && packet.shape.ttl > 1;
    if goes {
        let towards = Towards::Hop(hop);
        frame.observe(Event::Way { towards, mtu });
    }
    goes.then_some(macs)
}

/// Sends a packet that arrives on `side` between the ends that it is to have there.
#[inline(always)]
fn readdress<A: Stored>(
    frame: &mut [u8],
    macs: &Macs,
    entry: &Entry<A>,
    side: Side,
) -> Option<usize> {
    A::readdress_plain(frame, macs, || entry.leaving(side), || entry.owed(side))
}

/// Counts the packet, everywhere, once nothing can stop it any more.
#[inline(always)]
fn count<A: Stored, F: Frame>(
    frame: &mut F,
    entry: &mut Entry<A>,
    side: Side,
    packet: &Packet<A>,
    traffics: Traffics<'_>,
    now: Millis,
) {
    for traffic in traffics {
        match side {
            Side::Client => traffic.inbound(packet.shape.length),
            Side::Real => traffic.outbound(packet.shape.length),
        }
    }
    frame.observe(Event::of(entry, side));
    entry.last_seen = now;
    entry.packets = entry.packets.saturating_add(1);
    frame.observe(Event::Moved(entry));
}
