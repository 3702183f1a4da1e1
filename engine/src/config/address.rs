//! Addresses and domains in one comparable form, and sets of them.
//!
//! # Invariants
//! A domain in canonical form is lower case and all A-labels (RFC 5890), so that `BÜCHER.example`
//! and `xn--bcher-kva.example` are the same; a domain that is not valid under IDNA has no canonical
//! form and so equals nothing. An address in canonical form has its local part unquoted and in lower
//! case: RFC 5321 2.4 calls local parts case-sensitive, but no sender relies on it, and an
//! application that may write as `a@example.com` may as well write as `A@example.com`.
//!
//! # Security
//! Sub-domains are never implied, and an address literal (`[192.0.2.1]`) never matches a domain.

use std::borrow::Cow;
use std::collections::HashSet;

/// A domain in canonical form, or `None` if it is not a domain name.
///
/// Copies nothing where the domain is already lower-case ASCII.
#[must_use]
pub fn canonical_domain(domain: &str) -> Option<Cow<'_, str>> {
    if is_plain(domain) {
        return Some(Cow::Borrowed(domain));
    }
    if domain.chars().any(is_disguise) {
        return None;
    }
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    is_plain(&ascii).then_some(Cow::Owned(ascii))
}

/// Characters that make a reader see something else than a parser: zero-width and bidirectional
/// controls, line and paragraph separators, byte order marks, and spaces that are not ASCII.
#[must_use]
pub fn is_disguise(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
    )
}

/// Lower-case letters, digits and inner hyphens, in labels of 1 to 63, 253 in all; punycode that
/// decodes to nothing sensible is left to the full check.
fn is_plain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    domain.len() <= DOMAIN_BYTES_MAX && domain.split('.').all(is_label)
}

/// Longest domain name in text form (RFC 1035 2.3.4, less the root's length octet and dot).
const DOMAIN_BYTES_MAX: usize = 253;

/// What `senders` and `recipients` hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AddressPattern {
    /// One address, in canonical form.
    Address(String),
    /// Any address of exactly this domain, in canonical form.
    Domain(String),
}

impl AddressPattern {
    /// Reads `example.com`, `@example.com` or `a@example.com`; `None` if it is none of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let domain = |domain| canonical_domain(domain).map(Cow::into_owned);
        match text.rsplit_once('@') {
            None => domain(text).map(Self::Domain),
            Some(("", name)) => domain(name).map(Self::Domain),
            Some(_) => canonical_address(text).map(|(address, _)| Self::Address(address)),
        }
    }
}

/// A set of addresses and domains. Membership costs a hash or two, whatever its size.
#[derive(Debug, Clone, Default)]
pub struct AddressPatterns {
    addresses: HashSet<String>,
    domains: HashSet<String>,
}

impl AddressPatterns {
    /// Whether `mailbox` (`local@domain`, no brackets) is in the set.
    #[must_use]
    pub fn contains(&self, mailbox: &str) -> bool {
        let Some((_, domain)) = mailbox.rsplit_once('@') else { return false };
        let Some(domain) = canonical_domain(domain) else { return false };
        if self.domains.contains(&*domain) {
            return true;
        }
        !self.addresses.is_empty()
            && canonical_address(mailbox)
                .is_some_and(|(address, _)| self.addresses.contains(&address))
    }

    /// No pattern at all: nothing is a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.domains.is_empty()
    }

    /// The patterns, in no order.
    pub fn iter(&self) -> impl Iterator<Item = AddressPattern> + '_ {
        let addresses = self.addresses.iter().cloned().map(AddressPattern::Address);
        addresses.chain(self.domains.iter().cloned().map(AddressPattern::Domain))
    }
}

impl FromIterator<AddressPattern> for AddressPatterns {
    fn from_iter<I: IntoIterator<Item = AddressPattern>>(patterns: I) -> Self {
        let mut set = Self::default();
        for pattern in patterns {
            match pattern {
                AddressPattern::Address(address) => set.addresses.insert(address),
                AddressPattern::Domain(domain) => set.domains.insert(domain),
            };
        }
        set
    }
}

