//! DPDK's environment (EAL): one per process, made from our configuration.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::leftovers::Owner;
use crate::messages;
use crate::pool::{PoolConfig, RawPool};

/// Whether to use hugepages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// Where enough are free.
    Auto,
    /// Or do not start.
    Require,
    /// Never: about half the speed, no system setting needed.
    Off,
}

/// What EAL is started with.
#[derive(Clone, Debug)]
pub struct EalConfig {
    /// Whether to use hugepages.
    pub hugepages: Hugepages,
    /// The pools that will be made.
    pub pools: Vec<PoolConfig>,
    /// MiB beside the pools: descriptor rings, rings between devices, drivers' own.
    pub other_mb: u32,
    /// Cores of the calling thread and of EAL's own threads; empty: where they are now. The
    /// workers' cores do not belong here.
    pub cores: Vec<u16>,
    /// The PCI devices that may be probed; no other one is touched.
    pub pci: Vec<String>,
    /// Open DPDK's telemetry socket.
    pub telemetry: bool,
}

impl Default for EalConfig {
    fn default() -> Self {
        EalConfig {
            hugepages: Hugepages::Auto,
            pools: Vec::new(),
            other_mb: 32,
            cores: Vec::new(),
            pci: Vec::new(),
            telemetry: false,
        }
    }
}

/// Why EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// It starts once.
    #[error("DPDK was started before in this process; it can be started only once")]
    AlreadyStarted,
    /// Hugepages are required and too few are free.
    #[error(
        "hugepages are required: {asked_mb} MiB are needed and {free_mb} MiB are free; reserve \
         them with scripts/setup --hugepages {} or set hugepages = \"auto\"", .asked_mb.div_ceil(2)
    )]
    NoHugepages {
        /// MiB needed.
        asked_mb: u32,
        /// MiB free.
        free_mb: u64,
    },
    /// Less memory than the pools need.
    #[error(
        "no memory for the pools: {asked_mb} MiB are needed and {available_mb} MiB are available; \
         lower mbufs or mbuf_size"
    )]
    NoMemory {
        /// MiB needed.
        asked_mb: u32,
        /// MiB available.
        available_mb: u64,
    },
    /// The calling thread can't run where it should.
    #[error("this process may not run on cores {cores:?}: {reason}")]
    Cores {
        /// Cores asked for.
        cores: Vec<u16>,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// A word that can't be an argument.
    #[error("{word:?} is no PCI address; write it like 0000:3b:00.0")]
    Word {
        /// The word.
        word: String,
    },
    /// Anything else.
    #[error("DPDK did not start: {reason} ({said})")]
    Refused {
        /// Why.
        reason: io::Error,
        /// EAL's last messages.
        said: String,
    },
}

/// Why EAL was left as it is at the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownError {
    /// A pool, device, queue or registered thread is still there.
    #[error("{count} pools, devices, queues or threads still use DPDK; its memory stays mapped")]
    InUse {
        /// How many.
        count: usize,
    },
    /// Frames are still in somebody's hands.
    #[error("{count} frame buffers never came back; DPDK's memory stays mapped")]
    BuffersOut {
        /// How many.
        count: u32,
    },
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// The running environment; dropping it shuts it down. Stays on the thread that made it.
#[derive(Debug)]
pub struct Eal {
    runtime: Arc<Runtime>,
    folder: Option<Folder>,
    hugepages: bool,
    ended: bool,
    /// Not `Send`: the thread that made it has a cache in each pool, and no other thread could
    /// know that the cache is at rest.
    _main: PhantomData<*mut ()>,
}

/// Proof that EAL runs, for any thread.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Runtime>);

/// What everything that rests on EAL holds.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    /// Every pool ever made; freed at the very end, when nobody can touch a cache any more.
    pub(crate) pools: Mutex<Vec<RawPool>>,
}

