//! A server's session as a pure state machine (RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 4954,
//! 6152, 6531, 9422).
//!
//! # Driving it
//! ```text
//! let mut server = Server::new(options, Security::Plain, now);
//! loop {
//!     send(server.transmit());
//!     let chunk = receive().or_timeout(server.deadline());     // on timeout: handle_timeout(now)
//!     let mut at = 0;
//!     loop {
//!         let received = server.receive(&chunk[at..], now);
//!         at += received.consumed;
//!         match received.event {
//!             None if at == chunk.len() => break,
//!             None => {}
//!             Some(event) => ...                               // answer it where it asks for one
//!         }
//!     }
//! }
//! ```
//! Each call takes at most one command or one slice of content, so an event borrows from the chunk
//! or, when its line came in pieces, from the session. Call again until a call consumes the rest
//! of the input and gives no event.
//!
//! # Invariants
//! - One struct per protocol state; a state is consumed by what leads to the next one.
//! - While an answer is awaited nothing is consumed, so replies keep the order of their commands.
//! - No allocation per command: lines are parsed where they lie; a line that came in pieces is
//!   gathered in a buffer that is freed with it. A flight of replies takes one allocation, a message
//!   two, AUTH a few. An idle session owns no buffer.
//! - Each reply carries an enhanced status code, but greeting, EHLO, 334 and 354.
//!
//! # What it must never do
//! Offer or accept AUTH in clear (unless told so); take plaintext that arrived behind STARTTLS for
//! commands; take content for commands; answer a message before its true end.
//!
//! # Failures
//! A session that cannot go on gives a 421 (or nothing, to a peer that does not speak SMTP) and
//! [`Event::Close`].

mod auth;
mod event;
mod facts;
mod hello;
mod line;
mod options;
mod receiving;
mod transaction;

use std::sync::Arc;
use std::time::Instant;

pub use event::{
    CloseReason, Credentials, EndOfData, Event, Hello, Mail, Mechanism, Password, Rcpt, Refusal,
};
pub use options::{
    COMMAND_BYTES_MAX, EightBit, LINE_DISCARD_BYTES_MAX, OUTPUT_BYTES_MAX, SASL_LINE_BYTES_MAX,
    ServerOptions, Timeouts,
};

use self::auth::{DecidingAuth, ExpectSasl};
use self::facts::Facts;
use self::hello::{AwaitingTls, DecidingTls, ExpectHello, Ready};
use self::line::{Line, LineBuffer, LineFault};
use self::receiving::{
    BetweenChunks, DecidingData, DecidingMessage, Discarding, ReceivingChunk, ReceivingDots,
};
use self::transaction::{DecidingMail, DecidingRcpt, ExpectRcpt};
use crate::reply::{Enhanced, Reply};

/// Whether the bytes of a session come through TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// In clear.
    Plain,
    /// Through TLS.
    Tls,
}

/// What one call of [`Server::receive`] did.
#[derive(Debug)]
pub struct Received<'b> {
    /// Bytes of input that are done with.
    pub consumed: usize,
    /// What happened, if anything.
    pub event: Option<Event<'b>>,
}

impl Received<'_> {
    const NOTHING: Self = Received { consumed: 0, event: None };
}

/// One session.
#[derive(Debug)]
pub struct Server {
    line: LineBuffer,
    state: State,
    facts: Facts,
}

/// The protocol state. Large ones are boxed: an idle session stays small.
#[derive(Debug)]
enum State {
    ExpectHello(ExpectHello),
    Ready(Ready),
    DecidingTls(DecidingTls),
    AwaitingTls(AwaitingTls),
    ExpectSasl(Box<ExpectSasl>),
    DecidingAuth(DecidingAuth),
    DecidingMail(DecidingMail),
    ExpectRcpt(ExpectRcpt),
    DecidingRcpt(DecidingRcpt),
    DecidingData(Box<DecidingData>),
    ReceivingDots(Box<ReceivingDots>),
    ReceivingChunk(Box<ReceivingChunk>),
    BetweenChunks(Box<BetweenChunks>),
    DecidingMessage(DecidingMessage),
    Discarding(Box<Discarding>),
    Closed(CloseReason),
}

