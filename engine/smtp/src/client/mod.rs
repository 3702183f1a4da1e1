//! A client's session as a pure state machine: the half of SMTP that delivers.
//!
//! # Driving it
//! ```text
//! let mut client = Client::new(options, Security::Plain, now);
//! loop {
//!     send(client.transmit());
//!     let chunk = receive().or_timeout(client.deadline());   // on timeout: handle_timeout(now)
//!     each event of client.receive(&chunk[at..], now), until none is left and all is consumed:
//!         StartTls      => handshake, then client.tls_started(now)
//!         Ready         => client.begin(envelope, now), or client.quit(now)
//!         Recipient     => note what became of this recipient
//!         ContentNow    => for each part: client.content(part, now)?; send(part)
//!                          then client.end_of_data(now)?
//!         Finished      => note what became of the message; Ready follows if the session lives
//!         Failed, Closed => close the connection
//! }
//! ```
//!
//! # Invariants
//! - One struct per protocol state; replies are matched to commands in the order they were sent.
//! - Parameters are sent only for extensions that the server offered in the present security.
//! - Nothing that is not wire form passes [`Client::content`]; nothing with a control character
//!   passes [`Client::begin`].
//!
//! # Security
//! Bytes behind the 220 to STARTTLS fail the session, since they would be read as if TLS had
//! protected them. With [`TlsPolicy::Require`] a server that leaves STARTTLS out gets no mail.
//! Credentials are sent under TLS only, unless told otherwise.
//!
//! # Failures
//! What fails one message is an [`Outcome`]; what ends the session is a [`Failure`], which says
//! whether trying again makes sense.

mod capabilities;
mod envelope;
mod event;
mod opening;
mod options;
mod transaction;

use std::sync::Arc;
use std::time::Instant;

pub use self::capabilities::Capabilities;
pub use self::envelope::{BeginError, Envelope, Recipient};
pub use self::event::{Cause, Event, Failure, FailureClass, Outcome, Phase, Stage};
pub use self::options::{ClientOptions, ClientTimeouts, Login, PIPELINE_COMMANDS_MAX, TlsPolicy};
pub use crate::server::{Password, Security};

use self::opening::{AwaitingTls, ExpectAuth, ExpectEhlo, ExpectGreeting, ExpectHelo, ExpectTls};
use self::transaction::{Commands, Content, ExpectFinal, ExpectReset};
use crate::data::WireFault;
use crate::reply::{Reply, ReplyReader};

/// What one call of [`Client::receive`] did.
#[derive(Debug)]
pub struct Received {
    /// Bytes of input that are done with.
    pub consumed: usize,
    /// What happened, if anything.
    pub event: Option<Event>,
}

/// One session.
#[derive(Debug)]
pub struct Client {
    reader: ReplyReader,
    state: State,
    shared: Shared,
}

/// The protocol state.
#[derive(Debug)]
enum State {
    ExpectGreeting(ExpectGreeting),
    ExpectEhlo(ExpectEhlo),
    ExpectHelo(ExpectHelo),
    ExpectTls(ExpectTls),
    AwaitingTls(AwaitingTls),
    ExpectAuth(ExpectAuth),
    Ready,
    Commands(Box<Commands>),
    Content(Box<Content>),
    ExpectFinal(ExpectFinal),
    ExpectReset(ExpectReset),
    ExpectQuit,
    Closed,
}

/// What the session knows whatever its state.
#[derive(Debug)]
struct Shared {
    options: Arc<ClientOptions>,
    security: Security,
    capabilities: Capabilities,
    authenticated: bool,
    waiting_since: Instant,
    /// An event that follows the one just given.
    pending: Option<Event>,
    output: Vec<u8>,
}

/// What a state made of a reply.
struct Step {
    state: State,
    event: Option<Event>,
}

impl Step {
    fn to(state: State) -> Self {
        Self { state, event: None }
    }

    fn with(state: State, event: Event) -> Self {
        Self { state, event: Some(event) }
    }

