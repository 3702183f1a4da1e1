//! Mailboxes and paths of the envelope (RFC 5321 4.1.2, RFC 6531 3.3).
//!
//! Everything is a view on the received bytes: parsing allocates nothing and copies nothing.
//!
//! # Invariants
//! - A [`Mailbox`] is UTF-8, has no control character, a local part of 1 to
//!   [`LOCAL_PART_BYTES_MAX`] bytes and a domain of 1 to [`DOMAIN_BYTES_MAX`] bytes.
//! - A domain is either a host name made of labels or an address literal that parses.
//!
//! # Security
//! Source routes (`<@a,@b:c@d>`) are refused: no client needs them, and they are an old way to
//! make a relay read another recipient than its neighbour. A quoted local part is kept as written;
//! [`Mailbox::same_mailbox`] compares without being fooled by needless quoting.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str;

use crate::reply::{Enhanced, Reply};

/// Longest local part in bytes (RFC 5321 4.5.3.1.1).
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// Longest domain in bytes (RFC 5321 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Longest path in bytes, angle brackets included (RFC 5321 4.5.3.1.3).
pub const PATH_BYTES_MAX: usize = 256;
/// Longest label of a domain in bytes (RFC 1035 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// One mailbox, `local-part@domain`, as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mailbox<'b> {
    text: &'b str,
    /// Index of the `@` between local part and domain.
    at: usize,
}

impl<'b> Mailbox<'b> {
    /// Parses a mailbox that stands alone, without angle brackets.
    ///
    /// # Errors
    /// Any [`AddressError`]; [`AddressError::Syntax`] also when something follows the domain.
    pub fn parse(text: &'b str) -> Result<Self, AddressError> {
        let (mailbox, rest) = mailbox(text)?;
        if rest.is_empty() { Ok(mailbox) } else { Err(AddressError::Syntax) }
    }

    /// The whole mailbox as written.
    pub fn as_str(&self) -> &'b str {
        self.text
    }

    /// The local part as written, with its quotes if it has any.
    pub fn local_part(&self) -> &'b str {
        &self.text[..self.at]
    }

    /// The domain or address literal as written.
    pub fn domain(&self) -> &'b str {
        &self.text[self.at + 1..]
    }

    /// Whether the domain is an address literal such as `[192.0.2.1]`.
    pub fn is_literal(&self) -> bool {
        self.domain().starts_with('[')
    }

    /// Whether any byte is outside ASCII, so that SMTPUTF8 is needed (RFC 6531).
    pub fn is_international(&self) -> bool {
        !self.text.is_ascii()
    }

    /// Whether both name one mailbox: local parts equal once needless quoting is removed (case
    /// counts, RFC 5321 2.4), domains equal without regard to ASCII case.
    pub fn same_mailbox(&self, other: &Mailbox<'_>) -> bool {
        self.domain().eq_ignore_ascii_case(other.domain())
            && unquoted(self.local_part()).eq(unquoted(other.local_part()))
    }
}

impl fmt::Display for Mailbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Debug for Mailbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text, f)
    }
}

/// The path of MAIL FROM (RFC 5321 4.1.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath<'b> {
    /// `<>`: nothing may be returned to it (RFC 5321 4.5.5).
    Null,
    /// Where delivery failures go.
    Mailbox(Mailbox<'b>),
}

impl<'b> ReversePath<'b> {
    /// The mailbox, or the empty string for the null reverse-path.
    pub fn as_str(&self) -> &'b str {
        match self {
            Self::Null => "",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }

    /// The mailbox unless the path is null.
    pub fn mailbox(&self) -> Option<Mailbox<'b>> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(*mailbox),
        }
    }
}

/// The path of RCPT TO (RFC 5321 4.1.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath<'b> {
    /// `<postmaster>` without a domain, which every server must know (RFC 5321 4.5.1).
    Postmaster,
    /// One recipient.
    Mailbox(Mailbox<'b>),
}

impl<'b> ForwardPath<'b> {
    /// The mailbox as written, or `postmaster`.
    pub fn as_str(&self) -> &'b str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }

    /// The mailbox unless it is the bare postmaster.
    pub fn mailbox(&self) -> Option<Mailbox<'b>> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(mailbox) => Some(*mailbox),
        }
    }
}

