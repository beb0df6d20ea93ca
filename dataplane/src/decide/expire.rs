//! Connections that end without a packet.

use super::Context;
use crate::conn::{Flags, Slot};
use crate::services::ServiceId;
use crate::state::{State, Stored, account_end};

impl Context<'_> {
    /// Ends connections whose time is up, looking at no more than `budget` of each family.
    pub fn expire(&mut self, budget: u32) {
        let (reals, blocks, counters) = (&self.snapshot.reals, self.blocks, self.counters);
        let state = &mut *self.state;
        state.v4.expire(self.now, budget, |entry| {
            account_end(entry, reals, blocks, counters)
        });
        state.v6.expire(self.now, budget, |entry| {
            account_end(entry, reals, blocks, counters)
        });
        state
            .sched
            .expire(self.now, self.snapshot.settings.expirations, budget);
        self.thin_out(budget);
    }

    /// Ends what a flood left, where `drop_entry` says so.
    fn thin_out(&mut self, budget: u32) {
        let State { v4, v6, sweeps, .. } = &mut *self.state;
        if !self.snapshot.settings.drop_entry {
            sweeps.iter_mut().for_each(|sweep| sweep.rest(self.now));
            return;
        }
        let (reals, blocks, counters) = (&self.snapshot.reals, self.blocks, self.counters);
        let services = &self.snapshot.services;
        // The template of single packets has no connection that could vouch for it.
        let spared = |service: ServiceId, flags: Flags| {
            let service = services.get(service.0);
            flags.has(Flags::TEMPLATE) && service.is_some_and(|service| service.one_packet)
        };
        let [first, second] = sweeps;
        v4.thin_out(
            first,
            self.now,
            budget,
            |entry| spared(entry.service, entry.flags),
            |entry| account_end(entry, reals, blocks, counters),
        );
        v6.thin_out(
            second,
            self.now,
            budget,
            |entry| spared(entry.service, entry.flags),
            |entry| account_end(entry, reals, blocks, counters),
        );
    }

    pub(super) fn end<A: Stored>(&mut self, slot: Slot) {
        let entry = A::table(self.state).remove(slot);
        account_end(&entry, &self.snapshot.reals, self.blocks, self.counters);
    }
}
