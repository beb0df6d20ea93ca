//! What the operator wrote, checked.
//!
//! [`model`] holds the project's nouns and their ranges: a value of these types is legal.
//! [`toml`] reads the native file into a [`model::Config`], [`sysctl`] knows IPVS's tunables,
//! and [`built`] says which of all this the program already does. Nothing here knows how
//! packets move or how a command is spelled.
#![forbid(unsafe_code)]

pub mod built;
pub mod message;
pub mod model;
pub mod sysctl;
pub mod toml;
pub mod words;
