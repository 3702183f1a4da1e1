//! Making RSA keys. The only use of the `rsa` crate, and the only place where randomness of the
//! operating system may be read.
//!
//! The `rsa` crate is not constant time (RUSTSEC-2023-0071): a key made by it is handed over as
//! DER at once and never used by it. A 2048-bit key takes 30 ms of CPU time on average, with a long
//! tail, and seconds without optimisation: work for a control thread.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::rand_core::{TryCryptoRng, TryRng};

use super::{MODULUS_BITS_MAX, MODULUS_BITS_MIN, RsaPrivateKey};

/// The operating system's random number generator (getrandom), for making keys.
pub struct OsRandom(SystemRandom);

impl OsRandom {
    /// Opens it; nothing is read yet.
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for OsRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl TryRng for OsRandom {
    type Error = RandomnessFailed;

    fn try_next_u32(&mut self) -> Result<u32, RandomnessFailed> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, RandomnessFailed> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), RandomnessFailed> {
        self.0.fill(out).map_err(|ring::error::Unspecified| RandomnessFailed)
    }
}

impl TryCryptoRng for OsRandom {}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomnessFailed;

impl fmt::Display for RandomnessFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no randomness")
    }
}

impl std::error::Error for RandomnessFailed {}

/// Why no key was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GenerateFailed {
    /// Not 2048, 2560, 3072, 3584 or 4096 bits.
    Length {
        /// What was asked for.
        bits: usize,
    },
    /// The generator of primes or of randomness gave up.
    Generator(String),
}

impl fmt::Display for GenerateFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bits } => write!(
                f,
                "RSA keys have {MODULUS_BITS_MIN} to {MODULUS_BITS_MAX} bits in steps of 512, not {bits}"
            ),
            Self::Generator(reason) => write!(f, "no RSA key could be made: {reason}"),
        }
    }
}

impl std::error::Error for GenerateFailed {}

impl RsaPrivateKey {
    /// Makes a new key with exponent 65537. `random` is [`super::OsRandom`] except in tests.
    ///
    /// # Errors
    ///
    /// [`GenerateFailed`], where the length is not one that can be signed with, or `random` fails.
    pub fn generate<R>(bits: usize, random: &mut R) -> Result<Self, GenerateFailed>
    where
        R: TryCryptoRng,
    {
        if !(MODULUS_BITS_MIN..=MODULUS_BITS_MAX).contains(&bits) || !bits.is_multiple_of(512) {
            return Err(GenerateFailed::Length { bits });
        }
        let made = rsa::PrivateKey::new(random, bits).map_err(generator)?;
        let der = made.to_pkcs1_der().map_err(generator)?;
        Self::from_pkcs1_der(der.as_bytes()).map_err(generator)
    }
}

fn generator(reason: impl fmt::Display) -> GenerateFailed {
    GenerateFailed::Generator(reason.to_string())
}
