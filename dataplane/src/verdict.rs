//! One packet, one verdict, one counter.
//!
//! Every frame that a worker takes in ends in exactly one [`Verdict`]. Per worker, always:
//! `rx + handed_in + injected + released = transmit + punt + handed_out + held + sum(drop)`.
//! Frames of our own making (ICMP errors, say) count apart: `made = made_sent + made_dropped`.

use crate::counter::{Counter, Gauge};
use crate::durations::Durations;
use crate::owner::Step;
use crate::port::{PortId, WorkerId};
use crate::services::Towards;

/// The one way a packet leaves the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten; to be sent by this port.
    Transmit(PortId),
    /// For control, and perhaps the kernel.
    Punt(PuntClass),
    /// Rewritten, but the MAC of where it goes is not known: control finds it and sends.
    Resolve(Towards),
    /// For another worker, which may own its connection; with the way it has come.
    HandOver(WorkerId, Step),
    /// Gone, for this reason.
    Drop(Reason),
}

/// What a punted frame is. Each class and worker has a token bucket of its own, so that a
/// flood of one never silences another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PuntClass {
    /// ARP and IPv6 neighbour discovery.
    Neighbour,
    /// VRRP (protocol 112).
    Vrrp,
    /// OSPF (protocol 89), BGP (TCP port 179) and BFD (UDP ports 3784, 3785, 4784).
    Routing,
    /// Everything else for an address of the director.
    Local,
    /// A VIP's traffic that no service takes, where its `unmatched` is `kernel`.
    Unmatched,
    /// Rewritten and waiting for the next hop's MAC: control asks for it, then sends.
    Unresolved,
    /// ICMP errors about a tunnel's outer header.
    Tunnel,
    /// Everything else that came to our MAC, broadcast or multicast.
    Other,
}

impl PuntClass {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 8] = [
        Self::Neighbour,
        Self::Vrrp,
        Self::Routing,
        Self::Local,
        Self::Unmatched,
        Self::Unresolved,
        Self::Tunnel,
        Self::Other,
    ];

    /// What it is, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Neighbour => "ARP or IPv6 neighbour discovery: control's own business.",
            Self::Vrrp => "VRRP: for the kernel.",
            Self::Routing => "A routing protocol to the director: for the kernel.",
            Self::Local => "For the director itself, or a real server that is the director.",
            Self::Unmatched => {
                "No service takes it, and the VIP leaves such traffic to the kernel."
            }
            Self::Unresolved => {
                "Rewritten; it is sent as soon as control has found the next hop's MAC."
            }
            Self::Tunnel => {
                "An ICMP error about a tunnel: control lowers its path's MTU, if it is ours."
            }
            Self::Other => "For nobody that we know: the kernel may want it.",
        }
    }

    /// The counter's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neighbour => "punt-neighbour",
            Self::Vrrp => "punt-vrrp",
            Self::Routing => "punt-routing",
            Self::Local => "punt-local",
            Self::Unmatched => "punt-unmatched",
            Self::Unresolved => "punt-unresolved",
            Self::Tunnel => "punt-tunnel",
            Self::Other => "punt-other",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a packet was dropped: one byte, no message. The name is the counter's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The counter's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

