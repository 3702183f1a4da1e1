//! The filters over a message, beside mail-parser, which parses and decodes but searches nothing.

mod brief;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern_bench::input;
use postern_bench::subjects::scan::{filters, parse, scan};

fn messages(criterion: &mut Criterion) {
    let filters = filters().expect("the default filters");
    let mut group = criterion.benchmark_group("scan");
    for (what, message) in [
        ("text-4KiB", input::text_message(4096)),
        ("attachment-64KiB", input::attachment_message(65_536)),
    ] {
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_with_input(BenchmarkId::new("postern", what), &message, |bencher, message| {
            bencher.iter(|| scan(&filters, message));
        });
        group.bench_with_input(BenchmarkId::new("mail-parser", what), &message, |bencher, it| {
            bencher.iter(|| parse(it));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = brief::brief(); targets = messages }
criterion_main!(benches);
