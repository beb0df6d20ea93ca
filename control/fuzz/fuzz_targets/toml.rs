//! The configuration file: [`fuzz_bodies::toml`].
#![forbid(unsafe_code)]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::toml(data));
