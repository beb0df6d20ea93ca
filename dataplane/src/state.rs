//! What a worker's decisions change: its connections, one table a family.

use std::net::IpAddr;
use std::ops::Range;

use wire::proxy::Header;

use crate::conn::defence::Sweep;
use crate::conn::{Entry, Flags, Found, Hash, Key, Table};
use crate::fwd::{Family, Outer};
use crate::local::LocalAddresses;
use crate::pages::Pages;
use crate::parse::{Locate, Parsed, Parses};
use crate::probe::Question;
use crate::sched::{self, thresholds};
use crate::services::{Blocks, Real, RealBlock, Routed};
use crate::time::Millis;
use crate::verdict::Counters;

/// A worker's own tables.
#[derive(Debug)]
pub struct State {
    /// IPv4 connections.
    pub v4: Table<u32>,
    /// IPv6 connections.
    pub v6: Table<u128>,
    /// Where `drop_entry` stands in each.
    pub sweeps: [Sweep; 2],
    /// Packets that `drop_packet` still spares.
    pub packets_spared: u16,
    /// What schedulers remember.
    pub sched: sched::Memory,
    /// The identification of the next outer packet that may be fragmented.
    pub outer_id: u16,
    /// The header that goes before the packet just decided, if one does.
    pub ahead: Header,
}

impl State {
    /// What the next tunnelled packet is told beside its inner packet.
    #[inline]
    pub fn outer(&mut self, pmtu_disc: bool) -> Outer {
        self.outer_id = self.outer_id.wrapping_add(1);
        Outer {
            id: self.outer_id,
            pmtu_disc,
        }
    }

    /// Whether no connection waits for packets with this tuple. Replies of IPv4 real servers may
    /// be for either family's clients, which share local addresses.
    pub fn is_free<A: Stored>(&self, reply: &Key<A>, nat64: bool, now: Millis) -> bool {
        fn free<A: Stored>(state: &State, reply: &Key<A>, now: Millis) -> bool {
            let table = A::seen(state);
            matches!(table.find(table.hash(reply), reply, now), Found::Nothing)
        }
        let inside = nat64.then(|| reply.from_ipv4()).flatten();
        free(self, reply, now) && inside.is_none_or(|reply| free(self, &reply, now))
    }

    /// Fetches what [`is_free`](Self::is_free) looks at of a tuple that is free, and what its
    /// insertion does then.
    pub fn prefetch_reply<A: Stored>(&self, reply: &Key<A>, nat64: bool) {
        A::seen(self).prefetch_insertion(reply);
        if nat64 && let Some(inside) = reply.from_ipv4() {
            self.v6.prefetch_insertion(&inside);
        }
    }

    /// Fetches the entries that the look-ups of these packets will most likely end at, and notes
    /// which.
    #[inline(never)]
    pub fn prefetch_entries(&self, parses: &mut Parses, which: Range<usize>) {
        let Some(frames) = parses.frames.get_mut(which) else {
            return;
        };
        for parsed in frames {
            if let Parsed::V4(packet) = parsed {
                packet.guess = self.v4.prefetch_entry(packet.hash);
            } else if let Parsed::V6(place) = parsed {
                let packet = &mut parses.v6[usize::from(*place)];
                packet.guess = self.v6.prefetch_entry(packet.hash);
            }
        }
    }
}

impl Locate for State {
    /// Fetches the bucket that the look-up will begin with.
    #[inline(always)]
    fn locate<A: Stored>(&self, key: &Key<A>) -> Hash {
        let table = A::seen(self);
        let hash = table.hash(key);
        table.prefetch_bucket(hash);
        hash
    }
}

/// A family that has a table.
pub trait Stored: Family + Routed {
    /// Its connections.
    fn table(state: &mut State) -> &mut Table<Self>;

    /// The same, and the identification of the last outer packet.
    fn table_and_id(state: &mut State) -> (&mut Table<Self>, &mut u16);

    /// The address, if it is of this family.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// A service's local addresses of this family.
    fn locals(addresses: &LocalAddresses) -> &[Self];

    /// Asks about a tuple; `false` if that was asked already, or there is no room for it.
    fn ask(question: &mut Question, key: Key<Self>) -> bool;

    /// Its connections, to look at.
    fn seen(state: &State) -> &Table<Self>;
}

impl Stored for u32 {
    #[inline]
    fn table(state: &mut State) -> &mut Table<Self> {
        &mut state.v4
    }

    #[inline]
    fn table_and_id(state: &mut State) -> (&mut Table<Self>, &mut u16) {
        (&mut state.v4, &mut state.outer_id)
    }

    #[inline]
    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Some(v4.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    fn locals(addresses: &LocalAddresses) -> &[Self] {
        &addresses.v4
    }

    fn ask(question: &mut Question, key: Key<Self>) -> bool {
        !question.v4.contains(&key) && question.v4.try_push(key).is_ok()
    }

    fn seen(state: &State) -> &Table<Self> {
        &state.v4
    }
}

impl Stored for u128 {
    #[inline]
    fn table(state: &mut State) -> &mut Table<Self> {
        &mut state.v6
    }

    #[inline]
    fn table_and_id(state: &mut State) -> (&mut Table<Self>, &mut u16) {
        (&mut state.v6, &mut state.outer_id)
    }

    #[inline]
    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6.to_bits()),
        }
    }

    fn locals(addresses: &LocalAddresses) -> &[Self] {
        &addresses.v6
    }

    fn ask(question: &mut Question, key: Key<Self>) -> bool {
        !question.v6.contains(&key) && question.v6.try_push(key).is_ok()
    }

    fn seen(state: &State) -> &Table<Self> {
        &state.v6
    }
}

/// Counts a connection as active or inactive, if that changed.
pub(crate) fn recount<A>(entry: &mut Entry<A>, active: bool, block: &RealBlock) {
    if entry.flags.has(Flags::ACTIVE) == active {
        return;
    }
    entry.flags.put(Flags::ACTIVE, active);
    let (up, down) = if active {
        (&block.active, &block.inactive)
    } else {
        (&block.inactive, &block.active)
    };
    up.up();
    down.down();
}

/// Counts a connection, or a template, that has ended.
pub(crate) fn account_end<A>(
    entry: &Entry<A>,
    reals: &Pages<Real>,
    blocks: &Blocks,
    counters: &Counters,
) {
    let is_template = entry.flags.has(Flags::TEMPLATE);
    if !is_template {
        counters.connections_ended.add(1);
        if let Some(own) = blocks.services.get(entry.service.0) {
            own.made_under[usize::from(entry.flags.fields().0)].down();
        }
    }
    let Some(block) = blocks.reals.get(entry.real_id.0) else {
        return;
    };
    let gauge = if is_template {
        &block.persistent
    } else if entry.flags.has(Flags::ACTIVE) {
        &block.active
    } else {
        &block.inactive
    };
    gauge.down();
    let limits = reals
        .get(entry.real_id.0)
        .map(|real| real.limits)
        .unwrap_or_default();
    thresholds::unbind(block, blocks.others.get(entry.real_id.0), limits);
}
