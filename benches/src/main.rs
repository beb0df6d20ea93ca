//! `bench`: what `scripts/bench` runs.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use benches::{Case, Family, Lab};

/// Flows and turns of a count.
const FLOWS: u32 = 1000;
const TURNS: u32 = 256;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["cases"] => Case::all(&Family::ALL)
            .iter()
            .for_each(|case| println!("{case}")),
        ["count", name] => return count(name),
        _ => {
            eprintln!("usage: bench cases | count CASE");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

/// Turns for callgrind to count; says how many packets they are.
fn count(name: &str) -> ExitCode {
    let Some(case) = Case::named(name) else {
        eprintln!("bench: no case is called {name}");
        return ExitCode::from(64);
    };
    let mut lab = Lab::established(case, FLOWS);
    lab.check(64);
    lab.counted(TURNS);
    println!("{} packets", TURNS * 32);
    ExitCode::SUCCESS
}
