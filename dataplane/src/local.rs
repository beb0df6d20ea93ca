//! FULLNAT's local addresses and ports: whom the real server thinks it talks to.
//!
//! ```text
//!   towards the real   LIP:lport > RIP:rport
//!   its reply          RIP:rport > LIP:lport    must hash to the worker that owns the connection
//! ```
//!
//! The Toeplitz hash is linear, so the entry of the redirection table that the reply leads to
//! is `entry(RIP:rport > LIP:0) ^ delta(lport)`. For each delta one port is kept that makes it,
//! and all the ports that make none (the kernel of the map): together they name each port that
//! leads to a wanted entry, by arithmetic alone. Nothing is searched but what is taken.
//!
//! The same local port serves towards different reals. That no two connections share one is a
//! question to the owner's own table, for replies reach nobody else.

use std::net::IpAddr;
use std::sync::Arc;

use crate::conn::{Address, Key};
use crate::owner::{Fields, Steering};
use crate::port::WorkerId;

/// The lowest port used; the highest is 65535 (reference C.2).
pub const FIRST_PORT: u16 = 1025;
/// The most local addresses that one connection tries (reference C.2).
pub const MAX_ADDRESSES: usize = 16;
/// The most ports that one connection tries, over all its local addresses.
pub const MAX_TRIES: u32 = 128;
/// How often an address is passed over, in 2^-32: about 5 % (reference C.2), so that addresses
/// and real servers in rotation do not keep the same company. One in 20.618, a noble number:
/// were it 20, then of 21 addresses always the same one would be passed over.
const SKIP: u64 = 208_311_195;

/// A service's local addresses, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalAddresses {
    /// IPv4, in host order.
    pub v4: Arc<[u32]>,
    /// IPv6, in host order.
    pub v6: Arc<[u128]>,
}

impl FromIterator<IpAddr> for LocalAddresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address.to_bits()),
                IpAddr::V6(address) => v6.push(address.to_bits()),
            }
        }
        Self {
            v4: v4.into(),
            v6: v6.into(),
        }
    }
}

/// What is hashed of a reply by the port towards the real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyHash {
    /// Both addresses, both ports.
    #[default]
    Tuple,
    /// The destination's address and port only (`steering = "client"`).
    Destination,
}

impl ReplyHash {
    /// The worker that a reply with tuple `reply` belongs to.
    #[inline]
    pub fn owner<A: Address>(self, steering: &Steering, reply: &Key<A>) -> WorkerId {
        match self {
            Self::Tuple => steering.owner(Fields::Tuple, reply),
            Self::Destination => steering.owner(Fields::Client, &reply.reversed()),
        }
    }

    #[inline]
    fn hash<A: Address>(self, steering: &Steering, reply: &Key<A>) -> u32 {
        match self {
            Self::Tuple => steering.hash(Fields::Tuple, reply),
            Self::Destination => steering.hash(Fields::Client, &reply.reversed()),
        }
    }

    /// Where the local port stands in the input.
    fn port_at(self, address_len: usize) -> usize {
        match self {
            Self::Tuple => 2 * address_len + 2,
            Self::Destination => address_len,
        }
    }
}

/// Chooses one worker's local ports. It never changes: what moves on is the caller's `turn`.
#[derive(Debug)]
pub struct LocalPorts {
    steering: Arc<Steering>,
    hash: ReplyHash,
    /// The worker's entries of the redirection table.
    entries: Box<[u16]>,
    v4: Map,
    v6: Map,
    /// Where the rotation begins.
    start: u32,
}

impl LocalPorts {
    /// The ports of worker `me`; equal seeds give equal choices.
    pub fn new(steering: Arc<Steering>, me: WorkerId, hash: ReplyHash, seed: u64) -> Self {
        let mut generator = seed ^ u64::from(me.0) << 48;
        let table = (0u16..).zip(steering.table());
        Self {
            hash,
            entries: table
                .filter(|&(_, &worker)| worker == me.0)
                .map(|(entry, _)| entry)
                .collect(),
            v4: Map::new(&steering, hash.port_at(size_of::<u32>())),
            v6: Map::new(&steering, hash.port_at(size_of::<u128>())),
            start: (crate::owner::splitmix(&mut generator) >> 32) as u32,
            steering,
        }
    }

    /// What is hashed of replies.
    pub fn reply_hash(&self) -> ReplyHash {
        self.hash
    }

