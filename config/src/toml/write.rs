//! The way back: a [`Config`] as the text of a file that reads as the same configuration.
//!
//! What has its default is left out where the format lets it, so that a saved file shows
//! what somebody decided.

use std::fmt::{Display, Write};

use crate::model::{
    ClientAddress, Config, Control, Dataplane, MarkRule, Mode, Neighbour, Persistence,
    PersistenceMask, Port, Prefix, Real, Route, Service, SorryServer, Timeouts, Vip, Vlan,
};
use crate::sysctl::{SYNC_PERIOD, SYNC_THRESHOLD, find};
use crate::words;

/// The configuration as a native file. [`read`](super::read) gives the same back.
pub fn write(config: &Config) -> String {
    let mut out = Text(String::from("version = 1\n"));
    dataplane(&mut out, &config.dataplane);
    control(&mut out, &config.control);
    config
        .ports
        .iter()
        .for_each(|port| write_port(&mut out, port));
    config
        .routes
        .iter()
        .for_each(|route| write_route(&mut out, route));
    config
        .neighbours
        .iter()
        .for_each(|neighbour| write_neighbour(&mut out, neighbour));
    config.vips.iter().for_each(|vip| write_vip(&mut out, vip));
    config
        .marks
        .iter()
        .for_each(|mark| write_mark(&mut out, mark));
    sysctl(&mut out, &config.sysctl);
    timeouts(&mut out, &config.timeouts);
    config
        .services
        .iter()
        .for_each(|service| write_service(&mut out, service));
    out.0
}

/// The text so far.
struct Text(String);

impl Text {
    fn header(&mut self, header: &str) {
        self.line(format_args!("\n{header}"));
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("writing to a String can't fail");
    }

