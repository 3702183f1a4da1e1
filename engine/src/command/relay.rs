//! A running relay: log, shards and control runtime, put together.
//!
//! `run` holds one for the life of the process; `demo` holds one beside its own client and sink.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use postern_signer::batch::SignerOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::access::desk::{self, PasswordClerk};
use crate::access::{self, Suspensions, Usage};
use crate::config::{self, Snapshot};
use crate::control::keys::{KeysError, StoredKeys};
use crate::control::socket::ControlSocket;
use crate::control::{Control, ControlOptions};
use crate::event::{Format, Level, Log, LogOptions, LogWriter, Target};
use crate::shard::order::{Order, ShardLine};
use crate::shard::policy::{Policy, PolicyError};
use crate::shard::{self, ShardHandle, ShardOptions, StartError};
use crate::signing::{self, SigningOptions, SigningRefused, SigningSeat, SigningThreads};

/// Why a relay could not be started.
#[derive(Debug)]
pub enum RelayError {
    /// The log cannot be written.
    Log(io::Error),
    /// A file that the configuration names cannot be used.
    Policy(PolicyError),
    /// The file that says which applications are cut cannot be read.
    Suspensions(PathBuf, String),
    /// Signing keys cannot be looked after.
    Keys(KeysError),
    /// The signer cannot be used here.
    Signer(SigningRefused),
    /// A shard did not start.
    Shard(usize, StartError),
    /// The control socket cannot be bound.
    Control(PathBuf, io::Error),
    /// The control runtime cannot be made.
    Runtime(io::Error),
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => write!(f, "cannot write the log: {error}"),
            Self::Policy(error) => error.fmt(f),
            Self::Suspensions(path, error) => {
                write!(f, "{}: cannot tell which applications are cut: {error}", path.display())
            }
            Self::Keys(error) => error.fmt(f),
            Self::Signer(error) => error.fmt(f),
            Self::Shard(index, error) => write!(f, "shard {index}: {error}"),
            Self::Control(path, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "another relay answers at {}; is it running already?", path.display())
            }
            Self::Control(path, error) => write!(f, "control socket {}: {error}", path.display()),
            Self::Runtime(error) => write!(f, "cannot start the control runtime: {error}"),
        }
    }
}

impl std::error::Error for RelayError {}

/// A relay that listens.
pub struct Relay {
    shards: Vec<ShardHandle>,
    /// Ended after the shards, which may wait for signatures to the last.
    signing: Option<SigningThreads>,
    control: Option<JoinHandle<()>>,
    stop: mpsc::UnboundedSender<Stop>,
    log: Log,
    // Last: the log is written out after everything that could say something has ended.
    _writer: LogWriter,
}

enum Stop {
    Drain,
    Over,
}

impl Relay {
    /// Starts everything and returns once every address is listened on.
    ///
    /// # Errors
    /// [`RelayError`]; whatever had started has ended by then.
    pub fn start(snapshot: &Arc<Snapshot>) -> Result<Self, RelayError> {
        let began = Instant::now();
        let (log, writer) = Log::start(&log_options(snapshot)).map_err(RelayError::Log)?;
        let (policy, warnings) = Policy::prepare(snapshot).map_err(RelayError::Policy)?;
        for warning in &warnings {
            log.notice(Level::Warn, warning.as_str());
        }
        let state = snapshot.spool.state_directory();
        let suspensions = Suspensions::load(&state)
            .map_err(|error| RelayError::Suspensions(state, error.to_string()))?;
        let keys = StoredKeys::open(snapshot).map_err(RelayError::Keys)?;
        let policy = policy.with_managed(|name| keys.active(name));
        let parts = Parts {
            snapshot: Arc::clone(snapshot),
            policy: Arc::new(policy),
            keys,
            suspensions: Arc::new(suspensions),
            usage: Usage::new(began),
            log: log.clone(),
        };
        let (passwords, clerk) = desk::desk(access::check_password);
        let (seats, signing) =
            signing::start(&signing_options(snapshot), snapshot.server.cores.len(), &log)
                .map_err(RelayError::Signer)?;
        let shards = start_shards(&parts, &passwords, seats)?;
        drop(passwords);
        let (stop, stops) = mpsc::unbounded_channel();
        let lines = shards.iter().map(|shard| shard.line.clone()).collect();
        let (bound, outcome) = channel();
        let control = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                control(parts, lines, clerk, stops, began, |result| {
                    // The starter waits for exactly this.
                    drop(bound.send(result));
                });
            })
            .map_err(RelayError::Runtime)?;
        let relay = Self {
            shards,
            signing: Some(signing),
            control: Some(control),
            stop,
            log: log.clone(),
            _writer: writer,
        };
        match first(&outcome) {
            Ok(()) => {
                let addresses: Vec<_> = relay.addresses().iter().map(ToString::to_string).collect();
                let text = format!(
                    "postern {} listens on {} with {} shards",
                    env!("CARGO_PKG_VERSION"),
                    addresses.join(", "),
                    relay.shards.len()
                );
                log.notice(Level::Info, text);
                Ok(relay)
            }
            Err(error) => {
                relay.stop();
                Err(error)
            }
        }
    }

    /// The addresses listened on, in the order of the configured listeners.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shards.first().map(|shard| shard.addresses.clone()).unwrap_or_default()
    }

    /// Drains and waits until everything has ended; false when a thread had panicked.
    pub fn stop(self) -> bool {
        // The control runtime may have ended on a signal already.
        drop(self.stop.send(Stop::Drain));
        self.wait()
    }

    /// Waits until the relay ends by itself, on a signal; false when a thread had panicked.
    pub fn wait(mut self) -> bool {
        let mut is_whole = true;
        for shard in self.shards.drain(..) {
            is_whole &= shard.join();
        }
        drop(self.signing.take());
        drop(self.stop.send(Stop::Over));
        if let Some(control) = self.control.take() {
            is_whole &= control.join().is_ok();
        }
        self.log.notice(Level::Info, "postern has stopped");
        is_whole
    }
}

