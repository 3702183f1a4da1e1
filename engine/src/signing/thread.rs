//! Signing threads: each has a backend, and a line to every shard it serves.
//!
//! ```text
//!  shard 0 ── requests (ring buffer) ──►┐                  ┌──► completions ── wake ── shard 0
//!  shard 1 ── requests (ring buffer) ──►┼─ policy ─ pass ──┼──► completions ── wake ── shard 1
//!     └────── key orders ──────────────►┘                  └──►
//! ```
//!
//! A queue has one writer and one reader, and room for every place of its shard, so nothing ever
//! waits for the other side. A thread with nothing to do sleeps ([`Bell`]); a shard is woken once
//! a pass, whatever the pass has done for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use postern_signer::batch::policy::{BatchPolicy, Class, Next, Picked};
use postern_signer::batch::{BatchSigner, KeyId, OwnedInput, SignFault, Signature, Stats};
use postern_signer::key::RsaPrivateKey;
use tokio::sync::{Notify, oneshot};

use super::bell::Bell;
use super::keys::Keyed;
use super::{Desk, KeyRefusal, PANICKED, PLACES, Request, SigningOptions, micros, policy};
use crate::event::{Level, Log};

/// The threads of a relay. Dropping it ends them; what they had not signed is never signed, so the
/// shards end first.
pub struct SigningThreads {
    threads: Vec<(Arc<Common>, JoinHandle<()>)>,
}

/// What a thread shares with the shards it serves.
struct Common {
    bell: Bell,
    must_end: AtomicBool,
    has_orders: AtomicBool,
    began: Instant,
    place: String,
    backend: &'static str,
    takes_digests: bool,
    done: Done,
}

/// The backend's [`Stats`], published after each pass.
#[derive(Default)]
struct Done {
    signed: AtomicU64,
    passes: AtomicU64,
    faults: AtomicU64,
    is_locked: AtomicBool,
    quarantined: OnceLock<&'static str>,
}

/// One shard's end of its line to a signing thread.
pub(super) struct Port {
    line: Arc<Line>,
    common: Arc<Common>,
    orders: Sender<KeyOrder>,
}

/// The queues between a shard and its signing thread.
pub(super) struct Line {
    requests: ArrayQueue<Request>,
    completions: ArrayQueue<Completion>,
    wake: Notify,
}

type Completion = (usize, Result<Signature, SignFault>);

enum KeyOrder {
    Load(Vec<(KeyId, Arc<RsaPrivateKey>)>, oneshot::Sender<Result<(), KeyRefusal>>),
    Unload(Vec<KeyId>),
}

/// Starts a thread for each backend; returns a port for each shard.
pub(super) fn start(
    signers: Vec<Box<dyn BatchSigner>>,
    options: &SigningOptions,
    shards: usize,
    log: &Log,
) -> std::io::Result<(Vec<Port>, SigningThreads)> {
    let mut threads = SigningThreads::none();
    let count = signers.len().max(1);
    let mut ports: Vec<Option<Port>> = (0..shards).map(|_| None).collect();
    for (index, signer) in signers.into_iter().enumerate() {
        let core = options.cores.get(index).copied();
        let common = Arc::new(Common {
            bell: Bell::default(),
            must_end: AtomicBool::new(false),
            has_orders: AtomicBool::new(false),
            began: Instant::now(),
            place: core.map_or_else(|| "thread".to_owned(), |core| format!("core {core}")),
            backend: signer.name(),
            takes_digests: signer.takes_digests(),
            done: Done::default(),
        });
        common.done.publish(signer.stats());
        let mut lines = Vec::new();
        for port in ports.iter_mut().skip(index).step_by(count) {
            let (orders, orders_in) = channel();
            let line = Arc::new(Line::new());
            lines.push(ShardLine { queues: Arc::clone(&line), orders: orders_in, has_news: false });
            *port = Some(Port { line, common: Arc::clone(&common), orders });
        }
        let signing = Signing {
            policy: policy(&*signer, options.max_wait_us, lines.len()),
            keyed: Keyed::new(signer),
            lines,
            common: Arc::clone(&common),
            spins_us: if core.is_some() { SPIN_US } else { 0 },
        };
        let log = log.clone();
        let thread = std::thread::Builder::new()
            .name(format!("signer-{index}"))
            .spawn(move || guarded(signing, core, &log))?;
        threads.threads.push((common, thread));
    }
    Ok((ports.into_iter().flatten().collect(), threads))
}

