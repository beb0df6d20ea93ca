//! Frames that are too large for where control sends them: workers cut their own, and leave those
//! that wait for a neighbour whole.

use std::net::IpAddr;

use wire::cut::Cut;
use wire::ethernet::{self, EtherType};
use wire::{ipv4, ipv6};

/// The frame in pieces for a link of `mtu` octets, each with its envelope; as it is where it fits
/// or can't be cut.
pub fn pieces(frame: &[u8], mtu: u16, id: u32) -> Vec<Vec<u8>> {
    let Some((envelope, packet)) = frame.split_at_checked(ethernet::LEN) else {
        return vec![frame.to_vec()];
    };
    let Some(plan) = Cut::of(packet, usize::from(mtu), id) else {
        return vec![frame.to_vec()];
    };
    let data = packet.get(plan.data_at()..).unwrap_or_default();
    let piece = |n| {
        let header = plan.header(n);
        let data = data.get(plan.range(n)).unwrap_or_default();
        [envelope, &header[..plan.header_len()], data].concat()
    };
    (0..plan.pieces()).map(piece).collect()
}

/// Whom an IP packet is for.
pub fn destination(frame: &[u8]) -> Option<IpAddr> {
    let ethernet = ethernet::Frame::parse(frame).ok()?;
    match ethernet.ethertype() {
        EtherType::IPV4 => Some(ipv4::Packet::parse(ethernet.payload()).ok()?.dst().into()),
        EtherType::IPV6 => Some(ipv6::Packet::parse(ethernet.payload()).ok()?.dst().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Mac;
    use wire::build::{ip, udp};

    const FROM: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const TO: Mac = Mac([0; 6]);

    #[test]
    fn pieces_have_the_frames_envelope() {
        let whole = ip([192, 0, 2, 7], [10, 0, 0, 1]).with(udp(1, 2).payload(vec![3; 3000]));
        let framed = |packet: &wire::build::Packet| packet.ether(FROM, TO).bytes();
        let want: Vec<_> = whole.fragments(1500).iter().map(framed).collect();
        assert_eq!(pieces(&framed(&whole), 1500, 1), want);
        assert_eq!(pieces(&framed(&whole), 4000, 1), [framed(&whole)]);
        assert_eq!(pieces(&[1, 2], 4000, 1), [[1, 2]]);
        assert_eq!(destination(&framed(&whole)), Some([10, 0, 0, 1].into()));
        assert_eq!(destination(&[1, 2]), None);
    }
}
