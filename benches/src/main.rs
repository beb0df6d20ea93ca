//! `bench`: what `scripts/bench` runs. One module for each group of figures.
#![forbid(unsafe_code)]

mod control;
mod core;
mod daemon;
mod dpdk;
mod gate;
mod machine;
mod memory;
mod new;
mod page;
mod plots;
mod process;
mod report;
mod ring;
mod scale;
mod testpmd;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::report::Report;

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Less of everything: two minutes.
    pub(crate) quick: bool,
    json: Option<PathBuf>,
    html: Option<PathBuf>,
    /// Groups to measure; all, if none is named.
    groups: Vec<String>,
}

const USAGE: &str = "usage: bench [--quick] [--json FILE] [--html FILE] [GROUP...]
       bench gate [--record] FILE
       bench count CASE";

/// A group of figures: the word that names begin with, and what measures it.
type Group = (&'static str, fn(&Options, &mut Report));

const GROUPS: [Group; 7] = [
    ("core", core::measure),
    ("dpdk", dpdk::measure),
    ("new", new::measure),
    ("scale", scale::measure),
    ("memory", memory::measure),
    ("control", control::measure),
    ("latency", ring::latency),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["count", name] => gate::count(name),
        ["gate", file] => gate::compare(file.as_ref()),
        ["gate", "--record", file] => gate::record(file.as_ref()),
        ["scale", "--of", case, flows, core] => scale::one_of_two(case, flows, core),
        ["memory", "--of", family, connections] => memory::probe(family, connections),
        _ => options(&args).and_then(|options| run(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut file = || rest.next().map(PathBuf::from).ok_or(USAGE.to_owned());
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = Some(file()?),
            "--html" => options.html = Some(file()?),
            group if GROUPS.iter().any(|(name, _)| *name == group) => {
                options.groups.push(group.to_owned());
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    let mut report = Report::begin(machine::describe());
    // Before anything is measured: a file that can't be written is known at once.
    keep(options, &report)?;
    for (name, measure) in GROUPS {
        let wanted = |group: &String| group == name;
        if options.groups.is_empty() || options.groups.iter().any(wanted) {
            measure(options, &mut report);
            // After each group: what is stopped leaves what it has.
            keep(options, &report)?;
        }
    }
    Ok(())
}

fn keep(options: &Options, report: &Report) -> Result<(), String> {
    let write = |file: &PathBuf, text: String| {
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    if let Some(file) = &options.json {
        write(file, report.json())?;
    }
    if let Some(file) = &options.html {
        write(file, page::html(report))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments() {
        let all = options(&[]).expect("none are needed");
        assert!(!all.quick && all.groups.is_empty() && all.json.is_none());
        let some = "--quick --json a.json core --html b.html latency";
        let some = options(&words(some)).expect("all of them are known");
        assert!(some.quick && some.groups == ["core", "latency"]);
        assert_eq!(some.json, Some("a.json".into()));
        assert_eq!(some.html, Some("b.html".into()));
        for wrong in ["--json", "--html", "cores", "--slow", "core/turn"] {
            assert_eq!(
                options(&words(wrong)).err().as_deref(),
                Some(USAGE),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_script_knows_the_groups() {
        let script = include_str!("../../scripts/bench");
        let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        let known = format!("--quick | {})", names.join(" | "));
        assert!(script.contains(&known), "{known}");
        let (last, others) = names.split_last().expect("some");
        let said = format!("#   GROUP      {} or {last};", others.join(", "));
        assert!(script.contains(&said), "{said}");
    }
}
