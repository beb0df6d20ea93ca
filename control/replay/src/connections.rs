//! The workers' connections as `-Lc` shows them: directly, since nobody runs meanwhile.

use config::model::Endpoint;
use control::engine::Engine;
use dataplane::conn::{Address, Entry, Flags, Table, tcp};
use dataplane::state::State;
use dataplane::time::Millis;
use proto::listing::ListingConnection;
use wire::Protocol;

/// Every connection: worker by worker, in the order of their tables.
pub(crate) fn list<'a>(
    states: impl Iterator<Item = &'a State>,
    engine: &Engine,
    now: Millis,
) -> Vec<ListingConnection> {
    let mut all = Vec::new();
    for state in states {
        all.extend(of_table(&state.v4, engine, now));
        all.extend(of_table(&state.v6, engine, now));
    }
    all
}

fn of_table<A: Address>(
    table: &Table<A>,
    engine: &Engine,
    now: Millis,
) -> impl Iterator<Item = ListingConnection> {
    let live = table.iter().filter(move |entry| !entry.is_over(now));
    live.map(move |entry| row(entry, engine, now))
}

fn row<A: Address>(entry: &Entry<A>, engine: &Engine, now: Millis) -> ListingConnection {
    let real = engine.snapshot().reals.get(entry.real_id.0);
    let protocol = Protocol(entry.ip_protocol());
    ListingConnection {
        protocol: name(protocol).to_owned(),
        expires: entry.remaining_ms(now) / 1000,
        state: state(entry, protocol).to_owned(),
        client: Endpoint {
            address: entry.client.to_ip(),
            port: entry.client_port,
        },
        vip: Endpoint {
            address: entry.vip.to_ip(),
            port: entry.vip_port,
        },
        // A tunnel may lead to a real server of the other family, which an entry has no room for.
        real: Endpoint {
            address: real.map_or(entry.real.to_ip(), |real| real.address),
            port: entry.real_port,
        },
        engine: None,
        engine_data: None,
    }
}

/// The template of a firewall mark has no protocol but IP.
fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
        Protocol::SCTP => "SCTP",
        _ => "IP",
    }
}

fn state<A>(entry: &Entry<A>, protocol: Protocol) -> &'static str {
    match protocol {
        _ if entry.flags.has(Flags::ASSURED) => "ASSURED",
        _ if entry.flags.has(Flags::TEMPLATE) => "NONE",
        Protocol::TCP => tcp::State::ALL[usize::from(entry.state)].name(),
        Protocol::UDP => "UDP",
        _ => "NONE",
    }
}
