//! The MSS that a SYN offers, lowered to what fits a tunnel.
//!
//! in   [ client > VIP:vport  SYN mss 1460 ]
//! out  [ client > VIP:vport  SYN mss 1440 ]   TCP checksum patched
//!
//! Only the client's SYN passes us in TUN, so only what the real server sends becomes smaller;
//! a real server that must receive less has to offer less itself.

use wire::ethernet;
use wire::segment::Segment;

use super::family::{Family, IpMut};
use crate::port::Frame;

/// Lowers the MSS option of the SYN in `frame` to `mss`; anything else stays as it is.
pub(super) fn clamp<A: Family, F: Frame>(frame: &mut F, mss: u16) {
    let Ok(mut ethernet) = ethernet::Frame::parse(frame.bytes_mut()) else {
        return;
    };
    let Ok(mut ip) = A::open(ethernet.payload_mut(), false) else {
        return;
    };
    if let Ok(Some(Segment::Tcp(mut tcp))) = ip.segment()
        && tcp.flags().syn()
    {
        let owed = tcp.clamp_mss(mss);
        tcp.settle(owed);
    }
}
