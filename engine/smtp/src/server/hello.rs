//! States outside a transaction: before the greeting is answered, ready, and around STARTTLS.

use super::facts::Facts;
use super::transaction::mail;
use super::{CloseReason, Event, Hello, Security, State, Step, auth};
use crate::command::{Command, CommandFault, hello_name};
use crate::reply::{Enhanced, Reply};

/// Nothing was said yet, or TLS was just started.
#[derive(Debug)]
pub(super) struct ExpectHello;

/// EHLO or HELO was answered and no transaction is open.
#[derive(Debug)]
pub(super) struct Ready;

/// The caller decides about STARTTLS.
#[derive(Debug)]
pub(super) struct DecidingTls {
    /// The state to return to when TLS is refused.
    greeted: bool,
}

/// 220 was given to STARTTLS.
#[derive(Debug)]
pub(super) struct AwaitingTls(());

impl ExpectHello {
    pub(super) fn line<'b>(self, facts: &mut Facts, line: &'b [u8], more: bool) -> Step<'b> {
        let command = match check_line(line) {
            Ok(command) => command,
            Err(trouble) => return faulty(trouble, facts, State::ExpectHello(self)),
        };
        match command {
            Command::Ehlo(name) => hello(name, true, facts, State::ExpectHello(self)),
            Command::Helo(name) => hello(name, false, facts, State::ExpectHello(self)),
            Command::StartTls => start_tls(facts, false, more),
            Command::Bdat(bytes, _) => {
                super::receiving::discard(facts, bytes, &HELLO_FIRST, State::ExpectHello(self))
            }
            Command::Mail(_) | Command::Rcpt(_) | Command::Data | Command::Auth(..) => {
                facts.error(&HELLO_FIRST, State::ExpectHello(self))
            }
            other => anywhere(other, facts, State::ExpectHello(self)),
        }
    }
}

impl Ready {
    pub(super) fn line<'b>(self, facts: &mut Facts, line: &'b [u8], more: bool) -> Step<'b> {
        let command = match check_line(line) {
            Ok(command) => command,
            Err(trouble) => return faulty(trouble, facts, State::Ready(self)),
        };
        match command {
            Command::Ehlo(name) => hello(name, true, facts, State::Ready(self)),
            Command::Helo(name) => hello(name, false, facts, State::Ready(self)),
            Command::Mail(argument) => mail(facts, argument),
            Command::Auth(mechanism, initial) => auth::start(facts, mechanism, initial),
            Command::StartTls => start_tls(facts, true, more),
            Command::Bdat(bytes, _) => {
                super::receiving::discard(facts, bytes, &MAIL_FIRST, State::Ready(self))
            }
            Command::Rcpt(_) | Command::Data => facts.error(&MAIL_FIRST, State::Ready(self)),
            Command::Rset => facts.idle(&RESET, State::Ready(self)),
            other => anywhere(other, facts, State::Ready(self)),
        }
    }
}

/// Parses a line and makes the check that holds for every command.
pub(super) fn check_line(line: &[u8]) -> Result<Command<'_>, LineTrouble> {
    match Command::parse(line) {
        // These close the session whatever else is wrong.
        Err(fault @ (CommandFault::Framing | CommandFault::Foreign)) => {
            Err(LineTrouble::Fault(fault))
        }
        _ if line.iter().any(u8::is_ascii_control) => Err(LineTrouble::Control),
        parsed => parsed.map_err(LineTrouble::Fault),
    }
}

/// Why a line leads to no command.
#[derive(Clone, Copy, Debug)]
pub(super) enum LineTrouble {
    /// A control character, NUL and bare CR among them.
    Control,
    Fault(CommandFault),
}

/// Answers a line that is no command.
pub(super) fn faulty<'b>(trouble: LineTrouble, facts: &mut Facts, stay: State) -> Step<'b> {
    match trouble {
        LineTrouble::Control => facts.error(&CONTROL, stay),
        LineTrouble::Fault(CommandFault::Unknown) => facts.error(&UNKNOWN, stay),
        LineTrouble::Fault(CommandFault::NotImplemented) => facts.error(&NOT_IMPLEMENTED, stay),
        LineTrouble::Fault(CommandFault::Argument) => facts.error(&BAD_ARGUMENT, stay),
        LineTrouble::Fault(CommandFault::Framing) => {
            facts.reply(&BAD_CHUNK);
            Step::close(CloseReason::Framing)
        }
        LineTrouble::Fault(CommandFault::Foreign) => Step::close(CloseReason::Foreign),
    }
}

/// Commands that mean the same in every state.
pub(super) fn anywhere<'b>(command: Command<'_>, facts: &mut Facts, stay: State) -> Step<'b> {
    match command {
        Command::Noop => facts.idle(&OK, stay),
        Command::Rset => facts.idle(&RESET, stay),
        Command::Help => facts.idle(&HELP, stay),
        Command::Vrfy => facts.idle(&VRFY, stay),
        Command::Quit => {
            facts.reply(&BYE);
            Step::close(CloseReason::Quit)
        }
        _ => facts.error(&SEQUENCE, stay),
    }
}

