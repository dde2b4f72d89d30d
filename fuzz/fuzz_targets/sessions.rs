#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidings_frontends::websocket::fuzz_sessions(bytes));
