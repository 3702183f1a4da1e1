//! The next hop of a relay under test: takes mail fast, knows each message again, fails where told.
//!
//! Every message that is taken is judged (its body against the hash it carries), noted in the ledger
//! and counted, in this order, before it is answered. Faults ([`fault`]) refuse, delay, stall or drop
//! at a phase, by odds or by count, from a seed.

pub mod fault;
mod session;

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::ServerConfig;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use self::fault::Faults;
use crate::{
    ledger::{Entry, Ledger},
    message::{MessageId, Verdict},
    transport::Transport,
    wire::Arrived,
};

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What a sink does.
#[derive(Clone)]
pub struct SinkOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Name in the greeting.
    pub hostname: String,
    /// Certificate and key; without them TLS is not offered.
    pub tls: Option<Arc<ServerConfig>>,
    /// TLS from the first byte; else STARTTLS is offered.
    pub implicit_tls: bool,
    /// What goes wrong.
    pub faults: Faults,
    /// Most connections at a time; more are told 421.
    pub connections_max: usize,
    /// Where arrivals are noted.
    pub ledger: Option<PathBuf>,
    /// Folder that gets each message as a file, in plain form.
    pub dump: Option<PathBuf>,
}

impl SinkOptions {
    /// Takes everything, without TLS.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            hostname: "sink.invalid".to_owned(),
            tls: None,
            implicit_tls: false,
            faults: Faults::default(),
            connections_max: usize::MAX,
            ledger: None,
            dump: None,
        }
    }
}

/// What arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SinkSummary {
    /// Messages taken, copies included.
    pub received: u64,
    /// Different ids among them.
    pub distinct: u64,
    /// Copies beyond the first of an id.
    pub duplicates: u64,
    /// Messages of ours whose body is not what was sent.
    pub corrupt: u64,
    /// Messages that carry no id.
    pub unmarked: u64,
    /// Messages with a line feed that has no carriage return in front.
    pub bare_line_feeds: u64,
    /// Plain-form bytes of all messages.
    pub bytes: u64,
    /// Commands and messages that a fault refused, delayed, stalled or dropped.
    pub faults: u64,
    /// Connections taken.
    pub connections: u64,
    /// Connections told 421 because there were too many.
    pub connections_refused: u64,
    /// Of those taken, encrypted.
    pub encrypted: u64,
    /// From start to end.
    pub seconds: f64,
}