/// Why an address was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It is no mailbox by the grammar; usually a missing bracket, domain or dot.
    Syntax,
    /// The local part, a label, the domain or the path is longer than the protocol allows.
    TooLong,
    /// It carries a source route.
    SourceRoute,
    /// It has control characters, or bytes that are not UTF-8; usually an attack or a wrong
    /// character set.
    BadBytes,
}

impl AddressError {
    /// The reply for a refused reverse-path.
    pub fn sender_reply(self) -> Reply {
        match self {
            Self::TooLong => Reply::fixed(501, Enhanced::new(5, 1, 7), "Sender address too long"),
            Self::SourceRoute => {
                Reply::fixed(553, Enhanced::new(5, 1, 7), "Source routes are not accepted")
            }
            Self::Syntax | Self::BadBytes => {
                Reply::fixed(501, Enhanced::new(5, 1, 7), "Bad sender address syntax")
            }
        }
    }

    /// The reply for a refused forward-path.
    pub fn recipient_reply(self) -> Reply {
        match self {
            Self::TooLong => {
                Reply::fixed(501, Enhanced::new(5, 1, 3), "Recipient address too long")
            }
            Self::SourceRoute => {
                Reply::fixed(553, Enhanced::new(5, 1, 3), "Source routes are not accepted")
            }
            Self::Syntax | Self::BadBytes => {
                Reply::fixed(501, Enhanced::new(5, 1, 3), "Bad recipient address syntax")
            }
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a mailbox",
            Self::TooLong => "address too long",
            Self::SourceRoute => "source routes are not accepted",
            Self::BadBytes => "control characters or bytes that are not UTF-8",
        })
    }
}

impl std::error::Error for AddressError {}

/// Parses `<reverse-path>` at the front of `input`; the rest starts behind the `>`.
///
/// # Errors
/// Any [`AddressError`].
pub fn reverse_path(input: &[u8]) -> Result<(ReversePath<'_>, &[u8]), AddressError> {
    if let Some(rest) = input.strip_prefix(b"<>") {
        return Ok((ReversePath::Null, rest));
    }
    let (mailbox, rest) = bracketed(input)?;
    let mailbox = Mailbox::parse(mailbox)?;
    Ok((ReversePath::Mailbox(mailbox), rest))
}

/// Parses `<forward-path>` at the front of `input`; the rest starts behind the `>`.
///
/// # Errors
/// Any [`AddressError`]; the null path is a [`AddressError::Syntax`] error.
pub fn forward_path(input: &[u8]) -> Result<(ForwardPath<'_>, &[u8]), AddressError> {
    let (inside, rest) = bracketed(input)?;
    if inside.eq_ignore_ascii_case("postmaster") {
        return Ok((ForwardPath::Postmaster, rest));
    }
    Ok((ForwardPath::Mailbox(Mailbox::parse(inside)?), rest))
}

/// What stands between `<` and the `>` that closes it, and what follows.
fn bracketed(input: &[u8]) -> Result<(&str, &[u8]), AddressError> {
    let body = input.strip_prefix(b"<").ok_or(AddressError::Syntax)?;
    let close = closing_bracket(body)?;
    if close + 2 > PATH_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    let inside = str::from_utf8(&body[..close]).map_err(|_| AddressError::BadBytes)?;
    if inside.chars().any(char::is_control) {
        return Err(AddressError::BadBytes);
    }
    if inside.starts_with('@') {
        return Err(AddressError::SourceRoute);
    }
    Ok((inside, &body[close + 1..]))
}

/// Index of the first `>` outside a quoted string.
fn closing_bracket(body: &[u8]) -> Result<usize, AddressError> {
    let mut quoted = false;
    let mut from = 0;
    while let Some(found) = memchr::memchr3(b'>', b'"', b'\\', &body[from..]) {
        let at = from + found;
        match body[at] {
            b'>' if !quoted => return Ok(at),
            b'"' => quoted = !quoted,
            // A quoted pair hides the next byte, also a quote or a bracket.
            b'\\' if quoted => {
                from = (at + 2).min(body.len());
                continue;
            }
            _ => {}
        }
        from = at + 1;
    }
    Err(AddressError::Syntax)
}

