//! The laboratory: network namespaces joined by a bridge.
//!
//! ```text
//!   client            director                         real 1 .. n
//!   eth0 .10  ----  br0 ==== dtap0 | sluiced, .2 ----  eth0 .21 .., VIP on lo, silent
//! ```
//!
//! The bridge stands for a switch. `dtap0` is the kernel's end of the daemon's TAP: a plug of
//! that switch. Everything has a name that begins with `sluice-e2e-PID-`, and goes when the
//! [`Lab`] is dropped; what a killed run left goes at the next start.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::peer;
use crate::runner::Failure;

/// The virtual address of most tests.
pub(crate) const VIP: &str = "10.83.0.100";
/// The director's own address.
pub(crate) const DIP: &str = "10.83.0.2";
/// The client.
pub(crate) const CLIENT: &str = "10.83.0.10";
/// The daemon's MAC.
pub(crate) const PORT_MAC: &str = "02:00:00:83:00:02";

const PREFIX: &str = "sluice-e2e-";
const PROBE: &str = "sluice-e2e-probe";

/// Address of a real server, counted from 1.
pub(crate) fn real_address(index: usize) -> String {
    format!("10.83.0.{}", 20 + index)
}

/// Checks that labs can be built here, and removes what killed runs left.
///
/// # Errors
///
/// Why not, on one line.
pub(crate) fn prepare() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root: it makes network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("/dev/net/tun is missing".to_owned());
    }
    for tool in ["ip", "nginx", "curl", "arping"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Err(format!(
                "{tool} is not installed (scripts/setup --test installs it)"
            ));
        }
    }
    sweep();
    let probe = format!("ip netns add {PROBE} && ip netns exec {PROBE} ip tuntap add t0 mode tap");
    let made = run(Command::new("sh").args(["-c", &probe]));
    remove_namespace(PROBE);
    made.map(drop)
        .map_err(|why| format!("no TAP in a network namespace can be made: {why}"))
}

/// Runs a command to its end.
///
/// # Errors
///
/// It could not start, or failed: what it said.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {text}{errors}", output.status))
}

