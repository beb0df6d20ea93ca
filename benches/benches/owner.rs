//! What it costs to say who owns a connection, and to choose a local port whose reply comes
//! back to the worker that chose it.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use dataplane::conn::Key;
use dataplane::local::{LocalPorts, ReplyHash};
use dataplane::owner::{Fields, Steering};
use dataplane::port::WorkerId;

fn steering(workers: u16) -> Arc<Steering> {
    Arc::new(Steering::seeded(7, 512, workers).expect("a table for so many"))
}

fn owner(criterion: &mut Criterion) {
    let steering = steering(16);
    let mut n = 0u32;
    criterion.bench_function("owner/tuple/v4", |bencher| {
        bencher.iter(|| {
            n = n.wrapping_add(1);
            let key = Key {
                source: n,
                destination: 1,
                source_port: 7,
                destination_port: 80,
                protocol: 6,
            };
            black_box(steering.owner(Fields::Tuple, &key))
        });
    });
    criterion.bench_function("owner/tuple/v6", |bencher| {
        bencher.iter(|| {
            n = n.wrapping_add(1);
            let key = Key {
                source: u128::from(n) << 70,
                destination: 1,
                source_port: 7,
                destination_port: 80,
                protocol: 6,
            };
            black_box(steering.owner(Fields::Tuple, &key))
        });
    });
}

/// Checks each choice: its reply must belong to the worker that made it.
fn local_port(criterion: &mut Criterion) {
    for workers in [1, 2, 4, 16] {
        let steering = steering(workers);
        let ports = LocalPorts::new(steering.clone(), WorkerId(0), ReplyHash::Tuple, 7);
        let (addresses, mut turn, mut n) = ([1u32, 2, 3, 4], 0, 0u32);
        criterion.bench_function(&format!("local-port/{workers}-workers"), |bencher| {
            bencher.iter(|| {
                n = n.wrapping_add(1);
                let real = (0x0a01_0000 + n % 8, 80);
                let chosen = ports.choose(&addresses, &mut turn, real, 6, |_| true);
                let (address, port) = chosen.expect("all are free");
                let reply = Key {
                    source: real.0,
                    destination: address,
                    source_port: real.1,
                    destination_port: port,
                    protocol: 6,
                };
                assert_eq!(ports.reply_hash().owner(&steering, &reply), WorkerId(0));
                black_box(port)
            });
        });
    }
}

criterion_group!(benches, owner, local_port);
criterion_main!(benches);
