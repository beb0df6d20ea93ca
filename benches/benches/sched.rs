//! What a choice costs with 100 and with 1000 real servers, and what `mh`'s table costs to
//! build. Each checks its own answer first.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dataplane::pages::Pages;
use dataplane::port::WorkerId;
use dataplane::sched::sums::sum;
use dataplane::sched::thresholds::Limits;
use dataplane::sched::{Ask, Backend, Flags, Kind, Memory, Scheduler, Spec, mh, pick};
use dataplane::services::{Blocks, Candidate, Real, RealId, Service, ServiceBlock, ServiceId};
use dataplane::time::Millis;

/// What one worker chooses with.
struct Desk {
    service: Service,
    own: ServiceBlock,
    blocks: Blocks,
    reals: Pages<Real>,
    memory: Memory,
    client: u32,
}

impl Desk {
    /// Real servers of weights 1 to 10, each with some connections.
    fn new(kind: Kind, count: u32) -> Self {
        let mut blocks = Blocks::default();
        blocks.reals.grow(count);
        blocks.others.grow(count);
        for slot in 0..count {
            let block = blocks.reals.get(slot).expect("grown");
            block.active.set(1000 + slot * 7919 % 100);
        }
        let candidates = (0..count).rev().map(|slot| Candidate {
            real: RealId(slot),
            weight: slot % 10 + 1,
            order: slot,
        });
        let scheduler = Scheduler::prepare(None, &spec(kind, mh::Size::DEFAULT, &backends(count)));
        let service = Service::new(ServiceId(0), 1, scheduler, candidates.collect());
        Self {
            service,
            own: ServiceBlock::default(),
            blocks,
            reals: Pages::default(),
            memory: Memory::new(WorkerId(0), 1, Millis(0)),
            client: 0xC000_0200,
        }
    }

    fn pick(&mut self) -> u32 {
        self.client = self.client.wrapping_add(1);
        let ask = Ask {
            source: self.client,
            source_port: 40_000,
            destination: self.client % 256,
            now: Millis(0),
        };
        let Self {
            service,
            own,
            blocks,
            reals,
            memory,
            ..
        } = self;
        let chosen = pick(service, own, blocks, reals, &ask, memory);
        chosen.map_or(u32::MAX, |candidate| candidate.real.0)
    }
}

fn backends(count: u32) -> Vec<Backend> {
    let backend = |slot| Backend {
        address: Ipv4Addr::from_bits(0x0a01_0000 + slot).into(),
        port: 80,
        weight: slot % 10 + 1,
        last_weight: slot % 10 + 1,
    };
    (0..count).rev().map(backend).collect()
}

fn spec(kind: Kind, mh_size: mh::Size, backends: &[Backend]) -> Spec<'_> {
    Spec {
        kind,
        flags: Flags::default(),
        mh_size,
        workers: 1,
        revision: 1,
        backends,
    }
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for kind in Kind::ALL {
        for count in [100, 1000] {
            let mut desk = Desk::new(kind, count);
            let refuses = kind == Kind::Ovf;
            assert_eq!(desk.pick() >= count, refuses, "{kind:?} of {count}");
            let id = BenchmarkId::new(format!("{kind:?}"), count);
            group.bench_function(id, |bencher| bencher.iter(|| black_box(desk.pick())));
        }
    }
}

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mh table of 1000");
    group.sample_size(20);
    for slots in [4093, 65_521, 131_071] {
        let size = mh::Size::of(slots).expect("one of the sizes");
        let backends = backends(1000);
        let build = || Scheduler::prepare(None, &spec(Kind::Mh, size, &backends));
        assert_eq!(build().table_octets(), 4 * slots as usize);
        group.bench_function(slots.to_string(), |bencher| {
            bencher.iter(|| black_box(build()))
        });
    }
}

/// What control does every 10 ms: the connections of 10,000 real servers over 8 workers.
fn sums(criterion: &mut Criterion) {
    const REALS: u32 = 10_000;
    let worker = |_| {
        let mut blocks = Blocks::default();
        blocks.reals.grow(REALS);
        blocks.others.grow(REALS);
        (0..REALS).for_each(|slot| blocks.reals.get(slot).expect("grown").active.set(slot));
        blocks
    };
    let workers: Vec<_> = (0..8).map(worker).collect();
    let all = || (0..REALS).for_each(|slot| sum(&workers, RealId(slot), Limits::default()));
    all();
    let others = workers[3].others.get(99).expect("grown");
    assert_eq!(others.active.get(), 7 * 99);
    criterion.bench_function("sums of 10000 over 8 workers", |bencher| bencher.iter(all));
}

criterion_group!(benches, picks, tables, sums);
criterion_main!(benches);
