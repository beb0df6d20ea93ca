//! Addresses of kernel interfaces, by rtnetlink(7).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// A socket to the kernel's routing part.
pub(crate) struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Opens one for the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Gives an interface an address; one that it has already is no error.
    pub(crate) fn add(&mut self, interface: u32, address: IpAddr, length: u8) -> io::Result<()> {
        let message = message(interface, address, length);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let answer = self.ask(RouteNetlinkMessage::NewAddress(message), flags);
        without(answer, nix::errno::Errno::EEXIST)
    }

    /// Takes an address from an interface; one that it doesn't have is no error.
    pub(crate) fn remove(&mut self, interface: u32, address: IpAddr, length: u8) -> io::Result<()> {
        let message = message(interface, address, length);
        let answer = self.ask(RouteNetlinkMessage::DelAddress(message), 0);
        without(answer, nix::errno::Errno::EADDRNOTAVAIL)
    }

    /// Sends one request and waits for the kernel's word on it, which comes at once.
    fn ask(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer);
        match answer.map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            _ => Ok(()),
        }
    }
}

fn without(answer: io::Result<()>, harmless: nix::errno::Errno) -> io::Result<()> {
    match answer {
        Err(error) if error.raw_os_error() == Some(harmless as i32) => Ok(()),
        answer => answer,
    }
}

fn message(interface: u32, address: IpAddr, length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = length;
    message.header.index = interface;
    // The director answers for it already: nobody need be asked first.
    message.header.flags = AddressHeaderFlags::Nodad;
    let address = [
        AddressAttribute::Address(address),
        AddressAttribute::Local(address),
    ];
    message.attributes.extend(address);
    message
}
