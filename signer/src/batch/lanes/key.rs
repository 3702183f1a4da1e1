//! A key made ready for the lanes: its constants, and the numbers that blind what it signs.
//!
//! Blinding: before the power the base is multiplied by `r^e`, after it the result by `r^-1`, so
//! that the power is taken of a number that nobody outside knows. In a lane only `r` modulo its
//! prime is needed, and the two primes may have independent ones: by the Chinese remainder theorem
//! they are one `r` modulo `n`. Each slot has pairs of its own, so that four messages of one key
//! can be in one pass. A pair is squared after each use and made anew, from fresh randomness, after
//! [`USES_MAX`]. Making one takes a single power, `r^(p - 1 - e) = r^-e`, whose partner is `r`
//! itself: one pass makes the pairs of all slots of a key.

use super::scalar::{
    Full, HALF_WORDS, Half, from_be_bytes, montgomery, multiply, negative_inverse, power_of_two,
    subtract, to_digits,
};
use super::{DIGIT, LIMBS, SLOTS};
use crate::key::{KeyRefused, RsaPrivateKey};
use crate::memory::Plain;

/// The constants of a key.
#[repr(C)]
pub(super) struct Prepared {
    pub(super) modulus: Full,
    pub(super) halves: [PreparedHalf; 2],
    /// `q^-1 mod p` in Montgomery form by `2^1024`.
    pub(super) inverse_of_q: Half,
    /// How often the blinding pairs may still be used.
    pub(super) uses: u64,
}

/// The constants of one prime: `p` with `dP`, or `q` with `dQ`.
#[repr(C)]
pub(super) struct PreparedHalf {
    pub(super) prime: Half,
    pub(super) exponent: Half,
    /// `-prime^-1 mod 2^64`.
    pub(super) inverse: u64,
    pub(super) digits: [u64; LIMBS],
    /// `R mod prime`: one in Montgomery form.
    pub(super) one: [u64; LIMBS],
    /// `R^2 mod prime`.
    pub(super) to_montgomery: [u64; LIMBS],
    /// `R^3 mod prime`, for what stands above bit 1040.
    pub(super) to_montgomery_high: [u64; LIMBS],
    pub(super) blinding: [Blinding; SLOTS],
}

/// `before = after^-e`, in Montgomery form, loose.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Blinding {
    pub(super) before: [u64; LIMBS],
    pub(super) after: [u64; LIMBS],
}

// SAFETY: plain integers throughout.
#[allow(unsafe_code, reason = "a promise about its fields")]
unsafe impl Plain for Prepared {}

impl Prepared {
    /// Fills a zeroed value.
    ///
    /// # Errors
    ///
    /// [`KeyRefused::Unsupported`] for keys of another shape than the lanes have: two primes of
    /// 1024 bits and exponent 65537.
    pub(super) fn fill(&mut self, key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        if !is_supported(key) {
            return Err(KeyRefused::Unsupported);
        }
        let numbers = key.numbers()?;
        self.modulus = from_be_bytes(key.public().modulus()).ok_or(KeyRefused::Unsupported)?;
        self.halves[0].fill(numbers.p, numbers.d_p)?;
        self.halves[1].fill(numbers.q, numbers.d_q)?;
        let p = &self.halves[0];
        let inverse_of_q = from_be_bytes(numbers.q_inverse).ok_or(KeyRefused::Inconsistent)?;
        let shift = power_of_two(2 * 1024, &p.prime);
        self.inverse_of_q = montgomery(&inverse_of_q, &shift, &p.prime, p.inverse);
        if self.is_whole() { Ok(()) } else { Err(KeyRefused::Inconsistent) }
    }

    /// Makes every blinding factor one, for ever.
    pub(super) fn do_not_blind(&mut self) {
        for half in &mut self.halves {
            half.blinding = [Blinding { before: half.one, after: half.one }; SLOTS];
        }
        self.uses = u64::MAX;
    }

    /// Whether the modulus is still the product of the primes: memory that lost a bit is found here
    /// before it becomes a signature.
    pub(super) fn is_whole(&self) -> bool {
        let product = multiply(&self.halves[0].prime, &self.halves[1].prime);
        product.iter().zip(&self.modulus).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl PreparedHalf {
    fn fill(&mut self, prime: &[u8], exponent: &[u8]) -> Result<(), KeyRefused> {
        self.prime = from_be_bytes(prime).ok_or(KeyRefused::Inconsistent)?;
        self.exponent = from_be_bytes(exponent).ok_or(KeyRefused::Inconsistent)?;
        // Odd, and of full length: what Montgomery's reduction and the bounds rest on.
        if self.prime[0] & 1 == 0 || self.prime[HALF_WORDS - 1] >> 63 == 0 {
            return Err(KeyRefused::Unsupported);
        }
        self.inverse = negative_inverse(self.prime[0]);
        self.digits = to_digits(&self.prime);
        self.one = to_digits(&power_of_two(R_BITS, &self.prime));
        self.to_montgomery = to_digits(&power_of_two(2 * R_BITS, &self.prime));
        self.to_montgomery_high = to_digits(&power_of_two(3 * R_BITS, &self.prime));
        Ok(())
    }

    /// `-prime^-1 mod 2^52`.
    pub(super) fn inverse_digit(&self) -> u64 {
        self.inverse & DIGIT
    }

    /// `prime - 1 - 65537`: raises `r` to `r^-65537`.
    pub(super) fn seeding_exponent(&self) -> Half {
        let mut subtrahend = [0; HALF_WORDS];
        subtrahend[0] = 1 + 65_537;
        let mut exponent = self.prime;
        // A prime of 1024 bits is larger.
        subtract(&mut exponent, &subtrahend, u64::MAX);
        exponent
    }
}

/// Whether the lanes have room for such a key; its primes are looked at when it is filled in.
fn is_supported(key: &RsaPrivateKey) -> bool {
    key.public().bits() == 2048 && key.public().exponent() == [1, 0, 1]
}

/// Bits of `R`.
const R_BITS: usize = 52 * LIMBS;

/// How often a blinding pair is squared before it is made anew.
pub(super) const USES_MAX: u64 = 1024;