/// What a state made of its input: the next state, and perhaps an event.
#[derive(Debug)]
struct Step<'b> {
    state: State,
    event: Option<Event<'b>>,
}

impl<'b> Step<'b> {
    fn to(state: State) -> Self {
        Self { state, event: None }
    }

    fn with(state: State, event: Event<'b>) -> Self {
        Self { state, event: Some(event) }
    }

    fn close(reason: CloseReason) -> Self {
        Self::with(State::Closed(reason), Event::Close(reason))
    }
}

impl Server {
    /// A session whose greeting waits to be sent.
    pub fn new(options: Arc<ServerOptions>, security: Security, now: Instant) -> Self {
        let mut facts = Facts::new(options, security, now);
        facts.greet();
        Self { line: LineBuffer::default(), state: State::ExpectHello(ExpectHello), facts }
    }

    /// Takes at most one command or one slice of content from `input`.
    ///
    /// Returns without consuming anything while an answer is awaited.
    pub fn receive<'b>(&'b mut self, input: &'b [u8], now: Instant) -> Received<'b> {
        self.line.release();
        if let State::Closed(reason) = self.state {
            return Received { consumed: input.len(), event: Some(Event::Close(reason)) };
        }
        if self.facts.output_is_full() {
            return Received { consumed: 0, event: Some(Event::Flush) };
        }
        if self.state.is_deciding() {
            return Received::NOTHING;
        }
        if self.state.is_content() {
            return self.receive_content(input, now);
        }
        self.receive_line(input, now)
    }

