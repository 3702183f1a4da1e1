//! A group of 64 durable appends, beside 64 files that are written and synced.

mod brief;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postern_bench::input;
use postern_bench::rig::place;
use postern_bench::subjects::spool::{Bench, GROUP, write_file};

fn groups(criterion: &mut Criterion) {
    let content = input::text(4096);
    let mut group = criterion.benchmark_group("spool");
    group.throughput(Throughput::Elements(GROUP as u64));
    for (name, is_sealed) in [("postern", false), ("postern-sealed", true)] {
        let mut spool = Bench::open(&content, is_sealed).expect("a spool in a temporary folder");
        let mut before = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| spool.group(&mut before).expect("a group is durable"));
        });
    }
    let folder = place::folder("files").expect("a temporary folder");
    group.bench_function("file-and-fsync", |bencher| {
        bencher.iter(|| {
            for number in 0..GROUP as u64 {
                write_file(folder.path(), number, &content).expect("a file is durable");
            }
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = brief::brief(); targets = groups }
criterion_main!(benches);
