//! Header fields: which of them matter, and what they say.
//!
//! # Invariants
//! Values come unfolded and at most [`FIELD_BYTES_MAX`](crate::limits::FIELD_BYTES_MAX) long, so
//! work and memory here are bounded. Nothing is trusted: a value that makes no sense reads as if
//! the field were absent, which means plain text and so the more thorough way.
//!
//! # Failures
//! None.

use encoding_rs::Encoding;
use memchr::{memchr_iter, memmem};

use crate::mime::transfer::Transfer;

/// Longest field name told apart, bytes; longer ones are text fields.
pub(crate) const NAME_BYTES_MAX: usize = 32;

/// What a field's value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    ContentType,
    TransferEncoding,
    /// `Content-Disposition`: its file name is text, and tells text attachments.
    Disposition,
    /// Written or read by people, or unknown to us: looked at as text.
    Text,
    /// Written by machines for machines: identifiers, signatures, trace.
    Machine,
}

impl Field {
    pub(crate) fn named(name: &[u8]) -> Self {
        let mut lower = [0; NAME_BYTES_MAX];
        let Some(lower) = lower.get_mut(..name.len()) else { return Self::Text };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"content-type" => Self::ContentType,
            b"content-transfer-encoding" => Self::TransferEncoding,
            b"content-disposition" => Self::Disposition,
            b"message-id"
            | b"resent-message-id"
            | b"references"
            | b"in-reply-to"
            | b"content-id"
            | b"thread-index"
            | b"received"
            | b"return-path"
            | b"date"
            | b"resent-date"
            | b"mime-version"
            | b"dkim-signature"
            | b"domainkey-signature"
            | b"x-google-dkim-signature"
            | b"arc-seal"
            | b"arc-message-signature"
            | b"arc-authentication-results"
            | b"authentication-results"
            | b"received-spf"
            | b"list-unsubscribe"
            | b"list-unsubscribe-post"
            | b"list-id"
            | b"feedback-id"
            | b"autocrypt"
            | b"x-message-id"
            | b"x-received" => Self::Machine,
            _ => Self::Text,
        }
    }
}

/// What a `Content-Type` asks for (RFC 2045 section 5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its boundary, empty if there is none to be used.
    Multipart { boundary: Vec<u8>, digest: bool },
    /// A whole message inside (RFC 2046 5.2.1).
    Message,
    /// Text, with the label of its charset, empty if there is none.
    Text { charset: Vec<u8> },
    /// Nothing to read in it yet: pictures, documents, programs.
    Other,
}

impl Kind {
    pub(crate) const fn plain() -> Self {
        Self::Text { charset: Vec::new() }
    }

    /// Reads the value of a `Content-Type` field. What is no type at all is text.
    pub(crate) fn parse(value: &[u8]) -> Self {
        let end = value.iter().position(|byte| b";(".contains(byte)).unwrap_or(value.len());
        let name = value[..end].trim_ascii().to_ascii_lowercase();
        let Some(slash) = name.iter().position(|byte| *byte == b'/') else { return Self::plain() };
        let (major, minor) = (name[..slash].trim_ascii(), name[slash + 1..].trim_ascii());
        match major {
            b"multipart" => {
                let boundary = parameter(value, b"boundary").unwrap_or_default();
                Self::Multipart {
                    boundary: boundary.trim_ascii_end().to_vec(),
                    digest: minor == b"digest",
                }
            }
            b"message" if matches!(minor, b"rfc822" | b"global" | b"news") => Self::Message,
            b"image" | b"audio" | b"video" | b"font" | b"model" | b"chemical" => Self::Other,
            b"application" if !is_text(minor) => match parameter(value, b"name") {
                Some(name) if names_text(&name) => Self::plain(),
                _ => Self::Other,
            },
            _ => Self::Text { charset: parameter(value, b"charset").unwrap_or_default() },
        }
    }
}

/// Subtypes of `application` that are text all the same.
fn is_text(minor: &[u8]) -> bool {
    const TEXT: [&[u8]; 15] = [
        b"json",
        b"xml",
        b"csv",
        b"x-csv",
        b"sql",
        b"x-sql",
        b"javascript",
        b"x-javascript",
        b"ecmascript",
        b"yaml",
        b"x-yaml",
        b"x-ndjson",
        b"jsonl",
        b"x-www-form-urlencoded",
        b"rtf",
    ];
    TEXT.contains(&minor) || minor.ends_with(b"+json") || minor.ends_with(b"+xml")
}

/// Whether a file of this name is text, whatever its part is declared as.
fn names_text(name: &[u8]) -> bool {
    const TEXT: [&[u8]; 14] = [
        b".csv", b".tsv", b".txt", b".text", b".log", b".json", b".xml", b".html", b".htm",
        b".sql", b".yaml", b".yml", b".md", b".ics",
    ];
    let name = name.trim_ascii_end().to_ascii_lowercase();
    TEXT.iter().any(|extension| name.ends_with(extension))
}

