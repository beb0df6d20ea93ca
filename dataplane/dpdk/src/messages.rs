//! What DPDK says of itself.
//!
//! Its messages do not go to stderr or syslog but to a small buffer; an error carries the last
//! of them, and the daemon may log the rest.

use std::ffi::c_int;
use std::io;

const ROOM: usize = 16 << 10;

/// Takes what DPDK said since the last time, oldest line first (at most the newest 16 KiB).
pub fn take() -> Vec<String> {
    let mut text = vec![0u8; ROOM];
    // SAFETY: `text` has room for `ROOM` octets, and the shim writes no more than it is told.
    let len = unsafe { dpdk_sys::shim_log_take(text.as_mut_ptr(), ROOM) };
    text.truncate(len);
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The last few lines as one, for the end of a sentence; takes them all.
pub(crate) fn last_words() -> String {
    let lines = take();
    let from = lines.len().saturating_sub(5);
    if lines.is_empty() {
        "DPDK gives no reason".into()
    } else {
        lines[from..].join("; ")
    }
}

/// A shim's answer as a result: 0 or a negative errno.
pub(crate) fn check(answer: c_int) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(answer.saturating_neg()))
    }
}

/// Whether the device merely has no such function.
pub(crate) fn not_supported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTSUP | libc::ENOSYS))
}
