//! ESMTP parameters of MAIL and RCPT, and xtext.
//!
//! SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET, ENVID, NOTIFY and ORCPT (RFC 3461),
//! AUTH (RFC 4954). Values are views on the received bytes; xtext is checked here and stays encoded.
//!
//! # Security
//! An xtext escape that stands for a control character is refused, so that a decoded value can be
//! put into a header field or a log line. A keyword given twice is refused: two readers might
//! each believe another one.

use std::borrow::Cow;
use std::fmt;
use std::str;

use crate::address::Mailbox;
use crate::reply::{Enhanced, Reply};

/// Longest ENVID in bytes, encoded (RFC 3461 4.4).
pub const ENVID_BYTES_MAX: usize = 100;
/// Longest ORCPT in bytes, encoded (RFC 3461 4.2).
pub const ORCPT_BYTES_MAX: usize = 500;
/// Longest AUTH parameter in bytes, encoded (RFC 4954 3).
pub const AUTH_BYTES_MAX: usize = 500;
/// Most parameters of one command; the supported extensions define six.
pub const PARAMETERS_MAX: usize = 16;

/// What the content is declared to be (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Body {
    /// BODY=7BIT, or nothing was declared.
    #[default]
    SevenBit,
    /// BODY=8BITMIME.
    EightBitMime,
}

/// How much of the message a failure notification returns (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// RET=FULL.
    Full,
    /// RET=HDRS.
    Headers,
}

/// The submitter as the AUTH parameter names it (RFC 4954 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Submitter<'b> {
    /// AUTH=<>: unknown, or not trusted enough to be named.
    Unknown,
    /// A mailbox in xtext.
    Named(&'b str),
}

/// For which outcomes the sender wants a notification (RFC 3461 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notify(u8);

impl Notify {
    /// Never, whatever happens.
    pub const NEVER: Self = Self(0);
    /// On delivery.
    pub const SUCCESS: Self = Self(1);
    /// When delivery failed.
    pub const FAILURE: Self = Self(2);
    /// When delivery is late.
    pub const DELAY: Self = Self(4);

    /// Whether `self` asks for everything `other` asks for.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0 && (other.0 != 0 || self.0 == 0)
    }

    /// What either asks for.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Parses `NEVER` or a comma list of the others.
    fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(Self::NEVER);
        }
        value.split(',').try_fold(Self(0), |all, word| {
            let one = NOTIFY_WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name))?;
            Some(all.union(one.1))
        })
    }
}

const NOTIFY_WORDS: [(&str, Notify); 3] =
    [("SUCCESS", Notify::SUCCESS), ("FAILURE", Notify::FAILURE), ("DELAY", Notify::DELAY)];

impl fmt::Display for Notify {
    /// The value as it stands behind `NOTIFY=`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("NEVER");
        }
        let words = NOTIFY_WORDS.iter().filter(|(_, one)| self.contains(*one));
        for (index, (name, _)) in words.enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// The original recipient (RFC 3461 4.2), `addr-type;xtext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Orcpt<'b> {
    text: &'b str,
    semicolon: usize,
}

impl<'b> Orcpt<'b> {
    /// The parameter value as written.
    pub fn as_str(&self) -> &'b str {
        self.text
    }

    /// The address type, usually `rfc822` or `utf-8`.
    pub fn address_type(&self) -> &'b str {
        &self.text[..self.semicolon]
    }

    /// The address, still in xtext.
    pub fn address(&self) -> &'b str {
        &self.text[self.semicolon + 1..]
    }

    fn parse(text: &'b str) -> Option<Self> {
        let semicolon = text.find(';')?;
        let (kind, address) = (&text[..semicolon], &text[semicolon + 1..]);
        let known_form = !kind.is_empty()
            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !address.is_empty()
            && text.len() <= ORCPT_BYTES_MAX;
        (known_form && is_xtext(address)).then_some(Self { text, semicolon })
    }
}

