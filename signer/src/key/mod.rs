//! Signing keys, RSA and Ed25519: read from PEM, made, checked, written, sealed; and their life.
//!
//! Invariants: an [`RsaPrivateKey`] exists only if its numbers belong together and it has signed a
//! probe whose signature verified; it has 2048 to 4096 bits. Secret bytes lie in pages that are kept
//! from swap and core dumps and wiped on drop; they appear in no `Debug`, `Display` or error.
//!
//! Failures: every way in which a file can be wrong is one [`KeyRefused`], whose text tells the
//! operator what to do; the caller adds the file's name.
//!
//! Limit: a signing backend keeps its own prepared form of a key; that of `ring` is not zeroised by
//! `ring`.

mod der;
mod ed25519;
mod generate;
pub mod lifecycle;
mod pem;
pub mod store;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
pub use rsa::rand_core;
use zeroize::Zeroizing;

use crate::batch::KeyId;
use crate::memory::SecretBytes;
use der::{DerFault, Reader};
pub use ed25519::{Ed25519PrivateKey, Ed25519PublicKey};
pub use generate::{GenerateFailed, OsRandom, RandomnessFailed};

/// A private key to sign with.
#[derive(Clone, Debug)]
pub enum SigningKey {
    /// RSA, 2048 to 4096 bits: what every verifier takes.
    Rsa(RsaPrivateKey),
    /// Ed25519 (RFC 8463): beside RSA, never alone.
    Ed25519(Ed25519PrivateKey),
}

/// The public half of a [`SigningKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA.
    Rsa(RsaPublicKey),
    /// Ed25519.
    Ed25519(Ed25519PublicKey),
}

/// How a signature is made: the `a=` tag (RFC 6376 3.5, RFC 8463 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 over SHA-256.
    RsaSha256,
    /// Ed25519 over the SHA-256 digest.
    Ed25519Sha256,
}

impl Algorithm {
    /// Returns the word of the `a=` tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SigningKey {
    /// Reads the first private key of a PEM text, of either kind.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`], one variant for each usual cause.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyRefused> {
        match RsaPrivateKey::from_pem(text) {
            Ok(key) => Ok(Self::Rsa(key)),
            Err(KeyRefused::NotRsa { found: "Ed25519" }) => {
                let section = pem::private_key(text)?;
                Ed25519PrivateKey::from_pkcs8_der(&section.der).map(Self::Ed25519)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Returns how it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::RsaSha256,
            Self::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Rsa(key) => PublicKey::Rsa(key.public().clone()),
            Self::Ed25519(key) => PublicKey::Ed25519(*key.public()),
        }
    }

    /// Writes a PKCS#8 PEM text.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        match self {
            Self::Rsa(key) => key.to_pkcs8_pem(),
            Self::Ed25519(key) => key.to_pkcs8_pem(),
        }
    }
}

impl From<RsaPrivateKey> for SigningKey {
    fn from(key: RsaPrivateKey) -> Self {
        Self::Rsa(key)
    }
}

impl From<Ed25519PrivateKey> for SigningKey {
    fn from(key: Ed25519PrivateKey) -> Self {
        Self::Ed25519(key)
    }
}

impl From<RsaPublicKey> for PublicKey {
    fn from(key: RsaPublicKey) -> Self {
        Self::Rsa(key)
    }
}

/// An RSA private key that has been proved to work.
#[derive(Clone)]
pub struct RsaPrivateKey {
    /// `RSAPrivateKey` (RFC 8017 A.1.2).
    pkcs1: Arc<SecretBytes>,
    public: RsaPublicKey,
    id: KeyId,
}

/// The public half: what DNS publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaPublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// The numbers of the Chinese remainder form (RFC 8017 3.2), big-endian without leading zeros.
pub(crate) struct PrivateNumbers<'a> {
    pub(crate) p: &'a [u8],
    pub(crate) q: &'a [u8],
    pub(crate) d_p: &'a [u8],
    pub(crate) d_q: &'a [u8],
    pub(crate) q_inverse: &'a [u8],
}

