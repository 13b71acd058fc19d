#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shadow_engine_fuzz::rules::check(input));
