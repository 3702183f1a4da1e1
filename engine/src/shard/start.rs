//! Starts a shard on its thread, and ends it.
//!
//! Order of start: pin, I/O, spool (lock, recovery), queue, listeners. The caller hears of success
//! only when every listener is bound. Order of end: listeners close, sessions are told, deliveries
//! in progress finish, the spool writes what it holds.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::counters::Counters;
use super::listener::{self, ListenerState};
use super::policy::Policy;
use super::roster::{Roster, SessionOrder};
use super::{Shard, orders};
use crate::access::desk::PasswordDesk;
use crate::access::{Budgets, Suspensions, Usage, Verifier};
use crate::config::{IoChoice, Snapshot};
use crate::deliver::signing::KeyError;
use crate::deliver::{Dispatch, DispatchOptions};
use crate::event::{Level, Log};
use crate::io::{Choice, Io, IoOptions, IoRefused, Listener};
use crate::shard::order::Order;
use crate::shard::order::ShardLine;
use crate::signing::SigningSeat;
use crate::spool::{self, RecoveryReport, SpoolError, SpoolKey, SpoolOptions};

/// What a shard is started with.
pub struct ShardOptions {
    /// Its index.
    pub index: usize,
    /// How many shards there are.
    pub shards: usize,
    /// The CPU to pin it to.
    pub core: Option<usize>,
    /// What it works by.
    pub policy: Arc<Policy>,
    /// The addresses to listen on, in the order of the configured listeners.
    pub addresses: Vec<SocketAddr>,
    /// The applications that are cut.
    pub suspensions: Arc<Suspensions>,
    /// What the applications use of their budgets, over all shards.
    pub usage: Arc<Usage>,
    /// Where passwords are checked.
    pub passwords: PasswordDesk,
    /// Its way to the signer.
    pub signer: SigningSeat,
    /// The log.
    pub log: Log,
}

/// A running shard.
pub struct ShardHandle {
    /// The way to it.
    pub line: ShardLine,
    /// The addresses it listens on; port 0 has become the real one.
    pub addresses: Vec<SocketAddr>,
    thread: JoinHandle<()>,
}

impl ShardHandle {
    /// Waits until the shard has ended; false when its thread panicked.
    #[must_use]
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// Why a shard could not be started.
#[derive(Debug)]
pub enum StartError {
    /// io_uring was demanded and is refused.
    Io(IoRefused),
    /// The spool cannot be used: held by another process, in memory only, damaged beyond use.
    Spool(SpoolError),
    /// The key that seals the spool cannot be used.
    SpoolKey(spool::KeyRefused),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A signing key cannot be used.
    Key(KeyError),
    /// The thread or its runtime could not be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Spool(error) => write!(f, "spool: {error}"),
            Self::SpoolKey(error) => write!(f, "spool: {error}"),
            Self::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}")?;
                if error.kind() == io::ErrorKind::PermissionDenied {
                    f.write_str("; ports below 1024 need CAP_NET_BIND_SERVICE")?;
                }
                Ok(())
            }
            Self::Key(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

type Started = Result<Vec<SocketAddr>, StartError>;

/// Starts a shard and waits until it listens.
///
/// # Errors
/// [`StartError`]; the thread has ended then.
pub fn start(options: ShardOptions) -> Result<ShardHandle, StartError> {
    let (orders, orders_in) = mpsc::unbounded_channel();
    let (started, outcome) = channel();
    let index = options.index;
    let thread = std::thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || run(options, orders_in, &started))
        .map_err(StartError::Thread)?;
    match outcome.recv() {
        Ok(Ok(addresses)) => {
            Ok(ShardHandle { line: ShardLine { index, orders }, addresses, thread })
        }
        Ok(Err(error)) => {
            drop(thread.join());
            Err(error)
        }
        Err(_) => Err(StartError::Thread(io::Error::other("the thread ended while starting"))),
    }
}

fn run(options: ShardOptions, orders: mpsc::UnboundedReceiver<Order>, started: &Sender<Started>) {
    pin(&options);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // More turns between looks at the reactor: completions come in batches anyway.
        .event_interval(61)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(started.send(Err(StartError::Thread(error))));
            return;
        }
    };
    LocalSet::new().block_on(&runtime, async move {
        match open(options).await {
            Ok((shard, listeners)) => {
                let addresses = listeners.iter().map(Listener::local_addr).collect();
                if started.send(Ok(addresses)).is_ok() {
                    serve(shard, listeners, orders).await;
                }
            }
            // A starter that is gone needs no answer.
            Err(error) => drop(started.send(Err(error))),
        }
    });
}

/// Pins the thread. A CPU that may not be used is told; the shard runs all the same.
fn pin(options: &ShardOptions) {
    let Some(core) = options.core else { return };
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        let text = format!("shard {} is not pinned to core {core}: {error}", options.index);
        options.log.notice(Level::Warn, text);
    }
}

