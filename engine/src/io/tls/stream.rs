//! A TLS session on a stream: the shape of a plain stream, with plaintext in and out.
//!
//! Invariants: nothing but [`Session`] touches the bytes between stream and caller. A receive that is
//! dropped loses nothing, for all it waits for is the stream's own receive. A send that is dropped
//! leaves the session unable to send, because the peer may have half a record.
//!
//! Bounds: a send holds at most [`RECORDS_PER_SEND`] sealed records at a time; one receive keeps at
//! most one lease. Deadlines are the caller's, apart from [`PARTING_TIME`] for last words.

use std::{
    collections::VecDeque, fmt, io, mem, net::SocketAddr, ops::Deref, ops::Range, rc::Rc,
    sync::Arc, time::Duration,
};

use bytes::Bytes;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::time::timeout;

use super::{
    TlsError, TlsInfo, count,
    session::{Outcome, PartQueue, Session},
};
use crate::io::{Lease, Stream};

/// Sealed records handed to the stream at once: 64 KiB of plaintext.
const RECORDS_PER_SEND: usize = 4;

/// How long an alert or a close_notify may take to leave: the peer may have stopped reading.
const PARTING_TIME: Duration = Duration::from_secs(1);

/// A stream with TLS on it, either side.
pub struct TlsStream {
    stream: Stream,
    session: Session,
    /// Decrypted and not taken yet.
    ready: VecDeque<Chunk>,
    /// What follows the last ready chunk.
    end: Option<End>,
    /// A send was begun and has not been seen to end well.
    is_sending: bool,
}

#[derive(Clone)]
enum End {
    /// The peer said close_notify.
    Closed,
    Failed(TlsError),
}

impl TlsStream {
    /// Answers a TLS handshake: at once on an implicit-TLS port, or after the `220` to STARTTLS.
    ///
    /// The stream must have nothing left of what came before: what the client sent behind STARTTLS
    /// is the caller's to discard. The caller sets the deadline; dropping the future closes the
    /// stream.
    pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> io::Result<Self> {
        Self::shake_hands(stream, Session::server(config)?).await
    }

    /// Opens a TLS handshake: at once, or after the server's `220` to STARTTLS. `name` is what the
    /// certificate must carry, and is sent as SNI if it is a host name.
    pub async fn connect(
        stream: Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        Self::shake_hands(stream, Session::client(config, name)?).await
    }

    async fn shake_hands(stream: Stream, session: Session) -> io::Result<Self> {
        let ready = VecDeque::new();
        let mut tls = Self { stream, session, ready, end: None, is_sending: false };
        loop {
            let outgoing = tls.session.take_outgoing();
            if !outgoing.is_empty() {
                tls.stream.send(vec![Bytes::from(outgoing)]).await?;
            }
            if tls.session.is_established() {
                let is_resumed = tls.info().is_resumed;
                count(|counters| {
                    counters.handshakes += 1;
                    counters.resumptions += u64::from(is_resumed);
                });
                return Ok(tls);
            }
            match &tls.end {
                None => tls.fill().await?,
                Some(End::Closed) => return Err(TlsError::Truncated.into()),
                Some(End::Failed(error)) => return Err(error.clone().into()),
            }
        }
    }

    /// Waits for plaintext. An empty chunk means that the peer has said close_notify and will send no
    /// more; an end without it is [`TlsError::Truncated`]. Dropping the future loses nothing.
    pub async fn receive(&mut self) -> io::Result<Chunk> {
        loop {
            if let Some(chunk) = self.next_ready() {
                return Ok(chunk);
            }
            match &self.end {
                None => self.fill().await?,
                Some(End::Closed) => return Ok(Chunk::empty()),
                Some(End::Failed(error)) => return Err(error.clone().into()),
            }
        }
    }

    /// Encrypts and sends `parts` as one run of bytes. Small parts share a record.
    ///
    /// If the future is dropped before it is ready, every later send fails.
    pub async fn send(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        if self.is_sending {
            return Err(TlsError::SendAbandoned.into());
        }
        let mut parts = PartQueue::new(parts);
        let sealed_bytes = parts.bytes() as u64;
        while parts.bytes() > 0 {
            let sealed = self.session.seal(&mut parts, RECORDS_PER_SEND)?;
            self.is_sending = true;
            self.stream.send(vec![Bytes::from(sealed)]).await?;
            self.is_sending = false;
        }
        count(|counters| {
            counters.sealed_bytes += sealed_bytes;
            counters.gathered_bytes += parts.gathered_bytes() as u64;
        });
        Ok(())
    }

