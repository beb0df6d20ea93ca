//! The table of the grammar: every command, every option, and which go together.
//!
//! Adding an option is a [`Flag`], a row of [`OPTIONS`] and its [`Group`] in the rows of the
//! commands that take it.

use Group as G;
use Takes::{Maybe, Nothing, Value};

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// None.
    Nothing,
    /// Always one.
    Value,
    /// The next word, unless that is an option.
    Maybe,
}

/// The commands, as the table names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    AddReal,
    EditReal,
    DeleteReal,
    List,
    Save,
    Restore,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    AddLocal,
    DeleteLocal,
    ListLocal,
    AddBlock,
    DeleteBlock,
    ListBlock,
    AddAllow,
    DeleteAllow,
    ListAllow,
    Help,
    Version,
}

impl Verb {
    /// Whether the call describes a real server.
    pub(crate) fn describes_real(self) -> bool {
        matches!(self, Self::AddReal | Self::EditReal)
    }
}

/// One command.
pub(crate) struct CommandRow {
    pub(crate) verb: Verb,
    pub(crate) short: &'static [char],
    pub(crate) long: &'static str,
    pub(crate) takes: Takes,
    /// Its name in messages.
    pub(crate) name: &'static str,
    pub(crate) required: &'static [Group],
    pub(crate) allowed: &'static [Group],
    /// Allowed, one at most.
    pub(crate) exclusive: &'static [Group],
}

const fn row(
    verb: Verb,
    short: &'static [char],
    long: &'static str,
    name: &'static str,
    required: &'static [Group],
    allowed: &'static [Group],
) -> CommandRow {
    CommandRow {
        verb,
        short,
        long,
        takes: Nothing,
        name,
        required,
        allowed,
        exclusive: &[],
    }
}

const SERVICE: &[Group] = &[
    G::Scheduler,
    G::Persistent,
    G::Netmask,
    G::Ops,
    G::Engine,
    G::SchedFlags,
    G::Synproxy,
    G::ConnTimeout,
    G::ProxyProtocol,
    G::ExpireQuiescent,
    G::MssClamp,
];
const REAL: &[Group] = &[
    G::Forward,
    G::Weight,
    G::Upper,
    G::Lower,
    G::TunType,
    G::TunPort,
    G::TunNocsum,
    G::TunCsum,
    G::TunRemcsum,
];
const LIST: &[Group] = &[
    G::Numeric,
    G::Stats,
    G::Rate,
    G::Thresholds,
    G::PersistentConn,
    G::Nosort,
    G::SyncId,
    G::Exact,
    G::TunInfo,
];
const DAEMON: &[Group] = &[
    G::McastInterface,
    G::SyncId,
    G::McastAddress,
    G::McastPort,
    G::McastTtl,
    G::SyncMaxlen,
];

const ONE_SERVICE: &[Group] = &[G::Service];
const ONE_REAL: &[Group] = &[G::Service, G::Real];
const ONE_LOCAL: &[Group] = &[G::Service, G::Local, G::Interface];
const ONE_BLOCK: &[Group] = &[G::Service, G::Block];
const ONE_ALLOW: &[Group] = &[G::Service, G::Allow];