/// Runs a signing thread; ends the process where that panics.
fn guarded(signing: Signing, core: Option<usize>, log: &Log) {
    pin(core, log);
    if catch_unwind(AssertUnwindSafe(|| signing.serve())).is_err() {
        log.last_words(PANICKED);
    }
}

/// Pins the thread. A CPU that may not be used is told; signing goes on all the same.
fn pin(core: Option<usize>, log: &Log) {
    let Some(core) = core else { return };
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        log.notice(Level::Warn, format!("a signer is not pinned to core {core}: {error}"));
    }
}

impl SigningThreads {
    /// None at all: signing is inline.
    pub(super) fn none() -> Self {
        Self { threads: Vec::new() }
    }
}

impl Drop for SigningThreads {
    fn drop(&mut self) {
        for (common, _) in &self.threads {
            common.must_end.store(true, Ordering::SeqCst);
            common.bell.ring();
        }
        for (_, thread) in self.threads.drain(..) {
            // One that panicked has ended the process.
            drop(thread.join());
        }
    }
}

impl Common {
    fn now_us(&self) -> u64 {
        micros(self.began.elapsed())
    }
}

impl Done {
    fn publish(&self, stats: Stats) {
        self.signed.store(stats.signed, Ordering::Relaxed);
        self.passes.store(stats.passes, Ordering::Relaxed);
        self.faults.store(stats.faults, Ordering::Relaxed);
        self.is_locked.store(stats.is_locked, Ordering::Relaxed);
        if let Some(backend) = stats.quarantined {
            self.quarantined.get_or_init(|| backend);
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            signed: self.signed.load(Ordering::Relaxed),
            passes: self.passes.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
            is_locked: self.is_locked.load(Ordering::Relaxed),
            quarantined: self.quarantined.get().copied(),
        }
    }
}

impl Line {
    fn new() -> Self {
        let room = PLACES * Class::ALL.len();
        Self {
            requests: ArrayQueue::new(room),
            completions: ArrayQueue::new(room),
            wake: Notify::new(),
        }
    }
}

impl Port {
    /// The queues, for the task that collects completions.
    pub(super) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    /// Takes a job that has a place.
    pub(super) fn hand_in(&self, number: usize, class: Class, key: KeyId, canonical: &[u8]) {
        let input = OwnedInput::of_canonical(canonical, self.common.takes_digests);
        let request = Request { number, class, at_us: self.common.now_us(), key, input };
        let taken = self.line.requests.push(request);
        assert!(taken.is_ok(), "a job that has a place has room");
        self.common.bell.ring();
    }

    pub(super) async fn load(
        &self,
        keys: Vec<(KeyId, Arc<RsaPrivateKey>)>,
    ) -> Result<(), KeyRefusal> {
        let (answer, answered) = oneshot::channel();
        self.order(KeyOrder::Load(keys, answer));
        // A thread that has ended signs nothing, so nothing is promised falsely.
        answered.await.unwrap_or(Ok(()))
    }

    pub(super) fn unload(&self, ids: Vec<KeyId>) {
        self.order(KeyOrder::Unload(ids));
    }

    fn order(&self, order: KeyOrder) {
        // A thread that has ended has no keys to care for.
        drop(self.orders.send(order));
        self.common.has_orders.store(true, Ordering::SeqCst);
        self.common.bell.ring();
    }

    pub(super) fn report(&self) -> (&'static str, String, Stats) {
        (self.common.backend, self.common.place.clone(), self.common.done.stats())
    }
}

