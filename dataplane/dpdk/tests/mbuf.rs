//! A frame against a model: three numbers that say where it lies in its buffer.

mod common;

use dataplane::port::{Burst, Frame};
use dpdk::{Mbuf, PoolConfig, PoolError};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[derive(Clone, Copy, Debug)]
enum Step {
    Prepend(usize),
    Append(usize),
    TrimFront(usize),
    Truncate(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0..300usize, 0..2300usize, Just(65536), Just(usize::MAX)];
    let step = (0..4, size).prop_map(|(kind, n)| match kind {
        0 => Step::Prepend(n),
        1 => Step::Append(n),
        2 => Step::TrimFront(n),
        _ => Step::Truncate(n),
    });
    prop::collection::vec(step, 1..40)
}

const ROOM: usize = 128 + 2048;

/// The frame is `from..to` of the buffer.
fn follow(step: Step, from: &mut usize, to: &mut usize) -> bool {
    match step {
        Step::Prepend(n) if n > *from => return false,
        Step::Prepend(n) => *from -= n,
        Step::Append(n) if n > ROOM - *to => return false,
        Step::Append(n) => *to += n,
        Step::TrimFront(n) => *from += n.min(*to - *from),
        Step::Truncate(n) => *to = *to.min(&mut from.saturating_add(n)),
    }
    true
}

fn apply(step: Step, frame: &mut Mbuf) -> bool {
    match step {
        Step::Prepend(n) => frame.prepend(n),
        Step::Append(n) => frame.append(n),
        Step::TrimFront(n) => {
            frame.trim_front(n);
            true
        }
        Step::Truncate(n) => {
            frame.truncate(n);
            true
        }
    }
}

#[test]
fn mbuf() {
    let eal = common::eal();
    let pool = common::pool(&eal);
    limits(&pool);
    let outcome = TestRunner::default().run(&steps(), |steps| {
        let mut frame = pool.take().expect("one at a time");
        let (mut from, mut to) = (128, 128);
        for step in steps {
            prop_assert_eq!(
                apply(step, &mut frame),
                follow(step, &mut from, &mut to),
                "{:?}",
                step
            );
            let seen = (frame.headroom(), frame.bytes().len(), frame.tailroom());
            prop_assert_eq!(seen, (from, to - from, ROOM - to), "{:?}", step);
            frame.bytes_mut().fill(0x5a);
        }
        Ok(())
    });
    outcome.expect("the frame follows the model");
    assert_eq!(pool.in_use(), 0);
    dry_pool(&eal);
}

fn limits(pool: &dpdk::Pool) {
    let mut frame = common::frame(pool, b"0123456789");
    assert!(
        !frame.prepend(129) && !frame.append(2039),
        "one octet too many"
    );
    assert_eq!(frame.bytes(), b"0123456789", "and no change");
    assert!(frame.prepend(2) && frame.append(1));
    frame.bytes_mut()[..2].copy_from_slice(b"ab");
    *frame.bytes_mut().last_mut().expect("13 octets") = b'z';
    assert_eq!(frame.bytes(), b"ab0123456789z");
    frame.trim_front(3);
    frame.truncate(20);
    frame.truncate(5);
    assert_eq!(frame.bytes(), b"12345");
    frame.trim_front(99);
    assert_eq!(
        (frame.bytes(), frame.headroom()),
        (&b""[..], 128 - 2 + 3 + 5)
    );
}

fn dry_pool(eal: &dpdk::Eal) {
    let config = PoolConfig {
        buffers: 63,
        buffer_size: 64,
        socket: None,
    };
    let pool = dpdk::Pool::new(&eal.handle(), config).expect("a few KiB");
    let (mut all, mut too_many) = (Burst::new(), Burst::new());
    assert!(pool.fill(&mut all));
    assert_eq!((all.len(), pool.in_use()), (32, 32));
    assert!(!pool.fill(&mut too_many), "all or none");
    assert!(too_many.is_empty());
    let rest: Vec<Mbuf> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!((rest.len(), pool.available()), (31, 0));
    Mbuf::free_all(&mut all);
    drop(rest);
    assert_eq!(pool.available(), 63);
    let huge = PoolConfig {
        buffers: 1 << 20,
        ..config
    };
    let text = dpdk::Pool::new(&eal.handle(), huge).expect_err("64 MiB in all");
    assert!(matches!(text, PoolError::NoMemory { .. }), "{text}");
    assert!(
        text.to_string()
            .starts_with("no memory for 1048576 frame buffers of 64 octets")
    );
}