/// Every command.
pub(crate) const COMMANDS: &[CommandRow] = &[
    row(
        Verb::AddService,
        &['A'],
        "add-service",
        "add-service",
        ONE_SERVICE,
        SERVICE,
    ),
    row(
        Verb::EditService,
        &['E'],
        "edit-service",
        "edit-service",
        ONE_SERVICE,
        SERVICE,
    ),
    row(
        Verb::DeleteService,
        &['D'],
        "delete-service",
        "delete-service",
        ONE_SERVICE,
        &[],
    ),
    row(Verb::Flush, &['C'], "clear", "flush", &[], &[]),
    row(
        Verb::AddReal,
        &['a'],
        "add-server",
        "add-server",
        ONE_REAL,
        REAL,
    ),
    row(
        Verb::EditReal,
        &['e'],
        "edit-server",
        "edit-server",
        ONE_REAL,
        REAL,
    ),
    row(
        Verb::DeleteReal,
        &['d'],
        "delete-server",
        "delete-server",
        ONE_REAL,
        &[],
    ),
    CommandRow {
        exclusive: &[G::Connection, G::Service, G::Timeout, G::Daemon],
        ..row(Verb::List, &['L', 'l'], "list", "list", &[], LIST)
    },
    row(Verb::Save, &['S'], "save", "save", &[], &[G::Numeric]),
    row(
        Verb::Restore,
        &['R'],
        "restore",
        "restore",
        &[],
        &[G::Atomic],
    ),
    row(Verb::Zero, &['Z'], "zero", "zero", &[], ONE_SERVICE),
    row(Verb::Set, &[], "set", "set", &[], &[]),
    CommandRow {
        takes: Value,
        ..row(
            Verb::StartDaemon,
            &[],
            "start-daemon",
            "start-daemon",
            &[],
            DAEMON,
        )
    },
    CommandRow {
        takes: Value,
        ..row(
            Verb::StopDaemon,
            &[],
            "stop-daemon",
            "stop-daemon",
            &[],
            &[G::SyncId],
        )
    },
    row(
        Verb::AddLocal,
        &['P'],
        "add-laddr",
        "add-laddr",
        ONE_LOCAL,
        &[],
    ),
    row(
        Verb::DeleteLocal,
        &['Q'],
        "del-laddr",
        "del-laddr",
        ONE_LOCAL,
        &[],
    ),
    row(
        Verb::ListLocal,
        &['G'],
        "get-laddr",
        "get-laddr",
        &[],
        &[G::Service, G::Numeric],
    ),
    row(
        Verb::AddBlock,
        &['U'],
        "add-blklst",
        "add-blklst",
        ONE_BLOCK,
        &[],
    ),
    row(
        Verb::DeleteBlock,
        &['V'],
        "del-blklst",
        "del-blklst",
        ONE_BLOCK,
        &[],
    ),
    row(
        Verb::ListBlock,
        &['B'],
        "get-blklst",
        "get-blklst",
        &[],
        &[G::Service, G::Numeric],
    ),
    row(
        Verb::AddAllow,
        &['O'],
        "add-whtlst",
        "add-whtlst",
        ONE_ALLOW,
        &[],
    ),
    row(
        Verb::DeleteAllow,
        &['Y'],
        "del-whtlst",
        "del-whtlst",
        ONE_ALLOW,
        &[],
    ),
    row(
        Verb::ListAllow,
        &['W'],
        "get-whtlst",
        "get-whtlst",
        &[],
        &[G::Service, G::Numeric],
    ),
    row(Verb::Help, &['h'], "help", "help", &[], &[]),
    row(Verb::Version, &['v'], "version", "version", &[], &[]),
];

/// What an option is about. Two options of one group exclude each other, and the order is that
/// in which ipvsadm looks for what is missing or illegal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Group {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Real,
    Forward,
    Weight,
    Upper,
    Lower,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    Nosort,
    SyncId,
    Exact,
    Ops,
    Engine,
    SchedFlags,
    McastAddress,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Local,
    Interface,
    Block,
    Allow,
    Synproxy,
    ConnTimeout,
    ProxyProtocol,
    ExpireQuiescent,
    MssClamp,
    Atomic,
}

/// The groups with their names in messages, in order.
pub(crate) const GROUPS: &[(Group, &str)] = &[
    (G::Numeric, "numeric"),
    (G::Connection, "connection"),
    (G::Service, "service-address"),
    (G::Scheduler, "scheduler"),
    (G::Persistent, "persistent"),
    (G::Netmask, "netmask"),
    (G::Real, "real-server"),
    (G::Forward, "forwarding-method"),
    (G::Weight, "weight"),
    (G::Upper, "u-threshold"),
    (G::Lower, "l-threshold"),
    (G::McastInterface, "mcast-interface"),
    (G::Timeout, "timeout"),
    (G::Daemon, "daemon"),
    (G::Stats, "stats"),
    (G::Rate, "rate"),
    (G::Thresholds, "thresholds"),
    (G::PersistentConn, "persistent-conn"),
    (G::Nosort, "nosort"),
    (G::SyncId, "syncid"),
    (G::Exact, "exact"),
    (G::Ops, "ops"),
    (G::Engine, "pe"),
    (G::SchedFlags, "sched-flags"),
    (G::McastAddress, "mcast-group"),
    (G::McastPort, "mcast-port"),
    (G::McastTtl, "mcast-ttl"),
    (G::SyncMaxlen, "sync-maxlen"),
    (G::TunInfo, "tun-info"),
    (G::TunType, "tun-type"),
    (G::TunPort, "tun-port"),
    (G::TunNocsum, "tun-nocsum"),
    (G::TunCsum, "tun-csum"),
    (G::TunRemcsum, "tun-remcsum"),
    (G::Local, "laddr"),
    (G::Interface, "ifname"),
    (G::Block, "blklst"),
    (G::Allow, "whtlst"),
    (G::Synproxy, "synproxy"),
    (G::ConnTimeout, "conn-timeout"),
    (G::ProxyProtocol, "proxy-protocol"),
    (G::ExpireQuiescent, "expire-quiescent"),
    (G::MssClamp, "mss-clamp"),
    (G::Atomic, "atomic"),
];

