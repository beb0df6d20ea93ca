//! Every forwarding mode with real clients and servers: small and large bodies, one and two
//! workers, and what the servers see of the client.

use crate::daemon::{Daemon, Toml};
use crate::lab::{Lab, PORT_MAC, cores, has_ipv6, run};
use crate::routed::{self, Family, large_bodies, route_back, unwrap};
use crate::runner::{Failure, Outcome, Test, ensure};
use crate::tunnel;

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("modes::nat", || nat(Family::V4, 1)),
    ("modes::nat_two_workers", || nat(Family::V4, 2)),
    ("modes::fullnat", || fullnat(Family::V4, 1)),
    ("modes::fullnat_two_workers", || fullnat(Family::V4, 2)),
    ("modes::tun", || tun(Family::V4, Family::V4, 1)),
    ("modes::tun_two_workers", || tun(Family::V4, Family::V4, 2)),
    ("modes::nat_ipv6", || nat(Family::V6, 1)),
    ("modes::nat_ipv6_two_workers", || nat(Family::V6, 2)),
    ("modes::fullnat_ipv6", || fullnat(Family::V6, 1)),
    ("modes::fullnat_ipv6_two_workers", || fullnat(Family::V6, 2)),
    ("modes::tun_6in6", || tun(Family::V6, Family::V6, 1)),
    ("modes::tun_6in4", || tun(Family::V6, Family::V4, 1)),
    ("modes::tun_4in6", || tun(Family::V4, Family::V6, 1)),
    ("modes::gre", || gre("none", Family::V4, Family::V4)),
    ("modes::gre_summed_6in4", || {
        gre("csum", Family::V6, Family::V4)
    }),
    ("modes::gre_4in6", || gre("none", Family::V4, Family::V6)),
    ("modes::gue", || gue("none", Family::V4, Family::V4, 2)),
    ("modes::gue_summed_6in6", || {
        gue("csum", Family::V6, Family::V6, 1)
    }),
    ("modes::gue_remote_checksum", || {
        gue("remcsum", Family::V4, Family::V4, 1)
    }),
    ("modes::gue_remote_checksum_6in4", || {
        gue("remcsum", Family::V6, Family::V4, 1)
    }),
    ("modes::fullnat_6to4", || fullnat_across(1)),
    ("modes::fullnat_6to4_two_workers", || fullnat_across(2)),
    ("modes::fullnat_6to4_datagrams", || datagrams_across(1)),
    ("modes::fullnat_6to4_datagrams_two_workers", || {
        datagrams_across(2)
    }),
    ("modes::dr_ipv6", dr_ipv6),
    ("modes::the_kernel_has_ipv6", the_kernel_has_ipv6),
    ("modes::fullnat_by_commands", fullnat_by_commands),
    ("modes::local_delivery", || local_delivery("127.0.0.1")),
    ("modes::local_delivery_by_the_vip", || {
        local_delivery(Family::V4.vip())
    }),
    (
        "modes::a_first_nat_real_loses_no_connection",
        first_nat_real,
    ),
];

/// Real servers of each test.
pub(crate) const REALS: usize = 2;
const REQUESTS: usize = 40;

fn url(family: Family) -> String {
    format!("http://{}/", family.host(family.vip()))
}

/// A service with two real servers of one mode; `more` are lines of the service, `real` of
/// each real server.
pub(crate) fn service(family: Family, mode: &str, outer: Family, more: &str, real: &str) -> String {
    let listen = family.host(family.vip());
    let reals: String = (1..=REALS)
        .map(|index| {
            let address = outer.host(&outer.real(index));
            format!("[[service.real]]\naddress = \"{address}:80\"\nmode = \"{mode}\"\n{real}\n")
        })
        .collect();
    format!("[[service]]\nlisten = \"tcp {listen}:80\"\nscheduler = \"rr\"\n{more}\n{reals}")
}

