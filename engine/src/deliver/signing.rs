//! Signs what is about to leave.
//!
//! The body hash was made while the message arrived and is stored with it; here the header section
//! is read in place from the stored bytes, canonicalised and signed. A message that should be
//! signed and cannot be is not sent unsigned: it is deferred, and the reason is told.

use std::collections::HashMap;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use postern_signer::batch::{BatchSigner, Input, Job, KeyId, SignFault, Ticket};
use postern_signer::canon::Canonicalization;
use postern_signer::header::{HeaderRefused, Profile};
use postern_signer::key::KeyRefused;
use postern_smtp::data::Unstuffer;

use crate::config::DkimKeys;
use crate::intake::meta::Meta;

/// The signing keys of a configuration. A key's position is its [`KeyId`].
#[derive(Default)]
pub struct SigningKeys {
    keys: DkimKeys,
}

/// The backend cannot use a key of this kind; names the domain.
#[derive(Debug)]
pub struct KeyError {
    domain: String,
    cause: KeyRefused,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the DKIM key of {}: {}", self.domain, self.cause)
    }
}

impl std::error::Error for KeyError {}

impl SigningKeys {
    /// The keys as they are configured.
    #[must_use]
    pub fn new(keys: &DkimKeys) -> Self {
        Self { keys: keys.clone() }
    }

    /// The author domains that are signed for, and how their bodies are canonicalised.
    #[must_use]
    pub fn body_canonicalizations(&self) -> HashMap<String, Canonicalization> {
        self.keys.all().iter().map(|dkim| (dkim.domain().to_owned(), dkim.body)).collect()
    }

    /// Hands every key to a signing backend under its position.
    ///
    /// # Errors
    /// [`KeyError`] when the backend cannot use a key of this kind.
    pub fn hand_to(&self, signer: &mut dyn BatchSigner) -> Result<(), KeyError> {
        for (index, dkim) in self.keys.all().iter().enumerate() {
            signer
                .load(key_id(index), &dkim.key)
                .map_err(|cause| KeyError { domain: dkim.domain().to_owned(), cause })?;
        }
        Ok(())
    }

    /// The key that signs for an author's domain.
    fn of(&self, author_domain: &str) -> Option<(KeyId, &Profile)> {
        let all = self.keys.all();
        let index = all.iter().position(|dkim| dkim.domain() == author_domain)?;
        Some((key_id(index), &all[index].profile))
    }
}

fn key_id(index: usize) -> KeyId {
    KeyId(u32::try_from(index).expect("a configuration names far fewer than 4 billion keys"))
}

/// Why a message that is to be signed could not be.
#[derive(Debug)]
pub enum SigningError {
    /// The stored header section is not as it was accepted.
    Header(HeaderRefused),
    /// The backend gave no signature.
    Backend(SignFault),
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => write!(f, "not signed: {error}"),
            Self::Backend(error) => write!(f, "not signed: {error}"),
        }
    }
}

/// The `DKIM-Signature` field for a message, or none where its author's domain is not signed for.
///
/// # Errors
/// [`SigningError`], after which the message must not leave.
pub fn sign(
    keys: &SigningKeys,
    signer: &mut dyn BatchSigner,
    meta: &Meta,
    content: &[Bytes],
    now: SystemTime,
) -> Result<Option<Vec<u8>>, SigningError> {
    let (Some((key, profile)), Some(body_hash)) = (keys.of(&meta.author_domain), &meta.body_hash)
    else {
        return Ok(None);
    };
    let mut section = vec![meta.added.as_bytes()];
    section.extend(plain_prefix(content, meta.header_bytes));
    let now_unix_s = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let unsigned =
        profile.prepare(&section, body_hash, now_unix_s).map_err(SigningError::Header)?;
    let job = Job { ticket: Ticket(0), key, input: Input::Canonical(unsigned.input()) };
    let mut done = Vec::with_capacity(1);
    signer.sign(&[job], &mut done);
    let signed = done.pop().ok_or(SigningError::Backend(SignFault::UnknownKey))?;
    let signature = signed.result.map_err(SigningError::Backend)?;
    Ok(Some(unsigned.complete(signature.as_bytes())))
}

/// Whether the header section lies within `content` as a whole.
pub(super) fn has_header_section(content: &[Bytes], header_bytes: u64) -> bool {
    let prefix = plain_prefix(content, header_bytes);
    prefix.iter().map(|slice| slice.len() as u64).sum::<u64>() == header_bytes
}

/// The first `bytes` bytes of plain form, in place.
fn plain_prefix(content: &[Bytes], bytes: u64) -> Vec<&[u8]> {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut unstuffer = Unstuffer::new();
    let mut prefix = Vec::with_capacity(2);
    for piece in content {
        for slice in unstuffer.chunk(piece) {
            if left == 0 {
                return prefix;
            }
            let taken = slice.len().min(left);
            prefix.push(&slice[..taken]);
            left -= taken;
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_section_is_read_in_plain_form_over_pieces() {
        let content =
            [Bytes::from_static(b"A: b\r\n."), Bytes::from_static(b".c: d\r\n\r\n..body\r\n")];
        let plain = |bytes| plain_prefix(&content, bytes).concat();
        assert_eq!(plain(15), b"A: b\r\n.c: d\r\n\r\n"[..15]);
        assert_eq!(plain(0), b"");
        assert_eq!(plain(1_000), b"A: b\r\n.c: d\r\n\r\n.body\r\n");
        assert!(has_header_section(&content, 15));
        assert!(!has_header_section(&content[..1], 15));
    }
}