/// What the parts of a relay are made from.
struct Parts {
    snapshot: Arc<Snapshot>,
    policy: Arc<Policy>,
    keys: StoredKeys,
    suspensions: Arc<Suspensions>,
    usage: Arc<Usage>,
    log: Log,
}

fn first(outcome: &Receiver<Result<(), RelayError>>) -> Result<(), RelayError> {
    outcome
        .recv()
        .unwrap_or_else(|_| Err(RelayError::Runtime(io::Error::other("it ended while starting"))))
}

/// Starts one shard a core. The first binds the configured addresses; the others bind what the
/// first got, so that a port 0 becomes the same port for all.
fn start_shards(
    parts: &Parts,
    passwords: &desk::PasswordDesk,
    seats: Vec<SigningSeat>,
) -> Result<Vec<ShardHandle>, RelayError> {
    let cores = &parts.snapshot.server.cores;
    let mut shards: Vec<ShardHandle> = Vec::with_capacity(cores.len());
    let mut addresses: Vec<_> =
        parts.snapshot.listeners.iter().map(|listener| listener.address).collect();
    for ((index, &core), signer) in cores.iter().enumerate().zip(seats) {
        let started = shard::start(ShardOptions {
            index,
            shards: cores.len(),
            core: Some(core),
            policy: Arc::clone(&parts.policy),
            addresses: addresses.clone(),
            suspensions: Arc::clone(&parts.suspensions),
            usage: Arc::clone(&parts.usage),
            passwords: passwords.clone(),
            signer,
            log: parts.log.clone(),
        });
        match started {
            Ok(handle) => {
                addresses.clone_from(&handle.addresses);
                shards.push(handle);
            }
            Err(error) => {
                end_shards(shards);
                return Err(RelayError::Shard(index, error));
            }
        }
    }
    Ok(shards)
}

fn end_shards(shards: Vec<ShardHandle>) {
    for shard in shards {
        // Twice means: now.
        for _ in 0..2 {
            drop(shard.line.orders.send(Order::Drain));
        }
        _ = shard.join();
    }
}

/// The control thread: binds the socket, says so, and serves until told to stop.
fn control(
    parts: Parts,
    lines: Vec<ShardLine>,
    clerk: PasswordClerk,
    stops: mpsc::UnboundedReceiver<Stop>,
    began: Instant,
    tell: impl FnOnce(Result<(), RelayError>),
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tell(Err(RelayError::Runtime(error))),
    };
    LocalSet::new().block_on(&runtime, async move {
        let path = parts.snapshot.server.control_socket.clone();
        let socket = match ControlSocket::bind(&path) {
            Ok(socket) => socket,
            Err(error) => return tell(Err(RelayError::Control(path, error))),
        };
        let file = parts.snapshot.path.clone();
        let options = ControlOptions {
            shards: lines,
            suspensions: parts.suspensions,
            usage: parts.usage,
            reload: Box::new(move || reload(&file)),
            log: parts.log,
        };
        let control = match Control::new(options, parts.policy, parts.keys, began) {
            Ok(control) => Rc::new(control),
            Err(error) => return tell(Err(RelayError::Keys(error))),
        };
        tell(Ok(()));
        tokio::task::spawn_local(clerk.serve());
        tokio::select! {
            () = socket.serve(Rc::clone(&control)) => {}
            () = control.follow_keys() => {}
            () = follow(&control, stops) => {}
        }
    });
}

/// Follows signals and the relay's own owner until the shards have ended.
async fn follow(control: &Control, mut stops: mpsc::UnboundedReceiver<Stop>) {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        return control.complain("cannot listen for signals; stopping");
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => control.drain(),
            _ = interrupt.recv() => control.drain(),
            // Errors are in the log; the old configuration stays.
            _ = hangup.recv() => drop(control.reload().await),
            stop = stops.recv() => match stop {
                Some(Stop::Drain) => control.drain(),
                Some(Stop::Over) | None => return,
            },
        }
    }
}

fn reload(file: &std::path::Path) -> Result<(Arc<Policy>, Vec<String>), String> {
    let loaded = config::load(file, &super::surroundings()).map_err(|report| report.to_string())?;
    let (policy, mut warnings) =
        Policy::prepare(&loaded.snapshot).map_err(|error| error.to_string())?;
    warnings.extend(loaded.report.lines());
    Ok((Arc::new(policy), warnings))
}

fn signing_options(snapshot: &Snapshot) -> SigningOptions {
    let signer = &snapshot.signer;
    SigningOptions {
        signer: SignerOptions { backend: signer.backend, blinding: signer.blinding },
        cores: signer.cores.clone(),
        max_wait_us: u64::try_from(signer.max_wait.as_micros()).unwrap_or(u64::MAX),
    }
}

fn log_options(snapshot: &Snapshot) -> LogOptions {
    let log = &snapshot.server.log;
    LogOptions {
        format: match log.format {
            config::LogFormat::Text => Format::Text,
            config::LogFormat::Json => Format::Json,
        },
        target: match &log.target {
            config::LogTarget::Stderr => Target::Stderr,
            config::LogTarget::File(path) => Target::File(path.clone()),
        },
        level: match log.level {
            config::LogLevel::Error => Level::Error,
            config::LogLevel::Warn => Level::Warn,
            config::LogLevel::Info => Level::Info,
        },
    }
}

/// Password hashes, state files and configuration reads at once.
const BLOCKING_THREADS_MAX: usize = 4;
