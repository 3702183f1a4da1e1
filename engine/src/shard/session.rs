//! One inbound session: bytes to the state machine, its events to the desk, replies back.
//!
//! The state machine decides nothing that needs the world; the [`Desk`] does. What takes time (a
//! password, a durable write) is awaited here, with the received chunk released first, so that a
//! waiting session holds no receive buffer.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postern_smtp::reply::{Enhanced, Reply};
use postern_smtp::server::{CloseReason, Event, Security, Server};
use rustls::ServerConfig;
use tokio::time::timeout;

use super::Shard;
use super::counters::{add, take};
use super::desk::Desk;
use super::listener::Guest;
use super::roster::{SessionOrder, SessionSeat};
use crate::io::Stream;
use crate::io::tls::{Chunk, Connection, TlsStream};

/// Serves one accepted connection to its end.
///
/// An idle session is this future and little else, so whatever is rare and large is boxed: only what
/// waits for bytes stands in it (see the test below).
pub(super) fn serve(shard: Rc<Shard>, listener: Guest, stream: Stream) -> impl Future<Output = ()> {
    let counted = OpenSession::new(Rc::clone(&shard));
    let opening = Box::pin(open(shard, listener, stream));
    async move {
        if let Some(mut session) = opening.await {
            session.run().await;
        }
        drop(counted);
    }
}

/// The session, once it can be talked in.
async fn open(shard: Rc<Shard>, listener: Guest, stream: Stream) -> Option<Box<Session>> {
    let client = stream.peer_addr().ip();
    let (connection, security) = match listener.implicit_tls() {
        None => (Connection::Plain(stream), Security::Plain),
        Some(config) => match handshake(stream, config, listener.handshake_timeout()).await {
            Ok(stream) => (Connection::Tls(Box::new(stream)), Security::Tls),
            Err(error) => {
                shard.tls_failed(client, &error);
                return None;
            }
        },
    };
    let server = Server::new(listener.server_options(), security, Instant::now());
    let seat = shard.roster.sit();
    let mut desk = Desk::new(Rc::clone(&shard), client, seat.clone());
    desk.tls_started(connection.tls_info());
    Some(Box::new(Session { shard, connection: Some(connection), server, desk, listener, seat }))
}

struct Session {
    shard: Rc<Shard>,
    /// `None` only while a handshake owns the stream.
    connection: Option<Connection>,
    server: Server,
    desk: Desk,
    listener: Guest,
    seat: SessionSeat,
}

/// What woke a waiting session.
enum Wake {
    Chunk(Chunk),
    Order(SessionOrder),
    /// Others lack the memory this session's message holds.
    Shortage,
    Deadline,
    Gone,
}

/// Whether the session goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Open,
    Over,
}

impl Session {
    async fn run(&mut self) {
        loop {
            if Box::pin(self.flush()).await.is_err() || self.server.is_closed() {
                break;
            }
            let flow = match self.wait().await {
                Wake::Chunk(chunk) => Box::pin(self.digest(chunk)).await,
                Wake::Order(order) => self.obey(order),
                Wake::Shortage => self.spill().await,
                Wake::Deadline => {
                    self.server.handle_timeout(Instant::now());
                    Flow::Open
                }
                Wake::Gone => Flow::Over,
            };
            if flow == Flow::Over {
                break;
            }
        }
        Box::pin(self.end()).await;
    }

    async fn end(&mut self) {
        // The last reply may not reach a client that is gone.
        drop(self.flush().await);
        self.desk.end();
        if let Some(connection) = self.connection.take() {
            drop(timeout(CLOSE_TIMEOUT, connection.close()).await);
        }
    }

    async fn wait(&mut self) -> Wake {
        let Some(connection) = &mut self.connection else { return Wake::Gone };
        let deadline = self.server.deadline().unwrap_or_else(|| Instant::now() + ANSWER_TIMEOUT);
        let holds_memory = self.desk.holds_memory();
        tokio::select! {
            biased;
            order = self.seat.order() => Wake::Order(order),
            () = self.desk.shortage(), if holds_memory => Wake::Shortage,
            received = tokio::time::timeout_at(deadline.into(), connection.receive()) => {
                match received {
                    Err(_) => Wake::Deadline,
                    Ok(Ok(chunk)) if !chunk.is_empty() => Wake::Chunk(chunk),
                    Ok(_) => Wake::Gone,
                }
            }
        }
    }

    /// Sends the replies that wait. A client that does not read them is given up.
    async fn flush(&mut self) -> io::Result<()> {
        if !self.server.has_output() {
            return Ok(());
        }
        let replies = Bytes::from(self.server.transmit());
        let Some(connection) = &mut self.connection else { return Ok(()) };
        timeout(SEND_TIMEOUT, connection.send(vec![replies])).await?
    }

    fn obey(&mut self, order: SessionOrder) -> Flow {
        let reply = match order {
            SessionOrder::Cut => CUT,
            SessionOrder::Drain => DRAINING,
        };
        if order == SessionOrder::Cut {
            self.server.refuse_message(CUT);
        }
        self.server.shutdown(reply);
        Flow::Open
    }

    /// A client that pauses in the middle of its message must not keep memory from those that send.
    async fn spill(&mut self) -> Flow {
        if let Err(reply) = self.desk.spill().await {
            self.server.refuse_message(reply);
        }
        Flow::Open
    }

