//! RSA-2048 signatures through the batch interface, beside ring called directly: what the interface
//! costs, the check of each signature included. And what the way to another thread costs.

mod brief;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postern::event::{Format, Level, Log, LogOptions, Target};
use postern::signing::{self, SigningOptions};
use postern_signer::batch::policy::Class;
use postern_signer::batch::{
    BatchSigner, Input, Job, KeyId, RingSigner, Signature, Signed, Stats, Ticket,
};
use postern_signer::key::{KeyRefused, OsRandom, RsaPrivateKey};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustix::time::ClockId;
use tokio::task::LocalSet;

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

/// What it costs to ask another thread for a signature, without the signature: CPU time of the whole
/// process, so of both sides and of every wake-up between them.
fn hand_off(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sign hand-off");
    group.throughput(Throughput::Elements(1));
    for waiting in [1, 16, 64] {
        for (name, clock, core) in [
            ("cpu", ClockId::ProcessCPUTime, None),
            ("shard-cpu", ClockId::ThreadCPUTime, None),
            ("shard-cpu-own-core", ClockId::ThreadCPUTime, Some(1)),
        ] {
            group.bench_function(format!("{name}-{waiting}-waiting"), |bencher| {
                bencher.iter_custom(|jobs| asked_from(waiting, jobs, clock, core));
            });
        }
    }
    group.finish();
}

/// CPU time, by a clock, of so many jobs, asked for by so many deliveries of one shard; the signer may
/// have a core of its own.
fn asked_from(waiting: u64, jobs: u64, clock: ClockId, core: Option<usize>) -> Duration {
    let options = LogOptions { format: Format::Text, target: Target::Stderr, level: Level::Error };
    let (log, _writer) = Log::start(&options).expect("a log");
    let signers: Vec<Box<dyn BatchSigner>> = vec![Box::new(Instantly::new())];
    let options = SigningOptions { cores: core.into_iter().collect(), ..Default::default() };
    let (seats, _threads) = signing::start_with(signers, &options, 1, &log).expect("a thread");
    let seat = seats.into_iter().next().expect("one shard");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let service = seat.sit(&log);
        let before = cpu_time(clock);
        let tasks: Vec<_> = (0..waiting)
            .map(|task| {
                let service = service.clone();
                let own = jobs / waiting + u64::from(task < jobs % waiting);
                tokio::task::spawn_local(async move {
                    for _ in 0..own {
                        let signed = service.sign(Class::Normal, KeyId(1), HEADER).await;
                        signed.expect("a signature");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        cpu_time(clock) - before
    })
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::try_from(time).expect("CPU time is not negative")
}

/// Gives the same signature to everybody, four at a time, in no time.
struct Instantly {
    signature: Signature,
    stats: Stats,
}

impl Instantly {
    fn new() -> Self {
        let key = RsaPrivateKey::generate(2048, &mut OsRandom::new()).expect("a key");
        let mut ring = RingSigner::new();
        ring.load(KeyId(1), &key).expect("a key of 2048 bits");
        let mut done = Vec::new();
        let job = Job { ticket: Ticket(0), key: KeyId(1), input: Input::Canonical(HEADER) };
        ring.sign(&[job], &mut done);
        let signature = done.remove(0).result.expect("a signature");
        Self { signature, stats: Stats::default() }
    }
}

impl BatchSigner for Instantly {
    fn name(&self) -> &'static str {
        "instantly"
    }

    fn lanes(&self) -> usize {
        4
    }

    fn takes_digests(&self) -> bool {
        false
    }

    fn load(&mut self, _id: KeyId, _key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        Ok(())
    }

    fn unload(&mut self, _id: KeyId) {}

    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>) {
        self.stats.passes += 1;
        self.stats.signed += jobs.len() as u64;
        done.extend(
            jobs.iter()
                .map(|job| Signed { ticket: job.ticket, result: Ok(self.signature.clone()) }),
        );
    }

    fn begin(&mut self, _jobs: &[Job<'_>]) {
        unreachable!("a signing thread does whole passes")
    }

    fn step(&mut self, _done: &mut Vec<Signed>) -> bool {
        true
    }

    fn has_short_slices(&self) -> bool {
        false
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

criterion_group! { name = benches; config = brief::brief(); targets = signatures, hand_off }
criterion_main!(benches);