/// Gives results to the deliveries of a shard, as one of its tasks.
pub(super) async fn collect(line: Arc<Line>, desk: Rc<Desk>) {
    loop {
        while let Some((number, result)) = line.completions.pop() {
            desk.complete(number, result);
        }
        line.wake.notified().await;
    }
}

/// What a signing thread owns.
struct Signing {
    keyed: Keyed,
    policy: BatchPolicy<(usize, Request)>,
    lines: Vec<ShardLine>,
    common: Arc<Common>,
    /// How long it looks for work before it sleeps.
    spins_us: u64,
}

/// The thread's end of a line.
struct ShardLine {
    queues: Arc<Line>,
    orders: Receiver<KeyOrder>,
    /// Has completions that the shard was not told of.
    has_news: bool,
}

impl Signing {
    fn serve(mut self) {
        let mut picked = Vec::new();
        while !self.common.must_end.load(Ordering::SeqCst) {
            self.gather();
            self.take_orders();
            let now_us = self.common.now_us();
            match self.policy.next(now_us, &mut picked) {
                Next::Start => self.pass(&mut picked),
                Next::WaitUntil(until_us) => {
                    self.sleep(Some(Duration::from_micros(until_us.saturating_sub(now_us))));
                }
                Next::Idle => self.sleep(None),
            }
        }
    }

    /// After requests were gathered: what was ordered before one of them came is done before it is
    /// signed. A load was answered before its ids are used.
    fn take_orders(&mut self) {
        if !self.common.has_orders.swap(false, Ordering::SeqCst) {
            return;
        }
        for line in &self.lines {
            while let Ok(order) = line.orders.try_recv() {
                match order {
                    KeyOrder::Load(keys, answer) => drop(answer.send(self.keyed.load(&keys))),
                    KeyOrder::Unload(ids) => self.keyed.unload(&ids),
                }
            }
        }
    }

    fn gather(&mut self) {
        for (index, line) in self.lines.iter().enumerate() {
            while let Some(request) = line.queues.requests.pop() {
                let (at_us, class) = (request.at_us, request.class);
                let taken = self.policy.arrive(at_us, class, (index, request));
                assert!(taken.is_ok(), "a job that has a place has room");
            }
        }
    }

    fn pass(&mut self, picked: &mut Vec<Picked<(usize, Request)>>) {
        let jobs: Vec<_> = picked.iter().map(|picked| picked.job.1.job()).collect();
        let mut done = Vec::with_capacity(jobs.len());
        self.keyed.signer.sign(&jobs, &mut done);
        drop(jobs);
        assert_eq!(done.len(), picked.len(), "one result a job");
        self.policy.finished(self.common.now_us());
        self.policy.set_lanes(self.keyed.signer.lanes());
        self.common.done.publish(self.keyed.signer.stats());
        for (Picked { job: (index, request), .. }, signed) in picked.drain(..).zip(done) {
            let line = &mut self.lines[index];
            let given = line.queues.completions.push((request.number, signed.result));
            assert!(given.is_ok(), "a job that has a place has room");
            line.has_news = true;
        }
        for line in &mut self.lines {
            if std::mem::take(&mut line.has_news) {
                line.queues.wake.notify_one();
            }
        }
    }

    fn sleep(&self, limit: Option<Duration>) {
        let has_work = || {
            self.common.must_end.load(Ordering::SeqCst)
                || self.common.has_orders.load(Ordering::SeqCst)
                || self.lines.iter().any(|line| !line.queues.requests.is_empty())
        };
        let began_us = self.common.now_us();
        let spins_us = limit.map_or(self.spins_us, |limit| self.spins_us.min(micros(limit)));
        while spins_us > 0 && self.common.now_us() - began_us < spins_us {
            if has_work() {
                return;
            }
            (0..64).for_each(|_| std::hint::spin_loop());
        }
        let limit = limit.map(|limit| limit.saturating_sub(Duration::from_micros(spins_us)));
        self.common.bell.sleep_unless(has_work, limit);
    }
}

/// How long a thread with a core of its own looks for work before it sleeps: waking it costs the shard
/// a system call and the job some 20 us.
const SPIN_US: u64 = 50;
