//! The `fips` backend: aws-lc's FIPS module, one message at a time. Built with the feature `fips`
//! only, and then the only backend that [`open`](super::open) gives.
//!
//! The signature, its padding and, for [`Input::Canonical`], its hash are computed by the module,
//! which tests itself when it is loaded, blinds, and checks each result with the public exponent.
//! A digest that is handed in was made elsewhere.

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;

use super::guard::self_test;
use super::one_by_one::{Library, OneByOne};
use super::{Backend, BackendRefused, BatchSigner, Input, SignFault};
use crate::key::{KeyRefused, RsaPrivateKey};

/// Makes the signer of a FIPS build, after a self-test with known answers.
///
/// # Errors
///
/// [`BackendRefused::FipsOnly`] for any other backend; [`BackendRefused::FipsMode`] where the
/// module is not in FIPS mode; [`BackendRefused::SelfTest`].
pub(super) fn open(backend: Backend) -> Result<Box<dyn BatchSigner>, BackendRefused> {
    if !matches!(backend, Backend::Auto | Backend::Fips) {
        return Err(BackendRefused::FipsOnly(backend));
    }
    aws_lc_rs::try_fips_mode().map_err(|_| BackendRefused::FipsMode)?;
    let mut signer = OneByOne::<Module>::new();
    if self_test(&mut signer) {
        Ok(Box::new(signer))
    } else {
        Err(BackendRefused::SelfTest(Backend::Fips))
    }
}

/// The module.
#[derive(Default)]
struct Module {
    /// Asked for by the module's interface; PKCS#1 v1.5 signatures read nothing from it.
    random: SystemRandom,
}

impl Library for Module {
    const NAME: &'static str = "fips";
    const TAKES_DIGESTS: bool = true;
    type Key = KeyPair;

    fn prepare(key: &RsaPrivateKey) -> Result<KeyPair, KeyRefused> {
        key.to_fips()
    }

    fn modulus_bytes(key: &KeyPair) -> usize {
        key.public_modulus_len()
    }

    fn sign(&self, key: &KeyPair, input: Input<'_>, signature: &mut [u8]) -> Result<(), SignFault> {
        let signed = match input {
            Input::Canonical(bytes) => key.sign(&RSA_PKCS1_SHA256, &self.random, bytes, signature),
            Input::Digest(digest) => Digest::import_less_safe(&digest, &SHA256)
                .and_then(|digest| key.sign_digest(&RSA_PKCS1_SHA256, &digest, signature)),
        };
        signed.map_err(|Unspecified| SignFault::Check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_in_fips_mode_and_is_the_only_backend() {
        assert_eq!(aws_lc_rs::try_fips_mode(), Ok(()));
        for backend in Backend::ALL {
            match super::super::open(&super::super::SignerOptions { backend, blinding: true }) {
                Ok(signer) => {
                    assert!(matches!(backend, Backend::Auto | Backend::Fips), "{backend:?}");
                    assert_eq!(signer.name(), "fips");
                }
                Err(refused) => {
                    assert_eq!(refused, BackendRefused::FipsOnly(backend));
                    assert!(refused.to_string().contains("FIPS"), "{refused}");
                }
            }
        }
    }
}