    /// Content, or octets to discard; an empty input may still yield what is due.
    fn receive_content<'b>(&mut self, input: &'b [u8], now: Instant) -> Received<'b> {
        let facts = &mut self.facts;
        let (consumed, step) = match std::mem::replace(&mut self.state, State::CLOSED) {
            State::ReceivingDots(state) => state.receive(facts, input, now),
            State::ReceivingChunk(state) => state.receive(facts, input, now),
            State::Discarding(state) => state.receive(facts, input, now),
            other => (0, Step::to(other)),
        };
        self.state = step.state;
        apply_shutdown(&mut self.state, &mut self.facts);
        Received { consumed, event: step.event }
    }

    fn receive_line<'b>(&'b mut self, input: &'b [u8], now: Instant) -> Received<'b> {
        if input.is_empty() {
            return Received::NOTHING;
        }
        if let State::AwaitingTls(_) = self.state {
            return self.close(input.len(), CloseReason::Framing);
        }
        if self.facts.is_foreign_opening(&self.line, input) {
            return self.close(input.len(), CloseReason::Foreign);
        }
        let bytes_max = match self.state {
            State::ExpectSasl(_) => SASL_LINE_BYTES_MAX,
            _ => Facts::line_bytes_max(&self.line, input),
        };
        let (consumed, line) = self.line.take(input, bytes_max, self.facts.bare_newlines());
        let more = consumed < input.len();
        let state = std::mem::replace(&mut self.state, State::CLOSED);
        let step = match line {
            Line::Partial => Step::to(state),
            Line::Fault(fault) => state.line_fault(&mut self.facts, fault),
            Line::Here(bytes) => state.line(&mut self.facts, bytes, more, now),
            Line::Gathered => state.line(&mut self.facts, self.line.gathered(), more, now),
        };
        if !matches!(line, Line::Partial) {
            self.facts.command_done(now);
        }
        self.state = step.state;
        apply_shutdown(&mut self.state, &mut self.facts);
        Received { consumed, event: step.event }
    }

    fn close(&mut self, consumed: usize, reason: CloseReason) -> Received<'static> {
        self.state = State::Closed(reason);
        Received { consumed, event: Some(Event::Close(reason)) }
    }

    /// Says yes to the event that awaits an answer, with the usual reply.
    pub fn accept(&mut self, now: Instant) {
        self.answer(None, now);
    }

    /// Says yes with a reply of the caller's, e.g. `250 2.0.0 queued as ...`. The reply should be
    /// positive. To StartTls and Data the usual reply is given.
    pub fn accept_with(&mut self, reply: Reply, now: Instant) {
        debug_assert!(reply.is_positive(), "accepted with {reply}");
        self.answer(Some(reply), now);
    }

    /// Says no to the event that awaits an answer. A reply with code 421 closes the session.
    pub fn refuse(&mut self, reply: Reply, now: Instant) {
        debug_assert!(reply.code >= 400, "refused with {reply}");
        self.answer(Some(reply), now);
    }

    /// The answer to the pending event: none or a positive reply is yes, all else is no.
    fn answer(&mut self, reply: Option<Reply>, now: Instant) {
        self.line.release();
        debug_assert!(self.state.is_deciding(), "an answer without a question");
        let facts = &mut self.facts;
        let closing = reply.as_ref().is_some_and(|reply| reply.code == 421);
        self.state = match std::mem::replace(&mut self.state, State::CLOSED) {
            State::DecidingTls(state) => state.answer(facts, reply),
            State::DecidingAuth(state) => state.answer(facts, reply),
            State::DecidingMail(state) => state.answer(facts, reply),
            State::DecidingRcpt(state) => state.answer(facts, reply),
            State::DecidingData(state) => state.answer(facts, reply, now),
            State::DecidingMessage(state) => state.answer(facts, reply),
            other => other,
        };
        if closing {
            self.state = State::Closed(CloseReason::ByCaller);
        }
        self.facts.command_done(now);
        apply_shutdown(&mut self.state, &mut self.facts);
    }

    /// The replies that wait to be sent. Empty when there are none; owns its memory, so that it can
    /// be given to a socket as it is.
    #[must_use]
    pub fn transmit(&mut self) -> Vec<u8> {
        self.facts.take_output()
    }

    /// Whether replies wait to be sent.
    pub fn has_output(&self) -> bool {
        self.facts.has_output()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); none while an answer is awaited or
    /// after the end.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Closed(_) => None,
            state if state.is_deciding() => None,
            State::ReceivingDots(state) => Some(state.deadline(&self.facts)),
            State::ReceivingChunk(state) => Some(state.deadline(&self.facts)),
            State::BetweenChunks(state) => Some(state.deadline(&self.facts)),
            State::Discarding(state) => Some(state.deadline(&self.facts)),
            _ => Some(self.facts.command_deadline()),
        }
    }

    /// Ends the session with `421 4.4.2` if its deadline has passed; returns whether it did.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.facts.reply(&TIMED_OUT);
            self.state = State::Closed(CloseReason::Timeout);
        }
        due
    }

    /// The TLS handshake is done: the session starts anew (RFC 3207 4.2), without greeting.
    pub fn tls_started(&mut self, now: Instant) {
        debug_assert!(matches!(self.state, State::AwaitingTls(_)), "TLS that nobody asked for");
        self.line = LineBuffer::default();
        self.facts.tls_started(now);
        self.state = State::ExpectHello(ExpectHello);
        apply_shutdown(&mut self.state, &mut self.facts);
    }

    /// Ends the session at the next command boundary with `reply`, for a shutdown (`421 4.3.2`) or
    /// because the application was cut off (`421 4.7.0`). At a boundary already, it ends now: check
    /// [`is_closed`](Self::is_closed). A message in transfer is received to its end first.
    pub fn shutdown(&mut self, reply: Reply) {
        self.facts.shutdown = Some(Box::new(reply));
        apply_shutdown(&mut self.state, &mut self.facts);
    }

    /// Refuses the message in transfer, at its end, with `reply`; no more content is handed out and
    /// [`Event::MessageRefused`] follows. Returns whether a message is in transfer.
    pub fn refuse_message(&mut self, reply: Reply) -> bool {
        match &mut self.state {
            State::ReceivingDots(state) => state.refuse(reply),
            State::ReceivingChunk(state) => state.refuse(reply),
            State::BetweenChunks(state) => state.refuse(reply),
            _ => return false,
        }
        true
    }

    /// Whether the session is over: transmit what is left and close.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Whether an event awaits its answer.
    pub fn is_deciding(&self) -> bool {
        self.state.is_deciding()
    }

    /// Whether AUTH succeeded in this session.
    pub fn is_authenticated(&self) -> bool {
        self.facts.authenticated
    }

    /// Whether the client said EHLO, so that `Received: ... with ESMTP` is right.
    pub fn is_extended(&self) -> bool {
        self.facts.extended
    }
}

