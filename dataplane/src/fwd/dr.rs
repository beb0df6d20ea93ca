//! Direct routing: a new envelope, one hop older. The real server answers the client itself.
//!
//! in   [ client MAC > ours      | client > VIP:vport  ttl n   ]
//! out  [ ours > the real's MAC  | client > VIP:vport  ttl n-1 ]   IPv4 header checksum patched

use wire::ethernet::{self, Mac};
use wire::ipv4;

use crate::port::Frame;
use crate::verdict::Reason;

/// Sends an IPv4 packet on to a neighbour. The worker has checked TTL and MTU; a packet that
/// fails here all the same is left as it was.
#[inline]
pub(super) fn forward<F: Frame>(frame: &mut F, ours: Mac, next: Mac) -> Result<(), Reason> {
    let mut ethernet = ethernet::Frame::parse(frame.bytes_mut()).map_err(|_| Reason::ShortFrame)?;
    let mut ip = ipv4::Packet::parse(ethernet.payload_mut()).map_err(|_| Reason::ShortHeader)?;
    ip.decrement_ttl().map_err(|_| Reason::TtlExceeded)?;
    let end = ethernet::LEN + ip.total_len();
    ethernet.set_macs(ours, next);
    // What Ethernet padded is not the packet's.
    frame.truncate(end);
    Ok(())
}
