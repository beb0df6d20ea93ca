//! How a listing looks, to the blank: ipvsadm's layouts.
//!
//! Two things differ from ipvsadm on purpose. Addresses sort as numbers (its comparator
//! subtracts them as signed words, so that 10.x may come behind 192.x), and a mark above
//! 2147483647 is printed as it is (there it turns negative).

use std::fmt::Write;
use std::net::IpAddr;

use config::model::{
    ClientAddress, Endpoint, Family, Listen, Mode, Protocol, SchedulerFlags, SchedulerKind,
    Service, Tunnel, TunnelChecksum,
};

use crate::command::{AccessList, ListOptions};
use crate::listing::{
    Listing, ListingConnection, ListingDaemon, ListingPersistence, ListingReal, ListingService,
};
use crate::names::{Names, Numeric};
use crate::text::Written;

/// The first line of a listing of everything. The size is the kernel's default, for scripts that
/// read it; it says nothing of Sluice's own tables.
pub const VERSION_LINE: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";

const REAL_TITLE: &str = "  -> RemoteAddress:Port\n";
/// Columns of a service's name in a listing; longer IPv4 ones are cut.
const SERVICE_WIDTH: usize = 33;
/// Columns of a real server's name.
const REAL_WIDTH: usize = 28;

/// The text of a listing.
///
/// Which services it holds (all or one) the caller has chosen; `options.service` only says that
/// one was asked for, and so the version line is left out.
pub fn list(listing: &Listing, options: &ListOptions, names: &dyn Names) -> String {
    if options.connections {
        connections_title(options) + &connections(&listing.connections, options, names)
    } else if options.timeout {
        timeouts(listing)
    } else if options.daemon {
        listing.daemons.iter().map(daemon).collect()
    } else {
        services(listing, options, names)
    }
}

/// The services as the calls that make them (`-S`).
pub fn save(listing: &Listing, numeric: bool, names: &dyn Names) -> String {
    let show = Show { names, numeric };
    let mut text = String::new();
    for service in sorted(listing) {
        let key = show.selector(&service.listen);
        push(
            &mut text,
            format_args!("-A {key}{}\n", saved_service(service)),
        );
        for (at, address) in service.local_addresses.iter().enumerate() {
            let interface = service
                .local_interfaces
                .get(at)
                .map_or("lo", String::as_str);
            let saved = format_args!("-P {key} -z {address} -F {interface}\n");
            push(&mut text, saved);
        }
        for list in [AccessList::Block, AccessList::Allow] {
            let [add, _, option] = access_words(list);
            for clients in clients_of(service, list) {
                push(&mut text, format_args!("{add} {key} {option} {clients}\n"));
            }
        }
        // ipvsadm has no word for a sorry server: restored, it would be one like the others.
        for real in sorted_reals(service).into_iter().filter(|real| !real.sorry) {
            let name = show.endpoint(&real.endpoint, protocol_of(&service.listen));
            push(
                &mut text,
                format_args!("-a {key} -r {name}{}\n", saved_real(real)),
            );
        }
    }
    text
}

/// The commands that add to an access list and take from it, and the option for an entry.
pub(crate) fn access_words(list: AccessList) -> [&'static str; 3] {
    match list {
        AccessList::Block => ["-U", "-V", "-k"],
        AccessList::Allow => ["-O", "-Y", "-2"],
    }
}

fn clients_of(service: &ListingService, list: AccessList) -> &[String] {
    match list {
        AccessList::Block => &service.block,
        AccessList::Allow => &service.allow,
    }
}

/// One of the access lists of each service (`-B`, `-W`), as DPVS lays them out: in
/// numbers.
pub fn access_lists(listing: &Listing, list: AccessList) -> String {
    let show = Show {
        names: &Numeric,
        numeric: true,
    };
    let title = match list {
        AccessList::Block => "BLACKLIST",
        AccessList::Allow => "WHITELIST",
    };
    let mut text = format!("{:<8} {:<30} {title:<30}\n", "PROTO", "VIP:VPORT");
    for service in sorted(listing) {
        let (protocol, name) = show.columns(&service.listen);
        for clients in clients_of(service, list) {
            push(
                &mut text,
                format_args!("{protocol:<8} {name:<30} {clients:<30}\n"),
            );
        }
    }
    text
}

