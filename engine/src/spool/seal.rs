//! Sealing of records at rest: AES-256-GCM, in place, through `ring`.
//!
//! Invariants: one key per segment incarnation, derived with HKDF-SHA-256 from the spool key, the
//! segment's random 128-bit salt and its epoch; the nonce is the record's sequence, which is used
//! once in a segment. A segment that was open at a crash is never appended to again, so no pair of
//! key and nonce is used twice, whatever is lost.
//! Must never: log or show key bytes; [`SpoolKey`] has neither `Debug` nor `Display` and is wiped.
//! Failures: a record that does not authenticate is damage (or the wrong key); the caller decides.

use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

/// Bytes of a segment's salt.
pub(super) const SALT_BYTES: usize = 16;
/// Bytes of the authentication tag (GCM's full tag).
pub(super) const TAG_BYTES: usize = 16;
/// The least a key file must hold; more is used too (HKDF takes any length).
pub const KEY_BYTES_MIN: usize = 32;
/// The most a key file may hold: a sanity bound, so that a wrong path does not read a disk.
pub const KEY_BYTES_MAX: usize = 4096;

/// Binds the derived keys to this use of the spool key.
const PURPOSE: &[u8] = b"postern spool segment 1";

/// The secret all segment keys of a spool are derived from.
#[derive(Clone)]
pub struct SpoolKey(Zeroizing<Vec<u8>>);

impl SpoolKey {
    /// Takes key material as it is.
    ///
    /// # Errors
    /// [`KeyRefused::Length`] unless it holds [`KEY_BYTES_MIN`]..=[`KEY_BYTES_MAX`] bytes.
    pub fn from_bytes(material: &[u8]) -> Result<Self, KeyRefused> {
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&material.len()) {
            return Err(KeyRefused::Length { bytes: material.len() });
        }
        Ok(Self(Zeroizing::new(material.to_vec())))
    }

    /// Reads key material from a file (or a credential path), taken as raw bytes.
    ///
    /// # Errors
    /// [`KeyRefused::Unreadable`] with the system's reason, [`KeyRefused::Length`] as above.
    pub fn read(path: &Path) -> Result<Self, KeyRefused> {
        let material = Zeroizing::new(std::fs::read(path).map_err(KeyRefused::Unreadable)?);
        Self::from_bytes(&material)
    }
}

/// Why a spool key was not taken.
#[derive(Debug)]
pub enum KeyRefused {
    /// The file could not be read: wrong path or permissions.
    Unreadable(std::io::Error),
    /// Too short to be a key, or so long that the path must be wrong.
    Length {
        /// What it held.
        bytes: usize,
    },
}

impl std::fmt::Display for KeyRefused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(out, "the spool key cannot be read: {cause}"),
            Self::Length { bytes } => write!(
                out,
                "the spool key holds {bytes} bytes; it must hold {KEY_BYTES_MIN} to {KEY_BYTES_MAX}"
            ),
        }
    }
}

impl std::error::Error for KeyRefused {}

/// Seals and opens the records of one segment incarnation.
pub(super) struct Sealer(LessSafeKey);

/// The record is not what was sealed: altered, or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAuthentic;

impl Sealer {
    /// Derives the key of the segment with this salt and epoch. Costs about 3 us: keep it.
    pub(super) fn for_segment(key: &SpoolKey, salt: &[u8; SALT_BYTES], epoch: u64) -> Self {
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&key.0);
        let epoch_bytes = epoch.to_le_bytes();
        let info = [PURPOSE, &epoch_bytes];
        let material = extracted
            .expand(&info, &AES_256_GCM)
            .expect("HKDF-SHA-256 gives up to 8160 bytes and 32 are asked");
        Self(LessSafeKey::new(UnboundKey::from(material)))
    }

    /// Seals `payload` in place and returns the tag. `sequence` must be new in this segment.
    pub(super) fn seal(&self, sequence: u64, bound: &[u8], payload: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(sequence), Aad::from(bound), payload)
            .expect("a record is far below GCM's 64 GiB bound");
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// Opens `payload` in place. On an error its content is garbage and must not be used.
    pub(super) fn open(
        &self,
        sequence: u64,
        bound: &[u8],
        tag: [u8; TAG_BYTES],
        payload: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        self.0
            .open_in_place_separate_tag(nonce(sequence), Aad::from(bound), tag.into(), payload, 0..)
            .map(|_plain| ())
            .map_err(|_| NotAuthentic)
    }
}

fn nonce(sequence: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8, salt: u8, epoch: u64) -> Sealer {
        let key = SpoolKey::from_bytes(&[key; 32]).expect("32 bytes");
        Sealer::for_segment(&key, &[salt; SALT_BYTES], epoch)
    }

    #[test]
    fn opens_only_what_was_sealed_here() {
        let mut payload = *b"the code is 123456";
        let tag = sealer(1, 1, 1).seal(7, b"header", &mut payload);
        assert_ne!(&payload, b"the code is 123456");

        let check = |sealer: Sealer, sequence, bound: &[u8], flip: Option<usize>| {
            let mut copy = payload;
            if let Some(at) = flip {
                copy[at] ^= 1;
            }
            sealer.open(sequence, bound, tag, &mut copy).map(|()| copy)
        };
        assert_eq!(check(sealer(1, 1, 1), 7, b"header", None), Ok(*b"the code is 123456"));
        for (wrong, sequence, bound, flip) in [
            (sealer(2, 1, 1), 7, &b"header"[..], None),
            (sealer(1, 2, 1), 7, b"header", None),
            (sealer(1, 1, 2), 7, b"header", None),
            (sealer(1, 1, 1), 8, b"header", None),
            (sealer(1, 1, 1), 7, b"reader", None),
            (sealer(1, 1, 1), 7, b"header", Some(3)),
        ] {
            assert_eq!(check(wrong, sequence, bound, flip), Err(NotAuthentic));
        }
    }

    #[test]
    fn short_and_endless_keys_are_refused() {
        for bytes in [0, 31, 4097] {
            assert!(matches!(
                SpoolKey::from_bytes(&vec![0; bytes]),
                Err(KeyRefused::Length { bytes: found }) if found == bytes
            ));
        }
    }
}
