//! Content coming in: DATA, BDAT (RFC 3030), and octets to throw away.
//!
//! # Invariants
//! - Content is consumed to its true end whatever is wrong with it; only then a reply is given.
//! - The octets of a BDAT that has no place are consumed before its refusal is given, so content is
//!   never read as commands.

use std::time::Instant;

use super::facts::{Facts, TOO_MANY_ERRORS};
use super::hello::{MAIL_OPEN, RESET, Ready, SEQUENCE, anywhere, check_line, faulty, hello};
use super::transaction::{TOO_LARGE, Transaction};
use super::{CloseReason, EightBit, EndOfData, Event, Refusal, State, Step};
use crate::command::Command;
use crate::data::{Framed, Framer, Piece, Transfer};
use crate::reply::{Enhanced, Reply};

/// The message in transfer.
#[derive(Debug)]
pub(super) struct Message {
    declared_eight_bit: bool,
    transfer: Transfer,
    wire_bytes: u64,
    eight_bit: bool,
    /// The caller wants it refused.
    refusal: Option<Reply>,
}

impl Message {
    pub(super) fn dots(transaction: Transaction) -> Self {
        Self::new(transaction, Transfer::Dots)
    }

    pub(super) fn chunks(transaction: Transaction) -> Self {
        Self::new(transaction, Transfer::Chunks)
    }

    fn new(transaction: Transaction, transfer: Transfer) -> Self {
        Self {
            declared_eight_bit: transaction.eight_bit,
            transfer,
            wire_bytes: 0,
            eight_bit: false,
            refusal: None,
        }
    }

    fn is_chunked(&self) -> bool {
        self.transfer == Transfer::Chunks
    }
}

/// The caller decides whether content may come.
#[derive(Debug)]
pub(super) struct DecidingData {
    pub(super) message: Message,
    /// Bytes of the first BDAT chunk and whether it is the last; none for DATA.
    pub(super) chunk: Option<(u64, bool)>,
}

impl DecidingData {
    pub(super) fn answer(self, facts: &mut Facts, reply: Option<Reply>, now: Instant) -> State {
        match reply {
            Some(reply) if !reply.is_positive() => self.refused(facts, reply, now),
            _ => self.accepted(facts, now),
        }
    }

    fn accepted(self, facts: &mut Facts, now: Instant) -> State {
        let framer = Framer::new(self.message.transfer, facts.bare_newlines());
        let transfer = Incoming {
            message: self.message,
            framer,
            received_bytes: 0,
            started: now,
            block_since: now,
        };
        match self.chunk {
            None => {
                facts.reply(&GO_AHEAD);
                State::ReceivingDots(Box::new(ReceivingDots(transfer)))
            }
            Some((remaining, last)) => State::ReceivingChunk(Box::new(ReceivingChunk {
                incoming: transfer,
                remaining,
                last,
                finished: false,
            })),
        }
    }

    fn refused(self, facts: &mut Facts, reply: Reply, now: Instant) -> State {
        match self.chunk {
            // A 421 ends the session, so the octets do not matter any more.
            Some((remaining @ 1.., _)) if reply.code != 421 => {
                State::Discarding(Box::new(Discarding {
                    remaining,
                    reply,
                    back: State::Ready(Ready),
                    started: now,
                    block_since: now,
                }))
            }
            _ => {
                facts.reply(&reply);
                State::Ready(Ready)
            }
        }
    }
}

/// A message, its framing and its clocks.
#[derive(Debug)]
struct Incoming {
    message: Message,
    framer: Framer,
    /// Bytes consumed, whether they were handed on or not.
    received_bytes: u64,
    started: Instant,
    /// When the last piece came.
    block_since: Instant,
}