impl RsaPrivateKey {
    /// Reads the first private key of a PEM text: PKCS#8 (`PRIVATE KEY`) or PKCS#1
    /// (`RSA PRIVATE KEY`).
    ///
    /// # Errors
    ///
    /// [`KeyRefused`], one variant for each usual cause. Costs about 1 ms, for the probe.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyRefused> {
        let section = pem::private_key(text)?;
        match section.label {
            "RSA PRIVATE KEY" => Self::from_pkcs1_der(&section.der),
            "PRIVATE KEY" => Self::from_pkcs8_der(&section.der),
            "ENCRYPTED PRIVATE KEY" => Err(KeyRefused::Encrypted),
            "EC PRIVATE KEY" => Err(KeyRefused::NotRsa { found: "EC" }),
            "DSA PRIVATE KEY" => Err(KeyRefused::NotRsa { found: "DSA" }),
            label => Err(KeyRefused::Format { label: label.into() }),
        }
    }

    /// Reads an unencrypted PKCS#8 `PrivateKeyInfo` (RFC 5958).
    ///
    /// # Errors
    ///
    /// As [`RsaPrivateKey::from_pem`].
    pub fn from_pkcs8_der(bytes: &[u8]) -> Result<Self, KeyRefused> {
        let mut outer = Reader::new(bytes);
        let mut info = Reader::new(outer.element(der::SEQUENCE)?);
        outer.end()?;
        info.unsigned()?;
        let algorithm =
            Reader::new(info.element(der::SEQUENCE)?).element(der::OBJECT_IDENTIFIER)?;
        check_algorithm(algorithm, RSA_ENCRYPTION)?;
        Self::from_pkcs1_der(info.element(der::OCTET_STRING)?)
    }

    /// Reads an `RSAPrivateKey` (RFC 8017 A.1.2) and proves it.
    ///
    /// # Errors
    ///
    /// As [`RsaPrivateKey::from_pem`].
    pub fn from_pkcs1_der(bytes: &[u8]) -> Result<Self, KeyRefused> {
        let public = read_public(bytes)?;
        public.check_size()?;
        let pkcs1 = SecretBytes::copy_of(bytes).ok_or(KeyRefused::Malformed)?;
        let key = Self { pkcs1: Arc::new(pkcs1), id: KeyId::of(&public), public };
        key.prove()?;
        Ok(key)
    }

    /// Returns the id that follows from the key: what a signer should know it by.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the public half.
    pub fn public(&self) -> &RsaPublicKey {
        &self.public
    }

    /// Writes a PKCS#8 PEM text.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let contents_bytes = self.pkcs1.len() + 64;
        let mut info = Zeroizing::new(Vec::with_capacity(contents_bytes));
        der::write_unsigned(&mut info, &[]);
        info.extend_from_slice(RSA_ALGORITHM);
        der::write(&mut info, der::OCTET_STRING, &self.pkcs1);
        let mut outer = Zeroizing::new(Vec::with_capacity(contents_bytes + 8));
        der::write(&mut outer, der::SEQUENCE, &info);
        pem::encode("PRIVATE KEY", &outer)
    }

    /// Returns the numbers that the signature is computed with, in place.
    ///
    /// # Errors
    ///
    /// Those of reading, which do not happen to a key that was proved.
    pub(crate) fn numbers(&self) -> Result<PrivateNumbers<'_>, KeyRefused> {
        let mut key = Reader::new(Reader::new(&self.pkcs1).element(der::SEQUENCE)?);
        for _ in ["version", "modulus", "e", "d"] {
            key.unsigned()?;
        }
        Ok(PrivateNumbers {
            p: key.unsigned()?,
            q: key.unsigned()?,
            d_p: key.unsigned()?,
            d_q: key.unsigned()?,
            q_inverse: key.unsigned()?,
        })
    }

    /// Prepares the key for the FIPS module.
    #[cfg(feature = "fips")]
    pub(crate) fn to_fips(&self) -> Result<aws_lc_rs::rsa::KeyPair, KeyRefused> {
        aws_lc_rs::rsa::KeyPair::from_der(&self.pkcs1).map_err(|_| KeyRefused::Inconsistent)
    }

    /// Prepares the key for `ring`.
    pub(crate) fn to_ring(&self) -> Result<RsaKeyPair, KeyRefused> {
        RsaKeyPair::from_der(&self.pkcs1).map_err(|_| KeyRefused::Inconsistent)
    }

    /// Signs a probe: `ring` checks each signature with the public exponent, which finds wrong CRT
    /// exponents that the checks at loading cannot.
    fn prove(&self) -> Result<(), KeyRefused> {
        let pair = self.to_ring()?;
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"probe", &mut signature)
            .map_err(|ring::error::Unspecified| KeyRefused::Inconsistent)
    }
}

