//! How figures grow with the number of flows: a plot for each name and family, a line for each mode and
//! direction, and the floor's, dashed.

use crate::page::{add, escaped};
use crate::report::Row;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
/// Room for numbers, and for what the lines are.
const LEFT: f64 = 45.0;
const RIGHT: f64 = 170.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 12.0;
const COLOURS: [&str; 8] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf",
];

/// Whether `row` is one of several that differ in their flows alone.
pub(crate) fn is_point(rows: &[&Row], row: &Row) -> bool {
    let same = |other: &&&Row| other.label() == row.label() && other.flows != row.flows;
    row.flows.is_some() && row.ns_per_packet.is_some() && rows.iter().any(|other| same(&other))
}

/// All plots of these.
pub(crate) fn lines(rows: &[&Row]) -> String {
    let points: Vec<&Row> = rows
        .iter()
        .copied()
        .filter(|row| is_point(rows, row))
        .collect();
    let key = |row: &Row| (row.name.clone(), row.family);
    let keys = each_once(points.iter().map(|row| key(row)));
    let plot = |wanted: &(String, Option<u8>)| {
        let own: Vec<_> = points
            .iter()
            .copied()
            .filter(|row| key(row) == *wanted)
            .collect();
        one(&own)
    };
    keys.iter().map(plot).collect()
}

/// In the order of their first appearance, wherever they come again.
fn each_once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

fn one(points: &[&Row]) -> String {
    let flows = |row: &Row| f64::from(row.flows.unwrap_or(1).max(1)).log10();
    let both = |row: &&Row| [row.ns_per_packet, row.baseline];
    let highest = points.iter().flat_map(both).flatten().fold(1.0, f64::max);
    let first = points.iter().map(|row| flows(row)).fold(f64::MAX, f64::min);
    let last = points.iter().map(|row| flows(row)).fold(0.0, f64::max);
    let across = (WIDTH - LEFT - RIGHT) / (last - first).max(0.1);
    let x = |row: &Row| LEFT + (flows(row) - first) * across;
    let y = |ns: f64| HEIGHT - BOTTOM - ns / highest * (HEIGHT - BOTTOM - TOP);
    let title = points.first().map_or(String::new(), |row| {
        let family = row
            .family
            .map_or(String::new(), |family| format!(", IPv{family}"));
        format!("{}{family}: nanoseconds a packet by flows", row.name)
    });
    let mut svg = format!(
        "<h3>{}</h3>\n<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n",
        escaped(&title)
    );
    axes(&mut svg, points, &x, &y, highest);
    let labels = each_once(points.iter().map(|row| row.label()));
    for (place, label) in labels.iter().enumerate() {
        let own: Vec<_> = points
            .iter()
            .copied()
            .filter(|row| row.label() == *label)
            .collect();
        let colour = COLOURS[place % COLOURS.len()];
        let path = |of: &dyn Fn(&Row) -> Option<f64>| -> String {
            let point = |row: &&Row| Some(format!("{:.1},{:.1} ", x(row), y(of(row)?)));
            own.iter().filter_map(point).collect()
        };
        let (ours, floor) = (path(&|row| row.ns_per_packet), path(&|row| row.baseline));
        let words = own.first().map_or("", |row| row.mode.unwrap_or(""));
        let direction = own.first().and_then(|row| row.direction).unwrap_or("");
        let at = TOP + f64::from(u32::try_from(place).unwrap_or(0)) * 18.0 + 10.0;
        add(
            &mut svg,
            format_args!(
                "<polyline points=\"{ours}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <polyline points=\"{floor}\" fill=\"none\" stroke=\"{colour}\" \
                 stroke-dasharray=\"3 4\"/><text x=\"{}\" y=\"{at}\" fill=\"{colour}\">{}</text>\n",
                WIDTH - RIGHT + 12.0,
                escaped(&format!("{words} {direction}"))
            ),
        );
    }
    svg + "</svg>\n"
}

fn axes(
    svg: &mut String,
    points: &[&Row],
    x: &dyn Fn(&Row) -> f64,
    y: &dyn Fn(f64) -> f64,
    highest: f64,
) {
    let mut marked: Vec<u32> = Vec::new();
    for row in points {
        let flows = row.flows.unwrap_or(0);
        if !marked.contains(&flows) {
            marked.push(flows);
            let (at, below) = (x(row), HEIGHT - 10.0);
            add(
                svg,
                format_args!(
                    "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{flows}</text>\n"
                ),
            );
        }
    }
    for quarter in 0..=4 {
        let ns = highest * f64::from(quarter) / 4.0;
        let (at, end) = (y(ns), WIDTH - RIGHT);
        add(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"0\" y=\"{:.1}\">{ns:.0}</text>\n",
                at + 4.0
            ),
        );
    }
}
