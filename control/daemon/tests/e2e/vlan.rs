//! Ports of VLANs over one device: clients in one, real servers in another, behind a
//! [`switch`](crate::switch) with VLANs.
//!
//! ```text
//!                     ,-- v10 -- br10 -- client 10.84.0.10
//!   lan === br0 -- trunk
//!   ten, twenty       `-- v20 -- br20 -- real 1 .. n 10.83.0.21 ..
//! ```

use crate::daemon::{Daemon, Toml};
use crate::lab::{CLIENT, Lab, PORT_MAC, has_ipv6, real_address, wait_for};
use crate::modes::{REALS, cores_for, serves, service};
use crate::routed::{self, Family, route_back};
use crate::runner::{Failure, Outcome, Test, ensure};
use crate::{arp, lab};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("vlan::nat", || nat(Family::V4, 1, &TAP)),
    ("vlan::nat_two_workers", || nat(Family::V4, 2, &TAP)),
    ("vlan::nat_ipv6", || nat(Family::V6, 1, &TAP)),
    ("vlan::nat_af_packet", || nat(Family::V4, 1, &AF_PACKET)),
    ("vlan::fullnat", || fullnat(Family::V4, 1)),
    ("vlan::fullnat_two_workers", || fullnat(Family::V4, 2)),
    ("vlan::fullnat_ipv6", || fullnat(Family::V6, 1)),
    ("vlan::dr_in_one_vlan", dr),
    ("vlan::udp", udp),
    ("vlan::each_vlan_is_a_link_of_its_own", links),
    ("vlan::the_kernel_has_each", kernel),
];

/// The MAC of `twenty`, which is not its parent's.
const OTHER_MAC: &str = "02:00:00:83:00:20";

/// What carries the VLANs.
struct Carrier {
    device: &'static str,
    mtu: u16,
}

const TAP: Carrier = Carrier {
    device: "net_tap0,iface=dtap0",
    mtu: 1500,
};

/// The other end of a veth, on which the kernel takes tags off what it gives to sockets. The
/// driver takes no more than 1,514 octets.
const AF_PACKET: Carrier = Carrier {
    device: "net_af_packet0,iface=plug",
    mtu: 1496,
};

/// Puts a switch between the director and everybody else: these cables are in VLANs.
fn behind_a_switch(lab: &mut Lab, cables: &[(&str, u16)]) -> Outcome {
    let director = lab.director();
    lab.start_peer(&director, &["switch", "trunk", "0,10,20,30"])?;
    Lab::ip(&director, "link set trunk master br0 up")?;
    for id in [0, 10, 20, 30] {
        Lab::bridge(&director, &format!("br-{id}"))?;
        Lab::ip(&director, &format!("link set v{id} master br-{id} up"))?;
    }
    for (cable, id) in cables {
        Lab::ip(&director, &format!("link set {cable} master br-{id}"))?;
    }
    Ok(())
}

/// The client in VLAN 10, real servers in VLAN 20.
fn network(family: Family) -> Result<Lab, Failure> {
    if family == Family::V6 && !has_ipv6() {
        return Err(Failure::CannotRun("the kernel has no IPv6".to_owned()));
    }
    let mut lab = routed::lab(REALS)?;
    behind_a_switch(&mut lab, &[("client", 10), ("real-1", 20), ("real-2", 20)])?;
    Ok(lab)
}

/// The daemon with a port for each VLAN; its own port has an address, too.
fn start(lab: &Lab, workers: usize, carrier: &Carrier, rest: &str) -> Result<Daemon, Failure> {
    let shown = if has_ipv6() { 2 } else { 1 };
    let ten = ["10.84.0.2/24", "fd84::2/64"];
    let twenty = ["10.83.0.2/24", "fd83::2/64"];
    let more = format!(
        "[[port]]\nname = \"ten\"\nparent = \"lan\"\nvlan = 10\naddresses = {:?}\n\n\
         [[port]]\nname = \"twenty\"\nparent = \"lan\"\nvlan = 20\naddresses = {:?}\n\
         mac = \"{OTHER_MAC}\"\n\n{rest}",
        &ten[..shown],
        &twenty[..shown],
    );
    let toml = Toml {
        workers: cores_for(workers)?,
        device: carrier.device.to_owned(),
        addresses: vec!["10.85.0.2/24".to_owned()],
        port: format!("mtu = {}", carrier.mtu),
        ..Toml::with(more)
    };
    Daemon::start(lab, &toml)
}

/// There and back through the VLANs, with full-sized packets.
fn nat(family: Family, workers: usize, carrier: &Carrier) -> Outcome {
    let lab = network(family)?;
    for index in 1..=REALS {
        route_back(&lab, index, family)?;
    }
    if carrier.device == AF_PACKET.device {
        let director = lab.director();
        Lab::ip(&director, "link add plug type veth peer name dtap0")?;
        Lab::ip(&director, "link set plug up")?;
        let reals = (1..=REALS).map(|index| lab.real(index));
        for host in reals.chain([lab.client()]) {
            let narrow = format!("link set eth0 mtu {}", carrier.mtu);
            Lab::ip(&host, &narrow)?;
        }
    }
    let rest = service(family, "nat", family, "", "");
    let daemon = start(&lab, workers, carrier, &rest)?;
    serves(&lab, &daemon, family, workers, &[family.client()])
}

fn fullnat(family: Family, workers: usize) -> Outcome {
    let lab = network(family)?;
    let more = format!("local_addresses = {:?}", family.locals());
    let rest = service(family, "fullnat", family, &more, "");
    let daemon = start(&lab, workers, &TAP, &rest)?;
    serves(&lab, &daemon, family, workers, &family.locals())
}

