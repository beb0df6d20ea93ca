//! The native file: strict TOML into a [`Config`].
//!
//! The file is walked by hand over `toml`'s spanned document and not derived with serde.
//! A derive stops at the first error, knows places only for what it wraps, and has no place
//! left for the checks between tables (a port that is named but not there). Walking costs
//! one line per key and gives every error of the file at once, each with its line and with
//! what is allowed there, which is what an operator wants from `sluice check`.
//!
//! In three steps, each its own folder entry: `table` and `report` (how a key is taken and
//! how an error is said), `dataplane`, `network`, `service` (what the keys mean), `check`
//! (what must hold between tables).

mod check;
mod dataplane;
mod device;
mod network;
mod report;
mod service;
mod sorry;
mod table;
mod value;
mod write;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ::toml::de::DeTable;

use crate::message::{Errors, Message, Place};
use crate::model::{Config, Port};
use report::Report;
use table::Table;

pub use write::write;

/// A file that was read without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is legal but probably not meant.
    pub warnings: Vec<Message>,
    /// What is legal but not done by this version. If there is any, the configuration must
    /// be refused: nothing is imitated.
    pub not_built: Vec<Message>,
    /// Devices that DPDK will most probably refuse. It has the last word: for who asks what is
    /// wrong with a file, not for who starts with it.
    pub devices: Vec<Message>,
}

/// Reads the file at `path`.
///
/// # Errors
///
/// Everything that is wrong with the file; a single message without a line if it can't be
/// read at all.
pub fn read_file(path: &Path) -> Result<Loaded, Errors> {
    let origin = path.display().to_string();
    match fs::read(path) {
        Ok(bytes) => read_bytes(&bytes, &origin),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = "there is no such file; config/examples has some to start from";
            Err(one(&origin, None, text.to_owned()))
        }
        Err(error) => Err(one(&origin, None, format!("cannot be read: {error}"))),
    }
}

/// Reads what a file contained; `origin` is its name for messages.
///
/// # Errors
///
/// As [`read`]; also bytes that are not UTF-8.
pub fn read_bytes(bytes: &[u8], origin: &str) -> Result<Loaded, Errors> {
    match str::from_utf8(bytes) {
        Ok(text) => read(text, origin),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
            Err(one(origin, Some(line), "is not UTF-8 text".to_owned()))
        }
    }
}

/// Reads the text of a file; `origin` is its name for messages.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of the lines. If it is not TOML, only
/// that: what follows a broken line can't be trusted.
pub fn read(text: &str, origin: &str) -> Result<Loaded, Errors> {
    let mut report = Report::new(text, origin);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        report.error(
            at,
            format!("is not TOML: {}", error.message().replace('\n', ", ")),
        );
    }
    if !errors.is_empty() {
        return report.finish(Config::default());
    }
    let config = root(Table::root(document.get_ref()), &mut report);
    report.finish(config)
}

const ROOT_KEYS: &[&str] = &[
    "version",
    "dataplane",
    "control",
    "port",
    "route",
    "neighbour",
    "vip",
    "mark",
    "sysctl",
    "timeouts",
    "service",
];

fn root(root: Table<'_>, report: &mut Report<'_>) -> Config {
    root.allow(report, ROOT_KEYS);
    if let Some(version) = root.need(report, "version") {
        version.integer::<u8>(report, 1..=1);
    }
    let ports = network::ports(&root, report);
    let routes = network::routes(&root, report);
    let neighbours = network::neighbours(&root, report);
    let vips = network::vips(&root, report);
    let marks = network::marks(&root, report);
    let services = service::services(&root, report);
    check::ports(&ports, report);
    device::doubts(&ports, report);
    check::routes(&routes, &ports, report);
    check::neighbours(&neighbours, &ports, report);
    check::vips(&vips, &ports, report);
    check::marks(&marks, &ports, report);
    check::services(&services, &ports, report);
    Config {
        dataplane: dataplane::dataplane(&root, report),
        control: dataplane::control(&root, report),
        ports: numbered(table::values(ports)),
        routes: table::values(routes),
        neighbours: table::values(neighbours),
        vips: table::values(vips),
        marks: table::values(marks),
        sysctl: dataplane::sysctl(&root, report),
        timeouts: dataplane::timeouts(&root, report),
        services: services.into_iter().map(|placed| placed.service).collect(),
    }
}

/// Ports by their numbers: those of VLANs stand behind those with queues of their own.
fn numbered(mut ports: Vec<Port>) -> Vec<Port> {
    ports.sort_by_key(|port| port.vlan.is_some());
    ports
}

fn one(origin: &str, line: Option<usize>, text: String) -> Errors {
    Errors(vec![Message {
        at: Place {
            file: Arc::from(origin),
            line,
        },
        text,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of the README that tells about `title`, up to the next heading.
    fn section(title: &str) -> &'static str {
        let readme = include_str!("../README.md");
        let start = readme
            .find(title)
            .unwrap_or_else(|| panic!("README has no {title}"));
        let end = readme[start..]
            .find("\n## ")
            .unwrap_or(readme.len() - start);
        &readme[start..start + end]
    }

    #[test]
    fn the_readme_has_every_key() {
        let tables = [
            ("## `[dataplane]`", dataplane::DATAPLANE),
            ("## `[control]`", dataplane::CONTROL),
            ("## `[timeouts]`", dataplane::TIMEOUTS),
            ("## `[[port]]`", network::PORT),
            ("## `[[route]]`", network::ROUTE),
            ("## `[[route]]`", network::NEIGHBOUR),
            ("## `[[vip]]`", network::VIP),
            ("## `[[mark]]`", network::MARK),
            ("## `[[service]]`", service::SERVICE),
            ("## `[[service.real]]`", service::REAL),
            ("`tunnel`:", service::TUNNEL),
        ];
        for (title, keys) in tables {
            for key in keys.iter().filter(|&&key| key != "real") {
                let rows = section(title)
                    .lines()
                    .filter(|line| line.starts_with("| `"));
                let mut names = rows.filter_map(|row| row.split('|').nth(1));
                let quoted = format!("`{key}`");
                assert!(
                    names.any(|name| name.contains(&quoted)),
                    "{title} has no row for {key}"
                );
            }
        }
    }
}
