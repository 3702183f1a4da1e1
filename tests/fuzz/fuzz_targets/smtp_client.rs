//! A next hop's bytes against the client session.
#![no_main]

use std::time::Instant;

use postern_smtp::fuzz::fuzz_client;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_client(data, Instant::now()));
