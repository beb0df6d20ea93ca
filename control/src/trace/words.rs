//! Words that a replay and a trace share.

use std::net::IpAddr;

use config::model::{Endpoint, SchedulerKind};
use dataplane::conn::{Flags, sctp, tcp};
use dataplane::fwd::Forwarder;
use dataplane::observe::Shown;
use dataplane::owner::Fields;
use dataplane::port::PortId;
use dataplane::services::{By, FTP, Owned, Unmatched};
use dataplane::verdict::{PuntClass, Verdict};
use serde_json::{Map, Value, json};
use wire::Protocol;

/// A verdict in a word, the counter of one that says why, and the port of one that leaves.
pub fn end(verdict: Option<Verdict>) -> (&'static str, Option<&'static str>, Option<PortId>) {
    match verdict {
        Some(Verdict::Transmit(port)) => ("transmit", None, Some(port)),
        Some(Verdict::Punt(class)) => ("punt", Some(class.name()), None),
        Some(Verdict::Resolve(_)) => ("punt", Some(PuntClass::Unresolved.name()), None),
        Some(Verdict::Drop(reason)) => ("drop", Some(reason.name()), None),
        // A hand-over is no end; a frame that heard of none waits for others.
        Some(Verdict::HandOver(..)) | None => ("held", None, None),
    }
}

/// Why a verdict was given, in a sentence; nothing where it speaks for itself.
pub(super) fn meaning(verdict: Option<Verdict>) -> Option<&'static str> {
    match verdict {
        Some(Verdict::Transmit(_)) => None,
        Some(Verdict::Punt(class)) => Some(class.meaning()),
        Some(Verdict::Resolve(_)) => Some(PuntClass::Unresolved.meaning()),
        Some(Verdict::Drop(reason)) => Some(reason.meaning()),
        Some(Verdict::HandOver(..)) | None => {
            Some("A fragment that waits for its packet's first one.")
        }
    }
}

/// The name of a forwarding mode.
pub fn mode(forwarder: &Forwarder) -> &'static str {
    match forwarder {
        Forwarder::Dr { .. } => "dr",
        Forwarder::Tun { .. } => "tun",
        Forwarder::Nat { .. } => "nat",
        Forwarder::FullNat { .. } | Forwarder::Nat64 { .. } => "fullnat",
        Forwarder::Local => "local",
    }
}

/// How a scheduler chooses, in a sentence (reference B.2).
pub(super) fn rule(kind: SchedulerKind) -> &'static str {
    match kind {
        SchedulerKind::Rr => "one after the other",
        SchedulerKind::Wrr => "one after the other, as often as its weight says",
        SchedulerKind::Lc => "the least 256 * active + inactive, of equals the first",
        SchedulerKind::Wlc => "the least 256 * active + inactive per weight, of equals the first",
        SchedulerKind::Sh => "by the hash of the client, as often as its weight says",
        SchedulerKind::Dh => "by the hash of the destination",
        SchedulerKind::Lblc => "the destination's own while it is not crowded, else as wlc",
        SchedulerKind::Lblcr => "the least loaded of the destination's own, else as wlc",
        SchedulerKind::Sed => "the least active + 1 per weight, of equals the first",
        SchedulerKind::Nq => "the first without active connections, else as sed",
        SchedulerKind::Fo => "the highest weight",
        SchedulerKind::Ovf => "the highest weight with no more active connections than that",
        SchedulerKind::Mh => "by the client's place in Maglev's table",
        SchedulerKind::Twos => "two draws by weight, then the less loaded per weight",
    }
}

/// What an address is to us, for people.
pub(super) fn owned(owned: Option<Owned>) -> &'static str {
    match owned {
        None => "not ours",
        Some(Owned::Director) => "the director's own",
        Some(Owned::Local) => "a local address of FULLNAT",
        Some(Owned::Vip { held: false, .. }) => "a VIP that is not held here",
        Some(Owned::Vip { unmatched, .. }) => match unmatched {
            Unmatched::Drop => "a VIP",
            Unmatched::Reject => "a VIP that rejects what no service takes",
            Unmatched::Kernel => "a VIP that leaves to the kernel what no service takes",
        },
    }
}

/// The same for programs; of a VIP also whether it is held, and what becomes of unmatched traffic.
pub(super) fn owned_data(owned: Option<Owned>) -> Value {
    let unmatched = |unmatched| match unmatched {
        Unmatched::Drop => "drop",
        Unmatched::Reject => "reject",
        Unmatched::Kernel => "kernel",
    };
    match owned {
        None => Value::Null,
        Some(Owned::Director) => json!({"is": "director"}),
        Some(Owned::Local) => json!({"is": "local"}),
        Some(Owned::Vip {
            held,
            unmatched: it,
        }) => {
            json!({"is": "vip", "held": held, "unmatched": unmatched(it)})
        }
    }
}

/// What a service was looked for by.
pub(super) fn key(by: By, protocol: u8, (address, port): (IpAddr, u16)) -> String {
    let port = match by {
        By::Mark(mark) => return format!("fwm {mark}"),
        By::Port => port,
        By::Ftp => FTP,
        By::AllPorts => 0,
    };
    format!("{} {}", Protocol(protocol), Endpoint { address, port })
}

pub(super) fn owner_fields(fields: Fields) -> &'static str {
    match fields {
        Fields::Tuple => "both addresses and ports",
        Fields::Client => "the client's address and port",
        Fields::ClientNetwork(_) => "the client's network",
        Fields::Destination => "the destination address",
        Fields::Addresses => "both addresses",
    }
}

pub(super) fn endpoint((address, port): (IpAddr, u16)) -> String {
    Endpoint { address, port }.to_string()
}

/// The state as listings show it.
pub(super) fn state(shown: &Shown) -> &'static str {
    match Protocol(shown.protocol) {
        Protocol::TCP => tcp::State::ALL[usize::from(shown.state)].name(),
        Protocol::SCTP => sctp::State::of(shown.state).name(),
        Protocol::UDP => "UDP",
        _ => "NONE",
    }
}

pub(super) fn is_template(shown: &Shown) -> bool {
    shown.flags.has(Flags::TEMPLATE)
}

pub(super) fn connection_words(shown: &Shown) -> String {
    let (client, vip, real) = (
        endpoint(shown.client),
        endpoint(shown.vip),
        endpoint(shown.real),
    );
    let seconds = shown.remaining_ms / 1000;
    if is_template(shown) {
        let controls = shown.controls;
        return format!(
            "{client} > {vip} stays with {real}, {seconds} s left, controls {controls} connections"
        );
    }
    let by = if shown.controlled {
        ", under a template"
    } else {
        ""
    };
    let state = state(shown);
    format!("{client} > {vip}, {state}, {seconds} s left{by}")
}

pub(super) fn connection_data(shown: &Shown) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| {
        data.insert(name.to_owned(), value);
    };
    put("client", endpoint(shown.client).into());
    put("vip", endpoint(shown.vip).into());
    put("real", endpoint(shown.real).into());
    put("local", endpoint(shown.local).into());
    put("left", (shown.remaining_ms / 1000).into());
    put("packets", shown.packets.into());
    if is_template(shown) {
        put("controls", shown.controls.into());
    } else {
        put("state", state(shown).into());
        put("under-template", shown.controlled.into());
    }
    data
}
