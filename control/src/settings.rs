//! Timeouts and tunables: what the operator sets, and what workers make of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroU16;

use config::built::{self, NotBuilt};
use config::model::{Config, Timeouts};
use config::sysctl::{self, Sysctl};
use dataplane::conn::timeout;
use dataplane::sched::Expirations;
use dataplane::services::{ConnReuse, Settings};
use proto::errors::Failure;
use serde::Serialize;

use crate::defence::Shortage;
use crate::model::Origin;

/// What the kernel's own names for the tunables begin with.
const PREFIX: &str = "net.ipv4.vs.";

/// Timeouts and tunables as they were set last, by the file or by a command.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tunables {
    /// Those of `--set`, in seconds.
    pub timeouts: Timeouts,
    /// Only those that somebody set.
    sysctls: BTreeMap<&'static str, (i64, Origin)>,
    /// Whether the workers' tables are short of room now.
    shortage: Option<Shortage>,
}

/// A tunable and what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: i64,
    /// What it is when nobody sets it.
    pub default: i64,
    /// The smallest value that it can have.
    pub min: i64,
    /// The largest.
    pub max: i64,
    /// Who set it: `default` (nobody), `file` or `command`.
    pub origin: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// Tunables for people: as sysctl(8) prints them.
pub fn text(rows: &[Row]) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        writeln!(text, "{} = {}", row.name, row.value).expect("a String takes everything");
        text
    })
}

/// Tunables for programs: one JSON object and a newline.
pub fn json(rows: &[Row]) -> String {
    format!("{}\n", serde_json::json!({ "tunables": rows }))
}

/// Why a tunable keeps its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// Nobody knows it.
    #[error("sysctl {0}: there is no such tunable; there are: {names}", names = names())]
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

/// Those that do something.
fn built() -> impl Iterator<Item = &'static Sysctl> {
    let all = sysctl::ALL.iter();
    all.filter(|sysctl| built::sysctl(sysctl.name).is_ok())
}

fn names() -> String {
    let names: Vec<_> = built().map(|sysctl| sysctl.name).collect();
    names.join(", ")
}

/// The tunable with this name; the kernel's prefix may stand before it.
fn find(name: &str) -> Result<&'static Sysctl, SysctlError> {
    let short = name.strip_prefix(PREFIX).unwrap_or(name);
    sysctl::find(short).ok_or_else(|| SysctlError::Unknown(name.to_owned()))
}

impl From<SysctlError> for Failure {
    fn from(error: SysctlError) -> Self {
        Self::usage(format!("sluice: {error}"))
    }
}

impl Tunables {
    /// What the file says. Names that it can't have its reader refuses.
    pub fn of(config: &Config) -> Self {
        let known = |(name, value): &(String, i64)| {
            let known = sysctl::find(name)?;
            Some((known.name, (*value, Origin::File)))
        };
        Self {
            timeouts: config.timeouts,
            sysctls: config.sysctl.iter().filter_map(known).collect(),
            shortage: None,
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

    /// Sets one tunable by a command, and shows it; the kernel's prefix may stand before its
    /// name.
    ///
    /// # Errors
    /// See [`SysctlError`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<Row, SysctlError> {
        let known = find(name)?;
        let number = value.parse().ok().filter(|&number| known.allows(number));
        let number = number.ok_or_else(|| SysctlError::Value {
            name: known.name,
            value: value.to_owned(),
            min: known.min,
            max: known.max,
        })?;
        built::sysctl(known.name)?;
        self.sysctls.insert(known.name, (number, Origin::Command));
        Ok(self.row(known))
    }

    /// One tunable as it is.
    ///
    /// # Errors
    /// [`SysctlError::Unknown`], or one that does nothing yet.
    pub fn show(&self, name: &str) -> Result<Row, SysctlError> {
        let known = find(name)?;
        built::sysctl(known.name)?;
        Ok(self.row(known))
    }

    /// Every tunable that does something, in the order of the reference.
    pub fn all(&self) -> Vec<Row> {
        built().map(|known| self.row(known)).collect()
    }

    fn row(&self, known: &Sysctl) -> Row {
        let origin = self.sysctls.get(known.name).map(|&(_, origin)| origin);
        Row {
            name: known.name,
            value: self.get(known.name),
            default: known.default.unwrap_or(0),
            min: known.min,
            max: known.max,
            origin: match origin {
                None => "default",
                Some(Origin::File) => "file",
                Some(Origin::Command) => "command",
            },
            about: known.about,
        }
    }

    /// Below how many free pages a table is short of room.
    pub fn amemthresh(&self) -> u64 {
        u64::try_from(self.get("amemthresh")).unwrap_or(0)
    }

    /// How it stands with the room in the tables; says whether that makes a difference to
    /// workers.
    pub fn set_shortage(&mut self, shortage: Option<Shortage>) -> bool {
        let before = self.defence();
        self.shortage = shortage;
        self.defence() != before
    }

    /// Whether `drop_entry` acts, and the rate of `drop_packet` if it does.
    fn defence(&self) -> (bool, Option<NonZeroU16>) {
        let short = self.shortage.map(|shortage| shortage.drop_rate);
        let packet = match self.set_value("drop_packet") {
            0 => None,
            3 => u16::try_from(self.get("am_droprate")).ok(),
            _ => short,
        };
        let entry = match self.set_value("drop_entry") {
            0 => false,
            3 => true,
            _ => short.is_some(),
        };
        (entry, packet.and_then(NonZeroU16::new))
    }

    /// What somebody set, by name.
    pub fn sysctls(&self) -> impl Iterator<Item = (&'static str, i64)> {
        self.sysctls
            .iter()
            .map(|(&name, &(value, _))| (name, value))
    }

    /// The file sets a tunable to a value that was checked, or no longer sets it.
    pub fn assign(&mut self, name: &'static str, value: Option<i64>) {
        match value {
            Some(value) => self.sysctls.insert(name, (value, Origin::File)),
            None => self.sysctls.remove(name),
        };
    }

    /// What was set is as in `other`; says whether that is something else. How short of room
    /// the tables are is nobody's setting.
    pub fn become_like(&mut self, other: &Self) -> bool {
        let shortage = self.shortage;
        let other = Self {
            shortage,
            ..other.clone()
        };
        let differs = *self != other;
        *self = other;
        differs
    }

    /// What workers are told.
    pub fn compile(&self) -> Settings {
        let Timeouts { tcp, tcp_fin, udp } = self.timeouts;
        let before = Settings::default();
        let (drop_entry, drop_packet) = self.defence();
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
            sloppy_sctp: self.is_on("sloppy_sctp"),
            nat_icmp_send: self.is_on("nat_icmp_send"),
            tcp_reset: self.is_on("tcp_reset"),
            drop_entry,
            drop_packet,
            ..before
        }
    }

