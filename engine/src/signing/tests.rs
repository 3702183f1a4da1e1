//! Both ways, with ring and with a backend that is slow, faulty or strange on demand.

#![allow(clippy::print_stdout, reason = "figures for whoever reads a test's output")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::task::Poll;

use postern_signer::batch::{Backend, Input, RingSigner, Signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::event::{Format, LogOptions, LogWriter, Target};

const KEY: &[u8] = include_bytes!("../config/tests/key-2048.pem");

fn key() -> Arc<RsaPrivateKey> {
    Arc::new(RsaPrivateKey::from_pem(KEY).expect("a good key"))
}

/// What ring gives for this input.
fn expected(input: &[u8]) -> Signature {
    let mut ring = RingSigner::new();
    ring.load(KeyId(0), &key()).expect("a good key");
    let mut done = Vec::new();
    let job = Job { ticket: Ticket(0), key: KeyId(0), input: Input::Canonical(input) };
    ring.sign(&[job], &mut done);
    done.remove(0).result.expect("a signature")
}

/// Gives for input `[n]` what [`Fake::answers`] holds under `n`, after so many slices of work.
struct Fake {
    lanes: usize,
    slices: u32,
    slice: Duration,
    is_short: bool,
    answers: Arc<BTreeMap<u8, Signature>>,
    keys: BTreeSet<KeyId>,
    begun: Vec<(Ticket, KeyId, u8)>,
    left: u32,
    stats: Stats,
}

impl Fake {
    fn new(lanes: usize, slices: u32, slice: Duration) -> Self {
        Self {
            lanes,
            slices,
            slice,
            is_short: true,
            answers: Arc::new((0..4).map(|n| (n, expected(&[n]))).collect()),
            keys: BTreeSet::new(),
            begun: Vec::new(),
            left: 0,
            stats: Stats::default(),
        }
    }

    fn sibling(&self) -> Self {
        let answers = Arc::clone(&self.answers);
        Self { answers, keys: BTreeSet::new(), begun: Vec::new(), ..*self }
    }
}

impl BatchSigner for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn lanes(&self) -> usize {
        self.lanes
    }

    fn takes_digests(&self) -> bool {
        false
    }

    fn load(&mut self, id: KeyId, _key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        if id == REFUSED {
            return Err(KeyRefused::Unsupported);
        }
        assert!(self.keys.insert(id), "{id:?} is loaded twice");
        Ok(())
    }

    fn unload(&mut self, id: KeyId) {
        assert!(self.keys.remove(&id), "{id:?} is not loaded");
    }

    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>) {
        self.begin(jobs);
        while !self.step(done) {}
    }

    fn begin(&mut self, jobs: &[Job<'_>]) {
        assert!(self.begun.is_empty(), "a pass is under way");
        assert!(jobs.len() <= self.lanes, "more jobs than lanes");
        self.left = self.slices;
        for job in jobs {
            let Input::Canonical(&[n]) = job.input else { panic!("one byte") };
            self.begun.push((job.ticket, job.key, n));
        }
    }

    fn step(&mut self, done: &mut Vec<Signed>) -> bool {
        let until = Instant::now() + self.slice;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return false;
        }
        self.stats.passes += 1;
        for (ticket, key, n) in self.begun.drain(..) {
            let result = match self.answers.get(&n) {
                _ if !self.keys.contains(&key) => Err(SignFault::UnknownKey),
                None => Err(SignFault::Check),
                Some(signature) => Ok(signature.clone()),
            };
            self.stats.signed += u64::from(result.is_ok());
            self.stats.faults += u64::from(result == Err(SignFault::Check));
            done.push(Signed { ticket, result });
        }
        true
    }

    fn has_short_slices(&self) -> bool {
        self.is_short
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

const REFUSED: KeyId = KeyId(999);

fn log() -> (Log, LogWriter) {
    let options = LogOptions { format: Format::Text, target: Target::Stderr, level: Level::Error };
    Log::start(&options).expect("a log")
}

fn on_a_shard<F: Future>(work: impl FnOnce() -> F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async { work().await })
}

