//! `sluiced`, the load balancer daemon.
//!
//! `start` puts the parts together in their order and takes them apart in the reverse one;
//! everything else is `control`'s and `dataplane`'s. The main thread is the control thread;
//! each worker has a thread and a core of its own.
#![forbid(unsafe_code)]

mod args;
mod cores;
mod exit;
mod log;
#[cfg(test)]
mod packaged;
mod ports;
mod start;
mod workers;

use std::process::ExitCode;

use control::signals::Signals;

use crate::exit::Exit;
use crate::start::Host;

fn main() -> ExitCode {
    // Before any other thread: one that doesn't block them would be ended by them.
    let signals = Signals::block();
    let args = match args::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let log = log::start(args.log.as_deref());
    log::speak_of_panics();
    let run = || {
        let signals = signals.map_err(Exit::internal)?;
        start::run(&args.config, Host { signals, log })
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("{exit}");
            exit.code()
        }
    }
}
