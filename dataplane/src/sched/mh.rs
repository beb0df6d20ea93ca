//! Maglev hashing (reference B.3): a table in which each real server takes free slots in an
//! order of its own, in turns by weight; a client's address picks the slot. Removing one
//! real server moves hardly any clients of the others.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Pool, fold_ip, gcd, siphash};

/// Both halves of the key for slots, offsets and clients.
const KEY: u64 = 2_654_435_761;
/// Both halves of the key for the step between a real server's slots.
const STEP_KEY: u64 = 2_654_446_892;
/// A slot that nobody has.
const FREE: u32 = u32::MAX;

/// How many slots: the primes among which a kernel is built with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Size(u8);

impl Size {
    /// Every size that there is.
    pub const SLOTS: [u32; 10] = [
        251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071,
    ];
    /// The kernel's default.
    pub const DEFAULT: Self = Self(4);

    /// The size of so many slots; `None` if there is no such size.
    pub fn of(slots: u32) -> Option<Self> {
        let at = Self::SLOTS.iter().position(|&size| size == slots)?;
        u8::try_from(at).ok().map(Self)
    }

    /// How many slots.
    pub fn slots(self) -> u32 {
        Self::SLOTS[usize::from(self.0)]
    }

    /// Bits of a weight that count; those below are shifted out.
    fn weight_bits(self) -> u32 {
        (u32::from(self.0) + 8) / 2
    }
}

/// A real server, as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// The last weight above 0, so that quiescing moves nobody; 0 if there never was one.
    pub(super) last_weight: u32,
}

/// What control prepares, anew after every change: 4 octets a slot, shared by all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mh {
    /// Places in the list; empty if nobody ever had a weight.
    slots: Arc<[u32]>,
}

impl Mh {
    /// Fills the table for these real servers, newest first.
    pub(super) fn of(members: &[Member], size: Size) -> Self {
        let mut all = contenders(members, size);
        let mut slots = Vec::new();
        if !all.is_empty() {
            slots.resize(size.slots() as usize, FREE);
            fill(&mut slots, &mut all, size.slots());
        }
        Self {
            slots: slots.into(),
        }
    }

    /// The real server of a client; `word` is its address, plus its port with `mh-port`.
    pub(super) fn pick(&self, pool: &Pool<'_>, word: u32, fallback: bool) -> Option<usize> {
        let home = self.slot(word)?;
        let first = self.holder(home);
        if pool.is_available(first) {
            return Some(first);
        }
        let other = fallback.then(|| self.other(pool, word, home));
        Some(self.holder(other.flatten()?))
    }

    /// How many slots there are.
    pub(super) fn count(&self) -> Option<u32> {
        u32::try_from(self.slots.len()).ok().filter(|&n| n > 0)
    }

    /// The slot that a client's word leads to.
    #[inline]
    pub(super) fn slot(&self, word: u32) -> Option<u32> {
        Some(siphash::hash(KEY, word) % self.count()?)
    }

    /// Who has a slot.
    #[inline]
    pub(super) fn holder(&self, slot: u32) -> usize {
        self.slots[slot as usize] as usize
    }

    /// The slot that stands in for `home`, to which `word` leads and whose real server is not
    /// available.
    pub(super) fn other(&self, pool: &Pool<'_>, word: u32, home: u32) -> Option<u32> {
        let count = self.count()?;
        if !(0..pool.len()).any(|at| pool.is_available(at)) {
            return None;
        }
        (0..count)
            .filter_map(|offset| self.slot(word.wrapping_add((home + offset) % count)))
            .find(|&slot| pool.is_available(self.holder(slot)))
    }

