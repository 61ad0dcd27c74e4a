//! See `nonnet_tests::fuzz::transact`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nonnet_tests::fuzz::transact(data));
