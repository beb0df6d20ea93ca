//! With hugepages where the machine has them free; else the refusal, and `auto` without.

mod common;

use std::fs;

use dataplane::port::{BURST, Burst, Port};
use dpdk::{Device, DeviceConfig, Eal, EalConfig, EalError, Hugepages};

#[test]
fn hugepages() {
    if common::is_child() {
        return with_or_without();
    }
    let before = free_pages();
    let this = std::env::current_exe().expect("Linux");
    let status = common::child(&this, "hugepages")
        .status()
        .expect("ourselves");
    assert!(status.success(), "see above");
    assert!(
        free_pages() >= before,
        "every page is given back at the end"
    );
}

fn with_or_without() {
    let config = EalConfig {
        hugepages: Hugepages::Require,
        ..EalConfig::default()
    };
    let before = free_pages();
    let eal = match Eal::init(&config) {
        Ok(eal) => eal,
        Err(refused @ EalError::NoHugepages { .. }) => {
            let text = refused.to_string();
            assert!(
                text.starts_with("hugepages are required: 128 MiB are needed and "),
                "{text}"
            );
            assert!(text.contains("scripts/setup --hugepages 64"), "{text}");
            let auto = EalConfig {
                hugepages: Hugepages::Auto,
                ..config
            };
            Eal::init(&auto).expect("a refusal beforehand leaves EAL untouched")
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(eal.hugepages(), before >= 64, "{before} pages were free");
    frames_pass(&eal);
    eal.shutdown().expect("nothing is used");
    assert!(common::runtime_folders().is_empty());
}

fn frames_pass(eal: &Eal) {
    let pool = common::pool(eal);
    let null = "net_null0".parse().expect("a device's name");
    let mut null =
        Device::open(&eal.handle(), &null, DeviceConfig::new("null", &pool)).expect("open");
    null.start().expect("start");
    let mut burst = Burst::new();
    assert_eq!(null.queue(0).expect("free").rx_burst(&mut burst), BURST);
    drop((burst, null));
    assert_eq!(pool.in_use(), 0);
}

/// Pages of 2 MiB.
fn free_pages() -> u64 {
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    fs::read_to_string(file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
