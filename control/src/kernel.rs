//! The way to the kernel and back: one TAP per port, named as the port.
//!
//! Frames for the director's own addresses that are no service's go in, frames that the
//! kernel sends come out and leave by the port. So ssh, routing daemons and health checks use
//! ordinary sockets. The kernel has the port's MAC and addresses but never answers ARP
//! (`arp_ignore` = 8): that is [`crate::neigh`]'s. The interfaces go with the process, however
//! it ends.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use dataplane::port::PortId;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};
use wire::ethernet::Mac;

use crate::netlink::Netlink;
use crate::topology::{PortSetup, Topology};

/// Addresses given or taken in one go, so that a long list holds nothing else up.
const ADDRESSES_AT_ONCE: usize = 32;

/// Groups that control wants to hear of whatever the kernel joined: VRRP, OSPF (RFC 9568
/// section 5.1.1.2, RFC 2328 appendix A.1).
const GROUPS: [Mac; 3] = [
    Mac([0x01, 0x00, 0x5e, 0, 0, 0x05]),
    Mac([0x01, 0x00, 0x5e, 0, 0, 0x06]),
    Mac([0x01, 0x00, 0x5e, 0, 0, 0x12]),
];

/// Why there is no kernel interface.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// An interface of that name is there already.
    #[error(
        "port {name}: this network namespace already has an interface named {name}; rename the \
         port, or remove the interface"
    )]
    Exists {
        /// The port.
        name: String,
    },
    /// Not allowed to make one.
    #[error("port {name}: making its kernel interface takes root (CAP_NET_ADMIN)")]
    Permission {
        /// The port.
        name: String,
    },
    /// No TAP driver.
    #[error("port {name}: /dev/net/tun is missing (module tun), so it gets no kernel interface")]
    NoDriver {
        /// The port.
        name: String,
    },
    /// Anything else.
    #[error("port {name}: its kernel interface could not be {what}: {reason}")]
    Refused {
        /// The port.
        name: String,
        /// What failed.
        what: &'static str,
        /// Why.
        reason: io::Error,
    },
}

struct Tap {
    device: SyncDevice,
    name: String,
    index: u32,
}

/// A VIP that the kernel is to be given, or to lose.
struct Move {
    port: PortId,
    address: IpAddr,
    held: bool,
}

/// All kernel interfaces, by port.
#[derive(Default)]
pub struct Kernel {
    taps: Vec<Tap>,
    netlink: Option<Netlink>,
    moves: VecDeque<Move>,
}

impl Kernel {
    /// Makes an interface for each port, up and with its addresses.
    ///
    /// # Errors
    /// See [`KernelError`]; what was made before goes again.
    pub fn make(topology: &Topology) -> Result<Self, KernelError> {
        let mut kernel = Self::default();
        for (_, setup) in topology.ports() {
            let netlink = match &mut kernel.netlink {
                Some(netlink) => netlink,
                none => none.insert(Netlink::open().map_err(refused(setup, "configured"))?),
            };
            let tap = make(setup, netlink)?;
            kernel.taps.push(tap);
        }
        Ok(kernel)
    }

