//! Signals as something to read, not something that interrupts.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// TERM, INT: stop.
    Stop,
    /// HUP: read the configuration again.
    Reload,
}

/// TERM, INT and HUP of this process.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals in the calling thread and in all that it starts from now on, so that
    /// they can only be read. To be called before there is any other thread: one that doesn't
    /// block them would be ended by them, and the process with it.
    ///
    /// # Errors
    /// The system's.
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// The next signal that came.
    pub fn read(&mut self) -> Option<Wish> {
        let signal = self.0.read_signal().ok().flatten()?;
        let number = i32::try_from(signal.ssi_signo).ok()?;
        Some(match Signal::try_from(number) {
            Ok(Signal::SIGHUP) => Wish::Reload,
            _ => Wish::Stop,
        })
    }

    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }
}
