//! Applications that hand in mail, in a **closed loop**: each session sends a message, waits for its
//! reply, and sends the next. Rate and latency therefore depend on each other: a slow server is asked
//! less, so the latencies are those of the sessions, not those that a fixed arrival rate would see.
//!
//! Every message has its own id and is sent at most once: whatever arrives twice, the relay made
//! twice. A message whose reply never came is noted as unknown and not repeated.

mod session;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::ClientConfig;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    histogram::Histogram,
    ledger::{Entry, Ledger},
    message::Maker,
    transport,
};

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    None,
    /// After STARTTLS.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// Name and password of one application.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// SASL authcid.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// What a run does.
#[derive(Clone)]
pub struct SourceOptions {
    /// Where the relay listens.
    pub to: SocketAddr,
    /// Sessions at a time.
    pub sessions: usize,
    /// Messages in all, over all sessions; `None` = no limit but time.
    pub messages: Option<u64>,
    /// Ends the run; messages on their way are waited for.
    pub duration: Option<Duration>,
    /// Length of each message, header included.
    pub message_bytes: usize,
    /// Encryption.
    pub tls: Tls,
    /// Certificates to trust; without them nothing is verified.
    pub ca: Option<PathBuf>,
    /// Name to verify and to send as SNI; the address if not given.
    pub server_name: Option<String>,
    /// Credentials, dealt out to the sessions in turn; none = no AUTH.
    pub credentials: Vec<Credential>,
    /// Sends MAIL, RCPT and DATA in one go, and with them the content before (RFC 2920).
    pub pipelining: bool,
    /// Messages on one connection before a new one is opened; `None` = no limit.
    pub messages_per_connection: Option<u64>,
    /// Reconnects whenever the connection is lost or refused, until the run ends.
    pub persist: bool,
    /// Reverse-path and author.
    pub from: String,
    /// Forward-paths.
    pub recipients: Vec<String>,
    /// Name in EHLO.
    pub helo: String,
    /// Longest wait for a reply.
    pub timeout: Duration,
    /// Where replies are noted.
    pub ledger: Option<PathBuf>,
}

impl SourceOptions {
    /// One session, one plain message of 4 KiB.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            sessions: 1,
            messages: Some(1),
            duration: None,
            message_bytes: 4096,
            tls: Tls::None,
            ca: None,
            server_name: None,
            credentials: Vec::new(),
            pipelining: true,
            messages_per_connection: None,
            persist: false,
            from: "app@loadgen.invalid".to_owned(),
            recipients: vec!["recipient@loadgen.invalid".to_owned()],
            helo: "loadgen.invalid".to_owned(),
            timeout: Duration::from_secs(60),
            ledger: None,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SourceSummary {
    /// `closed`: each session waits for a reply before it sends on.
    pub r#loop: &'static str,
    /// The run, as it is in the ids.
    pub run: String,
    /// Messages that were answered 2xx.
    pub accepted: u64,
    /// Messages that were answered 4xx.
    pub deferred: u64,
    /// Messages that were answered 5xx.
    pub rejected: u64,
    /// Messages that were sent and never answered.
    pub unknown: u64,
    /// Messages that were asked for and never sent, because the sessions gave up.
    pub unsent: u64,
    /// Connections that came as far as to send mail.
    pub connections: u64,
    /// Connections that failed or broke.
    pub connection_failures: u64,
    /// The last failure's words.
    pub last_failure: Option<String>,
    /// The last refusal's words.
    pub last_refusal: Option<String>,
    /// From start to end.
    pub seconds: f64,
    /// Accepted messages per second.
    pub rate_per_s: f64,
    /// Median time from the final dot to its reply, accepted messages only.
    pub latency_us_p50: u64,
    /// 99 % of accepted messages were answered within this.
    pub latency_us_p99: u64,
    /// The slowest.
    pub latency_us_max: u64,
}

/// Counts that can be looked at while a run goes on.
#[derive(Debug, Default)]
pub struct Progress {
    accepted: AtomicU64,
    deferred: AtomicU64,
    rejected: AtomicU64,
    unknown: AtomicU64,
    connections: AtomicU64,
    connection_failures: AtomicU64,
}

impl Progress {
    /// Messages answered 2xx so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Messages answered 4xx or 5xx so far.
    pub fn refused(&self) -> u64 {
        self.deferred.load(Ordering::Relaxed) + self.rejected.load(Ordering::Relaxed)
    }

