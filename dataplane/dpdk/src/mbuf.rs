//! A frame in a DPDK buffer.
//!
//! ```text
//! buf_addr            data_off               data_off + data_len      buf_len
//! |---- headroom ----|------- the frame ----|------- tailroom -------|
//! ```
//!
//! The fields are read in place, with no call into C; `dpdk-sys` asserts where they are. We
//! never share a buffer: a reference count is 1 wherever this type sees it.

use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dataplane::port::{Frame, RxFlags};
use dpdk_sys::RteMbuf;

/// One frame, given back to its pool when dropped.
///
/// `len` values of the buffer always hold: `data_off + data_len <= buf_len`, and for a frame of
/// one buffer `pkt_len == data_len`. DPDK's drivers keep the first, every method here both.
#[repr(transparent)]
#[derive(Debug)]
pub struct Mbuf(NonNull<RteMbuf>);

// SAFETY: an mbuf belongs to whoever holds it and to no thread; its pool takes it back from any.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes ownership of an mbuf.
    ///
    /// # Safety
    /// It is a valid mbuf with a reference count of 1 that nobody else uses or will free, with
    /// initialised contents, and its pool outlives it.
    pub(crate) unsafe fn from_raw(raw: NonNull<RteMbuf>) -> Mbuf {
        Mbuf(raw)
    }

    /// Gives many back in one call.
    pub fn free_all<const N: usize>(frames: &mut ArrayVec<Mbuf, N>) {
        let n = u32::try_from(frames.len()).expect("bursts are short");
        let first = frames.as_mut_ptr();
        // SAFETY: forgets the frames, which the next call frees: nobody frees them twice.
        unsafe { frames.set_len(0) };
        // SAFETY: `first` begins `n` initialised slots, each one owned mbuf pointer
        // (`repr(transparent)`), and nobody else has them since the line above.
        unsafe { dpdk_sys::shim_mbuf_free_bulk(first.cast(), n) };
    }

    #[inline(always)]
    fn fields(&self) -> &RteMbuf {
        // SAFETY: valid for as long as `self` owns it (`from_raw`); no field that we read is
        // changed by anybody else meanwhile.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn fields_mut(&mut self) -> &mut RteMbuf {
        // SAFETY: as in `fields`; the borrow of `self` is exclusive and so is the ownership.
        unsafe { self.0.as_mut() }
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let fields = self.fields();
        // SAFETY: `data_off <= buf_len` (the type's rule), so this is inside the buffer or its end.
        unsafe { fields.buf_addr.add(usize::from(fields.data_off)) }
    }

    #[inline(always)]
    fn segmented(&self) -> bool {
        self.fields().nb_segs > 1
    }

    /// Sets where the first buffer's part of the frame lies; the rest of a chain stays.
    #[inline(always)]
    fn set(&mut self, data_off: u16, data_len: u16) {
        let fields = self.fields_mut();
        debug_assert!(u32::from(data_off) + u32::from(data_len) <= u32::from(fields.buf_len));
        let others = fields.pkt_len - u32::from(fields.data_len);
        fields.data_off = data_off;
        fields.data_len = data_len;
        fields.pkt_len = others + u32::from(data_len);
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we own it (`from_raw`), and nobody uses it after this.
        unsafe { dpdk_sys::shim_mbuf_free(self.0.as_ptr()) };
    }
}

impl Frame for Mbuf {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        let len = usize::from(self.fields().data_len);
        // SAFETY: `data_off + data_len <= buf_len` (the type's rule): the range is in one buffer,
        // initialised (EAL's memory begins as zeros), and ours while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(), len) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let len = usize::from(self.fields().data_len);
        // SAFETY: as in `bytes`; the borrow is exclusive, and the buffer is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.start(), len) }
    }

    #[inline(always)]
    fn headroom(&self) -> usize {
        usize::from(self.fields().data_off)
    }

    /// 0 for a frame in several buffers: behind the first one comes the next.
    #[inline(always)]
    fn tailroom(&self) -> usize {
        let fields = self.fields();
        if self.segmented() {
            return 0;
        }
        usize::from(fields.buf_len) - usize::from(fields.data_off) - usize::from(fields.data_len)
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> bool {
        let (data_off, data_len) = (self.fields().data_off, self.fields().data_len);
        let Ok(n) = u16::try_from(n) else {
            return false;
        };
        if n > data_off {
            return false;
        }
        self.set(data_off - n, data_len + n);
        true
    }

    #[inline]
    fn append(&mut self, n: usize) -> bool {
        if n > self.tailroom() {
            return false;
        }
        let (data_off, data_len) = (self.fields().data_off, self.fields().data_len);
        let n = u16::try_from(n).expect("no more than the tailroom, a part of 16 bits");
        self.set(data_off, data_len + n);
        true
    }

    #[inline]
    fn trim_front(&mut self, n: usize) {
        let (data_off, data_len) = (self.fields().data_off, self.fields().data_len);
        let n = u16::try_from(n).unwrap_or(u16::MAX).min(data_len);
        self.set(data_off + n, data_len - n);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let (data_off, data_len) = (self.fields().data_off, self.fields().data_len);
        let Ok(len) = u16::try_from(len) else { return };
        if len >= data_len {
            return;
        }
        if self.segmented() {
            // SAFETY: we own the chain; what is cut off is given back and no longer linked.
            unsafe { dpdk_sys::shim_mbuf_drop_tail(self.0.as_ptr()) };
        }
        self.set(data_off, len);
    }

    #[inline(always)]
    fn rss_hash(&self) -> Option<u32> {
        let fields = self.fields();
        (fields.ol_flags & dpdk_sys::RX_RSS_HASH != 0).then_some(fields.rss)
    }

    #[inline]
    fn rx_flags(&self) -> RxFlags {
        let fields = self.fields();
        rx_flags(fields.ol_flags, fields.nb_segs)
    }

    #[inline(always)]
    fn is_ordinary(&self) -> bool {
        let fields = self.fields();
        let quiet = fields.ol_flags & TELLING == 0 && fields.nb_segs <= 1;
        quiet || self.rx_flags() == RxFlags::default()
    }

    #[inline]
    fn stripped_tag(&self) -> Option<u16> {
        let fields = self.fields();
        (fields.ol_flags & dpdk_sys::RX_VLAN_STRIPPED != 0).then_some(fields.vlan_tci)
    }

    #[inline]
    fn forget_stripped_tag(&mut self) {
        self.fields_mut().ol_flags &= !dpdk_sys::RX_VLAN_STRIPPED;
    }

    #[inline(always)]
    fn prefetch(&self) {
        // Reads the mbuf's own line, which the driver has just written.
        arch::prefetch_read(self.start());
    }
}

