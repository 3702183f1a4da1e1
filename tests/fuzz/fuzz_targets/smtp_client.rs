//! A next hop's bytes against the client session.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern_smtp::fuzz::fuzz_client(data));
