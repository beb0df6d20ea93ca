//! The newer format (draft-ietf-opsawg-pcapng): sections of blocks, among them packets.

use std::io::Read;

use super::stream::{Order, Stream};
use super::{CaptureError, ETHERNET, Head, LONGEST};
use crate::time::Nanos;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 6;

const ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type and length in front, length behind.
const AROUND: usize = 12;
/// The options of an interface that matter.
const RESOLUTION: u16 = 9;
const OFFSET: u16 = 14;
/// Octets of a block at most that has to be in memory at once: a packet with its options.
const LONGEST_BLOCK: usize = 2 * LONGEST;

const LENGTHS_DIFFER: &str = "a block whose two lengths differ";

/// The section that is being read.
#[derive(Default)]
pub(super) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
    /// When the last packet came: a simple packet has no time of its own.
    last: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    link: u32,
    snap_len: usize,
    /// Units of time in a second.
    per_second: u128,
    /// Seconds to add.
    offset: i64,
}

/// A block that is in memory.
struct Block<'a> {
    kind: u32,
    body: &'a [u8],
    /// Which packet it is or follows, and where it begins: for complaints.
    place: (u64, u64),
}

impl Block<'_> {
    fn damaged(&self, what: impl Into<String>) -> CaptureError {
        let ((packet, at), what) = (self.place, what.into());
        CaptureError::Damaged { packet, at, what }
    }
}

impl Section {
    pub(super) fn packet<R: Read>(
        &mut self,
        stream: &mut Stream<R>,
        packet: u64,
    ) -> Result<Option<Head>, CaptureError> {
        loop {
            let at = stream.position();
            let head = stream.want(AROUND)?;
            if head.is_empty() {
                return Ok(None);
            }
            if head.len() < AROUND {
                return Err(CaptureError::Truncated { packet, at });
            }
            let kind = self.begin(head, (packet, at))?;
            let length = self.order.u32(head, 4);
            if !matches!(
                kind,
                SECTION | INTERFACE | OLD_PACKET | SIMPLE_PACKET | PACKET
            ) {
                self.pass_over(stream, length, (packet, at))?;
                continue;
            }
            let bytes = whole(stream, length, (packet, at))?;
            let (record, body) = (bytes.len(), &bytes[8..bytes.len() - 4]);
            if self.order.u32(bytes, record - 4) != length {
                let what = LENGTHS_DIFFER.to_owned();
                return Err(CaptureError::Damaged { packet, at, what });
            }
            let place = (packet, at);
            if let Some((at, from, len)) = self.block(&Block { kind, body, place })? {
                let from = 8 + from;
                return Ok(Some(Head {
                    at,
                    from,
                    len,
                    record,
                }));
            }
            stream.skip(u64::from(length))?;
        }
    }

    /// A block's kind. A section says in which byte order it was written.
    fn begin(&mut self, head: &[u8], (packet, at): (u64, u64)) -> Result<u32, CaptureError> {
        let kind = self.order.u32(head, 0);
        if kind != SECTION {
            return Ok(kind);
        }
        let orders = [Order::Little, Order::Big];
        let order = orders
            .into_iter()
            .find(|order| order.u32(head, 8) == ORDER_MAGIC);
        let Some(order) = order else {
            let what = "a section of no known byte order".to_owned();
            return Err(CaptureError::Damaged { packet, at, what });
        };
        self.order = order;
        self.interfaces.clear();
        Ok(SECTION)
    }

    /// Moves on behind a block that says nothing of packets.
    fn pass_over<R: Read>(
        &self,
        stream: &mut Stream<R>,
        length: u32,
        (packet, at): (u64, u64),
    ) -> Result<(), CaptureError> {
        let damaged = |what| Err(CaptureError::Damaged { packet, at, what });
        if (length as usize) < AROUND || !length.is_multiple_of(4) {
            return damaged(format!("a block of {length} octets"));
        }
        let body = u64::from(length) - 4;
        if stream.skip(body)? < body {
            return Err(CaptureError::Truncated { packet, at });
        }
        match stream.want(4)? {
            end if end.len() < 4 => Err(CaptureError::Truncated { packet, at }),
            end if self.order.u32(end, 0) != length => damaged(LENGTHS_DIFFER.to_owned()),
            _ => Ok(stream.skip(4).map(drop)?),
        }
    }