/// Parses a mailbox at the front of `text`.
fn mailbox(text: &str) -> Result<(Mailbox<'_>, &str), AddressError> {
    let at = local_part_bytes(text)?;
    if at == 0 || text.as_bytes().get(at) != Some(&b'@') {
        return Err(AddressError::Syntax);
    }
    if at > LOCAL_PART_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    let domain = &text[at + 1..];
    let domain_bytes =
        if domain.starts_with('[') { literal_bytes(domain)? } else { host_bytes(domain)? };
    let end = at + 1 + domain_bytes;
    Ok((Mailbox { text: &text[..end], at }, &text[end..]))
}

/// Bytes of the local part at the front of `text`: a Dot-string or a Quoted-string.
fn local_part_bytes(text: &str) -> Result<usize, AddressError> {
    if text.starts_with('"') {
        quoted_bytes(text.as_bytes())
    } else {
        dot_string_bytes(text.as_bytes())
    }
}

fn dot_string_bytes(text: &[u8]) -> Result<usize, AddressError> {
    let end = text.iter().position(|&b| !is_atext(b) && b != b'.').unwrap_or(text.len());
    let local = &text[..end];
    let misplaced = local.first() == Some(&b'.')
        || local.last() == Some(&b'.')
        || local.windows(2).any(|pair| pair == b"..");
    if misplaced { Err(AddressError::Syntax) } else { Ok(end) }
}

fn quoted_bytes(text: &[u8]) -> Result<usize, AddressError> {
    let mut at = 1;
    loop {
        match text.get(at) {
            // `""` is in the grammar but names nobody.
            Some(b'"') if at == 1 => return Err(AddressError::Syntax),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match text.get(at + 1) {
                Some(32..=126) => at += 2,
                _ => return Err(AddressError::Syntax),
            },
            Some(0..=31 | 127) | None => return Err(AddressError::Syntax),
            Some(_) => at += 1,
        }
    }
}

/// atext of RFC 5322 3.2.3, and any byte of a UTF-8 character (RFC 6531 3.3).
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Bytes of the host name at the front of `text`.
///
/// The underscore is let through: it is no host name by the book, but applications sit on hosts
/// that have it, and nothing downstream reads it as anything else.
fn host_bytes(text: &str) -> Result<usize, AddressError> {
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80 || matches!(b, b'-' | b'.' | b'_');
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|&b| !is_host(b)).unwrap_or(bytes.len());
    if end > DOMAIN_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    for label in bytes[..end].split(|&b| b == b'.') {
        if label.is_empty() || label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(AddressError::Syntax);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
    }
    Ok(end)
}

/// Bytes of the address literal at the front of `text` (RFC 5321 4.1.3); IPv4 and IPv6 only,
/// since no other tag was ever registered.
fn literal_bytes(text: &str) -> Result<usize, AddressError> {
    let close = text.find(']').ok_or(AddressError::Syntax)?;
    if !is_address_literal(&text[..=close]) {
        return Err(AddressError::Syntax);
    }
    Ok(close + 1)
}

/// Whether `text` is `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
pub(crate) fn is_address_literal(text: &str) -> bool {
    let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return false;
    };
    match inside.split_at_checked(5) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6:") => v6.parse::<Ipv6Addr>().is_ok(),
        _ => inside.parse::<Ipv4Addr>().is_ok(),
    }
}

