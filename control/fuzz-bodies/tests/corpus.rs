//! Every file of every corpus, once more, on a stable compiler.

use std::fs;
use std::path::{Path, PathBuf};

/// Runs `body` over the files in a corpus, in the order of their names; says which one it was
/// that something did not hold for.
fn each(corpus: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(corpus);
    let entries = fs::read_dir(&folder).expect("the corpus is there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 5,
        "{}: {} files",
        folder.display(),
        files.len()
    );
    for file in files {
        let data = fs::read(&file).expect("readable");
        let done = std::panic::catch_unwind(|| body(&data));
        assert!(done.is_ok(), "{}", file.display());
    }
}

#[test]
fn parse() {
    each("dataplane/fuzz/corpus/parse", fuzz_bodies::parse);
}

#[test]
fn turn() {
    each("dataplane/fuzz/corpus/turn", fuzz_bodies::turn);
}

#[test]
fn capture() {
    each("control/fuzz/corpus/capture", fuzz_bodies::capture);
}

#[test]
fn socket() {
    each("control/fuzz/corpus/socket", fuzz_bodies::socket);
}

#[test]
fn toml() {
    each("control/fuzz/corpus/toml", fuzz_bodies::toml);
}
