//! Pools of frame buffers.
//!
//! A pool has a fixed number of buffers, each with [`HEADROOM`] octets in front for outer
//! headers, and a cache per registered thread. A [`Pool`] is a handle: clones are cheap, any
//! thread may take buffers. The memory itself goes with [`crate::Eal::shutdown`], because only
//! then no thread can be in its cache any more.

use std::ffi::CString;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

use dataplane::port::{BURST, Burst, FramePool};
use dpdk_sys::RteMempool;

use crate::eal::{Handle, Runtime};
use crate::mbuf::Mbuf;
use crate::messages;

/// Octets in front of a fresh or received frame.
pub const HEADROOM: u16 = dpdk_sys::HEADROOM;

/// Octets of an ordinary page.
const PAGE: u64 = 4096;

/// Buffers that a registered thread keeps at hand.
const CACHE: u32 = 256;

/// Size of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Buffers.
    pub buffers: u32,
    /// Octets of frame that one holds, headroom not included; 2048 carries an MTU of 1500.
    pub buffer_size: u16,
    /// NUMA node; `None` for any.
    pub socket: Option<u16>,
}

impl PoolConfig {
    /// A pool for `ports` ports with `pairs` queue pairs each: what fills the descriptor rings,
    /// the threads' caches and a burst in each worker's hands, and `held` beside (frames that wait
    /// in rings towards control and between workers).
    pub fn for_ports(ports: u32, pairs: u32, descriptors: u32, held: u32) -> PoolConfig {
        let burst = u32::try_from(BURST).expect("a small constant");
        let queued = ports
            .saturating_mul(pairs)
            .saturating_mul(2 * descriptors + burst);
        // A cache may grow to 1.5 times its size before it gives back.
        let cached = (pairs + 1).saturating_mul(CACHE * 3 / 2);
        let buffers = queued.saturating_add(cached).saturating_add(held).max(1023);
        PoolConfig {
            buffers,
            buffer_size: 2048,
            socket: None,
        }
    }

    /// MiB that EAL needs for it, rounded up, with what the allocator adds.
    ///
    /// Without hugepages a buffer may not cross a 4 KiB page, so one of the usual size takes a
    /// whole one.
    pub fn memory_mb(&self, hugepages: bool) -> u32 {
        let room = self.buffer_size.saturating_add(HEADROOM);
        // SAFETY: pure arithmetic on its arguments; works without EAL.
        let one = unsafe { dpdk_sys::shim_pool_bytes(1, room) };
        let buffers = u64::from(self.buffers);
        let bytes = match PAGE / one {
            _ if hugepages => buffers * one,
            0 => buffers * one.next_multiple_of(PAGE),
            per_page => buffers.div_ceil(per_page) * PAGE,
        };
        let ring = buffers.next_power_of_two() * 16;
        u32::try_from((bytes + ring).div_ceil(1 << 20) + 8).unwrap_or(u32::MAX)
    }
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Too little memory.
    #[error(
        "no memory for {buffers} frame buffers of {buffer_size} octets ({memory_mb} MiB); lower \
         mbufs or mbuf_size, or reserve more hugepages ({said})"
    )]
    NoMemory {
        /// Buffers asked for.
        buffers: u32,
        /// Octets of each.
        buffer_size: u16,
        /// MiB that takes.
        memory_mb: u32,
        /// EAL's last messages.
        said: String,
    },
    /// Larger than DPDK's 16-bit lengths.
    #[error("mbuf_size {buffer_size} is not in 64..=65407")]
    BufferSize {
        /// Octets asked for.
        buffer_size: u16,
    },
    /// Anything else.
    #[error("DPDK made no pool of {buffers} frame buffers: {reason} ({said})")]
    Refused {
        /// Buffers asked for.
        buffers: u32,
        /// Why.
        reason: io::Error,
        /// EAL's last messages.
        said: String,
    },
}

/// DPDK's pool, for as long as EAL runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawPool(NonNull<RteMempool>);

// SAFETY: a pool's functions may be called from every thread: its ring is for many producers and
// consumers, and a cache belongs to one lcore id, that is one thread.
unsafe impl Send for RawPool {}
// SAFETY: as above.
unsafe impl Sync for RawPool {}

impl RawPool {
    pub(crate) fn as_ptr(self) -> *mut RteMempool {
        self.0.as_ptr()
    }

    fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as EAL, which whoever has a `RawPool` keeps running.
        unsafe { dpdk_sys::shim_pool_available(self.0.as_ptr()) }
    }

    fn size(&self) -> u32 {
        // SAFETY: as in `available`.
        unsafe { dpdk_sys::shim_pool_size(self.0.as_ptr()) }
    }

    /// Buffers in somebody's hands: exact when nobody is moving any.
    pub(crate) fn in_use(&self) -> u32 {
        self.size().saturating_sub(self.available())
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// No other copy of the pool and no buffer of it may be used afterwards.
    pub(crate) unsafe fn free(self) {
        // SAFETY: the caller's promise.
        unsafe { dpdk_sys::shim_pool_free(self.0.as_ptr()) };
    }
}

