//! What a server session tells its caller.

use std::fmt;

use zeroize::Zeroizing;

use crate::address::{ForwardPath, ReversePath};
use crate::data::ContentFault;
use crate::param::{MailParameters, RcptParameters};

/// One step of a session, as its caller sees it.
///
/// Events marked *answer* hold the session until [`accept`](super::Server::accept),
/// [`accept_with`](super::Server::accept_with) or [`refuse`](super::Server::refuse) is called;
/// until then no further input is consumed.
#[derive(Debug)]
pub enum Event<'b> {
    /// EHLO or HELO was answered. A transaction that was open is gone.
    Hello(Hello<'b>),
    /// *Answer.* The client asks for TLS. After `accept`: send what
    /// [`transmit`](super::Server::transmit) gives, do the handshake, call
    /// [`tls_started`](super::Server::tls_started). Bytes received meanwhile belong to TLS; any
    /// handed to the session close it.
    StartTls,
    /// *Answer.* The client presents credentials. Refuse wrong ones with `535 5.7.8`.
    Auth(Credentials),
    /// *Answer.* A transaction begins.
    Mail(Mail<'b>),
    /// *Answer.* One recipient. Recipients that were refused do not belong to the transaction.
    Rcpt(Rcpt<'b>),
    /// *Answer.* At least one recipient was accepted and the content is about to come. Refusing
    /// ends the transaction.
    Data,
    /// Content in wire form. Slices follow one another without gap.
    Content(&'b [u8]),
    /// *Answer.* The content is complete. The answer decides who is responsible for the message:
    /// accept only what is stored (RFC 5321 6.1). The transaction is over with the answer.
    EndOfData(EndOfData),
    /// The session refused the message in transfer and has given the reply; forget it.
    MessageRefused(Refusal),
    /// The transaction was given up by RSET; forget it.
    Reset,
    /// Replies have piled up to their bound: send what [`transmit`](super::Server::transmit) gives,
    /// then go on.
    Flush,
    /// The session is over: send what is left to transmit, then close the connection. A transaction
    /// that was open is gone.
    Close(CloseReason),
}

/// How the client introduced itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'b> {
    /// The name it gave; true or not.
    pub name: &'b str,
    /// Whether it said EHLO, so that extensions are in use.
    pub extended: bool,
}

/// MAIL FROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mail<'b> {
    /// Where failures are returned.
    pub reverse_path: ReversePath<'b>,
    /// Parameters.
    pub parameters: MailParameters<'b>,
}

/// RCPT TO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcpt<'b> {
    /// The recipient.
    pub forward_path: ForwardPath<'b>,
    /// Parameters.
    pub parameters: RcptParameters<'b>,
}

/// The content as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfData {
    /// Bytes of wire form that were handed out.
    pub wire_bytes: u64,
    /// Whether any byte was outside ASCII.
    pub eight_bit: bool,
    /// Whether it came by BDAT.
    pub chunked: bool,
}

/// Why a session refused a message by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The content breaks the rules for line ends or holds NUL.
    Content(ContentFault),
    /// It is longer than the bound.
    TooLarge,
    /// It is 8-bit without BODY=8BITMIME or SMTPUTF8, and the options say to mind.
    EightBit,
    /// The caller had asked for it with [`refuse_message`](super::Server::refuse_message).
    ByCaller,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// QUIT.
    Quit,
    /// The client was silent or too slow.
    Timeout,
    /// A bound on errors, idle commands or transactions was reached.
    Limit,
    /// The client does not speak SMTP: HTTP, or TLS on a clear port.
    Foreign,
    /// Framing was lost: bytes behind STARTTLS, a bare LF in a command, an unreadable BDAT.
    Framing,
    /// The caller had asked for it with [`shutdown`](super::Server::shutdown).
    ByCaller,
}

/// The SASL mechanism the credentials came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login.
    Login,
}

impl Mechanism {
    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// What the client presented to authenticate; not checked.
#[derive(Debug)]
pub struct Credentials {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Identity to act as; empty for the same as `authcid`.
    pub authzid: String,
    /// Identity that authenticates. Not empty, no control characters.
    pub authcid: String,
    /// The password.
    pub password: Password,
}

/// A password: never printed, wiped from memory when dropped.
pub struct Password(pub(super) Zeroizing<Vec<u8>>);

impl Password {
    /// Takes hold of a secret.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The secret bytes, for the one who checks them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
