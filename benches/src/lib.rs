//! Workloads: flows in random order through a worker's own `turn`, on a port whose cost is
//! known.
//!
//! [`Generator`] is a port that writes the next flow's addresses into a recycled frame and
//! takes back what is sent. It keeps thousands of distinct buffers under way, because a few
//! hot ones flatter. [`Generator::idle_burst`] does its work without a worker: the difference
//! is the worker's.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use dataplane::exchange::exchange;
use dataplane::fwd::Forwarder;
use dataplane::handover::mesh;
use dataplane::memory::Recycler;
use dataplane::owner::Steering;
use dataplane::port::{Burst, Frame, Port, PortId, RxFlags, WorkerId};
use dataplane::published::{Publisher, Reader};
use dataplane::sched::{Backend, Flags, Kind, Scheduler, Spec, mh};
use dataplane::services::{
    Addresses, Blocks, Candidate, Hop, HopId, Key, Owned, PortView, Real, RealId, Service,
    ServiceId, Snapshot, Standing, Unmatched,
};
use dataplane::time::Millis;
use dataplane::verdict::Counters;
use dataplane::worker::{Parts, Worker};
use wire::build::{ip, tcp};
use wire::{Mac, ethernet, ipv4, segment::Segment};

/// Distinct buffers under way.
pub const BUFFERS: usize = 4096;
/// Octets of a buffer: a 64-byte frame (60 without its checksum) and room around it.
const BUFFER: usize = 256;
const HEADROOM: usize = 64;

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 2]);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const REALS: u8 = 16;

/// A frame in a buffer of its own.
#[derive(Debug)]
pub struct BenchFrame {
    data: Box<[u8; BUFFER]>,
    start: usize,
    len: usize,
}

impl BenchFrame {
    fn empty() -> Self {
        Self {
            data: Box::new([0; BUFFER]),
            start: HEADROOM,
            len: 0,
        }
    }
}

impl Frame for BenchFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.start + self.len]
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.start + self.len]
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        BUFFER - self.start - self.len
    }

    fn prepend(&mut self, n: usize) -> bool {
        let fits = n <= self.start;
        if fits {
            self.start -= n;
            self.len += n;
        }
        fits
    }

    fn append(&mut self, n: usize) -> bool {
        let fits = n <= self.tailroom();
        if fits {
            self.len += n;
        }
        fits
    }

    fn trim_front(&mut self, n: usize) {
        let n = n.min(self.len);
        self.start += n;
        self.len -= n;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn rss_hash(&self) -> Option<u32> {
        None
    }

    fn rx_flags(&self) -> RxFlags {
        RxFlags::default()
    }
}

/// What a flow sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// The first one.
    Syn,
    /// The ones after it.
    Ack,
}

/// A port that makes what it receives and recycles what it sends.
#[derive(Debug)]
pub struct Generator {
    free: VecDeque<BenchFrame>,
    template: Vec<u8>,
    syn: Vec<u8>,
    flows: u32,
    opening: Option<(u32, u32, Segments)>,
    random: u64,
    /// Frames that came back.
    pub sent: u64,
    /// Sum over a byte of each frame that came back: the last one of the next MAC.
    pub reals: [u64; 256],
}

impl Generator {
    /// A generator of segments of `flows` flows, at most 2^28.
    pub fn new(flows: u32) -> Self {
        let template = ip([11, 0, 0, 0], VIP).with(tcp(0, 80).ack().payload([0; 6]));
        let template = template.ether(GATEWAY, OUR_MAC).bytes();
        let syn = ip([11, 0, 0, 0], VIP)
            .with(tcp(0, 80).syn())
            .ether(GATEWAY, OUR_MAC)
            .bytes();
        Self {
            free: (0..BUFFERS).map(|_| BenchFrame::empty()).collect(),
            template,
            syn,
            flows,
            opening: None,
            random: 1,
            sent: 0,
            reals: [0; 256],
        }
    }

    /// Adds `frames` buffers: those of frames that the worker drops don't come back.
    pub fn restock(&mut self, frames: u32) {
        self.free.extend((0..frames).map(|_| BenchFrame::empty()));
    }

    /// Makes the next burst one segment each of the first of these flows; says of how many.
    pub fn next(&mut self, flows: Range<u32>, segments: Segments) -> u32 {
        let opening = (flows.end - flows.start).min(32);
        self.opening = Some((flows.start, flows.start + opening, segments));
        opening
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
    fn next_flow(&mut self) -> u32 {
        // xorshift64*: the order must not be one that a prefetcher learns.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from((drawn * u64::from(self.flows)) >> 32).expect("below a 32-bit number")
    }
}

/// The client of flow `n`.
fn client(n: u32) -> (u32, u16) {
    (
        0x0b00_0000 + (n >> 12),
        u16::try_from(n & 0xfff).expect("12 bits") + 1024,
    )
}

/// Writes flow `n` into a copy of the template.
#[inline]
fn write_flow(frame: &mut BenchFrame, template: &[u8], n: u32) {
    frame.start = HEADROOM;
    frame.len = template.len();
    frame.bytes_mut().copy_from_slice(template);
    let (address, port) = client(n);
    let mut ethernet = ethernet::Frame::parse(frame.bytes_mut()).expect("our own");
    let mut packet = ipv4::Packet::parse(ethernet.payload_mut()).expect("our own");
    let delta = packet.set_src(Ipv4Addr::from_bits(address));
    let protocol = packet.protocol();
    let mut segment = Segment::parse(protocol, packet.payload_mut()).expect("our own");
    let ports = segment.set_src_port(port);
    segment.settle(delta.and(ports));
}

impl Port for Generator {
    type Frame = BenchFrame;