/// Waits until `ready` says yes, at most `seconds`.
pub(crate) fn wait_for(seconds: u64, mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if ready() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn namespaces() -> Vec<String> {
    let text = run(Command::new("ip").args(["netns", "list"])).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Removes the namespaces of test runs whose process is gone.
fn sweep() {
    for name in namespaces() {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let maker = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(maker).exists() {
            remove_namespace(&name);
        }
    }
}

fn remove_namespace(name: &str) {
    let pids = run(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    for pid in pids.split_whitespace() {
        let _ = Command::new("kill").args(["-KILL", pid]).status();
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// A director, a client and real servers, until dropped.
pub(crate) struct Lab {
    name: String,
    folder: tempfile::TempDir,
    reals: usize,
    peers: Vec<Child>,
    /// The client's next port.
    next_port: Cell<u16>,
}

impl Lab {
    /// Namespaces and cables; nothing runs in them yet.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn new(reals: usize) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            name: format!("{PREFIX}{}-{number}", std::process::id()),
            folder: tempfile::Builder::new().prefix(PREFIX).tempdir()?,
            reals,
            peers: Vec::new(),
            next_port: Cell::new(20_000),
        };
        lab.make_director()?;
        lab.make_host(&lab.client(), "client", "br0", CLIENT)?;
        for index in 1..=reals {
            lab.make_host(
                &lab.real(index),
                &format!("real-{index}"),
                "br0",
                &real_address(index),
            )?;
            lab.make_silent(index)?;
            lab.add_vip(index, VIP)?;
        }
        Ok(lab)
    }

    /// The addresses of its reals.
    pub(crate) fn reals(&self) -> Vec<String> {
        (1..=self.reals).map(real_address).collect()
    }

    /// The same, with a web server on each real.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn with_web(reals: usize) -> Result<Self, Failure> {
        let lab = Self::new(reals)?;
        for index in 1..=reals {
            lab.start_web(index)?;
        }
        Ok(lab)
    }

    /// The director's namespace.
    pub(crate) fn director(&self) -> String {
        format!("{}-lb", self.name)
    }

    /// The client's namespace.
    pub(crate) fn client(&self) -> String {
        format!("{}-client", self.name)
    }

    /// A real server's namespace, counted from 1.
    pub(crate) fn real(&self, index: usize) -> String {
        format!("{}-real-{index}", self.name)
    }

    /// Another namespace of the lab.
    pub(crate) fn host(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A file in the lab's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that runs in a namespace.
    pub(crate) fn inside(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    /// `ip -n NAMESPACE ARGUMENTS`, split at blanks.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub(crate) fn ip(namespace: &str, arguments: &str) -> Result<String, String> {
        run(Command::new("ip")
            .args(["-n", namespace])
            .args(arguments.split(' ')))
    }

    /// Sets something below `/proc/sys/net`.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(crate) fn setting(namespace: &str, path: &str, value: u8) -> Result<(), String> {
        let script = format!("echo {value} >/proc/sys/net/{path}");
        run(Self::inside(namespace, "sh").args(["-c", &script])).map(drop)
    }

    /// A namespace without IPv6; see [`has_ipv6`].
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn namespace(name: &str) -> Result<(), String> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        if has_ipv6() {
            Self::setting(name, "ipv6/conf/all/disable_ipv6", 1)?;
        }
        Self::ip(name, "link set lo up").map(drop)
    }

    fn make_director(&self) -> Result<(), String> {
        Self::namespace(&self.director())?;
        Self::bridge(&self.director(), "br0")
    }

    /// A bridge. It must not do ARP: the director's kernel would answer on it for the addresses
    /// that the daemon gives its kernel interface.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub(crate) fn bridge(director: &str, name: &str) -> Result<(), String> {
        let kind = "type bridge stp_state 0 mcast_snooping 0 forward_delay 0";
        Self::ip(director, &format!("link add {name} {kind}"))?;
        Self::ip(director, &format!("link set {name} arp off up")).map(drop)
    }

    /// A cable from a bridge to an interface of a namespace.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub(crate) fn cable(
        &self,
        namespace: &str,
        interface: &str,
        cable: &str,
        bridge: &str,
    ) -> Result<(), String> {
        let director = self.director();
        let pair = format!("link add {cable} type veth peer name {interface} netns {namespace}");
        Self::ip(&director, &pair)?;
        Self::ip(&director, &format!("link set {cable} master {bridge} up")).map(drop)
    }

    /// A host with one address.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn make_host(
        &self,
        namespace: &str,
        cable: &str,
        bridge: &str,
        address: &str,
    ) -> Result<(), String> {
        Self::namespace(namespace)?;
        self.cable(namespace, "eth0", cable, bridge)?;
        Self::ip(namespace, &format!("addr add {address}/24 dev eth0"))?;
        Self::ip(namespace, "link set eth0 up").map(drop)
    }

    /// A DR real keeps quiet about the VIPs that it has.
    fn make_silent(&self, index: usize) -> Result<(), String> {
        Self::setting(&self.real(index), "ipv4/conf/all/arp_ignore", 1)?;
        Self::setting(&self.real(index), "ipv4/conf/all/arp_announce", 2)
    }

    /// Gives a real another VIP.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub(crate) fn add_vip(&self, index: usize, vip: &str) -> Result<(), String> {
        Self::ip(&self.real(index), &format!("addr add {vip}/32 dev lo")).map(drop)
    }

    fn start_web(&self, index: usize) -> Result<(), Failure> {
        self.start_web_in(&self.real(index), &format!("real-{index}"))
    }

    /// Has a real's web server demand the PROXY protocol, and log who that says its clients are.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn demand_proxy_protocol(&self, index: usize) -> Result<(), Failure> {
        let name = format!("real-{index}");
        let (namespace, path) = (self.real(index), self.file(&format!("nginx-{name}.conf")));
        let text = fs::read_to_string(&path)?
            .replace("listen 80;", "listen 80 proxy_protocol;")
            .replace("listen [::]:80;", "listen [::]:80 proxy_protocol;")
            .replace("$remote_addr", "$proxy_protocol_addr");
        fs::write(&path, text)?;
        let log = self.file(&format!("nginx-{name}.log"));
        let mut reload = Self::inside(&namespace, "nginx");
        run(reload
            .args(["-q", "-s", "reload", "-c"])
            .arg(path)
            .arg("-e")
            .arg(log))?;
        let answers = || {
            let command = "printf 'PROXY UNKNOWN\\r\\nGET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
            let script = format!("exec 3<>/dev/tcp/127.0.0.1/80; {command}");
            let mut bash = Self::inside(&namespace, "bash");
            let said = run(bash.args(["-c", &script]));
            said.is_ok_and(|said| said.contains(" 200 "))
        };
        if !wait_for(10, answers) {
            return Err(Failure::Wrong(format!("{name} knows no PROXY protocol")));
        }
        fs::write(self.file(&format!("access-{name}")), "")?;
        Ok(())
    }

    /// A web server in a namespace; it answers with its name.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn start_web_in(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let folder = self.folder.path().display();
        let v6 = if has_ipv6() { "listen [::]:80;" } else { "" };
        let configuration = format!(
            "worker_processes 1; pid {folder}/nginx-{name}.pid;
             error_log {folder}/nginx-{name}.log; events {{ worker_connections 256; }}
             http {{
                 log_format who '$remote_addr'; access_log {folder}/access-{name} who;
                 client_body_temp_path {folder}/t; proxy_temp_path {folder}/t;
                 fastcgi_temp_path {folder}/t; uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
                 keepalive_timeout 0; client_max_body_size 0;
                 server {{
                     listen 80; {v6}
                     location / {{ default_type text/plain; return 200 \"{name}\\n\"; }}
                     location /files/ {{ alias {folder}/files/; dav_methods PUT; }}
                 }}
             }}"
        );
        let path = self.file(&format!("nginx-{name}.conf"));
        fs::write(&path, configuration)?;
        // The workers are another user.
        fs::create_dir_all(self.file("files"))?;
        for folder in [self.folder.path(), &self.file("files")] {
            run(Command::new("chmod").arg("777").arg(folder))?;
        }
        let log = self.file(&format!("nginx-{name}.log"));
        run(Self::inside(namespace, "nginx")
            .arg("-q")
            .arg("-c")
            .arg(path)
            .arg("-e")
            .arg(log))?;
        Ok(())
    }

    /// The addresses that a real's web server saw, one for each request.
    pub(crate) fn visitors(&self, index: usize) -> Vec<String> {
        let text =
            fs::read_to_string(self.file(&format!("access-real-{index}"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A peer of our own in a namespace; see [`peer`].
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub(crate) fn start_peer(
        &mut self,
        namespace: &str,
        arguments: &[&str],
    ) -> Result<(), Failure> {
        let mut child = self
            .peer(namespace, arguments)?
            .stdout(Stdio::piped())
            .spawn()?;
        peer::wait_ready(&mut child)?;
        self.peers.push(child);
        Ok(())
    }

    /// Connections from a namespace that are to be asked later.
    ///
    /// # Errors
    ///
    /// Not all could be opened.
    pub(crate) fn start_asking(
        &self,
        namespace: &str,
        address: &str,
        count: usize,
    ) -> Result<Asking, Failure> {
        self.start_until_told(namespace, &["tcp-ask", address, &count.to_string()])
    }

    /// A peer that goes on until its input ends, and then says what came of it.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub(crate) fn start_until_told(
        &self,
        namespace: &str,
        arguments: &[&str],
    ) -> Result<Asking, Failure> {
        let mut child = self
            .peer(namespace, arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asking = peer::wait_ready(&mut child);
        let asking = Asking {
            child,
            said: asking?,
        };
        Ok(asking)
    }

    /// The command that runs a peer of our own in a namespace.
    ///
    /// # Errors
    ///
    /// The test program does not know where it is.
    pub(crate) fn peer(&self, namespace: &str, arguments: &[&str]) -> Result<Command, Failure> {
        let mut command = Self::inside(namespace, &std::env::current_exe()?.to_string_lossy());
        command.arg(peer::FLAG).args(arguments);
        Ok(command)
    }

    /// Plugs a TAP of the daemon into a bridge. A bridge keeps frames for its plugs' own
    /// addresses to itself, and the TAP is born with the daemon's: so it gets another one.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub(crate) fn plug(&self, tap: &str, bridge: &str, mac: &str) -> Result<(), String> {
        let director = self.director();
        Self::ip(&director, &format!("link set {tap} address {mac}"))?;
        Self::ip(&director, &format!("link set {tap} master {bridge} up")).map(drop)
    }

    /// Requests to `url` from the client, one connection each: the lines that came back.
    ///
    /// Each is from a port of its own: for a client that uses one again while its connection is
    /// remembered, IPVS and we keep the server, and shares would be off by a few.
    pub(crate) fn fetch(&self, url: &str, count: usize) -> Vec<String> {
        let request = || {
            let port = self.next_port.get();
            self.next_port.set(port + 1);
            format!("silent\nfail-early\nmax-time = 10\nlocal-port = {port}\nurl = \"{url}\"\n")
        };
        let requests: Vec<String> = std::iter::repeat_with(request).take(count).collect();
        let file = self.file("requests");
        if fs::write(&file, requests.join("next\n")).is_err() {
            return Vec::new();
        }
        let output = Self::inside(&self.client(), "curl")
            .arg("--config")
            .arg(file)
            .output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// How many of the answers came from each real.
    pub(crate) fn shares(&self, answers: &[String]) -> Vec<usize> {
        let count = |index| {
            let name = format!("real-{index}");
            answers.iter().filter(|answer| **answer == name).count()
        };
        (1..=self.reals).map(count).collect()
    }

    /// What is there and may be left behind: interfaces of the director and of the host, EAL's
    /// runtime folders, files on hugepages.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        let mut traces = BTreeSet::new();
        for arguments in [&["-n", &self.director(), "-o", "link"][..], &["-o", "link"]] {
            let links = run(Command::new("ip").args(arguments)).unwrap_or_default();
            let names = links.lines().filter_map(|line| line.split(": ").nth(1));
            let place = if arguments.len() > 2 {
                "director"
            } else {
                "host"
            };
            traces.extend(names.map(|name| format!("{place} interface {name}")));
        }
        for folder in ["/run/dpdk", "/dev/hugepages"] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let paths = entries.map(|entry| entry.path());
            // What has a living owner belongs to somebody else's daemon, now at work.
            let ownerless = paths.filter(|path| !has_living_owner(path));
            traces.extend(ownerless.map(|path| path.display().to_string()));
        }
        traces
    }
}

/// A peer that waits for its input to end: open connections, each for one request, or flows.
pub(crate) struct Asking {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Asking {
    /// Sends a request on each: how many are answered.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub(crate) fn ask(&mut self) -> Result<usize, Failure> {
        let said = self.end()?;
        let count = said.parse();
        count.map_err(|_| Failure::Wrong(format!("the peer said {said:?}")))
    }

    /// Ends its input: what it says.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub(crate) fn end(&mut self) -> Result<String, Failure> {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in namespaces()
            .iter()
            .filter(|name| name.starts_with(&format!("{}-", self.name)))
        {
            remove_namespace(name);
        }
        for peer in &mut self.peers {
            let _ = peer.kill();
            let _ = peer.wait();
        }
    }
}

/// Whether the kernel speaks IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Whether this is `sluice-PID-...` of a process that runs.
fn has_living_owner(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let pid = name
        .strip_prefix("sluice-")
        .and_then(|rest| rest.split('-').next());
    pid.is_some_and(|pid| !pid.is_empty() && Path::new("/proc").join(pid).exists())
}

/// The processors that this process may use.
pub(crate) fn cores() -> Vec<u16> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cores = Vec::new();
    for range in list.unwrap_or("0").trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// Standard output and error of a finished command, together.
pub(crate) fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
