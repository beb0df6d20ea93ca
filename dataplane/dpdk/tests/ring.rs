//! Two devices joined by rings: frames arrive as they were sent, and none is lost or doubled.

mod common;

use common::{all_bytes, content, eal, frame, pool};
use dataplane::port::{BURST, Burst, FramePool, Port};
use dpdk::eal::ShutdownError;
use dpdk::{Device, DeviceConfig, DeviceError, Eal, Pool, Queue, ring};

const SLOTS: u32 = 64;

#[test]
fn ring() {
    let eal = eal();
    let pool = pool(&eal);
    assert_eq!(pool.available(), 4095);
    let (mut left, mut right) = devices(&eal, &pool);
    queues_are_given_once(&left);
    both_ways_on_both_pairs(&left, &right, &pool);
    a_full_ring_refuses_the_rest(&left, &right, &pool);
    a_worker_of_its_own(&eal, &left, &right, &pool);
    stop_and_start_again(&mut left, &mut right);
    what_is_in_the_rings_comes_back(&left, &pool);
    drop((left, right));
    assert_eq!(pool.in_use(), 0, "every buffer came back");
    the_end_says_what_is_still_used(eal, pool);
}

fn devices(eal: &Eal, pool: &Pool) -> (Device, Device) {
    let (left, right) = ring::pair(&eal.handle(), 2, SLOTS).expect("two rings each way");
    let open = |end, name| {
        let config = DeviceConfig {
            queues: 2,
            ..DeviceConfig::new(name, pool)
        };
        let mut device = Device::open_ring(&eal.handle(), end, config).expect("rings are there");
        assert!(matches!(
            device.queue(0),
            Err(DeviceError::NotStarted { .. })
        ));
        device.start().expect("nothing can be in the way");
        device
    };
    (open(left, "left"), open(right, "right"))
}

fn queues_are_given_once(device: &Device) {
    let queue = device.queue(1).expect("nobody has it");
    let text = device.queue(1).expect_err("we have it").to_string();
    assert_eq!(
        text,
        "port \"left\": queue pair 1 is in another worker's hands"
    );
    assert!(matches!(
        device.queue(2),
        Err(DeviceError::NoSuchQueue { .. })
    ));
    drop(queue);
    assert!(device.queue(1).is_ok(), "given back");
}

fn send(queue: &mut Queue, pool: &Pool, numbers: std::ops::Range<usize>) -> Burst<dpdk::Mbuf> {
    let mut burst: Burst<_> = numbers.map(|n| frame(pool, &content(n))).collect();
    queue.tx_burst(&mut burst);
    burst
}

fn both_ways_on_both_pairs(left: &Device, right: &Device, pool: &Pool) {
    let held = pool.in_use();
    for index in [0, 1] {
        for (from, to) in [(left, right), (right, left)] {
            let (mut tx, mut rx) = (
                from.queue(index).expect("free"),
                to.queue(index).expect("free"),
            );
            assert!(send(&mut tx, pool, 0..20).is_empty());
            let mut got = Burst::new();
            assert_eq!(rx.rx_burst(&mut got), 20);
            assert!(send(&mut tx, pool, 20..40).is_empty());
            assert_eq!(
                rx.rx_burst(&mut got),
                BURST - 20,
                "only what there is room for"
            );
            let want: Vec<_> = (0..BURST).map(content).collect();
            assert_eq!(all_bytes(&got), want, "pair {index} of {}", from.name());
            assert_eq!(rx.rx_burst(&mut got), 0, "a full burst asks for nothing");
            got.clear();
            assert_eq!(rx.rx_burst(&mut got), 8);
            assert_eq!(rx.rx_burst(&mut got), 0, "the ring is empty");
            got.clear();
            assert_eq!(pool.in_use(), held);
        }
    }
}

fn a_full_ring_refuses_the_rest(left: &Device, right: &Device, pool: &Pool) {
    let (mut tx, mut rx) = (left.queue(0).expect("free"), right.queue(0).expect("free"));
    assert!(send(&mut tx, pool, 0..30).is_empty());
    assert!(send(&mut tx, pool, 30..60).is_empty());
    let mut refused = send(&mut tx, pool, 60..90);
    let left_over: Vec<_> = (64..90).map(content).collect();
    assert_eq!(
        all_bytes(&refused),
        left_over,
        "the front went, the rest stays in order"
    );
    assert_eq!(tx.tx_burst(&mut refused), 0);
    assert_eq!(refused.len(), 26);
    let mut got = Burst::new();
    while rx.rx_burst(&mut got) > 0 {
        got.clear();
    }
    assert_eq!(tx.tx_burst(&mut refused), 26);
    assert_eq!(rx.rx_burst(&mut got), 26);
    assert_eq!(all_bytes(&got), left_over);
    let stats = right.stats().expect("rings count");
    assert_eq!(
        stats.rx_packets % 100,
        (2 * 40 + 64 + 26) % 100,
        "{stats:?}"
    );
    assert_eq!(
        left.stats().expect("rings count").tx_packets,
        2 * 40 + 64 + 26
    );
}

/// A registered thread sends what it took from the pool itself; this one receives.
fn a_worker_of_its_own(eal: &Eal, left: &Device, right: &Device, pool: &Pool) {
    const FRAMES: usize = 10_000;
    let (mut tx, mut rx) = (left.queue(0).expect("free"), right.queue(0).expect("free"));
    let (handle, mut own) = (eal.handle(), pool.clone());
    let worker = std::thread::spawn(move || {
        let registered = handle.register_thread().expect("there are few threads");
        assert_ne!(registered.lcore(), 0, "0 is the main thread's");
        assert!(handle.register_thread().is_err(), "once is enough");
        let mut sent = 0;
        while sent < FRAMES {
            let mut burst = Burst::new();
            while sent + burst.len() < FRAMES && !burst.is_full() {
                let Some(buffer) = own.alloc() else { break };
                burst.push(buffer);
            }
            sent += tx.tx_burst(&mut burst);
            std::thread::yield_now();
        }
    });
    let (mut got, mut received) = (Burst::new(), 0);
    while received < FRAMES {
        received += rx.rx_burst(&mut got);
        got.clear();
        std::thread::yield_now();
    }
    worker.join().expect("the worker's own checks");
    assert_eq!(received, FRAMES);
    assert_eq!(pool.in_use(), 0);
}

fn stop_and_start_again(left: &mut Device, right: &mut Device) {
    let queue = right.queue(0).expect("free");
    let text = right.stop().expect_err("a queue is out").to_string();
    assert_eq!(
        text,
        "port \"right\": 1 of its queues are still in workers' hands"
    );
    drop(queue);
    for device in [left, right] {
        device.stop().expect("all queues are back");
        assert!(!device.started());
        device.start().expect("as before");
    }
}

fn what_is_in_the_rings_comes_back(left: &Device, pool: &Pool) {
    assert!(send(&mut left.queue(1).expect("free"), pool, 0..20).is_empty());
    assert_eq!(pool.in_use(), 20);
}

fn the_end_says_what_is_still_used(eal: Eal, pool: Pool) {
    assert!(!common::runtime_folders().is_empty(), "EAL makes one");
    let kept = frame(&pool, b"kept");
    drop(pool);
    assert_eq!(eal.shutdown(), Err(ShutdownError::BuffersOut { count: 1 }));
    assert_eq!(
        dataplane::port::Frame::bytes(&kept),
        b"kept",
        "its memory is still there"
    );
    assert!(common::runtime_folders().is_empty());
}
