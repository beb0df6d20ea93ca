//! DPDK and the ports: opened in the order of the file, closed in the reverse one.

use std::rc::Rc;

use config::model::{Config, Hugepages, Port, ReturnTo, Vlan};
use control::status::{DeviceReport, PortInfo};
use control::topology::{PortSetup, Topology};
use dataplane::exchange::RING;
use dataplane::handover;
use dataplane::owner::Steering;
use dpdk::rss::RssConfig;
use dpdk::{Device, DeviceConfig, DeviceSpec, Eal, EalConfig, Handle, Pool, PoolConfig, Queue};
use wire::ethernet::Mac;

use crate::cores;
use crate::exit::Exit;

/// Descriptors of each queue; a device that can't have so many gets what it can.
const DESCRIPTORS: u16 = 1024;
/// Octets in a buffer beside the packet: Ethernet, two tags, frame check sequence.
const AROUND: u16 = 26;
/// Octets in a buffer at least.
const SMALLEST_BUFFER: u16 = 2048;

/// All ports. Fields go in this order.
pub(crate) struct Ports {
    devices: Vec<Rc<Device>>,
    specs: Vec<DeviceSpec>,
    pools: Vec<Pool>,
    eal: Eal,
}

impl Ports {
    /// Starts DPDK and every port of the file, with one queue pair for each worker.
    pub(crate) fn open(config: &Config, steering: &Steering) -> Result<Self, Exit> {
        let workers = steering.workers();
        let specs = with_queues(config).map(spec);
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        let sizes: Vec<_> = with_queues(config)
            .map(|port| size(port, workers))
            .collect();
        let eal = Eal::init(&eal_config(config, &specs, &sizes)).map_err(Exit::device)?;
        let mut ports = Self {
            devices: Vec::new(),
            specs: Vec::new(),
            pools: Vec::new(),
            eal,
        };
        for ((port, spec), size) in with_queues(config).zip(specs).zip(sizes) {
            let carries_vlans = carries_vlans(port, config);
            ports.add((port, carries_vlans), spec, size, steering)?;
        }
        for (name, vlan) in vlans(config) {
            tracing::info!("port {name}: vlan {} of {}", vlan.id, vlan.parent);
        }
        if !ports.eal.hugepages() {
            tracing::info!(
                "no hugepages: packets cost about twice as much (scripts/setup --hugepages N)"
            );
        }
        Ok(ports)
    }

    fn add(
        &mut self,
        (port, carries_vlans): (&Port, bool),
        spec: DeviceSpec,
        size: PoolConfig,
        steering: &Steering,
    ) -> Result<(), Exit> {
        let handle = self.eal.handle();
        let pool = Pool::new(&handle, size).map_err(Exit::device)?;
        let workers = steering.workers();
        let rss = RssConfig {
            key: *steering.key(),
            table: steering.table().to_vec(),
        };
        let config = DeviceConfig {
            queues: workers,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            mtu: port.mtu,
            mac: port.mac.map(|mac| mac.0),
            // Whatever a device filters by, MACs or VLANs, what is ours gets through so.
            promiscuous: carries_vlans,
            all_multicast: true,
            rss: (workers > 1).then_some(rss),
            ..DeviceConfig::new(&port.name, &pool)
        };
        self.pools.push(pool);
        let mut device = Device::open(&handle, &spec, config).map_err(Exit::device)?;
        device.start().map_err(Exit::device)?;
        announce(&device, &spec);
        self.devices.push(Rc::new(device));
        self.specs.push(spec);
        Ok(())
    }

    /// DPDK's proof of running, for the workers' threads.
    pub(crate) fn handle(&self) -> Handle {
        self.eal.handle()
    }

    /// The ports as they came out.
    pub(crate) fn topology(&self, config: &Config) -> Topology {
        let setup = |(port, device): (&Port, &Rc<Device>)| PortSetup {
            any_mac: false,
            name: port.name.clone(),
            mac: Mac(device.mac()),
            mtu: device.mtu().effective.min(port.mtu),
            to_sender: port.return_to == ReturnTo::Sender,
            addresses: port.addresses.clone(),
        };
        let ports = with_queues(config).zip(&self.devices).map(setup);
        Topology::new(ports.collect(), config)
    }

    /// A pool for the frames that control sends, by whatever port: the one with the largest
    /// buffers.
    pub(crate) fn pool(&self) -> Option<Pool> {
        let room = |pool: &&Pool| pool.config().buffer_size;
        self.pools.iter().max_by_key(room).cloned()
    }

    /// A worker's queue pair of each port that has queues.
    pub(crate) fn queues(&self, worker: u16) -> Result<Vec<Queue>, Exit> {
        let queue = |device: &Rc<Device>| device.queue(worker).map_err(Exit::device);
        self.devices.iter().map(queue).collect()
    }

    /// What each device says of itself, for `sluice status`.
    pub(crate) fn info(&self) -> Vec<Box<dyn PortInfo>> {
        let view = |(device, spec): (&Rc<Device>, &DeviceSpec)| -> Box<dyn PortInfo> {
            let (device, spec) = (device.clone(), spec.clone());
            Box::new(View { device, spec })
        };
        self.devices.iter().zip(&self.specs).map(view).collect()
    }

