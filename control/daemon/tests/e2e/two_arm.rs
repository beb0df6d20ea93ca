//! Two ports, and networks behind gateways.
//!
//! ```text
//!                  ,-- edge-1 .1 --.
//!   client ---- br2                 br1 ==== wan | sluiced | lan ==== br0 ---- real 1 .. n
//!   10.86.0.10  |  `-- edge-2 .3 --'  10.84.0.2    10.83.0.2      |        10.83.0.21 ..
//!   fd86::10     `-------------------- inner .1 ------------------'
//! ```
//!
//! Both edge routers lead to the client, and the director uses both. Servers that answer the
//! client themselves do so through `inner`, which also leads to a server of its own subnet.

use crate::daemon::{Daemon, Toml};
use crate::lab::{self, Lab, has_ipv6};
use crate::modes::{REALS, cores_for, serves, service};
use crate::routed::{self, Family, enable_ipv6};
use crate::runner::{Failure, Outcome, Test, ensure};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("two_arm::dr", || dr(Family::V4)),
    ("two_arm::dr_ipv6", || dr(Family::V6)),
    ("two_arm::tun", || tun(Family::V4)),
    ("two_arm::tun_ipv6", || tun(Family::V6)),
    ("two_arm::nat", || nat(Family::V4, 1)),
    ("two_arm::nat_two_workers", || nat(Family::V4, 2)),
    ("two_arm::nat_ipv6", || nat(Family::V6, 1)),
    ("two_arm::fullnat", || fullnat(Family::V4, 1)),
    ("two_arm::fullnat_two_workers", || fullnat(Family::V4, 2)),
    ("two_arm::fullnat_ipv6", || fullnat(Family::V6, 1)),
    (
        "two_arm::a_server_behind_a_gateway",
        a_server_behind_a_gateway,
    ),
];

/// A router: its name, what it has on one bridge and on the other.
struct Router {
    name: &'static str,
    outside: (&'static str, [&'static str; 2]),
    inside: (&'static str, [&'static str; 2]),
}

const ROUTERS: [Router; 3] = [
    Router {
        name: "edge-1",
        outside: ("br2", ["10.86.0.1/24", "fd86::1/64"]),
        inside: ("br1", ["10.84.0.1/24", "fd84::1/64"]),
    },
    Router {
        name: "edge-2",
        outside: ("br2", ["10.86.0.3/24", "fd86::3/64"]),
        inside: ("br1", ["10.84.0.3/24", "fd84::3/64"]),
    },
    Router {
        name: "inner",
        outside: ("br2", ["10.86.0.5/24", "fd86::5/64"]),
        inside: ("br0", ["10.83.0.1/24", "fd83::1/64"]),
    },
];

const CLIENT: [&str; 2] = ["10.86.0.10/24", "fd86::10/64"];

fn client(family: Family) -> &'static str {
    family.of("10.86.0.10", "fd86::10")
}

fn network() -> Result<Lab, Failure> {
    let lab = Lab::with_web(REALS)?;
    let director = lab.director();
    for bridge in ["br1", "br2"] {
        Lab::bridge(&director, bridge)?;
    }
    Lab::ip(&director, "link set client master br2")?;
    let host = lab.client();
    Lab::ip(&host, "addr flush dev eth0")?;
    Lab::ip(&host, &format!("addr add {} dev eth0", CLIENT[0]))?;
    Lab::ip(&host, "route add 10.84.0.0/24 via 10.86.0.1")?;
    if has_ipv6() {
        enable_ipv6(&host, "eth0", CLIENT[1])?;
        Lab::ip(&host, "route add fd84::/64 via fd86::1")?;
        for index in 1..=REALS {
            let address = format!("{}/64", Family::V6.real(index));
            enable_ipv6(&lab.real(index), "eth0", &address)?;
        }
    }
    for router in &ROUTERS {
        make_router(&lab, router)?;
    }
    Ok(lab)
}

fn make_router(lab: &Lab, router: &Router) -> Outcome {
    let namespace = lab.host(router.name);
    Lab::namespace(&namespace)?;
    for (interface, (bridge, addresses)) in [("eth0", &router.outside), ("eth1", &router.inside)] {
        let cable = format!("{}-{interface}", router.name);
        lab.cable(&namespace, interface, &cable, bridge)?;
        Lab::ip(
            &namespace,
            &format!("addr add {} dev {interface}", addresses[0]),
        )?;
        Lab::ip(&namespace, &format!("link set {interface} up"))?;
        if has_ipv6() {
            enable_ipv6(&namespace, interface, addresses[1])?;
        }
    }
    Lab::setting(&namespace, "ipv4/ip_forward", 1)?;
    if has_ipv6() {
        Lab::setting(&namespace, "ipv6/conf/all/forwarding", 1)?;
    }
    Ok(())
}

/// Frames that a router got from the director's side.
fn carried(lab: &Lab, router: &str) -> Result<u64, Failure> {
    let path = "/sys/class/net/eth1/statistics/rx_packets";
    let text = lab::run(Lab::inside(&lab.host(router), "cat").arg(path))?;
    let count = text.trim().parse();
    count.map_err(|_| Failure::Wrong(format!("{path}: {text}")))
}

