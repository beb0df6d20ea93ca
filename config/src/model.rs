//! The project's nouns: services, real servers, ports, VIPs, and what each may be.
//!
//! Every type here is plain data that has already been checked: the constructors and the
//! readers (the TOML file, the command line) refuse what is out of range, so nobody
//! downstream looks twice. The words are those of `ipvsadm` and of the TOML file.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Address family of a service, a real server or a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family that `address` belongs to.
    pub fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Transport protocol of a service. The order is that of the IP protocol numbers, which is
/// the order of listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, protocol 6.
    Tcp,
    /// UDP, protocol 17.
    Udp,
    /// SCTP, protocol 132.
    Sctp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The name in the configuration and in logs: `tcp`, `udp`, `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or(())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether packets can be sent to this one host: not unspecified, multicast or broadcast.
pub fn is_unicast(address: &IpAddr) -> bool {
    let broadcast = *address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

/// What identifies a service: an address and port of a protocol, or a firewall mark.
///
/// Shows as it is named everywhere, in logs and in the configuration:
/// `tcp 10.0.0.1:80`, `udp [2001:db8::1]:53`, `fwm 5`, `fwm 5 ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listen {
    /// A virtual address and port. Port 0 means every port, and needs persistence.
    Address {
        /// The protocol.
        protocol: Protocol,
        /// The virtual address (VIP).
        address: IpAddr,
        /// The virtual port, 0 for all.
        port: u16,
    },
    /// A firewall mark, for packets of one family.
    Mark {
        /// The mark, never 0.
        mark: u32,
        /// The family of packets it takes.
        family: Family,
    },
}

impl Listen {
    /// The family of the packets that the service takes.
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(address),
            Self::Mark { family, .. } => *family,
        }
    }

    /// The virtual address, if the service has one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address { address, .. } => Some(*address),
            Self::Mark { .. } => None,
        }
    }

    /// The virtual port; 0 for a mark.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address { port, .. } => *port,
            Self::Mark { .. } => 0,
        }
    }

    /// The key by which listings are sorted: mark (0 first), family, protocol, address, port.
    pub fn sort_key(&self) -> (u32, Family, Option<Protocol>, Option<IpAddr>, u16) {
        match *self {
            Self::Address {
                protocol,
                address,
                port,
            } => (0, Family::of(&address), Some(protocol), Some(address), port),
            Self::Mark { mark, family } => (mark, family, None, None, 0),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address {
                protocol,
                address,
                port,
            } => {
                write!(f, "{protocol} {}", Endpoint { address, port })
            }
            Self::Mark {
                mark,
                family: Family::V4,
            } => write!(f, "fwm {mark}"),
            Self::Mark {
                mark,
                family: Family::V6,
            } => write!(f, "fwm {mark} ipv6"),
        }
    }
}

impl FromStr for Listen {
    type Err = ();

    /// Reads what [`Listen`] shows; a missing port is port 0.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let kind = words.next().ok_or(())?;
        let what = words.next().ok_or(())?;
        let listen = match (kind, words.next()) {
            ("fwm", None) => mark(what, Family::V4)?,
            ("fwm", Some("ipv6")) => mark(what, Family::V6)?,
            (protocol, None) => {
                let (address, port) = address_and_port(what).ok_or(())?;
                Self::Address {
                    protocol: protocol.parse()?,
                    address,
                    port: port.unwrap_or(0),
                }
            }
            _ => return Err(()),
        };
        if words.next().is_some() {
            Err(())
        } else {
            Ok(listen)
        }
    }
}

fn mark(text: &str, family: Family) -> Result<Listen, ()> {
    let mark = digits(text).filter(|&mark| mark > 0).ok_or(())?;
    Ok(Listen::Mark { mark, family })
}

/// Reads `a.b.c.d`, `a.b.c.d:port`, `v6` or `[v6]:port`.
pub(crate) fn address_and_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Some((address, None));
    }
    let (address, port) = text.rsplit_once(':')?;
    let address = match address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    Some((address, Some(digits(port)?)))
}

/// Reads a decimal number with nothing around it: no sign, no space.
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// An address with a port, shown as `a.b.c.d:p` or `[addr]:p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.port),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

/// How a service chooses a real server for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SchedulerKind {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections: the default.
    #[default]
    Wlc,
    /// Source hashing.
    Sh,
    /// Destination hashing.
    Dh,
    /// Locality-based least connections.
    Lblc,
    /// Locality-based least connections with replication.
    Lblcr,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Maglev hashing.
    Mh,
    /// Power of two choices.
    Twos,
}

