//! One outbound session: opened to one of a route's next hops, used for many messages.
//!
//! The state machine ([`postern_smtp::client`]) knows the protocol, this driver moves its bytes.
//! Security: under `require-verified` nothing but the greeting, EHLO and STARTTLS is said before a
//! certificate was verified that names the host; credentials never go over plaintext; every part
//! of the content is checked once more for bare line ends before it is sent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postern_smtp::client::{
    BeginError, Client, ClientOptions, ClientTimeouts, Envelope, Event, Failure, Login, Outcome,
    Security, TlsPolicy,
};
use postern_smtp::data::WireFault;
use postern_smtp::reply::Reply;
use postern_smtp::server::Password;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{timeout, timeout_at};

use crate::config::{NextHop, NextHopTls, Route};
use crate::io::Io;
use crate::io::tls::{Chunk, Connection, TlsError};
use crate::spool::{Content, SpoolError};

/// An open session, ready for a transaction.
pub(super) struct Outbound {
    connection: Connection,
    client: Client,
    /// Bytes that were received and not yet read by the state machine.
    unread: Option<(Chunk, usize)>,
    next_hop: NextHop,
    send_timeout: Duration,
    /// Transactions so far.
    pub(super) transactions: u32,
}

/// Why a session could not be opened, or broke: told to the operator. Never final for the mail.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The host it concerns.
    pub(super) next_hop: Box<str>,
    /// What happened, in a sentence.
    pub(super) text: Box<str>,
}

impl Trouble {
    fn new(next_hop: &NextHop, text: impl Into<Box<str>>) -> Self {
        Self { next_hop: next_hop.to_string().into(), text: text.into() }
    }

    fn failure(next_hop: &NextHop, failure: &Failure) -> Self {
        Self::new(next_hop, failure.to_string())
    }
}

/// What became of one transaction.
#[derive(Debug)]
pub(super) struct Transacted {
    /// The reply to each recipient, as success or refusal; none where there was none.
    pub(super) recipients: Vec<Option<Result<Reply, Reply>>>,
    /// What became of the message as a whole.
    pub(super) end: End,
}

/// How a transaction ended.
#[derive(Debug)]
pub(super) enum End {
    /// The next hop answered.
    Answered(Outcome),
    /// The session broke; whether the message was taken is unknown only after the final dot.
    Broken(Trouble),
    /// This next hop cannot take this message at all.
    Unfit(BeginError),
    /// The stored content could not be read to its end. The data was not ended, so the next hop
    /// throws away what it has; the session is over.
    Unreadable(SpoolError),
}

/// What a route's sessions share.
#[derive(Clone)]
pub(super) struct RouteSetup {
    pub(super) route: Arc<Route>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) options: Arc<ClientOptions>,
}

impl RouteSetup {
    pub(super) fn new(route: &Arc<Route>, tls: Option<&Arc<ClientConfig>>, hostname: &str) -> Self {
        let timeouts = &route.timeouts;
        let options = ClientOptions {
            hostname: hostname.to_owned(),
            tls: match route.tls {
                NextHopTls::RequireVerified => TlsPolicy::Require,
                NextHopTls::Opportunistic => TlsPolicy::Opportunistic,
                NextHopTls::None => TlsPolicy::Never,
            },
            login: route.auth.as_ref().map(|login| Login {
                authcid: login.username.clone(),
                password: Password::new(login.password.expose().to_vec()),
            }),
            insecure_plaintext_auth: false,
            timeouts: ClientTimeouts {
                greeting: timeouts.command,
                hello: timeouts.command,
                mail: timeouts.command,
                rcpt: timeouts.command,
                data: timeouts.command,
                data_block: timeouts.data_block,
                end_of_data: timeouts.data_end,
                ..ClientTimeouts::default()
            },
        };
        Self { route: Arc::clone(route), tls: tls.cloned(), options: Arc::new(options) }
    }
}

impl Outbound {
    /// Opens a session to the first next hop that takes one.
    ///
    /// # Errors
    /// The [`Trouble`] with the last host that was tried.
    pub(super) async fn open(io: &Io, setup: &RouteSetup) -> Result<Self, Trouble> {
        let mut last = None;
        for next_hop in &setup.route.next_hops {
            match Self::open_to(io, setup, next_hop).await {
                Ok(session) => return Ok(session),
                Err(trouble) => last = Some(trouble),
            }
        }
        Err(last.unwrap_or_else(|| Trouble {
            next_hop: Box::default(),
            text: "the route has no next hop".into(),
        }))
    }