/// One arm in one VLAN: real servers answer the client themselves.
fn dr() -> Outcome {
    let mut lab = Lab::with_web(REALS)?;
    behind_a_switch(&mut lab, &[("client", 10), ("real-1", 10), ("real-2", 10)])?;
    let rest = format!(
        "[[port]]\nname = \"lan.10\"\nparent = \"lan\"\nvlan = 10\naddresses = [\"{}/24\"]\n\n{}",
        lab::DIP,
        crate::daemon::web("rr", &[1, 1])
    );
    let toml = Toml {
        addresses: Vec::new(),
        ..Toml::with(rest)
    };
    let daemon = Daemon::start(&lab, &toml)?;
    let url = format!("http://{}/", lab::VIP);
    let answers = lab.fetch(&url, 20);
    let status = daemon.ask(&["status"])?;
    ensure!(lab.shares(&answers) == [10, 10], "{answers:?}\n{status}");
    ensure!(lab.visitors(1) == [CLIENT; 10], "{:?}", lab.visitors(1));
    let saved = format!("{}\n", daemon.ask(&["-Sn"])?);
    ensure!(saved.contains("-g"), "{saved}");
    routed::large_bodies(&lab, &url)
}

/// Datagrams by FULLNAT.
fn udp() -> Outcome {
    let mut lab = network(Family::V4)?;
    for index in 1..=REALS {
        let address = format!("{}:5000", real_address(index));
        let name = format!("real-{index}");
        lab.start_peer(&lab.real(index), &["udp-server", &address, &name])?;
    }
    let [local, _] = Family::V4.locals();
    let vip = Family::V4.vip();
    let reals: String = (1..=REALS)
        .map(|index| {
            let address = real_address(index);
            format!("[[service.real]]\naddress = \"{address}:5000\"\nmode = \"fullnat\"\n")
        })
        .collect();
    let rest = format!(
        "[[service]]\nlisten = \"udp {vip}:5000\"\nscheduler = \"rr\"\n\
         local_addresses = [\"{local}\"]\n{reals}"
    );
    let daemon = start(&lab, 1, &TAP, &rest)?;
    let said =
        lab::run(&mut lab.peer(&lab.client(), &["udp-client", &format!("{vip}:5000"), "10"])?)?;
    for name in ["real-1", "real-2"] {
        let answer = format!("{name} {local}");
        let count = said.lines().filter(|line| **line == answer).count();
        ensure!(count == 5, "{said}\n{}", daemon.ask(&["status"])?);
    }
    Ok(())
}

/// Whoever asks in a VLAN is answered there and nowhere else; a VLAN without a port is counted.
fn links() -> Outcome {
    let lab = network(Family::V4)?;
    let rest = service(Family::V4, "nat", Family::V4, "", "");
    let daemon = start(&lab, 1, &TAP, &rest)?;
    let (client, vip) = (lab.client(), Family::V4.vip());
    let heard = || arp::macs_of(&client, vip);
    ensure!(
        wait_for(5, || heard() == [PORT_MAC]),
        "VLAN 10 heard {:?}",
        heard()
    );
    // Its interface has the VIP's subnet, too: so it asks.
    let real = lab.real(1);
    Lab::ip(&real, "addr add 10.84.0.77/24 dev eth0")?;
    let heard = arp::macs_of(&real, vip);
    ensure!(heard.is_empty(), "VLAN 20 heard {heard:?}");
    let heard = arp::macs_of(&real, lab::DIP);
    ensure!(heard == [OTHER_MAC], "VLAN 20 heard {heard:?} of its own");

    let director = lab.director();
    Lab::ip(&director, "link set client master br-30")?;
    let heard = arp::macs_of(&client, vip);
    ensure!(heard.is_empty(), "VLAN 30 heard {heard:?}");
    let status = daemon.ask(&["status"])?;
    ensure!(status.contains("  drop-vlan "), "{status}");
    for line in [
        format!("port ten: vlan 10 of lan, {PORT_MAC}, link up, mtu 1500\n"),
        format!("port twenty: vlan 20 of lan, {OTHER_MAC}, link up, mtu 1500\n"),
        "  rx-packets ".to_owned(),
        format!("vip {vip}: held on ten, "),
        format!("neighbour {} on twenty: ", real_address(1)),
    ] {
        ensure!(status.contains(&line), "no {line:?} in\n{status}");
    }
    Ok(())
}

/// The kernel has an interface for each VLAN, and one for what comes without.
fn kernel() -> Outcome {
    let lab = network(Family::V4)?;
    let daemon = start(&lab, 1, &TAP, "")?;
    lab.start_web_in(&lab.director(), "director")?;
    let fetched = |address: &str| lab.fetch(&format!("http://{address}/"), 1);
    let got = fetched("10.84.0.2");
    ensure!(
        got == ["director"],
        "ten: {got:?}\n{}",
        daemon.ask(&["status"])?
    );

    // Its switch port gives it a priority, but no VLAN.
    let client = lab.client();
    Lab::ip(&lab.director(), "link set client master br-0")?;
    Lab::ip(&client, "addr add 10.85.0.10/24 dev eth0")?;
    let got = fetched("10.85.0.2");
    ensure!(
        got == ["director"],
        "lan: {got:?}\n{}",
        daemon.ask(&["status"])?
    );
    let gone = fetched("10.84.0.2");
    ensure!(gone.is_empty(), "VLAN 10 answers outside of it: {gone:?}");
    Ok(())
}
