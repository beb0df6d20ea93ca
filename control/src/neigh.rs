//! ARP: answers for what is ours, and the MACs of those we send to.
//!
//! No socket in here: frames and the time go in, packets to send and MACs learned come out.
//! A neighbour is resolved when somebody wants it, ahead of traffic, and kept fresh by
//! unicast probes. Nothing that we didn't ask for creates or changes an entry: a frame that
//! names another MAC for a known neighbour only makes us ask at once, first the old MAC, then
//! everybody.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use dataplane::port::PortId;
use wire::arp::{Arp, Operation};
use wire::ethernet::Mac;
use wire::ndp::{Kind, Message};

use crate::conflict::Conflicts;
use crate::link::Packet;
use crate::topology::{Neighbour, Topology};

/// Milliseconds since the start of the process.
pub type Instant = u64;

/// How long an answer is trusted (RFC 4861 section 10, REACHABLE_TIME).
const REACHABLE_MS: u64 = 30_000;
/// Between two requests for one neighbour (RETRANS_TIMER).
const RETRY_MS: u64 = 1_000;
/// The same after a frame that named another MAC: a gateway fails over fast.
const DOUBT_MS: u64 = 200;
/// Doubts about one neighbour at most this often.
const DOUBT_EVERY_MS: u64 = 1_000;
/// Unicast probes before everybody is asked.
const UNICAST_TRIES: u32 = 3;
/// Requests to everybody before the neighbour counts as gone.
const BROADCAST_TRIES: u32 = 3;
/// The longest pause between requests for a neighbour that doesn't answer.
const SLOWEST_RETRY_MS: u64 = 4_000;
/// Requests and announcements a second, over all neighbours.
const SENDS_PER_SECOND: u64 = 1_000;
/// Of these, how many may go at once.
const SENDS_AT_ONCE: u64 = 100;
/// Announcements of an address that became ours (RFC 5227 section 2.3 wants two).
const ANNOUNCEMENTS: u32 = 3;
/// Between two of them (ANNOUNCE_INTERVAL is 2 s; a client waits for the first one only).
const ANNOUNCE_EVERY_MS: u64 = 1_000;

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet; everybody was asked this often.
    Incomplete {
        /// Requests sent.
        tries: u32,
    },
    /// It answered a short while ago.
    Reachable {
        /// Its MAC.
        mac: Mac,
    },
    /// Being asked directly whether it is still there.
    Probe {
        /// Its MAC so far.
        mac: Mac,
        /// Requests sent.
        tries: u32,
        /// A frame named another MAC.
        doubted: bool,
    },
    /// Everybody is being asked who it is now.
    Search {
        /// Its MAC so far.
        mac: Mac,
        /// Requests sent.
        tries: u32,
    },
    /// It doesn't answer; it is asked ever more rarely.
    Failed {
        /// Requests sent since.
        tries: u32,
    },
    /// The file says its MAC.
    Static {
        /// Its MAC.
        mac: Mac,
    },
}

impl State {
    /// The MAC to send to, if there is one.
    pub fn mac(&self) -> Option<Mac> {
        match *self {
            Self::Incomplete { .. } | Self::Failed { .. } => None,
            Self::Reachable { mac }
            | Self::Probe { mac, .. }
            | Self::Search { mac, .. }
            | Self::Static { mac } => Some(mac),
        }
    }

    /// The name, as `sluice status` shows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Incomplete { .. } => "incomplete",
            Self::Reachable { .. } => "reachable",
            Self::Probe { .. } => "probe",
            Self::Search { .. } => "search",
            Self::Failed { .. } => "failed",
            Self::Static { .. } => "static",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this packet.
    Send {
        /// The port to send it by.
        port: PortId,
        /// The MAC to send it to.
        to: Mac,
        /// The packet.
        packet: Packet,
    },
    /// A neighbour's MAC is known, is another one, or is not known any more.
    Learned {
        /// Which.
        neighbour: Neighbour,
        /// Its MAC.
        mac: Option<Mac>,
    },
    /// Somebody else says that one of our addresses is his.
    Conflict {
        /// The port where he says so.
        port: PortId,
        /// The address.
        address: IpAddr,
        /// His MAC.
        mac: Mac,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    state: State,
    users: usize,
    due: Option<Instant>,
    doubted_at: Option<Instant>,
    confirmed_at: Option<Instant>,
}

/// Something to do at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Ask(PortId, IpAddr),
    Announce(PortId, IpAddr, u32),
}

