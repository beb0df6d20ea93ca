//! Who owns a connection: `owner = table[Toeplitz(fields)]`, computed and never observed.
//!
//! One random key and one table serve every port and every worker. A device that was given the
//! same two saves hand-overs; one without receive-side scaling costs only speed.
//!
//! Which fields of the client's packet are hashed belongs to the service ([`Fields`]); what
//! happens while they change is in [`Owners`].

mod list;
mod toeplitz;

pub use list::{
    FieldsSlot, MAX_FIELDS, MAX_WORKERS, Next, Owners, Step, Stops, TooManyFields, next_stop,
};
pub use toeplitz::{KEY_LEN, Toeplitz};

use crate::conn::{Address, Key};
use crate::port::WorkerId;

/// What of the client's packet is hashed. The input is the fields one after the other, as a
/// device builds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fields {
    /// Both addresses, both ports.
    Tuple,
    /// The client's address and port: both directions of a NAT connection carry them.
    Client,
    /// The client's address under this mask (IPv4: the lower 32 bits): a persistence template
    /// lives on one worker.
    ClientNetwork(u128),
    /// The destination address: what lblc and lblcr remember lives on one worker.
    Destination,
    /// Both addresses: where fragments are gathered, and what devices hash of them.
    Addresses,
}

/// What decides over a service's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traits {
    /// The mask of a persistent service, as in [`Fields::ClientNetwork`].
    pub persistence: Option<u128>,
    /// Its scheduler remembers destinations: lblc, lblcr.
    pub by_destination: bool,
    /// It has a NAT real.
    pub nat: bool,
    /// It is found by a firewall mark.
    pub mark: bool,
}

impl Fields {
    /// The fields of a service with these traits.
    ///
    /// A reply from a NAT real tells neither the service nor the virtual address. The address
    /// is known all the same from the service that the real belongs to, except for a mark:
    /// there lblc's memory is per worker.
    pub fn of(traits: Traits) -> Self {
        match traits {
            Traits {
                persistence: Some(mask),
                ..
            } => Self::ClientNetwork(mask),
            Traits {
                by_destination: true,
                nat,
                mark,
                ..
            } if !(nat && mark) => Self::Destination,
            Traits { nat: true, .. } => Self::Client,
            _ => Self::Tuple,
        }
    }
}

/// Why there can be no steering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteeringError {
    /// The table's length is out of range.
    #[error("a redirection table of {0} entries: it may have 64, 128, ... 4096")]
    Entries(usize),
    /// More workers than entries, or none.
    #[error("{workers} workers for a redirection table of {entries} entries")]
    Workers {
        /// Workers asked for.
        workers: u16,
        /// Entries of the table.
        entries: usize,
    },
    /// Some entry can't be reached by choosing a port alone: not every random key is good
    /// enough. [`Steering::seeded`] finds one that is.
    #[error("under this Toeplitz key a port does not reach every entry of the table")]
    WeakKey,
}

/// The one function that says who owns what.
#[derive(Debug)]
pub struct Steering {
    toeplitz: Toeplitz,
    key: [u8; KEY_LEN],
    table: Box<[u16]>,
    workers: u16,
}

/// Entries after which the table repeats itself, so that a device with a shorter table agrees.
const PERIOD: usize = MAX_WORKERS;

impl Steering {
    /// Spreads over `workers` workers, round-robin, by a table of `entries` entries (a power of
    /// two, 64..=4096).
    ///
    /// # Errors
    /// See [`SteeringError`].
    pub fn new(key: [u8; KEY_LEN], entries: usize, workers: u16) -> Result<Self, SteeringError> {
        if !entries.is_power_of_two() || !(64..=4096).contains(&entries) {
            return Err(SteeringError::Entries(entries));
        }
        if workers == 0 || usize::from(workers) > entries.min(PERIOD) {
            return Err(SteeringError::Workers { workers, entries });
        }
        let toeplitz = Toeplitz::new(&key);
        if is_weak(&toeplitz, entries) {
            return Err(SteeringError::WeakKey);
        }
        let period = (0..workers).cycle().take(PERIOD);
        let table: Vec<u16> = period.collect();
        Ok(Self {
            toeplitz,
            key,
            table: table.into_iter().cycle().take(entries).collect(),
            workers,
        })
    }

    /// As [`Steering::new`], with the key that belongs to `seed`.
    ///
    /// # Errors
    /// As for [`Steering::new`], but the key is never weak.
    pub fn seeded(seed: u64, entries: usize, workers: u16) -> Result<Self, SteeringError> {
        let mut generator = seed;
        loop {
            match Self::new(random_key(&mut generator), entries, workers) {
                Err(SteeringError::WeakKey) => {}
                done => return done,
            }
        }
    }

