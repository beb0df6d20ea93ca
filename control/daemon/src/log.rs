//! The log: one line an event on standard error.

use std::env;
use std::io::IsTerminal;
use std::panic;

use tracing_subscriber::EnvFilter;

/// Starts logging at `level`, else as the environment says.
pub(crate) fn start(level: Option<&str>) {
    let from_environment = || {
        env::var("SLUICE_LOG")
            .or_else(|_| env::var("RUST_LOG"))
            .ok()
    };
    let wanted = level.map(str::to_owned).or_else(from_environment);
    let wanted = wanted.unwrap_or_else(|| "info".to_owned());
    let (filter, wrong) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    if let Some(error) = wrong {
        tracing::warn!("log level {wanted:?} is not understood ({error}); logging at info");
    }
}

/// A panic anywhere ends the process (the profiles say `panic = "abort"`): no half-dead
/// worker. Its message goes to the log as well as to standard error.
pub(crate) fn speak_of_panics() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        tracing::error!("panic, this is a bug; the process ends: {info}");
        default(info);
    }));
}
