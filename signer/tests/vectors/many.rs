//! Many signatures with mixed keys, each byte-equal to `ring`'s: PKCS#1 v1.5 is deterministic, so
//! there is one right answer.
//!
//! `POSTERN_SIGNATURES` says how many (4,000 by default, 100,000 in CI: about a minute).

use std::collections::BTreeSet;

use postern_signer::batch::{
    BatchSigner, Input, Job, KeyId, RingSigner, SignerOptions, Ticket, open,
};
use postern_signer::key::{OsRandom, RsaPrivateKey};

#[test]
fn mixed_keys_sign_as_ring_does() {
    let count = std::env::var("POSTERN_SIGNATURES").ok().and_then(|text| text.parse().ok());
    let count: u64 = count.unwrap_or(4_000);
    let mut ring = RingSigner::new();
    let mut ours = open(&SignerOptions::default()).expect("there is always one");
    for id in 0..KEYS {
        let bits = if id == KEYS - 1 { 3072 } else { 2048 };
        let key = RsaPrivateKey::generate(bits, &mut OsRandom::new()).expect("is made");
        ring.load(KeyId(id), &key).expect("is taken");
        ours.load(KeyId(id), &key).expect("is taken");
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let (mut signed, mut sizes) = (0, BTreeSet::new());
    while signed < count {
        let size = random(9) + 1;
        sizes.insert(size);
        let messages: Vec<_> =
            (0..size).map(|n| (random(KEYS), format!("message {signed} {n}"))).collect();
        let jobs: Vec<_> = messages
            .iter()
            .map(|(key, message)| Job {
                ticket: Ticket(signed),
                // The long key is rare, as it is in earnest.
                key: KeyId(if random(50) == 0 { *key } else { key % 7 }),
                input: Input::Canonical(message.as_bytes()),
            })
            .collect();
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        ring.sign(&jobs, &mut expected);
        ours.sign(&jobs, &mut found);
        assert_eq!(found.len(), jobs.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!(expected.result.is_ok());
            assert_eq!(found.result, expected.result);
        }
        signed += size;
    }
    println!("{signed} signatures by {} with {KEYS} keys are ring's", ours.name());
    assert_eq!((sizes.len(), ours.stats().faults), (9, 0));
}

const KEYS: u64 = 8;
