//! Making a worker's thread known to DPDK.
//!
//! A thread without an lcore id has no cache in the pools: 33 ns a buffer instead of 7.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::eal::{Handle, Runtime};
use crate::messages;

/// Why a thread was not registered.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// It has an lcore id: it is EAL's main thread, or was registered before.
    #[error("this thread is registered with DPDK already, as lcore {lcore}")]
    Already {
        /// Its number.
        lcore: u32,
    },
    /// EAL refuses.
    #[error("DPDK does not take this thread: {reason} ({said}); it knows at most 128 at a time")]
    Refused {
        /// Why.
        reason: io::Error,
        /// EAL's last messages.
        said: String,
    },
}

/// The calling thread is known to DPDK until this is dropped; stays on its thread.
#[derive(Debug)]
pub struct Registration {
    lcore: u32,
    /// EAL's memory, in which the thread's caches lie.
    _runtime: Arc<Runtime>,
    /// Not `Send`: dropping it elsewhere would unregister the wrong thread.
    _thread: PhantomData<*mut ()>,
}

impl Handle {
    /// Registers the calling thread. Pin it first: DPDK notes where it runs.
    ///
    /// # Errors
    /// It is registered already, or there are too many.
    pub fn register_thread(&self) -> Result<Registration, ThreadError> {
        if let Some(lcore) = lcore_id() {
            return Err(ThreadError::Already { lcore });
        }
        // SAFETY: EAL runs (`self` proves it), and this thread has no lcore id yet.
        let answer = unsafe { dpdk_sys::shim_thread_register() };
        let refuse = |reason| ThreadError::Refused {
            reason,
            said: messages::last_words(),
        };
        messages::check(answer).map_err(refuse)?;
        let Some(lcore) = lcore_id() else {
            return Err(refuse(io::Error::other("it gave no lcore id")));
        };
        Ok(Registration {
            lcore,
            _runtime: Arc::clone(&self.0),
            _thread: PhantomData,
        })
    }
}

impl Registration {
    /// The thread's lcore id.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: this is the thread that was registered (the type is not `Send`), and EAL still
        // runs (`_runtime`).
        unsafe { dpdk_sys::shim_thread_unregister() };
    }
}

fn lcore_id() -> Option<u32> {
    // SAFETY: reads a thread-local number.
    let lcore = unsafe { dpdk_sys::shim_lcore_id() };
    (lcore != dpdk_sys::NO_LCORE).then_some(lcore)
}
