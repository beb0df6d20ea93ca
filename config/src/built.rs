//! What of the format and of the command line this version already does.
//!
//! The whole format is read and checked from the first version on; what the program can't do
//! yet is refused as `not built yet` and never imitated. [`Feature::is_built`] is the one
//! place that says which is which: building a feature is moving its line there.

use std::fmt;
use std::net::IpAddr;

use crate::model::{
    ClientAddress, Dataplane, Family, Listen, Mode, Port, Protocol, Real, Route, SchedulerFlags,
    SchedulerKind, Service, Steering, Tunnel,
};

/// Something that a configuration or a command can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A service of this protocol.
    Protocol(Protocol),
    /// A service by firewall mark.
    MarkService,
    /// Addresses of this family.
    Family(Family),
    /// This scheduler.
    Scheduler(SchedulerKind),
    /// Scheduler flags.
    Flags,
    /// Persistent services.
    Persistence,
    /// Persistence by something else than the client's address.
    PersistenceEngine,
    /// Services that schedule each packet.
    OnePacket,
    /// Source addresses for FULLNAT.
    LocalAddresses,
    /// Telling a FULLNAT real the client's address.
    ClientAddress,
    /// Clamping the MSS of tunnelled connections.
    MssClamp,
    /// Lists of clients.
    Lists,
    /// Sets of addresses on those lists, by name.
    AddressSets,
    /// A timeout of a service's own.
    ConnectionTimeout,
    /// Connections that end with their real server.
    ExpireQuiescent,
    /// Answering SYNs on behalf of real servers.
    Synproxy,
    /// Direct routing.
    Dr,
    /// A DR real that is the director itself.
    Local,
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation.
    Gre,
    /// Destination NAT.
    Nat,
    /// Source and destination NAT.
    FullNat,
    /// A FULLNAT real of another family than its service's.
    CrossFamily,
    /// Connection thresholds of a real.
    Thresholds,
    /// Static routes with one next hop.
    Route,
    /// Routes with several next hops.
    Multipath,
    /// Ports on a tagged sub-interface.
    Vlan,
    /// Ports made of other ports.
    Bond,
    /// Rules that give packets a firewall mark.
    MarkRule,
    /// Setting this tunable of IPVS.
    Sysctl(&'static str),
    /// How ports are asked to spread packets.
    Steering(Steering),
}

/// The tunables that do something.
const SYSCTLS: [&str; 14] = [
    "am_droprate",
    "amemthresh",
    "conn_reuse_mode",
    "drop_entry",
    "drop_packet",
    "expire_nodest_conn",
    "expire_quiescent_template",
    "lblc_expiration",
    "lblcr_expiration",
    "nat_icmp_send",
    "pmtu_disc",
    "sloppy_sctp",
    "sloppy_tcp",
    "tcp_reset",
];

impl Feature {
    /// Whether this version does it.
    #[rustfmt::skip]
    pub fn is_built(self) -> bool {
        match self {
            Self::Steering(steering)  => matches!(steering, Steering::Tuple),
            Self::Sysctl(name)        => SYSCTLS.contains(&name),
            Self::Family(_)
            | Self::Protocol(_)
            | Self::Scheduler(_)
            | Self::Flags
            | Self::LocalAddresses
            | Self::ClientAddress
            | Self::MssClamp
            | Self::Lists
            | Self::ConnectionTimeout
            | Self::ExpireQuiescent
            | Self::Dr
            | Self::Local
            | Self::Ipip
            | Self::Gue
            | Self::Gre
            | Self::Nat
            | Self::FullNat
            | Self::CrossFamily
            | Self::Thresholds
            | Self::Route
            | Self::Multipath
            | Self::MarkService
            | Self::MarkRule
            | Self::Persistence
            | Self::OnePacket
            | Self::Vlan              => true,
            Self::PersistenceEngine
            | Self::Synproxy
            | Self::AddressSets
            | Self::Bond              => false,
        }
    }

