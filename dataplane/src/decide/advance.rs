//! What a packet says of its connection's state, and how long that may be silent from then on.

use wire::{Protocol, tcp as segment};

use super::{Context, watch};
use crate::conn::tcp::{self, Direction, Event};
use crate::conn::{Address, Entry, Flags, Side, Slot, Table, sctp};
use crate::parse::Packet;
use crate::services::{ConnReuse, RealBlock, Snapshot};
use crate::state::{Stored, recount};

impl Context<'_> {
    /// Moves the connection's state on and restarts its time.
    #[inline(always)]
    pub(super) fn advance<A: Stored>(
        &mut self,
        slot: Slot,
        side: Side,
        packet: &Packet<A>,
        block: &RealBlock,
    ) {
        let timeouts = &self.snapshot.settings.timeouts;
        let table = A::table(self.state);
        let entry = table.entry_mut(slot);
        entry.last_seen = self.now;
        entry.packets = entry.packets.saturating_add(u16::from(!packet.later));
        let before_ms = entry.timeout_ms;
        let timeout_ms = if packet.later {
            before_ms
        } else if packet.key.protocol == Protocol::TCP.0 {
            let before = tcp::State::ALL[usize::from(entry.state)];
            let state = tcp::next(before, direction(entry, side), event(packet.flags));
            if state != before {
                entry.state = state as u8;
                recount(entry, state.is_active(), block);
                if state == tcp::State::Established {
                    table.keep(slot);
                    table.assure_template(slot);
                }
            }
            timeouts.tcp(state)
        } else if packet.key.protocol == Protocol::SCTP.0 {
            advance_sctp(table, slot, side, packet.flags, block);
            let entry = table.entry(slot);
            match sctp::Event::in_signals(packet.flags) {
                Some(_) => timeouts.sctp(sctp::State::of(entry.state)),
                None => before_ms,
            }
        } else {
            if entry.packets == 2 {
                table.keep(slot);
            }
            if side == Side::Real {
                table.assure_template(slot);
            }
            timeouts.udp
        };
        if timeout_ms != before_ms {
            let timeout_ms = watch::own_timeout(self.snapshot, table.entry(slot), timeout_ms);
            table.set_timeout(slot, self.now, timeout_ms);
        }
    }
}

/// Moves an SCTP association's state on.
#[cold]
#[inline(never)]
fn advance_sctp<A: Address>(
    table: &mut Table<A>,
    slot: Slot,
    side: Side,
    signals: segment::Flags,
    block: &RealBlock,
) {
    let Some(event) = sctp::Event::in_signals(signals) else {
        return;
    };
    let entry = table.entry_mut(slot);
    let before = sctp::State::of(entry.state);
    let state = sctp::next(before, direction(entry, side), event);
    if state == before {
        return;
    }
    entry.state = state as u8;
    recount(entry, state.is_active(), block);
    if state == sctp::State::Established {
        table.keep(slot);
        table.assure_template(slot);
    }
}

/// Which of IPVS's tables a segment moves the state by.
#[inline]
fn direction<A>(entry: &Entry<A>, side: Side) -> Direction {
    match side {
        Side::Real => Direction::Output,
        Side::Client if entry.flags.has(Flags::TWO_WAY) => Direction::Input,
        Side::Client => Direction::InputOnly,
    }
}

/// What moves the state: RST, else SYN, else FIN, else ACK.
#[inline]
fn event(flags: segment::Flags) -> Option<Event> {
    if flags.rst() {
        Some(Event::Rst)
    } else if flags.syn() {
        Some(Event::Syn)
    } else if flags.fin() {
        Some(Event::Fin)
    } else if flags.ack() {
        Some(Event::Ack)
    } else {
        None
    }
}

/// Whether a SYN or an INIT is scheduled anew, though there is a connection (reference B.5, B.7): because
/// that is closed, or its real server is to take no more.
pub(super) fn starts_over<A: Stored>(entry: &Entry<A>, snapshot: &Snapshot) -> bool {
    let ConnReuse { closed, closing } = snapshot.settings.conn_reuse;
    if !closed {
        return false;
    }
    let real = snapshot.reals.get(entry.real_id.0);
    if snapshot.settings.expire_nodest_conn && real.is_some_and(|real| real.quiescent) {
        return true;
    }
    if entry.template().is_some() {
        return false;
    }
    if entry.protocol == Protocol::SCTP.0 {
        return entry.state == sctp::State::Closed as u8;
    }
    match tcp::State::ALL[usize::from(entry.state)] {
        tcp::State::TimeWait | tcp::State::Close => true,
        tcp::State::FinWait => closing && !entry.flags.has(Flags::TWO_WAY),
        _ => false,
    }
}
