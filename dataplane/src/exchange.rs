//! Frames between the workers and control: what was punted, and what control sends.
//!
//! Bounded rings, allocated at start; neither side ever waits for the other. A worker that
//! finds its ring full drops the frame and counts it; control that finds one full is told.

use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::port::{Frame, FramePool, PortId};
use crate::verdict::PuntClass;

/// Frames that one worker's ring holds in each direction.
pub const RING: usize = 512;

/// A frame for control.
#[derive(Debug)]
pub struct Punted<F> {
    /// The frame: as it came, or rewritten where it waits for `next`.
    pub frame: F,
    /// The port it came by.
    pub port: PortId,
    /// What it is.
    pub class: PuntClass,
    /// Whose MAC it waits for: the neighbour and the port it is on. Only with
    /// [`PuntClass::Unresolved`].
    pub next: Option<(PortId, IpAddr)>,
}

/// A punted frame, as control sees it: the fields are those of [`Punted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// The frame.
    pub bytes: &'a [u8],
    /// The port it came by.
    pub port: PortId,
    /// What it is.
    pub class: PuntClass,
    /// Whose MAC it waits for.
    pub next: Option<(PortId, IpAddr)>,
}

/// A frame that control wants sent.
#[derive(Debug)]
pub struct Injected<F> {
    /// The frame, complete.
    pub frame: F,
    /// The port to send it by.
    pub port: PortId,
}

/// A worker's end.
#[derive(Debug)]
pub struct WorkerEnd<F> {
    punt: Sender<Punted<F>>,
    inject: Receiver<Injected<F>>,
}

impl<F> WorkerEnd<F> {
    /// Gives a frame to control; gives it back if the ring is full or control is gone.
    #[inline]
    pub fn punt(&self, punted: Punted<F>) -> Result<(), Punted<F>> {
        self.punt.try_send(punted).map_err(TrySendError::into_inner)
    }

    /// The next frame that control wants sent.
    #[inline]
    pub fn injected(&self) -> Option<Injected<F>> {
        // To look costs less than to find nothing, which waits for all that was written before.
        match self.inject.is_empty() {
            true => None,
            false => self.inject.try_recv().ok(),
        }
    }
}

/// Why a frame of control's was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The pool has no buffer left.
    #[error("no buffer left in the pool")]
    NoBuffer,
    /// The frame does not fit into one buffer.
    #[error("the frame does not fit into one buffer")]
    TooLarge,
    /// The worker has not taken the frames before it yet.
    #[error("the worker's ring is full")]
    RingFull,
}

/// Control's end, whatever the frames are made of.
pub trait Exchange: Send {
    /// Hands at most `limit` punted frames to `take`, those of each worker in their order, and
    /// says how many there were.
    fn receive(&mut self, limit: usize, take: &mut dyn FnMut(Arrived<'_>)) -> usize;

    /// Asks a worker to send `bytes` by `port`.
    fn send(&mut self, port: PortId, bytes: &[u8]) -> Result<(), SendError>;
}

/// Control's end for frames of one kind.
#[derive(Debug)]
pub struct ControlEnd<P: FramePool> {
    punted: Vec<Receiver<Punted<P::Frame>>>,
    inject: Vec<Sender<Injected<P::Frame>>>,
    pool: P,
}

/// Makes the rings of `workers` workers: control's end and each worker's.
pub fn exchange<P: FramePool>(workers: u16, pool: P) -> (ControlEnd<P>, Vec<WorkerEnd<P::Frame>>) {
    let mut control = ControlEnd {
        punted: Vec::new(),
        inject: Vec::new(),
        pool,
    };
    let mut ends = Vec::new();
    for _ in 0..workers {
        let (punt, punted) = bounded(RING);
        let (inject, injected) = bounded(RING);
        control.punted.push(punted);
        control.inject.push(inject);
        ends.push(WorkerEnd {
            punt,
            inject: injected,
        });
    }
    (control, ends)
}

impl<P: FramePool> Exchange for ControlEnd<P> {
    fn receive(&mut self, limit: usize, take: &mut dyn FnMut(Arrived<'_>)) -> usize {
        let mut taken = 0;
        for ring in &self.punted {
            while taken < limit
                && let Ok(punted) = ring.try_recv()
            {
                take(Arrived {
                    bytes: punted.frame.bytes(),
                    port: punted.port,
                    class: punted.class,
                    next: punted.next,
                });
                taken += 1;
            }
        }
        taken
    }

    /// By the first worker: what control sends is little, and one ring keeps its order.
    fn send(&mut self, port: PortId, bytes: &[u8]) -> Result<(), SendError> {
        let mut frame = self.pool.alloc().ok_or(SendError::NoBuffer)?;
        if !frame.append(bytes.len()) {
            return Err(SendError::TooLarge);
        }
        frame.bytes_mut().copy_from_slice(bytes);
        let ring = self.inject.first().ok_or(SendError::RingFull)?;
        ring.try_send(Injected { frame, port })
            .map_err(|_| SendError::RingFull)
    }
}
