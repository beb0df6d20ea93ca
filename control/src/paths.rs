//! How wide the paths to tunnels' ends are, as far as ICMP errors told (RFC 1191, RFC 8201).
//!
//! Anybody can forge such an error. So one counts only about a tunnel that there is, only where
//! it says less than is known, never below what every path has, and for ten minutes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use dataplane::services::RealId;

use crate::neigh::Instant;

/// How long an error is believed: RFC 1191 section 6.3, and what Linux does (`mtu_expires`).
const BELIEVED_MS: u64 = 600_000;

/// What is known of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    mtu: u16,
    until: Instant,
}

/// What came of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The path is narrower than was known.
    Narrower,
    /// No news.
    Nothing,
}

/// The paths, and who is at their ends: at most one for each end that some real server has.
#[derive(Debug, Default)]
pub struct Paths {
    known: HashMap<IpAddr, Path>,
    reals: HashMap<IpAddr, HashSet<RealId>>,
}

impl Paths {
    /// A real server's tunnel ends there.
    pub fn add(&mut self, end: IpAddr, real: RealId) {
        self.reals.entry(end).or_default().insert(real);
    }

    /// It does so no longer.
    pub fn remove(&mut self, end: &IpAddr, real: RealId) {
        let Some(reals) = self.reals.get_mut(end) else {
            return;
        };
        reals.remove(&real);
        if reals.is_empty() {
            self.reals.remove(end);
            self.known.remove(end);
        }
    }

    /// The real servers whose tunnels end, or ended, there.
    pub fn reals(&self, end: &IpAddr) -> impl Iterator<Item = &RealId> {
        self.reals.get(end).into_iter().flatten()
    }

    /// The MTU of a path in octets, outer header included, where it is known to be narrower than
    /// its first link.
    pub fn mtu(&self, end: &IpAddr) -> Option<u16> {
        self.known.get(end).map(|path| path.mtu)
    }

    /// Every path that is known to be narrow, with its MTU in octets and the milliseconds for
    /// which that is still believed, by its end.
    pub fn iter(&self, now: Instant) -> Vec<(IpAddr, u16, u64)> {
        let left = |path: &Path| path.until.saturating_sub(now);
        let all = self.known.iter();
        let mut all: Vec<_> = all
            .map(|(&end, path)| (end, path.mtu, left(path)))
            .collect();
        all.sort_unstable();
        all
    }

    /// An error said that the path is no wider than `mtu` octets.
    pub fn tell(&mut self, end: IpAddr, mtu: u16, now: Instant) -> Told {
        let known = self.mtu(&end);
        if known.is_some_and(|known| known < mtu) {
            return Told::Nothing;
        }
        let until = now + BELIEVED_MS;
        self.known.insert(end, Path { mtu, until });
        match known == Some(mtu) {
            true => Told::Nothing,
            false => Told::Narrower,
        }
    }

    /// Forgets what was told too long ago; says of which ends.
    pub fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let due = self.known.iter().filter(|(_, path)| path.until <= now);
        let due: Vec<IpAddr> = due.map(|(&end, _)| end).collect();
        for end in &due {
            self.known.remove(end);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 11));

    #[test]
    fn only_less_counts_and_for_ten_minutes() {
        let mut paths = Paths::default();
        paths.add(END, RealId(1));
        let rows = [
            (0, 1400, Told::Narrower, 1400),
            (1_000, 1450, Told::Nothing, 1400),
            (2_000, 1300, Told::Narrower, 1300),
            (3_000, 1300, Told::Nothing, 1300),
        ];
        for (now, mtu, want, known) in rows {
            assert_eq!(paths.tell(END, mtu, now), want, "{mtu} at {now}");
            assert_eq!(paths.mtu(&END), Some(known));
        }
        assert!(paths.expire(602_999).is_empty());
        assert_eq!(paths.iter(602_999), [(END, 1300, 1)]);
        assert_eq!(paths.expire(603_000), [END]);
        assert_eq!(paths.mtu(&END), None);
    }

    #[test]
    fn a_path_goes_with_its_last_real_server() {
        let mut paths = Paths::default();
        paths.add(END, RealId(1));
        paths.add(END, RealId(2));
        paths.tell(END, 1400, 0);
        paths.remove(&END, RealId(1));
        assert_eq!(paths.mtu(&END), Some(1400));
        paths.remove(&END, RealId(2));
        assert_eq!((paths.mtu(&END), paths.reals(&END).count()), (None, 0));
    }
}
