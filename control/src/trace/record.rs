//! Notes of what one frame hears on its way.

use std::net::IpAddr;

use dataplane::conn::{Address, Key};
use dataplane::memory::Buffer;
use dataplane::observe::{Declined, Ended, Event, Known, Shown, Template};
use dataplane::owner::Fields;
use dataplane::parse::{Packet, Parsed, Parses};
use dataplane::port::{Frame, PortId};
use dataplane::sched::{Ask, Bucket, Standing, buckets, standings};
use dataplane::services::{By, Owned, RealId, ServiceId, Snapshot, Towards};
use dataplane::time::Millis;
use dataplane::verdict::Verdict;
use wire::tcp::Flags;

/// One thing that was found out, or done.
#[derive(Clone, Debug)]
pub enum Step {
    /// A worker took the frame in.
    Begins {
        /// Which.
        worker: u16,
        /// The frame as it then was.
        frame: Vec<u8>,
    },
    /// What it is.
    Parsed(Read),
    /// Its connection ended first.
    Ended(Ended, Shown),
    /// No connection has its tuple.
    NoConnection,
    /// A service was looked for.
    Tried {
        /// By what.
        by: By,
        /// IP protocol number.
        protocol: u8,
        /// The address and port that the packet is for.
        destination: (IpAddr, u16),
        /// What was found.
        found: Option<ServiceId>,
    },
    /// The service has no use for it.
    Declined(Declined),
    /// A service takes it.
    Service {
        /// Which.
        id: ServiceId,
        /// What of a packet says which worker owns its connection.
        fields: Fields,
    },
    /// The client's template was looked for.
    Template(Remembered),
    /// The scheduler was asked.
    Scheduled {
        /// For this service.
        service: ServiceId,
        /// What it saw, newest real server first.
        standings: Vec<Standing>,
        /// The buckets that led to it, where it goes by those: the last one counts.
        buckets: Vec<Bucket>,
        /// Its choice.
        chosen: Option<RealId>,
    },
    /// It opened a connection.
    Opened,
    /// It belongs to a connection, which was like this before.
    Connection {
        /// Whether it came from the real server.
        from_real: bool,
        /// The connection.
        shown: Shown,
    },
    /// What the connection is like now.
    Moved(Shown),
    /// The way it takes.
    Way {
        /// The next hop.
        towards: Towards,
        /// The link's MTU in octets.
        mtu: u16,
    },
    /// What becomes of it.
    Decided {
        /// The verdict.
        verdict: Verdict,
        /// The frame as it is now.
        frame: Vec<u8>,
    },
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// A packet of a flow.
    Flow {
        /// IP protocol number.
        protocol: u8,
        /// Where it comes from.
        source: (IpAddr, u16),
        /// Where it goes.
        destination: (IpAddr, u16),
        /// TCP's control bits.
        flags: Flags,
        /// What its destination is to us.
        owned: Option<Owned>,
        /// Its firewall mark; 0: none.
        mark: u32,
    },
    /// A fragment.
    Fragment,
    /// IP without a flow of its own.
    Other {
        /// Where it goes.
        destination: IpAddr,
        /// What that is to us.
        owned: Option<Owned>,
    },
    /// Nothing that anybody needs to look at further.
    Decided(Verdict),
}

/// What became of the search for a client's template.
#[derive(Clone, Copy, Debug)]
pub enum Remembered {
    /// There is none.
    None,
    /// Its time was up.
    Over,
    /// Its real server may not be had any more.
    Invalid(Shown),
    /// There is one.
    Live(Shown),
}

/// A packet's protocol, where it comes from and where it goes.
pub(super) type Tuple = (u8, (IpAddr, u16), (IpAddr, u16));

/// The notes of one frame.
#[derive(Debug)]
pub struct Recorder {
    snapshot: Snapshot,
    port: PortId,
    now: Millis,
    /// The worker whose turn it is, and the one that had the frame last.
    turn: u16,
    worker: u16,
    pub(super) steps: Vec<Step>,
    pub(super) verdict: Option<Verdict>,
}

impl Recorder {
    /// Ready for the frame that comes in by `port` to workers that run with `snapshot`.
    pub fn new(snapshot: Snapshot, port: PortId, now: Millis) -> Self {
        Self {
            snapshot,
            port,
            now,
            turn: 0,
            worker: 0,
            steps: Vec::new(),
            verdict: None,
        }
    }

    /// The port by which the frame came in.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// What the real server's answer to a connection that was opened here looks like, where that
    /// has a local port of its own.
    pub(super) fn reply_expected(&self) -> Option<Tuple> {
        let opened = self.steps.iter().any(|it| matches!(it, Step::Opened));
        let mut shown = self.steps.iter().filter_map(|it| match it {
            Step::Connection { shown, .. } => Some(shown),
            _ => None,
        });
        let shown = shown.next_back().filter(|_| opened)?;
        let lent = shown.local != shown.client;
        lent.then_some((shown.protocol, shown.real, shown.local))
    }

    /// The worker that had the frame last.
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// From now on it is this worker's turn.
    pub fn turn_of(&mut self, worker: u16) {
        self.turn = worker;
    }

