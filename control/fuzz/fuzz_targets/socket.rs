//! Lines on the socket: [`fuzz_bodies::socket`].
#![forbid(unsafe_code)]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::socket(data));