/// An address in canonical form, and where its domain starts in it.
fn canonical_address(mailbox: &str) -> Option<(String, usize)> {
    let (local, domain) = mailbox.rsplit_once('@')?;
    let domain = canonical_domain(domain)?;
    let local = unquoted(local)?.to_lowercase();
    if local.is_empty() {
        return None;
    }
    let at = local.len() + 1;
    Some((format!("{local}@{domain}"), at))
}

/// What cannot stand in a local part without quotes (RFC 5321 4.1.2).
const SPECIALS: &str = "()<>[]:;@\\,\"";

/// The local part without the quotes and backslashes it may be written with (RFC 5321 4.1.2).
fn unquoted(local: &str) -> Option<Cow<'_, str>> {
    let Some(inner) = local.strip_prefix('"') else {
        let is_atoms =
            local.chars().all(|c| !c.is_control() && !c.is_whitespace() && !SPECIALS.contains(c));
        return is_atoms.then_some(Cow::Borrowed(local));
    };
    let inner = inner.strip_suffix('"')?;
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next()?),
            '"' => return None,
            c => plain.push(c),
        }
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_have_one_form() {
        for (text, expected) in [
            ("example.com", Some("example.com")),
            ("Example.COM", Some("example.com")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("BÜCHER.Example", Some("xn--bcher-kva.example")),
            ("XN--BCHER-KVA.example", Some("xn--bcher-kva.example")),
            ("faß.example", Some("xn--fa-hia.example")),
            ("例え。テスト", Some("xn--r8jz45g.xn--zckzah")),
            ("_dmarc.example.com", Some("_dmarc.example.com")),
            ("localhost", Some("localhost")),
            ("", None),
            (".", None),
            ("example.com.", None),
            ("example..com", None),
            ("-a.example", None),
            ("a b.example", None),
            ("[192.0.2.1]", None),
            ("a@example.com", None),
            ("exam\u{200b}ple.com", None),
        ] {
            assert_eq!(canonical_domain(text).as_deref(), expected, "{text}");
        }
        assert!(canonical_domain(&"a".repeat(64)).is_none());
        assert!(canonical_domain(&vec!["a".repeat(63); 5].join(".")).is_none());
        assert!(matches!(canonical_domain("example.com"), Some(Cow::Borrowed(_))), "no copy");
    }

    #[test]
    fn membership() {
        let set: AddressPatterns =
            ["example.com", "@Shop.example", "Billing@example.net", "bücher.example"]
                .iter()
                .map(|text| AddressPattern::parse(text).expect("a pattern"))
                .collect();
        for (mailbox, is_member) in [
            ("anybody@example.com", true),
            ("Anybody@EXAMPLE.com", true),
            ("\"any body\"@example.com", true),
            ("a@sub.example.com", false),
            ("a@example.com.evil.example", false),
            ("a@evilexample.com", false),
            ("a@shop.example", true),
            ("billing@example.net", true),
            ("BILLING@example.net", true),
            ("\"billing\"@example.net", true),
            ("\"bill\\ing\"@example.net", true),
            ("billing2@example.net", false),
            ("billing@sub.example.net", false),
            ("a@xn--bcher-kva.example", true),
            ("a@BÜCHER.example", true),
            ("\"a@example.com\"@evil.example", false),
            ("a@[192.0.2.1]", false),
            ("example.com", false),
            ("", false),
            ("@example.com", true),
        ] {
            assert_eq!(set.contains(mailbox), is_member, "{mailbox}");
        }
    }

    #[test]
    fn patterns_that_are_none() {
        for text in
            ["", "@", "a@", "a b@example.com", "*.example.com", "a@b@example.com", "\"@example.com"]
        {
            assert_eq!(AddressPattern::parse(text), None, "{text}");
        }
    }
}