impl SchedulerKind {
    /// Every scheduler, in the order of their description above.
    pub const ALL: [Self; 14] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sh,
        Self::Dh,
        Self::Lblc,
        Self::Lblcr,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Mh,
        Self::Twos,
    ];

    /// The name, as `ipvsadm -s` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
            Self::Dh => "dh",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Mh => "mh",
            Self::Twos => "twos",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or(())
    }
}

/// The scheduler flags of a service: three bits whose meaning depends on the scheduler.
///
/// For `sh` and `mh` bit 1 is `fallback` and bit 2 is `port`; elsewhere they are `flag-1` to
/// `flag-3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SchedulerFlags(pub u8);

impl SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`, `flag-1`.
    pub const FALLBACK: u8 = 1;
    /// `sh-port`, `mh-port`, `flag-2`.
    pub const PORT: u8 = 2;
    /// `flag-3`.
    pub const THIRD: u8 = 4;
}

/// The part of a client's address that persistence looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PersistenceMask {
    /// An IPv4 mask, any 32 bits (`ipvsadm -M 24` means 0.0.0.24).
    V4(Ipv4Addr),
    /// An IPv6 prefix length, 1..=128.
    V6(u8),
}

impl PersistenceMask {
    /// The mask that keeps the whole address.
    pub fn full(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(Ipv4Addr::BROADCAST),
            Family::V6 => Self::V6(128),
        }
    }

    /// Whether the whole address counts.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::V4(Ipv4Addr::BROADCAST) | Self::V6(128))
    }
}

/// Persistence of a service: one client network, one real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// Seconds that a client is remembered after its last new connection, 1..=2678400.
    pub timeout: u32,
    /// Which bits of the client's address make the client.
    pub mask: PersistenceMask,
    /// The persistence engine (`sip`), if one is set.
    pub engine: Option<String>,
}

/// Where the client's address goes in FULLNAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ClientAddress {
    /// Nowhere.
    #[default]
    None,
    /// TCP option 254.
    Toa,
    /// PROXY protocol version 1.
    ProxyV1,
    /// PROXY protocol version 2.
    ProxyV2,
    /// Version 1, but a header that the client sent itself is believed.
    ProxyV1Insecure,
    /// Version 2, likewise.
    ProxyV2Insecure,
}

impl ClientAddress {
    /// Every way, and its name in the file.
    pub const NAMES: &[(&str, Self)] = &[
        ("none", Self::None),
        ("toa", Self::Toa),
        ("proxy-v1", Self::ProxyV1),
        ("proxy-v2", Self::ProxyV2),
        ("proxy-v1-insecure", Self::ProxyV1Insecure),
        ("proxy-v2-insecure", Self::ProxyV2Insecure),
    ];

    /// Whether it tells of this protocol's clients.
    pub fn tells_of(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => self != Self::None,
            Protocol::Udp => matches!(self, Self::ProxyV2 | Self::ProxyV2Insecure),
            Protocol::Sctp => false,
        }
    }

    /// The name in the file.
    pub fn name(self) -> &'static str {
        let row = Self::NAMES.iter().find(|(_, one)| *one == self);
        row.map_or("none", |(name, _)| name)
    }
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Direct routing: only the MAC addresses change. `ipvsadm -g`, listed as `Route`.
    #[default]
    Dr,
    /// Tunnelling. `ipvsadm -i`, listed as `Tunnel`.
    Tun(Tunnel),
    /// Destination NAT. `ipvsadm -m`, listed as `Masq`.
    Nat,
    /// Source and destination NAT. `-b` on a real server, listed as `FullNat`.
    FullNat,
}

/// The envelope of a TUN real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP destination port, 1..=65535.
        port: u16,
        /// The checksum.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation; never with [`TunnelChecksum::Remote`].
    Gre {
        /// The checksum.
        checksum: TunnelChecksum,
    },
}

/// The checksum of a GUE or GRE envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TunnelChecksum {
    /// No checksum.
    #[default]
    None,
    /// A checksum over the payload.
    Sum,
    /// Remote checksum offload (GUE only).
    Remote,
}

/// One real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Real {
    /// Address and port. With port 0 the packet's own port is kept.
    pub endpoint: Endpoint,
    /// How packets reach it.
    pub mode: Mode,
    /// 0..=65535; 0 takes no new connections.
    pub weight: u32,
    /// Upper connection threshold, 0 for none.
    pub upper: u32,
    /// Lower connection threshold, 0 for three quarters of the upper one.
    pub lower: u32,
}

/// The largest weight of a real server.
pub const MAX_WEIGHT: u32 = 65535;
/// The longest timeout anywhere, in seconds (31 days).
pub const MAX_TIMEOUT: u32 = 2_678_400;
/// The persistence of `-p` without a value, in seconds.
pub const DEFAULT_PERSISTENCE: u32 = 360;

/// A virtual service and its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it listens on.
    pub listen: Listen,
    /// How it chooses.
    pub scheduler: SchedulerKind,
    /// The scheduler's flags.
    pub flags: SchedulerFlags,
    /// Persistence, if any.
    pub persistence: Option<Persistence>,
    /// Every packet is scheduled on its own (UDP and marks only).
    pub one_packet: bool,
    /// FULLNAT's source addresses.
    pub local_addresses: Vec<IpAddr>,
    /// How FULLNAT tells the real server who the client is.
    pub client_address: ClientAddress,
    /// Clamp the MSS of SYNs so that tunnelled segments fit.
    pub mss_clamp: bool,
    /// Clients whose packets are dropped.
    pub block: Vec<Prefix>,
    /// The only clients whose packets are taken; empty: all are.
    pub allow: Vec<Prefix>,
    /// Seconds that a TCP connection in ESTABLISHED may be silent, 1..=2678400; absent: as for
    /// all services.
    pub connection_timeout: Option<u32>,
    /// A connection ends when its real server gets weight 0 or goes.
    pub expire_quiescent: bool,
    /// The director answers SYNs itself, and asks the real server when the client has proved
    /// that it is there.
    pub synproxy: bool,
    /// The real servers, in the order in which they were added (oldest first).
    pub reals: Vec<Real>,
    /// Who serves while none of them does.
    pub sorry_server: Option<SorryServer>,
}

/// The real server that is used only while no other is up, as keepalived has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SorryServer {
    /// The real server: of weight 1, and without thresholds.
    pub real: Real,
    /// Once another is up again, its connections go on (its weight becomes 0); otherwise it is
    /// removed, and they end as those of any removed real server.
    pub inhibit: bool,
}

impl Service {
    /// A service with nothing but its key: `wlc`, no flags, no real servers.
    pub fn new(listen: Listen) -> Self {
        Self {
            listen,
            scheduler: SchedulerKind::default(),
            flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            local_addresses: Vec::new(),
            client_address: ClientAddress::None,
            mss_clamp: false,
            block: Vec::new(),
            allow: Vec::new(),
            connection_timeout: None,
            expire_quiescent: false,
            synproxy: false,
            reals: Vec::new(),
            sorry_server: None,
        }
    }
}

/// An Ethernet address, shown as `02:00:00:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddress {
    type Err = ();

    /// Reads six pairs of hexadecimal digits separated by colons.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let pair = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(pair).ok_or(())?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() {
            Err(())
        } else {
            Ok(Self(octets))
        }
    }
}