    /// A local address of `addresses` and a port of it towards `real`, such that the reply is
    /// this worker's and `is_free` says yes to its tuple; `None` if there is none among those
    /// tried, at most [`MAX_ADDRESSES`] addresses and [`MAX_TRIES`] ports.
    ///
    /// Addresses take turns: `turn` is the service's count on this worker, from any value on.
    pub fn choose<A: Address>(
        &self,
        addresses: &[A],
        turn: &mut u32,
        real: (A, u16),
        protocol: u8,
        mut is_free: impl FnMut(&Key<A>) -> bool,
    ) -> Option<(A, u16)> {
        let (from, round) = stand(*turn, addresses.len())?;
        *turn = turn.wrapping_add(1);
        let visits = addresses.len().min(MAX_ADDRESSES);
        let tries = MAX_TRIES / u32::try_from(visits).expect("at most 16");
        let in_turn = addresses[from..].iter().chain(&addresses[..from]);
        for &address in in_turn.take(visits) {
            let mut reply = Key {
                source: real.0,
                destination: address,
                source_port: real.1,
                destination_port: 0,
                protocol,
            };
            if self.search(&mut reply, round, tries, &mut is_free) {
                return Some((address, reply.destination_port));
            }
        }
        None
    }

    /// The tuple that [`choose`](Self::choose) would ask for first at this `turn`; `None` where
    /// there are no addresses, or where the first port is none that is used.
    pub fn first<A: Address>(
        &self,
        addresses: &[A],
        turn: u32,
        real: (A, u16),
        protocol: u8,
    ) -> Option<Key<A>> {
        let (at, round) = stand(turn, addresses.len())?;
        let mut reply = Key {
            source: real.0,
            destination: addresses[at],
            source_port: real.1,
            destination_port: 0,
            protocol,
        };
        let found = self.search(&mut reply, round, 1, |_| true);
        found.then_some(reply)
    }

    /// Puts a free port into `reply`, if one is found within `tries`.
    ///
    /// The first try takes the ports in rotation, so that one that was given back rests for as
    /// long as possible. The others leap by the golden section, out of whatever crowd the
    /// rotation has run into.
    fn search<A: Address>(
        &self,
        reply: &mut Key<A>,
        round: u32,
        tries: u32,
        mut is_free: impl FnMut(&Key<A>) -> bool,
    ) -> bool {
        let map = if size_of::<A>() == size_of::<u32>() {
            &self.v4
        } else {
            &self.v6
        };
        let base = self.steering.entry(self.hash.hash(&self.steering, reply));
        let count = map.neutral.len() * self.entries.len();
        let leap = count * 618 / 1000;
        let mut at = self.start.wrapping_add(round) as usize % count;
        for _ in 0..tries {
            reply.destination_port = self.candidate(map, base, at);
            if reply.destination_port >= FIRST_PORT && is_free(reply) {
                return true;
            }
            at += leap;
            if at >= count {
                at -= count;
            }
        }
        false
    }

    /// The port at place `at` among those that lead from `base` to one of our entries.
    #[inline]
    fn candidate(&self, map: &Map, base: usize, at: usize) -> u16 {
        let (entry, neutral) = (at / map.neutral.len(), at % map.neutral.len());
        map.making[base ^ usize::from(self.entries[entry])] ^ map.neutral[neutral]
    }
}

/// What ports do to the entry of the redirection table, for one family.
#[derive(Debug)]
struct Map {
    /// By difference: a port that makes it.
    making: Box<[u16]>,
    /// The ports that make no difference; 65536 divided by the entries.
    neutral: Box<[u16]>,
}

impl Map {
    /// Where the port stands `at` octets into the input.
    fn new(steering: &Steering, at: usize) -> Self {
        let deltas = deltas(|port| steering.entry(steering.toeplitz().port(at, port)));
        let by_port = || (0..=u16::MAX).zip(&deltas);
        let mut making = vec![0; steering.table().len()];
        for (port, &delta) in by_port().rev() {
            making[delta] = port;
        }
        let neutral = by_port().filter(|&(_, &delta)| delta == 0);
        Self {
            making: making.into(),
            neutral: neutral.map(|(port, _)| port).collect(),
        }
    }
}

/// What each port does to the entry: linear, so what each bit does says it all.
fn deltas(delta: impl Fn(u16) -> usize) -> Vec<usize> {
    let mut all = Vec::with_capacity(1 << u16::BITS);
    all.push(0);
    for bit in 0..u16::BITS {
        let made = delta(1 << bit);
        all.extend_from_within(..);
        let (_, upper) = all.split_at_mut(1 << bit);
        upper.iter_mut().for_each(|entry| *entry ^= made);
    }
    all
}

