//! The figures: a line each as they come, and the whole as JSON.

use std::time::{Duration, Instant};

use benches::Case;
use benches::clock::Figures;
use serde::Serialize;
use serde_json::{Map, Value};

/// One figure, with the names that others read it by; what does not apply is null.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    /// Begins with the group's name and a slash.
    pub(crate) name: String,
    /// dr, tun, nat or fullnat.
    pub(crate) mode: Option<&'static str>,
    /// 4 or 6.
    pub(crate) family: Option<u8>,
    /// forward, reverse or both.
    pub(crate) direction: Option<&'static str>,
    /// Workers under way.
    pub(crate) workers: Option<u32>,
    /// Flows in random order.
    pub(crate) flows: Option<u32>,
    /// Octets of a frame, its checksum included.
    pub(crate) frame: Option<u32>,
    /// The median.
    pub(crate) ns_per_packet: Option<f64>,
    /// Millions of packets a second, by the median.
    pub(crate) mpps: Option<f64>,
    /// Of the worker, by callgrind.
    pub(crate) instructions_per_packet: Option<f64>,
    /// The median of what it is compared with in the same rounds, in nanoseconds a packet.
    pub(crate) baseline: Option<f64>,
    /// `ns_per_packet` to `baseline`.
    pub(crate) ratio: Option<f64>,
    /// The spread of the rounds, and of those of `baseline`: printed and drawn, no field of JSON.
    #[serde(skip)]
    pub(crate) spread: [Option<Figures>; 2],
    /// Octets of memory a connection takes, all included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_connection: Option<f64>,
    /// What only some groups have: lost packets, percentiles, shares.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

impl Row {
    /// A row of one worker about `case`.
    pub(crate) fn of(name: &str, case: Case, flows: u32) -> Self {
        Self {
            name: name.to_owned(),
            mode: Some(case.mode.name()),
            family: Some(case.family.number()),
            direction: Some(case.direction.name()),
            workers: Some(1),
            flows: Some(flows),
            frame: Some(if case.family.number() == 4 { 64 } else { 78 }),
            ..Self::default()
        }
    }