impl Group {
    /// The name in messages.
    pub(crate) fn name(self) -> &'static str {
        GROUPS[self as usize].1
    }

    /// The options about a tunnel's envelope.
    pub(crate) const TUNNEL: &'static [Self] = &[
        G::TunType,
        G::TunPort,
        G::TunNocsum,
        G::TunCsum,
        G::TunRemcsum,
    ];
}

/// The groups that a call has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used(u64);

impl Used {
    /// Adds a group; false if it was there.
    pub(crate) fn insert(&mut self, group: Group) -> bool {
        let bit = 1 << group as u8;
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }

    /// Whether the call has used the group.
    pub(crate) fn has(self, group: Group) -> bool {
        self.0 & (1 << group as u8) != 0
    }

    /// Whether the call has used any of the groups.
    pub(crate) fn any(self, groups: &[Group]) -> bool {
        groups.iter().any(|&group| self.has(group))
    }
}

/// The options, as the table names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    Tcp,
    Udp,
    Sctp,
    Mark,
    Ipv6,
    Scheduler,
    SchedFlags,
    Persistent,
    Netmask,
    Engine,
    Ops,
    Real,
    Dr,
    Tun,
    Nat,
    FullNat,
    Weight,
    Upper,
    Lower,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Connection,
    Numeric,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunInfo,
    Exact,
    Timeout,
    Daemon,
    Sort,
    Nosort,
    McastInterface,
    SyncId,
    SyncMaxlen,
    McastGroup,
    McastPort,
    McastTtl,
    Local,
    Interface,
    Block,
    Allow,
    Synproxy,
    ConnTimeout,
    ProxyProtocol,
    ClientAddress,
    ExpireQuiescent,
    MssClamp,
    Atomic,
}

/// One option.
pub(crate) struct OptionRow {
    pub(crate) flag: Flag,
    pub(crate) short: Option<char>,
    pub(crate) long: &'static str,
    pub(crate) takes: Takes,
    /// Absent: it may be repeated and never conflicts.
    pub(crate) group: Option<Group>,
}

const fn short(
    flag: Flag,
    short: char,
    long: &'static str,
    takes: Takes,
    group: Group,
) -> OptionRow {
    OptionRow {
        flag,
        short: Some(short),
        long,
        takes,
        group: Some(group),
    }
}

const fn long(flag: Flag, long: &'static str, takes: Takes, group: Group) -> OptionRow {
    OptionRow {
        flag,
        short: None,
        long,
        takes,
        group: Some(group),
    }
}

