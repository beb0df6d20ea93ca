//! A bad cable: it loses some frames, delays all and so lets some overtake others.
//!
//! ```text
//!   br0 ---- near | relay | far ---- eth0 of the client
//! ```
//!
//! The kernel's own emulation of such cables is not on every test machine. Two TAPs and a
//! queue for each direction do; which frames suffer is the same in every run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::lab::Lab;
use crate::runner::Failure;

/// One frame of so many is lost.
const LOST_ONE_OF: u64 = 200;
/// The least that a frame takes.
const DELAY_MICROS: u64 = 1_000;
/// What it may take in addition: more than the time between two frames, so that some overtake.
const JITTER_MICROS: u64 = 1_000;
/// A frame with its Ethernet header.
const FRAME_MAX: usize = 1_514;

/// Frames under way, the next one due on top.
type Cable = BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>;

/// Puts the relay between the client and the bridge.
///
/// # Errors
///
/// What the system refused.
pub(crate) fn between(lab: &mut Lab, address: &str) -> Result<(), Failure> {
    let client = lab.client();
    before(lab, &client, ["near", "far"], address)
}

/// Puts a relay with ends of these names between a host with this address and the bridge.
///
/// # Errors
///
/// What the system refused.
pub(crate) fn before(
    lab: &mut Lab,
    host: &str,
    [near, far]: [&str; 2],
    address: &str,
) -> Result<(), Failure> {
    let director = lab.director();
    Lab::ip(host, "link del eth0")?;
    lab.start_peer(&director, &["relay", near, far])?;
    Lab::ip(&director, &format!("link set {near} master br0 up"))?;
    let moved = format!("link set {far} netns {host} name eth0");
    Lab::ip(&director, &moved)?;
    Lab::ip(host, &format!("addr add {address} dev eth0"))?;
    Lab::ip(host, "link set eth0 up")?;
    Ok(())
}

/// The relay's process: carries frames both ways until killed.
///
/// # Errors
///
/// The devices can't be made.
pub(crate) fn run(near: &str, far: &str, ready: fn() -> io::Result<()>) -> io::Result<()> {
    let (near, far) = (tap(near)?, tap(far)?);
    carry(near.clone(), far.clone(), 1);
    carry(far, near, 2);
    ready()?;
    loop {
        std::thread::park();
    }
}

fn tap(name: &str) -> io::Result<Arc<SyncDevice>> {
    let device = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L2)
        .build_sync()?;
    Ok(Arc::new(device))
}

/// Carries one direction's frames.
fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, seed: u64) {
    let (sender, receiver) = channel();
    std::thread::spawn(move || take_in(&from, &sender, seed));
    std::thread::spawn(move || give_out(&to, &receiver));
}

fn take_in(from: &SyncDevice, cable: &Sender<(Instant, u64, Vec<u8>)>, seed: u64) {
    let mut chance = seed;
    let mut buffer = [0; FRAME_MAX];
    for number in 0.. {
        // A device that is not up yet has nothing to give.
        let Ok(length) = from.recv(&mut buffer) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        chance = next(chance);
        if chance.is_multiple_of(LOST_ONE_OF) {
            continue;
        }
        let delay = DELAY_MICROS + (chance >> 32) % JITTER_MICROS;
        let due = Instant::now() + Duration::from_micros(delay);
        if cable
            .send((due, number, buffer[..length].to_vec()))
            .is_err()
        {
            return;
        }
    }
}

fn give_out(to: &SyncDevice, cable: &Receiver<(Instant, u64, Vec<u8>)>) {
    let mut under_way = Cable::new();
    loop {
        let wait = under_way.peek().map_or(Duration::from_secs(1), |first| {
            first.0.0.saturating_duration_since(Instant::now())
        });
        match cable.recv_timeout(wait) {
            Ok(frame) => under_way.push(Reverse(frame)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(Reverse((due, ..))) = under_way.peek()
            && *due <= Instant::now()
        {
            let Reverse((_, _, frame)) = under_way.pop().expect("it was there a line ago");
            // The device is up or not; what it doesn't take is lost, as on any cable.
            let _ = to.send(&frame);
        }
    }
}

/// The next of a row of numbers that looks random: Marsaglia's xorshift.
fn next(mut number: u64) -> u64 {
    number ^= number << 13;
    number ^= number >> 7;
    number ^ (number << 17)
}
