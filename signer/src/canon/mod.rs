//! Canonicalisation (RFC 6376 3.4) and hashing of bytes as they arrive.
//!
//! All input is in plain form (dot-unstuffed), in any cutting: the result depends on the bytes
//! only. The end of a line is CR LF; a bare CR or a bare LF is an ordinary byte, as RFC 6376 says,
//! since a message that holds one has been refused or repaired before it comes here.
//!
//! Cost: SHA-256 and up to a sixth on top. Clean stretches are hashed where they lie; elsewhere the
//! canonical form is made 64 bytes at a time, with AVX-512 or AVX2 where the CPU has them (the
//! `simd` room), and hashed in pieces of 2 KiB; with either, no text is much slower than another.
//!
//! Nothing here fails and nothing here allocates, except that the header side appends to a vector
//! of the caller's.

mod body;
mod content;
mod field;
mod simd;

#[cfg(test)]
mod tests;

use std::fmt;

pub use body::BodyHasher;
pub use content::{ContentHash, ContentHasher};
pub use field::FieldCanon;
pub use simd::Tier;

/// How much change on the way the signature tolerates (RFC 6376 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Canonicalization {
    /// Nearly none: 3.4.1 for the header, 3.4.3 for the body.
    Simple,
    /// White space may change: 3.4.2 for the header, 3.4.4 for the body.
    Relaxed,
}

impl Canonicalization {
    /// Returns the word of the `c=` tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        }
    }
}

impl fmt::Display for Canonicalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The SHA-256 of a canonicalised body: the `bh=` value, with the canonicalisation it was made by.
///
/// It can be stored beside the message and signed after a restart under a changed configuration:
/// the `c=` tag is taken from here, so that it always tells what was done.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyHash {
    canonicalization: Canonicalization,
    digest: [u8; 32],
}

impl BodyHash {
    /// Length of the stored form.
    pub const BYTES: usize = 33;

    /// Joins a digest to the canonicalisation it was made by.
    pub fn new(canonicalization: Canonicalization, digest: [u8; 32]) -> Self {
        Self { canonicalization, digest }
    }

    /// Returns the body canonicalisation that was applied.
    pub fn canonicalization(&self) -> Canonicalization {
        self.canonicalization
    }

    /// Returns the SHA-256 digest.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Returns the stored form: one byte of canonicalisation, then the digest.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = match self.canonicalization {
            Canonicalization::Simple => 0,
            Canonicalization::Relaxed => 1,
        };
        bytes[1..].copy_from_slice(&self.digest);
        bytes
    }

    /// Reads the stored form; `None` if the first byte is not one that [`BodyHash::to_bytes`]
    /// writes.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let canonicalization = match bytes[0] {
            0 => Canonicalization::Simple,
            1 => Canonicalization::Relaxed,
            _ => return None,
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[1..]);
        Some(Self { canonicalization, digest })
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyHash({}, ", self.canonicalization)?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