    /// Octets of the table.
    pub(super) fn octets(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

/// A real server that still looks for slots.
#[derive(Debug)]
struct Contender {
    /// Its place in the list.
    at: u32,
    /// The slot it tries next, and how far on the one after is.
    next: u32,
    step: u32,
    /// Slots it takes before the next one's turn.
    turns: u32,
}

/// Those that ever had a weight, each with its permutation and its turns.
fn contenders(members: &[Member], size: Size) -> Vec<Contender> {
    let weights = || members.iter().map(|member| member.last_weight);
    let divisor = weights().fold(0, gcd).max(1);
    let largest = weights().max().unwrap_or(0) / divisor;
    let bits = u32::BITS - largest.leading_zeros();
    let shift = bits.saturating_sub(size.weight_bits());
    let slots = size.slots();
    let contender = |(at, member): (u32, &Member)| {
        let word = fold_ip(member.address).wrapping_add(u32::from(member.port));
        Contender {
            at,
            next: siphash::hash(KEY, word) % slots,
            step: siphash::hash(STEP_KEY, word) % (slots - 1) + 1,
            turns: ((member.last_weight / divisor) >> shift).max(1),
        }
    };
    let weighty = (0u32..)
        .zip(members)
        .filter(|(_, member)| member.last_weight > 0);
    weighty.map(contender).collect()
}

/// Deals out the slots until none is left. As the number of slots is a prime, every
/// permutation visits them all, so each search ends.
fn fill(slots: &mut [u32], all: &mut [Contender], count: u32) {
    let mut left = count;
    loop {
        for contender in &mut *all {
            for _ in 0..contender.turns {
                if left == 0 {
                    return;
                }
                while slots[contender.next as usize] != FREE {
                    contender.next += contender.step;
                    if contender.next >= count {
                        contender.next -= count;
                    }
                }
                slots[contender.next as usize] = contender.at;
                left -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::Kind;
    use crate::sched::testing::{FALLBACK, Letters, PORT, address};

    fn member(letter: u8, last_weight: u32) -> Member {
        Member {
            address: address(letter),
            port: 80,
            last_weight,
        }
    }

    fn newest_first() -> [Member; 3] {
        [member(2, 1), member(1, 2), member(0, 1)]
    }

    #[test]
    fn parameters() {
        let all = contenders(&newest_first(), Size::DEFAULT);
        let seen: Vec<_> = all.iter().map(|c| (c.next, c.step, c.turns)).collect();
        assert_eq!(seen, [(2424, 45, 1), (2769, 572, 2), (310, 1461, 1)]);
        assert_eq!(siphash::hash(KEY, 0xC000_0201) % 4093, 2891);
    }

    #[test]
    fn the_table() {
        let table = Mh::of(&newest_first(), Size::DEFAULT);
        let letters: String = table
            .slots
            .iter()
            .map(|&at| ['C', 'B', 'A'][at as usize])
            .collect();
        assert_eq!(&letters[..40], "CBCBCBCBBABACACBCABBBBBBAACBABBBBBBBBACA");
        let count = |letter| letters.chars().filter(|&c| c == letter).count();
        assert_eq!([count('A'), count('B'), count('C')], [1023, 2046, 1024]);
        assert_eq!(table.octets(), 4 * 4093);
    }

    #[test]
    fn sequences() {
        assert_eq!(Letters::new(Kind::Mh, &[1, 2, 1]).by_source(), "abcbbbba");
        let mut by_port = Letters::with(Kind::Mh, PORT, &[1, 2, 1]);
        assert_eq!(by_port.by_source(), "caabcbab");
        assert_eq!(Letters::new(Kind::Mh, &[]).by_source(), "--------");
        assert_eq!(Letters::new(Kind::Mh, &[0, 0]).by_source(), "--------");
    }

    #[test]
    fn quiescing_moves_nobody_else() {
        let mut letters = Letters::new(Kind::Mh, &[1, 2, 1]);
        letters.set_weight(b'b', 0);
        assert_eq!(letters.by_source(), "a-c----a");
        letters.set_weight(b'b', 2);
        assert_eq!(letters.by_source(), "abcbbbba");
        let mut letters = Letters::with(Kind::Mh, FALLBACK, &[1, 2, 1]);
        letters.set_weight(b'b', 0);
        assert_eq!(letters.by_source(), "aaccacaa");
    }

    #[test]
    fn a_weight_counts_by_its_upper_bits() {
        let turns = |weights: &[u32]| {
            let members: Vec<_> = (0..).zip(weights).map(|(n, &w)| member(n, w)).collect();
            let all = contenders(&members, Size::DEFAULT);
            all.iter().map(|c| c.turns).collect::<Vec<_>>()
        };
        assert_eq!(turns(&[10, 30]), [1, 3]);
        assert_eq!(turns(&[1, 64]), [1, 32], "64 has 7 bits");
        assert_eq!(turns(&[1, 65535]), [1, 63]);
        assert_eq!(turns(&[0, 5]), [1], "who never had a weight gets nothing");
    }

    #[test]
    fn every_size_is_full_and_fair() {
        for slots in Size::SLOTS {
            let members: Vec<_> = (0..10).map(|n| member(n, 1)).collect();
            let table = Mh::of(&members, Size::of(slots).expect("listed"));
            for at in 0..10 {
                let got = table.slots.iter().filter(|&&slot| slot == at).count();
                assert!(
                    got.abs_diff(slots as usize / 10) <= 1,
                    "{at} of {slots}: {got}"
                );
            }
        }
        assert_eq!(Size::of(4096), None);
    }
}