/// Every option.
///
/// `-b` is two: `--sched-flags` with a value for a service, `--fullnat` without for a real server.
pub(crate) const OPTIONS: &[OptionRow] = &[
    short(Flag::Tcp, 't', "tcp-service", Value, G::Service),
    short(Flag::Udp, 'u', "udp-service", Value, G::Service),
    long(Flag::Sctp, "sctp-service", Value, G::Service),
    short(Flag::Mark, 'f', "fwmark-service", Value, G::Service),
    OptionRow {
        flag: Flag::Ipv6,
        short: Some('6'),
        long: "ipv6",
        takes: Nothing,
        group: None,
    },
    short(Flag::Scheduler, 's', "scheduler", Value, G::Scheduler),
    short(Flag::SchedFlags, 'b', "sched-flags", Value, G::SchedFlags),
    short(Flag::Persistent, 'p', "persistent", Maybe, G::Persistent),
    short(Flag::Netmask, 'M', "netmask", Value, G::Netmask),
    long(Flag::Engine, "pe", Value, G::Engine),
    short(Flag::Ops, 'o', "ops", Nothing, G::Ops),
    short(Flag::Real, 'r', "real-server", Value, G::Real),
    short(Flag::Dr, 'g', "gatewaying", Nothing, G::Forward),
    short(Flag::Tun, 'i', "ipip", Nothing, G::Forward),
    short(Flag::Nat, 'm', "masquerading", Nothing, G::Forward),
    short(Flag::FullNat, 'b', "fullnat", Nothing, G::Forward),
    short(Flag::Weight, 'w', "weight", Value, G::Weight),
    short(Flag::Upper, 'x', "u-threshold", Value, G::Upper),
    short(Flag::Lower, 'y', "l-threshold", Value, G::Lower),
    long(Flag::TunType, "tun-type", Value, G::TunType),
    long(Flag::TunPort, "tun-port", Value, G::TunPort),
    long(Flag::TunNocsum, "tun-nocsum", Nothing, G::TunNocsum),
    long(Flag::TunCsum, "tun-csum", Nothing, G::TunCsum),
    long(Flag::TunRemcsum, "tun-remcsum", Nothing, G::TunRemcsum),
    short(Flag::Connection, 'c', "connection", Nothing, G::Connection),
    short(Flag::Numeric, 'n', "numeric", Nothing, G::Numeric),
    long(Flag::Stats, "stats", Nothing, G::Stats),
    long(Flag::Rate, "rate", Nothing, G::Rate),
    long(Flag::Thresholds, "thresholds", Nothing, G::Thresholds),
    long(
        Flag::PersistentConn,
        "persistent-conn",
        Nothing,
        G::PersistentConn,
    ),
    long(Flag::TunInfo, "tun-info", Nothing, G::TunInfo),
    short(Flag::Exact, 'X', "exact", Nothing, G::Exact),
    long(Flag::Timeout, "timeout", Nothing, G::Timeout),
    long(Flag::Daemon, "daemon", Nothing, G::Daemon),
    OptionRow {
        flag: Flag::Sort,
        short: None,
        long: "sort",
        takes: Nothing,
        group: None,
    },
    long(Flag::Nosort, "nosort", Nothing, G::Nosort),
    long(
        Flag::McastInterface,
        "mcast-interface",
        Value,
        G::McastInterface,
    ),
    long(Flag::SyncId, "syncid", Value, G::SyncId),
    long(Flag::SyncMaxlen, "sync-maxlen", Value, G::SyncMaxlen),
    long(Flag::McastGroup, "mcast-group", Value, G::McastAddress),
    long(Flag::McastPort, "mcast-port", Value, G::McastPort),
    long(Flag::McastTtl, "mcast-ttl", Value, G::McastTtl),
    short(Flag::Local, 'z', "laddr", Value, G::Local),
    short(Flag::Interface, 'F', "ifname", Value, G::Interface),
    short(Flag::Block, 'k', "blklst", Value, G::Block),
    short(Flag::Allow, '2', "whtlst", Value, G::Allow),
    short(Flag::Synproxy, 'j', "synproxy", Value, G::Synproxy),
    long(Flag::ConnTimeout, "conn-timeout", Value, G::ConnTimeout),
    long(
        Flag::ProxyProtocol,
        "proxy-protocol",
        Value,
        G::ProxyProtocol,
    ),
    long(
        Flag::ExpireQuiescent,
        "expire-quiescent",
        Nothing,
        G::ExpireQuiescent,
    ),
    // Ours: the same setting as --proxy-protocol, so one of the two.
    long(
        Flag::ClientAddress,
        "client-address",
        Value,
        G::ProxyProtocol,
    ),
    long(Flag::MssClamp, "mss-clamp", Nothing, G::MssClamp),
    long(Flag::Atomic, "atomic", Nothing, G::Atomic),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_in_their_order() {
        for (at, (group, _)) in GROUPS.iter().enumerate() {
            assert_eq!(*group as usize, at, "{group:?}");
        }
        assert!(GROUPS.len() <= 64, "Used has a bit for each");
    }

    #[test]
    fn no_spelling_is_used_twice() {
        let commands = COMMANDS.iter().map(|row| row.long);
        let mut longs: Vec<_> = commands.chain(OPTIONS.iter().map(|row| row.long)).collect();
        let all = longs.len();
        longs.sort_unstable();
        longs.dedup();
        assert_eq!(longs.len(), all);

        let commands = COMMANDS.iter().flat_map(|row| row.short.iter().copied());
        let mut shorts: Vec<_> = commands
            .chain(OPTIONS.iter().filter_map(|row| row.short))
            .collect();
        let all = shorts.len();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!(shorts.len() + 1, all, "only -b has two meanings");
    }

    #[test]
    fn every_option_is_legal_somewhere() {
        for row in OPTIONS {
            let Some(group) = row.group else { continue };
            let taken = COMMANDS.iter().any(|command| {
                [command.required, command.allowed, command.exclusive]
                    .concat()
                    .contains(&group)
            });
            assert!(taken, "--{}", row.long);
        }
    }
}
