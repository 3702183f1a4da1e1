//! A receiving server in a process of its own: the relay's session state machine around a driver, and
//! nothing behind it. Every message is accepted and forgotten.
//!
//! What differs between two of them is the I/O alone. The process is this program again, by its
//! hidden command `sink`; it prints its address, and its counters at each line on standard input.
#![allow(clippy::print_stdout, reason = "the parent reads it")]

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clap::ValueEnum;
use postern::io::{Choice, Io, IoOptions, Stream};
use postern_smtp::server::{Event, Security, Server, ServerOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::cpu::Tree;
use super::place;
use crate::peers::tokio_uring;

/// Receive buffer of each connection with the peer's driver, where messages are large.
pub const LARGE_BUFFER: usize = 64 << 10;
/// And where they are small.
pub const SMALL_BUFFER: usize = 16 << 10;

/// What drives a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// The relay's own ring.
    Uring,
    /// The relay's fallback.
    Epoll,
    /// The peer.
    TokioUring,
}

/// What a sink has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages accepted.
    pub messages: u64,
    /// System calls for I/O, as far as the driver counts them.
    pub system_calls: u64,
}

/// A sink's process; ends with the value.
pub struct Sink {
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Sink {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot be started; the kernel refuses io_uring, say.
    pub fn start(driver: Driver, buffer: usize) -> io::Result<Self> {
        let driver = driver.to_possible_value().map_or_else(String::new, |v| v.get_name().into());
        let mut child = Command::new(std::env::current_exe()?)
            .args(["sink", &driver, &buffer.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a pipe is missing"));
        };
        let mut answers = BufReader::new(answers);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let addr = line.trim().parse().map_err(|_| io::Error::other("the sink did not start"))?;
        Ok(Self { addr, child, ask, answers })
    }

    /// The process.
    pub fn tree(&self) -> Tree {
        Tree { pid: self.child.id() }
    }

    /// Its counters now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn counts(&mut self) -> io::Result<Counts> {
        self.ask.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The sink's process itself, until its parent closes standard input.
///
/// # Errors
/// When the driver or the address is refused.
pub fn serve(driver: Driver, buffer: usize) -> io::Result<()> {
    place::pin(place::SERVER_CORE);
    let (asked, questions) = mpsc::channel(1);
    std::thread::spawn(move || {
        for _line in io::stdin().lock().lines() {
            if asked.blocking_send(()).is_err() {
                break;
            }
        }
    });
    match driver {
        Driver::TokioUring => tokio_uring::serve(buffer, questions),
        Driver::Uring => serve_ours(Choice::Uring, questions),
        Driver::Epoll => serve_ours(Choice::Epoll, questions),
    }
}

fn serve_ours(choice: Choice, mut questions: mpsc::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let options = IoOptions { choice, ..IoOptions::default() };
        let io = Io::start(&options).map_err(|refused| io::Error::other(refused.to_string()))?;
        let mut listener = io.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let addr = listener.local_addr();
        let messages = Rc::new(Cell::new(0));
        let counted = Rc::clone(&messages);
        tokio::task::spawn_local(async move {
            let options = session_options();
            while let Ok((stream, _)) = listener.accept().await {
                let session = Session::new(Arc::clone(&options), Rc::clone(&counted));
                tokio::task::spawn_local(session.run(stream));
            }
        });
        println!("{addr}");
        while questions.recv().await.is_some() {
            let counts = Counts { messages: messages.get(), system_calls: io.stats().system_calls };
            println!("{}", serde_json::to_string(&counts)?);
        }
        Ok(())
    }))
}

/// A listener's options without what a sink does not do.
pub fn session_options() -> Arc<ServerOptions> {
    Arc::new(ServerOptions {
        auth: false,
        starttls: false,
        transactions_max: u32::MAX,
        ..ServerOptions::default()
    })
}

/// One session, without its socket.
pub struct Session {
    server: Server,
    messages: Rc<Cell<u64>>,
}

impl Session {
    /// A session whose greeting waits.
    pub fn new(options: Arc<ServerOptions>, messages: Rc<Cell<u64>>) -> Self {
        Self { server: Server::new(options, Security::Plain, Instant::now()), messages }
    }

    /// What is to be sent now.
    pub fn replies(&mut self) -> Vec<u8> {
        self.server.transmit()
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.server.is_closed()
    }

    /// Takes what was received and accepts whatever it asks for. Returns false where replies must be
    /// sent before it can go on; `at` says how far it came.
    pub fn digest(&mut self, chunk: &[u8], at: &mut usize) -> bool {
        let now = Instant::now();
        loop {
            let received = self.server.receive(&chunk[*at..], now);
            *at += received.consumed;
            match received.event {
                None if *at == chunk.len() => return true,
                None | Some(Event::Hello(_) | Event::Content(_) | Event::MessageRefused(_)) => {}
                Some(Event::Reset) => {}
                Some(Event::Close(_)) => return true,
                Some(Event::Flush) => return false,
                Some(Event::EndOfData(_)) => {
                    self.messages.set(self.messages.get() + 1);
                    self.server.accept(now);
                }
                Some(_) => self.server.accept(now),
            }
        }
    }

    async fn run(mut self, mut stream: Stream) {
        // How a client goes away is its own affair.
        drop(self.converse(&mut stream).await);
        stream.close().await;
    }

    async fn converse(&mut self, stream: &mut Stream) -> io::Result<()> {
        loop {
            if self.server.has_output() {
                stream.send(vec![Bytes::from(self.replies())]).await?;
            }
            if self.is_over() {
                return Ok(());
            }
            let chunk = stream.receive().await?;
            if chunk.is_empty() {
                return Ok(());
            }
            let mut at = 0;
            while !self.digest(&chunk, &mut at) {
                stream.send(vec![Bytes::from(self.replies())]).await?;
            }
        }
    }
}
