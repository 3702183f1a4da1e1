//! Reads the text of a key record (RFC 6376 3.6.1) as a verifier does.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a key record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `k=`; `rsa` where there is none.
    pub algorithm: KeyAlgorithm,
    /// `p=`, decoded. Empty: the key is revoked.
    pub public_key: Vec<u8>,
    /// `h=`: the hashes that may be used; `None` is any.
    pub hashes: Option<Vec<String>>,
    /// `s=`: the services the key is for; `None` is any.
    pub services: Option<Vec<String>>,
    /// `t=`: flags.
    pub flags: Vec<String>,
}

/// The kind of key of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// RSA, a SubjectPublicKeyInfo or an RSAPublicKey (RFC 6376 3.6.1, erratum 3017).
    Rsa,
    /// Ed25519, 32 octets (RFC 8463 3).
    Ed25519,
    /// One that Postern does not sign with.
    Other(String),
}

/// Why a text is no key record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFault {
    /// A part between semicolons has no `=` or no proper name; holds it, cut short.
    NotTagged(String),
    /// A tag stands twice (RFC 6376 3.2).
    Twice(String),
    /// `v=` is not `DKIM1`, or not the first tag.
    Version,
    /// There is no `p=`.
    NoKey,
    /// `p=` is not base64.
    NotBase64,
    /// It has octets that are no ASCII text.
    NotText,
}

impl Record {
    /// Reads the joined strings of one TXT record: tags in any order, white space around them, and
    /// tags that it does not know.
    ///
    /// # Errors
    /// [`RecordFault`]
    pub fn parse(text: &[u8]) -> Result<Self, RecordFault> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii());
        let tags = read_tags(text.ok_or(RecordFault::NotText)?)?;
        let value = |name| tags.iter().find(|(tag, _)| *tag == name).map(|(_, value)| *value);
        // RFC 6376 3.6.1: if there is one, it is the first and exactly this.
        if value("v").is_some_and(|version| version != "DKIM1" || tags[0].0 != "v") {
            return Err(RecordFault::Version);
        }
        let public_key = value("p").ok_or(RecordFault::NoKey)?;
        let compact: String = public_key.chars().filter(|c| !is_space(*c)).collect();
        Ok(Self {
            algorithm: match value("k") {
                None | Some("rsa") => KeyAlgorithm::Rsa,
                Some("ed25519") => KeyAlgorithm::Ed25519,
                Some(other) => KeyAlgorithm::Other(cut_short(other)),
            },
            public_key: STANDARD.decode(compact).map_err(|_| RecordFault::NotBase64)?,
            hashes: value("h").map(list),
            services: value("s").map(list),
            flags: value("t").map(list).unwrap_or_default(),
        })
    }

    /// Whether it says that the key is revoked: an empty `p=`.
    pub fn is_revoked(&self) -> bool {
        self.public_key.is_empty()
    }

    /// What keeps a verifier from passing a message signed with this key and SHA-256: the tag.
    pub fn obstacle(&self) -> Option<&'static str> {
        let lacks = |list: &Option<Vec<String>>, wanted: &[&str]| {
            list.as_ref().is_some_and(|list| !list.iter().any(|one| wanted.contains(&one.as_str())))
        };
        if lacks(&self.hashes, &["sha256"]) {
            return Some("h");
        }
        if lacks(&self.services, &["*", "email"]) {
            return Some("s");
        }
        // A verifier treats mail of a domain that is testing as unsigned mail.
        self.flags.iter().any(|flag| flag == "y").then_some("t")
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTagged(part) => write!(f, "`{part}` is not `tag=value`"),
            Self::Twice(tag) => write!(f, "`{tag}=` stands twice"),
            Self::Version => f.write_str("`v=DKIM1` must come first"),
            Self::NoKey => f.write_str("there is no `p=`"),
            Self::NotBase64 => f.write_str("`p=` is not base64"),
            Self::NotText => f.write_str("it is not ASCII text"),
        }
    }
}

impl std::error::Error for RecordFault {}

