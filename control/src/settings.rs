//! Timeouts and tunables: what the operator sets, and what workers make of it.

use std::collections::BTreeMap;

use config::built::{self, NotBuilt};
use config::model::{Config, Timeouts};
use config::sysctl;
use dataplane::conn::timeout;
use dataplane::sched::Expirations;
use dataplane::services::{ConnReuse, Settings};
use proto::errors::Failure;

/// Timeouts and tunables as they were set last, by the file or by a command.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tunables {
    /// Those of `--set`, in seconds.
    pub timeouts: Timeouts,
    /// Only those that somebody set.
    sysctls: BTreeMap<&'static str, i64>,
}

/// Why a tunable keeps its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// Nobody knows it.
    #[error("sysctl {0}: there is no such tunable")]
    Unknown(String),
    /// A value that it can't have.
    #[error("sysctl {name}: {value} is not in {min}..={max}")]
    Value {
        /// Which.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// The smallest it can have.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Something for a later version.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
}

impl From<SysctlError> for Failure {
    fn from(error: SysctlError) -> Self {
        Self::usage(format!("sluice: {error}"))
    }
}

impl Tunables {
    /// What the file says. Names that it can't have its reader refuses.
    pub fn of(config: &Config) -> Self {
        let known = |(name, value): &(String, i64)| Some((sysctl::find(name)?.name, *value));
        Self {
            timeouts: config.timeouts,
            sysctls: config.sysctl.iter().filter_map(known).collect(),
        }
    }

    /// `--set`: seconds for each; 0 leaves one as it is.
    pub fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) {
        let set = |timeout: &mut u32, seconds| {
            if seconds > 0 {
                *timeout = seconds;
            }
        };
        set(&mut self.timeouts.tcp, tcp);
        set(&mut self.timeouts.tcp_fin, tcp_fin);
        set(&mut self.timeouts.udp, udp);
    }

    /// Sets one tunable; the kernel's prefix may stand before its name.
    ///
    /// # Errors
    /// See [`SysctlError`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SysctlError> {
        let short = name.strip_prefix("net.ipv4.vs.").unwrap_or(name);
        let known = sysctl::find(short).ok_or_else(|| SysctlError::Unknown(name.to_owned()))?;
        let number = value.parse().ok().filter(|&number| known.allows(number));
        let number = number.ok_or_else(|| SysctlError::Value {
            name: known.name,
            value: value.to_owned(),
            min: known.min,
            max: known.max,
        })?;
        built::sysctl(known.name)?;
        self.sysctls.insert(known.name, number);
        Ok(())
    }

    /// What workers are told.
    pub fn compile(&self) -> Settings {
        let Timeouts { tcp, tcp_fin, udp } = self.timeouts;
        let before = Settings::default();
        let expirations = Expirations {
            lblc_ms: self.ms("lblc_expiration"),
            lblcr_ms: self.ms("lblcr_expiration"),
        };
        Settings {
            timeouts: timeout::Timeouts::with_set(tcp, tcp_fin, udp),
            pmtu_disc: self.is_on("pmtu_disc"),
            expirations,
            expire_nodest_conn: self.is_on("expire_nodest_conn"),
            expire_quiescent_template: self.is_on("expire_quiescent_template"),
            conn_reuse: ConnReuse::mode(u32::try_from(self.get("conn_reuse_mode")).unwrap_or(1)),
            sloppy_tcp: self.is_on("sloppy_tcp"),
            nat_icmp_send: self.is_on("nat_icmp_send"),
            tcp_reset: self.is_on("tcp_reset"),
            ..before
        }
    }

    fn get(&self, name: &str) -> i64 {
        let default = || sysctl::find(name).and_then(|sysctl| sysctl.default);
        let set = self.sysctls.get(name).copied();
        set.or_else(default).unwrap_or(0)
    }

    fn is_on(&self, name: &str) -> bool {
        self.get(name) != 0
    }

    /// A tunable in seconds.
    fn ms(&self, name: &str) -> u32 {
        u32::try_from(self.get(name).saturating_mul(1000)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_set_is_as_in_the_kernel() {
        let settings = Tunables::default().compile();
        let default = Settings::default();
        assert_eq!(settings.timeouts, default.timeouts);
        assert_eq!(settings.conn_reuse, default.conn_reuse);
        assert_eq!(settings.pmtu_disc, default.pmtu_disc);
        assert_eq!(settings.expirations.lblc_ms, 86_400_000);
    }

    #[test]
    fn a_value_is_checked_before_it_counts() {
        let cases = [
            ("conn_reuse_mode", "2", ""),
            ("net.ipv4.vs.pmtu_disc", "0", ""),
            (
                "conn_reuse_mode",
                "4",
                "sysctl conn_reuse_mode: 4 is not in 0..=3",
            ),
            (
                "conn_reuse_mode",
                "x",
                "sysctl conn_reuse_mode: x is not in 0..=3",
            ),
            ("nonsense", "1", "sysctl nonsense: there is no such tunable"),
            ("conntrack", "1", "sysctl conntrack: not built yet"),
        ];
        let mut tunables = Tunables::default();
        for (name, value, want) in cases {
            let said = tunables
                .set(name, value)
                .err()
                .map(|error| error.to_string());
            assert_eq!(said.unwrap_or_default(), want);
        }
        let settings = tunables.compile();
        assert_eq!(
            (settings.conn_reuse, settings.pmtu_disc),
            (ConnReuse::mode(2), false)
        );
    }

    #[test]
    fn a_timeout_of_nothing_stays() {
        let mut tunables = Tunables::default();
        tunables.set_timeouts(0, 0, 60);
        let Timeouts { tcp, tcp_fin, udp } = tunables.timeouts;
        assert_eq!((tcp, tcp_fin, udp), (900, 120, 60));
    }
}
