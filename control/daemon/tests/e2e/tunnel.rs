//! The far end of every kind of tunnel, for which the kernel may have no device: unwraps what
//! the director sends and gives it to a TUN device. It reads the bytes itself, so that nothing
//! here can be wrong in the way that the director is.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tun_rs::{DeviceBuilder, SyncDevice};

/// Where GUE is listened for.
pub(crate) const GUE_PORT: u16 = 6080;

const IPV4: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;

/// What is done with a packet that a tunnel carried.
type Unwrap = fn(&mut [u8]) -> Option<&[u8]>;

/// Unwraps IPIP, GRE and GUE from `from` until killed.
///
/// # Errors
///
/// The sockets or the device can't be made.
pub(crate) fn decapsulate(
    from: &str,
    device: &str,
    ready: fn() -> io::Result<()>,
) -> io::Result<()> {
    let from: IpAddr = from.parse().map_err(io::Error::other)?;
    let tun = Arc::new(DeviceBuilder::new().name(device).build_sync()?);
    let kinds: [(u8, Unwrap); 3] = [
        (IPV4, |packet| Some(packet)),
        (IPV6, |packet| Some(packet)),
        (GRE, out_of_gre),
    ];
    for (protocol, unwrap) in kinds {
        let socket = raw(from, protocol)?;
        let tun = tun.clone();
        std::thread::spawn(move || raw_packets(socket, from.is_ipv4(), unwrap, &tun));
    }
    let socket = gue(from)?;
    std::thread::spawn(move || gue_packets(&socket, &tun));
    ready()?;
    loop {
        std::thread::park();
    }
}

fn raw(from: IpAddr, protocol: u8) -> io::Result<Socket> {
    let domain = Domain::for_address(SocketAddr::new(from, 0));
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    socket.connect(&SocketAddr::new(from, 0).into())?;
    Ok(socket)
}

/// Over IPv6 this socket refuses datagrams without a checksum: tests there ask for one.
fn gue(from: IpAddr) -> io::Result<UdpSocket> {
    match from {
        IpAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, GUE_PORT)),
        IpAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, GUE_PORT)),
    }
}

/// `header`: whether the outer header comes with each packet, as it does in IPv4 only.
fn raw_packets(
    mut socket: Socket,
    header: bool,
    unwrap: Unwrap,
    tun: &SyncDevice,
) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = socket.read(&mut buffer)?;
        let skip = if header {
            usize::from(buffer[0] & 15) * 4
        } else {
            0
        };
        deliver(unwrap(&mut buffer[skip..length]), tun);
    }
}

fn gue_packets(socket: &UdpSocket, tun: &SyncDevice) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut buffer)?;
        deliver(out_of_gue(&mut buffer[..length]), tun);
    }
}

fn deliver(packet: Option<&[u8]>, tun: &SyncDevice) {
    if let Some(packet) = packet {
        // The device is up or not; what it doesn't take is lost, as on any cable.
        let _ = tun.send(packet);
    }
}

/// The packet in GRE (RFC 2784); `None` if its checksum is wrong or the protocol another.
fn out_of_gre(packet: &mut [u8]) -> Option<&[u8]> {
    let summed = *packet.first()? & 0x80 != 0;
    if summed && ones_sum(packet) != 0xffff {
        return None;
    }
    let inner = packet.get(if summed { 8 } else { 4 }..)?;
    let version = inner.first()? >> 4;
    match (packet.get(2..4)?, version) {
        ([0x08, 0x00], 4) | ([0x86, 0xdd], 6) => Some(inner),
        _ => None,
    }
}

/// The packet in GUE; its checksum is finished if that was left to us.
fn out_of_gue(packet: &mut [u8]) -> Option<&[u8]> {
    let (head, rest) = packet.split_first_chunk_mut::<4>()?;
    let [words, protocol, _, flags] = *head;
    let private = flags & 1 != 0;
    if private != (words == 2) {
        return None;
    }
    let inner = if private {
        let ([_, _, _, _, a, b, c, d], inner) = rest.split_first_chunk_mut::<8>()?;
        let start = usize::from(u16::from_be_bytes([*a, *b]));
        let field = usize::from(u16::from_be_bytes([*c, *d]));
        let sum = !ones_sum(inner.get(start..)?);
        inner
            .get_mut(field..field + 2)?
            .copy_from_slice(&sum.to_be_bytes());
        inner
    } else {
        rest
    };
    let version = inner.first()? >> 4;
    matches!((protocol, version), (IPV4, 4) | (IPV6, 6)).then_some(&*inner)
}

/// The one's complement sum of 16-bit words (RFC 1071).
fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded above")
}
