//! A server session over a client's bytes, beside smtp-proto's parser over the same bytes.

mod brief;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern_bench::input;
use postern_bench::subjects::smtp::{options, parse, serve};

const MESSAGES: usize = 10;

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smtp");
    for bytes in [64, 4096, 65_536] {
        let wire = input::dialogue(&input::text_message(bytes), MESSAGES);
        let options = options();
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_with_input(BenchmarkId::new("postern", bytes), &wire, |bencher, wire| {
            bencher.iter(|| serve(&options, wire));
        });
        group.bench_with_input(BenchmarkId::new("smtp-proto", bytes), &wire, |bencher, wire| {
            bencher.iter(|| parse(wire));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = brief::brief(); targets = session }
criterion_main!(benches);
