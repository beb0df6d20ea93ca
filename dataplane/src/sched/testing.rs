//! A service whose real servers are letters, and its picks as a word.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::port::WorkerId;
use crate::services::ServiceId;

/// The clients, and the destinations, of reference B.16.
pub(crate) const CLIENTS: [Ipv4Addr; 8] = [
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv4Addr::new(192, 0, 2, 3),
    Ipv4Addr::new(192, 0, 2, 4),
    Ipv4Addr::new(198, 51, 100, 7),
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv4Addr::new(172, 16, 5, 5),
    Ipv4Addr::new(10, 99, 1, 2),
];
pub(crate) const PORT: Flags = Flags {
    fallback: false,
    port: true,
};
pub(crate) const FALLBACK: Flags = Flags {
    fallback: true,
    port: false,
};

/// The address of the real server in a slot: a is 10.1.0.1.
pub(crate) fn address(slot: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, slot + 1).into()
}

pub(crate) struct Letters {
    service: Service,
    flags: Flags,
    workers: u16,
    last_weights: [u32; 26],
    own: ServiceBlock,
    pub(crate) blocks: Blocks,
    reals: Pages<Real>,
    memory: Memory,
    pub(crate) now: Millis,
}

impl Letters {
    /// Real servers a, b, c... added in that order.
    pub(crate) fn new(kind: Kind, weights: &[u32]) -> Self {
        Self::with(kind, Flags::default(), weights)
    }

    pub(crate) fn with(kind: Kind, flags: Flags, weights: &[u32]) -> Self {
        Self::made(0, 1, kind, flags, weights)
    }

    /// As one of several workers sees it.
    pub(crate) fn of_worker(worker: u16, workers: u16, kind: Kind, weights: &[u32]) -> Self {
        Self::made(worker, workers, kind, Flags::default(), weights)
    }

    fn made(worker: u16, workers: u16, kind: Kind, flags: Flags, weights: &[u32]) -> Self {
        let now = Millis(u32::MAX - 100_000);
        let mut blocks = Blocks::default();
        blocks.reals.grow(26);
        blocks.others.grow(26);
        let scheduler = Scheduler::prepare(None, &spec(kind, flags, workers, 1, &[]));
        let service = Service::new(ServiceId(0), 1, scheduler, [].into());
        let mut letters = Self {
            service,
            flags,
            workers,
            last_weights: [0; 26],
            own: ServiceBlock::default(),
            blocks,
            reals: Pages::default(),
            memory: Memory::new(WorkerId(worker), 1, now),
            now,
        };
        for (slot, &weight) in (0..).zip(weights) {
            letters.add(slot, weight);
        }
        letters
    }

    /// Case B15: a has 10 active, b 9 and 300 inactive, c 20 and twice the weight.
    pub(crate) fn uneven(kind: Kind) -> Self {
        let letters = Self::new(kind, &[1, 1, 2]);
        letters.load(b'a', 10, 0);
        letters.load(b'b', 9, 300);
        letters.load(b'c', 20, 0);
        letters
    }

    /// Case B16: b is overloaded; a has 5 active, c 6.
    pub(crate) fn one_overloaded(kind: Kind) -> Self {
        let letters = Self::new(kind, &[1, 1, 1]);
        letters.load(b'a', 5, 0);
        letters.load(b'c', 6, 0);
        letters.overload(b'b', true);
        letters
    }

    /// Case B17: c has weight 0; a has 1 active.
    pub(crate) fn newest_quiesced(kind: Kind) -> Self {
        let letters = Self::new(kind, &[1, 1, 0]);
        letters.load(b'a', 1, 0);
        letters
    }

    /// The same service with copies of all that it counts and remembers of its one destination.
    pub(crate) fn detached(&self) -> Self {
        let destination = [u64::from(CLIENTS[1].to_bits()), 0];
        let recall = self.memory.recall(Some((&self.service, destination)));
        let mut memory = Memory::new(self.memory.worker, 99, self.now);
        memory.adopt(&recall, self.now);
        let all: Vec<RealId> = (0..26).map(RealId).collect();
        Self {
            service: self.service.clone(),
            own: self.own.clone(),
            blocks: self.blocks.detached(&[], &all),
            reals: self.reals.clone(),
            memory,
            ..*self
        }
    }

    pub(crate) fn add(&mut self, slot: u32, weight: u32) {
        let newest = self.service.candidates.first();
        let order = newest.map_or(0, |newest| newest.order + 1);
        let candidate = Candidate {
            real: RealId(slot),
            weight,
            order,
        };
        self.edit(|all| all.insert(0, candidate));
    }

    pub(crate) fn set_weight(&mut self, letter: u8, weight: u32) {
        let slot = u32::from(letter - b'a');
        self.edit(|all| {
            let it = all.iter_mut().find(|c| c.real.0 == slot);
            it.expect("a letter of it").weight = weight;
        });
    }

    pub(crate) fn remove(&mut self, letter: u8) {
        self.edit(|all| all.retain(|c| c.real.0 != u32::from(letter - b'a')));
    }

