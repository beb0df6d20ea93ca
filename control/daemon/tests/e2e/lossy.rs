//! Every mode behind a cable that loses, delays and reorders: nothing that clients or servers
//! repeat may be lost on us, and nothing may arrive altered.

use crate::daemon::Daemon;
use crate::lab::{Lab, has_ipv6};
use crate::modes::{REALS, across, serves, service, toml};
use crate::relay;
use crate::routed::{self, Family, enable_ipv6, hold_vip, route_back, unwrap};
use crate::runner::{Failure, Outcome, Test};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("lossy::dr", dr),
    ("lossy::tun", tun),
    ("lossy::nat", || nat(1)),
    ("lossy::nat_two_workers", || nat(2)),
    ("lossy::fullnat", || fullnat(1)),
    ("lossy::fullnat_two_workers", || fullnat(2)),
    ("lossy::fullnat_6to4", || fullnat_across(1)),
    ("lossy::fullnat_6to4_two_workers", || fullnat_across(2)),
];

const FAMILY: Family = Family::V4;

fn lab() -> Result<Lab, Failure> {
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

/// From IPv6 clients to IPv4 real servers: what is lost and comes late on one side is repeated
/// and put in order by both.
fn fullnat_across(workers: usize) -> Outcome {
    if !has_ipv6() {
        return Err(Failure::CannotRun("the kernel has no IPv6".to_owned()));
    }
    let lab = lab()?;
    enable_ipv6(
        &lab.client(),
        "eth0",
        &format!("{}/64", Family::V6.client()),
    )?;
    let daemon = Daemon::start(&lab, &toml(workers, across())?)?;
    serves(&lab, &daemon, Family::V6, workers, &FAMILY.locals())
}
