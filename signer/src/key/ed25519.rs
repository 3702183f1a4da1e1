//! Ed25519 keys (RFC 8032) for the second signature of RFC 8463.
//!
//! The private key file is PKCS#8 (RFC 8410), with the public key (version 2) or without (version 1,
//! what OpenSSL writes). Signing is `ring`'s: constant time, about 25 us.
//!
//! Limit: the expanded key that `ring` signs with lies in its own ordinary memory.

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::der::{self, Reader};
use super::{ED25519_ALGORITHM, GenerateFailed, KeyRefused, RandomnessFailed, pem};
use crate::memory::SecretBytes;

/// An Ed25519 private key.
#[derive(Clone)]
pub struct Ed25519PrivateKey {
    /// The seed (RFC 8032 5.1.5), 32 octets.
    seed: Arc<SecretBytes>,
    pair: Arc<Ed25519KeyPair>,
    public: Ed25519PublicKey,
}

/// The public half: what DNS publishes, 32 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519PublicKey([u8; KEY_BYTES]);

impl Ed25519PrivateKey {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`GenerateFailed::Generator`], where the system gives none.
    pub fn generate() -> Result<Self, GenerateFailed> {
        let failed = || GenerateFailed::Generator(RandomnessFailed.to_string());
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut *seed).map_err(|_| failed())?;
        Self::from_seed(&*seed).map_err(|refused| GenerateFailed::Generator(refused.to_string()))
    }

    /// Reads an unencrypted PKCS#8 `OneAsymmetricKey` (RFC 8410 7).
    ///
    /// # Errors
    ///
    /// [`KeyRefused`]: of another algorithm, malformed, or with a public key that is not its own.
    pub fn from_pkcs8_der(bytes: &[u8]) -> Result<Self, KeyRefused> {
        let mut outer = Reader::new(bytes);
        let mut info = Reader::new(outer.element(der::SEQUENCE)?);
        outer.end()?;
        info.unsigned()?;
        let algorithm =
            Reader::new(info.element(der::SEQUENCE)?).element(der::OBJECT_IDENTIFIER)?;
        super::check_algorithm(algorithm, ED25519_ALGORITHM)?;
        let mut private = Reader::new(info.element(der::OCTET_STRING)?);
        let seed = private.element(der::OCTET_STRING)?;
        private.end()?;
        let key = Self::from_seed(seed)?;
        match info.optional(der::PUBLIC_KEY_1)? {
            // No unused bits, then the key.
            Some([0, public @ ..]) if public == key.public.0 => Ok(key),
            None => Ok(key),
            Some(_) => Err(KeyRefused::Inconsistent),
        }
    }

    /// Takes a seed of 32 octets.
    ///
    /// # Errors
    ///
    /// [`KeyRefused::Malformed`] for any other number.
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyRefused> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyRefused::Malformed)?;
        let mut public = [0; KEY_BYTES];
        public.copy_from_slice(pair.public_key().as_ref());
        let seed = SecretBytes::copy_of(seed).ok_or(KeyRefused::Malformed)?;
        Ok(Self { seed: Arc::new(seed), pair: Arc::new(pair), public: Ed25519PublicKey(public) })
    }

    /// Returns the public half.
    pub fn public(&self) -> &Ed25519PublicKey {
        &self.public
    }

    /// Signs. For DKIM `bytes` is the SHA-256 of the canonical header (RFC 8463 3).
    pub fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.pair.sign(bytes).as_ref());
        signature
    }

    /// Writes a PKCS#8 PEM text, version 1, as OpenSSL does.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let mut inner = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 2));
        der::write(&mut inner, der::OCTET_STRING, &self.seed);
        let mut info = Zeroizing::new(Vec::with_capacity(64));
        der::write_unsigned(&mut info, &[]);
        let mut algorithm = Vec::new();
        der::write(&mut algorithm, der::OBJECT_IDENTIFIER, ED25519_ALGORITHM);
        der::write(&mut info, der::SEQUENCE, &algorithm);
        der::write(&mut info, der::OCTET_STRING, &inner);
        let mut outer = Zeroizing::new(Vec::with_capacity(64));
        der::write(&mut outer, der::SEQUENCE, &info);
        pem::encode("PRIVATE KEY", &outer)
    }
}

impl fmt::Debug for Ed25519PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed25519PrivateKey")
    }
}

impl Ed25519PublicKey {
    /// Returns the 32 octets that `p=` carries (RFC 8463 4.2).
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Whether a signature is this key's over `bytes`.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, signature).is_ok()
    }
}

/// RFC 8032 5.1.
const KEY_BYTES: usize = 32;

const SIGNATURE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    const PEM: &[u8] = include_bytes!("../../tests/keys/ed25519.pem");

    #[test]
    fn written_keys_are_read_again() {
        let key = Ed25519PrivateKey::generate().expect("is made");
        let read = SigningKey::from_pem(key.to_pkcs8_pem().as_bytes()).expect("is good");
        let SigningKey::Ed25519(read) = read else { panic!("{read:?}") };
        assert_eq!(read.public(), key.public());
        let signature = read.sign(b"hello");
        assert!(key.public().verifies(b"hello", &signature));
        assert!(!key.public().verifies(b"hallo", &signature));
        assert_eq!(format!("{key:?}"), "Ed25519PrivateKey");
    }

    #[test]
    fn openssl_keys_come_out_as_they_went_in() {
        let SigningKey::Ed25519(key) = SigningKey::from_pem(PEM).expect("is good") else {
            panic!("another kind");
        };
        assert_eq!(key.to_pkcs8_pem().as_bytes(), PEM);
    }

    #[test]
    fn version_two_must_name_its_own_public_key() {
        let ours = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let mut bytes = ours.expect("is made").as_ref().to_vec();
        assert!(Ed25519PrivateKey::from_pkcs8_der(&bytes).is_ok());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let refused = Ed25519PrivateKey::from_pkcs8_der(&bytes).map(|_| ());
        assert_eq!(refused, Err(KeyRefused::Inconsistent));
        for length in 0..last {
            assert!(Ed25519PrivateKey::from_pkcs8_der(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn seeds_have_32_octets() {
        for length in [0, 31, 33] {
            let refused = Ed25519PrivateKey::from_seed(&vec![1; length]).map(|_| ());
            assert_eq!(refused, Err(KeyRefused::Malformed));
        }
    }
}