    /// With this time, beside that of the floor.
    #[must_use]
    pub(crate) fn timed(self, figures: Figures, floor: Option<Figures>) -> Self {
        let tenth = |value: f64| (value * 100.0).round() / 100.0;
        Self {
            ns_per_packet: Some(tenth(figures.median)),
            mpps: Some(tenth(1000.0 / figures.median)),
            baseline: floor.map(|floor| tenth(floor.median)),
            ratio: floor.map(|floor| tenth(figures.median / floor.median)),
            spread: [Some(figures), floor],
            ..self
        }
    }
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// What they were taken on.
    pub(crate) machine: Vec<String>,
    /// The figures.
    pub(crate) rows: Vec<Row>,
    /// What could not be measured, and why.
    pub(crate) left_out: Vec<String>,
    /// What the generator could do.
    pub(crate) limits: Vec<(&'static str, f64)>,
    /// When it began.
    pub(crate) began: Instant,
}

impl Report {
    /// Begins with the machine.
    pub(crate) fn begin(machine: Vec<String>) -> Self {
        machine.iter().for_each(|line| println!("{line}"));
        Self {
            machine,
            rows: Vec::new(),
            left_out: Vec::new(),
            limits: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Says what the next lines are.
    pub(crate) fn title(&self, title: &str) {
        println!(
            "\n{title}\n{:<47} {:>8} {:>7} {:>7} {:>7} {:>7} | {:>7} {:>7} {:>7} {:>6} | {:>6}",
            "", "flows", "median", "p10", "min", "p90", "floor", "p10", "p90", "ratio", "instr."
        );
    }

    /// Says that a group, or a part of one, can't be measured here.
    pub(crate) fn left_out(&mut self, what: &str, reason: &str) {
        println!("{what}: not measured here: {reason}");
        self.left_out.push(format!("{what}: {reason}"));
    }

    /// Whether it is too late to begin something, which is said then.
    pub(crate) fn is_late(&mut self, what: &str, latest: Duration) -> bool {
        let late = self.began.elapsed() > latest;
        if late {
            self.left_out(what, "there was no time left for it");
        }
        late
    }

    /// Notes what the generator could do in one run.
    pub(crate) fn limit(&mut self, what: &'static str, run: &Value) {
        if let Some(value) = run[what].as_f64() {
            self.limits.push((what, value));
        }
    }

    /// Says what the generator could do, and how far its core was away, now that all runs are over.
    pub(crate) fn say_limits(&mut self) {
        let of = |what: &str| {
            let own = self.limits.iter().filter(move |(name, _)| *name == what);
            let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
            own.for_each(|&(_, value)| (least, most) = (least.min(value), most.max(value)));
            (most > 0.0).then_some((least, most))
        };
        for (what, text) in [
            ("generator_mpps", "writes"),
            ("ring_mpps", "and the rings pass on"),
        ] {
            if let Some((_, best)) = of(what) {
                println!("the generator {text} {best:.0} million packets a second at most");
            }
        }
        if let Some((least, most)) = of("apart_ns") {
            println!(
                "from one core's cache to the other's a line takes {least:.0} to {most:.0} ns, by runs"
            );
        }
        self.limits.clear();
    }

    /// Adds a figure and prints it.
    pub(crate) fn add(&mut self, row: Row) {
        let number = |value: Option<f64>, decimals: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        let [ours, floor] = row.spread;
        let of =
            |figures: Option<Figures>, which: fn(Figures) -> f64| number(figures.map(which), 1);
        println!(
            "{:<47} {:>8} {:>7} {:>7} {:>7} {:>7} | {:>7} {:>7} {:>7} {:>6} | {:>6}",
            row.label(),
            row.flows.unwrap_or(0),
            of(ours, |it| it.median),
            of(ours, |it| it.p10),
            of(ours, |it| it.min),
            of(ours, |it| it.p90),
            of(floor, |it| it.median),
            of(floor, |it| it.p10),
            of(floor, |it| it.p90),
            number(row.ratio, 3),
            number(row.instructions_per_packet, 1)
        );
        self.rows.push(row);
    }

    /// The figures as others read them.
    pub(crate) fn json(&self) -> String {
        let text = serde_json::to_string_pretty(&self.rows);
        text.expect("numbers and words") + "\n"
    }
}

impl Row {
    /// Name, mode, family and direction.
    pub(crate) fn label(&self) -> String {
        let family = self.family.map(|family| format!("v{family}"));
        let words = [
            Some(self.name.as_str()),
            self.mode,
            family.as_deref(),
            self.direction,
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use benches::{Direction, Family, Mode};

    /// What others read: these names, and null where one does not apply.
    const FIELDS: [&str; 12] = [
        "name",
        "mode",
        "family",
        "direction",
        "workers",
        "flows",
        "frame",
        "ns_per_packet",
        "mpps",
        "instructions_per_packet",
        "baseline",
        "ratio",
    ];

    fn fields(report: &Report) -> Vec<Map<String, Value>> {
        serde_json::from_str(&report.json()).expect("a list of objects")
    }

    #[test]
    fn the_json_is_what_it_is_said_to_be() {
        let case = Case {
            mode: Mode::FullNat,
            family: Family::V6,
            direction: Direction::Both,
        };
        let figures = |median| Figures {
            median,
            p10: 1.0,
            min: 1.0,
            p90: 9.0,
        };
        let mut report = Report::begin(Vec::new());
        let row = Row::of("core/turn", case, 1000);
        report.add(row.timed(figures(40.0), Some(figures(16.0))));
        report.rows.push(Row {
            name: "memory/connection".to_owned(),
            ..Row::default()
        });
        let all = fields(&report);
        for row in &all {
            let mut names: Vec<_> = row.keys().map(String::as_str).collect();
            let mut wanted = FIELDS.to_vec();
            names.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(names, wanted);
        }
        let text = serde_json::to_string(&all[0]).expect("JSON");
        for pair in [
            r#""mode":"fullnat""#,
            r#""family":6"#,
            r#""direction":"both""#,
            r#""workers":1"#,
            r#""flows":1000"#,
            r#""ns_per_packet":40.0"#,
            r#""mpps":25.0"#,
            r#""baseline":16.0"#,
            r#""ratio":2.5"#,
        ] {
            assert!(text.contains(pair), "{pair}: {text}");
        }
        assert_eq!(all[1]["mode"], Value::Null);
    }

    #[test]
    fn fields_are_added_and_never_renamed() {
        let mut row = Row {
            name: "latency/50-percent".to_owned(),
            ..Row::default()
        };
        row.more.insert("p99_ns".to_owned(), 700.into());
        let mut report = Report::begin(Vec::new());
        report.rows.push(row);
        let all = fields(&report);
        assert!(FIELDS.iter().all(|name| all[0].contains_key(*name)));
        assert_eq!(all[0]["p99_ns"], 700);
    }
}
