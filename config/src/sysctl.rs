//! IPVS's tunables: `net.ipv4.vs.*` of Linux 6.1, with their defaults and ranges.
//!
//! The names are the kernel's. One of them holds two numbers, `sync_threshold = [3, 50]`;
//! the second goes by the name that the kernel's sources give it, [`SYNC_PERIOD`], so that
//! everywhere behind the file a tunable is one name and one number. `tcp_reset` is our own:
//! IPVS leaves to the host's stack what we have to do ourselves.

use std::ops::RangeInclusive;

/// One tunable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// The name.
    pub name: &'static str,
    /// The value when nobody sets one; absent where it depends on the machine's memory.
    pub default: Option<i64>,
    /// The smallest value.
    pub min: i64,
    /// The largest value.
    pub max: i64,
    /// What it does, with its unit.
    pub about: &'static str,
}

impl Sysctl {
    /// Every value that lies between the ends; see [`Sysctl::allows`] for the last word.
    pub fn range(&self) -> RangeInclusive<i64> {
        self.min..=self.max
    }

    /// Whether the tunable can be set to `value`.
    pub fn allows(&self, value: i64) -> bool {
        let power_of_two = self.name != "sync_ports" || value & (value - 1) == 0;
        self.range().contains(&value) && power_of_two
    }
}

/// The tunable with this name.
pub fn find(name: &str) -> Option<&'static Sysctl> {
    ALL.iter().find(|sysctl| sysctl.name == name)
}

/// The first number of `sync_threshold`.
pub const SYNC_THRESHOLD: &str = "sync_threshold";
/// The second number of `sync_threshold`.
pub const SYNC_PERIOD: &str = "sync_period";

const INT: i64 = i32::MAX as i64;

const fn row(
    name: &'static str,
    default: i64,
    (min, max): (i64, i64),
    about: &'static str,
) -> Sysctl {
    Sysctl {
        name,
        default: Some(default),
        min,
        max,
        about,
    }
}

/// Every tunable, in the order of the reference.
#[rustfmt::skip]
pub const ALL: &[Sysctl] = &[
    row("amemthresh",                1024, (0, INT), "pages (4096 octets) of free connection table below which automatic modes act"),
    row("am_droprate",                 10, (1, 65535), "with drop_packet 3, one new connection in so many is dropped"),
    row("drop_entry",                   0, (0, 3),   "drop connections early: 0 off, 1 automatic, 2 active, 3 always"),
    row("drop_packet",                  0, (0, 3),   "drop new connections: 0 off, 1 automatic, 2 active, 3 always"),
    row("secure_tcp",                   0, (0, 3),   "stricter TCP states: 0 off, 1 automatic, 2 active, 3 always"),
    row("conntrack",                    0, (0, 1),   "keep the kernel's own connection tracking entries"),
    row("snat_reroute",                 1, (0, 1),   "route answers of NAT reals again by their new source"),
    row("sync_version",                 1, (0, 1),   "format of the synchronisation messages"),
    row("sync_ports",                   1, (1, 64),  "UDP ports of the synchronisation, a power of two"),
    row("sync_persist_mode",            0, (0, 1),   "synchronise only the templates of persistent services"),
    Sysctl { name: "sync_qlen_max", default: None, min: 0, max: INT, about: "longest queue of synchronisation messages" },
    row("sync_sock_size",               0, (0, INT), "socket buffer of the synchronisation in octets, 0: the system's"),
    row(SYNC_THRESHOLD,                 3, (0, INT), "packets before a connection is synchronised"),
    row(SYNC_PERIOD,                   50, (0, INT), "packets between synchronisations (second number of sync_threshold)"),
    row("sync_refresh_period",          0, (0, INT), "seconds between synchronisations, 0: by packets"),
    row("sync_retries",                 0, (0, 3),   "repetitions of a synchronisation message"),
    row("cache_bypass",                 0, (0, 1),   "forward to the original destination when no real is available"),
    row("expire_nodest_conn",           0, (0, 1),   "end a connection at once when its real is gone"),
    row("expire_quiescent_template",    0, (0, 1),   "forget a client's real when its weight is 0"),
    row("sloppy_tcp",                   0, (0, 1),   "any TCP segment but RST may open a connection"),
    row("sloppy_sctp",                  0, (0, 1),   "any SCTP packet but ABORT may open a connection"),
    row("nat_icmp_send",                0, (0, 1),   "answer a NAT real's stray packets with port unreachable"),
    row("pmtu_disc",                    1, (0, 1),   "send fragmentation needed for packets too large"),
    row("backup_only",                  0, (0, 1),   "do not schedule while only the backup synchronisation runs"),
    row("conn_reuse_mode",              1, (0, 3),   "reschedule when a client reuses a port: 0 never, bit 1 when safe, bit 2 also in FIN_WAIT"),
    row("schedule_icmp",                0, (0, 1),   "let ICMP errors open connections"),
    row("ignore_tunneled",              0, (0, 1),   "leave tunnelled packets alone"),
    row("run_estimation",               1, (0, 1),   "compute rates"),
    row("lblc_expiration",          86400, (0, INT), "seconds after which lblc forgets a destination"),
    row("lblcr_expiration",         86400, (0, INT), "seconds after which lblcr forgets a destination"),
    row("tcp_reset",                    0, (0, 1),   "answer a TCP segment that may not open a connection with a rate-limited RST"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_defaults_legal() {
        for (i, sysctl) in ALL.iter().enumerate() {
            assert!(
                !ALL[..i].iter().any(|other| other.name == sysctl.name),
                "{}",
                sysctl.name
            );
            assert!(
                sysctl.default.is_none_or(|value| sysctl.allows(value)),
                "{}",
                sysctl.name
            );
        }
    }

    #[test]
    fn sync_ports_is_a_power_of_two() {
        let ports = find("sync_ports").expect("it is in the table");
        let allowed: Vec<_> = (-1..=65).filter(|&value| ports.allows(value)).collect();
        assert_eq!(allowed, [1, 2, 4, 8, 16, 32, 64]);
    }

    #[test]
    fn the_readme_has_a_line_for_each() {
        let readme = include_str!("../README.md");
        for sysctl in ALL
            .iter()
            .filter(|sysctl| !sysctl.name.starts_with("sync_"))
        {
            let default = sysctl.default.expect("only sync_qlen_max has none");
            let line = format!(
                "| `{}` | {default} | {}..={} |",
                sysctl.name, sysctl.min, sysctl.max
            );
            assert!(readme.contains(&line), "{line}");
        }
    }
}
