//! Signs what is about to leave.
//!
//! The body hash was made while the message arrived and is stored with it; here the header section
//! is read in place from the stored bytes, canonicalised and signed, once for each signature that is
//! configured. A message that should be signed and cannot be is not sent unsigned: it is deferred,
//! and the reason is told.
//!
//! Three steps, of which only the second takes time: [`prepare`] makes the fields without their
//! signatures, [`sign`] has them signed, [`assemble`] puts them together.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use postern_signer::batch::{BatchSigner, Input, Job, KeyId, SignFault, Ticket};
use postern_signer::header::{HeaderRefused, Unsigned};
use postern_signer::key::{Ed25519PrivateKey, KeyRefused, RsaPrivateKey, SigningKey};
use postern_smtp::data::Unstuffer;

use crate::config::{DkimKeys, Signers};
use crate::intake::meta::Meta;

/// The signing keys of a configuration.
#[derive(Default)]
pub struct SigningKeys {
    keys: Arc<DkimKeys>,
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
        Self { keys: Arc::new(keys.clone()) }
    }

    /// Who signs what.
    #[must_use]
    pub fn entries(&self) -> &Arc<DkimKeys> {
        &self.keys
    }

    /// Hands a signing backend the keys that it does not have from `before`.
    ///
    /// # Errors
    /// [`KeyError`] when the backend cannot use a key of this kind.
    pub fn hand_to(&self, signer: &mut dyn BatchSigner, before: &Self) -> Result<(), KeyError> {
        for (domain, id, key) in self.rsa().filter(|(_, id, _)| !before.has(*id)) {
            signer.load(id, key).map_err(|cause| KeyError { domain: domain.to_owned(), cause })?;
        }
        Ok(())
    }

    /// Takes back the keys that are not in `after`.
    pub fn take_from(&self, signer: &mut dyn BatchSigner, after: &Self) {
        for (_, id, _) in self.rsa().filter(|(_, id, _)| !after.has(*id)) {
            signer.unload(id);
        }
    }

    fn has(&self, id: KeyId) -> bool {
        self.rsa().any(|(_, own, _)| own == id)
    }

    /// Every RSA key with its signing domain: what a batched backend signs with.
    fn rsa(&self) -> impl Iterator<Item = (&str, KeyId, &RsaPrivateKey)> {
        self.keys.all().iter().filter_map(|dkim| match dkim.key.as_deref()? {
            SigningKey::Rsa(key) => Some((dkim.domain(), KeyId::of(key.public()), key)),
            SigningKey::Ed25519(_) => None,
        })
    }
}

/// Why a message that is to be signed could not be.
#[derive(Debug)]
pub enum SigningError {
    /// The stored header section is not as it was accepted.
    Header(HeaderRefused),
    /// None of the keys it is to be signed with can be used.
    NoKey,
    /// The backend gave no signature.
    Backend(SignFault),
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => write!(f, "not signed: {error}"),
            Self::NoKey => f.write_str("not signed: no key file of this domain can be used"),
            Self::Backend(error) => write!(f, "not signed: {error}"),
        }
    }
}

/// A field that waits for its signature.
pub struct Prepared<'a> {
    unsigned: Unsigned,
    key: PreparedKey<'a>,
}

enum PreparedKey<'a> {
    /// Signed by the batched backend, which holds the key.
    Rsa(KeyId),
    /// Signed on the spot.
    Ed25519(&'a Ed25519PrivateKey),
}

/// Makes the `DKIM-Signature` fields of a message, in their order, without their signatures; none
/// where its author's domain is not signed for. `content` holds the header section at least.
///
/// # Errors
/// [`SigningError`], after which the message must not leave.
pub fn prepare<'a>(
    keys: &'a SigningKeys,
    meta: &Meta,
    content: &[Bytes],
    now: SystemTime,
) -> Result<Vec<Prepared<'a>>, SigningError> {
    let entries = match keys.keys.for_message(&meta.author_domain, &meta.app) {
        Signers::Nobody => return Ok(Vec::new()),
        Signers::NoKey => return Err(SigningError::NoKey),
        Signers::Entries(entries) => entries,
    };
    // It was accepted when its domain was not signed for.
    let Some(body_hash) = &meta.body_hash else { return Ok(Vec::new()) };
    let mut section = vec![meta.added.as_bytes()];
    section.extend(plain_prefix(content, meta.header_bytes));
    let now_unix_s = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut prepared = Vec::with_capacity(entries.len());
    for dkim in entries {
        let key = match dkim.key.as_deref() {
            Some(SigningKey::Rsa(key)) => PreparedKey::Rsa(KeyId::of(key.public())),
            Some(SigningKey::Ed25519(key)) => PreparedKey::Ed25519(key),
            None => continue,
        };
        let unsigned =
            dkim.profile.prepare(&section, body_hash, now_unix_s).map_err(SigningError::Header)?;
        prepared.push(Prepared { unsigned, key });
    }
    Ok(prepared)
}

/// Has the fields signed; returns the signatures in the order of the fields.
///
/// # Errors
/// [`SigningError::Backend`] for the first that could not be.
pub fn sign(
    signer: &mut dyn BatchSigner,
    prepared: &[Prepared<'_>],
) -> Result<Vec<Vec<u8>>, SigningError> {
    let sign_one = |field: &Prepared<'_>| match field.key {
        PreparedKey::Ed25519(key) => Ok(key.sign(&field.unsigned.digest()).to_vec()),
        PreparedKey::Rsa(key) => {
            let input = Input::Canonical(field.unsigned.input());
            let mut done = Vec::with_capacity(1);
            signer.sign(&[Job { ticket: Ticket(0), key, input }], &mut done);
            let signed = done.pop().ok_or(SigningError::Backend(SignFault::UnknownKey))?;
            signed
                .result
                .map(|signature| signature.as_bytes().to_vec())
                .map_err(SigningError::Backend)
        }
    };
    prepared.iter().map(sign_one).collect()
}

/// Puts fields and signatures together: what is sent before everything else.
#[must_use]
pub fn assemble(prepared: &[Prepared<'_>], signatures: &[Vec<u8>]) -> Vec<u8> {
    let fields = prepared.iter().zip(signatures);
    fields.flat_map(|(field, signature)| field.unsigned.complete(signature)).collect()
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
