use std::collections::BTreeMap;

use proptest::prelude::*;
use wire::Protocol;

use super::*;

/// One second before the clock wraps.
const START: Millis = Millis(u32::MAX - 999);
const PORTS: Transport = Transport {
    source_port: 31337,
    destination_port: 53,
    protocol: 17,
};

fn table(limits: Limits) -> Fragments<u32, u32> {
    Fragments::new(limits, Hasher::new([3, 5]))
}

fn datagram(id: u16) -> Datagram<u32> {
    Datagram::v4(0xc000_0201, 0x0a00_0001, 17, id)
}

/// Octets `start..end` of a packet; the last fragment ends at an odd place.
fn piece(start: usize, end: usize) -> Piece {
    let extent = Extent {
        headers: 20,
        offset: start,
        length: end - start,
        extensions: 0,
        more: end.is_multiple_of(8),
    };
    Piece::new(Protocol::UDP, &extent).expect("sound")
}

/// Drives a table, and tells in words what it did. Frames are named by where they start.
struct Driver {
    table: Fragments<u32, u32>,
    now: Millis,
}

impl Driver {
    fn new(limits: Limits) -> Self {
        Self {
            table: table(limits),
            now: START,
        }
    }

    fn after(&mut self, ms: u32) -> &mut Self {
        self.now = self.now.plus(ms);
        self
    }

    fn give(&mut self, id: u16, start: usize, end: usize) -> String {
        let piece = piece(start, end);
        let mut told = if piece.is_first() {
            match self.table.first(&datagram(id), PORTS, piece, self.now) {
                Ok(()) => "go".to_owned(),
                Err(reason) => reason.name().to_owned(),
            }
        } else {
            let frame = u32::try_from(start).expect("small");
            match self.table.later(&datagram(id), piece, frame, self.now) {
                Later::Follow(_, ports) => {
                    assert_eq!(ports, PORTS);
                    "follow".to_owned()
                }
                Later::Held => "held".to_owned(),
                Later::Drop(_, reason) => reason.name().to_owned(),
            }
        };
        told += &self.taken();
        told
    }

    /// What comes out, each as its name and what becomes of it.
    fn taken(&mut self) -> String {
        let mut told = String::new();
        while let Some((frame, fate)) = self.table.take() {
            told += &match fate {
                Fate::Follow(_) => format!(" {frame}"),
                Fate::Drop(reason) => format!(" {frame}:{}", reason.name()),
            };
        }
        told
    }

    fn expire(&mut self) -> String {
        self.table.expire(self.now, 100);
        self.taken()
    }
}

#[test]
fn in_order_each_follows_and_the_last_ends_it() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.give(1, 0, 1480), "go");
    assert_eq!(driver.give(1, 1480, 2960), "follow");
    assert_eq!(driver.table.len(), 1);
    assert_eq!(driver.give(1, 2960, 3001), "follow");
    assert!(driver.table.is_empty(), "complete");
}

#[test]
fn what_comes_before_the_first_waits_for_it() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.give(1, 2960, 3001), "held");
    assert_eq!(driver.give(1, 1480, 2960), "held");
    assert_eq!(driver.after(499).give(1, 0, 1480), "go 2960 1480");
    assert!(driver.table.is_empty(), "complete");
    assert_eq!(driver.table.frames(), 0);
}

#[test]
fn packets_are_told_apart() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.give(1, 0, 1480), "go");
    assert_eq!(driver.give(2, 1480, 1481), "held");
    let others = [
        Datagram::v4(0xc000_0202, 0x0a00_0001, 17, 1),
        Datagram::v4(0xc000_0201, 0x0a00_0002, 17, 1),
        Datagram::v4(0xc000_0201, 0x0a00_0001, 6, 1),
    ];
    for other in others {
        let later = driver.table.later(&other, piece(1480, 1481), 0, START);
        assert_eq!(later, Later::Held, "{other:?}");
    }
    assert_ne!(Datagram::v6(1, 2, 0x1_0000), Datagram::v6(1, 2, 1));
}

#[test]
fn nobody_waits_longer_than_half_a_second() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.give(1, 1480, 2960), "held");
    assert_eq!(driver.after(499).expire(), "");
    assert_eq!(driver.after(1).expire(), " 1480:drop-fragment-timeout");
    assert!(driver.table.is_empty());
    assert_eq!(driver.give(1, 2960, 3001), "held", "a new start");
    let told = driver.after(500).give(1, 0, 1480);
    assert_eq!(
        told, "go 2960:drop-fragment-timeout",
        "even if nobody looked in between"
    );
}