impl Eal {
    /// Starts EAL.
    ///
    /// The calling thread and all threads that EAL makes stay on `config.cores`; threads started
    /// later inherit that until they are pinned elsewhere.
    ///
    /// # Errors
    /// See [`EalError`]; whatever it was, the process can't try again (except for
    /// [`EalError::NoHugepages`], [`EalError::NoMemory`], [`EalError::Cores`] and
    /// [`EalError::Word`], which are found before EAL is touched).
    pub fn init(config: &EalConfig) -> Result<Eal, EalError> {
        let hugepages = choose_hugepages(config)?;
        let owner = Owner::this_process();
        let arguments = arguments(config, hugepages, &owner)?;
        stay_on(&config.cores)?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyStarted);
        }
        let bases = crate::leftovers::runtime_bases();
        let there_before: Vec<PathBuf> = bases.into_iter().filter(|base| base.exists()).collect();
        let started = start(arguments);
        let folder = Folder::find(&there_before, &owner);
        if let Err(reason) = started {
            folder.iter().for_each(Folder::remove);
            return Err(EalError::Refused {
                reason,
                said: messages::last_words(),
            });
        }
        Ok(Eal {
            runtime: Arc::default(),
            folder,
            hugepages,
            ended: false,
            _main: PhantomData,
        })
    }

    /// For everything that needs EAL, on any thread.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.runtime))
    }

    /// Whether memory lies on hugepages.
    pub fn hugepages(&self) -> bool {
        self.hugepages
    }

    /// Gives everything back: memory, EAL's threads, the runtime folder.
    ///
    /// # Errors
    /// Something still uses it; then its memory stays mapped until the process ends (the runtime
    /// folder goes all the same).
    pub fn shutdown(mut self) -> Result<(), ShutdownError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ShutdownError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let unused = self.unused();
        if unused.is_ok() {
            self.free_pools();
            // SAFETY: `unused` found that this is the last owner of the runtime, so there is no
            // device, queue or registered thread, and that no buffer is out: no pointer into
            // EAL's memory is left. `STARTED` keeps EAL from being started again.
            unsafe { dpdk_sys::shim_eal_cleanup() };
        }
        if let Some(folder) = self.folder.take() {
            folder.remove();
        }
        unused
    }

    fn unused(&self) -> Result<(), ShutdownError> {
        let holders = Arc::strong_count(&self.runtime) - 1;
        if holders > 0 {
            return Err(ShutdownError::InUse { count: holders });
        }
        // Pairs with the release in the last other owner's drop (as `Arc::try_unwrap` does), so
        // that what its thread did to a pool is seen here.
        std::sync::atomic::fence(Ordering::Acquire);
        let out = self.lock_pools().iter().map(RawPool::in_use).sum();
        if out > 0 {
            Err(ShutdownError::BuffersOut { count: out })
        } else {
            Ok(())
        }
    }

    fn free_pools(&self) {
        for pool in self.lock_pools().drain(..) {
            // SAFETY: no `Pool`, device or registered thread is left (`unused`), every buffer is
            // back, and `Eal` is on the only thread that still has a cache: its own.
            unsafe { pool.free() };
        }
    }

    fn lock_pools(&self) -> std::sync::MutexGuard<'_, Vec<RawPool>> {
        self.runtime
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // What is still used stays mapped; there is nobody left to tell.
        let _ = self.end();
    }
}

/// EAL's runtime folder, which it does not remove itself.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The folder above it, if EAL made that too.
    base: Option<PathBuf>,
}

impl Folder {
    fn find(there_before: &[PathBuf], owner: &Owner) -> Option<Folder> {
        // SAFETY: takes nothing; the pointer is to EAL's static path, ended by a zero.
        let path = unsafe { dpdk_sys::shim_eal_runtime_dir() };
        if path.is_null() {
            return None;
        }
        // SAFETY: as said, and EAL is not changing it now: this is the thread that starts it.
        let path = unsafe { CStr::from_ptr(path) };
        let path = Path::new(path.to_str().ok()?).to_path_buf();
        let name = path.file_name().and_then(|name| name.to_str());
        if name != Some(owner.prefix().as_str()) {
            return None;
        }
        let base = path.parent().map(Path::to_path_buf);
        Some(Folder {
            base: base.filter(|base| !there_before.contains(base)),
            path,
        })
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
        if let Some(base) = &self.base {
            // Only when empty: another process may live there by now.
            let _ = fs::remove_dir(base);
        }
    }
}

impl EalConfig {
    /// MiB that EAL needs, with hugepages or without.
    pub fn memory_mb(&self, hugepages: bool) -> u32 {
        let pools = self.pools.iter().map(|pool| pool.memory_mb(hugepages));
        pools.fold(self.other_mb, u32::saturating_add).max(64)
    }
}

fn choose_hugepages(config: &EalConfig) -> Result<bool, EalError> {
    let (asked_mb, free_mb) = (config.memory_mb(true), free_hugepages_mb());
    let enough = free_mb >= u64::from(asked_mb);
    match config.hugepages {
        Hugepages::Require if !enough => Err(EalError::NoHugepages { asked_mb, free_mb }),
        Hugepages::Require => Ok(true),
        Hugepages::Auto if enough => Ok(true),
        Hugepages::Auto | Hugepages::Off => check_memory(config.memory_mb(false)).map(|()| false),
    }
}

/// Without hugepages EAL only reserves addresses; the pool would then be killed while it is
/// filled. So look first.
fn check_memory(asked_mb: u32) -> Result<(), EalError> {
    match available_mb() {
        Some(available_mb) if available_mb < u64::from(asked_mb) => Err(EalError::NoMemory {
            asked_mb,
            available_mb,
        }),
        _ => Ok(()),
    }
}

fn available_mb() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024)
}

fn free_hugepages_mb() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return 0;
    };
    sizes
        .flatten()
        .filter_map(|size| free_of_size(&size.path()))
        .sum()
}

