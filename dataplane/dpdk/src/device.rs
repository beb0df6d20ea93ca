//! A device: opened, set up, started; its queues given out, its state told.
//!
//! Nothing is assumed of it: what it can do is asked, and a function that it does not have is
//! done without where that is possible. Devices without hardware are plugged one by one after EAL
//! has started, so that each failure has a message of its own.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys::{PortInfo, PortSetup};

use crate::eal::{Handle, Runtime};
use crate::messages::{self, check, not_supported};
use crate::pool::Pool;
use crate::queue::Queue;
use crate::ring::{RingEnd, Rings};
use crate::rss::{self, KEY_LEN, RssConfig, RssState, RssTypes};
use crate::spec::DeviceSpec;

mod before;
mod error;
mod plug;

pub use dpdk_sys::PortStats as DeviceStats;
pub use error::DeviceError;

use before::Before;

/// Octets around a packet that a buffer must hold too: Ethernet, two VLAN tags, frame check
/// sequence (drivers count it).
const AROUND: u16 = 14 + 8 + 4;

/// How a device is set up.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// The port's name, for messages.
    pub name: String,
    /// Queue pairs, one per worker.
    pub queues: u16,
    /// Descriptors per RX queue; 0 for the driver's choice. What the device can't have is rounded.
    pub rx_descriptors: u16,
    /// The same per TX queue.
    pub tx_descriptors: u16,
    /// Octets of the largest packet, link header not included.
    pub mtu: u16,
    /// The port's MAC; `None` for the device's own.
    pub mac: Option<[u8; 6]>,
    /// Receive frames for any MAC.
    pub promiscuous: bool,
    /// Receive all multicast.
    pub all_multicast: bool,
    /// Key and table for RSS; `None` leaves the driver's.
    pub rss: Option<RssConfig>,
    /// Where received frames take their buffers.
    pub pool: Pool,
}

impl DeviceConfig {
    /// One pair, an MTU of 1500, nothing special.
    pub fn new(name: &str, pool: &Pool) -> DeviceConfig {
        DeviceConfig {
            name: name.to_owned(),
            queues: 1,
            rx_descriptors: 0,
            tx_descriptors: 0,
            mtu: 1500,
            mac: None,
            promiscuous: false,
            all_multicast: false,
            rss: None,
            pool: pool.clone(),
        }
    }
}

/// The MTU as it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// Octets that were asked for.
    pub asked: u16,
    /// Octets in force, by the device's word.
    pub effective: u16,
    /// `false`: the device has no way to set it; larger frames may come in.
    pub settable: bool,
}

/// State of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Frames can pass.
    pub up: bool,
    /// Mb/s, where known.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// What a device took of the things that it may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settled {
    mtu: Mtu,
    mac: [u8; 6],
    promiscuous: bool,
    all_multicast: bool,
}

/// An open device. For one thread at a time; its queues go to the workers.
#[derive(Debug)]
pub struct Device {
    opened: Arc<Opened>,
    config: DeviceConfig,
    info: PortInfo,
    setup: PortSetupResult,
    settled: Settled,
    rss: RssState,
    /// Not `Sync`: DPDK's control functions of one port are for one thread at a time.
    _one_thread: PhantomData<Cell<()>>,
}

/// What the set-up of the queues gave.
#[derive(Clone, Copy, Debug)]
struct PortSetupResult {
    rss_types: RssTypes,
    reports_hash: bool,
    rx_descriptors: u16,
    tx_descriptors: u16,
}

/// DPDK's port: closed when the device and all of its queues are gone.
#[derive(Debug)]
pub(crate) struct Opened {
    port: u16,
    /// Unplug the device when closing: we plugged it.
    unplug: bool,
    started: AtomicBool,
    taken: Mutex<Vec<bool>>,
    // Dropped after `Drop` closed the port, in this order.
    _before: Option<Before>,
    _rings: Option<Arc<Rings>>,
    pool: Pool,
    _runtime: Arc<Runtime>,
}

impl Opened {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn give_back(&self, queue: u16) {
        self.taken()[usize::from(queue)] = false;
    }

    fn taken(&self) -> MutexGuard<'_, Vec<bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        if self.started.swap(false, Ordering::AcqRel) {
            // SAFETY: the port is started; no queue of it is out (the callers' business: `Drop`
            // runs after the last owner, `Device::stop` looks), so nobody is in a burst call.
            unsafe { dpdk_sys::shim_port_stop(self.port) };
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.stop();
        // SAFETY: the port is stopped, and with its last owner gone nobody uses its number. EAL
        // still runs (`_runtime`).
        unsafe { dpdk_sys::shim_port_remove(self.port, u8::from(self.unplug)) };
    }
}