/// The local addresses of each service (`-G`), as DPVS lays them out. What it counts for each
/// of them nobody counts here.
pub fn local_addresses(listing: &Listing, names: &dyn Names) -> String {
    let numeric = true;
    let show = Show { names, numeric };
    let mut text = format!(
        "{:<20} {:<8} {:<20} {:<10} {:<10}\n",
        "VIP:VPORT", "TOTAL", "SNAT_IP", "CONFLICTS", "CONNS"
    );
    for service in sorted(listing) {
        let mut name = match service.listen {
            Listen::Address { address, port, .. } => {
                let endpoint = Endpoint { address, port };
                show.endpoint(&endpoint, protocol_of(&service.listen))
            }
            Listen::Mark { mark, .. } => format!("FWM {mark}"),
        };
        let mut total = service.local_addresses.len().to_string();
        for address in &service.local_addresses {
            let address = address.to_string();
            let row = format_args!(
                "{name:<20} {total:<8} {address:<20} {:<10} {:<10}\n",
                '-', '-'
            );
            push(&mut text, row);
            (name, total) = Default::default();
        }
    }
    text
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes everything");
}

/// The services in listing order.
pub(crate) fn sorted(listing: &Listing) -> Vec<&ListingService> {
    let mut services: Vec<_> = listing.services.iter().collect();
    services.sort_by_key(|service| service.listen.sort_key());
    services
}

fn sorted_reals(service: &ListingService) -> Vec<&ListingReal> {
    let mut reals: Vec<_> = service.reals.iter().collect();
    reals.sort_by_key(|real| real.endpoint);
    reals
}

/// Which columns a listing of services has. Of several that were asked for the first wins.
#[derive(Clone, Copy)]
enum View {
    Stats,
    Rate,
    Thresholds,
    Persistent,
    TunInfo,
    Normal,
}

impl View {
    fn of(options: &ListOptions) -> Self {
        let asked = [
            (options.stats, Self::Stats),
            (options.rate, Self::Rate),
            (options.thresholds, Self::Thresholds),
            (options.persistent, Self::Persistent),
            (options.tun_info, Self::TunInfo),
        ];
        asked
            .into_iter()
            .find(|(asked, _)| *asked)
            .map_or(Self::Normal, |(_, view)| view)
    }

