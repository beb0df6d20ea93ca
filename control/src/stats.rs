//! Sums what the workers count: every worker writes its own blocks, and control reads them
//! when somebody asks.

use dataplane::counter::Counter;
use dataplane::port::PortId;
use dataplane::services::{Blocks, PortBlock, RealId, ServiceId, Traffic};
use proto::listing::Totals;

/// A real server's numbers over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RealNumbers {
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Totals since the start of the process.
    pub totals: Totals,
}

impl RealNumbers {
    /// Whether no connection and no template is on it.
    pub fn is_idle(&self) -> bool {
        self.active == 0 && self.inactive == 0 && self.persistent == 0
    }
}

/// Sums one real server's blocks.
pub fn real_numbers(blocks: &[Blocks], id: RealId) -> RealNumbers {
    let mut sum = RealNumbers::default();
    for block in blocks.iter().filter_map(|blocks| blocks.reals.get(id.0)) {
        sum.active = sum.active.wrapping_add(block.active.get());
        sum.inactive = sum.inactive.wrapping_add(block.inactive.get());
        sum.persistent = sum.persistent.wrapping_add(block.persistent.get());
        add(&mut sum.totals, &read(&block.traffic));
    }
    sum
}

/// Sums one service's blocks.
pub fn service_totals(blocks: &[Blocks], id: ServiceId) -> Totals {
    let mut sum = Totals::default();
    for block in blocks.iter().filter_map(|blocks| blocks.services.get(id.0)) {
        add(&mut sum, &read(&block.traffic));
    }
    sum
}

/// Sums the blocks of a VLAN's port, by the names of what devices count.
pub fn port_totals(blocks: &[Blocks], port: PortId) -> Vec<(&'static str, u64)> {
    let blocks = || blocks.iter().filter_map(|it| it.ports.get(port.0.into()));
    let sum = |of: fn(&PortBlock) -> &Counter| blocks().map(|block| of(block).get()).sum();
    vec![
        ("rx-packets", sum(|block| &block.rx)),
        ("tx-packets", sum(|block| &block.tx)),
        ("rx-bytes", sum(|block| &block.rx_bytes)),
        ("tx-bytes", sum(|block| &block.tx_bytes)),
    ]
}

fn read(traffic: &Traffic) -> Totals {
    Totals {
        connections: traffic.connections.get(),
        packets_in: traffic.packets_in.get(),
        packets_out: traffic.packets_out.get(),
        bytes_in: traffic.bytes_in.get(),
        bytes_out: traffic.bytes_out.get(),
    }
}

/// Adds `more` to `sum`, wrapping.
pub fn add(sum: &mut Totals, more: &Totals) {
    let one = |sum: &mut u64, more: u64| *sum = sum.wrapping_add(more);
    one(&mut sum.connections, more.connections);
    one(&mut sum.packets_in, more.packets_in);
    one(&mut sum.packets_out, more.packets_out);
    one(&mut sum.bytes_in, more.bytes_in);
    one(&mut sum.bytes_out, more.bytes_out);
}

/// What was counted since `base`.
pub fn since(now: Totals, base: Totals) -> Totals {
    Totals {
        connections: now.connections.wrapping_sub(base.connections),
        packets_in: now.packets_in.wrapping_sub(base.packets_in),
        packets_out: now.packets_out.wrapping_sub(base.packets_out),
        bytes_in: now.bytes_in.wrapping_sub(base.bytes_in),
        bytes_out: now.bytes_out.wrapping_sub(base.bytes_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(counts: &[(u32, u32)]) -> Vec<Blocks> {
        let one = |&(active, inactive): &(u32, u32)| {
            let mut blocks = Blocks::default();
            blocks.reals.grow(1);
            let block = blocks.reals.get(0).expect("grown");
            block.active.set(active);
            block.inactive.set(inactive);
            block.traffic.packets_in.add(u64::from(active) * 10);
            blocks
        };
        counts.iter().map(one).collect()
    }

    #[test]
    fn a_sum_is_over_all_workers() {
        let blocks = blocks(&[(1, 5), (2, 0), (4, 1)]);
        let numbers = real_numbers(&blocks, RealId(0));
        assert_eq!((numbers.active, numbers.inactive), (7, 6));
        assert_eq!(numbers.totals.packets_in, 70);
        assert!(!numbers.is_idle());
        assert!(
            real_numbers(&blocks, RealId(64)).is_idle(),
            "past the table: nothing"
        );
    }

    #[test]
    fn a_base_is_taken_off() {
        let now = Totals {
            packets_in: 10,
            ..Totals::default()
        };
        let base = Totals {
            packets_in: 4,
            ..Totals::default()
        };
        assert_eq!(since(now, base).packets_in, 6);
    }
}