/// Without these and in one buffer, a frame has none of [`RxFlags`].
const TELLING: u64 = dpdk_sys::RX_IP_BAD | dpdk_sys::RX_L4_BAD | dpdk_sys::RX_VLAN_STRIPPED;

#[inline]
fn rx_flags(ol_flags: u64, segments: u16) -> RxFlags {
    let bit = |is: bool, flag: u8| if is { flag } else { 0 };
    // Each checksum has two bits: bad, good, unknown (neither), "none" (both).
    let ip_bad = ol_flags & dpdk_sys::RX_IP_MASK == dpdk_sys::RX_IP_BAD;
    let l4_bad = ol_flags & dpdk_sys::RX_L4_MASK == dpdk_sys::RX_L4_BAD;
    RxFlags(
        bit(segments > 1, RxFlags::SEGMENTED)
            | bit(
                ol_flags & dpdk_sys::RX_VLAN_STRIPPED != 0,
                RxFlags::VLAN_STRIPPED,
            )
            | bit(ip_bad, RxFlags::IP_CHECKSUM_BAD)
            | bit(l4_bad, RxFlags::L4_CHECKSUM_BAD),
    )
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;

    #[test]
    fn a_tag_that_the_device_took_is_told_until_it_is_forgotten() {
        // SAFETY: integers and pointers: all zeros is a value.
        let mut fields: RteMbuf = unsafe { std::mem::zeroed() };
        fields.ol_flags = dpdk_sys::RX_RSS_HASH | dpdk_sys::RX_VLAN_STRIPPED;
        (fields.vlan_tci, fields.nb_segs) = (0x600a, 1);
        // SAFETY: nobody else uses it, and it is never dropped: so it needs no pool.
        let mut frame = ManuallyDrop::new(unsafe { Mbuf::from_raw(NonNull::from(&mut fields)) });
        assert_eq!(frame.stripped_tag(), Some(0x600a));
        assert_eq!(frame.rx_flags(), RxFlags(RxFlags::VLAN_STRIPPED));
        frame.forget_stripped_tag();
        assert_eq!((frame.stripped_tag(), frame.rx_flags()), (None, RxFlags(0)));
        assert_eq!(frame.rss_hash(), Some(0), "other flags stay");
    }

    #[test]
    fn flags_of_the_device() {
        let cases = [
            ("nothing said", 0, 1, 0),
            ("both checksums good", 1 << 7 | 1 << 8, 1, 0),
            ("IPv4 bad", 1 << 4, 1, RxFlags::IP_CHECKSUM_BAD),
            (
                "TCP bad, IPv4 good",
                1 << 3 | 1 << 7,
                1,
                RxFlags::L4_CHECKSUM_BAD,
            ),
            (
                "checksums not there yet",
                1 << 3 | 1 << 8 | 1 << 4 | 1 << 7,
                1,
                0,
            ),
            ("a tag taken off", 1 << 6 | 1, 1, RxFlags::VLAN_STRIPPED),
            ("a tag seen and left", 1, 1, 0),
            ("two buffers", 0, 2, RxFlags::SEGMENTED),
        ];
        for (name, ol_flags, segments, want) in cases {
            assert_eq!(rx_flags(ol_flags, segments), RxFlags(want), "{name}");
            let quiet = ol_flags & TELLING == 0 && segments <= 1;
            assert!(!quiet || want == 0, "{name}");
        }
    }
}