    /// Has `registry` tell when an interface has frames: port `n` as token `first + n`.
    ///
    /// # Errors
    /// The system's.
    pub fn register(&self, registry: &Registry, first: usize) -> io::Result<()> {
        for (at, tap) in self.taps.iter().enumerate() {
            let fd = tap.device.as_raw_fd();
            registry.register(&mut SourceFd(&fd), Token(first + at), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Gives a frame to the kernel; `false`: it has no room, or there is no interface.
    pub fn write(&self, port: PortId, frame: &[u8]) -> bool {
        let tap = self.taps.get(usize::from(port.0));
        tap.is_some_and(|tap| tap.device.send(frame).is_ok())
    }

    /// Takes one frame that the kernel sends; `None`: there is none.
    pub fn read(&self, port: PortId, into: &mut [u8]) -> Option<usize> {
        let tap = self.taps.get(usize::from(port.0))?;
        tap.device.recv(into).ok().filter(|&len| len > 0)
    }

    /// The ports that have an interface.
    pub fn ports(&self) -> impl Iterator<Item = PortId> + use<> {
        let count = u16::try_from(self.taps.len()).expect("ports are numbered in 16 bits");
        (0..count).map(PortId)
    }

    /// The kernel is to have a VIP, or to lose it. Done by [`Kernel::work`].
    pub fn hold(&mut self, port: PortId, address: IpAddr, held: bool) {
        if !self.taps.is_empty() {
            let moved = Move {
                port,
                address,
                held,
            };
            self.moves.push_back(moved);
        }
    }

    /// Gives and takes a few of the addresses that wait; says whether more wait.
    pub fn work(&mut self) -> bool {
        for _ in 0..ADDRESSES_AT_ONCE {
            let Some(next) = self.moves.pop_front() else {
                break;
            };
            if let Err(error) = self.give(&next) {
                let what = if next.held { "given" } else { "relieved of" };
                tracing::warn!(
                    port = next.port.0,
                    "the kernel was not {what} {}: {error}",
                    next.address
                );
            }
        }
        !self.moves.is_empty()
    }

    fn give(&mut self, next: &Move) -> io::Result<()> {
        let tap = self.taps.get(usize::from(next.port.0));
        let (Some(netlink), Some(tap)) = (&mut self.netlink, tap) else {
            return Ok(());
        };
        let whole = if next.address.is_ipv4() { 32 } else { 128 };
        if next.held {
            netlink.add(tap.index, next.address, whole)
        } else {
            netlink.remove(tap.index, next.address, whole)
        }
    }

    /// The multicast groups of each port: those that the kernel joined, and routing's.
    pub fn groups(&self) -> Vec<Vec<Mac>> {
        let joined = fs::read_to_string("/proc/thread-self/net/dev_mcast").unwrap_or_default();
        let of = |tap: &Tap| groups_of(&joined, &tap.name);
        self.taps.iter().map(of).collect()
    }
}

fn refused(setup: &PortSetup, what: &'static str) -> impl FnOnce(io::Error) -> KernelError {
    let name = setup.name.clone();
    move |reason| match reason.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => KernelError::Permission { name },
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) if what == "made" => {
            KernelError::NoDriver { name }
        }
        Some(Errno::EBUSY | Errno::EEXIST) if what == "made" => KernelError::Exists { name },
        _ => KernelError::Refused { name, what, reason },
    }
}

fn make(setup: &PortSetup, netlink: &mut Netlink) -> Result<Tap, KernelError> {
    let name = setup.name.clone();
    if nix::net::if_::if_nametoindex(name.as_str()).is_ok() {
        return Err(KernelError::Exists { name });
    }
    let built = DeviceBuilder::new()
        .name(&name)
        .layer(Layer::L2)
        .mac_addr(setup.mac.0)
        .mtu(setup.mtu)
        .enable(false)
        .build_sync();
    let device = built.map_err(refused(setup, "made"))?;
    let index = device.if_index().map_err(refused(setup, "found"))?;
    device
        .set_nonblocking(true)
        .map_err(refused(setup, "read"))?;
    let silent = set(&format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore"), "8");
    silent.map_err(refused(setup, "kept from answering ARP"))?;
    speak_ipv6(setup).map_err(refused(setup, "set up for IPv6"))?;
    for prefix in &setup.addresses {
        let added = netlink.add(index, prefix.address, prefix.length);
        added.map_err(refused(setup, "given its address"))?;
    }
    device.enabled(true).map_err(refused(setup, "brought up"))?;
    Ok(Tap {
        device,
        name,
        index,
    })
}

/// The kernel speaks IPv6 on the interface if the port has such an address. It makes no address
/// or route up from what routers say, and does not ask whether addresses are taken: whether
/// they are ours is the director's to say.
fn speak_ipv6(setup: &PortSetup) -> io::Result<()> {
    let name = &setup.name;
    let one = |key: &str, value| set(&format!("/proc/sys/net/ipv6/conf/{name}/{key}"), value);
    let wanted = setup.addresses.iter().any(|one| one.address.is_ipv6());
    if !wanted {
        if let Err(error) = one("disable_ipv6", "1") {
            tracing::debug!(
                port = name,
                "IPv6 is not switched off on the kernel interface: {error}"
            );
        }
        return Ok(());
    }
    one("disable_ipv6", "0")?;
    one("accept_ra", "0")?;
    one("accept_dad", "0")?;
    one("dad_transmits", "0")
}

fn set(path: &str, value: &str) -> io::Result<()> {
    fs::write(path, value)
}

/// The groups that `interface` joined according to `/proc/net/dev_mcast` (number, name,
/// counts, MAC), with routing's, sorted.
fn groups_of(joined: &str, interface: &str) -> Vec<Mac> {
    let of_line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, mac) = (words.get(1)?, words.last()?);
        (*name == interface).then(|| hex_mac(mac)).flatten()
    };
    let mut groups: Vec<Mac> = joined.lines().filter_map(of_line).chain(GROUPS).collect();
    groups.sort();
    groups.dedup();
    groups
}

fn hex_mac(text: &str) -> Option<Mac> {
    let number = u64::from_str_radix(text, 16)
        .ok()
        .filter(|_| text.len() == 12)?;
    let [_, _, mac @ ..] = number.to_be_bytes();
    Some(Mac(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_what_the_kernel_joined_and_routings() {
        let joined = "2    wan             1     0     01005e000001\n\
                      2    wan             1     0     333300000001\n\
                      3    lan             1     0     01005e000009\n\
                      broken line\n";
        let groups = groups_of(joined, "wan");
        let shown: Vec<_> = groups.iter().map(Mac::to_string).collect();
        let want = [
            "01:00:5e:00:00:01",
            "01:00:5e:00:00:05",
            "01:00:5e:00:00:06",
            "01:00:5e:00:00:12",
            "33:33:00:00:00:01",
        ];
        assert_eq!(shown, want);
        assert_eq!(groups_of("", "wan").len(), 3);
    }

    #[test]
    fn no_ports_need_no_rights_and_hold_nothing() {
        let mut kernel = Kernel::make(&Topology::default()).expect("nothing to make");
        kernel.hold(PortId(0), IpAddr::from([192, 0, 2, 1]), true);
        assert!(!kernel.work());
        assert!(!kernel.write(PortId(0), &[0; 60]));
    }
}
