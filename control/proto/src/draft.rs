//! A call half understood: each option's value is read as it comes, in the order of the words.
//!
//! The order matters: `-r` takes the port of a service that was named before it, `-M` the family.

use std::net::IpAddr;

use config::model::{
    ClientAddress, DEFAULT_PERSISTENCE, Endpoint, Family, Listen, MAX_TIMEOUT, MAX_WEIGHT,
    PersistenceMask, Prefix, Protocol,
};

use crate::address::{dotted, endpoint, number};
use crate::command::{Clients, SyncRole};
use crate::errors::Failure;
use crate::names::Names;
use crate::options::{Flag, Group, Used, Verb};

/// The largest threshold, a signed word's.
const MAX_THRESHOLD: u32 = i32::MAX as u32;

/// How packets reach the real server, before its tunnel is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Forward {
    #[default]
    Dr,
    Tun,
    Nat,
    FullNat,
}

/// `--tun-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TunnelType {
    #[default]
    Ipip,
    Gue,
    Gre,
}

impl TunnelType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }
}

/// The values of a call, as they stand after the options read so far.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) verb: Verb,
    pub(crate) used: Used,
    pub(crate) listen: Option<Listen>,
    pub(crate) scheduler: Option<String>,
    pub(crate) flags: String,
    pub(crate) persistence: u32,
    pub(crate) mask: PersistenceMask,
    pub(crate) engine: Option<String>,
    pub(crate) real: Option<Endpoint>,
    pub(crate) forward: Forward,
    pub(crate) tunnel: TunnelType,
    pub(crate) tunnel_port: u16,
    pub(crate) weight: u32,
    pub(crate) upper: u32,
    pub(crate) lower: u32,
    pub(crate) role: SyncRole,
    pub(crate) interface: Option<String>,
    pub(crate) sync_id: u8,
    pub(crate) sync_length: u16,
    pub(crate) group: Option<IpAddr>,
    pub(crate) group_port: Option<u16>,
    pub(crate) ttl: Option<u8>,
    pub(crate) timeouts: [u32; 3],
    pub(crate) local: Option<IpAddr>,
    pub(crate) access: Option<Clients>,
    pub(crate) synproxy: bool,
    pub(crate) connection_timeout: Option<u32>,
    pub(crate) client_address: ClientAddress,
}

impl Draft {
    /// A call of which only the command is read, with the command's own value.
    pub(crate) fn new(verb: Verb, value: Option<&str>) -> Result<Self, Failure> {
        Ok(Self {
            verb,
            used: Used::default(),
            listen: None,
            scheduler: None,
            flags: String::new(),
            persistence: DEFAULT_PERSISTENCE,
            mask: PersistenceMask::full(Family::V4),
            engine: None,
            real: None,
            forward: Forward::default(),
            tunnel: TunnelType::default(),
            tunnel_port: 0,
            weight: 1,
            upper: 0,
            lower: 0,
            role: role(verb, value)?,
            interface: None,
            sync_id: 0,
            sync_length: 0,
            group: None,
            group_port: None,
            ttl: None,
            timeouts: [0; 3],
            local: None,
            access: None,
            synproxy: false,
            connection_timeout: None,
            client_address: ClientAddress::None,
        })
    }

