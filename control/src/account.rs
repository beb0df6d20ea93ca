//! What control keeps beside the workers' counters: since when they count, and how fast they grow.
//!
//! Workers' totals only ever grow; `-Z` is a base that is taken off. Rates are IPVS's own
//! estimate (reference B.13), to the last digit: a mean whose time constant is about 8 s.

use proto::listing::{Rates, Totals};

use crate::stats::since;

/// How often [`Account::tick`] is to be called, in milliseconds.
pub const TICK_MS: u64 = 2_000;

/// Binary places behind the point of a rate of connections or packets.
const COUNT_PLACES: u32 = 10;
/// The same for octets.
const OCTET_PLACES: u32 = 5;
/// A tick is two seconds, so what was counted in one is halved.
const HALVED: u32 = 1;
/// How much of the difference a tick takes over: a quarter.
const GAIN: u32 = 2;

/// A service's, a real server's or everybody's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Account {
    /// What was counted when it began.
    base: Totals,
    /// What was counted at the last tick.
    seen: Totals,
    /// The mean, with the places of [`PLACES`].
    mean: [i64; 5],
}

/// By column: connections, packets in, packets out, octets in, octets out.
const PLACES: [u32; 5] = [
    COUNT_PLACES,
    COUNT_PLACES,
    COUNT_PLACES,
    OCTET_PLACES,
    OCTET_PLACES,
];

impl Account {
    /// An account that begins where the workers have counted `counted`.
    pub fn new(counted: Totals) -> Self {
        Self {
            base: counted,
            seen: counted,
            mean: [0; 5],
        }
    }

    /// What is on it when the workers have counted `counted`.
    pub fn totals(&self, counted: Totals) -> Totals {
        since(counted, self.base)
    }

    /// Two seconds went by.
    pub fn tick(&mut self, counted: Totals) {
        let grown = columns(since(counted, self.seen));
        self.seen = counted;
        for ((mean, grown), places) in self.mean.iter_mut().zip(grown).zip(PLACES) {
            let rate = (grown << (places - HALVED)).cast_signed();
            *mean = mean.wrapping_add(rate.wrapping_sub(*mean) >> GAIN);
        }
    }

    /// What comes in a second, rounded up.
    pub fn rates(&self) -> Rates {
        let mut rates = [0; 5];
        for ((rate, mean), places) in rates.iter_mut().zip(self.mean).zip(PLACES) {
            let almost_one = (1 << (places - HALVED)) - 1;
            *rate = mean.wrapping_add(almost_one).cast_unsigned() >> places;
        }
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = rates;
        Rates {
            connections,
            packets_in,
            packets_out,
            bytes_in,
            bytes_out,
        }
    }
}

fn columns(totals: Totals) -> [u64; 5] {
    [
        totals.connections,
        totals.packets_in,
        totals.packets_out,
        totals.bytes_in,
        totals.bytes_out,
    ]
}

/// The accounts of all slots, and everybody's together.
#[derive(Debug, Default)]
pub struct Accounts {
    /// By service's slot.
    pub services: Vec<Account>,
    /// By real server's slot.
    pub reals: Vec<Account>,
    /// Of everything that any service counted since the start.
    pub all: Account,
}

/// The account of a slot; a new one for a slot that never had any.
pub fn of(accounts: &[Account], slot: u32) -> Account {
    accounts.get(slot as usize).copied().unwrap_or_default()
}

/// Begins the account of a slot where the workers have counted `counted`.
pub fn begin(accounts: &mut Vec<Account>, slot: u32, counted: Totals) {
    let slot = slot as usize;
    if accounts.len() <= slot {
        accounts.resize(slot + 1, Account::default());
    }
    accounts[slot] = Account::new(counted);
}

/// Two seconds went by for the account of a slot, if it has one.
pub fn tick(accounts: &mut [Account], slot: u32, counted: Totals) {
    if let Some(account) = accounts.get_mut(slot as usize) {
        account.tick(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(connections: u64, bytes_in: u64) -> Totals {
        Totals {
            connections,
            packets_in: connections,
            bytes_in,
            ..Totals::default()
        }
    }

    /// What an account shows after each tick of a steady flow: connections and octets a second.
    fn steady(ticks: u64, connections: u64, octets: u64) -> Vec<(u64, u64)> {
        let mut account = Account::default();
        let tick = |n| {
            account.tick(counted(2 * n * connections, 2 * n * octets));
            let rates = account.rates();
            assert_eq!(rates.connections, rates.packets_in);
            (rates.connections, rates.bytes_in)
        };
        (1..=ticks).map(tick).collect()
    }

    #[test]
    fn a_steady_flow_as_the_kernel_sees_it() {
        let shown = steady(20, 1_000, 1_000_000);
        let (connections, octets): (Vec<_>, Vec<_>) = shown.into_iter().unzip();
        let want = [
            250, 437, 578, 684, 763, 822, 867, 900, 925, 944, 958, 968, 976, 982, 987, 990, 992,
            994, 996, 997,
        ];
        assert_eq!(connections, want);
        let want = [250_000, 437_500, 578_125, 683_594, 762_695, 822_021];
        assert_eq!(octets[..6], want);
    }

    #[test]
    fn a_rate_ends_at_nothing() {
        let mut account = Account::default();
        account.tick(counted(1_000_000, 1 << 40));
        assert!(account.rates().connections > 0);
        for _ in 0..120 {
            account.tick(counted(1_000_000, 1 << 40));
        }
        assert_eq!(account.rates(), Rates::default());
    }

    #[test]
    fn zero_is_where_it_begins_again() {
        let mut account = Account::new(counted(100, 0));
        account.tick(counted(300, 0));
        assert_eq!(account.totals(counted(300, 0)).connections, 200);
        account = Account::new(counted(300, 0));
        assert_eq!(account.totals(counted(300, 0)), Totals::default());
        assert_eq!(account.rates(), Rates::default());
        account.tick(counted(300, 0));
        assert_eq!(
            account.rates(),
            Rates::default(),
            "what was before is not counted again"
        );
    }

    #[test]
    fn a_wire_of_four_hundred_gigabits_has_room() {
        let octets = 50_000_000_000;
        let shown = steady(200, 600_000_000, octets);
        let (connections, bytes) = shown.last().copied().expect("200 ticks");
        assert!((600_000_000 - connections) < 10 && octets - bytes < 10);
    }
}
