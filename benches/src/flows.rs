//! The packets of a flow, before and after.
//!
//! ```text
//!   forward   client n > VIP:80      becomes  [local:port | client n] > [real:80 | VIP:80]
//!   reverse   real:80 > [local:port | client n]  becomes  VIP:80 > client n
//! ```
//!
//! Addresses differ in their last 32 bits, so that one writer serves both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::port::Frame;
use wire::build::{Packet, ip, tcp};
use wire::tcp::Flags;
use wire::{Mac, Protocol};

use crate::case::{Case, Family, Mode};
use crate::frame::{BenchFrame, LONGEST};

/// The worker's port.
pub const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Where the clients are.
pub const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The virtual port, and the real servers'.
pub const PORT: u16 = 80;
/// Real servers.
pub const REALS: u8 = 16;
/// FULLNAT's local addresses.
pub const LOCALS: u8 = 32;

const ETHERNET: usize = 14;
const TTL: u8 = 64;

/// The last 32 bits of an address; the rest goes by whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The director itself.
    Director,
    /// The virtual address.
    Vip,
    /// A real server.
    Real(u8),
    /// A local address of FULLNAT.
    Local(u8),
    /// The client of a flow.
    Client(u32),
}

impl Host {
    /// The last 32 bits.
    #[inline]
    pub fn low(self) -> u32 {
        match self {
            Self::Director => 0x0a00_0002,
            Self::Vip => 0x0a00_0001,
            Self::Real(n) => 0x0a01_0000 | u32::from(n),
            Self::Local(n) => 0x0a02_0000 | u32::from(n),
            Self::Client(flow) => 0x0b00_0000 + (flow >> 12),
        }
    }

    /// The address.
    pub fn address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::from_bits(self.low()).into(),
            Family::V6 => {
                let client = matches!(self, Self::Client(_));
                let net: u128 = if client { 0x2001_0db8 } else { 0xfd00_0000 };
                Ipv6Addr::from_bits(net << 96 | u128::from(self.low())).into()
            }
        }
    }
}

/// A real server's MAC.
pub fn real_mac(real: u8) -> Mac {
    Mac([2, 0, 0, 1, 0, real])
}

/// The client's port of a flow.
#[inline]
pub fn client_port(flow: u32) -> u16 {
    u16::try_from(flow & 0xfff).expect("12 bits") + 1024
}

/// What becomes known of a flow when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Its real server.
    pub real: u8,
    /// Its local address.
    pub local: u8,
    /// Its local port.
    pub port: u16,
}

/// Both ends of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    from: (Host, u16),
    to: (Host, u16),
}

impl Ends {
    /// What the client sends.
    #[inline]
    pub fn of_client(flow: u32) -> Self {
        Self {
            from: (Host::Client(flow), client_port(flow)),
            to: (Host::Vip, PORT),
        }
    }

    /// What the real server sends.
    #[inline]
    pub fn of_real(mode: Mode, flow: u32, learned: Learned) -> Self {
        let Ends { from: client, .. } = Self::of_client(flow);
        Self {
            from: (Host::Real(learned.real), PORT),
            to: match mode {
                Mode::FullNat => (Host::Local(learned.local), learned.port),
                _ => client,
            },
        }
    }

    /// Them without what is the same of all addresses of a kind: whole in IPv4.
    pub fn low(self) -> wire::plain::Ends<u32> {
        wire::plain::Ends {
            src: self.from.0.low(),
            dst: self.to.0.low(),
            src_port: self.from.1,
            dst_port: self.to.1,
        }
    }

    /// What goes the other way.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }

    fn packet(self, family: Family, ttl: u8, flags: Flags) -> Packet {
        let ((from, from_port), (to, to_port)) = (self.from, self.to);
        let data: &[u8] = match family {
            Family::V4 => &[0; 6],
            Family::V6 => &[],
        };
        let segment = tcp(from_port, to_port).flags(flags).payload(data);
        let packet = ip(from.address(family), to.address(family)).ttl(ttl);
        let packet = if family == Family::V4 {
            packet.df()
        } else {
            packet
        };
        packet.with(segment)
    }
}

/// A frame whose ends are still to be written.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: [u8; LONGEST],
    len: u16,
    family: Family,
    /// What the checksums of IPv4 and TCP are of, without the ends.
    sums: [u16; 2],
}

impl Template {
    /// A frame like those between these `ends`, with these flags.
    pub fn new(family: Family, ends: Ends, flags: Flags) -> Self {
        let packet = ends.packet(family, TTL, flags);
        let frame = packet.ether(GATEWAY, OUR_MAC).bytes();
        let mut bytes = [0; LONGEST];
        bytes[..frame.len()].copy_from_slice(&frame);
        let at = At::of(family);
        let read = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let addresses = sum(ends);
        let ports = u64::from(ends.from.1) + u64::from(ends.to.1);
        let without = |at: usize, ends: u64| less(!read(at), ends);
        Self {
            bytes,
            len: u16::try_from(frame.len()).expect("short"),
            family,
            sums: [
                without(ETHERNET + 10, addresses),
                without(at.ports + 16, addresses + ports),
            ],
        }
    }

    /// Writes the frame between these ends.
    #[inline]
    pub fn write(&self, frame: &mut BenchFrame, ends: Ends) {
        let bytes = frame.write(&self.bytes, self.len);
        self.fill(bytes, ends);
    }

