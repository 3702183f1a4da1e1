//! Signatures for deliveries: jobs gather here, and a batched backend does them in passes.
//!
//! ```text
//!  delivery tasks of a shard                                             where passes are done
//!   sign().await ──► place of its class ──► request ──┬── inline: a task of this shard, in slices
//!        ▲                                            └── thread: queue of this shard ─┐
//!        └────────── signature ◄── completions, one wake a pass ◄── signing thread ◄───┘
//! ```
//!
//! Two ways, chosen once ([`start`]):
//!
//! - **inline**, where no cores are set aside and the backend has short slices: a shard signs for
//!   itself, and between two slices (30 to 50 us) its event loop has a full turn, I/O included.
//! - **threads**, one for each of the cores set aside, pinned; or, where the backend has no short
//!   slices (`ring`: 0.56 ms), one unpinned beside each shard, so that no event loop stalls.
//!
//! What is signed next decides [`BatchPolicy`]; this room moves jobs and results.
//!
//! Invariants: private keys stay with the backend; a delivery names a key by its id. A key is loaded
//! before its id may be used ([`SigningService::load`] returns when the backend has it) and
//! unloaded when the last holder of its [`KeySet`] is gone, which every delivery holds while it
//! waits. An id names one key for as long as it is loaded. At most [`PLACES`] jobs of a class and
//! shard are in flight; the next waits for a place, classes apart from each other, so every queue
//! has room for what may be in it.
//!
//! A signing task or thread that panics (our bug) ends the process, as the delivery scheduler's
//! does: a relay that can sign nothing should be started again, and everything acknowledged is on
//! disk.

mod bell;
mod inline;
mod keys;
mod thread;
mod waits;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_signer::batch::policy::{BatchPolicy, Class, PolicyOptions};
use postern_signer::batch::{
    self, BackendRefused, BatchSigner, Job, KeyId, OwnedInput, SignFault, Signature, SignerOptions,
    Stats, Ticket,
};
use postern_signer::key::{KeyRefused, RsaPrivateKey};
use slab::Slab;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::inline::Inline;
use self::thread::Port;
pub use self::thread::SigningThreads;
pub use self::waits::Wait;
use self::waits::Waits;
use crate::event::{Level, Log};

/// How signatures are made.
#[derive(Debug, Clone, Default)]
pub struct SigningOptions {
    /// Which backend, and how.
    pub signer: SignerOptions,
    /// CPUs set aside for signing; may be empty.
    pub cores: Vec<usize>,
    /// How long a bulk job may wait for a fuller pass under load, in microseconds.
    pub max_wait_us: u64,
}

/// One shard's way to its signer, made before the shard and handed to its thread.
pub struct SigningSeat(Seat);

enum Seat {
    Inline(Box<dyn BatchSigner>, u64),
    Thread(Port),
}

/// Opens the backend for so many shards, and starts the threads where signing is not inline.
/// Shard `i` is served by thread `i % threads`. Says in the log which backend runs and where.
///
/// # Errors
/// [`BackendRefused`] where the backend that was asked for cannot be used here, or a thread not
/// be made; whatever had started has ended by then.
pub fn start(
    options: &SigningOptions,
    shards: usize,
    log: &Log,
) -> Result<(Vec<SigningSeat>, SigningThreads), SigningRefused> {
    let first = batch::open(&options.signer).map_err(SigningRefused::Backend)?;
    let is_inline = options.cores.is_empty() && first.has_short_slices();
    let count = if options.cores.is_empty() { shards.max(1) } else { options.cores.len() };
    let wanted = if is_inline { shards } else { count.min(shards.max(1)) };
    log.notice(Level::Info, placement(&*first, options, is_inline, wanted));
    let mut signers = Vec::with_capacity(wanted);
    signers.push(first);
    while signers.len() < wanted {
        signers.push(batch::open(&options.signer).map_err(SigningRefused::Backend)?);
    }
    if is_inline {
        let seat = |signer| SigningSeat(Seat::Inline(signer, options.max_wait_us));
        return Ok((signers.into_iter().map(seat).collect(), SigningThreads::none()));
    }
    start_with(signers, options, shards, log)
}

