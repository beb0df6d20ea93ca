//! The table: entries, the index over them, and the wheel through them.

use arch::{HugeSlice, PageKind, Pages, PagesError};

use super::defence::Sweep;
use super::entry::{Entry, Flags};
use super::fifo::Fifo;
use super::index::{Guess, Index};
use super::key::{Address, Hash, Hasher, Key};
use super::sender::Senders;
use super::stream::Streams;
use super::template::REARMED_MS;
use super::wheel::{NIL, Wheel};
use crate::bucket::TokenBucket;
use crate::fwd::Method;
use crate::owner::FieldsSlot;
use crate::services::{RealId, ServiceId};
use crate::time::Millis;

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

/// From which side a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// From the client.
    Client,
    /// From the real server.
    Real,
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A connection, and the side the packet came from.
    Live(Slot, Side),
    /// A connection whose deadline has passed: to be ended now.
    Over(Slot),
    /// Nothing.
    Nothing,
}

/// There is no room for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How a new entry stands to templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A connection on its own.
    Free,
    /// A connection under the template in this slot.
    By(Slot),
    /// A template.
    Template,
}

/// A connection to be.
#[derive(Clone, Copy, Debug)]
pub struct New<A> {
    /// The client's packet: client > VIP.
    pub key: Key<A>,
    /// The real server's address and port.
    pub real: (A, u16),
    /// Who the real server is to think it talks to.
    pub local: (A, u16),
    /// How its packets reach the real server; of a template meaningless.
    pub method: Method,
    /// Where its packets go.
    pub real_id: RealId,
    /// Whose it is.
    pub service: ServiceId,
    /// Which of the service's listed fields it is made under.
    pub fields: FieldsSlot,
    /// How long it may be silent, in milliseconds.
    pub timeout_ms: u32,
    /// How it stands to templates.
    pub control: Control,
}

/// One worker's connections of one family.
#[derive(Debug)]
pub struct Table<A: Address> {
    pub(super) entries: HugeSlice<Entry<A>>,
    pub(super) index: Index,
    pub(super) wheel: Wheel,
    pub(super) fifo: Fifo,
    /// Of the connections with [`Flags::TO_SENDER`].
    pub senders: Senders,
    /// Of the connections with [`Flags::TOLD`].
    pub streams: Streams,
    hasher: Hasher,
    /// Evictions that are left.
    pub(super) budget: TokenBucket,
    /// When it was full last, for [`Table::was_full`].
    pub(super) full_at: Option<Millis>,
    /// First of the free slots, linked through `next`.
    pub(super) free: u32,
    pub(super) live: u32,
}

/// The most connections of one family that a worker can hold.
pub const MAX_CONNECTIONS: u32 = 1 << 30;

/// How long after it was full a table still counts as that: connections that found no place
/// then are without one for a while.
const FULL_FOR_MS: u32 = 60_000;

/// A table that is full of unanswered connections is renewed in no less than so many seconds:
/// time for a handshake and its first repetitions.
const RENEWED_IN_SECONDS: u32 = 8;

/// The fewest evictions a second that a small table allows.
const LEAST_BUDGET: u32 = 64;

impl<A: Address> Table<A> {
    /// A table for `capacity` connections, at most [`MAX_CONNECTIONS`]; all its memory is
    /// taken and touched here, but that of [`Table::streams`].
    ///
    /// # Errors
    /// No memory, or no hugepages where `pages` requires them.
    pub fn new(
        capacity: u32,
        pages: Pages,
        hasher: Hasher,
        now: Millis,
    ) -> Result<Self, PagesError> {
        let capacity = capacity.min(MAX_CONNECTIONS);
        let mut entries = HugeSlice::filled(capacity as usize, Entry::<A>::default(), pages)?;
        for (next, entry) in (1..).zip(entries.iter_mut()) {
            entry.next = if next == capacity { NIL } else { next };
        }
        Ok(Self {
            entries,
            index: Index::new(2 * capacity as usize, pages)?,
            wheel: Wheel::new(now),
            fifo: Fifo::new(capacity as usize, pages)?,
            senders: Senders::new(0, pages)?,
            streams: Streams::new(capacity as usize)?,
            hasher,
            budget: TokenBucket::new(budget(capacity), now),
            full_at: None,
            free: if capacity == 0 { NIL } else { 0 },
            live: 0,
        })
    }

