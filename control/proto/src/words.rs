//! A command back into words: numbers only, every default spelled out.
//!
//! The command line sends these, so that the daemon needs no name server; reading them back
//! gives the same command.

use crate::command::{
    AccessEntry, AccessList, Ask, Command, ListOptions, LocalAddress, Reload, SyncDaemon,
};
use crate::layout::{More, access_words, flag_names, mode_options, more_options, selector};
use crate::text::Written;

use config::model::{Listen, Real, Service};

impl Command {
    /// The words of a call that asks for this.
    pub fn words(&self) -> Vec<String> {
        let words = self.line();
        let words = words.split_whitespace().map(str::to_owned);
        // A file's name may have blanks in it.
        words.chain(self.file().cloned()).collect()
    }

    fn file(&self) -> Option<&String> {
        match self {
            Self::Reload(it) | Self::Diff(it) => it.file.as_ref(),
            _ => None,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::AddService(it) => service("-A", it),
            Self::EditService(it) => service("-E", it),
            Self::DeleteService { listen } => format!("-D {}", selector(listen)),
            Self::Flush => "-C".to_owned(),
            Self::AddReal { listen, real: it } => real("-a", listen, it),
            Self::EditReal { listen, real: it } => real("-e", listen, it),
            Self::DeleteReal { listen, endpoint } => {
                format!("-d {} -r {endpoint}", selector(listen))
            }
            Self::List(options) => list(options),
            Self::Save { numeric } => format!("-S{}", switch(*numeric, " -n")),
            Self::Restore { atomic } => format!("-R{}", switch(*atomic, " --atomic")),
            Self::Zero(listen) => with("-Z", listen.as_ref()),
            Self::SetTimeouts { tcp, tcp_fin, udp } => format!("--set {tcp} {tcp_fin} {udp}"),
            Self::StartDaemon(daemon) => start_daemon(daemon),
            Self::StopDaemon { role, sync_id } => {
                format!("--stop-daemon {} --syncid {sync_id}", role.name())
            }
            Self::AddLocalAddress(it) => local("-P", it),
            Self::DeleteLocalAddress(it) => local("-Q", it),
            Self::ListLocalAddresses(listen) => with("-G", listen.as_ref()),
            Self::AddAccess(it) => access(access_words(it.list)[0], it),
            Self::DeleteAccess(it) => access(access_words(it.list)[1], it),
            Self::ListAccess { list, listen } => with(list_access(*list), listen.as_ref()),
            Self::Help => "-h".to_owned(),
            Self::Version => "-v".to_owned(),
            Self::Proc(file) => format!("proc {}", file.name()),
            Self::Log(filter) => format!("log {}", filter.as_deref().unwrap_or_default()),
            Self::Status { json } => format!("status{}", switch(*json, " --json")),
            Self::Trace { packet, json } => {
                format!("trace{} {packet}", switch(*json, " --json"))
            }
            Self::Reload(it) => reload("reload", it),
            Self::Diff(it) => reload("diff", it),
            Self::SaveFile { json } => format!("save{}", switch(*json, " --json")),
            Self::Neighbours { json } => format!("neigh{}", switch(*json, " --json")),
            Self::Sysctl { ask, json } => {
                format!("sysctl{}{}", asked(ask), switch(*json, " --json"))
            }
        }
    }
}

fn reload(command: &str, it: &Reload) -> String {
    let dry_run = switch(it.dry_run, " --dry-run");
    let take_file = switch(it.take_file, " --take-file");
    format!(
        "{command}{dry_run}{take_file}{}",
        switch(it.json, " --json")
    )
}

fn asked(ask: &Ask) -> String {
    match ask {
        Ask::All => String::new(),
        Ask::One(name) => format!(" {name}"),
        Ask::Set { name, value } => format!(" {name}={value}"),
    }
}

fn switch(on: bool, text: &'static str) -> &'static str {
    if on { text } else { "" }
}

fn with(command: &str, listen: Option<&Listen>) -> String {
    listen.map_or_else(
        || command.to_owned(),
        |listen| format!("{command} {}", selector(listen)),
    )
}

fn option(name: &str, value: Option<impl ToString>) -> String {
    value
        .map(|value| format!(" {name} {}", value.to_string()))
        .unwrap_or_default()
}

fn service(command: &str, it: &Service) -> String {
    let mut line = format!("{command} {} -s {}", selector(&it.listen), it.scheduler);
    if let Some(persistence) = &it.persistence {
        line += &option("-p", Some(persistence.timeout));
        line += &option("-M", Some(persistence.mask.write()));
        line += &option("--pe", persistence.engine.as_ref());
    }
    line += switch(it.one_packet, " -o");
    let flags = flag_names(it.scheduler, it.flags);
    line += &option("-b", Some(flags).filter(|flags| !flags.is_empty()));
    line + &more_options(&More::of(it))
}

fn real(command: &str, listen: &Listen, real: &Real) -> String {
    let (method, tunnel) = mode_options(real.mode);
    let Real {
        endpoint,
        weight,
        upper,
        lower,
        ..
    } = real;
    let listen = selector(listen);
    format!("{command} {listen} -r {endpoint} {method} -w {weight} -x {upper} -y {lower}{tunnel}")
}

fn list(options: &ListOptions) -> String {
    let switches = [
        (options.numeric, " -n"),
        (options.connections, " -c"),
        (options.stats, " --stats"),
        (options.rate, " --rate"),
        (options.thresholds, " --thresholds"),
        (options.persistent, " --persistent-conn"),
        (options.tun_info, " --tun-info"),
        (options.exact, " --exact"),
        (options.timeout, " --timeout"),
        (options.daemon, " --daemon"),
        (options.nosort, " --nosort"),
    ];
    let mut line = with("-L", options.service.as_ref());
    for (on, text) in switches {
        line += switch(on, text);
    }
    line + &option("--syncid", options.sync_id)
}

fn start_daemon(daemon: &SyncDaemon) -> String {
    let mut line = format!("--start-daemon {}", daemon.role.name());
    line += &option("--mcast-interface", Some(&daemon.interface));
    line += &option("--syncid", Some(daemon.sync_id));
    line += &option(
        "--sync-maxlen",
        Some(daemon.max_length).filter(|&length| length > 0),
    );
    line += &option("--mcast-group", daemon.group);
    line += &option("--mcast-port", daemon.port);
    line + &option("--mcast-ttl", daemon.ttl)
}

fn local(command: &str, it: &LocalAddress) -> String {
    format!(
        "{command} {} -z {} -F {}",
        selector(&it.listen),
        it.address,
        it.interface
    )
}

fn access(command: &str, it: &AccessEntry) -> String {
    let [_, _, option] = access_words(it.list);
    format!("{command} {} {option} {}", selector(&it.listen), it.clients)
}

fn list_access(list: AccessList) -> &'static str {
    match list {
        AccessList::Block => "-B",
        AccessList::Allow => "-W",
    }
}
