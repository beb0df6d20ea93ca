//! Frames between workers: a bounded ring for each ordered pair, one writer and one reader.
//!
//! A worker collects what it hands over during a turn and fills each ring once; it drains each
//! once a turn. A full ring is a counted drop, never a wait.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::fragments::Transport;
use crate::owner::Step;
use crate::port::{BURST, Burst, PortId, WorkerId};

/// Frames that the ring between two workers holds.
pub const RING: usize = 1024;

/// A frame on its way to the worker that owns its connection.
#[derive(Debug)]
pub struct Handed<F> {
    /// The frame, as it came.
    pub frame: F,
    /// The port it came by.
    pub port: PortId,
    /// How far it has come.
    pub step: Step,
    /// The snapshot by which it was sent here.
    pub generation: u64,
    /// What its packet's first fragment said, if it is a fragment.
    pub gathered: Option<Transport>,
}

/// One worker's ends of the rings to and from all others.
#[derive(Debug)]
pub struct Peers<F> {
    out: Vec<Option<Out<F>>>,
    back: Vec<Consumer<Handed<F>>>,
}

/// What one turn has for one other worker.
#[derive(Debug)]
struct Out<F> {
    ring: Producer<Handed<F>>,
    waiting: Burst<Handed<F>>,
}

/// The rings between `workers` workers: each one's ends, in their order.
pub fn mesh<F>(workers: u16) -> Vec<Peers<F>> {
    let peers = || Peers {
        out: Vec::new(),
        back: Vec::new(),
    };
    let mut all: Vec<Peers<F>> = (0..workers).map(|_| peers()).collect();
    for from in 0..usize::from(workers) {
        for to in 0..usize::from(workers) {
            if from == to {
                all[from].out.push(None);
                continue;
            }
            let (ring, end) = RingBuffer::new(RING);
            all[from].out.push(Some(Out {
                ring,
                waiting: Burst::new(),
            }));
            all[to].back.push(end);
        }
    }
    all
}

/// The world around one worker that has no peers: what it hands over ends here, and what is given
/// here comes to it. For who drives copies of workers one after the other.
#[derive(Debug)]
pub struct Around<F> {
    out: Vec<Consumer<Handed<F>>>,
    back: Producer<Handed<F>>,
}

/// The ends of one of `workers` workers whose peers are not there.
pub fn alone<F>(workers: u16) -> (Peers<F>, Around<F>) {
    let (back, end) = RingBuffer::new(1);
    let (out, rings) = (0..workers).map(|_| RingBuffer::new(1)).unzip();
    let peers = Peers {
        out: Vec::into_iter(out)
            .map(|ring| {
                Some(Out {
                    ring,
                    waiting: Burst::new(),
                })
            })
            .collect(),
        back: vec![end],
    };
    (peers, Around { out: rings, back })
}

impl<F> Around<F> {
    /// The frame that the worker handed over in its last turn, and to whom.
    pub fn take(&mut self) -> Option<(WorkerId, Handed<F>)> {
        let mut all = (0u16..).map(WorkerId).zip(&mut self.out);
        all.find_map(|(to, ring)| Some((to, ring.pop().ok()?)))
    }

    /// Puts a frame where the worker takes it over in its next turn, unless one waits there.
    pub fn give(&mut self, handed: Handed<F>) {
        let _ = self.back.push(handed);
    }
}

impl<F> Peers<F> {
    /// Puts a frame by for worker `to`. Says how many frames of this turn were sent on the way
    /// and how many of them found no room.
    pub fn hand(&mut self, to: WorkerId, handed: Handed<F>) -> Flushed {
        let Some(Some(out)) = self.out.get_mut(usize::from(to.0)) else {
            return Flushed {
                sent: 0,
                refused: 1,
            };
        };
        let flushed = if out.waiting.is_full() {
            out.flush()
        } else {
            Flushed::default()
        };
        out.waiting.push(handed);
        flushed
    }

    /// Sends what was put by.
    pub fn flush(&mut self) -> Flushed {
        let flushed = self.out.iter_mut().flatten().map(Out::flush);
        flushed.fold(Flushed::default(), Flushed::and)
    }

    /// Rings that frames come by.
    pub fn sources(&self) -> usize {
        self.back.len()
    }

    /// Takes up to a burst from the ring number `source`.
    pub fn take(&mut self, source: usize, mut each: impl FnMut(Handed<F>)) {
        let Some(ring) = self.back.get_mut(source) else {
            return;
        };
        let ready = ring.slots().min(BURST);
        if let Ok(chunk) = ring.read_chunk(ready) {
            chunk.into_iter().for_each(&mut each);
        }
    }
}

/// What became of frames that were put by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// In the ring.
    pub sent: u64,
    /// Dropped: no room.
    pub refused: u64,
}

impl Flushed {
    fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            refused: self.refused + other.refused,
        }
    }
}

impl<F> Out<F> {
    fn flush(&mut self) -> Flushed {
        if self.waiting.is_empty() {
            return Flushed::default();
        }
        let room = self.ring.slots().min(self.waiting.len());
        let sent = match self.ring.write_chunk_uninit(room) {
            Ok(chunk) => chunk.fill_from_iter(self.waiting.drain(..room)),
            Err(_) => 0,
        };
        let refused = self.waiting.len();
        self.waiting.clear();
        Flushed {
            sent: sent as u64,
            refused: refused as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(frame: usize) -> Handed<usize> {
        Handed {
            frame,
            port: PortId(0),
            step: Step::default(),
            generation: 0,
            gathered: None,
        }
    }

    #[test]
    fn frames_arrive_in_order_and_a_full_ring_refuses() {
        let mut peers = mesh(2);
        let mut flushed = Flushed::default();
        for n in 0..RING + 40 {
            flushed = flushed.and(peers[0].hand(WorkerId(1), handed(n)));
        }
        flushed = flushed.and(peers[0].flush());
        assert_eq!(
            flushed,
            Flushed {
                sent: RING as u64,
                refused: 40
            }
        );
        let mut got = Vec::new();
        while got.len() < RING {
            peers[1].take(0, |handed| got.push(handed.frame));
        }
        assert!(got.into_iter().eq(0..RING));
        assert_eq!(peers[0].sources(), 1);
    }

    #[test]
    fn nobody_hands_to_himself_or_to_strangers() {
        let mut peers = mesh(1);
        let refused = Flushed {
            sent: 0,
            refused: 1,
        };
        assert_eq!(peers[0].hand(WorkerId(0), handed(1)), refused);
        assert_eq!(peers[0].hand(WorkerId(9), handed(1)), refused);
    }
}
