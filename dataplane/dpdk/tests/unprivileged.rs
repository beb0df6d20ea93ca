//! Devices without hardware work for an ordinary user.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use dataplane::port::{BURST, Burst, Port};
use dpdk::{Device, DeviceConfig, ring};

const NOBODY: u32 = 65534;

#[test]
fn unprivileged() {
    if common::is_child() {
        return as_nobody();
    }
    if !common::root() {
        // Whoever we are, it is no privileged user.
        return as_nobody();
    }
    let folder = std::env::temp_dir().join(format!("sluice-nobody-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("our own");
    let program = folder.join("test");
    // The target folder may lie where nobody else may look.
    fs::copy(std::env::current_exe().expect("Linux"), &program).expect("room for a copy");
    let mut command = common::child(&program, "unprivileged");
    let output = command
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .env_remove("XDG_RUNTIME_DIR");
    let output = output.output().expect("root may become nobody");
    fs::remove_dir_all(&folder).expect("made above");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("frames passed as an ordinary user"), "{text}");
}

fn as_nobody() {
    assert!(!common::root());
    let eal = common::eal();
    let pool = common::pool(&eal);
    let null = "net_null0".parse().expect("a device's name");
    let mut null =
        Device::open(&eal.handle(), &null, DeviceConfig::new("null", &pool)).expect("open");
    let (left, right) = ring::pair(&eal.handle(), 1, 64).expect("rings");
    let open = |end, name| Device::open_ring(&eal.handle(), end, DeviceConfig::new(name, &pool));
    let (mut left, mut right) = (
        open(left, "l").expect("open"),
        open(right, "r").expect("open"),
    );
    let mut burst = Burst::new();
    for device in [&mut null, &mut left, &mut right] {
        device.start().expect("start");
    }
    null.queue(0).expect("free").rx_burst(&mut burst);
    assert_eq!(left.queue(0).expect("free").tx_burst(&mut burst), BURST);
    assert_eq!(right.queue(0).expect("free").rx_burst(&mut burst), BURST);
    drop((burst, null, left, right));
    assert_eq!(pool.in_use(), 0);
    let tap = "net_tap0,iface=slnobody".parse().expect("a device's name");
    let refused = Device::open(&eal.handle(), &tap, DeviceConfig::new("tap", &pool));
    let text = refused.expect_err("a TAP takes root").to_string();
    assert!(
        text.starts_with("port \"tap\": device net_tap0,iface=slnobody can't be opened"),
        "{text}"
    );
    drop(pool);
    eal.shutdown().expect("nothing is used");
    println!("frames passed as an ordinary user");
}
