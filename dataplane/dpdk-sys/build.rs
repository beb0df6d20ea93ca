//! Compiles the shim and names the libraries to link.
//!
//! `pkg-config` finds DPDK. By default its shared libraries are linked and drivers load by
//! themselves when EAL starts; the feature `static-pmd` puts the drivers listed here into the
//! binary.

use std::env;
use std::process::{Command, ExitCode};

/// What the shim itself calls. `rte_log` is a library of its own since 23.11.
const CORE: &[&str] = &[
    "rte_eal",
    "rte_log",
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
];

/// DPDK's libraries and drivers in a static build: software devices, and the NICs of servers and clouds.
/// What this DPDK does not have is left out.
const STATIC: &[&str] = &[
    "rte_log",
    "rte_kvargs",
    "rte_telemetry",
    "rte_argparse",
    "rte_eal",
    "rte_ring",
    "rte_rcu",
    "rte_mempool",
    "rte_mbuf",
    "rte_net",
    "rte_meter",
    "rte_ethdev",
    "rte_pci",
    "rte_timer",
    "rte_hash",
    "rte_gso",
    "rte_cryptodev",
    "rte_dmadev",
    "rte_vhost",
    "rte_security",
    "rte_bus_pci",
    "rte_bus_vdev",
    "rte_bus_vmbus",
    "rte_bus_auxiliary",
    "rte_mempool_ring",
    "rte_common_iavf",
    "rte_common_idpf",
    "rte_common_mlx5",
    "rte_net_ring",
    "rte_net_null",
    "rte_net_tap",
    "rte_net_af_packet",
    "rte_net_af_xdp",
    "rte_net_memif",
    "rte_net_pcap",
    "rte_net_virtio",
    "rte_net_vhost",
    "rte_net_e1000",
    "rte_net_igc",
    "rte_net_ixgbe",
    "rte_net_i40e",
    "rte_net_iavf",
    "rte_net_ice",
    "rte_net_idpf",
    "rte_net_mlx4",
    "rte_net_mlx5",
    "rte_net_bnxt",
    "rte_net_cxgbe",
    "rte_net_enic",
    "rte_net_ionic",
    "rte_net_nfp",
    "rte_net_qede",
    "rte_net_atlantic",
    "rte_net_axgbe",
    "rte_net_ngbe",
    "rte_net_txgbe",
    "rte_net_ena",
    "rte_net_gve",
    "rte_net_netvsc",
    "rte_net_vmxnet3",
];

/// What those use of the system, as shared libraries, where DPDK was built with it.
const STATIC_NEEDS: &[&str] = &[
    "numa", "bsd", "elf", "z", "pcap", "xdp", "bpf", "ibverbs", "mlx4", "mlx5",
];

const MISSING: &str = "DPDK's headers are not here: pkg-config does not find libdpdk 22.11 or \
    newer. Run scripts/setup (on Debian it installs libdpdk-dev), or set PKG_CONFIG_PATH to where \
    DPDK is.";

fn main() -> ExitCode {
    for file in ["build.rs", "src/shim.c", "src/shim.h"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let Some(library) = probe() else {
        eprintln!("{MISSING}");
        return ExitCode::FAILURE;
    };
    let Some(flags) = pkg_config_says(&["--cflags", "libdpdk"]) else {
        eprintln!("{MISSING}");
        return ExitCode::FAILURE;
    };
    compile(&flags);
    link(&library);
    ExitCode::SUCCESS
}

fn probe() -> Option<pkg_config::Library> {
    pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .env_metadata(true)
        .probe("libdpdk")
        .map_err(|e| eprintln!("{e}"))
        .ok()
}

/// All of the compiler flags: the `pkg-config` crate keeps `-include rte_config.h` and `-march`
/// to itself, and DPDK's headers need both.
fn pkg_config_says(args: &[&str]) -> Option<Vec<String>> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.split_whitespace().map(str::to_owned).collect())
}

fn compile(flags: &[String]) {
    let mut build = cc::Build::new();
    build
        .file("src/shim.c")
        .std("gnu11")
        .opt_level(3)
        .warnings(true)
        .extra_warnings(true);
    for flag in system_includes(flags) {
        build.flag(flag);
    }
    build.compile("sluice_dpdk_shim");
}

/// DPDK's own headers as system headers, so that only our warnings show.
fn system_includes(flags: &[String]) -> impl Iterator<Item = String> {
    flags.iter().map(|flag| match flag.strip_prefix("-I") {
        Some(path) => format!("-isystem{path}"),
        None => flag.clone(),
    })
}

fn link(library: &pkg_config::Library) {
    for path in &library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    let has = |name: &str| library.libs.iter().any(|lib| lib == name);
    if env::var_os("CARGO_FEATURE_STATIC_PMD").is_some() {
        return link_static();
    }
    for name in CORE.iter().filter(|name| has(name)) {
        println!("cargo:rustc-link-lib=dylib={name}");
    }
    // A driver, so not in pkg-config's list; the in-process rings of tests and benches are its.
    println!("cargo:rustc-link-lib=dylib=rte_net_ring");
}

/// Whole archives: drivers announce themselves in constructors that nothing refers to.
fn link_static() {
    let folder = pkg_config::get_variable("libdpdk", "libdir").unwrap_or_default();
    println!("cargo:rustc-link-search=native={folder}");
    let there = |name: &&&str| {
        std::path::Path::new(&folder)
            .join(format!("lib{name}.a"))
            .exists()
    };
    for name in STATIC.iter().filter(there) {
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle={name}");
    }
    let says = pkg_config_says(&["--static", "--libs", "libdpdk"]).unwrap_or_default();
    for name in STATIC_NEEDS {
        if says
            .iter()
            .any(|word| word.strip_prefix("-l") == Some(name))
        {
            println!("cargo:rustc-link-lib=dylib={name}");
        }
    }
}