/// Runs this once inline and once with a thread.
fn both_ways<F: Future>(
    signer: impl Fn() -> Box<dyn BatchSigner>,
    check: impl Fn(SigningService) -> F,
) {
    let (log, _writer) = log();
    on_a_shard(async || check(SigningSeat::inline(signer(), 1_000).sit(&log)).await);
    let options = SigningOptions { max_wait_us: 1_000, ..SigningOptions::default() };
    let (seats, threads) = start_with(vec![signer()], &options, 1, &log).expect("a thread");
    for seat in seats {
        on_a_shard(async || check(seat.sit(&log)).await);
    }
    drop(threads);
}

fn quick() -> Box<dyn BatchSigner> {
    Box::new(Fake::new(4, 1, Duration::ZERO))
}

fn keys(ids: impl IntoIterator<Item = u64>) -> Vec<(KeyId, Arc<RsaPrivateKey>)> {
    let key = key();
    ids.into_iter().map(|id| (KeyId(id), Arc::clone(&key))).collect()
}

#[test]
fn each_job_gets_its_own_signature_from_ring() {
    let inputs: Vec<Vec<u8>> = (0..6).map(|n| vec![b'a' + n; 400]).collect();
    let wanted: Vec<Signature> = inputs.iter().map(|input| expected(input)).collect();
    both_ways(
        || Box::new(RingSigner::new()),
        async |service| {
            let _keys = service.load(keys([7])).await.expect("a good key");
            let mut tasks = Vec::new();
            for (index, input) in inputs.iter().cloned().enumerate() {
                let service = service.clone();
                let class = Class::ALL[index % 3];
                let task = async move { service.sign(class, KeyId(7), &input).await };
                tasks.push(spawn_local(task));
            }
            for (task, wanted) in tasks.into_iter().zip(&wanted) {
                assert_eq!(task.await.expect("no panic").as_ref(), Ok(wanted));
            }
            let report = service.report();
            assert_eq!((report.jobs, report.failed, report.stats.signed), (6, 0, 6));
            assert!(report.waits.iter().all(|wait| wait.jobs == 2 && wait.p50_us > 0));
        },
    );
}

#[test]
fn an_input_crosses_as_its_digest_where_the_backend_takes_that() {
    let input = OwnedInput::of_canonical(b"abc", true);
    let Input::Digest(digest) = input.as_input() else { panic!("a digest") };
    assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    assert!(matches!(OwnedInput::of_canonical(b"abc", false).as_input(), Input::Canonical(b"abc")));
}