#[test]
fn ports_are_remembered_for_half_a_minute() {
    let mut driver = Driver::new(Limits::default());
    driver.give(1, 0, 1480);
    assert_eq!(driver.after(29_999).give(1, 1480, 2960), "follow");
    assert_eq!(
        driver.after(1).give(1, 2960, 3001),
        "held",
        "from the first on"
    );
}

#[test]
fn an_overlap_ends_the_whole_packet() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.give(1, 2960, 4440), "held");
    let told = driver.give(1, 1480, 2968);
    assert_eq!(told, "drop-fragment-overlap 2960:drop-fragment-overlap");
    assert_eq!(driver.give(1, 0, 1480), "drop-fragment-overlap");
    assert_eq!(driver.give(1, 4440, 4441), "drop-fragment-overlap");
    assert_eq!(
        driver.after(29_999).give(1, 0, 1480),
        "drop-fragment-overlap"
    );
    assert_eq!(driver.after(1).give(1, 0, 1480), "go", "another packet");
    assert_eq!(
        driver.give(1, 1472, 1488),
        "drop-fragment-overlap",
        "while following, too"
    );
    assert_eq!(driver.give(1, 1488, 1496), "drop-fragment-overlap");
}

#[test]
fn a_duplicate_is_dropped_and_harms_nothing() {
    let mut driver = Driver::new(Limits::default());
    assert_eq!(driver.give(1, 1480, 2960), "held");
    assert_eq!(driver.give(1, 1480, 2960), "drop-fragment-duplicate");
    assert_eq!(driver.give(1, 0, 1480), "go 1480");
    assert_eq!(driver.give(1, 0, 1480), "drop-fragment-duplicate");
    assert_eq!(driver.give(1, 1480, 2960), "drop-fragment-duplicate");
    assert_eq!(driver.give(1, 2960, 3001), "follow");
}

#[test]
fn so_many_frames_and_no_more() {
    let mut driver = Driver::new(Limits {
        frames: 3,
        frames_per_datagram: 2,
        ..Limits::default()
    });
    assert_eq!(driver.give(1, 8, 16), "held");
    assert_eq!(driver.give(1, 16, 24), "held");
    assert_eq!(
        driver.give(1, 24, 32),
        "drop-fragment-full",
        "of one packet"
    );
    assert_eq!(driver.give(2, 8, 16), "held");
    assert_eq!(driver.give(3, 8, 16), "drop-fragment-full", "of all");
    assert_eq!(driver.table.len(), 2, "nothing is remembered of it");
    assert_eq!(driver.give(1, 0, 8), "go 8 16");
    assert_eq!(
        driver.give(1, 24, 32),
        "follow",
        "its place was not taken before"
    );
    assert_eq!(driver.give(3, 8, 16), "held");
}

#[test]
fn a_full_table_forgets_the_oldest_of_the_larger_crowd() {
    let mut driver = Driver::new(Limits {
        datagrams: 3,
        ..Limits::default()
    });
    driver.give(1, 0, 8);
    driver.give(2, 8, 16);
    driver.give(3, 16, 24);
    assert_eq!(driver.give(4, 0, 8), "go 8:drop-fragment-full");
    assert_eq!(driver.give(5, 0, 8), "go", "1 is forgotten");
    assert_eq!(driver.give(3, 0, 8), "go 16");
    assert_eq!(
        driver.give(4, 8, 16),
        "follow",
        "a stage changed, nothing forgotten"
    );
    assert_eq!(driver.give(6, 8, 16), "held", "4 is forgotten");
    assert_eq!(driver.give(5, 8, 16), "follow");
    assert_eq!(driver.table.len(), 3);
}

#[test]
fn expiry_is_bounded_and_goes_on_next_time() {
    let mut driver = Driver::new(Limits::default());
    for id in 0..20 {
        driver.give(id, 8, 16);
    }
    driver.after(500);
    driver.table.expire(driver.now, 8);
    assert_eq!(driver.table.len(), 12);
    driver.table.expire(driver.now, 100);
    assert!(driver.table.is_empty());
    assert_eq!(driver.table.frames(), 20, "they are still to be taken");
    driver.taken();
    assert_eq!(driver.table.frames(), 0);
}

#[test]
fn a_packet_of_the_largest_size_in_any_order() {
    let places: Vec<_> = (0..45)
        .map(|n| (n * 1480, (n * 1480 + 1480).min(65_507)))
        .collect();
    let mut driver = Driver::new(Limits::default());
    for &(start, end) in places.iter().skip(1).rev() {
        assert_eq!(driver.give(1, start, end), "held");
    }
    let told = driver.give(1, 0, 1480);
    assert_eq!(told.split(' ').count(), 45);
    assert!(driver.table.is_empty());
}

