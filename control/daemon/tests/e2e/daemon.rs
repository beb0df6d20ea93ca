//! `sluiced` in the director's namespace, and `sluice` talking to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{self, Lab, words};
use crate::runner::Failure;

/// How long a start may take: EAL, pools, devices.
const START_SECONDS: u64 = 20;
/// How long the real servers may take to be resolved. (Before it has their MACs the daemon
/// drops what is for them; a client that repeats itself does not notice.)
const RESOLVE_SECONDS: u64 = 3;
/// How long a stop may take.
const STOP_SECONDS: u64 = 10;

/// The daemon's program.
pub(crate) fn sluiced() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sluiced"))
}

/// The command's program, which lies beside the daemon's (`cargo build -p sluice`).
pub(crate) fn sluice() -> PathBuf {
    sluiced().with_file_name("sluice")
}

/// A configuration: the parts that tests change, and the rest as always.
pub(crate) struct Toml {
    /// Cores of the workers.
    pub(crate) workers: Vec<u16>,
    /// `[dataplane] hugepages`.
    pub(crate) hugepages: &'static str,
    /// More lines of `[control]`.
    pub(crate) control: String,
    /// The port's device.
    pub(crate) device: String,
    /// The port's addresses.
    pub(crate) addresses: Vec<String>,
    /// More lines of the port.
    pub(crate) port: String,
    /// Tables that follow.
    pub(crate) rest: String,
}

impl Default for Toml {
    fn default() -> Self {
        Self {
            // The last core: the first one has the most interrupts.
            workers: lab::cores().last().copied().into_iter().collect(),
            hugepages: "off",
            control: String::new(),
            device: "net_tap0,iface=dtap0".to_owned(),
            addresses: vec![format!("{}/24", lab::DIP)],
            port: String::new(),
            rest: String::new(),
        }
    }
}

impl Toml {
    /// With these tables at the end.
    pub(crate) fn with(rest: impl Into<String>) -> Self {
        Self {
            rest: rest.into(),
            ..Self::default()
        }
    }

    /// The file's text.
    pub(crate) fn text(&self, socket: &Path) -> String {
        format!(
            "version = 1\n\n[dataplane]\nworkers = {:?}\nconnections = 65536\nidle = \"sleep\"\n\
             hugepages = \"{}\"\n\n[control]\nsocket = \"{}\"\n{}\n\n[[port]]\nname = \"lan\"\n\
             device = \"{}\"\naddresses = {:?}\nmac = \"{}\"\n{}\n\n{}\n",
            self.workers,
            self.hugepages,
            socket.display(),
            self.control,
            self.device,
            self.addresses,
            lab::PORT_MAC,
            self.port,
            self.rest
        )
    }
}

/// A `[[service]]` table with DR reals of these weights, in order.
pub(crate) fn service(listen: &str, scheduler: &str, weights: &[u32]) -> String {
    let port = listen.rsplit(':').next().unwrap_or_default();
    let reals = weights.iter().enumerate().map(|(index, weight)| {
        let address = lab::real_address(index + 1);
        format!(
            "[[service.real]]\naddress = \"{address}:{port}\"\nweight = {weight}\nmode = \"dr\"\n"
        )
    });
    let reals: String = reals.collect();
    format!("[[service]]\nlisten = \"{listen}\"\nscheduler = \"{scheduler}\"\n{reals}\n")
}

/// The web service on the VIP.
pub(crate) fn web(scheduler: &str, weights: &[u32]) -> String {
    service(&format!("tcp {}:80", lab::VIP), scheduler, weights)
}

