//! `net_tap` in a network namespace of its own: frames from the kernel arrive, the interface
//! takes MAC and MTU and is gone afterwards.

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dataplane::port::{Burst, Frame, Port};
use dpdk::rss::RssConfig;
use dpdk::{Device, DeviceConfig, DeviceSpec, Eal, Mbuf, Pool};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

#[test]
fn tap() {
    if common::is_child() {
        return in_namespace();
    }
    if !common::root() || !Path::new("/dev/net/tun").exists() {
        return common::skip("a TAP takes root and /dev/net/tun");
    }
    let this = std::env::current_exe().expect("Linux");
    let child = common::child(&this, "tap");
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(child.get_program())
        .args(child.get_args())
        .env(common::CHILD, "1");
    let output = command.output().expect("util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("the tap is gone"), "{text}");
}

fn in_namespace() {
    let eal = common::eal();
    let pool = common::pool(&eal);
    refusals(&eal, &pool);
    let device = open(&eal, &pool);
    assert_eq!(device.mac(), MAC);
    assert!(device.mtu().settable && device.mtu().effective == 1400);
    let shown = ip(&["-o", "link", "show", "sltest0"]);
    assert!(
        shown.contains("mtu 1400") && shown.contains("02:00:00:00:00:07"),
        "{shown}"
    );
    assert!(
        !device.rss().verified && !device.rss().reports_hash,
        "{:?}",
        device.rss()
    );
    frames_arrive(&device, &pool);
    in_use(&eal, &pool);
    drop(device);
    assert_eq!(pool.in_use(), 0, "every buffer came back");
    assert!(!ip(&["-o", "link"]).contains("sltest0"));
    drop(pool);
    eal.shutdown().expect("nothing is used");
    println!("the tap is gone");
}

fn spec(text: &str) -> DeviceSpec {
    text.parse().expect("a device's name")
}

fn open(eal: &Eal, pool: &Pool) -> Device {
    let rss = RssConfig {
        key: [0x6d; 40],
        table: vec![0, 1],
    };
    let config = DeviceConfig {
        queues: 2,
        mtu: 1400,
        mac: Some(MAC),
        promiscuous: true,
        all_multicast: true,
        rss: Some(rss),
        ..DeviceConfig::new("wan", pool)
    };
    let mut device = Device::open(&eal.handle(), &spec("net_tap0,iface=sltest0"), config)
        .expect("root may make a TAP");
    device.start().expect("start");
    assert!(device.link().expect("it has one").up);
    assert!(device.promiscuous() && device.all_multicast());
    device
}

/// The kernel asks by ARP for an address on the port's subnet.
fn frames_arrive(device: &Device, pool: &Pool) {
    ip(&["address", "add", "10.99.0.1/24", "dev", "sltest0"]);
    ip(&["link", "set", "sltest0", "up"]);
    let socket = UdpSocket::bind("10.99.0.1:0").expect("the address is there");
    socket.send_to(b"hello", "10.99.0.2:9").expect("on-link");
    let mut queues = [
        device.queue(0).expect("free"),
        device.queue(1).expect("free"),
    ];
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_request = |frame: &Mbuf| {
        let bytes = frame.bytes();
        bytes.get(12..14) == Some(&[8, 6]) && bytes.get(38..42) == Some(&[10, 99, 0, 2])
    };
    let mut request = None;
    while request.is_none() && Instant::now() < deadline {
        for queue in &mut queues {
            let mut burst = Burst::new();
            queue.rx_burst(&mut burst);
            request = request.or_else(|| burst.drain(..).find(is_request));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut reply = answer(&request.expect("an ARP request within 10 s"), pool);
    assert_eq!(queues[0].tx_burst(&mut reply), 1);
    let known = || ip(&["neighbour", "show", "10.99.0.2"]).contains("02:00:00:00:00:99");
    while !known() {
        assert!(Instant::now() < deadline, "the kernel learns what we send");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn answer(request: &Mbuf, pool: &Pool) -> Burst<Mbuf> {
    let mut bytes = request.bytes().to_vec();
    let asker = bytes[6..12].to_vec();
    let asked = bytes[38..42].to_vec();
    let asker_ip = bytes[28..32].to_vec();
    let ours = [2, 0, 0, 0, 0, 0x99];
    bytes[..6].copy_from_slice(&asker);
    bytes[6..12].copy_from_slice(&ours);
    bytes[21] = 2;
    bytes[22..28].copy_from_slice(&ours);
    bytes[28..32].copy_from_slice(&asked);
    bytes[32..38].copy_from_slice(&asker);
    bytes[38..42].copy_from_slice(&asker_ip);
    std::iter::once(common::frame(pool, &bytes)).collect()
}

fn refusals(eal: &Eal, pool: &Pool) {
    let jumbo = DeviceConfig {
        mtu: 9000,
        ..DeviceConfig::new("wan", pool)
    };
    let refused = Device::open(&eal.handle(), &spec("net_tap0,iface=sltest0"), jumbo);
    let text = refused.expect_err("1522 octets are its most").to_string();
    assert_eq!(
        text,
        "port \"wan\": mtu 9000 is not in 68..=1504, which is what net_tap carries"
    );
    assert!(
        !ip(&["-o", "link"]).contains("sltest0"),
        "nothing left behind"
    );
}

fn in_use(eal: &Eal, pool: &Pool) {
    let config = DeviceConfig::new("lan", pool);
    let refused = Device::open(&eal.handle(), &spec("net_tap1,iface=sltest0"), config);
    let text = refused.expect_err("the name is taken").to_string();
    assert!(
        text.contains("is in use: there is an interface \"sltest0\" already"),
        "{text}"
    );
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
