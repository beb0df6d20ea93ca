//! Frames that wait for a neighbour's MAC, and the neighbours that only packets asked for.
//!
//! Workers rewrite a frame whose next hop they don't know and leave it to control. It is kept
//! here until the neighbour answered, for a second at most, and all that is kept is bounded: a
//! flood towards addresses where nobody is costs little, and takes nothing from neighbours
//! that answer.

use std::collections::{HashMap, HashSet, VecDeque};

use wire::ethernet::Mac;

use crate::neigh::Instant;
use crate::topology::Neighbour;

/// How long a frame waits.
const PATIENCE_MS: u64 = 1_000;
/// Frames for one neighbour.
const PER_NEIGHBOUR: usize = 64;
/// Frames for all.
const FRAMES: usize = 1_024;
/// Neighbours that packets asked for.
const NEIGHBOURS: usize = 8_192;
/// Of these, how many may be unknown yet.
const UNKNOWN: usize = 1_024;

/// A frame that waits.
#[derive(Clone, Debug)]
struct Frame {
    bytes: Vec<u8>,
    until: Instant,
}

/// Frames that wait, and neighbours that packets asked for.
#[derive(Debug, Default)]
pub struct Waiting {
    frames: HashMap<Neighbour, VecDeque<Frame>>,
    count: usize,
    /// Neighbours that packets asked for, the oldest first.
    met: VecDeque<Neighbour>,
    is_met: HashSet<Neighbour>,
    unknown: HashSet<Neighbour>,
    lost: u64,
}

impl Waiting {
    /// Keeps a frame until `neighbour` is known; there may be no room.
    pub fn hold(&mut self, neighbour: Neighbour, frame: &[u8], now: Instant) {
        let queue = self.frames.get(&neighbour).map_or(0, VecDeque::len);
        if self.count >= FRAMES || queue >= PER_NEIGHBOUR {
            self.lost += 1;
            return;
        }
        let frame = Frame {
            bytes: frame.to_vec(),
            until: now + PATIENCE_MS,
        };
        self.frames.entry(neighbour).or_default().push_back(frame);
        self.count += 1;
    }

    /// The frames that waited for `neighbour`, which is at `mac`: addressed, in their order.
    pub fn release(&mut self, neighbour: &Neighbour, mac: Mac) -> Vec<Vec<u8>> {
        self.unknown.remove(neighbour);
        let queue = self.frames.remove(neighbour).unwrap_or_default();
        self.count -= queue.len();
        let address = |mut frame: Frame| {
            set_destination(&mut frame.bytes, mac);
            frame.bytes
        };
        queue.into_iter().map(address).collect()
    }

    /// Forgets the frames that have waited long enough.
    pub fn expire(&mut self, now: Instant) {
        let mut lost = 0;
        self.frames.retain(|_, queue| {
            while queue.front().is_some_and(|frame| frame.until <= now) {
                queue.pop_front();
                lost += 1;
            }
            !queue.is_empty()
        });
        self.count -= lost;
        self.lost += lost as u64;
    }

    /// A packet asks for a neighbour that nothing else names. `false`: there are too many
    /// that nobody has heard of yet, or it is known already. The one that has to make room, if
    /// any, is the oldest.
    pub fn meet(&mut self, neighbour: Neighbour) -> (bool, Option<Neighbour>) {
        if self.unknown.len() >= UNKNOWN || !self.is_met.insert(neighbour) {
            return (false, None);
        }
        self.unknown.insert(neighbour);
        self.met.push_back(neighbour);
        let gone = (self.met.len() > NEIGHBOURS).then(|| self.met.pop_front());
        let gone = gone.flatten();
        if let Some(gone) = &gone {
            self.is_met.remove(gone);
            self.unknown.remove(gone);
        }
        (true, gone)
    }

    /// Whether packets asked for this neighbour.
    pub fn has_met(&self, neighbour: &Neighbour) -> bool {
        self.is_met.contains(neighbour)
    }