/// The daemon, with both ports plugged in.
fn start(lab: &Lab, workers: usize, rest: &str) -> Result<Daemon, Failure> {
    let v6 = has_ipv6();
    let inside = ["10.83.0.2/24", "fd83::2/64"];
    let outside = ["10.84.0.2/24", "fd84::2/64"];
    let shown = if v6 { 2 } else { 1 };
    let default_v6 = "[[route]]\nto = \"::/0\"\nvia = [\"fd84::1\", \"fd84::3\"]\n\n";
    let more = format!(
        "[[port]]\nname = \"wan\"\ndevice = \"net_tap1,iface=dtap1\"\naddresses = {:?}\n\
         mac = \"02:00:00:84:00:02\"\n\n\
         [[route]]\nto = \"0.0.0.0/0\"\nvia = [\"10.84.0.1\", \"10.84.0.3\"]\n\n\
         [[route]]\nto = \"10.87.0.0/24\"\nvia = \"10.83.0.1\"\n\n{}{rest}",
        &outside[..shown],
        if v6 { default_v6 } else { "" }
    );
    let toml = Toml {
        workers: cores_for(workers)?,
        addresses: inside[..shown].iter().map(ToString::to_string).collect(),
        ..Toml::with(more)
    };
    let daemon = Daemon::start(lab, &toml)?;
    lab.plug("dtap1", "br1", "02:00:00:84:00:fe")?;
    let gateways = ROUTERS.iter().map(|router| router.inside.1[0]);
    let gateways = gateways.filter_map(|address| address.split('/').next());
    daemon.wait_resolved(&gateways.map(str::to_owned).collect::<Vec<_>>());
    Ok(daemon)
}

fn needs(family: Family) -> Outcome {
    if family == Family::V6 && !has_ipv6() {
        return Err(Failure::CannotRun("the kernel has no IPv6".to_owned()));
    }
    Ok(())
}

/// Servers send what is for the client to this gateway.
fn answer_through(lab: &Lab, family: Family, gateway: &str) -> Outcome {
    let net = family.of("10.86.0.0/24", "fd86::/64");
    for index in 1..=REALS {
        let route = format!("route add {net} via {gateway}");
        Lab::ip(&lab.real(index), &route)?;
    }
    Ok(())
}

fn hold_vip(lab: &Lab, index: usize, family: Family) -> Outcome {
    let (vip, length) = (family.vip(), family.of(32, 128));
    let address = format!("addr add {vip}/{length} dev lo");
    Lab::ip(&lab.real(index), &address)?;
    Ok(())
}

fn dr(family: Family) -> Outcome {
    needs(family)?;
    let lab = network()?;
    for index in 1..=REALS {
        hold_vip(&lab, index, family)?;
    }
    answer_through(&lab, family, family.of("10.83.0.1", "fd83::1"))?;
    let daemon = start(&lab, 1, &service(family, "dr", family, "", ""))?;
    serves(&lab, &daemon, family, 1, &[client(family)])
}

fn tun(family: Family) -> Outcome {
    needs(family)?;
    let mut lab = network()?;
    for index in 1..=REALS {
        routed::unwrap_only(&mut lab, index, family, family)?;
        hold_vip(&lab, index, family)?;
    }
    answer_through(&lab, family, family.of("10.83.0.1", "fd83::1"))?;
    let daemon = start(&lab, 1, &service(family, "tun", family, "", ""))?;
    serves(&lab, &daemon, family, 1, &[client(family)])
}

fn nat(family: Family, workers: usize) -> Outcome {
    needs(family)?;
    let lab = network()?;
    answer_through(&lab, family, family.inside())?;
    let daemon = start(&lab, workers, &service(family, "nat", family, "", ""))?;
    serves(&lab, &daemon, family, workers, &[client(family)])?;
    both_edges_carry(&lab)
}

fn fullnat(family: Family, workers: usize) -> Outcome {
    needs(family)?;
    let lab = network()?;
    let more = format!("local_addresses = {:?}", family.locals());
    let rest = service(family, "fullnat", family, &more, "");
    let daemon = start(&lab, workers, &rest)?;
    serves(&lab, &daemon, family, workers, &family.locals())?;
    both_edges_carry(&lab)
}

/// Connections are spread over the gateways: 40 requests leave neither without any.
fn both_edges_carry(lab: &Lab) -> Outcome {
    for router in ["edge-1", "edge-2"] {
        let frames = carried(lab, router)?;
        ensure!(frames > 20, "{router} carried {frames} frames only");
    }
    Ok(())
}

/// A server on no port's subnet, by FULLNAT: it answers through its own gateway.
fn a_server_behind_a_gateway() -> Outcome {
    let lab = network()?;
    let director = lab.director();
    Lab::bridge(&director, "br3")?;
    let far = lab.host("far");
    lab.make_host(&far, "far", "br3", "10.87.0.21")?;
    Lab::ip(&far, "route add default via 10.87.0.1")?;
    let inner = lab.host("inner");
    lab.cable(&inner, "eth2", "inner-eth2", "br3")?;
    Lab::ip(&inner, "addr add 10.87.0.1/24 dev eth2")?;
    Lab::ip(&inner, "link set eth2 up")?;
    lab.start_web_in(&far, "real-far")?;
    let locals = Family::V4.locals();
    let rest = format!(
        "[[service]]\nlisten = \"tcp {}:80\"\nscheduler = \"rr\"\nlocal_addresses = {locals:?}\n\
         [[service.real]]\naddress = \"10.87.0.21:80\"\nmode = \"fullnat\"\n",
        Family::V4.vip()
    );
    let daemon = start(&lab, 1, &rest)?;
    let url = format!("http://{}/", Family::V4.vip());
    let answers = lab.fetch(&url, 10);
    ensure!(
        answers == ["real-far"; 10],
        "{answers:?}\n{}",
        daemon.ask(&["status"])?
    );
    routed::large_bodies(&lab, &url)
}
