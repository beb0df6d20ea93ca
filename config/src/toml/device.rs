//! What can be said of a port's device without asking DPDK, which has the last word: it may have
//! drivers that nobody knows of here.

use std::collections::HashMap;

use super::report::Report;
use super::table::Placed;
use crate::model::Port;

/// DPDK's drivers without hardware of Ethernet ports. A device has such a name with more behind
/// it, usually a number.
const VDEVS: &[&str] = &[
    "af_packet",
    "af_xdp",
    "bonding",
    "failsafe",
    "memif",
    "null",
    "pcap",
    "ring",
    "softnic",
    "tap",
    "tun",
    "vdev_netvsc",
    "vhost",
    "virtio_user",
];

/// What DPDK will refuse, most probably.
pub(super) fn doubts(ports: &[Placed<'_, Port>], report: &mut Report<'_>) {
    let mut seen = HashMap::new();
    for Placed { value, table } in ports {
        let Some(device) = &value.device else {
            continue;
        };
        let at = table.at("device");
        if let Some(why) = doubt(device) {
            report.doubt(at, format!("device {device:?} {why}"));
        }
        if let Some(first) = seen.insert(name(device), at) {
            let line = report.line(first);
            let name = name(device);
            report.doubt(at, format!("device {name} is already there in line {line}"));
        }
    }
}

/// What DPDK knows a device by.
fn name(device: &str) -> String {
    pci_address(device).unwrap_or_else(|| split(device).0.to_owned())
}

/// The name and the arguments.
fn split(device: &str) -> (&str, Option<&str>) {
    match device.split_once(',') {
        Some((name, arguments)) => (name, Some(arguments)),
        None => (device, None),
    }
}

/// What is wrong with it.
fn doubt(device: &str) -> Option<String> {
    if pci_address(device).is_some() {
        return None;
    }
    let (name, arguments) = split(device);
    let driver = name.strip_prefix("net_").or(name.strip_prefix("eth_"));
    let known = driver.is_some_and(|it| VDEVS.iter().any(|driver| it.starts_with(driver)));
    if !known {
        let all: Vec<_> = VDEVS.iter().map(|driver| format!("net_{driver}")).collect();
        return Some(format!(
            "is no PCI address, as 0000:3b:00.0, and of no driver that is known here ({})",
            all.join(", ")
        ));
    }
    let wrong = arguments?.split(',').find(|pair| !is_pair(pair))?;
    Some(format!("has the argument {wrong:?}, which is no key=value"))
}

fn is_pair(text: &str) -> bool {
    text.split_once('=')
        .is_some_and(|(key, value)| !key.is_empty() && !value.is_empty())
}

/// `[DDDD:]BB:DD.F`, in full and in lower case.
fn pci_address(text: &str) -> Option<String> {
    let (slot, function) = text.split_once('.')?;
    let (domain, bus, device) = match slot.split(':').collect::<Vec<_>>()[..] {
        [bus, device] => ("0000", bus, device),
        [domain, bus, device] => (domain, bus, device),
        _ => return None,
    };
    // PCI Local Bus Specification 3.0, 3.2.2.3.1: 32 devices of 8 functions on a bus.
    let is = |word: &str, digits: usize, most: u32| {
        let all_hex = word.len() == digits && word.bytes().all(|b| b.is_ascii_hexdigit());
        all_hex && u32::from_str_radix(word, 16).is_ok_and(|number| number <= most)
    };
    let good =
        is(domain, 4, 0xffff) && is(bus, 2, 0xff) && is(device, 2, 0x1f) && is(function, 1, 7);
    good.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        #[rustfmt::skip]
        let cases = [
            ("0000:3b:00.0",                     None),
            ("3B:00.1",                          None),
            ("net_tap0,iface=x",                 None),
            ("net_null0",                        None),
            ("eth_pcap_wan,iface=eth0",          None),
            ("net_virtio_user0,path=/dev/vhost-net,queues=1", None),
            ("0000:3b:00",                       Some("no PCI address")),
            ("0000:3b:00.8",                     Some("no PCI address")),
            ("0000:3b:20.0",                     Some("no PCI address")),
            ("3b:00.0,x=1",                      Some("no PCI address")),
            ("net_tpa0",                         Some("no driver")),
            ("eth0",                             Some("no driver")),
            ("net_tap0,iface",                   Some("\"iface\", which is no key=value")),
            ("net_tap0,iface=",                  Some("\"iface=\", which")),
            ("net_tap0,iface=x,",                Some("\"\", which")),
        ];
        for (device, want) in cases {
            let got = doubt(device);
            match want {
                None => assert_eq!(got, None, "{device}"),
                Some(part) => {
                    let text = got.unwrap_or_default();
                    assert!(text.contains(part), "{device}: {text:?}");
                }
            }
        }
    }

    #[test]
    fn one_device_twice_is_told_with_both_lines() {
        let port = |name: &str, device: &str| {
            format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\n")
        };
        let text = "version = 1\n[dataplane]\nworkers = [1]\n".to_owned()
            + &port("a", "3b:00.0")
            + &port("b", "0000:3B:00.0")
            + &port("c", "net_tap0,iface=x")
            + &port("d", "net_tap0,iface=y");
        let loaded = super::super::read(&text, "lb.toml").expect("DPDK has the last word");
        let said: Vec<_> = loaded.devices.iter().map(ToString::to_string).collect();
        let want = [
            "lb.toml:9: device 0000:3b:00.0 is already there in line 6",
            "lb.toml:15: device net_tap0 is already there in line 12",
        ];
        assert_eq!(said, want);
    }
}