/// All neighbours.
#[derive(Debug)]
pub struct Neighbours {
    entries: HashMap<Neighbour, Entry>,
    due: BTreeSet<(Instant, Job)>,
    announcing: HashMap<Neighbour, (Instant, u32)>,
    actions: VecDeque<Action>,
    conflicts: Conflicts,
    /// Thousandths of a packet that may be sent now.
    allowance: u64,
    filled: Instant,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            due: BTreeSet::new(),
            announcing: HashMap::new(),
            actions: VecDeque::new(),
            conflicts: Conflicts::default(),
            allowance: SENDS_AT_ONCE * 1000,
            filled: 0,
        }
    }
}

impl Neighbours {
    /// Starts with the static neighbours.
    pub fn new(topology: &Topology) -> Self {
        let mut all = Self::default();
        for (neighbour, mac) in topology.pinned() {
            let state = State::Static { mac };
            let (users, due, doubted_at) = (1, None, None);
            all.entries.insert(
                neighbour,
                Entry {
                    state,
                    users,
                    due,
                    doubted_at,
                    confirmed_at: None,
                },
            );
        }
        all
    }

    /// Somebody sends to this neighbour from now on; gives its MAC if that is known already.
    pub fn want(&mut self, neighbour: Neighbour, now: Instant) -> Option<Mac> {
        if let Some(entry) = self.entries.get_mut(&neighbour) {
            entry.users += 1;
            return entry.state.mac();
        }
        let entry = Entry {
            state: State::Incomplete { tries: 0 },
            users: 1,
            due: None,
            doubted_at: None,
            confirmed_at: None,
        };
        self.entries.insert(neighbour, entry);
        self.schedule(neighbour, Some(now));
        None
    }

    /// One fewer sends to this neighbour; the last forgets it.
    pub fn unwant(&mut self, neighbour: Neighbour) {
        let Some(entry) = self.entries.get_mut(&neighbour) else {
            return;
        };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 {
            self.schedule(neighbour, None);
            self.entries.remove(&neighbour);
        }
    }

    /// An address became ours: tell everybody, a few times.
    pub fn announce(&mut self, port: PortId, address: IpAddr, now: Instant) {
        self.silence(port, address);
        self.announce_at(port, address, ANNOUNCEMENTS, now);
    }

    /// An address is ours no more.
    pub fn silence(&mut self, port: PortId, address: IpAddr) {
        if let Some((at, left)) = self.announcing.remove(&(port, address)) {
            self.due.remove(&(at, Job::Announce(port, address, left)));
        }
        self.conflicts.forget(&(port, address));
    }

    fn announce_at(&mut self, port: PortId, address: IpAddr, left: u32, at: Instant) {
        self.announcing.insert((port, address), (at, left));
        self.due.insert((at, Job::Announce(port, address, left)));
    }

    /// A packet came in by `port`. `ours` says whether we answer for an address there.
    pub fn received(
        &mut self,
        port: PortId,
        packet: &Packet,
        topology: &Topology,
        ours: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) {
        let Some(our_mac) = topology.port(port).map(|setup| setup.mac) else {
            return;
        };
        let said = said(packet, our_mac);
        if !said.mac.is_unicast() || said.mac == our_mac {
            return;
        }
        if !said.of.is_unspecified() && ours(said.of) {
            self.defend((port, said.of), said.mac, our_mac, now);
            return;
        }
        if packet.is_question() && ours(packet.target()) {
            let (to, packet) = reply(packet, said.mac, our_mac);
            self.actions.push_back(Action::Send { port, to, packet });
        }
        self.heard((port, said.of), said.mac, said.answers_us, now);
    }

    /// Somebody claims an address of ours: the others are told that it is ours, and the
    /// operator that there are two of us.
    fn defend(&mut self, who: Neighbour, mac: Mac, our_mac: Mac, now: Instant) {
        if self.conflicts.claimed(who, mac, now) {
            let (port, address) = who;
            let conflict = Action::Conflict { port, address, mac };
            self.actions.push_back(conflict);
            let (to, packet) = announcement(our_mac, address);
            self.send(port, to, packet);
        }
    }