    /// Feeds a chunk to the state machine and does what its events ask for.
    async fn digest(&mut self, chunk: Chunk) -> Flow {
        let mut input = Input { bytes: Held::Chunk(chunk), at: 0 };
        loop {
            let now = Instant::now();
            let received = self.server.receive(input.rest(), now);
            let consumed = received.consumed;
            let Some(event) = received.event else {
                input.at += consumed;
                if input.is_empty() {
                    return Flow::Open;
                }
                continue;
            };
            match event {
                Event::Content(wire) => {
                    if let Err(reply) = self.desk.content(wire).await {
                        self.server.refuse_message(reply);
                    }
                    input.at += consumed;
                    continue;
                }
                Event::Hello(hello) => self.desk.hello(hello),
                Event::Mail(mail) => {
                    let decision = self.desk.mail(&mail);
                    self.decide(decision, now);
                }
                Event::Rcpt(recipient) => {
                    let decision = self.desk.recipient(&recipient);
                    self.decide(decision, now);
                }
                Event::Data => {
                    let decision = self.desk.data();
                    self.decide(decision, now);
                }
                Event::MessageRefused(refusal) => self.desk.message_refused(refusal),
                Event::Reset => self.desk.reset(),
                Event::Flush => {
                    input.at += consumed;
                    if self.flush().await.is_err() {
                        return Flow::Over;
                    }
                    continue;
                }
                Event::Close(reason) => return self.close(reason),
                Event::Auth(credentials) => {
                    input.release(consumed);
                    let decision = self.desk.authenticate(credentials).await;
                    self.decide(decision, Instant::now());
                    continue;
                }
                Event::EndOfData(end) => {
                    input.release(consumed);
                    match self.desk.end_of_data(end).await {
                        Ok(reply) => self.server.accept_with(reply, Instant::now()),
                        Err(reply) => self.server.refuse(reply, Instant::now()),
                    }
                    continue;
                }
                Event::StartTls => {
                    input.at += consumed;
                    // Bytes that came along in clear are not part of the handshake.
                    if !input.is_empty() {
                        return Flow::Over;
                    }
                    drop(input);
                    return self.start_tls().await;
                }
            }
            input.at += consumed;
        }
    }

    fn decide(&mut self, decision: Result<(), Reply>, now: Instant) {
        match decision {
            Ok(()) => self.server.accept(now),
            Err(reply) => self.server.refuse(reply, now),
        }
    }

    fn close(&mut self, reason: CloseReason) -> Flow {
        self.desk.closed(reason);
        Flow::Over
    }

    async fn start_tls(&mut self) -> Flow {
        let Some(config) = self.listener.tls_config() else {
            self.server.refuse(TLS_UNAVAILABLE, Instant::now());
            return Flow::Open;
        };
        self.server.accept(Instant::now());
        if self.flush().await.is_err() {
            return Flow::Over;
        }
        let Some(Connection::Plain(stream)) = self.connection.take() else { return Flow::Over };
        let client = stream.peer_addr().ip();
        match handshake(stream, config, self.listener.handshake_timeout()).await {
            Ok(stream) => {
                self.connection = Some(Connection::Tls(Box::new(stream)));
                self.server.tls_started(Instant::now());
                self.desk.tls_started(self.connection.as_ref().and_then(Connection::tls_info));
                Flow::Open
            }
            Err(error) => {
                self.shard.tls_failed(client, &error);
                Flow::Over
            }
        }
    }
}

/// The server's side of a handshake, or why there is no session.
async fn handshake(
    stream: Stream,
    config: Arc<ServerConfig>,
    limit: Duration,
) -> Result<TlsStream, String> {
    match timeout(limit, TlsStream::accept(stream, config)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timed out".to_owned()),
    }
}

/// Received bytes and how far they are digested.
struct Input {
    bytes: Held,
    at: usize,
}

enum Held {
    /// In the receive buffer.
    Chunk(Chunk),
    /// Pipelined bytes kept aside while something takes time.
    Aside(Box<[u8]>),
}

impl Input {
    fn rest(&self) -> &[u8] {
        match &self.bytes {
            Held::Chunk(chunk) => &chunk[self.at..],
            Held::Aside(bytes) => &bytes[self.at..],
        }
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Gives the receive buffer back, keeping what is left of it.
    fn release(&mut self, consumed: usize) {
        self.at += consumed;
        if let Held::Chunk(_) = self.bytes {
            self.bytes = Held::Aside(self.rest().into());
            self.at = 0;
        }
    }
}

/// Counts an open session, however it ends.
struct OpenSession {
    shard: Rc<Shard>,
}

impl OpenSession {
    fn new(shard: Rc<Shard>) -> Self {
        add(&shard.counters.sessions_open, 1);
        add(&shard.counters.sessions_total, 1);
        Self { shard }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        take(&self.shard.counters.sessions_open);
        if std::thread::panicking() {
            add(&self.shard.counters.sessions_panicked, 1);
        }
    }
}

/// The application was cut off while this session was open.
pub(super) const CUT: Reply = Reply::fixed(
    421,
    Enhanced::new(4, 7, 0),
    "This application is cut off by the operator, closing",
);
const DRAINING: Reply =
    Reply::fixed(421, Enhanced::new(4, 3, 2), "Relay is shutting down, try again later");
const TLS_UNAVAILABLE: Reply =
    Reply::fixed(454, Enhanced::new(4, 7, 0), "TLS is not available now, try again later");

/// Replies are short: a client that takes none of them for this long has stopped reading.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Stands in where the state machine has no deadline of its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Most bytes of an idle session's future and state: with its places in the driver and in the roster
/// it is meant to stay near 2 KiB.
#[cfg(test)]
const SESSION_BYTES_MAX: usize = 1_152;

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_session_is_small() {
        let (future, state) = (size_of_future(serve), size_of::<Session>());
        assert!(future + state <= SESSION_BYTES_MAX, "future {future} bytes, state {state} bytes");
    }
}