/// The parameters of one MAIL command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParameters<'b> {
    /// Declared size of the content in bytes (RFC 1870).
    pub size: Option<u64>,
    /// Declared body type.
    pub body: Body,
    /// Whether addresses and header fields may hold UTF-8.
    pub smtputf8: bool,
    /// What to return on failure.
    pub ret: Option<Ret>,
    /// Envelope identifier, in xtext.
    pub envid: Option<&'b str>,
    /// Submitter.
    pub auth: Option<Submitter<'b>>,
}

/// The parameters of one RCPT command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters<'b> {
    /// When to notify; absent means failure (and perhaps delay), as RFC 3461 4.1 says.
    pub notify: Option<Notify>,
    /// Original recipient.
    pub orcpt: Option<Orcpt<'b>>,
}

/// Why parameters were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// No extension that is offered defines the keyword.
    Unknown,
    /// The value does not fit the keyword, or is missing.
    BadValue,
    /// The keyword was given before, or there are more than [`PARAMETERS_MAX`].
    Repeated,
    /// What follows the path is no parameter list.
    Syntax,
}

impl ParameterError {
    /// The reply for the command.
    pub fn reply(self) -> Reply {
        match self {
            Self::Unknown => Reply::fixed(555, Enhanced::new(5, 5, 4), "Unsupported parameter"),
            Self::BadValue => Reply::fixed(501, Enhanced::new(5, 5, 4), "Bad parameter value"),
            Self::Repeated => Reply::fixed(501, Enhanced::new(5, 5, 4), "Repeated parameter"),
            Self::Syntax => Reply::fixed(501, Enhanced::new(5, 5, 4), "Bad parameter syntax"),
        }
    }
}

/// Parses what follows the reverse-path.
///
/// # Errors
/// Any [`ParameterError`].
pub fn mail_parameters(input: &[u8]) -> Result<MailParameters<'_>, ParameterError> {
    let mut parsed = MailParameters::default();
    let mut seen = Seen::default();
    each_parameter(input, |keyword, value| {
        let known = ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"];
        match seen.find(&known, keyword)? {
            0 => parsed.size = Some(size(value)?),
            1 => parsed.body = body(value)?,
            2 => parsed.smtputf8 = value.map_or(Ok(true), |_| Err(ParameterError::BadValue))?,
            3 => parsed.ret = Some(ret(value)?),
            4 => parsed.envid = Some(xtext_value(value, ENVID_BYTES_MAX)?),
            _ => parsed.auth = Some(submitter(value)?),
        }
        Ok(())
    })?;
    Ok(parsed)
}

/// Parses what follows the forward-path.
///
/// # Errors
/// Any [`ParameterError`].
pub fn rcpt_parameters(input: &[u8]) -> Result<RcptParameters<'_>, ParameterError> {
    let mut parsed = RcptParameters::default();
    let mut seen = Seen::default();
    each_parameter(input, |keyword, value| {
        match seen.find(&["NOTIFY", "ORCPT"], keyword)? {
            0 => parsed.notify = Some(known(value, Notify::parse)?),
            _ => parsed.orcpt = Some(known(value, Orcpt::parse)?),
        }
        Ok(())
    })?;
    Ok(parsed)
}

/// Which keywords of a table were met, one bit each.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn find(&mut self, table: &[&str], keyword: &str) -> Result<usize, ParameterError> {
        let index = table
            .iter()
            .position(|name| name.eq_ignore_ascii_case(keyword))
            .ok_or(ParameterError::Unknown)?;
        if self.0 & (1 << index) != 0 {
            return Err(ParameterError::Repeated);
        }
        self.0 |= 1 << index;
        Ok(index)
    }
}