    /// What a packet says of a neighbour.
    fn heard(&mut self, neighbour: Neighbour, sender: Mac, to_us: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(&neighbour) else {
            return;
        };
        if to_us && answers(&entry.state, sender) {
            self.confirm(neighbour, sender, now);
            return;
        }
        let lately = entry.doubted_at.is_some_and(|at| now < at + DOUBT_EVERY_MS);
        if let Some(mac) = trusted(&entry.state)
            && mac != sender
            && !lately
        {
            entry.doubted_at = Some(now);
            let (tries, doubted) = (0, true);
            entry.state = State::Probe {
                mac,
                tries,
                doubted,
            };
            self.schedule(neighbour, Some(now));
        }
    }

    fn confirm(&mut self, neighbour: Neighbour, mac: Mac, now: Instant) {
        let Some(entry) = self.entries.get_mut(&neighbour) else {
            return;
        };
        let news = entry.state.mac() != Some(mac);
        entry.state = State::Reachable { mac };
        entry.confirmed_at = Some(now);
        self.schedule(neighbour, Some(now + REACHABLE_MS));
        if news {
            let mac = Some(mac);
            self.actions.push_back(Action::Learned { neighbour, mac });
        }
    }

    fn schedule(&mut self, neighbour: Neighbour, at: Option<Instant>) {
        let job = Job::Ask(neighbour.0, neighbour.1);
        let Some(entry) = self.entries.get_mut(&neighbour) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut entry.due, at) {
            self.due.remove(&(before, job));
        }
        if let Some(at) = at {
            self.due.insert((at, job));
        }
    }

    /// Addresses of ours that others claim.
    pub fn conflicts(&self) -> &Conflicts {
        &self.conflicts
    }

    /// When a neighbour answered last.
    pub fn confirmed_at(&self, neighbour: &Neighbour) -> Option<Instant> {
        self.entries.get(neighbour)?.confirmed_at
    }

    /// Does what is due, as far as the rate allows; what it doesn't allow waits.
    pub fn tick(&mut self, topology: &Topology, now: Instant) {
        self.refill(now);
        self.conflicts.expire(now);
        while self.allowance >= 1000
            && let Some(&(at, job)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            match job {
                Job::Ask(port, address) => self.ask((port, address), topology, now),
                Job::Announce(port, address, left) => {
                    self.announce_now(port, address, left, topology, now);
                }
            }
        }
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_sub(self.filled) * SENDS_PER_SECOND;
        self.allowance = (self.allowance + earned).min(SENDS_AT_ONCE * 1000);
        self.filled = now;
    }

    fn announce_now(
        &mut self,
        port: PortId,
        address: IpAddr,
        left: u32,
        topology: &Topology,
        now: Instant,
    ) {
        self.announcing.remove(&(port, address));
        if let Some(setup) = topology.port(port) {
            let (to, packet) = announcement(setup.mac, address);
            self.send(port, to, packet);
        }
        if left > 1 {
            self.announce_at(port, address, left - 1, now + ANNOUNCE_EVERY_MS);
        }
    }

    fn send(&mut self, port: PortId, to: Mac, packet: Packet) {
        self.allowance = self.allowance.saturating_sub(1000);
        self.actions.push_back(Action::Send { port, to, packet });
    }

    /// A neighbour's time has come: one more request, or the next state.
    fn ask(&mut self, neighbour: Neighbour, topology: &Topology, now: Instant) {
        let Some(entry) = self.entries.get_mut(&neighbour) else {
            return;
        };
        entry.due = None;
        let before = entry.state;
        let Some((state, to, wait)) = next(before) else {
            return;
        };
        entry.state = state;
        self.schedule(neighbour, Some(now + wait));
        let (port, target) = neighbour;
        if let Some((to, packet)) = question(topology, port, target, to) {
            self.send(port, to, packet);
        }
        if before.mac().is_some() && state.mac().is_none() {
            let mac = None;
            self.actions.push_back(Action::Learned { neighbour, mac });
        }
    }

    /// The next thing to do.
    pub fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Milliseconds until something is due; `None`: nothing is.
    pub fn wait(&self, now: Instant) -> Option<u64> {
        self.due.first().map(|&(at, _)| at.saturating_sub(now))
    }

    /// What is known of one neighbour.
    pub fn state(&self, neighbour: &Neighbour) -> Option<State> {
        self.entries.get(neighbour).map(|entry| entry.state)
    }

    /// All neighbours, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Neighbour, State)> {
        let mut all: Vec<_> = self.entries.iter().map(|(&n, e)| (n, e.state)).collect();
        all.sort_by_key(|&(neighbour, _)| neighbour);
        all.into_iter()
    }
}