    #[inline]
    fn rx_burst(&mut self, burst: &mut Burst<BenchFrame>) -> usize {
        if let Some((first, last, segments)) = self.opening.take() {
            let template = match segments {
                Segments::Syn => &self.syn,
                Segments::Ack => &self.template,
            };
            for (flow, mut frame) in (first..last).zip(self.free.drain(..32)) {
                write_flow(&mut frame, template, flow);
                burst.push(frame);
            }
            return burst.len();
        }
        let wanted = burst.remaining_capacity();
        for _ in 0..wanted {
            let Some(mut frame) = self.free.pop_front() else {
                break;
            };
            let flow = self.next_flow();
            write_flow(&mut frame, &self.template, flow);
            burst.push(frame);
        }
        wanted
    }

    #[inline]
    fn tx_burst(&mut self, burst: &mut Burst<BenchFrame>) -> usize {
        let sent = burst.len();
        self.sent += sent as u64;
        for frame in burst.drain(..) {
            self.reals[usize::from(frame.bytes()[5])] += 1;
            self.free.push_back(frame);
        }
        sent
    }

    fn alloc(&mut self) -> Option<BenchFrame> {
        self.free.pop_front()
    }
}

/// A worker with one service of 16 real servers on one port.
pub fn worker<P: Port>(
    port: P,
    connections: u32,
    pages: arch::Pages,
) -> (Worker<P>, Arc<Counters>, Publisher<Snapshot>) {
    let (publisher, mut readers) = Publisher::new(snapshot(), 1);
    let (_, mut ends) = exchange_of::<P>();
    let counters = Arc::new(Counters::default());
    let reader: Reader<Snapshot> = readers.remove(0);
    let worker = Worker::new(Parts {
        id: WorkerId(0),
        ports: vec![port],
        reader,
        exchange: ends.remove(0),
        counters: counters.clone(),
        connections,
        connections_v6: 1,
        peers: mesh(1).remove(0),
        steering: Arc::new(Steering::seeded(1, 128, 1).expect("one worker")),
        seed: 1,
        pages,
        hash_key: [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321],
        now: Millis(0),
    });
    (worker.expect("memory for the table"), counters, publisher)
}

/// A pool that gives nothing: no control sends here.
#[derive(Debug)]
pub struct NoPool<F>(std::marker::PhantomData<F>);

impl<F: Frame> dataplane::port::FramePool for NoPool<F> {
    type Frame = F;

    fn alloc(&mut self) -> Option<F> {
        None
    }
}

type Ends<F> = Vec<dataplane::exchange::WorkerEnd<F>>;

fn exchange_of<P: Port>() -> (
    dataplane::exchange::ControlEnd<NoPool<P::Frame>>,
    Ends<P::Frame>,
) {
    exchange(1, NoPool(std::marker::PhantomData))
}

/// The memory port's worker, for what needs no speed.
pub fn memory_worker(connections: u32) -> Worker<dataplane::memory::MemoryPort> {
    let port = dataplane::memory::MemoryPort::new(Recycler::default());
    worker(port, connections, arch::Pages::Off).0
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let id = ServiceId(0);
    snapshot.index.insert(Key::address(6, VIP.into(), 80), id);
    let mut blocks = Blocks::default();
    blocks.reals.grow(64);
    blocks.services.grow(64);
    let mut candidates = Vec::new();
    for n in 0..REALS {
        let slot = u32::from(n);
        let destination = Some(Mac([2, 0, 0, 1, 0, n]));
        snapshot.hops.set(
            slot,
            Hop {
                port: PortId(0),
                source: OUR_MAC,
                destination,
            },
        );
        let address = Ipv4Addr::new(10, 1, 0, n).into();
        let forwarder = Forwarder::Dr { hop: HopId(slot) };
        snapshot.reals.set(
            slot,
            Real {
                address,
                port: 80,
                standing: Standing::Plain,
                quiescent: false,
                forwarder,
                limits: Default::default(),
            },
        );
        candidates.insert(
            0,
            Candidate {
                real: RealId(slot),
                weight: 1,
                order: slot + 1,
            },
        );
    }
    let backend = |candidate: &Candidate| Backend {
        address: Ipv4Addr::new(10, 1, 0, 0).into(),
        port: 80,
        weight: candidate.weight,
        last_weight: candidate.weight,
    };
    let backends: Vec<_> = candidates.iter().map(backend).collect();
    let spec = Spec {
        kind: Kind::Rr,
        flags: Flags::default(),
        mh_size: mh::Size::DEFAULT,
        workers: 1,
        revision: 1,
        backends: &backends,
    };
    let scheduler = Scheduler::prepare(None, &spec);
    let service = Service::new(id, 1, scheduler, candidates.into());
    snapshot.services.set(0, Arc::new(service));
    let vip = Owned::Vip {
        held: true,
        unmatched: Unmatched::Drop,
    };
    snapshot.addresses = Addresses::new(vec![(VIP.into(), vip)]);
    snapshot.ports = [PortView {
        any_mac: false,
        mac: OUR_MAC,
        mtu: 1500,
        groups: [].into(),
    }]
    .into();
    snapshot.blocks = [blocks].into();
    snapshot
}
