//! The operator's command: ipvsadm's grammar over the daemon's socket, and what ipvsadm has no
//! word for.
//!
//! Called as `ipvsadm`, `ipvsadm-save` or `ipvsadm-restore` it behaves as they do. Called as
//! `sluice` it takes ipvsadm's options directly (`sluice -Ln`), and subcommands beside them.
#![forbid(unsafe_code)]

mod call;
mod check;
mod client;
mod invocation;
mod names;
mod output;
#[cfg(test)]
mod packaged;
mod replay;
mod subcommands;
mod trace;

use std::process::ExitCode;

use invocation::{Invocation, Program};

fn main() -> ExitCode {
    let mut args = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = args.next().unwrap_or_else(|| "sluice".to_owned());
    let environment = std::env::var_os(invocation::SOCKET_VARIABLE);
    let result = Invocation::new(called, args.collect(), environment.map(Into::into));
    let exit = match result {
        Ok(invocation) => run(&invocation),
        Err(failure) => output::failure(&failure),
    };
    ExitCode::from(exit)
}

fn run(invocation: &Invocation) -> u8 {
    let outcome = match invocation.program {
        Program::Sluice if subcommands::asked(&invocation.argv) => subcommands::run(invocation),
        Program::Sluice | Program::Ipvsadm => call::run(invocation),
        Program::Save => call::save(invocation),
        Program::Restore => call::restore(invocation),
    };
    outcome.unwrap_or_else(|failure| output::failure(&failure))
}
