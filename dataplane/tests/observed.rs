//! What a frame hears of itself, in bursts of everything: that it begins, once and first, and from then
//! on all that becomes of it before the next one begins. Replays and traces rely on it.

mod common;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use common::fleet::{Fleet, Mode, Spec, real_address, vip};
use common::*;
use dataplane::exchange::exchange;
use dataplane::handover::mesh;
use dataplane::memory::{Buffer, Note, Noted, Recycler};
use dataplane::observe::Event;
use dataplane::owner::Steering;
use dataplane::port::{BURST, Burst, FramePool, Port, WorkerId};
use dataplane::published::Publisher;
use dataplane::sched::Kind;
use dataplane::verdict::Counters;
use dataplane::worker::{Parts, Worker};
use proptest::prelude::*;
use wire::build::{Packet, ip, tcp};
use wire::tcp::Flags;

/// What was heard, by the numbers of the frames that heard it.
#[derive(Debug, Default)]
struct Heard {
    begun: Vec<usize>,
    decided: Vec<usize>,
    /// What one frame heard after another had begun.
    late: Vec<usize>,
}

/// A received frame's number; none of those of our making.
struct Ear(Option<usize>, Arc<Mutex<Heard>>);

impl Note for Ear {
    fn observe(&mut self, event: Event<'_>, _: &Buffer) {
        let Some(n) = self.0 else { return };
        let mut heard = self.1.lock().expect("one thread");
        match event {
            Event::Begins => heard.begun.push(n),
            Event::Decided(_) => heard.decided.push(n),
            _ => {}
        }
        if heard.begun.last() != Some(&n) {
            heard.late.push(n);
        }
    }
}

#[derive(Clone, Default)]
struct Pool(Recycler, Arc<Mutex<Heard>>);

impl FramePool for Pool {
    type Frame = Noted<Ear>;

    fn alloc(&mut self) -> Option<Noted<Ear>> {
        Some(Noted::new(self.0.empty(), Ear(None, self.1.clone())))
    }
}

#[derive(Default)]
struct Queue {
    pool: Pool,
    incoming: Vec<Noted<Ear>>,
}

impl Port for Queue {
    type Frame = Noted<Ear>;

    fn rx_burst(&mut self, burst: &mut Burst<Self::Frame>) -> usize {
        let count = self.incoming.len();
        burst.extend(self.incoming.drain(..));
        count
    }

    fn tx_burst(&mut self, burst: &mut Burst<Self::Frame>) -> usize {
        burst.drain(..).count()
    }

    fn alloc(&mut self) -> Option<Self::Frame> {
        self.pool.alloc()
    }
}

/// A worker with the services of a fleet.
fn worker(fleet: &Fleet, pool: &Pool) -> Worker<Queue> {
    let (_, ends) = exchange(1, pool.clone());
    let (mut publisher, readers) = Publisher::new(fleet.snapshot.clone(), 1);
    publisher.publish(fleet.snapshot.clone());
    let queue = || Queue {
        pool: pool.clone(),
        incoming: Vec::new(),
    };
    let worker = Worker::new(Parts {
        id: WorkerId(0),
        ports: vec![queue(), queue()],
        reader: readers.into_iter().next().expect("one"),
        exchange: ends.into_iter().next().expect("one"),
        peers: mesh(1).into_iter().next().expect("one"),
        steering: Arc::new(Steering::seeded(5, 512, 1).expect("one worker")),
        counters: Arc::new(Counters::default()),
        connections: 512,
        connections_v6: 512,
        pages: arch::Pages::Off,
        hash_key: [1, 2],
        seed: 1,
        now: fleet.now,
    });
    worker.expect("memory for small tables")
}

fn specs() -> Vec<Spec> {
    let modes = [Mode::Dr, Mode::Nat];
    let all = modes.iter().flat_map(|&mode| [(mode, false), (mode, true)]);
    all.map(|(mode, v6)| Spec::new(v6, TCP, Kind::Rr, &[(1, mode)]))
        .collect()
}

fn client(v6: bool) -> IpAddr {
    match v6 {
        false => [8, 8, 8, 1].into(),
        true => [0x2001, 0xdb8, 9, 0, 0, 0, 0, 1].into(),
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug)]
enum What {
    /// From a client, or for one, of one of the services.
    Flow {
        service: usize,
        port: u16,
        flags: Flags,
        back: bool,
    },
    Short,
    Arp,
    /// For nobody here.
    Astray,
}

fn bytes(specs: &[Spec], what: What) -> Vec<u8> {
    let to_us = |packet: Packet| packet.ether(GATEWAY_MAC, LAN_MAC).bytes();
    let ports = tcp(1, 2).ack();
    match what {
        What::Flow {
            service,
            port,
            flags,
            back,
        } => {
            let spec = &specs[service];
            let (client, mode) = (client(spec.v6), spec.reals[0].1);
            to_us(match back && mode == Mode::Nat {
                true => ip(real_address(1, spec.v6), client)
                    .with(tcp(spec.real_port(mode), port).flags(flags)),
                false => ip(client, vip(service, spec.v6)).with(tcp(port, spec.port).flags(flags)),
            })
        }
        What::Short => vec![0; 20],
        What::Arp => [&[0xff; 6][..], &GATEWAY_MAC.0, &[8, 6], &[0; 46]].concat(),
        What::Astray => to_us(ip(client(false), [203, 0, 113, 1]).with(ports)),
    }
}

fn what() -> impl Strategy<Value = What> {
    let flags = prop_oneof![1 => Just(Flags::SYN), 1 => Just(Flags::FIN), 8 => Just(Flags::ACK)];
    // Clients' ports up to 7 are open.
    let port = prop_oneof![8 => 0..8u16, 1 => 8..16u16];
    let flow = (0..4usize, port, flags, any::<bool>());
    let flow = flow.prop_map(|(service, port, flags, back)| What::Flow {
        service,
        port,
        flags,
        back,
    });
    let rest = prop::sample::select(vec![What::Short, What::Arp, What::Astray]);
    prop_oneof![9 => flow, 1 => rest]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn who_begins_begins_once_and_is_alone(
        bursts in prop::collection::vec(prop::collection::vec(what(), 1..=BURST), 1..6),
    ) {
        let fleet = Fleet::new(1, specs());
        let pool = Pool::default();
        let mut worker = worker(&fleet, &pool);
        let opening = |flags| {
            let flow = move |n: u16| What::Flow {
                service: usize::from(n % 4),
                port: n / 4,
                flags,
                back: false,
            };
            (0..32).map(flow).collect::<Vec<_>>()
        };
        let open = [opening(Flags::SYN), opening(Flags::ACK)];
        for burst in open.into_iter().chain(bursts) {
            let frames = burst.iter().enumerate().map(|(n, &what)| {
                let frame = pool.0.fill(&bytes(&fleet.specs, what));
                Noted::new(frame, Ear(Some(n), pool.1.clone()))
            });
            worker.port_mut(LAN).expect("two ports").incoming.extend(frames);
            worker.turn(fleet.now);
            let heard = std::mem::take(&mut *pool.1.lock().expect("one thread"));
            let all: Vec<_> = (0..burst.len()).collect();
            prop_assert_eq!(&heard.begun, &all);
            prop_assert_eq!(&heard.decided, &all);
            prop_assert!(heard.late.is_empty(), "{:?}", heard.late);
        }
        prop_assert!(!worker.state().v4.is_empty() && !worker.state().v6.is_empty());
    }
}