/// What a packet says of somebody.
struct Said {
    /// Whom.
    of: IpAddr,
    /// His MAC.
    mac: Mac,
    /// It is the answer to a question of ours.
    answers_us: bool,
}

fn said(packet: &Packet, our_mac: Mac) -> Said {
    match *packet {
        Packet::Arp(arp) => Said {
            of: arp.sender_ip.into(),
            mac: arp.sender_mac,
            answers_us: arp.operation == Operation::Reply && arp.target_mac == our_mac,
        },
        Packet::Discovery(from, message) => match message.kind {
            Kind::Solicitation { source_mac } => Said {
                of: message.src.into(),
                mac: source_mac.unwrap_or(from),
                answers_us: false,
            },
            Kind::Advertisement {
                target_mac,
                solicited,
                ..
            } => Said {
                of: message.target.into(),
                mac: target_mac.unwrap_or(from),
                answers_us: solicited,
            },
        },
    }
}

/// The answer to a question from `asker`, and where it goes: to everybody if the question was
/// an IPv6 probe (RFC 4861 section 7.2.4).
fn reply(question: &Packet, asker: Mac, our_mac: Mac) -> (Mac, Packet) {
    match question {
        Packet::Arp(arp) => (asker, Packet::Arp(arp.reply(our_mac))),
        Packet::Discovery(_, message) => {
            let answer = message.reply(our_mac, false);
            let to = if answer.dst.is_multicast() {
                Mac::multicast_v6(answer.dst)
            } else {
                asker
            };
            (to, Packet::Discovery(our_mac, answer))
        }
    }
}

/// Tells everybody that an address is ours.
fn announcement(our_mac: Mac, address: IpAddr) -> (Mac, Packet) {
    match address {
        IpAddr::V4(v4) => (Mac::BROADCAST, Packet::Arp(Arp::announcement(our_mac, v4))),
        IpAddr::V6(v6) => {
            let message = Message::announcement(our_mac, v6, false);
            let to = Mac::multicast_v6(message.dst);
            (to, Packet::Discovery(our_mac, message))
        }
    }
}