/// Cores for so many workers, the last ones.
///
/// # Errors
///
/// There are fewer.
pub(crate) fn cores_for(workers: usize) -> Result<Vec<u16>, Failure> {
    let cores = cores();
    let first = cores.len().checked_sub(workers);
    let first = first.ok_or_else(|| Failure::CannotRun("one processor only".to_owned()))?;
    Ok(cores[first..].to_vec())
}

/// A one-armed director with these tables.
///
/// # Errors
///
/// Too few cores.
pub(crate) fn toml(workers: usize, rest: String) -> Result<Toml, Failure> {
    Ok(Toml {
        workers: cores_for(workers)?,
        addresses: routed::port_addresses(),
        ..Toml::with(rest)
    })
}

fn lab(family: Family) -> Result<Lab, Failure> {
    if family == Family::V6 && !has_ipv6() {
        return Err(Failure::CannotRun("the kernel has no IPv6".to_owned()));
    }
    routed::lab(REALS)
}

/// Every request is answered, each server by its share, and both saw only `visitors`.
pub(crate) fn serves(
    lab: &Lab,
    daemon: &Daemon,
    family: Family,
    workers: usize,
    visitors: &[&str],
) -> Outcome {
    let answers = lab.fetch(&url(family), REQUESTS);
    let shares = lab.shares(&answers);
    let even = shares
        .iter()
        .all(|share| share.abs_diff(REQUESTS / REALS) < workers);
    if answers.len() != REQUESTS || !even {
        let status = daemon.ask(&["status"])?;
        let words = daemon.words();
        let text = format!(
            "{} answers, shares {shares:?}\n{status}\n{words}",
            answers.len()
        );
        return Err(Failure::Wrong(text));
    }
    for index in 1..=REALS {
        let seen = lab.visitors(index);
        let known = |seen: &String| visitors.contains(&seen.as_str());
        ensure!(seen.iter().all(known), "real {index} saw {seen:?}");
    }
    large_bodies(lab, &url(family))
}

/// The real server's answers to the client pass the director, which is its gateway.
fn nat(family: Family, workers: usize) -> Outcome {
    let lab = lab(family)?;
    for index in 1..=REALS {
        route_back(&lab, index, family)?;
    }
    let rest = service(family, "nat", family, "", "");
    let daemon = Daemon::start(&lab, &toml(workers, rest)?)?;
    serves(&lab, &daemon, family, workers, &[family.client()])?;
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(listing.contains(" Masq "), "the listing is\n{listing}");
    Ok(())
}

/// The real servers have the VIP on `lo`, where IPv6 keeps quiet about it.
fn dr_ipv6() -> Outcome {
    let family = Family::V6;
    let lab = lab(family)?;
    for index in 1..=REALS {
        routed::hold_vip(&lab, index, family)?;
    }
    let rest = service(family, "dr", family, "", "");
    let daemon = Daemon::start(&lab, &toml(1, rest)?)?;
    serves(&lab, &daemon, family, 1, &[family.client()])
}

/// The director's own IPv6 address and the held VIP are the kernel's, and only the daemon
/// answers for them.
fn the_kernel_has_ipv6() -> Outcome {
    let family = Family::V6;
    let lab = lab(family)?;
    let rest = service(family, "dr", family, "", "");
    let daemon = Daemon::start(&lab, &toml(1, rest)?)?;
    lab.start_web_in(&lab.director(), "director")?;
    let answers = lab.fetch("http://[fd84::2]/", 1);
    ensure!(
        answers == ["director"],
        "{answers:?}\n{}",
        daemon.ask(&["status"])?
    );
    lab.fetch(&url(family), 1);
    for address in ["fd84::2", family.vip()] {
        let known = Lab::ip(&lab.client(), &format!("neigh show {address}"))?;
        ensure!(
            known.contains(PORT_MAC),
            "{address} is not the daemon's: {known}"
        );
    }
    let held = Lab::ip(&lab.director(), "-6 addr show dev lan")?;
    ensure!(held.contains("fd84::100/128"), "the kernel has\n{held}");
    Ok(())
}

