//! One RX and one TX queue of a device, in one worker's hands.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use dataplane::port::{BURST, Burst, Port};

use crate::device::Opened;
use crate::mbuf::Mbuf;

const _: () = assert!(BURST <= u16::MAX as usize);

/// A queue pair. [`crate::Device::queue`] gives each out once; dropping it gives it back.
#[derive(Debug)]
pub struct Queue {
    opened: Arc<Opened>,
    port: u16,
    index: u16,
    /// Not `Sync`: a queue is for one thread at a time.
    _one_thread: PhantomData<Cell<()>>,
}

impl Queue {
    /// `index` is below the number of pairs set up, the device is started, and the caller has
    /// noted that the pair is taken.
    pub(crate) fn new(opened: Arc<Opened>, index: u16) -> Queue {
        let port = opened.port();
        Queue {
            opened,
            port,
            index,
            _one_thread: PhantomData,
        }
    }

    /// The pair's number, from 0.
    pub fn index(&self) -> u16 {
        self.index
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.opened.give_back(self.index);
    }
}

impl Port for Queue {
    type Frame = Mbuf;

    #[inline]
    fn rx_burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let (len, room) = (burst.len(), burst.remaining_capacity());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most BURST, asserted above"
        )]
        let n = room as u16;
        // SAFETY: `len <= capacity`, so the pointer is inside the array or one past its end.
        let spare = unsafe { burst.as_mut_ptr().add(len) };
        // SAFETY: the device is started and stays so while a queue of it is out (`Device::stop`
        // refuses, `Opened` closes only after its last owner); this pair is polled by nobody else
        // (given out once, `&mut self`). `spare` has room for `n` pointers: `Mbuf` is one pointer
        // by `repr(transparent)`.
        let got = unsafe { dpdk_sys::shim_rx_burst(self.port, self.index, spare.cast(), n) };
        let got = usize::from(got).min(room);
        // SAFETY: the driver filled the first `got` of the spare slots with non-null mbufs of a
        // reference count of 1 and keeps no pointer to them: each is ours until it is sent or
        // dropped. Their pool lives as long as EAL, which `opened` keeps.
        unsafe { burst.set_len(len + got) };
        got
    }

    #[inline]
    fn tx_burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let len = burst.len();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most BURST, asserted above"
        )]
        let n = len as u16;
        let first = burst.as_mut_ptr();
        // SAFETY: as in `rx_burst` for the pair; the `n` slots hold mbufs that are ours, and those
        // that the driver takes are not used here any more (below).
        let sent = unsafe { dpdk_sys::shim_tx_burst(self.port, self.index, first.cast(), n) };
        let sent = usize::from(sent).min(len);
        forget_front(burst, sent);
        sent
    }

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        self.opened.pool().take()
    }
}

/// Removes the first `n <= len` frames without giving them back. Moves nothing when all are gone,
/// which is nearly always.
#[inline]
fn forget_front(burst: &mut Burst<Mbuf>, n: usize) {
    let rest = burst.len() - n;
    let first = burst.as_mut_ptr();
    // SAFETY: no length is less than none; the frames are not dropped by this.
    unsafe { burst.set_len(0) };
    if rest > 0 && n > 0 {
        // SAFETY: `n` is inside the initialised part, by the caller's `n <= len`.
        let kept = unsafe { first.add(n) };
        // SAFETY: both ranges are inside the array's initialised part and may overlap; each kept
        // frame ends up in one slot below `rest`, and the old slots are past the new length.
        unsafe { std::ptr::copy(kept, first, rest) };
    }
    // SAFETY: the first `rest` slots hold the kept frames, each once.
    unsafe { burst.set_len(rest) };
}
