//! What every mode does to a packet that passes: one hop older, in a new envelope, without
//! what Ethernet padded.

use wire::ethernet;

use super::Link;
use super::family::{Family, Ip, IpMut};
use crate::port::Frame;
use crate::verdict::Reason;

/// Lets `change` rewrite the packet of family `A` in `frame`, and sends it on over `link`.
///
/// The worker has checked the hops. A packet that fails here all the same is left as it was,
/// as long as `change` does that too.
#[inline]
pub(super) fn pass<A: Family, F: Frame>(
    frame: &mut F,
    link: Link,
    change: impl FnOnce(&mut A::Open<'_>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut ethernet = ethernet::Frame::parse(frame.bytes_mut()).map_err(|_| Reason::ShortFrame)?;
    let length = {
        let mut ip = A::open(ethernet.payload_mut(), false)?;
        if ip.hops() <= 1 {
            return Err(Reason::TtlExceeded);
        }
        change(&mut ip)?;
        ip.age();
        ip.total_len()
    };
    ethernet.set_macs(link.ours, link.next);
    frame.truncate(ethernet::LEN + length);
    Ok(())
}
