//! What a client session tells its caller.

use std::fmt;

use crate::reply::{Reply, ReplyFault, Severity};

/// One step of a session, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server is ready for the TLS handshake.
    StartTls,
    /// A transaction may begin.
    Ready,
    /// One recipient of the envelope was answered.
    Recipient {
        /// Its index in the envelope.
        index: usize,
        /// The reply, as success or refusal.
        outcome: Result<Reply, Reply>,
    },
    /// At least one recipient was accepted: the content may be sent.
    ContentNow,
    /// The transaction is over. [`Event::Ready`] follows if the session lives.
    Finished(Outcome),
    /// The session is over, and with it any transaction.
    Failed(Failure),
    /// QUIT was answered.
    Closed,
}

/// What became of a message, for those recipients that were accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server took responsibility for the accepted recipients.
    Accepted(Reply),
    /// The message was refused for all of them.
    Refused {
        /// What was refused.
        stage: Stage,
        /// The server's words.
        reply: Reply,
    },
    /// No recipient was accepted; each has its own reply.
    NoRecipient,
}

/// A refused step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// MAIL: the sender.
    Mail,
    /// DATA, before the content.
    Data,
    /// The message, after its content.
    EndOfData,
}

/// Where in a session something happened; each has its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the 220 of a new connection.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS and the handshake.
    Tls,
    /// AUTH.
    Auth,
    /// Between transactions.
    Idle,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// Sending the content.
    Content,
    /// Waiting for the reply to the content. A failure here leaves open whether the server took the
    /// message.
    EndOfData,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it happened.
    pub phase: Phase,
    /// What happened.
    pub cause: Cause,
}

/// The cause of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server was silent.
    Timeout,
    /// The connection ended.
    Disconnected,
    /// The server said so: a 421 anywhere, or a refusal where the session cannot go on.
    Reply(Reply),
    /// What it said is no reply.
    Fault(ReplyFault),
    /// TLS is required and was not offered; perhaps someone between hides it.
    TlsMissing,
    /// Bytes came in clear behind the 220 to STARTTLS; perhaps an attack.
    Injection,
    /// Credentials are configured, but AUTH PLAIN or LOGIN was not offered, or not under TLS.
    AuthMissing,
}

/// What a failure means for trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The same may succeed later.
    Transient,
    /// The server refuses for good.
    Permanent,
    /// The server does not keep to the protocol or to the policy; later or elsewhere may help.
    Protocol,
}

impl Failure {
    /// What it means for trying again.
    pub fn class(&self) -> FailureClass {
        match &self.cause {
            Cause::Timeout | Cause::Disconnected => FailureClass::Transient,
            Cause::Reply(reply) => match reply.severity() {
                Severity::Transient => FailureClass::Transient,
                Severity::Permanent => FailureClass::Permanent,
                Severity::Positive | Severity::Intermediate => FailureClass::Protocol,
            },
            Cause::Fault(_) | Cause::TlsMissing | Cause::Injection | Cause::AuthMissing => {
                FailureClass::Protocol
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Greeting => "greeting",
            Phase::Hello => "EHLO",
            Phase::Tls => "STARTTLS",
            Phase::Auth => "AUTH",
            Phase::Idle => "idle",
            Phase::Mail => "MAIL",
            Phase::Rcpt => "RCPT",
            Phase::Data => "DATA",
            Phase::Content => "content",
            Phase::EndOfData => "end of data",
            Phase::Reset => "RSET",
            Phase::Quit => "QUIT",
        };
        match &self.cause {
            Cause::Timeout => write!(f, "{phase}: timed out"),
            Cause::Disconnected => write!(f, "{phase}: connection lost"),
            Cause::Reply(reply) => write!(f, "{phase}: {reply}"),
            Cause::Fault(fault) => write!(f, "{phase}: {fault}"),
            Cause::TlsMissing => write!(f, "{phase}: TLS is required and not offered"),
            Cause::Injection => write!(f, "{phase}: bytes in clear behind STARTTLS"),
            Cause::AuthMissing => write!(f, "{phase}: no usable AUTH is offered"),
        }
    }
}

impl std::error::Error for Failure {}