/// The real server knows no way to the client at all.
fn fullnat(family: Family, workers: usize) -> Outcome {
    let lab = lab(family)?;
    let more = format!("local_addresses = {:?}", family.locals());
    let rest = service(family, "fullnat", family, &more, "");
    let daemon = Daemon::start(&lab, &toml(workers, rest)?)?;
    serves(&lab, &daemon, family, workers, &family.locals())?;
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(listing.contains(" FullNat "), "the listing is\n{listing}");
    Ok(())
}

/// A service of IPv6 clients, with IPv4 real servers in FULLNAT.
pub(crate) fn across() -> String {
    let more = format!("local_addresses = {:?}", Family::V4.locals());
    service(Family::V6, "fullnat", Family::V4, &more, "")
}

/// The client has IPv6, the real servers IPv4, and neither hears of the other's family.
fn fullnat_across(workers: usize) -> Outcome {
    let lab = lab(Family::V6)?;
    let daemon = Daemon::start(&lab, &toml(workers, across())?)?;
    serves(&lab, &daemon, Family::V6, workers, &Family::V4.locals())?;
    let listing = daemon.ask(&["-Ln"])?;
    let row = format!("  -> {}:80 ", Family::V4.real(1));
    ensure!(
        listing.contains(&row) && listing.contains(" FullNat "),
        "the listing is\n{listing}"
    );
    Ok(())
}

/// Datagrams there and back, in fragments too, and the ICMP error of a server that is not there.
fn datagrams_across(workers: usize) -> Outcome {
    let mut lab = lab(Family::V6)?;
    let vip = format!("[{}]:5300", Family::V6.vip());
    let real = format!("{}:5300", Family::V4.real(1));
    let locals = Family::V4.locals();
    let rest = format!(
        "[[service]]\nlisten = \"udp {vip}\"\nscheduler = \"rr\"\nlocal_addresses = {locals:?}\n\
         [[service.real]]\naddress = \"{real}\"\nmode = \"fullnat\"\n"
    );
    let daemon = Daemon::start(&lab, &toml(workers, rest)?)?;
    let text = run(&mut lab.peer(&lab.client(), &["udp-client", &vip, "4"])?)?;
    ensure!(
        text.matches("Connection refused").count() == 4,
        "nobody is there, and the client heard\n{text}{}",
        daemon.ask(&["status"])?
    );
    lab.start_peer(&lab.real(1), &["udp-echo", &real, ""])?;
    let text = run(&mut lab.peer(&lab.client(), &["udp-large", &vip, "20"])?)?;
    ensure!(
        text.trim() == "20",
        "of 20 large datagrams there came back {text}{}",
        daemon.ask(&["status"])?
    );
    Ok(())
}

/// Uploads are full-sized packets: the tunnel's header makes them too large, the client is
/// told and sends smaller ones.
fn tun(inner: Family, outer: Family, workers: usize) -> Outcome {
    tun_by("{ type = \"ipip\" }", inner, outer, workers)
}

fn tun_by(envelope: &str, inner: Family, outer: Family, workers: usize) -> Outcome {
    let mut lab = lab(if inner == Family::V4 { outer } else { inner })?;
    for index in 1..=REALS {
        unwrap(&mut lab, index, inner, outer)?;
    }
    let tunnel = format!("tunnel = {envelope}");
    let rest = service(inner, "tun", outer, "", &tunnel);
    let daemon = Daemon::start(&lab, &toml(workers, rest)?)?;
    serves(&lab, &daemon, inner, workers, &[inner.client()])?;
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(listing.contains(" Tunnel "), "the listing is\n{listing}");
    Ok(())
}

fn gre(checksum: &str, inner: Family, outer: Family) -> Outcome {
    let envelope = format!("{{ type = \"gre\", checksum = \"{checksum}\" }}");
    tun_by(&envelope, inner, outer, 1)
}

fn gue(checksum: &str, inner: Family, outer: Family, workers: usize) -> Outcome {
    let port = tunnel::GUE_PORT;
    let envelope = format!("{{ type = \"gue\", port = {port}, checksum = \"{checksum}\" }}");
    tun_by(&envelope, inner, outer, workers)
}