    /// The worker that owns the connection of the client's packet `key`.
    #[inline]
    pub fn owner<A: Address>(&self, fields: Fields, key: &Key<A>) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        self.owner_of_hash(self.hash(fields, key))
    }

    /// The worker that a hash belongs to: a device's, where that is proven to be ours.
    #[inline]
    pub fn owner_of_hash(&self, hash: u32) -> WorkerId {
        WorkerId(self.table[self.entry(hash)])
    }

    /// The hash of these fields of the client's packet.
    #[inline]
    pub fn hash<A: Address>(&self, fields: Fields, key: &Key<A>) -> u32 {
        let (len, toeplitz) = (size_of::<A>(), &self.toeplitz);
        match fields {
            Fields::Tuple => {
                toeplitz.address(0, key.source)
                    ^ toeplitz.address(len, key.destination)
                    ^ toeplitz.port(2 * len, key.source_port)
                    ^ toeplitz.port(2 * len + 2, key.destination_port)
            }
            Fields::Client => toeplitz.address(0, key.source) ^ toeplitz.port(len, key.source_port),
            Fields::ClientNetwork(mask) => {
                let ([low, high], [low_mask, high_mask]) = (key.source.words(), mask.words());
                toeplitz.words::<A>(0, [low & low_mask, high & high_mask])
            }
            Fields::Destination => toeplitz.address(0, key.destination),
            Fields::Addresses => {
                toeplitz.address(0, key.source) ^ toeplitz.address(len, key.destination)
            }
        }
    }

    /// Workers that it spreads over.
    pub fn workers(&self) -> u16 {
        self.workers
    }

    /// The key, for devices.
    pub fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// The worker of each hash value modulo the table's length, for devices. A device's table
    /// may have any multiple of 128 entries, or 64 where the workers are a power of two.
    pub fn table(&self) -> &[u16] {
        &self.table
    }

    pub(crate) fn toeplitz(&self) -> &Toeplitz {
        &self.toeplitz
    }

    /// The entry that a hash leads to.
    #[inline]
    pub(crate) fn entry(&self, hash: u32) -> usize {
        hash as usize & (self.table.len() - 1)
    }
}

/// Whether some entry can't be reached by a port alone, at any place where one is hashed.
fn is_weak(toeplitz: &Toeplitz, entries: usize) -> bool {
    let bits = entries.trailing_zeros();
    PORT_PLACES
        .iter()
        .any(|&at| rank(toeplitz, at, entries - 1) < bits)
}

/// Where ports stand in an input: alone after one address, or both after two.
const PORT_PLACES: [usize; 6] = [4, 16, 8, 10, 32, 34];

/// The dimension of what the 16 bits of a port at `at` can add to a hash under `mask`.
fn rank(toeplitz: &Toeplitz, at: usize, mask: usize) -> u32 {
    let columns = (0..16).map(|bit| toeplitz.port(at, 1 << bit) as usize & mask);
    let mut basis = [0usize; 32];
    let mut rank = 0;
    for mut column in columns {
        while column != 0 {
            let top = column.ilog2() as usize;
            if basis[top] == 0 {
                basis[top] = column;
                rank += 1;
            }
            column ^= basis[top];
        }
    }
    rank
}

fn random_key(generator: &mut u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    for octets in key.chunks_exact_mut(8) {
        octets.copy_from_slice(&splitmix(generator).to_be_bytes());
    }
    key
}