/// The bytes of a local part without quotes and backslashes.
fn unquoted(local: &str) -> impl Iterator<Item = u8> + '_ {
    let inside = local.strip_prefix('"').and_then(|local| local.strip_suffix('"'));
    let quoted = inside.is_some();
    let mut bytes = inside.unwrap_or(local).bytes();
    std::iter::from_fn(move || match bytes.next() {
        Some(b'\\') if quoted => bytes.next(),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_forward(input: &str, expected: Result<(&str, &str), AddressError>) {
        let parsed = forward_path(input.as_bytes()).map(|(path, rest)| {
            (path.as_str().to_owned(), String::from_utf8(rest.to_vec()).expect("ASCII rest"))
        });
        let parsed = parsed.as_ref().map(|(a, b)| (a.as_str(), b.as_str())).map_err(|e| *e);
        assert_eq!(parsed, expected, "{input:?}");
    }

    #[test]
    fn forward_paths() {
        use AddressError::*;
        let long_local = format!("<{}@b.example>", "a".repeat(65));
        let full_local = format!("{}@b.example", "a".repeat(64));
        let long_label = format!("<a@{}.example>", "b".repeat(64));
        let long_path = format!("<a@{}>", "b.".repeat(126) + "bb");
        let full_path = format!("a@{}b", "b.".repeat(125) + "b");
        for (input, expected) in [
            ("<a@b.example>", Ok(("a@b.example", ""))),
            ("<a@b.example> NOTIFY=NEVER", Ok(("a@b.example", " NOTIFY=NEVER"))),
            ("<postmaster>", Ok(("postmaster", ""))),
            ("<PostMaster>x", Ok(("postmaster", "x"))),
            ("<\"a b\"@c.example>", Ok(("\"a b\"@c.example", ""))),
            ("<\"a>b\"@c.example> X", Ok(("\"a>b\"@c.example", " X"))),
            ("<\"a\\\">b\"@c.example>", Ok(("\"a\\\">b\"@c.example", ""))),
            ("<a@[192.0.2.1]>", Ok(("a@[192.0.2.1]", ""))),
            ("<a@[IPv6:2001:db8::1]>", Ok(("a@[IPv6:2001:db8::1]", ""))),
            ("<a@host_name.example>", Ok(("a@host_name.example", ""))),
            ("<a+b/c=d@b.example>", Ok(("a+b/c=d@b.example", ""))),
            ("<用户@例え.example>", Ok(("用户@例え.example", ""))),
            ("<a@[256.0.2.1]>", Err(Syntax)),
            ("<a@[IPv6:zz]>", Err(Syntax)),
            ("<a@[x400:y]>", Err(Syntax)),
            ("<a@b.example", Err(Syntax)),
            ("a@b.example", Err(Syntax)),
            ("<>", Err(Syntax)),
            ("<a>", Err(Syntax)),
            ("<@b>", Err(SourceRoute)),
            ("<@b.example:a@c.example>", Err(SourceRoute)),
            ("<a..b@c.example>", Err(Syntax)),
            ("<.a@c.example>", Err(Syntax)),
            ("<a.@c.example>", Err(Syntax)),
            ("<a@c..example>", Err(Syntax)),
            ("<a@.example>", Err(Syntax)),
            ("<a@c.example.>", Err(Syntax)),
            ("<a@-c.example>", Err(Syntax)),
            ("<a@c-.example>", Err(Syntax)),
            ("<a b@c.example>", Err(Syntax)),
            ("<a@b@c.example>", Err(Syntax)),
            ("<a@c.example,d@e.example>", Err(Syntax)),
            ("<\"a\"b@c.example>", Err(Syntax)),
            ("<\"a@c.example>", Err(Syntax)),
            ("<\"\"@c.example>", Err(Syntax)),
            ("<a\u{1}@c.example>", Err(BadBytes)),
            ("<a\0@c.example>", Err(BadBytes)),
            ("<a\r@c.example>", Err(BadBytes)),
            ("<a\u{85}@c.example>", Err(BadBytes)),
            (&long_local, Err(TooLong)),
            (&format!("<{full_local}>"), Ok((&full_local, ""))),
            (&long_label, Err(TooLong)),
            (&long_path, Err(TooLong)),
            (&format!("<{full_path}>"), Ok((&full_path, ""))),
        ] {
            check_forward(input, expected);
        }
        assert_eq!(forward_path(b"<\xc3\x28\xff@b.example>"), Err(BadBytes));
    }

    #[test]
    fn reverse_paths() {
        assert_eq!(reverse_path(b"<> X").expect("null"), (ReversePath::Null, b" X".as_slice()));
        assert_eq!(reverse_path(b"<postmaster>"), Err(AddressError::Syntax));
        let (path, _) = reverse_path(b"<a@b.example>").expect("mailbox");
        let mailbox = path.mailbox().expect("not null");
        assert_eq!((mailbox.local_part(), mailbox.domain()), ("a", "b.example"));
    }

    #[test]
    fn comparison_sees_through_quotes() {
        let same = |a: &str, b: &str| {
            let (a, b) = (Mailbox::parse(a).expect(a), Mailbox::parse(b).expect(b));
            a.same_mailbox(&b)
        };
        assert!(same("\"a\"@B.example", "a@b.EXAMPLE"));
        assert!(same("\"\\a\"@b.example", "a@b.example"));
        assert!(!same("A@b.example", "a@b.example"));
        assert!(!same("\"a \"@b.example", "a@b.example"));
    }
}
