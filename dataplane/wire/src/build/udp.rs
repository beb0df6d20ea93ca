//! UDP datagrams.

use std::net::IpAddr;

use super::body::transport_checksum;
use super::len16;
use crate::ip::Protocol;

/// A UDP datagram to be.
#[derive(Clone, Debug)]
pub struct Udp {
    ports: (u16, u16),
    payload: Vec<u8>,
    summed: bool,
    spoil: u16,
}

/// An empty datagram.
pub fn udp(src_port: u16, dst_port: u16) -> Udp {
    Udp {
        ports: (src_port, dst_port),
        payload: Vec::new(),
        summed: true,
        spoil: 0,
    }
}

impl Udp {
    /// Without a checksum.
    pub fn unsummed(mut self) -> Self {
        self.summed = false;
        self
    }

    /// With a checksum that is wrong.
    pub fn bad_checksum(mut self) -> Self {
        self.spoil = 0x0101;
        self
    }

    /// With data.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// The datagram, for a packet from `src` to `dst`.
    pub fn bytes(&self, src: IpAddr, dst: IpAddr) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.payload.len());
        out.extend(self.ports.0.to_be_bytes());
        out.extend(self.ports.1.to_be_bytes());
        out.extend(len16(8 + self.payload.len()).to_be_bytes());
        out.extend([0, 0]);
        out.extend(&self.payload);
        if self.summed {
            let checksum = match transport_checksum(src, dst, Protocol::UDP, &out) ^ self.spoil {
                0 => 0xffff,
                checksum => checksum,
            };
            out[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        out
    }
}
