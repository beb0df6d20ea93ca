//! The floor: parse, look up, rewrite, and nothing else.
//!
//! No states, timers, counters, service look-up or next hop: what a worker's turn is compared with
//! in the same run. The same generator, the same hash and the same rewriters as the worker's; a table of
//! half a line an entry, two fifths full, whose lines are fetched ahead over the burst.

use std::net::Ipv4Addr;

use dataplane::conn::{Hasher, Key};
use dataplane::fwd::{Outer, Tunnel};
use dataplane::port::{BURST, Burst, Frame, Port};
use wire::Mac;
use wire::ethernet::Macs;
use wire::ipv4::Between;
use wire::plain::{self, Ends, Exchange, Plain};

use crate::case::{Family, Mode};
use crate::flows::{Host, OUR_MAC};
use crate::generator::Generator;
use crate::source::Source;

/// Half a line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct Entry {
    from: [u32; 2],
    to: [u32; 2],
    from_ports: [u16; 2],
    ports: [u16; 2],
    exchange: Exchange,
    /// Which of the next hops; 0 in a place that is empty.
    next: u8,
}

/// Where packets go: the real servers and the clients' gateway, a few.
#[derive(Debug)]
struct NextHop {
    macs: Macs,
    /// To the real server there, where packets go through one.
    tunnel: Tunnel,
}

impl NextHop {
    fn new(next: Mac, destination: u32) -> Self {
        Self {
            macs: Macs::new(OUR_MAC, next),
            tunnel: Tunnel::V4(Between::new(
                Ipv4Addr::from_bits(Host::Director.low()),
                Ipv4Addr::from_bits(destination),
            )),
        }
    }
}

/// A table and a port; IPv4 alone.
#[derive(Debug)]
pub struct Floor<P: Port = Generator> {
    port: P,
    entries: arch::HugeSlice<Entry>,
    hasher: Hasher,
    mode: Mode,
    next_hops: Vec<NextHop>,
    burst: Burst<P::Frame>,
}

impl Floor {
    /// The floor of what `of` generates, as a worker's generator has learned it; `None` where there
    /// is none.
    ///
    /// # Panics
    /// Without memory for the table.
    pub fn new(of: &Generator) -> Option<Self> {
        Self::on(of.source(), || of.alike())
    }

    /// Bursts whose every frame is compared with what a worker should make of it.
    ///
    /// # Panics
    /// If one is not right.
    pub fn check(&mut self, bursts: u32) {
        self.port.check(true);
        self.bursts(bursts);
        self.port.check(false);
    }
}

impl<P: Port> Floor<P> {
    /// The same on any port that receives the packets of `source`.
    ///
    /// # Panics
    /// Without memory for the table.
    pub fn on(source: &Source, port: impl FnOnce() -> P) -> Option<Self> {
        let (case, flows) = (source.case(), source.flows());
        if case.family != Family::V4 {
            return None;
        }
        let sides = if case.mode.is_two_way() { 2 } else { 1 };
        let places = (flows as usize * sides * 5).div_ceil(4) * 2;
        let entries = arch::HugeSlice::filled(places, Entry::default(), arch::Pages::Auto);
        let mut floor = Self {
            port: port(),
            entries: entries.expect("memory for the floor's table"),
            hasher: Hasher::new([0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]),
            mode: case.mode,
            next_hops: vec![NextHop::new(Mac::ZERO, 0)],
            burst: Burst::new(),
        };
        for (from, to, next) in (0..flows).flat_map(|flow| source.ways(flow)) {
            floor.insert(from, to, next);
        }
        Some(floor)
    }

    fn insert(&mut self, from: Ends<u32>, to: Ends<u32>, next: Mac) {
        let key = Key {
            source: from.src,
            destination: from.dst,
            source_port: from.src_port,
            destination_port: from.dst_port,
            protocol: 6,
        };
        let mut at = self.home(&key);
        while self.entries[at].next != 0 {
            at = self.after(at);
        }
        self.entries[at] = Entry {
            from: [from.src, from.dst],
            to: [to.src, to.dst],
            from_ports: [from.src_port, from.dst_port],
            ports: [to.src_port, to.dst_port],
            exchange: Exchange::v4(&from, &to),
            next: self.hop(next, to.dst),
        };
    }

