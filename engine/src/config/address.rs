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
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    is_plain(&ascii).then_some(Cow::Owned(ascii))
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
