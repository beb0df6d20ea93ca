//! End to end: `sluiced` and `sluice` as an operator has them, in network namespaces.
//!
//! Each test builds a [`lab::Lab`] of its own (a director, a client, web servers, joined by a
//! bridge), starts the daemon in it and looks from outside: what clients get, what servers
//! see, what is left afterwards. Needs root and `/dev/net/tun`; where they are missing the
//! tests are skipped, and with `CI=true` they fail.
//!
//! `cargo test -p sluiced --test e2e [PART OF A NAME]...` runs those whose names contain it.
#![forbid(unsafe_code)]

mod arp;
mod balance;
mod commands;
mod daemon;
mod datagrams;
mod lab;
mod life;
mod lossy;
mod modes;
mod peer;
mod refusals;
mod relay;
mod routed;
mod runner;
mod sctp;
mod switch;
mod told;
mod trace;
mod tunnel;
mod two_arm;
mod undisturbed;
mod vlan;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The test program is also what runs inside the namespaces as a peer.
    if let Some(code) = peer::run(&arguments) {
        return code;
    }
    let tests = [
        balance::TESTS,
        arp::TESTS,
        life::TESTS,
        modes::TESTS,
        sctp::TESTS,
        two_arm::TESTS,
        lossy::TESTS,
        told::TESTS,
        datagrams::TESTS,
        refusals::TESTS,
        commands::TESTS,
        trace::TESTS,
        undisturbed::TESTS,
        vlan::TESTS,
    ];
    runner::run(&tests.concat(), &arguments)
}