    /// Connections that failed or broke so far.
    pub fn connection_failures(&self) -> u64 {
        self.connection_failures.load(Ordering::Relaxed)
    }
}

/// A run that has been prepared.
pub struct Source {
    shared: Arc<Shared>,
}

/// What the sessions of one run share.
struct Shared {
    options: SourceOptions,
    maker: Maker,
    tls: Option<Arc<ClientConfig>>,
    ledger: Option<Ledger>,
    progress: Arc<Progress>,
    next_number: AtomicU64,
    deadline: Option<Instant>,
    has_stopped: AtomicBool,
    words: Mutex<Words>,
}

#[derive(Default)]
struct Words {
    failure: Option<String>,
    refusal: Option<String>,
}

/// The end of one message.
enum Fate<'a> {
    Accepted(&'a crate::wire::Reply),
    Refused(&'a crate::wire::Reply),
    Unknown,
}

impl Source {
    /// Prepares a run: reads certificates, opens the ledger, makes the message.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn new(options: SourceOptions) -> io::Result<Self> {
        let mut run = [0; 8];
        SystemRandom::new().fill(&mut run).map_err(|_| io::Error::other("no random bytes"))?;
        let date = jiff::fmt::rfc2822::to_string(
            &Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC),
        )
        .map_err(io::Error::other)?;
        let first = options.recipients.first().map_or("", String::as_str);
        let run = u64::from_be_bytes(run);
        let maker = Maker::new(run, options.message_bytes, &options.from, first, &date);
        let tls = match options.tls {
            Tls::None => None,
            _ => Some(transport::client_config(options.ca.as_deref())?),
        };
        let ledger = options.ledger.as_deref().map(Ledger::append).transpose()?;
        let deadline = options.duration.map(|duration| Instant::now() + duration);
        let shared = Shared {
            options,
            maker,
            tls,
            ledger,
            progress: Arc::default(),
            next_number: AtomicU64::new(0),
            deadline,
            has_stopped: AtomicBool::new(false),
            words: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Counts to look at while the run goes on.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.shared.progress)
    }

    /// Ends the run early: messages on their way are waited for. May be called from anywhere.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.has_stopped.store(true, Ordering::Relaxed)
    }

    /// Sends until messages or time run out, or every session has failed.
    ///
    /// # Errors
    /// If the ledger cannot be written: going on would make it a lie.
    pub async fn run(self) -> io::Result<SourceSummary> {
        let started = Instant::now();
        let mut sessions = JoinSet::new();
        for index in 0..self.shared.options.sessions {
            sessions.spawn(session::run(Arc::clone(&self.shared), index));
        }
        let mut latencies = Histogram::default();
        while let Some(ended) = sessions.join_next().await {
            latencies.merge(&ended.map_err(io::Error::other)??);
        }
        Ok(self.shared.summary(started.elapsed(), &latencies))
    }
}

impl Shared {
    /// Takes the next message's number, if there is another message to be sent.
    fn take_number(&self) -> Option<u64> {
        if self.is_over() {
            return None;
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.options.messages.is_none_or(|messages| number < messages).then_some(number)
    }

    fn is_over(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Notes the end of a message: in the ledger first, then in the counts.
    fn settle(&self, number: u64, fate: &Fate<'_>) -> io::Result<()> {
        let id = self.maker.id(number);
        if let Some(ledger) = &self.ledger {
            ledger.write(&match fate {
                Fate::Accepted(reply) => Entry::Acknowledged(id, reply.code, reply.text.clone()),
                Fate::Refused(reply) => Entry::Refused(id, reply.code, reply.text.clone()),
                Fate::Unknown => Entry::Unknown(id),
            })?;
        }
        let counter = match fate {
            Fate::Accepted(_) => &self.progress.accepted,
            Fate::Refused(reply) if reply.code < 500 => &self.progress.deferred,
            Fate::Refused(_) => &self.progress.rejected,
            Fate::Unknown => &self.progress.unknown,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Fate::Refused(reply) = fate {
            self.words().refusal = Some(format!("{} {}", reply.code, reply.text));
        }
        Ok(())
    }

    fn note_failure(&self, error: &io::Error) {
        self.progress.connection_failures.fetch_add(1, Ordering::Relaxed);
        self.words().failure = Some(error.to_string());
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self, elapsed: Duration, latencies: &Histogram) -> SourceSummary {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let accepted = self.progress.accepted();
        let unknown = count(&self.progress.unknown);
        let wanted = self.options.messages.filter(|_| !self.is_over()).unwrap_or(0);
        let words = self.words();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people, far below 2^52")]
        let rate_per_s = accepted as f64 / elapsed.as_secs_f64().max(1e-9);
        SourceSummary {
            r#loop: "closed",
            run: format!("{:016x}", self.maker.id(0).run),
            accepted,
            deferred: count(&self.progress.deferred),
            rejected: count(&self.progress.rejected),
            unknown,
            unsent: wanted.saturating_sub(accepted + self.progress.refused() + unknown),
            connections: count(&self.progress.connections),
            connection_failures: self.progress.connection_failures(),
            last_failure: words.failure.clone(),
            last_refusal: words.refusal.clone(),
            seconds: elapsed.as_secs_f64(),
            rate_per_s,
            latency_us_p50: latencies.micros_at(500),
            latency_us_p99: latencies.micros_at(990),
            latency_us_max: latencies.micros_max(),
        }
    }
}

#[cfg(test)]
mod tests;
