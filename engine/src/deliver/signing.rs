//! Signs what is about to leave.
//!
//! The body hash was made while the message arrived and is stored with it; here the header section
//! is read in place from the stored bytes, canonicalised and signed, once for each signature that is
//! configured. A message that should be signed and cannot be is not sent unsigned: it is deferred,
//! and the reason is told.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use postern_signer::batch::KeyId;
use postern_signer::batch::policy::Class;
use postern_signer::header::{HeaderRefused, Unsigned};
use postern_signer::key::{Ed25519PrivateKey, KeyRefused, SigningKey};
use postern_smtp::data::Unstuffer;

use crate::config::{DkimKeys, Signers};
use crate::intake::meta::Meta;
use crate::queue::Lane;
use crate::signing::{KeyRefusal, KeySet, NotSigned, SigningService};

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

    /// Has every RSA key loaded by the signer; their ids are good while the set is held.
    ///
    /// # Errors
    /// [`KeyError`] when the backend cannot use a key of this kind.
    pub async fn load(&self, signer: &SigningService) -> Result<KeySet, KeyError> {
        let rsa = self.keys.all().iter().filter_map(|dkim| match dkim.key.as_deref()? {
            SigningKey::Rsa(key) => Some((key.id(), Arc::new(key.clone()))),
            SigningKey::Ed25519(_) => None,
        });
        signer.load(rsa.collect()).await.map_err(|KeyRefusal { key, cause }| {
            let all = self.keys.all().iter();
            let domains = all.filter(|dkim| match dkim.key.as_deref() {
                Some(SigningKey::Rsa(own)) => own.id() == key,
                _ => false,
            });
            let domain = domains.map(|dkim| dkim.domain().to_owned()).next().unwrap_or_default();
            KeyError { domain, cause }
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
    /// The signer gave no signature.
    Signer(NotSigned),
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => write!(f, "not signed: {error}"),
            Self::NoKey => f.write_str("not signed: no key of this domain can be used yet"),
            Self::Signer(error) => write!(f, "not signed: {error}"),
        }
    }
}

/// A field that waits for its signature.
struct Prepared<'a> {
    unsigned: Unsigned,
    key: PreparedKey<'a>,
}

enum PreparedKey<'a> {
    /// Signed in a batch; the backend holds the key.
    Rsa(KeyId),
    /// Signed on the spot, in 25 us.
    Ed25519(&'a Ed25519PrivateKey),
}

/// The `DKIM-Signature` fields of a message, with how many they are; none where its author's domain
/// is not signed for. Waits for the signatures; the caller holds the [`KeySet`] of `keys` for as
/// long. `content` holds the header section at least.
///
/// # Errors
/// [`SigningError`], after which the message must not leave.
pub async fn sign(
    keys: &SigningKeys,
    signer: &SigningService,
    lane: Lane,
    meta: &Meta,
    content: &[Bytes],
) -> Result<(usize, Vec<u8>), SigningError> {
    let prepared = prepare(keys, meta, content, SystemTime::now())?;
    let class = class_of(lane);
    let complete = async |Prepared { unsigned, key }: &Prepared<'_>| match *key {
        PreparedKey::Ed25519(key) => Ok(unsigned.complete(&key.sign(&unsigned.digest()))),
        PreparedKey::Rsa(key) => {
            let signature = signer.sign(class, key, unsigned.input()).await?;
            Ok(unsigned.complete(signature.as_bytes()))
        }
    };
    let fields = together(prepared.iter().map(complete)).await.map_err(SigningError::Signer)?;
    Ok((prepared.len(), fields.concat()))
}

/// Waits for all at once, so that the signatures of one message can share a pass.
async fn together<T, E>(
    futures: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        match waiting.iter().all(|(_, output)| output.is_some()) {
            true => {
                Poll::Ready(waiting.iter_mut().filter_map(|(_, output)| output.take()).collect())
            }
            false => Poll::Pending,
        }
    })
    .await
}

/// Makes the fields of a message, in their order, without their signatures.
fn prepare<'a>(
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
            Some(SigningKey::Rsa(key)) => PreparedKey::Rsa(key.id()),
            Some(SigningKey::Ed25519(key)) => PreparedKey::Ed25519(key),
            None => continue,
        };
        let unsigned =
            dkim.profile.prepare(&section, body_hash, now_unix_s).map_err(SigningError::Header)?;
        prepared.push(Prepared { unsigned, key });
    }
    Ok(prepared)
}

/// How urgent the signatures of a lane are.
fn class_of(lane: Lane) -> Class {
    match lane {
        Lane::Urgent => Class::Urgent,
        Lane::Normal => Class::Normal,
        Lane::Bulk => Class::Bulk,
    }
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