/// Where the rotation over so many addresses stands after `turn` connections, and how often it
/// was over them all; `None` if there are none.
fn stand(turn: u32, addresses: usize) -> Option<(usize, u32)> {
    let count = u32::try_from(addresses).ok().filter(|&n| n > 0)?;
    let position = position(turn);
    Some(((position % count) as usize, position / count))
}

/// The steps of the rotation over the addresses in `turn` connections.
fn position(turn: u32) -> u32 {
    let passed_over = (u64::from(turn) * SKIP) >> 32;
    turn.wrapping_add(passed_over as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const REAL: (u32, u16) = (0x0a01_000b, 8080);

    fn ports(workers: u16, me: u16, hash: ReplyHash) -> LocalPorts {
        let steering = Steering::seeded(3, 512, workers).expect("sound");
        LocalPorts::new(Arc::new(steering), WorkerId(me), hash, 99)
    }

    /// Local addresses 10.1.0.250 and following.
    fn addresses(count: u32) -> Vec<u32> {
        (0..count).map(|n| 0x0a01_00fa + n).collect()
    }

    fn reply(local: (u32, u16)) -> Key<u32> {
        Key {
            source: REAL.0,
            destination: local.0,
            source_port: REAL.1,
            destination_port: local.1,
            protocol: 6,
        }
    }

    /// Every port that `ports` gives out towards [`REAL`] in two rounds, each checked.
    fn all_ports(ports: &LocalPorts, me: WorkerId) -> HashSet<u16> {
        let (addresses, mut turn) = (addresses(1), 0);
        let mut used = vec![false; 65_536];
        for _ in 0..2 * 65_536 / u32::from(ports.steering.workers()) {
            let got = ports.choose(&addresses, &mut turn, REAL, 6, |key| {
                !used[usize::from(key.destination_port)]
            });
            let Some(local) = got else { continue };
            assert_eq!(local.0, addresses[0]);
            assert!(local.1 >= FIRST_PORT);
            let owner = ports.hash.owner(&ports.steering, &reply(local));
            assert_eq!(owner, me);
            assert!(!std::mem::replace(&mut used[usize::from(local.1)], true));
        }
        (0..=u16::MAX)
            .filter(|&port| used[usize::from(port)])
            .collect()
    }

    #[test]
    fn each_port_is_one_workers_and_given_once() {
        for (hash, workers) in [(ReplyHash::Tuple, 3), (ReplyHash::Destination, 16)] {
            let mut all = HashSet::new();
            for me in 0..workers {
                let got = all_ports(&ports(workers, me, hash), WorkerId(me));
                let share = 64_511 / usize::from(workers);
                let even = share * 95 / 100..=share * 105 / 100;
                assert!(even.contains(&got.len()), "{} of {share}", got.len());
                all.extend(got);
            }
            assert_eq!(all.len(), 64_511, "each port is somebody's");
        }
    }

    /// The addresses of the first `n` connections, from 0.
    fn turns(count: u32, n: u32) -> Vec<u32> {
        let ports = ports(2, 0, ReplyHash::Tuple);
        let (addresses, mut turn) = (addresses(count), 0);
        (0..n)
            .map(|_| {
                let local = ports.choose(&addresses, &mut turn, REAL, 6, |_| true);
                local.expect("all is free").0 - addresses[0]
            })
            .collect()
    }

    #[test]
    fn addresses_take_turns_and_one_in_twenty_is_passed_over() {
        let turns = turns(3, 24);
        assert_eq!(turns[..6], [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns[18..24], [0, 1, 2, 1, 2, 0], "0 is passed over");
    }

    #[test]
    fn every_address_gets_its_share() {
        for count in 1..=23 {
            let mut shares = vec![0u32; count as usize];
            for address in turns(count, 1000 * count) {
                shares[address as usize] += 1;
            }
            assert!(shares.iter().all(|n| (980..1020).contains(n)), "{shares:?}");
        }
    }

    #[test]
    fn two_reals_in_rotation_meet_both_addresses() {
        let with_first: u32 = turns(2, 10_000).iter().step_by(2).sum();
        assert!((2400..2600).contains(&with_first), "{with_first}");
    }

    #[test]
    fn a_port_that_was_given_back_rests() {
        let ports = ports(2, 1, ReplyHash::Tuple);
        let (addresses, mut turn) = (addresses(1), 0);
        let mut seen = HashSet::new();
        for _ in 0..30_000 {
            let local = ports.choose(&addresses, &mut turn, REAL, 6, |_| true);
            seen.insert(local.expect("all is free"));
        }
        // Where the rotation is below port 1025 (1.6 %), another one steps in.
        assert!(seen.len() > 29_400, "{}", seen.len());
    }

    #[test]
    fn a_full_address_leaves_it_to_the_next() {
        let ports = ports(4, 2, ReplyHash::Tuple);
        let (addresses, mut turn) = (addresses(20), 0);
        let only_last = |key: &Key<u32>| key.destination == addresses[15];
        let local = ports.choose(&addresses, &mut turn, REAL, 6, only_last);
        assert_eq!(local.expect("the 16th is tried").0, addresses[15]);
        turn = 0;
        let only_17th = |key: &Key<u32>| key.destination == addresses[16];
        let local = ports.choose(&addresses, &mut turn, REAL, 6, only_17th);
        assert_eq!(local, None, "the 17th is not");
    }

    #[test]
    fn work_is_bounded_and_no_address_is_no_port() {
        let ports = ports(2, 0, ReplyHash::Tuple);
        for count in [1, 3, 16, 1000] {
            let mut tries = 0;
            let full = |_: &Key<u32>| {
                tries += 1;
                false
            };
            let local = ports.choose(&addresses(count), &mut 5, REAL, 6, full);
            assert_eq!(local, None);
            assert!(tries <= MAX_TRIES, "{tries}");
        }
        assert_eq!(ports.choose(&[], &mut 0, REAL, 6, |_| true), None);
    }

    #[test]
    fn what_is_asked_for_first_is_foreseen() {
        let ports = ports(3, 1, ReplyHash::Tuple);
        for count in [1, 3, 40] {
            let (addresses, mut turn, mut foreseen) = (addresses(count), 7, 0);
            for _ in 0..1000 {
                let expected = ports.first(&addresses, turn, REAL, 6);
                let mut asked = None;
                ports.choose(&addresses, &mut turn, REAL, 6, |reply| {
                    asked.get_or_insert(*reply);
                    true
                });
                if expected.is_some() {
                    assert_eq!(expected, asked);
                    foreseen += 1;
                }
            }
            // But where the rotation is below port 1025 (1.6 %).
            assert!(foreseen > 950, "{foreseen}");
        }
        assert_eq!(ports.first(&[], 7, REAL, 6), None);
    }

    #[test]
    fn a_nearly_full_address_still_gives_ports() {
        let ports = ports(2, 0, ReplyHash::Tuple);
        let (addresses, mut turn) = (addresses(1), 0);
        // Nine of ten are taken, in one block of the rotation and so as badly as can be.
        let mut tries = 0u32;
        for _ in 0..1000 {
            let local = ports.choose(&addresses, &mut turn, REAL, 6, |key| {
                tries += 1;
                key.destination_port > 59_000
            });
            assert!(local.is_some());
        }
        assert!(tries < 20_000, "{tries}");
    }

    #[test]
    fn equal_seeds_choose_equally() {
        let choose = |seed| {
            let steering = Arc::new(Steering::seeded(3, 512, 2).expect("sound"));
            let ports = LocalPorts::new(steering, WorkerId(0), ReplyHash::Tuple, seed);
            ports.choose(&addresses(2), &mut 0, REAL, 6, |_| true)
        };
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
    }

    #[test]
    fn addresses_by_family() {
        let all: LocalAddresses = ["10.1.0.250", "2001:db8::1", "10.1.0.251"]
            .map(|text| text.parse().expect("an address"))
            .into_iter()
            .collect();
        assert_eq!(*all.v4, [0x0a01_00fa, 0x0a01_00fb]);
        assert_eq!(*all.v6, [0x2001_0db8_0000_0000_0000_0000_0000_0001]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_reply_is_its_owners(
            seed: u64, workers in 1u16..=16, me in 0u16..16, real: u128, rport: u16,
            address: u128, turn: u32, taken: u16, by_destination: bool,
        ) {
            let me = WorkerId(me % workers);
            let hash = if by_destination { ReplyHash::Destination } else { ReplyHash::Tuple };
            let steering = Arc::new(Steering::seeded(seed, 512, workers).expect("sound"));
            let ports = LocalPorts::new(steering.clone(), me, hash, seed);
            let mut turn = turn;
            for _ in 0..50 {
                let local = ports.choose(&[address], &mut turn, (real, rport), 17, |key| {
                    hash.owner(&steering, key) == me && key.destination_port != taken
                });
                let (local, port) = local.expect("hardly any is taken");
                prop_assert_eq!(local, address);
                prop_assert!(port >= FIRST_PORT && port != taken);
            }
        }
    }
}
