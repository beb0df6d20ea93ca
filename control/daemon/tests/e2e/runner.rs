//! Runs tests one after the other and reports as `cargo test` does, so that results add up;
//! unlike it, a test may find out that it cannot run here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::lab;

/// Why a test did not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It saw something wrong.
    Wrong(String),
    /// The machine lacks what it needs.
    CannotRun(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// What a test returns.
pub(crate) type Outcome = Result<(), Failure>;

/// A test and its name.
pub(crate) type Test = (&'static str, fn() -> Outcome);

/// Fails the test with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::runner::Failure::Wrong(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;

#[derive(Default)]
struct Sums {
    passed: u32,
    failed: Vec<&'static str>,
    ignored: u32,
}

/// Runs the tests whose names contain one of the arguments (options aside), or all.
pub(crate) fn run(tests: &[Test], arguments: &[String]) -> ExitCode {
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen: Vec<&Test> = tests
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(*part)))
        .collect();
    println!("\nrunning {} tests", chosen.len());
    let start = Instant::now();
    let ready = lab::prepare();
    let mut sums = Sums::default();
    for (name, test) in &chosen {
        let outcome = ready
            .clone()
            .map_err(Failure::CannotRun)
            .and_then(|()| guarded(*test));
        sums.add(name, outcome);
    }
    sums.report(tests.len() - chosen.len(), start)
}

fn guarded(test: fn() -> Outcome) -> Outcome {
    // Each test owns all that it touches; a panic leaves nothing half done for the next.
    catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure::Wrong(format!(
            "panicked: {}",
            message.unwrap_or("(no message)")
        )))
    })
}

impl Sums {
    fn add(&mut self, name: &'static str, outcome: Outcome) {
        let must_run = std::env::var("CI").is_ok_and(|value| value == "true");
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok");
            }
            Err(Failure::CannotRun(why)) if !must_run => {
                self.ignored += 1;
                println!("test {name} ... ignored, {why}");
            }
            Err(Failure::CannotRun(why) | Failure::Wrong(why)) => {
                self.failed.push(name);
                println!(
                    "test {name} ... FAILED\n    {}",
                    why.trim_end().replace('\n', "\n    ")
                );
            }
        }
    }

    fn report(&self, filtered: usize, start: Instant) -> ExitCode {
        let verdict = if self.failed.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        println!(
            "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {filtered} \
             filtered out; finished in {:.2}s\n",
            self.passed,
            self.failed.len(),
            self.ignored,
            start.elapsed().as_secs_f64()
        );
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