#[test]
fn ipv6_packets_are_told_apart_by_all_of_the_identification() {
    let mut table = Fragments::<u128, u32>::new(Limits::default(), Hasher::new([3, 5]));
    let datagram = Datagram::v6(1 << 100, 2, 0x0001_0002);
    let first = table.first(&datagram, PORTS, piece(0, 1232), START);
    assert_eq!(first, Ok(()));
    let later = table.later(&datagram, piece(1232, 1233), 7, START);
    assert_eq!(later, Later::Follow(7, PORTS));
    let other = Datagram::v6(1 << 100, 2, 2);
    assert_eq!(
        table.later(&other, piece(1232, 1233), 7, START),
        Later::Held
    );
}

#[test]
fn nothing_is_allocated_after_the_start() {
    let mut table = table(Limits {
        datagrams: 8,
        frames: 8,
        ..Limits::default()
    });
    let counted = allocation_counter::measure(|| {
        for n in 0..1000u32 {
            let now = START.plus(n * 10);
            let id = datagram(u16::try_from(n % 50).expect("small"));
            let place = piece(8 + 8 * (n as usize % 7), 16 + 8 * (n as usize % 7));
            let _ = table.later(&id, place, n, now);
            if n % 3 == 0 {
                let _ = table.first(&id, PORTS, piece(0, 8), now);
            }
            table.expire(now, 1);
            while table.take().is_some() {}
        }
    });
    assert_eq!(counted.count_total, 0);
}

/// What a step of the property test does.
#[derive(Clone, Debug)]
enum Step {
    Fragment(u16, usize, usize),
    Wait(u32),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u16..12, 0usize..6, 1usize..3, any::<bool>()).prop_map(|(id, at, len, last)| {
            Step::Fragment(id, 8 * at, 8 * (at + len) + usize::from(last && at > 0))
        }),
        1 => prop_oneof![0u32..700, 20_000u32..40_000].prop_map(Step::Wait),
        2 => (0usize..4).prop_map(Step::Take),
    ]
}

proptest! {
    #[test]
    fn each_frame_that_goes_in_comes_out_once(steps in prop::collection::vec(step(), 0..300)) {
        let limits = Limits { datagrams: 5, frames: 7, frames_per_datagram: 3, ..Limits::default() };
        let mut table = table(limits);
        let mut now = START;
        let (mut serial, mut inside) = (0u32, BTreeMap::new());
        for step in steps {
            match step {
                Step::Fragment(id, 0, end) => {
                    let _ = table.first(&datagram(id), PORTS, piece(0, end), now);
                }
                Step::Fragment(id, start, end) => {
                    serial += 1;
                    match table.later(&datagram(id), piece(start, end), serial, now) {
                        Later::Held => { inside.insert(serial, now); }
                        Later::Follow(frame, _) | Later::Drop(frame, _) => {
                            prop_assert_eq!(frame, serial);
                        }
                    }
                }
                Step::Wait(ms) => {
                    now = now.plus(ms);
                    table.expire(now, 100);
                }
                Step::Take(times) => for _ in 0..times {
                    if let Some((frame, _)) = table.take() {
                        prop_assert!(inside.remove(&frame).is_some());
                    }
                }
            }
            prop_assert_eq!(table.frames() as usize, inside.len());
            prop_assert!(table.frames() <= limits.frames && table.len() <= limits.datagrams);
        }
        now = now.plus(limits.life_ms);
        table.expire(now, 100);
        prop_assert!(table.is_empty());
        while let Some((frame, _)) = table.take() {
            prop_assert!(inside.remove(&frame).is_some());
        }
        prop_assert!(inside.is_empty());
        prop_assert_eq!(table.frames(), 0);
    }

    #[test]
    fn any_order_sends_what_the_right_order_sends(
        order in Just((0usize..20).collect::<Vec<_>>()).prop_shuffle(),
        other in Just((0usize..20).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut driver = Driver::new(Limits::default());
        let mut sent = [Vec::new(), Vec::new()];
        for (one, two) in order.into_iter().zip(other) {
            for (id, n) in [(0u16, one), (1, two)] {
                let end = if n == 19 { 8 * n + 5 } else { 8 * n + 8 };
                let told = driver.after(5).give(id, 8 * n, end);
                let mut words = told.split(' ');
                match words.next() {
                    Some("go" | "follow") => sent[usize::from(id)].push(8 * n),
                    Some("held") => {}
                    other => prop_assert!(false, "{other:?}"),
                }
                for word in words {
                    sent[usize::from(id)].push(word.parse().expect("a place, not a reason"));
                }
            }
        }
        let all: Vec<_> = (0..20).map(|n| 8 * n).collect();
        for mut sent in sent {
            sent.sort_unstable();
            prop_assert_eq!(&sent, &all);
        }
        prop_assert!(driver.table.is_empty());
    }
}