    fn fail(phase: Phase, cause: Cause) -> Self {
        Self::with(State::Closed, Event::Failed(Failure { phase, cause }))
    }
}

impl Client {
    /// A session that awaits the server's greeting; the connection was just made.
    pub fn new(options: Arc<ClientOptions>, security: Security, now: Instant) -> Self {
        let shared = Shared {
            options,
            security,
            capabilities: Capabilities::default(),
            authenticated: false,
            waiting_since: now,
            pending: None,
            output: Vec::new(),
        };
        Self { reader: ReplyReader::new(), state: State::ExpectGreeting(ExpectGreeting), shared }
    }

    /// Takes at most one reply line from `input`. Call again until a call consumes the rest of the
    /// input and gives no event.
    pub fn receive(&mut self, input: &[u8], now: Instant) -> Received {
        if let Some(event) = self.shared.pending.take() {
            return Received { consumed: 0, event: Some(event) };
        }
        if matches!(self.state, State::Closed) || input.is_empty() {
            return Received { consumed: input.len(), event: None };
        }
        if matches!(self.state, State::AwaitingTls(_)) {
            return self.fail(input.len(), Cause::Injection);
        }
        match self.reader.receive(input) {
            Err(fault) => self.fail(input.len(), Cause::Fault(fault)),
            Ok((consumed, None)) => Received { consumed, event: None },
            Ok((consumed, Some(reply))) => {
                let more = consumed < input.len();
                Received { consumed, event: self.take_reply(reply, more, now) }
            }
        }
    }

    fn take_reply(&mut self, reply: Reply, more: bool, now: Instant) -> Option<Event> {
        let phase = self.phase();
        self.shared.waiting_since = now;
        let shared = &mut self.shared;
        let state = std::mem::replace(&mut self.state, State::Closed);
        // 421 may answer any command, and ends the session (RFC 5321 3.8). To the end of data it is
        // the answer about the message as well.
        let ends = reply.code == 421
            && !matches!(state, State::ExpectFinal(_) | State::ExpectQuit | State::Closed);
        let step = if ends {
            Step::fail(phase, Cause::Reply(reply))
        } else {
            match state {
                State::ExpectGreeting(state) => state.reply(shared, reply),
                State::ExpectEhlo(state) => state.reply(shared, reply),
                State::ExpectHelo(state) => state.reply(shared, reply),
                State::ExpectTls(state) => state.reply(shared, reply, more),
                State::ExpectAuth(state) => state.reply(shared, reply),
                State::Commands(state) => state.reply(shared, reply),
                State::ExpectFinal(state) => state.reply(shared, reply),
                State::ExpectReset(state) => state.reply(reply),
                State::ExpectQuit => Step::with(State::Closed, Event::Closed),
                // A server speaks out of turn only to give up.
                State::AwaitingTls(_) | State::Ready | State::Content(_) | State::Closed => {
                    Step::fail(phase, Cause::Reply(reply))
                }
            }
        };
        self.state = step.state;
        step.event
    }

    fn fail(&mut self, consumed: usize, cause: Cause) -> Received {
        let event = self.failed(cause);
        Received { consumed, event: Some(event) }
    }

    fn failed(&mut self, cause: Cause) -> Event {
        let phase = self.phase();
        self.state = State::Closed;
        Event::Failed(Failure { phase, cause })
    }

    /// Begins a transaction; allowed once after each [`Event::Ready`].
    ///
    /// # Errors
    /// A [`BeginError`]; nothing was sent and the session stays ready.
    pub fn begin(&mut self, envelope: Envelope, now: Instant) -> Result<(), BeginError> {
        if !matches!(self.state, State::Ready) {
            return Err(BeginError::NotReady);
        }
        envelope.check(&self.shared.capabilities)?;
        // Readiness may not have been told yet; it is used up now.
        self.shared.pending = None;
        self.shared.waiting_since = now;
        let commands = Commands::start(envelope, &mut self.shared);
        self.state = State::Commands(Box::new(commands));
        Ok(())
    }