/// An address with a prefix length: `192.0.2.2/24`. Host bits may be set (an interface
/// address) or not (a route); [`Prefix::network`] clears them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The address as written.
    pub address: IpAddr,
    /// The prefix length: 0..=32 for IPv4, 0..=128 for IPv6.
    pub length: u8,
}

impl Prefix {
    /// The prefix of one host.
    pub fn host(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    /// Reads a prefix, or an address as the prefix of that host.
    pub fn or_host(text: &str) -> Option<Self> {
        let host = text.parse().ok().map(Self::host);
        host.or_else(|| text.parse().ok())
    }

    /// As [`Prefix::or_host`] reads it: a host without its length.
    pub fn short(&self) -> String {
        if *self == Self::host(self.address) {
            self.address.to_string()
        } else {
            self.to_string()
        }
    }

    /// Whether no bit outside the prefix is set.
    pub fn is_network(&self) -> bool {
        self.network() == self.address
    }

    /// The address with its host bits cleared.
    pub fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.length))
                    .unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.length))
                    .unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }

    /// Whether `address` lies in this network.
    pub fn contains(&self, address: &IpAddr) -> bool {
        Family::of(address) == Family::of(&self.address)
            && Self {
                address: *address,
                length: self.length,
            }
            .network()
                == self.network()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let length: u8 = digits(length).ok_or(())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if length > longest {
            Err(())
        } else {
            Ok(Self { address, length })
        }
    }
}

/// The whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// Workers, tables, steering.
    pub dataplane: Dataplane,
    /// The socket.
    pub control: Control,
    /// Ports: those with a device, in the order of the file, then those of VLANs. That is their
    /// number.
    pub ports: Vec<Port>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Static neighbours.
    pub neighbours: Vec<Neighbour>,
    /// VIPs that say more than the default.
    pub vips: Vec<Vip>,
    /// Rules that give packets a firewall mark; the first that matches wins.
    pub marks: Vec<MarkRule>,
    /// IPVS's sysctls that the file sets, by name; see the `[sysctl]` table.
    pub sysctl: Vec<(String, i64)>,
    /// Connection timeouts.
    pub timeouts: Timeouts,
    /// Services, in the order of the file.
    pub services: Vec<Service>,
}

