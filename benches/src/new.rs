//! `new/`: what a new connection costs, its first packet included, as the table fills; and a flood.

use benches::clock::{Figures, interleaved, on_cpu};
use benches::{Case, Family, Lab, Mode, Segments};
use dataplane::time::Millis;
use dataplane::verdict::Reason;

use crate::Options;
use crate::report::{Report, Row};

/// Places in the table, and in that of `--quick`.
const PLACES: u32 = 1_000_000;
const FEWER: u32 = 200_000;
/// Connections that one round opens: a multiple of a burst.
const ROUND: u32 = 2048;
const ROUNDS: u32 = 40;
/// How full the table is when a round begins, in percent.
const FILLED: [u32; 3] = [0, 50, 90];

/// Whether so many connections fit into half of the memory that is free.
pub(crate) fn fits(case: Case, flows: u32) -> bool {
    let each = if case.family == Family::V4 { 200 } else { 320 };
    let free = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemAvailable"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    free.is_none_or(|kib| u64::from(flows) * each < kib * 512)
}

/// Measures every mode.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    let places = if options.quick { FEWER } else { PLACES };
    report.title("new: connections opened, ns a packet");
    for mode in Mode::ALL {
        let case = Case {
            mode,
            ..Case::PLAIN
        };
        for filled in FILLED {
            opened(case, places, filled, report);
        }
        flood(case, places, report);
    }
}

/// Opens connections in a table that holds so many already.
fn opened(case: Case, places: u32, percent: u32, report: &mut Report) {
    let filled = u32::try_from(u64::from(places) * u64::from(percent) / 100).expect("a part");
    let rounds = ROUNDS.min((places - filled) / ROUND);
    let mut lab = Lab::new(case, places, places);
    lab.each(0..filled, Segments::Syn);
    lab.each(0..filled, Segments::Ack);
    let mut opened = Vec::new();
    for round in 0..rounds {
        let first = filled + round * ROUND;
        let start = on_cpu();
        lab.each(first..first + ROUND, Segments::Syn);
        opened.push((on_cpu() - start).as_secs_f64() * 1e9 / f64::from(ROUND));
    }
    let made = lab.counters.connections_made.get();
    assert_eq!(made, u64::from(filled + rounds * ROUND), "each was opened");
    lab.assert_lossless();
    let took = Figures::of(opened).without(idle(&mut lab));
    let name = format!("new/table-{percent}-percent");
    report.add(Row::of(&name, case, filled).timed(took, None), took);
}

fn idle(lab: &mut Lab) -> Figures {
    let mut idle = || {
        lab.idle(ROUND / 32);
        ROUND
    };
    interleaved(50, &mut [&mut idle])[0]
}

/// SYNs in turns with the packets of established connections that fill the table: none of those
/// may be lost, and no SYN finds a place.
fn flood(case: Case, places: u32, report: &mut Report) {
    let mut lab = Lab::new(case, places, places);
    lab.each(0..places, Segments::Syn);
    lab.each(0..places, Segments::Ack);
    let (mut syns, mut first) = (Vec::new(), places);
    for _ in 0..ROUNDS {
        lab.port().restock(ROUND);
        let start = on_cpu();
        lab.each(first..first + ROUND, Segments::Syn);
        syns.push((on_cpu() - start).as_secs_f64() * 1e9 / f64::from(ROUND));
        first += ROUND;
        lab.turns(ROUND / 32, Millis(0));
    }
    let counters = &lab.counters;
    let refused = counters.drop[Reason::TableFull as usize].get();
    assert_eq!(refused, u64::from(ROUNDS * ROUND), "no SYN found a place");
    assert_eq!(
        counters.connections_ended.get(),
        0,
        "no connection was lost"
    );
    let others = counters.rx.get() - refused;
    assert_eq!(counters.transmit.get(), others, "no packet of theirs was");
    let took = Figures::of(syns).without(idle(&mut lab));
    let row = Row::of("new/flood-over-a-full-table", case, places);
    report.add(row.timed(took, None), took);
}
