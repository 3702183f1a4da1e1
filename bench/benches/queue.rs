//! A delivery's way through the queue (added, leased, settled) with many others waiting, beside the
//! least that could order them: a binary heap by due time, which knows no lanes, applications or
//! destinations.

mod brief;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use postern::queue::{
    App, Backoff, Destination, Lane, LanePolicy, MessageKey, NewDelivery, Outcome, Pick, Queue,
    QueueOptions, Recipients,
};

const DESTINATIONS: u32 = 50;
const APPS: u32 = 20;

fn lifecycle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    for waiting in [100, 100_000] {
        group.bench_function(BenchmarkId::new("postern", waiting), |bencher| {
            let mut queue = Queue::new(options());
            let mut number = 0;
            for _ in 0..waiting {
                queue.add(0, delivery(&mut number));
            }
            bencher.iter(|| {
                queue.add(0, delivery(&mut number));
                let lease = queue.lease(0, Pick::Any).expect("deliveries are ready");
                queue.settle(0, lease, |_| Outcome::Done)
            });
        });
        group.bench_function(BenchmarkId::new("binary-heap", waiting), |bencher| {
            let mut heap = BinaryHeap::new();
            let mut number = 0;
            for _ in 0..waiting {
                let new = delivery(&mut number);
                heap.push(Reverse((new.due_ms, new.message)));
            }
            bencher.iter(|| {
                let new = delivery(&mut number);
                heap.push(Reverse((new.due_ms, new.message)));
                heap.pop()
            });
        });
    }
    group.finish();
}

fn options() -> QueueOptions {
    let lane = LanePolicy {
        weight: 1,
        backoff: Backoff { base_ms: 60_000, factor: 2.0, max_ms: 3_600_000, jitter: 0.2 },
        expiry_ms: 1_000_000,
    };
    QueueOptions { lanes: [lane; 3], deliveries_max: usize::MAX, seed: 1 }
}

fn delivery(number: &mut u32) -> NewDelivery {
    *number += 1;
    NewDelivery {
        message: MessageKey(u128::from(*number)),
        destination: Destination(*number % DESTINATIONS),
        app: App(*number % APPS),
        lane: Lane::Normal,
        recipients: Recipients::One(0),
        accepted_ms: 0,
        attempts: 0,
        due_ms: 0,
        expires_ms: None,
    }
}

criterion_group! { name = benches; config = brief::brief(); targets = lifecycle }
criterion_main!(benches);