    /// The same with room for where each connection's client sends from.
    ///
    /// # Errors
    /// As for [`Table::new`].
    pub fn with_senders(self, pages: Pages) -> Result<Self, PagesError> {
        let senders = Senders::new(self.entries.len(), pages)?;
        Ok(Self { senders, ..self })
    }

    /// Octets that it takes, and on what pages. What the streams take is the connections' that are
    /// told of, and not counted.
    pub fn memory(&self) -> (usize, PageKind) {
        (
            self.entries.mapped_bytes()
                + self.index.memory()
                + self.fifo.memory()
                + self.senders.memory(),
            self.entries.page_kind(),
        )
    }

    /// Connections that it can hold.
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("at most MAX_CONNECTIONS")
    }

    /// Connections that there is room for.
    #[inline]
    pub fn room(&self) -> u32 {
        self.capacity() - self.live
    }

    /// Connections in it.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The hash of a packet's tuple.
    #[inline]
    pub fn hash(&self, key: &Key<A>) -> Hash {
        self.hasher.hash(key)
    }

    /// Fetches the bucket that a look-up begins with.
    #[inline]
    pub fn prefetch_bucket(&self, hash: Hash) {
        self.index.prefetch(hash);
    }

    /// Fetches the buckets that the look-up of a tuple and then its insertion will most likely look
    /// at.
    #[inline]
    pub fn prefetch_insertion(&self, key: &Key<A>) {
        self.index.prefetch_both(self.hash(key));
    }

    /// Fetches the entry that a look-up will most likely end at, and says which that is. The
    /// bucket should be there.
    #[inline(always)]
    pub fn prefetch_entry(&self, hash: Hash) -> Guess {
        let also = |slot: Slot| self.entries.prefetch(slot.0 as usize);
        let Some(guess) = self.index.guess(hash, also) else {
            return Guess::NONE;
        };
        self.entries.prefetch(guess.place().0.0 as usize);
        guess
    }

    /// The connection in `slot`, if packets with this tuple arrive on that side of it and its
    /// deadline has not passed: then [`find`](Self::find) would find the same, for no two
    /// connections have one tuple.
    #[inline(always)]
    pub fn guessed(
        &mut self,
        (slot, side): (Slot, Side),
        key: &Key<A>,
        now: Millis,
    ) -> Option<&mut Entry<A>> {
        let entry = self.entries.get_mut(slot.0 as usize)?;
        let known = side == Side::Client || entry.flags.has(Flags::TWO_WAY);
        let right = entry.matches(side, key) && known && !entry.is_over(now);
        right.then_some(entry)
    }

    /// The connection that a packet with this tuple belongs to.
    #[inline(always)]
    pub fn find(&self, hash: Hash, key: &Key<A>, now: Millis) -> Found {
        let found = self
            .index
            .find(hash, |slot, side| self.entry(slot).matches(side, key));
        match found {
            Some((slot, _)) if self.entry(slot).is_over(now) => Found::Over(slot),
            Some((slot, side)) => Found::Live(slot, side),
            None => Found::Nothing,
        }
    }

    /// The connection in `slot`.
    #[inline]
    pub fn entry(&self, slot: Slot) -> &Entry<A> {
        &self.entries[slot.0 as usize]
    }

    /// The same for who only wants to look, and may find that there is no such slot.
    #[inline]
    pub fn peek(&self, slot: Slot) -> Option<&Entry<A>> {
        self.entries.get(slot.0 as usize)
    }

    /// The same, to count a packet or to change its state.
    #[inline]
    pub fn entry_mut(&mut self, slot: Slot) -> &mut Entry<A> {
        &mut self.entries[slot.0 as usize]
    }

    /// Adds a connection that nothing in the table looks like.
    pub fn insert(&mut self, new: &New<A>, now: Millis) -> Result<Slot, Full> {
        let slot = Slot(self.free);
        if self.free == NIL {
            return Err(Full);
        }
        let entry = new.entry(now);
        let two_way = entry.flags.has(Flags::TWO_WAY);
        let back = two_way.then(|| self.hash(&entry.key(Side::Real)));
        // Nobody could know of this bucket before; the client's side is worked at meanwhile.
        back.into_iter().for_each(|back| self.index.prefetch(back));
        let hash = self.hash(&entry.key(Side::Client));
        if !self.index.insert(hash, slot, Side::Client) {
            return Err(Full);
        }
        if let Some(back) = back
            && !self.index.insert(back, slot, Side::Real)
        {
            self.index.remove(hash, slot, Side::Client);
            return Err(Full);
        }
        self.free = self.entry(slot).next;
        self.entries.prefetch(self.free as usize);
        // Made anew: kept until here, it leaves the index no registers.
        let entry = new.entry(now);
        debug_assert!(entry.is_summed(), "by it checksums are patched");
        *self.entry_mut(slot) = entry;
        if let Control::By(template) = new.control {
            self.entry_mut(template).control += 1;
            self.keep(template);
        }
        let place = self.fifo.push(slot.0);
        self.entry_mut(slot).queued = queued(place);
        self.wheel
            .arm(&mut self.entries, slot.0, now, new.timeout_ms);
        self.live += 1;
        Ok(slot)
    }

    /// The entry that is to end first, and then asked again, so that `wanted` more have room;
    /// `None` if they have, if none is to go before its time, or if too many went lately.
    pub fn next_to_go(&mut self, wanted: u32, now: Millis) -> Option<Slot> {
        if self.room() >= wanted {
            return self.front_of_full_queue(wanted);
        }
        self.full_at = Some(now);
        let oldest = self.fifo.oldest()?;
        let may = self.budget.take(budget(self.capacity()), now);
        may.then_some(Slot(oldest))
    }

    /// The front of a full queue goes before its time too: it was not answered while twice as
    /// many came as there are places.
    fn front_of_full_queue(&mut self, wanted: u32) -> Option<Slot> {
        if self.fifo.room() >= wanted {
            return None;
        }
        let oldest = self.fifo.oldest();
        oldest.filter(|_| self.fifo.room() < wanted).map(Slot)
    }

    /// Whether it is full, or was within the last minute: some packets then belong to
    /// connections that found no place.
    pub fn was_full(&self, now: Millis) -> bool {
        let lately = |at| now.since(at) < FULL_FOR_MS;
        self.free == NIL || self.full_at.is_some_and(lately)
    }

    /// Keeps the connection in `slot` until it ends by itself: it was answered.
    #[inline]
    pub fn keep(&mut self, slot: Slot) {
        let entry = self.entry_mut(slot);
        if let Some(place) = std::mem::take(&mut entry.queued).checked_sub(1) {
            self.fifo.remove(place);
        }
    }

    /// Gives the connection in `slot` another timeout from `now` on. A shorter one hangs it
    /// up anew, so that it also ends without another packet.
    #[inline]
    pub fn set_timeout(&mut self, slot: Slot, now: Millis, timeout_ms: u32) {
        let entry = self.entry_mut(slot);
        let before = std::mem::replace(&mut entry.timeout_ms, timeout_ms);
        if timeout_ms < before {
            self.wheel.disarm(&mut self.entries, slot.0);
            self.wheel.arm(&mut self.entries, slot.0, now, timeout_ms);
        }
    }

    /// Ends the connection in `slot` and returns what it was.
    pub fn remove(&mut self, slot: Slot) -> Entry<A> {
        self.keep(slot);
        let entry = *self.entry(slot);
        debug_assert!(entry.flags.has(Flags::LIVE), "only a live connection ends");
        self.index
            .remove(self.hash(&entry.key(Side::Client)), slot, Side::Client);
        if entry.flags.has(Flags::TWO_WAY) {
            self.index
                .remove(self.hash(&entry.key(Side::Real)), slot, Side::Real);
        }
        debug_assert!(entry.controls() == 0, "a template outlives its connections");
        if let Some(template) = entry.template() {
            self.release(template);
        }
        self.wheel.disarm(&mut self.entries, slot.0);
        let next = self.free;
        *self.entry_mut(slot) = Entry {
            next,
            ..Entry::default()
        };
        self.free = slot.0;
        self.live -= 1;
        entry
    }

    /// Takes a connection from a template. One that was of no use yet is the next to go.
    fn release(&mut self, template: Slot) {
        let entry = self.entry_mut(template);
        entry.control -= 1;
        if entry.control == 0 && !entry.flags.has(Flags::ASSURED) {
            let place = self.fifo.push_first(template.0);
            self.entry_mut(template).queued = queued(place);
        }
    }

    /// Ends connections whose deadline has passed and hands each to `ended`; looks at no more
    /// than `budget` entries and ticks.
    pub fn expire(&mut self, now: Millis, mut budget: u32, mut ended: impl FnMut(&Entry<A>)) {
        // Once a turn, so that no wrap of the clock brings an old time back.
        if self.free == NIL {
            self.full_at = Some(now);
        } else if !self.was_full(now) {
            self.full_at = None;
        }
        while budget > 0
            && let Some(slot) = self.wheel.due(now, &mut budget)
        {
            budget = budget.saturating_sub(1);
            let entry = self.entry(Slot(slot));
            if !entry.is_over(now) {
                self.hang_up_anew(slot, now);
            } else if entry.controls() == 0 {
                ended(&self.remove(Slot(slot)));
            } else {
                self.rearm(Slot(slot), now);
            }
        }
    }

    /// Ends every connection whose deadline has passed, the first to pass first, without waiting
    /// for the second's tick; and hands each to `ended`. Allocates: for a driver with a clock of
    /// its own, between packets.
    pub fn expire_exactly(&mut self, now: Millis, mut ended: impl FnMut(&Entry<A>)) {
        self.expire(now, u32::MAX, &mut ended);
        let late = |slot| {
            let entry = self.entry(Slot(slot));
            let ago = now.since(entry.last_seen).checked_sub(entry.timeout_ms)?;
            Some((std::cmp::Reverse(ago), slot))
        };
        let coming = self.wheel.coming(&self.entries);
        let mut over: Vec<_> = coming.filter_map(late).collect();
        over.sort_unstable();
        for (_, slot) in over {
            if self.entry(Slot(slot)).controls() == 0 {
                ended(&self.remove(Slot(slot)));
            } else {
                self.rearm(Slot(slot), now);
            }
        }
    }

    /// Ends what `sweep` condemns among the slots that are due, at most `budget`, unless it is to
    /// be `spared`; and hands each to `ended`.
    pub fn thin_out(
        &mut self,
        sweep: &mut Sweep,
        now: Millis,
        budget: u32,
        spared: impl Fn(&Entry<A>) -> bool,
        mut ended: impl FnMut(&Entry<A>),
    ) {
        let capacity = u32::try_from(self.entries.len()).expect("at most MAX_CONNECTIONS");
        for _ in 0..sweep.due(capacity, now, budget) {
            let slot = Slot(sweep.next(capacity));
            let entry = self.entry(slot);
            if !spared(entry) && sweep.condemns(entry, now) {
                self.force(slot, &mut ended);
            }
        }
    }

    /// Ends an entry, and its template if nobody vouches for that and it was the last (reference
    /// B.6).
    fn force(&mut self, slot: Slot, ended: &mut impl FnMut(&Entry<A>)) {
        let entry = self.remove(slot);
        ended(&entry);
        if let Some(template) = entry.template() {
            let its = self.entry(template);
            if its.controls() == 0 && !its.flags.has(Flags::ASSURED) {
                ended(&self.remove(template));
            }
        }
    }

    /// The template with this key that new connections may follow; one that is over is only
    /// found where it controls none.
    pub fn find_template(&mut self, key: &Key<A>, now: Millis) -> Found {
        let found = self.index.find(self.hash(key), |slot, side| {
            let entry = self.entry(slot);
            entry.matches(side, key) && !entry.flags.has(Flags::INVALID)
        });
        let Some((slot, side)) = found else {
            return Found::Nothing;
        };
        let entry = self.entry(slot);
        if entry.is_over(now) {
            if entry.controls() == 0 {
                return Found::Over(slot);
            }
            self.rearm(slot, now);
        }
        Found::Live(slot, side)
    }

    /// Notes that a connection was established or answered: its template is worth keeping.
    #[cold]
    #[inline(never)]
    pub fn assure_template(&mut self, of: Slot) {
        if let Some(template) = self.entry(of).template() {
            self.entry_mut(template).flags.put(Flags::ASSURED, true);
        }
    }

    /// Gives a template whose time is up, but which controls connections, another 60 s from when
    /// that was. Its timeout stays so (reference B.6).
    fn rearm(&mut self, slot: Slot, now: Millis) {
        let entry = self.entry_mut(slot);
        let fired = entry.last_seen.plus(entry.timeout_ms);
        let late = now.since(fired);
        entry.last_seen = fired.plus(late - late % REARMED_MS);
        entry.timeout_ms = REARMED_MS;
        self.hang_up_anew(slot.0, now);
    }

    fn hang_up_anew(&mut self, slot: u32, now: Millis) {
        let remaining_ms = self.entry(Slot(slot)).remaining_ms(now);
        self.wheel.disarm(&mut self.entries, slot);
        self.wheel.arm(&mut self.entries, slot, now, remaining_ms);
    }

    /// Every entry, in no particular order. Reads the whole table: not for a worker.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<A>> {
        self.entries
            .iter()
            .filter(|entry| entry.flags.has(Flags::LIVE))
    }
}