    fn title(self) -> String {
        let local = "Prot LocalAddress:Port";
        match self {
            Self::Stats => numbers_title(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
            Self::Rate => numbers_title(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
            Self::Thresholds => format!(
                "{local:<33} {:<10} {:<10} {:<10} {:<10}\n{REAL_TITLE}",
                "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
            ),
            Self::Persistent => format!(
                "{local:<33} {:<9} {:<11} {:<10} {:<10}\n{REAL_TITLE}",
                "Weight", "PersistConn", "ActiveConn", "InActConn"
            ),
            Self::TunInfo => format!(
                "{local} Scheduler Flags\n  -> {:<28} Forward TunnelInfo    \
                 Weight ActiveConn InActConn\n",
                "RemoteAddress:Port"
            ),
            Self::Normal => format!(
                "{local} Scheduler Flags\n  -> {:<28} Forward Weight ActiveConn InActConn\n",
                "RemoteAddress:Port"
            ),
        }
    }
}

fn numbers_title(titles: [&str; 5]) -> String {
    let [a, b, c, d, e] = titles;
    let local = "Prot LocalAddress:Port";
    format!("{local:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n{REAL_TITLE}")
}

fn services(listing: &Listing, options: &ListOptions, names: &dyn Names) -> String {
    let show = Show {
        names,
        numeric: options.numeric,
    };
    let view = View::of(options);
    let version = if options.service.is_none() {
        VERSION_LINE
    } else {
        ""
    };
    let mut text = format!("{version}{}", view.title());
    let services = if options.nosort {
        listing.services.iter().collect()
    } else {
        sorted(listing)
    };
    for service in services {
        text.push_str(&service_row(service, view, options.exact, &show));
        for real in reals(service, options.nosort) {
            let name = show.real(&real.endpoint, protocol_of(&service.listen));
            text.push_str(&real_row(&name, real, view, options.exact));
        }
    }
    text
}

/// The kernel puts a new real server first.
fn reals(service: &ListingService, nosort: bool) -> Vec<&ListingReal> {
    if nosort {
        service.reals.iter().rev().collect()
    } else {
        sorted_reals(service)
    }
}

fn service_row(service: &ListingService, view: View, exact: bool, show: &Show<'_>) -> String {
    let key = show.key(&service.listen);
    match view {
        View::Stats => {
            let t = service.totals;
            let row = [
                t.connections,
                t.packets_in,
                t.packets_out,
                t.bytes_in,
                t.bytes_out,
            ];
            format!("{key:<33}{}\n", large(&row, exact))
        }
        View::Rate => {
            let r = service.rates;
            let row = [
                r.connections,
                r.packets_in,
                r.packets_out,
                r.bytes_in,
                r.bytes_out,
            ];
            format!("{key:<33}{}\n", large(&row, exact))
        }
        _ => format!("{key} {}{}\n", service.scheduler, settings(service)),
    }
}

/// What stands behind the scheduler.
fn settings(service: &ListingService) -> String {
    let mut text = String::new();
    let flags = flag_names(service.scheduler, service.scheduler_flags());
    if !flags.is_empty() {
        push(&mut text, format_args!(" ({flags})"));
    }
    if let Some(persistence) = &service.persistence {
        push(
            &mut text,
            format_args!(" persistent {}", persistence.timeout),
        );
        if let Some(mask) = partial_mask(persistence) {
            push(&mut text, format_args!(" mask {mask}"));
        }
        if let Some(engine) = &persistence.engine {
            push(&mut text, format_args!(" pe {engine}"));
        }
    }
    let more = [
        (service.one_packet, " ops"),
        (service.synproxy, " synproxy"),
    ];
    for (_, word) in more.into_iter().filter(|(set, _)| *set) {
        text.push_str(word);
    }
    if let Some(seconds) = service.connection_timeout {
        push(&mut text, format_args!(" conn-timeout {seconds}"));
    }
    text.push_str(client_word(service.client_address));
    let more = [
        (service.expire_quiescent, " expire-quiescent"),
        (service.mss_clamp, " mss-clamp"),
    ];
    for (_, word) in more.into_iter().filter(|(set, _)| *set) {
        text.push_str(word);
    }
    text
}

/// DPVS's word for how a real server learns who the client is; it has none for TOA.
fn client_word(way: ClientAddress) -> &'static str {
    match way {
        ClientAddress::None => "",
        ClientAddress::Toa => " toa",
        ClientAddress::ProxyV1 => " ppv1",
        ClientAddress::ProxyV2 => " ppv2",
        ClientAddress::ProxyV1Insecure => " ppv1-insecure",
        ClientAddress::ProxyV2Insecure => " ppv2-insecure",
    }
}

fn partial_mask(persistence: &ListingPersistence) -> Option<String> {
    (!persistence.mask.is_full()).then(|| persistence.mask.write())
}

/// The flags that are set, by their names for this scheduler.
pub(crate) fn flag_names(scheduler: SchedulerKind, flags: SchedulerFlags) -> String {
    let (fallback, port) = match scheduler {
        SchedulerKind::Sh => ("sh-fallback", "sh-port"),
        SchedulerKind::Mh => ("mh-fallback", "mh-port"),
        _ => ("flag-1", "flag-2"),
    };
    let all = [
        (SchedulerFlags::FALLBACK, fallback),
        (SchedulerFlags::PORT, port),
        (SchedulerFlags::THIRD, "flag-3"),
    ];
    let set: Vec<_> = all
        .iter()
        .filter(|(bit, _)| flags.0 & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    set.join(",")
}

fn real_row(name: &str, real: &ListingReal, view: View, exact: bool) -> String {
    let ListingReal {
        weight,
        active,
        inactive,
        persistent,
        upper,
        lower,
        ..
    } = real;
    let row = match view {
        View::Stats => {
            let t = real.totals;
            let row = [
                t.connections,
                t.packets_in,
                t.packets_out,
                t.bytes_in,
                t.bytes_out,
            ];
            large(&row, exact)
        }
        View::Rate => {
            let r = real.rates;
            let bytes = large(&[r.bytes_in, r.bytes_out], exact);
            format!(
                " {:>8} {:>8} {:>8}{bytes}",
                r.connections, r.packets_in, r.packets_out
            )
        }
        View::Thresholds => format!(" {upper:<10} {lower:<10} {active:<10} {inactive:<10}"),
        View::Persistent => {
            format!(" {weight:<9} {persistent:<11} {active:<10} {inactive:<10}")
        }
        View::TunInfo => format!(
            " {:<7} {:<13} {weight:<6} {active:<10} {inactive:<10}",
            forward(real),
            tunnel_info(real.mode)
        ),
        View::Normal => {
            format!(
                " {:<7} {weight:<6} {active:<10} {inactive:<10}",
                forward(real)
            )
        }
    };
    format!("  -> {name:<28}{row}\n")
}

pub(crate) fn forward(real: &ListingReal) -> &'static str {
    match real.mode {
        _ if real.local => "Local",
        Mode::Dr => "Route",
        Mode::Tun(_) => "Tunnel",
        Mode::Nat => "Masq",
        Mode::FullNat => "FullNat",
    }
}

fn tunnel_info(mode: Mode) -> String {
    let Mode::Tun(tunnel) = mode else {
        return "n/a".to_owned();
    };
    let sign = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Sum => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match tunnel {
        Tunnel::Ipip => "ipip".to_owned(),
        Tunnel::Gue { port, checksum } => format!("gue:{port}:{}", sign(checksum)),
        Tunnel::Gre { checksum } => format!("gre:{}", sign(checksum)),
    }
}

/// Numbers side by side, nine columns each, abbreviated from 10^8 on unless `exact`.
fn large(numbers: &[u64], exact: bool) -> String {
    numbers
        .iter()
        .map(|&number| large_number(number, exact))
        .collect()
}

fn large_number(number: u64, exact: bool) -> String {
    let (divisor, unit) = match number {
        _ if exact => return format!(" {number:>8}"),
        0..100_000_000 => return format!(" {number:>8}"),
        100_000_000..1_000_000_000 => (1_000, 'K'),
        1_000_000_000..100_000_000_000 => (1_000_000, 'M'),
        100_000_000_000..100_000_000_000_000 => (1_000_000_000, 'G'),
        _ => (1_000_000_000_000, 'T'),
    };
    format!("{:>8}{unit}", number / divisor)
}

fn saved_service(service: &ListingService) -> String {
    let mut text = format!(" -s {}", service.scheduler);
    if let Some(persistence) = &service.persistence {
        push(&mut text, format_args!(" -p {}", persistence.timeout));
        if let Some(mask) = partial_mask(persistence) {
            push(&mut text, format_args!(" -M {mask}"));
        }
        if let Some(engine) = &persistence.engine {
            push(&mut text, format_args!(" --pe {engine}"));
        }
    }
    if service.one_packet {
        text.push_str(" -o");
    }
    let flags = flag_names(service.scheduler, service.scheduler_flags());
    if !flags.is_empty() {
        push(&mut text, format_args!(" -b {flags}"));
    }
    text + &more_options(&More::listed(service))
}

/// The settings of a service that ipvsadm knows nothing of.
pub(crate) struct More {
    synproxy: bool,
    connection_timeout: Option<u32>,
    client_address: ClientAddress,
    expire_quiescent: bool,
    mss_clamp: bool,
}

impl More {
    fn listed(service: &ListingService) -> Self {
        Self {
            synproxy: service.synproxy,
            connection_timeout: service.connection_timeout,
            client_address: service.client_address,
            expire_quiescent: service.expire_quiescent,
            mss_clamp: service.mss_clamp,
        }
    }