fn free_of_size(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    let count = |file: &str| -> Option<u64> {
        fs::read_to_string(folder.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages")?);
    Some(free * kib / 1024)
}

fn arguments(config: &EalConfig, hugepages: bool, owner: &Owner) -> Result<Vec<CString>, EalError> {
    let mut words = vec![
        "sluiced".to_owned(),
        format!("--file-prefix={}", owner.prefix()),
    ];
    words.push(format!("--lcores=0@({})", core_list(&config.cores)));
    if hugepages {
        words.push("--in-memory".into());
    } else {
        words.extend(["--no-huge".into(), "--no-shconf".into()]);
        words.extend(["-m".into(), config.memory_mb(false).to_string()]);
    }
    if !config.telemetry {
        words.push("--no-telemetry".into());
    }
    if config.pci.is_empty() {
        words.push("--no-pci".into());
    }
    for address in &config.pci {
        words.extend(["-a".into(), address.clone()]);
    }
    let c_string = |word: String| CString::new(word.clone()).map_err(|_| EalError::Word { word });
    words.into_iter().map(c_string).collect()
}

/// The cores as EAL writes them; without any, those that the thread may use now.
fn core_list(cores: &[u16]) -> String {
    let allowed = if cores.is_empty() {
        allowed_cores()
    } else {
        cores.to_vec()
    };
    let words: Vec<String> = allowed.iter().map(u16::to_string).collect();
    words.join(",")
}

fn allowed_cores() -> Vec<u16> {
    let mut set = empty_set();
    // SAFETY: the kernel writes at most `size_of::<cpu_set_t>()` octets into a set of that size.
    let answer = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    let most = u16::try_from(libc::CPU_SETSIZE).expect("1024");
    // SAFETY: every number is below CPU_SETSIZE, so the bit is inside the set.
    let allowed = |core: &u16| unsafe { libc::CPU_ISSET(usize::from(*core), &set) };
    if answer == 0 {
        (0..most).filter(allowed).collect()
    } else {
        vec![0]
    }
}

/// Moves the calling thread, so that EAL's helper threads find no other core to go to.
fn stay_on(cores: &[u16]) -> Result<(), EalError> {
    if cores.is_empty() {
        return Ok(());
    }
    let refuse = |reason| EalError::Cores {
        cores: cores.to_vec(),
        reason,
    };
    let mut set = empty_set();
    for &core in cores {
        if i32::from(core) >= libc::CPU_SETSIZE {
            return Err(refuse(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        // SAFETY: `core` is below CPU_SETSIZE, so the bit is inside the set.
        unsafe { libc::CPU_SET(usize::from(core), &mut set) };
    }
    // SAFETY: the kernel only reads the set, of the size given.
    let answer =
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if answer == 0 {
        Ok(())
    } else {
        Err(refuse(io::Error::last_os_error()))
    }
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: a set of bits; all zeros is the empty set.
    unsafe { std::mem::zeroed() }
}

fn start(arguments: Vec<CString>) -> io::Result<()> {
    // EAL keeps pointers into its arguments and starts once: they stay for good.
    let words: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    let words = words.leak();
    let count = c_int::try_from(words.len()).expect("a few dozen arguments");
    // SAFETY: changes where DPDK logs to, before any of its threads is there.
    messages::check(unsafe { dpdk_sys::shim_log_capture() })?;
    // SAFETY: `words` are `count` strings ended by a zero, writable, never freed; `STARTED` lets
    // one thread here, once.
    messages::check(unsafe { dpdk_sys::shim_eal_init(count, words.as_mut_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(config: &EalConfig, hugepages: bool) -> String {
        let owner = Owner { pid: 7, started: 9 };
        let words = arguments(config, hugepages, &owner).expect("plain words");
        let words: Vec<&str> = words.iter().map(|w| w.to_str().expect("ASCII")).collect();
        words.join(" ")
    }

    #[test]
    fn arguments_follow_the_configuration() {
        let plain = EalConfig {
            cores: vec![0, 3],
            other_mb: 100,
            ..EalConfig::default()
        };
        assert_eq!(
            words(&plain, false),
            "sluiced --file-prefix=sluice-7-9 --lcores=0@(0,3) --no-huge --no-shconf -m 100 \
             --no-telemetry --no-pci"
        );
        let pci = vec!["0000:3b:00.0".to_owned()];
        let nic = EalConfig {
            pci,
            telemetry: true,
            ..plain
        };
        assert_eq!(
            words(&nic, true),
            "sluiced --file-prefix=sluice-7-9 --lcores=0@(0,3) --in-memory -a 0000:3b:00.0"
        );
    }

    #[test]
    fn too_much_is_refused_before_eal_is_touched() {
        let much = |hugepages| EalConfig {
            hugepages,
            other_mb: u32::MAX,
            ..EalConfig::default()
        };
        let text = Eal::init(&much(Hugepages::Off))
            .expect_err("4 PiB")
            .to_string();
        assert!(
            text.starts_with("no memory for the pools: 4294967295 MiB"),
            "{text}"
        );
        let text = Eal::init(&much(Hugepages::Require))
            .expect_err("4 PiB")
            .to_string();
        assert!(text.contains("scripts/setup --hugepages"), "{text}");
        let cores = EalConfig {
            cores: vec![1023],
            ..EalConfig::default()
        };
        let text = Eal::init(&cores).expect_err("no such core").to_string();
        assert!(text.contains("cores [1023]"), "{text}");
    }
}