impl fmt::Debug for RsaPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaPrivateKey({} bits)", self.public.bits())
    }
}

impl RsaPublicKey {
    /// Joins a modulus and an exponent, big-endian. Nothing is checked.
    pub fn from_numbers(modulus: &[u8], exponent: &[u8]) -> Self {
        let without_zeros = |number: &[u8]| {
            let zeros = number.iter().take_while(|&&octet| octet == 0).count();
            number[zeros..].to_vec()
        };
        Self { modulus: without_zeros(modulus), exponent: without_zeros(exponent) }
    }

    /// Whether a signature is this key's over `bytes` (RSASSA-PKCS1-v1_5 with SHA-256, RFC 8017
    /// 8.2.2), for moduli of 2048 to 8192 bits. About 20 us with 2048.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent }
            .verify(&RSA_PKCS1_2048_8192_SHA256, bytes, signature)
            .is_ok()
    }

    /// Returns the length of the modulus in bits.
    pub fn bits(&self) -> usize {
        self.modulus
            .first()
            .map_or(0, |first| self.modulus.len() * 8 - first.leading_zeros() as usize)
    }

    /// Returns the modulus, big-endian, without leading zeros.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Returns the public exponent, big-endian, without leading zeros.
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// Returns the `SubjectPublicKeyInfo` (RFC 5280 4.1), the form that `p=` carries (RFC 6376
    /// 3.6.1 with erratum 3017).
    pub fn to_spki_der(&self) -> Vec<u8> {
        let mut numbers = Vec::new();
        der::write_unsigned(&mut numbers, &self.modulus);
        der::write_unsigned(&mut numbers, &self.exponent);
        let mut bits = vec![0]; // no unused bits
        der::write(&mut bits, der::SEQUENCE, &numbers);
        let mut info = RSA_ALGORITHM.to_vec();
        der::write(&mut info, der::BIT_STRING, &bits);
        let mut spki = Vec::new();
        der::write(&mut spki, der::SEQUENCE, &info);
        spki
    }

    fn check_size(&self) -> Result<(), KeyRefused> {
        let bits = self.bits();
        if bits < MODULUS_BITS_MIN {
            return Err(KeyRefused::TooShort { bits });
        }
        if bits > MODULUS_BITS_MAX || !bits.is_multiple_of(512) {
            return Err(KeyRefused::Length { bits });
        }
        let wide = |exponent: u32, &octet: &u8| exponent << 8 | u32::from(octet);
        let exponent = self.exponent.iter().fold(0, wide);
        // RFC 8017 allows small exponents; padding attacks begin there.
        let fits = self.exponent.len() <= 4 && exponent >= 65_537 && exponent % 2 == 1;
        if fits { Ok(()) } else { Err(KeyRefused::Exponent) }
    }
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRefused {
    /// No PEM section; DER, an empty file or another file are usual causes.
    NotPem,
    /// The PEM text or the DER inside ends too early; an incomplete copy is the usual cause.
    Truncated,
    /// The PEM body is not base64.
    Base64,
    /// Protected by a passphrase.
    Encrypted,
    /// PEM, but no private key in it: a certificate or a public key.
    NotPrivate {
        /// What the first section says it is.
        label: Box<str>,
    },
    /// A private key in a format other than PKCS#1 and PKCS#8, such as OpenSSH's.
    Format {
        /// What the section says it is.
        label: Box<str>,
    },
    /// A private key of another algorithm.
    NotRsa {
        /// Which.
        found: &'static str,
    },
    /// The DER is not that of a two-prime RSA key.
    Malformed,
    /// Under 2048 bits (RFC 8301 3.2).
    TooShort {
        /// The length of the modulus.
        bits: usize,
    },
    /// Over 4096 bits, or not a multiple of 512.
    Length {
        /// The length of the modulus.
        bits: usize,
    },
    /// The public exponent is under 65537, even, or over 32 bits.
    Exponent,
    /// The numbers do not belong together: a damaged or forged file.
    Inconsistent,
    /// A good key, of a shape that this signing backend is not made for.
    Unsupported,
}