/// As the tutorials of FULLNAT have it: service, real server, local address; and back.
fn fullnat_by_commands() -> Outcome {
    let lab = lab(Family::V4)?;
    let daemon = Daemon::start(&lab, &toml(1, String::new())?)?;
    let vip = format!("{}:80", Family::V4.vip());
    let real = format!("{}:80", Family::V4.real(1));
    let [local, _] = Family::V4.locals();
    daemon.ask(&["-A", "-t", &vip, "-s", "rr"])?;
    daemon.ask(&["-a", "-t", &vip, "-r", &real, "-b"])?;
    daemon.ask(&["--add-laddr", "-z", local, "-t", &vip, "-F", "lan"])?;
    let answers = lab.fetch(&url(Family::V4), 5);
    ensure!(answers.len() == 5, "{} of 5 answered", answers.len());
    ensure!(lab.visitors(1) == [local; 5], "saw {:?}", lab.visitors(1));
    let listing = daemon.ask(&["-G", "-t", &vip])?;
    ensure!(
        listing.contains(&format!("{vip:<20} 1        {local}")),
        "{listing}"
    );
    let saved = daemon.ask(&["-Sn"])?;
    daemon.ask(&["-C"])?;
    ensure!(lab.fetch(&url(Family::V4), 1).is_empty(), "still answered");
    let file = lab.file("saved");
    std::fs::write(&file, &saved)?;
    daemon.restore(&file)?;
    ensure!(
        daemon.ask(&["-Sn"])? == saved,
        "another save after the restore of\n{saved}"
    );
    ensure!(
        lab.fetch(&url(Family::V4), 5).len() == 5,
        "restored, and not answered"
    );
    Ok(())
}

/// A real server that is the director: its kernel takes the packets, under the VIP.
fn local_delivery(real: &str) -> Outcome {
    let lab = lab(Family::V4)?;
    lab.start_web_in(&lab.director(), "director")?;
    let listen = Family::V4.vip();
    let rest = format!(
        "[[service]]\nlisten = \"tcp {listen}:80\"\nscheduler = \"rr\"\n\
         [[service.real]]\naddress = \"{real}:80\"\nmode = \"dr\"\n"
    );
    let daemon = Daemon::start(&lab, &toml(1, rest)?)?;
    let answers = lab.fetch(&url(Family::V4), 5);
    ensure!(
        answers == ["director"; 5],
        "{answers:?}\n{}",
        daemon.ask(&["status"])?
    );
    let listing = daemon.ask(&["-Ln"])?;
    ensure!(listing.contains(" Local "), "the listing is\n{listing}");
    Ok(())
}

/// Connections were made under other fields; who owns them stays listed until they end.
fn first_nat_real() -> Outcome {
    let lab = lab(Family::V4)?;
    let family = Family::V4;
    route_back(&lab, 2, family)?;
    let more = format!("local_addresses = {:?}", family.locals());
    let listen = family.vip();
    let rest = format!(
        "[[service]]\nlisten = \"tcp {listen}:80\"\nscheduler = \"wlc\"\n{more}\n\
         [[service.real]]\naddress = \"{}:80\"\nmode = \"fullnat\"\n",
        family.real(1)
    );
    let daemon = Daemon::start(&lab, &toml(2, rest)?)?;
    let address = format!("{listen}:80");
    let client = lab.client();
    let mut held = lab.start_asking(&client, &address, 32)?;
    let real = format!("{}:80", family.real(2));
    daemon.ask(&["-a", "-t", &address, "-r", &real, "-m"])?;
    let answers = lab.fetch(&url(family), 64);
    ensure!(
        answers.len() == 64,
        "{} of 64 new ones answered",
        answers.len()
    );
    let shares = lab.shares(&answers);
    ensure!(shares[1] > 0, "the NAT real got nothing: {shares:?}");
    let asked = held.ask()?;
    ensure!(asked == 32, "{asked} of 32 old connections still work");
    Ok(())
}
