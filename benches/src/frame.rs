//! A frame in a buffer laid out as DPDK's are: a line that says where the frame is, then room,
//! then the frame.

use dataplane::port::{Frame, RxFlags};

/// Octets of a buffer: room in front for a tunnel's header, and a short frame.
const BUFFER: usize = 256;
const HEADROOM: u16 = 64;
/// The longest frame that [`BenchFrame::write`] writes, in octets.
pub const LONGEST: usize = 80;

#[derive(Debug)]
#[repr(C, align(64))]
struct Buffer {
    start: u16,
    len: u16,
    rest: [u8; 60],
    data: [u8; BUFFER],
}

/// A frame in a buffer of its own. Moving it moves a pointer.
#[derive(Debug)]
pub struct BenchFrame(Box<Buffer>);

impl BenchFrame {
    /// A frame without octets.
    pub fn empty() -> Self {
        Self(Box::new(Buffer {
            start: HEADROOM,
            len: 0,
            rest: [0; 60],
            data: [0; BUFFER],
        }))
    }

    /// Makes it the first `len` octets of `bytes`, and gives those to be changed.
    #[inline]
    pub fn write(&mut self, bytes: &[u8; LONGEST], len: u16) -> &mut [u8; LONGEST] {
        const START: usize = HEADROOM as usize;
        (self.0.start, self.0.len) = (HEADROOM, len);
        let to = self.0.data[START..].first_chunk_mut().expect("room");
        *to = *bytes;
        to
    }
}

/// An offset or a length within a buffer.
#[inline]
fn within(octets: usize) -> u16 {
    u16::try_from(octets).expect("a buffer is short")
}

impl Frame for BenchFrame {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        let start = usize::from(self.0.start);
        &self.0.data[start..start + usize::from(self.0.len)]
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.0.start);
        &mut self.0.data[start..start + usize::from(self.0.len)]
    }

    #[inline(always)]
    fn headroom(&self) -> usize {
        usize::from(self.0.start)
    }

    #[inline(always)]
    fn tailroom(&self) -> usize {
        BUFFER - usize::from(self.0.start) - usize::from(self.0.len)
    }

    #[inline(always)]
    fn prepend(&mut self, n: usize) -> bool {
        let fits = n <= self.headroom();
        if fits {
            self.0.start -= within(n);
            self.0.len += within(n);
        }
        fits
    }

    #[inline(always)]
    fn append(&mut self, n: usize) -> bool {
        let fits = n <= self.tailroom();
        if fits {
            self.0.len += within(n);
        }
        fits
    }

    #[inline(always)]
    fn trim_front(&mut self, n: usize) {
        let n = within(n.min(usize::from(self.0.len)));
        self.0.start += n;
        self.0.len -= n;
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) {
        if len < usize::from(self.0.len) {
            self.0.len = within(len);
        }
    }

    #[inline(always)]
    fn rss_hash(&self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn rx_flags(&self) -> RxFlags {
        RxFlags::default()
    }

    #[inline(always)]
    fn stripped_tag(&self) -> Option<u16> {
        None
    }

    #[inline(always)]
    fn forget_stripped_tag(&mut self) {}

    #[inline(always)]
    fn prefetch(&self) {
        arch::prefetch_read(&raw const self.0.data[usize::from(HEADROOM)]);
    }
}