    /// Says close_notify, if the peer takes it within a second, and closes the stream.
    pub async fn close(mut self) {
        let notify = self.session.close_notify();
        self.part(notify).await;
        self.stream.close().await;
    }

    /// What the session agreed on.
    pub fn info(&self) -> TlsInfo {
        TlsInfo::of(self.session.facts(), self.session.sni())
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr()
    }

    /// Our address.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr()
    }

    fn next_ready(&mut self) -> Option<Chunk> {
        let chunk = self.ready.pop_front();
        if self.ready.is_empty() {
            // An idle session holds no memory for what once was ready.
            self.ready = VecDeque::new();
        }
        chunk
    }

    /// Waits for one lease and decrypts all of it.
    async fn fill(&mut self) -> io::Result<()> {
        let lease = self.stream.receive().await?;
        if lease.is_empty() {
            self.fail(TlsError::Truncated);
            return Ok(());
        }
        self.absorb(lease);
        if matches!(self.end, Some(End::Failed(_))) {
            let alert = self.session.take_outgoing();
            self.part(alert).await;
        }
        Ok(())
    }

    /// Decrypts the records of `lease` where they lie; their plaintexts share it from then on.
    fn absorb(&mut self, mut lease: Lease) {
        let mut places = Vec::new();
        let mut read = 0;
        while read < lease.len() && self.end.is_none() {
            match self.session.receive(&mut lease[read..]) {
                Ok(received) => {
                    self.sort(received.outcome, read, &mut places);
                    read += received.consumed;
                }
                Err(error) => self.fail(error),
            }
        }
        if places.is_empty() {
            return;
        }
        let lease = Rc::new(lease);
        let mut in_place_bytes = 0;
        for range in places {
            in_place_bytes += range.len() as u64;
            self.ready.push_back(Chunk(Bytewise::InLease(Rc::clone(&lease), range)));
        }
        count(|counters| counters.in_place_bytes += in_place_bytes);
    }

    /// `read` is where in the lease the outcome's input began.
    fn sort(&mut self, outcome: Outcome, read: usize, places: &mut Vec<Range<usize>>) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::InPlace(range) => places.push(range.start + read..range.end + read),
            Outcome::Reassembled(bytes, range) => {
                count(|counters| counters.reassembled_bytes += range.len() as u64);
                self.ready.push_back(Chunk(Bytewise::Gathered(bytes, range)));
            }
            Outcome::Closed => self.end = Some(End::Closed),
        }
    }

    fn fail(&mut self, error: TlsError) {
        count(|counters| counters.failures += 1);
        self.end = Some(End::Failed(error));
    }

    /// Sends last words, without hanging on a peer that has stopped reading.
    async fn part(&mut self, words: Vec<u8>) {
        if words.is_empty() || mem::replace(&mut self.is_sending, true) {
            return;
        }
        // The session is over either way: neither a failure nor a timeout changes anything.
        let _said = timeout(PARTING_TIME, self.stream.send(vec![Bytes::from(words)])).await;
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsStream({})", self.peer_addr())
    }
}

/// Received bytes, where they lie: a whole lease, or the plaintext of one record inside of one.
pub struct Chunk(Bytewise);

enum Bytewise {
    Plain(Lease),
    InLease(Rc<Lease>, Range<usize>),
    Gathered(Vec<u8>, Range<usize>),
    Empty,
}

impl Chunk {
    fn empty() -> Self {
        Self(Bytewise::Empty)
    }
}

impl fmt::Debug for Chunk {
    /// Tells the length and never the bytes: they are mail, or passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

impl From<Lease> for Chunk {
    fn from(lease: Lease) -> Self {
        Self(Bytewise::Plain(lease))
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytewise::Plain(lease) => lease,
            Bytewise::InLease(lease, range) => &lease[range.clone()],
            Bytewise::Gathered(bytes, range) => &bytes[range.clone()],
            Bytewise::Empty => &[],
        }
    }
}

#[cfg(test)]
mod tests;