    /// The words that are neither options nor values: `--set` takes three; what is left over is
    /// returned.
    pub(crate) fn positionals<'a, 'w>(
        &mut self,
        words: &'w [&'a str],
    ) -> Result<&'w [&'a str], Failure> {
        if self.verb != Verb::Set {
            return Ok(words);
        }
        let Some((values, rest)) = words.split_first_chunk::<3>() else {
            return Err(Failure::usage("--set option requires 3 timeout values"));
        };
        for (timeout, value) in self.timeouts.iter_mut().zip(values) {
            *timeout = seconds(value, 0)?;
        }
        Ok(rest)
    }

    /// Reads one option.
    pub(crate) fn take(
        &mut self,
        flag: Flag,
        value: Option<&str>,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        let text = value.unwrap_or_default();
        match flag {
            Flag::Tcp | Flag::Udp | Flag::Sctp | Flag::Mark | Flag::Ipv6 => {
                self.take_listen(flag, text, names)
            }
            Flag::Scheduler
            | Flag::SchedFlags
            | Flag::Persistent
            | Flag::Netmask
            | Flag::Engine => self.take_service(flag, value),
            Flag::Real => self.take_real(text, names),
            Flag::Dr | Flag::Tun | Flag::Nat | Flag::FullNat => {
                self.take_forward(flag);
                Ok(())
            }
            Flag::Weight | Flag::Upper | Flag::Lower | Flag::TunType | Flag::TunPort => {
                self.take_real_setting(flag, text)
            }
            Flag::McastInterface
            | Flag::SyncId
            | Flag::SyncMaxlen
            | Flag::McastGroup
            | Flag::McastPort
            | Flag::McastTtl => self.take_daemon(flag, text),
            Flag::Local
            | Flag::Interface
            | Flag::Block
            | Flag::Allow
            | Flag::Synproxy
            | Flag::ConnTimeout
            | Flag::ProxyProtocol
            | Flag::ClientAddress => self.take_more(flag, text),
            // Nothing to read: that its group is used says it all.
            _ => Ok(()),
        }
    }

    fn take_listen(&mut self, flag: Flag, text: &str, names: &dyn Names) -> Result<(), Failure> {
        let protocol = match flag {
            Flag::Mark => return self.take_mark(text),
            Flag::Ipv6 => return self.take_ipv6(),
            Flag::Udp => Protocol::Udp,
            Flag::Sctp => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let (address, port) = endpoint(text, Some(protocol), names)
            .ok_or_else(|| Failure::usage("illegal virtual server address[:port] specified"))?;
        if address.is_ipv6() {
            self.mask = PersistenceMask::full(Family::V6);
        }
        self.listen = Some(Listen::Address {
            protocol,
            address,
            port: port.unwrap_or(0),
        });
        Ok(())
    }

    fn take_mark(&mut self, text: &str) -> Result<(), Failure> {
        let mark = number(text, 1, u32::MAX)
            .ok_or_else(|| Failure::usage(format!("invalid fwmark value `{text}' specified")))?;
        self.listen = Some(Listen::Mark {
            mark,
            family: Family::V4,
        });
        Ok(())
    }

    fn take_ipv6(&mut self) -> Result<(), Failure> {
        let Some(Listen::Mark { family, .. }) = &mut self.listen else {
            return Err(Failure::usage("-6 used before -f"));
        };
        *family = Family::V6;
        self.mask = PersistenceMask::full(Family::V6);
        Ok(())
    }

    fn take_service(&mut self, flag: Flag, value: Option<&str>) -> Result<(), Failure> {
        let text = value.unwrap_or_default();
        match flag {
            Flag::Scheduler => self.scheduler = Some(text.to_owned()),
            Flag::SchedFlags => self.flags = text.to_owned(),
            Flag::Netmask => self.mask = self.netmask(text)?,
            Flag::Engine => self.engine = Some(text.to_owned()),
            _ => self.persistence = value.map_or(Ok(DEFAULT_PERSISTENCE), |v| seconds(v, 1))?,
        }
        Ok(())
    }

    /// A mask of the family of the service as it is known by now.
    fn netmask(&self, text: &str) -> Result<PersistenceMask, Failure> {
        if self
            .listen
            .is_some_and(|listen| listen.family() == Family::V6)
        {
            let length = octet(text, 1, 128, "illegal ipv6 netmask specified")?;
            return Ok(PersistenceMask::V6(length));
        }
        dotted(text)
            .map(PersistenceMask::V4)
            .ok_or_else(|| Failure::usage("illegal virtual server persistent mask specified"))
    }

    fn take_real(&mut self, text: &str, names: &dyn Names) -> Result<(), Failure> {
        let (address, port) = endpoint(text, self.protocol(), names)
            .ok_or_else(|| Failure::usage("illegal real server address[:port] specified"))?;
        let port = port
            .or(self.listen.map(|listen| listen.port()))
            .unwrap_or(0);
        self.real = Some(Endpoint { address, port });
        Ok(())
    }

    /// The protocol that the names of ports belong to; a mark counts as TCP, as in ipvsadm.
    fn protocol(&self) -> Option<Protocol> {
        match self.listen? {
            Listen::Address { protocol, .. } => Some(protocol),
            Listen::Mark { .. } => Some(Protocol::Tcp),
        }
    }

    fn take_forward(&mut self, flag: Flag) {
        self.forward = match flag {
            Flag::Tun => Forward::Tun,
            Flag::Nat => Forward::Nat,
            Flag::FullNat => Forward::FullNat,
            _ => Forward::Dr,
        };
    }

    fn take_real_setting(&mut self, flag: Flag, text: &str) -> Result<(), Failure> {
        match flag {
            Flag::Weight => self.weight = value(text, 0, MAX_WEIGHT, "illegal weight specified")?,
            Flag::Upper => {
                self.upper = value(text, 0, MAX_THRESHOLD, "illegal u_threshold specified")?;
            }
            Flag::Lower => {
                self.lower = value(text, 0, MAX_THRESHOLD, "illegal l_threshold specified")?;
            }
            Flag::TunPort => {
                self.tunnel_port = short(text, 1, u16::MAX, "illegal tunnel port specified")?;
            }
            _ => self.tunnel = tunnel_type(text)?,
        }
        Ok(())
    }

    fn take_daemon(&mut self, flag: Flag, text: &str) -> Result<(), Failure> {
        match flag {
            Flag::McastInterface => self.interface = Some(interface(text)?),
            Flag::SyncId => self.sync_id = octet(text, 0, 255, "illegal syncid specified")?,
            Flag::SyncMaxlen => {
                self.sync_length = short(text, 1, 65507, "illegal sync-maxlen specified")?;
            }
            Flag::McastPort => {
                self.group_port = Some(short(text, 1, u16::MAX, "illegal mcast-port specified")?);
            }
            Flag::McastTtl => {
                self.ttl = Some(octet(text, 1, 255, "illegal mcast-ttl specified")?);
            }
            _ => self.group = Some(multicast(text)?),
        }
        Ok(())
    }

    fn take_more(&mut self, flag: Flag, text: &str) -> Result<(), Failure> {
        match flag {
            Flag::Local => {
                let address = text
                    .parse()
                    .map_err(|_| Failure::usage("illegal local address"))?;
                self.local = Some(address);
            }
            Flag::Interface => self.interface = Some(interface(text)?),
            Flag::Synproxy => self.synproxy = switch(text)?,
            Flag::ConnTimeout => self.connection_timeout = Some(seconds(text, 1)?),
            Flag::ProxyProtocol => self.client_address = proxy_protocol(text)?,
            Flag::ClientAddress => self.client_address = client_address(text)?,
            _ => self.access = Some(access(text)?),
        }
        Ok(())
    }

    /// Whether the call has used the group.
    pub(crate) fn has(&self, group: Group) -> bool {
        self.used.has(group)
    }
}

