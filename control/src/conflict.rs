//! Addresses of ours that somebody else says are his (RFC 5227 section 2.4; for IPv6 the same).
//!
//! A held address is ours to keep, so we defend it: an announcement sets the neighbours' caches
//! right, but only one in `DEFEND_EVERY_MS`, or two directors with the same fault would shout
//! at each other for ever. The operator is told as often.

use std::collections::BTreeMap;

use wire::ethernet::Mac;

use crate::neigh::Instant;
use crate::topology::Neighbour;

/// Between two defences of one address (DEFEND_INTERVAL).
const DEFEND_EVERY_MS: u64 = 10_000;
/// How long a conflict is shown after it was seen last.
const SHOWN_MS: u64 = 600_000;

/// Somebody claims an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The MAC that did so last.
    pub mac: Mac,
    /// Packets that did.
    pub times: u64,
    /// The last of them.
    pub last: Instant,
    defended: Instant,
}

/// All conflicts, by port and address. There are never more than addresses of ours.
#[derive(Debug, Default)]
pub struct Conflicts(BTreeMap<Neighbour, Conflict>);

impl Conflicts {
    /// `mac` claims an address of ours; says whether we defend it now.
    pub fn claimed(&mut self, address: Neighbour, mac: Mac, now: Instant) -> bool {
        let Some(conflict) = self.0.get_mut(&address) else {
            self.0.insert(
                address,
                Conflict {
                    mac,
                    times: 1,
                    last: now,
                    defended: now,
                },
            );
            return true;
        };
        conflict.mac = mac;
        conflict.times += 1;
        conflict.last = now;
        let defends = now >= conflict.defended + DEFEND_EVERY_MS;
        if defends {
            conflict.defended = now;
        }
        defends
    }

    /// Forgets those that were not seen for long.
    pub fn expire(&mut self, now: Instant) {
        self.0.retain(|_, conflict| now < conflict.last + SHOWN_MS);
    }

    /// An address is not ours any more.
    pub fn forget(&mut self, address: &Neighbour) {
        self.0.remove(address);
    }

    /// All, by port and address.
    pub fn iter(&self) -> impl Iterator<Item = (Neighbour, Conflict)> {
        self.0
            .iter()
            .map(|(&address, &conflict)| (address, conflict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::port::PortId;
    use std::net::IpAddr;

    #[test]
    fn an_address_is_defended_once_in_ten_seconds() {
        let vip = (PortId(0), IpAddr::from([192, 0, 2, 10]));
        let other = (PortId(0), IpAddr::from([192, 0, 2, 11]));
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let mut all = Conflicts::default();
        let rows = [
            (vip, 1, 100, true),
            (vip, 2, 101, false),
            (other, 1, 102, true),
            (vip, 1, 10_099, false),
            (vip, 1, 10_100, true),
            (vip, 1, 10_101, false),
        ];
        for (address, last, now, defends) in rows {
            assert_eq!(all.claimed(address, mac(last), now), defends, "{now}");
        }
        let seen: Vec<_> = all
            .iter()
            .map(|(who, it)| (who, it.times, it.last))
            .collect();
        assert_eq!(seen, [(vip, 5, 10_101), (other, 1, 102)]);
        all.expire(600_102);
        assert_eq!(all.iter().count(), 1, "the other was seen too long ago");
        all.forget(&vip);
        assert_eq!(all.iter().count(), 0);
    }
}
