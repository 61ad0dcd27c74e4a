//! See `nonnet_tests::fuzz::condition`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nonnet_tests::fuzz::condition(data));
