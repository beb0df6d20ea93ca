//! The classic format (draft-ietf-opsawg-pcap): a header, then packets.

use std::io::Read;

use super::stream::{Order, Stream};
use super::{CaptureError, ETHERNET, Head, LONGEST};
use crate::time::Nanos;

const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// Alexey Kuznetsov's variant has 8 octets more in front of each packet.
const KUZNETSOV: u32 = 0xa1b2_cd34;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

pub(super) struct Header {
    order: Order,
    packet_header: usize,
    /// Nanoseconds in the unit of the fractions of seconds.
    unit: u64,
}

impl Header {
    pub(super) fn read<R: Read>(stream: &mut Stream<R>) -> Result<Self, CaptureError> {
        let bytes = stream.want(FILE_HEADER)?;
        if bytes.len() < 4 {
            return Err(CaptureError::Unknown);
        }
        let order = match [Order::Little, Order::Big].map(|order| order.u32(bytes, 0)) {
            [MICROSECONDS | NANOSECONDS | KUZNETSOV, _] => Order::Little,
            [_, MICROSECONDS | NANOSECONDS | KUZNETSOV] => Order::Big,
            _ => return Err(CaptureError::Unknown),
        };
        if bytes.len() < FILE_HEADER {
            return Err(CaptureError::Truncated { packet: 0, at: 0 });
        }
        // The upper bits say whether, and how long, a checksum ends each frame.
        let link = order.u32(bytes, 20) & 0xffff;
        if link != ETHERNET {
            return Err(CaptureError::NotEthernet { packet: 0, link });
        }
        let magic = order.u32(bytes, 0);
        stream.skip(FILE_HEADER as u64)?;
        Ok(Self {
            order,
            packet_header: PACKET_HEADER + if magic == KUZNETSOV { 8 } else { 0 },
            unit: if magic == NANOSECONDS { 1 } else { 1000 },
        })
    }

    #[inline]
    pub(super) fn packet<R: Read>(
        &self,
        stream: &mut Stream<R>,
        packet: u64,
    ) -> Result<Option<Head>, CaptureError> {
        let at = stream.position();
        let bytes = stream.want(self.packet_header)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() < self.packet_header {
            return Err(CaptureError::Truncated { packet, at });
        }
        let field = |place| u64::from(self.order.u32(bytes, place));
        let (seconds, part, captured) = (field(0), field(4), field(8));
        let Some(len) = usize::try_from(captured).ok().filter(|&len| len <= LONGEST) else {
            let what = format!("a frame of {captured} octets");
            return Err(CaptureError::Damaged { packet, at, what });
        };
        let record = self.packet_header + len;
        if stream.want(record)?.len() < record {
            return Err(CaptureError::Truncated { packet, at });
        }
        Ok(Some(Head {
            at: Nanos(seconds * 1_000_000_000 + part * self.unit),
            from: self.packet_header,
            len,
            record,
        }))
    }
}
