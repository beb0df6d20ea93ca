//! Captures, pcap and pcapng: [`fuzz_bodies::capture`].
#![forbid(unsafe_code)]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::capture(data));
