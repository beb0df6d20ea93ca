//! Two devices joined by rings inside the process: what one sends, the other receives.
//!
//! Only pointers move (about 1 ns a frame), so tests and benches see the cost of everything else.

use std::ffi::CString;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys::RteRing;

use crate::eal::{Handle, Runtime};
use crate::mbuf::Mbuf;
use crate::messages::{self, check};

/// Why there is no pair of rings.
#[derive(Debug, thiserror::Error)]
#[error("DPDK made no pair of rings with {queues} queues of {slots} slots: {reason} ({said})")]
pub struct RingError {
    queues: u16,
    slots: u32,
    reason: io::Error,
    said: String,
}

/// One end: a device for [`crate::Device::open_ring`].
#[derive(Debug)]
pub struct RingEnd {
    port: u16,
    rings: Arc<Rings>,
    opened: bool,
}

impl RingEnd {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The port is the caller's to close from here on.
    pub(crate) fn into_rings(mut self) -> Arc<Rings> {
        self.opened = true;
        Arc::clone(&self.rings)
    }
}

impl Drop for RingEnd {
    fn drop(&mut self) {
        if !self.opened {
            // SAFETY: made by `pair`, never opened, so never started; nobody else has its number.
            unsafe { dpdk_sys::shim_port_remove(self.port, 1) };
        }
    }
}

/// Makes a pair with `queues` rings each way; each ring holds `slots` frames. Ring `n` joins one
/// end's queue pair `n` to the other's.
///
/// # Errors
/// No memory, or more queues than the driver has (16).
pub fn pair(handle: &Handle, queues: u16, slots: u32) -> Result<(RingEnd, RingEnd), RingError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let fail = |reason| RingError {
        queues,
        slots,
        reason,
        said: messages::last_words(),
    };
    let mut rings = Rings {
        there: vec![],
        back: vec![],
        _runtime: Arc::clone(&handle.0),
    };
    for queue in 0..queues {
        rings
            .there
            .push(new_ring(&format!("sluice_{number}_{queue}t"), slots).map_err(fail)?);
        rings
            .back
            .push(new_ring(&format!("sluice_{number}_{queue}b"), slots).map_err(fail)?);
    }
    let rings = Arc::new(rings);
    let end = |side: char, rx: &[RingPtr], tx: &[RingPtr]| {
        let port = new_port(&format!("sluice_{number}{side}"), rx, tx).map_err(fail)?;
        Ok(RingEnd {
            port,
            rings: Arc::clone(&rings),
            opened: false,
        })
    };
    Ok((
        end('l', &rings.back, &rings.there)?,
        end('r', &rings.there, &rings.back)?,
    ))
}

/// The rings of a pair. Each end keeps them until its port is closed; what is in them then is
/// given back.
#[derive(Debug)]
pub(crate) struct Rings {
    there: Vec<RingPtr>,
    back: Vec<RingPtr>,
    _runtime: Arc<Runtime>,
}

#[derive(Clone, Copy, Debug)]
struct RingPtr(NonNull<RteRing>);

// SAFETY: only made, freed and put into ports here; the ports' queues follow the rule of one
// producer and one consumer (one worker has one queue pair).
unsafe impl Send for RingPtr {}
// SAFETY: as above.
unsafe impl Sync for RingPtr {}

impl Drop for Rings {
    fn drop(&mut self) {
        for ring in self.there.iter().chain(&self.back) {
            ring.drain();
            // SAFETY: both ends' ports are closed (each kept the `Arc` until then), and EAL still
            // runs (`_runtime`).
            unsafe { dpdk_sys::shim_ring_free(ring.0.as_ptr()) };
        }
    }
}

impl RingPtr {
    fn drain(self) {
        let mut frames = ArrayVec::<Mbuf, 64>::new();
        loop {
            let room = u32::try_from(frames.capacity()).expect("64");
            let first = frames.as_mut_ptr().cast();
            // SAFETY: the array is empty and has room for `room` pointers; no port uses the ring
            // any more, so this is its only consumer.
            let got = unsafe { dpdk_sys::shim_ring_take(self.0.as_ptr(), first, room) };
            if got == 0 {
                return;
            }
            let got = usize::try_from(got).expect("at most 64");
            // SAFETY: the shim wrote `got` mbufs that a sender gave up; they are ours now.
            unsafe { frames.set_len(got) };
            Mbuf::free_all(&mut frames);
        }
    }
}

fn new_ring(name: &str, slots: u32) -> io::Result<RingPtr> {
    let name = CString::new(name).expect("no zero in it");
    let mut error = 0;
    let any = dpdk_sys::ANY_SOCKET;
    // SAFETY: EAL runs (the caller holds its handle); DPDK copies the name; `error` is ours.
    let ring = unsafe { dpdk_sys::shim_ring_create(name.as_ptr(), slots, any, &mut error) };
    NonNull::new(ring)
        .map(RingPtr)
        .ok_or_else(|| io::Error::from_raw_os_error(-error))
}

fn new_port(name: &str, rx: &[RingPtr], tx: &[RingPtr]) -> io::Result<u16> {
    let name = CString::new(name).expect("no zero in it");
    let pointers = |rings: &[RingPtr]| -> Vec<*mut RteRing> {
        rings.iter().map(|ring| ring.0.as_ptr()).collect()
    };
    let (mut rx, mut tx) = (pointers(rx), pointers(tx));
    let queues = u16::try_from(rx.len().min(tx.len())).expect("a few queues");
    let mut port = 0;
    // SAFETY: both arrays have `queues` valid rings, which outlive the port (`Rings`); DPDK
    // copies name and arrays; `port` is ours.
    check(unsafe {
        dpdk_sys::shim_ring_port(
            name.as_ptr(),
            rx.as_mut_ptr(),
            tx.as_mut_ptr(),
            queues,
            &mut port,
        )
    })?;
    Ok(port)
}
