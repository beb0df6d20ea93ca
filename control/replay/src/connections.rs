//! The workers' connections as `-Lc` shows them: directly, since nobody runs meanwhile.

use control::connections::row;
use control::engine::Engine;
use dataplane::conn::export::Exported;
use dataplane::conn::{Address, Table};
use dataplane::state::State;
use dataplane::time::Millis;
use proto::listing::ListingConnection;

/// Every connection: worker by worker, in the order of their tables.
pub(crate) fn list<'a>(
    states: impl Iterator<Item = &'a State>,
    engine: &Engine,
    now: Millis,
) -> Vec<ListingConnection> {
    let mut all = Vec::new();
    for state in states {
        all.extend(of_table(&state.v4, now));
        all.extend(of_table(&state.v6, now));
    }
    let reals = &engine.snapshot().reals;
    all.iter().map(|one| row(one, reals)).collect()
}

fn of_table<A: Address>(table: &Table<A>, now: Millis) -> impl Iterator<Item = Exported> {
    let live = table.iter().filter(move |entry| !entry.is_over(now));
    live.map(move |entry| Exported::new(entry, now))
}
