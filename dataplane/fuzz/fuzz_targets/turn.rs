//! Whole turns of several workers: [`fuzz_bodies::turn`].
#![forbid(unsafe_code)]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::turn(data));