impl fmt::Display for KeyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPem => f.write_str("no PEM private key in it"),
            Self::Truncated => f.write_str("the key is cut short"),
            Self::Base64 => f.write_str("the PEM body is not base64"),
            Self::Encrypted => f.write_str(
                "the key is protected by a passphrase; remove it with `openssl pkey -in FILE -out FILE2`",
            ),
            Self::NotPrivate { label } => {
                write!(f, "it holds a {}, no private key", label.to_ascii_lowercase())
            }
            Self::Format { label } => write!(
                f,
                "the format {label:?} is not read; PKCS#8 (`PRIVATE KEY`) and PKCS#1 (`RSA PRIVATE KEY`) are"
            ),
            Self::NotRsa { found } => write!(f, "the key is {found}, not RSA"),
            Self::Malformed => f.write_str("the key is not a well-formed RSA private key"),
            Self::TooShort { bits } => {
                write!(f, "the key has {bits} bits; DKIM needs {MODULUS_BITS_MIN} (RFC 8301)")
            }
            Self::Length { bits } => write!(
                f,
                "the key has {bits} bits; {MODULUS_BITS_MIN} to {MODULUS_BITS_MAX} in steps of 512 are supported"
            ),
            Self::Exponent => f.write_str("the public exponent is not 65537 or another odd number of 17 to 32 bits"),
            Self::Inconsistent => {
                f.write_str("the numbers of the key do not belong together; the file is damaged")
            }
            Self::Unsupported => f.write_str(
                "this signing backend takes keys of 2048 bits with two primes of 1024 and exponent 65537",
            ),
        }
    }
}

impl std::error::Error for KeyRefused {}

impl From<DerFault> for KeyRefused {
    fn from(fault: DerFault) -> Self {
        match fault {
            DerFault::Truncated => Self::Truncated,
            DerFault::Malformed => Self::Malformed,
        }
    }
}

/// Refuses an `AlgorithmIdentifier` other than the wanted one, and names what it is.
fn check_algorithm(identifier: &[u8], wanted: &[u8]) -> Result<(), KeyRefused> {
    let found = match identifier {
        same if same == wanted => return Ok(()),
        RSA_ENCRYPTION => "RSA",
        ED25519_ALGORITHM => "Ed25519",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => "RSA-PSS",
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => "EC",
        [0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01] => "DSA",
        [0x2b, 0x65, 0x71] => "Ed448",
        [0x2b, 0x65, 0x6e] => "X25519",
        _ => "of an unknown algorithm",
    };
    Err(KeyRefused::NotRsa { found })
}

/// Reads the shape of an `RSAPrivateKey` and keeps its public numbers.
fn read_public(bytes: &[u8]) -> Result<RsaPublicKey, KeyRefused> {
    let mut outer = Reader::new(bytes);
    let mut key = Reader::new(outer.element(der::SEQUENCE)?);
    outer.end()?;
    // Version 0: two primes.
    if !key.unsigned()?.is_empty() {
        return Err(KeyRefused::Malformed);
    }
    let public = RsaPublicKey { modulus: key.unsigned()?.into(), exponent: key.unsigned()?.into() };
    for _private in ["d", "p", "q", "dP", "dQ", "qInv"] {
        key.unsigned()?;
    }
    key.end()?;
    Ok(public)
}

/// id-Ed25519, 1.3.101.112 (RFC 8410 3).
const ED25519_ALGORITHM: &[u8] = &[0x2b, 0x65, 0x70];

/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// The `AlgorithmIdentifier` of it, with its NULL parameters.
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// RFC 8301 3.2: signers use at least 2048 bits.
pub const MODULUS_BITS_MIN: usize = 2048;

/// The largest that `ring` signs with.
pub const MODULUS_BITS_MAX: usize = 4096;