/// A handle on a pool.
#[derive(Clone, Debug)]
pub struct Pool {
    raw: RawPool,
    config: PoolConfig,
    /// EAL's memory, in which the pool lies.
    _runtime: Arc<Runtime>,
}

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// No memory, or a size that DPDK can't have.
    pub fn new(handle: &Handle, config: PoolConfig) -> Result<Pool, PoolError> {
        let buffer_size = config.buffer_size;
        let room = buffer_size
            .checked_add(HEADROOM)
            .filter(|_| buffer_size >= 64);
        let room = room.ok_or(PoolError::BufferSize { buffer_size })?;
        let raw = create(&config, room).map_err(|reason| explain(&config, reason))?;
        handle
            .0
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(raw);
        Ok(Pool {
            raw,
            config,
            _runtime: Arc::clone(&handle.0),
        })
    }

    /// An empty frame with full headroom; `None` when the pool is dry.
    #[inline]
    pub fn take(&self) -> Option<Mbuf> {
        // SAFETY: the pool is valid (`_runtime`) and may be used from any thread.
        let raw = unsafe { dpdk_sys::shim_mbuf_alloc(self.raw.as_ptr()) };
        // SAFETY: a pointer that is not null is a fresh mbuf, ours alone.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Fills `burst` up with empty frames in one call; all or none. `false` when the pool is dry.
    pub fn fill(&self, burst: &mut Burst<Mbuf>) -> bool {
        let (len, room) = (burst.len(), burst.remaining_capacity());
        let n = u32::try_from(room).expect("at most BURST");
        // SAFETY: `len <= capacity`, so the pointer is inside the array or one past its end.
        let spare = unsafe { burst.as_mut_ptr().add(len) };
        // SAFETY: `spare` has room for `n` pointers: `Mbuf` is one non-null pointer by
        // `repr(transparent)`. The pool is valid as in `take`.
        let answer = unsafe { dpdk_sys::shim_mbuf_alloc_bulk(self.raw.as_ptr(), spare.cast(), n) };
        if answer != 0 {
            return false;
        }
        // SAFETY: on success the shim wrote all `room` slots with fresh mbufs, ours alone.
        unsafe { burst.set_len(len + room) };
        true
    }

    /// What it was made with.
    pub fn config(&self) -> PoolConfig {
        self.config
    }

    /// Buffers that can be taken, those in threads' caches included.
    pub fn available(&self) -> u32 {
        self.raw.available()
    }

    /// Buffers in somebody's hands: workers, devices, rings.
    pub fn in_use(&self) -> u32 {
        self.raw.in_use()
    }

    pub(crate) fn raw(&self) -> RawPool {
        self.raw
    }
}

impl FramePool for Pool {
    type Frame = Mbuf;

    fn alloc(&mut self) -> Option<Mbuf> {
        self.take()
    }
}

fn create(config: &PoolConfig, room: u16) -> io::Result<RawPool> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("sluice_pool_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let name = CString::new(name).expect("no zero in it");
    let socket = config.socket.map_or(dpdk_sys::ANY_SOCKET, i32::from);
    // DPDK wants a cache of 1.5 times its size to fit into the pool.
    let cache = CACHE.min(config.buffers / 2);
    let mut error = 0;
    // SAFETY: the name is a string ended by a zero, which DPDK copies; EAL runs (the callers hold
    // its handle); `error` is ours to write.
    let raw = unsafe {
        dpdk_sys::shim_pool_create(
            name.as_ptr(),
            config.buffers,
            cache,
            room,
            socket,
            &mut error,
        )
    };
    NonNull::new(raw)
        .map(RawPool)
        .ok_or_else(|| io::Error::from_raw_os_error(-error))
}

fn explain(config: &PoolConfig, reason: io::Error) -> PoolError {
    let (buffers, said) = (config.buffers, messages::last_words());
    if reason.raw_os_error() != Some(libc::ENOMEM) {
        return PoolError::Refused {
            buffers,
            reason,
            said,
        };
    }
    let (buffer_size, memory_mb) = (config.buffer_size, config.memory_mb(false));
    PoolError::NoMemory {
        buffers,
        buffer_size,
        memory_mb,
        said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let config = PoolConfig::for_ports(2, 2, 1024, 4096);
        assert_eq!(config.buffers, 2 * 2 * (2048 + 32) + 3 * 384 + 4096);
        let pool = |buffers, buffer_size| PoolConfig {
            buffers,
            buffer_size,
            socket: None,
        };
        // 128 of mbuf, 128 of headroom, 2048 of frame, 64 of the pool's own, padding; a ring slot.
        let mib = 1 << 20;
        assert!((2300..2500).contains(&(pool(mib, 2048).memory_mb(true) - 16 - 8)));
        assert_eq!(pool(mib, 2048).memory_mb(false), 4096 + 16 + 8);
        assert_eq!(pool(mib, 9216).memory_mb(false), 3 * 4096 + 16 + 8);
        assert_eq!(PoolConfig::for_ports(1, 1, 1, 0).buffers, 1023);
    }
}
