#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidings_frontends::courier::fuzz_courier(bytes));
