//! RSA-2048 signatures through the batch interface, beside ring called directly: what the interface
//! costs, the check of each signature included.

mod brief;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postern_signer::batch::{BatchSigner, Input, Job, KeyId, RingSigner, Ticket};
use postern_signer::key::{OsRandom, RsaPrivateKey};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

/// About what the canonical header of a message comes to.
const HEADER: &[u8] = &[b'x'; 800];
const BATCH: usize = 8;

fn signatures(criterion: &mut Criterion) {
    let key = RsaPrivateKey::generate(2048, &mut OsRandom::new()).expect("a key");
    let mut signer = RingSigner::new();
    signer.load(KeyId(1), &key).expect("a key of 2048 bits");
    let jobs: Vec<Job<'_>> = (0..BATCH as u64)
        .map(|n| Job { ticket: Ticket(n), key: KeyId(1), input: Input::Canonical(HEADER) })
        .collect();
    let mut group = criterion.benchmark_group("sign");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("postern-batch", |bencher| {
        bencher.iter(|| {
            let mut done = Vec::with_capacity(BATCH);
            signer.sign(&jobs, &mut done);
            done
        });
    });
    let pair = peer_key(&key);
    let random = SystemRandom::new();
    group.bench_function("ring-direct", |bencher| {
        bencher.iter(|| {
            let mut signature = vec![0; pair.public().modulus_len()];
            for _ in 0..BATCH {
                pair.sign(&RSA_PKCS1_SHA256, &random, HEADER, &mut signature).expect("a signature");
            }
            signature
        });
    });
    group.finish();
}

fn peer_key(key: &RsaPrivateKey) -> RsaKeyPair {
    use rustls_pki_types::PrivatePkcs8KeyDer;
    use rustls_pki_types::pem::PemObject;

    let der = PrivatePkcs8KeyDer::from_pem_slice(key.to_pkcs8_pem().as_bytes()).expect("PKCS#8");
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("a key of 2048 bits")
}

criterion_group! { name = benches; config = brief::brief(); targets = signatures }
criterion_main!(benches);
