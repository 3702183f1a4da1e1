//! Any bytes against every tier of canonicalisation and the naive reference.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern_signer::fuzz::fuzz_canon(data));
