//! The typed life of a message, and the log writer.
//!
//! A room that decides something says so with an [`Event`]. A [`Log`] handle carries it to one
//! writer thread, which formats it as JSON lines or as text.
//!
//! Invariants: an event never holds message content or a secret; every string that came from
//! outside is escaped when written. A data thread never waits for the log: the channel is bounded
//! at [`PENDING_MAX`] records, and what does not fit is counted and reported by the writer.

#![allow(clippy::disallowed_methods, reason = "the writer's thread is its own to rest")]

mod format;

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

pub use format::Format;

/// What happened, in the order a message meets it.
#[derive(Debug, Clone)]
pub enum Event {
    /// The relay as a whole: start, reload, drain, a warning to the operator.
    Notice { level: Level, text: Box<str> },
    /// A TLS handshake with a client failed.
    TlsFailed { client: IpAddr, error: Box<str> },
    /// A client could not be authenticated.
    AuthRefused { client: IpAddr, authcid: Box<str>, reason: &'static str },
    /// A command or a message was refused; `code` and `text` are what the client was told.
    Refused {
        app: Option<Arc<str>>,
        client: IpAddr,
        stage: &'static str,
        code: u16,
        text: Box<str>,
    },
    /// A message is durable and was acknowledged.
    Accepted(Box<Accepted>),
    /// One recipient's mail was taken by the next hop.
    Delivered(Box<Attempt>),
    /// One recipient's mail will be tried again.
    Deferred(Box<Attempt>),
    /// One recipient's mail failed for good and is kept in the `failed` state.
    Failed(Box<Attempt>),
    /// An application was cut off or restored.
    Suspension { app: Arc<str>, cut: bool, actor: Box<str>, reason: Box<str> },
    /// A signing key that the relay looks after is at another stage, which is named, or `waits`;
    /// `text` says at which it was, or what for.
    Key { level: Level, domain: Box<str>, selector: Box<str>, what: &'static str, text: Box<str> },
    /// A finding of the filters that did not refuse the message.
    Finding { id: Box<str>, app: Arc<str>, detector: Box<str>, part: Box<str>, count: u32 },
}

/// Details of [`Event::Accepted`].
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Queue id.
    pub id: Box<str>,
    /// The application that sent it.
    pub app: Arc<str>,
    /// Reverse-path, without brackets; empty for the null reverse-path.
    pub reverse_path: Box<str>,
    /// Recipients accepted.
    pub recipients: usize,
    /// Size in wire form.
    pub bytes: u64,
    /// Lane name.
    pub lane: &'static str,
    /// Address of the client.
    pub client: IpAddr,
    /// TLS version, where TLS was used.
    pub tls: Option<&'static str>,
}

/// Details of a delivery event.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Queue id.
    pub id: Box<str>,
    /// The application that sent it.
    pub app: Arc<str>,
    /// Forward-path, without brackets.
    pub recipient: Box<str>,
    /// The host that answered, or that could not be reached.
    pub next_hop: Box<str>,
    /// How many attempts there have been, this one included.
    pub attempt: u32,
    /// What the next hop said, or why it could not be asked.
    pub reply: Box<str>,
    /// Milliseconds since the message was accepted.
    pub age_ms: u64,
}

/// Severity, as an operator filters it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something broke and needs the operator.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Normal life.
    Info,
}

impl Event {
    /// The severity an event is filtered by.
    pub fn level(&self) -> Level {
        match self {
            Self::Notice { level, .. } | Self::Key { level, .. } => *level,
            Self::Failed(_) | Self::AuthRefused { .. } | Self::TlsFailed { .. } => Level::Warn,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        })
    }
}

/// One event and when it happened.
struct Record {
    at: SystemTime,
    shard: Option<usize>,
    event: Event,
}

/// Where log lines go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Standard error: what systemd and containers collect.
    Stderr,
    /// A file, appended to; opened again on [`Log::reopen`].
    File(PathBuf),
}

/// How the log is written.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Text or JSON lines.
    pub format: Format,
    /// Where lines go.
    pub target: Target,
    /// Events less severe than this are not written.
    pub level: Level,
}

enum Message {
    Record(Record),
    Reopen,
    Stop,
}