/// A running `sluiced`. Dropping it stops it, asked first and then forced.
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and plugs it into the lab's bridge.
    ///
    /// # Errors
    ///
    /// It did not come up; what it said.
    pub(crate) fn start(lab: &Lab, toml: &Toml) -> Result<Self, Failure> {
        let mut daemon = Self::spawn(lab, toml, "sluiced")?;
        let director = lab.director();
        let up = lab::wait_for(START_SECONDS, || daemon.ended() || daemon.is_up(&director));
        if !up || daemon.ended() {
            return Err(Failure::Wrong(format!(
                "sluiced did not come up:\n{}",
                daemon.words()
            )));
        }
        lab.plug("dtap0", "br0", "02:00:00:83:00:fe")?;
        daemon.wait_resolved(&lab.reals());
        Ok(daemon)
    }

    /// Waits until those of these neighbours that it uses have a MAC.
    pub(crate) fn wait_resolved(&self, neighbours: &[String]) {
        lab::wait_for(RESOLVE_SECONDS, || self.has_resolved(neighbours));
    }

    /// Starts it and returns at once. Its files in the lab's folder begin with `name`.
    ///
    /// # Errors
    ///
    /// The program could not be started.
    pub(crate) fn spawn(lab: &Lab, toml: &Toml, name: &str) -> Result<Self, Failure> {
        let socket = lab.file("sluice.sock");
        let file = lab.file(&format!("{name}.toml"));
        fs::write(&file, toml.text(&socket))?;
        Self::spawn_with(lab, &["--config", &file.to_string_lossy()], name)
    }

    /// Starts it with these arguments and returns at once.
    ///
    /// # Errors
    ///
    /// The program could not be started.
    pub(crate) fn spawn_with(lab: &Lab, arguments: &[&str], name: &str) -> Result<Self, Failure> {
        let log = lab.file(&format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Lab::inside(&lab.director(), &sluiced().to_string_lossy())
            .args(arguments)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self {
            child,
            socket: lab.file("sluice.sock"),
            log,
        })
    }

    fn is_up(&self, director: &str) -> bool {
        Lab::ip(director, "link show dtap0").is_ok() && self.sluice(&["-Ln"]).status.success()
    }

    /// Whether every real of these that it uses has a MAC.
    fn has_resolved(&self, reals: &[String]) -> bool {
        let text = self.ask(&["status", "--json"]).unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let neighbours = status["neighbours"].as_array();
        neighbours.is_some_and(|all| {
            all.iter()
                .filter(|one| reals.iter().any(|real| one["address"] == real.as_str()))
                .all(|one| one["mac"].is_string())
        })
    }

    /// Whether the process is over.
    pub(crate) fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// What it wrote so far, both streams.
    pub(crate) fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).map_err(|e| Failure::Wrong(e.to_string()))?;
        kill(Pid::from_raw(pid), signal).map_err(|error| Failure::Wrong(error.to_string()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It still runs.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus, Failure> {
        if !lab::wait_for(STOP_SECONDS, || self.ended()) {
            let words = self.words();
            return Err(Failure::Wrong(format!(
                "sluiced still runs after {STOP_SECONDS} s:\n{words}"
            )));
        }
        Ok(self.child.wait()?)
    }

    /// Asks it to stop and waits: how it ended.
    ///
    /// # Errors
    ///
    /// It still runs.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus, Failure> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// Kills it, so that it can clean up nothing.
    ///
    /// # Errors
    ///
    /// It was gone already.
    pub(crate) fn crash(&mut self) -> Result<(), Failure> {
        self.signal(Signal::SIGKILL)?;
        self.wait().map(drop)
    }

    /// `sluice --socket OURS ARGUMENTS`.
    pub(crate) fn sluice(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(sluice());
        command.arg("--socket").arg(&self.socket).args(arguments);
        command.output().expect("sluice is built beside sluiced")
    }

    /// `sluice -R` with this file.
    ///
    /// # Errors
    ///
    /// It did not succeed.
    pub(crate) fn restore(&self, file: &Path) -> Result<(), Failure> {
        let mut command = Command::new(sluice());
        command.arg("--socket").arg(&self.socket).arg("-R");
        lab::run(command.stdin(File::open(file)?))?;
        Ok(())
    }

    /// The same, for a command that has to succeed: what it printed.
    ///
    /// # Errors
    ///
    /// It did not.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output = self.sluice(arguments);
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = words(&output);
        Err(Failure::Wrong(format!(
            "sluice {arguments:?}: {}: {text}",
            output.status
        )))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended() {
            return;
        }
        let _ = self.signal(Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(STOP_SECONDS);
        while !self.ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