    fn edit(&mut self, change: impl FnOnce(&mut Vec<Candidate>)) {
        let mut all = std::mem::take(&mut self.service.candidates).into_vec();
        change(&mut all);
        self.service.candidates = all.into();
        self.change_to(self.service.scheduler.kind());
    }

    /// Edits the service.
    pub(crate) fn change_to(&mut self, kind: Kind) {
        let mut backends = Vec::new();
        for candidate in &self.service.candidates {
            let slot = u8::try_from(candidate.real.0).expect("a letter");
            let last_weight = &mut self.last_weights[usize::from(slot)];
            if candidate.weight > 0 {
                *last_weight = candidate.weight;
            }
            backends.push(Backend {
                address: address(slot),
                port: 80,
                weight: candidate.weight,
                last_weight: *last_weight,
            });
        }
        self.service.revision += 1;
        let revision = self.service.revision;
        let spec = spec(kind, self.flags, self.workers, revision, &backends);
        self.service.scheduler = Scheduler::prepare(Some(&self.service.scheduler), &spec);
    }

    /// The choice for one client and destination, which becomes an active connection.
    pub(crate) fn ask(&mut self, source: Ipv4Addr, port: u16, destination: Ipv4Addr) -> char {
        let ask = self.asked(source, port, destination);
        let Self {
            service,
            own,
            blocks,
            reals,
            memory,
            ..
        } = self;
        let Some(candidate) = pick(service, own, blocks, reals, &ask, memory) else {
            return '-';
        };
        let block = blocks.reals.get(candidate.real.0).expect("grown");
        block.active.up();
        letter(candidate)
    }

    fn asked(&self, source: Ipv4Addr, port: u16, destination: Ipv4Addr) -> Ask<u32> {
        Ask {
            source: source.to_bits(),
            source_port: port,
            destination: destination.to_bits(),
            now: self.now,
        }
    }

    /// The buckets that one client's packet to a destination is led to.
    pub(crate) fn buckets(
        &self,
        source: Ipv4Addr,
        port: u16,
        destination: Ipv4Addr,
    ) -> Vec<Bucket> {
        let ask = self.asked(source, port, destination);
        buckets(&self.service, &self.blocks, &ask)
    }

    /// The choices for one client again and again; `-` is none.
    pub(crate) fn picks(&mut self, n: usize) -> String {
        (0..n)
            .map(|_| self.ask(CLIENTS[0], 40_000, CLIENTS[1]))
            .collect()
    }

    /// Who is likely the next after a letter, where its client is known or not.
    pub(crate) fn likely_next(&self, last: &str, known: bool) -> Option<char> {
        let ask = known.then(|| self.asked(CLIENTS[0], 40_000, CLIENTS[1]));
        Some(letter(self.likely_after(last)?.next(ask.as_ref())?))
    }

    /// Who are likely the next few.
    pub(crate) fn likely(&self, last: &str, n: usize) -> String {
        let mut likely = self.likely_after(last).expect("one of them");
        let ask = self.asked(CLIENTS[0], 40_000, CLIENTS[1]);
        (0..n)
            .filter_map(|_| Some(letter(likely.next(Some(&ask))?)))
            .collect()
    }

    fn likely_after(&self, last: &str) -> Option<Likely<'_>> {
        let slot = u32::from(last.as_bytes().first()? - b'a');
        let mut all = self.service.candidates.iter();
        let last = all.find(|other| other.real.0 == slot)?;
        Some(Likely::after(&self.service, last))
    }

    /// The choices for the eight clients, whose ports go up from 40000.
    pub(crate) fn by_source(&mut self) -> String {
        let clients = (40_000..).zip(CLIENTS);
        clients
            .map(|(port, client)| self.ask(client, port, CLIENTS[0]))
            .collect()
    }

    /// The choices for the eight addresses as destinations.
    pub(crate) fn by_destination(&mut self) -> String {
        let all = CLIENTS.into_iter();
        all.map(|destination| self.ask(CLIENTS[0], 40_000, destination))
            .collect()
    }

    /// Lets the worker's turns go on for so long.
    pub(crate) fn pass_minutes(&mut self, minutes: u32) {
        for _ in 0..minutes {
            self.now = self.now.plus(60_000);
            self.memory.expire(self.now, Expirations::default(), 16);
        }
    }

    pub(crate) fn load(&self, letter: u8, active: u32, inactive: u32) {
        let block = self.block(letter);
        block.active.set(active);
        block.inactive.set(inactive);
    }

    pub(crate) fn overload(&self, letter: u8, on: bool) {
        self.block(letter).overloaded.set(u32::from(on));
    }

    pub(crate) fn block(&self, letter: u8) -> &crate::services::RealBlock {
        let slot = u32::from(letter - b'a');
        self.blocks.reals.get(slot).expect("grown")
    }
}

fn letter(candidate: &Candidate) -> char {
    char::from(b'a' + u8::try_from(candidate.real.0).expect("a letter"))
}

fn spec(kind: Kind, flags: Flags, workers: u16, revision: u64, backends: &[Backend]) -> Spec<'_> {
    Spec {
        kind,
        flags,
        mh_size: mh::Size::DEFAULT,
        workers,
        revision,
        backends,
    }
}
