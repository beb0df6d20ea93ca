//! The last step of the grammar: a draft with all its options becomes a command, or shows that
//! they do not belong together.

use config::model::{
    Endpoint, Family, Listen, Mode, Persistence, Protocol, Real, SchedulerFlags, SchedulerKind,
    Service, Tunnel, TunnelChecksum,
};

use crate::command::{AccessEntry, AccessList, Command, ListOptions, LocalAddress, SyncDaemon};
use crate::draft::{Draft, Forward, TunnelType};
use crate::errors::Failure;
use crate::options::{Group, Verb};

/// What the kernel answers to a scheduler or an engine that it does not know.
const NOT_FOUND: &str = "Scheduler or persistence engine not found";
/// Where sync messages go unless somebody says otherwise.
const DEFAULT_INTERFACE: &str = "eth0";

/// Makes the command.
pub(crate) fn finish(draft: Draft) -> Result<Command, Failure> {
    Ok(match draft.verb {
        Verb::AddService => Command::AddService(service(&draft)?),
        Verb::EditService => Command::EditService(service(&draft)?),
        Verb::DeleteService => Command::DeleteService {
            listen: listen(&draft),
        },
        Verb::Flush => Command::Flush,
        Verb::AddReal => Command::AddReal {
            listen: listen(&draft),
            real: real(&draft)?,
        },
        Verb::EditReal => Command::EditReal {
            listen: listen(&draft),
            real: real(&draft)?,
        },
        Verb::DeleteReal => Command::DeleteReal {
            listen: listen(&draft),
            endpoint: named_real(&draft),
        },
        Verb::List => Command::List(list(&draft)?),
        Verb::Save => Command::Save {
            numeric: draft.has(Group::Numeric),
        },
        Verb::Restore => Command::Restore {
            atomic: draft.has(Group::Atomic),
        },
        Verb::Zero => Command::Zero(draft.listen),
        Verb::Set => {
            let [tcp, tcp_fin, udp] = draft.timeouts;
            Command::SetTimeouts { tcp, tcp_fin, udp }
        }
        Verb::StartDaemon => Command::StartDaemon(daemon(draft)),
        Verb::StopDaemon => Command::StopDaemon {
            role: draft.role,
            sync_id: draft.sync_id,
        },
        Verb::AddLocal => Command::AddLocalAddress(local_address(draft)),
        Verb::DeleteLocal => Command::DeleteLocalAddress(local_address(draft)),
        Verb::ListLocal => Command::ListLocalAddresses(draft.listen),
        Verb::AddBlock => Command::AddAccess(access(draft, AccessList::Block)),
        Verb::DeleteBlock => Command::DeleteAccess(access(draft, AccessList::Block)),
        Verb::AddAllow => Command::AddAccess(access(draft, AccessList::Allow)),
        Verb::DeleteAllow => Command::DeleteAccess(access(draft, AccessList::Allow)),
        Verb::ListBlock => Command::ListAccess {
            list: AccessList::Block,
            listen: draft.listen,
        },
        Verb::ListAllow => Command::ListAccess {
            list: AccessList::Allow,
            listen: draft.listen,
        },
        Verb::Help => Command::Help,
        Verb::Version => Command::Version,
    })
}

fn listen(draft: &Draft) -> Listen {
    draft
        .listen
        .expect("the table requires a service for this command")
}

fn named_real(draft: &Draft) -> Endpoint {
    draft
        .real
        .expect("the table requires a real server for this command")
}

