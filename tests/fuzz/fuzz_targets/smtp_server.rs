//! A client's bytes against the server session.
#![no_main]

use std::time::Instant;

use postern_smtp::fuzz::fuzz_server;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_server(data, Instant::now()));
