//! FULLNAT: the real server sees an address of ours, so its reply finds us on any network.
//!
//! to the real
//! in   [ client:cport > VIP:vport  ttl n   ]
//! out  [ local:lport  > real:rport ttl n-1 ]   IPv4 and TCP/UDP/SCTP checksums patched
//!
//! back
//! in   [ real:rport > local:lport  ttl n   ]
//! out  [ VIP:vport  > client:cport ttl n-1 ]   the same
//!
//! Absent UDP checksums, fragments: as in NAT.

use super::Link;
use super::family::{Family, Ip, IpMut};
use super::pass::pass;
use super::ports::set_both;
use crate::port::Frame;
use crate::verdict::Reason;

/// To the real server, from a local address.
#[inline]
pub(super) fn to_real<A: Family, F: Frame>(
    frame: &mut F,
    local: (A, u16),
    real: (A, u16),
    link: Link,
) -> Result<(), Reason> {
    readdress::<A, F>(frame, local, real, link)
}

/// To the client, as if the VIP had answered.
#[inline]
pub(super) fn to_client<A: Family, F: Frame>(
    frame: &mut F,
    vip: (A, u16),
    client: (A, u16),
    link: Link,
) -> Result<(), Reason> {
    readdress::<A, F>(frame, vip, client, link)
}

/// New ends, both at once: one patch of the transport's checksum.
#[inline]
fn readdress<A: Family, F: Frame>(
    frame: &mut F,
    source: (A, u16),
    destination: (A, u16),
    link: Link,
) -> Result<(), Reason> {
    pass::<A, F>(frame, link, |ip| {
        let addresses = A::owed(ip.src(), source.0).and(A::owed(ip.dst(), destination.0));
        if let Some(mut segment) = ip.segment()? {
            let ports = set_both(&mut segment, source.1, destination.1);
            segment.settle(addresses.and(ports));
        }
        ip.set_src(source.0);
        ip.set_dst(destination.0);
        Ok(())
    })
}
