//! The `ring` backend: scalar code with BMI2 and ADX where the CPU has them, one message at a time.
//!
//! About 0.56 ms a signature with 2048 bits at 3.6 GHz. `ring` is constant time in the key, checks
//! each result with the public exponent, does not blind, and does not take digests.

use ::ring::error::Unspecified;
use ::ring::rand::SystemRandom;
use ::ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

use super::one_by_one::{Library, OneByOne};
use super::{Input, SignFault};
use crate::key::{KeyRefused, RsaPrivateKey};

/// Signs with `ring`.
pub type RingSigner = OneByOne<Ring>;

/// The library.
pub struct Ring {
    /// Asked for by `ring`'s interface; PKCS#1 v1.5 signatures read nothing from it.
    random: SystemRandom,
}

impl Default for Ring {
    fn default() -> Self {
        Self { random: SystemRandom::new() }
    }
}

impl Library for Ring {
    const NAME: &'static str = "ring";
    const TAKES_DIGESTS: bool = false;
    type Key = RsaKeyPair;

    fn prepare(key: &RsaPrivateKey) -> Result<RsaKeyPair, KeyRefused> {
        key.to_ring()
    }

    fn modulus_bytes(key: &RsaKeyPair) -> usize {
        key.public().modulus_len()
    }

    fn sign(
        &self,
        key: &RsaKeyPair,
        input: Input<'_>,
        signature: &mut [u8],
    ) -> Result<(), SignFault> {
        let Input::Canonical(bytes) = input else { return Err(SignFault::DigestNotTaken) };
        key.sign(&RSA_PKCS1_SHA256, &self.random, bytes, signature)
            .map_err(|Unspecified| SignFault::Check)
    }
}