impl Device {
    /// Opens the device that `spec` names, and sets it and its queues up. No frame passes yet.
    ///
    /// # Errors
    /// See [`DeviceError`]; nothing of the device is left open.
    pub fn open(
        handle: &Handle,
        spec: &DeviceSpec,
        config: DeviceConfig,
    ) -> Result<Device, DeviceError> {
        let before = Before::of(spec);
        let port = plug::plug(&config.name, spec)?;
        let unplug = matches!(spec, DeviceSpec::Vdev { .. });
        let mut opened = opened(handle, &config, port, unplug, None);
        opened._before = before;
        Device::set_up(opened, config)
    }

    /// The same for one end of a pair of rings.
    ///
    /// # Errors
    /// As for [`Device::open`].
    pub fn open_ring(
        handle: &Handle,
        end: RingEnd,
        config: DeviceConfig,
    ) -> Result<Device, DeviceError> {
        let (port, rings) = (end.port(), end.into_rings());
        Device::set_up(opened(handle, &config, port, true, Some(rings)), config)
    }

    fn set_up(opened: Opened, config: DeviceConfig) -> Result<Device, DeviceError> {
        let port = opened.port;
        let info = info(port).map_err(|reason| refused(&config, "opened", reason))?;
        fits(&config, &info)?;
        let setup = set_up_queues(port, &config)?;
        let settled = settle(port, &config)?;
        let rss = RssState::default();
        let opened = Arc::new(opened);
        Ok(Device {
            opened,
            config,
            info,
            setup,
            settled,
            rss,
            _one_thread: PhantomData,
        })
    }

    /// Lets frames pass, programs RSS and reads it back.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn start(&mut self) -> Result<(), DeviceError> {
        if self.started() {
            return Ok(());
        }
        // SAFETY: the port is set up and not started.
        let answer = unsafe { dpdk_sys::shim_port_start(self.port()) };
        check(answer).map_err(|reason| refused(&self.config, "started", reason))?;
        self.opened.started.store(true, Ordering::Release);
        // Some drivers forget these at start.
        self.settled.promiscuous = promiscuous(self.port(), self.settled.promiscuous);
        self.settled.all_multicast = all_multicast(self.port(), self.settled.all_multicast);
        let (types, reports) = (self.setup.rss_types, self.setup.reports_hash);
        self.rss = rss::apply(
            self.port(),
            &self.info,
            self.config.rss.as_ref(),
            types,
            reports,
        );
        Ok(())
    }

    /// Stops it; it may be started again.
    ///
    /// # Errors
    /// A worker still has a queue.
    pub fn stop(&mut self) -> Result<(), DeviceError> {
        let out = self.opened.taken().iter().filter(|&&taken| taken).count();
        if out > 0 {
            return Err(DeviceError::QueuesOut {
                port: self.config.name.clone(),
                out,
            });
        }
        self.opened.stop();
        Ok(())
    }

    /// Gives out queue pair `index`, from 0.
    ///
    /// # Errors
    /// The device is not started, has no such pair, or somebody has it.
    pub fn queue(&self, index: u16) -> Result<Queue, DeviceError> {
        let port = || self.config.name.clone();
        if !self.started() {
            return Err(DeviceError::NotStarted { port: port() });
        }
        match self.opened.taken().get_mut(usize::from(index)) {
            None => Err(DeviceError::NoSuchQueue {
                port: port(),
                index,
            }),
            Some(true) => Err(DeviceError::QueueTaken {
                port: port(),
                index,
            }),
            Some(taken) => {
                *taken = true;
                Ok(Queue::new(Arc::clone(&self.opened), index))
            }
        }
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The driver's name.
    pub fn driver(&self) -> String {
        text(&self.info.driver)
    }

    /// What the device says it can do.
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// Queue pairs.
    pub fn queues(&self) -> u16 {
        self.config.queues
    }

    /// Descriptors per RX and per TX queue.
    pub fn descriptors(&self) -> (u16, u16) {
        (self.setup.rx_descriptors, self.setup.tx_descriptors)
    }

    /// The port's MAC: the configured one, else the device's own.
    pub fn mac(&self) -> [u8; 6] {
        self.settled.mac
    }

    /// The MTU as it came out.
    pub fn mtu(&self) -> Mtu {
        self.settled.mtu
    }

    /// Whether it receives frames for any MAC: asked for, or because its MAC can't be set.
    pub fn promiscuous(&self) -> bool {
        self.settled.promiscuous
    }

    /// Whether it was told to receive all multicast, and has that function.
    pub fn all_multicast(&self) -> bool {
        self.settled.all_multicast
    }

    /// What RSS really does; nothing before [`Device::start`].
    pub fn rss(&self) -> &RssState {
        &self.rss
    }

    /// Whether frames pass.
    pub fn started(&self) -> bool {
        self.opened.started.load(Ordering::Acquire)
    }

    /// The link as it is now.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn link(&self) -> Result<Link, DeviceError> {
        let mut link = dpdk_sys::PortLink::default();
        // SAFETY: the port exists, and `link` is ours to write.
        let answer = unsafe { dpdk_sys::shim_port_link(self.port(), &mut link) };
        check(answer).map_err(|reason| refused(&self.config, "asked for its link", reason))?;
        let known = |&speed: &u32| speed != 0 && speed != u32::MAX;
        let speed_mbps = Some(link.speed_mbps).filter(known);
        Ok(Link {
            up: link.up == 1,
            speed_mbps,
            full_duplex: link.full_duplex == 1,
        })
    }

    /// The device's counters since it was started.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn stats(&self) -> Result<DeviceStats, DeviceError> {
        let mut stats = DeviceStats::default();
        // SAFETY: the port exists, and `stats` is ours to write.
        let answer = unsafe { dpdk_sys::shim_port_stats(self.port(), &mut stats) };
        check(answer).map_err(|reason| refused(&self.config, "asked for its counters", reason))?;
        Ok(stats)
    }

    fn port(&self) -> u16 {
        self.opened.port
    }
}

