//! The figures as one HTML page that needs nothing else: a plot of each group, and the table.

use std::fmt::Write as _;

use crate::plots;
use crate::report::{Report, Row};

const WIDTH: f64 = 760.0;
const BAR: f64 = 18.0;
const LABEL: f64 = 300.0;

/// The page.
pub(crate) fn html(report: &Report) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sluice: \
         benchmarks</title>\n<style>body{font:15px sans-serif;max-width:60em;margin:2em auto}\
         table{border-collapse:collapse}td,th{padding:.1em .7em;text-align:right}\
         td:first-child{text-align:left}svg text{font:12px sans-serif}</style></head><body>\n\
         <h1>Sluice: benchmarks</h1>\n<ul>\n",
    );
    for line in &report.machine {
        add(&mut page, format_args!("<li>{}</li>\n", escaped(line)));
    }
    page.push_str("</ul>\n");
    for group in groups(report) {
        add(&mut page, format_args!("<h2>{}</h2>\n", escaped(group)));
        let rows: Vec<_> = of_group(report, group).collect();
        page.push_str(&plots::lines(&rows));
        for (unit, value) in UNITS {
            page.push_str(&bars(&rows, unit, value));
        }
        page.push_str(&table(&rows));
    }
    if !report.left_out.is_empty() {
        page.push_str("<h2>Not measured here</h2>\n<ul>\n");
        for line in &report.left_out {
            add(&mut page, format_args!("<li>{}</li>\n", escaped(line)));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</body></html>\n");
    page
}

pub(crate) fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("text has room");
}

