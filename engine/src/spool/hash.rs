//! A cheap hash for our own numbers: queue ids, tickets, drafts, epochs, sequences.
//!
//! They are made by us (ids carry 80 bits of chance, the rest are counters), so nobody outside can
//! choose colliding ones at run time, and SipHash's protection is not needed: it was an eighth of the
//! CPU time of a durable append. Whoever can write to the disk can slow the start down, and worse.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map keyed by numbers of our own.
pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// An odd constant without pattern: 2^64 over the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Multiplies and folds, word by word.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ FACTOR) * u128::from(FACTOR);
        let [low, high] = halves(product);
        self.0 = low ^ high;
    }

    fn write_u128(&mut self, value: u128) {
        let [low, high] = halves(value);
        self.write_u64(low);
        self.write_u64(high);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn halves(value: u128) -> [u64; 2] {
    let bytes = value.to_le_bytes();
    let half = |from: usize| {
        let mut out = [0; 8];
        out.copy_from_slice(&bytes[from..from + 8]);
        u64::from_le_bytes(out)
    };
    [half(0), half(8)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn counters_and_ids_spread_over_both_ends_of_the_hash() {
        let build = BuildHasherDefault::<NumberHasher>::default();
        let build = &build;
        let hashes = |step: u128| (0..4096_u128).map(move |n| build.hash_one(n * step));
        for step in [1, 64, 1 << 32, 1 << 80] {
            let low: HashSet<u64> = hashes(step).map(|hash| hash % 4096).collect();
            let high: HashSet<u64> = hashes(step).map(|hash| hash >> 57).collect();
            // A random function hits 63 % of the buckets.
            assert!(low.len() > 2000 && high.len() == 128, "{step}: {} {}", low.len(), high.len());
        }
    }
}
