//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::Parser;

use crate::exit;

/// Ours, and DPDK's with where that is.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let drivers = match dpdk::IS_STATIC {
        true => "its drivers built in",
        false => "its drivers loaded from the system",
    };
    let (ours, dpdk) = (env!("CARGO_PKG_VERSION"), dpdk::version());
    format!("{ours} ({dpdk}, {drivers})")
});

/// The load balancer daemon.
#[derive(Debug, Parser)]
#[command(name = "sluiced", version = VERSION.as_str())]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/sluice.toml")]
    pub(crate) config: PathBuf,
    /// What to log: error, warn, info, debug, trace, or tracing's filters; else SLUICE_LOG,
    /// else RUST_LOG, else info
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

/// Reads the command line; on the way out, the code to leave with.
pub(crate) fn parse() -> Result<Args, ExitCode> {
    Args::try_parse().map_err(|error| {
        // Nobody to tell if even that fails.
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::from(exit::USAGE)
        } else {
            ExitCode::SUCCESS
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let args = Args::try_parse_from(["sluiced", "--config", "a.toml", "--log", "debug"]);
        let args = args.expect("legal");
        assert_eq!(args.config, PathBuf::from("a.toml"));
        assert_eq!(args.log.as_deref(), Some("debug"));
        let args = Args::try_parse_from(["sluiced"]).expect("legal");
        assert_eq!(args.config, PathBuf::from("/etc/sluice/sluice.toml"));
        assert!(Args::try_parse_from(["sluiced", "--confg", "x"]).is_err());
    }

    #[test]
    fn the_version_says_which_dpdk() {
        let said = Args::try_parse_from(["sluiced", "--version"]).expect_err("it is shown");
        let said = said.to_string();
        let ours = concat!("sluiced ", env!("CARGO_PKG_VERSION"), " (DPDK ");
        assert!(said.starts_with(ours), "{said}");
        assert_eq!(said.contains("built in"), dpdk::IS_STATIC, "{said}");
    }
}
