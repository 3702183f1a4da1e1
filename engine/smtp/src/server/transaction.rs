//! A transaction until its content: MAIL and RCPT (RFC 5321 3.3).

use super::facts::{Facts, TOO_MANY_ERRORS, TOO_MANY_IDLE};
use super::hello::{MAIL_OPEN, RESET, Ready, SEQUENCE, anywhere, check_line, faulty, hello};
use super::receiving::{DecidingData, Message, discard};
use super::{CloseReason, Event, Mail, Rcpt, State, Step};
use crate::address::{forward_path, reverse_path};
use crate::command::Command;
use crate::param::{Body, mail_parameters, rcpt_parameters};
use crate::reply::{Enhanced, Reply};

/// What a transaction needs to remember; its envelope belongs to the caller.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transaction {
    pub(super) recipients: u32,
    pub(super) refused_recipients: u32,
    /// Declared 8BITMIME or SMTPUTF8.
    pub(super) eight_bit: bool,
    pub(super) smtputf8: bool,
}

/// The caller decides about the sender.
#[derive(Debug)]
pub(super) struct DecidingMail(Transaction);

/// MAIL was accepted.
#[derive(Debug)]
pub(super) struct ExpectRcpt(Transaction);

/// The caller decides about a recipient.
#[derive(Debug)]
pub(super) struct DecidingRcpt(Transaction);

/// MAIL, outside a transaction.
pub(super) fn mail<'b>(facts: &mut Facts, argument: &'b [u8]) -> Step<'b> {
    let mail = match parse_mail(facts, argument) {
        Ok(mail) => mail,
        Err(reply) => return facts.error(&reply, State::Ready(Ready)),
    };
    if !facts.count_transaction() {
        return facts.limit(&TOO_MANY_TRANSACTIONS);
    }
    if !facts.count_idle() {
        return facts.limit(&TOO_MANY_IDLE);
    }
    let smtputf8 = mail.parameters.smtputf8;
    let transaction = Transaction {
        eight_bit: smtputf8 || mail.parameters.body == Body::EightBitMime,
        smtputf8,
        ..Transaction::default()
    };
    Step::with(State::DecidingMail(DecidingMail(transaction)), Event::Mail(mail))
}

fn parse_mail<'b>(facts: &Facts, argument: &'b [u8]) -> Result<Mail<'b>, Reply> {
    let (reverse_path, rest) = reverse_path(argument).map_err(|error| error.sender_reply())?;
    let parameters = mail_parameters(rest).map_err(|error| error.reply())?;
    let international = reverse_path.mailbox().is_some_and(|mailbox| mailbox.is_international());
    if international && !parameters.smtputf8 {
        return Err(SMTPUTF8_NEEDED);
    }
    if parameters.size.is_some_and(|size| size > facts.options.message_bytes_max) {
        return Err(TOO_LARGE);
    }
    Ok(Mail { reverse_path, parameters })
}

impl DecidingMail {
    pub(super) fn answer(self, facts: &mut Facts, reply: Option<Reply>) -> State {
        let reply = reply.unwrap_or(SENDER_OK);
        if reply.is_positive() {
            facts.reply(&reply);
            return State::ExpectRcpt(ExpectRcpt(self.0));
        }
        if !facts.count_error() {
            facts.reply(&TOO_MANY_ERRORS);
            return State::Closed(CloseReason::Limit);
        }
        facts.reply(&reply);
        State::Ready(Ready)
    }
}

