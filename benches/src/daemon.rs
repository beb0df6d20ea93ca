//! The daemon itself, as a user starts it, on a port of one's choice.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use benches::flows::{GATEWAY, Host, LOCALS, OUR_MAC, PORT, REALS, real_mac};
use benches::{Case, Family, Mode};
use serde_json::{Value, json};

use crate::process::{Folder, Process, free_hugepages};

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Mode and family of its service.
    pub(crate) case: Case,
    /// DPDK's name of the device, and its arguments.
    pub(crate) device: String,
    /// Connections that its table of that family has room for.
    pub(crate) connections: u32,
    /// Frame buffers.
    pub(crate) mbufs: u32,
    /// Octets of each; enough for frames without payload, or for full ones.
    pub(crate) mbuf_size: u16,
    pub(crate) core: u16,
    /// 2 MiB pages that it needs; without them all lies on ordinary ones.
    pub(crate) hugepages: u32,
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// The process.
    pub(crate) process: Process,
    socket: PathBuf,
}

/// Where a program of ours was built.
pub(crate) fn built(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = own.with_file_name(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!(
            "{} is not built (scripts/bench builds it)",
            path.display()
        )),
    }
}

impl Daemon {
    /// Starts it and waits until it forwards.
    pub(crate) fn start(setup: &Setup, folder: &Folder) -> Result<Self, String> {
        let name = |what: &str| folder.file(&format!("{}.{what}", setup.case));
        let (config, socket, log) = (name("toml"), name("sock"), name("log"));
        let text = toml(setup, &socket.display().to_string());
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        let args = ["--config".to_owned(), config.display().to_string()];
        let mut process = Process::start(&built("sluiced")?, &args, &log, Stdio::null())
            .map_err(|error| format!("sluiced: {error}"))?;
        process.wait_for(&log, |said| said.contains(" ready").then_some(()))?;
        Ok(Self { process, socket })
    }

    /// A connection for commands.
    pub(crate) fn connect(&self) -> Result<UnixStream, String> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| error.to_string())?;
        let patience = Some(Duration::from_secs(10));
        stream
            .set_read_timeout(patience)
            .map_err(|error| error.to_string())?;
        Ok(stream)
    }

    /// What one command prints.
    pub(crate) fn ask(&self, argv: &[&str]) -> Result<String, String> {
        let mut stream = self.connect()?;
        let request = json!({"v": 1, "id": 1, "argv": argv});
        writeln!(stream, "{request}").map_err(|error| error.to_string())?;
        let (mut reader, mut out) = (BufReader::new(stream), String::new());
        loop {
            let mut line = String::new();
            reader
                .read_line(&mut line)
                .map_err(|error| error.to_string())?;
            let reply: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            out += reply["stdout"].as_str().unwrap_or_default();
            if reply["more"] != json!(true) {
                let refused = format!("{argv:?}: {}", reply["stderr"]);
                return if reply["exit"] == json!(0) {
                    Ok(out)
                } else {
                    Err(refused)
                };
            }
        }
    }

    /// Its state.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let text = self.ask(&["status", "--json"])?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }
}

impl Drop for Daemon {
    /// In order, so that it removes its files.
    fn drop(&mut self) {
        let _ = self.process.pause(false);
        let _ = self.process.end();
    }
}

/// A counter of the first worker in what [`Daemon::status`] says; one that is not there is 0.
pub(crate) fn counter(status: &Value, name: &str) -> u64 {
    let all = status["workers"][0]["counters"].as_array();
    let one = all.and_then(|all| all.iter().find(|pair| pair[0] == json!(name)));
    one.and_then(|pair| pair[1].as_u64()).unwrap_or(0)
}

/// The counters of frames that were dropped, with their names, if they are not 0.
pub(crate) fn drops(status: &Value) -> Vec<(String, u64)> {
    let all = status["workers"][0]["counters"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let drop = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_u64()?));
    let all = all.iter().filter_map(drop);
    all.filter(|(name, count)| name.starts_with("drop") && *count > 0)
        .collect()
}

/// Connections that its table of the other family has room for: it gets none.
const FEW: u32 = 1024;

fn toml(setup: &Setup, socket: &str) -> String {
    let Setup {
        case: Case { mode, family, .. },
        ref device,
        connections,
        mbufs,
        mbuf_size,
        core,
        hugepages,
    } = *setup;
    let address = |host: Host| host.address(family);
    let [connections_v4, connections_v6] = match family {
        Family::V4 => [connections, FEW],
        Family::V6 => [FEW, connections],
    };
    let hugepages = if free_hugepages() >= hugepages {
        "require"
    } else {
        "off"
    };
    let mtu = mbuf_size.saturating_sub(26).min(1500);
    let (bits, gateway, anywhere) = match family {
        Family::V4 => (8, "10.0.0.254", "0.0.0.0/0"),
        Family::V6 => (64, "fd00::a00:fe", "::/0"),
    };
    let own = address(Host::Director);
    let mut text = format!(
        "version = 1\n[dataplane]\nworkers = [{core}]\nconnections = {connections_v4}\n\
         connections_v6 = {connections_v6}\nidle = \"spin\"\nhugepages = \"{hugepages}\"\n\
         [control]\nsocket = \"{socket}\"\nstop_delay = 0\n[sysctl]\nsloppy_tcp = 1\n[[port]]\n\
         name = \"bench0\"\ndevice = \"{device}\"\nmac = \"{OUR_MAC}\"\n\
         addresses = [\"{own}/{bits}\"]\nmbufs = {mbufs}\nmbuf_size = {mbuf_size}\nmtu = {mtu}\n\
         [[route]]\nto = \"{anywhere}\"\nvia = \"{gateway}\"\n"
    );
    let mut add = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("text has room");
    };
    let neighbours = (0..REALS).map(|n| (address(Host::Real(n)).to_string(), real_mac(n)));
    for (address, mac) in neighbours.chain([(gateway.to_owned(), GATEWAY)]) {
        add(format_args!(
            "[[neighbour]]\naddress = \"{address}\"\nmac = \"{mac}\"\nport = \"bench0\"\n"
        ));
    }
    let vip = SocketAddr::new(address(Host::Vip), PORT);
    add(format_args!(
        "[[service]]\nlisten = \"tcp {vip}\"\nscheduler = \"rr\"\n"
    ));
    if mode == Mode::FullNat {
        let locals: Vec<_> = (0..LOCALS)
            .map(|n| format!("\"{}\"", address(Host::Local(n))))
            .collect();
        add(format_args!("local_addresses = [{}]\n", locals.join(", ")));
    }
    for n in 0..REALS {
        let real = address(Host::Real(n));
        let real = match mode {
            Mode::Dr | Mode::Tun => real.to_string(),
            Mode::Nat | Mode::FullNat => SocketAddr::new(real, PORT).to_string(),
        };
        add(format_args!(
            "[[service.real]]\naddress = \"{real}\"\nmode = \"{}\"\n",
            mode.name()
        ));
    }
    text
}