    /// Checks a part of the content that the caller is about to send, after
    /// [`Event::ContentNow`]. Parts must follow one another without gap.
    ///
    /// # Errors
    /// A [`WireFault`]: the part must not be sent, and the connection must be closed without ending
    /// the data, so that the server throws the message away. The session is over.
    ///
    /// Cost: one vectorised pass over the part.
    pub fn content(&mut self, part: &[u8], now: Instant) -> Result<(), WireFault> {
        let State::Content(content) = &mut self.state else {
            debug_assert!(false, "content outside of its phase");
            return Err(WireFault::EarlyEnd);
        };
        self.shared.waiting_since = now;
        content.check(part).inspect_err(|_| self.state = State::Closed)
    }

    /// Ends the content: what ends it waits in [`transmit`](Self::transmit).
    ///
    /// # Errors
    /// A [`WireFault`], as for [`content`](Self::content).
    pub fn end_of_data(&mut self, now: Instant) -> Result<(), WireFault> {
        let State::Content(content) = &self.state else {
            debug_assert!(false, "end of data outside of its phase");
            return Err(WireFault::EarlyEnd);
        };
        let terminator = content.terminator().inspect_err(|_| self.state = State::Closed)?;
        self.shared.waiting_since = now;
        self.shared.output.extend_from_slice(terminator);
        self.state = State::ExpectFinal(ExpectFinal::message());
        Ok(())
    }

    /// Says QUIT; [`Event::Closed`] follows. Anywhere but in readiness the session just ends.
    pub fn quit(&mut self, now: Instant) {
        self.shared.waiting_since = now;
        if matches!(self.state, State::Ready) {
            self.shared.output.extend_from_slice(b"QUIT\r\n");
            self.shared.pending = None;
            self.state = State::ExpectQuit;
        } else {
            self.state = State::Closed;
        }
    }

    /// The commands that wait to be sent. Empty when there are none; owns its memory.
    #[must_use]
    pub fn transmit(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.shared.output)
    }

    /// Whether commands wait to be sent.
    pub fn has_output(&self) -> bool {
        !self.shared.output.is_empty()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); none where nothing is awaited.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = matches!(self.state, State::Closed | State::Ready | State::AwaitingTls(_));
        (!idle).then(|| self.shared.waiting_since + self.shared.options.timeouts.of(self.phase()))
    }

    /// Fails the session if its deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Event> {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        due.then(|| self.failed(Cause::Timeout))
    }

    /// The server closed the connection, or it broke.
    pub fn peer_closed(&mut self) -> Event {
        if matches!(self.state, State::ExpectQuit | State::Closed) {
            self.state = State::Closed;
            return Event::Closed;
        }
        self.failed(Cause::Disconnected)
    }

    /// The TLS handshake is done: EHLO is said again (RFC 3207 4.2).
    pub fn tls_started(&mut self, now: Instant) {
        debug_assert!(matches!(self.state, State::AwaitingTls(_)), "TLS that nobody asked for");
        self.reader = ReplyReader::new();
        self.shared.security = Security::Tls;
        self.shared.capabilities = Capabilities::default();
        self.shared.waiting_since = now;
        self.state = self.shared.say_ehlo();
    }

    /// What the server offers; empty before its EHLO reply.
    pub fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    /// Whether the session is protected.
    pub fn security(&self) -> Security {
        self.shared.security
    }

    /// Whether a transaction may begin.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// What is awaited.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::ExpectGreeting(_) => Phase::Greeting,
            State::ExpectEhlo(_) | State::ExpectHelo(_) => Phase::Hello,
            State::ExpectTls(_) | State::AwaitingTls(_) => Phase::Tls,
            State::ExpectAuth(_) => Phase::Auth,
            State::Commands(commands) => commands.phase(),
            State::Content(_) => Phase::Content,
            State::ExpectFinal(_) => Phase::EndOfData,
            State::Ready => Phase::Idle,
            State::ExpectReset(_) => Phase::Reset,
            State::ExpectQuit | State::Closed => Phase::Quit,
        }
    }
}

#[cfg(test)]
mod tests;