impl ExpectRcpt {
    pub(super) fn line<'b>(self, facts: &mut Facts, line: &'b [u8]) -> Step<'b> {
        let command = match check_line(line) {
            Ok(command) => command,
            Err(trouble) => return faulty(trouble, facts, State::ExpectRcpt(self)),
        };
        match command {
            Command::Rcpt(argument) => self.rcpt(facts, argument),
            Command::Data if self.0.recipients == 0 => {
                facts.error(&NO_RECIPIENTS, State::ExpectRcpt(self))
            }
            Command::Data => {
                let state = DecidingData { message: Message::dots(self.0), chunk: None };
                Step::with(State::DecidingData(Box::new(state)), Event::Data)
            }
            Command::Bdat(bytes, _) if self.0.recipients == 0 => {
                discard(facts, bytes, &NO_RECIPIENTS, State::ExpectRcpt(self))
            }
            Command::Bdat(bytes, last) => {
                let message = Message::chunks(self.0);
                let state = DecidingData { message, chunk: Some((bytes, last)) };
                Step::with(State::DecidingData(Box::new(state)), Event::Data)
            }
            Command::Rset => facts.idle_event(&RESET, State::Ready(Ready), Event::Reset),
            Command::Ehlo(name) => hello(name, true, facts, State::ExpectRcpt(self)),
            Command::Helo(name) => hello(name, false, facts, State::ExpectRcpt(self)),
            Command::Mail(_) => facts.error(&MAIL_OPEN, State::ExpectRcpt(self)),
            Command::Auth(..) | Command::StartTls => {
                facts.error(&SEQUENCE, State::ExpectRcpt(self))
            }
            other => anywhere(other, facts, State::ExpectRcpt(self)),
        }
    }

    fn rcpt<'b>(self, facts: &mut Facts, argument: &'b [u8]) -> Step<'b> {
        match self.parse_rcpt(argument) {
            Err(reply) => self.refuse_rcpt(facts, &reply),
            Ok(_) if self.0.recipients >= facts.options.recipients_max => {
                self.refuse_rcpt(facts, &TOO_MANY_RECIPIENTS)
            }
            Ok(rcpt) => Step::with(State::DecidingRcpt(DecidingRcpt(self.0)), Event::Rcpt(rcpt)),
        }
    }

    fn refuse_rcpt<'b>(mut self, facts: &mut Facts, reply: &Reply) -> Step<'b> {
        if !self.0.count_refused(facts) {
            return facts.limit(&TOO_MANY_ERRORS);
        }
        facts.reply(reply);
        Step::to(State::ExpectRcpt(self))
    }

    fn parse_rcpt<'b>(&self, argument: &'b [u8]) -> Result<Rcpt<'b>, Reply> {
        let (forward_path, rest) = forward_path(argument).map_err(|e| e.recipient_reply())?;
        let parameters = rcpt_parameters(rest).map_err(|error| error.reply())?;
        let international = forward_path.mailbox().is_some_and(|m| m.is_international())
            || parameters.orcpt.is_some_and(|orcpt| !orcpt.as_str().is_ascii());
        if international && !self.0.smtputf8 {
            return Err(SMTPUTF8_NEEDED);
        }
        Ok(Rcpt { forward_path, parameters })
    }
}

impl DecidingRcpt {
    pub(super) fn answer(mut self, facts: &mut Facts, reply: Option<Reply>) -> State {
        let reply = reply.unwrap_or(RECIPIENT_OK);
        if reply.is_positive() {
            self.0.recipients += 1;
        } else if !self.0.count_refused(facts) {
            facts.reply(&TOO_MANY_ERRORS);
            return State::Closed(CloseReason::Limit);
        }
        facts.reply(&reply);
        State::ExpectRcpt(ExpectRcpt(self.0))
    }
}

impl Transaction {
    /// Counts a refused recipient; false at the bound. These do not count as errors of the session:
    /// a list with stale or misspelt addresses is no attack.
    fn count_refused(&mut self, facts: &Facts) -> bool {
        self.refused_recipients = self.refused_recipients.saturating_add(1);
        self.refused_recipients <= facts.options.refused_recipients_max
    }
}

const SENDER_OK: Reply = Reply::fixed(250, Enhanced::new(2, 1, 0), "Sender OK");
const RECIPIENT_OK: Reply = Reply::fixed(250, Enhanced::new(2, 1, 5), "Recipient OK");
const TOO_MANY_RECIPIENTS: Reply = Reply::fixed(452, Enhanced::new(4, 5, 3), "Too many recipients");
const TOO_MANY_TRANSACTIONS: Reply =
    Reply::fixed(421, Enhanced::new(4, 7, 0), "Too many messages in one session, closing");
pub(super) const NO_RECIPIENTS: Reply =
    Reply::fixed(554, Enhanced::new(5, 5, 1), "No valid recipients");
pub(super) const TOO_LARGE: Reply = Reply::fixed(552, Enhanced::new(5, 3, 4), "Message too large");
const SMTPUTF8_NEEDED: Reply = Reply::fixed(
    553,
    Enhanced::new(5, 6, 7),
    "Address has non-ASCII characters, which needs SMTPUTF8",
);
