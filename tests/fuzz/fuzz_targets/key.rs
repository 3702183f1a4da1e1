//! Any bytes as a private key of every kind, as a record, and as a sealed line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern_signer::fuzz::fuzz_key(data));