/// A running sink.
pub struct Sink {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Shared {
    options: SinkOptions,
    ledger: Option<Ledger>,
    started: Instant,
    open: AtomicUsize,
    counts: Counts,
    copies: Mutex<HashMap<MessageId, u32>>,
    broken: Mutex<Option<io::Error>>,
}

#[derive(Default)]
struct Counts {
    received: AtomicU64,
    duplicates: AtomicU64,
    corrupt: AtomicU64,
    unmarked: AtomicU64,
    bare_line_feeds: AtomicU64,
    bytes: AtomicU64,
    faults: AtomicU64,
    connections: AtomicU64,
    connections_refused: AtomicU64,
    encrypted: AtomicU64,
}

impl Sink {
    /// Starts to listen.
    ///
    /// # Errors
    /// If the address is taken, or the ledger or folder cannot be made.
    pub async fn start(options: SinkOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        if let Some(folder) = &options.dump {
            fs::create_dir_all(folder)?;
        }
        let ledger = options.ledger.as_deref().map(Ledger::append).transpose()?;
        let shared = Arc::new(Shared {
            options,
            ledger,
            started: Instant::now(),
            open: AtomicUsize::new(0),
            counts: Counts::default(),
            copies: Mutex::default(),
            broken: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(listen(listener, Arc::clone(&shared), stopped));
        Ok(Self { addr, shared, stop, task })
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What has arrived so far.
    pub fn summary(&self) -> SinkSummary {
        self.shared.summary()
    }

    /// How often a message has arrived.
    pub fn copies(&self, id: MessageId) -> u32 {
        self.shared.copies().get(&id).copied().unwrap_or(0)
    }

    /// Ends all sessions where they are, and says what arrived.
    ///
    /// # Errors
    /// If the ledger or a file could not be written, at any time.
    pub async fn stop(self) -> io::Result<SinkSummary> {
        self.stop.send_replace(true);
        self.task.await.map_err(io::Error::other)?;
        let broken = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        match broken {
            Some(error) => Err(error),
            None => Ok(self.shared.summary()),
        }
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = sessions.join_next() => continue,
            // The sender lives as long as the sink: an error says that it is gone.
            _ = stopped.wait_for(|&is_stopped| is_stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                sessions.spawn(take_session(stream, Arc::clone(&shared), number));
                number += 1;
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
    sessions.shutdown().await;
}

async fn take_session(stream: TcpStream, shared: Arc<Shared>, number: u64) {
    let place = Place::take(&shared);
    let is_full = place.open > shared.options.connections_max;
    let counts = &shared.counts;
    let counter = if is_full { &counts.connections_refused } else { &counts.connections };
    counter.fetch_add(1, Ordering::Relaxed);
    // What breaks a connection is the other side's affair; what breaks the ledger is kept apart.
    let _ended = if is_full {
        Transport::Plain(stream).write(b"421 4.7.0 too many connections\r\n").await
    } else {
        session::serve(stream, &shared, number).await
    };
}

/// One of the connections that are open.
struct Place<'a> {
    shared: &'a Shared,
    open: usize,
}

impl<'a> Place<'a> {
    fn take(shared: &'a Shared) -> Self {
        Self { shared, open: shared.open.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn copies(&self) -> std::sync::MutexGuard<'_, HashMap<MessageId, u32>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message: notes it, then counts it.
    ///
    /// # Errors
    /// If it cannot be noted; the message is then not taken.
    fn take(&self, arrived: &Arrived) -> io::Result<()> {
        self.note(arrived).inspect_err(|error| {
            let copy = io::Error::new(error.kind(), error.to_string());
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(copy);
        })?;
        let add = |counter: &AtomicU64, count| counter.fetch_add(count, Ordering::Relaxed);
        add(&self.counts.received, 1);
        add(&self.counts.bytes, arrived.bytes);
        add(&self.counts.bare_line_feeds, u64::from(arrived.bare_line_feeds > 0));
        match arrived.judged {
            None => add(&self.counts.unmarked, 1),
            Some((_, Verdict::Corrupt)) => add(&self.counts.corrupt, 1),
            Some((_, Verdict::Whole)) => 0,
        };
        Ok(())
    }

    fn note(&self, arrived: &Arrived) -> io::Result<()> {
        let received = self.counts.received.load(Ordering::Relaxed);
        let Some((id, verdict)) = arrived.judged else {
            return self.dump(arrived, &format!("unmarked-{received}"));
        };
        if let Some(ledger) = &self.ledger {
            ledger.write(&Entry::Received(id, verdict, arrived.bytes))?;
        }
        let copy = {
            let mut copies = self.copies();
            let copy = copies.entry(id).or_insert(0);
            *copy += 1;
            *copy
        };
        if copy > 1 {
            self.counts.duplicates.fetch_add(1, Ordering::Relaxed);
        }
        self.dump(arrived, &format!("{id}-{copy}"))
    }

    fn dump(&self, arrived: &Arrived, name: &str) -> io::Result<()> {
        match (&self.options.dump, &arrived.copy) {
            (Some(folder), Some(copy)) => fs::write(folder.join(name).with_extension("eml"), copy),
            _ => Ok(()),
        }
    }

    fn summary(&self) -> SinkSummary {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SinkSummary {
            received: count(&self.counts.received),
            distinct: self.copies().len() as u64,
            duplicates: count(&self.counts.duplicates),
            corrupt: count(&self.counts.corrupt),
            unmarked: count(&self.counts.unmarked),
            bare_line_feeds: count(&self.counts.bare_line_feeds),
            bytes: count(&self.counts.bytes),
            faults: count(&self.counts.faults),
            connections: count(&self.counts.connections),
            connections_refused: count(&self.counts.connections_refused),
            encrypted: count(&self.counts.encrypted),
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }
}
