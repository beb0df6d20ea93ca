//! What the operator wrote, checked.
//!
//! [`model`] holds the project's nouns and their ranges: a value of these types is legal.
//! [`toml`] reads the native file into a [`model::Config`]. Nothing here knows how packets
//! move or how a command is spelled.
#![forbid(unsafe_code)]

pub mod model;