/// As an entry remembers its place.
pub(super) fn queued(place: Option<u32>) -> u32 {
    place.map_or(0, |place| place + 1)
}

/// Evictions a second.
fn budget(capacity: u32) -> u32 {
    (capacity / RENEWED_IN_SECONDS).max(LEAST_BUDGET)
}

impl<A: Address> New<A> {
    /// What it will be in the table from `now` on.
    #[inline(always)]
    pub fn entry(&self, now: Millis) -> Entry<A> {
        let is_template = self.control == Control::Template;
        let mut flags = Flags::new(Flags::LIVE).made_under(self.fields);
        flags = flags.made_as(self.method);
        flags.put(Flags::TWO_WAY, self.method.is_two_way() && !is_template);
        flags.put(Flags::TEMPLATE, is_template);
        let control = match self.control {
            Control::By(template) => template.0 + 1,
            Control::Free | Control::Template => 0,
        };
        let client = (self.key.source, self.key.source_port);
        let vip = (self.key.destination, self.key.destination_port);
        Entry {
            last_seen: now,
            timeout_ms: self.timeout_ms,
            real_id: self.real_id,
            service: self.service,
            control,
            protocol: self.key.protocol,
            flags,
            ..Entry::between(client, vip, self.real, self.local)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const START: Millis = Millis(u32::MAX - 999);

    fn table(capacity: u32) -> Table<u32> {
        Table::new(capacity, Pages::Off, Hasher::new([7, 11]), START).expect("memory")
    }

    fn key(client: u32) -> Key<u32> {
        Key {
            source: client,
            destination: 1,
            source_port: 2,
            destination_port: 80,
            protocol: 6,
        }
    }

    fn new(client: u32, timeout_ms: u32, two_way: bool) -> New<u32> {
        let method = if two_way { Method::Nat } else { Method::Dr };
        New {
            key: key(client),
            real: (9, 8080),
            local: (client, 2),
            method,
            real_id: RealId(0),
            service: ServiceId(0),
            fields: FieldsSlot(0),
            timeout_ms,
            control: Control::Free,
        }
    }

    fn find(table: &Table<u32>, key: &Key<u32>, now: Millis) -> Found {
        table.find(table.hash(key), key, now)
    }

    #[test]
    fn found_from_both_sides_only_if_replies_pass_us() {
        let mut table = table(4);
        let one_way = table.insert(&new(1, 1000, false), START).expect("room");
        let two_way = table.insert(&new(2, 1000, true), START).expect("room");
        let back = |client| Key {
            source: 9,
            destination: client,
            source_port: 8080,
            destination_port: 2,
            protocol: 6,
        };
        assert_eq!(
            find(&table, &key(1), START),
            Found::Live(one_way, Side::Client)
        );
        assert_eq!(find(&table, &back(1), START), Found::Nothing);
        assert_eq!(
            find(&table, &key(2), START),
            Found::Live(two_way, Side::Client)
        );
        assert_eq!(
            find(&table, &back(2), START),
            Found::Live(two_way, Side::Real)
        );
        table.remove(two_way);
        assert_eq!(find(&table, &back(2), START), Found::Nothing);
    }

    #[test]
    fn a_guess_is_right_where_a_look_up_ends_at_the_same() {
        let mut table = table(4);
        let one_way = table.insert(&new(1, 1000, false), START).expect("room");
        let two_way = table.insert(&new(2, 1000, true), START).expect("room");
        let keys = [one_way, two_way]
            .map(|slot| [Side::Client, Side::Real].map(|side| table.entry(slot).key(side)));
        for now in [START, START.plus(999), START.plus(1000)] {
            for key in keys.as_flattened() {
                let found = find(&table, key, now);
                for slot in 0..5 {
                    for side in [Side::Client, Side::Real] {
                        let at = (Slot(slot), side);
                        let right = table.guessed(at, key, now).is_some();
                        assert_eq!(right, found == Found::Live(at.0, side), "{at:?} {key:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn full_means_full_and_a_removed_place_is_free_again() {
        let mut table = table(2);
        let first = table.insert(&new(1, 1000, true), START).expect("room");
        table.insert(&new(2, 1000, true), START).expect("room");
        assert_eq!(table.insert(&new(3, 1000, true), START), Err(Full));
        table.remove(first);
        assert!(table.insert(&new(3, 1000, true), START).is_ok());
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_deadline_holds_across_the_wrap_of_the_clock() {
        let mut table = table(4);
        let slot = table.insert(&new(1, 60_000, false), START).expect("room");
        let ended = |table: &mut Table<u32>, now| {
            let mut n = 0;
            table.expire(now, 1000, |_| n += 1);
            n
        };
        assert_eq!(ended(&mut table, START.plus(59_000)), 0);
        assert_eq!(
            find(&table, &key(1), START.plus(59_999)),
            Found::Live(slot, Side::Client)
        );
        assert_eq!(find(&table, &key(1), START.plus(60_000)), Found::Over(slot));
        table.entry_mut(slot).last_seen = START.plus(59_000);
        assert_eq!(ended(&mut table, START.plus(118_999)), 0);
        assert_eq!(ended(&mut table, START.plus(119_000)), 1);
        assert!(table.is_empty());
    }

    #[test]
    fn a_shorter_timeout_needs_no_further_packet() {
        let mut table = table(1);
        let slot = table.insert(&new(1, 900_000, false), START).expect("room");
        table.set_timeout(slot, START, 10_000);
        let mut ended = 0;
        table.expire(START.plus(11_000), 1000, |_| ended += 1);
        assert_eq!(ended, 1);
    }

    #[test]
    fn a_month_is_not_too_long() {
        let mut table = table(1);
        let month_ms = 2_678_400_000;
        table.insert(&new(1, month_ms, false), START).expect("room");
        let mut ended_at = None;
        for second in 1..=2_678_402u32 {
            let now = START.plus(second * 1000);
            table.expire(now, 16, |_| ended_at = Some(second));
        }
        assert_eq!(ended_at, Some(2_678_400));
    }

    #[test]
    fn work_is_bounded_and_goes_on_next_time() {
        let mut table = table(100);
        for client in 0..100 {
            table
                .insert(&new(client, 1000, false), START)
                .expect("room");
        }
        let mut rounds = 0;
        while !table.is_empty() {
            let mut ended = 0;
            table.expire(START.plus(2000), 10, |_| ended += 1);
            assert!(ended <= 10);
            rounds += 1;
        }
        assert!((10..=12).contains(&rounds), "{rounds}");
    }

    /// What a step of the property test does to the connection of one client.
    #[derive(Clone, Debug)]
    enum Step {
        Open(u32, u32),
        Touch(u32),
        Keep(u32),
        Close(u32),
        Wait(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..200u32, 1..20_000u32).prop_map(|(client, ms)| Step::Open(client, ms)),
            (0..200u32).prop_map(Step::Touch),
            (0..200u32).prop_map(Step::Keep),
            (0..200u32).prop_map(Step::Close),
            (0..3_000u32).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_a_hash_map(steps in prop::collection::vec(step(), 0..600)) {
            let mut table = table(64);
            let mut model: HashMap<u32, (Millis, u32)> = HashMap::new();
            let mut unanswered = Vec::new();
            let mut bucket = TokenBucket::new(LEAST_BUDGET, START);
            let mut now = START;
            for step in steps {
                match step {
                    Step::Open(client, ms) if find(&table, &key(client), now) == Found::Nothing => {
                        let first = table.fifo.oldest();
                        let may = match model.len() {
                            64 => first.is_some() && bucket.take(LEAST_BUDGET, now),
                            _ => table.fifo.room() == 0,
                        };
                        let goes = may.then(|| unanswered.remove(0));
                        let evicted = table.next_to_go(1, now).map(|slot| table.remove(slot).client);
                        prop_assert_eq!(evicted, goes);
                        goes.map(|goes| model.remove(&goes));
                        prop_assert!(goes.is_none() || table.room() > 0);
                        let room = table.insert(&new(client, ms, client % 2 == 0), now).is_ok();
                        prop_assert_eq!(room, model.len() < 64);
                        if room {
                            model.insert(client, (now, ms));
                            unanswered.push(client);
                        }
                    }
                    Step::Keep(client) => {
                        if let Found::Live(slot, _) = find(&table, &key(client), now) {
                            table.keep(slot);
                            unanswered.retain(|&other| other != client);
                        }
                    }
                    Step::Touch(client) => {
                        if let Found::Live(slot, _) = find(&table, &key(client), now) {
                            table.entry_mut(slot).last_seen = now;
                            model.get_mut(&client).expect("in both").0 = now;
                        }
                    }
                    Step::Open(client, _) | Step::Close(client) => {
                        if let Found::Live(slot, _) = find(&table, &key(client), now) {
                            table.remove(slot);
                            model.remove(&client);
                        }
                    }
                    Step::Wait(ms) => {
                        now = now.plus(ms);
                        table.expire(now, u32::MAX, |_| ());
                        // The wheel may be up to a tick late; the look-up never is.
                        model.retain(|client, (seen, ms)| {
                            let over = now.since(*seen) >= *ms;
                            if over && let Found::Over(slot) = find(&table, &key(*client), now) {
                                table.remove(slot);
                            }
                            !over
                        });
                    }
                }
                unanswered.retain(|client| model.contains_key(client));
            }
            prop_assert_eq!(table.len() as usize, model.len());
            let first = (0..4).find_map(|_| table.fifo.oldest());
            let first = first.map(|slot| table.entry(Slot(slot)).client);
            prop_assert_eq!(first, unanswered.first().copied());
            for client in 0..200 {
                let found = matches!(find(&table, &key(client), now), Found::Live(..));
                prop_assert_eq!(found, model.contains_key(&client));
            }
        }
    }
}
