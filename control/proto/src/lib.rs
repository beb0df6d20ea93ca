//! What goes over the socket: ipvsadm's grammar, requests, replies, listings.
//!
//! A call is a list of words. [`command::Command`] is what such a call asks for, in the
//! project's nouns; [`listing`] holds what a listing shows; [`message`] frames both for the
//! Unix socket. Everything here is pure: no file, no socket, no clock, and names are looked up by
//! whoever calls, through [`names::Names`].
#![forbid(unsafe_code)]

mod address;
mod built;
pub mod command;
mod draft;
pub mod errors;
mod finish;
pub mod grammar;
pub mod help;
pub mod layout;
pub mod listing;
pub mod message;
pub mod names;
mod options;
pub mod packet;
mod popt;
pub mod proc;
pub mod restore;
mod subcommand;
mod text;
mod words;
