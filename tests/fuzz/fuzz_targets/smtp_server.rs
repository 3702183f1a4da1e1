//! A client's bytes against the server session.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern_smtp::fuzz::fuzz_server(data));
