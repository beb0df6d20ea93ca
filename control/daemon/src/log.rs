//! The log: one line an event on standard error.

use std::env;
use std::fmt;
use std::io::IsTerminal;
use std::panic;

use control::log::Log;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging at `level`, else as the environment says; gives the means to change it.
pub(crate) fn start(level: Option<&str>) -> Filter {
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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    if let Some(error) = wrong {
        tracing::warn!("log level {wanted:?} is not understood ({error}); logging at info");
    }
    let show = handle.clone();
    Filter {
        show: Box::new(move || show.with_current(EnvFilter::to_string).unwrap_or_default()),
        set: Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())),
    }
}

/// The log's filter, to be changed while the daemon runs.
pub(crate) struct Filter {
    show: Box<dyn Fn() -> String>,
    set: Box<dyn Fn(EnvFilter) -> Result<(), String>>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&(self.show)()).finish()
    }
}

impl Log for Filter {
    fn filter(&self) -> String {
        (self.show)()
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        check(filter)?;
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        (self.set)(filter)
    }
}

/// tracing takes any word for a target; here a word alone has to be a level, so that a slip of the
/// pen does not end all logging.
fn check(filter: &str) -> Result<(), String> {
    let alone = filter.split(',').filter(|part| !part.contains('='));
    match alone
        .into_iter()
        // Nothing at all would parse: as a level.
        .find(|word| word.is_empty() || word.parse::<LevelFilter>().is_err())
    {
        None => Ok(()),
        Some(word) => Err(format!(
            "{word:?} is no level (off, error, warn, info, debug, trace); a target is TARGET=LEVEL"
        )),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_alone_is_a_level() {
        for good in ["info", "OFF", "warn,control=debug", "control::neigh=trace"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["infoo", "control", "info,control", ""] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