    /// Notes what the frame, which is `buffer` now, hears.
    pub fn note(&mut self, event: Event<'_>, buffer: &Buffer) {
        self.worker = self.turn;
        let now = self.now;
        let show = |known: &dyn Known| known.show(now);
        let step = match event {
            Event::Begins => return self.begin(buffer),
            Event::Ended(why, known) => Step::Ended(why, show(known)),
            Event::Tried {
                by,
                protocol,
                destination,
                found,
            } => {
                self.no_connection();
                Step::Tried {
                    by,
                    protocol,
                    destination,
                    found,
                }
            }
            Event::Declined(why) => Step::Declined(why),
            Event::Service(id) => match self.snapshot.services.get(id.0) {
                Some(service) => Step::Service {
                    id,
                    fields: service.owners.current().1,
                },
                None => return,
            },
            Event::Template(template) => Step::Template(match template {
                Template::None => Remembered::None,
                Template::Over => Remembered::Over,
                Template::Invalid(known) => Remembered::Invalid(show(known)),
                Template::Live(known) => Remembered::Live(show(known)),
            }),
            Event::Choosing {
                service,
                client,
                destination,
            } => self.choosing(service, client, destination),
            Event::Chosen(real) => return self.chosen(real),
            Event::Opened => Step::Opened,
            Event::Connection { side, known, .. } => Step::Connection {
                from_real: side == dataplane::conn::Side::Real,
                shown: show(known),
            },
            Event::Moved(known) => Step::Moved(show(known)),
            Event::Way { towards, mtu } => Step::Way { towards, mtu },
            Event::Decided(verdict) => {
                if !matches!(verdict, Verdict::HandOver(..)) {
                    self.verdict = Some(verdict);
                }
                let frame = buffer.bytes().to_vec();
                Step::Decided { verdict, frame }
            }
        };
        // An established connection is told of when its packet is on its way already.
        let way = matches!(self.steps.last(), Some(Step::Way { .. }));
        match step {
            Step::Connection { .. } | Step::Moved(_) if way => {
                self.steps.insert(self.steps.len() - 1, step);
            }
            step => self.steps.push(step),
        }
    }

    fn begin(&mut self, buffer: &Buffer) {
        let first = self.steps.is_empty();
        self.steps.push(Step::Begins {
            worker: self.worker,
            frame: buffer.bytes().to_vec(),
        });
        if first {
            let read = self.read(buffer);
            self.steps.push(Step::Parsed(read));
        }
    }

    /// Once a look-up: the first service that is tried says that the table had nothing.
    fn no_connection(&mut self) {
        let fresh = |step: &Step| {
            !matches!(
                step,
                Step::Tried { .. } | Step::Ended(..) | Step::NoConnection
            )
        };
        if self.steps.last().is_none_or(fresh) {
            self.steps.push(Step::NoConnection);
        }
    }

    /// The worker's own parser, once more.
    fn read(&self, buffer: &Buffer) -> Read {
        let mut parses = Parses::default();
        let view = self.snapshot.ports.get(usize::from(self.port.0));
        parses.push(buffer, view, None);
        match parses.frames.first() {
            Some(Parsed::V4(packet)) => self.flow(packet),
            Some(Parsed::V6(place)) => self.flow(&parses.v6[usize::from(*place)]),
            Some(Parsed::Fragment(_)) | None => Read::Fragment,
            Some(&Parsed::Other { destination, .. }) => Read::Other {
                destination,
                owned: self.snapshot.addresses.get(destination),
            },
            Some(&Parsed::Decided(verdict)) => Read::Decided(verdict),
        }
    }

    fn flow<A: Address>(&self, packet: &Packet<A>) -> Read {
        let Key {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
        } = packet.key;
        Read::Flow {
            protocol,
            source: (source.to_ip(), source_port),
            destination: (destination.to_ip(), destination_port),
            flags: packet.flags,
            owned: self.snapshot.addresses.get(destination.to_ip()),
            mark: self.snapshot.marks.of(&packet.key, self.port),
        }
    }

    fn choosing(&self, service: ServiceId, client: (IpAddr, u16), destination: IpAddr) -> Step {
        let known = self.snapshot.services.get(service.0);
        let blocks = self.snapshot.blocks.get(usize::from(self.worker));
        let mut step = (Vec::new(), Vec::new());
        if let Some((known, own)) = known.zip(blocks) {
            step.0 = standings(known, own).collect();
            step.1 = match (client.0, destination) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    let key = key(from.to_bits(), client.1, to.to_bits());
                    buckets(known, own, &Ask::of(&key, self.now))
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let key = key(from.to_bits(), client.1, to.to_bits());
                    buckets(known, own, &Ask::of(&key, self.now))
                }
                _ => Vec::new(),
            };
        }
        let (standings, buckets) = step;
        Step::Scheduled {
            service,
            standings,
            buckets,
            chosen: None,
        }
    }

    fn chosen(&mut self, real: Option<RealId>) {
        if let Some(Step::Scheduled { chosen, .. }) = self.steps.last_mut() {
            *chosen = real;
        }
    }
}

/// As much of a client's tuple as a scheduler looks at.
fn key<A>(source: A, source_port: u16, destination: A) -> Key<A> {
    Key {
        source,
        destination,
        source_port,
        destination_port: 0,
        protocol: 0,
    }
}