    pub(crate) fn of(service: &Service) -> Self {
        Self {
            synproxy: service.synproxy,
            connection_timeout: service.connection_timeout,
            client_address: service.client_address,
            expire_quiescent: service.expire_quiescent,
            mss_clamp: service.mss_clamp,
        }
    }
}

/// The options that make those settings; what has its default is left out.
pub(crate) fn more_options(more: &More) -> String {
    let mut text = String::new();
    if more.synproxy {
        text.push_str(" -j enable");
    }
    if let Some(seconds) = more.connection_timeout {
        push(&mut text, format_args!(" --conn-timeout {seconds}"));
    }
    let client = more.client_address.name();
    match client.strip_prefix("proxy-") {
        Some(version) => push(&mut text, format_args!(" --proxy-protocol {version}")),
        None if more.client_address == ClientAddress::None => {}
        None => push(&mut text, format_args!(" --client-address {client}")),
    }
    if more.expire_quiescent {
        text.push_str(" --expire-quiescent");
    }
    if more.mss_clamp {
        text.push_str(" --mss-clamp");
    }
    text
}

fn saved_real(real: &ListingReal) -> String {
    let weight = real.weight;
    let (method, tunnel) = mode_options(real.mode);
    format!(" {method} -w {weight}{tunnel}")
}

/// The option of a mode, and those of its tunnel.
pub(crate) fn mode_options(mode: Mode) -> (&'static str, String) {
    match mode {
        Mode::Dr => ("-g", String::new()),
        Mode::Nat => ("-m", String::new()),
        Mode::FullNat => ("-b", String::new()),
        Mode::Tun(Tunnel::Ipip) => ("-i", " --tun-type ipip".to_owned()),
        Mode::Tun(Tunnel::Gue { port, checksum }) => {
            let checksum = checksum_option(checksum);
            (
                "-i",
                format!(" --tun-type gue --tun-port {port} {checksum}"),
            )
        }
        Mode::Tun(Tunnel::Gre { checksum }) => (
            "-i",
            format!(" --tun-type gre {}", checksum_option(checksum)),
        ),
    }
}

fn checksum_option(checksum: TunnelChecksum) -> &'static str {
    match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Sum => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    }
}