    /// Closes everything, when nobody uses it any more.
    pub(crate) fn close(self) {
        let Self {
            devices,
            pools,
            eal,
            ..
        } = self;
        drop(devices);
        drop(pools);
        if let Err(error) = eal.shutdown() {
            tracing::warn!("{error}");
        }
    }
}

/// The ports that have a device: all but those of VLANs, which stand behind them.
fn with_queues(config: &Config) -> impl Iterator<Item = &Port> {
    config.ports.iter().filter(|port| port.vlan.is_none())
}

/// The ports of VLANs, by name.
fn vlans(config: &Config) -> impl Iterator<Item = (&str, &Vlan)> {
    let ports = config.ports.iter();
    ports.filter_map(|port| Some((port.name.as_str(), port.vlan.as_ref()?)))
}

fn carries_vlans(port: &Port, config: &Config) -> bool {
    vlans(config).any(|(_, vlan)| vlan.parent == port.name)
}

fn spec(port: &Port) -> Result<DeviceSpec, Exit> {
    let Some(device) = &port.device else {
        let text = format!(
            "port {:?}: it has no device; only a replay does without",
            port.name
        );
        return Err(Exit::Configuration(text));
    };
    let named = |error| Exit::configuration(format_args!("port {:?}: {error}", port.name));
    device.parse().map_err(named)
}

fn size(port: &Port, workers: u16) -> PoolConfig {
    let [to_control, to_peer] =
        [RING, handover::RING].map(|ring| u32::try_from(ring).expect("a small constant"));
    let pairs = u32::from(workers);
    let held = pairs.saturating_mul(2 * to_control + to_peer * pairs.saturating_sub(1));
    let computed = PoolConfig::for_ports(1, pairs, u32::from(DESCRIPTORS), held);
    let enough = port.mtu.saturating_add(AROUND).max(SMALLEST_BUFFER);
    PoolConfig {
        buffers: port.mbufs.unwrap_or(computed.buffers),
        buffer_size: port.mbuf_size.unwrap_or(enough),
        ..computed
    }
}

fn eal_config(config: &Config, specs: &[DeviceSpec], sizes: &[PoolConfig]) -> EalConfig {
    let pci = specs.iter().filter_map(|spec| match spec {
        DeviceSpec::Pci(address) => Some(address.clone()),
        DeviceSpec::Vdev { .. } => None,
    });
    let workers = &config.dataplane.workers;
    let mut ours = cores::given();
    ours.retain(|core| !workers.contains(core));
    EalConfig {
        hugepages: match config.dataplane.hugepages {
            Hugepages::Auto => dpdk::Hugepages::Auto,
            Hugepages::Require => dpdk::Hugepages::Require,
            Hugepages::Off => dpdk::Hugepages::Off,
        },
        pools: sizes.to_vec(),
        cores: ours,
        pci: pci.collect(),
        ..EalConfig::default()
    }
}

/// What spreads packets over the queues, as far as it is known.
fn rss(device: &Device) -> &'static str {
    match (device.queues(), device.rss()) {
        (0 | 1, _) => "not needed",
        (_, rss) if rss.verified => "by the device, with our key",
        (_, rss) if rss.types.0 != 0 => "by the device, its key not known",
        _ => "by the driver",
    }
}

fn announce(device: &Device, spec: &DeviceSpec) {
    let link = match device.link() {
        Ok(link) if link.up => "up",
        Ok(_) => "down",
        Err(_) => "unknown",
    };
    let mtu = device.mtu();
    tracing::info!(
        "port {}: {spec} ({}), link {link}, {} queues, spread {}, mtu {}{}",
        device.name(),
        device.driver(),
        device.queues(),
        rss(device),
        mtu.effective,
        if mtu.settable { "" } else { " (not settable)" }
    );
}

/// A device, asked when somebody wants to know.
struct View {
    device: Rc<Device>,
    spec: DeviceSpec,
}

impl PortInfo for View {
    fn report(&self) -> DeviceReport {
        let link = self.device.link().ok();
        let counters = self.device.stats().map(|stats| {
            vec![
                ("rx-packets", stats.rx_packets),
                ("tx-packets", stats.tx_packets),
                ("rx-bytes", stats.rx_bytes),
                ("tx-bytes", stats.tx_bytes),
                ("rx-missed", stats.rx_missed),
                ("rx-errors", stats.rx_errors),
                ("tx-errors", stats.tx_errors),
                ("rx-no-mbuf", stats.rx_no_mbuf),
            ]
        });
        DeviceReport {
            device: self.spec.to_string(),
            driver: self.device.driver(),
            link_up: link.map(|link| link.up),
            speed_mbps: link.and_then(|link| link.speed_mbps),
            queues: self.device.queues(),
            rss: rss(&self.device).to_owned(),
            counters: counters.unwrap_or_default(),
        }
    }
}