    /// The key of the file that asks for it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Protocol(_) | Self::MarkService => "listen",
            Self::Family(_) | Self::Local | Self::CrossFamily => "address",
            Self::Scheduler(_) => "scheduler",
            Self::Flags => "flags",
            Self::Persistence => "persistence",
            Self::PersistenceEngine => "persistence_engine",
            Self::OnePacket => "one_packet",
            Self::LocalAddresses => "local_addresses",
            Self::ClientAddress => "client_address",
            Self::MssClamp => "mss_clamp",
            Self::Lists | Self::AddressSets => "block",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ExpireQuiescent => "expire_quiescent",
            Self::Synproxy => "synproxy",
            Self::Dr | Self::Nat | Self::FullNat => "mode",
            Self::Ipip | Self::Gue | Self::Gre => "tunnel",
            Self::Thresholds => "upper",
            Self::Route | Self::Multipath => "via",
            Self::Vlan => "vlan",
            Self::Bond => "members",
            Self::MarkRule => "mark",
            Self::Sysctl(name) => name,
            Self::Steering(_) => "steering",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Protocol(protocol) => return write!(f, "protocol {protocol}"),
            Self::Scheduler(kind) => return write!(f, "scheduler {kind}"),
            Self::Sysctl(name) => return write!(f, "sysctl {name}"),
            Self::Family(Family::V4) => "IPv4",
            Self::Family(Family::V6) => "IPv6",
            Self::MarkService => "services by firewall mark",
            Self::Flags => "scheduler flags",
            Self::Persistence => "persistence",
            Self::PersistenceEngine => "persistence engines",
            Self::OnePacket => "one-packet scheduling",
            Self::LocalAddresses => "local addresses",
            Self::ClientAddress => "client address for FULLNAT",
            Self::MssClamp => "MSS clamping",
            Self::Lists => "block and allow lists",
            Self::AddressSets => "ipset",
            Self::ConnectionTimeout => "a timeout of the service's own",
            Self::ExpireQuiescent => "expiry of quiescent connections",
            Self::Synproxy => "synproxy",
            Self::Dr => "mode dr",
            Self::Local => "local delivery (a real that is the director itself)",
            Self::Ipip => "mode tun, tunnel ipip",
            Self::Gue => "mode tun, tunnel gue",
            Self::Gre => "mode tun, tunnel gre",
            Self::Nat => "mode nat",
            Self::FullNat => "mode fullnat",
            Self::CrossFamily => "mode fullnat from IPv6 to IPv4",
            Self::Thresholds => "connection thresholds",
            Self::Route => "static routes",
            Self::Multipath => "routes with several next hops",
            Self::Vlan => "VLAN ports",
            Self::Bond => "bonded ports",
            Self::MarkRule => "firewall marks",
            Self::Steering(Steering::Tuple) => "steering tuple",
            Self::Steering(Steering::Client) => "steering client",
        };
        f.write_str(words)
    }
}

/// The answer to a request for something that a later version does. Shows as
/// `scheduler mh: not built yet`; who answers it exits with 2 (the daemon at start: 78).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: not built yet")]
pub struct NotBuilt(pub Feature);

/// Whether this version can do what the service asks for, its real servers aside.
///
/// # Errors
///
/// The first thing that it can't.
pub fn service(service: &Service) -> Result<(), NotBuilt> {
    all(uses_of_service(service))
}

/// Whether this version can do what a real server of the service asks for.
///
/// A real with one of the director's own addresses would be local delivery too; only the
/// loopback addresses are known here, the rest is for whoever knows the ports.
///
/// # Errors
///
/// The first thing that it can't.
pub fn real(service: &Service, real: &Real) -> Result<(), NotBuilt> {
    all(uses_of_real(service, real))
}

/// Whether this version can set the tunable.
///
/// # Errors
///
/// It can't.
pub fn sysctl(name: &'static str) -> Result<(), NotBuilt> {
    all([Feature::Sysctl(name)])
}

fn all(features: impl IntoIterator<Item = Feature>) -> Result<(), NotBuilt> {
    match features.into_iter().find(|feature| !feature.is_built()) {
        Some(feature) => Err(NotBuilt(feature)),
        None => Ok(()),
    }
}

/// What a service asks for, its real servers aside.
pub(crate) fn uses_of_service(service: &Service) -> Vec<Feature> {
    let mut uses = vec![match service.listen {
        Listen::Address { protocol, .. } => Feature::Protocol(protocol),
        Listen::Mark { .. } => Feature::MarkService,
    }];
    uses.push(Feature::Family(service.listen.family()));
    uses.push(Feature::Scheduler(service.scheduler));
    let options = [
        (service.flags != SchedulerFlags::default(), Feature::Flags),
        (service.persistence.is_some(), Feature::Persistence),
        (has_engine(service), Feature::PersistenceEngine),
        (service.one_packet, Feature::OnePacket),
        (!service.local_addresses.is_empty(), Feature::LocalAddresses),
        (
            service.client_address != ClientAddress::None,
            Feature::ClientAddress,
        ),
        (service.mss_clamp, Feature::MssClamp),
        (
            !service.block.is_empty() || !service.allow.is_empty(),
            Feature::Lists,
        ),
        (
            service.connection_timeout.is_some(),
            Feature::ConnectionTimeout,
        ),
        (service.expire_quiescent, Feature::ExpireQuiescent),
        (service.synproxy, Feature::Synproxy),
    ];
    uses.extend(chosen(options));
    uses
}

