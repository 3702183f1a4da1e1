//! A transaction: MAIL, RCPT and DATA in flight, content, and the final reply.

use super::envelope::Envelope;
use super::options::PIPELINE_COMMANDS_MAX;
use super::{Cause, Event, Outcome, Phase, Shared, Stage, State, Step};
use crate::data::{WireCheck, WireFault};
use crate::reply::{Reply, Severity};

/// Commands of a transaction in flight.
///
/// They are numbered: 0 is MAIL, then one RCPT for each recipient, then DATA. Replies come in the
/// same order, so two counters tell what is awaited.
#[derive(Debug)]
pub(super) struct Commands {
    envelope: Envelope,
    sent: usize,
    answered: usize,
    accepted_recipients: usize,
    /// The refusal of MAIL.
    mail_refused: Option<Reply>,
}

impl Commands {
    /// Sends what may be sent at once.
    pub(super) fn start(envelope: Envelope, shared: &mut Shared) -> Self {
        let mut commands =
            Self { envelope, sent: 0, answered: 0, accepted_recipients: 0, mail_refused: None };
        commands.fill(shared);
        commands
    }

    /// The number of DATA.
    fn data(&self) -> usize {
        self.envelope.recipients.len() + 1
    }

    pub(super) fn phase(&self) -> Phase {
        match self.answered {
            0 => Phase::Mail,
            number if number < self.data() => Phase::Rcpt,
            _ => Phase::Data,
        }
    }

    /// Sends further commands as far as the server takes them ahead.
    fn fill(&mut self, shared: &mut Shared) {
        let ahead = if shared.capabilities.pipelining { PIPELINE_COMMANDS_MAX } else { 1 };
        while self.sent - self.answered < ahead && self.mail_refused.is_none() {
            match self.sent {
                0 => self.envelope.write_mail(&shared.capabilities, &mut shared.output),
                number if number < self.data() => {
                    let recipient = &self.envelope.recipients[number - 1];
                    recipient.write_rcpt(&shared.capabilities, &mut shared.output);
                }
                number if number == self.data() && self.may_say_data() => {
                    shared.output.extend_from_slice(b"DATA\r\n");
                }
                _ => return,
            }
            self.sent += 1;
        }
    }

    /// DATA makes sense while a recipient is accepted or still unanswered.
    fn may_say_data(&self) -> bool {
        self.accepted_recipients > 0 || self.answered < self.data()
    }

    /// Takes the reply to the oldest command in flight.
    pub(super) fn reply(mut self: Box<Self>, shared: &mut Shared, reply: Reply) -> Step {
        let number = self.answered;
        self.answered += 1;
        if number == self.data() {
            return self.data_reply(shared, reply);
        }
        let refused = match reply.severity() {
            Severity::Positive => false,
            Severity::Transient | Severity::Permanent => true,
            Severity::Intermediate => return Step::fail(self.phase(), Cause::Reply(reply)),
        };
        let event = if number == 0 {
            self.mail_refused = refused.then_some(reply);
            None
        } else {
            self.recipient_reply(number - 1, refused, reply)
        };
        self.fill(shared);
        self.go_on(shared, event)
    }

    fn recipient_reply(&mut self, index: usize, refused: bool, reply: Reply) -> Option<Event> {
        if self.mail_refused.is_some() {
            // What it says is only that there is no transaction.
            return None;
        }
        self.accepted_recipients += usize::from(!refused);
        let outcome = if refused { Err(reply) } else { Ok(reply) };
        Some(Event::Recipient { index, outcome })
    }

    /// Waits for the next reply, or finishes when none is due.
    fn go_on(self: Box<Self>, shared: &mut Shared, event: Option<Event>) -> Step {
        if self.answered < self.sent {
            return Step { state: State::Commands(self), event };
        }
        let outcome = self.failure();
        shared.reset();
        match event {
            None => Step::with(State::ExpectReset(ExpectReset(())), Event::Finished(outcome)),
            Some(event) => {
                shared.pending = Some(Event::Finished(outcome));
                Step::with(State::ExpectReset(ExpectReset(())), event)
            }
        }
    }

    /// Why no content is sent.
    fn failure(self) -> Outcome {
        match self.mail_refused {
            Some(reply) => Outcome::Refused { stage: Stage::Mail, reply },
            None => Outcome::NoRecipient,
        }
    }

    fn data_reply(self, shared: &mut Shared, reply: Reply) -> Step {
        let wanted = self.mail_refused.is_none() && self.accepted_recipients > 0;
        match (reply.code, reply.severity()) {
            (354, _) if wanted => {
                let content = Box::new(Content { check: WireCheck::new() });
                Step::with(State::Content(content), Event::ContentNow)
            }
            // DATA was sent ahead and taken without recipients: end it at once (RFC 2920 3.1).
            (354, _) => {
                shared.output.extend_from_slice(b".\r\n");
                let outcome = self.failure();
                Step::to(State::ExpectFinal(ExpectFinal { instead: Some(outcome) }))
            }
            (_, Severity::Transient | Severity::Permanent) => {
                let stage = Stage::Data;
                let outcome =
                    if wanted { Outcome::Refused { stage, reply } } else { self.failure() };
                shared.reset();
                Step::with(State::ExpectReset(ExpectReset(())), Event::Finished(outcome))
            }
            _ => Step::fail(Phase::Data, Cause::Reply(reply)),
        }
    }
}

impl Shared {
    fn reset(&mut self) {
        self.output.extend_from_slice(b"RSET\r\n");
    }
}

/// The caller sends the content.
#[derive(Debug)]
pub(super) struct Content {
    check: WireCheck,
}

impl Content {
    pub(super) fn check(&mut self, part: &[u8]) -> Result<(), WireFault> {
        self.check.check(part)
    }

    pub(super) fn terminator(&self) -> Result<&'static [u8], WireFault> {
        self.check.terminator()
    }
}

/// The reply to the content is awaited.
#[derive(Debug)]
pub(super) struct ExpectFinal {
    /// What is told whatever the reply: the content was a lone dot to get out of DATA.
    instead: Option<Outcome>,
}

impl ExpectFinal {
    pub(super) fn message() -> Self {
        Self { instead: None }
    }

    pub(super) fn reply(self, shared: &mut Shared, reply: Reply) -> Step {
        let ends = reply.code == 421;
        let outcome = match (self.instead, reply.severity()) {
            (_, Severity::Intermediate) => {
                return Step::fail(Phase::EndOfData, Cause::Reply(reply));
            }
            (Some(outcome), _) => outcome,
            (None, Severity::Positive) => Outcome::Accepted(reply),
            (None, _) => Outcome::Refused { stage: Stage::EndOfData, reply },
        };
        if ends {
            shared.pending = Some(Event::Closed);
            return Step::with(State::Closed, Event::Finished(outcome));
        }
        shared.pending = Some(Event::Ready);
        Step::with(State::Ready, Event::Finished(outcome))
    }
}

/// RSET was said after a transaction that failed.
#[derive(Debug)]
pub(super) struct ExpectReset(());

impl ExpectReset {
    pub(super) fn reply(self, reply: Reply) -> Step {
        if reply.is_positive() {
            return Step::with(State::Ready, Event::Ready);
        }
        Step::fail(Phase::Reset, Cause::Reply(reply))
    }
}
