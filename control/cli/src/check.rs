//! `sluice check FILE`: everything there is to say about a configuration, without a daemon.

use std::path::Path;

use config::toml::{Loaded, read_file};
use proto::errors::{EXIT_NEGATIVE, EXIT_OK, EXIT_USAGE};

use crate::output::{err, out};

/// Checks the file; gives the exit code: 0 good, 1 errors, 2 not built yet.
pub(crate) fn run(path: &Path) -> u8 {
    match read_file(path) {
        Ok(loaded) => verdict(path, &loaded),
        Err(errors) => {
            err(&format!("{errors}\n"));
            EXIT_NEGATIVE
        }
    }
}

fn verdict(path: &Path, loaded: &Loaded) -> u8 {
    for warning in &loaded.warnings {
        err(&format!("{}: warning: {}\n", warning.at, warning.text));
    }
    for message in loaded.devices.iter().chain(&loaded.not_built) {
        err(&format!("{message}\n"));
    }
    if !loaded.not_built.is_empty() {
        return EXIT_USAGE;
    }
    if !loaded.devices.is_empty() {
        return EXIT_NEGATIVE;
    }
    let config = &loaded.config;
    let reals: usize = config
        .services
        .iter()
        .map(|service| service.reals.len())
        .sum();
    out(&format!(
        "{}: good: {} ports, {} services, {reals} real servers\n",
        path.display(),
        config.ports.len(),
        config.services.len()
    ));
    EXIT_OK
}
