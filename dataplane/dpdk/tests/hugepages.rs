//! With hugepages where the machine has them free; else the refusal, and `auto` without.

mod common;

use std::fs;

use dataplane::port::{BURST, Burst, Port};
use dpdk::{Device, DeviceConfig, Eal, EalConfig, EalError, Hugepages, Pool, PoolConfig};

/// Most of EAL's memory goes into it, so that a wrong estimate shows.
const POOL: PoolConfig = PoolConfig {
    buffers: 100_000,
    buffer_size: 2048,
    socket: None,
};

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
        pools: vec![POOL],
        other_mb: 4,
        ..EalConfig::default()
    };
    let memory_mb = config.memory_mb(true);
    let before = free_pages();
    let eal = match Eal::init(&config) {
        Ok(eal) => eal,
        Err(refused @ EalError::NoHugepages { .. }) => {
            let text = refused.to_string();
            let want = format!("hugepages are required: {memory_mb} MiB are needed and ");
            assert!(text.starts_with(&want), "{text}");
            let want = format!("scripts/setup --hugepages {} ", memory_mb.div_ceil(2));
            assert!(text.contains(&want), "{text}");
            let auto = EalConfig {
                hugepages: Hugepages::Auto,
                ..config
            };
            Eal::init(&auto).expect("a refusal beforehand leaves EAL untouched")
        }
        Err(other) => panic!("{other}"),
    };
    let enough = before * 2 >= u64::from(memory_mb);
    assert_eq!(eal.hugepages(), enough, "{before} pages were free");
    frames_pass(&eal);
    eal.shutdown().expect("nothing is used");
    assert!(common::runtime_folders().is_empty());
}

fn frames_pass(eal: &Eal) {
    let pool = Pool::new(&eal.handle(), POOL).expect("as much memory as it said that it needs");
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
