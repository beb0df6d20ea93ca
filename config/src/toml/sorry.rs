//! `sorry_server` of a service: the real server that is used only while no other is up.

use super::report::Report;
use super::service::{MODES, families, real_address, real_port};
use super::table::Table;
use crate::built;
use crate::model::{Endpoint, Mode, Real, Service, SorryServer};

/// Its keys in `[[service]]`.
const KEY: &str = "sorry_server";
const MODE: &str = "sorry_server_mode";
const INHIBIT: &str = "sorry_server_inhibit";

/// The sorry server of a service, if its table has one.
pub(super) fn sorry_server(
    table: &Table<'_>,
    report: &mut Report<'_>,
    service: &Service,
) -> Option<SorryServer> {
    let mode = match table.get(MODE) {
        Some(value) => value.choice(report, MODES),
        None => Some(Mode::Dr),
    };
    let inhibit = table.get(INHIBIT).and_then(|v| v.boolean(report));
    let Some(value) = table.get(KEY) else {
        for key in [MODE, INHIBIT] {
            if let Some(value) = table.get(key) {
                report.error(value.at, format!("{key} needs the key {KEY}"));
            }
        }
        return None;
    };
    let ((address, port), mode) = (real_address(&value, report)?, mode?);
    let port = real_port(value.at, report, service, (mode, port));
    let real = Real {
        endpoint: Endpoint { address, port },
        mode,
        weight: 1,
        upper: 0,
        lower: 0,
    };
    families(value.at, report, service, &real);
    for feature in built::uses_of_real(service, &real) {
        report.uses(value.at, feature);
    }
    let inhibit = inhibit.unwrap_or_default();
    Some(SorryServer { real, inhibit })
}
