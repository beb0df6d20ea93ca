//! `net_null`: endless empty frames in, everything taken out; and what a device refuses.

mod common;

use common::{eal, pool, runtime_folders};
use dataplane::port::{BURST, Burst, Frame, Port, RxFlags};
use dpdk::{Device, DeviceConfig, DeviceSpec, Eal, EalConfig, EalError, Pool};

#[test]
fn null() {
    let eal = eal();
    assert!(!eal.hugepages());
    assert!(matches!(
        Eal::init(&EalConfig::default()),
        Err(EalError::AlreadyStarted)
    ));
    let pool = pool(&eal);
    receive_and_send(&eal, &pool);
    assert_eq!(pool.in_use(), 0, "every buffer came back");
    refusals(&eal, &pool);
    assert_eq!(pool.in_use(), 0, "refusals leave nothing behind");
    drop(pool);
    eal.shutdown().expect("nothing is used any more");
    assert!(runtime_folders().is_empty(), "the runtime folder is gone");
}

fn spec(text: &str) -> DeviceSpec {
    text.parse().expect("a device's name")
}

fn receive_and_send(eal: &Eal, pool: &Pool) {
    let config = DeviceConfig {
        queues: 2,
        mac: Some([2, 0, 0, 0, 0, 1]),
        all_multicast: true,
        ..DeviceConfig::new("wan", pool)
    };
    let mut device =
        Device::open(&eal.handle(), &spec("net_null0,size=64"), config).expect("needs nothing");
    device.start().expect("needs nothing");
    assert_eq!((device.driver().as_str(), device.queues()), ("net_null", 2));
    assert_eq!(device.mac(), [2, 0, 0, 0, 0, 1]);
    assert_eq!((device.mtu().effective, device.mtu().asked), (1500, 1500));
    assert!(device.link().expect("it has one").up);
    let mut queue = device.queue(1).expect("free");
    let mut burst = Burst::new();
    assert_eq!(queue.rx_burst(&mut burst), BURST);
    for frame in &burst {
        assert_eq!((frame.bytes().len(), frame.headroom()), (64, 128));
        assert_eq!((frame.rss_hash(), frame.rx_flags()), (None, RxFlags(0)));
    }
    assert_eq!(queue.tx_burst(&mut burst), BURST);
    let own = queue.alloc().expect("the pool is nearly full");
    assert_eq!(
        (own.bytes().len(), own.headroom(), own.tailroom()),
        (0, 128, 2048)
    );
    let stats = device.stats().expect("it counts");
    assert_eq!((stats.rx_packets, stats.tx_packets), (32, 32));
}

fn refusals(eal: &Eal, pool: &Pool) {
    let good = DeviceConfig::new("wan", pool);
    let small = common_small_pool(eal);
    #[rustfmt::skip]
    let cases = [
        ("net_null1", DeviceConfig { queues: 5000, ..good.clone() },
         "port \"wan\": start is refused: one queue pair per worker makes 5000, and net_null has 1024"),
        ("net_null1", DeviceConfig { mtu: 9000, ..good.clone() },
         "port \"wan\": an mtu of 9000 needs mbuf_size 9026 or more; it is 2048"),
        ("net_null1", DeviceConfig { pool: small, ..good.clone() },
         "port \"wan\": an mtu of 1500 needs mbuf_size 1526 or more; it is 512"),
        ("net_null1", DeviceConfig { mtu: 40, ..good.clone() },
         "port \"wan\": mtu 40 is not in 68..="),
        ("net_nosuch0", good.clone(),
         "port \"wan\": there is no device net_nosuch0: DPDK has no driver net_nosuch"),
        ("net_null1,nosuch=1", good.clone(),
         "port \"wan\": the device can't be opened"),
        ("net_af_packet0,iface=nosuch", good.clone(),
         "port \"wan\": there is no device net_af_packet0,iface=nosuch: the kernel has no interface \"nosuch\""),
        ("ffff:ff:1f.7", good.clone(),
         "port \"wan\": there is no device ffff:ff:1f.7: the machine has no such PCI device"),
    ];
    for (device, config, want) in cases {
        let result = Device::open(&eal.handle(), &spec(device), config);
        let text = result.expect_err(want).to_string();
        assert!(text.starts_with(want), "{text}\n{want}");
    }
    let first = Device::open(&eal.handle(), &spec("net_null1"), good.clone()).expect("free now");
    let text = Device::open(&eal.handle(), &spec("net_null1"), good)
        .expect_err("in use")
        .to_string();
    assert!(
        text.starts_with("port \"wan\": device net_null1 is in use"),
        "{text}"
    );
    drop(first);
}

fn common_small_pool(eal: &Eal) -> Pool {
    let config = dpdk::PoolConfig {
        buffers: 511,
        buffer_size: 512,
        socket: None,
    };
    Pool::new(&eal.handle(), config).expect("half a MiB")
}