    /// Forgets the neighbours that `is_gone`, and says which.
    pub fn forget(&mut self, is_gone: impl Fn(&Neighbour) -> bool) -> Vec<Neighbour> {
        let (gone, left) = self.met.drain(..).partition(|neighbour| is_gone(neighbour));
        self.met = left;
        let gone: VecDeque<Neighbour> = gone;
        for neighbour in &gone {
            self.is_met.remove(neighbour);
            self.unknown.remove(neighbour);
        }
        gone.into()
    }

    /// Frames that wait for `neighbour`.
    pub fn held(&self, neighbour: &Neighbour) -> usize {
        self.frames.get(neighbour).map_or(0, VecDeque::len)
    }

    /// Frames that waited in vain, or found no room to.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Addresses a frame; one without an Ethernet header stays as it is.
pub fn set_destination(frame: &mut [u8], mac: Mac) {
    if let Some(destination) = frame.first_chunk_mut() {
        *destination = mac.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::port::PortId;
    use std::net::{IpAddr, Ipv4Addr};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn neighbour(n: u32) -> Neighbour {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + n);
        (PortId(0), IpAddr::V4(address))
    }

    #[test]
    fn frames_leave_in_their_order_and_addressed() {
        let mut waiting = Waiting::default();
        for n in [1u8, 2] {
            waiting.hold(neighbour(1), &[n; 20], 0);
        }
        waiting.hold(neighbour(2), &[9; 20], 0);
        let sent = waiting.release(&neighbour(1), MAC);
        let want = |n: u8| [&MAC.0[..], &[n; 14]].concat();
        assert_eq!(sent, [want(1), want(2)]);
        assert_eq!(waiting.release(&neighbour(1), MAC), [[0u8; 0]; 0]);
        assert_eq!(waiting.lost(), 0);
    }

    #[test]
    fn they_wait_a_second_at_most() {
        let mut waiting = Waiting::default();
        waiting.hold(neighbour(1), &[1; 20], 0);
        waiting.hold(neighbour(1), &[2; 20], 500);
        waiting.expire(999);
        assert_eq!(waiting.lost(), 0);
        waiting.expire(1_000);
        assert_eq!(waiting.lost(), 1);
        assert_eq!(waiting.release(&neighbour(1), MAC).len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut waiting = Waiting::default();
        for _ in 0..100 {
            waiting.hold(neighbour(1), &[1; 20], 0);
        }
        assert_eq!(waiting.lost(), 36, "64 for one neighbour");
        for n in 0..2_000 {
            waiting.hold(neighbour(10 + n), &[1; 20], 0);
        }
        assert_eq!(waiting.lost(), 36 + 2_000 - (1_024 - 64), "1024 for all");
        waiting.expire(5_000);
        assert_eq!(waiting.lost(), 100 + 2_000);
        waiting.hold(neighbour(1), &[1; 20], 5_000);
        assert_eq!(waiting.release(&neighbour(1), MAC).len(), 1, "room again");
    }

    #[test]
    fn strangers_are_bounded_and_the_oldest_neighbour_makes_room() {
        let mut waiting = Waiting::default();
        for n in 0..1_024 {
            assert_eq!(waiting.meet(neighbour(n)), (true, None));
        }
        assert_eq!(waiting.meet(neighbour(5)), (false, None));
        assert_eq!(waiting.meet(neighbour(5_000)), (false, None), "too many");
        for n in 0..8_192 {
            waiting.meet(neighbour(n));
            waiting.release(&neighbour(n), MAC);
        }
        let next = waiting.meet(neighbour(9_000));
        assert_eq!(next, (true, Some(neighbour(0))));
        let gone = waiting.forget(|&who| who == neighbour(9_000));
        assert_eq!(gone, [neighbour(9_000)]);
        assert_eq!(waiting.meet(neighbour(9_000)), (true, None));
    }
}