fn timeouts(listing: &Listing) -> String {
    match listing.timeouts {
        Some(t) => format!(
            "Timeout (tcp tcpfin udp): {} {} {}\n",
            t.tcp, t.tcp_fin, t.udp
        ),
        None => String::new(),
    }
}

fn daemon(daemon: &ListingDaemon) -> String {
    let ListingDaemon {
        role,
        interface,
        sync_id,
        max_length,
        group,
        port,
        ttl,
    } = daemon;
    format!(
        "{role} sync daemon (mcast={interface}, syncid={sync_id}, maxlen={max_length}, \
         group={group}, port={port}, ttl={ttl})\n"
    )
}

/// What stands above the connections.
pub fn connections_title(options: &ListOptions) -> String {
    let mut text = String::from("IPVS connection entries\n");
    let title = format!(
        "pro expire {:<11} {:<18} {:<18} {}",
        "state",
        "source",
        "virtual",
        if options.persistent {
            format!("{:<18} ", "destination")
        } else {
            "destination".into()
        }
    );
    text.push_str(&title);
    text.push_str(if options.persistent {
        "pe name          pe_data\n"
    } else {
        "\n"
    });
    text
}

/// The lines of some connections, in their order.
pub fn connections(rows: &[ListingConnection], options: &ListOptions, names: &dyn Names) -> String {
    let show = Show {
        names,
        numeric: options.numeric,
    };
    let mut text = String::new();
    for row in rows {
        text.push_str(&connection_row(row, options.persistent, &show));
    }
    text
}

fn connection_row(row: &ListingConnection, with_engine: bool, show: &Show<'_>) -> String {
    let protocol = match row.protocol.as_ref() {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    };
    let expires = format!("{:02}:{:02}", row.expires / 60, row.expires % 60);
    let [client, vip, real] =
        [&row.client, &row.vip, &row.real].map(|endpoint| show.endpoint(endpoint, protocol));
    let start = format!(
        "{:<3} {expires:<6} {:<11} {client:<18} {vip:<18}",
        row.protocol, row.state
    );
    match (&row.engine, &row.engine_data) {
        (Some(engine), Some(data)) if with_engine => {
            format!("{start} {real:<18} {engine:<16} {data:<18}\n")
        }
        _ => format!("{start} {real}\n"),
    }
}

