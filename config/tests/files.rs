//! The files in `tests/files`: good ones read, and bad ones say what stands beside them.
//!
//! `bad/NAME.toml` must produce the lines of `bad/NAME.message`, all of them and no others.
//! `good/NAME.toml` reads; `good/NAME.message`, if it is there, has its warnings and what of
//! it is not built yet, in this order.

use std::fs;
use std::path::{Path, PathBuf};

use config::toml::{Loaded, read_bytes};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).expect("the folder is part of the repository");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} is empty");
    files
}

/// What reading the file says, with the name that the messages beside it use.
fn read(path: &Path) -> Result<Loaded, Vec<String>> {
    let bytes = fs::read(path).expect("a readable file");
    read_bytes(&bytes, "lb.toml")
        .map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

fn beside(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path.with_extension("message")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bad_files_say_why() {
    for path in files("tests/files/bad") {
        let want = beside(&path);
        assert!(
            !want.is_empty(),
            "{} has no message beside it",
            path.display()
        );
        match read(&path) {
            Ok(_) => panic!("{} reads without errors", path.display()),
            Err(messages) => assert_eq!(messages, want, "{}", path.display()),
        }
    }
}

#[test]
fn good_files_read() {
    for path in files("tests/files/good") {
        let loaded = read(&path).unwrap_or_else(|errors| panic!("{}: {errors:#?}", path.display()));
        let messages = loaded.warnings.iter().chain(&loaded.not_built);
        let messages: Vec<_> = messages.map(ToString::to_string).collect();
        assert_eq!(messages, beside(&path), "{}", path.display());
    }
}

#[test]
fn examples_run_as_they_are() {
    for path in files("examples") {
        let loaded = read(&path).unwrap_or_else(|errors| panic!("{}: {errors:#?}", path.display()));
        assert_eq!(loaded.warnings, [], "{}", path.display());
        assert_eq!(loaded.not_built, [], "{}", path.display());
    }
}