fn role(verb: Verb, value: Option<&str>) -> Result<SyncRole, Failure> {
    match (verb, value) {
        (Verb::StartDaemon | Verb::StopDaemon, Some("backup")) => Ok(SyncRole::Backup),
        (Verb::StartDaemon | Verb::StopDaemon, Some("master")) => Ok(SyncRole::Master),
        (Verb::StartDaemon, _) => Err(Failure::usage("illegal start-daemon parameter specified")),
        (Verb::StopDaemon, _) => Err(Failure::usage("illegal start_daemon specified")),
        _ => Ok(SyncRole::Master),
    }
}

fn value(text: &str, least: u32, most: u32, complaint: &str) -> Result<u32, Failure> {
    number(text, least, most).ok_or_else(|| Failure::usage(complaint))
}

fn short(text: &str, least: u16, most: u16, complaint: &str) -> Result<u16, Failure> {
    let number = value(text, least.into(), most.into(), complaint)?;
    Ok(u16::try_from(number).expect("at most `most`"))
}

fn octet(text: &str, least: u8, most: u8, complaint: &str) -> Result<u8, Failure> {
    let number = value(text, least.into(), most.into(), complaint)?;
    Ok(u8::try_from(number).expect("at most `most`"))
}

fn seconds(text: &str, least: u32) -> Result<u32, Failure> {
    value(
        text,
        least,
        MAX_TIMEOUT,
        &format!("invalid timeout value `{text}' specified"),
    )
}

fn tunnel_type(text: &str) -> Result<TunnelType, Failure> {
    [TunnelType::Ipip, TunnelType::Gue, TunnelType::Gre]
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| Failure::usage("illegal tunnel type specified"))
}

fn multicast(text: &str) -> Result<IpAddr, Failure> {
    let version = if text.contains(':') { 6 } else { 4 };
    text.parse()
        .ok()
        .filter(IpAddr::is_multicast)
        .ok_or_else(|| Failure::usage(format!("invalid IPv{version} mcast-group `{text}'")))
}

fn interface(text: &str) -> Result<String, Failure> {
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(Failure::usage("illegal interface name"))
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

fn switch(text: &str) -> Result<bool, Failure> {
    match text {
        "enable" => Ok(true),
        "disable" => Ok(false),
        _ => Err(Failure::usage(format!(
            "invalid synproxy value `{text}', enable or disable"
        ))),
    }
}

/// DPVS's names of the PROXY protocol: those of the file without `proxy-`.
fn proxy_protocol(text: &str) -> Result<ClientAddress, Failure> {
    let wanted = match text {
        "disable" => "none".to_owned(),
        version => format!("proxy-{version}"),
    };
    client_address(&wanted)
        .map_err(|_| Failure::usage(format!("invalid proxy-protocol value `{text}'")))
}

fn client_address(text: &str) -> Result<ClientAddress, Failure> {
    let named = ClientAddress::NAMES.iter().find(|(name, _)| *name == text);
    named
        .map(|&(_, way)| way)
        .ok_or_else(|| Failure::usage(format!("invalid client-address value `{text}'")))
}

fn access(text: &str) -> Result<Clients, Failure> {
    if let Some(name) = text.strip_prefix("ipset:").filter(|name| !name.is_empty()) {
        return Ok(Clients::Set(name.to_owned()));
    }
    match Prefix::or_host(text) {
        Some(network) if network.is_network() => Ok(Clients::Network(network)),
        _ => Err(Failure::usage(format!(
            "invalid access list entry `{text}', an address, a network or ipset:NAME"
        ))),
    }
}
