//! Overload on simulated time: ten times as much mail as can be sent, faults on, many seeds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::backoff::Jitter;
use super::*;

const RUN_MS: u64 = 4_000;
const ARRIVALS_PER_MS: u64 = 10;
const DESTINATIONS: u64 = 20;
const DEAD: Destination = Destination(3);
const BULK_APPS: u64 = 8;

#[test]
fn overload_is_ordered_and_nothing_is_lost() {
    for seed in 0..4 {
        let report = Simulation::new(seed).run();
        let urgent_p99_ms = report.percentile(Lane::Urgent, 99);
        assert!(urgent_p99_ms < 100, "seed {seed}: urgent p99 {urgent_p99_ms} ms");
        for lane in LANES {
            assert!(report.done_under_load[lane.index()] > 0, "seed {seed}: {lane:?} starved");
        }
        let fairness = report.fairness();
        assert!(fairness > 0.95, "seed {seed}: Jain's index {fairness}");
    }
}

/// One server that takes a lease a millisecond and keeps each for 5 ms.
struct Simulation {
    queue: Queue,
    random: Jitter,
    now_ms: u64,
    added: u128,
    under_way: BinaryHeap<Reverse<(u64, u128)>>,
    leases: BTreeMap<u128, Lease>,
    /// How each message ended; the test's ledger.
    ledger: BTreeMap<u128, Ending>,
    report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Done,
    Refused,
    Expired,
}

#[derive(Default)]
struct Report {
    in_queue_ms: [Vec<u64>; LANES.len()],
    done_under_load: [usize; LANES.len()],
    bulk_by_app: BTreeMap<App, u64>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            queue: Queue::new(QueueOptions { seed, ..options() }),
            random: Jitter::new(seed ^ 0x5eed),
            now_ms: 0,
            added: 0,
            under_way: BinaryHeap::new(),
            leases: BTreeMap::new(),
            ledger: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn run(mut self) -> Report {
        while self.now_ms < RUN_MS {
            (0..ARRIVALS_PER_MS).for_each(|_| self.arrive());
            self.turn();
            if self.now_ms == RUN_MS / 3 {
                self.queue.freeze(self.now_ms, App(5));
            }
            if self.now_ms == RUN_MS / 2 {
                self.queue.thaw(self.now_ms, App(5));
            }
            self.now_ms += 1;
        }
        self.drain();
        self.check_ledger();
        self.report
    }

    fn draw(&mut self, bound: u64) -> u64 {
        (self.random.next() >> 16) % bound
    }

    /// 5 % urgent, which is half of what can be sent; 15 % normal; the rest bulk, of which one
    /// application sends half.
    fn arrive(&mut self) {
        let (lane, app) = match self.draw(100) {
            0..5 => (Lane::Urgent, 100),
            5..20 => (Lane::Normal, 200),
            20..60 => (Lane::Bulk, 0),
            _ => (Lane::Bulk, self.draw(BULK_APPS)),
        };
        let app = u32::try_from(app).expect("is small");
        let destination = u32::try_from(self.draw(DESTINATIONS)).expect("is small");
        let new = NewDelivery {
            accepted_ms: self.now_ms,
            due_ms: self.now_ms,
            ..delivery(self.added, destination, app, lane)
        };
        self.queue.add(self.now_ms, new);
        self.added += 1;
    }

    fn turn(&mut self) {
        self.queue.advance(self.now_ms);
        if let Some(lease) = self.queue.lease(self.now_ms, Pick::Any) {
            self.start(lease);
        }
        while let Some(&Reverse((end_ms, message))) = self.under_way.peek() {
            if end_ms > self.now_ms {
                break;
            }
            self.under_way.pop();
            let lease = self.leases.remove(&message).expect("is under way");
            self.finish(lease);
        }
        while let Some(id) = self.queue.poll_expired() {
            let message = self.queue.view(id).expect("is kept").message;
            self.end(message, Ending::Expired);
        }
    }

    fn start(&mut self, lease: Lease) {
        if lease.attempt == 1 && lease.destination != DEAD {
            let waited_ms = self.now_ms - lease.accepted_ms;
            self.report.in_queue_ms[lease.lane.index()].push(waited_ms);
        }
        self.under_way.push(Reverse((self.now_ms + 5, lease.message.0)));
        self.leases.insert(lease.message.0, lease);
    }

    fn finish(&mut self, lease: Lease) {
        let Lease { message, destination, lane, app, .. } = lease;
        if destination == DEAD {
            self.queue.pause(DEAD, self.now_ms + 1_000);
            self.queue.settle(self.now_ms, lease, retry);
            return;
        }
        match self.draw(100) {
            0..3 => {
                self.queue.settle(self.now_ms, lease, retry);
            }
            3..5 => {
                self.queue.settle(self.now_ms, lease, |_| Outcome::Failed);
                self.end(message, Ending::Refused);
            }
            _ => {
                assert!(self.queue.settle(self.now_ms, lease, |_| Outcome::Done).message_is_gone);
                self.end(message, Ending::Done);
                self.note_done(lane, app);
            }
        }
    }

    fn note_done(&mut self, lane: Lane, app: App) {
        if self.now_ms < RUN_MS {
            self.report.done_under_load[lane.index()] += 1;
            if lane == Lane::Bulk {
                *self.report.bulk_by_app.entry(app).or_default() += 1;
            }
        }
    }

    fn end(&mut self, message: MessageKey, ending: Ending) {
        let before = self.ledger.insert(message.0, ending);
        assert_eq!(before, None, "{message:?} ended twice");
    }

    /// No more arrivals: everything is sent, fails, or becomes too old, without waiting for it.
    fn drain(&mut self) {
        while !self.under_way.is_empty() || self.queue.next_due_ms().is_some() {
            let has_more = self.queue.ready_destinations().next().is_some();
            let next_ms = self.queue.next_due_ms().unwrap_or(0);
            let ended_ms = self.under_way.peek().map(|&Reverse((end_ms, _))| end_ms);
            self.now_ms = match has_more {
                true => self.now_ms + 1,
                false => ended_ms.map_or(next_ms, |end_ms| end_ms.min(next_ms)).max(self.now_ms),
            };
            self.turn();
        }
    }

    fn check_ledger(&self) {
        assert_eq!(u128::try_from(self.ledger.len()), Ok(self.added), "every message ended");
        let ended = |ending: Ending| self.ledger.values().filter(|&&other| other == ending).count();
        let failed: usize = LANES.map(|lane| self.queue.counts(lane).failed).iter().sum();
        let total: usize = LANES.map(|lane| self.queue.counts(lane).total()).iter().sum();
        assert_eq!(failed, ended(Ending::Refused) + ended(Ending::Expired));
        assert_eq!(total, failed, "nothing else is left");
    }
}

impl Report {
    fn percentile(&self, lane: Lane, percent: usize) -> u64 {
        let mut sorted = self.in_queue_ms[lane.index()].clone();
        sorted.sort_unstable();
        sorted[sorted.len() * percent / 100]
    }

    /// Jain's index over the bulk applications that were never frozen.
    fn fairness(&self) -> f64 {
        let shares = self.bulk_by_app.iter().filter(|(app, _)| **app != App(5));
        let shares: Vec<f64> =
            shares.map(|(_, &count)| f64::from(u32::try_from(count).expect("is small"))).collect();
        let sum: f64 = shares.iter().sum();
        let squares: f64 = shares.iter().map(|share| share * share).sum();
        let applications = f64::from(u32::try_from(shares.len()).expect("is small"));
        sum * sum / (applications * squares)
    }
}
