//! Whole turns of several workers under a random configuration, with random changes, faults and
//! jumps of the clock between them.
//!
//! The input's first bytes are the configuration; the rest are steps. After each turn the
//! equations hold and what was sent is well formed; in the end, when all services are gone and
//! time has passed, nothing is left: no frame, no connection, no count.

mod check;
mod commands;
mod fleet;
mod packets;
mod port;
mod world;

use std::hash::Hasher;

use dataplane::port::{PortId, RxFlags};
use proto::message::Format;

use crate::input::Input;
use fleet::Fleet;

/// Steps of one input at most.
const STEPS: usize = 160;
/// How far the clock may jump, in milliseconds.
const JUMPS: [u64; 8] = [1, 10, 100, 1000, 5000, 61_000, 1_000_000, 5_000_000];
/// Longer than most of it, in milliseconds.
const SHORT: u64 = 901_000;
/// Longer than anything here is remembered, in milliseconds.
const LONGEST: u64 = 6_000_000;

/// A flag that no device sets: it only keeps the parser, and what follows it, from the short way.
const LONG_WAY: u8 = 0x80;

/// Takes an input through all of it: every other one by the short way of common packets and by
/// the long one, which must send the same.
///
/// # Panics
/// If anything that must hold does not.
pub fn run(data: &[u8]) {
    let sent = all(data, 0);
    if data.len() % 2 == 1 {
        assert_eq!(sent, all(data, LONG_WAY), "the two ways send the same");
    }
}

/// A number that stands for everything that workers sent; none for a file that can't be had.
fn all(data: &[u8], flags: u8) -> Option<u64> {
    let mut input = Input::new(data);
    let mut fleet = begin(&mut input)?;
    fleet.flags = flags;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut fleet, &mut input);
    }
    let sent = fleet.digest.finish();
    end(fleet);
    Some(sent)
}

fn begin(input: &mut Input<'_>) -> Option<Fleet> {
    let first = input.byte();
    let (workers, one_arm) = (1 + u16::from(first % 4), first >= 0x80);
    let seed = u64::from(input.byte());
    let (any_mac, made_up) = (input.one_in(2), input.one_in(2));
    let config = world::config(one_arm, input);
    let topology = world::topology(&config, any_mac, made_up);
    let mut fleet = Fleet::new(&config, topology, workers, seed)?;
    fleet.neighbours_answer = !input.one_in(4);
    for _ in 0..input.below(4) {
        restore(&mut fleet, commands::whole(input));
    }
    Some(fleet)
}

fn restore(fleet: &mut Fleet, stdin: String) {
    fleet.ask(vec!["-R".to_owned()], stdin, Format::Text);
}

fn step(fleet: &mut Fleet, input: &mut Input<'_>) {
    let worker = input.below(fleet.workers.len());
    match input.below(32) {
        0..=9 => receive(fleet, worker, input),
        10..=13 => answer(fleet, worker, input),
        14 | 15 => again(fleet, worker, input),
        16 => repeat(fleet, worker, input),
        17 | 18 => fleet.turn(worker),
        19 => drain(fleet),
        20 | 21 => {
            let argv = commands::command(input);
            let format = input.pick(&[Format::Text, Format::Data]);
            fleet.ask(argv, String::new(), format);
        }
        22 => restore(fleet, commands::whole(input)),
        23 => restore(fleet, commands::batch(input)),
        24 | 25 => fleet.wait(input.pick(&JUMPS)),
        26 => fleet.limit(worker, input.pick(&[usize::MAX, 0, 1, 33])),
        27 => fleet.pool.limit(input.pick(&[usize::MAX, 0, 1, 40])),
        28 => {
            fleet.ask(commands::sysctl(input), String::new(), Format::Text);
        }
        29 => fleet.control(),
        30 => fleet.share_counts(),
        _ => fleet.sweep(),
    }
}

fn port(input: &mut Input<'_>) -> PortId {
    PortId(u16::from(input.one_in(4)))
}

/// Lets a worker receive something new; often it turns at once.
fn receive(fleet: &mut Fleet, worker: usize, input: &mut Input<'_>) {
    let port = port(input);
    for bytes in packets::frames(input) {
        give(fleet, worker, port, &bytes, input);
    }
    if !input.one_in(4) {
        fleet.turn(worker);
    }
}