/// Asks `to` (or everybody, by broadcast) for the MAC of `target`. IPv6 has no question from
/// nobody but the probe, whose answer would be none for us: without an address on the port there
/// is none.
fn question(topology: &Topology, port: PortId, target: IpAddr, to: Mac) -> Option<(Mac, Packet)> {
    let mac = topology.port(port)?.mac;
    match (target, topology.source_for(port, target)) {
        (IpAddr::V4(target), source) => {
            let source = match source {
                Some(IpAddr::V4(source)) => source,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            Some((to, Packet::Arp(Arp::request(mac, source, target))))
        }
        (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
            let everybody = Message::solicitation(mac, source, target);
            let message = if to.is_broadcast() {
                everybody
            } else {
                Message {
                    dst: target,
                    ..everybody
                }
            };
            let to = if to.is_broadcast() {
                Mac::multicast_v6(message.dst)
            } else {
                to
            };
            Some((to, Packet::Discovery(mac, message)))
        }
        (IpAddr::V6(_), _) => None,
    }
}

/// Whether a reply from `sender` answers what we asked in `state`: a probe asked one MAC only.
fn answers(state: &State, sender: Mac) -> bool {
    match *state {
        State::Incomplete { tries } => tries > 0,
        State::Search { tries, .. } => tries > 0,
        State::Probe { mac, tries, .. } => tries > 0 && sender == mac,
        State::Failed { .. } => true,
        State::Reachable { .. } | State::Static { .. } => false,
    }
}

/// The MAC that another one puts in doubt: one that was confirmed, or is being asked at leisure.
fn trusted(state: &State) -> Option<Mac> {
    match *state {
        State::Reachable { mac }
        | State::Probe {
            mac,
            doubted: false,
            ..
        } => Some(mac),
        _ => None,
    }
}

/// What follows when an entry's time has come: the new state, whom to ask, how long to wait
/// then.
fn next(state: State) -> Option<(State, Mac, u64)> {
    let everybody = Mac::BROADCAST;
    Some(match state {
        State::Static { .. } => return None,
        State::Incomplete { tries } if tries < BROADCAST_TRIES => {
            let tries = tries + 1;
            (State::Incomplete { tries }, everybody, RETRY_MS)
        }
        State::Incomplete { .. } => (State::Failed { tries: 1 }, everybody, backoff(1)),
        State::Reachable { mac } => {
            let (tries, doubted) = (1, false);
            (
                State::Probe {
                    mac,
                    tries,
                    doubted,
                },
                mac,
                RETRY_MS,
            )
        }
        State::Probe {
            mac,
            tries: 0,
            doubted,
        } => {
            let wait = if doubted { DOUBT_MS } else { RETRY_MS };
            (
                State::Probe {
                    mac,
                    tries: 1,
                    doubted,
                },
                mac,
                wait,
            )
        }
        State::Probe {
            mac,
            tries,
            doubted: false,
        } if tries < UNICAST_TRIES => {
            let (tries, doubted) = (tries + 1, false);
            (
                State::Probe {
                    mac,
                    tries,
                    doubted,
                },
                mac,
                RETRY_MS,
            )
        }
        State::Probe { mac, .. } => (State::Search { mac, tries: 1 }, everybody, RETRY_MS),
        State::Search { mac, tries } if tries < BROADCAST_TRIES => {
            let tries = tries + 1;
            (State::Search { mac, tries }, everybody, RETRY_MS)
        }
        State::Search { .. } => (State::Failed { tries: 1 }, everybody, backoff(1)),
        State::Failed { tries } => {
            let tries = tries.saturating_add(1);
            (State::Failed { tries }, everybody, backoff(tries))
        }
    })
}

/// 2, 4, 4, ... seconds.
fn backoff(tries: u32) -> u64 {
    (RETRY_MS << tries.min(10)).min(SLOWEST_RETRY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::two_ports;
    use std::net::Ipv6Addr;

    const LAN: PortId = PortId(1);
    const OURS: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const OLD: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const NEW: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const THEM: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);
    const DIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 100);
    const WHO: Neighbour = (LAN, IpAddr::V4(THEM));

    /// Neighbours with `state` for [`WHO`], nothing due.
    fn given(state: State) -> Neighbours {
        let mut all = Neighbours::default();
        all.want(WHO, 0);
        all.schedule(WHO, None);
        all.entries.get_mut(&WHO).expect("wanted").state = state;
        all
    }

    fn hear(all: &mut Neighbours, arp: Arp, now: Instant) {
        let ours = |address| address == DIP || address == VIP;
        all.received(LAN, &Packet::Arp(arp), &two_ports(), ours, now);
    }

    fn reply(mac: Mac) -> Arp {
        Arp {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: THEM,
            target_mac: OURS,
            target_ip: DIP,
        }
    }

    /// What happened, in short: `?>MAC` for a request sent, `!MAC` for a reply sent, `=MAC`
    /// for a MAC learned, `=-` for one lost, `conflict`.
    fn happened(all: &mut Neighbours) -> String {
        let name = |mac: Mac| match mac {
            Mac::BROADCAST => "all",
            OLD => "old",
            NEW => "new",
            _ => "?",
        };
        let mut words = Vec::new();
        while let Some(action) = all.action() {
            words.push(match action {
                Action::Send {
                    to,
                    packet: Packet::Arp(arp),
                    ..
                } if arp.operation == Operation::Request => {
                    assert_eq!((arp.sender_mac, arp.target_mac), (OURS, Mac::ZERO));
                    format!("?>{}", name(to))
                }
                Action::Send { to, .. } => format!("!{}", name(to)),
                Action::Learned { mac, .. } => format!("={}", mac.map_or("-", name)),
                Action::Conflict { .. } => "conflict".to_owned(),
            });
        }
        words.join(" ")
    }

    fn probe(tries: u32, doubted: bool) -> State {
        let mac = OLD;
        State::Probe {
            mac,
            tries,
            doubted,
        }
    }

    fn search(tries: u32) -> State {
        State::Search { mac: OLD, tries }
    }

    const REACHABLE: State = State::Reachable { mac: OLD };
    const STATIC: State = State::Static { mac: OLD };

    #[test]
    fn every_state_when_its_time_has_come() {
        #[rustfmt::skip]
        let cases = [
            (State::Incomplete { tries: 0 }, State::Incomplete { tries: 1 }, "?>all",    1_000),
            (State::Incomplete { tries: 2 }, State::Incomplete { tries: 3 }, "?>all",    1_000),
            (State::Incomplete { tries: 3 }, State::Failed { tries: 1 },     "?>all",    2_000),
            (REACHABLE,                      probe(1, false),                "?>old",    1_000),
            (probe(0, true),                 probe(1, true),                 "?>old",      200),
            (probe(1, true),                 search(1),                      "?>all",    1_000),
            (probe(1, false),                probe(2, false),                "?>old",    1_000),
            (probe(2, false),                probe(3, false),                "?>old",    1_000),
            (probe(3, false),                search(1),                      "?>all",    1_000),
            (search(1),                      search(2),                      "?>all",    1_000),
            (search(3),                      State::Failed { tries: 1 },     "?>all =-", 2_000),
            (State::Failed { tries: 1 },     State::Failed { tries: 2 },     "?>all",    4_000),
            (State::Failed { tries: 99 },    State::Failed { tries: 100 },   "?>all",    4_000),
        ];
        for (before, after, did, wait) in cases {
            let mut all = given(before);
            all.schedule(WHO, Some(50));
            all.tick(&two_ports(), 49);
            assert_eq!(happened(&mut all), "", "{before:?}: too early");
            all.tick(&two_ports(), 50);
            assert_eq!(happened(&mut all), did, "{before:?}");
            assert_eq!(all.state(&WHO), Some(after), "{before:?}");
            assert_eq!(all.wait(50), Some(wait), "{before:?}");
        }
        assert_eq!(next(STATIC), None);
    }

    #[test]
    fn every_state_when_a_reply_to_us_comes() {
        let reachable = |mac| State::Reachable { mac };
        #[rustfmt::skip]
        let cases = [
            ("not asked yet",     State::Incomplete { tries: 0 }, NEW, State::Incomplete { tries: 0 }, ""),
            ("asked",             State::Incomplete { tries: 1 }, NEW, reachable(NEW), "=new"),
            ("gone",              State::Failed { tries: 3 },     NEW, reachable(NEW), "=new"),
            ("the same, unasked", REACHABLE,                      OLD, REACHABLE,      ""),
            ("another, unasked",  REACHABLE,                      NEW, probe(0, true), ""),
            ("the one asked",     probe(1, false),                OLD, REACHABLE,      ""),
            ("not the one asked", probe(1, false),                NEW, probe(0, true), ""),
            ("asked in doubt",    probe(1, true),                 OLD, REACHABLE,      ""),
            ("doubted again",     probe(1, true),                 NEW, probe(1, true), ""),
            ("everybody asked",   search(1),                      OLD, REACHABLE,      ""),
            ("failed over",       search(1),                      NEW, reachable(NEW), "=new"),
            ("static",            STATIC,                         NEW, STATIC,         ""),
        ];
        for (name, before, from, after, did) in cases {
            let mut all = given(before);
            hear(&mut all, reply(from), 1_000);
            assert_eq!(all.state(&WHO), Some(after), "{name}");
            assert_eq!(happened(&mut all), did, "{name}");
        }
    }

    #[test]
    fn what_we_did_not_ask_for_changes_nothing_or_makes_us_ask() {
        let states = [
            State::Incomplete { tries: 1 },
            probe(1, true),
            search(1),
            State::Failed { tries: 1 },
            STATIC,
        ];
        let gratuitous = Arp::announcement(NEW, THEM);
        let to_somebody = Arp {
            target_mac: NEW,
            ..reply(NEW)
        };
        let for_somebody = Arp::request(NEW, THEM, Ipv4Addr::new(10, 1, 0, 50));
        for arp in [gratuitous, to_somebody, for_somebody] {
            for state in states {
                let mut all = given(state);
                hear(&mut all, arp, 1_000);
                assert_eq!(all.state(&WHO), Some(state), "{arp:?}");
                assert_eq!(happened(&mut all), "", "{arp:?}");
            }
            for state in [REACHABLE, probe(2, false)] {
                let mut all = given(state);
                hear(&mut all, arp, 1_000);
                assert_eq!(all.state(&WHO), Some(probe(0, true)), "{arp:?}");
                all.tick(&two_ports(), 1_000);
                assert_eq!(happened(&mut all), "?>old", "asked at once");
            }
        }
        let mut nobody = Neighbours::default();
        hear(&mut nobody, reply(NEW), 0);
        hear(&mut nobody, gratuitous, 0);
        assert_eq!(nobody.iter().count(), 0);
    }

    #[test]
    fn a_gateway_that_fails_over_is_found_within_half_a_second() {
        let mut all = given(REACHABLE);
        hear(&mut all, Arp::announcement(NEW, THEM), 10_000);
        all.tick(&two_ports(), 10_000);
        all.tick(&two_ports(), 10_200);
        assert_eq!(happened(&mut all), "?>old ?>all");
        hear(&mut all, reply(NEW), 10_210);
        assert_eq!(happened(&mut all), "=new");
    }

    #[test]
    fn doubts_are_rare() {
        let mut all = given(REACHABLE);
        for now in [5_000, 5_010, 5_020] {
            hear(&mut all, Arp::announcement(NEW, THEM), now);
            all.tick(&two_ports(), now);
            hear(&mut all, reply(OLD), now);
        }
        assert_eq!(
            happened(&mut all),
            "?>old",
            "one probe for three lies in 20 ms"
        );
        assert_eq!(all.state(&WHO), Some(REACHABLE));
    }

    #[test]
    fn questions_about_us() {
        let ask = |target| Arp::request(NEW, THEM, target);
        #[rustfmt::skip]
        let cases = [
            ("the director",          ask(DIP),                          "!new"),
            ("a held VIP",            ask(VIP),                          "!new"),
            ("somebody else",         ask(Ipv4Addr::new(10, 1, 0, 77)),  ""),
            ("a probe for our VIP",   Arp::probe(NEW, VIP),              "!new"),
            ("who claims our VIP",    Arp::announcement(NEW, VIP),       "conflict ?>all"),
            ("from our own MAC",      Arp::request(OURS, THEM, VIP),     ""),
            ("from a group's MAC",    Arp::request(Mac::BROADCAST, THEM, VIP), ""),
            ("a reply for our VIP",   Arp { target_ip: VIP, ..reply(NEW) },    ""),
        ];
        for (name, arp, did) in cases {
            let mut all = Neighbours::default();
            hear(&mut all, arp, 0);
            assert_eq!(happened(&mut all), did, "{name}");
            assert_eq!(
                all.iter().count(),
                0,
                "{name}: nobody is learned from a question"
            );
        }
        let mut all = Neighbours::default();
        all.received(PortId(7), &Packet::Arp(ask(VIP)), &two_ports(), |_| true, 0);
        assert_eq!(happened(&mut all), "", "no such port");
    }

    #[test]
    fn an_address_is_announced_a_few_times_and_not_after_it_went() {
        let mut all = Neighbours::default();
        all.announce(LAN, VIP.into(), 0);
        let announced = |all: &mut Neighbours, until| {
            (0..until).for_each(|ms| all.tick(&two_ports(), ms * 10));
            happened(all)
        };
        assert_eq!(announced(&mut all, 1_000), "?>all ?>all ?>all");
        assert_eq!(all.wait(0), None);
        all.announce(LAN, VIP.into(), 20_000);
        all.announce(LAN, VIP.into(), 20_000);
        all.silence(LAN, VIP.into());
        all.tick(&two_ports(), 30_000);
        assert_eq!(happened(&mut all), "");
    }

    #[test]
    fn ten_thousand_neighbours_are_asked_at_a_bounded_rate() {
        let mut all = Neighbours::default();
        for low in 0..10_000u32 {
            let address = Ipv4Addr::from_bits(0x0a01_2000 + low);
            all.want((LAN, IpAddr::V4(address)), 0);
        }
        let mut sent = 0;
        for now in 0..=1_000 {
            all.tick(&two_ports(), now);
            while all.action().is_some() {
                sent += 1;
            }
        }
        assert!(
            (1_000..=1_200).contains(&sent),
            "{sent} in the first second"
        );
    }

    #[test]
    fn a_neighbour_is_kept_while_somebody_wants_it() {
        let mut all = given(REACHABLE);
        assert_eq!(all.want(WHO, 0), Some(OLD), "known at once");
        all.unwant(WHO);
        assert_eq!(all.state(&WHO), Some(REACHABLE));
        all.unwant(WHO);
        assert_eq!(all.state(&WHO), None);
        assert_eq!(all.wait(0), None);
        all.unwant(WHO);
    }

    #[test]
    fn static_neighbours_are_there_from_the_start() {
        let mut all = Neighbours::new(&two_ports());
        let pinned = (LAN, IpAddr::from([172, 16, 0, 1]));
        assert_eq!(all.want(pinned, 0), Some(Mac([2, 9, 9, 9, 9, 9])));
        all.unwant(pinned);
        assert!(all.state(&pinned).is_some());
        assert_eq!(all.wait(0), None, "nobody asks");
    }

    const WHO6: Neighbour = (LAN, IpAddr::V6(THEM6));
    const THEM6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 9);
    const DIP6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 2);
    const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 0x100);

    fn hear6(all: &mut Neighbours, from: Mac, message: Message, now: Instant) {
        let ours = |address| address == DIP6 || address == VIP6;
        let packet = Packet::Discovery(from, message);
        all.received(LAN, &packet, &two_ports(), ours, now);
    }

    fn sent6(all: &mut Neighbours) -> Vec<(Mac, Message)> {
        let mut sent = Vec::new();
        while let Some(action) = all.action() {
            if let Action::Send {
                to,
                packet: Packet::Discovery(from, message),
                ..
            } = action
            {
                assert_eq!(from, OURS);
                sent.push((to, message));
            }
        }
        sent
    }

    #[test]
    fn an_ipv6_neighbour_is_asked_in_its_group_and_then_directly() {
        let mut all = Neighbours::default();
        assert_eq!(all.want(WHO6, 0), None);
        all.tick(&two_ports(), 0);
        let group = Mac([0x33, 0x33, 0xff, 0, 0, 9]);
        let asked = Message::solicitation(OURS, DIP6, THEM6);
        assert_eq!(sent6(&mut all), [(group, asked)]);
        let unasked = Message::announcement(OLD, THEM6, false);
        hear6(&mut all, OLD, unasked, 1);
        assert_eq!(all.state(&WHO6), Some(State::Incomplete { tries: 1 }));
        hear6(&mut all, OLD, asked.reply(OLD, false), 2);
        assert_eq!(all.state(&WHO6), Some(REACHABLE));
        assert_eq!(happened(&mut all), "=old");
        all.tick(&two_ports(), 2 + REACHABLE_MS);
        let probe = Message {
            dst: THEM6,
            ..asked
        };
        assert_eq!(sent6(&mut all), [(OLD, probe)]);
        hear6(
            &mut all,
            NEW,
            Message::announcement(NEW, THEM6, false),
            40_000,
        );
        all.tick(&two_ports(), 40_000);
        assert_eq!(
            sent6(&mut all),
            [(OLD, probe)],
            "doubted: the old MAC first"
        );
    }

    #[test]
    fn ipv6_questions_about_us() {
        let mut all = Neighbours::default();
        let asked = Message::solicitation(NEW, THEM6, VIP6);
        hear6(&mut all, NEW, asked, 0);
        assert_eq!(sent6(&mut all), [(NEW, asked.reply(OURS, false))]);
        let probe = Message::probe(VIP6);
        hear6(&mut all, NEW, probe, 0);
        let everybody = Mac([0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(sent6(&mut all), [(everybody, probe.reply(OURS, false))]);
        hear6(&mut all, NEW, Message::solicitation(NEW, THEM6, THEM6), 0);
        assert_eq!(sent6(&mut all), []);
        hear6(&mut all, NEW, Message::announcement(NEW, VIP6, false), 0);
        let told = Message::announcement(OURS, VIP6, false);
        assert_eq!(
            sent6(&mut all),
            [(everybody, told)],
            "ours, and that is that"
        );
        assert_eq!(all.conflicts().iter().count(), 1);
        hear6(
            &mut all,
            NEW,
            Message::announcement(NEW, VIP6, false),
            9_999,
        );
        assert_eq!(sent6(&mut all), [], "not all the time");
        all.announce(LAN, VIP6.into(), 0);
        all.tick(&two_ports(), 0);
        assert_eq!(sent6(&mut all), [(everybody, told)]);
    }
}
