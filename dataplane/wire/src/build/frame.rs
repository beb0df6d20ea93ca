//! Ethernet frames.

use std::borrow::Borrow;

use super::Packet;
use crate::arp::{self, Arp};
use crate::ethernet::{EtherType, Mac};

/// An Ethernet frame to be.
#[derive(Clone, Debug)]
pub struct Frame {
    src: Mac,
    dst: Mac,
    tags: Vec<(EtherType, u16)>,
    ethertype: EtherType,
    payload: Vec<u8>,
    padded: bool,
}

/// An empty frame.
pub fn ether(src: Mac, dst: Mac) -> Frame {
    Frame {
        src,
        dst,
        tags: Vec::new(),
        ethertype: EtherType(0),
        payload: Vec::new(),
        padded: false,
    }
}

impl Frame {
    /// Carrying this IP packet.
    pub fn with(self, packet: impl Borrow<Packet>) -> Self {
        let packet = packet.borrow();
        let ethertype = if packet.is_v6() {
            EtherType::IPV6
        } else {
            EtherType::IPV4
        };
        self.raw(ethertype, packet.bytes())
    }

    /// Carrying this ARP packet.
    pub fn arp(self, arp: &Arp) -> Self {
        let mut bytes = [0; arp::LEN];
        arp.emit(&mut bytes);
        self.raw(EtherType::ARP, bytes)
    }

    /// Carrying anything.
    pub fn raw(mut self, ethertype: EtherType, payload: impl Into<Vec<u8>>) -> Self {
        self.ethertype = ethertype;
        self.payload = payload.into();
        self
    }

    /// With an 802.1Q tag inside those already there. `tci` is the VLAN and, above it, the priority.
    pub fn vlan(self, tci: u16) -> Self {
        self.tag(EtherType::VLAN, tci)
    }

    /// With a tag of any kind inside those already there.
    pub fn tag(mut self, ethertype: EtherType, tci: u16) -> Self {
        self.tags.push((ethertype, tci));
        self
    }

    /// Padded with zeros to Ethernet's least length, 60 octets without the check sequence.
    pub fn padded(mut self) -> Self {
        self.padded = true;
        self
    }

    /// The frame, without its check sequence.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = [self.dst.0, self.src.0].concat();
        for (ethertype, tci) in &self.tags {
            out.extend(ethertype.0.to_be_bytes());
            out.extend(tci.to_be_bytes());
        }
        out.extend(self.ethertype.0.to_be_bytes());
        out.extend(&self.payload);
        if self.padded && out.len() < 60 {
            out.resize(60, 0);
        }
        out
    }
}
