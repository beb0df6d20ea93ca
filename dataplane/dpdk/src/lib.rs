//! DPDK: environment, memory pools, devices, and queue pairs as ports.
//!
//! Order of things: [`leftovers::remove`], [`Eal::init`] on the main thread, a [`Pool`], a
//! [`Device`] per port, `start`, one [`Queue`] per worker; each worker registers its thread with
//! [`Handle::register_thread`] before its first burst. To stop: drop the queues, then the
//! devices and pools, then [`Eal::shutdown`].
//!
//! Everything is safe to call in any order all the same, because each thing keeps what it rests
//! on: a queue its device, a device its pool, all of them EAL. What can't be proven unused at
//! the end (a frame still in somebody's hands) stays mapped until the process ends.

pub mod device;
pub mod eal;
pub mod leftovers;
mod mbuf;
pub mod messages;
pub mod pool;
mod queue;
pub mod ring;
pub mod rss;
pub mod spec;
pub mod thread;
pub mod worker;

pub use device::{Device, DeviceConfig, DeviceError};
pub use eal::{Eal, EalConfig, EalError, Handle, Hugepages};
pub use mbuf::Mbuf;
pub use pool::{Pool, PoolConfig, PoolError};
pub use queue::Queue;
pub use spec::DeviceSpec;

/// Whether DPDK and its drivers are inside the binary (the feature `static-pmd`), or loaded from the
/// system.
pub const IS_STATIC: bool = cfg!(feature = "static-pmd");

/// DPDK's version, as `DPDK 22.11.11`.
pub fn version() -> &'static str {
    // SAFETY: takes nothing and returns a pointer to a static string, ended by a zero.
    let text = unsafe { dpdk_sys::shim_version() };
    // SAFETY: as said; it is never changed or freed.
    let text = unsafe { std::ffi::CStr::from_ptr(text) };
    text.to_str().unwrap_or("DPDK")
}