    /// The value as one reads it: an automatic mode, 1 or 2, says whether it acts now.
    fn get(&self, name: &str) -> i64 {
        match self.set_value(name) {
            1 | 2 if ["drop_entry", "drop_packet"].contains(&name) => {
                1 + i64::from(self.shortage.is_some())
            }
            value => value,
        }
    }

    fn set_value(&self, name: &str) -> i64 {
        let default = || sysctl::find(name).and_then(|sysctl| sysctl.default);
        let set = self.sysctls.get(name).map(|&(value, _)| value);
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
            (
                "nonsense",
                "1",
                "sysctl nonsense: there is no such tunable; there are: amemthresh, am_droprate, \
                 drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, \
                 sloppy_tcp, sloppy_sctp, nat_icmp_send, pmtu_disc, conn_reuse_mode, \
                 lblc_expiration, lblcr_expiration, tcp_reset",
            ),
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

    /// Modes of both, whether there is a shortage: what is read, and what is done.
    #[test]
    fn the_modes_of_defence() {
        let short = Some(Shortage { drop_rate: 4 });
        let cases = [
            (0, None, (0, false, None)),
            (0, short, (0, false, None)),
            (1, None, (1, false, None)),
            (1, short, (2, true, Some(4))),
            (2, None, (1, false, None)),
            (2, short, (2, true, Some(4))),
            (3, None, (3, true, Some(7))),
            (3, short, (3, true, Some(7))),
        ];
        for (mode, shortage, want) in cases {
            let mut tunables = Tunables::default();
            for (name, value) in [
                ("drop_entry", mode),
                ("drop_packet", mode),
                ("am_droprate", 7),
            ] {
                tunables.set(name, &value.to_string()).expect("in range");
            }
            tunables.set_shortage(shortage);
            let Settings {
                drop_entry,
                drop_packet,
                ..
            } = tunables.compile();
            let read = tunables.show("drop_entry").expect("built").value;
            assert_eq!(tunables.show("drop_packet").expect("built").value, read);
            let done = (read, drop_entry, drop_packet.map(NonZeroU16::get));
            assert_eq!(done, want, "mode {mode}, {shortage:?}");
        }
    }

    #[test]
    fn a_tunable_says_who_set_it() {
        let mut tunables = Tunables::of(&Config {
            sysctl: vec![("sloppy_tcp".to_owned(), 1), ("pmtu_disc".to_owned(), 1)],
            ..Config::default()
        });
        let row = tunables.set("pmtu_disc", "0").expect("in range");
        assert_eq!((row.value, row.origin), (0, "command"));
        let origin = |name| tunables.show(name).expect("built").origin;
        let names = ["sloppy_tcp", "pmtu_disc", "conn_reuse_mode"];
        assert_eq!(names.map(origin), ["file", "command", "default"]);
        let all = tunables.all();
        assert!(text(&all).contains("sloppy_tcp = 1\n"), "{}", text(&all));
        assert!(all.iter().all(|row| row.name != "conntrack"));
        assert!(tunables.show("conntrack").is_err());
    }

    #[test]
    fn a_timeout_of_nothing_stays() {
        let mut tunables = Tunables::default();
        tunables.set_timeouts(0, 0, 60);
        let Timeouts { tcp, tcp_fin, udp } = tunables.timeouts;
        assert_eq!((tcp, tcp_fin, udp), (900, 120, 60));
    }
}
