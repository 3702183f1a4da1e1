//! Canonicalising and hashing a body, beside mail-auth.

mod brief;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern_bench::input;
use postern_bench::subjects::canon::{hash, peer_hash};
use postern_signer::canon::Canonicalization;

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("canon");
    for (what, body) in [
        ("text-4KiB", input::text(4096)),
        ("text-1MiB", input::text(1 << 20)),
        ("base64-1MiB", input::base64(1 << 20)),
    ] {
        let canon = Canonicalization::Relaxed;
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("postern", what), &body, |bencher, body| {
            bencher.iter(|| hash(canon, body));
        });
        group.bench_with_input(BenchmarkId::new("mail-auth", what), &body, |bencher, body| {
            bencher.iter(|| peer_hash(canon, body));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = brief::brief(); targets = bodies }
criterion_main!(benches);
