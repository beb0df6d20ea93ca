//! Destination NAT: the real server sees the client; its reply must pass us again.
//!
//! to the real
//! in   [ client > VIP:vport  ttl n   ]
//! out  [ client > real:rport ttl n-1 ]   IPv4 and TCP/UDP/SCTP checksums patched
//!
//! back
//! in   [ real:rport > client ttl n   ]
//! out  [ VIP:vport > client  ttl n-1 ]   the same
//!
//! A UDP checksum that was absent stays absent (RFC 768 allows it; IPVS computes one). In a
//! fragment that is not the first only the address changes: the ports, and the checksum that
//! covers all fragments, are in the first. No fragment of SCTP passes: a CRC can't be patched
//! without the length of the whole packet.

use super::Link;
use super::family::{Family, Ip, IpMut};
use super::pass::pass;
use super::ports::{set_dst, set_src};
use crate::port::Frame;
use crate::verdict::Reason;

/// To the real server.
#[inline]
pub(super) fn to_real<A: Family, F: Frame>(
    frame: &mut F,
    real: (A, u16),
    link: Link,
) -> Result<(), Reason> {
    pass::<A, F>(frame, link, |ip| {
        let address = A::owed(ip.dst(), real.0);
        if let Some(mut segment) = ip.segment()? {
            let port = set_dst(&mut segment, real.1);
            segment.settle(address.and(port));
        }
        ip.set_dst(real.0);
        Ok(())
    })
}

/// To the client, as if the VIP had answered.
#[inline]
pub(super) fn to_client<A: Family, F: Frame>(
    frame: &mut F,
    vip: (A, u16),
    link: Link,
) -> Result<(), Reason> {
    pass::<A, F>(frame, link, |ip| {
        let address = A::owed(ip.src(), vip.0);
        if let Some(mut segment) = ip.segment()? {
            let port = set_src(&mut segment, vip.1);
            segment.settle(address.and(port));
        }
        ip.set_src(vip.0);
        Ok(())
    })
}