reasons! {
    /// The destination MAC is neither the port's nor broadcast nor a group we listen to.
    NotOurMac => "drop-not-our-mac",
    /// Shorter than an Ethernet header.
    ShortFrame => "drop-short-frame",
    /// An 802.1Q tag of a VLAN that has no port here, a second tag, or a provider's (802.1ad).
    Vlan => "drop-vlan",
    /// Larger than the port's MTU, or than one buffer.
    Oversize => "drop-oversize",
    /// The version field and the EtherType disagree.
    BadVersion => "drop-bad-version",
    /// The frame ends inside the IP header.
    ShortHeader => "drop-short-header",
    /// IHL below 5.
    BadIhl => "drop-bad-ihl",
    /// Total length shorter than the header.
    ShortLength => "drop-short-length",
    /// Total length past the end of the frame.
    BadLength => "drop-bad-length",
    /// Wrong IPv4 header checksum.
    BadChecksum => "drop-bad-checksum",
    /// The packet ends inside its TCP, UDP or SCTP header, or that header is malformed.
    ShortTransport => "drop-short-transport",
    /// A source address that no host may have (multicast, broadcast, loopback).
    BadSource => "drop-bad-source",
    /// A first fragment without the whole transport header, or a later one that reaches into
    /// it (RFC 1858, RFC 3128).
    FragmentTiny => "drop-fragment-tiny",
    /// A fragment that is empty, or not the last and no multiple of 8 octets long, or that
    /// makes a packet of more than 65535 octets.
    FragmentLength => "drop-fragment-length",
    /// A fragment that overlaps another of its packet or lies past its end, or comes after one
    /// that did (RFC 5722).
    FragmentOverlap => "drop-fragment-overlap",
    /// A fragment that was there before.
    FragmentDuplicate => "drop-fragment-duplicate",
    /// No room to hold a fragment until its packet's first one comes, or to remember it.
    FragmentFull => "drop-fragment-full",
    /// A fragment of an SCTP packet in NAT or FULLNAT: the CRC that a new port changes covers the
    /// whole packet.
    SctpFragment => "drop-sctp-fragment",
    /// A held fragment whose packet's first one did not come in time.
    FragmentTimeout => "drop-fragment-timeout",
    /// For a VIP that this director doesn't hold now.
    VipNotHeld => "drop-vip-not-held",
    /// No service listens on this address and port.
    NoService => "drop-no-service",
    /// No real server is available for a new connection.
    NoReal => "drop-no-real",
    /// The service's block list has the client.
    Blocked => "drop-blocked",
    /// The service has an allow list, and the client is not on it.
    NotAllowed => "drop-not-allowed",
    /// A segment that may not open a connection, and no connection.
    NoConnection => "drop-no-connection",
    /// The connection's real server, or its service, was removed.
    RealRemoved => "drop-real-removed",
    /// The connection ended with this packet, because its real server has weight 0 or was
    /// removed and the service says so (`--expire-quiescent`).
    Quiescent => "drop-quiescent",
    /// No local address or port is free for a FULLNAT connection.
    NoLocalPort => "drop-no-local-port",
    /// On its way between workers that don't agree who owns it.
    Astray => "drop-astray",
    /// Would have opened a connection, but `drop_packet` lets only some do so.
    Defence => "drop-defence",
    /// Data that overtook the first of a connection whose real server is told the client's address
    /// in front of them, or that can't be put behind it: fragments of it.
    Unplaced => "drop-unplaced",
    /// No room for a new connection.
    TableFull => "drop-table-full",
    /// A chain of IPv6 extension headers that is too long, or ends nowhere.
    HeaderChain => "drop-header-chain",
    /// The client, or the real server, is on no link, and no route leads there.
    NoRoute => "drop-no-route",
    /// The next hop went while the packet was on its way.
    NoNeighbour => "drop-no-neighbour",
    /// TTL or hop limit used up.
    TtlExceeded => "drop-ttl-exceeded",
    /// Larger than the next link's MTU, and may not be fragmented.
    NeedsFragmentation => "drop-needs-fragmentation",
    /// An IPv6 routing header, or an IPv4 source route, that is not used up, on its way between
    /// the families (RFC 7915).
    SourceRoute => "drop-source-route",
    /// A UDP datagram without a checksum between the families: IPv6 wants one, and none can be
    /// computed for a fragment.
    NoUdpChecksum => "drop-no-udp-checksum",
    /// What the other family has no form for: extension headers that are authenticated or behind
    /// a fragment header, an ICMP error of a kind that only one family has.
    Untranslatable => "drop-untranslatable",
    /// Larger than the next link's MTU, and can't be cut: there would be too many pieces, or no
    /// room for one.
    CannotFragment => "drop-cannot-fragment",
    /// More punts of its class than allowed.
    PuntLimit => "drop-punt-limit",
    /// Control doesn't keep up with what is punted.
    PuntFull => "drop-punt-full",
    /// The worker that may own its connection doesn't keep up.
    HandOverFull => "drop-hand-over-full",
    /// The transmit queue refused it.
    TxFull => "drop-tx-full",
    /// Control sent it to a port that doesn't exist.
    NoPort => "drop-no-port",
}