fn opened(
    handle: &Handle,
    config: &DeviceConfig,
    port: u16,
    unplug: bool,
    rings: Option<Arc<Rings>>,
) -> Opened {
    Opened {
        port,
        unplug,
        started: AtomicBool::new(false),
        taken: Mutex::new(vec![false; usize::from(config.queues)]),
        _before: None,
        _rings: rings,
        pool: config.pool.clone(),
        _runtime: Arc::clone(&handle.0),
    }
}

fn refused(config: &DeviceConfig, what: &'static str, reason: io::Error) -> DeviceError {
    DeviceError::Refused {
        port: config.name.clone(),
        what,
        reason,
        said: messages::last_words(),
    }
}

fn info(port: u16) -> io::Result<PortInfo> {
    // SAFETY: integers and arrays of them: all zeros is a value.
    let mut info: PortInfo = unsafe { std::mem::zeroed() };
    // SAFETY: the port exists, and `info` is ours to write.
    check(unsafe { dpdk_sys::shim_port_info(port, &mut info) })?;
    Ok(info)
}

fn text(name: &[u8]) -> String {
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// What the device's own limits forbid.
fn fits(config: &DeviceConfig, info: &PortInfo) -> Result<(), DeviceError> {
    let (port, device) = (config.name.clone(), text(&info.driver));
    let available = info.max_rx_queues.min(info.max_tx_queues);
    if config.queues == 0 || available < config.queues {
        return Err(DeviceError::Queues {
            port,
            device,
            asked: config.queues,
            available,
        });
    }
    let (asked, min, max) = (config.mtu, info.min_mtu.max(68), info.max_mtu);
    if asked < min || asked > max {
        return Err(DeviceError::Mtu {
            port,
            device,
            asked,
            min,
            max,
        });
    }
    let (have, need) = (
        config.pool.config().buffer_size,
        asked.saturating_add(AROUND),
    );
    if have < need {
        return Err(DeviceError::BufferSize {
            port,
            mtu: asked,
            have,
            need,
        });
    }
    Ok(())
}

fn set_up_queues(port: u16, config: &DeviceConfig) -> Result<PortSetupResult, DeviceError> {
    let mut setup = wanted(config);
    // SAFETY: the port exists and is not started; `setup.pool` is valid, and `Opened` keeps it
    // until the port is closed.
    let answer = unsafe { dpdk_sys::shim_port_setup(port, &mut setup) };
    check(answer).map_err(|reason| refused(config, step_name(setup.step, &reason), reason))?;
    Ok(PortSetupResult {
        rss_types: RssTypes(setup.rss_types),
        reports_hash: setup.reports_hash == 1,
        rx_descriptors: setup.rx_descriptors,
        tx_descriptors: setup.tx_descriptors,
    })
}

fn wanted(config: &DeviceConfig) -> PortSetup {
    let mut setup = PortSetup {
        pool: config.pool.raw().as_ptr(),
        rss_types: if config.queues > 1 || config.rss.is_some() {
            RssTypes::WANTED.0
        } else {
            0
        },
        queues: config.queues,
        rx_descriptors: config.rx_descriptors,
        tx_descriptors: config.tx_descriptors,
        mtu: config.mtu,
        rss_key_len: 0,
        rss_key: [0; dpdk_sys::RSS_KEY_MAX],
        reports_hash: 0,
        step: 0,
    };
    if let Some(rss) = &config.rss {
        setup.rss_key_len = u8::try_from(KEY_LEN).expect("40");
        setup.rss_key[..KEY_LEN].copy_from_slice(&rss.key);
    }
    setup
}

fn step_name(step: u8, reason: &io::Error) -> &'static str {
    let no_memory = reason.raw_os_error() == Some(libc::ENOMEM);
    match step {
        dpdk_sys::STEP_RX_QUEUE if no_memory => "given a receive queue (are its mbufs enough?)",
        dpdk_sys::STEP_INFO => "asked what it can do",
        dpdk_sys::STEP_CONFIGURE => "configured",
        dpdk_sys::STEP_DESCRIPTORS => "given that many descriptors",
        dpdk_sys::STEP_RX_QUEUE => "given a receive queue",
        _ => "given a transmit queue",
    }
}

