//! What names a device: a PCI address, or a driver without hardware and its arguments.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A device as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// `0000:3b:00.0`, always with its domain.
    Pci(String),
    /// `net_tap0,iface=x`.
    Vdev {
        /// `net_tap0`: the driver and a number.
        name: String,
        /// `iface=x`, empty for none.
        arguments: String,
    },
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no device; write a PCI address (0000:3b:00.0) or a DPDK driver with a number \
     and its arguments (net_tap0,iface=x)"
)]
pub struct SpecError(pub String);

impl DeviceSpec {
    /// The name that DPDK knows it by.
    pub fn device_name(&self) -> &str {
        match self {
            DeviceSpec::Pci(address) => address,
            DeviceSpec::Vdev { name, .. } => name,
        }
    }

    /// `net_tap` of `net_tap0`; the empty text for a PCI device.
    pub fn driver(&self) -> &str {
        match self {
            DeviceSpec::Pci(_) => "",
            DeviceSpec::Vdev { name, .. } => name.trim_end_matches(|c: char| c.is_ascii_digit()),
        }
    }

    /// The value of an argument, of the first if it is there twice.
    pub fn argument(&self, key: &str) -> Option<&str> {
        let DeviceSpec::Vdev { arguments, .. } = self else {
            return None;
        };
        let mut pairs = arguments.split(',').filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Where the kernel shows a PCI device.
    pub(crate) fn sys_folder(&self) -> Option<PathBuf> {
        let DeviceSpec::Pci(address) = self else {
            return None;
        };
        Some(Path::new("/sys/bus/pci/devices").join(address))
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Pci(address) => f.write_str(address),
            DeviceSpec::Vdev { name, arguments } if arguments.is_empty() => f.write_str(name),
            DeviceSpec::Vdev { name, arguments } => write!(f, "{name},{arguments}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let unknown = || SpecError(text.to_owned());
        if let Some(address) = pci_address(text) {
            return Ok(DeviceSpec::Pci(address));
        }
        let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(word);
        let printable = text.chars().all(|c| c.is_ascii_graphic());
        // 63: DPDK's longest device name.
        if !named || !printable || name.len() > 63 || !name.contains('_') {
            return Err(unknown());
        }
        Ok(DeviceSpec::Vdev {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        })
    }
}

/// `[DDDD:]BB:DD.F` in full.
fn pci_address(text: &str) -> Option<String> {
    let (bus_part, function) = text.split_once('.')?;
    let (domain, bus, device) = match bus_part.split(':').collect::<Vec<_>>()[..] {
        [bus, device] => ("0000", bus, device),
        [domain, bus, device] => (domain, bus, device),
        _ => return None,
    };
    let hex = |word: &str, digits: usize| {
        word.len() == digits && word.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let good = hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1);
    good.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let cases = [
            ("0000:3b:00.0", Some("0000:3b:00.0")),
            ("3B:00.1", Some("0000:3b:00.1")),
            ("net_tap0,iface=x", Some("net_tap0,iface=x")),
            ("net_null0", Some("net_null0")),
            ("", None),
            ("eth0", None),
            ("0000:3b:00", None),
            ("net_tap0,iface=a b", None),
            (",iface=x", None),
        ];
        for (text, want) in cases {
            let got = text.parse::<DeviceSpec>().ok().map(|spec| spec.to_string());
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn parts() {
        let tap: DeviceSpec = "net_tap12,iface=wan,speed=10".parse().expect("a vdev");
        assert_eq!((tap.driver(), tap.device_name()), ("net_tap", "net_tap12"));
        assert_eq!(
            (tap.argument("iface"), tap.argument("speed")),
            (Some("wan"), Some("10"))
        );
        assert_eq!(tap.argument("mac"), None);
    }
}