/// Whether a `Content-Disposition` names a text file.
pub(crate) fn disposition_names_text(value: &[u8]) -> bool {
    parameter(value, b"filename").is_some_and(|name| names_text(&name))
}

/// The token of a `Content-Transfer-Encoding` field, without comments.
pub(crate) fn token(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| b";(".contains(byte)).unwrap_or(value.len());
    value[..end].trim_ascii()
}

/// The value of a parameter; its sections joined where it is continued (RFC 2231 section 3).
fn parameter(value: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut found: Option<Vec<u8>> = None;
    let mut rest = after_semicolon(value)?;
    loop {
        let equals = rest.iter().position(|byte| b"=;".contains(byte))?;
        let name = rest[..equals].trim_ascii();
        if rest[equals] == b';' {
            rest = &rest[equals + 1..];
            continue;
        }
        let mut text = Vec::new();
        let length = unquote(&rest[equals + 1..], &mut text);
        rest = &rest[equals + 1 + length..];
        let same = name.len() >= wanted.len() && name[..wanted.len()].eq_ignore_ascii_case(wanted);
        match (same, same.then(|| &name[wanted.len()..])) {
            // The first plain one counts.
            (true, Some(b"")) if found.is_none() => found = Some(text),
            (true, Some([b'*', section @ ..])) => {
                let extended = section.is_empty() || section.ends_with(b"*");
                let initial = section.is_empty() || section.starts_with(b"0");
                let text = if extended { percent_decoded(&text, initial) } else { text };
                found.get_or_insert_default().extend_from_slice(&text);
            }
            _ => {}
        }
        match after_semicolon(rest) {
            Some(next) => rest = next,
            None => return found,
        }
    }
}

/// What follows the next `;` outside quotes and comments.
fn after_semicolon(value: &[u8]) -> Option<&[u8]> {
    let mut comments = 0_usize;
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match byte {
            b'\\' if comments > 0 => at += 1,
            b'(' => comments += 1,
            b')' => comments = comments.saturating_sub(1),
            b';' if comments == 0 => return Some(&value[at + 1..]),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Reads a token or quoted string at the start of `rest` into `text`; gives the bytes it took.
fn unquote(rest: &[u8], text: &mut Vec<u8>) -> usize {
    let start = rest.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(rest.len());
    if rest.get(start) != Some(&b'"') {
        let end = rest[start..].iter().position(|byte| b"; \t(".contains(byte));
        let end = end.map_or(rest.len(), |end| start + end);
        text.extend_from_slice(&rest[start..end]);
        return end;
    }
    let mut at = start + 1;
    while let Some(byte) = rest.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => {
                text.extend(rest.get(at));
                at += 1;
            }
            _ => text.push(*byte),
        }
    }
    at.min(rest.len())
}

