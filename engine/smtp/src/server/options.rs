//! What a server session is told once: identity, offers, and bounds.

use std::time::Duration;

use crate::data::BareNewlines;

/// Longest command line, CRLF included. RFC 5321 4.5.3.1.4 asks for 512 and for room for every
/// extension's parameters, which sum up to about 1,400.
pub const COMMAND_BYTES_MAX: usize = 2_048;
/// Longest SASL line, CRLF included (RFC 4954 4).
pub const SASL_LINE_BYTES_MAX: usize = 12_288;
/// A line that goes on for this long is nobody's mistake any more; the session is closed.
pub const LINE_DISCARD_BYTES_MAX: usize = 65_536;
/// Replies gather up to this size before the caller is made to send them.
pub const OUTPUT_BYTES_MAX: usize = 16_384;

/// The options of a listener, shared by its sessions.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Our name in the greeting and the EHLO reply.
    pub hostname: String,
    /// What follows the name in the greeting; `ESMTP` is put before it.
    pub banner: String,
    /// Offer STARTTLS while the session is in clear.
    pub starttls: bool,
    /// Offer AUTH PLAIN and LOGIN, under TLS only.
    pub auth: bool,
    /// Offer and accept AUTH in clear as well. For tests on the loopback interface.
    pub insecure_plaintext_auth: bool,
    /// What to do with content whose line ends are wrong.
    pub bare_newlines: BareNewlines,
    /// What to do with 8-bit content that was not declared.
    pub undeclared_eight_bit: EightBit,
    /// Largest content in bytes, offered as SIZE.
    pub message_bytes_max: u64,
    /// How much content above `message_bytes_max` is read to its end, so that the client learns of
    /// the refusal; beyond that the session is closed.
    pub excess_bytes_max: u64,
    /// Most recipients of a message, offered as RCPTMAX (RFC 9422); RFC 5321 4.5.3.1.8 asks for 100.
    pub recipients_max: u32,
    /// Most refused recipients of a message, those with bad addresses among them, before the session
    /// is closed.
    pub refused_recipients_max: u32,
    /// Most transactions of a session, offered as MAILMAX (RFC 9422).
    pub transactions_max: u32,
    /// Most erroneous commands of a session before it is closed.
    pub errors_max: u16,
    /// Most commands that lead nowhere (NOOP, RSET, EHLO, VRFY, HELP, MAIL without a message)
    /// between two messages before the session is closed.
    pub idle_commands_max: u16,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            banner: "Postern".to_owned(),
            starttls: true,
            auth: true,
            insecure_plaintext_auth: false,
            bare_newlines: BareNewlines::Reject,
            undeclared_eight_bit: EightBit::Accept,
            message_bytes_max: 50 << 20,
            excess_bytes_max: 50 << 20,
            recipients_max: 1_000,
            refused_recipients_max: 10_000,
            transactions_max: 10_000,
            errors_max: 20,
            idle_commands_max: 100,
            timeouts: Timeouts::default(),
        }
    }
}

/// What to do with bytes above 127 in content that was declared neither 8BITMIME nor SMTPUTF8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// Take it, as Postfix, Exim and the big providers do: the applications that forget the
    /// parameter outnumber those that mean it, and the caller learns of the bytes at end of data.
    #[default]
    Accept,
    /// Refuse with `554 5.6.1` at end of data.
    Refuse,
}

/// How long a session waits (RFC 5321 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From one reply to the end of the next command line. A trickle of bytes does not extend it.
    pub command: Duration,
    /// From one piece of content to the next.
    pub data_block: Duration,
    /// From the start of the content to its end.
    pub message: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(300),
            data_block: Duration::from_secs(180),
            message: Duration::from_secs(1_800),
        }
    }
}