    /// `key = value`, for numbers, booleans and what is TOML already.
    fn plain(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    /// `key = "value"`.
    fn text(&mut self, key: &str, value: impl Display) {
        self.plain(key, quoted(value));
    }

    /// [`Text::plain`], if there is a value.
    fn plain_if(&mut self, key: &str, value: Option<impl Display>) {
        value.into_iter().for_each(|value| self.plain(key, value));
    }

    /// [`Text::text`], if there is a value.
    fn text_if(&mut self, key: &str, value: Option<impl Display>) {
        value.into_iter().for_each(|value| self.text(key, value));
    }

    /// `key = ["a", "b"]`.
    fn texts(&mut self, key: &str, values: &[impl Display]) {
        let values: Vec<_> = values.iter().map(quoted).collect();
        self.plain(key, format_args!("[{}]", values.join(", ")));
    }
}

/// A basic string (TOML 1.0): quote, backslash and control characters escaped.
fn quoted(value: impl Display) -> String {
    let mut out = String::from('"');
    for c in value.to_string().chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                write!(out, "\\u{:04X}", u32::from(c)).expect("writing to a String can't fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn dataplane(out: &mut Text, dataplane: &Dataplane) {
    out.header("[dataplane]");
    let cores: Vec<_> = dataplane.workers.iter().map(ToString::to_string).collect();
    out.plain("workers", format_args!("[{}]", cores.join(", ")));
    out.plain("connections", dataplane.connections);
    out.plain("connections_v6", dataplane.connections_v6);
    out.text("steering", words::steering(dataplane.steering));
    out.text("idle", words::idle(dataplane.idle));
    out.text("hugepages", words::hugepages(dataplane.hugepages));
}

fn control(out: &mut Text, control: &Control) {
    if *control == Control::default() {
        return;
    }
    out.header("[control]");
    out.text("socket", &control.socket);
    out.text_if("group", control.group.as_ref());
    out.plain("stop_delay", control.stop_delay);
}

fn write_port(out: &mut Text, port: &Port) {
    out.header("[[port]]");
    out.text("name", &port.name);
    out.text_if("device", port.device.as_ref());
    out.texts("addresses", &port.addresses);
    out.text_if("mac", port.mac);
    out.plain("mtu", port.mtu);
    out.text("return", words::return_to(port.return_to));
    out.plain_if("mbufs", port.mbufs);
    out.plain_if("mbuf_size", port.mbuf_size);
    if let Some(Vlan { parent, id }) = &port.vlan {
        out.text("parent", parent);
        out.plain("vlan", id);
    }
}

fn write_route(out: &mut Text, route: &Route) {
    out.header("[[route]]");
    out.text("to", route.to);
    match &route.via[..] {
        [via] => out.text("via", via),
        several => out.texts("via", several),
    }
}

fn write_neighbour(out: &mut Text, neighbour: &Neighbour) {
    out.header("[[neighbour]]");
    out.text("address", neighbour.address);
    out.text("mac", neighbour.mac);
    out.text("port", &neighbour.port);
}

fn write_vip(out: &mut Text, vip: &Vip) {
    out.header("[[vip]]");
    out.text("address", vip.address);
    out.text("held", words::held(vip.held));
    out.text("unmatched", words::unmatched(vip.unmatched));
    out.text_if("port", vip.port.as_ref());
}

fn write_mark(out: &mut Text, rule: &MarkRule) {
    out.header("[[mark]]");
    out.plain("mark", rule.mark);
    out.text_if("protocol", rule.protocol);
    out.text_if("from", rule.from);
    out.text("to", rule.to);
    out.text_if(
        "ports",
        rule.ports.map(|(first, last)| format!("{first}-{last}")),
    );
    out.text_if("port", rule.port.as_ref());
}

/// `sync_threshold` is one key and two tunables; a missing one has its default.
fn sysctl(out: &mut Text, settings: &[(String, i64)]) {
    if settings.is_empty() {
        return;
    }
    out.header("[sysctl]");
    let mut pair_written = false;
    for (name, value) in settings {
        if name != SYNC_THRESHOLD && name != SYNC_PERIOD {
            out.plain(name, value);
        } else if !pair_written {
            let of = |name| setting(settings, name);
            let (first, period) = (of(SYNC_THRESHOLD), of(SYNC_PERIOD));
            out.plain(SYNC_THRESHOLD, format_args!("[{first}, {period}]"));
            pair_written = true;
        }
    }
}

fn setting(settings: &[(String, i64)], name: &str) -> i64 {
    let set = settings
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| *value);
    set.or_else(|| find(name)?.default).unwrap_or_default()
}

fn timeouts(out: &mut Text, timeouts: &Timeouts) {
    if *timeouts == Timeouts::default() {
        return;
    }
    out.header("[timeouts]");
    out.plain("tcp", timeouts.tcp);
    out.plain("tcp_fin", timeouts.tcp_fin);
    out.plain("udp", timeouts.udp);
}

fn write_service(out: &mut Text, service: &Service) {
    out.header("[[service]]");
    out.text("listen", service.listen);
    out.text("scheduler", service.scheduler);
    let flags = words::flags(service.scheduler, service.flags);
    if !flags.is_empty() {
        out.texts("flags", &flags);
    }
    service
        .persistence
        .iter()
        .for_each(|set| persistence(out, set));
    out.plain_if("one_packet", service.one_packet.then_some(true));
    if !service.local_addresses.is_empty() {
        out.texts("local_addresses", &service.local_addresses);
    }
    let told = service.client_address;
    let told = (told != ClientAddress::None).then(|| words::client_address(told));
    out.text_if("client_address", told);
    out.plain_if("mss_clamp", service.mss_clamp.then_some(true));
    clients(out, "block", &service.block);
    clients(out, "allow", &service.allow);
    out.plain_if("connection_timeout", service.connection_timeout);
    out.plain_if("expire_quiescent", service.expire_quiescent.then_some(true));
    out.plain_if("synproxy", service.synproxy.then_some(true));
    service
        .sorry_server
        .iter()
        .for_each(|it| sorry_server(out, it));
    service.reals.iter().for_each(|real| write_real(out, real));
}

fn clients(out: &mut Text, key: &str, list: &[Prefix]) {
    if !list.is_empty() {
        let list: Vec<_> = list.iter().map(Prefix::short).collect();
        out.texts(key, &list);
    }
}

fn sorry_server(out: &mut Text, SorryServer { real, inhibit }: &SorryServer) {
    out.text("sorry_server", real.endpoint);
    out.text("sorry_server_mode", words::mode_name(real.mode));
    out.plain_if("sorry_server_inhibit", inhibit.then_some(true));
}

fn persistence(out: &mut Text, persistence: &Persistence) {
    out.plain("persistence", persistence.timeout);
    match persistence.mask {
        mask if mask.is_full() => {}
        PersistenceMask::V4(mask) => out.text("persistence_mask", mask),
        PersistenceMask::V6(length) => out.plain("persistence_mask", length),
    }
    out.text_if("persistence_engine", persistence.engine.as_ref());
}

fn write_real(out: &mut Text, real: &Real) {
    out.header("[[service.real]]");
    out.text("address", real.endpoint);
    out.plain("weight", real.weight);
    out.text("mode", words::mode_name(real.mode));
    if let Mode::Tun(tunnel) = real.mode {
        out.plain("tunnel", words::tunnel(tunnel));
    }
    out.plain_if("upper", (real.upper > 0).then_some(real.upper));
    out.plain_if("lower", (real.lower > 0).then_some(real.lower));
}