/// EHLO or HELO; `stay` is the state to keep when the name is no name.
pub(super) fn hello<'b>(
    name: &'b [u8],
    extended: bool,
    facts: &mut Facts,
    stay: State,
) -> Step<'b> {
    let Some(name) = hello_name(name) else {
        return facts.error(&BAD_NAME, stay);
    };
    // The first one is needed; a client that repeats it is idle.
    if !matches!(stay, State::ExpectHello(_)) && !facts.count_idle() {
        return facts.limit(&super::facts::TOO_MANY_IDLE);
    }
    facts.extended = extended;
    let reply = if extended { ehlo_reply(facts) } else { helo_reply(facts) };
    facts.reply(&reply);
    Step::with(State::Ready(Ready), Event::Hello(Hello { name, extended }))
}

fn helo_reply(facts: &Facts) -> Reply {
    Reply::bare(250, facts.options.hostname.clone())
}

/// The extensions on offer right now.
fn ehlo_reply(facts: &Facts) -> Reply {
    let options = &facts.options;
    let mut text = format!(
        "{}\nPIPELINING\nSIZE {}\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING\nDSN",
        options.hostname, options.message_bytes_max
    );
    if options.starttls && facts.security == Security::Plain {
        text.push_str("\nSTARTTLS");
    }
    if facts.auth_is_open() && !facts.authenticated {
        text.push_str("\nAUTH PLAIN LOGIN");
    }
    let (mails, recipients) = (options.transactions_max, options.recipients_max);
    text.push_str(&format!("\nLIMITS MAILMAX={mails} RCPTMAX={recipients}"));
    Reply::bare(250, text)
}

fn start_tls<'b>(facts: &mut Facts, greeted: bool, more: bool) -> Step<'b> {
    let stay = if greeted { State::Ready(Ready) } else { State::ExpectHello(ExpectHello) };
    if facts.security == Security::Tls {
        return facts.error(&TLS_ALREADY, stay);
    }
    if !facts.options.starttls {
        return facts.error(&NOT_IMPLEMENTED, stay);
    }
    // Commands in clear behind STARTTLS were put there by someone between us and the client.
    if more {
        facts.reply(&INJECTED);
        return Step::close(CloseReason::Framing);
    }
    Step::with(State::DecidingTls(DecidingTls { greeted }), Event::StartTls)
}

impl DecidingTls {
    pub(super) fn answer(self, facts: &mut Facts, reply: Option<Reply>) -> State {
        match reply {
            Some(reply) if !reply.is_positive() => {
                facts.reply(&reply);
                if self.greeted { State::Ready(Ready) } else { State::ExpectHello(ExpectHello) }
            }
            _ => {
                facts.reply(&GO_AHEAD_TLS);
                State::AwaitingTls(AwaitingTls(()))
            }
        }
    }
}

pub(super) const OK: Reply = Reply::fixed(250, Enhanced::new(2, 0, 0), "OK");
pub(super) const RESET: Reply = Reply::fixed(250, Enhanced::new(2, 0, 0), "Reset");
pub(super) const SEQUENCE: Reply =
    Reply::fixed(503, Enhanced::new(5, 5, 1), "Bad sequence of commands");
pub(super) const BAD_ARGUMENT: Reply =
    Reply::fixed(501, Enhanced::new(5, 5, 4), "Bad command argument");
const UNKNOWN: Reply = Reply::fixed(500, Enhanced::new(5, 5, 1), "Command not recognized");
const NOT_IMPLEMENTED: Reply = Reply::fixed(502, Enhanced::new(5, 5, 1), "Command not implemented");
const CONTROL: Reply = Reply::fixed(501, Enhanced::new(5, 5, 2), "Control character in command");
const BAD_CHUNK: Reply =
    Reply::fixed(501, Enhanced::new(5, 5, 4), "Bad chunk size, closing since framing is lost");
const BAD_NAME: Reply = Reply::fixed(501, Enhanced::new(5, 5, 4), "Bad host name");
const HELLO_FIRST: Reply = Reply::fixed(503, Enhanced::new(5, 5, 1), "Say EHLO or HELO first");
pub(super) const MAIL_OPEN: Reply =
    Reply::fixed(503, Enhanced::new(5, 5, 1), "A transaction is open already");
const MAIL_FIRST: Reply = Reply::fixed(503, Enhanced::new(5, 5, 1), "Say MAIL first");
const HELP: Reply = Reply::fixed(214, Enhanced::new(2, 0, 0), "See RFC 5321");
const VRFY: Reply =
    Reply::fixed(252, Enhanced::new(2, 5, 0), "Cannot verify, but will take mail for recipients");
const BYE: Reply = Reply::fixed(221, Enhanced::new(2, 0, 0), "Bye");
const TLS_ALREADY: Reply = Reply::fixed(503, Enhanced::new(5, 5, 1), "TLS is active already");
const GO_AHEAD_TLS: Reply = Reply::fixed(220, Enhanced::new(2, 0, 0), "Ready to start TLS");
const INJECTED: Reply =
    Reply::fixed(421, Enhanced::new(4, 7, 0), "Commands behind STARTTLS, closing");
