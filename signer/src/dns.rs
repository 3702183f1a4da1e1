//! The DNS record of a key (RFC 6376 3.6.1): as text, read, and compared with what it should be.
//!
//! Asking a server is the caller's: it hands in the strings of the TXT records that it was given.

mod compare;
mod record;

pub use compare::{Comparison, Difference, Expected, Split, Txt, compare};
pub use record::{KeyAlgorithm, Record, RecordFault};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::PublicKey;
use crate::name::{Selector, SigningDomain};

/// Returns the owner name, without a trailing dot: `selector._domainkey.domain`.
pub fn record_name(selector: &Selector, domain: &SigningDomain) -> String {
    format!("{selector}._domainkey.{domain}")
}

/// Returns the text of the TXT record that publishes a key, unsplit.
pub fn record_text(key: &PublicKey) -> String {
    match key {
        PublicKey::Rsa(key) => {
            format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(key.to_spki_der()))
        }
        PublicKey::Ed25519(key) => {
            format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(key.as_bytes()))
        }
    }
}

/// Returns the text of the TXT record of a revoked key of any kind: an empty `p=` (RFC 6376 3.6.1).
pub fn revoked_text() -> &'static str {
    "v=DKIM1; p="
}

/// Returns one line of a zone file (RFC 1035 5), with the text split into strings of at most 255
/// octets, which readers join without anything between them (RFC 6376 3.6.2.2).
///
/// `text` is one that this module made: ASCII without quotes and backslashes.
pub fn zone_line(name: &str, ttl_s: u32, text: &str) -> String {
    debug_assert!(text.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\'));
    let mut line = format!("{name}. {ttl_s} IN TXT");
    if text.len() <= STRING_BYTES_MAX {
        return line + " \"" + text + "\"";
    }
    line.push_str(" (");
    for string in split(text) {
        line.push_str(" \"");
        line.push_str(string);
        line.push('"');
    }
    line + " )"
}

/// Cuts a text into the strings of its TXT record, each of at most 255 octets (RFC 1035 3.3); an
/// empty text is one empty string.
///
/// `text` is one that this module made: ASCII.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    debug_assert!(text.is_ascii());
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let (string, after) = rest?.split_at(rest?.len().min(STRING_BYTES_MAX));
        rest = (!after.is_empty()).then_some(after);
        Some(string)
    })
}

/// RFC 1035 3.3: one length octet.
const STRING_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_at_most_255_octets_and_join_to_the_text() {
        for length in [0, 1, 254, 255, 256, 410, 510, 511, 800] {
            let text = "p".repeat(length);
            let line = zone_line("s._domainkey.example.org", 300, &text);
            let strings: Vec<_> = line.split('"').skip(1).step_by(2).collect();
            assert!(strings.iter().all(|string| string.len() <= 255), "{line}");
            assert_eq!(strings.concat(), text);
            assert_eq!(line.contains('('), length > 255, "{line}");
        }
    }

    #[test]
    fn name_and_revocation() {
        let selector = "2026h2".parse().expect("is valid");
        let domain = "Example.org".parse().expect("is valid");
        let name = record_name(&selector, &domain);
        assert_eq!(
            zone_line(&name, 3600, revoked_text()),
            "2026h2._domainkey.example.org. 3600 IN TXT \"v=DKIM1; p=\""
        );
    }
}
