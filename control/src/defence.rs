//! When the automatic modes of `drop_entry` and `drop_packet` act (reference B.12).
//!
//! IPVS looks at the machine's free memory, once a second. Here connections have their memory
//! from the start, and what runs out is room in the tables: free entries, in pages of 4096
//! octets, of the fullest table of all workers. `amemthresh` is the threshold as in the kernel,
//! but never more than an eighth of the table: a small one would always be below it.

/// Octets of a page.
const PAGE: u64 = 4096;
/// Octets that a connection takes, by family: IPv4, IPv6.
const ENTRY: [u64; 2] = [64, 128];

/// A worker's two tables hold so many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capacity(pub [u32; 2]);

/// How it stands with the room in the tables, once it is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Every how many packets that would open a connection one is dropped; at least 1, which is
    /// every one of them.
    pub drop_rate: u16,
}

/// Whether some worker's table is short of room, by how many entries of each family are in
/// use: of several the worst.
pub fn shortage(
    capacity: Capacity,
    amemthresh: u64,
    in_use: impl IntoIterator<Item = [u32; 2]>,
) -> Option<Shortage> {
    let tables = in_use.into_iter().flat_map(|used| {
        let each = capacity.0.into_iter().zip(used).zip(ENTRY);
        each.filter_map(move |((all, used), octets)| table(all, used, octets, amemthresh))
    });
    tables.min_by_key(|shortage| shortage.drop_rate)
}

fn table(all: u32, used: u32, octets: u64, amemthresh: u64) -> Option<Shortage> {
    let pages = |entries: u32| u64::from(entries) * octets / PAGE;
    let threshold = amemthresh.min(pages(all) / 8);
    let missing = threshold.checked_sub(pages(all.saturating_sub(used)))?;
    let rate = threshold.checked_div(missing)?;
    Some(Shortage {
        drop_rate: u16::try_from(rate).unwrap_or(u16::MAX).max(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_more_is_dropped() {
        // 1,048,576 entries are 16,384 pages; 1024 pages are 65,536 of them.
        let capacity = Capacity([1 << 20, 1 << 18]);
        let cases = [
            ([0, 0], None),
            ([(1 << 20) - 65_536, 0], None),
            ([(1 << 20) - 49_152, 0], Some(4)),
            ([(1 << 20) - 32_768, 0], Some(2)),
            ([1 << 20, 0], Some(1)),
            ([(1 << 20) - 32_768, 1 << 18], Some(1)),
            ([0, (1 << 18) - 24_576], Some(4)),
        ];
        for (used, want) in cases {
            let found = shortage(capacity, 1024, [[0, 0], used]);
            assert_eq!(found.map(|it| it.drop_rate), want, "{used:?}");
        }
    }

    #[test]
    fn a_small_table_is_not_always_short() {
        // 64 pages, of which 8 are the threshold.
        let capacity = Capacity([4096, 0]);
        let rate = |used| shortage(capacity, 1024, [[used, 0]]).map(|it| it.drop_rate);
        assert_eq!(
            [0, 3584, 3840, 4096].map(rate),
            [None, None, Some(2), Some(1)]
        );
    }

    #[test]
    fn no_threshold_is_no_defence() {
        assert_eq!(shortage(Capacity([4096, 4096]), 0, [[4096, 4096]]), None);
    }
}
