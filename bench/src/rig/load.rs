//! Loads and next hops: `postern-loadgen` as a library, on the load's own core.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postern_loadgen::sink::{Sink, SinkOptions, SinkSummary};
use postern_loadgen::source::{Source, SourceOptions, SourceSummary};
use postern_loadgen::transport;
use tokio::sync::oneshot;

use super::place;

/// Most time between the last reply of a relay and the last arrival at its next hop.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(60);
/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(1);

fn on_load_core<F: Future>(future: F) -> io::Result<F::Output> {
    place::pin(place::LOAD_CORE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Sends what `options` say, from a thread on the load's core.
///
/// # Errors
/// When a message was not accepted: a figure per message would be a lie.
pub fn send(options: SourceOptions) -> io::Result<SourceSummary> {
    let source = Source::new(options)?;
    finish(std::thread::spawn(move || on_load_core(source.run()).flatten()))
}

/// Sends what `options` say, whatever becomes of it.
///
/// # Errors
/// When the load itself fails.
pub fn offer(options: SourceOptions) -> io::Result<SourceSummary> {
    let source = Source::new(options)?;
    join(std::thread::spawn(move || on_load_core(source.run()).flatten()))
}

/// What was read at the two ends of a load's middle, and the messages between.
pub struct Middle<T> {
    /// At the first tenth.
    pub first: T,
    /// At the last twentieth.
    pub last: T,
    /// Messages accepted in between.
    pub messages: u64,
}

/// Sends what `options` say and reads something of the server when the first tenth of the messages
/// is through, and again before the last twentieth: what it costs to begin and to end is left out.
///
/// # Errors
/// As [`send`], and those of `read`.
pub fn middle<T>(
    options: SourceOptions,
    mut read: impl FnMut() -> io::Result<T>,
) -> io::Result<Middle<T>> {
    let messages = options.messages.unwrap_or_default();
    let source = Source::new(options)?;
    let progress = source.progress();
    let thread = std::thread::spawn(move || on_load_core(source.run()).flatten());
    let mut sample = |from: u64| {
        while progress.accepted() < from && !thread.is_finished() {
            std::thread::sleep(POLL);
        }
        // What is accepted while it is read is counted half.
        let before = progress.accepted();
        let value = read()?;
        Ok::<_, io::Error>((u64::midpoint(before, progress.accepted()), value))
    };
    let (first_count, first) = sample(messages / 10)?;
    let (last_count, last) = sample(messages - messages / 20)?;
    finish(thread)?;
    Ok(Middle { first, last, messages: last_count.saturating_sub(first_count) })
}

/// Waits for a load's end, and sees that all of it was accepted.
fn finish(thread: JoinHandle<io::Result<SourceSummary>>) -> io::Result<SourceSummary> {
    let summary = join(thread)?;
    let missed = summary.deferred + summary.rejected + summary.unknown + summary.unsent;
    if missed > 0 || summary.accepted == 0 {
        let words = summary.last_refusal.or(summary.last_failure).unwrap_or_default();
        let text = format!("{missed} messages were not accepted: {words}");
        return Err(io::Error::other(text));
    }
    Ok(summary)
}

fn join(thread: JoinHandle<io::Result<SourceSummary>>) -> io::Result<SourceSummary> {
    thread.join().map_err(|_| io::Error::other("the load's thread panicked")).flatten()
}

/// A next hop on a thread of its own; ends with the value.
pub struct NextHop {
    /// Where it listens.
    pub addr: SocketAddr,
    sink: Arc<Sink>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NextHop {
    /// Starts one; `is_tls` offers STARTTLS with a certificate made for it.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(is_tls: bool) -> io::Result<Self> {
        let mut options = SinkOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        if is_tls {
            options.tls = Some(transport::self_made_server_config("localhost")?.0);
        }
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let served = on_load_core(async {
                let sink = Sink::start(options).await.map(Arc::new);
                // Nobody listens only if `start` has given up.
                drop(tell.send(sink));
                drop(stopped.await);
            });
            drop(served);
        });
        let sink = told.recv().map_err(|_| io::Error::other("the next hop did not start"))??;
        Ok(Self { addr: sink.addr(), sink, stop: Some(stop), thread: Some(thread) })
    }

    /// What has arrived so far.
    pub fn summary(&self) -> SinkSummary {
        self.sink.summary()
    }

    /// Waits until `count` messages have arrived in all.
    ///
    /// # Errors
    /// When they have not after a minute, or one is not what was sent.
    pub fn wait_for(&self, count: u64) -> io::Result<()> {
        let deadline = Instant::now() + DELIVERY_PATIENCE;
        loop {
            let summary = self.summary();
            if summary.corrupt > 0 {
                return Err(io::Error::other("a message arrived corrupted"));
            }
            if summary.received >= count {
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = format!("{} of {count} messages were delivered", summary.received);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for NextHop {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
