//! How the file spells what is not a number or an address: the values of its keys.

use crate::model::{
    ClientAddress, Held, Hugepages, Idle, Mode, Persistence, ReturnTo, SchedulerFlags,
    SchedulerKind, SorryServer, Steering, Tunnel, TunnelChecksum, Unmatched,
};

/// The scheduler with its flags behind it: `sh, sh-port`.
pub fn scheduler(kind: SchedulerKind, set: SchedulerFlags) -> String {
    let flags = flags(kind, set);
    let words: Vec<_> = std::iter::once(kind.name()).chain(flags).collect();
    words.join(", ")
}

/// The values of `flags`.
pub fn flags(kind: SchedulerKind, flags: SchedulerFlags) -> Vec<&'static str> {
    let [fallback, port] = match kind {
        SchedulerKind::Sh => ["sh-fallback", "sh-port"],
        SchedulerKind::Mh => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    let names = [
        (SchedulerFlags::FALLBACK, fallback),
        (SchedulerFlags::PORT, port),
        (SchedulerFlags::THIRD, "flag-3"),
    ];
    names
        .into_iter()
        .filter(|(bit, _)| flags.0 & bit != 0)
        .map(|(_, name)| name)
        .collect()
}

/// Persistence in a phrase: `300 s, mask 255.255.255.0`, `none`.
pub fn persistence(persistence: Option<&Persistence>) -> String {
    use crate::model::PersistenceMask::{V4, V6};
    let Some(Persistence {
        timeout,
        mask,
        engine,
    }) = persistence
    else {
        return "none".to_owned();
    };
    let mut words = format!("{timeout} s");
    match mask {
        mask if mask.is_full() => {}
        V4(mask) => words += &format!(", mask {mask}"),
        V6(length) => words += &format!(", mask {length}"),
    }
    if let Some(engine) = engine {
        words += &format!(", engine {engine}");
    }
    words
}

/// The value of a port's `return`.
pub fn return_to(return_to: ReturnTo) -> &'static str {
    match return_to {
        ReturnTo::Route => "route",
        ReturnTo::Sender => "sender",
    }
}

/// The value of `client_address`.
pub fn client_address(client: ClientAddress) -> &'static str {
    client.name()
}

/// The value of `mode`.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Dr => "dr",
        Mode::Tun(_) => "tun",
        Mode::Nat => "nat",
        Mode::FullNat => "fullnat",
    }
}

/// The sorry server in a phrase: `10.1.0.9:80 nat, inhibit`, `none`.
pub fn sorry_server(sorry: Option<&SorryServer>) -> String {
    let Some(SorryServer { real, inhibit }) = sorry else {
        return "none".to_owned();
    };
    let inhibit = if *inhibit { ", inhibit" } else { "" };
    format!("{} {}{inhibit}", real.endpoint, mode(real.mode))
}

/// The mode with its tunnel.
pub fn mode(mode: Mode) -> String {
    match mode {
        Mode::Tun(it) => format!("tun {}", tunnel(it)),
        other => mode_name(other).to_owned(),
    }
}

/// The value of `tunnel`.
pub fn tunnel(tunnel: Tunnel) -> String {
    let name = |checksum| match checksum {
        TunnelChecksum::None => "none",
        TunnelChecksum::Sum => "csum",
        TunnelChecksum::Remote => "remcsum",
    };
    match tunnel {
        Tunnel::Ipip => r#"{ type = "ipip" }"#.to_owned(),
        Tunnel::Gue { port, checksum } => {
            format!(
                r#"{{ type = "gue", port = {port}, checksum = "{}" }}"#,
                name(checksum)
            )
        }
        Tunnel::Gre { checksum } => {
            format!(r#"{{ type = "gre", checksum = "{}" }}"#, name(checksum))
        }
    }
}

/// The value of `steering`.
pub fn steering(steering: Steering) -> &'static str {
    match steering {
        Steering::Tuple => "tuple",
        Steering::Client => "client",
    }
}

/// The value of `idle`.
pub fn idle(idle: Idle) -> &'static str {
    match idle {
        Idle::Auto => "auto",
        Idle::Spin => "spin",
        Idle::Pause => "pause",
        Idle::Sleep => "sleep",
    }
}

/// The value of `hugepages`.
pub fn hugepages(hugepages: Hugepages) -> &'static str {
    match hugepages {
        Hugepages::Auto => "auto",
        Hugepages::Require => "require",
        Hugepages::Off => "off",
    }
}

/// The value of `held`.
pub fn held(held: Held) -> &'static str {
    match held {
        Held::Always => "always",
        Held::Never => "never",
    }
}

/// The value of `unmatched`.
pub fn unmatched(unmatched: Unmatched) -> &'static str {
    match unmatched {
        Unmatched::Drop => "drop",
        Unmatched::Reject => "reject",
        Unmatched::Kernel => "kernel",
    }
}
