//! The second look at a client's packet: what its connection's service asks of every packet.
//!
//! A packet of a plain service never comes here ([`Settled`](crate::services::Standing::Settled)). What a service asks is one
//! of: the client is on no block list, and on the allow list if there is one (reference C.8); the
//! real server still takes new connections (`--expire-quiescent`, reference C.9); ESTABLISHED
//! has the service's own timeout (`--conn-timeout`).

use wire::Protocol;

use super::{Aside, Context, Origin, Refusal};
use crate::conn::{Entry, Slot, sctp, tcp};
use crate::observe::{Ended, Event};
use crate::parse::Packet;
use crate::port::Frame;
use crate::services::{Real, Snapshot};
use crate::state::Stored;
use crate::verdict::{Reason, Verdict};

impl Context<'_> {
    /// Why a client's packet may not pass by its connection in `slot`, which is on `real`.
    pub(super) fn watch<A: Stored>(
        &mut self,
        packet: &Packet<A>,
        slot: Slot,
        real: &Real,
    ) -> Result<(), Refusal> {
        let entry = A::table(self.state).entry(slot);
        let service = self.snapshot.services.get(entry.service.0);
        let asks = &service.ok_or(Reason::RealRemoved)?.asks;
        if let Some(reason) = asks.access.refusal(|| packet.key.source.to_ip()) {
            return Err(reason.into());
        }
        let removed = !real.is_available();
        if asks.expire_quiescent && (removed || real.quiescent) {
            return Err(Reason::Quiescent.into());
        }
        if removed {
            return Err(Reason::RealRemoved.into());
        }
        // The service's timeout may be newer than the connection's state.
        let before_ms = entry.timeout_ms;
        let timeout_ms = own_timeout(self.snapshot, entry, before_ms);
        if timeout_ms != before_ms {
            A::table(self.state).set_timeout(slot, self.now, timeout_ms);
        }
        Ok(())
    }

    /// A connection ends at a client's packet, because of its real server. What may open another
    /// does; the others' sender is told by a reset that it is over.
    pub(super) fn quiescent<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        origin: &Origin,
    ) -> Verdict {
        let is_tcp = packet.key.protocol == Protocol::TCP.0;
        if !is_tcp || packet.flags.syn() && !packet.flags.ack() {
            return self.anew(frame, packet, slot, Ended::Quiescent, origin);
        }
        let entry = A::table(self.state).entry(slot);
        frame.observe(Event::Ended(Ended::Quiescent, entry));
        self.end::<A>(slot);
        self.aside = (!packet.later && !packet.flags.rst()).then_some(Aside::Reset);
        Verdict::Drop(Reason::Quiescent)
    }
}

/// The timeout that a connection has by its state: `general_ms`, unless its service has one of
/// its own for ESTABLISHED.
#[cold]
#[inline(never)]
pub(super) fn own_timeout<A: Stored>(
    snapshot: &Snapshot,
    entry: &Entry<A>,
    general_ms: u32,
) -> u32 {
    let established = match Protocol(entry.protocol) {
        Protocol::TCP => tcp::State::Established as u8,
        Protocol::SCTP => sctp::State::Established as u8,
        _ => return general_ms,
    };
    if entry.state != established {
        return general_ms;
    }
    let service = snapshot.services.get(entry.service.0);
    let own_ms = service.and_then(|service| service.asks.established_ms);
    own_ms.unwrap_or(general_ms)
}