fn give(fleet: &mut Fleet, worker: usize, port: PortId, bytes: &[u8], input: &mut Input<'_>) {
    let hash = input.one_in(8).then(|| u32::from(input.word()));
    let flags = if hash.is_some() && input.one_in(4) {
        input.byte() & !LONG_WAY
    } else {
        0
    };
    fleet.give(worker, port, bytes, hash, RxFlags(flags));
}

/// Whoever got a frame answers it.
fn answer(fleet: &mut Fleet, worker: usize, input: &mut Input<'_>) {
    let back = input.below(4);
    let Some((port, frame)) = fleet.sent.iter().rev().nth(back).cloned() else {
        return;
    };
    if let Some(bytes) = packets::answer(&frame, input) {
        give(fleet, worker, port, &bytes, input);
        fleet.turn(worker);
    }
}

/// What came in last comes in again, by the same port and to whatever worker.
fn again(fleet: &mut Fleet, worker: usize, input: &mut Input<'_>) {
    if let Some((port, frame)) = fleet.last.clone() {
        give(fleet, worker, port, &frame, input);
        fleet.turn(worker);
    }
}

/// A frame that was sent comes in again, as it is or spoilt, by any port: a loop in the network.
fn repeat(fleet: &mut Fleet, worker: usize, input: &mut Input<'_>) {
    let (port, back) = (port(input), input.below(4));
    let Some((_, mut frame)) = fleet.sent.iter().rev().nth(back).cloned() else {
        return;
    };
    packets::spoil(&mut frame, input);
    for _ in 0..1 + input.below(40) {
        give(fleet, worker, port, &frame, input);
    }
}

/// Everybody turns until nothing is on its way: then nobody has what another has.
fn drain(fleet: &mut Fleet) {
    fleet.drain();
    let states = fleet.workers.iter().map(|worker| worker.state());
    check::owners(states, fleet.millis());
}

fn end(mut fleet: Fleet) {
    for worker in 0..fleet.workers.len() {
        fleet.limit(worker, usize::MAX);
    }
    fleet.pool.limit(usize::MAX);
    drain(&mut fleet);
    let cleared = fleet.ask(vec!["-C".to_owned()], String::new(), Format::Text);
    assert_eq!(cleared, 0, "-C");
    fleet.wait(SHORT);
    for _ in 0..4 {
        if fleet.is_empty() {
            break;
        }
        fleet.wait(LONGEST);
    }
    drain(&mut fleet);
    fleet.sweep();
    fleet.sweep();
    fleet.discard_punted();
    nothing_is_left(&fleet);
}

fn nothing_is_left(fleet: &Fleet) {
    for (worker, counters) in fleet.workers.iter().zip(&fleet.counters) {
        let (v4, v6) = (&worker.state().v4, &worker.state().v6);
        assert!(v4.is_empty(), "{:?}", v4.iter().next());
        assert!(v6.is_empty(), "{:?}", v6.iter().next());
        let held = counters.held.get();
        assert_eq!(held, counters.released.get(), "frames held and released");
        let made = counters.connections_made.get();
        assert_eq!(made, counters.connections_ended.get(), "connections");
    }
    assert_eq!(fleet.pool.live(), 0, "frames that nobody gave back");
    assert_eq!(fleet.engine.real_counts(), (0, 0), "slots of real servers");
    let blocks = fleet.engine.snapshot().blocks.iter();
    for (slot, block) in
        blocks.flat_map(|blocks| (0..).map_while(|n| Some((n, blocks.reals.get(n)?))))
    {
        let counts = [&block.active, &block.inactive, &block.persistent].map(|gauge| gauge.get());
        assert_eq!(counts, [0; 3], "counts of slot {slot}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_control_sends_is_waited_for() {
        let mut fleet = begin(&mut Input::new(&[])).expect("a fleet");
        for _ in 0..200 {
            fleet.send(PortId(0), &[0xff; 60]);
        }
        assert!(fleet.pool.live() > 100, "a worker takes 32 a turn");
        fleet.drain();
        assert_eq!(fleet.pool.live(), 0);
    }
}
