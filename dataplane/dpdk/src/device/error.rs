//! Why a device does not serve, as sentences for the operator.

use std::io;

use crate::spec::DeviceSpec;

/// Why a device can't be opened, started or used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// DPDK has no driver of that name, or there is no such PCI device.
    #[error(
        "port {port:?}: there is no device {spec}: {why}; write a PCI address (0000:3b:00.0) or a \
         DPDK driver with a number (net_tap0,iface=x)"
    )]
    Unknown {
        /// The port.
        port: String,
        /// The device.
        spec: DeviceSpec,
        /// What is known about it.
        why: String,
    },
    /// The kernel drives it.
    #[error(
        "port {port:?}: device {spec} is driven by the kernel's {driver}; give it to DPDK with \
         dpdk-devbind.py --bind=vfio-pci {spec}"
    )]
    KernelDriver {
        /// The port.
        port: String,
        /// The device.
        spec: DeviceSpec,
        /// The kernel's driver, or `no driver`.
        driver: String,
    },
    /// Somebody has it.
    #[error("port {port:?}: device {spec} is in use: {why}")]
    InUse {
        /// The port.
        port: String,
        /// The device.
        spec: DeviceSpec,
        /// By whom, and what to do.
        why: String,
    },
    /// This process may not, or the kernel lacks it.
    #[error("port {port:?}: device {spec} can't be opened: {why}")]
    NotAllowed {
        /// The port.
        port: String,
        /// The device.
        spec: DeviceSpec,
        /// What is missing, and what to do.
        why: String,
    },
    /// Fewer queues than workers.
    #[error(
        "port {port:?}: start is refused: one queue pair per worker makes {asked}, and {device} \
         has {available}; use that many workers at most, or another device"
    )]
    Queues {
        /// The port.
        port: String,
        /// The driver.
        device: String,
        /// Pairs asked for.
        asked: u16,
        /// Pairs it can have.
        available: u16,
    },
    /// The device can't carry such packets.
    #[error("port {port:?}: mtu {asked} is not in {min}..={max}, which is what {device} carries")]
    Mtu {
        /// The port.
        port: String,
        /// The driver.
        device: String,
        /// Octets asked for.
        asked: u16,
        /// Octets at least.
        min: u16,
        /// Octets at most.
        max: u16,
    },
    /// Frames would not fit into one buffer.
    #[error("port {port:?}: an mtu of {mtu} needs mbuf_size {need} or more; it is {have}")]
    BufferSize {
        /// The port.
        port: String,
        /// Octets of the largest packet.
        mtu: u16,
        /// Octets of a buffer.
        have: u16,
        /// Octets that it takes.
        need: u16,
    },
    /// It would receive nothing under the configured MAC.
    #[error(
        "port {port:?}: the device can neither take the configured mac nor receive frames for any; \
         remove mac from the port"
    )]
    Mac {
        /// The port.
        port: String,
    },
    /// The driver says no.
    #[error("port {port:?}: the device can't be {what}: {reason} ({said})")]
    Refused {
        /// The port.
        port: String,
        /// What was tried.
        what: &'static str,
        /// Why.
        reason: io::Error,
        /// DPDK's last messages.
        said: String,
    },
    /// Workers must give their queues back first.
    #[error("port {port:?}: {out} of its queues are still in workers' hands")]
    QueuesOut {
        /// The port.
        port: String,
        /// How many.
        out: usize,
    },
    /// Queues are given out when it runs.
    #[error("port {port:?} is not started")]
    NotStarted {
        /// The port.
        port: String,
    },
    /// More than it was set up with.
    #[error("port {port:?} has no queue pair {index}")]
    NoSuchQueue {
        /// The port.
        port: String,
        /// Its number.
        index: u16,
    },
    /// Given out before.
    #[error("port {port:?}: queue pair {index} is in another worker's hands")]
    QueueTaken {
        /// The port.
        port: String,
        /// Its number.
        index: u16,
    },
}
