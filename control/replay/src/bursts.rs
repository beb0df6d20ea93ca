//! What the workers receive at one time: each a burst of one port.

use dataplane::port::PortId;

/// The bursts that are being filled.
#[derive(Debug, Default)]
pub(crate) struct Bursts {
    workers: Vec<u16>,
    /// The port and the number of frames of each of them.
    each: Vec<(PortId, usize)>,
}

impl Bursts {
    /// Nothing has come yet.
    pub(crate) fn clear(&mut self) {
        self.workers.clear();
        self.each.clear();
    }

    /// Adds a frame to the worker's burst; `false` if that has `most` already, or is of another
    /// port: a worker takes its ports in their order, not in that of the frames.
    pub(crate) fn take(&mut self, worker: u16, port: PortId, most: usize) -> bool {
        let Some(at) = self.workers.iter().position(|&known| known == worker) else {
            self.workers.push(worker);
            self.each.push((port, 1));
            return true;
        };
        let (its, count) = &mut self.each[at];
        let has_room = *its == port && *count < most;
        *count += usize::from(has_room);
        has_room
    }

    /// One frame of this worker's is all there is.
    pub(crate) fn alone(&mut self, worker: u16) {
        self.workers.push(worker);
    }

    /// Whose turn it is.
    pub(crate) fn workers(&self) -> &[u16] {
        &self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_one_workers_of_one_port() {
        let mut bursts = Bursts::default();
        let (wan, lan) = (PortId(0), PortId(1));
        let given = [(3, wan), (1, lan), (3, wan), (3, wan), (1, wan), (1, lan)];
        let taken = given.map(|(worker, port)| bursts.take(worker, port, 2));
        assert_eq!(taken, [true, true, true, false, false, true]);
        assert_eq!(bursts.workers(), [3, 1]);
        bursts.clear();
        assert!(bursts.workers().is_empty());
        assert!(bursts.take(3, lan, 1) && !bursts.take(3, lan, 1));
    }
}