/// The next number of SplitMix64 (Steele, Lea, Flood 2014): the same everywhere.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::toeplitz::tests::SUITE;
    use super::*;

    fn flow(n: u32) -> Key<u32> {
        Key {
            source: 0xc000_0200 + n / 1000,
            destination: 0x0a00_0001,
            source_port: u16::try_from(1025 + n % 1000).expect("small"),
            destination_port: 80,
            protocol: 6,
        }
    }

    #[test]
    #[rustfmt::skip]
    fn fields_of_a_service() {
        let none = Traits::default();
        let cases = [
            ("DR, TUN, FULLNAT",              none,                                                        Fields::Tuple),
            ("a NAT real",                    Traits { nat: true, ..none },                                Fields::Client),
            ("persistent, NAT or not",        Traits { persistence: Some(7), nat: true, ..none },          Fields::ClientNetwork(7)),
            ("persistence before lblc",       Traits { persistence: Some(7), by_destination: true, ..none }, Fields::ClientNetwork(7)),
            ("lblc",                          Traits { by_destination: true, ..none },                     Fields::Destination),
            ("lblc before NAT",               Traits { by_destination: true, nat: true, ..none },          Fields::Destination),
            ("a NAT reply can't name a mark", Traits { by_destination: true, nat: true, mark: true, ..none }, Fields::Client),
        ];
        for (name, traits, want) in cases {
            assert_eq!(Fields::of(traits), want, "{name}");
        }
    }

    #[test]
    fn the_suite_through_the_front_door() {
        let steering = Steering::new(SUITE, 512, 4).expect("a sound key");
        let key = Key {
            source: 0x4209_95bb,
            destination: 0xa18e_6450u32,
            source_port: 2794,
            destination_port: 1766,
            protocol: 6,
        };
        assert_eq!(steering.hash(Fields::Tuple, &key), 0x51cc_c178);
        assert_eq!(steering.hash(Fields::Addresses, &key), 0x323e_8fc2);
        assert_eq!(steering.owner(Fields::Tuple, &key), WorkerId(0x78 % 4));
    }

    #[test]
    fn what_is_not_among_the_fields_does_not_matter() {
        let steering = Steering::seeded(1, 512, 16).expect("sound");
        let base = Key {
            source: 0x2001_0db8_0000_0001_0002_0003_0004_0005u128,
            destination: 7,
            source_port: 1,
            destination_port: 2,
            protocol: 6,
        };
        let hash = |fields, key: &Key<u128>| steering.hash(fields, key);
        let network = Fields::ClientNetwork(!0 << 64);
        let neighbour = Key {
            source: base.source + 1,
            ..base
        };
        assert_eq!(hash(network, &base), hash(network, &neighbour));
        assert_ne!(
            hash(Fields::Client, &base),
            hash(Fields::Client, &neighbour)
        );
        let elsewhere = Key {
            destination: 8,
            destination_port: 3,
            ..base
        };
        assert_eq!(
            hash(Fields::Client, &base),
            hash(Fields::Client, &elsewhere)
        );
        assert_eq!(
            hash(Fields::Destination, &base),
            hash(Fields::Destination, &neighbour)
        );
        assert_eq!(
            hash(Fields::Addresses, &base),
            hash(
                Fields::Addresses,
                &Key {
                    source_port: 9,
                    ..base
                }
            )
        );
    }

    #[test]
    fn flows_spread_evenly() {
        for workers in [1u16, 2, 3, 4, 8, 16] {
            let steering = Steering::seeded(7, 512, workers).expect("sound");
            for fields in [Fields::Tuple, Fields::Client] {
                let mut owned = vec![0u32; workers.into()];
                for n in 0..64_000 {
                    owned[usize::from(steering.owner(fields, &flow(n)).0)] += 1;
                }
                let share = 64_000 / u32::from(workers);
                let even = share * 9 / 10..=share * 11 / 10;
                assert!(owned.iter().all(|n| even.contains(n)), "{owned:?}");
            }
        }
    }

    #[test]
    fn a_shorter_table_agrees() {
        let long = Steering::new(SUITE, 512, 3).expect("sound");
        let short = Steering::new(SUITE, 128, 3).expect("sound");
        for n in 0..1000 {
            let owner = long.owner(Fields::Tuple, &flow(n));
            assert_eq!(owner, short.owner(Fields::Tuple, &flow(n)));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let error = |key, entries, workers| Steering::new(key, entries, workers).err();
        let too_many = SteeringError::Workers {
            workers: 129,
            entries: 512,
        };
        assert_eq!(error(SUITE, 100, 2), Some(SteeringError::Entries(100)));
        assert_eq!(error(SUITE, 512, 129), Some(too_many));
        assert_eq!(error([0; KEY_LEN], 512, 2), Some(SteeringError::WeakKey));
        assert_eq!(error([0xff; KEY_LEN], 512, 2), Some(SteeringError::WeakKey));
        assert_eq!(error(SUITE, 512, 2), None);
    }

    #[test]
    fn a_seed_is_a_key_everywhere() {
        let steering = Steering::seeded(42, 512, 2).expect("sound");
        assert_eq!(
            steering.key(),
            Steering::seeded(42, 128, 4).expect("sound").key()
        );
        assert_eq!(splitmix(&mut 0), 0xe220_a839_7b1d_cdaf);
    }

    proptest! {
        #[test]
        fn the_hash_is_linear(a: [u8; 36], b: [u8; 36], key: [u8; KEY_LEN]) {
            let toeplitz = Toeplitz::new(&key);
            let sum: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a ^ b).collect();
            prop_assert_eq!(
                toeplitz.octets(0, &sum),
                toeplitz.octets(0, &a) ^ toeplitz.octets(0, &b)
            );
        }

        #[test]
        fn any_seed_gives_a_sound_key(seed: u64) {
            prop_assert!(Steering::seeded(seed, 512, 2).is_ok());
            prop_assert!(Steering::seeded(seed, 4096, 16).is_ok());
        }
    }
}
