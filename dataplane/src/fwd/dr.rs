//! Direct routing: a new envelope, one hop older. The real server answers the client itself.
//!
//! in   [ client MAC > ours      | client > VIP:vport  ttl n   ]
//! out  [ ours > the real's MAC  | client > VIP:vport  ttl n-1 ]   IPv4 header checksum patched

use wire::plain;

use super::Link;
use super::family::Family;
use super::pass::pass;
use crate::port::Frame;
use crate::verdict::Reason;

/// To the real server, which holds the VIP too.
#[inline]
pub(super) fn to_real<A: Family, F: Frame>(frame: &mut F, link: Link) -> Result<(), Reason> {
    if size_of::<A>() == size_of::<u32>()
        && let Some(end) = plain::pass(frame.bytes_mut(), &link.macs())
    {
        frame.truncate(end);
        return Ok(());
    }
    pass::<A, F>(frame, link, |_| Ok(()))
}