    /// The number of a next hop, and of the real server there.
    fn hop(&mut self, next: Mac, destination: u32) -> u8 {
        let known = self.next_hops.iter().position(|hop| hop.macs.dst() == next);
        let at = known.unwrap_or_else(|| {
            self.next_hops.push(NextHop::new(next, destination));
            self.next_hops.len() - 1
        });
        u8::try_from(at).expect("a few next hops")
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() {
            0
        } else {
            at + 1
        }
    }

    #[inline]
    fn home(&self, key: &Key<u32>) -> usize {
        // The first of the two in a line: a look-up that leaves it meets no second fetch.
        let lines = u32::try_from(self.entries.len() / 2).expect("flows are counted in 28 bits");
        self.hasher.hash(key).place(lines) as usize * 2
    }

    /// So many bursts from wire to wire; says how many packets they were.
    ///
    /// # Panics
    /// If a packet is none that was made here.
    #[inline(never)]
    pub fn bursts(&mut self, bursts: u32) -> u32 {
        let mut packets = 0;
        for _ in 0..bursts {
            let mut burst = std::mem::take(&mut self.burst);
            self.port.rx_burst(&mut burst);
            let mut found = [(Key::default(), 0); BURST];
            for (frame, found) in burst.iter().zip(&mut found) {
                let plain = Plain::<u32>::parse(frame.bytes()).expect("a plain packet");
                let key = Key {
                    source: plain.src,
                    destination: plain.dst,
                    source_port: plain.src_port,
                    destination_port: plain.dst_port,
                    protocol: plain.protocol,
                };
                *found = (key, self.home(&key));
                self.entries.prefetch(found.1);
            }
            for (frame, (key, home)) in burst.iter_mut().zip(&found) {
                self.rewrite(frame, key, *home);
                packets += 1;
            }
            self.port.tx_burst(&mut burst);
            self.burst = burst;
        }
        packets
    }

    #[inline]
    fn rewrite(&self, frame: &mut P::Frame, key: &Key<u32>, home: usize) {
        let mut at = home;
        let mut entry = &self.entries[at];
        let addresses = [key.source, key.destination];
        let from_ports = [key.source_port, key.destination_port];
        while entry.from != addresses || entry.from_ports != from_ports {
            assert!(entry.next != 0, "every flow is there");
            at = self.after(at);
            entry = &self.entries[at];
        }
        let [src, dst] = entry.to;
        let [src_port, dst_port] = entry.ports;
        let hop = &self.next_hops[usize::from(entry.next)];
        let end = match self.mode {
            Mode::Tun => return wrap(frame, hop),
            Mode::Dr => plain::pass(frame.bytes_mut(), &hop.macs),
            Mode::Nat | Mode::FullNat => {
                let ends = Ends {
                    src,
                    dst,
                    src_port,
                    dst_port,
                };
                plain::readdress(
                    frame.bytes_mut(),
                    &hop.macs,
                    || ends,
                    || entry.exchange.there(),
                )
            }
        };
        frame.truncate(end.expect("a plain packet with hops left"));
    }
}

/// Sends a plain packet through a tunnel.
#[inline]
fn wrap(frame: &mut impl Frame, hop: &NextHop) {
    let header: &[u8; 34] = frame.bytes().first_chunk().expect("a plain packet");
    let dont_fragment = header[20] & 0x40 != 0;
    let outer = Outer {
        id: 0,
        pmtu_disc: true,
    };
    let wrapped = hop
        .tunnel
        .wrap_plain::<u32, _>(frame, dont_fragment, &hop.macs, outer);
    wrapped.expect("hops left, and headroom");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::lab::Lab;

    #[test]
    fn workers_and_floors_do_the_same_work() {
        for case in Case::all(&Family::ALL) {
            for flows in [1, 100] {
                let mut lab = Lab::established(case, flows);
                lab.check(8);
                match Floor::new(lab.port()) {
                    Some(mut floor) => floor.check(8),
                    None => assert_eq!(case.family, Family::V6),
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "dr4-forward, flow")]
    fn a_floor_that_sends_elsewhere_is_found_out() {
        let mut lab = Lab::established(Case::PLAIN, 100);
        let mut floor = Floor::new(lab.port()).expect("IPv4 has one");
        floor.next_hops[1] = NextHop::new(Mac::ZERO, 0);
        floor.check(8);
    }
}
