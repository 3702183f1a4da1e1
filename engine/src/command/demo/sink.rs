//! The next hop of the demonstration: takes all mail, slowly if asked to, and remembers it.
//!
//! One thread a session, blocking sockets, the protocol from `postern_smtp::server`. It listens on
//! a loopback address only and speaks plaintext; it is no mail server. What it remembers is bounded
//! by [`KEPT_MAX`]: the oldest go first. Once told to, it writes what arrives into a folder as well,
//! up to [`FILES_MAX`] mails.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the sink is another server, on threads of its own"
)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postern_smtp::data::Unstuffer;
use postern_smtp::server::{Event, Security, Server, ServerOptions};

use crate::command::files::create_private;

/// A message that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    /// When its last byte was here.
    pub(super) at: Instant,
    /// Forward-paths, without brackets.
    pub(super) recipients: Vec<String>,
    /// Content in plain form.
    pub(super) content: Arc<[u8]>,
}

/// A running next hop; it stops when dropped.
pub(super) struct Sink {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    kept: Mutex<VecDeque<Arrived>>,
    arrival: Condvar,
    /// Before each message is answered.
    delay_ms: AtomicU64,
    is_stopping: AtomicBool,
    /// Where mail is written to, and how many were.
    files: Mutex<Option<(PathBuf, usize)>>,
}

impl Sink {
    /// Serves a listening socket.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let accepting = thread::Builder::new()
            .name("next-hop".into())
            .spawn(move || accept(&listener, &serving))?;
        Ok(Self { shared, address, accepting: Some(accepting) })
    }

    /// Lets every message wait this long for its answer: a busy next hop.
    pub(super) fn set_delay(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// Writes every message that arrives from now on into `folder`, which exists.
    pub(super) fn write_to(&self, folder: PathBuf) {
        *self.shared.files.lock().unwrap_or_else(PoisonError::into_inner) = Some((folder, 0));
    }

    /// Waits until `count` messages arrived for such recipients; what there is when `patience` is
    /// over.
    pub(super) fn wait_for(
        &self,
        count: usize,
        patience: Duration,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<Arrived> {
        let kept = self.shared.kept();
        let waited = self
            .shared
            .arrival
            .wait_timeout_while(kept, patience, |kept| meant(kept, &is_meant).count() < count);
        let (kept, _) = waited.unwrap_or_else(PoisonError::into_inner);
        meant(&kept, &is_meant).cloned().collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        // Wakes the accepting thread; if that fails, it ends with the process.
        let is_woken = TcpStream::connect(self.address).is_ok();
        if let Some(accepting) = self.accepting.take()
            && is_woken
        {
            drop(accepting.join());
        }
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Arrived>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, arrived: Arrived) {
        let mut kept = self.kept();
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(arrived);
        self.arrival.notify_all();
    }

    /// Writes a message down where that was asked for. A demonstration goes on without.
    fn write_down(&self, content: &[u8]) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((folder, count)) = &mut *files
            && *count < FILES_MAX
        {
            *count += 1;
            let name = format!("{}-{count:04}.eml", Timestamp::now().as_second());
            drop(create_private(&folder.join(name), content));
        }
    }

    fn wait_as_told(&self) {
        let delay_ms = self.delay_ms.load(Ordering::Relaxed);
        if delay_ms > 0 {
            thread::sleep(Duration::from_millis(delay_ms));
        }
    }
}

fn meant<'a>(
    kept: &'a VecDeque<Arrived>,
    is_meant: &impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'a Arrived> {
    kept.iter().filter(|arrived| arrived.recipients.iter().any(|path| is_meant(path)))
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let options = Arc::new(ServerOptions {
        hostname: "next-hop.example.net".to_owned(),
        starttls: false,
        auth: false,
        ..ServerOptions::default()
    });
    for stream in listener.incoming() {
        if shared.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let session = Session {
            stream,
            server: Server::new(Arc::clone(&options), Security::Plain, Instant::now()),
            shared: Arc::clone(shared),
            transaction: Transaction::default(),
        };
        // No thread, no session: the relay comes again.
        drop(thread::Builder::new().name("next-hop".into()).spawn(move || session.run()));
    }
}

struct Session {
    stream: TcpStream,
    server: Server,
    shared: Arc<Shared>,
    transaction: Transaction,
}

#[derive(Default)]
struct Transaction {
    recipients: Vec<String>,
    content: Vec<u8>,
    unstuffer: Unstuffer,
}

impl Session {
    /// Serves until the client leaves, is silent for too long, or breaks off.
    fn run(mut self) {
        let timeout = self.stream.set_read_timeout(Some(SILENCE_MAX));
        let is_set_up = timeout.and_then(|()| self.stream.set_nodelay(true)).is_ok();
        let mut input = vec![0; RECEIVE_BYTES];
        while is_set_up && self.flush().is_ok() && !self.server.is_closed() {
            match self.stream.read(&mut input) {
                Ok(received @ 1..) => self.digest(&input[..received]),
                _ => return,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let replies = self.server.transmit();
        self.stream.write_all(&replies)
    }

    fn digest(&mut self, mut input: &[u8]) {
        loop {
            let received = self.server.receive(input, Instant::now());
            input = &input[received.consumed..];
            match received.event {
                None if input.is_empty() => return,
                None | Some(Event::Hello(_)) => {}
                Some(Event::Content(wire)) => {
                    let slices = self.transaction.unstuffer.chunk(wire);
                    slices.for_each(|slice| self.transaction.content.extend_from_slice(slice));
                }
                Some(Event::Rcpt(recipient)) => {
                    self.transaction.recipients.push(recipient.forward_path.as_str().to_owned());
                    self.server.accept(Instant::now());
                }
                Some(Event::EndOfData(_)) => self.take_message(),
                Some(Event::Mail(_)) => {
                    self.transaction = Transaction::default();
                    self.server.accept(Instant::now());
                }
                Some(Event::Data) => self.server.accept(Instant::now()),
                Some(Event::Reset | Event::MessageRefused(_)) => {
                    self.transaction = Transaction::default();
                }
                Some(Event::Flush) => {
                    if self.flush().is_err() {
                        return;
                    }
                }
                // Neither is offered, so neither is asked.
                Some(Event::StartTls | Event::Auth(_) | Event::Close(_)) => return,
            }
        }
    }

    fn take_message(&mut self) {
        let at = Instant::now();
        let Transaction { recipients, content, .. } = std::mem::take(&mut self.transaction);
        self.shared.wait_as_told();
        self.shared.write_down(&content);
        self.shared.keep(Arrived { at, recipients, content: content.into() });
        self.server.accept(Instant::now());
    }
}

/// More than the whole story sends.
const KEPT_MAX: usize = 4_096;
/// Nobody looks at more.
const FILES_MAX: usize = 1_000;
/// Longer than the relay keeps an idle session open.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const RECEIVE_BYTES: usize = 16 << 10;