    async fn open_to(io: &Io, setup: &RouteSetup, next_hop: &NextHop) -> Result<Self, Trouble> {
        let addresses = timeout(setup.route.timeouts.connect, resolve(next_hop)).await;
        let addresses = addresses
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| Trouble::new(next_hop, format!("host not found: {error}")))?;
        let mut last = Trouble::new(next_hop, "host has no address");
        for address in addresses {
            let connecting = io.connect(address, None);
            match timeout(setup.route.timeouts.connect, connecting).await {
                Ok(Ok(stream)) => {
                    let session = Self {
                        connection: Connection::Plain(stream),
                        client: Client::new(
                            Arc::clone(&setup.options),
                            Security::Plain,
                            Instant::now(),
                        ),
                        unread: None,
                        next_hop: next_hop.clone(),
                        send_timeout: setup.route.timeouts.data_block,
                        transactions: 0,
                    };
                    return session.greet(setup).await;
                }
                Ok(Err(error)) => last = Trouble::new(next_hop, format!("connect: {error}")),
                Err(_) => last = Trouble::new(next_hop, "connect: timed out"),
            }
        }
        Err(last)
    }

    /// From the greeting to readiness, through STARTTLS and AUTH where they are due.
    async fn greet(mut self, setup: &RouteSetup) -> Result<Self, Trouble> {
        loop {
            match self.event().await? {
                Event::Ready => return Ok(self),
                Event::StartTls => self = self.start_tls(setup).await?,
                _ => return Err(self.trouble("the session ended before it began")),
            }
        }
    }

    async fn start_tls(self, setup: &RouteSetup) -> Result<Self, Trouble> {
        let Self { connection, mut client, next_hop, send_timeout, transactions, .. } = self;
        let fail = |text: String| Trouble::new(&next_hop, text);
        let config =
            setup.tls.clone().ok_or_else(|| fail("TLS is not set up for this route".into()))?;
        let name = ServerName::try_from(next_hop.host.clone())
            .map_err(|_| fail(format!("\"{}\" is no name for TLS", next_hop.host)))?;
        let handshake = connection.connect_tls(config, name);
        let connection = timeout(setup.route.timeouts.command, handshake)
            .await
            .map_err(|_| fail("TLS handshake: timed out".into()))?
            .map_err(|error| fail(tls_text(&error)))?;
        client.tls_started(Instant::now());
        Ok(Self { connection, client, unread: None, next_hop, send_timeout, transactions })
    }

    /// Sends one message.
    pub(super) async fn transact(&mut self, envelope: Envelope, content: Content) -> Transacted {
        let mut recipients = vec![None; envelope.recipients.len()];
        if let Err(error) = self.client.begin(envelope, Instant::now()) {
            return Transacted { recipients, end: End::Unfit(error) };
        }
        self.transactions += 1;
        let mut content = Some(content);
        loop {
            let event = match self.event().await {
                Ok(event) => event,
                Err(trouble) => return Transacted { recipients, end: End::Broken(trouble) },
            };
            match event {
                Event::Recipient { index, outcome } => {
                    if let Some(place) = recipients.get_mut(index) {
                        *place = Some(outcome);
                    }
                }
                Event::ContentNow => {
                    let Some(content) = content.take() else { continue };
                    if let Err(end) = self.send_content(content).await {
                        return Transacted { recipients, end };
                    }
                }
                Event::Finished(outcome) => {
                    return Transacted { recipients, end: End::Answered(outcome) };
                }
                Event::Ready => {}
                Event::StartTls | Event::Closed | Event::Failed(_) => {
                    let trouble = self.trouble("the session ended inside a transaction");
                    return Transacted { recipients, end: End::Broken(trouble) };
                }
            }
        }
    }

    /// Sends content and what ends it: as one vector, or piece by piece where it is read meanwhile.
    async fn send_content(&mut self, content: Content) -> Result<(), End> {
        let mut parts = content.head;
        // Kept until all is sent: its memory is that of the pieces.
        let mut rest = content.rest;
        while let Some(reader) = rest.as_mut().filter(|reader| !reader.is_over()) {
            self.check(&parts).map_err(End::Broken)?;
            self.send(std::mem::take(&mut parts)).await.map_err(End::Broken)?;
            parts.extend(reader.next().await.map_err(End::Unreadable)?);
        }
        // Every piece has verified: only now may the message be ended.
        self.check(&parts).map_err(End::Broken)?;
        self.client
            .end_of_data(Instant::now())
            .map_err(|fault| End::Broken(self.damaged(&fault)))?;
        parts.push(Bytes::from(self.client.transmit()));
        self.send(parts).await.map_err(End::Broken)
    }

    /// Nothing but wire form leaves.
    fn check(&mut self, parts: &[Bytes]) -> Result<(), Trouble> {
        let now = Instant::now();
        for part in parts {
            self.client.content(part, now).map_err(|fault| self.damaged(&fault))?;
        }
        Ok(())
    }

    fn damaged(&self, fault: &WireFault) -> Trouble {
        self.trouble(format!("stored content is damaged: {fault}"))
    }

    /// The session can take another message: ready, and nothing unexpected has arrived.
    pub(super) async fn is_ready(&mut self) -> bool {
        if self.client.is_ready() {
            return true;
        }
        // Readiness follows the reply to RSET after a refused transaction.
        matches!(self.event().await, Ok(Event::Ready))
    }

    /// Waits, without a message to send, until the server says or does something.
    pub(super) async fn idle(&mut self) {
        // Whatever comes while idle ends the session: a 421, garbage, or the end of the stream.
        if let Ok(chunk) = self.connection.receive().await {
            drop(chunk);
        }
    }

    /// Ends the session politely.
    pub(super) async fn quit(mut self) {
        self.client.quit(Instant::now());
        let goodbye = async {
            while let Ok(event) = self.event().await {
                if matches!(event, Event::Closed) {
                    break;
                }
            }
        };
        // A next hop that does not answer QUIT is not waited for.
        drop(timeout(QUIT_TIMEOUT, goodbye).await);
        drop(timeout(QUIT_TIMEOUT, self.connection.close()).await);
    }

    /// The host this session is with.
    pub(super) fn next_hop(&self) -> String {
        self.next_hop.to_string()
    }

    /// The next event of the state machine, moving bytes until there is one.
    async fn event(&mut self) -> Result<Event, Trouble> {
        loop {
            if self.client.has_output() {
                let commands = Bytes::from(self.client.transmit());
                self.send(vec![commands]).await?;
            }
            if let Some(event) = self.read() {
                return match event {
                    Event::Failed(failure) => Err(Trouble::failure(&self.next_hop, &failure)),
                    event => Ok(event),
                };
            }
            // What was read may have to be answered before more can come.
            if !self.client.has_output() {
                self.fill().await?;
            }
        }
    }

    /// Lets the state machine read what has arrived; gives the buffer back once it is read.
    fn read(&mut self) -> Option<Event> {
        let now = Instant::now();
        loop {
            let input = self.unread.as_ref().map_or(&[][..], |(chunk, at)| &chunk[*at..]);
            let is_last = input.is_empty();
            let received = self.client.receive(input, now);
            if let Some((chunk, at)) = &mut self.unread {
                *at += received.consumed;
                if *at >= chunk.len() {
                    self.unread = None;
                }
            }
            if received.event.is_some() || is_last {
                return received.event;
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Trouble> {
        let deadline = self.client.deadline().unwrap_or_else(|| Instant::now() + IDLE_LIMIT);
        match timeout_at(deadline.into(), self.connection.receive()).await {
            Ok(Ok(chunk)) if !chunk.is_empty() => {
                self.unread = Some((chunk, 0));
                Ok(())
            }
            Ok(Ok(_)) => match self.client.peer_closed() {
                Event::Failed(failure) => Err(Trouble::failure(&self.next_hop, &failure)),
                _ => Err(self.trouble("connection closed")),
            },
            Ok(Err(error)) => Err(self.trouble(format!("connection lost: {error}"))),
            Err(_) => match self.client.handle_timeout(Instant::now()) {
                Some(Event::Failed(failure)) => Err(Trouble::failure(&self.next_hop, &failure)),
                _ => Err(self.trouble("timed out")),
            },
        }
    }

    async fn send(&mut self, parts: Vec<Bytes>) -> Result<(), Trouble> {
        match timeout(self.send_timeout, self.connection.send(parts)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.trouble(format!("connection lost: {error}"))),
            Err(_) => Err(self.trouble("the next hop takes no more bytes: timed out")),
        }
    }

    fn trouble(&self, text: impl Into<Box<str>>) -> Trouble {
        Trouble::new(&self.next_hop, text)
    }
}

/// The addresses of a next hop. A literal needs no resolver.
async fn resolve(next_hop: &NextHop) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = next_hop.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, next_hop.port)]);
    }
    let found = tokio::net::lookup_host((next_hop.host.as_str(), next_hop.port)).await?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

fn tls_text(error: &io::Error) -> String {
    match TlsError::of(error) {
        Some(error) => format!("TLS handshake: {error}"),
        None => format!("TLS handshake: connection lost: {error}"),
    }
}

/// Addresses of one host that are tried before the next host is.
const ADDRESSES_MAX: usize = 8;
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Stands in where the state machine has no deadline of its own.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