/// A handle on the log; cheap to clone, one per thread.
#[derive(Clone)]
pub struct Log {
    sender: SyncSender<Message>,
    level: Level,
    shard: Option<usize>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// Opens the target and starts the writer thread.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or the thread cannot be started.
    pub fn start(options: &LogOptions) -> io::Result<(Self, LogWriter)> {
        let (sender, receiver) = sync_channel(PENDING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            out: open(&options.target)?,
            target: options.target.clone(),
            format: options.format,
            dropped: Arc::clone(&dropped),
        };
        let thread =
            std::thread::Builder::new().name("log".into()).spawn(move || writer.run(&receiver))?;
        let log = Self { sender: sender.clone(), level: options.level, shard: None, dropped };
        Ok((log, LogWriter { sender, thread: Some(thread) }))
    }

    /// The same log, with lines marked as coming from one shard.
    #[must_use]
    pub fn for_shard(&self, shard: usize) -> Self {
        Self { shard: Some(shard), ..self.clone() }
    }

    /// Hands an event to the writer. Never waits; what does not fit is counted.
    pub fn record(&self, event: Event) {
        if event.level() > self.level {
            return;
        }
        let record = Record { at: SystemTime::now(), shard: self.shard, event };
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Record(record)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says something about the relay as a whole.
    pub fn notice(&self, level: Level, text: impl Into<Box<str>>) {
        self.record(Event::Notice { level, text: text.into() });
    }

    /// Says why the process cannot go on, lets that be written, and ends it: to be started again is
    /// better than to run without a part that must not fail, and everything acknowledged is on disk.
    pub fn last_words(&self, text: &str) -> ! {
        self.notice(Level::Error, text);
        std::thread::park_timeout(LAST_WORDS);
        std::process::abort();
    }

    /// Opens the log file again, after it was moved away by a log rotation.
    pub fn reopen(&self) {
        if self.sender.try_send(Message::Reopen).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Owns the writer thread; dropping it writes what is pending and ends the thread.
pub struct LogWriter {
    sender: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let stopped = self.sender.send(Message::Stop).is_ok();
        if let (true, Some(thread)) = (stopped, self.thread.take()) {
            drop(thread.join());
        }
    }
}

struct Writer {
    out: Box<dyn Write + Send>,
    target: Target,
    format: Format,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// Writes what is there, then rests for [`REST`]: while mail flows nobody has to wake this
    /// thread, which would cost the data threads a system call a record.
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut line = Vec::with_capacity(512);
        while let Ok(first) = receiver.recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Record(record) => self.write(&record, &mut line),
                    Message::Reopen => self.reopen(),
                    Message::Stop => return self.flush(),
                }
                next = receiver.try_recv().ok();
                if next.is_none() {
                    self.report_dropped(&mut line);
                    self.flush();
                    std::thread::sleep(REST);
                    next = receiver.try_recv().ok();
                }
            }
        }
    }

    fn write(&mut self, record: &Record, line: &mut Vec<u8>) {
        line.clear();
        self.format.line(record.at, record.shard, &record.event, line);
        // A log that cannot be written must not stop the mail; the loss is visible in `dropped`.
        if self.out.write_all(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report_dropped(&mut self, line: &mut Vec<u8>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped == 0 {
            return;
        }
        let text = format!("{dropped} log records were dropped: the log is slower than the relay");
        let event = Event::Notice { level: Level::Warn, text: text.into() };
        self.write(&Record { at: SystemTime::now(), shard: None, event }, line);
    }

    fn reopen(&mut self) {
        self.flush();
        if let Ok(out) = open(&self.target) {
            self.out = out;
        }
    }

    fn flush(&mut self) {
        if self.out.flush().is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn open(target: &Target) -> io::Result<Box<dyn Write + Send>> {
    Ok(match target {
        Target::Stderr => Box::new(io::BufWriter::new(io::stderr())),
        Target::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            Box::new(io::BufWriter::new(file))
        }
    })
}

/// How long a line may wait to be written, and how seldom the writer wakes.
const REST: Duration = Duration::from_millis(5);

/// For the log to be written before the end.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Records that may wait for the writer: about 16 MiB at worst.
const PENDING_MAX: usize = 65_536;
