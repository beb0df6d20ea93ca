//! `net_af_packet` on an interface that was there before and stays: it is afterwards as it was.

mod common;

use std::process::Command;

use dpdk::{Device, DeviceConfig, Eal, Pool};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 8];

#[test]
fn af_packet() {
    if common::is_child() {
        return in_namespace();
    }
    if !common::root() {
        return common::skip("AF_PACKET takes root");
    }
    let this = std::env::current_exe().expect("Linux");
    let child = common::child(&this, "af_packet");
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(child.get_program())
        .args(child.get_args())
        .env(common::CHILD, "1");
    let output = command.output().expect("util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("all as before"), "{text}");
}

fn in_namespace() {
    ip("link add sltest1 mtu 2000 type veth peer name sltest2");
    ip("link set sltest1 up");
    let eal = common::eal();
    let pool = common::pool(&eal);
    let veth = shown("sltest1");
    let device = open(&eal, &pool, "sltest1", Some(MAC), true);
    let inside = shown("sltest1");
    let changes = ["mtu 1400", "02:00:00:00:00:08", "PROMISC"];
    assert!(
        changes.iter().all(|change| inside.contains(change)),
        "{inside}"
    );
    drop(device);
    assert_eq!(shown("sltest1"), veth);

    // The loopback takes no MAC, so the device asks for all frames.
    let loopback = shown("lo");
    let device = open(&eal, &pool, "lo", Some(MAC), false);
    assert!(device.promiscuous() && shown("lo").contains("PROMISC"));
    drop(device);
    assert_eq!(shown("lo"), loopback);
    drop(pool);
    eal.shutdown().expect("nothing is used");
    println!("all as before");
}

fn open(eal: &Eal, pool: &Pool, name: &str, mac: Option<[u8; 6]>, promiscuous: bool) -> Device {
    let config = DeviceConfig {
        mtu: 1400,
        mac,
        promiscuous,
        ..DeviceConfig::new("wan", pool)
    };
    let text = format!("net_af_packet0,iface={name}");
    let spec = text.parse().expect("a device's name");
    let mut device = Device::open(&eal.handle(), &spec, config).expect("root may open it");
    device.start().expect("start");
    device
}

/// MAC, MTU and flags; not the carrier, which may come and go.
fn shown(interface: &str) -> String {
    let text = ip(&format!("-o link show {interface}"));
    let words = text.split_whitespace().collect::<Vec<_>>();
    let flags = words.get(2).expect("flags").replace(",LOWER_UP", "");
    let behind = |word: &str| {
        let at = words.iter().position(|&w| w.starts_with(word));
        words[at.expect("it is shown") + 1]
    };
    format!("{flags} mtu {} {}", behind("mtu"), behind("link/"))
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("iproute2");
    assert!(output.status.success(), "ip {words}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
