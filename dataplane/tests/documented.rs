//! What is counted is documented: `docs/counters.md` has a row for each counter of a worker.

use dataplane::verdict::{Counters, PuntClass, Reason};

fn documented() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/counters.md");
    std::fs::read_to_string(path).expect("the repository's own documentation")
}

#[test]
fn every_counter_has_a_row() {
    let text = documented();
    let counters = Counters::default();
    let missing: Vec<_> = counters
        .named()
        .map(|(name, _)| name)
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/counters.md lacks {missing:?}");
}

#[test]
fn every_row_is_a_counter() {
    let known = |name: &str| {
        Reason::ALL.iter().any(|reason| reason.name() == name)
            || PuntClass::ALL.iter().any(|class| class.name() == name)
    };
    let text = documented();
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let stale: Vec<_> = rows
        .filter(|name| name.starts_with("drop-") || name.starts_with("punt-"))
        .filter(|name| !known(name))
        .collect();
    assert!(
        stale.is_empty(),
        "docs/counters.md has {stale:?}, which nobody counts"
    );
}
