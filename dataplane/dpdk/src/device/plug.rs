//! From a device's name to DPDK's number of its port.
//!
//! DPDK's own answer is one number for all failures, so what can be known beforehand is looked at
//! first.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::device::DeviceError;
use crate::messages::{self, check};
use crate::spec::DeviceSpec;

/// Opens the device and finds its port. A PCI device was probed when EAL started.
pub(super) fn plug(port: &str, spec: &DeviceSpec) -> Result<u16, DeviceError> {
    match spec {
        DeviceSpec::Pci(_) => find(spec).ok_or_else(|| explain_pci(port, spec)),
        DeviceSpec::Vdev { .. } => plug_vdev(port, spec),
    }
}

fn plug_vdev(port: &str, spec: &DeviceSpec) -> Result<u16, DeviceError> {
    if find(spec).is_some() {
        let why = "another port of this configuration has it; give it another number".into();
        return Err(DeviceError::InUse {
            port: port.into(),
            spec: spec.clone(),
            why,
        });
    }
    look_first(port, spec)?;
    // What was said before is not about this device.
    messages::take();
    let text = CString::new(spec.to_string()).expect("a spec is printable ASCII");
    // SAFETY: EAL runs (the caller holds its handle), and the text is ended by a zero.
    if check(unsafe { dpdk_sys::shim_dev_known(text.as_ptr()) }).is_err() {
        let why = format!("DPDK has no driver {}", spec.driver());
        return Err(DeviceError::Unknown {
            port: port.into(),
            spec: spec.clone(),
            why,
        });
    }
    // SAFETY: EAL runs (the caller holds its handle), and the text is ended by a zero; DPDK
    // copies it.
    let answer = check(unsafe { dpdk_sys::shim_dev_probe(text.as_ptr()) });
    answer.map_err(|reason| explain_vdev(port, spec, reason))?;
    find(spec).ok_or_else(|| explain_vdev(port, spec, io::Error::from_raw_os_error(libc::ENODEV)))
}

fn find(spec: &DeviceSpec) -> Option<u16> {
    let name = CString::new(spec.device_name()).expect("a spec is printable ASCII");
    let mut port = 0;
    // SAFETY: EAL runs, the name is ended by a zero, `port` is ours to write.
    check(unsafe { dpdk_sys::shim_port_find(name.as_ptr(), &mut port) }).ok()?;
    Some(port)
}

fn look_first(port: &str, spec: &DeviceSpec) -> Result<(), DeviceError> {
    match spec.driver() {
        "net_tap" => look_at_tap(port, spec),
        "net_af_packet" | "net_af_xdp" => look_at_interface(port, spec),
        _ => Ok(()),
    }
}

/// Numbers of `capabilities(7)`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Where it can't be told, the driver will say.
    mask.is_none_or(|mask| mask >> number & 1 == 1)
}

fn lacks(port: &str, spec: &DeviceSpec, capability: &str) -> DeviceError {
    let why = format!("it takes {capability}; run sluiced as root or give it that capability");
    DeviceError::NotAllowed {
        port: port.into(),
        spec: spec.clone(),
        why,
    }
}

/// A TAP needs the kernel's device, and a name that is free: the driver would quietly join an
/// interface that somebody left there.
fn look_at_tap(port: &str, spec: &DeviceSpec) -> Result<(), DeviceError> {
    if !has_capability(CAP_NET_ADMIN) {
        return Err(lacks(port, spec, "CAP_NET_ADMIN"));
    }
    let (port, spec) = (port.to_owned(), spec.clone());
    if let Err(reason) = File::options().read(true).write(true).open("/dev/net/tun") {
        let why = format!("/dev/net/tun: {reason}; it takes the kernel's tun module");
        return Err(DeviceError::NotAllowed { port, spec, why });
    }
    match spec.argument("iface").map(str::to_owned) {
        Some(name) if interface_exists(&name) => {
            let why = format!(
                "there is an interface {name:?} already; stop what made it, or choose another iface"
            );
            Err(DeviceError::InUse { port, spec, why })
        }
        _ => Ok(()),
    }
}

fn look_at_interface(port: &str, spec: &DeviceSpec) -> Result<(), DeviceError> {
    let Some(name) = spec.argument("iface") else {
        return Ok(());
    };
    if interface_exists(name) {
        let may = has_capability(CAP_NET_RAW);
        return if may {
            Ok(())
        } else {
            Err(lacks(port, spec, "CAP_NET_RAW"))
        };
    }
    let why = format!("the kernel has no interface {name:?}");
    Err(DeviceError::Unknown {
        port: port.into(),
        spec: spec.clone(),
        why,
    })
}

fn interface_exists(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: the name is ended by a zero. Asks this network namespace, which a /sys mounted in
    // another one would not show.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}

fn explain_vdev(port: &str, spec: &DeviceSpec, reason: io::Error) -> DeviceError {
    let (port, spec, said) = (port.to_owned(), spec.clone(), messages::last_words());
    match reason.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let why = format!("{reason}: it takes root ({said})");
            DeviceError::NotAllowed { port, spec, why }
        }
        Some(libc::EEXIST | libc::EBUSY) => DeviceError::InUse {
            port,
            spec,
            why: format!("{reason} ({said})"),
        },
        Some(libc::ENODEV | libc::EINVAL | libc::EFAULT | libc::ENOENT) => DeviceError::Unknown {
            port,
            spec,
            why: said,
        },
        _ => DeviceError::Refused {
            port,
            what: "opened",
            reason,
            said,
        },
    }
}

/// Why EAL did not take a PCI device, by what the kernel shows of it.
fn explain_pci(port: &str, spec: &DeviceSpec) -> DeviceError {
    let (port, spec) = (port.to_owned(), spec.clone());
    let folder = spec.sys_folder().expect("a PCI device");
    if !folder.exists() {
        let why = "the machine has no such PCI device (lspci -D lists them)".into();
        return DeviceError::Unknown { port, spec, why };
    }
    let driver = driver_of(&folder);
    if !matches!(
        driver.as_str(),
        "vfio-pci" | "igb_uio" | "uio_pci_generic" | "mlx5_core"
    ) {
        return DeviceError::KernelDriver { port, spec, driver };
    }
    let reason = io::Error::from_raw_os_error(libc::ENODEV);
    DeviceError::Refused {
        port,
        what: "opened",
        reason,
        said: messages::last_words(),
    }
}

fn driver_of(folder: &Path) -> String {
    let link = fs::read_link(folder.join("driver")).ok();
    let name = link
        .as_deref()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    name.unwrap_or("no driver").to_owned()
}
