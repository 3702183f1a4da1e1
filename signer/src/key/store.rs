//! The sealed form of a line and its private keys: what its driver keeps on disk.
//!
//! One line is one sealed text, so that how far a key is and its private half cannot come apart,
//! and replacing one file is a transition. AES-256-GCM under a key that is derived with HKDF-SHA-256
//! from the operator's key material; the line's name is authenticated with it, so that a file is
//! good for no other line.
//!
//! Invariants: a nonce is random and used once (a line is sealed some thousand times in its life,
//! far from the 2^32 of NIST SP 800-38D 8.3); private keys are never in a buffer that is not wiped;
//! what is opened is complete: each key that needs its private half has it, and it is the one that
//! is published.
//!
//! What it does not prevent: an old file put in place of a new one. The driver looks at DNS before
//! it relies on anything, and a withdrawn key that signs again is seen there.

use std::collections::BTreeMap;
use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::lifecycle::Line;
use super::{KeyRefused, SigningKey};
use crate::dns::record_text;
use crate::name::Selector;

/// What lines are sealed with. No `Debug`.
#[derive(Clone)]
pub struct StoreKey(std::sync::Arc<LessSafeKey>);

/// A line with its private keys.
#[derive(Clone, Default)]
pub struct Content {
    /// How far each key is.
    pub line: Line,
    /// The private keys of those that are not destroyed.
    pub private: BTreeMap<Selector, SigningKey>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Why a line cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRefused {
    /// The key material has fewer bytes than [`StoreKey::BYTES_MIN`].
    ShortKey(usize),
    /// It is no sealed line, or one of a newer Postern.
    Format,
    /// It was sealed with other key material or for another line, or has been changed.
    NotAuthentic,
    /// It is authentic and not understood: a bug, or another version.
    Content(String),
    /// A private key in it cannot be used.
    Key(Selector, KeyRefused),
    /// A key that is not destroyed has no private half, or another one than is published.
    NotItsKey(Selector),
    /// The operating system gave no randomness.
    Randomness,
}

impl StoreKey {
    /// The least key material.
    pub const BYTES_MIN: usize = 32;

    /// Derives the key from the operator's key material.
    ///
    /// # Errors
    /// [`StoreRefused::ShortKey`]
    pub fn new(material: &[u8]) -> Result<Self, StoreRefused> {
        if material.len() < Self::BYTES_MIN {
            return Err(StoreRefused::ShortKey(material.len()));
        }
        let extracted = Salt::new(HKDF_SHA256, &[]).extract(material);
        let derived = extracted
            .expand(&[PURPOSE], &AES_256_GCM)
            .expect("HKDF-SHA-256 gives up to 8160 bytes and 32 are asked");
        Ok(Self(std::sync::Arc::new(LessSafeKey::new(UnboundKey::from(derived)))))
    }

    /// Seals the line of this name.
    ///
    /// # Errors
    /// [`StoreRefused::Randomness`]
    pub fn seal(&self, name: &str, content: &Content) -> Result<Vec<u8>, StoreRefused> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| StoreRefused::Randomness)?;
        let mut plain = content.to_plain()?;
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound(name)),
                &mut plain,
            )
            .map_err(|_| StoreRefused::Randomness)?;
        Ok([MAGIC, &nonce, &plain, tag.as_ref()].concat())
    }

    /// Opens what was sealed for the line of this name.
    ///
    /// # Errors
    /// [`StoreRefused`]
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Content, StoreRefused> {
        let rest = sealed.strip_prefix(MAGIC).ok_or(StoreRefused::Format)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(StoreRefused::Format)?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let plain = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound(name)), &mut plain)
            .map_err(|_| StoreRefused::NotAuthentic)?;
        let content = Content::from_plain(plain)?;
        content.check()?;
        Ok(content)
    }
}

impl Content {
    /// The line as JSON, then selector and PEM of each private key, each with its length.
    fn to_plain(&self) -> Result<Zeroizing<Vec<u8>>, StoreRefused> {
        let line = serde_json::to_vec(&self.line)
            .map_err(|error| StoreRefused::Content(error.to_string()))?;
        let keys: Vec<_> =
            self.private.iter().map(|(selector, key)| (selector, key.to_pkcs8_pem())).collect();
        let framing = LENGTH_BYTES * (1 + 2 * keys.len());
        let bytes: usize = keys.iter().map(|(name, pem)| name.as_str().len() + pem.len()).sum();
        // Of sufficient capacity: growing would leave copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(framing + line.len() + bytes));
        let mut put = |part: &[u8]| {
            let length = u32::try_from(part.len()).expect("keys and lines are small");
            plain.extend_from_slice(&length.to_be_bytes());
            plain.extend_from_slice(part);
        };
        put(&line);
        for (selector, pem) in &keys {
            put(selector.as_str().as_bytes());
            put(pem.as_bytes());
        }
        Ok(plain)
    }

