//! What a transaction is begun with.

use std::fmt;
use std::io::Write as _;

use super::Capabilities;
use crate::address::{Mailbox, PATH_BYTES_MAX};
use crate::param::{Body, Notify, ORCPT_BYTES_MAX, Ret, is_xtext};
use crate::reply::{Enhanced, Reply};

/// The envelope of a message to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's mailbox, or empty for the null reverse-path.
    pub reverse_path: String,
    /// Recipients, in the order their outcomes are told.
    pub recipients: Vec<Recipient>,
    /// Size of the content in bytes, to be declared where SIZE is offered.
    pub size: Option<u64>,
    /// What the content is.
    pub body: Body,
    /// Whether header fields or addresses hold UTF-8.
    pub smtputf8: bool,
    /// What to return on failure (DSN).
    pub ret: Option<Ret>,
    /// Envelope identifier, in xtext (DSN).
    pub envid: Option<String>,
}

/// One recipient of an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The mailbox, or `postmaster`.
    pub forward_path: String,
    /// When to notify (DSN).
    pub notify: Option<Notify>,
    /// Original recipient, `addr-type;xtext` (DSN).
    pub orcpt: Option<String>,
}

/// Why a transaction was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginError {
    /// The session is not ready; our bug.
    NotReady,
    /// There is no recipient; our bug.
    NoRecipient,
    /// An address or parameter does not fit the grammar; sending it might inject commands.
    BadAddress,
    /// The content is 8-bit and the server takes 7-bit only.
    EightBitUnsupported,
    /// SMTPUTF8 is needed and not offered.
    Utf8Unsupported,
    /// The content is larger than the server takes.
    TooLarge,
}

impl BeginError {
    /// The reply to report as if the server had refused.
    pub fn reply(self) -> Reply {
        match self {
            Self::NotReady | Self::NoRecipient => Reply::fixed(
                451,
                Enhanced::new(4, 3, 0),
                "Internal error, the session is not ready",
            ),
            Self::BadAddress => {
                Reply::fixed(550, Enhanced::new(5, 1, 3), "Address cannot be sent by SMTP")
            }
            Self::EightBitUnsupported => {
                Reply::fixed(554, Enhanced::new(5, 6, 3), "Next hop does not take 8-bit content")
            }
            Self::Utf8Unsupported => {
                Reply::fixed(550, Enhanced::new(5, 6, 7), "Next hop does not take SMTPUTF8")
            }
            Self::TooLarge => Reply::fixed(
                552,
                Enhanced::new(5, 3, 4),
                "Message is larger than the next hop takes",
            ),
        }
    }
}

impl fmt::Display for BeginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reply().text)
    }
}

impl std::error::Error for BeginError {}

impl Envelope {
    /// Whether it may be sent to a server with these capabilities.
    pub(super) fn check(&self, offered: &Capabilities) -> Result<(), BeginError> {
        if self.recipients.is_empty() {
            return Err(BeginError::NoRecipient);
        }
        let sender = self.reverse_path.is_empty() || is_path(&self.reverse_path);
        let envid = self.envid.as_deref().is_none_or(|id| id.is_ascii() && is_xtext(id));
        if !sender || !envid || !self.recipients.iter().all(Recipient::is_sound) {
            return Err(BeginError::BadAddress);
        }
        let international = !self.reverse_path.is_ascii()
            || self.recipients.iter().any(|recipient| !recipient.forward_path.is_ascii());
        if (self.smtputf8 || international) && !offered.smtputf8 {
            return Err(BeginError::Utf8Unsupported);
        }
        if self.body == Body::EightBitMime && !offered.eight_bit_mime {
            return Err(BeginError::EightBitUnsupported);
        }
        match (self.size, offered.size_max) {
            (Some(size), Some(max)) if size > max => Err(BeginError::TooLarge),
            _ => Ok(()),
        }
    }

    /// Appends the MAIL command.
    pub(super) fn write_mail(&self, offered: &Capabilities, out: &mut Vec<u8>) {
        push(out, format_args!("MAIL FROM:<{}>", self.reverse_path));
        if let (true, Some(size)) = (offered.size, self.size) {
            push(out, format_args!(" SIZE={size}"));
        }
        if offered.eight_bit_mime && self.body == Body::EightBitMime {
            push(out, format_args!(" BODY=8BITMIME"));
        }
        // A UTF-8 address needs the parameter even if nobody set the flag.
        let international = !self.reverse_path.is_ascii()
            || self.recipients.iter().any(|recipient| !recipient.forward_path.is_ascii());
        if self.smtputf8 || international {
            push(out, format_args!(" SMTPUTF8"));
        }
        if offered.dsn {
            self.write_dsn(out);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_dsn(&self, out: &mut Vec<u8>) {
        match self.ret {
            Some(Ret::Full) => push(out, format_args!(" RET=FULL")),
            Some(Ret::Headers) => push(out, format_args!(" RET=HDRS")),
            None => {}
        }
        if let Some(envid) = &self.envid {
            push(out, format_args!(" ENVID={envid}"));
        }
    }
}

impl Recipient {
    /// A recipient without parameters.
    pub fn new(forward_path: impl Into<String>) -> Self {
        Self { forward_path: forward_path.into(), notify: None, orcpt: None }
    }

    fn is_sound(&self) -> bool {
        let postmaster = self.forward_path.eq_ignore_ascii_case("postmaster");
        let orcpt = self.orcpt.as_deref().is_none_or(|orcpt| {
            orcpt.len() <= ORCPT_BYTES_MAX && orcpt.contains(';') && is_xtext(orcpt)
        });
        (postmaster || is_path(&self.forward_path)) && orcpt
    }

    /// Appends the RCPT command.
    pub(super) fn write_rcpt(&self, offered: &Capabilities, out: &mut Vec<u8>) {
        push(out, format_args!("RCPT TO:<{}>", self.forward_path));
        if let (true, Some(notify)) = (offered.dsn, self.notify) {
            push(out, format_args!(" NOTIFY={notify}"));
        }
        if let (true, Some(orcpt)) = (offered.dsn, &self.orcpt) {
            push(out, format_args!(" ORCPT={orcpt}"));
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether `text` may stand between angle brackets.
fn is_path(text: &str) -> bool {
    text.len() + 2 <= PATH_BYTES_MAX
        && !text.chars().any(char::is_control)
        && Mailbox::parse(text).is_ok()
}

fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _written = out.write_fmt(text);
}
