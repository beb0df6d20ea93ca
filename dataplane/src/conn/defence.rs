//! IPVS's defence against floods: `drop_entry` and `drop_packet`, always on or off (reference
//! B.12).
//!
//! `drop_entry` looks at a 32nd of the table a second, in order, where IPVS takes places at
//! random, and ends what a flood leaves behind: half-open connections, idle ones with few
//! packets, templates that no established connection vouches for. `drop_packet` lets every n-th
//! packet go that would open a connection.

use super::entry::{Entry, Flags};
use super::{sctp, tcp::State};
use crate::time::Millis;

/// A whole look at the table takes so long.
const ROUND_MS: u64 = 32_000;
/// A connection that was in use so lately stays.
const IDLE_MS: u32 = 60_000;
/// A connection with more packets stays; of those with n, every n-th goes.
const MOST_PACKETS: u16 = 8;

/// Where one table's sweep stands.
#[derive(Debug)]
pub struct Sweep {
    at: u32,
    since: Millis,
    /// Candidates of each number of packets still to be spared.
    spared: [u16; MOST_PACKETS as usize + 1],
}

impl Sweep {
    /// Begins now.
    pub fn new(now: Millis) -> Self {
        Self {
            at: 0,
            since: now,
            spared: [0; MOST_PACKETS as usize + 1],
        }
    }

    /// While it is off: no time to make up for.
    pub fn rest(&mut self, now: Millis) {
        self.since = now;
    }

    /// How many of `capacity` slots are due, at most `budget`.
    pub(super) fn due(&mut self, capacity: u32, now: Millis, budget: u32) -> u32 {
        let elapsed = u64::from(now.since(self.since)).min(ROUND_MS);
        let due = elapsed * u64::from(capacity) / ROUND_MS;
        let slots = u32::try_from(due).unwrap_or(u32::MAX).min(budget);
        let worth = u64::from(slots) * ROUND_MS / u64::from(capacity.max(1));
        let left = u32::try_from(elapsed - worth).unwrap_or(0);
        if slots > 0 {
            self.since = Millis(now.0.wrapping_sub(left));
        }
        slots
    }

    /// The next slot of `capacity`.
    pub(super) fn next(&mut self, capacity: u32) -> u32 {
        let slot = self.at.min(capacity - 1);
        self.at = if slot + 1 == capacity { 0 } else { slot + 1 };
        slot
    }

    /// Whether this entry is to go.
    pub(super) fn condemns<A: super::Address>(&mut self, entry: &Entry<A>, now: Millis) -> bool {
        if !entry.flags.has(Flags::LIVE) || entry.controls() > 0 {
            return false;
        }
        if entry.flags.has(Flags::TEMPLATE) {
            return !entry.flags.has(Flags::ASSURED);
        }
        match wire::Protocol(entry.protocol) {
            wire::Protocol::TCP => match State::ALL[usize::from(entry.state)] {
                State::SynRecv | State::SynAck => true,
                State::Established => self.condemns_idle(entry, now),
                _ => false,
            },
            wire::Protocol::SCTP => match sctp::State::of(entry.state) {
                sctp::State::Init1 | sctp::State::Init => true,
                sctp::State::Established => self.condemns_idle(entry, now),
                _ => false,
            },
            _ => self.condemns_idle(entry, now),
        }
    }

    fn condemns_idle<A>(&mut self, entry: &Entry<A>, now: Millis) -> bool {
        if now.since(entry.last_seen) < IDLE_MS || !(1..=MOST_PACKETS).contains(&entry.packets) {
            return false;
        }
        every(&mut self.spared[usize::from(entry.packets)], entry.packets)
    }
}

/// Counts to `n`, from the first on: whether this is the n-th since the last.
pub(crate) fn every(spared: &mut u16, n: u16) -> bool {
    *spared = spared.saturating_sub(1);
    let is_it = *spared == 0;
    if is_it {
        *spared = n;
    }
    is_it
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_then_every_third() {
        let mut spared = 0;
        let said: String = (0..8)
            .map(|_| if every(&mut spared, 3) { 'x' } else { '.' })
            .collect();
        assert_eq!(said, "x..x..x.");
    }

    #[test]
    fn a_round_takes_32_seconds_whatever_the_turns() {
        for (step_ms, budget) in [(1, 64), (7, 64), (1000, 4096), (40_000, u32::MAX)] {
            let mut now = Millis(u32::MAX - 5000);
            let mut sweep = Sweep::new(now);
            let mut looked = 0u64;
            for _ in 0..96_000u32.div_ceil(step_ms) {
                now = now.plus(step_ms);
                looked += u64::from(sweep.due(1000, now, budget));
            }
            assert!((2960..=3040).contains(&looked), "{step_ms} ms: {looked}");
        }
    }
}