    /// Writes the ends over the template's.
    #[inline]
    fn fill<const N: usize>(&self, bytes: &mut [u8; N], ends: Ends) {
        let at = At::of(self.family);
        let ((from, from_port), (to, to_port)) = (ends.from, ends.to);
        put(bytes, at.from, from.low().to_be_bytes());
        put(bytes, at.to, to.low().to_be_bytes());
        put(bytes, at.ports, from_port.to_be_bytes());
        put(bytes, at.ports + 2, to_port.to_be_bytes());
        let addresses = sum(ends);
        let ports = u64::from(from_port) + u64::from(to_port);
        if self.family == Family::V4 {
            let checksum = !fold(addresses + u64::from(self.sums[0]));
            put(bytes, ETHERNET + 10, checksum.to_be_bytes());
        }
        let checksum = !fold(addresses + ports + u64::from(self.sums[1]));
        put(bytes, at.ports + 16, checksum.to_be_bytes());
    }
}

impl Template {
    /// The same in any frame, whatever it was before: it begins behind `headroom` octets again.
    ///
    /// # Panics
    /// If its buffer has no room.
    #[inline]
    pub fn write_any(&self, frame: &mut impl Frame, headroom: usize, ends: Ends) {
        let (len, before) = (usize::from(self.len), frame.headroom());
        if before < headroom {
            frame.trim_front(headroom - before);
        }
        let is = frame.bytes().len();
        let fits = is >= len || frame.append(len - is);
        assert!(fits && before <= headroom, "a buffer that was ours");
        frame.truncate(len);
        // Lengths that the compiler knows.
        match self.family {
            Family::V4 => self.copy::<60>(frame, ends),
            Family::V6 => self.copy::<74>(frame, ends),
        }
    }

    #[inline]
    fn copy<const N: usize>(&self, frame: &mut impl Frame, ends: Ends) {
        let template = self
            .bytes
            .first_chunk::<N>()
            .expect("the longest is longer");
        let bytes = frame
            .bytes_mut()
            .first_chunk_mut::<N>()
            .expect("just made so long");
        *bytes = *template;
        self.fill(bytes, ends);
    }
}

/// Where the fields are.
struct At {
    from: usize,
    to: usize,
    ports: usize,
}

impl At {
    #[inline]
    fn of(family: Family) -> Self {
        let (from, to, ports) = match family {
            Family::V4 => (12, 16, 20),
            Family::V6 => (20, 36, 40),
        };
        Self {
            from: ETHERNET + from,
            to: ETHERNET + to,
            ports: ETHERNET + ports,
        }
    }
}

#[inline]
fn put<const M: usize, const N: usize>(bytes: &mut [u8; M], at: usize, value: [u8; N]) {
    *bytes[at..].first_chunk_mut().expect("short") = value;
}

/// The sum of the addresses' last 32 bits.
#[inline]
fn sum(ends: Ends) -> u64 {
    u64::from(ends.from.0.low()) + u64::from(ends.to.0.low())
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "folded")]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A sum without one of its parts, modulo 65535.
fn less(sum: u16, part: u64) -> u16 {
    ((u64::from(sum) + 65_535 - part % 65_535) % 65_535) as u16
}

/// What a flow's packet from the client should look like at the real server.
pub fn expected_forward(case: Case, flow: u32, learned: Learned) -> Vec<u8> {
    let flags = Flags::ACK;
    let (family, ends) = (case.family, Ends::of_client(flow));
    let envelope = |packet: Packet| packet.ether(OUR_MAC, real_mac(learned.real)).bytes();
    match case.mode {
        Mode::Dr => envelope(ends.packet(family, TTL - 1, flags)),
        Mode::Tun => {
            let inner = ends.packet(family, TTL - 1, flags).bytes();
            let (director, real) = (Host::Director, Host::Real(learned.real));
            let outer = ip(director.address(family), real.address(family)).ttl(TTL - 1);
            envelope(match family {
                Family::V4 => outer.df().raw(Protocol::IPIP, inner),
                Family::V6 => outer.raw(Protocol::IPV6, inner),
            })
        }
        Mode::Nat | Mode::FullNat => {
            let back = Ends::of_real(case.mode, flow, learned);
            envelope(back.reversed().packet(family, TTL - 1, flags))
        }
    }
}

/// What a flow's packet from the real server should look like on its way to the client.
pub fn expected_reverse(case: Case, flow: u32) -> Vec<u8> {
    let flags = Flags::ACK;
    let back = Ends::of_client(flow).reversed();
    let packet = back.packet(case.family, TTL - 1, flags);
    packet.ether(OUR_MAC, GATEWAY).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_frame_is_one_that_was_built() {
        for family in Family::ALL {
            let flags = Flags::ACK;
            let template = Template::new(family, Ends::of_client(7), flags);
            for flow in (0..3_000_000).step_by(9_999) {
                let ends = Ends::of_client(flow);
                let mut frame = BenchFrame::empty();
                template.write(&mut frame, ends);
                let built = ends.packet(family, TTL, flags).ether(GATEWAY, OUR_MAC);
                assert_eq!(frame.bytes(), built.bytes(), "{family:?} {flow}");
                let headroom = frame.headroom();
                assert!(frame.prepend(20) && frame.append(1));
                frame.bytes_mut().fill(0xff);
                template.write_any(&mut frame, headroom, ends);
                assert_eq!(frame.bytes(), built.bytes(), "any {family:?} {flow}");
            }
        }
    }
}