fn each_parameter<'b>(
    input: &'b [u8],
    mut take: impl FnMut(&'b str, Option<&'b str>) -> Result<(), ParameterError>,
) -> Result<(), ParameterError> {
    if !input.is_empty() && input[0] != b' ' {
        return Err(ParameterError::Syntax);
    }
    let text = str::from_utf8(input).map_err(|_| ParameterError::Syntax)?;
    // Clients put stray spaces between and behind parameters; they mean nothing.
    let words = text.split(' ').filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index >= PARAMETERS_MAX {
            return Err(ParameterError::Repeated);
        }
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        if !is_keyword(keyword) || value.is_some_and(|value| !is_value(value)) {
            return Err(ParameterError::Syntax);
        }
        take(keyword, value)?;
    }
    Ok(())
}

/// esmtp-keyword (RFC 5321 4.1.2).
fn is_keyword(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// esmtp-value, let to hold `=` as well: base64 and quirky clients have it, and no parameter of
/// ours is read differently for it.
fn is_value(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| !c.is_control() && c != ' ')
}

fn known<'b, T>(
    value: Option<&'b str>,
    parse: impl FnOnce(&'b str) -> Option<T>,
) -> Result<T, ParameterError> {
    value.and_then(parse).ok_or(ParameterError::BadValue)
}

/// 1 to 20 digits (RFC 1870 3); what does not fit 64 bits is a bad value.
fn size(value: Option<&str>) -> Result<u64, ParameterError> {
    known(value, |v| v.bytes().all(|b| b.is_ascii_digit()).then(|| v.parse().ok())?)
}

fn body(value: Option<&str>) -> Result<Body, ParameterError> {
    known(value, |v| match v {
        v if v.eq_ignore_ascii_case("7BIT") => Some(Body::SevenBit),
        v if v.eq_ignore_ascii_case("8BITMIME") => Some(Body::EightBitMime),
        _ => None,
    })
}

fn ret(value: Option<&str>) -> Result<Ret, ParameterError> {
    known(value, |v| match v {
        v if v.eq_ignore_ascii_case("FULL") => Some(Ret::Full),
        v if v.eq_ignore_ascii_case("HDRS") => Some(Ret::Headers),
        _ => None,
    })
}

fn xtext_value(value: Option<&str>, bytes_max: usize) -> Result<&str, ParameterError> {
    known(value, |v| (v.len() <= bytes_max && v.is_ascii() && is_xtext(v)).then_some(v))
}

fn submitter(value: Option<&str>) -> Result<Submitter<'_>, ParameterError> {
    if value == Some("<>") {
        return Ok(Submitter::Unknown);
    }
    let encoded = xtext_value(value, AUTH_BYTES_MAX)?;
    let decoded = xtext_decode(encoded).ok_or(ParameterError::BadValue)?;
    Mailbox::parse(&decoded).map_err(|_| ParameterError::BadValue)?;
    Ok(Submitter::Named(encoded))
}

/// Whether `text` is xtext that decodes to no control character (RFC 3461 4); bytes outside ASCII
/// are let through for the `utf-8` address type (RFC 6533 3).
pub fn is_xtext(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'+' => match bytes.get(at + 1..at + 3).and_then(hex_pair) {
                Some(32..=126 | 128..) => 3,
                _ => return false,
            },
            b'=' | ..=b' ' | 127 => return false,
            _ => 1,
        };
    }
    true
}

/// Decodes xtext; borrows when nothing is escaped. `None` when it is no xtext or no UTF-8.
pub fn xtext_decode(text: &str) -> Option<Cow<'_, str>> {
    if !is_xtext(text) {
        return None;
    }
    if !text.contains('+') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        bytes = rest;
        if byte == b'+' {
            decoded.push(hex_pair(&rest[..2])?);
            bytes = &rest[2..];
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Encodes `text` as xtext; borrows when nothing needs an escape.
pub fn xtext_encode(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b'!'..=b'~') && b != b'+' && b != b'=';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('+');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Cow::Owned(encoded)
}