fn settle(port: u16, config: &DeviceConfig) -> Result<Settled, DeviceError> {
    let mtu = set_mtu(port, config)?;
    let (mac, mac_is_set) = settle_mac(port, config)?;
    let want_promiscuous = config.promiscuous || !mac_is_set;
    let promiscuous = promiscuous(port, want_promiscuous);
    if !mac_is_set && !promiscuous {
        return Err(DeviceError::Mac {
            port: config.name.clone(),
        });
    }
    let all_multicast = all_multicast(port, config.all_multicast);
    Ok(Settled {
        mtu,
        mac,
        promiscuous,
        all_multicast,
    })
}

fn set_mtu(port: u16, config: &DeviceConfig) -> Result<Mtu, DeviceError> {
    let asked = config.mtu;
    // SAFETY: the port exists and is not started.
    let answer = check(unsafe { dpdk_sys::shim_port_mtu_set(port, asked) });
    let settable = match answer {
        Ok(()) => true,
        Err(reason) if not_supported(&reason) => false,
        Err(reason) => return Err(refused(config, "given its MTU", reason)),
    };
    let mut effective = asked;
    // SAFETY: the port exists, and `effective` is ours to write.
    check(unsafe { dpdk_sys::shim_port_mtu_get(port, &mut effective) })
        .map_err(|reason| refused(config, "asked for its MTU", reason))?;
    Ok(Mtu {
        asked,
        effective,
        settable,
    })
}

/// The MAC to use, and whether the device knows it.
fn settle_mac(port: u16, config: &DeviceConfig) -> Result<([u8; 6], bool), DeviceError> {
    if let Some(mac) = config.mac {
        // SAFETY: the port exists; the shim reads 6 octets.
        let answer = unsafe { dpdk_sys::shim_port_mac_set(port, mac.as_ptr()) };
        return Ok((mac, check(answer).is_ok()));
    }
    let mut mac = [0u8; 6];
    // SAFETY: the port exists; the shim writes 6 octets.
    check(unsafe { dpdk_sys::shim_port_mac_get(port, mac.as_mut_ptr()) })
        .map_err(|reason| refused(config, "asked for its MAC", reason))?;
    Ok((mac, true))
}

/// Whether it is so now.
fn promiscuous(port: u16, on: bool) -> bool {
    // SAFETY: the port exists.
    let answer = unsafe { dpdk_sys::shim_port_promiscuous(port, u8::from(on)) };
    on && check(answer).is_ok()
}

/// Whether it is so now.
fn all_multicast(port: u16, on: bool) -> bool {
    // SAFETY: the port exists.
    let answer = unsafe { dpdk_sys::shim_port_allmulticast(port, u8::from(on)) };
    on && check(answer).is_ok()
}