fn has_engine(service: &Service) -> bool {
    let persistence = service.persistence.as_ref();
    persistence.is_some_and(|persistence| persistence.engine.is_some())
}

/// What a real server asks for.
pub(crate) fn uses_of_real(service: &Service, real: &Real) -> Vec<Feature> {
    let mode = match real.mode {
        Mode::Dr => Feature::Dr,
        Mode::Tun(Tunnel::Ipip) => Feature::Ipip,
        Mode::Tun(Tunnel::Gue { .. }) => Feature::Gue,
        Mode::Tun(Tunnel::Gre { .. }) => Feature::Gre,
        Mode::Nat => Feature::Nat,
        Mode::FullNat => Feature::FullNat,
    };
    let address = real.endpoint.address;
    let mut uses = vec![mode, Feature::Family(Family::of(&address))];
    uses.extend(chosen([
        (
            real.mode == Mode::Dr && address.is_loopback(),
            Feature::Local,
        ),
        (
            real.mode == Mode::FullNat && Family::of(&address) != service.listen.family(),
            Feature::CrossFamily,
        ),
        (real.upper > 0 || real.lower > 0, Feature::Thresholds),
    ]));
    uses
}

/// What `[dataplane]` asks for.
pub(crate) fn uses_of_dataplane(dataplane: &Dataplane) -> Vec<Feature> {
    vec![Feature::Steering(dataplane.steering)]
}

/// What a port asks for.
pub(crate) fn uses_of_port(port: &Port) -> Vec<Feature> {
    let families = port.addresses.iter().map(|prefix| family(prefix.address));
    let vlan = port.vlan.iter().map(|_| Feature::Vlan);
    families.chain(vlan).collect()
}

/// What a route asks for.
pub(crate) fn uses_of_route(route: &Route) -> Vec<Feature> {
    let hops = if route.via.len() > 1 {
        Feature::Multipath
    } else {
        Feature::Route
    };
    vec![family(route.to.address), hops]
}

/// What an address asks for.
pub(crate) fn family(address: IpAddr) -> Feature {
    Feature::Family(Family::of(&address))
}

fn chosen<const N: usize>(options: [(bool, Feature); N]) -> impl Iterator<Item = Feature> {
    options
        .into_iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, feature)| feature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, TunnelChecksum};

    fn web() -> Service {
        let address = IpAddr::from([10, 0, 0, 1]);
        Service::new(Listen::Address {
            protocol: Protocol::Tcp,
            address,
            port: 80,
        })
    }

    fn behind(mode: Mode) -> Real {
        let endpoint = Endpoint {
            address: IpAddr::from([10, 0, 0, 2]),
            port: 80,
        };
        Real {
            endpoint,
            mode,
            weight: 1,
            upper: 0,
            lower: 0,
        }
    }

    fn answer(result: Result<(), NotBuilt>) -> String {
        result.map_or_else(|not_built| not_built.to_string(), |()| "built".to_owned())
    }

    #[test]
    fn services() {
        let mh = Service {
            scheduler: SchedulerKind::Mh,
            ..web()
        };
        let sip = Service {
            persistence: Some(crate::model::Persistence {
                timeout: 300,
                mask: crate::model::PersistenceMask::full(Family::V4),
                engine: Some("sip".to_owned()),
            }),
            ..web()
        };
        let v6 = Listen::Mark {
            mark: 1,
            family: Family::V6,
        };
        let cases = [
            (web(), "built"),
            (mh, "built"),
            (
                Service {
                    one_packet: true,
                    ..web()
                },
                "built",
            ),
            (sip, "persistence engines: not built yet"),
            (Service::new(v6), "built"),
        ];
        for (given, want) in cases {
            assert_eq!(answer(service(&given)), want);
        }
    }

    #[test]
    fn reals() {
        let gre = Tunnel::Gre {
            checksum: TunnelChecksum::None,
        };
        let loopback = Endpoint {
            address: IpAddr::from([127, 0, 0, 1]),
            port: 80,
        };
        let limited = Real {
            upper: 9,
            ..behind(Mode::Dr)
        };
        let local = Real {
            endpoint: loopback,
            ..behind(Mode::Dr)
        };
        let cases = [
            (behind(Mode::Dr), "built"),
            (behind(Mode::Nat), "built"),
            (behind(Mode::FullNat), "built"),
            (behind(Mode::Tun(Tunnel::Ipip)), "built"),
            (behind(Mode::Tun(gre)), "built"),
            (limited, "built"),
            (local, "built"),
        ];
        for (given, want) in cases {
            assert_eq!(answer(real(&web(), &given)), want);
        }
    }
}
