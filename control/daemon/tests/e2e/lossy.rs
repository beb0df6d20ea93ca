//! Every mode behind a cable that loses, delays and reorders: nothing that clients or servers
//! repeat may be lost on us, and nothing may arrive altered.

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::modes::{REALS, serves, service, toml};
use crate::relay;
use crate::routed::{self, Family, hold_vip, route_back, unwrap};
use crate::runner::{Outcome, Test};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("lossy::dr", dr),
    ("lossy::tun", tun),
    ("lossy::nat", || nat(1)),
    ("lossy::nat_two_workers", || nat(2)),
    ("lossy::fullnat", || fullnat(1)),
    ("lossy::fullnat_two_workers", || fullnat(2)),
];

const FAMILY: Family = Family::V4;

fn lab() -> Result<Lab, crate::runner::Failure> {
    let mut lab = routed::lab(REALS)?;
    relay::between(&mut lab, &format!("{}/24", FAMILY.client()))?;
    Ok(lab)
}

fn dr() -> Outcome {
    let lab = lab()?;
    for index in 1..=REALS {
        hold_vip(&lab, index, FAMILY)?;
    }
    let daemon = Daemon::start(&lab, &toml(1, service(FAMILY, "dr", FAMILY, "", ""))?)?;
    serves(&lab, &daemon, FAMILY, 1, &[FAMILY.client()])
}

fn tun() -> Outcome {
    let mut lab = lab()?;
    for index in 1..=REALS {
        unwrap(&mut lab, index, FAMILY, FAMILY)?;
    }
    let daemon = Daemon::start(&lab, &toml(1, service(FAMILY, "tun", FAMILY, "", ""))?)?;
    serves(&lab, &daemon, FAMILY, 1, &[FAMILY.client()])
}

fn nat(workers: usize) -> Outcome {
    let lab = lab()?;
    for index in 1..=REALS {
        route_back(&lab, index, FAMILY)?;
    }
    let rest = service(FAMILY, "nat", FAMILY, "", "");
    let daemon = Daemon::start(&lab, &toml(workers, rest)?)?;
    serves(&lab, &daemon, FAMILY, workers, &[FAMILY.client()])
}

fn fullnat(workers: usize) -> Outcome {
    let lab = lab()?;
    let more = format!("local_addresses = {:?}", FAMILY.locals());
    let rest = service(FAMILY, "fullnat", FAMILY, &more, "");
    let daemon = Daemon::start(&lab, &toml(workers, rest)?)?;
    serves(&lab, &daemon, FAMILY, workers, &FAMILY.locals())
}