/// As [`start`], with these backends, each on a thread of its own.
///
/// # Errors
/// A thread cannot be made.
pub fn start_with(
    signers: Vec<Box<dyn BatchSigner>>,
    options: &SigningOptions,
    shards: usize,
    log: &Log,
) -> Result<(Vec<SigningSeat>, SigningThreads), SigningRefused> {
    let (ports, threads) =
        thread::start(signers, options, shards, log).map_err(SigningRefused::Thread)?;
    Ok((ports.into_iter().map(|port| SigningSeat(Seat::Thread(port))).collect(), threads))
}

fn placement(
    signer: &dyn BatchSigner,
    options: &SigningOptions,
    is_inline: bool,
    threads: usize,
) -> String {
    let name = signer.name();
    if is_inline {
        return format!("signing with {name}, inline on each shard");
    }
    match &*options.cores {
        [] => format!("signing with {name}, on {threads} threads beside the shards"),
        cores => format!("signing with {name}, on the cores {:?}", &cores[..threads]),
    }
}

/// Why signing could not be started.
#[derive(Debug)]
pub enum SigningRefused {
    /// The backend cannot be used here.
    Backend(BackendRefused),
    /// A thread could not be made.
    Thread(std::io::Error),
}

impl fmt::Display for SigningRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(error) => write!(f, "signer: {error}"),
            Self::Thread(error) => write!(f, "signer: cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for SigningRefused {}

/// The signer of one shard; clones share it.
#[derive(Clone)]
pub struct SigningService {
    desk: Rc<Desk>,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Inline(Rc<Inline>),
    Thread(Rc<Port>),
}

/// A job on its way: what a backend needs, and the number under which the shard knows it.
struct Request {
    number: usize,
    class: Class,
    /// Microseconds since the signer's start.
    at_us: u64,
    key: KeyId,
    /// Of a message only this crosses to another thread.
    input: OwnedInput,
}

impl Request {
    /// What a backend is handed. Results come in the order of jobs, so the ticket says nothing.
    fn job(&self) -> Job<'_> {
        Job { ticket: Ticket(0), key: self.key, input: self.input.as_input() }
    }
}

/// What a shard remembers of its jobs in flight.
struct Desk {
    places: [Arc<Semaphore>; Class::ALL.len()],
    pending: RefCell<Slab<Pending>>,
    waits: RefCell<[Waits; Class::ALL.len()]>,
    jobs: Cell<u64>,
    failed: Cell<u64>,
}

struct Pending {
    answer: oneshot::Sender<Result<Signature, SignFault>>,
    class: Class,
    since: Instant,
    /// Given back when the job is done, though its asker may have gone.
    _place: OwnedSemaphorePermit,
}

/// Keys that a backend holds, for as long as this is held.
pub struct KeySet {
    service: SigningService,
    ids: Vec<KeyId>,
}

impl Drop for KeySet {
    fn drop(&mut self) {
        self.service.unload(std::mem::take(&mut self.ids));
    }
}

/// A backend cannot use one of the keys; none of them is loaded then.
#[derive(Debug)]
pub struct KeyRefusal {
    /// The key.
    pub key: KeyId,
    /// Why.
    pub cause: KeyRefused,
}

/// Why there is no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSigned {
    /// The backend gave none.
    Fault(SignFault),
    /// The signer has ended; the relay is stopping.
    Ended,
}

impl fmt::Display for NotSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Ended => f.write_str("the signer has ended"),
        }
    }
}

impl std::error::Error for NotSigned {}

/// What a signer has done. The backend's part counts all shards that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningReport {
    /// The backend's name.
    pub backend: &'static str,
    /// `inline`, `thread`, or `core N`.
    pub place: String,
    /// Jobs of this shard that were answered.
    pub jobs: u64,
    /// Those of them that got no signature.
    pub failed: u64,
    /// What the backend did.
    pub stats: Stats,
    /// By class in the order of [`Class::ALL`]: how long a delivery waited for its signature.
    pub waits: [Wait; Class::ALL.len()],
}

impl SigningSeat {
    /// Signs inline with this backend.
    #[must_use]
    pub fn inline(signer: Box<dyn BatchSigner>, max_wait_us: u64) -> Self {
        Self(Seat::Inline(signer, max_wait_us))
    }

