//! What a listing shows: services, real servers, their numbers. `layout` prints it.

use std::borrow::Cow;
use std::net::IpAddr;

use config::model::{
    ClientAddress, Endpoint, Listen, Mode, Persistence, PersistenceMask, Prefix, Real,
    SchedulerFlags, SchedulerKind, Service, Timeouts,
};
use serde::{Deserialize, Serialize};

use crate::text::{ModeText, written};

/// Everything that a listing or a save may need; also the `data` of a JSON reply.
///
/// A long answer comes in several, to be put together by [`Listing::append`].
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    /// The services, in any order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ListingService>,
    /// Connections, in the order of the table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ListingConnection>,
    /// Sync daemons that run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub daemons: Vec<ListingDaemon>,
    /// The timeouts, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<ListingTimeouts>,
}

impl Listing {
    /// Puts the next part of a long answer behind this one.
    pub fn append(&mut self, mut next: Self) {
        self.services.append(&mut next.services);
        self.connections.append(&mut next.connections);
        self.daemons.append(&mut next.daemons);
        self.timeouts = self.timeouts.take().or(next.timeouts);
    }
}

/// One service of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingService {
    /// Its key, in JSON as `tcp 10.0.0.1:80`.
    #[serde(with = "written")]
    pub listen: Listen,
    /// The scheduler.
    #[serde(with = "written")]
    pub scheduler: SchedulerKind,
    /// The scheduler's flags, three bits; see [`SchedulerFlags`].
    #[serde(default)]
    pub flags: u8,
    /// Persistence, if any.
    #[serde(default)]
    pub persistence: Option<ListingPersistence>,
    /// One-packet scheduling.
    #[serde(default)]
    pub one_packet: bool,
    /// FULLNAT's source addresses.
    #[serde(default)]
    pub local_addresses: Vec<IpAddr>,
    /// The port that each of them is on, by name.
    #[serde(default)]
    pub local_interfaces: Vec<String>,
    /// How FULLNAT tells who the client is, by its name in the file.
    #[serde(with = "written", default, skip_serializing_if = "is_default")]
    pub client_address: ClientAddress,
    /// The MSS of SYNs is clamped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mss_clamp: bool,
    /// Seconds in ESTABLISHED, where that is the service's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connection_timeout: Option<u32>,
    /// Connections end with their real server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expire_quiescent: bool,
    /// The director answers SYNs itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub synproxy: bool,
    /// Clients whose packets are dropped: addresses and networks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub block: Vec<String>,
    /// The only clients whose packets are taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow: Vec<String>,
    /// Totals.
    #[serde(default)]
    pub totals: Totals,
    /// Rates.
    #[serde(default)]
    pub rates: Rates,
    /// The real servers, oldest first.
    #[serde(default)]
    pub reals: Vec<ListingReal>,
}

impl ListingService {
    /// A service of the model, its numbers 0 and with no real servers yet.
    pub fn new(service: &Service) -> Self {
        Self {
            listen: service.listen,
            scheduler: service.scheduler,
            flags: service.flags.0,
            persistence: service.persistence.as_ref().map(ListingPersistence::new),
            one_packet: service.one_packet,
            local_addresses: service.local_addresses.clone(),
            local_interfaces: Vec::new(),
            client_address: service.client_address,
            mss_clamp: service.mss_clamp,
            connection_timeout: service.connection_timeout,
            expire_quiescent: service.expire_quiescent,
            synproxy: service.synproxy,
            block: service.block.iter().map(Prefix::short).collect(),
            allow: service.allow.iter().map(Prefix::short).collect(),
            totals: Totals::default(),
            rates: Rates::default(),
            reals: Vec::new(),
        }
    }

    /// The scheduler's flags.
    pub fn scheduler_flags(&self) -> SchedulerFlags {
        SchedulerFlags(self.flags)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Persistence in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingPersistence {
    /// Seconds.
    pub timeout: u32,
    /// Dotted for IPv4, a length for IPv6.
    #[serde(with = "written")]
    pub mask: PersistenceMask,
    /// The persistence engine.
    #[serde(default)]
    pub engine: Option<String>,
}

impl ListingPersistence {
    fn new(persistence: &Persistence) -> Self {
        Self {
            timeout: persistence.timeout,
            mask: persistence.mask,
            engine: persistence.engine.clone(),
        }
    }
}

/// One real server of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingReal {
    /// Address and port.
    #[serde(with = "written")]
    pub endpoint: Endpoint,
    /// How packets reach it.
    #[serde(with = "ModeText")]
    pub mode: Mode,
    /// It is the director's own address: listed as `Local`.
    #[serde(default)]
    pub local: bool,
    /// It is the service's sorry server, there while no other is up. A save leaves it out.
    #[serde(default)]
    pub sorry: bool,
    /// Weight.
    pub weight: u32,
    /// Upper threshold, 0 for none.
    #[serde(default)]
    pub upper: u32,
    /// Lower threshold.
    #[serde(default)]
    pub lower: u32,
    /// Active connections.
    #[serde(default)]
    pub active: u32,
    /// Inactive connections.
    #[serde(default)]
    pub inactive: u32,
    /// Persistence templates.
    #[serde(default)]
    pub persistent: u32,
    /// Totals.
    #[serde(default)]
    pub totals: Totals,
    /// Rates.
    #[serde(default)]
    pub rates: Rates,
}

impl ListingReal {
    /// A real server of the model, its numbers 0.
    pub fn new(real: &Real) -> Self {
        Self {
            endpoint: real.endpoint,
            mode: real.mode,
            local: false,
            sorry: false,
            weight: real.weight,
            upper: real.upper,
            lower: real.lower,
            active: 0,
            inactive: 0,
            persistent: 0,
            totals: Totals::default(),
            rates: Rates::default(),
        }
    }
}

/// What was counted since the start or since `-Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Octets from clients.
    pub bytes_in: u64,
    /// Octets to clients.
    pub bytes_out: u64,
}

/// The same per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Octets from clients.
    pub bytes_in: u64,
    /// Octets to clients.
    pub bytes_out: u64,
}

/// One connection of `-Lc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingConnection {
    /// `TCP`, `UDP`, `SCTP`, or `IP` for the template of a mark.
    pub protocol: Cow<'static, str>,
    /// Seconds until it expires.
    pub expires: u32,
    /// The state's name.
    pub state: Cow<'static, str>,
    /// The client.
    #[serde(with = "written")]
    pub client: Endpoint,
    /// The virtual address.
    #[serde(with = "written")]
    pub vip: Endpoint,
    /// The real server.
    #[serde(with = "written")]
    pub real: Endpoint,
    /// Persistence engine's name, where it left data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The persistence engine's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_data: Option<String>,
}

/// A sync daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingDaemon {
    /// `master` or `backup`.
    pub role: String,
    /// Its interface.
    pub interface: String,
    /// 0..=255.
    pub sync_id: u8,
    /// Octets.
    pub max_length: u16,
    /// The multicast group.
    pub group: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Time to live.
    pub ttl: u8,
}

/// Timeouts, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingTimeouts {
    /// TCP ESTABLISHED.
    pub tcp: u32,
    /// TCP FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl From<Timeouts> for ListingTimeouts {
    fn from(timeouts: Timeouts) -> Self {
        Self {
            tcp: timeouts.tcp,
            tcp_fin: timeouts.tcp_fin,
            udp: timeouts.udp,
        }
    }
}
