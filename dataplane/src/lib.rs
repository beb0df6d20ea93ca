//! The packet path: packets in, packets out.
//!
//! See the README beside this crate for the walk of a packet. Nothing here knows DPDK or the
//! configuration file: frames come through [`port::Port`], and what to do with them comes as
//! a snapshot that control compiles.
#![forbid(unsafe_code)]

pub mod bucket;
pub mod conn;
pub mod counter;
pub mod decide;
pub mod durations;
pub mod exchange;
pub mod fragments;
pub mod fwd;
pub mod gather;
pub mod handover;
pub mod isn;
pub mod local;
pub mod memory;
pub mod observe;
pub mod owner;
pub mod pages;
pub mod parse;
pub mod pcap;
pub mod port;
pub mod probe;
pub mod published;
pub mod reply;
pub mod sched;
pub mod services;
pub mod state;
pub mod time;
pub mod verdict;
pub mod vlan;
pub mod walk;
pub mod worker;
