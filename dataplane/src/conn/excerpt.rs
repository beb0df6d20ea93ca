//! A few entries of a table, copied out, and a small table made of them: for whoever wants to try
//! what would become of a packet without touching the connections that there are.
//!
//! The copy behaves as the table would for the tuples that were asked for: their connections with
//! their templates, how much room there is, and who would have to make some.

use arch::{Pages, PagesError};
use arrayvec::ArrayVec;
use wire::ethernet::Mac;

use super::entry::{Entry, Flags};
use super::key::{Address, Hasher, Key};
use super::stream::Stream;
use super::table::{Side, Slot, Table, queued};
use super::wheel::NIL;
use crate::bucket::TokenBucket;
use crate::port::PortId;
use crate::services::{RealId, ServiceId};
use crate::time::Millis;

/// Tuples that one excerpt is about.
pub const MAX_KEYS: usize = 4;
/// Entries that one packet may turn out: for a connection and for its template.
const MAY_GO: usize = 2;
/// Entries in one: those of each tuple and those that would go first, with their templates.
const ENTRIES: usize = 2 * (MAX_KEYS + MAY_GO);
/// Free places that the copy has at most: a packet takes two, a connection and a template.
const SPARE: u32 = 4;

/// An entry with what stands beside it.
#[derive(Clone, Copy, Debug)]
struct Copied<A> {
    slot: Slot,
    entry: Entry<A>,
    sender: Option<(PortId, Mac)>,
    /// If its real server is told who the client is.
    stream: Option<Stream>,
}

/// The excerpt.
#[derive(Clone, Debug)]
pub struct Excerpt<A> {
    /// Those that would go first, then the others.
    copied: ArrayVec<Copied<A>, ENTRIES>,
    room: u32,
    budget: TokenBucket,
    full_at: Option<Millis>,
    keeps_senders: bool,
}

impl<A: Address> Excerpt<A> {
    /// What `table` has for packets and templates of these tuples. Changes nothing, allocates
    /// nothing.
    pub fn of(table: &Table<A>, keys: &[Key<A>]) -> Self {
        let mut excerpt = Self {
            copied: ArrayVec::new(),
            room: table.room(),
            budget: table.budget,
            full_at: table.full_at,
            keeps_senders: table.senders.are_kept(),
        };
        for oldest in table.fifo.first().take(MAY_GO) {
            excerpt.copy(table, Slot(oldest));
        }
        for key in keys {
            let found = table.index.find(table.hash(key), |slot, side| {
                let entry = table.entry(slot);
                entry.matches(side, key) && !entry.flags.has(Flags::INVALID)
            });
            if let Some((slot, _)) = found {
                excerpt.copy(table, slot);
            }
        }
        excerpt
    }

    /// Copies an entry, and the template that controls it.
    fn copy(&mut self, table: &Table<A>, slot: Slot) {
        let template = table.entry(slot).template();
        for slot in template.into_iter().chain([slot]) {
            let known = self.copied.iter().any(|it| it.slot == slot);
            if known || self.copied.is_full() {
                continue;
            }
            let entry = *table.entry(slot);
            let told = entry.flags.has(Flags::TOLD);
            self.copied.push(Copied {
                slot,
                entry,
                sender: table.senders.get(slot),
                stream: told.then(|| table.streams.get(slot)),
            });
        }
    }

    /// The services and real servers of what is in it.
    pub fn concerns(&self) -> impl Iterator<Item = (ServiceId, RealId)> {
        let entries = self.copied.iter().map(|copied| copied.entry);
        entries.map(|entry| (entry.service, entry.real_id))
    }

    /// Connections and templates in it.
    pub fn len(&self) -> usize {
        self.copied.len()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.copied.is_empty()
    }

    /// A table of these entries alone, in which packets of these tuples fare as in the whole one.
    ///
    /// # Errors
    /// No memory.
    pub fn table(&self, hasher: Hasher, now: Millis) -> Result<Table<A>, PagesError> {
        let copies = u32::try_from(self.copied.len()).expect("a handful");
        let capacity = copies + self.room.min(SPARE);
        let mut table = Table::new(capacity, Pages::Off, hasher, now)?;
        if self.keeps_senders {
            table = table.with_senders(Pages::Off)?;
        }
        (table.budget, table.full_at) = (self.budget, self.full_at);
        for (at, copied) in (0u32..).zip(&self.copied) {
            table.adopt(Slot(at), copied, |slot| self.place(slot), now);
        }
        table.free = if copies == capacity { NIL } else { copies };
        table.live = copies;
        Ok(table)
    }

    /// Where the entry of `slot` stands in the copy.
    fn place(&self, slot: Slot) -> Option<Slot> {
        let at = self.copied.iter().position(|it| it.slot == slot)?;
        u32::try_from(at).ok().map(Slot)
    }
}

