//! `memory/`: what a connection takes, measured from a process of its own: the memory that it has
//! with a large table, without what it has with a small one.

use std::process::Command;

use benches::{Case, Direction, Family, Lab, Mode};

use crate::Options;
use crate::report::{Report, Row};

const CONNECTIONS: u32 = 1_000_000;

/// Measures both families.
pub(crate) fn measure(_: &Options, report: &mut Report) {
    println!("\nmemory: octets a connection, all included");
    for family in Family::ALL {
        let octets = |connections: u32| -> Result<f64, String> {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            let (family, connections) = (family.number().to_string(), connections.to_string());
            let args = ["memory", "--of", &family, &connections];
            let out = Command::new(own).args(args).output();
            let out = out.map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&out.stdout);
            text.trim()
                .parse()
                .map_err(|_| format!("no number: {text}"))
        };
        match (octets(1000), octets(CONNECTIONS + 1000)) {
            (Ok(small), Ok(large)) => {
                let each = (large - small) / f64::from(CONNECTIONS);
                println!("memory/connection v{:<16} {each:>8.1}", family.number());
                report.rows.push(Row {
                    name: "memory/connection".to_owned(),
                    family: Some(family.number()),
                    workers: Some(1),
                    flows: Some(CONNECTIONS),
                    bytes_per_connection: Some(each),
                    ..Row::default()
                });
            }
            (Err(error), _) | (_, Err(error)) => println!("memory: {error}"),
        }
    }
}

/// Prints the octets of this process's memory with a worker for so many connections, all open.
pub(crate) fn probe(family: &str, connections: &str) -> Result<(), String> {
    let connections: u32 = connections.parse().map_err(|_| "not a number".to_owned())?;
    let family = if family == "6" {
        Family::V6
    } else {
        Family::V4
    };
    let case = Case {
        mode: Mode::Nat,
        family,
        direction: Direction::Forward,
    };
    // The generator's own flows are no part of a connection: one of them is enough.
    let mut lab = Lab::new(case, 1, connections);
    lab.each(0..connections, benches::Segments::Syn);
    assert_eq!(lab.counters.connections_made.get(), u64::from(connections));
    println!("{}", resident()?);
    Ok(())
}

/// Octets of memory in use, those on reserved pages included.
fn resident() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let of = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let kib = of("VmRSS:").ok_or("no VmRSS")? + of("HugetlbPages:").unwrap_or(0);
    Ok(kib * 1024)
}
