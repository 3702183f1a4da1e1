//! What a session knows whatever its state: options, security, counts, replies to send.
//!
//! # Bounds
//! Errors, idle commands and transactions are counted here; at the bound the client reads
//! `421 4.7.0` and the session ends. Output is bounded by making the caller send it.

use std::sync::Arc;
use std::time::Instant;

use super::line::LineBuffer;
use super::options::{COMMAND_BYTES_MAX, OUTPUT_BYTES_MAX, SASL_LINE_BYTES_MAX, ServerOptions};
use super::{CloseReason, Event, Security, State, Step};
use crate::command::is_tls_record;
use crate::data::BareNewlines;
use crate::reply::{Enhanced, Reply};

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) options: Arc<ServerOptions>,
    pub(super) security: Security,
    pub(super) extended: bool,
    pub(super) authenticated: bool,
    /// The reply to end the session with at the next command boundary.
    pub(super) shutdown: Option<Box<Reply>>,
    /// Whether any line was taken in this session, so that an opening can be told from the rest.
    opened: bool,
    errors: u16,
    idle_commands: u16,
    transactions: u32,
    /// Since when the next command is awaited.
    waiting_since: Instant,
    output: Vec<u8>,
}

impl Facts {
    pub(super) fn new(options: Arc<ServerOptions>, security: Security, now: Instant) -> Self {
        Self {
            options,
            security,
            extended: false,
            authenticated: false,
            shutdown: None,
            opened: false,
            errors: 0,
            idle_commands: 0,
            transactions: 0,
            waiting_since: now,
            output: Vec::new(),
        }
    }

    pub(super) fn greet(&mut self) {
        let text = format!("{} ESMTP {}", self.options.hostname, self.options.banner);
        Reply::bare(220, text).write_to(&mut self.output);
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        if self.output.capacity() == 0 {
            // Room for the replies of a usual flight: MAIL, RCPT, DATA.
            self.output.reserve_exact(OUTPUT_BYTES_USUAL);
        }
        reply.write_to(&mut self.output);
    }

    pub(super) fn output_is_full(&self) -> bool {
        self.output.len() >= OUTPUT_BYTES_MAX
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub(super) fn bare_newlines(&self) -> BareNewlines {
        self.options.bare_newlines
    }

    /// A line was taken or a question answered: the wait for the next command starts.
    pub(super) fn command_done(&mut self, now: Instant) {
        self.opened = true;
        self.waiting_since = now;
    }

    /// Whether so much content is nobody's mistake any more.
    pub(super) fn is_excessive(&self, bytes: u64) -> bool {
        bytes > self.options.message_bytes_max.saturating_add(self.options.excess_bytes_max)
    }

    pub(super) fn waiting_since(&self) -> Instant {
        self.waiting_since
    }

    pub(super) fn command_deadline(&self) -> Instant {
        self.waiting_since + self.options.timeouts.command
    }

    /// Whether a connection in clear opens with a TLS record.
    pub(super) fn is_foreign_opening(&self, line: &LineBuffer, input: &[u8]) -> bool {
        !self.opened && line.is_empty() && input.first().is_some_and(|&first| is_tls_record(first))
    }

    /// The bound for a line that carries an initial response (RFC 4954 4), else the usual one.
    pub(super) fn line_bytes_max(line: &LineBuffer, input: &[u8]) -> usize {
        let mut opening = line.gathered().iter().chain(input).take(5);
        let auth = b"AUTH "
            .iter()
            .all(|want| opening.next().map(u8::to_ascii_uppercase).as_ref() == Some(want));
        if auth { SASL_LINE_BYTES_MAX } else { COMMAND_BYTES_MAX }
    }

    /// Whether AUTH may be offered and accepted now.
    pub(super) fn auth_is_open(&self) -> bool {
        self.options.auth
            && (self.security == Security::Tls || self.options.insecure_plaintext_auth)
    }

    /// TLS is on: everything learned in clear is forgotten (RFC 3207 4.2), counts are not.
    pub(super) fn tls_started(&mut self, now: Instant) {
        self.security = Security::Tls;
        self.extended = false;
        self.authenticated = false;
        self.opened = false;
        self.waiting_since = now;
        self.output = Vec::new();
    }

    /// Replies to an erroneous command and stays, or ends the session at the bound.
    pub(super) fn error<'b>(&mut self, reply: &Reply, stay: State) -> Step<'b> {
        self.errors = self.errors.saturating_add(1);
        if self.errors > self.options.errors_max {
            return self.limit(&TOO_MANY_ERRORS);
        }
        self.reply(reply);
        Step::to(stay)
    }

    /// Counts a refusal that the caller gave, without replying; false at the bound.
    pub(super) fn count_error(&mut self) -> bool {
        self.errors = self.errors.saturating_add(1);
        self.errors <= self.options.errors_max
    }

    /// Counts a command that leads nowhere; false at the bound.
    pub(super) fn count_idle(&mut self) -> bool {
        self.idle_commands = self.idle_commands.saturating_add(1);
        self.idle_commands <= self.options.idle_commands_max
    }

    /// Replies to a command that leads nowhere and stays, or ends the session at the bound.
    pub(super) fn idle<'b>(&mut self, reply: &Reply, stay: State) -> Step<'b> {
        if !self.count_idle() {
            return self.limit(&TOO_MANY_IDLE);
        }
        self.reply(reply);
        Step::to(stay)
    }

    /// Like [`idle`](Self::idle), with an event.
    pub(super) fn idle_event<'b>(
        &mut self,
        reply: &Reply,
        state: State,
        event: Event<'b>,
    ) -> Step<'b> {
        let mut step = self.idle(reply, state);
        step.event.get_or_insert(event);
        step
    }

    /// Counts a transaction that begins; false at the bound.
    pub(super) fn count_transaction(&mut self) -> bool {
        self.transactions = self.transactions.saturating_add(1);
        self.transactions <= self.options.transactions_max
    }

    /// A message was taken: the client does useful work.
    pub(super) fn message_accepted(&mut self) {
        (self.idle_commands, self.errors) = (0, 0);
    }

    pub(super) fn limit<'b>(&mut self, reply: &Reply) -> Step<'b> {
        self.reply(reply);
        Step::close(CloseReason::Limit)
    }
}

/// First allocation for replies; lives from the first reply of a flight until it is sent.
const OUTPUT_BYTES_USUAL: usize = 192;

pub(super) const TOO_MANY_ERRORS: Reply =
    Reply::fixed(421, Enhanced::new(4, 7, 0), "Too many errors, closing");
pub(super) const TOO_MANY_IDLE: Reply =
    Reply::fixed(421, Enhanced::new(4, 7, 0), "Too many commands without a message, closing");