impl<A: Address> Table<A> {
    /// Puts a copied entry into `slot`, which is free.
    fn adopt(
        &mut self,
        slot: Slot,
        copied: &Copied<A>,
        place: impl Fn(Slot) -> Option<Slot>,
        now: Millis,
    ) {
        let mut entry = copied.entry;
        debug_assert!(entry.is_summed(), "by it checksums are patched");
        if let Some(template) = entry.template() {
            entry.control = place(template).map_or(0, |Slot(at)| at + 1);
        }
        let sides = [Side::Client, Side::Real];
        let found_from = if entry.flags.has(Flags::TWO_WAY) {
            2
        } else {
            1
        };
        for &side in &sides[..found_from] {
            let hash = self.hash(&entry.key(side));
            let fits = self.index.insert(hash, slot, side);
            debug_assert!(fits, "a handful of keys in an index made for them");
        }
        let waits = entry.queued != 0;
        entry.queued = 0;
        *self.entry_mut(slot) = entry;
        if waits {
            let place = self.fifo.push(slot.0);
            self.entry_mut(slot).queued = queued(place);
        }
        self.wheel
            .arm(&mut self.entries, slot.0, now, entry.remaining_ms(now));
        if let Some((port, mac)) = copied.sender {
            self.senders.note(slot, port, mac);
        }
        if let Some(stream) = &copied.stream {
            self.streams.put(slot, stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::table::New;
    use crate::conn::{Control, Found};
    use crate::fwd::Method;
    use crate::owner::FieldsSlot;

    const NOW: Millis = Millis(u32::MAX - 500);
    const HASHER: [u64; 2] = [7, 11];

    fn key(client: u32) -> Key<u32> {
        Key {
            source: client,
            destination: 1,
            source_port: 2,
            destination_port: 80,
            protocol: 6,
        }
    }

    fn new(key: Key<u32>, control: Control) -> New<u32> {
        New {
            key,
            real: (9, 8080),
            local: (key.source, key.source_port),
            method: Method::Nat,
            real_id: RealId(3),
            service: ServiceId(4),
            fields: FieldsSlot(0),
            timeout_ms: 60_000,
            control,
        }
    }

    fn table(capacity: u32) -> Table<u32> {
        Table::new(capacity, Pages::Off, Hasher::new(HASHER), NOW).expect("memory")
    }

    fn find(table: &Table<u32>, key: &Key<u32>, now: Millis) -> Found {
        table.find(table.hash(key), key, now)
    }

    #[test]
    fn a_copy_knows_both_sides_and_the_template() {
        let mut table = table(8);
        let template_key = Key {
            source_port: 0,
            protocol: !6,
            ..key(5)
        };
        table
            .insert(&new(key(1), Control::Free), NOW)
            .expect("room");
        let template = new(template_key, Control::Template);
        let template = table.insert(&template, NOW).expect("room");
        let under = new(key(5), Control::By(template));
        let slot = table.insert(&under, NOW).expect("room");
        let back = table.entry(slot).key(Side::Real);
        let later = NOW.plus(10_000);
        for asked in [vec![key(5)], vec![back], vec![template_key, key(5), back]] {
            let excerpt = Excerpt::of(&table, &asked);
            assert_eq!(excerpt.len(), 3, "the oldest of all is in it");
            let other = Hasher::new([1, 2]);
            let mut copy = excerpt.table(other, later).expect("memory");
            assert_eq!((copy.len(), copy.room()), (3, 4));
            let Found::Live(at, Side::Client) = find(&copy, &key(5), later) else {
                panic!("its client's packets find it");
            };
            assert!(matches!(
                find(&copy, &back, later),
                Found::Live(_, Side::Real)
            ));
            let template = copy.entry(at).template().expect("controlled");
            assert_eq!(copy.entry(template).controls(), 1);
            assert!(
                matches!(copy.find_template(&template_key, later), Found::Live(it, _) if it == template)
            );
            assert_eq!(copy.entry(at).remaining_ms(later), 50_000);
            copy.remove(at);
            copy.remove(template);
            assert!(
                matches!(find(&table, &key(5), later), Found::Live(..)),
                "the whole stays"
            );
        }
    }

    #[test]
    fn a_full_table_is_copied_as_full_and_its_oldest_goes_first() {
        let mut table = table(2);
        table
            .insert(&new(key(1), Control::Free), NOW)
            .expect("room");
        let second = table
            .insert(&new(key(2), Control::Free), NOW)
            .expect("room");
        let mut copy = Excerpt::of(&table, &[key(3)])
            .table(Hasher::new(HASHER), NOW)
            .expect("memory");
        assert_eq!((copy.room(), copy.was_full(NOW)), (0, true));
        let goes = copy.next_to_go(1, NOW).expect("the oldest");
        assert_eq!(copy.remove(goes).client, 1);
        assert!(copy.insert(&new(key(3), Control::Free), NOW).is_ok());
        assert!(copy.insert(&new(key(4), Control::Free), NOW).is_err());
        assert_eq!(table.len(), 2);
        table.keep(second);
        table.remove(Slot(0));
        let copy = Excerpt::of(&table, &[key(1)]);
        assert!(
            copy.is_empty(),
            "nothing waits for an answer, and nothing was found"
        );
        assert_eq!(
            copy.table(Hasher::new(HASHER), NOW).expect("memory").room(),
            1
        );
    }
}
