//! TCP segments.

use std::net::IpAddr;

use super::body::transport_checksum;
use crate::ip::Protocol;
use crate::tcp::{Flags, OptionKind};

/// A TCP segment to be.
#[derive(Clone, Debug)]
pub struct Tcp {
    ports: (u16, u16),
    seq: u32,
    ack: u32,
    flags: Flags,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
    spoil: u16,
}

/// A segment without flags, sequence 0, window 65535.
pub fn tcp(src_port: u16, dst_port: u16) -> Tcp {
    Tcp {
        ports: (src_port, dst_port),
        seq: 0,
        ack: 0,
        flags: Flags(0),
        window: 65535,
        options: Vec::new(),
        payload: Vec::new(),
        spoil: 0,
    }
}

impl Tcp {
    /// With SYN.
    pub fn syn(self) -> Self {
        self.flags(Flags::SYN)
    }

    /// With ACK.
    pub fn ack(self) -> Self {
        self.flags(Flags::ACK)
    }

    /// With FIN.
    pub fn fin(self) -> Self {
        self.flags(Flags::FIN)
    }

    /// With RST.
    pub fn rst(self) -> Self {
        self.flags(Flags::RST)
    }

    /// With PSH.
    pub fn psh(self) -> Self {
        self.flags(Flags::PSH)
    }

    /// With URG.
    pub fn urg(self) -> Self {
        self.flags(Flags::URG)
    }

    /// Between these ports.
    pub fn ports(mut self, src_port: u16, dst_port: u16) -> Self {
        self.ports = (src_port, dst_port);
        self
    }

    /// With these flags added.
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.and(flags);
        self
    }

    /// With this sequence number.
    pub fn seq(mut self, seq: u32) -> Self {
        self.seq = seq;
        self
    }

    /// With ACK and this acknowledgement number.
    pub fn acks(mut self, ack: u32) -> Self {
        self.ack = ack;
        self.ack()
    }

    /// With this window.
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// With an MSS option.
    pub fn mss(self, mss: u16) -> Self {
        self.option(OptionKind::MSS, &mss.to_be_bytes())
    }

    /// With one more option. Padding to four octets is added at the end of the list.
    pub fn option(mut self, kind: OptionKind, data: &[u8]) -> Self {
        let len = u8::try_from(data.len() + 2).unwrap_or(u8::MAX);
        self.options.extend([kind.0, len]);
        self.options.extend(data);
        self
    }

    /// With a NOP: moves the option after it by one octet.
    pub fn nop(mut self) -> Self {
        self.options.push(OptionKind::NOP.0);
        self
    }

    /// With data.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// With a checksum that is wrong.
    pub fn bad_checksum(mut self) -> Self {
        self.spoil = 0x0101;
        self
    }

    /// The segment, for a packet from `src` to `dst`. Options past 40 octets do not fit a header
    /// and are cut.
    pub fn bytes(&self, src: IpAddr, dst: IpAddr) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), OptionKind::END.0);
        let words = u8::try_from(5 + options.len() / 4).expect("at most 40 octets of options");
        let mut out = Vec::with_capacity(20 + options.len() + self.payload.len());
        out.extend(self.ports.0.to_be_bytes());
        out.extend(self.ports.1.to_be_bytes());
        out.extend(self.seq.to_be_bytes());
        out.extend(self.ack.to_be_bytes());
        out.extend([words << 4, self.flags.0]);
        out.extend(self.window.to_be_bytes());
        out.extend([0, 0, 0, 0]);
        out.extend(options);
        out.extend(&self.payload);
        let checksum = transport_checksum(src, dst, Protocol::TCP, &out) ^ self.spoil;
        out[16..18].copy_from_slice(&checksum.to_be_bytes());
        out
    }
}
