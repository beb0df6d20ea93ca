//! What a worker needs of the outside: frames, and a queue pair to take them from and send
//! them by.
//!
//! [`Port`] is one RX and one TX queue of one port, owned by one worker. Three exist: DPDK's
//! (crate `dpdk`), [`crate::memory`] for tests and benches, [`crate::pcap`] for captures. The
//! same `turn` runs on all three.

use arrayvec::ArrayVec;

use crate::observe::Event;

/// The most frames that one look at a queue yields.
pub const BURST: usize = 32;

/// Up to [`BURST`] frames.
pub type Burst<F> = ArrayVec<F, BURST>;

/// Number of a port, in the order of the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// Number of a worker, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// What the receiving port says about a frame beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RxFlags(pub u8);

impl RxFlags {
    /// The frame continues in buffers that [`Frame::bytes`] does not show: it was larger than
    /// one buffer holds.
    pub const SEGMENTED: u8 = 1;
    /// The device took off an 802.1Q tag: [`Frame::stripped_tag`] has it.
    pub const VLAN_STRIPPED: u8 = 2;
    /// The device found the IPv4 header checksum wrong.
    pub const IP_CHECKSUM_BAD: u8 = 4;
    /// The device found the transport checksum wrong.
    pub const L4_CHECKSUM_BAD: u8 = 8;

    /// Whether any bit of `mask` is set.
    #[inline]
    pub fn any(self, mask: u8) -> bool {
        self.0 & mask != 0
    }
}

/// One Ethernet frame, without its checksum, in a buffer with room in front of it.
///
/// A frame owns its buffer and gives it back when dropped.
pub trait Frame: Send {
    /// The frame, from the destination MAC on.
    fn bytes(&self) -> &[u8];

    /// The same, to rewrite.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Octets that [`Frame::prepend`] can still add.
    fn headroom(&self) -> usize;

    /// Octets that [`Frame::append`] can still add.
    fn tailroom(&self) -> usize;

    /// Grows the frame by `n` octets in front, of any content; `false`, and no change, if
    /// there is no room.
    #[must_use]
    fn prepend(&mut self, n: usize) -> bool;

    /// Grows the frame by `n` octets behind, of any content; `false`, and no change, if there
    /// is no room.
    #[must_use]
    fn append(&mut self, n: usize) -> bool;

    /// Removes the first `n` octets, at most all.
    fn trim_front(&mut self, n: usize);

    /// Keeps the first `len` octets; no effect on a shorter frame.
    fn truncate(&mut self, len: usize);

    /// The hash that the device computed, where it reports one.
    fn rss_hash(&self) -> Option<u32>;

    /// What the device said.
    fn rx_flags(&self) -> RxFlags;

    /// Whether that is nothing that anybody has to look at: [`RxFlags::default`].
    #[inline(always)]
    fn is_ordinary(&self) -> bool {
        self.rx_flags() == RxFlags::default()
    }

    /// The tag control information of the 802.1Q tag that the device took off, if it did: as
    /// long as [`RxFlags::VLAN_STRIPPED`] is set.
    fn stripped_tag(&self) -> Option<u16>;

    /// From now on no tag was taken off.
    fn forget_stripped_tag(&mut self);

    /// Fetches the frame's first line into the cache, where that helps.
    #[inline]
    fn prefetch(&self) {}

    /// Hears what happens to the frame, where somebody wants to know.
    #[inline]
    fn observe(&mut self, _event: Event<'_>) {}
}

/// One queue pair of one port.
pub trait Port {
    /// The frames it carries.
    type Frame: Frame;

    /// Adds the frames that wait, as many as `burst` has room for, and says how many.
    fn rx_burst(&mut self, burst: &mut Burst<Self::Frame>) -> usize;

    /// Sends from the front of `burst` what the queue takes and removes it; what it refuses
    /// stays. Says how many were sent.
    fn tx_burst(&mut self, burst: &mut Burst<Self::Frame>) -> usize;

    /// An empty frame with full headroom, for packets of our own making; `None` when the pool
    /// is dry.
    fn alloc(&mut self) -> Option<Self::Frame>;
}

/// Where control takes buffers for what it sends; unlike a [`Port`] it may be shared.
pub trait FramePool: Send {
    /// The frames it gives.
    type Frame: Frame;

    /// An empty frame with full headroom; `None` when the pool is dry.
    fn alloc(&mut self) -> Option<Self::Frame>;
}