impl Incoming {
    /// Frames the next bytes; none when there are more of them than anyone should send.
    fn frame<'b>(&mut self, facts: &Facts, input: &'b [u8], now: Instant) -> Option<Framed<'b>> {
        self.block_since = now;
        let framed = self.framer.receive(input);
        self.received_bytes = self.received_bytes.saturating_add(framed.consumed as u64);
        (!facts.is_excessive(self.received_bytes)).then_some(framed)
    }

    /// Hands a slice on unless the message is to be refused anyway.
    fn content<'b>(&mut self, facts: &Facts, wire: &'b [u8]) -> Option<Event<'b>> {
        self.message.wire_bytes += wire.len() as u64;
        self.message.eight_bit = self.message.eight_bit || !wire.is_ascii();
        self.early_refusal(facts).is_none().then_some(Event::Content(wire))
    }

    /// Why the message cannot be accepted any more, whatever follows.
    fn early_refusal(&self, facts: &Facts) -> Option<Refusal> {
        if self.message.refusal.is_some() {
            Some(Refusal::ByCaller)
        } else if let Some(fault) = self.framer.fault() {
            Some(Refusal::Content(fault))
        } else if self.message.wire_bytes > facts.options.message_bytes_max {
            Some(Refusal::TooLarge)
        } else {
            None
        }
    }

    /// Why the complete message is refused.
    fn refusal(&self, facts: &Facts) -> Option<Refusal> {
        let undeclared = self.message.eight_bit && !self.message.declared_eight_bit;
        let minded = facts.options.undeclared_eight_bit == EightBit::Refuse;
        self.early_refusal(facts).or((undeclared && minded).then_some(Refusal::EightBit))
    }

    /// Gives the reply for a refused message.
    fn refuse<'b>(self, facts: &mut Facts, refusal: Refusal) -> Step<'b> {
        let reply = match refusal {
            Refusal::ByCaller => self.message.refusal.unwrap_or(REFUSED),
            Refusal::Content(fault) => fault.reply(),
            Refusal::TooLarge => TOO_LARGE,
            Refusal::EightBit => EIGHT_BIT,
        };
        facts.reply(&reply);
        let state = if reply.code == 421 {
            State::Closed(CloseReason::ByCaller)
        } else if facts.count_error() {
            State::Ready(Ready)
        } else {
            facts.reply(&TOO_MANY_ERRORS);
            State::Closed(CloseReason::Limit)
        };
        Step::with(state, Event::MessageRefused(refusal))
    }

    /// The content is complete.
    fn complete<'b>(self, facts: &mut Facts) -> Step<'b> {
        if let Some(refusal) = self.refusal(facts) {
            return self.refuse(facts, refusal);
        }
        let end = EndOfData {
            wire_bytes: self.message.wire_bytes,
            eight_bit: self.message.eight_bit,
            chunked: self.message.is_chunked(),
        };
        Step::with(State::DecidingMessage(DecidingMessage(())), Event::EndOfData(end))
    }

    fn deadline(&self, facts: &Facts) -> Instant {
        let timeouts = &facts.options.timeouts;
        (self.block_since + timeouts.data_block).min(self.started + timeouts.message)
    }
}

/// Gives up a message that does not end in reasonable size.
fn abandon<'b>(facts: &mut Facts) -> Step<'b> {
    facts.reply(&TOO_LARGE);
    Step::with(State::Closed(CloseReason::Limit), Event::MessageRefused(Refusal::TooLarge))
}

/// Content after DATA.
#[derive(Debug)]
pub(super) struct ReceivingDots(Incoming);

impl ReceivingDots {
    pub(super) fn receive<'b>(
        mut self: Box<Self>,
        facts: &mut Facts,
        input: &'b [u8],
        now: Instant,
    ) -> (usize, Step<'b>) {
        if input.is_empty() {
            return (0, Step::to(State::ReceivingDots(self)));
        }
        let Some(framed) = self.0.frame(facts, input, now) else {
            return (input.len(), abandon(facts));
        };
        let step = match framed.piece {
            Piece::Nothing => Step::to(State::ReceivingDots(self)),
            Piece::Content(wire) => {
                let event = self.0.content(facts, wire);
                Step { state: State::ReceivingDots(self), event }
            }
            Piece::End => {
                facts.command_done(now);
                self.0.complete(facts)
            }
        };
        (framed.consumed, step)
    }

    pub(super) fn refuse(&mut self, reply: Reply) {
        self.0.message.refusal = Some(reply);
    }

    pub(super) fn deadline(&self, facts: &Facts) -> Instant {
        self.0.deadline(facts)
    }
}

/// Content of one BDAT.
#[derive(Debug)]
pub(super) struct ReceivingChunk {
    incoming: Incoming,
    /// Octets of this chunk that are still to come.
    remaining: u64,
    last: bool,
    /// The last chunk is complete and so is its last line.
    finished: bool,
}

impl ReceivingChunk {
    pub(super) fn receive<'b>(
        mut self: Box<Self>,
        facts: &mut Facts,
        input: &'b [u8],
        now: Instant,
    ) -> (usize, Step<'b>) {
        if self.remaining == 0 {
            return (0, self.end(facts, now));
        }
        if input.is_empty() {
            return (0, Step::to(State::ReceivingChunk(self)));
        }
        let bytes = usize::try_from(self.remaining).map_or(input.len(), |r| r.min(input.len()));
        let Some(framed) = self.incoming.frame(facts, &input[..bytes], now) else {
            return (input.len(), abandon(facts));
        };
        self.remaining -= framed.consumed as u64;
        let event = match framed.piece {
            Piece::Content(wire) => self.incoming.content(facts, wire),
            Piece::Nothing | Piece::End => None,
        };
        // With an event the caller comes again; without one, what is due must be done now.
        let step = if event.is_none() && self.remaining == 0 {
            self.end(facts, now)
        } else {
            Step { state: State::ReceivingChunk(self), event }
        };
        (framed.consumed, step)
    }

    /// All octets of the chunk are in.
    fn end<'b>(mut self: Box<Self>, facts: &mut Facts, now: Instant) -> Step<'b> {
        if self.last && !self.finished {
            self.finished = true;
            let tail = self.incoming.framer.finish();
            if let Some(event) = tail.and_then(|tail| self.incoming.content(facts, tail)) {
                return Step::with(State::ReceivingChunk(self), event);
            }
        }
        facts.command_done(now);
        if self.last {
            return self.incoming.complete(facts);
        }
        if let Some(refusal) = self.incoming.early_refusal(facts) {
            return self.incoming.refuse(facts, refusal);
        }
        facts.reply(&CHUNK_OK);
        Step::to(State::BetweenChunks(Box::new(BetweenChunks(self.incoming))))
    }

    pub(super) fn refuse(&mut self, reply: Reply) {
        self.incoming.message.refusal = Some(reply);
    }

    pub(super) fn deadline(&self, facts: &Facts) -> Instant {
        self.incoming.deadline(facts)
    }
}

