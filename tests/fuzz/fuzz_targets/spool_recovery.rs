//! Recovery of a segment file that an attacker, or a bad disk, has written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern::spool::fuzz_recover(data));