/// The byte that two upper-case hexadecimal digits stand for.
fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    match pair {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mail_tables() {
        let parse = |text: &'static str| mail_parameters(text.as_bytes());
        assert_eq!(parse(""), Ok(MailParameters::default()));
        assert_eq!(parse("  "), Ok(MailParameters::default()));
        let all = parse(" SIZE=1000 body=8bitmime SMTPUTF8 RET=HDRS ENVID=q+2Bx AUTH=a@b.example")
            .expect("all six");
        assert_eq!(all.size, Some(1_000));
        assert_eq!(all.body, Body::EightBitMime);
        assert!(all.smtputf8);
        assert_eq!((all.ret, all.envid), (Some(Ret::Headers), Some("q+2Bx")));
        assert_eq!(all.auth, Some(Submitter::Named("a@b.example")));
        assert_eq!(parse(" AUTH=<>").expect("null").auth, Some(Submitter::Unknown));
        for (text, error) in [
            ("SIZE=1", ParameterError::Syntax),
            (" SIZE", ParameterError::BadValue),
            (" SIZE=", ParameterError::Syntax),
            (" SIZE=-1", ParameterError::BadValue),
            (" SIZE=+1", ParameterError::BadValue),
            (" SIZE=99999999999999999999", ParameterError::BadValue),
            (" SIZE=1 SIZE=1", ParameterError::Repeated),
            (" size=1 SIZE=2", ParameterError::Repeated),
            (" BODY=BINARYMIME", ParameterError::BadValue),
            (" SMTPUTF8=yes", ParameterError::BadValue),
            (" RET=ALL", ParameterError::BadValue),
            (" ENVID=a+0D+0Ab", ParameterError::BadValue),
            (" ENVID=a+2bb", ParameterError::BadValue),
            (" ENVID=a+", ParameterError::BadValue),
            (" ENVID=a=b", ParameterError::BadValue),
            (" AUTH=nobody", ParameterError::BadValue),
            (" NOTIFY=NEVER", ParameterError::Unknown),
            (" -X=1", ParameterError::Syntax),
            (" X\t=1", ParameterError::Syntax),
            (" RET=FULL\t", ParameterError::Syntax),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
        let long = format!(" ENVID={}", "a".repeat(ENVID_BYTES_MAX + 1));
        assert_eq!(mail_parameters(long.as_bytes()), Err(ParameterError::BadValue));
        assert_eq!(mail_parameters(b" ENVID=\xff"), Err(ParameterError::Syntax));
        let many = " X".repeat(PARAMETERS_MAX + 1);
        assert!(mail_parameters(many.as_bytes()).is_err());
    }

    #[test]
    fn rcpt_tables() {
        let parse = |text: &'static str| rcpt_parameters(text.as_bytes());
        let both = parse(" NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@c.example").expect("both");
        let notify = both.notify.expect("notify");
        assert!(notify.contains(Notify::SUCCESS) && notify.contains(Notify::DELAY));
        assert!(!notify.contains(Notify::FAILURE) && !notify.contains(Notify::NEVER));
        assert_eq!(notify.to_string(), "SUCCESS,DELAY");
        let orcpt = both.orcpt.expect("orcpt");
        assert_eq!((orcpt.address_type(), orcpt.address()), ("rfc822", "a+2Bb@c.example"));
        assert_eq!(parse(" NOTIFY=NEVER").expect("never").notify, Some(Notify::NEVER));
        for text in [
            " NOTIFY=NEVER,SUCCESS",
            " NOTIFY=",
            " NOTIFY=,",
            " NOTIFY",
            " ORCPT=a@b.example",
            " ORCPT=;a",
            " ORCPT=rfc822;",
            " ORCPT=rfc822;a+0Ab",
            " ORCPT=rf c;a",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn xtext_round_trips(text in "[ -~é字]{0,40}") {
            let encoded = xtext_encode(&text);
            prop_assert!(is_xtext(&encoded) && encoded.is_ascii());
            let decoded = xtext_decode(&encoded);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = mail_parameters(&bytes).is_ok();
            let _ = rcpt_parameters(&bytes).is_ok();
        }
    }
}