async fn open(options: ShardOptions) -> Result<(Rc<Shard>, Vec<Listener>), StartError> {
    let snapshot = &options.policy.snapshot;
    let log = options.log.for_shard(options.index);
    let io = Io::start(&io_options(snapshot)).map_err(StartError::Io)?;
    if let Some(refusal) = io.refusal() {
        log.notice(Level::Warn, refusal.to_string());
    }
    let opened = spool::open(&io, &spool_options(snapshot)?, options.index, options.shards);
    let (spool, recovered, report) = opened.map_err(StartError::Spool)?;
    tell_recovery(&log, &report);
    let counters = Rc::new(Counters::default());
    let signer = options.signer.sit(&log);
    let key_set = options.policy.keys.load(&signer).await.map_err(StartError::Key)?;
    let dispatch = Dispatch::start(DispatchOptions {
        index: options.index,
        io: io.clone(),
        spool: spool.clone(),
        log: log.clone(),
        counters: Rc::clone(&counters),
        frozen: options.suspensions.reasons().into_keys().collect(),
        signer,
        key_set,
        setup: options.policy.delivery_setup(),
        recovered,
    });
    let listeners: Vec<_> = options
        .addresses
        .iter()
        .map(|&address| io.listen(address).map_err(|error| StartError::Listen(address, error)))
        .collect::<Result<_, _>>()?;
    let shard = Rc::new(Shard {
        index: options.index,
        core: options.core,
        io,
        spool,
        dispatch,
        log,
        counters,
        suspensions: Arc::clone(&options.suspensions),
        passwords: options.passwords.clone(),
        verifier: Verifier::new().map_err(|error| StartError::Thread(io::Error::other(error)))?,
        budgets: RefCell::new(Budgets::new(&options.usage)),
        ids: RefCell::default(),
        roster: Roster::default(),
        listeners: RefCell::default(),
        policy: RefCell::new(Arc::clone(&options.policy)),
    });
    Ok((shard, listeners))
}

fn io_options(snapshot: &Snapshot) -> IoOptions {
    let server = &snapshot.server;
    IoOptions {
        choice: match server.io {
            IoChoice::Auto => Choice::Auto,
            IoChoice::Uring => Choice::Uring,
            IoChoice::Epoll => Choice::Epoll,
        },
        receive_memory_bytes: server.receive_memory_bytes,
        block_memory_bytes: server.memory_bytes,
        ..IoOptions::default()
    }
}

fn tell_recovery(log: &Log, report: &RecoveryReport) {
    for damage in &report.damaged {
        let text = format!(
            "spool damage set aside in quarantine/: {} bytes at {} of {}",
            damage.bytes, damage.offset, damage.file
        );
        log.notice(Level::Error, text);
    }
    for id in &report.damaged_messages {
        log.notice(
            Level::Error,
            format!("message {id} was acknowledged and cannot be served whole"),
        );
    }
    if report.messages > 0 || report.torn_tail_bytes > 0 {
        let text = format!(
            "spool recovered: {} messages, {} content bytes, {} adopted, {} bytes of torn tail cut, \
             {} ms",
            report.messages,
            report.content_bytes,
            report.adopted,
            report.torn_tail_bytes,
            report.took.as_millis()
        );
        log.notice(Level::Info, text);
    }
}

/// Runs the shard until it is told to drain and has done so.
async fn serve(
    shard: Rc<Shard>,
    listeners: Vec<Listener>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let stop = Rc::new(Notify::new());
    let policy = shard.policy();
    for (listener, policy) in listeners.into_iter().zip(&policy.listeners) {
        let state = Rc::new(ListenerState::new(policy.clone()));
        shard.listeners.borrow_mut().push(Rc::clone(&state));
        let accepting = listener::accept(Rc::clone(&shard), state, listener, Rc::clone(&stop));
        tokio::task::spawn_local(accepting);
    }
    drop(policy);
    while let Some(order) = orders.recv().await {
        if let Order::Drain = order {
            break;
        }
        orders::carry_out(&shard, order);
    }
    stop.notify_waiters();
    drain(&shard, &mut orders).await;
    shard.spool.drain().await;
}

/// Lets what is in progress finish, within the configured time. Orders are still answered.
async fn drain(shard: &Rc<Shard>, orders: &mut mpsc::UnboundedReceiver<Order>) {
    let limit = Instant::now() + shard.snapshot().server.drain_timeout;
    shard.dispatch.drain();
    shard.roster.tell_all(SessionOrder::Drain);
    while shard.roster.len() > 0 || shard.dispatch.in_progress() > 0 {
        if Instant::now() >= limit {
            let text = format!(
                "drain timeout: {} sessions and {} deliveries are cut short",
                shard.roster.len(),
                shard.dispatch.in_progress()
            );
            return shard.log.notice(Level::Warn, text);
        }
        tokio::select! {
            () = sleep(DRAIN_LOOK) => {}
            order = orders.recv() => match order {
                // A second order to drain means: now.
                None | Some(Order::Drain) => return,
                Some(order) => orders::carry_out(shard, order),
            }
        }
    }
}

fn spool_options(snapshot: &Snapshot) -> Result<SpoolOptions, StartError> {
    let spool = &snapshot.spool;
    let key = spool.seal.as_ref().map(|key| SpoolKey::from_bytes(key.expose())).transpose();
    Ok(SpoolOptions {
        segment_bytes: spool.segment_bytes,
        key: key.map_err(StartError::SpoolKey)?,
        min_free_bytes: spool.free_bytes_min,
        allow_volatile: spool.allow_volatile,
        hot_bytes: snapshot.server.memory_bytes / HOT_SHARE,
        ..SpoolOptions::new(&spool.directory)
    })
}

/// Part of the block memory that committed content may keep until it is delivered.
const HOT_SHARE: usize = 2;
const DRAIN_LOOK: Duration = Duration::from_millis(20);
