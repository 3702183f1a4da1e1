//! Four RSA-2048 signatures in one pass: eight lanes that each raise one number to one power.
//!
//! # The mathematics
//!
//! A signature is `s = m^d mod n` with `n = p q`. By the Chinese remainder theorem it is made of
//! two halves with numbers half as long, `m^dp mod p` and `m^dq mod q`, which are joined again by
//! Garner's formula `s = sq + q ((sp - sq) q^-1 mod p)`. One half is one **lane**: a modulus, an
//! exponent, a base. A message takes two lanes, its **slot**; [`LANES`] lanes are [`SLOTS`]
//! messages, and each may have another key, since nothing is shared between lanes.
//!
//! A lane's number is [`LIMBS`] digits of 52 bits, and digit `i` of all lanes lies in one 512-bit
//! vector ([`Wide`]): the shape that the instructions `vpmadd52luq` and `vpmadd52huq` of AVX-512
//! IFMA multiply, the low and the high half of eight 52 x 52 bit products at a time. The digits are
//! kept *loose*: carries may stand above bit 52, where the multiplier does not look.
//!
//! Products are reduced after Montgomery, with `R = 2^1040 = 2^(52 * 20)`: a multiple of the
//! modulus is added that makes the lowest digits zero, and these are dropped. With `p < 2^1024`
//! there are 16 bits to spare, so that operands below `4p` give results below `p (1 + 2^-12)` and
//! no comparison with the modulus is ever needed on the way ("almost" reduced).
//!
//! The power is taken with windows of four bits from the top: 255 times four squarings and one
//! multiplication by one of sixteen table entries. Each entry `B` is kept with `B' = B / 2^520`, so
//! that with `A = A1 2^520 + A0` the product is `A B / R = (A0 B' + A1 B) / 2^520`: half of the
//! reduction falls away. The entry is read by blending all sixteen, in the shadow of the squarings.
//!
//! # Safety of the keys
//!
//! - No branch and no address depends on a secret: every exponent has 256 windows, every table read
//!   touches the whole table, the joining of the halves selects by masks.
//! - **Blinding**: the base is multiplied by `r^e` before the power and the result by `r^-1` after
//!   it, in each lane with an `r` of its own ([`key`]).
//! - **Faults**: one wrong half would give the key away (`gcd(s^e - m, n)` is a prime). So each
//!   result is raised to `e` again, in the lanes, and compared with the message there; a result that
//!   does not fit is discarded with [`SignFault::Check`](super::SignFault::Check).
//! - Keys and working memory lie in pages that are neither swapped nor dumped, and that are wiped.
//!
//! What does the arithmetic is a [`Kernel`]: [`ifma::Ifma`] with the instructions named above, and
//! [`portable::Portable`], which models the same lanes in plain Rust. [`signer`] drives either.

mod arena;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "AVX-512 instructions")]
mod ifma;
mod key;
mod portable;
mod scalar;
mod signer;

#[cfg(test)]
mod tests;

use self::signer::LanesSigner;
use super::BatchSigner;

/// Makes a signer for four messages at a time with AVX-512 IFMA, without keys; `None` where the
/// CPU lacks the instructions.
pub fn ifma(blinding: bool) -> Option<Box<dyn BatchSigner>> {
    #[cfg(target_arch = "x86_64")]
    return ifma::Ifma::new().map(|kernel| Box::new(LanesSigner::new(kernel, blinding)) as _);
    #[cfg(not(target_arch = "x86_64"))]
    return None;
}

/// Makes a signer for four messages at a time in plain Rust, without keys: a model for tests, which
/// takes some 30 ms a pass.
pub fn portable(blinding: bool) -> Box<dyn BatchSigner> {
    Box::new(LanesSigner::new(portable::Portable, blinding))
}

/// Digits of a number.
const LIMBS: usize = 20;

/// Numbers side by side.
const LANES: usize = 8;

/// Messages of a pass: each takes two lanes.
const SLOTS: usize = LANES / 2;

/// Low 52 bits.
const DIGIT: u64 = (1 << 52) - 1;

/// Entries of a window's table.
const ENTRIES: usize = 1 << WINDOW_BITS;

/// Bits of the exponent that one table read serves. Five would save a twentieth of the
/// multiplications and double a table that already fills more than the first cache.
const WINDOW_BITS: usize = 4;

/// Windows of an exponent.
const WINDOWS: usize = 1024 / WINDOW_BITS;

/// Eight numbers: digit `i` of number `lane` is `.0[i][lane]`, little end first.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Wide([[u64; LANES]; LIMBS]);

impl Wide {
    const ZERO: Self = Self([[0; LANES]; LIMBS]);

    /// One in every lane.
    const ONE: Self = {
        let mut one = Self::ZERO;
        one.0[0] = [1; LANES];
        one
    };

    fn set_lane(&mut self, lane: usize, digits: &[u64; LIMBS]) {
        self.0.iter_mut().zip(digits).for_each(|(row, digit)| row[lane] = *digit);
    }

    fn lane(&self, lane: usize) -> [u64; LIMBS] {
        self.0.map(|row| row[lane])
    }
}

/// What every lane's products are reduced by.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Moduli {
    modulus: Wide,
    /// `-modulus^-1 mod 2^52`.
    inverse: [u64; LANES],
}

/// The powers of the base that a window may ask for: `[digit][entry][lane]`, first the digits of
/// `B`, then those of `B / 2^520`. One digit of all entries is 1 KiB in a row.
#[repr(C, align(64))]
struct Table([[[u64; LANES]; ENTRIES]; 2 * LIMBS]);

impl Table {
    fn set(&mut self, entry: usize, power: &Factor) {
        for index in 0..LIMBS {
            self.0[index][entry] = power.whole.0[index];
            self.0[LIMBS + index][entry] = power.halved.0[index];
        }
    }
}

/// A number to multiply by at half the reduction: `B`, and `B / 2^520` modulo the modulus.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Factor {
    whole: Wide,
    halved: Wide,
}

/// Which entry each lane asks for: bits `shift` to `shift + 3` of its word.
#[derive(Clone, Copy)]
struct Window<'a> {
    words: &'a [u64; LANES],
    shift: usize,
}

/// The arithmetic of eight lanes. All operands are below four times the modulus, with loose digits.
///
/// A kernel never reads memory at, nor branches on, anything that depends on an operand.
trait Kernel: Send {
    /// For the log.
    fn name(&self) -> &'static str;

    /// `value = value b / R`, below `modulus (1 + 2^-12)`.
    fn multiply(&self, value: &mut Wide, b: &Wide, by: &Moduli);

    /// `value = value value / R`.
    fn square(&self, value: &mut Wide, by: &Moduli);

    /// `read` becomes the entry of the table that the window names in each lane.
    fn read(&self, read: &mut Factor, table: &Table, window: Window<'_>);

    /// Four [`Kernel::square`], with a [`Kernel::read`] in the meantime.
    fn square_four_times(
        &self,
        value: &mut Wide,
        by: &Moduli,
        table: &Table,
        window: Window<'_>,
        read: &mut Factor,
    );

    /// `value = value b.whole / R`, below 2.1 times the modulus.
    fn multiply_by(&self, value: &mut Wide, b: &Factor, by: &Moduli);

    /// `b.halved = b.whole / 2^520`.
    fn halve(&self, b: &mut Factor, by: &Moduli);

    /// `value = value + b`, not reduced.
    fn add(&self, value: &mut Wide, b: &Wide);

    /// Overwrites the vector registers and the stack that may hold digits of secrets.
    fn wipe_traces(&self);
}