    /// Begins to serve, as a local task of this thread's runtime.
    #[must_use]
    pub fn sit(self, log: &Log) -> SigningService {
        let desk = Rc::new(Desk {
            places: [(); Class::ALL.len()].map(|()| Arc::new(Semaphore::new(PLACES))),
            pending: RefCell::default(),
            waits: RefCell::default(),
            jobs: Cell::new(0),
            failed: Cell::new(0),
        });
        let (way, task) = match self.0 {
            Seat::Inline(signer, max_wait_us) => {
                let inline = Rc::new(Inline::new(signer, max_wait_us));
                let task = tokio::task::spawn_local(Rc::clone(&inline).serve(Rc::clone(&desk)));
                (Way::Inline(inline), task)
            }
            Seat::Thread(port) => {
                let task = tokio::task::spawn_local(thread::collect(port.line(), Rc::clone(&desk)));
                (Way::Thread(Rc::new(port)), task)
            }
        };
        let log = log.clone();
        tokio::task::spawn_local(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                log.last_words(PANICKED);
            }
        });
        SigningService { desk, way }
    }
}

impl SigningService {
    /// Signs canonical header bytes with a loaded key. Waits for a place where [`PLACES`] jobs of
    /// its class are in flight. Dropping the future abandons the result, not the queue.
    ///
    /// # Errors
    /// [`NotSigned`]; the message must not leave then.
    pub async fn sign(
        &self,
        class: Class,
        key: KeyId,
        canonical: &[u8],
    ) -> Result<Signature, NotSigned> {
        let since = Instant::now();
        let places = Arc::clone(&self.desk.places[class.index()]);
        let place = places.acquire_owned().await.map_err(|_closed| NotSigned::Ended)?;
        let (answer, answered) = oneshot::channel();
        let pending = Pending { answer, class, since, _place: place };
        let number = self.desk.pending.borrow_mut().insert(pending);
        match &self.way {
            Way::Inline(inline) => inline.hand_in(number, class, key, canonical),
            Way::Thread(port) => port.hand_in(number, class, key, canonical),
        }
        match answered.await {
            Ok(result) => result.map_err(NotSigned::Fault),
            Err(_gone) => Err(NotSigned::Ended),
        }
    }

    /// Hands keys to the backend and returns when it has them. Until the set is dropped their ids
    /// may be signed with.
    ///
    /// # Errors
    /// [`KeyRefusal`] names the first key that the backend cannot use.
    pub async fn load(&self, keys: Vec<(KeyId, Arc<RsaPrivateKey>)>) -> Result<KeySet, KeyRefusal> {
        let ids = keys.iter().map(|(id, _)| *id).collect();
        match &self.way {
            Way::Inline(inline) => inline.load(&keys)?,
            Way::Thread(port) => port.load(keys).await?,
        }
        Ok(KeySet { service: self.clone(), ids })
    }

    fn unload(&self, ids: Vec<KeyId>) {
        match &self.way {
            Way::Inline(inline) => inline.unload(&ids),
            Way::Thread(port) => port.unload(ids),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> SigningReport {
        let (backend, place, stats) = match &self.way {
            Way::Inline(inline) => inline.report(),
            Way::Thread(port) => port.report(),
        };
        SigningReport {
            backend,
            place,
            jobs: self.desk.jobs.get(),
            failed: self.desk.failed.get(),
            stats,
            waits: self.desk.waits.borrow().each_ref().map(Waits::summary),
        }
    }
}

impl Desk {
    /// Gives a result to whoever waits for it.
    fn complete(&self, number: usize, result: Result<Signature, SignFault>) {
        let Pending { answer, class, since, .. } = self.pending.borrow_mut().remove(number);
        self.jobs.set(self.jobs.get() + 1);
        if result.is_err() {
            self.failed.set(self.failed.get() + 1);
        }
        self.waits.borrow_mut()[class.index()].record(micros(since.elapsed()));
        // An asker that is gone was cut short by a drain.
        drop(answer.send(result));
    }
}

/// A policy with room for everything that so many shards may have in flight.
fn policy<T>(signer: &dyn BatchSigner, max_wait_us: u64, shards: usize) -> BatchPolicy<T> {
    let waiting_max = PLACES * shards.max(1);
    BatchPolicy::new(PolicyOptions {
        max_wait_us,
        waiting_max,
        ..PolicyOptions::new(signer.lanes())
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Jobs of one class and shard in flight: 64 passes of four, 33 ms of work for one signer. More
/// outbound sessions than that wait their turn here, with their leases.
pub const PLACES: usize = 256;
const PANICKED: &str = "the signer panicked, which is a bug; ending";