/// Ends the session if that was asked for and a command boundary is reached.
fn apply_shutdown(state: &mut State, facts: &mut Facts) {
    if !state.is_command_boundary() {
        return;
    }
    if let Some(reply) = facts.shutdown.take() {
        facts.reply(&reply);
        *state = State::Closed(CloseReason::ByCaller);
    }
}

const TIMED_OUT: Reply =
    Reply::fixed(421, Enhanced::new(4, 4, 2), "Timed out waiting for the client, closing");

impl State {
    /// Stands in while a state moves; never seen from outside.
    const CLOSED: Self = Self::Closed(CloseReason::Framing);

    fn is_deciding(&self) -> bool {
        matches!(
            self,
            Self::DecidingTls(_)
                | Self::DecidingAuth(_)
                | Self::DecidingMail(_)
                | Self::DecidingRcpt(_)
                | Self::DecidingData(_)
                | Self::DecidingMessage(_)
        )
    }

    fn is_content(&self) -> bool {
        matches!(self, Self::ReceivingDots(_) | Self::ReceivingChunk(_) | Self::Discarding(_))
    }

    fn is_command_boundary(&self) -> bool {
        matches!(self, Self::ExpectHello(_) | Self::Ready(_) | Self::ExpectRcpt(_))
    }

    /// One complete line.
    fn line<'b>(self, facts: &mut Facts, line: &'b [u8], more: bool, now: Instant) -> Step<'b> {
        match self {
            Self::ExpectHello(state) => state.line(facts, line, more),
            Self::Ready(state) => state.line(facts, line, more),
            Self::ExpectSasl(state) => state.line(facts, line),
            Self::ExpectRcpt(state) => state.line(facts, line),
            Self::BetweenChunks(state) => state.line(facts, line, now),
            other => Step::to(other),
        }
    }

    /// A line that is none.
    fn line_fault(self, facts: &mut Facts, fault: LineFault) -> Step<'static> {
        match fault {
            LineFault::BareLf => {
                facts.reply(&BARE_LF);
                Step::close(CloseReason::Framing)
            }
            LineFault::Endless => {
                facts.reply(&TOO_LONG);
                Step::close(CloseReason::Limit)
            }
            LineFault::TooLong if matches!(self, Self::ExpectSasl(_)) => {
                facts.error(&SASL_TOO_LONG, Self::Ready(Ready))
            }
            LineFault::TooLong => facts.error(&TOO_LONG, self),
        }
    }
}

const TOO_LONG: Reply = Reply::fixed(500, Enhanced::new(5, 5, 2), "Line too long");
const SASL_TOO_LONG: Reply =
    Reply::fixed(500, Enhanced::new(5, 5, 6), "Authentication exchange line is too long");
const BARE_LF: Reply =
    Reply::fixed(500, Enhanced::new(5, 5, 2), "Bare LF in command, lines must end in CRLF");

#[cfg(test)]
mod tests;