/// `[dataplane]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// Cores, one poll-mode worker each; never empty.
    pub workers: Vec<u16>,
    /// IPv4 connections per worker.
    pub connections: u32,
    /// IPv6 connections per worker.
    pub connections_v6: u32,
    /// How ports are asked to spread packets.
    pub steering: Steering,
    /// What a worker does when it has nothing to do.
    pub idle: Idle,
    /// Whether DPDK and the tables use hugepages.
    pub hugepages: Hugepages,
}

impl Default for Dataplane {
    fn default() -> Self {
        Self {
            workers: vec![0],
            connections: 1_000_000,
            connections_v6: 250_000,
            steering: Steering::Tuple,
            idle: Idle::Auto,
            hugepages: Hugepages::Auto,
        }
    }
}

/// How ports are asked to spread packets over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Steering {
    /// By the full tuple.
    #[default]
    Tuple,
    /// By the client: source only outside, destination only inside.
    Client,
}

/// What a worker does when no port has a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Idle {
    /// Spin on isolated cores, sleep elsewhere.
    #[default]
    Auto,
    /// Poll without a pause.
    Spin,
    /// Poll with the processor's pause hint.
    Pause,
    /// Sleep up to a millisecond.
    Sleep,
}

/// Whether hugepages are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Where the machine has them.
    #[default]
    Auto,
    /// Refuse to start without.
    Require,
    /// Never.
    Off,
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Path of the Unix socket.
    pub socket: String,
    /// A group whose members may read, by name.
    pub group: Option<String>,
    /// Seconds that a stopping daemon forwards on after it gave up its VIPs.
    pub stop_delay: u32,
}

/// Where the socket is unless somebody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/sluice/sluice.sock";

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.to_owned(),
            group: None,
            stop_delay: 0,
        }
    }
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// At most 15 characters; also the name of its kernel interface.
    pub name: String,
    /// PCI address or DPDK vdev; a replay does without.
    pub device: Option<String>,
    /// The director's own addresses (DIPs) and their subnets.
    pub addresses: Vec<Prefix>,
    /// The MAC to use instead of the device's own; instead of its parent's, for a VLAN's.
    pub mac: Option<MacAddress>,
    /// Largest IP packet, 68..=9198 octets.
    pub mtu: u16,
    /// Where replies of connections that begin here go.
    pub return_to: ReturnTo,
    /// Buffers in the port's pool; absent: computed from the queues.
    pub mbufs: Option<u32>,
    /// Room in each buffer, in octets; absent: enough for the MTU.
    pub mbuf_size: Option<u16>,
    /// The VLAN whose port it is; absent: it has a device of its own.
    pub vlan: Option<Vlan>,
}

/// A VLAN (IEEE 802.1Q) over a port's device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vlan {
    /// The port that carries it, by name.
    pub parent: String,
    /// Its identifier, 1..=4094.
    pub id: u16,
}

/// Where the replies of NAT and FULLNAT connections go that begin at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReturnTo {
    /// Where the routes say.
    #[default]
    Route,
    /// Out of that port again, to the MAC that the client's packets come from.
    Sender,
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub to: Prefix,
    /// Next hops; more than one share the flows.
    pub via: Vec<IpAddr>,
}

/// `[[neighbour]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: MacAddress,
    /// The port it is on, by name.
    pub port: String,
}

/// `[[vip]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The virtual address.
    pub address: IpAddr,
    /// Who decides whether it is held.
    pub held: Held,
    /// What happens to traffic that no service takes.
    pub unmatched: Unmatched,
    /// The port that it is announced on, by name; absent: the one whose subnet contains it.
    pub port: Option<String>,
}

/// Whether this director answers for a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Held {
    /// From start to stop.
    #[default]
    Always,
    /// Never: services stay loaded, and the network does not hear of it.
    Never,
}

/// What happens to traffic for a VIP that no service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// Dropped and counted.
    #[default]
    Drop,
    /// Answered with ICMP port unreachable.
    Reject,
    /// Given to the kernel.
    Kernel,
}

/// `[[mark]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// The mark to give, never 0.
    pub mark: u32,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Only from this network.
    pub from: Option<Prefix>,
    /// Only to this network.
    pub to: Prefix,
    /// Only to these ports, both ends included.
    pub ports: Option<(u16, u16)>,
    /// Only what came in by this port, by name.
    pub port: Option<String>,
}

/// `[timeouts]`, in seconds, as `--set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP ESTABLISHED.
    pub tcp: u32,
    /// TCP FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}