    /// Takes a block in; a packet's time and place in the block's body.
    fn block(&mut self, block: &Block<'_>) -> Result<Option<(Nanos, usize, usize)>, CaptureError> {
        match block.kind {
            INTERFACE => {
                self.interfaces.push(interface(block, self.order)?);
                Ok(None)
            }
            PACKET => self
                .enhanced(block, |order, body| order.u32(body, 0))
                .map(Some),
            OLD_PACKET => {
                let interface = |order: Order, body: &[u8]| u32::from(order.u16(body, 0));
                self.enhanced(block, interface).map(Some)
            }
            SIMPLE_PACKET => self.simple(block).map(Some),
            _ => Ok(None),
        }
    }

    fn enhanced(
        &mut self,
        block: &Block<'_>,
        interface: impl Fn(Order, &[u8]) -> u32,
    ) -> Result<(Nanos, usize, usize), CaptureError> {
        const FIXED: usize = 20;
        let body = block.body;
        if body.len() < FIXED {
            return Err(block.damaged("a packet's block without room for its header"));
        }
        let interface = self.interface(block, interface(self.order, body))?;
        let field = |at| self.order.u32(body, at);
        let units = u64::from(field(4)) << 32 | u64::from(field(8));
        let captured = field(12) as usize;
        if captured > body.len() - FIXED || captured > LONGEST {
            return Err(block.damaged(format!("a frame of {captured} octets")));
        }
        self.last = interface.time(units);
        Ok((self.last, FIXED, captured))
    }

    fn simple(&mut self, block: &Block<'_>) -> Result<(Nanos, usize, usize), CaptureError> {
        const FIXED: usize = 4;
        let body = block.body;
        if body.len() < FIXED {
            return Err(block.damaged("a packet's block without room for its header"));
        }
        let Interface { snap_len, .. } = self.interface(block, 0)?;
        let original = self.order.u32(body, 0) as usize;
        let len = original.min(snap_len).min(body.len() - FIXED);
        Ok((self.last, FIXED, len.min(LONGEST)))
    }

    fn interface(&self, block: &Block<'_>, number: u32) -> Result<Interface, CaptureError> {
        let Some(&interface) = self.interfaces.get(number as usize) else {
            return Err(block.damaged(format!("interface {number}, which was not described")));
        };
        if interface.link != ETHERNET {
            let (packet, link) = (block.place.0, interface.link);
            return Err(CaptureError::NotEthernet { packet, link });
        }
        Ok(interface)
    }
}

/// The whole block in memory.
fn whole<R: Read>(
    stream: &mut Stream<R>,
    length: u32,
    (packet, at): (u64, u64),
) -> Result<&[u8], CaptureError> {
    let size = length as usize;
    if !(AROUND..=LONGEST_BLOCK).contains(&size) || !size.is_multiple_of(4) {
        let what = format!("a block of {length} octets");
        return Err(CaptureError::Damaged { packet, at, what });
    }
    let bytes = stream.want(size)?;
    if bytes.len() < size {
        return Err(CaptureError::Truncated { packet, at });
    }
    Ok(bytes)
}

fn interface(block: &Block<'_>, order: Order) -> Result<Interface, CaptureError> {
    const FIXED: usize = 8;
    let body = block.body;
    if body.len() < FIXED {
        return Err(block.damaged("an interface's block without room for its header"));
    }
    let mut interface = Interface {
        link: u32::from(order.u16(body, 0)),
        snap_len: match order.u32(body, 4) {
            0 => usize::MAX,
            limit => limit as usize,
        },
        per_second: 1_000_000,
        offset: 0,
    };
    let mut options = &body[FIXED..];
    while options.len() >= 4 {
        let (code, len) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
        let Some(value) = options.get(4..4 + len) else {
            return Err(block.damaged("an option longer than its block"));
        };
        match (code, value) {
            (0, _) => break,
            (RESOLUTION, &[exponent]) => interface.per_second = per_second(exponent),
            (OFFSET, value) if len == 8 => interface.offset = order.i64(value, 0),
            _ => {}
        }
        options = options.get(4 + len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(interface)
}

/// Units of time in a second: a power of 10, or of 2 where the highest bit is set.
fn per_second(exponent: u8) -> u128 {
    let power = u32::from(exponent & 0x7f);
    let base: u128 = if exponent & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(power).unwrap_or(u128::MAX)
}

impl Interface {
    fn time(&self, units: u64) -> Nanos {
        let nanos = (u128::from(units) * 1_000_000_000) / self.per_second;
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let shifted = nanos.saturating_add(i128::from(self.offset) * 1_000_000_000);
        Nanos(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
    }
}
