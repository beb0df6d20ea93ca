//! A kernel interface as it was before a device used it.
//!
//! AF_PACKET and AF_XDP devices set MAC, MTU and promiscuous mode of an interface that stays when
//! they are closed. Other devices have none, or one that goes with them.

use std::ffi::{c_char, c_ulong};
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use libc::{ifreq, sockaddr};

use crate::spec::DeviceSpec;

/// Flags that drivers set: all frames, all multicast.
#[expect(clippy::cast_possible_truncation, reason = "two of the lower 16 bits")]
const FLAGS: i16 = (libc::IFF_PROMISC | libc::IFF_ALLMULTI) as i16;

/// Dropping it puts things back; a device must be closed by then.
pub(super) struct Before {
    interface: Interface,
    mtu: i32,
    mac: sockaddr,
    flags: i16,
}

/// Any socket will do to ask the kernel; it stays in the namespace of the interface.
struct Interface {
    socket: UnixDatagram,
    name: [c_char; libc::IFNAMSIZ],
}

impl Before {
    /// The interface behind a device that is not open yet; `None`: there is none that would stay.
    pub(super) fn of(spec: &DeviceSpec) -> Option<Before> {
        if !matches!(spec.driver(), "net_af_packet" | "net_af_xdp") {
            return None;
        }
        let interface = Interface::named(spec.argument("iface")?)?;
        Some(Before {
            mtu: interface.mtu()?,
            mac: interface.mac()?,
            flags: interface.flags()?,
            interface,
        })
    }

    fn put_back_mtu(&self) -> Option<()> {
        (self.interface.mtu()? != self.mtu).then_some(())?;
        let mut request = self.interface.request();
        request.ifr_ifru.ifru_mtu = self.mtu;
        self.interface.ask(libc::SIOCSIFMTU, request).map(drop)
    }

    fn put_back_mac(&self) -> Option<()> {
        (self.interface.mac()?.sa_data != self.mac.sa_data).then_some(())?;
        let mut request = self.interface.request();
        request.ifr_ifru.ifru_hwaddr = self.mac;
        self.interface.ask(libc::SIOCSIFHWADDR, request).map(drop)
    }

    fn put_back_flags(&self) -> Option<()> {
        let now = self.interface.flags()?;
        let want = now & !FLAGS | self.flags & FLAGS;
        (now != want).then_some(())?;
        let mut request = self.interface.request();
        request.ifr_ifru.ifru_flags = want;
        self.interface.ask(libc::SIOCSIFFLAGS, request).map(drop)
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        // Who removed the interface meanwhile, or may not change it any more, finds no help here.
        let _ = self.put_back_mtu();
        let _ = self.put_back_mac();
        let _ = self.put_back_flags();
    }
}

impl Interface {
    fn named(name: &str) -> Option<Interface> {
        let mut padded = [0; libc::IFNAMSIZ];
        // One octet is left: the name ends with a zero.
        let room = padded[..libc::IFNAMSIZ - 1].get_mut(..name.len())?;
        for (to, from) in room.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        Some(Interface {
            socket: UnixDatagram::unbound().ok()?,
            name: padded,
        })
    }

    /// A request that names the interface and says nothing else.
    fn request(&self) -> ifreq {
        // SAFETY: integers, arrays of them, and a union of such and pointers: all zeros is a value.
        let mut request: ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name = self.name;
        request
    }

    /// Asks the kernel one of the `SIOC[GS]IF` requests of this file; `None`: it refuses.
    fn ask(&self, what: c_ulong, mut request: ifreq) -> Option<ifreq> {
        let socket = self.socket.as_raw_fd();
        // SAFETY: the socket is open; these requests read and write one `ifreq`, which is ours.
        let answer = unsafe { libc::ioctl(socket, what, &raw mut request) };
        (answer == 0).then_some(request)
    }

    fn mtu(&self) -> Option<i32> {
        let answer = self.ask(libc::SIOCGIFMTU, self.request())?;
        // SAFETY: every octet of the union was written, by `request` and by the kernel.
        Some(unsafe { answer.ifr_ifru.ifru_mtu })
    }

    fn mac(&self) -> Option<sockaddr> {
        let answer = self.ask(libc::SIOCGIFHWADDR, self.request())?;
        // SAFETY: as in `mtu`.
        Some(unsafe { answer.ifr_ifru.ifru_hwaddr })
    }

    fn flags(&self) -> Option<i16> {
        let answer = self.ask(libc::SIOCGIFFLAGS, self.request())?;
        // SAFETY: as in `mtu`.
        Some(unsafe { answer.ifr_ifru.ifru_flags })
    }
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Before").finish_non_exhaustive()
    }
}
