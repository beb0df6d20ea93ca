//! What fuzzing does with bytes: one plain function a target.
//!
//! The fuzzers in `dataplane/fuzz` and `control/fuzz` call them with bytes of their own making,
//! the tests of this crate with every file of their corpora. Each panics if something does not hold.
//! What they find becomes a test beside the code, by name: an input means something else as soon as
//! a body changes. `docs/fuzzing.md` says what each looks for.
#![forbid(unsafe_code)]

mod capture;
mod input;
mod parse;
mod socket;
mod toml;
mod turn;

pub use capture::run as capture;
pub use parse::run as parse;
pub use socket::run as socket;
pub use toml::run as toml;
pub use turn::run as turn;