/// What one worker counts, on lines of its own; read by anybody.
#[derive(Debug)]
#[repr(align(64))]
pub struct Counters {
    /// Frames received from the ports.
    pub rx: Counter,
    /// Octets received.
    pub rx_bytes: Counter,
    /// Frames taken over from other workers.
    pub handed_in: Counter,
    /// Frames that control asked to send.
    pub injected: Counter,
    /// Held frames that were let go.
    pub released: Counter,
    /// Frames sent.
    pub transmit: Counter,
    /// Octets sent.
    pub transmit_bytes: Counter,
    /// Frames given to control, by class.
    pub punt: [Counter; PuntClass::ALL.len()],
    /// Frames given to their owners.
    pub handed_out: Counter,
    /// Frames kept for a while.
    pub held: Counter,
    /// Frames dropped, by reason.
    pub drop: [Counter; Reason::ALL.len()],
    /// Packets of our own making.
    pub made: Counter,
    /// Of these: sent.
    pub made_sent: Counter,
    /// Of these: not sent, for want of a buffer, a token or room in the queue.
    pub made_dropped: Counter,
    /// Connections made.
    pub connections_made: Counter,
    /// Connections that ended.
    pub connections_ended: Counter,
    /// Of these: ended before their time, unanswered, to make room for others.
    pub evicted: Counter,
    /// Packets sent to their real server without a connection, for want of room.
    pub unkept: Counter,
    /// Packets that were to tell their real server the client's address, but had no room for it.
    pub untold: Counter,
    /// Connections and templates in the tables now: IPv4, IPv6.
    pub entries: [Gauge; 2],
    /// Turns of the loop.
    pub turns: Counter,
    /// Turns that found something to do.
    pub busy_turns: Counter,
    /// Processor cycles spent in turns that found something to do.
    pub busy_cycles: Counter,
    /// Processor cycles since the start.
    pub cycles: Counter,
    /// How many cycles each turn took that found something to do.
    pub turn_cycles: Durations,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = Counter::default;
        Self {
            rx: zero(),
            rx_bytes: zero(),
            handed_in: zero(),
            injected: zero(),
            released: zero(),
            transmit: zero(),
            transmit_bytes: zero(),
            punt: std::array::from_fn(|_| zero()),
            handed_out: zero(),
            held: zero(),
            drop: std::array::from_fn(|_| zero()),
            made: zero(),
            made_sent: zero(),
            made_dropped: zero(),
            connections_made: zero(),
            connections_ended: zero(),
            evicted: zero(),
            unkept: zero(),
            untold: zero(),
            entries: Default::default(),
            turns: zero(),
            busy_turns: zero(),
            busy_cycles: zero(),
            cycles: zero(),
            turn_cycles: Durations::default(),
        }
    }
}

impl Counters {
    /// Every counter with its name, in a fixed order.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let single = [
            ("rx", &self.rx),
            ("rx-bytes", &self.rx_bytes),
            ("handed-in", &self.handed_in),
            ("injected", &self.injected),
            ("released", &self.released),
            ("transmit", &self.transmit),
            ("transmit-bytes", &self.transmit_bytes),
            ("handed-out", &self.handed_out),
            ("held", &self.held),
            ("made", &self.made),
            ("made-sent", &self.made_sent),
            ("made-dropped", &self.made_dropped),
            ("connections-made", &self.connections_made),
            ("connections-ended", &self.connections_ended),
            ("evicted", &self.evicted),
            ("unkept", &self.unkept),
            ("untold", &self.untold),
            ("turns", &self.turns),
            ("busy-turns", &self.busy_turns),
            ("busy-cycles", &self.busy_cycles),
            ("cycles", &self.cycles),
        ];
        let punt = PuntClass::ALL
            .iter()
            .map(|class| class.name())
            .zip(&self.punt);
        let drop = Reason::ALL
            .iter()
            .map(|reason| reason.name())
            .zip(&self.drop);
        let [v4, v6] = self.entries.each_ref().map(|gauge| u64::from(gauge.get()));
        let entries = [("entries-v4", v4), ("entries-v6", v6)];
        single
            .into_iter()
            .chain(punt)
            .chain(drop)
            .map(|(name, counter)| (name, counter.get()))
            .chain(entries)
    }

    /// Both sides of the equation that every frame keeps: what came in, what became of it.
    pub fn balance(&self) -> (u64, u64) {
        let came = [&self.rx, &self.handed_in, &self.injected, &self.released];
        let went = [&self.transmit, &self.handed_out, &self.held];
        let sum = |counters: &[&Counter]| counters.iter().map(|c| c.get()).sum::<u64>();
        let by_kind: u64 = self.punt.iter().chain(&self.drop).map(Counter::get).sum();
        (sum(&came), sum(&went) + by_kind)
    }
}