    fn from_plain(plain: &[u8]) -> Result<Self, StoreRefused> {
        let damaged = || StoreRefused::Content("a length in it is wrong".to_owned());
        let mut rest = plain;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (part, after) = after.split_at_checked(length)?;
            rest = after;
            Some((part, after.is_empty()))
        };
        let (line, mut is_last) = part().ok_or_else(damaged)?;
        let line = serde_json::from_slice(line)
            .map_err(|error| StoreRefused::Content(error.to_string()))?;
        let mut private = BTreeMap::new();
        while !is_last {
            let (name, _) = part().ok_or_else(damaged)?;
            let selector: Selector = std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse().ok())
                .ok_or_else(damaged)?;
            let (pem, was_last) = part().ok_or_else(damaged)?;
            is_last = was_last;
            let key = SigningKey::from_pem(pem)
                .map_err(|refused| StoreRefused::Key(selector.clone(), refused))?;
            private.insert(selector, key);
        }
        Ok(Self { line, private })
    }

    fn check(&self) -> Result<(), StoreRefused> {
        for key in self.line.wants_private() {
            let private = self.private.get(key.selector());
            if private.is_none_or(|private| record_text(&private.public()) != key.record()) {
                return Err(StoreRefused::NotItsKey(key.selector().clone()));
            }
        }
        Ok(())
    }
}

fn bound(name: &str) -> Vec<u8> {
    [MAGIC, name.as_bytes()].concat()
}

impl fmt::Display for StoreRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShortKey(bytes) => write!(
                f,
                "the key file holds {bytes} bytes; a sealing key has {} at least",
                StoreKey::BYTES_MIN
            ),
            Self::Format => f.write_str("it holds no keys, or those of a newer Postern"),
            Self::NotAuthentic => f.write_str(
                "it was sealed with another key file or under another name, or has been changed",
            ),
            Self::Content(problem) => write!(f, "its content is not understood: {problem}"),
            Self::Key(selector, refused) => write!(f, "key {selector}: {refused}"),
            Self::NotItsKey(selector) => {
                write!(f, "key {selector} has another private half than is published")
            }
            Self::Randomness => f.write_str("the operating system gave no randomness"),
        }
    }
}

impl std::error::Error for StoreRefused {}

const MAGIC: &[u8] = b"postern-keys 1\n";
const LENGTH_BYTES: usize = 4;
/// Binds the derived key to this use of the key material.
const PURPOSE: &[u8] = b"postern key store 1";

#[cfg(test)]
mod tests {
    use super::super::Ed25519PrivateKey;
    use super::super::lifecycle::Plan;
    use super::*;

    const NAME: &str = "example.org p";

    fn content() -> Content {
        let plan = Plan {
            rotate_every_s: 1,
            jitter_permille: 0,
            standby_for_s: 0,
            drain_for_s: 0,
            emergency_drain_for_s: 0,
            resolvers_min: 0,
            look_every_s: 1,
            selector_prefix: "p".parse().expect("is a selector"),
            selectors: None,
        };
        let mut content = Content::default();
        let key: SigningKey = Ed25519PrivateKey::generate().expect("a key").into();
        let selector = content.line.next_selector(&plan).expect("is free");
        let record = record_text(&key.public());
        content.line.made(&selector, record, 7, &plan, 1_800_000_000).expect("is asked for");
        content.private.insert(selector, key);
        content
    }

    fn store_key(fill: u8) -> StoreKey {
        StoreKey::new(&[fill; 32]).expect("is long enough")
    }

    #[test]
    fn what_is_sealed_is_opened_and_does_not_show() {
        let content = content();
        let sealed = store_key(1).seal(NAME, &content).expect("seals");
        let opened = store_key(1).open(NAME, &sealed).expect("opens");
        assert_eq!(opened.line, content.line);
        assert_eq!(opened.private.len(), 1);
        assert!(!String::from_utf8_lossy(&sealed).contains("PRIVATE"));
        assert_ne!(sealed, store_key(1).seal(NAME, &content).expect("seals"), "another nonce");
    }

    #[test]
    fn every_changed_bit_another_key_and_another_name_are_refused() {
        let sealed = store_key(1).seal(NAME, &content()).expect("seals");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(store_key(1).open(NAME, &changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(store_key(1).open(NAME, &sealed[..length]).is_err(), "{length} bytes");
        }
        let other = store_key(2).open(NAME, &sealed).map(drop);
        assert_eq!(other, Err(StoreRefused::NotAuthentic));
        let other = store_key(1).open("example.net p", &sealed).map(drop);
        assert_eq!(other, Err(StoreRefused::NotAuthentic));
        assert!(matches!(StoreKey::new(&[1; 31]), Err(StoreRefused::ShortKey(31))));
    }

    #[test]
    fn a_key_without_its_private_half_is_refused() {
        let mut content = content();
        let selector = content.line.keys()[0].selector().clone();
        let other: SigningKey = Ed25519PrivateKey::generate().expect("a key").into();
        for private in [BTreeMap::new(), BTreeMap::from([(selector.clone(), other)])] {
            content.private = private;
            let sealed = store_key(1).seal(NAME, &content).expect("seals");
            let refused = store_key(1).open(NAME, &sealed).map(drop);
            assert_eq!(refused, Err(StoreRefused::NotItsKey(selector.clone())));
        }
    }
}