/// An extended value (RFC 2231 section 4) without its charset and language.
fn percent_decoded(text: &[u8], initial: bool) -> Vec<u8> {
    let mut rest = text;
    if initial {
        let mut quotes = text.iter().enumerate().filter(|(_, byte)| **byte == b'\'');
        if let (Some(_), Some((second, _))) = (quotes.next(), quotes.next()) {
            rest = &text[second + 1..];
        }
    }
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escape.and_then(|hex| std::str::from_utf8(hex).ok());
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// An unstructured value with its encoded words (RFC 2047) decoded to UTF-8; white space between
/// two of them is dropped (section 6.2). `None` if there is none in it.
pub(crate) fn decoded_words(value: &[u8]) -> Option<Vec<u8>> {
    if !memchr_iter(b'?', value).any(|mark| value[..mark].ends_with(b"=")) {
        return None;
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    let mut after_word = false;
    while let Some(start) = memmem::find(rest, b"=?") {
        let Some((word, length)) = encoded_word(&rest[start..]) else {
            decoded.extend_from_slice(&rest[..start + 2]);
            rest = &rest[start + 2..];
            after_word = false;
            continue;
        };
        let between = &rest[..start];
        if !(after_word && between.trim_ascii().is_empty()) {
            decoded.extend_from_slice(between);
        }
        decoded.extend_from_slice(word.as_bytes());
        rest = &rest[start + length..];
        after_word = true;
    }
    decoded.extend_from_slice(rest);
    Some(decoded)
}

/// The encoded word `text` begins with, decoded, and its length.
fn encoded_word(text: &[u8]) -> Option<(String, usize)> {
    let mut fields = text.get(2..)?.splitn(3, |byte| *byte == b'?');
    let (charset, encoding, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let end = memmem::find(rest, b"?=")?;
    let length = 2 + charset.len() + 1 + encoding.len() + 1 + end + 2;
    // RFC 2231 section 5: a language may follow the charset.
    let label = charset.split(|byte| *byte == b'*').next()?;
    let charset = Encoding::for_label_no_replacement(label).unwrap_or(encoding_rs::WINDOWS_1252);
    let mut transfer = match encoding {
        b"B" | b"b" => Transfer::named(b"base64")?,
        b"Q" | b"q" => Transfer::named(b"quoted-printable")?,
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(end);
    if encoding.eq_ignore_ascii_case(b"q") {
        let spaced: Vec<u8> =
            rest[..end].iter().map(|b| if *b == b'_' { b' ' } else { *b }).collect();
        transfer.push(&spaced, |piece| bytes.extend_from_slice(piece));
    } else {
        transfer.push(&rest[..end], |piece| bytes.extend_from_slice(piece));
    }
    transfer.finish(|piece| bytes.extend_from_slice(piece));
    Some((charset.decode_without_bom_handling(&bytes).0.into_owned(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn boundary(value: &str, want: &str) {
        let Kind::Multipart { boundary, .. } = Kind::parse(value.as_bytes()) else {
            panic!("{value} is no multipart")
        };
        assert_eq!(String::from_utf8_lossy(&boundary), want, "{value}");
    }

    #[test]
    fn boundaries_as_mailers_write_them() {
        boundary("multipart/mixed; boundary=abc", "abc");
        boundary("Multipart/Mixed;charset=x;\tBOUNDARY = \"a b\\\"c \"; x=y", "a b\"c");
        boundary("multipart/mixed (a; boundary=no); boundary=\"yes;\"", "yes;");
        boundary("multipart/mixed; x=\"; boundary=no\"; boundary=yes", "yes");
        boundary("multipart/mixed; boundary=first; boundary=second", "first");
        boundary("multipart/mixed; boundary*0=ab; boundary*1=\"cd\"", "abcd");
        boundary("multipart/mixed; boundary*=us-ascii'en'a%3Db", "a=b");
        boundary("multipart/mixed; boundary=\"unclosed", "unclosed");
        boundary("multipart/mixed; boundary", "");
        boundary("multipart/mixed", "");
        boundary("multipart/mixed;;; ;boundary=a", "a");
    }

    #[test]
    fn kinds() {
        let text = |charset: &str| Kind::Text { charset: charset.as_bytes().to_vec() };
        for (value, want) in [
            ("text/plain; charset=\"ISO-2022-JP\"", text("ISO-2022-JP")),
            ("text/csv; name=a.csv", text("")),
            ("TEXT/HTML;charset=utf-8 (x)", text("utf-8")),
            ("nonsense", text("")),
            ("", text("")),
            ("foo/bar", text("")),
            ("application/json", text("")),
            ("application/soap+xml; charset=utf-8", text("utf-8")),
            ("application/octet-stream; name=\"Cards.CSV\"", text("")),
            ("application/octet-stream; name=cards.zip", Kind::Other),
            ("application/pdf", Kind::Other),
            ("image/png", Kind::Other),
            ("message/rfc822", Kind::Message),
            ("message/delivery-status", text("")),
            (
                "multipart/digest; boundary=b",
                Kind::Multipart { boundary: b"b".to_vec(), digest: true },
            ),
        ] {
            assert_eq!(Kind::parse(value.as_bytes()), want, "{value}");
        }
        assert!(disposition_names_text(b"attachment; filename*=utf-8''a%2Ecsv"));
        assert!(!disposition_names_text(b"attachment; filename=a.png"));
    }

    #[test]
    fn field_names() {
        assert_eq!(Field::named(b"Content-TYPE"), Field::ContentType);
        assert_eq!(Field::named(b"Subject"), Field::Text);
        assert_eq!(Field::named(b"Message-ID"), Field::Machine);
        assert_eq!(Field::named(&[b'x'; 100]), Field::Text);
        assert_eq!(token(b" base64 (comment)"), b"base64");
    }

    #[test]
    fn encoded_words() {
        for (value, want) in [
            ("=?utf-8?B?NDExMQ==?= =?utf-8?Q?_11=31?=1", "4111 1111"),
            ("=?iso-2022-jp?B?GyRCIzQjMRsoQg==?=", "\u{FF14}\u{FF11}"),
            ("a =?utf-8*en?q?b?= c", "a b c"),
            ("=?utf-8?x?4?= =?broken", "=?utf-8?x?4?= =?broken"),
        ] {
            let got = decoded_words(value.as_bytes()).expect("there is a word");
            assert_eq!(String::from_utf8_lossy(&got), want, "{value}");
        }
        assert_eq!(decoded_words(b"plain = ?text?"), None);
    }
}