/// The tags in order (RFC 6376 3.2), trimmed; a last semicolon ends the last tag.
fn read_tags(text: &str) -> Result<Vec<(&str, &str)>, RecordFault> {
    let mut tags: Vec<(&str, &str)> = Vec::new();
    let text = text.trim_matches(is_space);
    for part in text.strip_suffix(';').unwrap_or(text).split(';') {
        let part = part.trim_matches(is_space);
        let (name, value) =
            part.split_once('=').ok_or_else(|| RecordFault::NotTagged(cut_short(part)))?;
        let name = name.trim_matches(is_space);
        if !is_tag_name(name) {
            return Err(RecordFault::NotTagged(cut_short(part)));
        }
        if tags.iter().any(|(other, _)| *other == name) {
            return Err(RecordFault::Twice(cut_short(name)));
        }
        tags.push((name, value.trim_matches(is_space)));
    }
    Ok(tags)
}

fn is_tag_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn list(value: &str) -> Vec<String> {
    value.split(':').map(|one| one.trim_matches(is_space).to_owned()).collect()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// What is shown of a foreign text: printable, and no more than fits a line.
fn cut_short(text: &str) -> String {
    text.chars().take(SHOWN_MAX).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

const SHOWN_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_verifiers_read_is_read() {
        let accepted: [(&str, KeyAlgorithm, &[u8]); 9] = [
            ("v=DKIM1; k=rsa; p=QUJD", KeyAlgorithm::Rsa, b"ABC"),
            ("p=QUJD", KeyAlgorithm::Rsa, b"ABC"),
            ("p = QUJD ; k = ed25519 ;", KeyAlgorithm::Ed25519, b"ABC"),
            ("v=DKIM1;p=QU\t JD;n=a note = here;h=sha1:sha256;t=s", KeyAlgorithm::Rsa, b"ABC"),
            ("v=DKIM1; p=", KeyAlgorithm::Rsa, b""),
            ("v=DKIM1; p=;", KeyAlgorithm::Rsa, b""),
            (" v=DKIM1 ; p=QUJD \r\n", KeyAlgorithm::Rsa, b"ABC"),
            ("v=DKIM1; k=x; p=QQ==", KeyAlgorithm::Other("x".into()), b"A"),
            ("v=DKIM1; s=*:email; x_1=; p=QUJD", KeyAlgorithm::Rsa, b"ABC"),
        ];
        for (text, algorithm, public_key) in accepted {
            let record = Record::parse(text.as_bytes()).expect(text);
            assert_eq!((record.algorithm, &*record.public_key), (algorithm, public_key), "{text}");
        }
    }

    #[test]
    fn what_is_no_record_says_why() {
        let refused = [
            ("", RecordFault::NotTagged(String::new())),
            ("v=spf1 -all", RecordFault::Version),
            ("p=QUJD; v=DKIM1", RecordFault::Version),
            ("v=DKIM1; k=rsa", RecordFault::NoKey),
            ("v=DKIM1; p=QUJ", RecordFault::NotBase64),
            ("v=DKIM1; p=\"QUJD\"", RecordFault::NotBase64),
            ("v=DKIM1; p=QUJD; p=QUJD", RecordFault::Twice("p".into())),
            ("v=DKIM1;; p=QUJD", RecordFault::NotTagged(String::new())),
            ("\"v=DKIM1; p=QUJD\"", RecordFault::NotTagged("\"v=DKIM1".into())),
            ("v=DKIM1; p=QUJD; caf\u{e9}=1", RecordFault::NotText),
        ];
        for (text, fault) in refused {
            assert_eq!(Record::parse(text.as_bytes()), Err(fault), "{text}");
        }
        assert_eq!(Record::parse(b"p=\xff"), Err(RecordFault::NotText));
    }

    #[test]
    fn a_key_that_may_not_be_used_for_this_says_which_tag() {
        for (text, tag) in [
            ("p=QUJD", None),
            ("h=sha256; p=QUJD", None),
            ("h=sha1; p=QUJD", Some("h")),
            ("s=tlsrpt; p=QUJD", Some("s")),
            ("t=y:s; p=QUJD", Some("t")),
            ("t=s; p=QUJD", None),
        ] {
            assert_eq!(Record::parse(text.as_bytes()).expect(text).obstacle(), tag, "{text}");
        }
    }
}
