//! A port made of two queues in memory, for tests, fuzzing and benches.
//!
//! Frames are given to it with [`MemoryPort::give`] and taken with [`MemoryPort::take`].
//! Buffers are recycled: once it has seen as many frames as are under way at a time, nothing
//! here allocates.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::port::{BURST, Burst, Frame, FramePool, Port, RxFlags};

mod noted;

pub use noted::{Note, Noted};

/// Octets of room in front of a frame.
pub const HEADROOM: usize = 128;
/// Octets in a buffer, headroom included.
pub const BUFFER: usize = 10_240;

/// A buffer on the heap; goes back to where it came from when dropped.
#[derive(Debug)]
pub struct Buffer {
    data: Option<Box<[u8; BUFFER]>>,
    start: usize,
    len: usize,
    /// What a device would have reported.
    pub rss_hash: Option<u32>,
    /// What a device would have said.
    pub flags: RxFlags,
    /// The tag that it would have taken off, where `flags` say that it did.
    pub tci: u16,
    home: Recycler,
}

/// Where buffers go and come from. Clones share one store.
#[derive(Clone, Debug, Default)]
pub struct Recycler(Arc<Mutex<Vec<Box<[u8; BUFFER]>>>>);

impl Recycler {
    fn with<T>(&self, what: impl FnOnce(&mut Vec<Box<[u8; BUFFER]>>) -> T) -> T {
        what(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// A buffer that holds `bytes`.
    ///
    /// # Panics
    ///
    /// If `bytes` is longer than a buffer's room, 10112 octets.
    pub fn fill(&self, bytes: &[u8]) -> Buffer {
        let mut buffer = self.empty();
        buffer.refill(bytes);
        buffer
    }

    /// An empty buffer.
    pub fn empty(&self) -> Buffer {
        let data = self.with(Vec::pop).unwrap_or_else(|| Box::new([0; BUFFER]));
        Buffer {
            data: Some(data),
            start: HEADROOM,
            len: 0,
            rss_hash: None,
            flags: RxFlags::default(),
            tci: 0,
            home: self.clone(),
        }
    }
}

impl Buffer {
    /// Replaces everything: as [`Recycler::fill`], without the way there and back.
    ///
    /// # Panics
    ///
    /// If `bytes` is longer than a buffer's room, 10112 octets.
    pub fn refill(&mut self, bytes: &[u8]) {
        (self.start, self.len) = (HEADROOM, 0);
        (self.rss_hash, self.flags, self.tci) = (None, RxFlags::default(), 0);
        assert!(
            self.append(bytes.len()),
            "{} octets don't fit into a buffer",
            bytes.len()
        );
        self.bytes_mut().copy_from_slice(bytes);
    }

    /// The same with a received frame of any length: one that has no room is cut, and says so.
    pub fn receive(&mut self, bytes: &[u8]) {
        let room = BUFFER - HEADROOM;
        self.refill(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.flags = RxFlags(RxFlags::SEGMENTED);
        }
    }
}

impl FramePool for Recycler {
    type Frame = Buffer;

    fn alloc(&mut self) -> Option<Buffer> {
        Some(self.empty())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(data) = self.data.take() {
            self.home.with(|store| store.push(data));
        }
    }
}

impl Frame for Buffer {
    fn bytes(&self) -> &[u8] {
        let data = self.data.as_ref().expect("taken only by drop");
        &data[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let data = self.data.as_mut().expect("taken only by drop");
        &mut data[self.start..self.start + self.len]
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        BUFFER - self.start - self.len
    }

    fn prepend(&mut self, n: usize) -> bool {
        let fits = n <= self.headroom();
        if fits {
            self.start -= n;
            self.len += n;
        }
        fits
    }

    fn append(&mut self, n: usize) -> bool {
        let fits = n <= self.tailroom();
        if fits {
            self.len += n;
        }
        fits
    }

    fn trim_front(&mut self, n: usize) {
        let n = n.min(self.len);
        self.start += n;
        self.len -= n;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn rss_hash(&self) -> Option<u32> {
        self.rss_hash
    }

    fn rx_flags(&self) -> RxFlags {
        self.flags
    }

    fn stripped_tag(&self) -> Option<u16> {
        self.flags.any(RxFlags::VLAN_STRIPPED).then_some(self.tci)
    }

    fn forget_stripped_tag(&mut self) {
        self.flags.0 &= !RxFlags::VLAN_STRIPPED;
    }
}

/// Two queues.
#[derive(Debug)]
pub struct MemoryPort {
    incoming: VecDeque<Buffer>,
    outgoing: VecDeque<Buffer>,
    recycler: Recycler,
    room: usize,
}

impl Default for MemoryPort {
    fn default() -> Self {
        Self::new(Recycler::default())
    }
}

impl MemoryPort {
    /// A port whose buffers come from `recycler`.
    pub fn new(recycler: Recycler) -> Self {
        let queue = || VecDeque::with_capacity(4 * BURST);
        Self {
            incoming: queue(),
            outgoing: queue(),
            recycler,
            room: usize::MAX,
        }
    }

    /// Puts a frame with these bytes into the receive queue.
    pub fn give(&mut self, bytes: &[u8]) {
        let frame = self.recycler.fill(bytes);
        self.incoming.push_back(frame);
    }

    /// Puts a frame into the receive queue.
    pub fn give_frame(&mut self, frame: Buffer) {
        self.incoming.push_back(frame);
    }

    /// The frame that was sent first of those not taken yet.
    pub fn take(&mut self) -> Option<Buffer> {
        self.outgoing.pop_front()
    }

    /// Lets the transmit queue refuse what would make it longer than `room` frames.
    pub fn limit(&mut self, room: usize) {
        self.room = room;
    }
}

impl Port for MemoryPort {
    type Frame = Buffer;

    fn rx_burst(&mut self, burst: &mut Burst<Buffer>) -> usize {
        let n = burst.remaining_capacity().min(self.incoming.len());
        burst.extend(self.incoming.drain(..n));
        n
    }

    fn tx_burst(&mut self, burst: &mut Burst<Buffer>) -> usize {
        let n = burst
            .len()
            .min(self.room.saturating_sub(self.outgoing.len()));
        self.outgoing.extend(burst.drain(..n));
        n
    }

    fn alloc(&mut self) -> Option<Buffer> {
        Some(self.recycler.empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_grows_and_shrinks_at_both_ends() {
        let mut frame = Recycler::default().fill(&[1, 2, 3]);
        assert!(frame.prepend(2) && frame.append(1));
        assert_eq!(frame.bytes().len(), 6);
        frame.trim_front(2);
        frame.truncate(3);
        assert_eq!(frame.bytes(), [1, 2, 3]);
        assert!(!frame.prepend(HEADROOM + 1) && !frame.append(BUFFER));
        frame.trim_front(100);
        assert!(frame.bytes().is_empty());
    }

    #[test]
    fn a_received_frame_of_any_length() {
        let mut frame = Recycler::default().empty();
        for (len, kept) in [
            (60, 60),
            (BUFFER - HEADROOM, BUFFER - HEADROOM),
            (BUFFER, BUFFER - HEADROOM),
        ] {
            frame.receive(&vec![7; len]);
            assert_eq!(frame.bytes().len(), kept);
            assert_eq!(frame.rx_flags().any(RxFlags::SEGMENTED), len > kept);
        }
    }

    #[test]
    fn a_full_queue_gives_back_what_it_refuses() {
        let mut port = MemoryPort::default();
        port.limit(1);
        port.give(&[1]);
        port.give(&[2]);
        let mut burst = Burst::new();
        assert_eq!(port.rx_burst(&mut burst), 2);
        assert_eq!(port.tx_burst(&mut burst), 1);
        assert_eq!(burst[0].bytes(), [2]);
        assert_eq!(port.take().expect("sent").bytes(), [1]);
    }
}