/// The groups in the order of their first figure.
fn groups(report: &Report) -> Vec<&str> {
    let mut groups = Vec::new();
    for row in &report.rows {
        let group = row.name.split('/').next().unwrap_or_default();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn of_group<'a>(report: &'a Report, group: &'a str) -> impl Iterator<Item = &'a Row> {
    let belongs = move |row: &&Row| row.name.split('/').next() == Some(group);
    report.rows.iter().filter(belongs)
}

/// What is drawn as bars: each kind of figure by itself, for they have no scale in common.
type Unit = (&'static str, fn(&Row) -> Option<f64>);

const UNITS: [Unit; 5] = [
    ("nanoseconds a packet", |row| row.ns_per_packet),
    ("octets a connection", |row| row.bytes_per_connection),
    ("nanoseconds in the forwarder, half of the packets", |row| {
        row.more.get("p50_ns")?.as_f64()
    }),
    ("nanoseconds in the forwarder, 99 % of the packets", |row| {
        row.more.get("p99_ns")?.as_f64()
    }),
    ("packets handed over, forward, %", |row| {
        row.more.get("handed_over_forward_percent")?.as_f64()
    }),
];

/// A bar for each figure of a kind that is not a point of a line, the floor marked in it.
fn bars(rows: &[&Row], unit: &str, value: fn(&Row) -> Option<f64>) -> String {
    let drawn = |row: &&&Row| value(row).is_some() && !plots::is_point(rows, row);
    let rows: Vec<_> = rows.iter().filter(drawn).collect();
    if rows.is_empty() {
        return String::new();
    }
    let most = rows.iter().filter_map(|row| value(row)).fold(1.0, f64::max);
    let scale = (WIDTH - LABEL - 60.0) / most;
    let count = u32::try_from(rows.len()).expect("few");
    let height = f64::from(count) * (BAR + 4.0);
    let mut svg = format!(
        "<h3>{}</h3>\n<svg width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n",
        escaped(unit)
    );
    for (place, row) in (0u32..).zip(&rows) {
        let top = f64::from(place) * (BAR + 4.0);
        let workers = match row.workers {
            Some(workers) if workers > 1 => format!(", {workers} workers"),
            _ => String::new(),
        };
        let label = format!("{} {}{workers}", row.label(), flows(row));
        let value = value(row).unwrap_or(0.0);
        let text = top + BAR - 5.0;
        add(
            &mut svg,
            format_args!(
                "<text x=\"0\" y=\"{text}\">{}</text><rect x=\"{LABEL}\" y=\"{top}\" \
                 width=\"{:.1}\" height=\"{BAR}\" fill=\"#69c\"/><text x=\"{:.1}\" \
                 y=\"{text}\">{value:.1}</text>\n",
                escaped(&label),
                value * scale,
                LABEL + value * scale + 5.0
            ),
        );
        if let Some(floor) = row.baseline.filter(|_| row.ns_per_packet == Some(value)) {
            let x = LABEL + floor * scale;
            let bottom = top + BAR;
            add(
                &mut svg,
                format_args!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" \
                     stroke=\"#000\"/>\n"
                ),
            );
        }
    }
    svg + "</svg>\n"
}

fn table(rows: &[&Row]) -> String {
    let mut table = String::from(
        "<table><tr><th></th><th>flows</th><th>ns a packet</th><th>p10</th><th>min</th><th>p90</th>\
         <th>Mpps</th><th>floor, ns</th><th>p10</th><th>p90</th><th>ratio</th><th>instructions</th>\
         <th>octets</th><th>more</th></tr>\n",
    );
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
    for row in rows {
        let [ours, floor] = row.spread;
        let cells = [
            flows(row),
            number(row.ns_per_packet),
            number(ours.map(|it| it.p10)),
            number(ours.map(|it| it.min)),
            number(ours.map(|it| it.p90)),
            number(row.mpps),
            number(row.baseline),
            number(floor.map(|it| it.p10)),
            number(floor.map(|it| it.p90)),
            row.ratio.map_or(String::new(), |ratio| ratio.to_string()),
            number(row.instructions_per_packet),
            number(row.bytes_per_connection),
            escaped(&more(row)),
        ];
        let cells = cells.map(|cell| format!("<td>{cell}</td>")).concat();
        let label = escaped(&row.label());
        add(
            &mut table,
            format_args!("<tr><td>{label}</td>{cells}</tr>\n"),
        );
    }
    table + "</table>\n"
}

/// What only this group has.
fn more(row: &Row) -> String {
    let words = row.more.iter().filter(|(_, value)| !value.is_null());
    let words = words.map(|(name, value)| match value.as_f64() {
        Some(number) if number.fract() != 0.0 => format!("{name} {number:.2}"),
        _ => format!("{name} {value}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn flows(row: &Row) -> String {
    row.flows.map_or(String::new(), |flows| flows.to_string())
}

pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |flows, ns| Row {
            name: "core/turn".to_owned(),
            mode: Some("dr"),
            flows: Some(flows),
            ns_per_packet: Some(ns),
            ..Row::default()
        };
        let mut other = Row {
            name: "control/10000-changes".to_owned(),
            ns_per_packet: Some(33.25),
            ..Row::default()
        };
        other.more.insert("lost_packets".to_owned(), 0.into());
        let mut waited = Row {
            name: "latency/50-percent".to_owned(),
            ..Row::default()
        };
        waited.more.insert("p50_ns".to_owned(), 420.into());
        let tun = |flows, ns| Row {
            mode: Some("tun"),
            ..row(flows, ns)
        };
        // As they are measured: every case at each number of flows.
        let (few, many) = (1_000, 1_000_000);
        let points = [
            row(few, 21.5),
            tun(few, 28.0),
            row(many, 34.75),
            tun(many, 40.0),
        ];
        Report {
            rows: points.into_iter().chain([other, waited]).collect(),
            left_out: vec!["dpdk: no <testpmd>".to_owned()],
            ..Report::begin(vec!["a <fast> one".to_owned()])
        }
    }

    #[test]
    fn a_page_has_every_figure_and_nothing_of_elsewhere() {
        let page = html(&report());
        for text in [
            ">21.5<",
            ">34.8<",
            ">33.2<",
            "lost_packets 0",
            "a &lt;fast&gt; one",
            "no &lt;testpmd&gt;",
            "<polyline",
            "<rect",
            ">420.0<",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert!(
            !page.contains("http") && !page.contains("<script"),
            "{page}"
        );
    }

    #[test]
    fn a_line_is_drawn_once() {
        let page = html(&report());
        // One for the figures and one for the floor, of each of two modes.
        assert_eq!(page.matches("<polyline").count(), 4, "{page}");
        assert_eq!(page.matches("by flows</h3>").count(), 1, "{page}");
    }

    #[test]
    fn every_element_is_closed_in_its_order() {
        let page = html(&report());
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("every tag ends");
            let name = tag.split([' ', '/']).next().unwrap_or_default();
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') && !["!doctype", "meta"].contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