/// A BDAT was answered, and another must follow.
#[derive(Debug)]
pub(super) struct BetweenChunks(Incoming);

impl BetweenChunks {
    pub(super) fn line<'b>(
        self: Box<Self>,
        facts: &mut Facts,
        line: &'b [u8],
        now: Instant,
    ) -> Step<'b> {
        let command = match check_line(line) {
            Ok(command) => command,
            Err(trouble) => return faulty(trouble, facts, State::BetweenChunks(self)),
        };
        match command {
            Command::Bdat(remaining, last) => {
                let incoming = self.0;
                let chunk = ReceivingChunk { incoming, remaining, last, finished: false };
                let (_, step) = Box::new(chunk).receive(facts, b"", now);
                step
            }
            Command::Rset => facts.idle_event(&RESET, State::Ready(Ready), Event::Reset),
            Command::Ehlo(name) => hello(name, true, facts, State::BetweenChunks(self)),
            Command::Helo(name) => hello(name, false, facts, State::BetweenChunks(self)),
            Command::Mail(_) => facts.error(&MAIL_OPEN, State::BetweenChunks(self)),
            Command::Rcpt(_) | Command::Data | Command::Auth(..) | Command::StartTls => {
                facts.error(&SEQUENCE, State::BetweenChunks(self))
            }
            other => anywhere(other, facts, State::BetweenChunks(self)),
        }
    }

    pub(super) fn refuse(&mut self, reply: Reply) {
        self.0.message.refusal = Some(reply);
    }

    pub(super) fn deadline(&self, facts: &Facts) -> Instant {
        facts.command_deadline().min(self.0.started + facts.options.timeouts.message)
    }
}

/// The caller decides about the complete message.
#[derive(Debug)]
pub(super) struct DecidingMessage(());

impl DecidingMessage {
    pub(super) fn answer(self, facts: &mut Facts, reply: Option<Reply>) -> State {
        let reply = reply.unwrap_or(MESSAGE_OK);
        if reply.is_positive() {
            facts.message_accepted();
        }
        facts.reply(&reply);
        State::Ready(Ready)
    }
}

/// Octets of a refused BDAT.
#[derive(Debug)]
pub(super) struct Discarding {
    remaining: u64,
    reply: Reply,
    back: State,
    started: Instant,
    block_since: Instant,
}

/// Consumes the octets of a BDAT that is refused, then replies; it counts as an error.
pub(super) fn discard<'b>(facts: &mut Facts, bytes: u64, reply: &Reply, back: State) -> Step<'b> {
    if bytes == 0 {
        return facts.error(reply, back);
    }
    if facts.is_excessive(bytes) {
        return facts.limit(&TOO_LARGE);
    }
    if !facts.count_error() {
        return facts.limit(&TOO_MANY_ERRORS);
    }
    let since = facts.waiting_since();
    Step::to(State::Discarding(Box::new(Discarding {
        remaining: bytes,
        reply: reply.clone(),
        back,
        started: since,
        block_since: since,
    })))
}

impl Discarding {
    pub(super) fn receive<'b>(
        mut self: Box<Self>,
        facts: &mut Facts,
        input: &'b [u8],
        now: Instant,
    ) -> (usize, Step<'b>) {
        let bytes = usize::try_from(self.remaining).map_or(input.len(), |r| r.min(input.len()));
        self.remaining -= bytes as u64;
        if self.remaining > 0 {
            self.block_since = if bytes > 0 { now } else { self.block_since };
            return (bytes, Step::to(State::Discarding(self)));
        }
        facts.reply(&self.reply);
        facts.command_done(now);
        (bytes, Step::to(self.back))
    }

    pub(super) fn deadline(&self, facts: &Facts) -> Instant {
        let timeouts = &facts.options.timeouts;
        (self.block_since + timeouts.data_block).min(self.started + timeouts.message)
    }
}

const GO_AHEAD: Reply = Reply {
    code: 354,
    enhanced: None,
    text: std::borrow::Cow::Borrowed("End data with <CR><LF>.<CR><LF>"),
};
const CHUNK_OK: Reply = Reply::fixed(250, Enhanced::new(2, 0, 0), "Chunk received");
const MESSAGE_OK: Reply = Reply::fixed(250, Enhanced::new(2, 0, 0), "Message accepted");
const REFUSED: Reply = Reply::fixed(550, Enhanced::new(5, 7, 1), "Message refused");
const EIGHT_BIT: Reply =
    Reply::fixed(554, Enhanced::new(5, 6, 1), "8-bit content was not declared with BODY=8BITMIME");