fn protocol_of(listen: &Listen) -> Option<Protocol> {
    match listen {
        Listen::Address { protocol, .. } => Some(*protocol),
        Listen::Mark { .. } => None,
    }
}

/// Addresses as the user wants them: by name or by number.
struct Show<'a> {
    names: &'a dyn Names,
    numeric: bool,
}

impl Show<'_> {
    /// `address:port`; without a protocol the port stays a number.
    fn endpoint(&self, endpoint: &Endpoint, protocol: Option<Protocol>) -> String {
        if self.numeric {
            return endpoint.to_string();
        }
        let host = self.names.host_name(&endpoint.address);
        let host = host.unwrap_or_else(|| endpoint.address.to_string());
        let port = protocol.and_then(|protocol| self.names.service_name(endpoint.port, protocol));
        let port = port.unwrap_or_else(|| endpoint.port.to_string());
        match endpoint.address {
            IpAddr::V4(_) => format!("{host}:{port}"),
            IpAddr::V6(_) => format!("[{host}]:{port}"),
        }
    }

    /// A service's protocol and name in columns of their own; a mark's are FWM and the number.
    fn columns(&self, listen: &Listen) -> (String, String) {
        match *listen {
            Listen::Mark { mark, family } => {
                let v6 = if family == Family::V6 { " IPv6" } else { "" };
                ("FWM".to_owned(), format!("{mark}{v6}"))
            }
            Listen::Address {
                protocol,
                address,
                port,
            } => {
                let name = self.endpoint(&Endpoint { address, port }, Some(protocol));
                (protocol.name().to_uppercase(), name)
            }
        }
    }

    /// The name of a real server in a listing.
    fn real(&self, endpoint: &Endpoint, protocol: Option<Protocol>) -> String {
        cut(
            self.endpoint(endpoint, protocol),
            Family::of(&endpoint.address),
            REAL_WIDTH,
        )
    }

    /// The name of a service in a listing.
    fn key(&self, listen: &Listen) -> String {
        match *listen {
            Listen::Mark {
                mark,
                family: Family::V4,
            } => format!("FWM  {mark}"),
            Listen::Mark {
                mark,
                family: Family::V6,
            } => format!("FWM  {mark} IPv6"),
            Listen::Address {
                protocol,
                address,
                port,
            } => {
                let name = self.endpoint(&Endpoint { address, port }, Some(protocol));
                let key = format!("{:<4} {name}", protocol.name().to_uppercase());
                cut(key, Family::of(&address), SERVICE_WIDTH)
            }
        }
    }

    /// The option that names a service.
    fn selector(&self, listen: &Listen) -> String {
        let (option, protocol, address, port) = match *listen {
            Listen::Mark {
                mark,
                family: Family::V4,
            } => return format!("-f {mark}"),
            Listen::Mark {
                mark,
                family: Family::V6,
            } => return format!("-f {mark} -6"),
            Listen::Address {
                protocol: Protocol::Tcp,
                address,
                port,
            } => ("-t", Protocol::Tcp, address, port),
            Listen::Address {
                protocol: Protocol::Udp,
                address,
                port,
            } => ("-u", Protocol::Udp, address, port),
            Listen::Address {
                protocol: Protocol::Sctp,
                address,
                port,
            } => ("--sctp-service", Protocol::Sctp, address, port),
        };
        let name = self.endpoint(&Endpoint { address, port }, Some(protocol));
        format!("{option} {name}")
    }
}

/// The option that names a service, in numbers.
pub(crate) fn selector(listen: &Listen) -> String {
    Show {
        names: &Numeric,
        numeric: true,
    }
    .selector(listen)
}

/// Names of IPv4 are cut to their column; those of IPv6 overflow it.
fn cut(name: String, family: Family, width: usize) -> String {
    match family {
        Family::V4 => name.chars().take(width).collect(),
        Family::V6 => name,
    }
}

#[cfg(test)]
mod tests;
