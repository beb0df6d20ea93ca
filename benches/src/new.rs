//! `new/`: what a new connection costs, its first packet included, as the table fills; and a flood.

use benches::clock::{Figures, on_cpu};
use benches::{Case, Family, Lab, Mode, Segments};
use dataplane::time::Millis;
use dataplane::verdict::Reason;

use crate::Options;
use crate::report::{Report, Row};

/// Places in the table, and in that of `--quick`.
const PLACES: u32 = 1_000_000;
const FEWER: u32 = 200_000;
/// Connections that one round opens: a multiple of a burst.
const ROUND: u32 = 512;
/// What all rounds together open, in parts of the table: so full it is then more than its name says.
const PART: u32 = 10;
/// Rounds of SYNs that are refused.
const REFUSED: u32 = 80;
/// How full the table is when the first round begins, in percent.
const FILLED: [u32; 3] = [0, 50, 90];
/// Turns whose every frame is compared with what it should be.
const CHECKED: u32 = 64;

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
    report.title(
        "new: a new connection's first packet, ns a packet; flows: how many there were before",
    );
    for mode in Mode::ALL {
        let case = Case {
            mode,
            ..Case::PLAIN
        };
        for filled in FILLED {
            opened(case, places, filled, report);
        }
        refused(case, places, report);
        flood(case, places, report);
    }
}

/// A table with so many established connections.
fn filled(case: Case, places: u32, filled: u32) -> Lab {
    let mut lab = Lab::new(case, places, places);
    lab.each(0..filled, Segments::Syn);
    lab.each(0..filled, Segments::Ack);
    lab
}

/// What SYNs of new flows cost, the generator's work included.
fn syns(lab: &mut Lab, first: u32) -> f64 {
    let start = on_cpu();
    lab.each(first..first + ROUND, Segments::Syn);
    (on_cpu() - start).as_secs_f64() * 1e9 / f64::from(ROUND)
}

/// What the generator's work is, between rounds.
fn generated(lab: &mut Lab) -> f64 {
    let start = on_cpu();
    lab.idle(ROUND / 32);
    (on_cpu() - start).as_secs_f64() * 1e9 / f64::from(ROUND)
}

/// Opens connections in a table that holds so many already.
fn opened(case: Case, places: u32, percent: u32, report: &mut Report) {
    let before = u32::try_from(u64::from(places) * u64::from(percent) / 100).expect("a part");
    let mut lab = filled(case, places, before);
    let rounds = places / PART / ROUND;
    let (mut opened, mut idle) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        opened.push(syns(&mut lab, before + round * ROUND));
        idle.push(generated(&mut lab));
    }
    let all = before + rounds * ROUND;
    let made = lab.counters.connections_made.get();
    assert_eq!(made, u64::from(all), "each was opened");
    lab.assert_lossless();
    // What comes after the first packets goes where those went.
    lab.port().source_mut().draw_from((before..all).collect());
    lab.check(CHECKED);
    let took = Figures::of(opened).without(Figures::of(idle));
    let name = format!("new/table-{percent}-percent");
    report.add(Row::of(&name, case, before).timed(took, None));
}

/// SYNs that find a full table, one after the other.
fn refused(case: Case, places: u32, report: &mut Report) {
    let mut lab = filled(case, places, places);
    let (mut refused, mut idle) = (Vec::new(), Vec::new());
    for round in 0..REFUSED {
        lab.port().restock(ROUND);
        refused.push(syns(&mut lab, places + round * ROUND));
        idle.push(generated(&mut lab));
    }
    assert_unmoved(&lab);
    let took = Figures::of(refused).without(Figures::of(idle));
    report.add(Row::of("new/table-100-percent", case, places).timed(took, None));
}

/// The same in turns with the packets of the established connections that fill the table: none of
/// those may be lost.
fn flood(case: Case, places: u32, report: &mut Report) {
    let mut lab = filled(case, places, places);
    let (mut refused, mut idle) = (Vec::new(), Vec::new());
    for round in 0..REFUSED {
        lab.port().restock(ROUND);
        refused.push(syns(&mut lab, places + round * ROUND));
        lab.turns(ROUND / 32, Millis(0));
        idle.push(generated(&mut lab));
    }
    assert_unmoved(&lab);
    lab.port().check(true);
    lab.turns(CHECKED, Millis(0));
    let took = Figures::of(refused).without(Figures::of(idle));
    report.add(Row::of("new/flood-over-a-full-table", case, places).timed(took, None));
    println!(
        "    ({} SYNs, and {} packets of established connections, none of them lost)",
        refused_by(&lab),
        lab.counters.transmit.get() - u64::from(places) * 2
    );
}

fn refused_by(lab: &Lab) -> u64 {
    lab.counters.drop[Reason::TableFull as usize].get()
}

/// # Panics
/// If a SYN found a place, a connection ended for it, or a packet of one was lost.
fn assert_unmoved(lab: &Lab) {
    let counters = &lab.counters;
    let (refused, sent) = (refused_by(lab), u64::from(REFUSED * ROUND));
    assert_eq!(refused, sent, "no SYN found a place");
    assert_eq!(counters.connections_ended.get(), 0, "nor took one's");
    let others = counters.rx.get() - refused;
    assert_eq!(counters.transmit.get(), others, "none of theirs was lost");
}
