//! One call of ipvsadm, understood: which command it gives, in the project's nouns.

use std::fmt;
use std::net::IpAddr;

use config::model::{Endpoint, Listen, Prefix, Real, Service};

use crate::packet::Traced;
use crate::proc::ProcFile;

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A`: a new service, with no real servers.
    AddService(Service),
    /// `-E`: other settings for a service. What has commands of its own (local addresses, lists
    /// of clients, the real servers) is empty here and is to be kept.
    EditService(Service),
    /// `-D`: a service and its real servers go.
    DeleteService {
        /// Which.
        listen: Listen,
    },
    /// `-C`: every service goes.
    Flush,
    /// `-a`: a new real server.
    AddReal {
        /// Its service.
        listen: Listen,
        /// The real server.
        real: Real,
    },
    /// `-e`: other settings for a real server.
    EditReal {
        /// Its service.
        listen: Listen,
        /// All its settings.
        real: Real,
    },
    /// `-d`: a real server goes.
    DeleteReal {
        /// Its service.
        listen: Listen,
        /// Which.
        endpoint: Endpoint,
    },
    /// `-L`, `-l`, or no argument at all.
    List(ListOptions),
    /// `-S`: every service as the calls that make it.
    Save {
        /// Addresses and ports as numbers.
        numeric: bool,
    },
    /// `-R`: the calls on standard input.
    Restore {
        /// All of them or none.
        atomic: bool,
    },
    /// `-Z`: counters start from nothing, of one service or of all.
    Zero(Option<Listen>),
    /// `--set`, in seconds, 0..=2678400; 0 leaves a value as it is.
    SetTimeouts {
        /// TCP ESTABLISHED.
        tcp: u32,
        /// TCP FIN_WAIT.
        tcp_fin: u32,
        /// UDP.
        udp: u32,
    },
    /// `--start-daemon`.
    StartDaemon(SyncDaemon),
    /// `--stop-daemon`.
    StopDaemon {
        /// Which of the two.
        role: SyncRole,
        /// `--syncid`, 0..=255.
        sync_id: u8,
    },
    /// `-P`: a FULLNAT source address for a service.
    AddLocalAddress(LocalAddress),
    /// `-Q`: it goes.
    DeleteLocalAddress(LocalAddress),
    /// `-G`: the local addresses of one service or of all.
    ListLocalAddresses(Option<Listen>),
    /// `-U`, `-O`: an entry of a service's block or allow list.
    AddAccess(AccessEntry),
    /// `-V`, `-Y`: it goes.
    DeleteAccess(AccessEntry),
    /// `-B`, `-W`: the list of one service or of all.
    ListAccess {
        /// Which list.
        list: AccessList,
        /// Whose; absent: everybody's.
        listen: Option<Listen>,
    },
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// `status`: not ipvsadm's, but it goes over the same socket.
    Status {
        /// As JSON.
        json: bool,
    },
    /// `proc FILE`: what the kernel would show in that file of `/proc/net`.
    Proc(ProcFile),
    /// `log [FILTER]`: what is logged, shown or set.
    Log(Option<String>),
    /// `trace`: what would become of a packet; changes nothing.
    Trace {
        /// The packet.
        packet: Traced,
        /// As JSON.
        json: bool,
    },
    /// `reload`: the file's changes, or what they would be.
    Reload(Reload),
    /// `diff`: where the running state and the file differ.
    Diff(Reload),
    /// `save`: the running state as a file.
    SaveFile {
        /// The services as JSON.
        json: bool,
    },
    /// `neigh`: who is where on our links.
    Neighbours {
        /// As JSON.
        json: bool,
    },
    /// `sysctl [NAME[=VALUE]]`: IPVS's tunables, over the same socket.
    Sysctl {
        /// All of them, or which.
        ask: Ask,
        /// As JSON.
        json: bool,
    },
}

/// The options of `reload` and `diff`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reload {
    /// The file's name, whose text is the request's standard input; absent: the daemon reads
    /// the one that it was started with.
    pub file: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What commands changed becomes as the file has it.
    pub take_file: bool,
    /// As JSON.
    pub json: bool,
}

/// What is asked of the tunables. Names and values are as they were written: the daemon knows
/// what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All of them.
    All,
    /// One.
    One(String),
    /// One is to have this value.
    Set {
        /// Which.
        name: String,
        /// As it was written.
        value: String,
    },
}

impl Command {
    /// Whether the command may change something, and so needs root and an audit line.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::List(_)
                | Self::Save { .. }
                | Self::ListLocalAddresses(_)
                | Self::ListAccess { .. }
                | Self::Help
                | Self::Version
                | Self::Status { .. }
                | Self::Proc(_)
                | Self::Log(None)
                | Self::Trace { .. }
                | Self::Diff(_)
                | Self::SaveFile { .. }
                | Self::Neighbours { .. }
                | Self::Reload(Reload { dry_run: true, .. })
                | Self::Sysctl {
                    ask: Ask::All | Ask::One(_),
                    ..
                }
        )
    }
}

/// What a listing shows and how.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// Only this service.
    pub service: Option<Listen>,
    /// `-n`: addresses and ports as numbers.
    pub numeric: bool,
    /// `-c`: connections, not services.
    pub connections: bool,
    /// `--stats`: totals.
    pub stats: bool,
    /// `--rate`: per second.
    pub rate: bool,
    /// `--thresholds`.
    pub thresholds: bool,
    /// `--persistent-conn`.
    pub persistent: bool,
    /// `--tun-info`.
    pub tun_info: bool,
    /// `-X`: totals without K, M, G, T.
    pub exact: bool,
    /// `--timeout`: the timeouts, not services.
    pub timeout: bool,
    /// `--daemon`: the sync daemons, not services.
    pub daemon: bool,
    /// `--nosort`: the data plane's order, newest real server first.
    pub nosort: bool,
    /// `--syncid`; changes nothing.
    pub sync_id: Option<u8>,
}

/// The role of a sync daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

impl SyncRole {
    /// `master` or `backup`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

/// The settings of `--start-daemon`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Master or backup.
    pub role: SyncRole,
    /// `--mcast-interface`.
    pub interface: String,
    /// `--syncid`, 0..=255.
    pub sync_id: u8,
    /// `--sync-maxlen` in octets, 1..=65507; 0: from the MTU.
    pub max_length: u16,
    /// `--mcast-group`; absent: 224.0.0.81.
    pub group: Option<IpAddr>,
    /// `--mcast-port`; absent: 8848.
    pub port: Option<u16>,
    /// `--mcast-ttl`; absent: 1.
    pub ttl: Option<u8>,
}

/// A FULLNAT source address of a service (`-z`, `-F`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The service.
    pub listen: Listen,
    /// The address.
    pub address: IpAddr,
    /// The interface it is on, by name.
    pub interface: String,
}

/// One of the two access lists of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessList {
    /// Clients that are refused.
    Block,
    /// Clients that alone are taken.
    Allow,
}

/// An entry of an access list (`-k`, `-2`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessEntry {
    /// Which list.
    pub list: AccessList,
    /// The service.
    pub listen: Listen,
    /// Who is on it.
    pub clients: Clients,
}

/// Who is on an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// The hosts of a network; one host's is as long as its address.
    Network(Prefix),
    /// A set of addresses, by name.
    Set(String),
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => f.write_str(&network.short()),
            Self::Set(name) => write!(f, "ipset:{name}"),
        }
    }
}
