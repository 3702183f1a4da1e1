//! The `fips` backend: aws-lc's FIPS module, one message at a time. Built with the feature `fips`
//! only, and then the only backend that [`open`](super::open) gives.
//!
//! The signature, its padding and, for [`Input::Canonical`], its hash are computed by the module,
//! which tests itself when it is loaded, blinds, and checks each result with the public exponent.
//! A digest that is handed in was made elsewhere.

use std::collections::{BTreeMap, VecDeque};

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;

use super::guard::self_test;
use super::{
    Backend, BackendRefused, BatchSigner, Input, Job, KeyId, SignFault, Signature, Signed, Stats,
    Ticket,
};
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
    let mut signer = FipsSigner::default();
    if self_test(&mut signer) {
        Ok(Box::new(signer))
    } else {
        Err(BackendRefused::SelfTest(Backend::Fips))
    }
}

/// Signs with the module.
#[derive(Default)]
struct FipsSigner {
    keys: BTreeMap<KeyId, KeyPair>,
    /// The pass under way: what is left of it.
    begun: VecDeque<Begun>,
    stats: Stats,
}

/// A job of a pass under way, with what it signs.
struct Begun {
    ticket: Ticket,
    key: KeyId,
    input: Owned,
}

enum Owned {
    Canonical(Box<[u8]>),
    Digest([u8; 32]),
}

impl Owned {
    fn borrow(&self) -> Input<'_> {
        match self {
            Self::Canonical(bytes) => Input::Canonical(bytes),
            Self::Digest(digest) => Input::Digest(*digest),
        }
    }
}

impl FipsSigner {
    fn sign_one(&mut self, key: KeyId, input: Input<'_>) -> Result<Signature, SignFault> {
        let key = self.keys.get(&key).ok_or(SignFault::UnknownKey)?;
        let mut signature = vec![0; key.public_modulus_len()].into_boxed_slice();
        self.stats.passes += 1;
        match sign(key, input, &mut signature) {
            Ok(()) => {
                self.stats.signed += 1;
                Ok(Signature::new(signature))
            }
            Err(Unspecified) => {
                self.stats.faults += 1;
                Err(SignFault::Check)
            }
        }
    }
}

fn sign(key: &KeyPair, input: Input<'_>, signature: &mut [u8]) -> Result<(), Unspecified> {
    match input {
        // PKCS#1 v1.5 signatures read nothing from the source of randomness asked for here.
        Input::Canonical(bytes) => {
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, signature)
        }
        Input::Digest(digest) => {
            let digest = Digest::import_less_safe(&digest, &SHA256)?;
            key.sign_digest(&RSA_PKCS1_SHA256, &digest, signature)
        }
    }
}

impl BatchSigner for FipsSigner {
    fn name(&self) -> &'static str {
        "fips"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn takes_digests(&self) -> bool {
        true
    }

    fn load(&mut self, id: KeyId, key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        self.keys.insert(id, key.to_fips()?);
        Ok(())
    }

    fn unload(&mut self, id: KeyId) {
        self.keys.remove(&id);
    }

    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>) {
        done.reserve(jobs.len());
        for job in jobs {
            let result = self.sign_one(job.key, job.input);
            done.push(Signed { ticket: job.ticket, result });
        }
    }

    fn begin(&mut self, jobs: &[Job<'_>]) {
        self.begun.extend(jobs.iter().map(|job| {
            let input = match job.input {
                Input::Canonical(bytes) => Owned::Canonical(bytes.into()),
                Input::Digest(digest) => Owned::Digest(digest),
            };
            Begun { ticket: job.ticket, key: job.key, input }
        }));
    }

    fn step(&mut self, done: &mut Vec<Signed>) -> bool {
        if let Some(Begun { ticket, key, input }) = self.begun.pop_front() {
            let result = self.sign_one(key, input.borrow());
            done.push(Signed { ticket, result });
        }
        self.begun.is_empty()
    }

    fn has_short_slices(&self) -> bool {
        false
    }

    fn stats(&self) -> Stats {
        self.stats
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