/// Sessions that each wait for one signature at a time, as deliveries do.
#[test]
fn passes_fill_when_enough_deliveries_wait() {
    both_ways(
        || Box::new(Fake::new(4, 10, Duration::from_micros(100))),
        async |service| {
            let _keys = service.load(keys([1])).await.expect("is taken");
            for sessions in [1, 4, 8] {
                let before = service.report().stats;
                let tasks: Vec<_> = (0..sessions)
                    .map(|_| {
                        let service = service.clone();
                        spawn_local(async move {
                            for _ in 0..25 {
                                let signed = service.sign(Class::Normal, KeyId(1), &[0]).await;
                                signed.expect("a signature");
                                tokio::task::yield_now().await;
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("no panic");
                }
                let stats = service.report().stats;
                let (signed, passes) = (stats.signed - before.signed, stats.passes - before.passes);
                let fill = signed as f64 / passes as f64;
                println!("{sessions} sessions: {fill:.2} signatures a pass");
                let least = if sessions == 8 { 3.0 } else { f64::from(sessions) / 2.0 };
                assert!(fill >= least, "{fill} with {sessions} sessions");
            }
        },
    );
}

/// A byte goes to and fro over a socket pair: each half needs a look at the kernel's events.
#[test]
fn the_event_loop_turns_between_slices() {
    let (log, _writer) = log();
    let slices = 100;
    let turns = on_a_shard(async || {
        let fake = Fake::new(4, slices, Duration::from_micros(50));
        let service = SigningSeat::inline(Box::new(fake), 1_000).sit(&log);
        let _keys = service.load(keys([1])).await.expect("is taken");
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        spawn_local(async move {
            let mut byte = [0];
            while far.read_exact(&mut byte).await.is_ok() && far.write_all(&byte).await.is_ok() {}
        });
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        spawn_local(async move {
            let mut byte = [0];
            loop {
                near.write_all(&byte).await.expect("written");
                near.read_exact(&mut byte).await.expect("read");
                counted.set(counted.get() + 1);
            }
        });
        service.sign(Class::Urgent, KeyId(1), &[0]).await.expect("a signature");
        turns.get()
    });
    println!("{turns} round trips during a pass of {slices} slices");
    assert!(turns >= slices / 4, "{turns} round trips in {slices} slices");
}

#[test]
fn keys_are_there_while_they_are_held_and_no_longer() {
    both_ways(quick, async |service| {
        let sign = async |id| service.sign(Class::Normal, KeyId(id), &[1]).await.map(drop);
        let unknown = Err(NotSigned::Fault(SignFault::UnknownKey));
        assert_eq!(sign(1).await, unknown);
        let old = service.load(keys([1, 2])).await.expect("is taken");
        let new = service.load(keys([2, 3])).await.expect("is taken");
        assert_eq!((sign(1).await, sign(2).await, sign(3).await), (Ok(()), Ok(()), Ok(())));
        drop(old);
        assert_eq!((sign(1).await, sign(2).await, sign(3).await), (unknown, Ok(()), Ok(())));
        let refused = service.load(keys([4, REFUSED.0])).await.map(drop);
        assert_eq!(refused.expect_err("is refused").key, REFUSED);
        assert_eq!(sign(4).await, unknown, "all or nothing");
        drop(new);
        assert_eq!(sign(2).await, unknown);
        assert_eq!(service.report().failed, 4);
    });
}

#[test]
fn a_faulty_signature_is_an_error_of_its_job_alone() {
    both_ways(quick, async |service| {
        let _keys = service.load(keys([1])).await.expect("is taken");
        let (good, bad) = tokio::join!(
            service.sign(Class::Urgent, KeyId(1), &[2]),
            service.sign(Class::Bulk, KeyId(1), &[200]),
        );
        assert_eq!(good, Ok(expected(&[2])));
        assert_eq!(bad, Err(NotSigned::Fault(SignFault::Check)));
        assert_eq!(service.report().stats.faults, 1);
    });
}

#[test]
fn full_queues_push_back_and_everybody_is_served() {
    both_ways(
        || Box::new(Fake::new(4, 1, Duration::from_micros(20))),
        async |service| {
            let _keys = service.load(keys([1])).await.expect("is taken");
            let tasks: Vec<_> = (0..3 * PLACES)
                .map(|_| {
                    let service = service.clone();
                    spawn_local(
                        async move { service.sign(Class::Bulk, KeyId(1), &[3]).await.is_ok() },
                    )
                })
                .collect();
            tokio::task::yield_now().await;
            assert!(service.desk.pending.borrow().len() <= PLACES);
            assert_eq!(service.desk.places[0].available_permits(), PLACES, "urgent has its own");
            service.sign(Class::Urgent, KeyId(1), &[0]).await.expect("passes them all");
            for task in tasks {
                assert!(task.await.expect("no panic"));
            }
            assert_eq!(service.desk.places[Class::Bulk.index()].available_permits(), PLACES);
        },
    );
}

#[test]
fn a_job_whose_asker_is_gone_gives_its_place_back() {
    both_ways(quick, async |service| {
        let _keys = service.load(keys([1])).await.expect("is taken");
        for _ in 0..2 * PLACES {
            let mut asking = Box::pin(service.sign(Class::Normal, KeyId(1), &[0]));
            poll_fn(|context| {
                assert!(asking.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(asking);
            tokio::task::yield_now().await;
        }
        while !service.desk.pending.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(service.desk.places[1].available_permits(), PLACES);
        assert!(service.sign(Class::Normal, KeyId(1), &[0]).await.is_ok());
    });
}

/// Shards come and go while others sign; threads are shared, keys are loaded and unloaded.
#[test]
fn many_shards_share_threads_and_some_end_in_between() {
    let (log, _writer) = log();
    let first = Fake::new(4, 1, Duration::from_micros(30));
    let signers: Vec<Box<dyn BatchSigner>> = vec![Box::new(first.sibling()), Box::new(first)];
    let options = SigningOptions { max_wait_us: 200, ..SigningOptions::default() };
    let (seats, threads) = start_with(signers, &options, 6, &log).expect("threads");
    let shards: Vec<_> = seats
        .into_iter()
        .enumerate()
        .map(|(index, seat)| {
            let log = log.clone();
            std::thread::spawn(move || {
                on_a_shard(async || {
                    let service = seat.sit(&log);
                    // A third of the shards end in the midst of it all.
                    let limit = if index % 3 == 0 { 200 } else { JOBS };
                    sign_much(&service, limit).await
                })
            })
        })
        .collect();
    for (index, shard) in shards.into_iter().enumerate() {
        let signed = shard.join().expect("no panic");
        assert_eq!(signed, if index % 3 == 0 { 200 } else { JOBS }, "shard {index}");
    }
    drop(threads);
}

/// Signs from 40 tasks until so many are done, and returns how many were; the rest is abandoned.
async fn sign_much(service: &SigningService, limit: usize) -> usize {
    let signed = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..40_u8)
        .map(|task| {
            let (service, signed) = (service.clone(), Rc::clone(&signed));
            spawn_local(async move {
                while signed.get() < limit {
                    // Keys come and go, as they do with reloads.
                    let keys = service.load(keys([u64::from(task % 5)])).await.expect("is taken");
                    let class = Class::ALL[usize::from(task) % 3];
                    for n in 0..4 {
                        let key = KeyId(u64::from(task % 5));
                        let done = service.sign(class, key, &[n]).await.expect("is signed");
                        assert!(done == *service_answer(n), "another job's signature");
                        signed.set((signed.get() + 1).min(limit));
                    }
                    drop(keys);
                }
            })
        })
        .collect();
    while signed.get() < limit {
        tokio::task::yield_now().await;
    }
    if limit == JOBS {
        for task in tasks {
            task.await.expect("no panic");
        }
    }
    signed.get()
}

const JOBS: usize = 2_000;

fn service_answer(n: u8) -> &'static Signature {
    static ANSWERS: std::sync::OnceLock<Vec<Signature>> = std::sync::OnceLock::new();
    &ANSWERS.get_or_init(|| (0..4).map(|n| expected(&[n])).collect())[usize::from(n)]
}

#[test]
fn the_way_is_chosen_by_slices_and_cores() {
    let (log, _writer) = log();
    let ring = SignerOptions { backend: Backend::Ring, ..Default::default() };
    let options = SigningOptions { signer: ring, ..SigningOptions::default() };
    let (seats, threads) = start(&options, 3, &log).expect("ring is everywhere");
    assert!(seats.iter().all(|seat| matches!(seat.0, Seat::Thread(_))), "0.56 ms is no slice");
    assert_eq!(seats.len(), 3);
    drop(threads);
    let options = SigningOptions { cores: vec![0], ..options };
    let (seats, threads) = start(&options, 3, &log).expect("ring is everywhere");
    let places = seats.into_iter().map(|seat| on_a_shard(async || seat.sit(&log).report().place));
    assert_eq!(places.collect::<Vec<_>>(), ["core 0"; 3]);
    drop(threads);
}