fn service(draft: &Draft) -> Result<Service, Failure> {
    let listen = listen(draft);
    let persistent = draft.has(Group::Persistent);
    check_service(&listen, persistent, draft.has(Group::Ops))?;
    let name = draft
        .scheduler
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("wlc");
    let flags = scheduler_flags(name, &draft.flags)?;
    let scheduler: SchedulerKind = name.parse().map_err(|()| Failure::refused(NOT_FOUND))?;
    if draft
        .engine
        .as_deref()
        .is_some_and(|engine| engine != "sip")
    {
        return Err(Failure::refused(NOT_FOUND));
    }
    let persistence = persistent.then(|| Persistence {
        timeout: draft.persistence,
        mask: draft.mask,
        engine: draft.engine.clone(),
    });
    let one_packet = draft.has(Group::Ops);
    Ok(Service {
        scheduler,
        flags,
        persistence,
        one_packet,
        client_address: draft.client_address,
        mss_clamp: draft.has(Group::MssClamp),
        connection_timeout: draft.connection_timeout,
        expire_quiescent: draft.has(Group::ExpireQuiescent),
        synproxy: draft.synproxy,
        ..Service::new(listen)
    })
}

fn check_service(listen: &Listen, persistent: bool, one_packet: bool) -> Result<(), Failure> {
    let Listen::Address { protocol, port, .. } = *listen else {
        return Ok(());
    };
    if port == 0 && !persistent {
        return Err(Failure::usage(
            "Zero port specified for non-persistent service",
        ));
    }
    if one_packet && protocol != Protocol::Udp {
        return Err(Failure::usage(
            "One-Packet Scheduling is only for UDP virtual services",
        ));
    }
    Ok(())
}

fn scheduler_flags(scheduler: &str, text: &str) -> Result<SchedulerFlags, Failure> {
    let mut flags = 0;
    for flag in text.split(',').filter(|flag| !flag.is_empty()) {
        let (bit, only_for) = match flag {
            "flag-1" => (SchedulerFlags::FALLBACK, None),
            "flag-2" => (SchedulerFlags::PORT, None),
            "flag-3" => (SchedulerFlags::THIRD, None),
            "sh-fallback" => (SchedulerFlags::FALLBACK, Some("sh")),
            "sh-port" => (SchedulerFlags::PORT, Some("sh")),
            "mh-fallback" => (SchedulerFlags::FALLBACK, Some("mh")),
            "mh-port" => (SchedulerFlags::PORT, Some("mh")),
            _ => return Err(Failure::usage(format!("invalid scheduler flag `{flag}'"))),
        };
        if only_for.is_some_and(|name| name != scheduler) {
            return Err(Failure::usage(format!(
                "incompatible scheduler flag `{flag}'"
            )));
        }
        flags |= bit;
    }
    Ok(SchedulerFlags(flags))
}

fn real(draft: &Draft) -> Result<Real, Failure> {
    let listen = listen(draft);
    let mut endpoint = named_real(draft);
    // DR and TUN change no port, so the real server's is the service's, whatever was typed.
    if let Listen::Address { port, .. } = listen
        && matches!(draft.forward, Forward::Dr | Forward::Tun)
    {
        endpoint.port = port;
    }
    let families = (listen.family(), Family::of(&endpoint.address));
    let goes_across = match draft.forward {
        Forward::Tun => true,
        // ipvsadm has no such mode; DPVS translates from IPv6 to IPv4.
        Forward::FullNat => families == (Family::V6, Family::V4),
        Forward::Dr | Forward::Nat => false,
    };
    if families.0 != families.1 && !goes_across {
        return Err(Failure::usage(
            "Different address family is allowed only for tunneling servers",
        ));
    }
    Ok(Real {
        endpoint,
        mode: mode(draft)?,
        weight: draft.weight,
        upper: draft.upper,
        lower: draft.lower,
    })
}

fn mode(draft: &Draft) -> Result<Mode, Failure> {
    let mode = match draft.forward {
        Forward::Tun => return Ok(Mode::Tun(tunnel(draft)?)),
        Forward::Dr => Mode::Dr,
        Forward::Nat => Mode::Nat,
        Forward::FullNat => Mode::FullNat,
    };
    if draft.used.any(Group::TUNNEL) {
        return Err(Failure::usage(
            "Tunnel options conflict with forward method",
        ));
    }
    Ok(mode)
}

