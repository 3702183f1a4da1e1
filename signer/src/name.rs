//! The names of a signature: signing domain, selector, agent identity.
//!
//! Each is checked once, here, so that whatever is written into a header field or a zone file
//! cannot break out of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signing domain (`d=`, the SDID): labels in ASCII, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SigningDomain(Box<str>);

/// A selector (`s=`): one or more labels in ASCII, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Box<str>);

/// An agent identity (`i=`, the AUID): `local@domain` or `@domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentIdentity(Box<str>);

impl SigningDomain {
    /// Returns the domain as written in `d=`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `domain` (lower case) is this domain or lies below it.
    pub fn covers(&self, domain: &str) -> bool {
        match domain.strip_suffix(&*self.0) {
            Some(front) => front.is_empty() || front.ends_with('.'),
            None => false,
        }
    }
}

impl Selector {
    /// Returns the selector as written in `s=`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AgentIdentity {
    /// Returns the identity as written in `i=`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part after the last `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl FromStr for SigningDomain {
    type Err = NameRefused;

    fn from_str(text: &str) -> Result<Self, NameRefused> {
        check_domain(text)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl FromStr for Selector {
    type Err = NameRefused;

    fn from_str(text: &str) -> Result<Self, NameRefused> {
        check_labels(text)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl TryFrom<String> for Selector {
    type Error = NameRefused;

    fn try_from(text: String) -> Result<Self, NameRefused> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.0.into()
    }
}

impl FromStr for AgentIdentity {
    type Err = NameRefused;

    fn from_str(text: &str) -> Result<Self, NameRefused> {
        let (local, domain) = text.rsplit_once('@').ok_or(NameRefused::NoAt)?;
        check_domain(domain)?;
        if local.len() > LOCAL_BYTES_MAX {
            return Err(NameRefused::TooLong);
        }
        // Those of RFC 5322 `atext` that stand in a tag value without encoding, and the dot.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/?^_`{|}~.".contains(c);
        match local.chars().find(|&c| !is_plain(c)) {
            Some(found) => Err(NameRefused::Character(found)),
            None => Ok(Self(format!("{local}@{}", domain.to_ascii_lowercase()).into())),
        }
    }
}

impl fmt::Display for SigningDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AgentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameRefused {
    /// Nothing, or nothing between two dots; a trailing dot is one usual cause.
    EmptyLabel,
    /// A label of more than 63 octets, a name of more than 253, or a local part of more than 64.
    TooLong,
    /// Not a letter, digit, hyphen or underscore; names in other scripts are given as A-labels.
    Character(char),
    /// A label begins or ends with a hyphen.
    Hyphen,
    /// A signing domain of a single label.
    SingleLabel,
    /// An agent identity without `@`.
    NoAt,
}

impl fmt::Display for NameRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyLabel => f.write_str("an empty label (is there a dot too many?)"),
            Self::TooLong => f.write_str("too long for DNS"),
            Self::Character(c) if c.is_ascii() => write!(f, "{c:?} cannot stand here"),
            Self::Character(c) => write!(f, "{c:?} is not ASCII; write the A-label (xn--...)"),
            Self::Hyphen => f.write_str("a label cannot begin or end with a hyphen"),
            Self::SingleLabel => f.write_str("a signing domain has at least two labels"),
            Self::NoAt => f.write_str("an agent identity has the form local@domain or @domain"),
        }
    }
}

impl std::error::Error for NameRefused {}

fn check_domain(text: &str) -> Result<(), NameRefused> {
    check_labels(text)?;
    if text.contains('.') { Ok(()) } else { Err(NameRefused::SingleLabel) }
}

fn check_labels(text: &str) -> Result<(), NameRefused> {
    if text.len() > NAME_BYTES_MAX {
        return Err(NameRefused::TooLong);
    }
    text.split('.').try_for_each(check_label)
}

/// Letters, digits, hyphens (RFC 5321 4.1.2) and the underscore, which real selectors carry.
fn check_label(label: &str) -> Result<(), NameRefused> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if let Some(found) = label.chars().find(|&c| !is_plain(c)) {
        return Err(NameRefused::Character(found));
    }
    match label.len() {
        0 => Err(NameRefused::EmptyLabel),
        1..=LABEL_BYTES_MAX if label.starts_with('-') || label.ends_with('-') => {
            Err(NameRefused::Hyphen)
        }
        1..=LABEL_BYTES_MAX => Ok(()),
        _ => Err(NameRefused::TooLong),
    }
}

/// RFC 1035 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// RFC 1035 2.3.4: 255 octets on the wire.
const NAME_BYTES_MAX: usize = 253;

/// RFC 5321 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        check::<SigningDomain>("Example.ORG", Ok("example.org"));
        check::<SigningDomain>("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
        check::<SigningDomain>("localhost", Err(NameRefused::SingleLabel));
        check::<SigningDomain>("", Err(NameRefused::EmptyLabel));
        check::<SigningDomain>("example.org.", Err(NameRefused::EmptyLabel));
        check::<SigningDomain>("a..b", Err(NameRefused::EmptyLabel));
        check::<SigningDomain>("-a.example", Err(NameRefused::Hyphen));
        check::<SigningDomain>("a-.example", Err(NameRefused::Hyphen));
        check::<SigningDomain>("a b.example", Err(NameRefused::Character(' ')));
        check::<SigningDomain>("a;d=b.example", Err(NameRefused::Character(';')));
        check::<SigningDomain>("a\r\nb.example", Err(NameRefused::Character('\r')));
        check::<SigningDomain>("bücher.example", Err(NameRefused::Character('ü')));
        check::<SigningDomain>(&"a".repeat(64), Err(NameRefused::TooLong));
        check::<SigningDomain>(&"a.".repeat(150), Err(NameRefused::TooLong));
    }

    #[test]
    fn selectors() {
        check::<Selector>("2026h2", Ok("2026h2"));
        check::<Selector>("Billing_1.eu", Ok("billing_1.eu"));
        check::<Selector>("a\"b", Err(NameRefused::Character('"')));
    }

    #[test]
    fn agent_identities() {
        check::<AgentIdentity>("@Example.org", Ok("@example.org"));
        check::<AgentIdentity>("Billing+x@mail.example.org", Ok("Billing+x@mail.example.org"));
        check::<AgentIdentity>("example.org", Err(NameRefused::NoAt));
        check::<AgentIdentity>("a;b@example.org", Err(NameRefused::Character(';')));
        check::<AgentIdentity>("a=b@example.org", Err(NameRefused::Character('=')));
    }

    #[test]
    fn cover_is_by_label() {
        let domain: SigningDomain = "example.org".parse().expect("is valid");
        for (other, covered) in [
            ("example.org", true),
            ("a.example.org", true),
            ("badexample.org", false),
            ("org", false),
        ] {
            assert_eq!(domain.covers(other), covered, "{other}");
        }
    }

    fn check<T: FromStr<Err = NameRefused> + fmt::Display>(
        text: &str,
        expected: Result<&str, NameRefused>,
    ) {
        let found = text.parse::<T>().map(|name| name.to_string());
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{text:?}");
    }
}