fn tunnel(draft: &Draft) -> Result<Tunnel, Failure> {
    check_tunnel(draft)?;
    let checksum = if draft.has(Group::TunCsum) {
        TunnelChecksum::Sum
    } else if draft.has(Group::TunRemcsum) {
        TunnelChecksum::Remote
    } else {
        TunnelChecksum::None
    };
    Ok(match draft.tunnel {
        TunnelType::Ipip => Tunnel::Ipip,
        TunnelType::Gue => Tunnel::Gue {
            port: draft.tunnel_port,
            checksum,
        },
        TunnelType::Gre => Tunnel::Gre { checksum },
    })
}

fn check_tunnel(draft: &Draft) -> Result<(), Failure> {
    let name = draft.tunnel.name();
    let (needs_port, checksums): (bool, &[Group]) = match draft.tunnel {
        TunnelType::Ipip => (false, &[]),
        TunnelType::Gue => (true, &[Group::TunNocsum, Group::TunCsum, Group::TunRemcsum]),
        TunnelType::Gre => (false, &[Group::TunNocsum, Group::TunCsum]),
    };
    if needs_port && !draft.has(Group::TunPort) {
        return Err(Failure::usage(format!(
            "You need to supply the 'tun-port' option for the '{name}' tunnel type"
        )));
    }
    let mut seen: Option<Group> = None;
    for &group in Group::TUNNEL.iter().filter(|&&group| draft.has(group)) {
        if group == Group::TunType || (group == Group::TunPort && needs_port) {
            continue;
        }
        if !checksums.contains(&group) {
            let option = group.name();
            return Err(Failure::usage(format!(
                "Illegal '{option}' option with the '{name}' tunnel type"
            )));
        }
        if let Some(other) = seen.replace(group) {
            return Err(Failure::usage(format!(
                "The option '{}' conflicts with the '{}' option in the '{name}' tunnel type",
                group.name(),
                other.name()
            )));
        }
    }
    Ok(())
}

fn list(draft: &Draft) -> Result<ListOptions, Failure> {
    let numbers = [Group::Stats, Group::Rate, Group::Thresholds];
    let instead = [Group::Timeout, Group::Daemon];
    let no_services = draft.has(Group::Connection) || draft.used.any(&instead);
    if no_services && draft.used.any(&numbers)
        || draft.used.any(&instead) && draft.has(Group::PersistentConn)
    {
        return Err(Failure::usage("options conflicts in the list command"));
    }
    Ok(ListOptions {
        service: draft.listen,
        numeric: draft.has(Group::Numeric),
        connections: draft.has(Group::Connection),
        stats: draft.has(Group::Stats),
        rate: draft.has(Group::Rate),
        thresholds: draft.has(Group::Thresholds),
        persistent: draft.has(Group::PersistentConn),
        tun_info: draft.has(Group::TunInfo),
        exact: draft.has(Group::Exact),
        timeout: draft.has(Group::Timeout),
        daemon: draft.has(Group::Daemon),
        nosort: draft.has(Group::Nosort),
        sync_id: draft.has(Group::SyncId).then_some(draft.sync_id),
    })
}

fn daemon(draft: Draft) -> SyncDaemon {
    SyncDaemon {
        role: draft.role,
        interface: draft
            .interface
            .unwrap_or_else(|| DEFAULT_INTERFACE.to_owned()),
        sync_id: draft.sync_id,
        max_length: draft.sync_length,
        group: draft.group,
        port: draft.group_port,
        ttl: draft.ttl,
    }
}

fn local_address(draft: Draft) -> LocalAddress {
    LocalAddress {
        listen: listen(&draft),
        address: draft.local.expect("the table requires -z for this command"),
        interface: draft
            .interface
            .expect("the table requires -F for this command"),
    }
}

fn access(draft: Draft, list: AccessList) -> AccessEntry {
    AccessEntry {
        list,
        listen: listen(&draft),
        clients: draft
            .access
            .expect("the table requires -k or -2 for this command"),
    }
}
